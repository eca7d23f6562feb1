//! The threads that carry connections: one for each CPU, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given to, and what it opens is opened there: no
//! wake-up crosses threads, and no lock is waited for. Every thread accepts; who takes a connection
//! in hands it on to a thread with fewer.

use std::{
    cell::Cell,
    io, net,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use tokio::{
    net::TcpStream,
    sync::{
        OwnedSemaphorePermit,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
};

/// One thread, as it sees itself among the others. `T` is what goes with a connection.
#[derive(Debug)]
pub struct Worker<T> {
    /// It and the others.
    pub team: Team<T>,
    handed: UnboundedReceiver<Handed<T>>,
}

/// All threads, as one of them sees them.
#[derive(Debug)]
pub struct Team<T> {
    number: usize,
    open: Arc<[AtomicUsize]>,
    // Each connection in there has its room: there are never more than there is room for.
    hands: Arc<[UnboundedSender<Handed<T>>]>,
}

/// One connection's place on a thread, until dropped.
#[derive(Debug)]
pub struct Place {
    open: Arc<[AtomicUsize]>,
    number: usize,
    _room: OwnedSemaphorePermit,
}

type Handed<T> = (net::TcpStream, T, Place);

/// How many threads there are to be: one for each CPU that this process may use.
pub fn count() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_WORKERS)
}

/// The number of the thread that this is called on. All that are no worker's count as the first.
pub fn here() -> usize {
    HERE.get()
}

/// Starts a thread for each of `work`, which lives as long as its work goes on.
///
/// # Errors
///
/// The kernel's.
pub fn start<T, W, F>(work: Vec<W>) -> io::Result<()>
where
    T: Send + 'static,
    W: FnOnce(Worker<T>) -> F + Send + 'static,
    F: Future<Output = ()>,
{
    for (worker, work) in Worker::team(work.len()).into_iter().zip(work) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let number = worker.team.number;
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            HERE.set(number);
            // It ends with the process, so that nothing that it keeps is lost.
            memory::cache_here();
            runtime.block_on(work(worker));
            // A name may still be waited for, on a thread of its own.
            runtime.shutdown_background();
        })?;
    }
    Ok(())
}

impl<T> Worker<T> {
    fn team(size: usize) -> Vec<Self> {
        let (hands, handed): (Vec<_>, Vec<_>) = (0..size).map(|_| unbounded_channel()).unzip();
        let (open, hands): (Arc<[_]>, Arc<[_]>) =
            ((0..size).map(|_| AtomicUsize::new(0)).collect(), hands.into());
        let worker = |(number, handed)| Self {
            team: Team { number, open: open.clone(), hands: hands.clone() },
            handed,
        };
        handed.into_iter().enumerate().map(worker).collect()
    }

    /// A connection that another thread took in. Cancel-safe.
    pub async fn handed(&mut self) -> Handed<T> {
        match self.handed.recv().await {
            Some(handed) => handed,
            // This thread holds the sending side too.
            None => std::future::pending().await,
        }
    }
}

impl<T> Team<T> {
    /// Where a connection should go that was taken in here.
    pub fn place(&self, room: OwnedSemaphorePermit) -> Place {
        let number = self.choose();
        self.open[number].fetch_add(1, Relaxed);
        Place { open: self.open.clone(), number, _room: room }
    }

    fn choose(&self) -> usize {
        let open = |number: usize| self.open[number].load(Relaxed);
        // Of several, the first: who comes now and then finds what was opened for the last time.
        let fewest = (0..self.open.len()).min_by_key(|number| open(*number)).unwrap_or(self.number);
        let (mine, least) = (open(self.number), open(fewest));
        if mine > least + least / SLACK || least == 0 { fewest } else { self.number }
    }

    /// Hands a connection to the thread where its place is. It comes back when that is this one.
    pub fn hand_over(&self, stream: TcpStream, with: T, place: Place) -> Option<(TcpStream, T, Place)> {
        if place.number == self.number {
            return Some((stream, with, place));
        }
        let stream = stream.into_std().ok()?;
        let refused = self.hands[place.number].send((stream, with, place)).err()?;
        // That thread is no more.
        let (stream, with, place) = refused.0;
        Some((TcpStream::from_std(stream).ok()?, with, place))
    }
}

impl<T> Clone for Team<T> {
    fn clone(&self) -> Self {
        Self { number: self.number, open: self.open.clone(), hands: self.hands.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open[self.number].fetch_sub(1, Relaxed);
    }
}

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// More threads would only spread what is kept between connections thinner.
pub const MAX_WORKERS: usize = 16;

/// A thread may have an eighth more than another before it hands a connection on, which costs
/// more than to keep it.
const SLACK: usize = 8;

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn room() -> OwnedSemaphorePermit {
        Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
    }

    fn team(size: usize) -> Vec<Team<()>> {
        Worker::team(size).into_iter().map(|worker| worker.team).collect()
    }

    #[test]
    fn connections_are_spread_evenly_whoever_takes_them_in() {
        for taker in 0..4 {
            let team = team(4);
            let places: Vec<_> = (0..400).map(|_| team[taker].place(room())).collect();
            for open in team[0].open.iter() {
                let open = open.load(Relaxed);
                assert!((90..=113).contains(&open), "{open}");
            }
            drop(places);
            assert!(team[0].open.iter().all(|open| open.load(Relaxed) == 0));
        }
    }

    #[test]
    fn two_connections_are_on_two_threads_and_one_after_another_on_the_same() {
        let team = team(2);
        for taker in [0, 1, 1, 0] {
            assert_eq!(team[taker].place(room()).number, 0);
        }
        let first = team[1].place(room());
        assert_eq!((first.number, team[0].place(room()).number, team[1].place(room()).number), (0, 1, 1));
    }
}
