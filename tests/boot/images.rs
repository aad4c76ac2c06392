//! Images to their own userland: a Debian live system, by its file system and as a whole image, and memtest86+.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Firmware, Vm, live_image};

use crate::stand::{BOOT, Place, START, Stand};

/// `fetch=` of the file system in the image.
#[test]
fn a_live_system_on_bios() -> Result<()> {
    live(Firmware::BiosPlainRom, 0x31, "/live/filesystem.squashfs", &[])
}

/// The same by the iPXE of Debian 12 for UEFI.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn a_live_system_on_uefi() -> Result<()> {
    live(Firmware::UefiPxe, 0x32, "/live/filesystem.squashfs", &[])
}

/// `fetch=` of the whole image: what a profile says behind the image's own words goes before them.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn a_live_system_as_a_whole_image() -> Result<()> {
    live(Firmware::UefiPxe, 0x33, "", &["fetch={{ asset('Debian-live-12.iso') }}"])
}

fn live(firmware: Firmware, number: u8, fetched: &str, more: &[&str]) -> Result<()> {
    let image = live_image()?;
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        // A name that no client's shell takes.
        serve(&image, "Debian live (12).iso", files.folder(), command)?;
        command.args(["--", "console=ttyS0"]).args(more);
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start_with_memory(&stand.lab, firmware, number, 1024)?;
    vm.wait_for_line("LAB-LIVE end", LIVE).with_context(|| stand.printed())?;
    let lines = vm.console().lines();
    let said = |what: &str| lines.iter().find(|line| line.starts_with(what)).cloned().unwrap_or_default();
    ensure!(said("LAB-LIVE system=") == "LAB-LIVE system=debian 12", "{lines:#?}");
    ensure!(said("LAB-LIVE root=") == "LAB-LIVE root=overlay", "{lines:#?}");
    let cmdline = said("LAB-LIVE cmdline=");
    let url = format!("fetch=http://10.77.0.2:8080/assets/Debian-live-12.iso{fetched}");
    ensure!(cmdline.contains(&url) && cmdline.contains("BOOTIF=01-52-54-00-6c-62-"), "{cmdline}");
    let mac = vm.mac();
    let whole =
        if fetched.is_empty() { "Debian-live-12.iso, " } else { "Debian-live-12.iso/live/filesystem.squashfs, " };
    for line in [
        "script       profile Debian-live-12".to_owned(),
        "kernel       Debian-live-12.iso/live/vmlinuz-".to_owned(),
        "initrd       Debian-live-12.iso/live/initrd.img-".to_owned(),
        "handed_over  it has its kernel and all initrds".to_owned(),
        format!("file         {whole}"),
    ] {
        stand.netbootd.wait_for_line(&format!("{mac} {line}"), START).with_context(|| stand.printed())?;
    }
    Ok(())
}

/// Nothing but its kernel is fetched.
#[test]
fn memtest86_on_bios() -> Result<()> {
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        let image = Path::new("/usr/lib/memtest86+/memtest86+x64.iso");
        serve(image, "memtest.iso", files.folder(), command)?;
        command.args(["--", "console=ttyS0,115200"]);
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start(&stand.lab, Firmware::Bios, 0x34)?;
    vm.wait_for_line("Memtest86+", BOOT).with_context(|| stand.printed())?;
    stand.netbootd.wait_for_line(&format!("{} handed_over  ", vm.mac()), START).with_context(|| stand.printed())?;
    Ok(())
}

fn serve(image: &Path, name: &str, folder: &Path, command: &mut Command) -> Result<()> {
    let path = folder.join(name);
    fs::copy(image, &path).with_context(|| format!("copying {}", image.display()))?;
    command.arg(path);
    Ok(())
}

/// Emulated without KVM: a live system unpacks an initial RAM disk of a whole Debian.
const LIVE: Duration = Duration::from_secs(480);
