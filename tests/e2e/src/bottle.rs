//! Running the launcher as a user would, and asserting that nothing of its bottle remains.
//!
//! A [`Launcher`] is one command line to come; [`Launcher::run`] waits for its end,
//! [`Launcher::spawn`] lets it run beside the test. Every wait has a deadline. A [`Running`] that is
//! dropped, by a failed test say, is told to tear its bottle down.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claude_bottle::engine::{ContainerId, Engine, EngineError, ExecSpec, Output};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Environment;
use crate::scene::{SceneError, labelled};

/// How long one command of the launcher may take: two launches share two cores.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a launcher that is dropped may take to tear down.
const TEARDOWN: Duration = Duration::from_secs(20);

/// How long the engine may still be removing what it was told to remove.
const SETTLED: Duration = Duration::from_secs(5);

/// One command line of the launcher.
#[derive(Debug)]
pub struct Launcher {
    command: Command,
    stdin: Option<Vec<u8>>,
}

/// What a launcher that has ended left.
#[derive(Debug)]
pub struct Ran {
    /// How it ended: an exit code or a signal.
    pub status: ExitStatus,
    /// Its stdout: with a CMD, the CMD's.
    pub stdout: String,
    /// Its stderr: the plan, the question, the errors, and the CMD's.
    pub stderr: String,
}

/// A launcher that is running.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its stdin, until it is closed by being taken.
    pub stdin: Option<ChildStdin>,
    stdout: Said,
    stderr: Said,
}

/// What an exec in a container left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Its exit code.
    pub code: i64,
    /// Its stdout and stderr, as they came.
    pub said: String,
}

/// A container's name that no other test has, and its instance: the name without `claude-bottle-`.
pub fn names(what: &str) -> (String, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let instance = format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    (format!("claude-bottle-{instance}"), instance)
}

impl Launcher {
    /// A command line that begins with the launcher's name, without any `CLAUDE_BOTTLE_*` variable.
    pub fn new(environment: &Environment) -> Self {
        let mut command = Command::new(&environment.bin);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CLAUDE_BOTTLE_")) {
                command.env_remove(name);
            }
        }
        // The states of bottles are kept as records: not among the user's own.
        command.env("XDG_STATE_HOME", environment.bin.with_file_name("states"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, stdin: None }
    }

    /// `--manifest MANIFEST --yes start AGENT -- bash -c SCRIPT`, in a container of that name.
    pub fn start(
        environment: &Environment,
        manifest: &Path,
        agent: &str,
        container: &str,
        script: &str,
    ) -> Self {
        Self::new(environment)
            .env("CLAUDE_BOTTLE_CONTAINER", container)
            .args([OsStr::new("--manifest"), manifest.as_os_str()])
            .args(["--yes", "start", agent, "--", "bash", "-c", script])
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Says `stdin` to it and then EOF, in place of EOF at once.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Gives it a terminal of its own, by script(1): stdout and stderr come as one, as stdout.
    #[must_use]
    pub fn on_terminal(self) -> Self {
        let plain = self.command.as_std();
        let words: Vec<String> = std::iter::once(plain.get_program())
            .chain(plain.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")))
            .collect();
        let mut command = Command::new("script");
        command.args(["-qec", &words.join(" "), "/dev/null"]);
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, stdin: self.stdin }
    }

    /// The command itself, for a caller with deadlines and signals of its own. Its stdout and stderr are
    /// pipes; what was said to [`Launcher::stdin`] is not part of it.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// It could not be started, or took too long; it was then told to tear down.
    pub async fn run(mut self) -> Ran {
        let stdin = self.stdin.take().unwrap_or_default();
        let mut running = self.spawn();
        if let Some(mut to) = running.stdin.take() {
            // One that ends without reading is no failure of the test.
            let _ = to.write_all(&stdin).await;
        }
        running.end().await
    }

    /// Starts it, with its stdin open.
    ///
    /// # Panics
    ///
    /// It could not be started.
    pub fn spawn(mut self) -> Running {
        self.command.stdin(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("no launcher: {error}"));
        let stdin = child.stdin.take();
        let stdout = Said::gather(child.stdout.take().expect("stdout is piped"));
        let stderr = Said::gather(child.stderr.take().expect("stderr is piped"));
        Running { child, stdin, stdout, stderr }
    }
}

impl Running {
    /// The launcher's process.
    ///
    /// # Panics
    ///
    /// It has ended, and was waited for.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the launcher is running")
    }

    /// Sends it a signal: `TERM`, `INT`, `KILL`.
    ///
    /// # Panics
    ///
    /// There is no `kill`, or no such process.
    pub fn signal(&self, signal: &str) {
        assert!(kill(signal, self.pid()), "kill -{signal} {}", self.pid());
    }

    /// Waits until its stdout holds a text.
    ///
    /// # Panics
    ///
    /// It ended without, or took too long.
    pub async fn says(&self, text: &str) {
        let heard = timeout(DEADLINE, self.stdout.until(text)).await;
        assert_eq!(heard, Ok(true), "no {text:?} in {:?}; {:?}", self.stdout.text(), self.stderr.text());
    }

    /// Waits until its stderr holds a text.
    ///
    /// # Panics
    ///
    /// It ended without, or took too long.
    pub async fn complains(&self, text: &str) {
        let heard = timeout(DEADLINE, self.stderr.until(text)).await;
        assert_eq!(heard, Ok(true), "no {text:?} in {:?}; {:?}", self.stderr.text(), self.stdout.text());
    }

    /// Closes its stdin, and waits for its end.
    ///
    /// # Panics
    ///
    /// It took too long; it was then told to tear down.
    pub async fn end(mut self) -> Ran {
        drop(self.stdin.take());
        let Ok(status) = timeout(DEADLINE, self.child.wait()).await else {
            panic!("the launcher did not end; it said {:?}; {:?}", self.stdout.text(), self.stderr.text());
        };
        let status = status.unwrap_or_else(|error| panic!("the launcher cannot be waited for: {error}"));
        // A program that the CMD left behind could still hold the pipes.
        let _ = timeout(SETTLED, async { tokio::join!(self.stdout.whole(), self.stderr.whole()) }).await;
        Ran { status, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(pid) = self.child.id() else { return };
        kill("TERM", pid);
        let begin = std::time::Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < TEARDOWN {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Ran {
    /// Its exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Itself, when its exit code is the expected one.
    ///
    /// # Panics
    ///
    /// It is another.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs `bash -c SCRIPT` in a running container, as a user (`0:0`, `node`), with `stdin`, to its end.
///
/// # Errors
///
/// The engine refused, or the script took too long.
pub async fn exec<E: Engine>(
    engine: &E,
    container: &str,
    user: &str,
    script: &str,
    stdin: &[u8],
) -> Result<Done, EngineError> {
    let spec = ExecSpec {
        command: ["bash", "-c", script].map(String::from).to_vec(),
        user: Some(user.to_owned()),
        stdin: true,
        output: true,
        ..ExecSpec::default()
    };
    let whole = async {
        let exec = engine.exec(&ContainerId(container.to_owned()), &spec).await?;
        let mut said = Vec::new();
        if let Some(mut streams) = exec.streams {
            // One that ends without reading is no failure.
            let _ = streams.input.write_all(stdin).await;
            let _ = streams.input.shutdown().await;
            while let Some(piece) = streams.output.next().await {
                let (Output::Stdout(piece) | Output::Stderr(piece)) = piece?;
                said.extend_from_slice(&piece);
            }
        }
        let code = engine.exec_exit_code(&exec.id).await?;
        Ok(Done { code, said: String::from_utf8_lossy(&said).into_owned() })
    };
    timeout(DEADLINE, whole).await.unwrap_or_else(|_| {
        Err(EngineError::Timeout { act: "run a script".to_owned(), seconds: DEADLINE.as_secs() })
    })
}

/// The leak assertion: no container or network of this bottle is left, by label or by name.
///
/// # Errors
///
/// The engine refused.
///
/// # Panics
///
/// Something is left.
pub async fn nothing_left<E: Engine>(engine: &E, instance: &str) -> Result<(), SceneError> {
    let mut left = labelled(engine, &format!("claude-bottle.instance={instance}")).await?;
    let act = |act: &str| {
        let act = act.to_owned();
        move |source| SceneError::Engine { act, source }
    };
    let suffix = format!("-{instance}");
    let containers = engine.containers(None).await.map_err(act("list containers"))?;
    let networks = engine.networks(None).await.map_err(act("list networks"))?;
    let names = containers.into_iter().map(|one| one.name).chain(networks.into_iter().map(|one| one.name));
    left.extend(names.filter(|name| name.starts_with("claude-bottle-") && name.ends_with(&suffix)));
    assert_eq!(left, Vec::<String>::new(), "left of the bottle {instance}");
    Ok(())
}

/// The shell's own `kill`, which every machine has.
fn kill(signal: &str, pid: u32) -> bool {
    std::process::Command::new("sh")
        .args(["-c", &format!("kill -{signal} {pid}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// What a stream has said so far, and whether it has ended.
#[derive(Debug)]
struct Said(Arc<watch::Sender<(Vec<u8>, bool)>>);

impl Said {
    fn gather(mut from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let said = Arc::new(watch::Sender::new((Vec::new(), false)));
        let gathered = Arc::clone(&said);
        tokio::spawn(async move {
            let mut piece = vec![0; 16 * 1024];
            while let Ok(read @ 1..) = from.read(&mut piece).await {
                gathered.send_modify(|(said, _)| said.extend_from_slice(&piece[..read]));
            }
            gathered.send_modify(|(_, ended)| *ended = true);
        });
        Self(said)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.borrow().0).into_owned()
    }

    /// Waits for a text; false when the stream ended without.
    async fn until(&self, text: &str) -> bool {
        let has = |said: &[u8]| said.windows(text.len()).any(|window| window == text.as_bytes());
        let mut heard = self.0.subscribe();
        let found = heard.wait_for(|(said, ended)| *ended || has(said)).await;
        found.is_ok_and(|found| has(&found.0))
    }

    async fn whole(&self) {
        let _ = self.0.subscribe().wait_for(|(_, ended)| *ended).await;
    }
}
