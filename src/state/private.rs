//! The state file is its owner's alone: it holds the key that signs addresses of answer files and reports. And it is one
//! process's alone.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tracing::warn;

use super::fault::StateError;

/// A file that this process has for itself, for as long as this is there. SQLite's own locks are of another kind
/// (fcntl(2)), and are lost when any descriptor of the file is closed: so this one stays open.
#[derive(Debug)]
pub(super) struct OwnFile {
    file: File,
    path: PathBuf,
}

impl OwnFile {
    /// Makes the file where it is missing. `None` where it cannot be opened or locked, which SQLite reports in its words.
    pub(super) async fn take(path: &Path, url: &str) -> Result<Option<Self>, StateError> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(OWN).open(path);
        let Ok(file) = open else { return Ok(None) };
        // One that is stopping may still have it.
        for _ in 0..TRIES {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { file, path: path.to_owned() })),
                Err(Errno::WOULDBLOCK) => tokio::time::sleep(PAUSE).await,
                Err(_) => return Ok(None),
            }
        }
        Err(StateError::in_use(url))
    }

    pub(super) fn is_in_place(&self) -> io::Result<()> {
        let (ours, there) = (self.file.metadata()?, fs::metadata(&self.path));
        let is_it = there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        let words = format!(
            "{} was removed or replaced while netbootd uses it: bring the file back, and start netbootd again",
            self.path.display()
        );
        if is_it { Ok(()) } else { Err(io::Error::new(io::ErrorKind::NotFound, words)) }
    }
}

const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// Before SQLite opens a file: makes it for its owner alone where it is missing. SQLite gives the files beside it the
/// same mode (`findCreateFileMode`). A file that others can read is taken from them.
pub(super) fn keep(file: &Path) {
    // A file that cannot be made is SQLite's to report.
    let _ = OpenOptions::new().write(true).create_new(true).mode(OWN).open(file);
    if !is_database(file) {
        // It is somebody's who needs it as it is, and SQLite says so.
        return;
    }
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

/// Whether a file is of SQLite, or empty (SQLite, "Database File Format" §1.3.1).
fn is_database(file: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(file).and_then(|file| file.take(HEADER.len() as u64).read_to_end(&mut start));
    read.is_ok() && (start.is_empty() || start == HEADER)
}

const HEADER: &[u8] = b"SQLite format 3\0";

/// A file of SQLite's, and those that it has beside it.
pub(super) fn with_beside(file: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|ending| {
        let mut name = file.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    })
}

const OWN: u32 = 0o600;
