//! What shards say to each other: owned bytes and ids, batched per destination and loop turn.

use bytes::Bytes;

use crate::coordinator::{Answer, Command};
use crate::log::epochs::EpochEnd;
use crate::log::producers::ProducerError;
use crate::metadata::{ConfigChange, MetadataRecord, ProducerIds, TopicError};
use crate::partition::{
    ActiveProducer, AppendError, DeleteError, Position, TimeQuery, TimedOffset, WatchId,
};
use crate::time::Timestamp;
use crate::types::{Durability, LeaderEpoch, Offset, ShardId, TopicId, TopicPartition};

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
    /// How many bytes partitions hold.
    Sizes(Vec<TopicPartition>),
    /// Ask the group coordinator of a partition of `__consumer_offsets` that the shard owns.
    Group {
        /// The partition's index.
        partition: i32,
        /// What is asked.
        command: Box<Command>,
    },
    /// List the groups of all partitions that the shard owns.
    ListGroups(Box<Command>),
    /// Where partitions stand, and records by their time.
    LookUp(Vec<LookUp>),
    /// Where leader epochs of partitions ended.
    EpochEnds(Vec<(TopicPartition, LeaderEpoch)>),
    /// The idempotent producers of partitions.
    Producers(Vec<TopicPartition>),
    /// Move log starts; `None`: to the high watermark.
    DeleteRecords(Vec<(TopicPartition, Option<Offset>)>),
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
    /// To [`Call::Sizes`], in its order.
    Sizes(Vec<Option<u64>>),
    /// To [`Call::Group`] and [`Call::ListGroups`].
    Group(Answer),
    /// To [`Call::LookUp`], in its order.
    LookUp(Vec<Result<LookedUp, ReadFailure>>),
    /// To [`Call::EpochEnds`], in its order; `None` where the shard does not own the partition.
    EpochEnds(Vec<Option<Option<EpochEnd>>>),
    /// To [`Call::Producers`], in its order; `None` where the shard does not own the partition.
    Producers(Vec<Option<Vec<ActiveProducer>>>),
    /// To [`Call::DeleteRecords`], in its order: the log starts.
    DeleteRecords(Vec<Result<Offset, DeleteError>>),
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
    /// The greatest timestamp of the batch, if it was in the log already.
    pub duplicate: Option<Timestamp>,
}

/// Why an append failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// The shard does not own the partition.
    UnknownPartition,
    /// The shard's journal failed.
    Storage,
    /// The journal is full, and there is no space on the disk to drain it to.
    DiskFull,
    /// The batch does not follow what its producer has written.
    Producer(ProducerError),
}

impl From<AppendError> for AppendFailure {
    fn from(error: AppendError) -> AppendFailure {
        match error {
            AppendError::UnknownPartition => AppendFailure::UnknownPartition,
            AppendError::Fenced => AppendFailure::Storage,
            AppendError::Producer(error) => AppendFailure::Producer(error),
        }
    }
}

/// What ListOffsets asks of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LookUp {
    /// The partition.
    pub partition: TopicPartition,
    /// The record wanted, if it is not just where the partition stands.
    pub query: Option<TimeQuery>,
}

/// The answer.
#[derive(Clone, Copy, Debug)]
pub struct LookedUp {
    /// Where the partition stands.
    pub position: Position,
    /// The record wanted, if there is one.
    pub found: Option<TimedOffset>,
}

/// What a fetch wants of one partition.
#[derive(Clone, Copy, Debug)]
pub struct PartitionRead {
    /// The partition.
    pub partition: TopicPartition,
    /// The first offset.
    pub offset: Offset,
    /// Bytes at most.
    pub max_bytes: usize,
    /// The epoch of the record before, -1 if the client does not say.
    pub last_fetched_epoch: i32,
}

/// Reads of one fetch for one owner.
#[derive(Clone, Debug)]
pub struct ReadMany {
    /// What is wanted.
    pub partitions: Vec<PartitionRead>,
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
    /// Where the log parted from what the client has; there are no bytes then.
    pub diverging: Option<EpochEnd>,
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
    /// Give out a block of producer ids.
    ProducerIds,
    /// Give topics more partitions; each succeeds or fails for itself.
    AddPartitions {
        /// The topics.
        topics: Vec<MorePartitions>,
        /// Only say what would happen.
        validate_only: bool,
    },
    /// Change configs; each resource succeeds or fails for itself.
    AlterConfigs {
        /// The changes.
        changes: Vec<ConfigChange>,
        /// Only say what would happen.
        validate_only: bool,
    },
}

/// A topic that is to have more partitions.
#[derive(Clone, Debug)]
pub struct MorePartitions {
    /// Its name.
    pub name: String,
    /// How many it is to have.
    pub count: i32,
    /// The brokers of each new partition, if the client says them.
    pub assignments: Option<Vec<Vec<i32>>>,
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
    /// Changed, or would be.
    Changed,
    /// These producer ids are the asker's.
    ProducerIds(ProducerIds),
    /// There is no such topic.
    Unknown,
    /// Refused.
    Refused(TopicError),
}

/// Why a whole [`ControlRequest`] failed.
#[derive(Clone, Debug)]
pub struct ControlFailure(pub String);
