//! Frames in: cutting the byte stream, and the memory of large frames.
//!
//! A frame that one receive brought whole is copied into memory of its own size: a request that is
//! answered late then keeps itself alive and not its neighbours, and the shard needs only one receive
//! buffer however many connections it has. A frame of which more is to come gets memory from a pool and
//! the rest is received straight into it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use crossbeam_queue::ArrayQueue;

use super::registry::NetCounters;

/// Bytes before a frame: its length.
const HEADER_BYTES: usize = 4;

/// Memory of one receive: larger ones were slower (they leave the core's cache).
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;

/// Largest single receive into a frame.
const DIRECT_BYTES_MAX: usize = 256 * 1024;

/// With less missing, the shard's receive buffer is used, which may bring the next frames as well.
const DIRECT_BYTES_MIN: usize = 16 * 1024;

/// A smaller frame is not worth a place in the pool.
const POOLED_BYTES_MIN: usize = 16 * 1024;

/// A frame that has shown this much of itself is believed up to [`STEP_BYTES`].
const TRUSTED_BYTES: usize = SCRATCH_BYTES / 2;

/// Batches are often exactly 1 MiB and come with a header: the classes have room for it.
const STEP_BYTES: usize = with_slack(1024 * 1024);

const CLASSES: [usize; 7] = [
    with_slack(64 * 1024),
    with_slack(256 * 1024),
    STEP_BYTES,
    with_slack(2 * 1024 * 1024),
    with_slack(4 * 1024 * 1024),
    with_slack(8 * 1024 * 1024),
    with_slack(16 * 1024 * 1024),
];

/// Pieces of one class that are kept at most.
const CLASS_LEN_MAX: usize = 1024;

const fn with_slack(bytes: usize) -> usize {
    bytes + bytes / 16
}

/// A shard's memory for large frames. Frames are dropped on any core, so it is shared and lock-free.
pub(super) struct FramePool {
    classes: Vec<(usize, ArrayQueue<Vec<u8>>)>,
    idle_bytes: AtomicUsize,
    idle_bytes_max: usize,
}

impl FramePool {
    pub(super) fn new(idle_bytes_max: usize) -> Arc<FramePool> {
        let queue = |size: usize| ArrayQueue::new((idle_bytes_max / size).clamp(1, CLASS_LEN_MAX));
        Arc::new(FramePool {
            classes: CLASSES.into_iter().map(|size| (size, queue(size))).collect(),
            idle_bytes: AtomicUsize::new(0),
            idle_bytes_max,
        })
    }

    fn take(self: &Arc<FramePool>, len: usize, counters: &NetCounters) -> Memory {
        let class = self.classes.iter().find(|(size, _)| len >= POOLED_BYTES_MIN && len <= *size);
        let bytes = match class.map(|(size, queue)| (size, queue.pop())) {
            Some((_, Some(bytes))) => {
                self.idle_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
                counters.add(|c| &c.frames_pooled, 1);
                bytes
            }
            Some((size, None)) => {
                counters.add(|c| &c.frames_unpooled, 1);
                vec![0; *size]
            }
            None => {
                counters.add(|c| &c.frames_unpooled, 1);
                vec![0; len]
            }
        };
        Memory { bytes, pool: Arc::clone(self) }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let len = bytes.len();
        let Some((_, queue)) = self.classes.iter().find(|(size, _)| *size == len) else { return };
        let idle = self.idle_bytes.fetch_add(len, Ordering::Relaxed);
        if idle.saturating_add(len) > self.idle_bytes_max || queue.push(bytes).is_err() {
            self.idle_bytes.fetch_sub(len, Ordering::Relaxed);
        }
    }
}

/// Memory that returns to its pool. Its bytes are always initialised, with old frames if need be.
struct Memory {
    bytes: Vec<u8>,
    pool: Arc<FramePool>,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

/// A frame of which more is to come.
struct Filling {
    memory: Memory,
    filled: usize,
    len: usize,
}

impl AsRef<[u8]> for Filling {
    fn as_ref(&self) -> &[u8] {
        self.memory.bytes.get(..self.filled).unwrap_or(&[])
    }
}

impl Filling {
    fn missing(&self) -> usize {
        self.len.saturating_sub(self.filled)
    }

    /// Room for what is missing, or for a part of it.
    fn room(&mut self, arriving: usize, counters: &NetCounters) -> &mut [u8] {
        if self.filled == self.memory.bytes.len() && self.missing() > 0 {
            let size = step(self.filled.saturating_add(arriving), self.len);
            let mut memory = self.memory.pool.take(size, counters);
            let old = self.as_ref();
            if let Some(start) = memory.bytes.get_mut(..old.len()) {
                start.copy_from_slice(old);
            }
            self.memory = memory;
        }
        let end = self.len.min(self.memory.bytes.len());
        self.memory.bytes.get_mut(self.filled..end).unwrap_or(&mut [])
    }
}

/// The memory a frame of length `len` may take when `arrived` of its bytes are there.
fn step(arrived: usize, len: usize) -> usize {
    let trusted = if arrived < TRUSTED_BYTES {
        SCRATCH_BYTES
    } else {
        STEP_BYTES.max(arrived.saturating_mul(2))
    };
    len.min(trusted)
}

/// A length that no request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameError {
    Negative(i32),
    TooLong { len: usize, max: usize },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Negative(len) => write!(f, "a request of length {len}"),
            FrameError::TooLong { len, max } => write!(
                f,
                "a request of {len} bytes, more than the {max} of socket.request.max.bytes"
            ),
        }
    }
}

/// Cuts one connection's bytes into frames.
pub(super) struct Receiver {
    pool: Arc<FramePool>,
    frame_bytes_max: usize,
    header: [u8; HEADER_BYTES],
    header_len: usize,
    filling: Option<Filling>,
}

impl Receiver {
    pub(super) fn new(pool: Arc<FramePool>, frame_bytes_max: usize) -> Receiver {
        Receiver { pool, frame_bytes_max, header: [0; 4], header_len: 0, filling: None }
    }

    /// The next frame that `input` completes; `input` is left after it, or empty if there is none.
    pub(super) fn next(
        &mut self,
        input: &mut &[u8],
        counters: &NetCounters,
    ) -> Result<Option<Bytes>, FrameError> {
        if self.filling.is_none() {
            let Some(len) = self.length(input)? else { return Ok(None) };
            if let Some((frame, rest)) = input.split_at_checked(len) {
                *input = rest;
                return Ok(Some(Bytes::copy_from_slice(frame)));
            }
            let memory = self.pool.take(step(input.len(), len), counters);
            self.filling = Some(Filling { memory, filled: 0, len });
        }
        let Some(filling) = &mut self.filling else { return Ok(None) };
        while !input.is_empty() && filling.missing() > 0 {
            let room = filling.room(input.len(), counters);
            let count = room.len().min(input.len());
            let Some((head, rest)) = input.split_at_checked(count) else { break };
            if let Some(room) = room.get_mut(..count) {
                room.copy_from_slice(head);
            }
            filling.filled += count;
            *input = rest;
        }
        Ok(self.complete())
    }

    /// Reads a length, once all its bytes are there.
    fn length(&mut self, input: &mut &[u8]) -> Result<Option<usize>, FrameError> {
        while self.header_len < HEADER_BYTES {
            let Some((byte, rest)) = input.split_first() else { return Ok(None) };
            if let Some(place) = self.header.get_mut(self.header_len) {
                *place = *byte;
            }
            self.header_len += 1;
            *input = rest;
        }
        self.header_len = 0;
        let len = i32::from_be_bytes(self.header);
        let max = self.frame_bytes_max;
        match usize::try_from(len) {
            Err(_) => Err(FrameError::Negative(len)),
            Ok(len) if len > max => Err(FrameError::TooLong { len, max }),
            Ok(len) => Ok(Some(len)),
        }
    }

    /// Where to receive into, when so much of a frame is missing that it should come without a copy.
    pub(super) fn direct(&mut self, counters: &NetCounters) -> Option<&mut [u8]> {
        let filling = self.filling.as_mut().filter(|f| f.missing() >= DIRECT_BYTES_MIN)?;
        let room = filling.room(0, counters);
        let len = room.len().min(DIRECT_BYTES_MAX);
        room.get_mut(..len)
    }

    /// Takes note of bytes received into [`Receiver::direct`]; the frame, if that was the last of it.
    pub(super) fn received(&mut self, count: usize) -> Option<Bytes> {
        let filling = self.filling.as_mut()?;
        filling.filled = filling.filled.saturating_add(count).min(filling.len);
        self.complete()
    }

    fn complete(&mut self) -> Option<Bytes> {
        self.filling.take_if(|f| f.missing() == 0).map(Bytes::from_owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(pool: &Arc<FramePool>) -> Receiver {
        Receiver::new(Arc::clone(pool), 100 << 20)
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn a_mebibyte_with_its_header_takes_the_mebibyte_class() {
        let (pool, counters) = (FramePool::new(8 << 20), NetCounters::default());
        let bytes = framed(&vec![7; (1 << 20) + 300]);
        let mut receiver = receiver(&pool);
        let (mut start, mut rest) = bytes.split_at(SCRATCH_BYTES);
        assert_eq!(receiver.next(&mut start, &counters), Ok(None));
        assert_eq!(receiver.filling.as_ref().unwrap().memory.bytes.len(), STEP_BYTES);
        let frame = receiver.next(&mut rest, &counters).unwrap().unwrap();
        assert_eq!(frame, bytes[4..]);
        drop(frame);
        assert_eq!(pool.idle_bytes.load(Ordering::Relaxed), STEP_BYTES);

        let mut start = &bytes[..SCRATCH_BYTES];
        assert_eq!(receiver.next(&mut start, &counters), Ok(None));
        assert_eq!((counters.frames_unpooled.get(), counters.frames_pooled.get()), (1, 1));
        assert_eq!(pool.idle_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn memory_follows_what_arrives() {
        let (pool, counters) = (FramePool::new(0), NetCounters::default());
        let mut receiver = receiver(&pool);
        let mut header: &[u8] = &(100_u32 << 20).to_be_bytes();
        assert_eq!(receiver.next(&mut header, &counters), Ok(None));
        let mut arrived = 0;
        loop {
            let room = receiver.direct(&counters).unwrap().len();
            let held = receiver.filling.as_ref().unwrap().memory.bytes.len();
            let bound = if arrived < TRUSTED_BYTES { 1 << 17 } else { STEP_BYTES.max(3 * arrived) };
            assert!(held <= bound, "{held} bytes for {arrived}");
            assert!(room > 0 && room <= DIRECT_BYTES_MAX);
            arrived += room;
            if let Some(frame) = receiver.received(room) {
                assert_eq!((frame.len(), arrived), (100 << 20, 100 << 20));
                break;
            }
            // What is left may be too little to be received directly.
            let left = (100 << 20) - arrived;
            if left < DIRECT_BYTES_MIN {
                let rest = vec![0; left];
                assert!(receiver.next(&mut rest.as_slice(), &counters).unwrap().is_some());
                break;
            }
        }
        assert_eq!(pool.idle_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lengths_out_of_range_are_refused() {
        let (pool, counters) = (FramePool::new(0), NetCounters::default());
        let max = 100 << 20;
        let cut = |len: i32| {
            let bytes = len.to_be_bytes();
            receiver(&pool).next(&mut bytes.as_slice(), &counters)
        };
        assert_eq!(cut(-1), Err(FrameError::Negative(-1)));
        assert_eq!(cut(i32::MIN), Err(FrameError::Negative(i32::MIN)));
        let long = max + 1;
        assert_eq!(cut(i32::try_from(long).unwrap()), Err(FrameError::TooLong { len: long, max }));
        assert_eq!(cut(0), Ok(Some(Bytes::new())));
        assert_eq!(cut(i32::try_from(max).unwrap()), Ok(None));
        assert_eq!(counters.frames_unpooled.get(), 1);
    }

    #[test]
    fn every_cut_gives_the_same_frames() {
        let (pool, counters) = (FramePool::new(1 << 20), NetCounters::default());
        let bodies: Vec<Vec<u8>> = [0, 1, 3, 70, 0, 20_000, 5]
            .iter()
            .map(|len| (0..*len).map(|i| u8::try_from(i % 251).unwrap()).collect())
            .collect();
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        for size in [1, 2, 3, 5, 7, 64, 4096, 19_999, stream.len()] {
            let mut receiver = receiver(&pool);
            let mut frames = Vec::new();
            for mut piece in stream.chunks(size) {
                while let Some(frame) = receiver.next(&mut piece, &counters).unwrap() {
                    frames.push(frame);
                }
                assert!(piece.is_empty());
            }
            assert_eq!(frames, bodies, "pieces of {size}");
        }
    }
}
