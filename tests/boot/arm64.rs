//! Arm machines to a running Debian: EDK2 by PXE and by HTTP Boot, and U-Boot by `pxelinux.cfg`.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{BootFiles, Firmware, LastWords, Vm};

use crate::stand::{BOOT, NETBOOTD, Place, Stand};

/// iPXE comes by TFTP, kernel and initrds by HTTP.
#[test]
fn uefi_arm64_pxe() -> Result<()> {
    uefi(Firmware::UefiArm64Pxe, 0x21)
}

#[test]
fn uefi_arm64_http_boot() -> Result<()> {
    uefi(Firmware::UefiArm64Http, 0x22)
}

fn uefi(firmware: Firmware, number: u8) -> Result<()> {
    let Some(mut stand) = Stand::arm64(Place::TwoHosts, None, serve)? else { return Ok(()) };
    let mac = format!("52-54-00-6c-62-{number:02x}");
    let cmdline = format!("vmlinuz initrd=whole.img console=ttyAMA0 hostname={mac}");
    let stages = ["discover", "offer", "loader", "script", "kernel", "initrd"];
    stand.boots(firmware, number, &cmdline, &stages)
}

/// U-Boot drops a proxy's offer, as it has no address in it (net/bootp.c, `dhcp_handler`): the leasing server names
/// netbootd, and everything else is as with any machine: `pxe get` asks for this machine's file.
#[test]
fn u_boot_by_pxelinux_cfg() -> Result<()> {
    let Some(stand) = Stand::arm64(Place::TwoHosts, Some("boot/netboot"), serve)? else { return Ok(()) };
    let (vm, words) = from_u_boot(&stand)?;
    // The folder of the boot file stands in front of every name that it asks for.
    vm.wait_for_line(&format!("TFTP from server {NETBOOTD}"), Duration::ZERO)?;
    vm.wait_for_line("Filename 'boot/pxelinux.cfg/01-52-52-52-52-52-52'.", Duration::ZERO)?;
    let expected = LastWords {
        mac: vm.mac().to_owned(),
        kernel: stand.files.release().to_owned(),
        cmdline: "console=ttyAMA0 hostname=52-52-52-52-52-52".to_owned(),
        payload_ok: true,
    };
    ensure!(words == expected, "the machine said {words:#?}\ninstead of {expected:#?}\n{}", stand.printed());
    for stage in ["script       profile debian", "initrd       whole.img, ", "kernel       vmlinuz, ", "handed_over  "]
    {
        let line = format!("{} {stage}", vm.mac());
        stand.netbootd.wait_for_line(&line, Duration::from_secs(20)).with_context(|| stand.printed())?;
    }
    Ok(())
}

/// A machine that has had what it was to boot once is sent on to its own next boot target.
#[test]
fn u_boot_gets_a_one_time_profile_once() -> Result<()> {
    let once = |files: &BootFiles, command: &mut Command| {
        serve(files, command)?;
        let path = files.folder().join("netbootd.toml");
        let rule = "\n[[machines]]\nmac = \"52:52:52:52:52:52\"\nprofile = \"debian\"\nonce = true\n";
        Ok(fs::write(&path, fs::read_to_string(&path)? + rule)?)
    };
    let Some(stand) = Stand::arm64(Place::TwoHosts, Some("netboot"), once)? else { return Ok(()) };
    let (vm, words) = from_u_boot(&stand)?;
    ensure!(words.payload_ok, "{words:?}");
    stand.netbootd.wait_for_line("handed_over  ", Duration::from_secs(20)).with_context(|| stand.printed())?;
    drop(vm);
    let mut vm = Vm::start(&stand.lab, Firmware::UBootArm64, 0x52)?;
    for command in ["setenv autoload no; dhcp", "pxe get", "pxe boot"] {
        vm.type_to_u_boot(command, true).with_context(|| stand.printed())?;
    }
    vm.wait_for_line("Boot from the local disk", Duration::from_secs(20)).with_context(|| stand.printed())?;
    Ok(())
}

/// What a user types, or has in `bootcmd`; to the booted system's last words.
pub(crate) fn from_u_boot(stand: &Stand) -> Result<(Vm, LastWords)> {
    let began = Instant::now();
    let mut vm = Vm::start(&stand.lab, Firmware::UBootArm64, 0x52).with_context(|| stand.printed())?;
    for (command, ends) in [("setenv autoload no; dhcp", true), ("pxe get", true), ("pxe boot", false)] {
        vm.type_to_u_boot(command, ends).with_context(|| stand.printed())?;
    }
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    println!("from switching on to the last words: {:.1} s", began.elapsed().as_secs_f64());
    Ok((vm, words))
}

pub(crate) fn serve(files: &BootFiles, command: &mut Command) -> Result<()> {
    let (loaders, initrd) = (files.loaders(), BootFiles::WHOLE);
    let path = files.folder().join("netbootd.toml");
    let config = format!(
        "loader_dirs = [{loaders:?}]\ndefault_profile = \"debian\"\n[profiles.debian]\nkernel = \"vmlinuz\"\n\
         initrd = [{initrd:?}]\n\
         cmdline = \"console=ttyAMA0 hostname={{{{ machine.name }}}}\"\n"
    );
    fs::write(&path, config)?;
    command.arg("--config").arg(path).arg("--assets").arg(files.folder());
    Ok(())
}
