//! The JSON file: replaced after each round, by a rename, so that the file is always complete and
//! a later failure loses nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::Sample;

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The format of this file.
    pub version: u32,
    /// `forward-load` and its version.
    pub tool: String,
    /// The command line.
    pub command: Vec<String>,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// The machine: its CPU's name, how many of them, its kernel.
    pub machine: Machine,
    /// Each forwarder that was compared.
    pub subjects: Vec<Subject>,
    /// Whether all rounds were run: false while it runs, and after Ctrl-C or a failure.
    pub complete: bool,
    /// Every sample, in the order in which they were taken.
    pub samples: Vec<Sample>,
    /// Warnings about the run as a whole.
    pub warnings: Vec<String>,
}

/// Where it ran.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The name of the CPU.
    pub cpu: String,
    /// CPUs that we may use.
    pub cpus: usize,
    /// The kernel's release.
    pub kernel: String,
}

/// A forwarder that was, or could not be, compared.
#[derive(Debug, Clone, Serialize)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// The program.
    pub program: Option<PathBuf>,
    /// What it says of its version.
    pub release: Option<String>,
    /// Why it is not compared, and how to install it.
    pub missing: Option<String>,
    /// What is set, and why.
    pub settings: Vec<(String, String)>,
}

/// Where a report is kept.
#[derive(Debug, Clone)]
pub struct ReportFile(Option<PathBuf>);

/// Why the report could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file cannot be written.
    #[error("could not write report `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// Of this kind there is nothing yet.
    #[error("reports of this kind are not supported yet: `{}`", path.display())]
    Format {
        /// Which.
        path: PathBuf,
    },
}

impl Report {
    /// A report that begins now.
    pub fn begin() -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            version: 1,
            tool: concat!("forward-load ", env!("CARGO_PKG_VERSION")).into(),
            command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            began,
            machine: Machine::this(),
            subjects: Vec::new(),
            complete: false,
            samples: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl Machine {
    /// The machine that we are on.
    pub fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu =
            info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: cpu.map_or("unknown", |(_, name)| name.trim()).into(),
            cpus: cpus(),
            kernel: kernel.trim().into(),
        }
    }
}

/// CPUs that we may use.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl ReportFile {
    /// A file, or none.
    ///
    /// # Errors
    ///
    /// Its name asks for something other than JSON, or it cannot be written; better now than after
    /// the first round.
    pub fn at(path: Option<&Path>) -> Result<Self, ReportError> {
        let Some(path) = path else { return Ok(Self(None)) };
        if path.extension().is_none_or(|extension| extension != "json") {
            return Err(ReportError::Format { path: path.into() });
        }
        // In its folder, where it will be renamed from; an older report stays until then.
        match tempfile::NamedTempFile::new_in(folder(path)) {
            Ok(_removed_when_dropped) => Ok(Self(Some(path.into()))),
            Err(source) => Err(ReportError::Write { path: path.into(), source }),
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// It could not be written; what was there stays.
    pub fn write(&self, report: &Report) -> Result<(), ReportError> {
        let Some(path) = &self.0 else { return Ok(()) };
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new()
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(folder(path))?;
            serde_json::to_writer_pretty(&mut file, report)?;
            file.write_all(b"\n")?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| ReportError::Write { path: path.clone(), source })
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
