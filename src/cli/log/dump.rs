//! `millstream log dump`: what is in segment files, batch by batch.
//!
//! Names are those of Kafka's `DumpLogSegments`. It reads files only and takes no lock: with a broker at
//! work it shows what was drained. What is still in the journal is shown after `millstream log seal`.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use millstream::limits::DECOMPRESSED_BYTES_MAX;
use millstream::record::{
    BatchHeader, BatchView, HEADER_SIZE, RecordView, TimestampType, decompress, records,
};
use serde_json::{Value, json};

use super::super::Failure;
use super::{named, segments_in};

/// Zeros at a segment's end are looked at in pieces of this size.
const PIECE: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct DumpArgs {
    /// Segment files, directories of partitions, or data directories
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Show every record, too
    #[arg(long)]
    records: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DumpArgs, out: &mut impl Write) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(out);
    let mut whole = true;
    for path in &args.paths {
        for segment in segments_of(path)? {
            whole &= dump(args, &segment, &mut out)?;
        }
    }
    out.flush()?;
    if whole { Ok(()) } else { Err(Failure::Shown) }
}

/// The segments that a path means.
fn segments_of(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let bad = |error: io::Error| named(path, &error);
    if !fs::metadata(path).map_err(bad)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = segments_in(path).map_err(bad)?;
    if found.is_empty() {
        let mut below = Vec::new();
        for entry in fs::read_dir(path).map_err(bad)? {
            let directory = entry.map_err(bad)?.path();
            if directory.is_dir() {
                below.push(directory);
            }
        }
        below.sort();
        for directory in below {
            found.extend(segments_in(&directory).map_err(|error| named(&directory, &error))?);
        }
    }
    if found.is_empty() {
        return Err(Failure::Runtime(format!(
            "{}: there are no segment files (*.log); a log that was never drained is only in the journal, \
             and `millstream log seal` moves it out",
            path.display()
        )));
    }
    Ok(found)
}

/// How a segment ends.
enum End {
    /// With its last batch, or with space that was reserved and not written to.
    Whole { reserved: u64 },
    /// With something that is no batch.
    Broken { why: String },
}

/// Prints a segment; says whether all of it is right.
fn dump(args: &DumpArgs, path: &Path, out: &mut impl Write) -> Result<bool, Failure> {
    let file = File::open(path).map_err(|error| named(path, &error))?;
    let len = file.metadata().map_err(|error| named(path, &error))?.len();
    if !args.json {
        writeln!(out, "Dumping {}", path.display())?;
    }
    let mut reader = Reader { input: BufReader::new(file), position: 0, len, batch: Vec::new() };
    let (mut batches, mut valid) = (0_u64, true);
    let end = loop {
        let position = reader.position;
        match reader.next().map_err(|error| named(path, &error))? {
            Ok(batch) => {
                batches += 1;
                valid &= print(args, path, position, &batch, out)?;
                reader.position += batch.size() as u64;
            }
            Err(end) => break end,
        }
    };
    let (reserved, why) = match &end {
        End::Whole { reserved } => (*reserved, None),
        End::Broken { why } => (0, Some(why)),
    };
    let position = reader.position;
    if args.json {
        let value = json!({
            "segment": path.display().to_string(), "batches": batches, "bytes": position,
            "reservedBytes": reserved, "error": why,
        });
        writeln!(out, "{value}")?;
    } else {
        if let Some(why) = why {
            writeln!(out, "position: {position} error: {why}")?;
        }
        writeln!(out, "batches: {batches} bytes: {position} reserved: {reserved}")?;
    }
    Ok(valid && why.is_none())
}

struct Reader {
    input: BufReader<File>,
    position: u64,
    len: u64,
    batch: Vec<u8>,
}

impl Reader {
    fn next(&mut self) -> io::Result<Result<BatchView<'_>, End>> {
        let left = self.len.saturating_sub(self.position);
        let torn = |what: &str| End::Broken {
            why: format!("{left} bytes at the end are no whole {what}"),
        };
        if left == 0 {
            return Ok(Err(End::Whole { reserved: 0 }));
        }
        self.batch.resize(usize::try_from(left).unwrap_or(usize::MAX).min(HEADER_SIZE), 0);
        self.input.read_exact(&mut self.batch)?;
        if self.batch.iter().all(|byte| *byte == 0) {
            return Ok(Err(self.reserved(left)?));
        }
        let size = match BatchHeader::read(&self.batch).map(|header| (header, header.size())) {
            None => return Ok(Err(torn("batch header"))),
            Some((header, Some(size))) if header.magic() == 2 && size >= HEADER_SIZE => size,
            Some(_) => {
                let why = BatchView::parse(&self.batch).err().map(|error| error.to_string());
                return Ok(Err(End::Broken { why: why.unwrap_or_default() }));
            }
        };
        if size as u64 > left {
            return Ok(Err(torn("batch")));
        }
        self.batch.resize(size, 0);
        let body = self.batch.get_mut(HEADER_SIZE..).unwrap_or_default();
        self.input.read_exact(body)?;
        Ok(BatchView::parse(&self.batch).map_err(|error| End::Broken { why: error.to_string() }))
    }

    /// Whether nothing but zeros follows.
    fn reserved(&mut self, left: u64) -> io::Result<End> {
        let mut piece = vec![0; PIECE];
        loop {
            let read = self.input.read(&mut piece)?;
            if read == 0 {
                return Ok(End::Whole { reserved: left });
            }
            if piece.get(..read).unwrap_or_default().iter().any(|byte| *byte != 0) {
                let why = "zeros where a batch should be, and something behind them".to_owned();
                return Ok(End::Broken { why });
            }
        }
    }
}

/// Prints a batch; says whether it is valid.
fn print(
    args: &DumpArgs,
    path: &Path,
    position: u64,
    batch: &BatchView<'_>,
    out: &mut impl Write,
) -> Result<bool, Failure> {
    let header = batch.header();
    let attributes = header.attributes();
    let valid = batch.crc_valid();
    let codec = attributes.codec().map_or_else(
        || format!("unknown ({})", attributes.codec_id()),
        |codec| codec.name().to_owned(),
    );
    let time = time_name(attributes.timestamp_type());
    let last_sequence = match header.base_sequence() {
        -1 => -1,
        base => base.wrapping_add(header.last_offset_delta()) & i32::MAX,
    };
    if args.json {
        let mut value = json!({
            "segment": path.display().to_string(),
            "position": position,
            "size": batch.size(),
            "baseOffset": header.base_offset().0,
            "lastOffset": header.last_offset().0,
            "count": header.records_count(),
            "partitionLeaderEpoch": header.partition_leader_epoch().0,
            "producerId": header.producer_id(),
            "producerEpoch": header.producer_epoch(),
            "baseSequence": header.base_sequence(),
            "lastSequence": last_sequence,
            "isTransactional": attributes.is_transactional(),
            "isControl": attributes.is_control(),
            "timestampType": time,
            "baseTimestamp": header.base_timestamp().0,
            "maxTimestamp": header.max_timestamp().0,
            "compresscodec": codec,
            "crc": header.crc(),
            "isvalid": valid,
        });
        if args.records && valid {
            let (found, fault) = decode(batch, |record| json_record(batch, record));
            if let Some(object) = value.as_object_mut() {
                object.insert("records".to_owned(), Value::Array(found));
                object.insert("recordsError".to_owned(), json!(fault));
            }
        }
        writeln!(out, "{value}")?;
        return Ok(valid);
    }
    writeln!(
        out,
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {last_sequence} \
         producerId: {} producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} isControl: {} \
         position: {position} {time}: {} size: {} compresscodec: {codec} crc: {} isvalid: {valid}",
        header.base_offset(),
        header.last_offset(),
        header.records_count(),
        header.base_sequence(),
        header.producer_id(),
        header.producer_epoch(),
        header.partition_leader_epoch().0,
        attributes.is_transactional(),
        attributes.is_control(),
        header.max_timestamp().0,
        batch.size(),
        header.crc(),
    )?;
    if args.records && valid {
        let (found, fault) = decode(batch, |record| text_record(batch, record));
        for record in found {
            writeln!(out, "{record}")?;
        }
        if let Some(fault) = fault {
            writeln!(out, "| error: {fault}")?;
        }
    }
    Ok(valid)
}

fn time_name(timestamp_type: TimestampType) -> &'static str {
    match timestamp_type {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    }
}

/// The records of a batch, as far as they can be read, and why no further.
fn decode<T>(
    batch: &BatchView<'_>,
    mut show: impl FnMut(&RecordView<'_>) -> T,
) -> (Vec<T>, Option<String>) {
    let Some(codec) = batch.header().attributes().codec() else {
        return (Vec::new(), Some("the codec is unknown".to_owned()));
    };
    let payload = match decompress(codec, batch.payload(), DECOMPRESSED_BYTES_MAX) {
        Ok(payload) => payload,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut shown = Vec::new();
    for record in records(&payload) {
        match record {
            Ok(record) => shown.push(show(&record)),
            Err(fault) => return (shown, Some(fault.to_string())),
        }
    }
    (shown, None)
}

fn timestamp(batch: &BatchView<'_>, record: &RecordView<'_>) -> i64 {
    let header = batch.header();
    match header.attributes().timestamp_type() {
        TimestampType::CreateTime => {
            header.base_timestamp().0.saturating_add(record.timestamp_delta)
        }
        TimestampType::LogAppendTime => header.max_timestamp().0,
    }
}

fn offset(batch: &BatchView<'_>, record: &RecordView<'_>) -> i64 {
    batch.header().base_offset().plus(i64::from(record.offset_delta)).0
}

fn text_record(batch: &BatchView<'_>, record: &RecordView<'_>) -> String {
    let size =
        |bytes: Option<&[u8]>| bytes.map_or(-1, |b| i64::try_from(b.len()).unwrap_or(i64::MAX));
    let headers: Vec<String> = record.headers.map(|(name, _)| line(name)).collect();
    let mut text = format!(
        "| offset: {} {}: {} keySize: {} valueSize: {} headerKeys: [{}]",
        offset(batch, record),
        time_name(batch.header().attributes().timestamp_type()),
        timestamp(batch, record),
        size(record.key),
        size(record.value),
        headers.join(","),
    );
    if let Some(key) = record.key {
        text.push_str(" key: ");
        text.push_str(&line(key));
    }
    if let Some(value) = record.value {
        text.push_str(" payload: ");
        text.push_str(&line(value));
    }
    text
}

/// Bytes as text without control characters, which would make two lines of one.
fn line(bytes: &[u8]) -> String {
    let mut text = String::new();
    for character in String::from_utf8_lossy(bytes).chars() {
        if character.is_control() {
            text.extend(character.escape_default());
        } else {
            text.push(character);
        }
    }
    text
}

fn json_record(batch: &BatchView<'_>, record: &RecordView<'_>) -> Value {
    let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
    let headers: Vec<Value> = record
        .headers
        .map(|(name, value)| json!({ "key": text(Some(name)), "value": text(value) }))
        .collect();
    json!({
        "offset": offset(batch, record),
        "timestamp": timestamp(batch, record),
        "key": text(record.key),
        "value": text(record.value),
        "headers": headers,
    })
}
