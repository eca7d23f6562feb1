//! The kernel's table of tracked connections (nf_conntrack), which many short connections fill.
//!
//! Where a firewall looks at connections, as with Docker's rules, the kernel tracks each of them, on
//! loopback, too: two entries for each that is forwarded, kept for two minutes after its end. From a
//! full table it drops what is new, and connections through every forwarder time out alike.
//!
//! Only looked at and waited for: nothing here changes the system. Without such a table there is
//! nothing to see and nothing to wait for.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::interrupt::Interrupt;

/// The table, by the folder of its settings.
#[derive(Debug, Clone)]
pub struct Table {
    folder: PathBuf,
}

/// How full it is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Entries.
    pub tracked: u64,
    /// The most that it takes.
    pub most: u64,
}

/// A thread that notes how full the table gets.
#[derive(Debug)]
pub struct Watch {
    end: mpsc::Sender<()>,
    thread: JoinHandle<f64>,
}

impl Table {
    /// That of the network namespace that we are in.
    pub fn of_the_kernel() -> Self {
        Self::at("/proc/sys/net/netfilter")
    }

    /// One whose settings are files of this folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// How full it is now; none where nothing is tracked.
    pub fn fill(&self) -> Option<Fill> {
        let (tracked, most) = (self.number("nf_conntrack_count")?, self.number("nf_conntrack_max")?);
        (most > 0).then_some(Fill { tracked, most })
    }

    /// Waits until there is room for so many entries more, but no longer than closed connections are
    /// kept; `say` gets the reason for the wait, once. Returns whether there is room.
    pub fn wait_for_room(&self, entries: u64, interrupt: &Interrupt, say: impl FnOnce(String)) -> bool {
        let has_room = || self.fill().is_none_or(|fill| fill.has_room_for(entries));
        let Some(fill) = self.fill().filter(|fill| !fill.has_room_for(entries)) else { return true };
        let kept = self.number("nf_conntrack_tcp_timeout_time_wait").unwrap_or(KEPT);
        let at_most = Duration::from_secs(kept.min(LONGEST)) + SPARE;
        say(format!(
            "waiting, at most {} s, for room in the kernel's table of tracked connections: {} of {}, and up to \
             {entries} more in the next window",
            at_most.as_secs(),
            fill.tracked,
            fill.most
        ));
        let until = Instant::now() + at_most;
        while !has_room() && Instant::now() < until && interrupt.sleep(Duration::from_millis(200)) {}
        has_room()
    }

    /// Notes from now on how full it gets.
    pub fn watch(self) -> Option<Watch> {
        let mut peak = self.fill()?.share();
        let (end, ended) = mpsc::channel();
        let watch = move || loop {
            let is_end = ended.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
            peak = self.fill().map_or(peak, |fill| peak.max(fill.share()));
            if is_end {
                return peak;
            }
        };
        let thread = std::thread::Builder::new().name("tracked".into()).spawn(watch).ok()?;
        Some(Watch { end, thread })
    }

    fn number(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(name)).ok()?.trim().parse().ok()
    }
}

impl Fill {
    /// How much of it is in use, 0 to 1.
    #[allow(clippy::cast_precision_loss, reason = "entries are counted in millions")]
    pub fn share(&self) -> f64 {
        self.tracked as f64 / self.most as f64
    }

    /// Whether so many entries more leave it less than nearly full. A table that is smaller than
    /// twice that has room when half of it is free: more would be waited for in vain.
    pub fn has_room_for(&self, entries: u64) -> bool {
        let usable = self.most / 100 * 95;
        self.tracked + entries.min(usable / 2) <= usable
    }
}

impl Watch {
    /// The most that was in use, 0 to 1.
    pub fn peak(self) -> Option<f64> {
        drop(self.end);
        self.thread.join().ok()
    }
}

/// The entries that a window leaves in which a connection is forwarded as soon as another has ended:
/// two for each, but none more for an address and port that an entry is there for already.
pub fn entries_of(window: Duration) -> u64 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ports = ports(&range).unwrap_or(65_536);
    let opened = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).saturating_mul(MOST_PER_MILLISECOND);
    2 * opened.min(ports)
}

fn ports(range: &str) -> Option<u64> {
    let (first, last) = range.trim().split_once(char::is_whitespace)?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.trim().parse().ok()?);
    Some(last.checked_sub(first)? + 1)
}

/// From here on a table counts as nearly full: the kernel itself begins to clear it out then.
pub const NEARLY_FULL: f64 = 0.95;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// The kernel's own default of how many seconds it keeps a closed connection.
const KEPT: u64 = 120;

/// A kernel may be told to keep them for days.
const LONGEST: u64 = 300;

/// The kernel clears entries out in passes.
const SPARE: Duration = Duration::from_secs(10);

/// More than the bare path does on a machine of two CPUs.
const MOST_PER_MILLISECOND: u64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings with so many entries of at most 1000, kept for so long.
    fn table(tracked: &str, kept: &str) -> (tempfile::TempDir, Table) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("nf_conntrack_count", tracked),
            ("nf_conntrack_max", "1000\n"),
            ("nf_conntrack_tcp_timeout_time_wait", kept),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let table = Table::at(folder.path());
        (folder, table)
    }

    fn full_of(tracked: u64) -> Fill {
        Fill { tracked, most: 1000 }
    }

    #[test]
    fn there_is_room_when_the_table_does_not_get_nearly_full() {
        assert!(full_of(750).has_room_for(200) && !full_of(751).has_room_for(200));
        assert!(full_of(475).has_room_for(5000), "half of it is free, and more is not possible");
        assert!(!full_of(476).has_room_for(5000));
    }

    #[test]
    fn where_nothing_is_tracked_nothing_is_waited_for() {
        let none = Table::at("/nonexistent");
        assert!(none.wait_for_room(u64::MAX, &Interrupt::deaf(), |_| panic!("waits")));
        assert!(none.fill().is_none() && none.watch().is_none());
        let (_folder, odd) = table("many", "120");
        assert!(odd.wait_for_room(u64::MAX, &Interrupt::deaf(), |_| panic!("waits")));
    }

    #[test]
    fn a_wait_is_announced_once_and_ends_when_there_is_room() {
        let (folder, table) = table("990\n", "120\n");
        let mut said = Vec::new();
        let has_room = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                fs::write(folder.path().join("nf_conntrack_count"), "10").unwrap();
            });
            table.wait_for_room(200, &Interrupt::deaf(), |line| said.push(line))
        });
        assert!(has_room);
        assert_eq!(
            said,
            [
                "waiting, at most 130 s, for room in the kernel's table of tracked connections: 990 of 1000, and \
              up to 200 more in the next window"
            ]
        );
    }

    #[test]
    fn a_wait_ends_with_ctrl_c() {
        let (_folder, table) = table("990", "120");
        let interrupt = Interrupt::deaf();
        let has_room = table.wait_for_room(200, &interrupt, |_| interrupt.ask());
        assert!(!has_room);
    }

    #[test]
    fn a_wait_is_bounded_also_where_entries_are_kept_for_days() {
        let (_folder, table) = table("990", "432000");
        let interrupt = Interrupt::deaf();
        table.wait_for_room(200, &interrupt, |line| {
            assert!(line.starts_with("waiting, at most 310 s,"), "{line}");
            interrupt.ask();
        });
    }

    #[test]
    fn the_peak_is_kept_when_the_table_is_cleared_out() {
        let (folder, table) = table("100", "120");
        let count = folder.path().join("nf_conntrack_count");
        let watch = table.watch().unwrap();
        for tracked in ["990", "20"] {
            fs::write(&count, tracked).unwrap();
            // As long as three looks.
            std::thread::sleep(EVERY * 3);
        }
        assert_eq!(watch.peak(), Some(0.99));
    }

    #[test]
    fn the_ports_of_the_machine_bound_what_a_window_leaves() {
        assert_eq!(ports("32768\t60999\n"), Some(28_232));
        assert_eq!(ports(""), None);
        assert!(entries_of(Duration::from_millis(1)) == 100 && entries_of(Duration::MAX) <= 131_072);
    }
}
