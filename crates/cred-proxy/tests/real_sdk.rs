//! The `anthropic` SDK streams with a placeholder for its key, and the API sees the true one.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use scene::{
    SOON, Scene, TOKEN, bundle,
    program::{Running, python, ran},
    route,
};
use serde_json::{Value, json};
use testbed::{
    https::{Content, Origin, channel, text},
    pki::Ca,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

const PLACEHOLDER: &str = "sk-ant-placeholder-0000";

#[tokio::test]
async fn each_delta_is_yielded_before_the_next_is_sent() {
    let key = json!({"scheme": "header", "name": "x-api-key"});
    for (variable, auth, field, credential) in [
        ("ANTHROPIC_API_KEY", key, "x-api-key", TOKEN.to_owned()),
        ("ANTHROPIC_AUTH_TOKEN", json!({"scheme": "bearer"}), "authorization", format!("Bearer {TOKEN}")),
    ] {
        let mut api = Api::start(field, credential.clone()).await;
        let changes = json!({"auth": auth, "allow": [{"methods": ["POST"], "path": "/v1/messages"}]});
        let routes = [route("/anthropic/", api.origin.addr(), &changes)];
        let scene = Scene::start(&bundle(&routes, &api.ca), &[]);
        let mut sdk = python("anthropic_stream.py", &[]);
        sdk.env("ANTHROPIC_BASE_URL", format!("http://{}/anthropic", scene.addr)).env(variable, PLACEHOLDER);
        let mut sdk = Running::start(sdk);
        let (asked, events) = timeout(LONG, api.asked.recv()).await.unwrap().unwrap();
        let say = async |name: &str, mut data: Value| {
            data["type"] = json!(name);
            events.send(Ok(Bytes::from(format!("event: {name}\ndata: {data}\n\n")))).await.unwrap();
        };
        let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-test",
            "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": {"input_tokens": 3, "output_tokens": 1}});
        say("message_start", json!({"message": message})).await;
        say("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}})).await;
        for n in 0..50 {
            let delta = json!({"index": 0, "delta": {"type": "text_delta", "text": format!("piece {n}")}});
            say("content_block_delta", delta).await;
            assert_eq!(sdk.line().await, format!("piece {n}"));
            sleep(PACE).await;
        }
        say("content_block_stop", json!({"index": 0})).await;
        let end = json!({"delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 50}});
        say("message_delta", end).await;
        say("message_stop", json!({})).await;
        drop(events);
        let ended = sdk.ended().await.well();
        assert!(ended.text().ends_with("piece 49\nend_turn 50\n"), "{}", ended.text());

        let request = api.origin.take().remove(0);
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/v1/messages?beta=true"));
        assert_eq!(request.fields["anthropic-version"], "2023-06-01");
        assert_eq!(request.fields["anthropic-beta"], "one-2025-01-01,two-2025-02-02");
        assert_eq!(request.fields.get_all(field).iter().collect::<Vec<_>>(), [&*credential]);
        let other = if field == "x-api-key" { "authorization" } else { "x-api-key" };
        assert!(!request.fields.contains_key(other));
        assert!(!format!("{:?}", request.fields).contains(PLACEHOLDER));
        assert!(!asked.to_string().contains(PLACEHOLDER));
        assert_eq!((&asked["stream"], &asked["messages"][0]["content"]), (&json!(true), &json!("Count.")));
    }
}

#[tokio::test]
async fn without_the_proxy_the_placeholder_is_worth_nothing() {
    let api = Api::start("x-api-key", TOKEN.to_owned()).await;
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), api.ca.pem()).unwrap();
    let mut sdk = python("anthropic_stream.py", &[]);
    sdk.env("ANTHROPIC_BASE_URL", format!("https://{}", api.origin.addr()));
    sdk.env("ANTHROPIC_API_KEY", PLACEHOLDER).env("SSL_CERT_FILE", ca.path());
    let ran = ran(sdk).await;
    assert!(!ran.status.success() && ran.err.contains("AuthenticationError"), "{}", ran.err);
}

/// An API that wants this credential and streams what a test tells it.
struct Api {
    ca: Ca,
    origin: Origin,
    asked: mpsc::UnboundedReceiver<(Value, Events)>,
}

type Events = mpsc::Sender<std::io::Result<Bytes>>;

impl Api {
    async fn start(field: &'static str, credential: String) -> Self {
        let (ca, (tell, asked)) = (Ca::new(), mpsc::unbounded_channel());
        let origin = Origin::answering(&ca.server(&["127.0.0.1"]), move |request: http::Request<Content>| {
            let (tell, known) =
                (tell.clone(), request.headers().get(field).is_some_and(|it| *it == *credential));
            async move {
                if !known {
                    let error =
                        json!({"type": "error", "error": {"type": "authentication_error", "message": "no"}});
                    return text(StatusCode::UNAUTHORIZED, &error.to_string());
                }
                let asked = request.into_body().collect().await.unwrap().to_bytes();
                let (send, content) = channel();
                tell.send((serde_json::from_slice(&asked).unwrap(), send)).unwrap();
                Response::builder()
                    .header("content-type", "text/event-stream; charset=utf-8")
                    .body(content)
                    .unwrap()
            }
        })
        .await;
        Self { ca, origin, asked }
    }
}

/// Python with the SDK takes seconds to start on a busy machine.
const LONG: Duration = Duration::from_secs(6 * SOON.as_secs());

/// As fast as a model speaks.
const PACE: Duration = Duration::from_millis(10);
