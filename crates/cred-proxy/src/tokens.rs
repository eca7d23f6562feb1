//! Where tokens come from, when they do not come with the bundle.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, Read},
};

use sidecar::{
    exit::Failure,
    routes::RouteTable,
    token::{Token, Tokens},
};
use zeroize::Zeroizing;

/// Reads the tokens that a table names from the environment: `NAME`, else the file `NAME_FILE`.
///
/// # Errors
///
/// A failure that names the variable, never its value. A token that is missing is not an error
/// here but where a route lacks it.
pub fn from_environment(
    table: &RouteTable,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Tokens, Failure> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let mut tokens = Tokens::new();
    for name in names(table) {
        let value = match (set(name), set(&format!("{name}_FILE"))) {
            (Some(value), _) => value.into_string().map_err(|_| refused(name, "it is no UTF-8"))?,
            (None, Some(path)) => read_file(name, &path)?,
            (None, None) => continue,
        };
        let token = Token::parse(value).map_err(|error| refused(name, &error.to_string()))?;
        tokens.insert(name.to_owned(), token);
    }
    Ok(tokens)
}

/// Reads the tokens that come from files again, for a SIGHUP.
///
/// # Errors
///
/// As [`from_environment`].
pub fn from_files(
    table: &RouteTable,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Tokens, Failure> {
    let fixed: BTreeSet<_> =
        names(table).filter(|name| variable(name).is_some_and(|v| !v.is_empty())).collect();
    let mut tokens = from_environment(table, &variable)?;
    tokens.retain(|name, _| !fixed.contains(name.as_str()));
    Ok(tokens)
}

/// Reads `{"NAME":"value"}` to the end of a stream.
///
/// # Errors
///
/// A failure that quotes nothing of it.
pub fn from_stream(stream: impl Read) -> Result<Tokens, Failure> {
    let mut text = Zeroizing::new(Vec::new());
    stream
        .take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| Failure::config(format!("could not read tokens from stdin: {error}")))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(Failure::config("the tokens on stdin are longer than 1 MiB"));
    }
    // The library's own words would quote a token that stands in the wrong place.
    serde_json::from_slice(&text).map_err(|_| {
        Failure::config("expected tokens on stdin as {\"NAME\":\"value\"}, each without control characters")
    })
}

fn names(table: &RouteTable) -> impl Iterator<Item = &str> {
    table.routes().iter().map(|route| route.token_env.as_str())
}

fn read_file(name: &str, path: &OsString) -> Result<String, Failure> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
        Ok(text)
    };
    let mut text =
        read().map_err(|error| refused(&format!("{name}_FILE"), &format!("could not read it: {error}")))?;
    // Editors and `echo` end a file with a newline that is not part of the token.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn refused(name: &str, what: &str) -> Failure {
    Failure::config(format!("token {name}: {what}"))
}

/// As much as a bundle may hold.
const MAX_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn table() -> RouteTable {
        serde_json::from_str(
            r#"{"routes":[{"path":"/a/","upstream":"https://a","auth":{"scheme":"bearer"},"token_env":"T"}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_variable_wins_over_its_file_and_an_empty_one_counts_as_unset() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"from-file\n").unwrap();
        let path = file.path().as_os_str().to_owned();
        let read = |value: &'static str| {
            from_environment(&table(), |name| match name {
                "T" => Some(value.into()),
                "T_FILE" => Some(path.clone()),
                _ => None,
            })
            .unwrap()
        };
        assert_eq!(read("from-env")["T"].expose(), "from-env");
        assert_eq!(read("")["T"].expose(), "from-file");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_variable_and_never_quoted() {
        let error =
            from_environment(&table(), |name| (name == "T").then(|| "hunter2\nx".into())).unwrap_err();
        assert!(error.to_string().contains("token T") && !error.to_string().contains("hunter2"), "{error}");
        let error =
            from_environment(&table(), |name| (name == "T_FILE").then(|| "/nonexistent".into())).unwrap_err();
        assert!(error.to_string().contains("T_FILE"), "{error}");
        for text in ["{\"T\":\"hunter2\\n\"}", "[\"hunter2\"]", "{\"T\":", "\"hunter2\""] {
            let error = from_stream(text.as_bytes()).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
