//! The plan: everything a start will do, as data.
//!
//! Planning reads and awaits nothing. A plan holds references to secrets and never a secret, so it
//! can be printed, hashed and pasted into an issue.

mod document;
mod hash;
mod make;
pub(crate) mod names;
mod text;

pub(crate) use document::{
    AgentContainer, Credential, EgressPlan, EngineFacts, Hardening, HostKeyCheck, ImagePlan, Mode,
    NetworkPlan, Plan, Reach, SidecarPlan, SshPlan, State, Table,
};
pub(crate) use make::{PlanError, Request, plan};
