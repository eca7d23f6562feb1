//! Text for a terminal: whatever is written into it is escaped, so that no name, path, image or
//! message can steer the terminal or forge a line.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::Serializer;
use sidecar::exit::{escape, steers};

/// Lines to print. Each is escaped as a whole: only this type ends one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lines(String);

impl Lines {
    /// Adds a line.
    pub(crate) fn line(&mut self, content: impl Display) -> &mut Self {
        self.0.push_str(&escape(&content.to_string()));
        self.0.push('\n');
        self
    }

    /// Adds a line that begins with a label in a column of its own.
    pub(crate) fn row(&mut self, label: &str, content: impl Display) -> &mut Self {
        self.line(format_args!("{label:<COLUMN$}{content}"))
    }

    /// Adds a line below a row.
    pub(crate) fn detail(&mut self, content: impl Display) -> &mut Self {
        self.line(format_args!("{:<COLUMN$}  {content}", ""))
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no line.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The width of a row's label.
const COLUMN: usize = 11;

/// One line.
pub(crate) fn line(content: impl Display) -> Lines {
    let mut lines = Lines::default();
    lines.line(content);
    lines
}

/// A table with its head, as wide as its cells. A cell cannot begin a line or a column.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> Lines {
    let mut cells = vec![head.map(str::to_owned)];
    cells.extend(rows.into_iter().map(|row| row.map(|cell| escape(&cell))));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let mut lines = Lines::default();
    for row in &cells {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{cell:width$}  ");
        }
        // The cells are escaped already: escaping the line would write their backslashes twice if it did.
        lines.line(text.trim_end());
    }
    lines
}

/// A path as text: bytes that are not UTF-8 are written as `\xff`, so that two paths stay two.
pub(crate) fn path(path: &Path) -> Cow<'_, str> {
    if let Some(text) = path.to_str() {
        return text.into();
    }
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.into()
}

/// Serializes a path as [`path`] writes it.
pub(crate) fn serialize_path<S: Serializer>(of: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path(of))
}

/// JSON whose strings cannot steer a terminal either: what JSON leaves raw is written as `\uXXXX`.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    let plain = serde_json::to_string_pretty(value)?;
    let mut text = String::with_capacity(plain.len() + 1);
    for c in plain.chars() {
        if c != '\n' && steers(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_forge_a_line_nor_steer_the_terminal() {
        let mut lines = Lines::default();
        lines.row("ssh", "k\u{1b}[2A\nwarning    none").line("a\u{9b}2J\u{202e}b\r");
        assert_eq!(lines.as_str(), "ssh        k\\u{1b}[2A\\nwarning    none\na\\u{9b}2J\\u{202e}b\\r\n");
    }

    #[test]
    fn a_cell_stays_in_its_row() {
        let text = table(["NAME", "AGE"], [["a\nb".to_owned(), "1s".to_owned()], ["c".into(), "2s".into()]]);
        assert_eq!(text.as_str(), "NAME  AGE\na\\nb  1s\nc     2s\n");
    }

    #[test]
    fn json_stays_json_and_loses_what_steers() {
        let text = json(&["a\u{9b}b\u{202e}c\n"]).unwrap();
        assert_eq!(text, "[\n  \"a\\u009bb\\u202ec\\n\"\n]\n");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), ["a\u{9b}b\u{202e}c\n"]);
    }
}
