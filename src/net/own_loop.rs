//! A thread with an event loop of its own. On a runtime that shares its tasks among threads, the one that learns of a
//! packet wakes another one to answer it: under load that is most of what the packet costs.

use std::{io, thread};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};

/// It ends when this is dropped, with every task that is still on it.
#[derive(Debug)]
pub struct OwnLoop {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl OwnLoop {
    /// Starts one; the name is the thread's.
    ///
    /// # Errors
    /// Those of the operating system, which has no thread or descriptor left.
    pub fn start(name: String) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        // An error is the end as well: whoever would have said so is gone.
        let run = move || drop(runtime.block_on(ended));
        thread::Builder::new().name(name).spawn(run)?;
        Ok(Self { handle, _end: end })
    }

    /// To spawn on it, and to open sockets that it watches.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
