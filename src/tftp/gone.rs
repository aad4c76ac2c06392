//! Transfers that were given up, but whose client may come back. Its next ACK gets an ERROR. So it asks again at once
//! and does not repeat the ACK until its own timeout.

use std::{
    collections::VecDeque,
    net::SocketAddrV4,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::epoll::{self, EventFlags};
use tracing::debug;

use super::{
    packet::{ErrorCode, Packet, error},
    running::Client,
};
use crate::{boot::recent::Recent, net::port::Port};

/// The ports of such transfers. They stay open for a while.
#[derive(Default)]
pub(super) struct Gone {
    /// In the order in which they were given up.
    ports: VecDeque<Left>,
    /// How many were removed before the first of them.
    before: usize,
}

struct Left {
    port: Arc<Port>,
    peer: SocketAddrV4,
    at: Instant,
}

impl Gone {
    /// Keeps a port open. Returns the number for its events.
    pub(super) fn keep(
        &mut self,
        port: Arc<Port>,
        peer: SocketAddrV4,
        now: Instant,
        epoll: &OwnedFd,
        token: EventToken,
    ) {
        while self.ports.len() >= KEPT
            || self.ports.front().is_some_and(|left| now.saturating_duration_since(left.at) > KEPT_FOR)
        {
            self.forget_oldest();
        }
        let number = self.before + self.ports.len();
        // The port may still be in the epoll, as that of its transfer.
        let _ = epoll::delete(epoll, &port);
        if epoll::add(epoll, &port, token(number), EventFlags::IN).is_ok() {
            self.ports.push_back(Left { port, peer, at: now });
        }
    }

    /// Answers the packets of a port. One reply is enough: an error is not acknowledged (RFC 1350 §7), and a client
    /// that missed it sends its ACK again.
    pub(super) fn answer(&mut self, number: usize) {
        let left = number.checked_sub(self.before).and_then(|at| self.ports.get(at));
        let Some(Left { port, peer, .. }) = left else { return };
        let mut buffer = [0; 512];
        match port.try_receive(&mut buffer) {
            Ok(Some((datagram, from))) if from == *peer => tell_it_is_over(port, from, datagram),
            Ok(_) => {}
            Err(error) => debug!(%error, %peer, "cannot receive packets of a TFTP transfer that has ended"),
        }
    }

    /// Closes them all: if transfers use a range of ports, running transfers need them.
    pub(super) fn forget(&mut self) {
        while !self.ports.is_empty() {
            self.forget_oldest();
        }
    }

    /// A closed port also leaves the epoll.
    fn forget_oldest(&mut self) {
        self.before += usize::from(self.ports.pop_front().is_some());
    }
}

/// An ACK gets ERROR 5. An ERROR gets no reply, because two servers could answer each other without end.
pub(super) fn tell_it_is_over(port: &Port, to: SocketAddrV4, datagram: &[u8]) {
    if let Ok(Packet::Ack(_)) = Packet::parse(datagram) {
        let packet = error(ErrorCode::UnknownTransferId, "this transfer has ended: ask for the file again");
        if let Err(error) = port.send(to, &packet, packet.len()) {
            debug!(%error, %to, "cannot send a TFTP error");
        }
    }
}

/// Clients whose transfer on the shared port just ended. A late copy of their last ACK gets no reply: the reply could
/// disturb the next request from the same port.
pub(super) struct Ended(Recent<Client, Instant>);

impl Default for Ended {
    fn default() -> Self {
        Self(Recent::new(KEPT))
    }
}

impl Ended {
    pub(super) fn remember(&mut self, client: Client, now: Instant) {
        self.0.insert(client, now);
    }

    pub(super) fn is_recent(&self, client: Client, now: Instant) -> bool {
        self.0.peek(&client).is_some_and(|at| now.saturating_duration_since(*at) < LATE)
    }
}

/// Makes the token of a number.
pub(super) type EventToken = fn(usize) -> epoll::EventData;

/// A reply without delay.
const KEPT: usize = 256;
/// Longer than the timeout of a client.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// For a delayed packet.
const LATE: Duration = Duration::from_secs(5);
