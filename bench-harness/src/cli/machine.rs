//! What every command that measures the machine is told.

use std::path::PathBuf;

use clap::Args;

use super::{parse_bytes, parse_size};
use crate::error::{Doing, Result};

#[derive(Args, Clone)]
pub(super) struct MachineArgs {
    /// Batch, frame and answer sizes.
    #[arg(long, value_delimiter = ',', value_parser = parse_size, default_values = ["64KiB", "1MiB"])]
    pub(super) frame: Vec<usize>,
    #[arg(long, default_value_t = 16)]
    pub(super) connections: usize,
    /// Requests under way on each connection where there is an answer.
    #[arg(long, default_value_t = 4)]
    pub(super) in_flight: usize,
    /// What each run moves: with a broker at least three times its ring and journal.
    #[arg(long, value_parser = parse_bytes, default_value = "4GiB")]
    pub(super) bytes: u64,
    /// The core of the measured side.
    #[arg(long, default_value_t = 0)]
    pub(super) server_core: usize,
    /// The core of the generator.
    #[arg(long, default_value_t = 1)]
    pub(super) client_core: usize,
    /// Where data and prepared files go: the filesystem that is measured.
    #[arg(long, default_value = "./data")]
    pub(super) data_dir: PathBuf,
    /// The size of the limits' prepared file, which is written round and round.
    #[arg(long, value_parser = parse_bytes, default_value = "2GiB")]
    pub(super) file_bytes: u64,
}

impl MachineArgs {
    pub(super) fn prepare(&self) -> Result<()> {
        std::fs::create_dir_all(&self.data_dir).doing(self.data_dir.display())
    }
}
