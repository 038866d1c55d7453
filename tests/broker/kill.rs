//! `kill -9` in the middle of real load, again and again, the number of cores changing between starts.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::broker::{Broker, scenario};
use crate::load::Stream;
use crate::outcome::{Context, Result, ensure};
use crate::real;

const KILLS: usize = 20;
const PARTITIONS: usize = 8;

/// The seed from `MILLSTREAM_SEED`, or a fresh one; printed.
fn seed() -> Result<u64> {
    let seed = match std::env::var("MILLSTREAM_SEED") {
        Ok(text) => text.parse().context(|| "MILLSTREAM_SEED".to_owned())?,
        Err(_) => rand::random(),
    };
    eprintln!("MILLSTREAM_SEED={seed}");
    Ok(seed)
}

#[test]
fn nothing_acked_is_lost_by_kill() -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed()?);
    let lines = real::records()?;
    scenario("kill", |home| {
        let mut streams: Vec<Stream<'_>> = Vec::new();
        let mut acked = 0;
        for round in 0..KILLS {
            // 2, 1, 2, 1, ...
            let core_count = 2 - round % 2;
            let broker = Broker::start_with(home, core_count, &[])?;
            if streams.is_empty() {
                for acks in ["1", "all"] {
                    streams.push(Stream::create(&broker.address, acks, PARTITIONS, &lines)?);
                }
            }
            for stream in &mut streams {
                stream
                    .check(&broker.address)
                    .context(|| format!("after {round} kills, {core_count} cores"))?;
            }

            // The kill comes when each stream has this many acknowledgements, with its queue full.
            let enough = rng.random_range(200..2_000);
            let looks = rng.random_range(1..4);
            let mut loads = Vec::new();
            for stream in &streams {
                loads.push(stream.begin(&broker.address)?);
            }
            for look in 1..=looks {
                while loads.iter().any(|load| load.acked < enough * look / looks) {
                    for (stream, load) in streams.iter_mut().zip(&mut loads) {
                        stream.push(load).context(|| format!("round {round}"))?;
                    }
                }
                for stream in &mut streams {
                    stream.check_watermarks(&broker.address)?;
                }
            }
            for (stream, load) in streams.iter_mut().zip(&mut loads) {
                stream.push(load)?;
            }
            broker.kill()?;
            for (stream, load) in streams.iter_mut().zip(loads) {
                acked += stream.end(load)?;
            }
        }
        let broker = Broker::start(home)?;
        for stream in &mut streams {
            stream.check(&broker.address).context(|| "at the end".to_owned())?;
            stream.check_again(&broker.address)?;
        }
        let found: usize = streams.iter().map(Stream::found).sum();
        ensure(found >= acked, || format!("{found} records found, {acked} acknowledged"))?;
        eprintln!("{KILLS} kills, {acked} records acknowledged, {found} found");
        broker.stop()
    })
}
