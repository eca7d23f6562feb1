//! A window: what the forwarder, the load side, the backend and the rest of the machine used
//! between two moments.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::machine::{Counters, MachineUse};
use super::process::{Look, ProcessUse, TICKS_PER_SECOND, Tree, own_ticks, ticks_with_waited};
use super::tracked::{Table, Watch};

/// What a window cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Costs {
    /// How long it was.
    pub seconds: f64,
    /// The forwarder's processes; none when there is no forwarder, or it was not named.
    pub forwarder: Option<ProcessUse>,
    /// CPU time of the load side (this process), in seconds, and of what it started and stopped in
    /// the window.
    pub load_cpu_seconds: f64,
    /// CPU time of the backend, in seconds; none when it runs elsewhere.
    pub backend_cpu_seconds: Option<f64>,
    /// The machine.
    pub machine: MachineUse,
}

/// An open window.
#[derive(Debug)]
pub struct Window {
    began: Instant,
    machine: Counters,
    load: u64,
    backend: Option<(u32, u64)>,
    sampler: Option<Sampler>,
    tracked: Option<Watch>,
}

/// The thread that looks at the forwarder, and what ends it when dropped.
type Sampler = (mpsc::Sender<()>, JoinHandle<(ProcessUse, u64)>);

impl Window {
    /// Opens a window now, for the tree of `forwarder` and the process `backend`.
    pub fn open(forwarder: Option<u32>, backend: Option<u32>) -> Self {
        let sampler = forwarder.and_then(|root| {
            let mut tree = Tree::new(root);
            let first = tree.look();
            let (end, ended) = mpsc::channel();
            let sample = move || sample(tree, first, &ended);
            let thread = std::thread::Builder::new().name("sampler".into()).spawn(sample).ok()?;
            Some((end, thread))
        });
        let backend = backend.and_then(|pid| Some((pid, own_ticks(pid)?)));
        let load = ticks_with_waited(std::process::id()).unwrap_or(0);
        let tracked = Table::of_the_kernel().watch();
        Self { machine: Counters::now(), load, backend, sampler, tracked, began: Instant::now() }
    }

    /// Since when it is open.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Closes it.
    #[allow(clippy::cast_precision_loss, reason = "ticks of a window are exact in an f64")]
    pub fn close(self) -> Costs {
        let seconds = self.began.elapsed().as_secs_f64();
        let machine = Counters::now();
        let load = ticks_with_waited(std::process::id()).unwrap_or(0).saturating_sub(self.load);
        let backend = self.backend.and_then(|(pid, before)| Some(own_ticks(pid)?.saturating_sub(before)));
        let forwarder = self.sampler.map(|(end, thread)| {
            drop(end);
            thread.join().unwrap_or_default()
        });
        let ours = load + backend.unwrap_or(0) + forwarder.map_or(0, |(_, ticks)| ticks);
        let cpu = |ticks: u64| ticks as f64 / TICKS_PER_SECOND as f64;
        Costs {
            seconds,
            forwarder: forwarder.map(|(used, _)| used),
            load_cpu_seconds: cpu(load),
            backend_cpu_seconds: backend.map(cpu),
            machine: MachineUse {
                tracked_share: self.tracked.and_then(Watch::peak),
                ..machine.since(&self.machine, ours)
            },
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "ticks of a window are exact in an f64")]
fn sample(mut tree: Tree, first: Look, ended: &mpsc::Receiver<()>) -> (ProcessUse, u64) {
    let mut used = ProcessUse {
        resident_before: first.resident,
        descriptors_before: first.descriptors,
        ..ProcessUse::default()
    };
    let mut look = first;
    let mut pause = EVERY;
    loop {
        used.saw(&look);
        let end = ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout);
        let began = Instant::now();
        look = tree.look();
        if end {
            break;
        }
        // A tree of a thousand processes takes long to look at, and that time is the machine's.
        pause = EVERY.max(began.elapsed() * 30);
    }
    used.saw(&look);
    used.cpu_seconds = look.ticks as f64 / TICKS_PER_SECOND as f64;
    let ticks = look.ticks;
    let ended = Instant::now();
    while look.alive && look.descriptors > used.descriptors_before && ended.elapsed() < SETTLES_WITHIN {
        std::thread::sleep(EVERY / 4);
        look = tree.look();
    }
    used.resident_after = look.resident;
    used.descriptors_after = look.descriptors;
    used.ended = !look.alive;
    (used, ticks)
}

/// How often a forwarder is looked at: each look costs a millisecond or two.
const EVERY: Duration = Duration::from_millis(100);

/// How long a forwarder may take to close what the load has closed; what is open then was leaked, or
/// is kept on purpose.
const SETTLES_WITHIN: Duration = Duration::from_millis(1500);
