//! Options, their variables, and the signals that end a proxy.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::{future::pending, io::Write};

use scene::{SOON, Scene, bundle, command, get, route, run};
use serde_json::{Value, json};
use testbed::{eventually, https::Origin, pki::Ca, raw};

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn help_shows_every_option_with_its_variable() {
    let help = String::from_utf8(run(command(&["--help"]), "").stdout).unwrap();
    for option in [
        "routes",
        "listen",
        "tokens",
        "ca-file",
        "admin",
        "server-name",
        "max-connections",
        "max-body",
        "header-timeout",
        "keep-alive-timeout",
        "connect-timeout",
        "response-timeout",
        "request-body-timeout",
        "response-body-timeout",
        "write-timeout",
        "upstream-proxy",
        "stdin-bundle",
        "drain-timeout",
        "log-format",
    ] {
        let variable = format!("[env: CRED_PROXY_{}", option.to_uppercase().replace('-', "_"));
        assert!(help.contains(&format!("--{option}")) && help.contains(&variable), "{option}: {help}");
    }
}

#[tokio::test]
async fn every_option_is_a_variable_and_an_empty_one_is_unset() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let routes = file(&json!({"routes": [route("/a/", origin.addr(), &json!({}))]}).to_string());
    // The certificate that counts is the second one: the variable's value is split.
    let (other, own) = (file(&Ca::new().pem()), file(&ca.pem()));
    let mut by_variable = command(&[]);
    by_variable
        .env("CRED_PROXY_ROUTES", routes.path())
        .env("CRED_PROXY_LISTEN", "127.0.0.1:0")
        .env("CRED_PROXY_ADMIN", "127.0.0.1:0")
        .env("CRED_PROXY_TOKENS", "")
        .env("CRED_PROXY_STDIN_BUNDLE", "no")
        .env("CRED_PROXY_WRITE_TIMEOUT", "off")
        .env("CRED_PROXY_MAX_BODY", "")
        .env("CRED_PROXY_SERVER_NAME", " one.example\ttwo.example ")
        .env("CRED_PROXY_CA_FILE", format!("{} {}", other.path().display(), own.path().display()))
        .env("T", scene::TOKEN);
    let scene = Scene::spawn(by_variable, "");
    for (host, status) in [("one.example", 200), ("two.example:80", 200), ("three.example", 421)] {
        let request = format!("GET /a/x HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(scene.ask(request).await.unwrap().status, status, "{host}");
    }
    let mut asks = command(&["healthcheck"]);
    asks.env("CRED_PROXY_ADMIN", scene.admin.to_string());
    assert_eq!(run(asks, "").status.code(), Some(0));
}

#[tokio::test]
async fn a_typed_name_is_not_split_and_an_option_may_stand_on_either_side_of_a_subcommand() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let routes = [route("/a/", origin.addr(), &json!({}))];
    let scene = Scene::start(&bundle(&routes, &ca), &["--server-name", "one.example two.example"]);
    let request = "GET /a/x HTTP/1.1\r\nHost: one.example\r\n\r\n";
    assert_eq!(scene.ask(request).await.unwrap().status, 421);
    let table = file(&json!({"routes": routes}).to_string());
    let table = table.path().to_str().unwrap();
    for line in [["check", "--routes", table], ["--routes", table, "check"]] {
        let output = run(command(&line), "");
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), &printed["routes"][0]["path"]), (Some(0), &json!("/a/")));
    }
}

#[tokio::test]
async fn while_it_drains_a_proxy_is_alive_and_not_ready_and_a_second_signal_ends_it_at_once() {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |_| pending()).await;
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let routes = [route("/a/", origin.addr(), &json!({}))];
        let mut scene = Scene::start(&bundle(&routes, &ca), &["--drain-timeout", "1h"]);
        let mut client = scene.client().await;
        client.send(get("/a/x")).await;
        eventually(SOON, || async { !origin.take().is_empty() }).await;
        scene.signal("INT");
        let status = async |path: &str| raw::ask(scene.admin, get(path)).await.unwrap().status;
        eventually(SOON, || async { status("/readyz").await == 503 }).await;
        assert_eq!((status("/healthz").await, status("/metrics").await), (200, 200));
        let asks = command(&["healthcheck", "--admin", &scene.admin.to_string()]);
        assert_eq!(run(asks, "").status.code(), Some(1));
        scene.signal(second);
        assert_eq!(scene.exit().await.code(), Some(code));
    }
}
