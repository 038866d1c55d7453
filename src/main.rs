//! The `millstream` command.

mod cli;

use std::process::ExitCode;

use millstream::config::Config;

fn main() -> ExitCode {
    cli::main(serve)
}

/// Runs the broker until it is told to stop.
fn serve(_config: Config) -> Result<(), String> {
    Err("the server is not part of this build; use a build that has it".to_owned())
}
