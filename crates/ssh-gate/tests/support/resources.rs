//! What a running gate holds: memory, descriptors, and bytes in pipes.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use std::fs;

use rustix::io::ioctl_fionread;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::gate::Gate;

/// Resident memory in bytes, proc_pid_status(5).
pub fn resident(gate: &Gate) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gate.pid().as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Open descriptors.
pub fn descriptors(gate: &Gate) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gate.pid().as_raw_nonzero())).unwrap().count()
}

/// Bytes in the gate's own pipes, which its resident memory does not show.
pub fn held(gate: &Gate) -> u64 {
    let process = pidfd_open(gate.pid(), PidfdFlags::empty()).unwrap();
    let mut held = 0;
    for entry in fs::read_dir(format!("/proc/{}/fd", gate.pid().as_raw_nonzero())).unwrap().flatten() {
        let number: i32 = entry.file_name().to_string_lossy().parse().unwrap();
        let link = fs::read_link(entry.path()).unwrap_or_default();
        // Those up to 2 are the test's.
        if number > 2 && link.to_string_lossy().starts_with("pipe:") {
            let pipe = pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap();
            // Both ends tell the same.
            held += ioctl_fionread(&pipe).unwrap_or(0) / 2;
        }
    }
    held
}
