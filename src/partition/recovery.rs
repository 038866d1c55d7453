//! From what the disk holds to a started broker (storage rules 4-6, 18, 19).
//!
//! Runs once, on the first core, before any core serves. Reads the metadata log, all checkpoints and all
//! journals by what they say of themselves, so the number of cores may change between starts. It builds
//! maps and writes one metadata record; drains come later.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::CoreCheckpoint;
use super::compaction::finish_swaps;
use super::metadata_log::MetadataLog;
use crate::config::Config;
use crate::journal::checkpoint::{self, Loaded};
use crate::journal::files::EXTENSION;
use crate::journal::format::Chain;
use crate::journal::scan::{self, ChainRange, Found, ScanError};
use crate::log::Recovered;
use crate::log::segment::directory;
use crate::metadata::{Metadata, MetadataRecord, OldChain};
use crate::storage::{Storage, read_file};
use crate::types::{TopicId, TopicPartition, Uuid};

/// Name of the file that says which topic a partition's directory belongs to, as in Kafka.
pub const PARTITION_METADATA: &str = "partition.metadata";

/// A file of one block in the data and the journal directory, there to be read.
pub const PROBE: &str = ".probe";

/// Directory of the metadata log.
pub const METADATA_DIRECTORY: &str = "__cluster_metadata-0";

/// Metadata logs longer than this are rewritten at the start.
const METADATA_REWRITE_BYTES: u64 = 1024 * 1024;

/// Why the broker cannot start from this data directory.
#[derive(Debug)]
pub enum RecoveryError {
    /// The disk reports an error.
    Disk(io::Error),
    /// What the disk holds cannot be right.
    Damaged(String),
}

impl From<io::Error> for RecoveryError {
    fn from(error: io::Error) -> RecoveryError {
        RecoveryError::Disk(error)
    }
}

impl From<ScanError> for RecoveryError {
    fn from(error: ScanError) -> RecoveryError {
        match error {
            ScanError::Disk(error) => RecoveryError::Disk(error),
            other => RecoveryError::Damaged(other.to_string()),
        }
    }
}

impl fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoveryError::Disk(error) => write!(f, "the disk reports: {error}"),
            RecoveryError::Damaged(why) => f.write_str(why),
        }
    }
}

/// A data directory ready to be served.
pub struct Recovery {
    /// Topics and the new start.
    pub metadata: Metadata,
    /// The log it came from.
    pub metadata_log: MetadataLog,
    /// Logs that have bytes, by partition.
    pub logs: BTreeMap<TopicPartition, Recovered>,
    /// Journal rounds replayed.
    pub rounds: u64,
    /// Whether the stop before was clean (or there was none).
    pub clean: bool,
}

/// Where things are.
#[derive(Clone, Debug)]
pub struct Directories {
    /// `log.dir`.
    pub data: PathBuf,
    /// Journals and checkpoints.
    pub journal: PathBuf,
}

impl Directories {
    /// As a configuration says.
    #[must_use]
    pub fn of(config: &Config) -> Directories {
        Directories {
            data: config.log_dir.clone(),
            journal: config.journal_dir.clone().unwrap_or_else(|| config.log_dir.join("journal")),
        }
    }

    /// Files with some bytes, one on each disk: see `GlommioStorage::probe`.
    #[must_use]
    pub fn probes(&self) -> Vec<PathBuf> {
        vec![self.data.join(PROBE), self.journal.join(PROBE)]
    }

    /// The metadata log.
    #[must_use]
    pub fn metadata_log(&self) -> PathBuf {
        self.data.join(METADATA_DIRECTORY).join("metadata.log")
    }
}

/// What a data directory says of itself: nothing was changed to find it out.
pub(super) struct Examined {
    pub(super) metadata: Metadata,
    pub(super) metadata_log: MetadataLog,
    /// Logs that have bytes, by partition.
    pub(super) logs: BTreeMap<TopicPartition, Recovered>,
    /// Journal rounds replayed.
    pub(super) rounds: u64,
    /// The journals, locked.
    files: Vec<Found>,
    /// The journals that were needed, with their cuts.
    old_chains: Vec<OldChain>,
}

/// Reads the metadata log, the checkpoints and the journals.
///
/// # Errors
/// See [`RecoveryError`].
pub(super) async fn examine(
    storage: &Rc<dyn Storage>,
    directories: &Directories,
) -> Result<Examined, RecoveryError> {
    let (metadata_log, records) =
        MetadataLog::open::<MetadataRecord>(Rc::clone(storage), &directories.metadata_log())
            .await?;
    let mut metadata = Metadata::default();
    for record in &records {
        metadata.replay(record);
    }
    let files = scan::survey(&**storage, &directories.journal).await?;
    let checkpoints = load_checkpoints(&**storage, &directories.journal).await?;
    refuse_missing_parts(&records, &metadata, files.len() + checkpoints.len())?;
    let mut logs = logs_of(&checkpoints, &metadata);
    let mut old_chains = Vec::new();
    let mut rounds = 0;
    for range in ranges(&metadata, &checkpoints) {
        let mut unknown = 0_u64;
        let end = scan::replay(&files, &range, |header, entry, place| {
            if metadata.image().by_id(entry.partition.topic).is_none() {
                unknown += 1;
                return Ok(());
            }
            logs.entry(entry.partition)
                .or_default()
                .replay(header.chain.generation, entry, place.path, place.position, place.payload)
                .map_err(|why| format!("partition {}: {why}", entry.partition))
        })
        .await?;
        if unknown > 0 {
            tracing::debug!(entries = unknown, "journal entries of deleted topics dropped");
        }
        rounds += end + 1 - range.first;
        if end >= range.first {
            old_chains.push(OldChain {
                generation: range.chain.generation,
                core: range.chain.core,
                salt: range.salt,
                first: range.first,
                last: end,
            });
        }
    }
    for (partition, log) in &logs {
        log.finish().map_err(|why| RecoveryError::Damaged(format!("{partition}: {why}")))?;
    }
    Ok(Examined { metadata, metadata_log, logs, rounds, files, old_chains })
}

/// Recovers a data directory and begins a new start of `cores` cores. `salt` is random.
///
/// # Errors
/// See [`RecoveryError`]; nothing was changed then.
pub async fn recover(
    storage: Rc<dyn Storage>,
    directories: &Directories,
    cores: u16,
    salt: u32,
) -> Result<Recovery, RecoveryError> {
    storage.create_directory(&directories.data).await?;
    storage.create_directory(&directories.journal).await?;
    let examined = examine(&storage, directories).await?;
    let Examined { mut metadata, mut metadata_log, logs, rounds, files, old_chains } = examined;
    let last = metadata.last_start().clone();
    scan::flush(&files).await?;
    // A checkpoint whose rename a killed process did not live to flush must not be undone by a power cut
    // after the chains' starts, which came from it, are on record.
    storage.flush_directory(&directories.journal).await?;
    let clean = last.clean || last.generation == 0;
    // Starts that never came to an append leave files which nobody needs; were they kept until a start
    // lives long enough to drop all old journals, a broker that dies at once each time would fill the disk.
    let needed =
        |c: Chain| old_chains.iter().any(|o| (o.generation, o.core) == (c.generation, c.core));
    let unused: Vec<PathBuf> = files
        .iter()
        .filter(|f| {
            let name = f.path.file_name().map(|n| n.to_string_lossy().into_owned());
            name.and_then(|n| chain_of(&n, EXTENSION)).is_some_and(|chain| !needed(chain))
        })
        .map(|f| f.path.clone())
        .collect();
    let start = MetadataRecord::Start {
        generation: last.generation + 1,
        incarnation: if clean { last.incarnation } else { last.incarnation + 1 },
        salt,
        cores,
        old_chains,
    };
    // Durable before the first append: cuts (rule 5) and incarnation (rule 6).
    if metadata_log.len() > METADATA_REWRITE_BYTES {
        metadata.replay(&start);
        metadata_log.rewrite(&metadata.snapshot()).await?;
    } else {
        metadata_log.append(std::slice::from_ref(&start)).await?;
        metadata.replay(&start);
    }
    scan::release(files).await?;
    for (partition, log) in logs.iter().filter(|(_, log)| !log.compaction().pending.is_empty()) {
        let Some(topic) = metadata.image().by_id(partition.topic) else { continue };
        let directory = directory(&directories.data, &topic.name, partition.partition);
        finish_swaps(&*storage, &directory, log.compaction()).await?;
    }
    for path in &unused {
        storage.remove(path).await?;
    }
    Ok(Recovery { metadata, metadata_log, logs, rounds, clean })
}

/// A metadata log without its journals, or journals without their metadata log, is not an empty broker:
/// to start from it would overwrite what is left.
fn refuse_missing_parts(
    records: &[MetadataRecord],
    metadata: &Metadata,
    journal_files: usize,
) -> Result<(), RecoveryError> {
    if records.is_empty() && journal_files > 0 {
        return Err(RecoveryError::Damaged(format!(
            "there are journals but no metadata log ({METADATA_DIRECTORY}): restore it from a copy, or \
             choose another directory with --data-dir"
        )));
    }
    if journal_files == 0 && metadata.image().topics().next().is_some() {
        return Err(RecoveryError::Damaged(
            "there are topics but no journals: restore the journal directory, or set journal.dir \
             back to what it was"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The chains to replay, in order: those of earlier starts that are still needed, then the last start's.
fn ranges(metadata: &Metadata, checkpoints: &Checkpoints) -> Vec<ChainRange> {
    let last = metadata.last_start();
    let mut ranges: Vec<ChainRange> = last
        .old_chains
        .iter()
        .map(|old| ChainRange {
            chain: Chain { generation: old.generation, core: old.core },
            salt: old.salt,
            first: old.first,
            cut: Some(old.last),
            flushed: 0,
        })
        .collect();
    for core in 0..last.cores {
        let chain = Chain { generation: last.generation, core };
        let known = checkpoints.get(&chain);
        ranges.push(ChainRange {
            chain,
            salt: last.salt,
            first: known.map_or(1, |c| c.body.first_sequence),
            cut: None,
            flushed: known.map_or(0, |c| c.body.flushed),
        });
    }
    ranges.sort_by_key(|range| range.chain);
    ranges
}

type Checkpoints = BTreeMap<Chain, Loaded<CoreCheckpoint>>;

/// The newest whole checkpoint of every core of every start that left one.
async fn load_checkpoints(storage: &dyn Storage, directory: &Path) -> io::Result<Checkpoints> {
    let mut newest = Checkpoints::new();
    for name in storage.list(directory).await? {
        let Some(chain) = chain_of(&name, checkpoint::EXTENSION) else { continue };
        let path = directory.join(&name);
        let Some(loaded) = checkpoint::load::<CoreCheckpoint>(storage, &path).await? else {
            continue;
        };
        let newer = newest.get(&chain).is_none_or(|known| known.sequence < loaded.sequence);
        if newer {
            newest.insert(chain, loaded);
        }
    }
    Ok(newest)
}

/// The chain that a journal's or checkpoint's file name speaks of.
pub(super) fn chain_of(name: &str, extension: &str) -> Option<Chain> {
    let (stem, found) = name.rsplit_once('.')?;
    let mut parts = stem.split('-');
    let generation = parts.next()?.parse().ok()?;
    let core = parts.next()?.parse().ok()?;
    (found == extension).then_some(Chain { generation, core })
}

/// Per partition, what the newest start that speaks of it says.
fn logs_of(checkpoints: &Checkpoints, metadata: &Metadata) -> BTreeMap<TopicPartition, Recovered> {
    let mut logs = BTreeMap::new();
    // Chains sort by start, so a later one replaces an earlier one.
    for (chain, loaded) in checkpoints {
        for partition in &loaded.body.partitions {
            if metadata.image().by_id(partition.id.topic).is_some() {
                let from = if partition.needs_earlier { 0 } else { chain.generation };
                let log = Recovered::from_checkpoint(partition.log.clone(), from);
                logs.insert(partition.id, log);
            }
        }
    }
    logs
}

/// Removes journals and checkpoints of starts before `generation`. Only after `OldJournalsDropped` is
/// durable.
///
/// # Errors
/// Whatever the disk reports.
pub async fn remove_old_journals(
    storage: &dyn Storage,
    directory: &Path,
    generation: u64,
) -> io::Result<()> {
    for name in storage.list(directory).await? {
        let chain = [EXTENSION, checkpoint::EXTENSION, "tmp"]
            .iter()
            .find_map(|extension| chain_of(&name, extension));
        if chain.is_some_and(|chain| chain.generation < generation) {
            storage.remove(&directory.join(&name)).await?;
        }
    }
    storage.flush_directory(directory).await
}

/// The text of `partition.metadata`, as Kafka writes it: a format version and the topic id in Kafka's
/// unpadded base 64.
#[must_use]
pub fn partition_metadata(topic: TopicId) -> String {
    format!("version: 0\ntopic_id: {}\n", kafka_uuid(topic))
}

/// The topic id in a `partition.metadata`; `None` if it names none.
#[must_use]
pub fn topic_id_of(text: &str) -> Option<TopicId> {
    let digits = text.lines().find_map(|line| line.strip_prefix("topic_id:"))?.trim();
    if digits.len() != 22 {
        return None;
    }
    let mut number = 0_u128;
    for (at, digit) in (0_u32..).zip(digits.bytes()) {
        let value = u128::try_from(ALPHABET.iter().position(|known| *known == digit)?).ok()?;
        // The last digit has only 2 bits of the number.
        number = if at < 21 { number << 6 | value } else { number << 2 | value >> 4 };
    }
    let id = TopicId(Uuid::from_u128(number));
    (id != TopicId::ZERO).then_some(id)
}

/// The digits of Kafka's text form of ids.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// An id in Kafka's text form: unpadded URL-safe base 64.
#[must_use]
pub fn kafka_uuid(topic: TopicId) -> String {
    let mut text = String::with_capacity(22);
    let number = u128::from_be_bytes(topic.0.into_bytes());
    // 22 digits of 6 bits: the last one has only 2 bits of the number.
    for digit in 0..22_u32 {
        let bits = if digit < 21 { number >> (122 - 6 * digit) } else { number << 4 };
        let index = usize::try_from(bits & 63).unwrap_or(0);
        text.push(ALPHABET.get(index).map_or('A', |c| char::from(*c)));
    }
    text
}

/// Partition directories that belonged to no topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Removed: a deletion had renamed them.
    pub removed: usize,
    /// Put aside under these names.
    pub strays: Vec<String>,
}

/// Makes away with partition directories whose topic is gone: what a deletion left behind when the
/// broker died in it (rule 16). Those that no deletion had renamed yet are put aside as `-stray`, as Kafka
/// does: should it be the metadata log that has lost something, the records are still there.
///
/// # Errors
/// Whatever the disk reports.
pub async fn remove_orphans(
    storage: &dyn Storage,
    data: &Path,
    metadata: &Metadata,
    known: &BTreeMap<TopicPartition, Recovered>,
) -> io::Result<Orphans> {
    let mut orphans = Orphans::default();
    for name in storage.list(data).await? {
        let Some((topic, partition)) = name.rsplit_once('-') else { continue };
        let path = data.join(&name);
        // Only what a deletion renamed: `<topic>-<partition>.<32 hexadecimal digits>-delete`.
        let renamed = topic
            .rsplit_once('.')
            .is_some_and(|(_, id)| id.len() == 32 && id.bytes().all(|c| c.is_ascii_hexdigit()));
        let stray = if partition == "delete" {
            if renamed {
                storage.remove_directory(&path).await?;
                orphans.removed += 1;
            }
            None
        } else if let Ok(partition) = partition.parse::<i32>() {
            let current = metadata.image().by_name(topic);
            let sure = current
                .is_some_and(|t| known.contains_key(&TopicPartition { topic: t.id, partition }));
            let content = match sure {
                true => None,
                false => read_file(storage, &path.join(PARTITION_METADATA)).await.ok(),
            };
            content.filter(|bytes| {
                current.is_none_or(|t| *bytes != partition_metadata(t.id).as_bytes())
            })
        } else {
            None
        };
        if let Some(content) = stray {
            let id: String = String::from_utf8_lossy(&content)
                .rsplit(' ')
                .next()
                .unwrap_or_default()
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
                .collect();
            let aside = format!("{name}.{id}-stray");
            storage.rename(&path, &data.join(&aside)).await?;
            orphans.strays.push(aside);
        }
    }
    if orphans != Orphans::default() {
        storage.flush_directory(data).await?;
    }
    Ok(orphans)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_are_written_as_kafka_does() {
        // Uuid.METADATA_TOPIC_ID of Kafka is 0x1 and prints like this.
        assert_eq!(kafka_uuid(TopicId(Uuid::from_u128(1))), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(kafka_uuid(TopicId(Uuid::from_u128(u128::MAX))), "_____________________w");
        for number in [1, u128::MAX, 0x0123_4567_89ab_cdef_0f1e_2d3c_4b5a_6978] {
            let id = TopicId(Uuid::from_u128(number));
            assert_eq!(topic_id_of(&partition_metadata(id)), Some(id));
        }
        for text in ["version: 0\n", "topic_id: AAAA\n", "topic_id: AAAAAAAAAAAAAAAAAAAAAA\n"] {
            assert_eq!(topic_id_of(text), None, "{text}");
        }
    }
}
