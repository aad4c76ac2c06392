//! Other servers' words → what in them keeps machines from booting by us, told once.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::wire::Offered;
use crate::boot::rival::{Fault, Rival};

/// The rivals that were told of lately.
#[derive(Debug, Default)]
pub struct Rivals {
    told: HashMap<(Ipv4Addr, std::mem::Discriminant<Fault>), Instant>,
}

impl Rivals {
    /// How many are remembered. Who forges more servers than these within an hour is not told of: that bounds the log
    /// as well as the memory.
    pub const REMEMBERED: usize = 64;

    /// Whether it was not told of lately.
    pub fn is_news(&mut self, Rival { server, fault }: &Rival, now: Instant) -> bool {
        let rival = (*server, std::mem::discriminant(fault));
        if self.told.len() >= Self::REMEMBERED {
            self.told.retain(|_, told| now.duration_since(*told) < AGAIN);
        }
        let before = self.told.get(&rival);
        let is_news = match before {
            Some(told) => now.duration_since(*told) >= AGAIN,
            None => self.told.len() < Self::REMEMBERED,
        };
        if is_news {
            self.told.insert(rival, now);
        }
        is_news
    }
}

/// What in a message from `from` keeps machines from booting by us; `ours` are our own addresses.
#[must_use]
pub fn rivals(offered: &Offered, from: Ipv4Addr, ours: &[Ipv4Addr]) -> Vec<Rival> {
    let server = offered.server_id.unwrap_or(from);
    faults(offered, server, ours).map(|fault| Rival { server, fault }).collect()
}

fn faults(offered: &Offered, server: Ipv4Addr, ours: &[Ipv4Addr]) -> impl Iterator<Item = Fault> {
    let claims_pxe = offered.vendor_class.starts_with(b"PXEClient") || offered.vendor_class.starts_with(b"HTTPClient");
    let leases = !offered.yiaddr.is_unspecified();
    // A server on this very host has our address, but another proxy there would have kept us from port 4011: what
    // leases nothing and has our address is ourselves.
    let proxy = !leases && claims_pxe && !ours.contains(&server);
    let name = String::from_utf8_lossy(&offered.bootfile).into_owned();
    // PXE 2.1 §2.4.3: the boot file is on the server itself where siaddr says nothing.
    let holder = if offered.siaddr.is_unspecified() { server } else { offered.siaddr };
    // One that sends its clients to us is a helper: what people paste into their DHCP server where firmware hears no proxy.
    let leads_to_us = ours.contains(&holder) || ours.iter().any(|ours| name.contains(&format!("//{ours}")));
    let bootfile = leases && !name.is_empty() && !leads_to_us;
    [
        proxy.then_some(Fault::OtherProxy),
        (leases && claims_pxe).then_some(Fault::LeaseClaimsPxe),
        bootfile.then_some(Fault::LeaseNamesBootfile { name, from: holder }),
    ]
    .into_iter()
    .flatten()
}

/// A server that was not mended is told of again.
const AGAIN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::wire::tests::message;

    const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    /// An OFFER with this lease, siaddr and file.
    fn offered(lease: Ipv4Addr, siaddr: Ipv4Addr, file: &[u8], options: &[(u8, &[u8])]) -> Offered {
        let mut bytes = message(&[&[(53, [2].as_slice())], options].concat());
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&lease.octets());
        bytes[20..24].copy_from_slice(&siaddr.octets());
        bytes[108..108 + file.len()].copy_from_slice(file);
        Offered::parse(&bytes).expect("an offer")
    }

    fn told(offered: &Offered) -> Vec<Rival> {
        rivals(offered, OTHER, &[OURS])
    }

    #[test]
    fn an_ordinary_lease_our_own_offer_and_a_lease_that_leads_to_us_are_no_rivals() {
        let (none, lease) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 77));
        let pxe = (60, b"PXEClient".as_slice());
        assert_eq!(told(&offered(lease, OTHER, b"", &[(54, &OTHER.octets())])), []);
        assert_eq!(told(&offered(none, OURS, b"undionly.kpxe", &[(54, &OURS.octets()), pxe])), []);
        assert_eq!(told(&offered(lease, OURS, b"undionly.kpxe", &[(54, &OTHER.octets())])), []);
        assert_eq!(told(&offered(lease, none, b"", &[(67, b"http://192.0.2.10:8080/boot.ipxe\0")])), []);
        assert_eq!(told(&offered(none, OTHER, b"", &[(54, &OTHER.octets())])), [], "an answer to INFORM");
    }

    #[test]
    fn each_fault_is_told_with_its_server() {
        let (none, lease) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 77));
        let (id, pxe) = ((54, OTHER.octets()), (60, b"PXEClient".as_slice()));
        let rival = |fault| Rival { server: OTHER, fault };
        assert_eq!(told(&offered(none, OTHER, b"pxelinux.0", &[(id.0, &id.1), pxe])), [rival(Fault::OtherProxy)]);
        assert_eq!(told(&offered(lease, none, b"", &[pxe])), [rival(Fault::LeaseClaimsPxe)]);
        let bootfile = || rival(Fault::LeaseNamesBootfile { name: "pxelinux.0".into(), from: OTHER });
        assert_eq!(told(&offered(lease, none, b"pxelinux.0", &[])), [bootfile()]);
        assert_eq!(
            told(&offered(lease, none, b"", &[(67, b"pxelinux.0\0"), pxe])),
            [rival(Fault::LeaseClaimsPxe), bootfile()]
        );
    }

    #[test]
    fn a_rival_is_told_once_an_hour_and_forged_ones_cost_a_fixed_amount() {
        let lease = Ipv4Addr::new(192, 0, 2, 77);
        let offer = |server: Ipv4Addr| offered(lease, Ipv4Addr::UNSPECIFIED, b"x", &[(54, &server.octets())]);
        let (mut told, now) = (Rivals::default(), Instant::now());
        let mut count = |server, now| {
            rivals(&offer(server), OTHER, &[OURS]).iter().filter(|rival| told.is_news(rival, now)).count()
        };
        assert_eq!((count(OTHER, now), count(OTHER, now), count(OTHER, now + AGAIN)), (1, 0, 1));
        let forged: usize = (0..5000).map(|n| count(Ipv4Addr::from_bits(0x0a00_0000 + n), now + AGAIN)).sum();
        assert_eq!(forged, Rivals::REMEMBERED - 1);
        assert_eq!(count(OTHER, now + 2 * AGAIN), 1, "an hour later there is room again");
        assert!(told.told.len() <= Rivals::REMEMBERED);
    }
}
