//! `compare http`: what is measured through every proxy, and how.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::runtime::{Builder, Runtime};

use super::{
    command::sample,
    idle::Idle,
    link::{Link, Request},
    load::{Job, Load, Until, run},
    target::{Target, Url},
};
use crate::{
    compare::{Act, Aim, Needs, Scenario, http_peers::PREFIX},
    interrupt::Interrupt,
    measure::tracked,
    report::Sample,
};

/// What every proxy of a comparison has behind it.
#[derive(Debug, Clone, Copy)]
pub struct Behind<'a> {
    /// The authority that the origin's certificate comes from.
    pub ca_file: &'a Path,
    /// The credential that the origin expects.
    pub authorization: &'a str,
}

/// How a scenario loads.
#[derive(Debug, Clone, Copy)]
struct Shape {
    path: &'static str,
    connections: usize,
    rate: Option<f64>,
    new_connections: bool,
    job: Job,
    upload: Option<u64>,
    until: Until,
}

impl Shape {
    /// How many entries it may leave in the kernel's table of tracked connections.
    fn tracked(&self) -> u64 {
        match self.until {
            Until::Time(window) if self.new_connections || self.path.ends_with("?close") => {
                tracked::entries_of(window)
            }
            _ => 0,
        }
    }
}

impl Behind<'_> {
    /// Everything that is measured; less of it when it is to be `quick`.
    pub fn scenarios(&self, window: Duration, quick: bool) -> Vec<Scenario<'_>> {
        let small = Shape {
            path: "/json",
            connections: 64,
            rate: None,
            new_connections: false,
            job: Job::Exchange,
            upload: None,
            until: Until::Time(window),
        };
        let one = Shape { job: Job::Transfer, connections: 1, until: Until::Count(1), ..small };
        let (size, download) =
            if quick { (1 << 28, "/bytes/268435456") } else { (1 << 30, "/bytes/1073741824") };
        let mebibytes = size >> 20;
        let mut shapes = vec![
            ("requests, 1 connection".into(), Shape { connections: 1, ..small }),
            ("requests, 64 connections".into(), small),
            ("requests, 256 connections".into(), Shape { connections: 256, ..small }),
            ("requests, 2000/s over 64 connections".into(), Shape { rate: Some(2000.0), ..small }),
            ("answers of 64 KiB, 64 connections".into(), Shape { path: "/bytes/65536", ..small }),
            (
                "new client connections, 16 at once".into(),
                Shape { connections: 16, new_connections: true, ..small },
            ),
            (
                "cold upstream connections, 16 at once".into(),
                Shape { path: "/json?close", connections: 16, ..small },
            ),
            (format!("download of {mebibytes} MiB"), Shape { path: download, ..one }),
            (format!("upload of {mebibytes} MiB"), Shape { path: "/upload", upload: Some(size), ..one }),
            (
                "events every 10 ms, 8 streams".into(),
                Shape { path: "/sse", connections: 8, job: Job::Events, ..small },
            ),
        ];
        if quick {
            shapes.retain(|(_, shape)| shape.connections <= 64);
        }
        // Of its connections a proxy is told the same in every scenario but the idle one.
        let needs = Needs { connections: CONNECTIONS, rows: 1 };
        let scenario = |(name, shape): (String, Shape)| Scenario {
            name,
            needs,
            tracked: shape.tracked(),
            act: Act::Through(Box::new(move |aim, interrupt| self.measure(&shape, aim, interrupt))),
        };
        // One for all probes: to make one for each would be work of the kernel's beside each start.
        let runtime = runtime();
        let start = Scenario {
            name: "start".into(),
            needs,
            tracked: 0,
            act: Act::Start(
                window,
                Box::new(move |proxy| {
                    self.answers(runtime.as_ref().map_err(Clone::clone)?, proxy, &["/json"])
                }),
            ),
        };
        let idle = Scenario {
            name: format!("idle, {IDLE} connections"),
            needs: Needs { connections: IDLE, rows: 1 },
            // Each has one upstream at most.
            tracked: 2 * IDLE as u64,
            act: Act::Of(Box::new(|aim, interrupt| self.idle(aim, interrupt))),
        };
        let shapes = shapes.into_iter().map(scenario);
        [start].into_iter().chain(shapes).chain((!quick).then_some(idle)).collect()
    }

    /// Whether a proxy forwards as it should: a small and a longer answer, each byte of them.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn probe(&self, proxy: SocketAddr) -> Result<(), String> {
        self.answers(&runtime()?, proxy, &["/json", "/bytes/100000"])
    }

    /// Whether right answers come, one after another on a new connection.
    fn answers(&self, runtime: &Runtime, proxy: SocketAddr, paths: &[&str]) -> Result<(), String> {
        runtime.block_on(async {
            let target = self.target(proxy, false)?;
            let ask = async {
                let mut link = Link::open(&target, 0, std::sync::Arc::default()).await?;
                for path in paths {
                    link.exchange(&self.request(&target, path, None, false, false)).await?;
                }
                Ok(())
            };
            let answer = tokio::time::timeout(Duration::from_secs(2), ask).await;
            answer.unwrap_or(Err(super::fault::Fault::Timeout)).map_err(|fault| fault.to_string())
        })
    }

    fn measure(&self, shape: &Shape, aim: &Aim<'_>, interrupt: &Interrupt) -> Sample {
        let target = match self.target(aim.address, aim.direct) {
            Ok(target) => target,
            Err(error) => return Sample::failed("", error),
        };
        let request = self.request(&target, shape.path, shape.upload, shape.new_connections, aim.direct);
        let load = Load {
            target,
            request,
            connections: shape.connections,
            rate: shape.rate,
            new_connections: shape.new_connections,
            job: shape.job,
            until: shape.until,
            forwarder: aim.pid,
            backend: aim.backend,
        };
        match run(&load, interrupt) {
            Ok(outcome) => sample(&load, outcome),
            Err(error) => Sample::failed("", error),
        }
    }

    fn idle(&self, aim: &Aim<'_>, interrupt: &Interrupt) -> Sample {
        let Some(forwarder) = aim.pid else { return Sample::failed("", "there is no process to look at") };
        let target = match self.target(aim.address, aim.direct) {
            Ok(target) => target,
            Err(error) => return Sample::failed("", error),
        };
        let request = self.request(&target, "/json", None, false, aim.direct);
        let within = IDLE_WITHIN;
        Idle { target, request, connections: IDLE, within, forwarder, backend: aim.backend }
            .measure(interrupt)
    }

    fn target(&self, address: SocketAddr, direct: bool) -> Result<Target, String> {
        let (ip, port) = (address.ip().to_string(), address.port());
        let url = Url { tls: direct, host: ip, port, target: String::new() };
        Target::new(&url, direct.then_some(self.ca_file), false).map_err(|error| error.to_string())
    }

    /// Straight to the origin the request has the credential; to a proxy it has a placeholder, as
    /// the requests of a caller that holds no token have, for the proxy to replace.
    fn request(
        &self,
        target: &Target,
        path: &str,
        upload: Option<u64>,
        close: bool,
        direct: bool,
    ) -> Request {
        let (prefix, value) = if direct { ("", self.authorization) } else { (PREFIX, "Bearer placeholder") };
        let fields = [format!("Authorization: {value}")];
        Request::new(target, &format!("{prefix}{path}"), &fields, upload, close)
    }
}

fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())
}

/// The most that any scenario opens at once, except the idle ones.
const CONNECTIONS: usize = 256;

/// Connections that do nothing while others are measured.
const IDLE: usize = 1000;

/// A thousand TLS handshakes take a slow proxy a second.
const IDLE_WITHIN: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_connections_have_no_bare_path_and_take_no_part_in_a_quick_comparison() {
        let behind = Behind { ca_file: Path::new("/nonexistent"), authorization: "" };
        let idle = |quick| {
            let all = behind.scenarios(Duration::from_secs(1), quick);
            all.into_iter().find(|scenario| scenario.name == "idle, 1000 connections")
        };
        let found = idle(false).unwrap();
        assert!(matches!(found.act, Act::Of(_)), "{found:?}");
        assert_eq!((found.needs.connections, found.tracked), (1000, 2000));
        assert!(idle(true).is_none());
    }
}
