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
