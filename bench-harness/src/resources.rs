//! What a process has used, read from outside, between two moments of a run.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::environment::CpuTime;
use crate::error::Result;

/// What one process used between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time.
    pub cpu: CpuTime,
    /// Resident memory at the end.
    pub memory_bytes: u64,
    /// The most it ever had.
    pub memory_peak_bytes: u64,
    /// Times a thread gave the core away.
    pub switches_voluntary: u64,
    /// Times the core was taken.
    pub switches_involuntary: u64,
    /// What it read from disks.
    pub disk_read_bytes: u64,
    /// What it wrote to disks, or dirtied to be written.
    pub disk_written_bytes: u64,
    /// Pages that had to be fetched from a disk.
    pub major_faults: u64,
}

impl Resources {
    /// Bytes written to disks for each byte of record batches; none if nothing was produced or read.
    #[must_use]
    pub fn write_amplification(&self, produced_bytes: u64) -> Option<f64> {
        (produced_bytes > 0 && self.disk_written_bytes > 0)
            .then(|| self.disk_written_bytes as f64 / produced_bytes as f64)
    }
}

impl Resources {
    /// Adds another part of the same process's time.
    pub fn add(&mut self, other: &Resources) {
        self.cpu.user += other.cpu.user;
        self.cpu.system += other.cpu.system;
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.memory_peak_bytes = self.memory_peak_bytes.max(other.memory_peak_bytes);
        self.switches_voluntary += other.switches_voluntary;
        self.switches_involuntary += other.switches_involuntary;
        self.disk_read_bytes += other.disk_read_bytes;
        self.disk_written_bytes += other.disk_written_bytes;
        self.major_faults += other.major_faults;
    }
}

/// A process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pid: u32,
    now: Resources,
}

impl Reading {
    /// Reads `/proc/PID`.
    ///
    /// # Errors
    /// If there is no such process. What the system does not let us read is zero.
    pub fn of(pid: u32) -> Result<Reading> {
        let cpu = CpuTime::of_process(pid)?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (voluntary, involuntary) = switches(pid);
        let now = Resources {
            cpu,
            memory_bytes: number(&status, "VmRSS:") * 1024,
            memory_peak_bytes: number(&status, "VmHWM:") * 1024,
            switches_voluntary: voluntary,
            switches_involuntary: involuntary,
            disk_read_bytes: number(&io, "read_bytes:"),
            disk_written_bytes: number(&io, "write_bytes:"),
            major_faults: major_faults(&stat).unwrap_or(0),
        };
        Ok(Reading { pid, now })
    }

    /// What was used since this moment; none if the process has ended.
    #[must_use]
    pub fn used_since(&self) -> Option<Resources> {
        let now = Reading::of(self.pid).ok()?.now;
        let before = &self.now;
        Some(Resources {
            cpu: now.cpu.since(before.cpu),
            memory_bytes: now.memory_bytes,
            memory_peak_bytes: now.memory_peak_bytes,
            switches_voluntary: now.switches_voluntary.saturating_sub(before.switches_voluntary),
            switches_involuntary: now
                .switches_involuntary
                .saturating_sub(before.switches_involuntary),
            disk_read_bytes: now.disk_read_bytes.saturating_sub(before.disk_read_bytes),
            disk_written_bytes: now.disk_written_bytes.saturating_sub(before.disk_written_bytes),
            major_faults: now.major_faults.saturating_sub(before.major_faults),
        })
    }
}

/// The number behind a key of a `/proc` file.
fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Context switches of all threads that live.
fn switches(pid: u32) -> (u64, u64) {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return (0, 0);
    };
    let mut sum = (0, 0);
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        sum.0 += number(&status, "voluntary_ctxt_switches:");
        sum.1 += number(&status, "nonvoluntary_ctxt_switches:");
    }
    sum
}

/// Field 12, counted after the command's closing bracket.
fn major_faults(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_at_the_beginning_of_their_line() {
        let io = "rchar: 1\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n";
        assert_eq!((number(io, "read_bytes:"), number(io, "write_bytes:")), (4096, 8192));
        assert_eq!(number("voluntary_ctxt_switches:\t7\n", "voluntary_ctxt_switches:"), 7);
        assert_eq!(number("", "VmRSS:"), 0);
    }

    #[test]
    fn faults_are_found_behind_a_hostile_command_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 13 0 31 12 0 0 20 0 1 0 5 1 1";
        assert_eq!(major_faults(stat), Some(13));
    }

    #[test]
    fn the_own_process_uses_memory() {
        let reading = Reading::of(std::process::id()).unwrap();
        let used = reading.used_since().unwrap();
        assert!(used.memory_bytes > 100_000 && used.memory_peak_bytes >= used.memory_bytes);
    }
}
