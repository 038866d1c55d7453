//! Every fixed bound, each with what it protects. Bounds a user may change are config keys and only
//! their defaults stand here.

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

/// Partitions drained at once.
pub const DRAINS_AT_ONCE: usize = 4;

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
/// What one batch may decompress to, so that a small request cannot take the memory of a core. Kafka
/// has no such bound; a gzip bomb of a `message.max.bytes` of 1 MiB reaches 1 GiB.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What the arrays decoded from one frame may take in memory whatever its size, and beside that for each of
/// its bytes. An empty string is one byte on the wire and 32 in memory: without a bound a frame of 100 MiB
/// would become gigabytes. Real requests with short names need about 8 for a byte.
pub const DECODED_BYTES_BASE: usize = 1024 * 1024;

/// See [`DECODED_BYTES_BASE`].
pub const DECODED_BYTES_PER_FRAME_BYTE: usize = 8;
