//! A proxy starts only when all is well, says when it is ready, and ends without cutting anyone off.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use scene::{SOON, Scene, TOKEN, assert_no_token, bundle, command, get, route, run};
use serde_json::{Value, json};
use testbed::{
    eventually,
    https::{Origin, channel},
    pki::Ca,
    raw,
};
use tokio::sync::mpsc;

const NOWHERE: ([u8; 4], u16) = ([198, 51, 100, 1], 443);

fn table(changes: &Value) -> Value {
    json!({"routes": [route("/a/", NOWHERE.into(), changes)]})
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test]
async fn what_is_wrong_with_tokens_is_78_and_names_the_variable() {
    let routes = file(&table(&json!({})).to_string());
    for (token, expected) in [
        (None, "token T of route /a/: it is missing"),
        (Some(""), "it is missing"),
        (Some("tok-s3cret\nx"), "control character"),
        (Some("tiny-1"), "shorter than 8 bytes"),
    ] {
        let mut command = command(&[
            "--routes",
            routes.path().to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "off",
        ]);
        command.env_remove("T");
        if let Some(token) = token {
            command.env("T", token);
        }
        let output = run(command, "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.starts_with("cred-proxy: token T") && said.contains(expected), "{said}");
        assert!(output.stdout.is_empty() && said.lines().count() <= 2, "{said}");
        assert!(token.is_none_or(|token| token.is_empty() || !said.contains(token)), "{said}");
        assert_no_token(&said);
    }
}

#[tokio::test]
async fn a_wrong_start_has_its_exit_code_and_one_line() {
    let ca = Ca::new();
    let good = bundle(&[route("/a/", NOWHERE.into(), &json!({}))], &ca);
    let changed = |key: &str, value: Value| {
        let mut bundle = good.clone();
        bundle[key] = value;
        format!("{bundle}\n")
    };
    let off = ["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "off"];
    let routes = file(&table(&json!({})).to_string());
    let routes = routes.path().to_str().unwrap();
    let allow = file(&table(&json!({"allow": [{"methods": ["GET"], "path": "/**/x"}]})).to_string());
    let allow = allow.path().to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, stdin, code, expected) in [
        (&off[..], changed("tokens", json!({})), 78, "token T"),
        (&off, changed("tokens", json!({"T": "tok-s3cret\n"})), 78, "tokens"),
        (&off, changed("version", json!(2)), 78, "version"),
        (&off, changed("extra", json!(2)), 78, "extra"),
        (&off, changed("ca", json!(["no PEM"])), 78, "ca[0]: no certificate found"),
        (
            &off,
            changed("ca", json!(["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])),
            78,
            "ca[0]: certificate 1 is not a valid X.509 certificate",
        ),
        (&off, "{".into(), 78, "newline"),
        (&off, String::new(), 78, "newline"),
        (&["--admin", "off"], String::new(), 78, "no route table"),
        (&["--routes", "/nonexistent"], String::new(), 78, "/nonexistent"),
        (&["--routes", allow], String::new(), 78, "a path of plain segments"),
        (&["--routes", allow, "check"], String::new(), 78, "a path of plain segments"),
        (&["--routes", "-", "--tokens", "stdin"], String::new(), 2, "stdin"),
        (&["--stdin-bundle", "--routes", routes], String::new(), 2, "cannot be used with"),
        (
            &["--routes", routes, "--upstream-proxy", "socks5://me:tok-s3cret@x"],
            String::new(),
            2,
            "expected a proxy as http://",
        ),
        (
            &["check", "--routes", routes, "--upstream-proxy", "socks5://me:tok-s3cret@x"],
            String::new(),
            2,
            "expected a proxy as http://",
        ),
        (&["--surprise"], String::new(), 2, "--surprise"),
        (&["--max-body", "0"], String::new(), 2, "size"),
        (
            &["--stdin-bundle", "--listen", &taken, "--admin", "off"],
            changed("lifeline", json!(false)),
            1,
            "could not bind listener",
        ),
        (
            &["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", &taken],
            changed("lifeline", json!(false)),
            1,
            "could not bind admin",
        ),
        (&["healthcheck", "--admin", "off"], String::new(), 1, "off"),
    ] {
        let output = run(command(args), &stdin);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert_no_token(&said);
    }
}

#[tokio::test]
async fn check_prints_the_table_and_reads_no_token() {
    let routes = file(&table(&json!({})).to_string());
    let output = run(command(&["check", "--routes", routes.path().to_str().unwrap()]), "");
    assert!(output.status.success(), "{output:?}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["routes"][0]["redact"], json!(true));
    let ca = Ca::new();
    let line = format!("{}\n", bundle(&[route("/a/", NOWHERE.into(), &json!({}))], &ca));
    let output = run(command(&["--stdin-bundle", "check"]), &line);
    assert!(output.status.success());
    assert_no_token(&String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn what_is_typed_makes_variables_for_table_and_tokens_void() {
    let ca = Ca::new();
    let line = format!("{}\n", bundle(&[route("/a/", NOWHERE.into(), &json!({}))], &ca));
    let rest = ["--listen", "127.0.0.1:0", "--admin", "off"];
    let mut typed_bundle = command(&[&rest[..], &["--stdin-bundle"]].concat());
    typed_bundle.env("CRED_PROXY_ROUTES", "-").env("CRED_PROXY_TOKENS", "nonsense");
    Scene::spawn(typed_bundle, &line);

    let routes = file(&table(&json!({})).to_string());
    let routes = routes.path().to_str().unwrap();
    for place in [&["--routes", routes][..], &["--routes=-"]] {
        let mut typed_table = command(&[&rest, place].concat());
        typed_table.env("CRED_PROXY_STDIN_BUNDLE", "nonsense").env("CRED_PROXY_TOKENS", "stdin");
        typed_table.env("T", TOKEN);
        spawn_to_eof(typed_table, &table(&json!({})).to_string());
    }
    // Tokens alone say nothing of the table.
    let mut typed_tokens = command(&[&rest[..], &["--tokens", "stdin"]].concat());
    typed_tokens.env("CRED_PROXY_ROUTES", routes).env("CRED_PROXY_STDIN_BUNDLE", "1");
    spawn_to_eof(typed_tokens, &json!({"T": TOKEN}).to_string());
}

#[tokio::test]
async fn tokens_come_from_the_environment_a_file_or_stdin() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let routes = file(&json!({"routes": [route("/a/", origin.addr(), &json!({}))]}).to_string());
    let (ca_file, token) = (file(&ca.pem()), file("tok-from-file\n"));
    let args = [
        "--routes",
        routes.path().to_str().unwrap(),
        "--ca-file",
        ca_file.path().to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "off",
    ];
    let mut from_env = command(&args);
    from_env.env("T", TOKEN);
    let mut from_file = command(&args);
    from_file.env("T", "").env("T_FILE", token.path());
    for (command, stdin, expected) in [
        (from_env, String::new(), TOKEN),
        (from_file, String::new(), "tok-from-file"),
        (
            command(&[&args[..], &["--tokens", "stdin"]].concat()),
            json!({"T": "tok-from-stdin"}).to_string(),
            "tok-from-stdin",
        ),
    ] {
        let by_stdin = !stdin.is_empty();
        let scene = if by_stdin { spawn_to_eof(command, &stdin) } else { Scene::spawn(command, "") };
        assert_eq!(scene.get("/a/x").await.status, 200);
        assert_eq!(origin.take()[0].fields["authorization"], format!("Bearer {expected}"));
        if expected == "tok-from-file" {
            std::fs::write(token.path(), "tok-newer-file\n").unwrap();
            scene.signal("HUP");
            eventually(SOON, || async { scene.log().contains("token_replaced") }).await;
            assert_eq!(scene.get("/a/x").await.status, 200);
            assert_eq!(origin.take()[0].fields["authorization"], "Bearer tok-newer-file");
        }
    }
}

/// A stdin that ends, before readiness is waited for.
fn spawn_to_eof(mut command: std::process::Command, stdin: &str) -> Scene {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(stdin.as_bytes()).unwrap();
    file.rewind().unwrap();
    command.stdin(file);
    Scene::spawn_with_stdin_set(command)
}

#[tokio::test]
async fn the_admin_endpoint_tells_and_the_healthcheck_asks() {
    let ca = Ca::new();
    let mut scene = Scene::start(&bundle(&[route("/a/", NOWHERE.into(), &json!({}))], &ca), &[]);
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/other", 404)] {
        assert_eq!(raw::ask(scene.admin, get(path)).await.unwrap().status, status, "{path}");
    }
    let admin = scene.admin.to_string();
    let check = || {
        tokio::task::spawn_blocking({
            let admin = admin.clone();
            move || run(command(&["healthcheck", "--admin", &admin]), "").status.code()
        })
    };
    assert_eq!(check().await.unwrap(), Some(0));
    scene.signal("TERM");
    assert!(scene.exit().await.success());
    assert_eq!(check().await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_takes_no_more() {
    let ca = Ca::new();
    let (bodies, mut body) = mpsc::unbounded_channel();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), move |_| {
        let (send, content) = channel();
        bodies.send(send).unwrap();
        async { Response::new(content) }
    })
    .await;
    let mut scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut idle = scene.client().await;
    let mut client = scene.client().await;
    client.send(get("/a/x")).await;
    let content = tokio::time::timeout(SOON, body.recv()).await.unwrap().unwrap();
    client.head().await.unwrap();
    scene.signal("TERM");
    eventually(SOON, || async { raw::ask(scene.admin, get("/readyz")).await.is_ok_and(|a| a.status == 503) })
        .await;
    assert!(idle.closes(SOON).await);
    eventually(SOON, || async { tokio::net::TcpStream::connect(scene.addr).await.is_err() }).await;
    content.send(Ok(Bytes::from("late"))).await.unwrap();
    drop(content);
    client.until(b"late\r\n0\r\n\r\n").await.unwrap();
    drop(client);
    assert!(scene.exit().await.success());
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline_whoever_stalls() {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |_| std::future::pending()).await;
    let mut scene =
        Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &["--drain-timeout", "500ms"]);
    let mut client = scene.client().await;
    client.send(get("/a/x")).await;
    eventually(SOON, || async { !origin.requests().is_empty() }).await;
    let started = Instant::now();
    scene.signal("INT");
    assert!(scene.exit().await.success());
    assert!(started.elapsed() >= Duration::from_millis(400) && started.elapsed() < Duration::from_secs(5));
    let line = scene.requests_logged(1).await.remove(0);
    assert_eq!((&line["side"], &line["end"]), (&json!("proxy"), &json!("cut")), "{line}");
    assert!(line.get("status").is_none() && line.get("reason").is_none(), "{line}");
}

#[tokio::test]
async fn a_connection_too_many_is_503_and_the_next_one_served() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let scene =
        Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &["--max-connections", "1"]);
    let mut first = scene.client().await;
    assert_eq!(first.ask(get("/a/x")).await.unwrap().status, 200);
    let mut second = scene.client().await;
    let answer = second.ask(get("/a/x")).await.unwrap();
    assert_eq!((answer.status, answer.field("x-cred-proxy")), (503, Some("limit")));
    assert!(answer.field("retry-after").is_some() && second.closes(SOON).await);
    drop(first);
    eventually(SOON, || async { scene.get("/a/x").await.status == 200 }).await;
}

#[tokio::test]
async fn a_peer_from_elsewhere_is_closed_before_a_byte_is_read() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let mut elsewhere = bundle(&[route("/a/", origin.addr(), &json!({}))], &ca);
    elsewhere["from"] = json!(["10.201.7.0/28"]);
    let scene = Scene::start(&elsewhere, &[]);
    let mut client = scene.client().await;
    assert!(client.ask(get("/a/x")).await.is_err());
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn a_crash_leaves_no_core_from_before_a_token_is_read() {
    let ca = Ca::new();
    let bundle = format!("{}\n", bundle(&[route("/a/", NOWHERE.into(), &json!({}))], &ca));
    let mut child =
        command(&["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "off"]).spawn().unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    eventually(SOON, || async {
        let limits = std::fs::read_to_string(&limits).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        core.split_whitespace().skip(4).take(2).eq(["0", "0"])
    })
    .await;
    // It has been waiting for the bundle, and takes it now.
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), bundle.as_bytes()).unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut ready)
        .unwrap();
    assert!(ready.contains("\"ready\""), "{ready}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn at_the_descriptor_limit_accepting_waits_and_goes_on() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let line = format!("{}\n", bundle(&[route("/a/", origin.addr(), &json!({}))], &ca));
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_cred-proxy")]);
    limited.args(["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "off"]).env("RUST_LOG", "warn");
    limited.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    limited.stderr(std::process::Stdio::piped());
    let scene = Scene::spawn(limited, &line);
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(scene.client().await);
    }
    eventually(SOON, || async { scene.log().contains("accept_error") }).await;
    // Backing off is no spinning: a tight loop would have written, or burnt, much more.
    let burnt = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", scene.pid())).unwrap();
        let rest: Vec<u64> =
            stat.rsplit(')').next().unwrap().split_whitespace().filter_map(|n| n.parse().ok()).collect();
        // utime and stime, in hundredths; the state before them is no number.
        rest[10] + rest[11]
    };
    let before = burnt();
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert!(burnt() - before < 30, "{} hundredths of a second", burnt() - before);
    assert!(scene.log().matches("accept_error").count() < 10, "{}", scene.log());
    drop(clients);
    eventually(SOON, || async { scene.ask(get("/a/x")).await.is_ok_and(|answer| answer.status == 200) })
        .await;
}

#[tokio::test]
async fn a_signal_ends_the_wait_for_stdin() {
    let routes = file(&table(&json!({})).to_string());
    let routes = routes.path().to_str().unwrap();
    for args in [
        &["--stdin-bundle", "--admin", "off"][..],
        &["--routes", "-", "--admin", "off"],
        &["--routes", routes, "--tokens", "stdin", "--admin", "off"],
    ] {
        let mut command = command(args);
        command.env("T", TOKEN);
        let mut child = command.spawn().unwrap();
        // Caught signals stand in the status of a process: from then on it is not the default that ends it.
        let status = format!("/proc/{}/status", child.id());
        eventually(SOON, || async {
            let status = std::fs::read_to_string(&status).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
            u64::from_str_radix(caught, 16).unwrap() & (1 << 14) != 0
        })
        .await;
        assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        let ended = std::sync::Mutex::new(None);
        let child = std::sync::Mutex::new(&mut child);
        eventually(SOON, || async {
            *ended.lock().unwrap() = child.lock().unwrap().try_wait().unwrap();
            ended.lock().unwrap().is_some()
        })
        .await;
        assert!(ended.into_inner().unwrap().is_some_and(|status| status.success()), "{args:?}");
    }
}
