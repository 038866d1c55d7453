//! The machine: which core a thread runs on, what a process has spent, what the run took place on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Error, Result};

/// Pins the calling thread to one core.
///
/// # Errors
/// If the core does not exist or may not be used.
pub fn pin_to_core(core: usize) -> Result<()> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        Ok(())
    } else {
        Err(Error::Usage(format!("core {core} cannot be used by this process")))
    }
}

/// The processor time a process has spent so far, all threads (io_uring's kernel workers too).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTime {
    /// In user mode.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

impl CpuTime {
    /// What `pid` has spent: the sum from the scheduler's nanosecond counters of its threads, the
    /// split from the 10 ms ticks of `/proc/PID/stat`, which also know the threads that have ended.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn of_process(pid: u32) -> Result<CpuTime> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).doing(&path)?;
        let (user, system) =
            ticks(&stat).ok_or_else(|| Error::Peer(format!("{path} has another shape")))?;
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let (user_ns, system_ns) = (user * tick_ns, system * tick_ns);
        let ticks_ns = user_ns + system_ns;
        let total_ns = scheduled_ns(pid).max(ticks_ns);
        let user_share = if ticks_ns == 0 { 0.5 } else { user_ns as f64 / ticks_ns as f64 };
        let user = Duration::from_nanos((total_ns as f64 * user_share) as u64);
        Ok(CpuTime { user, system: Duration::from_nanos(total_ns).saturating_sub(user) })
    }

    /// What this process has spent.
    ///
    /// # Errors
    /// If `/proc` is not there.
    pub fn of_self() -> Result<CpuTime> {
        CpuTime::of_process(std::process::id())
    }

    /// Both together.
    #[must_use]
    pub fn total(self) -> Duration {
        self.user + self.system
    }

    /// What was spent since `earlier`.
    #[must_use]
    pub fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    /// CPU-seconds for each 10^9 bytes; zero if nothing moved.
    #[must_use]
    pub fn seconds_per_gb(self, bytes: u64) -> f64 {
        if bytes == 0 { 0.0 } else { self.total().as_secs_f64() / (bytes as f64 / 1e9) }
    }
}

/// User and system ticks: fields 14 and 15, counted after the command's closing bracket, since the
/// command may hold anything.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn scheduled_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// What a result was measured on; results from different environments are not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The processor's own name.
    pub cpu: String,
    /// How many of them are there, whatever this thread is pinned to.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
    /// Main memory in MiB.
    pub memory_mib: u64,
    /// The type of the filesystem that holds the data.
    pub filesystem: String,
    /// The harness's version.
    pub harness: String,
    /// What else there is to know: microcode, mitigations, governor, hypervisor, drive.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}

impl Environment {
    /// Describes this machine and the filesystem of `data_dir`.
    #[must_use]
    pub fn here(data_dir: Option<&Path>) -> Environment {
        let system = rustix::system::uname();
        let (filesystem, drive) =
            data_dir.and_then(mount_of).unwrap_or((String::new(), String::new()));
        let mut details = BTreeMap::new();
        let mut note = |key: &str, value: Option<String>| {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                details.insert(key.to_owned(), value);
            }
        };
        note("microcode", first_value("/proc/cpuinfo", "microcode"));
        note("governor", line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
        note(
            "threads of core 0",
            line("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list"),
        );
        note("mitigations", mitigations());
        note("transparent huge pages", line("/sys/kernel/mm/transparent_hugepage/enabled"));
        let hypervisor = first_value("/proc/cpuinfo", "flags")
            .map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
        note("virtual machine", hypervisor.map(|is| if is { "yes" } else { "no" }.to_owned()));
        note("drive", Some(drive));
        Environment {
            cpu: first_value("/proc/cpuinfo", "model name").unwrap_or_default(),
            cores: count_of("/proc/cpuinfo", "processor"),
            kernel: system.release().to_string_lossy().into_owned(),
            memory_mib: first_value("/proc/meminfo", "MemTotal")
                .and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            filesystem,
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            details,
        }
    }

    /// All of it as names and values.
    #[must_use]
    pub fn card(&self) -> Vec<(String, String)> {
        let mut card = vec![
            ("processor".to_owned(), format!("{} x {}", self.cores, self.cpu)),
            ("memory".to_owned(), format!("{} MiB", self.memory_mib)),
            ("kernel".to_owned(), self.kernel.clone()),
        ];
        if !self.filesystem.is_empty() {
            card.push(("filesystem of the data".to_owned(), self.filesystem.clone()));
        }
        card.extend(self.details.iter().map(|(key, value)| (key.clone(), value.clone())));
        card.push(("millstream-bench".to_owned(), self.harness.clone()));
        card
    }
}

/// The first line of a file.
fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.trim().to_owned())
}

/// How many of the known processor faults are mitigated, and by what the costly ones.
fn mitigations() -> Option<String> {
    let faults = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").ok()?;
    let mut active: Vec<String> = faults
        .flatten()
        .filter(|fault| {
            fs::read_to_string(fault.path()).is_ok_and(|text| text.starts_with("Mitigation"))
        })
        .map(|fault| fault.file_name().to_string_lossy().into_owned())
        .collect();
    active.sort();
    Some(if active.is_empty() { "none".to_owned() } else { active.join(", ") })
}

/// Type and options of the filesystem that holds a directory, and the device below it.
fn mount_of(directory: &Path) -> Option<(String, String)> {
    let directory = directory.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (device, at, kind, options) =
                (words.next()?, words.next()?, words.next()?, words.next()?);
            directory.starts_with(at).then_some((at.len(), device, kind, options))
        })
        .max_by_key(|(len, ..)| *len)?;
    let (_, device, kind, options) = best;
    let name = device.rsplit('/').next().unwrap_or_default();
    let model = line(&format!("/sys/class/block/{name}/device/model"));
    let cache = line(&format!("/sys/class/block/{name}/queue/write_cache"));
    let drive = [model, cache.map(|cache| format!("cache: {cache}"))];
    let drive: Vec<String> = drive.into_iter().flatten().collect();
    Some((format!("{kind} ({options})"), format!("{name} {}", drive.join(", ")).trim().to_owned()))
}

fn count_of(path: &str, key: &str) -> usize {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(key)).count()
}

fn first_value(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Processor time of the whole machine, in ticks, to tell how much a hypervisor took away.
#[derive(Clone, Copy, Debug)]
pub struct MachineTicks {
    stolen: u64,
    all: u64,
}

impl MachineTicks {
    /// Reads `/proc/stat`; zeros where it is missing.
    #[must_use]
    pub fn now() -> MachineTicks {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks: Vec<u64> = text
            .lines()
            .next()
            .map(|line| line.split_whitespace().skip(1).filter_map(|v| v.parse().ok()).collect())
            .unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest time is already in user.
        MachineTicks { stolen: ticks.get(7).copied().unwrap_or(0), all: ticks.iter().take(8).sum() }
    }

    /// The share of all processor time stolen since `earlier`, in per cent.
    #[must_use]
    pub fn steal_percent_since(self, earlier: MachineTicks) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        if all == 0 {
            0.0
        } else {
            self.stolen.saturating_sub(earlier.stolen) as f64 * 100.0 / all as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_hostile_command_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 31 12 0 0 20 0 1 0 5 1 1";
        assert_eq!(ticks(stat), Some((31, 12)));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn the_own_process_has_spent_something_and_never_less_than_before() {
        let before = CpuTime::of_self().unwrap();
        let spent = (0..2_000_000_u64).fold(0_u64, |sum, i| sum.wrapping_mul(31).wrapping_add(i));
        std::hint::black_box(spent);
        let after = CpuTime::of_self().unwrap();
        assert!(after.total() >= before.total());
        assert!(after.total() > Duration::ZERO);
    }

    #[test]
    fn cpu_seconds_per_gigabyte() {
        let spent =
            CpuTime { user: Duration::from_millis(300), system: Duration::from_millis(200) };
        assert!((spent.seconds_per_gb(2_000_000_000) - 0.25).abs() < 1e-9);
        assert!(spent.seconds_per_gb(0).abs() < 1e-9);
    }
}
