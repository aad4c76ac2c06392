//! A Debian live system as an image, made once and kept.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};

/// The image from the cache (`target/lab`), or made of Debian's packages the first time, which takes a minute or two.
/// `tests/lab/live-iso` says what is in it.
pub fn live_image() -> Result<PathBuf> {
    let cache = Path::new(CACHE);
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    let lock = File::create(cache.join("live.lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).context("locking the cache")?;
    let (script, image) = (Path::new(SCRIPT), cache.join("live.iso"));
    let made_by = cache.join("live.made-by");
    let text = fs::read(script).with_context(|| format!("reading {}", script.display()))?;
    if image.exists() && fs::read(&made_by).is_ok_and(|made_by| made_by == text) {
        return Ok(image);
    }
    let made = Command::new(script).arg(&image).output().context("starting live-iso")?;
    ensure!(made.status.success(), "live-iso failed:\n{}", String::from_utf8_lossy(&made.stderr));
    fs::write(made_by, text)?;
    Ok(image)
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/live-iso");
const CACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/lab");
