//! `claude-bottle images`: what the launcher carries, for the engine, for a file, and to be pinned.

mod save;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::save::Destination;
use crate::cli::console::{print, say};
use crate::cli::failure::Failure;
use crate::cli::options::Global;
use crate::engine::Engine;
use crate::images::{Binary, BuiltImage, ImageSpec, Sidecar, Source, ensure_loaded};
use crate::text::{Lines, line, table};

/// What to do with the images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImagesCommand {
    /// List the images, and whether the engine has them
    List(Which),
    /// Load the images into the engine
    Load(Names),
    /// Write an archive for `docker load`
    ///
    /// `save ssh-gate -o ssh-gate.tar` writes one image, `save images.tar` all of them. A word that
    /// is not the name of an image is the file, if it contains a dot or a slash; -o takes any name.
    /// `-` is stdout. Without a file the archive goes to stdout, if that is not a terminal:
    /// `save ssh-gate | docker load`. No engine is needed. The digests of what was written are
    /// printed, unless it went to stdout.
    Save(SaveArgs),
    /// Print the digests of the images
    ///
    /// No engine is needed. An engine's id of an image is the digest of its configuration, with the containerd image
    /// store that of its manifest. Equal binaries have equal digests wherever they are built.
    Digest(Which),
    /// Compare the engine's images with the launcher's: the exit code is 0 if all are equal, else 1
    Verify(Names),
}

/// Some of the images.
#[derive(Debug, Clone, Args)]
pub(crate) struct Names {
    /// Only these [default: all]
    #[arg(value_name = "NAME", value_parser = binaries())]
    names: Vec<Binary>,
}

/// Some of the images, for an architecture.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    #[command(flatten)]
    names: Names,
    /// For this architecture [default: this machine's]
    #[arg(long, value_name = "ARCH", value_parser = arch)]
    arch: Option<String>,
}

/// Arguments of `images save`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SaveArgs {
    /// Only these images [default: all], and at most one other word: the file
    #[arg(value_name = "NAME|FILE")]
    words: Vec<String>,
    /// The file to write, - for stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// For this architecture [default: this machine's]
    #[arg(long, value_name = "ARCH", value_parser = arch)]
    arch: Option<String>,
}

/// Carries out one of them.
///
/// # Errors
/// [`Failure`], with its exit code, when an image cannot be made, written or loaded.
pub(crate) async fn run(global: &Global, command: ImagesCommand) -> Result<u8, Failure> {
    match command {
        ImagesCommand::List(which) => list(global, &which).await,
        ImagesCommand::Load(names) => load(global, &names).await,
        ImagesCommand::Save(args) => save(global, args),
        ImagesCommand::Digest(which) => {
            let images = carried(&which.names, which.arch.as_deref())?;
            let rows = images.iter().map(Carried::digests);
            print(global, || table(["NAME", "CONFIG", "MANIFEST"], rows), &images)
        }
        ImagesCommand::Verify(names) => verify(global, &names).await,
    }
}

/// An image that the launcher carries.
#[derive(Debug, Clone, Serialize)]
struct Carried {
    name: Binary,
    arch: String,
    /// The name that it is loaded under.
    image: String,
    config: String,
    manifest: String,
    /// Of the binary, which is all that is in it, bytes.
    size: usize,
    /// `embedded`, or the file that the binary is read from.
    source: String,
    #[serde(skip)]
    spec: ImageSpec,
    #[serde(skip)]
    built: BuiltImage,
}

impl Carried {
    fn find(name: Binary, arch: &str) -> Result<Carried, Failure> {
        let sidecar = Sidecar::find(name, arch)?;
        let (spec, built) = (sidecar.image(), sidecar.image().build());
        Ok(Carried {
            name: sidecar.binary,
            arch: sidecar.arch,
            image: built.tag.clone(),
            config: built.config_digest.clone(),
            manifest: built.manifest_digest.clone(),
            size: sidecar.bytes.len(),
            source: match sidecar.source {
                Source::Embedded => "embedded".to_owned(),
                Source::File(path) => path.display().to_string(),
            },
            spec,
            built,
        })
    }

    fn digests(&self) -> [String; 3] {
        [self.name.name().to_owned(), self.config.clone(), self.manifest.clone()]
    }
}

/// A carried image, and whether the engine has it; `null` where no engine answers.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    carried: &'a Carried,
    loaded: Option<bool>,
}

async fn list(global: &Global, which: &Which) -> Result<u8, Failure> {
    let images = carried(&which.names, which.arch.as_deref())?;
    let engine = global.engine()?;
    // What is carried is carried whether or not there is an engine to have it.
    let mut answers = true;
    let mut listed = Vec::new();
    for carried in &images {
        let held = if answers { held(&engine, &carried.built).await.ok() } else { None };
        answers = held.is_some();
        listed.push(Listed { carried, loaded: held.map(|held| matches!(held, Held::Equal(_))) });
    }
    let row = |one: &Listed<'_>| {
        let loaded = match one.loaded {
            Some(true) => "yes",
            Some(false) => "no",
            None => "no engine",
        };
        let Carried { name, arch, image, size, .. } = one.carried;
        let size = format!("{}.{:02} MB", size / 1_000_000, size % 1_000_000 / 10_000);
        [name.name().to_owned(), arch.clone(), size, image.clone(), loaded.to_owned()]
    };
    let head = ["NAME", "ARCH", "SIZE", "IMAGE", "LOADED"];
    print(global, || table(head, listed.iter().map(row)), &listed)
}

async fn load(global: &Global, names: &Names) -> Result<u8, Failure> {
    let engine = global.engine()?;
    let arch = engine.info().await?.arch;
    let mut loaded = std::collections::BTreeMap::new();
    for carried in carried(names, Some(&arch))? {
        loaded.insert(carried.image, ensure_loaded(&engine, &carried.built).await?);
    }
    print(global, || pairs(loaded.iter()), &loaded)
}

fn save(global: &Global, args: SaveArgs) -> Result<u8, Failure> {
    let (names, to) = save::read(args.words, args.output)?;
    let images = carried(&Names { names }, args.arch.as_deref())?;
    let specs: Vec<ImageSpec> = images.iter().map(|one| one.spec.clone()).collect();
    save::write(&to, &ImageSpec::build_together(&specs))?;
    if to == Destination::Stdout || global.quiet {
        return Ok(0);
    }
    print(global, || pairs(images.iter().map(|one| (&one.image, &one.config))), &images)
}

/// Images, each with its id.
fn pairs<'a>(of: impl Iterator<Item = (&'a String, &'a String)>) -> Lines {
    let mut lines = Lines::default();
    for (image, id) in of {
        lines.line(format_args!("{image} {id}"));
    }
    lines
}

/// What the engine has in place of a carried image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    /// The image, by this id.
    Equal(String),
    /// Nothing.
    Nothing,
    /// Something else under its name, with this id.
    Other(String),
}

async fn held(engine: &impl Engine, built: &BuiltImage) -> Result<Held, Failure> {
    if let Some(image) = engine.image(&built.tag).await? {
        return Ok(if built.is(&image.id) { Held::Equal(image.id) } else { Held::Other(image.id) });
    }
    // Somebody may have taken the name from it: it is still what a bottle is made of.
    for id in [&built.config_digest, &built.manifest_digest] {
        if let Some(image) = engine.image(id).await?.filter(|image| built.is(&image.id)) {
            return Ok(Held::Equal(image.id));
        }
    }
    Ok(Held::Nothing)
}

/// What `verify` says of an image.
#[derive(Serialize)]
struct Verified {
    name: Binary,
    image: String,
    /// `equal`, `missing` or `differs`.
    verdict: &'static str,
    expected: String,
    found: Option<String>,
}

async fn verify(global: &Global, names: &Names) -> Result<u8, Failure> {
    let engine = global.engine()?;
    let arch = engine.info().await?.arch;
    let mut verified = Vec::new();
    for carried in carried(names, Some(&arch))? {
        let (verdict, found) = match held(&engine, &carried.built).await? {
            Held::Equal(id) => ("equal", Some(id)),
            Held::Nothing => ("missing", None),
            Held::Other(id) => ("differs", Some(id)),
        };
        let Carried { name, image, config: expected, .. } = carried;
        verified.push(Verified { name, image, verdict, expected, found });
    }
    let row = |one: &Verified| {
        let found = one.found.clone().unwrap_or_else(|| "-".to_owned());
        [one.image.clone(), one.verdict.to_owned(), found]
    };
    print(global, || table(["IMAGE", "VERDICT", "FOUND"], verified.iter().map(row)), &verified)?;
    if verified.iter().any(|one| one.verdict == "missing") && !global.quiet {
        say(&line("hint: load what is missing with `claude-bottle images load`; `start` does it too"));
    }
    Ok(u8::from(verified.iter().any(|one| one.verdict != "equal")))
}

fn carried(names: &Names, arch: Option<&str>) -> Result<Vec<Carried>, Failure> {
    let arch = arch.unwrap_or(std::env::consts::ARCH);
    let wanted = |name: &Binary| names.names.is_empty() || names.names.contains(name);
    Binary::ALL.into_iter().filter(wanted).map(|name| Carried::find(name, arch)).collect()
}

/// The names that a command line may use.
fn binaries() -> impl TypedValueParser<Value = Binary> {
    let names = Binary::ALL.map(Binary::name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Binary>())
}

/// An architecture, in Rust's words or Go's.
fn arch(text: &str) -> Result<String, String> {
    match text {
        "x86_64" | "amd64" => Ok("x86_64".to_owned()),
        "aarch64" | "arm64" => Ok("aarch64".to_owned()),
        _ => Err("expected x86_64 (amd64) or aarch64 (arm64)".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Image;
    use crate::engine::recording::Recording;

    fn image(id: &str) -> Image {
        Image { id: id.to_owned(), user: None, working_dir: None }
    }

    #[tokio::test]
    async fn an_engine_has_the_image_or_nothing_or_something_else_under_its_name() {
        let built = BuiltImage {
            pieces: std::sync::Arc::default(),
            config_digest: "sha256:c".into(),
            manifest_digest: "sha256:m".into(),
            tag: "localhost/claude-bottle/ssh-gate:c".into(),
        };
        let with = |name: &str, id: &str| Recording::new().with_image(name, image(id));
        for (engine, expected) in [
            (with(&built.tag, "sha256:c"), Held::Equal("sha256:c".into())),
            (with(&built.tag, "sha256:m"), Held::Equal("sha256:m".into())),
            (with("sha256:m", "sha256:m"), Held::Equal("sha256:m".into())),
            (with(&built.tag, "sha256:x"), Held::Other("sha256:x".into())),
            (Recording::new(), Held::Nothing),
        ] {
            assert_eq!(held(&engine, &built).await.unwrap(), expected);
        }
    }

    #[test]
    fn an_architecture_has_two_names() {
        assert_eq!((arch("arm64"), arch("x86_64")), (Ok("aarch64".into()), Ok("x86_64".into())));
        assert!(arch("riscv64").is_err());
    }
}
