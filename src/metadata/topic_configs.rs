//! Topic configs by Kafka's names: which there are, and which values are accepted.

enum Kind {
    Text(&'static [&'static str]),
    Number(i64, i64),
    Boolean,
    Ratio,
}

const I64: i64 = i64::MAX;
const I32: i64 = i32::MAX as i64;

/// Kafka 4.3's topic configs. Those that act today are said in `docs/compatibility.md`.
#[rustfmt::skip]
const CONFIGS: &[(&str, Kind)] = &[
    ("cleanup.policy", Kind::Text(&["delete"])),
    ("compression.type", Kind::Text(&["producer"])),
    ("delete.retention.ms", Kind::Number(0, I64)),
    ("file.delete.delay.ms", Kind::Number(0, I64)),
    ("flush.messages", Kind::Number(1, I64)),
    ("flush.ms", Kind::Number(0, I64)),
    ("index.interval.bytes", Kind::Number(0, I32)),
    ("max.compaction.lag.ms", Kind::Number(1, I64)),
    ("max.message.bytes", Kind::Number(0, I32)),
    ("message.timestamp.after.max.ms", Kind::Number(0, I64)),
    ("message.timestamp.before.max.ms", Kind::Number(0, I64)),
    ("message.timestamp.type", Kind::Text(&["CreateTime", "LogAppendTime"])),
    ("min.cleanable.dirty.ratio", Kind::Ratio),
    ("min.compaction.lag.ms", Kind::Number(0, I64)),
    ("min.insync.replicas", Kind::Number(1, I32)),
    ("preallocate", Kind::Boolean),
    ("retention.bytes", Kind::Number(-1, I64)),
    ("retention.ms", Kind::Number(-1, I64)),
    ("segment.bytes", Kind::Number(1024 * 1024, I32)),
    ("segment.index.bytes", Kind::Number(4, I32)),
    ("segment.jitter.ms", Kind::Number(0, I64)),
    ("segment.ms", Kind::Number(1, I64)),
    ("unclean.leader.election.enable", Kind::Boolean),
];

/// Checks a topic config.
///
/// # Errors
/// Says what is wrong with it, for the client.
pub fn check(name: &str, value: &str) -> Result<(), String> {
    let Some((_, kind)) = CONFIGS.iter().find(|(known, _)| *known == name) else {
        return Err(format!("Unknown topic config name: {name}"));
    };
    let fits = match kind {
        Kind::Text(words) => words.contains(&value),
        Kind::Number(min, max) => value.parse().is_ok_and(|n: i64| (*min..=*max).contains(&n)),
        Kind::Boolean => matches!(value, "true" | "false"),
        Kind::Ratio => value.parse().is_ok_and(|r: f64| (0.0..=1.0).contains(&r)),
    };
    if fits {
        return Ok(());
    }
    let expected = match kind {
        Kind::Text(words) => format!("one of {} (others are not served yet)", words.join(", ")),
        Kind::Number(min, max) => format!("a number from {min} to {max}"),
        Kind::Boolean => "true or false".to_owned(),
        Kind::Ratio => "a number from 0 to 1".to_owned(),
    };
    Err(format!("Invalid value {value} for configuration {name}: must be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert!(check("segment.bytes", "1048576").is_ok());
        assert!(check("segment.bytes", "12").unwrap_err().contains("1048576"));
        assert!(check("segment.byts", "12").unwrap_err().contains("Unknown"));
        assert!(check("cleanup.policy", "compact").unwrap_err().contains("not served yet"));
        assert!(check("message.timestamp.type", "LogAppendTime").is_ok());
    }
}
