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
