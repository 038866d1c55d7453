//! What a shard has done and has: counters and gauges that the shard publishes at its tick and any thread
//! may read, and their text for Prometheus.
//!
//! Shard: each [`ShardMetrics`] is written by its own shard only, a few dozen relaxed stores per tick, so
//! that counting itself stays in plain integers where things happen. What is read is at most a tick old.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a figure develops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

macro_rules! metrics {
    ($($metric:ident $kind:ident $name:literal $help:literal;)+) => {
        /// A figure of one shard.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric {$(
            #[doc = $help]
            $metric,
        )+}

        const METRICS: &[(Kind, &str, &str)] = &[$((Kind::$kind, $name, $help)),+];
    };
}

metrics! {
    Ticks Counter "millstream_ticks_total" "Turns of the shard's ticker, about 100 a second; the other figures are as of the last.";
    Connections Counter "millstream_connections_total" "Connections served since the start.";
    ConnectionsOpen Gauge "millstream_connections" "Connections open.";
    Requests Counter "millstream_requests_total" "Requests read from connections.";
    Replies Counter "millstream_replies_total" "Replies whose turn to be sent has come.";
    RecvCalls Counter "millstream_recv_calls_total" "Receives that brought bytes.";
    SendCalls Counter "millstream_send_calls_total" "Sends that a socket took bytes from.";
    BytesIn Counter "millstream_bytes_in_total" "Bytes received from clients.";
    BytesOut Counter "millstream_bytes_out_total" "Bytes sent to clients.";
    FramesPooled Counter "millstream_frames_pooled_total" "Large requests received into memory that was used before.";
    FramesUnpooled Counter "millstream_frames_unpooled_total" "Large requests received into new memory.";
    Hops Counter "millstream_hops_total" "Messages that carried a request or a reply to another core.";
    BytesCopied Counter "millstream_bytes_copied_total" "Record bytes copied in user space on their way to a consumer.";
    FetchesParked Gauge "millstream_fetches_parked" "Fetches that wait for more bytes.";
    Wakeups Counter "millstream_wakeups_total" "Parked fetches woken by an append that satisfied them.";
    FetchTimeouts Counter "millstream_fetch_timeouts_total" "Parked fetches answered because their time was over.";
    WatchersTold Counter "millstream_watchers_told_total" "Times that a parked fetch was told of a moved high watermark.";
    JournalWrites Counter "millstream_journal_writes_total" "Journal rounds written.";
    JournalWriteBytes Counter "millstream_journal_write_bytes_total" "Bytes of those rounds.";
    JournalFlushes Counter "millstream_journal_flushes_total" "Flushes of journal files.";
    JournalRoomWaits Counter "millstream_journal_room_waits_total" "Times that an append waited for room in the ring.";
    JournalLiveBytes Gauge "millstream_journal_live_bytes" "Bytes of rounds that are not drained yet.";
    SegmentFlushes Counter "millstream_segment_flushes_total" "Flushes of segment files.";
    SegmentWriteBytes Counter "millstream_segment_write_bytes_total" "Bytes written to segment files.";
    DrainPasses Counter "millstream_drain_passes_total" "Drain passes ended.";
    Compactions Counter "millstream_compactions_total" "Compactions of a partition ended.";
    CompactionReadBytes Counter "millstream_compaction_read_bytes_total" "Log bytes that compactions read; what is new they read twice.";
    CompactionWriteBytes Counter "millstream_compaction_write_bytes_total" "Log bytes that compactions wrote.";
    ColdReads Counter "millstream_cold_reads_total" "Reads of segment or old journal files.";
    ColdReadBytes Counter "millstream_cold_read_bytes_total" "Bytes of those reads.";
    Partitions Gauge "millstream_partitions" "Partitions that the shard owns.";
}

/// One shard's figures, as of its last tick.
#[derive(Debug)]
pub struct ShardMetrics {
    values: [AtomicU64; METRICS.len()],
}

impl Default for ShardMetrics {
    fn default() -> ShardMetrics {
        ShardMetrics { values: std::array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl ShardMetrics {
    /// Publishes a figure.
    pub fn set(&self, metric: Metric, value: u64) {
        if let Some(place) = self.values.get(metric as usize) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// The figure last published.
    #[must_use]
    pub fn get(&self, metric: Metric) -> u64 {
        self.values.get(metric as usize).map_or(0, |place| place.load(Ordering::Relaxed))
    }
}

/// All shards' figures as Prometheus reads them (text format 0.0.4), with the shard as a label.
#[must_use]
pub fn render<'a>(shards: impl Iterator<Item = &'a ShardMetrics> + Clone) -> String {
    let mut text = String::new();
    for (index, (kind, name, help)) in METRICS.iter().enumerate() {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let mut lines = || {
            writeln!(text, "# HELP {name} {help}")?;
            writeln!(text, "# TYPE {name} {kind}")?;
            for (shard, metrics) in shards.clone().enumerate() {
                let value = metrics.values.get(index).map_or(0, |v| v.load(Ordering::Relaxed));
                writeln!(text, "{name}{{shard=\"{shard}\"}} {value}")?;
            }
            std::fmt::Result::Ok(())
        };
        // A string takes everything that is written to it.
        lines().unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_rendered_by_shard() {
        let shards = [ShardMetrics::default(), ShardMetrics::default()];
        shards[1].set(Metric::JournalFlushes, 7);
        assert_eq!(shards[1].get(Metric::JournalFlushes), 7);
        let text = render(shards.iter());
        let lines: Vec<_> =
            text.lines().filter(|l| l.contains("millstream_journal_flushes_total")).collect();
        assert_eq!(
            lines,
            [
                "# HELP millstream_journal_flushes_total Flushes of journal files.",
                "# TYPE millstream_journal_flushes_total counter",
                "millstream_journal_flushes_total{shard=\"0\"} 0",
                "millstream_journal_flushes_total{shard=\"1\"} 7",
            ]
        );
        assert!(
            METRICS.iter().all(|(kind, name, _)| {
                name.ends_with("_total") == matches!(kind, Kind::Counter)
            })
        );
    }
}
