//! A real kernel: Debian's for cloud machines, which boots on a serial console without any module.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::foreign::Foreign;

/// What is taken from the package, in a folder that outlives the lab: later runs need no network.
#[derive(Debug)]
pub(crate) struct DebianKernel {
    folder: PathBuf,
    release: String,
}

impl DebianKernel {
    /// From the cache, or fetched with `apt-get download` and unpacked.
    pub(crate) fn fetch(cache: &Path) -> Result<DebianKernel> {
        Self::kept(cache, "kernel", download_into)
    }

    /// The same for arm64, with a busybox and an iPXE beside it, which this host's packages do not have.
    pub(crate) fn fetch_arm64(cache: &Path) -> Result<DebianKernel> {
        Self::kept(cache, "kernel-arm64", download_arm64_into)
    }

    fn kept(cache: &Path, name: &str, download: impl FnOnce(&Path) -> Result<()>) -> Result<DebianKernel> {
        let folder = kept(cache, name, download)?;
        let release = fs::read_to_string(folder.join(RELEASE)).context("reading the kernel cache")?;
        Ok(DebianKernel { folder, release: release.trim().to_owned() })
    }

    /// What `uname -r` says on it.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// A program for its processor: from its own folder, else this host's.
    pub(crate) fn busybox(&self) -> PathBuf {
        let own = self.folder.join(BUSYBOX);
        if own.exists() { own } else { Path::new("/usr/bin/busybox").to_owned() }
    }

    /// The folder of iPXE's arm64 build.
    pub(crate) fn loaders(&self) -> PathBuf {
        self.folder.join(LOADERS)
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.folder.join(IMAGE)
    }

    /// The folder of the network card's driver: modules whose names sort in the order in which to load them.
    pub(crate) fn modules(&self) -> PathBuf {
        self.folder.join(KEPT_MODULES)
    }
}

/// A folder of the cache, downloaded where it is missing.
pub(crate) fn kept(cache: &Path, name: &str, download: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = cache.join(name);
    fs::create_dir_all(cache).with_context(|| format!("creating {}", cache.display()))?;
    // Two test programs may want it at once: the second waits and finds it done. Unlocked when the file is closed.
    let lock = File::create(cache.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).context("locking the cache")?;
    if !folder.is_dir() {
        download(&folder)?;
    }
    Ok(folder)
}

fn download_into(folder: &Path) -> Result<()> {
    let parent = folder.parent().context("the kernel cache has no parent folder")?;
    let scratch = tempfile::tempdir_in(parent)?;
    // An index that is missing or older than the mirror's last cleaning is fixed by an update.
    let package = download(scratch.path()).or_else(|_| {
        run(Command::new("apt-get").arg("update").arg("-qq"))?;
        download(scratch.path())
    })?;
    let tree = scratch.path().join("tree");
    run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&tree))?;
    let kept = scratch.path().join("kept");
    keep(&tree, &kept)?;
    // The last step, in one piece: an interrupted run leaves no half of a cache.
    fs::rename(&kept, folder).context("moving the kernel into the cache")
}

fn download_arm64_into(folder: &Path) -> Result<()> {
    let parent = folder.parent().context("the kernel cache has no parent folder")?;
    let scratch = tempfile::tempdir_in(parent)?;
    let (kept, foreign) = (scratch.path().join("kept"), scratch.path().join("arm64"));
    let packages = Foreign::new(&foreign, "arm64", None)?;
    keep(&packages.unpack(&packages.dependency("linux-image-cloud-arm64", "linux-image-")?)?, &kept)?;
    let busybox = packages.unpack("busybox-static")?;
    let of_release = ["usr/bin/busybox", "bin/busybox"].map(|path| busybox.join(path));
    let busybox = of_release.iter().find(|path| path.is_file()).context("busybox-static has no busybox")?;
    fs::copy(busybox, kept.join(BUSYBOX))?;
    fs::create_dir(kept.join(LOADERS))?;
    // Debian 12 has no iPXE for Arm.
    let own = Path::new("/usr/lib/ipxe/ipxe-arm64.efi").to_owned();
    let loader = if own.exists() {
        own
    } else {
        let newer = Foreign::new(&scratch.path().join("newer"), "amd64", Some("trixie"))?;
        newer.unpack("ipxe")?.join("usr/lib/ipxe/ipxe-arm64.efi")
    };
    fs::copy(loader, kept.join(LOADERS).join("ipxe-arm64.efi")).context("copying iPXE for arm64")?;
    fs::rename(&kept, folder).context("moving the kernel into the cache")
}

/// What a machine boots of an unpacked package.
fn keep(tree: &Path, kept: &Path) -> Result<()> {
    let release = sole_entry(&tree.join("lib/modules"))?;
    fs::create_dir_all(kept.join(KEPT_MODULES))?;
    fs::rename(tree.join(format!("boot/vmlinuz-{release}")), kept.join(IMAGE)).context("the package has no kernel")?;
    let modules = tree.join("lib/modules").join(&release).join("kernel");
    for (number, module) in MODULES.iter().enumerate() {
        let name = module.rsplit('/').next().unwrap_or(module);
        keep_module(&modules.join(module), &kept.join(KEPT_MODULES).join(format!("{number}-{name}")))?;
    }
    Ok(fs::write(kept.join(RELEASE), &release)?)
}

fn download(folder: &Path) -> Result<PathBuf> {
    let listing = run(Command::new("apt-cache").args(["depends", META_PACKAGE]))?;
    let package = listing
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{META_PACKAGE} names no kernel; is this Debian on amd64?"))?;
    // Its sandbox user may not write into a folder of root's.
    let download = ["-qq", "-o", "APT::Sandbox::User=root", "download", package];
    run(Command::new("apt-get").args(download).current_dir(folder))?;
    Ok(folder.join(sole_entry(folder)?))
}

/// Since Debian 13 modules are compressed. One that is not there has become part of the kernel.
fn keep_module(module: &Path, kept: &Path) -> Result<()> {
    let compressed = module.with_extension("ko.xz");
    if compressed.exists() {
        run(Command::new("xz").arg("--decompress").arg(&compressed))?;
    }
    if module.exists() {
        fs::rename(module, kept).with_context(|| format!("keeping {}", module.display()))?;
    }
    Ok(())
}

fn sole_entry(folder: &Path) -> Result<String> {
    let mut names = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let (Some(entry), None) = (names.next(), names.next()) else { bail!("{} has not one entry", folder.display()) };
    Ok(entry?.file_name().to_string_lossy().into_owned())
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const META_PACKAGE: &str = "linux-image-cloud-amd64";
const IMAGE: &str = "vmlinuz";
const BUSYBOX: &str = "busybox";
const LOADERS: &str = "loaders";
const RELEASE: &str = "release";
const KEPT_MODULES: &str = "modules";
/// Each behind those that it needs.
const MODULES: &[&str] = &[
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "net/core/failover.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/virtio_net.ko",
];
