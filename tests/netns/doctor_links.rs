//! Bridges, iptables and a DHCP server that takes its time: the doctor finds each, and the fix that it prints, applied,
//! makes the boot succeed. (A VLAN needs a kernel module that not every host of these tests has.)

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use netbootd_lab::Process;

use crate::{
    bench::START,
    doctor::{fixes, words},
    ward::{RANGE, Ward},
};

/// The server's address is on a bridge, whose port its card is.
fn bridged(ward: &Ward, options: &[&str]) -> Result<()> {
    ward.server.ip(&[&["link", "add", "br0", "type", "bridge"], options].concat())?;
    ward.server.ip(&["address", "flush", "dev", "eth1"])?;
    ward.server.ip(&["link", "set", "eth1", "master", "br0"])?;
    ward.server.ip(&["address", "add", "10.77.0.2/24", "broadcast", "+", "dev", "br0"])?;
    ward.server.ip(&["link", "set", "br0", "up"])?;
    Ok(())
}

/// Takes the cable out of the bridge's port and puts it back, as a machine that starts does on its own port.
fn plugged_again(ward: &Ward) -> Result<()> {
    ward.server.ip(&["link", "set", "eth1", "down"])?;
    ward.server.ip(&["link", "set", "eth1", "up"])?;
    Ok(())
}

#[test]
fn the_interface_is_a_port_of_a_bridge() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    bridged(&ward, &["stp_state", "0", "forward_delay", "0"])?;
    ward.configure("interfaces = [\"eth1\"]")?;
    let findings = ward.examined()?;
    let finding = findings.find("bridge_port")?;
    ensure!(words(finding).contains("eth1 is a port of the bridge br0"), "{}", words(finding));
    ensure!(fixes(finding, "configure") == ["interfaces = [\"br0\"]"], "{}", words(finding));
    ward.fix(finding)?;
    ward.boots()?;
    ward.examined()?.is_all_well()
}

/// Spanning tree, on a bridge of this host: a port that comes up passes nothing for 30 s.
#[test]
fn a_bridge_holds_packets_back_for_30_s() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    bridged(&ward, &["stp_state", "1", "forward_delay", "1500"])?;
    ward.configure("interfaces = [\"br0\"]")?;
    ward.starts()?;
    plugged_again(&ward)?;
    ensure!(ward.boots().is_err(), "the bridge passes everything at once");
    let findings = ward.examined()?;
    let finding = findings.find("bridge_delay")?;
    ensure!(words(finding).contains("the bridge br0 passes nothing for 30 s"), "{}", words(finding));
    ward.fix(finding)?;
    plugged_again(&ward)?;
    ward.boots()?;
    ward.examined()?.is_all_well()
}

/// The client is a virtual machine on the server's host, and Docker is installed there.
#[test]
fn a_packet_filter_drops_what_a_bridge_passes_between_its_ports() -> Result<()> {
    if !Path::new(BRIDGE_FILTER).exists() {
        eprintln!("skipped: this kernel applies no filters of IPv4 to bridges");
        return Ok(());
    }
    for program in ["iptables-legacy", "iptables-nft"] {
        let Some(mut ward) = Ward::empty()? else { return Ok(()) };
        ward.leases(&[])?;
        bridged(&ward, &["stp_state", "0", "forward_delay", "0"])?;
        ward.client.ip(&["link", "delete", "eth1"])?;
        let machine = ["type", "veth", "peer", "name", "eth1", "netns", ward.client.namespace()];
        ward.server.ip(&[&["link", "add", "vnet0"][..], &machine].concat())?;
        ward.server.ip(&["link", "set", "vnet0", "master", "br0", "up"])?;
        ward.client.ip(&["address", "add", "10.77.0.49/24", "broadcast", "+", "dev", "eth1"])?;
        ward.client.ip(&["link", "set", "eth1", "up"])?;
        ward.configure("interfaces = [\"br0\"]")?;
        ward.starts()?;
        ward.server.enter(|| fs::write(BRIDGE_FILTER, "1"))??;
        ward.boots().context("before there are rules")?;
        let dropped = ward.server.command(program).args(["-P", "FORWARD", "DROP"]).output()?;
        ensure!(dropped.status.success(), "{program}: {dropped:?}");
        ensure!(ward.boots().is_err(), "{program}");
        let findings = ward.examined()?;
        let finding = findings.find("bridge_filtered").context(program)?;
        ensure!(words(finding).contains("between the ports of the bridge br0"), "{program}: {}", words(finding));
        ward.fix(finding)?;
        ward.boots().context(program)?;
        ward.examined()?.is_all_well().context(program)?;
    }
    Ok(())
}

const BRIDGE_FILTER: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

#[test]
fn iptables_drops_tftp() -> Result<()> {
    for program in ["iptables-legacy", "iptables-nft"] {
        let Some(mut ward) = Ward::empty()? else { return Ok(()) };
        ward.leases(&[])?;
        ward.starts()?;
        let mut rule = ward.server.command(program);
        rule.args(["-A", "INPUT", "-i", "eth1", "-p", "udp", "--dport", "69", "-j", "DROP"]);
        let added = rule.output()?;
        ensure!(added.status.success(), "{program}: {added:?}");
        ensure!(ward.boots().is_err(), "{program}");
        let findings = ward.examined()?;
        let finding = findings.find("firewall_drops").context(program)?;
        let said = words(finding);
        ensure!(said.contains("UDP port 69") && said.contains("INPUT"), "{program}: {said}");
        ward.fix(finding).with_context(|| format!("{program}: {said}"))?;
        ward.boots().with_context(|| format!("{program}: {said}"))?;
        ward.examined()?.is_all_well().context(program)?;
    }
    Ok(())
}

/// dnsmasq as it is by default: it pings an address for 3 s before it offers it.
#[test]
fn the_leasing_server_takes_its_time() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    let leases = format!("--dhcp-leasefile={}", ward.lab.directory().join("slow.leases").display());
    let mut command = ward.dhcp.command("/usr/sbin/dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--log-facility=-", "--port=0"]);
    command.args(["--no-resolv", "--interface=eth1", "--dhcp-authoritative", "--pid-file", RANGE, &leases]);
    let slow = Process::spawn("dnsmasq", &mut command)?;
    slow.wait_for_line("]: DHCP, ", START)?;
    ward.leasing = Some(slow);
    ward.starts()?;
    let findings = ward.examined()?;
    let finding = findings.find("slow_answers")?;
    ensure!(words(finding).contains("the answers of 10.77.0.1 come late"), "{}", words(finding));
    let lines = fixes(finding, "paste");
    ensure!(lines.first() == Some(&"no-ping"), "{}", words(finding));
    // As a line of dnsmasq.conf, each is an option of its command line.
    ward.leasing = None;
    command.arg(format!("--{}", lines[0]));
    let fast = Process::spawn("dnsmasq", &mut command)?;
    fast.wait_for_line("]: DHCP, ", Duration::from_secs(5))?;
    ward.leasing = Some(fast);
    let findings = ward.examined()?;
    ensure!(findings.find("slow_answers").is_err(), "{:#?}", findings.bad());
    ward.boots()
}

/// Two cards of the server on one switch.
#[test]
fn two_interfaces_of_the_server_are_on_one_network() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    ward.lab.plug_host_in(&ward.server, "eth2", Some("10.78.0.2/24"))?;
    ward.configure("interfaces = [\"eth2\", \"eth1\"]")?;
    ward.starts()?;
    let findings = ward.examined()?;
    let finding = findings.find("joined_interfaces")?;
    ensure!(words(finding).contains("are connected to one network"), "{}", words(finding));
    ensure!(findings.find("two_proxies").is_err(), "{:#?}", findings.bad());
    ensure!(fixes(finding, "configure") == ["interfaces = [\"eth1\"]"], "{}", words(finding));
    ward.fix(finding)?;
    ward.boots()?;
    ensure!(ward.examined()?.find("joined_interfaces").is_err());
    Ok(())
}
