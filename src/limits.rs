//! Every fixed bound, each with what it protects. Bounds a user may change are config keys and only
//! their defaults stand here.

/// The unit of direct I/O: positions, lengths and memory of every disk access are multiples of it.
pub const BLOCK: usize = 4096;

/// Tagged fields in one struct of a request: Kafka's newest messages have four. Protects the time that
/// reading a frame of nothing else would take.
pub const TAGGED_FIELDS_MAX: u32 = 256;
