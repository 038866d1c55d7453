//! Whether a data directory is what it should be: `millstream log verify`.
//!
//! Reads everything and changes nothing: metadata log, checkpoints, journals as a start would replay
//! them, and of every partition all segments, also where their end is still in the journal. The indexes
//! of sealed segments are checked against the records; those of others are no source of truth.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::recovery::{
    Directories, PARTITION_METADATA, RecoveryError, chain_of, examine, partition_metadata,
};
use super::{CoreCheckpoint, LEADER_EPOCHS};
use crate::journal::checkpoint;
use crate::limits::COLD_READ_BYTES;
use crate::log::check::{Part, SegmentCheck, SegmentParts, SegmentSummary, read_epochs};
use crate::log::producers::Producers;
use crate::log::segment::{directory, path as segment_path};
use crate::log::{Log, LogSettings};
use crate::metadata::Metadata;
use crate::storage::{File, Open, Storage, align_down, align_up, read_file};
use crate::types::{Offset, TopicPartition};

/// What a verification found.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// What is wrong, each with its place and, where there is one, its remedy.
    pub problems: Vec<String>,
    /// What is odd and harms nothing.
    pub notes: Vec<String>,
    /// Whether the last stop was clean.
    pub clean: bool,
    /// Journal rounds that a start would replay.
    pub rounds: u64,
    /// Partitions that have records.
    pub partitions: u64,
    /// Segments read.
    pub segments: u64,
    /// Batches whose CRC was checked.
    pub batches: u64,
    /// Records in them, as they count them.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Checks a data directory that nobody uses: whoever calls holds its lock.
///
/// # Errors
/// When the disk reports an error that is no finding.
pub async fn verify(storage: &Rc<dyn Storage>, directories: &Directories) -> io::Result<Verified> {
    let mut verified = Verified::default();
    check_checkpoints(&**storage, &directories.journal, &mut verified).await?;
    let examined = match examine(storage, directories).await {
        Ok(examined) => examined,
        Err(RecoveryError::Disk(error)) if error.kind() == io::ErrorKind::InvalidData => {
            verified.problems.push(error.to_string());
            return Ok(verified);
        }
        Err(RecoveryError::Disk(error)) => return Err(error),
        Err(RecoveryError::Damaged(why)) => {
            verified.problems.push(why);
            return Ok(verified);
        }
    };
    examined.metadata_log.close().await?;
    verified.clean = examined.metadata.last_start().clean;
    verified.rounds = examined.rounds;
    let mut known = BTreeMap::new();
    for (id, recovered) in examined.logs {
        let Some(topic) = examined.metadata.image().by_id(id.topic) else { continue };
        let name = format!("{}-{}", topic.name, id.partition);
        if !recovered.compaction().pending.is_empty() {
            verified.notes.push(format!(
                "{name}: not checked: a compaction was interrupted, which a start completes"
            ));
            known.insert(name, id);
            continue;
        }
        let log = recovered.into_log(LogSettings {
            segment_bytes: topic.effective.segment_bytes,
            segment_ms: topic.effective.segment_ms,
            index_interval_bytes: topic.effective.index_interval_bytes,
        });
        let directory = directory(&directories.data, &topic.name, id.partition);
        let mut check = PartitionCheck { storage, id, name: name.clone(), directory, log };
        check.run(&mut verified).await?;
        known.insert(name, id);
    }
    note_strangers(&**storage, &directories.data, &examined.metadata, &known, &mut verified)
        .await?;
    Ok(verified)
}

async fn check_checkpoints(
    storage: &dyn Storage,
    journal: &Path,
    verified: &mut Verified,
) -> io::Result<()> {
    for name in storage.list(journal).await? {
        if chain_of(&name, checkpoint::EXTENSION).is_some()
            && checkpoint::load::<CoreCheckpoint>(storage, &journal.join(&name)).await?.is_none()
        {
            verified.problems.push(format!(
                "{name}: the checkpoint is damaged; a start takes the one before it, if that is whole"
            ));
        }
    }
    Ok(())
}

/// Names directories that belong to no partition.
async fn note_strangers(
    storage: &dyn Storage,
    data: &Path,
    metadata: &Metadata,
    known: &BTreeMap<String, TopicPartition>,
    verified: &mut Verified,
) -> io::Result<()> {
    for name in storage.list(data).await? {
        let Some((topic, number)) = name.rsplit_once('-') else { continue };
        if number == "delete" {
            verified.notes.push(format!("{name}: the rest of a deleted topic; a start removes it"));
        }
        let Ok(number) = number.parse::<i32>() else { continue };
        let metadata_path = data.join(&name).join(PARTITION_METADATA);
        if known.contains_key(&name) || read_file(storage, &metadata_path).await.is_err() {
            continue;
        }
        if metadata.image().by_name(topic).is_none_or(|topic| topic.partitions <= number) {
            verified.notes.push(format!(
                "{name}: belongs to no topic; a start puts it aside. If it is Kafka's, move it away and \
                 take it in with millstream log import"
            ));
        }
    }
    Ok(())
}

struct PartitionCheck<'a> {
    storage: &'a Rc<dyn Storage>,
    id: TopicPartition,
    name: String,
    directory: PathBuf,
    log: Log,
}

impl PartitionCheck<'_> {
    async fn run(&mut self, verified: &mut Verified) -> io::Result<()> {
        let segments = self.log.segment_parts();
        if segments.is_empty() {
            return Ok(());
        }
        verified.partitions += 1;
        let in_files =
            |s: &SegmentParts| s.parts.iter().any(|part| matches!(part, Part::File { .. }));
        if segments.iter().any(in_files) {
            self.check_directory(verified).await?;
        }
        for segment in &segments {
            self.check_segment(segment, verified).await?;
        }
        let follows = segments.iter().zip(segments.iter().skip(1));
        let parted = |before: &SegmentParts, after: &SegmentParts| {
            before.next_offset != after.base && !self.has_gaps(before)
        };
        for (before, after) in follows.filter(|(before, after)| parted(before, after)) {
            verified.problems.push(format!(
                "{}: segment {} begins where offset {} follows: a segment is missing",
                self.name, after.base, before.next_offset
            ));
        }
        self.note_stray_segments(&segments, verified).await
    }

    /// Compaction leaves gaps between the records of what it has been over.
    fn has_gaps(&self, segment: &SegmentParts) -> bool {
        segment.base < self.log.cleaned_to()
    }

    async fn check_directory(&self, verified: &mut Verified) -> io::Result<()> {
        let told = self.read(&self.directory.join(PARTITION_METADATA)).await?;
        if told.as_deref() != Some(partition_metadata(self.id.topic).as_bytes()) {
            verified.problems.push(format!(
                "{}: {PARTITION_METADATA} is missing or names another topic id",
                self.name
            ));
        }
        let path = self.directory.join(LEADER_EPOCHS);
        let Some(bytes) = self.read(&path).await? else { return Ok(()) };
        let epochs = std::str::from_utf8(&bytes).ok().and_then(read_epochs);
        let Some(epochs) = epochs else {
            verified.problems.push(format!(
                "{}: {} is damaged; it is for other tools only and may be removed",
                self.name, LEADER_EPOCHS
            ));
            return Ok(());
        };
        for (epoch, began) in epochs.into_iter().filter(|(_, began)| *began > self.log.log_start())
        {
            if !self.log.epochs().contains(&(epoch, began)) {
                verified.problems.push(format!(
                    "{}: {} says that leader epoch {} began at offset {began}, which it did not",
                    self.name, LEADER_EPOCHS, epoch.0
                ));
            }
        }
        Ok(())
    }

    async fn check_segment(
        &self,
        segment: &SegmentParts,
        verified: &mut Verified,
    ) -> io::Result<()> {
        let place = format!("{}: segment {}", self.name, segment.base);
        let mut check = SegmentCheck::new(segment.base, segment.len, self.has_gaps(segment));
        if segment.sealed {
            self.load_indexes(segment, &place, &mut check, verified).await?;
        }
        for part in &segment.parts {
            match self.push_part(segment, part, &mut check).await {
                Ok(()) => {}
                Err(error) if is_finding(&error) => {
                    verified.problems.push(format!("{place}: {error}"));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let summary = check.finish();
        self.compare(segment, &summary, &place, verified);
        verified.segments += 1;
        verified.batches += summary.batches;
        verified.records += summary.records;
        verified.bytes += summary.bytes;
        if segment.sealed {
            self.check_snapshot(segment.next_offset, &place, verified).await?;
        }
        Ok(())
    }

    fn compare(
        &self,
        segment: &SegmentParts,
        summary: &SegmentSummary,
        place: &str,
        verified: &mut Verified,
    ) {
        for fault in &summary.faults {
            let remedy = if fault.in_index() {
                "; remove both index files of the segment, they are made again when needed"
            } else {
                ""
            };
            verified.problems.push(format!("{place}: {fault}{remedy}"));
        }
        if !summary.faults.iter().all(|fault| fault.in_index()) {
            return;
        }
        let short = self.has_gaps(segment) && summary.next_offset < segment.next_offset;
        if summary.next_offset != segment.next_offset && !short {
            verified.problems.push(format!(
                "{place}: its batches end at offset {}, the checkpoint says {}",
                summary.next_offset, segment.next_offset
            ));
        }
        if summary.greatest != segment.greatest {
            verified.problems.push(format!(
                "{place}: the greatest timestamp is {} at offset {}, the checkpoint says {} at {}",
                summary.greatest.timestamp.0,
                summary.greatest.offset,
                segment.greatest.timestamp.0,
                segment.greatest.offset
            ));
        }
    }

    async fn load_indexes(
        &self,
        segment: &SegmentParts,
        place: &str,
        check: &mut SegmentCheck,
        verified: &mut Verified,
    ) -> io::Result<()> {
        let offsets = self.read(&segment_path(&self.directory, segment.base, "index")).await?;
        let times = self.read(&segment_path(&self.directory, segment.base, "timeindex")).await?;
        match (offsets, times) {
            (Some(offsets), Some(times)) => check.with_indexes(&offsets, &times),
            _ => verified.problems.push(format!(
                "{place}: an index file is missing; both are made again when needed"
            )),
        }
        Ok(())
    }

    async fn push_part(
        &self,
        segment: &SegmentParts,
        part: &Part,
        check: &mut SegmentCheck,
    ) -> io::Result<()> {
        let (path, position, len) = match part {
            Part::File { len } => (segment_path(&self.directory, segment.base, "log"), 0, *len),
            Part::Journal { path, position, len } => (path.to_path_buf(), *position, *len),
        };
        let file = self.storage.open(&path, Open::Read).await.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let size = file.size().await?;
        if segment.sealed && size != len {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the file has {size} bytes, the checkpoint says {len}"),
            ));
        }
        push_range(&file, position, len, check).await?;
        file.close().await
    }

    async fn check_snapshot(
        &self,
        end: Offset,
        place: &str,
        verified: &mut Verified,
    ) -> io::Result<()> {
        let Some(bytes) = self.read(&segment_path(&self.directory, end, "snapshot")).await? else {
            return Ok(());
        };
        if Producers::from_snapshot(&bytes).is_none() {
            verified.problems.push(format!(
                "{place}: the producer snapshot at its end is damaged; it is for other tools only and \
                 may be removed"
            ));
        }
        Ok(())
    }

    async fn note_stray_segments(
        &self,
        segments: &[SegmentParts],
        verified: &mut Verified,
    ) -> io::Result<()> {
        for name in self.storage.list(&self.directory).await? {
            let base = name.strip_suffix(".log").and_then(|stem| stem.parse::<i64>().ok());
            let Some(base) = base.map(Offset) else { continue };
            if base >= self.log.end() || segments.iter().any(|segment| segment.base == base) {
                continue;
            }
            let next = segments.iter().find(|segment| segment.base > base);
            if next.is_some_and(|next| next.base <= self.log.log_start()) {
                continue;
            }
            if base >= self.log.log_start() {
                verified.notes.push(format!("{}: {name} is no part of the log", self.name));
            }
        }
        Ok(())
    }

    async fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match read_file(&**self.storage, path).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether an error says what a data directory lacks, and not that the disk cannot be read.
fn is_finding(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData)
}

async fn push_range(
    file: &Rc<dyn File>,
    position: u64,
    len: u64,
    check: &mut SegmentCheck,
) -> io::Result<()> {
    let end = position + len;
    let mut at = position;
    while at < end {
        let start = align_down(at);
        let skip = usize::try_from(at - start).map_err(io::Error::other)?;
        let wanted = usize::try_from(end - at).map_err(io::Error::other)?.min(COLD_READ_BYTES);
        let buffer = file.read(start, align_up(skip + wanted)).await?;
        let Some(bytes) = buffer.get(skip..skip + wanted) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a file ends before position {end}"),
            ));
        };
        check.push(bytes, |_, _| {});
        at += wanted as u64;
    }
    Ok(())
}
