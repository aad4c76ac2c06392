//! The loop: receive, read, tell.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{bounds::Bounds, line::read};
use crate::{
    boot::event::{Event, What, Who, count_lost},
    net::udp::{Datagram, Endpoint},
};

/// One socket's share of the stage.
pub struct Listener {
    /// Bound to one of our addresses.
    pub endpoint: Endpoint,
    /// How many lines are taken, on all sockets together.
    pub bounds: Arc<Mutex<Bounds>>,
    /// Where events go; a full queue drops them.
    pub events: tokio::sync::mpsc::Sender<Event>,
}

impl Listener {
    /// Listens until `stop`.
    ///
    /// No error ends it: what a stranger can send is read as far as it goes, and what the network does passes.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { endpoint, bounds, events } = self;
        loop {
            let received = tokio::select! {
                received = endpoint.receive(|datagram| take(&datagram, &bounds, &events)) => received,
                () = stop.cancelled() => return,
            };
            if let Err(error) = received {
                warn!(%error, "receiving syslog failed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

fn take(datagram: &Datagram<'_>, bounds: &Mutex<Bounds>, events: &tokio::sync::mpsc::Sender<Event>) {
    let from = *datagram.from.ip();
    let admitted = bounds.lock().unwrap_or_else(PoisonError::into_inner).admit(from, Instant::now());
    let Some(left_out) = admitted else { return };
    let lost = (left_out > 0).then(|| format!("({left_out} lines came too fast and were left out)"));
    for line in lost.into_iter().chain(read(datagram.bytes)) {
        if events.try_send(Event { who: Who::Address(from), what: What::Said(line) }).is_err() {
            count_lost();
            debug!("an event was dropped: the recorder is behind");
        }
    }
}

/// Errors of a socket come in streams while an interface is away.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
