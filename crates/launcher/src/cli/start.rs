//! `start`: from the manifest to a bottle that ran and is gone.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::bottle::find::bottles;
use crate::bottle::launch::{Bottle, LaunchError, Means, Pending};
use crate::bottle::owner::LauncherId;
use crate::bottle::run::{Ended, RunError, Terminal, run};
use crate::bottle::session::{self, Record, SessionError};
use crate::bottle::state::Folder;
use crate::bottle::teardown::{Named, teardown};
use crate::cli::console::{confirm, name_remains, print, report, say, show};
use crate::cli::failure::{Failure, Kind};
use crate::cli::options::{Global, StartArgs};
use crate::cli::process::{Interrupt, keep_memory_private};
use crate::cli::progress::{Progress, seconds};
use crate::engine::docker::Docker;
use crate::engine::{Engine, EngineError, ObjectKind};
use crate::host::settings::Settings;
use crate::host::{Carried, Host, HostError, proxy};
use crate::images::Sidecar;
use crate::manifest::{self, Manifest, UpstreamProxySetting};
use crate::plan::{Plan, PlanError, Request, needs, plan, references, upstream_proxy};
use crate::secrets::{self, Found, References, Secrets};
use crate::text::{Lines, line};

/// Carries out `start` and returns the exit code.
///
/// # Errors
/// [`Failure`] with its kind; nothing is left behind unless that is said too.
pub(crate) async fn start(global: &Global, args: StartArgs) -> Result<u8, Failure> {
    let settings = Settings::read(variable)?;
    let path = manifest::find(global.manifest.as_deref(), config_home().as_deref())?;
    let manifest = manifest::load(&path, std::env::var_os("HOME").as_deref().map(Path::new))?;
    let command = (!args.cmd.is_empty()).then(|| args.cmd.clone());
    let path = std::path::absolute(&path).unwrap_or(path);
    let request = Request { manifest: path, agent: args.agent.clone(), command, settings };
    let carried = Sidecar::find;
    let start = Start { global, manifest: &manifest, request: &request, variable: &variable, carried };
    if args.dry_run {
        let engine = match global.engine() {
            Ok(engine) => Some(engine),
            Err(error) if is_absent(&error) => None,
            Err(error) => return Err(error.into()),
        };
        return start.dry_run(engine.as_ref()).await;
    }
    if request.command.is_none() {
        return Err(Failure::not_yet("the interactive terminal")
            .hint("name a command: claude-bottle start AGENT -- CMD"));
    }
    keep_memory_private().map_err(|error| Failure::new(Kind::Bug, error))?;
    let interrupt = Interrupt::on_signals().map_err(|error| Failure::new(Kind::Bug, error))?;
    let engine = global.engine()?;
    let life = Life {
        address: engine.url(),
        states: Folder::of_user(),
        interrupt: &interrupt,
        confirm: async || confirm(global, "launch this bottle?", "see the plan alone").await,
    };
    let stdin = std::io::stdin();
    let terminal = Terminal {
        stdin: (!stdin.is_terminal()).then(tokio::io::stdin),
        stdout: tokio::io::stdout(),
        stderr: tokio::io::stderr(),
    };
    start.run(&engine, life, terminal).await
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn config_home() -> Option<std::path::PathBuf> {
    use etcetera::BaseStrategy as _;
    etcetera::choose_base_strategy().ok().map(|folders| folders.config_dir())
}

/// Whether there is no engine, as opposed to one that refuses.
fn is_absent(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Unreachable { .. } | EngineError::Permission { .. } | EngineError::Timeout { .. }
    )
}

/// What is to be started.
struct Start<'a, V> {
    global: &'a Global,
    manifest: &'a Manifest,
    request: &'a Request,
    /// The environment.
    variable: V,
    /// The binaries that the launcher carries.
    carried: Carried,
}

/// What a bottle's life depends on beside the engine.
struct Life<'a, C> {
    /// The engine's address.
    address: String,
    /// Where states are written down.
    states: Option<Folder>,
    /// The user's signals.
    interrupt: &'a Interrupt,
    /// Asks the user.
    confirm: C,
}

/// A plan, and what it was made of that a launch still needs.
struct Planned {
    plan: Plan,
    host: Host,
    references: References,
    found: Found,
}

impl<V: Fn(&str) -> Option<String>> Start<'_, V> {
    /// Prints the plan. An engine that does not answer is not an error here.
    async fn dry_run(&self, engine: Option<&Docker>) -> Result<u8, Failure> {
        let planned = match self.plan(engine).await {
            Err(Unplanned::Host(HostError::Engine(error))) if is_absent(&error) => {
                self.plan(None::<&Docker>).await
            }
            planned => planned,
        };
        let Planned { plan, found, .. } = planned?;
        for warning in found.warnings() {
            say(&line(format_args!("warning: {warning}")));
        }
        print(self.global, || plan.lines(), &plan)
    }

    async fn plan<E: Engine>(&self, engine: Option<&E>) -> Result<Planned, Unplanned> {
        let Self { manifest, request, .. } = self;
        let mut host =
            Host::survey(engine, &needs(manifest, request)?, &request.settings, self.carried).await?;
        host.proxy = self.proxy()?;
        let references = references(manifest, &request.agent)?;
        let found = secrets::check(&references, |name| self.is_set(name));
        let plan = plan(manifest, request, &host, &found)?;
        Ok(Planned { plan, host, references, found })
    }

    /// Whether a variable has a value, of which no copy is kept.
    fn is_set(&self, name: &str) -> bool {
        (self.variable)(name).map(Zeroizing::new).is_some_and(|value| !value.is_empty())
    }

    fn proxy(&self) -> Result<Option<crate::host::Proxy>, Unplanned> {
        let url = match upstream_proxy(self.manifest, &self.request.agent)? {
            UpstreamProxySetting::Off => return Ok(None),
            UpstreamProxySetting::Host => None,
            UpstreamProxySetting::Url(url) => Some(url.as_str()),
        };
        proxy(url, &self.variable).map_err(|error| Unplanned::Other(error.into()))
    }

    /// Plans, asks, launches, runs and tears down.
    async fn run<E, C, I, O, P>(
        &self,
        engine: &E,
        life: Life<'_, C>,
        terminal: Terminal<I, O, P>,
    ) -> Result<u8, Failure>
    where
        E: Engine,
        C: AsyncFnOnce() -> Result<(), Failure>,
        I: AsyncRead + Unpin + Send + 'static,
        O: AsyncWrite + Unpin,
        P: AsyncWrite + Unpin,
    {
        let agreed = async {
            let planned = self.plan(Some(engine)).await?;
            self.can_run(&planned.plan)?;
            let Planned { plan, mut host, references, found } = planned;
            found.complete()?;
            let asks = !self.global.yes;
            if asks || !self.global.quiet {
                show(plan.lines()).await;
            }
            (life.confirm)().await?;
            let mut secrets = secrets::load(&references, &self.variable)?;
            secrets.upstream_proxy = host.proxy.take().map(|found| found.proxy);
            Ok::<_, Failure>((plan, host, secrets))
        };
        let interrupt = life.interrupt;
        let (mut plan, host, secrets) = tokio::select! {
            agreed = agreed => agreed?,
            () = interrupt.first.cancelled() => {
                return Err(SessionError::Launch(LaunchError::Interrupted).into());
            }
        };
        let launcher = LauncherId::own();
        let pending = Pending::default();
        let lived = async {
            let means =
                Lived { engine, host: &host, secrets, launcher: &launcher, interrupt, pending: &pending };
            self.live(means, &mut plan, &life.address, life.states.as_ref(), terminal).await
        };
        let lived = tokio::select! {
            lived = lived => Some(lived),
            () = interrupt.second.cancelled() => None,
        };
        match lived {
            Some(lived) => lived,
            None => {
                name_remains(remains(engine, &plan, &launcher, &pending).await);
                Ok(Kind::Output.code())
            }
        }
    }

    /// Refuses what would run, but not as planned.
    fn can_run(&self, plan: &Plan) -> Result<(), Failure> {
        if let Some(doubt) = plan.doubts().into_iter().next()
            && !self.global.unproved_engine
        {
            // First: an image would not help such an engine.
            return Err(Failure::new(Kind::Engine, doubt)
                .hint("use Docker Engine 20.10 or newer, or accept the risk with --unproved-engine"));
        }
        if plan.image.id.is_none() {
            return Err(SessionError::Launch(LaunchError::NoImage(plan.image.name.clone())).into());
        }
        Ok(())
    }

    async fn live<E, I, O, P>(
        &self,
        lived: Lived<'_, E>,
        plan: &mut Plan,
        address: &str,
        states: Option<&Folder>,
        terminal: Terminal<I, O, P>,
    ) -> Result<u8, Failure>
    where
        E: Engine,
        I: AsyncRead + Unpin + Send + 'static,
        O: AsyncWrite + Unpin,
        P: AsyncWrite + Unpin,
    {
        let Lived { engine, host, secrets, launcher, interrupt, pending } = lived;
        let began = Instant::now();
        let bottle = {
            let progress = Progress::begin(self.global);
            let means = Means {
                secrets: &secrets,
                ground: &host.ground,
                launcher,
                interrupt: &interrupt.first,
                watch: &progress,
                unproved: self.global.unproved_engine,
                pending,
            };
            let pinned = self.request.settings.container.as_deref();
            session::launched(engine, address, plan, pinned, means, |swept| {
                progress.aside(|| report(swept));
            })
            .await?
        };
        // What was handed over is not needed any more.
        drop(secrets);
        if self.global.verbose {
            say(&line(format_args!("launched {} in {}", plan.instance, seconds(began.elapsed()))));
        }
        say(&warnings(&bottle));
        let mut record = Record::of(states, engine, address.to_owned(), plan, &bottle).await;
        if let Err(error) = record.write() {
            say(&line(format_args!("warning: could not write the state file: {error}")));
        }
        let outcome = run(engine, &bottle, &plan.agent_container.command, terminal, &interrupt.first).await;
        let began = Instant::now();
        let swept = teardown(engine, &bottle.scope).await;
        if self.global.verbose {
            let (containers, networks) = (swept.containers.len(), swept.networks.len());
            let took = seconds(began.elapsed());
            say(&line(format_args!("removed {containers} containers and {networks} networks in {took}")));
        }
        let ended = ended(outcome, report(&swept));
        record.end(ended.as_ref().map_or_else(|failure| failure.kind.code(), |code| *code));
        // What could not be written was said above.
        let _ = record.write();
        ended
    }
}

/// What a life consists of once the user has agreed.
struct Lived<'a, E> {
    engine: &'a E,
    host: &'a Host,
    secrets: Secrets,
    launcher: &'a LauncherId,
    interrupt: &'a Interrupt,
    pending: &'a Pending,
}

/// The first failure's code wins; a failing teardown never hides it.
fn ended(outcome: Result<Ended, RunError>, teardown: u8) -> Result<u8, Failure> {
    match outcome? {
        Ended::Interrupted => Ok(Kind::Interrupted.code()),
        Ended::Exit(_) if teardown != 0 => Ok(teardown),
        Ended::Exit(code) => Ok(code),
    }
}

fn warnings(bottle: &Bottle) -> Lines {
    let mut lines = Lines::default();
    for warning in &bottle.warnings {
        lines.line(format_args!("warning: {warning}"));
    }
    lines
}

/// What may still exist of a plan whose end is not waited for.
async fn remains(
    engine: &impl Engine,
    plan: &Plan,
    launcher: &LauncherId,
    pending: &Pending,
) -> BTreeSet<Named> {
    let launcher = launcher.to_string();
    let looked = tokio::time::timeout(LOOK, bottles(engine, None)).await;
    let Ok(Ok(found)) = looked else { return session::objects(plan).into_iter().collect() };
    let named = |kind, name: &str| Named { kind, name: name.to_owned() };
    found
        .iter()
        .filter(|bottle| bottle.launcher == launcher)
        .flat_map(|bottle| {
            let networks = bottle.networks.iter().map(|network| named(ObjectKind::Network, &network.name));
            bottle
                .containers()
                .map(|name| named(ObjectKind::Container, name))
                .chain(networks)
                .collect::<Vec<_>>()
        })
        // The engine may still be at work on what it did not answer.
        .chain(pending.objects())
        .collect()
}

/// How long the engine may take to list what is left.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

/// Why there is no plan.
enum Unplanned {
    /// The engine or this machine.
    Host(HostError),
    /// Anything else.
    Other(Failure),
}

impl From<HostError> for Unplanned {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<PlanError> for Unplanned {
    fn from(error: PlanError) -> Self {
        Self::Other(error.into())
    }
}

impl From<Failure> for Unplanned {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<Unplanned> for Failure {
    fn from(unplanned: Unplanned) -> Self {
        match unplanned {
            Unplanned::Host(error) => error.into(),
            Unplanned::Other(failure) => failure,
        }
    }
}

#[cfg(test)]
mod tests;
