use proptest::prelude::*;

use super::*;

/// What serde_json makes of the same tree; of a key twice the last, as it does.
fn plain(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(text) => serde_json::from_str(text).unwrap(),
        Value::Text(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(members) => {
            members.iter().map(|member| (member.key.clone(), plain(&member.value))).collect()
        }
    }
}

fn agrees(text: &str) {
    let (ours, theirs) = (read(text), serde_json::from_str::<serde_json::Value>(text));
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => assert_eq!(&plain(ours), theirs, "{text:?}"),
        (Err(_), Err(_)) => {}
        _ => panic!("{text:?}: ours {ours:?}, serde_json's {theirs:?}"),
    }
}

#[test]
fn the_corners_of_json_are_those_of_serde_json() {
    for text in [
        "",
        " ",
        "null",
        "nul",
        "nullx",
        "true1",
        "TRUE",
        "0",
        "-0",
        "00",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1E-2",
        "1e400",
        "-1e400",
        "0x10",
        "1_000",
        "NaN",
        "-Infinity",
        "18446744073709551616",
        "\"\"",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\u0041\"",
        "\"\\u00\"",
        "\"\\u+041\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ud83d\\u0041\"",
        "\"\\ude00\"",
        "\"\\x\"",
        "\"\t\"",
        "\"\u{7f}\"",
        "\"é\\u00e9\"",
        "\"\\u00é\"",
        "[]",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{}",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,\"a\":2}",
        "{}{}",
        "1 2",
        "// c\n1",
        "1 // c",
        "[1 /* c */]",
        "#",
        "\u{a0}1",
        "\u{feff}1",
        "\u{b}1",
        "{\"a\":}",
        "[}",
        "{]",
    ] {
        agrees(text);
    }
}

proptest! {
    #[test]
    fn any_text_of_json_s_characters_is_read_as_serde_json_reads_it(
        text in r#"([\[\]{},:"\\0-9eE.+\-a-fnrtul /#é \n]|null|true|"a"|\\u[0-9a-f]{4}|"k":){0,24}"#
    ) {
        agrees(&text);
    }

    #[test]
    fn any_value_is_read_as_serde_json_reads_it(
        items in prop::collection::vec((any::<String>(), any::<f64>(), any::<i64>()), 0..6)
    ) {
        let value = serde_json::json!({ "items": items, "nested": [[{}], []] });
        agrees(&serde_json::to_string_pretty(&value).unwrap());
    }
}

#[test]
fn every_value_and_key_has_its_place_in_characters() {
    let text = "{\n  \"ä\": [1, {\"b\": true}] }";
    let root = read(text).unwrap();
    let Value::Object(members) = &root.value else { panic!("{root:?}") };
    let Value::Array(items) = &members[0].value.value else { panic!("{root:?}") };
    let places = [root.at, members[0].at, items[0].at, items[1].at].map(|at| place(text, at));
    assert_eq!(places, [(1, 1), (2, 3), (2, 9), (2, 12)]);
}

#[test]
fn what_is_not_json_is_named() {
    let deep = "[".repeat(100_000);
    for (text, at, expected) in [
        ("{ // c\n}", (1, 3), "JSON has no comments"),
        ("{} /* c */", (1, 4), "JSON has no comments"),
        ("# c\n{}", (1, 1), "JSON has no comments"),
        ("{\"a\": 1,\n}", (1, 8), "trailing comma before `}`"),
        ("[1, ]", (1, 3), "trailing comma before `]`"),
        ("{'a': 1}", (1, 2), "expected a key in double quotes"),
        ("{\"a\": 'b'}", (1, 7), "JSON strings are in double quotes"),
        ("{\"a\": yes}", (1, 7), "expected a value"),
        ("{\"a\": 01}", (1, 7), "invalid number"),
        ("{\"a\" 1}", (1, 6), "expected `:` after the key"),
        ("{\"a\": 1\n \"b\": 2}", (2, 2), "expected `,` or `}`"),
        ("{\"a\": \"b\n\"}", (1, 9), "line break in a string: write \\n, or close it"),
        ("{\"a\": \"b}", (1, 7), "the string is not closed"),
        ("{\"a\": \"\\q\"}", (1, 8), "invalid escape in a string"),
        ("{\n\"a\": [1", (2, 8), "unexpected end of the file: the array that begins at 2:6 is not closed"),
        ("", (1, 1), "expected a value, found the end of the file"),
        ("{} x", (1, 4), "unexpected text after the end of the JSON value"),
        (deep.as_str(), (1, 65), "nested more than 64 levels deep"),
    ] {
        let error = read(text).unwrap_err();
        let shown: String = text.chars().take(40).collect();
        assert_eq!((place(text, error.at), error.message.as_str()), (at, expected), "{shown}");
    }
}
