//! The data directory as a whole: its lock, its format version, the cluster's id.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::config::Config;
use crate::limits::BLOCK;
use crate::partition::recovery::{Directories, kafka_uuid};
use crate::types::TopicId;

/// Format of everything below the data directory; a newer one is refused.
const FORMAT: u32 = 1;

const LOCK: &str = ".lock";
const META: &str = "meta.properties";
const FORMAT_KEY: &str = "millstream.format";

/// Whether a directory is a broker's data directory.
pub(super) fn is_there(path: &Path) -> bool {
    path.join(META).is_file()
}

/// A locked data directory.
pub(super) struct DataDirectory {
    cluster_id: String,
    /// Held for as long as the broker runs.
    _lock: File,
}

impl DataDirectory {
    /// Creates or opens the directory and takes its lock.
    pub(super) fn open(config: &Config) -> Result<DataDirectory, String> {
        let path = &config.log_dir;
        let bad = |what: &str, error: &dyn std::fmt::Display| {
            format!(
                "data directory {}: {what}: {error}; choose another with --data-dir, or make this \
                 one writable",
                path.display()
            )
        };
        fs::create_dir_all(path).map_err(|e| bad("cannot be created", &e))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(|e| bad("cannot be written", &e))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            format!(
                "data directory {} is in use by another broker: stop it, or choose another \
                 directory with --data-dir",
                path.display()
            )
        })?;
        let cluster_id = read_or_write_meta(path, config.node_id)
            .map_err(|why| format!("data directory {}: {why}", path.display()))?;
        Ok(DataDirectory { cluster_id, _lock: lock })
    }

    pub(super) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }
}

/// Writes the files that the runtime probes the disks with.
pub(super) fn write_probes(directories: &Directories) -> Result<(), String> {
    for path in directories.probes() {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .and_then(|()| fs::write(&path, [0; BLOCK]))
                .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        }
    }
    Ok(())
}

fn read_or_write_meta(directory: &Path, node_id: i32) -> Result<String, String> {
    let path = directory.join(META);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return write_meta(directory, &path, node_id)
                .map_err(|e| format!("{META} cannot be written: {e}"));
        }
        Err(error) => return Err(format!("{META} cannot be read: {error}")),
    };
    let value = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::trim)
    };
    let format = value(FORMAT_KEY).and_then(|v| v.parse::<u32>().ok()).ok_or(format!(
        "{META} has no {FORMAT_KEY}: it is not a data directory of Millstream; choose another with \
         --data-dir"
    ))?;
    if format > FORMAT {
        return Err(format!(
            "its format is {format}, this version knows up to {FORMAT}: start the version that \
             wrote it"
        ));
    }
    if let Some(stored) = value("node.id").and_then(|v| v.parse::<i32>().ok())
        && stored != node_id
    {
        return Err(format!(
            "it belongs to node.id {stored}, the configuration says {node_id}: set \
                 node.id={stored}, or choose another directory with --data-dir"
        ));
    }
    value("cluster.id").map(str::to_owned).ok_or(format!("{META} has no cluster.id"))
}

fn write_meta(directory: &Path, path: &Path, node_id: i32) -> std::io::Result<String> {
    let cluster_id = kafka_uuid(TopicId::random());
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "version=1\nnode.id={node_id}\ncluster.id={cluster_id}\ndirectory.id={}\n{FORMAT_KEY}={FORMAT}\n",
        kafka_uuid(TopicId::random())
    );
    let temporary = directory.join(format!("{META}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()?;
    Ok(cluster_id)
}
