//! Nothing is said to an upstream that cannot prove who it is, or that stands where none may be.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use scene::{SOON, Scene, bundle, get, route};
use serde_json::json;
use testbed::{
    eventually,
    https::{Origin, RawOrigin, Script},
    pki::{Ca, Fault},
    tcp::{HalfClose, Refuse, Reset, Sink, Stall},
};

#[tokio::test]
async fn an_upstream_with_a_faulty_certificate_hears_nothing() {
    for fault in Fault::ALL {
        let ca = Ca::new();
        let cert = ca.faulty(&["localhost", "127.0.0.1"], fault);
        let origin =
            RawOrigin::start(&cert, Script::close("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).await;
        let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
        let answer = scene.get("/a/x").await;
        assert_eq!((answer.status, answer.field("x-cred-proxy")), (502, Some("upstream_tls")), "{fault:?}");
        assert!(origin.requests().is_empty() && origin.connections() > 0, "{fault:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls_hears_a_handshake_at_most() {
    let ca = Ca::new();
    let plain = HalfClose::start("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let scene = Scene::start(&bundle(&[route("/a/", plain.addr(), &json!({}))], &ca), &[]);
    let answer = scene.get("/a/x").await;
    assert_eq!((answer.status, answer.field("x-cred-proxy")), (502, Some("upstream_tls")));
    let heard = String::from_utf8_lossy(&plain.received().await.bytes).into_owned();
    scene::assert_no_token(&heard);
    assert!(!heard.contains("GET"), "{heard}");
}

#[tokio::test]
async fn an_upstream_that_speaks_old_tls_hears_a_handshake_at_most() {
    let ca = Ca::new();
    // A ServerHello of TLS 1.0 and 1.1: version, random, no session, RSA with AES-128-CBC and SHA-1.
    for minor in ["\x01", "\x02"] {
        let random = "R".repeat(32);
        let hello = format!("\x16\x03{minor}\0\x2a\x02\0\0\x26\x03{minor}{random}\0\0\x2f\0");
        let old = HalfClose::start(&*hello.leak()).await;
        let scene = Scene::start(&bundle(&[route("/a/", old.addr(), &json!({}))], &ca), &[]);
        let answer = scene.get("/a/x").await;
        assert_eq!((answer.status, answer.field("x-cred-proxy")), (502, Some("upstream_tls")));
        let heard = String::from_utf8_lossy(&old.received().await.bytes).into_owned();
        scene::assert_no_token(&heard);
        assert!(!heard.contains("GET"), "{heard}");
    }
}

#[tokio::test]
async fn a_name_is_verified_as_a_name_and_the_public_roots_do_not_vouch_for_it() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["localhost"])).await;
    let named = json!({"upstream": format!("https://localhost:{}", origin.addr().port())});
    let routes = [route("/a/", origin.addr(), &named)];
    let scene = Scene::start(&bundle(&routes, &ca), &[]);
    assert_eq!(scene.get("/a/x").await.status, 200);
    let mut untrusting = bundle(&routes, &ca);
    untrusting["ca"] = json!([]);
    let scene = Scene::start(&untrusting, &[]);
    assert_eq!(scene.get("/a/x").await.field("x-cred-proxy"), Some("upstream_tls"));
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_502_and_one_that_is_silent_504() {
    let ca = Ca::new();
    let (refuse, reset, stall) = (Refuse::start().await, Reset::start(0).await, Stall::start().await);
    let routes = [
        route("/refuse/", refuse.addr(), &json!({})),
        route("/reset/", reset.addr(), &json!({})),
        route("/stall/", stall.addr(), &json!({})),
        route("/nowhere/", stall.addr(), &json!({"upstream": "https://nowhere.invalid"})),
    ];
    let scene = Scene::start(&bundle(&routes, &ca), &["--connect-timeout", "1s"]);
    for (target, status, words) in [
        ("/refuse/", 502, &["upstream_connect"][..]),
        ("/reset/", 502, &["upstream_tls", "upstream_connect"]),
        ("/stall/", 504, &["upstream_timeout"]),
    ] {
        let answer = scene.get(target).await;
        assert_eq!(answer.status, status, "{target}");
        assert!(words.contains(&answer.field("x-cred-proxy").unwrap()), "{target}: {}", answer.head);
    }
    // A resolver may take its time to say no.
    let answer = scene.get("/nowhere/").await;
    assert!(matches!(answer.status, 502 | 504), "{}", answer.status);
}

#[tokio::test]
async fn a_private_address_is_dialled_only_where_the_route_says_so() {
    let ca = Ca::new();
    let sink = Sink::start().await;
    let port = sink.addr().port();
    let upstreams: Vec<_> =
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "198.51.100.1"]
            .iter()
            .map(|host| (host, false))
            .chain(
                [("169.254.169.254"), ("[fd00:ec2::254]"), ("0.0.0.0"), ("[fe80::1]"), ("224.0.0.1")]
                    .iter()
                    .map(|host| (host, true)),
            )
            .collect();
    let routes: Vec<_> = upstreams
        .iter()
        .enumerate()
        .map(|(n, (host, allow))| {
            let changes =
                json!({"upstream": format!("https://{host}:{port}"), "allow_private_upstream": allow});
            route(&format!("/r{n}/"), sink.addr(), &changes)
        })
        .collect();
    let scene = Scene::start(&bundle(&routes, &ca), &[]);
    for (n, (host, _)) in upstreams.iter().enumerate() {
        let answer = scene.get(&format!("/r{n}/")).await;
        assert_eq!((answer.status, answer.field("x-cred-proxy")), (502, Some("private_address")), "{host}");
    }
    assert_eq!(sink.connections(), 0);
}

#[tokio::test]
async fn the_proxy_is_never_its_own_upstream() {
    let ca = Ca::new();
    // Ports must be known before the proxy is started; a taken one would fail the start, not pass the test.
    let (listen, admin) = (Refuse::start().await, Refuse::start().await);
    let routes = [
        route("/self/", listen.addr(), &json!({})),
        route("/admin/", admin.addr(), &json!({})),
        route(
            "/name/",
            admin.addr(),
            &json!({"upstream": format!("https://localhost:{}", listen.addr().port())}),
        ),
    ];
    for any in [false, true] {
        let host = |addr: std::net::SocketAddr| {
            if any { format!("0.0.0.0:{}", addr.port()) } else { addr.to_string() }
        };
        let args = ["--stdin-bundle", "--listen", &host(listen.addr()), "--admin", &host(admin.addr())];
        let scene = Scene::spawn(scene::command(&args), &format!("{}\n", bundle(&routes, &ca)));
        for target in ["/self/", "/admin/", "/name/"] {
            let request = get(target);
            let to = std::net::SocketAddr::from(([127, 0, 0, 1], listen.addr().port()));
            let answer = testbed::raw::ask(to, request).await.unwrap();
            assert_eq!(answer.field("x-cred-proxy"), Some("private_address"), "{target}");
        }
        drop(scene);
    }
}

#[tokio::test]
async fn an_upstream_that_comes_back_is_used_again() {
    let ca = Ca::new();
    let cert = ca.server(&["127.0.0.1"]);
    let origin = Origin::start(&cert).await;
    let addr = origin.addr();
    let scene = Scene::start(&bundle(&[route("/a/", addr, &json!({}))], &ca), &[]);
    assert_eq!(scene.get("/a/x").await.status, 200);
    drop(origin);
    eventually(SOON, || async { scene.get("/a/x").await.status == 502 }).await;
    let script = Script::close("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let _origin = RawOrigin::start_at(addr, &cert, script).await;
    assert_eq!(scene.get("/a/x").await.status, 200);
}
