//! The plan: everything a start will do, as data.
//!
//! Planning does no I/O. A plan contains references to secrets and never a secret, so it can be
//! printed, hashed and pasted into an issue. What runs is derived from it alone ([`specs`]).

mod document;
mod error;
mod hash;
mod make;
mod names;
mod needs;
mod specs;
mod text;
mod warnings;

use crate::digest::sha256;

pub(crate) use document::{HostKeyCheck, Plan, SidecarPlan, SshPlan};
pub(crate) use error::PlanError;
pub(crate) use make::plan;
pub(crate) use names::{NameError, Names};
pub(crate) use needs::{Request, needs, references, upstream_proxy};
pub(crate) use specs::{GUEST, PUBLIC_SOCKET, Site, Specs};

/// `sha256:...` of a text.
fn digest(text: &str) -> String {
    format!("sha256:{}", sha256(text.as_bytes()))
}
