//! What the broker's own steps cost in processor time: the codec, the place of an append, the look-up of
//! a fetch. The CRC and the validation of batches are in `batches.rs`.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use millstream::config::GroupSettings;
use millstream::coordinator::{Command, GroupMachine, Now, Waiter};
use millstream::log::index::{IndexedBatch, SegmentIndex};
use millstream::log::{Log, LogSettings};
use millstream::protocol::messages::fetch::{
    FetchPartition, FetchTopic, FetchableTopicResponse, PartitionData,
};
use millstream::protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use millstream::protocol::messages::{
    FetchRequest, FetchResponse, OffsetCommitRequest, ProduceRequest,
};
use millstream::protocol::{ApiKey, Response, decode_request, encode_request, encode_response};
use millstream::time::Timestamp;
use millstream::types::LeaderEpoch;

fn produce_request(partitions: i32, batch_bytes: usize) -> ProduceRequest {
    let records = Bytes::from(vec![7; batch_bytes]);
    let data = |index| PartitionProduceData { index, records: Some(records.clone()) };
    ProduceRequest {
        acks: 1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            partition_data: (0..partitions).map(data).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetch_request(partitions: i32) -> FetchRequest {
    let partition = |partition| FetchPartition {
        partition,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        topics: vec![FetchTopic {
            partitions: (0..partitions).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for partitions in [1, 100] {
        let produce = encode_request(
            1,
            None,
            ApiKey::Produce.supported().max,
            &produce_request(partitions, 1024),
        );
        let fetch =
            encode_request(1, None, ApiKey::Fetch.supported().max, &fetch_request(partitions));
        for (name, frame) in [("decode Produce", produce), ("decode Fetch", fetch)] {
            let Ok(frame) = frame.and_then(|frame| frame.into_bytes()) else {
                unreachable!("requests of constant shape");
            };
            // Behind the frame's length.
            let frame = frame.slice(4..);
            group.bench_function(BenchmarkId::new(name, partitions), |b| {
                b.iter(|| decode_request(black_box(frame.clone())).is_ok());
            });
        }
        let data = |partition_index| PartitionData {
            partition_index,
            records: Some(Bytes::from_static(&[7; 64]).into()),
            ..Default::default()
        };
        let response: Response = FetchResponse {
            responses: vec![FetchableTopicResponse {
                partitions: (0..partitions).map(data).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
        .into();
        let version = ApiKey::Fetch.version(ApiKey::Fetch.supported().max);
        if let Some(version) = version {
            group.bench_function(BenchmarkId::new("encode Fetch response", partitions), |b| {
                b.iter(|| encode_response(1, version, black_box(&response)).is_ok());
            });
        }
    }
    group.finish();
}

/// The synchronous part of an append: segment, position and offsets of a batch.
fn append(criterion: &mut Criterion) {
    let settings =
        LogSettings { segment_bytes: 1 << 30, segment_ms: i64::MAX, index_interval_bytes: 4096 };
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Elements(1));
    group.bench_function("append, 64 KiB", |b| {
        b.iter_batched_ref(
            || Log::new(settings),
            |log| black_box(log.append(black_box(64 << 10), 63, Timestamp(1), LeaderEpoch(0))),
            BatchSize::NumIterations(10_000),
        );
    });
    group.finish();
}

fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("offset index");
    for batches in [1_000_i64, 100_000] {
        let mut index = SegmentIndex::empty();
        for batch in 0..batches {
            let noted = IndexedBatch {
                relative_offset: batch * 10 + 9,
                position: batch.unsigned_abs() * 10_240,
                len: 10_240,
                timestamp: Timestamp(batch),
            };
            index.note(&noted, 4096);
        }
        let end = batches.unsigned_abs() * 10_240;
        let mut asked = 0;
        group.bench_function(BenchmarkId::new("look-up", batches), |b| {
            b.iter(|| {
                // Steps of a prime: neighbouring look-ups are far from each other.
                asked = (asked + 7_919) % (batches * 10);
                black_box(index.position(black_box(asked), end))
            });
        });
    }
    group.finish();
}

/// The group machine's decision on a commit, and its replay: what a consumer's coordinator does most.
fn group_machine(criterion: &mut Criterion) {
    let settings = GroupSettings {
        initial_rebalance_delay: Duration::from_secs(3),
        session_timeout_ms_min: 6_000,
        session_timeout_ms_max: 1_800_000,
        members_max: usize::MAX,
        offset_metadata_max: 4096,
        offsets_retention_ms: 7 * 24 * 3_600_000,
        offsets_retention_check: Duration::from_secs(600),
        topic_partitions: 50,
        topic_segment_bytes: 100 << 20,
        batch_bytes_max: 1_048_588,
    };
    let now = Now::default();
    let mut group = criterion.benchmark_group("group machine");
    for partitions in [1, 100] {
        let partition = |partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: 1 << 40,
            ..Default::default()
        };
        let request = OffsetCommitRequest {
            group_id: "readers".into(),
            topics: vec![OffsetCommitRequestTopic {
                name: "activity".into(),
                partitions: (0..partitions).map(partition).collect(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let command = Command::Commit { version: 9, request };
        let mut machine = GroupMachine::new(settings);
        machine.loaded(now, |_| false);
        let mut commit = || {
            let outcome = machine.handle(now, Waiter(1), black_box(&command));
            for record in &outcome.records {
                machine.replay(now, record);
            }
            outcome.records.len()
        };
        assert_eq!(i32::try_from(commit()), Ok(partitions), "every partition is committed");
        group.bench_function(BenchmarkId::new("commit and replay", partitions), |b| {
            b.iter(&mut commit);
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    codec(&mut criterion);
    append(&mut criterion);
    index(&mut criterion);
    group_machine(&mut criterion);
    criterion.final_summary();
}
