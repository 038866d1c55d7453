//! A broker as a child process, pinned as a whole, with a data directory of its own that goes when it
//! goes. It is ended by its process id, never by name.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millstream::time::{Clock, Monotonic};
use rustix::process::{Pid, Signal, kill_process};

use crate::driver::control::Control;
use crate::environment::{CpuTime, pin_to_core};
use crate::error::{Doing, Error, Result};

/// What to start and where.
#[derive(Clone, Debug)]
pub struct BrokerSpec {
    /// The binary, which understands `serve --listen HOST:PORT --data-dir DIR --cores LIST` and
    /// `--set KEY=VALUE`.
    pub program: PathBuf,
    /// `KEY=VALUE` each.
    pub settings: Vec<String>,
    /// Its only core, for all its threads.
    pub core: usize,
    /// Where its data directory is made.
    pub directory: PathBuf,
}

/// A running broker; killed when dropped.
pub struct Broker {
    process: Child,
    address: String,
    data: PathBuf,
    log: PathBuf,
}

const READY_WITHIN: Duration = Duration::from_secs(60);
const ENDED_WITHIN: Duration = Duration::from_secs(20);
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
        let data = spec.directory.join(format!("broker-{}", std::process::id()));
        let log = data.with_extension("log");
        remove(&data)?;
        std::fs::create_dir_all(&data).doing(data.display())?;
        let out = File::create(&log).doing(log.display())?;
        let err = out.try_clone().doing(log.display())?;
        let port = free_port()?;
        let address = format!("127.0.0.1:{port}");
        // A child inherits the pin, and so do all threads it starts.
        pin_to_core(spec.core)?;
        let mut command = Command::new(&spec.program);
        command.arg("serve").args(["--listen", &address]).arg("--data-dir").arg(&data);
        command.args(["--cores", &spec.core.to_string()]);
        command.args(spec.settings.iter().flat_map(|setting| ["--set", setting]));
        let process = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let process = process.doing(format!("starting {}", spec.program.display()))?;
        let mut broker = Broker { process, address, data, log };
        broker.wait_until_ready()?;
        Ok(broker)
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
            crate::pause(Duration::from_millis(20));
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
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::Peer("a process without a number".to_owned()))?;
        kill_process(pid, Signal::TERM).doing("ending the broker")?;
        let begin = Clock::monotonic();
        while Clock::monotonic().since(begin) < ENDED_WITHIN {
            if let Some(status) = self.process.try_wait().doing("waiting for the broker")? {
                if !status.success() {
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
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).doing("finding a port")?;
    Ok(listener.local_addr().doing("finding a port")?.port())
}
