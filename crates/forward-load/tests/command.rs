//! What the binary promises: whom it refuses to load, how it ends, and what it keeps.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn forward_load() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forward-load"));
    // So that no peer is found but those that a test names.
    command.env("PATH", "/nonexistent").stdin(Stdio::null());
    command
}

fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    told(&forward_load().args(arguments).output().unwrap())
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn report(path: &Path) -> Option<Value> {
    let text = fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).expect("the file is whole whenever it is read"))
}

fn samples(path: &Path) -> usize {
    report(path).map_or(0, |report| report["samples"].as_array().unwrap().len())
}

/// A comparison that lasts long, once its first rounds are in the file.
fn under_way(file: &Path) -> Child {
    let mut child = forward_load()
        .args(["compare", "tcp", "--rounds", "1000", "--duration", "50ms", "--peer", "socat"])
        .args(["--scenario", "ping-pong, 1 connection", "--report"])
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while samples(file) < 2 {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn a_target_that_may_be_somebody_elses_is_refused() {
    let (code, _, said) = output(&["tcp", "pingpong", "--to", "198.51.100.1:22"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("neither a loopback nor a private address") && said.contains("--i-own-this-target")
    );
}

#[test]
fn what_makes_no_sense_or_is_not_there_yet_is_a_usage_error() {
    for arguments in [
        &["tcp"][..],
        &["tcp", "idle"],
        &["tcp", "idle", "--rate", "5"],
        &["tcp", "pingpong", "--pid", "4194305"],
        &["tcp", "connect", "--size", "5"],
        &["compare", "egress"],
        &["compare", "tcp", "--peer", "unknown"],
        &["compare", "tcp", "--report", "page.html"],
        &["compare", "tcp", "--scenario", "no such"],
    ] {
        let (code, _, said) = output(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
    }
}

#[test]
fn without_a_target_the_tools_own_limit_is_measured() {
    let (code, table, said) = output(&["tcp", "--duration", "100ms", "throughput", "--streams", "2"]);
    assert_eq!(code, Some(0), "{said}");
    for scenario in ["bulk up, 2 streams", "bulk down, 2 streams", "bulk both ways, 2 streams"] {
        assert!(table.contains(scenario), "{table}");
    }
    assert!(table.contains("DIRECT"), "{table}");
}

#[test]
fn who_answers_wrongly_is_no_backend_of_ours() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let _ = std::io::Write::write_all(&mut socket.unwrap(), b"SSH-2.0-something");
        }
    });
    let (code, _, said) = output(&["tcp", "pingpong", "--to", &address]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not forward to a backend of ours") && said.contains("--serve"), "{said}");
}

#[test]
fn a_missing_peer_is_named_with_how_to_install_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let arguments = ["compare", "tcp", "--rounds", "1", "--duration", "50ms", "--scenario", "64 at once"];
    let missing = folder.path().join("socat").display().to_string();
    let peer = format!("socat={missing}");
    let all =
        [&arguments[..], &["--peer", "socat", "--peer", &peer, "--report", file.to_str().unwrap()]].concat();
    let (code, table, said) = output(&all);
    assert_eq!(code, Some(0), "{said}");
    assert!(table.contains("socat: not installed; `apt-get install socat`"), "{table}");
    let report = report(&file).unwrap();
    assert_eq!((report["complete"].as_bool(), samples(&file)), (Some(true), 1));
}

#[test]
fn a_peer_that_crashes_or_does_not_forward_is_a_row_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("crashes");
    fs::write(&program, "#!/bin/sh\necho cannot bind >&2\nexit 3\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let peer = format!("socat={}", program.display());
    let (code, table, said) = output(&[
        "compare",
        "tcp",
        "--rounds",
        "1",
        "--duration",
        "50ms",
        "--scenario",
        "64 at once",
        "--peer",
        "socat",
        "--peer",
        &peer,
    ]);
    assert_eq!(code, Some(0), "DIRECT was measured: {said}");
    assert!(table.contains("socat ended before it forwarded (exit code 3): cannot bind"), "{table}");
    assert!(
        table.lines().any(|line| line.trim().starts_with("socat ") && line.ends_with("failed")),
        "{table}"
    );
}

#[test]
fn ctrl_c_prints_the_figures_so_far_and_keeps_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let child = under_way(&file);
    signal(&child, Signal::INT);
    let (code, table, said) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(130), "{said}");
    assert!(table.contains("DIRECT") && table.contains("the figures so far"), "{table}");
    assert_eq!(report(&file).unwrap()["complete"].as_bool(), Some(false));
    assert!(samples(&file) >= 2);
}

/// A comparison of a peer that is this script, once its id is in the folder's `pid`.
fn comparing(folder: &Path, scenario: &str, script: &str) -> Child {
    let program = folder.join("peer");
    fs::write(&program, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let peer = format!("socat={}", program.display());
    let child = forward_load()
        .args(["compare", "tcp", "--rounds", "1", "--duration", "50ms", "--scenario", scenario])
        .args(["--peer", "socat", "--peer", &peer])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually(|| pid(folder).is_some());
    child
}

/// A peer that does not forward, and ignores the request to end; in `asked` it notes the request.
fn stubborn(folder: &Path) -> Child {
    let place = folder.display();
    // No other program is on its PATH.
    let script = format!(
        "[ \"$1\" = -V ] && exit\ntrap ': > {place}/asked' TERM\necho $$ > {place}/pid\nfor i in $(/usr/bin/seq 3000); do /bin/sleep 0.02; done\n"
    );
    comparing(folder, "start", &script)
}

/// A peer that does not end when it is asked for its version, as it waits for a process that has its
/// output, too, and the id of which is in `pid`; it does not forward either.
fn silent(folder: &Path) -> Child {
    let place = folder.display();
    let script = format!(
        "[ \"$1\" = -V ] || {{ echo cannot bind; exit 3; }}\n/bin/sleep 60 &\necho $! > {place}/pid\nwait\n"
    );
    comparing(folder, "64 at once", &script)
}

fn pid(folder: &Path) -> Option<u32> {
    fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()
}

/// Whether a process is there; one that has ended but is not waited for is not.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_peer_that_never_says_its_version_is_named_and_compared_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let child = silent(folder.path());
    let (code, table, said) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "DIRECT was measured: {said}");
    let program = folder.path().join("peer");
    let message = format!("socat did not say its version: `{} -V` did not end within 5 s", program.display());
    assert!(said.contains(&message) && table.contains(&format!("warning: {message}")), "{said}\n{table}");
    assert!(table.contains("socat ended before it forwarded (exit code 3): cannot bind"), "{table}");
    eventually(|| !lives(pid(folder.path()).unwrap()));
}

#[test]
fn ctrl_c_also_ends_the_wait_for_a_version() {
    let folder = tempfile::tempdir().unwrap();
    let child = silent(folder.path());
    let asked = Instant::now();
    signal(&child, Signal::INT);
    let (code, _, said) = told(&child.wait_with_output().unwrap());
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(code, Some(130), "{said}");
    assert!(!said.contains("did not end"), "{said}");
    eventually(|| !lives(pid(folder.path()).unwrap()));
}

#[test]
fn a_second_ctrl_c_ends_the_peers_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let child = stubborn(folder.path());
    signal(&child, Signal::INT);
    // From here on it would be waited for, for two seconds.
    eventually(|| folder.path().join("asked").exists());
    signal(&child, Signal::INT);
    let (code, table, said) = told(&child.wait_with_output().unwrap());
    assert_eq!((code, table.as_str()), (Some(130), ""), "no table is waited for: {said}");
    assert!(!lives(pid(folder.path()).unwrap()));
}

#[test]
fn no_peer_outlives_a_comparison_that_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = stubborn(folder.path());
    let peer = pid(folder.path()).unwrap();
    assert!(lives(peer));
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    eventually(|| !lives(peer));
}

#[test]
fn a_round_that_ended_is_kept_when_a_later_one_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let mut child = under_way(&file);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let report = report(&file).unwrap();
    assert!(samples(&file) >= 2);
    assert_eq!(
        (report["complete"].as_bool(), report["samples"][0]["subject"].as_str()),
        (Some(false), Some("DIRECT"))
    );
}
