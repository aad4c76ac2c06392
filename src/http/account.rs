//! The account of one connection: what was written to it, how much of that the client has acknowledged, and what there
//! is to report about the transfers on it. Positions are bytes since the connection began.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    boot::over::{Of, Over},
    timeline::{
        event::What,
        peer::Sample,
        transfer::{At, Failure, Pace, Part, Pause, Progress, Silent, Transfer},
    },
};

/// Kept by [`super::connection::Connection`]. The caller reports what its functions return.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Given to the kernel.
    written: u64,
    /// Acknowledged by the client, when last looked at.
    acked: u64,
    /// Not acknowledged whole, oldest first.
    transfers: VecDeque<Running>,
    /// Why the body on its way cannot be sent to its end.
    failure: Option<String>,
}

/// A body on its way.
#[derive(Debug)]
struct Running {
    of: Of,
    name: String,
    length: u64,
    part: Option<Part>,
    began: Instant,
    /// Of its first byte; `None` until that was written.
    start: Option<u64>,
    /// Bytes of it given to the kernel.
    given: u64,
    /// Whether its start was reported.
    is_told: bool,
    /// When its progress was reported, and how many bytes of it were acknowledged then.
    told: (Instant, u64),
    pause: Option<Told>,
    pauses: u32,
}

/// A pause that was reported.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// How long it had lasted then.
    told: Duration,
    /// And when last looked at.
    lasted: Duration,
}

impl Account {
    /// A body of this length is about to be sent: a whole file.
    #[cfg(test)]
    pub(super) fn begin(&mut self, of: Of, name: String, length: u64, now: Instant) {
        self.begin_part(of, name, length, None, now);
    }

    /// The same of a part of a file.
    pub(super) fn begin_part(&mut self, of: Of, name: String, length: u64, part: Option<Part>, now: Instant) {
        let told = (now, 0);
        let (start, pause, is_told) = (None, None, false);
        let transfer = Running { of, name, length, part, began: now, start, given: 0, is_told, told, pause, pauses: 0 };
        self.transfers.push_back(transfer);
    }

    /// Bytes that are no part of a body went out. Whether there is something to look after that was not there before.
    pub(super) fn wrote(&mut self, count: usize) -> bool {
        let was_settled = self.is_settled();
        self.written += count as u64;
        was_settled
    }

    /// Bytes of a body went out. Whether that was the end of it.
    pub(super) fn wrote_of_body(&mut self, count: usize) -> bool {
        let start = self.written;
        self.written += count as u64;
        let Some(transfer) = self.transfers.iter_mut().find(|transfer| transfer.given < transfer.length) else {
            return false;
        };
        transfer.start.get_or_insert(start);
        transfer.given += count as u64;
        transfer.given == transfer.length
    }

    /// The bytes of the body on its way that are written, and when it began.
    pub(super) fn on_its_way(&self) -> Option<(u64, Instant)> {
        let on_its_way = self.transfers.iter().find(|transfer| transfer.given < transfer.length);
        on_its_way.map(|transfer| (transfer.given, transfer.began))
    }

    /// Why the body on its way cannot be sent to its end.
    pub(super) fn fail(&mut self, failure: &str) {
        self.failure = Some(failure.to_owned());
    }

    /// Whether a transfer is not at its end, as far as was looked.
    pub(super) fn is_busy(&self) -> bool {
        !self.transfers.is_empty()
    }

    /// Whether the client has everything that was sent, as far as was looked.
    pub(super) fn is_settled(&self) -> bool {
        self.transfers.is_empty() && self.acked >= self.written
    }

    /// Whether all that was promised to the client is in the kernel's hands.
    pub(super) fn is_given(&self) -> bool {
        self.transfers.iter().all(|transfer| transfer.given == transfer.length)
    }

    /// So many bytes are acknowledged, the last of them at `at`: ends of transfers, start and progress of the next one.
    /// A small file is acknowledged before anyone looks, and its end says it all.
    pub(super) fn acknowledged(&mut self, acked: u64, at: Instant) -> Vec<What> {
        self.acked = acked;
        let mut tell = Vec::new();
        while self.transfers.front().is_some_and(|transfer| transfer.is_acked(acked)) {
            if let Some(transfer) = self.transfers.pop_front() {
                transfer.end(acked, at, None, &mut tell);
            }
        }
        if let Some(transfer) = self.transfers.front_mut() {
            tell.extend(transfer.tell_progress(acked, at));
        }
        tell
    }

    /// The current transfer pauses, which is reported again when it has paused twice as long; or it continues.
    pub(super) fn pace(&mut self, pause: Option<Pause>) -> Option<What> {
        let acked = self.acked;
        let transfer = self.transfers.front_mut()?;
        let at = match (pause, &mut transfer.pause) {
            (None, None) => return None,
            (None, Some(paused)) => {
                let lasted = paused.lasted;
                transfer.pause = None;
                At::GoesOn { paused: lasted }
            }
            (Some(now), Some(paused)) if now.lasted < 2 * paused.told => {
                paused.lasted = now.lasted;
                return None;
            }
            (Some(now), paused) => {
                transfer.pauses += u32::from(paused.is_none());
                *paused = Some(Told { told: now.lasted, lasted: now.lasted });
                At::Paused(now)
            }
        };
        // A trickle pauses again and again: that is reported a few times, not without end.
        (transfer.pauses <= PAUSES_TOLD).then(|| What::Pace(transfer.pace(acked, at)))
    }

    /// A client that was sent all that is on its way, and lacks nothing but to acknowledge the end of it.
    pub(super) fn silent(&self, Sample { notsent, since_ack, .. }: &Sample) -> Option<What> {
        let transfer = self.transfers.front().filter(|transfer| transfer.given == transfer.length)?;
        let unacknowledged = transfer.length - transfer.acked(self.acked);
        let is_end = self.transfers.len() == 1 && *notsent == 0 && (1..=UNACKNOWLEDGED).contains(&unacknowledged);
        // A part in the middle of a file is no end; a look at one starts nothing.
        let reaches_the_end = |part: Part| !part.is_look && part.start + transfer.length >= part.whole;
        let is_end = is_end && transfer.part.is_none_or(reaches_the_end);
        is_end.then(|| What::Silent(Silent { name: transfer.name.clone(), unacknowledged, since: *since_ack }))
    }

    /// Nothing more will be acknowledged: the ends of everything on its way. A body that failed is reported with its failure.
    pub(super) fn give_up(&mut self, why: Failure, now: Instant) -> Vec<What> {
        let mut tell = Vec::new();
        let why = self.failure.take().map_or(why, Failure::ours);
        for transfer in std::mem::take(&mut self.transfers) {
            transfer.end(self.acked, now, Some(why.clone()), &mut tell);
        }
        tell
    }
}

impl Running {
    /// Bytes of it that are acknowledged, of so many in all.
    fn acked(&self, acked: u64) -> u64 {
        self.start.map_or(0, |start| acked.saturating_sub(start).min(self.given))
    }

    fn is_acked(&self, acked: u64) -> bool {
        self.acked(acked) == self.length && self.given == self.length
    }

    fn tell_progress(&mut self, acked: u64, now: Instant) -> Option<What> {
        if !self.is_told {
            self.is_told = true;
            // What is acknowledged by now is counted with the next news of it.
            return Some(What::Started(Progress { fresh: 0, ..self.progress(acked, now) }));
        }
        let (told, before) = self.told;
        let is_due = now.saturating_duration_since(told) >= PROGRESS && self.acked(acked) > before;
        is_due.then(|| {
            let progress = self.progress(acked, now);
            self.told = (now, progress.acked);
            What::Progress(progress)
        })
    }

    fn progress(&self, acked: u64, now: Instant) -> Progress {
        let (of, name, acked, size) = (self.of, self.name.clone(), self.acked(acked), self.length);
        let (told, before) = self.told;
        let seconds = now.saturating_duration_since(told).as_secs_f64();
        let fresh = acked.saturating_sub(before);
        let rate = if seconds > 0.0 { (fresh as f64 / seconds) as u64 } else { 0 };
        let (took, over) = (now.saturating_duration_since(self.began), Over::Http);
        Progress { of, name, acked, size, took, rate, fresh, over }
    }

    fn pace(&self, acked: u64, at: At) -> Pace {
        Pace { of: self.of, name: self.name.clone(), acked: self.acked(acked), size: self.length, at }
    }

    fn end(self, acked: u64, at: Instant, failure: Option<Failure>, tell: &mut Vec<What>) {
        // It went on and came to its end between two looks.
        if let Some(Told { lasted, .. }) = self.pause.filter(|_| failure.is_none()) {
            tell.push(What::Pace(self.pace(acked, At::GoesOn { paused: lasted })));
        }
        let (sent, took) = (self.acked(acked), at.saturating_duration_since(self.began));
        let Self { of, name, length: size, part, told: (_, before), .. } = self;
        let (fresh, over) = (sent.saturating_sub(before), Over::Http);
        let transfer = Transfer { of, name, sent, size, took, failure, fresh, over };
        tell.push(match part {
            Some(part) => What::Part(transfer, part),
            None => What::Transfer(transfer),
        });
    }
}

/// Bytes: the window of an iPXE before 2023. With more than that outstanding the client cannot have had it all.
const UNACKNOWLEDGED: u64 = 256 << 10;
/// Of a transfer, so that a trickle does not fill the log.
const PAUSES_TOLD: u32 = 3;
/// Between two tellings of how far a transfer is.
const PROGRESS: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn progress(acked: u64, took: u64, rate: u64, fresh: u64) -> Progress {
        let over = Over::Http;
        Progress { of: Of::Asset, name: "k".into(), acked, size: 1000, took: secs(took), rate, fresh, over }
    }

    fn ended(sent: u64, took: u64, failure: Option<&str>, fresh: u64) -> What {
        let failure = failure.map(|words| Failure::Ours(words.to_owned()));
        let (of, name, took, over) = (Of::Asset, "k".into(), secs(took), Over::Http);
        What::Transfer(Transfer { of, name, sent, size: 1000, took, failure, fresh, over })
    }

    fn paced(acked: u64, at: At) -> What {
        What::Pace(Pace { of: Of::Asset, name: "k".into(), acked, size: 1000, at })
    }

    /// A body of 1,000 bytes behind a header of 100, all given to the kernel.
    fn sent(began: Instant) -> Account {
        let mut account = Account::default();
        account.begin(Of::Asset, "k".into(), 1000, began);
        assert!(!account.wrote(100) && !account.is_given());
        assert!(!account.wrote_of_body(400) && account.wrote_of_body(600) && account.is_given());
        account
    }

    #[test]
    fn a_transfer_is_told_from_its_start_to_its_last_acknowledgement() {
        let began = Instant::now();
        let mut account = sent(began);
        let started = What::Started(progress(0, 9, 0, 0));
        assert_eq!(account.acknowledged(100, began + secs(9)), [started], "the header is none of it");
        assert_eq!(account.acknowledged(400, began + secs(10)), [What::Progress(progress(300, 10, 30, 300))]);
        assert_eq!(account.acknowledged(600, began + secs(11)), [], "not every second");
        assert_eq!(account.acknowledged(700, began + secs(13)), [What::Progress(progress(600, 13, 100, 300))]);
        assert_eq!(account.acknowledged(700, began + secs(30)), [], "nothing new");
        assert!(!account.is_settled());
        assert_eq!(account.acknowledged(1100, began + secs(31)), [ended(1000, 31, None, 400)]);
        assert!(account.is_settled() && account.wrote(1) && !account.is_settled());
    }

    #[test]
    fn silence_is_at_the_end_where_all_was_sent_and_little_is_unacknowledged() {
        let began = Instant::now();
        let mut account = sent(began);
        account.acknowledged(900, began);
        let sample = Sample { since_ack: secs(10), ..Sample::default() };
        let silent = Silent { name: "k".into(), unacknowledged: 200, since: secs(10) };
        assert_eq!(account.silent(&sample), Some(What::Silent(silent)));
        assert_eq!(account.silent(&Sample { notsent: 1, ..sample }), None, "it cannot have what was not sent");
        account.acknowledged(1100, began);
        assert_eq!(account.silent(&sample), None, "it has all");
        let mut large = Account::default();
        large.begin(Of::Asset, "k".into(), UNACKNOWLEDGED + 1, began);
        assert!(!large.wrote_of_body(1));
        assert_eq!(large.silent(&sample), None, "not all was written");
        assert!(large.wrote_of_body(UNACKNOWLEDGED as usize));
        assert_eq!(large.silent(&sample), None, "more than a window");
        large.acknowledged(1, began);
        assert!(large.silent(&sample).is_some());
    }

    #[test]
    fn a_small_file_is_told_once() {
        let began = Instant::now();
        assert_eq!(sent(began).acknowledged(1100, began + secs(1)), [ended(1000, 1, None, 1000)]);
    }

    #[test]
    fn a_pause_is_told_when_it_begins_when_it_has_doubled_and_when_it_ends() {
        let began = Instant::now();
        let mut account = sent(began);
        account.acknowledged(600, began);
        let pause = |seconds| Pause { lasted: secs(seconds), window_closed: true };
        assert_eq!(account.pace(None), None);
        assert_eq!(account.pace(Some(pause(5))), Some(paced(500, At::Paused(pause(5)))));
        assert_eq!(account.pace(Some(pause(9))), None);
        assert_eq!(account.pace(Some(pause(10))), Some(paced(500, At::Paused(pause(10)))));
        assert_eq!(account.pace(Some(pause(12))), None);
        assert_eq!(account.pace(None), Some(paced(500, At::GoesOn { paused: secs(12) })));
        for _ in 1..PAUSES_TOLD {
            assert!(account.pace(Some(pause(5))).is_some() && account.pace(None).is_some());
        }
        assert_eq!((account.pace(Some(pause(5))), account.pace(None)), (None, None), "a trickle");
    }

    #[test]
    fn a_pause_that_ended_with_the_transfer_is_told_to_have_ended() {
        let began = Instant::now();
        let mut account = sent(began);
        let pause = Pause { lasted: secs(6), window_closed: false };
        assert!(account.pace(Some(pause)).is_some());
        let told = account.acknowledged(1100, began + secs(7));
        assert_eq!(told, [paced(1000, At::GoesOn { paused: secs(6) }), ended(1000, 7, None, 1000)]);
    }

    #[test]
    fn what_is_given_up_says_how_far_it_came_and_the_first_cause() {
        let began = Instant::now();
        let mut account = sent(began);
        account.acknowledged(350, began);
        account.begin(Of::Asset, "k".into(), 1000, began);
        account.fail("the file was cut short");
        let why = Some("the file was cut short");
        assert_eq!(account.give_up(Failure::Closed, began + secs(3)), [ended(250, 3, why, 250), ended(0, 3, why, 0)]);
        assert_eq!(account.give_up(Failure::Closed, began + secs(3)), []);
    }
}
