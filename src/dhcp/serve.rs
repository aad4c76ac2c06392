//! The loop: receive, decide, send, tell.

use std::{net::Ipv4Addr, net::SocketAddrV4, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    destination::destination,
    proxy::{Action, Here, Port, answer},
    wire::{Kind, Reply, Request},
};
use crate::{
    boot::{
        machine::Rules,
        timeline::{Event, What, Who},
        why::Why,
    },
    net::udp::{Datagram, Endpoint, Outgoing},
};

/// One socket's share of the stage.
pub struct Listener {
    /// The socket, pinned to its interface.
    pub endpoint: Endpoint,
    /// Which port it listens on.
    pub port: Port,
    /// Ourselves as its clients see us.
    pub here: Here,
    /// What decides.
    pub rules: Arc<Rules>,
    /// Where events go; a full queue drops them rather than delay an offer.
    pub events: tokio::sync::mpsc::Sender<Event>,
}

impl Listener {
    /// Answers until `stop`.
    ///
    /// No error ends it: what a stranger can send is refused with a reason, and what the network does (an interface
    /// that goes down, a host that is unreachable) passes.
    pub async fn serve(self, stop: CancellationToken) {
        let mut answers = Vec::new();
        loop {
            let received = tokio::select! {
                received = self.endpoint.receive(|datagram| answers.extend(self.handle(datagram))) => received,
                () = stop.cancelled() => return,
            };
            if let Err(error) = received {
                warn!(%error, port = ?self.port, "receiving DHCP failed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            for (reply, to, from) in answers.drain(..) {
                self.send(&reply, to, from).await;
            }
        }
    }

    fn handle(&self, datagram: Datagram<'_>) -> Option<(Box<Reply>, SocketAddrV4, Ipv4Addr)> {
        let request = Request::parse(datagram.bytes).inspect_err(|why| self.ignored(why, datagram.from)).ok()?;
        let who = Who::Machine(request.mac);
        match answer(&request, self.port, &self.here, &self.rules) {
            Action::Reply { reply, client, offer } => {
                self.learn_address(&request);
                match (self.port, request.kind) {
                    (Port::Dhcp, Kind::Discover) => {
                        self.tell(who, What::Discover(client));
                        self.tell(who, What::Offer(offer));
                    }
                    _ => self.tell(who, What::BootServer(offer)),
                }
                // Asked by unicast, answer from that very address; a broadcast, from the one that we announce.
                let asked = datagram.to.filter(|to| !to.is_broadcast() && !to.is_multicast());
                let to = destination(&request, datagram.from, self.port);
                Some((reply, to, asked.unwrap_or(self.here.address)))
            }
            Action::Refuse(why) => {
                self.tell(who, What::Refused(why));
                None
            }
            Action::Ignore(why) => {
                self.learn_address(&request);
                self.ignored(&why, datagram.from);
                None
            }
        }
    }

    /// TFTP and HTTP know a machine by its address only. A boot client tells us its address when it asks port 4011,
    /// and the whole network when it takes up its lease (RFC 2131 §4.3.2: by a broadcast).
    fn learn_address(&self, request: &Request) {
        let taken = request.requested.filter(|_| request.kind == Kind::Request);
        let held = Some(request.ciaddr).filter(|address| !address.is_unspecified());
        if let Some(address) = held.or(taken).filter(|_| request.client().is_ok()) {
            self.tell(Who::Machine(request.mac), What::Address(address));
        }
    }

    async fn send(&self, reply: &Reply, to: SocketAddrV4, from: Ipv4Addr) {
        let bytes = match reply.encode() {
            Ok(bytes) => bytes,
            Err(error) => return warn!(%error, mac = %reply.mac, "a DHCP reply could not be encoded"),
        };
        let out = Outgoing { to, from: Some(from), bytes: &bytes };
        if let Err(error) = self.endpoint.send(out).await {
            warn!(%error, mac = %reply.mac, %to, "a DHCP reply could not be sent");
        }
    }

    fn ignored(&self, why: &Why, from: SocketAddrV4) {
        debug!(reason = why.label(), %from, port = ?self.port, "no answer: {why}");
    }

    fn tell(&self, who: Who, what: What) {
        if self.events.try_send(Event { who, what }).is_err() {
            debug!("an event was dropped: the recorder is behind");
        }
    }
}

/// Errors of a socket come in streams while an interface is away.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
