//! The relay: a listener, one task per connection, and the end of both.
//!
//! It outlives whatever started it: no closed stdout or stderr ends or stalls it, nor does
//! SIGHUP. It ends on SIGTERM or SIGINT.

use std::{io, pin::pin, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::{Address, Stream},
    filter::{FilterError, filter},
    listener::{BindError, Listener, SocketMode},
    note::{Seldom, announce, chain, note},
    signals::Signals,
};

/// Where connections come from, where they go, and what may pass.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Where we listen.
    pub listen: Address,
    /// The mode of a Unix socket.
    pub mode: SocketMode,
    /// Where we connect to.
    pub upstream: Address,
    /// What passes.
    pub traffic: Traffic,
}

/// What passes a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Any bytes, both ways, and the end of each way.
    Any,
    /// The requests that [`agent_message`](crate::agent_message) lets through, and their answers.
    SshAgent,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Drained, or cut at the end of the drain's two seconds.
    Drained,
    /// A second signal came before that.
    AtOnce,
}

/// Binds, says that it is ready, and serves until a signal.
///
/// # Errors
///
/// It could not become ready.
pub async fn run(relay: Relay) -> Result<Ended, RelayError> {
    let mut signals = Signals::catch().map_err(RelayError::Signals)?;
    // Whoever started us by an exec may hang up.
    let _hangup = signal(SignalKind::hangup()).map_err(RelayError::Signals)?;
    let limit = connection_limit(relay.traffic);
    let listener = Listener::bind(&relay.listen, relay.mode).await?;
    let address = listener.address().map_err(RelayError::Address)?;
    announce(&json!({ "event": "ready", "listen": address.to_string() }));

    let drain = CancellationToken::new();
    let mut serving = pin!(serve(listener, &relay, limit, drain.clone()));
    tokio::select! {
        () = &mut serving => return Ok(Ended::Drained),
        () = signals.next() => drain.cancel(),
    }
    tokio::select! {
        () = serving => Ok(Ended::Drained),
        () = signals.next() => Ok(Ended::AtOnce),
    }
}

/// Takes connections in until the drain, then gives the open ones two seconds.
pub async fn serve(listener: Listener, relay: &Relay, limit: usize, drain: CancellationToken) {
    let mut connections = JoinSet::new();
    let accepting = accept_all(&listener, relay, limit, &drain, &mut connections);
    drain.run_until_cancelled(accepting).await;
    if let Err(error) = listener.close() {
        note(&format!("could not remove the socket: {error}"));
    }
    // What is left after that is cut when the set is dropped.
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

async fn accept_all(
    listener: &Listener,
    relay: &Relay,
    limit: usize,
    drain: &CancellationToken,
    connections: &mut JoinSet<Result<(), FilterError>>,
) {
    let notes = Notes::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= limit => {
                    notes.limit.note(&format!("limit of {limit} connections met, one more was closed"));
                }
                Ok(downstream) => {
                    connections.spawn(connection(downstream, relay.upstream.clone(), relay.traffic, drain.clone()));
                }
                Err(error) => {
                    notes.accept.note(&format!("could not accept a connection: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                notes.tell(ended.unwrap_or_else(|panic| {
                    notes.fault.note(&format!("a connection failed: {panic}"));
                    Ok(())
                }));
            }
        }
    }
}

async fn connection(
    mut downstream: Stream,
    upstream: Address,
    traffic: Traffic,
    drain: CancellationToken,
) -> Result<(), FilterError> {
    match traffic {
        Traffic::SshAgent => filter(downstream, &upstream, &drain).await,
        Traffic::Any => {
            let mut stream = timeout(CONNECT, upstream.connect())
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map_err(|source| FilterError::Connect { upstream: upstream.clone(), source })?;
            copy_bidirectional(&mut downstream, &mut stream).await.map_err(FilterError::Downstream)?;
            Ok(())
        }
    }
}

/// What is worth a line, each kind seldom: downstream can cause all of it at will.
#[derive(Default)]
struct Notes {
    limit: Seldom,
    accept: Seldom,
    upstream: Seldom,
    downstream: Seldom,
    fault: Seldom,
}

impl Notes {
    fn tell(&self, ended: Result<(), FilterError>) {
        let Err(error) = ended else { return };
        match error {
            // A client that goes away in the middle is everyday life.
            FilterError::Downstream(_) => {}
            FilterError::Request(_)
            | FilterError::RequestDeadline
            | FilterError::Malformed(_)
            | FilterError::WriteDeadline => self.downstream.note(&chain(&error)),
            FilterError::Connect { .. }
            | FilterError::Upstream(_)
            | FilterError::Answer(_)
            | FilterError::AnswerDeadline
            | FilterError::UpstreamGone => self.upstream.note(&chain(&error)),
        }
    }
}

/// Raises our descriptor limit as far as we may, and says how many connections fit below it.
fn connection_limit(traffic: Traffic) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused only if a limit above us changed meanwhile: then the old one is counted with.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let descriptors = getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let each = match traffic {
        Traffic::Any => 2,
        // An idle connection holds no descriptor upstream.
        Traffic::SshAgent => 1,
    };
    (descriptors.saturating_sub(RESERVED) / each).clamp(1, MAX_CONNECTIONS)
}

/// Far more than any agent has use for, and far less memory than its container has.
const MAX_CONNECTIONS: usize = 4096;

/// Descriptors for the runtime, the listener, and requests in flight.
const RESERVED: usize = 64;

/// After a failed accept, usually for want of descriptors: no spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(75);

/// For connecting without a filter.
const CONNECT: Duration = Duration::from_secs(10);

/// For open connections after the first signal.
const DRAIN: Duration = Duration::from_secs(2);

/// A relay that did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The signals.
    #[error("could not catch signals")]
    Signals(#[source] io::Error),
    /// The bound address.
    #[error("could not read the listener's address")]
    Address(#[source] io::Error),
}
