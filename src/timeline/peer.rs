//! Is this client slow, or gone? Samples of its connection and elapsed time → the verdict.
//!
//! The distinction that this project was begun for. A client that stops reading for minutes while it unpacks an image
//! still acknowledges: its window is closed, and its kernel or firmware answers every probe. One that lost its power
//! acknowledges nothing, and the retransmissions and probes towards it climb. Time without progress says nothing
//! between the two, and so there is no timer on it.

use std::{fmt, time::Duration};

/// A connection at one moment. Times and counts are the sending kernel's (`TCP_INFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Bytes that wait and were not sent once.
    pub notsent: u32,
    /// Since the last acknowledgement of any kind.
    pub since_ack: Duration,
    /// Retransmissions since that.
    pub retransmits: u8,
    /// Window probes since that.
    pub probes: u8,
    /// Bytes acknowledged since the connection began.
    pub acked: u64,
    /// The peer takes nothing more for now.
    pub window_closed: bool,
}

impl Sample {
    /// Whether anything is owed to the peer. Where nothing is, its silence says nothing, and TCP's keepalive looks
    /// after it.
    #[must_use]
    pub fn is_outstanding(&self) -> bool {
        self.unacked > 0 || self.notsent > 0
    }
}

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes what is sent, or nothing is owed to it.
    Progressing,
    /// It takes nothing, and lives.
    SlowButAlive {
        /// Since it last took anything.
        paused: Duration,
        /// It said so itself, by closing its window.
        window_closed: bool,
    },
    /// It is gone: the connection is closed.
    Dead(Silence),
}

/// Why a peer is held to be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Since its last acknowledgement.
    pub since_ack: Duration,
    /// Unanswered retransmissions.
    pub retransmits: u8,
    /// Unanswered window probes.
    pub probes: u8,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { since_ack, retransmits, probes } = self;
        write!(f, "dead: no acknowledgement of any kind for {} s, ", since_ack.as_secs())?;
        match probes {
            0 => write!(f, "{retransmits} retransmissions unanswered"),
            _ => write!(f, "{probes} window probes unanswered"),
        }
    }
}

/// What is remembered of a peer between samples.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    acked: u64,
    /// When it last took something, or was owed something after a rest, on the caller's clock.
    moved: Duration,
    /// Whether something was owed to it at the last sample.
    is_owed: bool,
}

impl Peer {
    /// Judges a sample that was taken `now`, on a clock that only has to be the same at each call.
    ///
    /// Dead is who has acknowledged nothing at all for `dead_after` while something is owed to it and at least five
    /// retransmissions or three window probes went unanswered. `dead_after` has to be minutes: an iPXE that is busy
    /// with something other than its network sends no acknowledgement whatever. Neither the back-off (it climbs for a
    /// live peer with its window closed too) nor the bytes that it has taken are looked at.
    #[must_use]
    pub fn judge(&mut self, sample: &Sample, now: Duration, dead_after: Duration) -> Verdict {
        let is_owed = sample.is_outstanding();
        if sample.acked != self.acked || !is_owed || !self.is_owed {
            *self = Self { acked: sample.acked, moved: now, is_owed };
            return Verdict::Progressing;
        }
        let Sample { since_ack, retransmits, probes, .. } = *sample;
        if since_ack > dead_after && (retransmits >= RETRANSMITS || probes >= PROBES) {
            return Verdict::Dead(Silence { since_ack, retransmits, probes });
        }
        let paused = now.saturating_sub(self.moved);
        if paused < PAUSE {
            return Verdict::Progressing;
        }
        Verdict::SlowButAlive { paused, window_closed: sample.window_closed }
    }
}

/// Unanswered ones within `dead_after` are no accident of the network.
const RETRANSMITS: u8 = 5;
/// A live peer answers each, so that the count is 0 or 1.
const PROBES: u8 = 3;
/// Shorter ones are the network's own.
const PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEAD_AFTER: Duration = Duration::from_secs(150);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn judge(samples: &[(u64, Sample)]) -> Verdict {
        let mut peer = Peer::default();
        let judged = samples.iter().map(|(now, sample)| peer.judge(sample, secs(*now), DEAD_AFTER));
        judged.last().expect("a sample")
    }

    #[test]
    fn a_peer_that_pauses_for_an_hour_and_acknowledges_is_alive() {
        // As Linux 6.18 shows a live peer with its window closed: the last acknowledgement is a sawtooth.
        let stalled = |since| Sample {
            notsent: 262_144,
            since_ack: secs(since),
            acked: 5_000_000,
            window_closed: true,
            ..Sample::default()
        };
        let samples = [(0, stalled(0)), (119, stalled(119)), (1800, stalled(60)), (3600, stalled(119))];
        assert_eq!(judge(&samples), Verdict::SlowButAlive { paused: secs(3600), window_closed: true });
        let reads_on = Sample { acked: 5_001_448, ..stalled(0) };
        assert_eq!(judge(&[(0, stalled(0)), (3600, stalled(119)), (3601, reads_on)]), Verdict::Progressing);
    }

    #[test]
    fn a_peer_that_is_gone_is_dead_in_flight_and_behind_a_closed_window() {
        let in_flight = Sample { unacked: 30, since_ack: secs(151), retransmits: 9, acked: 9, ..Sample::default() };
        let silence = Silence { since_ack: secs(151), retransmits: 9, probes: 0 };
        assert_eq!(judge(&[(0, in_flight), (151, in_flight)]), Verdict::Dead(silence));
        assert_eq!(silence.to_string(), "dead: no acknowledgement of any kind for 151 s, 9 retransmissions unanswered");
        let behind = Sample { notsent: 9, since_ack: secs(170), probes: 6, window_closed: true, ..Sample::default() };
        let silence = Silence { since_ack: secs(170), retransmits: 0, probes: 6 };
        assert_eq!(judge(&[(0, behind), (170, behind)]), Verdict::Dead(silence));
        assert_eq!(silence.to_string(), "dead: no acknowledgement of any kind for 170 s, 6 window probes unanswered");
        // Not yet: a link that is down for two minutes, or an iPXE that does not poll.
        let early = Sample { since_ack: secs(150), ..in_flight };
        assert!(matches!(judge(&[(0, early), (150, early)]), Verdict::SlowButAlive { window_closed: false, .. }));
    }

    #[test]
    fn a_rest_between_two_requests_is_no_pause() {
        let idle = Sample { acked: 7, ..Sample::default() };
        let asked = |since| Sample { unacked: 10, since_ack: secs(since), ..idle };
        assert_eq!(judge(&[(1, idle), (9, asked(0))]), Verdict::Progressing);
        let paused = Verdict::SlowButAlive { paused: secs(6), window_closed: false };
        assert_eq!(judge(&[(1, idle), (9, asked(0)), (15, asked(6))]), paused);
    }

    #[test]
    fn silence_says_nothing_where_nothing_is_owed() {
        let idle = Sample { since_ack: secs(9999), retransmits: 9, probes: 9, acked: 7, ..Sample::default() };
        assert_eq!(judge(&[(0, idle), (9999, idle)]), Verdict::Progressing);
    }

    proptest! {
        #[test]
        fn who_acknowledged_within_dead_after_is_never_dead(
            samples in proptest::collection::vec((0u64..100_000, any::<u32>(), any::<u32>(), 0u64..=150, any::<u8>(), any::<u8>(), any::<u64>()), 1..20)
        ) {
            let mut peer = Peer::default();
            for (now, unacked, notsent, since, retransmits, probes, acked) in samples {
                let since_ack = secs(since);
                let sample = Sample { unacked, notsent, since_ack, retransmits, probes, acked, window_closed: false };
                prop_assert!(!matches!(peer.judge(&sample, secs(now), DEAD_AFTER), Verdict::Dead(_)));
            }
        }
    }
}
