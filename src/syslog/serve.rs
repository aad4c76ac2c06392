//! The loop: receive, parse, report.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{bounds::Bounds, line::read};
use crate::{
    net::udp::{Datagram, Endpoint},
    timeline::event::{Event, What, Who, count_lost},
};

/// The part of the syslog server for one socket.
pub struct Listener {
    /// Bound to one of our addresses.
    pub endpoint: Endpoint,
    /// The limits, for all sockets together.
    pub bounds: Arc<Mutex<Bounds>>,
    /// The event queue. If it is full, events are dropped.
    pub events: tokio::sync::mpsc::Sender<Event>,
}

impl Listener {
    /// Listens until `stop`.
    ///
    /// No error ends it: wrong messages are read as far as possible, and network errors pass.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { endpoint, bounds, events } = self;
        loop {
            let received = tokio::select! {
                received = endpoint.receive(|datagram| take(&datagram, &bounds, &events)) => received,
                () = stop.cancelled() => return,
            };
            if let Err(error) = received {
                warn!(%error, "cannot receive syslog messages");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

fn take(datagram: &Datagram<'_>, bounds: &Mutex<Bounds>, events: &tokio::sync::mpsc::Sender<Event>) {
    let from = *datagram.from.ip();
    let admitted = bounds.lock().unwrap_or_else(PoisonError::into_inner).admit(from, Instant::now());
    let Some(left_out) = admitted else { return };
    let lost = (left_out > 0).then(|| format!("({left_out} lines were dropped: too many per second)"));
    for line in lost.into_iter().chain(read(datagram.bytes)) {
        if events.try_send(Event { who: Who::Address(from), what: What::Said(line) }).is_err() {
            count_lost();
            debug!("an event was dropped: the event queue is full");
        }
    }
}

/// An interface that is down gives the same error again and again. Wait before the next try.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
