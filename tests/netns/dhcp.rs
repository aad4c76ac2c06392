//! A PXE client by hand: whole replies on 67 and 4011, silence where there is nothing to say, and garbage.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use netbootd_lab::receive;

use crate::{
    bench::{Bench, CLIENT, SERVER, SOON},
    control::{said, tell},
    field::until,
};

pub(crate) const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
pub(crate) const UUID: &[u8] = b"\0\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x01";
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

/// A client's message.
pub(crate) fn request(kind: u8, xid: u32, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[10] = 0x80;
    bytes[28..34].copy_from_slice(&MAC);
    bytes.extend_from_slice(&COOKIE);
    for (code, data) in [(53, [kind].as_slice()), (97, UUID)].iter().chain(options) {
        bytes.extend_from_slice(&[*code, u8::try_from(data.len()).expect("a short option")]);
        bytes.extend_from_slice(data);
    }
    bytes.push(255);
    bytes
}

/// The whole reply that is expected: header with siaddr and file, then these options, 255, and zeros up to 300.
pub(crate) fn reply(kind: u8, xid: u32, file: &str, options: &[(u8, &[u8])]) -> Vec<u8> {
    reply_of(SERVER, kind, xid, file, options)
}

/// The same from another address of ours.
pub(crate) fn reply_of(server: Ipv4Addr, kind: u8, xid: u32, file: &str, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 236];
    bytes[..4].copy_from_slice(&[2, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&xid.to_be_bytes());
    bytes[10] = 0x80;
    bytes[20..24].copy_from_slice(&server.octets());
    bytes[28..34].copy_from_slice(&MAC);
    bytes[108..108 + file.len()].copy_from_slice(file.as_bytes());
    bytes.extend_from_slice(&COOKIE);
    for (code, data) in [(53, [kind].as_slice()), (54, &server.octets())].iter().chain(options) {
        bytes.extend_from_slice(&[*code, u8::try_from(data.len()).expect("a short option")]);
        bytes.extend_from_slice(data);
    }
    bytes.push(255);
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

/// The same message from, or to, another machine.
pub(crate) fn of_machine(number: u32, mut message: Vec<u8>) -> Vec<u8> {
    message[30..34].copy_from_slice(&number.to_be_bytes());
    if let Some(at) = message.windows(UUID.len()).position(|window| window == UUID) {
        message[at + UUID.len() - 4..at + UUID.len()].copy_from_slice(&number.to_be_bytes());
    }
    message
}

pub(crate) const DISCOVER: u8 = 1;
pub(crate) const OFFER: u8 = 2;
pub(crate) const REQUEST: u8 = 3;
pub(crate) const ACK: u8 = 5;
const INFORM: u8 = 8;
pub(crate) const BIOS: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];
pub(crate) const UEFI: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])];
pub(crate) const HTTP: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16])];
pub(crate) const IPXE: &[(u8, &[u8])] =
    &[(60, b"PXEClient"), (93, &[0, 0]), (77, b"iPXE"), (175, b"\x13\x01\x01\x15\x01\x01")];
pub(crate) const PXE_REPLY: &[(u8, &[u8])] = &[(60, b"PXEClient"), (97, UUID), (43, b"\x06\x01\x08\xff")];

pub(crate) fn next(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 1500];
    let (length, from) = receive(socket, &mut buffer).context("no reply came")?;
    buffer.truncate(length);
    Ok((buffer, from))
}

#[test]
fn whole_replies_on_both_ports() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let everyone = (Ipv4Addr::BROADCAST, 67);
    let boot_server = (SERVER, 4011);
    let script = "http://10.77.0.2:8080/boot.ipxe";
    let http_reply: &[(u8, &[u8])] = &[(60, b"HTTPClient"), (97, UUID)];
    let ipxe_reply = [PXE_REPLY, &[(175, b"\x01\x01\x01".as_slice())]].concat();
    let cases = [
        (DISCOVER, BIOS, everyone, reply(OFFER, 1, "undionly.kpxe", PXE_REPLY)),
        (DISCOVER, UEFI, everyone, reply(OFFER, 2, "snponly.efi", PXE_REPLY)),
        (DISCOVER, HTTP, everyone, reply(OFFER, 3, "http://10.77.0.2:8080/loaders/snponly.efi", http_reply)),
        (DISCOVER, IPXE, everyone, reply(OFFER, 4, script, &ipxe_reply)),
        (REQUEST, BIOS, boot_server, reply(ACK, 5, "undionly.kpxe", PXE_REPLY)),
        (REQUEST, UEFI, boot_server, reply(ACK, 6, "snponly.efi", PXE_REPLY)),
        (INFORM, UEFI, boot_server, reply(ACK, 7, "snponly.efi", PXE_REPLY)),
        (REQUEST, IPXE, boot_server, reply(ACK, 8, script, &ipxe_reply)),
    ];
    for (xid, (kind, client, to, expected)) in (1..).zip(cases) {
        socket.send_to(&request(kind, xid, client), to)?;
        let (got, from) = next(&socket)?;
        ensure!(got == expected, "reply {xid} is\n{got:02x?}\ninstead of\n{expected:02x?}");
        ensure!(from == SocketAddr::from((SERVER, to.1)), "reply {xid} came from {from}");
    }
    // EDK2 asks the boot server from port 4011, and listens there.
    let edk2 = bench.client_socket(4011)?;
    edk2.send_to(&request(REQUEST, 9, UEFI), boot_server)?;
    ensure!(next(&edk2)?.0 == reply(ACK, 9, "snponly.efi", PXE_REPLY), "the reply to port 4011 differs");
    Ok(())
}

#[test]
fn silence_for_everyone_else_and_a_reason_in_the_log() -> Result<()> {
    let Some(bench) = Bench::start_with(&[("NETBOOTD_LOG", "netbootd::dhcp=debug")])? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let everyone = (Ipv4Addr::BROADCAST, 67);
    let other_server: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 1])];
    let on_firewire = |mut packet: Vec<u8>| {
        packet[1] = 24;
        packet
    };
    let unanswered = [
        on_firewire(request(DISCOVER, 9, BIOS)),
        on_firewire(request(DISCOVER, 10, BIOS)),
        on_firewire(request(DISCOVER, 11, &[(60, b"MSFT 5.0")])),
        request(DISCOVER, 1, &[(60, b"MSFT 5.0")]),
        request(DISCOVER, 2, &[]),
        request(REQUEST, 3, &[BIOS, other_server].concat()),
        request(7, 4, BIOS),
        reply(OFFER, 5, "x", PXE_REPLY),
        request(DISCOVER, 6, &[(60, b"PXEClient"), (93, &[0, 11])]),
        request(DISCOVER, 7, &[(60, b"PXEClient"), (93, &[0, 14])]),
    ];
    for packet in unanswered {
        socket.send_to(&packet, everyone)?;
    }
    // Packets of one socket are answered in their order: the first reply that comes is that to the last request.
    socket.send_to(&request(DISCOVER, 8, BIOS), everyone)?;
    ensure!(next(&socket)?.0 == reply(OFFER, 8, "undionly.kpxe", PXE_REPLY), "someone else was answered");
    bench.netbootd.wait_for_line("refused      no UEFI arm64 loader was found: install the package", SOON)?;
    bench.netbootd.wait_for_line("refused      there is no network boot loader for PowerPC OPAL", SOON)?;
    let lines = bench.netbootd.lines();
    let told: Vec<_> = lines.iter().filter(|line| line.contains("a boot client on eth1 gets no reply")).collect();
    ensure!(told.len() == 1 && told[0].contains("(its hardware type is 24)"), "{told:?}");
    // None of them has an address.
    let silent = lines.iter().find(|line| line.contains("debug: no reply: not a PXE client")).context("no reason")?;
    ensure!(silent.contains("card=52:54:00:12:34:56"), "{silent}");
    Ok(())
}

/// No offer says which firmware it has.
#[test]
fn a_machine_that_is_refused_is_explained_as_what_it_is() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    socket.send_to(&request(DISCOVER, 1, &[(60, b"PXEClient"), (93, &[0, 27])]), (Ipv4Addr::BROADCAST, 67))?;
    bench.netbootd.wait_for_line("refused      no UEFI riscv64 loader was found", SOON)?;
    let file = tempfile::NamedTempFile::new()?;
    let file = file.path().display().to_string();
    until("its firmware is not known", || {
        let explained = said(&tell(&bench.server, &["explain", "52:54:00:12:34:56", "-c", &file])?);
        Ok(explained.contains("UEFI riscv64 asks by DHCP") && explained.contains("refused: no UEFI riscv64 loader"))
    })
}

/// A relay puts its own address into giaddr and its knowledge into option 82, and wants both back by unicast
/// (RFC 2131 §4.1, RFC 3046 §2.2): a broadcast would be heard on the wrong network.
#[test]
fn a_relayed_request_is_answered_to_the_relay() -> Result<()> {
    for mode in ["bind", "capture"] {
        let Some(bench) = Bench::start_with(&[("NETBOOTD_DHCP__SOCKET", mode)])? else { return Ok(()) };
        let relay = bench.client_socket(67)?;
        let circuit: &[(u8, &[u8])] = &[(82, b"\x01\x04eth7")];
        let mut relayed = request(DISCOVER, 1, &[UEFI, circuit].concat());
        relayed[24..28].copy_from_slice(&CLIENT.octets());
        relay.send_to(&relayed, (SERVER, 67))?;
        let (got, from) = next(&relay).context(mode)?;
        let mut expected = reply(OFFER, 1, "snponly.efi", &[PXE_REPLY, circuit].concat());
        expected[24..28].copy_from_slice(&CLIENT.octets());
        ensure!(
            got == expected && from == SocketAddr::from((SERVER, 67)),
            "{mode}, {from}: {got:02x?}\ninstead of\n{expected:02x?}"
        );
    }
    Ok(())
}

/// The lease that a client takes joins its TFTP and HTTP fetches to its card.
#[test]
fn fetches_are_told_by_the_machine_that_took_the_address() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let lease: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 1]), (50, &CLIENT.octets())];
    socket.send_to(&request(REQUEST, 1, &[UEFI, lease].concat()), (Ipv4Addr::BROADCAST, 67))?;
    bench.run("atftp", &["--get", "--remote-file", "snponly.efi", "--local-file", "l", &SERVER.to_string()])?;
    bench.netbootd.wait_for_line("52:54:00:12:34:56 loader       snponly.efi, 173.8 kB in", SOON)?;
    Ok(())
}
