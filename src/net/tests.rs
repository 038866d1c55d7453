//! Connections over loopback: a broker's shard in this thread, a blocking client in another.
//!
//! The first byte of a request says what the service does with it; a request and an inline reply are
//! the same bytes.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use glommio::LocalExecutorBuilder;

use super::*;
use crate::protocol::Segment;
use crate::storage::{Buffer, BufferMut, Memory};
use crate::time::Clock;

/// Answered at once with itself.
const ECHO: u8 = b'e';
/// Answered with itself, after all later ones of its kind.
const REVERSE: u8 = b'r';
/// Answered with itself when the gate is open.
const HELD: u8 = b'h';
/// Answered with [`RECORDS`] bytes of the shard's memory.
const FETCH: u8 = b'f';
/// Not answered.
const SILENT: u8 = b's';
/// Closes the connection.
const CLOSE: u8 = b'c';
/// Answered with a frame that lacks its records.
const BROKEN: u8 = b'b';

const RECORDS: usize = 3 << 20;

/// One shard.
struct World {
    connections: Rc<Connections>,
    /// Requests seen.
    calls: Cell<usize>,
    /// `REVERSE` requests that wait; the last is answered first.
    waiting: Cell<u8>,
    reverse: Cell<u8>,
    gate: Cell<bool>,
    /// Fetched memory that is held.
    held: Rc<Cell<usize>>,
    pending_most: Cell<usize>,
    replies_held_most: Cell<usize>,
}

/// Memory that says how much of it there is.
struct Counted(Vec<u8>, Rc<Cell<usize>>);

impl Memory for Counted {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn trim(&mut self, len: usize) {
        self.1.set(self.1.get() - (self.0.len() - len));
        self.0.truncate(len);
    }

    fn into_any(self: Rc<Self>) -> Rc<dyn Any> {
        self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.set(self.1.get() - self.0.len());
    }
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..RECORDS).map(|i| u8::try_from(i % 251).unwrap() ^ seed).collect()
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

fn inline(body: &[u8]) -> Answer {
    let bytes = Bytes::from(framed(body));
    Frame { len: bytes.len(), segments: vec![Segment::Inline(bytes)] }.into()
}

impl World {
    fn records(&self, seed: u8) -> Buffer {
        self.held.set(self.held.get() + RECORDS);
        self.replies_held_most.set(self.replies_held_most.get().max(self.held.get()));
        BufferMut::new(Box::new(Counted(pattern(seed), Rc::clone(&self.held)))).freeze()
    }

    fn fetch(&self, frame: &[u8]) -> Answer {
        let buffer = self.records(*frame.last().unwrap());
        let len = u32::try_from(RECORDS + frame.len()).unwrap().to_be_bytes();
        let (first, second) =
            (Slice::Shared(buffer.clone(), 0..5), Slice::Shared(buffer.clone(), 5..1 << 20));
        let third = Slice::Shared(buffer, 1 << 20..RECORDS);
        Answer::Reply {
            frame: Frame {
                segments: vec![
                    Segment::Inline(Bytes::copy_from_slice(&len)),
                    Segment::External { token: 1, len: RECORDS },
                    Segment::External { token: 0, len: 0 },
                    Segment::Inline(Bytes::copy_from_slice(frame)),
                ],
                len: 4 + RECORDS + frame.len(),
            },
            records: vec![vec![], vec![first, second, third]],
        }
    }
}

impl Service for World {
    fn call(self: Rc<Self>, peer: &Rc<Peer>, frame: Bytes) -> Call {
        self.calls.set(self.calls.get() + 1);
        self.pending_most.set(self.pending_most.get().max(peer.pending_bytes()));
        match *frame.first().unwrap_or(&ECHO) {
            REVERSE => {
                let number = self.reverse.get();
                self.reverse.set(number + 1);
                self.waiting.set(number + 1);
                Call::Later(Box::pin(async move {
                    while !(self.gate.get() && self.waiting.get() == number + 1) {
                        glommio::timer::sleep(Duration::from_millis(1)).await;
                    }
                    self.waiting.set(number);
                    inline(&frame)
                }))
            }
            HELD => Call::Later(Box::pin(async move {
                while !self.gate.get() {
                    glommio::timer::sleep(Duration::from_millis(1)).await;
                }
                inline(&frame)
            })),
            FETCH => Call::Ready(self.fetch(&frame)),
            SILENT => Call::Ready(Answer::Nothing),
            CLOSE => Call::Ready(Answer::Close("told to".to_owned())),
            BROKEN => Call::Ready(Answer::Reply {
                frame: Frame { segments: vec![Segment::External { token: 0, len: 9 }], len: 9 },
                records: vec![],
            }),
            _ => Call::Ready(inline(&frame)),
        }
    }
}

const LIMITS: AcceptLimits = AcceptLimits { connections_max: 100, connections_per_ip_max: 100 };

/// Serves while `client` runs; `turn` is called every few milliseconds. Returns the world after all
/// connections have ended.
fn run(
    settings: Settings,
    limits: AcceptLimits,
    client: impl FnOnce(SocketAddr) + Send + 'static,
    mut turn: impl FnMut(&Rc<World>),
) -> Rc<World> {
    let listener = bind("127.0.0.1", 0).unwrap();
    let address = listener.local_addr().unwrap();
    let executor =
        LocalExecutorBuilder::default().preempt_timer(Duration::from_millis(10)).make().unwrap();
    executor.run(async move {
        let world = Rc::new(World {
            connections: Connections::new(settings, Rc::default()),
            calls: Cell::new(0),
            waiting: Cell::new(0),
            reverse: Cell::new(0),
            gate: Cell::new(false),
            held: Rc::default(),
            pending_most: Cell::new(0),
            replies_held_most: Cell::new(0),
        });
        let server = Rc::clone(&world);
        glommio::spawn_local(accept_loop(
            (0, listener),
            Rc::new(RefCell::new(Gate::new(limits))),
            vec![Load::default()],
            move |_, accepted| {
                let server = Rc::clone(&server);
                glommio::spawn_local(async move {
                    let peer = server.connections.peer(accepted.address(), accepted.listener());
                    let (stream, _place) = accepted.into_stream();
                    let connections = Rc::clone(&server.connections);
                    serve(stream, peer, server, connections).await;
                })
                .detach();
            },
        ))
        .detach();
        // Two unrelated tickers: a lost wake-up of the runtime is bounded by them.
        glommio::spawn_local(async {
            loop {
                glommio::timer::sleep(Duration::from_millis(17)).await;
            }
        })
        .detach();
        let client = thread::spawn(move || client(address));
        while !client.is_finished() {
            turn(&world);
            glommio::timer::sleep(Duration::from_millis(5)).await;
        }
        client.join().unwrap();
        world.gate.set(true);
        world.connections.close_all(Duration::from_secs(60)).await;
        assert_eq!(world.connections.open(), 0);
        world
    })
}

fn serve_client(client: impl FnOnce(SocketAddr) + Send + 'static) -> Rc<World> {
    run(Settings::default(), LIMITS, client, |_| {})
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn reply(stream: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).unwrap();
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(len)).unwrap()];
    stream.read_exact(&mut body).unwrap();
    body
}

/// What is left until the server closes; a reset is a close.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let _reset = stream.read_to_end(&mut rest);
    rest
}

fn requests(kind: u8, count: u8) -> (Vec<Vec<u8>>, Vec<u8>) {
    let bodies: Vec<Vec<u8>> = (0..count).map(|i| vec![kind, i]).collect();
    let bytes = bodies.iter().flat_map(|body| framed(body)).collect();
    (bodies, bytes)
}

#[test]
fn replies_keep_the_order_of_requests() {
    let world = run(
        Settings::default(),
        LIMITS,
        |address| {
            let mut stream = connect(address);
            let (mut bodies, mut bytes) = requests(REVERSE, 30);
            let (ready, more) = requests(ECHO, 30);
            bodies.extend(ready);
            bytes.extend(more);
            stream.write_all(&bytes).unwrap();
            for body in bodies {
                assert_eq!(reply(&mut stream), body);
            }
        },
        |world| world.gate.set(world.calls.get() == 60),
    );
    let counters = world.connections.counters();
    assert_eq!((counters.requests.get(), counters.replies.get()), (60, 60));
}

#[test]
fn many_small_requests_share_system_calls() {
    let world = serve_client(|address| {
        let mut stream = connect(address);
        let body = |i: u32| [&[ECHO][..], &i.to_be_bytes()].concat();
        let bytes: Vec<u8> = (0..10_000).flat_map(|i| framed(&body(i))).collect();
        stream.write_all(&bytes).unwrap();
        for i in 0..10_000 {
            assert_eq!(reply(&mut stream), body(i));
        }
    });
    let counters = world.connections.counters();
    assert_eq!(counters.replies.get(), 10_000);
    assert!(counters.send_calls.get() < 1_000, "{} sends", counters.send_calls.get());
    assert_eq!(counters.bytes_in.get(), 90_000);
    assert_eq!(counters.bytes_out.get(), 90_000);
}

#[test]
fn requests_may_come_byte_by_byte() {
    serve_client(|address| {
        let (bodies, bytes) = requests(ECHO, 9);
        let mut stream = connect(address);
        for cut in 0..bytes.len() {
            stream.write_all(&bytes[..cut]).unwrap();
            // The round trip on another connection makes it likely that the halves come apart.
            let mut other = connect(address);
            other.write_all(&framed(&[ECHO])).unwrap();
            assert_eq!(reply(&mut other), [ECHO]);
            stream.write_all(&bytes[cut..]).unwrap();
            for body in &bodies {
                assert_eq!(reply(&mut stream), *body);
            }
        }
        for byte in &bytes {
            stream.write_all(&[*byte]).unwrap();
        }
        for body in bodies {
            assert_eq!(reply(&mut stream), body);
        }
    });
}

#[test]
fn large_requests_pass() {
    let world = serve_client(|address| {
        let mut stream = connect(address);
        for len in [1 << 20, 3 << 20, 70_000, 20_000] {
            let mut body = pattern(3);
            body.truncate(len);
            body[0] = ECHO;
            for _ in 0..3 {
                stream.write_all(&framed(&body)).unwrap();
                assert!(reply(&mut stream) == body, "{len} bytes");
            }
        }
    });
    let counters = world.connections.counters();
    assert!(counters.frames_pooled.get() > 0);
}

#[test]
fn lengths_that_no_request_has_close_the_connection() {
    serve_client(|address| {
        for length in [-1, i32::MIN, (100 << 20) + 1, i32::MAX] {
            let mut stream = connect(address);
            let mut bytes = framed(&[ECHO, 1]);
            bytes.extend(length.to_be_bytes());
            bytes.extend(framed(&[ECHO, 2]));
            stream.write_all(&bytes).unwrap();
            assert_eq!(rest(&mut stream), framed(&[ECHO, 1]), "length {length}");
        }
    });
}

#[test]
fn a_half_closed_client_gets_its_replies() {
    run(
        Settings::default(),
        LIMITS,
        |address| {
            let mut stream = connect(address);
            let (_, bytes) = requests(HELD, 5);
            stream.write_all(&bytes).unwrap();
            // A request of which the rest never comes is not answered.
            stream.write_all(&[0, 0, 0, 9, ECHO]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&mut stream), bytes);
        },
        |world| world.gate.set(world.calls.get() == 5),
    );
}

#[test]
fn what_is_not_a_reply_keeps_the_order_too() {
    serve_client(|address| {
        for last in [CLOSE, BROKEN] {
            let mut stream = connect(address);
            let bodies = [[ECHO, 1], [SILENT, 2], [ECHO, 3], [last, 4], [ECHO, 5]];
            let bytes: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
            stream.write_all(&bytes).unwrap();
            let expected = [framed(&[ECHO, 1]), framed(&[ECHO, 3])].concat();
            assert_eq!(rest(&mut stream), expected);
        }
    });
}

#[test]
fn requests_in_flight_are_bounded() {
    let most = Rc::new(Cell::new(0));
    let seen = Rc::clone(&most);
    let still = Cell::new(0);
    run(
        Settings { in_flight_max: 4, ..Settings::default() },
        LIMITS,
        |address| {
            let mut stream = connect(address);
            let (bodies, bytes) = requests(HELD, 40);
            stream.write_all(&bytes).unwrap();
            for body in bodies {
                assert_eq!(reply(&mut stream), body);
            }
        },
        move |world| {
            if !world.gate.get() {
                seen.set(world.calls.get().max(seen.get()));
                still.set(if world.calls.get() == 4 { still.get() + 1 } else { 0 });
                world.gate.set(still.get() > 5);
            }
        },
    );
    assert_eq!(most.get(), 4);
}

/// What a client that reads late gets, and what it costs meanwhile.
fn slow_reader(unshare: bool) {
    let settings = Settings { pending_bytes_max: 4 << 20, ..Settings::default() };
    let (send, receive) = std::sync::mpsc::channel();
    let told = Cell::new(false);
    let world = run(
        settings,
        LIMITS,
        move |address| {
            let mut stream = connect(address);
            let (bodies, bytes) = requests(FETCH, 20);
            stream.write_all(&bytes).unwrap();
            receive.recv().unwrap();
            for body in bodies {
                let got = reply(&mut stream);
                let (records, trailer) = got.split_at(RECORDS);
                assert_eq!(trailer, body);
                assert!(records == pattern(body[1]), "records of {}", body[1]);
            }
        },
        move |world| {
            if world.calls.get() >= 2 && !told.replace(true) {
                send.send(()).unwrap();
            }
            if unshare && world.connections.unshare_replies() > 0 {
                assert_eq!(world.held.get(), 0);
            }
        },
    );
    assert_eq!(world.calls.get(), 20);
    assert_eq!(world.held.get(), 0, "memory is held after it was sent");
    // It is read only below the bound, and what is read then may go over it by one reply.
    assert!(world.pending_most.get() <= 4 << 20);
    assert!(world.replies_held_most.get() <= (4 << 20) + 2 * RECORDS);
    let counters = world.connections.counters();
    assert_eq!(counters.bytes_out.get(), 20 * (4 + RECORDS as u64 + 2));
}

#[test]
fn a_slow_reader_gets_everything_at_a_bounded_cost() {
    slow_reader(false);
}

#[test]
fn replies_that_wait_can_be_unshared() {
    slow_reader(true);
}

#[test]
fn a_client_that_does_not_read_and_one_that_is_idle_are_closed() {
    let late = Duration::from_secs(3600);
    let world = run(
        Settings { pending_bytes_max: 64 << 20, ..Settings::default() },
        LIMITS,
        |address| {
            let mut idle = connect(address);
            let mut waiting = connect(address);
            waiting.write_all(&framed(&[HELD, 7])).unwrap();
            let mut stuck = connect(address);
            stuck.write_all(&requests(FETCH, 20).1).unwrap();
            assert!(rest(&mut idle).is_empty());
            // By now the tick has come; what the kernel took is less than all.
            assert!(rest(&mut stuck).len() < 20 * RECORDS);
            assert_eq!(reply(&mut waiting), [HELD, 7]);
        },
        move |world| {
            if world.connections.open() == 3 && world.calls.get() == 21 {
                world.connections.tick(Clock::monotonic().plus(late));
            }
            world.gate.set(world.calls.get() == 21 && world.connections.open() == 1);
        },
    );
    assert_eq!(world.held.get(), 0);
}

#[test]
fn close_all_finishes_what_is_in_flight() {
    let closing = Cell::new(false);
    let world = run(
        Settings::default(),
        LIMITS,
        |address| {
            let mut stream = connect(address);
            let (_, bytes) = requests(HELD, 3);
            stream.write_all(&bytes).unwrap();
            assert_eq!(rest(&mut stream), bytes);
            // A closed shard takes no more.
            assert!(rest(&mut connect(address)).is_empty());
        },
        move |world| {
            if world.calls.get() == 3 && !closing.replace(true) {
                let world = Rc::clone(world);
                glommio::spawn_local(async move {
                    world.connections.close_all(Duration::from_secs(60)).await;
                })
                .detach();
            } else if closing.get() {
                world.gate.set(true);
            }
        },
    );
    assert_eq!(world.calls.get(), 3);
}

#[test]
fn close_all_does_not_wait_for_ever() {
    let closing = Cell::new(false);
    run(
        Settings::default(),
        LIMITS,
        |address| {
            let mut stream = connect(address);
            stream.write_all(&framed(&[HELD, 1])).unwrap();
            assert!(rest(&mut stream).is_empty());
        },
        move |world| {
            if world.calls.get() == 1 && !closing.replace(true) {
                let world = Rc::clone(world);
                glommio::spawn_local(async move {
                    world.connections.close_all(Duration::from_millis(1)).await;
                })
                .detach();
            }
        },
    );
}

#[test]
fn connections_over_the_limit_are_refused() {
    let limits = AcceptLimits { connections_max: 10, connections_per_ip_max: 1 };
    run(
        Settings::default(),
        limits,
        |address| {
            let mut first = connect(address);
            first.write_all(&framed(&[ECHO, 1])).unwrap();
            assert_eq!(reply(&mut first), [ECHO, 1]);
            assert!(rest(&mut connect(address)).is_empty());
            drop(first);
            // Taken again once the server has seen the end of the first.
            loop {
                let mut next = connect(address);
                let _refused = next.write_all(&framed(&[ECHO, 2]));
                if rest_of_one(&mut next) == framed(&[ECHO, 2]) {
                    break;
                }
            }
        },
        |_| {},
    );
}

/// Up to six bytes.
fn rest_of_one(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _reset = stream.take(6).read_to_end(&mut bytes);
    bytes
}
