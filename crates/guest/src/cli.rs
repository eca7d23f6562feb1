//! The command line of `bottle-guest`, and the way from a command to its exit code.

use std::{error::Error, future::Future, io, process::ExitCode};

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use serde_json::json;

use crate::{
    address::{Address, HostPort},
    connect,
    idle::idle,
    listener::SocketMode,
    note::{announce, chain, note},
    relay::{self, Ended, Relay, Traffic},
    seal,
};

/// The helper inside the agent's container of a claude-bottle.
///
/// Exit codes: 0 on a clean end, 1 on a failure at run time, 2 on a bad command line.
#[derive(Debug, Parser)]
#[command(name = "bottle-guest", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry connections from one socket to another
    ///
    /// Prints one line of JSON, {"event":"ready","listen":"unix:..."}, when it accepts. SIGTERM
    /// and SIGINT stop accepting, remove the socket and give open connections two seconds; a
    /// second signal ends at once, with exit code 1. SIGHUP and a closed stdout or stderr do not end it.
    Relay(RelayArgs),
    /// Connect stdin and stdout to a TCP port, for OpenSSH's ProxyCommand
    ///
    /// Copies bytes both ways. At the end of stdin, the upstream sees the end and may still answer.
    /// When the upstream has finished sending, stdout is closed and stdin is still copied. The exit
    /// code is 0 when both have ended, and 1 if the upstream cannot be reached or resets the
    /// connection. The timeout for connecting is 10 seconds, including name resolution. In
    /// ssh_config, `ProxyCommand bottle-guest connect [%h]:%p` works for names and for addresses.
    Connect(ConnectArgs),
    /// Delete the default routes of this network namespace, IPv4 and IPv6
    ///
    /// Needs NET_ADMIN. Prints one line of JSON, {"event":"sealed","removed":N}, when none is
    /// left. N may be 0.
    Seal(SealArgs),
    /// Do nothing but reap orphaned processes, as PID 1, until SIGTERM or SIGINT
    Idle,
    /// The isolation proof (not yet)
    Probe,
}

#[derive(Debug, Args)]
struct ConnectArgs {
    /// Where to connect to: HOST:PORT, or [HOST]:PORT for an IPv6 address
    #[arg(value_name = "HOST:PORT", value_parser = upstream)]
    upstream: HostPort,
}

/// Port 0 is for listening only.
fn upstream(text: &str) -> Result<HostPort, Box<dyn Error + Send + Sync>> {
    let upstream: HostPort = text.parse()?;
    if upstream.port == 0 { Err("expected a port between 1 and 65535, found 0".into()) } else { Ok(upstream) }
}

#[derive(Debug, Args)]
struct SealArgs {
    /// Check that no default route is left, and delete nothing
    ///
    /// Needs no capability. Reads /proc/net/route and /proc/net/ipv6_route, and lists the routes
    /// over rtnetlink as well. Prints {"event":"checked"} if there is no default route. Otherwise
    /// the message names the interface and the gateway of each, and the exit code is 1. Routes of
    /// type unreachable do not count.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct RelayArgs {
    /// Where to listen: unix:PATH or tcp:HOST:PORT
    ///
    /// A socket file on which nobody listens any more is replaced.
    #[arg(long, value_name = "ADDRESS")]
    listen: Address,

    /// Who may connect to the Unix socket: its mode, in octal [default: 0600]
    #[arg(long)]
    mode: Option<SocketMode>,

    /// Where to connect to: unix:PATH or tcp:HOST:PORT
    #[arg(long, value_name = "ADDRESS")]
    connect: Address,

    /// Let only harmless requests to an ssh-agent pass: list keys, sign, and the extensions
    /// `query` and `session-bind@openssh.com`
    ///
    /// Every other request is answered SSH_AGENT_FAILURE and never reaches the ssh-agent; a
    /// malformed one ends its connection.
    #[arg(long)]
    ssh_agent: bool,
}

/// Does what the command line says.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Relay(args) => run_relay(args),
        Command::Connect(ConnectArgs { upstream }) => match connect::run(&upstream) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        Command::Seal(SealArgs { check: true }) => match seal::check() {
            Ok(()) => {
                announce(&json!({ "event": "checked" }));
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        },
        Command::Seal(SealArgs { check: false }) => match seal::seal() {
            Ok(removed) => {
                announce(&json!({ "event": "sealed", "removed": removed }));
                ExitCode::SUCCESS
            }
            Err(error) => failed(&error),
        },
        Command::Idle => match block_on(idle()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        Command::Probe => {
            note("not yet: the isolation proof comes with a later release");
            ExitCode::from(2)
        }
    }
}

fn run_relay(args: RelayArgs) -> ExitCode {
    if args.mode.is_some() && matches!(args.listen, Address::Tcp(_)) {
        let text = "--mode is for a Unix socket; --listen is a TCP port";
        Cli::command().error(ErrorKind::ArgumentConflict, text).exit();
    }
    let traffic = if args.ssh_agent { Traffic::SshAgent } else { Traffic::Any };
    let relay =
        Relay { listen: args.listen, mode: args.mode.unwrap_or_default(), upstream: args.connect, traffic };
    match block_on(async { relay::run(relay).await.map_err(Box::<dyn Error>::from) }) {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::AtOnce) => ExitCode::FAILURE,
        Err(error) => failed(error.as_ref()),
    }
}

/// One thread is enough for what a guest does, and the least memory.
fn block_on<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T, E>
where
    E: From<io::Error>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A name that is still being resolved must not hold us.
    runtime.shutdown_background();
    outcome
}

fn failed(error: &dyn Error) -> ExitCode {
    note(&chain(error));
    ExitCode::FAILURE
}
