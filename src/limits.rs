//! Every fixed bound, each with what it protects. Bounds a user may change are config keys and only
//! their defaults stand here.

/// The unit of direct I/O: positions, lengths and memory of every disk access are multiples of it.
pub const BLOCK: usize = 4096;
