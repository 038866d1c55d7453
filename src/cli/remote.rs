//! What all commands that talk to a broker have in common: where it is, how long to wait, how to print.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use millstream::client::{ClientError, Connection};
use millstream::protocol::messages::metadata::{
    MetadataRequestTopic, MetadataResponseBroker, MetadataResponseTopic,
};
use millstream::protocol::messages::{MetadataRequest, MetadataResponse};
use millstream::protocol::{ErrorCode, StrBytes};

use super::Failure;

/// Which broker, and how the answer is printed.
#[derive(Clone, Debug, Args)]
pub(super) struct RemoteArgs {
    /// Brokers to ask first, any of the cluster
    #[arg(
        short = 'b',
        long,
        value_name = "HOST:PORT,..",
        env = "MILLSTREAM_BOOTSTRAP_SERVER",
        default_value = "127.0.0.1:9092",
        global = true
    )]
    bootstrap_server: String,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Seconds to wait for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, global = true,
          value_parser = clap::value_parser!(u64).range(1..))]
    timeout: u64,
}

/// Connections to a cluster, made as they are needed.
pub(super) struct Session {
    bootstrap: Connection,
    timeout: Duration,
    brokers: BTreeMap<i32, (String, Option<Connection>)>,
    controller: i32,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Runtime(error.to_string())
    }
}

/// A failure with Kafka's code, its name and a remedy.
pub(super) fn refused(
    what: &str,
    code: ErrorCode,
    message: Option<&StrBytes>,
    remedy: &str,
) -> Failure {
    let why = message.map(|text| text.trim_end_matches('.')).filter(|text| !text.is_empty());
    let why = why.unwrap_or(code.message());
    Failure::Runtime(format!("{what}: {why} ({}); {remedy}", code_name(code)))
}

/// The code's name as Kafka writes it.
pub(super) fn code_name(code: ErrorCode) -> String {
    let mut name = String::new();
    for (at, letter) in format!("{code:?}").char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

impl RemoteArgs {
    /// Connects to the first of the brokers that answers.
    pub(super) fn session(&self) -> Result<Session, Failure> {
        let timeout = Duration::from_secs(self.timeout);
        let mut last = Failure::Runtime("no broker is named; give --bootstrap-server".to_owned());
        for address in self.bootstrap_server.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            // Kafka's tools want the port; here 9092 is meant without it.
            let address =
                if address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                    address.to_owned()
                } else {
                    format!("{address}:9092")
                };
            match Connection::open(&address, timeout) {
                Ok(bootstrap) => {
                    return Ok(Session {
                        bootstrap,
                        timeout,
                        brokers: BTreeMap::new(),
                        controller: -1,
                    });
                }
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
}

fn address_of(broker: &MetadataResponseBroker) -> String {
    if broker.host.contains(':') {
        format!("[{}]:{}", broker.host.as_str(), broker.port)
    } else {
        format!("{}:{}", broker.host.as_str(), broker.port)
    }
}

impl Session {
    /// What the cluster says of topics; of all of them for none. Creates nothing.
    pub(super) fn metadata(
        &mut self,
        topics: Option<&[String]>,
    ) -> Result<MetadataResponse, Failure> {
        let topics = topics.map(|names| {
            let topic = |name: &String| MetadataRequestTopic {
                name: Some(StrBytes::from(name.clone())),
                ..Default::default()
            };
            names.iter().map(topic).collect()
        });
        let request =
            MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
        let response = self.bootstrap.call(&request)?;
        for broker in &response.brokers {
            let address = address_of(broker);
            let entry =
                self.brokers.entry(broker.node_id).or_insert_with(|| (address.clone(), None));
            if entry.0 != address {
                *entry = (address, None);
            }
        }
        self.controller = response.controller_id;
        Ok(response)
    }

    /// One topic that must be there.
    pub(super) fn topic(&mut self, name: &str) -> Result<MetadataResponseTopic, Failure> {
        let response = self.metadata(Some(&[name.to_owned()]))?;
        let found = response.topics.into_iter().find(|topic| topic.name.as_deref() == Some(name));
        let topic = found.ok_or_else(|| {
            Failure::Runtime(format!("the broker says nothing of topic {name}; try again"))
        })?;
        match topic.error_code {
            ErrorCode::None => Ok(topic),
            ErrorCode::UnknownTopicOrPartition => Err(Failure::Runtime(format!(
                "there is no topic {name}; create it with `millstream topic create {name}`, or see \
                 `millstream topic list`"
            ))),
            code => Err(refused(&format!("topic {name}"), code, None, "try again")),
        }
    }

    /// How long to wait for an answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The broker that was asked first.
    pub(super) fn any(&mut self) -> &mut Connection {
        &mut self.bootstrap
    }

    /// The broker to ask for changes: brokers before Kafka 4 may want the controller itself.
    pub(super) fn controller(&mut self) -> Result<&mut Connection, Failure> {
        if self.brokers.is_empty() {
            self.metadata(Some(&[]))?;
        }
        if self.brokers.contains_key(&self.controller) {
            self.broker(self.controller)
        } else {
            Ok(&mut self.bootstrap)
        }
    }

    /// A broker by id.
    pub(super) fn broker(&mut self, id: i32) -> Result<&mut Connection, Failure> {
        let timeout = self.timeout;
        let Some((address, connection)) = self.brokers.get_mut(&id) else {
            return Err(Failure::Runtime(format!(
                "broker {id} is not in the cluster's metadata; wait until it is back"
            )));
        };
        match connection {
            Some(connection) => Ok(connection),
            None => {
                let opened = Connection::open(address, timeout).map_err(|error| {
                    Failure::Runtime(format!(
                        "the cluster names broker {id} at {address}, but {error} (is its \
                         advertised.listeners right?)"
                    ))
                })?;
                Ok(connection.insert(opened))
            }
        }
    }
}

/// Prints rows in columns as wide as their widest cell.
pub(super) fn table(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Prints a value as indented JSON.
pub(super) fn json(out: &mut impl Write, value: &serde_json::Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

/// Splits `key=value`.
pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        assert_eq!(code_name(ErrorCode::UnknownTopicOrPartition), "UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(code_name(ErrorCode::None), "NONE");
    }

    #[test]
    fn columns_line_up() {
        let mut out = Vec::new();
        let rows =
            [vec!["a".to_owned(), "b".to_owned()], vec!["long one".to_owned(), String::new()]];
        table(&mut out, &["NAME", "X"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME      X\na         b\nlong one\n");
    }

    #[test]
    fn assignments_need_both_sides() {
        assert_eq!(assignment("a = b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(assignment("a").is_err() && assignment("=b").is_err());
    }
}
