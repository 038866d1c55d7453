//! Every fixed bound, each with what it protects. Bounds a user may change are config keys and only
//! their defaults stand here.

use std::time::Duration;

/// The unit of direct I/O: positions, lengths and memory of every disk access are multiples of it.
pub const BLOCK: usize = 4096;

/// Tagged fields in one struct of a request: Kafka's newest messages have four. Protects the time that
/// reading a frame of nothing else would take.
pub const TAGGED_FIELDS_MAX: u32 = 256;

/// Directory entries in a round: bounds what recovery allocates before a round's checksum is known.
pub const ROUND_ENTRIES_MAX: usize = 65_536;

/// A round is closed before it grows past this, so that its buffer fits one allocation class; a single
/// larger append makes a larger round.
pub const ROUND_BYTES_TARGET: usize = 1024 * 1024;

/// Appends from this size on are copied into their round at once, in order of arrival; smaller ones wait
/// and are grouped by partition, so that a round of many has few entries.
pub const ROUND_COPY_BYTES_MIN: usize = 16 * 1024;

/// Rounds being written at once by one core. Deeper queues did not write faster.
pub const ROUNDS_IN_FLIGHT_MAX: usize = 4;

/// With a round already under way, another is submitted only when this many bytes wait.
pub const ROUND_EAGER_BYTES: usize = 256 * 1024;

const _: () = assert!(ROUND_EAGER_BYTES < ROUND_BYTES_TARGET);
const _: () = assert!(BLOCK.is_power_of_two());

/// Read at once from a segment.
pub const COLD_READ_BYTES: usize = 1024 * 1024;

/// Written at once to a segment by a drain.
pub const DRAIN_WRITE_BYTES: usize = 1024 * 1024;

/// Bytes of one partition that a drain takes before it flushes the segment.
pub const DRAIN_STEP_BYTES: u64 = 32 * 1024 * 1024;

/// Entries of a segment's index that are not in its file yet before a drain writes them: at Kafka's
/// interval of 4 KiB, once for 256 KiB of log. A restart makes up to so many again by reading the log.
pub const INDEX_WRITE_ENTRIES: usize = 64;

/// Partitions of a pass that share the waits for their flushes; so many segments are open at most.
pub const DRAIN_GROUP: usize = 64;

/// Partitions that one pass spills at most.
pub const SPILLS_PER_PASS: usize = 256;

/// Partitions written ahead of a pass at once.
pub const WRITES_BEHIND_AT_ONCE: usize = 2;

/// Partitions drained at once.
pub const DRAINS_AT_ONCE: usize = 4;

/// Least memory of a compaction's map of keys, whatever `log.cleaner.dedupe.buffer.size` says: 43,690 keys.
/// A pass must get somewhere.
pub const COMPACTION_MAP_BYTES_MIN: usize = 1024 * 1024;

/// Read at once by a compaction, which lets the shard do other work after each such chunk. A larger batch is
/// read whole.
pub const COMPACTION_READ_BYTES: usize = 256 * 1024;

/// Largest step in which a segment's space is reserved ahead of its drains; the first is
/// [`RESERVE_STEP_MIN`], and each step doubles.
pub const RESERVE_STEP_MAX: u64 = 32 * 1024 * 1024;

/// First step in which a segment's space is reserved.
pub const RESERVE_STEP_MIN: u64 = 1024 * 1024;

/// Longest topic name: Kafka's own bound, which keeps partition directories within file name limits.
pub const TOPIC_NAME_LEN_MAX: usize = 249;

/// Partitions of one topic: bounds what one request can make the broker allocate.
pub const TOPIC_PARTITIONS_MAX: i32 = 10_000;

/// Partitions of the broker: bounds checkpoints and memory.
pub const PARTITIONS_MAX: i64 = 100_000;

const _: () = assert!(TOPIC_PARTITIONS_MAX as i64 <= PARTITIONS_MAX);

/// Idempotent producers remembered of one partition: bounds memory (about 0.5 KiB each, live and drained
/// together) and checkpoints. Past it the eighth that has not written for longest is forgotten, and may
/// go on with any sequence, as after `producer.id.expiration.ms`. Kafka has no bound.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 8192;

/// Producer ids that a shard takes from the metadata log at once, as Kafka's brokers from the controller.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// What one batch may decompress to, so that a small request cannot take the memory of a core. Kafka
/// has no such bound; a gzip bomb of a `message.max.bytes` of 1 MiB reaches 1 GiB.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What the arrays decoded from one frame may take in memory whatever its size, and beside that for each of
/// its bytes. An empty string is one byte on the wire and 32 in memory: without a bound a frame of 100 MiB
/// would become gigabytes. Real requests with short names need about 8 for a byte.
pub const DECODED_BYTES_BASE: usize = 1024 * 1024;

/// See [`DECODED_BYTES_BASE`].
pub const DECODED_BYTES_PER_FRAME_BYTE: usize = 8;

/// Batches of messages on their way from one shard to another; a sender waits when there are so many.
pub const MAILBOX_BATCHES: usize = 1024;

/// glommio's preempt timer: long enough that losing its wake-up is rare, short enough that a busy task
/// does not hold back timers and sockets.
pub const PREEMPT_TIMER: Duration = Duration::from_millis(8);

/// The ticker that does a shard's timed work.
pub const TICK: Duration = Duration::from_millis(10);

/// A second ticker, unrelated to the first: together they bound a lost wake-up.
pub const TICK_SECOND: Duration = Duration::from_millis(17);

/// How long a stop waits for requests under way.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// glommio's own arena for direct I/O. It registers the arena with the kernel, which touches all of it
/// at the start (a second for 576 MiB), and no gain was measured: the arena is as small as it can be,
/// and buffers come from the allocator, which keeps what is freed.
pub const EXECUTOR_MEMORY: usize = 64 * 1024;

/// First journal file of a start; small, because it is written through before the broker is ready.
pub const JOURNAL_FIRST_FILE_BYTES: usize = 4 * 1024 * 1024;

/// The journal's ring while a data directory is worked on without a broker: it takes no appends of clients.
pub const OFFLINE_RING_BYTES: usize = 32 * 1024 * 1024;

/// Descriptors that a shard keeps open for reads.
pub const OPEN_FILES_PER_SHARD: usize = 512;

/// Bytes of replies that one connection may leave unread, whatever `fetch.max.bytes` says: a slow reader
/// pins that much memory.
pub const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A fetch session not used for so long may be replaced by any other, and one that exists for so long by
/// one that is not smaller (Kafka's `min.incremental.fetch.session.eviction.ms`).
pub const FETCH_SESSION_EVICTION: Duration = Duration::from_secs(120);

/// Partitions in the fetch sessions of one shard: bounds their memory, some 300 bytes each. Clients beyond
/// it fetch without sessions.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 200_000;

/// How long a fenced broker still answers requests, with errors, before it exits.
pub const FENCED_GRACE: Duration = Duration::from_millis(300);

/// How long a new member may wait for its first generation; its client does not know its id yet and
/// sends no heartbeats. Kafka has the same.
pub const GROUP_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Member ids of one group that were given out and not used: each costs a client one small request.
pub const GROUP_PENDING_MEMBERS_MAX: usize = 10_000;

/// Groups of one partition of `__consumer_offsets`: each costs a client one small request, and a restart
/// reads them all.
pub const GROUPS_PER_PARTITION_MAX: usize = 20_000;

/// Longest group id, member id and the like: what the format of `__consumer_offsets` can say.
pub const GROUP_TEXT_LEN_MAX: usize = i16::MAX as usize;
