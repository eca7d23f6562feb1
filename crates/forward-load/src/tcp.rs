//! `forward-load tcp`: bytes, connections and round trips through a TCP forwarder.

pub mod args;
pub mod backend;
pub mod comparison;
pub mod connect;
pub mod drive;
pub mod idle;
pub mod pattern;
pub mod pingpong;
pub mod protocol;
pub mod stream;
pub mod throughput;

pub use args::TcpArgs;
pub use comparison::compare;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::child::{Backend, ChildError};
use crate::cli::{Ended, Failure, shown};
use crate::compare::DIRECT;
use crate::interrupt::Interrupt;
use crate::measure;
use crate::progress::Progress;
use crate::report::Sample;
use crate::target;
use args::Measurement;
use throughput::Path;

/// Runs `tcp`.
///
/// # Errors
///
/// Nothing could be measured.
pub fn run(args: &TcpArgs, interrupt: &Interrupt) -> Result<Ended, Failure> {
    let options = &args.options;
    let Some(command) = args.command else {
        return match options.serve {
            Some(listen) => backend::in_the_foreground(listen, interrupt),
            None => Err(Failure::usage("nothing to measure was named").hint(
                "name throughput, connect, pingpong or idle, or give --serve ADDR for a backend alone",
            )),
        };
    };
    let to = options.to.as_deref().map(|to| target::resolve(to, options.i_own_this_target)).transpose();
    let to = to.map_err(|error| match error {
        target::TargetError::NotOurs { .. } => {
            Failure::usage(error).hint("if it is yours to load, add --i-own-this-target")
        }
        error => Failure::usage(error),
    })?;
    let measurements = args.measurements(command)?;
    if let Some(pid) = options.pid
        && measure::process::own_ticks(pid).is_none()
    {
        return Err(Failure::usage(format!("there is no process {pid}")));
    }
    // Behind `--to` alone somebody else runs the backend; with neither there is the bare path.
    let backend = match (options.serve, to) {
        (None, Some(_)) => None,
        (listen, _) => Some(start_backend(listen)?),
    };
    let mut paths: Vec<(String, Path)> = Vec::new();
    let pid = backend.as_ref().map(|(backend, _)| backend.pid());
    if let Some((_, address)) = &backend {
        paths.push((DIRECT.into(), Path { to: *address, forwarder: None, backend: pid }));
    }
    if let Some(to) = to {
        answers(to).map_err(|problem| {
            Failure::runtime(format!("{to} does not forward to a backend of ours: {problem}")).hint(
                "run one where it forwards to: `forward-load tcp --serve ADDR`, or add --serve ADDR here",
            )
        })?;
        paths.push((to.to_string(), Path { to, forwarder: options.pid, backend: pid }));
    }
    Ok(measured(&measurements, &paths, interrupt))
}

fn measured(measurements: &[Measurement], paths: &[(String, Path)], interrupt: &Interrupt) -> Ended {
    let mut progress = Progress::begin(measurements.len() * paths.len(), false);
    let mut samples: Vec<Sample> = Vec::new();
    for measurement in measurements {
        for (subject, path) in paths {
            if interrupt.came() {
                return shown(samples);
            }
            let mut sample = measurement.measure(path, interrupt);
            if sample.costs.and_then(|costs| costs.forwarder).is_some_and(|used| used.ended) {
                sample.failure = Some("the forwarder's process ended".into());
            }
            sample.subject.clone_from(subject);
            sample.round = 1;
            progress.step(crate::report::table::line(&sample));
            samples.push(sample);
        }
    }
    shown(samples)
}

/// Starts the backend in a process of its own, and says where it listens.
///
/// # Errors
///
/// It did not become ready.
pub fn start_backend(listen: Option<SocketAddr>) -> Result<(Backend, SocketAddr), Failure> {
    let listen = listen.map_or("127.0.0.1:0".into(), |listen| listen.to_string());
    let backend = Backend::start(&std::env::current_exe()?, &["backend", &listen])?;
    let said = backend.said("listening")?;
    let address = said.parse().map_err(|_| ChildError::NotReady { said: said.into() })?;
    Ok((backend, address))
}

/// Whether there is a backend of ours behind an address; else what is wrong.
///
/// # Errors
///
/// Says what came instead.
pub fn answers(to: SocketAddr) -> Result<(), String> {
    let patience = Some(Duration::from_secs(2));
    let answer = || -> std::io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        socket.set_read_timeout(patience)?;
        socket.write_all(&[protocol::ONCE, b'!'])?;
        let mut answer = Vec::new();
        socket.take(16).read_to_end(&mut answer)?;
        Ok(answer)
    };
    match answer() {
        Ok(answer) if answer == b"!" => Ok(()),
        Ok(answer) if answer.is_empty() => Err("the connection was closed without an answer".into()),
        Ok(answer) => Err(format!("it answered {:?}", String::from_utf8_lossy(&answer))),
        Err(error) => Err(error.to_string()),
    }
}
