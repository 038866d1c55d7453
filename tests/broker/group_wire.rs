//! Members of groups by hand: what a client library would not do so fast, or would hide.

use crate::outcome::{Result, ensure, failure};
use crate::wire::{Answer, Bytes, Connection};

const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;
const FIND_COORDINATOR: i16 = 10;
const JOIN_GROUP: i16 = 11;
const HEARTBEAT: i16 = 12;
const LEAVE_GROUP: i16 = 13;
const SYNC_GROUP: i16 = 14;

/// COORDINATOR_LOAD_IN_PROGRESS.
pub(crate) const LOADING: i16 = 14;

/// What a member is told when its generation begins.
pub(crate) struct Joined {
    pub(crate) error: i16,
    pub(crate) generation: i32,
    pub(crate) leader: String,
    pub(crate) member: String,
    pub(crate) members: Vec<String>,
}

impl Connection {
    /// Sees to it that there is a coordinator.
    pub(crate) fn find_coordinator(&mut self, group: &str) -> Result<()> {
        let mut answer = self.call(FIND_COORDINATOR, 0, &Bytes::default().string(group))?;
        let error = answer.i16()?;
        ensure(error == 0, || format!("FindCoordinator answered {error}"))
    }

    /// Commits one offset; Kafka's error code.
    pub(crate) fn commit(
        &mut self,
        group: &str,
        (generation, member): (i32, &str),
        (topic, partition): (&str, i32),
        offset: i64,
    ) -> Result<i16> {
        let body = Bytes::default()
            .string(group)
            .i32(generation)
            .string(member)
            .i64(-1)
            .i32(1)
            .string(topic)
            .i32(1)
            .i32(partition)
            .i64(offset)
            .string("by hand");
        let mut answer = self.call(OFFSET_COMMIT, 2, &body)?;
        let (_, _, _, _) = (answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
        answer.i16()
    }

    /// What a group has committed for one partition, -1 for nothing; or Kafka's error code.
    pub(crate) fn committed(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Result<std::result::Result<i64, i16>> {
        let body = Bytes::default().string(group).i32(1).string(topic).i32(1).i32(partition);
        let mut answer = self.call(OFFSET_FETCH, 1, &body)?;
        let (_, _, _, _) = (answer.i32()?, answer.string()?, answer.i32()?, answer.i32()?);
        let (offset, _, error) = (answer.i64()?, answer.string()?, answer.i16()?);
        Ok(if error == 0 { Ok(offset) } else { Err(error) })
    }

    /// Sends a JoinGroup of a version in which a member needs no id first.
    pub(crate) fn begin_join(&mut self, group: &str, member: &str, session_ms: i32) -> Bytes {
        Bytes::default()
            .string(group)
            .i32(session_ms)
            .string(member)
            .string("consumer")
            .i32(1)
            .string("by-hand")
            .bytes(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
    }

    /// Joins, and waits for the generation.
    pub(crate) fn join(&mut self, group: &str, member: &str, session_ms: i32) -> Result<Joined> {
        let body = self.begin_join(group, member, session_ms);
        let answer = self.call(JOIN_GROUP, 0, &body)?;
        joined(answer)
    }

    /// Asks for the assignment; as the leader, assigns its index to each of `members`.
    pub(crate) fn sync(
        &mut self,
        group: &str,
        generation: i32,
        member: &str,
        members: &[String],
    ) -> Result<(i16, Vec<u8>)> {
        let count = i32::try_from(members.len())?;
        let mut body = Bytes::default().string(group).i32(generation).string(member).i32(count);
        for (index, member) in members.iter().enumerate() {
            body = body.string(member).bytes(format!("{generation}/{index}").as_bytes());
        }
        let mut answer = self.call(SYNC_GROUP, 0, &body)?;
        let (error, length) = (answer.i16()?, answer.i32()?);
        Ok((error, answer.bytes(usize::try_from(length.max(0))?)?))
    }

    /// Heartbeats; Kafka's error code.
    pub(crate) fn heartbeat(&mut self, group: &str, generation: i32, member: &str) -> Result<i16> {
        let body = Bytes::default().string(group).i32(generation).string(member);
        self.call(HEARTBEAT, 0, &body)?.i16()
    }

    /// Leaves; Kafka's error code.
    pub(crate) fn leave(&mut self, group: &str, member: &str) -> Result<i16> {
        self.call(LEAVE_GROUP, 0, &Bytes::default().string(group).string(member))?.i16()
    }
}

fn joined(mut answer: Answer) -> Result<Joined> {
    let error = answer.i16()?;
    let generation = answer.i32()?;
    let (_, leader, member) = (answer.string()?, answer.string()?, answer.string()?);
    let count = answer.i32()?;
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(answer.string()?);
        let length = answer.i32()?;
        answer.bytes(usize::try_from(length).map_err(|_| failure("a negative length"))?)?;
    }
    Ok(Joined { error, generation, leader, member, members })
}
