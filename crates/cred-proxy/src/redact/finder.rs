//! Finds every form of some tokens in bytes, and tells which bytes must wait for the next ones.

use std::{fmt, ops::Range};

use aho_corasick::{Span, packed};

use super::{
    escape::{self, Escape},
    needle::{LEAD, Needle, Walk},
    secret::Secret,
};

/// The forms of a route's tokens. Its `Debug` tells their number only.
pub struct Finder {
    needles: Vec<Needle>,
    /// Finds leads and escapes, each on its own: two searches for a few texts of one length are
    /// faster than one. `None`: this processor cannot, or they are too many.
    fast: Option<[packed::Searcher; 2]>,
    /// By their first two bytes, one bit each: the slower way.
    pairs: Vec<u64>,
    /// In which of the first places of any needle a byte may stand, one bit each.
    leading: [u8; 256],
    /// Bytes that a form may go on with, the same for most tokens.
    usual: [bool; 256],
    wide: bool,
    shortest: usize,
    longest: usize,
    /// The tokens in lower case, which is how a field's name would carry one.
    names: Vec<Secret>,
}

impl Finder {
    /// Looks for these.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let mut needles = Vec::new();
        let mut names = Vec::new();
        for secret in secrets {
            let token = secret.token();
            needles.push(Needle::raw(token));
            needles.extend((0..3).map(|before| Needle::base64(token.as_bytes(), before)));
            if let Some(pair) = secret.pair() {
                needles.push(Needle::base64(pair.as_bytes(), 0));
            }
            names.push(secret.in_lower_case());
        }
        let mut finder = Self {
            fast: None,
            pairs: vec![0; 1 << 10],
            leading: [0; 256],
            usual: std::array::from_fn(|b| u8::try_from(b).is_ok_and(is_usual)),
            wide: needles.iter().any(Needle::is_wide),
            shortest: needles.iter().map(|needle| needle.elements().len()).min().unwrap_or(0),
            longest: needles.iter().map(Needle::longest).max().unwrap_or(0),
            needles,
            names,
        };
        for needle in &finder.needles {
            for (place, element) in needle.elements().iter().enumerate() {
                for byte in element.bytes() {
                    finder.usual[usize::from(*byte)] = true;
                    if place < LEAD {
                        finder.leading[usize::from(*byte)] |= 1 << place;
                    }
                }
            }
        }
        let (leads, escapes) = (finder.leads(), finder.escapes());
        for text in leads.iter().chain(&escapes) {
            let pair = pair(text[0], text[1]);
            finder.pairs[pair / 64] |= 1 << (pair % 64);
        }
        let searcher = packed::Searcher::new;
        finder.fast = searcher(leads).zip(searcher(escapes)).map(Into::into);
        finder
    }

    /// The first bytes of each needle.
    fn leads(&self) -> Vec<Vec<u8>> {
        let mut leads = Vec::new();
        for needle in &self.needles {
            let mut texts = vec![Vec::new()];
            for element in needle.elements().iter().take(LEAD) {
                let longer =
                    |b: &u8| texts.iter().map(|text| [&text[..], &[*b]].concat()).collect::<Vec<_>>();
                texts = element.bytes().iter().flat_map(longer).collect();
            }
            leads.extend(texts);
        }
        sorted(leads)
    }

    /// The first two bytes of each escape of one of the first bytes of a needle.
    fn escapes(&self) -> Vec<Vec<u8>> {
        let mut escapes = vec![b"\\u".to_vec()];
        for byte in (0..=u8::MAX).filter(|b| self.leading[usize::from(*b)] != 0) {
            let digit = b"0123456789abcdef"[usize::from(byte >> 4)];
            escapes.extend([vec![b'%', digit], vec![b'%', digit.to_ascii_uppercase()]]);
            if escape::is_after_backslash(byte) {
                escapes.push(vec![b'\\', byte]);
            }
        }
        sorted(escapes)
    }

    #[cfg(test)]
    pub(super) fn without_fast_search(mut self) -> Self {
        self.fast = None;
        self
    }

    /// The most bytes that are ever held back.
    pub fn longest_held(&self) -> usize {
        self.longest.saturating_sub(1)
    }

    /// Adds where tokens stand to `found`, in no order, and tells from which byte on all must
    /// wait: a token may begin there whose end has not come.
    ///
    /// # Security
    ///
    /// What waits can be seen from outside. If it were exactly what agrees with the token so far,
    /// a caller who can make an upstream send a text of its choice would learn the token byte by
    /// byte. So beyond the first three bytes it does not matter how the text goes on, as long
    /// as it is of letters, digits and the like.
    pub fn scan(&self, bytes: &[u8], found: &mut Vec<Range<usize>>) -> usize {
        let mut scan = Scan { finder: self, bytes, found, tail: None, hold: bytes.len() };
        match &self.fast {
            Some(fast) => fast.iter().for_each(|fast| {
                let mut at = 0;
                while let Some(found) = fast.find_in(bytes, Span::from(at..bytes.len())) {
                    scan.consider_around(found.start());
                    at = found.start() + 1;
                }
            }),
            None => self.scan_pairs(&mut scan),
        }
        // Here a needle's first bytes, or an escape among them, may be cut.
        (bytes.len().saturating_sub(LEAD)..bytes.len()).for_each(|from| scan.consider(from));
        scan.hold
    }

    fn scan_pairs(&self, scan: &mut Scan<'_>) {
        for (from, window) in scan.bytes.windows(2).enumerate() {
            let pair = pair(window[0], window[1]);
            if self.pairs[pair / 64] >> (pair % 64) & 1 == 1 {
                scan.consider_around(from);
            }
        }
    }

    /// Whether a byte may stand in this one of the first places.
    fn may_lead(&self, place: usize, byte: u8) -> bool {
        self.leading[usize::from(byte)] >> place & 1 == 1
    }

    /// `bytes`, a whole text, with `*` for each byte of a token. `None`: there is none in it.
    pub fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if bytes.len() < self.shortest {
            return None;
        }
        let mut found = Vec::new();
        self.scan(bytes, &mut found);
        if found.is_empty() {
            return None;
        }
        let mut redacted = bytes.to_vec();
        found.into_iter().for_each(|range| redacted[range].fill(STAR));
        Some(redacted)
    }

    /// Whether a field's name, which is in lower case, holds a token.
    pub fn is_in_name(&self, name: &str) -> bool {
        self.names.iter().any(|token| name.contains(token.token()))
    }
}

struct Scan<'a> {
    finder: &'a Finder,
    bytes: &'a [u8],
    found: &'a mut Vec<Range<usize>>,
    /// Where the bytes begin that end in nothing but usual ones.
    tail: Option<usize>,
    hold: usize,
}

impl Scan<'_> {
    /// Looks whether a token begins here, or a little before if this is an escape.
    fn consider_around(&mut self, at: usize) {
        self.consider(at);
        let value = match escape::read(self.bytes, at) {
            Escape::None => return,
            Escape::Cut(_) => None,
            Escape::Whole { value, .. } => u8::try_from(value).ok(),
        };
        for place in 1..LEAD.min(at + 1) {
            let from = at - place;
            let finder = self.finder;
            let before = self.bytes[from..at].iter().enumerate();
            if value.is_none_or(|value| finder.wide || finder.may_lead(place, value))
                && before.into_iter().all(|(place, byte)| finder.may_lead(place, *byte))
            {
                self.consider(from);
            }
        }
    }

    /// Looks whether a token begins here.
    fn consider(&mut self, from: usize) {
        let first = self.bytes[from];
        let escape = if escape::begins(first) { escape::read(self.bytes, from) } else { Escape::None };
        let mut all = Walk::default();
        for needle in &self.finder.needles {
            if !needle.may_begin(first, &escape) {
                continue;
            }
            let walk = needle.walk(self.bytes, from);
            all.end = all.end.max(walk.end);
            all.open |= walk.open;
            all.led |= walk.led;
        }
        if let Some(end) = all.end {
            self.found.push(from..end);
        }
        if from < self.hold && (all.open || (all.led && all.end.is_none() && from >= self.tail())) {
            self.hold = from;
        }
    }

    fn tail(&mut self) -> usize {
        let (bytes, usual) = (self.bytes, &self.finder.usual);
        let first = bytes.len().saturating_sub(self.finder.longest_held());
        *self.tail.get_or_insert_with(|| {
            let unusual = bytes[first..].iter().rposition(|b| !usual[usize::from(*b)]);
            unusual.map_or(first, |at| first + at + 1)
        })
    }
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finder").field("tokens", &self.names.len()).finish_non_exhaustive()
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

fn sorted(mut texts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// Of what tokens and their escapes are made. A line's end, a space, a quote or a bracket is not
/// among them: an event that ends in one never waits.
fn is_usual(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=%\\".contains(&byte)
}

/// What stands for each byte of a token.
pub(super) const STAR: u8 = b'*';
