//! What a forwarder does wrong shows where it should, and a right one shows no error at all.

mod http_support;

use std::time::Duration;

use forward_load::{
    http::{Job, OriginProcess, Until, command::sample, link::Request, target::Target},
    interrupt::Interrupt,
};
use http_support::{Wrong, idle, load, measured};

#[test]
fn every_fault_is_an_error_of_its_kind_and_never_an_answer() {
    let (upload, exchange) = (Some(300_000), Job::Exchange);
    let cases = [
        ("no credential", Wrong::NoCredential, "/json", None, exchange, "credential"),
        ("a changed byte of a small answer", Wrong::CorruptAnswer, "/json", None, exchange, "integrity"),
        (
            "a changed byte of a long answer",
            Wrong::CorruptAnswer,
            "/bytes/300000",
            None,
            exchange,
            "integrity",
        ),
        ("a changed byte of an upload", Wrong::CorruptUpload, "/upload", upload, exchange, "integrity"),
        ("an answer cut short", Wrong::Truncate, "/bytes/300000", None, exchange, "early end"),
        ("bytes after the answer", Wrong::ExtraBytes, "/json", None, exchange, "unasked bytes"),
        ("a refusal", Wrong::Refuse, "/json", None, exchange, "status"),
        ("a refused upload", Wrong::Refuse, "/upload", upload, exchange, "status"),
        ("no answer at all", Wrong::NeverAnswer, "/json", None, exchange, "timeout"),
        ("no content at all", Wrong::NeverAnswer, "/bytes/300000", None, Job::Transfer, "timeout"),
    ];
    for (what, wrong, path, upload, job, kind) in cases {
        let outcome = measured(&load(wrong, path, upload, job));
        assert!(outcome.errors.count.contains_key(kind), "{what}: {:?}", outcome.errors);
        // Bytes after an answer may come too late to be seen with it; the next answer tells then.
        if wrong != Wrong::ExtraBytes {
            assert_eq!(outcome.completed, 0, "{what}");
        }
    }
}

#[test]
fn a_right_forwarder_shows_no_error() {
    for (path, upload, job) in [
        ("/json", None, Job::Exchange),
        ("/json?close", None, Job::Exchange),
        ("/bytes/0", None, Job::Exchange),
        ("/bytes/300000", None, Job::Exchange),
        ("/bytes/100000000", None, Job::Transfer),
        ("/upload", Some(300_000), Job::Exchange),
        ("/upload", Some(0), Job::Exchange),
    ] {
        let mut load = load(Wrong::Nothing, path, upload, job);
        load.connections = 3;
        // The forwarder knows nothing of `?close`; a new connection each time is what it can do.
        load.new_connections = path.ends_with("close");
        let outcome = measured(&load);
        assert_eq!(outcome.errors.total(), 0, "{path}: {:?}", outcome.errors);
        assert!(outcome.completed > 0 || outcome.bytes > 0, "{path}");
    }
}

#[test]
fn a_slow_forwarder_shows_in_latency() {
    let outcome = measured(&load(Wrong::Delay(Duration::from_millis(20)), "/json", None, Job::Exchange));
    assert!(outcome.latencies.summary(false).unwrap().p50_us >= 20_000.0);
    assert_eq!(outcome.errors.total(), 0, "{:?}", outcome.errors);
}

#[test]
fn in_open_loop_a_request_that_had_to_wait_counts_from_when_it_was_meant_to_be_sent() {
    let mut load = load(Wrong::Delay(Duration::from_millis(30)), "/json", None, Job::Exchange);
    // 100 requests a second through one connection that manages 33: the queue grows, and with it
    // the time since each was meant to be sent. Uncorrected, every one would take 30 ms.
    load.rate = Some(100.0);
    load.until = Until::Time(Duration::from_millis(500));
    let outcome = measured(&load);
    let latency = outcome.latencies.summary(outcome.corrected).unwrap();
    assert!(latency.corrected && latency.p50_us > 200_000.0, "{latency:?}");
}

#[test]
fn events_that_are_held_back_or_lost_are_errors() {
    for (wrong, kind) in [(Wrong::HoldEvents, "events silent"), (Wrong::LoseEvents, "event lost")] {
        let mut load = load(wrong, "/sse", None, Job::Events);
        load.until = Until::Time(Duration::from_millis(1200));
        let outcome = measured(&load);
        assert!(outcome.errors.count.contains_key(kind), "{kind}: {:?}", outcome.errors);
    }
    let mut right = load(Wrong::Nothing, "/sse", None, Job::Events);
    right.until = Until::Time(Duration::from_millis(1200));
    let outcome = measured(&right);
    assert_eq!(outcome.errors.total(), 0, "{:?}", outcome.errors);
    assert!(outcome.completed > 0 && outcome.first_event.is_some());
}

#[test]
fn nobody_listening_is_a_failed_sample_with_its_reason() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut load = load(Wrong::Nothing, "/json", None, Job::Exchange);
    load.target = Target::new(&format!("http://{free}/").parse().unwrap(), None, false).unwrap();
    let sample = sample(&load, measured(&load));
    assert!(sample.errors.count.contains_key("connect"), "{:?}", sample.errors);
    assert!(sample.failure.unwrap().starts_with("could not connect"));
}

#[test]
fn one_transfer_is_measured_whole() {
    let mut load = load(Wrong::Nothing, "/bytes/5000000", None, Job::Transfer);
    load.until = Until::Count(1);
    let outcome = measured(&load);
    assert_eq!((outcome.completed, outcome.bytes, outcome.errors.total()), (1, 5_000_000, 0));
}

#[test]
fn being_interrupted_keeps_what_was_measured() {
    let mut load = load(Wrong::Nothing, "/json", None, Job::Exchange);
    load.until = Until::Time(Duration::from_secs(600));
    let interrupt = Interrupt::deaf();
    let asking = interrupt.clone();
    let asker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        asking.ask();
    });
    let outcome = forward_load::http::load::run(&load, &interrupt).unwrap();
    asker.join().unwrap();
    assert!(outcome.interrupted && outcome.completed > 0);
}

#[test]
fn without_all_silent_connections_there_is_no_figure_and_each_that_was_lost_is_counted() {
    let not_kept = "the connection was not kept open";
    for (wrong, path, kind, count, why) in [
        (Wrong::Closes, "/json", "not kept", 20, not_kept),
        (Wrong::Nothing, "/json?close", "not kept", 20, not_kept),
        (Wrong::IsFull(15), "/json", "not kept", 5, not_kept),
        (Wrong::NeverAnswer, "/json", "timeout", 20, "the answer did not come in time"),
        (Wrong::CorruptAnswer, "/json", "integrity", 20, "the content is not what was sent"),
    ] {
        let sample = idle(wrong, path).measure(&Interrupt::deaf());
        assert_eq!(sample.errors.count.get(kind), Some(&count), "{wrong:?} {path}: {sample:?}");
        assert_eq!(sample.failure.as_deref(), Some(why), "{wrong:?} {path}: {sample:?}");
        assert!(sample.figures.is_empty(), "{wrong:?} {path}: {sample:?}");
    }
}

#[test]
fn silent_connections_that_wait_for_an_answer_are_let_go_when_interrupted() {
    let interrupt = Interrupt::deaf();
    let mut idle = idle(Wrong::NeverAnswer, "/json");
    idle.within = Duration::from_secs(600);
    let asking = interrupt.clone();
    let asker = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(700));
        asking.ask();
    });
    let sample = idle.measure(&interrupt);
    asker.join().unwrap();
    assert!(sample.interrupted && sample.failure.is_none() && sample.figures.is_empty(), "{sample:?}");
}

#[test]
fn the_origin_in_its_own_process_speaks_tls_that_is_verified_and_wants_its_credential() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_forward-load"));
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let origin = OriginProcess::start(program, folder.path(), "Bearer secret").unwrap();
    let stranger = OriginProcess::start(program, other.path(), "").unwrap();
    let url = format!("https://{}/json", origin.address).parse().unwrap();
    for (what, ca, credential, kind) in [
        ("right", &origin.ca_file, "Bearer secret", None),
        ("wrong credential", &origin.ca_file, "Bearer other", Some("credential")),
        ("another authority", &stranger.ca_file, "Bearer secret", Some("tls")),
    ] {
        let mut load = load(Wrong::Nothing, "/json", None, Job::Exchange);
        load.target = Target::new(&url, Some(ca), false).unwrap();
        let fields = [format!("Authorization: {credential}")];
        load.request = Request::new(&load.target, "/json", &fields, None, false);
        let outcome = measured(&load);
        assert_eq!(outcome.errors.count.keys().copied().next(), kind, "{what}: {:?}", outcome.errors);
        assert_eq!(outcome.completed > 0, kind.is_none(), "{what}");
    }
}
