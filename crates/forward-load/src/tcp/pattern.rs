//! The content of every byte that is sent, cheap to make and to check.
//!
//! Words of a fixed pseudo-random sequence whose period is not a power of two, each stream beginning at
//! another place: bytes that were changed, lost, doubled, moved by the size of a buffer or taken
//! from another stream do not match.

use std::sync::OnceLock;

/// A place in the content of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    at: usize,
}

impl Pattern {
    /// The beginning of a stream.
    pub fn of_stream(stream: u32) -> Self {
        Self { at: usize::try_from(u64::from(stream) * 8 * 577 % PERIOD as u64).expect("less than PERIOD") }
    }

    /// The next bytes, at most [`LARGEST`]; the place stays.
    pub fn bytes(&self, count: usize) -> &'static [u8] {
        &content()[self.at..self.at + count.min(LARGEST)]
    }

    /// Moves the place.
    pub fn advance(&mut self, count: usize) {
        self.at = (self.at + count) % PERIOD;
    }

    /// How many of some bytes are not as they should be; the place moves behind them.
    pub fn check(&mut self, bytes: &[u8]) -> u64 {
        let mut bad = 0;
        for piece in bytes.chunks(LARGEST) {
            let right = self.bytes(piece.len());
            if piece != right {
                bad += piece.iter().zip(right).filter(|(is, should)| is != should).count() as u64;
            }
            self.advance(piece.len());
        }
        bad
    }
}

fn content() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| {
        let word = |index: u64| {
            // splitmix64.
            let mut z = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)).to_le_bytes()
        };
        let period = PERIOD as u64 / 8;
        (0..(PERIOD + LARGEST) as u64 / 8).flat_map(|index| word(index % period)).collect()
    })
}

/// As small as a second-level cache, so that checking costs little beside copying.
const PERIOD: usize = 65_528;

/// The most that is at hand at once: what iperf3 writes at once, too.
pub const LARGEST: usize = 131_072;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_it_should_be_passes_in_pieces_of_any_size() {
        let (source, mut check) = (Pattern::of_stream(3), Pattern::of_stream(3));
        let all = source.bytes(LARGEST);
        for piece in [&all[..1], &all[1..70_000], &all[70_000..]] {
            assert_eq!(check.check(piece), 0);
        }
    }

    #[test]
    fn a_changed_a_moved_and_a_foreign_byte_do_not_pass() {
        let mut changed = Pattern::of_stream(1).bytes(100_000).to_vec();
        changed[99_999] ^= 1;
        assert_eq!(Pattern::of_stream(1).check(&changed), 1);
        let moved = &Pattern::of_stream(1).bytes(LARGEST)[65_536..];
        assert!(Pattern::of_stream(1).check(moved) > 60_000);
        assert!(Pattern::of_stream(2).check(Pattern::of_stream(1).bytes(1000)) > 900);
    }
}
