//! The numbers of `/metrics`: plain counters beside each route, added up where a request ends.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sidecar::metrics::{Exposition, Histogram, Kind};

use crate::{refusal::Reason, route::Routes};

/// What is counted of a route, or of the requests that have none.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Connections that were opened to its upstream.
    pub connects: AtomicU64,
    /// Requests that were sent on one that had waited.
    pub reuses: AtomicU64,
    /// Requests that were not refused, by the class of their answer: none, `1xx` to `5xx`.
    forwarded: [AtomicU64; CLASSES.len()],
    refused: [AtomicU64; Reason::ALL.len()],
    seconds: Histogram,
    first_byte: Histogram,
    bytes: [AtomicU64; 2],
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The status of its answer, if there was one.
    pub status: Option<u16>,
    /// Why it was refused, if it was.
    pub reason: Option<Reason>,
    /// From its head to its end.
    pub took: Duration,
    /// From its head to its answer's.
    pub first_byte: Option<Duration>,
    /// Content from downstream, and to it.
    pub bytes: [u64; 2],
}

impl Default for RouteMetrics {
    fn default() -> Self {
        Self {
            connects: AtomicU64::default(),
            reuses: AtomicU64::default(),
            forwarded: Default::default(),
            refused: std::array::from_fn(|_| AtomicU64::default()),
            seconds: Histogram::new(BOUNDS),
            first_byte: Histogram::new(BOUNDS),
            bytes: Default::default(),
        }
    }
}

impl RouteMetrics {
    /// Counts a request.
    pub fn count(&self, ended: Ended) {
        match ended.reason {
            Some(reason) => self.refuse(reason),
            None => {
                let class = usize::from(ended.status.unwrap_or(0) / 100);
                self.forwarded[class.min(CLASSES.len() - 1)].fetch_add(1, Relaxed);
            }
        }
        self.seconds.observe(ended.took);
        if let Some(first_byte) = ended.first_byte {
            self.first_byte.observe(first_byte);
        }
        for (sum, bytes) in self.bytes.iter().zip(ended.bytes).filter(|(_, bytes)| *bytes > 0) {
            sum.fetch_add(bytes, Relaxed);
        }
    }
}

impl RouteMetrics {
    /// Counts a refusal and nothing else: of a connection too many there is no request.
    pub fn refuse(&self, reason: Reason) {
        // Two reasons have one word, and a word stands once.
        let reason = if reason == Reason::NotRedactable { Reason::UpstreamProtocol } else { reason };
        self.refused[reason as usize].fetch_add(1, Relaxed);
    }
}

/// Writes all families. `unrouted` are the requests of no route, under the empty path.
pub fn write(text: &mut Exposition, routes: &Routes, unrouted: &RouteMetrics, open: u64, draining: bool) {
    let all = || {
        let routed = routes.iter().map(|route| (route.path.as_str(), &*route.metrics));
        routed.chain([("", unrouted)])
    };
    let mut family =
        text.family("cred_proxy_requests_total", Kind::Counter, "Requests, by what became of them.");
    for (route, metrics) in all() {
        for (class, count) in CLASSES.iter().zip(&metrics.forwarded) {
            let count = count.load(Relaxed);
            // A route's usual classes stand from the start, so that a rate has a beginning.
            if count > 0 || (!route.is_empty() && USUAL.contains(class)) {
                family.sample(&[("route", route), ("status", class), ("reason", "")], count);
            }
        }
        for (reason, count) in Reason::ALL.iter().zip(&metrics.refused) {
            let count = count.load(Relaxed);
            if count > 0 {
                let class = CLASSES[usize::from(reason.status().as_u16() / 100)];
                family.sample(&[("route", route), ("status", class), ("reason", reason.word())], count);
            }
        }
    }
    let mut family =
        text.family("cred_proxy_request_seconds", Kind::Histogram, "From a request's head to its end.");
    all().for_each(|(route, metrics)| family.histogram(&[("route", route)], &metrics.seconds));
    let mut family = text.family(
        "cred_proxy_first_byte_seconds",
        Kind::Histogram,
        "From a request's head to its answer's.",
    );
    all().for_each(|(route, metrics)| family.histogram(&[("route", route)], &metrics.first_byte));
    let mut family = text.family(
        "cred_proxy_bytes_total",
        Kind::Counter,
        "Bytes of content, up from downstream and down to it.",
    );
    for (route, metrics) in all() {
        for (direction, bytes) in ["up", "down"].iter().zip(&metrics.bytes) {
            family.sample(&[("route", route), ("direction", direction)], bytes.load(Relaxed));
        }
    }
    text.family("cred_proxy_connections_open", Kind::Gauge, "Connections from downstream.").sample(&[], open);
    let routed = || all().filter(|(route, _)| !route.is_empty());
    let mut family = text.family(
        "cred_proxy_upstream_connects_total",
        Kind::Counter,
        "Connections that were opened to upstreams.",
    );
    routed().for_each(|(route, metrics)| family.sample(&[("route", route)], metrics.connects.load(Relaxed)));
    let mut family = text.family(
        "cred_proxy_upstream_reuses_total",
        Kind::Counter,
        "Requests that were sent on an upstream connection that had waited.",
    );
    routed().for_each(|(route, metrics)| family.sample(&[("route", route)], metrics.reuses.load(Relaxed)));
    text.family("cred_proxy_draining", Kind::Gauge, "1 while open connections are let end.")
        .sample(&[], u64::from(draining));
}

/// By the first digit of a status; 0 where no answer went out.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
const USUAL: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// From a cached answer on the same machine to a model that thinks for minutes.
const BOUNDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
