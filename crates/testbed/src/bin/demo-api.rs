//! The demo's HTTPS API: it knows one token, and tells whether a request carried it.
//!
//! One line of JSON on stdin says where to listen, with which certificate, and the token:
//! `{"listen":"0.0.0.0:443","cert_pem":"...","key_pem":"...","token":"..."}`. When it listens,
//! it prints one line on stdout. SIGTERM and SIGINT end it, also as PID 1.
//!
//! `GET /whoami` answers whose token the request carried, `POST /echo` the length of the
//! content, `GET /stream` five server-sent events.

#![forbid(unsafe_code)]

use std::{
    convert::Infallible,
    error::Error,
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use testbed::{
    https::{AnswerBody, acceptor, channel, full},
    pki::ServerCert,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

#[derive(serde::Deserialize)]
struct Setup {
    listen: SocketAddr,
    cert_pem: String,
    key_pem: String,
    token: String,
}

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let ended = runtime.block_on(run());
    // A read of stdin may still be waiting on its thread.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        served = serve() => served,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    timeout(SETUP_WITHIN, BufReader::new(tokio::io::stdin()).read_line(&mut line))
        .await
        .map_err(|_| "expected one line of JSON on stdin within 10 s")??;
    let setup: Setup = serde_json::from_str(&line)?;
    let acceptor = acceptor(&ServerCert { cert_pem: setup.cert_pem, key_pem: setup.key_pem });
    let listener = TcpListener::bind(setup.listen).await?;
    let ready = json!({"event": "ready", "listen": listener.local_addr()?.to_string()});
    writeln!(io::stdout(), "{ready}")?;
    let expected: Arc<str> = format!("Bearer {}", setup.token).into();
    loop {
        match listener.accept().await {
            Ok((peer, _)) => {
                tokio::spawn(connection(peer, acceptor.clone(), expected.clone()));
            }
            // Out of descriptors, for instance: a moment later there may be one.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(peer: TcpStream, acceptor: TlsAcceptor, expected: Arc<str>) {
    let _ = peer.set_nodelay(true);
    let Ok(tls) = acceptor.accept(peer).await else { return };
    let service = service_fn(move |request| {
        let expected = expected.clone();
        async move { Ok::<_, Infallible>(answer(request, &expected).await) }
    });
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(tls), service).await;
}

async fn answer(request: Request<Incoming>, expected: &str) -> Response<AnswerBody> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/whoami") => {
            let given = request.headers().get(header::AUTHORIZATION);
            if given.is_some_and(|given| given.as_bytes() == expected.as_bytes()) {
                json_answer(StatusCode::OK, &json!({"authorized": true, "user": "demo"}))
            } else {
                json_answer(StatusCode::UNAUTHORIZED, &json!({"authorized": false}))
            }
        }
        (&Method::POST, "/echo") => match length(request.into_body()).await {
            Ok(bytes) => json_answer(StatusCode::OK, &json!({"bytes": bytes})),
            Err(_) => json_answer(StatusCode::BAD_REQUEST, &json!({"error": "content cut off"})),
        },
        (&Method::GET, "/stream") => stream(),
        _ => json_answer(StatusCode::NOT_FOUND, &json!({"error": "not found"})),
    }
}

async fn length(mut content: Incoming) -> Result<u64, hyper::Error> {
    let mut bytes = 0;
    while let Some(frame) = content.frame().await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(bytes)
}

fn stream() -> Response<AnswerBody> {
    let (events, content) = channel();
    tokio::spawn(async move {
        for n in 1..=5 {
            let event = format!("event: tick\ndata: {{\"n\":{n}}}\n\n");
            if events.send(Ok(Bytes::from(event))).await.is_err() {
                return;
            }
            sleep(BETWEEN_EVENTS).await;
        }
    });
    let mut answer = Response::new(content);
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
    answer
}

fn json_answer(status: StatusCode, content: &Value) -> Response<AnswerBody> {
    let mut answer = Response::new(full(content.to_string()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

fn failed(error: &dyn Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "demo-api: {error}");
    ExitCode::FAILURE
}

/// The caller has the line ready.
const SETUP_WITHIN: Duration = Duration::from_secs(10);

/// Long enough to see the events arrive one by one.
const BETWEEN_EVENTS: Duration = Duration::from_millis(100);
