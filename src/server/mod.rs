//! Composition: from a checked configuration to running shards, and back to a clean stop.
//!
//! The calling thread recovers the data directory (on an executor of its own, on the first core), starts
//! one pinned executor per core, and then only watches: signals, failures, and shards that stand still.

mod directory;
mod http;
mod import;
mod offline;
mod service;
mod shard_main;
mod space;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use self::directory::DataDirectory;
pub use self::import::{ImportRequest, Imported, ImportedPartition, import};
pub use self::offline::{seal, verify};
use self::shard_main::{ShardEvent, ShardSeed};
use self::space::SpaceWatch;
use crate::config::{Config, Listener, NamedListener};
use crate::limits::{EXECUTOR_MEMORY, PREEMPT_TIMER};
use crate::log::Recovered;
use crate::metadata::Metadata;
use crate::metrics::ShardMetrics;
use crate::net;
use crate::partition::recovery::{self, Directories, RecoveryError};
use crate::shard::{Broker, Endpoint, mailbox, owner};
use crate::storage::Storage;
use crate::storage::glommio::GlommioStorage;
use crate::time::{Clock, Monotonic};
use crate::types::{Durability, TopicPartition};

/// How often the watching thread looks.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// How long a start waits for its address, and how often it tries.
const BIND_PATIENCE: Duration = Duration::from_secs(2);
const BIND_RETRY: Duration = Duration::from_millis(20);

/// A shard whose loop has not turned for so long is nudged, and reported.
const STALL: Duration = Duration::from_millis(500);

/// Why the broker cannot run, or had to end.
#[derive(Debug)]
pub enum ServerError {
    /// The data directory cannot be used; a matter of configuration (exit 78).
    Directory(String),
    /// The listener cannot be opened; a matter of configuration (exit 78).
    Listen(String),
    /// Anything else (exit 1).
    Runtime(String),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Directory(why) | ServerError::Listen(why) | ServerError::Runtime(why) => {
                f.write_str(why)
            }
        }
    }
}

impl ServerError {
    /// Whether another configuration is the remedy.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            ServerError::Directory(_) | ServerError::Listen(_) => true,
            ServerError::Runtime(_) => false,
        }
    }
}

/// What all shards and the watching thread share: flags and counts, never state.
struct Shared {
    stop: AtomicBool,
    /// Shards that have closed their connections.
    quiet: AtomicUsize,
    /// Shards that have written their checkpoint.
    stored: AtomicUsize,
    /// Shards that could not.
    failed: AtomicUsize,
    turns: Vec<AtomicU64>,
    /// What the shards publish of themselves.
    metrics: Vec<ShardMetrics>,
}

/// Runs the broker until it is told to stop by SIGTERM or SIGINT; a second signal ends the process at
/// once. `announce` gets the lines a person should see.
///
/// # Errors
/// See [`ServerError`].
pub fn run(config: Config, mut announce: impl FnMut(&str)) -> Result<(), ServerError> {
    let started = Clock::monotonic();
    let stop_signal = signals()?;
    let directory = DataDirectory::open(&config).map_err(ServerError::Directory)?;
    let listeners = bind(&config)?;
    let http = config.http_listen.map(bind_http).transpose()?;
    let directories = Directories::of(&config);
    directory::write_probes(&directories).map_err(ServerError::Directory)?;
    let recovered = recover(&config, &directories)?;
    let cores = cores(&config)?;
    let start = recovered.metadata.last_start().clone();
    let broker = Broker {
        cluster_id: directory.cluster_id().to_owned(),
        advertised: listeners.iter().map(|bound| bound.endpoint.clone()).collect(),
        leader_epoch: start.incarnation,
        missing_space: Arc::default(),
        config: config.clone(),
    };
    let mut watched = vec![directories.data.clone()];
    watched.extend(config.journal_dir.clone());
    let space =
        SpaceWatch::new(watched, config.disk_reserve_bytes, Arc::clone(&broker.missing_space));
    space.look();
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        quiet: AtomicUsize::new(0),
        stored: AtomicUsize::new(0),
        failed: AtomicUsize::new(0),
        turns: (0..cores).map(|_| AtomicU64::new(0)).collect(),
        metrics: (0..cores).map(|_| ShardMetrics::default()).collect(),
    });
    let mut logs = split(recovered.logs, cores);
    let loads: Vec<net::Load> = (0..cores).map(|_| net::Load::default()).collect();
    let (events, watching) = mpsc::channel();
    let mut nudges = Vec::new();
    let mut threads = Vec::new();
    let addresses: Vec<SocketAddr> = listeners.iter().map(|bound| bound.address).collect();
    let mut listeners: Vec<TcpListener> =
        listeners.into_iter().map(|bound| bound.listener).collect();
    for (index, endpoints) in (0..cores).zip(mailbox::mesh(usize::from(cores))) {
        let nudge = shard_main::nudge().map_err(runtime)?;
        let seed = ShardSeed {
            index,
            shards: cores,
            broker: broker.clone(),
            directories: directories.clone(),
            endpoints,
            snapshot: recovered.metadata.snapshot(),
            logs: logs.remove(&index).unwrap_or_default(),
            listeners: std::mem::take(&mut listeners),
            loads: loads.clone(),
            shared: Arc::clone(&shared),
            nudge: nudge.try_clone().map_err(runtime)?,
            events: events.clone(),
        };
        nudges.push(nudge);
        let cpu = config.cores.get(usize::from(index)).copied().unwrap_or(0);
        let thread = LocalExecutorBuilder::new(Placement::Fixed(cpu))
            .name(&format!("shard-{index}"))
            .preempt_timer(PREEMPT_TIMER)
            .io_memory(EXECUTOR_MEMORY)
            .spawn(move || shard_main::run(seed))
            .map_err(|error| executor_error(&error))?;
        threads.push(thread);
    }
    drop(events);
    let http_address = match http {
        Some(listener) => {
            let address = listener.local_addr().map_err(runtime)?;
            http::start(listener, Arc::clone(&shared)).map_err(runtime)?;
            Some(address)
        }
        None => None,
    };
    let mut watch = Watch { shared, nudges, turns: Vec::new(), space };
    watch.until_ready(&watching, usize::from(cores))?;
    let took = Clock::monotonic().since(started);
    for line in banner(&broker, &addresses, recovered.clean, recovered.rounds) {
        announce(&line);
    }
    if let Some(address) = http_address {
        announce(&format!("http      http://{address}/metrics"));
    }
    announce(&format!("ready     in {} ms", took.as_millis()));
    let result = watch.until_stopped(&watching, &stop_signal, usize::from(cores));
    if result.is_ok() {
        for thread in threads {
            thread.join().map_err(|error| ServerError::Runtime(error.to_string()))?;
        }
        announce("stopped cleanly");
    }
    result
}

/// Binds a listener. The ring of a killed broker holds its listener for some milliseconds after the
/// process is gone, so an address in use is tried for a while.
fn bind_patiently(listener: &Listener) -> io::Result<TcpListener> {
    let deadline = Clock::monotonic().plus(BIND_PATIENCE);
    loop {
        match net::bind(&listener.host, listener.port) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && Clock::monotonic() < deadline =>
            {
                std::thread::park_timeout(BIND_RETRY);
            }
            result => return result,
        }
    }
}

/// A listener whose address is known to be free, though nothing is accepted from it yet.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    endpoint: Endpoint,
}

fn bind(config: &Config) -> Result<Vec<Bound>, ServerError> {
    let bind = |named: &NamedListener| {
        let listener = bind_patiently(&named.bind).map_err(|error| {
            ServerError::Listen(format!(
                "cannot listen on {}: {error}; choose another address with --listen, or stop what \
                 uses this one",
                named.bind
            ))
        })?;
        let address = listener.local_addr().map_err(runtime)?;
        let port = match named.advertised.port {
            0 => address.port(),
            port => port,
        };
        let host = named.advertised.host.clone();
        Ok(Bound { listener, address, endpoint: Endpoint { name: named.name.clone(), host, port } })
    };
    config.listeners.iter().map(bind).collect()
}

struct RecoveredBroker {
    metadata: Metadata,
    logs: BTreeMap<TopicPartition, Recovered>,
    rounds: u64,
    clean: bool,
}

fn runtime(error: impl fmt::Display) -> ServerError {
    ServerError::Runtime(error.to_string())
}

fn executor_error(error: &impl fmt::Display) -> ServerError {
    ServerError::Runtime(format!(
        "an executor cannot start: {error}; run `millstream doctor`, which names what this machine \
         lacks for io_uring"
    ))
}

fn bind_http(address: SocketAddr) -> Result<TcpListener, ServerError> {
    http::bind(address).map_err(|error| {
        ServerError::Listen(format!(
            "cannot listen on {address} for HTTP: {error}; choose another address with http.listen, \
             or leave it empty"
        ))
    })
}

fn cores(config: &Config) -> Result<u16, ServerError> {
    u16::try_from(config.cores.len())
        .map_err(|_| ServerError::Runtime("more cores than 65535".to_owned()))
}

/// Replays metadata, checkpoints and journals on an executor of its own on the first core.
fn recover(config: &Config, directories: &Directories) -> Result<RecoveredBroker, ServerError> {
    let cpu = config.cores.first().copied().unwrap_or(0);
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(EXECUTOR_MEMORY)
        .make()
        .map_err(|error| executor_error(&error))?;
    let cores = cores(config)?;
    let salt: u32 = rand::random();
    let recovered = executor.run(async {
        GlommioStorage::probe(&directories.probes()).await?;
        let storage: Rc<dyn Storage> = Rc::new(GlommioStorage);
        let recovery = recovery::recover(Rc::clone(&storage), directories, cores, salt).await?;
        let orphans = recovery::remove_orphans(
            &*storage,
            &directories.data,
            &recovery.metadata,
            &recovery.logs,
        )
        .await?;
        if orphans.removed > 0 {
            tracing::info!(directories = orphans.removed, "removed what deleted topics had left");
        }
        if !orphans.strays.is_empty() {
            tracing::warn!(
                directories = ?orphans.strays,
                "partitions of topics that the metadata log does not know are put aside: remove them, or \
                 take them back with `millstream log import`"
            );
        }
        recovery.metadata_log.close().await?;
        Ok::<_, RecoveryError>(RecoveredBroker {
            metadata: recovery.metadata,
            logs: recovery.logs,
            rounds: recovery.rounds,
            clean: recovery.clean,
        })
    });
    recovered.map_err(|error| match error {
        RecoveryError::Disk(error) => ServerError::Directory(format!(
            "{} cannot be used: {error}",
            directories.data.display()
        )),
        RecoveryError::Damaged(why) => ServerError::Runtime(why),
    })
}

fn split(
    logs: BTreeMap<TopicPartition, Recovered>,
    shards: u16,
) -> BTreeMap<u16, BTreeMap<TopicPartition, Recovered>> {
    let mut split: BTreeMap<u16, BTreeMap<_, _>> = BTreeMap::new();
    for (partition, log) in logs {
        split.entry(owner(partition, shards).0).or_default().insert(partition, log);
    }
    split
}

/// The first SIGTERM or SIGINT sets the flag; the next ends the process.
fn signals() -> Result<Arc<AtomicBool>, ServerError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&told))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&told)))
            .map_err(runtime)?;
    }
    Ok(told)
}

fn banner(broker: &Broker, addresses: &[SocketAddr], clean: bool, rounds: u64) -> Vec<String> {
    let config = &broker.config;
    let told = broker.endpoint(0);
    let first = Listener { host: told.host, port: told.port };
    let all = match config.acks_all_durability {
        Durability::Flushed => "flushed to the disk: survives power loss",
        Durability::Written | Durability::Received => {
            "written to the journal: survives kill -9, not power loss (acks.all.durability=written)"
        }
    };
    let mut lines = vec![
        format!(
            "millstream {} listening on {} (node {}, cluster {}, cores {:?}, data {})",
            env!("CARGO_PKG_VERSION"),
            addresses.first().map(SocketAddr::to_string).unwrap_or_default(),
            config.node_id,
            broker.cluster_id,
            config.cores,
            config.log_dir.display()
        ),
        format!("acks=all  {all}"),
        "acks=1    written to the journal: survives kill -9 of the broker".to_owned(),
        "acks=0    received: nothing promised".to_owned(),
        format!(
            "try       millstream topic create first -b {first} && echo hello | millstream topic \
             produce first -b {first} && millstream topic consume first -b {first}"
        ),
    ];
    for (address, endpoint) in addresses.iter().zip(&broker.advertised).skip(1) {
        let Endpoint { name, host, port } = endpoint;
        lines.insert(1, format!("also on   {address} ({name}, clients connect to {host}:{port})"));
    }
    if !clean {
        lines.insert(
            1,
            format!(
                "recovered from an unclean stop: {rounds} journal rounds replayed, leader epoch {}",
                broker.leader_epoch
            ),
        );
    }
    lines
}

/// The watching thread's view of the shards.
struct Watch {
    shared: Arc<Shared>,
    nudges: Vec<OwnedFd>,
    turns: Vec<(u64, Monotonic)>,
    space: SpaceWatch,
}

impl Watch {
    fn until_ready(
        &mut self,
        events: &mpsc::Receiver<ShardEvent>,
        shards: usize,
    ) -> Result<(), ServerError> {
        let mut ready = 0;
        while ready < shards {
            match events.recv_timeout(WATCH_INTERVAL) {
                Ok(ShardEvent::Ready) => ready += 1,
                Ok(ShardEvent::Failed(why)) => return Err(ServerError::Runtime(why)),
                Ok(ShardEvent::Stopped) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(ServerError::Runtime("a shard ended at its start".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => self.look_for_stalls(),
            }
        }
        Ok(())
    }

    fn until_stopped(
        &mut self,
        events: &mpsc::Receiver<ShardEvent>,
        stop_signal: &AtomicBool,
        shards: usize,
    ) -> Result<(), ServerError> {
        let mut stopped = 0;
        while stopped < shards {
            if stop_signal.load(Ordering::Relaxed) && !self.shared.stop.swap(true, Ordering::SeqCst)
            {
                tracing::info!("stopping: finishing requests, flushing");
                self.nudge_all();
            }
            match events.recv_timeout(WATCH_INTERVAL) {
                Ok(ShardEvent::Stopped) => stopped += 1,
                Ok(ShardEvent::Ready) => {}
                Ok(ShardEvent::Failed(why)) => return Err(ServerError::Runtime(why)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ServerError::Runtime("a shard ended by itself".to_owned()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.look_for_stalls();
                    self.space.look();
                }
            }
        }
        Ok(())
    }

    fn nudge_all(&self) {
        for nudge in &self.nudges {
            shard_main::send_nudge(nudge);
        }
    }

    /// The runtime can lose a wake-up when its timer fires while the thread is descheduled; the tickers
    /// bound that, and this bounds the loss of both tickers.
    fn look_for_stalls(&mut self) {
        let now = Clock::monotonic();
        for (index, turns) in self.shared.turns.iter().enumerate() {
            let turns = turns.load(Ordering::Relaxed);
            match self.turns.get_mut(index) {
                None => self.turns.push((turns, now)),
                Some((seen, at)) if *seen != turns => (*seen, *at) = (turns, now),
                Some((_, at)) => {
                    if now.since(*at) >= STALL {
                        *at = now;
                        tracing::warn!(shard = index, "a shard stands still; nudging it");
                        if let Some(nudge) = self.nudges.get(index) {
                            shard_main::send_nudge(nudge);
                        }
                    }
                }
            }
        }
    }
}

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> ServerError {
        ServerError::Runtime(error.to_string())
    }
}
