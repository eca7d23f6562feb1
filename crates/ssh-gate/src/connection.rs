//! One connection: from its accept to the line that tells its story.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use sidecar::log::Coalesced;
use sidecar::ports::{Forward, Protocol};
use sidecar::upstream::Upstream;
use sidecar::workers::{Place, Team};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connect::Dialer;
use crate::copy::{self, Copying};
use crate::end::{End, Ended, Limits, Side};
use crate::failed::{failed, taken};
use crate::meter::Meter;

/// What is shared by all connections.
#[derive(Debug)]
pub(crate) struct Gate {
    limits: Limits,
    places: Arc<Semaphore>,
    own: Vec<SocketAddr>,
    /// The connections that are open.
    pub(crate) open: TaskTracker,
    /// Cancelled at the drain's deadline: what is still open then is cut.
    pub(crate) cut: CancellationToken,
}

/// The gate on one thread.
#[derive(Debug)]
pub(crate) struct Share {
    gate: Arc<Gate>,
    team: Team<Arrival>,
    cut: CancellationToken,
}

/// What goes with a connection from thread to thread: its row, and who it is.
pub(crate) type Arrival = (Arc<Row>, SocketAddr);

/// One row at work.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) alias: String,
    upstream: Upstream,
    protocol: Protocol,
    dialer: Dialer,
    /// What it counts.
    pub(crate) meter: Arc<Meter>,
    /// Lines of connections that a hostile peer can end as fast as it makes them.
    over_limit: Arc<Coalesced>,
    fruitless: Arc<Coalesced>,
}

impl Gate {
    /// `own` is where the gate itself listens.
    pub(crate) fn new(limits: Limits, own: Vec<SocketAddr>) -> Self {
        Self {
            limits,
            places: Arc::new(Semaphore::new(limits.connections)),
            own,
            open: TaskTracker::new(),
            cut: CancellationToken::new(),
        }
    }

    async fn carry(
        &self,
        row: &Row,
        downstream: TcpStream,
        copying: &Copying,
        cut: &CancellationToken,
    ) -> Ended {
        let upstream = match self.connecting(row, &downstream, cut).await {
            Ok(upstream) => upstream,
            Err(ended) => {
                if ended.end == End::Reset {
                    let _ = SockRef::from(&downstream).set_linger(Some(Duration::ZERO));
                }
                return ended;
            }
        };
        row.meter.connected(copying.since.elapsed());
        copy::copy(row.protocol, &downstream, &upstream, &self.limits, copying, cut).await
    }

    /// Boxed, and by a function that is not async itself: an established connection should not go on
    /// holding the room that connecting took.
    fn connecting<'a>(
        &'a self,
        row: &'a Row,
        downstream: &'a TcpStream,
        cut: &'a CancellationToken,
    ) -> Pin<Box<impl Future<Output = Result<TcpStream, Ended>> + 'a>> {
        Box::pin(self.connect(row, downstream, cut))
    }

    async fn connect(
        &self,
        row: &Row,
        downstream: &TcpStream,
        cut: &CancellationToken,
    ) -> Result<TcpStream, Ended> {
        let mut connecting = pin!(row.dialer.connect(&row.upstream, &self.own, self.limits.connect));
        let connected = tokio::select! {
            biased;
            connected = &mut connecting => connected,
            () = failed(downstream) => {
                // What it sent before it reset is still the upstream's, if that takes it now.
                match tokio::time::timeout(LAST_CALL, connecting).await {
                    Ok(connected) => connected,
                    Err(_) => return Err(Ended::fault(Side::Downstream, &taken(downstream))),
                }
            }
            () = cut.cancelled() => return Err(Ended::by_gate(End::Drain)),
        };
        connected.map_err(|error| Ended::unconnected(&error))
    }
}

impl Share {
    /// The gate on the thread that is `team`'s.
    pub(crate) fn new(gate: Arc<Gate>, team: Team<Arrival>) -> Self {
        // Its own, so that asking it waits for no other thread.
        let cut = gate.cut.child_token();
        Self { gate, team, cut }
    }

    /// Finds an accepted connection a thread to be forwarded on, or closes it when there is no place.
    pub(crate) fn admit(self: &Arc<Self>, row: &Arc<Row>, downstream: TcpStream, peer: SocketAddr) {
        let Ok(room) = self.gate.places.clone().try_acquire_owned() else {
            // Counted first: who sees it closed may ask at once.
            row.meter.refuse(End::Limit);
            drop(downstream);
            let row = row.clone();
            row.over_limit.clone().count(move |count| {
                row.closed(peer, &Copying::default(), &Ended::by_gate(End::Limit), Some(count));
            });
            return;
        };
        let (place, arrival) = (self.team.place(room), (row.clone(), peer));
        if let Some((downstream, arrival, place)) = self.team.hand_over(downstream, arrival, place) {
            self.forward(downstream, arrival, place);
        }
    }

    /// Forwards a connection on this thread, in a task of its own.
    pub(crate) fn forward(self: &Arc<Self>, downstream: TcpStream, (row, peer): Arrival, place: Place) {
        let share = self.clone();
        self.gate.open.spawn(async move {
            let _place = place;
            let metered = row.meter.open();
            let ended = share.gate.carry(&row, downstream, &metered.copying, &share.cut).await;
            let copying = metered.close(ended.end);
            if matches!(ended.end, End::ConnectFailed | End::NotSsh) {
                row.fruitless.clone().count(move |count| {
                    row.closed(peer, &copying, &ended, (count > 1).then_some(count));
                });
            } else {
                row.closed(peer, &copying, &ended, None);
            }
        });
    }
}

impl Row {
    /// A row of the table, ready to be used.
    pub(crate) fn new(forward: &Forward) -> Self {
        Self {
            alias: forward.alias.clone(),
            upstream: forward.upstream.clone(),
            protocol: forward.protocol,
            dialer: Dialer::default(),
            meter: Arc::default(),
            over_limit: Arc::default(),
            fruitless: Arc::new(Coalesced::new(FRUITLESS)),
        }
    }

    fn closed(&self, peer: SocketAddr, copying: &Copying, ended: &Ended, count: Option<u64>) {
        let duration_ms = u64::try_from(copying.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            event = "closed",
            alias = self.alias.as_str(),
            peer = %peer,
            upstream = %self.upstream,
            up_bytes = copying.up.bytes(),
            down_bytes = copying.down.bytes(),
            duration_ms,
            end = ended.end.word(),
            side = ended.side.word(),
            error = ended.error.as_deref(),
            count,
        );
    }
}

/// How many connections a second of one row that came to nothing have a line each.
const FRUITLESS: u32 = 100;

/// For an upstream that is about to accept, when its client has already reset: a round trip.
const LAST_CALL: Duration = Duration::from_secs(1);
