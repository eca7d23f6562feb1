//! A request reaches its route's own upstream with exactly one credential: the route's.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use scene::{Scene, TOKEN, bundle, get, post, route};
use serde_json::json;
use testbed::{https::Origin, pki::Ca};

#[tokio::test]
async fn each_scheme_is_one_field_and_what_the_caller_sent_is_gone() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let schemes = [
        (json!({"scheme": "bearer"}), "authorization", format!("Bearer {TOKEN}")),
        (json!({"scheme": "token"}), "authorization", format!("token {TOKEN}")),
        (
            json!({"scheme": "basic", "username": "git"}),
            "authorization",
            "Basic Z2l0OnRvay1zM2NyZXQvMDErMjM=".into(),
        ),
        (json!({"scheme": "header", "name": "X-Api-Key"}), "x-api-key", TOKEN.into()),
        (
            json!({"scheme": "header", "name": "X-Odd", "format": "v1 {token}!"}),
            "x-odd",
            format!("v1 {TOKEN}!"),
        ),
    ];
    let routes: Vec<_> = schemes
        .iter()
        .enumerate()
        .map(|(n, (auth, ..))| route(&format!("/r{n}/"), origin.addr(), &json!({"auth": auth})))
        .collect();
    let scene = Scene::start(&bundle(&routes, &ca), &[]);
    for (n, (_, name, value)) in schemes.iter().enumerate() {
        let request = format!(
            "GET /r{n}/v1/x?y=%2e&z HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer mine\r\nauthorization: b\r\n\
             X-Api-Key: mine\r\nX_Api_Key: mine\r\nPrivate-Token: mine\r\nX-Odd: mine\r\nCookie: a=mine\r\n\
             Proxy-Authorization: mine\r\nConnection: authorization, {name}, x-mine, close\r\nX-Mine: mine\r\n\
             X-Forwarded-Host: mine\r\nX-HTTP-Method-Override: DELETE\r\nX-Original-URL: /mine\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: mine\r\nTE: trailers\r\nanthropic-beta: a\r\nanthropic-beta: b\r\nAccept: text/mine-not\r\n\r\n"
        );
        let answer = scene.ask(request).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        let recorded = origin.take();
        assert_eq!(recorded.len(), 1);
        let request = &recorded[0];
        assert_eq!(request.target, "/v1/x?y=%2e&z");
        let mut fields: Vec<_> =
            request.fields.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        fields.sort_unstable();
        let authority = origin.addr().to_string();
        let mut expected = vec![
            ("accept", "text/mine-not"),
            ("accept-encoding", "identity"),
            ("anthropic-beta", "a"),
            ("anthropic-beta", "b"),
            ("host", authority.as_str()),
            (name, value.as_str()),
        ];
        expected.sort_unstable();
        assert_eq!(fields, expected);
    }
}

#[tokio::test]
async fn a_base_path_stands_in_front_and_the_longest_prefix_wins() {
    let ca = Ca::new();
    let (one, two) = (
        Origin::start(&ca.server(&["127.0.0.1"])).await,
        Origin::start(&ca.server(&["localhost", "127.0.0.1"])).await,
    );
    let based =
        json!({"upstream": format!("https://{}/api/v1/", two.addr()), "cookies": true, "redact": false});
    let routes = [route("/gh/", one.addr(), &json!({})), route("/gh/raw/", two.addr(), &based)];
    let scene = Scene::start(&bundle(&routes, &ca), &[]);
    assert_eq!(scene.get("/gh/rawx").await.status, 200);
    assert_eq!(one.take()[0].target, "/rawx");
    let cookie = "POST /gh/raw/x/?q HTTP/1.1\r\nHost: cred-proxy:9099\r\nCookie: a=b\r\nRange: bytes=0-1\r\nAccept-Encoding: br\r\n\r\n";
    assert_eq!(scene.ask(cookie).await.unwrap().status, 200);
    let recorded = two.take().remove(0);
    assert_eq!(recorded.target, "/api/v1/x/?q");
    assert_eq!(
        (&recorded.fields["cookie"], &recorded.fields["range"]),
        (&"a=b".parse().unwrap(), &"bytes=0-1".parse().unwrap())
    );
    assert_eq!(recorded.fields["accept-encoding"], "br");
    assert_eq!(recorded.fields["content-length"], "0");
    for (path, location) in [("/gh", "/gh/"), ("/gh/raw?a=b", "/gh/raw/?a=b")] {
        let answer = scene.get(path).await;
        assert_eq!((answer.status, answer.field("location")), (308, Some(location)));
    }
    let answer = scene.get("/-/routes").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"routes":["/gh/","/gh/raw/"]}"#));
    assert!(one.take().is_empty() && two.take().is_empty());
}

#[tokio::test]
async fn connections_are_used_again_and_every_request_is_one_line() {
    let ca = Ca::new();
    let origin = Origin::answering(
        &ca.server(&["127.0.0.1"]),
        |request: http::Request<testbed::https::Content>| async {
            use http_body_util::BodyExt;
            let content = request.into_body().collect().await.unwrap().to_bytes();
            http::Response::new(testbed::https::full(content))
        },
    )
    .await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    for n in 0..20 {
        let answer = client.ask(post("/a/x?secret=query", &"x".repeat(n))).await.unwrap();
        assert_eq!((answer.status, answer.body.len(), answer.complete), (200, n, true));
    }
    assert_eq!(client.ask(get("/nowhere")).await.unwrap().status, 404);
    assert_eq!(origin.connections(), 1);
    let lines = scene.requests_logged(21).await;
    let line = &lines[19];
    for (key, value) in [
        ("level", json!("info")),
        ("route", json!("/a/")),
        ("method", json!("POST")),
        ("path", json!("/a/x")),
        ("status", json!(200)),
        ("up_bytes", json!(19)),
        ("down_bytes", json!(19)),
        ("verdict", json!("forward")),
    ] {
        assert_eq!(line[key], value, "{line}");
    }
    assert!(line.get("reason").is_none() && line["duration_ms"].is_u64() && line["ttfb_ms"].is_u64());
    assert_eq!((&lines[20]["verdict"], &lines[20]["reason"]), (&json!("refuse"), &json!("no_route")));
    assert_eq!(lines[20]["side"], "downstream");
    assert!(!scene.log().contains("secret=query"));
}

#[tokio::test]
async fn a_fresh_token_is_used_for_new_requests() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let mut bundle = bundle(&[route("/a/", origin.addr(), &json!({}))], &ca);
    bundle["lifeline"] = json!(true);
    let mut scene = Scene::start(&bundle, &[]);
    assert_eq!(scene.get("/a/").await.status, 200);
    scene.say("{\"tokens\":{\"T\":\"short\"}}\nnonsense\n{\"tokens\":{\"T\":\"another-token\"}}\n");
    testbed::eventually(scene::SOON, || async { scene.log().contains("token_replaced") }).await;
    assert_eq!(scene.get("/a/").await.status, 200);
    let values: Vec<_> = origin.take().iter().map(|r| r.fields["authorization"].clone()).collect();
    assert_eq!(values, [format!("Bearer {TOKEN}"), "Bearer another-token".to_owned()]);
    scene.close_stdin();
    assert!(scene.exit().await.success());
    assert!(!scene.log().contains("another-token"));
}
