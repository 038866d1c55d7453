//! A load that knows what it may not lose: numbered records, one producer per stream, retries off.
//!
//! A partition's log must hold, in the order they were sent, every record that was acknowledged, each at
//! the offset it was acknowledged at; one that was not acknowledged may be there once or not at all.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};

use crate::broker::PATIENCE;
use crate::client::{self, Deliveries, Delivery};
use crate::outcome::{Context, Result, ensure, eventually, failure};
use crate::real::Input;

/// What is known of one partition.
#[derive(Default)]
struct Partition {
    /// Records sent, which is the number of the next one.
    sent: usize,
    /// Offset and number of every record acknowledged.
    acked: BTreeMap<i64, usize>,
    /// The numbers found in the log so far, by offset.
    found: Vec<usize>,
    /// The highest watermark seen.
    high_watermark: i64,
}

/// One topic under load at one level of acks.
pub(crate) struct Stream<'a> {
    topic: String,
    acks: &'static str,
    partitions: Vec<Partition>,
    lines: &'a [Input],
}

/// A stream's producer while a broker lives.
pub(crate) struct Load {
    producer: BaseProducer<Deliveries>,
    deliveries: Receiver<Delivery>,
    /// Records handed to the client and not yet heard of.
    open: usize,
    /// Records acknowledged to this producer.
    pub(crate) acked: usize,
}

impl<'a> Stream<'a> {
    /// A new topic with its stream; `lines` are what its records are made of.
    pub(crate) fn create(
        address: &str,
        acks: &'static str,
        partitions: usize,
        lines: &'a [Input],
    ) -> Result<Stream<'a>> {
        let topic = format!("load-acks-{acks}");
        client::create(address, &topic, i32::try_from(partitions)?)?;
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        Ok(Stream { topic, acks, partitions, lines })
    }

    /// The bytes of record `number`: its number and a line of the real input.
    fn value(&self, number: usize) -> Vec<u8> {
        let line = self.lines.get(number % self.lines.len()).map_or(&[][..], |input| &input.value);
        [format!("{number} ").as_bytes(), line].concat()
    }

    /// A producer for this broker.
    pub(crate) fn begin(&self, address: &str) -> Result<Load> {
        let settings = [
            ("acks", self.acks),
            ("queue.buffering.max.messages", "2000"),
            ("message.timeout.ms", "30000"),
        ];
        let (producer, deliveries) = client::producer(address, &settings)?;
        Ok(Load { producer, deliveries, open: 0, acked: 0 })
    }

    /// Fills the client's queue, round robin over the partitions, and takes in what was delivered.
    /// While the broker lives, every delivery must be an acknowledgement.
    pub(crate) fn push(&mut self, load: &mut Load) -> Result<()> {
        'full: loop {
            for partition in 0..self.partitions.len() {
                let Some(number) = self.partitions.get(partition).map(|p| p.sent) else {
                    break;
                };
                let value = self.value(number);
                let record: BaseRecord<'_, (), Vec<u8>, usize> =
                    BaseRecord::with_opaque_to(&self.topic, number)
                        .partition(i32::try_from(partition)?)
                        .payload(&value);
                match load.producer.send(record) {
                    Ok(()) => {}
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        break 'full;
                    }
                    Err((error, _)) => return Err(error.into()),
                }
                load.open += 1;
                if let Some(p) = self.partitions.get_mut(partition) {
                    p.sent += 1;
                }
            }
        }
        load.producer.poll(Duration::from_millis(1));
        self.settle(load, false)
    }

    /// Ends a load whose broker is gone: what is not yet acknowledged will not be.
    pub(crate) fn end(&mut self, mut load: Load) -> Result<usize> {
        eventually("every record sent is accounted for", PATIENCE, || {
            // What is in flight fails by itself when its connection breaks, after answers already
            // received have been read; only what was never sent is dropped.
            load.producer.purge(PurgeConfig::default().queue());
            load.producer.poll(Duration::from_millis(10));
            self.settle(&mut load, true)?;
            Ok((load.open == 0).then_some(()))
        })?;
        Ok(load.acked)
    }

    fn settle(&mut self, load: &mut Load, may_fail: bool) -> Result<()> {
        for delivery in load.deliveries.try_iter() {
            load.open -= 1;
            match delivery.offset {
                Ok(offset) => {
                    load.acked += 1;
                    let partition = self.partitions.get_mut(usize::try_from(delivery.partition)?);
                    let acked = &mut partition.ok_or_else(|| failure("no such partition"))?.acked;
                    let twice = acked.insert(offset, delivery.index);
                    ensure(twice.is_none(), || {
                        format!(
                            "{}-{}: {twice:?} and {} both acknowledged at {offset}",
                            self.topic, delivery.partition, delivery.index
                        )
                    })?;
                }
                Err(error) if !may_fail => {
                    return Err(failure(format!(
                        "{}: record {}: {error}",
                        self.topic, delivery.index
                    )));
                }
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// No watermark may go back.
    pub(crate) fn check_watermarks(&mut self, address: &str) -> Result<()> {
        let consumer = client::consumer(address)?;
        let high =
            client::high_watermarks(&consumer, &self.topic, i32::try_from(self.partitions.len())?)?;
        for (index, (partition, high)) in self.partitions.iter_mut().zip(high).enumerate() {
            let before = partition.high_watermark;
            ensure(high >= before, || {
                format!("{}-{index}: watermark back from {before} to {high}", self.topic)
            })?;
            partition.high_watermark = high;
        }
        Ok(())
    }

    /// Reads what was not read yet and checks all that is known. No producer may be at work.
    pub(crate) fn check(&mut self, address: &str) -> Result<()> {
        self.check_watermarks(address)?;
        let lengths = self.partitions.iter().map(|p| i64::try_from(p.found.len()));
        let starts = lengths.collect::<std::result::Result<Vec<_>, _>>()?;
        self.read(address, &starts)?;
        for (index, partition) in self.partitions.iter_mut().enumerate() {
            for (offset, number) in std::mem::take(&mut partition.acked) {
                let found = usize::try_from(offset).ok().and_then(|at| partition.found.get(at));
                ensure(found == Some(&number), || {
                    format!(
                        "{}-{index}: record {number}, acknowledged at {offset}, where {found:?} is",
                        self.topic
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Reads all again from the start: nothing that was found may have changed.
    pub(crate) fn check_again(&mut self, address: &str) -> Result<()> {
        let before: Vec<Vec<usize>> =
            self.partitions.iter_mut().map(|p| std::mem::take(&mut p.found)).collect();
        self.read(address, &vec![0; before.len()])?;
        for (index, (partition, before)) in self.partitions.iter().zip(before).enumerate() {
            ensure(partition.found == before, || {
                format!("{}-{index}: another log than before", self.topic)
            })?;
        }
        Ok(())
    }

    fn read(&mut self, address: &str, starts: &[i64]) -> Result<()> {
        for (index, log) in client::read_from(address, &self.topic, starts)?.into_iter().enumerate()
        {
            for stored in log {
                let text = String::from_utf8_lossy(&stored.value);
                let number = text.split(' ').next().unwrap_or("").parse::<usize>();
                let number =
                    number.context(|| format!("{}-{index}:{}", self.topic, stored.offset))?;
                let place =
                    || format!("{}-{index}:{} holds record {number}", self.topic, stored.offset);
                ensure(stored.value == self.value(number), || format!("{}, changed", place()))?;
                let partition =
                    self.partitions.get_mut(index).ok_or_else(|| failure("no such partition"))?;
                let last = partition.found.last().copied();
                ensure(last.is_none_or(|last| last < number), || {
                    format!("{} behind {last:?}", place())
                })?;
                ensure(number < partition.sent, || format!("{}, never sent", place()))?;
                partition.found.push(number);
            }
        }
        Ok(())
    }

    /// Records found so far.
    pub(crate) fn found(&self) -> usize {
        self.partitions.iter().map(|p| p.found.len()).sum()
    }
}
