//! A reply on its way.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Instant,
};

use super::reply::Reply;
use crate::net::frame::LinkAddress;

/// A reply, and where to send it.
#[derive(Debug)]
pub struct Answer {
    /// The reply.
    pub reply: Box<Reply>,
    /// The receiver.
    pub to: SocketAddrV4,
    /// Our address that it is sent from.
    pub from: Ipv4Addr,
    /// The MAC address that the request came from, if it was captured.
    pub link: Option<LinkAddress>,
    /// When to send it; none: at once.
    pub at: Option<Instant>,
}
