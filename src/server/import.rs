//! `millstream log import`: partitions of a stopped Kafka broker, taken into a data directory.
//!
//! The segments are read and checked whole, copied byte for byte, and flushed; indexes, producer
//! snapshots and leader epochs are made from the records. Only then does one checkpoint, and for new
//! topics one metadata record, make them part of this broker: what a crash leaves before is removed or
//! written over. A partition that lies in its place in the data directory already is not copied.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::ServerError;
use super::directory::DataDirectory;
use super::offline::{Offline, on_executor};
use crate::config::Config;
use crate::limits::COLD_READ_BYTES;
use crate::log::Recovered;
use crate::log::adopt::{Adopted, AdoptedFiles, Adoption};
use crate::log::segment::{directory, path as segment_path};
use crate::metadata::{Metadata, MetadataRecord, TopicError};
use crate::partition::LEADER_EPOCHS;
use crate::partition::recovery::{
    Directories, PARTITION_METADATA, RecoveryError, partition_metadata, topic_id_of,
};
use crate::types::{Offset, TopicId, TopicPartition};

/// What is to be imported.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// Directories of partitions, or whole log directories of Kafka.
    pub sources: Vec<PathBuf>,
    /// Only these topics; all if empty.
    pub topics: Vec<String>,
    /// Configs of the topics that are created.
    pub configs: Vec<(String, String)>,
}

/// A partition that was imported.
#[derive(Clone, Debug)]
pub struct ImportedPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First readable offset.
    pub log_start: Offset,
    /// The next offset to assign.
    pub end: Offset,
    /// Segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What an import did.
#[derive(Clone, Debug, Default)]
pub struct Imported {
    /// What is served from the next start on.
    pub partitions: Vec<ImportedPartition>,
    /// What a person should know of it.
    pub notes: Vec<String>,
}

/// Takes partitions of a stopped Kafka broker into the data directory, which is created if it is not
/// there.
///
/// # Errors
/// See [`ServerError`]; nothing of the sources is changed, and no partition is part of this broker.
pub fn import(config: &Config, request: &ImportRequest) -> Result<Imported, ServerError> {
    let mut imported = Imported::default();
    let sources = find_sources(request, &mut imported.notes).map_err(ServerError::Runtime)?;
    let _lock = DataDirectory::open(config).map_err(ServerError::Directory)?;
    let directories = Directories::of(config);
    on_executor(config, &directories, async |storage| {
        let mut offline = Offline::open(config, &directories, storage).await?;
        let empty = empty_partitions(&offline);
        offline.own_all();
        let result = take_in(&mut offline, &directories, request, &sources, &empty).await;
        match result {
            Ok(Taken { records, partitions }) => {
                imported.partitions = partitions;
                note_retention(&offline, &records, &mut imported);
                offline.close(&records).await?;
                Ok(imported)
            }
            Err(error) => {
                offline.close(&[]).await?;
                Err(error)
            }
        }
    })
}

/// A partition of Kafka.
struct Source {
    path: PathBuf,
    topic: String,
    partition: i32,
    /// From its `partition.metadata`.
    id: Option<TopicId>,
    log_start: Option<Offset>,
}

impl Source {
    fn name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }
}

fn bad(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// Finds the partitions that are asked for.
fn find_sources(request: &ImportRequest, notes: &mut Vec<String>) -> Result<Vec<Source>, String> {
    let mut found: Vec<Source> = Vec::new();
    for path in &request.sources {
        let path = fs::canonicalize(path).map_err(|error| bad(path, &error))?;
        if is_partition(&path).map_err(|error| bad(&path, &error))? {
            found.extend(source(&path, request, notes, true)?);
            continue;
        }
        let mut below: Vec<PathBuf> = fs::read_dir(&path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(|error| bad(&path, &error))?;
        below.sort();
        for path in below {
            if path.is_dir() && is_partition(&path).map_err(|error| bad(&path, &error))? {
                found.extend(source(&path, request, notes, false)?);
            }
        }
    }
    found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    for pair in found.windows(2) {
        if let [a, b] = pair
            && (&a.topic, a.partition) == (&b.topic, b.partition)
        {
            return Err(format!(
                "{} and {} are the same partition; name one of them",
                a.path.display(),
                b.path.display()
            ));
        }
    }
    for topic in &request.topics {
        if !found.iter().any(|source| source.topic == *topic) {
            return Err(format!(
                "no partition of topic {topic} is in what was named; name its directories, too"
            ));
        }
    }
    if found.is_empty() {
        return Err(
            "there is nothing to import: name directories of partitions (<topic>-<n>), or a log \
                    directory of Kafka that has some"
                .to_owned(),
        );
    }
    Ok(found)
}

/// Whether a directory has segment files.
fn is_partition(path: &Path) -> io::Result<bool> {
    Ok(!segments_in(path)?.is_empty())
}

/// The partition in a directory, unless its topic is not asked for. One that cannot be imported is an
/// error if it was `named`, else a note.
fn source(
    path: &Path,
    request: &ImportRequest,
    notes: &mut Vec<String>,
    named: bool,
) -> Result<Option<Source>, String> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut refuse = |why: &str| {
        let line = format!("{}: {why}", path.display());
        if named {
            Err(line)
        } else {
            notes.push(format!("not imported: {line}"));
            Ok(None)
        }
    };
    let parsed = name.rsplit_once('-').and_then(|(topic, n)| Some((topic, n.parse::<i32>().ok()?)));
    let Some((topic, partition)) = parsed.filter(|(_, partition)| *partition >= 0) else {
        return refuse("the name is not <topic>-<n>; rename it");
    };
    if !request.topics.is_empty() && !request.topics.iter().any(|wanted| wanted == topic) {
        return Ok(None);
    }
    if topic.starts_with("__") {
        return refuse("brokers use this topic themselves; this broker keeps its own");
    }
    let id = match fs::read_to_string(path.join(PARTITION_METADATA)) {
        Ok(text) => Some(topic_id_of(&text).ok_or_else(|| {
            format!(
                "{}: it names no topic id; remove the file",
                path.join(PARTITION_METADATA).display()
            )
        })?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(bad(&path.join(PARTITION_METADATA), &error)),
    };
    let log_start = log_start_of(path, topic, partition)?;
    Ok(Some(Source { path: path.to_owned(), topic: topic.to_owned(), partition, id, log_start }))
}

/// What Kafka's `log-start-offset-checkpoint`, beside the partitions, says of one.
fn log_start_of(path: &Path, topic: &str, partition: i32) -> Result<Option<Offset>, String> {
    let Some(parent) = path.parent() else { return Ok(None) };
    let path = parent.join("log-start-offset-checkpoint");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(&path, &error)),
    };
    let prefix = format!("{topic} {partition} ");
    let line = text.lines().skip(2).find_map(|line| line.strip_prefix(&prefix));
    line.map(|offset| {
        offset.trim().parse().map(Offset).map_err(|_| {
            bad(&path, &"a line cannot be read; remove the file if no records were ever deleted")
        })
    })
    .transpose()
}

/// The segments in a directory: base offsets and paths, oldest first.
fn segments_in(path: &Path) -> io::Result<BTreeMap<Offset, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let base = name.strip_suffix(".log").filter(|stem| stem.len() == 20);
        if let Some(base) = base.and_then(|stem| stem.parse().ok()) {
            found.insert(Offset(base), path);
        }
    }
    Ok(found)
}

/// The partitions of topics that have nothing, now and before: records may go there.
fn empty_partitions(offline: &Offline) -> BTreeSet<TopicPartition> {
    let mut empty = BTreeSet::new();
    for topic in offline.metadata.image().topics() {
        for partition in 0..topic.partitions {
            let id = TopicPartition { topic: topic.id, partition };
            let unused = |log: &Recovered| log.is_unused();
            if offline.logs.get(&id).is_none_or(unused) {
                empty.insert(id);
            }
        }
    }
    empty
}

struct Taken {
    records: Vec<MetadataRecord>,
    partitions: Vec<ImportedPartition>,
}

async fn take_in(
    offline: &mut Offline,
    directories: &Directories,
    request: &ImportRequest,
    sources: &[Source],
    empty: &BTreeSet<TopicPartition>,
) -> Result<Taken, RecoveryError> {
    let Targets { ids, records, metadata } = targets(offline, request, sources, empty)?;
    let mut partitions = Vec::new();
    let mut logs = Vec::new();
    for (source, id) in sources.iter().zip(&ids) {
        let known = offline.metadata.image().by_id(id.topic);
        let Some(topic) = metadata.image().by_id(id.topic) else { continue };
        let interval = topic.effective.index_interval_bytes;
        let place = directory(&directories.data, &source.topic, source.partition);
        make_way(source, &place, known.is_some()).map_err(RecoveryError::Damaged)?;
        let (adopted, bytes) = copy(source, &place, id.topic, interval)
            .map_err(|why| RecoveryError::Damaged(format!("{}: {why}", source.path.display())))?;
        tracing::info!(partition = source.name(), end = %adopted.end(), bytes, "copied");
        partitions.push(ImportedPartition {
            topic: source.topic.clone(),
            partition: source.partition,
            log_start: adopted.checkpoint.log_start,
            end: adopted.end(),
            segments: adopted.checkpoint.sealed.len(),
            bytes,
        });
        logs.push((*id, topic, adopted));
    }
    offline.storage.flush_directory(&directories.data).await?;
    let greatest = logs.iter().map(|(_, _, adopted)| adopted.greatest_producer_id).max();
    if let Some(record) = offline.metadata.producer_ids_above(greatest.unwrap_or(-1)) {
        offline.record(&[record]).await?;
    }
    for (id, topic, adopted) in logs {
        offline.adopt(id, topic, adopted.checkpoint);
    }
    Ok(Taken { records, partitions })
}

struct Targets {
    /// Where every source goes.
    ids: Vec<TopicPartition>,
    /// The topics that have to be created for them.
    records: Vec<MetadataRecord>,
    /// As it will be with these.
    metadata: Metadata,
}

fn targets(
    offline: &Offline,
    request: &ImportRequest,
    sources: &[Source],
    empty: &BTreeSet<TopicPartition>,
) -> Result<Targets, RecoveryError> {
    let damaged = RecoveryError::Damaged;
    let mut by_topic: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for source in sources {
        by_topic.entry(&source.topic).or_default().push(source);
    }
    let mut metadata = offline.metadata.clone();
    let (mut ids, mut records) = (BTreeMap::new(), Vec::new());
    for (name, sources) in by_topic {
        let count = sources.iter().map(|source| source.partition + 1).max().unwrap_or(0);
        if let Some(topic) = metadata.image().by_name(name) {
            if count > topic.partitions {
                return Err(damaged(format!(
                    "topic {name} has {} partitions and partition {} is to be imported; add partitions \
                     first, with millstream topic alter {name} --partitions {count}",
                    topic.partitions,
                    count - 1
                )));
            }
            ids.insert(name, topic.id);
            for source in sources {
                let id = TopicPartition { topic: topic.id, partition: source.partition };
                if !empty.contains(&id) {
                    return Err(damaged(format!(
                        "{} has records here, or had some; delete the topic, or leave this partition \
                         out",
                        source.name()
                    )));
                }
            }
            continue;
        }
        if usize::try_from(count) != Ok(sources.len()) {
            return Err(damaged(format!(
                "of topic {name} there are {} partitions up to {}; name all of them, or create the \
                 topic with this broker first",
                sources.len(),
                count - 1
            )));
        }
        let told: BTreeSet<_> =
            sources.iter().filter_map(|source| source.id).map(|id| id.0).collect();
        if told.len() > 1 {
            return Err(damaged(format!(
                "the partitions of topic {name} are of {} topics of that name, by their \
                 {PARTITION_METADATA}",
                told.len()
            )));
        }
        let id = told.first().map_or_else(TopicId::random, |id| TopicId(*id));
        if let Some(other) = metadata.image().by_id(id) {
            return Err(damaged(format!("topic {name} has the id of topic {} here", other.name)));
        }
        let record = metadata
            .create_topic(name, id, count, request.configs.clone())
            .map_err(|error| damaged(format!("topic {name}: {}", reason(error))))?;
        metadata.replay(&record);
        records.push(record);
        ids.insert(name, id);
    }
    let target = |source: &Source| {
        let topic = ids.get(source.topic.as_str()).copied().unwrap_or(TopicId::ZERO);
        TopicPartition { topic, partition: source.partition }
    };
    Ok(Targets { ids: sources.iter().map(target).collect(), records, metadata })
}

fn reason(error: TopicError) -> String {
    match error {
        TopicError::UnknownTopic(why)
        | TopicError::InvalidConfig(why)
        | TopicError::InvalidRequest(why)
        | TopicError::InvalidAssignment(why)
        | TopicError::InvalidName(why)
        | TopicError::Exists(why)
        | TopicError::InvalidPartitions(why)
        | TopicError::Limit(why) => why,
    }
}

/// Sees to it that nothing else is in the partition's place.
fn make_way(source: &Source, place: &Path, known: bool) -> Result<(), String> {
    if !place.exists() || fs::canonicalize(place).is_ok_and(|place| place == source.path) {
        return Ok(());
    }
    if known {
        // Of an empty partition: what an import that was stopped has left.
        return fs::remove_dir_all(place).map_err(|error| bad(place, &error));
    }
    Err(format!("{}: it is in the way; move it to another place", place.display()))
}

/// Checks a partition and copies it to its place.
fn copy(
    source: &Source,
    place: &Path,
    topic: TopicId,
    index_interval_bytes: u64,
) -> Result<(Adopted, u64), String> {
    let text = |error: io::Error| error.to_string();
    let in_place = place == source.path;
    let segments = segments_in(&source.path).map_err(text)?;
    refuse_unfinished(&source.path)?;
    let mut adoption = Adoption::new(index_interval_bytes);
    let mut bytes = 0;
    let mut end = Offset::ZERO;
    let mut made = Vec::new();
    for (base, path) in &segments {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let faulty =
            |why: &dyn std::fmt::Display| format!("{}: {why}", name.clone().unwrap_or_default());
        let len = fs::metadata(path).map_err(|error| faulty(&error))?.len();
        end = *base;
        if len == 0 {
            continue;
        }
        adoption.begin(*base, len).map_err(|why| faulty(&why))?;
        let mut file = File::open(path).map_err(|error| faulty(&error))?;
        let mut piece = vec![0; COLD_READ_BYTES];
        loop {
            let read = file.read(&mut piece).map_err(|error| faulty(&error))?;
            if read == 0 {
                break;
            }
            adoption.push(piece.get(..read).unwrap_or_default());
        }
        made.push((*base, adoption.end_segment().map_err(|why| faulty(&why))?));
        bytes += len;
    }
    let adopted = adoption.finish(end, source.log_start)?;
    fs::create_dir_all(place).map_err(text)?;
    for (base, files) in &made {
        if !in_place && let Some(path) = segments.get(base) {
            copy_file(path, &segment_path(place, *base, "log")).map_err(text)?;
        }
        write_files(place, *base, files).map_err(text)?;
    }
    write_file(&place.join(LEADER_EPOCHS), adopted.epochs.as_bytes()).map_err(text)?;
    let metadata = partition_metadata(topic);
    write_file(&place.join(PARTITION_METADATA), metadata.as_bytes()).map_err(text)?;
    File::open(place).and_then(|directory| directory.sync_all()).map_err(text)?;
    Ok((adopted, bytes))
}

/// Kafka's compaction and splitting leave such files when they are interrupted.
fn refuse_unfinished(path: &Path) -> Result<(), String> {
    for entry in fs::read_dir(path).map_err(|error| error.to_string())? {
        let name = entry.map_err(|error| error.to_string())?.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".swap") || name.ends_with(".cleaned") {
            return Err(format!(
                "{name}: a compaction was interrupted; start that broker once more and stop it cleanly"
            ));
        }
    }
    Ok(())
}

fn write_files(place: &Path, base: Offset, files: &AdoptedFiles) -> io::Result<()> {
    write_file(&segment_path(place, base, "index"), &files.offsets)?;
    write_file(&segment_path(place, base, "timeindex"), &files.times)?;
    match &files.snapshot {
        Some((end, bytes)) => write_file(&segment_path(place, *end, "snapshot"), bytes),
        None => Ok(()),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

/// Says which of the imported records the first look of retention would remove.
fn note_retention(offline: &Offline, records: &[MetadataRecord], imported: &mut Imported) {
    let mut metadata = offline.metadata.clone();
    for record in records {
        metadata.replay(record);
    }
    let topics: BTreeSet<&str> = imported.partitions.iter().map(|p| p.topic.as_str()).collect();
    let mut notes = Vec::new();
    for name in topics {
        let Some(topic) = metadata.image().by_name(name) else { continue };
        let configs = &topic.effective;
        if configs.cleanup_delete && configs.retention_ms >= 0 {
            notes.push(format!(
                "topic {name}: retention.ms is {}, by which records older than that are removed soon after \
                 the start",
                configs.retention_ms
            ));
        }
    }
    imported.notes.extend(notes);
}
