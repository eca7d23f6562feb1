//! An engine in memory, for tests of what drives an engine.
//!
//! It keeps the objects by the rules of a real one: names of containers and networks are unique
//! (as on engine 26), subnets may not overlap, a network with a running container cannot be
//! removed, and its containers can. A sidecar (a container with an open stdin) reports that it is
//! ready once its bundle has been written. Every call is recorded, and any one of them can fail: by
//! a refusal, a lost response, a response that never comes, an effect that comes late, or objects
//! that vanish before it. So a test can see what each failure leaves behind:
//!
//! ```
//! # use claude_bottle::engine::{Engine, recording::Recording};
//! # async fn launch(engine: &impl Engine) -> Result<(), claude_bottle::engine::EngineError> { engine.info().await.map(drop) }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let calls = {
//!     let engine = Recording::new();
//!     launch(&engine).await.unwrap();
//!     engine.calls().len()
//! };
//! for nth in 0..calls {
//!     let engine = Recording::refusing(nth);
//!     assert!(launch(&engine).await.is_err());
//!     assert_eq!(engine.leftovers(), Vec::<String>::new());
//! }
//! # });
//! ```

mod archive;
mod calls;
mod containers;
mod fault;
mod images;
mod networks;
mod objects;
mod processes;
mod refusals;
mod run;
mod state;
mod streams;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use ipnet::Ipv4Net;
use tokio::sync::Notify;

pub use self::archive::PutFile;
use self::fault::Fault;
pub use self::run::{Answer, Run};
use self::state::State;
use super::{ContainerSpec, EngineError, EngineInfo, Image, NetworkSpec};

/// An engine in memory. Clones share their objects.
#[derive(Clone)]
pub struct Recording(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes those that wait for a container.
    changed: Notify,
    /// What happens to which call, counted from 0.
    fault: Option<(usize, Fault)>,
    /// Calls of these names time out, and are done after this time.
    late: Option<(Vec<String>, Duration)>,
}

impl Recording {
    /// An engine that does all that is requested, without images of its own.
    pub fn new() -> Recording {
        Recording::with_fault(None)
    }

    /// An engine that refuses the call of that number, counted from 0, and does nothing for it.
    pub fn refusing(nth: usize) -> Recording {
        Recording::with_fault(Some((nth, Fault::Refuse)))
    }

    /// An engine that does the call of that number, counted from 0, but whose response is lost.
    pub fn losing(nth: usize) -> Recording {
        Recording::with_fault(Some((nth, Fault::Lose)))
    }

    /// An engine that never answers the call of that number, counted from 0, and does nothing for it.
    pub fn stalling(nth: usize) -> Recording {
        Recording::with_fault(Some((nth, Fault::Stall)))
    }

    /// An engine whose call of that number, counted from 0, times out at once, and is done all the
    /// same after this time, by tokio's clock.
    pub fn late(nth: usize, after: Duration) -> Recording {
        Recording::with_fault(Some((nth, Fault::Late(after))))
    }

    /// An engine whose calls of these names, e.g. `create network claude-bottle-int-dev`, time out at
    /// once, and are done all the same after this time, by tokio's clock.
    pub fn late_calls(names: &[&str], after: Duration) -> Recording {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Recording::with(None, Some((names, after)))
    }

    /// An engine on which `docker container prune` is run right before the call of that number,
    /// counted from 0: containers that do not run, created ones too, are gone.
    pub fn vanishing(nth: usize) -> Recording {
        Recording::with_fault(Some((nth, Fault::PruneContainers)))
    }

    /// An engine on which `docker network prune` is run right before the call of that number,
    /// counted from 0: networks without a running container are gone, except for the user's own.
    pub fn vanishing_networks(nth: usize) -> Recording {
        Recording::with_fault(Some((nth, Fault::PruneNetworks)))
    }

    fn with_fault(fault: Option<(usize, Fault)>) -> Recording {
        Recording::with(fault, None)
    }

    fn with(fault: Option<(usize, Fault)>, late: Option<(Vec<String>, Duration)>) -> Recording {
        let state = Mutex::new(State::default());
        Recording(Arc::new(Shared { state, changed: Notify::new(), fault, late }))
    }

    /// Has an image by that name.
    #[must_use]
    pub fn with_image(self, name: &str, image: Image) -> Recording {
        self.state().add_image(image, Some(name));
        self
    }

    /// Has a network of the user's own, which does not count as left over.
    #[must_use]
    pub fn with_network(self, name: &str, internal: bool, subnet: Ipv4Net) -> Recording {
        self.state().add_foreign_network(name, internal, subnet);
        self
    }

    /// Answers each creation of a network with this warning, as podman does.
    #[must_use]
    pub fn with_network_warning(self, warning: &str) -> Recording {
        self.state().network_warning = Some(warning.to_owned());
        self
    }

    /// Describes itself so.
    #[must_use]
    pub fn with_info(self, info: EngineInfo) -> Recording {
        self.state().info = info;
        self
    }

    /// Has this file in every container, besides what is put there.
    #[must_use]
    pub fn with_file(self, path: &str, contents: impl Into<Bytes>) -> Recording {
        self.state().files.insert(path.to_owned(), contents.into());
        self
    }

    /// Answers commands so, without asking the recording; else each ends with exit code 0 and no output.
    #[must_use]
    pub fn with_runs(self, answer: impl Fn(&Run) -> Answer + Send + Sync + 'static) -> Recording {
        self.state().answer = Arc::new(answer);
        self
    }

    /// Sidecars of this role (`ssh-gate`, ...) never report that they are ready.
    #[must_use]
    pub fn with_unready(self, role: &str) -> Recording {
        self.state().unready.insert(role.to_owned(), None);
        self
    }

    /// Sidecars of this role end so once they have read their bundle, in place of becoming ready.
    #[must_use]
    pub fn with_failing(self, role: &str, answer: Answer) -> Recording {
        self.state().unready.insert(role.to_owned(), Some(answer));
        self
    }

    /// Sidecars of this role never read their stdin.
    #[must_use]
    pub fn with_deaf(self, role: &str) -> Recording {
        self.state().deaf.insert(role.to_owned());
        self
    }

    /// The calls so far, e.g. `create network claude-bottle-int-dev`; the faulty one included.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// The commands that were run, and have read their stdin to its end.
    pub fn runs(&self) -> Vec<Run> {
        self.state().runs.clone()
    }

    /// The names of the containers and networks that remain.
    pub fn leftovers(&self) -> Vec<String> {
        self.state().leftovers()
    }

    /// The names and ids of the images it has.
    pub fn images(&self) -> BTreeSet<String> {
        self.state().image_references()
    }

    /// How a container was created; also after its removal.
    pub fn created(&self, name: &str) -> Option<ContainerSpec> {
        self.state().created.iter().rev().find(|spec| spec.name == name).cloned()
    }

    /// How a network was created; also after its removal.
    pub fn created_network(&self, name: &str) -> Option<NetworkSpec> {
        self.state().created_networks.iter().rev().find(|spec| spec.name == name).cloned()
    }

    /// What was written to the stdin of a container; also after its removal.
    pub fn stdin_of(&self, name: &str) -> Vec<u8> {
        self.state().stdin.get(name).cloned().unwrap_or_default()
    }

    /// The files that were put into a container; also after its removal.
    pub fn put_into(&self, name: &str) -> Vec<PutFile> {
        self.state().put.get(name).cloned().unwrap_or_default()
    }

    /// Ends a container as if its first process had exited.
    pub fn end(&self, name: &str, exit_code: i64) {
        self.state().end(name, exit_code);
        self.0.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no test panics while it holds the recording")
    }

    /// Records a call and does it, unless it is the faulty one.
    async fn call<T: Send + 'static>(
        &self,
        name: impl FnOnce(&State) -> String + Send,
        act: impl FnOnce(&mut State) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (nth, name) = {
            let mut state = self.state();
            let (nth, name) = (state.calls.len(), name(&state));
            state.calls.push(name.clone());
            (nth, name)
        };
        let late = self.0.late.as_ref().filter(|(names, _)| names.contains(&name));
        let late = late.map(|(_, after)| Fault::Late(*after));
        let fault = self.0.fault.filter(|(faulty, _)| *faulty == nth).map(|(_, fault)| fault);
        match fault.or(late) {
            None => self.perform(act),
            Some(Fault::Refuse) => {
                Err(EngineError::Refused { act: name, status: 500, message: "refused by the test".into() })
            }
            Some(Fault::Lose) => {
                drop(self.perform(act));
                Err(EngineError::Broken { act: name, source: "the response was lost by the test".into() })
            }
            Some(Fault::Stall) => std::future::pending().await,
            Some(Fault::Late(after)) => {
                let engine = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    drop(engine.perform(act));
                });
                Err(EngineError::Timeout { act: name, seconds: 30 })
            }
            Some(Fault::PruneContainers) => {
                self.state().prune_containers();
                self.perform(act)
            }
            Some(Fault::PruneNetworks) => {
                self.state().prune_networks();
                self.perform(act)
            }
        }
    }

    fn perform<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let done = act(&mut self.state());
        self.0.changed.notify_waiters();
        done
    }
}

impl Default for Recording {
    fn default() -> Recording {
        Recording::new()
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("calls", &self.calls()).field("fault", &self.0.fault).finish()
    }
}

#[cfg(test)]
mod tests;
