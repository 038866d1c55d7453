//! `kill -9` in the middle of commits and rebalances, and a crowd that never rests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use millstream::time::Clock;
use rdkafka::consumer::Consumer;

use crate::broker::{Broker, PATIENCE, scenario};
use crate::client;
use crate::group_wire::LOADING;
use crate::groups::member;
use crate::outcome::{Context, Result, ensure, eventually, failure, pause};
use crate::wire::Connection;

const KILLS: usize = 20;
const QUICK: &[(&str, &str)] = &[("group.initial.rebalance.delay.ms", "0")];

/// One partition's offsets in one group, committed one after the other.
#[derive(Clone)]
struct Line {
    group: String,
    partition: i32,
    sent: Arc<AtomicI64>,
    acked: Arc<AtomicI64>,
}

impl Line {
    fn new(group: &str, partition: i32) -> Line {
        let zero = || Arc::new(AtomicI64::new(0));
        Line { group: group.to_owned(), partition, sent: zero(), acked: zero() }
    }

    /// Commits until the broker is gone; `who` says as which member, anew each time.
    fn commit(&self, connection: &mut Connection, who: (i32, &str)) -> Result<i16> {
        let next = self.sent.load(Ordering::SeqCst) + 1;
        self.sent.store(next, Ordering::SeqCst);
        let code = connection.commit(&self.group, who, ("kept", self.partition), next)?;
        if code == 0 {
            self.acked.store(next, Ordering::SeqCst);
        }
        Ok(code)
    }

    /// What is committed is what was acknowledged, or what was under way behind it.
    fn check(&self, connection: &mut Connection) -> Result<()> {
        let found = eventually("the groups are read", PATIENCE, || {
            match connection.committed(&self.group, "kept", self.partition)? {
                Ok(offset) => Ok(Some(offset)),
                Err(LOADING) => Ok(None),
                Err(code) => Err(failure(format!("OffsetFetch answered {code}"))),
            }
        })?;
        let (acked, sent) = (self.acked.load(Ordering::SeqCst), self.sent.load(Ordering::SeqCst));
        let lost = found.max(0) < acked || found > sent;
        ensure(!lost, || {
            format!(
                "{}-{}: {found} is committed; {acked} acknowledged, {sent} sent",
                self.group, self.partition
            )
        })
    }
}

/// A simple group: nothing but commits.
fn commit_on(address: String, line: Line) -> Result<()> {
    let mut connection = Connection::open(&address)?;
    loop {
        match line.commit(&mut connection, (-1, "")) {
            Ok(0) => {}
            Ok(LOADING) => pause(Duration::from_millis(2)),
            Ok(code) => return Err(failure(format!("a commit is answered {code}"))),
            // The broker is gone.
            Err(_) => return Ok(()),
        }
    }
}

/// A member that joins, commits, and leaves, again and again.
fn churn(address: String, line: Line, generations: Arc<AtomicUsize>) -> Result<()> {
    let mut connection = Connection::open(&address)?;
    loop {
        let Ok(joined) = connection.join(&line.group, "", 6_000) else { return Ok(()) };
        match joined.error {
            0 => {}
            LOADING => {
                pause(Duration::from_millis(2));
                continue;
            }
            code => return Err(failure(format!("a join is answered {code}"))),
        }
        generations.fetch_add(1, Ordering::SeqCst);
        let who = (joined.generation, joined.member.as_str());
        let leads = joined.leader == joined.member;
        let members = if leads { joined.members } else { Vec::new() };
        let Ok((code, assigned)) =
            connection.sync(&line.group, joined.generation, &joined.member, &members)
        else {
            return Ok(());
        };
        if code == 0 {
            let prefix = format!("{}/", joined.generation);
            let of = String::from_utf8_lossy(&assigned).into_owned();
            ensure(of.starts_with(&prefix), || format!("{of} is assigned in {prefix}"))?;
            for _ in 0..3 {
                match line.commit(&mut connection, who) {
                    Ok(0) => {}
                    // Another generation has begun.
                    Ok(22 | 25 | 27) => break,
                    Ok(code) => return Err(failure(format!("a commit is answered {code}"))),
                    Err(_) => return Ok(()),
                }
            }
        }
        if connection.leave(&line.group, &joined.member).is_err() {
            return Ok(());
        }
    }
}

#[test]
fn no_acknowledged_commit_is_lost_by_kill() -> Result<()> {
    scenario("groups-kill", |home| {
        let address = Broker::lasting_address()?;
        let mut broker = Broker::start_at_with(home, 2, &address, QUICK)?;
        client::create(&broker.address, "kept", 4)?;
        client::create(&broker.address, "steady", 1)?;
        Connection::open(&broker.address)?.find_coordinator("any")?;
        let settings: &[(&str, &str)] = &[
            ("group.instance.id", "one"),
            ("session.timeout.ms", "300000"),
            ("reconnect.backoff.ms", "10"),
            ("reconnect.backoff.max.ms", "50"),
        ];
        let steady = member(&broker.address, "steady", "steady", settings)?;
        eventually("the static member has its part", PATIENCE, || {
            let _nothing = steady.poll(Duration::from_millis(20));
            Ok((steady.assignment()?.count() == 1).then_some(()))
        })?;

        let simple: Vec<Line> = (0..3).map(|p| Line::new(&format!("simple-{p}"), p)).collect();
        let mut lines = simple.clone();
        let generations = Arc::new(AtomicUsize::new(0));
        for round in 0..KILLS {
            // The members of the round before are still in their group: their sessions go on.
            let churned: Vec<Line> =
                (0..3).map(|p| Line::new(&format!("churn-{round}"), p)).collect();
            let mut threads = Vec::new();
            for line in &simple {
                let (address, line) = (broker.address.clone(), line.clone());
                threads.push(thread::spawn(move || commit_on(address, line)));
            }
            for line in &churned {
                let (address, line) = (broker.address.clone(), line.clone());
                let generations = Arc::clone(&generations);
                threads.push(thread::spawn(move || churn(address, line, generations)));
            }
            let before: i64 = lines.iter().map(|l| l.acked.load(Ordering::SeqCst)).sum();
            lines.extend(churned);
            let enough = before + 20 + i64::try_from(round)? * 17 % 150;
            eventually("commits are acknowledged", PATIENCE, || {
                let acked: i64 = lines.iter().map(|l| l.acked.load(Ordering::SeqCst)).sum();
                Ok((acked >= enough).then_some(()))
            })?;
            broker.kill()?;
            for thread in threads {
                thread.join().map_err(|_| failure("a committer panicked"))??;
            }
            broker = Broker::start_at_with(home, 1 + round % 2, &address, QUICK)?;
            let mut connection = Connection::open(&broker.address)?;
            for line in &lines {
                line.check(&mut connection).context(|| format!("after {} kills", round + 1))?;
            }
            let _nothing = steady.poll(Duration::from_millis(20));
        }
        // The static member is where it was, and the group has had one generation.
        let mut connection = Connection::open(&broker.address)?;
        connection.produce("steady", 0, -1, &one_record())?;
        eventually("the static member reads on", PATIENCE, || {
            Ok(steady.poll(Duration::from_millis(50)).and_then(std::result::Result::ok).map(|_| ()))
        })?;
        let rebalances = steady.context().rebalances.load(Ordering::Relaxed);
        ensure(rebalances == 1, || format!("the static member had {rebalances} rebalances"))?;
        let acked: i64 = lines.iter().map(|l| l.acked.load(Ordering::SeqCst)).sum();
        eprintln!(
            "{KILLS} kills, {acked} commits acknowledged, {} joins",
            generations.load(Ordering::SeqCst)
        );
        drop(steady);
        broker.stop()
    })
}

fn one_record() -> Vec<u8> {
    crate::wire::Batch::of(&[b"on"], Clock::timestamp().0).encode()
}

/// How long the crowd goes on: some seconds, or `MILLSTREAM_CROWD_SECONDS`.
fn crowd_seconds() -> Result<u64> {
    match std::env::var("MILLSTREAM_CROWD_SECONDS") {
        Ok(text) => Ok(text.parse()?),
        Err(_) => Ok(5),
    }
}

#[test]
fn a_crowd_disturbs_no_bystander() -> Result<()> {
    const CROWD: usize = 200;
    scenario("groups-crowd", |home| {
        let broker = Broker::start_with(home, 2, QUICK)?;
        client::create(&broker.address, "kept", 4)?;
        let mut bystander = Connection::open(&broker.address)?;
        bystander.find_coordinator("bystander")?;
        let by = bystander.join("bystander", "", 6_000)?;
        ensure(by.error == 0, || format!("the bystander's join is answered {}", by.error))?;
        let (code, _) = bystander.sync("bystander", by.generation, &by.member, &by.members)?;
        ensure(code == 0, || format!("the bystander's sync is answered {code}"))?;
        let resident = broker.resident_bytes()?;

        let stop = Arc::new(AtomicBool::new(false));
        let joins = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::new();
        for _ in 0..CROWD {
            let (address, stop) = (broker.address.clone(), Arc::clone(&stop));
            let joins = Arc::clone(&joins);
            threads.push(thread::spawn(move || come_and_go(&address, &stop, &joins)));
        }
        let started = Clock::monotonic();
        let seconds = Duration::from_secs(crowd_seconds()?);
        while Clock::monotonic().since(started) < seconds {
            pause(Duration::from_millis(500));
            let code = bystander.heartbeat("bystander", by.generation, &by.member)?;
            ensure(code == 0, || format!("the bystander's heartbeat is answered {code}"))?;
        }
        stop.store(true, Ordering::SeqCst);
        let mut told: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
        let mut seen: BTreeMap<i32, BTreeSet<String>> = BTreeMap::new();
        for thread in threads {
            let memories = thread.join().map_err(|_| failure("a member panicked"))??;
            for (generation, member, members) in memories {
                seen.entry(generation).or_default().insert(member);
                if members.is_empty() {
                    continue;
                }
                let before = told.insert(generation, members.clone());
                ensure(before.is_none_or(|b| b == members), || {
                    format!("generation {generation} was told in two ways")
                })?;
            }
        }
        for (generation, members) in &seen {
            let all = told.get(generation);
            ensure(all.is_none_or(|all| members.is_subset(all)), || {
                format!("generation {generation} has members its leader was not told of")
            })?;
        }
        let code = bystander.heartbeat("bystander", by.generation, &by.member)?;
        ensure(code == 0, || format!("the bystander's heartbeat is answered {code}"))?;
        let grown = broker.resident_bytes()?.saturating_sub(resident);
        eprintln!(
            "{} joins in {} generations, {grown} bytes more in memory",
            joins.load(Ordering::SeqCst),
            told.len()
        );
        ensure(joins.load(Ordering::SeqCst) > CROWD, || "the crowd hardly moved".to_owned())?;
        ensure(grown < 128 << 20, || format!("{grown} bytes more in memory"))?;
        broker.stop()
    })
}

/// The generations a member was in, its id, and all members where it led.
type Memories = Vec<(i32, String, BTreeSet<String>)>;

/// Joins, is a member for a moment, and leaves, every 100 ms or as fast as the group goes.
fn come_and_go(address: &str, stop: &AtomicBool, joins: &AtomicUsize) -> Result<Memories> {
    let mut connection = Connection::open(address)?;
    let mut memories = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let joined = connection.join("crowd", "", 6_000)?;
        ensure(joined.error == 0, || format!("a join is answered {}", joined.error))?;
        joins.fetch_add(1, Ordering::SeqCst);
        if joined.leader == joined.member {
            let (code, _) =
                connection.sync("crowd", joined.generation, &joined.member, &joined.members)?;
            // It may be over already.
            ensure(matches!(code, 0 | 22 | 25 | 27), || format!("a sync is answered {code}"))?;
        }
        memories.push((
            joined.generation,
            joined.member.clone(),
            joined.members.into_iter().collect(),
        ));
        pause(Duration::from_millis(50));
        let code = connection.leave("crowd", &joined.member)?;
        ensure(matches!(code, 0 | 25), || format!("a leave is answered {code}"))?;
        pause(Duration::from_millis(50));
    }
    Ok(memories)
}
