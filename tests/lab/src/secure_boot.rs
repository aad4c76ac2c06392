//! Signed loaders of Debian 13, and keys of the lab's own for what is signed here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{boot_files::CACHE, debian_kernel::kept, foreign::Foreign};

/// Files of Debian's packages, in a folder that outlives the lab.
#[derive(Debug)]
pub struct SignedLoaders {
    folder: PathBuf,
}

impl SignedLoaders {
    /// From the cache (`target/lab`), or from Debian's mirror the first time.
    pub fn prepare() -> Result<SignedLoaders> {
        let folder = kept(Path::new(CACHE), "secure-boot", download_into).context("getting signed loaders")?;
        Ok(SignedLoaders { folder })
    }

    /// shim, signed by Microsoft.
    pub fn shim(&self) -> PathBuf {
        self.folder.join("shimx64.efi.signed")
    }

    /// GRUB's netboot image, signed by Debian.
    pub fn grub(&self) -> PathBuf {
        self.folder.join("grubnetx64.efi.signed")
    }

    /// iPXE, not signed.
    pub fn ipxe(&self) -> PathBuf {
        self.folder.join("snponly.efi")
    }

    /// Makes of a folder the EFI partition of a disk whose GRUB says a line and stops.
    pub fn make_disk(&self, folder: &Path, line: &str) -> Result<()> {
        let (boot, configuration) = (folder.join("EFI/BOOT"), folder.join("EFI/debian"));
        fs::create_dir_all(&boot)?;
        fs::create_dir_all(&configuration)?;
        fs::copy(self.shim(), boot.join("BOOTX64.EFI"))?;
        fs::copy(self.folder.join("grubx64.efi.signed"), boot.join("grubx64.efi"))?;
        Ok(fs::write(configuration.join("grub.cfg"), format!("echo \"{line}\"\nsleep 600\n"))?)
    }

    /// Signs an EFI program with the lab's own key.
    pub fn sign(&self, program: &Path, signed: &Path) -> Result<()> {
        let (key, certificate) = (self.folder.join("lab.key"), self.certificate());
        run(Command::new("sbsign")
            .arg("--key")
            .arg(key)
            .arg("--cert")
            .arg(certificate)
            .arg("--output")
            .arg(signed)
            .arg(program))
    }

    /// Variables of OVMF with Secure Boot on and Microsoft's keys; the lab's own key is one of those that shim trusts
    /// (MokList), as `mokutil --import` makes it.
    pub fn variables_with_mok(&self, variables: &Path) -> Result<()> {
        self.with_key("--add-mok", MICROSOFT, variables)
    }

    /// Variables of OVMF with Secure Boot on and the lab's own key alone: firmware that does not trust Microsoft's
    /// third-party CA.
    pub fn variables_of_own(&self, variables: &Path) -> Result<()> {
        let (guid, certificate) = (OWNER, self.certificate());
        let mut tool = Command::new(PYTHON.to_owned() + "/bin/virt-fw-vars");
        tool.args(["--input", "/usr/share/OVMF/OVMF_VARS_4M.fd", "--output"]).arg(variables);
        for list in ["--set-pk", "--add-kek", "--add-db"] {
            tool.arg(list).arg(guid).arg(&certificate);
        }
        run(tool.arg("--sb"))
    }

    fn with_key(&self, list: &str, from: &str, variables: &Path) -> Result<()> {
        let mut tool = Command::new(PYTHON.to_owned() + "/bin/virt-fw-vars");
        tool.args(["--input", from, "--output"]).arg(variables).arg(list).arg(OWNER).arg(self.certificate());
        run(&mut tool)
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("lab.pem")
    }
}

fn download_into(folder: &Path) -> Result<()> {
    let parent = folder.parent().context("the cache has no parent folder")?;
    let scratch = tempfile::tempdir_in(parent)?;
    let kept = scratch.path().join("kept");
    fs::create_dir(&kept)?;
    let packages = Foreign::new(&scratch.path().join("trixie"), "amd64", Some("trixie"))?;
    let grub = "usr/lib/grub/x86_64-efi-signed";
    for (package, folder, names) in [
        ("shim-signed", "usr/lib/shim", &["shimx64.efi.signed"][..]),
        ("grub-efi-amd64-signed", grub, &["grubnetx64.efi.signed", "grubx64.efi.signed"]),
        ("ipxe", "usr/lib/ipxe", &["snponly.efi"]),
    ] {
        let folder = packages.unpack(package)?.join(folder);
        for name in names {
            fs::copy(folder.join(name), kept.join(name)).with_context(|| format!("{package} has no {name}"))?;
        }
    }
    run(Command::new("openssl")
        .args(["req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500", "-sha256"])
        .args(["-subj", "/CN=netbootd lab/", "-keyout"])
        .arg(kept.join("lab.key"))
        .arg("-out")
        .arg(kept.join("lab.pem")))?;
    fs::rename(&kept, folder).context("moving the loaders into the cache")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

const MICROSOFT: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";
const OWNER: &str = "6e626f74-6c61-4000-8000-000000000001";
/// As install-packages makes it.
const PYTHON: &str = "/usr/local/lib/netbootd-lab/python";
