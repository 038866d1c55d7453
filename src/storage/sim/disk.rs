//! Files as sectors with a history since their last flush, and names as a log of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rand::Rng;
use rand::rngs::SmallRng;

use crate::storage::Open;

pub(super) const SECTOR: usize = 512;

pub(super) type InodeId = u64;

/// The disk. `clock` counts changes; a flush covers the changes counted before it was asked for.
#[derive(Default)]
pub(super) struct Disk {
    clock: u64,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: InodeId,
    names: BTreeMap<PathBuf, InodeId>,
    /// Name changes whose directory has not been flushed, oldest first.
    unflushed_names: Vec<NameChange>,
    durable_names: BTreeMap<PathBuf, InodeId>,
    directories: BTreeSet<PathBuf>,
}

#[derive(Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// Per sector, the contents it had since the last flush that covered it, with the change's number.
    history: BTreeMap<usize, Vec<(u64, Vec<u8>)>>,
    sizes: Vec<(u64, usize)>,
    late: Vec<(u64, Vec<u8>)>,
    locked: bool,
}

#[derive(Clone)]
struct NameChange {
    at: u64,
    directory: PathBuf,
    change: Change,
}

#[derive(Clone)]
enum Change {
    Bind(PathBuf, InodeId),
    Unbind(PathBuf),
    Move(PathBuf, PathBuf),
}

fn apply(names: &mut BTreeMap<PathBuf, InodeId>, change: &Change) {
    match change {
        Change::Bind(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Change::Unbind(path) => {
            names.remove(path);
        }
        Change::Move(from, to) => {
            // A directory moves with everything in it.
            let moved: Vec<_> = names
                .iter()
                .filter(|(p, _)| p.starts_with(from))
                .map(|(p, i)| (p.clone(), *i))
                .collect();
            for (path, inode) in moved {
                names.remove(&path);
                let rest = path.strip_prefix(from).map(Path::to_owned).unwrap_or_default();
                let target = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                names.insert(target, inode);
            }
        }
    }
}

impl Inode {
    fn write(&mut self, now: u64, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
            self.sizes.push((now, end));
        }
        self.bytes.splice(position..end, bytes.iter().copied());
        let first = position / SECTOR;
        for sector in first..end.div_ceil(SECTOR) {
            let start = sector * SECTOR;
            let content = self.bytes[start..(start + SECTOR).min(self.bytes.len())].to_vec();
            self.history.entry(sector).or_default().push((now, content));
        }
    }

    fn flush(&mut self, seen: u64) {
        for (sector, versions) in &mut self.history {
            let covered = versions.iter().rposition(|(at, _)| *at <= seen);
            if let Some(covered) = covered {
                put(&mut self.durable, sector * SECTOR, &versions[covered].1);
                versions.drain(..=covered);
            }
        }
        self.history.retain(|_, versions| !versions.is_empty());
        if let Some(covered) = self.sizes.iter().rposition(|(at, _)| *at <= seen) {
            self.durable.resize(self.sizes[covered].1, 0);
            self.sizes.drain(..=covered);
        }
    }

    fn lose_power(&mut self, rng: &mut SmallRng) {
        // Usually most of the tail is lost or most is kept; sometimes each sector goes its own way.
        let mode = rng.random_range(0..4u8);
        for (sector, versions) in std::mem::take(&mut self.history) {
            let keep = match mode {
                0 => false,
                1 => true,
                _ => rng.random_bool(0.5),
            };
            if keep {
                let pick = rng.random_range(0..versions.len());
                put(&mut self.durable, sector * SECTOR, &versions[pick].1);
            }
        }
        let sizes = std::mem::take(&mut self.sizes);
        if !sizes.is_empty() && rng.random_bool(0.5) {
            self.durable.resize(sizes[rng.random_range(0..sizes.len())].1, 0);
        }
        self.bytes = self.durable.clone();
        self.late.clear();
    }
}

fn put(bytes: &mut Vec<u8>, position: usize, content: &[u8]) {
    let end = position + content.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[position..end].copy_from_slice(content);
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no such file: {}", path.display()))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

fn index(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(io::Error::other)
}

impl Disk {
    pub(super) fn now(&self) -> u64 {
        self.clock
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn write(&mut self, inode: InodeId, position: u64, bytes: &[u8]) -> io::Result<()> {
        let now = self.tick();
        let position = index(position)?;
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.write(now, position, bytes);
        }
        Ok(())
    }

    /// A write of a killed process that has not landed yet.
    pub(super) fn write_late(&mut self, inode: InodeId, position: u64, bytes: &[u8]) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.late.push((position, bytes.to_vec()));
        }
    }

    pub(super) fn read(&self, inode: InodeId, position: u64, len: usize) -> io::Result<Vec<u8>> {
        let bytes = self.inodes.get(&inode).map_or(&[][..], |i| &i.bytes);
        let start = index(position)?.min(bytes.len());
        let end = (start + len).min(bytes.len());
        Ok(bytes[start..end].to_vec())
    }

    pub(super) fn flush(&mut self, inode: InodeId, seen: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.flush(seen);
        }
    }

    pub(super) fn reserve(&mut self, inode: InodeId, size: u64) {
        let now = self.tick();
        if let (Some(inode), Ok(size)) = (self.inodes.get_mut(&inode), usize::try_from(size))
            && inode.bytes.len() < size
        {
            inode.bytes.resize(size, 0);
            inode.sizes.push((now, size));
        }
    }

    pub(super) fn truncate(&mut self, inode: InodeId, size: u64) {
        let now = self.tick();
        if let (Some(inode), Ok(size)) = (self.inodes.get_mut(&inode), usize::try_from(size)) {
            inode.bytes.resize(size, 0);
            inode.sizes.push((now, size));
            inode.history.retain(|sector, _| sector * SECTOR < size);
            for (sector, versions) in &mut inode.history {
                for (_, content) in versions {
                    content.truncate(size.saturating_sub(sector * SECTOR));
                }
            }
        }
    }

    pub(super) fn size(&self, inode: InodeId) -> u64 {
        self.inodes.get(&inode).map_or(0, |i| i.bytes.len() as u64)
    }

    pub(super) fn open(
        &mut self,
        path: &Path,
        mode: Open,
        rng: &mut SmallRng,
    ) -> io::Result<InodeId> {
        let id = match self.names.get(path) {
            Some(id) => *id,
            None if mode == Open::Create => {
                if !self.directories.contains(&parent(path)) {
                    return Err(missing(path));
                }
                let id = self.next_inode;
                self.next_inode += 1;
                self.inodes.insert(id, Inode::default());
                self.change(parent(path), Change::Bind(path.to_owned(), id));
                id
            }
            None => return Err(missing(path)),
        };
        if mode != Open::Read {
            let now = self.tick();
            let inode = self.inodes.get_mut(&id).ok_or_else(|| missing(path))?;
            // Taking the lock waits for the dead process: its writes have landed by then, or never do.
            let late = std::mem::take(&mut inode.late);
            for (position, bytes) in late {
                if rng.random_bool(0.5) {
                    inode.write(now, index(position)?, &bytes);
                }
            }
            inode.locked = true;
        }
        Ok(id)
    }

    fn change(&mut self, directory: PathBuf, change: Change) {
        let at = self.tick();
        apply(&mut self.names, &change);
        self.unflushed_names.push(NameChange { at, directory, change });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let is_directory = self.directories.contains(from);
        if !is_directory && !self.names.contains_key(from) {
            return Err(missing(from));
        }
        if is_directory {
            let moved: Vec<PathBuf> =
                self.directories.iter().filter(|d| d.starts_with(from)).cloned().collect();
            for directory in moved {
                self.directories.remove(&directory);
                let rest = directory.strip_prefix(from).map(Path::to_owned).unwrap_or_default();
                let rest = rest.as_os_str();
                self.directories.insert(if rest.is_empty() { to.into() } else { to.join(rest) });
            }
            // Names not flushed yet belong to the directory, whatever it is called.
            let moved = |path: &mut PathBuf| {
                if let Ok(rest) = path.strip_prefix(from) {
                    let empty = rest.as_os_str().is_empty();
                    *path = if empty { to.to_owned() } else { to.join(rest) };
                }
            };
            for change in &mut self.unflushed_names {
                moved(&mut change.directory);
                match &mut change.change {
                    Change::Bind(path, _) | Change::Unbind(path) => moved(path),
                    Change::Move(a, b) => {
                        moved(a);
                        moved(b);
                    }
                }
            }
        }
        self.change(parent(to), Change::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        if !self.names.contains_key(path) {
            return Err(missing(path));
        }
        self.change(parent(path), Change::Unbind(path.to_owned()));
        Ok(())
    }

    pub(super) fn remove_directory(&mut self, path: &Path) {
        let files: Vec<PathBuf> =
            self.names.keys().filter(|p| p.starts_with(path)).cloned().collect();
        for file in files {
            self.change(parent(&file), Change::Unbind(file));
        }
        self.directories.retain(|d| !d.starts_with(path));
    }

    pub(super) fn create_directory(&mut self, path: &Path) {
        // Directories themselves are durable at once: an empty one promises nothing.
        for ancestor in path.ancestors() {
            self.directories.insert(ancestor.to_owned());
        }
    }

    pub(super) fn flush_directory(&mut self, path: &Path, seen: u64) {
        let (covered, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unflushed_names)
            .into_iter()
            .partition(|c| c.directory == path && c.at <= seen);
        for change in &covered {
            apply(&mut self.durable_names, &change.change);
        }
        self.unflushed_names = rest;
    }

    /// The name of a file, if it has one still.
    pub(super) fn path_of(&self, inode: InodeId) -> Option<&Path> {
        self.names.iter().find(|(_, id)| **id == inode).map(|(path, _)| path.as_path())
    }

    pub(super) fn list(&self, path: &Path) -> Vec<String> {
        let mut names = BTreeSet::new();
        for entry in self.names.keys().chain(self.directories.iter()) {
            if let Ok(rest) = entry.strip_prefix(path)
                && let Some(first) = rest.components().next()
            {
                names.insert(first.as_os_str().to_string_lossy().into_owned());
            }
        }
        names.into_iter().collect()
    }

    pub(super) fn lose_power(&mut self, rng: &mut SmallRng) {
        for inode in self.inodes.values_mut() {
            inode.lose_power(rng);
        }
        // A file system's own log keeps name changes in order: a prefix survives.
        let kept = rng.random_range(0..=self.unflushed_names.len());
        for change in self.unflushed_names.drain(..).take(kept) {
            apply(&mut self.durable_names, &change.change);
        }
        self.names = self.durable_names.clone();
        for path in self.names.keys() {
            self.directories.extend(path.ancestors().skip(1).map(Path::to_owned));
        }
    }

    pub(super) fn unlock_all(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.locked = false;
        }
    }

    pub(super) fn checksum(&self) -> u32 {
        self.inodes.values().fold(0, |sum, inode| crc32c::crc32c_append(sum, &inode.bytes))
    }

    pub(super) fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let inode = self.inodes.get(self.names.get(path)?)?;
        Some(inode.bytes.clone())
    }

    pub(super) fn damage(&mut self, path: &Path, position: usize, byte: u8) -> bool {
        let Some(inode) = self.names.get(path).and_then(|id| self.inodes.get_mut(id)) else {
            return false;
        };
        let (Some(now), Some(then)) =
            (inode.bytes.get_mut(position), inode.durable.get_mut(position))
        else {
            return false;
        };
        *now = byte;
        *then = byte;
        true
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.names.keys().cloned().collect()
    }
}
