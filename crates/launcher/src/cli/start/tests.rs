use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser as _;

use super::*;
use crate::bottle::testing::{MANIFEST, TOKEN, answer, carried, docker, engine};
use crate::cli::Cli;
use crate::engine::recording::{Answer, Recording};
use crate::engine::{EngineInfo, Product};
use crate::manifest::parse;

/// A start of the bottle of the tests, with a real key file.
struct Scene {
    folder: tempfile::TempDir,
    global: Global,
    manifest: Manifest,
    command: Vec<String>,
    interrupt: Interrupt,
    asked: Mutex<usize>,
}

/// What a start did.
struct Done {
    code: Result<u8, Failure>,
    stdout: String,
}

impl Scene {
    fn new(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status()
            .expect("ssh-keygen is needed: install openssh-client");
        assert!(made.success());
        let line = [&["claude-bottle"], options, &["list"]].concat();
        Self {
            manifest: parse("m", &MANIFEST.replace("\"/k\"", &format!("{:?}", key.display().to_string())))
                .unwrap(),
            folder,
            global: Cli::try_parse_from(line).unwrap().global,
            command: vec!["true".into()],
            interrupt: Interrupt::default(),
            asked: Mutex::new(0),
        }
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    async fn start(&self, engine: &Recording, consent: impl AsyncFnOnce() -> Result<(), Failure>) -> Done {
        let settings = Settings::read(|_| None).unwrap();
        let request = Request {
            manifest: "/m".into(),
            agent: "dev".into(),
            command: Some(self.command.clone()),
            settings,
        };
        let variable = |name: &str| (name == "API_TOKEN").then(|| TOKEN.to_owned());
        let start =
            Start { global: &self.global, manifest: &self.manifest, request: &request, variable, carried };
        let life = Life {
            address: self.folder.path().display().to_string(),
            states: None,
            interrupt: &self.interrupt,
            confirm: async || {
                *self.asked.lock().unwrap() += 1;
                consent().await
            },
        };
        let mut stdout = Vec::new();
        let terminal =
            Terminal { stdin: None::<tokio::io::Empty>, stdout: &mut stdout, stderr: tokio::io::sink() };
        let code = start.run(engine, life, terminal).await;
        Done { code, stdout: String::from_utf8(stdout).unwrap() }
    }

    async fn agreed(&self, engine: &Recording) -> Done {
        self.start(engine, async || Ok(())).await
    }
}

fn kind(done: Done) -> Kind {
    done.code.unwrap_err().kind
}

/// An engine in which the command prints and ends so.
fn ending(recording: Recording, stdout: &'static [u8], exit_code: i64) -> Recording {
    engine(recording).with_runs(move |run| match run.spec.command[..] {
        [ref program] if program == "true" => {
            Answer { stdout: stdout.to_vec(), exit_code, ..Answer::default() }
        }
        _ => answer(run),
    })
}

fn created(engine: &Recording) -> bool {
    engine.calls().iter().any(|call| call.starts_with("create") || call.starts_with("load"))
}

#[tokio::test]
async fn the_exit_code_and_the_output_are_the_commands_and_nothing_is_left() {
    let engine = ending(Recording::new(), b"hello\n", 7);
    let done = Scene::new(&["-y", "-q"]).agreed(&engine).await;
    assert_eq!((done.code.unwrap(), done.stdout.as_str()), (7, "hello\n"));
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_no_leaves_the_secrets_unread_and_the_engine_as_it_was() {
    let engine = engine(Recording::new());
    let scene = Scene::new(&["-q"]);
    // Whoever reads the key now fails: it is no longer one.
    std::fs::File::create(scene.key()).unwrap().write_all(b"not a key").unwrap();
    let declined = async || Err(Failure::new(Kind::Declined, "no"));
    assert_eq!(kind(scene.start(&engine, declined).await), Kind::Declined);
    assert!(!created(&engine), "{:?}", engine.calls());
    assert_eq!(kind(scene.agreed(&engine).await), Kind::Secret);
    assert!(!created(&engine), "{:?}", engine.calls());
}

#[tokio::test]
async fn what_is_missing_is_said_before_the_question() {
    let scene = Scene::new(&["-q"]);
    std::fs::remove_file(scene.key()).unwrap();
    assert_eq!(kind(scene.agreed(&engine(Recording::new())).await), Kind::Secret);
    let scene = Scene::new(&["-q"]);
    let failure = scene.agreed(&Recording::new().with_info(docker())).await.code.unwrap_err();
    assert_eq!(failure.kind, Kind::Engine);
    assert!(failure.to_string().contains("img:1"), "{failure}");
    assert_eq!(*scene.asked.lock().unwrap(), 0);
}

#[tokio::test]
async fn an_unproved_engine_is_refused_unless_the_user_insists() {
    let podman = || {
        let info = EngineInfo { product: Product::Podman, ..docker() };
        ending(Recording::new(), b"", 0).with_info(info)
    };
    let refusing = podman();
    let failure = Scene::new(&["-y", "-q"]).agreed(&refusing).await.code.unwrap_err();
    assert_eq!(failure.kind, Kind::Engine);
    assert!(failure.lines().as_str().contains("--unproved-engine"), "{failure}");
    assert!(!created(&refusing));
    // Before the image, which would not help.
    let info = EngineInfo { product: Product::Podman, ..docker() };
    let without_image = Recording::new().with_info(info);
    let failure = Scene::new(&["-y", "-q"]).agreed(&without_image).await.code.unwrap_err();
    assert!(failure.lines().as_str().contains("--unproved-engine"), "{failure}");
    let done = Scene::new(&["-y", "-q", "--unproved-engine"]).agreed(&podman()).await;
    assert_eq!(done.code.unwrap(), 0);
}

#[tokio::test]
async fn what_was_agreed_to_runs_even_if_the_tag_has_moved() {
    let engine = ending(Recording::new(), b"", 0);
    let moved = engine.clone();
    let done = Scene::new(&["-q"])
        .start(&engine, async || {
            let image = crate::engine::Image { id: "sha256:other".into(), user: None, working_dir: None };
            drop(moved.with_image("img:1", image));
            Ok(())
        })
        .await;
    assert_eq!(done.code.unwrap(), 0);
    assert_eq!(engine.created("claude-bottle-dev").unwrap().image, "sha256:agent");
}

#[tokio::test]
async fn a_table_that_does_not_fit_into_a_bundle_is_the_manifests_fault() {
    let mut scene = Scene::new(&["-y", "-q"]);
    let certificate = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ca-one.pem")).unwrap();
    let file = scene.folder.path().join("ca.pem");
    std::fs::write(&file, certificate.repeat(900_000 / certificate.len())).unwrap();
    let bottle = scene.manifest.bottles.get_mut("dev").unwrap();
    bottle.cred_proxy.routes[0].ca_file = Some(file);
    let mut second = bottle.cred_proxy.routes[0].clone();
    second.path = "/second/".parse().unwrap();
    bottle.cred_proxy.routes.push(second);
    let engine = engine(Recording::new());
    let failure = scene.agreed(&engine).await.code.unwrap_err();
    assert_eq!(failure.kind, Kind::Manifest, "{failure}");
    assert!(failure.to_string().contains("could not hand over the table of cred-proxy"), "{failure}");
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_signal_at_the_question_ends_it_without_a_trace() {
    let engine = engine(Recording::new());
    let scene = Scene::new(&["-q"]);
    let done = scene
        .start(&engine, async || {
            scene.interrupt.first.cancel();
            std::future::pending().await
        })
        .await;
    assert_eq!(kind(done), Kind::Interrupted);
    assert!(!created(&engine));
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_every_wait() {
    let total = {
        let engine = ending(Recording::new(), b"", 0);
        Scene::new(&["-y", "-q"]).agreed(&engine).await.code.unwrap();
        engine.calls().len()
    };
    for n in 6..total {
        let engine = ending(Recording::stalling(n), b"", 0);
        let scene = Scene::new(&["-y", "-q"]);
        let signals = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            scene.interrupt.first.cancel();
            tokio::time::sleep(Duration::from_secs(1)).await;
            scene.interrupt.second.cancel();
        };
        let both = async { tokio::join!(scene.agreed(&engine), signals).0 };
        let done = tokio::time::timeout(Duration::from_secs(10), both).await;
        let done = done.unwrap_or_else(|_| panic!("{:?} is waited for", engine.calls().get(n)));
        assert!(done.code.is_err() || matches!(done.code, Ok(74 | 130)), "{:?}", engine.calls().get(n));
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_second_signal_an_object_under_creation_is_named_too() {
    let (engine, pending) = (engine(Recording::new()), Pending::default());
    let object = Named { kind: ObjectKind::Container, name: "claude-bottle-dev".into() };
    let stalled = pending.creation(object.clone(), std::future::pending::<Result<(), EngineError>>());
    tokio::time::timeout(Duration::from_secs(1), stalled).await.unwrap_err();
    let plan = crate::bottle::testing::planned();
    let remains = remains(&engine, &plan, &LauncherId::own(), &pending).await;
    assert_eq!(remains, BTreeSet::from([object]));
}

#[test]
fn a_path_of_any_bytes_can_be_planned_and_written_down() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = |byte: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(&[b"/home/", byte, b"/k"].concat()));
    let planned = |path: PathBuf| {
        let mut manifest = parse("m", MANIFEST).unwrap();
        manifest.bottles.get_mut("dev").unwrap().ssh[0].identity_file.clone_from(&path);
        let settings = Settings::read(|_| None).unwrap();
        let request = Request { manifest: path, agent: "dev".into(), command: None, settings };
        plan(&manifest, &request, &crate::bottle::testing::host(), &Found::default()).unwrap()
    };
    let (one, other) = (planned(folder(b"\xff")), planned(folder(b"\xfe")));
    assert_ne!(one.hash, other.hash);
    let json = serde_json::to_value(&one).unwrap();
    assert_eq!(json["manifest"], "/home/\\xff/k");
    assert_eq!(
        serde_json::to_value(planned("/home/\u{e9}\\/k".into())).unwrap()["manifest"],
        "/home/\u{e9}\\/k"
    );
}

#[tokio::test]
async fn output_that_cannot_be_written_is_74_with_its_cause() {
    struct Full;
    impl AsyncWrite for Full {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::task::Poll::Ready(Err(rustix::io::Errno::NOSPC.into()))
        }
        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Ok(()))
        }
    }
    let engine = ending(Recording::new(), b"hello\n", 0);
    let scene = Scene::new(&["-y", "-q"]);
    let settings = Settings::read(|_| None).unwrap();
    let request = Request {
        manifest: "/m".into(),
        agent: "dev".into(),
        command: Some(scene.command.clone()),
        settings,
    };
    let variable = |name: &str| (name == "API_TOKEN").then(|| TOKEN.to_owned());
    let start =
        Start { global: &scene.global, manifest: &scene.manifest, request: &request, variable, carried };
    let life = Life {
        address: scene.folder.path().display().to_string(),
        states: None,
        interrupt: &scene.interrupt,
        confirm: async || Ok::<_, Failure>(()),
    };
    let terminal = Terminal { stdin: None::<tokio::io::Empty>, stdout: Full, stderr: tokio::io::sink() };
    let failure = start.run(&engine, life, terminal).await.unwrap_err();
    assert_eq!(failure.kind.code(), 74);
    assert!(failure.to_string().contains("No space left on device"), "{failure}");
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}
