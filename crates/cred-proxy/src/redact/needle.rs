//! One text that an echoed token may stand as, and the walk that recognises it, however escaped.

use zeroize::Zeroize;

use super::escape::{self, Escape};

/// A text to be found. Each of its bytes may stand raw, as `%XX`, as `\u00XX` or after a
/// backslash, and none like its neighbour.
pub(super) struct Needle {
    elements: Vec<Element>,
    /// Characters beyond ASCII, by the place of their first byte: JSON escapes them whole.
    wide: Vec<(usize, char)>,
}

/// What may stand in one place of a needle.
#[derive(Clone, Copy)]
pub(super) struct Element {
    bytes: [u8; MOST],
    count: usize,
}

/// What a walk from one place found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Walk {
    /// Where the longest occurrence ends.
    pub(super) end: Option<usize>,
    /// Whether the bytes ended before it was clear whether there is a longer one.
    pub(super) open: bool,
    /// Whether the first [`LEAD`] bytes are here.
    pub(super) led: bool,
}

impl Needle {
    /// The text as it stands.
    pub(super) fn raw(text: &str) -> Self {
        // A form of a web page writes a space as `+`.
        let element = |b| if b == b' ' { Element::of(b" +") } else { Element::of(&[b]) };
        let wide = text.char_indices().filter(|(_, c)| !c.is_ascii()).collect();
        Self { elements: text.bytes().map(element).collect(), wide }
    }

    /// The part of a base64 text that `bytes` alone decide when `before` bytes stand in front of
    /// them, in either alphabet. The last character is there too where they decide a part of it.
    pub(super) fn base64(bytes: &[u8], before: usize) -> Self {
        let bit = |at: usize| bytes[at / 8 - before] >> (7 - at % 8) & 1;
        let (begin, end) = (before * 8, (before + bytes.len()) * 8);
        let characters = begin.div_ceil(6)..end.div_ceil(6);
        let element = |at: usize| {
            let known = (at * 6..end.min(at * 6 + 6)).fold(0, |value, at| value << 1 | bit(at));
            let unknown = (at * 6 + 6).saturating_sub(end);
            let mut element = Element::of(&[]);
            for rest in 0..1 << unknown {
                match ALPHABET.get(usize::from(known << unknown | rest)) {
                    Some(b'+') => element.extend(b"+-"),
                    Some(b'/') => element.extend(b"/_"),
                    Some(b) => element.extend(&[*b]),
                    None => {}
                }
            }
            element
        };
        Self { elements: characters.map(element).collect(), wide: Vec::new() }
    }

    /// What stands in its places.
    pub(super) fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// Whether it holds characters beyond ASCII.
    pub(super) fn is_wide(&self) -> bool {
        !self.wide.is_empty()
    }

    /// The length of its longest form.
    pub(super) fn longest(&self) -> usize {
        self.elements.len() * escape::LONGEST
    }

    /// Whether it may begin with this byte, and with what that escapes.
    pub(super) fn may_begin(&self, first: u8, escape: &Escape) -> bool {
        let Some(element) = self.elements.first() else { return false };
        element.has(first)
            || match escape {
                Escape::None => false,
                Escape::Cut(_) => true,
                Escape::Whole { value, .. } => {
                    u8::try_from(*value).is_ok_and(|value| element.has(value)) || self.is_wide()
                }
            }
    }

    /// Follows `bytes` from `from` in every way that this text can be read there.
    pub(super) fn walk(&self, bytes: &[u8], from: usize) -> Walk {
        let mut walk = Walk::default();
        let (mut at, mut place) = (0, from);
        // Where a byte can be read in two ways (a raw `%` or one that escapes), the other way.
        let mut later: Vec<(usize, usize)> = Vec::new();
        let mut taken = 0;
        loop {
            // The common way first: bytes that stand for themselves only.
            while let (Some(element), Some(byte)) = (self.elements.get(at), bytes.get(place))
                && element.has(*byte)
                && !escape::begins(*byte)
            {
                (at, place) = (at + 1, place + 1);
            }
            let mut next = None;
            self.steps(bytes, at, place, &mut walk, |step| match next {
                None => next = Some(step),
                Some(_) if later.contains(&step) => {}
                Some(_) => later.push(step),
            });
            match next {
                Some(step) => (at, place) = step,
                None => match later.get(taken) {
                    Some(step) => {
                        (at, place) = *step;
                        taken += 1;
                    }
                    None => return walk,
                },
            }
        }
    }

    /// The steps from one place of the text at one place of the bytes.
    fn steps(
        &self,
        bytes: &[u8],
        at: usize,
        place: usize,
        walk: &mut Walk,
        mut step: impl FnMut((usize, usize)),
    ) {
        walk.led |= at >= LEAD;
        let Some(element) = self.elements.get(at) else {
            walk.end = walk.end.max(Some(place));
            return;
        };
        let Some(byte) = bytes.get(place) else {
            walk.open = true;
            return;
        };
        if element.has(*byte) {
            step((at + 1, place + 1));
        }
        if !escape::begins(*byte) {
            return;
        }
        match escape::read(bytes, place) {
            Escape::None => {}
            Escape::Cut(possible) => walk.open |= element.any_in(&possible) || self.wide_in(at, &possible),
            Escape::Whole { value, length } => {
                if u8::try_from(value).is_ok_and(|value| element.has(value)) {
                    step((at + 1, place + length));
                }
                self.wide_step(bytes, at, place, walk, step);
            }
        }
    }

    /// A character beyond ASCII, as JSON escapes it: one unit of UTF-16, or two.
    fn wide_step(
        &self,
        bytes: &[u8],
        at: usize,
        mut place: usize,
        walk: &mut Walk,
        mut step: impl FnMut((usize, usize)),
    ) {
        let Some(character) = self.wide_at(at) else { return };
        for unit in character.encode_utf16(&mut [0; 2]) {
            match escape::read(bytes, place) {
                Escape::Whole { value, length } if value == *unit && bytes[place] == b'\\' => place += length,
                Escape::Cut(possible) if possible.contains(unit) => return walk.open = true,
                // The bytes ended between two units.
                Escape::None if place == bytes.len() => return walk.open = true,
                _ => return,
            }
        }
        step((at + character.len_utf8(), place));
    }

    fn wide_at(&self, at: usize) -> Option<char> {
        self.wide.iter().find(|(place, _)| *place == at).map(|(_, character)| *character)
    }

    fn wide_in(&self, at: usize, possible: &std::ops::RangeInclusive<u16>) -> bool {
        let first = self.wide_at(at).map(|character| character.encode_utf16(&mut [0; 2])[0]);
        first.is_some_and(|unit| possible.contains(&unit))
    }
}

impl Element {
    fn of(bytes: &[u8]) -> Self {
        let mut element = Self { bytes: [0; MOST], count: 0 };
        element.extend(bytes);
        element
    }

    fn extend(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.count) {
                *place = *byte;
                self.count += 1;
            }
        }
    }

    /// The bytes that may stand here.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.count]
    }

    #[inline]
    fn has(&self, byte: u8) -> bool {
        self.bytes[0] == byte || self.bytes[1..self.count].contains(&byte)
    }

    fn any_in(&self, possible: &std::ops::RangeInclusive<u16>) -> bool {
        self.bytes().iter().any(|byte| possible.contains(&u16::from(*byte)))
    }
}

impl Drop for Needle {
    fn drop(&mut self) {
        self.elements.iter_mut().for_each(|element| element.bytes.zeroize());
        self.wide.iter_mut().for_each(|(_, character)| character.zeroize());
    }
}

/// So much of a needle decides whether bytes are held back: see [`super::finder::Finder::scan`].
pub(super) const LEAD: usize = 3;

/// A base64 character of which four bits are open, two of its sixteen values in either alphabet.
const MOST: usize = 18;

/// RFC 4648 section 4; the other alphabet of section 5 differs in the last two.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
