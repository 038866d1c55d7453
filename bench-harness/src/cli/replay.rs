//! `millstream-bench replay`.

use std::path::PathBuf;

use clap::Args;

use super::{Output, human_bytes, parse_size};
use crate::error::Result;
use crate::replay::{self, ReplaySpec};

#[derive(Args)]
pub(super) struct ReplayArgs {
    /// The file: each line becomes a record.
    file: PathBuf,
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The topic; the file's name without its ending by default.
    #[arg(long)]
    topic: Option<String>,
    /// Partitions of a topic that has to be created.
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    /// Which field of a line, counted from 1 and separated by white space, is the key.
    #[arg(long, value_name = "N")]
    key_field: Option<usize>,
    #[arg(long, value_parser = parse_size, default_value = "64KiB")]
    batch: usize,
    /// Read everything back and compare bytes and order.
    #[arg(long)]
    verify: bool,
    /// Do not produce, only compare with what the topic holds.
    #[arg(long)]
    verify_only: bool,
    #[command(flatten)]
    output: Output,
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
pub(super) fn run(args: &ReplayArgs) -> Result<bool> {
    let spec = ReplaySpec {
        bootstrap: args.bootstrap.clone(),
        topic: args.topic.clone().unwrap_or_else(|| replay::topic_name(&args.file)),
        partitions: args.partitions,
        file: args.file.clone(),
        key_field: args.key_field,
        batch_bytes: args.batch,
        produce: !args.verify_only,
        verify: args.verify || args.verify_only,
    };
    let result = replay::run(&spec)?;
    println!(
        "replay: {} lines ({}) in {} batches, {} records read back",
        result.lines,
        human_bytes(result.bytes),
        result.batches,
        result.read
    );
    for difference in &result.differences {
        println!("  WRONG {difference}");
    }
    args.output.write(&result)?;
    Ok(result.differences.is_empty())
}
