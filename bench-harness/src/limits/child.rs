//! The measured side as a process: started, asked for its port, ended by closing its input.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use super::{LimitKind, LimitSpec, ServerReport, cold, ingest, kafka_sink, serve};
use crate::environment::pin_to_core;
use crate::error::{Doing, Error, Result};

/// The hidden command that makes this binary a measured side.
pub(crate) const COMMAND: &str = "limit-server";

/// A running measured side; killed when dropped.
pub(crate) struct Child {
    process: std::process::Child,
    output: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl Child {
    pub(crate) fn start(spec: &LimitSpec, program: &Path) -> Result<Child> {
        let spec = serde_json::to_string(spec).doing("writing the limit's description")?;
        let mut process = Command::new(program)
            .args([COMMAND, &spec])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .doing(format!("starting {}", program.display()))?;
        let output = process.stdout.take().map(BufReader::new);
        let Some(output) = output else {
            return Err(Error::Usage("the child has no output".to_owned()));
        };
        let mut child = Child { process, output, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let port: u16 = child.line()?;
        child.address.set_port(port);
        Ok(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads what it counted and lets it end.
    pub(crate) fn finish(mut self) -> Result<ServerReport> {
        let report = self.line()?;
        drop(self.process.stdin.take());
        self.process.wait().doing("waiting for the limit's child")?;
        Ok(report)
    }

    /// Lets a side that counts nothing end.
    pub(crate) fn end(mut self) -> Result<()> {
        drop(self.process.stdin.take());
        self.process.wait().doing("waiting for the limit's child").map(|_| ())
    }

    fn line<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line).doing("reading from the limit's child")?;
        serde_json::from_str(&line)
            .map_err(|_| Error::Peer(format!("the limit's child ended early ({line:?})")))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // After `finish` it has been waited for, and both calls do nothing.
        if self.process.kill().is_ok() {
            self.process.wait().ok();
        }
    }
}

/// The body of the hidden command: listens, serves the connections of one run, says what it counted
/// and stays until its input closes, so that its processor time can still be read.
///
/// # Errors
/// If the system refuses something, or a connection breaks off inside a frame.
pub fn serve_child(spec: &str) -> Result<()> {
    let spec: LimitSpec = serde_json::from_str(spec).doing("reading the limit's description")?;
    if let Some(core) = spec.server_core {
        pin_to_core(core)?;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).doing("listening")?;
    let report = match spec.kind {
        LimitKind::MemoryToSocket | LimitKind::Echo => {
            let server = serve::Server::new(&spec)?;
            server.run(accept_all(&listener, spec.connections)?)?
        }
        LimitKind::SendFile | LimitKind::DirectReadToSocket => {
            let server = cold::Server::new(&spec)?;
            server.run(accept_all(&listener, spec.connections)?)?
        }
        LimitKind::ProduceSink => {
            say(&listener.local_addr().doing("listening")?.port())?;
            // Its input's end is the run's.
            return kafka_sink::serve(&listener);
        }
        LimitKind::Write4k | LimitKind::Write4kFlush => {
            return Err(Error::Usage("the disk's limits have no server".to_owned()));
        }
        LimitKind::Sink
        | LimitKind::SinkCrc
        | LimitKind::SinkCrcWrite
        | LimitKind::Ingest
        | LimitKind::IngestFlush => {
            let server = ingest::Server::new(&spec)?;
            server.run(accept_all(&listener, spec.connections)?)?
        }
    };
    say(&report)?;
    let mut until_closed = String::new();
    std::io::stdin().read_line(&mut until_closed).doing("waiting for the end")?;
    Ok(())
}

fn accept_all(listener: &TcpListener, connections: usize) -> Result<Vec<TcpStream>> {
    say(&listener.local_addr().doing("listening")?.port())?;
    (0..connections)
        .map(|_| {
            let (stream, _) = listener.accept().doing("accepting")?;
            stream.set_nonblocking(true).doing("accepting")?;
            stream.set_nodelay(true).doing("accepting")?;
            Ok(stream)
        })
        .collect()
}

fn say<T: serde::Serialize>(value: &T) -> Result<()> {
    let mut line = serde_json::to_string(value).doing("writing to the parent")?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).doing("writing to the parent")
}
