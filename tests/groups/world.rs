//! A machine with a log and a clock, for tests: time passes only when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream::config::GroupSettings;
use millstream::coordinator::{
    Answer, Command, GroupMachine, Now, Outcome, Response, State, Transition, Waiter,
};
use millstream::protocol::StrBytes;
use millstream::protocol::group_records::GroupRecord;
use millstream::time::{Monotonic, Timestamp};

/// Kafka's defaults.
pub(crate) fn settings() -> GroupSettings {
    GroupSettings {
        initial_rebalance_delay: Duration::from_secs(3),
        session_timeout_ms_min: 6_000,
        session_timeout_ms_max: 1_800_000,
        members_max: usize::MAX,
        offset_metadata_max: 4096,
        offsets_retention_ms: 7 * 24 * 3_600_000,
        offsets_retention_check: Duration::from_secs(600),
        topic_partitions: 50,
        topic_segment_bytes: 100 << 20,
        batch_bytes_max: 1_048_588,
    }
}

/// A machine, what it has written, and what it has answered.
pub(crate) struct World {
    settings: GroupSettings,
    machine: GroupMachine,
    /// Milliseconds since the beginning.
    pub(crate) now_ms: u64,
    pub(crate) log: Vec<GroupRecord>,
    next_waiter: u64,
    open: BTreeSet<u64>,
    pub(crate) answers: BTreeMap<u64, Answer>,
    pub(crate) transitions: Vec<Transition>,
    /// Broken promises of the machine itself.
    pub(crate) faults: Vec<String>,
}

impl World {
    pub(crate) fn new(settings: GroupSettings) -> World {
        let mut world = World {
            settings,
            machine: GroupMachine::new(settings),
            now_ms: 0,
            log: Vec::new(),
            next_waiter: 0,
            open: BTreeSet::new(),
            answers: BTreeMap::new(),
            transitions: Vec::new(),
            faults: Vec::new(),
        };
        let outcome = world.machine.loaded(world.now(), |_| false);
        world.carry_out(outcome);
        world
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: Monotonic(self.now_ms * 1_000_000),
            timestamp: Timestamp(1_700_000_000_000 + i64::try_from(self.now_ms).unwrap_or(0)),
        }
    }

    /// Asks; the number under which the answer will be.
    pub(crate) fn ask(&mut self, command: &Command) -> u64 {
        self.next_waiter += 1;
        let waiter = self.next_waiter;
        self.open.insert(waiter);
        let outcome = self.machine.handle(self.now(), Waiter(waiter), command);
        self.carry_out(outcome);
        waiter
    }

    /// Asks what is answered at once.
    pub(crate) fn answer_to(&mut self, command: &Command) -> Option<Answer> {
        let waiter = self.ask(command);
        self.answers.remove(&waiter)
    }

    fn carry_out(&mut self, outcome: Outcome) {
        self.transitions.extend(outcome.transitions);
        for record in &outcome.records {
            // What a restart will read is what the bytes say.
            match (record.encode_key(), record.encode_value()) {
                (Ok(key), Ok(value)) => match GroupRecord::decode(key, value) {
                    Ok(Some(read)) if read == *record => {}
                    other => self.faults.push(format!("{record:?} reads back as {other:?}")),
                },
                other => self.faults.push(format!("{record:?} cannot be written: {other:?}")),
            }
            let now = self.now();
            self.transitions.extend(self.machine.replay(now, record));
        }
        self.log.extend(outcome.records);
        for reply in outcome.replies {
            if self.open.remove(&reply.waiter.0) {
                self.answers.insert(reply.waiter.0, reply.answer);
            } else {
                self.faults.push(format!("{:?} answered twice or never asked", reply.waiter));
            }
        }
        for transition in &self.transitions {
            if !transition.from.may_become(transition.to) {
                self.faults.push(format!("{transition:?} is not allowed"));
            }
        }
    }

    /// Lets time pass, each deadline in its instant.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        loop {
            while let Some(outcome) = self.machine.expire(self.now()) {
                self.carry_out(outcome);
            }
            let next = self.machine.next_deadline().map_or(u64::MAX, |d| d.0.div_ceil(1_000_000));
            if next > end {
                break;
            }
            self.now_ms = next.max(self.now_ms);
        }
        self.now_ms = end;
    }

    /// The machine is gone with all who wait, and another reads its log.
    pub(crate) fn restart(&mut self, gone: &[&str]) {
        self.machine = GroupMachine::new(self.settings);
        self.open.clear();
        for index in 0..self.log.len() {
            let record = self.log.get(index).cloned();
            let now = self.now();
            record.into_iter().for_each(|record| {
                let _ = self.machine.replay(now, &record);
            });
        }
        let outcome = self.machine.loaded(self.now(), |topic| gone.contains(&topic));
        self.carry_out(outcome);
    }

    pub(crate) fn delete_topic(&mut self, name: &str) {
        let outcome = self.machine.topics_deleted(&[name.to_owned()]);
        self.carry_out(outcome);
    }

    /// The machine ends; who waits is answered.
    pub(crate) fn unload(&mut self) {
        let outcome = self.machine.unload(self.now());
        self.carry_out(outcome);
    }

    /// Those who have no answer.
    pub(crate) fn waiting(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn is_waiting(&self, waiter: u64) -> bool {
        self.open.contains(&waiter)
    }

    /// Deadlines in the machine.
    pub(crate) fn deadlines(&self) -> usize {
        self.machine.deadlines()
    }

    /// A group as DescribeGroups tells it.
    pub(crate) fn describe(
        &mut self,
        group: &str,
    ) -> Option<millstream::protocol::messages::describe_groups::DescribedGroup> {
        let group_id = StrBytes::from(group.to_owned());
        match self.answer_to(&Command::Describe { version: 5, group_id }) {
            Some(Ok(Response::Describe(described))) => Some(described),
            _ => None,
        }
    }

    pub(crate) fn state(&mut self, group: &str) -> Option<State> {
        let described = self.describe(group)?;
        State::ALL.into_iter().find(|state| described.group_state == state.name())
    }
}
