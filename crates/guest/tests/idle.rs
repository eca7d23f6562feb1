//! As the container's first process it buries orphans and ends when told.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod common;

use std::{
    fs,
    process::{Command, Stdio},
};

use common::{GUEST, Running, UNSHARE_IS_MISSING, eventually, unshare};
use rustix::process::{Pid, Signal, kill_process};

/// The processes whose parent this is, zombies too.
fn children(parent: u32) -> Vec<i32> {
    let stat = |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent_of = |stat: String| stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|&pid| stat(pid).and_then(parent_of) == Some(parent))
        .collect()
}

/// The shell's children become the guest's: two end before it looks, one later.
#[test]
fn children_are_reaped_whenever_they_end() {
    let script = r#"exec 3<&0; true & true & cat <&3 >/dev/null & exec "$0" idle 3<&- </dev/null"#;
    let mut child = Command::new("sh").args(["-c", script, GUEST]).stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    let mut idle = Running(child);
    let is_guest = || fs::read_to_string(format!("/proc/{}/comm", idle.0.id())).unwrap() == "bottle-guest\n";
    eventually("the first two to be reaped", || {
        (is_guest() && children(idle.0.id()).len() == 1).then_some(())
    });
    drop(stdin);
    eventually("the last one to be reaped", || children(idle.0.id()).is_empty().then_some(()));
    idle.signal(Signal::TERM);
    assert_eq!(idle.ended().code(), Some(0));
}

/// The kernel drops a signal to PID 1 that it does not catch.
#[test]
fn it_ends_as_pid_1() {
    for signal in [Signal::TERM, Signal::INT] {
        let args = ["--pid", "--fork", "--kill-child", GUEST, "idle"];
        let child = unshare().args(args).spawn().expect(UNSHARE_IS_MISSING);
        let mut unshare = Running(child);
        let inner = eventually("the guest", || children(unshare.0.id()).first().copied());
        let catches = || {
            let status = fs::read_to_string(format!("/proc/{inner}/status")).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap().to_owned();
            let caught = u64::from_str_radix(&caught, 16).unwrap();
            status.starts_with("Name:\tbottle-guest") && caught & (1 << 14) != 0 && caught & (1 << 1) != 0
        };
        eventually("the guest to catch signals", || catches().then_some(()));
        kill_process(Pid::from_raw(inner).unwrap(), signal).unwrap();
        assert_eq!(unshare.ended().code(), Some(0), "{signal:?}");
    }
}
