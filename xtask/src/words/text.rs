//! From text to sentences: the words that stay together, each with its place in the file.
//!
//! Markdown is understood only so far as a phrase must not cross a paragraph, a list item or a table
//! cell, and so far as code is not prose.

use std::ops::Range;

/// A character of a file and where it is, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Char {
    pub(super) char: char,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A word in lower case, without the punctuation around it, or a separator within a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Words between two ends of a sentence.
pub(super) type Sentence = Vec<Word>;

/// Replaces inline code and formatted values.
const CODE: char = '\u{fffc}';

/// A comma or a bracket: only `*` matches it.
pub(super) const SEPARATOR: &str = ",";

/// The characters of a text that begins at line 1.
pub(super) fn chars(text: &str) -> Vec<Char> {
    let mut place = (1, 0);
    text.chars()
        .map(|char| {
            place.1 += 1;
            let (line, column) = place;
            if char == '\n' {
                place = (line + 1, 0);
            }
            Char { char, line, column }
        })
        .collect()
}

/// The sentences of a Markdown text.
pub(super) fn markdown(text: &[Char]) -> Vec<Sentence> {
    let mut paragraphs: Vec<Vec<Char>> = vec![Vec::new()];
    let mut is_fenced = false;
    for line in text.split_inclusive(|one| one.char == '\n') {
        let content: String = line.iter().map(|one| one.char).collect();
        let content = content.trim();
        let is_fence = content.starts_with("```");
        is_fenced ^= is_fence;
        let is_table = !is_fenced && content.starts_with('|');
        // Lines of code and rows of a table are not continued.
        let is_apart = is_fenced || is_table || content.is_empty() || is_fence;
        if is_apart || begins_block(content) {
            paragraphs.push(Vec::new());
        }
        if is_table {
            paragraphs.extend(cells(line).map(<[Char]>::to_vec));
        } else if let Some(last) = paragraphs.last_mut().filter(|_| !is_fence) {
            last.extend_from_slice(line);
        }
        if is_apart || content.starts_with('#') {
            paragraphs.push(Vec::new());
        }
    }
    paragraphs
        .into_iter()
        .flat_map(|mut paragraph| {
            hide_code(&mut paragraph);
            hide_targets(&mut paragraph);
            sentences(&paragraph)
        })
        .collect()
}

/// The sentences of a string literal whose escapes are resolved.
pub(super) fn message(text: &[Char]) -> Vec<Sentence> {
    let mut all = Vec::new();
    for line in text.split(|one| one.char == '\n') {
        let mut line = line.to_vec();
        hide_code(&mut line);
        hide_between(&mut line, '{', '}');
        all.extend(sentences(&line));
    }
    all
}

fn begins_block(line: &str) -> bool {
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.starts_with(['#', '>']) || line.starts_with("- ") || line.starts_with("* ") || {
        number.len() < line.len() && number.starts_with(". ")
    }
}

/// The cells of a table's row: a bar within inline code separates nothing.
fn cells(row: &[Char]) -> impl Iterator<Item = &[Char]> {
    let mut is_code = false;
    let mut before = ' ';
    row.split(move |one| {
        is_code ^= one.char == '`';
        let is_bar = one.char == '|' && !is_code && before != '\\';
        before = one.char;
        is_bar
    })
}

/// Replaces `` `code` `` by one word.
fn hide_code(text: &mut [Char]) {
    hide_between(text, '`', '`');
}

/// Replaces the target of a `[link](target)`, and the brackets.
fn hide_targets(text: &mut [Char]) {
    let mut at = 0;
    while at + 1 < text.len() {
        if text[at].char == ']' && text[at + 1].char == '(' {
            let end =
                text[at..].iter().position(|one| one.char == ')').map_or(text.len(), |end| at + end + 1);
            blank(&mut text[at..end], ' ');
        }
        at += 1;
    }
}

fn hide_between(text: &mut [Char], open: char, close: char) {
    let mut from = 0;
    while let Some(Range { start, end }) = between(text, from, open, close) {
        blank(&mut text[start..end], CODE);
        from = end;
    }
}

fn between(text: &[Char], from: usize, open: char, close: char) -> Option<Range<usize>> {
    let start = from + text.get(from..)?.iter().position(|one| one.char == open)?;
    let end = start + 1 + text[start + 1..].iter().position(|one| one.char == close)? + 1;
    Some(start..end)
}

fn blank(text: &mut [Char], by: char) {
    text.iter_mut().for_each(|one| one.char = by);
}

fn sentences(text: &[Char]) -> Vec<Sentence> {
    let mut all = vec![Sentence::new()];
    for raw in text.split(|one| one.char.is_whitespace()).filter(|raw| !raw.is_empty()) {
        let is_inner = |one: &Char| one.char.is_alphanumeric() || one.char == CODE;
        let Some(first) = raw.iter().position(is_inner) else {
            separate(&mut all, raw);
            continue;
        };
        let last = raw.iter().rposition(is_inner).unwrap_or(first);
        separate(&mut all, &raw[..first]);
        let text: String = raw[first..=last].iter().map(|one| one.char).collect();
        let text = text.to_lowercase().replace('\u{2019}', "'");
        let (line, column) = (raw[first].line, raw[first].column);
        if let Some(sentence) = all.last_mut() {
            sentence.push(Word { text, line, column });
        }
        separate(&mut all, &raw[last + 1..]);
    }
    all.retain(|sentence| !sentence.is_empty());
    all
}

/// Ends the sentence at a full stop, or marks a comma.
fn separate(all: &mut Vec<Sentence>, punctuation: &[Char]) {
    let has = |wanted: &[char]| punctuation.iter().find(|one| wanted.contains(&one.char)).copied();
    if has(&['.', ';', ':', '!', '?']).is_some() {
        all.push(Sentence::new());
    } else if let Some(one) = has(&[',', '(', ')', '[', ']', '"', '\u{2013}', '\u{2014}', '='])
        && let Some(sentence) = all.last_mut()
    {
        sentence.push(Word { text: SEPARATOR.to_owned(), line: one.line, column: one.column });
    }
}
