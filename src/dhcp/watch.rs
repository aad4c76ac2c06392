//! The loop that listens to other servers. It sends nothing, and nothing depends on it.

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
    boot::{
        attempts::Attempts,
        event::{Event, What, Who},
    },
    net::raw::Tap,
};

/// The watch on one interface.
pub struct Watch {
    /// Hears what servers say to clients.
    pub tap: Tap,
    /// Our addresses on all interfaces.
    pub ours: watch::Receiver<Vec<Ipv4Addr>>,
    /// Which machines have just asked for a boot.
    pub attempts: Arc<Mutex<Attempts>>,
    /// Where events go.
    pub events: mpsc::Sender<Event>,
}

impl Watch {
    /// Watches until `stop`. No error ends it: an interface that goes down comes up again.
    pub async fn serve(self, stop: CancellationToken) {
        let mut told = Rivals::default();
        loop {
            let mut heard = Vec::new();
            let received = tokio::select! {
                received = self.tap.receive(|frame| {
                    heard.extend(Offered::parse(frame.payload).ok().map(|offered| (offered, *frame.from.ip())));
                }) => received,
                () = stop.cancelled() => return,
            };
            if let Err(error) = received {
                debug!(%error, "listening to other DHCP servers failed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            for (offered, from) in heard {
                for rival in rivals(&offered, from, &self.ours.borrow()) {
                    if told.is_news(&rival, Instant::now()) {
                        warn!("{rival}");
                    }
                    // To the machine that it was said to, it may be why it does not boot. Who is behind misses nothing
                    // by it: the server says the same next time.
                    let _ = self.events.try_send(Event { who: Who::from(offered.mac), what: What::Rival(rival) });
                }
                self.learn_address(&offered);
            }
        }
    }

    /// TFTP and HTTP know a machine by its address only, and not every machine says which one it takes: a Raspberry Pi 3
    /// sends no REQUEST. Of machines that do not boot from the network nothing is told.
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

/// Errors of a socket come in streams while an interface is away.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
