//! Replies out: what waits to be sent, and the one step that sends.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};

use crate::partition::Slice;
use crate::protocol::{Frame, Segment};

/// Pieces of one system call: the kernel's `IOV_MAX`.
const PIECES_MAX: usize = 1024;

/// Bytes of one system call: more would keep the other connections waiting.
const SEND_BYTES_MAX: usize = 1024 * 1024;

/// Sends a first part of `pieces`; `None` when the socket takes nothing now. The only place that
/// knows how bytes leave: encryption, or sending without a copy, would go here.
fn send(socket: BorrowedFd<'_>, pieces: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        let mut control = SendAncillaryBuffer::default();
        match rustix::net::sendmsg(socket, pieces, &mut control, flags) {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Memory that is sent from where it is.
#[derive(Debug)]
enum Piece {
    Inline(Bytes),
    Records(Slice),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Inline(bytes) => bytes,
            Piece::Records(slice) => slice.bytes(),
        }
    }

    fn unshare(&mut self) -> usize {
        let Piece::Records(slice @ Slice::Shared(..)) = self else { return 0 };
        *slice = Slice::Owned(Bytes::copy_from_slice(slice.bytes()));
        slice.len()
    }
}

/// A reply whose pieces are known to be all there.
#[derive(Debug)]
pub(super) struct Reply {
    pieces: Vec<Piece>,
    pub(super) bytes: usize,
}

impl Reply {
    /// Puts the records in their places. The error says what is wrong with the reply: sent as it is,
    /// the client would take the bytes after it for something else.
    pub(super) fn new(frame: Frame, mut records: Vec<Vec<Slice>>) -> Result<Reply, String> {
        let mut pieces = Vec::with_capacity(frame.segments.len() + records.len());
        let mut bytes = 0;
        for segment in frame.segments {
            match segment {
                Segment::Inline(inline) => {
                    bytes += inline.len();
                    pieces.push(Piece::Inline(inline));
                }
                Segment::External { token, len } => {
                    let slices = records.get_mut(token).map(std::mem::take).unwrap_or_default();
                    let given: usize = slices.iter().map(|slice| slice.bytes().len()).sum();
                    if given != len {
                        return Err(format!("a reply with {given} of {len} bytes of records"));
                    }
                    bytes += len;
                    pieces.extend(slices.into_iter().map(Piece::Records));
                }
            }
        }
        if bytes != frame.len {
            return Err(format!("a reply with {bytes} of {} bytes", frame.len));
        }
        Ok(Reply { pieces, bytes })
    }

    /// Copies the records that are shared with the rest of the shard; the bytes copied.
    pub(super) fn unshare(&mut self) -> usize {
        self.pieces.iter_mut().map(Piece::unshare).sum()
    }
}

/// Replies on their way, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are sent.
    sent: usize,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn push(&mut self, reply: Reply) {
        self.pieces.extend(reply.pieces.into_iter().filter(|piece| !piece.bytes().is_empty()));
    }

    /// The first `max` bytes at most of what is to be sent next; of one piece.
    pub(super) fn first(&self, max: usize) -> &[u8] {
        let bytes = self.pieces.front().and_then(|piece| piece.bytes().get(self.sent..));
        let bytes = bytes.unwrap_or(&[]);
        bytes.get(..max).unwrap_or(bytes)
    }

    /// Sends what one system call takes: the bytes sent and those offered, `None` for sent if the
    /// socket is full. What was sent is still to be told to [`Outbox::advance`].
    pub(super) fn send(&self, socket: BorrowedFd<'_>) -> io::Result<(Option<usize>, usize)> {
        let mut slices = Vec::with_capacity(self.pieces.len().min(PIECES_MAX));
        let mut offered = 0;
        let mut skip = self.sent;
        for piece in self.pieces.iter().take(PIECES_MAX) {
            let bytes = piece.bytes().get(skip..).unwrap_or(&[]);
            skip = 0;
            let bytes = bytes.get(..SEND_BYTES_MAX - offered).unwrap_or(bytes);
            slices.push(IoSlice::new(bytes));
            offered += bytes.len();
            if offered == SEND_BYTES_MAX {
                break;
            }
        }
        Ok((send(socket, &slices)?, offered))
    }

    /// Drops what was sent: from here on its memory may be used for something else.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front() {
            let left = piece.bytes().len().saturating_sub(self.sent);
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            self.pieces.pop_front();
        }
    }

    /// See [`Reply::unshare`].
    pub(super) fn unshare(&mut self) -> usize {
        self.pieces.iter_mut().map(Piece::unshare).sum()
    }
}
