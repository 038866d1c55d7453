//! One producing connection: what waits to be sent, what waits for its answer.
//!
//! Each connection is a producer of its own with its own partitions (as far as there are enough), so
//! that the order of everything it writes can be checked. A request is encoded once; sending it again
//! changes its correlation id, the stamp and the CRC, copies the few bytes up to the stamp, and shares
//! all that follows.

use std::collections::{BTreeMap, VecDeque};

use millstream::protocol::messages::ApiVersionsRequest;
use millstream::protocol::{ApiKey, ErrorCode, Version};
use millstream::time::{Clock, Monotonic};

use super::load::{Load, Slot};
use super::plan::{Acks, ProduceSpec};
use super::recorder::{Recorder, Sent};
use crate::batches::Stamp;
use crate::driver::control::request_frame;
use crate::driver::lean;
use crate::driver::wire::Wire;
use crate::error::{Error, Result};
use crate::state::{Acked, StateWriter, Stream};

/// Answers are small: thousands of connections should not need much memory.
const RECEIVE_BYTES: usize = 4096;
/// Requests sent on one connection before the others have their turn.
const REQUESTS_PER_TURN: usize = 64;

/// What all producing connections share.
pub(super) struct ProduceSide {
    pub(super) spec: ProduceSpec,
    pub(super) version: Version,
    pub(super) load: Load,
    /// Batches still to be sent.
    pub(super) left: u64,
    /// Nothing new is sent any more.
    pub(super) stopped: bool,
    pub(super) state: Option<StateWriter>,
}

/// A request that its schedule wants sent.
struct Arrival {
    request: u32,
    intended_ns: u64,
}

struct Pending {
    correlation_id: i32,
    slot: usize,
    sequence: u64,
    sent: Sent,
}

/// One connection.
pub(super) struct Producer {
    pub(super) wire: Wire,
    /// Its requests, in their order.
    requests: Vec<u32>,
    turn: usize,
    backlog: VecDeque<Arrival>,
    pending: VecDeque<Pending>,
    correlation_id: i32,
    /// With `acks=0`: the request whose answer shows that all before it arrived has been sent.
    barrier_sent: bool,
    pub(super) done: bool,
}

impl ProduceSide {
    pub(super) fn producers(&self) -> Result<Vec<Producer>> {
        let connections = self.load.connections.iter();
        connections
            .map(|(leader, requests)| {
                Ok(Producer {
                    wire: Wire::connect(leader)?.receiving(RECEIVE_BYTES),
                    requests: requests.clone(),
                    turn: 0,
                    backlog: VecDeque::new(),
                    pending: VecDeque::new(),
                    correlation_id: 0,
                    barrier_sent: false,
                    done: false,
                })
            })
            .collect()
    }

    pub(super) fn is_over(&self) -> bool {
        self.stopped || self.left == 0
    }

    /// What was acknowledged, by stream.
    pub(super) fn acked(&self) -> BTreeMap<Stream, Acked> {
        let acked = |slot: &Slot| Acked {
            end: slot.answered,
            failed: slot.failed.iter().copied().collect(),
        };
        self.load.slots.iter().map(|slot| (slot.stream, acked(slot))).collect()
    }

    fn without_acks(&self) -> bool {
        self.spec.acks == Acks::None
    }
}

impl Producer {
    /// The schedule wants that request sent now.
    pub(super) fn arrive(&mut self, request: u32, intended_ns: u64) {
        self.backlog.push_back(Arrival { request, intended_ns });
    }

    /// Requests that wait to be sent.
    pub(super) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Takes the answers that have arrived.
    pub(super) fn receive(
        &mut self,
        side: &mut ProduceSide,
        recorder: &mut Recorder,
    ) -> Result<()> {
        let Producer { wire, pending, done, .. } = self;
        let open = wire.receive(|frame| match pending.pop_front() {
            Some(request) => answer(side, recorder, &request, frame),
            // The barrier of `acks=0`.
            None if side.without_acks() => {
                *done = true;
                Ok(())
            }
            None => Err(Error::Peer("more answers than requests".to_owned())),
        })?;
        if open || self.done {
            Ok(())
        } else {
            Err(Error::Peer("the broker closed a connection".to_owned()))
        }
    }

    /// Sends what the window and the socket allow; whether it waits for room in the socket.
    pub(super) fn send(&mut self, side: &mut ProduceSide, recorder: &mut Recorder) -> Result<bool> {
        if side.stopped {
            self.backlog.clear();
        }
        for _ in 0..REQUESTS_PER_TURN {
            if !self.has_window(side) || !self.queue_next(side, recorder) {
                break;
            }
            // Requests are sent together as far as one send takes them.
            if side.without_acks() {
                self.wire.flush()?;
            }
        }
        let mut blocked = self.wire.flush()?;
        if side.is_over() && self.backlog.is_empty() && !blocked {
            if side.without_acks() && !self.barrier_sent {
                let version = ApiKey::ApiVersions.version(0);
                let version = version.ok_or_else(|| Error::Peer("ApiVersions 0".to_owned()))?;
                let barrier = request_frame(i32::MAX, version, &ApiVersionsRequest::default())?;
                self.wire.queue(barrier);
                blocked = self.wire.flush()?;
                self.barrier_sent = true;
            } else if !side.without_acks() && self.pending.is_empty() {
                self.done = true;
            }
        } else if self.has_window(side) && self.has_next(side) {
            // Its turn is over, not its work: room is there, so that it is called again at once.
            blocked = true;
        }
        Ok(blocked)
    }

    fn has_window(&self, side: &ProduceSide) -> bool {
        if side.without_acks() {
            self.wire.is_flushed()
        } else {
            self.pending.len() < side.spec.in_flight.max(1)
        }
    }

    fn has_next(&self, side: &ProduceSide) -> bool {
        if side.spec.pace.is_open() { !self.backlog.is_empty() } else { !side.is_over() }
    }

    /// Queues the next request, if there is one.
    fn queue_next(&mut self, side: &mut ProduceSide, recorder: &mut Recorder) -> bool {
        let now = Clock::monotonic();
        if side.spec.pace.is_open() {
            let Some(arrival) = self.backlog.pop_front() else {
                return false;
            };
            self.queue(side, recorder, arrival.request, arrival.intended_ns, now);
            return true;
        }
        if side.is_over() || self.requests.is_empty() {
            return false;
        }
        let request = self.requests[self.turn % self.requests.len()];
        self.turn += 1;
        side.left = side.left.saturating_sub(1);
        self.queue(side, recorder, request, now.0, now);
        true
    }

    fn queue(
        &mut self,
        side: &mut ProduceSide,
        recorder: &mut Recorder,
        number: u32,
        intended_ns: u64,
        now: Monotonic,
    ) {
        self.correlation_id = self.correlation_id.wrapping_add(1) & i32::MAX;
        let acks = !side.without_acks();
        let load = &mut side.load;
        let request = &mut load.requests[number as usize];
        let template = &load.known.templates[request.template as usize];
        let slot = &mut load.slots[request.slot];
        let sequence = slot.next_sequence;
        slot.next_sequence += 1;
        let Stream { run, producer, .. } = slot.stream;
        let stamp = Stamp { run, producer, template: request.template, sequence, intended_ns };
        // Length 4 bytes, API key 2, version 2, then the correlation id.
        request.head[8..12].copy_from_slice(&self.correlation_id.to_be_bytes());
        template.stamp(&mut request.head[request.batch_at..], stamp);
        self.wire.queue_copy(&request.head);
        self.wire.queue(request.tail.clone());
        self.wire.queue(request.suffix.clone());
        let sent = Sent {
            intended_ns,
            sent_ns: now.0,
            bytes: template.bytes().len() as u64,
            records: u64::from(template.records()),
        };
        if acks {
            let correlation_id = self.correlation_id;
            self.pending.push_back(Pending { correlation_id, slot: request.slot, sequence, sent });
        } else {
            recorder.wrote(&sent);
        }
    }
}

fn answer(
    side: &mut ProduceSide,
    recorder: &mut Recorder,
    request: &Pending,
    frame: &[u8],
) -> Result<()> {
    let ack = lean::produce_ack(side.version, frame)
        .ok_or_else(|| Error::Peer("a Produce response that cannot be read".to_owned()))?;
    if ack.correlation_id != request.correlation_id {
        return Err(Error::Peer("answers in another order than the requests".to_owned()));
    }
    let slot = &mut side.load.slots[request.slot];
    if ack.partition != slot.stream.partition {
        return Err(Error::Peer("a Produce response for another partition".to_owned()));
    }
    slot.answered += 1;
    if ack.error_code == 0 {
        recorder.acked(&request.sent, Clock::monotonic());
    } else {
        recorder.error(error_name(ack.error_code));
        slot.failed.push(request.sequence);
        if let Some(state) = &mut side.state {
            state.failed(slot.stream, request.sequence);
        }
    }
    if let Some(state) = &mut side.state {
        state.acked(slot.stream, slot.answered);
    }
    Ok(())
}

/// Kafka's name of an error code.
pub(super) fn error_name(code: i16) -> String {
    ErrorCode::try_from(code).map_or_else(|e| e.to_string(), |code| format!("{code:?}"))
}
