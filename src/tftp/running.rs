//! The transfers that run: by their number, by their client, by when each is due.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    mem,
    net::SocketAddrV4,
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;

use super::{
    apart::Cancel,
    bounds::Slots,
    run::{LastHeard, Run},
};
use crate::boot::why::Why;

/// See the module.
pub(super) struct Table {
    transfers: Slab<Running>,
    by_client: HashMap<Client, usize>,
    /// When to look at a transfer. One that is put off stays here until it is due, so that a packet costs nothing.
    alarms: BinaryHeap<Reverse<(Instant, usize)>>,
    /// In the order in which they began, some of them gone or answered meanwhile.
    unanswered: VecDeque<(Instant, usize)>,
    slots: Slots,
}

/// The listener that was asked, and who asked.
pub(super) type Client = (usize, SocketAddrV4);

pub(super) struct Running {
    pub(super) client: Client,
    request: Vec<u8>,
    began: Instant,
    heard: Arc<LastHeard>,
    alarm: Instant,
    pub(super) place: Place,
}

/// Who drives it.
pub(super) enum Place {
    Here(Box<Run>),
    Apart {
        /// Ends it by being dropped.
        _cancel: Cancel,
    },
}

impl Table {
    pub(super) fn new(slots: Slots) -> Self {
        Self {
            transfers: Slab::new(),
            by_client: HashMap::new(),
            alarms: BinaryHeap::new(),
            unanswered: VecDeque::new(),
            slots,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// Takes the right to one transfer more. Where there is none left, the oldest that was never answered has to go:
    /// one who never answered may not exist, and a flood of forged requests must not keep the real clients out, who
    /// answer within milliseconds. Its number comes back.
    pub(super) fn make_room(&mut self, client: Client) -> Result<Option<Running>, Why> {
        let evicted = if self.slots.is_full() { self.oldest_unanswered() } else { None };
        let evicted = evicted.and_then(|number| self.remove(number));
        self.slots.take(*client.1.ip())?;
        Ok(evicted)
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

    /// Gives back what [`Self::make_room`] took and nothing came of.
    pub(super) fn give_back(&mut self, client: Client) {
        self.slots.give_back(*client.1.ip());
    }

    /// Adds a transfer that has its right; its number.
    pub(super) fn add(&mut self, client: Client, request: Vec<u8>, run: Run) -> usize {
        let (began, heard, alarm) = (run.began, run.heard.clone(), run.transfer.deadline());
        let place = Place::Here(Box::new(run));
        let number = self.transfers.insert(Running { client, request, began, heard, alarm, place });
        self.by_client.insert(client, number);
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
        self.give_back(running.client);
        Some(running)
    }

    /// A transfer that is driven here.
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

    /// Gives a transfer out for somebody else to drive, who is stopped by `cancel`.
    pub(super) fn hand_over(&mut self, number: usize, cancel: Cancel) -> Option<Run> {
        let running = self.transfers.get_mut(number)?;
        match mem::replace(&mut running.place, Place::Apart { _cancel: cancel }) {
            Place::Here(run) => Some(*run),
            Place::Apart { .. } => None,
        }
    }

    /// The transfer that somebody else drove to its end.
    pub(super) fn ended_apart(&mut self) {
        let apart = self.transfers.iter().find(|(_, running)| matches!(running.place, Place::Apart { .. }));
        if let Some(number) = apart.map(|(number, _)| number) {
            self.remove(number);
        }
    }

    /// Whether a request is the one that a running transfer has been answering, sent again or doubled on the way: a
    /// second transfer would take its client away from the first. After a second of silence it is a machine that was
    /// reset and uses its old port again (ROMs count them from the same start), and begins anew.
    pub(super) fn is_repetition(&self, client: Client, request: &[u8]) -> bool {
        let running = self.of_client(client).and_then(|number| self.transfers.get(number));
        running.is_some_and(|running| running.request == request && running.heard.within(Duration::from_secs(1)))
    }

    /// When [`Self::due`] has something.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    /// Looks at a transfer no later than at its deadline, which a packet may have brought forward.
    pub(super) fn watch(&mut self, number: usize) {
        if let Some(running) = self.transfers.get_mut(number)
            && let Place::Here(run) = &running.place
            && run.transfer.deadline() < running.alarm
        {
            running.alarm = run.transfer.deadline();
            self.alarms.push(Reverse((running.alarm, number)));
        }
    }

    /// A transfer whose deadline has come. It has to be watched again.
    pub(super) fn due(&mut self, now: Instant) -> Option<usize> {
        while let Some(Reverse((at, number))) = self.alarms.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.alarms.pop();
            // An alarm of one that has gone, or of a deadline that was brought forward.
            let Some(running) = self.transfers.get_mut(number).filter(|running| running.alarm == at) else { continue };
            let Place::Here(run) = &running.place else { continue };
            running.alarm = run.transfer.deadline();
            if running.alarm <= now {
                // Its next deadline is not known before it was looked at.
                running.alarm = now + FAR;
                return Some(number);
            }
            self.alarms.push(Reverse((running.alarm, number)));
        }
        None
    }
}

/// Beyond every deadline.
const FAR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::sync::mpsc;

    use super::*;

    fn client(number: u8) -> Client {
        (0, SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, number), 2070))
    }

    fn run(peer: SocketAddrV4, began: Instant) -> Run {
        crate::tftp::run::tests::run(peer, began, mpsc::channel(1).0)
    }

    #[test]
    fn of_a_full_table_the_oldest_goes_that_never_answered_and_no_other() {
        let mut table = Table::new(Slots::new(3, 8));
        let now = Instant::now();
        let numbers: Vec<usize> = (0..3)
            .map(|n| {
                assert!(table.make_room(client(n)).expect("room").is_none());
                table.add(client(n), Vec::new(), run(client(n).1, now + Duration::from_millis(n.into())))
            })
            .collect();
        let heard = |table: &mut Table, number| {
            let mut packets = Vec::new();
            let run = table.run(number).expect("it runs");
            let peer = run.peer;
            assert!(run.receive(&[0, 4, 0, 0], peer, &mut packets).is_none());
        };
        heard(&mut table, numbers[0]);
        let evicted = table.make_room(client(3)).expect("room").expect("one had to go");
        assert_eq!(evicted.client, client(1));
        let fourth = table.add(client(3), Vec::new(), run(client(3).1, now + Duration::from_secs(1)));
        heard(&mut table, numbers[2]);
        heard(&mut table, fourth);
        assert_eq!(table.make_room(client(4)).map(|_| ()), Err(Why::Busy("in total")), "these are real");
        table.remove(numbers[0]);
        assert!(table.make_room(client(4)).expect("room").is_none());
    }

    #[test]
    fn a_transfer_is_due_at_its_deadline_and_once() {
        let mut table = Table::new(Slots::new(3, 8));
        let now = Instant::now();
        table.make_room(client(0)).expect("room");
        let number = table.add(client(0), Vec::new(), run(client(0).1, now));
        let deadline = table.run(number).expect("it runs").transfer.deadline();
        assert_eq!((table.next_alarm(), table.due(now)), (Some(deadline), None));
        assert_eq!((table.due(deadline), table.due(deadline)), (Some(number), None));
        table.watch(number);
        assert_eq!(table.due(deadline), Some(number), "it was not looked at");
        table.remove(number);
        assert_eq!(table.due(deadline + FAR * 2), None);
    }
}
