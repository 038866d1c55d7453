//! The wire by hand: frames and record batches with every field open to being wrong.
//!
//! Deliberately not built on `millstream::protocol` or any client: what the broker's own codec would
//! refuse to say has to be said here. Only old, non-flexible versions are spoken, except where the
//! flexible form is the case.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::broker::PATIENCE;
use crate::outcome::{Context, Failure, Result, ensure, failure};

pub(crate) const PRODUCE: i16 = 0;
pub(crate) const FETCH: i16 = 1;
pub(crate) const LIST_OFFSETS: i16 = 2;
pub(crate) const METADATA: i16 = 3;
pub(crate) const API_VERSIONS: i16 = 18;
pub(crate) const CREATE_TOPICS: i16 = 19;
pub(crate) const DELETE_TOPICS: i16 = 20;
pub(crate) const INIT_PRODUCER_ID: i16 = 22;
pub(crate) const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
pub(crate) const DESCRIBE_CLUSTER: i16 = 60;
pub(crate) const DESCRIBE_PRODUCERS: i16 = 61;

/// Bytes in the making, in Kafka's encoding.
#[derive(Clone, Default)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    pub(crate) fn i8(self, value: i8) -> Bytes {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i16(self, value: i16) -> Bytes {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i32(self, value: i32) -> Bytes {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn i64(self, value: i64) -> Bytes {
        self.raw(&value.to_be_bytes())
    }

    /// A STRING. Lengths of test strings fit.
    pub(crate) fn string(self, value: &str) -> Bytes {
        let length = i16::try_from(value.len()).unwrap_or(i16::MAX);
        self.i16(length).raw(value.as_bytes())
    }

    /// BYTES or RECORDS.
    pub(crate) fn bytes(self, value: &[u8]) -> Bytes {
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.i32(length).raw(value)
    }

    /// An UNSIGNED_VARINT.
    pub(crate) fn varint(mut self, mut value: u32) -> Bytes {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    /// A VARINT or VARLONG, zigzag.
    pub(crate) fn zigzag(mut self, value: i64) -> Bytes {
        let mut value = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    pub(crate) fn raw(mut self, value: &[u8]) -> Bytes {
        self.0.extend_from_slice(value);
        self
    }
}

/// The fields of an answer, one after the other.
pub(crate) struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let found = self.bytes.get(self.at..self.at + N).and_then(|b| b.try_into().ok());
        self.at += N;
        found.ok_or_else(|| failure(format!("the answer ends within a field, at {}", self.at)))
    }

    pub(crate) fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.take()?))
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<Vec<u8>> {
        let found = self.bytes.get(self.at..self.at + length).map(<[u8]>::to_vec);
        self.at += length;
        found.ok_or_else(|| {
            failure(format!("the answer ends within {length} bytes, at {}", self.at))
        })
    }

    pub(crate) fn string(&mut self) -> Result<String> {
        let length = self.i16()?;
        let bytes = self.bytes(usize::try_from(length.max(0))?)?;
        Ok(String::from_utf8(bytes)?)
    }

    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }
}

/// One socket to the broker.
pub(crate) struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Result<Connection> {
        let stream = TcpStream::connect(address).context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        // Only bounds a wait that would never end.
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, correlation: 0 })
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end(&mut self) -> Result<()> {
        Ok(self.stream.shutdown(std::net::Shutdown::Write)?)
    }

    /// Sends one frame with `payload`, header included.
    pub(crate) fn send_frame(&mut self, payload: &[u8]) -> Result<()> {
        let length = i32::try_from(payload.len())?;
        // One write, so that a frame is one segment where it can be.
        self.send_raw(&[&length.to_be_bytes(), payload].concat())
    }

    /// Reads one frame; `None` where the broker closed the connection instead.
    pub(crate) fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        if !self.fill(&mut length)? {
            return Ok(None);
        }
        let length = i32::from_be_bytes(length);
        ensure((4..64 << 20).contains(&length), || format!("the broker sent a frame of {length}"))?;
        let mut frame = vec![0; usize::try_from(length)?];
        ensure(self.fill(&mut frame)?, || "the connection ended within an answer".to_owned())?;
        Ok(Some(frame))
    }

    /// Whether `buffer` could be filled: not if the connection ends before its first byte.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(failure("the connection ended within a field")),
                Ok(count) => filled += count,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                // Bytes still unread when the broker closed: the kernel answers with a reset.
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(false),
                Err(e) => return Err(Failure::from(e)),
            }
        }
        Ok(true)
    }

    /// A request with a version 1 header and its answer, which must come.
    pub(crate) fn call(&mut self, api: i16, version: i16, body: &Bytes) -> Result<Answer> {
        let answer = self.try_call(api, version, body)?;
        answer.ok_or_else(|| {
            failure(format!("the broker closed the connection on API {api} v{version}"))
        })
    }

    /// A request with a version 1 header; `None` where the broker closes the connection.
    pub(crate) fn try_call(
        &mut self,
        api: i16,
        version: i16,
        body: &Bytes,
    ) -> Result<Option<Answer>> {
        self.correlation += 1;
        let correlation = self.correlation;
        self.send_frame(&request(api, version, correlation, body).0)?;
        let Some(bytes) = self.receive()? else {
            return Ok(None);
        };
        let mut answer = Answer { bytes, at: 0 };
        let got = answer.i32()?;
        ensure(got == correlation, || format!("answer {got} to request {correlation}"))?;
        Ok(Some(answer))
    }

    /// The next answer, whichever request it is to, and its correlation id.
    pub(crate) fn answer(&mut self) -> Result<(i32, Answer)> {
        let bytes = self.receive()?.ok_or_else(|| failure("the broker closed the connection"))?;
        let mut answer = Answer { bytes, at: 0 };
        Ok((answer.i32()?, answer))
    }

    /// ApiVersions v0: key, lowest and highest version of every API served.
    pub(crate) fn api_versions(&mut self) -> Result<Vec<(i16, i16, i16)>> {
        let mut answer = self.call(API_VERSIONS, 0, &Bytes::default())?;
        let error = answer.i16()?;
        ensure(error == 0, || format!("ApiVersions answered {error}"))?;
        let count = answer.i32()?;
        (0..count).map(|_| Ok((answer.i16()?, answer.i16()?, answer.i16()?))).collect()
    }

    /// The log end offset of a partition (ListOffsets v1, latest), or Kafka's error code.
    pub(crate) fn log_end(&mut self, topic: &str, partition: i32) -> Result<i64> {
        let body = Bytes::default().i32(-1).i32(1).string(topic).i32(1).i32(partition).i64(-1);
        let mut answer = self.call(LIST_OFFSETS, 1, &body)?;
        let (_, _, _, _) = (answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
        let (error, _, offset) = (answer.i16()?, answer.i64()?, answer.i64()?);
        ensure(error == 0, || format!("ListOffsets of {topic}-{partition} answered {error}"))?;
        Ok(offset)
    }

    /// Produces `records` (Produce v7): Kafka's error code and base offset; `None` where the broker
    /// closes the connection. Not for acks=0, which has no answer.
    pub(crate) fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        records: &[u8],
    ) -> Result<Option<(i16, i64)>> {
        let body = produce_body(topic, partition, acks).bytes(records);
        let Some(mut answer) = self.try_call(PRODUCE, 7, &body)? else {
            return Ok(None);
        };
        Ok(Some(produced(&mut answer)?))
    }
}

/// The payload of a request with a version 1 header.
pub(crate) fn request(api: i16, version: i16, correlation: i32, body: &Bytes) -> Bytes {
    Bytes::default().i16(api).i16(version).i32(correlation).string("by-hand").raw(&body.0)
}

/// A Produce body (v3 to v8) up to the records of its one partition.
pub(crate) fn produce_body(topic: &str, partition: i32, acks: i16) -> Bytes {
    Bytes::default().i16(-1).i16(acks).i32(30_000).i32(1).string(topic).i32(1).i32(partition)
}

/// Error code and base offset of a Produce answer (v3 to v7) for one partition.
pub(crate) fn produced(answer: &mut Answer) -> Result<(i16, i64)> {
    let (_, _, _, _) = (answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
    Ok((answer.i16()?, answer.i64()?))
}

/// A record batch of magic 2, every field of which can be set wrong before it is summed.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) length: Option<i32>,
    pub(crate) magic: i8,
    pub(crate) crc: Option<u32>,
    pub(crate) attributes: i16,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// Producer id, epoch, base sequence.
    pub(crate) producer: (i64, i16, i32),
    pub(crate) count: i32,
    pub(crate) payload: Vec<u8>,
}

impl Batch {
    /// A sound batch of `values` at `timestamp`.
    pub(crate) fn of(values: &[&[u8]], timestamp: i64) -> Batch {
        let mut payload = Vec::new();
        for (delta, value) in values.iter().enumerate() {
            payload.extend(record(i64::try_from(delta).unwrap_or(i64::MAX), value).0);
        }
        let count = i32::try_from(values.len()).unwrap_or(i32::MAX);
        Batch {
            length: None,
            magic: 2,
            crc: None,
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer: (-1, -1, -1),
            count,
            payload,
        }
    }

    /// Changes one thing.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Batch)) -> Batch {
        change(&mut self);
        self
    }

    /// The batch's bytes, length and checksum filled in unless they were set.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let summed = Bytes::default()
            .i16(self.attributes)
            .i32(self.last_offset_delta)
            .i64(self.base_timestamp)
            .i64(self.max_timestamp)
            .i64(self.producer.0)
            .i16(self.producer.1)
            .i32(self.producer.2)
            .i32(self.count)
            .raw(&self.payload);
        let crc = self.crc.unwrap_or_else(|| crc32c::crc32c(&summed.0));
        let length = i32::try_from(summed.0.len() + 9).unwrap_or(i32::MAX);
        let head =
            Bytes::default().i64(0).i32(self.length.unwrap_or(length)).i32(-1).i8(self.magic);
        head.raw(&crc.to_be_bytes()).raw(&summed.0).0
    }
}

/// A record without key and headers at the batch's base timestamp.
pub(crate) fn record(offset_delta: i64, value: &[u8]) -> Bytes {
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    let body = Bytes::default()
        .i8(0)
        .zigzag(0)
        .zigzag(offset_delta)
        .zigzag(-1)
        .zigzag(length)
        .raw(value)
        .zigzag(0);
    Bytes::default().zigzag(i64::try_from(body.0.len()).unwrap_or(i64::MAX)).raw(&body.0)
}
