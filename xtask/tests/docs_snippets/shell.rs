//! Shell: a session is split into commands and what they print, and a script into command lines.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// A block of a terminal session.
pub(crate) struct Session {
    /// The commands, without `$ `.
    pub(crate) script: String,
    pub(crate) outputs: Vec<Output>,
}

/// What a command printed.
pub(crate) struct Output {
    pub(crate) command: String,
    pub(crate) text: String,
}

impl Session {
    /// A line that begins with `$ ` is a command, and continues while it ends with a backslash.
    pub(crate) fn parse(text: &str) -> Self {
        let mut session = Self { script: String::new(), outputs: Vec::new() };
        let mut is_continued = false;
        for line in text.lines() {
            let typed = line.strip_prefix("$ ");
            if let Some(command) = typed {
                session.outputs.push(Output { command: command.to_owned(), text: String::new() });
            }
            if typed.is_some() || is_continued {
                session.script.push_str(typed.unwrap_or(line));
                session.script.push('\n');
                is_continued = line.ends_with('\\');
            } else if let Some(output) = session.outputs.last_mut() {
                output.text.push_str(line);
                output.text.push('\n');
            }
        }
        session
    }
}

/// Whether bash can parse a script.
pub(crate) fn check(script: &str) -> Result<(), String> {
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bash is installed");
    bash.stdin.take().expect("stdin is piped").write_all(script.as_bytes()).expect("bash reads its script");
    let ended = bash.wait_with_output().expect("bash ends");
    // Some warnings, such as that of an unfinished here-document, are exit 0.
    if ended.status.success() && ended.stderr.is_empty() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&ended.stderr).trim().to_owned())
    }
}

/// The command lines of a script, in words: of lists, pipes, subshells and substitutions too.
/// Quotes are removed, variables and redirections stay as they are.
pub(crate) fn command_lines(script: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    split(&mut script.chars().peekable(), None, &mut all);
    all
}

/// In place of the output of a substitution: valid as a name and as a number.
const SUBSTITUTED: &str = "1";

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Reads up to `end`, a bracket that closes what was opened, or to the end of the script.
fn split(chars: &mut Chars<'_>, end: Option<char>, all: &mut Vec<Vec<String>>) {
    let mut line: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    while let Some(char) = chars.next() {
        match (quote, char) {
            (Some(open), char) if char == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(char);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
            },
            (None | Some('"'), '$') if chars.peek() == Some(&'(') => {
                chars.next();
                split(chars, Some(')'), all);
                word.get_or_insert_default().push_str(SUBSTITUTED);
            }
            (Some(_), char) => word.get_or_insert_default().push(char),
            (None, '#') if word.is_none() => while chars.next_if(|&char| char != '\n').is_some() {},
            (None, '(') => split(chars, Some(')'), all),
            (None, char) if Some(char) == end => break,
            (None, ' ' | '\t') => line.extend(word.take()),
            (None, '\n' | ';' | '&' | '|') => {
                line.extend(word.take());
                all.push(std::mem::take(&mut line));
            }
            (None, char) => word.get_or_insert_default().push(char),
        }
    }
    line.extend(word);
    all.push(line);
    all.retain(|line| !line.is_empty());
}
