//! Root file systems straight from Debian packages, without root, chroot or registry.
//!
//! apt resolves against an empty list of installed packages and fetches what that needs, dpkg-deb
//! unpacks, [`layer`] merges: the same packages give the same bytes. Nothing of a package is run,
//! so what its scripts would have set up (users, certificates) is [`layer`]'s to write.

pub mod layer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Why Debian packages could not become a file system.
#[derive(Debug, thiserror::Error)]
pub enum DebianError {
    /// A program could not be started.
    #[error("could not run `{program}`")]
    Run {
        /// Its name.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// apt refused, in its own words.
    #[error("apt-get could not {act}: {message}")]
    Apt {
        /// What it was asked.
        act: &'static str,
        /// Its errors.
        message: String,
    },
    /// The machine's apt has its packages from elsewhere.
    #[error("apt's sources name no Debian mirror\nhint: add one to /etc/apt/sources.list.d")]
    NoMirror,
    /// A file of the cache could not be read or written.
    #[error("could not use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A package could not be unpacked.
    #[error("could not unpack {}", path.display())]
    Unpack {
        /// Which.
        path: PathBuf,
        /// What its archive, or dpkg-deb, said.
        source: io::Error,
    },
    /// The layer could not be written.
    #[error("could not write the layer")]
    Write(#[source] io::Error),
}

/// Whether this machine has the tools that [`Apt`] and [`layer`] run.
pub fn is_debian() -> bool {
    ["apt-get", "dpkg-deb"].iter().all(|tool| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()))
    })
}

/// apt with a folder of its own: it reads the machine's sources and changes nothing of the machine.
#[derive(Debug)]
pub struct Apt {
    folder: PathBuf,
    release: Release,
}

/// Whose packages are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    /// Those of the release that the machine runs.
    Machine,
    /// Those of the release in the folder's `sources.list`.
    Other,
}

impl Apt {
    /// Keeps lists and packages under `folder`, which a later run uses again.
    pub fn new(folder: &Path) -> Result<Self, DebianError> {
        for part in ["archives/partial", "none/partial", "lists/partial", "cache"] {
            create(&folder.join(part))?;
        }
        let status = folder.join("status");
        fs::write(&status, "").map_err(|source| DebianError::File { path: status, source })?;
        Ok(Self { folder: folder.to_path_buf(), release: Release::Machine })
    }

    /// As [`Apt::new`], for another release of Debian (`trixie`), from the machine's own mirror.
    ///
    /// # Errors
    ///
    /// The machine's sources name no Debian mirror, or the folder cannot be written.
    pub fn of_release(folder: &Path, release: &str) -> Result<Self, DebianError> {
        let apt = Self { release: Release::Other, ..Self::new(folder)? };
        let keys = KEYRINGS.iter().find(|file| Path::new(file).is_file());
        let keys = keys.map(|file| format!("[signed-by={file}] ")).unwrap_or_default();
        let (list, line) = (folder.join("sources.list"), format!("deb {keys}{} {release} main\n", mirror()?));
        fs::write(&list, line).map_err(|source| DebianError::File { path: list, source })?;
        Ok(apt)
    }

    /// The archives of `packages` and of all that they depend on, fetched unless they are there,
    /// sorted by name. Names carry versions, so they say what an image of them holds.
    pub fn fetch(&self, packages: &[&str]) -> Result<Vec<PathBuf>, DebianError> {
        if self.release == Release::Other {
            self.run("update its lists", Lists::Own, &["update"])?;
            return self.fetch_by(packages, Lists::Own);
        }
        // The machine's own lists, or, where they are missing or name what the mirror has removed, fresh ones.
        self.fetch_by(packages, Lists::Machine).or_else(|_| {
            self.run("update its lists", Lists::Own, &["update"])?;
            self.fetch_by(packages, Lists::Own)
        })
    }

    fn fetch_by(&self, packages: &[&str], lists: Lists) -> Result<Vec<PathBuf>, DebianError> {
        // Asked with an empty archive folder, since apt leaves out what it has already.
        let none = format!("Dir::Cache::archives={}", self.folder.join("none").display());
        let mut ask = vec!["-o", none.as_str(), "--print-uris", "install"];
        ask.extend(packages);
        let answer = self.run("resolve the packages", lists, &ask)?;
        let mut debs: Vec<PathBuf> = uris(&String::from_utf8_lossy(&answer.stdout))
            .map(|name| self.folder.join("archives").join(name))
            .collect();
        debs.sort();
        if debs.iter().any(|deb| !deb.is_file()) {
            let mut fetch = vec!["--download-only", "install"];
            fetch.extend(packages);
            self.run("download the packages", lists, &fetch)?;
        }
        Ok(debs)
    }

    fn run(&self, act: &'static str, lists: Lists, arguments: &[&str]) -> Result<Output, DebianError> {
        let mut apt = Command::new("apt-get");
        apt.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-y"]);
        for (name, part) in [
            ("Dir::State::status", "status"),
            ("Dir::State::extended_states", "extended_states"),
            ("Dir::Cache", "cache"),
            ("Dir::Cache::archives", "archives"),
        ] {
            apt.arg("-o").arg(format!("{name}={}", self.folder.join(part).display()));
        }
        if lists == Lists::Own {
            apt.arg("-o").arg(format!("Dir::State::lists={}", self.folder.join("lists").display()));
        }
        if self.release == Release::Other {
            for (name, part) in [
                ("Dir::Etc::sourcelist", "sources.list"),
                ("Dir::Etc::sourceparts", "none"),
                ("Dir::Etc::preferences", "no-preferences"),
                ("Dir::Etc::preferencesparts", "none"),
            ] {
                apt.arg("-o").arg(format!("{name}={}", self.folder.join(part).display()));
            }
            apt.args(["-o", "Acquire::Languages=none"]);
        }
        // As root apt would download as `_apt`, who may not write here.
        apt.args(["-o", "APT::Sandbox::User=root", "-o", "APT::Install-Recommends=false"]);
        let output =
            apt.args(arguments).output().map_err(|source| DebianError::Run { program: "apt-get", source })?;
        if output.status.success() {
            return Ok(output);
        }
        Err(DebianError::Apt { act, message: errors(&output) })
    }
}

/// Where the machine's apt has Debian's packages from.
fn mirror() -> Result<String, DebianError> {
    let mut apt = Command::new("apt-get");
    let ask =
        apt.env("LC_ALL", "C").args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let output = ask.output().map_err(|source| DebianError::Run { program: "apt-get", source })?;
    if !output.status.success() {
        return Err(DebianError::Apt { act: "list its sources", message: errors(&output) });
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    debian_mirror(&printed).map(str::to_owned).ok_or(DebianError::NoMirror)
}

/// The first address that ends in `/debian`, as Debian's mirrors do, or in the name of a list of mirrors.
fn debian_mirror(addresses: &str) -> Option<&str> {
    addresses.lines().find(|address| {
        let last = address.trim_end_matches('/').rsplit('/').next();
        matches!(last, Some("debian" | "debian.list"))
    })
}

/// What apt printed as errors.
fn errors(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
    errors.join("; ")
}

/// Debian's keys of all releases, by the file's name until and from Debian 13 on.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lists {
    Machine,
    Own,
}

fn create(folder: &Path) -> Result<(), DebianError> {
    fs::create_dir_all(folder).map_err(|source| DebianError::File { path: folder.to_path_buf(), source })
}

/// The file names in what `apt-get --print-uris` prints: `'URI' NAME SIZE HASH` on each line.
fn uris(printed: &str) -> impl Iterator<Item = &str> {
    printed
        .lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|name| name.ends_with(".deb") && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::{debian_mirror, uris};

    #[test]
    fn the_mirror_is_the_first_address_of_debians_main_archive() {
        let addresses =
            "https://other.example/apt/\nhttp://m.example/debian-security/\nhttp://m.example/debian/\n";
        assert_eq!(debian_mirror(addresses), Some("http://m.example/debian/"));
        assert_eq!(debian_mirror("https://other.example/apt/\n"), None);
    }

    #[test]
    fn only_lines_with_an_address_name_a_package() {
        let printed = "Reading package lists...\n'http://m/d/dash_0.5.12-2_amd64.deb' dash_0.5.12-2_amd64.deb 91848 MD5Sum:00\n";
        assert_eq!(uris(printed).collect::<Vec<_>>(), ["dash_0.5.12-2_amd64.deb"]);
    }
}
