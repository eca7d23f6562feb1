//! Whether the sidecars are what a scratch image needs: static, and not larger than agreed.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::build::Tree;
use crate::story::Story;

/// The largest that each sidecar may be, in bytes (PERFORMANCE.md).
const CEILINGS: [(&str, u64); 3] =
    [("ssh-gate", 1_800_000), ("cred-proxy", 5_000_000), ("bottle-guest", 1_500_000)];

/// Why the sidecars will not do.
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    /// One is not there.
    #[error("could not read {}, which `cargo xtask build` makes", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Some are too large, or need a dynamic loader.
    #[error("not as a sidecar must be: {}", names.join(", "))]
    Unfit {
        /// Which.
        names: Vec<&'static str>,
    },
}

/// Prints a line for each sidecar.
///
/// # Errors
///
/// One is missing, too large or not static.
pub fn sizes(tree: &Tree) -> Result<(), SizeError> {
    let story = Story::begin();
    let mut unfit = Vec::new();
    for (name, ceiling) in CEILINGS {
        let path = tree.sidecar(name);
        let binary = fs::read(&path).map_err(|source| SizeError::Read { path, source })?;
        let size = binary.len() as u64;
        let linked = if is_static(&binary) { "static" } else { "not static" };
        let fit = is_static(&binary) && size <= ceiling;
        let (size, of) = (megabytes(size), megabytes(ceiling));
        let verdict = story.verdict(fit, if fit { "ok" } else { "NOT AS EXPECTED" });
        story.line(format_args!("{name:<14} {size} MB of at most {of} MB, {linked}: {verdict}"));
        if !fit {
            unfit.push(name);
        }
    }
    if unfit.is_empty() { Ok(()) } else { Err(SizeError::Unfit { names: unfit }) }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{:02}", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}

/// Whether `binary` is a 64-bit little-endian ELF file without `PT_INTERP`, that is, without a
/// dynamic loader (elf(5)).
fn is_static(binary: &[u8]) -> bool {
    const PT_INTERP: usize = 3;
    let number = |at: usize, width: usize| {
        let bytes = binary.get(at..at + width)?;
        Some(bytes.iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte)))
    };
    // e_phoff, e_phentsize and e_phnum say where the program headers are; each begins with its type.
    let (Some(first), Some(size), Some(count)) = (number(32, 4), number(54, 2), number(56, 2)) else {
        return false;
    };
    binary.starts_with(b"\x7fELF\x02\x01")
        && (0..count).all(|index| number(first + index * size, 4).is_some_and(|kind| kind != PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_asks_for_a_loader_is_not_static() {
        // Test programs are linked to the machine's C library.
        let ourselves = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&ourselves));
    }

    #[test]
    fn what_is_no_program_is_not_static() {
        assert!(!is_static(b"#!/bin/sh"));
    }

    #[test]
    fn a_program_whose_headers_name_no_loader_is_static() {
        let mut program = vec![0; 64 + 56];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        program[32] = 64;
        program[54] = 56;
        program[56] = 1;
        program[64] = 1;
        assert!(is_static(&program));
    }
}
