//! Looks after a connection from its first byte to the last acknowledgement, and closes it if the client is dead.
//!
//! Only [`Verdict::Dead`] closes. There is no timer on progress and none on the whole: a client may take a week.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::connection::{Connection, Look};
use crate::boot::{
    peer::{Peer, Verdict},
    timeline::Pause,
};

/// Runs hyper's side of a connection, and stays until the client has acknowledged all that was written, or the server
/// stops: what the kernel has then, it goes on sending without us.
pub(super) async fn watch(
    connection: Arc<Connection>,
    serving: impl Future<Output = hyper::Result<()>>,
    dead_after: Duration,
    stop: &CancellationToken,
) {
    let mut watch = Watch { connection, peer: Peer::default(), began: Instant::now(), dead_after };
    if watch.serve(serving).await == Lives::Yes {
        watch.settle(stop).await;
    }
}

struct Watch {
    connection: Arc<Connection>,
    peer: Peer,
    began: Instant,
    dead_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lives {
    Yes,
    No,
}

impl Watch {
    async fn serve(&mut self, serving: impl Future<Output = hyper::Result<()>>) -> Lives {
        let mut serving = pin!(serving);
        let mut pause = SOONEST;
        loop {
            let is_settled = self.connection.is_settled();
            select! {
                ended = &mut serving => {
                    if let Err(error) = ended {
                        debug!(%error, peer = %self.connection.ends.peer, "an HTTP connection ended early");
                    }
                    return Lives::Yes;
                }
                // Something began, or is all in the kernel's hands: its end may come within the millisecond.
                () = self.connection.changed.notified() => pause = SOONEST,
                () = sleep(pause), if !is_settled => {
                    pause = self.longer(pause);
                    if self.look() == Lives::No {
                        return Lives::No;
                    }
                }
            }
        }
    }

    /// hyper has let go. What the kernel still holds is on its way; what it was not given will never be.
    async fn settle(&mut self, stop: &CancellationToken) {
        let mut pause = SOONEST;
        let mut lives = self.look();
        if !self.connection.is_given() {
            return self.connection.give_up("the client closed the connection");
        }
        while lives == Lives::Yes && !self.connection.is_settled() {
            select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {
                    return self.connection.give_up("netbootd stopped; the rest is in the kernel's hands");
                }
            }
            pause = self.longer(pause);
            lives = self.look();
        }
    }

    fn longer(&self, pause: Duration) -> Duration {
        (pause * 2).min(LATEST).min(self.dead_after / 8)
    }

    fn look(&mut self) -> Lives {
        let Look { sample, is_closed } = match self.connection.look() {
            Ok(look) => look,
            Err(error) => {
                debug!(%error, "the kernel tells nothing of a connection");
                return Lives::Yes;
            }
        };
        if is_closed {
            self.connection.give_up("the client closed the connection");
            return Lives::No;
        }
        match self.peer.judge(&sample, self.began.elapsed(), self.dead_after) {
            Verdict::Progressing => self.connection.tell_pace(None),
            Verdict::SlowButAlive { paused, window_closed } => {
                self.connection.tell_pace(Some(Pause { lasted: paused, window_closed }));
            }
            Verdict::Dead(silence) => {
                // An iPXE that starts what it loaded may never have acknowledged the end of it: its network is gone.
                let started = if self.connection.is_given() { "; it may have started what it loaded" } else { "" };
                self.connection.give_up(&format!("{silence}{started}"));
                self.connection.abandon();
                return Lives::No;
            }
        }
        Lives::Yes
    }
}

/// Between two looks at first: a loader is acknowledged within a few milliseconds.
const SOONEST: Duration = Duration::from_millis(2);
/// And at last.
const LATEST: Duration = Duration::from_secs(1);
