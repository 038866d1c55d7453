//! The command line: options, and the tables a person reads. Everything printed to standard output is
//! printed here.

mod compare;
mod limits;
mod load;
mod replay;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::error::{Doing, Result};

/// Loads, checks and compares brokers that speak the Kafka protocol.
#[derive(Parser)]
#[command(name = "millstream-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure what this machine can do at best: the same frames on plain system calls.
    Limits(limits::LimitsArgs),
    /// Produce pre-encoded batches.
    Produce(load::ProduceArgs),
    /// Fetch, and count gaps, duplicates, reorders and corrupt batches.
    Fetch(load::FetchArgs),
    /// Read everything back and check it against what was acknowledged.
    Verify(load::VerifyArgs),
    /// Produce a file line by line, and read it back.
    Replay(replay::ReplayArgs),
    /// Run a broker and the machine's limits in turns, and give the ratio.
    CompareLimits(compare::CompareArgs),
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
}

/// Runs the command line of this process: 0 if all is well, 1 if a run failed or its data is wrong, 2
/// for bad usage.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Limits(args) => limits::run(&args),
        Command::Produce(args) => load::produce(&args),
        Command::Fetch(args) => load::fetch(&args),
        Command::Verify(args) => load::verify(&args),
        Command::Replay(args) => replay::run(&args),
        Command::CompareLimits(args) => compare::run(&args),
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

/// A number of bytes with an optional unit: `64KiB`, `1MiB`, `4GiB`, `10GB`.
fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => {
            return Err(format!("{unit:?} is no unit: use KiB, MiB, GiB, KB, MB or GB"));
        }
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no number of bytes"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too much"))
}

/// The same for things that fit into memory.
fn parse_size(text: &str) -> std::result::Result<usize, String> {
    usize::try_from(parse_bytes(text)?).map_err(|_| format!("{text:?} is too much"))
}

fn human_bytes(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift {
            let value = bytes as f64 / f64::from(1_u32 << shift);
            return if value.fract() == 0.0 {
                format!("{value} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("64KiB"), Ok(65_536));
        assert_eq!(parse_bytes("4GiB"), Ok(4 << 30));
        assert_eq!(parse_bytes("3GB"), Ok(3_000_000_000));
        assert_eq!(parse_bytes("17"), Ok(17));
        for wrong in ["", "GiB", "1 GiB", "5TB", "99999999999GiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(human_bytes(65_536), "64 KiB");
        assert_eq!(human_bytes(1_500_000), "1.4 MiB");
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
