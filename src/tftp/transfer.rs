//! The state machine of one transfer. The time is an argument and packets are [`Send`] values, so tests can run it with
//! any loss and delay, without a socket.

use std::time::{Duration, Instant};

use super::packet::{Packet, ReadRequest, option_ack};

/// The server's limits for every client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest `blksize` in bytes. Larger packets than the MTU would be sent in fragments, which ROMs cannot join.
    pub block_size: u16,
    /// The largest `windowsize` in blocks.
    pub window_size: u16,
}

/// One transfer, from its RRQ to its end.
#[derive(Debug)]
pub struct Transfer {
    size: u64,
    block_size: u16,
    window: u64,
    /// The OACK, until the client acknowledges it as block 0.
    option_ack: Option<Vec<u8>>,
    /// Acknowledged blocks; the first block is 1.
    acked: u64,
    /// Last block sent.
    sent: u64,
    /// Whether this window was sent again because the client asked for it.
    repeated: bool,
    retransmissions: u64,
    timer: Timer,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this.
    Send(Send),
    /// Wait for a packet or the deadline.
    Wait,
    /// The transfer has ended.
    End(End),
}

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Send {
    /// These bytes.
    Packet(Vec<u8>),
    /// DATA packets of consecutive blocks. All have the same size, except the last one of the file.
    Blocks {
        /// The number of the first block, counted from 1.
        first: u64,
        /// The number of blocks.
        count: u64,
    },
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Every byte was acknowledged.
    Complete,
    /// The client sent ERROR: its code and text. EDK2 ends its size probe this way.
    Aborted(u16, String),
    /// The client stopped answering.
    Silent,
}

impl Transfer {
    /// Starts a transfer of `size` bytes. Returns the first step.
    #[must_use]
    pub fn begin(request: &ReadRequest, size: u64, limits: Limits, now: Instant) -> (Self, Step) {
        let block_size = request.block_size.map(|asked| asked.min(limits.block_size));
        let window = request.window_size.map(|asked| asked.min(limits.window_size));
        // Acknowledge only requested options: EDK2 ends a transfer at an option that it did not send.
        let granted: Vec<(&str, u64)> = [
            ("tsize", request.wants_size.then_some(size)),
            ("blksize", block_size.map(u64::from)),
            ("timeout", request.timeout.map(u64::from)),
            ("windowsize", window.map(u64::from)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        let mut transfer = Self {
            size,
            block_size: block_size.unwrap_or(512),
            window: window.unwrap_or(1).into(),
            option_ack: (!granted.is_empty()).then(|| option_ack(&granted)),
            acked: 0,
            sent: 0,
            repeated: false,
            retransmissions: 0,
            timer: Timer::new(request.timeout, now),
        };
        let step = transfer.send(now);
        (transfer, step)
    }

    /// Handles a packet of the client.
    pub fn receive(&mut self, packet: &Packet, now: Instant) -> Step {
        match packet {
            Packet::Error { code, message } => Step::End(End::Aborted(*code, message.clone())),
            Packet::Ack(block) => self.acknowledged(*block, now),
            // A repeated RRQ that crossed our reply, or noise. Neither changes the transfer.
            Packet::Read(_) | Packet::Write | Packet::Other(_) => Step::Wait,
        }
    }

    fn acknowledged(&mut self, block: u16, now: Instant) -> Step {
        if self.option_ack.is_some() {
            if block != 0 {
                return Step::Wait;
            }
            self.option_ack = None;
            self.timer.heard(now);
            return self.send(now);
        }
        // The number has only 16 bits. A window is much smaller than 65,536 blocks, so the distance is clear.
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what the wire carries")]
        let ahead = u64::from(block.wrapping_sub(self.acked as u16));
        if ahead == 0 {
            self.timer.last_alive = now;
            return self.asked_again(now);
        }
        if ahead > self.sent - self.acked {
            return Step::Wait;
        }
        self.acked += ahead;
        self.repeated = false;
        self.timer.heard(now);
        if self.acked == self.last_block() { Step::End(End::Complete) } else { self.send(now) }
    }

    /// An ACK of the block before the window. In lock-step it is a copy of the last ACK. A reply to it would double
    /// every later packet (the sorcerer's apprentice bug, RFC 1123 §4.2.3.1). With a window, the client reports that it
    /// missed the first block (RFC 7440 §4), and gets the window again, once. But if the window before was sent twice,
    /// the client acknowledges it twice. The second ACK then comes earlier than a reply to this window is possible. If
    /// it counted as a gap, every later window would be sent twice.
    fn asked_again(&mut self, now: Instant) -> Step {
        if self.window == 1 || self.repeated || self.sent == self.acked || self.timer.is_too_soon(now) {
            return Step::Wait;
        }
        self.repeated = true;
        self.retransmissions += 1;
        self.timer.repetitions = self.timer.repetitions.max(1);
        self.send(now)
    }

    /// Whether the client has answered at all, and the time since its last progress.
    #[must_use]
    pub fn silence(&self, now: Instant) -> (bool, Duration) {
        (self.timer.has_heard, now.saturating_duration_since(self.timer.last_heard))
    }

    /// When [`Self::timed_out`] is due.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.timer.deadline
    }

    /// No packet came until the deadline: sends the outstanding blocks again, or gives up.
    pub fn timed_out(&mut self, now: Instant) -> Step {
        if !self.timer.back_off(now) {
            return Step::End(End::Silent);
        }
        self.retransmissions += 1;
        self.send(now)
    }

    /// The OACK, or the window after the last acknowledged block.
    fn send(&mut self, now: Instant) -> Step {
        self.timer.sent(now);
        if let Some(packet) = &self.option_ack {
            return Step::Send(Send::Packet(packet.clone()));
        }
        let first = self.acked + 1;
        self.sent = self.last_block().min(self.acked + self.window);
        Step::Send(Send::Blocks { first, count: self.sent - self.acked })
    }

    /// If the last block of a file is full, an empty one follows.
    fn last_block(&self) -> u64 {
        self.size / u64::from(self.block_size) + 1
    }

    /// Whether a client that answered was sent the whole file, and lacks nothing but to acknowledge its end.
    #[must_use]
    pub fn is_all_sent(&self) -> bool {
        self.timer.has_heard && self.option_ack.is_none() && self.sent == self.last_block()
    }

    /// Acknowledged blocks.
    #[must_use]
    pub fn acked_blocks(&self) -> u64 {
        self.acked
    }

    /// The number of retransmissions.
    #[must_use]
    pub fn retransmissions(&self) -> u64 {
        self.retransmissions
    }

    /// Whether the client answers small packets, but has not received the first block. Then the network path may not carry
    /// packets of this size.
    #[must_use]
    pub fn is_stuck_at_start(&self) -> bool {
        self.timer.has_heard && self.option_ack.is_none() && self.acked == 0 && self.timer.repetitions >= STUCK_AFTER
    }

    /// Bytes of data in the first block, which is the only one of a small file.
    #[must_use]
    pub fn first_block(&self) -> u16 {
        u16::try_from(self.size).unwrap_or(u16::MAX).min(self.block_size)
    }

    /// Bytes of data in a block.
    #[must_use]
    pub fn block_size(&self) -> u16 {
        self.block_size
    }

    /// Acknowledged bytes.
    #[must_use]
    pub fn acked_bytes(&self) -> u64 {
        self.size.min(self.acked * u64::from(self.block_size))
    }
}

/// The retransmission timer. Other servers wait whole seconds. This one measures the round trip (RFC 6298), so it
/// repairs a loss on a LAN within milliseconds.
#[derive(Debug)]
struct Timer {
    deadline: Instant,
    /// The time from the last sent packet to the deadline.
    timeout: Duration,
    /// The smoothed round trip and its variation, after the first sample.
    round_trip: Option<(Duration, Duration)>,
    /// When the packet in flight was sent for the first time, and for the last time.
    sent: (Instant, Instant),
    /// The largest timeout.
    most: Duration,
    /// When the client last made progress, and when it last acknowledged anything.
    last_heard: Instant,
    last_alive: Instant,
    has_heard: bool,
    repetitions: u32,
}

impl Timer {
    fn new(asked: Option<u8>, now: Instant) -> Self {
        let asked = asked.map(|seconds| Duration::from_secs(seconds.into()));
        Self {
            deadline: now,
            timeout: asked.unwrap_or(FIRST_TIMEOUT).min(FIRST_TIMEOUT),
            round_trip: None,
            sent: (now, now),
            most: asked.unwrap_or(LONGEST_TIMEOUT).min(LONGEST_TIMEOUT),
            last_heard: now,
            last_alive: now,
            has_heard: false,
            repetitions: 0,
        }
    }

    fn sent(&mut self, now: Instant) {
        self.deadline = now + self.timeout;
        self.sent = (if self.repetitions == 0 { now } else { self.sent.0 }, now);
    }

    /// Whether a packet now can only answer something older than the last packet.
    fn is_too_soon(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.sent.1);
        self.round_trip.is_some_and(|(smoothed, _)| since < smoothed / 2)
    }

    /// The client made progress.
    fn heard(&mut self, now: Instant) {
        // After a retransmission the reply can be to either packet, and is not a sample (Karn's algorithm), except if
        // it is too early for the second. Without a sample, the timeout stays as long as it is (RFC 6298 §5.7).
        // Otherwise, after the round trip has become longer, everything would be sent twice without end.
        if self.repetitions == 0 || self.is_too_soon(now) {
            let (smoothed, variation) = self.sample(now.saturating_duration_since(self.sent.0));
            self.timeout = (smoothed + variation * 4).clamp(SHORTEST_TIMEOUT, self.most);
        }
        // A client that returns after a long pause gets a fast reply.
        self.timeout = self.timeout.min(self.most);
        (self.last_heard, self.last_alive) = (now, now);
        self.has_heard = true;
        self.repetitions = 0;
    }

    fn sample(&mut self, round_trip: Duration) -> (Duration, Duration) {
        *self.round_trip.insert(match self.round_trip {
            None => (round_trip, round_trip / 2),
            Some((smoothed, variation)) => {
                (smoothed * 7 / 8 + round_trip / 8, variation * 3 / 4 + smoothed.abs_diff(round_trip) / 4)
            }
        })
    }

    /// Doubles the timeout. Returns `false` to give up. A client that never answered may not have asked: after a forged
    /// RRQ, only a few packets may go to its victim. A client that did answer may be erasing flash, or waiting for a
    /// person at a prompt.
    fn back_off(&mut self, now: Instant) -> bool {
        self.repetitions += 1;
        let silence = now.saturating_duration_since(self.last_alive);
        let is_long = self.has_heard && silence > LONG_SILENCE;
        self.timeout = (self.timeout * 2).min(if is_long { LONGEST_IN_SILENCE } else { self.most });
        if self.has_heard { silence < GIVE_UP_AFTER } else { self.repetitions <= REPETITIONS_UNHEARD }
    }
}

/// Before the first sample. Shorter than the 4 s after which EDK2 asks again.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// Firmware that writes a block to a slow card may need some milliseconds.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(20);
/// A client that returns after a pause should not wait longer than this for the next block.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(4);
/// Longer than any known client waits (EDK2: 6 tries of 4 s; iPXE: 10 s). After this time the client itself pauses, and
/// packets only show that the server is still there.
const LONG_SILENCE: Duration = Duration::from_secs(30);
/// The time between two packets to a client with a long pause.
const LONGEST_IN_SILENCE: Duration = Duration::from_secs(16);
/// A client that acknowledged once counts as gone after this time without progress.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(300);
/// Two can be chance.
const STUCK_AFTER: u32 = 3;
/// Four packets in total, within about 11 s.
const REPETITIONS_UNHEARD: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::asker::Program;

    const LIMITS: Limits = Limits { block_size: 1468, window_size: 64 };

    fn request(options: &[(&str, u16)]) -> ReadRequest {
        let option = |name| options.iter().find(|(n, _)| *n == name).map(|(_, value)| *value);
        ReadRequest {
            filename: b"f".to_vec(),
            mode: "octet".into(),
            block_size: option("blksize"),
            window_size: option("windowsize"),
            timeout: option("timeout").map(|seconds| seconds as u8),
            wants_size: option("tsize").is_some(),
            program: Program::Other,
            is_look: false,
        }
    }

    fn blocks(first: u64, count: u64) -> Step {
        Step::Send(Send::Blocks { first, count })
    }

    /// `wire.md` F: "OACK only the requested options", "ACK 0 follows", "A final short or empty block".
    #[test]
    fn lock_step_without_options_starts_with_data_and_ends_with_a_short_block() {
        let now = Instant::now();
        let (mut transfer, first) = Transfer::begin(&request(&[]), 1000, LIMITS, now);
        assert_eq!((first, transfer.block_size()), (blocks(1, 1), 512));
        assert_eq!(transfer.receive(&Packet::Ack(1), now), blocks(2, 1));
        assert_eq!(transfer.acked_bytes(), 512);
        assert_eq!(transfer.receive(&Packet::Ack(2), now), Step::End(End::Complete));
        assert_eq!(transfer.acked_bytes(), 1000);
        let (mut full, _) = Transfer::begin(&request(&[]), 512, LIMITS, now);
        assert_eq!(full.receive(&Packet::Ack(1), now), blocks(2, 1), "an empty block ends a full one");
        let (mut empty, first) = Transfer::begin(&request(&[]), 0, LIMITS, now);
        assert_eq!((first, empty.receive(&Packet::Ack(1), now)), (blocks(1, 1), Step::End(End::Complete)));
    }

    #[test]
    fn options_are_granted_up_to_our_limits() {
        let now = Instant::now();
        let asked = request(&[("tsize", 0), ("blksize", 65464), ("windowsize", 1000), ("timeout", 2)]);
        let (mut transfer, first) = Transfer::begin(&asked, 1_000_000, LIMITS, now);
        let oack = b"\0\x06tsize\x001000000\0blksize\x001468\0timeout\x002\0windowsize\x0064\0".to_vec();
        assert_eq!(first, Step::Send(Send::Packet(oack.clone())));
        assert_eq!(transfer.receive(&Packet::Ack(1), now), Step::Wait, "not the OACK's");
        assert_eq!(transfer.timed_out(transfer.deadline()), Step::Send(Send::Packet(oack)), "repeated like DATA");
        assert_eq!(transfer.receive(&Packet::Ack(0), now), blocks(1, 64));
        let (_, first) = Transfer::begin(&request(&[("blksize", 1024)]), 5, LIMITS, now);
        assert_eq!(first, Step::Send(Send::Packet(b"\0\x06blksize\x001024\0".to_vec())));
    }

    /// `wire.md` F: "A client ERROR ends the transfer at once" — EDK2's size probe (tsize, then ERROR 8).
    #[test]
    fn a_size_probe_ends_at_the_clients_error() {
        let now = Instant::now();
        let (mut probe, _) = Transfer::begin(&request(&[("tsize", 0), ("blksize", 1468)]), 9, LIMITS, now);
        let abort = Packet::Error { code: 8, message: "User aborted the transfer".into() };
        assert_eq!(probe.receive(&abort, now), Step::End(End::Aborted(8, "User aborted the transfer".into())));
    }

    /// `wire.md` F: "Never resend DATA on a duplicate ACK"; "on an ACK of base−1 inside a window, resend the window
    /// once".
    #[test]
    fn duplicates_are_not_answered_and_a_gap_in_a_window_once() {
        let now = Instant::now();
        let (mut lock_step, _) = Transfer::begin(&request(&[]), 5000, LIMITS, now);
        assert_eq!(lock_step.receive(&Packet::Ack(1), now), blocks(2, 1));
        assert_eq!(lock_step.receive(&Packet::Ack(1), now), Step::Wait);
        assert_eq!(lock_step.receive(&Packet::Ack(9), now), Step::Wait, "never sent");

        let (mut window, _) = Transfer::begin(&request(&[("blksize", 512), ("windowsize", 4)]), 50_000, LIMITS, now);
        assert_eq!(window.receive(&Packet::Ack(0), now), blocks(1, 4));
        assert_eq!(window.receive(&Packet::Ack(0), now), blocks(1, 4), "block 1 was lost");
        assert_eq!(window.receive(&Packet::Ack(0), now), Step::Wait, "once");
        assert_eq!(window.receive(&Packet::Ack(2), now), blocks(3, 4), "a window from behind the last that came");
        assert_eq!(window.receive(&Packet::Ack(2), now), blocks(3, 4));
        assert_eq!(window.receive(&Packet::Ack(1), now), Step::Wait, "an old one that came late");
    }

    /// A window that was sent twice without need is acknowledged twice. The next one must not be sent twice.
    #[test]
    fn a_second_ack_of_a_doubled_window_sends_nothing_twice() {
        let mut now = Instant::now();
        let (mut transfer, _) = Transfer::begin(&request(&[("blksize", 512), ("windowsize", 4)]), 50_000, LIMITS, now);
        for ack in [0, 4, 8] {
            now += Duration::from_millis(30);
            assert_eq!(transfer.receive(&Packet::Ack(ack), now), blocks(u64::from(ack) + 1, 4));
        }
        assert_eq!(transfer.timed_out(transfer.deadline()), blocks(9, 4), "sent twice, as the round trip grew");
        now = transfer.deadline();
        assert_eq!(transfer.receive(&Packet::Ack(12), now), blocks(13, 4));
        let soon = now + Duration::from_millis(1);
        assert_eq!(transfer.receive(&Packet::Ack(12), soon), Step::Wait, "to the window before");
        let later = now + Duration::from_millis(40);
        assert_eq!(transfer.receive(&Packet::Ack(12), later), blocks(13, 4), "block 13 is missing");
    }

    /// `wire.md` F: "Block rollover to 0".
    #[test]
    fn block_numbers_roll_over_to_zero() {
        let now = Instant::now();
        let size = 512 * 140_000;
        let (mut transfer, _) = Transfer::begin(&request(&[("blksize", 512), ("windowsize", 64)]), size, LIMITS, now);
        let mut step = transfer.receive(&Packet::Ack(0), now);
        let mut next = 1;
        while let Step::Send(Send::Blocks { first, count }) = step {
            assert_eq!(first, next);
            next = first + count;
            step = transfer.receive(&Packet::Ack(((next - 1) & 0xffff) as u16), now);
        }
        assert_eq!((step, next), (Step::End(End::Complete), 140_002));
    }

    #[test]
    fn a_loss_is_repaired_after_the_measured_round_trip_and_silence_is_limited() {
        let mut now = Instant::now();
        let (mut transfer, _) = Transfer::begin(&request(&[]), 1 << 20, LIMITS, now);
        for block in 1..20 {
            now += Duration::from_millis(2);
            assert_eq!(transfer.receive(&Packet::Ack(block), now), blocks(u64::from(block) + 1, 1));
        }
        assert!(transfer.deadline() - now < Duration::from_millis(25), "{:?}", transfer.deadline() - now);
        let silent_from = now;
        let mut repetitions = 0;
        loop {
            now = transfer.deadline();
            match transfer.timed_out(now) {
                Step::Send(Send::Blocks { first: 20, count: 1 }) => repetitions += 1,
                Step::End(End::Silent) => break,
                other => panic!("{other:?}"),
            }
        }
        let silence = now - silent_from;
        assert!((300.0..320.0).contains(&silence.as_secs_f64()), "{silence:?}");
        assert!((25..40).contains(&repetitions), "{repetitions}");
    }

    /// A client that erases flash, or waits for a person at a prompt, between two blocks.
    #[test]
    fn a_client_continues_after_minutes_of_silence_and_gets_fast_replies() {
        for pause in [40, 120, 290] {
            let mut now = Instant::now();
            let (mut transfer, _) = Transfer::begin(&request(&[]), 1 << 20, LIMITS, now);
            for block in 1..20 {
                now += Duration::from_millis(2);
                assert_eq!(transfer.receive(&Packet::Ack(block), now), blocks(u64::from(block) + 1, 1));
            }
            let back = now + Duration::from_secs(pause);
            while transfer.deadline() < back {
                assert_eq!(transfer.timed_out(transfer.deadline()), blocks(20, 1), "{pause}");
            }
            assert_eq!(transfer.receive(&Packet::Ack(20), back), blocks(21, 1), "{pause}");
            assert!(transfer.deadline() - back <= LONGEST_TIMEOUT, "{:?}", transfer.deadline() - back);
            let next = back + Duration::from_millis(2);
            assert_eq!(transfer.receive(&Packet::Ack(21), next), blocks(22, 1));
            assert!(transfer.deadline() - next < Duration::from_millis(25), "{:?}", transfer.deadline() - next);
        }
    }

    /// With many clients, the round trip becomes longer than the timeout. This must not count as loss again and again
    /// (Karn's algorithm; RFC 6298 §5.7).
    #[test]
    fn a_round_trip_that_has_grown_is_learnt_after_a_few_blocks() {
        let mut now = Instant::now();
        let (mut transfer, _) = Transfer::begin(&request(&[]), 1 << 20, LIMITS, now);
        for block in 1..400 {
            let round_trip = Duration::from_millis(if block < 20 { 1 } else { 50 });
            let answer = now + round_trip;
            while transfer.deadline() < answer {
                transfer.timed_out(transfer.deadline());
            }
            now = answer;
            assert_eq!(transfer.receive(&Packet::Ack(block), now), blocks(u64::from(block) + 1, 1));
        }
        assert!(transfer.retransmissions() <= 3, "{}", transfer.retransmissions());
    }

    #[test]
    fn a_client_that_never_answers_gets_four_packets() {
        let now = Instant::now();
        let (mut transfer, _) =
            Transfer::begin(&request(&[("windowsize", 64), ("blksize", 1468)]), 1 << 20, LIMITS, now);
        let mut packets = 1;
        while let Step::Send(_) = transfer.timed_out(transfer.deadline()) {
            packets += 1;
        }
        assert_eq!(packets, 4);
    }
}
