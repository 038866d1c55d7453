//! Stopping, and refusing to start.

use std::fs;

use crate::broker::{Broker, Home, cores, run, scenario};
use crate::load::Stream;
use crate::outcome::{Context, Result, ensure};
use crate::real;
use crate::wire::{Bytes, Connection, FETCH};

#[test]
fn sigterm_under_load_keeps_what_was_acked() -> Result<()> {
    let lines = real::records()?;
    scenario("stop-load", |home| {
        let mut broker = Broker::start(home)?;
        let mut stream = Stream::create(&broker.address, "all", 8, &lines)?;
        let mut load = stream.begin(&broker.address)?;
        while load.acked < 2_000 {
            stream.push(&mut load)?;
        }
        broker.terminate()?;
        stream.end(load)?;
        let status = broker.await_exit()?;
        ensure(status.code() == Some(0), || {
            format!("{status}:\n{}", broker.said().unwrap_or_default())
        })?;

        let broker = Broker::start(home)?;
        stream.check(&broker.address)?;
        let found = stream.found();
        broker.stop()?;

        // And once more, after a stop with nothing in flight.
        let broker = Broker::start_with(home, 1, &[])?;
        stream.check_again(&broker.address)?;
        ensure(stream.found() == found, || format!("{} records, {found} before", stream.found()))?;
        broker.stop()
    })
}

#[test]
fn a_second_signal_stops_at_once() -> Result<()> {
    scenario("stop-twice", |home| {
        let mut broker = Broker::start(home)?;
        crate::client::create(&broker.address, "parked", 1)?;
        let mut connection = Connection::open(&broker.address)?;
        let produced = connection.produce("parked", 0, -1, &sound_batch())?;
        ensure(produced == Some((0, 0)), || format!("produced: {produced:?}"))?;

        // A fetch parked for longer than the test waits gives the first signal something to drain.
        let body = Bytes::default().i32(-1).i32(600_000).i32(1).i32(1 << 20).i8(0);
        let body = body.i32(1).string("parked").i32(1).i32(0).i64(1).i32(1 << 20);
        connection.send_frame(&crate::wire::request(FETCH, 4, 1, &body).0)?;
        broker.terminate()?;
        broker.terminate()?;
        broker.await_exit()?;

        let broker = Broker::start(home)?;
        let end = Connection::open(&broker.address)?.log_end("parked", 0)?;
        ensure(end == 1, || format!("log end {end}"))?;
        broker.stop()
    })
}

fn sound_batch() -> Vec<u8> {
    crate::wire::Batch::of(&[b"kept"], millstream::time::Clock::timestamp().0).encode()
}

#[test]
fn a_data_directory_in_use_is_refused() -> Result<()> {
    scenario("stop-locked", |home| {
        let broker = Broker::start(home)?;
        refused(home, &[], &[1, 78], "data")?;
        // The first one is unharmed.
        Connection::open(&broker.address)?.api_versions()?;
        broker.stop()
    })
}

#[test]
fn a_bad_start_is_refused_in_one_line() -> Result<()> {
    scenario("stop-refused", |home| {
        // The last of two sources wins, so the list goes where the one directory would.
        refused_in(home, "one,two", &[], &[78], "log.dirs")
            .context(|| "two log.dirs".to_owned())?;
        refused(home, &["--config", "no-such-file.toml"], &[78], "no-such-file")
            .context(|| "no config".to_owned())?;
        refused(home, &["--no-such-flag"], &[2], "no-such-flag")
            .context(|| "bad flag".to_owned())?;
        fs::write(home.data(), "a file where the data directory should be")?;
        refused(home, &[], &[1, 78], "data").context(|| "a file as data directory".to_owned())
    })
}

/// Starts a broker on `home` that must end with one of `codes`, naming `cause` in its last line, or in
/// any line for a usage error, which shows the usage too.
fn refused(home: &Home, more: &[&str], codes: &[i32], cause: &str) -> Result<()> {
    refused_in(home, &home.data().display().to_string(), more, codes, cause)
}

/// As [`refused`], with another data directory than the home's.
fn refused_in(home: &Home, data: &str, more: &[&str], codes: &[i32], cause: &str) -> Result<()> {
    let cores = cores(1)?;
    let start = ["serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--cores", &cores];
    let (status, said) = run(home, &[&start[..], more].concat())?;
    ensure(status.code().is_some_and(|code| codes.contains(&code)), || {
        format!("{status}, not {codes:?}:\n{said}")
    })?;
    let last = said.lines().rfind(|line| !line.is_empty()).unwrap_or("");
    let named = if codes == [2] { said.contains(cause) } else { last.contains(cause) };
    ensure(named, || format!("the cause, {cause}, is not named:\n{said}"))?;
    ensure(!said.contains("panicked"), || format!("a panic is no answer:\n{said}"))
}
