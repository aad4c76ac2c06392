//! CD images of real systems, made once of Debian's packages and kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

/// A Debian live system. `tests/lab/live-iso` says what is in it.
pub fn live_image() -> Result<PathBuf> {
    made("live", &[])
}

/// A live system that is laid out as Fedora's: `tests/lab/fedora-iso`.
pub fn fedora_image() -> Result<PathBuf> {
    made("fedora", &[])
}

/// An installation medium that is laid out as Debian's: `tests/lab/installer-iso`.
pub fn installer_image() -> Result<PathBuf> {
    made("installer", &[])
}

/// An image that is laid out as Proxmox' installer: `tests/lab/proxmox-iso`.
pub fn proxmox_image() -> Result<PathBuf> {
    made("proxmox", &[&live_image()?])
}

/// The live system of dracut, laid out as Void Linux': `tests/lab/void-iso`.
pub fn void_image() -> Result<PathBuf> {
    made("void", &[&fedora_image()?])
}

/// Xen with the kernel of the live system, laid out as XCP-ng's installer: `tests/lab/xen-iso`.
pub fn xen_image() -> Result<PathBuf> {
    made("xen", &[&live_image()?])
}

/// The image from the cache (`target/lab`), or made the first time, which takes a minute or two.
fn made(name: &str, of: &[&Path]) -> Result<PathBuf> {
    let cache = Path::new(CACHE);
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).context("locking the cache")?;
    let script = Path::new(SCRIPTS).join(format!("{name}-iso"));
    let (image, made_by) = (cache.join(format!("{name}.iso")), cache.join(format!("{name}.made-by")));
    let text = fs::read(&script).with_context(|| format!("reading {}", script.display()))?;
    if image.exists() && fs::read(&made_by).is_ok_and(|made_by| made_by == text) {
        return Ok(image);
    }
    let made = Command::new(&script).arg(&image).args(of).output().context("starting its script")?;
    ensure!(made.status.success(), "{name}-iso failed:\n{}", String::from_utf8_lossy(&made.stderr));
    fs::write(made_by, text)?;
    Ok(image)
}

const SCRIPTS: &str = env!("CARGO_MANIFEST_DIR");
const CACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/lab");
