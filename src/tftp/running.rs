//! The running transfers: by number, by client, and by deadline.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    mem,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;

use super::{
    apart::Cancel,
    run::{LastHeard, Run},
};
use crate::{
    boot::{
        over::{Of, Over},
        reason::Reason,
    },
    timeline::transfer::{self, Failure},
};

/// See the module.
pub(super) struct Table {
    transfers: Slab<Running>,
    by_client: HashMap<Client, usize>,
    /// When to check a transfer. A later deadline is not stored until the old one is due, so that a packet costs
    /// nothing.
    alarms: BinaryHeap<Reverse<(Instant, usize)>>,
    by_address: HashMap<Ipv4Addr, Vec<usize>>,
    /// In the order of their starts. Some of them have ended or were answered since.
    unanswered: VecDeque<(Instant, usize)>,
    limits: Limits,
    /// Until when no search for a silent transfer is needed: the last one found none.
    full_until: Option<Instant>,
}

/// The limits for the number of transfers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// In total.
    pub(super) total: usize,
    /// For one address: transfers that the client does not answer. Answered transfers are not limited, because a whole
    /// room of machines can share one address.
    pub(super) silent_per_address: usize,
}

/// The listener and the client's address.
pub(super) type Client = (usize, SocketAddrV4);

pub(super) struct Running {
    pub(super) client: Client,
    name: String,
    of: Of,
    size: u64,
    request: Vec<u8>,
    began: Instant,
    heard: Arc<LastHeard>,
    alarm: Instant,
    pub(super) place: Place,
}

/// Which thread runs it.
pub(super) enum Place {
    Here(Box<Run>),
    Apart(Cancel),
}

impl Running {
    /// Its state, for status output.
    fn left(&self) -> transfer::Transfer {
        let (of, name, size, sent) = (self.of, self.name.clone(), self.size, self.heard.acked());
        let (took, failure, over) = (self.began.elapsed(), Some(Failure::Anew), Over::Tftp);
        // Bytes that were acknowledged since the last report are counted at its end.
        transfer::Transfer { of, name, sent, size, took, failure, fresh: 0, over }
    }
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            transfers: Slab::new(),
            by_client: HashMap::new(),
            by_address: HashMap::new(),
            alarms: BinaryHeap::new(),
            unanswered: VecDeque::new(),
            limits,
            full_until: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// Makes room for one more transfer, and returns those that have to end for it.
    ///
    /// First come the transfers of the same address. If too many of them were never answered, or fell silent, the
    /// oldest ends. So a machine that is switched off and on ten times during a transfer is served at once, and a flood
    /// of forged requests sends its victim only a few packets per second. Then, if the table is full, the oldest
    /// transfer that was never answered ends: its client may not exist, and real clients answer within milliseconds.
    /// Then the one that is silent for the longest time.
    ///
    /// # Errors
    /// [`Reason::Busy`].
    pub(super) fn make_room(&mut self, client: Client, now: Instant) -> Result<Vec<Running>, Reason> {
        let mut evicted = Vec::new();
        let own = self.by_address.get(client.1.ip()).map(Vec::as_slice).unwrap_or_default();
        let own = || own.iter().filter_map(|number| Some((*number, self.transfers.get(*number)?)));
        let limit = self.limits.silent_per_address;
        let unanswered = || own().filter(|(_, running)| !running.heard.ever());
        let silent = || own().filter(|(_, running)| !running.heard.within(SILENT));
        let (unheard, fell_silent) = (unanswered().count(), silent().count());
        let oldest = unanswered().min_by_key(|(_, running)| running.began).filter(|_| unheard >= limit);
        let quietest = silent().max_by_key(|(_, running)| running.heard.silence()).filter(|_| fell_silent >= limit);
        let is_young = |running: &Running| now.saturating_duration_since(running.began) < UNANSWERED;
        match oldest {
            Some((_, running)) if is_young(running) && unheard >= limit.max(AT_ONCE) => {
                return Err(Reason::Busy("of this client"));
            }
            Some((number, running)) if !is_young(running) => evicted.push(number),
            _ => {}
        }
        evicted.extend(quietest.map(|(number, _)| number));
        let mut evicted: Vec<Running> = evicted.into_iter().filter_map(|number| self.remove(number)).collect();
        if self.transfers.len() >= self.limits.total {
            let number = self.oldest_unanswered().or_else(|| self.quietest(now)).ok_or(Reason::Busy("in total"));
            evicted.extend(self.remove(number?));
        }
        Ok(evicted)
    }

    /// The transfer that is silent for the longest time. The search runs at most once per second.
    fn quietest(&mut self, now: Instant) -> Option<usize> {
        if self.full_until.is_some_and(|until| now < until) {
            return None;
        }
        let silent = self.transfers.iter().filter(|(_, running)| !running.heard.within(SILENT));
        let quietest = silent.max_by_key(|(_, running)| running.heard.silence()).map(|(number, _)| number);
        self.full_until = quietest.is_none().then_some(now + SEARCH_AGAIN);
        quietest
    }

    /// Transfers that an address has probably left, because it starts another one. Each is returned once.
    pub(super) fn left_behind(&self, client: Client) -> Vec<transfer::Transfer> {
        let own = self.by_address.get(client.1.ip()).map(Vec::as_slice).unwrap_or_default();
        let own = own.iter().filter_map(|number| self.transfers.get(*number));
        let left = own.filter(|running| !running.heard.within(LEFT) && running.heard.supersede());
        left.map(Running::left).collect()
    }

    fn oldest_unanswered(&mut self) -> Option<usize> {
        while let Some((began, number)) = self.unanswered.pop_front() {
            if self.is_unanswered(began, number) {
                return Some(number);
            }
        }
        None
    }

    fn is_unanswered(&self, began: Instant, number: usize) -> bool {
        self.transfers.get(number).is_some_and(|running| running.began == began && !running.heard.ever())
    }

    /// Adds a transfer, after [`Self::make_room`]. Returns its number.
    pub(super) fn add(&mut self, client: Client, request: Vec<u8>, run: Run) -> usize {
        let (began, heard, alarm) = (run.began, run.heard.clone(), run.transfer.deadline());
        let (name, of, size) = (run.name.clone(), run.of, run.source.size());
        let place = Place::Here(Box::new(run));
        let running = Running { client, name, of, size, request, began, heard, alarm, place };
        let number = self.transfers.insert(running);
        self.by_client.insert(client, number);
        self.by_address.entry(*client.1.ip()).or_default().push(number);
        self.alarms.push(Reverse((alarm, number)));
        while self.unanswered.front().is_some_and(|(began, number)| !self.is_unanswered(*began, *number)) {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((began, number));
        number
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<Running> {
        let running = self.transfers.try_remove(number)?;
        if self.by_client.get(&running.client) == Some(&number) {
            self.by_client.remove(&running.client);
        }
        if let Some(own) = self.by_address.get_mut(running.client.1.ip()) {
            own.retain(|other| *other != number);
            if own.is_empty() {
                self.by_address.remove(running.client.1.ip());
            }
        }
        self.full_until = None;
        Some(running)
    }

    /// A transfer of this thread.
    pub(super) fn run(&mut self, number: usize) -> Option<&mut Run> {
        match self.transfers.get_mut(number).map(|running| &mut running.place) {
            Some(Place::Here(run)) => Some(run),
            _ => None,
        }
    }

    pub(super) fn of_client(&self, client: Client) -> Option<usize> {
        self.by_client.get(&client).copied()
    }

    /// The number of the only transfer.
    pub(super) fn alone(&self) -> Option<usize> {
        if self.transfers.len() == 1 { self.transfers.iter().next().map(|(number, _)| number) } else { None }
    }

    /// Gives a transfer to another thread, which stops when `cancel` is dropped.
    pub(super) fn hand_over(&mut self, number: usize, cancel: Cancel) -> Option<Run> {
        let running = self.transfers.get_mut(number)?;
        match mem::replace(&mut running.place, Place::Apart(cancel)) {
            Place::Here(run) => Some(*run),
            Place::Apart(_) => None,
        }
    }

    /// The transfers of a listener.
    pub(super) fn of_listener(&self, index: usize) -> Vec<usize> {
        let own = self.transfers.iter().filter(|(_, running)| running.client.0 == index);
        own.map(|(number, _)| number).collect()
    }

    /// The silent transfers, for a server that stops.
    pub(super) fn silent(&self) -> Vec<usize> {
        let silent = self.transfers.iter().filter(|(_, running)| !running.heard.within(SILENT));
        silent.map(|(number, _)| number).collect()
    }

    /// The transfer that another thread ran to its end.
    pub(super) fn ended_apart(&mut self) {
        let apart = self.transfers.iter().find(|(_, running)| matches!(running.place, Place::Apart(_)));
        if let Some(number) = apart.map(|(number, _)| number) {
            self.remove(number);
        }
    }

    /// Whether a request is a copy of the request of a running transfer: sent again, or doubled by the network. A
    /// second transfer would take the client away from the first. After a second of silence, the machine was probably
    /// reset and uses the same port again (ROMs count ports from the same start). Then a new transfer starts.
    pub(super) fn is_repetition(&self, client: Client, request: &[u8]) -> bool {
        let running = self.of_client(client).and_then(|number| self.transfers.get(number));
        running.is_some_and(|running| running.request == request && running.heard.within(Duration::from_secs(1)))
    }

    /// When [`Self::due`] returns something.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    /// Checks a transfer at its deadline at the latest. A packet may have set an earlier deadline.
    pub(super) fn watch(&mut self, number: usize) {
        if let Some(running) = self.transfers.get_mut(number)
            && let Place::Here(run) = &running.place
            && run.transfer.deadline() < running.alarm
        {
            running.alarm = run.transfer.deadline();
            self.alarms.push(Reverse((running.alarm, number)));
        }
    }

    /// A transfer whose deadline has come. It has to be watched again. Alarms that come soon are set to the deadlines that
    /// hold now, so that the thread, which is awake, is not woken for them.
    pub(super) fn due(&mut self, now: Instant) -> Option<usize> {
        let soon = now + SOON;
        while let Some(Reverse((at, number))) = self.alarms.peek().copied().filter(|Reverse((at, _))| *at <= soon) {
            self.alarms.pop();
            // An alarm of a transfer that has ended, or of an old deadline.
            let Some(running) = self.transfers.get_mut(number).filter(|running| running.alarm == at) else { continue };
            let Place::Here(run) = &running.place else { continue };
            running.alarm = run.transfer.deadline();
            if running.alarm <= now {
                // Its next deadline is known after it was checked.
                running.alarm = now + FAR;
                return Some(number);
            }
            let is_next = at > now && running.alarm <= soon;
            self.alarms.push(Reverse((running.alarm, number)));
            if is_next {
                return None;
            }
        }
        None
    }
}

/// Half of the shortest deadline.
const SOON: Duration = Duration::from_millis(10);
/// Later than every deadline.
const FAR: Duration = Duration::from_secs(3600);
/// A client that acknowledged a block and does not ask for the next one in this time pauses, or is gone.
const SILENT: Duration = Duration::from_secs(10);
/// A client that starts another transfer after this silence has left the old one. Lost packets do not take so long.
const LEFT: Duration = Duration::from_secs(3);
/// The first answer of a real client takes milliseconds.
const UNANSWERED: Duration = Duration::from_secs(1);
/// Transfers of one address that may start together: a room of machines behind a router.
const AT_ONCE: usize = 64;
const SEARCH_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn client(number: u8) -> Client {
        (0, SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, number), 2070))
    }

    fn run(peer: SocketAddrV4, began: Instant) -> Run {
        crate::tftp::run::tests::run(peer, began, mpsc::channel(1).0)
    }

    fn table(total: usize, silent_per_address: usize) -> Table {
        Table::new(Limits { total, silent_per_address })
    }

    /// Starts one for an address at a time. Returns its number, and those that had to end.
    fn begin(table: &mut Table, client: Client, began: Instant) -> Result<(usize, Vec<u16>), Reason> {
        let evicted = table.make_room(client, began)?;
        let number = table.add(client, Vec::new(), run(client.1, began));
        Ok((number, evicted.into_iter().map(|running| running.client.1.port()).collect()))
    }

    fn heard(table: &mut Table, number: usize) {
        let run = table.run(number).expect("it runs");
        let peer = run.peer;
        assert!(run.receive(&[0, 4, 0, 0], peer, &mut Vec::new()).is_none());
    }

    /// A client behind one address.
    fn behind(port: u16) -> Client {
        (0, SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 200), port))
    }

    #[test]
    fn a_full_table_ends_the_oldest_transfer_that_was_never_answered() {
        let mut table = table(3, 8);
        let now = Instant::now();
        let numbers: Vec<usize> = (0..3)
            .map(|n| begin(&mut table, client(n), now + Duration::from_millis(n.into())).expect("room").0)
            .collect();
        heard(&mut table, numbers[0]);
        let evicted = table.make_room(client(3), now).expect("room");
        assert_eq!(evicted.into_iter().map(|running| running.client).collect::<Vec<_>>(), [client(1)]);
        let fourth = table.add(client(3), Vec::new(), run(client(3).1, now + Duration::from_secs(1)));
        heard(&mut table, numbers[2]);
        heard(&mut table, fourth);
        assert_eq!(table.make_room(client(4), now).map(|_| ()), Err(Reason::Busy("in total")), "these are real");
        table.remove(numbers[0]);
        assert!(table.make_room(client(4), now).expect("room").is_empty());
    }

    #[test]
    fn many_clients_behind_one_address_are_served_and_those_that_never_answer_make_room() {
        let mut table = table(256, 8);
        let now = Instant::now();
        for port in 0..20 {
            let (number, evicted) = begin(&mut table, behind(port), now).expect("room");
            assert!(evicted.is_empty(), "{port}");
            heard(&mut table, number);
        }
        // Transfers that start together had no time to answer. A flood must be limited anyway.
        for port in 100..164 {
            assert!(begin(&mut table, behind(port), now).expect("room").1.is_empty(), "{port}");
        }
        assert_eq!(begin(&mut table, behind(999), now).map(|_| ()), Err(Reason::Busy("of this client")));
        let later = now + Duration::from_secs(2);
        assert_eq!(begin(&mut table, behind(999), later).expect("room").1, [100]);
        assert_eq!(begin(&mut table, behind(998), later).expect("room").1, [101]);
        assert!(begin(&mut table, client(1), now).expect("room").1.is_empty(), "another address");
    }

    #[test]
    fn a_transfer_that_its_client_left_is_reported_once() {
        let mut table = table(256, 8);
        let (number, _) = begin(&mut table, behind(1), Instant::now()).expect("room");
        heard(&mut table, number);
        assert_eq!(table.left_behind(behind(2)), [], "it was heard just now");
        table.transfers.get(number).expect("it runs").heard.pretend_silence(Duration::from_secs(5));
        assert_eq!(table.left_behind(client(9)), [], "another address");
        let left = table.left_behind(behind(2));
        assert_eq!(
            left.iter().map(|t| (t.name.as_str(), &t.failure)).collect::<Vec<_>>(),
            [("f", &Some(Failure::Anew))]
        );
        assert_eq!(table.left_behind(behind(2)), []);
        let is_superseded = |table: &Table| table.transfers.get(number).expect("it runs").heard.is_superseded();
        assert!(is_superseded(&table));
        heard(&mut table, number);
        assert!(!is_superseded(&table), "it goes on after all");
    }

    #[test]
    fn the_oldest_silent_transfer_of_an_address_ends() {
        let mut table = table(256, 8);
        let now = Instant::now();
        for port in 0..30 {
            let (number, evicted) = begin(&mut table, behind(port), now).expect("room");
            assert_eq!(evicted, if port < 8 { vec![] } else { vec![port - 8] }, "{port}");
            heard(&mut table, number);
            let silence = Duration::from_secs(100 - u64::from(port));
            table.transfers.get(number).expect("it runs").heard.pretend_silence(silence);
        }
        assert_eq!(table.transfers.len(), 8);
        let mut small = self::table(2, 8);
        for (n, silence) in [(0, 20), (1, 40)] {
            let (number, _) = begin(&mut small, client(n), now).expect("room");
            heard(&mut small, number);
            small.transfers.get(number).expect("it runs").heard.pretend_silence(Duration::from_secs(silence));
        }
        let evicted = small.make_room(client(2), now).expect("room");
        assert_eq!(evicted.into_iter().map(|running| running.client).collect::<Vec<_>>(), [client(1)]);
    }

    #[test]
    fn a_transfer_is_due_at_its_deadline_and_once() {
        let mut table = table(3, 8);
        let now = Instant::now();
        let (number, _) = begin(&mut table, client(0), now).expect("room");
        let deadline = table.run(number).expect("it runs").transfer.deadline();
        assert_eq!((table.next_alarm(), table.due(now)), (Some(deadline), None));
        assert_eq!((table.due(deadline), table.due(deadline)), (Some(number), None));
        table.watch(number);
        assert_eq!(table.due(deadline), Some(number), "it was not looked at");
        table.remove(number);
        assert_eq!(table.due(deadline + FAR * 2), None);
    }

    #[test]
    fn an_alarm_that_comes_soon_is_set_anew_and_delays_none_that_is_due() {
        let mut table = table(3, 8);
        let began = Instant::now().checked_sub(Duration::from_millis(900)).expect("a time");
        let (answered, _) = begin(&mut table, client(0), began).expect("room");
        let old = table.next_alarm().expect("an alarm");
        let (silent, _) = begin(&mut table, client(1), began + SOON / 4).expect("room");
        let (later, _) = begin(&mut table, client(2), began + SOON / 2).expect("room");
        heard(&mut table, answered);
        let new = table.run(answered).expect("it runs").transfer.deadline();
        assert!(new > old, "it was answered");
        // Between the alarms of the first two.
        assert_eq!(table.due(old + SOON / 8), None);
        assert_eq!(table.next_alarm(), Some(old + SOON / 4), "the thread is not woken for the one that was answered");
        assert_eq!(table.due(old + SOON / 2), Some(silent));
        assert_eq!(table.due(old + SOON / 2), Some(later));
        assert_eq!((table.due(old + SOON / 2), table.next_alarm()), (None, Some(new)));
    }
}
