//! LeaveGroup.

use super::group::State;
use super::turn::Turn;
use super::{Response, Waiter};
use crate::protocol::messages::leave_group::{LeaveGroupResponse, MemberIdentity, MemberResponse};
use crate::protocol::{ErrorCode, StrBytes};

impl Turn<'_> {
    pub(super) fn leave(&mut self, waiter: Waiter, leaving: &[MemberIdentity]) {
        let members: Vec<MemberResponse> = leaving
            .iter()
            .map(|identity| MemberResponse {
                member_id: identity.member_id.clone(),
                group_instance_id: identity.group_instance_id.clone(),
                error_code: self.leave_one(identity).err().unwrap_or(ErrorCode::None),
            })
            .collect();
        if members.iter().any(|m| m.error_code == ErrorCode::None) {
            match self.group.state {
                State::Stable | State::CompletingRebalance => self.rebalance("members have left"),
                State::PreparingRebalance => self.maybe_complete_join(),
                State::Empty | State::Dead => {}
            }
        }
        let response = LeaveGroupResponse { members, ..Default::default() };
        self.outcome.reply_when_durable(waiter, Ok(Response::Leave(response)));
    }

    fn leave_one(&mut self, identity: &MemberIdentity) -> Result<(), ErrorCode> {
        let reason = identity.reason.as_deref().unwrap_or("not provided").to_owned();
        let id = if identity.member_id.as_bytes().is_empty() {
            // An administrator removes a static member by the only name he knows.
            let instance = identity.group_instance_id.as_ref();
            let id = instance.and_then(|i| self.group.static_members.get(i));
            id.cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else if self.group.pending_join.contains(&identity.member_id) {
            self.timers.cancel(&self.session_timer(&identity.member_id));
            self.group.remove(&identity.member_id);
            return Ok(());
        } else {
            self.group.check_member(&identity.member_id, identity.group_instance_id.as_ref())?;
            StrBytes::clone(&identity.member_id)
        };
        tracing::info!(group = %self.group.id, member = %id, reason, "a member leaves");
        self.remove_member(&id);
        Ok(())
    }
}
