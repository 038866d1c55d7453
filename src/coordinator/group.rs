//! A group: its members, generation and state. Kafka's `ClassicGroup`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use super::member::{Member, Protocol};
use crate::protocol::group_records::{
    GroupMetadataKey, GroupMetadataValue, GroupRecord, MemberMetadata,
};
use crate::protocol::messages::join_group::JoinGroupResponseMember;
use crate::protocol::{ErrorCode, Reader, StrBytes};
use crate::time::Timestamp;

/// The protocol type of consumers: the only one whose metadata the coordinator looks into, for the
/// topics a group is subscribed to.
pub(super) const CONSUMER: &str = "consumer";

/// A group's state, as in Kafka's `ClassicGroupState`.
///
/// | state | meaning | left for | when |
/// | --- | --- | --- | --- |
/// | Empty | no members; perhaps offsets | PreparingRebalance | a member joins |
/// | PreparingRebalance | waits for members to join | CompletingRebalance | all have, or the time is over |
/// | | | Empty | all have left |
/// | CompletingRebalance | waits for the leader's assignment | Stable | it has come |
/// | | | PreparingRebalance | a member joins, leaves, fails, or does not sync in time |
/// | Stable | has an assignment | PreparingRebalance | the same, or the leader joins again |
/// | any | | Dead | the group is deleted or its coordinator goes |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// No members.
    Empty,
    /// Waits for members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// Gone.
    Dead,
}

impl State {
    /// All states.
    pub const ALL: [State; 5] = [
        State::Empty,
        State::PreparingRebalance,
        State::CompletingRebalance,
        State::Stable,
        State::Dead,
    ];

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }

    /// Whether a group may go from this state to `next`.
    #[must_use]
    pub fn may_become(self, next: State) -> bool {
        use State::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};
        match next {
            Empty | CompletingRebalance => self == PreparingRebalance,
            PreparingRebalance => matches!(self, Empty | CompletingRebalance | Stable),
            Stable => self == CompletingRebalance,
            Dead => true,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: StrBytes,
    pub(super) state: State,
    pub(super) previous: State,
    /// When it came into its state; `None` if it was loaded from a record that does not say.
    pub(super) since: Option<Timestamp>,
    pub(super) protocol_type: Option<StrBytes>,
    pub(super) protocol: Option<StrBytes>,
    pub(super) generation: i32,
    pub(super) leader: Option<StrBytes>,
    pub(super) members: BTreeMap<StrBytes, Member>,
    /// Member ids by instance id.
    pub(super) static_members: BTreeMap<StrBytes, StrBytes>,
    /// Ids that were given out and not yet used to join.
    pub(super) pending_join: BTreeSet<StrBytes>,
    /// Members of this generation that have not asked for their assignment.
    pub(super) pending_sync: BTreeSet<StrBytes>,
    /// How many members can follow each protocol.
    supported: BTreeMap<StrBytes, usize>,
    /// The topics of all members; `None` if that is not known.
    pub(super) subscribed: Option<BTreeSet<StrBytes>>,
    /// A member came during the first rebalance, which waits on therefore.
    pub(super) member_added: bool,
    /// What the first rebalance may still wait, in milliseconds: this time, and in all.
    pub(super) initial_delay_ms: Option<(i64, i64)>,
}

impl Group {
    pub(super) fn new(id: StrBytes, now: Timestamp) -> Group {
        Group {
            id,
            state: State::Empty,
            previous: State::Dead,
            since: Some(now),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            supported: BTreeMap::new(),
            subscribed: None,
            member_added: false,
            initial_delay_ms: None,
        }
    }

    /// The group as a record tells it; a record with members is that of a stable group.
    pub(super) fn loaded(id: StrBytes, value: &GroupMetadataValue) -> Group {
        let mut group = Group::new(id, Timestamp(value.current_state_timestamp));
        if value.current_state_timestamp == -1 {
            group.since = None;
        }
        group.protocol_type =
            (!value.protocol_type.as_bytes().is_empty()).then(|| value.protocol_type.clone());
        group.protocol = value.protocol.clone();
        group.generation = value.generation;
        for member in &value.members {
            group.add(Member::loaded(member, value.protocol.clone().unwrap_or_default()));
        }
        group.leader = value.leader.clone();
        if !group.members.is_empty() {
            group.state = State::Stable;
        }
        group.subscribed = group.compute_subscribed();
        group
    }

    pub(super) fn transition(&mut self, next: State, now: Timestamp) {
        debug_assert!(self.state.may_become(next), "{} to {next}", self.state);
        self.previous = self.state;
        self.state = next;
        self.since = Some(now);
    }

    pub(super) fn add(&mut self, member: Member) {
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        if self.members.is_empty() && !member.protocol_type.as_bytes().is_empty() {
            self.protocol_type = Some(member.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_join.remove(&member.id);
        self.count_protocols(&member.protocols, true);
        self.members.insert(member.id.clone(), member);
    }

    /// Removes a member or pending member; the next leader is whoever is left.
    pub(super) fn remove(&mut self, id: &StrBytes) -> Option<Member> {
        let removed = self.members.remove(id);
        if let Some(member) = &removed {
            self.count_protocols(&member.protocols, false);
            if let Some(instance) = &member.instance_id {
                self.static_members.remove(instance);
            }
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(id);
        self.pending_sync.remove(id);
        removed
    }

    /// Gives a static member another id; everything else about it stays. Returns the old one.
    pub(super) fn replace_static(&mut self, old: &StrBytes, new: &StrBytes) -> Option<Member> {
        let removed = self.members.remove(old)?;
        let mut member = removed.clone();
        member.id = new.clone();
        member.awaiting_join = None;
        member.awaiting_sync = None;
        member.is_new = false;
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), new.clone());
        }
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(new.clone());
        }
        self.pending_sync.remove(old);
        self.members.insert(new.clone(), member);
        Some(removed)
    }

    /// Sets what a member can follow.
    pub(super) fn set_protocols(&mut self, id: &StrBytes, protocols: Vec<Protocol>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let before = std::mem::replace(&mut member.protocols, protocols.clone());
        self.count_protocols(&before, false);
        self.count_protocols(&protocols, true);
    }

    fn count_protocols(&mut self, protocols: &[Protocol], more: bool) {
        for protocol in protocols {
            let count = self.supported.entry(protocol.name.clone()).or_default();
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        }
        self.supported.retain(|_, count| *count > 0);
    }

    pub(super) fn is_leader(&self, id: &StrBytes) -> bool {
        self.leader.as_ref() == Some(id)
    }

    pub(super) fn awaiting_join(&self) -> usize {
        self.members.values().filter(|m| m.awaiting_join.is_some()).count()
    }

    pub(super) fn all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.members.values().all(|m| m.awaiting_join.is_some())
    }

    /// The longest any member may take to join again.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|m| i64::from(m.rebalance_timeout_ms)).max().unwrap_or(0).max(0)
    }

    /// The longest-standing member that has joined, if the leader has not.
    pub(super) fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = self.leader.as_ref().and_then(|id| self.members.get(id)) else {
            return false;
        };
        if leader.awaiting_join.is_some() {
            return true;
        }
        let joined = self.members.values().find(|m| m.awaiting_join.is_some());
        match joined.map(|m| m.id.clone()) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }

    /// Whether a member of these protocols can be in one group with the others.
    pub(super) fn supports(&self, protocol_type: &StrBytes, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.as_bytes().is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|p| self.supported.get(&p.name).copied().unwrap_or(0) == self.members.len())
    }

    /// The protocol all members can follow that most prefer; `None` without members.
    pub(super) fn select_protocol(&self) -> Option<StrBytes> {
        let mut votes: BTreeMap<&StrBytes, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote =
                member.protocols.iter().map(|p| &p.name).find(|name| {
                    self.supported.get(*name).copied().unwrap_or(0) == self.members.len()
                });
            if let Some(name) = vote {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.clone())
    }

    /// Counts the next generation; says what state it begins in.
    pub(super) fn next_generation(&mut self) -> State {
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.select_protocol();
        self.subscribed = self.compute_subscribed();
        self.pending_sync.clear();
        if self.members.is_empty() { State::Empty } else { State::CompletingRebalance }
    }

    /// Whether the request comes from who it says (Kafka's `validateMember`).
    pub(super) fn check_member(
        &self,
        id: &StrBytes,
        instance: Option<&StrBytes>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if holder != id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    pub(super) fn check_generation(
        &self,
        id: &StrBytes,
        instance: Option<&StrBytes>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        self.check_member(id, instance)?;
        if generation == self.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// What the leader is told of the members.
    pub(super) fn joined_members(&self) -> Vec<JoinGroupResponseMember> {
        self.members
            .values()
            .map(|m| JoinGroupResponseMember {
                member_id: m.id.clone(),
                group_instance_id: m.instance_id.clone(),
                metadata: m.metadata(self.protocol.as_ref()),
            })
            .collect()
    }

    fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|t| *t == CONSUMER)
    }

    /// Whether the group consumes a topic, or might.
    pub(super) fn is_subscribed(&self, topic: &StrBytes) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    fn compute_subscribed(&self) -> Option<BTreeSet<StrBytes>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_ref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscription(member.metadata(Some(protocol)))?);
        }
        Some(topics)
    }

    /// Whether offsets of the group are kept by members who may still delete them.
    pub(super) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable
                if !self.uses_consumer_protocol() =>
            {
                Err(ErrorCode::NonEmptyGroup)
            }
            _ => Ok(()),
        }
    }

    /// From when on an offset's retention counts; `None` while offsets do not expire (KIP-211).
    pub(super) fn retention_base(&self, commit: Timestamp) -> Option<Timestamp> {
        if self.protocol_type.is_none() {
            // A simple group: no membership, only offsets.
            return Some(commit);
        }
        match self.state {
            State::Empty => Some(self.since.unwrap_or(commit)),
            State::Stable if self.uses_consumer_protocol() && self.subscribed.is_some() => {
                Some(commit)
            }
            _ => None,
        }
    }

    /// The group as it is to be stored, each member with its assignment.
    pub(super) fn record(&self, assignment: impl Fn(&Member) -> Bytes) -> GroupRecord {
        let members = self
            .members
            .values()
            .map(|m| MemberMetadata {
                member_id: m.id.clone(),
                group_instance_id: m.instance_id.clone(),
                client_id: m.client_id.clone(),
                client_host: m.client_host.clone(),
                rebalance_timeout: m.rebalance_timeout_ms,
                session_timeout: m.session_timeout_ms,
                subscription: m.metadata(self.protocol.as_ref()),
                assignment: assignment(m),
            })
            .collect();
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: self.since.map_or(-1, |t| t.0),
            members,
        };
        GroupRecord::Group(GroupMetadataKey { group: self.id.clone() }, Some(value))
    }
}

/// The topics in a consumer's subscription. Version 0 of it is the beginning of all versions.
fn subscription(metadata: Bytes) -> Option<Vec<StrBytes>> {
    let mut reader = Reader::new(metadata);
    reader.i16().ok()?;
    let count = usize::try_from(reader.i32().ok()?).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let len = reader.short_length().ok()??;
        topics.push(StrBytes::try_from(reader.take(len).ok()?).ok()?);
    }
    Some(topics)
}
