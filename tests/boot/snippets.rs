//! Machines boot by the leasing server alone, with the lines of `netbootd dhcp-snippet`: netbootd answers no DHCP.
//! `make snippets-test`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use netbootd_lab::{
    BootFiles, DHCPD, Firmware, KEA, Lab, NETWORK_TOOLS, Process, SnippetServer, VM_TOOLS, Vm, required,
};

use crate::stand::{BOOT, NETBOOTD, START};

#[test]
#[ignore = "three machines take minutes: make snippets-test"]
fn dnsmasq_with_its_snippet_boots_bios_uefi_and_uefi_http() -> Result<()> {
    boots_all(SnippetServer::Dnsmasq)
}

#[test]
#[ignore = "three machines take minutes: make snippets-test"]
fn isc_dhcpd_with_its_snippet_boots_bios_uefi_and_uefi_http() -> Result<()> {
    let Some(()) = required(&[&[DHCPD]]) else { return Ok(()) };
    boots_all(SnippetServer::Isc)
}

#[test]
#[ignore = "three machines take minutes: make snippets-test"]
fn kea_with_its_snippet_boots_bios_uefi_and_uefi_http() -> Result<()> {
    let Some(()) = required(&[&[KEA]]) else { return Ok(()) };
    boots_all(SnippetServer::Kea)
}

fn boots_all(server: SnippetServer) -> Result<()> {
    let Some(()) = required(&[NETWORK_TOOLS, VM_TOOLS]) else { return Ok(()) };
    let lab = Lab::new()?;
    let files = BootFiles::prepare(&lab)?;
    let dhcp = lab.host("dhcp", Some("10.77.0.1/24"))?;
    let host = lab.host("netbootd", Some(&format!("{NETBOOTD}/24")))?;
    let program = env!("CARGO_BIN_EXE_netbootd");
    let mut snippet = Command::new(program);
    let snippet =
        snippet.env_clear().args(["dhcp-snippet", server.kind(), "--address", &NETBOOTD.to_string()]).output()?;
    ensure!(snippet.status.success(), "{snippet:?}");
    let leasing = server.start(&lab, &dhcp, &String::from_utf8(snippet.stdout)?)?;
    let mut command = host.command(program);
    command.env_remove("NETBOOTD_LOG").env("NETBOOTD_DHCP__ENABLED", "false").args(["up", "--interface", "eth1"]);
    command.arg(files.kernel()).args(files.initrds()).args(["--", "console=ttyS0"]);
    let netbootd = Process::spawn("netbootd", &mut command)?;
    netbootd.wait_for_line("waiting on eth1", START)?;
    for (number, firmware) in (1..).zip([Firmware::Bios, Firmware::UefiPxe, Firmware::UefiHttp]) {
        let printed = || format!("{}\n{}", netbootd.lines().join("\n"), leasing.lines().join("\n"));
        let fetched = || netbootd.lines().iter().filter(|line| line.contains(" loader  ")).count();
        let before = fetched();
        let vm = Vm::start(&lab, firmware, number)?;
        let words = vm.last_words(BOOT).with_context(|| format!("{}: {}", firmware.label(), printed()))?;
        ensure!(words.payload_ok, "{}: {words:?}\n{}", firmware.label(), printed());
        // Its own loader once, and then iPXE gets its script: no loop. A BIOS with iPXE in its ROM needs none.
        let loaders = fetched() - before;
        let needed = usize::from(firmware != Firmware::Bios);
        ensure!(loaders == needed, "{}: its loader was fetched {loaders} times\n{}", firmware.label(), printed());
    }
    Ok(())
}
