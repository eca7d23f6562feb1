//! Redaction: however a body is cut, what comes out is the redaction of the whole, of the same
//! length, with nothing changed but tokens and no token left that decoding would bring to light.
#![no_main]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use cred_proxy::redact::{Finder, Redactor, Secret};
use libfuzzer_sys::fuzz_target;
use sidecar::{routes::Auth, token::Token};

const TOKENS: [&str; 4] = ["tok-s3cret/01+23", "aaaaaaaa", "sk-ant-sk-ant-7~", "AAAA////++++"];

static FINDERS: LazyLock<Vec<Arc<Finder>>> = LazyLock::new(|| {
    let auth = Auth::Basic { username: "git".into() };
    let finder = |token: &str| {
        let token = Token::parse(token.into()).expect("the token is text");
        Arc::new(Finder::new([&Secret::new(&auth, &token)]))
    };
    TOKENS.into_iter().map(finder).collect()
});

fuzz_target!(|input: &[u8]| {
    let [which, cut, more_cut, rest @ ..] = input else { return };
    let which = usize::from(*which) % TOKENS.len();
    let (token, finder) = (TOKENS[which], &FINDERS[which]);
    let body = body(rest, token.as_bytes());
    let whole = finder.redact(&body).unwrap_or_else(|| body.clone());
    let cuts = [usize::from(*cut) % 40 + 1, usize::from(*more_cut) % 7 + 1];
    assert_eq!(in_pieces(finder, &body, &cuts), whole);
    assert_eq!(whole.len(), body.len());
    for (out, came) in whole.iter().zip(&body) {
        assert!(out == came || *out == b'*');
    }
    for from in 0..body.len() {
        if let Some(end) = occurrence(&body, from, token.as_bytes()) {
            assert!(whole[from..end].iter().all(|b| *b == b'*'));
        }
    }
    for phase in 0..4 {
        for run in whole.split(|b| value(*b).is_none()) {
            let Some(run) = run.get(phase..) else { continue };
            let decoded = decoded(run);
            assert!(!decoded.windows(token.len()).any(|window| window == token.as_bytes()));
        }
    }
});

/// Bytes as they come, and for some of them a piece of the token in one of its forms.
fn body(input: &[u8], token: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut at = 0;
    for byte in input {
        let next = token[at % token.len()];
        match byte {
            0x80..=0x9f => body.push(next),
            0xa0..=0xaf => body.extend(format!("%{next:02x}").bytes()),
            0xb0..=0xbf => body.extend(format!("%{next:02X}").bytes()),
            0xc0..=0xc7 => body.extend(format!("\\u{next:04x}").bytes()),
            0xc8..=0xcf if next.is_ascii_punctuation() => body.extend([b'\\', next]),
            0xc8..=0xcf => body.push(next),
            0xd0..=0xdf => {
                body.extend(&token[at % token.len()..]);
                at = 0;
                continue;
            }
            0xe0..=0xef => {
                let (before, after) = (usize::from(byte & 3), usize::from(byte >> 2 & 3));
                let text = [&b"git:"[4 - before..], token, &b"xyz"[..after]].concat();
                body.extend(encoded(&text));
                continue;
            }
            0xf0..=0xff => {
                at = usize::from(byte & 15);
                continue;
            }
            other => {
                body.push(*other);
                continue;
            }
        }
        at += 1;
    }
    body
}

fn in_pieces(finder: &Arc<Finder>, body: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut redactor = Redactor::new(finder.clone());
    let mut out = Vec::new();
    let mut rest = body;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        rest = after;
        out.extend(redactor.feed(Bytes::copy_from_slice(piece)));
        assert!(redactor.waiting() <= finder.longest_held());
    }
    out.extend(redactor.finish());
    out
}

/// The end of an escaped or plain token here. These tokens hold no byte that could begin an
/// escape, so that there is one reading only.
fn occurrence(body: &[u8], from: usize, token: &[u8]) -> Option<usize> {
    let mut at = from;
    for wanted in token {
        let rest = &body[at..];
        let hex = |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let (byte, length) = match rest {
            [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => (hex(&[*a, *b])?, 3),
            [b'\\', b'u', digits @ ..] if digits.len() >= 4 && digits[..4].iter().all(u8::is_ascii_hexdigit) => {
                (hex(&digits[..4])?, 6)
            }
            [b'\\', byte, ..] if byte.is_ascii_punctuation() => (u32::from(*byte), 2),
            [byte, ..] => (u32::from(*byte), 1),
            [] => return None,
        };
        if byte != u32::from(*wanted) {
            return None;
        }
        at += length;
    }
    Some(at)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn value(byte: u8) -> Option<u32> {
    static VALUES: LazyLock<[Option<u32>; 256]> = LazyLock::new(|| {
        let mut values = [None; 256];
        for (value, byte) in (0..).zip(ALPHABET) {
            values[usize::from(*byte)] = Some(value);
        }
        values[usize::from(b'-')] = values[usize::from(b'+')];
        values[usize::from(b'_')] = values[usize::from(b'/')];
        values
    });
    VALUES[usize::from(byte)]
}

fn encoded(text: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = text.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
    let six = |bits: &[u8]| (0..6).fold(0, |value, n| value << 1 | bits.get(n).copied().unwrap_or(0));
    bits.chunks(6).map(|bits| ALPHABET[usize::from(six(bits))]).collect()
}

fn decoded(run: &[u8]) -> Vec<u8> {
    let (mut bits, mut count) = (0, 0);
    let mut decoded = Vec::with_capacity(run.len());
    for value in run.iter().filter_map(|byte| value(*byte)) {
        bits = (bits << 6 | value) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count & 0xff) as u8);
        }
    }
    decoded
}
