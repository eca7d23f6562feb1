//! One connection of a load, from its first request to the end of the window.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout_at};

use super::{
    events::Events,
    fault::Fault,
    link::{Expect, Link},
    load::{GRACE, Job, Shared, Tally, Until},
};
use crate::measure::pace::{Alarm, Schedule};

/// Runs a connection until the window ends.
pub(super) async fn connection(shared: &Shared, index: usize, tally: &Mutex<Tally>) {
    let worker = Worker { shared, tally };
    match (shared.load.job, shared.load.rate) {
        (Job::Events, _) => worker.events().await,
        (_, Some(rate)) => worker.open_loop(rate, index).await,
        (_, None) => worker.closed_loop().await,
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    tally: &'a Mutex<Tally>,
}

impl Worker<'_> {
    async fn closed_loop(&self) {
        let mut link = None;
        let counted = matches!(self.shared.load.until, Until::Count(_));
        while Instant::now() < self.shared.end && (!counted || self.take_one()) {
            let began = Instant::now();
            let outcome = self.within(self.ask(&mut link)).await;
            self.note(began, outcome);
            self.recover(outcome).await;
        }
    }

    async fn open_loop(&self, rate: f64, index: usize) {
        let Shared { load, start, end, .. } = self.shared;
        let Ok(alarm) = Alarm::new() else {
            return self.tally().errors.add("tool", "no descriptor left for a timer");
        };
        let mut link = None;
        // One unmeasured request opens the connection and fills the forwarder's pool.
        if let Err(fault) = self.within(self.ask(&mut link)).await {
            fault.count_in(&mut self.tally().errors);
        }
        let mut schedule = Schedule::share(*start, rate, index, load.connections);
        loop {
            let intended = schedule.next_start();
            if intended >= *end {
                return;
            }
            if Instant::now() >= *end + GRACE {
                // Arrivals that waited for answers until nobody waits any more.
                self.tally().errors.add("timeout", "the request could not even be sent in time");
                continue;
            }
            if alarm.until(intended).await.is_err() {
                return self.tally().errors.add("tool", "a timer could not be set");
            }
            let outcome = self.within(self.ask(&mut link)).await;
            self.note(intended, outcome);
            self.recover(outcome).await;
        }
    }

    async fn events(&self) {
        let Shared { load, start, end, moved, .. } = self.shared;
        let mut last = Instant::now();
        while Instant::now() < *end {
            let (mut events, mut first) = (Events::default(), None);
            let asked = Instant::now();
            let stream = async {
                let mut link = Link::open(&load.target, BUFFER, Arc::clone(moved)).await?;
                link.stream(&load.request, |content| {
                    let now = Instant::now();
                    let mut tally = self.tally();
                    events.take(content, |delay| {
                        last = now;
                        first.get_or_insert(now - asked);
                        if (*start..*end).contains(&now) {
                            tally.completed += 1;
                            tally.latencies.record(delay);
                        }
                    })?;
                    Ok(now < *end)
                })
                .await
            };
            // Between two events the window's end is waited for, not an answer.
            let outcome = timeout_at((*end).into(), stream).await.unwrap_or(Ok(()));
            {
                let mut tally = self.tally();
                tally.first_event = tally.first_event.max(first);
            }
            if let Err(fault) = outcome {
                fault.count_in(&mut self.tally().errors);
            }
            self.recover(outcome).await;
        }
        if end.saturating_duration_since(last) > SILENCE {
            Fault::EventsSilent.count_in(&mut self.tally().errors);
        }
    }

    /// One request on the open connection, or on a new one.
    async fn ask(&self, link: &mut Option<Link>) -> Result<(), Fault> {
        let Shared { load, moved, .. } = self.shared;
        let mut open = match link.take().filter(Link::is_open) {
            Some(open) => open,
            None => Link::open(&load.target, buffer(&load.request.expect), Arc::clone(moved)).await?,
        };
        open.exchange(&load.request).await?;
        *link = Some(open).filter(|_| !load.new_connections);
        Ok(())
    }

    /// Gives up on an answer that does not come after the window's end.
    async fn within(&self, answer: impl Future<Output = Result<(), Fault>>) -> Result<(), Fault> {
        let Shared { load, end, .. } = self.shared;
        if load.job == Job::Transfer && matches!(load.until, Until::Time(_)) {
            // Cut short by us; that nothing moved at all would be seen in the sum.
            return timeout_at((*end).into(), answer).await.unwrap_or(Err(Fault::Cut));
        }
        timeout_at((*end + GRACE).into(), answer).await.unwrap_or(Err(Fault::Timeout))
    }

    fn note(&self, began: Instant, outcome: Result<(), Fault>) {
        let Shared { start, end, .. } = self.shared;
        let now = Instant::now();
        let mut tally = self.tally();
        match outcome {
            Ok(()) => {
                if (*start..=*end).contains(&now) {
                    tally.completed += 1;
                }
                if began >= *start {
                    tally.latencies.record(now - began);
                }
            }
            Err(Fault::Cut) => {}
            Err(fault) => fault.count_in(&mut tally.errors),
        }
    }

    /// A forwarder that refuses is not asked a million times.
    async fn recover(&self, outcome: Result<(), Fault>) {
        if outcome.is_err() {
            sleep(PAUSE).await;
        }
    }

    fn take_one(&self) -> bool {
        let left: &AtomicU64 = &self.shared.left;
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn buffer(expect: &Expect) -> usize {
    if matches!(expect, Expect::Pattern(size) if *size > BUFFER as u64) { LARGE_BUFFER } else { BUFFER }
}

/// What a small answer is read into.
const BUFFER: usize = 16 * 1024;

/// What a large one is read into.
const LARGE_BUFFER: usize = 128 * 1024;

/// How long a connection rests after an error.
const PAUSE: Duration = Duration::from_millis(10);

/// A hundred events.
const SILENCE: Duration = Duration::from_secs(1);
