//! Judges the DHCP servers of a network by their offers.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use super::{
    client::Client,
    finding::{Area, Finding, Fix, Verdict},
};
use crate::dhcp::offered::Offered;

/// What was heard on one interface.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Its name.
    pub interface: String,
    /// Our addresses there.
    pub addresses: Vec<Ipv4Addr>,
    /// The number of leading bits of that network.
    pub prefix: u8,
    /// Whether the netbootd on this host serves it; none: no netbootd runs here.
    pub is_served: Option<bool>,
    /// Whether another DHCP server on this host has port 67. Some of those servers listen at layer 2, and hear other
    /// hosts only.
    pub is_beside_another: bool,
    /// Whether the netbootd on this host listens at layer 2 there, and so hears other hosts only.
    pub is_at_layer_2: bool,
    /// Whether the netbootd on this host is to lease addresses there.
    pub is_to_lease: bool,
    /// Whether a packet filter of this host drops DHCP there.
    pub is_filtered: bool,
    /// Whether it answers known machines only.
    pub known_only: bool,
    /// The boot server on another host, if its address is known.
    pub server: Option<Ipv4Addr>,
    /// Every offer.
    pub offers: Vec<Heard>,
    /// Why nothing could be asked.
    pub failed: Option<String>,
}

/// An offer.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Who was asked for.
    pub client: Client,
    /// Where it came from.
    pub from: Ipv4Addr,
    /// How long after the first request.
    pub after: Duration,
    /// What it says.
    pub offered: Offered,
}

impl Heard {
    /// The server, as it calls itself.
    #[must_use]
    pub fn server(&self) -> Ipv4Addr {
        self.offered.server_id.unwrap_or(self.from)
    }

    fn leases(&self) -> bool {
        !self.offered.yiaddr.is_unspecified()
    }

    fn claims(&self, class: &[u8]) -> bool {
        self.offered.vendor_class.starts_with(class)
    }

    /// Whether it offers a boot without an address.
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        !self.leases() && (self.claims(b"PXEClient") || self.claims(b"HTTPClient"))
    }

    /// The boot file, and the host that has it.
    #[must_use]
    pub fn boot_file(&self) -> Option<(String, Ipv4Addr)> {
        let name = String::from_utf8_lossy(&self.offered.bootfile).into_owned();
        let in_text = || std::str::from_utf8(&self.offered.tftp_server).ok()?.trim().parse().ok();
        let host = url_host(&name).or_else(|| Some(self.offered.siaddr).filter(|siaddr| !siaddr.is_unspecified()));
        (!name.is_empty()).then(|| (name, host.or_else(in_text).unwrap_or(self.server())))
    }

    /// As people read it: `UEFI: 10.77.0.2 offers snponly.efi from 10.77.0.2, after 3 ms`.
    fn line(&self) -> String {
        let mut parts = Vec::new();
        if self.leases() {
            parts.push(format!("the address {}", self.offered.yiaddr));
        }
        if let Some((name, host)) = self.boot_file() {
            parts.push(format!("{name} from {host}"));
        } else if self.is_proxy() {
            parts.push("its port 4011".into());
        }
        if !self.offered.vendor_class.is_empty() {
            parts.push(format!("option 60 {}", String::from_utf8_lossy(&self.offered.vendor_class)));
        }
        if !self.offered.relay.is_unspecified() {
            parts.push(format!("by the relay {}", self.offered.relay));
        }
        format!(
            "{}: {} offers {} after {} ms",
            self.client.title(),
            self.server(),
            parts.join(", "),
            self.after.as_millis()
        )
    }
}

fn url_host(name: &str) -> Option<Ipv4Addr> {
    name.split_once("://")?.1.split([':', '/']).next()?.parse().ok()
}

/// All findings about the networks of this host.
#[must_use]
pub fn judge(networks: &[Network]) -> Vec<Finding> {
    let wrong = wrong_interface(networks);
    // What follows from the wrong interface is not said again.
    let is_named = |network: &&Network| wrong.is_none() || network.is_served != Some(true);
    let rest: Vec<Finding> =
        networks.iter().filter(is_named).flat_map(|network| network.judge(wrong.is_some(), networks)).collect();
    wrong.into_iter().chain(joined_interfaces(networks)).chain(rest).collect()
}

/// Two interfaces that netbootd serves are on one network: it is heard there by the addresses of both.
fn joined_interfaces(networks: &[Network]) -> Option<Finding> {
    let served = || networks.iter().filter(|network| network.is_served == Some(true));
    let heard = |on: &Network, other: &Network| {
        let is_other = |offer: &Heard| offer.is_proxy() && other.addresses.contains(&offer.server());
        on.interface != other.interface && on.offers.iter().any(is_other)
    };
    let (on, other) = served().find_map(|on| Some((on, served().find(|other| heard(on, other))?)))?;
    let (one, two) = (&on.interface, &other.interface);
    let text = format!(
        "{one} and {two} are connected to one network: netbootd answers each machine there by both, and a machine may take the offer with an address that it cannot reach"
    );
    let has_leases = on.offers.iter().any(|offer| offer.leases() && other.has(offer.offered.yiaddr));
    let right = if has_leases { two } else { one };
    let finding = on.shown(found("joined_interfaces", Verdict::Fault, text), |offer| {
        offer.is_proxy() && (on.addresses.contains(&offer.server()) || other.addresses.contains(&offer.server()))
    });
    Some(
        finding
            .fixed_by(Fix::Do(format!("put {one} and {two} into networks (VLANs) of their own; or serve one of them:")))
            .fixed_by(Fix::Configure(format!("interfaces = [\"{right}\"]"))),
    )
}

fn found(id: &'static str, verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding::new(id, Area::Network, verdict, text)
}

/// The leasing server is where netbootd does not listen, and there is none where it does.
fn wrong_interface(networks: &[Network]) -> Option<Finding> {
    let leases = |network: &Network| network.offers.iter().any(Heard::leases);
    // This host may lease there, and not hear itself.
    let may_lease = |network: &&Network| leases(network) || network.is_to_lease || network.is_beside_another;
    let served: Vec<&Network> = networks.iter().filter(|network| network.is_served == Some(true)).collect();
    if served.is_empty() || served.iter().any(may_lease) {
        return None;
    }
    let other = networks.iter().find(|network| network.is_served == Some(false) && leases(network))?;
    let serves: Vec<&str> = served.iter().map(|network| network.interface.as_str()).collect();
    let text = format!(
        "netbootd serves {}, where no leasing server answers; the leasing server is on {}, and probably the machines too",
        serves.join(", "),
        other.interface
    );
    let finding = found("wrong_interface", Verdict::Fault, text)
        .fixed_by(Fix::Configure(format!("interfaces = [\"{}\"]", other.interface)))
        .fixed_by(Fix::Run(format!("sudo netbootd up -i {}", other.interface)));
    Some(
        other
            .offers
            .iter()
            .filter(|offer| offer.leases())
            .take(1)
            .fold(finding, |finding, offer| finding.seen(offer.line())),
    )
}

impl Network {
    fn judge(&self, is_wrong: bool, all: &[Network]) -> Vec<Finding> {
        if let Some(why) = &self.failed {
            let text = format!("nothing could be asked on {}: {why}", self.interface);
            return vec![found("not_asked", Verdict::Warning, text)];
        }
        let mut findings: Vec<Finding> = [self.leasing(), self.proxies(all)].into_iter().flatten().collect();
        findings.extend(self.option_60());
        findings.extend(self.boot_file_of_lease());
        if !is_wrong {
            findings.extend(self.boots());
        }
        findings.extend(self.relay());
        findings.extend(self.slow());
        findings
    }

    fn servers(&self, are: impl Fn(&Heard) -> bool) -> BTreeSet<Ipv4Addr> {
        self.offers.iter().filter(|offer| are(offer)).map(Heard::server).collect()
    }

    /// The offers of these servers as evidence.
    fn shown(&self, finding: Finding, are: impl Fn(&Heard) -> bool) -> Finding {
        self.offers.iter().filter(|offer| are(offer)).fold(finding, |finding, offer| finding.seen(offer.line()))
    }

    fn leasing(&self) -> Option<Finding> {
        let (servers, on) = (self.servers(Heard::leases), &self.interface);
        let list = joined(&servers);
        Some(match servers.len() {
            // That netbootd does not answer the doctor is said with what it boots.
            0 if self.is_to_lease && self.is_served == Some(true) && self.may_be_silent() => return None,
            0 if self.is_beside_another => {
                let text = format!(
                    "a DHCP server on this host has UDP port 67; whether it leases addresses on {on} cannot be seen from this host"
                );
                found("leasing_server_here", Verdict::Note, text).fixed_by(Fix::Do(ELSEWHERE.into()))
            }
            0 if self.is_to_lease => self.no_lease_of_ours(),
            0 if self.is_served == Some(false) => {
                let text = format!("no DHCP server offers an address on {on}, which netbootd does not serve");
                found("no_leasing_server", Verdict::Note, text)
            }
            0 if self.is_filtered => {
                let text = format!(
                    "no offer of an address is seen on {on}, and a packet filter of this host drops DHCP there"
                );
                found("no_leasing_server", Verdict::Fault, text).fixed_by(Fix::Do(UNBLOCK.into()))
            }
            0 => {
                let text = format!(
                    "no DHCP server offers an address on {on}: without one, no machine boots (PXE-E51, PXE-E52)"
                );
                let finding = found("no_leasing_server", Verdict::Fault, text);
                let fix =
                    "start the DHCP server of this network; or let netbootd lease addresses (netbootd up --lease)";
                // Where the boot server is another host, it may be the one that leases.
                match self.own_range().filter(|_| self.server.is_none()) {
                    Some(range) => finding
                        .fixed_by(Fix::Do(format!("{fix}; or start one on this host:")))
                        .fixed_by(Fix::Run(format!("sudo dnsmasq --no-daemon --conf-file=/dev/null --port=0 --no-ping --interface={on} --bind-interfaces --dhcp-range={range}"))),
                    None => finding.fixed_by(Fix::Do(fix.into())),
                }
            }
            1 => self.shown(
                found("leasing_server", Verdict::Ok, format!("the DHCP server {list} leases addresses on {on}")),
                Heard::leases,
            ),
            _ => {
                let text = format!("several DHCP servers lease addresses on {on}: {list}; a machine may take either");
                self.shown(found("two_leasing_servers", Verdict::Note, text), Heard::leases)
            }
        })
    }

    /// Whether an address is in the network of the interface.
    fn has(&self, address: Ipv4Addr) -> bool {
        let bits = 32 - u32::from(self.prefix.min(32));
        let distance = |own: &Ipv4Addr| (own.to_bits() ^ address.to_bits()).checked_shr(bits).unwrap_or(0);
        self.addresses.first().is_some_and(|own| distance(own) == 0)
    }

    /// Whether netbootd serves machines there, and yet does not answer the doctor on its own host.
    fn may_be_silent(&self) -> bool {
        self.known_only || self.is_at_layer_2
    }

    /// netbootd is to lease addresses here, and nobody offers one: a second DHCP server would end its leases.
    fn no_lease_of_ours(&self) -> Finding {
        let on = &self.interface;
        if self.is_served.is_none() {
            let text = format!("no DHCP server offers an address on {on}: netbootd is to lease them, and does not run");
            return found("no_leasing_server", Verdict::Warning, text)
                .fixed_by(Fix::Run(format!("sudo netbootd up -i {on}")));
        }
        let text = format!("netbootd is to lease addresses on {on}, and its offers are not seen there");
        let finding = found("no_leasing_server", Verdict::Fault, text);
        match self.is_filtered {
            true => finding.fixed_by(Fix::Do(UNBLOCK.into())),
            false => finding
                .fixed_by(Fix::Do("see how its leases stand, and why they stopped:".into()))
                .fixed_by(Fix::Run("netbootd leases".into())),
        }
    }

    /// Addresses of this network that a new leasing server could give out.
    fn own_range(&self) -> Option<String> {
        let address = *self.addresses.first()?;
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.clamp(1, 30))).unwrap_or(0);
        let (low, high) = (address.to_bits() & mask, address.to_bits() | !mask);
        let size = high - low;
        // The second half, without the last address; where this host's address is in it, the longer side of that.
        let (mut first, mut last, own) = (low + size / 2 + 1, high - 1, address.to_bits());
        if (first..=last).contains(&own) {
            match own - first > last - own {
                true => last = own - 1,
                false => first = own + 1,
            }
        }
        (first <= last).then(|| {
            format!("{},{},{},1h", Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last), Ipv4Addr::from_bits(mask))
        })
    }

    fn proxies(&self, all: &[Network]) -> Option<Finding> {
        let mut proxies = self.servers(Heard::is_proxy);
        // By another interface it is no other server.
        let others = all.iter().filter(|other| other.is_served == Some(true) && other.interface != self.interface);
        let of_others: Vec<Ipv4Addr> = others.flat_map(|other| other.addresses.iter().copied()).collect();
        proxies.retain(|proxy| !of_others.contains(proxy));
        if proxies.len() < 2 {
            return None;
        }
        let text = format!(
            "several ProxyDHCP servers answer on {}: {}; a machine may take either offer, so one boots from here and the next from there",
            self.interface,
            joined(&proxies)
        );
        let others: Vec<String> =
            proxies.iter().filter(|proxy| !self.is_ours(**proxy)).map(ToString::to_string).collect();
        let fix = match others.len() < proxies.len() {
            true => format!("stop the ProxyDHCP server on {}", others.join(" and ")),
            false => "stop all of them but one".into(),
        };
        Some(self.shown(found("two_proxies", Verdict::Fault, text), Heard::is_proxy).fixed_by(Fix::Do(fix)))
    }

    fn is_ours(&self, server: Ipv4Addr) -> bool {
        self.server == Some(server) || self.is_served == Some(true) && self.addresses.contains(&server)
    }

    /// Whether it is an offer of netbootd, which leases. Where netbootd does not lease, it offers boots without
    /// addresses, and the lease is of another program on its host.
    fn is_our_lease(&self, offer: &Heard) -> bool {
        let server = offer.server();
        let leases = self.is_to_lease || self.server == Some(server);
        leases && offer.leases() && self.is_ours(server) && !self.servers(Heard::is_proxy).contains(&server)
    }

    /// An offer that UEFI takes for that of a boot server, and that names no boot file.
    fn option_60(&self) -> Option<Finding> {
        let leaks = |offer: &Heard| {
            let names_none = offer.claims(b"PXEClient") && offer.offered.bootfile.is_empty();
            offer.leases() && names_none && !self.is_our_lease(offer)
        };
        let servers = self.servers(leaks);
        (!servers.is_empty()).then(|| {
            let list = joined(&servers);
            let text = format!(
                "the DHCP server {list} sends option 60 (PXEClient) with its leases: UEFI machines take it for their boot server, ask its port 4011 and stop with PXE-E16"
            );
            let finding = self.shown(found("option_60", Verdict::Fault, text), leaks)
                .fixed_by(Fix::Do(format!("remove option 60 on {list}; Windows (a leftover of WDS), in PowerShell:")))
                .fixed_by(Fix::Paste("Remove-DhcpServerv4OptionValue -OptionId 60".into()));
            finding.fixed_by(Fix::Do("dnsmasq: remove the dhcp-option line with option 60 or vendor-class; ISC dhcpd: remove option vendor-class-identifier".into()))
        })
    }

    /// The leasing server names a boot file, and somebody else offers one too.
    fn boot_file_of_lease(&self) -> Option<Finding> {
        let boot_servers = self.servers(Heard::is_proxy);
        let leads_away = |offer: &Heard| {
            let host = offer.boot_file().map(|(_, host)| host);
            let is_away = host.is_some_and(|host| !boot_servers.contains(&host) && !self.is_ours(host));
            offer.leases() && is_away && !self.is_our_lease(offer)
        };
        let with_file = |offer: &Heard| offer.leases() && !offer.offered.bootfile.is_empty();
        if boot_servers.is_empty() && self.is_served != Some(true) && self.server.is_none() {
            let servers = self.servers(with_file);
            let text = format!("the DHCP server {} names the boot file", joined(&servers));
            return (!servers.is_empty())
                .then(|| self.shown(found("boot_file_by_lease", Verdict::Ok, text), with_file));
        }
        let servers = self.servers(leads_away);
        (!servers.is_empty()).then(|| {
            let list = joined(&servers);
            let text = format!("the DHCP server {list} names a boot file on another host: some machines take that one instead");
            self.shown(found("boot_file_by_lease", Verdict::Warning, text), leads_away)
                .fixed_by(Fix::Do(format!("remove the boot file on {list} (options 66 and 67, next-server, filename, dhcp-boot), or let it name this server; the lines for its kind:")))
                .fixed_by(Fix::Run("netbootd dhcp-snippet".into()))
        })
    }

    /// Who is offered a boot.
    fn boots(&self) -> Option<Finding> {
        let is_boot = |offer: &Heard| offer.is_proxy() || offer.boot_file().is_some();
        let booted = |client: &Client| self.offers.iter().any(|offer| offer.client == *client && is_boot(offer));
        let (yes, no): (Vec<Client>, Vec<Client>) = Client::ALL.into_iter().partition(booted);
        let titles = |clients: &[Client]| clients.iter().map(|client| client.title()).collect::<Vec<_>>().join(", ");
        let on = &self.interface;
        if yes.is_empty() {
            return self.no_boot_server();
        }
        let servers = joined(&self.servers(is_boot));
        if no.is_empty() {
            let text = format!("{servers} offers a boot to BIOS, UEFI, UEFI HTTP and iPXE on {on}");
            return Some(self.shown(found("boot_server", Verdict::Ok, text), is_boot));
        }
        let text = format!("on {on}, {servers} offers a boot to {} only, and none to {}", titles(&yes), titles(&no));
        let fix = "`netbootd loaders` shows which loaders are missing; a DHCP server that names one file for all machines needs a rule for each architecture: netbootd dhcp-snippet";
        Some(self.shown(found("some_architectures", Verdict::Warning, text), is_boot).fixed_by(Fix::Do(fix.into())))
    }

    fn no_boot_server(&self) -> Option<Finding> {
        let on = &self.interface;
        let relays: BTreeSet<Ipv4Addr> = self.relays();
        if let Some(relay) = relays.first()
            && !self.is_ours(*relay)
        {
            let (list, servers) = (joined(&relays), joined(&self.servers(Heard::leases)));
            let text = format!(
                "the relay {list} passes the requests of this network on to {servers}, and no boot server answers: the relay does not send them to netbootd"
            );
            let server = self.server.map_or("ADDRESS-OF-NETBOOTD".to_owned(), |server| server.to_string());
            let finding = self.shown(found("relay_without_helper", Verdict::Fault, text), |offer| {
                !offer.offered.relay.is_unspecified()
            });
            return Some(
                finding
                    .fixed_by(Fix::Do("add netbootd to the targets of the relay; dnsmasq:".into()))
                    .fixed_by(Fix::Paste(format!("dhcp-relay={relay},{server}")))
                    .fixed_by(Fix::Do("Cisco IOS, in the interface's section:".into()))
                    .fixed_by(Fix::Paste(format!("ip helper-address {server}")))
                    .fixed_by(Fix::Do("ISC dhcrelay: one more argument:".into()))
                    .fixed_by(Fix::Paste(server)),
            );
        }
        Some(match (self.is_served, self.is_at_layer_2) {
            (Some(true), true) => {
                let beside = if self.is_beside_another { ", beside the DHCP server of this host" } else { "" };
                let text =
                    format!("netbootd listens at layer 2 on {on}{beside}: it hears other machines, but not this host");
                let finding = found("layer_2", Verdict::Note, text).fixed_by(Fix::Do(ELSEWHERE.into()));
                match self.is_to_lease {
                    true => finding
                        .fixed_by(Fix::Do("see how its leases stand:".into()))
                        .fixed_by(Fix::Run("netbootd leases".into())),
                    false => finding,
                }
            }
            (Some(true), false) if self.known_only => {
                let text = "netbootd answers only known machines (dhcp.answer = \"known\"), and the doctor is none";
                found("known_only", Verdict::Note, text)
            }
            // It is said with the leases.
            (Some(true), false)
                if self.is_to_lease && !self.is_beside_another && self.servers(Heard::leases).is_empty() =>
            {
                return None;
            }
            (Some(true), false) => {
                let text = format!("netbootd serves {on}, but its offers are not seen there");
                let fix = match self.is_filtered {
                    true => UNBLOCK,
                    false => "see its log: it says why it does not answer the card 02:6e:62:…",
                };
                found("no_boot_offer", Verdict::Fault, text).fixed_by(Fix::Do(fix.into()))
            }
            (Some(false), _) => {
                let text = format!(
                    "nobody offers a boot on {on}: netbootd runs on this host, but does not serve this interface"
                );
                let fix = format!("to serve it too, add {on:?} to those in interfaces of the configuration");
                found("not_served", Verdict::Note, text).fixed_by(Fix::Do(fix))
            }
            (None, _) => {
                let (verdict, who) = match self.server {
                    Some(server) => (Verdict::Fault, format!("not even {server}")),
                    None => (Verdict::Warning, "netbootd does not run on this host".into()),
                };
                let finding = found("no_boot_server", verdict, format!("nobody offers a boot on {on}, {who}"));
                finding.fixed_by(match self.server {
                    Some(server) => Fix::Do(format!("see whether netbootd on {server} serves this network, and whether a switch drops its offers (DHCP snooping, DHCP guarding): let that switch trust the port of {server}")),
                    None => Fix::Run(format!("sudo netbootd up -i {on}")),
                })
            }
        })
    }

    fn relays(&self) -> BTreeSet<Ipv4Addr> {
        self.offers.iter().map(|offer| offer.offered.relay).filter(|relay| !relay.is_unspecified()).collect()
    }

    fn relay(&self) -> Option<Finding> {
        let relays = self.relays();
        (!relays.is_empty()).then(|| {
            let text = format!("requests on {} go through the relay {}", self.interface, joined(&relays));
            found("relay", Verdict::Note, text)
        })
    }

    /// iPXE waits for 2 s after the first offer (net/udp/dhcp.c), a ROM for 4 s (PXE 2.1 §2.2.1).
    fn slow(&self) -> Option<Finding> {
        let slow = self.offers.iter().filter(|offer| offer.after >= SLOW).max_by_key(|offer| offer.after)?;
        let verdict = if slow.after >= Duration::from_secs(4) { Verdict::Warning } else { Verdict::Note };
        let text = format!(
            "the answers of {} come late ({:.1} s): a machine may go on without them",
            slow.server(),
            slow.after.as_secs_f64()
        );
        let finding = found("slow_answers", verdict, text).seen(slow.line());
        Some(
            finding
                .fixed_by(Fix::Do("set the switch ports of machines to portfast (edge port): spanning tree blocks a new port for 30 s".into()))
                .fixed_by(Fix::Do("or let the DHCP server not ping an address before it offers it; dnsmasq:".into()))
                .fixed_by(Fix::Paste("no-ping".into()))
                .fixed_by(Fix::Do("ISC dhcpd:".into()))
                .fixed_by(Fix::Paste("ping-check false;".into())),
        )
    }
}

fn joined(addresses: &BTreeSet<Ipv4Addr>) -> String {
    let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    all.join(", ")
}

/// A server without its own ping answers within milliseconds, one with it after a second or more.
const SLOW: Duration = Duration::from_millis(1500);
/// Where a server of this host does not hear this host.
const ELSEWHERE: &str = "to see its offers, run netbootd doctor on another machine of this network";
/// Where a packet filter keeps everything from the network.
const UNBLOCK: &str = "let DHCP pass the packet filter (see firewall_drops), and run netbootd doctor again";

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
