//! Looks at this host. Changes nothing.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use pnet_datalink::NetworkInterface;
use rustix::process::geteuid;

use super::{
    firewall::{Chain, iptables, nft},
    host::seen::{Filters, Held, Host, Link, Manager, PortSeen, Running, What},
};
use crate::{
    config::{schema::DhcpSocket, settings::Settings},
    net::{
        holder::{Holder, Table, other_holders, sockets_on, sockets_on_67},
        interface::Interface,
    },
};

/// What a server that runs was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Its pid.
    pub pid: u32,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--interface`, every one.
    pub interfaces: Vec<String>,
    /// Whether `--lease` is there.
    pub leases: bool,
    /// `--http-port`.
    pub http_port: Option<u16>,
    /// Its variables of the configuration, if they can be seen.
    pub environment: Vec<(String, String)>,
    /// Its user, if it can be seen.
    pub user: Option<String>,
    /// Whether it reads files whatever their permissions are.
    pub reads_all: bool,
}

/// The netbootd that runs `up` in this network namespace.
#[must_use]
pub fn started() -> Option<Started> {
    let here = fs::read_link("/proc/self/ns/net").ok();
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut servers = pids.filter(|pid| {
        let is_it = fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "netbootd");
        is_it && here.is_some() && fs::read_link(format!("/proc/{pid}/ns/net")).ok() == here
    });
    servers.find_map(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mut started = arguments(&words(&line))?;
        let environment = words(&fs::read(format!("/proc/{pid}/environ")).unwrap_or_default());
        let ours = environment.iter().filter(|line| line.starts_with("NETBOOTD_"));
        started.environment =
            ours.filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        started.config = started.config.map(|config| folder.join(config));
        started.user = user_of(pid);
        started.reads_all = rights(pid).is_some_and(|rights| rights & (DAC_OVERRIDE | DAC_READ_SEARCH) != 0);
        Some(Started { pid, ..started })
    })
}

fn words(line: &[u8]) -> Vec<String> {
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The arguments of `netbootd up`; none for other commands.
fn arguments(words: &[String]) -> Option<Started> {
    let mut rest = words.iter().skip(1).map(String::as_str);
    (rest.next()? == "up").then_some(())?;
    let mut started = Started::default();
    while let Some(word) = rest.next() {
        let (name, joined) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let mut value = || joined.or_else(|| rest.next()).unwrap_or_default().to_owned();
        match name {
            "--" => break,
            "-c" | "--config" => started.config = Some(value().into()),
            "-i" | "--interface" => started.interfaces.push(value()),
            "--http-port" => started.http_port = value().parse().ok(),
            "--lease" => started.leases = true,
            _ => {}
        }
    }
    Some(started)
}

fn user_of(pid: u32) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next())?;
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    fields.find_map(|fields| (fields.get(2) == Some(&uid)).then(|| (*fields.first().unwrap_or(&"")).to_owned()))
}

/// The effective rights of a process (capabilities(7)).
fn rights(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(rights.trim(), 16).ok()
}

/// Their bits.
const DAC_OVERRIDE: u64 = 1 << 1;
/// See [`DAC_OVERRIDE`].
const DAC_READ_SEARCH: u64 = 1 << 2;
/// See [`DAC_OVERRIDE`].
const NET_ADMIN: u64 = 1 << 12;
/// See [`DAC_OVERRIDE`].
const NET_RAW: u64 = 1 << 13;
/// See [`DAC_OVERRIDE`].
const SYS_PTRACE: u64 = 1 << 19;

/// Looks at everything that [`super::host`] judges. `served` are the interfaces that netbootd serves.
#[must_use]
pub fn look(
    interfaces: &[Interface],
    settings: Option<&Settings>,
    started: Option<&Started>,
    served: &[String],
) -> Host {
    let running = started.map(|started| Running {
        pid: started.pid,
        user: started.user.clone(),
        interfaces: served.to_vec(),
        can_capture: rights(started.pid).map(|rights| rights & NET_RAW != 0),
    });
    let (is_root, own) = (geteuid().is_root(), rights(std::process::id()).unwrap_or_default());
    let has = |wanted: u64| is_root && own & wanted == wanted;
    let has_rights = has(NET_ADMIN | NET_RAW);
    let socket = settings.map(|settings| settings.fixed.dhcp.socket);
    let tftp = settings.map(|settings| &settings.fixed.tftp);
    Host {
        ports: ports(settings, started).into_iter().map(|(what, number)| port(what, number, interfaces)).collect(),
        running,
        has_rights,
        sees_programs: has(SYS_PTRACE),
        is_root,
        links: interfaces.iter().map(link).collect(),
        container: container(),
        filters: match has_rights {
            true => filters(),
            false => Filters { unreadable: Some("this needs root, with CAP_NET_ADMIN".into()), ..Filters::default() },
        },
        transfer_ports: tftp.and_then(|tftp| match tftp.single_port {
            true => Some(tftp.port..=tftp.port),
            false => tftp.transfer_ports.clone(),
        }),
        shares_port_67: socket != Some(DhcpSocket::Bind),
        captures: socket == Some(DhcpSocket::Capture),
    }
}

fn ports(settings: Option<&Settings>, started: Option<&Started>) -> Vec<(What, u16)> {
    let dhcp = settings.is_none_or(|settings| settings.fixed.dhcp.enabled);
    let tftp = settings.is_none_or(|settings| settings.fixed.tftp.enabled);
    let http = started.and_then(|started| started.http_port).or(settings.map(|settings| settings.fixed.http.port));
    let mut ports = Vec::new();
    if dhcp {
        ports.extend([(What::Dhcp, 67), (What::BootServer, 4011)]);
    }
    if tftp {
        ports.push((What::Tftp, settings.map_or(69, |settings| settings.fixed.tftp.port)));
    }
    ports.push((What::Http, http.unwrap_or(8080)));
    ports
}

fn port(what: What, number: u16, interfaces: &[Interface]) -> PortSeen {
    let addresses: Vec<Ipv4Addr> = interfaces.iter().flat_map(|interface| interface.addresses.clone()).collect();
    let holders = other_holders(&match what {
        What::Dhcp => interfaces.iter().flat_map(sockets_on_67).collect(),
        What::Http => sockets_on(Table::Tcp, number, &addresses),
        What::BootServer | What::Tftp => sockets_on(Table::Udp, number, &addresses),
    });
    PortSeen { what, number, holders: holders.iter().map(held).collect() }
}

fn held(holder: &Holder) -> Held {
    let pid = holder.process.as_ref().map(|(_, pid)| *pid);
    Held { by: holder.to_string(), pid, is_netbootd: holder.is_netbootd(), unit: pid.and_then(unit) }
}

/// The systemd service that a process belongs to (cgroups(7)).
fn unit(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find(|line| line.contains("/system.slice/"))?;
    path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

/// Every interface of this host that has an address, for [`Link::prefix`].
#[must_use]
pub fn prefix_of(name: &str, address: Option<Ipv4Addr>) -> u8 {
    let all = pnet_datalink::interfaces();
    let networks = |interface: &NetworkInterface| interface.ips.clone();
    let mut networks = all.iter().filter(|interface| interface.name == name).flat_map(networks);
    let ours = networks.find(|network| address.is_some_and(|address| network.ip() == std::net::IpAddr::V4(address)));
    ours.map_or(24, |network| network.prefix())
}

fn link(interface: &Interface) -> Link {
    let name = &interface.name;
    let at = Path::new("/sys/class/net").join(name);
    let text = |path: &str| fs::read_to_string(at.join(path)).ok().map(|text| text.trim().to_owned());
    let number = |path: &str| text(path).and_then(|text| text.parse::<u64>().ok());
    let target = |path: &str| {
        let link = fs::read_link(at.join(path)).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    };
    let address = interface.addresses.first().copied();
    let ports = fs::read_dir(at.join("brif")).map_or(0, Iterator::count);
    // Of this bridge, or of all (Documentation/networking/ip-sysctl.rst of the kernel).
    let of_all = || fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    let calls = || number("bridge/nf_call_iptables") == Some(1) || of_all().is_ok_and(|text| text.trim() == "1");
    let above = fs::read_dir(&at).ok().into_iter().flatten().filter_map(|entry| {
        let entry = entry.ok()?.file_name().to_string_lossy().into_owned();
        entry.strip_prefix("upper_").filter(|upper| is_vlan(upper)).map(str::to_owned)
    });
    Link {
        name: name.clone(),
        address,
        prefix: prefix_of(name, address),
        is_up: interface.is_up,
        // The file cannot be read while the interface is down.
        has_carrier: number("carrier") != Some(0),
        mtu: interface.mtu,
        bridge_port_of: target("brport/bridge"),
        // In hundredths of a second.
        bridge_delay: number("bridge/forward_delay").map(|delay| delay / 100),
        is_filtered_bridge: ports > 1 && calls(),
        vlan: vlan(name),
        vlans_above: above.collect(),
        is_wireless: at.join("wireless").exists() || at.join("phy80211").exists(),
    }
}

fn is_vlan(name: &str) -> bool {
    let about = fs::read_to_string(Path::new("/sys/class/net").join(name).join("uevent"));
    about.is_ok_and(|about| about.lines().any(|line| line == "DEVTYPE=vlan"))
}

/// `eth1.20  VID: 20 …` in the kernel's list.
fn vlan(name: &str) -> Option<u16> {
    let about = fs::read_to_string(format!("/proc/net/vlan/{name}")).ok()?;
    about.split("VID:").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// A container that has a network of its own.
fn container() -> Option<String> {
    let is_there = |path: &str| Path::new(path).exists();
    let kind = match () {
        () if is_there("/.dockerenv") => "a Docker container",
        () if is_there("/run/.containerenv") => "a Podman container",
        () => return None,
    };
    // With the host's network, the interfaces are the host's: a container has one half of a pair.
    let has_own =
        fs::read_to_string("/sys/class/net/eth0/iflink").ok() != fs::read_to_string("/sys/class/net/eth0/ifindex").ok();
    has_own.then(|| kind.to_owned())
}

fn filters() -> Filters {
    let nft_json = run("nft", &["-j", "list", "ruleset"]);
    let saved = run("iptables-save", &[]);
    let legacy = run("iptables-legacy-save", &[]);
    let mut filters = Filters::default();
    let is_missing =
        |tried: &io::Result<String>| matches!(tried, Err(error) if error.kind() == io::ErrorKind::NotFound);
    match &nft_json {
        Ok(json) => {
            let text = run("nft", &["-a", "list", "ruleset"]).unwrap_or_default();
            match nft::chains(json, &text) {
                Ok(chains) => filters.chains = chains,
                Err(error) => filters.unreadable = Some(format!("nft -j list ruleset: {error}")),
            }
            if json.contains("\"name\": \"firewalld\"") || json.contains("\"name\":\"firewalld\"") {
                filters.manager = Manager::Firewalld;
            }
            // What iptables made of nftables' rules, it shows itself.
            if nft::has_foreign_rules(json)
                && let Ok(saved) = &saved
            {
                filters.chains.retain(|chain| !matches!(chain.table.as_str(), "ip filter" | "ip raw" | "ip mangle"));
                filters.chains.extend(iptables::chains(saved));
            }
            if let Ok(legacy) = &legacy {
                // The command iptables may change nftables' rules, which are others.
                let named =
                    |chain: Chain| Chain { table: chain.table.replacen("iptables", "iptables-legacy", 1), ..chain };
                filters.chains.extend(iptables::chains(legacy).into_iter().map(named));
            }
        }
        Err(_) => match &saved {
            Ok(saved) => filters.chains = iptables::chains(saved),
            Err(_) if !has_filters() => {}
            Err(_) if is_missing(&nft_json) && is_missing(&saved) => {
                filters.unreadable = Some("neither nft nor iptables-save is installed".into());
            }
            Err(error) => filters.unreadable = Some(error.to_string()),
        },
    }
    if filters.chains.iter().any(|chain| chain.name.starts_with("ufw-")) {
        filters.manager = Manager::Ufw;
    }
    filters
}

/// Whether the kernel has a packet filter at all.
fn has_filters() -> bool {
    let modules = fs::read_to_string("/proc/modules").unwrap_or_default();
    let is_filter = |line: &str| line.starts_with("nf_tables ") || line.starts_with("ip_tables ");
    modules.lines().any(is_filter)
}

/// The output of a program of this host.
fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    // As root's PATH has it, which sudo may leave out.
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|folder| Path::new(folder).join(program));
    let path = places.iter().find(|path| path.exists()).ok_or(io::ErrorKind::NotFound)?;
    let output = Command::new(path).args(arguments).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_a_server_are_read() {
        let of = |line: &[u8]| arguments(&words(line));
        let started =
            of(b"netbootd\0up\0-i\0eth1\0--interface=eth2\0--config\0a.toml\0--http-port=81\0--lease=192.0.2.9\0k\0--\0-i\0no\0");
        let expected = Started {
            config: Some("a.toml".into()),
            interfaces: vec!["eth1".into(), "eth2".into()],
            http_port: Some(81),
            leases: true,
            ..Started::default()
        };
        assert_eq!(started, Some(expected));
        assert_eq!(of(b"netbootd\0watch\0"), None);
        assert_eq!(of(b""), None);
    }
}
