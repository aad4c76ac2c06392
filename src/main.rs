//! Parse, dispatch, exit code.

use std::process::ExitCode;

/// Events are freed by another thread than the one that allocated them. glibc's allocator is slow at that: with it there are
/// a fifth fewer OFFERs per CPU second (tests/bench/dhcp).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    netbootd::cli::main()
}
