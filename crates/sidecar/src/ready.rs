//! The readiness line: the one line on stdout that says a daemon serves, and where.

use std::io::Write as _;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `{"event":"ready","name":"ssh-gate","version":"0.1.0","listeners":["127.0.0.1:30000"],"admin":null}`
///
/// ```
/// # use sidecar::ready::Ready;
/// let line = r#"{"event":"ready","name":"ssh-gate","version":"0.1.0","listeners":["127.0.0.1:30000"],"admin":"127.0.0.1:9901"}"#;
/// assert_eq!(Ready::parse(line).unwrap().name, "ssh-gate");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    event: Event,
    /// The daemon's name, `ssh-gate`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What was bound, in the order of the rows.
    pub listeners: Vec<SocketAddr>,
    /// The admin endpoint, unless it is off.
    pub admin: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Event {
    Ready,
}

impl Ready {
    /// What a daemon says once everything is bound.
    pub fn new(name: &str, version: &str, listeners: Vec<SocketAddr>, admin: Option<SocketAddr>) -> Self {
        Self { event: Event::Ready, name: name.to_owned(), version: version.to_owned(), listeners, admin }
    }

    /// Reads the line as the launcher gets it.
    ///
    /// # Errors
    /// When it is not a readiness line.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(line)
    }

    /// Writes the line to stdout. A closed stdout is no reason not to serve.
    pub fn announce(&self) {
        if let Ok(mut line) = serde_json::to_vec(self) {
            line.push(b'\n');
            let mut stdout = std::io::stdout().lock();
            let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_stands_as_documented() {
        let ready = Ready::new("ssh-gate", "0.1.0", vec!["127.0.0.1:30000".parse().unwrap()], None);
        assert_eq!(
            serde_json::to_string(&ready).unwrap(),
            r#"{"event":"ready","name":"ssh-gate","version":"0.1.0","listeners":["127.0.0.1:30000"],"admin":null}"#
        );
    }
}
