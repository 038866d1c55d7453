//! The requests of a produce side, encoded before the first is sent: which connection writes which
//! partitions, and in which order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream::protocol::Version;
use millstream::protocol::messages::ProduceRequest;
use millstream::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use millstream::time::Clock;

use super::payload::{Payload, Tape};
use crate::batches::Template;
use crate::driver::control::{Topic, request_frame};
use crate::error::{Error, Result};
use crate::oracle::Known;
use crate::state::Stream;

/// One partition as one connection writes it.
pub(super) struct Slot {
    pub(super) stream: Stream,
    pub(super) next_sequence: u64,
    /// Requests answered, whatever the answer.
    pub(super) answered: u64,
    /// Sequences that were refused.
    pub(super) failed: Vec<u64>,
}

/// A request that is sent again and again, each time with another correlation id and stamp.
pub(super) struct Request {
    pub(super) slot: usize,
    pub(super) template: u32,
    /// The frame up to the end of the stamp.
    pub(super) head: Vec<u8>,
    /// Where in the head the batch begins.
    pub(super) batch_at: usize,
    /// What follows the head in the batch.
    pub(super) tail: Bytes,
    /// What follows the batch in the frame.
    pub(super) suffix: Bytes,
}

/// Everything there is to send.
pub(super) struct Load {
    pub(super) known: Arc<Known>,
    pub(super) slots: Vec<Slot>,
    pub(super) requests: Vec<Request>,
    /// For each request, whose it is.
    pub(super) owners: Vec<usize>,
    /// For each connection, its leader and its requests in their order.
    pub(super) connections: Vec<(String, Vec<u32>)>,
    /// The mean size of a batch, and of records in it, over one round of the requests.
    pub(super) batch_bytes: f64,
    pub(super) batch_records: f64,
}

/// What the requests are made for.
pub(super) struct LoadSpec<'a> {
    pub(super) topic: &'a Topic,
    pub(super) connections: usize,
    pub(super) payload: &'a Payload,
    pub(super) acks: i16,
    pub(super) version: Version,
    pub(super) run: u64,
}

impl Load {
    pub(super) fn new(spec: &LoadSpec<'_>) -> Result<Load> {
        let tape = spec.payload.tape(spec.topic.leaders.len(), Clock::timestamp())?;
        let dealt = assign(spec.topic, spec.connections)?;
        let mut slots = Vec::new();
        // For each partition the slots that write it, and of each slot its connection.
        let mut writers: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
        let mut owner_of_slot = Vec::new();
        for (connection, (_, partitions)) in dealt.iter().enumerate() {
            for partition in partitions {
                let producer = u32::try_from(connection).unwrap_or(u32::MAX);
                let stream = Stream { run: spec.run, partition: *partition, producer };
                writers.entry(*partition).or_default().push(slots.len());
                owner_of_slot.push(connection);
                slots.push(Slot { stream, next_sequence: 0, answered: 0, failed: Vec::new() });
            }
        }
        let order = order(&tape, &dealt, &writers, &owner_of_slot);
        let mut load = Load {
            known: Arc::new(Known { run: spec.run, templates: tape.templates }),
            slots,
            requests: Vec::new(),
            owners: Vec::new(),
            connections: dealt.into_iter().map(|(leader, _)| (leader, Vec::new())).collect(),
            batch_bytes: 0.0,
            batch_records: 0.0,
        };
        for (slot, template) in order {
            let number = u32::try_from(load.requests.len())
                .map_err(|_| Error::Usage("too many requests".to_owned()))?;
            let request = request(spec, &load.known.templates, &load.slots, slot, template)?;
            let owner = owner_of_slot[slot];
            load.connections[owner].1.push(number);
            load.owners.push(owner);
            load.requests.push(request);
        }
        let sum = |size: fn(&Template) -> f64| {
            let sizes =
                load.requests.iter().map(|r| size(&load.known.templates[r.template as usize]));
            sizes.sum::<f64>() / load.requests.len().max(1) as f64
        };
        load.batch_bytes = sum(|template| template.bytes().len() as f64);
        load.batch_records = sum(|template| f64::from(template.records()));
        Ok(load)
    }
}

/// Slot and template of every request. Without a tape each connection's slots in turn, one connection
/// after the other, so that neighbours in time are on different connections.
fn order(
    tape: &Tape,
    dealt: &[(String, Vec<i32>)],
    writers: &BTreeMap<i32, Vec<usize>>,
    owner_of_slot: &[usize],
) -> Vec<(usize, u32)> {
    let Some(entries) = &tape.entries else {
        let mut of_connection: Vec<Vec<usize>> = vec![Vec::new(); dealt.len()];
        for (slot, owner) in owner_of_slot.iter().enumerate() {
            of_connection[*owner].push(slot);
        }
        let rounds = of_connection.iter().map(Vec::len).max().unwrap_or(0);
        let round = |at: usize| of_connection.iter().filter_map(move |s| s.get(at).copied());
        return (0..rounds).flat_map(round).map(|slot| (slot, 0)).collect();
    };
    let mut turns: BTreeMap<i32, usize> = BTreeMap::new();
    let place = |(partition, template): &(i32, u32)| {
        let writers = writers.get(partition)?;
        let turn = turns.entry(*partition).or_default();
        *turn += 1;
        Some((writers[*turn % writers.len()], *template))
    };
    entries.iter().filter_map(place).collect()
}

/// Deals the partitions out: connections are spread over the leaders, a leader's partitions over its
/// connections. Where there are more connections than partitions, some write to the same one.
pub(super) fn assign(topic: &Topic, connections: usize) -> Result<Vec<(String, Vec<i32>)>> {
    let mut by_leader: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (partition, leader) in (0..).zip(&topic.leaders) {
        by_leader.entry(leader).or_default().push(partition);
    }
    if connections < by_leader.len() {
        return Err(Error::Usage(format!("{} leaders need as many connections", by_leader.len())));
    }
    let mut dealt = Vec::new();
    for (i, (leader, partitions)) in by_leader.iter().enumerate() {
        let leaders = by_leader.len();
        let own = connections / leaders + usize::from(i < connections % leaders);
        for c in 0..own {
            let mine: Vec<i32> = partitions.iter().copied().skip(c).step_by(own).collect();
            let shared = || vec![partitions[c % partitions.len()]];
            dealt.push(((*leader).to_owned(), if mine.is_empty() { shared() } else { mine }));
        }
    }
    Ok(dealt)
}

/// The request for one slot and template, encoded.
fn request(
    spec: &LoadSpec<'_>,
    templates: &[Template],
    slots: &[Slot],
    slot: usize,
    number: u32,
) -> Result<Request> {
    let template = &templates[number as usize];
    let request = ProduceRequest {
        transactional_id: None,
        acks: spec.acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: spec.topic.name.clone().into(),
            topic_id: spec.topic.id,
            partition_data: vec![PartitionProduceData {
                index: slots[slot].stream.partition,
                records: Some(template.bytes().clone()),
            }],
        }],
    };
    let frame = request_frame(0, spec.version, &request)?;
    let head = &template.bytes()[..template.head_bytes()];
    let batch_at = frame.windows(head.len()).position(|w| w == head);
    let batch_at =
        batch_at.ok_or_else(|| Error::Peer("the request does not hold its batch".to_owned()))?;
    Ok(Request {
        slot,
        template: number,
        head: frame[..batch_at + head.len()].to_vec(),
        batch_at,
        tail: template.tail(),
        // A copy: a slice would keep the whole frame.
        suffix: Bytes::copy_from_slice(&frame[batch_at + template.bytes().len()..]),
    })
}

#[cfg(test)]
mod tests {
    use millstream::protocol::ApiKey;

    use super::*;
    use crate::engine::payload::{Keys, Lines, Source};

    fn topic(leaders: &[&str]) -> Topic {
        let leaders = leaders.iter().map(|l| (*l).to_owned()).collect();
        Topic { name: "t".to_owned(), id: millstream::types::Uuid::nil(), leaders }
    }

    #[test]
    fn every_partition_has_one_connection_if_there_are_enough_partitions() {
        let dealt = assign(&topic(&["a", "b", "a", "b", "a", "b", "a"]), 3).unwrap();
        let mut all: Vec<i32> = dealt.iter().flat_map(|(_, p)| p.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6]);
        assert!(dealt.iter().all(|(leader, p)| p.iter().all(|p| (p % 2 == 0) == (leader == "a"))));
    }

    #[test]
    fn more_connections_than_partitions_share_them() {
        let dealt = assign(&topic(&["a", "a"]), 5).unwrap();
        assert_eq!(dealt.len(), 5);
        assert!(dealt.iter().all(|(_, p)| p.len() == 1));
        assert!(assign(&topic(&["a", "b"]), 1).is_err());
    }

    fn load(payload: &Payload, connections: usize) -> Load {
        let topic = topic(&["a"; 7]);
        let supported = ApiKey::Produce.supported().max;
        let version = ApiKey::Produce.version(supported).unwrap();
        let spec = LoadSpec { topic: &topic, connections, payload, acks: 1, version, run: 9 };
        Load::new(&spec).unwrap()
    }

    #[test]
    fn filler_goes_round_all_partitions_and_changes_connections() {
        let load = load(&Payload::Filler { batch_bytes: 2000, record_bytes: 100 }, 3);
        assert_eq!((load.requests.len(), load.known.templates.len()), (7, 1));
        assert_eq!(load.owners, [0, 1, 2, 0, 1, 2, 0]);
        let mut partitions: Vec<i32> =
            load.requests.iter().map(|r| load.slots[r.slot].stream.partition).collect();
        partitions.sort_unstable();
        assert_eq!(partitions, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn lines_keep_their_partitions_and_these_their_connection() {
        let lines = Lines {
            source: Source::AccessLog,
            keys: Keys::Field(1),
            batch_bytes: 4000,
            linger_records: None,
            tape_bytes: 200_000,
        };
        let load = load(&Payload::Lines(lines), 3);
        assert!(load.requests.len() > 40);
        for (request, owner) in load.requests.iter().zip(&load.owners) {
            let partition = load.slots[request.slot].stream.partition;
            assert_eq!(usize::try_from(partition).unwrap() % 3, *owner);
        }
        assert_eq!(load.connections.iter().map(|c| c.1.len()).sum::<usize>(), load.requests.len());
    }
}
