//! Load: many connections that ask over and over, for a window of time or a number of requests.
//!
//! In closed loop a connection sends its next request when the last one was answered; in open
//! loop at fixed moments, and latency counts from the moment that was meant. Requests in flight
//! when the window ends may still be answered within [`GRACE`]; what is not by then is an error.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{link::Request, target::Target, worker};
use crate::{
    interrupt::Interrupt,
    measure::{Costs, Latencies, Window, process::Tree},
    report::{Errors, file::cpus},
};

/// What is to be sent, and how.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where to.
    pub target: Target,
    /// What.
    pub request: Request,
    /// By how many connections.
    pub connections: usize,
    /// Requests per second of all connections together; none in closed loop.
    pub rate: Option<f64>,
    /// Whether every request has a connection of its own.
    pub new_connections: bool,
    /// What a connection does.
    pub job: Job,
    /// For how long.
    pub until: Until,
    /// The forwarder's process, to be measured.
    pub forwarder: Option<u32>,
    /// The origin's process, to be measured.
    pub backend: Option<u32>,
}

/// What a connection does with its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Reads the answer and sends the request again.
    Exchange,
    /// As before, with bodies so long that one may well not end within the window.
    Transfer,
    /// Reads the events of one answer.
    Events,
}

/// When the window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this long, with a warm-up before it.
    Time(Duration),
    /// After so many requests, or after [`COUNT_WITHIN`].
    Count(u64),
}

/// Its result.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How long the window was, in seconds.
    pub seconds: f64,
    /// Requests answered, or events received, in the window.
    pub completed: u64,
    /// Bytes of content that moved in the window.
    pub bytes: u64,
    /// How long each took; of an event, its delay.
    pub latencies: Latencies,
    /// Whether latency counts from the intended start.
    pub corrected: bool,
    /// The longest time from a request to its first event.
    pub first_event: Option<Duration>,
    /// What went wrong, in the warm-up too.
    pub errors: Errors,
    /// What it cost.
    pub costs: Costs,
    /// Whether it was ended early.
    pub interrupted: bool,
}

/// What the connections of one thread gather.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) completed: u64,
    pub(super) latencies: Latencies,
    pub(super) errors: Errors,
    pub(super) first_event: Option<Duration>,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) load: Load,
    pub(super) start: Instant,
    pub(super) end: Instant,
    /// Requests that may still begin, when they are counted.
    pub(super) left: AtomicU64,
    pub(super) moved: Arc<AtomicU64>,
}

/// Runs a load and waits for its end.
///
/// # Errors
///
/// No threads for it.
pub fn run(load: &Load, interrupt: &Interrupt) -> io::Result<Outcome> {
    let (warm_up, length, left) = match load.until {
        Until::Time(time) => (WARM_UP.min(time / 2).max(Duration::from_millis(100)), time, u64::MAX),
        Until::Count(count) => (Duration::ZERO, COUNT_WITHIN, count),
    };
    let start = Instant::now() + warm_up;
    let shared = Arc::new(Shared {
        load: load.clone(),
        start,
        end: start + length,
        left: AtomicU64::new(left),
        moved: Arc::default(),
    });
    // Idle is before the first connection; the window begins with all of them open.
    let idle = load.forwarder.map(|pid| Tree::new(pid).look().resident);
    let open = || Window::open(load.forwarder, load.backend);
    // What is counted is in the window from its first byte; what is timed, once it is warm.
    let whole = matches!(load.until, Until::Count(_)).then(open);
    let threads = begin(&shared, interrupt)?;
    let (window, before) = match whole {
        Some(window) => (window, 0),
        None => {
            interrupt.sleep(start.saturating_duration_since(Instant::now()));
            (open(), shared.moved.load(Ordering::Relaxed))
        }
    };
    match load.until {
        Until::Time(_) => {
            interrupt.sleep(shared.end.saturating_duration_since(Instant::now()));
        }
        Until::Count(_) => {
            while !threads.iter().all(|(thread, _)| thread.is_finished()) {
                thread::sleep(Duration::from_micros(500));
            }
        }
    }
    let bytes = shared.moved.load(Ordering::Relaxed) - before;
    let mut costs = window.close();
    if let (Some(forwarder), Some(idle)) = (&mut costs.forwarder, idle) {
        forwarder.resident_before = idle;
    }
    let mut all = Tally::default();
    for (thread, tally) in threads {
        if thread.join().is_err() {
            all.errors.add("tool", "a thread of the load side panicked");
        }
        let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        all.completed += tally.completed;
        all.latencies.add(&tally.latencies);
        all.errors.merge(tally.errors.clone());
        all.first_event = all.first_event.max(tally.first_event);
    }
    if bytes == 0 && load.job == Job::Transfer && all.errors.total() == 0 && !interrupt.came() {
        all.errors.add("timeout", "no byte of content moved in the whole window");
    }
    Ok(Outcome {
        seconds: match load.until {
            // The window that answers were counted in; we woke a little later than it ended.
            Until::Time(time) if !interrupt.came() => time.as_secs_f64(),
            _ => costs.seconds,
        },
        completed: all.completed,
        bytes,
        latencies: all.latencies,
        corrected: load.rate.is_some(),
        first_event: all.first_event,
        errors: all.errors,
        costs,
        interrupted: interrupt.came(),
    })
}

type Thread = (thread::JoinHandle<()>, Arc<Mutex<Tally>>);

/// One runtime per thread, and connections that stay on theirs: a work-stealing runtime would
/// spend the forwarder's CPU time on moving them about.
fn begin(shared: &Arc<Shared>, interrupt: &Interrupt) -> io::Result<Vec<Thread>> {
    let count = cpus().min(shared.load.connections).max(1);
    (0..count)
        .map(|first| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let tally: Arc<Mutex<Tally>> = Arc::default();
            let (shared, gathered, interrupt) = (Arc::clone(shared), Arc::clone(&tally), interrupt.clone());
            let thread = thread::Builder::new().name(format!("load-{first}")).spawn(move || {
                runtime.block_on(async {
                    let mut connections = tokio::task::JoinSet::new();
                    for index in (first..shared.load.connections).step_by(count) {
                        let (shared, tally) = (Arc::clone(&shared), Arc::clone(&gathered));
                        connections.spawn(async move { worker::connection(&shared, index, &tally).await });
                    }
                    tokio::select! {
                        () = interrupt.asked() => {}
                        () = async { while connections.join_next().await.is_some() {} } => {}
                    }
                });
            })?;
            Ok((thread, tally))
        })
        .collect()
}

/// How long answers may take after the window's end.
pub const GRACE: Duration = Duration::from_secs(3);

/// How long a counted load may take.
pub const COUNT_WITHIN: Duration = Duration::from_secs(180);

/// How long load runs before it is measured: connections are opened, pools filled.
const WARM_UP: Duration = Duration::from_millis(400);
