//! A run as it goes and as it went, for a person.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use super::human_bytes;
use crate::engine::Progress;
use crate::result::RunResult;
use crate::stats::Latencies;

/// One line that changes on a terminal; elsewhere one line for each interval.
pub(super) struct ProgressLines {
    name: String,
    bar: Option<ProgressBar>,
}

impl ProgressLines {
    pub(super) fn new(name: &str) -> ProgressLines {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}");
            let bar = ProgressBar::new(0).with_prefix(name.to_owned());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        ProgressLines { name: name.to_owned(), bar }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        let seconds = progress.interval.as_secs_f64().max(1e-9);
        let rate = |bytes: u64| format!("{:.1} MB/s", bytes as f64 / 1e6 / seconds);
        let mut line = format!("{} {:.0} s", progress.part, progress.at.as_secs_f64());
        if progress.produced.requests > 0 || progress.backlog > 0 {
            line += &format!(
                ", produced {} ({:.0} requests/s)",
                rate(progress.produced.bytes),
                progress.produced.requests as f64 / seconds
            );
        }
        if progress.fetched.bytes > 0 {
            line += &format!(", fetched {}", rate(progress.fetched.bytes));
        }
        if progress.backlog > 0 {
            line += &format!(", {} unsent", progress.backlog);
        }
        if progress.errors > 0 {
            line += &format!(", {} errors", progress.errors);
        }
        match &self.bar {
            Some(bar) => {
                let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(0);
                bar.set_length(progress.whole.map_or(0, ms));
                bar.set_position(ms(progress.at).min(progress.whole.map_or(0, ms)));
                bar.set_message(line);
            }
            None => eprintln!("{}: {line}", self.name),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
pub(super) fn print_result(result: &RunResult) {
    let seconds = result.elapsed.as_secs_f64().max(1e-9);
    for (what, moved) in [("produced", result.produced), ("fetched", result.fetched)] {
        if moved.requests > 0 {
            println!(
                "{}: {what} {} in {seconds:.3} s = {:.3} GB/s, {:.0} records/s, {:.0} requests/s",
                result.command,
                human_bytes(moved.bytes),
                moved.bytes as f64 / 1e9 / seconds,
                moved.records as f64 / seconds,
                moved.requests as f64 / seconds,
            );
        }
    }
    if let Some(offered) = result.offered_per_s {
        println!("  offered {offered:.0} requests/s, open loop; latencies from the intended time");
    }
    for (name, distribution) in &result.latencies {
        print_latency(name, &distribution.summary);
    }
    let used = [("broker", result.broker), ("generator", Some(result.generator))];
    for (who, used) in used.into_iter().filter_map(|(who, used)| Some((who, used?))) {
        let bytes = result.moved().bytes;
        let written = used.write_amplification(result.produced.bytes).unwrap_or(0.0);
        println!(
            "  {who:<9} CPU {:.3} s/GB (user {:.2} s, system {:.2} s), memory {}, {} context switches, {} written ({written:.2} of produced)",
            used.cpu.seconds_per_gb(bytes),
            used.cpu.user.as_secs_f64(),
            used.cpu.system.as_secs_f64(),
            human_bytes(used.memory_bytes),
            used.switches_voluntary + used.switches_involuntary,
            human_bytes(used.disk_written_bytes),
        );
    }
    for (name, count) in &result.errors {
        println!("  error {name}: {count}");
    }
    if let Some(broken) = &result.broken {
        println!("  BROKEN: {broken}");
    }
    if let Some(v) = &result.verdict {
        let faults: Vec<String> = v
            .faults()
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        println!(
            "  integrity: {}, {} batches and {} records looked at{}",
            if v.is_clean() { "clean".to_owned() } else { format!("WRONG: {}", faults.join(", ")) },
            v.batches,
            v.records,
            if v.foreign > 0 { format!(", {} of them not ours", v.foreign) } else { String::new() }
        );
    }
    for finding in &result.findings {
        println!("    {finding}");
    }
    for reason in &result.void {
        println!("  VOID: {reason}");
    }
    for note in &result.notes {
        println!("  note: {note}");
    }
}

#[expect(clippy::print_stdout, reason = "the command line's own table")]
fn print_latency(name: &str, l: &Latencies) {
    println!(
        "  {name:<18} us: p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  p99.99 {:.0}  max {:.0}  ({})",
        l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.p9999_us, l.max_us, l.count
    );
}
