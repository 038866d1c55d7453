//! The journal's files: prepared ahead, filled one after the other, used again once drained.
//!
//! A file that is filled gets a new [`FileNumber`] each time, so that "older" is a comparison. Its name
//! on disk says nothing: recovery reads what the rounds say of themselves.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::format::Chain;
use crate::limits::BLOCK;
use crate::storage::{File, Open, Storage};

/// Counts the fillings of journal files of one chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNumber(pub u64);

/// Extension of journal files.
pub const EXTENSION: &str = "journal";

/// Bytes written at once when a new file is pre-written.
const PREPARE_CHUNK: usize = 1024 * 1024;

/// A file that is not in use.
pub struct Prepared {
    file: Rc<dyn File>,
    size: u64,
}

struct Live {
    number: FileNumber,
    file: Rc<dyn File>,
    size: u64,
    end: u64,
    first_sequence: Option<u64>,
    last_sequence: u64,
}

/// All files of one chain.
pub(super) struct Files {
    /// Oldest first; the last is the one being filled.
    live: VecDeque<Live>,
    free: Vec<Prepared>,
    preparing: bool,
    next_name: u64,
}

/// Where the `index`-th file of a chain is.
#[must_use]
pub fn path(directory: &Path, chain: Chain, index: u64) -> PathBuf {
    directory.join(format!("{:010}-{:03}-{index:06}.{EXTENSION}", chain.generation, chain.core))
}

/// Makes a new file: really written and flushed, so that later writes only overwrite (storage rule 21).
pub(super) async fn prepare(
    storage: Rc<dyn Storage>,
    path: PathBuf,
    size: usize,
) -> io::Result<Prepared> {
    let file = storage.open(&path, Open::Create).await?;
    if let Err(error) = file.reserve(size as u64).await {
        file.close().await?;
        return Err(error);
    }
    let chunk = size.min(PREPARE_CHUNK);
    let zeros = crate::storage::block_buffer(&*storage, &vec![0; chunk]);
    let mut at = 0;
    while at < size {
        let buffer = if size - at >= zeros.len() {
            zeros.clone()
        } else {
            crate::storage::block_buffer(&*storage, &vec![0; size - at])
        };
        let len = buffer.len();
        file.write(buffer, at as u64).await?;
        at += len;
    }
    file.flush().await?;
    if let Some(directory) = path.parent() {
        storage.flush_directory(directory).await?;
    }
    Ok(Prepared { file, size: size as u64 })
}

impl Files {
    pub(super) fn new(first: Prepared) -> Files {
        let live = Live {
            number: FileNumber(1),
            file: first.file,
            size: first.size,
            end: 0,
            first_sequence: None,
            last_sequence: 0,
        };
        Files { live: VecDeque::from([live]), free: Vec::new(), preparing: false, next_name: 1 }
    }

    pub(super) fn current_number(&self) -> FileNumber {
        self.live.back().map_or(FileNumber(0), |f| f.number)
    }

    /// The oldest file whose rounds are still needed.
    pub(super) fn first_live(&self) -> FileNumber {
        self.live.front().map_or(FileNumber(0), |f| f.number)
    }

    /// The first round in file `number` or a later one. A file may hold none while later ones do: its
    /// first round was too large for it.
    pub(super) fn first_sequence(&self, number: FileNumber) -> Option<u64> {
        self.live.iter().filter(|f| f.number >= number).find_map(|f| f.first_sequence)
    }

    fn find(&self, number: FileNumber) -> Option<&Live> {
        self.live.iter().find(|f| f.number == number)
    }

    pub(super) fn handle(&self, number: FileNumber) -> Option<Rc<dyn File>> {
        self.find(number).map(|f| Rc::clone(&f.file))
    }

    /// Sees to it that the current file takes a round of `len` bytes; false if no file does yet.
    pub(super) fn make_current(&mut self, len: usize) -> bool {
        let len = len as u64;
        let Some(current) = self.live.back() else {
            return false;
        };
        if current.end + len <= current.size {
            return true;
        }
        self.next(len)
    }

    /// Goes on to another file unless the current one is empty; false if there is none yet.
    pub(super) fn roll(&mut self) -> bool {
        self.live.back().is_some_and(|current| current.end == 0) || self.next(0)
    }

    fn next(&mut self, len: u64) -> bool {
        let number = FileNumber(self.current_number().0 + 1);
        let Some(at) = self.free.iter().position(|f| f.size >= len) else {
            return false;
        };
        let Prepared { file, size } = self.free.swap_remove(at);
        self.live.push_back(Live {
            number,
            file,
            size,
            end: 0,
            first_sequence: None,
            last_sequence: 0,
        });
        true
    }

    /// The place of the next round, which [`Files::make_current`] has made sure of.
    pub(super) fn place(&mut self, len: usize, sequence: u64) -> (FileNumber, u64) {
        debug_assert_eq!(len % BLOCK, 0);
        let Some(current) = self.live.back_mut() else {
            return (FileNumber(0), 0);
        };
        let position = current.end;
        current.end += len as u64;
        current.first_sequence.get_or_insert(sequence);
        current.last_sequence = sequence;
        debug_assert!(current.end <= current.size);
        (current.number, position)
    }

    /// The files that hold rounds after `flushed` and up to `written`.
    pub(super) fn unflushed(&self, flushed: u64, written: u64) -> Vec<Rc<dyn File>> {
        self.live
            .iter()
            .filter(|f| f.last_sequence > flushed && f.first_sequence.is_some_and(|s| s <= written))
            .map(|f| Rc::clone(&f.file))
            .collect()
    }

    pub(super) fn recycle_below(&mut self, number: FileNumber) {
        while self.live.len() > 1 && self.live.front().is_some_and(|f| f.number < number) {
            if let Some(Live { file, size, .. }) = self.live.pop_front() {
                self.free.push(Prepared { file, size });
            }
        }
    }

    pub(super) fn wants_spare(&self) -> bool {
        self.free.is_empty() && !self.preparing
    }

    pub(super) fn begin_prepare(&mut self) -> Option<u64> {
        if self.preparing {
            return None;
        }
        self.preparing = true;
        let name = self.next_name;
        self.next_name += 1;
        Some(name)
    }

    pub(super) fn abandon_prepare(&mut self) {
        self.preparing = false;
    }

    pub(super) fn end_prepare(&mut self, file: Prepared) {
        self.preparing = false;
        self.free.push(file);
    }
}
