//! The command `cred-proxy`: see [`cred_proxy::run`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// musl's allocator gives blocks of some KiB back to the kernel and fetches them again, for every
/// record of an answer. This one is a tenth of the price, and as small at rest.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    sidecar::exit::report("cred-proxy", cred_proxy::run::run())
}
