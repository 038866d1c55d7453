//! What concerns groups: sessions, rebalances, committed offsets and the topic that holds them.

use std::time::Duration;

use super::{Checked, ConfigError, MINUTE};

/// Settings of the group coordinator. Each field has its key's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_ms_max: i32,
    /// `group.max.size`.
    pub members_max: usize,
    /// `offset.metadata.max.bytes`; counted in characters of UTF-16, as Kafka does.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check: Duration,
    /// `offsets.topic.num.partitions`.
    pub topic_partitions: i32,
    /// `offsets.topic.segment.bytes`.
    pub topic_segment_bytes: i64,
    /// `message.max.bytes`: a record batch of the coordinator is not larger.
    pub batch_bytes_max: usize,
}

impl GroupSettings {
    pub(super) fn new(checked: &Checked<'_>) -> Result<GroupSettings, ConfigError> {
        let ms = |key| Ok(Duration::from_millis(checked.number(key)?));
        Ok(GroupSettings {
            initial_rebalance_delay: ms("group.initial.rebalance.delay.ms")?,
            session_timeout_ms_min: checked.number("group.min.session.timeout.ms")?,
            session_timeout_ms_max: checked.number("group.max.session.timeout.ms")?,
            members_max: checked.number("group.max.size")?,
            offset_metadata_max: checked.number("offset.metadata.max.bytes")?,
            offsets_retention_ms: checked
                .number::<i64>("offsets.retention.minutes")?
                .saturating_mul(MINUTE),
            offsets_retention_check: ms("offsets.retention.check.interval.ms")?,
            topic_partitions: checked.number("offsets.topic.num.partitions")?,
            topic_segment_bytes: checked.number("offsets.topic.segment.bytes")?,
            batch_bytes_max: checked.number("message.max.bytes")?,
        })
    }
}
