//! The life of the gate: all listeners or none, ready, and at last drained.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sidecar::admin::Admin;
use sidecar::bundle;
use sidecar::drain;
use sidecar::exit::Failure;
use sidecar::listen::{self, Listening, Peers};
use sidecar::metrics::Exposition;
use sidecar::ports::{Forward, PortTable};
use sidecar::ready::Ready;
use sidecar::workers::{self, Worker};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::args::{Args, Loaded, listener};
use crate::connection::{Arrival, Gate, Row, Share};
use crate::end::Limits;
use crate::meter::Meters;
use crate::tune::tune;

/// A listener could not be bound; none is.
#[derive(Debug, thiserror::Error)]
#[error("could not bind {what} {address}")]
struct BindError {
    what: &'static str,
    address: SocketAddr,
    source: io::Error,
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
    let rows = rows(&table, listeners, &peers).map_err(Failure::runtime)?;
    let mut meters = Meters::default();
    for (row, listening) in &rows {
        meters.add(&row.alias, row.meter.clone(), listening.troubles());
    }
    let accepting = TaskTracker::new();
    start(&gate, rows, &accepting, &drain).map_err(Failure::runtime)?;
    if let Some(admin) = admin {
        let draining = drain.clone();
        let metrics = move |text: &mut Exposition| meters.write(text, draining.is_cancelled());
        tokio::spawn(admin.serve(drain.clone(), metrics));
    }
    Ready::new("ssh-gate", env!("CARGO_PKG_VERSION"), addresses, admin_address).announce();

    drain.cancelled().await;
    accepting.close();
    // The listeners go first, so that nobody waits in their queues for a gate that has ended. A thread that
    // hangs in the log does not accept either.
    let _ = tokio::time::timeout(drain::LAST_WORDS, accepting.wait()).await;
    drain::finish(&gate.open, args.common.drain_timeout, &gate.cut).await;
    Ok(())
}

fn bind(table: &PortTable, bind: IpAddr) -> Result<Vec<TcpListener>, BindError> {
    let one = |address| {
        let listener =
            listen::bind(address).map_err(|source| BindError { what: "listener", address, source })?;
        tune(&SockRef::from(&listener));
        Ok(listener)
    };
    table.forwards().iter().map(|row| one(listener(row, bind))).collect()
}

fn bind_admin(address: SocketAddr) -> Result<Admin, BindError> {
    Admin::bind(address).map_err(|source| BindError { what: "admin endpoint", address, source })
}

/// A row, and where its connections come in.
type Open = (Arc<Row>, Listening);

fn rows(table: &PortTable, listeners: Vec<TcpListener>, peers: &Peers) -> io::Result<Vec<Open>> {
    let row = |(forward, listener): (&Forward, _)| {
        let listening = Listening::new(listener, peers.clone(), &forward.alias)?;
        Ok((Arc::new(Row::new(forward)), listening))
    };
    table.forwards().iter().zip(listeners).map(row).collect()
}

/// Starts the threads, each with a share in every listener.
fn start(
    gate: &Arc<Gate>,
    rows: Vec<Open>,
    accepting: &TaskTracker,
    drain: &CancellationToken,
) -> io::Result<()> {
    let work = |rows: Vec<Open>| {
        let (gate, accepting, drain) = (gate.clone(), accepting.clone(), drain.child_token());
        move |worker| serve_share(gate, rows, accepting, drain, worker)
    };
    let share = |(row, listening): &Open| Ok((row.clone(), listening.share()?));
    let mut works = Vec::new();
    for _ in 1..workers::count() {
        works.push(work(rows.iter().map(share).collect::<io::Result<_>>()?));
    }
    works.push(work(rows));
    workers::start(works)
}

/// Accepts on every listener, each in a task of its own, so that one row's trouble is its own, and
/// forwards what was accepted here or handed over, until the last connection has ended.
async fn serve_share(
    gate: Arc<Gate>,
    rows: Vec<Open>,
    accepting: TaskTracker,
    drain: CancellationToken,
    mut worker: Worker<Arrival>,
) {
    let share = Arc::new(Share::new(gate.clone(), worker.team.clone()));
    for (row, listening) in rows {
        let mut acceptor = match listening.into_acceptor() {
            Ok(acceptor) => acceptor,
            Err(error) => {
                tracing::error!(event = "accept_error", error = %error);
                continue;
            }
        };
        let (share, drain) = (share.clone(), drain.clone());
        accepting.spawn(async move {
            loop {
                let (stream, peer) = tokio::select! {
                    biased;
                    () = drain.cancelled() => return,
                    accepted = acceptor.accept() => accepted,
                };
                share.admit(&row, stream, peer);
            }
        });
    }
    loop {
        let (stream, arrival, place) = tokio::select! {
            biased;
            handed = worker.handed() => handed,
            // Closed only when nobody accepts any more, so that nothing is still to be handed over.
            () = gate.open.wait() => return,
        };
        match TcpStream::from_std(stream) {
            Ok(stream) => share.forward(stream, arrival, place),
            Err(error) => tracing::error!(event = "accept_error", error = %error),
        }
    }
}
