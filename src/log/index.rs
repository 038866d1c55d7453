//! The offset index: every so many bytes, a batch's last offset and its position (Kafka's `.index`).

use zerocopy::byteorder::big_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::limits::BLOCK;
use crate::types::Offset;

/// An entry as it is in the file: 8 bytes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IndexEntry {
    relative_offset: U32,
    position: U32,
}

/// Bytes of an entry.
pub const ENTRY_LEN: usize = size_of::<IndexEntry>();

const ENTRIES_PER_BLOCK: usize = BLOCK / ENTRY_LEN;

/// A segment's offset index in memory.
///
/// Complete indexes hold every entry; after a restart an index is loaded when it is first needed.
/// Whole blocks of it go to the `.index` file with the drains, unflushed: the file is a help, never a
/// source of truth, until the segment is sealed.
#[derive(Debug)]
pub struct OffsetIndex {
    entries: Vec<IndexEntry>,
    complete: bool,
    blocks_on_disk: usize,
    bytes_since: u64,
    /// Batches below this position have been noted.
    noted_to: u64,
}

impl OffsetIndex {
    /// The index of a new, empty segment.
    #[must_use]
    pub fn empty() -> OffsetIndex {
        OffsetIndex {
            entries: Vec::new(),
            complete: true,
            blocks_on_disk: 0,
            bytes_since: 0,
            noted_to: 0,
        }
    }

    /// The index of a segment found on disk: nothing is known of it yet.
    #[must_use]
    pub fn unloaded() -> OffsetIndex {
        OffsetIndex {
            entries: Vec::new(),
            complete: false,
            blocks_on_disk: 0,
            bytes_since: 0,
            noted_to: 0,
        }
    }

    /// Whether every entry is in memory.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Notes a batch of `len` bytes at `position`, whose last record has `relative_offset` from the
    /// segment's base; `interval` is `log.index.interval.bytes`.
    pub fn note(&mut self, relative_offset: i64, position: u64, len: u64, interval: u64) {
        if position < self.noted_to {
            return;
        }
        self.noted_to = position + len;
        if self.bytes_since > interval {
            let (Ok(offset), Ok(place)) = (u32::try_from(relative_offset), u32::try_from(position))
            else {
                return;
            };
            self.entries
                .push(IndexEntry { relative_offset: offset.into(), position: place.into() });
            self.bytes_since = 0;
        }
        self.bytes_since += len;
    }

    /// A position at or before the batch that holds `relative_offset`, and below `limit`: the index knows
    /// batches that are not in the segment's file yet.
    #[must_use]
    pub fn position(&self, relative_offset: i64, limit: u64) -> u64 {
        let after = self.entries.partition_point(|e| {
            i64::from(e.relative_offset.get()) <= relative_offset
                && u64::from(e.position.get()) < limit
        });
        after
            .checked_sub(1)
            .and_then(|i| self.entries.get(i))
            .map_or(0, |e| e.position.get().into())
    }

    /// The last entry: relative offset and position.
    #[must_use]
    pub fn last(&self) -> Option<(i64, u64)> {
        self.entries.last().map(|e| (e.relative_offset.get().into(), e.position.get().into()))
    }

    /// Drops the last block's worth of entries: they did not fit the log.
    pub fn distrust_last_block(&mut self) {
        let keep = self.entries.len().saturating_sub(1) / ENTRIES_PER_BLOCK * ENTRIES_PER_BLOCK;
        self.entries.truncate(keep);
        self.blocks_on_disk = self.blocks_on_disk.min(keep / ENTRIES_PER_BLOCK);
        self.noted_to = self.last().map_or(0, |(_, position)| position);
    }

    /// Where noting goes on: the position of the last entry's batch, or the segment's start.
    #[must_use]
    pub fn noted_to(&self) -> u64 {
        self.noted_to
    }

    /// Takes the entries found in a `.index` file that make sense: growing, and below `limit`.
    #[must_use]
    pub fn from_file(bytes: &[u8], limit: u64) -> OffsetIndex {
        let mut entries: Vec<IndexEntry> = Vec::new();
        for chunk in bytes.chunks_exact(ENTRY_LEN) {
            let Ok(entry) = IndexEntry::read_from_bytes(chunk) else { break };
            let grows = entries.last().is_none_or(|last| {
                entry.position.get() > last.position.get()
                    && entry.relative_offset.get() > last.relative_offset.get()
            });
            if entry.position.get() == 0 || !grows || u64::from(entry.position.get()) >= limit {
                break;
            }
            entries.push(entry);
        }
        let blocks_on_disk = entries.len() / ENTRIES_PER_BLOCK;
        let noted_to = entries.last().map_or(0, |e| e.position.get().into());
        OffsetIndex { entries, complete: false, blocks_on_disk, bytes_since: 0, noted_to }
    }

    /// Says that the entries are all there, after the log above the last one was walked.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// The next whole block that is not in the file yet, with its number.
    #[must_use]
    pub fn next_block(&self) -> Option<(usize, &[u8])> {
        let start = self.blocks_on_disk * ENTRIES_PER_BLOCK;
        let block = self.entries.get(start..start + ENTRIES_PER_BLOCK)?;
        Some((self.blocks_on_disk, block.as_bytes()))
    }

    /// Notes that the block [`OffsetIndex::next_block`] gave is in the file.
    pub fn block_written(&mut self) {
        self.blocks_on_disk += 1;
    }

    /// All entries as the file's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.entries.as_bytes()
    }

    /// Frees the memory of a sealed segment's index; its file has everything.
    pub fn unload(&mut self) {
        *self = OffsetIndex::unloaded();
    }
}

/// `offset` as counted from a segment's base.
#[must_use]
pub fn relative(base: Offset, offset: Offset) -> i64 {
    offset.0.saturating_sub(base.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_up_the_batch_at_or_before() {
        let mut index = OffsetIndex::empty();
        for i in 0..1000_i64 {
            index.note(i * 10 + 9, i as u64 * 3000, 3000, 4096);
        }
        // Every second batch has an entry, the first never.
        assert_eq!(index.position(5, u64::MAX), 0);
        assert_eq!(index.position(29, u64::MAX), 6000);
        assert_eq!(index.position(48, u64::MAX), 6000);
        let loaded = OffsetIndex::from_file(index.bytes(), u64::MAX);
        assert_eq!(loaded.last(), index.last());
        let cut = OffsetIndex::from_file(index.bytes(), 7000);
        assert_eq!(cut.last(), Some((29, 6000)));
    }

    #[test]
    fn nonsense_in_a_file_ends_the_index() {
        let mut index = OffsetIndex::empty();
        for i in 0..10 {
            index.note(i, i as u64 * 5000, 5000, 4096);
        }
        let mut bytes = index.bytes().to_vec();
        bytes.extend_from_slice(&[0; 64]);
        bytes.extend_from_slice(&[0xff; 64]);
        assert_eq!(OffsetIndex::from_file(&bytes, u64::MAX).last(), index.last());
    }
}
