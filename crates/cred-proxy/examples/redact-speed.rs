//! How fast echoed tokens are looked for: `cargo run --release -p cred-proxy --example redact-speed`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "an example prints, and has no errors to tell")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cred_proxy::redact::{Finder, Redactor, Secret};
use sidecar::{routes::Auth, token::Token};

fn main() {
    let token = Token::parse("sk-ant-api03-f4TQx9Lw0Zk2_example-of-usual-length".into()).unwrap();
    let finder = Arc::new(Finder::new([&Secret::new(&Auth::Bearer, &token)]));
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let bytes: Vec<u8> = (0..SIZE).map(|_| random().to_le_bytes()[3]).collect();
    let of = |alphabet: &[u8]| bytes.iter().map(|b| alphabet[usize::from(*b) % alphabet.len()]).collect();
    let repeated = |text: &str| text.bytes().cycle().take(SIZE).collect();
    let cases: [(&str, Vec<u8>); 7] = [
        ("random bytes", bytes.clone()),
        ("base64", of(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")),
        ("prose", repeated("It was a sunny sky, and the skipper said so; kind masks ask for risks. ")),
        (
            "events",
            repeated("event: delta\ndata: {\"text\":\"so \\\"the\\\" sky\\nis blue\",\"index\":0}\n\n"),
        ),
        ("percent escapes", repeated("%73%6Bname=%2Fa%20b%3F")),
        ("JSON escapes", repeated("\\u0073\\u006b\\n\\\"x\\/")),
        ("beginnings", repeated("sk-ant-api03-sk-ant-")),
    ];
    for piece in [16 * 1024, 256 * 1024] {
        for (name, content) in &cases {
            let content = Bytes::from(content.clone());
            let mut redactor = Redactor::new(finder.clone());
            let mut done = 0;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(400) {
                for at in (0..SIZE).step_by(piece) {
                    black_box(redactor.feed(content.slice(at..at + piece)));
                    done += piece;
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
            let rate = done as f64 / begun.elapsed().as_secs_f64() / 1e9;
            println!("{name:16} in pieces of {:3} KiB: {rate:6.2} GB/s", piece / 1024);
        }
    }
}

const SIZE: usize = 1 << 20;
