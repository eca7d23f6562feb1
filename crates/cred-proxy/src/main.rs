//! The command `cred-proxy`: see [`cred_proxy::run`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// musl's allocator has one lock, and gives blocks back to the kernel that are wanted again at once.
#[global_allocator]
static ALLOCATOR: memory::ThreadCache = memory::ThreadCache;

fn main() -> ExitCode {
    sidecar::exit::report("cred-proxy", cred_proxy::run::run())
}
