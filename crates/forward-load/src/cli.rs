//! The command line, and how a run ends: 0 measured, 1 not measured, 2 an invalid command line
//! or something that is not supported yet, 130 interrupted with the figures so far printed.

use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::interrupt::Interrupt;
use crate::progress::note;
use crate::report::{Report, Sample};

/// Measure any TCP forwarder and any HTTP reverse proxy next to the bare path
///
/// Aim it only at what is yours: loopback and private addresses, unless --i-own-this-target is given.
#[derive(Debug, Parser)]
#[command(name = "forward-load", version, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bytes, connections and round trips through a TCP forwarder
    Tcp(crate::tcp::TcpArgs),
    /// Requests, bodies and events through an HTTP reverse proxy
    Http {
        /// What is measured.
        #[command(subcommand)]
        command: crate::http::HttpCommand,
    },
    /// Several forwarders side by side, beside the bare path
    Compare(CompareArgs),
    /// What is behind the forwarder, in a process of its own
    #[command(hide = true)]
    Backend(BackendArgs),
    /// What ends the forwarders of a comparison that was killed, in a process of its own
    #[command(hide = true)]
    StandBy,
}

/// What to compare, and how.
#[derive(Debug, Clone, Args)]
pub struct CompareArgs {
    /// What kind of forwarders
    #[arg(value_enum)]
    pub what: Kind,
    /// Only these, by name, or NAME=PATH to say where its program is; may be repeated
    #[arg(long, value_name = "NAME[=PATH]")]
    pub peer: Vec<String>,
    /// How often everything is measured
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// At most five minutes in all: fewer rounds and scenarios, shorter windows
    #[arg(long, conflicts_with = "rounds")]
    pub quick: bool,
    /// How long a window is [default: 5s, or 1s with --quick]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Only scenarios whose name contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub scenario: Vec<String>,
    /// Where to keep every sample, written after each round
    #[arg(long, value_name = "FILE.json")]
    pub report: Option<PathBuf>,
    /// Prints the peers with their settings and the reasons, and measures nothing
    #[arg(long)]
    pub list: bool,
}

/// What kind of forwarders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// DIRECT, ssh-gate, socat, haproxy, nginx
    Tcp,
    /// DIRECT, cred-proxy, nginx, haproxy, caddy
    Http,
    /// Not yet
    Egress,
}

/// A backend that ends when its stdin does.
#[derive(Debug, Clone, Args)]
pub struct BackendArgs {
    /// Where to listen
    #[arg(default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
}

/// How a run ended that failed nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With everything measured.
    Complete,
    /// With errors, or no figure at all: they have been printed.
    Failed,
    /// By Ctrl-C, with the figures so far printed.
    Interrupted,
}

/// Why a run ended before it could measure.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

impl Failure {
    /// An invalid command line.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: 2, error: error.into(), hint: None }
    }

    /// A failure at run time.
    pub fn runtime(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code: 1, error: error.into(), hint: None }
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::runtime(error)
    }
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(Ended::Complete) => ExitCode::SUCCESS,
        Ok(Ended::Failed) => ExitCode::FAILURE,
        Ok(Ended::Interrupted) => ExitCode::from(130),
        Err(failure) => {
            let mut told = failure.error.to_string();
            let mut cause = failure.error.source();
            while let Some(inner) = cause {
                told = format!("{told}: {inner}");
                cause = inner.source();
            }
            note(format_args!("forward-load: {told}"));
            if let Some(hint) = failure.hint {
                note(format_args!("hint: {hint}"));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(command: Command) -> Result<Ended, Failure> {
    allow_all_descriptors();
    if let Command::Backend(args) = &command {
        // The terminal's Ctrl-C is for the load side, which ends us when it has the last answers.
        let _deaf = Interrupt::listen()?;
        return crate::tcp::backend::in_a_child(args.listen);
    }
    if matches!(command, Command::StandBy) {
        crate::compare::groups::in_a_child()?;
        return Ok(Ended::Complete);
    }
    let interrupt = Interrupt::listen()?;
    match command {
        Command::Tcp(args) => crate::tcp::run(&args, &interrupt),
        Command::Http { command } => {
            let sample = crate::http::command::command(&command, &interrupt)?;
            Ok(sample.map_or(Ended::Complete, |sample| shown(vec![sample])))
        }
        Command::Compare(args) => match args.what {
            Kind::Tcp => crate::tcp::compare(&args, &interrupt),
            Kind::Http => crate::compare::http_peers::compare(&args, &interrupt),
            Kind::Egress => Err(not_yet()),
        },
        Command::Backend(_) | Command::StandBy => unreachable!("returned above"),
    }
}

fn not_yet() -> Failure {
    Failure::usage("not supported yet")
}

/// Prints the tables of samples that are not a comparison, and returns how that ended.
pub fn shown(samples: Vec<Sample>) -> Ended {
    let ended = if samples.iter().any(|sample| sample.interrupted) {
        Ended::Interrupted
    } else if samples.iter().all(|sample| sample.failure.is_none() && sample.errors.total() == 0) {
        Ended::Complete
    } else {
        Ended::Failed
    };
    let mut report = Report::begin();
    report.samples = samples;
    report.complete = ended != Ended::Interrupted;
    report.warnings = crate::compare::limits::warnings(&report.samples);
    print(&crate::report::table::tables(&report));
    ended
}

/// Prints text on stdout.
pub fn print(text: &str) {
    // Whoever closed our stdout wants no more lines.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Parses `500ms`, `10s`, `5m`; a bare number is seconds. At most an hour.
///
/// # Errors
///
/// Says what was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err("expected a time such as 500ms, 10s or 5m".into()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "expected a time such as 500ms, 10s or 5m")? * scale;
    if (0.001..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("expected a time of at least 1ms and at most 60m".into())
    }
}

/// Parses a number of bytes: `4096`, `64K`, `1M`, `1G`, in powers of 1024.
///
/// # Errors
///
/// Says what was expected.
pub fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit {
        "" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return Err("expected a size such as 4096, 64K or 1G".into()),
    };
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.filter(|size| *size > 0).ok_or_else(|| "expected a size such as 4096, 64K or 1G".into())
}

/// Two descriptors a connection: the usual soft limit of 1024 would end tests of thousands.
fn allow_all_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is not granted shows as errors of connect.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units_and_bounds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert!(duration("2h").is_err() && duration("0").is_err() && duration("").is_err());
        assert_eq!(bytes("64K"), Ok(65_536));
        assert!(bytes("1T").is_err() && bytes("0").is_err() && bytes("G").is_err());
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
