//! Every fault of a table, and what is read as it was written.

use super::*;
use crate::table;
use proptest::prelude::*;

fn fault(text: &str) -> String {
    table::parse::<PortTable>("ports.json", text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn every_fault_of_a_table_is_named_with_its_place() {
    let row = |rest: &str| format!("{{\"forwards\":[\n{{\"listen\":1,\"upstream\":\"a:1\"}},\n{{{rest}}}]}}");
    for (text, expected) in [
        (
            row(r#""listen":70000,"upstream":"a:1""#),
            "ports.json:3:11: expected a port between 1 and 65535, found 70000",
        ),
        (row(r#""listen":"70000","upstream":"a:1""#), "expected a port between 1 and 65535, found \"70000\""),
        (row(r#""listen":1,"upstream":"b:1""#), "listener 1 stands twice"),
        (row(r#""listen":2,"upstream":"b:1","alias":"row-0""#), "alias \"row-0\" stands twice"),
        (row(r#""listen":2,"upstream":"b:0""#), "expected a port between 1 and 65535, found \"0\""),
        (row(r#""listen":2,"upstream":"b:1","nick":"x""#), "unknown field `nick`"),
        (row(r#""listen":2,"upstream":"b:1","protocol":"http""#), "unknown variant `http`"),
        (r#"{"forwards":[]}"#.to_owned(), "expected at least one row"),
        (r#"{"forward":[]}"#.to_owned(), "unknown field `forward`"),
        ("{".to_owned(), "EOF while parsing"),
    ] {
        let said = fault(&text);
        assert!(said.contains(expected), "{text}: {said}");
        assert!(said.starts_with("ports.json:"), "{said}");
    }
}

#[test]
fn rows_are_named_by_their_place_and_0_may_repeat() {
    let row = |text: &str| text.parse::<Row>().unwrap();
    let table = PortTable::from_rows([row("0=a:1"), row("0=b:1,alias=b"), row("[::1]:0=c:1")]).unwrap();
    let aliases: Vec<_> = table.forwards().iter().map(|f| f.alias.as_str()).collect();
    assert_eq!(aliases, ["row-0", "b", "row-2"]);
}

#[test]
fn a_row_on_the_command_line_reads_as_documented() {
    let row: Row = "127.0.0.2:30000=github.com:22,alias=github,protocol=ssh".parse().unwrap();
    assert_eq!(row.bind, Some("127.0.0.2".parse().unwrap()));
    assert_eq!((row.listen, row.alias.as_deref(), row.protocol), (30000, Some("github"), Protocol::Ssh));
    for wrong in [
        "30000",
        "x=a:1",
        "1=a",
        "1=a:1,b",
        "1=a:1,protocol=http",
        "::1:1=a:1",
        "[127.0.0.1]:1=a:1",
        "+1=a:1",
    ] {
        assert!(wrong.parse::<Row>().is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn a_typed_row_is_refused_or_is_what_was_typed(text in "(\\[?[0-9a-f.:]{0,6}\\]?:)?[0-9]{1,5}=[a-zA-Z.:\\[\\]0-9-]{1,12}(,(alias|protocol|x)=[a-z]{0,4}){0,3}") {
        if let Ok(row) = text.parse::<Row>() {
            let (listener, rest) = text.split_once('=').unwrap();
            let port = listener.rsplit(':').next().unwrap();
            prop_assert_eq!(port.parse::<u16>(), Ok(row.listen));
            let upstream = rest.split(',').next().unwrap().to_ascii_lowercase();
            let (host, _) = upstream.rsplit_once(':').unwrap();
            // An IPv6 address may be written in several ways.
            prop_assert!(host.starts_with('[') || row.upstream.host.to_string() == host);
            prop_assert!(row.upstream.port > 0);
        }
    }

    #[test]
    fn any_text_is_refused_with_a_place_or_is_a_table_that_is_read_again(
        listens in proptest::collection::vec(any::<u16>(), 0..6),
        host in "[a-z]{1,3}|\\[::[0-9a-f]\\]|127.0.0.[0-9]|[0-9.]{1,4}|\\PC{0,4}",
        alias in "\\PC{0,3}|row-[0-9]",
        junk in "[\\{\\}\\[\\],:\"\\n ]{0,2}",
    ) {
        let row = |(n, listen): (usize, &u16)| {
            let alias = if n == 0 { format!(",\"alias\":{alias:?}") } else { String::new() };
            format!("{{\"listen\":{listen},\"upstream\":\"{host}:{}\"{alias}}}", n + 1)
        };
        let rows: Vec<_> = listens.iter().enumerate().map(row).collect();
        let text = format!("{{\"forwards\":[\n{}{junk}]}}", rows.join(",\n"));
        match table::parse::<PortTable>("t", text.as_bytes()) {
            Ok(table) => {
                let printed = serde_json::to_vec(&table).unwrap();
                prop_assert_eq!(table::parse::<PortTable>("t", &printed).unwrap(), table.clone());
                prop_assert_eq!(PortTable::from_rows(table.clone().into_rows()).unwrap(), table);
            }
            Err(error) => {
                let said = error.to_string();
                let mut parts = said.splitn(4, ':').skip(1);
                let line: usize = parts.next().unwrap().parse().unwrap();
                let column: usize = parts.next().unwrap().parse().unwrap();
                let length = text.lines().nth(line - 1).map_or(0, str::len);
                prop_assert!(line <= text.lines().count() + 1 && column <= length + 1, "{said} of {text}");
            }
        }
    }
}

#[test]
fn what_is_printed_is_read_again() {
    let table =
        PortTable::from_rows(["127.0.0.2:1=a:1".parse().unwrap(), "2=[::1]:2".parse().unwrap()]).unwrap();
    let text = serde_json::to_vec(&table).unwrap();
    assert_eq!(table::parse::<PortTable>("t", &text).unwrap(), table);
}
