//! Requests asked one at a time: what the broker speaks, topics and their leaders, offsets.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use millstream::protocol::messages::create_topics::CreatableTopic;
use millstream::protocol::messages::delete_topics::DeleteTopicState;
use millstream::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use millstream::protocol::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use millstream::protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, DeleteTopicsRequest,
    ListOffsetsRequest, MetadataRequest, MetadataResponse,
};
use millstream::protocol::{
    ApiKey, ApiRequest, ErrorCode, StrBytes, Version, decode_response, encode_request,
};
use millstream::time::Clock;
use millstream::types::Uuid;

use crate::error::{Doing, Error, Result};

/// The name under which the broker knows us.
pub const CLIENT_ID: &str = "millstream-bench";

/// How long a new topic may take until all its partitions have a leader.
const TOPIC_READY_WITHIN: Duration = Duration::from_secs(30);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The newest versions that both sides speak.
#[derive(Clone, Debug, Default)]
pub struct Versions(BTreeMap<i16, i16>);

impl Versions {
    /// The version to speak for an API.
    ///
    /// # Errors
    /// If there is none in common.
    pub fn of(&self, key: ApiKey) -> Result<Version> {
        let number = self.0.get(&key.number()).copied();
        number
            .and_then(|number| key.version(number))
            .ok_or_else(|| Error::Peer(format!("no common version of {key:?}")))
    }

    fn common(response: &ApiVersionsResponse) -> Versions {
        let newest = |offered: &millstream::protocol::messages::api_versions::ApiVersion| {
            let ours = ApiKey::from_number(offered.api_key)?.supported();
            let newest = ours.max.min(offered.max_version);
            (newest >= ours.min.max(offered.min_version)).then_some((offered.api_key, newest))
        };
        Versions(response.api_keys.iter().filter_map(newest).collect())
    }
}

/// A topic, and where its partitions are led.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, zero if the broker does not tell.
    pub id: Uuid,
    /// For each partition, in order, its leader's address.
    pub leaders: Vec<String>,
}

/// A connection on which one request waits for its answer before the next.
pub struct Control {
    stream: TcpStream,
    versions: Versions,
    correlation_id: i32,
}

impl Control {
    /// Connects and asks what the broker speaks.
    ///
    /// # Errors
    /// If nobody listens, or what does is no such broker.
    pub fn connect(address: &str) -> Result<Control> {
        let stream = TcpStream::connect(address).doing(format!("connecting to {address}"))?;
        stream.set_nodelay(true).doing("connecting")?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).doing("connecting")?;
        let mut control = Control { stream, versions: Versions::default(), correlation_id: 0 };
        // Version 0 is understood by all and says all we need.
        let version = ApiKey::ApiVersions
            .version(0)
            .ok_or_else(|| Error::Peer("ApiVersions 0".to_owned()))?;
        let response = control.call_in(version, &ApiVersionsRequest::default())?;
        check(response.error_code, "ApiVersions")?;
        control.versions = Versions::common(&response);
        Ok(control)
    }

    /// What both sides speak.
    #[must_use]
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// If the connection breaks, or the answer is none.
    pub fn call<R: ApiRequest>(&mut self, request: &R) -> Result<R::Response> {
        self.call_in(self.versions.of(R::KEY)?, request)
    }

    fn call_in<R: ApiRequest>(&mut self, version: Version, request: &R) -> Result<R::Response> {
        self.correlation_id += 1;
        let frame = request_frame(self.correlation_id, version, request)?;
        self.stream.write_all(&frame).doing("sending a request")?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).doing("waiting for an answer")?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > 256 << 20 {
            return Err(Error::Peer("an impossible frame length".to_owned()));
        }
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame).doing("reading an answer")?;
        let (header, response) = decode_response::<R::Response>(version, Bytes::from(frame))
            .map_err(|e| Error::Peer(format!("answer to {:?}: {e}", R::KEY)))?;
        if header.correlation_id != self.correlation_id {
            return Err(Error::Peer("an answer to another request".to_owned()));
        }
        Ok(response)
    }

    /// The topic; created with that many partitions (one replica each) if it does not exist.
    ///
    /// # Errors
    /// If it does not exist and `create` is `None`, cannot be created, or gets no leaders.
    pub fn topic(&mut self, name: &str, create: Option<i32>) -> Result<Topic> {
        let begin = Clock::monotonic();
        let mut asked = false;
        loop {
            let (response, topic) = self.describe(name)?;
            match (topic.error_code, create) {
                (ErrorCode::None, _) if topic.partitions.iter().all(|p| p.leader_id >= 0) => {
                    return led(name, &response, &topic);
                }
                (ErrorCode::UnknownTopicOrPartition, Some(partitions)) if !asked => {
                    self.create(name, partitions)?;
                    asked = true;
                }
                (ErrorCode::UnknownTopicOrPartition, None) => {
                    return Err(Error::Usage(format!("there is no topic {name}")));
                }
                (
                    ErrorCode::None
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::UnknownTopicOrPartition,
                    _,
                ) => {}
                (other, _) => check(other, &format!("topic {name}"))?,
            }
            if Clock::monotonic().since(begin) > TOPIC_READY_WITHIN {
                return Err(Error::Peer(format!("the partitions of {name} get no leaders")));
            }
            crate::pause(Duration::from_millis(20));
        }
    }

    fn describe(&mut self, name: &str) -> Result<(MetadataResponse, MetadataResponseTopic)> {
        let topic =
            MetadataRequestTopic { name: Some(name.to_owned().into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let response = self.call(&request)?;
        let topic = response.topics.iter().find(|t| t.name.as_deref() == Some(name)).cloned();
        let topic =
            topic.ok_or_else(|| Error::Peer("Metadata without the topic asked for".to_owned()))?;
        Ok((response, topic))
    }

    fn create(&mut self, name: &str, partitions: i32) -> Result<()> {
        let topic = CreatableTopic {
            name: name.to_owned().into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let response =
            self.call(&CreateTopicsRequest { topics: vec![topic], ..Default::default() })?;
        for result in response.topics {
            if result.error_code != ErrorCode::TopicAlreadyExists {
                check(result.error_code, &format!("creating {name}"))?;
            }
        }
        Ok(())
    }

    /// Deletes a topic and waits until it is gone.
    ///
    /// # Errors
    /// If the broker refuses, or the topic stays.
    pub fn delete(&mut self, name: &str) -> Result<()> {
        let state = DeleteTopicState { name: Some(name.to_owned().into()), ..Default::default() };
        let version = self.versions.of(ApiKey::DeleteTopics)?;
        let request = if version.number >= 6 {
            DeleteTopicsRequest { topics: vec![state], timeout_ms: 30_000, ..Default::default() }
        } else {
            let topic_names = vec![name.to_owned().into()];
            DeleteTopicsRequest { topic_names, timeout_ms: 30_000, ..Default::default() }
        };
        for result in self.call(&request)?.responses {
            check(result.error_code, &format!("deleting {name}"))?;
        }
        let begin = Clock::monotonic();
        while self.describe(name)?.1.error_code == ErrorCode::None {
            if Clock::monotonic().since(begin) > TOPIC_READY_WITHIN {
                return Err(Error::Peer(format!("{name} stays although it is deleted")));
            }
            crate::pause(Duration::from_millis(20));
        }
        Ok(())
    }

    /// One offset per partition: the first one after `timestamp`, or -1 for the latest and -2 for the
    /// earliest.
    ///
    /// # Errors
    /// If the broker does not say. All partitions must be led by this connection's broker.
    pub fn offsets(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        timestamp: i64,
    ) -> Result<Vec<i64>> {
        let partition = |index: &i32| ListOffsetsPartition {
            partition_index: *index,
            timestamp,
            ..Default::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic {
                name: topic.name.clone().into(),
                partitions: partitions.iter().map(partition).collect(),
            }],
            ..Default::default()
        };
        let response = self.call(&request)?;
        let mut found = BTreeMap::new();
        for partition in response.topics.iter().flat_map(|t| &t.partitions) {
            check(
                partition.error_code,
                &format!("offsets of {}-{}", topic.name, partition.partition_index),
            )?;
            found.insert(partition.partition_index, partition.offset);
        }
        let missing = || Error::Peer("ListOffsets without a partition asked for".to_owned());
        partitions.iter().map(|p| found.get(p).copied().ok_or_else(missing)).collect()
    }
}

/// First and next offsets of all partitions of a topic, each asked of its leader.
///
/// # Errors
/// If a leader does not say.
pub fn offset_ranges(topic: &Topic) -> Result<Vec<(i64, i64)>> {
    let mut ranges = vec![(0, 0); topic.leaders.len()];
    let mut by_leader: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (partition, leader) in (0..).zip(&topic.leaders) {
        by_leader.entry(leader).or_default().push(partition);
    }
    for (leader, partitions) in by_leader {
        let mut control = Control::connect(leader)?;
        let earliest = control.offsets(topic, &partitions, -2)?;
        let latest = control.offsets(topic, &partitions, -1)?;
        for ((partition, first), next) in partitions.iter().zip(earliest).zip(latest) {
            if let Some(range) = usize::try_from(*partition).ok().and_then(|p| ranges.get_mut(p)) {
                *range = (first, next);
            }
        }
    }
    Ok(ranges)
}

/// Waits until every leader of a topic that may be new serves its partitions: that a partition has a
/// leader is known before the leader knows the partition.
///
/// # Errors
/// If one does not in time.
pub fn wait_until_served(topic: &Topic) -> Result<()> {
    let begin = Clock::monotonic();
    loop {
        match offset_ranges(topic) {
            Ok(_) => return Ok(()),
            Err(error) if Clock::monotonic().since(begin) > TOPIC_READY_WITHIN => {
                return Err(error);
            }
            Err(_) => crate::pause(Duration::from_millis(20)),
        }
    }
}

/// A request as bytes.
///
/// # Errors
/// If the version cannot express it.
pub fn request_frame<R: ApiRequest>(
    correlation_id: i32,
    version: Version,
    request: &R,
) -> Result<Bytes> {
    encode_request(correlation_id, Some(StrBytes::from(CLIENT_ID)), version.number, request)
        .and_then(millstream::protocol::Frame::into_bytes)
        .map_err(|e| Error::Usage(format!("{:?}: {e}", R::KEY)))
}

fn led(name: &str, response: &MetadataResponse, topic: &MetadataResponseTopic) -> Result<Topic> {
    let addresses: BTreeMap<i32, String> =
        response.brokers.iter().map(|b| (b.node_id, format!("{}:{}", &*b.host, b.port))).collect();
    let mut leaders: Vec<(i32, String)> = Vec::new();
    for partition in &topic.partitions {
        let leader = addresses.get(&partition.leader_id);
        let leader = leader.ok_or_else(|| Error::Peer("a leader that is no broker".to_owned()))?;
        leaders.push((partition.partition_index, leader.clone()));
    }
    leaders.sort();
    if leaders.iter().zip(0..).any(|((index, _), expected)| *index != expected) {
        return Err(Error::Peer(format!("the partitions of {name} are not numbered from 0")));
    }
    let leaders = leaders.into_iter().map(|(_, address)| address).collect();
    Ok(Topic { name: name.to_owned(), id: topic.topic_id, leaders })
}

/// An error code where none is tolerated.
///
/// # Errors
/// Unless it is `None`.
pub fn check(code: ErrorCode, what: &str) -> Result<()> {
    if code == ErrorCode::None { Ok(()) } else { Err(Error::Peer(format!("{what}: {code:?}"))) }
}
