//! Other servers that get in the way: told once each, with the fix.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use netbootd_lab::Process;

use crate::{
    bench::{Bench, SOON},
    beside::dnsmasq,
    dhcp::{BIOS, DISCOVER, next, request},
};

const RANGE: &str = "--dhcp-range=10.77.0.50,10.77.0.50,1h";
const OPTION_60: &str = "--dhcp-option-force=60,PXEClient";
const BOOTFILE: &str = "--dhcp-boot=pxelinux.0";

/// Three rounds of what every booting machine says, each with the answers of two servers.
fn asked_three_times(bench: &Bench) -> Result<()> {
    let socket = bench.client_socket(68)?;
    for xid in 1..=3 {
        socket.send_to(&request(DISCOVER, xid, BIOS), (Ipv4Addr::BROADCAST, 67))?;
        next(&socket)?;
        next(&socket)?;
    }
    Ok(())
}

fn told_once(netbootd: &Process, words: &str) -> Result<()> {
    netbootd.wait_for_line(words, SOON)?;
    let count = netbootd.lines().iter().filter(|line| line.contains(words)).count();
    ensure!(count == 1, "{count} lines with {words:?}");
    Ok(())
}

#[test]
fn a_leasing_server_with_option_60_or_a_boot_file_and_another_proxy() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let host = bench.lab.host("dhcp", Some("10.77.0.1/24"))?;
    let leasing = dnsmasq(&bench.lab, &host, &[RANGE, OPTION_60, BOOTFILE])?;
    asked_three_times(&bench)?;
    drop(leasing);
    let service = "--pxe-service=x86PC,another,pxelinux";
    let _proxy = dnsmasq(&bench.lab, &host, &["--dhcp-range=10.77.0.0,proxy", service])?;
    asked_three_times(&bench)?;
    // One tap hears them all in their order: when the last kind is told, there is no more to come of the others.
    told_once(&bench.netbootd, "another ProxyDHCP server answers network boots here: 10.77.0.1;")?;
    told_once(&bench.netbootd, "the DHCP server 10.77.0.1 sends option 60 (PXEClient) with its leases")?;
    told_once(&bench.netbootd, "the DHCP server 10.77.0.1 also names a boot file, pxelinux.0 from 10.77.0.1")?;
    Ok(())
}

#[test]
fn one_on_this_very_host_is_heard_too_and_we_are_not_our_own_rival() -> Result<()> {
    let mut other = None;
    let bench = Bench::prepared(&["eth1"], &[], "", |lab, host| {
        other = Some(dnsmasq(lab, host, &[RANGE, OPTION_60])?);
        Ok(())
    })?;
    let Some(bench) = bench else { return Ok(()) };
    asked_three_times(&bench)?;
    told_once(&bench.netbootd, "the DHCP server 10.77.0.2 sends option 60 (PXEClient) with its leases")?;
    let lines = bench.netbootd.lines();
    ensure!(!lines.iter().any(|line| line.contains("another ProxyDHCP")), "{lines:?}");
    Ok(())
}
