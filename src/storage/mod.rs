//! The disk seam: what the storage engine may ask of a disk, and the memory it asks it with.
//!
//! Purpose: everything from [`crate::journal`] upwards is written against [`Storage`] and [`File`],
//! so the same engine runs on glommio's direct I/O and on the simulated disk that loses power.
//! Shard: every value here belongs to one shard and is not `Send`.
//! Units: bytes; positions and lengths of data I/O are multiples of [`crate::limits::BLOCK`].
//! It does not know: journals, segments, records, or what any byte means.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;

#[cfg(feature = "runtime")]
pub mod glommio;
pub mod sim;

/// A pending disk operation. Never drop one that writes: its outcome would be unknown.
pub type Io<T> = Pin<Box<dyn Future<Output = io::Result<T>>>>;

/// A task of a shard.
pub type Job = Pin<Box<dyn Future<Output = ()>>>;

/// Memory fit for direct I/O: aligned to [`crate::limits::BLOCK`].
pub trait Memory: 'static {
    /// The bytes.
    fn bytes(&self) -> &[u8];
    /// The bytes, to be filled.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Lets go of the bytes from `len` on.
    fn trim(&mut self, len: usize);
    /// Gives the adapter that allocated the memory its own type back.
    fn into_any(self: Rc<Self>) -> Rc<dyn Any>;
}

/// A buffer that is still being filled; exactly one owner.
pub struct BufferMut(Rc<dyn Memory>);

impl BufferMut {
    /// Wraps memory that nobody else holds.
    #[must_use]
    pub fn new(memory: Box<dyn Memory>) -> BufferMut {
        BufferMut(Rc::from(memory))
    }

    /// The bytes to fill. Fresh buffers hold arbitrary old bytes: whoever fills one fills all of it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match Rc::get_mut(&mut self.0) {
            Some(memory) => memory.bytes_mut(),
            // A `BufferMut` is never cloned, so its count is one.
            None => &mut [],
        }
    }

    /// As [`BufferMut::freeze`], for a buffer of which only the first `len` bytes (whole blocks) are used.
    #[must_use]
    pub fn freeze_to(mut self, len: usize) -> Buffer {
        if let Some(memory) = Rc::get_mut(&mut self.0) {
            memory.trim(len);
        }
        self.freeze()
    }

    /// Ends the filling: from now on the bytes never change.
    #[must_use]
    pub fn freeze(self) -> Buffer {
        Buffer(self.0)
    }
}

/// A filled buffer, shared by reference count within its shard: the source of a disk write, the tail
/// cache and the source of a socket write are the same memory.
#[derive(Clone)]
pub struct Buffer(Rc<dyn Memory>);

impl Buffer {
    /// A buffer without bytes.
    #[must_use]
    pub fn empty() -> Buffer {
        Buffer(Rc::new(NoMemory))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The bytes in `range`, or nothing if they are not all there.
    #[must_use]
    pub fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        self.0.bytes().get(range)
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.bytes().len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory as the adapter knows it.
    #[must_use]
    pub fn memory(&self) -> Rc<dyn Any> {
        Rc::clone(&self.0).into_any()
    }

    /// Whether two buffers are the same memory.
    #[must_use]
    pub fn same(&self, other: &Buffer) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

struct NoMemory;

impl Memory for NoMemory {
    fn bytes(&self) -> &[u8] {
        &[]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }

    fn trim(&mut self, _len: usize) {}

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to read.
    Read,
    /// An existing file, to read and write; its lock is taken, which waits for the writes of a killed
    /// process that may still land (storage rule 18).
    Write,
    /// A file to read and write, created if absent; its lock is taken.
    Create,
}

/// An open file under direct I/O.
pub trait File {
    /// Writes the whole buffer at `position`. The bytes survive the process once this completes, and
    /// power loss once a later [`File::flush`] completes.
    fn write(&self, buffer: Buffer, position: u64) -> Io<()>;
    /// Reads `len` bytes at `position`; bytes past the end of the file read as missing, so the buffer
    /// may be shorter.
    fn read(&self, position: u64, len: usize) -> Io<Buffer>;
    /// fdatasync: on completion every write that completed before the call survives power loss, with
    /// the file's size.
    fn flush(&self) -> Io<()>;
    /// Sees to it that the file is at least `size` long and its space reserved.
    fn reserve(&self, size: u64) -> Io<()>;
    /// Cuts the file to `size`.
    fn truncate(&self, size: u64) -> Io<()>;
    /// The file's size.
    fn size(&self) -> Io<u64>;
    /// Closes the file. Dropping the last handle without it also closes it, later.
    fn close(&self) -> Io<()>;
}

/// A disk, and the executor that waits for it.
pub trait Storage {
    /// Fresh memory of `len` bytes (a multiple of the block), holding arbitrary bytes.
    fn allocate(&self, len: usize) -> BufferMut;
    /// Opens a file.
    fn open(&self, path: &Path, mode: Open) -> Io<Rc<dyn File>>;
    /// Renames within one directory. Durable after a flush of the directory.
    fn rename(&self, from: &Path, to: &Path) -> Io<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> Io<()>;
    /// Removes a directory and the files in it.
    fn remove_directory(&self, path: &Path) -> Io<()>;
    /// Creates a directory (and its parents) if absent.
    fn create_directory(&self, path: &Path) -> Io<()>;
    /// Makes the names in a directory durable.
    fn flush_directory(&self, path: &Path) -> Io<()>;
    /// The names in a directory, sorted; none if the directory does not exist.
    fn list(&self, path: &Path) -> Io<Vec<String>>;
    /// Runs a task to its end on this shard.
    fn spawn(&self, job: Job);
}

/// Whether an error says that there is no space left, which may pass; nothing was written then.
#[must_use]
pub fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// Rounds up to a whole number of blocks.
#[must_use]
pub fn align_up(len: usize) -> usize {
    len.next_multiple_of(crate::limits::BLOCK)
}

/// Rounds a position down to the start of its block.
#[must_use]
pub fn align_down(position: u64) -> u64 {
    position - position % crate::limits::BLOCK as u64
}

/// Writes `bytes` as a whole small file: temporary name, flush, rename, directory flush.
///
/// # Errors
/// Whatever the disk reports; the old file is then still in place.
pub async fn replace_file(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let file = storage.open(temporary, Open::Create).await?;
    file.truncate(0).await?;
    let buffer = block_buffer(storage, bytes);
    file.write(buffer, 0).await?;
    file.truncate(bytes.len() as u64).await?;
    file.flush().await?;
    file.close().await?;
    storage.rename(temporary, path).await?;
    storage.flush_directory(directory).await
}

/// Reads a whole small file.
///
/// # Errors
/// Whatever the disk reports.
pub async fn read_file(storage: &dyn Storage, path: &Path) -> io::Result<Vec<u8>> {
    let file = storage.open(path, Open::Read).await?;
    let size = usize::try_from(file.size().await?).map_err(io::Error::other)?;
    let buffer = file.read(0, align_up(size)).await?;
    file.close().await?;
    Ok(buffer.bytes().get(..size).unwrap_or(buffer.bytes()).to_vec())
}

/// A buffer of whole blocks that holds `bytes` and then zeros.
#[must_use]
pub fn block_buffer(storage: &dyn Storage, bytes: &[u8]) -> Buffer {
    let mut buffer = storage.allocate(align_up(bytes.len().max(1)));
    let memory = buffer.bytes_mut();
    let (head, padding) = memory.split_at_mut(bytes.len());
    head.copy_from_slice(bytes);
    padding.fill(0);
    buffer.freeze()
}
