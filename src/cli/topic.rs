//! `millstream topic`: topics listed, described, created, changed and deleted.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::{Args, Subcommand};
use millstream::partition::recovery::kafka_uuid;
use millstream::protocol::messages::create_partitions::CreatePartitionsTopic;
use millstream::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use millstream::protocol::messages::delete_topics::DeleteTopicState;
use millstream::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use millstream::protocol::messages::metadata::MetadataResponseTopic;
use millstream::protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, ListOffsetsRequest,
};
use millstream::protocol::{ErrorCode, StrBytes};
use millstream::types::TopicId;
use serde_json::{Value, json};

use super::remote::{RemoteArgs, Session, assignment, json, refused, table};
use super::{Failure, configs, records};

/// The earliest and the latest offset, as ListOffsets asks for them.
pub(super) const EARLIEST: i64 = -2;
pub(super) const LATEST: i64 = -1;

const EXAMPLES: &str = "\
Examples:
  millstream topic create visits --partitions 6 --config retention.ms=86400000
  millstream topic list
  millstream topic describe visits
  echo 'alice:opened the page' | millstream topic produce visits --key-separator :
  millstream topic consume visits --keys --follow
  millstream topic alter visits --partitions 12 --config retention.ms=3600000
  millstream topic delete visits";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct TopicArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// List topics
    List {
        /// Also those that brokers use themselves
        #[arg(long)]
        internal: bool,
    },
    /// Show partitions, offsets and configs of topics
    Describe {
        /// The topics
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Create a topic
    Create(CreateArgs),
    /// Add partitions to a topic, or change its configs
    Alter(AlterArgs),
    /// Delete topics with all their records
    Delete {
        /// The topics
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Send lines of standard input as records
    Produce(records::ProduceArgs),
    /// Print records
    Consume(records::ConsumeArgs),
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// The topic
    name: String,
    /// Number of partitions; the broker's num.partitions if left out
    #[arg(short, long)]
    partitions: Option<i32>,
    /// Replicas of each partition; the broker's default.replication.factor if left out
    #[arg(short, long)]
    replication_factor: Option<i16>,
    /// A config of the topic
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = assignment)]
    configs: Vec<(String, String)>,
    /// Be content if it exists
    #[arg(long)]
    if_not_exists: bool,
    /// Only check whether it could be created
    #[arg(long)]
    validate_only: bool,
}

#[derive(Debug, Args)]
struct AlterArgs {
    /// The topic
    name: String,
    /// Number of partitions it is to have
    #[arg(short, long)]
    partitions: Option<i32>,
    /// A config to set
    #[arg(short, long = "config", value_name = "KEY=VALUE", value_parser = assignment)]
    configs: Vec<(String, String)>,
    /// A config to inherit again
    #[arg(short, long, value_name = "KEY")]
    unset: Vec<String>,
    /// Only check whether it could be changed
    #[arg(long)]
    validate_only: bool,
}

pub(super) fn run(args: TopicArgs) -> Result<(), Failure> {
    let mut session = args.remote.session()?;
    let as_json = args.remote.json;
    let mut out = io::stdout().lock();
    match args.command {
        TopicCommand::List { internal } => list(&mut session, internal, as_json, &mut out),
        TopicCommand::Describe { names } => describe(&mut session, &names, as_json, &mut out),
        TopicCommand::Create(args) => create(&mut session, args, as_json, &mut out),
        TopicCommand::Alter(args) => alter(&mut session, args, as_json, &mut out),
        TopicCommand::Delete { names } => delete(&mut session, names, as_json, &mut out),
        TopicCommand::Produce(args) => records::produce(&mut session, &args, as_json, &mut out),
        TopicCommand::Consume(args) => records::consume(&mut session, &args, as_json, &mut out),
    }
}

fn list(
    session: &mut Session,
    internal: bool,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut topics = session.metadata(None)?.topics;
    topics.retain(|topic| internal || !topic.is_internal);
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let replicas = |topic: &MetadataResponseTopic| {
        topic.partitions.first().map_or(0, |partition| partition.replica_nodes.len())
    };
    if as_json {
        let rows: Vec<Value> = topics
            .iter()
            .map(|topic| {
                json!({
                    "name": topic.name.as_deref(),
                    "partitions": topic.partitions.len(),
                    "replication_factor": replicas(topic),
                    "internal": topic.is_internal,
                })
            })
            .collect();
        return Ok(json(out, &Value::Array(rows))?);
    }
    if topics.is_empty() {
        return Ok(writeln!(out, "no topics; create one with `millstream topic create NAME`")?);
    }
    let rows: Vec<Vec<String>> = topics
        .iter()
        .map(|topic| {
            let name = topic.name.clone().unwrap_or_default().to_string();
            vec![name, topic.partitions.len().to_string(), replicas(topic).to_string()]
        })
        .collect();
    Ok(table(out, &["TOPIC", "PARTITIONS", "REPLICAS"], &rows)?)
}

/// Offsets of a topic's partitions at a time, or at an end.
pub(super) fn offsets(
    session: &mut Session,
    topic: &MetadataResponseTopic,
    timestamp: i64,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let name = topic.name.clone().unwrap_or_default();
    let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for partition in topic.partitions.iter().filter(|partition| partition.leader_id >= 0) {
        by_leader.entry(partition.leader_id).or_default().push(partition.partition_index);
    }
    let mut offsets = BTreeMap::new();
    for (leader, partitions) in by_leader {
        let partitions = partitions
            .into_iter()
            .map(|partition_index| ListOffsetsPartition {
                partition_index,
                timestamp,
                ..Default::default()
            })
            .collect();
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![ListOffsetsTopic { name: name.clone(), partitions }],
            ..Default::default()
        };
        let response = session.broker(leader)?.call(&request)?;
        for partition in response.topics.into_iter().flat_map(|topic| topic.partitions) {
            match partition.error_code {
                ErrorCode::None => {
                    offsets.insert(partition.partition_index, partition.offset);
                }
                code => {
                    let what =
                        format!("offsets of {}-{}", name.as_str(), partition.partition_index);
                    return Err(refused(&what, code, None, "try again"));
                }
            }
        }
    }
    Ok(offsets)
}

fn describe(
    session: &mut Session,
    names: &[String],
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut described = Vec::new();
    for name in names {
        let topic = session.topic(name)?;
        let starts = offsets(session, &topic, EARLIEST)?;
        let ends = offsets(session, &topic, LATEST)?;
        let mut partitions = topic.partitions.clone();
        partitions.sort_by_key(|partition| partition.partition_index);
        let set = configs::set_for_topic(session, name)?;
        if as_json {
            let rows: Vec<Value> = partitions
                .iter()
                .map(|p| {
                    json!({
                        "partition": p.partition_index,
                        "leader": p.leader_id,
                        "replicas": p.replica_nodes,
                        "isr": p.isr_nodes,
                        "start_offset": starts.get(&p.partition_index),
                        "end_offset": ends.get(&p.partition_index),
                    })
                })
                .collect();
            described.push(json!({
                "name": name,
                "id": kafka_uuid(TopicId(topic.topic_id)),
                "configs": set.into_iter().collect::<BTreeMap<_, _>>(),
                "partitions": rows,
            }));
            continue;
        }
        let set: Vec<String> = set.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let set = if set.is_empty() { "none set".to_owned() } else { set.join(", ") };
        writeln!(
            out,
            "topic    {name}\nid       {}\nconfigs  {set}",
            kafka_uuid(TopicId(topic.topic_id))
        )?;
        let nodes = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
        let offset = |offset: Option<&i64>| offset.map_or_else(|| "-".to_owned(), i64::to_string);
        let rows: Vec<Vec<String>> = partitions
            .iter()
            .map(|p| {
                vec![
                    p.partition_index.to_string(),
                    if p.leader_id < 0 { "none".to_owned() } else { p.leader_id.to_string() },
                    nodes(&p.replica_nodes),
                    nodes(&p.isr_nodes),
                    offset(starts.get(&p.partition_index)),
                    offset(ends.get(&p.partition_index)),
                ]
            })
            .collect();
        table(out, &["PARTITION", "LEADER", "REPLICAS", "ISR", "START", "END"], &rows)?;
        if names.len() > 1 {
            writeln!(out)?;
        }
    }
    if as_json {
        json(out, &Value::Array(described))?;
    }
    Ok(())
}

fn create(
    session: &mut Session,
    args: CreateArgs,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let name = args.name;
    let configs = args.configs.into_iter().map(|(name, value)| CreatableTopicConfig {
        name: StrBytes::from(name),
        value: Some(StrBytes::from(value)),
    });
    let topic = CreatableTopic {
        name: StrBytes::from(name.clone()),
        num_partitions: args.partitions.unwrap_or(-1),
        replication_factor: args.replication_factor.unwrap_or(-1),
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        validate_only: args.validate_only,
        ..Default::default()
    };
    let response = session.controller()?.call(&request)?;
    let Some(result) = response.topics.into_iter().next() else {
        return Err(Failure::Runtime(format!("creating {name} had no answer; try again")));
    };
    let said = match result.error_code {
        ErrorCode::None if args.validate_only => "could be created",
        ErrorCode::None => "created",
        ErrorCode::TopicAlreadyExists if args.if_not_exists => "exists already",
        code => {
            let what = format!("topic {name} is not created");
            let remedy = match code {
                ErrorCode::TopicAlreadyExists => "choose another name, or give --if-not-exists",
                ErrorCode::InvalidReplicationFactor => "give --replication-factor 1",
                _ => "see `millstream topic create --help`",
            };
            return Err(refused(&what, code, result.error_message.as_ref(), remedy));
        }
    };
    if as_json {
        return Ok(json(out, &json!({ "name": name, "result": said }))?);
    }
    Ok(writeln!(out, "topic {name} {said}")?)
}

fn alter(
    session: &mut Session,
    args: AlterArgs,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let name = args.name;
    if args.partitions.is_none() && args.configs.is_empty() && args.unset.is_empty() {
        return Err(Failure::Usage(
            "nothing to change; give --partitions, --config or --unset".to_owned(),
        ));
    }
    if let Some(count) = args.partitions {
        let topic =
            CreatePartitionsTopic { name: StrBytes::from(name.clone()), count, assignments: None };
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: 30_000,
            validate_only: args.validate_only,
        };
        let response = session.controller()?.call(&request)?;
        for result in response.results {
            if result.error_code != ErrorCode::None {
                let what = format!("topic {name} is not changed");
                let remedy = "give a greater number: partitions cannot be taken away";
                return Err(refused(
                    &what,
                    result.error_code,
                    result.error_message.as_ref(),
                    remedy,
                ));
            }
        }
    }
    if !(args.configs.is_empty() && args.unset.is_empty()) {
        configs::alter_topic(session, &name, &args.configs, &args.unset, args.validate_only)?;
    }
    let said = if args.validate_only { "could be changed" } else { "changed" };
    if as_json {
        return Ok(json(out, &json!({ "name": name, "result": said }))?);
    }
    Ok(writeln!(out, "topic {name} {said}")?)
}

fn delete(
    session: &mut Session,
    names: Vec<String>,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let request = DeleteTopicsRequest {
        topics: names
            .iter()
            .map(|name| DeleteTopicState {
                name: Some(StrBytes::from(name.clone())),
                ..Default::default()
            })
            .collect(),
        topic_names: names.iter().map(|name| StrBytes::from(name.clone())).collect(),
        timeout_ms: 30_000,
    };
    let connection = session.controller()?;
    // One list or the other, as the version has it.
    let version = connection.version(millstream::protocol::ApiKey::DeleteTopics);
    let old = version.is_some_and(|version| version.number < 6);
    let request = if old {
        DeleteTopicsRequest { topics: Vec::new(), ..request }
    } else {
        DeleteTopicsRequest { topic_names: Vec::new(), ..request }
    };
    let response = connection.call(&request)?;
    let mut deleted = Vec::new();
    for result in response.responses {
        let name = result.name.unwrap_or_default().to_string();
        if result.error_code != ErrorCode::None {
            let what = format!("topic {name} is not deleted");
            let remedy = "see `millstream topic list`";
            return Err(refused(&what, result.error_code, result.error_message.as_ref(), remedy));
        }
        if !as_json {
            writeln!(out, "topic {name} deleted")?;
        }
        deleted.push(name);
    }
    if as_json {
        json(out, &json!({ "deleted": deleted }))?;
    }
    Ok(())
}
