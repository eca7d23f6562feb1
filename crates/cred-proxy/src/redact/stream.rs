//! Redacts bytes that come piece by piece, and lets through at once what need not wait.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    Redaction,
    finder::{Finder, STAR},
    needle::LEAD,
};

/// Replaces each byte of a token by `*` in one stream. For any way that the stream is cut into
/// pieces, what comes out is the redaction of the whole, of the same length.
///
/// A piece without a token and without the beginning of one at its end passes uncopied.
#[derive(Debug)]
pub struct Redactor {
    finder: Arc<Finder>,
    source: Option<(Arc<Redaction>, u64)>,
    held: Held,
    /// Kept for its capacity.
    found: Vec<Range<usize>>,
    redacted: u64,
}

/// Bytes that wait for the next ones, as they came.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// So many of them are of a token that began before them.
    covered: usize,
    /// So many of them went out all the same, because the next ones did not come in time.
    released: usize,
}

impl Redactor {
    /// Redacts what this finds.
    pub fn new(finder: Arc<Finder>) -> Self {
        Self { finder, source: None, held: Held::default(), found: Vec::new(), redacted: 0 }
    }

    /// Redacts a route's tokens, also those that it is given meanwhile.
    pub fn of(redaction: &Arc<Redaction>) -> Self {
        let (finder, version) = redaction.finder();
        Self { source: Some((redaction.clone(), version)), ..Self::new(finder) }
    }

    /// Takes the next bytes and gives those that need not wait, perhaps none.
    pub fn feed(&mut self, piece: Bytes) -> Bytes {
        let all = self.joined(piece);
        let hold = self.scan(&all);
        self.pass(&all, hold)
    }

    /// Takes the last bytes and gives all.
    pub fn feed_last(&mut self, piece: Bytes) -> Bytes {
        let all = self.joined(piece);
        self.scan(&all);
        self.pass(&all, all.len())
    }

    /// Gives all that waits: no more will come.
    pub fn finish(&mut self) -> Bytes {
        self.feed_last(Bytes::new())
    }

    /// Gives what waits because nothing more came for a while. If it was the beginning of a
    /// token, that is redacted from there on.
    pub fn release(&mut self) -> Bytes {
        let all = Bytes::copy_from_slice(&self.held.bytes);
        self.scan(&all);
        let released = std::mem::replace(&mut self.held.released, all.len());
        self.masked(&all, released..all.len())
    }

    /// How many bytes wait.
    pub fn waiting(&self) -> usize {
        self.held.bytes.len() - self.held.released
    }

    /// Whether so few wait that they are more likely a word's end than a token's beginning.
    pub fn waits_by_chance(&self) -> bool {
        self.held.bytes.len() <= LEAD
    }

    /// How many bytes were redacted.
    pub fn redacted(&self) -> u64 {
        self.redacted
    }

    fn joined(&mut self, piece: Bytes) -> Bytes {
        self.refresh();
        if self.held.bytes.is_empty() {
            return piece;
        }
        Bytes::from([&self.held.bytes[..], &piece].concat())
    }

    fn scan(&mut self, all: &[u8]) -> usize {
        self.found.clear();
        if self.held.covered > 0 {
            self.found.push(0..self.held.covered);
        }
        self.finder.scan(all, &mut self.found)
    }

    /// Gives what is before `hold` and has not gone out, and keeps the rest.
    fn pass(&mut self, all: &Bytes, hold: usize) -> Bytes {
        let begun = self.found.iter().filter(|range| range.start < hold).map(|range| range.end);
        let covered = begun.max().unwrap_or(0).max(self.held.covered).saturating_sub(hold);
        let out = self.masked(all, self.held.released..hold);
        self.held.bytes.clear();
        self.held.bytes.extend_from_slice(&all[hold..]);
        self.held.covered = covered;
        self.held.released = self.held.released.saturating_sub(hold);
        out
    }

    fn masked(&mut self, all: &Bytes, range: Range<usize>) -> Bytes {
        if range.is_empty() {
            return Bytes::new();
        }
        let out = all.slice(range.clone());
        if self.found.iter().all(|found| found.end <= range.start || found.start >= range.end) {
            return out;
        }
        let mut out = out.to_vec();
        self.found.sort_unstable_by_key(|found| found.start);
        let mut from = range.start;
        for found in &self.found {
            let (begin, end) = (found.start.max(from), found.end.min(range.end));
            if begin < end {
                out[begin - range.start..end - range.start].fill(STAR);
                self.redacted += (end - begin) as u64;
                from = end;
            }
        }
        out.into()
    }

    fn refresh(&mut self) {
        if let Some((redaction, version)) = &mut self.source
            && redaction.version() != *version
        {
            (self.finder, *version) = redaction.finder();
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}
