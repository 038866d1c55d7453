//! What can stop a run. A wrong result (records lost, bytes changed) is not an error of this kind: it
//! is the run's result, and `oracle` counts it.

use std::fmt;
use std::io;

/// Why a run could not be carried out.
#[derive(Debug)]
pub enum Error {
    /// The system refused something.
    Io {
        /// What was being done.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The other side broke its protocol, or answered with an error where none is tolerated.
    Peer(String),
    /// The options contradict each other or the environment.
    Usage(String),
}

/// The result of anything here that touches the machine.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { doing, source } => write!(f, "{doing}: {source}"),
            Error::Peer(what) => write!(f, "the other side: {what}"),
            Error::Usage(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Peer(_) | Error::Usage(_) => None,
        }
    }
}

/// Says what was being done when the system refused.
pub trait Doing<T> {
    /// Names the step.
    ///
    /// # Errors
    /// The same failure, with the step's name.
    fn doing(self, step: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, step: impl fmt::Display) -> Result<T> {
        self.map_err(|source| Error::Io { doing: step.to_string(), source: source.into() })
    }
}
