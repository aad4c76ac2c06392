//! `netbootd leases`: the addresses that a running server leases.

use std::{fmt::Write as _, time::SystemTime};

use http::Method;

use super::{
    client::At,
    failure::{self, EX_OSERR, Failure},
};
use crate::{
    lease::view::Standing,
    status::leases::{Lease, Leases, Network},
    timeline::{cause::rough, moment::Moment},
};

/// Show the addresses that netbootd leases itself (up --lease, or [lease] in the configuration).
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    at: At,
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failure> {
        let answer = self.at.ask(Method::GET, "/api/v1/leases", None)?;
        if self.at.json {
            return failure::print(&format!("{answer:#}\n"));
        }
        let leases: Leases = serde_json::from_value(answer)
            .map_err(|error| Failure::new(EX_OSERR, format!("the server's answer is not understood: {error}")))?;
        failure::print(&text(&leases, Moment::from(SystemTime::now())))
    }
}

fn text(leases: &Leases, now: Moment) -> String {
    if leases.networks.is_empty() {
        return "netbootd leases no addresses: start it with netbootd up --lease, or add [lease] to its configuration\n".into();
    }
    let mut text = String::new();
    for Network { name, state, why, range, addresses, in_use } in &leases.networks {
        let _ = match (state, why) {
            (Standing::Stopped, Some(why)) => writeln!(text, "{name}: no leases: {why}"),
            (Standing::Asking, _) => writeln!(text, "{name}: {range}; asking whether another DHCP server is there"),
            _ => {
                let here = leases.leases.iter().filter(|lease| lease.network == *name && !lease.ended).count();
                // Reservations, and leases of a range that was changed.
                let outside = match here.saturating_sub(*in_use as usize) {
                    0 => String::new(),
                    1 => ", and one other".to_owned(),
                    others => format!(", and {others} others"),
                };
                writeln!(text, "{name}: {range}; {in_use} of {addresses} addresses are in use{outside}")
            }
        };
    }
    if leases.leases.is_empty() {
        text.push_str("no leases yet\n");
        return text;
    }
    let _ =
        writeln!(text, "{:<15}  {:<17}  {:<16}  {:<10}  {:<8}  ENDS", "ADDRESS", "MACHINE", "NAME", "NETWORK", "STATE");
    for Lease { address, mac, name, network, state, ended, ends } in &leases.leases {
        let name = name.as_deref().unwrap_or("-");
        let ends = match ended {
            true => format!("{} ago", rough(now.since(*ends).as_secs())),
            false => format!("in {}", rough(ends.since(now).as_secs())),
        };
        let _ = writeln!(text, "{address:<15}  {mac:<17}  {name:<16}  {network:<10}  {:<8}  {ends}", state.name());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::book::Held;

    #[test]
    fn leases_are_a_table_below_their_networks() {
        let now = Moment::from_secs(1_000_000);
        let network = |name: &str, state, why: Option<&str>| Network {
            name: name.into(),
            state,
            why: why.map(str::to_owned),
            range: "192.0.2.100-192.0.2.109".into(),
            addresses: 10,
            in_use: 1,
        };
        let lease = |address: &str, name: Option<&str>, state, ended, ends| Lease {
            address: address.into(),
            mac: "52:54:00:12:34:56".into(),
            name: name.map(str::to_owned),
            network: "eth1".into(),
            state,
            ended,
            ends: Moment::from_secs(ends),
        };
        let leases = Leases {
            networks: vec![
                network("eth1", Standing::Leasing, None),
                network("eth2", Standing::Asking, None),
                network("eth3", Standing::Stopped, Some("it is not allowed")),
            ],
            leases: vec![
                lease("192.0.2.100", Some("k8s08"), Held::Leased, false, 1_000_600),
                lease("192.0.2.101", None, Held::Released, true, 999_400),
                lease("192.0.2.200", None, Held::Leased, false, 1_000_600),
            ],
        };
        assert_eq!(
            text(&leases, now),
            "eth1: 192.0.2.100-192.0.2.109; 1 of 10 addresses are in use, and one other\n\
             eth2: 192.0.2.100-192.0.2.109; asking whether another DHCP server is there\n\
             eth3: no leases: it is not allowed\n\
             ADDRESS          MACHINE            NAME              NETWORK     STATE     ENDS\n\
             192.0.2.100      52:54:00:12:34:56  k8s08             eth1        leased    in 10 min\n\
             192.0.2.101      52:54:00:12:34:56  -                 eth1        released  10 min ago\n\
             192.0.2.200      52:54:00:12:34:56  -                 eth1        leased    in 10 min\n"
        );
        assert!(text(&Leases { networks: vec![], leases: vec![] }, now).starts_with("netbootd leases no addresses"));
    }
}
