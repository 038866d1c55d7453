//! Leader epochs and where each began (KIP-101), as Kafka's `LeaderEpochFileCache` answers of them.

use std::fmt::Write;

use crate::types::{LeaderEpoch, Offset};

/// Where an epoch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch asked for, or the last one below it that there was.
    pub epoch: LeaderEpoch,
    /// Offset after its last record.
    pub end: Offset,
}

/// Where `asked` ended, of epochs with the offset each began at, in a log from `log_start` to `end`.
/// `None` if the epoch was never heard of.
#[must_use]
pub fn epoch_end(
    epochs: &[(LeaderEpoch, Offset)],
    asked: LeaderEpoch,
    log_start: Offset,
    end: Offset,
) -> Option<EpochEnd> {
    let (last, _) = epochs.last()?;
    if asked == *last {
        return Some(EpochEnd { epoch: asked, end });
    }
    let after = epochs.partition_point(|(epoch, _)| *epoch <= asked);
    let (_, next) = epochs.get(after)?;
    // Epochs that ended at or below the log start are forgotten.
    let known = (asked.0 >= 0 && *next > log_start).then_some(after).and_then(|a| a.checked_sub(1));
    let epoch = known.and_then(|at| epochs.get(at)).map_or(asked, |(epoch, _)| *epoch);
    (asked.0 >= 0).then_some(EpochEnd { epoch, end: (*next).max(log_start) })
}

/// The epoch of the record at `offset`.
#[must_use]
pub fn epoch_at(epochs: &[(LeaderEpoch, Offset)], offset: Offset) -> Option<LeaderEpoch> {
    let after = epochs.partition_point(|(_, began)| *began <= offset);
    epochs.get(after.checked_sub(1)?).map(|(epoch, _)| *epoch)
}

/// The text of Kafka's `leader-epoch-checkpoint` for the epochs that began below `end`.
#[must_use]
pub fn checkpoint_text(epochs: &[(LeaderEpoch, Offset)], end: Offset) -> String {
    let known = epochs.partition_point(|(_, began)| *began < end);
    let known = epochs.get(..known).unwrap_or(&[]);
    let mut text = format!("0\n{}\n", known.len());
    for (epoch, began) in known {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {began}", epoch.0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCHS: [(LeaderEpoch, Offset); 3] =
        [(LeaderEpoch(1), Offset(0)), (LeaderEpoch(4), Offset(10)), (LeaderEpoch(5), Offset(30))];

    fn end(asked: i32, log_start: i64) -> Option<(i32, i64)> {
        let found = epoch_end(&EPOCHS, LeaderEpoch(asked), Offset(log_start), Offset(50));
        found.map(|found| (found.epoch.0, found.end.0))
    }

    #[test]
    fn epochs_end_where_the_next_begins() {
        assert_eq!(end(5, 0), Some((5, 50)));
        assert_eq!(end(4, 0), Some((4, 30)));
        // There was no 3: what was before it ended there.
        assert_eq!(end(3, 0), Some((1, 10)));
        assert_eq!(end(1, 0), Some((1, 10)));
        assert_eq!(end(0, 0), Some((0, 0)));
        assert_eq!(end(6, 0), None);
        assert_eq!(end(-1, 0), None);
        assert_eq!(epoch_end(&[], LeaderEpoch(0), Offset(0), Offset(0)), None);
    }

    #[test]
    fn epochs_below_the_log_start_are_forgotten() {
        assert_eq!(end(1, 20), Some((1, 20)));
        assert_eq!(end(3, 20), Some((3, 20)));
        assert_eq!(end(4, 20), Some((4, 30)));
        assert_eq!(epoch_at(&EPOCHS, Offset(0)), Some(LeaderEpoch(1)));
        assert_eq!(epoch_at(&EPOCHS, Offset(10)), Some(LeaderEpoch(4)));
        assert_eq!(epoch_at(&EPOCHS, Offset(99)), Some(LeaderEpoch(5)));
        assert_eq!(epoch_at(&[], Offset(99)), None);
    }

    #[test]
    fn the_checkpoint_is_kafkas_text() {
        assert_eq!(checkpoint_text(&EPOCHS, Offset(30)), "0\n2\n1 0\n4 10\n");
        assert_eq!(checkpoint_text(&[], Offset(30)), "0\n0\n");
    }
}
