//! `millstream-bench compare-limits`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::machine::MachineArgs;
use super::{Output, human_bytes, parse_bytes, parse_size};
use crate::against::{self, Against, AgainstSpec, Comparison, Pair};
use crate::broker::{BrokerSpec, Program};
use crate::error::{Doing, Result};
use crate::stats::Spread;

#[derive(Args)]
pub(super) struct AgainstArgs {
    /// What to compare; everything by default.
    #[arg(value_enum)]
    against: Vec<Against>,
    /// The broker's binary, run as `PROGRAM serve --listen HOST:PORT --data-dir DIR --cores CORE`.
    #[arg(long)]
    broker: PathBuf,
    /// A setting for the broker, `KEY=VALUE`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    machine: MachineArgs,
    /// Pairs of runs of each.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// What is fetched again and again; has to fit into the broker's ring.
    #[arg(long, value_parser = parse_bytes, default_value = "128MiB")]
    tail: u64,
    /// Produced before each measured produce.
    #[arg(long, value_parser = parse_bytes, default_value = "512MiB")]
    warm_up: u64,
    /// Partitions; as many as connections by default.
    #[arg(long)]
    partitions: Option<i32>,
    /// The size of a record's value.
    #[arg(long, value_parser = parse_size, default_value = "1KiB")]
    record: usize,
    /// Read everything back after each produce and check it.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &AgainstArgs) -> Result<bool> {
    let machine = &args.machine;
    machine.prepare()?;
    let all = [Against::Produce, Against::TailFetch];
    let chosen = if args.against.is_empty() { &all[..] } else { &args.against };
    let frames = |against| machine.frame.iter().map(move |frame| (against, *frame));
    let spec = AgainstSpec {
        broker: BrokerSpec {
            program: Program::Millstream(args.broker.clone()),
            settings: args.set.clone(),
            core: machine.server_core,
            directory: machine.data_dir.clone(),
        },
        client_core: machine.client_core,
        cases: chosen.iter().flat_map(|against| frames(*against)).collect(),
        pairs: args.pairs,
        bytes: machine.bytes,
        tail_bytes: args.tail,
        warm_up_bytes: args.warm_up,
        partitions: args.partitions,
        connections: machine.connections,
        in_flight: machine.in_flight,
        record_bytes: args.record,
        file_bytes: machine.file_bytes,
        verify: args.verify,
        harness: std::env::current_exe().doing("finding this program")?,
    };
    let comparison = against::run(&spec, print_pair)?;
    print(&comparison);
    args.output.write(&comparison)?;
    Ok(true)
}

fn name(against: Against) -> String {
    against.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
fn print_pair(against: Against, frame_bytes: usize, pair: &Pair) {
    println!(
        "{:<10} {:>8}  limit {:.2} GB/s  broker {:.2} GB/s  ratio {:.3}{}",
        name(against),
        human_bytes(frame_bytes as u64),
        pair.limit.gb_per_s(),
        pair.broker.gb_per_s(),
        pair.ratio(),
        if pair.broker_was_quiet { "" } else { "  (broker not idle before)" }
    );
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
fn print(comparison: &Comparison) {
    println!(
        "\nloopback, one server core, one client core; median [min-max] of pairs; steal {:.1} %",
        comparison.steal_percent
    );
    println!(
        "{:<10} {:>8} {:>5}  {:<22} {:<22} {:<22} {:<22} {:<22} {:>9}",
        "case",
        "frame",
        "pairs",
        "broker / limit",
        "limit GB/s",
        "broker GB/s",
        "limit CPU s/GB",
        "broker CPU s/GB",
        "generator"
    );
    for case in &comparison.cases {
        let show = |s: Spread| format!("{:.3} [{:.3}-{:.3}]", s.median, s.min, s.max);
        let (limit_cpu, broker_cpu) = case.cpu_seconds_per_gb();
        println!(
            "{:<10} {:>8} {:>5}  {:<22} {:<22} {:<22} {:<22} {:<22} {:>7.0} %",
            name(case.against),
            human_bytes(case.frame_bytes as u64),
            case.pairs.len(),
            show(case.ratio()),
            show(Spread::of(case.pairs.iter().map(|p| p.limit.gb_per_s()))),
            show(Spread::of(case.pairs.iter().map(|p| p.broker.gb_per_s()))),
            show(limit_cpu),
            show(broker_cpu),
            case.generator_busy().median * 100.0,
        );
    }
    println!(
        "tail-fetch reads what was produced before from the broker's memory, again and again; nothing is produced meanwhile"
    );
}
