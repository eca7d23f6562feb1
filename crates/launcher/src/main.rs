//! The `claude-bottle` command: arguments in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use claude_bottle::cli;

fn main() -> ExitCode {
    let cli = cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(_) => return ExitCode::from(70),
    };
    let code = runtime.block_on(cli::run(cli));
    // A read of our stdin may still wait: it must not hold the end.
    runtime.shutdown_background();
    code
}
