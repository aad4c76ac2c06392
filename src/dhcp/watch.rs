//! Listens to other DHCP servers. Where we lease addresses, it also asks whether somebody else does.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    offered::Offered,
    office::{Desk, Office, Sender},
    rival::{Rivals, rivals},
    wire::question,
};
use crate::{
    boot::{live::Live, mac::MacAddr},
    net::{
        boot_time,
        frame::{BROADCAST, Frame},
        raw::Tap,
    },
    offers::{attempts::Attempts, rival::Fault},
    timeline::event::{AddressOffer, Event, What, Who},
};

/// The watch on one interface.
pub struct Watch {
    /// Receives what servers send to clients.
    pub tap: Tap,
    /// Our addresses on all interfaces.
    pub ours: watch::Receiver<Vec<Ipv4Addr>>,
    /// Which machines asked for a boot recently.
    pub attempts: Arc<Mutex<Attempts>>,
    /// Its peers are other appliances with the same rules and the same state.
    pub live: Arc<Live>,
    /// The event queue.
    pub events: mpsc::Sender<Event>,
    /// Where addresses are leased on the interface: only as long as nobody else does.
    pub desk: Option<(Arc<Office>, Arc<Desk>)>,
}

impl Watch {
    /// Watches until `stop`. No error ends it: an interface that goes down can come up again.
    pub async fn serve(self, stop: CancellationToken) {
        let (mut seen, is_from_wire) = (Rivals::default(), !self.tap.hears_this_host);
        loop {
            let mut heard = Vec::new();
            let received = tokio::select! {
                () = self.guards() => Ok(()),
                received = self.tap.receive(|frame| {
                    let sender = Sender { address: *frame.from.ip(), card: MacAddr(frame.link_from), is_from_wire };
                    heard.extend(Offered::parse(frame.payload).ok().map(|offered| (offered, sender)));
                }) => received,
                () = stop.cancelled() => return,
            };
            if let Err(error) = received {
                debug!(%error, "cannot listen to other DHCP servers");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            for (offered, sender) in heard {
                if let Some((office, desk)) = &self.desk {
                    office.heard(desk, &offered, sender, &self.ours.borrow());
                }
                for rival in rivals(&offered, sender.address, &self.ours.borrow(), &self.live.peers.load()) {
                    if seen.is_news(&rival, Instant::now()) {
                        warn!("{rival}");
                    }
                    let is_proxy = rival.fault == Fault::OtherProxy;
                    if is_proxy && self.live.rules.load().strangers.other_proxy_answers(rival.server) {
                        warn!(
                            "only known machines are answered from now on, because of {}; --everyone answers all",
                            rival.server
                        );
                    }
                    // This can be the reason why the machine does not boot. If the queue is full, nothing is lost: the
                    // server sends the same again.
                    let _ = self.events.try_send(Event { who: Who::from(offered.mac), what: What::Rival(rival) });
                }
                self.learn_address(&offered, sender.address);
            }
        }
    }

    /// Waits for the guard's time, and asks as a client whether another server leases, if it is time for that.
    async fn guards(&self) {
        let Some((office, desk)) = &self.desk else { return std::future::pending().await };
        loop {
            let left = desk.next().map_or(LOOK_AGAIN, |next| next.saturating_sub(boot_time::now()));
            if left.is_zero() {
                break;
            }
            // A machine that asks brings the time forward.
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK_AGAIN)) => {}
                () = desk.woken() => {}
            }
        }
        if !office.tick(desk) {
            return;
        }
        let now = boot_time::now();
        let xid = now.subsec_nanos() ^ u32::from_ne_bytes([0x6e, 0x62, 0x67, 0x64]);
        let bytes = question(xid, desk.card(), &office.class(desk));
        let frame = Frame {
            link_from: self.tap.link_address,
            link_to: BROADCAST,
            from: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            to: SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
            payload: &bytes,
        };
        if let Err(error) = self.tap.send(&frame).await {
            debug!(%error, "cannot ask whether another DHCP server leases");
        }
    }

    /// TFTP and HTTP know a machine only by its address, and not every machine sends which address it accepted: a
    /// Raspberry Pi 3 sends no REQUEST. Machines that do not boot from the network are ignored.
    fn learn_address(&self, Offered { mac, yiaddr, is_ack, server_id, .. }: &Offered, sender: Ipv4Addr) {
        let is_booting = || {
            let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            attempts.has_just_asked(*mac, Instant::now())
        };
        if !yiaddr.is_unspecified() && is_booting() {
            let offer = AddressOffer { address: *yiaddr, server: server_id.unwrap_or(sender) };
            let what = if *is_ack { What::Address(*yiaddr) } else { What::OfferedAddress(offer) };
            let _ = self.events.try_send(Event { who: Who::from(*mac), what });
        }
    }
}

/// The longest wait: after a sleep of the host, timers are late.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// An interface that is down gives the same error again and again. Wait before the next try.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
