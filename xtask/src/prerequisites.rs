//! What building, the demo and the tests need of the machine: installed, or named.
//!
//! A Rust target comes by rustup. Debian packages come by apt-get, as root, after asking on a
//! terminal or with consent given beforehand; nothing else of the machine is changed.

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::build::Tree;
use crate::process::{Interrupt, ProcessError};

/// Whether Debian packages may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// By `--install` or `CI=true`.
    Given,
    /// There is a terminal to ask on.
    Ask,
    /// Neither.
    None,
}

/// A program, and the Debian package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    pub(crate) program: &'static str,
    package: &'static str,
    purpose: &'static str,
}

/// The engine, where none is installed.
pub const ENGINE: Tool = Tool { program: "dockerd", package: "docker.io", purpose: "the container engine" };

/// What building needs besides cargo: ring is partly C.
const BUILDING: [Tool; 1] = [Tool { program: "gcc", package: "gcc", purpose: "to build ring" }];

/// For keys that are made for one run.
const KEYS: Tool =
    Tool { program: "ssh-keygen", package: "openssh-client", purpose: "the keys of tests and benchmarks" };

/// What the tests run.
const TESTING: [Tool; 5] = [
    Tool { program: "curl", package: "curl", purpose: "the tests' client" },
    KEYS,
    Tool { program: "git", package: "git", purpose: "the tests' repositories" },
    Tool { program: "ip", package: "iproute2", purpose: "the tests' routes" },
    Tool { program: "nsenter", package: "util-linux", purpose: "the tests' probes" },
];

/// What other engines than the machine's take.
const ENGINES: [Tool; 8] = [
    Tool { program: "apt-get", package: "apt", purpose: "to fetch an engine" },
    Tool { program: "dpkg-deb", package: "dpkg", purpose: "to unpack an engine" },
    Tool { program: "ip", package: "iproute2", purpose: "an engine's loopback" },
    Tool { program: "mount", package: "mount", purpose: "an engine's files" },
    Tool { program: "pivot_root", package: "util-linux", purpose: "an engine's files" },
    Tool { program: "setsid", package: "util-linux", purpose: "an engine's session" },
    Tool { program: "unshare", package: "util-linux", purpose: "an engine's namespaces" },
    Tool { program: "nsenter", package: "util-linux", purpose: "to enter an engine's network" },
];

/// Python that can make environments: Debian has that in a package of its own.
const PYTHON: Tool =
    Tool { program: "python3 -m venv", package: "python3-venv", purpose: "the tests' Python packages" };

/// The peers that `bench tcp` compares with.
const TCP_PEERS: [Tool; 4] = [
    Tool { program: "socat", package: "socat", purpose: "a peer" },
    Tool { program: "haproxy", package: "haproxy", purpose: "a peer" },
    Tool { program: "nginx", package: "nginx-light", purpose: "a peer" },
    // By its whole path, which is where Debian's nginx looks for it.
    Tool {
        program: "/usr/lib/nginx/modules/ngx_stream_module.so",
        package: "libnginx-mod-stream",
        purpose: "nginx for TCP",
    },
];

/// The peers that `bench http` compares with.
const HTTP_PEERS: [Tool; 3] = [
    Tool { program: "haproxy", package: "haproxy", purpose: "a peer" },
    Tool { program: "nginx", package: "nginx-light", purpose: "a peer" },
    Tool { program: "caddy", package: "caddy", purpose: "a peer" },
];

/// Why a prerequisite is still missing.
#[derive(Debug, thiserror::Error)]
pub enum PrerequisiteError {
    /// Debian packages are missing, and may not or cannot be installed.
    #[error("{missing}")]
    Missing {
        /// What, for what, and how to get it.
        missing: String,
    },
    /// The Rust target is missing, and there is no rustup.
    #[error("the Rust target {target} is missing, and so is rustup, which would add it")]
    Target {
        /// The target.
        target: String,
    },
    /// Installing failed, or was interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl Consent {
    /// `--install`, else `CI=true`, else whether there is a terminal to ask on.
    pub fn find(install: bool) -> Self {
        let ci = std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1");
        if install || ci {
            Self::Given
        } else if std::io::stdin().is_terminal() {
            Self::Ask
        } else {
            Self::None
        }
    }
}

/// Ensures that everything for building is installed.
///
/// # Errors
///
/// Something is still missing, and the error names it.
pub async fn for_building(
    tree: &Tree,
    consent: Consent,
    interrupt: &Interrupt,
) -> Result<(), PrerequisiteError> {
    tools(&BUILDING, consent, interrupt).await?;
    target(tree, interrupt).await
}

/// Ensures that everything that the tests run is installed.
///
/// # Errors
///
/// Something is still missing, and the error names it.
pub async fn for_testing(consent: Consent, interrupt: &Interrupt) -> Result<(), PrerequisiteError> {
    tools(&TESTING, consent, interrupt).await
}

/// Ensures that everything for `bench launch` is installed.
///
/// # Errors
///
/// Something is still missing, and the error names it.
pub async fn for_launching(consent: Consent, interrupt: &Interrupt) -> Result<(), PrerequisiteError> {
    tools(&[KEYS], consent, interrupt).await
}

/// Ensures that everything for engines other than the machine's is installed.
///
/// # Errors
///
/// Something is still missing, and the error names it.
pub async fn for_engines(consent: Consent, interrupt: &Interrupt) -> Result<(), PrerequisiteError> {
    tools(&ENGINES, consent, interrupt).await
}

/// Ensures that there is a Python that can create environments.
///
/// # Errors
///
/// It is still missing, and the error names it.
pub async fn for_python(consent: Consent, interrupt: &Interrupt) -> Result<(), PrerequisiteError> {
    let mut python = Command::new("python3");
    let asked = python.args(["-c", "import ensurepip, venv"]).stdout(Stdio::null()).stderr(Stdio::null());
    if asked.status().await.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    install(&[PYTHON], consent, interrupt).await
}

/// Ensures that the peers of a comparison are installed.
///
/// Their packages would start services. A `policy-rc.d` prevents this during the installation, unless
/// the machine already has one.
///
/// # Errors
///
/// Something is still missing, and the error names it.
pub async fn for_benching(
    tcp: bool,
    http: bool,
    consent: Consent,
    interrupt: &Interrupt,
) -> Result<(), PrerequisiteError> {
    let tcp = TCP_PEERS.iter().filter(|_| tcp);
    let mut peers: Vec<Tool> = Vec::new();
    for peer in tcp.chain(HTTP_PEERS.iter().filter(|_| http)) {
        if !peers.contains(peer) {
            peers.push(*peer);
        }
    }
    if peers.iter().all(|peer| is_installed(peer.program)) {
        return Ok(());
    }
    let _policy = NoServices::begin();
    tools(&peers, consent, interrupt).await
}

/// A `policy-rc.d` of ours, until it is dropped.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn begin() -> Self {
        let path = Path::new("/usr/sbin/policy-rc.d");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o755);
        // Where one is there already, or we are not root, nothing is started by us anyway.
        let made = options.open(path).and_then(|mut file| file.write_all(b"#!/bin/sh\nexit 101\n"));
        Self(made.is_ok().then_some(path))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Ensures that programs are installed.
///
/// # Errors
///
/// Some are still missing, and the error names them.
pub async fn tools(tools: &[Tool], consent: Consent, interrupt: &Interrupt) -> Result<(), PrerequisiteError> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| !is_installed(tool.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing, consent, interrupt).await
}

async fn install(missing: &[Tool], consent: Consent, interrupt: &Interrupt) -> Result<(), PrerequisiteError> {
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let may = is_installed("apt-get") && is_root();
    if !may || consent == Consent::None || (consent == Consent::Ask && !agreed(&packages)) {
        return Err(PrerequisiteError::Missing { missing: named(missing) });
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(arguments);
        apt
    };
    let install = [&["--no-install-recommends", "install"], packages.as_slice()].concat();
    // The lists of a fresh machine are absent, or name what the mirror has removed since.
    match interrupt.run(&mut apt(&install)).await {
        Err(ProcessError::Failed { .. }) => {
            interrupt.run(&mut apt(&["update"])).await?;
            Ok(interrupt.run(&mut apt(&install)).await?)
        }
        ended => Ok(ended?),
    }
}

/// Whether a program is on `PATH`, or where root has it.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(usual).any(|folder| folder.join(program).is_file())
}

/// Whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

async fn target(tree: &Tree, interrupt: &Interrupt) -> Result<(), PrerequisiteError> {
    let mut rustc = Command::new("rustc");
    let asked = rustc.current_dir(&tree.root).args(["--print", "target-libdir", "--target", &tree.musl]);
    let answer = asked.output().await;
    let folder = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    if folder.is_ok_and(|folder| !folder.is_empty() && Path::new(&folder).is_dir()) {
        return Ok(());
    }
    if !is_installed("rustup") {
        return Err(PrerequisiteError::Target { target: tree.musl.clone() });
    }
    let mut rustup = Command::new("rustup");
    Ok(interrupt.run(rustup.current_dir(&tree.root).args(["target", "add", &tree.musl])).await?)
}

fn agreed(packages: &[&str]) -> bool {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "Install the Debian packages {} now? [y/N] ", packages.join(", "));
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// What is missing, for what, and the command that brings it.
fn named(missing: &[Tool]) -> String {
    let mut text = String::from("missing on this machine:");
    for tool in missing {
        // A String takes whatever is written to it.
        let _ = write!(text, " {} ({}; Debian package {}),", tool.program, tool.purpose, tool.package);
    }
    text.truncate(text.len() - 1);
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    let packages = packages.join(" ");
    let _ = if is_root() {
        write!(text, "\nhint: on Debian, add `--install`, or run `apt-get install {packages}`")
    } else {
        write!(text, "\nhint: on Debian, run `sudo apt-get install {packages}`")
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package_and_purpose() {
        let text = named(&[ENGINE]);
        assert!(text.starts_with(
            "missing on this machine: dockerd (the container engine; Debian package docker.io)\n"
        ));
        assert!(text.contains("apt-get install docker.io"));
    }

    #[test]
    fn only_programs_that_are_there_are_installed() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program-anywhere"));
    }
}
