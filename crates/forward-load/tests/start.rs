//! The start of a forwarder is measured from its process to its first answer, and each one is a
//! process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use forward_load::compare::{Ground, Launch, Needs, Peer, Running, Site, start};
use forward_load::interrupt::Interrupt;
use forward_load::report::Sample;
use forward_load::tcp::answers;

/// Our own backend in the place of a forwarder: it answers as what is behind one would.
fn launch(site: &Site<'_>) -> Launch {
    let arguments = ["tcp", "--serve", &site.listen.to_string()].map(Into::into).into();
    Launch { arguments, ..Launch::default() }
}

/// Measures the starts of a script that ends as our backend.
fn measured(folder: &Path, before: &str, window: Duration) -> Sample {
    let program = folder.join("peer");
    let backend = env!("CARGO_BIN_EXE_forward-load");
    fs::write(&program, format!("#!/bin/sh\n{before}\nexec {backend} \"$@\"\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let peer = Peer {
        name: "peer",
        program: "peer",
        install: "",
        release: &[],
        settings: &[],
        most: Needs::ANY,
        launch,
    };
    let upstream: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let ground = Ground { upstream, ca: None, server_name: "", credential: "" };
    let needs = Needs { connections: 1, rows: 1 };
    let deaf = Interrupt::deaf();
    let once = || Some(Running::start(&peer, &program, &ground, needs, &answers, &deaf));
    start::measure(&once, window, None, &deaf)
}

#[test]
fn a_start_takes_until_the_first_answer_and_ends_with_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let started = folder.path().join("started");
    let before = format!("echo $$ >> {}\n/bin/sleep 0.1", started.display());
    let sample = measured(folder.path(), &before, Duration::from_millis(500));
    assert_eq!((sample.failure.as_deref(), sample.errors.total()), (None, 0), "{sample:?}");
    let latency = sample.latency.unwrap();
    assert!(latency.p50_us >= 100_000.0 && latency.count >= 1, "{latency:?}");
    assert_eq!(sample.figures[0].name, "start");
    assert!(sample.value("mem").unwrap() > 100_000.0, "{sample:?}");
    assert!(sample.value("CPU each").is_none_or(|cpu| cpu > 0.0 && cpu < 1e6), "{sample:?}");
    let started = fs::read_to_string(started).unwrap();
    let processes: Vec<&str> = started.lines().collect();
    assert_eq!(processes.len() as u64, latency.count, "a process for each start");
    assert!(processes.iter().all(|pid| !Path::new("/proc").join(pid).exists()), "{processes:?}");
}

#[test]
fn a_forwarder_is_started_once_also_when_that_takes_longer_than_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let sample = measured(folder.path(), "/bin/sleep 0.05", Duration::from_millis(1));
    assert_eq!(sample.value("starts"), Some(1.0), "{sample:?}");
}

#[test]
fn a_forwarder_that_does_not_start_is_a_failure_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let sample = measured(folder.path(), "echo no such option; exit 2", Duration::from_secs(60));
    let failure = sample.failure.unwrap();
    assert!(failure.contains("exit code 2") && failure.contains("no such option"), "{failure}");
}
