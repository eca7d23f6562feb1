//! One line per request, at its end.

use std::{
    cell::Cell,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::{Method, request::Parts};

use crate::{
    metrics::{Ended, RouteMetrics},
    refusal::{Reason, Side},
    route::Route,
    upload::Progress,
};

/// What is known of a request so far. Written when dropped, which is when the request ended.
#[derive(Debug)]
pub struct RequestLog {
    method: Method,
    path: String,
    started: Instant,
    route: Option<Arc<Route>>,
    /// Where it is counted.
    metrics: Arc<RouteMetrics>,
    /// What has come of its content.
    pub up: Option<Arc<Progress>>,
    /// The bytes of content that went downstream.
    pub down_bytes: u64,
    /// How many of them were of an echoed token.
    pub redacted_bytes: u64,
    status: Option<u16>,
    first_byte: Option<Duration>,
    reason: Option<Reason>,
    fault: Option<Side>,
    ended: bool,
}

impl RequestLog {
    /// Begins with the request's head. Until it has a route, it is `unrouted`'s.
    pub fn begin(head: &Parts, unrouted: &Arc<RouteMetrics>) -> Self {
        Self {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            started: Instant::now(),
            route: None,
            metrics: unrouted.clone(),
            up: None,
            down_bytes: 0,
            redacted_bytes: 0,
            status: None,
            first_byte: None,
            reason: None,
            fault: None,
            ended: false,
        }
    }

    /// Its route is known.
    pub fn routed(&mut self, route: &Arc<Route>) {
        self.metrics = route.metrics.clone();
        self.route = Some(route.clone());
    }

    /// The answer's head is known.
    pub fn answered(&mut self, status: u16) {
        self.status = Some(status);
        self.first_byte = Some(self.started.elapsed());
    }

    /// The request is refused.
    pub fn refused(&mut self, reason: Reason) {
        self.reason = Some(reason);
        self.answered(reason.status().as_u16());
    }

    /// Whose doing the request's end was, where that is known: who cut the answer, or that it was ours.
    pub fn side_is(&mut self, side: Side) {
        self.fault = Some(side);
    }

    /// The answer went out whole.
    pub fn ended(&mut self) {
        self.ended = true;
    }

    fn side(&self) -> Side {
        match (self.fault, self.reason) {
            (Some(side), _) => side,
            (None, Some(reason)) => reason.side(),
            (None, None) if self.ended => Side::Upstream,
            (None, None) if CUT.get() => Side::Proxy,
            // Dropped before its end: the other side of our own connection went away.
            (None, None) => Side::Downstream,
        }
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let took = self.started.elapsed();
        let up_bytes = self.up.as_ref().map_or(0, |up| up.bytes.load(Relaxed));
        self.metrics.count(Ended {
            status: self.status,
            reason: self.reason,
            took,
            first_byte: self.first_byte,
            bytes: [up_bytes, self.down_bytes],
        });
        let method = self.method.as_str();
        tracing::info!(
            event = "request",
            route = self.route.as_ref().map(|route| route.path.as_str()),
            method = method.get(..MAX_METHOD).unwrap_or(method),
            path = self.path.as_str(),
            status = self.status,
            up_bytes,
            down_bytes = self.down_bytes,
            redacted_bytes = (self.redacted_bytes > 0).then_some(self.redacted_bytes),
            ttfb_ms = self.first_byte.map(millis),
            duration_ms = millis(took),
            verdict = if self.reason.is_some() { "refuse" } else { "forward" },
            reason = self.reason.map(Reason::word),
            side = self.side().word(),
            end = if self.ended { "whole" } else { "cut" },
        );
    }
}

thread_local! {
    static CUT: Cell<bool> = const { Cell::new(false) };
}

/// Drops requests that are still being answered: their end is the proxy's doing.
pub fn cut(answering: impl Sized) {
    CUT.set(true);
    drop(answering);
    CUT.set(false);
}

/// Longer methods are an attack on the log's reader.
const MAX_METHOD: usize = 16;
