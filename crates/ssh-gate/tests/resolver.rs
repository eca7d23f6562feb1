//! A name whose A record is good is connected, whatever the resolver makes of AAAA.
//!
//! The scene is a machine of its own: user, mount and network namespaces with a resolv.conf(5) that names
//! a DNS server of the test's on its loopback. util-linux' `unshare`, iproute2 and user namespaces are needed.
//! The gate is the one that cargo built, and beside it the static one where `cargo xtask test` says where that
//! is: each has the resolver of its own C library.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use gate::{Gate, command, read_all};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

/// What the server makes of a question for AAAA, by the first label of its name.
const ANSWERS: [(&str, Answer); 6] = [
    ("refused", Answer::Code(5)),
    ("servfail", Answer::Code(2)),
    ("notimp", Answer::Code(4)),
    ("formerr", Answer::Code(1)),
    ("nodata", Answer::Code(0)),
    ("silence", Answer::Silence),
];

#[derive(Debug, Clone, Copy)]
enum Answer {
    /// An answer with that RCODE (RFC 1035 section 4.1.1) and no record.
    Code(u8),
    Silence,
}

/// The connect timeout of the gate, shorter than a resolver waits for one answer.
const BUDGET: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_resolver_that_has_no_answer_for_aaaa_does_not_break_a_good_a() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
    std::fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let mut machine = Command::new("unshare");
    machine.args(["--user", "--map-root-user", "--mount", "--net", "sh", "-e", "-c"]);
    machine.arg("ip link set lo up; mount --bind hosts /etc/hosts; mount --bind resolv.conf /etc/resolv.conf; exec \"$0\" \"$@\"");
    machine.arg(std::env::current_exe().unwrap());
    machine.args(["--exact", "on_a_machine_of_its_own", "--ignored", "--nocapture"]);
    machine.current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(120), machine.output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}\n{}", said[0], said[1]);
}

#[tokio::test]
#[ignore = "run by the test above, on the machine that it makes"]
async fn on_a_machine_of_its_own() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
    std::thread::spawn(move || serve(&server));
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = upstream.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = upstream.accept().await {
            let _ = peer.write_all(b"good").await;
        }
    });
    for binary in binaries() {
        for (name, answer) in ANSWERS {
            let line = format!("--admin off --forward 0={name}.example:{port}");
            let gate = Gate::spawn(of(&binary, &format!("{line} --connect-timeout 3s")), None).await;
            let begin = Instant::now();
            let heard = read_all(&mut gate.connect().await).await.0;
            let told = gate.closed().await;
            assert_eq!(heard, b"good", "{} {answer:?}: {told}", binary.display());
            assert!(begin.elapsed() < BUDGET, "{} {answer:?}: {:?}", binary.display(), begin.elapsed());
        }
    }
}

/// The gate of this build, and the static one that `cargo xtask test` built.
fn binaries() -> Vec<PathBuf> {
    let own = command("").as_std().get_program().into();
    let folder = std::env::var_os("CLAUDE_BOTTLE_SIDECAR_DIR").filter(|folder| !folder.is_empty());
    [own].into_iter().chain(folder.map(|folder| Path::new(&folder).join("ssh-gate"))).collect()
}

fn of(binary: &Path, line: &str) -> Command {
    let mut command = Command::new(binary);
    command.args(line.split_whitespace()).env_remove("RUST_LOG").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Answers questions for A with 127.0.0.1, and those for AAAA as the name asks for.
fn serve(server: &UdpSocket) {
    let mut question = [0; 512];
    while let Ok((length, peer)) = server.recv_from(&mut question) {
        if let Some(answer) = answer(&question[..length]) {
            server.send_to(&answer, peer).unwrap();
        }
    }
}

/// RFC 1035 section 4.1; `None` is silence.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let mut at = HEADER;
    while question[at] != 0 {
        at += 1 + usize::from(question[at]);
    }
    // The name's end, type and class.
    let asked = &question[HEADER..at + 5];
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let first = &asked[1..=usize::from(asked[0])];
    let (_, of_aaaa) = ANSWERS.into_iter().find(|(name, _)| name.as_bytes() == first)?;
    let is_a = kind == 1;
    let code = match of_aaaa {
        _ if is_a => 0,
        Answer::Code(code) => code,
        Answer::Silence => return None,
    };
    let mut answer = question[..2].to_vec();
    // A response, recursion desired and available; one question, so many answers, nothing more.
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(asked);
    if is_a {
        // The name of the question, A, IN, 60 s, four bytes.
        answer.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(answer)
}
