//! The rules of iptables, as `iptables-save` writes them.

use std::{collections::HashMap, net::Ipv4Addr};

use super::{Action, Chain, Hook, Rule, Test, Way, What};

/// The chains of a text. Tables that only change packets are left out.
#[must_use]
pub fn chains(text: &str) -> Vec<Chain> {
    let (mut chains, mut table) = (Vec::<Chain>::new(), String::new());
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            table = name.to_owned();
        } else if table == "nat" {
        } else if let Some(chain) = line.strip_prefix(':') {
            chains.extend(self::chain(&table, chain));
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let words = shlex::split(rest).unwrap_or_default();
            let Some((name, words)) = words.split_first() else { continue };
            let place = format!("iptables {table}");
            let Some(chain) = chains.iter_mut().find(|chain| chain.table == place && chain.name == *name) else {
                continue;
            };
            chain.rules.extend(rule(words, line));
        }
    }
    chains
}

/// `INPUT DROP [0:0]`, `own - [0:0]`.
fn chain(table: &str, line: &str) -> Option<Chain> {
    let mut words = line.split_whitespace();
    let (name, policy) = (words.next()?, words.next()?);
    let place = match name {
        "PREROUTING" => Some((Way::In, 1)),
        "INPUT" => Some((Way::In, 2)),
        "OUTPUT" => Some((Way::Out, 0)),
        "POSTROUTING" => Some((Way::Out, 1)),
        "FORWARD" => Some((Way::Through, 0)),
        _ => None,
    };
    // The order of the tables at one hook (iptables(8), TABLES).
    let priority = match table {
        "raw" => -300,
        "mangle" => -150,
        _ => 0,
    };
    Some(Chain {
        table: format!("iptables {table}"),
        name: name.to_owned(),
        hook: place.map(|(way, place)| Hook { way, order: (place, priority), device: None }),
        drops_the_rest: policy == "DROP",
        rules: Vec::new(),
    })
}

fn rule(words: &[String], line: &str) -> Option<Rule> {
    let mut tests = Vec::new();
    let mut protocol = None;
    let (mut not, mut is_known_target) = (false, None);
    let mut rest = words.iter().map(String::as_str);
    let mut unknown = false;
    while let Some(word) = rest.next() {
        if word == "!" {
            not = true;
            continue;
        }
        let mut value = || rest.next().unwrap_or_default();
        let what = match word {
            "-i" => Some(What::InterfaceIn(vec![value().to_owned()])),
            "-o" => Some(What::InterfaceOut(vec![value().to_owned()])),
            "-p" => {
                let number = number_of(value());
                protocol = number.and_then(|number| u8::try_from(number).ok()).filter(|_| !not);
                Some(number.map_or(What::Unknown, |number| What::Protocol(vec![(number, number)])))
            }
            "-s" => Some(network(value()).map_or(What::Unknown, |range| What::From(vec![range]))),
            "-d" => Some(network(value()).map_or(What::Unknown, |range| What::To(vec![range]))),
            "--dport" | "--dports" => Some(ports(value()).map_or(What::Unknown, |ports| What::ToPort(protocol, ports))),
            "--sport" | "--sports" => {
                Some(ports(value()).map_or(What::Unknown, |ports| What::FromPort(protocol, ports)))
            }
            "--state" | "--ctstate" => {
                Some(What::State(value().to_lowercase().split(',').map(str::to_owned).collect()))
            }
            "--dst-type" => Some(What::Kind(vec![value().to_lowercase()])),
            "--pkt-type" => Some(What::Kind(vec![value().replace("unicast", "local").replace("host", "local")])),
            "-m" => {
                let known = ["udp", "tcp", "state", "conntrack", "multiport", "addrtype", "pkttype", "comment"];
                unknown |= !known.contains(&value());
                None
            }
            "--comment" | "--reject-with" | "--log-prefix" | "--log-level" => {
                value();
                None
            }
            "-j" | "-g" => {
                is_known_target = Some((word == "-g", value().to_owned()));
                None
            }
            // The values of options that are not known here fall under this as well.
            _ => {
                (unknown, not) = (true, false);
                None
            }
        };
        if let Some(what) = what {
            tests.push(Test { not: std::mem::take(&mut not), what });
        }
    }
    let action = match is_known_target? {
        (true, chain) => Action::Goto(chain),
        (false, target) => match target.as_str() {
            "ACCEPT" => Action::Accept,
            "DROP" | "REJECT" => Action::Drop,
            "RETURN" => Action::Return,
            "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "CT" | "NOTRACK" | "TRACE" | "AUDIT" | "CHECKSUM" | "TCPMSS" => {
                Action::Nothing
            }
            chain => Action::Jump(chain.to_owned()),
        },
    };
    if unknown && action != Action::Nothing {
        tests.push(Test { not: false, what: What::Unknown });
    }
    Some(Rule { tests, action, text: line.to_owned() })
}

fn number_of(protocol: &str) -> Option<u64> {
    let names: HashMap<&str, u64> = [("udp", 17), ("tcp", 6), ("icmp", 1), ("igmp", 2), ("all", 0)].into();
    names.get(protocol).copied().or_else(|| protocol.parse().ok())
}

/// `67`, `67:69`, `67,69,4011`.
fn ports(text: &str) -> Option<Vec<(u64, u64)>> {
    let range = |part: &str| {
        let (low, high) = part.split_once(':').unwrap_or((part, part));
        Some((low.parse().ok()?, high.parse().ok()?))
    };
    text.split(',').map(range).collect()
}

/// `10.77.0.0/24`, `10.77.0.2/32`.
fn network(text: &str) -> Option<(u64, u64)> {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    let mask = match length.parse::<u32>() {
        Ok(length) => u32::MAX.checked_shl(32_u32.checked_sub(length)?).unwrap_or(0),
        Err(_) => length.parse::<Ipv4Addr>().ok()?.to_bits(),
    };
    let low = address.parse::<Ipv4Addr>().ok()?.to_bits() & mask;
    Some((low.into(), (low | !mask).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::firewall::{Fate, Packet, fate};

    const SAVED: &str = "# Generated by iptables-save v1.8.9\n*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*filter\n\
        :INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:own - [0:0]\n\
        -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
        -A INPUT -i lo -j ACCEPT\n\
        -A INPUT ! -i eth1 -p tcp -m tcp --dport 22 -j ACCEPT\n\
        -A INPUT -p udp -m udp --dport 69 -m comment --comment \"boot files -j DROP\" -j ACCEPT\n\
        -A INPUT -s 10.77.0.0/24 -p udp -m multiport --dports 4011,5000:5010 -j own\n\
        -A INPUT -p tcp -m tcp --dport 8080 -m recent --rcheck --seconds 60 -j ACCEPT\n\
        -A INPUT -i eth1 -p tcp -m set ! --match-set known src -m tcp --dport 82 -j DROP\n\
        -A INPUT -i eth1 -p tcp -m tcp --dport 81:82 -j ACCEPT\n\
        -A INPUT -s 10.77.0.128/25 -p udp -m udp --dport 83 -j ACCEPT\n\
        -A INPUT -s 10.77.0.50/32 -p udp -m udp --dport 84 -j DROP\n\
        -A INPUT -p udp -m udp --dport 84 -j ACCEPT\n\
        -A own -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n";

    #[test]
    fn packets_go_through_the_rules_as_the_kernel_sends_them() {
        let chains = chains(SAVED);
        let ask = |protocol, port| {
            let (from, to) = ((Ipv4Addr::new(10, 77, 0, 50), 2000), (Ipv4Addr::new(10, 77, 0, 2), port));
            let (way, interface) = (Way::In, "eth1");
            let (prefix, is_established, is_broadcast) = (24, false, false);
            let packet = Packet { way, interface, protocol, from, to, prefix, is_established, is_broadcast };
            match fate(&chains, &packet) {
                Fate::Passes => "passes".into(),
                Fate::MayEnd(culprit) => format!("perhaps {culprit}"),
                Fate::Ends(culprit) => culprit.to_string(),
            }
        };
        let policy = "table iptables filter, chain INPUT: its policy is drop";
        assert_eq!(ask(17, 67), policy);
        assert_eq!(ask(17, 69), "passes");
        let own = "table iptables filter, chain own: -A own -j REJECT --reject-with icmp-port-unreachable";
        assert_eq!((ask(17, 4011).as_str(), ask(17, 5001).as_str()), (own, own));
        assert_eq!((ask(6, 22).as_str(), ask(6, 8080)), (policy, format!("perhaps {policy}")));
        assert_eq!(ask(6, 81), "passes");
        // Some machines of the network have such an address.
        assert_eq!(ask(17, 83), format!("perhaps {policy}"));
        assert_eq!(
            ask(17, 84),
            "perhaps table iptables filter, chain INPUT: -A INPUT -s 10.77.0.50/32 -p udp -m udp --dport 84 -j DROP"
        );
        assert_eq!(
            ask(6, 82),
            "perhaps table iptables filter, chain INPUT: -A INPUT -i eth1 -p tcp -m set ! --match-set known src -m tcp --dport 82 -j DROP"
        );
        assert!(super::chains("").is_empty());
    }
}
