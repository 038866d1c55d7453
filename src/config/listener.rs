//! Addresses to listen on.

use std::collections::BTreeMap;
use std::fmt;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// A name or an address, without brackets; empty for any address.
    pub host: String,
    /// The port; 0 for one that is free.
    pub port: u16,
}

/// A listener with its name, as `listeners` has it, and what clients that came by it are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedListener {
    /// The name, as `PLAINTEXT` or `INTERNAL`.
    pub name: String,
    /// Where to listen.
    pub bind: Listener,
    /// Where clients connect. Port 0 stands for the port that was bound.
    pub advertised: Listener,
}

/// A cause and a remedy.
type Problem = (String, String);

fn refused<T>(cause: impl Into<String>, remedy: impl Into<String>) -> Result<T, Problem> {
    Err((cause.into(), remedy.into()))
}

/// The name of a listener that gives none.
const PLAINTEXT: &str = "PLAINTEXT";

/// Parses `listener.security.protocol.map`: names and what they stand for.
pub(super) fn parse_protocols(text: &str) -> Result<BTreeMap<String, String>, Problem> {
    let mut protocols = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let Some((name, protocol)) = pair.split_once(':') else {
            return refused(format!("has {pair} without a protocol"), "write NAME:PROTOCOL");
        };
        let known = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
        let protocol = protocol.trim().to_ascii_uppercase();
        if !known.contains(&protocol.as_str()) {
            return refused(format!("has the unknown protocol {protocol}"), known.join(" or "));
        }
        protocols.insert(name.trim().to_ascii_uppercase(), protocol);
    }
    Ok(protocols)
}

/// Parses a list of `[NAME://]host:port`, each name once; those of Kafka's controllers are left out.
pub(super) fn parse_list(
    text: &str,
    controllers: &[String],
) -> Result<Vec<(String, Listener)>, Problem> {
    let mut listeners: Vec<(String, Listener)> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, address) = part.split_once("://").unwrap_or((PLAINTEXT, part));
        let name = name.to_ascii_uppercase();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(legal) {
            return refused(
                format!("has the listener name {name}, which is not allowed"),
                "use letters, digits, '_', '-' and '.'",
            );
        }
        if listeners.iter().any(|(known, _)| *known == name) {
            return refused(
                format!("names the listener {name} twice"),
                "give each a name of its own, as INTERNAL://host:port, and its protocol in \
                 listener.security.protocol.map",
            );
        }
        let listener = Listener::parse(address)?;
        if !controllers.contains(&name) {
            listeners.push((name, listener));
        }
    }
    Ok(listeners)
}

/// Puts `listeners`, `advertised.listeners` and the protocols together. The error names the key.
pub(super) fn combine(
    bind: Vec<(String, Listener)>,
    advertised: Vec<(String, Listener)>,
    protocols: &BTreeMap<String, String>,
) -> Result<Vec<NamedListener>, (&'static str, Problem)> {
    let at = |key: &'static str| move |problem: Problem| (key, problem);
    if bind.is_empty() {
        return refused("has no address for clients", "give host:port, as 127.0.0.1:9092")
            .map_err(at("listeners"));
    }
    for (at_index, (name, listener)) in bind.iter().enumerate() {
        match protocols.get(name).map(String::as_str) {
            Some(PLAINTEXT) => {}
            Some(_) => {
                return refused(
                    format!("has {name}, which is not a PLAINTEXT listener"),
                    "give PLAINTEXT://host:port; TLS and SASL are not supported yet",
                )
                .map_err(at("listeners"));
            }
            None => {
                return refused(
                    format!("has {name}, which listener.security.protocol.map does not have"),
                    format!("add {name}:PLAINTEXT to it"),
                )
                .map_err(at("listeners"));
            }
        }
        let taken = bind.iter().take(at_index).any(|(_, other)| {
            listener.port != 0 && other.port == listener.port && other.host == listener.host
        });
        if taken {
            return refused(format!("has {listener} twice"), "give each listener its own port")
                .map_err(at("listeners"));
        }
    }
    for (name, listener) in &advertised {
        if !bind.iter().any(|(known, _)| known == name) {
            return refused(
                format!("has {name}, which is not in listeners"),
                "name only listeners that listeners has",
            )
            .map_err(at("advertised.listeners"));
        }
        if listener.is_any_address() {
            return refused(
                "is no address that a client can connect to",
                "give a host name or address",
            )
            .map_err(at("advertised.listeners"));
        }
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(bind
        .into_iter()
        .map(|(name, bind)| {
            let told =
                advertised.iter().find(|(known, _)| *known == name).map(|(_, at)| at.clone());
            let advertised = told.unwrap_or_else(|| {
                let host = if bind.is_any_address() { host.clone() } else { bind.host.clone() };
                Listener { host, port: bind.port }
            });
            NamedListener { name, bind, advertised }
        })
        .collect())
}

impl Listener {
    /// Parses one `host:port`. The error is a cause and a remedy.
    pub(super) fn parse(address: &str) -> Result<Listener, Problem> {
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
