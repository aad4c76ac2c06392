//! How a command fails: the message, and the exit code of sysexits(3) that tells programs why.

use std::{io::Write as _, path::Path};

/// Why a command failed, and the exit code that says so to programs.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: u8,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(code: u8, message: impl ToString) -> Self {
        Self { code, message: message.to_string() }
    }
}

/// Writes a command's answer to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::new(EX_OSERR, error))
}

/// The configuration file to read: the one that is named, else the packages' one where it exists.
pub(super) fn configuration(named: Option<&Path>) -> Option<&Path> {
    named.or_else(|| Some(Path::new(DEFAULT_CONFIG)).filter(|path| path.exists()))
}

/// Where the packages install it.
const DEFAULT_CONFIG: &str = "/etc/netbootd/netbootd.toml";

/// What was checked has faults: unlike `up`, which was asked for something else, `check` has done what it was asked for.
pub(super) const FAULTS: u8 = 1;
/// The command line is wrong.
pub(super) const EX_USAGE: u8 = 64;
/// Something is missing that is needed: a port is taken, an asset does not exist.
pub(super) const EX_UNAVAILABLE: u8 = 69;
/// The operating system refused.
pub(super) const EX_OSERR: u8 = 71;
/// Root or a capability is needed.
pub(super) const EX_NOPERM: u8 = 77;
/// The configuration has faults.
pub(super) const EX_CONFIG: u8 = 78;
