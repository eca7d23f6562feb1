//! One measurement: from a command line, or from a comparison, to a sample.

use std::io;

use super::{
    args::{HttpCommand, LoadArgs},
    backend::{OriginError, serve},
    link::Request,
    load::{Job, Load, Outcome, Until, run},
    target::{Target, TargetError},
};
use crate::{
    interrupt::Interrupt,
    report::{Sample, Unit},
};

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL cannot be aimed at.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The load could not be begun.
    #[error("could not begin the load")]
    Load(#[from] io::Error),
    /// The origin does not serve.
    #[error(transparent)]
    Origin(#[from] OriginError),
}

/// Runs a command; what it measured, when it measures.
///
/// # Errors
///
/// The target is refused, or there are no means to load it.
pub fn command(command: &HttpCommand, interrupt: &Interrupt) -> Result<Option<Sample>, HttpError> {
    let (args, job, upload, name) = match command {
        HttpCommand::Serve(args) => {
            serve(args, interrupt)?;
            return Ok(None);
        }
        HttpCommand::Requests(args) => (args, Job::Exchange, None, "requests"),
        HttpCommand::Download(args) => (args, Job::Transfer, None, "download"),
        HttpCommand::Upload { size, load } => (load, Job::Transfer, Some(*size), "upload"),
        HttpCommand::Sse(args) => (args, Job::Events, None, "sse"),
    };
    let load = load(args, job, upload)?;
    let outcome = run(&load, interrupt)?;
    let mut sample = sample(&load, outcome);
    sample.subject = load.target.authority.clone();
    sample.scenario = format!("{name}, {} connections", args.connections);
    Ok(Some(sample))
}

fn load(args: &LoadArgs, job: Job, upload: Option<u64>) -> Result<Load, HttpError> {
    let target = Target::new(&args.url, args.ca_file.as_deref(), args.i_own_this_target)?;
    let request = Request::new(&target, &args.url.target, &args.header, upload, args.new_connections);
    Ok(Load {
        target,
        request,
        connections: usize::try_from(args.connections).unwrap_or(usize::MAX),
        rate: args.rate,
        new_connections: args.new_connections,
        job,
        until: Until::Time(args.duration),
        forwarder: args.pid,
        backend: None,
    })
}

/// The result of a load, as a sample without subject and scenario. The first figure is the one that
/// is compared.
#[allow(clippy::cast_precision_loss, reason = "counts of a window are exact in an f64")]
pub fn sample(load: &Load, outcome: Outcome) -> Sample {
    let mut sample = Sample::default();
    let (completed, bytes) = (outcome.completed as f64, outcome.bytes as f64);
    let cpu = outcome.costs.forwarder.map(|forwarder| forwarder.cpu_seconds);
    // Of a few long transfers the rate says all.
    let latency = outcome.latencies.summary(outcome.corrected).filter(|_| load.job != Job::Transfer);
    match load.job {
        Job::Transfer => {
            sample.figure("rate", bytes / outcome.seconds, Unit::BytesPerSecond);
            if let Some(cpu) = cpu.filter(|_| bytes > 0.0) {
                sample.figure("CPU s/GiB", cpu / bytes * f64::from(1 << 30), Unit::Seconds);
            }
        }
        Job::Events => {
            if let Some(latency) = &latency {
                sample.figure("delay", latency.p50_us, Unit::Microseconds);
            }
            if let Some(first) = outcome.first_event {
                sample.figure("first event", first.as_secs_f64() * 1e6, Unit::Microseconds);
            }
            sample.figure("events", completed / outcome.seconds, Unit::PerSecond);
        }
        Job::Exchange => {
            // At a given rate all are alike but for how long an answer takes.
            if let Some(latency) = latency.filter(|latency| latency.corrected) {
                sample.figure("median", latency.p50_us, Unit::Microseconds);
            }
            let name = if load.new_connections { "connections" } else { "rate" };
            sample.figure(name, completed / outcome.seconds, Unit::PerSecond);
            if let Some(cpu) = cpu.filter(|_| completed > 0.0) {
                sample.figure("CPU s/100k", cpu / completed * 1e5, Unit::Seconds);
            }
        }
    }
    if completed == 0.0 && bytes == 0.0 && !outcome.interrupted {
        let first = outcome.errors.first.values().next();
        let why = first.map_or("no answer came in the window", String::as_str);
        sample.failure = Some(why.into());
    }
    sample.latency = latency;
    sample.errors = outcome.errors;
    sample.costs = Some(outcome.costs);
    sample.interrupted = outcome.interrupted;
    sample
}
