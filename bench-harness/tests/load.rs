//! Produce, fetch, verify and replay against a broker in memory, honest and not.

mod fake;

use std::error::Error;
use std::time::Duration;

use bench_harness::engine;
use bench_harness::engine::payload::Payload;
use bench_harness::engine::plan::{Acks, FetchSpec, Plan, ProduceSpec, Range};
use bench_harness::engine::schedule::{Pace, Rate, Shape};
use bench_harness::oracle::Verdict;
use bench_harness::replay::{self, ReplaySpec};
use bench_harness::result::RunResult;
use bench_harness::state::State;
use fake::{FakeBroker, Fault};

type Outcome = Result<(), Box<dyn Error>>;

/// Twenty batches on each of three partitions.
fn spec() -> ProduceSpec {
    ProduceSpec {
        connections: 3,
        payload: Payload::Filler { batch_bytes: 2000, record_bytes: 100 },
        bytes: Some(60 * 2000 - 1000),
        ..ProduceSpec::new("t")
    }
}

fn spec_without_end() -> ProduceSpec {
    ProduceSpec { bytes: None, ..spec() }
}

fn produce(broker: &FakeBroker, spec: ProduceSpec) -> Result<RunResult, Box<dyn Error>> {
    Ok(engine::run(&Plan::produce(&broker.address, spec), &mut |_| ())?)
}

fn fetch(broker: &FakeBroker, spec: FetchSpec) -> Result<RunResult, Box<dyn Error>> {
    Ok(engine::run(&Plan::fetch(&broker.address, spec), &mut |_| ())?)
}

/// Produces with that fault, then verifies against the state file.
fn produce_and_verify(fault: Fault) -> Result<(RunResult, Verdict), Box<dyn Error>> {
    let broker = FakeBroker::start(fault)?;
    let directory = tempfile::tempdir()?;
    let state = directory.path().join("state");
    let produced = produce(&broker, ProduceSpec { state: Some(state.clone()), ..spec() })?;
    let whole = FetchSpec {
        acked: Some(State::read(&state)?),
        connections: 2,
        // Smaller than two batches, so that fetches end inside batches.
        partition_bytes: 3000,
        ..FetchSpec::new("t", Range::Whole)
    };
    let verified = fetch(&broker, whole)?;
    Ok((produced, verified.verdict.ok_or("no verdict")?))
}

#[test]
fn what_an_honest_broker_holds_is_clean() -> Outcome {
    let (produced, verdict) = produce_and_verify(Fault::Nothing)?;
    assert!(produced.is_clean(), "{produced:?}");
    assert_eq!((produced.produced.requests, produced.latency("ack").count), (60, 60));
    assert_eq!((verdict.batches, verdict.records), (60, produced.produced.records));
    assert!(verdict.is_clean() && verdict.gaps == 0, "{verdict:?}");
    Ok(())
}

#[test]
fn each_fault_is_found() -> Outcome {
    // Each strikes once on each of the three partitions.
    let (_, lost) = produce_and_verify(Fault::Lose(5))?;
    assert_eq!((lost.lost, lost.gaps), (3, 3), "{lost:?}");
    let (_, last) = produce_and_verify(Fault::Lose(19))?;
    assert!(last.lost > 0 && !last.is_clean(), "the last of a partition: {last:?}");
    let (_, doubled) = produce_and_verify(Fault::Double(5))?;
    assert_eq!((doubled.duplicates, doubled.lost), (3, 0), "{doubled:?}");
    let (_, exchanged) = produce_and_verify(Fault::Exchange(5))?;
    assert_eq!(
        (exchanged.reorders, exchanged.duplicates, exchanged.lost),
        (3, 0, 0),
        "{exchanged:?}"
    );
    let (_, changed) = produce_and_verify(Fault::Change(5))?;
    assert_eq!(changed.corrupt, 3, "{changed:?}");
    Ok(())
}

#[test]
fn a_refused_batch_is_an_error_of_the_run_and_not_lost() -> Outcome {
    let (produced, verdict) = produce_and_verify(Fault::Refuse(5))?;
    assert!(!produced.is_clean());
    assert_eq!(produced.errors.get("KafkaStorageError"), Some(&3), "{produced:?}");
    assert_eq!((produced.produced.requests, verdict.batches), (57, 57));
    assert!(verdict.is_clean(), "{verdict:?}");
    Ok(())
}

#[test]
fn a_broker_that_dies_leaves_what_it_acknowledged_on_file() -> Outcome {
    let broker = FakeBroker::start(Fault::Die(7))?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("state");
    let produced = produce(&broker, ProduceSpec { state: Some(path.clone()), ..spec() })?;
    assert!(produced.broken.is_some() && !produced.is_clean(), "{produced:?}");
    let state = State::read(&path)?;
    assert_eq!(state.streams.values().map(|a| a.end).sum::<u64>(), produced.produced.requests);
    // Whatever answers at that address later lacks it all, the topic to begin with.
    let other = FakeBroker::start(Fault::Nothing)?;
    let whole = FetchSpec { acked: Some(state), ..FetchSpec::new("t", Range::Whole) };
    assert!(fetch(&other, whole).is_err());
    Ok(())
}

#[test]
fn without_acks_everything_arrives_before_the_run_ends() -> Outcome {
    let broker = FakeBroker::start(Fault::Nothing)?;
    let produced = produce(&broker, ProduceSpec { acks: Acks::None, ..spec() })?;
    assert!(produced.is_clean(), "{produced:?}");
    let read = fetch(&broker, FetchSpec::new("t", Range::Whole))?;
    assert_eq!(read.verdict.map(|v| v.batches), Some(60));
    Ok(())
}

#[test]
fn a_repeated_fetch_reads_the_same_again() -> Outcome {
    let broker = FakeBroker::start(Fault::Nothing)?;
    produce(&broker, spec())?;
    let again = FetchSpec {
        connections: 2,
        in_flight: 3,
        partition_bytes: 10_000,
        bytes: Some(1_000_000),
        ..FetchSpec::new("t", Range::Repeat)
    };
    let read = fetch(&broker, again)?;
    assert!(read.is_clean(), "{read:?}");
    assert!(
        read.fetched.bytes >= 1_000_000 && read.verdict.is_some_and(|v| v.batches > 400),
        "{read:?}"
    );
    Ok(())
}

#[test]
fn the_tail_brings_what_is_produced_meanwhile() -> Outcome {
    let broker = FakeBroker::start(Fault::Nothing)?;
    produce(&broker, spec())?;
    let follow = FetchSpec {
        bytes: Some(100_000),
        wait: Duration::ZERO,
        ..FetchSpec::new("t", Range::Tail)
    };
    let duration = Some(Duration::from_secs(20));
    let follow = Plan { duration, ..Plan::fetch(&broker.address, follow) };
    let follower =
        std::thread::spawn(move || engine::run(&follow, &mut |_| ()).map_err(|e| e.to_string()));
    // Until the follower has had its fill, whenever it began.
    while !follower.is_finished() {
        produce(&broker, spec())?;
    }
    let read = follower.join().map_err(|_| "the follower panicked")??;
    assert!(read.is_clean() && read.fetched.bytes >= 100_000, "{read:?}");
    Ok(())
}

#[test]
fn an_open_loop_sends_on_schedule_and_everything_comes_back() -> Outcome {
    let broker = FakeBroker::start(Fault::Nothing)?;
    produce(&broker, spec())?;
    let shapes = [
        Shape::Constant,
        Shape::Poisson,
        Shape::Bursts { requests: 10 },
        Shape::Ramp { from: 0.5, to: 1.5 },
    ];
    for shape in shapes {
        let pace = Pace::Open { rate: Rate::Requests(500.0), shape };
        let follow = FetchSpec { wait: Duration::ZERO, ..FetchSpec::new("t", Range::Tail) };
        let plan = Plan {
            fetch: vec![follow],
            warm_up: Duration::from_millis(200),
            duration: Some(Duration::from_millis(800)),
            interval: Duration::from_millis(200),
            ..Plan::produce(
                &broker.address,
                ProduceSpec { pace, in_flight: 1000, ..spec_without_end() },
            )
        };
        let mut told = 0;
        let result = engine::run(&plan, &mut |_| told += 1)?;
        assert!(result.is_clean(), "{shape:?}: {result:?}");
        let scheduled = result.latency("lateness").count;
        // Of 400 those that the shape puts into the measured part.
        assert!((320..=520).contains(&scheduled), "{shape:?}: {scheduled}");
        assert_eq!(result.latency("ack").count, scheduled, "{shape:?}: every one is answered");
        assert_eq!(result.latency("end_to_end").count, scheduled, "{shape:?}: and comes back");
        assert!(result.latency("ack_records").count > scheduled);
        assert!(
            told >= 2 && result.intervals.iter().any(|i| !i.measured),
            "{:?}",
            result.intervals
        );
        let verdict = result.verdict.ok_or("no verdict")?;
        assert!(verdict.is_clean() && verdict.gaps == 0 && verdict.batches > scheduled);
    }
    Ok(())
}

#[test]
fn what_is_acknowledged_and_does_not_come_back_fails_the_run_that_sent_it() -> Outcome {
    for (fault, name) in [
        (Fault::Lose(30), "lost"),
        (Fault::Double(30), "duplicate"),
        (Fault::Exchange(30), "reorder"),
        (Fault::Change(30), "corrupt"),
    ] {
        let broker = FakeBroker::start(fault)?;
        produce(&broker, spec())?;
        let follow = FetchSpec { wait: Duration::ZERO, ..FetchSpec::new("t", Range::Tail) };
        let produce = spec();
        let plan = Plan { fetch: vec![follow], ..Plan::produce(&broker.address, produce) };
        let result = engine::run(&plan, &mut |_| ())?;
        assert!(!result.is_clean(), "{fault:?}: {result:?}");
        assert!(result.findings.iter().any(|f| f.contains(name)), "{:?}", result.findings);
    }
    Ok(())
}

#[test]
fn a_file_comes_back_line_by_line() -> Outcome {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("lines.txt");
    let text: String =
        (0..1000).map(|i| format!("key{} line {i} {}\n", i % 17, "x".repeat(i % 90))).collect();
    std::fs::write(&file, text)?;
    let replay = |broker: &FakeBroker, key_field| ReplaySpec {
        bootstrap: broker.address.clone(),
        topic: "lines".to_owned(),
        partitions: 4,
        file: file.clone(),
        key_field,
        batch_bytes: 4000,
        produce: true,
        verify: true,
    };
    for key_field in [None, Some(1)] {
        let broker = FakeBroker::start(Fault::Nothing)?;
        // Twice: the second must be found behind the first.
        for _ in 0..2 {
            let result = replay::run(&replay(&broker, key_field))?;
            assert_eq!((result.lines, result.read), (1000, 1000));
            assert!(result.differences.is_empty(), "{result:?}");
        }
    }
    for fault in [Fault::Change(2), Fault::Lose(2), Fault::Double(2), Fault::Exchange(2)] {
        let broker = FakeBroker::start(fault)?;
        let result = replay::run(&replay(&broker, None))?;
        assert_eq!(result.differences.len(), 4, "{fault:?}: {result:?}");
    }
    Ok(())
}
