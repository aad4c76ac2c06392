//! The loop: receive, decide, send, report.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    answer::Answer,
    delayed::Delayed,
    destination::destination,
    lease::Step,
    lessor::{self, Lease, Lessor, Ours, plain},
    proxy::{Action, Deciding, Here, Port, answer, answer_as},
    reply::{Reply, ReplyKind},
    request::{Kind, Request},
    standby::Standby,
    transport::{Incoming, Link, Outgoing, Transport},
    wire::Hardware,
};
use crate::{
    boot::{
        client::{Client, Speaks},
        live::Live,
        mac::MacAddr,
        reason::Reason,
    },
    net::{interface::Interface, udp::Datagram},
    offers::attempts::Attempts,
    timeline::event::{self, AddressOffer, Discover, Event, What, Who, count_lost},
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
    /// Leases addresses, and the replies whose lease is stored.
    pub lessor: Option<(Lessor, mpsc::UnboundedReceiver<Answer>)>,
    /// Machines that another server may answer.
    pub standby: Arc<Mutex<Standby>>,
}

impl Listener {
    /// Answers until `stop`.
    ///
    /// No error ends it: wrong messages are refused with a reason, and network errors (an interface goes down, a host
    /// is unreachable) pass.
    pub async fn serve(mut self, stop: CancellationToken) {
        let (lessor, stored) = self.lessor.take().unzip();
        let (serving, mut stored) =
            (Serving { listener: self, lessor, told_of_hardware: AtomicBool::new(false) }, stored);
        let (mut answers, mut delayed) = (Vec::new(), Delayed::default());
        loop {
            let received = tokio::select! {
                received = serving.listener.transport.receive(|incoming| answers.extend(serving.guarded(incoming, None))) => received,
                () = until(delayed.next()) => Ok(()),
                () = until(serving.lessor.as_ref().and_then(Lessor::next)) => Ok(()),
                answer = next(&mut stored) => {
                    answers.push(answer);
                    answers.extend(std::iter::from_fn(|| stored.as_mut()?.try_recv().ok()));
                    Ok(())
                }
                asked = in_use(serving.lessor.as_ref()) => asked.map(|asked| {
                    answers.extend(asked.iter().filter_map(|asked| serving.guarded(incoming(asked), None)));
                }),
                () = stop.cancelled() => return,
            };
            if let Some(lessor) = &serving.lessor {
                lessor.try_addresses().await;
                let due = lessor.due(Instant::now());
                answers.extend(due.iter().filter_map(|asked| serving.guarded(incoming(asked), Some(&asked.lease))));
            }
            if let Err(error) = received {
                warn!(%error, port = ?serving.listener.port, "cannot receive DHCP packets");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            for answer in answers.drain(..) {
                let answer = match answer.at {
                    Some(at) => delayed.put(at, answer),
                    None => Some(answer),
                };
                if let Some(answer) = answer {
                    serving.send(answer).await;
                }
            }
            if delayed.next().is_some() {
                for answer in delayed.due(Instant::now()) {
                    serving.send(answer).await;
                }
            }
        }
    }
}

/// A listener at work.
struct Serving {
    listener: Listener,
    lessor: Option<Lessor>,
    /// It was logged that a boot client has no address that it could be known by.
    told_of_hardware: AtomicBool,
}

impl Deref for Serving {
    type Target = Listener;

    fn deref(&self) -> &Listener {
        &self.listener
    }
}

impl Serving {
    /// A panic, which no packet should cause, loses the reply to one packet only.
    fn guarded(&self, incoming: Incoming<'_>, tried: Option<&Lease>) -> Option<Answer> {
        // Looked at for each packet: an address may have changed since the wait for it began.
        let place = self.place.borrow();
        catch_unwind(AssertUnwindSafe(|| self.handle(incoming, tried, &place))).unwrap_or_default()
    }

    /// `tried`: the lease of a request that waited, and whose address nobody uses.
    fn handle(&self, incoming: Incoming<'_>, tried: Option<&Lease>, place: &Place) -> Option<Answer> {
        let Incoming { datagram, link } = incoming;
        // For a bound socket the kernel checks this. A capture also sees packets that a router forwards to other
        // servers.
        let is_ours = |to: Ipv4Addr| place.on.addresses.contains(&to);
        if link.is_some_and(|link| !link.was_broadcast) && !datagram.to.is_some_and(is_ours) {
            return None;
        }
        let request = Request::parse(datagram.bytes).inspect_err(|why| self.unreadable(why, datagram, place)).ok()?;
        let now = Instant::now();
        let lease = match self.lease(&request, incoming, tried, place) {
            Leased::No => None,
            Leased::Answered(answer) => return answer,
            Leased::Yes(lease) => Some(lease),
        };
        let standby_delay = match lease {
            // Who leases answers at once.
            Some(_) => Duration::ZERO,
            None => self.standby_delay(&request, now)?,
        };
        let action = {
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            let rules = self.live.rules.load();
            let deciding = Deciding { rules: &rules, roster: &self.live.roster.load() };
            let kind = match lease.as_ref().map(|lease| &lease.step) {
                None => None,
                Some(Step::Offer(_)) => Some(ReplyKind::Offer),
                Some(_) => Some(ReplyKind::Ack),
            };
            match kind {
                None => answer(&request, self.port, &place.here, deciding, &mut attempts, now),
                Some(kind) => answer_as(&request, kind, &place.here, deciding, &mut attempts, now),
            }
        };
        let mut seen = event::Request::new(self.port.number(), datagram.bytes);
        match action {
            Action::Reply { mut reply, client, machine, mut offer, learned, own, delay, was_offered_loader } => {
                let who = Who::Machine(machine);
                if let (Some(lease), Some(lessor)) = (&lease, &self.lessor) {
                    lessor.boots(&client);
                    add_lease(&mut reply, lease, &request, &client);
                    offer += &lease.words();
                    let server = place.here.address;
                    seen.offered = lease.offers().map(|address| AddressOffer { address, server });
                }
                self.live.heard().asked(&client);
                seen.address = self.address(&request);
                if let Some(shape) = learned {
                    self.tell(who, What::TookOffer(shape));
                }
                if (self.port, request.kind) == (Port::Dhcp, Kind::Discover) {
                    let is_ipxe = matches!(client.speaks, Speaks::Ipxe { .. });
                    let is_http_boot = client.speaks == Speaks::HttpBoot;
                    let (client, secs) = (client.to_string(), request.secs);
                    seen.discover = Some(Discover { client, is_ipxe, is_http_boot, secs, was_offered_loader });
                    (seen.own, seen.offer) = (own, Some(offer));
                } else if lease.is_none() {
                    seen.offer = Some(offer);
                }
                let address = seen.address;
                self.tell(who, What::Request(Box::new(seen)));
                if !lease.as_ref().is_some_and(|lease| lease.is_behind_router(&place.here.interface)) {
                    self.tell_other_network(&request, address, place);
                }
                // A unicast is answered from the address that it was sent to; a broadcast from our main address.
                let from = datagram.to.filter(|to| is_ours(*to)).unwrap_or(place.here.address);
                let to = destination(&request, datagram.from, self.port);
                let delay = delay.max(standby_delay);
                let at = (!delay.is_zero()).then(|| now + delay);
                let answer = Answer { reply, to, from, link: link.map(|link| link.from), at };
                self.release(lease.as_ref(), answer)
            }
            Action::Refuse(machine, why) => {
                if let (Some(lease), Some(lessor)) = (&lease, &self.lessor) {
                    lessor.refuses(&request, lease);
                }
                let who = Who::Machine(machine);
                self.tell(who, What::Request(Box::new(seen)));
                match request.client() {
                    Ok(client) => {
                        // Another server can name `netboot` for all machines, and this one asks for it.
                        self.live.heard().asked(&client);
                        self.tell_refused(who, why, &client);
                    }
                    Err(_) => self.tell(who, What::Refused(why)),
                }
                None
            }
            Action::Ignore(why) => {
                if let Some(client) = request.booting() {
                    self.live.heard().asked(&client);
                }
                let learned = self.learn_address(&request);
                self.tell_other_network(&request, learned, place);
                self.ignored(&why, datagram);
                None
            }
        }
    }

    /// What the leases say about a request. A client that is no boot client is answered here.
    fn lease(&self, request: &Request, incoming: Incoming<'_>, tried: Option<&Lease>, place: &Place) -> Leased {
        let Incoming { datagram, link } = incoming;
        let Some(lessor) = self.lessor.as_ref().filter(|_| self.port == Port::Dhcp) else { return Leased::No };
        let (address, rules) = (place.here.address, self.live.rules.load_full());
        let from = datagram.to.filter(|to| place.on.addresses.contains(to)).unwrap_or(address);
        let answer = |reply: Box<Reply>, to| Answer { reply, to, from, link: link.map(|link| link.from), at: None };
        if let Some(twin) = lessor.twin(request, address) {
            let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
            return Leased::Answered(twin.map(|reply| answer(reply, to)));
        }
        let client = request.client().ok();
        let client = client.map(|client| Client { interface: Some(place.here.interface.clone()), ..client });
        let ours = Ours { addresses: &place.on.addresses, address, to: datagram.to };
        let lease = tried.cloned().or_else(|| lessor.lease(request, client.as_ref(), ours, &rules));
        let Some(lease) = lease else { return Leased::No };
        if tried.is_none() && lessor.waits(&lease, request, asked(incoming)) {
            return Leased::Answered(None);
        }
        let kind = match &lease.step {
            Step::Silence(why) => {
                match (why, &client) {
                    (Reason::LeasesFull(_), Some(client)) => self.tell_refused(request.mac.into(), why.clone(), client),
                    _ => self.ignored(why, datagram),
                }
                return Leased::Answered(None);
            }
            Step::Changed(_) => return Leased::Answered(None),
            Step::Nak(why) => {
                debug!(card = %request.mac, "refused a lease: {why}");
                let reply = Box::new(plain(request, ReplyKind::Nak, address, None));
                // The client's address is wrong, so only a broadcast reaches it.
                let asking = Request { ciaddr: Ipv4Addr::UNSPECIFIED, ..request.clone() };
                let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, datagram.from.port());
                return Leased::Answered(Some(answer(reply, destination(&asking, nowhere, self.port))));
            }
            _ if client.is_some() => return Leased::Yes(lease),
            Step::Offer(_) => ReplyKind::Offer,
            _ => ReplyKind::Ack,
        };
        // What a machine boots is installed with this address.
        let learned = self.learn_address(request);
        if !lease.is_behind_router(&place.here.interface) {
            self.tell_other_network(request, learned, place);
        }
        let reply = Box::new(plain(request, kind, address, lease.options(request)));
        let answer = answer(reply, destination(request, datagram.from, self.port));
        Leased::Answered(self.release(Some(&lease), answer))
    }

    /// The reply, or none if it waits for its lease.
    fn release(&self, lease: Option<&Lease>, answer: Answer) -> Option<Answer> {
        let (Some(lessor), Some(lease)) = (&self.lessor, lease) else { return Some(answer) };
        lessor.released(lease, answer)
    }

    /// What a standby adds; none: it leaves this DISCOVER to another server.
    fn standby_delay(&self, request: &Request, now: Instant) -> Option<Duration> {
        let after = self.live.rules.load().answer_after;
        if after.is_zero() || self.port != Port::Dhcp || request.kind != Kind::Discover {
            return Some(Duration::ZERO);
        }
        let Ok(client) = request.client() else { return Some(Duration::ZERO) };
        let is_ipxe = matches!(client.speaks, Speaks::Ipxe { .. });
        let mut standby = self.standby.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = standby.wait(request.mac, is_ipxe, request.secs, after, now);
        if wait.is_none() {
            debug!(mac = %request.mac, "no reply yet: a standby answers from the second DISCOVER on (dhcp.answer_after)");
        }
        wait
    }

    fn learn_address(&self, request: &Request) -> Option<Ipv4Addr> {
        let address = self.address(request);
        if let Some(address) = address {
            self.tell(Who::from(request.mac), What::Address(address));
        }
        address
    }

    /// TFTP and HTTP know a machine only by its address. A boot client shows its address when it asks port 4011, and in
    /// the broadcast that accepts its lease (RFC 2131 §4.3.2). Old Raspberry Pis send this without their vendor class.
    fn address(&self, request: &Request) -> Option<Ipv4Addr> {
        let is_booting = || request.booting().is_some() || self.has_just_asked(request);
        let address = request.address().filter(|_| is_booting())?;
        self.live.heard().took(request.mac, address);
        Some(address)
    }

    /// It was given an address of another network: by a server that answers in the wrong VLAN, or to which a switch port
    /// belongs that carries two.
    fn tell_other_network(&self, request: &Request, address: Option<Ipv4Addr>, place: &Place) {
        let is_local = request.giaddr.is_unspecified() && !place.on.networks.is_empty();
        if let Some(address) = address.filter(|address| is_local && !place.on.reaches(*address)) {
            let heard_on = place.here.interface.to_string();
            self.tell(Who::from(request.mac), What::OtherNetwork { address, heard_on });
        }
    }

    fn has_just_asked(&self, request: &Request) -> bool {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.has_just_asked(request.mac, Instant::now())
    }

    async fn send(&self, Answer { reply, to, from, link, .. }: Answer) {
        let is_lease = reply.lease.is_some() || reply.kind == ReplyKind::Nak;
        if is_lease && !self.lessor.as_ref().is_some_and(|lessor| lessor.may_send(&reply)) {
            return debug!(xid = reply.xid, "a reply about a lease was not sent: leasing has stopped");
        }
        let (bytes, port) = (reply.encode(), self.port.number());
        if let Err(error) =
            self.transport.send(Outgoing { from: SocketAddrV4::new(from, port), to, link, bytes: &bytes }).await
        {
            warn!(%error, xid = reply.xid, %to, "cannot send a DHCP reply");
        }
    }

    /// A boot client without an address that it could be known by has no timeline. That it asked is logged once.
    fn unreadable(&self, why: &Reason, datagram: Datagram<'_>, place: &Place) {
        let is_of_hardware = matches!(why, Reason::MalformedDhcp(Hardware::UNKNOWN | Hardware::NO_GUID));
        let says = |class: &[u8]| datagram.bytes.windows(class.len()).any(|bytes| bytes == class);
        let is_boot_client = is_of_hardware && (says(b"PXEClient") || says(b"HTTPClient"));
        if is_boot_client && !self.told_of_hardware.swap(true, Ordering::Relaxed) {
            let kind = datagram.bytes.get(1).copied().unwrap_or_default();
            let on = &place.on.name;
            warn!("a boot client on {on} gets no reply: {why} (its hardware type is {kind}); this is logged once");
        }
        self.ignored(why, datagram);
    }

    fn ignored(&self, why: &Reason, Datagram { bytes, from, .. }: Datagram<'_>) {
        // A client without an address is known by its card alone (RFC 2131 §2, `chaddr`).
        let card = bytes.get(28..34).and_then(|card| card.try_into().ok()).map_or(MacAddr([0; 6]), MacAddr);
        debug!(%card, reason = why.label(), %from, port = ?self.port, "no reply: {why}");
    }

    fn tell_refused(&self, who: Who, why: Reason, client: &Client) {
        self.tell(who, What::Refused(why));
        self.tell(who, What::Firmware(client.to_string()));
    }

    fn tell(&self, who: Who, what: What) {
        if self.events.try_send(Event { who, what }).is_err() {
            count_lost();
            debug!("an event was dropped: the event queue is full");
        }
    }
}

/// What the leases say about a request.
enum Leased {
    /// Nothing: we are a proxy here.
    No,
    /// The reply is complete, or there is none.
    Answered(Option<Answer>),
    /// This is a part of the reply to a boot client.
    Yes(Lease),
}

/// One reply with both the address and the boot file: firmware needs no other server then.
fn add_lease(reply: &mut Reply, lease: &Lease, request: &Request, client: &Client) {
    reply.lease = lease.options(request);
    if reply.kind == ReplyKind::Offer {
        reply.ciaddr = Ipv4Addr::UNSPECIFIED;
    }
    // The reply has an address, so a relay can reach its client.
    reply.broadcast = request.broadcast;
    if matches!(client.speaks, Speaks::Ipxe { .. }) {
        reply.ipxe = NO_OTHER_SERVER;
    }
}

/// Priority 1, and no wait for a proxy (iPXE's `DHCP_EB_PRIORITY` and `DHCP_EB_NO_PXEDHCP`).
const NO_OTHER_SERVER: &[u8] = b"\x01\x01\x01\xb0\x01\x01";

/// A request, as the leases keep it.
fn asked(Incoming { datagram, link }: Incoming<'_>) -> lessor::Incoming<'_> {
    let link = link.map(|link| (link.from, link.was_broadcast));
    lessor::Incoming { datagram: datagram.bytes, from: datagram.from, to: datagram.to, link }
}

/// A request that waited, as if it came again.
fn incoming(asked: &lessor::Asked) -> Incoming<'_> {
    let datagram = Datagram { bytes: &asked.datagram, from: asked.from, to: asked.to };
    Incoming { datagram, link: asked.link.map(|(from, was_broadcast)| Link { from, was_broadcast }) }
}

/// The next reply whose lease is stored.
async fn next(stored: &mut Option<mpsc::UnboundedReceiver<Answer>>) -> Answer {
    match stored {
        Some(stored) => match stored.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn in_use(lessor: Option<&Lessor>) -> io::Result<Vec<lessor::Asked>> {
    match lessor {
        Some(lessor) => lessor.in_use().await,
        None => std::future::pending().await,
    }
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
