//! Groups and their offsets, as a machine that is replayed from `__consumer_offsets`.
//!
//! Shard: one [`GroupMachine`] per partition of `__consumer_offsets`, on the shard that owns the
//! partition; its driver is there. No I/O, no clock, no randomness: commands come with `now`, and effects
//! are an [`Outcome`].
//!
//! Invariants:
//!
//! - [`GroupMachine::replay`] is the only writer of what a restart brings back: offsets, and of groups the
//!   assignment. A group's membership runs ahead of it, as in Kafka, and is lost by a crash.
//! - Whoever calls appends an outcome's records and replays them before the next call, so every decision
//!   sees all that is appended; replies that tell of records go when these are durable.
//! - A group's generation never goes back; a member of another generation, or whose instance id another
//!   member has taken, changes nothing.
//! - A waiter is answered exactly once.
//!
//! Units: timeouts are milliseconds as in the protocol, deadlines [`Monotonic`], commit times
//! [`Timestamp`]. It does not know: topics and their partitions (who calls has checked them), other
//! shards, what the assignment of an opaque protocol means. `docs/coordinators.md` has the tables.

mod admin;
mod group;
mod join;
mod leave;
mod member;
mod offsets;
mod sync;
mod timers;
mod turn;

use std::collections::BTreeMap;

use self::group::Group;
pub use self::group::State;
use self::join::Joining;
use self::member::owned;
use self::offsets::Offsets;
use self::timers::{Timer, Timers};
use self::turn::{Turn, refused_join};
use crate::config::GroupSettings;
use crate::limits::{GROUP_TEXT_LEN_MAX, GROUPS_PER_PARTITION_MAX};
use crate::protocol::group_records::{GroupMetadataKey, GroupMetadataValue, GroupRecord};
use crate::protocol::messages::describe_groups::DescribedGroup;
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::protocol::messages::leave_group::{LeaveGroupResponse, MemberIdentity};
use crate::protocol::messages::list_groups::ListedGroup;
use crate::protocol::messages::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
use crate::protocol::messages::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::protocol::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchResponseGroup};
use crate::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::protocol::{ErrorCode, StrBytes};
use crate::record::BatchBuilder;
use crate::time::{Monotonic, Timestamp};
use crate::types::Uuid;

/// The topic that holds offsets and groups.
pub const TOPIC: &str = "__consumer_offsets";

/// The partition of [`TOPIC`] that a group is in: Java's hash of the group id, as every Kafka broker and
/// some clients compute it.
#[must_use]
pub fn partition_of(group: &str, partitions: i32) -> i32 {
    let hash = group
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's Utils.abs: the least number has no positive counterpart.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

/// The two clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// For deadlines.
    pub monotonic: Monotonic,
    /// For commit times and retention.
    pub timestamp: Timestamp,
}

/// Who waits for an answer, as the driver numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The client's name for itself.
    pub client_id: StrBytes,
    /// The client's address, in Kafka's form with a slash before it.
    pub client_host: StrBytes,
    /// The version of the request, for the rules that depend on it.
    pub version: i16,
}

/// What a client asks of a group's coordinator.
#[derive(Clone, Debug)]
pub enum Command {
    /// JoinGroup.
    Join {
        /// Who asks.
        caller: Caller,
        /// The request.
        request: JoinGroupRequest,
        /// Makes the id of a new member; random.
        fresh: Uuid,
    },
    /// SyncGroup.
    Sync(SyncGroupRequest),
    /// Heartbeat.
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup, in the form of its newer versions.
    Leave {
        /// The group.
        group_id: StrBytes,
        /// Who leaves.
        members: Vec<MemberIdentity>,
    },
    /// OffsetCommit for partitions that exist, with the names of their topics.
    Commit {
        /// The request's version.
        version: i16,
        /// The request.
        request: OffsetCommitRequest,
    },
    /// OffsetFetch for one group, with the names of the topics.
    Fetch(OffsetFetchRequestGroup),
    /// OffsetDelete for partitions that exist.
    DeleteOffsets(OffsetDeleteRequest),
    /// DescribeGroups for one group.
    Describe {
        /// The request's version.
        version: i16,
        /// The group.
        group_id: StrBytes,
    },
    /// ListGroups.
    List {
        /// Only groups in these states; all if empty.
        states: Vec<StrBytes>,
        /// Only groups of these types; all if empty.
        types: Vec<StrBytes>,
    },
    /// DeleteGroups for one group.
    Delete {
        /// The group.
        group_id: StrBytes,
    },
}

/// What answers a [`Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To [`Command::Join`], also when it is refused.
    Join(JoinGroupResponse),
    /// To [`Command::Sync`].
    Sync(SyncGroupResponse),
    /// To [`Command::Heartbeat`].
    Heartbeat,
    /// To [`Command::Leave`].
    Leave(LeaveGroupResponse),
    /// To [`Command::Commit`].
    Commit(OffsetCommitResponse),
    /// To [`Command::Fetch`].
    Fetch(OffsetFetchResponseGroup),
    /// To [`Command::DeleteOffsets`].
    DeleteOffsets(OffsetDeleteResponse),
    /// To [`Command::Describe`].
    Describe(DescribedGroup),
    /// To [`Command::List`].
    List(Vec<ListedGroup>),
    /// To [`Command::Delete`].
    Delete,
}

/// An answer, or why there is none.
pub type Answer = Result<Response, ErrorCode>;

/// An answer on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// To whom.
    pub waiter: Waiter,
    /// What.
    pub answer: Answer,
    /// Whether it waits until all that is appended so far is durable.
    pub when_durable: bool,
}

/// What comes of a command or a deadline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// To be appended, in order, and replayed.
    pub records: Vec<GroupRecord>,
    /// To be sent.
    pub replies: Vec<Reply>,
    /// What groups went through; that to Stable comes with the replay.
    pub transitions: Vec<Transition>,
}

/// A group's change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The group.
    pub group: StrBytes,
    /// The state it was in.
    pub from: State,
    /// The state it is in.
    pub to: State,
}

impl Outcome {
    fn reply(&mut self, waiter: Waiter, answer: Answer) {
        self.replies.push(Reply { waiter, answer, when_durable: false });
    }

    fn reply_when_durable(&mut self, waiter: Waiter, answer: Answer) {
        self.replies.push(Reply { waiter, answer, when_durable: true });
    }
}

/// The most bytes a record takes in a batch; `None` if the format cannot say it.
fn record_size(record: &GroupRecord) -> Option<usize> {
    let key = record.encode_key().ok()?;
    let value = record.encode_value().ok()?;
    Some(crate::record::HEADER_SIZE + BatchBuilder::record_size_max(Some(&key), value.as_deref()))
}

fn group_tombstone(group: &StrBytes) -> GroupRecord {
    GroupRecord::Group(GroupMetadataKey { group: group.clone() }, None)
}

/// The groups of one partition.
#[derive(Clone, Debug)]
pub struct GroupMachine {
    settings: GroupSettings,
    groups: BTreeMap<StrBytes, Group>,
    offsets: Offsets,
    timers: Timers,
    /// Its log has been replayed; from now on records come from its own outcomes.
    loaded: bool,
}

impl GroupMachine {
    /// A machine without groups, whose log is to be replayed next.
    #[must_use]
    pub fn new(settings: GroupSettings) -> GroupMachine {
        GroupMachine {
            settings,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            timers: Timers::default(),
            loaded: false,
        }
    }

    /// The only writer of durable state: called with every record of the log, in order, and then with
    /// those of each outcome. Says so if it changes a group's state.
    pub fn replay(&mut self, now: Now, record: &GroupRecord) -> Option<Transition> {
        match record {
            GroupRecord::Offset(key, Some(value)) => {
                if !self.groups.contains_key(&key.group) {
                    // Offsets without membership: a simple group.
                    let id = owned(&key.group);
                    let mut group = Group::new(id.clone(), now.timestamp);
                    group.since = Some(Timestamp(value.commit_timestamp));
                    self.groups.insert(id, group);
                }
                self.offsets.put(key, value);
            }
            GroupRecord::Offset(key, None) => self.offsets.remove(key),
            GroupRecord::Group(key, Some(value)) if self.loaded => {
                return self.confirm(key, value, now);
            }
            GroupRecord::Group(key, Some(value)) => {
                let id = owned(&key.group);
                self.groups.insert(id.clone(), Group::loaded(id, value));
            }
            GroupRecord::Group(key, None) => {
                let group = self.groups.remove(&key.group)?;
                self.cancel_timers(&group);
                return Some(Transition { group: group.id, from: group.state, to: State::Dead });
            }
        }
        None
    }

    /// A generation of a group is in the log: its members have what they were assigned.
    fn confirm(
        &mut self,
        key: &GroupMetadataKey,
        value: &GroupMetadataValue,
        now: Now,
    ) -> Option<Transition> {
        let group = self.groups.get_mut(&key.group)?;
        for stored in &value.members {
            if let Some(member) = group.members.get_mut(&stored.member_id) {
                member.assignment = stored.assignment.clone();
            }
        }
        if group.state != State::CompletingRebalance || value.members.is_empty() {
            return None;
        }
        group.transition(State::Stable, now.timestamp);
        let (group, from) = (group.id.clone(), group.previous);
        Some(Transition { group, from, to: State::Stable })
    }

    fn cancel_timers(&mut self, group: &Group) {
        self.timers.cancel(&Timer::Join(group.id.clone()));
        self.timers.cancel(&Timer::Sync(group.id.clone()));
        for member in group.members.keys().chain(&group.pending_join) {
            self.timers.cancel(&Timer::Session(group.id.clone(), member.clone()));
        }
    }

    /// The whole log has been replayed: sessions begin. Offsets in topics that are `gone` are dropped:
    /// their deletion may have been cut short by a crash.
    pub fn loaded(&mut self, now: Now, gone: impl Fn(&str) -> bool) -> Outcome {
        self.loaded = true;
        let mut outcome = Outcome::default();
        let ids: Vec<StrBytes> = self.groups.keys().cloned().collect();
        for id in ids {
            let max = self.settings.members_max;
            self.turn(now, &id, &mut outcome, |turn| {
                let members: Vec<StrBytes> = turn.group.members.keys().cloned().collect();
                for member in &members {
                    turn.keep_session(member);
                }
                if members.len() > max {
                    turn.prepare_rebalance("the group is larger than group.max.size");
                }
            });
        }
        self.schedule_retention(now);
        outcome.records.extend(self.offsets.tombstones_where(gone));
        outcome
    }

    /// Whether the log has been replayed.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Topics are deleted: their offsets go.
    #[must_use]
    pub fn topics_deleted(&self, names: &[String]) -> Outcome {
        let records = self.offsets.tombstones_where(|topic| names.iter().any(|n| n == topic));
        Outcome { records, ..Outcome::default() }
    }

    /// The partition goes, or the broker stops: everybody who waits is sent to look for the coordinator.
    pub fn unload(&mut self, now: Now) -> Outcome {
        let mut outcome = Outcome::default();
        let ids: Vec<StrBytes> = self.groups.keys().cloned().collect();
        for id in ids {
            self.turn(now, &id, &mut outcome, |turn| {
                turn.transition(State::Dead);
                let members: Vec<StrBytes> = turn.group.members.keys().cloned().collect();
                for member in members {
                    if let Some(removed) = turn.group.remove(&member) {
                        turn.dismiss(&removed, member, ErrorCode::NotCoordinator);
                    }
                }
            });
        }
        self.groups.clear();
        self.offsets = Offsets::default();
        self.timers = Timers::default();
        outcome
    }

    /// Decides on a command. Its records are to be appended and replayed before the next call.
    pub fn handle(&mut self, now: Now, waiter: Waiter, command: &Command) -> Outcome {
        let mut outcome = Outcome::default();
        match command {
            Command::Join { caller, request, fresh } => {
                let joining = Joining { caller, request, waiter, fresh: *fresh };
                self.join(now, &joining, &mut outcome);
            }
            Command::Sync(request) => {
                let found = self.turn(now, &request.group_id, &mut outcome, |turn| {
                    turn.sync(waiter, request);
                });
                if !found {
                    outcome.reply(waiter, Err(ErrorCode::UnknownMemberId));
                }
            }
            Command::Heartbeat(request) => {
                let found = self.turn(now, &request.group_id, &mut outcome, |turn| {
                    turn.heartbeat(waiter, request);
                });
                if !found {
                    outcome.reply(waiter, Err(ErrorCode::UnknownMemberId));
                }
            }
            Command::Leave { group_id, members } => {
                let found = self.turn(now, group_id, &mut outcome, |turn| {
                    turn.leave(waiter, members);
                });
                if !found {
                    outcome.reply(waiter, Err(ErrorCode::UnknownMemberId));
                }
            }
            Command::Commit { version, request } => {
                self.commit(now, waiter, *version, request, &mut outcome);
            }
            Command::Fetch(request) => {
                let response = self.fetch(request);
                outcome.reply_when_durable(waiter, Ok(Response::Fetch(response)));
            }
            Command::DeleteOffsets(request) => {
                let answer = self.delete_offsets(request, &mut outcome);
                outcome.reply_when_durable(waiter, answer);
            }
            Command::Describe { version, group_id } => {
                let response = self.describe(*version, group_id);
                outcome.reply(waiter, Ok(Response::Describe(response)));
            }
            Command::List { states, types } => {
                outcome.reply(waiter, Ok(Response::List(self.list(states, types))));
            }
            Command::Delete { group_id } => {
                let answer = self.delete(group_id, &mut outcome);
                outcome.reply_when_durable(waiter, answer);
            }
        }
        outcome
    }

    fn join(&mut self, now: Now, joining: &Joining<'_>, outcome: &mut Outcome) {
        let (waiter, request) = (joining.waiter, joining.request);
        let refuse = |outcome: &mut Outcome, code| {
            let response = refused_join(owned(&request.member_id), code);
            outcome.reply(waiter, Ok(Response::Join(response)));
        };
        if let Err(code) = self.check_join(joining) {
            return refuse(outcome, code);
        }
        let is_new = !self.groups.contains_key(&request.group_id);
        if is_new {
            if !request.member_id.as_bytes().is_empty() {
                return refuse(outcome, ErrorCode::UnknownMemberId);
            }
            if !self.has_room_for_group() {
                return refuse(outcome, ErrorCode::GroupMaxSizeReached);
            }
            let id = owned(&request.group_id);
            self.groups.insert(id.clone(), Group::new(id, now.timestamp));
        }
        self.turn(now, &request.group_id, outcome, |turn| turn.join(joining));
        if !is_new {
            return;
        }
        let Some(group) = self.groups.get(&request.group_id) else { return };
        if group.members.is_empty() && group.pending_join.is_empty() {
            // It was refused: nothing is left of it.
            self.groups.remove(&request.group_id);
        } else if outcome.records.is_empty() {
            // A new group is in the log from its first member on, as in Kafka.
            let value = GroupMetadataValue {
                current_state_timestamp: group.since.map_or(-1, |t| t.0),
                ..Default::default()
            };
            let key = GroupMetadataKey { group: group.id.clone() };
            outcome.records.push(GroupRecord::Group(key, Some(value)));
        }
    }

    /// What no state of a group changes.
    fn check_join(&self, joining: &Joining<'_>) -> Result<(), ErrorCode> {
        let request = joining.request;
        let settings = &self.settings;
        if !(settings.session_timeout_ms_min..=settings.session_timeout_ms_max)
            .contains(&request.session_timeout_ms)
        {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        // The new id is the longer of these and a uuid.
        let fits = |text: &StrBytes| text.as_bytes().len() + 64 <= GROUP_TEXT_LEN_MAX;
        let texts = [&request.group_id, &request.member_id, &request.protocol_type];
        let named = request.protocols.iter().map(|p| &p.name);
        let others = [&joining.caller.client_id].into_iter().chain(&request.group_instance_id);
        if !texts.into_iter().chain(named).chain(others).all(fits) {
            return Err(ErrorCode::InvalidRequest);
        }
        let bytes: usize = request.protocols.iter().map(|p| p.metadata.len()).sum();
        if bytes > settings.batch_bytes_max {
            // It could never be stored.
            return Err(ErrorCode::InvalidRequest);
        }
        Ok(())
    }

    fn has_room_for_group(&self) -> bool {
        self.groups.len() < GROUPS_PER_PARTITION_MAX
    }

    /// Acts on one deadline that is over, if there is one. Its records are to be appended and replayed
    /// before the next call.
    pub fn expire(&mut self, now: Now) -> Option<Outcome> {
        let timer = self.timers.pop(now.monotonic)?;
        let mut outcome = Outcome::default();
        match &timer {
            Timer::Join(group) => {
                self.turn(now, group, &mut outcome, |turn| turn.join_time_over());
            }
            Timer::Sync(group) => {
                self.turn(now, group, &mut outcome, |turn| turn.sync_time_over());
            }
            Timer::Session(group, member) => {
                self.turn(now, group, &mut outcome, |turn| turn.session_over(member));
            }
            Timer::Retention => {
                self.expire_offsets(now, &mut outcome);
                self.schedule_retention(now);
            }
        }
        Some(outcome)
    }

    /// When to call [`GroupMachine::expire`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.next()
    }

    /// How many deadlines there are: a count for tests of bounded memory.
    #[must_use]
    pub fn deadlines(&self) -> usize {
        self.timers.len()
    }

    fn schedule_retention(&mut self, now: Now) {
        let next = now.monotonic.plus(self.settings.offsets_retention_check);
        self.timers.set(Timer::Retention, next);
    }

    /// Works on a group; `false` if it is not here.
    fn turn(
        &mut self,
        now: Now,
        group: &StrBytes,
        outcome: &mut Outcome,
        work: impl FnOnce(&mut Turn<'_>),
    ) -> bool {
        let Some(group) = self.groups.get_mut(group) else { return false };
        let (settings, timers) = (&self.settings, &mut self.timers);
        work(&mut Turn { now, settings, group, timers, outcome });
        true
    }
}
