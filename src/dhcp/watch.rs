//! Listens to other DHCP servers. It sends nothing, and nothing else depends on it.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    offered::Offered,
    rival::{Rivals, rivals},
};
use crate::{
    net::raw::Tap,
    offers::attempts::Attempts,
    timeline::event::{Event, What, Who},
};

/// The watch on one interface.
pub struct Watch {
    /// Receives what servers send to clients.
    pub tap: Tap,
    /// Our addresses on all interfaces.
    pub ours: watch::Receiver<Vec<Ipv4Addr>>,
    /// Which machines asked for a boot recently.
    pub attempts: Arc<Mutex<Attempts>>,
    /// The event queue.
    pub events: mpsc::Sender<Event>,
}

impl Watch {
    /// Watches until `stop`. No error ends it: an interface that goes down can come up again.
    pub async fn serve(self, stop: CancellationToken) {
        let mut seen = Rivals::default();
        loop {
            let mut heard = Vec::new();
            let received = tokio::select! {
                received = self.tap.receive(|frame| {
                    heard.extend(Offered::parse(frame.payload).ok().map(|offered| (offered, *frame.from.ip())));
                }) => received,
                () = stop.cancelled() => return,
            };
            if let Err(error) = received {
                debug!(%error, "cannot listen to other DHCP servers");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            for (offered, from) in heard {
                for rival in rivals(&offered, from, &self.ours.borrow()) {
                    if seen.is_news(&rival, Instant::now()) {
                        warn!("{rival}");
                    }
                    // This can be the reason why the machine does not boot. If the queue is full, nothing is lost: the
                    // server sends the same again.
                    let _ = self.events.try_send(Event { who: Who::from(offered.mac), what: What::Rival(rival) });
                }
                self.learn_address(&offered);
            }
        }
    }

    /// TFTP and HTTP know a machine only by its address, and not every machine sends which address it accepted: a
    /// Raspberry Pi 3 sends no REQUEST. Machines that do not boot from the network are ignored.
    fn learn_address(&self, Offered { mac, yiaddr, is_ack, .. }: &Offered) {
        let is_booting = || {
            let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            attempts.has_just_asked(*mac, Instant::now())
        };
        if !yiaddr.is_unspecified() && is_booting() {
            let what = if *is_ack { What::Address(*yiaddr) } else { What::OfferedAddress(*yiaddr) };
            let _ = self.events.try_send(Event { who: Who::from(*mac), what });
        }
    }
}

/// An interface that is down gives the same error again and again. Wait before the next try.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
