//! Through a CONNECT proxy the upstream is verified as ever, and the proxy learns its name only.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use scene::{Scene, assert_no_token, bundle, command, route, run};
use serde_json::{Value, json};
use testbed::{connect_proxy::ConnectProxy, eventually, https::Origin, pki::Ca, tcp::Sink};

const OK: &str = "HTTP/1.1 200 Connection established\r\nX-A: b\r\n\r\n";

fn start(bundle: &Value, args: &[&str], variables: &[(&str, &str)]) -> Scene {
    let all = ["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut command = command(&[&all, args].concat());
    for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    Scene::spawn(command, &format!("{bundle}\n"))
}

#[tokio::test]
async fn a_name_is_resolved_by_the_proxy_and_verified_by_us() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["api.upstream.test"])).await;
    let proxy = ConnectProxy::start(origin.addr(), OK).await;
    let named = json!({"upstream": "https://api.upstream.test/base", "allow_private_upstream": false});
    let other = json!({"upstream": "https://other.upstream.test"});
    let routes = [route("/a/", origin.addr(), &named), route("/o/", origin.addr(), &other)];
    let bundle = bundle(&routes, &ca);
    let url = format!("http://me:pass%20word@{}", proxy.addr());
    for (args, variables) in [
        (&["--upstream-proxy", &url][..], &[("HTTPS_PROXY", "http://127.0.0.1:9")][..]),
        (&[], &[("HTTPS_PROXY", &url)]),
        (&[], &[("https_proxy", &url), ("no_proxy", "elsewhere.test")]),
        (&[], &[("CRED_PROXY_UPSTREAM_PROXY", &url)]),
    ] {
        let scene = start(&bundle, args, variables);
        assert_eq!(scene.get("/a/x").await.status, 200);
        let recorded = origin.take().remove(0);
        assert_eq!(
            (recorded.target.as_str(), &recorded.fields["host"]),
            ("/base/x", &"api.upstream.test".parse().unwrap())
        );
        assert!(!recorded.fields.contains_key("proxy-authorization"));
        // What answers behind the tunnel must be whom the route names.
        assert_eq!(scene.get("/o/x").await.field("x-cred-proxy"), Some("upstream_tls"));
        assert!(origin.take().is_empty());
        let log = scene.log();
        assert!(!log.contains("pass") && !log.contains("bWU6cGFzcyB3b3Jk"), "{log}");
    }
    let heads = proxy.heads();
    assert_eq!(heads.len(), 8);
    assert_eq!(
        heads[0],
        "CONNECT api.upstream.test:443 HTTP/1.1\r\nHost: api.upstream.test:443\r\n\
         Proxy-Authorization: Basic bWU6cGFzcyB3b3Jk\r\n\r\n"
    );
    heads.iter().for_each(|head| assert_no_token(head));
}

#[tokio::test]
async fn a_proxy_that_refuses_or_is_no_proxy_is_502() {
    let ca = Ca::new();
    let sink = Sink::start().await;
    let bundle = bundle(&[route("/a/", sink.addr(), &json!({"upstream": "https://api.upstream.test"}))], &ca);
    for answer in [
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
        "HTTP/1.1 503 No\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
        "",
    ] {
        let proxy = ConnectProxy::start(sink.addr(), answer).await;
        let scene = start(&bundle, &["--upstream-proxy", &proxy.addr().to_string()], &[]);
        let answered = scene.get("/a/x").await;
        assert_eq!(
            (answered.status, answered.field("x-cred-proxy")),
            (502, Some("upstream_connect")),
            "{answer}"
        );
        assert!(answered.field("proxy-authenticate").is_none());
        eventually(scene::SOON, || async { scene.log().contains("through proxy 127.0.0.1") }).await;
    }
    assert_eq!(sink.connections(), 0);
}

#[tokio::test]
async fn a_literal_address_is_checked_and_exceptions_are_reached_directly() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let proxy = ConnectProxy::start(origin.addr(), OK).await;
    let private = json!({"allow_private_upstream": false});
    let metadata = json!({"upstream": "https://169.254.169.254"});
    let routes = [
        route("/a/", origin.addr(), &json!({})),
        route("/private/", origin.addr(), &private),
        route("/metadata/", origin.addr(), &metadata),
    ];
    let bundle = bundle(&routes, &ca);
    let url = format!("http://{}", proxy.addr());
    let scene = start(&bundle, &["--upstream-proxy", &url], &[]);
    for target in ["/private/x", "/metadata/x"] {
        assert_eq!(scene.get(target).await.field("x-cred-proxy"), Some("private_address"), "{target}");
    }
    assert!(proxy.heads().is_empty());
    assert_eq!(scene.get("/a/x").await.status, 200);
    assert_eq!(proxy.heads().len(), 1);
    let scene = start(&bundle, &["--upstream-proxy", &url], &[("NO_PROXY", "x.test, 127.0.0.0/8")]);
    assert_eq!(scene.get("/a/x").await.status, 200);
    assert_eq!(proxy.heads().len(), 1);
}

#[test]
fn a_proxy_that_cannot_be_read_is_2_and_not_said_again() {
    let ca = Ca::new();
    let bundle = format!("{}\n", bundle(&[route("/a/", ([127, 0, 0, 1], 9).into(), &json!({}))], &ca));
    for (args, variable) in [
        (&["--upstream-proxy", "socks5://me:hunter2@p:1"][..], ""),
        (&["--upstream-proxy", "http://me:hunter2@p:99999"], ""),
        (&[], "https://me:hunter2@p:1"),
    ] {
        let off = ["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "off"];
        let mut command = command(&[&off, args].concat());
        command.env("HTTPS_PROXY", variable);
        let output = run(command, &bundle);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("expected a proxy as http://") && !said.contains("hunter2"), "{said}");
    }
}
