//! `millstream log`: data directories and segment files, without a broker.

mod dump;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::remote::{assignment, json as print_json};
use super::{Failure, SettingArgs};

const EXAMPLES: &str = "\
Examples:
  millstream log dump data/visits-0 --records
  millstream log verify --data-dir data
  millstream log seal --data-dir data
  millstream log import /var/lib/kafka/data --data-dir data --topic-config retention.ms=-1

verify, seal and import need the data directory for themselves: stop the broker first.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print the batches in segment files, Kafka's too
    Dump(dump::DumpArgs),
    /// Check everything in a data directory that is not in use
    Verify(VerifyArgs),
    /// Move what is only in the journal into segment files, for other tools to read
    Seal(SettingArgs),
    /// Take partitions of a stopped Kafka broker into a data directory
    Import(ImportArgs),
}

#[derive(Debug, Args)]
struct ImportArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// Directories of partitions (<topic>-<n>), or log directories of Kafka that hold such
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only this topic
    #[arg(long = "topic", value_name = "NAME")]
    topics: Vec<String>,
    /// A config of the topics that are created: log directories of Kafka do not tell them
    #[arg(long = "topic-config", value_name = "KEY=VALUE", value_parser = assignment)]
    configs: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: LogArgs) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match args.command {
        LogCommand::Dump(args) => dump::run(&args, &mut out),
        LogCommand::Verify(args) => verify(args, &mut out),
        LogCommand::Seal(settings) => seal(settings, &mut out),
        LogCommand::Import(args) => import(args, &mut out),
    }
}

#[cfg(feature = "runtime")]
fn verify(args: VerifyArgs, out: &mut impl Write) -> Result<(), Failure> {
    let (config, _) = args.settings.load()?;
    let found = millstream::server::verify(&config)?;
    if args.json {
        let value = json!({
            "problems": found.problems,
            "notes": found.notes,
            "cleanStop": found.clean,
            "journalRounds": found.rounds,
            "partitions": found.partitions,
            "segments": found.segments,
            "batches": found.batches,
            "records": found.records,
            "bytes": found.bytes,
        });
        print_json(out, &value)?;
    } else {
        for note in &found.notes {
            writeln!(out, "note: {note}")?;
        }
        for problem in &found.problems {
            writeln!(out, "problem: {problem}")?;
        }
        let stop = if found.clean { "clean" } else { "unclean" };
        writeln!(
            out,
            "{}: {} problems; {} records in {} batches, {} bytes, {} segments of {} partitions; {} \
             journal rounds, last stop {stop}",
            config.log_dir.display(),
            found.problems.len(),
            found.records,
            found.batches,
            found.bytes,
            found.segments,
            found.partitions,
            found.rounds,
        )?;
    }
    if found.problems.is_empty() { Ok(()) } else { Err(Failure::Shown) }
}

#[cfg(feature = "runtime")]
fn seal(settings: SettingArgs, out: &mut impl Write) -> Result<(), Failure> {
    let (config, _) = settings.load()?;
    let sealed = millstream::server::seal(&config)?;
    writeln!(
        out,
        "{}: {} partitions are in segment files; {} segments closed, {} bytes written",
        config.log_dir.display(),
        sealed.partitions,
        sealed.closed,
        sealed.bytes,
    )?;
    Ok(())
}

#[cfg(not(feature = "runtime"))]
fn verify(_args: VerifyArgs, _out: &mut impl Write) -> Result<(), Failure> {
    Err(super::without_runtime())
}

#[cfg(feature = "runtime")]
fn import(args: ImportArgs, out: &mut impl Write) -> Result<(), Failure> {
    use millstream::server::ImportRequest;

    let ImportArgs { settings, paths, topics, configs } = args;
    let (config, _) = settings.load()?;
    let request = ImportRequest { sources: paths, topics, configs };
    let imported = millstream::server::import(&config, &request)?;
    for note in &imported.notes {
        eprintln!("note: {note}");
    }
    for done in &imported.partitions {
        writeln!(
            out,
            "{}-{}: offsets {} to {}, {} bytes in {} segments",
            done.topic, done.partition, done.log_start, done.end, done.bytes, done.segments
        )?;
    }
    let count = imported.partitions.len();
    writeln!(out, "{}: {count} partitions imported", config.log_dir.display())?;
    Ok(())
}

#[cfg(not(feature = "runtime"))]
fn import(_args: ImportArgs, _out: &mut impl Write) -> Result<(), Failure> {
    Err(super::without_runtime())
}

#[cfg(not(feature = "runtime"))]
fn seal(_settings: SettingArgs, _out: &mut impl Write) -> Result<(), Failure> {
    Err(super::without_runtime())
}

/// A path, and whose it is.
pub(super) fn named(path: &std::path::Path, error: &io::Error) -> Failure {
    Failure::Runtime(format!("{}: {error}", path.display()))
}

/// The segment files of a partition's directory, by offset.
fn segments_in(directory: &std::path::Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|extension| extension == "log")
            && path
                .file_stem()
                .is_some_and(|stem| stem.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        if is_segment {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
