//! What the machines boot: a kernel and an initramfs in two files, whose `init` says what it found and powers off.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Lab;
use crate::debian_kernel::DebianKernel;
use anyhow::{Context, Result, ensure};

/// One folder with a kernel and its initrds, as an administrator would lay it out. It ends with its lab.
#[derive(Debug)]
pub struct BootFiles {
    folder: PathBuf,
    release: String,
    loaders: PathBuf,
}

impl BootFiles {
    /// The kernel's file name.
    pub const KERNEL: &str = "vmlinuz";
    /// The initrds' file names, in the order in which they are to be loaded.
    pub const INITRDS: [&str; 2] = ["base.img", "payload.img"];

    /// Both initrds in one file, for boot programs that load one.
    pub const WHOLE: &str = "whole.img";

    /// Takes the kernel from the cache (`target/lab`), or from Debian's mirror the first time.
    pub fn prepare(lab: &Lab) -> Result<BootFiles> {
        Self::of(lab, DebianKernel::fetch(Path::new(CACHE)).context("getting a Debian kernel")?)
    }

    /// The same for arm64, with [`Self::WHOLE`], and iPXE in the folder [`Self::loaders`].
    pub fn prepare_arm64(lab: &Lab) -> Result<BootFiles> {
        let kernel = DebianKernel::fetch_arm64(Path::new(CACHE)).context("getting a Debian kernel for arm64")?;
        let loaders = kernel.loaders();
        let files = Self { loaders, ..Self::of(lab, kernel)? };
        let [base, payload] = files.initrds().map(fs::read);
        fs::write(files.folder.join(Self::WHOLE), [base?, payload?].concat()).context("joining the initrds")?;
        Ok(files)
    }

    fn of(lab: &Lab, kernel: DebianKernel) -> Result<BootFiles> {
        let folder = lab.directory().join("boot");
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        fs::copy(kernel.image(), folder.join(Self::KERNEL)).context("copying the kernel")?;
        base_initrd(&kernel, &folder.join(Self::INITRDS[0])).context("making the first initrd")?;
        payload_initrd(&folder.join(Self::INITRDS[1])).context("making the second initrd")?;
        Ok(BootFiles { folder, release: kernel.release().to_owned(), loaders: PathBuf::new() })
    }

    /// Where all of them are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The kernel's path.
    pub fn kernel(&self) -> PathBuf {
        self.folder().join(Self::KERNEL)
    }

    /// The initrds' paths, in order.
    pub fn initrds(&self) -> [PathBuf; 2] {
        Self::INITRDS.map(|name| self.folder().join(name))
    }

    /// Where iPXE for arm64 is.
    pub fn loaders(&self) -> &Path {
        &self.loaders
    }

    /// The kernel's version, as `uname -r` prints it.
    pub fn release(&self) -> &str {
        &self.release
    }
}

/// busybox, the network card's driver and `init`.
fn base_initrd(kernel: &DebianKernel, archive: &Path) -> Result<()> {
    let root = tempfile::tempdir()?;
    for folder in ["bin", "proc", "sys", "modules"] {
        fs::create_dir(root.path().join(folder))?;
    }
    let busybox = kernel.busybox();
    fs::copy(&busybox, root.path().join("bin/busybox")).with_context(|| format!("copying {}", busybox.display()))?;
    for (name, script) in [("init", include_str!("init.sh")), ("leased", include_str!("leased.sh"))] {
        let path = root.path().join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }

    let mut names: Vec<String> =
        ["bin", "bin/busybox", "proc", "sys", "modules", "init", "leased"].map(str::to_owned).into();
    for module in fs::read_dir(kernel.modules()).context("reading the kernel's modules")? {
        let module = module?;
        let name = format!("modules/{}", module.file_name().display());
        fs::copy(module.path(), root.path().join(&name)).with_context(|| format!("copying {name}"))?;
        names.push(name);
    }
    pack(root.path(), &names, archive)
}

/// Long enough for a transfer of many packets, and of bytes that no accident can put right again.
fn payload_initrd(archive: &Path) -> Result<()> {
    let root = tempfile::tempdir()?;
    fs::write(root.path().join("payload.bin"), pseudo_random(PAYLOAD_LENGTH))?;
    let sums =
        Command::new("sha256sum").arg("payload.bin").current_dir(root.path()).output().context("starting sha256sum")?;
    ensure!(sums.status.success(), "sha256sum failed: {}", String::from_utf8_lossy(&sums.stderr));
    fs::write(root.path().join("payload.sha256"), sums.stdout)?;
    pack(root.path(), &["payload.bin".to_owned(), "payload.sha256".to_owned()], archive)
}

/// Not compressed: cpio pads its archive to 512 bytes, and a plain archive is recognised only at a multiple of 4. A BIOS iPXE
/// aligns each initrd; an EFI kernel that gets them by `initrd=` puts them together without a gap (its file.c,
/// handle_cmdline_files), so that behind a compressed one of odd length the next would be lost.
fn pack(root: &Path, names: &[String], archive: &Path) -> Result<()> {
    let mut cpio = Command::new("cpio")
        .args(["--create", "--format=newc", "--owner=0:0", "--quiet", "--file"])
        .arg(archive)
        .current_dir(root)
        .stdin(Stdio::piped())
        .spawn()
        .context("starting cpio")?;
    cpio.stdin.take().context("cpio has no standard input")?.write_all(names.join("\n").as_bytes())?;
    ensure!(cpio.wait()?.success(), "cpio failed");
    Ok(())
}

/// Xorshift64 with a fixed seed.
fn pseudo_random(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) const CACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/lab");
const PAYLOAD_LENGTH: usize = 4 << 20;
