//! Programs as users have them: curl, git, Python with the packages of `clients/requirements.txt`.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::assert_no_token;

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub out: Vec<u8>,
    pub err: String,
}

/// A program that is running.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    said: Vec<u8>,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// It ended well; if not, what it said is the message.
    #[track_caller]
    pub fn well(self) -> Self {
        assert!(self.status.success(), "{}: {} {}", self.status, self.text(), self.err);
        self
    }
}

impl Running {
    /// Starts; what it says may be read while it runs.
    pub fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, said: Vec::new() }
    }

    /// The next line that it says, without its end.
    pub async fn line(&mut self) -> String {
        let mut line = Vec::new();
        let read = timeout(LONGEST, self.out.read_until(b'\n', &mut line));
        read.await.expect("the program says a line in time").unwrap();
        if line.is_empty() {
            let mut err = String::new();
            let _ = self.child.stderr.take().unwrap().read_to_string(&mut err).await;
            panic!("the program ended: {err}");
        }
        self.said.extend(&line);
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// So many bytes of what it says.
    pub async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let read = timeout(LONGEST, self.out.read_exact(&mut bytes));
        read.await.expect("the program says that much in time").unwrap();
        self.said.extend(&bytes);
        bytes
    }

    /// Waits for its end. No token may be in what it said.
    pub async fn ended(mut self) -> Ran {
        let (mut rest, mut err) = (Vec::new(), Vec::new());
        let mut stderr = self.child.stderr.take().unwrap();
        let ended = timeout(LONGEST, async {
            let (out, said) = tokio::join!(self.out.read_to_end(&mut rest), stderr.read_to_end(&mut err));
            out.and(said).unwrap();
            self.child.wait().await.unwrap()
        });
        let status = ended.await.expect("the program ends in time");
        self.said.append(&mut rest);
        let ran = Ran { status, out: self.said, err: String::from_utf8_lossy(&err).into_owned() };
        assert_no_token(&ran.text());
        assert_no_token(&ran.err);
        ran
    }
}

/// Runs to its end. No token may be in what it said.
pub async fn ran(command: Command) -> Ran {
    Running::start(command).ended().await
}

/// A program that finds nothing of this machine's but `PATH`.
pub fn program(name: impl AsRef<Path>, home: &Path) -> Command {
    let mut command = Command::new(name.as_ref());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    command.current_dir(home).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// curl that is silent but for errors.
pub fn curl(arguments: &[&str]) -> Command {
    let mut command = program("curl", &std::env::temp_dir());
    command.args(["--disable", "--silent", "--show-error", "--max-time", "60"]).args(arguments);
    command
}

/// A script of `tests/clients`.
pub fn python(script: &str, arguments: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let mut command = python_program(&std::env::temp_dir());
    command.arg("-u").arg(script).args(arguments);
    command
}

/// Python with its packages.
///
/// # Panics
///
/// When the packages are not there, or are not those of `clients/requirements.txt`.
pub fn python_program(home: &Path) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let environment = target.join("python");
    let made_of = std::fs::read_to_string(environment.join("requirements.txt")).unwrap_or_default();
    assert!(
        made_of == include_str!("../clients/requirements.txt"),
        "the Python packages of this test are not in `{}`: run `cargo xtask python`",
        environment.display()
    );
    program(environment.join("bin/python"), home)
}

/// For a program that must end; the slowest moves 100 MB.
const LONGEST: Duration = Duration::from_secs(60);
