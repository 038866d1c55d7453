//! Ids and quantities that cross function borders, as distinct types.
//!
//! Pure values: no shard owns them, nothing here performs I/O or reads a clock.

use std::fmt;

use serde::{Deserialize, Serialize};
pub use uuid::Uuid;

/// The position of a record in a partition's log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of any log.
    pub const ZERO: Offset = Offset(0);

    /// The offset `delta` records further on.
    #[must_use]
    pub fn plus(self, delta: i64) -> Offset {
        Offset(self.0.saturating_add(delta))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a leadership of a partition (KIP-101): offsets reused under another epoch may hold
/// other records.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LeaderEpoch(pub i32);

/// A topic's id (KIP-516): it survives nothing but the topic itself, so a topic deleted and created
/// again under the same name has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// The id that means "no id" on the wire.
    pub const ZERO: TopicId = TopicId(Uuid::nil());

    /// A fresh random id, never one that Kafka reserves.
    #[must_use]
    pub fn random() -> TopicId {
        TopicId(Uuid::new_v4())
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic, by topic id: the key of everything a shard owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index in the topic, from 0.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What an acknowledgement promises, weakest first (`docs/durability.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Durability {
    /// Nothing: the bytes have arrived. `acks=0`.
    Received,
    /// The journal write has completed: survives the death of the process. `acks=1`.
    Written,
    /// A completed fdatasync covers the write: survives power loss. `acks=all`.
    Flushed,
}

/// The index of a shard: one executor pinned to one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u16);
