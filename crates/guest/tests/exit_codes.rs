//! 0 on a clean end, 1 on a failure at run time, 2 on a bad command line.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod common;

use std::process::{Command, Output, Stdio};

use common::GUEST;

fn guest(args: &[&str]) -> Output {
    Command::new(GUEST).args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn exit_codes_are_the_documented_ones() {
    let cases: [(&[&str], i32); 15] = [
        (&["--help"], 0),
        (&["--version"], 0),
        (&[], 2),
        (&["nothing"], 2),
        (&["relay"], 2),
        (&["relay", "--listen", "nowhere", "--connect", "unix:/x"], 2),
        (&["relay", "--listen", "unix:/x", "--connect", "unix:/y", "--mode", "1777"], 2),
        (&["relay", "--listen", "tcp:127.0.0.1:0", "--connect", "unix:/y", "--mode", "0666"], 2),
        (&["connect"], 2),
        (&["connect", "gate"], 2),
        (&["connect", "gate:0"], 2),
        (&["connect", "::1:22"], 2),
        (&["connect", "gate:22", "more"], 2),
        (&["seal", "--check", "more"], 2),
        (&["relay", "--listen", "unix:/nonexistent/x", "--connect", "unix:/y"], 1),
    ];
    for (args, code) in cases {
        let output = guest(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    }
}

#[test]
fn an_error_tells_the_act_its_object_and_the_cause() {
    let output = guest(&["relay", "--listen", "unix:/nonexistent/x", "--connect", "unix:/y"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        told,
        "bottle-guest: could not bind listener unix:/nonexistent/x: No such file or directory (os error 2)\n"
    );
}

#[test]
fn the_probe_is_not_yet() {
    let output = guest(&["probe"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stdout, b"");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "bottle-guest: not yet: the isolation proof comes with a later release\n"
    );
}

#[test]
fn help_lists_what_connect_and_the_seal_take() {
    for (args, expected) in [
        (&["--help"][..], "connect"),
        (&["connect", "--help"], "ProxyCommand bottle-guest connect [%h]:%p"),
        (&["seal", "--help"], "--check"),
    ] {
        let help = String::from_utf8(guest(args).stdout).unwrap();
        // Lines are as long as the terminal is wide.
        let words: Vec<_> = help.split_whitespace().collect();
        assert!(words.join(" ").contains(expected), "{args:?}: {help}");
    }
}
