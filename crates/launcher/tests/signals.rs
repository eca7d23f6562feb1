//! Signals to the command itself.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};

/// A pipe that is not read and has no room left.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe can be made and filled");
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).expect("a pipe can be made and filled");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, OFlags::empty()).expect("a pipe can be made and filled");
    (reader, writer)
}

#[test]
fn a_second_signal_ends_a_start_whose_messages_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    // It accepts, and never answers.
    let _engine = UnixListener::bind(&socket).unwrap();
    let manifest = folder.path().join("m.json");
    let text = r#"{ "bottles": { "b": {} }, "agents": { "a": { "bottle": "b" } } }"#;
    std::fs::write(&manifest, text).unwrap();
    let (_unread, stderr) = full_pipe();
    let mut child = Command::new(env!("CARGO_BIN_EXE_claude-bottle"))
        .args(["--host", &format!("unix://{}", socket.display()), "--manifest"])
        .arg(&manifest)
        .args(["-y", "start", "a", "--", "true"])
        .stdin(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    std::thread::sleep(Duration::from_secs(1));
    kill_process(pid, Signal::TERM).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(child.try_wait().unwrap(), None, "it still has something to say");
    kill_process(pid, Signal::TERM).unwrap();
    let begin = Instant::now();
    let ended = loop {
        match child.try_wait().unwrap() {
            None if begin.elapsed() < Duration::from_secs(15) => {
                std::thread::sleep(Duration::from_millis(50));
            }
            ended => break ended,
        }
    };
    child.kill().unwrap();
    assert_eq!(ended.and_then(|status| status.code()), Some(74));
}
