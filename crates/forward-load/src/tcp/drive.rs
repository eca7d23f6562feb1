//! Many connections at once that each do one thing again and again: a thread for each CPU, with a
//! runtime of its own and its share of the connections, so that no task ever moves.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::stream::PATIENCE;
use super::throughput::Path;
use crate::interrupt::Interrupt;
use crate::measure::{Costs, Latencies, Window};
use crate::report::Errors;

/// What a thread's connections have done.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often.
    pub done: u64,
    /// How long each took.
    pub latencies: Latencies,
    /// What went wrong.
    pub errors: Errors,
}

/// A thread's tally, shared by its tasks.
pub type Shared = Rc<RefCell<Tally>>;

/// When a connection works.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Which one of all.
    pub index: usize,
    /// When the window began.
    pub start: Instant,
    /// When it ends: nothing is begun after it.
    pub end: Instant,
}

/// The result of a window.
#[derive(Debug)]
pub struct Driven {
    /// Of all threads.
    pub tally: Tally,
    /// How long it took until the last one was done.
    pub seconds: f64,
    /// What it cost.
    pub costs: Costs,
}

/// Runs `work` on `connections` connections for `duration`, each first made ready by `prepare`
/// outside of the window. One that cannot be made ready is an error, and does not work.
///
/// # Errors
///
/// No thread or runtime could be created.
pub fn drive<C, P, W>(
    path: &Path,
    connections: usize,
    duration: Duration,
    interrupt: &Interrupt,
    prepare: P,
    work: W,
) -> io::Result<Driven>
where
    C: 'static,
    P: AsyncFn(usize) -> io::Result<C> + Copy + Send + Sync + 'static,
    W: AsyncFn(C, Turn, Shared) + Copy + Send + Sync + 'static,
{
    let threads = crate::report::file::cpus().min(connections).max(1);
    let runtimes: Vec<_> = (0..threads)
        .map(|_| tokio::runtime::Builder::new_current_thread().enable_all().build())
        .collect::<Result<_, _>>()?;
    let (prepared, go) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    let (tallies, window) = std::thread::scope(|scope| {
        let running: Vec<_> = runtimes
            .into_iter()
            .enumerate()
            .map(|(thread, runtime)| {
                let (prepared, go) = (&prepared, &go);
                scope.spawn(move || {
                    let tasks = tokio::task::LocalSet::new();
                    let tally = Shared::default();
                    let share = (thread..connections).step_by(threads);
                    let ready = tasks.block_on(&runtime, ready(share, prepare, &tally));
                    prepared.wait();
                    go.wait();
                    tasks.block_on(&runtime, worked(ready, duration, work, &tally, interrupt));
                    // What stands still is let go with its runtime.
                    drop((tasks, runtime));
                    tally.take()
                })
            })
            .collect();
        prepared.wait();
        let window = Window::open(path.forwarder, path.backend);
        go.wait();
        let tallies: Vec<Tally> =
            running.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
        (tallies, window)
    });
    let seconds = window.began().elapsed().as_secs_f64();
    let mut tally = Tally::default();
    for of_thread in tallies {
        tally.done += of_thread.done;
        tally.latencies.add(&of_thread.latencies);
        tally.errors.merge(of_thread.errors);
    }
    Ok(Driven { tally, seconds, costs: window.close() })
}

async fn ready<C: 'static>(
    share: impl Iterator<Item = usize>,
    prepare: impl AsyncFn(usize) -> io::Result<C> + Copy + 'static,
    tally: &Shared,
) -> Vec<(usize, C)> {
    let mut tasks = JoinSet::new();
    for index in share {
        tasks.spawn_local(async move { (index, tokio::time::timeout(PATIENCE, prepare(index)).await) });
    }
    let mut ready = Vec::new();
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok((index, Ok(Ok(connection)))) => ready.push((index, connection)),
            Ok((_, Ok(Err(error)))) => {
                tally.borrow_mut().errors.add("connect", format_args!("could not connect: {error}"));
            }
            Ok((_, Err(_))) => tally.borrow_mut().errors.add("timeout", "could not connect: no answer"),
            Err(_) => tally.borrow_mut().errors.add("connect", "could not connect"),
        }
    }
    ready
}

async fn worked<C: 'static>(
    ready: Vec<(usize, C)>,
    duration: Duration,
    work: impl AsyncFn(C, Turn, Shared) + Copy + 'static,
    tally: &Shared,
    interrupt: &Interrupt,
) {
    let start = Instant::now();
    let end = start + duration;
    let mut tasks = JoinSet::new();
    for (index, connection) in ready {
        let tally = Rc::clone(tally);
        tasks.spawn_local(async move { work(connection, Turn { index, start, end }, tally).await });
    }
    // One limit for all, so that a single act costs no timer.
    let patience = tokio::time::sleep_until((end + PATIENCE).into());
    tokio::pin!(patience);
    loop {
        tokio::select! {
            task = tasks.join_next() => if task.is_none() { return },
            () = &mut patience => {
                let left = tasks.len() as u64;
                tally.borrow_mut().errors.add_many("timeout", left, "no answer came");
                return;
            }
            () = interrupt.asked() => return,
        }
    }
}
