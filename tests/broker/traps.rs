//! Traps that other brokers fell into, one test each, as far as what they need is built. Those of topics
//! and configs are in `surface.rs` and `configs.rs`, those of groups in the tests of groups.

use millstream::client::Connection;
use millstream::protocol::messages::api_versions::ApiVersion;
use millstream::protocol::messages::fetch::{FetchPartition, FetchTopic};
use millstream::protocol::messages::*;
use millstream::protocol::{ApiKey, ErrorCode, Version};
use millstream::time::Clock;

use crate::broker::{Broker, scenario};
use crate::outcome::{Result, ensure, failure};
use crate::surface::{create, open, text, topic};
use crate::wire::{API_VERSIONS, Batch, Bytes, Connection as Wire};

fn version(api: ApiKey, number: i16) -> Result<Version> {
    api.version(number).ok_or_else(|| failure(format!("{api:?} {number} is not served")))
}

fn with(name: &str, body: impl FnOnce(&Broker, &mut Connection) -> Result<()>) -> Result<()> {
    scenario(name, |home| {
        let broker = Broker::start(home)?;
        let mut connection = open(&broker)?;
        body(&broker, &mut connection)?;
        broker.stop()
    })
}

/// librdkafka takes a broker without Produce 0 for one of old record formats (KAFKA-18659).
#[test]
fn produce_is_advertised_from_0_and_join_group_too() -> Result<()> {
    with("traps-versions", |_, connection| {
        let told = connection.call(&ApiVersionsRequest {
            client_software_name: text("t"),
            client_software_version: text("1"),
        })?;
        let range = |api: ApiKey| -> Option<(i16, i16)> {
            let row = |r: &&ApiVersion| r.api_key == api.number();
            told.api_keys.iter().find(row).map(|r| (r.min_version, r.max_version))
        };
        ensure(range(ApiKey::Produce) == Some((0, 13)), || format!("{told:?}"))?;
        ensure(range(ApiKey::JoinGroup).is_some_and(|r| r.0 == 0), || format!("{told:?}"))
    })
}

/// A client from the future must learn what there is.
#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() -> Result<()> {
    with("traps-future", |broker, _| {
        let mut answer = Wire::open(&broker.address)?.call(API_VERSIONS, 99, &Bytes::default())?;
        let (code, count) = (answer.i16()?, answer.i32()?);
        ensure(code == 35 && count > 20, || format!("code {code}, {count} APIs"))
    })
}

fn fetch_v12(connection: &mut Connection, fetch_offset: i64) -> Result<FetchResponse> {
    let partition =
        FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let request = FetchRequest {
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: text("t"),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    Ok(connection.call_in(version(ApiKey::Fetch, 12)?, &request)?)
}

/// librdkafka takes null records for an error.
#[test]
fn an_empty_fetch_has_records_of_no_length() -> Result<()> {
    with("traps-empty", |_, connection| {
        create(connection, vec![topic("t", 1, &[])], false)?;
        let response = fetch_v12(connection, 0)?;
        let data = response.responses.first().and_then(|t| t.partitions.first());
        let data = data.ok_or_else(|| failure("no partition"))?;
        let records = data.records.as_ref().and_then(|r| r.as_inline());
        ensure(records.is_some_and(bytes::Bytes::is_empty), || format!("{data:?}"))?;
        ensure(data.aborted_transactions.is_none(), || format!("{data:?}"))
    })
}

/// The client skips what lies before the offset it asked for.
#[test]
fn a_fetch_inside_a_batch_returns_the_whole_batch() -> Result<()> {
    with("traps-inside", |broker, connection| {
        create(connection, vec![topic("t", 1, &[])], false)?;
        let batch = Batch::of(&[b"a", b"b", b"c", b"d"], Clock::timestamp().0).encode();
        Wire::open(&broker.address)?.produce("t", 0, -1, &batch)?;
        for offset in 0..4 {
            let response = fetch_v12(connection, offset)?;
            let data = response.responses.first().and_then(|t| t.partitions.first());
            let records = data.and_then(|d| d.records.as_ref()).and_then(|r| r.as_inline());
            let len = records.map_or(0, bytes::Bytes::len);
            ensure(len == batch.len(), || format!("{len} bytes at offset {offset}"))?;
        }
        Ok(())
    })
}

/// Flexible headers from Metadata 9 on; from 11 on the cluster's operations are DescribeCluster's.
#[test]
fn metadata_is_answered_in_every_version_and_operations_move() -> Result<()> {
    with("traps-metadata", |_, connection| {
        create(connection, vec![topic("t", 1, &[])], false)?;
        for number in 0..=13 {
            let request = MetadataRequest {
                // Version 0 has no null: an empty list is all topics.
                topics: (number == 0).then(Vec::new),
                include_cluster_authorized_operations: (8..=10).contains(&number),
                include_topic_authorized_operations: number >= 8,
                ..Default::default()
            };
            let told = connection.call_in(version(ApiKey::Metadata, number)?, &request)?;
            let names: Vec<_> = told.topics.iter().filter_map(|t| t.name.clone()).collect();
            ensure(names == [text("t")], || format!("version {number}: {told:?}"))?;
            let cluster = if (8..=10).contains(&number) { 8096 } else { i32::MIN };
            ensure(told.cluster_authorized_operations == cluster, || {
                format!("{number}: {told:?}")
            })?;
        }
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            ..Default::default()
        };
        let told = connection.call(&request)?;
        ensure(told.cluster_authorized_operations == 8096, || format!("{told:?}"))?;
        ensure(told.error_code == ErrorCode::None, || format!("{told:?}"))
    })
}

/// What a client stores beside an offset comes back as it was, of any length up to the limit, or is
/// refused by name.
#[test]
fn metadata_of_commits_makes_the_round_trip() -> Result<()> {
    use millstream::protocol::messages::offset_commit::{
        OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    use millstream::protocol::messages::offset_fetch::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    };

    with("traps-metadata-of-commits", |_, connection| {
        create(connection, vec![topic("t", 5, &[])], false)?;
        let find =
            FindCoordinatorRequest { coordinator_keys: vec![text("g")], ..Default::default() };
        connection.call(&find)?;
        // Empty, null, not ASCII, the longest that is allowed, and one more (offset.metadata.max.bytes).
        let (longest, longer) = ("x".repeat(4096), "x".repeat(4097));
        let given = [Some(""), None, Some("gr\u{fc}n \u{1f33f}"), Some(&*longest), Some(&*longer)];
        let partitions =
            given.iter().zip(0..).map(|(given, partition_index)| OffsetCommitRequestPartition {
                partition_index,
                committed_offset: 7,
                committed_leader_epoch: 3,
                committed_metadata: given.map(text),
            });
        let request = OffsetCommitRequest {
            group_id: text("g"),
            topics: vec![OffsetCommitRequestTopic {
                name: text("t"),
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        // By name: version 10 would want the topic's id.
        let done = connection.call_in(version(ApiKey::OffsetCommit, 9)?, &request)?;
        let codes: Vec<_> =
            done.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
        let mut expected = vec![ErrorCode::None; 4];
        expected.push(ErrorCode::OffsetMetadataTooLarge);
        ensure(codes == expected, || format!("{codes:?}"))?;
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: text("g"),
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: text("t"),
                    partition_indexes: (0..5).collect(),
                    ..Default::default()
                }]),
                ..Default::default()
            }],
            ..Default::default()
        };
        let found = connection.call_in(version(ApiKey::OffsetFetch, 9)?, &request)?;
        let found: Vec<_> = found.groups.into_iter().flat_map(|g| g.topics).collect();
        let found: Vec<_> = found.into_iter().flat_map(|t| t.partitions).collect();
        for (partition, given) in found.iter().zip(given).take(4) {
            let metadata = partition.metadata.as_deref();
            // Null is stored as empty, as in Kafka.
            let good = partition.committed_offset == 7
                && partition.committed_leader_epoch == 3
                && metadata == Some(given.unwrap_or(""));
            ensure(good, || format!("{given:?} came back as {partition:?}"))?;
        }
        let refused = found.get(4).map(|p| p.committed_offset);
        ensure(found.len() == 5 && refused == Some(-1), || format!("{found:?}"))
    })
}

/// Groups that rebalance at the same moment take nothing from each other: no member is unknown, every
/// assignment is whole.
#[test]
fn three_groups_rebalance_at_once() -> Result<()> {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use rdkafka::consumer::Consumer;
    use rdkafka::error::RDKafkaErrorCode;

    scenario("traps-three-groups", |home| {
        let broker = Broker::start_with(home, 2, &[("group.initial.rebalance.delay.ms", "100")])?;
        crate::client::create(&broker.address, "t", 6)?;
        let mut members = Vec::new();
        // Each round brings a member to every group, while the others are still at work.
        for round in 0..3 {
            for group in ["a", "b", "c"] {
                let member = crate::groups::member(&broker.address, group, "t", &[])?;
                members.push((group, member));
            }
            let whole = || -> Result<Option<()>> {
                for (group, member) in &members {
                    if let Some(Err(error)) = member.poll(Duration::from_millis(10)) {
                        let code = error.rdkafka_error_code();
                        let unknown = code == Some(RDKafkaErrorCode::UnknownMemberId);
                        ensure(!unknown, || format!("group {group}: {error}"))?;
                    }
                }
                let mut owned: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
                for (group, member) in &members {
                    let assigned = member.assignment()?;
                    let mine =
                        assigned.elements().iter().map(|e| e.partition()).collect::<Vec<_>>();
                    // Everybody has a share: nobody's assignment is cut off.
                    if mine.len() != 6 / (round + 1) {
                        return Ok(None);
                    }
                    owned.entry(group).or_default().extend(mine);
                }
                let all = |partitions: &mut Vec<i32>| {
                    partitions.sort_unstable();
                    partitions.iter().copied().eq(0..6)
                };
                Ok(owned.values_mut().all(all).then_some(()))
            };
            crate::outcome::eventually("every group is whole", crate::broker::PATIENCE, whole)?;
        }
        drop(members);
        broker.stop()
    })
}
