//! What a run is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::payload::Payload;
use super::schedule::Pace;
use crate::oracle::Depth;
use crate::state::State;
use crate::units::human_bytes;

/// How strong an acknowledgement is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Acks {
    /// None at all.
    #[value(name = "0")]
    None,
    /// Of the leader.
    #[value(name = "1")]
    Leader,
    /// Of all in-sync replicas; with Millstream, flushed.
    #[value(name = "all", alias = "-1")]
    All,
}

impl Acks {
    /// As Kafka's protocol has it.
    #[must_use]
    pub fn number(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// The producing side of a run.
#[derive(Clone, Debug)]
pub struct ProduceSpec {
    /// The topic, created if it does not exist.
    pub topic: String,
    /// Partitions of a topic that has to be created; as many as connections by default.
    pub partitions: Option<i32>,
    /// Connections; each is a producer of its own.
    pub connections: usize,
    /// Requests under way on each.
    pub in_flight: usize,
    /// What is sent; one batch goes in each request.
    pub payload: Payload,
    /// The acknowledgement asked for.
    pub acks: Acks,
    /// When it is sent.
    pub pace: Pace,
    /// Stop after that much.
    pub bytes: Option<u64>,
    /// Where to keep what was acknowledged, for a later `verify`.
    pub state: Option<PathBuf>,
}

impl ProduceSpec {
    /// The usual settings: as fast as the answers allow.
    #[must_use]
    pub fn new(topic: &str) -> ProduceSpec {
        ProduceSpec {
            topic: topic.to_owned(),
            partitions: None,
            connections: 16,
            in_flight: 4,
            payload: Payload::Filler { batch_bytes: 64 << 10, record_bytes: 1024 },
            acks: Acks::Leader,
            pace: Pace::Closed,
            bytes: None,
            state: None,
        }
    }
}

/// What to read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From the log's start to where it ended when the run began.
    Whole,
    /// From its end when the run began, on and on.
    Tail,
    /// From the log's start, and on and on.
    WholeThenTail,
    /// From the log's start to where it ended, again and again: what the broker has in memory, if the
    /// log is small enough.
    Repeat,
}

impl Range {
    /// Whether it goes on beyond the end, so that the broker is to wait for data.
    #[must_use]
    pub fn follows(self) -> bool {
        matches!(self, Range::Tail | Range::WholeThenTail)
    }
}

/// Consumers of a topic.
#[derive(Clone, Debug)]
pub struct FetchSpec {
    /// What the report calls them.
    pub name: String,
    /// The topic.
    pub topic: String,
    /// What to read.
    pub range: Range,
    /// How many times everything is read, each time independently.
    pub copies: usize,
    /// Connections of each copy.
    pub connections: usize,
    /// Readers on each connection, so requests under way; with [`Range::Repeat`] they read the same
    /// partitions independently if there are more of them than partitions.
    pub in_flight: usize,
    /// The most to ask for, of each partition.
    pub partition_bytes: usize,
    /// How long the broker may wait for data.
    pub wait: Duration,
    /// How closely to look.
    pub depth: Depth,
    /// Stop after that much.
    pub bytes: Option<u64>,
    /// What must be there, from a state file.
    pub acked: Option<State>,
}

impl FetchSpec {
    /// The usual settings.
    #[must_use]
    pub fn new(topic: &str, range: Range) -> FetchSpec {
        FetchSpec {
            name: "consumer".to_owned(),
            topic: topic.to_owned(),
            range,
            copies: 1,
            connections: 4,
            in_flight: 1,
            partition_bytes: 1 << 20,
            wait: Duration::from_millis(500),
            depth: Depth::Bytes,
            bytes: None,
            acked: None,
        }
    }
}

/// One run: producers, consumers, or both, on one thread.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the result is called.
    pub name: String,
    /// Any broker of the cluster.
    pub bootstrap: String,
    /// The producing side.
    pub produce: Option<ProduceSpec>,
    /// The consuming sides.
    pub fetch: Vec<FetchSpec>,
    /// Left out of the figures.
    pub warm_up: Duration,
    /// How long to measure; none ends with the bytes of a side.
    pub duration: Option<Duration>,
    /// The length of the parts that are counted by themselves.
    pub interval: Duration,
    /// The broker's process, to read what it uses.
    pub broker_pid: Option<u32>,
    /// The core for this thread.
    pub core: Option<usize>,
    /// Where the broker keeps its data, if that is known: the result names its filesystem.
    pub data_dir: Option<PathBuf>,
    /// What else the result should say it was told.
    pub settings: BTreeMap<String, String>,
    /// The command line that repeats the run.
    pub repeat: String,
}

impl Plan {
    /// A run of nothing yet.
    #[must_use]
    pub fn new(name: &str, bootstrap: &str) -> Plan {
        Plan {
            name: name.to_owned(),
            bootstrap: bootstrap.to_owned(),
            produce: None,
            fetch: Vec::new(),
            warm_up: Duration::ZERO,
            duration: None,
            interval: Duration::from_secs(1),
            broker_pid: None,
            core: None,
            data_dir: None,
            settings: BTreeMap::new(),
            repeat: String::new(),
        }
    }

    /// A run of a producing side alone.
    #[must_use]
    pub fn produce(bootstrap: &str, spec: ProduceSpec) -> Plan {
        Plan { produce: Some(spec), ..Plan::new("produce", bootstrap) }
    }

    /// A run of a consuming side alone.
    #[must_use]
    pub fn fetch(bootstrap: &str, spec: FetchSpec) -> Plan {
        Plan { fetch: vec![spec], ..Plan::new("fetch", bootstrap) }
    }

    pub(super) fn all_settings(&self) -> BTreeMap<String, String> {
        let mut all = self.settings.clone();
        let mut set = |key: &str, value: String| {
            all.entry(key.to_owned()).or_insert(value);
        };
        set("warm_up_s", self.warm_up.as_secs_f64().to_string());
        if let Some(duration) = self.duration {
            set("measured_s", duration.as_secs_f64().to_string());
        }
        if let Some(p) = &self.produce {
            set("produce.topic", p.topic.clone());
            set("produce.connections", p.connections.to_string());
            set("produce.in_flight", p.in_flight.to_string());
            set("produce.acks", p.acks.number().to_string());
            set("produce.pace", p.pace.to_string());
            set("produce.payload", p.payload.to_string());
        }
        for (i, f) in self.fetch.iter().enumerate() {
            set(
                &format!("fetch.{i}"),
                format!(
                    "{}: reads {} {}; {} times over, {} connections with {} in flight, at most {} of a partition, looks at {}",
                    f.name,
                    match f.range {
                        Range::Whole => "the whole of",
                        Range::Tail => "the tail of",
                        Range::WholeThenTail => "the whole and then the tail of",
                        Range::Repeat => "again and again the whole of",
                    },
                    f.topic,
                    f.copies,
                    f.connections,
                    f.in_flight,
                    human_bytes(f.partition_bytes as u64),
                    match f.depth {
                        Depth::Bytes => "every byte",
                        Depth::Framing => "borders and sequences",
                    }
                ),
            );
        }
        all
    }
}
