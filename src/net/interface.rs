//! The network interfaces of the host, and the choice of the one to serve.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use pnet_datalink::NetworkInterface;

use super::frame::LinkAddress;

/// An interface, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name, as in `ip link`.
    pub name: String,
    /// The kernel's number. An interface that is deleted and created again gets another number, and old sockets on it
    /// receive nothing.
    pub index: u32,
    /// The MAC address; `None` if frames have no Ethernet header.
    pub link_address: Option<LinkAddress>,
    /// Its IPv4 addresses, the one for clients first: the primary one of a network.
    pub addresses: Vec<Ipv4Addr>,
    /// Their networks, in the same order, with the numbers of leading bits.
    pub networks: Vec<(Ipv4Addr, u8)>,
    /// The MTU in bytes.
    pub mtu: usize,
    /// Whether it is up: `ip link set … up`.
    pub is_up: bool,
}

impl Interface {
    /// The address for clients.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    /// Makes another of its addresses the one for clients.
    pub fn put_first(&mut self, place: usize) {
        if let Some(front) = self.addresses.get_mut(..=place) {
            front.rotate_right(1);
        }
        if let Some(front) = self.networks.get_mut(..=place) {
            front.rotate_right(1);
        }
    }

    /// Whether an address is in one of its networks.
    #[must_use]
    pub fn reaches(&self, address: Ipv4Addr) -> bool {
        let is_in = |(network, length): &(Ipv4Addr, u8)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(*length).min(32)).unwrap_or(0);
            (address.to_bits() ^ network.to_bits()) & mask == 0
        };
        self.networks.iter().any(is_in)
    }

    /// Why it cannot be served.
    ///
    /// # Errors
    /// It is down, or has no address.
    pub fn usable(&self) -> Result<(), Unusable> {
        match (self.is_up, self.addresses.is_empty()) {
            // Numbers start at 1.
            _ if self.index == 0 => Err(Unusable::Missing),
            (false, _) => Err(Unusable::Down),
            (true, true) => Err(Unusable::NoAddress),
            (true, false) => Ok(()),
        }
    }
}

impl From<&NetworkInterface> for Interface {
    fn from(interface: &NetworkInterface) -> Self {
        let ipv4 = interface.ips.iter().filter_map(|network| match (network.ip(), network.network()) {
            (IpAddr::V4(address), IpAddr::V4(start)) => Some((address, (start, network.prefix()))),
            _ => None,
        });
        let mut ipv4: Vec<(Ipv4Addr, (Ipv4Addr, u8))> = ipv4.collect();
        // A host can have a link-local address of before its lease, or the address of a service that moves between
        // hosts: machines do not reach the one, and lose the other.
        ipv4.sort_by_key(|(address, (_, length))| address.is_link_local() || *length == 32);
        let (addresses, networks) = ipv4.into_iter().unzip();
        Self {
            name: interface.name.clone(),
            index: interface.index,
            // Tunnels and the loopback interface have zeros.
            link_address: interface.mac.map(|mac| mac.octets()).filter(|octets| octets.iter().any(|octet| *octet != 0)),
            addresses,
            networks,
            mtu: mtu(&interface.name),
            is_up: interface.is_up(),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.usable() {
            Ok(()) => write!(f, "{} ({})", self.name, self.address()),
            Err(why) => write!(f, "{} ({})", self.name, why.short()),
        }
    }
}

/// Why no interface could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// A given name is not an interface of this host.
    #[error("unknown interface {name}; this host has: {}", .there.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The interfaces of this host.
        there: Vec<String>,
    },
    /// No interface is suitable.
    #[error("no suitable interface; choose one with --interface:\n{}", .0.join("\n"))]
    None(Vec<String>),
    /// Several interfaces are suitable.
    #[error("several interfaces are suitable; choose one or more with --interface:\n{}", .0.join("\n"))]
    Several(Vec<String>),
}

/// Why an interface cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is down.
    Down,
    /// It does not exist.
    Missing,
    /// It has no address.
    NoAddress,
    /// It is served only if it is named.
    Skipped(&'static str),
}

impl Unusable {
    /// What is said of the interface of this name, with the fix.
    #[must_use]
    pub fn of(self, name: &str) -> String {
        match self {
            Self::Down => format!("is down: start it with ip link set dev {name} up"),
            Self::Missing => "does not exist".into(),
            Self::NoAddress => {
                format!("has no IPv4 address: add one with ip address add ADDRESS/PREFIX dev {name}")
            }
            Self::Skipped(what) => format!("is {what}, which is served only if it is named"),
        }
    }

    /// In two or three words.
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Missing => "does not exist",
            Self::Down => "down",
            Self::NoAddress => "no IPv4 address",
            Self::Skipped(what) => what,
        }
    }
}

/// The interfaces with these names that exist now; `None` if the kernel did not say, for example because the process has
/// no descriptor left.
#[must_use]
pub fn look(names: &[String]) -> Option<Vec<Interface>> {
    among(&pnet_datalink::interfaces(), names)
}

/// The loopback is always there, and each interface has a number: a list without them is not the kernel's.
fn among(all: &[NetworkInterface], names: &[String]) -> Option<Vec<Interface>> {
    let is_whole = !all.is_empty() && all.iter().all(|interface| interface.index != 0);
    is_whole.then(|| all.iter().filter(|interface| names.contains(&interface.name)).map(Interface::from).collect())
}

/// The interfaces to serve: the named ones, which may be down now, or else the only suitable one.
///
/// # Errors
/// Which name is wrong, or the list to choose from.
pub fn choose(named: &[String]) -> Result<Vec<Interface>, Unclear> {
    choose_from(&pnet_datalink::interfaces(), named, &has_radio)
}

/// Every interface that could be chosen without a name.
#[must_use]
pub fn usable() -> Vec<Interface> {
    let all = pnet_datalink::interfaces();
    all.iter().filter(|interface| skipped(interface, &has_radio).is_none()).filter_map(|i| fit(i).ok()).collect()
}

fn choose_from(
    all: &[NetworkInterface],
    named: &[String],
    has_radio: &dyn Fn(&str) -> bool,
) -> Result<Vec<Interface>, Unclear> {
    if !named.is_empty() {
        let mut once = HashSet::new();
        let named: Vec<&String> = named.iter().filter(|name| once.insert(*name)).collect();
        // An existing interface is served, even if others are missing.
        if named.iter().any(|name| by_name(all, name).is_ok()) {
            return Ok(named.into_iter().map(|name| by_name(all, name).unwrap_or_else(|_| missing(name))).collect());
        }
        return named.into_iter().map(|name| by_name(all, name)).collect();
    }
    let judged: Vec<_> = all.iter().map(|i| (i, skipped(i, has_radio).map_or_else(|| self::fit(i), Err))).collect();
    let mut fit: Vec<_> = judged.iter().filter_map(|(_, judged)| judged.clone().ok()).collect();
    match fit.len() {
        1 => Ok(vec![fit.remove(0)]),
        0 => Err(Unclear::None(
            judged
                .iter()
                .map(|(i, judged)| {
                    format!("  {} {}", i.name, judged.as_ref().err().map_or_else(String::new, |why| why.of(&i.name)))
                })
                .collect(),
        )),
        _ => Err(Unclear::Several(fit.iter().map(|interface| format!("  {interface}")).collect())),
    }
}

fn by_name(all: &[NetworkInterface], name: &str) -> Result<Interface, Unclear> {
    all.iter().find(|interface| interface.name == name).map(Interface::from).ok_or_else(|| Unclear::Unknown {
        name: name.to_owned(),
        there: all.iter().map(|interface| interface.name.clone()).collect(),
    })
}

/// An interface that can appear later: a driver that loads late, a VLAN that is configured later.
fn missing(name: &str) -> Interface {
    let (addresses, mtu) = (Vec::new(), ETHERNET_MTU);
    Interface { name: name.into(), index: 0, link_address: None, addresses, networks: Vec::new(), mtu, is_up: false }
}

fn fit(interface: &NetworkInterface) -> Result<Interface, Unusable> {
    let interface = Interface::from(interface);
    interface.usable().map(|()| interface)
}

/// Interfaces that seldom lead to machines that boot, and where a wrong reply is harmful.
fn skipped(interface: &NetworkInterface, has_radio: &dyn Fn(&str) -> bool) -> Option<Unusable> {
    const VIRTUAL: &[(&str, &str)] = &[
        ("docker", "a container bridge"),
        ("br-", "a container bridge"),
        ("cni", "a container bridge"),
        ("podman", "a container bridge"),
        ("lxcbr", "a container bridge"),
        ("lxdbr", "a container bridge"),
        ("virbr", "a virtual machines' bridge"),
        ("vnet", "a virtual machine's port"),
        ("veth", "a container's port"),
        ("cali", "a container's port"),
        ("flannel", "a container network"),
        ("tun", "a tunnel"),
        ("tap", "a tunnel"),
        ("wg", "a tunnel"),
        ("tailscale", "a tunnel"),
    ];
    let what = if interface.is_loopback() {
        "the loopback"
    } else if interface.is_point_to_point() {
        "a point-to-point link"
    } else if has_radio(&interface.name) {
        "wireless"
    } else {
        VIRTUAL.iter().find(|(prefix, _)| interface.name.starts_with(prefix))?.1
    };
    Some(Unusable::Skipped(what))
}

fn has_radio(name: &str) -> bool {
    ["wireless", "phy80211"].iter().any(|entry| std::path::Path::new("/sys/class/net").join(name).join(entry).exists())
}

fn mtu(name: &str) -> usize {
    let read = std::fs::read_to_string(std::path::Path::new("/sys/class/net").join(name).join("mtu"));
    read.ok().and_then(|mtu| mtu.trim().parse().ok()).unwrap_or(ETHERNET_MTU)
}

/// The value if sysfs has none.
const ETHERNET_MTU: usize = 1500;

#[cfg(test)]
mod tests {
    use super::*;

    /// `IFF_UP`, `IFF_LOOPBACK`, `IFF_POINTOPOINT` of `netdevice(7)`.
    const UP: u32 = 1;
    const LOOPBACK: u32 = 8;
    const POINT_TO_POINT: u32 = 16;

    fn interface(name: &str, flags: u32, address: Option<&str>) -> NetworkInterface {
        NetworkInterface {
            name: name.into(),
            description: String::new(),
            index: 1,
            mac: None,
            ips: address.into_iter().map(|a| a.parse().expect("a network")).collect(),
            flags,
        }
    }

    fn names(all: &[NetworkInterface], named: &[&str]) -> Result<Vec<String>, Unclear> {
        let named: Vec<String> = named.iter().map(|&name| name.to_owned()).collect();
        let chosen = choose_from(all, &named, &|name| name.starts_with("wl"))?;
        Ok(chosen.iter().map(ToString::to_string).collect())
    }

    fn laptop() -> Vec<NetworkInterface> {
        vec![
            interface("lo", UP | LOOPBACK, Some("127.0.0.1/8")),
            interface("wlp2s0", UP, Some("203.0.113.5/24")),
            interface("docker0", UP, Some("172.17.0.1/16")),
            interface("ppp0", UP | POINT_TO_POINT, Some("203.0.113.9/32")),
            interface("eth1", 0, Some("198.51.100.1/24")),
            interface("eth2", UP, None),
            interface("eth0", UP, Some("192.0.2.10/24")),
        ]
    }

    #[test]
    fn a_list_that_the_kernel_did_not_give_whole_is_none() {
        let names = ["eth0".to_owned()];
        let (loopback, wired) = (interface("lo", UP | LOOPBACK, None), interface("eth0", UP, None));
        let seen = |all: &[NetworkInterface]| among(all, &names).map(|found| found.len());
        assert_eq!(seen(&[loopback.clone(), wired.clone()]), Some(1));
        assert_eq!(seen(std::slice::from_ref(&loopback)), Some(0), "it is gone");
        assert_eq!(seen(&[]), None);
        assert_eq!(seen(&[loopback, NetworkInterface { index: 0, ..wired }]), None);
    }

    #[test]
    fn the_only_wired_interface_with_an_address_is_chosen() {
        assert_eq!(names(&laptop(), &[]), Ok(vec!["eth0 (192.0.2.10)".into()]));
    }

    #[test]
    fn a_name_has_priority() {
        assert_eq!(names(&laptop(), &["docker0", "docker0"]), Ok(vec!["docker0 (172.17.0.1)".into()]));
        // An interface that is not ready is waited for. A typing error in its name would be waited for without end.
        assert_eq!(names(&laptop(), &["eth1"]), Ok(vec!["eth1 (down)".into()]));
        assert_eq!(names(&laptop(), &["eth2"]), Ok(vec!["eth2 (no IPv4 address)".into()]));
        assert!(matches!(names(&laptop(), &["eth9"]), Err(Unclear::Unknown { .. })));
    }

    #[test]
    fn an_address_of_a_network_is_the_one_for_clients() {
        let with = |addresses: &[&str]| {
            let ips = addresses.iter().map(|address| address.parse().expect("a network")).collect();
            Interface::from(&NetworkInterface { ips, ..interface("eth0", UP, None) })
        };
        let late = with(&["169.254.7.7/16", "192.0.2.99/32", "192.0.2.10/24", "192.0.2.11/24", "2001:db8::1/64"]);
        let addresses: Vec<String> = late.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.10", "192.0.2.11", "169.254.7.7", "192.0.2.99"]);
        assert_eq!(late.networks.first(), Some(&(Ipv4Addr::new(192, 0, 2, 0), 24)));
        assert_eq!(with(&["169.254.7.7/16"]).address(), Ipv4Addr::new(169, 254, 7, 7), "the only one");
    }

    #[test]
    fn if_several_interfaces_are_suitable_the_user_has_to_choose() {
        let mut two = laptop();
        two.push(interface("enp3s0", UP, Some("198.51.100.10/24")));
        assert_eq!(
            names(&two, &[]),
            Err(Unclear::Several(vec!["  eth0 (192.0.2.10)".into(), "  enp3s0 (198.51.100.10)".into()]))
        );
        let not_ready = names(&laptop()[4..6], &[]).map_err(|error| error.to_string());
        assert_eq!(
            not_ready,
            Err("no suitable interface; choose one with --interface:\n  \
                 eth1 is down: start it with ip link set dev eth1 up\n  \
                 eth2 has no IPv4 address: add one with ip address add ADDRESS/PREFIX dev eth2"
                .into())
        );
        let none = &laptop()[..3];
        assert_eq!(
            names(none, &[]).map_err(|error| error.to_string()),
            Err("no suitable interface; choose one with --interface:\n  \
                 lo is the loopback, which is served only if it is named\n  \
                 wlp2s0 is wireless, which is served only if it is named\n  \
                 docker0 is a container bridge, which is served only if it is named"
                .into())
        );
    }
}
