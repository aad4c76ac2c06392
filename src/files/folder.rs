//! The open folder of a name, and how to open files below it.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2, statat},
    io::Errno,
};

use super::asset::{is_local, unreadable};
use crate::boot::reason::Reason;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    directory: OwnedFd,
    /// The path without links.
    pub(super) path: PathBuf,
    /// Device and inode: the same path can be another folder later.
    identity: (u64, u64),
    /// Its file system is on this host.
    is_local: bool,
}

/// How a file is opened. Opening a FIFO without a writer must not block: the type is checked afterwards.
pub(super) const FILE: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        if path == Path::new("/") {
            let words = "the whole file system would be public on the network: set a folder";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(&path, flags, Mode::empty())?;
        // Checked once here, so that an old kernel gives an error at the start, not a 404 for every client.
        openat2(&directory, ".", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).map_err(|errno| match errno {
            Errno::NOSYS => io::Error::new(io::ErrorKind::Unsupported, "Linux 5.6 or later is needed (openat2)"),
            // The folder itself is open.
            Errno::PERM => io::Error::new(io::ErrorKind::Unsupported, FILTERED),
            errno => errno.into(),
        })?;
        let stat = fstat(&directory)?;
        let is_local = is_local(&directory, &stat);
        Ok(Self { directory, path, identity: (stat.st_dev, stat.st_ino), is_local })
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.identity == other.identity && self.path == other.path
    }

    /// Opens a file on the disk of the folder. `None`: there is none, or links or mounts lead elsewhere, perhaps to another
    /// host that does not answer.
    pub(super) fn on_its_disk(&self, name: &Path) -> Option<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        self.is_at_hand(self.identity.0).then(|| openat2(&self.directory, name, FILE, Mode::empty(), resolve).ok())?
    }

    /// Whether what is on a device waits for no other host: the device is the folder's, and on this host.
    pub(super) fn is_at_hand(&self, device: u64) -> bool {
        device == self.identity.0 && self.is_local
    }

    /// What a path leads to now, which may be outside of the folder: only for a comparison with what was opened beneath it.
    pub(super) fn look(&self, name: &Path) -> Option<Stat> {
        statat(&self.directory, name, AtFlags::empty()).ok()
    }

    /// The kernel resolves the whole path below the folder in one step (`RESOLVE_BENEATH`). Neither `..` nor a symbolic
    /// link can leave the folder, even if a link is changed at the same time.
    pub(super) fn beneath(&self, name: &Path, flags: OFlags) -> Result<OwnedFd, Reason> {
        match self.open_beneath(name, flags) {
            // The path leaves the folder. An absolute link can lead back into it. Then there is a path without links,
            // which is opened with the same strict rules.
            Err(Errno::XDEV) => {
                let inside = self.inside(name).ok_or(Errno::XDEV);
                inside.and_then(|path| self.open_beneath(&path, flags))
            }
            opened => opened,
        }
        .map_err(|errno| {
            let name = name.to_string_lossy();
            match errno {
                // NXIO: a socket.
                Errno::NOENT | Errno::NOTDIR | Errno::INVAL | Errno::NAMETOOLONG | Errno::NXIO => {
                    Reason::not_found(&name)
                }
                Errno::XDEV => Reason::Escape(name.chars().take(200).collect()),
                Errno::LOOP => Reason::Unreadable {
                    name: name.chars().take(200).collect(),
                    error: "its symbolic links lead in a circle: replace one of them (ls -l shows where each leads)"
                        .into(),
                },
                errno => unreadable(&name, errno),
            }
        })
    }

    /// If anything on this host is renamed while the kernel goes up by `..`, as links made with `ln -sr` do, the kernel
    /// cannot tell whether the path has left the folder, and asks for another try (openat2(2), EAGAIN).
    fn open_beneath(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(&self.directory, path, flags, Mode::empty(), resolve);
        let mut tries = (0..TRIES).map(|_| open());
        tries.find(|opened| !matches!(opened, Err(Errno::AGAIN))).unwrap_or(Err(Errno::AGAIN))
    }

    /// The path of the same file without links, if links lead out of the folder and back. A name with `..` from a
    /// client is never followed.
    fn inside(&self, name: &Path) -> Option<PathBuf> {
        if !name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return None;
        }
        let real = match fs::canonicalize(self.path.join(name)) {
            Ok(real) => real,
            // The link is valid, but the last name is missing. This is different from a link that leaves the folder.
            Err(_) => fs::canonicalize(self.path.join(name.parent()?)).ok()?.join(name.file_name()?),
        };
        let inside = real.strip_prefix(&self.path).ok()?;
        Some(if inside.as_os_str().is_empty() { PathBuf::from(".") } else { inside.to_owned() })
    }
}

/// Filters of older container engines do not know the call.
const FILTERED: &str = "a seccomp filter blocks openat2(2): remove RestrictSUIDSGID= from the service's unit, or use a \
                        container engine with libseccomp 2.5 or later";
/// Of one path. Renames come at most every few microseconds, which is as long as a try takes.
const TRIES: usize = 100;

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::symlink,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn a_rename_elsewhere_does_not_disturb_a_link_that_goes_up() {
        let scratch = tempfile::tempdir().expect("a folder");
        let root = scratch.path().join("root");
        for path in [root.join("debian"), root.join("links"), scratch.path().join("a/x"), scratch.path().join("b")] {
            fs::create_dir_all(path).expect("made");
        }
        fs::write(root.join("debian/vmlinuz"), "kernel").expect("written");
        // More steps up, so that more renames come within one of them.
        symlink("../debian/".repeat(5), root.join("links/debian")).expect("made");
        let folder = Folder::open(&root).expect("opened");
        let is_over = AtomicBool::new(false);
        let open = |_| folder.beneath(Path::new("links/debian/vmlinuz"), OFlags::RDONLY | OFlags::CLOEXEC).err();
        let faults: Vec<Reason> = thread::scope(|scope| {
            scope.spawn(|| {
                let (here, there) = (scratch.path().join("a/x"), scratch.path().join("b/x"));
                while !is_over.load(Ordering::Relaxed) {
                    fs::rename(&here, &there).and_then(|()| fs::rename(&there, &here)).expect("renamed");
                }
            });
            let faults = (0..100_000).filter_map(open).collect();
            is_over.store(true, Ordering::Relaxed);
            faults
        });
        assert_eq!(faults, []);
    }
}
