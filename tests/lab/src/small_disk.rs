//! A disk that is full when a test wants it to be.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// A file system in memory that only this thread sees, and what it starts from now on: it ends with them, however they
/// end.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts it over a folder. This thread has mounts of its own from then on, so it must not be one that others' work
    /// is done on.
    pub fn mount(folder: &Path, kilobytes: u32) -> Result<SmallDisk> {
        unshare(CloneFlags::CLONE_NEWNS).context("leaving the machine's mounts")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        let size = format!("size={kilobytes}k");
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).context("mounting")?;
        Ok(SmallDisk { folder: folder.to_owned() })
    }

    /// Takes all the space that is left.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
        for length in [4096, 1] {
            while ballast.write_all(&vec![0xee; length]).is_ok() {}
        }
        Ok(())
    }

    /// Gives it back.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("removing the ballast")
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.folder, MntFlags::MNT_DETACH) {
            eprintln!("lab: {} could not be unmounted: {error}", self.folder.display());
        }
    }
}
