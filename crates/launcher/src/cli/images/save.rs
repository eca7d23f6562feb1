//! Where `images save` writes to, and what of: names and a file stand side by side on its command line.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use crate::cli::console::NotWritten;
use crate::cli::failure::{Failure, Kind};
use crate::images::Binary;

/// Where an archive goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// To stdout.
    Stdout,
    /// Into this file.
    File(PathBuf),
}

/// Tells names from the file.
pub(super) fn read(
    words: Vec<String>,
    output: Option<PathBuf>,
) -> Result<(Vec<Binary>, Destination), Failure> {
    let (mut names, mut others) = (Vec::new(), Vec::new());
    for word in words {
        match word.parse() {
            Ok(name) => names.push(name),
            Err(_) => others.push(word),
        }
    }
    let expected = Binary::ALL.map(Binary::name).join(", ");
    let usage = |text: String, hint: &str| Err(Failure::new(Kind::Usage, text).hint(hint));
    let file = match (output, others.pop()) {
        (Some(file), None) => Some(file),
        (None, Some(word)) if !others.is_empty() => {
            return usage(format!("expected one file, found {:?} and {word:?}", others[0]), MISSPELT);
        }
        // A name that is misspelt must not become the file of an archive of all images.
        (None, Some(word)) if word != "-" && !word.contains(['.', '/']) => {
            return usage(format!("expected one of {expected} or a file, found {word:?}"), MISSPELT);
        }
        (Some(_), Some(word)) => {
            return usage(format!("expected one of {expected}, found {word:?}"), "-o names the file already");
        }
        (None, word) => word.map(PathBuf::from),
    };
    Ok((names, file.filter(|file| file.as_os_str() != "-").map_or(Destination::Stdout, Destination::File)))
}

/// Writes the archive.
pub(super) fn write(to: &Destination, archive: &[u8]) -> Result<(), Failure> {
    let written = match to {
        Destination::Stdout if io::stdout().is_terminal() => {
            return Err(Failure::new(Kind::Usage, "an archive is not for a terminal")
                .hint("name a file, e.g. -o images.tar, or pipe it into `docker load`"));
        }
        Destination::Stdout => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(archive).and_then(|()| stdout.flush())
        }
        Destination::File(path) => fs::write(path, archive),
    };
    let place = match to {
        Destination::Stdout => "stdout".to_owned(),
        Destination::File(path) => format!("`{}`", path.display()),
    };
    written.map_err(|source| Failure::new(Kind::Output, NotWritten { what: "the archive", place, source }))
}

const MISSPELT: &str = "-o FILE takes a file of any name";

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(words: &[&str], output: Option<&str>) -> Result<(Vec<Binary>, Destination), Failure> {
        read(words.iter().map(|&word| word.to_owned()).collect(), output.map(PathBuf::from))
    }

    #[test]
    fn names_and_the_file_are_told_apart() {
        let file = |path: &str| Destination::File(path.into());
        for (words, output, names, to) in [
            (&[][..], None, &[][..], Destination::Stdout),
            (&["-"], None, &[], Destination::Stdout),
            (&["ssh-gate"], None, &["ssh-gate"], Destination::Stdout),
            (&["images.tar"], None, &[], file("images.tar")),
            (&["out/images"], None, &[], file("out/images")),
            (&["ssh-gate", "gate.tar"], None, &["ssh-gate"], file("gate.tar")),
            (&["ssh-gate", "cred-proxy"], Some("both"), &["ssh-gate", "cred-proxy"], file("both")),
            (&["ssh-gate"], Some("-"), &["ssh-gate"], Destination::Stdout),
            (&["./ssh-gate"], None, &[], file("./ssh-gate")),
        ] {
            let (found, destination) = reading(words, output).unwrap();
            assert_eq!(
                found.iter().map(|name| name.name()).collect::<Vec<_>>(),
                names,
                "{words:?} {output:?}"
            );
            assert_eq!(destination, to, "{words:?} {output:?}");
        }
    }

    #[test]
    fn a_misspelt_name_never_becomes_a_file() {
        for (words, output) in [
            (&["ssh-gaet"][..], None),
            (&["ssh-gaet"], Some("gate.tar")),
            (&["gate.tar"], Some("gate.tar")),
            (&["a.tar", "b.tar"], None),
        ] {
            assert_eq!(reading(words, output).unwrap_err().kind, Kind::Usage, "{words:?} {output:?}");
        }
    }
}
