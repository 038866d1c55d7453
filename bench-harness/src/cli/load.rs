//! `millstream-bench produce`, `fetch` and `verify`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Output, human_bytes, parse_bytes, parse_size};
use crate::consumer::{self, FetchSpec, Range};
use crate::error::Result;
use crate::oracle::Depth;
use crate::producer::{self, Acks, ProduceSpec};
use crate::result::RunResult;
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

pub(super) fn produce(args: &ProduceArgs) -> Result<bool> {
    let duration = duration(args.seconds);
    let spec = ProduceSpec {
        partitions: args.partitions,
        connections: args.connections,
        in_flight: args.in_flight,
        batch_bytes: args.batch,
        record_bytes: args.record,
        acks: args.acks,
        bytes: args.bytes.or(if duration.is_none() { Some(1 << 30) } else { None }),
        duration,
        state: args.state.clone(),
        broker_pid: args.common.broker_pid,
        core: args.common.core,
        ..ProduceSpec::new(&args.common.bootstrap, &args.topic)
    };
    report(&args.common.output, &producer::run(&spec)?)
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
        duration: duration(args.seconds).or(if ends {
            None
        } else {
            Some(Duration::from_secs(10))
        }),
        broker_pid: args.common.broker_pid,
        core: args.common.core,
        ..FetchSpec::new(&args.common.bootstrap, &args.topic, range)
    };
    report(&args.common.output, &consumer::run(&spec)?)
}

pub(super) fn verify(args: &VerifyArgs) -> Result<bool> {
    let state = State::read(&args.state)?;
    let topic = state.topic.clone();
    let spec = FetchSpec {
        connections: args.connections,
        depth: Depth::Bytes,
        acked: Some(state),
        broker_pid: args.common.broker_pid,
        core: args.common.core,
        ..FetchSpec::new(&args.common.bootstrap, &topic, Range::Whole)
    };
    let mut result = consumer::run(&spec)?;
    result.command = "verify".to_owned();
    report(&args.common.output, &result)
}

/// Prints and writes the result; true if all is well.
fn report(output: &Output, result: &RunResult) -> Result<bool> {
    print(result);
    output.write(result)?;
    Ok(result.is_clean())
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
fn print(result: &RunResult) {
    let seconds = result.elapsed.as_secs_f64().max(1e-9);
    println!(
        "{}: {} in {seconds:.3} s = {:.3} GB/s, {:.0} records/s, {:.0} requests/s",
        result.command,
        human_bytes(result.bytes),
        result.gb_per_s(),
        result.records as f64 / seconds,
        result.requests as f64 / seconds,
    );
    let l = &result.latency;
    println!(
        "  latency us: p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0}  ({} requests)",
        l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.max_us, l.count
    );
    let cpu = |who: &str, cpu: Option<crate::environment::CpuTime>| {
        if let Some(cpu) = cpu {
            println!(
                "  {who:<9} CPU: {:.3} s/GB (user {:.2} s, system {:.2} s)",
                cpu.seconds_per_gb(result.bytes),
                cpu.user.as_secs_f64(),
                cpu.system.as_secs_f64()
            );
        }
    };
    cpu("broker", result.broker_cpu);
    cpu("generator", Some(result.generator_cpu));
    for (name, count) in &result.errors {
        println!("  error {name}: {count}");
    }
    if let Some(broken) = &result.broken {
        println!("  broken: {broken}");
    }
    if let Some(v) = &result.verdict {
        println!(
            "  {}: {} batches, {} lost, {} duplicates, {} reorders, {} corrupt, {} offset gaps, {} sequence gaps, {} foreign",
            if v.is_clean() { "clean" } else { "WRONG" },
            v.batches,
            v.lost,
            v.duplicates,
            v.reorders,
            v.corrupt,
            v.offset_gaps,
            v.gaps,
            v.foreign
        );
    }
}
