//! No DHCP server: netbootd leases the addresses too, and what was booted keeps the address of its firmware.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Firmware, Vm};

use crate::{
    arm64,
    stand::{BOOT, Place, Stand},
};

#[test]
fn bios_without_a_dhcp_server() -> Result<()> {
    boots(Firmware::Bios, 0x41)
}

#[test]
fn a_plain_bios_rom_without_a_dhcp_server() -> Result<()> {
    boots(Firmware::BiosPlainRom, 0x42)
}

#[test]
fn uefi_pxe_without_a_dhcp_server() -> Result<()> {
    boots(Firmware::UefiPxe, 0x43)
}

#[test]
fn uefi_http_boot_without_a_dhcp_server() -> Result<()> {
    boots(Firmware::UefiHttp, 0x44)
}

/// U-Boot drops every offer without an address (net/bootp.c): beside another DHCP server it needs that one's help.
#[test]
fn u_boot_without_a_dhcp_server() -> Result<()> {
    let Some(stand) = Stand::arm64(Place::Alone, None, arm64::serve)? else { return Ok(()) };
    let (_, words) = arm64::from_u_boot(&stand)?;
    ensure!(words.payload_ok, "{words:?}\n{}", stand.printed());
    Ok(())
}

fn boots(firmware: Firmware, number: u8) -> Result<()> {
    let serve = |files: &netbootd_lab::BootFiles, command: &mut std::process::Command| {
        command.arg(files.kernel()).args(files.initrds()).args(["--", "console=ttyS0", "lab.lease"]);
        Ok(())
    };
    let Some(stand) = Stand::serving(Place::Alone, serve)? else { return Ok(()) };
    let vm = Vm::start(&stand.lab, firmware, number)?;
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.payload_ok, "{words:?}\n{}", stand.printed());
    // Its firmware, its iPXE and its system have one address.
    vm.wait_for_line("LAB-LEASE 10.77.0.100", Duration::ZERO).with_context(|| stand.printed())?;
    Ok(())
}
