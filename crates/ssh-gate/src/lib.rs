//! `ssh-gate`: forwards a table of TCP ports to the hosts that the table declares, and to nothing else.
//!
//! | need | room |
//! |---|---|
//! | options, and the table that they give | [`args`] |
//! | all listeners or none, ready, drain | [`serve`] |
//! | one connection, from its accept to its closing line | `connection` |
//! | a connection to the upstream, within its budget | `connect` |
//! | bytes, their end and their faults, both ways | `copy`, `direction`, `pipe`, `failed` |
//! | what sockets of both sides have in common | `tune` |
//! | what a peer has not acknowledged yet | `queue` |
//! | the line with which SSH begins | [`identification`] |
//! | what is counted | `meter` |
//!
//! Invariant: no byte is changed, none is looked at behind the first line of protocol `ssh`, and an end
//! arrives as what it was: a FIN as a FIN, a RST as a RST, both after the bytes that were sent before them.
#![forbid(unsafe_code)]

use std::io;

use sidecar::command::{Instead, Parsed};
use sidecar::exit::Failure;
use sidecar::{drain, healthcheck, log};
use tokio::runtime::{Builder, Runtime};

pub mod args;
mod connect;
mod connection;
mod copy;
mod direction;
mod end;
mod failed;
pub mod identification;
mod meter;
mod pipe;
mod queue;
pub mod serve;
mod tune;

use args::Args;

/// The runtime to [`run`] on, for all but the connections, which have threads of their own.
///
/// # Errors
/// When the kernel gives none.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Does what the command line says: serves until drained, or checks, or asks.
///
/// # Errors
/// [`Failure`] with the documented exit code.
pub async fn run(mut parsed: Parsed<Args>) -> Result<(), Failure> {
    match parsed.args.common.instead {
        Some(Instead::Healthcheck) => healthcheck_admin(&parsed.args),
        Some(Instead::Check) => {
            let table = args::load(&mut parsed).await?.table;
            let mut line = serde_json::to_vec(&table).map_err(Failure::runtime)?;
            line.push(b'\n');
            io::Write::write_all(&mut io::stdout(), &line).map_err(Failure::runtime)
        }
        None => {
            log::init(parsed.args.common.log_format);
            // Before anything that can take time: as PID 1 a signal without a handler is lost.
            let drain = drain::on_signals().map_err(Failure::runtime)?;
            let loaded = tokio::select! {
                loaded = args::load(&mut parsed) => loaded?,
                () = drain.cancelled() => return Ok(()),
            };
            serve::serve(&parsed.args, loaded, drain).await
        }
    }
}

fn healthcheck_admin(args: &Args) -> Result<(), Failure> {
    let Some(admin) = args.admin.0 else {
        return Err(Failure::runtime("the admin endpoint is off"));
    };
    match healthcheck::ready(admin) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::runtime(format!("the gate behind {admin} is not ready"))),
        Err(error) => Err(Failure::runtime(format!("no response from {admin}: {error}"))),
    }
}
