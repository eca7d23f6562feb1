//! The command `cred-proxy`: see [`cred_proxy::run`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sidecar::exit::report("cred-proxy", cred_proxy::run::run())
}
