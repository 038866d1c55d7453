//! The measured side of a cold fetch: answers from a file that is in no memory, by `sendfile` through
//! the page cache, or by direct reads into aligned memory that is then sent.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};
use rustix::fs::{Advice, fadvise, sendfile};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::direct::{PIECE_BYTES, Pieces, open_direct};
use super::serve::{LENGTH_BYTES, REQUEST_BYTES};
use super::{LimitKind, LimitSpec, ServerReport};
use crate::error::{Doing, Error, Result};
use crate::poll::Poll;

/// Direct reads under way at most.
const READS_MAX: usize = 8;
const RING_TOKEN: usize = usize::MAX - 1;

pub(super) struct Server {
    frame_bytes: usize,
    file: File,
    file_bytes: u64,
    /// Where the next answer comes from: one sequential pass that all connections share.
    next: u64,
    direct: Option<Direct>,
    report: ServerReport,
}

/// Direct reads and the memory they fill.
struct Direct {
    ring: IoUring,
    pieces: Pieces,
    /// Pieces that make a frame's memory; frames are numbered by their first.
    pieces_per_frame: usize,
    free: Vec<usize>,
    /// Connections that wait for memory.
    waiting: VecDeque<usize>,
    under_way: usize,
}

struct Connection {
    stream: TcpStream,
    request_bytes: usize,
    /// Answers not sent yet, oldest first.
    answers: VecDeque<Answer>,
    sent: usize,
    waits_for_room: bool,
    ended: bool,
}

#[derive(Clone, Copy)]
enum Answer {
    /// From that place in the file.
    File(u64),
    /// Being read; none until memory was found for it.
    Reading(Option<usize>),
    /// In the memory that begins with that piece.
    Memory(usize),
}

impl Server {
    pub(super) fn new(spec: &LimitSpec) -> Result<Server> {
        let path = spec.file.as_ref();
        let path =
            path.ok_or_else(|| Error::Usage("this limit needs a prepared file".to_owned()))?;
        let is_direct = spec.kind == LimitKind::DirectReadToSocket;
        let file = if is_direct {
            open_direct(path, false)?
        } else {
            File::open(path).doing(path.display())?
        };
        let file_bytes = file.metadata().doing(path.display())?.len();
        if file_bytes < spec.frame_bytes as u64 {
            return Err(Error::Usage(format!("{} is too small", path.display())));
        }
        if !is_direct {
            // Nothing of the file may be in memory, and what comes is read ahead.
            fadvise(&file, 0, None, Advice::DontNeed).doing("emptying the page cache")?;
            fadvise(&file, 0, None, Advice::Sequential).doing("asking for read-ahead")?;
        }
        let direct = is_direct.then(|| Direct::new(spec.frame_bytes)).transpose()?;
        Ok(Server {
            frame_bytes: spec.frame_bytes,
            file,
            file_bytes,
            next: 0,
            direct,
            report: ServerReport::default(),
        })
    }

    pub(super) fn run(mut self, streams: Vec<TcpStream>) -> Result<ServerReport> {
        let mut poll = Poll::new().doing("epoll")?;
        if let Some(direct) = &self.direct {
            poll.add(direct.borrow_fd(), RING_TOKEN, false).doing("epoll")?;
        }
        let mut connections = Vec::new();
        for (token, stream) in streams.into_iter().enumerate() {
            poll.add(stream.as_fd(), token, false).doing("epoll")?;
            connections.push(Connection {
                stream,
                request_bytes: 0,
                answers: VecDeque::new(),
                sent: 0,
                waits_for_room: false,
                ended: false,
            });
        }
        let mut ready = Vec::new();
        while !connections.iter().all(|c| c.ended) {
            poll.wait(None, &mut ready).doing("epoll")?;
            for event in &ready {
                if event.token == RING_TOKEN {
                    self.read_ended(&mut connections, &poll)?;
                    continue;
                }
                let connection = &mut connections[event.token];
                if event.readable && !self.receive(connection, event.token)? {
                    connection.ended = true;
                    poll.remove(connection.stream.as_fd()).doing("epoll")?;
                    continue;
                }
                self.flush(connection, event.token, &poll)?;
            }
            self.start_reads(&mut connections)?;
        }
        Ok(self.report)
    }

    /// One receive; false at the end of the connection.
    fn receive(&mut self, connection: &mut Connection, token: usize) -> Result<bool> {
        let mut buffer = [0_u8; 4096];
        let len = match recv(&connection.stream, &mut buffer[..], RecvFlags::DONTWAIT) {
            Ok((_, len)) => len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(error).doing("receiving"),
        };
        connection.request_bytes += len;
        // All requests are alike, so only their number matters.
        while connection.request_bytes >= LENGTH_BYTES + REQUEST_BYTES {
            connection.request_bytes -= LENGTH_BYTES + REQUEST_BYTES;
            self.report.frames += 1;
            let answer = match &mut self.direct {
                Some(direct) => {
                    direct.waiting.push_back(token);
                    Answer::Reading(None)
                }
                None => Answer::File(self.place()),
            };
            connection.answers.push_back(answer);
        }
        Ok(len > 0)
    }

    /// The place in the file of the next answer.
    fn place(&mut self) -> u64 {
        // Direct reads begin at whole blocks.
        let step = (self.frame_bytes as u64).next_multiple_of(PIECE_BYTES.min(4096) as u64);
        if self.next + step > self.file_bytes {
            self.next = 0;
        }
        let at = self.next;
        self.next += step;
        at
    }

    fn start_reads(&mut self, connections: &mut [Connection]) -> Result<()> {
        let mut started = false;
        loop {
            let at = match &self.direct {
                Some(d)
                    if d.under_way < READS_MAX && !d.free.is_empty() && !d.waiting.is_empty() =>
                {
                    self.place()
                }
                _ => break,
            };
            let Some(direct) = &mut self.direct else { break };
            let (Some(token), Some(piece)) = (direct.waiting.pop_front(), direct.free.pop()) else {
                break;
            };
            let answers = &mut connections[token].answers;
            if let Some(answer) = answers.iter_mut().find(|a| matches!(a, Answer::Reading(None))) {
                *answer = Answer::Reading(Some(piece));
            }
            direct.read(&self.file, piece, at, self.frame_bytes, token)?;
            started = true;
        }
        match &mut self.direct {
            Some(direct) if started => direct.ring.submit().map(|_| ()).doing("submitting reads"),
            _ => Ok(()),
        }
    }

    fn read_ended(&mut self, connections: &mut [Connection], poll: &Poll) -> Result<()> {
        let mut done = Vec::new();
        if let Some(direct) = &mut self.direct {
            for entry in direct.ring.completion() {
                direct.under_way -= 1;
                if usize::try_from(entry.result()).unwrap_or(0) < self.frame_bytes {
                    return Err(Error::Peer(format!("a direct read gave {}", entry.result())));
                }
                let data = entry.user_data();
                done.push(((data >> 32) as usize, (data & 0xffff_ffff) as usize));
            }
        }
        for (token, piece) in done {
            let connection = &mut connections[token];
            let reading = |a: &&mut Answer| matches!(a, Answer::Reading(Some(p)) if *p == piece);
            if let Some(answer) = connection.answers.iter_mut().find(reading) {
                *answer = Answer::Memory(piece);
            }
            if !connection.ended {
                self.flush(connection, token, poll)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, connection: &mut Connection, token: usize, poll: &Poll) -> Result<()> {
        let blocked = self.send(connection).doing("sending")?;
        if blocked != connection.waits_for_room {
            connection.waits_for_room = blocked;
            poll.modify(connection.stream.as_fd(), token, blocked).doing("epoll")?;
        }
        Ok(())
    }

    /// Sends what is there; true if the socket is full.
    fn send(&mut self, connection: &mut Connection) -> io::Result<bool> {
        let length = u32::try_from(self.frame_bytes).map_err(io::Error::other)?.to_be_bytes();
        while let Some(answer) = connection.answers.front().copied() {
            let body_sent = connection.sent.saturating_sub(LENGTH_BYTES);
            let sent = match answer {
                Answer::Reading(_) => return Ok(false),
                _ if connection.sent < LENGTH_BYTES => {
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | SendFlags::MORE;
                    send(&connection.stream, &length[connection.sent..], flags)
                }
                Answer::File(at) => {
                    let mut from = at + body_sent as u64;
                    let left = self.frame_bytes - body_sent;
                    sendfile(&connection.stream, &self.file, Some(&mut from), left)
                }
                Answer::Memory(piece) => {
                    let Some(direct) = &self.direct else { return Ok(false) };
                    let body = &direct.memory(piece)[body_sent..self.frame_bytes];
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    send(&connection.stream, body, flags)
                }
            };
            match sent {
                Ok(len) => {
                    connection.sent += len;
                    self.report.bytes += len as u64;
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if connection.sent == LENGTH_BYTES + self.frame_bytes {
                connection.sent = 0;
                connection.answers.pop_front();
                if let (Answer::Memory(piece), Some(direct)) = (answer, &mut self.direct) {
                    direct.free.push(piece);
                }
            }
        }
        Ok(false)
    }
}

impl Direct {
    fn new(frame_bytes: usize) -> Result<Direct> {
        let pieces_per_frame = frame_bytes.div_ceil(PIECE_BYTES).max(1);
        let frames = 2 * READS_MAX;
        Ok(Direct {
            ring: IoUring::new(64).doing("setting up io_uring")?,
            pieces: Pieces::new(frames * pieces_per_frame),
            pieces_per_frame,
            free: (0..frames).rev().map(|frame| frame * pieces_per_frame).collect(),
            waiting: VecDeque::new(),
            under_way: 0,
        })
    }

    fn memory(&self, piece: usize) -> &[u8] {
        self.pieces.range(piece, self.pieces_per_frame)
    }

    fn borrow_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring owns the descriptor and lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    fn read(
        &mut self,
        file: &File,
        piece: usize,
        at: u64,
        frame_bytes: usize,
        token: usize,
    ) -> Result<()> {
        let len = frame_bytes.next_multiple_of(4096);
        let len = u32::try_from(len).map_err(io::Error::other).doing("reading")?;
        let memory = self.pieces.range_mut(piece, self.pieces_per_frame);
        let entry = opcode::Read::new(types::Fd(file.as_raw_fd()), memory.as_mut_ptr(), len)
            .offset(at)
            .build()
            .user_data(((token as u64) << 32) | piece as u64);
        // SAFETY: the memory is in no list that hands it out until the completion has been reaped, and
        // `Drop` waits for the reads.
        unsafe { self.ring.submission().push(&entry) }
            .map_err(io::Error::other)
            .doing("submitting a read")?;
        self.under_way += 1;
        Ok(())
    }
}

impl Drop for Direct {
    /// The kernel writes into the memory until its reads have completed.
    fn drop(&mut self) {
        while self.under_way > 0 {
            if self.ring.submit_and_wait(1).is_err() {
                return;
            }
            let done = self.ring.completion().count();
            self.under_way = self.under_way.saturating_sub(done);
        }
    }
}
