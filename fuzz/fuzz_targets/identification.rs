//! The first line of a side: judged in pieces as at once, and never taken for more than it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_gate::identification::judge;

fuzz_target!(|bytes: &[u8]| {
    let whole = judge(bytes);
    let pieces = (0..=bytes.len()).map(|n| judge(&bytes[..n])).find(|judged| *judged != Ok(false));
    assert_eq!(pieces.unwrap_or(Ok(false)), whole);
    let begins = bytes.starts_with(b"SSH-2.0-") || bytes.starts_with(b"SSH-1.99-");
    let ends = bytes.iter().take(255).any(|byte| *byte == b'\n');
    assert_eq!(whole == Ok(true), begins && ends);
    if whole == Ok(false) {
        assert!(bytes.len() < 255);
    }
});
