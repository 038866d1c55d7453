//! `millstream-bench produce`, `fetch` and `verify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::progress::{ProgressLines, print_result};
use super::{Output, parse_bytes, parse_size};
use crate::engine;
use crate::engine::payload::Payload;
use crate::engine::plan::{Acks, FetchSpec, Plan, ProduceSpec, Range};
use crate::error::{Doing, Result};
use crate::oracle::Depth;
use crate::report::Report;
use crate::state::State;

/// What every load run is told.
#[derive(Args)]
struct Common {
    /// Any broker of the cluster.
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The broker's process, to read its processor time.
    #[arg(long)]
    broker_pid: Option<u32>,
    /// The core for the generator.
    #[arg(long)]
    core: Option<usize>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct ProduceArgs {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value = "bench")]
    topic: String,
    /// Partitions of a topic that has to be created; as many as connections by default.
    #[arg(long)]
    partitions: Option<i32>,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests under way on each connection.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// The size of a batch; one goes in each request.
    #[arg(long, value_parser = parse_size, default_value = "64KiB")]
    batch: usize,
    /// The size of a record's value.
    #[arg(long, value_parser = parse_size, default_value = "1KiB")]
    record: usize,
    #[arg(long, value_enum, default_value = "1")]
    acks: Acks,
    /// Stop after that much; 1 GiB unless a duration is given.
    #[arg(long, value_parser = parse_bytes)]
    bytes: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Read everything back afterwards and check it.
    #[arg(long)]
    verify: bool,
    /// Append what is acknowledged to this file, for `verify`.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum From {
    /// The log's start, up to its end at the beginning of the run.
    Earliest,
    /// The log's end, and on.
    Latest,
    /// The log's start, and on beyond its end.
    Follow,
    /// The log's start to its end, again and again.
    Repeat,
}

#[derive(Args)]
pub(super) struct FetchArgs {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value = "bench")]
    topic: String,
    /// What to read.
    #[arg(long, value_enum, default_value = "earliest")]
    from: From,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests under way on each connection, each for partitions of its own.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// The most to ask for, of each partition.
    #[arg(long, value_parser = parse_size, default_value = "1MiB")]
    partition_bytes: usize,
    /// How long the broker may wait for data, in milliseconds.
    #[arg(long, default_value_t = 500)]
    wait_ms: u64,
    /// Check every batch's CRC and every record's place.
    #[arg(long)]
    check: bool,
    /// Stop after that much.
    #[arg(long, value_parser = parse_bytes)]
    bytes: Option<u64>,
    /// Stop after so many seconds; 10 where nothing else ends the run.
    #[arg(long)]
    seconds: Option<f64>,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    common: Common,
    /// What `produce --state` wrote.
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    #[arg(long, default_value_t = 4)]
    connections: usize,
}

fn duration(seconds: Option<f64>) -> Option<Duration> {
    seconds.and_then(|s| Duration::try_from_secs_f64(s).ok())
}

impl Common {
    fn run(&self, plan: Plan) -> Result<bool> {
        let plan = Plan {
            broker_pid: self.broker_pid,
            core: self.core,
            repeat: super::command_line(),
            ..plan
        };
        let mut progress = ProgressLines::new(&plan.name);
        let result = engine::run(&plan, &mut |p| progress.show(p))?;
        progress.finish();
        print_result(&result);
        self.output.write(&result)?;
        let about = "One run of millstream-bench.";
        self.output.report(&Report::of_runs(
            &result.command,
            about,
            std::slice::from_ref(&result),
        ))?;
        Ok(result.is_valid())
    }
}

pub(super) fn produce(args: &ProduceArgs) -> Result<bool> {
    let duration = duration(args.seconds);
    let spec = ProduceSpec {
        partitions: args.partitions,
        connections: args.connections,
        in_flight: args.in_flight,
        payload: Payload::Filler { batch_bytes: args.batch, record_bytes: args.record },
        acks: args.acks,
        bytes: args.bytes.or(if duration.is_none() { Some(1 << 30) } else { None }),
        state: args.state.clone(),
        ..ProduceSpec::new(&args.topic)
    };
    if !args.verify {
        return args.common.run(Plan { duration, ..Plan::produce(&args.common.bootstrap, spec) });
    }
    let kept = spec.state.clone().unwrap_or_else(|| {
        std::env::temp_dir().join(format!("millstream-bench-acked-{}", std::process::id()))
    });
    let spec = ProduceSpec { state: Some(kept.clone()), ..spec };
    let valid =
        args.common.run(Plan { duration, ..Plan::produce(&args.common.bootstrap, spec) })?;
    let acked = State::read(&kept)?;
    if args.state.is_none() {
        std::fs::remove_file(&kept).doing(kept.display())?;
    }
    let whole = FetchSpec { acked: Some(acked), ..FetchSpec::new(&args.topic, Range::Whole) };
    let plan = Plan::fetch(&args.common.bootstrap, whole);
    Ok(args.common.run(Plan { name: "verify".to_owned(), ..plan })? && valid)
}

pub(super) fn fetch(args: &FetchArgs) -> Result<bool> {
    let range = match args.from {
        From::Earliest => Range::Whole,
        From::Latest => Range::Tail,
        From::Follow => Range::WholeThenTail,
        From::Repeat => Range::Repeat,
    };
    let ends = range == Range::Whole || args.bytes.is_some();
    let spec = FetchSpec {
        connections: args.connections,
        in_flight: args.in_flight,
        partition_bytes: args.partition_bytes,
        wait: Duration::from_millis(args.wait_ms),
        depth: if args.check { Depth::Bytes } else { Depth::Framing },
        bytes: args.bytes,
        ..FetchSpec::new(&args.topic, range)
    };
    let default = if ends { None } else { Some(Duration::from_secs(10)) };
    let duration = duration(args.seconds).or(default);
    args.common.run(Plan { duration, ..Plan::fetch(&args.common.bootstrap, spec) })
}

pub(super) fn verify(args: &VerifyArgs) -> Result<bool> {
    let state = State::read(&args.state)?;
    let topic = state.topic.clone();
    let spec = FetchSpec {
        connections: args.connections,
        acked: Some(state),
        ..FetchSpec::new(&topic, Range::Whole)
    };
    let plan = Plan::fetch(&args.common.bootstrap, spec);
    args.common.run(Plan { name: "verify".to_owned(), ..plan })
}
