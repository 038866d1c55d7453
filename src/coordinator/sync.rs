//! SyncGroup and Heartbeat.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::group::State;
use super::turn::Turn;
use super::{Response, Waiter, record_size};
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::sync_group::SyncGroupRequest;
use crate::protocol::{ErrorCode, StrBytes};

impl Turn<'_> {
    pub(super) fn sync(&mut self, waiter: Waiter, request: &SyncGroupRequest) {
        if let Err(code) = self.check_sync(request) {
            self.outcome.reply(waiter, Err(code));
            return;
        }
        let id = &request.member_id;
        match self.group.state {
            State::Empty => self.outcome.reply(waiter, Err(ErrorCode::UnknownMemberId)),
            State::Dead => self.outcome.reply(waiter, Err(ErrorCode::CoordinatorNotAvailable)),
            State::PreparingRebalance => {
                self.outcome.reply(waiter, Err(ErrorCode::RebalanceInProgress));
            }
            State::CompletingRebalance => {
                self.group.pending_sync.remove(id);
                self.cancel_sync_timer_if_all_have();
                let before =
                    self.group.members.get_mut(id).and_then(|m| m.awaiting_sync.replace(waiter));
                if let Some(before) = before {
                    self.outcome.reply(before, Err(ErrorCode::RebalanceInProgress));
                }
                if self.group.is_leader(id) {
                    self.assign(request);
                }
            }
            State::Stable => {
                self.group.pending_sync.remove(id);
                self.cancel_sync_timer_if_all_have();
                if let Some(member) = self.group.members.get(id) {
                    let response = self.assignment_of(member);
                    // Its generation may be on its way to the disk.
                    self.outcome.reply_when_durable(waiter, Ok(Response::Sync(response)));
                }
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        let group = &self.group;
        group.check_generation(
            &request.member_id,
            request.group_instance_id.as_ref(),
            request.generation_id,
        )?;
        let differs =
            |told: &Option<StrBytes>, ours: &Option<StrBytes>| told.is_some() && told != ours;
        if differs(&request.protocol_type, &group.protocol_type)
            || differs(&request.protocol_name, &group.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn cancel_sync_timer_if_all_have(&mut self) {
        if self.group.pending_sync.is_empty() {
            self.timers.cancel(&super::timers::Timer::Sync(self.group.id.clone()));
        }
    }

    /// The leader has assigned: the generation is stored, and everybody gets theirs when it is durable.
    /// The state becomes Stable by replaying the record.
    fn assign(&mut self, request: &SyncGroupRequest) {
        let assignments: BTreeMap<&StrBytes, &Bytes> =
            request.assignments.iter().map(|a| (&a.member_id, &a.assignment)).collect();
        let of = |id: &StrBytes| {
            assignments.get(id).map(|bytes| Bytes::copy_from_slice(bytes)).unwrap_or_default()
        };
        let record = self.group.record(|m| of(&m.id));
        if record_size(&record).is_none_or(|size| size > self.settings.batch_bytes_max) {
            // What Kafka answers when the record does not fit into a batch.
            tracing::warn!(
                group = %self.group.id,
                bytes_max = self.settings.batch_bytes_max,
                "the group's subscriptions and assignments are too large to store; raise message.max.bytes"
            );
            self.reset_assignments(ErrorCode::UnknownServerError);
            self.rebalance("the assignment is too large to store");
            return;
        }
        self.outcome.records.push(record);
        let ids: Vec<StrBytes> = self.group.members.keys().cloned().collect();
        for id in ids {
            let waiter = self.group.members.get_mut(&id).and_then(|m| m.awaiting_sync.take());
            if let Some(waiter) = waiter
                && let Some(member) = self.group.members.get(&id)
            {
                let mut response = self.assignment_of(member);
                response.assignment = of(&id);
                self.outcome.reply_when_durable(waiter, Ok(Response::Sync(response)));
                // It may have gone silent while it waited.
                self.keep_session(&id);
            }
        }
    }

    pub(super) fn heartbeat(&mut self, waiter: Waiter, request: &HeartbeatRequest) {
        let checked = match self.group.state {
            State::Dead => Err(ErrorCode::CoordinatorNotAvailable),
            _ => self.group.check_generation(
                &request.member_id,
                request.group_instance_id.as_ref(),
                request.generation_id,
            ),
        };
        let answer = checked.and_then(|()| match self.group.state {
            State::Empty | State::Dead => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => {
                self.keep_session(&request.member_id);
                Err(ErrorCode::RebalanceInProgress)
            }
            State::CompletingRebalance | State::Stable => {
                self.keep_session(&request.member_id);
                Ok(Response::Heartbeat)
            }
        });
        self.outcome.reply(waiter, answer);
    }
}
