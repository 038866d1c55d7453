//! Starting, stopping and killing the real binary.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::outcome::{Context, Result, ensure, eventually, failure};
use crate::wire;

/// How long anything a broker does may take before a test gives up on it: far above what a loaded
/// machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static HOMES: AtomicU32 = AtomicU32::new(0);

/// Where one test keeps its data directory and logs.
pub(crate) struct Home {
    folder: PathBuf,
    starts: AtomicU32,
}

impl Home {
    /// The data directory. It does not exist before the first start.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// A file of the test's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn next_log(&self) -> PathBuf {
        let number = self.starts.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("broker-{number}.log"))
    }
}

/// Runs `body` with a fresh home, which is removed when the test passes and named when it fails.
pub(crate) fn scenario(name: &str, body: impl FnOnce(&Home) -> Result<()>) -> Result<()> {
    let number = HOMES.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{name}-{}-{number}", std::process::id()));
    fs::create_dir_all(&folder).context(|| folder.display().to_string())?;
    let home = Home { folder, starts: AtomicU32::new(0) };
    body(&home).context(|| format!("{name} (data and logs in {})", home.folder.display()))?;
    fs::remove_dir_all(&home.folder)?;
    Ok(())
}

/// The first `count` CPUs this process may use, as `--cores` takes them.
pub(crate) fn cores(count: usize) -> Result<String> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    let cpus: Vec<String> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .take(count)
        .map(|cpu| cpu.to_string())
        .collect();
    ensure(cpus.len() == count, || {
        format!("this test needs {count} CPUs, {} allowed", cpus.len())
    })?;
    Ok(cpus.join(","))
}

/// A running broker; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    /// HOST:PORT of its listener.
    pub(crate) address: String,
    log: PathBuf,
}

impl Broker {
    /// Starts a broker on `home` with two cores and waits until it answers.
    pub(crate) fn start(home: &Home) -> Result<Broker> {
        Broker::start_with(home, 2, &[])
    }

    /// Starts a broker on `home` with `cores` cores and settings, and waits until it answers.
    pub(crate) fn start_with(
        home: &Home,
        core_count: usize,
        settings: &[(&str, &str)],
    ) -> Result<Broker> {
        let mut broker = Broker::spawn(home, core_count, settings)?;
        broker.await_ready()?;
        Ok(broker)
    }

    /// An address to listen on again and again. Its port is below those that the kernel gives to
    /// connections: a client that tries to reach a broker that is down might get the very port.
    pub(crate) fn lasting_address() -> Result<String> {
        let first = 20_000 + u16::try_from(std::process::id() % 10_000)?;
        (first..32_000)
            .map(|port| format!("127.0.0.1:{port}"))
            .find(|address| std::net::TcpListener::bind(address).is_ok())
            .ok_or_else(|| failure("no free port"))
    }

    /// Starts a broker on `home` that listens on `address`, and waits until it answers.
    pub(crate) fn start_at(home: &Home, core_count: usize, address: &str) -> Result<Broker> {
        Broker::start_at_with(home, core_count, address, &[])
    }

    /// The same with settings.
    pub(crate) fn start_at_with(
        home: &Home,
        core_count: usize,
        address: &str,
        settings: &[(&str, &str)],
    ) -> Result<Broker> {
        let mut broker = Broker::spawn_at(home, core_count, settings, address)?;
        broker.await_ready()?;
        Ok(broker)
    }

    /// Starts a broker without waiting for it; its address is not known yet.
    pub(crate) fn spawn(
        home: &Home,
        core_count: usize,
        settings: &[(&str, &str)],
    ) -> Result<Broker> {
        Broker::spawn_at(home, core_count, settings, "127.0.0.1:0")
    }

    /// The same, started by the program and with the arguments of `launcher`.
    pub(crate) fn spawn_through(
        launcher: &[&str],
        home: &Home,
        core_count: usize,
        settings: &[(&str, &str)],
    ) -> Result<Broker> {
        let log = home.next_log();
        let mut words = launcher.iter().copied().chain([env!("CARGO_BIN_EXE_millstream")]);
        let mut command = quiet(words.next().unwrap_or_default(), &log)?;
        command.args(words);
        Broker::serve(home, command, log, core_count, settings, "127.0.0.1:0")
    }

    fn spawn_at(
        home: &Home,
        core_count: usize,
        settings: &[(&str, &str)],
        address: &str,
    ) -> Result<Broker> {
        let log = home.next_log();
        Broker::serve(home, command(&log)?, log, core_count, settings, address)
    }

    fn serve(
        home: &Home,
        mut command: Command,
        log: PathBuf,
        core_count: usize,
        settings: &[(&str, &str)],
        address: &str,
    ) -> Result<Broker> {
        command.args(["serve", "--listen", address, "--cores", &cores(core_count)?]);
        command.arg("--data-dir").arg(home.data());
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let child = command.spawn().context(|| "starting millstream".to_owned())?;
        Ok(Broker { child, address: String::new(), log })
    }

    /// Waits until the broker has named its port and answers on it.
    pub(crate) fn await_ready(&mut self) -> Result<()> {
        self.address = eventually("the broker names its port", PATIENCE, || {
            if let Some(status) = self.child.try_wait()? {
                return Err(failure(format!(
                    "the broker exited with {status}:\n{}",
                    read_lossy(&self.log)?
                )));
            }
            Ok(listening_on(&read_lossy(&self.log)?))
        })?;
        eventually("the broker answers ApiVersions", PATIENCE, || {
            let Ok(mut connection) = wire::Connection::open(&self.address) else {
                return Ok(None);
            };
            Ok(connection.api_versions().ok())
        })?;
        Ok(())
    }

    /// What the broker has said so far, both streams.
    pub(crate) fn said(&self) -> Result<String> {
        read_lossy(&self.log)
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for the end.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    /// Its status if it has ended.
    pub(crate) fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the process to end by itself.
    pub(crate) fn await_exit(&mut self) -> Result<ExitStatus> {
        let said = self.log.clone();
        eventually("the broker exits", PATIENCE, || Ok(self.child.try_wait()?))
            .context(|| read_lossy(&said).unwrap_or_default())
    }

    /// SIGTERM, and exit 0.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.terminate()?;
        let status = self.await_exit()?;
        ensure(status.code() == Some(0), || {
            format!("a stop by SIGTERM ended with {status}:\n{}", self.said().unwrap_or_default())
        })
    }

    /// User and system time used so far, in clock ticks.
    pub(crate) fn cpu_ticks(&self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The command's name may hold blanks; fields count from behind it: utime is 14th, stime 15th.
        let fields = stat.rsplit(") ").next().unwrap_or("");
        let mut times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
        let mut next = || times.next().ok_or_else(|| failure("short /proc stat"));
        Ok(next()?? + next()??)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
        let kib =
            line.and_then(|l| l.trim().strip_suffix(" kB")).ok_or_else(|| failure("no VmRSS"))?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Already gone is fine; nothing else can be done about it here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary with both its streams in `log`, and nothing of the caller's environment that it reads.
pub(crate) fn command(log: &Path) -> Result<Command> {
    quiet(env!("CARGO_BIN_EXE_millstream"), log)
}

fn quiet(program: &str, log: &Path) -> Result<Command> {
    let file = File::create(log).context(|| log.display().to_string())?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("KAFKA_") || name.starts_with("MILLSTREAM_") {
            command.env_remove(&key);
        }
    }
    Ok(command)
}

/// Runs the binary with `arguments` to its end; its status and what it said.
pub(crate) fn run(home: &Home, arguments: &[&str]) -> Result<(ExitStatus, String)> {
    let log = home.next_log();
    let child = command(&log)?.args(arguments).spawn()?;
    let mut broker = Broker { child, address: String::new(), log };
    let status = broker.await_exit()?;
    Ok((status, broker.said()?))
}

fn listening_on(said: &str) -> Option<String> {
    let (_, after) = said.split_once("listening on ")?;
    // A line still being written may lack its last digits.
    let (line, _) = after.split_once('\n')?;
    let end =
        line.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':'))).unwrap_or(line.len());
    line.get(..end)
        .filter(|address| address.contains(':'))
        .map(|address| address.trim_end_matches('.').to_owned())
}

fn read_lossy(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path).context(|| path.display().to_string())?.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
