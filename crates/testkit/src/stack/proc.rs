//! What `/proc` knows about processes: which one a pid means, and which descend from it.

use std::{collections::HashMap, fmt, fs, str::FromStr};

use anyhow::{Context, Error, Result};

/// A process and when it started. A bare pid from a file would be dangerous to signal: after a restart of the
/// machine it may be anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pid: i32,
    /// In clock ticks since the machine started.
    started: u64,
}

impl Id {
    /// The identity of a process that exists now.
    pub(super) fn of(pid: i32) -> Result<Self> {
        let stat = Stat::read(pid).with_context(|| format!("no process {pid}"))?;
        Ok(Self { pid, started: stat.started })
    }

    pub(super) fn pid(self) -> i32 {
        self.pid
    }

    /// Whether this very process runs; a zombie doesn't.
    pub(super) fn is_running(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && stat.state != 'Z')
    }
}

impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.pid, self.started)
    }
}

impl FromStr for Id {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (pid, started) = text.trim().split_once(' ').context("expected a pid and a start time")?;
        Ok(Self { pid: pid.parse()?, started: started.parse()? })
    }
}

/// `pid` and everything that descends from it.
pub(super) fn tree(pid: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = Stat::read(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        found.extend(children.remove(&found[next]).unwrap_or_default());
        next += 1;
    }
    found
}

/// The fields of `/proc/<pid>/stat` that are asked for here (proc_pid_stat(5)).
pub(super) struct Stat {
    state: char,
    parent: i32,
    /// Processor time in clock ticks: in user and kernel mode, of the process and of the children that it has reaped.
    pub(super) ticks: u64,
    started: u64,
}

impl Stat {
    pub(super) fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the command in parentheses and may hold spaces, so counting starts after it, with
        // the third: state (3), parent (4), … times (14 to 17), … start time (22).
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            ticks: fields.get(11..15)?.iter().map(|ticks| ticks.parse::<u64>().ok()).sum::<Option<u64>>()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself() {
        let id = Id::of(std::process::id().cast_signed()).unwrap();
        assert!(id.is_running());
        assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
        assert!(!Id { started: id.started + 1, ..id }.is_running());
    }

    #[test]
    fn a_child_is_in_the_tree() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert!(tree(std::process::id().cast_signed()).contains(&pid));
        let id = Id::of(pid).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!id.is_running());
    }
}
