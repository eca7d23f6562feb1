//! `ssh-gate`: see the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use sidecar::{command, exit};
use ssh_gate::{args::Args, runtime};

fn main() -> ExitCode {
    let parsed = command::parse::<Args>("SSH_GATE");
    exit::run("ssh-gate", runtime(), ssh_gate::run(parsed))
}
