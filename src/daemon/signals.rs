//! The signals that end the server: SIGTERM and SIGINT, and SIGHUP where its terminal was closed.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tracing::info;

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Whether a person started it on a terminal, and is to see what it does.
    is_on_terminal: bool,
}

impl Signals {
    /// Needs a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            is_on_terminal: has_terminal(),
        })
    }

    /// Waits until the server is to end. timeout(1) sends its signal twice, to its child and to its group: what comes
    /// at once behind the first one is the same.
    pub(super) async fn first(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {}
            }
            // The same signal asks for the configuration to be read again.
            if self.is_on_terminal && terminal_goes().await {
                info!("the terminal was closed");
                break;
            }
        }
        let is_over = sleep(SAME);
        tokio::pin!(is_over);
        loop {
            tokio::select! {
                () = &mut is_over => return,
                () = self.second() => {}
            }
        }
    }

    /// Waits until the server is to end at once.
    pub(super) async fn second(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Whether the terminal goes now: the signal may be here before.
async fn terminal_goes() -> bool {
    for _ in 0..LOOKS {
        if !has_terminal() {
            return true;
        }
        sleep(BETWEEN_LOOKS).await;
    }
    false
}

/// A closed terminal is none any more.
fn has_terminal() -> bool {
    io::stdout().is_terminal() || io::stdin().is_terminal()
}

/// A limit on the size of files (`ulimit -f`, `LimitFSIZE`) fails a write, as a full disk does. Without a handler for the
/// signal, it ends the process.
pub(super) fn outlive_file_limit() -> io::Result<()> {
    signal(SignalKind::from_raw(libc::SIGXFSZ)).map(drop)
}

/// Signals that come within this time are one.
const SAME: Duration = Duration::from_millis(100);
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);
