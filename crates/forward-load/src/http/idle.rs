//! Idle client connections: what a proxy holds for them before any has asked, after each has asked
//! once, and after all have asked in the same moment.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{timeout, timeout_at},
};

use super::{
    fault::Fault,
    link::{Link, Request},
    target::Target,
};
use crate::{
    interrupt::Interrupt,
    measure::{
        Window,
        process::{Look, Tree},
    },
    report::{Errors, Sample, Unit},
};

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Idle {
    /// Where to.
    pub target: Target,
    /// What is asked.
    pub request: Request,
    /// By how many connections.
    pub connections: usize,
    /// How long all of them may take to be opened, to ask one after another, and to ask together.
    pub within: Duration,
    /// The forwarder's process.
    pub forwarder: u32,
    /// The origin's process, to be measured.
    pub backend: Option<u32>,
}

impl Idle {
    /// Measures it once. Each figure is of all connections: there is none of a moment at which one
    /// had been lost, and without the first there is no measurement.
    #[allow(clippy::cast_precision_loss, reason = "sizes of one machine are exact in an f64")]
    pub fn measure(&self, interrupt: &Interrupt) -> Sample {
        let mut sample = Sample::default();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Sample::failed("", format_args!("could not begin: {error}")),
        };
        let mut tree = Tree::new(self.forwarder);
        let window = Window::open(Some(self.forwarder), self.backend);
        let before = tree.look();
        let mut looks = Vec::new();
        runtime.block_on(async {
            tokio::select! {
                _ = self.rest_and_look(|| looks.push(tree.look()), &mut sample.errors) => {}
                () = interrupt.asked() => {}
            }
        });
        drop(runtime);
        let mut costs = window.close();
        if let Some(used) = &mut costs.forwarder {
            looks.iter().for_each(|look| used.saw(look));
        }
        sample.costs = Some(costs);
        sample.interrupted = interrupt.came();
        if let [unasked, one_each, ..] = looks[..] {
            sample.figure("after one each", one_each.resident as f64, Unit::Bytes);
            sample.figure("none asked", unasked.resident as f64, Unit::Bytes);
            if let Some(after) = looks.get(2) {
                sample.figure("after burst", after.resident as f64, Unit::Bytes);
            }
            let each =
                |of: fn(&Look) -> u64| (of(&unasked) as f64 - of(&before) as f64) / self.connections as f64;
            sample.figure("fds each", each(|look| look.descriptors), Unit::Ratio);
        } else if !sample.interrupted {
            let first = sample.errors.first.values().next().cloned();
            sample.failure = Some(first.unwrap_or_else(|| "not all connections could be kept open".into()));
        }
        sample
    }

    /// Goes on for as long as no connection is lost.
    async fn rest_and_look(&self, mut look: impl FnMut(), errors: &mut Errors) -> Option<()> {
        let links = self.open(errors).await?;
        let links = self.rest(links, errors).await?;
        look();
        let links = self.ask_in_turn(links, errors).await?;
        let links = self.rest(links, errors).await?;
        look();
        let links = self.ask_together(links, errors).await?;
        let _links = self.rest(links, errors).await?;
        look();
        Some(())
    }

    async fn open(&self, errors: &mut Errors) -> Option<Vec<Link>> {
        let end = Instant::now() + self.within;
        let mut links = Vec::new();
        while links.len() < self.connections {
            let link = Link::open(&self.target, 0, Arc::default());
            match timeout_at(end.into(), link).await.unwrap_or(Err(Fault::Timeout)) {
                Ok(link) => links.push(link),
                Err(fault) => {
                    // A forwarder that is full stays full.
                    fault.count_in(errors);
                    return None;
                }
            }
        }
        Some(links)
    }

    async fn ask_in_turn(&self, links: Vec<Link>, errors: &mut Errors) -> Option<Vec<Link>> {
        let end = Instant::now() + self.within;
        let mut kept = Vec::new();
        for link in links {
            match ask(link, &self.request, end).await {
                Ok(link) => kept.push(link),
                Err(fault) => fault.count_in(errors),
            }
        }
        self.all(kept)
    }

    async fn ask_together(&self, links: Vec<Link>, errors: &mut Errors) -> Option<Vec<Link>> {
        let end = Instant::now() + self.within;
        let request = Arc::new(self.request.clone());
        let asks = links.into_iter().map(|link| {
            let request = Arc::clone(&request);
            async move { ask(link, &request, end).await }
        });
        self.all(at_once(asks, errors).await)
    }

    /// Leaves all of them alone for a moment, in which nothing is to come on any.
    async fn rest(&self, links: Vec<Link>, errors: &mut Errors) -> Option<Vec<Link>> {
        let rests = links.into_iter().map(|mut link| async move {
            match timeout(REST, link.disturbed()).await {
                Ok(fault) => Err(fault),
                Err(_) => Ok(link),
            }
        });
        self.all(at_once(rests, errors).await)
    }

    fn all(&self, links: Vec<Link>) -> Option<Vec<Link>> {
        (links.len() == self.connections).then_some(links)
    }
}

/// One request on a connection that is to stay open.
async fn ask(mut link: Link, request: &Request, end: Instant) -> Result<Link, Fault> {
    timeout_at(end.into(), link.exchange(request)).await.unwrap_or(Err(Fault::Timeout))?;
    if link.is_open() { Ok(link) } else { Err(Fault::NotKept) }
}

/// The connections that are left when all of these have ended.
async fn at_once(
    acts: impl Iterator<Item = impl Future<Output = Result<Link, Fault>> + Send + 'static>,
    errors: &mut Errors,
) -> Vec<Link> {
    let mut tasks: JoinSet<_> = acts.collect();
    let mut links = Vec::new();
    while let Some(task) = tasks.join_next().await {
        match task {
            Ok(Ok(link)) => links.push(link),
            Ok(Err(fault)) => fault.count_in(errors),
            Err(_) => errors.add("tool", "a task of the load side panicked"),
        }
    }
    links
}

/// How long connections are left alone before memory is looked at.
const REST: Duration = Duration::from_millis(500);
