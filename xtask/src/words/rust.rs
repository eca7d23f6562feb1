//! The prose of a Rust file: doc comments and string literals. Code, other comments, characters and
//! byte strings are passed over.

use super::text::{Char, chars};

/// A piece of prose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Prose {
    /// Doc comments on consecutive lines, without their slashes.
    Doc(Vec<Char>),
    /// A string literal, its escapes resolved.
    Literal(Vec<Char>),
}

/// Finds every piece of prose in a file.
pub(super) fn prose(file: &str) -> Vec<Prose> {
    let mut lexer = Lexer { chars: chars(file), at: 0, found: Vec::new() };
    while lexer.at < lexer.chars.len() {
        lexer.step();
    }
    lexer.found
}

struct Lexer {
    chars: Vec<Char>,
    at: usize,
    found: Vec<Prose>,
}

impl Lexer {
    fn step(&mut self) {
        match self.peek(0) {
            Some('/') if self.peek(1) == Some('/') => self.line_comment(),
            Some('/') if self.peek(1) == Some('*') => self.block_comment(),
            Some('"') => {
                self.at += 1;
                let literal = self.literal();
                self.found.push(Prose::Literal(literal));
            }
            Some('\'') => self.character(),
            Some(first) if first.is_alphabetic() || first == '_' => self.word(),
            _ => self.at += 1,
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).map(|one| one.char)
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, char)| self.peek(ahead) == Some(char))
    }

    fn line_comment(&mut self) {
        let is_doc = (self.starts_with("///") && !self.starts_with("////")) || self.starts_with("//!");
        let end = self.chars[self.at..].iter().position(|one| one.char == '\n');
        let end = end.map_or(self.chars.len(), |end| self.at + end + 1);
        if is_doc {
            let line = &self.chars[self.at + 3..end];
            let first = self.chars[self.at].line;
            match self.found.last_mut() {
                Some(Prose::Doc(doc)) if doc.last().is_some_and(|last| last.line + 1 == first) => {
                    doc.extend_from_slice(line);
                }
                _ => self.found.push(Prose::Doc(line.to_vec())),
            }
        }
        self.at = end;
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            if self.starts_with("/*") {
                depth += 1;
                self.at += 2;
            } else if self.starts_with("*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += 1;
            }
        }
    }

    /// A character literal, or a lifetime.
    fn character(&mut self) {
        if self.peek(1) == Some('\\') {
            // The escaped character may itself be a quote.
            self.at += 3;
            while self.peek(0).is_some_and(|char| char != '\'') {
                self.at += 1;
            }
            self.at += 1;
        } else if self.peek(2) == Some('\'') {
            self.at += 3;
        } else {
            self.at += 1;
        }
    }

    /// An identifier, or the prefix of a literal.
    fn word(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|char| char.is_alphanumeric() || char == '_') {
            self.at += 1;
        }
        let word: String = self.chars[start..self.at].iter().map(|one| one.char).collect();
        match (word.as_str(), self.peek(0)) {
            ("r" | "br" | "cr", Some('"' | '#')) => self.raw(word == "r"),
            ("b", Some('\'')) => self.character(),
            ("b" | "c", Some('"')) => {
                self.at += 1;
                self.literal();
            }
            _ => {}
        }
    }

    /// A raw literal from its first `#` or quote on, or a raw identifier.
    fn raw(&mut self, is_text: bool) {
        let hashes = self.chars[self.at..].iter().take_while(|one| one.char == '#').count();
        if self.peek(hashes) != Some('"') {
            self.at += hashes;
            return;
        }
        let start = self.at + hashes + 1;
        let close = format!("\"{}", "#".repeat(hashes));
        self.at = start;
        while self.at < self.chars.len() && !self.starts_with(&close) {
            self.at += 1;
        }
        if is_text {
            let literal = self.chars[start..self.at.min(self.chars.len())].to_vec();
            self.found.push(Prose::Literal(literal));
        }
        self.at += close.len();
    }

    /// The text of a literal whose opening quote is behind us.
    fn literal(&mut self) -> Vec<Char> {
        let mut text = Vec::new();
        while let Some(one) = self.chars.get(self.at).copied() {
            self.at += 1;
            match one.char {
                '"' => break,
                '\\' => {
                    let escaped = self.peek(0);
                    self.at += 1;
                    match escaped {
                        // The line goes on behind the white space of the next one.
                        Some('\n') => {
                            while self.peek(0).is_some_and(char::is_whitespace) {
                                self.at += 1;
                            }
                        }
                        Some('n') => text.push(Char { char: '\n', ..one }),
                        Some('"') => text.push(Char { char: '"', ..one }),
                        Some('t' | 'r' | '0') => text.push(Char { char: ' ', ..one }),
                        _ => text.push(Char { char: 'x', ..one }),
                    }
                }
                _ => text.push(one),
            }
        }
        text
    }
}
