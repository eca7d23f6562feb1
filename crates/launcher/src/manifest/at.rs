//! A value of the manifest with its path and place: a reader asks it for what it expects, and gets
//! that or the fault.

use super::fault::Fault;
use super::guard;
use super::json::{Member, Node, Value, place};

/// A value, its path, and whether it stands where a secret could have been pasted.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    text: &'a str,
    node: &'a Node,
    path: String,
    secret: bool,
}

/// The longest value that a message prints.
const MAX_SHOWN: usize = 80;

impl<'a> At<'a> {
    /// The whole document.
    pub(super) fn root(text: &'a str, node: &'a Node) -> Self {
        Self { text, node, path: String::new(), secret: false }
    }

    /// The same value; nothing of it or in it is printed from here on.
    pub(super) fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    fn fault_at(&self, at: usize, path: String, message: impl Into<String>) -> Fault {
        Fault {
            file: String::new(),
            place: Some(place(self.text, at)),
            path,
            message: message.into(),
            hint: None,
        }
    }

    /// A fault of this value.
    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        self.fault_at(self.node.at, self.path.clone(), message)
    }

    /// What this version cannot do.
    pub(super) fn not_yet(&self, what: &str) -> Fault {
        self.fault(format!("{what} is not implemented yet"))
    }

    /// A fault that names what was found by its kind.
    pub(super) fn expected(&self, what: &str) -> Fault {
        let found = match &self.node.value {
            Value::Null => "null",
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
            Value::Number(_) => "a number",
            Value::Text(text) if text.is_empty() => "an empty string",
            Value::Text(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        let fault = self.fault(format!("expected {what}, found {found}"));
        match &self.node.value {
            Value::Null => fault.hint("remove the key to get its default"),
            _ => fault,
        }
    }

    /// A fault that prints what was found, unless it may be a secret or is long.
    pub(super) fn unfit(&self, what: &str) -> Fault {
        let shown = match &self.node.value {
            Value::Number(number) => number.clone(),
            Value::Text(text) if !text.is_empty() => format!("{text:?}"),
            _ => return self.expected(what),
        };
        if self.secret || shown.chars().count() > MAX_SHOWN || !guard::may_print(&shown) {
            return self.expected(what);
        }
        self.fault(format!("expected {what}, found {shown}"))
    }

    /// The value as it was written.
    pub(super) fn value(&self) -> &'a Value {
        &self.node.value
    }

    /// A string.
    pub(super) fn text(&self) -> Result<&'a str, Fault> {
        match &self.node.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.expected("a string")),
        }
    }

    /// A string that passes a check.
    pub(super) fn word(&self, what: &str, fits: impl Fn(&str) -> bool) -> Result<String, Fault> {
        let text = self.text()?;
        if fits(text) {
            return Ok(text.to_owned());
        }
        if text.starts_with('-') && !self.secret {
            // A tool would read it as an option.
            return Err(self.fault(format!("expected {what}, which must not begin with `-`")));
        }
        Err(self.unfit(what))
    }

    /// `true` or `false`.
    pub(super) fn bool(&self) -> Result<bool, Fault> {
        match &self.node.value {
            Value::Bool(value) => Ok(*value),
            _ => Err(self.expected("true or false")),
        }
    }

    /// The items of an array.
    pub(super) fn items(&self) -> Result<Vec<Self>, Fault> {
        let Value::Array(items) = &self.node.value else { return Err(self.expected("an array")) };
        let item = |(n, node)| Self { node, path: format!("{}[{n}]", self.path), ..self.clone() };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// An array whose items differ in a key; compared as `same` says it.
    pub(super) fn distinct<T>(
        &self,
        read: fn(&Self) -> Result<T, Fault>,
        key: &str,
        same: fn(&T) -> String,
    ) -> Result<Vec<T>, Fault> {
        let mut seen = std::collections::HashMap::new();
        let mut list = Vec::new();
        for at in self.items()? {
            let item = read(&at)?;
            let value = same(&item);
            let place = at.member(key).map_or_else(|| at.clone(), |member| at.child(member));
            if let Some(first) = seen.insert(value.clone(), place.node.at) {
                let shown = if guard::may_print(&value) { format!(" {value:?}") } else { String::new() };
                let message = format!("duplicate {key}{shown}, first used on line {}", self.line(first));
                return Err(place.fault(message));
            }
            list.push(item);
        }
        Ok(list)
    }

    fn member(&self, key: &str) -> Option<&'a Member> {
        match &self.node.value {
            Value::Object(members) => members.iter().find(|member| member.key == key),
            _ => None,
        }
    }

    fn members(&self) -> Result<&'a [Member], Fault> {
        match &self.node.value {
            Value::Object(members) => Ok(members),
            _ => Err(self.expected("an object")),
        }
    }

    fn child(&self, member: &'a Member) -> Self {
        Self { node: &member.value, path: join(&self.path, &member.key), ..self.clone() }
    }

    /// The members of an object whose keys are names. `name` gives a name's canonical form, or what
    /// was expected of it.
    pub(super) fn entries(
        &self,
        name: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Vec<(String, Self)>, Fault> {
        let mut entries: Vec<(String, Self)> = Vec::new();
        let mut first = std::collections::HashMap::new();
        for member in self.members()? {
            let canonical = name(&member.key).map_err(|expected| {
                let hidden = self.secret || !guard::may_print(&member.key);
                let found = match member.key.chars().count() {
                    0 => ", found an empty string".to_owned(),
                    1..MAX_SHOWN if !hidden => format!(", found {:?}", member.key),
                    _ => String::new(),
                };
                self.fault_at(member.at, self.path.clone(), format!("expected {expected}{found}"))
            })?;
            self.once(&mut first, &canonical, member)?;
            entries.push((canonical, self.child(member)));
        }
        Ok(entries)
    }

    fn once(
        &self,
        first: &mut std::collections::HashMap<String, usize>,
        key: &str,
        member: &Member,
    ) -> Result<(), Fault> {
        match first.insert(key.to_owned(), member.at) {
            None => Ok(()),
            Some(earlier) => Err(self.fault_at(
                member.at,
                join(&self.path, &member.key),
                format!("duplicate key, first used on line {}", self.line(earlier)),
            )),
        }
    }

    fn line(&self, at: usize) -> usize {
        place(self.text, at).0
    }

    /// The members of an object whose keys are known. `later` are those that this version does not
    /// implement yet.
    pub(super) fn fields(&self, known: &[&str], later: &[&str]) -> Result<Fields<'a>, Fault> {
        let mut fields = Vec::new();
        let mut first = std::collections::HashMap::new();
        for member in self.members()? {
            let key = member.key.as_str();
            if later.contains(&key) {
                let path = join(&self.path, key);
                return Err(self.fault_at(member.at, path, format!("`{key}` is not implemented yet")));
            }
            if !known.contains(&key) {
                return Err(self.unknown(member, known, later));
            }
            self.once(&mut first, key, member)?;
            fields.push((key, self.child(member)));
        }
        Ok(Fields { at: self.clone(), fields })
    }

    fn unknown(&self, member: &Member, known: &[&str], later: &[&str]) -> Fault {
        let key = &member.key;
        let near = known
            .iter()
            .chain(later)
            .filter(|_| key.len() < MAX_SHOWN)
            .map(|known| (strsim::damerau_levenshtein(&key.to_lowercase(), &known.to_lowercase()), known))
            .min()
            .filter(|near| near.0 <= 1 + key.len() / 3);
        // A key that resembles a known one is a misspelt key. Another may be a pasted secret, and few
        // secrets are without digits.
        let word = |extra: &[u8]| key.bytes().all(|b| b.is_ascii_alphabetic() || extra.contains(&b));
        let misspelt = near.is_some() && word(b"_-$");
        let shown = guard::may_print(key) && (misspelt || !self.secret && key.len() <= 24 && word(b"_"));
        let path = if shown { join(&self.path, key) } else { self.path.clone() };
        let fault = self.fault_at(member.at, path, "unknown key");
        fault.hint(match near {
            Some((_, near)) => format!("did you mean `{near}`?"),
            None => {
                let keys: Vec<_> = known.iter().map(|key| format!("`{key}`")).collect();
                format!("the known keys are {}", keys.join(", "))
            }
        })
    }
}

/// The members of an object, by key.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    at: At<'a>,
    fields: Vec<(&'a str, At<'a>)>,
}

impl<'a> Fields<'a> {
    /// The member with this key.
    pub(super) fn find(&self, key: &str) -> Option<&At<'a>> {
        self.fields.iter().find(|field| field.0 == key).map(|field| &field.1)
    }

    /// The member with this key, which must be set.
    pub(super) fn need(&self, key: &str) -> Result<&At<'a>, Fault> {
        self.find(key).ok_or_else(|| self.at.fault(format!("missing key `{key}`")))
    }

    /// The member with this key, read, if it is set.
    pub(super) fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&At<'a>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        self.find(key).map(read).transpose()
    }
}

/// The path of a member. A key that is not a plain word is quoted, one that looks like a secret is hidden.
fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-$".contains(&b));
    let segment = if !guard::may_print(key) {
        "...".to_owned()
    } else if plain && key.len() < MAX_SHOWN {
        key.to_owned()
    } else {
        let mut short: String = key.chars().take(40).collect();
        if short != *key {
            short.push_str("...");
        }
        format!("{short:?}")
    };
    if path.is_empty() { segment } else { format!("{path}.{segment}") }
}
