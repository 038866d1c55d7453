//! Idempotent producers as well-behaved clients run them: five batches in flight at most, all of them
//! sent again, in order, after the broker died, and now and then without a reason.
//!
//! A batch sent again must not be refused and must not be stored twice, whatever crash came between: if
//! the log has it, the answer is its first offset there, once it is flushed; if not, it is appended.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use millstream::partition::{AppendError, Store};
use millstream::record::Producer;
use millstream::storage::sim::SimStorage;
use millstream::types::{Durability, Offset, TopicPartition};

/// Producers of each partition.
const PRODUCERS: u64 = 2;

/// Batches that a producer may have in flight.
const IN_FLIGHT_MAX: usize = 5;

/// A batch whose acknowledgement the client has not heard.
struct InDoubt {
    sequence: i32,
    bytes: Bytes,
    records: i64,
    /// Where the broker said it is, when it was sent last.
    base: Offset,
    acked: Rc<Cell<bool>>,
}

struct Client {
    producer: Producer,
    in_doubt: VecDeque<InDoubt>,
    /// The broker died: everything in doubt is sent again before anything new.
    reconnects: bool,
}

/// All idempotent clients of a run.
#[derive(Default)]
pub(crate) struct Clients {
    clients: BTreeMap<(TopicPartition, u64), Client>,
    /// Batches sent again that the log had.
    pub(crate) duplicates: u64,
    /// Batches sent again that it did not have.
    pub(crate) resent: u64,
}

/// A batch that the broker gave its place.
pub(crate) struct Placed {
    pub(crate) base: Offset,
    pub(crate) records: i64,
    pub(crate) bytes: Bytes,
    /// The journal round to wait for.
    pub(crate) round: u64,
    pub(crate) acked: Rc<Cell<bool>>,
    /// Whether the log had it already.
    pub(crate) duplicate: bool,
}

/// The class that idempotent clients ask for: `acks=all`.
pub(crate) const CLASS: Durability = Durability::Flushed;

impl Clients {
    /// The broker died.
    pub(crate) fn disconnect(&mut self) {
        for client in self.clients.values_mut() {
            client.reconnects = true;
        }
    }

    /// Lets one client of a partition send: what is in doubt again, or a new batch that `make` makes for
    /// its producer.
    pub(crate) fn send(
        &mut self,
        sim: &SimStorage,
        store: &Store,
        id: TopicPartition,
        make: impl FnOnce(Producer) -> (Vec<u8>, i64),
    ) -> Vec<Placed> {
        let which = sim.choose(PRODUCERS);
        let client = self.clients.entry((id, which)).or_insert_with(|| {
            // Some sequences are about to wrap.
            let base_sequence = if sim.choose(3) == 0 { i32::MAX - 20 } else { 0 };
            let producer = Producer { id: which as i64, epoch: 0, base_sequence };
            Client { producer, in_doubt: VecDeque::new(), reconnects: false }
        });
        let again = client.reconnects || sim.choose(6) == 0;
        if again {
            return self.send_again(store, id, which);
        }
        // The client hears of some acknowledgements, in order; of others it does not.
        while client.in_doubt.front().is_some_and(|batch| batch.acked.get()) {
            if client.in_doubt.len() < IN_FLIGHT_MAX && sim.choose(2) == 0 {
                break;
            }
            client.in_doubt.pop_front();
        }
        if client.in_doubt.len() >= IN_FLIGHT_MAX {
            return Vec::new();
        }
        if client.in_doubt.is_empty() && sim.choose(40) == 0 {
            client.producer.epoch += 1;
            client.producer.base_sequence = 0;
        }
        let (bytes, records) = make(client.producer);
        let bytes = Bytes::from(bytes);
        match store.append(id, bytes.clone(), records, CLASS) {
            Ok(appended) => {
                assert!(appended.duplicate.is_none(), "{id}: a new batch is taken for an old one");
                let acked = Rc::new(Cell::new(false));
                client.in_doubt.push_back(InDoubt {
                    sequence: client.producer.base_sequence,
                    bytes: bytes.clone(),
                    records,
                    base: appended.base_offset,
                    acked: Rc::clone(&acked),
                });
                let next = client.producer.base_sequence.wrapping_add(records as i32) & i32::MAX;
                client.producer.base_sequence = next;
                let (base, round) = (appended.base_offset, appended.sequence);
                vec![Placed { base, records, bytes, round, acked, duplicate: false }]
            }
            Err(AppendError::Producer(error)) => panic!("{id}: wrongly refused: {error}"),
            Err(AppendError::Fenced | AppendError::UnknownPartition) => Vec::new(),
        }
    }

    fn send_again(&mut self, store: &Store, id: TopicPartition, which: u64) -> Vec<Placed> {
        let Some(client) = self.clients.get_mut(&(id, which)) else { return Vec::new() };
        let mut placed = Vec::new();
        for batch in &mut client.in_doubt {
            if !store.journal().has_room() {
                // The rest is sent when the client tries once more.
                return placed;
            }
            let appended = match store.append(id, batch.bytes.clone(), batch.records, CLASS) {
                Ok(appended) => appended,
                Err(AppendError::Producer(error)) => {
                    panic!("{id}: sequence {} sent again, refused: {error}", batch.sequence)
                }
                Err(AppendError::Fenced | AppendError::UnknownPartition) => return placed,
            };
            let duplicate = appended.duplicate.is_some();
            if duplicate {
                self.duplicates += 1;
                assert_eq!(
                    appended.base_offset, batch.base,
                    "{id}: sequence {} is at another offset",
                    batch.sequence
                );
            } else {
                self.resent += 1;
                assert!(client.reconnects, "{id}: sequence {} stored twice", batch.sequence);
                assert!(
                    !batch.acked.get(),
                    "{id}: sequence {} was acked and is gone",
                    batch.sequence
                );
                batch.base = appended.base_offset;
            }
            placed.push(Placed {
                base: appended.base_offset,
                records: batch.records,
                bytes: batch.bytes.clone(),
                round: appended.sequence,
                acked: Rc::clone(&batch.acked),
                duplicate,
            });
        }
        client.reconnects = false;
        placed
    }
}
