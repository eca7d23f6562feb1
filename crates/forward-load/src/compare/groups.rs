//! The forwarders that run, by their process groups, so that none outlives us: not a second Ctrl-C,
//! and not our being killed, for which a process of ours stands by.

use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};

/// The process that stands by; dropping this ends it.
#[derive(Debug)]
pub struct StandBy {
    child: Child,
}

#[derive(Debug)]
struct Groups {
    running: Vec<u32>,
    stand_by: Option<ChildStdin>,
}

/// Starts `program`, which is our executable, as the process that kills what runs when we are gone.
///
/// # Errors
///
/// It could not be started.
pub fn stand_by(program: &Path) -> io::Result<StandBy> {
    // In a group of its own: what ends ours is not to end it.
    let mut child = Command::new(program)
        .arg("stand-by")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()?;
    groups().stand_by = child.stdin.take();
    Ok(StandBy { child })
}

/// The hidden `stand-by`: hears which groups run, and at the end of stdin, which is ours when we are
/// killed, kills those that are left.
///
/// # Errors
///
/// Its stdin cannot be read.
pub fn in_a_child() -> io::Result<()> {
    let mut running = Vec::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        if let Some(group) = line.strip_prefix('+') {
            running.extend(group.parse::<u32>());
        } else if let Some(group) = line.strip_prefix('-') {
            running.retain(|known| group != known.to_string());
        }
    }
    running.into_iter().for_each(kill);
    Ok(())
}

/// A forwarder runs.
pub fn add(group: u32) {
    let mut groups = groups();
    groups.running.push(group);
    groups.tell('+', group);
}

/// A forwarder is ended, but not waited for yet: its id is still its own.
pub fn remove(group: u32) {
    let mut groups = groups();
    groups.running.retain(|known| *known != group);
    groups.tell('-', group);
}

/// Kills every forwarder that runs, for an end that drops nothing.
pub fn kill_all() {
    groups().running.drain(..).for_each(kill);
}

impl Groups {
    fn tell(&mut self, what: char, group: u32) {
        if let Some(stand_by) = &mut self.stand_by {
            // One that was killed can do nothing for us.
            let _ = writeln!(stand_by, "{what}{group}");
        }
    }
}

impl Drop for StandBy {
    fn drop(&mut self) {
        drop(groups().stand_by.take());
        let _ = self.child.wait();
    }
}

/// Kills what is left of a group; does nothing for a group that left nothing.
pub fn kill(group: u32) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn groups() -> MutexGuard<'static, Groups> {
    static GROUPS: Mutex<Groups> = Mutex::new(Groups { running: Vec::new(), stand_by: None });
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}
