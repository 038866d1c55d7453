//! Listening and accepting: one socket, one task on one core, for all cores.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use glommio::net::TcpStream;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::registry::Load;
use crate::time::{Clock, Monotonic};

/// Connections that the kernel completes before they are accepted. Kafka's default of 50 overflows when
/// the clients of a restarted broker come back at once, and each refused one waits a second.
const BACKLOG: i32 = 1024;

/// Pause after a failed accept: the cause, such as too few descriptors, does not go at once.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// A condition of the accept loop is reported this often at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Accepts after which the other tasks get their turn.
const TURN_ACCEPTS: usize = 64;

/// Addresses without a connection are forgotten every so many accepts.
const FORGET_INTERVAL: usize = 1024;

/// Listens on a host and port; `local_addr` of the result tells the port if `port` is 0. No host stands
/// for every address. Resolving a name blocks: not to be called on a shard.
///
/// # Errors
/// The host has no address, or none of them can be listened on.
pub fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let addresses: Vec<SocketAddr> = if host.is_empty() {
        // IPv6 takes IPv4 clients too; without IPv6 there is IPv4 alone.
        vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
    } else {
        (host, port).to_socket_addrs()?.collect()
    };
    let none = || io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    let mut result = Err(none());
    for address in addresses {
        result = bind_address(address, host.is_empty());
        if result.is_ok() {
            break;
        }
    }
    result
}

fn bind_address(address: SocketAddr, any: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // A restarted broker takes its port back while connections of the old one linger.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !any)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// `max.connections`.
    pub connections_max: usize,
    /// `max.connections.per.ip`.
    pub connections_per_ip_max: usize,
}

/// A connection on its way to its shard.
pub struct Accepted {
    descriptor: OwnedFd,
    address: SocketAddr,
    listener: u16,
    place: Place,
}

impl Accepted {
    /// The client's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The index of the listener that it came by.
    #[must_use]
    pub fn listener(&self) -> u16 {
        self.listener
    }

    /// Makes it a stream of this executor. The place is to be kept while the connection lives.
    #[must_use]
    pub fn into_stream(self) -> (TcpStream, Place) {
        // SAFETY: the descriptor is a connected socket and is handed over here.
        let stream = unsafe { TcpStream::from_raw_fd(self.descriptor.into_raw_fd()) };
        (stream, self.place)
    }
}

/// Takes the connection out of the executor that accepted it. glommio's own `AcceptedTcpStream` crosses
/// executors too, but as a bare number: one that is dropped on its way would stay open for ever.
fn detach(stream: &TcpStream) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: the stream owns the descriptor and outlives the borrow.
    let descriptor = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    let address = stream.peer_addr()?;
    Ok((rustix::io::fcntl_dupfd_cloexec(descriptor, 0)?, address))
}

/// A connection's share in the counts of the broker, of its address and of its shard.
#[derive(Debug, Default)]
pub struct Place(Vec<Arc<AtomicUsize>>);

impl Place {
    fn count(&mut self, counter: &Arc<AtomicUsize>) {
        counter.fetch_add(1, Ordering::Relaxed);
        self.0.push(Arc::clone(counter));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for counter in &self.0 {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Accepts for ever, and hands each connection to the shard that has the fewest: `hand_over` is given
/// its index in `loads`. To be run on one core, once for each listener with the same gate, and never raced
/// with anything: dropping a pending accept loses the connection it was about to return.
///
/// # Errors
/// There is no shard.
pub async fn accept_loop(
    (index, listener): (u16, TcpListener),
    gate: Rc<RefCell<Gate>>,
    loads: Vec<Load>,
    mut hand_over: impl FnMut(usize, Accepted),
) -> io::Result<()> {
    // SAFETY: the descriptor is a listening socket and is handed over here.
    let listener = unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
    let (mut failing, mut refusing) = (Report::default(), Report::default());
    let mut accepts: usize = 0;
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                if let Some(times) = failing.due(Clock::monotonic()) {
                    tracing::error!(%error, times, "cannot accept connections");
                }
                glommio::timer::sleep(FAILURE_PAUSE).await;
                continue;
            }
        };
        accepts = accepts.wrapping_add(1);
        if accepts.is_multiple_of(TURN_ACCEPTS) {
            glommio::executor().yield_now().await;
        }
        if accepts.is_multiple_of(FORGET_INTERVAL) {
            gate.borrow_mut().forget();
        }
        let (descriptor, address) = match detach(&stream) {
            Ok(detached) => detached,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => continue,
            Err(error) => {
                if let Some(times) = failing.due(Clock::monotonic()) {
                    tracing::error!(%error, times, "cannot accept connections");
                }
                continue;
            }
        };
        drop(stream);
        let mut accepted =
            Accepted { descriptor, address, listener: index, place: Place::default() };
        let admitted = gate.borrow_mut().admit(address.ip(), &mut accepted.place);
        match admitted {
            Ok(()) => {
                let least = loads.iter().enumerate().min_by_key(|(_, load)| load.connections());
                let (shard, load) =
                    least.ok_or_else(|| io::Error::other("there is no shard to serve clients"))?;
                accepted.place.count(load.counter());
                hand_over(shard, accepted);
            }
            Err(key) => {
                if let Some(times) = refusing.due(Clock::monotonic()) {
                    tracing::warn!(peer = %address, key, times, "refusing connections: limit met");
                }
            }
        }
    }
}

/// Who may come in, by whichever listener.
pub struct Gate {
    limits: AcceptLimits,
    total: Arc<AtomicUsize>,
    by_ip: BTreeMap<IpAddr, Arc<AtomicUsize>>,
}

impl Gate {
    /// A gate through which nobody has come yet.
    #[must_use]
    pub fn new(limits: AcceptLimits) -> Gate {
        Gate { limits, total: Arc::default(), by_ip: BTreeMap::new() }
    }

    /// Counts a connection, or names the key that forbids it.
    fn admit(&mut self, ip: IpAddr, place: &mut Place) -> Result<(), &'static str> {
        if self.total.load(Ordering::Relaxed) >= self.limits.connections_max {
            return Err("max.connections");
        }
        let of_ip = self.by_ip.entry(ip.to_canonical()).or_default();
        if of_ip.load(Ordering::Relaxed) >= self.limits.connections_per_ip_max {
            return Err("max.connections.per.ip");
        }
        place.count(&self.total);
        place.count(of_ip);
        Ok(())
    }

    fn forget(&mut self) {
        self.by_ip.retain(|_, count| count.load(Ordering::Relaxed) > 0);
    }
}

/// Something that happens often and is said seldom.
#[derive(Default)]
struct Report {
    said_at: Option<Monotonic>,
    times: u64,
}

impl Report {
    /// Takes note; how often it has happened since it was last said, if it is time to say it.
    fn due(&mut self, now: Monotonic) -> Option<u64> {
        self.times += 1;
        if self.said_at.is_some_and(|at| now.since(at) < REPORT_INTERVAL) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_until_connections_end() {
        let limits = AcceptLimits { connections_max: 3, connections_per_ip_max: 2 };
        let mut gate = Gate::new(limits);
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut admit = |ip| {
            let mut place = Place::default();
            gate.admit(ip, &mut place).map(|()| place)
        };
        let first = admit(one).unwrap();
        let _second = admit(one).unwrap();
        assert_eq!(admit(one).err(), Some("max.connections.per.ip"));
        let _third = admit(other).unwrap();
        assert_eq!(admit(other).err(), Some("max.connections"));
        drop(first);
        let _fourth = admit(IpAddr::from(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped())).unwrap();
        gate.forget();
        assert_eq!(gate.by_ip.len(), 2);
    }

    #[test]
    fn reports_are_seldom() {
        let mut report = Report::default();
        let start = Monotonic(1);
        assert_eq!(report.due(start), Some(1));
        assert_eq!(report.due(start), None);
        assert_eq!(report.due(start.plus(REPORT_INTERVAL)), Some(2));
    }

    #[test]
    fn every_form_of_address_is_listened_on() {
        for host in ["127.0.0.1", "localhost", ""] {
            let listener = bind(host, 0).unwrap();
            assert_ne!(listener.local_addr().unwrap().port(), 0, "{host}");
        }
        let taken = bind("127.0.0.1", 0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind("127.0.0.1", port).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
