//! Errors of the tests, and waiting.

use std::fmt;
use std::time::Duration;

use millstream::time::Clock;

/// Why a test failed. `Debug` is what the test run prints.
pub(crate) struct Failure(String);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A failure saying `why`.
pub(crate) fn failure(why: impl Into<String>) -> Failure {
    Failure(why.into())
}

/// Fails saying `why` unless `good`.
pub(crate) fn ensure(good: bool, why: impl FnOnce() -> String) -> Result<()> {
    if good { Ok(()) } else { Err(Failure(why())) }
}

pub(crate) trait Context<T> {
    /// Says where the failure happened.
    fn context(self, place: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Failure(format!("{}: {}", place(), e.into().0)))
    }
}

/// Waits until `attempt` yields something. `limit` only bounds a wait that would never end.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Clock::monotonic();
    loop {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        if Clock::monotonic().since(started) > limit {
            return Err(Failure(format!("waited {limit:?} in vain: {what}")));
        }
        pause(Duration::from_millis(2));
    }
}

/// Lets `time` pass: between two looks at a condition, or where the passing of time is the input.
#[expect(
    clippy::disallowed_methods,
    reason = "a test thread is no shard, and another process has no wake-up to wait on"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
