//! What processes use of the machine, from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context, Result};

use super::proc::{self, Stat};

/// Clock ticks a second in `/proc`: a constant of Linux' interface to user space (USER_HZ), whatever the kernel's own.
const TICKS_PER_SECOND: u64 = 100;

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub now: u64,
    /// The most since the process started, or since its peak was forgotten.
    pub peak: u64,
}

/// The processor time of a process and of all that descend from it, those that have ended included.
pub fn cpu(pid: i32) -> Duration {
    let ticks: u64 = proc::tree(pid).into_iter().filter_map(|pid| Some(Stat::read(pid)?.ticks)).sum();
    duration(ticks)
}

/// The processor time of a process and of those children that it has reaped.
pub fn cpu_alone(pid: i32) -> Duration {
    duration(Stat::read(pid).map_or(0, |stat| stat.ticks))
}

/// The processor time of everything on this machine, idling and waiting for the disk left out.
pub fn machine_cpu() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    // user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let busy = fields.iter().take(7).sum::<u64>() - fields.iter().skip(3).take(2).sum::<u64>();
    Ok(duration(busy))
}

/// The resident memory of a process.
pub fn memory(pid: i32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
        let kib: u64 = value.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1_024)
    };
    Ok(Memory { now: field("VmRSS:")?, peak: field("VmHWM:")? })
}

/// Sets the peak of a process's memory to what it takes now.
pub fn forget_peak(pid: i32) -> Result<()> {
    // 5 is "reset the peak" (proc_pid_clear_refs(5)).
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting the peak of resident memory")
}

fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_and_memory_of_this_process_show() {
        let pid = std::process::id().cast_signed();
        let (cpu_before, machine_before) = (cpu(pid), machine_cpu().unwrap());
        let bound = Instant::now() + Duration::from_secs(20);
        // The machine's is sampled, a process's is not: they need not agree to the tick.
        let shows = || {
            let machine = machine_cpu().unwrap() >= machine_before + Duration::from_millis(50);
            machine && cpu(pid) >= cpu_before + Duration::from_millis(50)
        };
        while !shows() {
            assert!(Instant::now() < bound, "twenty seconds of work do not show");
        }
        let memory = memory(pid).unwrap();
        assert!(memory.now > 1_000_000 && memory.peak >= memory.now, "{memory:?}");
        forget_peak(pid).unwrap();
    }
}
