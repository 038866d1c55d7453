//! The admin APIs asked directly: what a single broker answers truthfully, with Kafka's codes and words.

use std::time::Duration;

use millstream::client::Connection;
use millstream::protocol::messages::alter_partition_reassignments::{
    ReassignablePartition, ReassignableTopic,
};
use millstream::protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use millstream::protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use millstream::protocol::messages::delete_topics::DeleteTopicState;
use millstream::protocol::messages::describe_log_dirs::DescribableLogDirTopic;
use millstream::protocol::messages::describe_quorum::{
    PartitionRequest, TopicRequest as QuorumTopic,
};
use millstream::protocol::messages::describe_topic_partitions::{Cursor, TopicRequest};
use millstream::protocol::messages::elect_leaders::TopicPartitions;
use millstream::protocol::messages::metadata::MetadataRequestTopic;
use millstream::protocol::messages::*;
use millstream::protocol::{ErrorCode, StrBytes};
use millstream::types::Uuid;

use crate::broker::{Broker, Home, PATIENCE, scenario};
use crate::outcome::{Result, ensure, failure};
use crate::wire::{Batch, Connection as Wire};

pub(crate) fn open(broker: &Broker) -> Result<Connection> {
    Ok(Connection::open(&broker.address, PATIENCE)?)
}

pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from(value.to_owned())
}

/// A topic to create, with configs.
pub(crate) fn topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    CreatableTopic {
        name: text(name),
        num_partitions: partitions,
        replication_factor: -1,
        configs: configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: text(name),
                value: Some(text(value)),
            })
            .collect(),
        ..Default::default()
    }
}

/// Creates topics; each row's name, code and message.
pub(crate) fn create(
    connection: &mut Connection,
    topics: Vec<CreatableTopic>,
    validate_only: bool,
) -> Result<Vec<(String, ErrorCode, String)>> {
    let request = CreateTopicsRequest { topics, validate_only, ..Default::default() };
    let response = connection.call(&request)?;
    Ok(response
        .topics
        .into_iter()
        .map(|t| {
            let why = t.error_message.unwrap_or_default().to_string();
            (t.name.to_string(), t.error_code, why)
        })
        .collect())
}

fn with_broker(
    name: &str,
    body: impl FnOnce(&Home, &Broker, &mut Connection) -> Result<()>,
) -> Result<()> {
    scenario(name, |home| {
        let broker = Broker::start(home)?;
        let mut connection = open(&broker)?;
        body(home, &broker, &mut connection)?;
        broker.stop()
    })
}

/// Fails unless the only row has this code and this text in its message.
fn refused(rows: &[(String, ErrorCode, String)], code: ErrorCode, says: &str) -> Result<()> {
    let good = matches!(rows, [(_, found, why)] if *found == code && why.contains(says));
    ensure(good, || format!("{rows:?} is not {code:?} with '{says}'"))
}

#[test]
fn create_topics_checks_names_limits_and_assignments() -> Result<()> {
    with_broker("surface-create", |_, _, connection| {
        let assigned = |partitions: &[(i32, &[i32])]| CreatableTopic {
            num_partitions: -1,
            assignments: partitions
                .iter()
                .map(|(partition_index, brokers)| CreatableReplicaAssignment {
                    partition_index: *partition_index,
                    broker_ids: brokers.to_vec(),
                })
                .collect(),
            ..topic("assigned", -1, &[])
        };
        let many = CreatableTopic { replication_factor: 3, ..topic("t", 1, &[]) };
        use ErrorCode as E;
        let cases = [
            (topic("t", 0, &[]), E::InvalidPartitions, "invalid non-positive value"),
            (topic("t", 10_001, &[]), E::PolicyViolation, "a topic may have 10000"),
            (many, E::InvalidReplicationFactor, "only 1 broker(s) are registered"),
            (topic("a b", 1, &[]), E::InvalidTopicException, "'a b'"),
            (topic("t", 1, &[("retention.mss", "1")]), E::InvalidConfig, "Unknown topic config"),
            (
                topic("t", 1, &[("retention.ms", "x")]),
                E::InvalidConfig,
                "Not a number of type LONG",
            ),
            (assigned(&[(0, &[2])]), E::InvalidReplicaAssignment, "includes broker 2"),
            (assigned(&[(0, &[])]), E::InvalidReplicaAssignment, "empty replica list"),
            (assigned(&[(0, &[1, 1])]), E::InvalidReplicaAssignment, "more than once"),
            (assigned(&[(0, &[1]), (0, &[1])]), E::InvalidReplicaAssignment, "Found multiple"),
            (assigned(&[(1, &[1])]), E::InvalidReplicaAssignment, "consecutive 0-based"),
        ];
        for (topic, code, says) in cases {
            refused(&create(connection, vec![topic], false)?, code, says)?;
        }
        let ok = create(connection, vec![assigned(&[(1, &[1]), (0, &[1])])], false)?;
        refused(&ok, E::None, "")?;
        let again = create(connection, vec![topic("assigned", 1, &[])], false)?;
        refused(&again, E::TopicAlreadyExists, "Topic 'assigned' already exists.")?;
        let doubled = create(connection, vec![topic("d", 1, &[]), topic("d", 1, &[])], false)?;
        refused(&doubled, E::InvalidRequest, "Duplicate topic name.")?;
        // Only checked: it is not there afterwards.
        let checked = create(connection, vec![topic("checked", 2, &[])], true)?;
        refused(&checked, E::None, "")?;
        let metadata = connection.call(&MetadataRequest { topics: None, ..Default::default() })?;
        let names: Vec<_> = metadata.topics.iter().filter_map(|t| t.name.clone()).collect();
        ensure(names == [text("assigned")], || format!("{names:?}"))?;

        let request = CreateTopicsRequest {
            topics: vec![topic("told", 3, &[("retention.ms", "5")])],
            ..Default::default()
        };
        let response = connection.call(&request)?;
        let told = response.topics.first().ok_or_else(|| failure("no row"))?;
        ensure((told.num_partitions, told.replication_factor) == (3, 1), || format!("{told:?}"))?;
        ensure(told.topic_id != Uuid::nil(), || format!("{told:?}"))?;
        let configs = told.configs.clone().unwrap_or_default();
        let config = |name: &str| configs.iter().find(|c| *c.name == *name).cloned();
        let retention = config("retention.ms").ok_or_else(|| failure("no retention.ms"))?;
        ensure(retention.value == Some(text("5")) && retention.config_source == 1, || {
            format!("{retention:?}")
        })?;
        let segment = config("segment.bytes").ok_or_else(|| failure("no segment.bytes"))?;
        ensure(segment.value == Some(text("1073741824")) && segment.config_source == 5, || {
            format!("{segment:?}")
        })?;
        ensure(configs.len() > 30, || format!("{} configs told", configs.len()))
    })
}

#[test]
fn create_partitions_grows_topics_for_good() -> Result<()> {
    scenario("surface-partitions", |home| {
        let broker = Broker::start(home)?;
        let mut connection = open(&broker)?;
        create(&mut connection, vec![topic("grows", 2, &[]), topic("stays", 2, &[])], false)?;
        let more = |name: &str, count, assignments: Option<&[&[i32]]>| CreatePartitionsTopic {
            name: text(name),
            count,
            assignments: assignments.map(|assignments| {
                let one = |ids: &&[i32]| CreatePartitionsAssignment { broker_ids: ids.to_vec() };
                assignments.iter().map(one).collect()
            }),
        };
        let ask = |connection: &mut Connection, topics, validate_only| -> Result<Vec<_>> {
            let request = CreatePartitionsRequest { topics, validate_only, ..Default::default() };
            let rows = connection.call(&request)?.results.into_iter();
            Ok(rows
                .map(|r| {
                    let why = r.error_message.unwrap_or_default().to_string();
                    (r.name.to_string(), r.error_code, why)
                })
                .collect())
        };
        use ErrorCode as E;
        for (topics, code, says) in [
            (vec![more("nope", 3, None)], E::UnknownTopicOrPartition, ""),
            (vec![more("grows", 2, None)], E::InvalidPartitions, "already has 2 partition(s)"),
            (vec![more("grows", 1, None)], E::InvalidPartitions, "would not be an increase"),
            (
                vec![more("grows", 4, Some(&[&[1]]))],
                E::InvalidReplicaAssignment,
                "add 2 additional partition(s), but only 1 assignment(s)",
            ),
            (vec![more("grows", 3, Some(&[&[9]]))], E::InvalidReplicaAssignment, "broker 9"),
            (vec![more("grows", 3, None), more("grows", 4, None)], E::InvalidRequest, "Duplicate"),
        ] {
            refused(&ask(&mut connection, topics, false)?, code, says)?;
        }
        refused(&ask(&mut connection, vec![more("stays", 9, None)], true)?, E::None, "")?;
        // Rows come back in the order of the request (a trap other brokers fell into).
        let rows = ask(
            &mut connection,
            vec![more("nope", 3, None), more("grows", 5, Some(&[&[1], &[1], &[1]]))],
            false,
        )?;
        let codes: Vec<_> = rows.iter().map(|(name, code, _)| (name.as_str(), *code)).collect();
        ensure(codes == [("nope", E::UnknownTopicOrPartition), ("grows", E::None)], || {
            format!("{rows:?}")
        })?;
        let batch = Batch::of(&[b"new"], millstream::time::Clock::timestamp().0).encode();
        let produced = Wire::open(&broker.address)?.produce("grows", 4, -1, &batch)?;
        ensure(produced == Some((0, 0)), || format!("{produced:?}"))?;
        broker.kill()?;

        let broker = Broker::start(home)?;
        let mut connection = open(&broker)?;
        let metadata = connection.call(&MetadataRequest { topics: None, ..Default::default() })?;
        let counts: Vec<_> = metadata.topics.iter().map(|t| t.partitions.len()).collect();
        ensure(counts == [5, 2], || format!("{counts:?}"))?;
        let end = Wire::open(&broker.address)?.log_end("grows", 4)?;
        ensure(end == 1, || format!("partition 4 ends at {end}"))?;
        broker.stop()
    })
}

#[test]
fn delete_topics_says_what_is_wrong() -> Result<()> {
    with_broker("surface-delete", |_, _, connection| {
        create(connection, vec![topic("a", 1, &[]), topic("b", 1, &[])], false)?;
        let state =
            |name: Option<&str>, topic_id| DeleteTopicState { name: name.map(text), topic_id };
        let request = DeleteTopicsRequest {
            topics: vec![
                state(Some("a"), Uuid::nil()),
                state(Some("a"), Uuid::nil()),
                state(None, Uuid::nil()),
                state(Some("b"), Uuid::from_u128(7)),
                state(None, Uuid::from_u128(7)),
                state(Some("b"), Uuid::nil()),
            ],
            ..Default::default()
        };
        let codes: Vec<_> =
            connection.call(&request)?.responses.iter().map(|r| r.error_code).collect();
        use ErrorCode as E;
        let expected = [
            E::InvalidRequest,
            E::InvalidRequest,
            E::InvalidRequest,
            E::InvalidRequest,
            E::UnknownTopicId,
            E::None,
        ];
        ensure(codes == expected, || format!("{codes:?}"))
    })
}

#[test]
fn metadata_creates_only_what_is_allowed() -> Result<()> {
    with_broker("surface-metadata", |_, _, connection| {
        let ask = |connection: &mut Connection, name: &str, create| -> Result<MetadataResponse> {
            let topic = MetadataRequestTopic { name: Some(text(name)), ..Default::default() };
            Ok(connection.call(&MetadataRequest {
                topics: Some(vec![topic]),
                allow_auto_topic_creation: create,
                include_topic_authorized_operations: true,
                ..Default::default()
            })?)
        };
        let one = |response: MetadataResponse| {
            response.topics.into_iter().next().ok_or_else(|| failure("no topic"))
        };
        let missing = one(ask(connection, "made", false)?)?;
        ensure(missing.error_code == ErrorCode::UnknownTopicOrPartition, || {
            format!("{missing:?}")
        })?;
        let bad = one(ask(connection, "a b", true)?)?;
        ensure(bad.error_code == ErrorCode::InvalidTopicException, || format!("{bad:?}"))?;
        let made = one(ask(connection, "made", true)?)?;
        ensure(made.error_code == ErrorCode::None && made.partitions.len() == 1, || {
            format!("{made:?}")
        })?;
        ensure(made.topic_authorized_operations == 0xdf8, || format!("{made:?}"))
    })
}

#[test]
fn topics_are_described_page_by_page() -> Result<()> {
    with_broker("surface-pages", |_, _, connection| {
        let topics = ["a", "b", "c"].map(|name| topic(name, 3, &[])).to_vec();
        create(connection, topics, false)?;
        let mut cursor = None;
        let mut seen = Vec::new();
        loop {
            let request = DescribeTopicPartitionsRequest {
                response_partition_limit: 2,
                cursor,
                ..Default::default()
            };
            let page = connection.call(&request)?;
            let count: usize = page.topics.iter().map(|topic| topic.partitions.len()).sum();
            ensure(count <= 2, || format!("{count} partitions on a page of 2"))?;
            for topic in &page.topics {
                let name = topic.name.clone().unwrap_or_default();
                seen.extend(
                    topic.partitions.iter().map(|p| format!("{name}-{}", p.partition_index)),
                );
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let all: Vec<_> = ["a", "b", "c"]
            .iter()
            .flat_map(|name| (0..3).map(move |p| format!("{name}-{p}")))
            .collect();
        ensure(seen == all, || format!("{seen:?}"))?;
        let named = DescribeTopicPartitionsRequest {
            topics: ["c", "x", "a"].map(|name| TopicRequest { name: text(name) }).to_vec(),
            cursor: Some(Cursor { topic_name: text("c"), partition_index: 2 }),
            ..Default::default()
        };
        let page = connection.call(&named)?;
        let told: Vec<_> = page.topics.iter().map(|t| (t.error_code, t.partitions.len())).collect();
        let expected = [(ErrorCode::None, 1), (ErrorCode::UnknownTopicOrPartition, 0)];
        ensure(told == expected, || format!("{told:?}"))
    })
}

#[test]
fn one_broker_holds_leads_and_votes() -> Result<()> {
    with_broker("surface-truth", |home, broker, connection| {
        create(connection, vec![topic("t", 2, &[])], false)?;
        let batch = Batch::of(&[&[7; 5000]], millstream::time::Clock::timestamp().0).encode();
        Wire::open(&broker.address)?.produce("t", 1, -1, &batch)?;

        let wanted = DescribableLogDirTopic { topic: text("t"), partitions: vec![0, 1, 7] };
        for topics in [None, Some(vec![wanted])] {
            let dirs = connection.call(&DescribeLogDirsRequest { topics })?;
            let dir = dirs.results.first().ok_or_else(|| failure("no directory"))?;
            let absolute = std::path::absolute(home.data())?;
            ensure(*dir.log_dir == *absolute.to_string_lossy(), || format!("{dir:?}"))?;
            ensure(dir.total_bytes >= dir.usable_bytes && dir.usable_bytes > 0, || {
                format!("{dir:?}")
            })?;
            let sizes: Vec<_> = dir
                .topics
                .iter()
                .flat_map(|t| t.partitions.iter().map(|p| (p.partition_index, p.partition_size)))
                .collect();
            ensure(sizes == [(0, 0), (1, i64::try_from(batch.len())?)], || format!("{sizes:?}"))?;
        }

        use ErrorCode as E;
        let partitions = vec![0, 2];
        let asked = vec![
            TopicPartitions { topic: text("t"), partitions },
            TopicPartitions { topic: text("x"), partitions: vec![0] },
        ];
        let elected = connection
            .call(&ElectLeadersRequest { topic_partitions: Some(asked), ..Default::default() })?;
        let codes: Vec<_> = elected
            .replica_election_results
            .iter()
            .flat_map(|t| t.partition_result.iter().map(|p| p.error_code))
            .collect();
        let unknown = E::UnknownTopicOrPartition;
        ensure(codes == [E::ElectionNotNeeded, unknown, unknown], || format!("{codes:?}"))?;
        let bad =
            connection.call(&ElectLeadersRequest { election_type: 5, ..Default::default() })?;
        ensure(bad.error_code == E::InvalidRequest, || format!("{bad:?}"))?;

        let reassign = |partition_index, replicas: Option<&[i32]>| ReassignablePartition {
            partition_index,
            replicas: replicas.map(<[i32]>::to_vec),
        };
        let moves = vec![
            reassign(0, Some(&[1])),
            reassign(1, Some(&[2])),
            reassign(1, None),
            reassign(9, Some(&[1])),
        ];
        let moved = connection.call(&AlterPartitionReassignmentsRequest {
            topics: vec![ReassignableTopic { name: text("t"), partitions: moves }],
            ..Default::default()
        })?;
        let codes: Vec<_> = moved
            .responses
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| p.error_code))
            .collect();
        let expected = [E::None, E::InvalidReplicaAssignment, E::NoReassignmentInProgress, unknown];
        ensure(codes == expected, || format!("{codes:?}"))?;
        let listed = connection.call(&ListPartitionReassignmentsRequest::default())?;
        ensure(listed.topics.is_empty() && listed.error_code == E::None, || format!("{listed:?}"))?;

        let quorum = |topic_name: &str| DescribeQuorumRequest {
            topics: vec![QuorumTopic {
                topic_name: text(topic_name),
                partitions: vec![PartitionRequest { partition_index: 0 }],
            }],
        };
        let told = connection.call(&quorum("__cluster_metadata"))?;
        let partition = told.topics.first().and_then(|t| t.partitions.first());
        let partition = partition.ok_or_else(|| failure("no partition"))?;
        let voters: Vec<_> = partition.current_voters.iter().map(|v| v.replica_id).collect();
        ensure(partition.leader_id == 1 && voters == [1], || format!("{partition:?}"))?;
        ensure(partition.high_watermark > 0, || format!("{partition:?}"))?;
        let other = connection.call(&quorum("t"))?;
        let code = other.topics.first().and_then(|t| t.partitions.first()).map(|p| p.error_code);
        ensure(code == Some(unknown), || format!("{other:?}"))?;

        let resources =
            |types: &[i8]| ListConfigResourcesRequest { resource_types: types.to_vec() };
        let listed = connection.call(&resources(&[]))?;
        let names: Vec<_> = listed
            .config_resources
            .iter()
            .map(|r| (r.resource_type, r.resource_name.to_string()))
            .collect();
        let expected = [(8, "1"), (4, "1"), (2, "t")].map(|(t, n)| (t, n.to_owned()));
        ensure(names == expected, || format!("{names:?}"))?;
        let bad = connection.call(&resources(&[3]))?;
        ensure(bad.error_code == E::UnsupportedVersion, || format!("{bad:?}"))
    })
}

#[test]
fn a_client_that_waits_is_told_in_the_end() -> Result<()> {
    // The client itself: nobody listens, and somebody listens but says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?.to_string();
    let lost = Connection::open(&address, Duration::from_millis(200));
    let why = lost.err().map(|error| error.to_string()).unwrap_or_default();
    ensure(why.contains("it took too long"), || why.clone())?;
    drop(silent);
    let refused = Connection::open(&address, PATIENCE);
    let why = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure(why.contains("cannot connect"), || why.clone())
}
