//! One command, or one deadline, and the group it is about: where a turn writes its effects.
//!
//! The rebalance itself is here, since all of joining, leaving, failing and syncing end in it; who calls
//! for it is in `join`, `sync` and `leave`. Kafka's `GroupMetadataManager`.

use std::time::Duration;

use super::group::{Group, State};
use super::member::Member;
use super::timers::{Timer, Timers};
use super::{Now, Outcome, Response, Transition, Waiter};
use crate::config::GroupSettings;
use crate::limits::GROUP_JOIN_TIMEOUT;
use crate::protocol::messages::join_group::JoinGroupResponse;
use crate::protocol::messages::sync_group::SyncGroupResponse;
use crate::protocol::{ErrorCode, StrBytes};

/// What a turn works on.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a GroupSettings,
    pub(super) group: &'a mut Group,
    pub(super) timers: &'a mut Timers,
    pub(super) outcome: &'a mut Outcome,
}

/// Milliseconds of a protocol field as a duration; a negative one is none.
pub(super) fn ms(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

impl Turn<'_> {
    fn join_timer(&self) -> Timer {
        Timer::Join(self.group.id.clone())
    }

    fn sync_timer(&self) -> Timer {
        Timer::Sync(self.group.id.clone())
    }

    pub(super) fn session_timer(&self, member: &StrBytes) -> Timer {
        Timer::Session(self.group.id.clone(), member.clone())
    }

    fn set(&mut self, timer: Timer, after: Duration) {
        self.timers.set(timer, self.now.monotonic.plus(after));
    }

    /// Begins a member's session anew.
    pub(super) fn keep_session(&mut self, member: &StrBytes) {
        if let Some(timeout) = self.group.members.get(member).map(|m| m.session_timeout_ms) {
            self.set(self.session_timer(member), ms(i64::from(timeout)));
        }
    }

    /// Until it is in a generation a member does not know its id and sends no heartbeats; what ends its
    /// wait, should its client be gone, is this.
    pub(super) fn bound_first_join(&mut self, member: &StrBytes) {
        self.set(self.session_timer(member), GROUP_JOIN_TIMEOUT);
    }

    pub(super) fn set_session(&mut self, member: &StrBytes, timeout_ms: i32) {
        self.set(self.session_timer(member), ms(i64::from(timeout_ms)));
    }

    pub(super) fn transition(&mut self, next: State) {
        let (group, from) = (self.group.id.clone(), self.group.state);
        self.group.transition(next, self.now.timestamp);
        self.outcome.transitions.push(Transition { group, from, to: next });
    }

    // Answers.

    pub(super) fn answer_join(&mut self, waiter: Waiter, response: JoinGroupResponse) {
        self.outcome.reply(waiter, Ok(Response::Join(response)));
    }

    pub(super) fn refuse_join(&mut self, waiter: Waiter, member_id: StrBytes, code: ErrorCode) {
        self.answer_join(waiter, refused_join(member_id, code));
    }

    /// What a member of the generation is told; the leader gets all members.
    pub(super) fn joined(&self, member: &StrBytes, with_members: bool) -> JoinGroupResponse {
        JoinGroupResponse {
            member_id: member.clone(),
            generation_id: self.group.generation,
            protocol_type: self.group.protocol_type.clone(),
            protocol_name: self.group.protocol.clone(),
            leader: self.group.leader.clone().unwrap_or_default(),
            members: if with_members { self.group.joined_members() } else { Vec::new() },
            ..Default::default()
        }
    }

    pub(super) fn assignment_of(&self, member: &Member) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: self.group.protocol_type.clone(),
            protocol_name: self.group.protocol.clone(),
            assignment: member.assignment.clone(),
            ..Default::default()
        }
    }

    /// Answers what a member still waits for, because it is removed or replaced.
    pub(super) fn dismiss(&mut self, member: &Member, told: StrBytes, code: ErrorCode) {
        if let Some(waiter) = member.awaiting_join {
            self.refuse_join(waiter, told, code);
        }
        if let Some(waiter) = member.awaiting_sync {
            self.outcome.reply(waiter, Err(code));
        }
    }

    /// Notes that a member waits for its next generation.
    pub(super) fn await_join(&mut self, member: &StrBytes, waiter: Waiter) {
        let Some(member) = self.group.members.get_mut(member) else { return };
        if let Some(before) = member.awaiting_join.replace(waiter) {
            // It asked again: the answer goes to the last request, and the one before is let go.
            let id = member.id.clone();
            self.refuse_join(before, id, ErrorCode::RebalanceInProgress);
        }
    }

    // The rebalance.

    /// Begins a rebalance where the state allows one, or ends the one that waits for members.
    pub(super) fn rebalance(&mut self, reason: &str) {
        if self.group.state.may_become(State::PreparingRebalance) {
            self.prepare_rebalance(reason);
        } else {
            self.maybe_complete_join();
        }
    }

    pub(super) fn prepare_rebalance(&mut self, reason: &str) {
        if self.group.state == State::CompletingRebalance {
            self.reset_assignments(ErrorCode::RebalanceInProgress);
        }
        self.group.pending_sync.clear();
        self.timers.cancel(&self.sync_timer());
        let initial = self.group.state == State::Empty;
        if initial {
            // A new group: others that start at the same time shall be in its first generation.
            let delay = i64::try_from(self.settings.initial_rebalance_delay.as_millis());
            let delay = delay.unwrap_or(i64::MAX);
            let remaining = (self.group.rebalance_timeout_ms() - delay).max(0);
            self.group.initial_delay_ms = Some((delay, remaining));
            self.set(self.join_timer(), ms(delay));
        }
        self.transition(State::PreparingRebalance);
        tracing::info!(
            group = %self.group.id,
            generation = self.group.generation,
            reason,
            "rebalance"
        );
        if !initial {
            self.complete_join_or_wait();
        }
    }

    fn complete_join_or_wait(&mut self) {
        if self.group.all_joined() {
            self.complete_join();
        } else {
            let timeout = ms(self.group.rebalance_timeout_ms());
            self.group.initial_delay_ms = None;
            self.set(self.join_timer(), timeout);
        }
    }

    /// Ends the wait for members once all are there; a first rebalance waits its time in any case.
    pub(super) fn maybe_complete_join(&mut self) {
        let group = &self.group;
        if group.state == State::PreparingRebalance
            && group.previous != State::Empty
            && group.all_joined()
        {
            self.complete_join();
        }
    }

    /// The join timer is over.
    pub(super) fn join_time_over(&mut self) {
        if self.group.state != State::PreparingRebalance {
            return;
        }
        if let Some((delay, remaining)) = self.group.initial_delay_ms.take()
            && self.group.member_added
            && remaining != 0
        {
            // Somebody came: wait as long again, within the rebalance timeout.
            self.group.member_added = false;
            let whole = i64::try_from(self.settings.initial_rebalance_delay.as_millis());
            let next = whole.unwrap_or(i64::MAX).min(remaining);
            self.group.initial_delay_ms = Some((next, (remaining - delay).max(0)));
            self.set(self.join_timer(), ms(next));
            return;
        }
        self.complete_join();
    }

    /// Goes to the next generation with those that have joined, and with static members that have not.
    pub(super) fn complete_join(&mut self) {
        self.timers.cancel(&self.join_timer());
        self.group.initial_delay_ms = None;
        let missing: Vec<StrBytes> = self
            .group
            .members
            .values()
            .filter(|m| m.awaiting_join.is_none() && m.instance_id.is_none())
            .map(|m| m.id.clone())
            .collect();
        for member in &missing {
            self.group.remove(member);
            self.timers.cancel(&self.session_timer(member));
        }
        if !self.group.elect_joined_leader() && !self.group.members.is_empty() {
            // Static members only, and none has joined: wait until their sessions are over.
            self.set(self.join_timer(), ms(self.group.rebalance_timeout_ms()));
            return;
        }
        self.group.member_added = false;
        let next = self.group.next_generation();
        self.transition(next);
        if self.group.state == State::Empty {
            tracing::info!(
                group = %self.group.id,
                generation = self.group.generation,
                "the group is empty"
            );
            let record = self.group.record(|_| bytes::Bytes::new());
            self.outcome.records.push(record);
            return;
        }
        tracing::info!(
            group = %self.group.id,
            generation = self.group.generation,
            members = self.group.members.len(),
            "a generation"
        );
        let ids: Vec<StrBytes> = self.group.members.keys().cloned().collect();
        for id in ids {
            let response = self.joined(&id, self.group.is_leader(&id));
            let waiter = match self.group.members.get_mut(&id) {
                Some(member) => {
                    member.is_new = false;
                    member.awaiting_join.take()
                }
                None => None,
            };
            if let Some(waiter) = waiter {
                self.answer_join(waiter, response);
            }
            self.keep_session(&id);
            self.group.pending_sync.insert(id);
        }
        self.set(self.sync_timer(), ms(self.group.rebalance_timeout_ms()));
    }

    /// The sync timer is over.
    pub(super) fn sync_time_over(&mut self) {
        if !matches!(self.group.state, State::CompletingRebalance | State::Stable)
            || self.group.pending_sync.is_empty()
        {
            return;
        }
        for member in std::mem::take(&mut self.group.pending_sync) {
            if let Some(removed) = self.group.remove(&member) {
                self.dismiss(&removed, StrBytes::default(), ErrorCode::UnknownMemberId);
            }
            self.timers.cancel(&self.session_timer(&member));
        }
        self.prepare_rebalance("members have not asked for their assignment in time");
    }

    /// A session is over.
    pub(super) fn session_over(&mut self, member: &StrBytes) {
        if self.group.pending_join.contains(member) {
            self.group.remove(member);
            self.complete_if_all_joined();
            return;
        }
        let Some(failed) = self.group.members.get(member) else { return };
        if failed.is_waiting() {
            return;
        }
        tracing::info!(group = %self.group.id, %member, "the session is over");
        self.remove_member(member);
        match self.group.state {
            State::Stable | State::CompletingRebalance => {
                self.rebalance(&format!("the session of member {member} is over"));
            }
            State::PreparingRebalance => self.complete_if_all_joined(),
            State::Empty | State::Dead => {}
        }
    }

    fn complete_if_all_joined(&mut self) {
        if self.group.state == State::PreparingRebalance && self.group.all_joined() {
            self.complete_join();
        }
    }

    /// Removes a member; what it waits for is answered as if it had never been one.
    pub(super) fn remove_member(&mut self, member: &StrBytes) {
        self.timers.cancel(&self.session_timer(member));
        if let Some(removed) = self.group.remove(member) {
            self.dismiss(&removed, StrBytes::default(), ErrorCode::UnknownMemberId);
        }
    }

    /// Takes all assignments back; who waits for one is told `code`.
    pub(super) fn reset_assignments(&mut self, code: ErrorCode) {
        let ids: Vec<StrBytes> = self.group.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.group.members.get_mut(&id) else { continue };
            member.assignment = bytes::Bytes::new();
            if let Some(waiter) = member.awaiting_sync.take() {
                self.outcome.reply(waiter, Err(code));
                self.keep_session(&id);
            }
        }
    }
}

pub(super) fn refused_join(member_id: StrBytes, error_code: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse { member_id, error_code, ..Default::default() }
}
