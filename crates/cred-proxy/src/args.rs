//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;
use sidecar::{
    command::{AdminAddr, Common, Parsed, Timeout, duration},
    exit::Failure,
    upstream_proxy::{NoProxy, UpstreamProxy},
};
use zeroize::Zeroizing;

/// Put credentials on HTTP requests, so that the caller never holds a token
///
/// Requests to a route's path are sent to the route's upstream over verified TLS, with the
/// route's token in place of whatever credential the caller sent. Tokens are read from the
/// environment (NAME, else the file NAME_FILE), from stdin, or from the bundle. A process's
/// environment can be read by its user and shown by container engines: stdin is the stronger way.
#[derive(Debug, Clone, Parser)]
#[command(name = "cred-proxy", version)]
pub struct Args {
    /// The route table; `-` reads it from stdin
    #[arg(long, value_name = "FILE")]
    pub routes: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9099")]
    pub listen: SocketAddr,
    /// Where tokens come from: variables by the names in the table, or `{"NAME":"value"}` on stdin
    #[arg(long, value_name = "SOURCE", default_value = "env")]
    pub tokens: TokenSource,
    /// CA certificates to trust on every route, beside the public ones, PEM; may be repeated
    #[arg(long, value_name = "PEM")]
    pub ca_file: Vec<String>,
    /// The admin endpoint, or off
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9902")]
    pub admin: AdminAddr,
    /// A further name that requests may be addressed to, * for any; may be repeated
    #[arg(long, value_name = "NAME")]
    pub server_name: Vec<String>,
    /// The most connections at once
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = connections)]
    pub max_connections: u32,
    /// The most bytes of a request's content
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    pub max_body: Size,
    /// How long a request's head may take, from its first byte
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub header_timeout: Duration,
    /// How long a connection may wait between requests
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = duration)]
    pub keep_alive_timeout: Duration,
    /// How long connecting to an upstream may take, name and TLS included
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub connect_timeout: Duration,
    /// How long an upstream may think before its answer's head
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub response_timeout: Duration,
    /// The longest silence within a request's content
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub request_body_timeout: Duration,
    /// The longest silence within an answer's content, or off
    #[arg(long, value_name = "TIME", default_value = "off")]
    pub response_body_timeout: Timeout,
    /// How long a peer may take nothing while we write, or off
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub write_timeout: Timeout,
    /// Reach upstreams through this CONNECT proxy.
    // Apart from the doc comment: rustdoc takes the brackets for links.
    #[arg(
        long,
        value_name = "URL",
        hide_env_values = true,
        help = "Reach upstreams through this CONNECT proxy, http://[USER:PASSWORD@]HOST[:PORT], except those in NO_PROXY [default: HTTPS_PROXY]"
    )]
    pub upstream_proxy: Option<ProxyText>,
    /// What every sidecar has
    #[command(flatten)]
    pub common: Common,
}

/// Where tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TokenSource {
    /// Variables, or files that variables name.
    Env,
    /// One JSON object, to the end of stdin.
    Stdin,
}

/// The URL of a proxy, which may contain a password. It is parsed by [`Args::upstream_proxy`], because
/// clap quotes what it cannot parse.
#[derive(Clone)]
pub struct ProxyText(Zeroizing<String>);

impl std::fmt::Debug for ProxyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProxyText(..)")
    }
}

impl std::str::FromStr for ProxyText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

/// A number of bytes: `1GiB`, `64KiB`, `1000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Args {
    /// Parses the process's own command line, and what its options mean together.
    ///
    /// # Errors
    ///
    /// Exit 2, for options that exclude each other or are not yet supported.
    pub fn parse() -> Result<Parsed<Self>, Failure> {
        let parsed = sidecar::command::parse::<Self>("CRED_PROXY");
        parsed.exclude("stdin_bundle", &["routes", "tokens"])?;
        let both = !takes_bundle(&parsed)
            && parsed.args.tokens == TokenSource::Stdin
            && parsed.args.routes.as_ref().is_some_and(|routes| routes.as_os_str() == "-");
        if both {
            return Err(Failure::usage("the routes and the tokens cannot both be read from stdin"));
        }
        Ok(parsed)
    }
}

impl Args {
    /// The proxy through which upstreams are reached, if any: that of the option, else that of
    /// `HTTPS_PROXY`. `NO_PROXY` names the exceptions of both.
    ///
    /// # Errors
    ///
    /// Exit 2, with the name of the option or variable, never with its value.
    pub fn upstream_proxy(
        &self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<UpstreamProxy>, Failure> {
        let Some(ProxyText(text)) = &self.upstream_proxy else {
            return UpstreamProxy::from_variables(variable).map_err(Failure::usage);
        };
        let url = text.parse().map_err(|error| Failure::usage(format!("--upstream-proxy: {error}")))?;
        Ok(Some(UpstreamProxy { url, no_proxy: NoProxy::from_variables(variable) }))
    }
}

/// Whether table and tokens come as a bundle: tokens that are typed win over the variable that says so.
pub fn takes_bundle(parsed: &Parsed<Args>) -> bool {
    parsed.args.common.stdin_bundle && (parsed.typed("stdin_bundle") || !parsed.typed("tokens"))
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim() {
            "" | "B" => 1,
            "KiB" | "K" => 1 << 10,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            _ => 0,
        };
        let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        size.filter(|size| *size > 0).map(Self).ok_or_else(|| "expected a size such as 1GiB or 64KiB".into())
    }
}

fn connections(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "expected a number of connections, at least 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_people_write_them() {
        for (text, size) in
            [("1GiB", Some(1 << 30)), ("64KiB", Some(65536)), ("1000", Some(1000)), ("5MB", Some(5_000_000))]
        {
            assert_eq!(text.parse::<Size>().ok().map(|s| s.0), size, "{text}");
        }
        for text in ["", "x", "0", "-1", "1TB!", "99999999999999999999", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
