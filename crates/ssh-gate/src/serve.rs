//! The life of the gate: all listeners or none, ready, and at last drained.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sidecar::admin::Admin;
use sidecar::bundle;
use sidecar::drain;
use sidecar::exit::Failure;
use sidecar::listen::{self, Acceptor, Peers};
use sidecar::metrics::Exposition;
use sidecar::ports::PortTable;
use sidecar::ready::Ready;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::{Args, Loaded, listener};
use crate::connection::{Gate, Row};
use crate::end::Limits;
use crate::meter::Meters;

/// How long connections that were cut may take to say so in the log.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A listener could not be bound; none is.
#[derive(Debug, thiserror::Error)]
#[error("could not bind {what} {address}")]
struct BindError {
    what: &'static str,
    address: SocketAddr,
    source: std::io::Error,
}

/// Binds every listener and the admin endpoint, says that it is ready, and forwards until `drain`.
///
/// # Errors
/// When something cannot be bound; then nothing is.
pub async fn serve(args: &Args, loaded: Loaded, drain: CancellationToken) -> Result<(), Failure> {
    let descriptors = listen::raise_descriptor_limit();
    let Loaded { table, peers, lifeline } = loaded;
    let listeners = bind(&table, args.bind).map_err(Failure::runtime)?;
    let addresses = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<Vec<_>, _>>()
        .map_err(Failure::runtime)?;
    let admin = args.admin.0.map(bind_admin).transpose().map_err(Failure::runtime)?;
    let admin_address = admin.as_ref().map(Admin::local_addr).transpose().map_err(Failure::runtime)?;

    // Two descriptors a connection, and some for listeners, the runtime and stdio.
    let wanted = args.max_connections.saturating_mul(2).saturating_add(table.forwards().len() + 32);
    if descriptors < wanted as u64 {
        tracing::warn!(
            event = "descriptor_limit",
            limit = descriptors,
            wanted,
            "fewer descriptors than --max-connections needs: connections beyond them wait"
        );
    }
    if let Some(stdin) = lifeline {
        // The gate has no tokens; fresh ones are nothing to it.
        tokio::spawn(bundle::follow(stdin, drain.clone(), |_| {}));
    }

    let limits = Limits {
        connections: args.max_connections,
        connect: args.connect_timeout,
        half_close: args.half_close_timeout,
        idle: args.idle_timeout.0,
    };
    let own = addresses.iter().copied().chain(admin_address).collect();
    let gate = Arc::new(Gate::new(limits, own));
    let (accepting, meters) = accept_all(&gate, &table, listeners, &peers, &drain);
    if let Some(admin) = admin {
        let draining = drain.clone();
        let metrics = move |text: &mut Exposition| meters.write(text, draining.is_cancelled());
        tokio::spawn(admin.serve(drain.clone(), metrics));
    }
    Ready::new("ssh-gate", env!("CARGO_PKG_VERSION"), addresses, admin_address).announce();

    drain.cancelled().await;
    accepting.close();
    // The listeners go first, so that nobody waits in their queues for a gate that has ended.
    accepting.wait().await;
    if drain::finish(&gate.open, args.common.drain_timeout).await > 0 {
        gate.cut.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, gate.open.wait()).await;
    }
    Ok(())
}

fn bind(table: &PortTable, bind: IpAddr) -> Result<Vec<TcpListener>, BindError> {
    let one =
        |address| listen::bind(address).map_err(|source| BindError { what: "listener", address, source });
    table.forwards().iter().map(|row| one(listener(row, bind))).collect()
}

fn bind_admin(address: SocketAddr) -> Result<Admin, BindError> {
    Admin::bind(address).map_err(|source| BindError { what: "admin endpoint", address, source })
}

/// Accepts on every listener, each in a task of its own, so that one row's trouble is its own.
fn accept_all(
    gate: &Arc<Gate>,
    table: &PortTable,
    listeners: Vec<TcpListener>,
    peers: &Peers,
    drain: &CancellationToken,
) -> (TaskTracker, Meters) {
    let accepting = TaskTracker::new();
    let mut meters = Meters::default();
    for (forward, listener) in table.forwards().iter().zip(listeners) {
        let row = Arc::new(Row::new(forward));
        let mut acceptor = Acceptor::new(listener, peers.clone(), &forward.alias);
        meters.add(&forward.alias, row.meter.clone(), acceptor.errors());
        let (gate, drain) = (gate.clone(), drain.clone());
        accepting.spawn(async move {
            loop {
                let (stream, peer) = tokio::select! {
                    biased;
                    () = drain.cancelled() => return,
                    accepted = acceptor.accept() => accepted,
                };
                gate.admit(&row, stream, peer);
            }
        });
    }
    (accepting, meters)
}
