//! `millstream-bench report`.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Doing, Error, Result};
use crate::report::Report;
use crate::result::{RunResult, SCHEMA};

#[derive(Args)]
pub(super) struct ReportArgs {
    /// Files that `--json` of run, produce, fetch or verify has written.
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The Markdown to write; without either it goes to the terminal.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// The heading.
    #[arg(long, default_value = "Runs")]
    title: String,
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
pub(super) fn run(args: &ReportArgs) -> Result<bool> {
    let mut runs = Vec::new();
    for path in &args.results {
        let text = std::fs::read_to_string(path).doing(path.display())?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let run: RunResult = serde_json::from_str(line).map_err(|error| {
                let (path, number) = (path.display(), number + 1);
                Error::Usage(format!(
                    "{path}, line {number} is no result of schema {SCHEMA}: {error}"
                ))
            })?;
            runs.push(run);
        }
    }
    let report = Report::of_runs(&args.title, "Runs over each other.", &runs);
    if let Some(path) = &args.html {
        report.write_html(path)?;
    }
    match &args.markdown {
        Some(path) => report.write_markdown(path)?,
        None if args.html.is_none() => println!("{}", report.markdown()),
        None => {}
    }
    Ok(runs.iter().all(RunResult::is_valid))
}
