//! The measured side of the ingest limit and its stages.
//!
//! One pass over the bytes: a receive of 64 KiB into one buffer that stays in the second-level cache
//! (larger receives are slower), the CRC while it is there, one copy into the aligned piece that
//! will be written. A frame's place is given away when its header arrives, so frames of different
//! connections lie whole beside each other, as a journal needs them. Answers keep their order.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::direct::{DirectWriter, Extent};
use super::{LimitKind, LimitSpec, ServerReport};
use crate::error::{Doing, Error, Result};
use crate::poll::Poll;

/// Length of the rest and CRC-32C of the payload, both big-endian.
pub(super) const PREFIX_BYTES: usize = 8;
/// The acknowledgement of one frame.
pub(super) const ACK_BYTES: usize = 8;

const RECEIVE_BYTES: usize = 64 << 10;
/// Receives on one connection before the next one's turn: a mebibyte.
const RECEIVES_PER_TURN: usize = 16;
const RING_TOKEN: usize = usize::MAX - 1;

pub(super) struct Server {
    spec: LimitSpec,
    writer: Option<DirectWriter>,
    /// The connection each frame being written came from, by the writer's number of the frame.
    owners: Vec<usize>,
    report: ServerReport,
    /// A receive was put off because no memory was left for what it might bring.
    starved: bool,
}

/// What a receive found.
enum Received {
    /// As much as it could take: there may be more.
    Full,
    /// The socket is empty, or memory is short.
    Drained,
    /// The connection has ended.
    End,
}

#[derive(Default)]
struct Frame {
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    left: usize,
    crc: u32,
    extents: VecDeque<Extent>,
}

struct Connection {
    stream: TcpStream,
    frame: Frame,
    /// Frames received and not acknowledged, oldest first; true once written.
    pending: VecDeque<(usize, bool)>,
    answers: Vec<u8>,
    ended: bool,
}

impl Server {
    pub(super) fn new(spec: &LimitSpec) -> Result<Server> {
        let writer = match (&spec.file, spec.kind.writes()) {
            (Some(file), true) => {
                let writer =
                    DirectWriter::new(file, spec.depth, spec.connections, spec.frame_bytes)?;
                let flushes = spec.kind == LimitKind::IngestFlush;
                Some(if flushes { writer.flushing() } else { writer })
            }
            (None, true) => {
                return Err(Error::Usage("this limit needs a prepared file".to_owned()));
            }
            (_, false) => None,
        };
        Ok(Server {
            spec: spec.clone(),
            writer,
            owners: Vec::new(),
            report: ServerReport::default(),
            starved: false,
        })
    }

    pub(super) fn run(mut self, streams: Vec<TcpStream>) -> Result<ServerReport> {
        let mut poll = Poll::new().doing("epoll")?;
        if let Some(writer) = &self.writer {
            poll.add(writer.borrow_fd(), RING_TOKEN, false).doing("epoll")?;
        }
        let mut connections: Vec<Connection> = Vec::new();
        for (token, stream) in streams.into_iter().enumerate() {
            poll.add(stream.as_fd(), token, false).doing("epoll")?;
            connections.push(Connection {
                stream,
                frame: Frame::default(),
                pending: VecDeque::new(),
                answers: Vec::new(),
                ended: false,
            });
        }
        let mut buffer = vec![0_u8; RECEIVE_BYTES];
        let (mut ready, mut written) = (Vec::new(), Vec::new());
        while !connections.iter().all(|c| c.ended) || self.is_writing() {
            // A partly filled piece goes out when the sockets have nothing and the disk is idle.
            let flush_if_quiet =
                self.writer.as_ref().is_some_and(|w| w.in_flight() == 0 && w.has_partial());
            poll.wait(flush_if_quiet.then_some(Duration::ZERO), &mut ready).doing("epoll")?;
            for event in &ready {
                if let Some(connection) = connections.get_mut(event.token) {
                    if event.writable {
                        flush_answers(connection, &poll, event.token)
                            .doing("sending acknowledgements")?;
                    }
                    if event.readable
                        && !connection.ended
                        && !self.drain(connection, event.token, &mut buffer)?
                    {
                        connection.ended = true;
                        poll.remove(connection.stream.as_fd()).doing("epoll")?;
                    }
                }
            }
            if let Some(writer) = &mut self.writer {
                if ready.is_empty() {
                    writer.close_partial();
                }
                writer.submit(std::mem::take(&mut self.starved)).doing("submitting writes")?;
                writer.reap(&mut written).doing("writing")?;
                // What waited for a place in the depth goes out before the next wait.
                writer.submit(false).doing("submitting writes")?;
            }
            if !written.is_empty() {
                self.answer(&mut connections, &mut written);
                for (token, connection) in connections.iter_mut().enumerate() {
                    flush_answers(connection, &poll, token).doing("sending acknowledgements")?;
                }
            }
        }
        for connection in &mut connections {
            connection.stream.set_nonblocking(false).doing("sending acknowledgements")?;
            connection.stream.write_all(&connection.answers).doing("sending acknowledgements")?;
        }
        self.report.writes = self.writer.as_ref().map_or(0, DirectWriter::writes);
        Ok(self.report)
    }

    fn is_writing(&self) -> bool {
        self.writer.as_ref().is_some_and(|w| w.in_flight() > 0 || w.has_partial())
    }

    /// Takes what the socket has, up to a bound; false at the end of the connection. Staying on one
    /// connection finishes its frame while its memory is in the cache.
    fn drain(
        &mut self,
        connection: &mut Connection,
        token: usize,
        buffer: &mut [u8],
    ) -> Result<bool> {
        for _ in 0..RECEIVES_PER_TURN {
            match self.receive(connection, token, buffer)? {
                Received::Full => {}
                Received::Drained => return Ok(true),
                Received::End => return Ok(false),
            }
        }
        Ok(true)
    }

    /// One receive and all that follows from it.
    fn receive(
        &mut self,
        connection: &mut Connection,
        token: usize,
        buffer: &mut [u8],
    ) -> Result<Received> {
        // Back-pressure: a receive may finish one frame and begin others.
        if self.writer.as_ref().is_some_and(|w| !w.has_room(RECEIVE_BYTES + self.spec.frame_bytes))
        {
            self.starved = true;
            return Ok(Received::Drained);
        }
        let len = match recv(&connection.stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, len)) => len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                return Ok(Received::Drained);
            }
            Err(error) => return Err(error).doing("receiving"),
        };
        if len == 0 {
            if connection.frame.left > 0 || connection.frame.prefix_len > 0 {
                return Err(Error::Peer("a connection ended inside a frame".to_owned()));
            }
            return Ok(Received::End);
        }
        self.report.bytes += len as u64;
        let mut bytes = &buffer[..len];
        while !bytes.is_empty() {
            if connection.frame.left == 0 {
                let frame = &mut connection.frame;
                let take = (PREFIX_BYTES - frame.prefix_len).min(bytes.len());
                frame.prefix[frame.prefix_len..frame.prefix_len + take]
                    .copy_from_slice(&bytes[..take]);
                frame.prefix_len += take;
                bytes = &bytes[take..];
                if frame.prefix_len == PREFIX_BYTES {
                    self.begin_frame(connection, token)?;
                }
                continue;
            }
            let frame = &mut connection.frame;
            let take = frame.left.min(bytes.len());
            let mut part = &bytes[..take];
            bytes = &bytes[take..];
            frame.left -= take;
            if self.spec.kind.checks_crc() {
                frame.crc = crc32c::crc32c_append(frame.crc, part);
            }
            if let Some(writer) = &mut self.writer {
                while !part.is_empty() {
                    let filled = writer.fill(&mut frame.extents, part);
                    part = &part[filled..];
                }
            }
            if frame.left == 0 {
                self.end_frame(connection);
            }
        }
        Ok(if len == RECEIVE_BYTES { Received::Full } else { Received::Drained })
    }

    fn begin_frame(&mut self, connection: &mut Connection, token: usize) -> Result<()> {
        let frame = &mut connection.frame;
        let [a, b, c, d, ..] = frame.prefix;
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        // The length covers the CRC field and the payload.
        if len != self.spec.frame_bytes + 4 {
            return Err(Error::Peer(format!("a frame of {len} bytes")));
        }
        frame.left = self.spec.frame_bytes;
        frame.crc = 0;
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let id = writer.reserve(frame.left, &mut frame.extents).doing("placing a frame")?;
        if self.owners.len() <= id {
            self.owners.resize(id + 1, 0);
        }
        self.owners[id] = token;
        connection.pending.push_back((id, false));
        Ok(())
    }

    fn end_frame(&mut self, connection: &mut Connection) {
        let frame = &mut connection.frame;
        let [.., a, b, c, d] = frame.prefix;
        if self.spec.kind.checks_crc() && frame.crc != u32::from_be_bytes([a, b, c, d]) {
            self.report.crc_mismatches += 1;
        }
        frame.prefix_len = 0;
        self.report.frames += 1;
    }

    /// Marks the written frames and queues the acknowledgements that are next in their connection.
    fn answer(&self, connections: &mut [Connection], written: &mut Vec<usize>) {
        for id in written.drain(..) {
            let connection = &mut connections[self.owners[id]];
            if let Some(entry) =
                connection.pending.iter_mut().find(|entry| entry.0 == id && !entry.1)
            {
                entry.1 = true;
            }
            while connection.pending.front().is_some_and(|entry| entry.1) {
                connection.pending.pop_front();
                if self.spec.kind.answers() {
                    connection.answers.extend_from_slice(&[0_u8; ACK_BYTES]);
                }
            }
        }
    }
}

/// Sends what the socket takes; the rest goes out when there is room again.
fn flush_answers(connection: &mut Connection, poll: &Poll, token: usize) -> io::Result<()> {
    if connection.answers.is_empty() {
        return Ok(());
    }
    match send(&connection.stream, &connection.answers, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) => {
            connection.answers.drain(..sent);
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    if connection.ended {
        Ok(())
    } else {
        poll.modify(connection.stream.as_fd(), token, !connection.answers.is_empty())
    }
}
