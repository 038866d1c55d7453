//! The command line: arguments, exit codes, and what a user reads.
//!
//! Every error is one line, `error: cause; remedy`, on standard error. Exit codes are a contract for
//! scripts: 0 clean, 1 runtime, 2 usage, 78 configuration.

mod cluster;
mod configs;
mod doctor;
mod group;
mod group_reset;
mod log;
mod logging;
mod records;
mod remote;
mod topic;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use millstream::config::machine::Machine;
use millstream::config::{Config, ConfigError, KEYS, Kind, Settings, Source};

const EXIT_RUNTIME: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_CONFIG: u8 = 78;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("MILLSTREAM_BUILD"), ")");

const CONFIG_EXAMPLES: &str = "\
Examples:
  millstream config describe --topic visits
  millstream config describe --broker 1 --all
  millstream config alter --topic visits --set retention.ms=3600000 --unset segment.bytes
  millstream config alter --broker default --set log.retention.ms=86400000";

const EXAMPLES: &str = "\
Examples:
  millstream                                     serve on 127.0.0.1:9092, data in ./data
  millstream serve --listen 0.0.0.0:9092 --data-dir /var/lib/millstream
  millstream serve --config server.properties --set num.partitions=4
  millstream doctor                              what this machine lacks, and the remedies
  millstream config print                        effective settings and where each was set
  millstream topic create visits --partitions 6
  millstream topic consume visits --follow
  millstream group describe readers
  millstream cluster info
  millstream log verify --data-dir /var/lib/millstream

Exit codes: 0 clean, 1 runtime error, 2 bad usage, 78 bad configuration.";

/// A broker that speaks the Kafka wire protocol.
#[derive(Debug, Parser)]
#[command(name = "millstream", version = VERSION, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: SettingArgs,
    /// List every configuration key with its default and exit
    #[arg(long)]
    help_config: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker until SIGTERM or SIGINT (also without any command)
    Serve(SettingArgs),
    /// Work with topics and their records, of this or any Kafka cluster
    Topic(topic::TopicArgs),
    /// Check this broker's settings, or change configs of a cluster
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Work with consumer groups and their offsets, of this or any Kafka cluster
    Group(group::GroupArgs),
    /// Look at a cluster
    Cluster(cluster::ClusterArgs),
    /// Work on segment files and data directories without a broker
    Log(log::LogArgs),
    /// Show what the broker needs of this machine and what it finds
    Doctor(SettingArgs),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print every effective value and its source
    Print(SettingArgs),
    /// Check all values and exit
    Check(SettingArgs),
    /// Show configs of a topic, a broker or a group
    #[command(after_help = CONFIG_EXAMPLES)]
    Describe(configs::DescribeArgs),
    /// Change configs of a topic, a broker or a group
    #[command(after_help = CONFIG_EXAMPLES)]
    Alter(configs::AlterArgs),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Where settings come from, in rising priority: file, KAFKA_* and MILLSTREAM_* variables, flags.
#[derive(Debug, Args)]
struct SettingArgs {
    /// Configuration file: TOML, or Kafka's if it ends in .properties
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_CONFIG")]
    config: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// CPUs to use: auto, or a list as 0,2-3
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Set any configuration key (see --help-config)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Form of the broker's log: text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Least severe level logged: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl SettingArgs {
    /// Reads all sources and checks the outcome against the machine.
    fn load(self) -> Result<(Config, Settings), ConfigError> {
        let mut settings = Settings::defaults();
        if let Some(path) = &self.config {
            settings.add_file(path)?;
        }
        let unicode = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        settings.add_environment(std::env::vars_os().filter_map(unicode));
        for assignment in &self.assignments {
            settings.add_assignment(assignment)?;
        }
        let flags = [
            ("listeners", "--listen", self.listen),
            ("log.dirs", "--data-dir", self.data_dir),
            ("cores", "--cores", self.cores),
            ("log.format", "--log-format", self.log_format),
            ("log.level", "--log-level", self.log_level),
        ];
        for (name, flag, value) in flags {
            if let Some(value) = value {
                settings.set(name, value, Source::Flag(flag.to_owned()));
            }
        }
        let config = Config::new(&settings, &Machine::detect())?;
        Ok((config, settings))
    }
}

/// Why the command ends without success.
enum Failure {
    /// The configuration is well-formed, but what it names cannot be used.
    Unusable(String),
    Config(ConfigError),
    /// The arguments contradict each other.
    Usage(String),
    Runtime(String),
    /// What is wrong has been printed.
    Shown,
}

impl Failure {
    /// What went wrong, as a line.
    fn text(self) -> String {
        match self {
            Failure::Unusable(text) | Failure::Usage(text) | Failure::Runtime(text) => text,
            Failure::Config(error) => error.to_string(),
            Failure::Shown => String::new(),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Config(error)
    }
}

#[cfg(feature = "runtime")]
impl From<millstream::server::ServerError> for Failure {
    fn from(error: millstream::server::ServerError) -> Failure {
        if error.is_configuration() {
            Failure::Unusable(error.to_string())
        } else {
            Failure::Runtime(error.to_string())
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            // The reader has seen enough, as `head` does.
            io::ErrorKind::BrokenPipe => Failure::Shown,
            _ => Failure::Runtime(format!("standard output: {error}; redirect it elsewhere")),
        }
    }
}

/// Runs the command line.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(error)) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
        Err(Failure::Unusable(error)) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
        Err(Failure::Usage(error)) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Runtime(error)) => {
            eprintln!("error: {error}");
            ExitCode::from(EXIT_RUNTIME)
        }
        Err(Failure::Shown) => ExitCode::from(EXIT_RUNTIME),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    if cli.help_config {
        return Ok(help_config(&mut io::stdout().lock())?);
    }
    match cli.command.unwrap_or(Command::Serve(cli.settings)) {
        Command::Serve(args) => {
            let (config, settings) = args.load()?;
            warn_of_unknown_keys(&settings);
            let _logging = logging::start(&config);
            doctor::preflight(&config).map_err(Failure::Runtime)?;
            serve(config)
        }
        Command::Config(ConfigCommand::Print(args)) => {
            let (config, settings) = args.load()?;
            warn_of_unknown_keys(&settings);
            let mut out = io::stdout().lock();
            for (key, value, source) in config.effective(&settings) {
                writeln!(out, "{key} = {value}  # {source}")?;
            }
            Ok(())
        }
        Command::Config(ConfigCommand::Check(args)) => {
            let (_, settings) = args.load()?;
            warn_of_unknown_keys(&settings);
            Ok(writeln!(io::stdout().lock(), "configuration is valid")?)
        }
        Command::Doctor(args) => {
            let (config, settings) = args.load()?;
            warn_of_unknown_keys(&settings);
            match doctor::print(&config, &mut io::stdout().lock())? {
                true => Ok(()),
                false => Err(Failure::Shown),
            }
        }
        Command::Topic(args) => topic::run(args),
        Command::Group(args) => group::run(args),
        Command::Cluster(args) => cluster::run(&args),
        Command::Log(args) => log::run(args),
        Command::Config(ConfigCommand::Describe(args)) => configs::describe(&args),
        Command::Config(ConfigCommand::Alter(args)) => configs::alter(&args),
        Command::Completions { shell } => {
            let shell = match shell {
                Shell::Bash => clap_complete::Shell::Bash,
                Shell::Zsh => clap_complete::Shell::Zsh,
                Shell::Fish => clap_complete::Shell::Fish,
            };
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "millstream", &mut script);
            Ok(io::stdout().lock().write_all(&script)?)
        }
    }
}

#[cfg(feature = "runtime")]
fn serve(config: Config) -> Result<(), Failure> {
    // A shard that panicked would leave its partitions unserved and its clients waiting: stop instead,
    // and let a restart recover.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
    let announce = |line: &str| {
        // A broker serves whether or not somebody reads its banner.
        let _ = writeln!(io::stdout().lock(), "{line}");
    };
    Ok(millstream::server::run(config, announce)?)
}

#[cfg(not(feature = "runtime"))]
fn serve(_config: Config) -> Result<(), Failure> {
    Err(without_runtime())
}

#[cfg(not(feature = "runtime"))]
fn without_runtime() -> Failure {
    Failure::Unusable("this build has no runtime; build with the default features".to_owned())
}

/// Help and version as clap words them; anything else as one line.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nothing is left to be done if nobody reads it.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprintln!("error: a command is missing; see millstream --help");
        return ExitCode::from(EXIT_USAGE);
    }
    let text = error.to_string();
    let cause: Vec<&str> =
        text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let suggested =
        [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let remedy = suggested.iter().find_map(|kind| match error.get(*kind)? {
        ContextValue::String(word) => Some(format!("did you mean {word}?")),
        ContextValue::Strings(words) => words.first().map(|word| format!("did you mean {word}?")),
        _ => None,
    });
    // Which broker, and how to print, is said behind the command.
    let unexpected = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) => word.as_str(),
        _ => "",
    };
    let behind = ["-b", "--bootstrap-server", "--json", "--timeout"].contains(&unexpected);
    let elsewhere = "give it behind the command, as `millstream topic list -b HOST:PORT`";
    let general = if behind { elsewhere } else { "see millstream --help" };
    eprintln!("{}; {}", cause.join(" "), remedy.as_deref().unwrap_or(general));
    ExitCode::from(EXIT_USAGE)
}

fn warn_of_unknown_keys(settings: &Settings) {
    let without = settings.without_effect();
    if !without.is_empty() {
        let names: Vec<_> = without.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        eprintln!("warning: keys without effect here: {}", names.join(", "));
    }
    if settings.unknown().is_empty() {
        return;
    }
    let names: Vec<_> =
        settings.unknown().iter().map(|(name, source)| format!("{name} ({source})")).collect();
    eprintln!(
        "warning: unknown keys are ignored: {}; see millstream --help-config",
        names.join(", ")
    );
}

fn help_config(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "Configuration keys: in a file, as KAFKA_* or MILLSTREAM_* variables, or by --set KEY=VALUE."
    )?;
    for key in KEYS {
        let accepted = match key.kind {
            Kind::Text => "text".to_owned(),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Number(least, greatest) => range("number", least, greatest),
            Kind::Bytes(least, greatest) => range("bytes", least, greatest),
            Kind::Choice(words) => words.join(" or "),
        };
        let default = if key.default.is_empty() { "derived" } else { key.default };
        let also = if key.aliases.is_empty() {
            String::new()
        } else {
            format!("; also {}", key.aliases.join(", "))
        };
        writeln!(out, "\n{} ({accepted}; default {default}{also})\n    {}", key.name, key.doc)?;
    }
    Ok(())
}

fn range(what: &str, least: i64, greatest: i64) -> String {
    match greatest {
        _ if greatest >= i64::from(i32::MAX) => format!("{what} from {least}"),
        _ => format!("{what} from {least} to {greatest}"),
    }
}
