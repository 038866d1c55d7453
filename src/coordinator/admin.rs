//! DescribeGroups, ListGroups and DeleteGroups.

use super::{Answer, GroupMachine, Outcome, Response, State, group_tombstone};
use crate::protocol::messages::describe_groups::DescribedGroup;
use crate::protocol::messages::list_groups::ListedGroup;
use crate::protocol::{ErrorCode, StrBytes};

/// From this version on a group that is not there is an error (KIP-1043); before, it is a dead group.
const GROUP_ID_NOT_FOUND: i16 = 6;
/// The only type of group so far.
const CLASSIC: &str = "classic";

impl GroupMachine {
    pub(super) fn describe(&self, version: i16, id: &StrBytes) -> DescribedGroup {
        let Some(group) = self.groups.get(id) else {
            let mut dead = DescribedGroup {
                group_id: id.clone(),
                group_state: StrBytes::from_static(State::Dead.name()),
                ..Default::default()
            };
            if version >= GROUP_ID_NOT_FOUND {
                dead.error_code = ErrorCode::GroupIdNotFound;
                dead.error_message = Some(StrBytes::from(format!("Group {id} not found.")));
            }
            return dead;
        };
        let stable = (group.state == State::Stable).then_some(group.protocol.as_ref()).flatten();
        DescribedGroup {
            group_id: group.id.clone(),
            group_state: StrBytes::from_static(group.state.name()),
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            protocol_data: stable.cloned().unwrap_or_default(),
            members: group.members.values().map(|m| m.describe(stable)).collect(),
            ..Default::default()
        }
    }

    pub(super) fn list(&self, states: &[StrBytes], types: &[StrBytes]) -> Vec<ListedGroup> {
        let named = |names: &[StrBytes], name: &str| {
            names.is_empty() || names.iter().any(|n| n.trim().eq_ignore_ascii_case(name))
        };
        if !named(types, CLASSIC) {
            return Vec::new();
        }
        self.groups
            .values()
            .filter(|group| named(states, group.state.name()))
            .map(|group| ListedGroup {
                group_id: group.id.clone(),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                group_state: StrBytes::from_static(group.state.name()),
                group_type: StrBytes::from_static(CLASSIC),
            })
            .collect()
    }

    /// Tombstones for a group without members and for its offsets.
    pub(super) fn delete(&self, id: &StrBytes, outcome: &mut Outcome) -> Answer {
        let group = self.groups.get(id).ok_or(ErrorCode::GroupIdNotFound)?;
        match group.state {
            State::Empty => {}
            State::Dead => return Err(ErrorCode::GroupIdNotFound),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                return Err(ErrorCode::NonEmptyGroup);
            }
        }
        outcome.records.extend(self.offsets.tombstones(id));
        outcome.records.push(group_tombstone(id));
        Ok(Response::Delete)
    }
}
