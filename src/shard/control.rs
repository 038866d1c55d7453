//! Changes of metadata, on shard 0: one at a time, flushed before any shard acts on them (rule 11).

use std::io;
use std::rc::Rc;

use glommio::channels::local_channel::{self, LocalReceiver, LocalSender};

use super::Shard;
use super::message::{
    Call, ControlFailure, ControlOutcome, ControlRequest, MorePartitions, NewTopic, Reply,
};
use crate::metadata::{Metadata, MetadataRecord, TopicError};
use crate::partition::metadata_log::MetadataLog;
use crate::storage::is_full;
use crate::types::{ShardId, TopicId};

type ControlResult = Result<Vec<ControlOutcome>, ControlFailure>;

struct Job {
    work: Work,
    reply: LocalSender<ControlResult>,
}

enum Work {
    Request(ControlRequest),
    Record(MetadataRecord),
}

/// The way to the metadata machine.
pub struct Control {
    jobs: LocalSender<Job>,
}

impl Control {
    /// Starts the machine on this shard.
    #[must_use]
    pub fn start(shard: &Rc<Shard>, metadata: Metadata, log: MetadataLog) -> Control {
        let (jobs, receiver) = local_channel::new_unbounded();
        let shard = Rc::clone(shard);
        glommio::spawn_local(run(shard, metadata, log, receiver)).detach();
        Control { jobs }
    }

    /// Asks for a change and waits until every shard acts on it.
    ///
    /// # Errors
    /// When the metadata log failed; nothing changes any more then.
    pub async fn request(&self, request: ControlRequest) -> ControlResult {
        self.submit(Work::Request(request)).await
    }

    /// Appends a record of the broker's own life: a clean stop, journals dropped.
    ///
    /// # Errors
    /// When the metadata log failed.
    pub async fn record(&self, record: MetadataRecord) -> ControlResult {
        self.submit(Work::Record(record)).await
    }

    async fn submit(&self, work: Work) -> ControlResult {
        let stopped = || ControlFailure("the metadata log has failed".into());
        let (reply, answer) = local_channel::new_unbounded();
        self.jobs.try_send(Job { work, reply }).map_err(|_| stopped())?;
        answer.recv().await.unwrap_or_else(|| Err(stopped()))
    }
}

async fn run(
    shard: Rc<Shard>,
    mut metadata: Metadata,
    mut log: MetadataLog,
    jobs: LocalReceiver<Job>,
) {
    while let Some(job) = jobs.recv().await {
        let (records, outcomes) = match job.work {
            Work::Request(request) => decide(&metadata, request, shard.broker().config.node_id),
            Work::Record(record) => (vec![record], Vec::new()),
        };
        let result = commit(&shard, &mut metadata, &mut log, records).await;
        // Without space nothing was written, and the next record takes the same place.
        let failed = result.as_ref().is_err_and(|error| !is_full(error));
        let answer = result
            .map(|()| outcomes)
            .map_err(|error| ControlFailure(format!("metadata log: {error}")));
        if job.reply.try_send(answer).is_err() {
            tracing::debug!("nobody waits for a metadata change any more");
        }
        if failed {
            // The record may be in the log or not: only a restart can tell.
            shard.store().journal().fence(&io::Error::other("the metadata log has failed"));
            break;
        }
    }
}

fn decide(
    metadata: &Metadata,
    request: ControlRequest,
    node_id: i32,
) -> (Vec<MetadataRecord>, Vec<ControlOutcome>) {
    // Each topic is decided upon with those before it in place.
    let mut next = metadata.clone();
    let mut records = Vec::new();
    let mut outcomes = Vec::new();
    match request {
        ControlRequest::Create { topics, validate_only } => {
            for NewTopic { name, partitions, configs } in topics {
                let id = TopicId::random();
                match next.create_topic(&name, id, partitions, configs) {
                    Ok(record) => {
                        next.replay(&record);
                        outcomes.push(ControlOutcome::Created(id));
                        records.push(record);
                    }
                    Err(error) => outcomes.push(ControlOutcome::Refused(error)),
                }
            }
            if validate_only {
                records.clear();
            }
        }
        ControlRequest::ProducerIds => match next.next_producer_ids() {
            Ok((record, ids)) => {
                outcomes.push(ControlOutcome::ProducerIds(ids));
                records.push(record);
            }
            Err(error) => outcomes.push(ControlOutcome::Refused(error)),
        },
        ControlRequest::Delete(ids) => {
            for id in ids {
                if next.image().by_id(id).is_none() {
                    outcomes.push(ControlOutcome::Unknown);
                    continue;
                }
                let record = MetadataRecord::TopicDeleted { id };
                next.replay(&record);
                records.push(record);
                outcomes.push(ControlOutcome::Deleted);
            }
        }
        ControlRequest::AddPartitions { topics, validate_only } => {
            for MorePartitions { name, count, assignments } in topics {
                let decided = next.create_partitions(&name, count, assignments.as_deref(), node_id);
                let decided = decided.map(|record| vec![record]);
                outcomes.push(changed(&mut next, &mut records, decided));
            }
            if validate_only {
                records.clear();
            }
        }
        ControlRequest::AlterConfigs { changes, validate_only } => {
            for change in &changes {
                let decided = next.alter_configs(change);
                outcomes.push(changed(&mut next, &mut records, decided));
            }
            if validate_only {
                records.clear();
            }
        }
    }
    (records, outcomes)
}

/// Takes what was decided, for those that are decided after it.
fn changed(
    next: &mut Metadata,
    records: &mut Vec<MetadataRecord>,
    decided: Result<Vec<MetadataRecord>, TopicError>,
) -> ControlOutcome {
    match decided {
        Ok(decided) => {
            decided.iter().for_each(|record| next.replay(record));
            records.extend(decided);
            ControlOutcome::Changed
        }
        Err(error) => ControlOutcome::Refused(error),
    }
}

async fn commit(
    shard: &Rc<Shard>,
    metadata: &mut Metadata,
    log: &mut MetadataLog,
    records: Vec<MetadataRecord>,
) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    log.append(&records).await?;
    for record in &records {
        metadata.replay(record);
    }
    // The broker's own life is no shard's matter but this one's.
    let own_life = |r: &MetadataRecord| {
        matches!(
            r,
            MetadataRecord::Start { .. }
                | MetadataRecord::CleanStop { .. }
                | MetadataRecord::ProducerIds { .. }
                | MetadataRecord::OldJournalsDropped { .. }
        )
    };
    let records: Vec<MetadataRecord> = records.into_iter().filter(|r| !own_life(r)).collect();
    if records.is_empty() {
        return Ok(());
    }
    let replies: Vec<_> = (1..shard.shards())
        .map(|to| shard.router().call(ShardId(to), Call::Replay(records.clone())))
        .collect();
    shard.replay(&records).await?;
    for reply in replies {
        if let Reply::Done(Err(error)) = reply.await {
            return Err(io::Error::other(error));
        }
    }
    Ok(())
}

/// Kafka's words for a refusal, for whoever maps it to an error code.
#[must_use]
pub fn refusal(error: &TopicError) -> &str {
    match error {
        TopicError::InvalidName(why)
        | TopicError::Exists(why)
        | TopicError::InvalidPartitions(why)
        | TopicError::UnknownTopic(why)
        | TopicError::InvalidConfig(why)
        | TopicError::InvalidRequest(why)
        | TopicError::InvalidAssignment(why)
        | TopicError::Limit(why) => why,
    }
}
