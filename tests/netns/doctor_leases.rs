//! The doctor beside a netbootd that leases addresses itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    bench::{START, daemon},
    doctor::{fixes, words},
    ward::Ward,
};

/// Until it is known that no other server answers.
const CLEAR: &str = "no other DHCP server answers on eth1: addresses are leased";
const PATIENCE: Duration = Duration::from_secs(30);

/// netbootd that leases one address, with this in its configuration.
fn leasing(first: &str) -> Result<Option<Ward>> {
    let Some(mut ward) = Ward::empty()? else { return Ok(None) };
    ward.configure(&format!("lease.range = \"10.77.0.100\"\n{first}"))?;
    ward.starts()?;
    ward.netbootd.as_ref().context("no netbootd")?.wait_for_line(CLEAR, PATIENCE)?;
    Ok(Some(ward))
}

#[test]
fn every_kind_of_firmware_is_offered_the_only_address_and_none_occupies_it() -> Result<()> {
    let Some(ward) = leasing("")? else { return Ok(()) };
    for findings in [ward.examined()?, ward.examined_by_client(&[])?] {
        findings.is_all_well()?;
        let text = words(findings.find("boot_server")?);
        ensure!(text.contains("BIOS, UEFI, UEFI HTTP and iPXE"), "{text}");
    }
    let output = daemon(&ward.server).args(["leases", "--json"]).output()?;
    let leases: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(leases["leases"].as_array().is_some_and(Vec::is_empty), "{leases:#}");
    Ok(())
}

#[test]
fn at_layer_2_nothing_is_a_fault() -> Result<()> {
    let Some(ward) = leasing("dhcp.socket = \"capture\"")? else { return Ok(()) };
    let findings = ward.examined()?;
    findings.is_all_well()?;
    findings.find("layer_2")?;
    // Another machine sees its offers.
    ward.examined_by_client(&[])?.find("boot_server")?;
    Ok(())
}

#[test]
fn behind_a_closed_firewall_no_second_server_is_advised() -> Result<()> {
    let Some(mut ward) = leasing("")? else { return Ok(()) };
    let rules = "add table inet filter; \
                 add chain inet filter input { type filter hook input priority 0; policy drop; }; \
                 add rule inet filter input ct state established accept";
    let status = ward.server.command("/usr/sbin/nft").arg(rules).status()?;
    ensure!(status.success(), "nft: {status}");
    let findings = ward.examined()?;
    let finding = findings.find("no_leasing_server")?;
    ensure!(fixes(finding, "run").is_empty(), "{}", words(finding));
    ward.fix(findings.find("firewall_drops")?)?;
    ward.netbootd.as_ref().context("no netbootd")?.wait_for_line(CLEAR, START)?;
    ward.examined_by_client(&[])?.find("boot_server")?;
    Ok(())
}

#[test]
fn without_rights_its_ports_are_no_faults() -> Result<()> {
    let Some(mut ward) = leasing("")? else { return Ok(()) };
    for starter in ["setpriv --bounding-set=-all --inh-caps=-all", "setpriv --reuid=65534 --regid=65534 --clear-groups"]
    {
        let findings = ward.examined_with(starter)?;
        let unknown = findings.find("port_unknown").map(|finding| finding["verdict"].clone());
        // What runs with the same rights is seen.
        ensure!(unknown.is_ok_and(|verdict| verdict == "note"), "{starter}: {:#?}", findings.bad());
        findings.find("no_rights")?;
        ensure!(findings.find("port_held").is_err(), "{starter}: {:#?}", findings.bad());
    }
    ward.stops()
}
