//! What a process and everything below it uses, from proc(5).
//!
//! A tree is followed by its root's id. A process once seen stays known until it ends, also when
//! its parent has left it; the CPU time of one that ended counts on, whether its parent waited for
//! it or not. The process itself takes no part.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::Duration;

use serde::Serialize;

/// What a forwarder's processes used in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ProcessUse {
    /// CPU time in the window, user and system, of processes that ended, too.
    pub cpu_seconds: f64,
    /// Resident memory when the window began, in bytes: the proportional set size of all processes
    /// (pages that two of them share count once), or the resident set where that cannot be read.
    pub resident_before: u64,
    /// The most of it; of a single process its own high-water mark since its start.
    pub resident_peak: u64,
    /// The same after the window, when descriptors were back to what they had been or 1.5 s had passed.
    pub resident_after: u64,
    /// The most threads.
    pub threads_peak: u64,
    /// The most processes.
    pub processes_peak: u64,
    /// Open descriptors when the window began.
    pub descriptors_before: u64,
    /// The most open descriptors that were seen.
    pub descriptors_peak: u64,
    /// Open descriptors at that moment: more than before were leaked, or are kept on purpose.
    pub descriptors_after: u64,
    /// Whether the root process had ended by itself by then: a forwarder that crashed.
    pub ended: bool,
}

/// A moment of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// As [`ProcessUse::resident_before`].
    pub resident: u64,
    /// The high-water mark of a single process; 0 of several.
    pub high_water: u64,
    /// Threads of all.
    pub threads: u64,
    /// Processes.
    pub processes: u64,
    /// Open descriptors of all.
    pub descriptors: u64,
    /// CPU time since the tree was first looked at, in ticks of [`TICKS_PER_SECOND`].
    pub ticks: u64,
    /// Whether the root is there, and no zombie.
    pub alive: bool,
}

impl ProcessUse {
    /// Raises the peaks to what was seen.
    pub fn saw(&mut self, look: &Look) {
        self.resident_peak = self.resident_peak.max(look.resident).max(look.high_water);
        self.threads_peak = self.threads_peak.max(look.threads);
        self.processes_peak = self.processes_peak.max(look.processes);
        self.descriptors_peak = self.descriptors_peak.max(look.descriptors);
    }
}

/// A process and its descendants.
#[derive(Debug)]
pub struct Tree {
    root: u32,
    known: HashMap<u32, Known>,
    /// What processes that vanished had used, with what they had waited for.
    vanished: u64,
    single: bool,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// Since boot: an id that came back is another process.
    started: u64,
    /// What it had used when it was first seen, or 0 when it began after the window.
    own_before: u64,
    waited_before: u64,
    own: u64,
    waited: u64,
}

/// What stat files count in: `USER_HZ`, which is 100 wherever Linux is built for.
pub const TICKS_PER_SECOND: u64 = 100;

impl Tree {
    /// The tree of a process, with what it has used until now left out.
    pub fn new(root: u32) -> Self {
        let mut tree = Self { root, known: HashMap::new(), vanished: 0, single: true };
        tree.follow(true);
        tree
    }

    /// Looks at it now.
    pub fn look(&mut self) -> Look {
        let mut look = Look { alive: self.follow(false), ..Look::default() };
        self.single &= self.known.len() == 1;
        let waited: u64 = self.known.values().map(|known| known.waited - known.waited_before).sum();
        let own: u64 = self.known.values().map(|known| known.own - known.own_before).sum();
        // Those that vanished are in what their parents waited for, unless these did not wait.
        look.ticks = own + waited.max(self.vanished);
        for pid in self.known.keys() {
            look.processes += 1;
            look.resident += resident(*pid);
            look.threads += stat(*pid).map_or(0, |stat| stat.threads);
            look.descriptors += descriptors(*pid);
        }
        if self.single {
            look.high_water = status_field(self.root, "VmHWM:").unwrap_or(0);
        }
        look
    }

    /// CPU time since their start of all threads that there are, to the nanosecond where ticks of a
    /// hundredth of a second say nothing; none where the kernel does not count it (schedstat).
    pub fn cpu_time(&self) -> Option<Duration> {
        let tasks = self.known.keys().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
        let of_task = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        let times: Vec<u64> = tasks.flatten().flatten().filter_map(of_task).collect();
        (!times.is_empty()).then(|| Duration::from_nanos(times.iter().sum()))
    }

    /// Brings `known` up to date; whether the root lives.
    fn follow(&mut self, first: bool) -> bool {
        let all = every_process();
        let mut ours: HashSet<u32> = HashSet::new();
        let lives = |pid: &u32| all.get(pid).is_some_and(|stat| !stat.zombie);
        ours.extend(all.contains_key(&self.root).then_some(self.root));
        let same = |pid: u32, known: &Known| all.get(&pid).is_some_and(|stat| stat.started == known.started);
        ours.extend(self.known.iter().filter(|(pid, known)| same(**pid, known)).map(|(pid, _)| *pid));
        loop {
            let children: Vec<u32> = all
                .iter()
                .filter(|(pid, stat)| ours.contains(&stat.parent) && !ours.contains(*pid))
                .map(|(pid, _)| *pid)
                .collect();
            if children.is_empty() {
                break;
            }
            ours.extend(children);
        }
        let vanished: Vec<u32> = self.known.keys().copied().filter(|pid| !ours.contains(pid)).collect();
        for pid in vanished {
            if let Some(known) = self.known.remove(&pid) {
                self.vanished += (known.own - known.own_before) + (known.waited - known.waited_before);
            }
        }
        for pid in ours {
            let Some(stat) = all.get(&pid) else { continue };
            let known = self.known.entry(pid).or_insert(Known {
                started: stat.started,
                own_before: if first { stat.own } else { 0 },
                waited_before: if first { stat.waited } else { 0 },
                own: stat.own,
                waited: stat.waited,
            });
            // The counts are scaled from a precise sum and may step back by one.
            known.own = known.own.max(stat.own);
            known.waited = known.waited.max(stat.waited);
        }
        lives(&self.root)
    }
}

/// CPU time of one process without its children, in ticks; none if it does not exist.
pub fn own_ticks(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.own)
}

/// CPU time of one process and of the children that it has waited for, in ticks; none if it
/// does not exist.
pub fn ticks_with_waited(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.own + stat.waited)
}

#[derive(Debug, Clone, Copy)]
struct Stat {
    parent: u32,
    zombie: bool,
    own: u64,
    waited: u64,
    threads: u64,
    started: u64,
}

fn every_process() -> HashMap<u32, Stat> {
    let Ok(folder) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5); the name may contain spaces and parentheses, so fields count from the last `)`.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: u32::try_from(number(4)?).ok()?,
        own: number(14)? + number(15)?,
        waited: number(16)? + number(17)?,
        threads: number(20)?,
        started: number(22)?,
    })
}

fn resident(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
    let pss = rollup.ok().and_then(|text| field(&text, "Pss:"));
    pss.or_else(|| status_field(pid, "VmRSS:")).unwrap_or(0)
}

fn status_field(pid: u32, name: &str) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, name)
}

/// A field in kilobytes, in bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn descriptors(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |folder| folder.count() as u64)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = parse_stat(
            "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 11 22 33 44 20 0 5 0 777 8192 9 18446744073709551615",
        )
        .unwrap();
        assert_eq!((stat.parent, stat.own, stat.waited, stat.threads, stat.started), (1, 33, 77, 5, 777));
    }

    #[test]
    fn the_time_of_children_that_ended_counts_on() {
        // Each round of the outer loop is a process that burns some time and ends.
        let script = "read go; for i in 1 2 3; do sh -c 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done'; \
                      done; echo done; read end";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut tree = Tree::new(child.id());
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, b"go\n").unwrap();
        let mut said = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut said).unwrap();
        let look = tree.look();
        assert!(look.ticks >= 1, "{look:?}");
        assert!(tree.cpu_time().is_none_or(|time| time > Duration::ZERO && time < Duration::from_secs(10)));
        assert!(look.alive && look.processes == 1 && look.descriptors >= 3 && look.resident > 0, "{look:?}");
        std::io::Write::write_all(&mut stdin, b"end\n").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // Not waited for yet, so a zombie: ended.
        while tree.look().alive {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
