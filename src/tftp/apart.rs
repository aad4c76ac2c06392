//! A thread for a transfer that runs alone. It waits in the receive call itself. This saves one system call per
//! lock-step block (waiting for one of many ports). When a single machine boots, most of its boot time is in these
//! blocks.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::mpsc::{self, TryRecvError},
    thread,
    time::{Duration, Instant},
};

use tracing::debug;

use super::run::{Ending, Left, Run};

/// The loop's handle of the thread.
pub(super) struct Apart {
    runs: mpsc::Sender<(Run, Cancelled)>,
    ended: PipeReader,
    /// Ports of transfers that were given up, and their clients.
    given_up: mpsc::Receiver<Left>,
    is_busy: bool,
}

/// Ends the transfer in the thread: by what is sent, or as one that is replaced when it is dropped.
pub(super) type Cancel = mpsc::Sender<Ending>;
/// What the thread hears of it.
pub(super) type Cancelled = mpsc::Receiver<Ending>;

impl Apart {
    pub(super) fn new() -> io::Result<Self> {
        let (ended, ending) = io::pipe()?;
        let ((runs, received), (left, given_up)) = (mpsc::channel(), mpsc::channel());
        thread::Builder::new().name("tftp-alone".into()).spawn(move || serve(&received, &ending, &left))?;
        Ok(Self { runs, ended, given_up, is_busy: false })
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Takes over a transfer. No other thread may receive for it until its [`Cancel`] is dropped.
    pub(super) fn drive(&mut self, run: Run, cancelled: Cancelled) {
        self.is_busy = true;
        if self.runs.send((run, cancelled)).is_err() {
            debug!("the thread for single TFTP transfers has ended");
        }
    }

    /// The transfer has ended: [`AsFd`] became readable. If it was given up, its port is returned.
    pub(super) fn ended(&mut self) -> Option<Left> {
        self.is_busy = false;
        // One byte for each transfer; it is already there.
        let _ = self.ended.read(&mut [0]);
        self.given_up.try_recv().ok()
    }
}

impl AsFd for Apart {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

fn serve(runs: &mpsc::Receiver<(Run, Cancelled)>, mut ending: &PipeWriter, given_up: &mpsc::Sender<Left>) {
    for (mut run, cancelled) in runs {
        let end = drive(&mut run, &cancelled);
        if let Some(left) = run.left_open(&end) {
            let _ = given_up.send(left);
        }
        run.tell_end(end);
        // Without the loop nobody needs the result.
        let _ = ending.write(&[0]);
    }
}

fn drive(run: &mut Run, cancelled: &Cancelled) -> Ending {
    let (mut buffer, mut packets) = ([0; 2048], Vec::new());
    let mut patience = Duration::ZERO;
    loop {
        let now = Instant::now();
        if let Some(end) = run.ring(now, &mut packets) {
            return end;
        }
        let wait = run.transfer.deadline().saturating_duration_since(now).max(SHORTEST_WAIT);
        // A wake-up before the deadline is cheap, but a system call for each block is not. So the time is set again
        // only if it differs much.
        if patience > wait || patience < (wait / 2).min(LONGEST_WAIT) {
            patience = (wait * 3 / 4).clamp(SHORTEST_WAIT, LONGEST_WAIT);
            if let Err(error) = run.port.set_patience(patience) {
                return Ending::Unreadable(error);
            }
        }
        let received = run.port.receive(&mut buffer);
        match cancelled.try_recv() {
            Ok(ending) => return ending,
            Err(TryRecvError::Disconnected) => return Ending::Replaced,
            Err(TryRecvError::Empty) => {}
        }
        match received {
            Ok(Some((datagram, from))) => {
                if let Some(end) = run.receive(datagram, from, &mut packets) {
                    return end;
                }
            }
            Ok(None) => {}
            Err(error) => {
                debug!(%error, peer = %run.peer, "cannot receive packets of a TFTP transfer");
                thread::sleep(SHORTEST_WAIT);
            }
        }
    }
}

/// The resolution of the kernel's clock; zero would mean no limit.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// The longest delay until the thread sees that it should stop.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
