//! Space on the disk, watched so that it never runs out under what was acknowledged (storage rule 22).
//!
//! What a core has taken and not drained is at most its ring. As long as the disk has room for some rings
//! over all cores (`disk.reserve.bytes`), whatever is taken between two looks can be drained; below it,
//! records are refused until there is more. A small file, the ballast, is given up when somebody else fills the disk to the brim, so
//! that metadata and checkpoints, and with them deletes and retention, can still be written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The ballast's size.
const BALLAST_BYTES: u64 = 16 * 1024 * 1024;

/// Its name in the data directory.
const BALLAST: &str = ".ballast";

/// Part of the reserve that must be free beyond it before records are taken again.
const RESUME_PART: u64 = 8;

/// Watches the space of the data directories.
pub(super) struct SpaceWatch {
    directories: Vec<PathBuf>,
    ballast: PathBuf,
    reserve_bytes: u64,
    missing: Arc<AtomicU64>,
}

impl SpaceWatch {
    /// Watches `directories`, of which the first holds the ballast; `missing` is told how many bytes have
    /// to become free before records are taken, 0 while they are.
    pub(super) fn new(
        directories: Vec<PathBuf>,
        reserve_bytes: u64,
        missing: Arc<AtomicU64>,
    ) -> SpaceWatch {
        let ballast = directories.first().map_or_else(PathBuf::new, |first| first.join(BALLAST));
        SpaceWatch { directories, ballast, reserve_bytes, missing }
    }

    /// Looks once.
    pub(super) fn look(&self) {
        let free = self.directories.iter().filter_map(|d| free_bytes(d)).min();
        let Some(free) = free else { return };
        let refusing = self.missing.load(Ordering::Relaxed) > 0;
        let ballast = fs::metadata(&self.ballast).is_ok_and(|found| found.len() >= BALLAST_BYTES);
        // More than the least, or records would be refused again a moment later.
        let resume = self.reserve_bytes
            + self.reserve_bytes / RESUME_PART
            + if ballast { 0 } else { BALLAST_BYTES };
        if free < if refusing { resume } else { self.reserve_bytes } {
            self.refuse(free, resume, refusing);
            return;
        }
        if !ballast
            && free >= resume
            && let Err(error) = make_ballast(&self.ballast)
        {
            tracing::debug!(%error, "no ballast");
        }
        if refusing {
            self.missing.store(0, Ordering::Relaxed);
            tracing::info!(free_bytes = free, "there is space again: records are taken");
        }
    }

    fn refuse(&self, free: u64, wanted: u64, refusing: bool) {
        let missing = wanted.saturating_sub(free).max(1);
        self.missing.store(missing, Ordering::Relaxed);
        if !refusing {
            tracing::error!(
                free_bytes = free,
                missing_bytes = missing,
                reserve_bytes = self.reserve_bytes,
                "the disk is nearly full: records are refused until {missing} bytes more are free; \
                 delete topics or records, shorten their retention, or lower disk.reserve.bytes"
            );
        }
        if free < BALLAST_BYTES / 2 && fs::remove_file(&self.ballast).is_ok() {
            tracing::warn!(bytes = BALLAST_BYTES, "the ballast is given up");
        }
    }
}

fn make_ballast(path: &Path) -> io::Result<()> {
    let file = fs::File::create(path)?;
    fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES).map_err(|error| {
        let _gone = fs::remove_file(path);
        io::Error::from(error)
    })
}

fn free_bytes(directory: &Path) -> Option<u64> {
    let stat = statvfs(directory).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_refused_below_the_reserve_and_taken_again_above_it() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Arc::new(AtomicU64::new(0));
        let watch = |reserve| {
            SpaceWatch::new(vec![directory.path().to_owned()], reserve, Arc::clone(&missing))
        };
        watch(1).look();
        assert_eq!(missing.load(Ordering::Relaxed), 0);
        assert_eq!(fs::metadata(directory.path().join(BALLAST)).unwrap().len(), BALLAST_BYTES);
        watch(u64::MAX / 4).look();
        assert!(missing.load(Ordering::Relaxed) > u64::MAX / 8);
        watch(1).look();
        assert_eq!(missing.load(Ordering::Relaxed), 0);
    }
}
