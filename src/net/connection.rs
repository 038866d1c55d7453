//! One connection: a task that receives, calls the service and sends.
//!
//! The task is the only one to touch the socket. Answers that come later come from tasks of their own
//! through [`Shared`]; they wake the connection only when there is something it can do, and it then
//! sends everything that is ready at once.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_lite::future;
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use rustix::net::Shutdown;

use super::frames::{FrameError, Receiver};
use super::order::{Shared, Slot};
use super::registry::Connections;
use super::{Call, Peer, Service};

/// Requests whose replies wait for an earlier one, whatever their size: bounds the queue itself.
const QUEUED_MAX: usize = 1024;

/// Requests or bytes after which the other tasks get their turn although there is more to do.
const TURN_REQUESTS: usize = 128;
const TURN_BYTES: usize = 1024 * 1024;

/// Bytes offered to a full socket while waiting for room: what glommio needs to wait at all.
const PROBE_BYTES: usize = 1024;

/// Receives that are thrown away at the end of a connection.
const DISCARDS_MAX: usize = 16;

/// Why a connection ended.
enum End {
    /// The client sends no more, or the broker stops; everything is answered.
    Complete,
    Refused(String),
    Aborted(&'static str),
    Failed(io::Error),
}

enum Event {
    /// There is something to send or to end.
    Attend,
    Sent(usize),
    Received(Box<[u8]>, usize),
    ReceivedDirectly(usize),
    HalfClosed,
    Failed(io::Error),
}

struct Connection {
    stream: TcpStream,
    shared: Rc<Shared>,
    service: Rc<dyn Service>,
    connections: Rc<Connections>,
    receiver: Receiver,
    /// Received, but not yet cut into frames, because of the bounds.
    backlog: Bytes,
    /// The client sends no more; noticed only when the backlog is empty.
    half_closed: bool,
    /// The socket takes no more bytes for now.
    full: bool,
    turn_requests: usize,
    turn_bytes: Cell<usize>,
}

/// Serves a connection to its end.
pub async fn serve(
    stream: TcpStream,
    peer: Rc<Peer>,
    service: Rc<dyn Service>,
    connections: Rc<Connections>,
) {
    let shared = Shared::new(peer, connections.now());
    let Some(entry) = connections.enter(&shared) else { return };
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(peer = %shared.peer, %error, "cannot set TCP_NODELAY");
    }
    let receiver = connections.receiver();
    let mut connection = Connection {
        stream,
        shared,
        service,
        connections,
        receiver,
        backlog: Bytes::new(),
        half_closed: false,
        full: false,
        turn_requests: 0,
        turn_bytes: Cell::new(0),
    };
    let end = connection.run().await;
    let peer = &connection.shared.peer;
    match &end {
        End::Complete => tracing::debug!(%peer, "connection closed"),
        End::Failed(error) => tracing::debug!(%peer, %error, "connection lost"),
        End::Aborted(reason) => tracing::info!(%peer, reason, "closing a connection"),
        End::Refused(reason) => tracing::warn!(%peer, reason, "closing a connection"),
    }
    connection.close(&end);
    connection.shared.clear();
    drop(entry);
}

impl Connection {
    async fn run(&mut self) -> End {
        loop {
            if let Err(error) = self.send().await {
                return End::Failed(error);
            }
            if let Some(end) = self.end() {
                return end;
            }
            if !self.backlog.is_empty() && self.may_read() {
                self.cut_backlog();
            } else {
                match future::poll_fn(|cx| self.poll_event(cx)).await {
                    Event::Attend => {}
                    Event::Sent(count) => {
                        self.full = false;
                        self.sent(count);
                    }
                    Event::Received(scratch, count) => {
                        self.received(count);
                        let mut input = scratch.get(..count).unwrap_or(&[]);
                        self.cut(&mut input);
                        self.backlog = Bytes::copy_from_slice(input);
                        self.connections.put_scratch(scratch);
                    }
                    Event::ReceivedDirectly(count) => {
                        self.received(count);
                        if let Some(frame) = self.receiver.received(count) {
                            self.call(frame);
                        }
                    }
                    Event::HalfClosed => self.half_closed = true,
                    Event::Failed(error) => return End::Failed(error),
                }
            }
            self.give_way().await;
        }
    }

    /// Sends what is ready, as far as the socket takes it.
    async fn send(&mut self) -> io::Result<()> {
        let replies = self.shared.collect(self.connections.now());
        self.connections.counters().add(|c| &c.replies, replies);
        while !self.full {
            let (sent, offered) = {
                let state = self.shared.state.borrow();
                if state.outbox.is_empty() {
                    break;
                }
                state.outbox.send(socket(&self.stream))?
            };
            self.full = sent.is_none_or(|sent| sent < offered);
            if let Some(sent) = sent {
                self.sent(sent);
            }
            self.give_way().await;
        }
        Ok(())
    }

    fn sent(&self, count: usize) {
        self.shared.advance(count, self.connections.now());
        let counters = self.connections.counters();
        counters.add(|c| &c.send_calls, 1);
        counters.add(|c| &c.bytes_out, count);
        self.turn_bytes.set(self.turn_bytes.get() + count);
    }

    fn received(&self, count: usize) {
        self.shared.state.borrow_mut().received_at = self.connections.now();
        let counters = self.connections.counters();
        counters.add(|c| &c.recv_calls, 1);
        counters.add(|c| &c.bytes_in, count);
        self.turn_bytes.set(self.turn_bytes.get() + count);
    }

    fn end(&self) -> Option<End> {
        let mut state = self.shared.state.borrow_mut();
        if let Some(reason) = state.aborted {
            return Some(End::Aborted(reason));
        }
        let over = state.draining || self.half_closed;
        if !over || !state.slots.is_empty() || !state.outbox.is_empty() {
            return None;
        }
        Some(state.refused.take().map_or(End::Complete, End::Refused))
    }

    fn may_read(&self) -> bool {
        let settings = self.connections.settings();
        let state = self.shared.state.borrow();
        !state.draining
            && state.unanswered < settings.in_flight_max
            && state.slots.len() < QUEUED_MAX
            && self.shared.peer.pending_bytes() < settings.pending_bytes_max
    }

    fn cut_backlog(&mut self) {
        let backlog = std::mem::take(&mut self.backlog);
        let mut input: &[u8] = &backlog;
        self.cut(&mut input);
        let done = backlog.len() - input.len();
        self.backlog = backlog;
        self.backlog.advance(done);
    }

    /// Calls the service with the frames in `input` until the bounds are met or a turn is over.
    fn cut(&mut self, input: &mut &[u8]) {
        while !input.is_empty() && self.turn_requests < TURN_REQUESTS && self.may_read() {
            match self.receiver.next(input, self.connections.counters()) {
                Ok(Some(frame)) => self.call(frame),
                Ok(None) => {}
                Err(error) => self.refuse(error),
            }
        }
    }

    fn refuse(&self, error: FrameError) {
        self.shared.refuse(error.to_string());
    }

    fn call(&mut self, frame: Bytes) {
        self.turn_requests += 1;
        self.connections.counters().add(|c| &c.requests, 1);
        let number = self.shared.begin(frame.len());
        match Rc::clone(&self.service).call(&self.shared.peer, frame) {
            Call::Ready(answer) => {
                self.shared.answer(number, answer);
            }
            Call::Later(answer) => {
                let shared = Rc::clone(&self.shared);
                glommio::spawn_local(async move {
                    if shared.answer(number, answer.await) {
                        shared.wake();
                    }
                })
                .detach();
            }
        }
    }

    /// Waits for whatever comes first. Nothing is lost when several do: each call looks at all again.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.shared.listen(cx);
        let may_read = !self.half_closed && self.backlog.is_empty() && self.may_read();
        {
            let mut state = self.shared.state.borrow_mut();
            state.paused = !may_read;
            let ready = state.slots.front().is_some_and(Slot::is_done);
            let over = state.draining && state.slots.is_empty() && state.outbox.is_empty();
            if state.aborted.is_some() || (ready && !self.full) || over {
                return Poll::Ready(Event::Attend);
            }
        }
        if !self.backlog.is_empty() && self.may_read() {
            return Poll::Ready(Event::Attend);
        }
        if self.full {
            let state = self.shared.state.borrow();
            let probe = state.outbox.first(PROBE_BYTES);
            match Pin::new(&mut self.stream).poll_write(cx, probe) {
                Poll::Ready(Ok(count)) => return Poll::Ready(Event::Sent(count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Event::Failed(error)),
                Poll::Pending => {}
            }
        }
        if may_read && let Poll::Ready(event) = self.poll_read(cx) {
            return Poll::Ready(event);
        }
        self.turn_requests = 0;
        self.turn_bytes.set(0);
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let stream = Pin::new(&mut self.stream);
        let (result, scratch) = match self.receiver.direct(self.connections.counters()) {
            Some(room) => (stream.poll_read(cx, room), None),
            None => {
                let mut scratch = self.connections.take_scratch();
                (stream.poll_read(cx, &mut scratch), Some(scratch))
            }
        };
        match (result, scratch) {
            (Poll::Ready(Ok(count)), Some(scratch)) if count > 0 => {
                Poll::Ready(Event::Received(scratch, count))
            }
            (Poll::Ready(Ok(count)), None) if count > 0 => {
                Poll::Ready(Event::ReceivedDirectly(count))
            }
            (result, scratch) => {
                if let Some(scratch) = scratch {
                    self.connections.put_scratch(scratch);
                }
                result.map(|result| match result {
                    Ok(_) => Event::HalfClosed,
                    Err(error) => Event::Failed(error),
                })
            }
        }
    }

    /// Lets the other tasks run when this one has had its turn. `yield_now` puts this task behind the
    /// others of its queue, and at the preempt timer glommio leaves the queue for its reactor.
    async fn give_way(&mut self) {
        if self.turn_requests >= TURN_REQUESTS || self.turn_bytes.get() >= TURN_BYTES {
            self.turn_requests = 0;
            self.turn_bytes.set(0);
            glommio::executor().yield_now().await;
        }
    }

    /// Says at once that the connection is over: glommio closes the descriptor only with its next
    /// submission. Bytes left unread would turn the end into a reset, which can overtake replies.
    fn close(&mut self, end: &End) {
        let socket = socket(&self.stream);
        let how = match end {
            End::Complete | End::Refused(_) => Shutdown::Write,
            End::Aborted(_) | End::Failed(_) => Shutdown::Both,
        };
        // The client may be gone already.
        let _gone = rustix::net::shutdown(socket, how);
        let mut scratch = self.connections.take_scratch();
        for _ in 0..DISCARDS_MAX {
            let flags = rustix::net::RecvFlags::DONTWAIT;
            match rustix::net::recv(socket, &mut *scratch, flags) {
                Ok((_, count)) if count > 0 => {}
                _ => break,
            }
        }
        self.connections.put_scratch(scratch);
    }
}

fn socket(stream: &TcpStream) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor and outlives the borrow.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}
