//! `start`: from the manifest to a bottle that ran and is gone.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::bottle::launch::{Bottle, LaunchError, Race, launch, no_image};
use crate::bottle::owner::LauncherId;
use crate::bottle::run::{Ended, Terminal, run};
use crate::bottle::teardown::teardown;
use crate::cli::console::{confirm, print, say, told};
use crate::cli::failure::{Failure, Kind};
use crate::cli::options::{Format, Global, StartArgs};
use crate::engine::Engine;
use crate::engine::docker::Docker;
use crate::host::settings::Settings;
use crate::host::{Host, HostError};
use crate::manifest::{self, Manifest};
use crate::plan::{Plan, PlanError, Request, plan};
use crate::secrets::{self, Secrets};

/// Launches that lose something to another one start over; more than this is no race.
const RACES: usize = 5;

/// Carries out `start` and returns the exit code.
///
/// # Errors
/// [`Failure`] with its kind; nothing is left behind unless that is said too.
pub(crate) async fn start(global: &Global, args: StartArgs) -> Result<u8, Failure> {
    refuse_not_yet(&args)?;
    let settings = Settings::read(variable)?;
    let path = manifest::find(global.manifest.as_deref(), config_home().as_deref())?;
    let manifest = manifest::load(&path, std::env::var_os("HOME").as_deref().map(std::path::Path::new))?;
    let command = (!args.cmd.is_empty()).then(|| args.cmd.clone());
    let request = Request { agent: args.agent.clone(), command, settings };
    if args.dry_run {
        return dry_run(global, &manifest, &request).await;
    }
    if request.command.is_none() {
        return Err(Failure::not_yet("the interactive terminal")
            .hint("name a command: claude-bottle start AGENT -- CMD"));
    }
    let engine = global.engine()?;
    let interrupt = on_signals()?;
    let nothing_lost = BTreeSet::new();
    let agreed = async {
        let (planned, secrets) = prepare(&engine, &manifest, &request, &nothing_lost).await?;
        if !global.quiet {
            say(&planned.to_string());
        }
        confirm(global, "launch this bottle?").await?;
        Ok::<_, Failure>((planned, secrets))
    };
    let (planned, secrets) = tokio::select! {
        agreed = agreed => agreed?,
        () = interrupt.cancelled() => return Err(LaunchError::Interrupted.into()),
    };
    let began = Instant::now();
    let bottle = launched(&engine, &manifest, &request, planned, secrets, &interrupt).await?;
    if global.verbose {
        say(&format!("launched {} in {}\n", bottle.scope.instance, seconds(began)));
    }
    for warning in &bottle.warnings {
        say(&format!("warning: {warning}\n"));
    }
    let outcome = joined(&engine, &bottle, &args.cmd, &interrupt).await;
    let began = Instant::now();
    let swept = teardown(&engine, &bottle.scope).await;
    if global.verbose {
        let (containers, networks) = (swept.containers.len(), swept.networks.len());
        say(&format!("removed {containers} containers and {networks} networks in {}\n", seconds(began)));
    }
    let teardown_code = told(&swept);
    // The first failure's code wins; a failing teardown never hides it.
    match outcome? {
        Ended::Interrupted => Ok(Kind::Interrupted.code()),
        Ended::Exit(_) if teardown_code != 0 => Ok(teardown_code),
        Ended::Exit(code) => Ok(code),
    }
}

fn seconds(since: Instant) -> String {
    format!("{:.2} s", since.elapsed().as_secs_f64())
}

fn refuse_not_yet(args: &StartArgs) -> Result<(), Failure> {
    let asked = [
        (args.cwd.is_some(), "`start --cwd`"),
        (args.detach, "`start --detach`"),
        (args.prompt.is_some(), "`start --prompt`"),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Failure::not_yet(what)),
        None => Ok(()),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn config_home() -> Option<std::path::PathBuf> {
    use etcetera::BaseStrategy as _;
    etcetera::choose_base_strategy().ok().map(|folders| folders.config_dir())
}

/// The plan alone; an engine that does not answer is no error here.
async fn dry_run(global: &Global, manifest: &Manifest, request: &Request) -> Result<u8, Failure> {
    let engine = match global.engine() {
        Ok(engine) => match engine.info().await {
            Ok(_) => Some(engine),
            Err(_) => None,
        },
        Err(_) => None,
    };
    let host = survey(engine.as_ref(), manifest, request).await?;
    let plan = plan(manifest, request, &host)?;
    match global.format {
        Format::Text => print(global, || plan.to_string(), &()),
        Format::Json => print(global, String::new, &plan),
    }
}

async fn survey(engine: Option<&Docker>, manifest: &Manifest, request: &Request) -> Result<Host, Failure> {
    // An agent that is not there is the plan's to refuse: any bottle will do for the survey then.
    let agent = manifest.agents.get(&request.agent);
    let bottle = agent.and_then(|agent| manifest.bottles.get(&agent.bottle));
    let Some(bottle) = bottle else {
        let known = manifest.agents.keys().cloned().collect();
        return Err(PlanError::NoAgent { name: request.agent.clone(), known }.into());
    };
    Host::survey(engine, bottle, &request.settings, variable).await.map_err(|error| match error {
        HostError::Engine(error) => error.into(),
        HostError::Images(error) => Failure::from(error).hint("build the launcher with `cargo xtask build`"),
    })
}

/// The plan and its secrets, with everything checked that can be before anything is created.
async fn prepare(
    engine: &Docker,
    manifest: &Manifest,
    request: &Request,
    lost: &BTreeSet<String>,
) -> Result<(Plan, Secrets), Failure> {
    let mut host = survey(Some(engine), manifest, request).await?;
    host.taken.extend(lost.iter().cloned());
    let plan = plan(manifest, request, &host)?;
    if plan.image.id.is_none() {
        return Err(no_image(LaunchError::NoImage(plan.image.name)));
    }
    let secrets = secrets::load(&plan, variable)?;
    Ok((plan, secrets))
}

/// Launches. A race walks back and starts over from the facts: a name that was taken meanwhile takes
/// the next one, and an object that vanished is looked for again, which says what is missing.
async fn launched(
    engine: &Docker,
    manifest: &Manifest,
    request: &Request,
    mut planned: Plan,
    mut secrets: Secrets,
    interrupt: &CancellationToken,
) -> Result<Bottle, Failure> {
    let launcher = LauncherId::own();
    let mut lost = BTreeSet::new();
    let mut races = 0;
    loop {
        let failed = match launch(engine, &planned, &secrets, &launcher, interrupt).await {
            Ok(bottle) => return Ok(bottle),
            Err(failed) => failed,
        };
        told(&failed.swept);
        races += 1;
        match failed.error.race() {
            Some(Race::Name(name)) if races <= RACES && request.settings.container.is_none() => {
                lost.insert(name.to_owned());
            }
            // A network whose containers are not started yet can be pruned under us.
            Some(Race::Vanished) if races <= RACES => {}
            Some(Race::Name(name)) if request.settings.container.is_some() => {
                let remedy = pinned_remedy(name);
                return Err(Failure::from(failed.error).hint(remedy));
            }
            _ => return Err(failed.error.into()),
        }
        (planned, secrets) = prepare(engine, manifest, request, &lost).await?;
    }
}

fn pinned_remedy(name: &str) -> String {
    format!("remove it with `docker rm -f {name}` or unset the override")
}

async fn joined(
    engine: &Docker,
    bottle: &Bottle,
    command: &[String],
    interrupt: &CancellationToken,
) -> Result<Ended, Failure> {
    let stdin = std::io::stdin();
    let terminal = Terminal {
        stdin: (!stdin.is_terminal()).then(tokio::io::stdin),
        stdout: tokio::io::stdout(),
        stderr: tokio::io::stderr(),
    };
    run(engine, bottle, command, terminal, interrupt).await
}

/// Cancelled by SIGINT, SIGTERM and SIGHUP. Further ones change nothing: the teardown has deadlines of its own.
fn on_signals() -> Result<CancellationToken, Failure> {
    let interrupt = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind).map_err(|error| Failure::new(Kind::Bug, error))?;
        let cancel = interrupt.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                cancel.cancel();
            }
        });
    }
    Ok(interrupt)
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let hint = match &error {
            PlanError::NoAgent { known, .. } if !known.is_empty() => {
                Some(format!("it has {}", known.join(", ")))
            }
            PlanError::Name(crate::plan::names::NameError::PinnedTaken(name)) => Some(pinned_remedy(name)),
            PlanError::Name(crate::plan::names::NameError::Exhausted(_)) => {
                Some("`claude-bottle cleanup` removes those whose launcher is gone".to_owned())
            }
            PlanError::NoNetwork(name) => Some(format!("create it with `docker network create {name}`")),
            PlanError::Root(_) => Some("name another `user` in the manifest, or leave out `ssh`".to_owned()),
            PlanError::NoRuntime(_) => Some("install gVisor, or set CLAUDE_BOTTLE_RUNTIME=runc".to_owned()),
            _ => None,
        };
        let kind = match &error {
            PlanError::Name(
                crate::plan::names::NameError::PinnedTaken(_) | crate::plan::names::NameError::Exhausted(_),
            )
            | PlanError::NoNetwork(_)
            | PlanError::NoRuntime(_)
            | PlanError::NoImage(_) => Kind::Engine,
            _ => Kind::Manifest,
        };
        let failure = Self::new(kind, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
