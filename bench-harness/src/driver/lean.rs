//! Produce and Fetch responses read in place, without building messages: what a generator core has to
//! do a million times. Flexible versions only (Produce 9, Fetch 12 and later: Kafka 2.7).

use millstream::protocol::{ApiKey, Version};

use crate::error::{Error, Result};

/// Refuses versions that cannot be read here.
///
/// # Errors
/// If the broker speaks only older ones.
pub fn flexible(key: ApiKey, version: Version) -> Result<Version> {
    if version.flexible {
        Ok(version)
    } else {
        Err(Error::Peer(format!(
            "{key:?} {} is the newest version in common; Kafka 2.7 or later is needed",
            version.number
        )))
    }
}

/// The answer to a request for one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The request's number.
    pub correlation_id: i32,
    /// The partition written.
    pub partition: i32,
    /// 0, or why it was not.
    pub error_code: i16,
    /// Where it was written.
    pub base_offset: i64,
}

/// Reads a Produce response for one partition; none if it is none.
#[must_use]
pub fn produce_ack(version: Version, frame: &[u8]) -> Option<Ack> {
    let mut scan = Scan { rest: frame };
    let correlation_id = scan.i32()?;
    scan.tags()?;
    if scan.count()? != 1 {
        return None;
    }
    scan.topic(version)?;
    if scan.count()? != 1 {
        return None;
    }
    Some(Ack {
        correlation_id,
        partition: scan.i32()?,
        error_code: scan.i16()?,
        base_offset: scan.i64()?,
    })
}

/// What a Fetch response says as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The request's number.
    pub correlation_id: i32,
    /// 0, or why there is nothing.
    pub error_code: i16,
}

/// One partition of a Fetch response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedPartition<'a> {
    /// Which.
    pub partition: i32,
    /// 0, or why there is nothing.
    pub error_code: i16,
    /// Its records.
    pub records: &'a [u8],
}

/// Reads a Fetch response and hands out its partitions; none if it is none.
pub fn fetched<'a>(
    version: Version,
    frame: &'a [u8],
    mut on_partition: impl FnMut(FetchedPartition<'a>),
) -> Option<Fetched> {
    let mut scan = Scan { rest: frame };
    let correlation_id = scan.i32()?;
    scan.tags()?;
    scan.i32()?; // throttle time
    let error_code = scan.i16()?;
    scan.i32()?; // session
    for _ in 0..scan.count()? {
        scan.topic(version)?;
        for _ in 0..scan.count()? {
            let partition = scan.i32()?;
            let error_code = scan.i16()?;
            scan.take(24)?; // high watermark, last stable offset, log start offset
            for _ in 0..scan.count()? {
                scan.take(16)?; // an aborted transaction
                scan.tags()?;
            }
            scan.i32()?; // preferred read replica
            let len = scan.count()?;
            let records = scan.take(len)?;
            scan.tags()?;
            on_partition(FetchedPartition { partition, error_code, records });
        }
        scan.tags()?;
    }
    scan.tags()?;
    scan.rest.is_empty().then_some(Fetched { correlation_id, error_code })
}

struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn uvarint(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array::<1>()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A compact length or count; null is none of it.
    fn count(&mut self) -> Option<usize> {
        self.uvarint().map(|n| n.saturating_sub(1))
    }

    /// A topic's id, or its name in older versions.
    fn topic(&mut self, version: Version) -> Option<()> {
        let len = if version.number >= 13 { 16 } else { self.count()? };
        self.take(len).map(|_| ())
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let len = self.uvarint()?;
            self.take(len)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millstream::protocol::messages::fetch::{FetchableTopicResponse, PartitionData};
    use millstream::protocol::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
    use millstream::protocol::messages::{FetchResponse, ProduceResponse};
    use millstream::protocol::{ErrorCode, Response, encode_response};

    use super::*;

    /// The response in every flexible version, as it follows the frame's length.
    fn encoded(key: ApiKey, response: impl Into<Response>) -> Vec<(Version, Bytes)> {
        let response = response.into();
        let versions = (0..=key.supported().max).filter_map(|n| key.version(n));
        versions
            .filter(|version| version.flexible)
            .map(|version| {
                let frame = encode_response(77, version, &response).unwrap();
                (version, frame.into_bytes().unwrap().slice(4..))
            })
            .collect()
    }

    #[test]
    fn acks_are_what_the_codec_wrote() {
        let partition = PartitionProduceResponse {
            index: 3,
            error_code: ErrorCode::NotLeaderOrFollower,
            base_offset: 1 << 40,
            error_message: Some("moved".into()),
            ..Default::default()
        };
        let response = ProduceResponse {
            responses: vec![TopicProduceResponse {
                name: "a topic".into(),
                partition_responses: vec![partition],
                ..Default::default()
            }],
            ..Default::default()
        };
        let all = encoded(ApiKey::Produce, response);
        assert!(all.len() >= 2);
        for (version, frame) in all {
            let expected =
                Ack { correlation_id: 77, partition: 3, error_code: 6, base_offset: 1 << 40 };
            assert_eq!(produce_ack(version, &frame), Some(expected), "{version:?}");
            for cut in 0..20 {
                assert_eq!(produce_ack(version, &frame[..cut]), None, "{version:?}");
            }
        }
    }

    #[test]
    fn fetched_partitions_are_what_the_codec_wrote() {
        let data = |partition_index, records: &'static [u8]| PartitionData {
            partition_index,
            records: Some(Bytes::from_static(records).into()),
            ..Default::default()
        };
        let topic = |partitions| FetchableTopicResponse {
            topic: "a topic".into(),
            partitions,
            ..Default::default()
        };
        let long: &[u8] = Box::leak(vec![7; 70_000].into_boxed_slice());
        let response = FetchResponse {
            responses: vec![topic(vec![data(0, b"abc"), data(9, b"")]), topic(vec![data(1, long)])],
            ..Default::default()
        };
        let all = encoded(ApiKey::Fetch, response);
        assert!(all.len() >= 2);
        for (version, frame) in all {
            let mut got = Vec::new();
            let whole = fetched(version, &frame, |p| got.push((p.partition, p.records)));
            assert_eq!(whole, Some(Fetched { correlation_id: 77, error_code: 0 }));
            assert_eq!(got, [(0, &b"abc"[..]), (9, b""), (1, long)]);
            let cut = &frame[..frame.len() - 1];
            assert_eq!(fetched(version, cut, |_| ()), None, "{version:?}");
        }
    }
}
