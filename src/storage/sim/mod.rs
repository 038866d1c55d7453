//! A disk that loses power, and a deterministic executor, both driven by one seed.
//!
//! Purpose: the engine above [`super::Storage`] runs here in tests. Every choice (which task runs next,
//! which disk operation completes next, what a crash leaves behind) comes from one generator, so a
//! seed replays a run exactly; [`SimStorage::trace`] is a checksum over all of them.
//!
//! What a crash can do (storage section 9): keep any subset of the unflushed 512-byte sectors of every
//! file, and of operations still under way; forget names whose directory was not flushed; after a
//! mere kill, let the dead process's last writes land late, until the file's lock is taken.
//! What it never does: tear a 512-byte sector, or change bytes that were flushed.

mod disk;
mod executor;

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::disk::{Disk, InodeId};
use self::executor::Executor;
use super::{Buffer, BufferMut, File, Io, Job, Memory, Open, Storage};

/// How a simulated process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// kill -9: completed writes survive; those under way may land, late.
    Kill,
    /// Power loss: any subset of unflushed sectors survives.
    Power,
}

/// What goes wrong by itself, in chances per 65536 operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A write or flush reports an error (and may or may not have happened).
    pub fail: u16,
    /// There is no space to reserve, or to write past a file's end.
    pub full: u16,
}

/// Where the metadata log is.
const METADATA_LOG: &str = "metadata.log";

struct World {
    rng: SmallRng,
    disk: Disk,
    operations: BTreeMap<u64, Operation>,
    next_operation: u64,
    executor: Executor,
    trace: u32,
    faults: Faults,
    failed: u64,
    /// Flushes of files with this extension never end.
    stalled: Option<String>,
    steps: u64,
    process: u64,
}

struct Operation {
    kind: Kind,
    waker: Option<Waker>,
    done: Option<io::Result<Answer>>,
}

enum Kind {
    Write { inode: InodeId, position: u64, buffer: Buffer },
    Read { inode: InodeId, position: u64, len: usize },
    Flush { inode: InodeId, seen: u64 },
    Reserve { inode: InodeId, size: u64 },
    Truncate { inode: InodeId, size: u64 },
    Size { inode: InodeId },
    Open { path: PathBuf, mode: Open },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
    RemoveDirectory { path: PathBuf },
    CreateDirectory { path: PathBuf },
    FlushDirectory { path: PathBuf, seen: u64 },
    List { path: PathBuf },
}

enum Answer {
    Done,
    Bytes(Vec<u8>),
    Size(u64),
    Opened(InodeId),
    Names(Vec<String>),
}

/// The simulated disk and executor; clones are the same world.
#[derive(Clone)]
pub struct SimStorage {
    world: Rc<RefCell<World>>,
}

struct HeapMemory(Vec<u8>);

impl Memory for HeapMemory {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn trim(&mut self, len: usize) {
        self.0.truncate(len);
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

impl SimStorage {
    /// A new world with an empty disk.
    #[must_use]
    pub fn new(seed: u64) -> SimStorage {
        SimStorage {
            world: Rc::new(RefCell::new(World {
                rng: SmallRng::seed_from_u64(seed),
                disk: Disk::default(),
                operations: BTreeMap::new(),
                next_operation: 0,
                executor: Executor::default(),
                trace: 0,
                faults: Faults::default(),
                failed: 0,
                stalled: None,
                steps: 0,
                process: 0,
            })),
        }
    }

    /// A number below `bound` from the world's generator; 0 when `bound` is 0.
    #[must_use]
    pub fn choose(&self, bound: u64) -> u64 {
        let mut world = self.world.borrow_mut();
        world.choose(bound)
    }

    /// Sets what goes wrong by itself from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.world.borrow_mut().faults = faults;
    }

    /// Has flushes of files with this extension wait until this is called again with another, or none.
    pub fn stall_flushes(&self, extension: Option<&str>) {
        self.world.borrow_mut().stalled = extension.map(str::to_owned);
    }

    /// How many operations were made to fail.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.world.borrow().failed
    }

    /// A checksum over every choice so far.
    #[must_use]
    pub fn trace(&self) -> u32 {
        self.world.borrow().trace
    }

    /// How many steps the executor has made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.world.borrow().steps
    }

    /// Makes one step: runs one ready task or completes one disk operation. False when nothing is left
    /// to do.
    pub fn step(&self) -> bool {
        let (tasks, operations) = {
            let world = self.world.borrow();
            (world.executor.ready_len(), world.pending())
        };
        if tasks + operations == 0 {
            return false;
        }
        let mut world = self.world.borrow_mut();
        world.steps += 1;
        let pick = world.choose((tasks + operations) as u64) as usize;
        if pick < tasks {
            let taken = world.executor.take(pick);
            drop(world);
            if let Some((id, mut task, waker)) = taken {
                let mut context = Context::from_waker(&waker);
                if task.job.as_mut().poll(&mut context).is_pending() {
                    self.world.borrow_mut().executor.put_back(id, task);
                }
            }
        } else {
            let waker = world.complete(pick - tasks);
            drop(world);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        true
    }

    /// Steps until `done` says so, or nothing is left to do, or `steps` steps are over; says whether
    /// `done` did.
    pub fn run_until(&self, steps: u64, mut done: impl FnMut() -> bool) -> bool {
        for _ in 0..steps {
            if done() {
                return true;
            }
            if !self.step() {
                return done();
            }
        }
        done()
    }

    /// Runs a future to its end on this world's executor; `None` if it can never end, or did not in
    /// `steps` steps.
    pub fn block_on<T: 'static>(
        &self,
        steps: u64,
        future: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        let slot: Rc<RefCell<Option<T>>> = Rc::default();
        let filled = Rc::clone(&slot);
        self.spawn(Box::pin(async move {
            let value = future.await;
            *filled.borrow_mut() = Some(value);
        }));
        let watched = Rc::clone(&slot);
        self.run_until(steps, || watched.borrow().is_some());
        slot.borrow_mut().take()
    }

    /// The process dies: its tasks are gone, and the disk keeps what `crash` lets it keep.
    pub fn crash(&self, crash: Crash) {
        let (tasks, operations) = {
            let mut world = self.world.borrow_mut();
            world.process += 1;
            let tasks = world.executor.clear();
            let operations = std::mem::take(&mut world.operations);
            world.note(match crash {
                Crash::Kill => 0x6b,
                Crash::Power => 0x70,
            });
            for operation in operations.values() {
                if operation.done.is_none() {
                    world.leave_behind(&operation.kind, crash);
                }
            }
            if crash == Crash::Power {
                let World { rng, disk, .. } = &mut *world;
                disk.lose_power(rng);
                let sum = world.disk.checksum();
                world.note(u64::from(sum));
            }
            world.disk.unlock_all();
            (tasks, operations)
        };
        // Dropped outside the borrow: a task's end may touch the world.
        drop(tasks);
        drop(operations);
    }

    /// A file's bytes as they are now, for tests that look at or damage a disk by hand.
    #[must_use]
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        self.world.borrow().disk.peek(path)
    }

    /// Overwrites bytes of a file durably, as a failing disk would.
    pub fn damage(&self, path: &Path, position: usize, byte: u8) -> bool {
        self.world.borrow_mut().disk.damage(path, position, byte)
    }

    /// Every file's path, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.world.borrow().disk.paths()
    }

    fn submit(&self, kind: Kind) -> Pending {
        let mut world = self.world.borrow_mut();
        let id = world.next_operation;
        world.next_operation += 1;
        world.operations.insert(id, Operation { kind, waker: None, done: None });
        Pending { storage: self.clone(), id, process: world.process }
    }
}

impl World {
    fn note(&mut self, value: u64) {
        self.trace = crc32c::crc32c_append(self.trace, &value.to_be_bytes());
    }

    fn choose(&mut self, bound: u64) -> u64 {
        let value = if bound == 0 { 0 } else { self.rng.random_range(0..bound) };
        self.note(value);
        value
    }

    fn pending(&self) -> usize {
        self.operations.values().filter(|o| self.can_end(o)).count()
    }

    fn can_end(&self, operation: &Operation) -> bool {
        let stalled = match (&self.stalled, &operation.kind) {
            (Some(extension), Kind::Flush { inode, .. }) => self
                .disk
                .path_of(*inode)
                .is_some_and(|path| path.extension().is_some_and(|e| e == extension.as_str())),
            _ => false,
        };
        !stalled && operation.done.is_none()
    }

    /// Completes the `index`-th pending operation.
    fn complete(&mut self, index: usize) -> Option<Waker> {
        let id = *self.operations.iter().filter(|(_, o)| self.can_end(o)).nth(index)?.0;
        let mut operation = self.operations.remove(&id)?;
        self.note(id);
        let fails = matches!(operation.kind, Kind::Write { .. } | Kind::Flush { .. })
            && self.faults.fail > 0
            && self.choose(65536) < u64::from(self.faults.fail);
        let answer = if self.is_full(&operation.kind) {
            Err(io::ErrorKind::StorageFull.into())
        } else if fails {
            self.failed += 1;
            // The operation may have happened all the same.
            self.leave_behind(&operation.kind, Crash::Power);
            Err(io::Error::other("injected disk error"))
        } else {
            self.perform(&operation.kind)
        };
        let waker = operation.waker.take();
        operation.done = Some(answer);
        self.operations.insert(id, operation);
        waker
    }

    fn is_full(&mut self, kind: &Kind) -> bool {
        if self.faults.full == 0 {
            return false;
        }
        let (inode, wants) = match kind {
            Kind::Reserve { inode, size } => (*inode, *size > self.disk.size(*inode)),
            Kind::Write { inode, position, buffer } => {
                let end = position + buffer.bytes().len() as u64;
                (*inode, end > self.disk.size(*inode))
            }
            _ => return false,
        };
        // The broker keeps a ballast for its metadata log.
        let metadata = self.disk.path_of(inode).is_some_and(|path| path.ends_with(METADATA_LOG));
        wants && !metadata && self.choose(65536) < u64::from(self.faults.full)
    }

    fn perform(&mut self, kind: &Kind) -> io::Result<Answer> {
        match kind {
            Kind::Write { inode, position, buffer } => {
                self.disk.write(*inode, *position, buffer.bytes())?;
                Ok(Answer::Done)
            }
            Kind::Read { inode, position, len } => {
                Ok(Answer::Bytes(self.disk.read(*inode, *position, *len)?))
            }
            Kind::Flush { inode, seen } => {
                self.disk.flush(*inode, *seen);
                Ok(Answer::Done)
            }
            Kind::Reserve { inode, size } => {
                self.disk.reserve(*inode, *size);
                Ok(Answer::Done)
            }
            Kind::Truncate { inode, size } => {
                self.disk.truncate(*inode, *size);
                Ok(Answer::Done)
            }
            Kind::Size { inode } => Ok(Answer::Size(self.disk.size(*inode))),
            Kind::Open { path, mode } => {
                let World { rng, disk, .. } = self;
                let inode = disk.open(path, *mode, rng)?;
                Ok(Answer::Opened(inode))
            }
            Kind::Rename { from, to } => {
                self.disk.rename(from, to)?;
                Ok(Answer::Done)
            }
            Kind::Remove { path } => {
                self.disk.remove(path)?;
                Ok(Answer::Done)
            }
            Kind::RemoveDirectory { path } => {
                self.disk.remove_directory(path);
                Ok(Answer::Done)
            }
            Kind::CreateDirectory { path } => {
                self.disk.create_directory(path);
                Ok(Answer::Done)
            }
            Kind::FlushDirectory { path, seen } => {
                self.disk.flush_directory(path, *seen);
                Ok(Answer::Done)
            }
            Kind::List { path } => Ok(Answer::Names(self.disk.list(path))),
        }
    }

    /// What an operation that never reported success may have done to the disk.
    fn leave_behind(&mut self, kind: &Kind, crash: Crash) {
        let Kind::Write { inode, position, buffer } = kind else {
            // Anything else under way may simply have happened or not.
            let happens =
                !matches!(kind, Kind::Open { .. } | Kind::Flush { .. }) && self.choose(2) == 0;
            if happens {
                drop(self.perform(kind));
            }
            return;
        };
        let sectors = buffer.len().div_ceil(disk::SECTOR);
        let mode = self.choose(4);
        for sector in 0..sectors {
            let lands = match mode {
                0 => false,
                1 => true,
                _ => self.choose(2) == 0,
            };
            if !lands {
                continue;
            }
            let start = sector * disk::SECTOR;
            let end = (start + disk::SECTOR).min(buffer.len());
            let bytes = buffer.get(start..end).unwrap_or(&[]);
            let at = position + start as u64;
            match crash {
                Crash::Kill => self.disk.write_late(*inode, at, bytes),
                Crash::Power => drop(self.disk.write(*inode, at, bytes)),
            }
        }
    }
}

/// A disk operation that has been submitted.
struct Pending {
    storage: SimStorage,
    id: u64,
    process: u64,
}

impl Future for Pending {
    type Output = io::Result<Answer>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut world = self.storage.world.borrow_mut();
        match world.operations.get_mut(&self.id) {
            Some(operation) if operation.done.is_none() => {
                operation.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(_) => {
                let done = world.operations.remove(&self.id).and_then(|o| o.done);
                Poll::Ready(done.unwrap_or_else(|| Err(io::Error::other("answered twice"))))
            }
            // The process this operation belonged to is gone.
            None => Poll::Pending,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Ok(mut world) = self.storage.world.try_borrow_mut() else {
            return;
        };
        if world.process == self.process {
            let unfinished = world.operations.get(&self.id).is_some_and(|o| o.done.is_none());
            let writes = world
                .operations
                .get(&self.id)
                .is_some_and(|o| matches!(o.kind, Kind::Write { .. } | Kind::Flush { .. }));
            debug_assert!(!(unfinished && writes), "a write future was dropped");
            if !unfinished {
                world.operations.remove(&self.id);
            }
        }
    }
}

struct SimFile {
    storage: SimStorage,
    inode: InodeId,
}

impl SimFile {
    fn done(&self, kind: Kind) -> Io<()> {
        let pending = self.storage.submit(kind);
        Box::pin(async move { pending.await.map(|_| ()) })
    }
}

impl File for SimFile {
    fn write(&self, buffer: Buffer, position: u64) -> Io<()> {
        assert_eq!(position % crate::limits::BLOCK as u64, 0, "unaligned write position");
        assert_eq!(buffer.len() % crate::limits::BLOCK, 0, "unaligned write length");
        self.done(Kind::Write { inode: self.inode, position, buffer })
    }

    fn read(&self, position: u64, len: usize) -> Io<Buffer> {
        assert_eq!(position % crate::limits::BLOCK as u64, 0, "unaligned read position");
        assert_eq!(len % crate::limits::BLOCK, 0, "unaligned read length");
        let pending = self.storage.submit(Kind::Read { inode: self.inode, position, len });
        Box::pin(async move {
            match pending.await? {
                Answer::Bytes(bytes) => Ok(BufferMut::new(Box::new(HeapMemory(bytes))).freeze()),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        })
    }

    fn flush(&self) -> Io<()> {
        let seen = self.storage.world.borrow().disk.now();
        self.done(Kind::Flush { inode: self.inode, seen })
    }

    fn reserve(&self, size: u64) -> Io<()> {
        self.done(Kind::Reserve { inode: self.inode, size })
    }

    fn truncate(&self, size: u64) -> Io<()> {
        self.done(Kind::Truncate { inode: self.inode, size })
    }

    fn size(&self) -> Io<u64> {
        let pending = self.storage.submit(Kind::Size { inode: self.inode });
        Box::pin(async move {
            match pending.await? {
                Answer::Size(size) => Ok(size),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        })
    }

    fn close(&self) -> Io<()> {
        Box::pin(async { Ok(()) })
    }
}

impl Storage for SimStorage {
    fn allocate(&self, len: usize) -> BufferMut {
        // Old bytes, as pooled memory has: whoever does not fill a buffer is found out.
        BufferMut::new(Box::new(HeapMemory(vec![0xa5; len])))
    }

    fn open(&self, path: &Path, mode: Open) -> Io<Rc<dyn File>> {
        let pending = self.submit(Kind::Open { path: path.to_owned(), mode });
        let storage = self.clone();
        Box::pin(async move {
            match pending.await? {
                Answer::Opened(inode) => Ok(Rc::new(SimFile { storage, inode }) as Rc<dyn File>),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<()> {
        self.directory(Kind::Rename { from: from.to_owned(), to: to.to_owned() })
    }

    fn remove(&self, path: &Path) -> Io<()> {
        self.directory(Kind::Remove { path: path.to_owned() })
    }

    fn remove_directory(&self, path: &Path) -> Io<()> {
        self.directory(Kind::RemoveDirectory { path: path.to_owned() })
    }

    fn create_directory(&self, path: &Path) -> Io<()> {
        self.directory(Kind::CreateDirectory { path: path.to_owned() })
    }

    fn flush_directory(&self, path: &Path) -> Io<()> {
        let seen = self.world.borrow().disk.now();
        self.directory(Kind::FlushDirectory { path: path.to_owned(), seen })
    }

    fn list(&self, path: &Path) -> Io<Vec<String>> {
        let pending = self.submit(Kind::List { path: path.to_owned() });
        Box::pin(async move {
            match pending.await? {
                Answer::Names(names) => Ok(names),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        })
    }

    fn spawn(&self, job: Job) {
        let mut world = self.world.borrow_mut();
        world.executor.spawn(job);
    }
}

impl SimStorage {
    fn directory(&self, kind: Kind) -> Io<()> {
        let pending = self.submit(kind);
        Box::pin(async move { pending.await.map(|_| ()) })
    }
}
