//! The plan: everything a start will do, as data.
//!
//! Planning reads and awaits nothing. A plan holds references to secrets and never a secret, so it
//! can be printed, hashed and pasted into an issue.

mod hash;
mod make;
mod shape;
mod text;

pub use make::{PlanError, Request, plan};
pub use shape::{
    AgentContainer, Credential, EgressPlan, EngineFacts, Hardening, HostKeyCheck, ImagePlan, Mode,
    NetworkPlan, Plan, Reach, SidecarPlan, SshPlan, State, Table,
};
