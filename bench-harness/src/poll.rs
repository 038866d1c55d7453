//! Readiness of many sockets for one thread: level-triggered epoll.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// One socket that can go on.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// The number it was registered under.
    pub token: usize,
    /// There is something to read, or the other side has closed.
    pub readable: bool,
    /// There is room to send.
    pub writable: bool,
}

/// The sockets waited for.
pub struct Poll {
    fd: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poll {
    /// An empty set.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn new() -> io::Result<Poll> {
        Ok(Poll {
            fd: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(256),
        })
    }

    /// Starts to watch `fd` for reading and, if `write`, for room to send.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn add(&self, fd: impl AsFd, token: usize, write: bool) -> io::Result<()> {
        Ok(epoll::add(&self.fd, fd, epoll::EventData::new_u64(token as u64), interest(write))?)
    }

    /// Changes whether room to send matters.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn modify(&self, fd: impl AsFd, token: usize, write: bool) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, fd, epoll::EventData::new_u64(token as u64), interest(write))?)
    }

    /// Stops to watch `fd`.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits until something is ready (for ever without a `timeout`) and puts it into `ready`, which
    /// is empty afterwards only if the time ran out.
    ///
    /// # Errors
    /// The system's refusal; an interrupted wait is repeated.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        self.events.clear();
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        while let Err(error) =
            epoll::wait(&self.fd, spare_capacity(&mut self.events), timeout.as_ref())
        {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        ready.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            let ended = flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR);
            Ready {
                token: usize::try_from(event.data.u64()).unwrap_or(usize::MAX),
                readable: ended || flags.contains(epoll::EventFlags::IN),
                writable: ended || flags.contains(epoll::EventFlags::OUT),
            }
        }));
        Ok(())
    }
}

fn interest(write: bool) -> epoll::EventFlags {
    if write { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN }
}
