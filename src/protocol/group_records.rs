//! The keys and values of `__consumer_offsets`, in the notation of the messages.
//!
//! Each begins with two bytes: in a key they tell what the record is, in a value they are its version.
//! Kafka's definitions are `OffsetCommitKey`, `OffsetCommitValue`, `GroupMetadataKey` and
//! `GroupMetadataValue` of its group coordinator.

use bytes::Bytes;

use super::failure::{DecodeCause, DecodeError, EncodeError};
use super::reader::Reader;
use super::string::StrBytes;
use super::wire::{Field, Version};
use super::writer::Writer;
use crate::types::Uuid;

/// The key of a committed offset. Kafka wrote 0 before offsets had metadata, and reads both.
const OFFSET_COMMIT: i16 = 1;
const OFFSET_COMMIT_OLD: i16 = 0;
/// The key of a group's metadata.
const GROUP_METADATA: i16 = 2;
/// The versions in which values are written: the newest that are not flexible.
const OFFSET_COMMIT_VALUE: i16 = 3;
/// The only version that carries an expiration of its own (OffsetCommit 2 to 4).
const OFFSET_COMMIT_VALUE_EXPIRING: i16 = 1;
const GROUP_METADATA_VALUE: i16 = 3;
/// The newest version of either value, and the first flexible one.
const VALUE_MAX: i16 = 4;

const FIXED: Version = Version { number: 0, flexible: false };

messages! {
    /// Whose offset it is.
    struct OffsetCommitKey {
        group: StrBytes [..];
        topic: StrBytes [..];
        partition: i32 [..];
    }

    /// A committed offset.
    struct OffsetCommitValue {
        offset: i64 [..];
        leader_epoch: i32 [3..] = -1;
        metadata: StrBytes [..];
        commit_timestamp: i64 [..];
        expire_timestamp: i64 [1..=1] = -1;
        topic_id: Uuid [4..] tag 0;
    }

    /// Which group it is.
    struct GroupMetadataKey {
        group: StrBytes [..];
    }

    /// A generation of a group.
    struct GroupMetadataValue {
        protocol_type: StrBytes [..];
        generation: i32 [..];
        protocol: Option<StrBytes> [..];
        leader: Option<StrBytes> [..];
        current_state_timestamp: i64 [2..] = -1;
        members: Vec<MemberMetadata> [..];
    }

    /// A member of a generation.
    struct MemberMetadata {
        member_id: StrBytes [..];
        group_instance_id: Option<StrBytes> [3..];
        client_id: StrBytes [..];
        client_host: StrBytes [..];
        rebalance_timeout: i32 [1..] = -1;
        session_timeout: i32 [..];
        subscription: Bytes [..];
        assignment: Bytes [..];
    }
}

/// A record of `__consumer_offsets`. Without a value it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// A committed offset.
    Offset(OffsetCommitKey, Option<OffsetCommitValue>),
    /// A group's metadata.
    Group(GroupMetadataKey, Option<GroupMetadataValue>),
}

impl GroupRecord {
    /// The record's key as Kafka writes it.
    ///
    /// # Errors
    /// A name is longer than the format can say.
    pub fn encode_key(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        match self {
            GroupRecord::Offset(key, _) => {
                writer.i16(OFFSET_COMMIT);
                key.encode(&mut writer, FIXED)?;
            }
            GroupRecord::Group(key, _) => {
                writer.i16(GROUP_METADATA);
                key.encode(&mut writer, FIXED)?;
            }
        }
        writer.into_bytes()
    }

    /// The record's value as Kafka writes it; `None` for a tombstone.
    ///
    /// # Errors
    /// A text or an array is longer than the format can say.
    pub fn encode_value(&self) -> Result<Option<Bytes>, EncodeError> {
        let mut writer = Writer::new();
        match self {
            GroupRecord::Offset(_, None) | GroupRecord::Group(_, None) => return Ok(None),
            GroupRecord::Offset(_, Some(value)) => {
                let number = if value.expire_timestamp == -1 {
                    OFFSET_COMMIT_VALUE
                } else {
                    OFFSET_COMMIT_VALUE_EXPIRING
                };
                writer.i16(number);
                value.encode(&mut writer, Version { number, flexible: false })?;
            }
            GroupRecord::Group(_, Some(value)) => {
                let number = GROUP_METADATA_VALUE;
                writer.i16(number);
                value.encode(&mut writer, Version { number, flexible: false })?;
            }
        }
        Ok(Some(writer.into_bytes()?))
    }

    /// Reads a record; `Ok(None)` if its key is of a kind that is not known here, such as those of the
    /// groups of KIP-848.
    ///
    /// # Errors
    /// The bytes are no such record.
    pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<GroupRecord>, DecodeError> {
        let mut key = Reader::new(key);
        match key.i16()? {
            OFFSET_COMMIT | OFFSET_COMMIT_OLD => {
                let key = OffsetCommitKey::decode(&mut key, FIXED)?;
                let value = versioned(value, OffsetCommitValue::decode)?;
                Ok(Some(GroupRecord::Offset(key, value)))
            }
            GROUP_METADATA => {
                let key = GroupMetadataKey::decode(&mut key, FIXED)?;
                let value = versioned(value, GroupMetadataValue::decode)?;
                Ok(Some(GroupRecord::Group(key, value)))
            }
            _ => Ok(None),
        }
    }
}

fn versioned<T>(
    value: Option<Bytes>,
    decode: impl FnOnce(&mut Reader, Version) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::new(value);
    let number = reader.i16()?;
    if !(0..=VALUE_MAX).contains(&number) {
        return Err(DecodeCause::UnknownVersion { number }.into());
    }
    let version = Version { number, flexible: number >= VALUE_MAX };
    decode(&mut reader, version).map(Some)
}
