//! Heads and bodies by table, split at every byte.

use super::*;

/// Reads one answer from `wire`, handed over in two pieces split at `at`, then the end of the
/// connection: its head, its content and what was left over.
fn read_split(wire: &[u8], at: usize) -> Result<(AnswerHead, Vec<u8>, usize), MessageError> {
    let (mut buffer, mut pieces) = (Vec::new(), [&wire[..at], &wire[at..]].into_iter());
    let head = loop {
        if let Some(head) = answer_head(&buffer)? {
            break head;
        }
        buffer.extend_from_slice(pieces.next().ok_or(MessageError::Truncated)?);
    };
    let (mut body, mut content, mut left_over) = (Body::new(head.framing), Vec::new(), 0);
    for piece in std::iter::once(&buffer[head.len..]).chain(pieces) {
        let taken = body.read(piece, |bytes| content.extend_from_slice(bytes))?;
        assert!(taken == piece.len() || body.is_done(), "stopped early");
        left_over += piece.len() - taken;
    }
    body.end()?;
    Ok((head, content, left_over))
}

#[test]
fn answers_are_read_alike_wherever_they_are_split() {
    let cases: &[(&str, &str, Result<&str, MessageError>)] = &[
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok("hello")),
        ("no content", "HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", Ok("")),
        ("no reason phrase", "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", Ok("x")),
        ("204 without a length", "HTTP/1.1 204 No Content\r\n\r\n", Ok("")),
        ("until the end", "HTTP/1.0 200 OK\r\n\r\nall of it", Ok("all of it")),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n003\r\nllo\r\n0\r\n\r\n",
            Ok("hello"),
        ),
        (
            "an extension",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0 \r\n\r\n",
            Ok("hello"),
        ),
        (
            "trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            Ok("0123456789"),
        ),
        (
            "the same length twice",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            Ok("x"),
        ),
        ("too short", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", Err(MessageError::Truncated)),
        (
            "no last chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n",
            Err(MessageError::Truncated),
        ),
        (
            "no last line",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            Err(MessageError::Truncated),
        ),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le", Err(MessageError::Truncated)),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            Err(MessageError::Length),
        ),
        ("a signed length", "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", Err(MessageError::Length)),
        (
            "length and chunks",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(MessageError::Length),
        ),
        ("another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", Err(MessageError::Coding)),
        (
            "chunked twice",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(MessageError::Coding),
        ),
        ("no field", "HTTP/1.1 200 OK\r\nwhat\r\n\r\n", Err(MessageError::Field)),
        ("not HTTP", "SSH-2.0-x\r\n\r\n", Err(MessageError::FirstLine)),
        (
            "a chunk too long",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
            Err(MessageError::Chunk),
        ),
        (
            "a size without digits",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
            Err(MessageError::Chunk),
        ),
        (
            "a size too large",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
            Err(MessageError::Chunk),
        ),
        (
            "a bare line feed",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nhe",
            Err(MessageError::Chunk),
        ),
    ];
    for (what, wire, expected) in cases {
        for at in 0..=wire.len() {
            let read = read_split(wire.as_bytes(), at);
            let content = read.map(|(_, content, _)| String::from_utf8(content).unwrap());
            assert_eq!(content.as_deref().map_err(|error| *error), *expected, "{what}, split at {at}");
        }
    }
}

#[test]
fn what_follows_a_body_is_left_alone() {
    for wire in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nheHTTP/1.1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\nHTTP/1.1",
    ] {
        for at in 0..=wire.len() {
            let (_, content, left_over) = read_split(wire.as_bytes(), at).unwrap();
            assert_eq!((content.as_slice(), left_over), (&b"he"[..], 8), "split at {at}");
        }
    }
}

#[test]
fn an_answer_tells_whether_its_connection_goes_on() {
    for (wire, close) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nconnection: x, Close\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\n\r\n", true),
    ] {
        assert_eq!(answer_head(wire.as_bytes()).unwrap().map(|head| head.close), Some(close), "{wire}");
    }
}

#[test]
fn a_head_without_end_is_given_up() {
    assert_eq!(answer_head(&vec![b'x'; HEAD_MAX + 1]), Err(MessageError::HeadTooLong));
}

#[test]
fn a_request_is_read_with_its_credential() {
    let wire = b"POST /upload?close HTTP/1.1\r\nHost: x\r\nAuthorization:  Bearer abc \r\nContent-Length: 7\r\n\r\nrest";
    let head = request_head(wire).unwrap().unwrap();
    assert_eq!((head.method, head.target, head.authorization), ("POST", "/upload?close", Some("Bearer abc")));
    assert_eq!((head.framing, head.close, head.len), (Framing::Length(7), false, wire.len() - 4));
    let twice = b"GET / HTTP/1.1\r\nauthorization: a\r\nAuthorization: b\r\n\r\n";
    assert!(request_head(twice).unwrap().unwrap().authorized_twice);
    assert_eq!(request_head(b"GET /  HTTP/1.1\r\n\r\n"), Err(MessageError::FirstLine));
}
