//! The agent's user, as the image's /etc/passwd knows it.

use super::ProvisionError;

/// A user in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// Its number.
    pub uid: u64,
    /// Its group's number.
    pub gid: u64,
    /// Its home folder, absolute, without a `/` at its end.
    pub home: String,
}

impl User {
    /// The user that an engine would start a container with: `name`, `uid`, `name:gid` or `uid:gid`.
    ///
    /// # Errors
    /// [`ProvisionError::NoUser`] for a name that the image does not know.
    pub(crate) fn find(passwd: &str, asked: &str, home: Option<&str>) -> Result<Self, ProvisionError> {
        let (name, group) = asked.split_once(':').map_or((asked, None), |(name, group)| (name, Some(group)));
        let number = name.parse::<u64>().ok();
        // As engines read it, and they take the first entry too. One that they would complete by zeros is
        // not passed over.
        let entry = passwd.lines().map(|line| line.trim().split(':').collect::<Vec<_>>()).find(|fields| {
            let uid = fields.get(2).and_then(|uid| uid.parse::<u64>().ok());
            fields[0] == name || (number.is_some() && uid == number)
        });
        let no_user = || ProvisionError::NoUser(asked.to_owned());
        let (uid, gid, own) = match entry.as_deref() {
            Some([_, _, uid, gid, _, home, ..]) => {
                (uid.parse().map_err(|_| no_user())?, gid.parse().map_err(|_| no_user())?, Some(*home))
            }
            Some(_) => return Err(no_user()),
            // An engine starts a container with any number, in group 0.
            None => (name.parse().map_err(|_| no_user())?, 0, None),
        };
        let gid = group.and_then(|group| group.parse().ok()).unwrap_or(gid);
        let home =
            home.or(own).filter(|home| home.len() > 1 && home.starts_with('/')).unwrap_or("/home/node");
        Ok(Self { uid, gid, home: home.trim_end_matches('/').to_owned() })
    }

    /// A path in the home folder, relative to `/`, as archives name it.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.home.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1001::/home/node:/bin/bash\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        let find = |asked: &str, home| User::find(PASSWD, asked, home);
        let node = User { uid: 1000, gid: 1001, home: "/home/node".into() };
        assert_eq!(find("node", None).unwrap(), node);
        assert_eq!(find("1000", None).unwrap(), node);
        assert_eq!(find("1000:7", None).unwrap(), User { gid: 7, ..node.clone() });
        assert_eq!(find("node", Some("/srv/agent/")).unwrap(), User { home: "/srv/agent".into(), ..node });
        assert_eq!(find("4242", None).unwrap(), User { uid: 4242, gid: 0, home: "/home/node".into() });
        assert!(matches!(find("ghost", None), Err(ProvisionError::NoUser(name)) if name == "ghost"));
        assert_eq!(find("root", None).unwrap().uid, 0);
    }

    #[test]
    fn an_entry_that_engines_take_for_another_user_is_not_passed_over() {
        // runc trims lines, and takes what is missing or is no number for 0 (libcontainer's user.go).
        for first in [
            "  node:x:0:0::/root:/bin/sh",
            "\u{a0}node:x:0:0::/:/bin/sh",
            "node",
            "node:x",
            "node:x:0x3e8:0:",
        ] {
            let found = User::find(&format!("{first}\n{PASSWD}"), "node", None);
            let root = found.as_ref().is_ok_and(|user| user.uid == 0);
            assert!(root || matches!(found, Err(ProvisionError::NoUser(_))), "{first:?}: {found:?}");
        }
    }
}
