//! Reading journals back: files found by what they say of themselves, rounds only along their chain.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::files::EXTENSION;
use super::format::{Chain, Entry, RoundError, RoundHeader, payload, read_header, read_round};
use crate::limits::BLOCK;
use crate::storage::{Buffer, File, Open, Storage, align_up};

/// Read at once while a chain is followed.
const WINDOW: usize = 1024 * 1024;

/// A journal file and the first round in it.
pub struct Found {
    /// Its path.
    pub path: PathBuf,
    /// The first round's header, if there is one; its checksum is not checked yet.
    pub first: Option<RoundHeader>,
    file: Rc<dyn File>,
}

/// A chain to be replayed.
#[derive(Clone, Copy, Debug)]
pub struct ChainRange {
    /// The chain.
    pub chain: Chain,
    /// Its checksums' seed.
    pub salt: u32,
    /// The first round that is still needed.
    pub first: u64,
    /// The last round that counts, where an earlier recovery cut the chain.
    pub cut: Option<u64>,
    /// A sequence known from elsewhere to have been flushed.
    pub flushed: u64,
}

/// Why a journal cannot be read.
#[derive(Debug)]
pub enum ScanError {
    /// The disk reports an error.
    Disk(io::Error),
    /// A round that had been flushed is damaged or missing.
    Corrupt {
        /// The file, where it is known.
        path: Option<PathBuf>,
        /// The position in it.
        position: u64,
        /// The round.
        sequence: u64,
        /// What had been flushed at least.
        flushed: u64,
    },
    /// A newer version wrote an entry of this kind.
    UnknownKind(u8),
    /// The visitor found that an entry cannot be true.
    Refused(String),
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> ScanError {
        ScanError::Disk(error)
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::Disk(error) => write!(f, "the disk reports: {error}"),
            ScanError::Corrupt { path, position, sequence, flushed } => write!(
                f,
                "journal round {sequence} is damaged or missing although rounds up to {flushed} had \
                 been flushed (file {}, position {position}): the disk has lost acknowledged records; \
                 restore the data directory from a copy",
                path.as_ref().map_or_else(|| "unknown".into(), |p| p.display().to_string()),
            ),
            ScanError::UnknownKind(kind) => write!(
                f,
                "the journal has an entry of kind {kind}, which this version does not know: start the \
                 version that wrote it"
            ),
            ScanError::Refused(why) => f.write_str(why),
        }
    }
}

/// Finds all journal files and takes their locks, which waits for the writes of a killed process.
///
/// # Errors
/// Whatever the disk reports.
pub async fn survey(storage: &dyn Storage, directory: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for name in storage.list(directory).await? {
        let path = directory.join(&name);
        if path.extension().is_some_and(|e| e == EXTENSION) {
            let file = storage.open(&path, Open::Write).await?;
            let block = file.read(0, BLOCK).await?;
            let first = read_header(block.bytes()).ok();
            found.push(Found { path, first, file });
        }
    }
    Ok(found)
}

/// Flushes the files: what a replay found in them is about to be served and built upon, and after a mere
/// kill its last rounds may not be flushed yet.
///
/// # Errors
/// Whatever the disk reports.
pub async fn flush(found: &[Found]) -> io::Result<()> {
    for file in found.iter().filter(|f| f.first.is_some()) {
        file.file.flush().await?;
    }
    Ok(())
}

/// Closes the files, and with them their locks.
///
/// # Errors
/// Whatever the disk reports.
pub async fn release(found: Vec<Found>) -> io::Result<()> {
    for file in found {
        file.file.close().await?;
    }
    Ok(())
}

/// A place in a journal file.
#[derive(Clone, Copy, Debug)]
pub struct EntryPlace<'a> {
    /// The file.
    pub path: &'a Path,
    /// Position of the entry's bytes in it.
    pub position: u64,
    /// The bytes.
    pub payload: &'a [u8],
}

/// Walks one chain in order and shows every entry to `visit`. Returns the last round that counts
/// (`first - 1` if there is none).
///
/// # Errors
/// [`ScanError::Corrupt`] when a flushed round is bad (storage rule 4); else as named.
pub async fn replay(
    files: &[Found],
    range: &ChainRange,
    mut visit: impl FnMut(&RoundHeader, &Entry, EntryPlace<'_>) -> Result<(), String>,
) -> Result<u64, ScanError> {
    let mut walk = Walk { range, expected: range.first, previous: None, flushed: range.flushed };
    // The last good round, once a bad one has been seen; the walk goes on only to learn what had been
    // flushed.
    let mut cut: Option<(u64, PathBuf, u64)> = None;
    let mut at: Option<(PathBuf, u64)> = None;
    while let Some(file) = walk.next_file(files) {
        let before = walk.expected;
        let mut position = 0;
        let mut window = Window::default();
        loop {
            if range.cut.is_some_and(|last| walk.expected > last) {
                return Ok(walk.expected - 1);
            }
            at = Some((file.path.clone(), position));
            let bytes = window.read(&*file.file, position).await?;
            let (header, entries) = match walk.check(bytes) {
                Step::Round(header, entries) => (header, entries),
                Step::Torn(header) => {
                    cut.get_or_insert((header.sequence, file.path.clone(), position));
                    (header, Vec::new())
                }
                Step::End => break,
                Step::UnknownKind(kind) => return Err(ScanError::UnknownKind(kind)),
            };
            if cut.is_none() {
                for entry in &entries {
                    let bytes = payload(bytes, entry).unwrap_or(&[]);
                    let place = EntryPlace {
                        path: &file.path,
                        position: position + entry.payload_offset as u64,
                        payload: bytes,
                    };
                    visit(&header, entry, place).map_err(ScanError::Refused)?;
                }
            }
            walk.accept(&header);
            position += header.round_len as u64;
        }
        if walk.expected == before {
            // A torn first round of which the header landed: this file would be found again for ever.
            break;
        }
    }
    walk.look_ahead(files).await?;
    let (sequence, path, position) = match cut {
        Some((sequence, path, position)) => (sequence, Some(path), position),
        None => (walk.expected, at.as_ref().map(|a| a.0.clone()), at.as_ref().map_or(0, |a| a.1)),
    };
    let flushed = walk.flushed;
    if sequence <= flushed || range.cut.is_some_and(|last| sequence <= last) {
        let flushed = flushed.max(range.cut.unwrap_or(0));
        return Err(ScanError::Corrupt { path, position, sequence, flushed });
    }
    Ok(sequence - 1)
}

struct Walk<'a> {
    range: &'a ChainRange,
    expected: u64,
    previous: Option<u32>,
    flushed: u64,
}

enum Step {
    Round(RoundHeader, Vec<Entry>),
    /// Header and directory are right, a body is not.
    Torn(RoundHeader),
    End,
    UnknownKind(u8),
}

impl Walk<'_> {
    fn next_file<'f>(&self, files: &'f [Found]) -> Option<&'f Found> {
        files.iter().find(|f| f.first.is_some_and(|h| self.belongs(&h)))
    }

    fn belongs(&self, header: &RoundHeader) -> bool {
        header.chain == self.range.chain
            && header.sequence == self.expected
            && self.previous.is_none_or(|p| p == header.previous_checksum)
    }

    fn check(&self, bytes: &[u8]) -> Step {
        match read_header(bytes) {
            Ok(header) if self.belongs(&header) => match read_round(bytes, self.range.salt) {
                Ok((header, entries)) => Step::Round(header, entries),
                // A header that continues the chain, and something wrong behind it: what follows may say
                // that this round had been flushed.
                Err(RoundError::BadBody | RoundError::BadChecksum) => Step::Torn(header),
                Err(RoundError::UnknownKind(kind)) => Step::UnknownKind(kind),
                Err(_) => Step::End,
            },
            _ => Step::End,
        }
    }

    fn accept(&mut self, header: &RoundHeader) {
        self.expected = header.sequence + 1;
        self.previous = Some(header.checksum);
        self.flushed = self.flushed.max(header.flushed);
    }

    /// Later files of the chain that the walk could not reach may say that more had been flushed.
    async fn look_ahead(&mut self, files: &[Found]) -> io::Result<()> {
        for file in files {
            let Some(first) = file.first else { continue };
            if first.chain == self.range.chain && first.sequence > self.expected {
                let buffer = file.file.read(0, first.round_len).await?;
                match read_round(buffer.bytes(), self.range.salt) {
                    Ok((header, _)) => self.flushed = self.flushed.max(header.flushed),
                    Err(RoundError::BadBody) => self.flushed = self.flushed.max(first.flushed),
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// A moving view of a file.
#[derive(Default)]
struct Window {
    start: u64,
    buffer: Option<Buffer>,
}

impl Window {
    /// The bytes at `position`: a whole round, if a whole one is there.
    async fn read(&mut self, file: &dyn File, position: u64) -> io::Result<&[u8]> {
        let offset = usize::try_from(position - self.start).map_err(io::Error::other)?;
        let have = self.buffer.as_ref().map_or(0, |b| b.len().saturating_sub(offset));
        let wanted = match self.buffer.as_ref().and_then(|b| b.bytes().get(offset..)) {
            Some(bytes) if have >= BLOCK => {
                read_header(bytes).map_or(BLOCK, |header| header.round_len)
            }
            _ => WINDOW,
        };
        if have < wanted {
            self.start = position;
            let mut buffer = file.read(position, align_up(wanted.max(WINDOW))).await?;
            if let Ok(header) = read_header(buffer.bytes())
                && header.round_len > buffer.len()
                && buffer.len() >= WINDOW
            {
                buffer = file.read(position, header.round_len).await?;
            }
            self.buffer = Some(buffer);
        }
        let offset = usize::try_from(position - self.start).map_err(io::Error::other)?;
        Ok(self.buffer.as_ref().and_then(|b| b.bytes().get(offset..)).unwrap_or(&[]))
    }
}
