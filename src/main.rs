//! The `millstream` command.

mod cli;

use std::process::ExitCode;

/// glibc gives freed memory back to the kernel, and touching it again costs more than anything else a
/// broker does with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
