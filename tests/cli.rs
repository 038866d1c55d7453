//! The command line as a script sees it: exit codes, one-line errors, output.

use std::error::Error;
use std::process::{Command, Output};

type Outcome = Result<(), Box<dyn Error>>;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(arguments).env_clear();
    command
}

fn run(arguments: &[&str]) -> Result<Output, std::io::Error> {
    command(arguments).output()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The one line of an error, with this exit code and nothing on standard output.
fn refused(arguments: &[&str], exit_code: i32) -> Result<String, Box<dyn Error>> {
    let output = run(arguments)?;
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit_code), "{arguments:?}: {line}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    assert!(
        line.starts_with("error: ") && line.lines().count() == 1 && line.contains("; "),
        "{line}"
    );
    Ok(line)
}

fn printed(arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = run(arguments)?;
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    Ok(text(&output.stdout))
}

#[test]
fn help_has_examples_and_exit_codes() -> Outcome {
    let help = printed(&["--help"])?;
    for word in ["Examples:", "serve", "doctor", "completions", "--listen", "78 bad configuration"]
    {
        assert!(help.contains(word), "{word}");
    }
    let keys = printed(&["--help-config"])?;
    assert!(
        keys.contains("\nlog.segment.bytes (bytes from 1048576; default 1073741824)\n"),
        "{keys}"
    );
    Ok(())
}

#[test]
fn version_says_what_was_built() -> Outcome {
    let version = printed(&["--version"])?;
    assert!(
        version.starts_with(concat!("millstream ", env!("CARGO_PKG_VERSION"), " (")),
        "{version}"
    );
    assert!(
        version.contains(std::env::consts::ARCH) && version.contains("features: "),
        "{version}"
    );
    Ok(())
}

#[test]
fn completions_for_each_shell() -> Outcome {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell])?;
        assert!(script.contains("millstream") && script.contains("doctor"), "{shell}");
    }
    Ok(())
}

#[test]
fn bad_usage_is_2() -> Outcome {
    assert!(refused(&["--lisen", "x:1"], 2)?.contains("did you mean --listen?"));
    let misplaced = refused(&["-b", "x:1", "topic", "list"], 2)?;
    assert!(misplaced.contains("behind the command"), "{misplaced}");
    assert!(refused(&["frobnicate"], 2)?.contains("frobnicate"));
    assert!(refused(&["completions"], 2)?.contains("see millstream --help"));
    refused(&["config"], 2)?;
    refused(&["completions", "basic"], 2)?;
    refused(&["serve", "--listen"], 2)?;
    Ok(())
}

#[test]
fn bad_configuration_is_78() -> Outcome {
    let line = refused(&["serve", "--set", "num.partitions=0"], 78)?;
    assert_eq!(line, "error: num.partitions = 0 (flag --set) is less than 1; give 1 or more\n");
    assert!(
        refused(&["--data-dir", "/a,/b"], 78)?
            .contains("log.dirs = /a,/b (flag --data-dir) names several")
    );
    assert!(
        refused(&["config", "check", "--config", "/does/not/exist"], 78)?
            .contains("cannot be read")
    );
    assert!(refused(&["--listen", "nowhere"], 78)?.contains("listeners = nowhere"));
    assert!(refused(&["--cores", "0-100000"], 78)?.contains("may not use"));
    Ok(())
}

#[test]
fn print_shows_values_with_their_sources() -> Outcome {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("millstream.toml");
    std::fs::write(&file, "\"num.partitions\" = 3\n\"node.id\" = 4\n")?;
    let output = command(&["config", "print", "--listen", "localhost:0"])
        .env("MILLSTREAM_CONFIG", &file)
        .env("KAFKA_NODE_ID", "5")
        .env("KAFKA_FETCH_MAX_BYTES", "60000")
        .output()?;
    let printed = text(&output.stdout);
    assert_eq!(text(&output.stderr), "");
    for line in [
        "listeners = localhost:0  # flag --listen".to_owned(),
        "node.id = 5  # environment KAFKA_NODE_ID".to_owned(),
        format!("num.partitions = 3  # file {}", file.display()),
        "fetch.max.bytes = 60000  # environment KAFKA_FETCH_MAX_BYTES".to_owned(),
        "message.max.bytes = 1048588  # default".to_owned(),
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}\n{printed}");
    }
    Ok(())
}

#[test]
fn unknown_keys_warn_once_and_do_not_stop() -> Outcome {
    let output =
        run(&["config", "check", "--set", "zookeeper.connect=z", "--set", "no.such.key=1"])?;
    assert_eq!(output.status.code(), Some(0));
    let warning = text(&output.stderr);
    assert!(warning.starts_with(
        "warning: unknown keys are ignored: zookeeper.connect (flag --set), no.such.key"
    ));
    assert_eq!(warning.lines().count(), 1);
    assert_eq!(text(&output.stdout), "configuration is valid\n");
    Ok(())
}

#[test]
fn doctor_prints_a_table() -> Outcome {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("not/yet");
    let output = run(&["doctor", "--data-dir", &data.display().to_string()])?;
    let table = text(&output.stdout);
    assert!(table.starts_with("CONDITION"), "{table}");
    for condition in
        ["kernel", "io_uring", "locked memory", "open files", "data directory", "file system"]
    {
        assert!(table.lines().any(|line| line.starts_with(condition)), "{condition}\n{table}");
    }
    let tuning = include_str!("../tuning/README.md");
    let conditions: Vec<&str> =
        tuning.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
    for line in table.lines().skip(1) {
        let explained = conditions
            .iter()
            .flat_map(|cell| cell.split(", "))
            .any(|condition| line.starts_with(condition));
        assert!(explained, "tuning/README.md explains every line: {line}");
    }
    let failed = table.contains("ERROR");
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{table}");
    assert!(!data.exists(), "doctor changes nothing");
    assert_eq!(std::fs::read_dir(directory.path())?.count(), 0);
    Ok(())
}
