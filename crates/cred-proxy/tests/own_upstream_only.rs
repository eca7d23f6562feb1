//! Whatever a request's target, Host or method says, it reaches its route's own upstream or nobody.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use scene::{Scene, bundle, get, route};
use serde_json::json;
use testbed::{https::Origin, pki::Ca};

/// What a request begins with, the status and the word that it is refused with.
const REFUSED: &[(&str, u16, &str)] = &[
    // A prefix is whole segments, byte by byte.
    ("GET /ghevil", 404, "no_route"),
    ("GET /gh.evil", 404, "no_route"),
    ("GET /gh@x", 404, "no_route"),
    ("GET /gh:443@x", 404, "no_route"),
    ("GET /GH", 404, "no_route"),
    ("GET /GH/x", 404, "no_route"),
    ("GET /%67h/x", 404, "no_route"),
    ("GET /gh;a", 404, "no_route"),
    ("GET /gh;a/x", 404, "no_route"),
    ("GET //gh/x", 404, "no_route"),
    ("GET //evil.test/gh/", 404, "no_route"),
    ("GET /", 404, "no_route"),
    ("GET /-/", 404, "no_route"),
    ("GET /-/metrics", 404, "no_route"),
    // What names a host to whoever resolves it, or leads out of the route.
    ("GET /gh//x", 400, "bad_target"),
    ("GET /gh//evil.test/x", 400, "bad_target"),
    ("GET /gh/\\x", 400, "bad_target"),
    ("GET /gh/%2fevil.test", 400, "bad_target"),
    ("GET /gh/%5cevil.test", 400, "bad_target"),
    ("GET /gh/../x", 400, "bad_target"),
    ("GET /gh/..", 400, "bad_target"),
    ("GET /gh/./x", 400, "bad_target"),
    ("GET /gh/%2e%2e/x", 400, "bad_target"),
    ("GET /gh/.%2e/x", 400, "bad_target"),
    ("GET /gh/%252e%252e/x", 400, "bad_target"),
    ("GET /gh/%25252525252e/x", 400, "bad_target"),
    ("GET /gh/..;/x", 400, "bad_target"),
    ("GET /gh/..%3bx/x", 400, "bad_target"),
    ("GET /gh/..%2fx", 400, "bad_target"),
    ("GET /gh/..%5cx", 400, "bad_target"),
    ("GET /gh/a\\..\\x", 400, "bad_target"),
    ("GET /nowhere/../gh/x", 400, "bad_target"),
    ("GET /gh/%00", 400, "bad_target"),
    ("GET /gh/%0d%0aX:%20y", 400, "bad_target"),
    ("GET /gh/%0a", 400, "bad_target"),
    ("GET /gh/%ff", 400, "bad_target"),
    ("GET *", 400, "bad_target"),
    ("GET localhost:80", 400, "bad_target"),
    // Absolute-form.
    ("GET http://evil.test/gh/x", 421, "misdirected"),
    ("GET https://localhost/gh/x", 421, "misdirected"),
    ("GET http://a@localhost/gh/x", 400, "bad_target"),
    ("GET http://localhost@evil.test/gh/x", 400, "bad_target"),
    // Methods.
    ("CONNECT localhost:443", 405, "method_not_allowed"),
    ("CONNECT evil.test:443", 405, "method_not_allowed"),
    ("TRACE /gh/x", 405, "method_not_allowed"),
    ("TRACK /gh/x", 405, "method_not_allowed"),
    ("get /gh/x", 405, "method_not_allowed"),
    ("PROPFIND /gh/x", 405, "method_not_allowed"),
    ("GETX /gh/x", 405, "method_not_allowed"),
    ("POST /-/routes", 405, "method_not_allowed"),
];

/// The Host lines of a request, the status and the word that it is refused with.
const HOSTS: &[(&str, u16, &str)] = &[
    ("", 400, "bad_host"),
    ("Host: localhost\r\nHost: localhost\r\n", 400, "bad_host"),
    ("Host: localhost\r\nHost: evil.test\r\n", 400, "bad_host"),
    ("Host: localhost, evil.test\r\n", 400, "bad_host"),
    ("Host: a@localhost\r\n", 400, "bad_host"),
    ("Host: localhost/x\r\n", 400, "bad_host"),
    ("Host:\r\n", 400, "bad_host"),
    ("Host: evil.test\r\n", 421, "misdirected"),
    ("Host: localhost.evil.test\r\n", 421, "misdirected"),
    ("Host: 198.51.100.1\r\n", 421, "misdirected"),
];

#[tokio::test]
async fn what_could_lead_elsewhere_is_refused_with_its_word() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let scene = Scene::start(&bundle(&[route("/gh/", origin.addr(), &json!({}))], &ca), &[]);
    let cases = REFUSED
        .iter()
        .map(|(line, status, word)| (format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"), status, word));
    let hosts =
        HOSTS.iter().map(|(host, status, word)| (format!("GET /gh/x HTTP/1.1\r\n{host}\r\n"), status, word));
    for (request, status, word) in cases.chain(hosts) {
        let answer = scene.ask(&request).await.unwrap();
        assert_eq!((answer.status, answer.field("x-cred-proxy")), (*status, Some(*word)), "{request}");
        assert!(answer.field("proxy-status").unwrap().starts_with("cred-proxy; error="));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["error"]["reason"], *word);
        // Nothing of the request is said again.
        assert!(!answer.text().contains("evil") && !answer.text().contains("gh"), "{}", answer.text());
    }
    assert_eq!(origin.connections(), 0);
    assert_eq!(scene.get("/gh/x").await.status, 200);
    assert_eq!(origin.take().len(), 1);
}

#[tokio::test]
async fn what_only_looks_like_another_host_stays_a_path_on_the_routes_own() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let scene = Scene::start(&bundle(&[route("/gh/", origin.addr(), &json!({}))], &ca), &[]);
    for (target, expected) in [
        ("/gh/@evil.test/", "/@evil.test/"),
        ("/gh/.evil.test/", "/.evil.test/"),
        ("/gh/:443@evil.test/", "/:443@evil.test/"),
        ("/gh/https://evil.test/x", "/https://evil.test/x"),
        ("/gh/projects/a%2Fb", "/projects/a%2Fb"),
        ("/gh/?next=//evil.test/../x", "/?next=//evil.test/../x"),
        ("http://localhost:1/gh/x", "/x"),
        ("http://LOCALHOST/gh/x?y", "/x?y"),
    ] {
        assert_eq!(scene.get(target).await.status, 200, "{target}");
        let recorded = origin.take().remove(0);
        assert_eq!(recorded.target, expected);
        assert_eq!(recorded.fields["host"], origin.addr().to_string().as_str());
    }
    let answer = scene.ask("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(answer.status, 204);
    assert!(origin.take().is_empty());
}

#[tokio::test]
async fn a_further_name_of_our_own_is_served() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let bundle = bundle(&[route("/gh/", origin.addr(), &json!({}))], &ca);
    let request = get("/gh/").replace("localhost", "api.test");
    let scene = Scene::start(&bundle, &["--server-name", "api.test"]);
    assert_eq!(scene.ask(&request).await.unwrap().status, 200);
    assert_eq!(scene.ask(request.replace("api.", "other.")).await.unwrap().status, 421);
    let scene = Scene::start(&bundle, &["--server-name", "*"]);
    assert_eq!(scene.ask(&request).await.unwrap().status, 200);
}
