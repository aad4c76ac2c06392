//! Tells the service manager how the server is (sd_notify(3)). Without one that listens, every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::{runtime::Handle, time};
use tracing::{debug, error};

/// It serves; `status` is what `systemctl status` shows.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// It reads its configuration; [`ready_again`] follows, whatever the result is.
pub(super) fn reloading() {
    // A manager that waits for the end of a reload goes by this time (systemd 253, Type=notify-reload).
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "no clock"),
    }
}

/// Behind [`reloading`].
pub(super) fn ready_again() {
    tell(&[NotifyState::Ready]);
}

/// It lets running transfers come to their end, for as long as `grace`.
pub(super) fn stopping(grace: Duration) {
    let status = format!("stopping: running transfers have {} s", grace.as_secs());
    let longest = u32::try_from((grace + AFTER_GRACE).as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(longest), NotifyState::Status(&status)]);
}

/// Keeps the manager from restarting us, where it asked for that (`WatchdogSec`), for as long as every one of the event
/// loops still does what it is given. Needs a runtime; it ends with it.
pub(super) fn keep_alive(loops: Vec<Handle>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut beat = time::interval(patience / 2);
        loop {
            beat.tick().await;
            if all_turn(&loops, patience / 2).await {
                tell(&[NotifyState::Watchdog]);
            } else {
                error!("an event loop does not respond; the service manager will restart netbootd");
            }
        }
    });
}

/// Whether each of them takes a task and comes to its end within this time.
async fn all_turn(loops: &[Handle], within: Duration) -> bool {
    let turns = loops.iter().map(|each| each.spawn(async {})).collect::<Vec<_>>();
    let all = async {
        for turn in turns {
            if turn.await.is_err() {
                return false;
            }
        }
        true
    };
    time::timeout(within, all).await.unwrap_or(false)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "the service manager does not answer");
    }
}

/// For what is done when the transfers are over.
const AFTER_GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;
    use crate::net::own_loop::OwnLoop;

    #[tokio::test]
    async fn a_loop_that_stands_still_is_seen() {
        let (first, second) = (OwnLoop::start("first".into()), OwnLoop::start("second".into()));
        let (first, second) = (first.expect("started"), second.expect("started"));
        let loops = [first.handle().clone(), second.handle().clone()];
        assert!(all_turn(&loops, Duration::from_secs(10)).await);

        let (release, released) = mpsc::channel::<()>();
        let stuck = second.handle().spawn(async move { released.recv().is_err() });
        assert!(!all_turn(&loops, Duration::from_millis(100)).await);
        drop(release);
        assert!(stuck.await.expect("no panic"), "released by the drop");
        assert!(all_turn(&loops, Duration::from_secs(10)).await);

        drop(second);
        while loops[1].spawn(async {}).await.is_ok() {
            thread::yield_now();
        }
        assert!(!all_turn(&loops, Duration::from_secs(10)).await, "it has ended");
    }
}
