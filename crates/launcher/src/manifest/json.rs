//! JSON as it was written: every value with its place, every key in its order, none lost.
//!
//! serde_json forgets where a value began and which key came twice, and its errors speak of Rust's
//! types. This reader accepts what serde_json accepts (a test compares them), with a lower bound for
//! nesting, and never quotes the text: any of it may be a secret.

/// A value, and the byte where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub at: usize,
    pub value: Value,
}

/// A JSON value. Numbers stay as they were written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

/// A key, the byte where it begins, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub key: String,
    pub at: usize,
    pub value: Node,
}

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// The byte it is about.
    pub at: usize,
    pub message: String,
    pub hint: Option<&'static str>,
}

/// A manifest needs nine levels. The bound keeps recursion off the stack's end.
pub(super) const MAX_DEPTH: usize = 64;

const NO_COMMENTS: &str = "JSON has no comments";

/// Line and column, from 1, in characters, of a byte of the text.
pub(super) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Reads one JSON value and nothing behind it.
pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let node = reader.value()?;
    match reader.next()? {
        None => Ok(node),
        Some(_) => Err(reader.error("unexpected text after the end of the JSON value")),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { at: self.at, message: message.into(), hint: None }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space.
    fn next(&mut self) -> Result<Option<u8>, SyntaxError> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(b"//") || rest.starts_with(b"/*") || rest.starts_with(b"#") {
            return Err(self.error(NO_COMMENTS));
        }
        Ok(rest.first().copied())
    }

    fn value(&mut self) -> Result<Node, SyntaxError> {
        let found = self.next()?;
        let at = self.at;
        let value = match found {
            Some(b'{') => self.nested(Self::object)?,
            Some(b'[') => self.nested(Self::array)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'+' | b'.' | b'0'..=b'9') => self.number()?,
            Some(b'\'') => return Err(self.error("JSON strings are in double quotes")),
            Some(b',' | b'}' | b']') => return Err(self.error("expected a value")),
            Some(_) => self.word()?,
            None => return Err(self.error("expected a value, found the end of the file")),
        };
        Ok(Node { at, value })
    }

    fn nested(
        &mut self,
        read: fn(&mut Self, usize) -> Result<Value, SyntaxError>,
    ) -> Result<Value, SyntaxError> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let open = self.at;
        self.depth += 1;
        self.at += 1;
        let value = read(self, open)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self, open: usize) -> Result<Value, SyntaxError> {
        let mut members = Vec::new();
        if !self.closes(b'}')? {
            loop {
                let at = match self.next()? {
                    Some(b'"') => self.at,
                    Some(_) => return Err(self.error("expected a key in double quotes")),
                    None => return Err(self.unclosed("object", open)),
                };
                let key = self.string()?;
                if self.next()? != Some(b':') {
                    return Err(self.error("expected `:` after the key"));
                }
                self.at += 1;
                members.push(Member { key, at, value: self.value()? });
                if !self.continues(b'}', "object", open)? {
                    break;
                }
            }
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self, open: usize) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        if !self.closes(b']')? {
            loop {
                items.push(self.value()?);
                if !self.continues(b']', "array", open)? {
                    break;
                }
            }
        }
        Ok(Value::Array(items))
    }

    /// Whether the next byte is this closing one; it is then behind us.
    fn closes(&mut self, close: u8) -> Result<bool, SyntaxError> {
        let closes = self.next()? == Some(close);
        self.at += usize::from(closes);
        Ok(closes)
    }

    /// Whether a comma leads to one more item. A comma before the closing byte is an error of its own.
    fn continues(&mut self, close: u8, what: &str, open: usize) -> Result<bool, SyntaxError> {
        if self.closes(close)? {
            return Ok(false);
        }
        let comma = self.at;
        match self.byte() {
            Some(b',') => self.at += 1,
            Some(_) => {
                return Err(SyntaxError {
                    hint: Some("a comma may be missing before this place"),
                    ..self.error(format!("expected `,` or `{}`", char::from(close)))
                });
            }
            None => return Err(self.unclosed(what, open)),
        }
        match self.next()? {
            Some(byte) if byte == close => Err(SyntaxError {
                at: comma,
                message: format!("trailing comma before `{}`", char::from(close)),
                hint: Some("remove the comma: JSON allows none after the last item"),
            }),
            None => Err(self.unclosed(what, open)),
            Some(_) => Ok(true),
        }
    }

    fn unclosed(&self, what: &str, open: usize) -> SyntaxError {
        let (line, column) = place(self.text, open);
        self.error(format!(
            "unexpected end of the file: the {what} that begins at {line}:{column} is not closed"
        ))
    }

    fn word(&mut self) -> Result<Value, SyntaxError> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let value = match &rest[..end] {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => {
                return Err(SyntaxError {
                    hint: Some("strings are in double quotes; the only bare words are true, false and null"),
                    ..self.error("expected a value")
                });
            }
        };
        self.at += end;
        Ok(value)
    }

    /// RFC 8259 section 6.
    fn number(&mut self) -> Result<Value, SyntaxError> {
        let rest = &self.text.as_bytes()[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let (text, start) = (&self.text[self.at..self.at + length], self.at);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, "0"), |(m, e)| (m, e));
        let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        let finite = text.parse::<f64>().is_ok_and(f64::is_finite);
        if !digits(whole) || leading_zero || !digits(fraction) || !digits(exponent) || !finite {
            return Err(SyntaxError { at: start, message: "invalid number".to_owned(), hint: None });
        }
        self.at += length;
        Ok(Value::Number(text.to_owned()))
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        let open = self.at;
        self.at += 1;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let end = rest.find(|c: char| c == '"' || c == '\\' || c < ' ');
            let Some(end) = end else {
                return Err(SyntaxError { at: open, ..self.error("the string is not closed") });
            };
            string.push_str(&rest[..end]);
            self.at += end;
            match rest.as_bytes()[end] {
                b'"' => {
                    self.at += 1;
                    return Ok(string);
                }
                b'\\' => string.push(self.escape()?),
                b'\n' | b'\r' => return Err(self.error("line break in a string: write \\n, or close it")),
                _ => return Err(self.error("control character in a string: write it as \\u00XX")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let invalid = self.error("invalid escape in a string");
        let kind = self.text.as_bytes().get(self.at + 1).copied();
        self.at += 2;
        Ok(match kind {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex().ok_or_else(|| invalid.clone())?;
                // Characters beyond U+FFFF are two escapes, a high and a low surrogate.
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first).ok_or(invalid);
                }
                if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                    return Err(invalid);
                }
                self.at += 2;
                let second = self.hex().filter(|low| (0xdc00..0xe000).contains(low));
                let second = second.ok_or_else(|| invalid.clone())?;
                char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or(invalid)?
            }
            _ => return Err(invalid),
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }
}

#[cfg(test)]
mod tests;
