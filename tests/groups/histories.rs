//! Random histories of groups against invariants, and crowds, in virtual time.
//!
//! `MILLSTREAM_GROUP_SEED` replays one seed; `MILLSTREAM_GROUP_SEEDS` says how many are run.
//!
//! Members behave as clients do: they join, take the leader's part when it is theirs, heartbeat, commit,
//! go silent, come back, leave; requests are lost with their client. The broker restarts, and a deleted
//! group is gone. What must hold whatever happens is in `Model`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use millstream::coordinator::{Answer, Caller, Command, Response, State};
use millstream::protocol::group_records::GroupRecord;
use millstream::protocol::messages::heartbeat::HeartbeatRequest;
use millstream::protocol::messages::join_group::{
    JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse,
};
use millstream::protocol::messages::leave_group::MemberIdentity;
use millstream::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream::protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use millstream::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use millstream::protocol::{ErrorCode, StrBytes};
use millstream::types::Uuid;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::world::{self, World};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Partitions of the one topic that is consumed.
const PARTITIONS: i32 = 8;

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from(text.into())
}

/// What a member is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is to join, or to join again.
    Join,
    Joining,
    Syncing,
    Member,
}

/// A client.
#[derive(Clone, Debug)]
struct Client {
    name: String,
    group: String,
    instance: Option<String>,
    session_ms: i32,
    version: i16,
    /// Not running: it asks nothing, and hears no answer.
    away: bool,
    step: Step,
    waiter: Option<u64>,
    id: String,
    generation: i32,
    owned: BTreeSet<i32>,
    heartbeat_due: u64,
}

/// What has been promised.
#[derive(Default)]
struct Model {
    /// By group: the newest generation anybody was told of since the last restart.
    newest: BTreeMap<String, i32>,
    /// By group: the newest generation whose assignment is in the log.
    assigned: BTreeMap<String, i32>,
    /// By group and generation: who owns what. Begun anew where a restart takes a generation back.
    owners: BTreeMap<(String, i32), BTreeMap<i32, String>>,
    /// By group and generation: the members the leader was told of.
    members: BTreeMap<(String, i32), BTreeSet<String>>,
    committed: BTreeMap<(String, i32), i64>,
    next_offset: i64,
    /// What happened, for comparing two runs.
    trace: Vec<String>,
    commits: usize,
    generations: usize,
}

impl Model {
    /// The group is deleted, or had nothing left: the next of that name counts from the beginning.
    fn forget(&mut self, group: &str) {
        self.committed.retain(|(of, _), _| of != group);
        self.newest.remove(group);
        self.assigned.remove(group);
        self.owners.retain(|(of, _), _| of != group);
        self.members.retain(|(of, _), _| of != group);
    }
}

struct History {
    world: World,
    rng: StdRng,
    clients: Vec<Client>,
    model: Model,
    read_of_log: usize,
}

/// Says what is wrong and when.
macro_rules! must {
    ($self:ident, $condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(format!("at {} ms: {}", $self.world.now_ms, format!($($why)*)).into());
        }
    };
}

impl History {
    fn new(seed: u64) -> History {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut settings = world::settings();
        settings.initial_rebalance_delay = Duration::from_millis(rng.random_range(0..4_000));
        if rng.random_bool(0.3) {
            settings.members_max = rng.random_range(2..6);
        }
        settings.offsets_retention_check = Duration::from_secs(20);
        let groups = rng.random_range(1..4);
        let clients = (0..rng.random_range(2..14))
            .map(|n| Client {
                name: format!("c{n}"),
                group: format!("g{}", n % groups),
                instance: rng.random_bool(0.3).then(|| format!("i{n}")),
                session_ms: rng.random_range(6_000..20_000),
                version: rng.random_range(0..=9),
                away: false,
                step: Step::Join,
                waiter: None,
                id: String::new(),
                generation: -1,
                owned: BTreeSet::new(),
                heartbeat_due: 0,
            })
            .map(|mut client| {
                if client.instance.is_some() {
                    client.version = client.version.max(5);
                }
                client
            })
            .collect();
        let (model, world) = (Model::default(), World::new(settings));
        History { world, rng, clients, model, read_of_log: 0 }
    }

    fn run(&mut self, steps: usize) -> Result {
        for _ in 0..steps {
            let wait = match self.rng.random_range(0..10) {
                0 => self.rng.random_range(0..12_000),
                1..4 => self.rng.random_range(0..1_000),
                _ => self.rng.random_range(0..50),
            };
            self.pass(wait)?;
            match self.rng.random_range(0..1_000) {
                0..3 => self.restart()?,
                3..6 => self.delete_group(),
                6..30 => self.disturb(),
                _ => {}
            }
            for index in 0..self.clients.len() {
                if self.rng.random_bool(0.6) {
                    self.act(index)?;
                    self.hear()?;
                }
            }
            must!(self, self.world.faults.is_empty(), "{}", self.world.faults.join("; "));
        }
        self.check_offsets()?;
        self.world.unload();
        must!(self, self.world.waiting() == 0, "{} still wait", self.world.waiting());
        must!(self, self.world.faults.is_empty(), "{}", self.world.faults.join("; "));
        Ok(())
    }

    /// Lets time pass. Answers are heard soon after they are sent: much later their group may have ended
    /// and begun anew, and what they tell would be of another.
    fn pass(&mut self, ms: u64) -> Result {
        let mut left = ms;
        loop {
            let step = left.min(500);
            self.world.pass(step);
            self.hear()?;
            left -= step;
            if left == 0 {
                return Ok(());
            }
        }
    }

    fn restart(&mut self) -> Result {
        self.model.trace.push(format!("{} restart", self.world.now_ms));
        self.world.restart(&[]);
        for client in &mut self.clients {
            if client.waiter.take().is_some() {
                client.step = Step::Join;
            }
        }
        // A generation that was not assigned yet is given out again.
        self.model.newest = self.model.assigned.clone();
        let assigned = &self.model.assigned;
        let known = |group: &String, generation: i32| {
            assigned.get(group).is_some_and(|newest| generation <= *newest)
        };
        self.model.owners.retain(|(group, generation), _| known(group, *generation));
        self.model.members.retain(|(group, generation), _| known(group, *generation));
        self.check_offsets()
    }

    fn delete_group(&mut self) {
        let group = format!("g{}", self.rng.random_range(0..3));
        let command = Command::Delete { group_id: text(group.clone()) };
        self.world.ask(&command);
    }

    /// A client goes away with all it knows, or comes back.
    fn disturb(&mut self) {
        let index = self.rng.random_range(0..self.clients.len());
        let Some(client) = self.clients.get_mut(index) else { return };
        client.away = !client.away;
        client.waiter = None;
        client.step = Step::Join;
        client.owned.clear();
        if !client.away && self.rng.random_bool(0.7) {
            // A process that was started again; otherwise one that was only slow.
            client.id.clear();
            client.generation = -1;
        }
    }

    fn act(&mut self, index: usize) -> Result {
        let now = self.world.now_ms;
        let Some(client) = self.clients.get(index).cloned() else { return Ok(()) };
        if client.away || client.waiter.is_some() {
            return Ok(());
        }
        match client.step {
            Step::Join => {
                self.join(index);
                Ok(())
            }
            Step::Member if now >= client.heartbeat_due => self.heartbeat(index),
            Step::Member => match self.rng.random_range(0..20) {
                0 => self.leave(index),
                1 => {
                    // As a client whose subscription or metadata has changed.
                    self.join(index);
                    Ok(())
                }
                2..10 => self.commit(index),
                _ => Ok(()),
            },
            Step::Joining | Step::Syncing => Ok(()),
        }
    }

    fn join(&mut self, index: usize) {
        let version = self.rng.random_range(0..3);
        let fresh = Uuid::from_u128(self.rng.random());
        let Some(client) = self.clients.get_mut(index) else { return };
        let metadata = Bytes::from(format!("m{version}"));
        let protocol =
            |name: &str| JoinGroupRequestProtocol { name: text(name), metadata: metadata.clone() };
        let command = Command::Join {
            caller: Caller {
                client_id: text(client.name.clone()),
                client_host: text("/127.0.0.1"),
                version: client.version,
            },
            request: JoinGroupRequest {
                group_id: text(client.group.clone()),
                session_timeout_ms: client.session_ms,
                rebalance_timeout_ms: 15_000,
                member_id: text(client.id.clone()),
                group_instance_id: client.instance.clone().map(text),
                protocol_type: text("consumer"),
                protocols: vec![protocol("range"), protocol("sticky")],
                reason: None,
            },
            fresh,
        };
        let waiter = self.world.ask(&command);
        if let Some(client) = self.clients.get_mut(index) {
            client.step = Step::Joining;
            client.waiter = Some(waiter);
        }
    }

    fn heartbeat(&mut self, index: usize) -> Result {
        let now = self.world.now_ms;
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        client.heartbeat_due = now + u64::try_from(client.session_ms)? / 4;
        let client = client.clone();
        let answer = self.world.answer_to(&Command::Heartbeat(HeartbeatRequest {
            group_id: text(client.group.clone()),
            generation_id: client.generation,
            member_id: text(client.id.clone()),
            group_instance_id: client.instance.clone().map(text),
        }));
        match answer {
            Some(Ok(_)) => {
                let newest = self.model.newest.get(&client.group).copied();
                must!(
                    self,
                    newest == Some(client.generation),
                    "{} of generation {} is alive in {newest:?}",
                    client.name,
                    client.generation
                );
                Ok(())
            }
            Some(Err(code)) => self.refused(index, code),
            None => Err("a heartbeat waits".into()),
        }
    }

    fn refused(&mut self, index: usize, code: ErrorCode) -> Result {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        client.step = Step::Join;
        match code {
            ErrorCode::RebalanceInProgress => {}
            ErrorCode::FencedInstanceId => {
                // Another process has taken its place: this one ends.
                client.away = true;
                client.id.clear();
                client.owned.clear();
            }
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => {
                client.id.clear();
                client.generation = -1;
                client.owned.clear();
            }
            ErrorCode::GroupMaxSizeReached => {
                client.id.clear();
                client.away = self.rng.random_bool(0.5);
            }
            other => return Err(format!("{}: {other:?}", client.name).into()),
        }
        Ok(())
    }

    fn leave(&mut self, index: usize) -> Result {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        let member = MemberIdentity {
            member_id: text(client.id.clone()),
            group_instance_id: client.instance.clone().map(text),
            reason: Some(text("done")),
        };
        let command =
            Command::Leave { group_id: text(client.group.clone()), members: vec![member] };
        client.id.clear();
        client.generation = -1;
        client.owned.clear();
        client.step = Step::Join;
        client.away = self.rng.random_bool(0.3);
        self.world.ask(&command);
        Ok(())
    }

    fn commit(&mut self, index: usize) -> Result {
        let Some(client) = self.clients.get(index).cloned() else { return Ok(()) };
        let Some(partition_index) = client.owned.iter().next().copied() else { return Ok(()) };
        self.model.next_offset += 1;
        let offset = self.model.next_offset;
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_offset: offset,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: text("t"),
            partitions: vec![partition],
            ..Default::default()
        };
        let answer = self.world.answer_to(&Command::Commit {
            version: 9,
            request: OffsetCommitRequest {
                group_id: text(client.group.clone()),
                generation_id_or_member_epoch: client.generation,
                member_id: text(client.id.clone()),
                group_instance_id: client.instance.clone().map(text),
                topics: vec![topic],
                ..Default::default()
            },
        });
        match answer {
            Some(Ok(Response::Commit(_))) => {
                self.model.commits += 1;
                let newest = self.model.newest.get(&client.group).copied();
                must!(
                    self,
                    newest == Some(client.generation),
                    "{} of generation {} commits in {newest:?}",
                    client.name,
                    client.generation
                );
                let key = (client.group.clone(), client.generation);
                let owner = self.model.owners.get(&key).and_then(|o| o.get(&partition_index));
                must!(
                    self,
                    owner == Some(&client.id),
                    "{} commits partition {partition_index} of {owner:?}",
                    client.id
                );
                self.model.committed.insert((client.group, partition_index), offset);
                Ok(())
            }
            Some(Err(ErrorCode::GroupIdNotFound)) => {
                self.refused(index, ErrorCode::UnknownMemberId)
            }
            Some(Err(code)) => self.refused(index, code),
            other => Err(format!("a commit is answered {other:?}").into()),
        }
    }

    /// Hands out the answers that have come.
    fn hear(&mut self) -> Result {
        for index in 0..self.clients.len() {
            loop {
                let waiter = self.clients.get(index).and_then(|client| client.waiter);
                let Some(answer) = waiter.and_then(|w| self.world.answers.remove(&w)) else {
                    break;
                };
                if let Some(client) = self.clients.get_mut(index) {
                    client.waiter = None;
                }
                self.check_log()?;
                self.take(index, answer)?;
            }
        }
        self.check_log()
    }

    fn take(&mut self, index: usize, answer: Answer) -> Result {
        let now = self.world.now_ms;
        if let Some(client) = self.clients.get(index) {
            self.model.trace.push(format!("{now} {} {answer:?}", client.name));
        }
        match answer {
            Err(code) => self.refused(index, code),
            Ok(Response::Join(joined)) => match joined.error_code {
                ErrorCode::None => self.joined(index, joined),
                ErrorCode::MemberIdRequired => {
                    if let Some(client) = self.clients.get_mut(index) {
                        client.id = joined.member_id.to_string();
                        client.step = Step::Join;
                    }
                    Ok(())
                }
                code => self.refused(index, code),
            },
            Ok(Response::Sync(synced)) => self.assigned(index, &synced.assignment),
            Ok(other) => Err(format!("an answer nobody asked for: {other:?}").into()),
        }
    }

    fn joined(&mut self, index: usize, joined: JoinGroupResponse) -> Result {
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        client.id = joined.member_id.to_string();
        client.generation = joined.generation_id;
        client.owned.clear();
        let client = client.clone();
        let newest = self.model.newest.entry(client.group.clone()).or_insert(0);
        let before = *newest;
        must!(
            self,
            joined.generation_id >= before || !self.is_current(&client),
            "{}: generation {} after {before}",
            client.group,
            joined.generation_id
        );
        if joined.generation_id > before {
            self.model.generations += 1;
            self.model.newest.insert(client.group.clone(), joined.generation_id);
        }
        let mut assignments = Vec::new();
        if joined.leader == joined.member_id && !joined.skip_assignment {
            let ids: BTreeSet<String> =
                joined.members.iter().map(|m| m.member_id.to_string()).collect();
            must!(self, ids.contains(&client.id), "the leader is none of {ids:?}");
            let key = (client.group.clone(), client.generation);
            if let Some(told) = self.model.members.get(&key) {
                must!(self, *told == ids, "generation {key:?} has members {told:?} and {ids:?}");
            }
            self.model.members.insert(key, ids.clone());
            assignments = assign(&mut self.rng, &ids);
        }
        let waiter = self.world.ask(&Command::Sync(SyncGroupRequest {
            group_id: text(client.group),
            generation_id: client.generation,
            member_id: text(client.id),
            group_instance_id: client.instance.map(text),
            protocol_type: None,
            protocol_name: None,
            assignments,
        }));
        if let Some(client) = self.clients.get_mut(index) {
            client.step = Step::Syncing;
            client.waiter = Some(waiter);
        }
        Ok(())
    }

    /// Whether the answer is of now: one that was sent before a later rebalance may arrive after it.
    fn is_current(&self, client: &Client) -> bool {
        client.waiter.is_none() && self.world.waiting() == 0
    }

    fn assigned(&mut self, index: usize, assignment: &Bytes) -> Result {
        let now = self.world.now_ms;
        let Some(client) = self.clients.get_mut(index) else { return Ok(()) };
        client.owned = std::str::from_utf8(assignment)?
            .split(',')
            .filter(|p| !p.is_empty())
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        client.step = Step::Member;
        client.heartbeat_due = now + u64::try_from(client.session_ms)? / 4;
        Ok(())
    }

    /// What the log says of generations: they only rise, and no partition has two owners.
    fn check_log(&mut self) -> Result {
        let records: Vec<GroupRecord> =
            self.world.log.get(self.read_of_log..).unwrap_or_default().to_vec();
        self.read_of_log += records.len();
        for record in records {
            match record {
                GroupRecord::Group(key, Some(value)) if !value.members.is_empty() => {
                    let group = key.group.to_string();
                    let newest = self.model.assigned.entry(group.clone()).or_insert(0);
                    let before = *newest;
                    must!(
                        self,
                        value.generation >= before,
                        "{group}: generation {} in the log after {before}",
                        value.generation
                    );
                    *newest = value.generation;
                    let mut owners: BTreeMap<i32, String> = BTreeMap::new();
                    for member in &value.members {
                        let parts = std::str::from_utf8(&member.assignment)?;
                        for part in parts.split(',').filter(|p| !p.is_empty()) {
                            let other = owners.insert(part.parse()?, member.member_id.to_string());
                            must!(self, other.is_none(), "{group}: {part} of two: {other:?}");
                        }
                    }
                    self.model.owners.insert((group, value.generation), owners);
                }
                GroupRecord::Group(key, Some(value)) => {
                    let group = key.group.to_string();
                    self.model.assigned.insert(group, value.generation);
                }
                GroupRecord::Group(key, None) => self.model.forget(&key.group),
                GroupRecord::Offset(..) => {}
            }
        }
        Ok(())
    }

    /// No acknowledged commit is lost.
    fn check_offsets(&mut self) -> Result {
        for group in ["g0", "g1", "g2"] {
            let request = OffsetFetchRequestGroup {
                group_id: text(group),
                topics: None,
                ..Default::default()
            };
            let answer = self.world.answer_to(&Command::Fetch(request));
            let Some(Ok(Response::Fetch(fetched))) = answer else {
                return Err(format!("a fetch is answered {answer:?}").into());
            };
            let found: BTreeMap<i32, i64> = fetched
                .topics
                .iter()
                .flat_map(|t| t.partitions.iter().map(|p| (p.partition_index, p.committed_offset)))
                .collect();
            let expected: BTreeMap<i32, i64> = self
                .model
                .committed
                .iter()
                .filter(|((of, _), _)| of == group)
                .map(|((_, partition), offset)| (*partition, *offset))
                .collect();
            must!(self, found == expected, "{group}: {found:?} is committed, not {expected:?}");
        }
        Ok(())
    }
}

/// Every partition to one of the members, at random.
fn assign(rng: &mut StdRng, ids: &BTreeSet<String>) -> Vec<SyncGroupRequestAssignment> {
    let ids: Vec<&String> = ids.iter().collect();
    let mut parts: BTreeMap<&String, Vec<String>> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        if let Some(id) = ids.get(rng.random_range(0..ids.len().max(1))) {
            parts.entry(id).or_default().push(partition.to_string());
        }
    }
    parts
        .into_iter()
        .map(|(id, parts)| SyncGroupRequestAssignment {
            member_id: text(id.clone()),
            assignment: Bytes::from(parts.join(",")),
        })
        .collect()
}

fn number(name: &str) -> Result<Option<u64>> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text.parse()?)),
        Err(_) => Ok(None),
    }
}

#[test]
fn random_histories_keep_the_invariants() -> Result {
    let seeds: Vec<u64> = match number("MILLSTREAM_GROUP_SEED")? {
        Some(seed) => vec![seed],
        None => (0..number("MILLSTREAM_GROUP_SEEDS")?.unwrap_or(150)).collect(),
    };
    let (mut commits, mut generations) = (0, 0);
    for seed in seeds {
        let mut history = History::new(seed);
        history.run(600).map_err(|why| {
            let last = history.model.trace.len().saturating_sub(30);
            let last = history.model.trace.get(last..).unwrap_or_default().join("\n");
            format!("MILLSTREAM_GROUP_SEED={seed}: {why}; what came before:\n{last}")
        })?;
        commits += history.model.commits;
        generations += history.model.generations;
    }
    eprintln!("{commits} commits accepted, {generations} generations");
    assert!(commits > 100 && generations > 10, "{commits} commits, {generations} generations");
    Ok(())
}

#[test]
fn the_same_seed_twice_is_the_same_history() -> Result {
    let run = |seed| -> Result<Vec<String>> {
        let mut history = History::new(seed);
        history.run(400)?;
        Ok(history.model.trace)
    };
    for seed in [3, 1_000_003] {
        let first = run(seed)?;
        assert!(!first.is_empty());
        assert_eq!(first, run(seed)?);
    }
    Ok(())
}

/// A thousand members that join and leave every 100 ms for 30 s, beside a group that does nothing else
/// than send its heartbeats: that group is never disturbed, no generation of the crowd is told two ways,
/// and what the machine holds is bounded by who is there.
#[test]
fn a_crowd_of_a_thousand_disturbs_nobody() -> Result {
    const CROWD: usize = 1_000;
    const ROUNDS: u64 = 300;
    let mut rng = StdRng::seed_from_u64(7);
    let mut world = World::new(world::settings());
    let mut bystanders = Vec::new();
    for n in 0..3 {
        bystanders.push(join(&mut world, "bystander", &format!("b{n}"), "", n));
    }
    world.pass(6_000);
    let mut ids = Vec::new();
    for waiter in &bystanders {
        let joined = take_join(&mut world, *waiter).ok_or("a bystander waits to join")?;
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::None, 1));
        ids.push(joined.member_id);
    }
    for id in ids.iter().rev() {
        // The last of these is the leader's.
        world.ask(&sync("bystander", id, 1, Vec::new()));
    }
    assert_eq!(world.state("bystander"), Some(State::Stable));

    let mut crowd: Vec<Option<(StrBytes, i32)>> = vec![None; CROWD];
    let mut joining: BTreeMap<u64, usize> = BTreeMap::new();
    let mut told: BTreeMap<i32, BTreeSet<StrBytes>> = BTreeMap::new();
    let mut seen: BTreeMap<i32, BTreeSet<StrBytes>> = BTreeMap::new();
    let (mut fresh, mut newest, mut joins) = (100_u128, 0, 0_usize);
    for round in 0..ROUNDS {
        world.pass(100);
        if round % 20 == 0 {
            for id in &ids {
                let beat = heartbeat("bystander", id, 1);
                assert_eq!(world.answer_to(&beat), Some(Ok(Response::Heartbeat)), "{round}");
            }
        }
        // Half of them turn up or go, in another order each time.
        for _ in 0..CROWD / 2 {
            let index = rng.random_range(0..CROWD);
            match crowd.get(index).cloned().flatten() {
                Some((id, _)) => {
                    let members = vec![MemberIdentity { member_id: id, ..Default::default() }];
                    world.ask(&Command::Leave { group_id: text("crowd"), members });
                    if let Some(place) = crowd.get_mut(index) {
                        *place = None;
                    }
                }
                None if joining.values().any(|i| *i == index) => {}
                None => {
                    fresh += 1;
                    joins += 1;
                    joining.insert(join(&mut world, "crowd", "c", "", fresh), index);
                }
            }
        }
        // Those that are in a generation learn of the next by their heartbeats, some of them late.
        for (index, place) in crowd.iter_mut().enumerate() {
            let Some((id, generation)) = place.clone() else { continue };
            if rng.random_bool(0.5) {
                match world.answer_to(&heartbeat("crowd", &id, generation)) {
                    Some(Ok(_)) => {}
                    Some(Err(ErrorCode::RebalanceInProgress)) => {
                        joining.insert(join(&mut world, "crowd", "c", &id, 0), index);
                        *place = None;
                    }
                    Some(Err(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration)) => {
                        *place = None;
                    }
                    other => return Err(format!("round {round}: {other:?}").into()),
                }
            }
        }
        let waiting: Vec<(u64, usize)> = joining.iter().map(|(w, i)| (*w, *i)).collect();
        let mut leader = None;
        for (waiter, index) in waiting {
            let Some(joined) = take_join(&mut world, waiter) else { continue };
            joining.remove(&waiter);
            if joined.error_code != ErrorCode::None {
                continue;
            }
            let generation = joined.generation_id;
            assert!(generation >= newest, "generation {generation} after {newest}");
            newest = generation;
            seen.entry(generation).or_default().insert(joined.member_id.clone());
            if joined.leader == joined.member_id {
                let members: BTreeSet<StrBytes> =
                    joined.members.iter().map(|m| m.member_id.clone()).collect();
                let before = told.insert(generation, members.clone());
                assert!(before.is_none_or(|b| b == members), "generation {generation} told twice");
                leader = Some((joined.member_id.clone(), generation));
            } else {
                world.ask(&sync("crowd", &joined.member_id, generation, Vec::new()));
            }
            if let Some(place) = crowd.get_mut(index) {
                *place = Some((joined.member_id, generation));
            }
        }
        if let Some((id, generation)) = leader {
            world.ask(&sync("crowd", &id, generation, Vec::new()));
        }
        // Sessions, joins, syncs, retention: no more than one deadline for each member, and a few.
        let bound = 2 * CROWD + joining.len() + 16;
        assert!(world.deadlines() <= bound, "{} deadlines", world.deadlines());
        assert!(world.waiting() <= 2 * CROWD + 16, "{} wait", world.waiting());
        world.answers.clear();
        assert!(world.faults.is_empty(), "{:?}", world.faults);
    }
    for (generation, members) in &seen {
        let of = told.get(generation);
        assert!(of.is_none_or(|all| members.is_subset(all)), "generation {generation}");
    }
    assert!(newest > 1 && joins > CROWD, "{newest} generations, {joins} joins");
    assert_eq!(world.state("bystander"), Some(State::Stable));
    let described = world.describe("bystander").ok_or("the bystanders are gone")?;
    assert_eq!(described.members.len(), 3);
    eprintln!("{newest} generations, {joins} joins");
    Ok(())
}

fn join(world: &mut World, group: &str, client: &str, id: &str, fresh: u128) -> u64 {
    let protocol =
        JoinGroupRequestProtocol { name: text("range"), metadata: Bytes::from_static(b"m") };
    world.ask(&Command::Join {
        caller: Caller { client_id: text(client), client_host: text("/127.0.0.1"), version: 3 },
        request: JoinGroupRequest {
            group_id: text(group),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id: text(id),
            protocol_type: text("consumer"),
            protocols: vec![protocol],
            ..Default::default()
        },
        fresh: Uuid::from_u128(fresh),
    })
}

fn take_join(world: &mut World, waiter: u64) -> Option<JoinGroupResponse> {
    match world.answers.remove(&waiter) {
        Some(Ok(Response::Join(joined))) => Some(joined),
        _ => None,
    }
}

fn sync(
    group: &str,
    id: &StrBytes,
    generation: i32,
    assignments: Vec<SyncGroupRequestAssignment>,
) -> Command {
    Command::Sync(SyncGroupRequest {
        group_id: text(group),
        generation_id: generation,
        member_id: id.clone(),
        assignments,
        ..Default::default()
    })
}

fn heartbeat(group: &str, id: &StrBytes, generation: i32) -> Command {
    Command::Heartbeat(HeartbeatRequest {
        group_id: text(group),
        generation_id: generation,
        member_id: id.clone(),
        group_instance_id: None,
    })
}
