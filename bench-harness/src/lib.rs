//! `millstream-bench`: a load generator for brokers that speak the Kafka protocol. It verifies what it
//! loads, and measures in the same run what the machine itself could do at best.
//!
//! Of the broker it uses the `protocol` and `record` modules only, so it drives any such broker.

pub mod batches;
pub mod cli;
pub mod environment;
pub mod error;
pub mod limits;
pub mod oracle;
pub mod poll;
pub mod state;
pub mod stats;
