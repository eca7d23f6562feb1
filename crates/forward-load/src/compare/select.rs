//! Who is compared, and the run of a comparison from its options to its tables.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Comparison, Peer};
use crate::cli::{CompareArgs, Ended, Failure, print};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::report::{Report, ReportError, ReportFile};

/// A peer, and its program where it is installed.
pub type Found<'a> = (&'a Peer, Option<PathBuf>);

/// The peers that the options ask for, out of all that there are.
///
/// # Errors
///
/// A name that is not the name of a peer.
pub fn selected<'a>(args: &CompareArgs, all: &'a [Peer]) -> Result<Vec<Found<'a>>, Failure> {
    let near = near();
    let named: Vec<(&str, Option<&Path>)> = args
        .peer
        .iter()
        .map(|text| {
            text.split_once('=').map_or((text.as_str(), None), |(name, path)| (name, Some(Path::new(path))))
        })
        .collect();
    for (name, _) in &named {
        if !all.iter().any(|peer| peer.name == *name) {
            let names: Vec<&str> = all.iter().map(|peer| peer.name).collect();
            return Err(Failure::usage(format!("no peer is named `{name}`; there are {}", names.join(", "))));
        }
    }
    // `--peer NAME=PATH` says only where a program is; a bare name narrows.
    let narrowed = named.iter().any(|(_, path)| path.is_none());
    let is_named = |peer: &&Peer| !narrowed || named.iter().any(|(name, _)| *name == peer.name);
    let given = |peer: &Peer| named.iter().rev().find_map(|(name, path)| path.filter(|_| *name == peer.name));
    // A peer is started in a folder of its own, where a relative path leads elsewhere.
    let find = |peer: &Peer| {
        let found = peer.find(given(peer), &near);
        found.map(|path| std::path::absolute(&path).unwrap_or(path))
    };
    Ok(all.iter().filter(is_named).map(|peer| (peer, find(peer))).collect())
}

/// Where our own forwarders may be, besides `PATH`: beside us, and where a checkout builds them.
fn near() -> Vec<PathBuf> {
    let executable = std::env::current_exe().unwrap_or_default();
    let beside = executable.parent().unwrap_or(Path::new("."));
    let target = beside.parent().unwrap_or(Path::new("."));
    let musl = format!("{}-unknown-linux-musl/release", std::env::consts::ARCH);
    vec![target.join(&musl), Path::new("target").join(musl), beside.to_path_buf()]
}

/// How long a window is.
pub fn window(args: &CompareArgs) -> Duration {
    args.duration.unwrap_or(Duration::from_secs(if args.quick { 1 } else { 5 }))
}

/// How many rounds there are.
pub fn rounds(args: &CompareArgs) -> u32 {
    if args.quick { 3 } else { args.rounds }
}

/// The peers with their settings and reasons, in words.
pub fn listed(peers: &[Found<'_>]) -> String {
    let mut text = String::new();
    for (peer, program) in peers {
        let place = match program {
            Some(program) => program.display().to_string(),
            None => format!("not installed; `{}`", peer.install),
        };
        // A String takes whatever is written to it.
        let _ = writeln!(text, "{}: {place}", peer.name);
        for line in peer.settings {
            let _ = writeln!(text, "  {}: {}", line.setting, line.reason);
        }
    }
    text
}

/// Runs a comparison, keeping only the scenarios that the options ask for, and prints its tables.
///
/// # Errors
///
/// No scenario is left, or the report cannot be written.
pub fn run(
    args: &CompareArgs,
    mut comparison: Comparison<'_>,
    interrupt: &Interrupt,
) -> Result<Ended, Failure> {
    let file = ReportFile::at(args.report.as_deref()).map_err(|error| match error {
        ReportError::Format { .. } => Failure::usage(error),
        ReportError::Write { .. } => Failure::runtime(error),
    })?;
    let names: Vec<String> = comparison.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let is_asked =
        |name: &str| args.scenario.is_empty() || args.scenario.iter().any(|text| name.contains(text));
    comparison.scenarios.retain(|scenario| is_asked(&scenario.name));
    if comparison.scenarios.is_empty() {
        return Err(Failure::usage(format!("no such scenario; there are: {}", names.join("; "))));
    }
    let _stand_by = super::groups::stand_by(&std::env::current_exe()?)?;
    let mut report = Report::begin();
    let mut progress = Progress::begin(comparison.steps(), false);
    let run = comparison.run(&mut report, &file, &mut progress, interrupt);
    report.warnings.extend(super::limits::warnings(&report.samples));
    // The figures come first, also when the file could not be written.
    print(&crate::report::table::tables(&report));
    let complete = run?;
    file.write(&report)?;
    let measured = report.samples.iter().any(crate::report::Sample::counts);
    Ok(if !complete {
        Ended::Interrupted
    } else if measured {
        Ended::Complete
    } else {
        Ended::Failed
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Kind;
    use crate::compare::tcp_peers::PEERS;

    #[test]
    fn a_relative_path_leads_to_the_same_program_from_every_folder() {
        // A folder is the tests' own: the package's, where its manifest lies.
        let args = CompareArgs {
            what: Kind::Tcp,
            peer: vec!["socat".into(), "socat=Cargo.toml".into()],
            rounds: 1,
            quick: false,
            duration: None,
            scenario: Vec::new(),
            report: None,
            list: false,
        };
        let found = selected(&args, &PEERS).unwrap();
        let program = found[0].1.clone().unwrap();
        assert!(program.is_absolute() && program.ends_with("Cargo.toml"), "{}", program.display());
    }
}
