use super::*;

/// An error without its place: `path: message`.
fn said(text: &str) -> String {
    let error = error(text).to_string();
    let place = error.strip_prefix("f:").and_then(|rest| rest.split_once(": "));
    let (place, said) = place.unwrap_or_else(|| panic!("{error}"));
    let numbers: Vec<_> = place.split(':').map(str::parse::<usize>).collect();
    assert!(matches!(numbers[..], [Ok(_), Ok(_)]), "{error}");
    said.to_owned()
}

#[test]
fn an_error_begins_with_file_line_column_and_path() {
    let text = bottle(
        "  \"ssh\": [{\"Host\": \"a\", \"Hostname\": \"b\", \"IdentityFile\": \"c\",\n    \"Port\": 70000}]",
    );
    assert_eq!(
        parse("claude-bottle.json", &text).unwrap_err().to_string(),
        "claude-bottle.json:3:13: bottles.dev.ssh[0].Port: expected a port between 1 and 65535, found 70000"
    );
}

#[test]
fn a_bad_value_of_a_bottle_is_named_with_its_path() {
    for (members, expected) in [
        (r#""image": """#, "image: expected an image such as `claude-bottle:latest`, found an empty string"),
        (r#""image": "a b""#, "image: expected an image such as `claude-bottle:latest`, found \"a b\""),
        (
            r#""image": "a\u001b""#,
            "image: expected an image such as `claude-bottle:latest`, found \"a\\u{1b}\"",
        ),
        (
            r#""image": "--rm""#,
            "image: expected an image such as `claude-bottle:latest`, which must not begin with `-`",
        ),
        (r#""image": "a:""#, "image: expected an image"),
        (r#""image": null"#, "image: expected a string, found null"),
        (r#""user": """#, "user: expected a user such as `node` or `1000:1000`, found an empty string"),
        (
            r#""user": "-u""#,
            "user: expected a user such as `node` or `1000:1000`, which must not begin with `-`",
        ),
        (r#""user": "a b""#, "user: expected a user"),
        (r#""user": "a:""#, "user: expected a user"),
        (r#""user": "a:b:c""#, "user: expected a user"),
        (r#""user": "4294967296""#, "user: expected a user"),
        (r#""user": "a\n""#, "user: expected a user"),
        (r#""user": 1000"#, "user: expected a string, found a number"),
        (r#""env": []"#, "env: expected an object, found an array"),
        (r#""env": {"A": 3}"#, "env.A: expected a string or {\"from_host\": NAME}, found a number"),
        (r#""env": {"A": null}"#, "env.A: expected a string or {\"from_host\": NAME}, found null"),
        (r#""env": {"A": {}}"#, "env.A: missing key `from_host`"),
        (
            r#""env": {"A": "x\ny"}"#,
            "env.A: a value with a newline cannot be exported to env files; use from_host",
        ),
        (r#""env": {"A B": "x"}"#, "env: expected a variable name of letters, digits and `_`"),
        (
            r#""env": {"": "x"}"#,
            "env: expected a variable name of letters, digits and `_`, found an empty string",
        ),
        (
            r#""env": {"A": {"from_host": "A-B"}}"#,
            "env.A.from_host: expected the name of an environment variable",
        ),
        (r#""ssh": {}"#, "ssh: expected an array, found an object"),
        (r#""ssh": null"#, "ssh: expected an array, found null"),
        (r#""ssh": ["x"]"#, "ssh[0]: expected an object, found a string"),
        (r#""ssh": [{}]"#, "ssh[0]: missing key `Host`"),
        (r#""cred_proxy": {}"#, "cred_proxy: missing key `routes`"),
        (r#""cred_proxy": []"#, "cred_proxy: expected an object, found an array"),
        (r#""cred_proxy": {"routes": null}"#, "cred_proxy.routes: expected an array, found null"),
        (
            r#""egress": {"engine": "x"}"#,
            "egress.engine: expected an engine: `builtin`, `pipelock` or `none`, found \"x\"",
        ),
        (r#""egress": {"allow": [1]}"#, "egress.allow[0]: expected a string, found a number"),
        (
            r#""egress_network": """#,
            "egress_network: expected the name of a network (letters, digits and `_.-`), found an empty string",
        ),
        (r#""egress_network": " ""#, "egress_network: expected the name of a network"),
        (
            r#""egress_network": "host""#,
            "egress_network: expected the name of a network, found the engine's mode \"host\"",
        ),
        (
            r#""egress_network": "container:x""#,
            "egress_network: expected the name of a network, found the engine's mode \"container\"",
        ),
        (r#""limits": {"memory": "0"}"#, "limits.memory: expected a size of at least 6MiB, found \"0\""),
        (r#""limits": {"memory": 0}"#, "limits.memory: expected a size of at least 6MiB, found 0"),
        (r#""limits": {"memory": "1k"}"#, "limits.memory: expected a size of at least 6MiB, found \"1k\""),
        (
            r#""limits": {"memory": "4 parsecs"}"#,
            "limits.memory: expected a size such as 4GiB or 512MiB, found \"4 parsecs\"",
        ),
        (r#""limits": {"memory": -1}"#, "limits.memory: expected a size such as 4GiB or 512MiB, found -1"),
        (r#""limits": {"memory": "99999999999GiB"}"#, "limits.memory: expected a size such as"),
        (
            r#""limits": {"cpus": 0}"#,
            "limits.cpus: expected a number of CPUs between 0.01 and 4096, such as 2 or 1.5, found 0",
        ),
        (r#""limits": {"cpus": -2}"#, "limits.cpus: expected a number of CPUs"),
        (r#""limits": {"cpus": "2"}"#, "limits.cpus: expected a number of CPUs"),
        (r#""limits": {"pids": 0}"#, "limits.pids: expected a number of processes, at least 16, found 0"),
        (r#""limits": {"pids": 15}"#, "limits.pids: expected a number of processes, at least 16, found 15"),
        (r#""limits": {"pids": 1.5}"#, "limits.pids: expected a number of processes, at least 16, found 1.5"),
        (r#""limits": null"#, "limits: expected an object, found null"),
        (r#""hosts": {"a_b..c": "10.1.2.3"}"#, "hosts: expected a host name, found \"a_b..c\""),
        (r#""hosts": {"10.1.2.3": "10.1.2.3"}"#, "hosts: expected a host name, found \"10.1.2.3\""),
        (
            r#""hosts": {"LocalHost": "10.1.2.3"}"#,
            "hosts: expected a host name that the bottle does not use itself, found \"LocalHost\"",
        ),
        (
            r#""hosts": {"ssh-gate.": "10.1.2.3"}"#,
            "hosts: expected a host name that the bottle does not use itself",
        ),
        (
            r#""hosts": {"x.localhost": "10.1.2.3"}"#,
            "hosts: expected a host name that the bottle does not use itself",
        ),
        (r#""hosts": {"a": "b"}"#, "hosts.a: expected an IPv4 or IPv6 address, found \"b\""),
        (r#""hosts": {"a": "10.1"}"#, "hosts.a: expected an IPv4 or IPv6 address"),
        (r#""hosts": {"a": "fe80::1%eth0"}"#, "hosts.a: expected an IPv4 or IPv6 address"),
        (r#""hosts": {"a": "::ffff:127.0.0.1"}"#, "hosts.a: expected the address of another host"),
        (r#""hosts": {"a": "0.0.0.0"}"#, "hosts.a: expected the address of another host"),
        (
            r#""upstream_proxy": "socks5://a:1""#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false: the scheme is not http",
        ),
        (
            r#""upstream_proxy": "https://a:1""#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false: the scheme is not http",
        ),
        (
            r#""upstream_proxy": "http://a""#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false: the port is missing",
        ),
        (
            r#""upstream_proxy": "http://[::1]""#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false: the port is missing",
        ),
        (
            r#""upstream_proxy": "http://a:0""#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false: the port is not between",
        ),
        (
            r#""upstream_proxy": "http://a b:1""#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false: the host is",
        ),
        (
            r#""upstream_proxy": "http://a:1/x""#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false: a path",
        ),
        (
            r#""upstream_proxy": "http://u:p w@a:1""#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false: special characters",
        ),
        (
            r#""upstream_proxy": "http://u:p%0a@a:1""#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false: special characters",
        ),
        (
            r#""upstream_proxy": true"#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false, found true",
        ),
        (
            r#""upstream_proxy": null"#,
            "upstream_proxy: expected a URL such as http://proxy.example:3128, or false, found null",
        ),
    ] {
        let said = said(&bottle(members));
        assert!(said.starts_with(&format!("bottles.dev.{expected}")), "{members}: {said}");
    }
}

#[test]
fn a_bad_value_of_a_route_is_named_with_its_path() {
    for (key, value, expected) in [
        ("path", r#""api""#, "path: expected a path that begins and ends with `/`"),
        (
            "upstream",
            r#""http://a""#,
            "upstream: expected an https:// URL of a host, an optional port and an optional path, found \"http://a\"",
        ),
        (
            "upstream",
            r#""https://a?b""#,
            "upstream: expected an https:// URL of a host, an optional port and an optional path, without query",
        ),
        ("upstream", "7", "upstream: expected a string, found a number"),
        ("auth", r#""bearer""#, "auth: expected an object, found a string"),
        ("auth", "{}", "auth: missing key `scheme`"),
        (
            "auth",
            r#"{"scheme": "x"}"#,
            "auth.scheme: expected the scheme `bearer`, `token`, `basic` or `header`",
        ),
        ("auth", r#"{"scheme": "basic"}"#, "auth: missing key `username`, which scheme `basic` needs"),
        ("auth", r#"{"scheme": "bearer", "name": "x"}"#, "auth.name: scheme `bearer` does not use `name`"),
        (
            "auth",
            r#"{"scheme": "basic", "username": "a:b"}"#,
            "auth.username: expected a user name without colons",
        ),
        ("auth", r#"{"scheme": "header", "name": "Host"}"#, "auth.name: expected the name of a header"),
        (
            "auth",
            r#"{"scheme": "header", "name": "x", "format": "x"}"#,
            "auth.format: expected printable text",
        ),
        ("token", "{}", "token: expected {\"env\": NAME} or {\"file\": PATH}, found an empty object"),
        (
            "token",
            r#"{"env": "A", "file": "b"}"#,
            "token: expected {\"env\": NAME} or {\"file\": PATH}, found both",
        ),
        ("token", r#"{"file": ""}"#, "token.file: expected a path, found an empty string"),
        ("token", r#"{"file": "~root/x"}"#, "token.file: the home directory of another user is not expanded"),
        ("token", r#"{"env": 1}"#, "token.env: expected a string, found a number"),
        ("ca_file", "[]", "ca_file: expected a string, found an array"),
        ("redact", r#""no""#, "redact: expected true or false, found a string"),
        ("cookies", "null", "cookies: expected true or false, found null"),
        ("allow", "null", "allow: expected an array, found null"),
        ("allow", r#"[{"methods": [], "path": "/"}]"#, "allow[0].methods: expected at least one method"),
        ("allow", r#"[{"methods": ["get"], "path": "/"}]"#, "allow[0].methods[0]: expected a method: GET"),
        (
            "allow",
            r#"[{"methods": ["GET"], "path": "v1"}]"#,
            "allow[0].path: expected a path of plain segments",
        ),
        ("allow", r#"[{"methods": ["GET"]}]"#, "allow[0]: missing key `path`"),
    ] {
        let said = said(&route(&[(key, value)]));
        assert!(said.starts_with(&format!("bottles.dev.cred_proxy.routes[0].{expected}")), "{value}: {said}");
    }
}

#[test]
fn a_bad_value_of_an_agent_or_of_the_whole_is_named() {
    for (text, expected) in [
        ("[]", "expected an object, found an array"),
        ("{}", "missing key `bottles`"),
        (r#"{"bottles": {}}"#, "missing key `agents`"),
        (r#"{"bottles": [], "agents": {}}"#, "bottles: expected an object, found an array"),
        (r#"{"bottles": {"a b": 1}, "agents": {}}"#, "bottles.\"a b\": expected an object, found a number"),
        (r#"{"bottles": {"": {}}, "agents": {}}"#, "bottles: expected a bottle's name that is not empty"),
        (r#"{"bottles": {}, "agents": {"-a": {}}}"#, "agents: expected an agent's name that is not empty"),
        (r#"{"bottles": {}, "agents": {"a": {}}}"#, "agents.a: missing key `bottle`"),
        (
            r#"{"bottles": {}, "agents": {"a": {"bottle": "dev"}}}"#,
            "agents.a.bottle: expected the name of a bottle, found \"dev\"",
        ),
        (
            r#"{"bottles": {"d": {}}, "agents": {"a": {"bottle": "d", "command": "ls"}}}"#,
            "agents.a.command: expected an array, found a string",
        ),
        (
            r#"{"bottles": {"d": {}}, "agents": {"a": {"bottle": "d", "command": ["", "x"]}}}"#,
            "agents.a.command[0]: expected the name of a program, found an empty string",
        ),
        (
            r#"{"bottles": {"d": {}}, "agents": {"a": {"bottle": "d", "prompt": []}}}"#,
            "agents.a.prompt: expected a string, found an array",
        ),
    ] {
        let said = said(text);
        assert!(said.starts_with(expected), "{text}: {said}");
    }
}

#[test]
fn a_key_twice_is_an_error_wherever_it_is() {
    for (text, expected) in [
        (
            bottle("\"image\": \"a\",\n\"image\": \"a\""),
            "f:3:1: bottles.dev.image: duplicate key, first used on line 2",
        ),
        (
            bottle(r#""env": {"A": "1", "A": "2"}"#),
            "f:2:19: bottles.dev.env.A: duplicate key, first used on line 2",
        ),
        (bottle(r#""limits": {"pids": 99, "pids": 99}"#), "f:2:24: bottles.dev.limits.pids: duplicate key"),
        (
            bottle(r#""hosts": {"a": "10.0.0.1", "A.": "10.0.0.2"}"#),
            "f:2:28: bottles.dev.hosts.\"A.\": duplicate key",
        ),
        (ssh(&[("Port", "22"), ("Port", "22")]), "f:2:85: bottles.dev.ssh[0].Port: duplicate key"),
        (route(&[("auth", r#"{"scheme": "bearer", "scheme": "token"}"#)]), "auth.scheme: duplicate key"),
        (route(&[("token", r#"{"env": "A", "\u0065nv": "B"}"#)]), "token.env: duplicate key"),
        (bottle(r#""env": {"A": {"from_host": "A", "from_host": "B"}}"#), "env.A.from_host: duplicate key"),
        (r#"{"bottles": {"a": {}, "a": {}}, "agents": {}}"#.into(), "f:1:23: bottles.a: duplicate key"),
        (r#"{"bottles": {}, "bottles": {}, "agents": {}}"#.into(), "f:1:17: bottles: duplicate key"),
        (
            r#"{"bottles": {"d": {}}, "agents": {"a": {"bottle": "d"}, "a": {"bottle": "d"}}}"#.into(),
            "f:1:57: agents.a: duplicate key",
        ),
        (
            bottle(
                "\"ssh\": [{\"Host\": \"a\", \"Hostname\": \"h\", \"IdentityFile\": \"k\"},\n\
                 {\"Host\": \"A\", \"Hostname\": \"h\", \"IdentityFile\": \"k\"}]",
            ),
            "f:3:10: bottles.dev.ssh[1].Host: duplicate Host \"a\", first used on line 2",
        ),
    ] {
        let error = error(&text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn an_unknown_key_gets_the_nearest_known_one_as_hint() {
    for (text, path, hint) in [
        (
            bottle(r#""egres_network": "x""#),
            "f:2:1: bottles.dev.egres_network: unknown key",
            "did you mean `egress_network`?",
        ),
        (bottle(r#""imag": "x""#), "f:2:1: bottles.dev.imag: unknown key", "did you mean `image`?"),
        (bottle(r#""prots": []"#), "bottles.dev.prots: unknown key", "did you mean `ports`?"),
        (ssh(&[("port", "22")]), "bottles.dev.ssh[0].port: unknown key", "did you mean `Port`?"),
        (route(&[("auth", r#"{"schema": "bearer"}"#)]), "auth.schema: unknown key", "did you mean `scheme`?"),
        (
            bottle(r#""limits": {"mem": "1GiB"}"#),
            "limits.mem: unknown key",
            "the known keys are `memory`, `cpus`, `pids`",
        ),
        (r#"{"bottle": {}}"#.into(), "f:1:2: bottle: unknown key", "did you mean `bottles`?"),
    ] {
        let error = error(&text);
        assert!(error.to_string().ends_with(path), "{error}");
        assert_eq!(error.hint().as_deref(), Some(hint));
    }
}

#[test]
fn a_key_of_a_later_version_is_not_implemented_yet() {
    let agent = |member: &str| {
        format!("{{\"bottles\": {{\"d\": {{}}}}, \"agents\": {{\"a\": {{\"bottle\": \"d\", {member}}}}}}}")
    };
    for (text, expected) in [
        (bottle(r#""build": {}"#), "bottles.dev.build: `build` is not implemented yet"),
        (bottle(r#""git": false"#), "bottles.dev.git: `git` is not implemented yet"),
        (bottle(r#""signing": {}"#), "bottles.dev.signing: `signing` is not implemented yet"),
        (bottle(r#""ports": [3000]"#), "bottles.dev.ports: `ports` is not implemented yet"),
        (bottle(r#""keep": []"#), "bottles.dev.keep: `keep` is not implemented yet"),
        (bottle(r#""env": {"A": {"ask": "x"}}"#), "bottles.dev.env.A.ask: `ask` is not implemented yet"),
        (
            bottle(r#""egress": {"engine": "builtin"}"#),
            "bottles.dev.egress.engine: engine `builtin` is not implemented yet",
        ),
        (
            bottle(r#""egress": {"engine": "pipelock"}"#),
            "bottles.dev.egress.engine: engine `pipelock` is not implemented yet",
        ),
        (route(&[("provides", r#""npm""#)]), "routes[0].provides: `provides` is not implemented yet"),
        (route(&[("rewrite_urls", "true")]), "routes[0].rewrite_urls: `rewrite_urls` is not implemented yet"),
        (
            route(&[("auth", r#"{"scheme": "none"}"#)]),
            "routes[0].auth.scheme: scheme `none` is not implemented yet",
        ),
        (
            route(&[("token", r#"{"command": ["x"]}"#)]),
            "routes[0].token.command: `command` is not implemented yet",
        ),
        (agent(r#""skills": ["review"]"#), "agents.a.skills: copying skills is not implemented yet"),
        (r#"{"egress_sets": {}}"#.into(), "f:1:2: egress_sets: `egress_sets` is not implemented yet"),
    ] {
        let error = error(&text).to_string();
        assert!(error.ends_with(expected), "{error}");
    }
    parse("f", &agent(r#""skills": []"#)).unwrap();
}

#[test]
fn no_message_speaks_of_rust() {
    for value in ["null", "true", "7", "\"x\"", "[]", "{}", "[[]]", "{\"a\": 1}", "-1e9"] {
        for key in BOTTLE_KEYS {
            let Err(error) = parse("f", &bottle(&format!("\"{key}\": {value}"))) else { continue };
            let error = all_of(&error).to_lowercase();
            for word in [
                "invalid type",
                "sequence",
                "a map",
                "struct",
                "unit",
                "integer",
                "floating",
                "variant",
                "field",
            ] {
                assert!(!error.contains(word), "{key}: {value}: {error}");
            }
        }
    }
}

const BOTTLE_KEYS: &[&str] = &[
    "image",
    "user",
    "env",
    "ssh",
    "cred_proxy",
    "egress",
    "egress_network",
    "hosts",
    "upstream_proxy",
    "limits",
];

#[test]
fn json_that_is_not_is_an_error_of_the_file() {
    for (text, expected) in [
        ("{} // x", "f:1:4: JSON has no comments"),
        ("{\"bottles\": {},}", "f:1:15: trailing comma before `}`"),
        ("", "f:1:1: expected a value, found the end of the file"),
        ("\u{feff}[]", "f:1:1: expected an object, found an array"),
    ] {
        assert_eq!(error(text).to_string(), expected);
    }
}

#[test]
fn what_is_long_is_not_printed() {
    let long = "x".repeat(5000);
    for text in [
        bottle(&format!("\"image\": \"{long} \"")),
        bottle(&format!("\"{long}\": 1")),
        bottle(&format!("\"hosts\": {{\"{long}\": \"10.0.0.1\"}}")),
        bottle(&format!("\"limits\": {{\"pids\": {}}}", "9".repeat(5000))),
        format!("{{\"bottles\": {{\"{long}\": {{}}}}, \"agents\": {{}}}}"),
    ] {
        let error = error(&text);
        assert!(error.to_string().len() < 300 && !all_of(&error).contains(&long[..90]), "{error}");
    }
}

#[test]
fn a_manifest_of_many_items_is_read_in_linear_time() {
    let rows: Vec<_> = (0..8000)
        .map(|n| format!("{{\"Host\":\"h{n}\",\"Hostname\":\"h\",\"IdentityFile\":\"k\"}}"))
        .collect();
    let started = std::time::Instant::now();
    assert_eq!(
        parse("f", &bottle(&format!("\"ssh\":[{}]", rows.join(",")))).unwrap().bottles["dev"].ssh.len(),
        8000
    );
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}
