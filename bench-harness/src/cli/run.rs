//! `millstream-bench run`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Output;
use super::progress::{ProgressLines, print_result};
use crate::broker::{Broker, BrokerSpec, Program};
use crate::engine::plan::Plan;
use crate::engine::schedule::Shape;
use crate::environment::pin_to_core;
use crate::error::{Doing, Error, Result};
use crate::find::{self, Found};
use crate::report::{Report, Status};
use crate::result::RunResult;
use crate::units::parse_bytes;
use crate::workload::{Changes, SHIPPED, Workload};
use crate::{engine, logs, quick};

#[derive(Args)]
pub(super) struct RunArgs {
    /// The workload: a shipped one by its name, or a TOML file. Without one, those shipped are
    /// listed. `scale` is none of them: it measures the ratios that `quick` has no time for.
    workload: Option<String>,
    /// Any broker of the cluster that is to be loaded.
    #[arg(long, default_value = "127.0.0.1:9092", conflicts_with = "broker")]
    bootstrap: String,
    /// Start this broker instead, as `PROGRAM serve ...`, pinned to a core, with an empty directory.
    #[arg(long, value_name = "PROGRAM")]
    broker: Option<PathBuf>,
    /// A setting for the broker that is started, `KEY=VALUE`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", requires = "broker")]
    set: Vec<String>,
    /// Where a broker that is started keeps its data.
    #[arg(long, default_value = "./data")]
    data_dir: PathBuf,
    /// The core of a broker that is started.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The process of a broker that runs already, to read what it uses.
    #[arg(long)]
    broker_pid: Option<u32>,
    /// The core for the generator.
    #[arg(long)]
    core: Option<usize>,
    /// Another rate: "100 MB/s", "20000 records/s", "500 requests/s", or "max" for a closed loop.
    #[arg(long)]
    rate: Option<String>,
    /// Another shape of the arrivals: constant, poisson, bursts:REQUESTS, ramp:FROM:TO.
    #[arg(long, value_parser = parse_shape)]
    shape: Option<Shape>,
    /// Another acknowledgement: 0, 1 or all.
    #[arg(long)]
    acks: Option<String>,
    /// Measure so many seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Leave so many seconds out before.
    #[arg(long)]
    warm_up: Option<f64>,
    /// Search the highest rate that holds the workload's objective.
    #[arg(long)]
    find_max: bool,
    /// The length of each trial of that search.
    #[arg(long, default_value_t = 5.0)]
    trial_seconds: f64,
    /// With the name `scale`: measure the ratios that `quick` leaves out, and fill them into this file.
    #[arg(long, value_name = "FILE")]
    ratios: Option<PathBuf>,
    /// With `scale`: pairs of each ratio.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// With `scale`: what a run of produce moves.
    #[arg(long, value_parser = parse_bytes, default_value = "2GiB")]
    bytes: u64,
    /// Write the histograms into this directory: an interval log (.hdr) and percentiles (.hgrm).
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

fn parse_shape(text: &str) -> std::result::Result<Shape, String> {
    let words: Vec<&str> = text.split(':').collect();
    let number = |word: &str| word.parse::<f64>().map_err(|_| format!("{word:?} is no number"));
    match words.as_slice() {
        ["constant"] => Ok(Shape::Constant),
        ["poisson"] => Ok(Shape::Poisson),
        ["bursts", n] => {
            let requests = n.parse().map_err(|_| format!("{n:?} is no number of requests"))?;
            Ok(Shape::Bursts { requests })
        }
        ["ramp", from, to] => Ok(Shape::Ramp { from: number(from)?, to: number(to)? }),
        _ => Err(format!("{text:?} is none of constant, poisson, bursts:REQUESTS, ramp:FROM:TO")),
    }
}

pub(super) fn run(args: &RunArgs) -> Result<bool> {
    let Some(name) = &args.workload else {
        list();
        return Ok(true);
    };
    if name == SCALE {
        return scale(args);
    }
    let workload = Workload::load(name)?.changed(&Changes {
        rate: args.rate.clone(),
        shape: args.shape,
        seconds: args.seconds,
        warm_up_s: args.warm_up,
        acks: args.acks.clone(),
    });
    let started = args.broker.as_ref().map(|program| start(args, program)).transpose()?;
    let outcome = load(args, &workload, started.as_ref());
    match (started, outcome) {
        (Some(broker), Ok(valid)) => broker.stop().map(|()| valid),
        (_, outcome) => outcome,
    }
}

/// The run that is no workload: the ratios that `quick` has no time for.
const SCALE: &str = "scale";

fn scale(args: &RunArgs) -> Result<bool> {
    let program = args.broker.clone().unwrap_or_else(super::quick::broker_beside);
    let spec = quick::Spec {
        broker: BrokerSpec {
            program: Program::Millstream(program),
            settings: args.set.clone(),
            core: args.server_core,
            directory: args.data_dir.clone(),
        },
        client_core: args.core.unwrap_or(1),
        harness: std::env::current_exe().doing("finding this program")?,
        pairs: args.pairs,
        bytes: args.bytes,
        tail_bytes: 128 << 20,
        cold_bytes: args.bytes,
        file_bytes: args.bytes,
        seconds: args.seconds.unwrap_or(2.0),
    };
    super::quick::measure(
        "What a broker makes of scale",
        &spec,
        quick::Bench::scale,
        args.ratios.as_deref(),
        &args.output,
    )
}

fn start(args: &RunArgs, program: &std::path::Path) -> Result<Broker> {
    std::fs::create_dir_all(&args.data_dir).doing(args.data_dir.display())?;
    let broker = Broker::start(&BrokerSpec {
        program: Program::Millstream(program.to_owned()),
        settings: args.set.clone(),
        core: args.server_core,
        directory: args.data_dir.clone(),
    })?;
    // Starting it has left this thread on the broker's core.
    let core = args.core.ok_or_else(|| {
        Error::Usage("say which core is the generator's: --core, beside --broker".to_owned())
    });
    core.and_then(pin_to_core)?;
    broker.wait_until_quiet()?;
    Ok(broker)
}

fn load(args: &RunArgs, workload: &Workload, started: Option<&Broker>) -> Result<bool> {
    let bootstrap = started.map_or(args.bootstrap.as_str(), |broker| broker.address());
    let placed = |plan: Plan| Plan {
        broker_pid: started.map(Broker::pid).or(args.broker_pid),
        core: args.core,
        data_dir: started.map(|_| args.data_dir.clone()),
        repeat: super::command_line(),
        ..plan
    };
    if let Some(fill) = workload.fill(bootstrap)? {
        let filled = go(&placed(fill))?;
        if !filled.is_clean() {
            print_result(&filled);
            return Ok(false);
        }
    }
    let plan = placed(workload.plan(bootstrap)?);
    let mut trials = Vec::new();
    let result = if args.find_max {
        let trial = Duration::try_from_secs_f64(args.trial_seconds)
            .map_err(|e| Error::Usage(format!("--trial-seconds: {e}")))?;
        let mut progress = ProgressLines::new(&plan.name);
        let found = find::find_max(&plan, &workload.objective, trial, &mut |p| progress.show(p))?;
        progress.finish();
        print_found(workload, &found);
        trials = found.trials;
        match found.best {
            Some(best) => best,
            None => {
                let mut report = Report::of_runs(&workload.name, &workload.about, &[]);
                report.status.push(Status { text: "no rate held it".to_owned(), good: false });
                report.repeat = super::command_line();
                report.trials = trials;
                report.objective = Some(workload.objective.to_string());
                args.output.report(&report)?;
                return Ok(false);
            }
        }
    } else {
        go(&plan)?
    };
    print_result(&result);
    args.output.write(&result)?;
    let mut report =
        Report::of_runs(&workload.name, &workload.about, std::slice::from_ref(&result));
    report.trials = trials;
    report.objective = Some(workload.objective.to_string());
    args.output.report(&report)?;
    if let Some(directory) = &args.logs {
        std::fs::create_dir_all(directory).doing(directory.display())?;
        logs::write(&result, directory, &workload.name)?;
    }
    Ok(result.is_valid())
}

fn go(plan: &Plan) -> Result<RunResult> {
    let mut progress = ProgressLines::new(&plan.name);
    let result = engine::run(plan, &mut |p| progress.show(p));
    progress.finish();
    result
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
fn list() {
    for (name, _) in SHIPPED {
        match Workload::load(name) {
            Ok(workload) => println!("{name:<20} {}", workload.about),
            Err(error) => println!("{name:<20} {error}"),
        }
    }
    println!("{SCALE:<20} The ratios of a broker to this machine that `quick` has no time for.");
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
fn print_found(workload: &Workload, found: &Found) {
    println!("objective: {}", workload.objective);
    for (i, trial) in found.trials.iter().enumerate() {
        println!(
            "  {:>9.0} requests/s  {:>7.3} GB/s  {:>9.2} ms  {}",
            trial.requests_per_s,
            trial.gb_per_s,
            trial.ms,
            match (i, trial.held) {
                (0, _) => "closed loop",
                (_, true) => "held",
                (_, false) => "not held",
            }
        );
    }
    if found.best.is_none() {
        println!("  no rate held it");
    }
}
