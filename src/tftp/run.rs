//! One transfer and its port: the state machine, driven by packets and by the clock.

use std::{
    io, mem,
    net::SocketAddrV4,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracing::debug;

use super::{
    bounds::SMALLEST_BLOCK,
    packet::{ErrorCode, Packet, error},
    source::Source,
    transfer::{End, Send, Step, Transfer},
};
use crate::{
    boot::over::{Of, Over},
    net::port::Port,
    timeline::{
        event::{Event, What, Who, count_lost},
        transfer::{self, At, Failure, Pace, Pause, Progress, Silent},
    },
};

/// A transfer that runs.
pub(super) struct Run {
    /// Its own port (RFC 1350 §4), or the shared one.
    pub(super) port: Arc<Port>,
    pub(super) peer: SocketAddrV4,
    pub(super) transfer: Transfer,
    pub(super) source: Source,
    pub(super) name: String,
    pub(super) of: Of,
    /// It asked for the size, and may need nothing else.
    pub(super) wants_size: bool,
    pub(super) heard: Arc<LastHeard>,
    pub(super) began: Instant,
    /// When its progress was last reported, and how many bytes were acknowledged then; `None` before the first report.
    pub(super) reported: Option<(Instant, u64)>,
    /// Whether it was reported that the client pauses.
    pub(super) is_paused: bool,
    /// Whether it was reported that the client is silent since it was sent the end of the file.
    pub(super) is_told_silent: bool,
    pub(super) events: mpsc::Sender<Event>,
    /// It boots nothing: nothing is said of it.
    pub(super) is_look: bool,
}

/// How a transfer ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// By the protocol.
    Protocol(End),
    /// By a new request of its client.
    Replaced,
    /// To make room for another one.
    Evicted,
    /// The server stops, and the client is silent.
    Stopping,
    /// The address of its port is gone.
    AddressGone,
    /// The file could not be read.
    Unreadable(io::Error),
    /// By a bug in netbootd. Only this transfer ends.
    Panic,
}

/// The port of a transfer that ended, and its client.
pub(super) type Left = (Arc<Port>, SocketAddrV4);

impl Run {
    /// The port, if the client does not know that the transfer has ended and may come back.
    pub(super) fn left_open(&self, ending: &Ending) -> Option<Left> {
        let is_unheard = matches!(ending, Ending::Protocol(End::Silent) | Ending::Evicted);
        (is_unheard && self.heard.ever()).then(|| (self.port.clone(), self.peer))
    }

    /// Handles a datagram of its port. `packets` is a buffer for the reply; it is reused, so that a block needs no
    /// allocation.
    pub(super) fn receive(&mut self, datagram: &[u8], from: SocketAddrV4, packets: &mut Vec<u8>) -> Option<Ending> {
        self.guarded(|run| {
            if from != run.peer {
                // A packet of another client, or a forged one, does not change the transfer (RFC 1350 §4).
                let packet = error(ErrorCode::UnknownTransferId, "this port serves another client");
                run.transmit(from, &packet, packet.len());
                return None;
            }
            let packet = Packet::parse(datagram).ok()?;
            let now = run.heard.now();
            let (_, silence) = run.transfer.silence(now);
            let step = run.transfer.receive(&packet, now);
            run.heard.acked.store(run.transfer.acked_bytes(), Ordering::Relaxed);
            if run.is_paused && run.transfer.silence(now).1.is_zero() {
                run.is_paused = false;
                run.tell_pace(At::GoesOn { paused: silence });
            }
            run.tell_progress(now);
            run.act(step, packets)
        })
    }

    /// Does what is due now.
    pub(super) fn ring(&mut self, now: Instant, packets: &mut Vec<u8>) -> Option<Ending> {
        if now < self.transfer.deadline() {
            return None;
        }
        self.guarded(|run| {
            let (_, silence) = run.transfer.silence(now);
            if silence >= PAUSE && run.reported.is_some() && !run.is_paused && !run.heard.is_superseded() {
                run.is_paused = true;
                run.tell_pace(At::Paused(Pause { lasted: silence, window_closed: false }));
            }
            run.tell_silent(silence);
            let step = run.transfer.timed_out(now);
            run.act(step, packets)
        })
    }

    pub(super) fn act(&mut self, step: Step, packets: &mut Vec<u8>) -> Option<Ending> {
        match step {
            Step::End(end) => return Some(Ending::Protocol(end)),
            Step::Wait => {}
            Step::Send(Send::Packet(packet)) => self.transmit(self.peer, &packet, packet.len()),
            Step::Send(Send::Blocks { first, count }) => {
                let block_size = self.transfer.block_size();
                if let Err(failure) = self.source.blocks(first, count, block_size, packets) {
                    let packet = error(ErrorCode::NotDefined, &failure.to_string());
                    self.transmit(self.peer, &packet, packet.len());
                    return Some(Ending::Unreadable(failure));
                }
                self.transmit(self.peer, packets, usize::from(block_size) + DATA_HEADER);
            }
        }
        None
    }

    /// A packet that cannot be sent counts as lost: the timer sends it again, or gives up.
    fn transmit(&self, to: SocketAddrV4, bytes: &[u8], segment: usize) {
        if let Err(error) = self.port.send(to, bytes, segment) {
            debug!(%error, %to, "cannot send a TFTP packet");
        }
    }

    /// A panic ends one transfer, not the thread with all the others.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Option<Ending>) -> Option<Ending> {
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or(Some(Ending::Panic))
    }

    /// Reported after the client's first acknowledgement: a forged request starts no transfer.
    fn tell_progress(&mut self, now: Instant) {
        let is_soon = self.reported.is_some_and(|(at, _)| now < at + NEWS_EVERY);
        if is_soon || self.transfer.acked_blocks() == 0 {
            return;
        }
        let acked = self.transfer.acked_bytes();
        let kind = if self.reported.is_none() { What::Started } else { What::Progress };
        let (since, before) = self.reported.replace((now, acked)).unwrap_or((self.began, 0));
        let fresh = acked - before;
        let rate = fresh as f64 / now.saturating_duration_since(since).as_secs_f64().max(1e-6);
        let progress = Progress {
            of: self.of,
            name: self.name.clone(),
            acked,
            size: self.source.size(),
            took: now.saturating_duration_since(self.began),
            rate: rate as u64,
            fresh,
            over: Over::Tftp,
        };
        self.tell(kind(progress));
    }

    fn tell_pace(&self, at: At) {
        let (acked, size) = (self.transfer.acked_bytes(), self.source.size());
        self.tell(What::Pace(Pace { of: self.of, name: self.name.clone(), acked, size, at }));
    }

    /// The last acknowledgement may be lost, and a client that has the file does not send it again. It may also go on with
    /// its next file.
    fn tell_silent(&mut self, since: Duration) {
        let is_at_the_end = self.of == Of::Asset && self.transfer.is_all_sent();
        if since >= PAUSE && is_at_the_end && !mem::replace(&mut self.is_told_silent, true) {
            let unacknowledged = self.source.size() - self.transfer.acked_bytes();
            self.tell(What::Silent(Silent { name: self.name.clone(), unacknowledged, since }));
        }
    }

    /// Reports the end, if it is of interest.
    pub(super) fn tell_end(self, ending: Ending) {
        if self.is_look {
            return debug!(peer = %self.peer, name = self.name, "netbootd doctor fetched a file");
        }
        if self.heard.is_superseded() {
            return debug!(peer = %self.peer, name = self.name, ?ending, "TFTP transfer ended after its client had left it");
        }
        let failure = match ending {
            Ending::Protocol(End::Complete) => None,
            // EDK2 asks only for the size and ends the transfer before the first block. This is not a failure.
            Ending::Protocol(End::Aborted(code, words)) if self.transfer.acked_bytes() == 0 && self.wants_size => {
                return debug!(peer = %self.peer, code, words, name = self.name, "TFTP size probe");
            }
            Ending::Protocol(End::Aborted(code, words)) => Some(Failure::Ended(code, words)),
            Ending::Protocol(End::Silent) => Some(Failure::Silent(silence(&self.transfer))),
            Ending::Replaced => Some(Failure::Anew),
            Ending::Evicted | Ending::Stopping if self.heard.ever() => Some(Failure::Silent(silence(&self.transfer))),
            // It is unknown whether this client exists. So this is not reported.
            Ending::Evicted | Ending::Stopping => {
                return debug!(peer = %self.peer, name = self.name, "TFTP transfer of a silent client ended to make room");
            }
            Ending::Unreadable(error) => Some(Failure::ours(error.to_string())),
            Ending::AddressGone => Some(Failure::Ours("the address of this server is gone".into())),
            Ending::Panic => Some(Failure::Ours("a bug in netbootd; see the log line above".into())),
        };
        let (sent, size) = (self.transfer.acked_bytes(), self.source.size());
        let fresh = sent - self.reported.map_or(0, |(_, before)| before);
        let (took, over) = (self.began.elapsed(), Over::Tftp);
        let transfer = transfer::Transfer { of: self.of, name: self.name, sent, size, took, failure, fresh, over };
        tell(&self.events, self.peer, What::Transfer(transfer));
    }

    fn tell(&self, what: What) {
        if !self.is_look {
            tell(&self.events, self.peer, what);
        }
    }
}

fn silence(transfer: &Transfer) -> String {
    let repeated = transfer.retransmissions();
    match transfer.acked_blocks() {
        0 if transfer.is_stuck_at_start() && transfer.first_block() > SMALLEST_BLOCK => format!(
            "no block of {} bytes reached the client after {repeated} retransmissions: the network path may carry \
             smaller packets only, which it is offered from now on",
            transfer.first_block()
        ),
        0 if transfer.is_stuck_at_start() => format!("the client acknowledged no block ({repeated} retransmissions)"),
        0 => "the client did not answer".to_owned(),
        block => format!("the client stopped answering after block {block} ({repeated} retransmissions)"),
    }
}

/// Sends an event. If the queue is full, the event is dropped: a client must not wait for a log line.
pub(super) fn tell(events: &mpsc::Sender<Event>, peer: SocketAddrV4, what: What) {
    tell_of(events, Who::Address(*peer.ip()), what);
}

/// The same, if the machine is known.
pub(super) fn tell_of(events: &mpsc::Sender<Event>, who: Who, what: What) {
    if events.try_send(Event { who, what }).is_err() {
        count_lost();
        debug!("an event was dropped: the event queue is full");
    }
}

/// The state of a transfer, for other threads.
#[derive(Default)]
pub(super) struct LastHeard {
    /// When the client was last heard, in milliseconds; 0: never.
    at: AtomicU64,
    /// Bytes that it has acknowledged.
    acked: AtomicU64,
    /// Its client has started another transfer since then, and has probably left this one.
    superseded: AtomicBool,
}

impl LastHeard {
    fn now(&self) -> Instant {
        let now = Instant::now();
        self.at.store(millis(now), Ordering::Relaxed);
        if self.is_superseded() {
            self.superseded.store(false, Ordering::Relaxed);
        }
        now
    }

    /// Whether the client was heard at all.
    pub(super) fn ever(&self) -> bool {
        self.at.load(Ordering::Relaxed) != 0
    }

    /// A client that was never heard counts as just heard: it still gets packets.
    pub(super) fn within(&self, time: Duration) -> bool {
        match self.at.load(Ordering::Relaxed) {
            0 => true,
            _ => self.silence() < time,
        }
    }

    /// The time since it was heard.
    pub(super) fn silence(&self) -> Duration {
        Duration::from_millis(millis(Instant::now()).saturating_sub(self.at.load(Ordering::Relaxed)))
    }

    #[cfg(test)]
    pub(super) fn pretend_silence(&self, silence: Duration) {
        let silence = u64::try_from(silence.as_millis()).expect("short");
        self.at.store(millis(Instant::now()) - silence, Ordering::Relaxed);
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Marks a transfer whose client has left it. Its end is not reported, unless it continues. Returns whether this is
    /// new.
    pub(super) fn supersede(&self) -> bool {
        !self.superseded.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }
}

/// Milliseconds since an hour before the first call, so that 0 can mean never.
fn millis(now: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    let since = now.saturating_duration_since(start) + Duration::from_secs(3600);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Opcode and block number.
const DATA_HEADER: usize = 4;
/// A loader needs less time. A kernel by TFTP can take minutes, and somebody waits for it.
const NEWS_EVERY: Duration = Duration::from_secs(5);
/// A silence that is reported. It is longer than a silence because of lost packets.
const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use bytes::Bytes;

    use super::*;
    use crate::tftp::transfer::Limits;

    /// A lock-step transfer of 5,000 bytes, started at this time.
    pub(in crate::tftp) fn run(peer: SocketAddrV4, began: Instant, events: mpsc::Sender<Event>) -> Run {
        let Ok(Packet::Read(request)) = Packet::parse(b"\0\x01f\0octet\0tsize\0\x30\0") else { panic!("a request") };
        let source = Source::Memory(Bytes::from_static(&[0; 5000]));
        let limits = Limits { block_size: 1468, window_size: 64 };
        let (transfer, _) = Transfer::begin(&request, source.size(), limits, began);
        let port = Arc::new(Port::open(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), 4096).expect("a port"));
        let (name, of, heard, wants_size) = ("f".into(), Of::Loader, Arc::default(), request.wants_size);
        let (reported, is_paused, is_told_silent) = (None, false, false);
        Run {
            port,
            peer,
            transfer,
            source,
            name,
            of,
            wants_size,
            heard,
            began,
            reported,
            is_paused,
            is_told_silent,
            events,
            is_look: false,
        }
    }

    /// What is reported for a transfer that gets these packets and then this silence.
    fn reported(packets: &[&[u8]], silence: Duration) -> Vec<What> {
        reported_of(Of::Loader, packets, silence)
    }

    fn reported_of(of: Of, packets: &[&[u8]], silence: Duration) -> Vec<What> {
        let (events, mut reported) = mpsc::channel(16);
        let peer = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
        let mut run = Run { of, ..run(peer, Instant::now(), events) };
        let mut end = packets.iter().find_map(|packet| run.receive(packet, peer, &mut Vec::new()));
        let silent_from = Instant::now();
        while end.is_none() && run.transfer.deadline() < silent_from + silence {
            let deadline = run.transfer.deadline();
            end = run.ring(deadline, &mut Vec::new());
        }
        match end {
            Some(end) => run.tell_end(end),
            None => run.tell_progress(silent_from + silence),
        }
        std::iter::from_fn(|| reported.try_recv().ok()).map(|event| event.what).collect()
    }

    /// A client that has the whole file does not acknowledge it once more.
    #[test]
    fn a_client_that_falls_silent_at_the_very_end_is_reported_once_as_one_that_has_the_file() {
        let silent = |of, blocks: u16, silence| {
            let acks: Vec<[u8; 4]> = (0..=blocks).map(|block| [0, 4, 0, block as u8]).collect();
            let acks: Vec<&[u8]> = acks.iter().map(<[u8; 4]>::as_slice).collect();
            let silent = |what| if let What::Silent(silent) = what { Some(silent.unacknowledged) } else { None };
            reported_of(of, &acks, silence).into_iter().filter_map(silent).collect::<Vec<_>>()
        };
        assert_eq!(silent(Of::Asset, 9, Duration::from_secs(400)), [392]);
        assert_eq!(silent(Of::Asset, 9, Duration::from_secs(5)), [0; 0], "it may still answer");
        assert_eq!(silent(Of::Asset, 8, Duration::from_secs(400)), [0; 0], "it lacks a block");
        assert_eq!(silent(Of::Asset, 10, Duration::from_secs(400)), [0; 0], "it has acknowledged all");
        assert_eq!(silent(Of::Loader, 9, Duration::from_secs(400)), [0; 0]);
    }

    fn failure(what: Option<&What>) -> Option<String> {
        match what {
            Some(What::Transfer(transfer)) => {
                Some(transfer.failure.as_ref().map_or("none".into(), ToString::to_string))
            }
            _ => None,
        }
    }

    #[test]
    fn a_transfer_reports_its_start_progress_and_end() {
        let (oack, first): (&[u8], &[u8]) = (&[0, 4, 0, 0], &[0, 4, 0, 1]);
        let at = |what: &What| match what {
            What::Started(progress) => ("started", progress.acked, progress.size),
            What::Progress(progress) => ("progress", progress.acked, progress.size),
            _ => ("ended", 0, 0),
        };
        let going: Vec<_> = reported(&[oack, first], NEWS_EVERY * 2).iter().map(at).collect();
        assert_eq!(
            going,
            [("started", 512, 5000), ("progress", 512, 5000)],
            "it continues, or the client is asked again"
        );
        let aborted = reported(&[oack, first, b"\0\x05\0\x03disk full\0"], Duration::ZERO);
        assert_eq!(at(&aborted[0]), ("started", 512, 5000));
        assert_eq!(
            failure(aborted.last()).as_deref(),
            Some("the client aborted the transfer (TFTP error 3 \"disk full\")")
        );
        let silent = reported(&[oack, first], Duration::from_secs(400));
        assert!(matches!(&silent[1], What::Pace(Pace { at: At::Paused(_), acked: 512, .. })), "{:?}", silent[1]);
        assert_eq!(silent.len(), 3, "once: {silent:?}");
        let words = failure(silent.last()).expect("read");
        assert!(words.starts_with("the client stopped answering after block 1 ("), "{words}");
        let never = failure(reported(&[], Duration::from_secs(60)).last());
        assert_eq!(never.as_deref(), Some("the client did not answer"));
        assert_eq!(reported(&[b"\0\x05\0\x08User aborted the transfer\0"], Duration::ZERO), [], "a size probe");
        let complete: Vec<[u8; 4]> = (0..=10).map(|block| [0, 4, 0, block]).collect();
        let complete: Vec<&[u8]> = complete.iter().map(<[u8; 4]>::as_slice).collect();
        assert_eq!(failure(reported(&complete, Duration::ZERO).last()).as_deref(), Some("none"));
    }
}
