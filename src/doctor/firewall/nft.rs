//! The rules of nftables, as `nft -j list ruleset` writes them (libnftables-json(5)).

use std::{net::Ipv4Addr, slice};

use serde_json::Value;

use super::{Action, Chain, Hook, Rule, Test, Way, What};

/// The chains that IPv4 packets of this host go through. `text` is `nft -a list ruleset`, for the words of a rule.
///
/// # Errors
/// The text is no JSON of nft.
pub fn chains(json: &str, text: &str) -> Result<Vec<Chain>, serde_json::Error> {
    let all: Value = serde_json::from_str(json)?;
    let objects: Vec<&Value> = all.get("nftables").and_then(Value::as_array).into_iter().flatten().collect();
    let of = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let sets: Vec<&Value> = of("set").chain(of("map")).collect();
    let mut chains: Vec<Chain> = of("chain").filter_map(chain).collect();
    for rule in of("rule") {
        let (Some(table), Some(name)) = (table(rule), word(rule, "chain")) else { continue };
        let Some(chain) = chains.iter_mut().find(|chain| chain.table == table && chain.name == name) else { continue };
        let handle = rule.get("handle").and_then(Value::as_u64).unwrap_or_default();
        let words = words(text, &table, name, handle);
        // Another table may have a set of the same name.
        let sets: Vec<&Value> = sets.iter().copied().filter(|set| self::table(set).as_ref() == Some(&table)).collect();
        chain.rules.extend(rules(rule, &sets, words.unwrap_or_else(|| format!("rule with handle {handle}"))));
    }
    Ok(chains)
}

/// Whether rules were made by a program whose conditions `nft` cannot show (`xt`): iptables-nft.
#[must_use]
pub fn has_foreign_rules(json: &str) -> bool {
    json.contains("\"xt\":")
}

fn word<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// `inet filter`; none for a family that no IPv4 packet of this host is in.
fn table(object: &Value) -> Option<String> {
    let family = word(object, "family").filter(|family| matches!(*family, "inet" | "ip" | "netdev"))?;
    Some(format!("{family} {}", word(object, "table")?))
}

fn chain(object: &Value) -> Option<Chain> {
    let place = match word(object, "hook") {
        Some("ingress") => Some((Way::In, 0)),
        Some("prerouting") => Some((Way::In, 1)),
        Some("input") => Some((Way::In, 2)),
        Some("output") => Some((Way::Out, 0)),
        Some("postrouting") => Some((Way::Out, 1)),
        Some("forward") => Some((Way::Through, 0)),
        _ => None,
    };
    // NAT decides on addresses and drops nothing.
    let place = place.filter(|_| word(object, "type") != Some("nat"));
    let priority = object.get("prio").and_then(Value::as_i64).unwrap_or_default();
    let device = word(object, "dev").map(str::to_owned);
    Some(Chain {
        table: table(object)?,
        name: word(object, "name")?.to_owned(),
        hook: place.map(|(way, place)| Hook { way, order: (place, priority), device }),
        drops_the_rest: word(object, "policy") == Some("drop"),
        rules: Vec::new(),
    })
}

/// One rule for each of its verdicts. Conditions count for what follows them.
fn rules(rule: &Value, sets: &[&Value], text: String) -> Vec<Rule> {
    let (mut tests, mut rules) = (Vec::new(), Vec::new());
    for statement in rule.get("expr").and_then(Value::as_array).into_iter().flatten() {
        let Some((kind, value)) = statement.as_object().and_then(|object| object.iter().next()) else { continue };
        let subject = value.get("left").or_else(|| value.get("key"));
        tests.extend(subject.map(protocols).unwrap_or_default());
        if kind == "match" {
            tests.push(test(value, sets));
        } else if is_of_several_packets(kind, value) || kind == "xt" {
            tests.push(Test { not: false, what: What::Unknown });
        } else if let Some(action) = action(kind, value, sets) {
            rules.push(Rule { tests: tests.clone(), action, text: text.clone() });
        }
    }
    rules
}

/// Whether a statement lets only some of the packets of one kind go on to the next: a rate, a count or a volume.
fn is_of_several_packets(kind: &str, value: &Value) -> bool {
    matches!(kind, "limit" | "ct count" | "quota" | "meter")
        || matches!(kind, "set" | "map") && value.get("stmt").is_some()
}

/// A condition on a field of a protocol's header is so for packets of that protocol only, also where it is turned round.
fn protocols(subject: &Value) -> Vec<Test> {
    let parts = subject.get("concat").and_then(Value::as_array).map_or(slice::from_ref(subject), Vec::as_slice);
    let fields = parts.iter().map(|part| part.pointer("/&/0").unwrap_or(part));
    let names = fields.filter_map(|field| match field.get("tcp option") {
        Some(_) => Some("tcp"),
        None => word(field.get("payload")?, "protocol"),
    });
    let numbers = names.filter_map(|name| match name {
        "udp" | "tcp" => Some(vec![protocol(&name.into())?]),
        // No IPv4 packet of a boot has it.
        "ip6" | "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" => Some(Vec::new()),
        _ => None,
    });
    numbers.map(|numbers| Test { not: false, what: What::Protocol(numbers) }).collect()
}

fn action(kind: &str, value: &Value, sets: &[&Value]) -> Option<Action> {
    let target = || word(value, "target").map(str::to_owned);
    match kind {
        "accept" => Some(Action::Accept),
        "drop" | "reject" => Some(Action::Drop),
        "return" => Some(Action::Return),
        "jump" => target().map(Action::Jump),
        "goto" => target().map(Action::Goto),
        "vmap" => {
            let key = value.get("key")?;
            let entries = elements(value.get("data")?, sets);
            let entry = |entry: &Value| {
                let (matched, verdict) = (entry.get(0)?, entry.get(1)?.as_object()?.iter().next()?);
                Some((about(key, matched, sets), action(verdict.0, verdict.1, sets)?))
            };
            Some(Action::Map(entries.iter().filter_map(entry).collect()))
        }
        _ => None,
    }
}

fn test(value: &Value, sets: &[&Value]) -> Test {
    let (left, right) = (value.get("left").unwrap_or(&Value::Null), value.get("right").unwrap_or(&Value::Null));
    let what = about(left, right, sets);
    match word(value, "op") {
        Some("==" | "in") => Test { not: false, what },
        Some("!=") => Test { not: true, what },
        Some(op @ ("<" | ">" | "<=" | ">=")) => Test { not: false, what: compared(what, op) },
        _ => Test { not: false, what: What::Unknown },
    }
}

/// A comparison as a range.
fn compared(what: What, op: &str) -> What {
    let range = |ranges: Vec<(u64, u64)>| -> Vec<(u64, u64)> {
        let turned = ranges.into_iter().filter_map(|(low, high)| match op {
            "<" => Some((0, low.checked_sub(1)?)),
            "<=" => Some((0, high)),
            ">" => Some((high.checked_add(1)?, u64::MAX)),
            _ => Some((low, u64::MAX)),
        });
        turned.collect()
    };
    match what {
        What::FromPort(protocol, ranges) => What::FromPort(protocol, range(ranges)),
        What::ToPort(protocol, ranges) => What::ToPort(protocol, range(ranges)),
        _ => What::Unknown,
    }
}

fn about(left: &Value, right: &Value, sets: &[&Value]) -> What {
    let values = elements(right, sets);
    let words = || values.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    let numbers = |number: fn(&Value) -> Option<(u64, u64)>| -> Option<Vec<(u64, u64)>> {
        values.iter().map(|value| range(value, number)).collect()
    };
    let known = || {
        if let Some(key) = left.pointer("/meta/key").and_then(Value::as_str) {
            return match key {
                "iifname" | "iif" => Some(What::InterfaceIn(words())),
                "oifname" | "oif" => Some(What::InterfaceOut(words())),
                "l4proto" => numbers(protocol).map(What::Protocol),
                "nfproto" => numbers(family).map(|families| match families.as_slice() {
                    // All packets here are IPv4.
                    [(4, 4)] => What::Protocol(vec![(0, 255)]),
                    _ => What::Protocol(Vec::new()),
                }),
                "pkttype" => Some(What::Kind(
                    words()
                        .into_iter()
                        .map(|kind| if kind == "host" || kind == "unicast" { "local".into() } else { kind })
                        .collect(),
                )),
                _ => None,
            };
        }
        if let Some(payload) = left.get("payload") {
            let protocol_of = match word(payload, "protocol")? {
                "udp" => Some(17),
                "tcp" => Some(6),
                _ => None,
            };
            return match (word(payload, "protocol")?, word(payload, "field")?) {
                ("udp" | "tcp" | "th", "sport") => Some(What::FromPort(protocol_of, numbers(port)?)),
                ("udp" | "tcp" | "th", "dport") => Some(What::ToPort(protocol_of, numbers(port)?)),
                ("ip", "saddr") => numbers(address).map(What::From),
                ("ip", "daddr") => numbers(address).map(What::To),
                ("ip", "protocol") => numbers(protocol).map(What::Protocol),
                _ => None,
            };
        }
        match left.pointer("/ct/key").and_then(Value::as_str) {
            Some("state") => return Some(What::State(words())),
            // No address of these packets is translated.
            Some("status") if words().iter().all(|word| word == "dnat" || word == "snat") => {
                return Some(What::Protocol(Vec::new()));
            }
            _ => {}
        }
        if left.pointer("/fib/result").and_then(Value::as_str) == Some("type") {
            let flags = elements(left.pointer("/fib/flags")?, sets);
            // That of the sender is another one.
            return flags.contains(&"daddr".into()).then(|| What::Kind(words()));
        }
        None
    };
    known().unwrap_or(What::Unknown)
}

/// What a set, a named set, a list or one value holds. The left sides of a map are in its entries.
fn elements(value: &Value, sets: &[&Value]) -> Vec<Value> {
    let whole = |elements: &[Value]| -> Vec<Value> {
        let plain = |element: &Value| element.pointer("/elem/val").unwrap_or(element).clone();
        elements.iter().map(plain).collect()
    };
    match value {
        Value::Array(list) => whole(list),
        Value::Object(object) => match object.get("set") {
            Some(Value::Array(list)) => whole(list),
            _ => vec![value.clone()],
        },
        Value::String(name) if name.starts_with('@') => {
            let named = sets.iter().find(|set| word(set, "name") == name.get(1..));
            named.and_then(|set| set.get("elem")).and_then(Value::as_array).map(|list| whole(list)).unwrap_or_default()
        }
        one => vec![one.clone()],
    }
}

fn range(value: &Value, number: fn(&Value) -> Option<(u64, u64)>) -> Option<(u64, u64)> {
    if let Some(ends) = value.get("range").and_then(Value::as_array) {
        return Some((number(ends.first()?)?.0, number(ends.get(1)?)?.1));
    }
    if let Some(prefix) = value.get("prefix") {
        let (low, _) = number(prefix.get("addr")?)?;
        let length = u32::try_from(prefix.get("len")?.as_u64()?).ok()?;
        return Some((low, low | u64::from(u32::MAX.checked_shr(length).unwrap_or(0))));
    }
    number(value)
}

fn port(value: &Value) -> Option<(u64, u64)> {
    let number = value.as_u64().or_else(|| {
        let text = value.as_str()?;
        let named = [
            ("bootps", 67),
            ("bootpc", 68),
            ("tftp", 69),
            ("http", 80),
            ("http-alt", 8080),
            ("https", 443),
            ("ssh", 22),
            ("domain", 53),
            ("syslog", 514),
        ];
        text.parse().ok().or_else(|| named.iter().find(|(name, _)| *name == text).map(|(_, port)| *port))
    })?;
    Some((number, number))
}

fn protocol(value: &Value) -> Option<(u64, u64)> {
    let number = match value.as_str() {
        Some("udp") => 17,
        Some("tcp") => 6,
        Some("icmp") => 1,
        Some("igmp") => 2,
        Some("ipv6-icmp" | "icmpv6") => 58,
        Some(text) => text.parse().unwrap_or(255),
        None => value.as_u64()?,
    };
    Some((number, number))
}

fn family(value: &Value) -> Option<(u64, u64)> {
    let number = if value.as_str() == Some("ipv4") { 4 } else { 6 };
    Some((number, number))
}

fn address(value: &Value) -> Option<(u64, u64)> {
    let address: Ipv4Addr = value.as_str()?.parse().ok()?;
    Some((address.to_bits().into(), address.to_bits().into()))
}

/// The rule's line in the text: `udp dport 4011 drop`.
fn words(text: &str, table: &str, chain: &str, handle: u64) -> Option<String> {
    let begins = |line: &str, start: &str| line.strip_prefix(start).is_some_and(|rest| rest.starts_with(" {"));
    let of_table = text.lines().skip_while(|line| !begins(line.trim(), &format!("table {table}"))).skip(1);
    let of_table = of_table.take_while(|line| !line.starts_with("table "));
    let of_chain = of_table.skip_while(|line| !begins(line.trim(), &format!("chain {chain}"))).skip(1);
    let mark = format!(" # handle {handle}");
    let mut of_chain = of_chain.take_while(|line| line.trim() != "}");
    of_chain.find_map(|line| line.trim().strip_suffix(&mark).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::firewall::{Fate, Packet, fate};

    fn ask(port: u16, protocol: u8) -> Packet<'static> {
        Packet {
            way: Way::In,
            interface: "eth1",
            protocol,
            from: (Ipv4Addr::new(10, 77, 0, 50), 2000),
            to: (Ipv4Addr::new(10, 77, 0, 2), port),
            prefix: 32,
            is_established: false,
            is_broadcast: false,
        }
    }

    fn culprit_of(chains: &[Chain], packet: &Packet<'_>) -> String {
        match fate(chains, packet) {
            Fate::Passes => "passes".into(),
            Fate::MayEnd(culprit) => format!("perhaps {culprit}"),
            Fate::Ends(culprit) => culprit.to_string(),
        }
    }

    /// As nft 1.0.6 writes a table of a rule, a set, a jump and a policy.
    const JSON: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "filter", "handle": 1}},
        {"set": {"family": "inet", "name": "open", "table": "filter", "type": "inet_service", "handle": 2, "elem": [67, 69]}},
        {"chain": {"family": "inet", "table": "filter", "name": "input", "handle": 1, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
        {"chain": {"family": "inet", "table": "filter", "name": "boot", "handle": 2}},
        {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 3, "expr": [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}]}},
        {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 4, "expr": [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth1"}}, {"jump": {"target": "boot"}}]}},
        {"rule": {"family": "inet", "table": "filter", "chain": "input", "handle": 5, "expr": [{"vmap": {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": {"set": [[22, {"accept": null}], [23, {"drop": null}]]}}}]}},
        {"rule": {"family": "inet", "table": "filter", "chain": "boot", "handle": 6, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": "@open"}}, {"counter": {"packets": 0, "bytes": 0}}, {"accept": null}]}},
        {"rule": {"family": "inet", "table": "filter", "chain": "boot", "handle": 7, "expr": [{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": {"set": [4011, {"range": [5000, 5010]}]}}}, {"reject": null}]}}
    ]}"#;
    const TEXT: &str = "table inet filter { # handle 1\n\tchain input { # handle 1\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n\n\tchain boot { # handle 2\n\t\tudp dport { 4011, 5000-5010 } reject # handle 7\n\t}\n}\n";

    #[test]
    fn packets_go_through_the_rules_as_the_kernel_sends_them() {
        let chains = chains(JSON, TEXT).expect("JSON");
        assert_eq!(culprit_of(&chains, &ask(67, 17)), "passes");
        assert_eq!(culprit_of(&chains, &ask(69, 17)), "passes");
        let rejected = "table inet filter, chain boot: udp dport { 4011, 5000-5010 } reject";
        assert_eq!(culprit_of(&chains, &ask(4011, 17)), rejected);
        assert_eq!(culprit_of(&chains, &ask(5005, 17)), rejected);
        let policy = "table inet filter, chain input: its policy is drop";
        assert_eq!(culprit_of(&chains, &ask(8080, 6)), policy);
        assert_eq!(culprit_of(&chains, &Packet { interface: "eth2", ..ask(67, 17) }), policy);
        assert_eq!(culprit_of(&chains, &Packet { is_established: true, ..ask(40000, 17) }), "passes");
        assert_eq!(culprit_of(&chains, &ask(22, 6)), "passes");
        assert_eq!(culprit_of(&chains, &ask(23, 6)), "table inet filter, chain input: rule with handle 5");
        assert_eq!(culprit_of(&chains, &Packet { way: Way::Out, ..ask(68, 17) }), "passes");
    }

    /// A table whose only chain has a rule of these statements, as nft 1.0.6 writes them, and then its policy.
    fn one_rule(policy: &str, statements: &str) -> Vec<Chain> {
        let json = format!(
            r#"{{"nftables": [
            {{"set": {{"family": "ip", "name": "open", "table": "other", "elem": [22]}}}},
            {{"set": {{"family": "inet", "name": "open", "table": "filter", "elem": [67, 69]}}}},
            {{"chain": {{"family": "inet", "table": "filter", "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "{policy}"}}}},
            {{"rule": {{"family": "inet", "table": "filter", "chain": "input", "handle": 9, "expr": [{statements}]}}}}]}}"#
        );
        chains(&json, "").expect("JSON")
    }

    #[test]
    fn what_depends_on_other_packets_may_drop_and_may_pass() {
        let may = "perhaps table inet filter, chain input: rule with handle 9";
        let port =
            r#"{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 69}}"#;
        let rate = r#"{"limit": {"rate": 20, "burst": 5, "per": "second", "inv": true}}"#;
        let set = format!(r#"{{"set": {{"op": "add", "elem": "x", "set": "@flood", "stmt": [{rate}]}}}}"#);
        let meter = format!(r#"{{"meter": {{"key": "x", "stmt": {rate}, "name": "m"}}}}"#);
        let count = r#"{"ct count": {"val": 20, "inv": true}}"#;
        for when in [rate, &set, &meter, count, r#"{"quota": {"val": 10, "val_unit": "mbytes", "inv": true}}"#] {
            let drops = one_rule("accept", &format!(r#"{port}, {when}, {{"drop": null}}"#));
            assert_eq!(
                (culprit_of(&drops, &ask(69, 17)).as_str(), culprit_of(&drops, &ask(67, 17)).as_str()),
                (may, "passes")
            );
        }
        let passes = one_rule("drop", &format!(r#"{port}, {rate}, {{"accept": null}}"#));
        assert_eq!(culprit_of(&passes, &ask(69, 17)), "perhaps table inet filter, chain input: its policy is drop");
        // What only adds to a set is no condition.
        let adds = one_rule(
            "accept",
            &format!(r#"{port}, {{"set": {{"op": "add", "elem": "x", "set": "@seen"}}}}, {{"drop": null}}"#),
        );
        assert_eq!(culprit_of(&adds, &ask(69, 17)), may.trim_start_matches("perhaps "));
    }

    #[test]
    fn a_map_of_several_values_at_once_may_apply() {
        let map = r#"{"vmap": {"key": {"concat": [{"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]},
            "data": {"set": [[{"concat": ["udp", 67]}, {"accept": null}]]}}}"#;
        assert_eq!(
            culprit_of(&one_rule("drop", map), &ask(67, 17)),
            "perhaps table inet filter, chain input: its policy is drop"
        );
        let map = map.replace("accept", "drop");
        let may = "perhaps table inet filter, chain input: rule with handle 9";
        assert_eq!(culprit_of(&one_rule("accept", &map), &ask(67, 17)), may);
    }

    #[test]
    fn conditions_of_another_protocol_are_so_for_none_of_its_packets() {
        let drops = |left: &str, right: &str| {
            let test = format!(r#"{{"match": {{"op": "!=", "left": {left}, "right": {right}}}}}, {{"drop": null}}"#);
            let chains = one_rule("accept", &test);
            [ask(69, 17), ask(8080, 6)].map(|packet| culprit_of(&chains, &packet).split(' ').next().map(str::to_owned))
        };
        let [passes, may] = ["passes", "perhaps"].map(|word| Some(word.to_owned()));
        let prefix = r#"{"prefix": {"addr": "fe80::", "len": 10}}"#;
        let of =
            |protocol: &str, field: &str| format!(r#"{{"payload": {{"protocol": "{protocol}", "field": "{field}"}}}}"#);
        assert_eq!(drops(&of("ip6", "saddr"), prefix), [passes.clone(), passes.clone()]);
        assert_eq!(drops(&of("icmpv6", "type"), r#""nd-neighbor-solicit""#), [passes.clone(), passes.clone()]);
        let flags = format!(r#"{{"&": [{}, ["fin", "syn", "rst", "ack"]]}}"#, of("tcp", "flags"));
        assert_eq!(drops(&flags, r#""syn""#), [passes.clone(), may.clone()]);
        assert_eq!(drops(r#"{"tcp option": {"name": "maxseg", "field": "size"}}"#, "5"), [passes, may.clone()]);
        // No packet of a boot is translated: what accepts such packets decides nothing.
        assert_eq!(
            drops(r#"{"ct": {"key": "status"}}"#, r#""dnat""#),
            [Some("table".to_owned()), Some("table".to_owned())]
        );
        // The kind of the sender's address is not that of the receiver's.
        let sender = r#"{"fib": {"result": "type", "flags": ["saddr"]}}"#;
        assert_eq!(drops(sender, r#""unicast""#), [may.clone(), may]);
        let receiver = sender.replace("saddr", "daddr");
        assert_eq!(drops(&receiver, r#""unicast""#), [Some("table".to_owned()), Some("table".to_owned())]);
    }

    #[test]
    fn a_set_is_that_of_its_table() {
        let open = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": "@open"}}, {"accept": null}"#;
        let chains = one_rule("drop", open);
        assert_eq!(culprit_of(&chains, &ask(69, 17)), "passes");
        assert_eq!(culprit_of(&chains, &ask(22, 17)), "table inet filter, chain input: its policy is drop");
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let json = JSON.replace(
            r#""op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth1""#,
            r#""op": "==", "left": {"meta": {"key": "hour"}}, "right": "08:00""#,
        );
        let chains = chains(&json, TEXT).expect("JSON");
        // The jump may not be taken, and then the policy drops.
        assert_eq!(culprit_of(&chains, &ask(67, 17)), "perhaps table inet filter, chain input: its policy is drop");
        assert!(super::chains("nothing", "").is_err());
        assert!(super::chains("{}", "").is_ok_and(|chains| chains.is_empty()));
    }
}
