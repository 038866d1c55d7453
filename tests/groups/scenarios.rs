//! Scenarios of groups as data: `data/groups/*.txt`, in virtual time.
//!
//! A line is a step. A client is a name; it keeps the member id and generation it was last told, and uses
//! them unless the step says otherwise.
//!
//! ```text
//! # comment
//! set delay=3000 min=6000 max=1800000 members=2 metadata=10 retention=600000 check=60000 batch=1000
//! A join                     session=10000 rebalance=60000 type=consumer protocols=range:m1,sticky:m2
//!                            instance=i id=x version=9
//! A sync assign=A:x,B:y      generation=1 id=x instance=i protocol=range type=consumer
//! A heartbeat                generation=1 id=x instance=i
//! A leave                    id=x instance=i
//! A commit t-0=5 t-1=6       generation=-1 id= metadata=m version=9 retention=1000
//! A fetch t-0 t-1            (or no partition: all)
//! A delete-offsets t-0
//! A delete | A list states=Stable types=classic
//! A: joined generation=1 leader=A members=A,B     an expected answer, in order of the client's requests
//! A: waits                                        there is no answer yet
//! wait 3000                  milliseconds
//! state Stable members=A,B   what DescribeGroups says
//! log group:1:A,B offset:t-0=5 tombstone:t-0 tombstone:group    what was written since the last look
//! restart gone=t | delete-topic t | unload
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use millstream::config::GroupSettings;
use millstream::coordinator::{Answer, Caller, Command, Response, State};
use millstream::protocol::group_records::GroupRecord;
use millstream::protocol::messages::heartbeat::HeartbeatRequest;
use millstream::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use millstream::protocol::messages::leave_group::MemberIdentity;
use millstream::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use millstream::protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use millstream::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use millstream::protocol::{ErrorCode, StrBytes};
use millstream::types::Uuid;

use crate::world::{self, World};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const GROUP: &str = "g";

struct Client {
    id: String,
    generation: i32,
    instance: Option<String>,
    /// Requests without an expected answer yet.
    asked: VecDeque<u64>,
}

impl Default for Client {
    fn default() -> Client {
        Client { id: String::new(), generation: -1, instance: None, asked: VecDeque::new() }
    }
}

struct Scenario {
    settings: GroupSettings,
    world: Option<World>,
    clients: BTreeMap<String, Client>,
    /// Who asked for each fresh member id.
    fresh: Vec<String>,
    logged: usize,
}

/// The words `key=value` of a step, and those that are none.
struct Words<'a> {
    named: BTreeMap<&'a str, &'a str>,
    plain: Vec<&'a str>,
}

fn words(line: &str) -> Words<'_> {
    let mut named = BTreeMap::new();
    let mut plain = Vec::new();
    for word in line.split_whitespace() {
        match word.split_once('=') {
            // A partition with its offset is not a setting.
            Some((key, value)) if !key.contains('-') => {
                named.insert(key, value);
            }
            _ => plain.push(word),
        }
    }
    Words { named, plain }
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from(text.into())
}

fn partition(word: &str) -> Result<(String, i32)> {
    let (topic, index) = word.rsplit_once('-').ok_or_else(|| format!("no partition: {word}"))?;
    Ok((topic.to_owned(), index.parse()?))
}

impl Scenario {
    fn new() -> Scenario {
        Scenario {
            settings: world::settings(),
            world: None,
            clients: BTreeMap::new(),
            fresh: Vec::new(),
            logged: 0,
        }
    }

    fn world(&mut self) -> &mut World {
        let settings = self.settings;
        self.world.get_or_insert_with(|| World::new(settings))
    }

    fn step(&mut self, line: &str) -> Result {
        let (head, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let words = words(rest);
        match head {
            "set" => return self.set(&words),
            "wait" => self.world().pass(rest.trim().parse()?),
            "state" => self.expect_state(&words)?,
            "log" => self.expect_log(rest)?,
            "restart" => {
                let gone: Vec<&str> = words.named.get("gone").copied().into_iter().collect();
                self.world().restart(&gone);
                self.clients.values_mut().for_each(|client| client.asked.clear());
            }
            "delete-topic" => self.world().delete_topic(rest.trim()),
            "unload" => self.world().unload(),
            client if client.ends_with(':') => {
                self.expect(client.trim_end_matches(':'), rest.trim())?;
            }
            client => self.ask(client, &words)?,
        }
        let faults = std::mem::take(&mut self.world().faults);
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
    }

    fn set(&mut self, words: &Words<'_>) -> Result {
        let millis = |text: &str| -> Result<Duration> { Ok(Duration::from_millis(text.parse()?)) };
        for (key, value) in &words.named {
            let settings = &mut self.settings;
            match *key {
                "delay" => settings.initial_rebalance_delay = millis(value)?,
                "min" => settings.session_timeout_ms_min = value.parse()?,
                "max" => settings.session_timeout_ms_max = value.parse()?,
                "members" => settings.members_max = value.parse()?,
                "metadata" => settings.offset_metadata_max = value.parse()?,
                "retention" => settings.offsets_retention_ms = value.parse()?,
                "check" => settings.offsets_retention_check = millis(value)?,
                "batch" => settings.batch_bytes_max = value.parse()?,
                other => return Err(format!("no such setting: {other}").into()),
            }
        }
        Ok(())
    }

    fn ask(&mut self, name: &str, words: &Words<'_>) -> Result {
        let (verb, arguments) = words.plain.split_first().ok_or("a client that asks nothing")?;
        let named = &words.named;
        let client = self.clients.entry(name.to_owned()).or_default();
        if *verb == "join" {
            client.instance = named.get("instance").map(|i| (*i).to_owned());
        }
        let instance = match named.get("instance") {
            Some(instance) => Some((*instance).to_owned()),
            None => client.instance.clone(),
        };
        let (known_id, generation) = (client.id.clone(), client.generation);
        let id = match named.get("id") {
            Some(other) => self.clients.get(*other).map_or(*other, |c| c.id.as_str()).to_owned(),
            None => known_id,
        };
        let number = |key: &str, default: i32| -> Result<i32> {
            Ok(named.get(key).map_or(Ok(default), |n| n.parse())?)
        };
        let generation = number("generation", generation)?;
        let version = i16::try_from(number("version", 9)?)?;
        let group_id = text(GROUP);
        let group_instance_id = instance.map(text);
        let member_id = text(id);
        let command = match *verb {
            "join" => {
                self.fresh.push(name.to_owned());
                let client_id = text(name);
                Command::Join {
                    caller: Caller { client_id, client_host: text("/127.0.0.1"), version },
                    request: JoinGroupRequest {
                        group_id,
                        session_timeout_ms: number("session", 10_000)?,
                        rebalance_timeout_ms: number("rebalance", 60_000)?,
                        member_id,
                        group_instance_id,
                        protocol_type: text(*named.get("type").unwrap_or(&"consumer")),
                        protocols: protocols(named.get("protocols").unwrap_or(&"range:m")),
                        reason: None,
                    },
                    fresh: Uuid::from_u128(u128::try_from(self.fresh.len())?),
                }
            }
            "sync" => Command::Sync(SyncGroupRequest {
                group_id,
                generation_id: generation,
                member_id,
                group_instance_id,
                protocol_type: named.get("type").map(|t| text(*t)),
                protocol_name: named.get("protocol").map(|p| text(*p)),
                assignments: self.assignments(named.get("assign").unwrap_or(&""))?,
            }),
            "heartbeat" => Command::Heartbeat(HeartbeatRequest {
                group_id,
                generation_id: generation,
                member_id,
                group_instance_id,
            }),
            "leave" => Command::Leave {
                group_id,
                members: vec![MemberIdentity { member_id, group_instance_id, reason: None }],
            },
            "commit" => Command::Commit {
                version,
                request: OffsetCommitRequest {
                    group_id,
                    generation_id_or_member_epoch: generation,
                    member_id,
                    group_instance_id,
                    retention_time_ms: i64::from(number("retention", -1)?),
                    topics: committed(arguments, named.get("metadata").unwrap_or(&""))?,
                },
            },
            "fetch" => Command::Fetch(OffsetFetchRequestGroup {
                group_id,
                topics: fetched(arguments)?,
                ..Default::default()
            }),
            "delete-offsets" => Command::DeleteOffsets(OffsetDeleteRequest {
                group_id,
                topics: deleted(arguments)?,
            }),
            "delete" => Command::Delete { group_id },
            "list" => Command::List {
                states: named.get("states").map(|s| text(*s)).into_iter().collect(),
                types: named.get("types").map(|t| text(*t)).into_iter().collect(),
            },
            other => return Err(format!("no such request: {other}").into()),
        };
        let waiter = self.world().ask(&command);
        self.clients.entry(name.to_owned()).or_default().asked.push_back(waiter);
        Ok(())
    }

    /// `A:x,B:y` by client.
    fn assignments(&self, list: &str) -> Result<Vec<SyncGroupRequestAssignment>> {
        let mut found = Vec::new();
        for pair in list.split(',').filter(|pair| !pair.is_empty()) {
            let (name, bytes) = pair.split_once(':').ok_or("an assignment is CLIENT:BYTES")?;
            let id = self.clients.get(name).map_or(name, |client| client.id.as_str());
            found.push(SyncGroupRequestAssignment {
                member_id: text(id),
                assignment: Bytes::copy_from_slice(bytes.as_bytes()),
            });
        }
        Ok(found)
    }

    /// The client that asked for a member id, for reading.
    fn name_of(&self, id: &str) -> String {
        let uuid = id.len().checked_sub(36).and_then(|at| id.get(at..));
        let number = uuid.and_then(|uuid| Uuid::parse_str(uuid).ok()).map(|uuid| uuid.as_u128());
        let index = number.and_then(|n| usize::try_from(n).ok()).and_then(|n| n.checked_sub(1));
        index.and_then(|index| self.fresh.get(index)).map_or_else(|| id.to_owned(), Clone::clone)
    }

    fn expect(&mut self, name: &str, expected: &str) -> Result {
        let client = self.clients.get_mut(name).ok_or("a client that asked nothing")?;
        let waiter = *client.asked.front().ok_or("a client that has all its answers")?;
        if self.world().is_waiting(waiter) {
            return equal("waits", expected);
        }
        let answer = self.world().answers.remove(&waiter).ok_or("an answer is lost")?;
        let client = self.clients.entry(name.to_owned()).or_default();
        client.asked.pop_front();
        if let Ok(Response::Join(joined)) = &answer {
            if matches!(joined.error_code, ErrorCode::None | ErrorCode::MemberIdRequired) {
                client.id = joined.member_id.to_string();
            }
            if joined.error_code == ErrorCode::None {
                client.generation = joined.generation_id;
            }
        }
        equal(&self.told(&answer), expected)
    }

    fn told(&self, answer: &Answer) -> String {
        match answer {
            Err(code) => format!("error {code:?}"),
            Ok(Response::Join(joined)) if joined.error_code != ErrorCode::None => {
                format!("error {:?}", joined.error_code)
            }
            Ok(Response::Join(joined)) => {
                let members: Vec<String> = joined
                    .members
                    .iter()
                    .map(|m| {
                        let metadata = String::from_utf8_lossy(&m.metadata).into_owned();
                        format!("{}:{metadata}", self.name_of(&m.member_id))
                    })
                    .collect();
                let mut told = format!(
                    "joined generation={} protocol={} leader={}",
                    joined.generation_id,
                    joined.protocol_name.as_deref().unwrap_or("none"),
                    self.name_of(&joined.leader)
                );
                if !members.is_empty() {
                    told += &format!(" members={}", members.join(","));
                }
                if joined.skip_assignment {
                    told += " skip";
                }
                told
            }
            Ok(Response::Sync(synced)) => {
                format!("assigned {}", String::from_utf8_lossy(&synced.assignment))
            }
            Ok(Response::Leave(left)) => {
                let codes: Vec<_> =
                    left.members.iter().map(|m| format!("{:?}", m.error_code)).collect();
                format!("left {}", codes.join(","))
            }
            Ok(Response::Commit(committed)) => {
                let topics = committed.topics.iter().flat_map(|t| {
                    t.partitions
                        .iter()
                        .map(|p| format!("{}-{}:{:?}", t.name, p.partition_index, p.error_code))
                });
                format!("committed {}", topics.collect::<Vec<_>>().join(" "))
            }
            Ok(Response::Fetch(fetched)) => {
                let offsets = fetched.topics.iter().flat_map(|t| {
                    t.partitions.iter().map(|p| {
                        let metadata = p.metadata.as_deref().unwrap_or("null");
                        let metadata = if metadata.is_empty() {
                            String::new()
                        } else {
                            format!("/{metadata}")
                        };
                        format!("{}-{}={}{metadata}", t.name, p.partition_index, p.committed_offset)
                    })
                });
                format!("offsets {}", offsets.collect::<Vec<_>>().join(" "))
            }
            Ok(Response::DeleteOffsets(deleted)) => {
                let topics = deleted.topics.iter().flat_map(|t| {
                    t.partitions
                        .iter()
                        .map(|p| format!("{}-{}:{:?}", t.name, p.partition_index, p.error_code))
                });
                format!("deleted {}", topics.collect::<Vec<_>>().join(" "))
            }
            Ok(Response::List(groups)) => {
                let groups: Vec<_> = groups
                    .iter()
                    .map(|g| format!("{}:{}:{}", g.group_id, g.group_state, g.protocol_type))
                    .collect();
                format!("groups {}", groups.join(" "))
            }
            Ok(Response::Describe(_) | Response::Heartbeat | Response::Delete) => "ok".to_owned(),
        }
    }

    fn expect_state(&mut self, words: &Words<'_>) -> Result {
        let described = self.world().describe(GROUP).ok_or("the group cannot be described")?;
        let mut told = described.group_state.to_string();
        if words.named.contains_key("members") {
            let members: Vec<String> =
                described.members.iter().map(|m| self.name_of(&m.member_id)).collect();
            told += &format!(" members={}", members.join(","));
        }
        let mut expected = words.plain.join(" ");
        if let Some(members) = words.named.get("members") {
            expected += &format!(" members={members}");
        }
        equal(&told, &expected)
    }

    fn expect_log(&mut self, expected: &str) -> Result {
        let logged = self.logged;
        let records: Vec<GroupRecord> = self.world().log.get(logged..).unwrap_or_default().to_vec();
        self.logged += records.len();
        let told: Vec<String> = records.iter().map(|record| self.record(record)).collect();
        equal(&told.join(" "), expected.trim())
    }

    fn record(&self, record: &GroupRecord) -> String {
        match record {
            GroupRecord::Offset(key, Some(value)) => {
                format!("offset:{}-{}={}", key.topic, key.partition, value.offset)
            }
            GroupRecord::Offset(key, None) => format!("tombstone:{}-{}", key.topic, key.partition),
            GroupRecord::Group(_, None) => "tombstone:group".to_owned(),
            GroupRecord::Group(_, Some(value)) => {
                let members: Vec<String> =
                    value.members.iter().map(|m| self.name_of(&m.member_id)).collect();
                format!("group:{}:{}", value.generation, members.join(","))
            }
        }
    }
}

fn equal(found: &str, expected: &str) -> Result {
    let (found, expected) = (found.trim(), expected.trim());
    if found == expected { Ok(()) } else { Err(format!("{found}, not {expected}").into()) }
}

/// `range:m1,sticky:m2`; a consumer's metadata is a subscription to the topics after the colon when it
/// begins with a `@`, as in `range:@t+u`.
fn protocols(list: &str) -> Vec<JoinGroupRequestProtocol> {
    list.split(',')
        .filter(|protocol| !protocol.is_empty())
        .map(|protocol| {
            let (name, metadata) = protocol.split_once(':').unwrap_or((protocol, ""));
            let metadata = match metadata.strip_prefix('@') {
                Some(topics) => subscription(topics),
                None => Bytes::copy_from_slice(metadata.as_bytes()),
            };
            JoinGroupRequestProtocol { name: text(name), metadata }
        })
        .collect()
}

fn subscription(topics: &str) -> Bytes {
    let topics: Vec<&str> = topics.split('+').collect();
    let mut bytes = vec![0, 1];
    bytes.extend(u32::try_from(topics.len()).unwrap_or(0).to_be_bytes());
    for topic in topics {
        bytes.extend(u16::try_from(topic.len()).unwrap_or(0).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.into()
}

fn committed(words: &[&str], metadata: &str) -> Result<Vec<OffsetCommitRequestTopic>> {
    let mut topics = Vec::new();
    for word in words {
        let (name, offset) = word.split_once('=').ok_or("a commit is TOPIC-PARTITION=OFFSET")?;
        let (topic, partition_index) = partition(name)?;
        topics.push(OffsetCommitRequestTopic {
            name: text(topic),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index,
                committed_offset: offset.parse()?,
                committed_metadata: Some(text(metadata)),
                ..Default::default()
            }],
            ..Default::default()
        });
    }
    Ok(topics)
}

fn fetched(words: &[&str]) -> Result<Option<Vec<OffsetFetchRequestTopics>>> {
    if words.is_empty() {
        return Ok(None);
    }
    let mut topics = Vec::new();
    for word in words {
        let (topic, index) = partition(word)?;
        topics.push(OffsetFetchRequestTopics {
            name: text(topic),
            partition_indexes: vec![index],
            ..Default::default()
        });
    }
    Ok(Some(topics))
}

fn deleted(words: &[&str]) -> Result<Vec<OffsetDeleteRequestTopic>> {
    let mut topics = Vec::new();
    for word in words {
        let (topic, partition_index) = partition(word)?;
        topics.push(OffsetDeleteRequestTopic {
            name: text(topic),
            partitions: vec![OffsetDeleteRequestPartition { partition_index }],
        });
    }
    Ok(topics)
}

/// Runs one file; the states its group went through.
fn run(path: &Path) -> Result<BTreeSet<(State, State)>> {
    let mut scenario = Scenario::new();
    let mut seen = BTreeSet::new();
    let mut title = String::new();
    for (number, line) in fs::read_to_string(path)?.lines().enumerate() {
        let line = line.trim();
        if let Some(heading) = line.strip_prefix("== ") {
            // Each heading begins anew.
            title = heading.to_owned();
            seen.extend(transitions(&mut scenario));
            scenario = Scenario::new();
        } else if !line.is_empty() && !line.starts_with('#') {
            scenario.step(line).map_err(|why| {
                format!("{}:{}: {title}: {line}\n  {why}", path.display(), number + 1)
            })?;
        }
    }
    seen.extend(transitions(&mut scenario));
    Ok(seen)
}

fn transitions(scenario: &mut Scenario) -> BTreeSet<(State, State)> {
    scenario.world().transitions.iter().map(|t| (t.from, t.to)).collect()
}

#[test]
fn every_scenario_and_every_transition() -> Result {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/groups");
    let mut paths: Vec<_> = fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().is_some_and(|n| n != "records.txt"))
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 4, "{paths:?}");
    let mut seen = BTreeSet::new();
    for path in paths {
        seen.extend(run(&path)?);
    }
    // Kafka's table has no way from Dead to anywhere, and a group is Dead but once.
    for from in State::ALL.into_iter().filter(|from| *from != State::Dead) {
        for to in State::ALL.into_iter().filter(|to| from.may_become(*to)) {
            assert!(seen.contains(&(from, to)), "no scenario shows {from} to {to}");
        }
    }
    Ok(())
}
