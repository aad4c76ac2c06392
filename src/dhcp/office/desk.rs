//! Where leases are given on one interface.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;
use tracing::info;

use crate::{
    boot::mac::MacAddr,
    lease::{
        At,
        guard::{Guard, Stop},
        network::Network,
        terms::{Leasing, Prefix, Terms},
    },
    net::{boot_time, interface::Interface, link},
};

/// See the module.
#[derive(Debug)]
pub struct Desk {
    /// The interface's name.
    pub name: Arc<str>,
    /// The MAC address of the interface.
    card: ArcSwap<MacAddr>,
    network: ArcSwapOption<Network>,
    guard: Mutex<Guard>,
    /// How often the cable was plugged, when this was read last.
    cable: Mutex<(Option<u64>, At)>,
    avoids_default_route: bool,
    address: ArcSwap<Ipv4Addr>,
    /// The guard's next step is earlier than it was.
    wake: Notify,
}

impl Desk {
    /// On an interface that nobody was asked on.
    #[must_use]
    pub fn new(interface: &Interface, terms: &Leasing) -> Self {
        let (name, now): (Arc<str>, At) = (interface.name.as_str().into(), boot_time::now());
        Self {
            card: ArcSwap::from_pointee(card_of(interface)),
            network: ArcSwapOption::empty(),
            guard: Mutex::new(Guard::new(now, terms.ask_every)),
            cable: Mutex::new((link::cable_changes(&name), now)),
            avoids_default_route: !terms.on_default_route,
            address: ArcSwap::from_pointee(interface.address()),
            wake: Notify::new(),
            name,
        }
    }

    /// The MAC address of the interface.
    #[must_use]
    pub fn card(&self) -> MacAddr {
        **self.card.load()
    }

    /// The address of the interface.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        **self.address.load()
    }

    /// The network that addresses are leased on, if the range fits the interface.
    #[must_use]
    pub fn network(&self) -> Option<Arc<Network>> {
        self.network.load_full()
    }

    /// Decides whether addresses may be leased.
    pub fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the addresses that the interface has now. Whether leasing goes on that had stopped because the range did not
    /// fit. An error says why it does not fit.
    pub fn fit(&self, interface: &Interface, terms: &Terms) -> Result<bool, String> {
        self.card.store(Arc::new(card_of(interface)));
        let length = interface.networks.first().map_or(32, |(_, length)| *length);
        let prefix = Prefix::of(interface.address(), length);
        let network = Network::new(self.name.clone(), prefix, interface.addresses.clone(), terms)
            .inspect_err(|_| self.network.store(None))?;
        let before = self.network.swap(Some(Arc::new(network.clone())));
        self.address.store(Arc::new(interface.address()));
        let fits_again = self.guard().fits_again(boot_time::now());
        if fits_again || before.is_some_and(|before| *before != network) {
            self.ask_anew(boot_time::now());
        }
        Ok(fits_again)
    }

    /// Whether leases may be given: nobody else leases here, and the cable is the same as it was then.
    pub fn is_clear(&self) -> bool {
        if !self.guard().is_clear() {
            return false;
        }
        let mut cable = self.cable.lock().unwrap_or_else(PoisonError::into_inner);
        let now = boot_time::now();
        if now.saturating_sub(cable.1) >= CABLE {
            let changes = link::cable_changes(&self.name);
            if changes != cable.0 {
                self.ask_anew(now);
                info!("the cable of {} was plugged: asking again whether another DHCP server is there", self.name);
            }
            *cable = (changes, now);
        }
        self.guard().is_clear()
    }

    fn ask_anew(&self, now: At) {
        self.guard().changed(now);
        self.wake.notify_one();
    }

    /// A machine asks for an address.
    pub fn machine_asks(&self) {
        let mut guard = self.guard();
        let before = guard.next();
        guard.machine_asks(boot_time::now());
        if guard.next() != before {
            self.wake.notify_one();
        }
    }

    /// The time of the guard's next step.
    #[must_use]
    pub fn next(&self) -> Option<At> {
        self.guard().next()
    }

    /// Waits until the guard's next step is earlier than it was.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Whether leases may not be given because of the default route, which may come later than netbootd.
    #[must_use]
    pub fn default_route(&self) -> Option<Stop> {
        (self.avoids_default_route && link::has_default_route(&self.name)).then_some(Stop::DefaultRoute)
    }

    /// Whether another netbootd that asks is offered this address.
    #[must_use]
    pub fn shows(&self, address: Ipv4Addr) -> bool {
        self.any_address().is_some_and(|(shown, _)| shown == address)
    }

    /// An address to offer to another netbootd that asks whether somebody leases. It does not accept it.
    #[must_use]
    pub fn any_address(&self) -> Option<(Ipv4Addr, Arc<Network>)> {
        let network = self.network()?;
        Some((network.ranges.first()?.first, network))
    }
}

fn card_of(interface: &Interface) -> MacAddr {
    MacAddr(interface.link_address.unwrap_or_default())
}

/// How old the knowledge about the cable may be: a machine needs longer to send its first request.
const CABLE: Duration = Duration::from_millis(20);
