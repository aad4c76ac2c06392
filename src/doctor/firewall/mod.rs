//! What the packet filters of this host do to the packets of a network boot. Their rules are read, and applied to such
//! packets one after the other, as the kernel does (nft(8), iptables(8)).

pub mod iptables;
pub mod nft;

use std::{fmt, net::Ipv4Addr};

/// The way that a packet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the network to a program on this host.
    In,
    /// From a program on this host to the network.
    Out,
    /// From one port of a bridge of this host to another, where the kernel applies the filters of IPv4 to that.
    Through,
}

/// A packet of a boot, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its way.
    pub way: Way,
    /// The interface.
    pub interface: &'a str,
    /// 17 for UDP, 6 for TCP.
    pub protocol: u8,
    /// Sender.
    pub from: (Ipv4Addr, u16),
    /// Receiver.
    pub to: (Ipv4Addr, u16),
    /// The number of leading bits that are the same for all machines that may be at the other end; 32: it is that address.
    pub prefix: u8,
    /// Whether it belongs to a connection that this host has already taken part in.
    pub is_established: bool,
    /// Whether its receiver is everyone.
    pub is_broadcast: bool,
}

/// A chain of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The table: `inet filter`, `iptables filter`, `iptables-legacy filter`.
    pub table: String,
    /// Its own name.
    pub name: String,
    /// Where the kernel starts with it; none for chains that are only jumped to.
    pub hook: Option<Hook>,
    /// What happens to a packet that no rule decides on.
    pub drops_the_rest: bool,
    /// In their order.
    pub rules: Vec<Rule>,
}

/// Where the kernel starts with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Of which packets.
    pub way: Way,
    /// The hook's place on the way, then the chain's priority.
    pub order: (u8, i64),
    /// For an ingress hook: of which interface.
    pub device: Option<String>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of these have to be so.
    pub tests: Vec<Test>,
    /// What happens then.
    pub action: Action,
    /// As the filter's own program writes it.
    pub text: String,
}

/// A condition. `not` turns it round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Whether it has to fail.
    pub not: bool,
    /// The condition.
    pub what: What,
}

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Names of incoming interfaces; `eth*` stands for all that begin so.
    InterfaceIn(Vec<String>),
    /// Names of outgoing interfaces.
    InterfaceOut(Vec<String>),
    /// Numbers of protocols.
    Protocol(Vec<(u64, u64)>),
    /// Ports of the sender, of a protocol.
    FromPort(Option<u8>, Vec<(u64, u64)>),
    /// Ports of the receiver, of a protocol.
    ToPort(Option<u8>, Vec<(u64, u64)>),
    /// Ranges of the sender's address.
    From(Vec<(u64, u64)>),
    /// Ranges of the receiver's address.
    To(Vec<(u64, u64)>),
    /// Words of conntrack: `new`, `established`.
    State(Vec<String>),
    /// Kinds of the receiver: `local`, `broadcast`, `unicast`.
    Kind(Vec<String>),
    /// Something that is not known here, or that depends on more than one packet.
    Unknown,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Goes on: counters and logs.
    Nothing,
    /// The packet passes this chain.
    Accept,
    /// The packet ends here.
    Drop,
    /// Another chain, and then the next rule.
    Jump(String),
    /// Another chain, and then what follows this one.
    Goto(String),
    /// Back to where this chain was jumped from.
    Return,
    /// The first of these whose condition is so.
    Map(Vec<(What, Action)>),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives.
    Passes,
    /// This may end it; that depends on something that is not known here.
    MayEnd(Culprit),
    /// This ends it.
    Ends(Culprit),
}

/// The place that ends a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Culprit {
    /// The table.
    pub table: String,
    /// The chain with the hook, which a rule that accepts has to be put into.
    pub base: String,
    /// The chain.
    pub chain: String,
    /// The rule; none for the chain's policy.
    pub rule: Option<String>,
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, chain, rule, .. } = self;
        match rule {
            Some(rule) => write!(f, "table {table}, chain {chain}: {rule}"),
            None => write!(f, "table {table}, chain {chain}: its policy is drop"),
        }
    }
}

/// Sends a packet through all chains, in the kernel's order.
#[must_use]
pub fn fate(chains: &[Chain], packet: &Packet<'_>) -> Fate {
    let is_on_its_way =
        |hook: &Hook| hook.way == packet.way && hook.device.as_deref().is_none_or(|device| device == packet.interface);
    let mut bases: Vec<(&Hook, &Chain)> =
        chains.iter().filter_map(|chain| Some((chain.hook.as_ref()?, chain))).collect();
    bases.retain(|(hook, _)| is_on_its_way(hook));
    bases.sort_by_key(|(hook, _)| hook.order);
    let mut doubt = None;
    for (_, base) in bases {
        match (Walk { chains, packet, base }).chain(base, 0) {
            End::Drop(culprit) => return Fate::Ends(culprit),
            End::MayDrop(culprit) => doubt = doubt.or(Some(culprit)),
            End::Accept => {}
            End::Fell { some_passed: false } if base.drops_the_rest => return Fate::Ends(culprit(base, base, None)),
            End::Fell { some_passed: true } if base.drops_the_rest => {
                doubt = doubt.or_else(|| Some(culprit(base, base, None)));
            }
            End::Fell { .. } => {}
        }
    }
    doubt.map_or(Fate::Passes, Fate::MayEnd)
}

/// Whether a rule is for all packets that an interface receives.
#[must_use]
pub fn is_of_interface(rule: &Rule, interface: &str) -> bool {
    let is_named =
        |test: &Test| matches!(&test.what, What::InterfaceIn(names) if !test.not && are_named(names, interface));
    rule.tests.iter().all(is_named)
}

fn are_named(names: &[String], interface: &str) -> bool {
    names.iter().any(|wanted| match wanted.strip_suffix(['*', '+']) {
        Some(start) => interface.starts_with(start),
        None => wanted == interface,
    })
}

fn culprit(base: &Chain, chain: &Chain, rule: Option<&Rule>) -> Culprit {
    Culprit {
        table: chain.table.clone(),
        base: base.name.clone(),
        chain: chain.name.clone(),
        rule: rule.map(|rule| rule.text.clone()),
    }
}

struct Walk<'a> {
    chains: &'a [Chain],
    packet: &'a Packet<'a>,
    base: &'a Chain,
}

/// How a walk through a chain ended.
enum End {
    Accept,
    Drop(Culprit),
    MayDrop(Culprit),
    /// No rule decided; or one that accepts some of such packets, which cannot be distinguished from the others here.
    Fell {
        some_passed: bool,
    },
}

impl Walk<'_> {
    fn chain(&self, chain: &Chain, depth: usize) -> End {
        let (mut doubt, mut some_passed) = (None, false);
        for (rule, fits, action) in chain.rules.iter().flat_map(|rule| self.actions(rule)) {
            if fits == Fits::No {
                continue;
            }
            let end = match action {
                Action::Nothing | Action::Map(_) => continue,
                Action::Return if fits == Fits::Yes => break,
                Action::Return => continue,
                Action::Accept => End::Accept,
                Action::Drop => End::Drop(culprit(self.base, chain, Some(rule))),
                to @ (Action::Jump(name) | Action::Goto(name)) => {
                    let target = self.chains.iter().find(|other| other.table == chain.table && other.name == *name);
                    let end = match target {
                        Some(target) if depth < DEEPEST => self.chain(target, depth + 1),
                        _ => End::Fell { some_passed: false },
                    };
                    if let End::Fell { some_passed: passed } = end {
                        some_passed |= passed;
                        if matches!(to, Action::Goto(_)) && fits == Fits::Yes {
                            break;
                        }
                    }
                    end
                }
            };
            match (end, fits) {
                (End::Fell { .. }, _) => {}
                // What accepts only some packets of this kind leaves the others to the rules that follow.
                (End::Accept, Fits::Maybe) => some_passed = true,
                (End::Accept, _) => return doubt.map_or(End::Accept, End::MayDrop),
                (End::Drop(culprit), Fits::Yes) if !some_passed => return End::Drop(culprit),
                (End::Drop(culprit), Fits::Yes) => return End::MayDrop(doubt.unwrap_or(culprit)),
                (End::Drop(culprit) | End::MayDrop(culprit), _) => doubt = doubt.or(Some(culprit)),
            }
        }
        doubt.map_or(End::Fell { some_passed }, End::MayDrop)
    }

    /// What a rule does, and whether it fits. Of a map, the entry that fits, or else those that may.
    fn actions<'r>(&self, rule: &'r Rule) -> Vec<(&'r Rule, Fits, &'r Action)> {
        let fits = rule.tests.iter().map(|test| self.fits(test)).min().unwrap_or(Fits::Yes);
        let Action::Map(entries) = &rule.action else { return vec![(rule, fits, &rule.action)] };
        let mut may = Vec::new();
        for (what, action) in entries {
            match self.fits(&Test { not: false, what: what.clone() }).min(fits) {
                Fits::Yes => return vec![(rule, Fits::Yes, action)],
                fits => may.push((rule, fits, action)),
            }
        }
        may
    }

    fn fits(&self, Test { not, what }: &Test) -> Fits {
        let packet = self.packet;
        let among =
            |ranges: &[(u64, u64)], value: u64| ranges.iter().any(|(low, high)| (*low..=*high).contains(&value));
        let named = |names: &[String], way: Way| {
            let is_there = way == packet.way || packet.way == Way::Through;
            are_named(names, if is_there { packet.interface } else { "" })
        };
        let is_of = |protocol: &Option<u8>| protocol.is_none_or(|protocol| protocol == packet.protocol);
        // Of some machines of the network, and of others not.
        let addressed = |ranges: &[(u64, u64)], address: Ipv4Addr, way: Way| {
            let prefix = if way == packet.way { packet.prefix } else { 32 };
            let others = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let (first, last) = (u64::from(address.to_bits() & !others), u64::from(address.to_bits() | others));
            match ranges.iter().find(|(low, high)| *low <= last && first <= *high) {
                Some((low, high)) if *low <= first && last <= *high => Some(true),
                Some(_) => None,
                None => Some(false),
            }
        };
        let fits = match what {
            What::InterfaceIn(names) => named(names, Way::In),
            What::InterfaceOut(names) => named(names, Way::Out),
            What::Protocol(ranges) => among(ranges, packet.protocol.into()),
            // A packet of another protocol has no such port, whichever way round the condition is.
            What::FromPort(protocol, _) | What::ToPort(protocol, _) if !is_of(protocol) => return Fits::No,
            What::FromPort(_, ranges) => among(ranges, packet.from.1.into()),
            What::ToPort(_, ranges) => among(ranges, packet.to.1.into()),
            What::From(ranges) => match addressed(ranges, packet.from.0, Way::In) {
                Some(fits) => fits,
                None => return Fits::Maybe,
            },
            What::To(ranges) => match addressed(ranges, packet.to.0, Way::Out) {
                Some(fits) => fits,
                None => return Fits::Maybe,
            },
            What::State(words) => {
                let state = if packet.is_established { "established" } else { "new" };
                words.iter().any(|word| word == state)
            }
            What::Kind(kinds) => {
                let kind = match (packet.is_broadcast, packet.way) {
                    (true, _) => "broadcast",
                    (false, Way::In) => "local",
                    (false, Way::Out | Way::Through) => "unicast",
                };
                kinds.iter().any(|wanted| wanted == kind)
            }
            What::Unknown => return Fits::Maybe,
        };
        if fits != *not { Fits::Yes } else { Fits::No }
    }
}

/// Of all conditions of a rule, the smallest counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fits {
    No,
    Maybe,
    Yes,
}

/// The kernel allows 16 jumps (NFT_JUMP_STACK_SIZE).
const DEEPEST: usize = 16;
