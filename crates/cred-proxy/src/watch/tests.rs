use proptest::prelude::*;

use super::*;

const OK0: &str = "GET /x?y=%20 HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[&str] = &[
    OK0,
    "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe#\n\r",
    "POST /x HTTP/1.1\nHost: a\ncontent-length:006\n\n#\u{e9}###",
    "POST /x HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;a=b;c=\"x y;\" ; d\r\n#\u{e9}\r\n56789\r\n0\r\nX: y\r\n\r\n",
    "\r\n\r\nPUT / HTTP/1.1\r\nX-Content-Length: 5\r\nTransfer: x\r\nA:#\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
];

#[test]
fn what_must_not_stand_is_found_where_it_stands() {
    for (before, rest) in [
        ("GET /a", "#b HTTP/1.1\r\n\r\n"),
        ("GET /caf", "\u{e9} HTTP/1.1\r\n\r\n"),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding", ": chunked\r\n\r\n"),
        ("POST / HTTP/1.1\r\ntransfer-encoding:x\r\nA: b\r\nCONTENT-LENGTH", ": 5\r\n\r\n"),
        ("POST / HTTP/1.1\r\nContent-Length:", "\t5\r\n\r\nhello"),
        ("POST / HTTP/1.1\r\nContent-Length: ", "+5\r\n\r\nhello"),
        ("POST / HTTP/1.1\r\nContent-Length: 1844674407370955161", "5\r\n\r\nhello"),
        ("GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\nGET /a", "#b HTTP/1.1\r\n\r\n"),
        ("GET / HTTP/1.1\r\nUpgrade: websocket2\r\n\r\nGET /a", "#b HTTP/1.1\r\n\r\n"),
        ("GET / HTTP/1.1\r\nUpgrade: web socket\r\n\r\nGET /a", "#b HTTP/1.1\r\n\r\n"),
    ] {
        let mut bytes = format!("{before}{rest}").into_bytes();
        assert_eq!(Watch::default().see(&mut bytes), Seen::Head(before.len() + 1), "{before}{rest}");
        assert_eq!(bytes[before.len()], 0);
    }
    assert_eq!(Watch::default().see(&mut [b'A'; 100]), Seen::Head(65));
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (before, rest) in [
        ("5", " \r\nhello\r\n0\r\n\r\n"),
        ("5", "\nhello\r\n"),
        ("5\r", "\r;ABCD\r\n"),
        ("5\r\nhello", "0\r\n\r\n"),
        ("5\r\nhello\r", "0"),
        ("", "+5\r\n"),
        ("0", "x5\r\n"),
        ("", "\r\n"),
        ("5;", "\r\nhello"),
        ("5;a;", ";b\r\n"),
        ("5;a", "\u{1}\r\n"),
        ("5;a", "[b\r\n"),
        ("5;a=\"b", "\r\nhello"),
        ("0000000000000005", "5\r\n"),
        ("800000000000000", "0\r\n"),
        ("5\r\nhello\r\n0\r\n", "\n"),
        ("5\r\nhello\r\n0\r\nX: y\r\n", "\n"),
    ] {
        let mut bytes = format!("{head}{before}{rest}").into_bytes();
        let expected = Seen::Content(head.len() + before.len());
        assert_eq!(Watch::default().see(&mut bytes), expected, "{before}{rest}");
    }
}

#[test]
fn a_head_that_is_too_large_is_cut_where_it_becomes_so() {
    let line = "GET / HTTP/1.1\r\n";
    let fields = "A: b\r\n".repeat(100);
    for (before, rest, end) in [
        (format!("{line}{fields}"), "A: b\r\n\r\n", CUT_BEFORE_FIELD),
        (format!("{line}A: {}", "b".repeat(MAX_HEAD - line.len() - 3)), "b\r\n\r\n", CUT_IN_VALUE),
        (format!("{line}A: {}", "b".repeat(MAX_HEAD - line.len() - 3)), "bbb", CUT_IN_VALUE),
    ] {
        let all = format!("{OK0}{before}{rest}").into_bytes();
        let length = OK0.len() + before.len();
        assert_eq!(Watch::default().see(&mut all.clone()), Seen::Cut(length, end));
        let mut watch = Watch::default();
        for byte in &all[..length] {
            assert_eq!(watch.see(&mut [*byte]), Seen::All);
        }
        assert_eq!(watch.see(&mut [all[length]]), Seen::Cut(0, end));
    }
    assert_eq!(
        Watch::default().see(format!("{line}{fields}\r\n").as_bytes().to_vec().as_mut_slice()),
        Seen::All
    );
}

#[test]
fn behind_an_upgrade_nothing_is_touched() {
    for value in ["websocket", " WebSocket \t", "\twebsocket\r\nUpgrade: h2c"] {
        let mut bytes = format!("GET / HTTP/1.1\r\nUpgrade:{value}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(b"\x81#\xff / A#");
        let sent = bytes.clone();
        assert_eq!((Watch::default().see(&mut bytes), bytes), (Seen::All, sent), "{value}");
    }
}

proptest! {
    #[test]
    fn good_requests_pass_untouched_however_they_are_cut(
        order in proptest::collection::vec(0..OK.len(), 1..5),
        cuts in proptest::collection::vec(1..40_usize, 1..20),
    ) {
        let all: Vec<u8> = order.iter().flat_map(|n| OK[*n].bytes()).collect();
        let (mut watch, mut at, mut cuts) = (Watch::default(), 0, cuts.iter().cycle());
        while at < all.len() {
            let end = (at + cuts.next().copied().unwrap_or(1)).min(all.len());
            let mut piece = all[at..end].to_vec();
            prop_assert_eq!(watch.see(&mut piece), Seen::All);
            prop_assert_eq!(&piece, &all[at..end]);
            at = end;
        }
        prop_assert_eq!(watch.at, At::Start);
    }
}
