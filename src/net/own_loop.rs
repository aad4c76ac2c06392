//! A thread with its own event loop. In a runtime that shares tasks among threads, the thread that notices a packet
//! wakes another one to answer it. Under load this is most of the cost of a packet.

use std::{io, thread};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};

/// The thread ends when this is dropped, with all its tasks.
#[derive(Debug)]
pub struct OwnLoop {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl OwnLoop {
    /// Starts a thread with this name.
    ///
    /// # Errors
    /// The operating system has no thread or descriptor left.
    pub fn start(name: String) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        // An error means that the sender was dropped: this is the end too.
        let run = move || drop(runtime.block_on(ended));
        thread::Builder::new().name(name).spawn(run)?;
        Ok(Self { handle, _end: end })
    }

    /// To start tasks and open sockets on it.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
