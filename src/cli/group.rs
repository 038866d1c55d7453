//! `millstream group`: consumer groups listed, described, reset and deleted, of any cluster.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, Subcommand};
use millstream::protocol::messages::describe_groups::DescribedGroup;
use millstream::protocol::messages::offset_fetch::OffsetFetchRequestGroup;
use millstream::protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, ListGroupsRequest,
    MetadataResponse, OffsetFetchRequest,
};
use millstream::protocol::{DecodeError, ErrorCode, Reader, StrBytes};
use millstream::time::Clock;
use serde_json::{Value, json};

use super::remote::{RemoteArgs, Session, json, refused, table};
use super::topic::{LATEST, offsets};
use super::{Failure, group_reset};

const EXAMPLES: &str = "\
Examples:
  millstream group list
  millstream group describe readers
  millstream group reset readers --topic visits --to-earliest
  millstream group reset readers --topic visits:0,2 --to-datetime 2026-11-22T08:00:00Z --execute
  millstream group reset readers --all-topics --shift-by -100 --execute
  millstream group delete readers

reset only shows what it would do until --execute is given, and wants a group without members.";

/// Between two questions to a coordinator that is not ready.
const PAUSE: Duration = Duration::from_millis(100);

/// What consumers call their protocol: only theirs is understood here.
const CONSUMER: &str = "consumer";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct GroupArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List groups
    List {
        /// Only groups in these states, as Stable or Empty
        #[arg(short, long, value_name = "STATE", value_delimiter = ',')]
        state: Vec<String>,
    },
    /// Show state, members, offsets and lag of groups
    Describe {
        /// The groups
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Move the offsets of a group
    Reset(group_reset::ResetArgs),
    /// Delete groups with their offsets
    Delete {
        /// The groups
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(super) fn run(args: GroupArgs) -> Result<(), Failure> {
    let mut session = args.remote.session()?;
    let as_json = args.remote.json;
    let mut out = io::stdout().lock();
    match args.command {
        GroupCommand::List { state } => list(&mut session, &state, as_json, &mut out),
        GroupCommand::Describe { names } => describe(&mut session, &names, as_json, &mut out),
        GroupCommand::Reset(args) => group_reset::run(&mut session, &args, as_json, &mut out),
        GroupCommand::Delete { names } => delete(&mut session, &names, as_json, &mut out),
    }
}

// What is asked.

/// Errors that go away by themselves.
fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
    )
}

/// Asks until the answer is not that the coordinator is not ready, or the time is over.
pub(super) fn patiently<T>(
    session: &mut Session,
    mut ask: impl FnMut(&mut Session) -> Result<Result<T, ErrorCode>, Failure>,
) -> Result<Result<T, ErrorCode>, Failure> {
    let until = Clock::monotonic().plus(session.timeout());
    loop {
        match ask(session)? {
            Err(code) if passes(code) && Clock::monotonic() < until => {
                std::thread::park_timeout(PAUSE);
            }
            answer => return Ok(answer),
        }
    }
}

/// The broker that coordinates a group.
pub(super) fn coordinator(session: &mut Session, group: &str) -> Result<i32, Failure> {
    let key = StrBytes::from(group.to_owned());
    // One form or the other, as the version has it.
    let request =
        FindCoordinatorRequest { key: key.clone(), key_type: 0, coordinator_keys: vec![key] };
    let found = patiently(session, |session| {
        let response = session.any().call(&request)?;
        let (code, node) = match response.coordinators.first() {
            Some(coordinator) => (coordinator.error_code, coordinator.node_id),
            None => (response.error_code, response.node_id),
        };
        Ok(if code == ErrorCode::None { Ok(node) } else { Err(code) })
    })?;
    let node = found.map_err(|code| {
        refused(&format!("the coordinator of {group}"), code, None, "see the brokers' logs")
    })?;
    session.metadata(Some(&[]))?;
    Ok(node)
}

/// A group as its coordinator describes it.
pub(super) struct Group {
    pub(super) state: String,
    pub(super) members: Vec<Member>,
    /// `classic`, or what the broker lists it as.
    kind: String,
    protocol_type: String,
    protocol: String,
}

pub(super) struct Member {
    id: String,
    instance: Option<String>,
    client: String,
    host: String,
    /// By topic; none if it is not a consumer's.
    assigned: Option<BTreeMap<String, Vec<i32>>>,
}

/// What a group's coordinator says of it; nothing if it knows no such group.
pub(super) fn group(
    session: &mut Session,
    node: i32,
    name: &str,
) -> Result<Option<Group>, Failure> {
    let request = DescribeGroupsRequest {
        groups: vec![StrBytes::from(name.to_owned())],
        ..Default::default()
    };
    let described = patiently(session, |session| {
        let response = session.broker(node)?.call(&request)?;
        let described = response.groups.into_iter().next().ok_or_else(|| {
            Failure::Runtime(format!("the broker says nothing of group {name}; try again"))
        })?;
        Ok(match described.error_code {
            ErrorCode::None => Ok(described),
            code => Err(code),
        })
    })?;
    match described {
        // Before version 6 a group that is not there is said to be dead.
        Ok(described) if described.group_state.as_str() == "Dead" => Ok(None),
        Ok(described) => Ok(Some(classic(described))),
        Err(ErrorCode::GroupIdNotFound) => listed(session, node, name),
        Err(code) => Err(refused(&format!("group {name}"), code, None, "try again")),
    }
}

fn classic(described: DescribedGroup) -> Group {
    let consumers = described.protocol_type.as_str() == CONSUMER;
    let members = described.members.into_iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assigned: if consumers { assignment(member.member_assignment).ok() } else { None },
    });
    Group {
        state: described.group_state.to_string(),
        members: members.collect(),
        kind: "classic".to_owned(),
        protocol_type: described.protocol_type.to_string(),
        protocol: described.protocol_data.to_string(),
    }
}

/// A group that is no classic one is listed, but not described by the call for those.
fn listed(session: &mut Session, node: i32, name: &str) -> Result<Option<Group>, Failure> {
    let response = session.broker(node)?.call(&ListGroupsRequest::default())?;
    let found = response.groups.into_iter().find(|group| group.group_id.as_str() == name);
    Ok(found.map(|group| Group {
        state: group.group_state.to_string(),
        members: Vec::new(),
        kind: group.group_type.to_string(),
        protocol_type: group.protocol_type.to_string(),
        protocol: String::new(),
    }))
}

/// What a leader assigned to a consumer (`ConsumerProtocolAssignment`, all versions).
fn assignment(bytes: Bytes) -> Result<BTreeMap<String, Vec<i32>>, DecodeError> {
    let mut assigned: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    if bytes.is_empty() {
        return Ok(assigned);
    }
    let mut reader = Reader::new(bytes);
    reader.i16()?;
    for _ in 0..reader.i32()?.max(0) {
        let length = reader.short_length()?.unwrap_or(0);
        let topic = String::from_utf8_lossy(&reader.take(length)?).into_owned();
        let partitions = assigned.entry(topic).or_default();
        for _ in 0..reader.i32()?.max(0) {
            partitions.push(reader.i32()?);
        }
    }
    Ok(assigned)
}

/// A position of a group: by topic and partition.
pub(super) type Committed = BTreeMap<(String, i32), i64>;

/// All positions that a group has committed.
pub(super) fn committed(
    session: &mut Session,
    node: i32,
    name: &str,
    metadata: &MetadataResponse,
) -> Result<Committed, Failure> {
    let group_id = StrBytes::from(name.to_owned());
    // One form or the other, as the version has it.
    let request = OffsetFetchRequest {
        group_id: group_id.clone(),
        topics: None,
        groups: vec![OffsetFetchRequestGroup { group_id, topics: None, ..Default::default() }],
        require_stable: false,
    };
    let response = patiently(session, |session| {
        let response = session.broker(node)?.call(&request)?;
        let code = response.groups.first().map_or(response.error_code, |group| group.error_code);
        Ok(if code == ErrorCode::None { Ok(response) } else { Err(code) })
    })?;
    let response = match response {
        Ok(response) => response,
        // Nothing was committed by a group that is not there.
        Err(ErrorCode::GroupIdNotFound) => return Ok(Committed::new()),
        Err(code) => return Err(refused(&format!("offsets of {name}"), code, None, "try again")),
    };
    let mut found = Committed::new();
    for topic in response.topics {
        for p in topic.partitions.iter().filter(|p| p.error_code == ErrorCode::None) {
            found.insert((topic.name.to_string(), p.partition_index), p.committed_offset);
        }
    }
    for topic in response.groups.into_iter().flat_map(|group| group.topics) {
        let named = metadata.topics.iter().find(|known| known.topic_id == topic.topic_id);
        let name = match named.and_then(|topic| topic.name.clone()) {
            Some(name) if topic.name.is_empty() => name,
            _ => topic.name,
        };
        for p in topic.partitions.iter().filter(|p| p.error_code == ErrorCode::None) {
            found.insert((name.to_string(), p.partition_index), p.committed_offset);
        }
    }
    found.retain(|_, offset| *offset >= 0);
    Ok(found)
}

pub(super) fn unknown_group(name: &str) -> Failure {
    Failure::Runtime(format!("there is no group {name}; see `millstream group list`"))
}

// What is shown.

fn list(
    session: &mut Session,
    states: &[String],
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let brokers: Vec<i32> =
        session.metadata(Some(&[]))?.brokers.iter().map(|broker| broker.node_id).collect();
    let states_filter: Vec<StrBytes> = states.iter().cloned().map(StrBytes::from).collect();
    let request = ListGroupsRequest { states_filter, types_filter: Vec::new() };
    let mut groups = Vec::new();
    for id in brokers {
        let response = patiently(session, |session| {
            let response = session.broker(id)?.call(&request)?;
            Ok(match response.error_code {
                ErrorCode::None => Ok(response.groups),
                code => Err(code),
            })
        })?;
        groups.extend(response.map_err(|code| {
            refused(&format!("groups of broker {id}"), code, None, "see the broker's log")
        })?);
    }
    // Brokers of before version 4 do not filter, and say no state.
    groups.retain(|group| {
        let state = group.group_state.as_str();
        states.is_empty() || states.iter().any(|wanted| wanted.eq_ignore_ascii_case(state))
    });
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    if as_json {
        let rows: Vec<Value> = groups
            .iter()
            .map(|group| {
                json!({
                    "group": group.group_id.as_str(),
                    "state": group.group_state.as_str(),
                    "type": group.group_type.as_str(),
                    "protocol_type": group.protocol_type.as_str(),
                })
            })
            .collect();
        return Ok(json(out, &Value::Array(rows))?);
    }
    if groups.is_empty() {
        return Ok(writeln!(out, "no groups; they come into being when consumers join them")?);
    }
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|group| {
            let cells = [&group.group_id, &group.group_state, &group.group_type];
            let mut row: Vec<String> = cells.map(|cell| dash(cell)).to_vec();
            row.push(dash(&group.protocol_type));
            row
        })
        .collect();
    Ok(table(out, &["GROUP", "STATE", "TYPE", "PROTOCOL"], &rows)?)
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// A partition that a group has a position in, or a member for.
struct Position {
    topic: String,
    partition: i32,
    offset: Option<i64>,
    end: Option<i64>,
    member: Option<String>,
}

impl Position {
    fn lag(&self) -> Option<i64> {
        Some(self.end?.saturating_sub(self.offset?).max(0))
    }
}

fn positions(
    session: &mut Session,
    group: &Group,
    committed: &Committed,
    metadata: &MetadataResponse,
) -> Result<Vec<Position>, Failure> {
    let mut owners: BTreeMap<(String, i32), String> = BTreeMap::new();
    for member in &group.members {
        for (topic, partitions) in member.assigned.iter().flatten() {
            for partition in partitions {
                owners.insert((topic.clone(), *partition), member.id.clone());
            }
        }
    }
    let mut all: Vec<(String, i32)> = committed.keys().chain(owners.keys()).cloned().collect();
    all.sort();
    all.dedup();
    let mut ends: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let mut names: Vec<&String> = all.iter().map(|(topic, _)| topic).collect();
    names.dedup();
    for name in names {
        let topic = metadata.topics.iter().find(|t| t.name.as_deref() == Some(name.as_str()));
        // A topic may be gone; the group's offsets stay a while.
        let Some(topic) = topic else { continue };
        let found = offsets(session, topic, LATEST)?;
        ends.extend(found.into_iter().map(|(partition, end)| ((name.clone(), partition), end)));
    }
    let position = |(topic, partition): (String, i32)| {
        let key = (topic.clone(), partition);
        Position {
            offset: committed.get(&key).copied(),
            end: ends.get(&key).copied(),
            member: owners.get(&key).cloned(),
            topic,
            partition,
        }
    };
    Ok(all.into_iter().map(position).collect())
}

fn describe(
    session: &mut Session,
    names: &[String],
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut described = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let node = coordinator(session, name)?;
        let metadata = session.metadata(None)?;
        let group = group(session, node, name)?.ok_or_else(|| unknown_group(name))?;
        let committed = committed(session, node, name, &metadata)?;
        let positions = positions(session, &group, &committed, &metadata)?;
        if as_json {
            described.push(as_value(name, node, &group, &positions));
            continue;
        }
        if at > 0 {
            writeln!(out)?;
        }
        print(out, name, node, &group, &positions)?;
    }
    if as_json {
        json(out, &Value::Array(described))?;
    }
    Ok(())
}

fn as_value(name: &str, node: i32, group: &Group, positions: &[Position]) -> Value {
    let members: Vec<Value> = group
        .members
        .iter()
        .map(|member| {
            json!({
                "id": member.id,
                "instance_id": member.instance,
                "client_id": member.client,
                "host": member.host,
                "assigned": member.assigned,
            })
        })
        .collect();
    let offsets: Vec<Value> = positions
        .iter()
        .map(|position| {
            json!({
                "topic": position.topic,
                "partition": position.partition,
                "offset": position.offset,
                "end_offset": position.end,
                "lag": position.lag(),
                "member": position.member,
            })
        })
        .collect();
    json!({
        "group": name,
        "state": group.state,
        "type": group.kind,
        "protocol_type": group.protocol_type,
        "protocol": group.protocol,
        "coordinator": node,
        "lag": positions.iter().filter_map(Position::lag).sum::<i64>(),
        "members": members,
        "offsets": offsets,
    })
}

fn print(
    out: &mut impl Write,
    name: &str,
    node: i32,
    group: &Group,
    positions: &[Position],
) -> Result<(), Failure> {
    let protocol = match group.protocol.as_str() {
        "" => dash(&group.protocol_type),
        chosen => format!("{} by {chosen}", dash(&group.protocol_type)),
    };
    let lag: i64 = positions.iter().filter_map(Position::lag).sum();
    writeln!(out, "group        {name}")?;
    writeln!(out, "state        {}", dash(&group.state))?;
    writeln!(out, "type         {}", dash(&group.kind))?;
    writeln!(out, "protocol     {protocol}")?;
    writeln!(out, "coordinator  {node}")?;
    writeln!(out, "lag          {lag}")?;
    if group.members.is_empty() {
        let why = if group.kind == "classic" { "none" } else { "not shown for this type" };
        writeln!(out, "members      {why}")?;
    } else {
        writeln!(out)?;
        let rows: Vec<Vec<String>> = group
            .members
            .iter()
            .map(|member| {
                let instance = member.instance.clone().unwrap_or_else(|| "-".to_owned());
                let assigned = match &member.assigned {
                    None => "?".to_owned(),
                    Some(assigned) if assigned.is_empty() => "-".to_owned(),
                    Some(assigned) => assigned
                        .iter()
                        .map(|(topic, partitions)| format!("{topic}:{}", numbers(partitions)))
                        .collect::<Vec<_>>()
                        .join(" "),
                };
                let (id, client) = (member.id.clone(), dash(&member.client));
                vec![id, instance, client, dash(&member.host), assigned]
            })
            .collect();
        table(out, &["MEMBER", "INSTANCE", "CLIENT", "HOST", "ASSIGNED"], &rows)?;
    }
    if positions.is_empty() {
        return Ok(writeln!(out, "offsets      none committed")?);
    }
    writeln!(out)?;
    let number = |n: Option<i64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let rows: Vec<Vec<String>> = positions
        .iter()
        .map(|position| {
            vec![
                position.topic.clone(),
                position.partition.to_string(),
                number(position.offset),
                number(position.end),
                number(position.lag()),
                position.member.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    Ok(table(out, &["TOPIC", "PARTITION", "OFFSET", "END", "LAG", "MEMBER"], &rows)?)
}

fn numbers(partitions: &[i32]) -> String {
    let mut partitions = partitions.to_vec();
    partitions.sort_unstable();
    partitions.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

fn delete(
    session: &mut Session,
    names: &[String],
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let mut deleted = Vec::new();
    for name in names {
        let node = coordinator(session, name)?;
        let request = DeleteGroupsRequest { groups_names: vec![StrBytes::from(name.clone())] };
        let code = patiently(session, |session| {
            let response = session.broker(node)?.call(&request)?;
            let code = response.results.first().map(|result| result.error_code);
            match code {
                Some(ErrorCode::None) => Ok(Ok(())),
                Some(code) => Ok(Err(code)),
                None => Err(Failure::Runtime(format!("deleting {name} had no answer; try again"))),
            }
        })?;
        match code {
            Ok(()) => {}
            Err(ErrorCode::GroupIdNotFound) => return Err(unknown_group(name)),
            Err(code) => {
                let remedy = match code {
                    ErrorCode::NonEmptyGroup => "stop its members first",
                    _ => "see the broker's log",
                };
                return Err(refused(&format!("group {name} is not deleted"), code, None, remedy));
            }
        }
        if !as_json {
            writeln!(out, "group {name} deleted")?;
        }
        deleted.push(name);
    }
    if as_json {
        json(out, &json!({ "deleted": deleted }))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read() {
        let bytes: &[u8] = &[
            0, 1, // version
            0, 0, 0, 1, // topics
            0, 1, b't', // name
            0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, // partitions
            255, 255, 255, 255, // user data
        ];
        let assigned = assignment(Bytes::from_static(bytes)).unwrap();
        assert_eq!(assigned, BTreeMap::from([("t".to_owned(), vec![3, 1])]));
        assert!(assignment(Bytes::from_static(&bytes[..12])).is_err());
        assert!(assignment(Bytes::new()).unwrap().is_empty());
    }
}
