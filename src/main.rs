//! The `millstream` command.

mod cli;

use std::process::ExitCode;

/// The first touch of a fresh page costs more than anything else a broker does with it, so freed memory
/// is kept.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: -1 keeps freed memory.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// `mi_option_allow_large_os_pages`: memory is asked for in huge pages where the kernel gives them on
/// request. Ring, requests and drains are hundreds of megabytes that are walked through from end to end.
const LARGE_OS_PAGES: libmimalloc_sys::mi_option_t = libmimalloc_sys::mi_option_large_os_pages;

fn main() -> ExitCode {
    // SAFETY: sets numbers in the allocator's table of options, before any other thread runs.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
        libmimalloc_sys::mi_option_set(LARGE_OS_PAGES, 1);
    }
    cli::main()
}
