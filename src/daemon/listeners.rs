//! What is open, held against the interfaces and addresses that there are: a listener comes and goes with what it
//! listens on, and touches none of the others.

mod shared;

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::shared::Dhcp;
pub(super) use self::shared::Shared;
use super::bind::{self, Requests, SHARED, Sockets};
use crate::{
    config::schema::DhcpSocket,
    dhcp::{proxy::Port, transport::Transport},
    lease::guard::Stop,
    net::{
        changes::Changes,
        holder::{other_holder, sockets_on_67},
        interface::Interface,
        port as udp,
        raw::Tap,
        udp::Endpoint,
    },
    syslog::{self, bounds::Bounds},
    tftp::{self, transfer::Limits},
};

/// All listeners of a running server.
pub(super) struct Listeners {
    shared: Shared,
    /// Each interface as it was last seen; `None` for one that is gone.
    seen: HashMap<String, Option<Interface>>,
    dhcp: HashMap<String, Dhcp>,
    addresses: HashMap<Ipv4Addr, Address>,
    /// How much is heard by syslog, on all addresses together.
    said: Arc<Mutex<Bounds>>,
    /// What could not be opened, so that it is reported once, and tried again.
    failed: HashSet<String>,
}

/// An address's listeners.
struct Address {
    /// The name of the interface that it is on.
    interface: Arc<str>,
    link_block_size: Arc<AtomicU16>,
    /// What could not be opened there.
    lacks: Lacks,
    stop: CancellationToken,
}

/// Sockets of an address that could not be opened.
#[derive(Clone, Copy, Debug, Default)]
struct Lacks {
    tftp: bool,
    syslog: bool,
}

impl Listeners {
    /// Serves what was opened before there was a runtime.
    pub(super) fn start(shared: Shared, sockets: Sockets) -> io::Result<Self> {
        let there = |interface: &Interface| (interface.index != 0).then(|| interface.clone());
        let seen = shared.plan.interfaces.iter().map(|i| (i.name.clone(), there(i))).collect();
        let (dhcp, addresses, failed) = (HashMap::new(), HashMap::new(), HashSet::new());
        let rates = shared.plan.fixed.syslog.map(|syslog| syslog.rates).unwrap_or_default();
        let said = Arc::new(Mutex::new(Bounds::new(rates)));
        let mut listeners = Self { shared, seen, dhcp, addresses, said, failed };
        let mut failed: Vec<String> = sockets.failed.iter().map(ToString::to_string).collect();
        for (interface, sockets) in sockets.dhcp {
            let served = listeners.serve_dhcp(&interface, sockets);
            failed.extend(served.err().map(|error| format!("DHCP on {}: {error}", interface.name)));
        }
        for (interface, address, sockets) in sockets.addresses {
            let served = listeners.serve_address(&interface, address, sockets);
            failed.extend(served.err().map(|error| format!("{address}: {error}")));
        }
        for failed in &failed {
            warn!("{failed}; everything else is served, and it is tried again");
        }
        listeners.failed = failed.into_iter().collect();
        if let Some(loopback) = sockets.loopback {
            listeners.shared.serve_http(loopback, listeners.shared.stop.clone())?;
        }
        for interface in &listeners.shared.plan.interfaces {
            if let Err(why) = interface.usable() {
                warn!("{} is not ready ({}): waiting for it", interface.name, why.short());
            }
        }
        Ok(listeners)
    }

    /// Follows the interfaces until dropped.
    pub(super) async fn follow(&mut self) {
        let changes = match Changes::listen() {
            Ok(changes) => Some(changes),
            Err(error) => {
                warn!(%error, "the kernel does not report interface changes here: interfaces are checked every 2 s");
                None
            }
        };
        // What changed before anyone listened.
        self.reconcile();
        loop {
            let is_change = match &changes {
                Some(changes) => {
                    let is_change = tokio::time::timeout(LOOK_AGAIN, changes.next()).await.is_ok();
                    if is_change {
                        changes.settle().await;
                    }
                    is_change
                }
                None => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    true
                }
            };
            if is_change || !self.failed.is_empty() {
                self.reconcile();
            }
            self.make_way();
        }
    }

    /// Opens and closes until the listeners fit the interfaces.
    fn reconcile(&mut self) {
        let names: Vec<String> = self.shared.plan.interfaces.iter().map(|interface| interface.name.clone()).collect();
        let Some(now) = self.shared.plan.look() else {
            // What is served stays as it is.
            if self.failed.insert(NOT_SEEN.into()) {
                warn!("{NOT_SEEN}; it is tried again");
            }
            return;
        };
        let mut failed = HashSet::new();
        for name in &names {
            self.fit_dhcp(name, now.iter().find(|interface| interface.name == *name), &mut failed);
        }
        self.fit_addresses(&now, &mut failed);
        // What was reported is so already.
        for name in &names {
            self.tell(name, now.iter().find(|interface| interface.name == *name));
        }
        let told: HashSet<&str> = self.failed.iter().map(|before| without_fix(before)).collect();
        for new in failed.iter().filter(|new| !told.contains(without_fix(new))) {
            warn!("{new}; it is tried again");
        }
        self.failed = failed;
    }

    fn tell(&mut self, name: &str, now: Option<&Interface>) {
        let before = self.seen.insert(name.to_owned(), now.cloned()).flatten();
        match (&before, now) {
            (None, None) => {}
            (Some(_), None) => warn!("{name} is gone: waiting for it"),
            (None, Some(now)) => info!("{now} is back"),
            (Some(before), Some(now)) => tell_difference(before, now),
        }
    }

    fn fit_dhcp(&mut self, name: &str, interface: Option<&Interface>, failed: &mut HashSet<String>) {
        // Down is no reason to close: the sockets are good again when it is up again.
        let fits = |dhcp: &Dhcp| interface.is_some_and(|now| now.index == dhcp.index && !now.addresses.is_empty());
        if let Some(dhcp) = self.dhcp.remove(name) {
            if fits(&dhcp) {
                self.dhcp.insert(name.to_owned(), dhcp);
            } else {
                dhcp.stop.cancel();
            }
        }
        let Some(interface) = interface else { return };
        if let Some(dhcp) = self.dhcp.get(name) {
            let place = self.shared.place(interface);
            if let Some(office) = &self.shared.office {
                office.fit_desk(interface);
            }
            dhcp.place.send_if_modified(|old| std::mem::replace(old, place.clone()) != place);
        } else if self.shared.plan.fixed.dhcp.enabled && interface.usable().is_ok() {
            let opened = bind::dhcp(self.shared.plan.fixed.dhcp.socket, interface);
            let served = opened.map_err(|error| error.to_string()).and_then(|sockets| {
                self.serve_dhcp(interface, sockets).map_err(|error| format!("DHCP on {name}: {error}"))
            });
            failed.extend(served.err());
        }
    }

    fn fit_addresses(&mut self, now: &[Interface], failed: &mut HashSet<String>) {
        let wanted: HashMap<Ipv4Addr, &Interface> =
            now.iter().rev().flat_map(|interface| interface.addresses.iter().map(move |a| (*a, interface))).collect();
        self.addresses.retain(|address, open| {
            let stays = wanted.contains_key(address);
            if !stays {
                open.stop.cancel();
                self.shared.tftp.close(*address);
            }
            stays
        });
        for (address, interface) in wanted {
            if let Some(open) = self.addresses.get_mut(&address) {
                open.interface = interface.name.as_str().into();
                open.link_block_size.store(block_size(interface), Ordering::Relaxed);
                failed.extend(self.open_what_lacks(address));
            } else if interface.is_up {
                let opened = bind::address(&self.shared.plan, address);
                let served = opened.map_err(|error| error.to_string()).and_then(|sockets| {
                    failed.extend(sockets.failed.iter().map(ToString::to_string));
                    self.serve_address(interface, address, sockets).map_err(|error| format!("{address}: {error}"))
                });
                failed.extend(served.err());
            }
        }
        self.tell_ours();
    }

    /// Gives the port to another DHCP server that has come to this host since, as we would have at the start. Nothing
    /// is lost: for a while both sockets are served, and what both hear is answered twice. It is not taken back when the
    /// other one goes, which may be for a restart.
    fn make_way(&mut self) {
        if self.shared.plan.fixed.dhcp.socket != DhcpSocket::Auto {
            return;
        }
        let own = self.shared.dhcp.handle().clone();
        let _entered = own.enter();
        for (name, dhcp) in self.dhcp.iter_mut().filter(|(_, dhcp)| dhcp.bound.is_some()) {
            let Some(interface) = self.seen.get(name).and_then(Option::as_ref) else { continue };
            let holders = sockets_on_67(interface);
            if holders == dhcp.holders {
                continue;
            }
            dhcp.holders = holders;
            let Some(other) = other_holder(&dhcp.holders) else { continue };
            if let Some(office) = &self.shared.office {
                office.halt_on(name, Stop::OnThisHost(other.to_string()));
            }
            // Tried once: what is refused now will be refused again.
            let Some(bound) = dhcp.bound.take() else { continue };
            match bind::capture(interface).and_then(|tap| Tap::new(tap).map_err(bind::BindError::runtime)) {
                Ok(tap) => {
                    let before = std::mem::replace(&mut dhcp.exchange, dhcp.stop.child_token());
                    self.shared.serve_requests(dhcp, Transport::Captured(tap), None);
                    self.shared.watch(dhcp, bind::replies(interface, true), dhcp.exchange.clone());
                    let name = name.clone();
                    self.shared.tasks.spawn(async move {
                        tokio::time::sleep(OVERLAP).await;
                        before.cancel();
                        if bound.await.is_ok() {
                            info!("{other} has UDP port 67 now: listening at layer 2 on {name} instead");
                        }
                    });
                }
                Err(why) => warn!("{other} has UDP port 67 too, and {SHARED}; {why}"),
            }
        }
    }

    fn serve_dhcp(&mut self, interface: &Interface, sockets: bind::Dhcp) -> io::Result<()> {
        let name = &interface.name;
        let own = self.shared.dhcp.handle().clone();
        let _entered = own.enter();
        let (place, stop) = (watch::Sender::new(self.shared.place(interface)), self.shared.stop.child_token());
        let desk = self.shared.office.as_ref().and_then(|office| office.open(interface, obstacle(interface, &sockets)));
        let arp = desk.as_ref().and_then(|_| bind::arp(interface));
        let (transport, how) = match sockets.requests {
            Requests::Bound(socket) => (Transport::Bound(Endpoint::new(socket)?), "ports 67 and 4011".to_owned()),
            Requests::Captured(tap, beside) => {
                let who = beside.map_or_else(String::new, |other| format!("{other} has UDP port 67; "));
                (Transport::Captured(Tap::new(tap)?), format!("{who}listening at layer 2 instead, and port 4011"))
            }
        };
        let may_make_way = matches!(transport, Transport::Bound(_));
        let boot_server = Transport::Bound(Endpoint::new(sockets.boot_server)?);
        let (index, exchange) = (interface.index, stop.child_token());
        let mut dhcp = Dhcp { index, place, exchange, stop, bound: None, desk, holders: Vec::new() };
        dhcp.bound = Some(self.shared.serve_requests(&dhcp, transport, arp)).filter(|_| may_make_way);
        self.shared.serve_port(&dhcp, boot_server, Port::BootServer, dhcp.stop.clone());
        self.shared.watch(&dhcp, sockets.replies, dhcp.exchange.clone());
        // Who leases the addresses there: netbootd, which has said so, or another server.
        let beside = if dhcp.desk.is_some() { "" } else { ", beside the network's own DHCP server" };
        info!("dhcp  {name}, {how}: where to boot{beside}");
        self.dhcp.insert(name.clone(), dhcp);
        Ok(())
    }

    fn serve_address(&mut self, interface: &Interface, address: Ipv4Addr, sockets: bind::Address) -> io::Result<()> {
        let (plan, stop) = (&self.shared.plan, self.shared.stop.child_token());
        let (link_block_size, name) =
            (Arc::new(AtomicU16::new(block_size(interface))), Arc::<str>::from(interface.name.as_str()));
        // Before the first client can ask.
        self.shared.app.interfaces.rcu(|all| {
            let mut all = HashMap::clone(all);
            all.insert(address, name.clone());
            all
        });
        self.shared.serve_http(sockets.http, stop.clone())?;
        let lacks = Lacks {
            tftp: plan.fixed.tftp.enabled && sockets.tftp.is_none(),
            syslog: plan.fixed.syslog.is_some() && sockets.syslog.is_none(),
        };
        if let Some(socket) = sockets.tftp {
            self.serve_tftp(address, socket, link_block_size.clone())?;
        }
        if let Some(socket) = sockets.syslog {
            self.serve_syslog(address, socket, stop.clone())?;
        }
        info!("http  {}: {}", plan.fixed.http.base(address), plan.and_assets("scripts, loaders"));
        self.addresses.insert(address, Address { interface: name, link_block_size, lacks, stop });
        self.tell_ours();
        Ok(())
    }

    fn serve_tftp(&self, address: Ipv4Addr, socket: UdpSocket, link_block_size: Arc<AtomicU16>) -> io::Result<()> {
        let plan = &self.shared.plan;
        let limits =
            Limits { block_size: plan.fixed.tftp.max_block_size, window_size: plan.fixed.tftp.max_window_size };
        let (port, base_url) = (Arc::new(udp::Port::new(socket)?), plan.fixed.http.base(address));
        self.shared.tftp.open(tftp::serve::Listener { port, address, base_url, limits, link_block_size })?;
        info!("tftp  {address}:{}: {}", plan.fixed.tftp.port, plan.and_assets("loaders"));
        Ok(())
    }

    fn serve_syslog(&self, address: Ipv4Addr, socket: UdpSocket, stop: CancellationToken) -> io::Result<()> {
        let Some(syslog) = self.shared.plan.fixed.syslog else { return Ok(()) };
        let (endpoint, bounds, events) = (Endpoint::new(socket)?, self.said.clone(), self.shared.events.clone());
        let listener = syslog::serve::Listener { endpoint, bounds, events };
        self.shared.tasks.spawn(listener.serve(stop));
        info!("syslog {address}:{}: log lines of booting machines", syslog.port);
        Ok(())
    }

    /// Tries again what could not be opened on an address; why it still cannot.
    fn open_what_lacks(&mut self, address: Ipv4Addr) -> Vec<String> {
        let Some(open) = self.addresses.get(&address) else { return Vec::new() };
        let (mut lacks, stop, size) = (open.lacks, open.stop.clone(), open.link_block_size.clone());
        let plan = self.shared.plan.clone();
        let mut failed = Vec::new();
        if lacks.tftp {
            let opened = bind::tftp(address, plan.fixed.tftp.port).map_err(|error| error.to_string());
            let served = opened.and_then(|socket| {
                self.serve_tftp(address, socket, size).map_err(|error| format!("TFTP on {address}: {error}"))
            });
            lacks.tftp = served.is_err();
            failed.extend(served.err());
        }
        if let Some(syslog) = plan.fixed.syslog.filter(|_| lacks.syslog) {
            let opened = bind::syslog(address, syslog.port).map_err(|error| error.to_string());
            let served = opened.and_then(|socket| {
                self.serve_syslog(address, socket, stop).map_err(|error| format!("syslog on {address}: {error}"))
            });
            lacks.syslog = served.is_err();
            failed.extend(served.err());
        }
        if let Some(open) = self.addresses.get_mut(&address) {
            open.lacks = lacks;
        }
        failed
    }

    fn tell_ours(&self) {
        self.shared.ours.send_replace(self.addresses.keys().copied().collect());
        let interfaces = self.addresses.iter().map(|(address, open)| (*address, open.interface.clone())).collect();
        self.shared.app.interfaces.store(Arc::new(interfaces));
    }
}

/// What could not be opened, and why. The rest may name the process that has a port, which a sandbox hides.
fn without_fix(failed: &str) -> &str {
    failed.split_once("; ").map_or(failed, |(what, _)| what)
}

/// What is in the way of leases on an interface, before anybody was asked.
fn obstacle(interface: &Interface, sockets: &bind::Dhcp) -> Option<Stop> {
    let other = match &sockets.requests {
        Requests::Captured(_, beside) => beside.as_ref().map(ToString::to_string),
        Requests::Bound(_) => other_holder(&sockets_on_67(interface)).map(|other| other.to_string()),
    };
    let is_deaf = sockets.replies.is_none();
    let deaf = || Stop::Deaf("this needs root or CAP_NET_RAW".into());
    other.map(Stop::OnThisHost).or_else(|| is_deaf.then(deaf))
}

fn tell_difference(before: &Interface, now: &Interface) {
    let name = &now.name;
    match (before.is_up, now.is_up) {
        (true, false) => warn!("{name} is down: waiting for it"),
        (false, true) => info!("{name} is up"),
        _ => {}
    }
    for address in now.addresses.iter().filter(|address| !before.addresses.contains(address)) {
        info!("{name} has {address} now");
    }
    for address in before.addresses.iter().filter(|address| !now.addresses.contains(address)) {
        warn!("{name} no longer has {address}");
    }
    if before.mtu != now.mtu {
        info!("{name} has an MTU of {} bytes now", now.mtu);
    }
}

/// The largest TFTP block that fits one packet.
fn block_size(interface: &Interface) -> u16 {
    let headers = 32;
    u16::try_from(interface.mtu.saturating_sub(headers)).unwrap_or(u16::MAX).max(512)
}

/// In the log.
const NOT_SEEN: &str = "the interfaces of this host cannot be read, probably because too many files are open";
/// Until what failed is tried again, and whether another DHCP server has come to this host is looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// For which a port's two sockets are both served: the old one has long been emptied then.
const OVERLAP: Duration = Duration::from_secs(1);
