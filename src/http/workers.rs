//! Threads that serve connections, each with an event loop of its own.
//!
//! On a runtime that shares its tasks among threads, the thread that learns that a client takes more wakes another one
//! to send it: for one client a quarter of all CPU time went there. Here a connection stays with the thread that it was
//! given to, and what is shared out are connections.

use std::{io, num::NonZeroUsize, sync::Arc, thread};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
};

/// They end when this is dropped, with every connection that is still on them.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    handle: Handle,
    /// As many as it has connections, and one.
    seats: Arc<()>,
    _end: oneshot::Sender<()>,
}

/// A connection's place on a thread; dropping it frees it.
#[derive(Debug)]
pub(super) struct Seat(#[expect(dead_code, reason = "it is counted")] Arc<()>);

impl Workers {
    /// Starts as many as there are CPUs, up to a few.
    ///
    /// # Errors
    /// Those of the operating system, which has no thread or descriptor left.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST);
        (0..count).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// The one that has the fewest connections.
    pub(super) fn seat(&self) -> Option<(&Handle, Seat)> {
        let worker = self.0.iter().min_by_key(|worker| Arc::strong_count(&worker.seats))?;
        Some((&worker.handle, Seat(Arc::clone(&worker.seats))))
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        // An error is the end as well: whoever would have said so is gone.
        let run = move || drop(runtime.block_on(ended));
        thread::Builder::new().name(format!("http-{number}")).spawn(run)?;
        Ok(Self { handle, seats: Arc::default(), _end: end })
    }
}

/// One sends several gigabytes a second.
const MOST: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_shared_out_and_their_places_come_back() {
        let workers = Workers((0..3).map(Worker::start).collect::<io::Result<_>>().expect("started"));
        let seat = || workers.seat().map(|(handle, seat)| (handle.id(), seat)).expect("a worker");
        let (first, second, third) = (seat(), seat(), seat());
        assert!(first.0 != second.0 && second.0 != third.0 && first.0 != third.0);
        let id = second.0;
        drop(second);
        assert_eq!(seat().0, id, "the one with the fewest");
    }

    #[tokio::test]
    async fn they_end_with_what_is_on_them() {
        let workers = Workers(vec![Worker::start(0).expect("started")]);
        let (kept, lost) = oneshot::channel::<()>();
        let (handle, _seat) = workers.seat().expect("a worker");
        handle.spawn(async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        drop(workers);
        assert!(lost.await.is_err());
    }
}
