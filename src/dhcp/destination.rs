//! The destination of a reply (RFC 2131 §4.1).

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{proxy::Port, relay_agent, request::Request};

/// The port that DHCP clients listen on.
const CLIENT: u16 = 68;
/// The port that relays listen on.
const SERVER: u16 = 67;

/// The destination of the reply to this request.
///
/// A proxy does not know the address that a client will get, and cannot send a unicast to a card without an address. So
/// such a reply is broadcast on the client's network.
#[must_use]
pub fn destination(request: &Request, from: SocketAddrV4, port: Port) -> SocketAddrV4 {
    let sender = Some(from).filter(|from| !from.ip().is_unspecified());
    match (port, sender) {
        // EDK2 asks from port 4011 and listens there; ROMs and iPXE use 68. So the reply goes back to the sender. A
        // client that got its lease through a relay asks directly, and can still have the relay in its header.
        (Port::BootServer, Some(from)) if *from.ip() != request.giaddr => from,
        _ if !request.giaddr.is_unspecified() => SocketAddrV4::new(request.giaddr, relay_port(request, from)),
        (Port::Dhcp, _) if !request.ciaddr.is_unspecified() && !request.broadcast => {
            SocketAddrV4::new(request.ciaddr, CLIENT)
        }
        _ => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT),
    }
}

/// RFC 2131 §4.1; or, if the relay says so, the port that it sent from (RFC 8357 §4.1).
fn relay_port(request: &Request, from: SocketAddrV4) -> u16 {
    if relay_agent::has_own_port(&request.relay_agent) { from.port() } else { SERVER }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::wire::tests::message;

    #[test]
    fn relays_get_a_unicast_clients_on_port_4011_their_own_port_others_a_broadcast() {
        let request = Request::parse(&message(&[(53, &[1])])).expect("a request");
        let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let edk2 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 77), 4011);
        let broadcast = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
        assert_eq!(destination(&request, nowhere, Port::Dhcp), broadcast);
        assert_eq!(destination(&request, edk2, Port::BootServer), edk2);
        assert_eq!(destination(&request, nowhere, Port::BootServer), broadcast);
        let relay = Ipv4Addr::new(198, 51, 100, 1);
        let relayed = Request { giaddr: relay, ..request.clone() };
        assert_eq!(destination(&relayed, nowhere, Port::Dhcp), SocketAddrV4::new(relay, 67));
        // RFC 8357: to the port that the relay chose, wherever the option is.
        let its_port = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 9), 54_321);
        for agent in [&b"\x13\0"[..], b"\x01\x04eth7\x13\0"] {
            let relayed = Request { relay_agent: agent.to_vec(), ..relayed.clone() };
            assert_eq!(destination(&relayed, its_port, Port::Dhcp), SocketAddrV4::new(relay, 54_321));
        }
        let circuit = Request { relay_agent: b"\x01\x04eth7".to_vec(), ..relayed.clone() };
        assert_eq!(destination(&circuit, its_port, Port::Dhcp), SocketAddrV4::new(relay, 67));
        // Port 4011: a client behind a relay asks directly. Only if the relay forwards its request, the reply goes to
        // the relay.
        assert_eq!(destination(&relayed, edk2, Port::BootServer), edk2);
        let by_relay = SocketAddrV4::new(relay, 67);
        assert_eq!(destination(&relayed, by_relay, Port::BootServer), by_relay);
        assert_eq!(destination(&relayed, nowhere, Port::BootServer), by_relay);
        let informing = Request { ciaddr: *edk2.ip(), broadcast: false, ..request };
        assert_eq!(destination(&informing, edk2, Port::Dhcp), SocketAddrV4::new(*edk2.ip(), 68));
    }
}
