//! The only reader of clocks. Everything below `shard` is given `now`.

use std::time::Duration;

/// Milliseconds since the Unix epoch, as in Kafka's record timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// Nanoseconds on a clock that never goes back; its zero is arbitrary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(pub u64);

impl Monotonic {
    /// The instant `later` from this one.
    #[must_use]
    pub fn plus(self, later: Duration) -> Monotonic {
        Monotonic(
            self.0
                .saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// The wall clock, in milliseconds.
    #[must_use]
    pub fn timestamp() -> Timestamp {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp(
            t.tv_sec
                .saturating_mul(1000)
                .saturating_add(t.tv_nsec / 1_000_000),
        )
    }

    /// The monotonic clock.
    #[must_use]
    pub fn monotonic() -> Monotonic {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let sec = u64::try_from(t.tv_sec).unwrap_or(0);
        let nsec = u64::try_from(t.tv_nsec).unwrap_or(0);
        Monotonic(sec.saturating_mul(1_000_000_000).saturating_add(nsec))
    }
}
