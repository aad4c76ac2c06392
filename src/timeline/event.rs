//! What the stages see of a machine's boot, and send to the recorder.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{
    kept::Kept,
    transfer::{Pace, Part, Progress, Silent, Transfer},
};
use crate::{
    boot::{
        chain::Trust, hardware::Hardware, identity::MachineId, mac::MacAddr, outcome::Outcome, own::Own,
        reason::Reason, shape::Shape,
    },
    offers::rival::Rival,
};

/// Something that a stage saw. Stages send these and forget them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whose boot it belongs to.
    pub who: Who,
    /// What was seen.
    pub what: What,
}

/// How a stage knows a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// By its card, and what else names it.
    Machine(MachineId),
    /// By the address that it fetches from.
    Address(Ipv4Addr),
}

impl From<MacAddr> for Who {
    fn from(card: MacAddr) -> Self {
        Self::Machine(card.into())
    }
}

impl Who {
    /// What people look for a machine by: its card, then its other names.
    #[must_use]
    pub fn in_order(self) -> (bool, MacAddr, Self) {
        match self {
            Self::Machine(machine) => (false, machine.card, self),
            Self::Address(_) => (true, MacAddr([0; 6]), self),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(mac) => fmt::Display::fmt(mac, f),
            Self::Address(address) => fmt::Display::fmt(address, f),
        }
    }
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// DHCPDISCOVER of a PXE client.
    Discover(Discover),
    /// Our answer on port 67; what it offers.
    Offer(String),
    /// Our answer on port 4011; what it offers.
    BootServer(String),
    /// What the offer behind this leads to goes on without our script.
    Own(Own),
    /// It fetched what an offer of this shape named, and did not take the others.
    TookOffer(Shape),
    /// The loader of this kind started, and the other one did not.
    TookLoader(Trust),
    /// It asked for what only a shim looks for: its shim runs.
    ShimRuns,
    /// It asked for this file by TFTP, which is not here.
    NotHere(String),
    /// What was learned of its firmware is forgotten.
    Forgotten,
    /// The machine was seen to take this address.
    Address(Ipv4Addr),
    /// The address that it took is in none of the networks of the interface that it was heard on.
    OtherNetwork {
        /// The address.
        address: Ipv4Addr,
        /// The interface.
        heard_on: String,
    },
    /// A leasing server offered the machine this address. It may take another one; but a Raspberry Pi 3 does not say
    /// that it took it.
    OfferedAddress(AddressOffer),
    /// The firmware that a refused request is of: no offer says it.
    Firmware(String),
    /// A request that got no boot.
    Refused(Reason),
    /// `/boot.ipxe` was answered.
    Script(Outcome),
    /// A script has failed, and asks for another one.
    Retry,
    /// What a machine said of its parts.
    Hardware(Hardware),
    /// It has less memory than its profile needs: both, and why.
    LittleMemory(String),
    /// The interface of ours that it fetched its script by.
    HeardOn(String),
    /// The serial number that its iPXE says.
    Serial(String),
    /// The same where other machines boot from the same address: the script's files say whose they are.
    OwnScript(Outcome),
    /// A file was fetched from its address, where it is not the only machine whose script is under way.
    NotSaidWhose(String),
    /// Another machine has the same UUID, and boots at the same time: the cards of both.
    SharedUuid([MacAddr; 2]),
    /// A file's transfer began.
    Started(Progress),
    /// How far a transfer is: sent every few seconds while its client takes something.
    Progress(Progress),
    /// A file's transfer ended.
    Transfer(Transfer),
    /// The transfer of a part of a file ended, or one that was for somebody who looks and boots nothing.
    Part(Transfer, Part),
    /// A file's transfer pauses, or goes on.
    Pace(Pace),
    /// All of a file was sent, and the client fell silent before it had acknowledged the end.
    Silent(Silent),
    /// An answer file was given.
    Answer {
        /// Its name.
        name: String,
        /// In bytes.
        size: u64,
        /// An installer may have another address than the iPXE before it.
        to: IpAddr,
    },
    /// Another server said something to this machine that keeps machines from booting by us.
    Rival(Rival),
    /// A DHCP request of a boot client, and what came of it.
    Request(Box<Request>),
    /// A line that the machine sent by syslog.
    Said(String),
    /// Somebody waits until all that was sent before this is kept.
    Kept(Kept),
    /// What booted says how it went. Anyone can say so of any machine.
    Report(Report),
    /// The same by an address that was signed for the machine.
    SignedReport(Report, Signed),
}

impl What {
    /// The DHCPDISCOVER in it.
    #[must_use]
    pub fn discover(&self) -> Option<&Discover> {
        match self {
            Self::Discover(discover) => Some(discover),
            Self::Request(request) => request.discover.as_ref(),
            _ => None,
        }
    }

    /// The address in it that the machine has, or takes.
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Request(request) => request.address,
            _ => None,
        }
    }

    /// What it means to the boot, in order.
    pub fn into_parts(self) -> impl Iterator<Item = Self> {
        let parts = match self {
            Self::Request(request) => {
                let Request { discover, address, offered, own, offer, .. } = *request;
                let reply = if discover.is_some() { Self::Offer } else { Self::BootServer };
                let (address, offered) = (address.map(Self::Address), offered.map(Self::OfferedAddress));
                [discover.map(Self::Discover), address, offered, own.map(Self::Own), offer.map(reply)]
            }
            what => [Some(what), None, None, None, None],
        };
        parts.into_iter().flatten()
    }
}

/// A request and what came of it, as one event: when a thousand machines ask at once, each event costs more than what is
/// in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The port that it came to.
    pub port: u16,
    /// The DHCP message as it came, to look at when its boot fails.
    pub bytes: Arc<[u8]>,
    /// It was a DHCPDISCOVER.
    pub discover: Option<Discover>,
    /// The address that the machine has, or takes.
    pub address: Option<Ipv4Addr>,
    /// The address that our reply offers.
    pub offered: Option<AddressOffer>,
    /// What the reply leads to goes on without our script.
    pub own: Option<Own>,
    /// What our reply offers; `None` for a request without a reply, and for one whose lease says it already.
    pub offer: Option<String>,
}

impl Request {
    /// One of which nothing came yet.
    #[must_use]
    pub fn new(port: u16, bytes: &[u8]) -> Self {
        Self { port, bytes: bytes.into(), discover: None, address: None, offered: None, own: None, offer: None }
    }
}

/// An offer of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressOffer {
    /// The address.
    pub address: Ipv4Addr,
    /// The server that leases it: option 54, or the sender of the offer.
    pub server: Ipv4Addr,
}

/// A machine that asks where to boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discover {
    /// Which kind, in words.
    pub client: String,
    /// An iPXE asks: the firmware's own part is over, or there was none.
    pub is_ipxe: bool,
    /// Its firmware boots by HTTP.
    pub is_http_boot: bool,
    /// Its firmware was offered a loader, and what came of that is not known.
    pub was_offered_loader: bool,
    /// Seconds that it has been at it, by its own count (RFC 2131 §2, `secs`). Many firmwares leave it at 0.
    pub secs: u16,
}

/// What an address for reports was signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The profile that its machine was sent to.
    pub profile: String,
    /// That one is served until it is installed.
    pub decides: bool,
}

/// What an installer or cloud-init says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How far it is.
    pub event: ReportEvent,
    /// As it reported it, on one line; may be empty.
    pub text: String,
}

/// How far what booted is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportEvent {
    /// It is done, and it worked.
    Installed,
    /// It is done, and it did not.
    Failed,
    /// It is on its way; the word is its own.
    Other(String),
}

/// Counts an event that its stage could not send: the recorder is behind, and no client waits for it.
pub fn count_lost() {
    LOST.fetch_add(1, Ordering::Relaxed);
}

/// How many events were lost since the start.
#[must_use]
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

static LOST: AtomicU64 = AtomicU64::new(0);
