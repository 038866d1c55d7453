//! A proxy between the generator and a broker that stalls, or changes what is fetched on its way.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use millstream::protocol::messages::FetchResponse;
use millstream::protocol::{ApiKey, Records, decode_response, encode_response};
use millstream::record::{BatchBuilder, HEADER_SIZE, batches};
use millstream::time::Clock;
use millstream::types::{LeaderEpoch, Offset};

type Failure = Box<dyn Error + Send + Sync>;

/// What the proxy does to one record of what is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Drop,
    Double,
    Exchange,
    Flip,
}

#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    /// Nothing passes before that instant, in nanoseconds of the clock.
    stalled_until: AtomicU64,
    /// Records that have passed.
    records: AtomicU64,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    listener: Option<TcpListener>,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens; nothing passes yet.
    pub(crate) fn bind() -> Result<Proxy, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        Ok(Proxy { port, listener: Some(listener), shared: Arc::default() })
    }

    /// Passes everything on to `broker`, and makes each change once it has passed so many records.
    pub(crate) fn pass(&mut self, broker: &str, changes: &'static [(u64, Change)]) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        let (shared, broker) = (Arc::clone(&self.shared), broker.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = connect(client, &broker, &shared, changes) {
                    eprintln!("proxy: {error}");
                }
            }
        });
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on nothing passes for so long.
    pub(crate) fn stall(&self, time: Duration) {
        let until = Clock::monotonic().plus(time).0;
        self.shared.stalled_until.store(until, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // The thread that accepts looks once more; the others end with their connections.
        TcpStream::connect(self.address()).ok();
    }
}

fn connect(
    client: TcpStream,
    broker: &str,
    shared: &Arc<Shared>,
    changes: &'static [(u64, Change)],
) -> Result<(), Failure> {
    let server = TcpStream::connect(broker)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (asked, answered) = channel();
    let (from, to, there) = (client.try_clone()?, server.try_clone()?, Arc::clone(shared));
    std::thread::spawn(move || requests(from, to, &there, &asked).ok());
    let back = Arc::clone(shared);
    std::thread::spawn(move || {
        if let Err(error) = answers(server, client, &back, &answered, changes)
            && error.downcast_ref::<std::io::Error>().is_none()
        {
            eprintln!("proxy: {error}");
        }
    });
    Ok(())
}

fn frame(from: &mut TcpStream) -> Result<Vec<u8>, Failure> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let mut frame = length.to_vec();
    frame.resize(4 + usize::try_from(u32::from_be_bytes(length))?, 0);
    from.read_exact(&mut frame[4..])?;
    Ok(frame)
}

fn forward(to: &mut TcpStream, frame: &[u8], shared: &Shared) -> Result<(), Failure> {
    loop {
        let until = shared.stalled_until.load(Ordering::Relaxed);
        let left = until.saturating_sub(Clock::monotonic().0);
        if left == 0 {
            break;
        }
        std::thread::park_timeout(Duration::from_nanos(left));
    }
    Ok(to.write_all(frame)?)
}

/// API key and version of every request, for whoever reads its answer.
fn requests(
    mut from: TcpStream,
    mut to: TcpStream,
    shared: &Shared,
    asked: &Sender<(i16, i16)>,
) -> Result<(), Failure> {
    loop {
        let frame = match frame(&mut from) {
            Ok(frame) => frame,
            Err(end) => {
                to.shutdown(std::net::Shutdown::Both)?;
                return Err(end);
            }
        };
        let number = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        asked.send((number(4), number(6)))?;
        forward(&mut to, &frame, shared)?;
    }
}

fn answers(
    mut from: TcpStream,
    mut to: TcpStream,
    shared: &Shared,
    asked: &Receiver<(i16, i16)>,
    changes: &[(u64, Change)],
) -> Result<(), Failure> {
    loop {
        let mut frame = frame(&mut from)?;
        let (key, version) = asked.recv()?;
        if !changes.is_empty() && ApiKey::from_number(key) == Some(ApiKey::Fetch) {
            frame = fetched(Bytes::from(frame).slice(4..), version, shared, changes)?.to_vec();
        }
        forward(&mut to, &frame, shared)?;
    }
}

fn fetched(
    frame: Bytes,
    version: i16,
    shared: &Shared,
    changes: &[(u64, Change)],
) -> Result<Bytes, Failure> {
    let version = ApiKey::Fetch.version(version).ok_or("a version that is not served")?;
    let (header, mut response) = decode_response::<FetchResponse>(version, frame)?;
    for data in response.responses.iter_mut().flat_map(|t| &mut t.partitions) {
        let records = data.records.as_ref().and_then(Records::as_inline).cloned();
        let records = records.unwrap_or_default();
        let mut passed = Vec::with_capacity(records.len());
        let mut walk = batches(&records);
        while let Some(Ok(batch)) = walk.next() {
            let count = u64::try_from(batch.header().records_count())?;
            let before = shared.records.fetch_add(count, Ordering::Relaxed);
            let due = changes.iter().find(|(at, _)| (before..before + count).contains(at));
            match due {
                Some((at, change)) => {
                    let index = usize::try_from(at - before)?.clamp(1, usize::try_from(count)? - 2);
                    passed.extend(changed(batch.bytes(), *change, index)?);
                }
                None => passed.extend(batch.bytes()),
            }
        }
        data.records = Some(Bytes::from(passed).into());
    }
    Ok(encode_response(header.correlation_id, version, &response.into())?.into_bytes()?)
}

/// The batch with its record at `index` changed, and but for a flip under a right CRC.
fn changed(batch: &[u8], change: Change, index: usize) -> Result<Vec<u8>, Failure> {
    let view = millstream::record::BatchView::parse(batch)?;
    if change == Change::Flip {
        let mut flipped = batch.to_vec();
        let at = HEADER_SIZE + (batch.len() - HEADER_SIZE) / 2;
        flipped[at] ^= 0x10;
        return Ok(flipped);
    }
    let mut values = values(view.payload())?;
    match change {
        Change::Drop => {
            values.remove(index);
        }
        Change::Double => {
            let again = values[index].clone();
            values.insert(index, again);
        }
        Change::Exchange => values.swap(index, index + 1),
        Change::Flip => {}
    }
    let header = view.header();
    let mut builder = BatchBuilder::new()
        .placed(Offset(header.base_offset().0), LeaderEpoch(header.partition_leader_epoch().0));
    for value in &values {
        builder.record(header.base_timestamp(), None, Some(value));
    }
    let mut bytes = builder.build()?;
    // The offsets the batch covers stay, as when a log is compacted.
    bytes[23..27].copy_from_slice(&header.last_offset_delta().to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(bytes)
}

/// The values of records without keys and headers.
fn values(payload: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut at = 0;
    let varint = |at: &mut usize| -> Result<i64, Failure> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = *payload.get(*at).ok_or("a cut record")?;
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
    };
    let mut values = Vec::new();
    while at < payload.len() {
        let length = usize::try_from(varint(&mut at)?)?;
        let end = at + length;
        at += 1; // attributes
        varint(&mut at)?; // timestamp delta
        varint(&mut at)?; // offset delta
        varint(&mut at)?; // no key
        let length = usize::try_from(varint(&mut at)?)?;
        values.push(payload.get(at..at + length).ok_or("a cut record")?.to_vec());
        at = end;
    }
    Ok(values)
}
