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
    let other = json!({"upstream": "https://other.upstream.test", "allow_private_upstream": false});
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
    let named = json!({"upstream": "https://api.upstream.test", "allow_private_upstream": false});
    let bundle = bundle(&[route("/a/", sink.addr(), &named)], &ca);
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
async fn a_literal_address_is_checked_and_private_routes_and_exceptions_are_reached_directly() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1", "localhost"])).await;
    let proxy = ConnectProxy::start(origin.addr(), OK).await;
    let localhost = format!("https://localhost:{}", origin.addr().port());
    let routes = [
        route("/private/", origin.addr(), &json!({})),
        route("/private-name/", origin.addr(), &json!({"upstream": localhost})),
        route("/literal/", origin.addr(), &json!({"allow_private_upstream": false})),
        route("/metadata/", origin.addr(), &json!({"upstream": "https://169.254.169.254"})),
        route("/name/", origin.addr(), &json!({"upstream": localhost, "allow_private_upstream": false})),
    ];
    let mut bundle = bundle(&routes, &ca);
    let url = format!("http://me:hunter2@{}", proxy.addr());
    let by_option = |except| (json!(null), vec!["--upstream-proxy", &url], vec![("NO_PROXY", except)]);
    let by_bundle =
        |given: Value| (given, vec![], vec![("HTTPS_PROXY", "http://127.0.0.1:9"), ("NO_PROXY", "*")]);
    for ((given, args, variables), name_by_proxy) in [
        (by_option("x.test, 127.0.0.0/8"), true),
        (by_option("x.test, localhost"), false),
        (by_bundle(json!({"url": url})), true),
        (by_bundle(json!({"url": url, "no_proxy": "x.test"})), true),
        (by_bundle(json!({"url": url, "no_proxy": "x.test,localhost"})), false),
        (by_bundle(json!({"url": url, "no_proxy": "*"})), false),
        (by_bundle(json!({"url": url, "no_proxy": null})), true),
    ] {
        match given {
            Value::Null => drop(bundle.as_object_mut().unwrap().remove("upstream_proxy")),
            given => bundle["upstream_proxy"] = given,
        }
        let before = proxy.heads().len();
        let scene = start(&bundle, &args, &variables);
        for (target, reason) in [
            ("/private/x", None),
            ("/private-name/x", None),
            ("/literal/x", Some("private_address")),
            ("/metadata/x", Some("private_address")),
        ] {
            assert_eq!(scene.get(target).await.field("x-cred-proxy"), reason, "{target} {args:?} {bundle}");
        }
        assert_eq!(proxy.heads().len(), before, "{args:?} {bundle}");
        let reason = (!name_by_proxy).then_some("private_address");
        assert_eq!(scene.get("/name/x").await.field("x-cred-proxy"), reason, "{args:?} {bundle}");
        assert_eq!(proxy.heads().len(), before + usize::from(name_by_proxy), "{args:?} {bundle}");
        let log = scene.log();
        assert!(!log.contains("hunter2") && !log.contains("bWU6aHVudGVyMg"), "{log}");
    }
    let head = proxy.heads().remove(0);
    assert!(head.contains("\r\nProxy-Authorization: Basic bWU6aHVudGVyMg==\r\n"), "{head}");
}

#[tokio::test]
async fn a_typed_proxy_goes_before_the_bundles_and_that_before_a_variable() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["api.upstream.test"])).await;
    let [typed, given] =
        [ConnectProxy::start(origin.addr(), OK).await, ConnectProxy::start(origin.addr(), OK).await];
    let named = json!({"upstream": "https://api.upstream.test", "allow_private_upstream": false});
    let mut bundle = bundle(&[route("/a/", origin.addr(), &named)], &ca);
    bundle["upstream_proxy"] = json!({"url": format!("http://{}", given.addr())});
    let other = [("CRED_PROXY_UPSTREAM_PROXY", "127.0.0.1:9"), ("HTTPS_PROXY", "127.0.0.1:9")];
    assert_eq!(start(&bundle, &[], &other).get("/a/x").await.status, 200);
    assert_eq!((typed.heads().len(), given.heads().len()), (0, 1));
    let typed_url = format!("http://{}", typed.addr());
    assert_eq!(start(&bundle, &["--upstream-proxy", &typed_url], &other).get("/a/x").await.status, 200);
    assert_eq!((typed.heads().len(), given.heads().len()), (1, 1));
}

#[test]
fn a_bundle_with_a_wrong_proxy_is_78_and_check_never_prints_the_password() {
    let ca = Ca::new();
    let mut bundle = bundle(&[route("/a/", ([127, 0, 0, 1], 9).into(), &json!({}))], &ca);
    let off = ["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "off"];
    for given in [
        json!("http://me:hunter2@p:1"),
        json!(null),
        json!({}),
        json!({"url": null}),
        json!({"url": ["http://me:hunter2@p:1"]}),
        json!({"url": "https://me:hunter2@p:1"}),
        json!({"url": "http://me:hunter2@p:99999"}),
        json!({"url": "http://me:hunter2@p:1/path"}),
        json!({"url": "http://me:hunter2@p:1", "no_proxy": ["hunter2"]}),
        json!({"url": "http://me:hunter2@p:1", "password": "hunter2"}),
    ] {
        bundle["upstream_proxy"] = given;
        for args in [&off[..], &["--stdin-bundle", "check"]] {
            let output = run(command(args), &format!("{bundle}\n"));
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{bundle}: {said}");
            assert!(said.contains("expected `upstream_proxy` to be"), "{bundle}: {said}");
            assert!(!said.contains("hunter2") && output.stdout.is_empty(), "{bundle}: {said}");
        }
    }
    bundle["upstream_proxy"] = json!({"url": "http://me:hunter2@p:1", "no_proxy": "corp.example"});
    let output = run(command(&["check", "--stdin-bundle"]), &format!("{bundle}\n"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("\"/a/\""), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("upstream_proxy"), "{said}");
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
