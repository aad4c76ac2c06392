//! Asks the network as boot clients do, and hears every server's offers. Takes no lease.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use tokio::time::{sleep_until, timeout};

use super::{client::Client, network::Heard};
use crate::{
    dhcp::offered::Offered,
    net::{
        interface::Interface,
        raw::{Tap, Wanted, open_tap},
        udp::{Open, open},
    },
};

/// How long to ask.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// At least, to hear of a second server.
    pub least: Duration,
    /// At most, where no address is offered.
    pub most: Duration,
}

/// Asks on one interface as every kind of client. The answers are heard at layer 2, where those of a server on this
/// host pass too.
///
/// # Errors
/// That of the system call which keeps us from asking: `PermissionDenied` without CAP_NET_RAW.
pub async fn ask(interface: &Interface, run: u16, patience: Patience) -> io::Result<Vec<Heard>> {
    let tap = Tap::new(open_tap(interface, Wanted::Replies { of_this_host: true }, RECEIVE_BUFFER)?)?;
    let began = Instant::now();
    let mut heard: Vec<Heard> = Vec::new();
    let mut rounds = ROUNDS.iter().map(|after| began + *after).peekable();
    loop {
        let now = Instant::now();
        if rounds.next_if(|round| *round <= now).is_some() {
            send(interface, run)?;
            continue;
        }
        let has_lease = heard.iter().any(|heard| !heard.offered.yiaddr.is_unspecified());
        let end = began + if has_lease { patience.least } else { patience.most };
        if now >= end {
            return Ok(heard);
        }
        let next = rounds.peek().map_or(end, |round| end.min(*round));
        let receive = tap.receive(|frame| {
            let Ok(offered) = Offered::parse(frame.payload) else { return };
            let client = Client::ALL.into_iter().find(|client| client.card(run) == offered.mac);
            let Some(client) = client.filter(|_| !offered.is_ack) else { return };
            let offer = Heard { client, from: *frame.from.ip(), after: began.elapsed(), offered };
            let is_known = heard.iter().any(|other| other.client == client && other.server() == offer.server());
            if !is_known {
                heard.push(offer);
            }
        });
        tokio::select! {
            received = receive => received?,
            () = sleep_until(next.into()) => {}
        }
    }
}

/// One request of each client. The socket is closed at once: it would take unicasts away from this host's own DHCP
/// client. A broadcast of a socket is heard by servers on this host too, which a frame is not.
fn send(interface: &Interface, run: u16) -> io::Result<()> {
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let options = Open { address, device: Some(&interface.name), shared: true, receive_buffer: 0 };
    let socket = open(options)?;
    for client in Client::ALL {
        let message = client.discover(run, xid(client, run));
        socket.send_to(&message, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67))?;
    }
    Ok(())
}

fn xid(client: Client, run: u16) -> u32 {
    u32::from(run) << 8 | client as u32
}

/// Asks port 4011 of a boot server as UEFI firmware does that got an offer without a boot file.
///
/// # Errors
/// That of a system call; `TimedOut` if nothing came.
pub async fn ask_boot_server(own: Ipv4Addr, server: Ipv4Addr, run: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((own, 0))?;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let message = Client::Uefi.boot_request(run, xid(Client::Uefi, run) | 0x0100_0000, own);
    let mut buffer = [0; 2048];
    for _ in 0..3 {
        socket.send_to(&message, SocketAddrV4::new(server, 4011)).await?;
        if let Ok(received) = timeout(Duration::from_secs(1), socket.recv_from(&mut buffer)).await {
            return received.map(drop);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// When requests are sent: a network may lose one.
const ROUNDS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(1000), Duration::from_millis(2500)];
/// A few dozen offers.
const RECEIVE_BUFFER: usize = 256 << 10;
