//! Detects messages of other servers that stop machines from booting from netbootd. Each is reported once.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::offered::Offered;
use crate::offers::rival::{Fault, Rival};

/// The rivals that were reported recently.
#[derive(Debug, Default)]
pub struct Rivals {
    reported: HashMap<(Ipv4Addr, std::mem::Discriminant<Fault>), Instant>,
}

impl Rivals {
    /// The largest number that is remembered. If someone forges messages of more servers within an hour, the others are
    /// not reported. This limits the log and the memory.
    pub const REMEMBERED: usize = 64;

    /// Whether it was not reported recently.
    pub fn is_news(&mut self, Rival { server, fault }: &Rival, now: Instant) -> bool {
        let rival = (*server, std::mem::discriminant(fault));
        if self.reported.len() >= Self::REMEMBERED {
            self.reported.retain(|_, reported| now.duration_since(*reported) < AGAIN);
        }
        let before = self.reported.get(&rival);
        let is_news = match before {
            Some(reported) => now.duration_since(*reported) >= AGAIN,
            None => self.reported.len() < Self::REMEMBERED,
        };
        if is_news {
            self.reported.insert(rival, now);
        }
        is_news
    }
}

/// What in a message from `from` stops machines from booting from netbootd. `ours` are our own addresses, and `peers` those
/// of other appliances with the same state: one of these may lease, and is the boot server that its leases say.
#[must_use]
pub fn rivals(offered: &Offered, from: Ipv4Addr, ours: &[Ipv4Addr], peers: &[Ipv4Addr]) -> Vec<Rival> {
    let server = offered.server_id.unwrap_or(from);
    if peers.contains(&server) {
        return Vec::new();
    }
    let ours = [ours, peers].concat();
    faults(offered, server, &ours).map(|fault| Rival { server, fault }).collect()
}

fn faults(offered: &Offered, server: Ipv4Addr, ours: &[Ipv4Addr]) -> impl Iterator<Item = Fault> {
    let (claims_pxe, claims_http) =
        (offered.vendor_class.starts_with(b"PXEClient"), offered.vendor_class.starts_with(b"HTTPClient"));
    let leases = !offered.yiaddr.is_unspecified();
    // A server on this host has our address. Another proxy there would have blocked port 4011, so a message without a
    // lease from our address is our own. Behind a relay that replaces our identifier (RFC 5107), siaddr still shows it.
    let proxy = !leases && (claims_pxe || claims_http) && !ours.contains(&server) && !ours.contains(&offered.siaddr);
    let name = String::from_utf8_lossy(&offered.bootfile).into_owned();
    let named = std::str::from_utf8(&offered.tftp_server).ok().and_then(|text| text.trim().parse().ok());
    // PXE 2.1 §2.4.3: without siaddr, the boot file is on the server itself.
    let holder = Some(offered.siaddr).filter(|siaddr| !siaddr.is_unspecified()).or(named).unwrap_or(server);
    // A server that sends its clients to us helps us: this is the result of `dhcp-snippet`. Depending on the server,
    // our address is in siaddr, option 66, `sname` or option 150.
    let leads_to_us = [holder].iter().chain(&named).chain(&offered.tftp_addresses).any(|at| ours.contains(at))
        || ours.iter().any(|ours| leads_to(&name, *ours));
    let bootfile = leases && !name.is_empty() && !leads_to_us;
    // HTTP Boot takes a lease with a URI of ours only if it has this option: `dhcp-snippet` prints it. PXE ignores it.
    let claims_http = leases && claims_http && (name.is_empty() || !leads_to_us);
    [
        proxy.then_some(Fault::OtherProxy),
        (leases && claims_pxe).then_some(Fault::LeaseClaimsPxe),
        claims_http.then_some(Fault::LeaseClaimsHttp),
        bootfile.then_some(Fault::LeaseNamesBootfile { name, from: holder }),
    ]
    .into_iter()
    .flatten()
}

/// Whether the host of a URL is this address.
fn leads_to(url: &str, address: Ipv4Addr) -> bool {
    let host = url.split_once("//").map(|(_, rest)| rest.split([':', '/']).next().unwrap_or_default());
    host.is_some_and(|host| host.parse() == Ok(address))
}

/// After this time a server is reported again.
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

    fn reported(offered: &Offered) -> Vec<Rival> {
        rivals(offered, OTHER, &[OURS], &[])
    }

    #[test]
    fn leases_without_a_boot_file_our_own_offers_and_leases_with_our_boot_file_are_no_rivals() {
        let (none, lease) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 77));
        let pxe = (60, b"PXEClient".as_slice());
        assert_eq!(reported(&offered(lease, OTHER, b"", &[(54, &OTHER.octets())])), []);
        assert_eq!(reported(&offered(none, OURS, b"undionly.kpxe", &[(54, &OURS.octets()), pxe])), []);
        assert_eq!(reported(&offered(lease, OURS, b"undionly.kpxe", &[(54, &OTHER.octets())])), []);
        assert_eq!(reported(&offered(lease, none, b"", &[(67, b"http://192.0.2.10:8080/boot.ipxe\0")])), []);
        assert_eq!(reported(&offered(none, OTHER, b"", &[(54, &OTHER.octets())])), [], "an answer to INFORM");
    }

    #[test]
    fn a_lease_that_leads_to_us_by_any_of_its_options_is_no_rival() {
        let (none, lease) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 77));
        let (id, file) = ((54, OTHER.octets()), (67, b"undionly.kpxe\0".as_slice()));
        let id: (u8, &[u8]) = (id.0, &id.1);
        for siaddr in [none, OTHER] {
            for by in [
                (66, b"192.0.2.10".as_slice()),
                (66, b"192.0.2.10\0\0"),
                (150, &[192, 0, 2, 10]),
                (150, &[192, 0, 2, 9, 192, 0, 2, 10]),
            ] {
                assert_eq!(reported(&offered(lease, siaddr, b"", &[id, file, by])), [], "{siaddr} {by:?}");
            }
        }
        // Options in header fields are not a boot file or a name (option 52).
        let in_file = b"\x03\x04\xc0\0\x02\x01\xff".as_slice();
        assert_eq!(reported(&offered(lease, none, in_file, &[id, (52, &[1])])), []);
        let by_file = b"\x43\x0eundionly.kpxe\0\x42\x0a192.0.2.10\xff".as_slice();
        assert_eq!(reported(&offered(lease, none, by_file, &[id, (52, &[1])])), []);
        // If a server leads to another address, the report shows that address. An address that only starts like ours is
        // another one.
        let rival =
            |from| Rival { server: OTHER, fault: Fault::LeaseNamesBootfile { name: "undionly.kpxe".into(), from } };
        let elsewhere = Ipv4Addr::new(192, 0, 2, 100);
        assert_eq!(reported(&offered(lease, none, b"", &[id, file, (66, b"192.0.2.100")])), [rival(elsewhere)]);
        assert_eq!(reported(&offered(lease, none, b"", &[id, file, (66, b"boot.lab")])), [rival(OTHER)]);
        assert_eq!(reported(&offered(lease, none, b"\x43\x0eundionly.kpxe\0\xff", &[id, (52, &[3])])), [rival(OTHER)]);
        let url = (67, b"http://192.0.2.100:8080/boot.ipxe".as_slice());
        assert_eq!(reported(&offered(lease, none, b"", &[id, url])).len(), 1);
    }

    #[test]
    fn a_lease_for_http_boot_with_our_uri_is_no_rival_and_one_without_it_is() {
        let (lease, http) = (Ipv4Addr::new(192, 0, 2, 77), (60, b"HTTPClient".as_slice()));
        let (none, claims) = (Ipv4Addr::UNSPECIFIED, Rival { server: OTHER, fault: Fault::LeaseClaimsHttp });
        let ours = (67, b"http://192.0.2.10:8080/loaders/snponly.efi".as_slice());
        assert_eq!(reported(&offered(lease, none, b"", &[http, ours])), [], "as dhcp-snippet prints it");
        let named = (67, b"http://boot.lab:8080/loaders/snponly.efi".as_slice());
        assert_eq!(reported(&offered(lease, OURS, b"", &[http, named])), [], "a name, and our address as next server");
        for siaddr in [none, OURS] {
            assert_eq!(reported(&offered(lease, siaddr, b"", &[http])), std::slice::from_ref(&claims), "no URI");
        }
        let elsewhere = (67, b"http://192.0.2.100/x.efi".as_slice());
        let faults = reported(&offered(lease, none, b"", &[http, elsewhere]));
        assert_eq!(faults.first(), Some(&claims));
        assert!(matches!(faults.get(1), Some(Rival { fault: Fault::LeaseNamesBootfile { .. }, .. })), "{faults:?}");
        let text = claims.to_string();
        assert!(text.contains("option 60 (HTTPClient)") && text.contains("netbootd dhcp-snippet"), "{text}");
        let proxy = Rival { server: OTHER, fault: Fault::OtherProxy };
        assert_eq!(reported(&offered(none, OTHER, b"", &[http])), [proxy]);
    }

    #[test]
    fn our_own_offer_through_a_relay_with_its_own_identifier_is_no_rival() {
        let relay = Ipv4Addr::new(198, 51, 100, 1);
        let options: &[(u8, &[u8])] = &[(54, &relay.octets()), (60, b"PXEClient")];
        assert_eq!(reported(&offered(Ipv4Addr::UNSPECIFIED, OURS, b"undionly.kpxe", options)), []);
    }

    #[test]
    fn each_fault_is_reported_with_its_server() {
        let (none, lease) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 77));
        let (id, pxe) = ((54, OTHER.octets()), (60, b"PXEClient".as_slice()));
        let rival = |fault| Rival { server: OTHER, fault };
        assert_eq!(reported(&offered(none, OTHER, b"pxelinux.0", &[(id.0, &id.1), pxe])), [rival(Fault::OtherProxy)]);
        assert_eq!(reported(&offered(lease, none, b"", &[pxe])), [rival(Fault::LeaseClaimsPxe)]);
        let bootfile = || rival(Fault::LeaseNamesBootfile { name: "pxelinux.0".into(), from: OTHER });
        assert_eq!(reported(&offered(lease, none, b"pxelinux.0", &[])), [bootfile()]);
        let of_a_peer = rivals(&offered(lease, none, b"", &[pxe]), OTHER, &[OURS], &[OTHER]);
        assert_eq!(of_a_peer, [], "another appliance that leases is the boot server that it says");
        assert_eq!(
            reported(&offered(lease, none, b"", &[(67, b"pxelinux.0\0"), pxe])),
            [rival(Fault::LeaseClaimsPxe), bootfile()]
        );
    }

    #[test]
    fn a_rival_is_reported_once_an_hour_and_memory_is_limited() {
        let lease = Ipv4Addr::new(192, 0, 2, 77);
        let offer = |server: Ipv4Addr| offered(lease, Ipv4Addr::UNSPECIFIED, b"x", &[(54, &server.octets())]);
        let (mut reported, now) = (Rivals::default(), Instant::now());
        let mut count = |server, now| {
            rivals(&offer(server), OTHER, &[OURS], &[]).iter().filter(|rival| reported.is_news(rival, now)).count()
        };
        assert_eq!((count(OTHER, now), count(OTHER, now), count(OTHER, now + AGAIN)), (1, 0, 1));
        let forged: usize = (0..5000).map(|n| count(Ipv4Addr::from_bits(0x0a00_0000 + n), now + AGAIN)).sum();
        assert_eq!(forged, Rivals::REMEMBERED - 1);
        assert_eq!(count(OTHER, now + 2 * AGAIN), 1, "an hour later there is room again");
        assert!(reported.reported.len() <= Rivals::REMEMBERED);
    }
}
