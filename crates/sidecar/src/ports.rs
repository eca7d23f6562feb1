//! The port table: which listener leads to which upstream.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::bundle::BundleTable;
use crate::upstream::{Upstream, UpstreamError, parse_port};

/// A port table: at least one row, no listener twice, no alias twice.
///
/// ```
/// # use sidecar::ports::PortTable;
/// let text = r#"{ "forwards": [ { "listen": 30000, "upstream": "github.com:22", "alias": "github", "protocol": "tcp" } ] }"#;
/// let table: PortTable = serde_json::from_str(text).unwrap();
/// assert_eq!(table.forwards()[0].alias, "github");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortTable {
    forwards: Vec<Forward>,
}

/// One row: a listener and its upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// The address to listen on, where the row names its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind: Option<IpAddr>,
    /// The port to listen on; 0 picks a free one.
    pub listen: u16,
    /// Where its connections go.
    pub upstream: Upstream,
    /// Its name in logs and metrics.
    pub alias: String,
    /// What it may carry.
    pub protocol: Protocol,
}

/// What a row may carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Any bytes.
    #[default]
    Tcp,
    /// SSH only, by the first line of each side.
    Ssh,
}

/// One row as it was written, before it is checked against the others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a row with `listen` and `upstream`")]
pub struct Row {
    /// The address to listen on, else the table's.
    #[serde(default)]
    pub bind: Option<IpAddr>,
    /// The port to listen on.
    #[serde(deserialize_with = "listen_port")]
    pub listen: u16,
    /// Where its connections go.
    pub upstream: Upstream,
    /// Its name, else `row-<n>`.
    #[serde(default)]
    pub alias: Option<String>,
    /// What it may carry.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What makes rows no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// There is none.
    #[error("expected at least one row in `forwards`")]
    Empty,
    /// A listener stands twice.
    #[error("listener {0} stands twice")]
    ListenerTwice(String),
    /// A name stands twice.
    #[error("alias {0:?} stands twice")]
    AliasTwice(String),
    /// A name that would spoil a log line.
    #[error("expected an alias of 1 to 64 characters without control characters, found {0:?}")]
    Alias(String),
}

impl BundleTable for PortTable {
    const KEYS: &'static [&'static str] = &[];
}

impl PortTable {
    /// Checks rows against each other and names the nameless.
    ///
    /// # Errors
    /// [`RowError`] for the first row that does not fit.
    pub fn from_rows(rows: impl IntoIterator<Item = Row>) -> Result<Self, RowError> {
        let mut checked = Checked::default();
        for row in rows {
            checked.push(row)?;
        }
        checked.finish()
    }

    /// The rows, in their order.
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }

    /// The same rows, unchecked again, so that more can be added.
    pub fn into_rows(self) -> Vec<Row> {
        let row = |forward: Forward| Row {
            bind: forward.bind,
            listen: forward.listen,
            upstream: forward.upstream,
            alias: Some(forward.alias),
            protocol: forward.protocol,
        };
        self.forwards.into_iter().map(row).collect()
    }
}

#[derive(Default)]
struct Checked {
    forwards: Vec<Forward>,
    listeners: HashSet<(Option<IpAddr>, u16)>,
    aliases: HashSet<String>,
}

impl Checked {
    fn push(&mut self, row: Row) -> Result<(), RowError> {
        let alias = row.alias.unwrap_or_else(|| format!("row-{}", self.forwards.len()));
        if !is_alias(&alias) {
            return Err(RowError::Alias(alias));
        }
        if row.listen != 0 && !self.listeners.insert((row.bind, row.listen)) {
            let port = row.listen;
            return Err(RowError::ListenerTwice(
                row.bind.map_or(port.to_string(), |ip| format!("{ip}:{port}")),
            ));
        }
        if !self.aliases.insert(alias.clone()) {
            return Err(RowError::AliasTwice(alias));
        }
        let Row { bind, listen, upstream, protocol, .. } = row;
        self.forwards.push(Forward { bind, listen, upstream, alias, protocol });
        Ok(())
    }

    fn finish(self) -> Result<PortTable, RowError> {
        if self.forwards.is_empty() {
            Err(RowError::Empty)
        } else {
            Ok(PortTable { forwards: self.forwards })
        }
    }
}

impl<'de> Deserialize<'de> for PortTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, expecting = "an object with `forwards`")]
        struct Raw {
            #[serde(deserialize_with = "rows")]
            forwards: PortTable,
        }
        Raw::deserialize(deserializer).map(|raw| raw.forwards)
    }
}

/// Whether a name can stand in a log line.
fn is_alias(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= 64 && !text.chars().any(char::is_control)
}

/// Checks each row as it is read, so that a fault carries the row's place.
fn rows<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PortTable, D::Error> {
    struct Rows;
    impl<'de> Visitor<'de> for Rows {
        type Value = PortTable;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of rows")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<PortTable, A::Error> {
            let mut checked = Checked::default();
            while let Some(row) = rows.next_element::<Row>()? {
                checked.push(row).map_err(de::Error::custom)?;
            }
            checked.finish().map_err(de::Error::custom)
        }
    }
    deserializer.deserialize_seq(Rows)
}

fn listen_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    value
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| de::Error::custom(format_args!("expected a port between 1 and 65535, found {value}")))
}

/// `[BIND:]LISTEN=HOST:PORT[,alias=NAME][,protocol=ssh]`, a row on the command line.
impl FromStr for Row {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let (listener, rest) = text.split_once('=').ok_or_else(|| ForwardError::Shape(text.to_owned()))?;
        let (bind, port) = match listener.rsplit_once(':') {
            Some((bind, port)) => (Some(bind), port),
            None => (None, listener),
        };
        let bind = bind
            .map(|bind| {
                let bare = bind.strip_prefix('[').and_then(|b| b.strip_suffix(']'));
                // An IPv6 address stands in brackets, an IPv4 address never does.
                let address = bare.unwrap_or(bind).parse::<IpAddr>().ok();
                address
                    .filter(|address| address.is_ipv6() == bare.is_some())
                    .ok_or_else(|| ForwardError::Bind(bind.to_owned()))
            })
            .transpose()?;
        let listen = parse_port(port).ok_or_else(|| ForwardError::Listen(port.to_owned()))?;
        let mut parts = rest.split(',');
        let upstream = parts.next().unwrap_or_default().parse()?;
        let mut row = Self { bind, listen, upstream, alias: None, protocol: Protocol::Tcp };
        let mut seen = HashSet::new();
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            match (name, value) {
                ("alias", alias) if is_alias(alias) => row.alias = Some(alias.to_owned()),
                ("protocol", "tcp") => row.protocol = Protocol::Tcp,
                ("protocol", "ssh") => row.protocol = Protocol::Ssh,
                _ => return Err(ForwardError::Option(part.to_owned())),
            }
            if !seen.insert(name) {
                return Err(ForwardError::Twice(name.to_owned()));
            }
        }
        Ok(row)
    }
}

/// Why a row on the command line does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// It has no `=`.
    #[error("expected [BIND:]LISTEN=HOST:PORT[,alias=NAME][,protocol=ssh], found {0:?}")]
    Shape(String),
    /// What stands before the port is no address.
    #[error("expected an address to bind, IPv6 in brackets, found {0:?}")]
    Bind(String),
    /// The port to listen on is none.
    #[error("expected a port between 0 and 65535, found {0:?}")]
    Listen(String),
    /// An option after the upstream is unknown.
    #[error("expected alias=NAME or protocol=tcp|ssh, found {0:?}")]
    Option(String),
    /// An option stands twice.
    #[error("{0} stands twice")]
    Twice(String),
    /// The upstream is none.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

#[cfg(test)]
mod tests;
