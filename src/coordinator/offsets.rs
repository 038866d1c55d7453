//! Committed offsets of all groups of a partition. Kafka's `OffsetMetadataManager`.

use std::collections::BTreeMap;

use super::group::Group;
use super::member::owned;
use super::{Answer, GroupMachine, Now, Outcome, Response, Waiter, record_size};
use crate::protocol::group_records::{GroupRecord, OffsetCommitKey, OffsetCommitValue};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
};
use crate::protocol::{ErrorCode, StrBytes};
use crate::time::Timestamp;

/// From this version on a commit to a group that is not there says so (KIP-848).
const GROUP_ID_NOT_FOUND: i16 = 9;
/// What stands for "no offset".
const NO_OFFSET: i64 = -1;

/// What was committed for one partition.
type Committed = OffsetCommitValue;

/// Of a topic, by partition.
type Partitions = BTreeMap<i32, Committed>;

/// Of a group, by topic.
pub(super) type Topics = BTreeMap<StrBytes, Partitions>;

/// Of all groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    groups: BTreeMap<StrBytes, Topics>,
}

impl Offsets {
    pub(super) fn of(&self, group: &StrBytes) -> Option<&Topics> {
        self.groups.get(group)
    }

    fn has(&self, key: &OffsetCommitKey) -> bool {
        self.of(&key.group)
            .and_then(|topics| topics.get(&key.topic))
            .is_some_and(|partitions| partitions.contains_key(&key.partition))
    }

    pub(super) fn put(&mut self, key: &OffsetCommitKey, value: &OffsetCommitValue) {
        let mut value = value.clone();
        value.metadata = owned(&value.metadata);
        let topics = match self.groups.get_mut(&key.group) {
            Some(topics) => topics,
            None => self.groups.entry(owned(&key.group)).or_default(),
        };
        let partitions = match topics.get_mut(&key.topic) {
            Some(partitions) => partitions,
            None => topics.entry(owned(&key.topic)).or_default(),
        };
        partitions.insert(key.partition, value);
    }

    pub(super) fn remove(&mut self, key: &OffsetCommitKey) {
        let Some(topics) = self.groups.get_mut(&key.group) else { return };
        let Some(partitions) = topics.get_mut(&key.topic) else { return };
        partitions.remove(&key.partition);
        if partitions.is_empty() {
            topics.remove(&key.topic);
        }
        if topics.is_empty() {
            self.groups.remove(&key.group);
        }
    }

    /// Tombstones for all offsets of a group.
    pub(super) fn tombstones(&self, group: &StrBytes) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (topic, partitions) in self.of(group).into_iter().flatten() {
            records.extend(partitions.keys().map(|p| tombstone(group, topic, *p)));
        }
        records
    }

    /// Tombstones for all offsets in topics that are gone.
    pub(super) fn tombstones_where(&self, gone: impl Fn(&str) -> bool) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (group, topics) in &self.groups {
            for (topic, partitions) in topics.iter().filter(|(topic, _)| gone(topic.as_str())) {
                records.extend(partitions.keys().map(|p| tombstone(group, topic, *p)));
            }
        }
        records
    }
}

fn tombstone(group: &StrBytes, topic: &StrBytes, partition: i32) -> GroupRecord {
    GroupRecord::Offset(
        OffsetCommitKey { group: group.clone(), topic: topic.clone(), partition },
        None,
    )
}

/// An offset's end by Kafka's rules (KIP-211): its own where an old client gave it one, else retention
/// after what the group's state says.
fn is_expired(group: &Group, committed: &Committed, now: Timestamp, retention_ms: i64) -> bool {
    let Some(base) = group.retention_base(Timestamp(committed.commit_timestamp)) else {
        return false;
    };
    if committed.expire_timestamp != NO_OFFSET {
        return now.0 >= committed.expire_timestamp;
    }
    now.0.saturating_sub(base.0) >= retention_ms
}

impl GroupMachine {
    pub(super) fn commit(
        &mut self,
        now: Now,
        waiter: Waiter,
        version: i16,
        request: &OffsetCommitRequest,
        outcome: &mut Outcome,
    ) {
        match self.check_commit(version, request) {
            Ok(()) => {}
            Err(code) => return outcome.reply(waiter, Err(code)),
        }
        if request.generation_id_or_member_epoch >= 0 {
            // In these states a commit is a sign of life.
            self.turn(now, &request.group_id, outcome, |turn| {
                use super::State;
                if matches!(turn.group.state, State::Stable | State::PreparingRebalance) {
                    turn.keep_session(&request.member_id);
                }
            });
        }
        let expire_timestamp = match request.retention_time_ms {
            NO_OFFSET => NO_OFFSET,
            retention => now.timestamp.0.saturating_add(retention),
        };
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let error_code = if self.metadata_fits(partition) {
                    let record =
                        commit_record(request, &topic.name, partition, now, expire_timestamp);
                    bytes += record_size(&record).unwrap_or(usize::MAX / 2);
                    records.push(record);
                    ErrorCode::None
                } else {
                    ErrorCode::OffsetMetadataTooLarge
                };
                let partition_index = partition.partition_index;
                partitions.push(OffsetCommitResponsePartition { partition_index, error_code });
            }
            topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions,
            });
        }
        if bytes > self.settings.batch_bytes_max {
            // All or nothing: a commit is one batch.
            return outcome.reply(waiter, Err(ErrorCode::InvalidCommitOffsetSize));
        }
        outcome.records.append(&mut records);
        let response = OffsetCommitResponse { topics, ..Default::default() };
        outcome.reply_when_durable(waiter, Ok(Response::Commit(response)));
    }

    fn check_commit(&self, version: i16, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        use super::State;
        let generation = request.generation_id_or_member_epoch;
        let Some(group) = self.groups.get(&request.group_id) else {
            return match generation {
                // An administrator, or a consumer that assigns its partitions itself: a simple group.
                generation if generation < 0 && !self.has_room_for_group() => {
                    Err(ErrorCode::PolicyViolation)
                }
                generation if generation < 0 => Ok(()),
                _ if version >= GROUP_ID_NOT_FOUND => Err(ErrorCode::GroupIdNotFound),
                _ => Err(ErrorCode::IllegalGeneration),
            };
        };
        if group.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if generation < 0 && group.state == State::Empty {
            return Ok(());
        }
        let named = !request.member_id.as_bytes().is_empty() || request.group_instance_id.is_some();
        if generation < 0 && !named {
            // The group has members: nobody else may move its offsets.
            return Err(ErrorCode::UnknownMemberId);
        }
        group.check_generation(
            &request.member_id,
            request.group_instance_id.as_ref(),
            generation,
        )?;
        if group.state == State::CompletingRebalance {
            // The member knows the generation but not yet what it may commit in it.
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    fn metadata_fits(&self, partition: &OffsetCommitRequestPartition) -> bool {
        partition.committed_metadata.as_ref().is_none_or(|metadata| {
            metadata.len() <= self.settings.offset_metadata_max
                || metadata.encode_utf16().count() <= self.settings.offset_metadata_max
        })
    }

    pub(super) fn fetch(&self, request: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
        let offsets = self.offsets.of(&request.group_id);
        let topics = match &request.topics {
            None => offsets
                .into_iter()
                .flatten()
                .map(|(name, partitions)| OffsetFetchResponseTopics {
                    name: name.clone(),
                    partitions: partitions.iter().map(|(p, c)| fetched(*p, Some(c))).collect(),
                    ..Default::default()
                })
                .collect(),
            Some(topics) => topics
                .iter()
                .map(|topic| {
                    let known = offsets.and_then(|o| o.get(&topic.name));
                    OffsetFetchResponseTopics {
                        name: topic.name.clone(),
                        topic_id: topic.topic_id,
                        partitions: topic
                            .partition_indexes
                            .iter()
                            .map(|p| fetched(*p, known.and_then(|k| k.get(p))))
                            .collect(),
                    }
                })
                .collect(),
        };
        OffsetFetchResponseGroup {
            group_id: request.group_id.clone(),
            topics,
            error_code: ErrorCode::None,
        }
    }

    pub(super) fn delete_offsets(
        &self,
        request: &OffsetDeleteRequest,
        outcome: &mut Outcome,
    ) -> Answer {
        let group = self.groups.get(&request.group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        group.check_offset_delete()?;
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let subscribed = group.is_subscribed(&topic.name);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let partition_index = partition.partition_index;
                let key = OffsetCommitKey {
                    group: request.group_id.clone(),
                    topic: topic.name.clone(),
                    partition: partition_index,
                };
                let error_code = if subscribed {
                    ErrorCode::GroupSubscribedToTopic
                } else {
                    if self.offsets.has(&key) {
                        outcome.records.push(GroupRecord::Offset(key, None));
                    }
                    ErrorCode::None
                };
                partitions.push(OffsetDeleteResponsePartition { partition_index, error_code });
            }
            topics.push(OffsetDeleteResponseTopic { name: topic.name.clone(), partitions });
        }
        Ok(Response::DeleteOffsets(OffsetDeleteResponse { topics, ..Default::default() }))
    }

    /// Tombstones for offsets whose time is over, and for groups that have nothing else.
    pub(super) fn expire_offsets(&self, now: Now, outcome: &mut Outcome) {
        for (id, group) in &self.groups {
            let mut all = true;
            for (topic, partitions) in self.offsets.of(id).into_iter().flatten() {
                for (partition, committed) in partitions {
                    let retention_ms = self.settings.offsets_retention_ms;
                    if !group.is_subscribed(topic)
                        && is_expired(group, committed, now.timestamp, retention_ms)
                    {
                        outcome.records.push(tombstone(id, topic, *partition));
                    } else {
                        all = false;
                    }
                }
            }
            if all && group.state == super::State::Empty && group.pending_join.is_empty() {
                outcome.records.push(super::group_tombstone(id));
            }
        }
    }
}

fn commit_record(
    request: &OffsetCommitRequest,
    topic: &StrBytes,
    partition: &OffsetCommitRequestPartition,
    now: Now,
    expire_timestamp: i64,
) -> GroupRecord {
    let key = OffsetCommitKey {
        group: request.group_id.clone(),
        topic: topic.clone(),
        partition: partition.partition_index,
    };
    let value = OffsetCommitValue {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.clone().unwrap_or_default(),
        commit_timestamp: now.timestamp.0,
        expire_timestamp,
        ..Default::default()
    };
    GroupRecord::Offset(key, Some(value))
}

fn fetched(partition_index: i32, committed: Option<&Committed>) -> OffsetFetchResponsePartitions {
    let Some(committed) = committed else {
        return OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: NO_OFFSET,
            ..Default::default()
        };
    };
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: committed.offset,
        committed_leader_epoch: committed.leader_epoch,
        metadata: Some(committed.metadata.clone()),
        error_code: ErrorCode::None,
    }
}
