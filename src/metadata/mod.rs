//! Topics and starts of the broker: a machine that is replayed from the metadata log.
//!
//! Shard: core 0 holds the machine and changes it; every core holds an [`Image`], replaced by message.
//! No I/O and no clock: [`Metadata::create_topic`] and the like decide and return records; only
//! [`Metadata::replay`] changes anything, after the records are flushed.
//! This is the seam at which several nodes will agree on records before they are replayed.

mod configs;
mod image;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::configs::{ConfigChange, ConfigOp, ConfigResource, ResourceType};
pub use self::image::{Image, Topic};
use crate::config::TopicConfigs;
use crate::config::topic::check_topic;
use crate::limits::{PARTITIONS_MAX, PRODUCER_ID_BLOCK, TOPIC_NAME_LEN_MAX, TOPIC_PARTITIONS_MAX};
use crate::types::TopicId;

/// A journal of an earlier start that the next recovery still has to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldChain {
    /// The start that wrote it.
    pub generation: u64,
    /// The core that wrote it.
    pub core: u16,
    /// Seed of its checksums.
    pub salt: u32,
    /// First round that is still needed.
    pub first: u64,
    /// Last round that counts (storage rule 5).
    pub last: u64,
}

/// A record of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MetadataRecord {
    /// The broker starts; durable before the first append of the start.
    Start {
        /// Counts all starts.
        generation: u64,
        /// Counts starts after unclean stops: the least leader epoch of new batches.
        incarnation: i32,
        /// Seed of the checksums of this start's journals; never leaves the data directory.
        salt: u32,
        /// Cores of this start.
        cores: u16,
        /// Journals of earlier starts, with their cuts.
        old_chains: Vec<OldChain>,
    },
    /// The broker stopped cleanly.
    CleanStop {
        /// The start that ends.
        generation: u64,
    },
    /// Nothing of starts before this one is needed from their journals any more.
    OldJournalsDropped {
        /// The start that has taken everything over.
        generation: u64,
    },
    /// A topic is created.
    Topic {
        /// Its name.
        name: String,
        /// Its id.
        id: TopicId,
        /// Number of partitions.
        partitions: i32,
        /// Topic configs that were set, by Kafka's names, sorted.
        configs: Vec<(String, String)>,
    },
    /// A topic is deleted.
    TopicDeleted {
        /// Its id.
        id: TopicId,
    },
    /// A topic has more partitions.
    PartitionCount {
        /// Its id.
        id: TopicId,
        /// How many it has now.
        partitions: i32,
    },
    /// A config is set, or inherited again.
    Config {
        /// Whose.
        resource: ConfigResource,
        /// The key, by Kafka's name.
        key: String,
        /// The value; none if it is inherited again.
        value: Option<String>,
    },
    /// Producer ids below this one are given out.
    ProducerIds {
        /// The first that is not.
        next: i64,
    },
}

/// Producer ids given out to a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerIds {
    next: i64,
    end: i64,
}

impl ProducerIds {
    /// Takes one; `None` when all are taken.
    pub fn take(&mut self) -> Option<i64> {
        let id = self.next;
        (id < self.end).then(|| {
            self.next += 1;
            id
        })
    }
}

/// The start of the broker that the log ends with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastStart {
    /// Its number; 0 when there was none.
    pub generation: u64,
    /// Its incarnation.
    pub incarnation: i32,
    /// Its salt.
    pub salt: u32,
    /// Its cores.
    pub cores: u16,
    /// Journals of starts before it that are still needed.
    pub old_chains: Vec<OldChain>,
    /// Whether it stopped cleanly.
    pub clean: bool,
}

/// Why topics or configs cannot be changed so, named after Kafka's error codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// UNKNOWN_TOPIC_OR_PARTITION.
    UnknownTopic(String),
    /// INVALID_CONFIG.
    InvalidConfig(String),
    /// INVALID_REQUEST.
    InvalidRequest(String),
    /// INVALID_REPLICA_ASSIGNMENT.
    InvalidAssignment(String),
    /// INVALID_TOPIC_EXCEPTION.
    InvalidName(String),
    /// TOPIC_ALREADY_EXISTS.
    Exists(String),
    /// INVALID_PARTITIONS.
    InvalidPartitions(String),
    /// POLICY_VIOLATION: a limit of this broker, named.
    Limit(String),
}

/// The metadata machine.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    image: Image,
    last_start: LastStart,
    next_producer_id: i64,
}

impl Metadata {
    /// The only writer of state.
    pub fn replay(&mut self, record: &MetadataRecord) {
        match record {
            MetadataRecord::Start { generation, incarnation, salt, cores, old_chains } => {
                self.last_start = LastStart {
                    generation: *generation,
                    incarnation: *incarnation,
                    salt: *salt,
                    cores: *cores,
                    old_chains: old_chains.clone(),
                    clean: false,
                };
            }
            MetadataRecord::CleanStop { generation } => {
                if *generation == self.last_start.generation {
                    self.last_start.clean = true;
                }
            }
            MetadataRecord::OldJournalsDropped { generation } => {
                if *generation == self.last_start.generation {
                    self.last_start.old_chains.clear();
                }
            }
            MetadataRecord::Topic { .. }
            | MetadataRecord::TopicDeleted { .. }
            | MetadataRecord::PartitionCount { .. }
            | MetadataRecord::Config { .. } => self.image.replay(record),
            MetadataRecord::ProducerIds { next } => self.next_producer_id = *next,
        }
    }

    /// Says which broker this is, and what its topics inherit.
    pub fn set_broker(&mut self, node_id: i32, at_start: TopicConfigs) {
        self.image.set_broker(node_id, at_start);
    }

    /// The topics and configs.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The last start.
    #[must_use]
    pub fn last_start(&self) -> &LastStart {
        &self.last_start
    }

    /// The shortest log that replays to this state.
    #[must_use]
    pub fn snapshot(&self) -> Vec<MetadataRecord> {
        let start = &self.last_start;
        let mut records = vec![MetadataRecord::Start {
            generation: start.generation,
            incarnation: start.incarnation,
            salt: start.salt,
            cores: start.cores,
            old_chains: start.old_chains.clone(),
        }];
        if start.clean {
            records.push(MetadataRecord::CleanStop { generation: start.generation });
        }
        if self.next_producer_id > 0 {
            records.push(MetadataRecord::ProducerIds { next: self.next_producer_id });
        }
        records.extend(self.image.topics().map(|topic| MetadataRecord::Topic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions,
            configs: topic.configs.clone(),
        }));
        for (resource, configs) in self.image.resources() {
            records.extend(configs.iter().map(|(key, value)| MetadataRecord::Config {
                resource: resource.clone(),
                key: key.clone(),
                value: Some(value.clone()),
            }));
        }
        records
    }

    /// Decides on a block of producer ids; they may be used once the record is flushed.
    ///
    /// # Errors
    /// When there are none left, 9 * 10^18 later.
    pub fn next_producer_ids(&self) -> Result<(MetadataRecord, ProducerIds), TopicError> {
        let first = self.next_producer_id;
        let next = first
            .checked_add(PRODUCER_ID_BLOCK)
            .ok_or_else(|| TopicError::Limit("no producer ids are left".to_owned()))?;
        let ids = ProducerIds { next: first, end: next };
        Ok((MetadataRecord::ProducerIds { next }, ids))
    }

    /// Decides that ids up to `id` are not given out, unless they are already: records of a log made
    /// elsewhere have them.
    #[must_use]
    pub fn producer_ids_above(&self, id: i64) -> Option<MetadataRecord> {
        let next = id.checked_add(1)?;
        (next > self.next_producer_id).then_some(MetadataRecord::ProducerIds { next })
    }

    /// Decides on a new topic. `id` is fresh and random.
    ///
    /// # Errors
    /// As Kafka's controller refuses it.
    pub fn create_topic(
        &self,
        name: &str,
        id: TopicId,
        partitions: i32,
        configs: Vec<(String, String)>,
    ) -> Result<MetadataRecord, TopicError> {
        check_topic_name(name)?;
        if self.image.by_name(name).is_some() {
            return Err(TopicError::Exists(format!("Topic '{name}' already exists.")));
        }
        if let Some(other) = self.image.colliding(name) {
            return Err(TopicError::InvalidName(format!(
                "Topic '{name}' collides with existing topic: {other}"
            )));
        }
        if partitions <= 0 {
            return Err(TopicError::InvalidPartitions(
                "Number of partitions was set to an invalid non-positive value.".into(),
            ));
        }
        let configs: BTreeMap<String, String> = configs.into_iter().collect();
        check_topic(&configs, self.image.inherited()).map_err(TopicError::InvalidConfig)?;
        self.check_limits(name, partitions, partitions)?;
        let configs = configs.into_iter().collect();
        Ok(MetadataRecord::Topic { name: name.to_owned(), id, partitions, configs })
    }

    /// Decides on more partitions of a topic. `assignments` are the brokers of each new one, if the
    /// client says them; `node_id` is the only broker there is.
    ///
    /// # Errors
    /// As Kafka's controller refuses it (`ReplicationControlManager.createPartitions`).
    pub fn create_partitions(
        &self,
        name: &str,
        count: i32,
        assignments: Option<&[Vec<i32>]>,
        node_id: i32,
    ) -> Result<MetadataRecord, TopicError> {
        let Some(topic) = self.image.by_name(name) else {
            return Err(TopicError::UnknownTopic(
                "This server does not host this topic-partition.".into(),
            ));
        };
        let current = topic.partitions;
        if count == current {
            let why = format!("Topic already has {current} partition(s).");
            return Err(TopicError::InvalidPartitions(why));
        }
        if count < current {
            return Err(TopicError::InvalidPartitions(format!(
                "The topic {name} currently has {current} partition(s); {count} would not be an \
                 increase."
            )));
        }
        let additional = count - current;
        if let Some(assignments) = assignments {
            if usize::try_from(additional) != Ok(assignments.len()) {
                return Err(TopicError::InvalidAssignment(format!(
                    "Attempted to add {additional} additional partition(s), but only {} \
                     assignment(s) were specified.",
                    assignments.len()
                )));
            }
            let mut checks = assignments.iter().map(|replicas| check_replicas(replicas, node_id));
            checks.try_for_each(|check| check)?;
        }
        self.check_limits(name, count, additional)?;
        Ok(MetadataRecord::PartitionCount { id: topic.id, partitions: count })
    }

    /// Checks the limits of this broker, and names the one that is reached.
    fn check_limits(&self, name: &str, count: i32, additional: i32) -> Result<(), TopicError> {
        if count > TOPIC_PARTITIONS_MAX {
            return Err(TopicError::Limit(format!(
                "{count} partitions asked for topic '{name}', a topic may have {TOPIC_PARTITIONS_MAX}"
            )));
        }
        let total = self.image.partitions_total() + i64::from(additional);
        if total > PARTITIONS_MAX {
            return Err(TopicError::Limit(format!(
                "with topic '{name}' the broker would have {total} partitions, it may have \
                 {PARTITIONS_MAX}"
            )));
        }
        Ok(())
    }
}

/// Checks the brokers of one partition that a client chose: there is one broker
/// (`ReplicationControlManager.validateManualPartitionAssignment`).
///
/// # Errors
/// [`TopicError::InvalidAssignment`], with Kafka's words.
pub fn check_replicas(replicas: &[i32], node_id: i32) -> Result<(), TopicError> {
    let refuse = |why: String| {
        Err(TopicError::InvalidAssignment(format!(
            "The manual partition assignment includes {why}"
        )))
    };
    if replicas.is_empty() {
        return refuse("an empty replica list.".into());
    }
    if let Some(other) = replicas.iter().find(|replica| **replica != node_id) {
        return refuse(format!("broker {other}, but no such broker is registered."));
    }
    if replicas.len() > 1 {
        return refuse(format!("the broker {node_id} more than once."));
    }
    Ok(())
}

/// Checks a topic's name by Kafka's rules (`Topic.validate`).
///
/// # Errors
/// [`TopicError::InvalidName`], with Kafka's kind of explanation.
pub fn check_topic_name(name: &str) -> Result<(), TopicError> {
    let refuse = |why: String| Err(TopicError::InvalidName(why));
    if name.is_empty() {
        return refuse("Topic name is invalid: the empty string is not allowed".into());
    }
    if name == "." || name == ".." {
        return refuse(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > TOPIC_NAME_LEN_MAX {
        return refuse(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length \
             {TOPIC_NAME_LEN_MAX}"
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(legal) {
        return refuse(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(metadata: &mut Metadata, name: &str) -> Result<(), TopicError> {
        let record = metadata.create_topic(name, TopicId::random(), 3, Vec::new())?;
        metadata.replay(&record);
        Ok(())
    }

    #[test]
    fn a_snapshot_replays_to_the_same_state() {
        let mut metadata = Metadata::default();
        created(&mut metadata, "a").unwrap();
        created(&mut metadata, "b").unwrap();
        let id = metadata.image().by_name("a").unwrap().id;
        metadata.replay(&MetadataRecord::TopicDeleted { id });
        metadata.replay(&MetadataRecord::Start {
            generation: 4,
            incarnation: 2,
            salt: 9,
            cores: 2,
            old_chains: Vec::new(),
        });
        metadata.replay(&MetadataRecord::CleanStop { generation: 4 });
        let (record, _) = metadata.next_producer_ids().unwrap();
        metadata.replay(&record);
        let mut again = Metadata::default();
        for record in metadata.snapshot() {
            again.replay(&record);
        }
        assert_eq!(again.last_start(), metadata.last_start());
        assert_eq!(again.next_producer_ids(), metadata.next_producer_ids());
        assert!(again.image().by_name("a").is_none());
        assert_eq!(again.image().by_name("b"), metadata.image().by_name("b"));
    }

    #[test]
    fn partitions_only_grow() {
        let mut metadata = Metadata::default();
        created(&mut metadata, "a").unwrap();
        let refusal = |metadata: &Metadata, name, count, assignments: Option<&[Vec<i32>]>| {
            metadata.create_partitions(name, count, assignments, 1).unwrap_err()
        };
        assert!(matches!(refusal(&metadata, "b", 4, None), TopicError::UnknownTopic(_)));
        for (count, word) in
            [(3, "already has 3"), (2, "not be an increase"), (-1, "not be an increase")]
        {
            let why = refusal(&metadata, "a", count, None);
            assert!(
                matches!(&why, TopicError::InvalidPartitions(w) if w.contains(word)),
                "{why:?}"
            );
        }
        for (replicas, word) in [
            (vec![vec![1], vec![1]], "only 2 assignment(s)"),
            (vec![Vec::new()], "empty replica list"),
            (vec![vec![7]], "includes broker 7"),
            (vec![vec![1, 1]], "more than once"),
        ] {
            let why = refusal(&metadata, "a", 4, Some(&replicas));
            assert!(
                matches!(&why, TopicError::InvalidAssignment(w) if w.contains(word)),
                "{why:?}"
            );
        }
        let why = refusal(&metadata, "a", 10_001, None);
        assert!(matches!(&why, TopicError::Limit(w) if w.contains("10000")), "{why:?}");
        let record = metadata.create_partitions("a", 5, Some(&[vec![1], vec![1]]), 1).unwrap();
        metadata.replay(&record);
        assert_eq!(metadata.image().by_name("a").unwrap().partitions, 5);
        assert_eq!(metadata.image().partitions_total(), 5);
    }

    #[test]
    fn producer_ids_are_given_out_once() {
        let mut metadata = Metadata::default();
        let mut all = Vec::new();
        for _ in 0..3 {
            let (record, mut ids) = metadata.next_producer_ids().unwrap();
            metadata.replay(&record);
            all.extend(std::iter::from_fn(|| ids.take()));
        }
        assert!(all.iter().copied().eq(0..3 * PRODUCER_ID_BLOCK));
    }

    #[test]
    fn names_follow_kafkas_rules() {
        let mut metadata = Metadata::default();
        created(&mut metadata, "web.access").unwrap();
        assert!(matches!(created(&mut metadata, "web.access"), Err(TopicError::Exists(_))));
        assert!(matches!(created(&mut metadata, "web_access"), Err(TopicError::InvalidName(_))));
        for bad in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
            assert!(matches!(created(&mut metadata, bad), Err(TopicError::InvalidName(_))));
        }
    }
}
