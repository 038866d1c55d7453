//! A broker as a child process, pinned as a whole, with a data directory of its own that goes when it
//! goes. It is ended by its process id, never by name.

pub mod kafka;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use millstream::time::{Clock, Monotonic};
use rustix::process::{Pid, Signal, kill_process};

use crate::driver::control::Control;
use crate::environment::{CpuTime, pin_to_core};
use crate::error::{Doing, Error, Result};

/// Which broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A binary that understands `serve --listen HOST:PORT --data-dir DIR --cores LIST` and
    /// `--set KEY=VALUE`.
    Millstream(PathBuf),
    /// Apache Kafka from the jars of this directory (`fetch-kafka`), in KRaft mode.
    Kafka(PathBuf),
}

/// What to start and where.
#[derive(Clone, Debug)]
pub struct BrokerSpec {
    /// Which broker.
    pub program: Program,
    /// `KEY=VALUE` each.
    pub settings: Vec<String>,
    /// Its only core, for all its threads.
    pub core: usize,
    /// Where its data directory is made.
    pub directory: PathBuf,
}

impl BrokerSpec {
    /// What a report says about it.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.program {
            Program::Millstream(path) => path.display().to_string(),
            Program::Kafka(libs) => format!("Apache Kafka {}", kafka::version(libs)),
        }
    }
}

/// A running broker; killed when dropped.
pub struct Broker {
    process: Child,
    address: String,
    data: PathBuf,
    log: PathBuf,
    /// As it was started.
    configuration: BTreeMap<String, String>,
    /// From its start until it answered.
    answered_after: Duration,
    paused: bool,
}

const READY_WITHIN: Duration = Duration::from_secs(90);
/// Its directory differs from those of the others this process has started.
static STARTED: AtomicU32 = AtomicU32::new(0);
const ENDED_WITHIN: Duration = Duration::from_secs(40);
/// Background work of the start (memory touched, files prepared) may take so long.
const QUIET_WITHIN: Duration = Duration::from_secs(60);
const QUIET_WINDOW: Duration = Duration::from_millis(250);
/// Less of a core than this is quiet.
const QUIET_SHARE: f64 = 0.1;

impl Broker {
    /// Starts a broker with an empty data directory and waits until it answers.
    ///
    /// The calling thread stays pinned to the broker's core: pin it where it belongs before it works.
    ///
    /// # Errors
    /// If it cannot be started, ends, or does not answer in time; its log is kept and named.
    pub fn start(spec: &BrokerSpec) -> Result<Broker> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let data = spec.directory.join(format!("broker-{}-{number}", std::process::id()));
        let log = data.with_extension("log");
        remove(&data)?;
        std::fs::create_dir_all(&data).doing(data.display())?;
        let data = data.canonicalize().doing(data.display())?;
        let out = File::create(&log).doing(log.display())?;
        let err = out.try_clone().doing(log.display())?;
        let address = format!("127.0.0.1:{}", free_port()?);
        // A child inherits the pin, and so do all threads it starts.
        pin_to_core(spec.core)?;
        let mut command = match &spec.program {
            Program::Millstream(path) => millstream_command(spec, path, &address, &data),
            Program::Kafka(libs) => kafka::command(spec, libs, &address, &data)?,
        };
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(|w| w.to_string_lossy().into_owned()).collect();
        let mut configuration = BTreeMap::from([
            ("broker".to_owned(), spec.name()),
            ("core".to_owned(), spec.core.to_string()),
            ("command".to_owned(), words.join(" ")),
        ]);
        for (number, setting) in spec.settings.iter().enumerate() {
            configuration.insert(format!("setting {}", number + 1), setting.clone());
        }
        let begin = Clock::monotonic();
        let process = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let process = process.doing(format!("starting {}", words.join(" ")))?;
        let mut broker = Broker {
            process,
            address,
            data,
            log,
            configuration,
            answered_after: Duration::ZERO,
            paused: false,
        };
        broker.wait_until_ready()?;
        broker.answered_after = Clock::monotonic().since(begin);
        Ok(broker)
    }

    /// As it was started.
    #[must_use]
    pub fn configuration(&self) -> &BTreeMap<String, String> {
        &self.configuration
    }

    /// From its start until it answered.
    #[must_use]
    pub fn answered_after(&self) -> Duration {
        self.answered_after
    }

    /// Where its data is.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Stops all its threads, so that it takes nothing from whoever is measured meanwhile.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        self.paused = true;
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn go_on(&mut self) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.paused = false;
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::Peer("a process without a number".to_owned()))?;
        kill_process(pid, signal).doing("signalling the broker")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let begin = Clock::monotonic();
        loop {
            let Err(error) = Control::connect(&self.address) else {
                return Ok(());
            };
            if let Some(status) = self.process.try_wait().doing("waiting for the broker")? {
                return Err(Error::Peer(format!(
                    "the broker ended with {status}; see {}",
                    self.log.display()
                )));
            }
            if Clock::monotonic().since(begin) > READY_WITHIN {
                return Err(Error::Peer(format!(
                    "the broker does not answer ({error}); see {}",
                    self.log.display()
                )));
            }
            crate::pause(Duration::from_millis(2));
        }
    }

    /// Waits until the broker has nothing of its own to do; goes on all the same when that takes too
    /// long, since a broker that never rests has to be measured as it is. True if it rests.
    ///
    /// # Errors
    /// If it has ended.
    pub fn wait_until_quiet(&self) -> Result<bool> {
        let begin = Clock::monotonic();
        while Clock::monotonic().since(begin) < QUIET_WITHIN {
            let (before, at): (CpuTime, Monotonic) =
                (CpuTime::of_process(self.pid())?, Clock::monotonic());
            crate::pause(QUIET_WINDOW);
            let spent = CpuTime::of_process(self.pid())?.since(before).total();
            if spent.as_secs_f64() < QUIET_SHARE * Clock::monotonic().since(at).as_secs_f64() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks it to end, waits, and removes its data.
    ///
    /// # Errors
    /// If it does not end cleanly; its log is kept then.
    pub fn stop(mut self) -> Result<()> {
        if self.paused {
            self.go_on()?;
        }
        self.signal(Signal::TERM)?;
        let begin = Clock::monotonic();
        while Clock::monotonic().since(begin) < ENDED_WITHIN {
            if let Some(status) = self.process.try_wait().doing("waiting for the broker")? {
                // A JVM says 143 after SIGTERM, however well it has stopped.
                if !status.success() && status.code() != Some(128 + 15) {
                    return Err(Error::Peer(format!(
                        "the broker ended with {status}; see {}",
                        self.log.display()
                    )));
                }
                std::fs::remove_file(&self.log).doing(self.log.display())?;
                return Ok(());
            }
            crate::pause(Duration::from_millis(20));
        }
        Err(Error::Peer(format!("the broker does not end on SIGTERM; see {}", self.log.display())))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // After `stop` it has been waited for, and both calls do nothing.
        if self.process.kill().is_ok() {
            self.process.wait().ok();
        }
        remove(&self.data).ok();
    }
}

fn millstream_command(spec: &BrokerSpec, path: &Path, address: &str, data: &Path) -> Command {
    let mut command = Command::new(path);
    command.arg("serve").args(["--listen", address]).arg("--data-dir").arg(data);
    command.args(["--cores", &spec.core.to_string()]);
    command.args(spec.settings.iter().flat_map(|setting| ["--set", setting]));
    command
}

fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(directory.display())
        }
        _ => Ok(()),
    }
}

/// A port nobody listens on now. Somebody may take it before the broker does; it then says so and the
/// run ends.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).doing("finding a port")?;
    Ok(listener.local_addr().doing("finding a port")?.port())
}
