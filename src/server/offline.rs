//! Work on a data directory that no broker uses: `millstream log verify` and `seal`, and what `import`
//! shares with them. The directory's lock is taken as a broker takes it.

use std::collections::BTreeMap;
use std::rc::Rc;

use glommio::{LocalExecutorBuilder, Placement};

use super::directory::{self, DataDirectory};
use super::shard_main::open_store;
use super::{ServerError, executor_error, runtime};
use crate::config::Config;
use crate::limits::{EXECUTOR_MEMORY, OFFLINE_RING_BYTES, PREEMPT_TIMER};
use crate::log::{LogCheckpoint, Recovered};
use crate::metadata::{Metadata, MetadataRecord, Topic};
use crate::partition::metadata_log::MetadataLog;
use crate::partition::recovery::{self, Directories, Recovery, RecoveryError};
use crate::partition::verify::{self, Verified};
use crate::partition::{Sealed, Store};
use crate::storage::Storage;
use crate::storage::glommio::GlommioStorage;
use crate::types::TopicPartition;

/// Checks everything in the data directory, and changes nothing.
///
/// # Errors
/// When it cannot be checked at all; what is wrong with it is no error here.
pub fn verify(config: &Config) -> Result<Verified, ServerError> {
    let (_lock, directories) = existing(config)?;
    on_executor(config, &directories, async |storage| {
        verify::verify(&storage, &directories).await.map_err(RecoveryError::Disk)
    })
}

/// Moves everything that is only in the journal into segment files of exact size.
///
/// # Errors
/// See [`ServerError`].
pub fn seal(config: &Config) -> Result<Sealed, ServerError> {
    let (_lock, directories) = existing(config)?;
    on_executor(config, &directories, async |storage| {
        let mut offline = Offline::open(config, &directories, storage).await?;
        offline.own_all();
        let sealed = offline.store.seal().await?;
        offline.drop_old_journals().await?;
        offline.close(&[]).await?;
        Ok(sealed)
    })
}

/// The directories of a data directory that must be there already, and its lock.
fn existing(config: &Config) -> Result<(DataDirectory, Directories), ServerError> {
    if !directory::is_there(&config.log_dir) {
        return Err(ServerError::Directory(format!(
            "{} is no data directory of Millstream; name one with --data-dir",
            config.log_dir.display()
        )));
    }
    let directories = Directories::of(config);
    let lock = DataDirectory::open(config).map_err(ServerError::Directory)?;
    if !directories.journal.is_dir() {
        return Err(ServerError::Directory(format!(
            "the journal directory {} is missing: restore it, or set journal.dir back to what it was",
            directories.journal.display()
        )));
    }
    Ok((lock, directories))
}

/// Runs `work` on an executor of its own on the first core.
pub(super) fn on_executor<T>(
    config: &Config,
    directories: &Directories,
    work: impl AsyncFnOnce(Rc<dyn Storage>) -> Result<T, RecoveryError>,
) -> Result<T, ServerError> {
    directory::write_probes(directories).map_err(ServerError::Directory)?;
    let cpu = config.cores.first().copied().unwrap_or(0);
    let executor = LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .preempt_timer(PREEMPT_TIMER)
        .io_memory(EXECUTOR_MEMORY)
        .make()
        .map_err(|error| executor_error(&error))?;
    let done = executor.run(async {
        GlommioStorage::probe(&directories.probes()).await?;
        work(Rc::new(GlommioStorage)).await
    });
    done.map_err(|error| match error {
        RecoveryError::Disk(error) => {
            runtime(format!("data directory {}: {error}", directories.data.display()))
        }
        RecoveryError::Damaged(why) => ServerError::Runtime(why),
    })
}

/// A data directory opened as a start of a broker with one core opens it, without serving it.
pub(super) struct Offline {
    pub(super) storage: Rc<dyn Storage>,
    pub(super) store: Rc<Store>,
    pub(super) metadata: Metadata,
    pub(super) logs: BTreeMap<TopicPartition, Recovered>,
    metadata_log: MetadataLog,
    directories: Directories,
}

impl Offline {
    pub(super) async fn open(
        config: &Config,
        directories: &Directories,
        storage: Rc<dyn Storage>,
    ) -> Result<Offline, RecoveryError> {
        let salt: u32 = rand::random();
        let recovery = recovery::recover(Rc::clone(&storage), directories, 1, salt).await?;
        let Recovery { metadata: replayed, metadata_log, logs, .. } = recovery;
        let mut metadata = Metadata::default();
        metadata.set_broker(config.node_id, config.topic_defaults.clone());
        for record in &replayed.snapshot() {
            metadata.replay(record);
        }
        let mut config = config.clone();
        config.journal_ring_bytes = OFFLINE_RING_BYTES;
        let store = open_store(&storage, &config, directories, &metadata, 0).await?;
        let directories = directories.clone();
        Ok(Offline { storage, store, metadata, logs, metadata_log, directories })
    }

    /// Takes every partition of every topic, so that the checkpoint at the end speaks of all of them.
    pub(super) fn own_all(&mut self) {
        for topic in self.metadata.image().topics() {
            for partition in 0..topic.partitions {
                let id = TopicPartition { topic: topic.id, partition };
                let recovered = self.logs.remove(&id);
                self.store.add(id, &topic.name, topic.effective.segment_bytes, recovered);
                self.store.configure(id, &topic.effective);
            }
        }
    }

    /// Takes a log whose segments are in place, in the place of an empty one.
    pub(super) fn adopt(&self, id: TopicPartition, topic: &Topic, checkpoint: LogCheckpoint) {
        self.store.forget_empty(id);
        let recovered = Recovered::from_checkpoint(checkpoint, self.store.generation());
        self.store.add(id, &topic.name, topic.effective.segment_bytes, Some(recovered));
    }

    /// Appends records to the metadata log and acts on them.
    pub(super) async fn record(&mut self, records: &[MetadataRecord]) -> Result<(), RecoveryError> {
        self.metadata_log.append(records).await?;
        for record in records {
            self.metadata.replay(record);
        }
        Ok(())
    }

    /// Removes the journals of earlier starts, of which nothing is needed any more.
    async fn drop_old_journals(&mut self) -> Result<(), RecoveryError> {
        let generation = self.store.generation();
        self.record(&[MetadataRecord::OldJournalsDropped { generation }]).await?;
        recovery::remove_old_journals(&*self.storage, &self.directories.journal, generation)
            .await?;
        Ok(())
    }

    /// Writes the checkpoint, then `records`, then the clean mark.
    pub(super) async fn close(mut self, records: &[MetadataRecord]) -> Result<(), RecoveryError> {
        self.store.stop().await?;
        let mut records = records.to_vec();
        records.push(MetadataRecord::CleanStop { generation: self.store.generation() });
        self.record(&records).await?;
        self.metadata_log.close().await?;
        Ok(())
    }
}
