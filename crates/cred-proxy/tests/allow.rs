//! A route with rules takes the requests of its rules, and no other in any reading.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use scene::{Scene, bundle, get, route};
use serde_json::json;
use testbed::{https::Origin, pki::Ca};

#[tokio::test]
async fn what_no_rule_takes_is_403_and_nobody_is_asked() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let base = format!("https://{}/base", origin.addr());
    let rules = json!([
        {"methods": ["POST"], "path": "/v1/messages"},
        {"methods": ["GET", "HEAD"], "path": "/v1/models/**"},
        {"methods": ["GET"], "path": "/p/*/issues"},
    ]);
    let routes = [
        route("/a/", origin.addr(), &json!({"upstream": base, "allow": rules})),
        route("/none/", origin.addr(), &json!({"allow": []})),
        route("/all/", origin.addr(), &json!({})),
    ];
    let scene = Scene::start(&bundle(&routes, &ca), &[]);
    for line in [
        "GET /a/v1/messages",
        "POST /a/v1/messages/",
        "POST /a/v1/messages/count",
        "POST /a/V1/messages",
        "POST /a/v1//messages",
        "POST /a/v1%2fmessages",
        "POST /a/v1/messages%2f",
        "POST /a/v1/messages;x",
        "POST /a/v1/messages%3bx",
        "POST /a/v1/messages%3fx",
        "POST /a/v1/message%73",
        "POST /a/v1/messages%2500",
        "POST /a/v1\\messages",
        "DELETE /a/v1/models/m",
        "GET /a/p/x%2Fy/issues",
        "GET /a/p/x%252Fy/issues",
        "GET /a/p/x%5Cy/issues",
        "GET /a/p/x\\y/issues",
        "GET /a/p/;/issues",
        "GET /a/p//issues",
        "GET /a/",
        "GET /none/",
        "GET /none/v1/messages",
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: POST\r\n\r\n");
        let answer = scene.ask(&request).await.unwrap();
        let expected = if line.contains("%2500") { (400, "bad_target") } else { (403, "not_allowed") };
        assert_eq!((answer.status, answer.field("x-cred-proxy").unwrap()), expected, "{line}");
    }
    assert_eq!(origin.connections(), 0);
    for (line, expected) in [
        ("POST /a/v1/messages", "/base/v1/messages"),
        ("POST /a/v1/messages?beta=/../x", "/base/v1/messages?beta=/../x"),
        ("GET /a/v1/models", "/base/v1/models"),
        ("GET /a/v1/models/x%2Fy//", "/base/v1/models/x%2Fy//"),
        ("HEAD /a/v1/models/m", "/base/v1/models/m"),
        ("GET /a/p/x%20y/issues", "/base/p/x%20y/issues"),
        ("DELETE /all/p/x%2Fy/issues", "/p/x%2Fy/issues"),
    ] {
        let answer = scene.ask(format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await.unwrap();
        assert_eq!(answer.status, 200, "{line}");
        assert_eq!(origin.take()[0].target, expected);
    }
    // The route's bare path is asked for again, whatever its rules say of it.
    assert_eq!(scene.ask(get("/none")).await.unwrap().status, 308);
    assert_eq!(scene.requests_logged(31).await[0]["reason"], "not_allowed");
}
