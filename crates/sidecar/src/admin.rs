//! The admin endpoint: whether the daemon is alive, whether it takes connections, and its metrics.
//!
//! `GET /healthz` is 200 while the process lives, `/readyz` is 200 or, while draining, 503, `/metrics`
//! is what the daemon counts.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::listen::{Acceptor, Peers};
use crate::metrics::{CONTENT_TYPE, Exposition};

/// A bound admin endpoint.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
}

/// The most connections at once; one more waits.
const MAX_CONNECTIONS: usize = 32;
/// How long one connection may live: a question and its answer.
const LIFETIME: Duration = Duration::from_secs(10);

impl Admin {
    /// Binds it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: crate::listen::bind(address)? })
    }

    /// Where it was bound.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the task is dropped; `drain` is what `/readyz` tells, `metrics` writes the
    /// daemon's families whenever they are asked for.
    pub async fn serve(
        self,
        drain: CancellationToken,
        metrics: impl Fn(&mut Exposition) + Send + Sync + 'static,
    ) {
        let metrics = Arc::new(metrics);
        let open = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut acceptor = Acceptor::new(self.listener, Peers::Anyone, "admin");
        loop {
            let Ok(place) = open.clone().acquire_owned().await else { return };
            let (stream, _) = acceptor.accept().await;
            let (drain, metrics) = (drain.clone(), metrics.clone());
            tokio::spawn(async move {
                let _place = place;
                let service = service_fn(move |request| {
                    let answer = answer(&request, drain.is_cancelled(), &*metrics);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(LIFETIME)
                    .max_buf_size(16 * 1024)
                    .serve_connection(TokioIo::new(stream), service);
                let _ = tokio::time::timeout(LIFETIME, connection).await;
            });
        }
    }
}

fn answer(
    request: &Request<Incoming>,
    draining: bool,
    metrics: &impl Fn(&mut Exposition),
) -> Response<Full<Bytes>> {
    let mut content_type = "text/plain";
    let fixed = |body| Full::from(Bytes::from_static(body));
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, fixed(b"ok\n")),
        (&Method::GET | &Method::HEAD, "/readyz") if draining => {
            (StatusCode::SERVICE_UNAVAILABLE, fixed(b"draining\n"))
        }
        (&Method::GET | &Method::HEAD, "/readyz") => (StatusCode::OK, fixed(b"ready\n")),
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let mut text = Exposition::default();
            metrics(&mut text);
            content_type = CONTENT_TYPE;
            (StatusCode::OK, Full::from(text.into_string()))
        }
        (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, fixed(b"not found\n")),
        _ => (StatusCode::METHOD_NOT_ALLOWED, fixed(b"method not allowed\n")),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::healthcheck;

    #[tokio::test]
    async fn a_healthcheck_sees_a_ready_daemon_and_a_draining_one() {
        let admin = Admin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, drain) = (admin.local_addr().unwrap(), CancellationToken::new());
        let serving = tokio::spawn(admin.serve(drain.clone(), |_| {}));
        let ask = move || tokio::task::spawn_blocking(move || healthcheck::ready(address));
        assert!(ask().await.unwrap().unwrap());
        drain.cancel();
        assert!(!ask().await.unwrap().unwrap());
        serving.abort();
        let _ = serving.await;
        assert!(ask().await.unwrap().is_err());
    }
}
