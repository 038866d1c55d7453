//! DescribeLogDirs: the data directory, what is in it, and how much room is left.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Dispatch, ReplyHeader, text};
use crate::protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::shard::Shard;
use crate::shard::message::{Call, Reply};
use crate::types::{ShardId, TopicPartition};

pub(super) fn handle(
    shard: &Rc<Shard>,
    reply: ReplyHeader,
    request: DescribeLogDirsRequest,
) -> Dispatch {
    let shard = Rc::clone(shard);
    Dispatch::later(async move {
        let topics = topics(&shard, &request).await;
        let directory = &shard.broker().config.log_dir;
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
        let (total_bytes, usable_bytes) = room(&absolute).unwrap_or((-1, -1));
        let result = DescribeLogDirsResult {
            log_dir: text(absolute.to_string_lossy()),
            topics,
            total_bytes,
            usable_bytes,
            ..Default::default()
        };
        reply.answer(DescribeLogDirsResponse { results: vec![result], ..Default::default() })
    })
}

/// Size of the file system, and what this process may still take of it.
fn room(directory: &std::path::Path) -> Option<(i64, i64)> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).ok();
    Some((bytes(disk.f_blocks)?, bytes(disk.f_bavail)?))
}

/// The partitions that were asked for, as far as they are here.
fn asked(shard: &Shard, request: &DescribeLogDirsRequest) -> BTreeMap<String, Vec<TopicPartition>> {
    let image = shard.image();
    let mut asked: BTreeMap<String, Vec<TopicPartition>> = BTreeMap::new();
    match &request.topics {
        None => {
            for topic in image.topics() {
                let all = (0..topic.partitions)
                    .map(|partition| TopicPartition { topic: topic.id, partition });
                asked.insert(topic.name.clone(), all.collect());
            }
        }
        Some(topics) => {
            for wanted in topics {
                let Some(topic) = image.by_name(&wanted.topic) else { continue };
                let here = wanted.partitions.iter().filter(|p| (0..topic.partitions).contains(p));
                let here = here.map(|p| TopicPartition { topic: topic.id, partition: *p });
                asked.entry(topic.name.clone()).or_default().extend(here);
            }
        }
    }
    asked
}

async fn topics(shard: &Rc<Shard>, request: &DescribeLogDirsRequest) -> Vec<DescribeLogDirsTopic> {
    let asked = asked(shard, request);
    let mut by_owner: BTreeMap<ShardId, Vec<TopicPartition>> = BTreeMap::new();
    for id in asked.values().flatten() {
        by_owner.entry(shard.owner(*id)).or_default().push(*id);
    }
    let mut sizes: BTreeMap<TopicPartition, Option<u64>> = BTreeMap::new();
    let mut calls = Vec::new();
    for (owner, ids) in by_owner {
        if owner == shard.id() {
            sizes.extend(ids.into_iter().map(|id| (id, shard.store().size(id))));
        } else {
            calls.push((ids.clone(), shard.router().call(owner, Call::Sizes(ids))));
        }
    }
    for (ids, call) in calls {
        if let Reply::Sizes(found) = call.await {
            sizes.extend(ids.into_iter().zip(found));
        }
    }
    let mut topics = Vec::new();
    for (name, ids) in asked {
        let partitions: Vec<DescribeLogDirsPartition> = ids
            .iter()
            .filter_map(|id| {
                let size = sizes.get(id).copied().flatten()?;
                Some(DescribeLogDirsPartition {
                    partition_index: id.partition,
                    partition_size: i64::try_from(size).unwrap_or(i64::MAX),
                    ..Default::default()
                })
            })
            .collect();
        if !partitions.is_empty() {
            topics.push(DescribeLogDirsTopic { name: text(name), partitions });
        }
    }
    topics
}
