//! The real binary under real clients: librdkafka, kcat, and raw sockets for what no client would send.
//!
//! Every test starts brokers of its own, on free ports, with data under `target/tmp`. Nothing here
//! asserts a wall-clock time: limits only bound how long a test waits for what it needs, and figures
//! that an issue asks for are printed.

mod admin;
mod broker;
mod client;
mod clients;
mod commands;
mod compaction;
mod configs;
mod counters;
mod disk;
mod group_kill;
mod group_wire;
mod groups;
mod idempotent;
mod kcat;
mod kill;
mod load;
mod log_tools;
mod malformed;
mod million;
mod outcome;
mod real;
mod retention;
mod startup;
mod stop;
mod surface;
mod time;
mod traps;
mod wire;
