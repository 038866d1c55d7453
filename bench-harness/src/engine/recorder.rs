//! What is counted during a run: latencies of what was meant to be sent in the measured part, and
//! everything that moved, second by second.

use std::collections::BTreeMap;

use millstream::time::Monotonic;

use crate::result::{Distribution, Histograms, Interval, Moved};
use crate::stats::Histogram;

/// Histograms and counts.
pub(super) struct Recorder {
    begin: Monotonic,
    /// What is meant to be sent in this part counts, in nanoseconds of the clock.
    window: (u64, u64),
    lateness: Histogram,
    queued: Histogram,
    service: Histogram,
    ack: Histogram,
    ack_records: Histogram,
    end_to_end: Histogram,
    end_to_end_records: Histogram,
    fetch: Histogram,
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) produced: Moved,
    pub(super) fetched: Moved,
    /// Requests whose instant lay in the measured part.
    pub(super) scheduled: u64,
    measured_from: (Moved, Moved),
    open: OpenInterval,
    closed: Vec<(Interval, Histogram, Histogram)>,
    /// The generator had nothing to do for so long.
    pub(super) idle_ns: u64,
}

struct OpenInterval {
    begin_ns: u64,
    produced: Moved,
    fetched: Moved,
    ack: Histogram,
    end_to_end: Histogram,
}

/// When a request was meant to be sent, when it was, and what it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) intended_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) bytes: u64,
    pub(super) records: u64,
}

impl Recorder {
    pub(super) fn new(begin: Monotonic, window: (u64, u64)) -> Recorder {
        let fresh = Histogram::new;
        Recorder {
            begin,
            window,
            lateness: fresh(),
            queued: fresh(),
            service: fresh(),
            ack: fresh(),
            ack_records: fresh(),
            end_to_end: fresh(),
            end_to_end_records: fresh(),
            fetch: fresh(),
            errors: BTreeMap::new(),
            produced: Moved::default(),
            fetched: Moved::default(),
            scheduled: 0,
            measured_from: (Moved::default(), Moved::default()),
            open: OpenInterval {
                begin_ns: begin.0,
                produced: Moved::default(),
                fetched: Moved::default(),
                ack: fresh(),
                end_to_end: fresh(),
            },
            closed: Vec::new(),
            idle_ns: 0,
        }
    }

    fn counts(&self, intended_ns: u64) -> bool {
        (self.window.0..self.window.1).contains(&intended_ns)
    }

    /// A request of the schedule has been taken up.
    pub(super) fn taken_up(&mut self, intended_ns: u64, now: Monotonic) {
        if self.counts(intended_ns) {
            self.scheduled += 1;
            self.lateness.record_ns(now.0.saturating_sub(intended_ns), 1);
        }
    }

    pub(super) fn acked(&mut self, sent: &Sent, now: Monotonic) {
        let latency = now.0.saturating_sub(sent.intended_ns);
        self.open.ack.record_ns(latency, 1);
        if self.counts(sent.intended_ns) {
            self.ack.record_ns(latency, 1);
            self.ack_records.record_ns(latency, sent.records);
            self.service.record_ns(now.0.saturating_sub(sent.sent_ns), 1);
            self.queued.record_ns(sent.sent_ns.saturating_sub(sent.intended_ns), 1);
        }
        self.wrote(sent);
    }

    /// Counts what was sent, or acknowledged where that is asked for.
    pub(super) fn wrote(&mut self, sent: &Sent) {
        self.produced.requests += 1;
        self.produced.bytes += sent.bytes;
        self.produced.records += sent.records;
    }

    /// A batch of this run has been consumed.
    pub(super) fn consumed(&mut self, intended_ns: u64, records: u64, now: Monotonic) {
        let latency = now.0.saturating_sub(intended_ns);
        self.open.end_to_end.record_ns(latency, 1);
        if self.counts(intended_ns) {
            self.end_to_end.record_ns(latency, 1);
            self.end_to_end_records.record_ns(latency, records);
        }
    }

    /// A fetch has been answered.
    pub(super) fn fetched(&mut self, asked: Monotonic, now: Monotonic) {
        self.fetched.requests += 1;
        if self.counts(asked.0) {
            self.fetch.record(now.since(asked));
        }
    }

    pub(super) fn error(&mut self, name: String) {
        *self.errors.entry(name).or_default() += 1;
    }

    pub(super) fn errors_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The measured part begins: what has moved so far was warm-up.
    pub(super) fn begin_measured(&mut self) {
        self.measured_from = (self.produced, self.fetched);
    }

    /// What has moved in the measured part so far.
    pub(super) fn measured(&self) -> (Moved, Moved) {
        (self.produced.since(self.measured_from.0), self.fetched.since(self.measured_from.1))
    }

    /// The measured part ends at that instant: what was meant to be sent before it counts still.
    pub(super) fn end_window(&mut self, at: Monotonic) {
        self.window.1 = self.window.1.min(at.0);
    }

    /// Ends the interval and begins the next.
    pub(super) fn end_interval(&mut self, now: Monotonic, measured: bool, backlog: u64) {
        let fresh = OpenInterval {
            begin_ns: now.0,
            produced: self.produced,
            fetched: self.fetched,
            ack: Histogram::new(),
            end_to_end: Histogram::new(),
        };
        let open = std::mem::replace(&mut self.open, fresh);
        let interval = Interval {
            at_s: open.begin_ns.saturating_sub(self.begin.0) as f64 / 1e9,
            length_s: now.0.saturating_sub(open.begin_ns) as f64 / 1e9,
            measured,
            produced: self.produced.since(open.produced),
            fetched: self.fetched.since(open.fetched),
            backlog,
            ..Interval::default()
        };
        self.closed.push((interval, open.ack, open.end_to_end));
    }

    /// Everything as it is reported.
    pub(super) fn finish(self) -> Finished {
        let by_name: BTreeMap<String, Histogram> = [
            ("lateness", self.lateness),
            ("queued", self.queued),
            ("service", self.service),
            ("ack", self.ack),
            ("ack_records", self.ack_records),
            ("end_to_end", self.end_to_end),
            ("end_to_end_records", self.end_to_end_records),
            ("fetch", self.fetch),
        ]
        .into_iter()
        .filter(|(_, histogram)| !histogram.is_empty())
        .map(|(name, histogram)| (name.to_owned(), histogram))
        .collect();
        let latencies = by_name
            .iter()
            .map(|(name, h)| {
                (name.clone(), Distribution { summary: h.summary(), curve: h.curve() })
            })
            .collect();
        let mut intervals = Vec::new();
        let mut histograms = Histograms { by_name, intervals: Vec::new() };
        for (interval, ack, end_to_end) in self.closed {
            intervals.push(Interval {
                ack: ack.summary(),
                end_to_end: end_to_end.summary(),
                ..interval
            });
            histograms.intervals.push((interval.at_s, interval.length_s, ack, end_to_end));
        }
        Finished { latencies, intervals, histograms, errors: self.errors }
    }
}

pub(super) struct Finished {
    pub(super) latencies: BTreeMap<String, Distribution>,
    pub(super) intervals: Vec<Interval>,
    pub(super) histograms: Histograms,
    pub(super) errors: BTreeMap<String, u64>,
}
