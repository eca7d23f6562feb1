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
}

impl Apt {
    /// Keeps lists and packages under `folder`, which a later run uses again.
    pub fn new(folder: &Path) -> Result<Self, DebianError> {
        for part in ["archives/partial", "none/partial", "lists/partial", "cache"] {
            create(&folder.join(part))?;
        }
        let status = folder.join("status");
        fs::write(&status, "").map_err(|source| DebianError::File { path: status, source })?;
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// The archives of `packages` and of all that they depend on, fetched unless they are there,
    /// sorted by name. Names carry versions, so they say what an image of them holds.
    pub fn fetch(&self, packages: &[&str]) -> Result<Vec<PathBuf>, DebianError> {
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
        // As root apt would download as `_apt`, who may not write here.
        apt.args(["-o", "APT::Sandbox::User=root", "-o", "APT::Install-Recommends=false"]);
        let output =
            apt.args(arguments).output().map_err(|source| DebianError::Run { program: "apt-get", source })?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
        Err(DebianError::Apt { act, message: errors.join("; ") })
    }
}

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
    use super::uris;

    #[test]
    fn only_lines_with_an_address_name_a_package() {
        let printed = "Reading package lists...\n'http://m/d/dash_0.5.12-2_amd64.deb' dash_0.5.12-2_amd64.deb 91848 MD5Sum:00\n";
        assert_eq!(uris(printed).collect::<Vec<_>>(), ["dash_0.5.12-2_amd64.deb"]);
    }
}
