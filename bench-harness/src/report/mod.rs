//! Reports: what was measured, as one page that needs no network, as Markdown to paste, and as JSON.
//!
//! A report is built once from results; the page and the Markdown show the same figures.

mod comparison;
mod html;
mod markdown;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::{Doing, Result};
use crate::estimate::Estimate;
use crate::find::Trial;
use crate::limits::LimitResult;
use crate::resources::Resources;
use crate::result::{Distribution, Interval, RunResult, SCHEMA};
use crate::units::human_bytes;

/// Everything a page shows; what is empty is left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The version of this format.
    pub schema: u32,
    /// What was done.
    pub title: String,
    /// What for, in a sentence.
    pub about: String,
    /// When it began, in milliseconds since 1970.
    pub began_ms: i64,
    /// The command line that repeats it.
    pub repeat: String,
    /// Where it was done.
    pub environment: Environment,
    /// In a word or two each: what holds and what does not.
    pub status: Vec<Status>,
    /// The figures one looks at first.
    pub figures: Vec<Figure>,
    /// Latency distributions.
    pub latencies: Vec<LatencyLine>,
    /// Throughput and latency over time.
    pub series: Vec<TimeSeries>,
    /// Rates that were tried for an objective.
    pub trials: Vec<Trial>,
    /// That objective.
    pub objective: Option<String>,
    /// Ratios.
    pub ratios: Vec<RatioLine>,
    /// What it cost.
    pub costs: Vec<CostLine>,
    /// What the machine can do at best.
    pub limits: Vec<LimitLine>,
    /// What every run was told, by the run's name.
    pub settings: Vec<(String, BTreeMap<String, String>)>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// One word on how it went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The word.
    pub text: String,
    /// Whether that is good.
    pub good: bool,
}

/// One figure with its meaning.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub label: String,
    /// It, with its unit.
    pub value: String,
    /// What else to know.
    pub hint: String,
}

/// A latency distribution with its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LatencyLine {
    /// Its name.
    pub label: String,
    /// Whether the chart shows it, or only the table.
    pub charted: bool,
    /// It.
    pub distribution: Distribution,
}

/// A run over time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TimeSeries {
    /// Its name.
    pub label: String,
    /// Its parts.
    pub intervals: Vec<Interval>,
}

/// A ratio with its interval.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RatioLine {
    /// The key of the table in the documentation.
    pub key: String,
    /// What over what.
    pub what: String,
    /// The ratio.
    pub estimate: Estimate,
    /// The verdict, where one is given.
    pub verdict: Option<crate::estimate::Verdict>,
}

/// What something cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CostLine {
    /// Whose cost.
    pub label: String,
    /// What it used.
    pub used: Resources,
    /// For so many bytes of record batches.
    pub bytes: u64,
    /// Of which so many were produced.
    pub produced_bytes: u64,
}

/// A limit of the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LimitLine {
    /// Its name.
    pub label: String,
    /// Median, least and greatest of the runs.
    pub spread: crate::stats::Spread,
    /// Their unit.
    pub unit: String,
    /// CPU-seconds of the measured side for each GB, where bytes move.
    pub cpu_s_per_gb: Option<f64>,
    /// How many runs.
    pub runs: usize,
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(title: &str, about: &str, environment: Environment) -> Report {
        Report {
            schema: SCHEMA,
            title: title.to_owned(),
            about: about.to_owned(),
            began_ms: millstream::time::Clock::timestamp().0,
            repeat: String::new(),
            environment,
            status: Vec::new(),
            figures: Vec::new(),
            latencies: Vec::new(),
            series: Vec::new(),
            trials: Vec::new(),
            objective: None,
            ratios: Vec::new(),
            costs: Vec::new(),
            limits: Vec::new(),
            settings: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A report on some runs: of one everything, of several what lies over each other.
    #[must_use]
    pub fn of_runs(title: &str, about: &str, runs: &[RunResult]) -> Report {
        let environment =
            runs.first().map_or_else(|| Environment::here(None), |run| run.environment.clone());
        let mut report = Report::new(title, about, environment);
        if let Some(first) = runs.first() {
            report.began_ms = first.began_ms;
            report.repeat.clone_from(&first.repeat);
        }
        if let [only] = runs {
            report.headline(only);
        }
        for (i, run) in runs.iter().enumerate() {
            let label =
                if runs.len() == 1 { String::new() } else { format!("{} {}", run.command, i + 1) };
            report.add_run(&label, run);
        }
        report
    }

    /// Adds a run under a name; an empty name says nothing before its own.
    pub fn add_run(&mut self, label: &str, run: &RunResult) {
        let named = |name: &str| {
            let words = match name {
                "ack" => "acknowledged",
                "ack_records" => "acknowledged, each record",
                "end_to_end" => "end to end",
                "end_to_end_records" => "end to end, each record",
                "service" => "from sending to acknowledged",
                "queued" => "waiting to be sent",
                "lateness" => "lateness of the generator",
                "fetch" => "fetch answered",
                other => other,
            };
            if label.is_empty() { words.to_owned() } else { format!("{label}: {words}") }
        };
        for name in ORDER {
            if let Some(distribution) = run.latencies.get(name) {
                let charted = matches!(name, "ack" | "end_to_end" | "fetch")
                    || (label.is_empty() && name == "lateness");
                self.latencies.push(LatencyLine {
                    label: named(name),
                    charted,
                    distribution: distribution.clone(),
                });
            }
        }
        let run_name = if label.is_empty() { run.command.clone() } else { label.to_owned() };
        if run.intervals.len() > 1 {
            let intervals = run.intervals.clone();
            self.series.push(TimeSeries { label: run_name.clone(), intervals });
        }
        self.add_cost(label, run);
        self.judge(label, run);
        self.settings.push((run_name, run.settings.clone()));
    }

    /// Adds what a run cost under a name.
    pub fn add_cost(&mut self, label: &str, run: &RunResult) {
        let sides = [("broker", run.broker), ("generator", Some(run.generator))];
        for (who, used) in sides.into_iter().filter_map(|(who, used)| Some((who, used?))) {
            self.costs.push(CostLine {
                label: if label.is_empty() { who.to_owned() } else { format!("{label}: {who}") },
                used,
                bytes: run.moved().bytes,
                produced_bytes: run.produced.bytes,
            });
        }
    }

    fn judge(&mut self, label: &str, run: &RunResult) {
        let said = |text: &str| {
            if label.is_empty() { text.to_owned() } else { format!("{label}: {text}") }
        };
        let mut status = |text: &str, good: bool| {
            self.status.push(Status { text: said(text), good });
        };
        match &run.verdict {
            Some(v) if v.is_clean() => {
                status(&format!("integrity clean: {} records looked at", v.records), true);
            }
            Some(v) => {
                let faults = v.faults();
                let faults = faults.iter().filter(|(_, count)| *count > 0);
                let faults: Vec<String> =
                    faults.map(|(name, count)| format!("{count} {name}")).collect();
                status(&format!("integrity WRONG: {}", faults.join(", ")), false);
            }
            None => {}
        }
        if !run.rate_held {
            status("rate not held", false);
        }
        if !run.void.is_empty() {
            status("void", false);
        }
        if let Some(broken) = &run.broken {
            status(&format!("broken: {broken}"), false);
        }
        for (name, count) in &run.errors {
            status(&format!("{count} x {name}"), false);
        }
        let lines = run.void.iter().map(|why| format!("void: {why}"));
        let lines = lines.chain(run.findings.iter().cloned()).chain(run.notes.iter().cloned());
        self.notes.extend(lines.map(|line| said(&line)));
    }

    /// Adds the figures of a run that one looks at first.
    pub fn headline(&mut self, run: &RunResult) {
        let seconds = run.elapsed.as_secs_f64().max(1e-9);
        let mut figure = |label: &str, value: String, hint: String| {
            self.figures.push(Figure { label: label.to_owned(), value, hint });
        };
        for (what, moved) in [("Produced", run.produced), ("Fetched", run.fetched)] {
            if moved.requests > 0 {
                figure(
                    what,
                    rate(moved.bytes as f64 / seconds),
                    format!("{} records/s", thousands(moved.records as f64 / seconds)),
                );
            }
        }
        for (name, label) in [("ack", "Acknowledged"), ("end_to_end", "End to end")] {
            let l = run.latency(name);
            if l.count > 0 {
                figure(
                    &format!("{label}, p99"),
                    microseconds(l.p99_us),
                    format!("p50 {}, p99.9 {}", microseconds(l.p50_us), microseconds(l.p999_us)),
                );
            }
        }
        if let Some(broker) = run.broker {
            figure(
                "Broker CPU",
                format!("{:.2} s/GB", broker.cpu.seconds_per_gb(run.moved().bytes)),
                format!("memory {}", human_bytes(broker.memory_bytes)),
            );
        }
        figure(
            "Generator",
            format!("{:.0} % busy", run.generator_busy * 100.0),
            match run.offered_per_s {
                Some(offered) => format!("open loop, {} requests/s", thousands(offered)),
                None => "closed loop".to_owned(),
            },
        );
    }

    /// Adds ratios by their keys, before those that are there.
    pub fn add_ratios(&mut self, estimates: &BTreeMap<String, Estimate>) {
        let lines = estimates.iter().map(|(key, estimate)| RatioLine {
            key: key.clone(),
            what: crate::ratios::words(key).to_owned(),
            estimate: estimate.clone(),
            verdict: None,
        });
        self.ratios.splice(0..0, lines);
    }

    /// Adds the limits of the machine, the runs of each together.
    pub fn add_limits(&mut self, results: &[LimitResult]) {
        let mut order: Vec<(crate::limits::LimitKind, usize)> = Vec::new();
        for result in results {
            let key = (result.kind, result.frame_bytes);
            if !order.contains(&key) {
                order.push(key);
            }
        }
        for (kind, frame_bytes) in order {
            let of: Vec<&LimitResult> =
                results.iter().filter(|r| r.kind == kind && r.frame_bytes == frame_bytes).collect();
            let (unit, value) = kind.figure();
            let name = clap::ValueEnum::to_possible_value(&kind)
                .map_or_else(String::new, |v| v.get_name().replace('-', " "));
            let moves = unit == "GB/s";
            let cpu =
                crate::stats::Spread::of(of.iter().map(|r| r.server_cpu.seconds_per_gb(r.bytes)));
            self.limits.push(LimitLine {
                label: format!("{name}, {}", human_bytes(frame_bytes as u64)),
                spread: crate::stats::Spread::of(of.iter().map(|r| value(r))),
                unit: unit.to_owned(),
                cpu_s_per_gb: moves.then_some(cpu.median),
                runs: of.len(),
            });
        }
    }

    /// Writes the page.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_html(&self, path: &Path) -> Result<()> {
        std::fs::write(path, html::page(self)?).doing(path.display())
    }

    /// Writes the Markdown.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_markdown(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.markdown()).doing(path.display())
    }

    /// The Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        markdown::text(self)
    }
}

/// The order of latencies in tables.
const ORDER: [&str; 8] = [
    "end_to_end",
    "end_to_end_records",
    "ack",
    "ack_records",
    "service",
    "queued",
    "fetch",
    "lateness",
];

/// Bytes a second for a person.
fn rate(bytes_per_s: f64) -> String {
    if bytes_per_s >= 1e9 {
        format!("{:.2} GB/s", bytes_per_s / 1e9)
    } else {
        format!("{:.1} MB/s", bytes_per_s / 1e6)
    }
}

/// A number with its thousands apart.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Microseconds in the unit that suits them.
fn microseconds(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e4 => format!("{:.1} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}

/// A moment for a person, in UTC.
fn date(ms: i64) -> String {
    let days = ms.div_euclid(86_400_000);
    let seconds = ms.rem_euclid(86_400_000) / 1000;
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600, seconds % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(microseconds(85.0), "85 µs");
        assert_eq!(microseconds(1234.0), "1.23 ms");
        assert_eq!(microseconds(2_500_000.0), "2.50 s");
        assert_eq!(rate(1.5e9), "1.50 GB/s");
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(1_709_210_096_000), "2024-02-29 12:34 UTC");
    }
}
