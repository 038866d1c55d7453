//! The life of one shard's executor: open, serve, tick, stop.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use glommio::io::BufferedFile;

use super::Shared;
use super::service::BrokerService;
use crate::config::Config;
use crate::journal::format::Chain;
use crate::journal::{Journal, JournalSettings};
use crate::limits::{
    DRAIN_STEP_BYTES, DRAIN_WRITE_BYTES, FENCED_GRACE, INDEX_WRITE_ENTRIES,
    JOURNAL_FIRST_FILE_BYTES, OPEN_FILES_PER_SHARD, REPLY_BYTES_MAX, ROUND_COPY_BYTES_MIN,
    STOP_GRACE, TICK, TICK_SECOND,
};
use crate::log::Recovered;
use crate::metadata::{Metadata, MetadataRecord};
use crate::metrics::{Metric, ShardMetrics};
use crate::net::{self, Accepted, Connections, NetCounters};
use crate::partition::metadata_log::MetadataLog;
use crate::partition::recovery::{self, Directories};
use crate::partition::{Store, StoreSettings};
use crate::shard::control::Control;
use crate::shard::mailbox::{Endpoints, Router};
use crate::shard::message::{Call, Reply};
use crate::shard::{Broker, Shard};
use crate::storage::Storage;
use crate::storage::glommio::GlommioStorage;
use crate::time::Clock;
use crate::types::{LeaderEpoch, ShardId, TopicPartition};

/// What a shard tells the watching thread.
pub(super) enum ShardEvent {
    Ready,
    Failed(String),
    Stopped,
}

/// Everything a shard starts with.
pub(super) struct ShardSeed {
    pub(super) index: u16,
    pub(super) shards: u16,
    pub(super) broker: Broker,
    pub(super) directories: Directories,
    pub(super) endpoints: Endpoints,
    pub(super) snapshot: Vec<MetadataRecord>,
    pub(super) logs: BTreeMap<TopicPartition, Recovered>,
    /// On shard 0.
    pub(super) listeners: Vec<TcpListener>,
    pub(super) loads: Vec<net::Load>,
    pub(super) shared: Arc<Shared>,
    pub(super) nudge: OwnedFd,
    pub(super) events: mpsc::Sender<ShardEvent>,
}

/// A descriptor that wakes a shard's reactor when it is written to.
pub(super) fn nudge() -> std::io::Result<OwnedFd> {
    let flags = rustix::event::EventfdFlags::CLOEXEC;
    Ok(rustix::event::eventfd(0, flags)?)
}

pub(super) fn send_nudge(nudge: &OwnedFd) {
    if let Err(error) = rustix::io::write(nudge, &1_u64.to_be_bytes()) {
        tracing::debug!(%error, "a nudge was not taken");
    }
}

fn tell(events: &mpsc::Sender<ShardEvent>, event: ShardEvent) {
    // The watching thread is gone only when the process ends.
    drop(events.send(event));
}

pub(super) async fn run(seed: ShardSeed) {
    let events = seed.events.clone();
    if let Err(why) = live(seed).await {
        tell(&events, ShardEvent::Failed(why));
    }
}

async fn live(seed: ShardSeed) -> Result<(), String> {
    let ShardSeed { index, shards, broker, directories, shared, events, .. } = seed;
    let id = ShardId(index);
    let timed = start_heartbeat(&shared, index, seed.nudge);
    GlommioStorage::probe(&directories.probes())
        .await
        .map_err(|error| format!("shard {index}: the data directory cannot be read: {error}"))?;
    let storage: Rc<dyn Storage> = Rc::new(GlommioStorage);
    let mut metadata = Metadata::default();
    metadata.set_broker(broker.config.node_id, broker.config.topic_defaults.clone());
    for record in &seed.snapshot {
        metadata.replay(record);
    }
    let store = open_store(&storage, &broker.config, &directories, &metadata, index)
        .await
        .map_err(|error| format!("shard {index}: the journal cannot be opened: {error}"))?;
    let (router, incoming) = Router::connect(id, seed.endpoints).await;
    let image = metadata.image().clone();
    let config = broker.config.clone();
    let shard = Shard::new(id, shards, broker, store, router, image.clone());
    let mut logs = seed.logs;
    for topic in image.topics() {
        shard.own(topic, |partition| logs.remove(&partition));
    }
    for incoming in incoming {
        glommio::spawn_local(Rc::clone(&shard).serve(incoming)).detach();
    }
    if index == 0 {
        let (log, _) =
            MetadataLog::open::<MetadataRecord>(Rc::clone(&storage), &directories.metadata_log())
                .await
                .map_err(|error| format!("the metadata log cannot be opened: {error}"))?;
        let control = Control::start(&shard, metadata, log);
        shard.set_control(control);
    }
    let settings = net::Settings {
        request_bytes_max: config.socket_request_max_bytes,
        idle: Duration::from_millis(config.connections_max_idle_ms),
        ..net::Settings::default()
    };
    let connections = Connections::new(settings, Rc::new(NetCounters::default()));
    serve_connections(&shard, &connections);
    *timed.borrow_mut() = Some(timed_work(&shard, &connections, &shared, &events));
    if index == 0 {
        let limits = net::AcceptLimits {
            connections_max: config.max_connections,
            connections_per_ip_max: config.max_connections_per_ip,
        };
        let gate = Rc::new(RefCell::new(net::Gate::new(limits)));
        for listener in (0..).zip(seed.listeners) {
            let (accepting, gate, loads) =
                (Rc::clone(&shard), Rc::clone(&gate), seed.loads.clone());
            glommio::spawn_local(async move {
                let result = net::accept_loop(listener, gate, loads, move |to, accepted| {
                    let to = ShardId(u16::try_from(to).unwrap_or(0));
                    accepting.hand_over(to, Box::new(accepted));
                })
                .await;
                if let Err(error) = result {
                    tracing::error!(%error, "no connections are accepted any more");
                }
            })
            .detach();
        }
        let dropping = Rc::clone(&shard);
        glommio::spawn_local(drop_old_journals(dropping, storage, directories)).detach();
    }
    tell(&events, ShardEvent::Ready);
    wait_for(&shared, |shared| shared.stop.load(Ordering::SeqCst)).await;
    stop(&shard, &connections, &shared).await?;
    tell(&events, ShardEvent::Stopped);
    Ok(())
}

pub(super) async fn open_store(
    storage: &Rc<dyn Storage>,
    config: &Config,
    directories: &Directories,
    metadata: &Metadata,
    core: u16,
) -> std::io::Result<Rc<Store>> {
    let start = metadata.last_start();
    let chain = Chain { generation: start.generation, core };
    let ring_bytes = config.journal_ring_bytes;
    let file_bytes = crate::storage::align_up(ring_bytes / 8);
    let journal = Journal::open(
        Rc::clone(storage),
        JournalSettings {
            directory: directories.journal.clone(),
            chain,
            salt: start.salt,
            ring_bytes,
            file_bytes,
            first_file_bytes: file_bytes.min(JOURNAL_FIRST_FILE_BYTES),
            copy_bytes_min: ROUND_COPY_BYTES_MIN,
            flush_interval: Duration::from_millis(config.journal_flush_ms),
        },
    )
    .await?;
    Ok(Store::new(
        Rc::clone(storage),
        journal,
        StoreSettings {
            data: directories.data.clone(),
            journal_directory: directories.journal.clone(),
            chain,
            incarnation: LeaderEpoch(start.incarnation),
            drain_bytes: ring_bytes / 3,
            drain_write_bytes: DRAIN_WRITE_BYTES,
            drain_step_bytes: DRAIN_STEP_BYTES,
            index_interval_bytes: u64::from(config.log_index_interval_bytes),
            index_write_entries: INDEX_WRITE_ENTRIES,
            open_files_max: OPEN_FILES_PER_SHARD,
        },
    ))
}

fn serve_connections(shard: &Rc<Shard>, connections: &Rc<Connections>) {
    let service =
        Rc::new(BrokerService { shard: Rc::clone(shard), reply_bytes_max: REPLY_BYTES_MAX });
    let connections = Rc::clone(connections);
    shard.on_connection(Box::new(move |handed| {
        let Ok(accepted) = handed.downcast::<Accepted>() else { return };
        let peer = connections.peer(accepted.address(), accepted.listener());
        let (stream, place) = accepted.into_stream();
        let service: Rc<dyn net::Service> = Rc::<BrokerService>::clone(&service);
        let connections = Rc::clone(&connections);
        glommio::spawn_local(async move {
            net::serve(stream, peer, service, connections).await;
            drop(place);
        })
        .detach();
    }));
}

/// What the first ticker does, once there is something to do.
type TimedWork = Rc<RefCell<Option<Box<dyn Fn()>>>>;

/// Two unrelated tickers and the nudge, started first: nothing else wakes a reactor for certain, and
/// lines between shards are not even connected without them.
fn start_heartbeat(shared: &Arc<Shared>, index: u16, nudge: OwnedFd) -> TimedWork {
    let work: TimedWork = Rc::default();
    let (turning, timed) = (Arc::clone(shared), Rc::clone(&work));
    glommio::spawn_local(async move {
        loop {
            glommio::timer::sleep(TICK).await;
            turn(&turning, index);
            if let Some(work) = &*timed.borrow() {
                work();
            }
        }
    })
    .detach();
    let turning = Arc::clone(shared);
    glommio::spawn_local(async move {
        loop {
            glommio::timer::sleep(TICK_SECOND).await;
            turn(&turning, index);
        }
    })
    .detach();
    // SAFETY: the descriptor is owned and handed over here.
    let nudges = unsafe { BufferedFile::from_raw_fd(nudge.into_raw_fd()) };
    glommio::spawn_local(async move { while nudges.read_at(0, 8).await.is_ok() {} }).detach();
    work
}

fn timed_work(
    shard: &Rc<Shard>,
    connections: &Rc<Connections>,
    shared: &Arc<Shared>,
    events: &mpsc::Sender<ShardEvent>,
) -> Box<dyn Fn()> {
    let shared = Arc::clone(shared);
    let (shard, connections, events) = (Rc::clone(shard), Rc::clone(connections), events.clone());
    let told = Cell::new(false);
    Box::new(move || {
        let now = Clock::monotonic();
        shard.tick(now);
        connections.tick(now);
        if let Some(metrics) = shared.metrics.get(usize::from(shard.id().0)) {
            publish(&shard, &connections, metrics);
        }
        let Some(why) = shard.store().failure() else { return };
        if told.replace(true) {
            return;
        }
        let (events, index) = (events.clone(), shard.id().0);
        glommio::spawn_local(async move {
            // Waiting requests are answered with a storage error before the process ends.
            glommio::timer::sleep(FENCED_GRACE).await;
            tell(&events, ShardEvent::Failed(format!("shard {index} is fenced: {why}")));
        })
        .detach();
    })
}

/// Says what the shard has done so far, for whoever reads it on another thread.
fn publish(shard: &Shard, connections: &Connections, metrics: &ShardMetrics) {
    let net = connections.counters();
    let journal = shard.store().journal();
    let (writes, store) = (journal.counters(), shard.store().counters());
    let parked = shard.parked();
    let figures = [
        (Metric::Ticks, metrics.get(Metric::Ticks) + 1),
        (Metric::Connections, net.connections.get()),
        (Metric::ConnectionsOpen, connections.open() as u64),
        (Metric::Requests, net.requests.get()),
        (Metric::Replies, net.replies.get()),
        (Metric::RecvCalls, net.recv_calls.get()),
        (Metric::SendCalls, net.send_calls.get()),
        (Metric::BytesIn, net.bytes_in.get()),
        (Metric::BytesOut, net.bytes_out.get()),
        (Metric::FramesPooled, net.frames_pooled.get()),
        (Metric::FramesUnpooled, net.frames_unpooled.get()),
        (Metric::Hops, shard.router().hops()),
        (Metric::BytesCopied, store.bytes_copied),
        (Metric::FetchesParked, parked.len() as u64),
        (Metric::Wakeups, parked.wakeups()),
        (Metric::FetchTimeouts, parked.timeouts()),
        (Metric::WatchersTold, store.watchers_told),
        (Metric::JournalWrites, writes.writes),
        (Metric::JournalWriteBytes, writes.write_bytes),
        (Metric::JournalFlushes, writes.flushes),
        (Metric::JournalRoomWaits, writes.room_waits),
        (Metric::JournalLiveBytes, journal.live_bytes() as u64),
        (Metric::SegmentFlushes, store.segment_flushes),
        (Metric::SegmentWriteBytes, store.segment_write_bytes),
        (Metric::DrainPasses, store.drain_passes),
        (Metric::Compactions, store.compactions),
        (Metric::CompactionReadBytes, store.compaction_read_bytes),
        (Metric::CompactionWriteBytes, store.compaction_write_bytes),
        (Metric::ColdReads, store.cold_reads),
        (Metric::ColdReadBytes, store.cold_read_bytes),
        (Metric::Partitions, shard.store().len() as u64),
    ];
    for (metric, value) in figures {
        metrics.set(metric, value);
    }
}

fn turn(shared: &Shared, index: u16) {
    if let Some(turns) = shared.turns.get(usize::from(index)) {
        turns.fetch_add(1, Ordering::Relaxed);
    }
}

async fn wait_for(shared: &Shared, condition: impl Fn(&Shared) -> bool) {
    while !condition(shared) {
        glommio::timer::sleep(TICK).await;
    }
}

/// In step with the other shards: requests may need any of them until all connections are closed.
async fn stop(
    shard: &Rc<Shard>,
    connections: &Rc<Connections>,
    shared: &Arc<Shared>,
) -> Result<(), String> {
    let shards = usize::from(shard.shards());
    shard.begin_stop();
    connections.close_all(STOP_GRACE).await;
    shared.quiet.fetch_add(1, Ordering::SeqCst);
    wait_for(shared, |s| s.quiet.load(Ordering::SeqCst) >= shards).await;
    let stored = shard.store().stop().await;
    if stored.is_err() {
        shared.failed.fetch_add(1, Ordering::SeqCst);
    }
    shared.stored.fetch_add(1, Ordering::SeqCst);
    wait_for(shared, |s| s.stored.load(Ordering::SeqCst) >= shards).await;
    stored.map_err(|error| format!("shard {}: {error}", shard.id().0))?;
    if shard.id() == ShardId(0) && shared.failed.load(Ordering::SeqCst) == 0 {
        let generation = shard.store().generation();
        let record = MetadataRecord::CleanStop { generation };
        shard.record(record).await.map_err(|failure| failure.0)?;
    }
    Ok(())
}

/// Once every shard has drained what it recovered, the journals of earlier starts go.
async fn drop_old_journals(shard: Rc<Shard>, storage: Rc<dyn Storage>, directories: Directories) {
    let others: Vec<_> = (1..shard.shards())
        .map(|to| shard.router().call(ShardId(to), Call::DrainRecovered))
        .collect();
    if shard.store().recovered_drained().await.is_err() {
        return;
    }
    for other in others {
        if !matches!(other.await, Reply::Done(Ok(()))) {
            return;
        }
    }
    let generation = shard.store().generation();
    let record = MetadataRecord::OldJournalsDropped { generation };
    if shard.record(record).await.is_err() {
        return;
    }
    if let Err(error) =
        recovery::remove_old_journals(&*storage, &directories.journal, generation).await
    {
        tracing::warn!(%error, "journals of earlier starts cannot be removed");
    }
}
