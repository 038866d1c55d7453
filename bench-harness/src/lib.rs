//! `millstream-bench`: a load generator for brokers that speak the Kafka protocol. It verifies what it
//! loads, and measures in the same run what the machine itself could do at best.
//!
//! Of the broker it uses the `protocol` and `record` modules only, so it drives any such broker.

pub mod against;
pub mod batches;
pub mod broker;
pub mod cli;
pub mod compare;
pub mod driver;
pub mod engine;
pub mod environment;
pub mod error;
pub mod estimate;
pub mod find;
pub mod limits;
pub mod logs;
pub mod oracle;
pub mod peers;
pub mod poll;
pub mod quick;
pub mod random;
pub mod ratios;
pub mod replay;
pub mod report;
pub mod resources;
pub mod result;
pub mod state;
pub mod stats;
pub mod units;
pub mod workload;

/// Waits, on a thread that serves nobody meanwhile.
pub(crate) fn pause(time: std::time::Duration) {
    let time = rustix::thread::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    // Woken early by a signal, the caller looks again a little sooner.
    let _interrupted = rustix::thread::nanosleep(&time);
}
