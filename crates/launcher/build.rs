//! Puts the sidecars' binaries into the launcher.
//!
//! `CLAUDE_BOTTLE_SIDECARS` names a folder that holds `<arch>-unknown-linux-musl/release/<name>`
//! (cargo's target folder does) or `<arch>/<name>`. What is there is embedded. Without the variable
//! nothing is, and the launcher looks for the files beside itself.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];
const NAMES: [&str; 3] = ["ssh-gate", "cred-proxy", "bottle-guest"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CLAUDE_BOTTLE_SIDECARS");
    let folder = std::env::var_os("CLAUDE_BOTTLE_SIDECARS").filter(|folder| !folder.is_empty());

    let mut table = String::from("static EMBEDDED: &[(&str, &str, &[u8])] = &[\n");
    for arch in ARCHITECTURES {
        for name in NAMES {
            if let Some(binary) = folder.as_ref().and_then(|folder| binary(Path::new(folder), arch, name)) {
                writeln!(table, "    ({arch:?}, {name:?}, include_bytes!({binary:?})),")
                    .expect("a String takes it");
            }
        }
    }
    table.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("sidecars.rs"), table).expect("OUT_DIR can be written to");
}

fn binary(folder: &Path, arch: &str, name: &str) -> Option<PathBuf> {
    let built = folder.join(format!("{arch}-unknown-linux-musl/release/{name}"));
    let packed = folder.join(arch).join(name);
    for path in [&built, &packed] {
        // A missing file is watched where its neighbours may be, so that it is embedded once it
        // exists; not in the folder of an architecture that nobody builds, since cargo runs this
        // anew for as long as a watched file is missing.
        if path.parent().is_some_and(Path::is_dir) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    [built, packed].into_iter().find(|path| path.is_file())?.canonicalize().ok()
}
