//! Transfers that were given up while their client may still come back: its next ACK gets an ERROR, so that it asks again
//! at once instead of repeating itself until its own patience ends.

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

/// The ports of such transfers, open for a while.
#[derive(Default)]
pub(super) struct Gone {
    /// In the order in which they were given up.
    ports: VecDeque<Left>,
    /// How many there were before the first of them.
    before: usize,
}

struct Left {
    port: Arc<Port>,
    peer: SocketAddrV4,
    at: Instant,
}

impl Gone {
    /// Keeps a port open; the number that its events are to bear.
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
        // The port may be in the epoll already, as its transfer's.
        let _ = epoll::delete(epoll, &port);
        if epoll::add(epoll, &port, token(number), EventFlags::IN).is_ok() {
            self.ports.push_back(Left { port, peer, at: now });
        }
    }

    /// Answers what has come to a port. One answer is enough: an error is not acknowledged (RFC 1350 §7), and a client
    /// that missed it sends its ACK again.
    pub(super) fn answer(&mut self, number: usize) {
        let left = number.checked_sub(self.before).and_then(|at| self.ports.get(at));
        let Some(Left { port, peer, .. }) = left else { return };
        let mut buffer = [0; 512];
        match port.try_receive(&mut buffer) {
            Ok(Some((datagram, from))) if from == *peer => tell_it_is_over(port, from, datagram),
            Ok(_) => {}
            Err(error) => debug!(%error, %peer, "receiving for a TFTP transfer that is over failed"),
        }
    }

    /// Closes them all: where transfers have a range of ports, those that run need them.
    pub(super) fn forget(&mut self) {
        while !self.ports.is_empty() {
            self.forget_oldest();
        }
    }

    /// Closed with it, the port leaves the epoll as well.
    fn forget_oldest(&mut self) {
        self.before += usize::from(self.ports.pop_front().is_some());
    }
}

/// An ACK is answered by ERROR 5; an ERROR never is, or two servers could go on for ever.
pub(super) fn tell_it_is_over(port: &Port, to: SocketAddrV4, datagram: &[u8]) {
    if let Ok(Packet::Ack(_)) = Packet::parse(datagram) {
        let packet = error(ErrorCode::UnknownTransferId, "this transfer is over: ask for the file again");
        if let Err(error) = port.send(to, &packet, packet.len()) {
            debug!(%error, %to, "a TFTP error could not be sent");
        }
    }
}

/// Clients whose transfer from the one port that all share has just come to its end. A late copy of their last ACK is no
/// question: the answer could meet the next request from the same port.
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

/// At once.
const KEPT: usize = 256;
/// Longer than a client waits that was given up.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// For a packet that was held up on its way.
const LATE: Duration = Duration::from_secs(5);
