//! Connections: listening, frames in, replies out in request order.
//!
//! Shard: a connection lives on the shard that serves it, as one task. One core accepts for all and
//! hands the descriptor over. What crosses cores is a request's frame: [`Bytes`] whose memory returns
//! to its pool from wherever it is dropped.
//!
//! Invariants:
//!
//! - **Replies leave in the order of their requests**, whatever order they are made in; what was asked
//!   first and is not answered holds back the rest.
//! - **No length is believed**: a frame's memory grows with the bytes that have arrived.
//! - **Everything is bounded**: over [`Settings::in_flight_max`] or [`Settings::pending_bytes_max`] the
//!   socket is not read, and TCP holds the client back. An idle connection holds no buffer.
//! - **A reply's memory outlives its sending**: a slice is dropped once its last byte is the kernel's.
//!
//! It does not know what a frame contains, who the client is, or where a partition lives.

mod connection;
mod frames;
mod listener;
mod order;
mod registry;
mod send;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::partition::Slice;
use crate::protocol::Frame;

pub use connection::serve;
pub use listener::{AcceptLimits, Accepted, Gate, Place, accept_loop, bind};
pub use registry::{Connections, Load, NetCounters};

/// What answers requests; one per shard.
pub trait Service: 'static {
    /// Takes a request: a frame without its length. Called in order of arrival; must not block.
    fn call(self: Rc<Self>, peer: &Rc<Peer>, frame: Bytes) -> Call;
}

/// An answer, now or later.
pub enum Call {
    /// Already known.
    Ready(Answer),
    /// Runs as a task of its own to its end, even if the connection ends before.
    Later(Pin<Box<dyn Future<Output = Answer>>>),
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer {
    /// A reply.
    Reply {
        /// The encoded frame.
        frame: Frame,
        /// The bytes of its external segments, by token; each token occurs once.
        records: Vec<Vec<Slice>>,
    },
    /// No reply, as to acks=0.
    Nothing,
    /// The connection is closed once the replies to earlier requests are sent. The reason is logged.
    Close(String),
}

impl From<Frame> for Answer {
    fn from(frame: Frame) -> Answer {
        Answer::Reply { frame, records: Vec::new() }
    }
}

/// The other end of a connection, as far as handlers may know it.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    connection: u64,
    listener: u16,
    pending_bytes: Cell<usize>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, connection: u64, listener: u16) -> Peer {
        Peer { address, connection, listener, pending_bytes: Cell::new(0) }
    }

    /// The client's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connection's number, which no other connection of the shard has had.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// The index of the listener that the connection came by.
    #[must_use]
    pub fn listener(&self) -> u16 {
        self.listener
    }

    /// Bytes of requests not yet answered and of replies not yet sent. A fetch is cut by it, so that
    /// what a client does not read stays bounded (storage rule 25).
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes.get()
    }

    fn charge(&self, bytes: usize) {
        self.pending_bytes.set(self.pending_bytes.get().saturating_add(bytes));
    }

    fn discharge(&self, bytes: usize) {
        self.pending_bytes.set(self.pending_bytes.get().saturating_sub(bytes));
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

/// The bounds of a shard's connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `socket.request.max.bytes`: a longer frame closes the connection.
    pub request_bytes_max: usize,
    /// `connections.max.idle.ms`: a connection is closed after so long without a byte received and
    /// nothing in flight, or with replies of which the client takes none.
    pub idle: Duration,
    /// Requests of one connection that wait for their answer. At that many it is not read.
    pub in_flight_max: usize,
    /// Bytes of a connection's unanswered requests and unsent replies. At that many it is not read;
    /// the answers to what was read already may still exceed it.
    pub pending_bytes_max: usize,
    /// Memory for large frames that the shard keeps for reuse.
    pub pool_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            request_bytes_max: 100 * 1024 * 1024,
            idle: Duration::from_secs(600),
            in_flight_max: 64,
            pending_bytes_max: 16 * 1024 * 1024,
            pool_bytes_max: 64 * 1024 * 1024,
        }
    }
}
