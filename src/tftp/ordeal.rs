//! Tests a transfer with any client, in memory. The property test and the fuzzer (`tests/fuzz`) use these rules for
//! every packet at every time.

use std::time::{Duration, Instant};

use super::{
    asker::Program,
    packet::{Packet, ReadRequest},
    transfer::{End, Limits, Send, Step, Transfer},
};

/// Plays a client whose request, packets and times come from `bytes`.
///
/// # Panics
/// A rule is broken.
pub fn survive(bytes: &[u8]) {
    let mut script = Script(bytes);
    let request = script.request();
    let size = u64::from(script.number()) << (script.byte() % 12);
    let now = Instant::now();
    let (transfer, first) = Transfer::begin(&request, size, LIMITS, now);
    let window = request.window_size.map_or(1, |asked| asked.min(LIMITS.window_size)).into();
    let last = size / u64::from(transfer.block_size()) + 1;
    let mut ordeal = Ordeal { transfer, now, window, last, silent_from: now, is_heard: false, sent: 0, in_silence: 0 };
    let mut ended = ordeal.check(&first, 0);
    while !ended && !script.0.is_empty() {
        ended = ordeal.turn(&mut script);
    }
    // From here on the client is silent, and the transfer has to end.
    while !ended {
        ended = ordeal.time_out();
    }
}

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn some(&mut self, length: usize) -> &'a [u8] {
        let (some, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        some
    }

    fn request(&mut self) -> ReadRequest {
        let has = self.byte();
        let option = |bit: u8, value: u16| (has & bit != 0).then_some(value);
        ReadRequest {
            filename: Vec::new(),
            mode: "octet".into(),
            block_size: option(1, self.number()).filter(|size| (8..=65_464).contains(size)),
            window_size: option(2, self.number()).filter(|window| *window >= 1),
            timeout: option(4, self.byte().into()).and_then(|s| u8::try_from(s).ok()).filter(|seconds| *seconds >= 1),
            wants_size: has & 8 != 0,
            program: Program::Other,
            is_look: false,
        }
    }
}

struct Ordeal {
    transfer: Transfer,
    now: Instant,
    window: u64,
    /// The last block.
    last: u64,
    silent_from: Instant,
    is_heard: bool,
    /// All packets that were sent.
    sent: u64,
    /// Packets since the client's last packet that moved the transfer on.
    in_silence: u64,
}

impl Ordeal {
    /// One packet or one wait. Returns whether the transfer ended.
    fn turn(&mut self, script: &mut Script<'_>) -> bool {
        let (kind, time) = (script.byte(), Duration::from_micros(u64::from(script.number()) * 50));
        self.now += time;
        if self.transfer.deadline() <= self.now && self.time_out() {
            return true;
        }
        let acked = self.transfer.acked_blocks();
        let packet = match kind % 8 {
            0 => return self.time_out(),
            1 => Packet::Ack(script.number()),
            2 => Packet::parse(script.some(usize::from(kind))).unwrap_or(Packet::Write),
            // A correct client: it acknowledges one of the blocks in flight, most often the last.
            #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what the wire carries")]
            3 => Packet::Ack((acked + u64::from(script.byte()) % (self.window + 1)) as u16),
            #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what the wire carries")]
            4 => Packet::Ack(acked as u16),
            #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what the wire carries")]
            _ => Packet::Ack(self.last.min(acked + self.window) as u16),
        };
        let step = self.transfer.receive(&packet, self.now);
        if let Packet::Error { .. } = packet {
            assert!(matches!(step, Step::End(End::Aborted(..))), "an ERROR ends it at once: {step:?}");
        }
        // If a step does not wait for the timer, the packet was for this transfer.
        // A client that acknowledges the same block again is alive too.
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what the wire carries")]
        let is_repeated = self.is_heard && packet == Packet::Ack(acked as u16);
        if self.transfer.acked_blocks() > acked || is_repeated || (!self.is_heard && step != Step::Wait) {
            (self.silent_from, self.is_heard, self.in_silence) = (self.now, true, 0);
        }
        self.check(&step, acked)
    }

    fn time_out(&mut self) -> bool {
        self.now = self.now.max(self.transfer.deadline());
        let acked = self.transfer.acked_blocks();
        let step = self.transfer.timed_out(self.now);
        assert!(step != Step::Wait && !matches!(step, Step::End(End::Complete | End::Aborted(..))), "{step:?}");
        self.check(&step, acked)
    }

    /// Checks the rules for a step. Returns whether the transfer ended.
    fn check(&mut self, step: &Step, acked_before: u64) -> bool {
        let acked = self.transfer.acked_blocks();
        assert!((acked_before..=self.last).contains(&acked), "{acked_before} → {acked} of {}", self.last);
        match step {
            Step::Wait => return false,
            Step::End(End::Complete) => assert_eq!(acked, self.last, "complete means every byte"),
            Step::End(End::Aborted(..) | End::Silent) => {}
            Step::Send(send) => {
                self.sent += 1;
                self.in_silence += 1;
                if let Send::Blocks { first, count } = send {
                    assert_eq!(*first, acked + 1, "nothing is sent again that has come");
                    assert!((1..=self.window).contains(count), "more in flight than the window");
                    assert!(first + count - 1 <= self.last, "beyond the end");
                }
                assert!(self.is_heard || self.sent <= 4, "a reflection: {} packets to a stranger", self.sent);
                // One for every step of the timer from 20 ms to 1 s (the shortest that a client can ask for), one per
                // second for half a minute, one per 16 s until the end, and one that the client asked for.
                assert!(self.in_silence <= 70, "{} sends without an answer", self.in_silence);
                assert!(self.transfer.deadline() >= self.now + Duration::from_millis(20), "a timer that runs hot");
            }
        }
        let silence = self.now - self.silent_from;
        let patience = Duration::from_secs(300 + 20);
        assert!(!matches!(step, Step::Send(_)) || silence <= patience, "it goes on after {silence:?} of silence");
        matches!(step, Step::End(_))
    }
}

const LIMITS: Limits = Limits { block_size: 1468, window_size: 64 };

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_client_is_handled(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            survive(&bytes);
        }
    }
}
