//! The language check: fails on phrases that betray a translated sentence.
//!
//! It reads Markdown files, and of Rust files the doc comments (clap's help among them) and the
//! string literals. It looks at nothing else: identifiers and code comments are not checked. The
//! mark `words: allow` exempts its line.

mod phrases;
mod rust;
mod text;

use std::io;
use std::path::{Path, PathBuf};

use crate::story::Story;
use phrases::{PHRASES, Phrase};
use rust::Prose;
use text::{SEPARATOR, Sentence, Word};

/// Files and folders of the checkout that have been rewritten in plain English, and must stay so.
const SCOPE: &[&str] = &[
    "README.md",
    "SECURITY.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs",
    "fuzz",
    "xtask",
    "crates/forward-load",
    "crates/launcher",
    "crates/memory",
    "crates/ssh-gate/src",
    "crates/testbed",
];

/// Folders that have not been rewritten. When one of them has been, move its line to [`SCOPE`].
#[cfg(test)]
const NOT_YET: &[&str] = &[
    "crates/cred-proxy",
    "crates/guest",
    "crates/sidecar",
    "crates/ssh-gate/tests", // quotes messages of the sidecar crate
    "tests/e2e",
];

/// The list of phrases, which quotes all of them.
const EXCLUDED: &str = "xtask/src/words/phrases.rs";

/// The mark that exempts its line.
const ALLOW: &str = "words: allow";

/// The most words that a `*` matches.
const WILDCARD: usize = 5;

/// Why the check failed.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    /// A file or folder could not be read.
    #[error("could not read `{}`", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// At least one phrase was found.
    #[error("found {count} phrases in {files} files")]
    Found {
        /// The number of phrases.
        count: usize,
        /// The number of files that were read.
        files: usize,
    },
}

/// A phrase in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hit {
    line: usize,
    column: usize,
    found: String,
    instead: &'static str,
}

/// Checks the given paths, or the whole scope, and prints each phrase with its place.
///
/// # Errors
///
/// A path could not be read, or a phrase was found.
pub fn words(root: &Path, paths: &[PathBuf], story: &Story) -> Result<(), WordsError> {
    let scope: Vec<PathBuf> =
        if paths.is_empty() { SCOPE.iter().map(|path| root.join(path)).collect() } else { paths.to_vec() };
    let mut files = Vec::new();
    for path in &scope {
        collect(path, &mut files)?;
    }
    files.retain(|file| !file.ends_with(EXCLUDED));
    files.sort();
    let mut count = 0;
    for file in &files {
        let text = std::fs::read_to_string(file)
            .map_err(|source| WordsError::Read { path: file.clone(), source })?;
        let hits = check(file, &text);
        count += hits.len();
        let name = file.strip_prefix(root).unwrap_or(file).display();
        for Hit { line, column, found, instead } in hits {
            story.line(format_args!("{name}:{line}:{column}: \"{found}\": use {instead} instead"));
        }
    }
    if count > 0 {
        return Err(WordsError::Found { count, files: files.len() });
    }
    story.line(format_args!("no phrases found in {} files", files.len()));
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), WordsError> {
    let cannot = |source| WordsError::Read { path: path.to_path_buf(), source };
    if !path.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let entry = entry.map_err(cannot)?.path();
        let is_text = entry.extension().is_some_and(|extension| extension == "md" || extension == "rs");
        if is_text || entry.is_dir() {
            collect(&entry, files)?;
        }
    }
    Ok(())
}

fn check(file: &Path, text: &str) -> Vec<Hit> {
    let sentences = if file.extension().is_some_and(|extension| extension == "rs") {
        let prose = rust::prose(text).into_iter();
        prose
            .flat_map(|prose| match prose {
                Prose::Doc(doc) => text::markdown(&doc),
                Prose::Literal(literal) => text::message(&literal),
            })
            .collect()
    } else {
        text::markdown(&text::chars(text))
    };
    let lines: Vec<&str> = text.lines().collect();
    let is_allowed = |hit: &Hit| lines.get(hit.line - 1).is_some_and(|line| line.contains(ALLOW));
    let mut hits: Vec<Hit> = sentences.iter().flat_map(hits).collect();
    hits.retain(|hit| !is_allowed(hit));
    hits.sort_by_key(|hit| (hit.line, hit.column));
    hits
}

fn hits(sentence: &Sentence) -> Vec<Hit> {
    let mut found = Vec::new();
    for start in 0..sentence.len() {
        for phrase in PHRASES {
            let Some(length) = length(phrase.words, &sentence[start..]) else { continue };
            if is_exempt(phrase, sentence, start, start + length) {
                continue;
            }
            let words = &sentence[start..start + length];
            let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
            let Word { line, column, .. } = sentence[start];
            found.push(Hit { line, column, found: words.join(" "), instead: phrase.instead });
        }
    }
    found
}

/// Whether a good phrase covers the words from `start` to `end`.
fn is_exempt(phrase: &Phrase, sentence: &Sentence, start: usize, end: usize) -> bool {
    phrase.unless.iter().any(|good| {
        (0..=start).any(|from| length(good, &sentence[from..]).is_some_and(|length| from + length >= end))
    })
}

/// How many of the words a pattern takes from the first on, if it matches there.
fn length(pattern: &str, words: &[Word]) -> Option<usize> {
    let (first, rest) = pattern.split_once(' ').map_or((pattern, None), |(first, rest)| (first, Some(rest)));
    let taken = if first == "*" { 1..=WILDCARD.min(words.len()) } else { 1..=1 };
    taken.into_iter().find_map(|taken| {
        let is_match = first == "*" || words.first().is_some_and(|word| matches(first, word));
        match (is_match, rest) {
            (false, _) => None,
            (true, None) => Some(taken),
            (true, Some(rest)) => length(rest, words.get(taken..)?).map(|more| taken + more),
        }
    })
}

fn matches(alternatives: &str, word: &Word) -> bool {
    let plain = word.text.strip_suffix("'s").unwrap_or(&word.text);
    word.text != SEPARATOR && alternatives.split('|').any(|one| one == word.text || one == plain)
}

#[cfg(test)]
mod tests;
