//! A command line of ours is parsed by the program's own definition, and not run.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _};

use crate::shell;

/// The programs of this project.
#[derive(Debug, Clone, Copy)]
enum Program {
    Launcher,
    Gate,
    Proxy,
    Load,
    Xtask,
}

impl Program {
    fn find(name: &str) -> Option<Self> {
        match name.rsplit('/').next().unwrap_or(name) {
            "claude-bottle" => Some(Self::Launcher),
            "ssh-gate" => Some(Self::Gate),
            "cred-proxy" => Some(Self::Proxy),
            "forward-load" => Some(Self::Load),
            _ => None,
        }
    }

    /// Parses the words that follow the program's name.
    fn accepts(self, words: &[String]) -> Result<(), clap::Error> {
        let line = || std::iter::once("program".to_owned()).chain(words.iter().cloned()).map(OsString::from);
        let by = |command: Command| command.try_get_matches_from(line()).map(|_| ());
        match self {
            Self::Launcher => by(claude_bottle::cli::Cli::command()),
            Self::Load => by(forward_load::cli::Cli::command()),
            Self::Xtask => by(xtask::command()),
            Self::Gate => {
                sidecar::command::parse_from::<ssh_gate::args::Args>("SSH_GATE", line(), |_| None).map(|_| ())
            }
            Self::Proxy => {
                let parsed =
                    sidecar::command::parse_from::<cred_proxy::args::Args>("CRED_PROXY", line(), |_| None);
                parsed.map(|_| ())
            }
        }
    }
}

/// What is wrong with the command lines of a script.
pub(crate) fn check_script(script: &str) -> Vec<String> {
    shell::command_lines(script).iter().filter_map(|line| check(line, &[]).err()).collect()
}

/// What is wrong with the command lines of a systemd unit.
pub(crate) fn unit(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("ExecStart="));
    lines.flat_map(check_script).collect()
}

/// What is wrong with a command line that a sentence mentions. It may leave out what is required,
/// and stand for every command.
pub(crate) fn check_mention(code: &str) -> Result<(), String> {
    if code.contains("COMMAND") {
        return Ok(());
    }
    let incomplete = [
        ErrorKind::MissingRequiredArgument,
        ErrorKind::MissingSubcommand,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    shell::command_lines(code).iter().try_for_each(|line| check(line, &incomplete))
}

fn check(line: &[String], excused: &[ErrorKind]) -> Result<(), String> {
    let is_variable = |word: &&String| word.split_once('=').is_some_and(|(name, _)| is_name(name));
    let line: Vec<String> = line.iter().skip_while(is_variable).cloned().collect();
    let Some((program, words)) = of_ours(&line) else { return Ok(()) };
    let words: Vec<String> = words.iter().filter(|word| *word != "...").cloned().collect();
    // `cargo xtask engine in KIND CMD...` runs a command line of its own.
    if let (Program::Xtask, ["engine", "in", _, ..]) =
        (program, words.iter().map(String::as_str).collect::<Vec<_>>().as_slice())
    {
        check(&words[3..], excused)?;
    }
    let shown = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
    match program.accepts(&words) {
        Err(error) if !shown.contains(&error.kind()) && !excused.contains(&error.kind()) => {
            let message = error.to_string();
            let message = message.lines().next().unwrap_or("error");
            Err(format!("`{}`: {message}", line.join(" ")))
        }
        _ => Ok(()),
    }
}

/// The program of ours that a command line runs, and its arguments.
fn of_ours(line: &[String]) -> Option<(Program, &[String])> {
    let (first, words) = line.split_first()?;
    match (first.as_str(), words.first().map(String::as_str)) {
        ("cargo", Some("xtask")) => Some((Program::Xtask, &words[1..])),
        // The last word that is a program's name is the image; what follows is for the program.
        ("docker", Some("run")) => {
            let image = words.iter().rposition(|word| Program::find(word).is_some())?;
            Some((Program::find(&words[image])?, &words[image + 1..]))
        }
        _ => Some((Program::find(first)?, words)),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|char| char.is_ascii_uppercase() || char.is_ascii_digit() || char == '_')
}
