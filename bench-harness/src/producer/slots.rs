//! Which connection writes which partitions, and the requests encoded for them.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream::protocol::Version;
use millstream::protocol::messages::ProduceRequest;
use millstream::protocol::messages::produce::{PartitionProduceData, TopicProduceData};

use super::ProduceSpec;
use crate::batches::Template;
use crate::driver::control::{Topic, request_frame};
use crate::error::{Error, Result};
use crate::state::Stream;

/// One partition as one connection writes it.
pub(super) struct Slot {
    pub(super) stream: Stream,
    /// The frame up to the end of the stamp.
    pub(super) head: Vec<u8>,
    /// Where in the head the batch begins.
    pub(super) batch_at: usize,
    /// What follows the batch in the frame.
    pub(super) suffix: Bytes,
    pub(super) next_sequence: u64,
    pub(super) answered: u64,
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

/// The request for one partition, encoded.
pub(super) fn slot(
    spec: &ProduceSpec,
    topic: &Topic,
    template: &Template,
    version: Version,
    stream: Stream,
) -> Result<Slot> {
    let request = ProduceRequest {
        transactional_id: None,
        acks: spec.acks.number(),
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.name.clone().into(),
            topic_id: topic.id,
            partition_data: vec![PartitionProduceData {
                index: stream.partition,
                records: Some(template.bytes().clone()),
            }],
        }],
    };
    let frame = request_frame(0, version, &request)?;
    let head = &template.bytes()[..template.head_bytes()];
    let batch_at = frame.windows(head.len()).position(|w| w == head);
    let batch_at =
        batch_at.ok_or_else(|| Error::Peer("the request does not hold its batch".to_owned()))?;
    Ok(Slot {
        stream,
        head: frame[..batch_at + head.len()].to_vec(),
        batch_at,
        suffix: frame.slice(batch_at + template.bytes().len()..),
        next_sequence: 0,
        answered: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
