//! Firmware of the field: what it sends, when it wants its answer, and how it is known by its address.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use netbootd::net::frame::{BROADCAST, Frame};
use pnet_datalink::{Channel, Config};

use crate::{
    bench::{Bench, CLIENT, SERVER, SOON},
    beside::dnsmasq,
    dhcp::{ACK, BIOS, DISCOVER, OFFER, PXE_REPLY, REQUEST, UEFI, next, of_machine, reply, request},
};

const EVERYONE: (Ipv4Addr, u16) = (Ipv4Addr::BROADCAST, 67);

/// A card's address that is a Raspberry Pi's, in a message.
fn of_a_raspberry_pi(mut message: Vec<u8>) -> Vec<u8> {
    message[28..34].copy_from_slice(&[0xb8, 0x27, 0xeb, 1, 2, 3]);
    message
}

/// Sends a datagram in a frame with a priority tag: IEEE 802.1Q with VLAN 0, which is no VLAN.
fn send_with_a_priority(bench: &Bench, from: SocketAddrV4, to: u16, payload: &[u8]) -> Result<()> {
    let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, to);
    let link_from = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    let mut frame = Frame { link_from, link_to: BROADCAST, from, to, payload }.build().context("too long")?;
    // Priority 5, VLAN 0.
    frame.splice(12..12, [0x81, 0, 0xa0, 0]);
    bench.client.enter(|| -> Result<()> {
        let interfaces = pnet_datalink::interfaces();
        let eth1 = interfaces.iter().find(|interface| interface.name == "eth1").context("no eth1")?;
        let Channel::Ethernet(mut sender, _) = pnet_datalink::channel(eth1, Config::default())? else {
            bail!("eth1 is no Ethernet");
        };
        Ok(sender.send_to(&frame, None).context("not sent")??)
    })?
}

#[test]
fn a_frame_with_a_priority_and_no_vlan_is_answered_when_bound_and_when_captured() -> Result<()> {
    for mode in ["bind", "capture"] {
        let Some(bench) = Bench::start_with(&[("NETBOOTD_DHCP__SOCKET", mode)])? else { return Ok(()) };
        let ears = bench.client_socket(68)?;
        let nowhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        send_with_a_priority(&bench, nowhere, 67, &request(DISCOVER, 1, UEFI))?;
        ensure!(next(&ears).context(mode)?.0 == reply(OFFER, 1, "snponly.efi", PXE_REPLY), "{mode}");
    }
    Ok(())
}

/// The watch hears programs on its own host only where there is one, by another filter.
#[test]
fn a_rivals_frame_with_a_priority_is_heard() -> Result<()> {
    for is_on_this_host in [false, true] {
        let mut other = None;
        let bench = Bench::prepared(&["eth1"], &[], "", |lab, host| {
            if is_on_this_host {
                other = Some(dnsmasq(lab, host, &["--dhcp-range=10.77.0.60,10.77.0.60,1h"])?);
            }
            Ok(())
        })?;
        let Some(bench) = bench else { return Ok(()) };
        let mut offer = reply(OFFER, 1, "pxelinux.0", &[]);
        offer[16..20].copy_from_slice(&[10, 77, 0, 50]);
        offer[20..24].copy_from_slice(&[10, 77, 0, 9]);
        let server_id = offer.windows(6).position(|window| window == [54, 4, 10, 77, 0, 2]).context("no option 54")?;
        offer[server_id + 5] = 9;
        send_with_a_priority(&bench, SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 9), 67), 68, &offer)?;
        let words = "the DHCP server 10.77.0.9 also names a boot file, pxelinux.0 from 10.77.0.9";
        bench.netbootd.wait_for_line(words, SOON)?;
    }
    Ok(())
}

/// What waits keeps nobody else waiting.
#[test]
fn an_offer_waits_as_its_rule_says_and_the_others_do_not() -> Result<()> {
    let rules = "[[machines]]\nmac = \"52:54:00:12:34:56\"\nreply_delay = \"1s\"\n";
    let Some(bench) = Bench::with_configuration(rules)? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let start = Instant::now();
    socket.send_to(&request(DISCOVER, 1, BIOS), EVERYONE)?;
    socket.send_to(&of_machine(9, request(DISCOVER, 2, BIOS)), EVERYONE)?;
    let expected = of_machine(9, reply(OFFER, 2, "undionly.kpxe", PXE_REPLY));
    ensure!(next(&socket)?.0 == expected, "the other machine waits too");
    ensure!(next(&socket)?.0 == reply(OFFER, 1, "undionly.kpxe", PXE_REPLY), "the offer that waited differs");
    let waited = start.elapsed();
    ensure!(waited >= Duration::from_millis(990), "it waited {waited:?}");
    // Its iPXE is answered at once: 2 s later it would have given up.
    let ipxe: &[(u8, &[u8])] = &[(60, b"PXEClient"), (93, &[0, 0]), (77, b"iPXE"), (175, b"\x13\x01\x01")];
    let start = Instant::now();
    socket.send_to(&request(DISCOVER, 3, ipxe), EVERYONE)?;
    next(&socket)?;
    ensure!(start.elapsed() < Duration::from_millis(900), "iPXE waited {:?}", start.elapsed());
    Ok(())
}

/// Its ROM fails where a proxy answers at once, sends no REQUEST, and fetches from the address that it was offered.
#[test]
fn a_raspberry_pi_3_is_answered_late_and_is_one_machine_though_it_sends_no_request() -> Result<()> {
    let bench = Bench::prepared(&["eth1"], &[], "", |lab, _| {
        Ok(std::fs::write(lab.directory().join("assets/bootcode.bin"), [7; 3000])?)
    })?;
    let Some(bench) = bench else { return Ok(()) };
    let host = bench.lab.host("dhcp", Some("10.77.0.1/24"))?;
    let _leasing = dnsmasq(&bench.lab, &host, &["--dhcp-range=10.77.0.50,10.77.0.50,1h"])?;
    let socket = bench.client_socket(68)?;
    let ours = |xid: u32| -> Result<Duration> {
        let start = Instant::now();
        socket.send_to(&of_a_raspberry_pi(request(DISCOVER, xid, BIOS)), EVERYONE)?;
        loop {
            let (answer, from) = next(&socket)?;
            if from.ip() == SERVER && answer.get(4..8) == Some(&xid.to_be_bytes()) {
                return Ok(start.elapsed());
            }
        }
    };
    ensure!(ours(1)? < Duration::from_millis(900), "its first DISCOVER waits");
    let late = ours(2)?;
    // The first came less than half a second before: as a copy of it.
    std::thread::sleep(Duration::from_millis(600).saturating_sub(late));
    let late = ours(3)?;
    ensure!(late >= Duration::from_millis(990), "its second DISCOVER waited {late:?}");
    bench.run("atftp", &["--get", "--remote-file", "bootcode.bin", "--local-file", "l", &SERVER.to_string()])?;
    bench.netbootd.wait_for_line("b8:27:eb:01:02:03 file         bootcode.bin, 3000 B in", SOON)?;
    bench.netbootd.wait_for_line("b8:27:eb:01:02:03 handed_over  probably: it has its", 2 * SOON)?;
    Ok(())
}

/// An old EEPROM's REQUEST has no vendor class: whoever has just asked is a boot client all the same.
#[test]
fn a_request_without_a_vendor_class_of_who_has_just_asked_tells_its_address() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    socket.send_to(&request(DISCOVER, 1, UEFI), EVERYONE)?;
    next(&socket)?;
    let lease: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 1]), (50, &CLIENT.octets())];
    socket.send_to(&request(REQUEST, 2, lease), EVERYONE)?;
    bench.run("atftp", &["--get", "--remote-file", "snponly.efi", "--local-file", "l", &SERVER.to_string()])?;
    bench.netbootd.wait_for_line("52:54:00:12:34:56 loader       snponly.efi, 173.8 kB in", SOON)?;
    Ok(())
}

/// RFC 8357: to the port that it sent from. RFC 5107: its address in option 54, and ours in siaddr; port 4011 is asked
/// by the client itself then.
#[test]
fn a_relay_with_a_port_of_its_own_and_in_the_place_of_our_identifier() -> Result<()> {
    for mode in ["bind", "capture"] {
        let Some(bench) = Bench::start_with(&[("NETBOOTD_DHCP__SOCKET", mode)])? else { return Ok(()) };
        let relay = bench.client_socket(6767)?;
        let agent: &[(u8, &[u8])] = &[(82, b"\x01\x04eth7\x0b\x04\x0a\x4d\x00\x32\x13\x00")];
        let mut relayed = request(DISCOVER, 1, &[UEFI, agent].concat());
        relayed[24..28].copy_from_slice(&CLIENT.octets());
        relay.send_to(&relayed, (SERVER, 67))?;
        let (got, _) = next(&relay).context(mode)?;
        let mut expected = reply(OFFER, 1, "snponly.efi", &[PXE_REPLY, agent].concat());
        expected[24..28].copy_from_slice(&CLIENT.octets());
        let server_id =
            expected.windows(6).position(|window| window == [54, 4, 10, 77, 0, 2]).context("no option 54")?;
        expected[server_id + 5] = 50;
        ensure!(got == expected, "{mode}: {got:02x?}\ninstead of\n{expected:02x?}");
        let client = bench.client_socket(4011)?;
        let mut asks = request(REQUEST, 2, &[UEFI, &[(54, &CLIENT.octets())]].concat());
        asks[24..28].copy_from_slice(&[10, 78, 0, 1]);
        client.send_to(&asks, (SERVER, 4011))?;
        let mut expected = reply(ACK, 2, "snponly.efi", PXE_REPLY);
        expected[24..28].copy_from_slice(&[10, 78, 0, 1]);
        ensure!(next(&client).context(mode)?.0 == expected, "{mode}: port 4011");
    }
    Ok(())
}
