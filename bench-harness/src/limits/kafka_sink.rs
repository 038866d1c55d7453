//! A broker that throws everything away: it speaks as much of Kafka's protocol as a producer needs and
//! answers each Produce request as soon as it is there. What a generator drives it with is what the
//! generator can do.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::AsFd;

use bytes::Bytes;
use millstream::protocol::messages::create_topics::CreatableTopicResult;
use millstream::protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream::protocol::messages::metadata::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millstream::protocol::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use millstream::protocol::messages::{
    ApiVersionsResponse, CreateTopicsResponse, ListOffsetsResponse, MetadataResponse,
    ProduceResponse,
};
use millstream::protocol::{
    ApiKey, ErrorCode, Request, Response, advertised, decode_request, encode_response,
};
use millstream::types::Uuid;

use crate::driver::wire::Wire;
use crate::error::{Doing, Error, Result};
use crate::poll::Poll;

const LISTENER: usize = usize::MAX - 1;
const INPUT: usize = usize::MAX - 2;
const TOPIC_ID: u128 = 7;

/// Serves until the input closes.
pub(super) fn serve(listener: &TcpListener) -> Result<()> {
    listener.set_nonblocking(true).doing("listening")?;
    let port = listener.local_addr().doing("listening")?.port();
    let mut sink =
        Sink { port: i32::from(port), topics: BTreeMap::new(), answers: BTreeMap::new() };
    let input = std::io::stdin();
    let mut poll = Poll::new().doing("epoll")?;
    poll.add(listener.as_fd(), LISTENER, false).doing("epoll")?;
    poll.add(input.as_fd(), INPUT, false).doing("epoll")?;
    let mut wires: Vec<Option<Wire>> = Vec::new();
    let mut ready = Vec::new();
    loop {
        poll.wait(None, &mut ready).doing("epoll")?;
        for event in &ready {
            match event.token {
                INPUT => {
                    if input.lock().read(&mut [0; 64]).doing("reading the input")? == 0 {
                        return Ok(());
                    }
                }
                LISTENER => {
                    let (stream, _) = listener.accept().doing("accepting")?;
                    let wire = Wire::from_stream(stream)?;
                    poll.add(&wire, wires.len(), false).doing("epoll")?;
                    wires.push(Some(wire));
                }
                token => {
                    let Some(Some(wire)) = wires.get_mut(token) else { continue };
                    if sink.turn(wire).is_ok_and(|open| open) {
                        poll.modify(&*wire, token, !wire.is_flushed()).doing("epoll")?;
                    } else {
                        wires[token] = None;
                    }
                }
            }
        }
    }
}

struct Sink {
    port: i32,
    topics: BTreeMap<String, i32>,
    /// The answers to Produce requests with their correlation ids to be filled in, by version and the
    /// number of the partition.
    answers: BTreeMap<(i16, i32), Vec<u8>>,
}

impl Sink {
    fn turn(&mut self, wire: &mut Wire) -> Result<bool> {
        let mut answers: Vec<Vec<u8>> = Vec::new();
        let open = wire.receive(|frame| {
            if let Some(answer) = self.answer(frame)? {
                answers.push(answer);
            }
            Ok(())
        })?;
        for answer in answers {
            wire.queue_copy(&answer);
        }
        wire.flush()?;
        Ok(open)
    }

    fn answer(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>> {
        let key = frame.first_chunk::<2>().map(|b| i16::from_be_bytes(*b));
        if key == Some(ApiKey::Produce.number()) {
            return self.produced(frame);
        }
        let broken = |e: &dyn std::fmt::Display| Error::Peer(e.to_string());
        let (header, request) =
            decode_request(Bytes::copy_from_slice(frame)).map_err(|e| broken(&e))?;
        let response: Response = match request {
            Request::ApiVersions(_) => {
                ApiVersionsResponse { api_keys: advertised(), ..Default::default() }.into()
            }
            Request::CreateTopics(request) => {
                let mut topics = Vec::new();
                for topic in request.topics {
                    self.topics.insert(topic.name.to_string(), topic.num_partitions.max(1));
                    topics.push(CreatableTopicResult { name: topic.name, ..Default::default() });
                }
                CreateTopicsResponse { topics, ..Default::default() }.into()
            }
            Request::Metadata(request) => {
                let names = request.topics.iter().flatten().filter_map(|t| t.name.as_deref());
                self.metadata(names).into()
            }
            Request::ListOffsets(request) => {
                let topics = request.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
                    name: topic.name,
                    partitions: topic
                        .partitions
                        .iter()
                        .map(|p| ListOffsetsPartitionResponse {
                            partition_index: p.partition_index,
                            offset: 0,
                            ..Default::default()
                        })
                        .collect(),
                });
                ListOffsetsResponse { topics: topics.collect(), ..Default::default() }.into()
            }
            other => return Err(Error::Peer(format!("the sink does not serve {other:?}"))),
        };
        let encoded = encode_response(header.correlation_id, header.api_version, &response);
        let frame = encoded.and_then(|f| f.into_bytes()).map_err(|e| broken(&e))?;
        Ok(Some(frame.to_vec()))
    }

    fn metadata<'a>(&self, names: impl Iterator<Item = &'a str>) -> MetadataResponse {
        let topic = |name: &'a str| {
            let partitions = self.topics.get(name).copied();
            let partition =
                |i| MetadataResponsePartition { partition_index: i, ..Default::default() };
            MetadataResponseTopic {
                name: Some(name.to_owned().into()),
                topic_id: Uuid::from_u128(TOPIC_ID),
                error_code: match partitions {
                    Some(_) => ErrorCode::None,
                    None => ErrorCode::UnknownTopicOrPartition,
                },
                partitions: (0..partitions.unwrap_or(0)).map(partition).collect(),
                ..Default::default()
            }
        };
        let broker = MetadataResponseBroker {
            host: "127.0.0.1".into(),
            port: self.port,
            ..Default::default()
        };
        MetadataResponse {
            brokers: vec![broker],
            topics: names.map(topic).collect(),
            ..Default::default()
        }
    }

    /// The answer to a Produce request for one partition, made once for each version and partition. Only
    /// as much of the request is read as says which partition it is for.
    fn produced(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>> {
        let number = |at: usize| frame.get(at..at + 2).map(|b| i16::from_be_bytes([b[0], b[1]]));
        let version = number(2).ok_or_else(|| Error::Peer("a cut request".to_owned()))?;
        let correlation = frame.get(4..8).ok_or_else(|| Error::Peer("a cut request".to_owned()))?;
        let (acks, partition) = produce_head(frame, version)
            .ok_or_else(|| Error::Peer("a Produce request of another shape".to_owned()))?;
        if acks == 0 {
            return Ok(None);
        }
        let mut answer = match self.answers.entry((version, partition)) {
            Entry::Occupied(made) => made.get().clone(),
            Entry::Vacant(vacant) => vacant.insert(acknowledgement(version, partition)?).clone(),
        };
        if let Some(field) = answer.get_mut(4..8) {
            field.copy_from_slice(correlation);
        }
        Ok(Some(answer))
    }
}

/// An acknowledgement with an empty correlation id.
fn acknowledgement(version: i16, partition: i32) -> Result<Vec<u8>> {
    let partition_responses =
        vec![PartitionProduceResponse { index: partition, ..Default::default() }];
    let topic = TopicProduceResponse {
        topic_id: Uuid::from_u128(TOPIC_ID),
        partition_responses,
        ..Default::default()
    };
    let response = ProduceResponse { responses: vec![topic], ..Default::default() };
    let spoken = ApiKey::Produce.version(version);
    let spoken = spoken.ok_or_else(|| Error::Peer("a version not served".to_owned()))?;
    let frame = encode_response(0, spoken, &response.into()).and_then(|f| f.into_bytes());
    frame.map(|f| f.to_vec()).map_err(|e| Error::Peer(e.to_string()))
}

/// The acknowledgement asked for and the partition of a request for one, in flexible versions.
fn produce_head(frame: &[u8], version: i16) -> Option<(i16, i32)> {
    let mut at = 8;
    let client = usize::from(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    at += 2 + if client == 0xffff { 0 } else { client };
    at += 1; // tags of the header
    at += 1; // no transactional id
    let acks = i16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
    at += 2 + 4; // acks, timeout
    at += 1; // one topic
    at += if version >= 13 { 16 } else { usize::from(*frame.get(at)?) };
    at += 1; // one partition
    let partition = frame.get(at..at + 4)?.first_chunk::<4>()?;
    Some((acks, i32::from_be_bytes(*partition)))
}
