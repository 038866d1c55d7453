//! The broker's own log: lines on standard error, written by a thread of its own.
//!
//! A shard hands a line to a bounded queue and goes on. If the queue is full the line is dropped and
//! counted: a terminal that has stopped reading must not stop a core.

use std::fmt;
use std::io;

use millstream::config::{Config, LogFormat};
use millstream::time::{Clock, Timestamp};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Lines that may wait for the writer. At 200 bytes each some 3 MiB.
const QUEUED_LINES_MAX: usize = 16 * 1024;

/// Keeps the writer running. Dropping it writes what is queued and reports what was dropped.
pub(crate) struct Logging {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

/// Starts the log with the configured form and level.
pub(crate) fn start(config: &Config) -> Logging {
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES_MAX)
        .lossy(true)
        .thread_name("log-writer")
        .finish(io::stderr());
    let dropped = writer.error_counter();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("{},glommio=error", config.log_level)))
        .with_writer(writer)
        .with_timer(UtcMillis)
        .with_ansi(false);
    match config.log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
    Logging { dropped, _writer: guard }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let lines = self.dropped.dropped_lines();
        if lines > 0 {
            eprintln!(
                "warning: {lines} log lines were dropped; raise log.level or read the log faster"
            );
        }
    }
}

/// UTC with milliseconds, as 2026-11-22T15:17:00.123Z.
struct UtcMillis;

impl FormatTime for UtcMillis {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        w.write_str(&utc(Clock::timestamp()))
    }
}

fn utc(Timestamp(timestamp): Timestamp) -> String {
    let (days, ms) = (timestamp.div_euclid(86_400_000), timestamp.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a number of days since 1970. Years are taken to begin in March, so that the
/// leap day is the last one, and to come in eras of 400, which all have the same length.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        for (timestamp, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_600_001, "2025-01-01T00:00:00.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(utc(Timestamp(timestamp)), text);
        }
    }
}
