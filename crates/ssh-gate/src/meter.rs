//! What the gate counts, a row at a time, and how it tells it.
//!
//! A connection counts only its own bytes, as its closing line needs them anyway. Who asks
//! adds up what is open; what has ended was added to its row then. So a byte costs one counter that no
//! other connection touches, and a long connection is seen while it is open.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sidecar::listen::Troubles;
use sidecar::metrics::{Exposition, Histogram, Kind};

use crate::copy::Copying;
use crate::end::End;

/// The counts of one row.
#[derive(Debug)]
pub(crate) struct Meter {
    counted: Mutex<Counted>,
    connect: Histogram,
}

/// A connection while it is open. Dropped silently, as by a panic, it counts as an error.
#[derive(Debug)]
pub(crate) struct Metered {
    /// What it carries.
    pub(crate) copying: Arc<Copying>,
    meter: Arc<Meter>,
    place: usize,
    end: End,
}

#[derive(Debug, Default)]
struct Counted {
    /// The open connections; a place is used again, so that this is as long as the most at once.
    open: Vec<Option<Arc<Copying>>>,
    free: Vec<usize>,
    ended: [u64; End::ALL.len()],
    up: u64,
    down: u64,
}

/// Up to the default `--connect-timeout`: loopback, a local network, a continent, a retried SYN (1 s, 3 s).
const CONNECT_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Default for Meter {
    fn default() -> Self {
        Self { counted: Mutex::default(), connect: Histogram::new(CONNECT_SECONDS) }
    }
}

impl Meter {
    /// A connection was accepted.
    pub(crate) fn open(self: &Arc<Self>) -> Metered {
        let copying = Arc::new(Copying::default());
        let mut counted = self.counted();
        let place = counted.free.pop().unwrap_or(counted.open.len());
        let kept = Some(copying.clone());
        match counted.open.get_mut(place) {
            Some(free) => *free = kept,
            None => counted.open.push(kept),
        }
        Metered { copying, meter: self.clone(), place, end: End::Error }
    }

    /// One was closed as soon as it was accepted.
    pub(crate) fn refuse(&self, end: End) {
        self.counted().ended[end as usize] += 1;
    }

    /// An upstream was connected in so long.
    pub(crate) fn connected(&self, took: Duration) {
        self.connect.observe(took);
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        // Numbers stay numbers, whoever panicked beside them.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Read {
        let counted = self.counted();
        let open = counted.open.iter().flatten();
        let (up, down) = open.fold((counted.up, counted.down), |(up, down), copying| {
            (up + copying.up.bytes(), down + copying.down.bytes())
        });
        let open = counted.open.len() - counted.free.len();
        Read { open: open as u64, ended: counted.ended, bytes: [("up", up), ("down", down)] }
    }
}

impl Metered {
    /// It has ended.
    pub(crate) fn close(mut self, end: End) -> Arc<Copying> {
        self.end = end;
        self.copying.clone()
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let mut counted = self.meter.counted();
        counted.open[self.place] = None;
        counted.free.push(self.place);
        counted.ended[self.end as usize] += 1;
        counted.up += self.copying.up.bytes();
        counted.down += self.copying.down.bytes();
    }
}

/// The counts of all rows.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    rows: Vec<(String, Arc<Meter>)>,
    troubles: Vec<Arc<Troubles>>,
}

/// A row's numbers at one moment.
struct Read {
    open: u64,
    ended: [u64; End::ALL.len()],
    bytes: [(&'static str, u64); 2],
}

impl Meters {
    /// One more row, with what goes wrong at its listener.
    pub(crate) fn add(&mut self, alias: &str, meter: Arc<Meter>, troubles: Arc<Troubles>) {
        self.rows.push((alias.to_owned(), meter));
        self.troubles.push(troubles);
    }

    /// Writes every family of the gate.
    pub(crate) fn write(&self, text: &mut Exposition, draining: bool) {
        let rows = &self.rows;
        let read: Vec<_> = rows.iter().map(|(alias, meter)| (alias.as_str(), meter.read())).collect();
        let accept_errors = self.troubles.iter().map(|troubles| troubles.failed()).sum();

        let mut family = text.family("ssh_gate_connections_open", Kind::Gauge, "Connections that are open.");
        for (alias, row) in &read {
            family.sample(&[("alias", alias)], row.open);
        }
        let help = "Connections that have ended, by how.";
        let mut family = text.family("ssh_gate_connections_total", Kind::Counter, help);
        for (alias, row) in &read {
            for (end, count) in End::ALL.iter().zip(row.ended) {
                family.sample(&[("alias", alias), ("end", end.word())], count);
            }
        }
        let help = "Bytes delivered, up to the upstream and down to the client.";
        let mut family = text.family("ssh_gate_bytes_total", Kind::Counter, help);
        for (alias, row) in &read {
            for (direction, bytes) in row.bytes {
                family.sample(&[("alias", alias), ("direction", direction)], bytes);
            }
        }
        let help = "From an accept to a connected upstream, its name resolved.";
        let mut family = text.family("ssh_gate_connect_seconds", Kind::Histogram, help);
        for (alias, meter) in rows {
            family.histogram(&[("alias", alias)], &meter.connect);
        }
        text.family("ssh_gate_accept_errors_total", Kind::Counter, "Accepts that failed.")
            .sample(&[], accept_errors);
        text.family("ssh_gate_draining", Kind::Gauge, "1 from the signal to the end, else 0.")
            .sample(&[], u64::from(draining));
    }
}
