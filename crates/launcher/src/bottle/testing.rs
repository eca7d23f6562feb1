//! A planned bottle and an engine for it, for tests.

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::engine::recording::{Answer, Recording, Run};
use crate::engine::{EngineInfo, Image, Product};
use crate::host::Host;
use crate::host::settings::Settings;
use crate::images::{Binary, BuiltImage, ImagesError, Sidecar, Source};
use crate::manifest::parse;
use crate::plan::{Plan, Request, plan};
use crate::secrets::{Found, PrivateKey};

pub(crate) const TOKEN: &str = "tok-3f9d1c-not-a-real-one";
pub(crate) const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n";

pub(crate) const MANIFEST: &str = r#"{ "bottles": { "dev": { "image": "img:1",
    "env": { "NODE_ENV": "development" },
    "ssh": [ { "Host": "github", "Hostname": "github.com", "IdentityFile": "/k",
        "KnownHostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJfzG0mGkZ9SQxHnsUJm7eNUWWgmyVVWs9PqTXhL2xPq" } ],
    "cred_proxy": { "routes": [ { "path": "/api/", "upstream": "https://api.example.com",
        "auth": { "scheme": "bearer" }, "token": { "env": "API_TOKEN" } } ] },
    "hosts": { "git.corp.example": "10.1.2.3" } } },
  "agents": { "dev": { "bottle": "dev", "prompt": "Be brief." } } }"#;

/// A key as it is handed over.
pub(crate) fn keyed() -> PrivateKey {
    PrivateKey { bytes: Zeroizing::new(KEY.as_bytes().to_vec()), public: "ssh-ed25519 AAAA".into() }
}

/// A binary that the launcher carries.
pub(crate) fn carried(binary: Binary, arch: &str) -> Result<Sidecar, ImagesError> {
    let bytes = binary.name().as_bytes().into();
    Ok(Sidecar { binary, arch: arch.to_owned(), bytes, source: Source::Embedded })
}

fn built(binary: Binary) -> BuiltImage {
    carried(binary, "x86_64").unwrap().image().build()
}

/// The agent's image.
pub(crate) fn image() -> Image {
    Image { id: "sha256:agent".into(), user: Some("node".into()), working_dir: None }
}

/// Docker, as it describes itself.
pub(crate) fn docker() -> EngineInfo {
    EngineInfo {
        product: Product::Docker,
        version: "20.10.24".into(),
        api: "1.41".into(),
        arch: "x86_64".into(),
        runtimes: vec!["runc".into()],
        local: false,
    }
}

/// An engine that has the agent's image, whose programs do as they should.
pub(crate) fn engine(recording: Recording) -> Recording {
    let passwd = "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n";
    recording
        .with_image("img:1", image())
        .with_info(docker())
        .with_file("/etc/passwd", passwd)
        .with_runs(answer)
}

/// What the programs of the agent's image answer.
pub(crate) fn answer(run: &Run) -> Answer {
    let relay = run.spec.command.iter().any(|word| word.contains("relay"));
    let stdout = if relay { b"{\"event\":\"ready\"}\n".to_vec() } else { Vec::new() };
    Answer { stdout, ..Answer::default() }
}

/// What is known of this machine when the bottle is planned.
pub(crate) fn host() -> Host {
    Host {
        engine: Some(docker()),
        image: Some(image()),
        images: Binary::ALL.map(|binary| (binary, built(binary))).into(),
        guest: Bytes::from_static(b"guest"),
        ..Host::default()
    }
}

/// The plan of [`MANIFEST`].
pub(crate) fn planned() -> Plan {
    let settings = Settings::read(|_| None).unwrap();
    let request = Request { manifest: "/m".into(), agent: "dev".into(), command: None, settings };
    plan(&parse("m", MANIFEST).unwrap(), &request, &host(), &Found::default()).unwrap()
}
