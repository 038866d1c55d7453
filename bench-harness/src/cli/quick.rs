//! `millstream-bench quick`, and what it shares with `run scale`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Output;
use crate::broker::{BrokerSpec, Program};
use crate::environment::Environment;
use crate::error::{Doing, Result};
use crate::quick::{Bench, Found, Spec, Told};
use crate::ratios::{RatiosFile, words};
use crate::report::{Report, Status};
use crate::units::parse_bytes;

#[derive(Args)]
pub(super) struct QuickArgs {
    /// The broker's binary; `millstream` beside this program by default.
    #[arg(long, value_name = "PROGRAM")]
    broker: Option<PathBuf>,
    /// A setting for the broker, `KEY=VALUE`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Small amounts, to see that everything works: the figures mean nothing.
    #[arg(long)]
    short: bool,
    /// Pairs of each ratio.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// What a run of produce moves: at least three times the broker's ring and journal.
    #[arg(long, value_parser = parse_bytes, default_value = "2GiB")]
    bytes: u64,
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Where the broker's data and the limits' file go.
    #[arg(long, default_value = "./data")]
    data_dir: PathBuf,
    /// Fill the ratios into this file; those not measured are null.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the summary as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// The broker's binary in the directory of this one.
pub(super) fn broker_beside() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.with_file_name("millstream")
}

/// Where the broker stands.
pub(super) fn run(args: &QuickArgs) -> Result<bool> {
    let title = if args.short { "Quick look (short: no figures)" } else { "Quick look" };
    args.measure(title, Bench::quick)
}

/// Where the generator stands.
pub(super) fn headroom(args: &QuickArgs) -> Result<bool> {
    args.measure("Headroom of the generator", Bench::headrooms)
}

impl QuickArgs {
    fn measure(&self, title: &str, what: fn(&mut Bench, Told<'_>) -> Result<()>) -> Result<bool> {
        let output =
            Output { json: None, html: self.html.clone(), markdown: self.markdown.clone() };
        measure(title, &self.spec()?, what, self.json.as_deref(), &output)
    }

    fn spec(&self) -> Result<Spec> {
        let program = self.broker.clone().unwrap_or_else(broker_beside);
        let spec = Spec {
            broker: BrokerSpec {
                program: Program::Millstream(program),
                settings: self.set.clone(),
                core: self.server_core,
                directory: self.data_dir.clone(),
            },
            client_core: self.client_core,
            harness: std::env::current_exe().doing("finding this program")?,
            pairs: self.pairs,
            bytes: self.bytes,
            tail_bytes: 128 << 20,
            cold_bytes: self.bytes,
            file_bytes: 1 << 30,
            seconds: 1.0,
        };
        if !self.short {
            return Ok(spec);
        }
        Ok(Spec {
            pairs: 2,
            bytes: 64 << 20,
            tail_bytes: 16 << 20,
            cold_bytes: 64 << 20,
            file_bytes: 64 << 20,
            seconds: 0.3,
            ..spec
        })
    }
}

/// Measures, prints, writes the page and fills the file of ratios.
pub(super) fn measure(
    title: &str,
    spec: &Spec,
    what: fn(&mut Bench, Told<'_>) -> Result<()>,
    ratios: Option<&Path>,
    output: &Output,
) -> Result<bool> {
    std::fs::create_dir_all(&spec.broker.directory).doing(spec.broker.directory.display())?;
    // Whatever is wrong with the file is said before the work.
    let mut file = ratios.map(RatiosFile::load).transpose()?.unwrap_or_default();
    let mut bench = Bench::start(spec)?;
    let done = what(&mut bench, &mut |line| eprintln!("{line}"));
    let found = bench.finish()?;
    done?;
    let report = report(title, spec, &found);
    print(&report);
    output.report(&report)?;
    if let Some(path) = ratios {
        file.set(found.estimates());
        file.more.insert(
            "environment".to_owned(),
            serde_json::to_value(&report.environment).doing("writing the ratios")?,
        );
        file.store(path)?;
    }
    Ok(found.faults.is_empty())
}

fn report(title: &str, spec: &Spec, found: &Found) -> Report {
    let environment = Environment::here(Some(&spec.broker.directory));
    let about = format!(
        "{} on core {}, the generator on core {}; {} pairs of each ratio.",
        spec.broker.name(),
        spec.broker.core,
        spec.client_core,
        spec.pairs
    );
    let mut report = Report::new(title, &about, environment);
    report.repeat = super::command_line();
    for (name, run) in &found.runs {
        if run.latencies.contains_key("end_to_end") && report.series.is_empty() {
            report.headline(run);
            report.add_run("", run);
            report.costs.clear();
        }
        report.settings.retain(|(kept, _)| kept != name);
        report.settings.push((name.clone(), run.settings.clone()));
    }
    for (name, run) in &found.runs {
        report.add_cost(words(name), run);
    }
    for (key, estimate) in found.estimates() {
        report.ratios.push(crate::report::RatioLine {
            what: words(&key).to_owned(),
            key,
            estimate,
            verdict: None,
        });
    }
    report.add_limits(&found.limits);
    if found.faults.is_empty() {
        report.status.push(Status { text: "every run was clean".to_owned(), good: true });
    }
    for fault in &found.faults {
        report.status.push(Status { text: "a run was not clean".to_owned(), good: false });
        report.notes.push(fault.clone());
    }
    report
}

#[expect(clippy::print_stdout, reason = "the command line's own summary, to be pasted")]
fn print(report: &Report) {
    println!("{}", report.markdown());
}
