//! A connection's bytes, cut anywhere: what is refused is the same byte, and nothing else is changed.
#![no_main]

use cred_proxy::watch::{Seen, Watch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u8)| {
    let (bytes, size) = input;
    let mut whole = bytes.to_vec();
    let seen = Watch::default().see(&mut whole);
    let (mut watch, mut at) = (Watch::default(), 0);
    let mut in_pieces = Seen::All;
    for piece in bytes.chunks(usize::from(size).max(1)) {
        let mut changed = piece.to_vec();
        let seen = watch.see(&mut changed);
        match seen {
            Seen::All => assert_eq!(changed, piece),
            Seen::Head(n) => {
                assert!(changed[n - 1] == 0 && changed[..n - 1] == piece[..n - 1]);
                in_pieces = Seen::Head(at + n);
                break;
            }
            Seen::Cut(n, end) => {
                assert_eq!(changed, piece);
                in_pieces = Seen::Cut(at + n, end);
                break;
            }
            Seen::Content(n) => {
                assert_eq!(changed, piece);
                in_pieces = Seen::Content(at + n);
                break;
            }
        }
        at += piece.len();
    }
    assert_eq!(in_pieces, seen);
});
