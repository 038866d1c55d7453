//! The disk as glommio reaches it: O_DIRECT through io_uring, memory from the executor's own arena.
//!
//! Shard: one [`GlommioStorage`] per executor; its buffers and files never leave it.
//! Directory work (rename, unlink, directory flush) has no io_uring call in glommio and goes to its
//! helper thread: it is rare, and never on the path of an acknowledgement.

use std::any::Any;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use glommio::io::{DmaBuffer, DmaFile, OpenOptions, ReadResult};
use rustix::fs::FlockOperation;

use super::{BufferMut, File, Io, Job, Memory, Open, Storage};
use crate::limits::BLOCK;

/// How often, and how many times, a lock held by a dying process is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(20);
const LOCK_TRIES: u32 = 250;

/// The real disk, from a glommio executor.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlommioStorage;

impl GlommioStorage {
    /// Has glommio find out what the disks of `files` can do. It does so with the first file it opens on
    /// a disk, by a polled read; on an empty file that read succeeds without reaching the disk, and
    /// every later read would fail. To be called first on every executor, with files that have bytes.
    ///
    /// # Errors
    /// Whatever the disk reports.
    pub async fn probe(files: &[PathBuf]) -> io::Result<()> {
        for file in files {
            OpenOptions::new().read(true).dma_open(file).await?.close().await?;
        }
        Ok(())
    }
}

/// Twice counted: the engine shares the outer count, glommio the inner one while it writes.
struct DmaMemory(Rc<DmaBuffer>);

impl Memory for DmaMemory {
    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        Rc::get_mut(&mut self.0).map_or(&mut [], DmaBuffer::as_bytes_mut)
    }

    fn trim(&mut self, len: usize) {
        if let Some(buffer) = Rc::get_mut(&mut self.0) {
            buffer.trim_to_size(len.min(buffer.len()));
        }
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

struct ReadMemory(ReadResult);

impl Memory for ReadMemory {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut []
    }

    fn trim(&mut self, _len: usize) {}

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

struct GlommioFile {
    /// Empty once closed.
    file: RefCell<Option<Rc<DmaFile>>>,
}

impl GlommioFile {
    fn get(&self) -> io::Result<Rc<DmaFile>> {
        self.file.borrow().clone().ok_or_else(|| io::Error::other("the file is closed"))
    }
}

/// A buffer whose memory came from another adapter cannot be written without a copy; it is copied.
fn dma_source(buffer: &super::Buffer) -> Rc<DmaBuffer> {
    match buffer.memory().downcast::<DmaMemory>() {
        Ok(memory) => Rc::clone(&memory.0),
        Err(_) => {
            let mut copy = glommio::allocate_dma_buffer(buffer.len());
            copy.as_bytes_mut().copy_from_slice(buffer.bytes());
            Rc::new(copy)
        }
    }
}

impl File for GlommioFile {
    fn write(&self, buffer: super::Buffer, position: u64) -> Io<()> {
        debug_assert_eq!(position % BLOCK as u64, 0);
        debug_assert_eq!(buffer.len() % BLOCK, 0);
        let file = self.get();
        Box::pin(async move {
            let file = file?;
            let len = buffer.len();
            let written = file.write_rc_at(dma_source(&buffer), position).await?;
            if written == len {
                Ok(())
            } else {
                Err(io::Error::new(
                    io::ErrorKind::WriteZero,
                    format!("the disk took {written} of {len} bytes"),
                ))
            }
        })
    }

    fn read(&self, position: u64, len: usize) -> Io<super::Buffer> {
        let file = self.get();
        if len == 0 {
            // glommio panics for want of a buffer of no bytes.
            return Box::pin(async { Ok(super::Buffer::empty()) });
        }
        Box::pin(async move {
            let file = file?;
            let result = file.read_at_aligned(position, len).await?;
            Ok(super::Buffer(Rc::new(ReadMemory(result))))
        })
    }

    fn flush(&self) -> Io<()> {
        let file = self.get();
        Box::pin(async move {
            let file = file?;
            Ok(file.fdatasync().await?)
        })
    }

    fn reserve(&self, size: u64) -> Io<()> {
        let file = self.get();
        Box::pin(async move {
            let file = file?;
            if file.file_size().await? < size {
                file.pre_allocate(size, false).await?;
            }
            Ok(())
        })
    }

    fn truncate(&self, size: u64) -> Io<()> {
        let file = self.get();
        Box::pin(async move {
            let file = file?;
            Ok(file.truncate(size).await?)
        })
    }

    fn size(&self) -> Io<u64> {
        let file = self.get();
        Box::pin(async move {
            let file = file?;
            Ok(file.file_size().await?)
        })
    }

    fn close(&self) -> Io<()> {
        let file = self.file.borrow_mut().take();
        Box::pin(async move {
            if let Some(file) = file {
                // With an operation under way, its end closes the file.
                file.close_rc().await?;
            }
            Ok(())
        })
    }
}

async fn lock(file: &DmaFile, path: &Path) -> io::Result<()> {
    // SAFETY: `file` is open for as long as it is borrowed here, so the descriptor stays valid.
    let descriptor = unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) };
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(descriptor, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => glommio::timer::sleep(LOCK_RETRY).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("{} is locked by another process", path.display()),
    ))
}

fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Io<T> {
    Box::pin(async move { glommio::executor().spawn_blocking(work).await })
}

impl Storage for GlommioStorage {
    fn allocate(&self, len: usize) -> BufferMut {
        BufferMut::new(Box::new(DmaMemory(Rc::new(glommio::allocate_dma_buffer(len)))))
    }

    fn open(&self, path: &Path, mode: Open) -> Io<Rc<dyn File>> {
        let path: PathBuf = path.to_owned();
        Box::pin(async move {
            let file = OpenOptions::new()
                .read(true)
                .write(mode != Open::Read)
                .create(mode == Open::Create)
                .dma_open(&path)
                .await?;
            if mode != Open::Read {
                lock(&file, &path).await?;
            }
            Ok(Rc::new(GlommioFile { file: RefCell::new(Some(Rc::new(file))) }) as Rc<dyn File>)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Io<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        blocking(move || std::fs::rename(from, to))
    }

    fn remove(&self, path: &Path) -> Io<()> {
        let path = path.to_owned();
        blocking(move || std::fs::remove_file(path))
    }

    fn remove_directory(&self, path: &Path) -> Io<()> {
        let path = path.to_owned();
        blocking(move || std::fs::remove_dir_all(path))
    }

    fn create_directory(&self, path: &Path) -> Io<()> {
        let path = path.to_owned();
        blocking(move || std::fs::create_dir_all(path))
    }

    fn flush_directory(&self, path: &Path) -> Io<()> {
        let path = path.to_owned();
        blocking(move || std::fs::File::open(path)?.sync_all())
    }

    fn list(&self, path: &Path) -> Io<Vec<String>> {
        let path = path.to_owned();
        blocking(move || {
            let entries = match std::fs::read_dir(path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        })
    }

    fn spawn(&self, job: Job) {
        glommio::spawn_local(async move {
            // glommio runs a new task at once, inside this call. The engine counts on its jobs to run
            // later: after the caller has let go of what it borrows, and after whatever else this turn
            // still has to do.
            futures_lite::future::yield_now().await;
            job.await;
        })
        .detach();
    }
}
