//! `millstream cluster`: who is in a cluster, and whether it is well.

use std::io::{self, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use millstream::protocol::ErrorCode;
use millstream::protocol::messages::MetadataRequest;
use millstream::time::Clock;
use serde_json::{Value, json};

use super::Failure;
use super::remote::{RemoteArgs, Session, json, table};

const EXAMPLES: &str = "\
Examples:
  millstream cluster info
  millstream cluster health -b kafka-1:9092,kafka-2:9092 --json

health ends with status 1 if something is wrong.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ClusterArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum ClusterCommand {
    /// Show the brokers and how much they hold
    Info,
    /// Check that brokers answer and partitions have their leaders and replicas
    Health,
}

pub(super) fn run(args: &ClusterArgs) -> Result<(), Failure> {
    let mut session = args.remote.session()?;
    let mut out = io::stdout().lock();
    match args.command {
        ClusterCommand::Info => info(&mut session, args.remote.json, &mut out),
        ClusterCommand::Health => health(&mut session, args.remote.json, &mut out),
    }
}

fn info(session: &mut Session, as_json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let metadata = session.metadata(None)?;
    let led = |id: i32| {
        let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.filter(|partition| partition.leader_id == id).count()
    };
    let partitions: usize = metadata.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut brokers = metadata.brokers.clone();
    brokers.sort_by_key(|broker| broker.node_id);
    if as_json {
        let rows: Vec<Value> = brokers
            .iter()
            .map(|broker| {
                json!({
                    "id": broker.node_id,
                    "host": broker.host.as_str(),
                    "port": broker.port,
                    "rack": broker.rack.as_deref(),
                    "leads": led(broker.node_id),
                })
            })
            .collect();
        let value = json!({
            "cluster_id": metadata.cluster_id.as_deref(),
            "controller": metadata.controller_id,
            "topics": metadata.topics.len(),
            "partitions": partitions,
            "brokers": rows,
        });
        return Ok(json(out, &value)?);
    }
    let id = metadata.cluster_id.as_deref().unwrap_or("unknown");
    writeln!(out, "cluster     {id}")?;
    writeln!(out, "controller  {}", metadata.controller_id)?;
    writeln!(out, "topics      {} with {partitions} partitions", metadata.topics.len())?;
    let rows: Vec<Vec<String>> = brokers
        .iter()
        .map(|broker| {
            vec![
                broker.node_id.to_string(),
                broker.host.to_string(),
                broker.port.to_string(),
                broker.rack.as_deref().unwrap_or("-").to_owned(),
                led(broker.node_id).to_string(),
            ]
        })
        .collect();
    Ok(table(out, &["BROKER", "HOST", "PORT", "RACK", "LEADS"], &rows)?)
}

/// One finding.
struct Check {
    name: String,
    good: bool,
    detail: String,
}

fn health(session: &mut Session, as_json: bool, out: &mut impl Write) -> Result<(), Failure> {
    let metadata = session.metadata(None)?;
    let mut checks = Vec::new();
    for broker in &metadata.brokers {
        let begin = Clock::monotonic();
        let answered = session.broker(broker.node_id).and_then(|connection| {
            let request =
                MetadataRequest { allow_auto_topic_creation: false, ..Default::default() };
            Ok(connection.call(&request).map(|_| ())?)
        });
        let name = format!("broker {} answers", broker.node_id);
        checks.push(match answered {
            Ok(()) => {
                let detail = format!("in {} ms", millis(Clock::monotonic().since(begin)));
                Check { name, good: true, detail }
            }
            Err(failure) => Check { name, good: false, detail: failure.text() },
        });
    }
    let partitions = || {
        metadata.topics.iter().flat_map(|topic| {
            let name = topic.name.clone().unwrap_or_default();
            topic
                .partitions
                .iter()
                .map(move |p| (format!("{}-{}", name.as_str(), p.partition_index), p))
        })
    };
    let total = partitions().count();
    let mut add = |name: &str, bad: Vec<String>| {
        let good = bad.is_empty();
        let detail = if good {
            format!("{total} partitions")
        } else {
            let shown: Vec<&str> = bad.iter().take(10).map(String::as_str).collect();
            format!("{} of {total} not: {}", bad.len(), shown.join(", "))
        };
        checks.push(Check { name: name.to_owned(), good, detail });
    };
    let named = |bad: &mut dyn Iterator<Item = String>| bad.collect::<Vec<_>>();
    add(
        "partitions have leaders",
        named(&mut partitions().filter(|(_, p)| p.leader_id < 0).map(|x| x.0)),
    );
    let behind = partitions().filter(|(_, p)| p.isr_nodes.len() < p.replica_nodes.len());
    add("replicas are in sync", named(&mut behind.map(|x| x.0)));
    let broken = metadata.topics.iter().filter(|topic| topic.error_code != ErrorCode::None);
    add(
        "topics are readable",
        broken.map(|t| t.name.clone().unwrap_or_default().to_string()).collect(),
    );
    let good = checks.iter().all(|check| check.good);
    if as_json {
        let rows: Vec<Value> = checks
            .iter()
            .map(|check| json!({ "check": check.name, "ok": check.good, "detail": check.detail }))
            .collect();
        json(out, &json!({ "healthy": good, "checks": rows }))?;
    } else {
        let rows: Vec<Vec<String>> = checks
            .into_iter()
            .map(|check| {
                let status = if check.good { "ok" } else { "ERROR" };
                vec![check.name, status.to_owned(), check.detail]
            })
            .collect();
        table(out, &["CHECK", "STATUS", "DETAIL"], &rows)?;
    }
    if good { Ok(()) } else { Err(Failure::Shown) }
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
