//! The records of `__consumer_offsets` against bytes that Kafka's own group coordinator made
//! (`data/groups/generator/README.md`), and against bytes nobody made.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use millstream::protocol::StrBytes;
use millstream::protocol::group_records::{
    GroupMetadataKey, GroupMetadataValue, GroupRecord, MemberMetadata, OffsetCommitKey,
    OffsetCommitValue,
};
use millstream::types::Uuid;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

struct Golden {
    name: String,
    version: i16,
    key: Bytes,
    value: Option<Bytes>,
}

fn golden() -> Result<Vec<Golden>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/groups/records.txt");
    let text = fs::read_to_string(path)?;
    let mut found = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, version, key, value] = words.as_slice() else {
            return Err(format!("not a golden record: {line}").into());
        };
        found.push(Golden {
            name: (*name).to_owned(),
            version: version.parse()?,
            key: hex(key)?,
            value: if *value == "-" { None } else { Some(hex(value)?) },
        });
    }
    Ok(found)
}

fn hex(text: &str) -> Result<Bytes> {
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    text.as_bytes().chunks(2).map(byte).collect()
}

fn offset_key() -> OffsetCommitKey {
    OffsetCommitKey {
        group: StrBytes::from("zamówienia"),
        topic: StrBytes::from("web-access"),
        partition: 7,
    }
}

fn group_key() -> GroupMetadataKey {
    GroupMetadataKey { group: StrBytes::from("zamówienia") }
}

/// What `GroupGolden.java` put in, as far as the version can say it.
fn expected(name: &str, version: i16) -> Result<GroupRecord> {
    Ok(match name {
        "offset" => {
            let value = OffsetCommitValue {
                offset: 123_456_789_012,
                leader_epoch: if version >= 3 { 5 } else { -1 },
                metadata: StrBytes::from("nota bene: żółw"),
                commit_timestamp: 1_700_000_000_123,
                expire_timestamp: if version == 1 { 1_700_000_600_123 } else { -1 },
                topic_id: if version >= 4 {
                    Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)
                } else {
                    Uuid::nil()
                },
            };
            GroupRecord::Offset(offset_key(), Some(value))
        }
        "group" | "group-empty" => {
            let full = name == "group";
            let text = |text: &'static str| full.then(|| StrBytes::from(text));
            let value = GroupMetadataValue {
                protocol_type: text("consumer").unwrap_or_default(),
                generation: if full { 17 } else { 0 },
                protocol: text("range"),
                leader: text("one-1"),
                current_state_timestamp: if version >= 2 { 1_700_000_000_321 } else { -1 },
                members: if full {
                    vec![
                        member(version, "one-1", None, &[0, 1, 2], &[3, 4]),
                        member(version, "two-2", Some("two"), &[], &[5]),
                    ]
                } else {
                    Vec::new()
                },
            };
            GroupRecord::Group(group_key(), Some(value))
        }
        "offset-tombstone" => GroupRecord::Offset(offset_key(), None),
        "group-tombstone" => GroupRecord::Group(group_key(), None),
        other => return Err(format!("no such golden record: {other}").into()),
    })
}

fn member(
    version: i16,
    id: &'static str,
    instance: Option<&'static str>,
    subscription: &'static [u8],
    assignment: &'static [u8],
) -> MemberMetadata {
    MemberMetadata {
        member_id: StrBytes::from(id),
        group_instance_id: instance.filter(|_| version >= 3).map(StrBytes::from),
        client_id: StrBytes::from("client"),
        client_host: StrBytes::from("/127.0.0.1"),
        rebalance_timeout: if version >= 1 { 60_000 } else { -1 },
        session_timeout: 45_000,
        subscription: Bytes::from_static(subscription),
        assignment: Bytes::from_static(assignment),
    }
}

#[test]
fn kafkas_records_are_read_in_every_version() -> Result {
    let mut seen = BTreeSet::new();
    for golden in golden()? {
        let read = GroupRecord::decode(golden.key, golden.value)?;
        assert_eq!(read, Some(expected(&golden.name, golden.version)?), "{}", golden.name);
        seen.insert((golden.name, golden.version));
    }
    assert_eq!(seen.len(), 17);
    Ok(())
}

#[test]
fn records_are_written_as_kafka_writes_them() -> Result {
    // Version 1 is only for offsets with an expiration of their own.
    let written = |g: &Golden| matches!((g.name.as_str(), g.version), (_, 3 | -1) | ("offset", 1));
    let mut count = 0;
    for golden in golden()?.into_iter().filter(written) {
        let mut record = expected(&golden.name, golden.version)?;
        if let (GroupRecord::Offset(_, Some(value)), 1) = (&mut record, golden.version) {
            value.leader_epoch = -1;
        }
        assert_eq!(record.encode_key()?, golden.key, "{}", golden.name);
        assert_eq!(record.encode_value()?, golden.value, "{}", golden.name);
        count += 1;
    }
    assert_eq!(count, 6);
    Ok(())
}

#[test]
fn bytes_cut_short_or_changed_are_errors_and_never_panic() -> Result {
    for golden in golden()? {
        let whole = GroupRecord::decode(golden.key.clone(), golden.value.clone())?;
        for end in 0..golden.key.len() {
            let cut = golden.key.slice(..end);
            assert!(GroupRecord::decode(cut, golden.value.clone()).is_err(), "key to {end}");
        }
        let Some(value) = golden.value else { continue };
        for end in 0..value.len() {
            let cut = GroupRecord::decode(golden.key.clone(), Some(value.slice(..end)));
            assert!(cut.is_err(), "{} {} to {end}", golden.name, golden.version);
        }
        for at in 0..value.len() {
            let mut changed = value.to_vec();
            changed[at] ^= 0x80;
            // Read as something else or refused, but read at once and without a panic.
            if let Ok(read) = GroupRecord::decode(golden.key.clone(), Some(changed.into())) {
                assert_ne!(read, whole, "{} {} at {at}", golden.name, golden.version);
            }
        }
    }
    let unknown_version = GroupRecord::decode(
        GroupRecord::Group(group_key(), None).encode_key()?,
        Some(Bytes::from_static(&[0, 5])),
    );
    assert!(unknown_version.is_err());
    Ok(())
}

#[test]
fn keys_of_other_kinds_are_left_out() -> Result {
    // 3 is the key of a group of KIP-848.
    let other = Bytes::from_static(&[0, 3, 0, 1, b'g']);
    assert_eq!(GroupRecord::decode(other, Some(Bytes::from_static(&[0, 0])))?, None);
    Ok(())
}
