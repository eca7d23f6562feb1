//! Reading a table: from text, a file or stdin to a checked value, with the place of every fault.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use serde::de::DeserializeOwned;

use crate::exit::Failure;

/// The most bytes of a table; a bundle's line has the same limit.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Why a table was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file could not be read.
    #[error("could not read {file}")]
    Read {
        /// Its path.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large to be a table.
    #[error("{file}: a table is at most 1 MiB")]
    TooLarge {
        /// Its path.
        file: String,
    },
    /// Its text is wrong somewhere.
    #[error("{0}")]
    Fault(Fault),
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self::config(error)
    }
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was named, or `stdin`.
    pub file: String,
    /// Line and column, from 1; `None` where the text has no lines worth counting.
    pub place: Option<(usize, usize)>,
    /// What was expected, and what was found.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Reads a table from a file, or from stdin to its end when the path is `-`.
///
/// # Errors
/// [`TableError`] when the file cannot be read or is wrong.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, TableError> {
    let file = path.display().to_string();
    let read = |source: Box<dyn std::io::Read>| {
        let mut text = Vec::new();
        source.take(MAX_BYTES as u64 + 1).read_to_end(&mut text).map(|_| text)
    };
    let (file, text) = if file == "-" {
        ("stdin".to_owned(), read(Box::new(std::io::stdin())))
    } else {
        (file, std::fs::File::open(path).and_then(|f| read(Box::new(f))))
    };
    let text = text.map_err(|source| TableError::Read { file: file.clone(), source })?;
    if text.len() > MAX_BYTES {
        return Err(TableError::TooLarge { file });
    }
    parse(&file, &text)
}

/// Parses a table; `file` is how its faults name it.
///
/// # Errors
/// [`TableError::Fault`] with line and column.
pub fn parse<T: DeserializeOwned>(file: &str, text: &[u8]) -> Result<T, TableError> {
    serde_json::from_slice(text).map_err(|error| TableError::Fault(fault(file, text, &error)))
}

/// The fault behind a JSON error: its own words, and its place apart from them.
pub fn fault(file: &str, text: &[u8], error: &serde_json::Error) -> Fault {
    let said = error.to_string();
    let place = (error.line() > 0).then(|| (error.line(), error.column()));
    let suffix = place.map(|(line, column)| format!(" at line {line} column {column}"));
    let message = suffix.and_then(|suffix| said.strip_suffix(&suffix)).unwrap_or(&said);
    Fault {
        file: file.to_owned(),
        place: place.map(|_| self::place(text, error)),
        message: self::said(message),
    }
}

/// What serde says of a value of the wrong type, in the order in which our own faults say it.
pub fn said(message: &str) -> String {
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) {
        Some((found, expected)) => format!("expected {expected}, found {found}"),
        None => message.to_owned(),
    }
}

/// Line and column of a fault. Where a value is wrong, serde_json says where it had read to when it
/// knew: behind the value, or behind what closes the object around it, lines later perhaps. What is
/// pointed at is the last value before that.
pub fn place(text: &[u8], error: &serde_json::Error) -> (usize, usize) {
    // Of an empty text it says column 0.
    let said = (error.line(), error.column().max(1));
    // A field that is not there has no place but the end of its object.
    if !error.is_data() || error.to_string().starts_with("missing field") {
        return said;
    }
    let line_start = text.split_inclusive(|byte| *byte == b'\n').take(said.0.saturating_sub(1));
    let read = line_start.map(<[u8]>::len).sum::<usize>() + said.1;
    let Some(start) = last_value(text.get(..read).unwrap_or(text)) else { return said };
    let before = &text[..start];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

/// Where the last string, number or word of a text begins that is JSON as far as it goes.
fn last_value(text: &[u8]) -> Option<usize> {
    let (mut last, mut at) = (None, 0);
    while let Some(byte) = text.get(at) {
        let length = match byte {
            b'"' => {
                let mut escaped = false;
                let closes = |byte: &u8| {
                    let closes = *byte == b'"' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    closes
                };
                text[at + 1..].iter().position(closes).map_or(text.len() - at, |length| length + 2)
            }
            b'{' | b'}' | b'[' | b']' | b':' | b',' => 0,
            byte if byte.is_ascii_whitespace() => 0,
            _ => {
                let ends = |byte: &u8| b"{}[]:,\"".contains(byte) || byte.is_ascii_whitespace();
                text[at..].iter().position(ends).unwrap_or(text.len() - at)
            }
        };
        if length > 0 {
            last = Some(at);
        }
        at += length.max(1);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::PortTable;

    #[test]
    fn a_fault_names_file_line_and_column() {
        let text = b"{ \"forwards\": [\n  { \"listen\": 1,\n   \"upstream\": 5 } ] }";
        let error = parse::<PortTable>("ports.json", text).unwrap_err().to_string();
        assert!(error.starts_with("ports.json:3:16: "), "{error}");
    }

    #[test]
    fn a_fault_points_at_the_value_that_is_wrong_whatever_follows_it() {
        for (text, expected) in [
            (r#"{"forwards":[{"listen":70000,"upstream":"a:1"}]}"#, "1:24: expected a port"),
            (r#"{"forwards":[{"upstream":"a:1","listen":70000}]}"#, "1:41: expected a port"),
            ("{\n\"forwards\":[{\n\"listen\":1,\n\"upstream\": \"a:0\"\n\n}\n]\n}", "4:13: expected a port"),
            (
                "{\n\"forwards\":[{\n\"listen\":1,\n\"upstream\": \"a\\\\\\\"\"\n\n}\n]\n}",
                "4:13: expected HOST:PORT",
            ),
            (r#"{"forwards":[{"listen":1,"nick":2}]}"#, "1:26: unknown field"),
            (r#"{"forwards":[{"listen":1,"upstream":"a:1","protocol":"x"}]}"#, "1:54: unknown variant"),
            ("{\"forwards\":[{\"listen\":1\n}]}", "2:1: missing field `upstream`"),
            ("{\"forwards\":[]}", "1:2: expected at least one row"),
            ("{\"forwards\":\n7}", "2:1: expected a list of rows, found integer `7`"),
            ("null", "1:1: expected an object with `forwards`, found null"),
            ("{\"forwards\":[7]}", "1:14: expected a row with `listen` and `upstream`, found integer `7`"),
            ("", "1:1: EOF while parsing a value"),
            ("{\"forwards\":[\n{]}", "2:2: key must be a string"),
            (
                "{\"forwards\":[{\"listen\":1,\"upstream\":\"a:1\"},\n{\"listen\":1,\"upstream\":\"b:1\"}]}",
                "2:24: listener 1",
            ),
        ] {
            let error = parse::<PortTable>("f", text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("f:{expected}")), "{text}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<PortTable>(Path::new("/nonexistent/ports.json")).unwrap_err();
        assert_eq!(error.to_string(), "could not read /nonexistent/ports.json");
    }

    #[test]
    fn a_table_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.json");
        std::fs::write(&path, vec![b' '; MAX_BYTES + 1]).unwrap();
        assert!(matches!(load::<PortTable>(&path), Err(TableError::TooLarge { .. })));
    }
}
