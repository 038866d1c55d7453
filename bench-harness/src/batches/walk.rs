//! The records of a batch one by one: their keys and values, and whether all are there and in order.

use millstream::record::BatchView;

use super::stamp::{Place, place};

/// What is wrong with the records of one of our batches, counted in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disorder {
    /// Places without a record.
    pub gaps: u64,
    /// Records that came twice.
    pub duplicates: u64,
    /// Records that came after a later one.
    pub reorders: u64,
    /// Records that cannot be read, or do not say their place.
    pub corrupt: u64,
}

/// Looks at every record of one of our batches.
#[must_use]
pub fn examine(batch: &BatchView<'_>) -> Disorder {
    let mut found = Disorder::default();
    let mut missing: Vec<u32> = Vec::new();
    let (mut next, mut count, mut first_seen) = (1_u32, None, 0_u64);
    // Not more gaps than that are told apart from reorders: the bytes may say anything.
    let most = u32::try_from(batch.header().records_count()).unwrap_or(0).saturating_add(1 << 16);
    for (at, value) in values(batch.payload()).enumerate() {
        match value.and_then(|value| place(value.bytes)) {
            None => found.corrupt += 1,
            Some(Place::FirstOf(_)) if first_seen > 0 => found.duplicates += 1,
            Some(Place::FirstOf(records)) => {
                first_seen += 1;
                found.reorders += u64::from(at > 0);
                count = Some(records);
            }
            Some(Place::At(index)) if index >= most => found.corrupt += 1,
            Some(Place::At(index)) if index >= next => {
                missing.extend(next..index);
                next = index + 1;
            }
            Some(Place::At(index)) => match missing.iter().position(|m| *m == index) {
                Some(at) => {
                    missing.swap_remove(at);
                    found.reorders += 1;
                }
                None => found.duplicates += 1,
            },
        }
    }
    found.gaps = missing.len() as u64
        + u64::from(first_seen == 0)
        + u64::from(count.map_or(0, |count| count.min(most).saturating_sub(next)));
    found
}

/// A record's key and value, and where in the payload the value lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Value<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) bytes: &'a [u8],
    pub(super) at: usize,
}

/// The values of an uncompressed payload; `None` in the place of a record that is not sound, after
/// which the walk ends. A null value is an empty one.
pub(crate) fn values(payload: &[u8]) -> impl Iterator<Item = Option<Value<'_>>> {
    let mut at = 0;
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || at == payload.len() {
            return None;
        }
        let value = value_at(payload, &mut at);
        broken = value.is_none();
        Some(value)
    })
}

fn value_at<'a>(payload: &'a [u8], at: &mut usize) -> Option<Value<'a>> {
    let length = varint(payload, at)?;
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let record = payload.get(..end)?;
    *at += 1; // attributes
    varint(record, at)?; // timestamp delta
    varint(record, at)?; // offset delta
    let key = nullable(record, at)?;
    let before = *at;
    let bytes = nullable(record, at)?.unwrap_or_default();
    let value_at = if bytes.is_empty() { before } else { *at - bytes.len() };
    *at = end;
    Some(Value { key, bytes, at: value_at })
}

fn nullable<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Option<&'a [u8]>> {
    let length = varint(bytes, at)?;
    if length == -1 {
        return Some(None);
    }
    let end = at.checked_add(usize::try_from(length).ok()?)?;
    let taken = bytes.get(*at..end)?;
    *at = end;
    Some(Some(taken))
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use millstream::record::BatchBuilder;
    use millstream::time::Timestamp;

    use super::super::stamp::{STAMP_BYTES, index_field};
    use super::*;

    /// A batch of five records of ours in that order.
    fn batch(order: &[usize]) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for index in order {
            let mut value = vec![0; STAMP_BYTES];
            value.extend(index_field(*index, 5));
            builder.record(Timestamp(1), None, Some(&value));
        }
        builder.build().unwrap()
    }

    #[test]
    fn every_disorder_has_its_name() {
        let sound = Disorder::default();
        for (order, expected) in [
            (&[0, 1, 2, 3, 4][..], sound),
            (&[0, 1, 3, 4], Disorder { gaps: 1, ..sound }),
            (&[0, 1, 2], Disorder { gaps: 2, ..sound }),
            (&[1, 2, 3, 4], Disorder { gaps: 1, ..sound }),
            (&[0, 1, 1, 2, 3, 4], Disorder { duplicates: 1, ..sound }),
            (&[0, 0, 1, 2, 3, 4], Disorder { duplicates: 1, ..sound }),
            (&[0, 2, 1, 3, 4], Disorder { reorders: 1, ..sound }),
            (&[1, 0, 2, 3, 4], Disorder { reorders: 1, ..sound }),
        ] {
            let bytes = batch(order);
            assert_eq!(examine(&BatchView::parse(&bytes).unwrap()), expected, "{order:?}");
        }
    }

    #[test]
    fn a_record_of_somebody_else_is_corrupt() {
        let mut builder = BatchBuilder::new();
        builder.record(Timestamp(1), None, Some(b"hello"));
        let bytes = builder.build().unwrap();
        assert_eq!(examine(&BatchView::parse(&bytes).unwrap()).corrupt, 1);
    }

    #[test]
    fn broken_payloads_end_the_walk() {
        for payload in [&[0xff_u8; 12][..], &[200, 1, 0, 0], &[2, 0], &[1]] {
            assert!(values(payload).last().unwrap().is_none(), "{payload:?}");
        }
        assert!(values(&[]).next().is_none());
    }
}
