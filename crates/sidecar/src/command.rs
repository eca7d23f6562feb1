//! The command line of a daemon: its options, each also an environment variable, and what they mean
//! together.
//!
//! An empty variable counts as unset. A variable for a repeatable option holds its values separated
//! by white space; typed values are never split. Only typed options exclude each other.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::exit::{Failure, Kind};
use crate::log::Format;

/// The options that every daemon has. Flatten it into the daemon's own.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// Read table, tokens and CAs as one line of JSON from stdin, within 10 s
    #[arg(long)]
    pub stdin_bundle: bool,
    /// How long open connections may go on after a signal
    #[arg(long, value_name = "TIME", default_value = "8s", value_parser = duration)]
    pub drain_timeout: Duration,
    /// The form of log lines; json when stderr is no terminal
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<Format>,
    /// What to do instead of serving
    #[command(subcommand)]
    pub instead: Option<Instead>,
}

/// What a daemon can do instead of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub enum Instead {
    /// Ask the admin endpoint of a running one whether it is ready; exit 0 or 1
    Healthcheck,
    /// Parse the table, print it as normalised JSON, bind nothing; exit 0 or 78
    Check,
}

/// A parsed command line that still knows which options were typed.
#[derive(Debug)]
pub struct Parsed<A> {
    /// The options.
    pub args: A,
    command: Command,
    matches: ArgMatches,
}

/// An address, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminAddr(pub Option<SocketAddr>);

impl FromStr for AdminAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            _ => text
                .parse()
                .map(|address| Self(Some(address)))
                .map_err(|_| "expected ADDRESS:PORT or off".into()),
        }
    }
}

/// A length of time, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout(pub Option<Duration>);

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self(None)) } else { duration(text).map(|time| Self(Some(time))) }
    }
}

/// A length of time as people write it: `10s`, `1m 30s`, `500ms`; never zero.
///
/// # Errors
/// A sentence for the command line.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "expected a time such as 10s or 500ms".into())
}

/// Parses the process's own command line and environment. Ends the process for `--help`,
/// `--version` (0) and a bad command line (2), as clap does.
///
/// `prefix` is that of the variables: `SSH_GATE` makes `--bind` also `SSH_GATE_BIND`.
pub fn parse<A: CommandFactory + FromArgMatches>(prefix: &str) -> Parsed<A> {
    let parsed = parse_from(prefix, std::env::args_os(), |name| std::env::var_os(name));
    parsed.unwrap_or_else(|error| error.exit())
}

/// Parses a given command line and environment.
///
/// # Errors
/// What clap says.
pub fn parse_from<A: CommandFactory + FromArgMatches>(
    prefix: &str,
    line: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Parsed<A>, clap::Error> {
    let line = subcommand_last(&A::command(), line.into_iter().collect());
    let typed = |long: &str| line.iter().any(|word| is_option(word, long));
    let source_typed = SOURCES.iter().any(|long| typed(long));
    let mut command = A::command().mut_args(|arg| {
        let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
        if matches!(long.as_str(), "help" | "version") {
            return arg;
        }
        let arg = arg.global(true);
        let name = format!("{prefix}_{}", long.to_ascii_uppercase().replace('-', "_"));
        let empty = variable(&name).is_some_and(|value| value.is_empty());
        let source = SOURCES.contains(&long.as_str()) || long == "tokens";
        let switch = matches!(arg.get_action(), ArgAction::SetTrue);
        // clap would take an empty one as a value; and one beside a typed option it would read for the
        // subcommand.
        let unset = empty || typed(&long) || source && source_typed;
        let arg = if unset { arg.env(Resettable::Reset) } else { arg.env(name) };
        if switch { arg.value_parser(clap::builder::BoolishValueParser::new()) } else { arg }
    });
    command.build();
    let matches = command.clone().try_get_matches_from(&line)?;
    let args = A::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok(Parsed { args, command, matches })
}

/// What says where table and tokens come from. Typed, it makes the variables of all of them void,
/// and that of `--tokens`, so that one image serves in every way.
const SOURCES: [&str; 5] = ["stdin-bundle", "ports", "forward", "routes", "policy"];

/// The line with its subcommand behind all options, so that they are of one level: of a repeatable one
/// clap would let the values behind the subcommand hide those before it.
fn subcommand_last(command: &Command, mut line: Vec<OsString>) -> Vec<OsString> {
    // Each level has a help of its own.
    let asks_for_help = line.iter().any(|word| word == "-h" || word == "--help" || word == "help");
    if asks_for_help {
        return line;
    }
    let takes_value = |word: &OsString| {
        let mut taking = command.get_arguments().filter(|arg| arg.get_action().takes_values());
        let name = word.to_str().and_then(|word| word.strip_prefix("--"));
        name.is_some() && taking.any(|arg| arg.get_long() == name)
    };
    let mut is_value = false;
    let place = line.iter().skip(1).position(|word| {
        let is_word = !is_value;
        is_value = is_word && takes_value(word);
        is_word && command.get_subcommands().any(|subcommand| *word == *subcommand.get_name())
    });
    if let Some(place) = place {
        let subcommand = line.remove(place + 1);
        line.push(subcommand);
    }
    line
}

/// Whether a word of a command line is that option, with or without its value.
fn is_option(word: &OsStr, long: &str) -> bool {
    let name = word.to_str().and_then(|word| word.strip_prefix("--"));
    name.and_then(|name| name.split('=').next()) == Some(long)
}

impl<A> Parsed<A> {
    /// Whether an option, by its field's name, was typed rather than taken from a variable or a default.
    pub fn typed(&self, id: &str) -> bool {
        self.source(id) == Some(ValueSource::CommandLine)
    }

    /// The values of a repeatable option: as typed, or its variable split at white space.
    pub fn values(&self, id: &str) -> Vec<String> {
        let from_variable = self.source(id) == Some(ValueSource::EnvVariable);
        let raw = self.matches.get_many::<String>(id).into_iter().flatten();
        if from_variable {
            raw.flat_map(|text| text.split_whitespace()).map(str::to_owned).collect()
        } else {
            raw.cloned().collect()
        }
    }

    /// Refuses two typed options that exclude each other.
    ///
    /// # Errors
    /// [`Kind::Usage`] naming both.
    pub fn exclude(&self, one: &str, others: &[&str]) -> Result<(), Failure> {
        let option = |id: &str| format!("--{}", id.replace('_', "-"));
        match others.iter().find(|other| self.typed(one) && self.typed(other)) {
            None => Ok(()),
            Some(other) => Err(Failure::new(
                Kind::Usage,
                format!("the option {} cannot be used with {}", option(one), option(other)),
            )
            .hint("only one of them can say where tables and tokens come from")),
        }
    }

    /// Ends with clap's own form of a usage error (exit 2).
    pub fn usage_error(&mut self, message: impl std::fmt::Display) -> clap::Error {
        self.command.error(ErrorKind::ValueValidation, message)
    }

    fn source(&self, id: &str) -> Option<ValueSource> {
        self.matches.value_source(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    #[command(name = "test")]
    struct Args {
        #[arg(long, default_value = "127.0.0.1:9901")]
        admin: AdminAddr,
        #[arg(long)]
        forward: Vec<String>,
        #[arg(long, default_value = "off")]
        idle_timeout: Timeout,
        #[command(flatten)]
        common: Common,
    }

    fn parse(line: &str, variables: &[(&str, &str)]) -> Result<Parsed<Args>, clap::Error> {
        // clap itself reads the process's environment, so only names that no test sets are used here.
        let variables: Vec<_> = variables.to_vec();
        parse_from("SIDECAR_TEST", line.split_whitespace().map(OsString::from), move |name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn options_may_stand_before_or_after_a_subcommand() {
        for line in ["test --admin off check", "test check --admin off"] {
            let parsed = parse(line, &[]).unwrap();
            assert_eq!(parsed.args.admin, AdminAddr(None));
            assert_eq!(parsed.args.common.instead, Some(Instead::Check));
            assert!(parsed.typed("admin"), "{line}");
        }
        let parsed = parse("test --forward check --forward b check --forward c --forward=d", &[]).unwrap();
        assert_eq!(parsed.values("forward"), ["check", "b", "c", "d"]);
        assert_eq!(parsed.args.common.instead, Some(Instead::Check));
        assert!(parse("test check check", &[]).is_err());
        assert!(parse("test check extra", &[]).is_err());
    }

    #[test]
    fn typed_values_are_never_split_and_typed_sources_exclude_each_other() {
        let parsed = parse("test --stdin-bundle --forward 1=a:1", &[]).unwrap();
        assert_eq!(parsed.values("forward"), ["1=a:1"]);
        let refused = parsed.exclude("stdin_bundle", &["forward"]).unwrap_err();
        assert_eq!(refused.kind(), Kind::Usage);
        assert!(parse("test --stdin-bundle", &[]).unwrap().exclude("stdin_bundle", &["forward"]).is_ok());
    }

    #[test]
    fn times_are_written_as_people_write_them() {
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(duration("10").is_err() && duration("0s").is_err());
        assert_eq!("off".parse(), Ok(Timeout(None)));
    }
}
