//! A request's way: judged, stripped, given its credential, sent, and its answer built anew.

use std::{
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Version, header, request::Parts, uri::PathAndQuery,
};
use hyper::{body::Incoming, ext::ReasonPhrase};
use sidecar::exit::chain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    download::{Content, Download},
    fields, framing,
    link::{Link, LinkError},
    metrics::RouteMetrics,
    phase::{Busy, Phase},
    redact::Redactor,
    refusal::{Reason, Side},
    request_log::RequestLog,
    route::Route,
    silence::Silence,
    tunnel::Tunnel,
    upgrade,
    upload::{Progress, Upload, UploadLimits},
    upstream::{Connector, UpstreamStream},
    verdict::{Policy, Verdict},
    watch,
};

/// Everything that requests are answered with.
#[derive(Debug)]
pub struct Proxy {
    /// What is forwarded.
    pub policy: Policy,
    /// How upstreams are reached.
    pub connector: Connector,
    /// How long things may take.
    pub limits: Limits,
    /// What is counted of requests that have no route.
    pub unrouted: Arc<RouteMetrics>,
    /// Cancelled when the proxy is about to end.
    pub drain: CancellationToken,
    /// Cancelled at the drain's deadline: what is still open then is cut.
    pub cut: CancellationToken,
}

/// How long an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the last byte of a request to its answer's head.
    pub response: Duration,
    /// Between bytes of a request's content.
    pub request_body: Duration,
    /// Between bytes of an answer's content.
    pub response_body: Option<Duration>,
}

/// The connection that a request came on.
#[derive(Debug)]
pub struct Arrival {
    /// Its local address.
    pub local: IpAddr,
    /// Where it is.
    pub phase: Phase,
    /// Cancelled when the proxy is about to end.
    pub drain: CancellationToken,
    /// Cancelled at the drain's deadline.
    pub cut: CancellationToken,
    /// What the connection becomes when the 101 is out. Boxed: hardly any does.
    pub tunnel: Mutex<Option<Box<Tunnel>>>,
}

impl Arrival {
    /// The tunnel that the connection is now to be, if it is.
    pub fn tunnel(&self) -> MutexGuard<'_, Option<Box<Tunnel>>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, arrival: &Arrival) -> Response<Content> {
        let busy = arrival.phase.busy();
        let (head, incoming) = request.into_parts();
        let mut log = RequestLog::begin(&head, &self.unrouted);
        if arrival.phase.has_cut() && watch::is_cut(&head.headers) {
            return refuse(Reason::HeadTooLarge, log, busy);
        }
        if arrival.drain.is_cancelled() {
            return refuse(Reason::Draining, log, busy);
        }
        let (route, target) = match self.policy.judge(&head, arrival.local) {
            Verdict::Forward(route, target) => (route, target),
            Verdict::Refuse(reason) => return refuse(reason, log, busy),
            Verdict::NotAllowed(route) => {
                log.routed(&route);
                return refuse(Reason::NotAllowed, log, busy);
            }
            Verdict::Redirect(to) => return redirect(&to, log, busy),
            Verdict::ListRoutes => return self.list_routes(log, busy),
            Verdict::NoContent => return own(StatusCode::NO_CONTENT, Bytes::new(), log, busy),
        };
        log.routed(&route);
        let limits = UploadLimits { max_body: self.policy.max_body, timeout: self.limits.request_body };
        let (upload, progress) = Upload::new(incoming, limits);
        log.up = Some(progress.clone());
        let asked =
            Asked { method: head.method.clone(), upgrade: progress.is_done() && upgrade::is_asked(&head) };
        let request = self.to_upstream(head, upload, &route, target, asked.upgrade);
        match self.exchange(request, &asked, &route, &progress).await {
            Ok(Answered::Relay(answer)) => relay(answer, log, busy),
            Ok(Answered::Switched { fields, upstream, early }) => {
                log.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16());
                let redactor = route.redaction.as_ref().map(Redactor::of);
                let tunnel = Tunnel { upstream: *upstream, early, redactor, up: progress, log, busy };
                *arrival.tunnel() = Some(Box::new(tunnel));
                let mut answer = Response::new(Content::none());
                *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                *answer.headers_mut() = fields;
                answer
            }
            Err(reason) => refuse(progress.fault().unwrap_or(reason), log, busy),
        }
    }

    /// The request for the upstream: of what came, only method, target, content and harmless fields.
    fn to_upstream(
        &self,
        head: Parts,
        upload: Upload,
        route: &Route,
        target: PathAndQuery,
        upgrade: bool,
    ) -> Request<Upload> {
        let empty = hyper::body::Body::is_end_stream(&upload);
        let mut fields = fields::to_upstream(&head.headers, route, &self.policy.routes.injected);
        if empty && matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
            // Some servers insist on a length where content is expected (RFC 9110 section 8.6).
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if !empty && hyper::body::Body::size_hint(&upload).exact().is_none() {
            // Said expressly: the library would send a GET without its content.
            fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if upgrade {
            upgrade::put(&mut fields);
        }
        route.credential.inject(&mut fields);
        let mut request = Request::new(upload);
        *request.method_mut() = head.method;
        *request.uri_mut() = http::Uri::from(target);
        *request.headers_mut() = fields;
        request
    }

    async fn exchange(
        &self,
        mut request: Request<Upload>,
        asked: &Asked,
        route: &Arc<Route>,
        progress: &Arc<Progress>,
    ) -> Result<Answered, Reason> {
        loop {
            let (mut link, fresh) = match route.pool.take().await {
                Some(link) => {
                    route.metrics.reuses.fetch_add(1, Relaxed);
                    (link, false)
                }
                None => {
                    let link = self.connect(route).await?;
                    route.metrics.connects.fetch_add(1, Relaxed);
                    (link, true)
                }
            };
            match self.ask(&mut link, request, progress).await {
                Ok(answer) => return self.check(answer, link, asked, route, progress).await,
                // Not a byte of it went out on a connection that had waited: this is no retry.
                Err(Silence::Link(LinkError::NotSent(unsent))) if !fresh => request = *unsent,
                Err(silence) => {
                    if progress.fault().is_none() {
                        tracing::warn!(event = "upstream_error", route = %route.path, error = silence.tell());
                    }
                    return Err(silence.reason());
                }
            }
        }
    }

    async fn connect(&self, route: &Route) -> Result<Link, Reason> {
        self.connector.connect(route).await.map_err(|error| {
            tracing::warn!(event = "upstream_error", route = %route.path, error = chain(&error));
            error.reason()
        })
    }

    /// Waits for the answer's head; while content is still coming up, the wait begins anew.
    async fn ask(
        &self,
        link: &mut Link,
        request: Request<Upload>,
        progress: &Progress,
    ) -> Result<Response<Incoming>, Silence> {
        let mut asked = pin!(link.ask(request));
        let mut patience = pin!(sleep(self.limits.response));
        loop {
            tokio::select! {
                biased;
                answer = &mut asked => return answer.map_err(Silence::Link),
                () = &mut patience => {}
            }
            let left = self.limits.response.saturating_sub(progress.quiet_for());
            if left.is_zero() {
                return Err(Silence::Timeout);
            }
            patience.as_mut().reset(tokio::time::Instant::now() + left);
        }
    }

    async fn check(
        &self,
        answer: Response<Incoming>,
        link: Link,
        asked: &Asked,
        route: &Arc<Route>,
        progress: &Arc<Progress>,
    ) -> Result<Answered, Reason> {
        let (head, incoming) = answer.into_parts();
        let refused = match head.status {
            // We asked for no proxy.
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(Reason::UpstreamProtocol),
            StatusCode::SWITCHING_PROTOCOLS => {
                upgrade::check_granted(asked.upgrade, &head.headers, route).err()
            }
            StatusCode::PARTIAL_CONTENT if route.redaction.is_some() => Some(Reason::NotRedactable),
            _ if route.redaction.is_some() && is_encoded(&head.headers) => Some(Reason::NotRedactable),
            _ => framing::check_answer(&head.headers).err(),
        };
        if let Some(reason) = refused {
            tracing::warn!(
                event = "upstream_error",
                route = %route.path,
                status = head.status.as_u16(),
                error = "the answer cannot be relayed",
            );
            return Err(reason);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let mut fields = fields::to_downstream(&head.headers, route, false);
            upgrade::put(&mut fields);
            let (upstream, early) = link.into_stream().await.ok_or(Reason::UpstreamProtocol)?;
            return Ok(Answered::Switched { fields, upstream: Box::new(upstream), early });
        }
        let without_content = framing::is_without_content(&asked.method, head.status);
        let mut fields = fields::to_downstream(&head.headers, route, without_content);
        if head.status == StatusCode::NO_CONTENT {
            fields.remove(header::CONTENT_LENGTH);
        }
        if !head.status.is_success() && !progress.is_done() {
            // It answers before it has heard all: it will not want the rest.
            progress.stop();
            fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // Bytes may still come behind an answer that should have none: its connection is not used again.
        let reusable = !without_content && head.version == Version::HTTP_11;
        let timeout = self.limits.response_body;
        let download =
            Download::begin(incoming, link, route.clone(), progress.clone(), reusable, timeout).await;
        Ok(Answered::Relay(Relay { status: head.status, fields, download }))
    }

    fn list_routes(&self, log: RequestLog, busy: Busy) -> Response<Content> {
        let paths: Vec<_> = self.policy.routes.iter().map(|route| route.path.as_str()).collect();
        let body = serde_json::json!({ "routes": paths }).to_string();
        let mut answer = own(StatusCode::OK, body.into(), log, busy);
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }
}

/// What was asked of the upstream, as far as its answer depends on it.
struct Asked {
    method: Method,
    upgrade: bool,
}

/// An answer that may reach the caller.
enum Answered {
    Relay(Relay),
    /// A 101: the stream and what came behind it.
    Switched {
        fields: http::HeaderMap,
        upstream: Box<UpstreamStream>,
        early: Bytes,
    },
}

/// An answer that may be relayed.
struct Relay {
    status: StatusCode,
    fields: http::HeaderMap,
    download: Download,
}

fn relay(relay: Relay, mut log: RequestLog, busy: Busy) -> Response<Content> {
    log.answered(relay.status.as_u16());
    let mut answer = Response::new(Content::upstream(relay.download, log, busy));
    *answer.status_mut() = relay.status;
    *answer.headers_mut() = relay.fields;
    if relay.status.canonical_reason().is_none() {
        answer.extensions_mut().insert(ReasonPhrase::from_static(b""));
    }
    answer
}

fn refuse(reason: Reason, mut log: RequestLog, busy: Busy) -> Response<Content> {
    log.refused(reason);
    reason.to_answer().map(|bytes| Content::own(bytes, log, busy))
}

fn redirect(to: &str, log: RequestLog, busy: Busy) -> Response<Content> {
    let Ok(location) = HeaderValue::from_str(to) else { return refuse(Reason::BadTarget, log, busy) };
    let mut answer = own(StatusCode::PERMANENT_REDIRECT, Bytes::new(), log, busy);
    answer.headers_mut().insert(header::LOCATION, location);
    answer
}

fn own(status: StatusCode, body: Bytes, mut log: RequestLog, busy: Busy) -> Response<Content> {
    log.answered(status.as_u16());
    log.side_is(Side::Proxy);
    let mut answer = Response::new(Content::own(body, log, busy));
    *answer.status_mut() = status;
    answer
}

fn is_encoded(fields: &http::HeaderMap) -> bool {
    let plain = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    fields.get_all(header::CONTENT_ENCODING).iter().any(|value| !plain(value) && !value.is_empty())
}
