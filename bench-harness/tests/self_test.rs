//! The harness measured by itself: faults of a known kind and size between it and a broker in memory.

mod fake;
mod proxy;

use std::error::Error;
use std::time::Duration;

use bench_harness::engine;
use bench_harness::engine::payload::Payload;
use bench_harness::engine::plan::{FetchSpec, Plan, ProduceSpec, Range};
use bench_harness::engine::schedule::{Pace, Rate, Shape};
use bench_harness::result::RunResult;
use fake::{FakeBroker, Fault};
use proxy::{Change, Proxy};

type Outcome = Result<(), Box<dyn Error>>;

/// A broker that is reached through a proxy only.
fn behind_proxy(changes: &'static [(u64, Change)]) -> Result<(FakeBroker, Proxy), Box<dyn Error>> {
    let mut proxy = Proxy::bind()?;
    let broker = FakeBroker::start_behind(Fault::Nothing, proxy.port)?;
    proxy.pass(&broker.address, changes);
    Ok((broker, proxy))
}

const STALL: Duration = Duration::from_millis(50);
const HALF: Duration = Duration::from_millis(25);

/// Two seconds of a thousand requests a second; the whole way stands still for 50 ms in the middle.
fn with_a_stall(pace: Pace, in_flight: usize) -> Result<RunResult, Box<dyn Error>> {
    let (_broker, proxy) = behind_proxy(&[])?;
    let plan = Plan {
        produce: Some(ProduceSpec {
            connections: 2,
            in_flight,
            payload: Payload::Filler { batch_bytes: 1000, record_bytes: 100 },
            pace,
            ..ProduceSpec::new("stalled")
        }),
        fetch: vec![FetchSpec { connections: 2, ..FetchSpec::new("stalled", Range::Tail) }],
        warm_up: Duration::from_millis(500),
        duration: Some(Duration::from_secs(2)),
        interval: Duration::from_millis(100),
        ..Plan::new("stall", &proxy.address())
    };
    let mut stalled = false;
    let result = engine::run(&plan, &mut |progress| {
        if progress.at > Duration::from_millis(1500) && !stalled {
            stalled = true;
            proxy.stall(STALL);
        }
    })?;
    assert!(stalled && result.is_clean(), "{result:?}");
    Ok(result)
}

/// Of 2,000 requests the 50 that were to be sent during the stall wait, the first for all of it: so the
/// twentieth worst, which is the 99th percentile, waits 30 ms, and the second worst 48. A clock that
/// starts when a request is sent sees one slow request on each connection, and no more. Other work on the
/// machine makes latencies longer and so cannot hide the stall; it may spoil the second half, which
/// therefore has three attempts.
#[test]
fn a_stall_is_in_every_percentile_it_touched_and_a_closed_loop_hides_it() -> Outcome {
    let mut hidden = Vec::new();
    for _attempt in 0..3 {
        let constant = Pace::Open { rate: Rate::Requests(1000.0), shape: Shape::Constant };
        let open = with_a_stall(constant, 10_000)?;
        for name in ["ack", "end_to_end"] {
            let histogram = &open.histograms.by_name[name];
            let l = histogram.summary();
            assert_eq!(l.count, 2000, "{name}");
            let (p99, p999, max) = (l.p99_us / 1e3, l.p999_us / 1e3, l.max_us / 1e3);
            assert!(p99 > 28.0 && p999 > 46.0 && max > 48.0, "{name}: {p99} {p999} {max} ms");
            assert!(histogram.count_above(HALF) >= 23, "{name}: half of the stall's requests");
        }
        let closed = with_a_stall(Pace::Closed, 1)?;
        let ack = &closed.histograms.by_name["ack"];
        assert!(ack.summary().max_us / 1e3 > 48.0, "it is there, once on each connection");
        let share = ack.count_above(HALF) as f64 / ack.summary().count as f64;
        hidden.push((share, ack.summary()));
        if share < 0.003 && ack.summary().p99_us < 28_000.0 {
            return Ok(());
        }
    }
    Err(format!("a closed loop should have hidden the stall: {hidden:?}").into())
}

/// Each change strikes one record of this million.
const CHANGES: &[(u64, Change)] = &[
    (200_000, Change::Drop),
    (400_000, Change::Double),
    (600_000, Change::Exchange),
    (800_000, Change::Flip),
];

#[test]
fn one_record_in_a_million_dropped_doubled_reordered_or_flipped_is_named() -> Outcome {
    let (_broker, proxy) = behind_proxy(CHANGES)?;
    let plan = Plan {
        produce: Some(ProduceSpec {
            connections: 2,
            in_flight: 4,
            payload: Payload::Filler { batch_bytes: 64 << 10, record_bytes: 100 },
            bytes: Some(111_000_000),
            ..ProduceSpec::new("million")
        }),
        fetch: vec![FetchSpec { connections: 2, ..FetchSpec::new("million", Range::Tail) }],
        ..Plan::new("million", &proxy.address())
    };
    let result = engine::run(&plan, &mut |_| ())?;
    let verdict = result.verdict.ok_or("no verdict")?;
    assert!(verdict.records >= 1_000_000 && result.broken.is_none(), "{result:?}");
    assert!(!result.is_clean());
    assert_eq!(
        (verdict.missing_records, verdict.duplicates, verdict.reorders, verdict.corrupt),
        (1, 1, 1, 1),
        "{verdict:?} {:?}",
        result.findings
    );
    assert_eq!((verdict.lost, verdict.gaps, verdict.offset_gaps), (0, 0, 0), "{verdict:?}");
    for name in ["missing: 1 records", "duplicate: 1 records", "reordered: 1 records", "corrupt:"] {
        let found = result.findings.iter().any(|finding| finding.contains(name));
        assert!(found, "{name}: {:?}", result.findings);
    }
    Ok(())
}
