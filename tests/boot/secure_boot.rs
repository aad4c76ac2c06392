//! Secure Boot as firmware enforces it: OVMF with Microsoft's keys, and signed files of Debian.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{BootFiles, Firmware, LastWords, SECURE_BOOT_TOOLS, SignedLoaders, Vm, required};

use crate::stand::{BOOT, Place, START, Stand};

/// Debian's shim, its GRUB and its kernel: every signature is an official one. GRUB is found by `grub/grub.cfg`, and gets
/// this machine's profile.
#[test]
fn grub_of_the_distribution_boots_by_pxe() -> Result<()> {
    boots_by_grub(Firmware::UefiSecurePxe, 21)
}

/// The same by UEFI HTTP Boot: two slashes, HEAD before GET, and the spelling of `Content-Length`.
#[test]
fn grub_of_the_distribution_boots_by_http() -> Result<()> {
    boots_by_grub(Firmware::UefiSecureHttp, 22)
}

fn boots_by_grub(firmware: Firmware, number: u8) -> Result<()> {
    let Some(stand) = Stand::signed(GRUB, |loaders, folder| loaders.put_grub(folder))? else { return Ok(()) };
    let vm = Vm::start_with_memory(&stand.lab, firmware, number, 1024)?;
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    let expected = LastWords {
        mac: vm.mac().to_owned(),
        kernel: stand.files.release().to_owned(),
        cmdline: format!(
            "BOOT_IMAGE=(http,10.77.0.2:8080)/assets/vmlinuz console=ttyS0 dollar=$x \"two=a b\" name=sb{number}"
        ),
        payload_ok: true,
    };
    ensure!(words == expected, "{words:#?}\n{}", stand.printed());
    let lines = stand.netbootd.lines();
    let at = |text: &str| lines.iter().position(|line| line.contains(text));
    let order = [
        "x86_64-grub/shimx64.efi",
        "x86_64-grub/grubx64.efi, ",
        "GRUB started",
        "script       profile lab",
        "vmlinuz, ",
        "has its kernel",
    ];
    let places: Vec<Option<usize>> = order.iter().map(|text| at(text)).collect();
    ensure!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}\n{}", stand.printed());
    ensure!(
        !lines.iter().any(|line| line.contains("stopped") || line.contains("there is no file")),
        "{}",
        stand.printed()
    );
    Ok(())
}

/// Firmware with Secure Boot on refuses iPXE as Debian has it: the boot stops there, the cause names what to do, and the
/// disk boots after it.
#[test]
#[ignore = "minutes: make secure-boot-test"]
fn an_unsigned_loader_is_refused_and_the_cause_is_named() -> Result<()> {
    let Some(stand) = Stand::signed(IPXE, |_, _| Ok(()))? else { return Ok(()) };
    let disk = efi_disk(&stand)?;
    let vm = Vm::start_with_variables(
        &stand.lab,
        Firmware::UefiSecurePxe,
        23,
        &variables(&stand, |_, _| Ok(()))?,
        Some(&disk),
    )?;
    stand.netbootd.wait_for_line("snponly.efi, ", BOOT).with_context(|| stand.printed())?;
    // GRUB of the disk: signed, and not of the network.
    vm.wait_for_line(DISK, BOOT).with_context(|| stand.printed())?;
    let stop = stand.netbootd.wait_for_line("if Secure Boot is on, firmware refuses unsigned loaders", BOOT);
    let stop = stop.with_context(|| stand.printed())?;
    ensure!(stop.contains("loader_dirs") && stop.contains("x86_64-sb"), "{stop}");
    ensure!(!stand.netbootd.lines().iter().any(|line| line.contains("iPXE on")), "{}", stand.printed());
    Ok(())
}

/// One bit of the kernel is another one: GRUB has shim look at it, and does not start it. The machine says so on its
/// screen and asks again, and netbootd says what to do.
#[test]
#[ignore = "minutes: make secure-boot-test"]
fn a_changed_kernel_is_refused_and_said() -> Result<()> {
    let put = |loaders: &SignedLoaders, folder: &Path| {
        let kernel = folder.with_file_name(BootFiles::KERNEL);
        let mut bytes = fs::read(&kernel)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&kernel, bytes)?;
        loaders.put_grub(folder)
    };
    let Some(stand) = Stand::signed(GRUB, put)? else { return Ok(()) };
    let vm = Vm::start_with_memory(&stand.lab, Firmware::UefiSecureHttp, 24, 1024)?;
    vm.wait_for_line("profile lab did not boot", BOOT).with_context(|| stand.printed())?;
    vm.wait_for_line("Secure Boot is on: the kernel has to be signed", START)?;
    let said = vm.console().lines().iter().any(|line| line.contains("bad shim signature"));
    ensure!(said, "{}\n{}", vm.console().lines().join("\n"), stand.printed());
    let stop = stand.netbootd.wait_for_line("and did not start it; its Secure Boot is on", BOOT);
    stop.with_context(|| stand.printed())?;
    let again = stand.netbootd.wait_for_line("asks for its script again", START + START + START);
    again.with_context(|| vm.console().lines().join("\n"))?;
    let handed_over = stand.netbootd.lines().iter().any(|line| line.contains("handed_over"));
    ensure!(!handed_over, "{}", stand.printed());
    Ok(())
}

/// A shim, and an iPXE that it trusts, under the names of iPXE's own set. The kernel is Debian's: it starts by Debian's
/// shim, which the profile names.
#[test]
fn a_signed_ipxe_boots_a_kernel_by_the_profiles_shim() -> Result<()> {
    boots_by_ipxe(Firmware::UefiSecurePxe, 25, true)
}

fn boots_by_ipxe(firmware: Firmware, number: u8, is_secure: bool) -> Result<()> {
    let put = |loaders: &SignedLoaders, folder: &Path| {
        fs::copy(loaders.shim(), folder.with_file_name("shimx64.efi"))?;
        loaders.put_ipxe(folder)
    };
    let Some(stand) = Stand::signed(IPXE, put)? else { return Ok(()) };
    let own = match is_secure {
        true => variables(&stand, |loaders, variables| loaders.variables_with_mok(variables))?,
        false => {
            let copy = stand.files.folder().join("variables.fd");
            fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &copy)?;
            copy
        }
    };
    let vm = Vm::start_with_variables(&stand.lab, firmware, number, &own, None)?;
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.payload_ok && words.cmdline.ends_with("console=ttyS0 by=ipxe"), "{words:#?}");
    let lines = stand.netbootd.lines();
    let at = |text: &str| lines.iter().position(|line| line.contains(text));
    let mut order =
        vec!["x86_64-sb/snponly-shimx64.efi, ", "x86_64-sb/snponly.efi, ", "script       profile lab", "vmlinuz, "];
    if is_secure {
        order.push("shimx64.efi, ");
    }
    let places: Vec<Option<usize>> = order.iter().map(|text| at(text)).collect();
    ensure!(places.iter().all(Option::is_some), "{places:?}\n{}", stand.printed());
    ensure!(!lines.iter().any(|line| line.contains("stopped")), "{}", stand.printed());
    Ok(())
}

/// With Secure Boot off the same files boot the same way: whoever has a signed set gives it to everyone.
#[test]
#[ignore = "minutes: make secure-boot-test"]
fn a_signed_set_boots_with_secure_boot_off() -> Result<()> {
    boots_by_ipxe(Firmware::UefiPxe, 26, false)
}

/// A disk whose EFI partition has shim and GRUB, which say that it has booted.
fn efi_disk(stand: &Stand) -> Result<PathBuf> {
    let folder = stand.files.folder().join("disk");
    SignedLoaders::prepare()?.make_disk(&folder, DISK)?;
    Ok(folder)
}

/// Variables of the firmware of a machine's own.
fn variables(stand: &Stand, make: impl FnOnce(&SignedLoaders, &Path) -> Result<()>) -> Result<PathBuf> {
    let path = stand.files.folder().join("variables.fd");
    fs::copy("/usr/share/OVMF/OVMF_VARS_4M.ms.fd", &path)?;
    make(&SignedLoaders::prepare()?, &path)?;
    Ok(path)
}

const IPXE: &str = "default_profile = \"lab\"\n[profiles.lab]\nkernel = \"vmlinuz\"\ninitrd = [\"base.img\", \"payload.img\"]\n\
    cmdline = \"console=ttyS0 by=ipxe\"\nshim = \"shimx64.efi\"\n";

/// What the disk says.
const DISK: &str = "the disk has booted";

/// What a rule gives a machine for GRUB.
const GRUB: &str = "default_profile = \"lab\"\n[profiles.lab]\nkernel = \"vmlinuz\"\ninitrd = [\"base.img\", \"payload.img\"]\n\
    cmdline = 'console=ttyS0 dollar=$x two=\"a b\" name={{ machine.name }}'\n\
    [[machines]]\nname = \"sb21\"\nmac = \"52:54:00:6c:62:15\"\n[machines.override]\nloader = \"grub\"\n\
    [[machines]]\nname = \"sb22\"\nmac = \"52:54:00:6c:62:16\"\n[machines.override]\nloader = \"grub\"\n\
    [[machines]]\narch = \"x86_64\"\n[machines.override]\nloader = \"grub\"\n";

/// Puts files where the configuration looks for loaders.
trait Put {
    fn put_grub(&self, folder: &Path) -> Result<()>;
    fn put_ipxe(&self, folder: &Path) -> Result<()>;
}

impl Put for SignedLoaders {
    fn put_grub(&self, folder: &Path) -> Result<()> {
        fs::copy(self.shim(), folder.join("shimx64.efi"))?;
        fs::copy(self.grub(), folder.join("grubx64.efi"))?;
        Ok(())
    }

    fn put_ipxe(&self, folder: &Path) -> Result<()> {
        fs::copy(self.shim(), folder.join("snponly-shimx64.efi"))?;
        self.sign(&self.ipxe(), &folder.join("snponly.efi"))
    }
}

impl Stand {
    /// A configuration, with loaders that are put into a folder of their own.
    fn signed(configuration: &str, put: impl FnOnce(&SignedLoaders, &Path) -> Result<()>) -> Result<Option<Self>> {
        let Some(()) = required(&[SECURE_BOOT_TOOLS]) else { return Ok(None) };
        let serve = |files: &BootFiles, command: &mut Command| {
            let folder = files.folder().join("loaders");
            fs::create_dir(&folder)?;
            put(&SignedLoaders::prepare()?, &folder)?;
            let path = files.folder().join("netbootd.toml");
            let assets = files.folder();
            let state = files.folder().join("state.db");
            let own = format!(
                "loader_dirs = [{folder:?}]\nassets = {assets:?}\nstate.url = \"sqlite://{}\"\n",
                state.display()
            );
            fs::write(&path, own + configuration)?;
            command.arg("--config").arg(path);
            Ok(())
        };
        Self::serving(Place::TwoHosts, serve)
    }
}
