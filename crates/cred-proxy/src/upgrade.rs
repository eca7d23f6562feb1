//! WebSocket: which requests ask for it, and which answers grant it. No other protocol passes.

use http::{HeaderMap, HeaderValue, Method, header, request::Parts};

use crate::{fields::nominated, refusal::Reason, route::Route};

/// Whether a request, one without content, asks to go on as a WebSocket. Any other Upgrade is
/// stripped like every hop-by-hop field, and the request goes on as if it had none.
pub fn is_asked(head: &Parts) -> bool {
    head.method == Method::GET && is_websocket(&head.headers)
}

/// Whether what follows a request may be no HTTP, so that it was not watched. Where it is HTTP all
/// the same, it must not be read.
pub fn may_follow(fields: &HeaderMap) -> bool {
    fields.get_all(header::UPGRADE).iter().any(is_protocol)
}

/// Puts the question, which was stripped as hop-by-hop, or its answer, on what goes on.
pub fn put(fields: &mut HeaderMap) {
    fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Checks a 101.
///
/// # Errors
///
/// [`Reason::UpstreamProtocol`] when nobody asked or something else is granted,
/// [`Reason::NotRedactable`] for an extension on a redacting route: it could compress.
pub fn check_granted(asked: bool, fields: &HeaderMap, route: &Route) -> Result<(), Reason> {
    if !asked || !is_websocket(fields) {
        return Err(Reason::UpstreamProtocol);
    }
    if route.redaction.is_some() && fields.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Reason::NotRedactable);
    }
    Ok(())
}

fn is_websocket(fields: &HeaderMap) -> bool {
    let mut protocols = fields.get_all(header::UPGRADE).iter();
    let (Some(protocol), None) = (protocols.next(), protocols.next()) else { return false };
    is_protocol(protocol) && nominated(fields).iter().any(|option| option == "upgrade")
}

fn is_protocol(value: &HeaderValue) -> bool {
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::tests::routes;

    fn fields(text: &[(&'static str, &'static str)]) -> HeaderMap {
        text.iter().map(|(n, v)| (header::HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_a_websocket_is_asked_for_and_granted() {
        let routes = routes(&["/a/"]);
        for (text, expected) in [
            (&[("connection", "Upgrade"), ("upgrade", "WebSocket")][..], true),
            (&[("connection", "keep-alive, upgrade"), ("upgrade", "websocket")], true),
            (&[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")], false),
            (&[("connection", "upgrade"), ("upgrade", "websocket, h2c")], false),
            (&[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")], false),
            (&[("connection", "keep-alive"), ("upgrade", "websocket")], false),
            (&[("upgrade", "websocket")], false),
            (&[("connection", "upgrade")], false),
        ] {
            let fields = fields(text);
            let granted = check_granted(true, &fields, routes.first());
            assert_eq!(granted, if expected { Ok(()) } else { Err(Reason::UpstreamProtocol) }, "{text:?}");
            assert_eq!(check_granted(false, &fields, routes.first()), Err(Reason::UpstreamProtocol));
            let mut head = http::Request::new(()).into_parts().0;
            head.headers = fields;
            assert_eq!(is_asked(&head), expected, "{text:?}");
            head.method = Method::POST;
            assert!(!is_asked(&head));
        }
    }
}
