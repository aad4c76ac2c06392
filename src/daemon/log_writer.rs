//! Writes log lines by a thread of its own while the server runs. Who reads standard output may stop reading (Ctrl-S, an SSH
//! client that sleeps, a full pipe), and a write waits then: no boot may wait with it.

use std::{
    io::{self, Write as _},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::warn;

/// What is to be written.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    /// Whether the thread writes. Until then, a thread that logs a line also writes it.
    is_apart: bool,
    is_writing: bool,
    /// Lines that were not kept, because too many waited.
    left_out: usize,
}

static WAITING: Mutex<Waiting> =
    Mutex::new(Waiting { bytes: Vec::new(), is_apart: false, is_writing: false, left_out: 0 });
static CHANGED: Condvar = Condvar::new();

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes `lines` lines, whatever `write` makes of them; where too many wait already, none of them.
pub(super) fn put(lines: usize, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) {
    let mut all = waiting();
    if !all.is_apart {
        drop(all);
        // A reader that has gone ends no server.
        let _ = write(&mut io::stdout().lock());
    } else if all.bytes.len() < MOST {
        let _ = write(&mut all.bytes);
        if !all.is_writing {
            CHANGED.notify_all();
        }
    } else {
        all.left_out += lines;
    }
}

/// The same for what is soon written anew: nothing, where much waits.
pub(super) fn put_if_read(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) {
    if waiting().bytes.len() < FEW {
        put(0, write);
    }
}

/// From here on the thread writes, until this is dropped.
#[must_use]
pub(super) struct Apart(());

impl Apart {
    /// Starts the thread, with the rights that the calling one has.
    pub(super) fn start() -> io::Result<Self> {
        thread::Builder::new().name("log".into()).spawn(write_all)?;
        waiting().is_apart = true;
        Ok(Self(()))
    }
}

impl Drop for Apart {
    /// The last lines are written, if somebody reads them.
    fn drop(&mut self) {
        let is_left = |all: &mut Waiting| all.is_writing || !all.bytes.is_empty();
        let waited = CHANGED.wait_timeout_while(waiting(), LAST_WORDS, is_left);
        let (mut all, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        all.is_apart = waited.timed_out();
    }
}

fn write_all() {
    let mut bytes = Vec::new();
    loop {
        let mut all = waiting();
        all.is_writing = false;
        CHANGED.notify_all();
        let mut all = CHANGED.wait_while(all, |all| all.bytes.is_empty()).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut all.bytes, &mut bytes);
        all.is_writing = true;
        drop(all);
        let mut out = io::stdout().lock();
        let _ = out.write_all(&bytes).and_then(|()| out.flush());
        drop(out);
        bytes.clear();
        let left_out = std::mem::take(&mut waiting().left_out);
        if left_out > 0 {
            warn!("{left_out} log lines are missing here: nobody read standard output for a while");
        }
    }
}

/// Bytes that may wait: thousands of lines.
const MOST: usize = 1 << 20;
/// Bytes that wait where somebody reads.
const FEW: usize = 4 << 10;
/// For the last lines at the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
