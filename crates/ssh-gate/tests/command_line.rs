//! Options, variables and tables: what is wrong is said in a line, with its place and its exit code.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;

use std::io::Write;

use gate::{Gate, Ran, command, ran, run};
use testbed::tcp::Echo;

fn table(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn a_faulty_table_is_78_with_its_place() {
    for (text, expected) in [
        (
            "{\"forwards\":[\n{\"listen\":70000,\"upstream\":\"a:1\"}]}",
            ":2:11: expected a port between 1 and 65535, found 70000",
        ),
        ("{\"forwards\":[\n{\"listen\":1,\"upstream\":\"a:1\",\"nick\":1}]}", "unknown field `nick`"),
        (
            "{\"forwards\":[{\"listen\":1,\"upstream\":\"a:1\"},{\"listen\":1,\"upstream\":\"b:1\"}]}",
            "listener 1 stands twice",
        ),
        ("{\"forwards\":[]}", ":1:2: expected at least one row"),
        (
            "{\"forwards\":[{\"listen\":1,\"upstream\":\n\"a:0\"}]}",
            ":2:1: expected a port between 1 and 65535, found \"0\"",
        ),
        ("{\"forwards\":[{\"listen\":1,\"upstream\":\"::1:22\"}]}", "an IPv6 address in brackets"),
        (
            "{\"forwards\":[{\"listen\":1,\"upstream\":\"a:1\",\"alias\":\"x\"},\n{\"listen\":2,\"upstream\":\"a:1\",\"alias\":\"x\"}]}",
            ":2:38: alias \"x\" stands twice",
        ),
        (
            "{\"forwards\":[{\"listen\":1,\"upstream\":\"a:1\"}],\"forwards\":[]}",
            "duplicate field `forwards`",
        ),
        ("{\"forwards\":[{\"listen\":1,\"upstream\":\"a:1\"}]} x", ":1:46: trailing characters"),
        ("{\"forwards\":[{\"listen\":1,\"upstream\":\"a:1\",\"\u{1b}[2J\":1}]}", "control character"),
        (
            "{\"forwards\":[{\"listen\":1,\"upstream\":\"a:1\",\"\\u001b[2J\":1}]}",
            "unknown field `\\u{1b}[2J`",
        ),
        ("", ":1:1: EOF while parsing"),
        ("[]", ":1:2: invalid length 0, expected an object with `forwards`"),
        ("{\"forwards\":null}", ":1:13: expected a list of rows, found null"),
        (
            "{\"forwards\":[{\"listen\":1,\"upstream\":\"a:1\",\"protocol\":\"http\"}]}",
            "unknown variant `http`, expected `tcp` or `ssh`",
        ),
    ] {
        let file = table(text);
        let path = file.path().display().to_string();
        for line in [format!("--ports {path}"), format!("check --ports {path}")] {
            let Ran { code, stdout, stderr } = run(&line).await;
            assert_eq!((code, stdout.as_str()), (Some(78), ""), "{line}: {stderr}");
            assert!(
                stderr.starts_with(&format!("ssh-gate: {path}")) && stderr.contains(expected),
                "{stderr}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_no_table_at_all_is_78_too() {
    for (line, expected) in [
        ("", "no port table was given\nhint: give --ports FILE"),
        ("--ports /", "could not read /: Is a directory"),
        ("--ports /nonexistent/ports.json", "could not read /nonexistent/ports.json: No such file"),
        ("--forward 1=a:1 --forward 1=b:1", "listener 1 stands twice"),
        ("--forward 127.0.0.1:1=a:1 --forward 1=b:1", "duplicate listener 127.0.0.1:1"),
        ("--forward 1=a:1,alias=x --forward 2=b:1,alias=x", "alias \"x\" stands twice"),
    ] {
        let Ran { code, stdout, stderr } = run(line).await;
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{line}: {stderr}");
        assert!(stderr.contains(expected), "{line}: {stderr}");
        assert!(stderr.lines().count() <= 2, "{stderr}");
    }
}

#[tokio::test]
async fn a_bad_command_line_is_2() {
    for line in [
        "--forward nonsense",
        "--forward 1=a",
        "--forward 70000=a:1",
        "--forward 1=a:1,protocol=http",
        "--forward 1=a:1,alias=",
        "--forward 1=a:1,alias=x,alias=y",
        "--nonsense",
        "--max-connections 0 --forward 1=a:1",
        "--connect-timeout 10 --forward 1=a:1",
        "--bind nowhere --forward 1=a:1",
        "--admin 9901 --forward 1=a:1",
        "check extra",
        "--connect-timeout 0s --forward 1=a:1",
        "--idle-timeout never --forward 1=a:1",
        "--log-format xml --forward 1=a:1",
    ] {
        let Ran { code, stdout, stderr } = run(line).await;
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{line}: {stderr}");
        assert!(!stderr.is_empty());
    }
}

#[tokio::test]
async fn check_prints_table_then_rows_and_binds_nothing() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!("{{\"forwards\":[{{\"listen\":{port},\"upstream\":\"A.example:22\"}}]}}");
    let file = table(&text);
    let path = file.path().display();
    for line in [
        format!("check --ports {path} --forward [::1]:2=b:1,alias=b"),
        format!("--forward [::1]:2=b:1,alias=b --ports {path} check"),
    ] {
        let Ran { code, stdout, stderr } = run(&line).await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        let expected = format!(
            "{{\"forwards\":[{{\"listen\":{port},\"upstream\":\"a.example:22\",\"alias\":\"row-0\",\"protocol\":\"tcp\"}},\
             {{\"bind\":\"::1\",\"listen\":2,\"upstream\":\"b:1\",\"alias\":\"b\",\"protocol\":\"tcp\"}}]}}\n"
        );
        assert_eq!(stdout, expected);
    }
}

#[tokio::test]
async fn every_option_is_a_variable_too() {
    let echo = Echo::start().await;
    let mut by_variable = command("");
    by_variable
        .env("SSH_GATE_FORWARD", format!(" 0={0}\n 0={0},alias=b ", echo.addr()))
        .env("SSH_GATE_ADMIN", "off")
        .env("SSH_GATE_BIND", "127.0.0.2")
        .env("SSH_GATE_PORTS", "")
        .env("SSH_GATE_STDIN_BUNDLE", "off")
        .env("SSH_GATE_MAX_CONNECTIONS", "");
    let gate = Gate::spawn(by_variable, None).await;
    assert_eq!(gate.ready["listeners"].as_array().unwrap().len(), 2);
    assert_eq!(gate.listener(1).ip().to_string(), "127.0.0.2");
}

#[tokio::test]
async fn a_switchs_variable_takes_the_usual_words_and_no_other() {
    for (word, code) in [
        ("1", 78),
        ("true", 78),
        ("yes", 78),
        ("on", 78),
        ("0", 0),
        ("false", 0),
        ("no", 0),
        ("off", 0),
        ("", 0),
        ("maybe", 2),
    ] {
        // On: the bundle that does not come is the trouble. Off: the row is checked.
        let mut check = command("check");
        check.env("SSH_GATE_STDIN_BUNDLE", word).env("SSH_GATE_FORWARD", "1=a:1");
        let ran = ran(check).await;
        assert_eq!(ran.code, Some(code), "{word}: {ran:?}");
    }
}

#[tokio::test]
async fn what_is_typed_is_never_split_and_a_variable_is() {
    let mut typed = command("check --forward");
    typed.arg("1=a:1 2=b:1");
    assert_eq!(ran(typed).await.code, Some(2));
    let mut by_variable = command("check");
    by_variable.env("SSH_GATE_FORWARD", "1=a:1\t2=b:1\n 3=c:1");
    let said = ran(by_variable).await.stdout;
    assert_eq!(said.matches("listen").count(), 3, "{said}");
}

#[tokio::test]
async fn help_and_version_are_0_and_stand_on_stdout() {
    for (line, begins) in [("--version", "ssh-gate "), ("--help", "Forward a table of TCP ports")] {
        let ran = run(line).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert!(ran.stdout.starts_with(begins), "{ran:?}");
    }
}

#[tokio::test]
async fn check_reads_a_bundle_too_and_does_not_wait_for_the_end_of_stdin() {
    let mut check = command("check --stdin-bundle");
    check.stdin(std::process::Stdio::piped());
    let mut child = check.spawn().unwrap();
    let mut open = child.stdin.take().unwrap();
    let line = b"{\"version\":1,\"table\":{\"forwards\":[{\"listen\":1,\"upstream\":\"a:1\"}]}}\n";
    tokio::io::AsyncWriteExt::write_all(&mut open, line).await.unwrap();
    let output = tokio::time::timeout(gate::PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"alias\":\"row-0\""));
}

#[tokio::test]
async fn what_is_typed_makes_variables_for_tables_void() {
    let file = table("{\"forwards\":[{\"listen\":1,\"upstream\":\"file:1\"}]}");
    let mut typed_row = command("check --forward 2=typed:1");
    typed_row.env("SSH_GATE_PORTS", "/nonexistent").env("SSH_GATE_STDIN_BUNDLE", "1");
    typed_row.env("SSH_GATE_FORWARD", "3=variable:1");
    let said = ran(typed_row).await.stdout;
    assert!(said.contains("typed:1") && !said.contains("variable:1"), "{said}");
    let mut typed_table = command("check --ports");
    typed_table.arg(file.path()).env("SSH_GATE_FORWARD", "3=variable:1");
    let said = ran(typed_table).await.stdout;
    assert!(said.contains("file:1") && !said.contains("variable:1"), "{said}");
    let mut both = command("check");
    both.env("SSH_GATE_PORTS", file.path()).env("SSH_GATE_FORWARD", "3=variable:1");
    let said = ran(both).await.stdout;
    assert!(said.contains("file:1") && said.contains("variable:1"), "{said}");
}

#[tokio::test]
async fn what_is_typed_wins_over_its_variable_wherever_it_stands_and_whatever_that_says() {
    for line in [
        "--admin off --bind ::1 --forward=2=typed:1 check",
        "check --admin off --bind=::1 --forward 2=typed:1",
        "--admin=off check --bind ::1 --forward 2=typed:1",
    ] {
        let mut typed = command(line);
        for name in ["ADMIN", "BIND", "PORTS", "FORWARD", "STDIN_BUNDLE"] {
            typed.env(format!("SSH_GATE_{name}"), "no sense");
        }
        let ran = ran(typed).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{line}");
        assert!(ran.stdout.contains("\"upstream\":\"typed:1\""), "{}", ran.stdout);
    }
    let mut untyped = command("check --forward 2=typed:1");
    untyped.env("SSH_GATE_BIND", "no sense");
    assert_eq!(ran(untyped).await.code, Some(2));
}

#[tokio::test]
async fn help_shows_every_option_with_its_variable() {
    let help = run("--help").await.stdout;
    for (option, variable) in [
        ("--ports <FILE>", "SSH_GATE_PORTS"),
        ("--forward <ROW>", "SSH_GATE_FORWARD"),
        ("--bind", "SSH_GATE_BIND"),
        ("--stdin-bundle", "SSH_GATE_STDIN_BUNDLE"),
        ("--max-connections", "SSH_GATE_MAX_CONNECTIONS"),
        ("--connect-timeout", "SSH_GATE_CONNECT_TIMEOUT"),
        ("--half-close-timeout", "SSH_GATE_HALF_CLOSE_TIMEOUT"),
        ("--idle-timeout", "SSH_GATE_IDLE_TIMEOUT"),
        ("--drain-timeout", "SSH_GATE_DRAIN_TIMEOUT"),
        ("--admin", "SSH_GATE_ADMIN"),
        ("--log-format", "SSH_GATE_LOG_FORMAT"),
    ] {
        assert!(help.contains(option) && help.contains(variable), "{option}: {help}");
    }
}
