//! JoinGroup.

use bytes::Bytes;

use super::group::State;
use super::member::{Member, Protocol, owned};
use super::turn::Turn;
use super::{Caller, Waiter};
use crate::limits::GROUP_PENDING_MEMBERS_MAX;
use crate::protocol::messages::join_group::JoinGroupRequest;
use crate::protocol::{ErrorCode, StrBytes};
use crate::types::Uuid;

/// From this version on a member gets its id before it joins (KIP-394).
const MEMBER_ID_REQUIRED: i16 = 4;
/// From this version on a static leader may be told to leave the assignment alone (KIP-814).
const SKIP_ASSIGNMENT: i16 = 9;

/// A JoinGroup as it is worked on.
pub(super) struct Joining<'a> {
    pub(super) caller: &'a Caller,
    pub(super) request: &'a JoinGroupRequest,
    pub(super) waiter: Waiter,
    /// Makes a new member's id; fresh and random.
    pub(super) fresh: Uuid,
}

impl Joining<'_> {
    fn rebalance_timeout_ms(&self) -> i32 {
        // Version 0 has no rebalance timeout.
        match self.request.rebalance_timeout_ms {
            -1 => self.request.session_timeout_ms,
            timeout => timeout,
        }
    }

    fn reason(&self) -> &str {
        self.request.reason.as_deref().filter(|r| !r.is_empty()).unwrap_or("not provided")
    }

    fn member(&self, id: StrBytes) -> Member {
        Member {
            id,
            instance_id: self.request.group_instance_id.as_ref().map(owned),
            client_id: owned(&self.caller.client_id),
            client_host: owned(&self.caller.client_host),
            rebalance_timeout_ms: self.rebalance_timeout_ms(),
            session_timeout_ms: self.request.session_timeout_ms,
            protocol_type: owned(&self.request.protocol_type),
            protocols: Protocol::owned(&self.request.protocols),
            assignment: Bytes::new(),
            awaiting_join: Some(self.waiter),
            awaiting_sync: None,
            is_new: true,
        }
    }
}

impl Turn<'_> {
    pub(super) fn join(&mut self, joining: &Joining<'_>) {
        let id = &joining.request.member_id;
        let unknown = id.as_bytes().is_empty();
        if !self.has_room_for(id) {
            self.group.remove(id);
            self.refuse_join(joining.waiter, StrBytes::default(), ErrorCode::GroupMaxSizeReached);
            return;
        }
        let protocols = Protocol::owned(&joining.request.protocols);
        if !self.group.supports(&joining.request.protocol_type, &protocols) {
            let code = ErrorCode::InconsistentGroupProtocol;
            self.refuse_join(joining.waiter, owned(id), code);
        } else if unknown {
            self.join_new(joining);
        } else if self.group.pending_join.contains(id) {
            if joining.request.group_instance_id.is_some() {
                // Only dynamic members are given their id before.
                self.refuse_join(joining.waiter, owned(id), ErrorCode::UnknownServerError);
            } else {
                self.add(owned(id), joining);
            }
        } else {
            self.join_again(joining, protocols);
        }
    }

    /// Whether a member may be in the next generation (Kafka's `acceptJoiningMember`).
    fn has_room_for(&self, id: &StrBytes) -> bool {
        let max = self.settings.members_max;
        let member = self.group.members.get(id);
        match self.group.state {
            State::Empty | State::Dead => true,
            // Those who wait count, not the members: whoever joins last is left out when the bound has
            // become lower.
            State::PreparingRebalance => {
                member.is_some_and(|m| m.awaiting_join.is_some())
                    || self.group.awaiting_join() < max
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.group.members.len() < max
            }
        }
    }

    fn join_new(&mut self, joining: &Joining<'_>) {
        let request = joining.request;
        let fresh = |name: &StrBytes| StrBytes::from(format!("{name}-{}", joining.fresh));
        if let Some(instance) = &request.group_instance_id {
            let id = fresh(instance);
            match self.group.static_members.get(instance).cloned() {
                Some(before) => self.replace(&before, id, joining),
                None => self.add(id, joining),
            }
            return;
        }
        let id = fresh(&joining.caller.client_id);
        if joining.caller.version < MEMBER_ID_REQUIRED {
            self.add(id, joining);
            return;
        }
        if self.group.pending_join.len() >= GROUP_PENDING_MEMBERS_MAX {
            self.refuse_join(joining.waiter, StrBytes::default(), ErrorCode::GroupMaxSizeReached);
            return;
        }
        self.group.pending_join.insert(id.clone());
        self.set_session(&id, request.session_timeout_ms);
        self.refuse_join(joining.waiter, id, ErrorCode::MemberIdRequired);
    }

    fn add(&mut self, id: StrBytes, joining: &Joining<'_>) {
        if self.group.state == State::PreparingRebalance && self.group.previous == State::Empty {
            self.group.member_added = true;
        }
        self.group.add(joining.member(id.clone()));
        self.bound_first_join(&id);
        self.rebalance(&format!("member {id} joins; client reason: {}", joining.reason()));
    }

    /// A known member joins.
    fn join_again(&mut self, joining: &Joining<'_>, protocols: Vec<Protocol>) {
        let request = joining.request;
        let id = owned(&request.member_id);
        if let Err(code) = self.group.check_member(&id, request.group_instance_id.as_ref()) {
            self.refuse_join(joining.waiter, id, code);
            return;
        }
        let same = self.group.members.get(&id).is_some_and(|m| m.protocols == protocols);
        let leads = self.group.is_leader(&id);
        match self.group.state {
            // Nothing has changed: perhaps the answer was lost. It gets the same one again.
            State::CompletingRebalance if same => {
                let response = self.joined(&id, leads);
                self.answer_join(joining.waiter, response);
            }
            State::Stable if same && !leads => {
                let response = self.joined(&id, false);
                self.answer_join(joining.waiter, response);
            }
            // A leader that joins again asks for a rebalance: it has seen other partitions, perhaps.
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update(&id, protocols, joining);
                let reason = joining.reason();
                self.rebalance(&format!("member {id} joins again; client reason: {reason}"));
            }
            State::Empty | State::Dead => {
                self.refuse_join(joining.waiter, id, ErrorCode::UnknownMemberId);
            }
        }
    }

    fn update(&mut self, id: &StrBytes, protocols: Vec<Protocol>, joining: &Joining<'_>) {
        self.group.set_protocols(id, protocols);
        if let Some(member) = self.group.members.get_mut(id) {
            member.rebalance_timeout_ms = joining.rebalance_timeout_ms();
            member.session_timeout_ms = joining.request.session_timeout_ms;
        }
        self.await_join(id, joining.waiter);
    }

    /// A static member is back without its id: it takes the place of the one before, which is fenced.
    fn replace(&mut self, before: &StrBytes, id: StrBytes, joining: &Joining<'_>) {
        let leader_before = self.group.leader.clone().unwrap_or_default();
        let Some(removed) = self.group.replace_static(before, &id) else { return };
        self.dismiss(&removed, before.clone(), ErrorCode::FencedInstanceId);
        self.timers.cancel(&self.session_timer(before));
        self.keep_session(&id);
        self.update(&id, Protocol::owned(&joining.request.protocols), joining);
        match self.group.state {
            State::Stable if self.group.protocol == self.group.select_protocol() => {
                self.return_without_rebalance(&id, leader_before, joining);
            }
            State::Stable => self.rebalance(&format!(
                "static member {id} joins and changes the protocol; client reason: {}",
                joining.reason()
            )),
            // The leader may have the old id in its hands, and would assign to it.
            State::CompletingRebalance => self.prepare_rebalance(&format!(
                "static member {id} replaces {before}; client reason: {}",
                joining.reason()
            )),
            State::PreparingRebalance | State::Empty | State::Dead => self.maybe_complete_join(),
        }
    }

    /// The group stays as it is, but for the member's id, which is stored before the member knows it.
    fn return_without_rebalance(
        &mut self,
        id: &StrBytes,
        leader_before: StrBytes,
        joining: &Joining<'_>,
    ) {
        if let Some(member) = self.group.members.get_mut(id) {
            member.awaiting_join = None;
        }
        let leads = self.group.is_leader(id);
        let response = if joining.caller.version >= SKIP_ASSIGNMENT {
            let mut response = self.joined(id, leads);
            response.skip_assignment = leads;
            response
        } else {
            // An old client told that it leads would assign anew: the old id leads, as far as it knows.
            let mut response = self.joined(id, false);
            response.leader = leader_before;
            response
        };
        tracing::info!(group = %self.group.id, member = %id, "a static member is back");
        let record = self.group.record(|m| m.assignment.clone());
        self.outcome.records.push(record);
        self.outcome.reply_when_durable(joining.waiter, Ok(super::Response::Join(response)));
    }
}
