//! The report as Markdown.

use std::fmt::Write;

use super::{Report, date, microseconds};
use crate::units::human_bytes;

pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "## {}\n\n{}\n", report.title, report.about)?;
    let machine = &report.environment;
    writeln!(
        out,
        "{}; {} x {}, {} MiB, kernel {}; loopback.\n",
        date(report.began_ms),
        machine.cores,
        machine.cpu,
        machine.memory_mib,
        machine.kernel
    )?;
    if !report.repeat.is_empty() {
        writeln!(out, "```sh\n{}\n```\n", report.repeat)?;
    }
    for status in &report.status {
        writeln!(out, "- {}{}", if status.good { "" } else { "**not good:** " }, status.text)?;
    }
    for figure in &report.figures {
        writeln!(out, "- {}: **{}** ({})", figure.label, figure.value, figure.hint)?;
    }
    if !report.ratios.is_empty() {
        writeln!(
            out,
            "\n| ratio | median | 95 % interval | pairs | verdict |\n| --- | --- | --- | --- | --- |"
        )?;
        for line in &report.ratios {
            let e = &line.estimate;
            let verdict = line.verdict.map_or(String::new(), |v| format!("{v:?}").to_lowercase());
            writeln!(
                out,
                "| {} | {:.3} | {:.3}-{:.3} | {} | {verdict} |",
                line.what,
                e.median,
                e.low,
                e.high,
                e.values.len()
            )?;
        }
    }
    if !report.latencies.is_empty() {
        writeln!(
            out,
            "\n| latency | count | p50 | p90 | p99 | p99.9 | p99.99 | max |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
        )?;
        for line in &report.latencies {
            let l = &line.distribution.summary;
            let columns =
                [l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.p9999_us, l.max_us].map(microseconds);
            writeln!(out, "| {} | {} | {} |", line.label, l.count, columns.join(" | "))?;
        }
    }
    if !report.costs.is_empty() {
        writeln!(
            out,
            "\n| cost | CPU s/GB | user | system | memory | write amplification |\n| --- | --- | --- | --- | --- | --- |"
        )?;
        for line in &report.costs {
            let gb = line.bytes as f64 / 1e9;
            let per_gb = |d: std::time::Duration| if gb > 0.0 { d.as_secs_f64() / gb } else { 0.0 };
            let cpu = line.used.cpu;
            writeln!(
                out,
                "| {} | {:.3} | {:.3} | {:.3} | {} | {} |",
                line.label,
                per_gb(cpu.total()),
                per_gb(cpu.user),
                per_gb(cpu.system),
                human_bytes(line.used.memory_bytes),
                line.used
                    .write_amplification(line.produced_bytes)
                    .map_or_else(|| "-".to_owned(), |w| format!("{w:.2}")),
            )?;
        }
    }
    if !report.limits.is_empty() {
        writeln!(
            out,
            "\n| limit of this machine | median | least-greatest | CPU s/GB | runs |\n| --- | --- | --- | --- | --- |"
        )?;
        for line in &report.limits {
            let s = line.spread;
            writeln!(
                out,
                "| {} | {:.3} {} | {:.3}-{:.3} | {} | {} |",
                line.label,
                s.median,
                line.unit,
                s.min,
                s.max,
                line.cpu_s_per_gb.map_or_else(|| "-".to_owned(), |c| format!("{c:.3}")),
                line.runs
            )?;
        }
    }
    if !report.trials.is_empty() {
        let objective = report.objective.as_deref().unwrap_or("the objective");
        writeln!(out, "\n| requests/s | GB/s | ms | {objective} |\n| --- | --- | --- | --- |")?;
        for trial in &report.trials {
            let held = if trial.held { "held" } else { "not held" };
            writeln!(
                out,
                "| {:.0} | {:.3} | {:.2} | {held} |",
                trial.requests_per_s, trial.gb_per_s, trial.ms
            )?;
        }
    }
    for note in &report.notes {
        writeln!(out, "\n> {note}")?;
    }
    Ok(())
}
