//! Every fixed bound, each with what it protects. Bounds a user may change are config keys and only
//! their defaults stand here.

/// The unit of direct I/O: positions, lengths and memory of every disk access are multiples of it.
pub const BLOCK: usize = 4096;

/// What one batch may decompress to, so that a small request cannot take the memory of a core. Kafka
/// has no such bound; a gzip bomb of a `message.max.bytes` of 1 MiB reaches 1 GiB.
pub const DECOMPRESSED_BYTES_MAX: usize = 128 * 1024 * 1024;
