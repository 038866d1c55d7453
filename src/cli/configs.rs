//! `millstream config describe|alter`: configs of topics and brokers, asked of any cluster.

use std::io::{self, Write};

use clap::Args;
use millstream::protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult,
};
use millstream::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig,
};
use millstream::protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use millstream::protocol::{ErrorCode, StrBytes};
use serde_json::{Value, json};

use super::Failure;
use super::remote::{RemoteArgs, Session, assignment, json, refused, table};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Whose configs.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ResourceArgs {
    /// A topic
    #[arg(short, long, value_name = "NAME")]
    topic: Option<String>,
    /// A broker by id, or all of them by `default`
    #[arg(long, value_name = "ID")]
    broker: Option<String>,
    /// A group
    #[arg(short, long, value_name = "NAME")]
    group: Option<String>,
}

impl ResourceArgs {
    /// Kafka's number of the type, its name for people, and the resource's name.
    fn resource(&self) -> (i8, &'static str, String) {
        match (&self.topic, &self.broker, &self.group) {
            (Some(name), _, _) => (TOPIC, "topic", name.clone()),
            (_, Some(id), _) if id == "default" => (BROKER, "brokers", String::new()),
            (_, Some(id), _) => (BROKER, "broker", id.clone()),
            (_, _, group) => (GROUP, "group", group.clone().unwrap_or_default()),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct DescribeArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    resource: ResourceArgs,
    /// Also what nobody set
    #[arg(short, long)]
    all: bool,
    /// Only these keys
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct AlterArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(flatten)]
    resource: ResourceArgs,
    /// A config to set
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// A config to inherit again
    #[arg(short, long, value_name = "KEY")]
    unset: Vec<String>,
    /// Elements to add to a list
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    append: Vec<(String, String)>,
    /// Elements to take from a list
    #[arg(long, value_name = "KEY=VALUE", value_parser = assignment)]
    subtract: Vec<(String, String)>,
    /// Only check whether it could be changed
    #[arg(long)]
    validate_only: bool,
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "broker, dynamic",
        3 => "all brokers, dynamic",
        4 => "broker, at its start",
        5 => "default",
        6 => "logger",
        7 => "client metrics",
        8 => "group",
        _ => "unknown",
    }
}

fn ask(
    session: &mut Session,
    resource: (i8, &str, &str),
    keys: &[String],
) -> Result<Vec<DescribeConfigsResourceResult>, Failure> {
    let (resource_type, kind, name) = resource;
    let keys: Vec<StrBytes> = keys.iter().map(|key| StrBytes::from(key.clone())).collect();
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type,
            resource_name: StrBytes::from(name.to_owned()),
            configuration_keys: (!keys.is_empty()).then_some(keys),
        }],
        include_synonyms: false,
        include_documentation: false,
    };
    // A broker tells its own configs only.
    let connection = match (resource_type, name.parse::<i32>()) {
        (BROKER, Ok(id)) => {
            session.metadata(Some(&[]))?;
            session.broker(id)?
        }
        _ => session.any(),
    };
    let response = connection.call(&request)?;
    let Some(result) = response.results.into_iter().next() else {
        return Err(Failure::Runtime("the broker told nothing; try again".to_owned()));
    };
    if result.error_code != ErrorCode::None {
        let what = format!("configs of {kind} {name}");
        let remedy = "check the name";
        return Err(refused(&what, result.error_code, result.error_message.as_ref(), remedy));
    }
    let mut configs = result.configs;
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(configs)
}

/// What was set for a topic itself.
pub(super) fn set_for_topic(
    session: &mut Session,
    name: &str,
) -> Result<Vec<(String, String)>, Failure> {
    let configs = ask(session, (TOPIC, "topic", name), &[])?;
    let own = configs.into_iter().filter(|config| config.config_source == TOPIC_SOURCE);
    Ok(own
        .map(|config| (config.name.to_string(), config.value.unwrap_or_default().to_string()))
        .collect())
}

/// DYNAMIC_TOPIC_CONFIG.
const TOPIC_SOURCE: i8 = 1;

/// DEFAULT_CONFIG.
const DEFAULT_SOURCE: i8 = 5;

pub(super) fn describe(args: &DescribeArgs) -> Result<(), Failure> {
    let mut session = args.remote.session()?;
    let (resource_type, kind, name) = args.resource.resource();
    let mut configs = ask(&mut session, (resource_type, kind, &name), &args.keys)?;
    let every = args.all || !args.keys.is_empty();
    configs.retain(|config| every || config.config_source != DEFAULT_SOURCE);
    let mut out = io::stdout().lock();
    if args.remote.json {
        let rows: Vec<Value> = configs
            .iter()
            .map(|config| {
                json!({
                    "key": config.name.as_str(),
                    "value": config.value.as_deref(),
                    "source": source_name(config.config_source),
                    "read_only": config.read_only,
                    "sensitive": config.is_sensitive,
                })
            })
            .collect();
        return Ok(json(&mut out, &Value::Array(rows))?);
    }
    if configs.is_empty() {
        return Ok(writeln!(out, "nothing is set; --all shows the defaults")?);
    }
    let rows: Vec<Vec<String>> = configs
        .iter()
        .map(|config| {
            let value = match &config.value {
                Some(value) => value.to_string(),
                None if config.is_sensitive => "(hidden)".to_owned(),
                None => "(none)".to_owned(),
            };
            vec![config.name.to_string(), value, source_name(config.config_source).to_owned()]
        })
        .collect();
    Ok(table(&mut out, &["KEY", "VALUE", "SOURCE"], &rows)?)
}

fn change(
    session: &mut Session,
    resource: (i8, &str, &str),
    changes: Vec<(String, i8, Option<String>)>,
    validate_only: bool,
) -> Result<(), Failure> {
    let (resource_type, kind, name) = resource;
    let configs = changes.into_iter().map(|(name, config_operation, value)| AlterableConfig {
        name: StrBytes::from(name),
        config_operation,
        value: value.map(StrBytes::from),
    });
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type,
            resource_name: StrBytes::from(name.to_owned()),
            configs: configs.collect(),
        }],
        validate_only,
    };
    let connection = match (resource_type, name.parse::<i32>()) {
        (BROKER, Ok(id)) => {
            session.metadata(Some(&[]))?;
            session.broker(id)?
        }
        _ => session.controller()?,
    };
    for result in connection.call(&request)?.responses {
        if result.error_code != ErrorCode::None {
            let what = format!("configs of {kind} {name} are not changed");
            let remedy = "see `millstream config describe --all` for keys and values";
            return Err(refused(&what, result.error_code, result.error_message.as_ref(), remedy));
        }
    }
    Ok(())
}

/// Sets and unsets configs of a topic.
pub(super) fn alter_topic(
    session: &mut Session,
    name: &str,
    set: &[(String, String)],
    unset: &[String],
    validate_only: bool,
) -> Result<(), Failure> {
    let set = set.iter().map(|(key, value)| (key.clone(), SET, Some(value.clone())));
    let unset = unset.iter().map(|key| (key.clone(), DELETE, None));
    change(session, (TOPIC, "topic", name), set.chain(unset).collect(), validate_only)
}

pub(super) fn alter(args: &AlterArgs) -> Result<(), Failure> {
    let with = |pairs: &[(String, String)], op: i8| -> Vec<(String, i8, Option<String>)> {
        pairs.iter().map(|(key, value)| (key.clone(), op, Some(value.clone()))).collect()
    };
    let mut changes = with(&args.set, SET);
    changes.extend(args.unset.iter().map(|key| (key.clone(), DELETE, None)));
    changes.extend(with(&args.append, APPEND));
    changes.extend(with(&args.subtract, SUBTRACT));
    if changes.is_empty() {
        let why = "nothing to change; give --set, --unset, --append or --subtract";
        return Err(Failure::Usage(why.to_owned()));
    }
    let (resource_type, kind, name) = args.resource.resource();
    let mut session = args.remote.session()?;
    change(&mut session, (resource_type, kind, &name), changes, args.validate_only)?;
    let said = if args.validate_only { "could be changed" } else { "changed" };
    let mut out = io::stdout().lock();
    if args.remote.json {
        return Ok(json(&mut out, &json!({ "name": name, "result": said }))?);
    }
    let named = if name.is_empty() { "all".to_owned() } else { name };
    Ok(writeln!(out, "{kind} {named} {said}")?)
}
