//! Where a message ends: what the HTTP library lets through and we do not.

use http::{HeaderMap, Method, StatusCode, header};

use crate::refusal::Reason;

/// Checks how a request's content is framed.
///
/// The library has refused a wrong Content-Length, and dropped one that stood beside a
/// Transfer-Encoding (and will close that connection).
///
/// # Errors
///
/// [`Reason::BadRequest`] for any Transfer-Encoding but exactly one `chunked`,
/// [`Reason::Expectation`] for an expectation other than 100-continue, [`Reason::TooLarge`] for
/// content that says it is longer than `max_body`.
pub fn check_request(fields: &HeaderMap, max_body: u64) -> Result<(), Reason> {
    if fields.contains_key(header::TRANSFER_ENCODING) && !is_one_chunked(fields) {
        return Err(Reason::BadRequest);
    }
    let is_continue = |value: &[u8]| value.trim_ascii().eq_ignore_ascii_case(b"100-continue");
    if fields.get_all(header::EXPECT).iter().any(|value| !is_continue(value.as_bytes())) {
        return Err(Reason::Expectation);
    }
    match content_length(fields) {
        Ok(length) if length.is_some_and(|length| length > max_body) => Err(Reason::TooLarge),
        Ok(_) => Ok(()),
        Err(()) => Err(Reason::BadRequest),
    }
}

/// Checks how an answer's content is framed.
///
/// # Errors
///
/// [`Reason::UpstreamProtocol`] when two parsers could disagree about its end.
pub fn check_answer(fields: &HeaderMap) -> Result<(), Reason> {
    let length = content_length(fields).map_err(|()| Reason::UpstreamProtocol)?;
    if !fields.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    if length.is_some() || !is_one_chunked(fields) { Err(Reason::UpstreamProtocol) } else { Ok(()) }
}

/// Whether an answer to this method with this status has no content, whatever its fields say
/// (RFC 9112 section 6.3).
pub fn is_without_content(method: &Method, status: StatusCode) -> bool {
    method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn is_one_chunked(fields: &HeaderMap) -> bool {
    let mut values = fields.get_all(header::TRANSFER_ENCODING).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
}

/// The Content-Length: digits only, and the same number however often it stands.
fn content_length(fields: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut length = None;
    for value in fields.get_all(header::CONTENT_LENGTH) {
        let digits = value.to_str().map_err(|_| ())?;
        // `u64::from_str` would take a sign.
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(());
        }
        let read: u64 = digits.parse().map_err(|_| ())?;
        if length.replace(read).is_some_and(|before| before != read) {
            return Err(());
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn fields(text: &[(&str, &str)]) -> HeaderMap {
        text.iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), HeaderValue::from_str(v).unwrap()))
            .collect()
    }

    #[test]
    fn an_answer_that_ends_in_two_ways_is_refused() {
        for wrong in [
            &[("content-length", "5"), ("content-length", "6")][..],
            &[("content-length", "5, 5")],
            &[("content-length", "+5")],
            &[("content-length", "0x5")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "xchunked")],
        ] {
            assert_eq!(check_answer(&fields(wrong)), Err(Reason::UpstreamProtocol), "{wrong:?}");
        }
        for right in [
            &[][..],
            &[("content-length", "5")],
            &[("content-length", "5"), ("content-length", "5")],
            &[("transfer-encoding", "Chunked")],
        ] {
            assert_eq!(check_answer(&fields(right)), Ok(()), "{right:?}");
        }
    }
}
