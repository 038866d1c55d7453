//! Histograms as files that other tools read: interval logs with V2 histograms (`.hdr`) and percentile
//! distributions as text (`.hgrm`), both as HdrHistogram defines them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::error::{Doing, Error, Result};
use crate::result::RunResult;
use crate::stats::Histogram;

/// Writes `NAME.hdr` and, for each latency, `NAME-LATENCY.hgrm` into `directory`; the files written.
///
/// # Errors
/// If a file cannot be written.
pub fn write(result: &RunResult, directory: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let mut written = vec![directory.join(format!("{name}.hdr"))];
    interval_log(result, &written[0])?;
    for (latency, histogram) in &result.histograms.by_name {
        let path = directory.join(format!("{name}-{latency}.hgrm"));
        percentiles(histogram, &path)?;
        written.push(path);
    }
    Ok(written)
}

fn interval_log(result: &RunResult, path: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create(path).doing(path.display())?);
    let mut serializer = V2DeflateSerializer::new();
    let began = Duration::from_millis(u64::try_from(result.began_ms).unwrap_or(0));
    let start: SystemTime = UNIX_EPOCH + began;
    let broken = |error: String| Error::Peer(format!("{}: {error}", path.display()));
    {
        // The histograms count nanoseconds; the log's maxima are in milliseconds.
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("millstream-bench; latencies in nanoseconds")
            .with_start_time(start)
            .with_base_time(start)
            .with_max_value_divisor(1e6)
            .begin_log_with(&mut out, &mut serializer)
            .doing(path.display())?;
        let tag = |name| Tag::new(name).ok_or_else(|| broken(format!("{name} is no tag")));
        let (ack, end_to_end) = (tag("ack")?, tag("end_to_end")?);
        for (at, length, acks, ends) in &result.histograms.intervals {
            for (tag, histogram) in [(ack, acks), (end_to_end, ends)] {
                if !histogram.is_empty() {
                    let (at, length) =
                        (Duration::from_secs_f64(*at), Duration::from_secs_f64(*length));
                    log.write_histogram(histogram.inner(), at, length, Some(tag))
                        .map_err(|error| broken(format!("{error:?}")))?;
                }
            }
        }
    }
    out.flush().doing(path.display())
}

fn percentiles(histogram: &Histogram, path: &Path) -> Result<()> {
    let mut out = BufWriter::new(File::create(path).doing(path.display())?);
    let inner = histogram.inner();
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let ms = |ns: u64| ns as f64 / 1e6;
    for step in inner.iter_quantiles(5) {
        let quantile = step.quantile_iterated_to();
        let (value, count) =
            (ms(step.value_iterated_to()), inner.count_between(0, step.value_iterated_to()));
        text += &if quantile < 1.0 {
            format!("{value:12.3} {quantile:2.12} {count:10} {:14.2}\n", 1.0 / (1.0 - quantile))
        } else {
            format!("{value:12.3} {quantile:2.12} {count:10}\n")
        };
    }
    text += &format!(
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]\n#[Buckets = {:12}, SubBuckets     = {:12}]\n",
        inner.mean() / 1e6,
        inner.stdev() / 1e6,
        ms(inner.max()),
        inner.len(),
        inner.buckets(),
        2048,
    );
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).doing(path.display())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;

    #[test]
    fn both_files_hold_what_was_recorded() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|us| histogram.record_ns(us * 1000, 1));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.hgrm");
        percentiles(&histogram, &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("Total count    =         1000"), "{text}");
        let median = text.lines().find(|line| line.contains(" 0.500000000000 ")).unwrap();
        let words: Vec<&str> = median.split_whitespace().collect();
        assert!((words[0].parse::<f64>().unwrap() - 0.5).abs() < 0.002, "{median}");
        assert_eq!(words[3], "2.00");

        let mut result = crate::result::tests::empty();
        result.histograms.intervals.push((0.0, 1.0, histogram.clone(), Histogram::new()));
        result.histograms.intervals.push((1.0, 1.0, histogram.clone(), histogram));
        let path = directory.path().join("a.hdr");
        interval_log(&result, &path).unwrap();
        let text = std::fs::read(&path).unwrap();
        let mut counts = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(entry) = entry.unwrap() {
                let encoded = base64(entry.encoded_histogram());
                let read: hdrhistogram::Histogram<u64> =
                    Deserializer::new().deserialize(&mut encoded.as_slice()).unwrap();
                counts.push((entry.tag().unwrap().as_str().to_owned(), read.len()));
            }
        }
        let expected = [("ack", 1000), ("ack", 1000), ("end_to_end", 1000)];
        assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)));
    }

    fn base64(text: &str) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut bits = (0_u32, 0);
        let mut bytes = Vec::new();
        for digit in text.bytes().filter(|b| *b != b'=') {
            let value = DIGITS.iter().position(|d| *d == digit).unwrap();
            bits = ((bits.0 << 6) | u32::try_from(value).unwrap(), bits.1 + 6);
            if bits.1 >= 8 {
                bits.1 -= 8;
                bytes.push((bits.0 >> bits.1) as u8);
                bits.0 &= (1 << bits.1) - 1;
            }
        }
        bytes
    }
}
