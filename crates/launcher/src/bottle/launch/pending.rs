//! What was asked for and not answered: it may appear later.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::LaunchError;
use crate::bottle::teardown::Named;
use crate::engine::EngineError;

/// The objects whose creation the engine has not answered, all of a launch: its steps run beside each
/// other, and only the first failure is reported. Outlives a launch that is not waited for.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<BTreeSet<Named>>);

impl Pending {
    /// Those that may still appear.
    pub(crate) fn objects(&self) -> Vec<Named> {
        self.lock().iter().cloned().collect()
    }

    /// Forgets them: they were removed, or named.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Waits for the answer to a creation.
    pub(crate) async fn creation<T>(
        &self,
        object: Named,
        answer: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, LaunchError> {
        self.lock().insert(object.clone());
        match answer.await.map_err(|error| LaunchError::of(error, object.clone())) {
            Err(error @ LaunchError::Unanswered { .. }) => Err(error),
            answered => {
                self.lock().remove(&object);
                answered
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Named>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
