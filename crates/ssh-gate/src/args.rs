//! The options of `ssh-gate`, and the one port table that table, bundle and `--forward` give together.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use sidecar::bundle::Bundle;
use sidecar::command::{AdminAddr, Common, Parsed, Timeout, duration};
use sidecar::exit::Failure;
use sidecar::listen::Peers;
use sidecar::ports::{Forward, PortTable, Row, RowError};
use sidecar::table;
use tokio::io::{BufReader, Stdin};

/// Forward a table of TCP ports to declared hosts, and only to them
///
/// Bytes pass unchanged. A half-close stays a half-close, and a reset stays a reset.
#[derive(Debug, Parser)]
#[command(name = "ssh-gate", version)]
pub struct Args {
    /// The port table, JSON: {"forwards":[{"listen":30000,"upstream":"github.com:22","alias":"github","protocol":"ssh"}]}
    #[arg(long, value_name = "FILE")]
    pub ports: Option<PathBuf>,
    /// Further rows, as they are typed.
    // Apart from the doc comment: rustdoc takes the brackets for links.
    #[arg(
        long,
        value_name = "ROW",
        help = "A further row: [BIND:]LISTEN=HOST:PORT[,alias=NAME][,protocol=ssh]; may be repeated"
    )]
    pub forward: Vec<String>,
    /// The address to listen on, for rows that name none
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// The most connections at once; one more is accepted and closed
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one)]
    pub max_connections: usize,
    /// How long resolving and connecting to an upstream may take, over all its addresses
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub connect_timeout: Duration,
    /// How long a connection that one side has ended may be silent
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub half_close_timeout: Duration,
    /// How long an open connection may be silent, or off
    #[arg(long, value_name = "TIME", default_value = "off")]
    pub idle_timeout: Timeout,
    /// Where /healthz and /readyz are answered, or off
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9901")]
    pub admin: AdminAddr,
    /// What every daemon has.
    #[command(flatten)]
    pub common: Common,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    // More places than a semaphore has would be no limit.
    let places = 1..=tokio::sync::Semaphore::MAX_PERMITS;
    text.parse().ok().filter(|n| places.contains(n)).ok_or_else(|| "expected a number from 1".into())
}

/// What to serve, and for whom.
#[derive(Debug)]
pub struct Loaded {
    /// Every row.
    pub table: PortTable,
    /// Who is served.
    pub peers: Peers,
    /// Stdin, when its end is to drain the gate.
    pub lifeline: Option<BufReader<Stdin>>,
}

/// Gathers the table from where the command line, or else the environment, says.
///
/// # Errors
/// [`Failure`] of kind usage for options that exclude each other or a `--forward` that does not
/// parse, of kind config for a table or bundle that is missing or wrong.
pub async fn load(parsed: &mut Parsed<Args>) -> Result<Loaded, Failure> {
    parsed.exclude("stdin_bundle", &["ports", "forward"])?;
    let loaded = if parsed.args.common.stdin_bundle {
        bundle().await?
    } else {
        let file = parsed.args.ports.as_deref();
        let rows: Vec<Row> = parsed
            .values("forward")
            .into_iter()
            .map(|text| {
                text.parse().map_err(|error| {
                    Failure::usage(format!("--forward {text}: {error}"))
                        .hint("a row is written [BIND:]LISTEN=HOST:PORT[,alias=NAME][,protocol=ssh]")
                })
            })
            .collect::<Result<_, _>>()?;
        let mut all = Vec::new();
        if let Some(file) = file {
            let table: PortTable = table::load(file)?;
            all = table.into_rows();
        }
        let from_file = all.len();
        all.extend(rows);
        let table = PortTable::from_rows(all).map_err(|error| no_table(error, from_file))?;
        Loaded { table, peers: Peers::Anyone, lifeline: None }
    };
    distinct(&loaded.table, parsed.args.bind)?;
    Ok(loaded)
}

/// Where a row listens.
pub fn listener(row: &Forward, bind: IpAddr) -> SocketAddr {
    SocketAddr::new(row.bind.unwrap_or(bind), row.listen)
}

async fn bundle() -> Result<Loaded, Failure> {
    let mut stdin = BufReader::new(tokio::io::stdin());
    let bundle = Bundle::<PortTable>::read(&mut stdin).await?;
    Ok(Loaded {
        table: bundle.table,
        peers: Peers::from_bundle(bundle.from),
        lifeline: bundle.lifeline.then_some(stdin),
    })
}

fn no_table(error: RowError, from_file: usize) -> Failure {
    match error {
        RowError::Empty => Failure::config("no port table was given")
            .hint("give --ports FILE, --forward LISTEN=HOST:PORT or --stdin-bundle"),
        // A file's own rows were checked when it was read.
        error if from_file > 0 => Failure::config(format!("--ports and --forward together: {error}")),
        error => Failure::config(format!("--forward: {error}")),
    }
}

/// Two rows may name one listener in two ways: once by itself, once through `--bind`.
fn distinct(table: &PortTable, bind: IpAddr) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    let twice = table
        .forwards()
        .iter()
        .map(|row| listener(row, bind))
        .find(|listener| listener.port() != 0 && !seen.insert(*listener));
    twice.map_or(Ok(()), |listener| Err(Failure::config(format!("duplicate listener {listener}"))))
}
