//! `millstream-bench compare` and `fetch-kafka`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Output;
use crate::broker::{BrokerSpec, Program, kafka};
use crate::compare::{Arena, Block, CompareSpec, Comparison, Metric};
use crate::engine::payload::Payload;
use crate::engine::plan::{FetchSpec, Plan, ProduceSpec, Range};
use crate::engine::schedule::{Pace, Rate, Shape};
use crate::error::{Doing, Error, Result};
use crate::estimate::Verdict;
use crate::peers;
use crate::ratios::RatiosFile;
use crate::report::Report;
use crate::units::parse_size;

#[derive(Args)]
pub(super) struct CompareArgs {
    /// The first broker: a Millstream binary, or `kafka`.
    a: String,
    /// The second, which is judged against the first.
    b: String,
    /// A setting for the first, `KEY=VALUE`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set_a: Vec<String>,
    /// A setting for the second.
    #[arg(long, value_name = "KEY=VALUE")]
    set_b: Vec<String>,
    /// The figure that decides; throughput in a closed loop, the p99 end to end in an open one.
    #[arg(long, value_enum)]
    by: Option<Metric>,
    /// The rate, as "100 MB/s" or "500 requests/s": an open loop with a consumer beside. Without it a
    /// closed loop as fast as the answers allow.
    #[arg(long)]
    rate: Option<Rate>,
    #[arg(long, value_parser = parse_size, default_value = "64KiB")]
    batch: usize,
    #[arg(long, value_parser = parse_size, default_value = "1000")]
    record: usize,
    #[arg(long, default_value_t = 16)]
    partitions: i32,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// The measured part of a block, in seconds.
    #[arg(long, default_value_t = 3.0)]
    block: f64,
    /// The part before it that is left out.
    #[arg(long, default_value_t = 0.5)]
    block_warm_up: f64,
    /// Load on each broker before the first pair, in seconds; 10, or 60 where one is Kafka.
    #[arg(long)]
    warm_up: Option<f64>,
    /// Pairs of blocks.
    #[arg(long, default_value_t = 60)]
    pairs: usize,
    /// No new pair after so many minutes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Take so many per cent of the second broker's core away: a slowdown of a known size.
    #[arg(long, default_value_t = 0.0)]
    handicap: f64,
    /// With `kafka` as one side: measure the ratios against it and fill them into this file.
    #[arg(long, value_name = "FILE")]
    ratios: Option<PathBuf>,
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Where the brokers keep their data.
    #[arg(long, default_value = "./data")]
    data_dir: PathBuf,
    /// Where `fetch-kafka` has put the jars.
    #[arg(long)]
    kafka_dir: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
pub(super) struct FetchKafkaArgs {
    /// The version.
    #[arg(long, default_value = kafka::VERSION)]
    version: String,
    /// Where the jars go; `target/kafka-VERSION` by default.
    #[arg(long)]
    into: Option<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "the command line's own words")]
pub(super) fn fetch_kafka(args: &FetchKafkaArgs) -> Result<bool> {
    let default = kafka::directory(&PathBuf::from("target"), &args.version);
    let into = args.into.clone().unwrap_or(default);
    kafka::fetch(&into, &args.version)?;
    println!("Apache Kafka {} is in {}", kafka::version(&into), into.display());
    Ok(true)
}

fn seconds(value: f64, what: &str) -> Result<Duration> {
    Duration::try_from_secs_f64(value).map_err(|e| Error::Usage(format!("{what}: {e}")))
}

impl CompareArgs {
    fn side(&self, name: &str, settings: &[String]) -> BrokerSpec {
        let libs = || {
            let default = kafka::directory(&PathBuf::from("target"), kafka::VERSION);
            self.kafka_dir.clone().unwrap_or(default)
        };
        BrokerSpec {
            program: match name {
                "kafka" => Program::Kafka(libs()),
                path => Program::Millstream(PathBuf::from(path)),
            },
            settings: settings.to_vec(),
            core: self.server_core,
            directory: self.data_dir.clone(),
        }
    }

    fn spec(&self) -> Result<CompareSpec> {
        let sides = [self.side(&self.a, &self.set_a), self.side(&self.b, &self.set_b)];
        let has_kafka = sides.iter().any(|s| matches!(s.program, Program::Kafka(_)));
        let pace = match self.rate {
            Some(rate) => Pace::Open { rate, shape: Shape::Poisson },
            None => Pace::Closed,
        };
        let block = seconds(self.block, "--block")?;
        let plan = Plan {
            produce: Some(ProduceSpec {
                partitions: Some(self.partitions),
                connections: self.connections,
                in_flight: self.in_flight,
                payload: Payload::Filler { batch_bytes: self.batch, record_bytes: self.record },
                pace,
                ..ProduceSpec::new("")
            }),
            fetch: self.rate.map(|_| FetchSpec::new("", Range::Tail)).into_iter().collect(),
            warm_up: seconds(self.block_warm_up, "--block-warm-up")?,
            duration: Some(block),
            interval: block / 10,
            repeat: super::command_line(),
            ..Plan::new("compare", "")
        };
        Ok(CompareSpec {
            sides,
            client_core: self.client_core,
            plan,
            warm_up: seconds(
                self.warm_up.unwrap_or(if has_kafka { 60.0 } else { 10.0 }),
                "--warm-up",
            )?,
            pairs: self.pairs,
            time: Some(seconds(self.minutes * 60.0, "--minutes")?),
            handicap: self.handicap / 100.0,
        })
    }
}

/// 0 unless the second side is worse.
pub(super) fn run(args: &CompareArgs) -> Result<bool> {
    std::fs::create_dir_all(&args.data_dir).doing(args.data_dir.display())?;
    let spec = args.spec()?;
    if let Some(path) = &args.ratios {
        return versus_kafka(args, spec, path);
    }
    let mut arena = Arena::start(&spec)?;
    let comparison = arena.compare(&mut |block| show(&args.a, &args.b, block))?;
    arena.stop()?;
    print(&comparison);
    args.output.write(&comparison)?;
    let by = args.by.unwrap_or(match args.rate {
        Some(_) => Metric::EndToEndP99,
        None => Metric::Throughput,
    });
    let title = format!("{} against {}", args.b, args.a);
    let report = Report::of_comparisons(&title, &[(String::new(), comparison.clone())]);
    args.output.report(&report)?;
    let ratio = comparison.ratios.get(&by);
    let ratio = ratio.ok_or_else(|| Error::Usage(format!("{} was not measured", by.words())))?;
    say(&format!("verdict by {}: {}", by.words(), verdict_word(ratio.verdict)));
    Ok(ratio.verdict != Verdict::Worse)
}

fn versus_kafka(args: &CompareArgs, spec: CompareSpec, path: &std::path::Path) -> Result<bool> {
    let is_kafka = |s: &BrokerSpec| matches!(s.program, Program::Kafka(_));
    let [first, second] = spec.sides.clone();
    let sides = match (is_kafka(&first), is_kafka(&second)) {
        (true, false) => [first, second],
        (false, true) => [second, first],
        _ => return Err(Error::Usage("--ratios needs kafka as one of the sides".to_owned())),
    };
    let names = [sides[0].name(), sides[1].name()];
    let mut file = RatiosFile::load(path)?;
    let spec = CompareSpec { sides, ..spec };
    let found = peers::versus_kafka(&spec, STARTS, &mut |load, block| {
        say(&format!("{load}:"));
        show(&names[0], &names[1], block);
    })?;
    for (name, comparison) in &found.comparisons {
        say(&format!("\n{name}"));
        print(comparison);
    }
    for (key, estimate) in &found.ratios {
        say(&format!(
            "{key:<16} {:.3} [{:.3}-{:.3}]",
            estimate.median, estimate.low, estimate.high
        ));
    }
    let mut report = Report::of_comparisons("Millstream against Apache Kafka", &found.comparisons);
    report.add_ratios(&found.ratios);
    for failure in &found.failures {
        say(&format!("not compared: {failure}"));
        report.notes.push(format!("not compared: {failure}"));
    }
    file.set(found.ratios);
    file.store(path)?;
    args.output.report(&report)?;
    Ok(found.failures.is_empty())
}

/// Starts of each broker for the ratios of start and memory.
const STARTS: usize = 5;

#[expect(clippy::print_stdout, reason = "the command line's own table")]
fn say(text: &str) {
    println!("{text}");
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Worse => "worse",
        Verdict::Undecided => "undecided",
    }
}

fn show(a: &str, b: &str, block: &Block<'_>) {
    let r = block.result;
    let p99 = r.latency(if r.fetched.requests > 0 { "end_to_end" } else { "ack" }).p99_us;
    say(&format!(
        "  pair {:>3} {:<32} {:>7.3} GB/s  {:>6.3} CPU s/GB  p99 {p99:>8.0} us{}",
        block.pairs + 1,
        if block.side == 0 { a } else { b },
        r.gb_per_s(),
        r.broker_seconds_per_gb().unwrap_or_default(),
        block.void.map_or_else(String::new, |why| format!("  void: {why}")),
    ));
}

fn print(comparison: &Comparison) {
    let [a, b] = &comparison.sides;
    say(&format!("{} over {}:", b.name, a.name));
    for (metric, ratio) in &comparison.ratios {
        let e = &ratio.estimate;
        say(&format!(
            "  {:<28} {:.3} [{:.3}-{:.3}]  {} pairs  {}",
            metric.words(),
            e.median,
            e.low,
            e.high,
            e.values.len(),
            verdict_word(ratio.verdict)
        ));
    }
    for (why, count) in &comparison.void {
        say(&format!("  {count} pairs void: {why}"));
    }
}
