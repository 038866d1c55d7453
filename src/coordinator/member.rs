//! A member of a group. Kafka's `ClassicGroupMember`.

use bytes::Bytes;

use super::Waiter;
use crate::protocol::StrBytes;
use crate::protocol::group_records::MemberMetadata;
use crate::protocol::messages::describe_groups::DescribedGroupMember;
use crate::protocol::messages::join_group::JoinGroupRequestProtocol;

/// A protocol a member can follow, and what it says about itself in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Protocol {
    pub(super) name: StrBytes,
    pub(super) metadata: Bytes,
}

impl Protocol {
    /// Detached from the request's frame, which would stay in memory as long as the member.
    pub(super) fn owned(protocols: &[JoinGroupRequestProtocol]) -> Vec<Protocol> {
        protocols
            .iter()
            .map(|p| Protocol {
                name: owned(&p.name),
                metadata: Bytes::copy_from_slice(&p.metadata),
            })
            .collect()
    }
}

/// A copy of its own, not a slice of a frame.
pub(super) fn owned(text: &StrBytes) -> StrBytes {
    StrBytes::from(text.as_str().to_owned())
}

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: StrBytes,
    /// What makes a member static: it keeps its assignment over restarts (KIP-345).
    pub(super) instance_id: Option<StrBytes>,
    pub(super) client_id: StrBytes,
    pub(super) client_host: StrBytes,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) protocol_type: StrBytes,
    /// In order of preference.
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// Its JoinGroup, when it is not answered.
    pub(super) awaiting_join: Option<Waiter>,
    /// Its SyncGroup, when it is not answered.
    pub(super) awaiting_sync: Option<Waiter>,
    /// It has never been in a generation: it expires although it waits for one.
    pub(super) is_new: bool,
}

impl Member {
    pub(super) fn loaded(stored: &MemberMetadata, protocol: StrBytes) -> Member {
        let rebalance_timeout_ms = match stored.rebalance_timeout {
            -1 => stored.session_timeout,
            timeout => timeout,
        };
        let metadata = Bytes::copy_from_slice(&stored.subscription);
        Member {
            id: owned(&stored.member_id),
            instance_id: stored.group_instance_id.as_ref().map(owned),
            client_id: owned(&stored.client_id),
            client_host: owned(&stored.client_host),
            rebalance_timeout_ms,
            session_timeout_ms: stored.session_timeout,
            protocol_type: StrBytes::default(),
            protocols: vec![Protocol { name: protocol, metadata }],
            assignment: Bytes::copy_from_slice(&stored.assignment),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    /// What it says about itself in a protocol.
    pub(super) fn metadata(&self, protocol: Option<&StrBytes>) -> Bytes {
        let known = self.protocols.iter().find(|p| Some(&p.name) == protocol);
        known.map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// Whether a silent session is no sign of failure.
    pub(super) fn is_waiting(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// The member as an administrator sees it; in a stable group with what it said and was assigned.
    pub(super) fn describe(&self, stable: Option<&StrBytes>) -> DescribedGroupMember {
        DescribedGroupMember {
            member_id: self.id.clone(),
            group_instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            member_metadata: stable.map(|p| self.metadata(Some(p))).unwrap_or_default(),
            member_assignment: match stable {
                Some(_) => self.assignment.clone(),
                None => Bytes::new(),
            },
        }
    }
}
