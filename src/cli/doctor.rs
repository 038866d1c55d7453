//! What the broker needs of the machine, what it finds, and the exact remedy. `serve` refuses to start
//! on an error; `tuning/` has the settings that satisfy every line.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};

use millstream::config::machine::Machine;
use millstream::config::{Config, NamedListener};
use millstream::limits::BLOCK;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const KERNEL_MIN: (u32, u32) = (5, 8);
/// Kernels from here on do not count rings as locked memory.
const RINGS_UNCOUNTED: (u32, u32) = (5, 12);
const MEMLOCK_MIN: u64 = 512 * 1024;
/// The first of January 2026.
const CLOCK_MIN_MS: i64 = 1_767_225_600_000;
const OPEN_FILES_MIN: u64 = 65_536;
const BACKLOG_MIN: u64 = 4096;
const FREE_MIN: u64 = 10 * GIB;
const MEMORY_PER_CORE_MIN: u64 = GIB;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Ok,
    /// The broker works, but slower or with less room.
    Warning,
    /// The broker cannot work, or would lose data.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Ok => "ok",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        })
    }
}

/// One line of the table.
struct Check {
    condition: &'static str,
    required: String,
    current: String,
    severity: Severity,
    /// Shown unless all is well.
    remedy: String,
}

impl Check {
    fn new(
        condition: &'static str,
        required: impl Into<String>,
        current: impl Into<String>,
    ) -> Check {
        let (required, current) = (required.into(), current.into());
        Check { condition, required, current, severity: Severity::Ok, remedy: String::new() }
    }

    fn fail_unless(mut self, passed: bool, severity: Severity, remedy: impl Into<String>) -> Check {
        if !passed {
            self.severity = severity;
            self.remedy = remedy.into();
        }
        self
    }
}

/// The first error as a line, for the start; warnings go to the log.
///
/// # Errors
/// Something that the broker cannot do without is missing.
pub(crate) fn preflight(config: &Config) -> Result<(), String> {
    for check in checks(config) {
        let Check { condition, required, current, severity, remedy } = check;
        match severity {
            Severity::Ok => {}
            Severity::Warning => tracing::warn!(required, current, remedy, "{condition}"),
            Severity::Error => {
                return Err(format!("{condition}: {current}, required: {required}; {remedy}"));
            }
        }
    }
    Ok(())
}

/// Prints the table. Gives whether there is no error in it.
pub(crate) fn print(config: &Config, out: &mut impl Write) -> io::Result<bool> {
    let checks = checks(config);
    let mut rows =
        vec![["CONDITION", "REQUIRED", "CURRENT", "SEVERITY", "REMEDY"].map(str::to_owned)];
    rows.extend(checks.iter().map(|check| {
        let severity = check.severity.to_string();
        [
            check.condition.to_owned(),
            check.required.clone(),
            check.current.clone(),
            severity,
            check.remedy.clone(),
        ]
    }));
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(checks.iter().all(|check| check.severity != Severity::Error))
}

fn checks(config: &Config) -> Vec<Check> {
    let machine = Machine::detect();
    let mut checks = vec![
        kernel(),
        io_uring(),
        memlock(config),
        open_files(),
        backlog(),
        memory(config, &machine),
        clock(),
    ];
    checks.extend(config.listeners.iter().map(advertised));
    checks.extend(cpu_quota(config, &machine));
    checks.extend(directory("data directory", &config.log_dir));
    if let Some(journal_dir) = &config.journal_dir {
        checks.extend(directory("journal directory", journal_dir));
    }
    checks
}

fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = kernel_version();
    let required = format!("{}.{} or later", KERNEL_MIN.0, KERNEL_MIN.1);
    Check::new("kernel", required, release).fail_unless(
        version >= KERNEL_MIN,
        Severity::Error,
        "install a later kernel",
    )
}

/// Sets up a small ring, since the sysctl does not tell of seccomp.
fn io_uring() -> Check {
    let required = "allowed";
    let Err(error) = ::io_uring::IoUring::new(8) else {
        return Check::new("io_uring", required, "allowed");
    };
    let disabled = read_number("/proc/sys/kernel/io_uring_disabled").unwrap_or(0);
    let remedy = match Errno::from_io_error(&error) {
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) if disabled > 0 => {
            "run sysctl -w kernel.io_uring_disabled=0"
        }
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => {
            "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile, see tuning/README.md"
        }
        Some(Errno::NOMEM) => {
            "raise the limit of locked memory, as ulimit -l 8192 or LimitMEMLOCK=8M"
        }
        _ => "see the error",
    };
    Check::new("io_uring", required, error.to_string()).fail_unless(false, Severity::Error, remedy)
}

/// The runtime refuses to start an executor below its own minimum. Kernels before 5.12 count every ring
/// against the limit too; later ones charge the cgroup.
fn memlock(config: &Config) -> Check {
    let limit = getrlimit(Resource::Memlock).current;
    let rings = if kernel_version() < RINGS_UNCOUNTED { config.cores.len() as u64 } else { 1 };
    let required = MEMLOCK_MIN.saturating_mul(rings.max(1)) / 1024;
    let current = limit.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes / 1024));
    let severity = match limit {
        Some(bytes) if bytes < MEMLOCK_MIN => Severity::Error,
        _ => Severity::Warning,
    };
    let remedy = format!("raise it, as ulimit -l {required} or LimitMEMLOCK={required}K");
    Check::new("locked memory", format!("{required} KiB or more"), current).fail_unless(
        limit.is_none_or(|bytes| bytes / 1024 >= required),
        severity,
        remedy,
    )
}

/// A slow clock source costs every request, and a clock that is wrong stamps and expires records wrongly.
fn clock() -> Check {
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let fast = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];
    let now = millstream::time::Clock::timestamp();
    let set = now.0 >= CLOCK_MIN_MS;
    let known = if source.is_empty() { "source unknown".to_owned() } else { source.clone() };
    let current = if set { known } else { format!("{known}, set to before 2026") };
    let remedy = if set {
        "choose a clock source that needs no system call: tsc or kvm-clock"
    } else {
        "set the clock, and keep it by chrony or systemd-timesyncd"
    };
    Check::new("clock", "set, and a fast source as tsc", current).fail_unless(
        set && (source.is_empty() || fast.contains(&source.as_str())),
        Severity::Warning,
        remedy,
    )
}

/// Whether what clients are told leads somewhere: an address of this machine, or one with a route to it.
fn advertised(listener: &NamedListener) -> Check {
    let told = &listener.advertised;
    let address = match (told.host.as_str(), told.port).to_socket_addrs().map(|mut all| all.next())
    {
        Ok(Some(address)) => address,
        Ok(None) | Err(_) => {
            let check = Check::new("advertised address", "resolves", format!("{told} does not"));
            let remedy = "give an address that clients can resolve by advertised.listeners";
            return check.fail_unless(false, Severity::Warning, remedy);
        }
    };
    let own = UdpSocket::bind((address.ip(), 0)).is_ok();
    let route =
        own || UdpSocket::bind(unspecified(address)).is_ok_and(|s| s.connect(address).is_ok());
    let current = match (own, route) {
        (true, _) => format!("{told} is this machine"),
        (false, true) => format!("{told} is another machine, such as a proxy"),
        (false, false) => format!("{told} cannot be reached"),
    };
    let remedy = "give an address that leads here by advertised.listeners";
    Check::new("advertised address", "leads to this machine", current).fail_unless(
        route,
        Severity::Warning,
        remedy,
    )
}

fn unspecified(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn open_files() -> Check {
    let limit = getrlimit(Resource::Nofile).current;
    let current = limit.map_or("unlimited".to_owned(), |files| files.to_string());
    let remedy = "raise it, as ulimit -n 1048576 or LimitNOFILE=1048576";
    Check::new("open files", format!("{OPEN_FILES_MIN} or more"), current).fail_unless(
        limit.is_none_or(|files| files >= OPEN_FILES_MIN),
        Severity::Warning,
        remedy,
    )
}

fn backlog() -> Check {
    let backlog = read_number("/proc/sys/net/core/somaxconn").unwrap_or(0);
    let remedy = "run sysctl -w net.core.somaxconn=4096";
    Check::new("listen backlog", format!("{BACKLOG_MIN} or more"), backlog.to_string()).fail_unless(
        backlog >= BACKLOG_MIN,
        Severity::Warning,
        remedy,
    )
}

fn memory(config: &Config, machine: &Machine) -> Check {
    let required = MEMORY_PER_CORE_MIN.saturating_mul(config.cores.len() as u64);
    let current = machine.memory_bytes;
    Check::new(
        "memory",
        format!("{} MiB, 1 GiB per core", required / MIB),
        format!("{} MiB", current / MIB),
    )
    .fail_unless(
        current >= required,
        Severity::Warning,
        "use fewer cores or raise the memory limit",
    )
}

fn cpu_quota(config: &Config, machine: &Machine) -> Option<Check> {
    let quota = machine.cpu_quota_milli?;
    let cores = config.cores.len() as u64;
    let current = format!("{}.{:03} CPUs for {cores} cores", quota / 1000, quota % 1000);
    let check = Check::new("cgroup CPU quota", "one CPU per core", current);
    Some(check.fail_unless(
        quota >= 1000 * cores,
        Severity::Warning,
        "use fewer cores or raise the quota",
    ))
}

/// Lines about a directory that may not exist yet.
fn directory(condition: &'static str, path: &Path) -> Vec<Check> {
    let shown = path.display();
    let Some(place) = existing(path) else {
        let check = Check::new(condition, "writable", format!("{shown} has no existing parent"));
        return vec![check.fail_unless(
            false,
            Severity::Error,
            "create it, or choose another by --data-dir",
        )];
    };
    let mut checks = vec![match probe(&place, OFlags::empty()) {
        Ok(()) => Check::new(condition, "writable", format!("{shown} is writable")),
        Err(error) => Check::new(condition, "writable", format!("{shown}: {error}")).fail_unless(
            false,
            Severity::Error,
            "give this user the right to write there, or choose another by --data-dir",
        ),
    }];
    if checks.iter().all(|check| check.severity == Severity::Ok) {
        checks.push(direct_io(&place));
    }
    checks.extend(file_system(&place));
    checks.extend(free_space(&place));
    checks
}

/// The directory, or the nearest one above it that exists.
fn existing(path: &Path) -> Option<PathBuf> {
    let path = std::path::absolute(path).ok()?;
    path.ancestors().find(|path| path.exists()).map(Path::to_owned)
}

/// One aligned block.
#[repr(align(4096))]
struct AlignedBlock([u8; BLOCK]);

/// Creates a file, writes one block and removes it.
fn probe(directory: &Path, flags: OFlags) -> Result<(), Errno> {
    let path = directory.join(format!(".millstream-probe-{}", std::process::id()));
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, create | flags, Mode::RUSR | Mode::WUSR)?;
    let written = rustix::io::pwrite(&file, &AlignedBlock([0; BLOCK]).0, 0);
    rustix::fs::unlink(&path)?;
    written.map(|_| ())
}

fn direct_io(place: &Path) -> Check {
    let required = format!("blocks of {BLOCK} or less");
    let remedy =
        "put the directory on ext4 or xfs on a local disk with blocks of at most 4096 bytes";
    if let Err(error) = probe(place, OFlags::DIRECT) {
        return Check::new("direct I/O", required, error.to_string()).fail_unless(
            false,
            Severity::Error,
            remedy,
        );
    }
    // Only files have an alignment, and only some kernels tell it; the write above has been one block.
    let alignment = rustix::fs::statx(CWD, place, AtFlags::empty(), StatxFlags::DIOALIGN).ok();
    let alignment = alignment.map_or(0, |statx| statx.stx_dio_offset_align);
    let current =
        if alignment == 0 { "supported".to_owned() } else { format!("blocks of {alignment}") };
    let passed = usize::try_from(alignment).is_ok_and(|alignment| alignment <= BLOCK);
    Check::new("direct I/O", required, current).fail_unless(passed, Severity::Error, remedy)
}

fn file_system(place: &Path) -> Option<Check> {
    let magic = rustix::fs::statfs(place).ok()?.f_type;
    let (name, severity) = match u32::try_from(magic).unwrap_or(0) {
        0xef53 => ("ext4", Severity::Ok),
        0x5846_5342 => ("xfs", Severity::Ok),
        0x9123_683e => ("btrfs, copy-on-write", Severity::Error),
        0x2fc1_2fc1 => ("zfs, copy-on-write", Severity::Error),
        0xca45_1a4e => ("bcachefs, copy-on-write", Severity::Error),
        0x0102_1994 => ("tmpfs, lost at a reboot", Severity::Warning),
        0x794c_7630 => ("overlay, a container's own layer", Severity::Warning),
        0x6969 => ("nfs", Severity::Warning),
        _ => ("not known here", Severity::Warning),
    };
    let check = Check::new("file system", "ext4 or xfs", name);
    Some(check.fail_unless(
        severity == Severity::Ok,
        severity,
        "put the directory on ext4 or xfs, in a container on a volume",
    ))
}

fn free_space(place: &Path) -> Option<Check> {
    let disk = rustix::fs::statvfs(place).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let check = Check::new(
        "free space",
        format!("{} GiB or more", FREE_MIN / GIB),
        format!("{} GiB", free / GIB),
    );
    Some(check.fail_unless(
        free >= FREE_MIN,
        Severity::Warning,
        "make room, or choose another directory by --data-dir",
    ))
}

fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
