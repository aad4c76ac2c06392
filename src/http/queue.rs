//! How many bytes for one client wait unsent in the kernel (`TCP_NOTSENT_LOWAT`, tcp(7)). More is memory for every client
//! that pauses; less is more wake-ups, each of which sends less.

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use socket2::SockRef;
use tracing::debug;

/// See the module.
#[derive(Debug)]
pub(super) struct Queue {
    /// Bytes for a quick client.
    quick: u32,
    /// Bytes now.
    most: AtomicU32,
}

impl Queue {
    /// For one of so many connections.
    pub(super) fn of(connections: u32) -> Self {
        let quick = (IN_ALL / connections.max(1)).clamp(QUICK_AT_LEAST, QUICK_AT_MOST);
        Self { quick, most: AtomicU32::new(AT_FIRST) }
    }

    /// # Errors
    /// Those of the socket.
    pub(super) fn begin(&self, socket: &impl AsFd) -> io::Result<()> {
        SockRef::from(socket).set_tcp_notsent_lowat(self.most.load(Ordering::Relaxed))
    }

    /// So many bytes of a body were written in the time since its request.
    pub(super) fn wrote(&self, socket: &impl AsFd, bytes: u64, time: impl FnOnce() -> Duration) {
        let most = self.most.load(Ordering::Relaxed);
        // Not only at the next look: a crowd has half of its files by then.
        if most < self.quick && bytes >= SHOWN + u64::from(AT_FIRST) {
            self.set(socket, if is_quick(bytes, time()) { self.quick } else { most.max(STEADY) });
        }
    }

    /// A client that has acknowledged so many bytes in all was looked at: so many of them since it was last looked at.
    pub(super) fn looked(&self, socket: &impl AsFd, acked: u64, fresh: u64, passed: Duration) {
        self.set(
            socket,
            match () {
                () if acked < SHOWN => AT_FIRST,
                () if is_quick(fresh, passed) => self.quick,
                () => STEADY,
            },
        );
    }

    fn set(&self, socket: &impl AsFd, most: u32) {
        if self.most.swap(most, Ordering::Relaxed) != most
            && let Err(error) = SockRef::from(socket).set_tcp_notsent_lowat(most)
        {
            debug!(%error, "could not set how much waits in the kernel");
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn is_quick(bytes: u64, time: Duration) -> bool {
    bytes as f64 >= QUICK * time.as_secs_f64()
}

/// Bytes per second of a client for which more waits.
const QUICK: f64 = 2e6;
/// Bytes that a client has taken before more waits for it: one that reads nothing takes a window's worth.
const SHOWN: u64 = 160 << 10;
/// For each client at first. Half of it is sent at each wake-up.
const AT_FIRST: u32 = 224 << 10;
/// For a client that reads, and is not quick.
const STEADY: u32 = 512 << 10;
/// For a quick client. 4 MiB is what the kernel's send buffer grows to. A crowd of a hundred costs a third more CPU time
/// with 640 KiB than with 2 MiB (tests/bench/http).
const QUICK_AT_MOST: u32 = 4 << 20;
/// See [`QUICK_AT_MOST`].
const QUICK_AT_LEAST: u32 = STEADY;
/// For all clients, if all are quick.
const IN_ALL: u32 = 1 << 30;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// No connection: only what would be set counts.
    fn set(queue: &Queue, act: impl FnOnce(&Queue, &UdpSocket)) -> u32 {
        act(queue, &UdpSocket::bind("127.0.0.1:0").expect("bound"));
        queue.most.load(Ordering::Relaxed)
    }

    #[test]
    fn more_waits_for_a_client_that_reads_and_most_for_a_quick_one() {
        let (second, queue) = (Duration::from_secs(1), Queue::of(10));
        let shown = SHOWN + u64::from(AT_FIRST);
        assert_eq!(set(&queue, |q, socket| q.wrote(socket, shown - 1, || Duration::ZERO)), AT_FIRST, "its window");
        assert_eq!(set(&queue, |q, socket| q.wrote(socket, shown, || second)), STEADY);
        assert_eq!(set(&queue, |q, socket| q.wrote(socket, 3_000_000, || second)), QUICK_AT_MOST);
        assert_eq!(set(&queue, |q, socket| q.looked(socket, 3_000_000, 1_000_000, second)), STEADY, "slower now");
        assert_eq!(set(&queue, |q, socket| q.looked(socket, 6_000_000, 3_000_000, second)), QUICK_AT_MOST);
        let fresh = Queue::of(10);
        assert_eq!(set(&fresh, |q, socket| q.looked(socket, SHOWN - 1, SHOWN - 1, Duration::ZERO)), AT_FIRST);
    }

    #[test]
    fn many_connections_share_what_waits() {
        for (connections, quick) in [(0, QUICK_AT_MOST), (1000, 1_073_741), (1 << 16, QUICK_AT_LEAST)] {
            assert_eq!(Queue::of(connections).quick, quick, "{connections}");
        }
    }
}
