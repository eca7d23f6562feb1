use super::*;

/// What people paste, as JSON strings; none of it may be in an error.
const PASTED: &[(&str, &str)] = &[
    ("\"sk-proj-api03-Hunter2Hunter2Hunter2\"", "Hunter2"),
    ("\"ghp_Hunter2Hunter2Hunter2Hunter2Hunter2\"", "Hunter2"),
    ("\"-----BEGIN OPENSSH PRIVATE KEY-----\\nHunter2\\n-----END OPENSSH PRIVATE KEY-----\"", "Hunter2"),
    ("\"b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtHunter2zc2gtZWQyNTUxOQ\"", "Hunter2"),
];

/// As above, and what no one can recognize.
const ANYTHING: &[(&str, &str)] = &[("\"Hunter2 is a password!\"", "Hunter2"), ("7777777", "7777777")];

fn is_not_echoed(text: &str, secret: &str) {
    let error = match parse("f", text) {
        Ok(_) => return,
        Err(error) => all_of(&error),
    };
    assert!(!error.contains(secret), "{text}\n{error}");
}

#[test]
fn a_secret_in_place_of_a_value_is_never_echoed() {
    for (value, secret) in PASTED.iter().chain(ANYTHING) {
        let nested = [
            (*value).to_owned(),
            format!("[{value}]"),
            format!("{{\"env\": {value}}}"),
            format!("{{\"file\": {value}, \"x\": 1}}"),
            format!("{{\"env\": [{value}]}}"),
            format!("{{\"envv\": {value}}}"),
            format!("{{\"scheme\": {value}}}"),
            format!("{{\"scheme\": \"basic\", \"username\": {value}, \"name\": \"x\"}}"),
            format!("{{\"scheme\": \"basic\", \"username\": [{value}]}}"),
            format!("{{\"scheme\": \"header\", \"name\": {value}}}"),
            format!("{{\"scheme\": \"header\", \"name\": \"x\", \"format\": {value}}}"),
            format!("{{\"scheme\": \"bearer\", \"token\": {value}}}"),
            format!("{{\"A\": {{\"from_host\": {value}}}}}"),
            format!("{{\"A\": [{value}], \"from_host\": {value}}}"),
        ];
        for value in &nested {
            for key in ["token", "auth", "token_env", "allow", "redact"] {
                is_not_echoed(&route(&[(key, value)]), secret);
            }
            for key in ["IdentityFile", "KnownHostKey", "signing"] {
                is_not_echoed(&ssh(&[(key, value)]), secret);
            }
            for key in ["env", "signing", "upstream_proxy", "token", "auth"] {
                is_not_echoed(&bottle(&format!("\"{key}\": {value}")), secret);
            }
        }
    }
}

#[test]
fn a_secret_pasted_as_a_key_is_never_echoed() {
    for (key, secret) in PASTED.iter().chain(&ANYTHING[..1]) {
        let object = format!("{{{key}: \"x\"}}");
        let twice = format!("{{{key}: \"x\", {key}: \"y\"}}");
        for object in [object, twice] {
            for name in ["token", "auth"] {
                is_not_echoed(&route(&[(name, &object)]), secret);
            }
            is_not_echoed(&bottle(&format!("\"env\": {object}")), secret);
            is_not_echoed(&bottle(&format!("\"env\": {{\"A\": {object}}}")), secret);
        }
    }
}

#[test]
fn what_is_recognized_as_a_secret_is_echoed_nowhere() {
    for (value, secret) in PASTED {
        for key in ["Host", "Hostname", "User", "Port"] {
            is_not_echoed(&ssh(&[(key, &format!("[{value}]"))]), secret);
            is_not_echoed(&ssh(&[(key, &format!("\" {}", &value[1..]))]), secret);
        }
        for key in ["path", "upstream", "ca_file"] {
            is_not_echoed(&route(&[(key, value)]), secret);
        }
        for key in ["image", "user", "egress_network", "limits", "hosts"] {
            is_not_echoed(&bottle(&format!("\"{key}\": {value}")), secret);
        }
        for key in ["memory", "cpus", "pids", "x"] {
            is_not_echoed(&bottle(&format!("\"limits\": {{\"{key}\": {value}}}")), secret);
        }
        is_not_echoed(&bottle(&format!("{value}: 1")), secret);
        is_not_echoed(&bottle(&format!("\"limits\": {{{value}: 1}}")), secret);
        is_not_echoed(&bottle(&format!("\"hosts\": {{{value}: 1}}")), secret);
        is_not_echoed(&format!("{{\"bottles\": {{{value}: 1}}, \"agents\": {{}}}}"), secret);
        is_not_echoed(
            &format!("{{\"bottles\": {{}}, \"agents\": {{\"a\": {{\"bottle\": {value}}}}}}}"),
            secret,
        );
    }
}

#[test]
fn a_token_in_place_of_its_name_is_refused_before_a_plan_can_print_it() {
    for text in [
        route(&[("token", r#"{"env": "ghp_Hunter2Hunter2Hunter2Hunter2Hunter2"}"#)]),
        route(&[("token", r#"{"file": "sk-proj-api03-Hunter2Hunter2Hunter2"}"#)]),
        bottle(r#""env": {"A": {"from_host": "ghp_Hunter2Hunter2Hunter2Hunter2Hunter2"}}"#),
        ssh(&[("IdentityFile", PASTED[2].0)]),
        ssh(&[("IdentityFile", PASTED[3].0)]),
    ] {
        assert!(error(&text).to_string().ends_with("found what looks like a secret"), "{text}");
    }
}

#[test]
fn a_token_in_the_manifest_gets_the_way_around_it_as_hint() {
    let error = error(&route(&[("token", r#""sk-proj-api03-Hunter2Hunter2Hunter2""#)]));
    assert!(error.to_string().ends_with("routes[0].token: expected an object, found a string"), "{error}");
    let hint = "do not write the token into the manifest: use {\"env\": NAME} or {\"file\": PATH}";
    assert_eq!(error.hint().as_deref(), Some(hint));
}

#[test]
fn the_password_of_a_url_is_never_echoed() {
    for url in [
        "http://u:Hunter2@",
        "http://u:Hunter2@a",
        "http://u:Hunter2@a:0",
        "https://u:Hunter2@a:1",
        "u:Hunter2@a:1",
        "http://u:Hunter2 @a:1",
        "http://u:Hunter2@a:1/x",
        "http://u:@Hunter2@a:1:2",
        "socks5://u:Hunter2@a:1",
        "http://a:Hunter2",
        "http://Hunter2:",
    ] {
        is_not_echoed(&bottle(&format!("\"upstream_proxy\": \"{url}\"")), "Hunter2");
        if url.contains('@') {
            is_not_echoed(&route(&[("upstream", &format!("\"{url}\""))]), "Hunter2");
            for key in ["Host", "Hostname", "User", "Port"] {
                is_not_echoed(&ssh(&[(key, &format!("\"{url}\""))]), "Hunter2");
            }
            for key in ["image", "user", "egress_network"] {
                is_not_echoed(&bottle(&format!("\"{key}\": \"{url}\"")), "Hunter2");
            }
            is_not_echoed(&bottle(&format!("\"hosts\": {{\"{url}\": \"10.0.0.1\"}}")), "Hunter2");
        }
    }
    is_not_echoed(&route(&[("upstream", r#""https://a?key=Hunter2""#)]), "Hunter2");
    let text =
        bottle(r#""upstream_proxy": "http://u:Hunter2%40@proxy.example:3128", "env": {"A": "Hunter2"}"#);
    let manifest = parse("f", &text).unwrap();
    let url = UpstreamProxySetting::Url("http://u:Hunter2%40@proxy.example:3128".to_owned());
    assert_eq!(manifest.bottles["dev"].upstream_proxy, url);
    assert!(!format!("{manifest:?}").contains("Hunter2"), "Debug of a manifest");
}
