//! What this process may use of the machine: CPUs by affinity and cgroup quota, memory by cgroup limit.

use std::path::Path;

use rustix::thread::CpuSet;

/// CPUs and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs that the scheduler may run this process on.
    pub cpus: Vec<usize>,
    /// The cgroup's CPU time, in thousandths of a CPU.
    pub cpu_quota_milli: Option<u64>,
    /// The memory of the machine, or of the cgroup if that is less.
    pub memory_bytes: u64,
}

impl Machine {
    /// Looks at the machine and at this process's cgroups.
    #[must_use]
    pub fn detect() -> Machine {
        let affinity = rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| affinity.is_set(*cpu)).collect();
        let system = rustix::system::sysinfo();
        #[allow(clippy::useless_conversion, reason = "the field's width depends on the target")]
        let physical = u64::from(system.totalram).saturating_mul(u64::from(system.mem_unit));
        let memberships = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = cgroup_limits(Path::new("/sys/fs/cgroup"), &memberships);
        Machine {
            cpus: if cpus.is_empty() { vec![0] } else { cpus },
            cpu_quota_milli: limits.cpu_quota_milli,
            memory_bytes: limits.memory_bytes.map_or(physical, |limit| limit.min(physical)),
        }
    }

    /// The CPUs to use if nobody says which: the first ones, as many as the quota pays for.
    #[must_use]
    pub fn default_cores(&self) -> Vec<usize> {
        let paid = self
            .cpu_quota_milli
            .map_or(usize::MAX, |quota| usize::try_from(quota / 1000).unwrap_or(usize::MAX));
        self.cpus.iter().copied().take(paid.max(1)).collect()
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct CgroupLimits {
    cpu_quota_milli: Option<u64>,
    memory_bytes: Option<u64>,
}

/// The least limits of the groups in `/proc/self/cgroup` and their ancestors, versions 1 and 2. Inside a
/// container a group's path may be the host's; then the root is what can be seen of it.
fn cgroup_limits(root: &Path, memberships: &str) -> CgroupLimits {
    let mut limits = CgroupLimits::default();
    for membership in memberships.lines() {
        let mut fields = membership.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let path = Path::new(path.trim_start_matches('/'));
        for group in path.ancestors() {
            let read = |hierarchy: &str, file: &str| {
                let text =
                    std::fs::read_to_string(root.join(hierarchy).join(group).join(file)).ok()?;
                Some(text.trim().to_owned())
            };
            let number = |hierarchy: &str, file: &str| read(hierarchy, file)?.parse::<u64>().ok();
            for controller in controllers.split(',') {
                let (memory, cpu) = match controller {
                    "" => (
                        number("", "memory.max"),
                        read("", "cpu.max").and_then(|text| quota(&text)),
                    ),
                    "memory" => (number("memory", "memory.limit_in_bytes"), None),
                    "cpu" => {
                        let quota_us = number("cpu", "cpu.cfs_quota_us");
                        let period_us = number("cpu", "cpu.cfs_period_us");
                        (
                            None,
                            quota_us
                                .zip(period_us)
                                .and_then(|(quota, period)| milli(quota, period)),
                        )
                    }
                    _ => continue,
                };
                limits.memory_bytes = limits.memory_bytes.into_iter().chain(memory).min();
                limits.cpu_quota_milli = limits.cpu_quota_milli.into_iter().chain(cpu).min();
            }
        }
    }
    limits
}

/// Version 2's "quota period" or "max period".
fn quota(text: &str) -> Option<u64> {
    let (quota, period) = text.split_once(' ')?;
    milli(quota.parse().ok()?, period.parse().ok()?)
}

fn milli(quota_us: u64, period_us: u64) -> Option<u64> {
    quota_us.saturating_mul(1000).checked_div(period_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(memberships: &str, files: &[(&str, &str)]) -> CgroupLimits {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        cgroup_limits(root.path(), memberships)
    }

    #[test]
    fn version_2_takes_the_least_of_all_ancestors() {
        let files = [
            ("a/b/memory.max", "max\n"),
            ("a/memory.max", "1000\n"),
            ("a/b/cpu.max", "150000 100000\n"),
            ("cpu.max", "max 100000"),
        ];
        let expected = CgroupLimits { cpu_quota_milli: Some(1500), memory_bytes: Some(1000) };
        assert_eq!(limits("0::/a/b\n", &files), expected);
    }

    #[test]
    fn version_1_looks_into_each_hierarchy() {
        let files = [
            ("memory/memory.limit_in_bytes", "4096\n"),
            ("cpu/cpu.cfs_quota_us", "200000"),
            ("cpu/cpu.cfs_period_us", "100000"),
        ];
        let expected = CgroupLimits { cpu_quota_milli: Some(2000), memory_bytes: Some(4096) };
        assert_eq!(limits("5:cpu,cpuacct:/not/here\n4:memory:/docker/x\n", &files), expected);
        assert_eq!(limits("1:cpu:/\n", &[("cpu/cpu.cfs_quota_us", "-1")]), CgroupLimits::default());
    }

    #[test]
    fn quota_bounds_the_cores() {
        let machine =
            |cpu_quota_milli| Machine { cpus: vec![1, 3, 5], cpu_quota_milli, memory_bytes: 0 };
        assert_eq!(machine(None).default_cores(), [1, 3, 5]);
        assert_eq!(machine(Some(2500)).default_cores(), [1, 3]);
        assert_eq!(machine(Some(300)).default_cores(), [1]);
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::detect();
        assert!(!machine.cpus.is_empty() && machine.memory_bytes > 0);
    }
}
