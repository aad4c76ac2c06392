//! A server whose machines are made up: their boots are what the timelines make of these events.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{Extension, Router};
use netbootd::lease::{
    book::Held,
    view::{Leases, OnNetwork, OneLease, Standing},
};
use netbootd::{
    boot::{
        identity::MachineId,
        live::Live,
        mac::MacAddr,
        machine::{By, MachineRule, Rules},
        outcome::{Outcome, Way},
        over::{Of, Over},
        profile::{Boot, Profile},
        roster::{Assignment, Entry, Roster},
        selector::{RuleBook, Selector},
        strangers::Permission,
    },
    status::{
        access::Via,
        api::Api,
        page::{Page, Waiting, router},
        server::{Answer, Refusal, Server, Steps},
    },
    timeline::{
        event::{Discover, Event, What, Who},
        machines::{Snapshot, Timelines},
        moment::Moment,
        peer::Silence,
        transfer::{At, Failure, Pace, Pause, Progress, Transfer},
    },
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// What is asked of the server, and told to it.
pub(crate) struct Fake {
    pub(crate) live: Arc<Live>,
    timelines: Mutex<Timelines>,
}

/// The page at an address. Fields are dropped in this order.
pub(crate) struct Stand {
    pub(crate) stop: CancellationToken,
    pub(crate) address: SocketAddr,
    pub(crate) fake: Arc<Fake>,
    _runtime: Runtime,
}

pub(crate) const TOKEN: &str = "0123456789abcdef";

/// The page without a socket, for viewers who come from there.
pub(crate) fn page(via: Via) -> (Router, Arc<Fake>, CancellationToken) {
    let fake = Arc::new(Fake::new());
    let stop = CancellationToken::new();
    let (live, token) = (fake.live.clone(), Some(TOKEN.into()));
    let api = Api { live, server: fake.clone(), token, stop: stop.clone() };
    let waiting = Waiting { on: "eth1 (10.77.0.2)".into(), clients: "BIOS, UEFI x86_64, iPXE".into() };
    (router(Page::new(Arc::new(api), waiting)).layer(Extension(via)), fake, stop)
}

impl Stand {
    /// Serves on this socket, for viewers who come from there.
    pub(crate) fn on(listener: TcpListener, via: Via) -> std::io::Result<Self> {
        let (router, fake, stop) = page(via);
        let runtime = Runtime::new()?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let served = stop.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, router).with_graceful_shutdown(served.cancelled_owned()).await
        });
        Ok(Self { stop, address, fake, _runtime: runtime })
    }
}

impl Fake {
    fn new() -> Self {
        let named = |number: u8, name: &str, profile: &str| {
            let selector = Selector { macs: vec![mac(number)], ..Selector::default() };
            let rule = MachineRule { name: Some(name.into()), profile: Some(profile.into()), ..MachineRule::default() };
            (selector, rule)
        };
        let machines = [
            named(1, "rack1-node01", "debian"),
            named(2, "rack1-node02", "debian"),
            named(3, "gpu-workstation", "ubuntu"),
            named(9, "spare", "debian"),
        ];
        let rules = Rules {
            default_profile: "menu".into(),
            machines: RuleBook::new(machines.into_iter().collect()),
            profiles: ["debian", "ubuntu", "rescue"].map(|name| (name.to_owned(), profile())).into(),
            ..Rules::default()
        };
        Self { live: Live::new(rules, Roster::default()), timelines: Mutex::default() }
    }

    pub(crate) fn timelines(&self) -> MutexGuard<'_, Timelines> {
        self.timelines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is seen of a machine, so many seconds ago.
    pub(crate) fn sees(&self, number: u8, ago: u64, what: What) {
        self.sees_of(mac(number), ago, what);
    }

    pub(crate) fn sees_of(&self, mac: MacAddr, ago: u64, what: What) {
        let now = Moment::from(SystemTime::now()).before(Duration::from_secs(ago));
        self.timelines().apply(Event { who: Who::from(mac), what }, now);
    }

    /// A boot up to its script, begun so many seconds ago.
    pub(crate) fn starts(&self, number: u8, ago: u64, client: &str, profile: &str) {
        self.sees(number, ago, discover(client));
        self.sees(number, ago, What::Offer("snponly.efi by TFTP from 10.77.0.2".into()));
        self.sees(number, ago, What::Address(Ipv4Addr::new(10, 77, 0, 100 + number)));
        self.sees(number, ago - 1, fetched(Of::Loader, "snponly.efi", 173_792));
        self.sees(number, ago - 2, discover(&format!("iPXE on {client}")));
        self.sees(number, ago - 2, What::Offer("http://10.77.0.2:8080/boot.ipxe".into()));
        self.sees(number, ago - 3, script(number, profile));
    }

    fn roster(&self, mac: MachineId, assigned: Option<Assignment>) {
        let roster = self.live.roster.load_full();
        self.live.roster.store(Arc::new(roster.with(mac, Entry { assigned, ..Entry::default() })));
    }
}

impl Server for Fake {
    fn assign(&self, mac: MachineId, assignment: Assignment) -> Answer<'_, Result<(), Refusal>> {
        let answer = if self.live.rules.load().profiles.contains_key(&assignment.profile) {
            self.roster(mac, Some(assignment));
            Ok(())
        } else {
            Err(Refusal::Wrong(format!("there is no profile {:?}", assignment.profile)))
        };
        Box::pin(std::future::ready(answer))
    }

    fn leases(&self) -> Leases {
        let network = |name: &str, state, why: Option<&str>| OnNetwork {
            name: name.into(),
            state,
            why: why.map(str::to_owned),
            label: None,
            range: "192.0.2.100-192.0.2.109".into(),
            size: 10,
            full: 0,
        };
        let lease = |last: u8, held, ends_in| OneLease {
            address: [192, 0, 2, 100 + last].into(),
            card: MacAddr([0x52, 0x54, 0, 0x6c, 0x62, last]),
            network: "eth1".into(),
            held,
            ends_in,
            time: 3600,
        };
        Leases {
            networks: vec![
                network("eth1", Standing::Leasing, None),
                network("eth2", Standing::Asking, None),
                network("eth3", Standing::Stopped, Some("the DHCP server <b>192.0.2.254</b> leases here")),
            ],
            leases: vec![lease(1, Held::Leased, 60), lease(2, Held::Released, -60)],
            replies: vec![("offer", 1)],
        }
    }

    fn unassign(&self, mac: MachineId) -> Answer<'_, Result<bool, Refusal>> {
        self.roster(mac, None);
        Box::pin(std::future::ready(Ok(true)))
    }

    fn renew(&self, mac: MachineId) -> Answer<'_, Result<bool, Refusal>> {
        let roster = self.live.roster.load_full();
        let before = roster.of(mac).unwrap_or_default();
        let after = Entry { spent: None, tried: None, ..before.clone() };
        self.live.roster.store(Arc::new(roster.with(mac, after)));
        Box::pin(std::future::ready(Ok(before.spent.is_some())))
    }

    fn forget(&self, _: MachineId) -> Answer<'_, Result<bool, Refusal>> {
        Box::pin(async { Ok(false) })
    }

    fn approve(&self, mac: MachineId, approved: bool) -> Answer<'_, Result<bool, Refusal>> {
        let roster = self.live.roster.load_full();
        let entry = roster.of(mac).unwrap_or_default();
        let before = entry.approved;
        self.live.roster.store(Arc::new(roster.with(mac, Entry { approved, ..entry })));
        Box::pin(std::future::ready(Ok(before)))
    }

    fn permit(&self, mac: MachineId, permission: Permission) -> Answer<'_, Result<(), Refusal>> {
        self.live.rules.load().strangers.say(mac, permission);
        let approved = self.approve(mac, permission == Permission::Always);
        Box::pin(async { approved.await.map(drop) })
    }

    fn wake(&self, _: MachineId, _: Vec<MacAddr>, _: Option<String>) -> Answer<'_, Result<String, Refusal>> {
        Box::pin(std::future::ready(Ok("eth1".into())))
    }

    fn keeps(&self) -> bool {
        true
    }

    fn heard_on(&self, _: MachineId) -> Option<Arc<str>> {
        None
    }

    fn snapshot(&self) -> Answer<'_, Arc<Snapshot>> {
        let snapshot = Arc::new(self.timelines().snapshot(Moment::from(SystemTime::now())));
        Box::pin(std::future::ready(snapshot))
    }

    fn steps(&self, _after: Option<u64>) -> Answer<'_, Option<Steps>> {
        Box::pin(std::future::ready(None))
    }
}

pub(crate) fn mac(number: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0x6c, 0x62, number])
}

pub(crate) fn discover(client: &str) -> What {
    What::Discover(Discover {
        client: client.into(),
        is_ipxe: client.starts_with("iPXE"),
        is_http_boot: client.contains("UEFI HTTP"),
        ..Discover::default()
    })
}

pub(crate) fn script(number: u8, profile: &str) -> What {
    let way = Way::Boot(vec!["debian/vmlinuz".into(), "debian/initrd.img".into()]);
    let (mac, profile, by) = (mac(number), profile.into(), By::Rule);
    What::Script(Outcome::Chosen { mac, profile, by, once: false, until_installed: false, report_within: None, way })
}

pub(crate) fn fetched(of: Of, name: &str, size: u64) -> What {
    let (name, took) = (name.into(), Duration::from_millis(size / 50_000 + 20));
    What::Transfer(Transfer { of, name, sent: size, fresh: size, size, took, failure: None, over: Over::Http })
}

pub(crate) fn progress(name: &str, acked: u64, size: u64, rate: u64) -> What {
    What::Progress(Progress {
        of: Of::Asset,
        name: name.into(),
        acked,
        size,
        took: Duration::from_secs(2),
        rate,
        fresh: 0,
        over: Over::Http,
    })
}

pub(crate) fn paused(name: &str, acked: u64, size: u64, lasted: u64) -> What {
    let at = At::Paused(Pause { lasted: Duration::from_secs(lasted), window_closed: true });
    What::Pace(Pace { of: Of::Asset, name: name.into(), acked, size, at })
}

pub(crate) fn dead(name: &str, sent: u64, size: u64) -> What {
    let silence = Silence { since_ack: Duration::from_secs(151), retransmits: 9, probes: 0 };
    let failure = Some(Failure::Dead { silence, may_have_started: false });
    What::Transfer(Transfer {
        of: Of::Asset,
        name: name.into(),
        sent,
        size,
        took: Duration::from_secs(160),
        failure,
        fresh: 0,
        over: Over::Http,
    })
}

fn profile() -> Profile {
    Profile::from(Boot::Local)
}
