//! Looks after a connection from its first byte to the last acknowledgement, and closes it if the client is dead.
//!
//! Only [`Verdict::Dead`] closes. There is no timer on progress and none on the whole: a client may take a week.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, LazyLock},
    task::{Poll, ready},
    time::{Duration, Instant},
};

use tokio::time::{self, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::connection::{Connection, Look};
use crate::timeline::{
    peer::{Peer, Sample, Verdict},
    transfer::{Failure, Pause},
};

/// Runs what serves a connection, and stays until the client has acknowledged all that was written. When the server stops
/// (`stop`), it stays only for a client that makes progress: what the kernel has, it goes on sending without us.
pub(super) async fn watch(
    connection: Arc<Connection>,
    serving: Pin<&mut impl Future<Output = io::Result<()>>>,
    dead_after: Duration,
    stop: &CancellationToken,
) {
    let (peer, began, acked) = (Peer::default(), Instant::now(), (Duration::ZERO, 0));
    let mut watch = Watch { connection, peer, began, dead_after, acked, paused: None, told_silent: false };
    if watch.serve(serving).await == Lives::Yes {
        watch.settle(stop).await;
    }
}

struct Watch {
    connection: Arc<Connection>,
    peer: Peer,
    began: Instant,
    dead_after: Duration,
    /// When last looked, and how many bytes the client had acknowledged then.
    acked: (Duration, u64),
    /// How long the transfer on its way has paused.
    paused: Option<Pause>,
    /// It was reported that the client fell silent at the very end.
    told_silent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lives {
    Yes,
    No,
}

impl Watch {
    async fn serve(&mut self, mut serving: Pin<&mut impl Future<Output = io::Result<()>>>) -> Lives {
        let mut pause = SOONEST;
        let mut next = pin!(sleep_until(after(pause)));
        poll_fn(|context| {
            if let Poll::Ready(ended) = serving.as_mut().poll(context) {
                if let Err(error) = ended {
                    debug!(%error, peer = %self.connection.ends.peer, "an HTTP connection ended early");
                }
                return Poll::Ready(Lives::Yes);
            }
            // Something began, or is all in the kernel's hands: its end may come within the millisecond.
            if self.connection.has_changed() {
                pause = SOONEST;
                // A look that comes sooner stays: small files come faster than timers can be set.
                let soon = after(pause);
                if next.is_elapsed() || next.deadline() > soon {
                    next.as_mut().reset(soon);
                }
            }
            while !self.connection.is_settled() {
                ready!(next.as_mut().poll(context));
                pause = self.longer(pause);
                if self.look() == Lives::No {
                    return Poll::Ready(Lives::No);
                }
                next.as_mut().reset(after(pause));
            }
            Poll::Pending
        })
        .await
    }

    /// Nothing more is asked. What the kernel still holds is on its way; what it was not given will never be.
    async fn settle(&mut self, stop: &CancellationToken) {
        let mut pause = SOONEST;
        let mut lives = self.look();
        if !self.connection.is_given() {
            return self.connection.give_up(Failure::Closed);
        }
        while lives == Lives::Yes && !self.connection.is_settled() {
            if stop.is_cancelled() && self.is_not_waited_for() {
                let why = "netbootd stopped; the kernel sends the rest";
                return self.connection.give_up(Failure::Ours(why.into()));
            }
            sleep_until(after(pause)).await;
            pause = self.longer(pause);
            lives = self.look();
        }
    }

    /// Whether a server that stops leaves the client to the kernel. A machine that has all of its last file has used up its
    /// one-time profile, so its last acknowledgements are waited for, or until it is known to be silent.
    fn is_not_waited_for(&self) -> bool {
        self.paused.is_some_and(|pause| pause.window_closed || pause.lasted > SILENT)
    }

    /// Until the next look. Where more is to be written, that wakes the watch, and a client that has paused for long is
    /// looked at more rarely. Where all is written nothing does.
    fn longer(&self, pause: Duration) -> Duration {
        let latest = match self.connection.is_given() {
            true => LATEST,
            false => LATEST_WHILE_SENDING.max(self.paused.map_or(Duration::ZERO, |pause| pause.lasted / 4)),
        };
        (pause * 4).min(latest).min(self.dead_after / 8)
    }

    fn fit_queue(&mut self, sample: &Sample) {
        let (now, (then, before)) = (self.began.elapsed(), self.acked);
        let passed = now.saturating_sub(then);
        // In a crowd, each client is sent nothing for a while.
        if passed >= JUDGED_OVER {
            self.acked = (now, sample.acked);
            let (Connection { queue, stream, .. }, acked) = (&*self.connection, sample.acked);
            queue.looked(stream, acked, acked.saturating_sub(before), passed);
        }
    }

    fn look(&mut self) -> Lives {
        let Look { sample, is_closed } = match self.connection.look() {
            Ok(look) => look,
            Err(error) => {
                debug!(%error, "the kernel gives no information on a connection");
                return Lives::Yes;
            }
        };
        if is_closed {
            // iPXE says goodbye, or nothing at all to what it does not know (net/tcp.c): a reset after a silence is of
            // another system that has the address now.
            if sample.since_ack >= RESET_BY_ANOTHER {
                self.tell_silent(&sample);
            }
            self.connection.give_up(Failure::Closed);
            return Lives::No;
        }
        self.fit_queue(&sample);
        self.paused = None;
        match self.peer.judge(&sample, self.began.elapsed(), self.dead_after) {
            Verdict::Progressing => {
                self.told_silent = false;
                self.connection.tell_pace(None);
            }
            Verdict::SlowButAlive { paused, window_closed } => {
                if sample.since_ack >= SILENT && sample.retransmits >= RETRANSMITS {
                    self.tell_silent(&sample);
                }
                self.paused = Some(Pause { lasted: paused, window_closed });
                self.connection.tell_pace(self.paused);
            }
            Verdict::Dead(silence) => {
                self.tell_silent(&sample);
                // An iPXE that starts what it loaded may never have acknowledged the end of it: its network is gone.
                let may_have_started = self.connection.is_given();
                self.connection.give_up(Failure::Dead { silence, may_have_started });
                self.connection.abandon();
                return Lives::No;
            }
        }
        Lives::Yes
    }

    fn tell_silent(&mut self, sample: &Sample) {
        if !self.told_silent {
            self.told_silent = self.connection.tell_silent(sample);
        }
    }
}

/// When a pause of this length ends. All but the first ones end at the same moments for all clients: to wake the thread
/// costs more than to look at a client.
fn after(pause: Duration) -> time::Instant {
    static BEGAN: LazyLock<time::Instant> = LazyLock::new(time::Instant::now);
    let at = time::Instant::now() + pause;
    if pause <= SOONEST {
        return at;
    }
    let moments = pause.min(TOGETHER).as_nanos();
    let over = at.saturating_duration_since(*BEGAN).as_nanos() % moments;
    at + Duration::from_nanos(u64::try_from(moments - over).unwrap_or_default())
}

/// Since the last acknowledgement of the end of what was sent. A machine whose cable was pulled is back sooner, and one
/// with a one-time profile has hardly restarted by then.
const SILENT: Duration = Duration::from_secs(10);
/// Unanswered in that time.
const RETRANSMITS: u8 = 3;
/// A program that gives up resets at once.
const RESET_BY_ANOTHER: Duration = Duration::from_secs(1);
/// Between two looks at first: a loader is acknowledged within a few milliseconds.
const SOONEST: Duration = Duration::from_millis(2);
/// Of a client's rate.
const JUDGED_OVER: Duration = Duration::from_millis(200);
/// Between two moments at which clients are looked at that are looked at rarely.
const TOGETHER: Duration = Duration::from_millis(250);
/// Between two looks at last, where all is written.
const LATEST: Duration = Duration::from_secs(1);
/// And where it is not: as often as the progress of a transfer is reported.
const LATEST_WHILE_SENDING: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Read as _},
        net,
        time::SystemTime,
    };

    use socket2::SockRef;
    use tokio::{
        net::{TcpListener, TcpStream},
        select,
        sync::{Semaphore, mpsc},
    };

    use super::*;
    use crate::{
        boot::over::Of,
        http::{
            assets::Served,
            conversation::{One, converse},
            ends::Ends,
            queue::Queue,
            source::Source,
        },
    };

    #[tokio::test]
    async fn looks_that_are_rare_come_together_and_early_ones_at_once() {
        let short = after(SOONEST);
        assert!(short <= time::Instant::now() + SOONEST);
        let (now, first) = (time::Instant::now(), after(LATEST));
        assert!(first >= now + LATEST && first <= now + LATEST + 2 * TOGETHER);
        let moments = (0..50).map(|n| after(LATEST + TOGETHER * n / 50) - first);
        let mut moments: Vec<u128> = moments.map(|moment| moment.as_nanos()).collect();
        assert!(moments.iter().all(|moment| moment % TOGETHER.as_nanos() == 0), "{moments:?}");
        moments.dedup();
        assert!(moments.len() <= 3, "{moments:?}");
        // Those between are as far apart as they are long.
        let between = SOONEST * 16;
        let (first, second) = (after(between), after(between));
        assert_eq!(second.saturating_duration_since(first).as_nanos() % between.as_nanos(), 0);
        assert!(first <= time::Instant::now() + 2 * between);
    }

    /// What waits in the kernel at most for a client that reads so many bytes of a long body, and then no more: as far as is
    /// seen within this time.
    async fn queued(reads: u64, within: Duration) -> u32 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let local = listener.local_addr().expect("bound");
        let mut client = net::TcpStream::connect(local).expect("connected");
        io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("asked");
        let (stream, peer): (TcpStream, _) = listener.accept().await.expect("accepted");
        let connection =
            Connection::new(stream, Ends { peer, local }, Queue::of(1), mpsc::channel(64).0, Arc::default());
        let connection = Arc::new(connection.expect("a connection"));
        let content = Source::Memory(vec![0; LONG].into());
        let (etag, modified) = ("\"1\"".into(), SystemTime::UNIX_EPOCH);
        let served = Served { of: Of::Asset, name: "k".into(), content, etag, modified };
        let reader = tokio::task::spawn_blocking(move || {
            // The other end is closed when enough was seen.
            let _ = io::copy(&mut (&client).take(reads), &mut io::sink());
            client
        });
        let seen = {
            let one = One { served, connection: Arc::clone(&connection) };
            let (bodies, stop) = (Semaphore::new(0), CancellationToken::new());
            let serving = pin!(converse(Arc::clone(&connection), &one, &bodies, &stop));
            let most = || SockRef::from(&connection.stream).tcp_notsent_lowat().expect("told");
            let watched = watch(Arc::clone(&connection), serving, Duration::from_secs(150), &stop);
            let began = Instant::now();
            let looks = async {
                let mut seen = 0;
                while seen < 4 << 20 && began.elapsed() < within {
                    time::sleep(SOONEST).await;
                    seen = seen.max(most());
                }
                seen
            };
            select! {
                () = watched => panic!("it has ended"),
                seen = looks => seen,
            }
        };
        drop(connection);
        drop(reader.await.expect("no panic"));
        seen
    }

    #[tokio::test]
    async fn more_is_queued_for_a_client_that_has_read_quickly_and_for_no_other() {
        // Several looks.
        let seen = queued(100, SOONEST * 50).await;
        assert_eq!(seen, 224 << 10, "its first window was taken in no time");
        assert_eq!(queued(32 << 20, Duration::from_secs(30)).await, 4 << 20);
    }

    /// Bytes: more than both ends' kernels take.
    const LONG: usize = 64 << 20;
}
