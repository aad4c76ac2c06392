//! A thread for the transfer that is alone: it waits in the very call that receives, which saves a lock-step block the
//! call that waits for one of many ports. Boot time of one machine is mostly this.

use std::{
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tracing::debug;

use super::run::{Ending, Left, Run};

/// The thread, from the loop's side.
pub(super) struct Apart {
    runs: mpsc::Sender<(Run, Arc<AtomicBool>)>,
    ended: PipeReader,
    /// Ports of those that were given up, and their clients.
    given_up: mpsc::Receiver<Left>,
    is_busy: bool,
}

/// Ends a transfer that runs apart when it is dropped.
pub(super) struct Cancel(Arc<AtomicBool>);

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

    /// Takes a transfer over, which nobody else may receive for from now on, until its [`Cancel`] is dropped.
    pub(super) fn drive(&mut self, run: Run, cancelled: Arc<AtomicBool>) {
        self.is_busy = true;
        if self.runs.send((run, cancelled)).is_err() {
            debug!("the thread for single TFTP transfers has gone");
        }
    }

    /// The transfer has come to its end: [`AsFd`] became readable. Where it was given up, its port.
    pub(super) fn ended(&mut self) -> Option<Left> {
        self.is_busy = false;
        // One byte for one transfer, and it is there.
        let _ = self.ended.read(&mut [0]);
        self.given_up.try_recv().ok()
    }
}

impl Cancel {
    pub(super) fn new() -> (Self, Arc<AtomicBool>) {
        let cancelled = Arc::new(AtomicBool::new(false));
        (Self(cancelled.clone()), cancelled)
    }
}

impl AsFd for Apart {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn serve(runs: &mpsc::Receiver<(Run, Arc<AtomicBool>)>, mut ending: &PipeWriter, given_up: &mpsc::Sender<Left>) {
    for (mut run, cancelled) in runs {
        let end = drive(&mut run, &cancelled);
        if let Some(left) = run.left_open(&end) {
            let _ = given_up.send(left);
        }
        run.tell_end(end);
        // Without the loop there is nobody to tell.
        let _ = ending.write(&[0]);
    }
}

fn drive(run: &mut Run, cancelled: &AtomicBool) -> Ending {
    let (mut buffer, mut packets) = ([0; 2048], Vec::new());
    let mut patience = Duration::ZERO;
    loop {
        let now = Instant::now();
        if let Some(end) = run.ring(now, &mut packets) {
            return end;
        }
        let wait = run.transfer.deadline().saturating_duration_since(now).max(SHORTEST_WAIT);
        // To wake before the deadline costs little, a system call for each block much: it is set anew only when it is
        // far off.
        if patience > wait || patience < (wait / 2).min(LONGEST_WAIT) {
            patience = (wait * 3 / 4).clamp(SHORTEST_WAIT, LONGEST_WAIT);
            if let Err(error) = run.port.set_patience(patience) {
                return Ending::Unreadable(error);
            }
        }
        let received = run.port.receive(&mut buffer);
        if cancelled.load(Ordering::Relaxed) {
            return Ending::Replaced;
        }
        match received {
            Ok(Some((datagram, from))) => {
                if let Some(end) = run.receive(datagram, from, &mut packets) {
                    return end;
                }
            }
            Ok(None) => {}
            Err(error) => {
                debug!(%error, peer = %run.peer, "receiving for a TFTP transfer failed");
                thread::sleep(SHORTEST_WAIT);
            }
        }
    }
}

/// What the kernel's clock can tell apart; zero would be for ever.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// So long it may take to be seen that a transfer is over for others.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
