//! `millstream-bench limits`.

use clap::Args;
use serde::Serialize;

use super::machine::MachineArgs;
use super::{Output, human_bytes, parse_size};
use crate::environment::{Environment, MachineTicks};
use crate::error::{Doing, Error, Result};
use crate::limits::{self, LimitKind, LimitResult, LimitSpec};
use crate::report::Report;
use crate::stats::Spread;

#[derive(Args)]
pub(super) struct LimitsArgs {
    /// What to measure; all of them by default.
    #[arg(value_enum)]
    kinds: Vec<LimitKind>,
    #[command(flatten)]
    machine: MachineArgs,
    /// Runs of each; the kinds take turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
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
    let kinds = if args.kinds.is_empty() { &LimitKind::ALL[..] } else { &args.kinds };
    if kinds.contains(&LimitKind::ProduceSink) {
        return Err(Error::Usage("produce-sink measures the generator: see `headroom`".to_owned()));
    }
    let program = std::env::current_exe().doing("finding this program")?;
    let machine = &args.machine;
    machine.prepare()?;
    let needed = kinds.iter().any(|kind| kind.needs_file());
    let file = if needed {
        Some(limits::prepare_file(&machine.data_dir, machine.file_bytes)?)
    } else {
        None
    };
    let specs: Vec<LimitSpec> = kinds
        .iter()
        .flat_map(|kind| {
            let disk = &[millstream::limits::BLOCK][..];
            let frames = if kind.is_disk() { disk } else { &machine.frame };
            frames.iter().map(|frame| (*kind, *frame))
        })
        .map(|(kind, frame)| LimitSpec {
            in_flight: machine.in_flight,
            server_core: Some(machine.server_core),
            client_core: Some(machine.client_core),
            file: file.clone(),
            depth: args.depth,
            memory_bytes: args.memory,
            ..LimitSpec::new(kind, frame, machine.connections, machine.bytes)
        })
        .collect();
    let outcome = measure(&specs, args.runs, &program);
    if let Some(file) = &file {
        std::fs::remove_file(file).doing(file.display())?;
    }
    let (runs, steal_percent) = outcome?;
    print(&specs, &runs, steal_percent);
    let environment = Environment::here(Some(&machine.data_dir));
    let about = "What this machine can do at best.";
    let mut report = Report::new("Limits", about, environment.clone());
    report.repeat = super::command_line();
    report.add_limits(&runs);
    args.output.report(&report)?;
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
