//! One sidecar: created on both networks, started, given everything over stdin, and trusted only once
//! it reports that it listens on the planned addresses.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use sidecar::exit::chain;
use sidecar::ready::Ready;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

use super::steps::step;
use super::{Launch, LaunchError};
use crate::engine::{ContainerId, Engine, EngineError, Input, NetworkId, Output, OutputStream, Streams};
use crate::plan::{SidecarPlan, Site, Specs};
use crate::sidecars::Handover;

/// A sidecar that serves. Dropping it closes its lifeline: it drains and ends.
pub(crate) struct Running {
    role: &'static str,
    /// Its stdin.
    _lifeline: Input,
    reader: JoinHandle<()>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// From start to readiness; a healthy one takes milliseconds.
const READY: Duration = Duration::from_secs(15);
/// What is kept of what a sidecar prints instead of being ready.
const KEPT: usize = 4096;
/// For how long another launcher may be removing networks with the names of ours.
const AMBIGUOUS: Duration = Duration::from_secs(15);
/// Between two looks whether it has.
const AMBIGUOUS_PAUSE: Duration = Duration::from_millis(100);

impl<E: Engine> Launch<'_, E> {
    pub(super) async fn sidecar(
        &self,
        plan: &SidecarPlan,
        image: &str,
        site: &Site,
        egress: Option<&NetworkId>,
    ) -> Result<Running, LaunchError> {
        let role = plan.role.name();
        let spec = self.specs.sidecar(plan, image, site);
        let handover = Handover {
            from: site.subnet,
            tokens: &self.means.secrets.tokens,
            upstream_proxy: self.means.secrets.upstream_proxy.as_ref(),
        };
        let bundle = plan.table.bundle(&handover).map_err(|source| LaunchError::Bundle { role, source })?;
        let start = self.until_it_runs(async || {
            let id = self.create(&spec).await?;
            if let Some(egress) = egress {
                self.engine.connect(egress, &id, &Specs::way_out()).await?;
            }
            self.go_on()?;
            Ok(self.start(&id, true).await?.expect("it was attached to"))
        });
        let mut streams = step(self.means.watch, &format!("start {role}"), start).await?;
        let expected = plan.role.listeners(plan.role.address(site.subnet), &plan.table);
        let ready = async {
            let answered = tokio::time::timeout(READY, hand_over(&mut streams, &bundle));
            let ready = tokio::select! {
                ready = answered => ready,
                () = self.means.interrupt.cancelled() => return Err(LaunchError::Interrupted),
            };
            let not_ready = |said: String| LaunchError::NotReady { role, said };
            let ready = match ready {
                Ok(Ok(ready)) => ready,
                Ok(Err(said)) => return Err(not_ready(said)),
                Err(_) => return Err(not_ready(format!("no readiness line within {} s", READY.as_secs()))),
            };
            if ready.name != role {
                return Err(not_ready(format!("it reports the name {:?}", ready.name)));
            }
            // It serves on the internal side and nowhere else, or not at all.
            if ready.listeners != expected {
                return Err(not_ready(format!(
                    "it listens on {:?} instead of {expected:?}",
                    ready.listeners
                )));
            }
            Ok(())
        };
        step(self.means.watch, &format!("{role} ready"), ready).await?;
        Ok(Running { role, _lifeline: streams.input, reader: tokio::spawn(discard(streams.output)) })
    }

    /// Starts a created container, with `attach` joined to its streams beforehand.
    ///
    /// Engine 20.10 lets two networks have one name, and then starts nothing on either. We have the
    /// agent's name, so the other launcher has lost it, and is removing its own.
    pub(super) async fn start(&self, id: &ContainerId, attach: bool) -> Result<Option<Streams>, LaunchError> {
        let begin = Instant::now();
        loop {
            // A start that fails ends the streams.
            let streams = if attach { Some(self.engine.attach(id).await?) } else { None };
            match self.engine.start(id).await {
                Ok(()) => return Ok(streams),
                Err(EngineError::Refused { message, .. })
                    if message.contains("is ambiguous") && begin.elapsed() < AMBIGUOUS =>
                {
                    self.go_on()?;
                    tokio::time::sleep(AMBIGUOUS_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Writes the bundle, and returns the readiness line or what was printed instead of it.
///
/// Both at once: one that does not read may print, and one that has ended prints the reason on its stderr,
/// which is a better message than that it could not be written to.
async fn hand_over(streams: &mut Streams, bundle: &[u8]) -> Result<Ready, String> {
    let Streams { input, output } = streams;
    let written = async {
        input.write_all(bundle).await?;
        input.flush().await
    };
    let said = ready(output);
    tokio::pin!(written, said);
    let mut done = None;
    let said = loop {
        tokio::select! {
            wrote = &mut written, if done.is_none() => done = Some(wrote),
            said = &mut said => break said,
        }
    };
    match said {
        Ok(ready) => {
            if done.is_none() {
                let _ = written.await;
            }
            Ok(ready)
        }
        Err(said) if said.is_empty() => Err(match done {
            Some(Err(error)) => error.to_string(),
            Some(Ok(())) | None => "it ended without a message".to_owned(),
        }),
        Err(said) => Err(said),
    }
}

/// The readiness line, or what was printed instead of it.
async fn ready(output: &mut OutputStream) -> Result<Ready, String> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(piece) = output.next().await {
        match piece {
            Ok(Output::Stdout(bytes)) => stdout.extend_from_slice(&bytes),
            Ok(Output::Stderr(bytes)) => stderr.extend_from_slice(&bytes),
            Err(error) => return Err(chain(&error)),
        }
        if let Some(end) = stdout.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&stdout[..end.min(KEPT)]);
            return Ready::parse(&line)
                .map_err(|_| format!("it printed {line:?} instead of a readiness line"));
        }
        if stdout.len() > KEPT {
            return Err("it printed something other than a readiness line".to_owned());
        }
        if stderr.len() > KEPT {
            stderr.drain(..stderr.len() - KEPT);
        }
    }
    // Its own words without the log lines around them: the plain ones are the error and its hint.
    let said = String::from_utf8_lossy(&stderr);
    let plain: Vec<_> = said.lines().filter(|line| !line.starts_with('{')).collect();
    Err(plain.join("; "))
}

/// Reads on, so that the engine never waits for us; the container's log keeps what is printed.
async fn discard(mut output: OutputStream) {
    while output.next().await.is_some_and(|piece| piece.is_ok()) {}
}
