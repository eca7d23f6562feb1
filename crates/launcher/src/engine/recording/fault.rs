//! What goes wrong in a recording.

use std::time::Duration;

/// What happens to the call of a number, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is refused, and nothing is done for it.
    Refuse,
    /// It is done, and its response is lost.
    Lose,
    /// It is not done, and never answered.
    Stall,
    /// It times out, and is done after this time.
    Late(Duration),
    /// Before it, containers that do not run are removed.
    PruneContainers,
    /// Before it, networks without a running container are removed.
    PruneNetworks,
}
