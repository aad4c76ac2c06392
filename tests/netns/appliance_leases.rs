//! Leases of two appliances that share a state: each has a book of its own.

use std::{
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Host, Lab};

use crate::{
    appliances::{Appliance, HEARD, Site},
    bench::SOON,
    dhcp::{ACK, DISCOVER, OFFER, REQUEST, UEFI, next, of_machine, request},
    lease::{kind, option, yiaddr},
};

/// Nobody else may be heard for 6.5 s first.
const CLEAR: Duration = Duration::from_secs(30);

fn socket(host: &Host) -> Result<UdpSocket> {
    let socket = host.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)))??;
    host.enter(|| socket2::SockRef::from(&socket).bind_device(Some(b"eth1")))??;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

fn broadcast(socket: &UdpSocket, message: &[u8]) -> Result<()> {
    socket.send_to(message, (Ipv4Addr::BROADCAST, 67))?;
    Ok(())
}

/// The lease of a machine, and the server that gave it: the one that offers an address.
fn leased(socket: &UdpSocket, machine: u32) -> Result<(Ipv4Addr, Ipv4Addr)> {
    broadcast(socket, &of_machine(machine, request(DISCOVER, machine, UEFI)))?;
    let heard = |wanted| loop {
        let (message, _) = next(socket)?;
        // Also what one appliance says to the other is heard here.
        let is_to_us = message[4..8] == machine.to_be_bytes() && !yiaddr(&message).is_unspecified();
        if is_to_us && kind(&message) == wanted {
            return Ok::<_, anyhow::Error>(message);
        }
    };
    let offer = heard(OFFER)?;
    let (server, address) = (option(&offer, 54).context("no server identifier")?, yiaddr(&offer));
    let accept = request(REQUEST, machine, &[UEFI, &[(54, server), (50, &address.octets())]].concat());
    broadcast(socket, &of_machine(machine, accept))?;
    let ack = heard(ACK)?;
    ensure!(yiaddr(&ack) == address, "{ack:02x?}");
    Ok((address, <[u8; 4]>::try_from(server)?.into()))
}

fn leases(site: &Site, at: &Appliance) -> Result<String> {
    let (code, words) = at.tell(site.lab.directory(), &["leases"])?;
    ensure!(code == Some(0), "{words}");
    Ok(words)
}

#[test]
fn of_two_with_one_range_on_one_network_one_leases_and_the_other_says_so() -> Result<()> {
    let Some(mut site) = Site::start("[lease]\nrange = \"10.77.0.100-10.77.0.109\"\n")? else { return Ok(()) };
    site.a.netbootd.wait_for_line("no other DHCP server answers on eth1: addresses are leased", CLEAR)?;
    site.b.netbootd.wait_for_line("no leases on eth1: ", HEARD)?;
    let socket = socket(&site.client)?;
    let given: Vec<_> = (1..=3).map(|machine| leased(&socket, machine)).collect::<Result<_>>().context("of a")?;
    ensure!(given.iter().all(|(_, server)| *server == site.a.address), "{given:?}");
    // One that is started beside a server that leases hears that it does, whatever its own address is.
    let folder = site.lab.directory().to_owned();
    site.b.kill()?;
    site.b.start_again(&folder)?;
    let stopped = format!("no leases on eth1: the DHCP server {} leases addresses on this network", site.a.address);
    site.b.netbootd.wait_for_line(&stopped, CLEAR)?;
    let (address, server) = leased(&socket, 4).context("of a beside b")?;
    ensure!(server == site.a.address && given.iter().all(|(other, _)| *other != address), "{address} of {server}");
    site.b.netbootd.wait_for_line("52:54:00:00:00:04 offer", SOON)?;
    let lines = [site.a.netbootd.lines(), site.b.netbootd.lines()].concat();
    let rival = lines.iter().find(|line| line.contains("option 60") || line.contains("another ProxyDHCP"));
    ensure!(rival.is_none(), "otherwise they are no rivals: {rival:?}");
    // Without the one that leased, the other begins when it is started anew, and tries each address before it gives it.
    site.a.kill()?;
    site.b.kill()?;
    site.b.start_again(&folder)?;
    site.b.netbootd.wait_for_line("no other DHCP server answers on eth1: addresses are leased", CLEAR)?;
    let (first, _) = given[0];
    site.client.ip(&["address", "add", &format!("{first}/24"), "dev", "eth1"])?;
    let (address, server) = leased(&socket, 5).context("of b")?;
    ensure!(server == site.b.address && address != first, "{address} of {server} is in use");
    Ok(())
}

#[test]
fn two_on_networks_of_their_own_lease_the_same_addresses_and_know_their_own_after_a_restart() -> Result<()> {
    let networks = [Lab::new()?, Lab::new()?];
    let more = "[lease]\nrange = \"10.78.0.100-10.78.0.109\"\n[lease.interfaces.eth1]\nenabled = false\n";
    let site = Site::prepared(&["eth1", "eth2"], more, |name, host| {
        networks[usize::from(name == "b")].plug_host_in(host, "eth2", Some("10.78.0.1/24"))
    })?;
    let Some(mut site) = site else { return Ok(()) };
    let clients = [networks[0].host("one", Some("10.78.0.50/24"))?, networks[1].host("two", Some("10.78.0.50/24"))?];
    let sockets = [socket(&clients[0])?, socket(&clients[1])?];
    let first = Ipv4Addr::new(10, 78, 0, 100);
    let cards = ["00:00:01", "00:00:02"];
    for round in 0..2 {
        for (at, (number, socket)) in [&site.a, &site.b].into_iter().zip((1..).zip(&sockets)) {
            at.netbootd.wait_for_line("no other DHCP server answers on eth2: addresses are leased", CLEAR)?;
            let (address, _) = leased(socket, number)?;
            ensure!(address == first, "round {round}: {} gave {address}", at.name);
            let (next, _) = leased(socket, 10 + number)?;
            ensure!(next == Ipv4Addr::new(10, 78, 0, 101), "round {round}: {} gave {next}", at.name);
        }
        for (at, (own, other)) in [&site.a, &site.b].into_iter().zip([(cards[0], cards[1]), (cards[1], cards[0])]) {
            let words = leases(&site, at)?;
            ensure!(words.contains(own) && !words.contains(other), "round {round}: {}: {words}", at.name);
        }
        if round == 0 {
            let folder = site.lab.directory().to_owned();
            for at in [&mut site.a, &mut site.b] {
                at.kill()?;
                at.start_again(&folder)?;
            }
        }
    }
    Ok(())
}
