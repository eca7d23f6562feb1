//! One request to the engine, over a connection of its own.
//!
//! bollard sends through this transport too, so that connecting, and what a failure to connect
//! means, is decided in one place.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use bollard::errors::Error;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::address::{Address, unreachable_at};
use crate::engine::EngineError;

/// Connects, sends one request and returns the head of the answer.
pub(super) async fn send<B>(address: &Address, mut request: Request<B>) -> Result<Response<Incoming>, Error>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let host = match address {
        Address::Unix(_) => HeaderValue::from_static("localhost"),
        Address::Tcp(authority) => {
            HeaderValue::from_str(authority).map_err(|error| Error::HttpClientError { err: error.into() })?
        }
    };
    request.headers_mut().insert(HOST, host);
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    *request.uri_mut() = target.parse::<Uri>()?;

    match address {
        Address::Unix(path) => {
            exchange(UnixStream::connect(path).await.map_err(not_connected)?, request).await
        }
        Address::Tcp(authority) => {
            let stream = TcpStream::connect(authority.as_str()).await.map_err(not_connected)?;
            stream.set_nodelay(true).map_err(not_connected)?;
            exchange(stream, request).await
        }
    }
}

async fn exchange<S, B>(stream: S, request: Request<B>) -> Result<Response<Incoming>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // What breaks the connection also breaks the answer, and is told there.
    tokio::spawn(connection.with_upgrades());
    Ok(sender.send_request(request).await?)
}

/// A request whose answer is read whole: `payload` is sent as JSON unless it is an archive.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// What is asked, for the error.
    pub(super) act: &'a str,
    pub(super) method: Method,
    /// Path and query, percent-encoded.
    pub(super) target: String,
    pub(super) payload: Payload,
    /// How long it may take; `None` for ever.
    pub(super) deadline: Option<Duration>,
}

/// What goes with a request.
#[derive(Debug)]
pub(super) enum Payload {
    Nothing,
    Json(serde_json::Value),
    Tar(Bytes),
}

/// Asks, and returns the body of a good answer. The engine's own refusal becomes an error.
pub(super) async fn ask(address: &Address, ask: Ask<'_>) -> Result<Bytes, EngineError> {
    let (content_type, body) = match ask.payload {
        Payload::Nothing => (None, Bytes::new()),
        Payload::Json(value) => (Some("application/json"), Bytes::from(value.to_string())),
        Payload::Tar(archive) => (Some("application/x-tar"), archive),
    };
    let mut request = Request::builder().method(ask.method).uri(ask.target);
    if let Some(content_type) = content_type {
        request = request.header(CONTENT_TYPE, content_type);
    }
    let answer = async {
        let response = send(address, request.body(Full::new(body))?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if status.is_success() || status == hyper::StatusCode::NOT_MODIFIED {
            return Ok(body);
        }
        Err(Error::DockerResponseServerError { status_code: status.as_u16(), message: sentence(&body) })
    };
    within(address, ask.act, ask.deadline, answer).await
}

/// Awaits an answer of the engine for so long, and says what its failure means.
pub(super) async fn within<T>(
    address: &Address,
    act: &str,
    deadline: Option<Duration>,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, EngineError> {
    let answer = match deadline {
        None => answer.await,
        Some(deadline) => tokio::time::timeout(deadline, answer)
            .await
            .map_err(|_| EngineError::Timeout { act: act.to_owned(), seconds: deadline.as_secs() })?,
    };
    answer.map_err(|error| meaning(address, act, error))
}

/// What an error of the client library means to us.
pub(super) fn meaning(address: &Address, act: &str, error: Error) -> EngineError {
    let act = act.to_owned();
    match error {
        Error::IOError { err }
            if err.get_ref().is_some_and(<dyn StdError + Send + Sync>::is::<NotConnected>) =>
        {
            let kind = err.kind();
            let source = err.into_inner().and_then(|inner| inner.downcast::<NotConnected>().ok());
            unreachable_at(address, source.map_or_else(|| kind.into(), |not_connected| not_connected.0))
        }
        Error::DockerResponseServerError { status_code: 404, message } => {
            EngineError::NotFound { act, message }
        }
        Error::DockerResponseServerError { status_code, message } => {
            EngineError::Refused { act, status: status_code, message }
        }
        Error::RequestTimeoutError => EngineError::Timeout { act, seconds: super::DEADLINE.as_secs() },
        other => EngineError::Broken { act, source: Box::new(other) },
    }
}

/// The engine's sentence in the body of a refusal.
fn sentence(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        message: String,
    }
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// Marks an I/O error as one of connecting, wherever bollard hands it through.
#[derive(Debug)]
struct NotConnected(io::Error);

fn not_connected(error: io::Error) -> Error {
    Error::IOError { err: io::Error::new(error.kind(), NotConnected(error)) }
}

impl fmt::Display for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not connect to the container engine")
    }
}

impl StdError for NotConnected {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// An engine that answers with these bytes, or with none at all, and keeps the connection.
    async fn engine(answer: &'static str) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap().to_string());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"GET /version HTTP/1.1\r\n"), "no version, no authority");
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        });
        address
    }

    async fn asked(answer: &'static str, deadline: Duration) -> Result<Bytes, EngineError> {
        let address = engine(answer).await;
        let (act, target) = ("tell its version", "/version".to_owned());
        let deadline = Some(deadline);
        ask(&address, Ask { act, method: Method::GET, target, payload: Payload::Nothing, deadline }).await
    }

    #[tokio::test]
    async fn an_engine_that_never_answers_is_given_up() {
        let error = asked("", Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}";
        let error = asked(half, Duration::from_millis(50)).await.unwrap_err();
        assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_refusal_carries_the_sentence_of_the_engine() {
        let deadline = Duration::from_secs(10);
        let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 15\r\n\r\n{\"message\":\"a\"}";
        let error = asked(refusal, deadline).await.unwrap_err();
        assert!(
            matches!(&error, EngineError::Refused { status: 403, message, .. } if message == "a"),
            "{error:?}"
        );
        let bare = "HTTP/1.1 404 Not Found\r\ncontent-length: 8\r\n\r\nnowhere\n";
        let error = asked(bare, deadline).await.unwrap_err();
        assert!(matches!(&error, EngineError::NotFound { message, .. } if message == "nowhere"), "{error:?}");
        let error = asked("no HTTP at all", deadline).await.unwrap_err();
        assert!(matches!(error, EngineError::Broken { .. }), "{error:?}");
    }
}
