//! Addresses to listen on.

use std::fmt;

/// A host and a port without TLS or authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// A name or an address, without brackets; empty for any address.
    pub host: String,
    /// The port; 0 for one that is free.
    pub port: u16,
}

impl Listener {
    /// Parses one `[PLAINTEXT://]host:port`. The error is a cause and a remedy.
    pub(super) fn parse(text: &str) -> Result<Listener, (String, String)> {
        let refused = |cause: &str, remedy: &str| Err((cause.to_owned(), remedy.to_owned()));
        if text.contains(',') {
            return refused(
                "names several listeners",
                "give one; more than one is not supported yet",
            );
        }
        let address = match text.split_once("://") {
            None => text,
            Some((name, address)) if name.eq_ignore_ascii_case("PLAINTEXT") => address,
            Some(_) => {
                return refused(
                    "is not a PLAINTEXT listener",
                    "give PLAINTEXT://host:port; TLS and SASL are not supported yet",
                );
            }
        };
        let Some((host, port)) = address.rsplit_once(':') else {
            return refused("has no port", "give host:port, as 127.0.0.1:9092");
        };
        let Ok(port) = port.parse() else {
            return refused(
                "has a port that is no number up to 65535",
                "give host:port, as 127.0.0.1:9092",
            );
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return refused(
                "has an IPv6 address without brackets",
                "give [address]:port, as [::1]:9092",
            );
        }
        Ok(Listener { host: bare.unwrap_or(host).to_owned(), port })
    }

    /// Whether it stands for every address of the host, which a client cannot connect to.
    #[must_use]
    pub fn is_any_address(&self) -> bool {
        self.host.is_empty()
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified())
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
