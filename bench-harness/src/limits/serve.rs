//! The measured side that answers: from warm memory (the limit of a tail fetch) or with the request
//! itself (the limit of any request and answer).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::os::fd::AsFd;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

use super::{LimitKind, LimitSpec, ServerReport};
use crate::error::{Doing, Error, Result};
use crate::poll::Poll;

/// Every request and answer begins with the length of the rest, big-endian.
pub(super) const LENGTH_BYTES: usize = 4;
/// The size of a request for memory, about that of a fetch of one partition.
pub(super) const REQUEST_BYTES: usize = 100;

const RECEIVE_BYTES: usize = 64 << 10;
/// Pieces given to one send: enough for a mebibyte of small answers.
const SEND_PIECES: usize = 32;

pub(super) struct Server {
    spec: LimitSpec,
    memory: Vec<u8>,
    report: ServerReport,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    /// Answers to be sent: prefix, then `len` bytes from `at` in the memory or, for an echo, `echoed`.
    answers: VecDeque<Answer>,
    /// How much of the first answer has gone out.
    sent: usize,
    /// Where in the memory the next answer comes from.
    cursor: usize,
    waits_for_room: bool,
    ended: bool,
}

struct Answer {
    prefix: [u8; LENGTH_BYTES],
    at: usize,
    len: usize,
    echoed: Option<Vec<u8>>,
}

impl Answer {
    fn body<'a>(&'a self, memory: &'a [u8]) -> &'a [u8] {
        match &self.echoed {
            Some(bytes) => bytes,
            None => &memory[self.at..self.at + self.len],
        }
    }
}

impl Server {
    pub(super) fn new(spec: &LimitSpec) -> Result<Server> {
        let memory = match spec.kind {
            LimitKind::Echo => Vec::new(),
            _ if spec.memory_bytes < spec.frame_bytes => {
                return Err(Error::Usage("the memory is smaller than one answer".to_owned()));
            }
            // Written, not only reserved: every page is there before the first request.
            _ => (0..spec.memory_bytes).map(|i| (i % 251) as u8).collect(),
        };
        Ok(Server { spec: spec.clone(), memory, report: ServerReport::default() })
    }

    pub(super) fn run(mut self, streams: Vec<TcpStream>) -> Result<ServerReport> {
        let mut poll = Poll::new().doing("epoll")?;
        let mut connections = Vec::new();
        let stride = self.memory.len() / streams.len().max(1);
        for (token, stream) in streams.into_iter().enumerate() {
            poll.add(stream.as_fd(), token, false).doing("epoll")?;
            connections.push(Connection {
                stream,
                received: Vec::new(),
                answers: VecDeque::new(),
                sent: 0,
                cursor: token * stride,
                waits_for_room: false,
                ended: false,
            });
        }
        let mut buffer = vec![0_u8; RECEIVE_BYTES];
        let mut ready = Vec::new();
        while !connections.iter().all(|c| c.ended) {
            poll.wait(None, &mut ready).doing("epoll")?;
            for event in &ready {
                let Some(connection) = connections.get_mut(event.token) else {
                    continue;
                };
                if event.readable && !self.receive(connection, &mut buffer)? {
                    connection.ended = true;
                    poll.remove(connection.stream.as_fd()).doing("epoll")?;
                    continue;
                }
                let blocked = self.send(connection).doing("sending")?;
                if blocked != connection.waits_for_room {
                    connection.waits_for_room = blocked;
                    poll.modify(connection.stream.as_fd(), event.token, blocked).doing("epoll")?;
                }
            }
        }
        Ok(self.report)
    }

    fn receive(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Result<bool> {
        let len = match recv(&connection.stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, len)) => len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(error).doing("receiving"),
        };
        if len == 0 {
            return Ok(false);
        }
        connection.received.extend_from_slice(&buffer[..len]);
        let mut at = 0;
        while let Some((prefix, rest)) =
            connection.received[at..].split_first_chunk::<LENGTH_BYTES>()
        {
            let body = u32::from_be_bytes(*prefix) as usize;
            let Some(request) = rest.get(..body) else {
                break;
            };
            let answer = match self.spec.kind {
                LimitKind::Echo => {
                    Answer { prefix: *prefix, at: 0, len: body, echoed: Some(request.to_vec()) }
                }
                _ => {
                    let len = self.spec.frame_bytes;
                    if connection.cursor + len > self.memory.len() {
                        connection.cursor = 0;
                    }
                    let from = connection.cursor;
                    connection.cursor += len;
                    let prefix = u32::try_from(len)
                        .map_err(io::Error::other)
                        .doing("answering")?
                        .to_be_bytes();
                    Answer { prefix, at: from, len, echoed: None }
                }
            };
            connection.answers.push_back(answer);
            self.report.frames += 1;
            at += LENGTH_BYTES + body;
        }
        connection.received.drain(..at);
        Ok(true)
    }

    /// Sends until nothing is left or the socket is full; true in the second case.
    fn send(&mut self, connection: &mut Connection) -> io::Result<bool> {
        while !connection.answers.is_empty() {
            let mut pieces: Vec<IoSlice<'_>> = Vec::with_capacity(SEND_PIECES);
            let mut skip = connection.sent;
            for answer in connection.answers.iter().take(SEND_PIECES / 2) {
                for part in [answer.prefix.as_slice(), answer.body(&self.memory)] {
                    let here = skip.min(part.len());
                    skip -= here;
                    if here < part.len() {
                        pieces.push(IoSlice::new(&part[here..]));
                    }
                }
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&connection.stream, &pieces, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => {
                    self.report.bytes += sent as u64;
                    connection.sent += sent;
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(true),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            while let Some(first) = connection.answers.front()
                && connection.sent >= LENGTH_BYTES + first.len
            {
                connection.sent -= LENGTH_BYTES + first.len;
                connection.answers.pop_front();
            }
        }
        Ok(false)
    }
}
