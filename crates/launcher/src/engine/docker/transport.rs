//! One request to the engine, over a connection of its own.
//!
//! Every wait has a deadline and every read a bound: the deadline of a request includes connecting,
//! sending, and reading the whole response. A request that is given up takes its
//! connection with it.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use super::address::{Address, unreachable_at};
use super::refusal::Refusal;
use crate::engine::{EngineError, ObjectKind};

/// A request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// What is requested, for the error.
    pub(super) act: &'a str,
    /// The kind of object that the target names, for the error.
    pub(super) about: Option<ObjectKind>,
    pub(super) method: Method,
    /// Path and query, percent-encoded.
    pub(super) target: String,
    pub(super) payload: Payload,
    /// How long it may take, the whole response included.
    pub(super) deadline: Duration,
}

/// The body of a request.
#[derive(Debug)]
pub(super) enum Payload {
    Nothing,
    Json(Bytes),
    Tar(Bytes),
}

impl Payload {
    /// A body of JSON.
    pub(super) fn json(value: &impl Serialize) -> Payload {
        let text = serde_json::to_vec(value).expect("models with strings as keys are JSON");
        Payload::Json(text.into())
    }
}

/// A good response, to be read. Its connection ends with it.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

/// Why a good response is missing.
#[derive(Debug)]
pub(super) enum Fault {
    /// The engine could not be connected to.
    Connect(io::Error),
    /// The engine refused.
    Refused(Refusal),
    /// The response is not HTTP, not what the API promises, or too long; or the connection broke.
    Unreadable(Box<dyn StdError + Send + Sync>),
}

/// Sends a request, and returns the whole body of a good response.
pub(super) async fn whole(address: &Address, request: Request<'_>) -> Result<Bytes, EngineError> {
    respond(address, request, async |answer| body(answer.response, WHOLE_LIMIT).await).await
}

/// Sends a request, and reads its good response within its deadline.
pub(super) async fn respond<T>(
    address: &Address,
    request: Request<'_>,
    read: impl AsyncFnOnce(Answer) -> Result<T, Fault>,
) -> Result<T, EngineError> {
    let Request { act, about, method, target, payload, deadline } = request;
    let exchange = async {
        let answer = send(address, head(method, target), payload).await?;
        let status = answer.response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return read(answer).await;
        }
        Err(refused(answer).await?)
    };
    let exchanged = within(act, deadline, async { Ok(exchange.await) }).await?;
    exchanged.map_err(|fault| meaning(address, act, about, fault))
}

/// Sends a request that turns its connection into a stream of bytes in both directions. The
/// deadline ends with the head of the response.
pub(super) async fn upgrade(address: &Address, request: Request<'_>) -> Result<Upgraded, EngineError> {
    let Request { act, about, method, target, payload, deadline } = request;
    let exchange = async {
        let head = head(method, target).header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
        let answer = send(address, head, payload).await?;
        match answer.response.status() {
            StatusCode::SWITCHING_PROTOCOLS => Ok(hyper::upgrade::on(answer.response).await?),
            status if status.is_success() => {
                Err(Fault::Unreadable(format!("expected status 101, found {status}").into()))
            }
            _ => Err(refused(answer).await?),
        }
    };
    let exchanged = within(act, deadline, async { Ok(exchange.await) }).await?;
    exchanged.map_err(|fault| meaning(address, act, about, fault))
}

/// Waits for a response until the deadline.
pub(super) async fn within<T>(
    act: &str,
    deadline: Duration,
    response: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(deadline, response).await {
        Ok(response) => response,
        Err(_) => {
            Err(EngineError::Timeout { act: act.to_owned(), seconds: deadline.as_secs_f64().ceil() as u64 })
        }
    }
}

/// The body of a response, at most `limit` bytes of it.
async fn body(response: Response<Incoming>, limit: usize) -> Result<Bytes, Fault> {
    Ok(Limited::new(response.into_body(), limit).collect().await.map_err(Fault::Unreadable)?.to_bytes())
}

async fn refused(answer: Answer) -> Result<Fault, Fault> {
    let status = answer.response.status().as_u16();
    Ok(Fault::Refused(Refusal::read(status, &body(answer.response, REFUSAL_LIMIT).await?)))
}

fn head(method: Method, target: String) -> hyper::http::request::Builder {
    hyper::Request::builder().method(method).uri(target)
}

/// Connects, sends one request and returns the head of the response.
async fn send(
    address: &Address,
    head: hyper::http::request::Builder,
    payload: Payload,
) -> Result<Answer, Fault> {
    let (content_type, body) = match payload {
        Payload::Nothing => (None, Bytes::new()),
        Payload::Json(text) => (Some("application/json"), text),
        Payload::Tar(archive) => (Some("application/x-tar"), archive),
    };
    let host = match address {
        Address::Unix(_) => HeaderValue::from_static("localhost"),
        Address::Tcp(authority) => {
            HeaderValue::from_str(authority.as_str()).expect("an authority is visible ASCII")
        }
    };
    let mut request = head.header(HOST, host).body(Full::new(body)).expect("targets are percent-encoded");
    if let Some(content_type) = content_type {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    match address {
        Address::Unix(path) => exchange(unix_stream(path).await.map_err(Fault::Connect)?, request).await,
        Address::Tcp(authority) => {
            let stream = TcpStream::connect(authority.as_str()).await.map_err(Fault::Connect)?;
            stream.set_nodelay(true).map_err(Fault::Connect)?;
            exchange(stream, request).await
        }
    }
}

/// Connects to a Unix socket. Unlike TCP, the kernel refuses at once while the queue is full.
async fn unix_stream(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(RETRY).await,
            connected => return connected,
        }
    }
}

async fn exchange<S>(stream: S, request: hyper::Request<Full<Bytes>>) -> Result<Answer, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(async move {
        // What breaks the connection also breaks the response, and is reported there.
        drop(connection.with_upgrades().await);
    });
    let connection = AbortOnDropHandle::new(connection);
    Ok(Answer { response: sender.send_request(request).await?, _connection: connection })
}

fn meaning(address: &Address, act: &str, about: Option<ObjectKind>, fault: Fault) -> EngineError {
    match fault {
        Fault::Connect(source) => unreachable_at(address, source),
        Fault::Refused(refusal) => refusal.meaning(act, about),
        Fault::Unreadable(source) => EngineError::Broken { act: act.to_owned(), source },
    }
}

impl From<hyper::Error> for Fault {
    fn from(error: hyper::Error) -> Fault {
        Fault::Unreadable(Box::new(error))
    }
}

/// The list of all containers of a large machine takes about 1 MiB.
const WHOLE_LIMIT: usize = 64 << 20;
/// How long a full queue of connections is left alone.
const RETRY: Duration = Duration::from_millis(20);
/// A refusal is a sentence.
const REFUSAL_LIMIT: usize = 64 << 10;

#[cfg(test)]
mod tests;
