//! Arguments in, exit code out; everything else is the library's.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use bottle_guest::cli::{self, Cli};
use clap::Parser;

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
