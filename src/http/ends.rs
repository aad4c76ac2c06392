//! Both ends of a connection.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Both ends of the connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The client's.
    pub peer: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

pub(super) fn ipv4(address: SocketAddr) -> Option<Ipv4Addr> {
    match address {
        SocketAddr::V4(address) => Some(*SocketAddrV4::ip(&address)),
        SocketAddr::V6(_) => None,
    }
}
