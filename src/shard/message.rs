//! What shards say to each other: owned bytes and ids, batched per destination and loop turn.

use bytes::Bytes;

use crate::metadata::{MetadataRecord, TopicError};
use crate::partition::{AppendError, Position, WatchId};
use crate::types::{Durability, Offset, ShardId, TopicId, TopicPartition};

/// Something for a shard that only the layers above know the type of: an accepted connection.
pub type HandedOver = Box<dyn std::any::Any + Send>;

/// A message to a shard.
pub enum ShardMessage {
    /// Asks for an answer.
    Call {
        /// Who asks.
        from: ShardId,
        /// Their number for the answer.
        id: usize,
        /// What.
        body: Call,
    },
    /// Answers a call.
    Reply {
        /// The asker's number.
        id: usize,
        /// The answer.
        body: Reply,
    },
    /// Says something that needs no answer.
    Tell(Tell),
}

/// A question to a shard.
pub enum Call {
    /// Append to partitions that the shard owns; answered when every append reached its class.
    Append(Vec<PartitionAppend>),
    /// Read partitions that the shard owns.
    Read(ReadMany),
    /// Where partitions stand.
    Positions(Vec<TopicPartition>),
    /// Change the metadata (to shard 0 only).
    Control(ControlRequest),
    /// Replay metadata records that are durable; answered when they act.
    Replay(Vec<MetadataRecord>),
    /// Drain what was recovered; answered when the journals of earlier starts are not needed.
    DrainRecovered,
    /// Stop: finish, flush, write the checkpoint.
    Stop,
}

/// The answer to a [`Call`].
pub enum Reply {
    /// To [`Call::Append`], in its order.
    Append(Vec<Result<AppendDone, AppendFailure>>),
    /// To [`Call::Read`], in its order.
    Read(Vec<RemoteRead>),
    /// To [`Call::Positions`], in its order.
    Positions(Vec<Option<Position>>),
    /// To [`Call::Control`].
    Control(Result<Vec<ControlOutcome>, ControlFailure>),
    /// To the rest.
    Done(Result<(), String>),
}

/// A remark to a shard.
pub enum Tell {
    /// A connection to serve.
    Connection(HandedOver),
    /// Tell `watch` when the partition's high watermark is or moves above `seen`.
    Watch {
        /// The watcher.
        watch: WatchId,
        /// The partition.
        partition: TopicPartition,
        /// What the watcher has seen.
        seen: Offset,
    },
    /// End a watch.
    Unwatch {
        /// The watcher.
        watch: WatchId,
        /// The partition.
        partition: TopicPartition,
    },
    /// A watched high watermark has moved.
    Moved {
        /// The watcher.
        watch: WatchId,
        /// By so many bytes.
        bytes: usize,
    },
}

/// One partition's validated batch.
#[derive(Clone, Debug)]
pub struct PartitionAppend {
    /// The partition.
    pub partition: TopicPartition,
    /// One batch, as it came.
    pub bytes: Bytes,
    /// Its records.
    pub records: i64,
    /// What was asked for.
    pub class: Durability,
}

/// An append that has reached its class.
#[derive(Clone, Copy, Debug)]
pub struct AppendDone {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// First readable offset.
    pub log_start: Offset,
}

/// Why an append failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// The shard does not own the partition.
    UnknownPartition,
    /// The shard's journal failed.
    Storage,
}

impl From<AppendError> for AppendFailure {
    fn from(error: AppendError) -> AppendFailure {
        match error {
            AppendError::UnknownPartition => AppendFailure::UnknownPartition,
            AppendError::Fenced => AppendFailure::Storage,
        }
    }
}

/// Reads of one fetch for one owner.
#[derive(Clone, Debug)]
pub struct ReadMany {
    /// Partition, first offset, bytes at most.
    pub partitions: Vec<(TopicPartition, Offset, usize)>,
    /// Bytes at most over all of them; the first that has any is read all the same.
    pub max_bytes: usize,
}

/// What a read on another core found: copied once.
#[derive(Clone, Debug)]
pub struct RemoteRead {
    /// Where the partition stands; `None` if the shard does not own it.
    pub position: Option<Position>,
    /// Whole batches.
    pub bytes: Bytes,
    /// What went wrong.
    pub failure: Option<ReadFailure>,
}

/// Why a read failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// The shard does not own the partition.
    UnknownPartition,
    /// Below the log start or above the log end.
    OffsetOutOfRange,
    /// The disk failed.
    Storage,
}

/// A change of metadata.
#[derive(Clone, Debug)]
pub enum ControlRequest {
    /// Create topics; each succeeds or fails for itself.
    Create {
        /// The topics.
        topics: Vec<NewTopic>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// Delete topics by id.
    Delete(Vec<TopicId>),
}

/// A topic to be created, its configs already checked.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Configs.
    pub configs: Vec<(String, String)>,
}

/// What became of one topic of a [`ControlRequest`].
#[derive(Clone, Debug)]
pub enum ControlOutcome {
    /// Created, or would be.
    Created(TopicId),
    /// Deleted.
    Deleted,
    /// There is no such topic.
    Unknown,
    /// Refused.
    Refused(TopicError),
}

/// Why a whole [`ControlRequest`] failed.
#[derive(Clone, Debug)]
pub struct ControlFailure(pub String);
