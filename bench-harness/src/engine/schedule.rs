//! When requests are meant to be sent: the instants are fixed by the schedule alone, whatever the
//! broker does, so that a stall is felt by every request that should have been sent during it.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::random::Random;

/// The shape of the arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "shape", deny_unknown_fields)]
pub enum Shape {
    /// Equal distances.
    Constant,
    /// Independent of each other: exponential distances.
    Poisson,
    /// So many at one instant, then a pause that keeps the rate.
    Bursts {
        /// Requests of a burst.
        requests: u32,
    },
    /// From `from` times the rate to `to` times the rate, evenly over the whole run.
    Ramp {
        /// At the beginning, as a part of the rate.
        from: f64,
        /// At the end.
        to: f64,
    },
}

/// So much a second, over all connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Requests, each with one batch.
    Requests(f64),
    /// Records.
    Records(f64),
    /// Bytes of record batches.
    Bytes(f64),
}

impl Rate {
    /// Requests a second, of batches of this size.
    #[must_use]
    pub fn requests(self, batch_bytes: f64, batch_records: f64) -> f64 {
        match self {
            Rate::Requests(requests) => requests,
            Rate::Records(records) => records / batch_records,
            Rate::Bytes(bytes) => bytes / batch_bytes,
        }
    }
}

impl std::str::FromStr for Rate {
    type Err = String;

    /// `100 MB/s`, `20000 records/s`, `500 requests/s`.
    fn from_str(text: &str) -> std::result::Result<Rate, String> {
        let wrong = || {
            format!(
                "{text:?} is no rate: say \"100 MB/s\", \"20000 records/s\" or \"500 requests/s\""
            )
        };
        let text = text.trim().strip_suffix("/s").ok_or_else(wrong)?;
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(unit_at);
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        if !number.is_finite() || number <= 0.0 {
            return Err(wrong());
        }
        Ok(match unit {
            "requests" => Rate::Requests(number),
            "records" => Rate::Records(number),
            "B" => Rate::Bytes(number),
            "KB" => Rate::Bytes(number * 1e3),
            "MB" => Rate::Bytes(number * 1e6),
            "GB" => Rate::Bytes(number * 1e9),
            "KiB" => Rate::Bytes(number * 1024.0),
            "MiB" => Rate::Bytes(number * 1024.0 * 1024.0),
            "GiB" => Rate::Bytes(number * 1024.0 * 1024.0 * 1024.0),
            _ => return Err(wrong()),
        })
    }
}

/// How the generator decides when to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Open loop: on a schedule.
    Open {
        /// How much.
        rate: Rate,
        /// When within the second.
        shape: Shape,
    },
    /// Closed loop: each answer allows the next request, so a slow broker is asked less. With enough
    /// requests in flight it gives the greatest rate; its latencies leave out what waited unsent.
    Closed,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pace::Open { rate, shape } = self else {
            return f.write_str("closed loop");
        };
        f.write_str("open loop, ")?;
        match rate {
            Rate::Requests(n) => write!(f, "{n:.0} requests/s, ")?,
            Rate::Records(n) => write!(f, "{n:.0} records/s, ")?,
            Rate::Bytes(n) => write!(f, "{} MB/s, ", n / 1e6)?,
        }
        match shape {
            Shape::Constant => f.write_str("constant"),
            Shape::Poisson => f.write_str("Poisson"),
            Shape::Bursts { requests } => write!(f, "in bursts of {requests}"),
            Shape::Ramp { from, to } => write!(f, "from {from} to {to} of that"),
        }
    }
}

impl Pace {
    /// Whether latencies count from a schedule.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Pace::Open { .. })
    }
}

/// The instants, in nanoseconds from the beginning, in order.
pub struct Schedule {
    shape: Shape,
    /// Requests per nanosecond.
    rate: f64,
    length_ns: f64,
    sent: u64,
    at: f64,
    random: Random,
    ready: VecDeque<u64>,
}

impl Schedule {
    /// A schedule of `requests_per_s` over `length`.
    ///
    /// # Errors
    /// If the rate is no rate.
    pub fn new(shape: Shape, requests_per_s: f64, length: Duration, seed: u64) -> Result<Schedule> {
        let sound = requests_per_s.is_finite() && requests_per_s > 0.0;
        let sound = sound
            && match shape {
                Shape::Bursts { requests } => requests > 0,
                Shape::Ramp { from, to } => from >= 0.0 && to > 0.0 && (from + to).is_finite(),
                Shape::Constant | Shape::Poisson => true,
            };
        if !sound {
            return Err(Error::Usage(format!(
                "{requests_per_s} requests per second as {shape:?} is no schedule"
            )));
        }
        Ok(Schedule {
            shape,
            rate: requests_per_s / 1e9,
            length_ns: length.as_secs_f64() * 1e9,
            sent: 0,
            at: 0.0,
            random: Random::new(seed),
            ready: VecDeque::new(),
        })
    }

    /// The next instant, without taking it.
    pub fn peek(&mut self) -> u64 {
        if let Some(at) = self.ready.front() {
            return *at;
        }
        let at = self.compute();
        self.ready.push_back(at);
        at
    }

    /// Takes the next instant.
    pub fn take(&mut self) -> u64 {
        let at = self.peek();
        self.ready.pop_front();
        at
    }

    /// From the number of the request rather than from the instant before, so that nothing adds up.
    fn compute(&mut self) -> u64 {
        let n = self.sent as f64;
        self.sent += 1;
        let at = match self.shape {
            Shape::Constant => n / self.rate,
            Shape::Poisson => {
                self.at += self.random.exponential() / self.rate;
                self.at
            }
            Shape::Bursts { requests } => {
                let requests = f64::from(requests);
                (n / requests).floor() * requests / self.rate
            }
            Shape::Ramp { from, to } => self.ramp(n, from, to),
        };
        at as u64
    }

    /// After t the ramp has sent `rate * (from t + (to - from) t^2 / 2L)`; this is the t at which that
    /// is n. Behind its end it goes on at the last rate.
    fn ramp(&self, n: f64, from: f64, to: f64) -> f64 {
        let length = self.length_ns.max(1.0);
        let all = self.rate * length * (from + to) / 2.0;
        if n >= all {
            return length + (n - all) / (self.rate * to);
        }
        let slope = (to - from) / length;
        let target = n / self.rate;
        if slope.abs() * length < 1e-9 {
            return target / from;
        }
        ((from * from + 2.0 * slope * target).max(0.0).sqrt() - from) / slope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instants(shape: Shape, rate: f64, count: usize) -> Vec<u64> {
        let mut schedule = Schedule::new(shape, rate, Duration::from_secs(10), 7).unwrap();
        (0..count).map(|_| schedule.take()).collect()
    }

    #[test]
    fn constant_is_even_and_does_not_drift() {
        let all = instants(Shape::Constant, 3000.0, 3_000_001);
        assert_eq!(all[0], 0);
        assert_eq!(all[3_000_000], 1_000_000_000_000);
        assert_eq!(all[3], 1_000_000);
    }

    #[test]
    fn poisson_keeps_the_rate_and_varies() {
        let all = instants(Shape::Poisson, 10_000.0, 100_001);
        let seconds = all[100_000] as f64 / 1e9;
        assert!((seconds - 10.0).abs() < 0.2, "{seconds}");
        let gaps: Vec<f64> = all.windows(2).map(|w| (w[1] - w[0]) as f64 / 1e5).collect();
        let variance = gaps.iter().map(|g| (g - 1.0).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn bursts_come_together_and_keep_the_rate() {
        let all = instants(Shape::Bursts { requests: 50 }, 1000.0, 1001);
        assert_eq!(all[0], all[49]);
        assert_eq!(all[50], 50_000_000);
        assert_eq!(all[1000], 1_000_000_000);
    }

    #[test]
    fn a_ramp_rises_to_its_end_and_stays_there() {
        let all = instants(Shape::Ramp { from: 0.0, to: 1.0 }, 1000.0, 7001);
        // Half of ten seconds at 1000 is 5000 requests; a quarter of them in half the time.
        assert!((all[1250] as f64 / 1e9 - 5.0).abs() < 0.01, "{}", all[1250]);
        assert!((all[5000] as f64 / 1e9 - 10.0).abs() < 0.01);
        assert!((all[7000] as f64 / 1e9 - 12.0).abs() < 0.01);
        assert!(all.is_sorted());
    }

    #[test]
    fn rates_have_units() {
        let rate = |text: &str| text.parse::<Rate>();
        assert_eq!(rate("100 MB/s"), Ok(Rate::Bytes(1e8)));
        assert_eq!(rate("1.5GiB/s"), Ok(Rate::Bytes(1.5 * 1_073_741_824.0)));
        assert_eq!(rate("20000 records/s").map(|r| r.requests(1.0, 10.0)), Ok(2000.0));
        assert_eq!(rate("500 requests/s").map(|r| r.requests(1.0, 10.0)), Ok(500.0));
        for wrong in ["", "100", "100 MB", "MB/s", "0 MB/s", "-1 records/s", "5 lines/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_rate_is_no_schedule() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Schedule::new(Shape::Constant, rate, Duration::ZERO, 1).is_err());
        }
    }
}
