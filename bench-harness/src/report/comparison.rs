//! A comparison as a report.

use super::{CostLine, Figure, LatencyLine, RatioLine, Report, Status, microseconds, rate};
use crate::compare::{Comparison, Metric};
use crate::estimate::Verdict;
use crate::units::human_bytes;

impl Report {
    /// A report on comparisons of the same two sides under different loads, each with its name.
    #[must_use]
    pub fn of_comparisons(title: &str, comparisons: &[(String, Comparison)]) -> Report {
        let mut report = match comparisons.first() {
            Some((_, first)) => {
                let about = format!("{} against {}.", first.sides[1].name, first.sides[0].name);
                Report {
                    began_ms: first.began_ms,
                    repeat: first.repeat.clone(),
                    ..Report::new(title, &about, first.environment.clone())
                }
            }
            None => Report::new(title, "", crate::environment::Environment::here(None)),
        };
        for (name, comparison) in comparisons {
            report.add_comparison(name, comparison, comparisons.len() > 1);
        }
        if let Some((_, first)) = comparisons.first() {
            for side in &first.sides {
                report.settings.push((side.name.clone(), side.configuration.clone()));
                report.figures.push(Figure {
                    label: side.name.clone(),
                    value: microseconds(side.start.as_secs_f64() * 1e6),
                    hint: format!(
                        "until it answers; idle memory {}",
                        human_bytes(side.idle_memory_bytes)
                    ),
                });
            }
        }
        report
    }

    fn add_comparison(&mut self, name: &str, comparison: &Comparison, many: bool) {
        let named = |what: &str| if many { format!("{name}: {what}") } else { what.to_owned() };
        for (metric, ratio) in &comparison.ratios {
            let verdict = format!("{:?}", ratio.verdict).to_lowercase();
            let text = format!("{}: {verdict}", metric.words());
            let undecided = ratio.verdict == Verdict::Undecided;
            if matches!(metric, Metric::Throughput | Metric::CpuPerGb | Metric::EndToEndP99) {
                self.status.push(Status {
                    text: named(&text),
                    good: undecided || ratio.verdict == Verdict::Better,
                });
            }
            self.ratios.push(RatioLine {
                key: String::new(),
                what: named(metric.words()),
                estimate: ratio.estimate.clone(),
                verdict: Some(ratio.verdict),
            });
        }
        for side in &comparison.sides {
            let seconds = side.elapsed.as_secs_f64().max(1e-9);
            let moved = if side.produced.bytes > 0 { side.produced } else { side.fetched };
            self.figures.push(Figure {
                label: named(&side.name),
                value: rate(moved.bytes as f64 / seconds),
                hint: format!(
                    "{:.3} broker CPU-seconds per GB",
                    side.used.cpu.seconds_per_gb(moved.bytes)
                ),
            });
            for key in ["end_to_end", "ack"] {
                if let Some(distribution) = side.latencies.get(key) {
                    let what = if key == "ack" { "acknowledged" } else { "end to end" };
                    self.latencies.push(LatencyLine {
                        label: named(&format!("{}, {what}", side.name)),
                        charted: true,
                        distribution: distribution.clone(),
                    });
                }
            }
            self.costs.push(CostLine {
                label: named(&side.name),
                used: side.used,
                bytes: moved.bytes,
                produced_bytes: side.produced.bytes,
            });
        }
        self.settings.push((named("load"), comparison.settings.clone()));
        self.notes.extend(comparison.notes.iter().map(|note| named(note)));
        for (reason, count) in &comparison.void {
            self.notes.push(named(&format!("{count} pairs void: {reason}")));
        }
    }
}
