//! The highest rate that holds an objective: each rate is tried with a run of its own, so nothing of an
//! overload is carried into the next.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::plan::Plan;
use crate::engine::schedule::{Pace, Rate, Shape};
use crate::engine::{self, Progress};
use crate::error::{Error, Result};
use crate::result::RunResult;
use crate::workload::Objective;

/// One rate that was tried.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Requests a second.
    pub requests_per_s: f64,
    /// 10^9 bytes a second, as achieved.
    pub gb_per_s: f64,
    /// The latency the objective bounds, in milliseconds.
    pub ms: f64,
    /// Whether the objective held.
    pub held: bool,
}

/// What the search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The rates tried, in order; the first is the greatest rate of a closed loop.
    pub trials: Vec<Trial>,
    /// The run at the highest rate that held, over the whole length; none if none did.
    pub best: Option<RunResult>,
}

/// The search ends when the rates that hold and that do not are this close.
const CLOSE_ENOUGH: f64 = 1.04;
const TRIALS_MAX: usize = 9;
/// Where the long run does not hold what the short one did, the rate is lowered so far, so often.
const STEP_DOWN: f64 = 0.95;
const STEPS_DOWN_MAX: usize = 4;

/// Searches the highest rate at which `plan` holds `objective`, with trials of `trial`; `progress` hears
/// of all of them.
///
/// # Errors
/// If a run cannot begin, or even the closed loop is not clean.
pub fn find_max(
    plan: &Plan,
    objective: &Objective,
    trial: Duration,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Found> {
    let produce = plan.produce.clone();
    let produce = produce.ok_or_else(|| Error::Usage("nothing is produced".to_owned()))?;
    let shape = match produce.pace {
        Pace::Open { shape, .. } => shape,
        Pace::Closed => Shape::Poisson,
    };
    let mut at = |pace: Pace, whole: bool| {
        let mut plan = Plan {
            produce: Some(crate::engine::plan::ProduceSpec { pace, ..produce.clone() }),
            ..plan.clone()
        };
        if !whole {
            plan.warm_up = (trial / 5).max(Duration::from_millis(500)).min(plan.warm_up);
            plan.duration = Some(trial);
            plan.interval = trial / 10;
        }
        engine::run(&plan, progress)
    };
    let open = |requests: f64| Pace::Open { rate: Rate::Requests(requests), shape };
    let greatest = at(Pace::Closed, false)?;
    if !greatest.is_clean() {
        return Err(Error::Peer(format!(
            "the closed loop was not clean: {:?} {:?} {:?}",
            greatest.broken, greatest.errors, greatest.findings
        )));
    }
    let rate = greatest.produced.requests as f64 / greatest.elapsed.as_secs_f64().max(1e-9);
    let mut trials = vec![look(&greatest, objective, rate)];
    trials[0].held = false;
    let (mut holds, mut fails) = (0.0, rate * 1.1);
    while trials.len() < TRIALS_MAX && fails > holds * CLOSE_ENOUGH {
        let next = if holds == 0.0 { fails * 0.6 } else { f64::midpoint(holds, fails) };
        let result = at(open(next), false)?;
        let trial = look(&result, objective, next);
        trials.push(trial);
        if trial.held { holds = next } else { fails = next }
    }
    let mut best = None;
    for _ in 0..STEPS_DOWN_MAX {
        if holds == 0.0 {
            break;
        }
        let result = at(open(holds), true)?;
        trials.push(look(&result, objective, holds));
        if objective.holds(&result) {
            best = Some(result);
            break;
        }
        holds *= STEP_DOWN;
    }
    Ok(Found { trials, best })
}

fn look(result: &RunResult, objective: &Objective, requests_per_s: f64) -> Trial {
    Trial {
        requests_per_s,
        gb_per_s: result.gb_per_s(),
        ms: objective.of(&result.latency(&objective.latency)),
        held: objective.holds(result),
    }
}
