//! Topics and starts of the broker: a machine that is replayed from the metadata log.
//!
//! Shard: core 0 holds the machine and changes it; every core holds an [`Image`], replaced by message.
//! No I/O and no clock: [`Metadata::create_topic`] and the like decide and return records; only
//! [`Metadata::replay`] changes anything, after the records are flushed.
//! This is the seam at which several nodes will agree on records before they are replayed.

mod image;
pub mod topic_configs;

use serde::{Deserialize, Serialize};

pub use self::image::{Image, Topic};
use crate::limits::{PARTITIONS_MAX, TOPIC_NAME_LEN_MAX, TOPIC_PARTITIONS_MAX};
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

/// Why a topic cannot be created. The numbers are Kafka's error codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicError {
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
            MetadataRecord::Topic { name, id, partitions, configs } => {
                self.image.insert(Topic {
                    name: name.clone(),
                    id: *id,
                    partitions: *partitions,
                    configs: configs.clone(),
                });
            }
            MetadataRecord::TopicDeleted { id } => self.image.remove(*id),
        }
    }

    /// The topics.
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
        records.extend(self.image.topics().map(|topic| MetadataRecord::Topic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions,
            configs: topic.configs.clone(),
        }));
        records
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
                "Number of partitions must be larger than 0.".into(),
            ));
        }
        if partitions > TOPIC_PARTITIONS_MAX {
            return Err(TopicError::Limit(format!(
                "{partitions} partitions asked for, a topic may have {TOPIC_PARTITIONS_MAX}"
            )));
        }
        let total = self.image.partitions_total() + i64::from(partitions);
        if total > PARTITIONS_MAX {
            return Err(TopicError::Limit(format!(
                "the broker would have {total} partitions, it may have {PARTITIONS_MAX}"
            )));
        }
        Ok(MetadataRecord::Topic { name: name.to_owned(), id, partitions, configs })
    }
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
        let mut again = Metadata::default();
        for record in metadata.snapshot() {
            again.replay(&record);
        }
        assert_eq!(again.last_start(), metadata.last_start());
        assert!(again.image().by_name("a").is_none());
        assert_eq!(again.image().by_name("b"), metadata.image().by_name("b"));
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
