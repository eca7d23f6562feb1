//! A request's target and fields, whatever their bytes: forwarded to the route's own authority, as
//! the path that came, without a dot segment in any decoding; or refused.
#![no_main]

use std::sync::LazyLock;

use cred_proxy::{authority::OwnNames, fields, route::Routes, upstream::trust::Trust};
use cred_proxy::{verdict::Policy, verdict::Verdict};
use http::{HeaderName, HeaderValue, Request, Uri, header};
use libfuzzer_sys::fuzz_target;
use sidecar::{routes::RouteTable, token::Tokens};

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let table = r#"{"routes": [
        {"path": "/gh/", "upstream": "https://api.test/base", "auth": {"scheme": "bearer"}, "token_env": "T"},
        {"path": "/gl/", "upstream": "https://gl.test", "auth": {"scheme": "header", "name": "private-token"},
         "token_env": "T", "allow": [{"methods": ["GET"], "path": "/a/*"}, {"methods": ["GET"], "path": "/c/**"}]}]}"#;
    let table: RouteTable = serde_json::from_str(table).expect("a table");
    let tokens: Tokens = serde_json::from_str(r#"{"T": "tok-12345678"}"#).expect("a token");
    let trust = Trust::new(Vec::new(), &table).expect("public roots");
    let routes = Routes::new(&table, &tokens, &trust).expect("routes");
    Policy { routes, own: OwnNames::new(["*".to_owned()]), max_body: 1 << 30 }
});

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(uri) = Uri::try_from(lines.next().unwrap_or_default()) else { return };
    let came = uri.clone();
    let mut head = Request::new(()).into_parts().0;
    head.uri = uri;
    head.headers.insert(header::HOST, HeaderValue::from_static("localhost"));
    for line in lines.take(32) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let parsed = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]));
        if let (Ok(name), Ok(value)) = parsed {
            head.headers.append(name, value);
        }
    }
    let Verdict::Forward(route, target) = POLICY.judge(&head, [127, 0, 0, 1].into()) else { return };
    let (path, query) = (target.path(), target.query());
    let expected = format!("{}/{}", route.base, came.path().strip_prefix(&route.path).expect("its route's"));
    assert_eq!((path, query), (expected.as_str(), came.query()));
    let sent = Uri::from(target.clone());
    assert!(sent.authority().is_none() && sent.scheme().is_none() && !expected.starts_with("//"));
    let mut form = path.as_bytes().to_vec();
    loop {
        for segment in form.split(|byte| matches!(byte, b'/' | b'\\')) {
            let segment = segment.split(|byte| *byte == b';').next().unwrap_or_default();
            assert!(!matches!(segment, b"." | b".."), "{path}");
        }
        assert!(
            !form.iter().any(|byte| byte.is_ascii_control()) && std::str::from_utf8(&form).is_ok(),
            "{path}"
        );
        if route.allow.is_some() {
            assert!(form.starts_with(b"/a/") || form.starts_with(b"/c"), "{path}");
        }
        let next: Vec<u8> = percent_encoding::percent_decode(&form).collect();
        if next == form {
            break;
        }
        form = next;
    }
    let fields = fields::to_upstream(&head.headers, &route, &POLICY.routes.injected);
    let hosts: Vec<_> = fields.get_all(header::HOST).iter().collect();
    assert_eq!(hosts, [&route.authority]);
    for gone in [
        "authorization",
        "private-token",
        "x-api-key",
        "cookie",
        "connection",
        "transfer-encoding",
        "upgrade",
    ] {
        assert!(!fields.contains_key(gone), "{gone}");
    }
});
