//! The state file is its owner's alone: it holds the key that signs addresses of answer files and reports.

use std::{
    fs::{self, OpenOptions, Permissions},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tracing::warn;

/// Before SQLite opens a file: makes it for its owner alone where it is missing. SQLite gives the files beside it the
/// same mode (`findCreateFileMode`). A file that others can read is taken from them.
pub(super) fn keep(file: &Path) {
    // A file that cannot be made is SQLite's to report.
    let _ = OpenOptions::new().write(true).create_new(true).mode(OWN).open(file);
    for file in with_beside(file) {
        let Ok(about) = fs::metadata(&file) else { continue };
        let mode = about.permissions().mode() & 0o777;
        if !about.is_file() || mode & !OWN == 0 {
            continue;
        }
        let name = file.display();
        match fs::set_permissions(&file, Permissions::from_mode(mode & OWN)) {
            Ok(()) => warn!(
                "{name} had the mode {mode:o}, so that other users of this host could read the key of answer files in it: it has \
                 the mode {:o} now",
                mode & OWN
            ),
            Err(error) => warn!(
                "{name} has the mode {mode:o}, so that other users of this host can read the key of answer files in it, and this \
                 cannot be changed ({error}): run chmod 600 {name}"
            ),
        }
    }
}

/// A file of SQLite's, and those that it has beside it.
pub(super) fn with_beside(file: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|ending| {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    })
}

const OWN: u32 = 0o600;
