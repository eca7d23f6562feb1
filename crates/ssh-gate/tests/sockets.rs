//! What the gate sets on its sockets, seen on the sockets themselves.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;
#[path = "support/scene.rs"]
mod scene;

use std::os::fd::OwnedFd;
use std::time::Duration;

use gate::{Gate, PATIENCE, command};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use scene::Scene;
use socket2::Socket;
use testbed::eventually_some;

/// The gate's connected sockets, as descriptors of our own.
fn connected(gate: &Gate) -> Vec<Socket> {
    let process = pidfd_open(gate.pid(), PidfdFlags::empty()).unwrap();
    let folder = format!("/proc/{}/fd", gate.pid().as_raw_nonzero());
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let link = std::fs::read_link(entry.path()).unwrap_or_default();
        if link.to_string_lossy().starts_with("socket:") {
            let number = entry.file_name().to_string_lossy().parse().unwrap();
            let ours: OwnedFd = pidfd_getfd(&process, number, PidfdGetfdFlags::empty())
                .expect("a child of ours lets us look at its sockets (ptrace(2) must be allowed)");
            sockets.push(Socket::from(ours));
        }
    }
    sockets.retain(|socket| socket.peer_addr().is_ok_and(|peer| peer.is_ipv4()));
    sockets
}

#[tokio::test]
async fn both_sides_of_a_connection_have_keep_alive_user_timeout_and_no_delay() {
    let scene = Scene::set("").await;
    let sockets = eventually_some(PATIENCE, || async {
        Some(connected(&scene.gate)).filter(|sockets| sockets.len() == 2)
    })
    .await;
    // The options are set behind the accept and behind the connect.
    eventually_some(PATIENCE, || async { sockets.iter().all(|s| s.keepalive().unwrap()).then_some(()) })
        .await;
    for socket in sockets {
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 4);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(600)));
        assert_eq!(socket.linger().unwrap(), None);
    }
}

#[tokio::test]
async fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let gate = command("--admin off --forward 0=h:1");
    let mut limited = tokio::process::Command::new("sh");
    limited.arg("-c").arg("ulimit -S -n 64 && exec \"$0\" \"$@\"").arg(gate.as_std().get_program());
    limited.args(gate.as_std().get_args()).kill_on_drop(true);
    limited.stdin(std::process::Stdio::null());
    limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let gate = Gate::spawn(limited, None).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.pid().as_raw_nonzero())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let fields: Vec<_> = line.split_whitespace().collect();
    assert_ne!(fields[3], "64");
    assert_eq!(fields[3], fields[4], "{line}");
}

#[tokio::test]
async fn fewer_descriptors_than_connections_may_need_is_a_warning() {
    let gate = Gate::start("--forward 0=h:1 --max-connections 1000000000").await;
    let line =
        eventually_some(PATIENCE, || async { gate.events("descriptor_limit").into_iter().next() }).await;
    assert_eq!(line["level"], "warn");
    assert!(line["limit"].as_u64().unwrap() < line["wanted"].as_u64().unwrap());
}
