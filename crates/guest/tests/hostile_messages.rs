//! Whatever bytes the agent sends, the ssh-agent sees listed, well-formed requests only, and
//! the next clean request works.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod common;

use std::{
    io::Write,
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    time::Duration,
};

use common::{FAILURE, LIST, Scene, ask, assert_closed, eventually, framed, receive, send, string};

/// An answer that no relay invents.
fn echo(message: &[u8]) -> Vec<u8> {
    [&[12], message].concat()
}

#[test]
fn an_unlisted_message_is_answered_and_never_reaches_the_ssh_agent() {
    let scene = Scene::new();
    let arrived = scene.recorder(echo);
    let _relay = scene.relay(&["--ssh-agent"]);
    let mut stream = scene.connect();
    for kind in (0..=255u8).filter(|kind| ![11, 13, 27].contains(kind)) {
        assert_eq!(ask(&mut stream, &[&[kind][..], &string(b"x")].concat()), FAILURE, "type {kind}");
    }
    for name in [&b""[..], b"restrict-destination-v00@openssh.com", b"Query", b"query\0"] {
        assert_eq!(ask(&mut stream, &[&[27][..], &string(name), b"any"].concat()), FAILURE);
    }
    assert_eq!(ask(&mut stream, &LIST), [12, 11]);
    assert_eq!(arrived.recv_timeout(common::DEADLINE).unwrap(), LIST);
    assert!(arrived.try_recv().is_err(), "more than the clean request arrived");
}

#[test]
fn listed_requests_arrive_byte_for_byte() {
    let scene = Scene::new();
    let arrived = scene.recorder(echo);
    let _relay = scene.relay(&["--ssh-agent"]);
    let longest = 256 * 1024 - 1 - 4 - 4 - 4;
    let requests = [
        LIST.to_vec(),
        [&[13][..], &string(b"key"), &string(b"data"), &[0, 0, 0, 4]].concat(),
        [&[13][..], &string(b""), &string(&vec![7; longest]), &[0; 4]].concat(),
        [&[27][..], &string(b"query")].concat(),
        [&[27][..], &string(b"session-bind@openssh.com"), &string(b"k"), &string(b"i"), &string(b"s"), &[1]]
            .concat(),
    ];
    for request in requests {
        // The recorder's answer to the longest would be one byte too long, so only ask here.
        send(&mut scene.connect(), &request);
        assert!(arrived.recv_timeout(common::DEADLINE).unwrap() == request);
    }
}

#[test]
fn a_malformed_message_closes_its_connection_and_no_other() {
    let scene = Scene::new();
    let arrived = scene.recorder(echo);
    let _relay = scene.relay(&["--ssh-agent"]);
    let bind = [&[27][..], &string(b"session-bind@openssh.com"), &string(b"k"), &string(b"i"), &string(b"s")]
        .concat();
    let cases: [(&str, Vec<u8>); 13] = [
        ("length 0", vec![0, 0, 0, 0]),
        ("length 256 KiB and one", vec![0, 4, 0, 1, 11]),
        ("length 4 GiB", vec![255, 255, 255, 255, 11]),
        ("list with a trailing byte", framed(&[11, 0])),
        ("sign without fields", framed(&[13])),
        (
            "sign with a string longer than the message",
            framed(&[&[13][..], &[0, 0, 1, 0], b"short"].concat()),
        ),
        ("sign with flags cut", framed(&[&[13][..], &string(b"k"), &string(b"d"), &[0; 3]].concat())),
        ("sign with a trailing byte", framed(&[&[13][..], &string(b"k"), &string(b"d"), &[0; 5]].concat())),
        ("extension without a name", framed(&[27])),
        ("extension with a name cut", framed(&[27, 0, 0, 0, 9, b'q'])),
        ("query with a trailing byte", framed(&[&[27][..], &string(b"query"), &[0]].concat())),
        ("session-bind without its last field", framed(&bind)),
        ("session-bind with a trailing byte", framed(&[&bind[..], &[0, 0]].concat())),
    ];
    let mut bystander = scene.connect();
    for (case, bytes) in cases {
        let mut stream = scene.connect();
        stream.write_all(&bytes).unwrap();
        assert_closed(&mut stream);
        assert_eq!(ask(&mut bystander, &LIST), [12, 11], "after {case}");
        assert_eq!(arrived.recv_timeout(common::DEADLINE).unwrap(), LIST, "{case}");
    }
    assert!(arrived.try_recv().is_err());
}

#[test]
fn a_message_that_ends_in_the_middle_never_reaches_the_ssh_agent() {
    let scene = Scene::new();
    let arrived = scene.recorder(echo);
    let _relay = scene.relay(&["--ssh-agent"]);
    for bytes in [&[0][..], &[0, 0, 0, 1], &[0, 0, 0, 9, 13, 0]] {
        let mut stream = scene.connect();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_closed(&mut stream);
    }
    assert_eq!(ask(&mut scene.connect(), &LIST), [12, 11]);
    assert_eq!(arrived.iter().next().unwrap(), LIST);
    assert!(arrived.try_recv().is_err());
}

#[test]
fn pipelined_messages_are_answered_in_order_up_to_the_first_malformed_one() {
    let scene = Scene::new();
    let _arrived = scene.recorder(echo);
    let _relay = scene.relay(&["--ssh-agent"]);
    let query = [&[27][..], &string(b"query")].concat();
    let mut stream = scene.connect();
    let pipelined =
        [framed(&LIST), framed(&[19]), framed(&query), framed(&[19]), framed(&LIST), framed(&[11, 0])]
            .concat();
    stream.write_all(&pipelined).unwrap();
    for expected in [echo(&LIST), FAILURE.to_vec(), echo(&query), FAILURE.to_vec(), echo(&LIST)] {
        assert_eq!(receive(&mut stream).unwrap(), expected);
    }
    assert_closed(&mut stream);
}

#[test]
fn a_client_that_is_done_sending_still_gets_its_answers() {
    let scene = Scene::new();
    let _arrived = scene.recorder(echo);
    let _relay = scene.relay(&["--ssh-agent"]);
    let mut stream = scene.connect();
    send(&mut stream, &LIST);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(receive(&mut stream).unwrap(), [12, 11]);
    assert_closed(&mut stream);
}

#[test]
fn a_thousand_idle_connections_do_not_stop_the_next_one() {
    let scene = Scene::new();
    let ssh_agent = scene.ssh_agent();
    let relay = scene.relay(&["--ssh-agent"]);
    // Half of them silent, half of them after an answer; those hold nothing at the ssh-agent.
    let mut idle: Vec<UnixStream> = (0..1200).map(|_| scene.connect()).collect();
    for stream in idle.iter_mut().step_by(2) {
        assert_eq!(ask(stream, &LIST)[0], 12);
    }
    assert_eq!(ask(&mut scene.connect(), &LIST)[0], 12);
    assert_eq!(ask(&mut idle[1], &LIST)[0], 12);
    eventually("the ssh-agent's descriptors to be few", || {
        (descriptors(ssh_agent.0.id()) < 20).then_some(())
    });
    assert!(descriptors(relay.0.id()) < 1300);
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn over_the_limit_a_connection_is_closed_and_the_others_work() {
    let scene = Scene::new();
    let _arrived = scene.recorder(echo);
    // 164 descriptors less the 64 that are kept back.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -n 164; exec \"$0\" \"$@\"", common::GUEST, "relay", "--ssh-agent"]);
    command.args(["--listen", &scene.address("public"), "--connect", &scene.address("agent")]);
    let (_relay, _) = common::ready(&mut command);

    let mut open: Vec<UnixStream> = (0..100).map(|_| scene.connect()).collect();
    assert_closed(&mut scene.connect());
    assert_eq!(ask(&mut open[99], &LIST), [12, 11]);
    drop(open.pop());
    eventually("a place to be free", || {
        let mut stream = scene.connect();
        send(&mut stream, &LIST);
        receive(&mut stream)
    });
}

#[test]
fn a_dead_ssh_agent_closes_the_connection() {
    let scene = Scene::new();
    let ssh_agent = scene.ssh_agent();
    let _relay = scene.relay(&["--ssh-agent"]);
    let mut asked = scene.connect();
    assert_eq!(ask(&mut asked, &LIST)[0], 12);
    // Refused by the ssh-agent, for its nonsense; the connection is bound all the same.
    let mut bound = scene.connect();
    let nonsense =
        [&[27][..], &string(b"session-bind@openssh.com"), &string(b"k"), &string(b"i"), &string(b"s"), &[0]];
    assert_eq!(ask(&mut bound, &nonsense.concat()), FAILURE);

    drop(ssh_agent);
    assert_closed(&mut bound);
    send(&mut asked, &LIST);
    assert_closed(&mut asked);
}

#[test]
fn after_a_session_bind_the_ssh_agent_sees_one_connection() {
    // Tells connections apart by counting the messages of each.
    fn count(message: &[u8]) -> Vec<u8> {
        thread_local!(static SEEN: std::cell::Cell<u8> = const { std::cell::Cell::new(0) });
        SEEN.set(SEEN.get() + 1);
        vec![message[0], SEEN.get()]
    }
    let scene = Scene::new();
    let _arrived = scene.recorder(count);
    let _relay = scene.relay(&["--ssh-agent"]);
    let bind =
        [&[27][..], &string(b"session-bind@openssh.com"), &string(b"k"), &string(b"i"), &string(b"s"), &[0]]
            .concat();
    let mut stream = scene.connect();
    assert_eq!(ask(&mut stream, &LIST), [11, 1]);
    assert_eq!(ask(&mut stream, &bind), [27, 1]);
    assert_eq!(ask(&mut stream, &LIST), [11, 2]);
    assert_eq!(ask(&mut stream, &bind), [27, 3]);
    assert_eq!(ask(&mut stream, &LIST), [11, 4]);
    // Another's connection is another's.
    assert_eq!(ask(&mut scene.connect(), &LIST), [11, 1]);
}

#[test]
fn a_full_backlog_of_the_ssh_agent_is_waited_for() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let scene = Scene::new();
    let upstream = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&upstream, &SocketAddrUnix::new(scene.path("agent")).unwrap()).unwrap();
    // Room for one, and that one is there.
    listen(&upstream, 0).unwrap();
    let _first_in_line = common::connect(&scene.path("agent"));
    let _relay = scene.relay(&["--ssh-agent"]);
    let mut stream = scene.connect();
    send(&mut stream, &LIST);
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(receive(&mut stream), None);

    stream.set_read_timeout(Some(common::DEADLINE)).unwrap();
    let upstream = UnixListener::from(upstream);
    let _ = upstream.accept().unwrap();
    let (mut accepted, _) = upstream.accept().unwrap();
    assert_eq!(receive(&mut accepted).unwrap(), LIST);
    send(&mut accepted, &echo(&LIST));
    assert_eq!(receive(&mut stream).unwrap(), [12, 11]);
}

#[test]
fn an_answer_that_is_too_long_closes_the_connection() {
    fn long(_: &[u8]) -> Vec<u8> {
        vec![12; 256 * 1024 + 1]
    }
    let scene = Scene::new();
    let _arrived = scene.recorder(long);
    let _relay = scene.relay(&["--ssh-agent"]);
    let mut stream = scene.connect();
    send(&mut stream, &LIST);
    assert_closed(&mut stream);
}

#[test]
fn a_slow_client_is_served_and_holds_nobody_up() {
    let scene = Scene::new();
    let _arrived = scene.recorder(echo);
    let _relay = scene.relay(&["--ssh-agent"]);
    let mut slow = scene.connect();
    for byte in framed(&LIST) {
        slow.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(ask(&mut scene.connect(), &LIST), [12, 11]);
    }
    assert_eq!(receive(&mut slow).unwrap(), [12, 11]);
}
