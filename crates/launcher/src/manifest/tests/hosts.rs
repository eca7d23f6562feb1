use super::*;

fn row(changes: &[(&str, &str)]) -> SshHost {
    parse("f", &ssh(changes))
        .map_or_else(|error| panic!("{error}"), |manifest| manifest.bottles["dev"].ssh[0].clone())
}

#[test]
fn defaults_are_as_documented() {
    let row = row(&[]);
    assert_eq!((row.user.as_str(), row.port, row.known_host_key), ("git", 22, None));
}

#[test]
fn a_port_is_a_number_or_digits() {
    for (port, expected) in [("2222", 2222), ("\"2222\"", 2222), ("1", 1), ("65535", 65535)] {
        assert_eq!(row(&[("Port", port)]).port, expected);
    }
    for port in ["0", "65536", "-1", "22.0", "2.2e1", "\"\"", "\"+22\"", "\" 22\"", "null", "[]", "1e999"] {
        let error = error(&ssh(&[("Port", port)])).to_string();
        assert!(
            error.contains("Port: expected a port between 1 and 65535") || error.contains("invalid number"),
            "{error}"
        );
    }
}

#[test]
fn a_host_name_may_be_an_address() {
    for (host, expected) in [
        (r#""GitHub.com""#, "github.com"),
        (r#""10.1.2.3""#, "10.1.2.3"),
        (r#""::1""#, "::1"),
        (r#""[2001:db8::1]""#, "2001:db8::1"),
        (r#""my_host.internal""#, "my_host.internal"),
    ] {
        assert_eq!(row(&[("Hostname", host)]).key_name(), expected);
    }
    assert_eq!(row(&[("Hostname", r#""h""#), ("Port", "2222")]).key_name(), "[h]:2222");
}

#[test]
fn no_name_is_an_option_or_needs_quoting() {
    for key in ["Host", "Hostname", "User"] {
        for value in [
            "-oProxyCommand=x",
            "-",
            "a b",
            "a\\tb",
            "a\\nb",
            "%h",
            "a%b",
            "\\\"a",
            "'a'",
            "a\\\\b",
            "a*",
            "?",
            "!a",
            "a,b",
            "$a",
            "a;b",
            "#a",
            "a\\u0000",
            "a\\u001b[0m",
            "",
            "\\u202ea",
            "a=b",
            "`a`",
            "é",
            "fe80::1%eth0",
        ] {
            let error = error(&ssh(&[(key, &format!("\"{value}\""))])).to_string();
            assert!(
                error.contains(&format!("bottles.dev.ssh[0].{key}: expected ")),
                "{key} {value}: {error}"
            );
            assert!(!error.chars().any(|c| c.is_control() || c == '\u{202e}'), "{error:?}");
        }
    }
}

#[test]
fn a_part_of_a_url_in_hostname_gets_its_key_as_hint() {
    for (host, expected) in [
        ("git@github.com", "put the login name in `User`"),
        ("github.com:22", "put the port in `Port`"),
        ("ssh://github.com", "write the host alone, without scheme and path"),
    ] {
        assert_eq!(error(&ssh(&[("Hostname", &format!("\"{host}\""))])).hint().as_deref(), Some(expected));
    }
}

fn known(host: &str, port: &str, key: &str) -> String {
    let (host, key) = (format!("\"{host}\""), format!("\"{key}\""));
    ssh(&[("Hostname", &host), ("Port", port), ("KnownHostKey", &key)])
}

#[test]
fn a_key_or_a_whole_line_about_this_host_is_taken() {
    for (host, port, before, after) in [
        ("github.com", "22", "", ""),
        ("github.com", "22", "  ", "\\t"),
        ("github.com", "22", "", " a comment"),
        ("github.com", "22", "github.com ", ""),
        ("github.com", "22", "GitHub.com\\t", " a comment"),
        ("github.com", "22", "[github.com]:22 ", ""),
        ("github.com", "22", "github.com,140.82.121.4 ", ""),
        ("git.example", "2222", "[git.example]:2222 ", ""),
        ("git.example", "2222", "[10.1.2.3]:2222,[git.example]:2222 ", ""),
        ("2001:db8::1", "22", "2001:db8:0::1 ", ""),
        ("2001:db8::1", "2222", "[2001:db8::1]:2222 ", ""),
    ] {
        let text = known(host, port, &format!("{before}{KEY}{after}"));
        let manifest = parse("f", &text).unwrap_or_else(|error| panic!("{before}{after}: {error}"));
        assert_eq!(manifest.bottles["dev"].ssh[0].known_host_key, Some(HostKey(KEY.to_owned())));
    }
}

#[test]
fn a_line_about_another_host_gets_the_word_to_drop_as_hint() {
    for (host, port, words, hint) in [
        ("github.com", "22", "gitlab.com", "if it is the key of github.com, drop the first word"),
        (
            "github.com",
            "22",
            "github.com.evil.example",
            "if it is the key of github.com, drop the first word",
        ),
        ("github.com", "22", "[github.com]:2222", "if it is the key of github.com, drop the first word"),
        ("github.com", "2222", "github.com", "if it is the key of [github.com]:2222, drop the first word"),
        ("github.com", "22", "*.com,!github.com", "if it is the key of github.com, drop the first word"),
        (
            "github.com",
            "22",
            "|1|abc=|def=",
            "keep the key's type and its base64, and drop the word before them",
        ),
    ] {
        let error = error(&known(host, port, &format!("{words} {KEY}")));
        assert!(error.to_string().contains("bottles.dev.ssh[0].KnownHostKey: "), "{error}");
        assert_eq!(error.hint().as_deref(), Some(hint));
    }
}

#[test]
fn what_is_not_a_host_key_is_refused_by_what_it_is() {
    let base64 = KEY.split(' ').nth(1).unwrap();
    for (key, expected) in [
        (format!("@cert-authority *.example.com {KEY}"), "found a line marked @cert-authority"),
        (format!("@revoked github.com {KEY}"), "found a line marked @revoked"),
        ("SHA256:uNiVztksCsDhcc0u9e8BrQXVUpKZIDTMczCvj3tD2sQ".into(), "found a fingerprint"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----".into(), "found a private key"),
        (format!("{KEY}\\n{KEY}"), "on one line"),
        (format!("# github.com:22 SSH-2.0-x\\n{KEY}"), "on one line"),
        ("ssh-ed25519".into(), "expected a public host key, `TYPE BASE64`"),
        (base64.into(), "expected a public host key"),
        ("ssh-ed25519 nope".into(), "expected a public host key"),
        (format!("ssh-rsa {base64}"), "expected a public host key"),
        (format!("ssh-ed25519 {}", &base64[..64]), "expected a public host key"),
        (format!("ssh-ed25519 {base64}AAAA"), "expected a public host key"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5".into(), "expected a public host key"),
        (format!("-ssh {base64}"), "expected a public host key"),
        (String::new(), "found an empty string"),
    ] {
        let error = error(&known("github.com", "22", &key));
        assert!(error.to_string().contains(expected), "{key}: {error}");
        assert!(!all_of(&error).contains(base64), "{error}");
    }
}
