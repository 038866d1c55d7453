//! Whether a run's figures say anything about the broker: the rules by which a run is void, and what
//! its reader should know besides.

use crate::result::RunResult;
use crate::stats::Trend;

/// Beyond this part of its time the generator had no rest, and its figures are its own.
const BUSY_MAX: f64 = 0.97;
/// The same for the greatest rate: from here on the generator may be what limits it.
const BUSY_NOTED: f64 = 0.90;

/// Fills in why the run is void, and the notes.
pub(super) fn judge(result: &mut RunResult, backlog: u64) {
    let open = result.offered_per_s.is_some();
    if open {
        late(result);
        if result.generator_busy > BUSY_MAX {
            result.void.push(format!(
                "the generator was saturated: busy {:.0} % of the time",
                result.generator_busy * 100.0
            ));
        }
        if !result.rate_held {
            result.notes.push(format!(
                "the rate was not held: {backlog} requests were still unsent at the end, so the latencies grow with the length of the run"
            ));
        }
    } else if result.generator_busy > BUSY_NOTED {
        result.notes.push(format!(
            "the generator was busy {:.0} % of the time: the broker may be faster than this",
            result.generator_busy * 100.0
        ));
    }
    if !open && result.produced.requests > 0 {
        result.notes.push(
            "closed loop: what would have been sent while the broker was slow is in no latency"
                .to_owned(),
        );
    }
    steady(result, open);
    if result.steal_percent > 1.0 {
        result
            .notes
            .push(format!("a hypervisor took {:.1} % of the machine's time", result.steal_percent));
    }
    let samples = result.latency("ack").count.max(result.latency("end_to_end").count);
    for (name, needed) in [("p99", 10_000), ("p99.9", 100_000), ("p99.99", 1_000_000)] {
        if samples > 0 && samples < needed {
            result.notes.push(format!(
                "{samples} samples are too few for {name} and beyond (100 are needed above a percentile)"
            ));
            break;
        }
    }
}

/// The generator's own lateness: from the instant a request was due to when it was taken up, whatever
/// the broker did. It is part of every latency, so it never flatters; but it must not be most of one.
/// One per cent of the reported p99 is allowed, and where that is less than a turn of the generator's
/// loop takes, a tenth of it, up to 100 us.
fn late(result: &mut RunResult) {
    let lateness = result.latency("lateness").p99_us;
    let reported = result.latency("ack").p99_us;
    let allowed = (reported * 0.01).max((reported * 0.1).min(100.0));
    if reported > 0.0 && lateness > allowed {
        result.void.push(format!(
            "the generator was late: its own lateness has a p99 of {lateness:.0} us, of a reported p99 of {reported:.0} us at most {allowed:.0} us may be its own"
        ));
    }
}

/// Whether the measured part goes on as it began: throughput in a closed loop, the median in an open.
fn steady(result: &mut RunResult, open: bool) {
    let measured = result.intervals.iter().filter(|i| i.measured && i.length_s > 0.0);
    let (what, limit, values): (&str, f64, Vec<f64>) = if open {
        ("the median latency", 0.5, measured.map(|i| i.ack.p50_us).collect())
    } else {
        let rate =
            |i: &crate::result::Interval| (i.produced.bytes + i.fetched.bytes) as f64 / i.length_s;
        ("the throughput", 0.1, measured.map(rate).collect())
    };
    let trend = Trend::of(&values);
    if trend.t.abs() > 3.0 && trend.drift.abs() > limit {
        result.notes.push(format!(
            "not stationary: {what} kept {}, by {:.0} % of its mean over the measured part",
            if trend.drift > 0.0 { "rising" } else { "falling" },
            trend.drift.abs() * 100.0
        ));
    }
}
