//! The `millstream-bench` command.

fn main() {}
