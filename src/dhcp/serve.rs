//! The loop: receive, decide, send, report.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    delayed::Delayed,
    destination::destination,
    proxy::{Action, Deciding, Here, Port, answer},
    reply::Reply,
    request::{Kind, Request},
    transport::{Incoming, Outgoing, Transport},
};
use crate::{
    boot::{
        client::{Client, Speaks},
        machine::Live,
        reason::Reason,
    },
    net::{frame::LinkAddress, interface::Interface},
    offers::attempts::Attempts,
    timeline::event::{Discover, Event, What, Who, count_lost},
};

/// Our addresses on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// This server, as clients there see it.
    pub here: Here,
    /// The interface, with all our addresses there.
    pub on: Interface,
}

/// The part of the DHCP server for one socket.
pub struct Listener {
    /// The socket, pinned to its interface.
    pub transport: Transport,
    /// The port that it listens on.
    pub port: Port,
    /// Our addresses as clients see them, until they change.
    pub place: watch::Receiver<Place>,
    /// The data for decisions.
    pub live: Arc<Live>,
    /// What machines tried recently.
    pub attempts: Arc<Mutex<Attempts>>,
    /// The event queue. If it is full, events are dropped, so that offers are not delayed.
    pub events: tokio::sync::mpsc::Sender<Event>,
}

impl Listener {
    /// Answers until `stop`.
    ///
    /// No error ends it: wrong messages are refused with a reason, and network errors (an interface goes down, a host
    /// is unreachable) pass.
    pub async fn serve(self, stop: CancellationToken) {
        let (mut answers, mut delayed) = (Vec::new(), Delayed::default());
        loop {
            let place = self.place.borrow().clone();
            let received = tokio::select! {
                received = self.transport.receive(|incoming| answers.extend(self.guarded(incoming, &place))) => received,
                () = until(delayed.next()) => Ok(()),
                () = stop.cancelled() => return,
            };
            if let Err(error) = received {
                warn!(%error, port = ?self.port, "cannot receive DHCP packets");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            for answer in answers.drain(..) {
                let answer = match answer.at {
                    Some(at) => delayed.put(at, answer),
                    None => Some(answer),
                };
                if let Some(answer) = answer {
                    self.send(answer).await;
                }
            }
            if delayed.next().is_some() {
                for answer in delayed.due(Instant::now()) {
                    self.send(answer).await;
                }
            }
        }
    }

    /// A panic, which no packet should cause, loses the reply to one packet only.
    fn guarded(&self, incoming: Incoming<'_>, place: &Place) -> Option<Answer> {
        catch_unwind(AssertUnwindSafe(|| self.handle(incoming, place))).unwrap_or_default()
    }

    fn handle(&self, incoming: Incoming<'_>, place: &Place) -> Option<Answer> {
        let Incoming { datagram, link } = incoming;
        // For a bound socket the kernel checks this. A capture also sees packets that a router forwards to other
        // servers.
        let is_ours = |to: Ipv4Addr| place.on.addresses.contains(&to);
        if link.is_some_and(|link| !link.was_broadcast) && !datagram.to.is_some_and(is_ours) {
            return None;
        }
        let request = Request::parse(datagram.bytes).inspect_err(|why| self.ignored(why, datagram.from)).ok()?;
        let now = Instant::now();
        let (who, action) = {
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            let rules = self.live.rules.load();
            let deciding = Deciding { rules: &rules, roster: &self.live.roster.load() };
            let action = answer(&request, self.port, &place.here, deciding, &mut attempts, now);
            let client = request.client().ok().filter(|_| !matches!(action, Action::Ignore(_)));
            let machine = client.map(|client| {
                let client = Client { interface: Some(place.here.interface.clone()), ..client };
                rules.identity(&client.facts())
            });
            (machine.map_or_else(|| request.mac.into(), Who::Machine), action)
        };
        if !matches!(action, Action::Ignore(_)) {
            self.tell(who, What::Packet { port: self.port.number(), bytes: datagram.bytes.into() });
        }
        match action {
            Action::Reply { reply, client, offer, learned, own, delay } => {
                self.live.heard().asked(&client);
                self.learn_address(&request, place);
                if let Some(shape) = learned {
                    self.tell(who, What::TookOffer(shape));
                }
                match (self.port, request.kind) {
                    (Port::Dhcp, Kind::Discover) => {
                        let is_ipxe = matches!(client.speaks, Speaks::Ipxe { .. });
                        let is_http_boot = client.speaks == Speaks::HttpBoot;
                        let discover =
                            Discover { client: client.to_string(), is_ipxe, is_http_boot, secs: request.secs };
                        self.tell(who, What::Discover(discover));
                        own.into_iter().for_each(|own| self.tell(who, What::Own(own)));
                        self.tell(who, What::Offer(offer));
                    }
                    _ => self.tell(who, What::BootServer(offer)),
                }
                // A unicast is answered from the address that it was sent to; a broadcast from our main address.
                let from = datagram.to.filter(|to| is_ours(*to)).unwrap_or(place.here.address);
                let to = destination(&request, datagram.from, self.port);
                let at = (!delay.is_zero()).then(|| now + delay);
                Some(Answer { reply, to, from, link: link.map(|link| link.from), at })
            }
            Action::Refuse(why) => {
                self.tell(who, What::Refused(why));
                None
            }
            Action::Ignore(why) => {
                self.learn_address(&request, place);
                self.ignored(&why, datagram.from);
                None
            }
        }
    }

    /// TFTP and HTTP know a machine only by its address. A boot client shows its address when it asks port 4011, and in
    /// the broadcast that accepts its lease (RFC 2131 §4.3.2). Old Raspberry Pis send this without their vendor class.
    fn learn_address(&self, request: &Request, place: &Place) {
        let taken = request.requested.filter(|_| request.kind == Kind::Request);
        let held = Some(request.ciaddr).filter(|address| !address.is_unspecified());
        if let Some(address) = held.or(taken).filter(|_| request.client().is_ok() || self.has_just_asked(request)) {
            self.live.heard().took(request.mac, address);
            self.tell(Who::from(request.mac), What::Address(address));
            // It was given an address of another network: by a server that answers in the wrong VLAN, or to which a switch
            // port belongs that carries two.
            let is_local = request.giaddr.is_unspecified() && !place.on.networks.is_empty();
            if is_local && !place.on.reaches(address) {
                let heard_on = place.here.interface.to_string();
                self.tell(Who::from(request.mac), What::OtherNetwork { address, heard_on });
            }
        }
    }

    fn has_just_asked(&self, request: &Request) -> bool {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.has_just_asked(request.mac, Instant::now())
    }

    async fn send(&self, Answer { reply, to, from, link, .. }: Answer) {
        let bytes = match reply.encode() {
            Ok(bytes) => bytes,
            Err(error) => return warn!(%error, xid = reply.xid, "cannot encode a DHCP reply"),
        };
        let port = self.port.number();
        if let Err(error) =
            self.transport.send(Outgoing { from: SocketAddrV4::new(from, port), to, link, bytes: &bytes }).await
        {
            warn!(%error, xid = reply.xid, %to, "cannot send a DHCP reply");
        }
    }

    fn ignored(&self, why: &Reason, from: SocketAddrV4) {
        debug!(reason = why.label(), %from, port = ?self.port, "no reply: {why}");
    }

    fn tell(&self, who: Who, what: What) {
        if self.events.try_send(Event { who, what }).is_err() {
            count_lost();
            debug!("an event was dropped: the event queue is full");
        }
    }
}

/// A reply, and where to send it.
struct Answer {
    reply: Box<Reply>,
    to: SocketAddrV4,
    from: Ipv4Addr,
    link: Option<LinkAddress>,
    /// When to send it; none: at once.
    at: Option<Instant>,
}

/// Waits until a time, or without end.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// An interface that is down gives the same error again and again. Wait before the next try.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
