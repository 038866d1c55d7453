//! Millstream: a broker for high-volume activity streams that speaks the Kafka wire protocol.
//!
//! Modules, lowest first; a module may use only modules above its own line in this list
//! (`tests/tidy.rs` checks it): `types`, `time`, `limits`; `record`; `protocol`; `client`;
//! `config`; `metadata`; `coordinator`; `storage`; `journal`; `log`; `partition`; `metrics`; `shard`; `handlers`; `net`;
//! `server`. `docs/architecture.md` walks one produce and one fetch through them.

pub mod client;
pub mod config;
pub mod coordinator;
#[cfg(feature = "runtime")]
pub mod handlers;
pub mod journal;
pub mod limits;
pub mod log;
pub mod metadata;
pub mod metrics;
#[cfg(feature = "runtime")]
pub mod net;
pub mod partition;
pub mod protocol;
pub mod record;
#[cfg(feature = "runtime")]
pub mod server;
#[cfg(feature = "runtime")]
pub mod shard;
pub mod storage;
pub mod time;
pub mod types;
