//! `millstream group reset`: moves the offsets of a group that has no members.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{ArgGroup, Args};
use millstream::protocol::messages::metadata::MetadataResponseTopic;
use millstream::protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream::protocol::messages::{MetadataResponse, OffsetCommitRequest};
use millstream::protocol::{ErrorCode, StrBytes};
use serde_json::{Value, json};

use super::Failure;
use super::group::{Committed, committed, coordinator, group, patiently};
use super::remote::{Session, json, refused, table};
use super::topic::{EARLIEST, LATEST, offsets};

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("what").required(true).args(["topic", "all_topics"])),
    group(ArgGroup::new("where").required(true)
        .args(["to_earliest", "to_latest", "to_offset", "to_datetime", "shift_by"])),
)]
pub(super) struct ResetArgs {
    /// The group; a new one is made for a name that is not there
    name: String,
    /// A topic, with or without a list of its partitions
    #[arg(short, long, value_name = "TOPIC[:P,P..]", value_parser = chosen)]
    topic: Vec<Chosen>,
    /// All partitions that the group has offsets for
    #[arg(long)]
    all_topics: bool,
    /// To the first record
    #[arg(long)]
    to_earliest: bool,
    /// To the end
    #[arg(long)]
    to_latest: bool,
    /// To an offset
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// To the first record of this time or later, as 2026-11-22T08:00:00 (UTC), ...Z or ...+01:00
    #[arg(long, value_name = "TIME", value_parser = datetime)]
    to_datetime: Option<i64>,
    /// By so many records: forward, or back if negative
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// Do it; otherwise it is only shown
    #[arg(long)]
    execute: bool,
}

/// Partitions of a topic; all of them for none.
#[derive(Clone, Debug, PartialEq)]
struct Chosen {
    topic: String,
    partitions: Option<Vec<i32>>,
}

fn chosen(text: &str) -> Result<Chosen, String> {
    let Some((topic, list)) = text.rsplit_once(':') else {
        return Ok(Chosen { topic: text.to_owned(), partitions: None });
    };
    let partitions = list.split(',').map(|number| match number.trim().parse::<i32>() {
        Ok(number) if number >= 0 => Ok(number),
        _ => Err(format!("{number} is no partition")),
    });
    Ok(Chosen { topic: topic.to_owned(), partitions: Some(partitions.collect::<Result<_, _>>()?) })
}

/// Milliseconds since 1970 of a time as ISO 8601 writes it, in UTC unless it says otherwise.
fn datetime(text: &str) -> Result<i64, String> {
    parse_datetime(text).ok_or_else(|| {
        "write a time as 2026-11-22T08:00:00, with .000, Z or +01:00 behind it if need be"
            .to_owned()
    })
}

fn parse_datetime(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once('T')?;
    let (time, zone) = match rest.find(['Z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, "Z"),
    };
    let zone_minutes = match zone.strip_prefix(['+', '-']) {
        None if zone == "Z" => 0,
        None => return None,
        Some(offset) => {
            let (hours, minutes) = match offset.split_once(':') {
                Some(pair) => pair,
                None if offset.len() == 4 => offset.split_at_checked(2)?,
                None => (offset, "0"),
            };
            let minutes = number(hours, 18)? * 60 + number(minutes, 59)?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let mut parts = date.splitn(3, '-');
    let (year, month, day) =
        (number(parts.next()?, 9999)?, number(parts.next()?, 12)?, number(parts.next()?, 31)?);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    if month < 1 || day < 1 || day > days {
        return None;
    }
    let mut parts = time.splitn(3, ':');
    let (hour, minute) = (number(parts.next()?, 23)?, number(parts.next()?, 59)?);
    let (second, fraction) = match parts.next() {
        None => ("0", "0"),
        Some(seconds) => seconds.split_once('.').unwrap_or((seconds, "0")),
    };
    let millis = number(format!("{fraction:0<3}").get(..3)?, 999)?;
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let shifted = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
    let minutes = (day * 24 + hour) * 60 + minute - zone_minutes;
    Some((minutes * 60 + number(second, 59)?) * 1000 + millis)
}

/// Digits only, up to a greatest value.
fn number(text: &str, most: i64) -> Option<i64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= most)
}

/// Where one partition is moved.
struct Move {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: i64,
}

pub(super) fn run(
    session: &mut Session,
    args: &ResetArgs,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let name = &args.name;
    let node = coordinator(session, name)?;
    let metadata = session.metadata(None)?;
    if let Some(group) = group(session, node, name)?
        && !matches!(group.state.as_str(), "Empty" | "Dead")
    {
        return Err(Failure::Runtime(format!(
            "group {name} is {} with {} member(s): offsets can be reset only without any; stop \
             its members first",
            group.state,
            group.members.len()
        )));
    }
    let before = committed(session, node, name, &metadata)?;
    let partitions = partitions(session, args, &before)?;
    let moves = plan(session, args, &metadata, &partitions, &before)?;
    if args.execute {
        commit(session, node, name, &metadata, &moves)?;
    }
    if as_json {
        let rows: Vec<Value> = moves
            .iter()
            .map(|one| {
                json!({
                    "topic": one.topic,
                    "partition": one.partition,
                    "offset": one.from,
                    "new_offset": one.to,
                })
            })
            .collect();
        return Ok(json(
            out,
            &json!({ "group": name, "executed": args.execute, "offsets": rows }),
        )?);
    }
    let rows: Vec<Vec<String>> = moves
        .iter()
        .map(|one| {
            let from = one.from.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
            vec![one.topic.clone(), one.partition.to_string(), from, one.to.to_string()]
        })
        .collect();
    table(out, &["TOPIC", "PARTITION", "OFFSET", "NEW-OFFSET"], &rows)?;
    if !args.execute {
        eprintln!("nothing is changed yet: give --execute to do it");
    }
    Ok(())
}

/// What is to be moved, by topic.
fn partitions(
    session: &mut Session,
    args: &ResetArgs,
    before: &Committed,
) -> Result<BTreeMap<String, Vec<i32>>, Failure> {
    let mut partitions: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    if args.all_topics {
        for (topic, partition) in before.keys() {
            partitions.entry(topic.clone()).or_default().push(*partition);
        }
        if partitions.is_empty() {
            return Err(Failure::Runtime(format!(
                "group {} has no offsets; name topics with --topic",
                args.name
            )));
        }
        return Ok(partitions);
    }
    for chosen in &args.topic {
        let topic = session.topic(&chosen.topic)?;
        let mut all: Vec<i32> = topic.partitions.iter().map(|p| p.partition_index).collect();
        all.sort_unstable();
        let wanted = chosen.partitions.clone().unwrap_or_else(|| all.clone());
        if let Some(unknown) = wanted.iter().find(|partition| !all.contains(partition)) {
            return Err(Failure::Runtime(format!(
                "topic {0} has no partition {unknown}; see `millstream topic describe {0}`",
                chosen.topic
            )));
        }
        let entry = partitions.entry(chosen.topic.clone()).or_default();
        entry.extend(wanted);
        entry.sort_unstable();
        entry.dedup();
    }
    Ok(partitions)
}

fn find<'a>(metadata: &'a MetadataResponse, name: &str) -> Option<&'a MetadataResponseTopic> {
    metadata.topics.iter().find(|topic| topic.name.as_deref() == Some(name))
}

/// Where each partition goes; never before its first record nor behind its end, as Kafka's own tool.
fn plan(
    session: &mut Session,
    args: &ResetArgs,
    metadata: &MetadataResponse,
    partitions: &BTreeMap<String, Vec<i32>>,
    before: &Committed,
) -> Result<Vec<Move>, Failure> {
    let mut moves = Vec::new();
    for (name, wanted) in partitions {
        let topic = find(metadata, name).ok_or_else(|| {
            Failure::Runtime(format!(
                "topic {name} is gone; leave it out by naming the others with --topic"
            ))
        })?;
        let starts = offsets(session, topic, EARLIEST)?;
        let ends = offsets(session, topic, LATEST)?;
        let at_time = match args.to_datetime {
            Some(time) => offsets(session, topic, time)?,
            None => BTreeMap::new(),
        };
        for &partition in wanted {
            let known = starts.get(&partition).zip(ends.get(&partition));
            let (&start, &end) = known.ok_or_else(|| {
                Failure::Runtime(format!("{name}-{partition} has no leader; wait until it has one"))
            })?;
            let from = before.get(&(name.clone(), partition)).copied();
            let to = if args.to_earliest {
                start
            } else if args.to_latest {
                end
            } else if let Some(offset) = args.to_offset {
                offset
            } else if let Some(count) = args.shift_by {
                let from = from.ok_or_else(|| {
                    Failure::Runtime(format!(
                        "group {} has no offset for {name}-{partition} to shift; use --to-earliest \
                         or --to-latest",
                        args.name
                    ))
                })?;
                from.saturating_add(count)
            } else {
                // No record is as late as that.
                at_time.get(&partition).copied().filter(|offset| *offset >= 0).unwrap_or(end)
            };
            let to = to.clamp(start, end);
            moves.push(Move { topic: name.clone(), partition, from, to });
        }
    }
    Ok(moves)
}

fn commit(
    session: &mut Session,
    node: i32,
    name: &str,
    metadata: &MetadataResponse,
    moves: &[Move],
) -> Result<(), Failure> {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for one in moves {
        let partition = OffsetCommitRequestPartition {
            partition_index: one.partition,
            committed_offset: one.to,
            ..Default::default()
        };
        match topics.last_mut().filter(|topic| topic.name.as_str() == one.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetCommitRequestTopic {
                name: StrBytes::from(one.topic.clone()),
                topic_id: find(metadata, &one.topic)
                    .map(|topic| topic.topic_id)
                    .unwrap_or_default(),
                partitions: vec![partition],
            }),
        }
    }
    let request = OffsetCommitRequest {
        group_id: StrBytes::from(name.to_owned()),
        topics,
        ..Default::default()
    };
    let done = patiently(session, |session| {
        let response = session.broker(node)?.call(&request)?;
        let mut codes = response.topics.iter().flat_map(|topic| &topic.partitions);
        let failed = codes.find(|partition| partition.error_code != ErrorCode::None);
        Ok(failed.map_or(Ok(()), |partition| Err(partition.error_code)))
    })?;
    done.map_err(|code| {
        let remedy = match code {
            ErrorCode::UnknownMemberId => "a member has joined meanwhile: stop it first",
            _ => "see `millstream group describe`; some partitions may be moved already",
        };
        refused(&format!("offsets of group {name} are not reset"), code, None, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_kafkas_tool_reads_them() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:34:56.789", Some(951_827_696_789)),
            ("2026-11-22T08:00:00+01:00", Some(1_795_330_800_000)),
            ("2026-11-22T08:00:00.5+0100", Some(1_795_330_800_500)),
            ("2026-11-22T08:00-08", Some(1_795_363_200_000)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-11-22", None),
            ("2026-11-22T25:00:00Z", None),
            ("2026-11-22T08:00:00+1x", None),
        ] {
            assert_eq!(parse_datetime(text), millis, "{text}");
        }
    }

    #[test]
    fn partitions_are_chosen() {
        let all = Chosen { topic: "t".to_owned(), partitions: None };
        let some = Chosen { topic: "t".to_owned(), partitions: Some(vec![0, 2]) };
        assert_eq!(chosen("t"), Ok(all));
        assert_eq!(chosen("t:0,2"), Ok(some));
        assert!(chosen("t:x").is_err());
    }
}
