//! Escapes in which APIs quote what they were sent: `%XX` of URLs, `\uXXXX` and `\/` of JSON.

use std::ops::RangeInclusive;

/// What stands where an escape may begin.
#[derive(Debug, PartialEq)]
pub(super) enum Escape {
    /// No escape.
    None,
    /// The bytes end within one that may yet become any of these.
    Cut(RangeInclusive<u16>),
    /// An escape, and how many bytes it takes.
    Whole {
        /// A byte, or a unit of UTF-16.
        value: u16,
        /// From the first byte on.
        length: usize,
    },
}

/// Whether an escape may begin with this byte.
pub(super) fn begins(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\')
}

/// Whether this byte stands for itself after a backslash. JSON has `"`, `\` and `/` so, other
/// languages whatever is no letter.
pub(super) fn is_after_backslash(byte: u8) -> bool {
    byte.is_ascii_punctuation() || byte == b' '
}

/// Reads the escape at `place`.
pub(super) fn read(bytes: &[u8], place: usize) -> Escape {
    match (bytes.get(place), bytes.get(place + 1)) {
        (Some(b'%'), _) => digits(bytes, place + 1, 2, 1),
        (Some(b'\\'), Some(b'u')) => digits(bytes, place + 2, 4, 2),
        (Some(b'\\'), Some(byte)) if is_after_backslash(*byte) => {
            Escape::Whole { value: u16::from(*byte), length: 2 }
        }
        (Some(b'\\'), None) => Escape::Cut(0..=u16::MAX),
        _ => Escape::None,
    }
}

/// Reads `count` hex digits that stand after `before` other bytes.
fn digits(bytes: &[u8], place: usize, count: usize, before: usize) -> Escape {
    let mut value = 0;
    for n in 0..count {
        let Some(byte) = bytes.get(place + n) else {
            let open = 4 * (count - n);
            // With every digit open any value is possible, and `1 << 16` would be none of `u16`.
            let first = u32::from(value) << open;
            let last = first + (1 << open) - 1;
            return Escape::Cut(saturated(first)..=saturated(last));
        };
        let Some(digit) = char::from(*byte).to_digit(16) else { return Escape::None };
        value = value << 4 | saturated(digit);
    }
    Escape::Whole { value, length: before + count }
}

fn saturated(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// The longest escape of one byte: `\u00XX`.
pub(super) const LONGEST: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_whole_or_cut() {
        for (bytes, expected) in [
            ("%41", Escape::Whole { value: 0x41, length: 3 }),
            ("%c3x", Escape::Whole { value: 0xc3, length: 3 }),
            ("%4", Escape::Cut(0x40..=0x4f)),
            ("%", Escape::Cut(0..=0xff)),
            ("%4g", Escape::None),
            ("\\u0041", Escape::Whole { value: 0x41, length: 6 }),
            ("\\uD83Dx", Escape::Whole { value: 0xd83d, length: 6 }),
            ("\\u004", Escape::Cut(0x40..=0x4f)),
            ("\\u", Escape::Cut(0..=0xffff)),
            ("\\", Escape::Cut(0..=0xffff)),
            ("\\/", Escape::Whole { value: 0x2f, length: 2 }),
            ("\\n", Escape::None),
            ("\\u00x1", Escape::None),
            ("a", Escape::None),
            ("", Escape::None),
        ] {
            assert_eq!(read(bytes.as_bytes(), 0), expected, "{bytes}");
        }
    }
}
