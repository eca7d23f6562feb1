//! `ssh-gate`: see the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use sidecar::{command, exit};
use ssh_gate::{args::Args, runtime};

/// musl's allocator has one lock, and gives blocks back to the kernel that are wanted again at once.
#[global_allocator]
static ALLOCATOR: memory::ThreadCache = memory::ThreadCache;

fn main() -> ExitCode {
    let parsed = command::parse::<Args>("SSH_GATE");
    exit::run("ssh-gate", runtime(), ssh_gate::run(parsed))
}
