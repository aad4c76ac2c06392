//! Twelve broken networks: the doctor finds and names what is wrong in each, and the fix that it prints, applied, makes
//! the boot succeed.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use netbootd_lab::{KEA, KEA_LIBRARIES, Lab, Process, required, weather::Weather};
use serde_json::Value;

use crate::{
    bench::{START, daemon},
    ward::{Ward, kernel},
};

/// All that a finding says.
pub(crate) fn words(finding: &Value) -> String {
    format!("{finding:#}")
}

/// The fixes of one kind.
pub(crate) fn fixes<'a>(finding: &'a Value, kind: &str) -> Vec<&'a str> {
    let all = finding["fix"].as_array().into_iter().flatten();
    all.filter(|fix| fix["kind"] == kind).filter_map(|fix| fix["text"].as_str()).collect()
}

#[test]
fn a_sound_network_has_no_faults_with_a_server_and_without_one_and_nothing_is_left_behind() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    let before = ward.examined()?;
    ensure!(before.find("no_boot_server")?["verdict"] == "warning", "{:?}", before.bad());
    ward.starts()?;
    ward.boots()?;
    for findings in [ward.examined()?, ward.examined_by_client(&[])?] {
        findings.is_all_well()?;
        let text = words(findings.find("boot_server")?);
        ensure!(text.contains("BIOS, UEFI, UEFI HTTP and iPXE") && text.contains("10.77.0.2"), "{text}");
        for id in ["loader", "script", "file", "rate", "path_mtu", "boot_server_answers"] {
            findings.find(id)?;
        }
    }
    // What the doctor asked and fetched is in no machine's timeline, and it took no lease.
    let machines = daemon(&ward.server).args(["machines", "--json"]).output()?;
    let machines: Value = serde_json::from_slice(&machines.stdout)?;
    let ids: Vec<&str> = machines.as_array().context("no list")?.iter().filter_map(|m| m["id"].as_str()).collect();
    let booted = |id: &str| id.starts_with("52:54:00:00:00:0") || id == "10.77.0.49";
    ensure!(ids.len() > 1 && ids.iter().all(|id| booted(id)), "{ids:?}");
    let seen = machines.to_string();
    ensure!(!seen.contains("stopped"), "{seen}");
    let leasing = ward.leasing.as_ref().context("no leasing server")?;
    let confirmed = |line: &String| line.contains("DHCPACK") && line.contains("02:6e:62");
    ensure!(!leasing.lines().iter().any(confirmed), "it took a lease");
    Ok(())
}

#[test]
fn no_leasing_server() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.starts()?;
    ensure!(ward.boots().is_err());
    let findings = ward.examined()?;
    let finding = findings.find("no_leasing_server")?;
    let command = *fixes(finding, "run").first().context("no command")?;
    let _leasing =
        Process::spawn("the fix", ward.server.command("sh").args(["-c", &command.replace("sudo ", "exec ")]))?;
    _leasing.wait_for_line("DHCP", START)?;
    ward.boots()
}

#[test]
fn two_proxies() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    ward.starts()?;
    let host = ward.lab.host("other", Some("10.77.0.3/24"))?;
    let other = Process::spawn("other", daemon(&host).args(["up", "--interface", "eth1"]))?;
    other.wait_for_line("waiting on ", START)?;
    ensure!(ward.boots().is_err());
    let findings = ward.examined()?;
    let finding = findings.find("two_proxies")?;
    ensure!(fixes(finding, "do") == ["stop the ProxyDHCP server on 10.77.0.3"], "{}", words(finding));
    drop(other);
    ward.boots()
}

#[test]
fn option_60_from_the_leasing_server() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&["--dhcp-option-force=60,PXEClient"])?;
    ward.starts()?;
    ensure!(ward.boots().is_err());
    let findings = ward.examined()?;
    let finding = findings.find("option_60")?;
    ensure!(
        words(finding).contains("10.77.0.1") && words(finding).contains("remove the dhcp-option line"),
        "{}",
        words(finding)
    );
    // Without that line.
    ward.leases(&[])?;
    ward.boots()
}

#[test]
fn port_69_is_held() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    let folder = ward.lab.directory().display().to_string();
    let mut command = ward.server.command("/usr/sbin/dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--log-facility=-", "--port=0"]);
    command.args([
        "--pid-file",
        "--interface=eth1",
        "--bind-interfaces",
        "--enable-tftp",
        &format!("--tftp-root={folder}"),
    ]);
    let mut holder = Process::spawn("holder", &mut command)?;
    holder.wait_for_line("TFTP", START)?;
    ward.starts()?;
    ensure!(ward.boots().is_err());
    let findings = ward.examined()?;
    let finding = findings.find("port_held")?;
    let run = format!("sudo kill {}", holder.pid());
    ensure!(words(finding).contains("dnsmasq") && fixes(finding, "run") == [run], "{}", words(finding));
    ward.fix(finding)?;
    holder.wait_exit(START)?;
    ward.starts()?;
    ward.boots()
}

#[test]
fn a_firewall_drops_port_4011() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    ward.configure("dhcp.offer = \"boot_server\"")?;
    ward.starts()?;
    let rules = "add table inet filter; add chain inet filter input { type filter hook input priority 0; policy accept; }; \
                 add rule inet filter input iifname eth1 udp dport 4011 counter drop";
    let status = ward.server.command("/usr/sbin/nft").arg(rules).status()?;
    ensure!(status.success(), "nft: {status}");
    ensure!(ward.boots().is_err());
    // From elsewhere, it is silent.
    ward.examined_by_client(&[])?.find("boot_server_silent")?;
    let findings = ward.examined()?;
    let finding = findings.find("firewall_drops")?;
    let said = words(finding);
    ensure!(
        said.contains("UDP port 4011") && said.contains("chain input: iifname \\\"eth1\\\" udp dport 4011 counter"),
        "{said}"
    );
    ward.fix(finding)?;
    ward.boots()?;
    ward.examined()?.is_all_well()
}

#[test]
fn the_path_takes_1400_bytes() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    ward.starts()?;
    // A cable has no large frames that a card takes apart.
    ward.server.ip(&["link", "set", "eth1", "gso_max_segs", "1"])?;
    // With the Ethernet header. The server is on the first port of the switch.
    let _cable = Weather { longest: 1414, ..Weather::FAIR }.over(&ward.lab, "port0")?;
    ensure!(ward.boots().is_err());
    let there = ward.examined_by_client(&[])?;
    ensure!(words(there.find("path_mtu")?).contains("mtu 1400"), "{:#?}", there.bad());
    let findings = ward.examined()?;
    let finding = findings.find("path_mtu")?;
    ensure!(fixes(finding, "run") == ["sudo ip link set dev eth1 mtu 1400"], "{}", words(finding));
    ward.fix(finding)?;
    ward.boots()
}

#[test]
fn netbootd_serves_the_wrong_interface() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    // The machines' network is the second one.
    let second = Lab::new()?;
    second.plug_host_in(&ward.server, "eth2", Some("10.77.0.2/24"))?;
    ward.server.ip(&["address", "flush", "dev", "eth1"])?;
    ward.server.ip(&["address", "add", "10.99.0.2/24", "broadcast", "+", "dev", "eth1"])?;
    ward.dhcp = second.host("dhcp", Some("10.77.0.1/24"))?;
    ward.client = second.host("client", Some("10.77.0.49/24"))?;
    ward.leases(&[])?;
    ward.configure("interfaces = [\"eth1\"]")?;
    ward.starts()?;
    ensure!(ward.boots().is_err());
    let findings = ward.examined()?;
    let finding = findings.find("wrong_interface")?;
    ensure!(fixes(finding, "configure") == ["interfaces = [\"eth2\"]"], "{}", words(finding));
    ward.fix(finding)?;
    let booted = ward.boots();
    // Its processes before its network.
    (ward.netbootd, ward.leasing) = (None, None);
    booted
}

#[test]
fn the_loaders_are_missing() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    ward.prepare = Some("mount -t tmpfs tmpfs /usr/lib/ipxe");
    ward.starts()?;
    ensure!(ward.boots().is_err());
    let findings = ward.examined()?;
    let finding = findings.find("loader_missing")?;
    let run = fixes(finding, "run");
    ensure!(run.iter().any(|command| command.starts_with("sudo apt-get install ipxe")), "{}", words(finding));
    // With the package's folder as the package makes it.
    ward.prepare = None;
    ward.starts()?;
    ward.boots()
}

#[test]
fn the_kernel_is_corrupt() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    let path = ward.assets.join("vmlinuz");
    fs::write(&path, "<!DOCTYPE html><title>404 Not Found</title>")?;
    ward.starts()?;
    ensure!(ward.boots().is_err());
    let findings = ward.examined()?;
    for id in ["configuration", "file_corrupt"] {
        let said = words(findings.find(id)?);
        ensure!(said.contains("vmlinuz") && said.contains("it is a web page"), "{said}");
    }
    // Another machine sees it too.
    let there = ward.examined_by_client(&[])?;
    let finding = there.find("file_corrupt")?;
    ensure!(fixes(finding, "do").iter().any(|words| words.contains("put the right file in its place")));
    fs::write(&path, kernel())?;
    ward.boots()
}

/// A download that was cut off, as a full disk leaves it.
#[test]
fn the_kernel_is_cut_off() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    let path = ward.assets.join("vmlinuz");
    fs::write(&path, &kernel()[..1_000_000])?;
    ward.starts()?;
    let findings = ward.examined()?;
    for id in ["configuration", "file_corrupt"] {
        let said = words(findings.find(id)?);
        let why = "vmlinuz is cut off: it has 1000000 bytes, and its header says at least 1999985";
        ensure!(said.contains(why), "{said}");
    }
    let there = ward.examined_by_client(&[])?;
    let finding = there.find("file_corrupt")?;
    ensure!(fixes(finding, "do").iter().any(|words| words.contains("put the right file in its place")));
    fs::write(&path, kernel())?;
    ensure!(ward.examined()?.find("file_corrupt").is_err());
    ward.boots()
}

#[test]
fn the_assets_are_unreadable() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&[])?;
    let path = ward.assets.join("vmlinuz");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    // As systemd starts the service.
    ward.starter = Some(
        "setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all,+net_bind_service,+net_raw \
         --ambient-caps=-all,+net_bind_service,+net_raw",
    );
    ward.starts()?;
    ensure!(ward.boots().is_err());
    // It takes the eyes of the server's own user.
    let findings = ward.examined()?;
    let finding = findings.find("configuration")?;
    ensure!(fixes(finding, "run") == [format!("sudo chmod a+r {}", path.display())], "{}", words(finding));
    ward.fix(finding)?;
    ensure!(fs::metadata(&path)?.mode() & 0o444 == 0o444);
    ward.boots()?;
    ward.examined()?.is_all_well()
}

#[test]
fn the_leasing_server_is_on_the_same_host() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    let Some(()) = required(&[&[KEA]]) else { return Ok(()) };
    // Kea has port 67 for itself.
    let configuration = ward.lab.directory().join("kea-dhcp4.conf");
    let text = r#"{ "Dhcp4": { "interfaces-config": { "interfaces": [ "eth1" ] },
        "lease-database": { "type": "memfile", "persist": false },
        "loggers": [ { "name": "kea-dhcp4", "output_options": [ { "output": "stdout" } ], "severity": "INFO" } ],
        "subnet4": [ { "subnet": "10.77.0.0/24", "pools": [ { "pool": "10.77.0.50 - 10.77.0.60" } ] } ] } }"#;
    fs::write(&configuration, text)?;
    let mut command = ward.server.command(KEA.file);
    command.arg("-c").arg(configuration).env("LD_LIBRARY_PATH", KEA_LIBRARIES);
    command.env("KEA_PIDFILE_DIR", ward.lab.directory()).env("KEA_LOCKFILE_DIR", "none");
    let leasing = Process::spawn("kea-dhcp4", &mut command)?;
    leasing.wait_for_line("DHCP4_STARTED", START)?;
    ward.leasing = Some(leasing);
    ward.configure("dhcp.socket = \"bind\"")?;
    ward.starts()?;
    ensure!(ward.boots().is_err());
    let findings = ward.examined()?;
    let finding = findings.find("dhcp_on_this_host")?;
    ensure!(fixes(finding, "configure") == ["dhcp.socket = \"auto\""], "{}", words(finding));
    ward.fix(finding)?;
    ward.boots()?;
    // The server listens beside Kea now, and cannot hear its own host: that is no fault.
    let findings = ward.examined()?;
    findings.find("layer_2")?;
    findings.is_all_well()
}

#[test]
fn a_relay_without_netbootd_among_its_targets() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    let near = Lab::new()?;
    let router = near.host("router", Some("10.78.0.1/24"))?;
    ward.lab.plug_host_in(&router, "eth2", Some("10.77.0.254/24"))?;
    router.enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
    for host in [&ward.dhcp, &ward.server] {
        host.ip(&["route", "add", "10.78.0.0/24", "via", "10.77.0.254"])?;
    }
    ward.client = near.host("client", Some("10.78.0.49/24"))?;
    ward.client.ip(&["route", "add", "10.77.0.0/24", "via", "10.78.0.1"])?;
    ward.leases(&["--dhcp-range=10.78.0.50,10.78.0.60,255.255.255.0,1h"])?;
    ward.starts()?;
    let relay = |lines: &[String]| -> Result<Process> {
        let mut command: Command = router.command("/usr/sbin/dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--log-facility=-", "--port=0"]);
        command
            .args(["--no-resolv", "--bind-interfaces", "--pid-file"])
            .args(lines.iter().map(|line| format!("--{line}")));
        let relay = Process::spawn("relay", &mut command)?;
        relay.wait_for_line("DHCP relay from", START)?;
        Ok(relay)
    };
    let mut lines = vec!["dhcp-relay=10.78.0.1,10.77.0.1".to_owned()];
    let first = relay(&lines)?;
    ensure!(ward.boots().is_err());
    let findings = ward.examined_by_client(&["--server", "10.77.0.2"])?;
    let finding = findings.find("relay_without_helper")?;
    let pasted = fixes(finding, "paste");
    ensure!(pasted.contains(&"ip helper-address 10.77.0.2"), "{}", words(finding));
    lines.extend(pasted.first().map(|line| (*line).to_owned()));
    drop(first);
    let _second = relay(&lines)?;
    ward.boots()?;
    let findings = ward.examined_by_client(&["--server", "10.77.0.2"])?;
    (ward.netbootd, ward.leasing) = (None, None);
    findings.is_all_well()
}

#[test]
fn the_leasing_server_names_a_boot_file_here_that_is_not_here() -> Result<()> {
    let Some(mut ward) = Ward::empty()? else { return Ok(()) };
    ward.leases(&["--dhcp-boot=pxelinux.0,,10.77.0.2"])?;
    ward.starts()?;
    let findings = ward.examined()?;
    let said = words(findings.find("loader_not_fetched")?);
    ensure!(
        said.contains("pxelinux.0 for BIOS does not come by TFTP") && said.contains("let it name netboot"),
        "{said}"
    );
    // As it says.
    ward.leases(&["--dhcp-boot=netboot,,10.77.0.2"])?;
    ward.examined()?.is_all_well()
}
