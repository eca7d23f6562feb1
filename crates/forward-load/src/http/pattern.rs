//! The content of large bodies: a pattern that is cheap to send, to check and to sum up.
//!
//! Promises that a byte changed, lost, doubled or moved does not pass the check: the pattern
//! repeats after a prime number of bytes, so that no buffer of a usual size is one period long.

use std::sync::OnceLock;

/// The place in a body, while its content is sent or checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pattern {
    at: usize,
}

/// A sum over content, the same however the content is cut into pieces.
#[derive(Debug, Clone, Default)]
pub struct Checksum {
    sum: u64,
    count: u64,
    word: u64,
}

impl Pattern {
    /// The next at most `most` bytes, as many as are at hand; the place moves behind them.
    pub fn next(&mut self, most: u64) -> &'static [u8] {
        let len = usize::try_from(most).map_or(PIECE, |most| most.min(PIECE));
        let piece = &text()[self.at..self.at + len];
        self.at = (self.at + len) % PERIOD;
        piece
    }

    /// Whether `content` is what comes next; the place moves behind it.
    pub fn matches(&mut self, content: &[u8]) -> bool {
        content.chunks(PIECE).all(|piece| self.next(piece.len() as u64) == piece)
    }
}

impl Checksum {
    /// Adds content.
    pub fn add(&mut self, mut content: &[u8]) {
        while !self.count.is_multiple_of(8) && !content.is_empty() {
            self.add_byte(content[0]);
            content = &content[1..];
        }
        let (words, rest) = content.as_chunks::<8>();
        for word in words {
            self.sum = mix(self.sum, u64::from_le_bytes(*word));
        }
        self.count += words.len() as u64 * 8;
        rest.iter().for_each(|byte| self.add_byte(*byte));
    }

    /// How many bytes were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all content so far.
    pub fn sum(&self) -> u64 {
        mix(mix(self.sum, self.word), self.count)
    }

    /// What the sum of the first `count` bytes of the pattern is.
    pub fn of_pattern(count: u64) -> Self {
        let (mut sum, mut pattern) = (Self::default(), Pattern::default());
        while sum.count < count {
            sum.add(pattern.next(count - sum.count));
        }
        sum
    }

    fn add_byte(&mut self, byte: u8) {
        self.word = self.word << 8 | u64::from(byte);
        self.count += 1;
        if self.count.is_multiple_of(8) {
            self.sum = mix(self.sum, self.word.swap_bytes());
            self.word = 0;
        }
    }
}

/// FNV's step over words in place of bytes, with a rotation so that the high bits come down.
fn mix(sum: u64, word: u64) -> u64 {
    ((sum ^ word).wrapping_mul(0x0000_0100_0000_01b3)).rotate_left(23)
}

/// One period and a piece, so that a piece can begin anywhere in the period.
fn text() -> &'static [u8] {
    static TEXT: OnceLock<Vec<u8>> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let period: Vec<u8> = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_be_bytes()[0]
        })
        .take(PERIOD)
        .collect();
        period.iter().cycle().take(PERIOD + PIECE).copied().collect()
    })
}

/// The largest prime below 64 KiB.
const PERIOD: usize = 65521;

/// What is sent at once: four full TLS records.
const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn body(len: usize) -> Vec<u8> {
        let (mut pattern, mut body) = (Pattern::default(), Vec::new());
        while body.len() < len {
            body.extend_from_slice(pattern.next((len - body.len()) as u64));
        }
        body
    }

    #[test]
    fn a_body_that_was_changed_lost_doubled_or_moved_does_not_pass() {
        let good = body(200_000);
        let matches = |body: &[u8]| {
            body.chunks(7777).all({
                let mut pattern = Pattern::default();
                move |piece| pattern.matches(piece)
            })
        };
        assert!(matches(&good));
        let mut changed = good.clone();
        changed[123_456] ^= 1;
        assert!(!matches(&changed), "changed");
        for size in [1, 4096, 16_384, 65_536] {
            assert!(!matches(&[&good[..70_000], &good[70_000 + size..]].concat()), "{size} lost");
            assert!(!matches(&[&good[..70_000], &good[70_000 - size..]].concat()), "{size} doubled");
        }
    }

    #[test]
    fn a_sum_does_not_depend_on_the_pieces_and_tells_a_change() {
        let good = body(1003);
        let whole = Checksum::of_pattern(1003);
        for size in [1, 2, 7, 8, 9, 64, 1000] {
            let mut sum = Checksum::default();
            good.chunks(size).for_each(|piece| sum.add(piece));
            assert_eq!((sum.sum(), sum.count()), (whole.sum(), 1003), "pieces of {size}");
        }
        for at in [0, 500, 1002] {
            let mut changed = good.clone();
            changed[at] ^= 0x80;
            let mut sum = Checksum::default();
            sum.add(&changed);
            assert_ne!(sum.sum(), whole.sum(), "byte {at}");
        }
        let mut short = Checksum::default();
        short.add(&good[..1002]);
        assert_ne!(short.sum(), whole.sum());
    }
}
