//! The launcher at work, with `agent.sh` for an agent.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use claude_bottle::engine::{Engine, EngineError, Output, OutputStream};
use e2e::Scene;
use e2e::scene::TOKEN_ENV;
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::DemoError;
use super::attempts::Attempt;
use super::host;
use crate::engine::Running;
use crate::process::{self, Interrupt, ProcessError};
use crate::story::Story;

/// The subject of the commit that the agent pushes.
pub(super) const COMMIT: &str = "a commit from the bottle";

/// The agent's command: `agent.sh` comes over stdin, and none of it appears in the plan.
const READ_AND_RUN: &str = "eval \"$(cat)\"";

/// What the demo's agent is run with.
#[derive(Debug)]
pub(super) struct Agent<'a> {
    pub(super) launcher: PathBuf,
    pub(super) manifest: PathBuf,
    pub(super) scene: &'a Scene,
    pub(super) host_port: u16,
    pub(super) engine: &'a Running,
}

/// Its result.
#[derive(Debug)]
pub(super) struct Run {
    /// What the agent tried.
    pub(super) attempts: Vec<Attempt>,
    /// The launcher's exit code.
    pub(super) code: i32,
    /// The label of everything that was the bottle's.
    pub(super) label: String,
    /// How many containers the bottle had.
    pub(super) containers: usize,
    /// How many networks the bottle had.
    pub(super) networks: usize,
}

/// A line of the launcher's or the agent's.
enum Line {
    Agent(String),
    Launcher(String),
}

impl Agent<'_> {
    /// Runs the bottle to its end, telling each step as it comes.
    pub(super) async fn run(&self, story: &Story, interrupt: &Interrupt) -> Result<Run, DemoError> {
        if interrupt.came() {
            return Err(ProcessError::Interrupted.into());
        }
        let container = format!("claude-bottle-demo-{}", std::process::id());
        let label = format!("claude-bottle.instance=demo-{}", std::process::id());
        let mut run = Run { attempts: Vec::new(), code: 0, label, containers: 0, networks: 0 };
        let manifest = self.manifest.display();
        story.line(format_args!(
            "  $ claude-bottle --manifest {manifest} --yes start demo -- bash -c '{READ_AND_RUN}' ... <agent.sh"
        ));
        let mut child = process::start_with(&mut self.command(&container), Stdio::piped())?;
        let mut stdin = child.stdin.take().expect("its stdin is piped");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut lines = Box::pin(futures_util::stream::select(
            lines(stdout.expect("its stdout is piped"), Line::Agent),
            lines(stderr.expect("its stderr is piped"), Line::Launcher),
        ));

        let mut launch = Some(story.step());
        let mut told = false;
        let read = async {
            while let Some(line) = lines.next().await {
                let line = line.map_err(DemoError::Read)?;
                let (Line::Agent(text) | Line::Launcher(text)) = &line;
                told |= text.contains(&self.scene.api.token);
                if let Line::Launcher(text) | Line::Agent(text) = &line
                    && !text.starts_with('@')
                {
                    story.quote(text);
                }
                let Line::Agent(text) = line else { continue };
                if let Some(launch) = launch.take() {
                    launch.done("launched and provisioned: the agent runs");
                    run.containers = self.engine.docker.containers(Some(&run.label)).await?.len();
                    run.networks = self.engine.docker.networks(Some(&run.label)).await?.len();
                }
                if let Some(did) = text.strip_prefix("@did\t") {
                    tell(story, did);
                } else if let Some(attempt) = text.strip_prefix("@try\t").and_then(Attempt::parse) {
                    run.attempts.push(attempt);
                }
            }
            Ok::<_, DemoError>(())
        };
        let write = async {
            // A launcher that ends before it reads has said why.
            let _ = stdin.write_all(include_bytes!("agent.sh")).await;
            drop(stdin);
        };
        let ((), read, status) = tokio::join!(write, read, interrupt.wait(&mut child));
        read?;
        if interrupt.came() {
            return Err(ProcessError::Interrupted.into());
        }
        run.code = status.map_err(DemoError::Read)?.code().unwrap_or(-1);
        let said = if told { "the token was printed" } else { "" };
        run.attempts.push(Attempt {
            key: "log".to_owned(),
            succeeded: told,
            millis: 0,
            said: said.to_owned(),
        });
        Ok(run)
    }

    fn command(&self, container: &str) -> Command {
        let mut launcher = Command::new(&self.launcher);
        launcher.arg("--manifest").arg(&self.manifest).args(["--yes", "start", "demo", "--"]);
        launcher.args(["bash", "-c", READ_AND_RUN, "agent"]);
        launcher.arg(self.scene.git_hosts[0].address.to_string());
        launcher.arg(self.scene.api.address.to_string());
        launcher.arg(self.host_port.to_string());
        if self.engine.info.local {
            launcher.args(host::addresses().iter().map(ToString::to_string));
        }
        launcher
            .env(TOKEN_ENV, &self.scene.api.token)
            .env("CLAUDE_BOTTLE_CONTAINER", container)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        launcher
    }
}

/// `TEXT`, a tab, milliseconds.
fn tell(story: &Story, did: &str) {
    let (text, millis) = did.rsplit_once('\t').unwrap_or((did, "0"));
    story.took(
        std::time::Duration::from_millis(millis.parse().unwrap_or(0)),
        format_args!("the agent {text}"),
    );
}

fn lines(
    from: impl AsyncRead + Unpin,
    line: fn(String) -> Line,
) -> impl futures_util::Stream<Item = io::Result<Line>> {
    let reader = BufReader::new(from);
    futures_util::stream::try_unfold(reader, move |mut reader| async move {
        let mut bytes = Vec::new();
        if reader.read_until(b'\n', &mut bytes).await? == 0 {
            return Ok(None);
        }
        Ok(Some((line(printable(&bytes)), reader)))
    })
}

/// A line as it may be printed: an agent's bytes must not command the terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches(['\n', '\r'])
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
        .collect()
}

/// All that an exec writes.
pub(super) async fn text(mut output: OutputStream) -> Result<String, EngineError> {
    let mut all = Vec::new();
    while let Some(piece) = output.next().await {
        let (Output::Stdout(piece) | Output::Stderr(piece)) = piece?;
        all.extend_from_slice(&piece);
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}
