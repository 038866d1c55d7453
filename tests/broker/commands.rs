//! The command line against a live broker: what a person types, and what a script reads.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use rdkafka::consumer::{CommitMode, Consumer};

use crate::broker::{Broker, PATIENCE, scenario};
use crate::outcome::{Context, Result, ensure, eventually, failure};

/// Runs a command against the broker, with lines for its standard input.
fn run(broker: &Broker, arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).args(["-b", &broker.address]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context(|| format!("{arguments:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    Ok(child.wait_with_output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that must succeed prints.
fn said(broker: &Broker, arguments: &[&str], input: &str) -> Result<String> {
    let output = run(broker, arguments, input)?;
    ensure(output.status.success(), || format!("{arguments:?}: {}", text(&output.stderr)))?;
    Ok(text(&output.stdout))
}

/// A command must fail so, with one line of cause and remedy.
fn refused(broker: &Broker, arguments: &[&str], status: i32, says: &[&str]) -> Result<()> {
    let output = run(broker, arguments, "")?;
    let line = text(&output.stderr);
    let good = output.status.code() == Some(status)
        && line.lines().count() == 1
        && line.starts_with("error: ")
        && line.contains("; ")
        && says.iter().all(|word| line.contains(word));
    ensure(good, || format!("{arguments:?}: {} {line}", output.status))
}

fn json(broker: &Broker, arguments: &[&str]) -> Result<Value> {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    Ok(serde_json::from_str(&said(broker, &arguments, "")?)?)
}

#[test]
fn topics_from_the_command_line() -> Result<()> {
    scenario("commands", |home| {
        let broker = Broker::start(home)?;
        let broker = &broker;
        let none = said(broker, &["topic", "list"], "")?;
        ensure(none.contains("no topics"), || none.clone())?;
        let create = ["topic", "create", "t", "--partitions", "3", "-c", "retention.ms=86400000"];
        said(broker, &create, "")?;
        refused(broker, &["topic", "create", "t"], 1, &["already exists", "--if-not-exists"])?;
        said(broker, &["topic", "create", "t", "--if-not-exists"], "")?;
        said(broker, &["topic", "create", "u", "--validate-only"], "")?;
        let rf = ["topic", "create", "u", "-r", "3"];
        refused(broker, &rf, 1, &["only 1 broker(s)", "INVALID_REPLICATION_FACTOR"])?;

        let lines: String = (0..500).map(|i| format!("key-{}:value {i}\n", i % 7)).collect();
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            let produce = ["topic", "produce", "t", "-k", ":", "--compression", codec, "-H", "n=1"];
            said(broker, &produce, &lines)?;
        }
        let read = said(broker, &["topic", "consume", "t", "--keys"], "")?;
        let mut read: Vec<&str> = read.lines().collect();
        let mut sent: Vec<String> = lines.lines().map(|line| line.replacen(':', "\t", 1)).collect();
        sent = [(); 5].iter().flat_map(|()| sent.clone()).collect();
        read.sort_unstable();
        sent.sort_unstable();
        ensure(read == sent, || format!("{} of {} lines", read.len(), sent.len()))?;
        let one = said(
            broker,
            &["topic", "consume", "t", "-p", "0", "--from", "3", "-n", "1", "--json"],
            "",
        )?;
        let one: Value = serde_json::from_str(&one)?;
        ensure(one["offset"] == 3 && one["headers"][0][0] == "n", || one.to_string())?;

        let alter = ["topic", "alter", "t", "-p", "5", "-u", "retention.ms", "-c", "flush.ms=9"];
        said(broker, &alter, "")?;
        refused(broker, &["topic", "alter", "t", "-p", "2"], 1, &["would not be an increase"])?;
        refused(broker, &["topic", "alter", "t"], 2, &["nothing to change"])?;
        let described = json(broker, &["topic", "describe", "t"])?;
        ensure(described[0]["configs"]["flush.ms"] == "9", || described.to_string())?;
        let ends = described[0]["partitions"].as_array().cloned().unwrap_or_default();
        let total: i64 = ends.iter().filter_map(|p| p["end_offset"].as_i64()).sum();
        ensure(ends.len() == 5 && total == 2500, || described.to_string())?;
        let table = said(broker, &["topic", "describe", "t"], "")?;
        ensure(table.contains("PARTITION") && table.contains("flush.ms=9"), || table.clone())?;

        let configs = json(broker, &["config", "describe", "--topic", "t"])?;
        ensure(configs[0]["key"] == "flush.ms" && configs[0]["source"] == "topic", || {
            configs.to_string()
        })?;
        let set = ["config", "alter", "--broker", "default", "--set", "log.retention.ms=77"];
        said(broker, &set, "")?;
        let inherited = said(broker, &["config", "describe", "--topic", "t"], "")?;
        ensure(inherited.contains("77") && inherited.contains("all brokers, dynamic"), || {
            inherited.clone()
        })?;
        let set = ["config", "alter", "--topic", "t", "--set", "segment.bytes=1"];
        refused(broker, &set, 1, &["at least 1048576", "INVALID_CONFIG"])?;

        let info = json(broker, &["cluster", "info"])?;
        ensure(info["partitions"] == 5 && info["brokers"][0]["leads"] == 5, || info.to_string())?;
        let health = json(broker, &["cluster", "health"])?;
        ensure(health["healthy"] == true, || health.to_string())?;

        refused(broker, &["topic", "describe", "nope"], 1, &["there is no topic nope", "create"])?;
        refused(broker, &["topic", "delete", "nope"], 1, &["UNKNOWN_TOPIC_OR_PARTITION"])?;
        said(broker, &["topic", "delete", "t"], "")?;
        let left = json(broker, &["topic", "list"])?;
        ensure(left.as_array().is_some_and(Vec::is_empty), || left.to_string())
    })
}

/// Offsets of a group by partition, as `reset` or `describe` tell them.
fn offsets(rows: &Value, key: &str) -> Vec<Option<i64>> {
    let rows = rows["offsets"].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| row[key].as_i64()).collect()
}

#[test]
fn groups_from_the_command_line() -> Result<()> {
    scenario("commands-groups", |home| {
        let settings = &[("group.initial.rebalance.delay.ms", "0")];
        let broker = Broker::start_with(home, 2, settings)?;
        let broker = &broker;
        let none = said(broker, &["group", "list"], "")?;
        ensure(none.contains("no groups"), || none.clone())?;
        refused(broker, &["group", "describe", "g"], 1, &["there is no group g", "group list"])?;
        refused(broker, &["group", "delete", "g"], 1, &["there is no group g"])?;

        said(broker, &["topic", "create", "t", "--partitions", "2"], "")?;
        for (partition, count) in [("0", 10), ("1", 4)] {
            let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
            said(broker, &["topic", "produce", "t", "-p", partition], &lines)?;
        }
        let later = millstream::time::Clock::timestamp().0 + 3_600_000;
        let member = crate::groups::member(&broker.address, "g", "t", &[("client.id", "reader")])?;
        let mut read = 0;
        eventually("the member reads all", PATIENCE, || {
            if let Some(record) = member.poll(std::time::Duration::from_millis(20)) {
                member.commit_message(&record?, CommitMode::Sync)?;
                read += 1;
            }
            Ok((read == 14).then_some(()))
        })?;
        said(broker, &["topic", "produce", "t", "-p", "1"], "late\n")?;

        let listed = json(broker, &["group", "list"])?;
        ensure(
            listed[0]["group"] == "g"
                && listed[0]["state"] == "Stable"
                && listed[0]["type"] == "classic"
                && listed[0]["protocol_type"] == "consumer",
            || listed.to_string(),
        )?;
        let empty = json(broker, &["group", "list", "--state", "Empty"])?;
        ensure(empty.as_array().is_some_and(Vec::is_empty), || empty.to_string())?;
        let described = json(broker, &["group", "describe", "g"])?;
        let group = &described[0];
        ensure(
            group["state"] == "Stable"
                && group["protocol"] == "range"
                && group["members"][0]["client_id"] == "reader"
                && group["members"][0]["assigned"]["t"] == serde_json::json!([0, 1])
                && offsets(group, "offset") == [Some(10), Some(4)]
                && offsets(group, "end_offset") == [Some(10), Some(5)]
                && offsets(group, "lag") == [Some(0), Some(1)]
                && group["lag"] == 1
                && group["offsets"][1]["member"] == group["members"][0]["id"],
            || group.to_string(),
        )?;
        let table = said(broker, &["group", "describe", "g"], "")?;
        let words = ["state        Stable", "consumer by range", "t:0,1", "LAG", "lag          1"];
        ensure(words.iter().all(|word| table.contains(word)), || table.clone())?;

        let reset = ["group", "reset", "g", "-t", "t", "--to-earliest", "--execute"];
        refused(broker, &reset, 1, &["Stable with 1 member(s)", "stop its members"])?;
        refused(broker, &["group", "delete", "g"], 1, &["NON_EMPTY_GROUP", "stop its members"])?;
        refused(broker, &["group", "reset", "g", "-t", "t"], 2, &["--to-earliest"])?;
        refused(broker, &["group", "reset", "g", "--to-latest"], 2, &["--all-topics"])?;
        member.unsubscribe();
        drop(member);
        eventually("the member has left", PATIENCE, || {
            let listed = json(broker, &["group", "list"])?;
            Ok((listed[0]["state"] == "Empty").then_some(()))
        })?;

        // It only says what it would do.
        let plan = json(broker, &["group", "reset", "g", "--all-topics", "--to-earliest"])?;
        ensure(offsets(&plan, "new_offset") == [Some(0), Some(0)], || plan.to_string())?;
        let before = json(broker, &["group", "describe", "g"])?;
        ensure(offsets(&before[0], "offset") == [Some(10), Some(4)], || before.to_string())?;

        // And never leaves what is in the log.
        let zero = "1970-01-01T00:00:00Z";
        let cases: [(&[&str], [i64; 2]); 9] = [
            (&["-t", "t", "--to-earliest"], [0, 0]),
            (&["-t", "t:1", "--to-latest"], [0, 5]),
            (&["--all-topics", "--shift-by", "3"], [3, 5]),
            (&["--all-topics", "--shift-by", "-2"], [1, 3]),
            (&["-t", "t:0", "-t", "t:1", "--to-offset", "7"], [7, 5]),
            (&["-t", "t:0", "--shift-by", "-100"], [0, 5]),
            (&["-t", "t", "--to-latest"], [10, 5]),
            (&["-t", "t", "--to-datetime", zero], [0, 0]),
            (&["-t", "t", "--to-datetime", &iso(later)], [10, 5]),
        ];
        for (arguments, after) in cases {
            let reset = [&["group", "reset", "g"], arguments, &["--execute"]].concat();
            let moved = said(broker, &reset, "")?;
            ensure(moved.contains("NEW-OFFSET"), || moved.clone())?;
            let described = json(broker, &["group", "describe", "g"])?;
            ensure(offsets(&described[0], "offset") == after.map(Some), || {
                format!("{arguments:?}: {described}")
            })?;
        }
        let reset = ["group", "reset", "g", "-t", "t:7", "--to-latest"];
        refused(broker, &reset, 1, &["no partition 7"])?;
        let reset = ["group", "reset", "new", "-t", "t", "--shift-by", "1"];
        refused(broker, &reset, 1, &["no offset for t-0"])?;
        // A group may be made before its first member comes.
        said(broker, &["group", "reset", "new", "-t", "t:0", "--to-offset", "2", "--execute"], "")?;
        let made = json(broker, &["group", "describe", "new"])?;
        ensure(offsets(&made[0], "lag") == [Some(8)], || made.to_string())?;
        said(broker, &["group", "delete", "g", "new"], "")?;
        let left = json(broker, &["group", "list"])?;
        ensure(left.as_array().is_some_and(Vec::is_empty), || left.to_string())
    })
}

/// A time in this millennium, as `--to-datetime` takes it.
fn iso(millis: i64) -> String {
    // The day is found by counting: no calendar is needed for a test.
    let (mut day, rest) = (millis / 86_400_000, millis % 86_400_000 / 1000);
    let (mut year, mut month) = (1970, 0);
    loop {
        let leap = year % 4 == 0;
        let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let Some(length) = days.get(month) else {
            (year, month) = (year + 1, 0);
            continue;
        };
        if day < *length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}", month + 1, day + 1)
}

#[test]
fn clients_are_told_the_address_of_the_listener_they_came_by() -> Result<()> {
    scenario("listeners", |home| {
        let port = || -> Result<u16> {
            Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
        };
        let (first, second) = (port()?, port()?);
        let listeners = format!("IN://127.0.0.1:{first},OUT://127.0.0.1:{second}");
        let settings = [
            ("listener.security.protocol.map", "IN:PLAINTEXT,OUT:PLAINTEXT"),
            ("advertised.listeners", &format!("OUT://localhost:{second}")),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.arg("serve").arg("--data-dir").arg(home.data()).arg("--cores").arg("0");
        command.arg("--set").arg(format!("listeners={listeners}"));
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let told = (|| -> Result<Vec<(String, i32)>> {
            let mut told = Vec::new();
            for port in [first, second] {
                let address = format!("127.0.0.1:{port}");
                let mut connection =
                    crate::outcome::eventually("it listens", crate::broker::PATIENCE, || {
                        let patience = crate::broker::PATIENCE;
                        Ok(millstream::client::Connection::open(&address, patience).ok())
                    })?;
                let request = millstream::protocol::messages::MetadataRequest::default();
                let broker = connection.call(&request)?.brokers.into_iter().next();
                let broker = broker.ok_or_else(|| failure("no broker"))?;
                told.push((broker.host.to_string(), broker.port));
            }
            Ok(told)
        })();
        child.kill()?;
        child.wait()?;
        let expected = [
            ("127.0.0.1".to_owned(), i32::from(first)),
            ("localhost".to_owned(), i32::from(second)),
        ];
        let told = told?;
        ensure(told == expected, || format!("{told:?}"))
    })
}
