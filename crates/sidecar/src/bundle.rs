//! The bundle: table, tokens and trust, handed over stdin as one line, so that nothing of it stands
//! in an environment, an argument, a file or `docker inspect`.

use std::io;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::ca::CaPem;
use crate::exit::{Failure, escape};
use crate::table::{self, MAX_BYTES};
use crate::token::Tokens;
use crate::upstream_proxy::UpstreamProxy;

/// Everything that the launcher hands to a sidecar at its start.
///
/// ```
/// # use sidecar::{bundle::Bundle, routes::RouteTable};
/// let line = r#"{"version":1,"table":{"routes":[{"path":"/a/","upstream":"https://a.example","auth":{"scheme":"bearer"},"token_env":"CRED_PROXY_TOKEN_0"}]},"tokens":{"CRED_PROXY_TOKEN_0":"..."},"ca":[],"from":["10.201.7.0/28"],"upstream_proxy":{"url":"http://user:pw@proxy:3128","no_proxy":"corp.example"},"lifeline":true}"#;
/// let bundle: Bundle<RouteTable> = Bundle::parse(line.as_bytes()).unwrap();
/// assert!(bundle.lifeline);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bundle<T> {
    version: u8,
    /// What the table's file would hold.
    pub table: T,
    /// Tokens by the names that the table uses.
    #[serde(skip_serializing_if = "Tokens::is_empty")]
    pub tokens: Tokens,
    /// CA certificates that are trusted beside the public ones, on every route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<CaPem>,
    /// The subnets whose peers are served; `None` is every peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<IpNet>>,
    /// The proxy through which upstreams are reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_proxy: Option<UpstreamProxy>,
    /// Whether stdin stays open and its end drains the sidecar.
    pub lifeline: bool,
}

/// A table that a bundle can carry. It decides what else its sidecar takes from the bundle.
pub trait BundleTable: DeserializeOwned {
    /// The keys that its sidecar uses, of [`SPECIAL_KEYS`]. Another of them is an error.
    const KEYS: &'static [&'static str];

    /// Whether the table may stand in a bundle.
    ///
    /// # Errors
    /// The reason why not.
    fn fits_bundle(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The keys of a bundle that only some sidecars use.
pub const SPECIAL_KEYS: [&str; 3] = ["tokens", "ca", "upstream_proxy"];

/// Why a bundle was not taken. Never quotes what stands outside the table.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It did not come.
    #[error("no bundle came on stdin within {} s", DEADLINE.as_secs())]
    Late,
    /// It ended before its newline.
    #[error("the bundle on stdin ended before its newline")]
    Short,
    /// It is too long.
    #[error("the bundle on stdin is longer than 1 MiB")]
    TooLong,
    /// Stdin could not be read.
    #[error("could not read the bundle from stdin")]
    Read(#[source] io::Error),
    /// It is no JSON object of this version.
    #[error("stdin:1:{column}: the bundle is no JSON object")]
    Json {
        /// Where it stops being one.
        column: usize,
    },
    /// A key is wrong.
    #[error("stdin: bundle: {0}")]
    Key(String),
    /// The table is wrong.
    #[error("stdin:1:{column}: bundle: table: {message}")]
    Table {
        /// Where it is.
        column: usize,
        /// What was expected, and what was found.
        message: String,
    },
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::config(error)
    }
}

/// How long the bundle may take.
const DEADLINE: Duration = Duration::from_secs(10);

impl<T> Bundle<T> {
    /// A bundle of the current version with nothing but a table.
    pub fn new(table: T) -> Self {
        Self {
            version: 1,
            table,
            tokens: Tokens::new(),
            ca: Vec::new(),
            from: None,
            upstream_proxy: None,
            lifeline: false,
        }
    }

    /// The line to write, newline included.
    ///
    /// # Errors
    /// When the table cannot be written as JSON, or the line is longer than a sidecar takes.
    pub fn to_line(&self) -> Result<Zeroizing<Vec<u8>>, io::Error>
    where
        T: Serialize,
    {
        let mut length = Length(1);
        serde_json::to_writer(&mut length, self)?;
        if length.0 > MAX_BYTES {
            return Err(io::Error::other("the bundle is longer than 1 MiB"));
        }
        // Sized beforehand: a vector that grows would leave copies of the tokens behind.
        let mut line = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *line, self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// Counts what is written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: BundleTable> Bundle<T> {
    /// Parses the line, with or without its newline.
    ///
    /// # Errors
    /// [`BundleError::Json`] and [`BundleError::Key`].
    pub fn parse(line: &[u8]) -> Result<Self, BundleError> {
        // First to plain values: serde's words for a wrong type would quote a token in the wrong place.
        let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(line)
            .map_err(|error| BundleError::Json { column: error.column() })?;
        let (mut version, mut table) = (None, None);
        let mut bundle = Bundle::new(());
        for (key, value) in object {
            let shape = |expected: &str| BundleError::Key(format!("expected `{key}` to be {expected}"));
            match key.as_str() {
                useless if SPECIAL_KEYS.contains(&useless) && !T::KEYS.contains(&useless) => {
                    return Err(BundleError::Key(format!(
                        "unexpected key `{useless}`: this sidecar does not use it"
                    )));
                }
                "version" => version = Some(value),
                "table" => {
                    let parsed = serde_json::from_value::<T>(value);
                    table = Some(parsed.map_err(|error| table_fault::<T>(line, &error))?);
                }
                "tokens" => {
                    bundle.tokens = serde_json::from_value(value)
                        .map_err(|_| shape("an object of strings that are tokens"))?;
                }
                "ca" => {
                    let serde_json::Value::Array(texts) = value else {
                        return Err(shape("a list of PEM texts"));
                    };
                    bundle.ca = texts.iter().enumerate().map(authority).collect::<Result<_, _>>()?;
                }
                "from" => {
                    // A `null` is no list: it must not mean that everyone is served.
                    let subnets = serde_json::from_value(value).map_err(|_| shape("a list of subnets"))?;
                    bundle.from = Some(subnets);
                }
                "upstream_proxy" => {
                    let proxy = serde_json::from_value(value).map_err(|_| {
                        shape("an object with `url`, http://[USER:PASSWORD@]HOST[:PORT], and perhaps `no_proxy`")
                    })?;
                    bundle.upstream_proxy = Some(proxy);
                }
                "lifeline" => bundle.lifeline = value.as_bool().ok_or_else(|| shape("true or false"))?,
                unknown => return Err(BundleError::Key(format!("unknown key `{}`", escape(unknown)))),
            }
        }
        if version != Some(serde_json::Value::from(1)) {
            return Err(BundleError::Key("expected `version` to be 1".into()));
        }
        let table = table.ok_or_else(|| BundleError::Key("expected a `table`".into()))?;
        table.fits_bundle().map_err(|reason| BundleError::Key(format!("table: {reason}")))?;
        let Bundle { tokens, ca, from, upstream_proxy, lifeline, .. } = bundle;
        Ok(Self { version: 1, table, tokens, ca, from, upstream_proxy, lifeline })
    }

    /// Reads the bundle from stdin's first line, without waiting for its end.
    ///
    /// # Errors
    /// [`BundleError`].
    pub async fn read(stdin: &mut (impl AsyncBufRead + Unpin)) -> Result<Self, BundleError> {
        Self::read_within(DEADLINE, stdin).await
    }

    async fn read_within(
        time: Duration,
        stdin: &mut (impl AsyncBufRead + Unpin),
    ) -> Result<Self, BundleError> {
        let line = tokio::time::timeout(time, read_line(stdin)).await.map_err(|_| BundleError::Late)??;
        match line {
            Some(line) => Self::parse(&line),
            None => Err(BundleError::Short),
        }
    }
}

/// One CA of a bundle, by its place in the list.
fn authority((n, value): (usize, &serde_json::Value)) -> Result<CaPem, BundleError> {
    let Some(text) = value.as_str() else {
        return Err(BundleError::Key(format!("ca[{n}]: expected a PEM text")));
    };
    CaPem::parse(text.as_bytes()).map_err(|error| BundleError::Key(format!("ca[{n}]: {error}")))
}

/// The fault of a table that is known to be wrong, and its place in the line, for which it is read again.
fn table_fault<T: DeserializeOwned>(line: &[u8], error: &serde_json::Error) -> BundleError {
    #[derive(Deserialize)]
    struct Placed<T> {
        #[serde(rename = "table")]
        _table: T,
    }
    let message = table::said(&error.to_string());
    match serde_json::from_slice::<Placed<T>>(line) {
        Err(placed) => BundleError::Table { column: table::place(line, &placed).1, message },
        Ok(_) => BundleError::Key(format!("table: {message}")),
    }
}

/// One line, or `None` when stdin ended before a newline.
async fn read_line(
    stdin: &mut (impl AsyncBufRead + Unpin),
) -> Result<Option<Zeroizing<Vec<u8>>>, BundleError> {
    let mut line = Zeroizing::new(Vec::new());
    let mut limited = stdin.take(MAX_BYTES as u64 + 1);
    limited.read_until(b'\n', &mut line).await.map_err(BundleError::Read)?;
    match line.last() {
        Some(b'\n') => Ok(Some(line)),
        _ if line.len() > MAX_BYTES => Err(BundleError::TooLong),
        _ => Ok(None),
    }
}

/// One line of the lifeline. One that is too long for tokens is read over, and stands for an empty one.
async fn next_line(
    stdin: &mut (impl AsyncBufRead + Unpin),
) -> Result<Option<Zeroizing<Vec<u8>>>, BundleError> {
    match read_line(stdin).await {
        Err(BundleError::TooLong) => {}
        line => return line,
    }
    loop {
        let read = stdin.fill_buf().await.map_err(BundleError::Read)?;
        let end = read.iter().position(|byte| *byte == b'\n');
        // Where stdin ends, the next line says so.
        let ends = end.is_some() || read.is_empty();
        let length = end.map_or(read.len(), |end| end + 1);
        stdin.consume(length);
        if ends {
            return Ok(Some(Zeroizing::default()));
        }
    }
}

/// Follows the lifeline: hands over the tokens of each further line, and drains when stdin ends.
pub async fn follow(
    mut stdin: impl AsyncBufRead + Unpin,
    drain: CancellationToken,
    mut replace: impl FnMut(Tokens),
) {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fresh {
        tokens: Tokens,
    }
    loop {
        let line = tokio::select! {
            line = next_line(&mut stdin) => line,
            () = drain.cancelled() => return,
        };
        match line {
            Ok(Some(line)) => match serde_json::from_slice::<Fresh>(&line) {
                Ok(fresh) => replace(fresh.tokens),
                Err(_) => {
                    tracing::warn!(event = "lifeline_ignored", "a line on the lifeline holds no tokens");
                }
            },
            Ok(None) => {
                tracing::info!(event = "lifeline_lost", "stdin ended: draining");
                return drain.cancel();
            }
            Err(error) => {
                tracing::warn!(event = "lifeline_lost", error = %error, "stdin cannot be read: draining");
                return drain.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::PortTable;
    use crate::routes::RouteTable;
    use crate::token::Token;
    use crate::upstream_proxy::NoProxy;

    const TABLE: &str = r#""table":{"forwards":[{"listen":1,"upstream":"a:1"}]}"#;

    const ROUTES: &str = r#""table":{"routes":[{"path":"/a/","upstream":"https://a","auth":{"scheme":"bearer"},"token_env":"T"}]}"#;

    #[test]
    fn a_line_is_written_without_leaving_copies_of_its_tokens() {
        let mut bundle = Bundle::new(());
        for n in 0..100 {
            bundle.tokens.insert(format!("T{n}"), Token::parse(format!("secret-{n}")).unwrap());
            let line = bundle.to_line().unwrap();
            assert_eq!((line.last(), line.capacity()), (Some(&b'\n'), line.len()));
        }
    }

    fn parse(text: &str) -> Result<Bundle<RouteTable>, BundleError> {
        Bundle::parse(text.as_bytes())
    }

    #[test]
    fn what_the_launcher_writes_the_sidecar_reads() {
        let mut bundle = parse(&format!("{{\"version\":1,{ROUTES}}}")).unwrap();
        bundle.tokens.insert("CRED_PROXY_TOKEN_0".into(), Token::parse("secret-12".into()).unwrap());
        let url = "http://me:hunter2@proxy.test:3128".parse().unwrap();
        bundle.upstream_proxy = Some(UpstreamProxy { url, no_proxy: NoProxy::parse("corp.test") });
        bundle.from = Some(vec!["10.201.7.0/28".parse().unwrap()]);
        bundle.lifeline = true;
        let line = bundle.to_line().unwrap();
        assert!(line.windows(7).any(|bytes| bytes == b"hunter2"));
        assert_eq!(Bundle::parse(&line).unwrap(), bundle);
        let shown = format!("{bundle:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("secret-12"), "{shown}");
    }

    #[test]
    fn a_key_that_the_sidecar_has_no_use_for_is_refused() {
        for (key, value) in [("tokens", "{}"), ("ca", "[]"), ("upstream_proxy", "{\"url\":\"hunter2\"}")] {
            let text = format!("{{\"version\":1,{TABLE},\"{key}\":{value}}}");
            let error = Bundle::<PortTable>::parse(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, format!("stdin: bundle: unexpected key `{key}`: this sidecar does not use it"));
        }
    }

    #[test]
    fn a_wrong_bundle_is_refused_and_its_secrets_are_not_quoted() {
        for (text, expected) in [
            (format!("{{{ROUTES}}}"), "`version` to be 1"),
            (format!("{{\"version\":2,{ROUTES}}}"), "`version` to be 1"),
            ("{\"version\":1}".into(), "expected a `table`"),
            (format!("{{\"version\":1,{ROUTES},\"extra\":\"hunter2\"}}"), "unknown key `extra`"),
            (format!("{{\"version\":1,{ROUTES},\"tokens\":\"hunter2\"}}"), "expected `tokens`"),
            (format!("{{\"version\":1,{ROUTES},\"tokens\":{{\"A\":\"hunter2\\n\"}}}}"), "expected `tokens`"),
            (format!("{{\"version\":1,{ROUTES},\"from\":[\"hunter2\"]}}"), "expected `from`"),
            (format!("{{\"version\":1,{ROUTES},\"from\":null}}"), "expected `from`"),
            (format!("{{\"version\":1,{ROUTES},\"lifeline\":\"hunter2\"}}"), "expected `lifeline`"),
            (format!("{{\"version\":1,{ROUTES},\"ca\":\"hunter2\"}}"), "expected `ca` to be a list"),
            (format!("{{\"version\":1,{ROUTES},\"ca\":[\"hunter2\"]}}"), "ca[0]: no certificate found"),
            (format!("{{\"version\":1,{ROUTES},\"ca\":[[\"hunter2\"]]}}"), "ca[0]: expected a PEM text"),
            (
                format!("{{\"version\":1,{ROUTES},\"upstream_proxy\":\"hunter2\"}}"),
                "expected `upstream_proxy`",
            ),
            (format!("{{\"version\":1,{ROUTES},\"upstream_proxy\":null}}"), "expected `upstream_proxy`"),
            ("[\"hunter2\"]".into(), "no JSON object"),
            ("{\"hunter2\"".into(), "no JSON object"),
            (
                "{\"version\":1,\"table\":{\"routes\":[]}}".into(),
                "stdin:1:23: bundle: table: expected at least one route",
            ),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn a_late_short_or_oversized_bundle_is_refused() {
        let (_open, silent) = tokio::io::duplex(8);
        let mut silent = tokio::io::BufReader::new(silent);
        let late = Bundle::<PortTable>::read_within(Duration::from_millis(1), &mut silent).await;
        assert!(matches!(late, Err(BundleError::Late)));
        let short = Bundle::<PortTable>::read(&mut b"{\"version\":1".as_slice()).await;
        assert!(matches!(short, Err(BundleError::Short)));
        let long = vec![b' '; MAX_BYTES + 10];
        let long = Bundle::<PortTable>::read(&mut long.as_slice()).await;
        assert!(matches!(long, Err(BundleError::TooLong)));
    }

    #[tokio::test]
    async fn the_lifeline_brings_tokens_and_its_end_drains() {
        let long = "x".repeat(3 * MAX_BYTES);
        let lines = format!(
            "{{\"tokens\":{{\"A\":\"one\"}}}}\nnonsense\n{long}\n{{\"tokens\":{{\"A\":\"two\"}}}}\n{long}"
        );
        let (drain, mut seen) = (CancellationToken::new(), Vec::new());
        follow(lines.as_bytes(), drain.clone(), |tokens| seen.push(tokens["A"].expose().to_owned())).await;
        assert!(drain.is_cancelled());
        assert_eq!(seen, ["one", "two"]);
    }
}
