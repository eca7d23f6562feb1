//! HTTPS APIs in a bottle: through the proxy, with a token that the agent uses and never has.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use e2e::Stage;

/// Asks as curl does, and prints `NAME STATUS` for each line `NAME CURL-ARGUMENTS` of stdin.
const ASK: &str = r#"
    while read -r name arguments; do
        eval "set -- $arguments"
        printf '%s %s\n' "$name" "$(curl --silent --output /dev/null --max-time 10 \
            --write-out '%{http_code} %{http_connect}' "$@" </dev/null)"
    done"#;

fn statuses(said: &str) -> BTreeMap<&str, &str> {
    said.lines().filter_map(|line| line.split_once(' ')).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_asks_an_api_with_a_token_that_it_never_holds() {
    let stage = Stage::set().await;
    // What it sends as its own is not what the API sees; answers are kept with their heads.
    let script = r#"cd
        read -r token
        printf '%s' "$token" >planted
        for own in 'X-Nothing: 1' 'Authorization: Bearer mine' 'X-Api-Key: mine'; do
            curl --silent --show-error --fail --include --max-time 10 --header "$own" \
                http://cred-proxy:9099/api/whoami || exit 1
            echo
        done | tee answers
        curl --silent --include --max-time 10 --header "X-Echo: $(env)" http://cred-proxy:9099/api/nothing >>answers
        grep -rlaF -D skip -f planted --exclude-dir=proc --exclude-dir=sys / 2>/dev/null
        grep -laF -f planted /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null
        true"#;
    let token = stage.scene.api.token.clone();
    let ran =
        stage.run(&stage.scene.manifest(), "proxy-token", script, format!("{token}\n").as_bytes()).await;
    let ran = ran.expect_code(0);
    assert_eq!(ran.stdout.matches(r#""authorized":true"#).count(), 3, "{}", ran.stdout);
    let found: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with('/')).collect();
    assert_eq!(found, ["/home/node/planted"], "only what the search itself had planted");
    assert!(!ran.stdout.contains(&token), "{}", ran.stdout);
    assert!(!ran.stderr.contains(&token), "{}", ran.stderr);
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_knows_nobody_who_comes_without_the_proxy() {
    let stage = Stage::set().await;
    // From the scene, where the API can be reached, it is the token that is missing.
    let host = stage.scene.git_hosts[0].container.0.clone();
    let asked = "direct --insecure https://api.demo.internal/whoami\n";
    let done = stage.exec(&host, "0:0", ASK, asked.as_bytes()).await;
    assert_eq!(done.said, "direct 401 000\n");

    // From the bottle there is not even a way.
    let address = stage.scene.api.address;
    let asked = format!(
        "direct --insecure --resolve api.demo.internal:443:{address} https://api.demo.internal/whoami\n\
         proxied http://cred-proxy:9099/api/whoami\n"
    );
    let ran = stage.run(&stage.scene.manifest(), "proxy-direct", ASK, asked.as_bytes()).await.expect_code(0);
    assert_eq!(ran.stdout, "direct 000 000\nproxied 200 000\n");
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_declares_is_refused() {
    let stage = Stage::set().await;
    // Each with the status of its refusal; the last column is that of a CONNECT.
    let asked = [
        ("declared http://cred-proxy:9099/api/whoami", "200 000"),
        ("undeclared http://cred-proxy:9099/elsewhere/", "404 000"),
        ("root http://cred-proxy:9099/", "404 000"),
        ("longer-segment http://cred-proxy:9099/apis/whoami", "404 000"),
        ("other-case http://cred-proxy:9099/API/whoami", "404 000"),
        ("dot-segments --path-as-is http://cred-proxy:9099/api/../whoami", "400 000"),
        ("foreign-host --header 'Host: git.demo.internal' http://cred-proxy:9099/api/whoami", "421 000"),
        ("apis-host --header 'Host: api.demo.internal' http://cred-proxy:9099/api/whoami", "421 000"),
        ("no-host --header 'Host;' http://cred-proxy:9099/api/whoami", "400 000"),
        ("absolute-form --proxy http://cred-proxy:9099 http://git.demo.internal/api/whoami", "421 000"),
        ("own-absolute-form --proxy http://cred-proxy:9099 http://cred-proxy:9099/api/whoami", "200 000"),
        ("tunnel --proxytunnel --proxy http://cred-proxy:9099 http://git.demo.internal:22/", "000 405"),
        ("tls-tunnel --insecure --proxy http://cred-proxy:9099 https://api.demo.internal/whoami", "000 405"),
        ("trace --request TRACE http://cred-proxy:9099/api/whoami", "405 000"),
        ("declared-still http://cred-proxy:9099/api/whoami", "200 000"),
    ];
    let stdin: String = asked.iter().map(|(line, _)| format!("{line}\n")).collect();
    let ran = stage.run(&stage.scene.manifest(), "proxy-refuse", ASK, stdin.as_bytes()).await.expect_code(0);
    let found = statuses(&ran.stdout);
    for (line, expected) in asked {
        let name = line.split(' ').next().unwrap();
        assert_eq!(found.get(name), Some(&expected), "{line}\n{}", ran.stdout);
    }
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_arrives_event_by_event() {
    let stage = Stage::set().await;
    // The API leaves 100 ms between its five events. When each line came, in milliseconds.
    let script = r#"curl --silent --show-error --fail --no-buffer --max-time 20 http://cred-proxy:9099/api/stream |
        while read -r line; do
            [[ $line == data:* ]] && printf '%s %s\n' "$((${EPOCHREALTIME/[.,]/} / 1000))" "$line"
        done
        true"#;
    let ran = stage.run(&stage.scene.manifest(), "proxy-stream", script, b"").await.expect_code(0);
    let events: Vec<(u64, &str)> = ran
        .stdout
        .lines()
        .map(|line| line.split_once(' ').map(|(at, event)| (at.parse().unwrap(), event)).unwrap())
        .collect();
    let data: Vec<&str> = events.iter().map(|(_, event)| *event).collect();
    assert_eq!(data, (1..=5).map(|n| format!("data: {{\"n\":{n}}}")).collect::<Vec<_>>());
    let lasted = events[4].0 - events[0].0;
    assert!(lasted >= 200, "all came at once, within {lasted} ms");
    stage.clear().await;
}
