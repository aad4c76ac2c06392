//! What the routes share: the rules, the assets folder, the key, the clock, and the events that they send.

use std::{
    collections::HashMap,
    future::pending,
    net::Ipv4Addr,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use axum::{
    extract::{Query, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::task::spawn_blocking;
use tracing::{debug, warn};

use super::{
    ends::{Ends, ipv4},
    listing::listing,
    whose::{Claim, Whose, is_boot_client, is_doctor},
};
use crate::{
    boot::{
        answer::{Key, Signer, is_optional},
        clock::Clock,
        faults::Wanted,
        identity::MachineId,
        live::Live,
        loader::ClientArch,
        mac::MacAddr,
        outcome::Outcome,
        over::Over,
        probe::{is_probe, is_shim_probe},
        query,
        reason::{Denied, Reason},
        recent::Recent,
    },
    files::{
        AssetRoot,
        found::{Asker, Caller, Found, Names},
    },
    offers::attempts::Attempts,
    timeline::{
        boot::Timeline,
        event::{Event, What, Who, count_lost},
    },
};

/// What the routes share.
#[derive(Debug)]
pub struct App {
    /// What decides.
    pub live: Arc<Live>,
    /// What machines have tried lately.
    pub attempts: Arc<Mutex<Attempts>>,
    /// The assets folder, where there is one.
    pub assets: Option<Arc<AssetRoot>>,
    /// Whether the folders below it are shown.
    pub listing: bool,
    /// Base of all URLs, where it is not the address that the client came to.
    pub base_url: Option<String>,
    /// The interface that each of our addresses is on.
    pub interfaces: ArcSwap<HashMap<Ipv4Addr, Arc<str>>>,
    /// What the addresses of answer files are signed with.
    pub answer_key: Key,
    /// What their ends go by.
    pub clock: Mutex<Clock>,
    /// The same moment as `started`, by a clock that never jumps.
    pub began: Instant,
    /// When the server began, which is how old the loaders in memory are for a client.
    pub started: SystemTime,
    /// Cleared when the server begins to stop.
    pub is_ready: AtomicBool,
    /// Who had a script at which address, and when.
    pub scripts: Mutex<Recent<Ipv4Addr, Vec<(MachineId, Instant)>>>,
    /// Where events go.
    pub events: tokio::sync::mpsc::Sender<Event>,
}

pub(super) type Asked = Result<Query<query::Query>, QueryRejection>;

/// What is wrong with a query: the library's own words are about its types.
pub(super) fn in_words(rejection: &QueryRejection) -> String {
    let words = rejection.body_text();
    let words = words.strip_prefix("Failed to deserialize query string: ").unwrap_or(&words);
    match words.strip_prefix("duplicate field ") {
        Some(key) => format!("{} is in it more than once: send it once", key.replace('`', "")),
        None => words.to_owned(),
    }
}

impl App {
    /// This server as a client reaches it.
    pub(super) fn base(&self, ends: Ends) -> String {
        self.base_url.clone().unwrap_or_else(|| format!("http://{}", ends.local))
    }

    /// Most ask for a file by its own path. Nothing of what a text is made of is needed for it.
    pub(super) fn at_hand(&self, name: &[u8]) -> Option<Found> {
        let rules = self.live.rules.load();
        Names { rules: &rules, assets: self.assets.as_deref(), base: "", caller: None }.at_hand(name)
    }

    pub(super) fn find(
        &self,
        ends: Ends,
        name: &[u8],
        headers: &HeaderMap,
        claim: Option<&Claim>,
    ) -> Result<Found, Reason> {
        let agent = headers.get(header::USER_AGENT).map_or(b"".as_slice(), HeaderValue::as_bytes);
        // BIOS firmware does not speak HTTP, and of the others this is by far the most frequent.
        let asker = Asker { firmware: ClientArch::EFI_X86_64, is_ipxe: agent.starts_with(b"iPXE/") };
        let (rules, assets) = (self.live.rules.load(), self.assets.as_deref());
        let interface = match self.base_url {
            Some(_) => None,
            None => ipv4(ends.local).and_then(|local| self.interfaces.load().get(&local).cloned()),
        };
        let caller = Caller {
            address: ipv4(ends.peer),
            interface: interface.as_deref(),
            over: Over::Http,
            is_boot_client: is_boot_client(headers),
            attempts: &self.attempts,
            live: &self.live,
            signer: Some(Signer { key: &self.answer_key, now: self.now() }),
        };
        let base = self.base(ends);
        // What a text names is the same machine's.
        let base = &claim.map_or(base.clone(), |Claim(token)| format!("{base}/m/{token}"));
        Names { rules: &rules, assets, base, caller: Some(caller) }.find(name, asker)
    }

    /// What is wrong with a file that a profile names.
    pub(super) fn look(&self, name: &str, wanted: Wanted) -> Result<(), Reason> {
        self.assets.as_ref().map_or_else(|| Err(Reason::not_found(name)), |assets| assets.look(name, wanted))
    }

    /// Seconds since 1970. A clock that has jumped is logged.
    pub(super) fn now(&self) -> u64 {
        let now = seconds(SystemTime::now());
        if let Some(by) = self.clock().read(now, self.began.elapsed()) {
            let way = if by > 0 { "forward" } else { "back" };
            warn!("the clock jumped {way} by {} s: signed addresses of answer files stay valid", by.unsigned_abs());
        }
        now
    }

    /// What an address of an answer file was signed for.
    pub(super) fn open(&self, token: &str, name: &str) -> Result<query::Query, Denied> {
        self.now();
        let lifetime = self.live.rules.load().answers.lifetime;
        self.clock().open(&self.answer_key, token, name, self.began.elapsed(), lifetime)
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A query with the interface that its machine is heard on: the one whose address it came to, which is the one that
    /// its DHCP request was answered from. A base URL of the user's own leads everyone to one address, which says
    /// nothing, and then it is where its DHCP request was heard.
    pub(super) fn heard(&self, ends: Ends, query: query::Query) -> query::Query {
        let by_address = || {
            let local = ipv4(ends.local)?;
            self.interfaces.load().get(&local).cloned()
        };
        let by_dhcp = || {
            let mac = query.mac().ok().flatten()?;
            self.attempts().heard_on(mac)
        };
        let interface = match self.base_url {
            Some(_) => by_dhcp().or_else(by_address),
            None => by_address().or_else(by_dhcp),
        };
        query::Query { interface: interface.map(|name| name.to_string()), ..query }
    }

    pub(super) async fn list(&self, ends: Ends, path: String, json: bool) -> Response {
        let Some(assets) = self.assets.clone() else { return self.refuse(ends, &Reason::not_found(&path)) };
        // A look at every entry of a folder may wait for a disk.
        let listed = tokio::task::spawn_blocking(move || assets.list(&path).map(|entries| (path, entries))).await;
        match listed {
            Ok(Ok((path, entries))) => listing(&path, &entries, json),
            Ok(Err(why)) => self.refuse(ends, &why),
            Err(error) => {
                warn!(%error, "listing a folder failed");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    pub(super) fn refuse(&self, ends: Ends, why: &Reason) -> Response {
        self.refuse_to(ends, None, why)
    }

    /// Refuses a request of a machine. Without a machine, the refusal is filed under the IP address.
    pub(super) fn refuse_to(&self, ends: Ends, machine: Option<MachineId>, why: &Reason) -> Response {
        debug!(reason = why.label(), peer = %ends.peer, "HTTP refused: {why}");
        match why {
            Reason::NotFound(name) if is_shim_probe(name) => self.tell_of(ends, What::ShimRuns),
            // They need not be there.
            Reason::NotFound(name) if is_probe(name) => {}
            Reason::NoAnswer(name) if is_optional(name) => {}
            why => self.tell_to(ends, machine, What::Refused(why.clone())),
        }
        let status = match why {
            Reason::Unreadable { .. } | Reason::AnswerDenied { .. } | Reason::Unknown => StatusCode::FORBIDDEN,
            Reason::BadQuery(_) => StatusCode::BAD_REQUEST,
            Reason::NoNumbers(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Reason::Template(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::NOT_FOUND,
        };
        (status, format!("{why}\n")).into_response()
    }

    /// The query has the card, the connection the address: from here on the machine's fetches are known as its own.
    /// Whether the event was queued.
    pub(super) fn tell_script(&self, ends: Ends, machine: Option<MachineId>, claims: bool, outcome: Outcome) -> bool {
        let is_told = match machine {
            Some(machine) if claims => self.tell(Who::Machine(machine), What::OwnScript(outcome)),
            Some(machine) => self.tell(Who::Machine(machine), What::Script(outcome)),
            None => {
                self.tell_of(ends, What::Script(outcome));
                true
            }
        };
        if let (Some(machine), Some(address), false) = (machine, ipv4(ends.peer), claims) {
            self.tell(Who::Machine(machine), What::Address(address));
        }
        is_told
    }

    /// Whose a file is.
    pub(super) fn whose(&self, ends: Ends, claim: Option<Claim>, headers: &HeaderMap) -> Whose {
        let machine = claim.as_ref().map(|Claim(token)| self.answer_key.claimed(token));
        // A claim that is not ours means that the request does not count for the one machine at its address.
        let is_look = !is_boot_client(headers) || machine == Some(None);
        let by_address = || match is_doctor(headers) {
            // What is seen of it belongs to no machine.
            true => Some(Who::from(MacAddr::of_doctor())),
            false => ipv4(ends.peer).map(Who::Address),
        };
        Whose { who: machine.flatten().map(Who::Machine).or_else(by_address), is_look }
    }

    /// Whether another machine had its script at this address lately, so that this one's files have to say whose they are.
    pub(super) fn is_shared(&self, ends: Ends, machine: Option<MachineId>) -> bool {
        let (Some(address), Some(machine)) = (ipv4(ends.peer), machine) else { return false };
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let there = scripts.touch(address);
        there.retain(|(other, at)| *other != machine && now.saturating_duration_since(*at) < Timeline::UNDER_WAY);
        let is_shared = !there.is_empty();
        there.push((machine, now));
        if there.len() > AT_ONE_ADDRESS {
            there.remove(0);
        }
        is_shared
    }

    pub(super) fn tell_of(&self, ends: Ends, what: What) {
        if let Some(address) = ipv4(ends.peer) {
            self.tell(Who::Address(address), what);
        }
    }

    /// Files something under a machine; without one, under the IP address.
    pub(super) fn tell_to(&self, ends: Ends, machine: Option<MachineId>, what: What) {
        match machine {
            Some(machine) => drop(self.tell(Who::Machine(machine), what)),
            None => self.tell_of(ends, what),
        }
    }

    /// Whether the event was queued.
    pub(super) fn tell(&self, who: Who, what: What) -> bool {
        let is_told = self.events.try_send(Event { who, what }).is_ok();
        if !is_told {
            count_lost();
            debug!("an event was dropped: the event queue is full");
        }
        is_told
    }
}

/// Runs what looks at files. They may be on a share whose server does not answer: then the client that asked for them waits,
/// and no other one on the same thread.
pub(super) async fn apart<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(look).await {
        Ok(seen) => seen,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The server has stopped.
            Err(_) => pending().await,
        },
    }
}

/// Machines that are remembered of one address.
const AT_ONE_ADDRESS: usize = 64;
/// Addresses whose machines are remembered at least.
pub const ADDRESSES: usize = 2048;

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_cannot_be_read_is_explained_in_plain_words() {
        let uri = "/boot.ipxe?mac=52:54:00:12:34:56&mac=52:54:00:12:34:57".parse().expect("a URI");
        let rejection = Query::<query::Query>::try_from_uri(&uri).expect_err("two");
        assert_eq!(in_words(&rejection), "mac is in it more than once: send it once");
    }
}
