//! Record batches of format 2 (KIP-98) as bytes and views.
//!
//! A produced batch is stored and sent to consumers as its producer's bytes: this module finds its
//! borders, checks it, reads it in place and changes the few fields that a broker may change. It
//! builds batches too, for the broker's own records, the load generator and the tests.
//!
//! ```text
//!      0            8        12          16   17    21                                  61
//!      | base offset | length | leader    | m  | crc | attributes ... records count     | records ...
//!      |             |        | epoch     |    |     |                                  |
//!      |<- not covered by the CRC: stamped ->|        |<- covered by the CRC, to the end of the batch ->
//!                             |<- counted by the length, to the end of the batch ->
//! ```
//!
//! Invariants: nothing here panics on any bytes; a [`BatchView`] always spans a whole batch of
//! format 2. Units: sizes and positions in bytes, timestamps in milliseconds. Pure functions and
//! values without an owner; it knows neither topics, files, the protocol nor a clock.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)
)]

mod batch;
mod builder;
mod compression;
mod crc;
mod error;
mod header;
mod recompress;
mod records;
mod retain;
mod validate;
mod varint;

pub use batch::{BatchView, Batches, batches, set_max_timestamp, stamp};
pub use builder::BatchBuilder;
pub use compression::{CompressionError, compress, decompress};
pub use crc::{CrcShift, crc_patch};
pub use error::{BatchError, RecordFault};
pub use header::{Attributes, BatchHeader, Codec, HEADER_SIZE, MAGIC, Producer, TimestampType};
pub use recompress::recompress;
pub use records::{Headers, RecordView, Records, records};
pub use retain::{Retained, empty_batch, for_each_record, retain};
pub use validate::{BatchSummary, Validation, ValidationRules, refused_records, validate_produce};
