//! What becomes known of a bottle after its containers were created: a file, since an engine does not
//! change labels. No secret is in it.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::engine::ContainerId;

/// The state of one bottle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Of this shape: 1.
    pub version: u8,
    /// The bottle's name.
    pub instance: String,
    /// The id of the agent's container.
    pub container: String,
    /// When that was started; a restarted one is another.
    pub started: Option<String>,
    /// The engine's address.
    pub engine: String,
    /// The process that owns the bottle.
    pub keeper: String,
    /// The manifest.
    #[serde(serialize_with = "crate::text::serialize_path")]
    pub manifest: PathBuf,
    /// The plan, as its JSON.
    pub plan: serde_json::Value,
    /// `attached` or `detached`.
    pub mode: String,
    /// The internal network's subnet.
    pub subnet: String,
    /// Whether its isolation was proved.
    pub verified: Option<bool>,
    /// What the user should keep in mind while it runs.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How the command ended.
    pub result: Option<Ended>,
}

/// How a bottle ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// When, RFC 3339.
    pub ended: String,
    /// The exit code of the launcher.
    pub exit_code: u8,
}

/// The folder of all state files.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// A file is written in milliseconds; one that is not finished after this time never will be.
const DRAFT: Duration = Duration::from_secs(600);
/// How many files are kept.
const KEPT: usize = 50;
/// A file is small; one that is not is not ours.
const MAX_BYTES: u64 = 4 << 20;

impl Folder {
    /// `$XDG_STATE_HOME/claude-bottle`.
    pub(crate) fn of_user() -> Option<Self> {
        use etcetera::BaseStrategy as _;
        let home = etcetera::choose_base_strategy().ok()?.state_dir()?;
        Some(Self(home.join("claude-bottle")))
    }

    #[cfg(test)]
    pub(crate) fn at(path: &std::path::Path) -> Self {
        Self(path.to_owned())
    }

    fn path(&self, container: &str) -> PathBuf {
        self.0.join(format!("{}.json", container.get(..12).unwrap_or(container)))
    }

    /// Writes a state, in one step, and removes the oldest beyond fifty.
    ///
    /// # Errors
    /// The file system's, or a folder that is not this user's alone.
    pub(crate) fn write(&self, state: &State) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let meta = fs::symlink_metadata(&self.0)?;
        let own =
            meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0;
        if !own {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user could change it"));
        }
        let path = self.path(&state.container);
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        let write = || {
            let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec_pretty(state)?)?;
            fs::rename(&draft, &path)
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        self.forget_oldest();
        written
    }

    /// The state of a container, if there is one that can be read.
    pub(crate) fn read(&self, container: &ContainerId) -> Option<State> {
        let path = self.path(&container.0);
        let meta = fs::symlink_metadata(&path).ok()?;
        if !meta.is_file() || meta.len() > MAX_BYTES {
            return None;
        }
        let state: State = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (state.version == 1 && state.container == container.0).then_some(state)
    }

    fn forget_oldest(&self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        let dated = |path: PathBuf| Some((fs::symlink_metadata(&path).ok()?.modified().ok()?, path));
        let paths = entries.flatten().map(|entry| entry.path());
        let of = |path: &PathBuf, wanted: &str| path.extension().is_some_and(|extension| extension == wanted);
        let (drafts, others): (Vec<_>, Vec<_>) = paths.partition(|path| of(path, "new"));
        // Of launchers that were killed while they wrote.
        let old = |written: &SystemTime| written.elapsed().is_ok_and(|age| age > DRAFT);
        for (_, path) in drafts.into_iter().filter_map(dated).filter(|(written, _)| old(written)) {
            let _ = fs::remove_file(path);
        }
        let files = others.into_iter().filter(|path| of(path, "json"));
        let mut files: Vec<_> = files.filter_map(dated).collect();
        files.sort_by(|a, b| b.cmp(a));
        for (_, path) in files.into_iter().skip(KEPT) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn state(container: &str) -> State {
        State {
            version: 1,
            instance: "dev".into(),
            container: container.into(),
            started: None,
            engine: "unix:///var/run/docker.sock".into(),
            keeper: "h:b:1:0:2:3".into(),
            manifest: "/m.json".into(),
            plan: serde_json::json!({}),
            mode: "attached".into(),
            subnet: "10.201.0.0/28".into(),
            verified: None,
            warnings: vec!["unproved".into()],
            result: None,
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_is_the_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let states = Folder::at(&folder.path().join("claude-bottle"));
        let id = "0123456789abcdef";
        states.write(&state(id)).unwrap();
        let again =
            State { result: Some(Ended { ended: "2026-01-01T00:00:00Z".into(), exit_code: 3 }), ..state(id) };
        states.write(&again).unwrap();
        assert_eq!(states.read(&ContainerId(id.into())), Some(again));
        assert_eq!(states.read(&ContainerId("0123456789abffff".into())), None, "another container's");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&states.path(id)), 0o600);
        assert_eq!(mode(&states.0), 0o700);
    }

    #[test]
    fn a_folder_that_others_can_write_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Folder::at(folder.path()).write(&state("0123456789ab")).is_err());
    }

    #[test]
    fn the_draft_of_a_launcher_that_was_killed_is_removed_once_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let states = Folder::at(&folder.path().join("claude-bottle"));
        states.write(&state("0123456789ab")).unwrap();
        let draft = |name: &str| {
            let path = states.0.join(name);
            (fs::File::create(&path).unwrap(), path)
        };
        let ((old, old_path), (_, new_path)) = (draft("aaaaaaaaaaaa.7.new"), draft("bbbbbbbbbbbb.8.new"));
        old.set_modified(SystemTime::now() - 2 * DRAFT).unwrap();
        states.write(&state("0123456789ab")).unwrap();
        assert!(!old_path.exists() && new_path.exists());
    }

    #[test]
    fn fifty_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let states = Folder::at(folder.path());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        for n in 0..KEPT + 5 {
            states.write(&state(&format!("{n:012}"))).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT);
    }
}
