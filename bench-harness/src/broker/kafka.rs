//! Apache Kafka as a peer: its jars from Maven Central, a broker of one node in KRaft mode, and the
//! settings it is measured with.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{BrokerSpec, free_port};
use crate::error::{Doing, Error, Result};

/// The version that is fetched unless another is asked for.
pub const VERSION: &str = "4.3.1";

/// The main jar; its name carries the version.
const MAIN_JAR: &str = "kafka_2.13-";

const FORMAT_WITH: &str = "kafka.tools.StorageTool";
const RUN: &str = "kafka.Kafka";
/// Any will do: 16 bytes in base64.
const CLUSTER_ID: &str = "bWlsbHN0cmVhbS1iZW5jaA";

/// The directory `fetch-kafka` puts the jars into.
#[must_use]
pub fn directory(target: &Path, version: &str) -> PathBuf {
    target.join(format!("kafka-{version}"))
}

/// The version of the jars in a directory, as their names say.
#[must_use]
pub fn version(libs: &Path) -> String {
    let entries = std::fs::read_dir(libs).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut versions = names
        .filter_map(|name| Some(name.strip_prefix(MAIN_JAR)?.strip_suffix(".jar")?.to_owned()));
    versions.next().unwrap_or_else(|| "(no jars)".to_owned())
}

/// Fetches Kafka's jars and all they need with Maven.
///
/// # Errors
/// If Maven is not there or cannot fetch them.
pub fn fetch(into: &Path, version: &str) -> Result<()> {
    let well_formed = !version.is_empty()
        && version.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c));
    if !well_formed {
        return Err(Error::Usage(format!("{version:?} is no version")));
    }
    std::fs::create_dir_all(into).doing(into.display())?;
    let into = into.canonicalize().doing(into.display())?;
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    let pom = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>millstream</groupId>\
         <artifactId>bench-kafka</artifactId><version>1</version><dependencies>{}{}</dependencies></project>\n",
        dependency("org.apache.kafka", "kafka_2.13", version),
        // Kafka's log goes to its standard error, from warnings on.
        dependency("org.slf4j", "slf4j-simple", "1.7.36"),
    );
    let file = into.join("pom.xml");
    std::fs::write(&file, pom).doing(file.display())?;
    let status = Command::new("mvn")
        .args(["-B", "-q", "-f"])
        .arg(&file)
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", into.display()))
        .arg("-DincludeScope=runtime")
        .status()
        .doing("running mvn (Apache Maven, with a JDK of 17 or later)")?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Peer(format!("mvn ended with {status}; is Maven Central reachable?")))
    }
}

fn java(libs: &Path) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(libs.join("*"));
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    command
}

/// The settings of a broker of one node that is measured. Everything else is Kafka's default.
fn properties(spec: &BrokerSpec, address: &str, controller: &str, data: &Path) -> String {
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{address},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{address}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         inter.broker.listener.name=PLAINTEXT\n\
         log.dirs={}\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         # Deleted topics give their space back at once, and a broker that was paused stays a member.\n\
         log.segment.delete.delay.ms=0\n\
         broker.session.timeout.ms=3600000\n\
         # As the server.properties that comes with Kafka has them.\n\
         num.network.threads=3\n\
         num.io.threads=8\n",
        data.join("logs").display()
    );
    for setting in &spec.settings {
        text.push_str(setting);
        text.push('\n');
    }
    text
}

/// Formats a data directory; the command that starts the broker on it.
///
/// # Errors
/// If Java is not there or refuses.
pub(super) fn command(
    spec: &BrokerSpec,
    libs: &Path,
    address: &str,
    data: &Path,
) -> Result<Command> {
    let jars = std::fs::read_dir(libs).into_iter().flatten().flatten();
    let has_main = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(MAIN_JAR);
    if !jars.into_iter().any(|jar| has_main(&jar.file_name())) {
        return Err(Error::Usage(format!(
            "there is no Kafka in {}: run `millstream-bench fetch-kafka` first",
            libs.display()
        )));
    }
    let controller = format!("127.0.0.1:{}", free_port()?);
    let file = data.join("server.properties");
    std::fs::write(&file, properties(spec, address, &controller, data)).doing(file.display())?;
    let formatted = java(libs)
        .args([FORMAT_WITH, "format", "-t", CLUSTER_ID, "-c"])
        .arg(&file)
        .output()
        .doing("running java (17 or later)")?;
    if !formatted.status.success() {
        return Err(Error::Peer(format!(
            "formatting Kafka's directory: {}",
            String::from_utf8_lossy(&formatted.stderr)
        )));
    }
    let mut command = java(libs);
    // What bin/kafka-server-start.sh and kafka-run-class.sh give.
    command.args(["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
    command.args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]);
    command.arg("-Djava.awt.headless=true").arg(RUN).arg(&file);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Program;

    #[test]
    fn a_directory_without_jars_is_refused_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let spec = BrokerSpec {
            program: Program::Kafka(directory.path().to_owned()),
            settings: vec!["num.io.threads=2".to_owned()],
            core: 0,
            directory: directory.path().to_owned(),
        };
        let refused = command(&spec, directory.path(), "127.0.0.1:1", directory.path());
        assert!(refused.unwrap_err().to_string().contains("fetch-kafka"));
        let text = properties(&spec, "127.0.0.1:9", "127.0.0.1:10", directory.path());
        assert!(
            text.ends_with("num.io.threads=8\nnum.io.threads=2\n"),
            "the person's word is last"
        );
        assert!(fetch(directory.path(), "4.0;rm").is_err());
        std::fs::write(directory.path().join("kafka_2.13-9.9.9.jar"), "").unwrap();
        assert_eq!(version(directory.path()), "9.9.9");
    }
}
