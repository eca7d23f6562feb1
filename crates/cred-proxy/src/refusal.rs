//! The answers that are the proxy's own: one word, one status, one fixed sentence each.
//!
//! Nothing that a request, an upstream or an error said is ever repeated in them.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

/// Why a request was not forwarded, or its answer not relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No route has this path.
    NoRoute,
    /// The route's rules do not take this method and path.
    NotAllowed,
    /// The target could be read in two ways.
    BadTarget,
    /// The message's framing is ambiguous or broken.
    BadRequest,
    /// The Host field is missing, doubled or no host.
    BadHost,
    /// A method that is not proxied.
    MethodNotAllowed,
    /// An expectation other than 100-continue.
    Expectation,
    /// The request is for another server.
    Misdirected,
    /// The content is over the limit.
    TooLarge,
    /// The head is over the limit.
    HeadTooLarge,
    /// The target is over the limit.
    TargetTooLong,
    /// The content stopped coming.
    BodyTimeout,
    /// Too many connections.
    Limit,
    /// The proxy is about to end.
    Draining,
    /// No connection to the upstream.
    UpstreamConnect,
    /// The upstream could not prove who it is.
    UpstreamTls,
    /// The upstream's answer cannot be relayed.
    UpstreamProtocol,
    /// The upstream's answer is encoded or partial, so that a token in it could not be redacted.
    NotRedactable,
    /// The upstream took too long.
    UpstreamTimeout,
    /// The upstream's name leads to an address that the route does not permit.
    PrivateAddress,
    /// A version other than HTTP/1.1.
    Version,
}

/// Whose doing something was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The side that connected to us.
    Downstream,
    /// The side we connect to.
    Upstream,
    /// Ourselves.
    Proxy,
}

impl Reason {
    /// All, each at its own number.
    pub const ALL: [Self; 21] = [
        Self::NoRoute,
        Self::NotAllowed,
        Self::BadTarget,
        Self::BadRequest,
        Self::BadHost,
        Self::MethodNotAllowed,
        Self::Expectation,
        Self::Misdirected,
        Self::TooLarge,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::BodyTimeout,
        Self::Limit,
        Self::Draining,
        Self::UpstreamConnect,
        Self::UpstreamTls,
        Self::UpstreamProtocol,
        Self::NotRedactable,
        Self::UpstreamTimeout,
        Self::PrivateAddress,
        Self::Version,
    ];

    /// The stable word of the answer and of the log.
    pub fn word(self) -> &'static str {
        self.row().0
    }

    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        self.row().1
    }

    /// Whose doing it was.
    pub fn side(self) -> Side {
        match self {
            Self::UpstreamConnect
            | Self::UpstreamTls
            | Self::UpstreamProtocol
            | Self::NotRedactable
            | Self::UpstreamTimeout => Side::Upstream,
            Self::Limit | Self::Draining | Self::PrivateAddress => Side::Proxy,
            _ => Side::Downstream,
        }
    }

    /// Whether the connection is closed: where a message ends is then not known, or not waited for.
    fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest
                | Self::BadHost
                | Self::MethodNotAllowed
                | Self::Expectation
                | Self::TooLarge
                | Self::HeadTooLarge
                | Self::TargetTooLong
                | Self::BodyTimeout
                | Self::Limit
                | Self::Draining
                | Self::Version
        )
    }

    /// Word, status, sentence, and the error type of RFC 9209 section 2.3.
    fn row(self) -> (&'static str, StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        const DENIED: &str = "http_request_denied";
        const REQUEST: &str = "http_request_error";
        match self {
            Self::NoRoute => ("no_route", S::NOT_FOUND, "no route has this path", DENIED),
            Self::NotAllowed => {
                ("not_allowed", S::FORBIDDEN, "the route does not allow this method and path", DENIED)
            }
            Self::BadTarget => ("bad_target", S::BAD_REQUEST, "the request target is ambiguous", REQUEST),
            Self::BadRequest => {
                ("bad_request", S::BAD_REQUEST, "the request's framing is ambiguous", REQUEST)
            }
            Self::BadHost => {
                ("bad_host", S::BAD_REQUEST, "the request needs one Host field that is a host", REQUEST)
            }
            Self::MethodNotAllowed => {
                ("method_not_allowed", S::METHOD_NOT_ALLOWED, "the method is not proxied", DENIED)
            }
            Self::Expectation => {
                ("expectation", S::EXPECTATION_FAILED, "the only expectation is 100-continue", REQUEST)
            }
            Self::Misdirected => {
                ("misdirected", S::MISDIRECTED_REQUEST, "the request is for another server", DENIED)
            }
            Self::TooLarge => ("too_large", S::PAYLOAD_TOO_LARGE, "the content is over the limit", REQUEST),
            Self::HeadTooLarge => (
                "head_too_large",
                S::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request's fields are over the limit",
                REQUEST,
            ),
            Self::TargetTooLong => {
                ("target_too_long", S::URI_TOO_LONG, "the request target is over the limit", REQUEST)
            }
            Self::BodyTimeout => ("body_timeout", S::REQUEST_TIMEOUT, "the content stopped coming", REQUEST),
            Self::Limit => {
                ("limit", S::SERVICE_UNAVAILABLE, "too many connections are open", "connection_limit_reached")
            }
            Self::Draining => {
                ("draining", S::SERVICE_UNAVAILABLE, "the proxy is about to end", "destination_unavailable")
            }
            Self::UpstreamConnect => (
                "upstream_connect",
                S::BAD_GATEWAY,
                "the upstream cannot be reached",
                "destination_unavailable",
            ),
            Self::UpstreamTls => (
                "upstream_tls",
                S::BAD_GATEWAY,
                "the upstream could not prove who it is",
                "tls_certificate_error",
            ),
            Self::UpstreamProtocol => (
                "upstream_protocol",
                S::BAD_GATEWAY,
                "the upstream's answer cannot be relayed",
                "http_protocol_error",
            ),
            Self::NotRedactable => (
                "upstream_protocol",
                S::BAD_GATEWAY,
                "the upstream's answer is encoded or partial, which only a route with \"redact\": false relays",
                "http_response_content_coding",
            ),
            Self::UpstreamTimeout => (
                "upstream_timeout",
                S::GATEWAY_TIMEOUT,
                "the upstream took too long",
                "http_response_timeout",
            ),
            Self::PrivateAddress => (
                "private_address",
                S::BAD_GATEWAY,
                "the upstream's name leads to an address that the route does not permit",
                "destination_ip_prohibited",
            ),
            Self::Version => ("version", S::HTTP_VERSION_NOT_SUPPORTED, "the proxy speaks HTTP/1.1", REQUEST),
        }
    }

    /// The answer.
    pub fn to_answer(self) -> Response<Bytes> {
        let (word, status, sentence, kind) = self.row();
        let sentence = serde_json::Value::from(sentence);
        let body = format!("{{\"error\":{{\"reason\":\"{word}\",\"message\":{sentence}}}}}");
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = status;
        if self == Self::Version {
            // In the caller's own: to keep the connection of an older one the library would add a
            // keep-alive.
            *answer.version_mut() = http::Version::HTTP_10;
        }
        let fields = answer.headers_mut();
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert("x-cred-proxy", HeaderValue::from_static(word));
        if let Ok(value) = HeaderValue::try_from(format!("cred-proxy; error={kind}; details=\"{word}\"")) {
            fields.insert("proxy-status", value);
        }
        if self == Self::MethodNotAllowed {
            fields.insert(header::ALLOW, HeaderValue::from_static(METHODS_TEXT));
        }
        if matches!(self, Self::Limit | Self::Draining) {
            fields.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.closes() {
            fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    /// The answer as bytes, for a connection that no HTTP is spoken on.
    pub fn to_bytes(self) -> Vec<u8> {
        let answer = self.to_answer();
        let mut bytes = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
        for (name, value) in answer.headers() {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", answer.body().len()).as_bytes());
        bytes.extend_from_slice(answer.body());
        bytes
    }
}

impl Side {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Proxy => "proxy",
        }
    }
}

/// Whether requests of this method are proxied.
pub fn method_is_proxied(method: &Method) -> bool {
    METHODS.contains(method)
}

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
const METHODS_TEXT: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
