//! The command line: options, and the tables a person reads. Everything printed to standard output is
//! printed here.

mod against;
mod compare;
mod limits;
mod load;
mod machine;
mod progress;
mod quick;
mod replay;
mod report;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::error::{Doing, Result};
use crate::report::Report;
use crate::units::{human_bytes, parse_bytes, parse_size};

/// Loads, checks and compares brokers that speak the Kafka protocol.
#[derive(Parser)]
#[command(name = "millstream-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a workload and report latencies, throughput, integrity and what it cost.
    Run(run::RunArgs),
    /// Say in two minutes where a broker stands on this machine: limits, produce, fetch, end to end.
    Quick(quick::QuickArgs),
    /// Say how much more the generator can send than a broker takes.
    Headroom(quick::QuickArgs),
    /// Measure what this machine can do at best: the same frames on plain system calls.
    Limits(limits::LimitsArgs),
    /// Produce pre-encoded batches.
    Produce(load::ProduceArgs),
    /// Fetch, and count gaps, duplicates, reorders and corrupt batches.
    Fetch(load::FetchArgs),
    /// Read everything back and check it against what was acknowledged.
    Verify(load::VerifyArgs),
    /// Make one report of the results of several runs, as written by `--json`.
    Report(report::ReportArgs),
    /// Produce a file line by line, and read it back.
    Replay(replay::ReplayArgs),
    /// Run two brokers in interleaved blocks and say whether the second is better or worse.
    Compare(compare::CompareArgs),
    /// Fetch Apache Kafka's jars with Maven, to compare with.
    FetchKafka(compare::FetchKafkaArgs),
    /// Run a broker and the machine's limits in turns, and give the ratio.
    CompareLimits(against::AgainstArgs),
    /// The measured side of `limits`, started by it.
    #[command(hide = true)]
    LimitServer {
        /// What to be, as JSON.
        spec: String,
    },
}

/// Where the figures go besides the table.
#[derive(Args, Clone)]
struct Output {
    /// Append the result as one line of JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a report as one page that needs no network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the report as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

impl Output {
    fn write<T: serde::Serialize>(&self, result: &T) -> Result<()> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(result).doing("encoding the result")?;
        line.push(b'\n');
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, &line)).doing(path.display())
    }

    /// The report, where one is asked for.
    fn report(&self, report: &Report) -> Result<()> {
        if let Some(path) = &self.html {
            report.write_html(path)?;
        }
        if let Some(path) = &self.markdown {
            report.write_markdown(path)?;
        }
        Ok(())
    }
}

/// Runs the command line of this process: 0 if all is well, 1 if a run failed or its data is wrong, 2
/// for bad usage.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Quick(args) => quick::run(&args),
        Command::Headroom(args) => quick::headroom(&args),
        Command::Limits(args) => limits::run(&args),
        Command::Produce(args) => load::produce(&args),
        Command::Fetch(args) => load::fetch(&args),
        Command::Verify(args) => load::verify(&args),
        Command::Report(args) => report::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::FetchKafka(args) => compare::fetch_kafka(&args),
        Command::CompareLimits(args) => against::run(&args),
        Command::LimitServer { spec } => crate::limits::serve_child(&spec).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("millstream-bench: {error}");
            match error {
                crate::error::Error::Usage(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// The command line of this process, for whoever repeats it.
fn command_line() -> String {
    let plain =
        |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,%@+".contains(c));
    let words = std::env::args().enumerate().map(|(i, word)| match i {
        0 => "millstream-bench".to_owned(),
        _ if !word.is_empty() && plain(&word) => word,
        _ => format!("'{}'", word.replace('\'', "'\\''")),
    });
    words.collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
