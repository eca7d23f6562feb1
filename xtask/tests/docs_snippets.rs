//! Every snippet of the README and `docs/` works: JSON is parsed, shell is parsed, and each command
//! line of ours has only commands and options that the program has. Nothing is run, and a block
//! whose language is not known here fails, so nothing is skipped.

#[path = "docs_snippets/commands.rs"]
mod commands;
#[path = "docs_snippets/json.rs"]
mod json;
#[path = "docs_snippets/markdown.rs"]
mod markdown;
#[path = "docs_snippets/shell.rs"]
mod shell;

use std::path::{Path, PathBuf};

use markdown::{Block, Page};

/// Documents in the checkout's folder; those in `docs/` are added.
const PAGES: [&str; 4] = ["README.md", "SECURITY.md", "ARCHITECTURE.md", "CHANGELOG.md"];

#[test]
fn every_snippet_of_the_documentation_works() {
    let faults: Vec<String> = pages().iter().flat_map(faults).collect();
    assert!(faults.is_empty(), "{} broken snippets:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_documentation_has_snippets_of_every_kind() {
    let pages = pages();
    let blocks: Vec<&Block> = pages.iter().flat_map(|page| &page.blocks).collect();
    for language in ["json manifest", "json ports", "json route", "json rules", "console", "ini", "yaml"] {
        assert!(blocks.iter().any(|block| block.language == language), "no `{language}` block was found");
    }
    assert!(pages.iter().any(|page| !page.code.is_empty()), "no inline code was found");
}

/// A broken snippet, and a part of what is reported about it.
const BROKEN: [(&str, &str, &str); 17] = [
    ("a manifest with a misspelt key", "```json manifest\n{\"botles\": {}}\n```", "botles"),
    (
        "a port that is too large",
        "```json ports\n{\"forwards\":[{\"listen\":70000,\"upstream\":\"a:1\"}]}\n```",
        "70000",
    ),
    (
        "a route without a token",
        "```json route\n{\"path\":\"/a/\",\"upstream\":\"https://a.example\"}\n```",
        "auth",
    ),
    ("a rule that is not a list", "```json rules\n\"allow\": 1\n```", "sequence"),
    ("JSON that does not end", "```json\n{\n```", "EOF"),
    (
        "a table that `cat` prints",
        "```console\n$ cat ports.json\n{ \"forwards\": [] }\n```",
        "at least one row",
    ),
    (
        "a readiness line with a misspelt key",
        "```console\n$ ssh-gate\n{\"event\":\"ready\",\"nam\":1}\n```",
        "nam",
    ),
    ("a quote that does not end", "```console\n$ echo 'a\n```", "unexpected EOF"),
    ("an option that does not exist", "```console\n$ claude-bottle list --al\n```", "--al"),
    ("a command that does not exist", "```console\n$ cargo xtask dmo\n```", "dmo"),
    ("an option behind a pipe", "```console\n$ echo x | cred-proxy --token stdin\n```", "--token"),
    ("an option within a substitution", "```console\n$ eval \"$(cargo xtask env --x)\"\n```", "--x"),
    (
        "an option behind the name of an image",
        "```console\n$ docker run --rm ssh-gate --port x\n```",
        "--port",
    ),
    ("an option in a unit", "```ini\nExecStart=/usr/local/bin/ssh-gate --port x\n```", "--port"),
    ("an option in inline code", "Run `forward-load compare\ntcp --lst`.", "--lst"),
    ("a session without a command", "```console\nclaude-bottle list\n```", "without a command"),
    ("a language that is not known", "```python\n1\n```", "python"),
];

#[test]
fn a_broken_snippet_is_found() {
    for (name, text, reported) in BROKEN {
        let found = faults(&Page::parse("page.md", text)).join("\n");
        assert!(found.contains(reported), "{name}: {found:?} does not contain {reported:?}");
        assert!(found.starts_with("page.md:1: ") || found.starts_with("page.md:2: "), "{name}: {found}");
    }
}

fn pages() -> Vec<Page> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths: Vec<PathBuf> = PAGES.iter().map(PathBuf::from).collect();
    for entry in std::fs::read_dir(root.join("docs")).expect("the checkout has a folder `docs`") {
        let name = entry.expect("the folder can be read").file_name();
        paths.push(Path::new("docs").join(name));
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(root.join(path)).expect("a document is text");
        Page::parse(&path.display().to_string(), &text)
    };
    paths.iter().map(read).collect()
}

/// What is wrong with the snippets of a page: `FILE:LINE: FAULT`.
fn faults(page: &Page) -> Vec<String> {
    let blocks = page.blocks.iter().flat_map(|block| {
        let faults = of_block(block);
        faults.into_iter().map(|fault| (block.line, fault))
    });
    let code = page.code.iter().filter_map(|code| {
        let fault = commands::check_mention(&code.text).err()?;
        Some((code.line, fault))
    });
    blocks.chain(code).map(|(line, fault)| format!("{}:{line}: {fault}", page.name)).collect()
}

fn of_block(block: &Block) -> Vec<String> {
    let checked = match block.language.as_str() {
        "text" | "yaml" | "ssh-config" => Ok(()),
        "ini" => return commands::unit(&block.text),
        "console" => {
            let session = shell::Session::parse(&block.text);
            if session.outputs.is_empty() {
                return vec!["a session without a command (a line that begins with `$ `)".to_owned()];
            }
            let script = shell::check(&session.script).err();
            let lines = commands::check_script(&session.script);
            let output = session.outputs.iter().filter_map(|output| json::check_output(output).err());
            return script.into_iter().chain(lines).chain(output).collect();
        }
        language => match language.strip_prefix("json") {
            Some(kind) => json::check(kind.trim(), &block.text),
            None => Err(format!("a block of the unknown language {language:?}")),
        },
    };
    checked.err().into_iter().collect()
}
