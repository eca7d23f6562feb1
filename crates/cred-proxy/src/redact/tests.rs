use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE},
};
use bytes::Bytes;
use proptest::prelude::*;
use sidecar::{routes::Auth, token::Token};

use super::{needle::Needle, *};

const TOKEN: &str = "tok-s3cret/01+23";

fn secret(token: &str) -> Secret {
    let auth = Auth::Basic { username: "git".into() };
    Secret::new(&auth, &Token::parse(token.into()).unwrap())
}

fn finder(token: &str) -> Finder {
    Finder::new([&secret(token)])
}

fn redacted(finder: &Finder, text: &str) -> String {
    let found = finder.redact(text.as_bytes()).unwrap_or_else(|| text.as_bytes().to_vec());
    String::from_utf8(found).unwrap()
}

/// `text` with every form between `<` and `>` as asterisks, and the text without the marks.
fn marked(text: &str) -> (String, String) {
    let plain = text.replace(['<', '>'], "");
    let mut hidden = String::new();
    let mut within = false;
    for c in text.chars() {
        match c {
            '<' => within = true,
            '>' => within = false,
            c => hidden.push(if within { '*' } else { c }),
        }
    }
    (plain, hidden)
}

#[test]
fn every_form_is_found_wherever_it_stands() {
    let finder = finder(TOKEN);
    for text in [
        "<tok-s3cret/01+23>",
        "a <tok-s3cret/01+23> b",
        "tok-<tok-s3cret/01+23>tok-",
        "<tok-s3cret/01+23><tok-s3cret/01+23>",
        // URLs
        "q=<tok-s3cret%2F01%2B23>&x",
        "<%74%6f%6B%2d%73%33%63%72%65%74%2f%30%31%2b%32%33>",
        "<t%6Fk-s3cret/01+2%33>",
        // JSON
        r#"{"a":"<tok-s3cret\/01+23>"}"#,
        r#"{"a":"<\u0074\u006Fk-s3cret\u002f01\u002B23>"}"#,
        r#"{"a":"<tok-s3cret\/01%2b2\u0033>"}"#,
        r"<tok\-s3cret\/01\+23>",
        // base64
        &format!("Basic <{}>==", BASE64_STANDARD_NO_PAD.encode("git:tok-s3cret/01+23")),
        &format!("Basic <{}>", BASE64_STANDARD_NO_PAD.encode("git:tok-s3cret/01+23")),
    ] {
        let (plain, hidden) = marked(text);
        assert_eq!(redacted(&finder, &plain), hidden, "{text}");
    }
    for text in
        ["tok-s3cret/01+2", "ok-s3cret/01+23", "tok-s3cret 01+23", "TOK-S3CRET/01+23", "tok-s3cret%2001+23"]
    {
        assert_eq!(redacted(&finder, text), text);
    }
}

#[test]
fn what_a_token_alone_decides_of_any_base64_is_found() {
    for token in [TOKEN, "ab~?>~??12", "????????????", "aaaaaaaa"] {
        let finder = finder(token);
        for (before, after) in [("", ""), ("x", ""), ("xy", "z"), ("xyz", "zz"), ("{\"k\":\"", "\"}")] {
            let text = format!("{before}{token}{after}");
            for encoded in [BASE64_STANDARD.encode(&text), BASE64_URL_SAFE.encode(&text)] {
                let hidden = redacted(&finder, &encoded);
                // The characters whose six bits are all of other bytes stay, and so does the
                // first, where it begins within the one before the token.
                let first = (before.len() * 8).div_ceil(6);
                let end = ((before.len() + token.len()) * 8).div_ceil(6);
                let stars = "*".repeat(end - first);
                assert_eq!(hidden, format!("{}{stars}{}", &encoded[..first], &encoded[end..]), "{text}");
                let escaped = encoded.replace('/', "\\/").replace('+', "%2B").replace('=', "%3d");
                let hidden = redacted(&finder, &escaped);
                assert!(hidden.matches('*').count() >= end - first, "{escaped} {hidden}");
            }
        }
    }
}

#[test]
fn overlapping_occurrences_are_all_covered() {
    for (token, text, expected) in [
        ("aaaaaaaa", "aaaaaaaaaaaa", "************"),
        ("aaaaaaaa", "baaaaaaab", "baaaaaaab"),
        ("abcabcabc", "xabcabcabcabcx", "x************x"),
        ("%25%25%25%25", "%25%25%25%25", "************"),
        ("%25%25%25%25", "%25%25%2525%25%25", "*****************"),
        ("\\\\\\\\\\\\\\\\", "\\\\\\\\\\\\\\\\\\", "*********"),
        ("a\"b\"c\"d\"", r#"a\"b\"c"d\""#, "***********"),
        ("with a space", "with+a%20space", "**************"),
    ] {
        assert_eq!(redacted(&finder(token), text), expected, "{token} in {text}");
    }
}

#[test]
fn characters_beyond_ascii_are_found_in_every_form() {
    let finder = finder("pässwörd-\u{1f511}");
    for text in [
        "pässwörd-\u{1f511}",
        "p%C3%a4ssw%c3%B6rd-%F0%9f%94%91",
        "p\\u00e4ssw\\u00F6rd-\\ud83d\\uDD11",
        // As those read a field who take it for Latin-1.
        "p\\u00c3\\u00a4ssw\\u00c3\\u00b6rd-\\u00f0\\u009f\\u0094\\u0091",
    ] {
        let hidden = finder.redact(text.as_bytes()).unwrap();
        assert!(hidden.iter().all(|b| *b == b'*'), "{text}");
        assert_eq!(hidden.len(), text.len());
    }
}

#[test]
fn only_what_may_be_a_beginning_waits() {
    for (text, waiting) in [
        ("data: hello\n\n", 0),
        ("data: {\"text\":\"tok-s3cret/01\"}", 0),
        ("hello", 0),
        ("hellot", 1),
        ("hello to", 2),
        ("hello tok", 3),
        ("hello tok-s3", 6),
        // Not to tell how far a guess was right.
        ("hello tok-WRONG", 9),
        ("hello tok-s3cret WRONG", 0),
        ("hello xok-s3", 0),
        ("hello %", 1),
        ("hello %7", 2),
        ("hello %74%6", 5),
        ("hello %4", 0),
        ("hello \\", 1),
        ("hello \\u00", 4),
        ("hello \\n", 0),
        ("hello tok-s3cret/01+23", 0),
        ("hello dG9", 3),
    ] {
        let mut redactor = Redactor::new(Arc::new(finder(TOKEN)));
        let out = redactor.feed(Bytes::copy_from_slice(text.as_bytes()));
        assert_eq!((out.len(), redactor.waiting()), (text.len() - waiting, waiting), "{text}");
    }
}

#[test]
fn a_piece_without_a_token_is_not_copied() {
    let mut redactor = Redactor::new(Arc::new(finder(TOKEN)));
    let piece = Bytes::from(vec![b'x'; 100_000]);
    assert_eq!(redactor.feed(piece.clone()).as_ptr(), piece.as_ptr());
}

#[test]
fn what_was_released_is_not_sent_again_and_the_rest_of_the_token_is_hidden() {
    let mut redactor = Redactor::new(Arc::new(finder(TOKEN)));
    assert_eq!(redactor.feed("say t".into()), "say ");
    assert!(redactor.waits_by_chance());
    assert_eq!((redactor.release(), redactor.waiting()), ("t".into(), 0));
    assert_eq!(redactor.release(), "");
    assert_eq!(redactor.feed("ok-s3cret".into()), "");
    assert!(!redactor.waits_by_chance());
    assert_eq!(redactor.feed("/01+23, again: tok".into()), "***************, again: ");
    assert_eq!(redactor.finish(), "tok");
    assert_eq!(redactor.redacted(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_token_is_redacted_for_ten_minutes_more() {
    let redaction = Arc::new(Redaction::new(secret("first-token")));
    let mut running = Redactor::of(&redaction);
    redaction.replace(secret("second-token"));
    let both = Bytes::from("first-token second-token.");
    let hidden = "*********** ************.";
    assert_eq!(running.feed(both.clone()), hidden);
    tokio::time::advance(KEPT - Duration::from_secs(1)).await;
    assert_eq!(Redactor::of(&redaction).feed(both.clone()), hidden);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(Redactor::of(&redaction).feed(both.clone()), "first-token ************.");
    // An answer that began meanwhile keeps what it began with.
    assert_eq!(running.feed(both), hidden);
    for n in 0..100 {
        redaction.replace(secret(&format!("token-number-{n}")));
    }
    assert_eq!(redaction.state().replaced.len(), MOST_KEPT);
    assert!(!format!("{redaction:?} {running:?} {:?}", redaction.finder()).contains("number"));
}

#[test]
fn what_is_covered_stays_so_while_it_waits() {
    let finder = finder("aaaaaaaa");
    let text = format!("{}\\a", "%61".repeat(8));
    assert_eq!(in_pieces(finder, text.as_bytes(), &[1]), format!("{}\\a", "*".repeat(24)).as_bytes());
}

/// Every occurrence by the definition, without any shortcut: from each place, every reading.
fn by_definition(token: &str, bytes: &[u8]) -> Vec<u8> {
    let mut needles = vec![Needle::raw(token)];
    needles.extend((0..3).map(|before| Needle::base64(token.as_bytes(), before)));
    needles.push(Needle::base64(format!("git:{token}").as_bytes(), 0));
    let mut hidden = bytes.to_vec();
    for from in 0..bytes.len() {
        for needle in &needles {
            if let Some(end) = needle.walk(bytes, from).end {
                hidden[from..end].fill(b'*');
            }
        }
    }
    hidden
}

/// Undoes every escape that there is.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match escape::read(bytes, at) {
            escape::Escape::Whole { value, length } if value < 256 => {
                plain.push(u8::try_from(value).unwrap());
                at += length;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    plain
}

fn holds(bytes: &[u8], token: &str) -> bool {
    bytes.windows(token.len()).any(|window| window == token.as_bytes())
}

fn in_pieces(finder: Finder, bytes: &[u8], cuts: &[usize]) -> Vec<u8> {
    let longest = finder.longest_held();
    let mut redactor = Redactor::new(Arc::new(finder));
    let mut out = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*cut).clamp(1, rest.len()));
        rest = after;
        out.extend_from_slice(&redactor.feed(Bytes::copy_from_slice(piece)));
        assert!(redactor.waiting() <= longest, "{}", redactor.waiting());
    }
    out.extend_from_slice(&redactor.finish());
    out
}

/// Tokens that agree with themselves, with escapes and with base64.
const TOKENS: &[&str] = &[
    TOKEN,
    "aaaaaaaa",
    "abababab",
    "a%25b\\u0061",
    "%2525%25",
    "\\\\\\\\//\"\"",
    "git:git:",
    "ätoken-ö",
    "AAAAAAAA",
];

/// Bytes that are close to a token: its pieces, escaped and encoded, with other bytes between.
fn close_to(token: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let byte = proptest::sample::select(token.as_bytes().to_vec());
    let escaped = (byte, 0..6).prop_map(|(b, how)| match how {
        0 => format!("%{b:02X}").into_bytes(),
        1 => format!("%{b:02x}").into_bytes(),
        2 => format!("\\u{b:04x}").into_bytes(),
        3 => vec![b'\\', b],
        _ => vec![b],
    });
    let mixed = proptest::collection::vec(0..8, token.len()).prop_map(move |how| {
        let escape = |(b, how): (u8, &i32)| match how {
            0 => format!("%{b:02X}").into_bytes(),
            1 => format!("\\u{b:04X}").into_bytes(),
            2 if b.is_ascii_punctuation() => vec![b'\\', b],
            _ => vec![b],
        };
        token.bytes().zip(&how).flat_map(escape).collect::<Vec<u8>>()
    });
    let part = (0..=token.len(), 0..=token.len())
        .prop_map(move |(a, b)| token.as_bytes()[a.min(b)..a.max(b)].to_vec());
    let encoded = "[a-z:]{0,4}".prop_map(move |before| BASE64_STANDARD.encode(before + token).into_bytes());
    let other = proptest::collection::vec(any::<u8>(), 0..4);
    let piece = prop_oneof![escaped, mixed, part, encoded, other];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn case() -> impl Strategy<Value = (&'static str, Vec<u8>, Vec<usize>)> {
    let cuts = proptest::collection::vec(1_usize..20, 1..20);
    proptest::sample::select(TOKENS).prop_flat_map(move |token| (Just(token), close_to(token), cuts.clone()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn however_it_is_cut_the_outcome_is_the_redaction_of_the_whole((token, bytes, cuts) in case()) {
        let whole = finder(token).redact(&bytes).unwrap_or_else(|| bytes.clone());
        prop_assert_eq!(&whole, &by_definition(token, &bytes));
        prop_assert_eq!(&in_pieces(finder(token), &bytes, &cuts), &whole);
        prop_assert_eq!(whole.len(), bytes.len());
    }

    #[test]
    fn no_token_is_left_that_decoding_would_bring_to_light((token, bytes, cuts) in case()) {
        let out = in_pieces(finder(token), &bytes, &cuts);
        prop_assert!(!holds(&out, token));
        // A star beside what was an escape can make another one: only plain tokens are judged.
        if !token.contains(['%', '\\', '"', '*']) {
            prop_assert!(!holds(&decoded(&out), token), "{}", String::from_utf8_lossy(&out));
        }
    }

    #[test]
    fn a_processor_without_the_fast_search_finds_the_same((token, bytes, cuts) in case()) {
        let slow = || finder(token).without_fast_search();
        prop_assert_eq!(in_pieces(slow(), &bytes, &cuts), in_pieces(finder(token), &bytes, &cuts));
    }
}
