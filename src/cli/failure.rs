//! The error of a command: its message, and its exit code from sysexits(3).

use std::{
    io::{ErrorKind, Write as _},
    path::Path,
};

use crate::{daemon::privileges::PrivilegeError, net::interface::Unclear};

/// The error message of a command, and the exit code that programs read.
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

/// Writes the output of a command to standard output. A reader that has what it wants (`| head -1`) and closes the pipe
/// is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_if_read(text).map(drop)
}

/// The same, for output that goes on: whether somebody still reads it.
pub(super) fn print_if_read(text: &str) -> Result<bool, Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => {
            written.map(|()| true).map_err(|error| Failure::new(EX_OSERR, format!("cannot write the output: {error}")))
        }
    }
}

/// The failure of a choice of interfaces. `is_argument`: the command line names them, and not the configuration. What that
/// names may come while the host starts (a VLAN, a USB adapter): a service is started again then, as it is not for a fault.
pub(super) fn unclear(unclear: &Unclear, is_argument: bool, hint: &str) -> Failure {
    let is_configured = matches!(unclear, Unclear::Unknown { .. }) && !is_argument;
    Failure::new(if is_configured { EX_UNAVAILABLE } else { EX_USAGE }, format!("{unclear}{hint}"))
}

/// The failure of looking at files with the rights of a user (`--as`).
pub(super) fn not_as(error: PrivilegeError) -> Failure {
    match error {
        PrivilegeError::NoUser(user) => Failure::new(EX_USAGE, format!("there is no user {user} in /etc/passwd")),
        PrivilegeError::NotRoot(user) => {
            Failure::new(EX_NOPERM, format!("only root can check files as user {user}: run this with sudo"))
        }
        error => Failure::new(EX_OSERR, error),
    }
}

/// The configuration file to read: the named one, or else the one of the package, if it exists.
pub(super) fn configuration(named: Option<&Path>) -> Option<&Path> {
    named.or_else(|| Some(Path::new(DEFAULT_CONFIG)).filter(|path| path.exists()))
}

/// Where the packages install it.
const DEFAULT_CONFIG: &str = "/etc/netbootd/netbootd.toml";

/// The configuration or image that was checked has faults. `check` itself worked, so this is not an error of
/// sysexits(3).
pub(super) const FAULTS: u8 = 1;
/// The command line is wrong.
pub(super) const EX_USAGE: u8 = 64;
/// Something that is needed is missing: a port is in use, an asset does not exist.
pub(super) const EX_UNAVAILABLE: u8 = 69;
/// A system call failed.
pub(super) const EX_OSERR: u8 = 71;
/// Root or a capability is needed.
pub(super) const EX_NOPERM: u8 = 77;
/// The configuration has faults.
pub(super) const EX_CONFIG: u8 = 78;
