//! Judges rights, and the programs that have the ports.

use super::seen::{Held, Host, PortSeen, Running, What};
use crate::doctor::finding::{Finding, Fix, Verdict};

/// What this program may do, and the netbootd that runs here.
pub(super) fn rights(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !host.has_rights {
        let text = "this program has not the rights to see all programs and packet filters, or to ask the network";
        let fix = match host.is_root {
            true => Fix::Do("start it with CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_PTRACE, on the host itself".into()),
            false => Fix::Run("sudo netbootd doctor".into()),
        };
        findings.push(Finding::of_host("no_rights", Verdict::Warning, text).fixed_by(fix));
    }
    match &host.running {
        None => {
            let text = match host.sees_programs {
                true => "no netbootd runs on this host",
                false => "no netbootd is seen on this host; this program has not the right to see every program",
            };
            findings.push(Finding::of_host("not_running", Verdict::Note, text));
        }
        Some(Running { pid, user, interfaces, can_capture }) => {
            let user = user.as_deref().map(|user| format!(" as {user}")).unwrap_or_default();
            let on = if interfaces.is_empty() { String::new() } else { format!(", on {}", interfaces.join(", ")) };
            findings.push(Finding::of_host("running", Verdict::Ok, format!("netbootd runs (pid {pid}{user}{on})")));
            if *can_capture == Some(false) {
                let text = "netbootd has not the right to listen at layer 2 (CAP_NET_RAW): it cannot run beside another DHCP server, or see rivals";
                let line = "AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW";
                findings.push(
                    Finding::of_host("no_net_raw", Verdict::Note, text)
                        .fixed_by(Fix::Do("in the service's unit, below [Service]:".into()))
                        .fixed_by(Fix::Paste(line.into())),
                );
            }
        }
    }
    findings
}

/// Who has a port that is needed.
pub(super) fn port(PortSeen { what, number, holders }: &PortSeen, host: &Host) -> Finding {
    let title = match what {
        What::Dhcp => format!("UDP port {number} (DHCP)"),
        What::BootServer => format!("UDP port {number} (PXE boot server)"),
        What::Tftp => format!("UDP port {number} (TFTP)"),
        What::Http => format!("TCP port {number} (HTTP)"),
    };
    let others: Vec<&Held> = holders.iter().filter(|held| !held.is_netbootd).collect();
    let Some(other) = others.first() else {
        let words = match holders.first() {
            Some(Held { by, .. }) => format!("{title} is {by}'s"),
            None if *what == What::Dhcp && host.is_at_layer_2() => {
                format!("netbootd listens at layer 2 in place of {title}")
            }
            None if host.running.is_some() => return missing(&title),
            None => format!("{title} is free"),
        };
        return Finding::of_host("port", Verdict::Ok, words);
    };
    let by = &other.by;
    // Of a program that is not seen, nobody knows whether it is netbootd.
    if other.pid.is_none() && !(host.sees_programs && host.running.is_some()) {
        let text = format!("{title} is held by {by}: it may be netbootd");
        return Finding::of_host("port_unknown", Verdict::Note, text).fixed_by(Fix::Run("sudo ss -lpn".into()));
    }
    match what {
        // netbootd listens beside it.
        What::Dhcp if host.shares_port_67 => {
            let text = format!("{title} is held by {by}, a DHCP server on this host: netbootd listens beside it");
            Finding::of_host("dhcp_on_this_host", Verdict::Note, text)
        }
        What::Dhcp => {
            let text = format!("{title} is held by {by}, and dhcp.socket = \"bind\" wants it for netbootd alone");
            let line = "dhcp.socket = \"auto\"";
            Finding::of_host("dhcp_on_this_host", Verdict::Fault, text).fixed_by(Fix::Configure(line.into()))
        }
        What::Http => {
            let text = format!("{title} is held by {by}, so netbootd cannot serve scripts and kernels on it");
            let fix = Fix::Configure(format!("http.port = {}", number.saturating_add(1)));
            Finding::of_host("port_held", Verdict::Fault, text).fixed_by(fix)
        }
        What::BootServer | What::Tftp => {
            let does = if *what == What::Tftp { "serve loaders" } else { "answer firmware" };
            let text = format!("{title} is held by {by}, so netbootd cannot {does} on it");
            let finding = Finding::of_host("port_held", Verdict::Fault, text);
            others.iter().fold(finding, |finding, held| match leases(held, host) {
                true => finding.fixed_by(Fix::Do(format!("{}: {LEAVE}", held.by))),
                false => finding.fixed_by(stop(held)),
            })
        }
    }
}

/// A server that runs, and does not listen on a port: its configuration was changed since its start, or it could not.
fn missing(title: &str) -> Finding {
    let text = format!("netbootd runs, but does not listen on {title}");
    let fix = "start netbootd again: it opens its ports when it starts, and its log says why it lacks one";
    Finding::of_host("port_not_served", Verdict::Warning, text).fixed_by(Fix::Do(fix.into()))
}

/// Whether a program also has the port of DHCP: it may be the one that leases addresses, which has to go on.
fn leases(held: &Held, host: &Host) -> bool {
    let mut dhcp = host.ports.iter().filter(|port| port.what == What::Dhcp).flat_map(|port| &port.holders);
    held.pid.is_some() && dhcp.any(|other| other.pid == held.pid)
}

fn stop(held: &Held) -> Fix {
    match (&held.unit, held.pid) {
        (Some(unit), _) => Fix::Run(format!("sudo systemctl disable --now {unit}")),
        // Of systemd itself, a socket unit holds the port.
        (None, Some(1)) => Fix::Run("systemctl list-sockets".into()),
        (None, Some(pid)) => Fix::Run(format!("sudo kill {pid}")),
        (None, None) => Fix::Run("sudo ss -lpn".into()),
    }
}

/// For a DHCP server that boots machines too.
const LEAVE: &str =
    "remove TFTP and PXE from its configuration (dnsmasq: enable-tftp, pxe-service, pxe-prompt), and restart it";
