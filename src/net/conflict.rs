//! Whether another host has an address already (RFC 5227 §2.1), before an interface gets it.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::time::sleep;

use super::{
    arp,
    frame::LinkAddress,
    interface::Interface,
    raw::{Tap, Wanted, open_tap},
};

/// The card of another host on the interface's network that has this address, or is about to take it. The interface is up.
///
/// # Errors
/// Those of the system calls: needs CAP_NET_RAW and an interface with Ethernet headers.
pub fn holder(interface: &Interface, address: Ipv4Addr) -> io::Result<Option<LinkAddress>> {
    let open = open_tap(interface, Wanted::Arp, RECEIVE_BUFFER)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tap = Tap::new(open)?;
        let probes = async {
            for _ in 0..PROBES {
                tap.send_bytes(&arp::probe(tap.link_address, address)).await?;
                sleep(PAUSE).await;
            }
            Ok(None)
        };
        tokio::select! {
            answered = answer(&tap, address) => answered,
            silent = probes => silent,
        }
    })
}

async fn answer(tap: &Tap, address: Ipv4Addr) -> io::Result<Option<LinkAddress>> {
    loop {
        let mut holder = None;
        tap.receive_bytes(|frame| {
            let user = arp::sender(frame).or_else(|| arp::prober(frame)).filter(|(used, _)| *used == address);
            holder = holder.or(user.map(|(_, card)| card).filter(|card| *card != tap.link_address));
        })
        .await?;
        if holder.is_some() {
            return Ok(holder);
        }
    }
}

/// Waits until the interface, which was started just now, has a carrier. Without a cable it never has.
pub fn wait_for_carrier(name: &str) {
    let path = format!("/sys/class/net/{name}/carrier");
    let has = || std::fs::read_to_string(&path).is_ok_and(|carrier| carrier.trim() == "1");
    let steps = CARRIER.as_millis() / STEP.as_millis();
    for _ in 0..steps {
        if has() {
            return;
        }
        std::thread::sleep(STEP);
    }
}

/// RFC 5227 §1.1 sends three probes too, up to two seconds apart, for networks that lose packets. Hosts on a cable or a
/// switch answer within milliseconds.
const PROBES: usize = 3;
const PAUSE: Duration = Duration::from_millis(400);
const RECEIVE_BUFFER: usize = 64 * 1024;
/// Two Gigabit ports need up to 3 s to agree on a speed.
const CARRIER: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);
