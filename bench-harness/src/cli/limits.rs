//! `millstream-bench limits`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Output, human_bytes, parse_bytes, parse_size};
use crate::environment::{Environment, MachineTicks};
use crate::error::{Doing, Result};
use crate::limits::{self, LimitKind, LimitResult, LimitSpec};
use crate::stats::Spread;

#[derive(Args)]
pub(super) struct LimitsArgs {
    /// What to measure; all of them by default.
    #[arg(value_enum)]
    kinds: Vec<LimitKind>,
    /// Frame (for memory to socket: answer) sizes.
    #[arg(long, value_delimiter = ',', value_parser = parse_size, default_values = ["64KiB", "1MiB"])]
    frame: Vec<usize>,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Frames under way on each connection where there is an answer.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// What each run moves.
    #[arg(long, value_parser = parse_bytes, default_value = "4GiB")]
    bytes: u64,
    /// Runs of each; the kinds take turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Where the prepared file goes: the filesystem whose direct writes are measured.
    #[arg(long, default_value = "./data")]
    data_dir: PathBuf,
    /// The size of that file, which is written round and round.
    #[arg(long, value_parser = parse_bytes, default_value = "2GiB")]
    file_bytes: u64,
    /// Direct writes of 1 MiB in flight.
    #[arg(long, default_value_t = 4)]
    depth: usize,
    /// The warm memory that answers come from.
    #[arg(long, value_parser = parse_size, default_value = "256MiB")]
    memory: usize,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct LimitsResult {
    command: &'static str,
    environment: Environment,
    steal_percent: f64,
    runs: Vec<LimitResult>,
}

pub(super) fn run(args: &LimitsArgs) -> Result<bool> {
    let kinds = if args.kinds.is_empty() {
        let mut all = LimitKind::INGEST_STAGES.to_vec();
        all.extend([LimitKind::MemoryToSocket, LimitKind::Echo]);
        all
    } else {
        args.kinds.clone()
    };
    let program = std::env::current_exe().doing("finding this program")?;
    std::fs::create_dir_all(&args.data_dir).doing(args.data_dir.display())?;
    let writes = kinds.iter().any(|kind| kind.writes());
    let file =
        if writes { Some(limits::prepare_file(&args.data_dir, args.file_bytes)?) } else { None };
    let specs: Vec<LimitSpec> = kinds
        .iter()
        .flat_map(|kind| args.frame.iter().map(|frame| (*kind, *frame)))
        .map(|(kind, frame)| LimitSpec {
            in_flight: args.in_flight,
            server_core: Some(args.server_core),
            client_core: Some(args.client_core),
            file: file.clone(),
            depth: args.depth,
            memory_bytes: args.memory,
            ..LimitSpec::new(kind, frame, args.connections, args.bytes)
        })
        .collect();
    let outcome = measure(&specs, args.runs, &program);
    if let Some(file) = &file {
        std::fs::remove_file(file).doing(file.display())?;
    }
    let (runs, steal_percent) = outcome?;
    print(&specs, &runs, steal_percent);
    let environment = Environment::here(Some(&args.data_dir));
    args.output.write(&LimitsResult { command: "limits", environment, steal_percent, runs })?;
    Ok(true)
}

fn measure(
    specs: &[LimitSpec],
    runs: usize,
    program: &std::path::Path,
) -> Result<(Vec<LimitResult>, f64)> {
    let ticks = MachineTicks::now();
    let mut results = Vec::new();
    for _ in 0..runs {
        for spec in specs {
            results.push(limits::run(spec, program)?);
        }
    }
    Ok((results, MachineTicks::now().steal_percent_since(ticks)))
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
fn print(specs: &[LimitSpec], results: &[LimitResult], steal_percent: f64) {
    println!(
        "loopback, one server core, one client core; median [min-max]; steal {steal_percent:.1} %"
    );
    println!(
        "{:<16} {:>8} {:>5}  {:<24} {:<24} {:>12} {:>11}",
        "limit", "frame", "conns", "GB/s", "server CPU s/GB", "client s/GB", "p50/p99 us"
    );
    for spec in specs {
        let of_spec =
            || results.iter().filter(|r| r.kind == spec.kind && r.frame_bytes == spec.frame_bytes);
        let rate = Spread::of(of_spec().map(LimitResult::gb_per_s));
        let server = Spread::of(of_spec().map(|r| r.server_cpu.seconds_per_gb(r.bytes)));
        let client = Spread::of(of_spec().map(|r| r.client_cpu.seconds_per_gb(r.bytes)));
        let latency = |pick: fn(&crate::stats::Latencies) -> f64| {
            Spread::of(of_spec().filter_map(|r| r.latency.as_ref().map(pick))).median
        };
        let (p50, p99) = (latency(|l| l.p50_us), latency(|l| l.p99_us));
        println!(
            "{:<16} {:>8} {:>5}  {:<24} {:<24} {:>12.3} {:>11}",
            clap::ValueEnum::to_possible_value(&spec.kind)
                .map_or_else(String::new, |v| v.get_name().to_owned()),
            human_bytes(spec.frame_bytes as u64),
            spec.connections,
            format!("{:.2} [{:.2}-{:.2}]", rate.median, rate.min, rate.max),
            format!("{:.3} [{:.3}-{:.3}]", server.median, server.min, server.max),
            client.median,
            if spec.kind.answers() { format!("{p50:.0}/{p99:.0}") } else { "-".to_owned() },
        );
    }
}
