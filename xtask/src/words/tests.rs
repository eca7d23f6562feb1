//! Planted phrases are found with their place; good English, code and marked lines are not.

use super::*;

fn found(file: &str, text: &str) -> Vec<(usize, usize, String)> {
    let hits = check(Path::new(file), text).into_iter();
    hits.map(|hit| (hit.line, hit.column, hit.found)).collect()
}

fn one(line: usize, column: usize, phrase: &str) -> Vec<(usize, usize, String)> {
    vec![(line, column, phrase.to_owned())]
}

#[test]
fn a_planted_phrase_is_found_with_its_place() {
    let text = "# Title\n\nThe host \"git\" stands twice.\n"; // words: allow
    assert_eq!(found("a.md", text), one(3, 16, "stands twice")); // words: allow
    assert_eq!(found("a.md", "- NOBODY's file\n"), one(1, 3, "nobody's")); // words: allow
}

#[test]
fn a_phrase_is_found_across_a_line_break_within_a_paragraph() {
    assert_eq!(found("a.md", "A sentence that is\nno *sentence*.\n"), one(1, 17, "is no")); // words: allow
    let doc = "/// The file is\n/// not there.\nfn f() {}\n"; // words: allow
    assert_eq!(found("a.rs", doc), one(2, 5, "not there")); // words: allow
    let doc = "//! A line that is\n//! no line.\n"; // words: allow
    assert_eq!(found("a.rs", doc), one(1, 17, "is no")); // words: allow
    let text = "fn f() {\n    g(\"a name that is \\\n       no name\");\n}\n"; // words: allow
    assert_eq!(found("a.rs", text), one(2, 20, "is no")); // words: allow
}

#[test]
fn a_phrase_does_not_cross_a_paragraph_a_sentence_a_cell_or_a_comma() {
    for text in [
        "What it is\n\nNo more.\n",
        "That is what it is. No more.\n",
        "| what it is | no more |\n",
        "- what it is\n- no more\n",
        "If the answer is, no matter why, late\n",
        "# What it is\nNo more.\n",
    ] {
        assert_eq!(found("a.md", text), [], "{text}");
    }
}

#[test]
fn help_and_messages_are_checked_and_code_is_not() {
    let help = "struct A {\n    /// The address, 127.0.0.1 unless told otherwise\n    a: u8,\n}\n"; // words: allow
    let phrases: Vec<String> = found("a.rs", help).into_iter().map(|(.., found)| found).collect();
    assert_eq!(phrases, ["unless told", "told otherwise"]); // words: allow
    let error = "#[error(\"the file {} is no file\", path.display())]\n"; // words: allow
    assert_eq!(found("a.rs", error), one(1, 22, "is no")); // words: allow
    for code in [
        "fn nobody() { let somebody = whoever(b\"nobody\"); }\n", // words: allow
        "// nobody reads this\nfn f<'a>(a: &'a str) -> char { '\"' }\n", // words: allow
        "/* nobody \" reads */ fn f() -> char { '\\'' }\n",       // words: allow
        "fn f() { g(r#\"a \"quoted\" text\"#, '\"', \"the user `nobody`\"); }\n", // words: allow
    ] {
        assert_eq!(found("a.rs", code), [], "{code}");
    }
    assert_eq!(found("a.md", "The user `nobody` owns it.\n"), []); // words: allow
}

#[test]
fn a_raw_literal_is_checked_and_the_code_after_it_is_read_as_code() {
    let text = "let a = r##\"x \"# nobody\"##; let nobody = 1; let b = \"whoever\";\n"; // words: allow
    let phrases: Vec<String> = found("a.rs", text).into_iter().map(|(.., found)| found).collect();
    assert_eq!(phrases, ["nobody", "whoever"]); // words: allow
}

#[test]
fn a_wildcard_stands_for_a_few_words_of_one_sentence() {
    let hit = found("a.md", "It makes the variable that names it void.\n"); // words: allow
    assert_eq!(hit, one(1, 4, "makes the variable that names it void")); // words: allow
    assert_eq!(found("a.md", "It makes a table. A void follows.\n"), []);
}

#[test]
fn good_english_that_contains_a_phrase_is_not_reported() {
    for text in [
        "There is no default, and there are none.",
        "It is no longer used, and it is no larger than before.",
        "The two can be told apart: both are told apart by name.",
        "A stub may stand in for the engine.",
    ] {
        assert_eq!(found("a.md", text), [], "{text}");
    }
}

#[test]
fn a_marked_line_is_exempt() {
    assert_eq!(found("a.md", "Not \"nobody\". <!-- words: allow -->\n"), []);
    assert_eq!(found("a.rs", "let a = \"nobody\"; // words: allow\n"), []);
}

#[test]
fn every_path_of_the_scope_exists() {
    for path in SCOPE.iter().chain(NOT_YET).chain([&EXCLUDED]) {
        assert!(root().join(path).exists(), "{path}");
    }
}

#[test]
fn every_crate_is_in_the_scope_or_listed_as_not_yet() {
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    for entry in crates {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_listed = |path: &&str| path.split('/').nth(1) == Some(name.as_str());
        assert!(SCOPE.iter().chain(NOT_YET).any(is_listed), "crates/{name}");
    }
}

/// Examples of the phrases that the style guide names, each in a sentence.
const NAMED: [&str; 27] = [
    "The host stands twice.",                       // words: allow
    "It is no private key.",                        // words: allow
    "A port that is none.",                         // words: allow
    "That nobody reads.",                           // words: allow
    "If somebody asks.",                            // words: allow
    "It is sent to whoever connects.",              // words: allow
    "The keys of those who connect.",               // words: allow
    "The runtime is told so.",                      // words: allow
    "Loopback, unless told otherwise.",             // words: allow
    "The file must be there.",                      // words: allow
    "A feature that is not there yet.",             // words: allow
    "This was mended.",                             // words: allow
    "It makes the variable void.",                  // words: allow
    "Exits by what became of it.",                  // words: allow
    "The first key seen is believed.",              // words: allow
    "The launch walks back.",                       // words: allow
    "It depends on who answers.",                   // words: allow
    "The ssh hosts make no port table.",            // words: allow
    "How long an upstream may think.",              // words: allow
    "The time before its answer's head.",           // words: allow
    "Bytes pass unchanged, and so does their end.", // words: allow
    "Everything but for the gate.",                 // words: allow
    "Three rows, the last of which is used.",       // words: allow
    "The proxy speaks TLS.",                        // words: allow
    "The system said why.",                         // words: allow
    "The option stands in the table.",              // words: allow
    "A route that leads nowhere.",                  // words: allow
];

#[test]
fn every_phrase_of_the_style_guide_is_found() {
    for sentence in NAMED {
        assert!(!found("a.md", sentence).is_empty(), "{sentence}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
