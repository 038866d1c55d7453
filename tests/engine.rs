//! One core's storage engine on the simulated disk: what can be shown by holding back or failing single
//! operations. What random faults and crashes do is for `crash_simulation.rs`.

use std::cell::Cell;
use std::error::Error;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use millstream::journal::format::Chain;
use millstream::journal::{Journal, JournalSettings};
use millstream::partition::{Store, StoreSettings};
use millstream::record::BatchBuilder;
use millstream::storage::Storage;
use millstream::storage::sim::SimStorage;
use millstream::time::Timestamp;
use millstream::types::{Durability, LeaderEpoch, TopicId, TopicPartition, Uuid};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const STEPS_MAX: u64 = 1_000_000;
const RING: usize = 1024 * 1024;
const CHAIN: Chain = Chain { generation: 1, core: 0 };

async fn open(sim: SimStorage, ring: usize) -> std::io::Result<Rc<Store>> {
    let storage: Rc<dyn Storage> = Rc::new(sim);
    let (data, journals) = (PathBuf::from("/data"), PathBuf::from("/data/journal"));
    storage.create_directory(&journals).await?;
    let journal = Journal::open(
        Rc::clone(&storage),
        JournalSettings {
            directory: journals.clone(),
            chain: CHAIN,
            salt: 1,
            ring_bytes: ring,
            file_bytes: ring / 8,
            first_file_bytes: ring / 16,
            copy_bytes_min: 8 * 1024,
            flush_interval: Duration::from_millis(100),
        },
    )
    .await?;
    Ok(Store::new(
        storage,
        journal,
        StoreSettings {
            data,
            journal_directory: journals,
            chain: CHAIN,
            incarnation: LeaderEpoch(0),
            drain_bytes: ring / 3,
            drain_write_bytes: 64 * 1024,
            drain_step_bytes: 256 * 1024,
            index_interval_bytes: 4096,
            index_write_entries: 512,
            open_files_max: 16,
        },
    ))
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(Uuid::from_u128(7)), partition: index }
}

fn batch(len: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.record(Timestamp(1), None, Some(&vec![b'x'; len]));
    Bytes::from(builder.build().unwrap_or_default())
}

#[test]
fn no_ack_waits_for_a_segment_flush() -> Result<()> {
    let sim = SimStorage::new(1);
    let store =
        sim.block_on(STEPS_MAX, open(sim.clone(), RING)).ok_or("the store does not open")??;
    for index in 0..4 {
        store.add(partition(index), "t", 64 << 20, None);
    }
    sim.stall_flushes(Some("log"));
    let mut appended = 0;
    // Drains begin at a third of the ring; the acks go on to its end.
    for round in 0.. {
        if !store.journal().has_room() {
            break;
        }
        let bytes = batch(if round % 3 == 0 { 20 * 1024 } else { 5 * 1024 });
        let (store, index) = (Rc::clone(&store), round % 4);
        appended += bytes.len();
        let acked = async move {
            let done = store
                .append(partition(index), bytes, 1, Durability::Flushed)
                .map_err(|e| format!("{e:?}"))?;
            store.reach(done.sequence, Durability::Flushed).await.map_err(|e| format!("{e:?}"))
        };
        sim.block_on(STEPS_MAX, acked).ok_or("an append is not acknowledged")??;
    }
    assert!(appended > RING / 2, "{appended}");
    assert_eq!((store.counters().segment_flushes, store.counters().drain_passes), (0, 0));
    let waiting = store.journal().live_bytes();
    assert!(waiting >= RING / 3, "no drain was under way at {waiting} live bytes");

    // Once they may end, the drain that waited for them does.
    sim.stall_flushes(None);
    let ended = Rc::clone(&store);
    assert!(sim.run_until(STEPS_MAX, || ended.counters().drain_passes > 0));
    assert!(store.counters().segment_flushes > 0);
    assert_eq!(store.failure(), None);
    Ok(())
}

/// Appends under way at any time, and appends of each of them in turn.
const CLIENTS: i32 = 64;
const APPENDS: i32 = 40;

/// Journal flushes of one core whose clients append to `partitions` partitions in turn and wait each time
/// until it is flushed; 1 KiB an append.
fn flushes(seed: u64, partitions: i32) -> Result<u64> {
    let sim = SimStorage::new(seed);
    // All of it fits into the ring: no drain takes part.
    let opened = open(sim.clone(), 16 * RING);
    let store = sim.block_on(STEPS_MAX, opened).ok_or("the store does not open")??;
    for index in 0..partitions {
        store.add(partition(index), "t", 64 << 20, None);
    }
    let before = store.journal().counters().flushes;
    let (next, ended) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    for _ in 0..CLIENTS {
        let (store, next, ended) = (Rc::clone(&store), Rc::clone(&next), Rc::clone(&ended));
        sim.spawn(Box::pin(async move {
            for _ in 0..APPENDS {
                let turn = next.replace(next.get() + 1);
                let to = partition(turn % partitions);
                let Ok(done) = store.append(to, batch(1_000), 1, Durability::Flushed) else {
                    return;
                };
                if store.reach(done.sequence, Durability::Flushed).await.is_err() {
                    return;
                }
            }
            ended.set(ended.get() + 1);
        }));
    }
    if !sim.run_until(STEPS_MAX, || ended.get() == CLIENTS) {
        return Err(format!("{} of {CLIENTS} clients came to their end", ended.get()).into());
    }
    assert_eq!(store.counters().drain_passes, 0);
    Ok(store.journal().counters().flushes - before)
}

/// The ratio that `core.4` of the acceptance list bounds. On the simulated disk it does not depend on how
/// fast this machine and its disk are, as it does in the broker (`broker/counters.rs`).
#[test]
fn journal_flushes_do_not_grow_with_partitions() -> Result<()> {
    let (mut one, mut thousand) = (0, 0);
    for seed in 0..20 {
        one += flushes(seed, 1)?;
        thousand += flushes(seed, 1_000)?;
    }
    eprintln!("{one} flushes over one partition, {thousand} over 1,000");
    assert!(
        one > 0 && thousand * 10 <= one * 11,
        "{one} flushes, {thousand} over 1,000 partitions"
    );
    Ok(())
}
