//! One non-blocking connection: frames out in batches without copying payloads, frames in without
//! copying large ones. It knows nothing of what the frames say; whoever sends keeps the order.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::Bytes;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

use crate::error::{Doing, Error, Result};

/// A receive without a known large frame under way takes up to this; larger ones are slower.
const RECEIVE_BYTES: usize = 64 << 10;
/// A frame under way is received in pieces of up to this.
const RECEIVE_FRAME_BYTES: usize = 256 << 10;
/// A longer frame is a mistake on the other side.
const FRAME_BYTES_MAX: usize = 256 << 20;
/// Pieces given to one send: eight requests of three pieces, or more answers.
const SEND_PIECES: usize = 24;
/// Copies of this length at most are made into memory that is used again.
const RECYCLED_BYTES_MAX: usize = 4096;

/// Part of a frame that is to be sent.
enum Piece {
    Shared(Bytes),
    Copied(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Shared(bytes) => bytes,
            Piece::Copied(bytes) => bytes,
        }
    }
}

/// A connection of the load side.
pub struct Wire {
    stream: TcpStream,
    unsent: VecDeque<Piece>,
    /// How much of the first piece is sent.
    sent_of_first: usize,
    /// Memory of copied pieces that are sent.
    free: Vec<Vec<u8>>,
    /// Initialised memory, of which `filled` bytes are received and not handed out.
    buffer: Vec<u8>,
    filled: usize,
    receive_bytes: usize,
}

impl Wire {
    /// Connects to `address`.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn connect(address: &str) -> Result<Wire> {
        let stream = TcpStream::connect(address).doing(format!("connecting to {address}"))?;
        Wire::from_stream(stream)
    }

    /// Takes over a connection.
    ///
    /// # Errors
    /// If the socket refuses its options.
    pub fn from_stream(stream: TcpStream) -> Result<Wire> {
        stream.set_nodelay(true).doing("setting up a connection")?;
        stream.set_nonblocking(true).doing("setting up a connection")?;
        Ok(Wire {
            stream,
            unsent: VecDeque::new(),
            sent_of_first: 0,
            free: Vec::new(),
            buffer: Vec::new(),
            filled: 0,
            receive_bytes: RECEIVE_BYTES,
        })
    }

    /// Receives `bytes` at a time from now on: little where thousands of connections get small answers.
    #[must_use]
    pub fn receiving(mut self, bytes: usize) -> Wire {
        self.receive_bytes = bytes.clamp(64, RECEIVE_BYTES);
        self
    }

    /// Adds a piece of a frame to what is to be sent.
    pub fn queue(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.unsent.push_back(Piece::Shared(piece));
        }
    }

    /// Adds a copy of a piece, made into memory of pieces sent before.
    pub fn queue_copy(&mut self, piece: &[u8]) {
        if !piece.is_empty() {
            let mut copy = self.free.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(piece);
            self.unsent.push_back(Piece::Copied(copy));
        }
    }

    /// Whether everything queued has gone into the socket.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Sends what the socket takes; true if something is left over.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn flush(&mut self) -> Result<bool> {
        while !self.unsent.is_empty() {
            let mut pieces = [IoSlice::new(&[]); SEND_PIECES];
            let mut count = 0;
            for (slot, piece) in pieces.iter_mut().zip(&self.unsent) {
                let skip = if count == 0 { self.sent_of_first } else { 0 };
                *slot = IoSlice::new(&piece.bytes()[skip..]);
                count += 1;
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let mut control = SendAncillaryBuffer::default();
            let mut sent = match sendmsg(&self.stream, &pieces[..count], &mut control, flags) {
                Ok(sent) => sent,
                Err(rustix::io::Errno::AGAIN) => return Ok(true),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).doing("sending"),
            };
            while let Some(first) = self.unsent.front() {
                let left = first.bytes().len() - self.sent_of_first;
                if sent < left {
                    self.sent_of_first += sent;
                    break;
                }
                sent -= left;
                self.sent_of_first = 0;
                if let Some(Piece::Copied(copy)) = self.unsent.pop_front()
                    && copy.capacity() <= RECYCLED_BYTES_MAX
                {
                    self.free.push(copy);
                }
            }
        }
        Ok(false)
    }

    /// Receives once and hands out every whole frame, without its length; false at the end of the
    /// connection.
    ///
    /// # Errors
    /// If the connection is broken, a length is impossible, or `on_frame` fails.
    pub fn receive(&mut self, mut on_frame: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let room = self.room()?;
        let into = &mut self.buffer[self.filled..self.filled + room];
        let len = match recv(&self.stream, into, RecvFlags::DONTWAIT) {
            Ok((_, len)) => len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(error).doing("receiving"),
        };
        if len == 0 {
            return Ok(false);
        }
        self.filled += len;
        if frame_bytes(&self.buffer[..self.filled])?.is_some_and(|need| need <= self.filled) {
            self.hand_out(&mut on_frame)?;
        }
        Ok(true)
    }

    /// How much to receive: the rest of a large frame and nothing behind it, or a bufferful.
    fn room(&mut self) -> Result<usize> {
        let rest = match frame_bytes(&self.buffer[..self.filled])? {
            Some(need) => need - self.filled,
            None => 0,
        };
        let bufferful = self.receive_bytes;
        let room = rest.max(bufferful - self.filled.min(bufferful / 2));
        if self.buffer.len() < self.filled + room {
            self.buffer.resize(self.filled + room, 0);
        }
        Ok(room.min(RECEIVE_FRAME_BYTES))
    }

    /// Hands out the whole frames and moves what is left to the front.
    fn hand_out(&mut self, on_frame: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut at = 0;
        while let Some(need) = frame_bytes(&self.buffer[at..self.filled])?
            && at + need <= self.filled
        {
            on_frame(&self.buffer[at + 4..at + need])?;
            at += need;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The size of the first frame with its length, if that is there.
fn frame_bytes(received: &[u8]) -> Result<Option<usize>> {
    let Some(length) = received.first_chunk::<4>() else {
        return Ok(None);
    };
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) if length <= FRAME_BYTES_MAX => Ok(Some(4 + length)),
        _ => Err(Error::Peer("an impossible frame length".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Wire::connect(&listener.local_addr().unwrap().to_string()).unwrap();
        (wire, listener.accept().unwrap().0)
    }

    fn frame(len: usize) -> Vec<u8> {
        let mut frame = u32::try_from(len).unwrap().to_be_bytes().to_vec();
        frame.extend((0..len).map(|i| (i % 249) as u8));
        frame
    }

    fn receive_all(wire: &mut Wire) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while wire
            .receive(|f| {
                frames.push(f.to_vec());
                Ok(())
            })
            .unwrap()
        {}
        frames
    }

    #[test]
    fn frames_of_all_sizes_arrive_whole_and_in_order() {
        let sizes = [0, 1, 100, 65_531, 65_532, 65_536, 1 << 20, 3, 70_000, 0, 12];
        let (mut wire, mut other) = pair();
        let sender = std::thread::spawn(move || {
            let bytes: Vec<u8> = sizes.iter().flat_map(|s| frame(*s)).collect();
            for part in bytes.chunks(40_001) {
                other.write_all(part).unwrap();
            }
        });
        let frames = receive_all(&mut wire);
        sender.join().unwrap();
        assert_eq!(frames.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
        for got in &frames {
            assert_eq!(got[..], frame(got.len())[4..]);
        }
    }

    #[test]
    fn pieces_go_out_in_order() {
        let (mut wire, mut other) = pair();
        let expected: Vec<u8> = (0..100_u8).flat_map(|i| vec![i; 50_000]).collect();
        for i in 0..100_u8 {
            match i % 2 {
                0 => wire.queue(Bytes::from(vec![i; 50_000])),
                _ => wire.queue_copy(&vec![i; 50_000]),
            }
        }
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; 5_000_000];
            other.read_exact(&mut got).unwrap();
            got
        });
        while wire.flush().unwrap() {}
        assert!(wire.is_flushed());
        assert!(reader.join().unwrap() == expected);
    }

    #[test]
    fn an_impossible_length_is_refused() {
        for length in [-1_i32, i32::MAX] {
            let (mut wire, mut other) = pair();
            other.write_all(&length.to_be_bytes()).unwrap();
            drop(other);
            let outcome = loop {
                match wire.receive(|_| Ok(())) {
                    Ok(true) => {}
                    end => break end,
                }
            };
            assert!(outcome.is_err());
        }
    }
}
