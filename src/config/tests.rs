//! Sources, priorities, and every refusal with its line.

use super::*;

fn machine() -> Machine {
    Machine { cpus: vec![0, 1, 2, 3, 6], cpu_quota_milli: None, memory_bytes: 64 << 30 }
}

fn config(assignments: &[&str]) -> Result<Config, ConfigError> {
    let mut settings = Settings::defaults();
    for assignment in assignments {
        settings.add_assignment(assignment)?;
    }
    Config::new(&settings, &machine())
}

fn refusal(assignment: &str) -> String {
    let line = config(&[assignment]).unwrap_err().to_string();
    assert!(!line.contains('\n') && line.contains("; "), "{line}");
    line
}

fn file(name: &str, text: &str) -> (Settings, Result<(), ConfigError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let mut settings = Settings::defaults();
    let added = settings.add_file(&path);
    (settings, added)
}

#[test]
fn defaults_are_kafkas() {
    let config = config(&[]).unwrap();
    let [listener] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    assert_eq!(
        (listener.name.as_str(), listener.bind.to_string().as_str()),
        ("PLAINTEXT", "127.0.0.1:9092")
    );
    assert_eq!(listener.advertised, listener.bind);
    assert_eq!((config.node_id, config.num_partitions), (1, 1));
    assert_eq!(config.message_max_bytes, 1_048_588);
    assert_eq!(config.log_retention_ms, 7 * 24 * HOUR);
    assert_eq!(config.cores, [0, 1, 2, 3, 6]);
    assert_eq!(config.acks_all_durability, Durability::Flushed);
    assert_eq!(config.journal_ring_bytes, 256 << 20);
}

#[test]
fn later_sources_win() {
    let (mut settings, added) = file(
        "m.toml",
        "\"node.id\" = 5\nlog.segment.bytes = \"2MiB\"\nnum.partitions = 3\nmax.connections = 7\n[log.retention]\nhours = 1\n",
    );
    added.unwrap();
    let environment = [
        ("MILLSTREAM_NUM_PARTITIONS", "8"),
        ("KAFKA_NUM_PARTITIONS", "4"),
        ("KAFKA_NODE_ID", "6"),
        ("KAFKA_OPTS", "-x"),
        ("KAFKA_ZOOKEEPER_CONNECT", "z"),
        ("PATH", "/bin"),
    ];
    settings.add_environment(environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter());
    settings.add_assignment("node.id=9").unwrap();
    let config = Config::new(&settings, &machine()).unwrap();
    assert_eq!((config.node_id, config.num_partitions, config.log_segment_bytes), (9, 8, 2 << 20));
    assert_eq!((config.log_retention_ms, config.max_connections), (HOUR, 7));
    let unknown: Vec<_> = settings.unknown().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(unknown, ["zookeeper.connect"]);

    let effective = config.effective(&settings);
    let source =
        |name| effective.iter().find(|row| row.0 == name).map(|row| row.2.to_string()).unwrap();
    assert_eq!(source("node.id"), "flag --set");
    assert_eq!(source("num.partitions"), "environment MILLSTREAM_NUM_PARTITIONS");
    assert!(source("log.segment.bytes").starts_with("file "));
    assert_eq!(source("fetch.max.bytes"), "default");
}

#[test]
fn a_server_properties_file_is_read() {
    let text = "# comment\nbroker.id=3\nlog.dirs=/x\nlog.dir=/y\nlisteners = PLAINTEXT://:9093\nzookeeper.connect=z\n";
    let (settings, added) = file("server.properties", text);
    added.unwrap();
    let config = Config::new(&settings, &machine()).unwrap();
    assert_eq!(
        (config.node_id, config.log_dir),
        (3, PathBuf::from("/x")),
        "log.dirs wins over log.dir"
    );
    assert_eq!(config.listeners[0].bind.port, 9093);
    assert!(!config.listeners[0].advertised.is_any_address());
    assert_eq!(settings.unknown().len(), 1);
}

#[test]
fn broken_files_name_the_line() {
    let (_, added) = file("m.toml", "a = 1\nb = = 2\n");
    let line = added.unwrap_err().to_string();
    assert!(line.contains("m.toml line 2: ") && !line.contains('\n'), "{line}");
    let (_, added) = file("m.toml", "a = 1979-05-27\n");
    assert!(added.unwrap_err().to_string().contains("a is neither"));
    let missing = Settings::defaults().add_file(Path::new("/does/not/exist.toml"));
    assert!(missing.unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn refusals_say_key_value_cause_and_remedy() {
    assert_eq!(
        refusal("log.segment.bytes=5"),
        "log.segment.bytes = 5 (flag --set) is less than 1048576; give 1048576 or more"
    );
    assert!(refusal("default.replication.factor=3").contains("is more than 1; give 1 or less"));
    assert!(refusal("log.dirs=/a,/b").contains("several directories"));
    assert!(refusal("listeners=a:1,b:2").contains("names the listener PLAINTEXT twice"));
    assert!(refusal("listeners=A://a:1").contains("add A:PLAINTEXT"));
    assert!(refusal("listeners=").contains("no address for clients"));
    assert!(refusal("listeners=a b://a:1").contains("not allowed"));
    assert!(refusal("advertised.listeners=A://a:1").contains("not in listeners"));
    assert!(refusal("listener.security.protocol.map=A:TLS").contains("unknown protocol"));
    assert!(refusal("authorizer.class.name=x").contains("no authorizer"));
    assert!(refusal("log.cleaner.threads=-1").contains("at least 0"));
    assert!(refusal("remote.log.storage.system.enable=true").contains("tiered storage"));
    assert!(refusal("listeners=SSL://a:1").contains("TLS and SASL"));
    assert!(refusal("listeners=::1:9092").contains("brackets"));
    assert!(refusal("listeners=localhost").contains("no port"));
    assert!(refusal("listeners=localhost:70000").contains("65535"));
    assert!(refusal("advertised.listeners=0.0.0.0:9092").contains("no address"));
    assert!(refusal("cores=5").contains("CPU 5"));
    assert!(refusal("cores=1,0-1").contains("twice"));
    assert!(refusal("cores=2-1").contains("no list"));
    assert!(refusal("cores=0-99999999999").contains("CPU 4"));
    assert!(refusal("cores=").contains("no list"));
    assert!(refusal("record.validation=deep").contains("framing or full"));
    assert!(refusal("auto.create.topics.enable=yes").contains("true or false"));
    assert!(refusal("log.retention.ms=0").contains("is 0"));
    assert!(refusal("log.roll.hours=x").contains("not a whole number"));
    assert!(Settings::defaults().add_assignment("node.id").is_err());
}

#[test]
fn derived_values() {
    assert_eq!(config(&["cores=6,0-1"]).unwrap().cores, [0, 1, 6]);
    assert_eq!(config(&["log.retention.minutes=2"]).unwrap().log_retention_ms, 120_000);
    assert_eq!(
        config(&["log.retention.minutes=2", "log.retention.ms=7"]).unwrap().log_retention_ms,
        7
    );
    assert_eq!(config(&["log.retention.hours=-1"]).unwrap().log_retention_ms, -1);
    assert_eq!(config(&["journal.ring.bytes=10000000"]).unwrap().journal_ring_bytes, 9_998_336);
    assert_eq!(
        config(&["listeners=[::1]:0"]).unwrap().listeners[0].advertised.to_string(),
        "[::1]:0"
    );
    assert_eq!(default_ring_bytes(1 << 30, 2), 64 << 20);
    assert_eq!(default_ring_bytes(1 << 30, 64), 4 << 20);
    assert_eq!(default_ring_bytes(0, 1), 1 << 20);
}

#[test]
fn listeners_have_names_and_addresses_of_their_own() {
    let config = config(&[
        "listeners=INTERNAL://0.0.0.0:9092,EXTERNAL://[::]:9094,CONTROLLER://:9093",
        "advertised.listeners=EXTERNAL://kafka.example.org:443",
        "listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names=CONTROLLER",
    ])
    .unwrap();
    let told: Vec<_> = config.listeners.iter().map(|l| (l.name.as_str(), l.bind.port)).collect();
    assert_eq!(told, [("INTERNAL", 9092), ("EXTERNAL", 9094)]);
    assert_eq!(config.listeners[1].advertised.to_string(), "kafka.example.org:443");
    assert!(!config.listeners[0].advertised.is_any_address());
}

/// The file that Kafka itself comes with (`config/server.properties`), all of its settings.
#[test]
fn kafkas_own_server_properties_start_a_broker() {
    let text = "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";
    let (settings, added) = file("server.properties", text);
    added.unwrap();
    assert!(settings.unknown().is_empty(), "{:?}", settings.unknown());
    let config = Config::new(&settings, &machine()).unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].advertised.to_string(), "localhost:9092");
    let without: Vec<_> = settings.without_effect().into_iter().map(|(name, _)| name).collect();
    assert!(
        without.contains(&"num.io.threads") && !without.contains(&"num.partitions"),
        "{without:?}"
    );
}

#[test]
fn topics_inherit_and_brokers_tell_what_was_set() {
    let config =
        config(&["log.retention.hours=1", "log.segment.bytes=2MiB", "log.cleanup.policy=compact"])
            .unwrap();
    assert_eq!(config.topic_defaults.retention_ms, HOUR);
    assert_eq!(config.topic_defaults.segment_bytes, 2 << 20);
    assert!(config.topic_defaults.cleanup_compact && !config.topic_defaults.cleanup_delete);
    let value = |name: &str| config.broker_values.iter().find(|value| value.name == name).unwrap();
    assert_eq!(value("log.segment.bytes").value(), Some("2097152"));
    assert_eq!(value("log.retention.ms").value(), None);
    assert_eq!(value("node.id").value(), Some("1"));
    assert!(value("ssl.keystore.password").is_sensitive());
    assert!(config.broker_values.iter().any(|value| value.name == "cores"));
}

#[test]
fn properties_are_javas() {
    let text = "a\\:b = 1\nnum.partitions:7\n  ! no\nlog.dirs /x\\\n    y\nnode.id=\\u0034\nbroker.rack=a\\=b\\\\\n";
    let (settings, added) = file("server.properties", text);
    added.unwrap();
    let config = Config::new(&settings, &machine()).unwrap();
    assert_eq!((config.num_partitions, config.node_id), (7, 4));
    assert_eq!(config.log_dir, PathBuf::from("/xy"));
    assert_eq!(config.broker_rack.as_deref(), Some("a=b\\"));
    assert_eq!(settings.unknown().len(), 1);
}
