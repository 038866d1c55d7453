//! How brokers are talked to. The wire driver is the harness's own client: lean, one thread, every
//! byte accounted for.

pub mod control;
pub mod lean;
pub mod wire;
