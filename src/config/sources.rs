//! Where values come from, in rising priority: defaults, a file, the environment, the command line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::effect::{Effect, broker_effect};
use super::kafka::{self, BROKER};
use super::keys::{KEYS, Key, find};

/// Where an effective value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The table of keys.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => write!(f, "default"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Environment(variable) => write!(f, "environment {variable}"),
            Source::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// One value as text.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) source: Source,
    /// Whether it was set by the key's own name: that wins over its aliases in the same source.
    by_name: bool,
}

/// The values of all sources, unchecked.
#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<&'static str, Setting>,
    /// What was set under each of Kafka's and our names, as it was written.
    given: BTreeMap<&'static str, (String, Source)>,
    unknown: Vec<(String, Source)>,
}

/// Variables of the usual Kafka images and scripts that are no settings, and our own.
const NOT_KEYS: &[&str] = &[
    "KAFKA_HEAP_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_HOME",
    "KAFKA_GC_LOG_OPTS",
    "MILLSTREAM_CONFIG",
    "MILLSTREAM_BOOTSTRAP_SERVER",
];

impl Settings {
    /// The defaults.
    #[must_use]
    pub fn defaults() -> Settings {
        let setting = |key: &Key| Setting {
            value: key.default.to_owned(),
            source: Source::Default,
            by_name: true,
        };
        Settings {
            values: KEYS.iter().map(|key| (key.name, setting(key))).collect(),
            given: BTreeMap::new(),
            unknown: Vec::new(),
        }
    }

    /// Sets one value. Later calls win; a name wins over its aliases within one kind of source.
    pub fn set(&mut self, name: &str, value: String, source: Source) {
        if let Some(known) = known(name) {
            self.given.insert(known, (value.clone(), source.clone()));
        }
        let Some(key) = find(name) else {
            if known(name).is_none() {
                self.unknown.push((name.to_owned(), source));
            }
            return;
        };
        let by_name = key.name == name;
        let kept = self.values.get(key.name).is_some_and(|old| {
            old.by_name
                && !by_name
                && std::mem::discriminant(&old.source) == std::mem::discriminant(&source)
        });
        if !kept {
            self.values.insert(key.name, Setting { value, source, by_name });
        }
    }

    /// Adds a file: Kafka's properties if its name ends in `.properties`, else TOML.
    ///
    /// # Errors
    /// The file cannot be read or its syntax is wrong.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let problem = |cause: String, remedy: &str| ConfigError::file(path, cause, remedy);
        let text = std::fs::read_to_string(path).map_err(|e| {
            problem(format!("cannot be read: {e}"), "give the path of a readable file to --config")
        })?;
        let source = Source::File(path.to_owned());
        if path.extension().is_some_and(|extension| extension == "properties") {
            for (name, value) in properties(&text) {
                self.set(&name, value, source.clone());
            }
            return Ok(());
        }
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
            let line = e.span().map_or(1, |span| {
                text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1
            });
            let cause = e.message().lines().next().unwrap_or("syntax error").to_owned();
            problem(
                format!("line {line}: {cause}"),
                "write TOML, as \"log.segment.bytes\" = \"1GiB\"",
            )
        })?;
        for (name, value) in flatten("", &table).map_err(|name| {
            problem(
                format!("{name} is neither text, number, boolean nor a list of them"),
                "write its value as text",
            )
        })? {
            self.set(&name, value, source.clone());
        }
        Ok(())
    }

    /// Adds the environment: `KAFKA_*`, then `MILLSTREAM_*`.
    pub fn add_environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        let mut variables: Vec<_> = variables.collect();
        variables.sort_unstable();
        for prefix in ["KAFKA_", "MILLSTREAM_"] {
            for (variable, value) in &variables {
                if let Some(rest) =
                    variable.strip_prefix(prefix).filter(|_| !NOT_KEYS.contains(&variable.as_str()))
                {
                    let name = rest.to_ascii_lowercase().replace('_', ".");
                    self.set(&name, value.clone(), Source::Environment(variable.clone()));
                }
            }
        }
    }

    /// Adds `key=value` from the command line.
    ///
    /// # Errors
    /// There is no equals sign.
    pub fn add_assignment(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let source = Source::Flag("--set".to_owned());
        match assignment.split_once('=') {
            Some((name, value)) => {
                self.set(name.trim(), value.trim().to_owned(), source);
                Ok(())
            }
            None => Err(ConfigError {
                key: assignment.into(),
                value: String::new(),
                source,
                cause: "has no value".to_owned(),
                remedy: "write --set key=value".to_owned(),
            }),
        }
    }

    /// What was set under exactly this name.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|(value, _)| value.as_str())
    }

    /// Everything that was set under a known name, with its source.
    pub(super) fn all_given(&self) -> impl Iterator<Item = (&'static str, &str, &Source)> {
        self.given.iter().map(|(name, (value, source))| (*name, value.as_str(), source))
    }

    /// What was set of Kafka's keys although it has no effect here, with the reasons.
    #[must_use]
    pub fn without_effect(&self) -> Vec<(&'static str, &'static str)> {
        self.given
            .keys()
            .filter_map(|name| match broker_effect(name) {
                Some(Effect::NoEffect(why)) => Some((*name, why)),
                _ => None,
            })
            .collect()
    }

    /// The names that no key has, with their sources.
    #[must_use]
    pub fn unknown(&self) -> &[(String, Source)] {
        &self.unknown
    }

    pub(super) fn get(&self, key: &Key) -> Setting {
        let missing =
            || Setting { value: key.default.to_owned(), source: Source::Default, by_name: true };
        self.values.get(key.name).cloned().unwrap_or_else(missing)
    }
}

/// The table's own copy of a name that Kafka or we have.
fn known(name: &str) -> Option<&'static str> {
    if let Some(key) = kafka::find(BROKER, name) {
        return Some(key.name);
    }
    let key = find(name)?;
    key.aliases.iter().chain([&key.name]).copied().find(|known| *known == name)
}

/// The settings of a Java properties file: continued lines are joined, escapes resolved.
fn properties(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.starts_with(['#', '!']) || logical.is_empty() {
            continue;
        }
        // An odd number of backslashes at the end goes on in the next line.
        while (logical.len() - logical.trim_end_matches('\\').len()) & 1 == 1 {
            logical.pop();
            match lines.next() {
                Some(next) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let end = separator(&logical);
        let (name, rest) = logical.split_at(end);
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim();
        settings.push((unescaped(name), unescaped(value)));
    }
    settings
}

/// Where the name ends: at the first `=`, `:` or blank that is not escaped.
fn separator(line: &str) -> usize {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '=' | ':' | ' ' | '\t' => return at,
            _ => {}
        }
    }
    line.len()
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// Dotted names and values of nested tables. The error is the name of a value that is none.
fn flatten(prefix: &str, table: &toml::Table) -> Result<Vec<(String, String)>, String> {
    let mut flat = Vec::new();
    for (name, value) in table {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(table) => flat.extend(flatten(&name, table)?),
            toml::Value::Array(values) => {
                let values: Option<Vec<String>> = values.iter().map(scalar).collect();
                let values = values.ok_or_else(|| name.clone())?;
                flat.push((name, values.join(",")));
            }
            value => {
                let value = scalar(value).ok_or_else(|| name.clone())?;
                flat.push((name, value));
            }
        }
    }
    Ok(flat)
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(boolean) => Some(boolean.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}
