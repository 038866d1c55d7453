//! The disk side of the ingest limit: frames laid end to end into 1 MiB aligned pieces, each written
//! with one direct write into a file that has been written before (recycled extents take writes twice
//! as fast as new ones), several writes in flight on an io_uring of the same thread.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use io_uring::{IoUring, opcode, types};
use millstream::limits::BLOCK;

use crate::error::{Doing, Error, Result};

/// The size of one direct write; smaller ones cost more CPU per byte, larger ones bring nothing.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// Marks the completion of a flush, among those of pieces.
const FLUSH: u64 = u64::MAX;

const FILE_NAME: &str = "millstream-bench-limit.dat";

/// Memory in pieces that direct I/O accepts, in huge pages where the system has them (a write then pins
/// one page instead of 256), touched once so that no page is fresh later.
pub(super) struct Pieces {
    memory: Vec<u8>,
    start: usize,
}

impl Pieces {
    pub(super) fn new(count: usize) -> Pieces {
        let bytes = (count + 2) * PIECE_BYTES;
        let mut memory: Vec<u8> = Vec::with_capacity(bytes);
        // Huge pages begin at multiples of 2 MiB.
        let start = memory.as_ptr().align_offset(2 * PIECE_BYTES);
        let from = memory.as_mut_ptr().wrapping_add(start).cast();
        // SAFETY: the range lies in the allocation, and the advice changes no contents.
        let _small_pages_serve_too = unsafe {
            rustix::mm::madvise(from, count * PIECE_BYTES, rustix::mm::Advice::LinuxHugepage)
        };
        memory.resize(bytes, 1);
        Pieces { memory, start }
    }

    pub(super) fn get(&self, piece: usize) -> &[u8] {
        self.range(piece, 1)
    }

    /// So many pieces, which lie behind each other.
    pub(super) fn range(&self, piece: usize, count: usize) -> &[u8] {
        let at = self.start + piece * PIECE_BYTES;
        &self.memory[at..at + count * PIECE_BYTES]
    }

    pub(super) fn range_mut(&mut self, piece: usize, count: usize) -> &mut [u8] {
        let at = self.start + piece * PIECE_BYTES;
        &mut self.memory[at..at + count * PIECE_BYTES]
    }

    fn get_mut(&mut self, piece: usize) -> &mut [u8] {
        let at = self.start + piece * PIECE_BYTES;
        &mut self.memory[at..at + PIECE_BYTES]
    }
}

/// Makes sure a file of `bytes` (rounded up to whole pieces) stands in `dir` with all its blocks
/// written, and returns its path.
///
/// # Errors
/// If the filesystem has no room, or no direct I/O.
pub fn prepare_file(dir: &Path, bytes: u64) -> Result<PathBuf> {
    let bytes = bytes.div_ceil(PIECE_BYTES as u64).max(4) * PIECE_BYTES as u64;
    let path = dir.join(FILE_NAME);
    if fs::metadata(&path).is_ok_and(|m| m.len() == bytes) {
        return Ok(path);
    }
    // The final name appears only on a file that is complete.
    let unfinished = dir.join(format!("{FILE_NAME}.new"));
    let file = open_direct(&unfinished, true)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
        .doing(format!("allocating {bytes} bytes in {}", unfinished.display()))?;
    let pieces = Pieces::new(1);
    for at in (0..bytes).step_by(PIECE_BYTES) {
        file.write_all_at(pieces.get(0), at).doing(format!("writing {}", unfinished.display()))?;
    }
    file.sync_data().doing("flushing the prepared file")?;
    fs::rename(&unfinished, &path).doing("naming the prepared file")?;
    Ok(path)
}

pub(super) fn open_direct(path: &Path, create: bool) -> Result<File> {
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(create)
        .custom_flags(direct)
        .open(path)
        .doing(format!("opening {} for direct I/O", path.display()))
}

/// Where a part of a frame goes: `piece` and the range in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    piece: usize,
    at: usize,
    len: usize,
}

struct Piece {
    /// Bytes given away to frames; the rest of the piece is still free.
    reserved: usize,
    /// Of these, the bytes that have arrived. A piece is written when it is closed and both agree.
    filled: usize,
    closed: bool,
    frames: Vec<usize>,
}

/// Lays frames into pieces and writes the pieces.
pub(crate) struct DirectWriter {
    ring: IoUring,
    file: File,
    file_bytes: u64,
    next_offset: u64,
    depth: usize,
    memory: Pieces,
    pieces: Vec<Piece>,
    /// Last in, first out, so that a piece just written is used again while the cache knows it.
    free: Vec<usize>,
    current: Option<usize>,
    ready: VecDeque<usize>,
    in_flight: usize,
    writes: u64,
    /// Frames count as written when a flush that began after their writes has ended.
    flushes: bool,
    /// Written, and waiting for a flush to begin.
    unflushed: Vec<usize>,
    /// Waiting for the flush that is under way to end.
    flushing: Vec<usize>,
    is_flushing: bool,
    /// For each open frame, the pieces that still have to be written for it.
    frames: Vec<usize>,
    free_frames: Vec<usize>,
}

impl DirectWriter {
    /// A writer with `depth` writes in flight and room for `open_frames` frames of `frame_bytes` that
    /// are only partly there.
    pub(crate) fn new(
        path: &Path,
        depth: usize,
        open_frames: usize,
        frame_bytes: usize,
    ) -> Result<DirectWriter> {
        let file = open_direct(path, false)?;
        let file_bytes = file.metadata().doing("reading the file's size")?.len();
        if file_bytes < PIECE_BYTES as u64 {
            return Err(Error::Usage(format!("{} is too small", path.display())));
        }
        let ring = IoUring::new(64).doing("setting up io_uring")?;
        // Every partly filled frame can hold back the pieces it lies in; beyond these there must
        // always be one that is being written, or the receiver would wait for ever.
        let per_frame = frame_bytes.div_ceil(PIECE_BYTES) + 1;
        let count = (open_frames + 1) * per_frame + depth + 2;
        let piece = |_| Piece { reserved: 0, filled: 0, closed: false, frames: Vec::new() };
        Ok(DirectWriter {
            ring,
            file,
            file_bytes,
            next_offset: 0,
            depth,
            memory: Pieces::new(count),
            pieces: (0..count).map(piece).collect(),
            free: (0..count).rev().collect(),
            current: None,
            ready: VecDeque::new(),
            in_flight: 0,
            writes: 0,
            flushes: false,
            unflushed: Vec::new(),
            flushing: Vec::new(),
            is_flushing: false,
            frames: Vec::new(),
            free_frames: Vec::new(),
        })
    }

    /// From now on one flush at a time covers everything written before it began.
    pub(crate) fn flushing(mut self) -> DirectWriter {
        self.flushes = true;
        self
    }

    /// The descriptor that becomes readable when a write has completed.
    pub(crate) fn completion_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// A view of that descriptor for registration.
    pub(crate) fn borrow_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor and lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.completion_fd()) }
    }

    /// Writes, and the flush, that are under way or still to come.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight + usize::from(self.is_flushing || !self.unflushed.is_empty())
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    /// Whether a frame of `len` bytes finds room now.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        let open = self.current.map_or(0, |p| PIECE_BYTES - self.pieces[p].reserved);
        open + self.free.len() * PIECE_BYTES >= len
    }

    /// Gives a frame of `len` bytes its place, in order. The caller has asked `has_room`.
    pub(crate) fn reserve(
        &mut self,
        len: usize,
        extents: &mut VecDeque<Extent>,
    ) -> io::Result<usize> {
        let frame = self.free_frames.pop().unwrap_or_else(|| {
            self.frames.push(0);
            self.frames.len() - 1
        });
        self.frames[frame] = 0;
        let mut left = len;
        while left > 0 {
            let index = match self.current {
                Some(index) => index,
                None => {
                    let index = self.free.pop().ok_or_else(|| io::Error::other("no free piece"))?;
                    self.current = Some(index);
                    index
                }
            };
            let piece = &mut self.pieces[index];
            let here = left.min(PIECE_BYTES - piece.reserved);
            extents.push_back(Extent { piece: index, at: piece.reserved, len: here });
            piece.reserved += here;
            piece.frames.push(frame);
            self.frames[frame] += 1;
            left -= here;
            if piece.reserved == PIECE_BYTES {
                piece.closed = true;
                self.current = None;
            }
        }
        Ok(frame)
    }

    /// Copies as much of `bytes` as the first extent takes and returns how much that was.
    pub(crate) fn fill(&mut self, extents: &mut VecDeque<Extent>, bytes: &[u8]) -> usize {
        let Some(extent) = extents.front_mut() else {
            return 0;
        };
        let here = extent.len.min(bytes.len());
        let piece = &mut self.pieces[extent.piece];
        self.memory.get_mut(extent.piece)[extent.at..extent.at + here]
            .copy_from_slice(&bytes[..here]);
        piece.filled += here;
        if piece.closed && piece.filled == piece.reserved {
            self.ready.push_back(extent.piece);
        }
        extent.at += here;
        extent.len -= here;
        if extent.len == 0 {
            extents.pop_front();
        }
        here
    }

    /// Closes the piece being filled if every byte given away in it is there: called when nothing
    /// more arrives and nothing is being written, so that the last frames are not left waiting.
    pub(crate) fn close_partial(&mut self) {
        if let Some(index) = self.current {
            let piece = &mut self.pieces[index];
            if piece.reserved > 0 && piece.filled == piece.reserved {
                piece.closed = true;
                self.ready.push_back(index);
                self.current = None;
            }
        }
    }

    /// Whether `close_partial` would find something.
    pub(crate) fn has_partial(&self) -> bool {
        self.current.is_some_and(|p| {
            self.pieces[p].reserved > 0 && self.pieces[p].filled == self.pieces[p].reserved
        })
    }

    /// Starts the writes that are ready, up to the depth; waits for one completion if `wait`.
    pub(crate) fn submit(&mut self, wait: bool) -> io::Result<()> {
        let mut pushed = 0;
        while self.in_flight < self.depth
            && let Some(index) = self.ready.pop_front()
        {
            let piece = &self.pieces[index];
            let len = piece.reserved.next_multiple_of(BLOCK);
            if self.next_offset + PIECE_BYTES as u64 > self.file_bytes {
                self.next_offset = 0;
            }
            let bytes = &self.memory.get(index)[..len];
            let entry =
                opcode::Write::new(types::Fd(self.file.as_raw_fd()), bytes.as_ptr(), io_len(len)?)
                    .offset(self.next_offset)
                    .build()
                    .user_data(index as u64);
            // SAFETY: the piece's memory is neither moved nor written until its completion has been
            // reaped: it is in no list that hands pieces out, and `Drop` waits for the writes.
            unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
            self.next_offset += len as u64;
            self.in_flight += 1;
            self.writes += 1;
            pushed += 1;
        }
        if !self.is_flushing && !self.unflushed.is_empty() {
            let fd = types::Fd(self.file.as_raw_fd());
            let flush = opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build();
            // SAFETY: a flush refers to no memory of ours.
            unsafe { self.ring.submission().push(&flush.user_data(FLUSH)) }
                .map_err(io::Error::other)?;
            self.is_flushing = true;
            std::mem::swap(&mut self.flushing, &mut self.unflushed);
            pushed += 1;
        }
        if wait && (self.in_flight > 0 || self.is_flushing) {
            self.ring.submit_and_wait(1)?;
        } else if pushed > 0 {
            self.ring.submit()?;
        }
        Ok(())
    }

    /// Takes the completions; frames that are now whole on the device go into `written`.
    pub(crate) fn reap(&mut self, written: &mut Vec<usize>) -> io::Result<()> {
        loop {
            let Some(entry) = self.ring.completion().next() else {
                return Ok(());
            };
            if entry.user_data() == FLUSH {
                if entry.result() < 0 {
                    return Err(io::Error::from_raw_os_error(-entry.result()));
                }
                self.is_flushing = false;
                self.free_frames.extend(&self.flushing);
                written.append(&mut self.flushing);
                continue;
            }
            self.in_flight -= 1;
            let index = usize::try_from(entry.user_data()).map_err(io::Error::other)?;
            let piece = &mut self.pieces[index];
            let want = piece.reserved.next_multiple_of(BLOCK);
            match usize::try_from(entry.result()) {
                Ok(done) if done == want => {}
                Ok(done) => return Err(io::Error::other(format!("short write: {done} of {want}"))),
                Err(_) => return Err(io::Error::from_raw_os_error(-entry.result())),
            }
            for frame in piece.frames.drain(..) {
                self.frames[frame] -= 1;
                if self.frames[frame] == 0 && self.flushes {
                    self.unflushed.push(frame);
                } else if self.frames[frame] == 0 {
                    written.push(frame);
                    self.free_frames.push(frame);
                }
            }
            piece.reserved = 0;
            piece.filled = 0;
            piece.closed = false;
            self.free.push(index);
        }
    }
}

impl Drop for DirectWriter {
    /// The kernel reads the pieces' memory until their writes have completed.
    fn drop(&mut self) {
        let mut left = self.in_flight + usize::from(self.is_flushing);
        while left > 0 {
            if self.ring.submit_and_wait(1).is_err() {
                return;
            }
            left = left.saturating_sub(self.ring.completion().count());
        }
    }
}

fn io_len(len: usize) -> io::Result<u32> {
    u32::try_from(len).map_err(io::Error::other)
}
