//! A broker of one thread that keeps everything in memory, and can be told to do its work badly.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bench_harness::driver::wire::Wire;
use bench_harness::poll::Poll;
use bytes::Bytes;
use millstream::protocol::messages::create_topics::CreatableTopicResult;
use millstream::protocol::messages::fetch::{FetchableTopicResponse, PartitionData};
use millstream::protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream::protocol::messages::metadata::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millstream::protocol::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use millstream::protocol::messages::*;
use millstream::protocol::{
    ErrorCode, Request, Response, advertised, decode_request, encode_response,
};
use millstream::record::{BatchView, stamp};
use millstream::types::{LeaderEpoch, Offset, Uuid};

type Failure = Box<dyn Error + Send + Sync>;

/// What is done wrong, each once, to the batch of that number in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each test binary uses its part of this module")]
pub(crate) enum Fault {
    Nothing,
    /// Acknowledged, not stored.
    Lose(usize),
    /// Stored twice.
    Double(usize),
    /// Stored before the one that came before it.
    Exchange(usize),
    /// Stored with one bit changed.
    Change(usize),
    /// Refused, and not stored.
    Refuse(usize),
    /// The broker is gone instead of answering.
    Die(usize),
}

pub(crate) struct FakeBroker {
    pub(crate) address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl FakeBroker {
    #[allow(dead_code, reason = "each test binary uses its part of this module")]
    pub(crate) fn start(fault: Fault) -> Result<FakeBroker, Box<dyn Error>> {
        FakeBroker::start_at(fault, None)
    }

    /// Tells its clients that it is reached at that port of the same host.
    #[allow(dead_code, reason = "each test binary uses its part of this module")]
    pub(crate) fn start_behind(fault: Fault, port: u16) -> Result<FakeBroker, Box<dyn Error>> {
        FakeBroker::start_at(fault, Some(port))
    }

    fn start_at(fault: Fault, advertised: Option<u16>) -> Result<FakeBroker, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let port = i32::from(advertised.unwrap_or(address.port()));
        let mut broker = Broker { port, fault, topics: BTreeMap::new() };
        let thread =
            std::thread::spawn(move || broker.serve(&listener, &seen).map_err(|e| e.to_string()));
        Ok(FakeBroker { address: address.to_string(), stop, thread: Some(thread) })
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("fake broker: {error}");
        }
    }
}

#[derive(Default)]
struct Log {
    batches: Vec<Vec<u8>>,
    received: usize,
}

impl Log {
    fn end(&self) -> i64 {
        self.batches
            .last()
            .and_then(|b| BatchView::parse(b).ok())
            .map_or(0, |b| b.header().next_offset().0)
    }

    fn append(&mut self, mut batch: Vec<u8>) -> Result<(), Failure> {
        stamp(&mut batch, Offset(self.end()), LeaderEpoch(0))?;
        self.batches.push(batch);
        Ok(())
    }
}

struct Broker {
    port: i32,
    fault: Fault,
    topics: BTreeMap<String, Vec<Log>>,
}

impl Broker {
    fn serve(&mut self, listener: &TcpListener, stop: &AtomicBool) -> Result<(), Failure> {
        let mut poll = Poll::new()?;
        poll.add(listener.as_fd(), usize::MAX, false)?;
        let mut wires: Vec<Option<Wire>> = Vec::new();
        let mut ready = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            poll.wait(Some(Duration::from_millis(20)), &mut ready)?;
            for event in &ready {
                if event.token == usize::MAX {
                    let wire = Wire::from_stream(listener.accept()?.0)?;
                    poll.add(&wire, wires.len(), false)?;
                    wires.push(Some(wire));
                    continue;
                }
                let Some(slot) = wires.get_mut(event.token) else {
                    continue;
                };
                let Some(wire) = slot else { continue };
                let mut frames = Vec::new();
                let mut open = wire.receive(|frame| {
                    frames.push(Bytes::copy_from_slice(frame));
                    Ok(())
                });
                for frame in frames {
                    match self.request(frame)? {
                        Some(answer) => wire.queue(answer),
                        None if matches!(self.fault, Fault::Die(_)) => return Ok(()),
                        None => {}
                    }
                }
                if wire.flush().is_err() {
                    open = Ok(false);
                }
                poll.modify(&*wire, event.token, !wire.is_flushed())?;
                if !matches!(open, Ok(true)) {
                    *slot = None;
                }
            }
        }
        Ok(())
    }

    /// The answer; none for `acks=0`, or when the broker dies.
    fn request(&mut self, frame: Bytes) -> Result<Option<Bytes>, Failure> {
        let (header, request) = decode_request(frame)?;
        let response: Response = match request {
            Request::ApiVersions(_) => {
                ApiVersionsResponse { api_keys: advertised(), ..Default::default() }.into()
            }
            Request::Metadata(request) => self.metadata(&request).into(),
            Request::CreateTopics(request) => self.create(&request).into(),
            Request::ListOffsets(request) => self.offsets(&request).into(),
            Request::Fetch(request) => self.fetch(&request).into(),
            Request::Produce(request) => match self.produce(&request)? {
                Some(response) if request.acks != 0 => response.into(),
                _ => return Ok(None),
            },
            other => return Err(format!("not served: {other:?}").into()),
        };
        Ok(Some(
            encode_response(header.correlation_id, header.api_version, &response)?.into_bytes()?,
        ))
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let topic = |name: &str| {
            let logs = self.topics.get(name);
            let partition =
                |i| MetadataResponsePartition { partition_index: i, ..Default::default() };
            MetadataResponseTopic {
                name: Some(name.to_owned().into()),
                topic_id: Uuid::from_u128(7),
                error_code: if logs.is_some() {
                    ErrorCode::None
                } else {
                    ErrorCode::UnknownTopicOrPartition
                },
                partitions: (0..).map(partition).take(logs.map_or(0, Vec::len)).collect(),
                ..Default::default()
            }
        };
        let broker = MetadataResponseBroker {
            host: "127.0.0.1".into(),
            port: self.port,
            ..Default::default()
        };
        let names = request.topics.iter().flatten().filter_map(|t| t.name.as_deref());
        MetadataResponse {
            brokers: vec![broker],
            topics: names.map(topic).collect(),
            ..Default::default()
        }
    }

    fn create(&mut self, request: &CreateTopicsRequest) -> CreateTopicsResponse {
        let mut topics = Vec::new();
        for topic in &request.topics {
            let count = usize::try_from(topic.num_partitions).unwrap_or(1);
            self.topics
                .entry(topic.name.to_string())
                .or_insert_with(|| (0..count).map(|_| Log::default()).collect());
            topics.push(CreatableTopicResult { name: topic.name.clone(), ..Default::default() });
        }
        CreateTopicsResponse { topics, ..Default::default() }
    }

    fn offsets(&mut self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let mut topics = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                let end = self.log(&topic.name, asked.partition_index).map_or(-1, |log| log.end());
                let offset = if asked.timestamp == -1 { end } else { 0 };
                let index = asked.partition_index;
                partitions.push(ListOffsetsPartitionResponse {
                    partition_index: index,
                    offset,
                    ..Default::default()
                });
            }
            topics.push(ListOffsetsTopicResponse { name: topic.name.clone(), partitions });
        }
        ListOffsetsResponse { topics, ..Default::default() }
    }

    fn log(&mut self, topic: &str, partition: i32) -> Option<&mut Log> {
        // Newer versions name topics by id, and this broker gives all the same one.
        let logs = match self.topics.get_mut(topic) {
            Some(_) => self.topics.get_mut(topic),
            None => self.topics.values_mut().next(),
        };
        logs?.get_mut(usize::try_from(partition).ok()?)
    }

    fn fetch(&mut self, request: &FetchRequest) -> FetchResponse {
        let mut responses = Vec::new();
        for topic in &request.topics {
            let mut partitions = Vec::new();
            for asked in &topic.partitions {
                let most = usize::try_from(asked.partition_max_bytes).unwrap_or(0);
                let mut records = Vec::new();
                if let Some(log) = self.log(&topic.topic, asked.partition) {
                    let behind = |b: &&Vec<u8>| {
                        BatchView::parse(b)
                            .is_ok_and(|b| b.header().last_offset().0 >= asked.fetch_offset)
                    };
                    for batch in log.batches.iter().skip_while(|b| !behind(b)) {
                        if !records.is_empty() && records.len() >= most {
                            break;
                        }
                        records.extend_from_slice(batch);
                    }
                }
                // As Kafka does: the last batch is cut off where the limit is, but the first is whole.
                let first = BatchView::parse(&records).map_or(0, |b| b.size());
                records.truncate(most.max(first));
                let records = Some(Bytes::from(records).into());
                partitions.push(PartitionData {
                    partition_index: asked.partition,
                    records,
                    ..Default::default()
                });
            }
            let (name, id) = (topic.topic.clone(), topic.topic_id);
            responses.push(FetchableTopicResponse { topic: name, topic_id: id, partitions });
        }
        FetchResponse { responses, ..Default::default() }
    }

    fn produce(&mut self, request: &ProduceRequest) -> Result<Option<ProduceResponse>, Failure> {
        let fault = self.fault;
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let mut partitions = Vec::new();
            for data in &topic.partition_data {
                let log = self.log(&topic.name, data.index).ok_or("no such partition")?;
                let batch = data.records.as_ref().ok_or("no records")?.to_vec();
                if !BatchView::parse(&batch)?.crc_valid() {
                    return Err("a produced batch with a wrong CRC".into());
                }
                let number = log.received;
                log.received += 1;
                let mut error_code = ErrorCode::None;
                match fault {
                    Fault::Die(n) if n == number => return Ok(None),
                    Fault::Lose(n) if n == number => {}
                    Fault::Refuse(n) if n == number => error_code = ErrorCode::KafkaStorageError,
                    Fault::Double(n) if n == number => {
                        log.append(batch.clone())?;
                        log.append(batch)?;
                    }
                    Fault::Exchange(n) if n == number => {
                        let before = log.batches.pop().ok_or("nothing to exchange with")?;
                        log.append(batch)?;
                        log.append(before)?;
                    }
                    Fault::Change(n) if n == number => {
                        let mut changed = batch;
                        if let Some(last) = changed.last_mut() {
                            *last ^= 4;
                        }
                        log.append(changed)?;
                    }
                    _ => log.append(batch)?,
                }
                partitions.push(PartitionProduceResponse {
                    index: data.index,
                    error_code,
                    ..Default::default()
                });
            }
            responses.push(TopicProduceResponse {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partition_responses: partitions,
            });
        }
        Ok(Some(ProduceResponse { responses, ..Default::default() }))
    }
}
