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
    serde_json::from_slice(text).map_err(|error| TableError::Fault(fault(file, &error)))
}

/// The fault behind a JSON error: its own words, and its place apart from them.
pub fn fault(file: &str, error: &serde_json::Error) -> Fault {
    let said = error.to_string();
    let place = (error.line() > 0).then(|| (error.line(), error.column()));
    let suffix = place.map(|(line, column)| format!(" at line {line} column {column}"));
    let message = suffix.and_then(|suffix| said.strip_suffix(&suffix)).unwrap_or(&said);
    Fault { file: file.to_owned(), place, message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::PortTable;

    #[test]
    fn a_fault_names_file_line_and_column() {
        let text = b"{ \"forwards\": [\n  { \"listen\": 1,\n   \"upstream\": 5 } ] }";
        let error = parse::<PortTable>("ports.json", text).unwrap_err().to_string();
        assert!(error.starts_with("ports.json:3:"), "{error}");
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
