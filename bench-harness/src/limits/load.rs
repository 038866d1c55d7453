//! The load side of every limit: one thread that keeps a number of requests under way on each of many
//! connections. The bytes of a request are made once and sent again and again.

use std::collections::VecDeque;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use millstream::time::{Clock, Monotonic};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{LimitKind, LimitSpec, ServerReport, ingest, serve};
use crate::error::{Doing, Error, Result};
use crate::poll::Poll;
use crate::stats::{Histogram, Latencies};

const RECEIVE_BYTES: usize = 64 << 10;
/// Nothing moves for so long only if the measured side has stopped.
const STALLED: Duration = Duration::from_secs(30);

pub(super) struct Load {
    pub(super) answers: u64,
    pub(super) elapsed: Duration,
    pub(super) latency: Option<Latencies>,
}

/// What one connection sends and expects.
struct Exchange {
    request: Vec<u8>,
    /// The bytes of one answer; zero if there is none.
    answer_bytes: usize,
    /// The answer begins with its length.
    answer_has_length: bool,
    /// Requests under way at most.
    window: u64,
    count: u64,
}

struct Connection {
    stream: TcpStream,
    sent: u64,
    sent_of_request: usize,
    answered: u64,
    received_of_answer: usize,
    prefix: [u8; serve::LENGTH_BYTES],
    started: VecDeque<Monotonic>,
    waits_for_room: bool,
    finished_sending: bool,
    ended: bool,
}

/// Sends everything the spec asks for and takes every answer.
pub(super) fn drive(spec: &LimitSpec, address: SocketAddr) -> Result<Load> {
    let exchange = Exchange::of(spec);
    let mut poll = Poll::new().doing("epoll")?;
    let mut connections = Vec::new();
    for token in 0..spec.connections {
        let stream = TcpStream::connect(address).doing("connecting to the limit's child")?;
        stream.set_nonblocking(true).doing("connecting")?;
        stream.set_nodelay(true).doing("connecting")?;
        poll.add(stream.as_fd(), token, true).doing("epoll")?;
        connections.push(Connection::new(stream));
    }
    let mut histogram = Histogram::new();
    let mut buffer = vec![0_u8; RECEIVE_BYTES];
    let mut ready = Vec::new();
    let begin = Clock::monotonic();
    while !connections.iter().all(|c| c.ended) {
        poll.wait(Some(STALLED), &mut ready).doing("epoll")?;
        if ready.is_empty() {
            return Err(Error::Peer("the limit's child has stopped".to_owned()));
        }
        for event in &ready {
            let connection = &mut connections[event.token];
            if event.readable && !connection.receive(&exchange, &mut buffer, &mut histogram)? {
                connection.ended = true;
                poll.remove(connection.stream.as_fd()).doing("epoll")?;
                continue;
            }
            let blocked = connection.send(&exchange)?;
            if connection.sent == exchange.count && !connection.finished_sending {
                // With answers the end is ours to declare when the last one is here.
                if exchange.answer_bytes == 0 || connection.answered == exchange.count {
                    connection.stream.shutdown(Shutdown::Write).doing("ending a connection")?;
                    connection.finished_sending = true;
                }
            }
            // A connection starts out registered for room.
            if blocked != connection.waits_for_room {
                connection.waits_for_room = blocked;
                poll.modify(connection.stream.as_fd(), event.token, blocked).doing("epoll")?;
            }
        }
    }
    let elapsed = Clock::monotonic().since(begin);
    let answers = connections.iter().map(|c| c.answered).sum();
    let latency = (exchange.answer_bytes > 0).then(|| histogram.summary());
    Ok(Load { answers, elapsed, latency })
}

/// Every frame sent was counted by the measured side, unchanged, and answered.
pub(super) fn check(spec: &LimitSpec, load: &Load, report: &ServerReport) -> Result<()> {
    let frames = spec.frames_per_connection() * spec.connections as u64;
    if report.crc_mismatches > 0 {
        return Err(Error::Peer(format!(
            "{} frames arrived with another CRC",
            report.crc_mismatches
        )));
    }
    let answers = if spec.kind.answers() { frames } else { 0 };
    if report.frames != frames || load.answers != answers {
        return Err(Error::Peer(format!(
            "{frames} frames sent, {} counted, {} answers for {answers}",
            report.frames, load.answers
        )));
    }
    Ok(())
}

impl Exchange {
    fn of(spec: &LimitSpec) -> Exchange {
        let count = spec.frames_per_connection();
        let window = spec.in_flight.max(1) as u64;
        match spec.kind {
            LimitKind::MemoryToSocket
            | LimitKind::SendFile
            | LimitKind::DirectReadToSocket
            | LimitKind::Echo => {
                let (body, answer) = match spec.kind {
                    LimitKind::Echo => (spec.frame_bytes, spec.frame_bytes),
                    _ => (serve::REQUEST_BYTES, spec.frame_bytes),
                };
                let mut request = length_prefix(body);
                request.extend(payload(body));
                let answer_bytes = serve::LENGTH_BYTES + answer;
                Exchange { request, answer_bytes, answer_has_length: true, window, count }
            }
            kind => {
                let payload = payload(spec.frame_bytes);
                let mut request = length_prefix(payload.len() + 4);
                request.extend(crc32c::crc32c(&payload).to_be_bytes());
                request.extend(payload);
                debug_assert_eq!(request.len(), ingest::PREFIX_BYTES + spec.frame_bytes);
                let (answer_bytes, window) =
                    if kind.answers() { (ingest::ACK_BYTES, window) } else { (0, u64::MAX) };
                Exchange { request, answer_bytes, answer_has_length: false, window, count }
            }
        }
    }
}

fn length_prefix(len: usize) -> Vec<u8> {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes().to_vec()
}

/// Bytes without a pattern that a wrong place in the frame would not disturb.
fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

impl Connection {
    fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            sent: 0,
            sent_of_request: 0,
            answered: 0,
            received_of_answer: 0,
            prefix: [0; serve::LENGTH_BYTES],
            started: VecDeque::new(),
            waits_for_room: true,
            finished_sending: false,
            ended: false,
        }
    }

    /// Sends until the window is full, all is sent or the socket is full; true in the last case.
    fn send(&mut self, exchange: &Exchange) -> Result<bool> {
        while self.sent < exchange.count && self.sent - self.answered < exchange.window {
            if self.sent_of_request == 0 && exchange.answer_bytes > 0 {
                self.started.push_back(Clock::monotonic());
            }
            let rest = &exchange.request[self.sent_of_request..];
            match send(&self.stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(len) => self.sent_of_request += len,
                Err(rustix::io::Errno::AGAIN) => {
                    if self.sent_of_request == 0 {
                        self.started.pop_back();
                    }
                    return Ok(true);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).doing("sending to the limit's child"),
            }
            if self.sent_of_request == exchange.request.len() {
                self.sent_of_request = 0;
                self.sent += 1;
            }
        }
        Ok(false)
    }

    /// One receive; false at the end of the connection.
    fn receive(
        &mut self,
        exchange: &Exchange,
        buffer: &mut [u8],
        histogram: &mut Histogram,
    ) -> Result<bool> {
        let len = match recv(&self.stream, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, len)) => len,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(true),
            Err(error) => return Err(error).doing("receiving from the limit's child"),
        };
        if len == 0 {
            return if self.finished_sending {
                Ok(false)
            } else {
                Err(Error::Peer("the limit's child closed a connection".to_owned()))
            };
        }
        let mut bytes = &buffer[..len];
        while !bytes.is_empty() {
            let take = (exchange.answer_bytes - self.received_of_answer).min(bytes.len());
            if take == 0 {
                return Err(Error::Peer("an answer where none was due".to_owned()));
            }
            for (at, byte) in (self.received_of_answer..self.prefix.len()).zip(&bytes[..take]) {
                self.prefix[at] = *byte;
            }
            self.received_of_answer += take;
            bytes = &bytes[take..];
            if self.received_of_answer == exchange.answer_bytes {
                self.end_answer(exchange, histogram)?;
            }
        }
        Ok(true)
    }

    fn end_answer(&mut self, exchange: &Exchange, histogram: &mut Histogram) -> Result<()> {
        let length = u32::from_be_bytes(self.prefix) as usize;
        if exchange.answer_has_length && length + serve::LENGTH_BYTES != exchange.answer_bytes {
            return Err(Error::Peer(format!("an answer of {length} bytes")));
        }
        let Some(started) = self.started.pop_front() else {
            return Err(Error::Peer("more answers than requests".to_owned()));
        };
        histogram.record(Clock::monotonic().since(started));
        self.received_of_answer = 0;
        self.answered += 1;
        Ok(())
    }
}
