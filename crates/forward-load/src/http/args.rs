//! The command line of `forward-load http`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::target::Url;
use crate::cli::{bytes, duration};

/// What is measured through an HTTP proxy.
///
/// The content of answers is checked when the URL's path ends as those of `http serve` do:
/// /json, /bytes/N, /upload, /sse.
#[derive(Debug, Clone, Subcommand)]
pub enum HttpCommand {
    /// Small requests: how many, and how long each takes
    Requests(LoadArgs),
    /// Long answers: how many bytes per second
    Download(LoadArgs),
    /// Long requests: how many bytes per second
    Upload {
        /// How long each is: 1GiB, 64KiB, 1000
        #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
        size: u64,
        /// What every load takes
        #[command(flatten)]
        load: LoadArgs,
    },
    /// Server-sent events of `http serve`: how late each comes, on one clock, so on one machine
    Sse(LoadArgs),
    /// The origin: TLS, /json, /bytes/N, /upload, /sse, /stats, and with ?close one connection each
    Serve(ServeArgs),
}

/// What every load takes.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Where to; https needs --ca-file
    #[arg(long, value_name = "URL")]
    pub url: Url,
    /// A field to be sent, e.g. "Accept: text/plain"; may be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    pub header: Vec<String>,
    /// How many connections at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Requests per second of all connections together, whether or not answers come (open loop);
    /// latency then counts from the moment that each was meant to be sent
    #[arg(long, value_name = "R", value_parser = rate)]
    pub rate: Option<f64>,
    /// A new connection for every request
    #[arg(long)]
    pub new_connections: bool,
    /// For how long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// The forwarder's process, to measure what it costs, its children included
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// The authorities that may have signed the certificate of an https URL, PEM
    #[arg(long, value_name = "PEM")]
    pub ca_file: Option<PathBuf>,
    /// Aim at an address that is neither loopback nor private
    #[arg(long)]
    pub i_own_this_target: bool,
}

/// Where the origin listens.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where to listen
    ///
    /// The first line on stdin is the value of Authorization that every request must have; an
    /// empty line for none.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Where the certificate of its throw-away authority is written, for forwarders to verify
    #[arg(long, value_name = "PEM")]
    pub ca_out: PathBuf,
    /// End when stdin does
    #[arg(long)]
    pub lifeline: bool,
}

fn field(text: &str) -> Result<String, String> {
    let whole = text.split_once(':').is_some_and(|(name, _)| !name.is_empty() && !name.contains(' '));
    let clean = text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
    (whole && clean)
        .then(|| text.into())
        .ok_or_else(|| "expected a field such as `Accept: text/plain`".into())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && (0.01..=1e7).contains(rate));
    rate.ok_or_else(|| "expected a number of requests per second".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_fields_are_written_as_people_write_them() {
        assert!(rate("2000").is_ok() && rate("0").is_err() && rate("nan").is_err());
        assert!(field("Accept: x").is_ok() && field("Accept").is_err() && field("a: b\r\nc: d").is_err());
    }
}
