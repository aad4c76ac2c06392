//! Threads that serve connections, each with an event loop of its own.
//!
//! A connection stays with the thread that it was given to, and what is shared out are connections: for one client, a
//! quarter of all CPU time went into waking the thread that was to send.

use std::{io, num::NonZeroUsize, sync::Arc, thread};

use tokio::runtime::Handle;

use crate::net::own_loop::OwnLoop;

/// They end when this is dropped, with every connection that is still on them.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    own: OwnLoop,
    /// As many as it has connections, and one.
    seats: Arc<()>,
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

    /// Their event loops.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.0.iter().map(|worker| worker.own.handle().clone())
    }

    /// The one that has the fewest connections.
    pub(super) fn seat(&self) -> Option<(&Handle, Seat)> {
        let worker = self.0.iter().min_by_key(|worker| Arc::strong_count(&worker.seats))?;
        Some((worker.own.handle(), Seat(Arc::clone(&worker.seats))))
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        Ok(Self { own: OwnLoop::start(format!("http-{number}"))?, seats: Arc::default() })
    }
}

/// One sends several gigabytes a second.
const MOST: usize = 4;

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

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
