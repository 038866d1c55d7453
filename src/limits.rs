//! Every fixed bound, each with what it protects. Bounds a user may change are config keys and only
//! their defaults stand here.

/// The unit of direct I/O: positions, lengths and memory of every disk access are multiples of it.
pub const BLOCK: usize = 4096;

/// Tagged fields in one struct of a request: Kafka's newest messages have four. Protects the time that
/// reading a frame of nothing else would take.
pub const TAGGED_FIELDS_MAX: u32 = 256;

/// What the arrays decoded from one frame may take in memory whatever its size, and beside that for each of
/// its bytes. An empty string is one byte on the wire and 32 in memory: without a bound a frame of 100 MiB
/// would become gigabytes. Real requests with short names need about 8 for a byte.
pub const DECODED_BYTES_BASE: usize = 1024 * 1024;
/// See [`DECODED_BYTES_BASE`].
pub const DECODED_BYTES_PER_FRAME_BYTE: usize = 8;
