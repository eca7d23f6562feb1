//! `/metrics` tells what became of requests, by route, and nothing that a caller chose.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use scene::{SOON, Scene, assert_no_token, bundle, get, post, route};
use serde_json::json;
use testbed::{eventually, https::Origin, pki::Ca, raw, tcp::Refuse};

async fn metrics(scene: &Scene) -> String {
    let answer = raw::ask(scene.admin, get("/metrics")).await.unwrap();
    assert_eq!(answer.status, 200);
    answer.text()
}

#[tokio::test]
async fn every_family_counts_what_happened() {
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let gone = Refuse::start().await;
    let routes = [
        route("/a/", origin.addr(), &json!({"allow": [{"methods": ["GET", "POST"], "path": "/x"}]})),
        route("/gone/", gone.addr(), &json!({})),
    ];
    let scene = Scene::start(&bundle(&routes, &ca), &["--max-connections", "2"]);
    let mut client = scene.client().await;
    for _ in 0..3 {
        assert_eq!(client.ask(get("/a/x?secret=query")).await.unwrap().status, 200);
    }
    assert_eq!(client.ask(post("/a/x", "hello")).await.unwrap().status, 200);
    assert_eq!(client.ask(get("/a/y")).await.unwrap().status, 403);
    assert_eq!(client.ask(get("/gone/x")).await.unwrap().status, 502);
    assert_eq!(client.ask(get("/nowhere-of-the-callers-own")).await.unwrap().status, 404);
    let _second = scene.client().await;
    eventually(SOON, || async { metrics(&scene).await.contains("cred_proxy_connections_open 2\n") }).await;
    assert_eq!(scene.get("/a/x").await.status, 503);
    for expected in [
        r#"cred_proxy_requests_total{route="/a/",status="2xx",reason=""} 4"#,
        r#"cred_proxy_requests_total{route="/a/",status="5xx",reason=""} 0"#,
        r#"cred_proxy_requests_total{route="/a/",status="4xx",reason="not_allowed"} 1"#,
        r#"cred_proxy_requests_total{route="/gone/",status="5xx",reason="upstream_connect"} 1"#,
        r#"cred_proxy_requests_total{route="",status="4xx",reason="no_route"} 1"#,
        r#"cred_proxy_requests_total{route="",status="5xx",reason="limit"} 1"#,
        r#"cred_proxy_request_seconds_count{route="/a/"} 5"#,
        r#"cred_proxy_request_seconds_bucket{route="/a/",le="+Inf"} 5"#,
        r#"cred_proxy_first_byte_seconds_count{route="/gone/"} 1"#,
        r#"cred_proxy_bytes_total{route="/a/",direction="up"} 5"#,
        r#"cred_proxy_upstream_connects_total{route="/a/"} 1"#,
        r#"cred_proxy_upstream_connects_total{route="/gone/"} 0"#,
        r#"cred_proxy_upstream_reuses_total{route="/a/"} 3"#,
        "cred_proxy_draining 0",
    ] {
        eventually(SOON, || async { metrics(&scene).await.lines().any(|line| line == expected) }).await;
    }
    let text = metrics(&scene).await;
    assert!(!text.contains("secret") && !text.contains("callers-own"), "{text}");
    assert_no_token(&text);
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert_eq!(
        types,
        [
            "cred_proxy_requests_total counter",
            "cred_proxy_request_seconds histogram",
            "cred_proxy_first_byte_seconds histogram",
            "cred_proxy_bytes_total counter",
            "cred_proxy_connections_open gauge",
            "cred_proxy_upstream_connects_total counter",
            "cred_proxy_upstream_reuses_total counter",
            "cred_proxy_draining gauge",
        ]
    );
    let mut samples = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (sample, _) = line.rsplit_once(' ').unwrap();
        assert!(samples.insert(sample), "{line} twice");
        let labels = sample.split_once('{').map_or("", |(_, labels)| labels);
        for label in labels.split(',').filter_map(|label| label.split_once('=')) {
            assert!(["route", "status", "reason", "direction", "le"].contains(&label.0), "{line}");
        }
    }
}
