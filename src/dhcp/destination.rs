//! Where an answer goes (RFC 2131 §4.1).

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{proxy::Port, wire::Request};

/// The port that DHCP clients listen on.
const CLIENT: u16 = 68;
/// The port that relays listen on.
const SERVER: u16 = 67;

/// The address that hears the answer to this request.
///
/// A proxy knows no address of a client that is still looking for one, and cannot unicast to a card that has none:
/// such an answer is broadcast on the client's own network.
#[must_use]
pub fn destination(request: &Request, from: SocketAddrV4, port: Port) -> SocketAddrV4 {
    if !request.giaddr.is_unspecified() {
        return SocketAddrV4::new(request.giaddr, SERVER);
    }
    match port {
        // EDK2 asks from port 4011 and listens there, ROMs and iPXE from 68: back to where it came from.
        Port::BootServer if !from.ip().is_unspecified() => from,
        Port::Dhcp if !request.ciaddr.is_unspecified() && !request.broadcast => {
            SocketAddrV4::new(request.ciaddr, CLIENT)
        }
        Port::Dhcp | Port::BootServer => SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::wire::tests::message;

    #[test]
    fn relays_get_unicast_boot_server_clients_their_own_port_and_the_rest_a_broadcast() {
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
        let informing = Request { ciaddr: *edk2.ip(), broadcast: false, ..request };
        assert_eq!(destination(&informing, edk2, Port::Dhcp), SocketAddrV4::new(*edk2.ip(), 68));
    }
}
