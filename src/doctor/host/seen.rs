//! What was seen of a host.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use crate::doctor::firewall::Chain;

/// What was seen of a host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The ports that a boot server needs.
    pub ports: Vec<PortSeen>,
    /// The server that runs here.
    pub running: Option<Running>,
    /// Whether this program may read packet filters and ask the network.
    pub has_rights: bool,
    /// Whether it sees which program has a port, also one of another user.
    pub sees_programs: bool,
    /// Whether this program runs as root.
    pub is_root: bool,
    /// The interfaces that were looked at.
    pub links: Vec<Link>,
    /// Where this program runs, if not on a host of its own: `a Docker container`.
    pub container: Option<String>,
    /// The rules of the packet filters, or why they cannot be read.
    pub filters: Filters,
    /// The ports that TFTP sends files from; none: any.
    pub transfer_ports: Option<RangeInclusive<u16>>,
    /// Whether netbootd may listen at layer 2 in place of port 67 (`dhcp.socket`).
    pub shares_port_67: bool,
    /// Whether it always does.
    pub captures: bool,
}

impl Host {
    /// Whether the netbootd that runs here listens at layer 2, in place of port 67.
    pub(super) fn is_at_layer_2(&self) -> bool {
        let holders = || self.ports.iter().filter(|port| port.what == What::Dhcp).flat_map(|port| &port.holders);
        self.running.is_some() && (self.captures || self.shares_port_67 && !holders().any(|held| held.is_netbootd))
    }
}

/// A port that is needed.
#[derive(Clone, Debug)]
pub struct PortSeen {
    /// What for.
    pub what: What,
    /// Its number.
    pub number: u16,
    /// Programs that have it.
    pub holders: Vec<Held>,
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// DHCP, UDP port 67.
    Dhcp,
    /// The PXE boot server, UDP port 4011.
    BootServer,
    /// TFTP.
    Tftp,
    /// HTTP.
    Http,
}

/// A program that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Name and pid, as far as they can be seen.
    pub by: String,
    /// Its pid.
    pub pid: Option<u32>,
    /// Whether it is netbootd.
    pub is_netbootd: bool,
    /// The systemd unit that it belongs to.
    pub unit: Option<String>,
}

/// A netbootd that runs on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its pid.
    pub pid: u32,
    /// The user that it runs as.
    pub user: Option<String>,
    /// The interfaces that it serves.
    pub interfaces: Vec<String>,
    /// Whether it holds `CAP_NET_RAW`, as far as this can be seen.
    pub can_capture: Option<bool>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Its network's number of leading bits.
    pub prefix: u8,
    /// Whether it is up, and its cable is plugged in.
    pub is_up: bool,
    /// See [`Self::is_up`].
    pub has_carrier: bool,
    /// In bytes.
    pub mtu: usize,
    /// The bridge that it is a port of: packets reach the bridge instead.
    pub bridge_port_of: Option<String>,
    /// Whether it is a bridge, and for how many seconds a new port of it passes nothing.
    pub bridge_delay: Option<u64>,
    /// Whether it is a bridge of several ports, and the kernel applies the filters of IPv4 to what it passes between them.
    pub is_filtered_bridge: bool,
    /// The tag, if it is a VLAN.
    pub vlan: Option<u16>,
    /// VLANs on top of it.
    pub vlans_above: Vec<String>,
    /// Whether it is a radio.
    pub is_wireless: bool,
}

/// The packet filters.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// All chains.
    pub chains: Vec<Chain>,
    /// Which programs manage them: their fixes differ.
    pub manager: Manager,
    /// Why they cannot be read.
    pub unreadable: Option<String>,
}

/// A program that manages the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// None that is known.
    #[default]
    Nobody,
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
}
