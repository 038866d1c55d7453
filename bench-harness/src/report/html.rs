//! The report as one page: style, script, chart library and data in one file, nothing from a network.

use std::fmt::Write;

use super::{CostLine, RatioLine, Report, date, microseconds};
use crate::error::{Doing, Result};
use crate::units::human_bytes;

const STYLE: &str = include_str!("../../assets/report.css");
const SCRIPT: &str = include_str!("../../assets/report.js");
/// uPlot 1.6.32, MIT (assets/uPlot.LICENSE).
const CHARTS: &str = include_str!("../../assets/uPlot.iife.min.js");
const CHARTS_STYLE: &str = include_str!("../../assets/uPlot.min.css");

pub(super) fn page(report: &Report) -> Result<String> {
    // Inside a script element only a closing tag can end it.
    let data = serde_json::to_string(report).doing("writing the page's data")?;
    let data = data.replace("</", "<\\/").replace("<!--", "<\\!--");
    let mut body = String::new();
    // Writing to a string does not fail.
    let _ = sections(report, &mut body);
    let title = escape(&report.title);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{title}</title>\n\
         <style>{CHARTS_STYLE}</style>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         <script type=\"application/json\" id=\"data\">{data}</script>\n\
         <script>{CHARTS}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn sections(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "<h1>{}</h1>", escape(&report.title))?;
    writeln!(
        out,
        "<p>{} <span class=\"soft\">{}, over loopback.</span></p>",
        escape(&report.about),
        date(report.began_ms)
    )?;
    if !report.status.is_empty() {
        writeln!(out, "<div class=\"chips\">")?;
        for status in &report.status {
            let class = if status.good { "good" } else { "bad" };
            writeln!(out, "<span class=\"chip {class}\">{}</span>", escape(&status.text))?;
        }
        writeln!(out, "</div>")?;
    }
    if !report.figures.is_empty() {
        writeln!(out, "<div class=\"figures\">")?;
        for figure in &report.figures {
            writeln!(
                out,
                "<div class=\"figure\"><span>{}</span><b>{}</b><span>{}</span></div>",
                escape(&figure.label),
                escape(&figure.value),
                escape(&figure.hint)
            )?;
        }
        writeln!(out, "</div>")?;
    }
    if !report.notes.is_empty() {
        writeln!(out, "<ul class=\"notes\">")?;
        for note in &report.notes {
            writeln!(out, "<li>{}</li>", escape(note))?;
        }
        writeln!(out, "</ul>")?;
    }
    ratios(report, out)?;
    latencies(report, out)?;
    over_time(report, out)?;
    trials(report, out)?;
    costs(&report.costs, out)?;
    limits(report, out)?;
    machine(report, out)
}

fn ratios(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.ratios.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>Ratios</h2>\n<p class=\"hint\">Median of paired ratios, taken in turns on the same core in the same minutes, with the 95 % bootstrap interval of the median.</p>"
    )?;
    forest(&report.ratios, out)
}

/// A dot for each median, a line for its interval, on one scale that holds 1.
fn forest(lines: &[RatioLine], out: &mut String) -> std::fmt::Result {
    const LEFT: f64 = 350.0;
    const RIGHT: f64 = 720.0;
    const ROW: f64 = 30.0;
    let highs = lines.iter().map(|l| l.estimate.high.max(l.estimate.median));
    let most = highs.fold(1.05_f64, f64::max) * 1.02;
    let x = |ratio: f64| LEFT + (RIGHT - LEFT) * (ratio / most).clamp(0.0, 1.0);
    let height = ROW * lines.len() as f64 + 34.0;
    writeln!(out, "<div class=\"forest wide\"><svg viewBox=\"0 0 1032 {height}\" role=\"img\">")?;
    let step = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0].into_iter().find(|s| most / s <= 8.0);
    let step = step.unwrap_or(100.0);
    let mut tick = 0.0;
    while tick <= most {
        let at = x(tick);
        let bottom = height - 22.0;
        let strong = if (tick - 1.0_f64).abs() < 1e-9 { "var(--soft)" } else { "var(--line)" };
        writeln!(
            out,
            "<line x1=\"{at:.1}\" y1=\"4\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"{strong}\"/><text class=\"soft\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            height - 6.0,
            (tick * 100.0).round() / 100.0
        )?;
        tick += step;
    }
    for (i, line) in lines.iter().enumerate() {
        let (e, y) = (&line.estimate, ROW * i as f64 + 20.0);
        let verdict = line.verdict.map_or(String::new(), |v| format!(", {v:?}").to_lowercase());
        writeln!(
            out,
            "<text x=\"0\" y=\"{:.1}\">{}</text>\
             <line x1=\"{:.1}\" y1=\"{y}\" x2=\"{:.1}\" y2=\"{y}\" stroke=\"var(--c0)\" stroke-width=\"3\"/>\
             <circle cx=\"{:.1}\" cy=\"{y}\" r=\"5\" fill=\"var(--c0)\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{:.3} <tspan class=\"soft\">[{:.3}–{:.3}], {} pairs{verdict}</tspan></text>",
            y + 4.5,
            escape(&line.what),
            x(e.low),
            x(e.high),
            x(e.median),
            RIGHT + 14.0,
            y + 4.5,
            e.median,
            e.low,
            e.high,
            e.values.len()
        )?;
    }
    writeln!(out, "</svg></div>")
}

fn latencies(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.latencies.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>Latency by percentile</h2>\n<p class=\"hint\">From the time a request was meant to be sent, whenever it was; both axes are logarithmic, the percentiles towards 100 %.</p>"
    )?;
    let charted = |l: &&super::LatencyLine| l.charted && l.distribution.curve.len() > 1;
    if report.latencies.iter().any(|l| charted(&l)) {
        writeln!(out, "<div id=\"percentiles\" class=\"chart\"></div>")?;
    }
    writeln!(
        out,
        "<div class=\"wide\"><table class=\"data\"><tr><th>latency</th><th>count</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>p99.99</th><th>max</th></tr>"
    )?;
    for line in &report.latencies {
        let l = &line.distribution.summary;
        write!(
            out,
            "<tr><td>{}</td><td>{}</td>",
            escape(&line.label),
            super::thousands(l.count as f64)
        )?;
        for us in [l.p50_us, l.p90_us, l.p99_us, l.p999_us, l.p9999_us, l.max_us] {
            write!(out, "<td>{}</td>", microseconds(us))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table></div>")
}

fn over_time(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.series.is_empty() {
        return Ok(());
    }
    let shaded = if report.series.len() == 1 { " The measured part is shaded." } else { "" };
    writeln!(
        out,
        "<h2>Over time</h2>\n<p class=\"hint\">Throughput, and below it latencies of what was answered in each part.{shaded}</p>\n<div id=\"throughput\" class=\"chart\"></div>"
    )?;
    let timed = |s: &super::TimeSeries| {
        s.intervals.iter().any(|i| i.ack.count > 0 || i.end_to_end.count > 0)
    };
    if report.series.iter().any(timed) {
        writeln!(out, "<div id=\"over-time\" class=\"chart\"></div>")?;
    }
    Ok(())
}

fn trials(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.trials.is_empty() {
        return Ok(());
    }
    let objective = report.objective.as_deref().unwrap_or_default();
    writeln!(
        out,
        "<h2>Rate against latency</h2>\n<p class=\"hint\">Each dot is a run of its own at that rate. Objective: {}.</p>\n<div id=\"trials\" class=\"chart\"></div>",
        escape(objective)
    )?;
    writeln!(
        out,
        "<div class=\"wide\"><table class=\"data\"><tr><th>run</th><th>requests/s</th><th>GB/s</th><th>latency</th><th>objective</th></tr>"
    )?;
    for (i, trial) in report.trials.iter().enumerate() {
        let held = match (i, trial.held) {
            (0, _) => "-",
            (_, true) => "held",
            (_, false) => "not held",
        };
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{:.3}</td><td>{}</td><td>{held}</td></tr>",
            if i == 0 { "closed loop".to_owned() } else { format!("open loop {i}") },
            super::thousands(trial.requests_per_s),
            trial.gb_per_s,
            microseconds(trial.ms * 1e3)
        )?;
    }
    writeln!(out, "</table></div>")
}

fn costs(lines: &[CostLine], out: &mut String) -> std::fmt::Result {
    let per_gb = |line: &CostLine, time: std::time::Duration| {
        time.as_secs_f64() / (line.bytes as f64 / 1e9).max(1e-9)
    };
    let lines: Vec<&CostLine> = lines.iter().filter(|line| line.bytes > 0).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let most = lines.iter().map(|l| per_gb(l, l.used.cpu.total())).fold(1e-9, f64::max);
    writeln!(
        out,
        "<h2>What it cost</h2>\n<p class=\"hint\">Read from outside, during the measured part. CPU-seconds for each GB of record batches: <span style=\"color:var(--c0)\">user</span> and <span style=\"color:var(--c1)\">system</span>. Written: bytes to disks for each byte produced.</p>"
    )?;
    writeln!(
        out,
        "<div class=\"wide\"><table class=\"data\"><tr><th>process</th><th></th><th>CPU s/GB</th><th>user</th><th>system</th><th>memory</th><th>peak</th><th>switches/GB</th><th>written</th></tr>"
    )?;
    for line in lines {
        let (user, system) = (per_gb(line, line.used.cpu.user), per_gb(line, line.used.cpu.system));
        let switches = line.used.switches_voluntary + line.used.switches_involuntary;
        let written = line.used.write_amplification(line.produced_bytes);
        writeln!(
            out,
            "<tr><td>{}</td><td><div class=\"bar\"><i style=\"width:{:.1}%;background:var(--c0)\"></i><i style=\"width:{:.1}%;background:var(--c1)\"></i></div></td><td>{:.3}</td><td>{user:.3}</td><td>{system:.3}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&line.label),
            user / most * 100.0,
            system / most * 100.0,
            user + system,
            human_bytes(line.used.memory_bytes),
            human_bytes(line.used.memory_peak_bytes),
            super::thousands(switches as f64 / (line.bytes as f64 / 1e9)),
            written.map_or_else(|| "-".to_owned(), |w| format!("{w:.2} x")),
        )?;
    }
    writeln!(out, "</table></div>")
}

fn limits(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.limits.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>What this machine can do at best</h2>\n<p class=\"hint\">Programs on plain system calls that move the same frames and leave out everything a broker is for; one core each side.</p>"
    )?;
    writeln!(
        out,
        "<div class=\"wide\"><table class=\"data\"><tr><th>limit</th><th></th><th>median</th><th>least-greatest</th><th>CPU s/GB</th><th>runs</th></tr>"
    )?;
    for line in &report.limits {
        let same_unit = report.limits.iter().filter(|l| l.unit == line.unit);
        let most = same_unit.map(|l| l.spread.median).fold(1e-9, f64::max);
        let s = line.spread;
        writeln!(
            out,
            "<tr><td>{}</td><td><div class=\"bar\"><i style=\"width:{:.1}%;background:var(--c0)\"></i></div></td><td>{} {}</td><td>{}-{}</td><td>{}</td><td>{}</td></tr>",
            escape(&line.label),
            s.median / most * 100.0,
            figure(s.median),
            escape(&line.unit),
            figure(s.min),
            figure(s.max),
            line.cpu_s_per_gb.map_or_else(|| "-".to_owned(), |c| format!("{c:.3}")),
            line.runs
        )?;
    }
    writeln!(out, "</table></div>")
}

fn figure(value: f64) -> String {
    if value >= 1000.0 {
        super::thousands(value)
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

fn machine(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "<h2>Machine</h2>\n<div class=\"wide\"><table class=\"data card\">")?;
    for (key, value) in report.environment.card() {
        writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(&key), escape(&value))?;
    }
    writeln!(out, "</table></div>")?;
    if !report.settings.is_empty() {
        writeln!(out, "<h2>Configuration</h2>")?;
        for (name, settings) in &report.settings {
            let open = if report.settings.len() == 1 { " open" } else { "" };
            writeln!(
                out,
                "<details{open}><summary>{}</summary><div class=\"wide\"><table class=\"data card\">",
                escape(name)
            )?;
            for (key, value) in settings {
                writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(key), escape(value))?;
            }
            writeln!(out, "</table></div></details>")?;
        }
    }
    if !report.repeat.is_empty() {
        writeln!(out, "<h2>To repeat</h2>\n<pre>{}</pre>", escape(&report.repeat))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Status;

    #[test]
    fn the_page_is_whole_and_nothing_in_it_is_taken_for_markup() {
        let run = crate::result::tests::empty();
        let mut report = Report::of_runs("a <b> & c", "</script><script>x", &[run]);
        report.status.push(Status { text: "<i>".to_owned(), good: false });
        let page = page(&report).unwrap();
        assert_eq!(page.matches("</script>").count(), 3, "data, library, charts");
        assert!(page.contains("a &lt;b&gt; &amp; c") && page.contains("&lt;i&gt;"));
        assert!(!page.contains("src=") && !page.contains("http://"), "nothing from a network");
        assert!(!page.contains("id=\"percentiles\""), "no empty charts");
    }
}
