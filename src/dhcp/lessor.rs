//! Leases for the requests of one socket: the requests that wait until their address was tried, and the replies that
//! wait until their lease is stored.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracing::{debug, info};

use super::{
    answer::Answer,
    lease::{Step, decide},
    office::{Desk, Office, Sent},
    reply::{LeaseOptions, Reply, ReplyKind},
    request::{Kind, Request},
    vendor_options::VendorOptions,
    waiting::Waiting,
};
use crate::{
    boot::{client::Client, mac::MacAddr, machine::Rules, reason::Reason, selector::Facts},
    lease::{
        book::{Ask, Book, Given},
        network::Network,
    },
    net::{arp, boot_time, echo::Echo, frame::LinkAddress, raw::Tap},
};

/// See the module.
#[derive(Debug)]
pub struct Lessor {
    office: Arc<Office>,
    desk: Arc<Desk>,
    arp: Option<Tap>,
    echo: Option<Echo>,
    waiting: Mutex<Waiting<Asked>>,
    /// Addresses to try.
    to_try: Mutex<Vec<(Ipv4Addr, bool)>>,
    stored: mpsc::UnboundedSender<Answer>,
}

/// A request that waits. Nothing else is decided about it, counted or reported until it is known whether its address is
/// in use: it may need several addresses, and is one request.
#[derive(Debug)]
pub struct Asked {
    /// The request as it came.
    pub datagram: Vec<u8>,
    /// Its sender.
    pub from: SocketAddrV4,
    /// Its receiver.
    pub to: Option<Ipv4Addr>,
    /// The sender's MAC address and whether it was a broadcast, if it was captured.
    pub link: Option<(LinkAddress, bool)>,
    /// What it is offered if nobody uses the address.
    pub lease: Lease,
    card: MacAddr,
    address: Ipv4Addr,
}

/// A lease for a request.
#[derive(Clone, Debug)]
pub struct Lease {
    /// What to do.
    pub step: Step,
    network: Arc<Network>,
}

/// This server, as the client of a request sees it.
#[derive(Clone, Copy, Debug)]
pub struct Ours<'a> {
    /// All our addresses there.
    pub addresses: &'a [Ipv4Addr],
    /// The address that clients use.
    pub address: Ipv4Addr,
    /// What the request was sent to.
    pub to: Option<Ipv4Addr>,
}

impl Lessor {
    /// `arp` and `echo` try addresses. Where they are missing, addresses are offered untried.
    #[must_use]
    pub fn new(
        office: Arc<Office>,
        desk: Arc<Desk>,
        (arp, echo): (Option<Tap>, Option<Echo>),
    ) -> (Self, mpsc::UnboundedReceiver<Answer>) {
        let (stored, sent) = mpsc::unbounded_channel();
        let (waiting, to_try) = (Mutex::default(), Mutex::default());
        (Self { office, desk, arp, echo, waiting, to_try, stored }, sent)
    }

    /// What to do about a request; none where it is no matter of leases.
    pub fn lease(
        &self,
        request: &Request,
        client: Option<&Client>,
        ours: Ours<'_>,
        rules: &Arc<Rules>,
    ) -> Option<Lease> {
        let relay = relay(request);
        let own = request.server_override();
        let is_ours = |server: Ipv4Addr| ours.addresses.contains(&server) || own == Some(server);
        if request.kind == Kind::Request
            && let (Some(server), Some(_)) = (request.server_id, request.requested)
            && !is_ours(server)
        {
            self.office.accepted_elsewhere(&self.desk, relay, server);
        }
        if request.kind == Kind::Discover && relay.is_none() {
            self.desk.machine_asks();
        }
        // A router passes on what a machine behind it sends to us alone (RFC 2131 §4.3.2, RENEWING): only ciaddr tells its network.
        let is_unicast = relay.is_none() && ours.to.is_some_and(|to| ours.addresses.contains(&to));
        let held = Some(request.ciaddr).filter(|held| is_unicast && !held.is_unspecified());
        let network = self.office.network(&self.desk, relay.or(held))?;
        let (now, card) = (boot_time::now(), request.mac);
        let reservations = self.office.reservations(rules);
        if card.is_doctor() {
            let step = step_of_doctor(request.kind, &network, &self.office.book(), &reservations, now)?;
            return Some(Lease { step, network });
        }
        let mut book = self.office.book();
        let reserved = reserved(&book, &network, card, client, rules);
        let is_boot = client.is_some();
        let is_entitled = is_boot || self.office.is_for_everyone() || book.is_known(&network.name, card, now);
        let ask = Ask { network: &network, card, is_boot, reserved, reservations: &reservations, now };
        let step = match decide(request, &ask, &mut book, is_ours, is_entitled) {
            // A broadcast of ours does not reach it. It asks through its relay next (REBINDING), and is refused there.
            Step::Nak(_) if held.is_some() && network.name != self.desk.name => {
                Step::Silence(Reason::NoLease(BEHIND_ROUTER))
            }
            step => step,
        };
        drop(book);
        match &step {
            Step::Proxy => return None,
            Step::Offer(_) => self.office.set_full(&network, false),
            Step::Silence(Reason::LeasesFull(_)) => self.office.set_full(&network, true),
            Step::Changed(address) => {
                let what = if request.kind == Kind::Decline { "declines" } else { "gives back" };
                info!("{card} {what} {address}");
                self.office.keep(*address, None);
            }
            _ => {}
        }
        Some(Lease { step, network })
    }

    /// A boot client gets something to boot: its system gets an address too.
    pub fn boots(&self, client: &Client) {
        self.office.book().booted(client.mac, client.uuid, boot_time::now());
    }

    /// A boot client is refused: it needs no address either.
    pub fn refuses(&self, request: &Request, lease: &Lease) {
        self.office.book().forget_offer(&lease.network.name, request.mac);
    }

    /// Another netbootd asks whether somebody leases here. None if it is an ordinary request; else the answer, if we do.
    pub fn twin(&self, request: &Request, server: Ipv4Addr) -> Option<Option<Box<Reply>>> {
        let answers = self.office.twin(&self.desk, &request.vendor_class)?;
        let offered = self.desk.any_address().filter(|_| answers);
        Some(offered.map(|(address, network)| {
            let given = Given { address, time: network.time, is_its: true };
            let lease = Lease { step: Step::Offer(given), network };
            Box::new(Reply { broadcast: true, ..plain(request, ReplyKind::Offer, server, lease.options(request)) })
        }))
    }

    /// Whether a request waits for the trial of its address.
    pub fn waits(&self, lease: &Lease, request: &Request, asked: Incoming<'_>) -> bool {
        let Step::Offer(Given { address, is_its, .. }) = lease.step else { return false };
        let is_relayed = !request.giaddr.is_unspecified();
        let is_tried = !is_its && self.can_try(is_relayed);
        if !is_tried && self.waiting().get(address).is_none() {
            return false;
        }
        let at = Instant::now() + if is_relayed { ECHO } else { ARP };
        let Incoming { datagram, from, to, link } = asked;
        let (datagram, lease, card) = (datagram.to_vec(), lease.clone(), request.mac);
        if self.waiting().put(address, at, Asked { datagram, from, to, link, lease, card, address }) {
            self.to_try.lock().unwrap_or_else(PoisonError::into_inner).push((address, is_relayed));
        }
        true
    }

    /// The reply now; or none if it waits until its lease is stored.
    pub fn released(&self, lease: &Lease, answer: Answer) -> Option<Answer> {
        match lease.step {
            Step::Ack(Given { address, .. }) => {
                let stored = self.stored.clone();
                self.office.keep(address, Some(Box::new(move || drop(stored.send(answer)))));
                None
            }
            _ => Some(answer),
        }
    }

    /// Whether a reply about a lease may leave now: another server may have come while it waited.
    #[must_use]
    pub fn may_send(&self, reply: &Reply) -> bool {
        let given = reply.lease.as_ref().and_then(|lease| lease.address);
        let at = given.into_iter().chain([reply.giaddr, reply.ciaddr]).find(|at| !at.is_unspecified());
        let may = self.office.network(&self.desk, at).is_some();
        if may {
            self.office.count(match reply.kind {
                ReplyKind::Offer => Sent::Offer,
                ReplyKind::Ack => Sent::Ack,
                ReplyKind::Nak => Sent::Nak,
            });
        }
        may
    }

    /// The time of the next request that waits.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.waiting().next()
    }

    /// The requests whose address nobody uses.
    pub fn due(&self, now: Instant) -> Vec<Asked> {
        let mut due = self.waiting().due(now);
        let (book, now) = (self.office.book(), boot_time::now());
        due.retain(|asked| book.is_of(asked.address, asked.card, now));
        due
    }

    /// Sends what tries addresses.
    pub async fn try_addresses(&self) {
        let to_try = std::mem::take(&mut *self.to_try.lock().unwrap_or_else(PoisonError::into_inner));
        for (address, is_relayed) in to_try {
            let sent = match (&self.arp, &self.echo) {
                (Some(tap), _) if !is_relayed => tap.send_bytes(&arp::probe(tap.link_address, address)).await,
                (_, Some(echo)) if is_relayed => echo.ask(address).await,
                _ => Ok(()),
            };
            if let Err(error) = sent {
                debug!(%error, %address, "cannot try whether the address is in use");
            }
        }
    }

    /// Waits until somebody answers for an address that is being tried. The requests that need another address.
    ///
    /// # Errors
    /// Those of the system call; it can be used on.
    pub async fn in_use(&self) -> io::Result<Vec<Asked>> {
        let mut users = Vec::new();
        let arp = async {
            match &self.arp {
                Some(tap) => tap.receive_bytes(|frame| users.extend(arp::sender(frame))).await,
                None => std::future::pending().await,
            }
        };
        let echo = async {
            match &self.echo {
                Some(echo) => echo.answer().await,
                None => std::future::pending().await,
            }
        };
        let pinged = tokio::select! {
            received = arp => {
                received?;
                None
            }
            answered = echo => answered?,
        };
        let users = users.into_iter().map(|(address, card)| (address, Some(MacAddr(card))));
        let users: Vec<_> = users.chain(pinged.map(|address| (address, None))).collect();
        Ok(users.into_iter().filter_map(|(address, card)| self.used_by(address, card)).collect())
    }

    fn used_by(&self, address: Ipv4Addr, user: Option<MacAddr>) -> Option<Asked> {
        let mut waiting = self.waiting();
        // Its own machine may use it, from an earlier lease.
        waiting.get(address).filter(|asked| user.is_none_or(|user| user != asked.card))?;
        let asked = waiting.take(address)?;
        let who = user.map_or_else(|| "somebody".to_owned(), |user| user.to_string());
        info!("{address} is in use by {who}, without a lease of ours: another address is offered");
        let reservations = BTreeSet::new();
        let (network, card) = (&*asked.lease.network, user.unwrap_or(MacAddr([0; 6])));
        let ask =
            Ask { network, card, is_boot: false, reserved: None, reservations: &reservations, now: boot_time::now() };
        self.office.book().taken(&ask, address);
        Some(asked)
    }

    fn can_try(&self, is_relayed: bool) -> bool {
        if is_relayed { self.echo.is_some() } else { self.arp.is_some() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<Asked>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The datagram.
    pub datagram: &'a [u8],
    /// Its sender.
    pub from: SocketAddrV4,
    /// Its receiver.
    pub to: Option<Ipv4Addr>,
    /// See [`Asked::link`].
    pub link: Option<(LinkAddress, bool)>,
}

impl Lease {
    /// Whether its machine is behind a router, and not on the network of this interface.
    #[must_use]
    pub fn is_behind_router(&self, interface: &str) -> bool {
        *self.network.name != *interface
    }

    /// The options of the reply.
    #[must_use]
    pub fn options(&self, request: &Request) -> Option<LeaseOptions> {
        let given = match self.step {
            Step::Offer(given) | Step::Ack(given) => Some(given),
            Step::Inform => None,
            _ => return None,
        };
        let Network { prefix, options, time, .. } = &*self.network;
        let time = given.map_or(*time, |given| given.time);
        let max_size = usize::from(request.max_size);
        let address = given.map(|given| given.address);
        Some(LeaseOptions { address, time, mask: prefix.mask(), options: options.clone(), max_size })
    }

    /// The address that is offered, and not yet confirmed.
    #[must_use]
    pub fn offers(&self) -> Option<Ipv4Addr> {
        if let Step::Offer(given) = self.step { Some(given.address) } else { None }
    }

    /// In words, for the log.
    #[must_use]
    pub fn words(&self) -> String {
        match self.step {
            Step::Offer(given) | Step::Ack(given) => format!(", with the address {}", given.address),
            _ => String::new(),
        }
    }
}

/// What the doctor gets: the offer that a new machine would get, and no address is kept for it. It accepts no offer.
fn step_of_doctor(
    kind: Kind,
    network: &Network,
    book: &Book,
    reservations: &BTreeSet<Ipv4Addr>,
    now: Duration,
) -> Option<Step> {
    (kind == Kind::Discover).then_some(())?;
    let is_free = |address: &Ipv4Addr| {
        !reservations.contains(address) && book.entry(*address).is_none_or(|entry| entry.ends <= now)
    };
    let bits = network.ranges.iter().flat_map(|range| range.first.to_bits()..=range.last.to_bits());
    Some(match bits.map(Ipv4Addr::from_bits).find(is_free) {
        // Nobody will use it: it needs no trial.
        Some(address) => Step::Offer(Given { address, time: network.time, is_its: true }),
        None => Step::Silence(Reason::LeasesFull(network.name.to_string())),
    })
}

/// A reply without anything to boot: for a client that is no boot client, or a refusal.
#[must_use]
pub fn plain(request: &Request, kind: ReplyKind, server: Ipv4Addr, lease: Option<LeaseOptions>) -> Reply {
    let is_nak = kind == ReplyKind::Nak;
    Reply {
        kind,
        xid: request.xid,
        // A relay sends a refusal as a broadcast: its client's address is wrong (RFC 2131 §4.3.2).
        broadcast: request.broadcast || (is_nak && !request.giaddr.is_unspecified()),
        ciaddr: if is_nak || kind == ReplyKind::Offer { Ipv4Addr::UNSPECIFIED } else { request.ciaddr },
        giaddr: request.giaddr,
        hardware: request.hardware,
        server: Ipv4Addr::UNSPECIFIED,
        server_id: request.server_override().unwrap_or(server),
        vendor_class: b"",
        vendor_options: VendorOptions::None,
        uuid: None,
        bootfile: String::new(),
        bootfile_option: false,
        server_option: false,
        config_file: String::new(),
        ipxe: b"",
        relay_agent: request.relay_agent.clone(),
        lease,
    }
}

/// The address that is reserved for a machine.
fn reserved(book: &Book, network: &Network, card: MacAddr, client: Option<&Client>, rules: &Rules) -> Option<Ipv4Addr> {
    // The system that a machine boots does not send its UUID.
    let uuid = client.and_then(|client| client.uuid).or_else(|| book.uuid_of(card));
    let plain = Facts { mac: card, uuid, serial: None, hardware: None, arch: None, interface: None };
    let rule =
        rules.machines.of(&client.map_or(plain, |client| Facts { uuid, ..client.facts() })).map(|(_, rule)| rule);
    // After a restart, its UUID is not known either: it keeps the address of a rule that may be about it.
    let is_its = |address: &Ipv4Addr| uuid.is_none() && rules.may_reserve(*address, card);
    rule.and_then(|rule| rule.address).or_else(|| book.address_of(&network.name, card).filter(is_its))
}

/// The relay that forwarded a request, or the network that it names.
fn relay(request: &Request) -> Option<Ipv4Addr> {
    let relay = Some(request.giaddr).filter(|relay| !relay.is_unspecified())?;
    Some(super::relay_agent::link(&request.relay_agent).unwrap_or(relay))
}

const BEHIND_ROUTER: &str = "its address is not its lease; behind a router, only its relay can tell it so";
/// How long an address is tried: a host on the network answers within milliseconds, and iPXE ignores offers that come
/// more than 2 s after its DHCPDISCOVER.
const ARP: Duration = Duration::from_millis(300);
/// The same behind a relay.
const ECHO: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::network::tests::network;

    #[test]
    fn the_doctor_is_offered_a_free_address_and_occupies_none() {
        let (mut book, now) = (Book::default(), Duration::from_secs(1000));
        let network = network(24, &["192.0.2.100-192.0.2.102"]).expect("a network");
        let at = |last: u8| Ipv4Addr::new(192, 0, 2, last);
        let reservations = BTreeSet::from([at(100)]);
        let doctor = |book: &Book, now| step_of_doctor(Kind::Discover, &network, book, &reservations, now);
        let offer = |last: u8| Some(Step::Offer(Given { address: at(last), time: network.time, is_its: true }));
        assert_eq!(doctor(&book, now), offer(101));
        for (machine, last) in [(1, 101), (2, 102)] {
            assert_eq!(doctor(&book, now), offer(last), "each kind of firmware is offered the same address");
            let card = MacAddr([2, 0, 0, 0, 0, machine]);
            let ask = Ask { network: &network, card, is_boot: true, reserved: None, reservations: &reservations, now };
            assert_eq!(book.offer(&ask, None).map(|given| given.address), Ok(at(last)), "a machine gets it");
        }
        assert_eq!(doctor(&book, now), Some(Step::Silence(Reason::LeasesFull("eth1".into()))));
        assert_eq!(doctor(&book, now + Duration::from_secs(61)), offer(101), "those that nobody accepted are free");
        assert_eq!(book.iter().count(), 2);
        assert_eq!(step_of_doctor(Kind::Request, &network, &book, &reservations, now), None);
    }
}
