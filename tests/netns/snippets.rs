//! `netbootd dhcp-snippet`: the real DHCP servers read the lines, and offer each firmware what netbootd would.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Captured, DHCPD, Host, KEA, Lab, NETWORK_TOOLS, SnippetServer, receive, required};

use crate::bench::{SERVER, SOON};

/// A captured request (the ROM's without the option that gives it away as an iPXE), the boot file that it gets, and whether option 60 of the answer is `HTTPClient`.
const ROWS: [(&str, &str, bool); 4] = [
    ("ipxe-rom-user-class-discover", "undionly.kpxe", false),
    ("ovmf-pxe-discover", "snponly.efi", false),
    ("ovmf-http-discover", "http://10.77.0.2:8080/loaders/snponly.efi", true),
    ("ipxe-rom-discover", "http://10.77.0.2:8080/boot.ipxe", false),
];

#[test]
fn dnsmasq_offers_each_firmware_its_loader() -> Result<()> {
    let Some(()) = required(&[NETWORK_TOOLS]) else { return Ok(()) };
    offers_each_its_loader(SnippetServer::Dnsmasq)
}

#[test]
fn isc_dhcpd_offers_each_firmware_its_loader() -> Result<()> {
    let Some(()) = required(&[NETWORK_TOOLS, &[DHCPD]]) else { return Ok(()) };
    offers_each_its_loader(SnippetServer::Isc)
}

#[test]
fn kea_offers_each_firmware_its_loader() -> Result<()> {
    let Some(()) = required(&[NETWORK_TOOLS, &[KEA]]) else { return Ok(()) };
    offers_each_its_loader(SnippetServer::Kea)
}

fn offers_each_its_loader(server: SnippetServer) -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("dhcp", Some("10.77.0.1/24"))?;
    let client = lab.host("client", Some("10.77.0.49/24"))?;
    let _server = server.start(&lab, &host, &snippet(server.kind())?)?;
    each_is_offered_its_loader(&client)
}

fn snippet(kind: &str) -> Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netbootd"));
    let output = command.env_clear().args(["dhcp-snippet", kind, "--address", &SERVER.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn each_is_offered_its_loader(client: &Host) -> Result<()> {
    let socket = client.enter(|| -> Result<UdpSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68))?;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(SOON))?;
        // Without a route, a broadcast needs to know its interface.
        socket2::SockRef::from(&socket).bind_device(Some(b"eth1"))?;
        Ok(socket)
    })??;
    for (number, (name, boot_file, is_http)) in (1..).zip(ROWS) {
        let mut request = Captured::named(name)?.from_machine(number);
        if name == "ipxe-rom-user-class-discover" {
            hide(&mut request, 175)?;
        }
        // The answer to a broadcast flag is a broadcast, which this socket hears.
        request[10] |= 0x80;
        socket.send_to(&request, (Ipv4Addr::BROADCAST, 67))?;
        let mut packet = [0; 1500];
        let (length, _) = receive(&socket, &mut packet).with_context(|| format!("{name}: no answer"))?;
        let offer = &packet[..length];
        ensure!(offer[4..8] == request[4..8], "{name}: an answer to another request");
        ensure!(offer[20..24] == SERVER.octets(), "{name}: siaddr is {:?}", &offer[20..24]);
        let named = option(offer, 67).unwrap_or(&offer[108..236]);
        let named = named.split(|byte| *byte == 0).next().unwrap_or_default();
        ensure!(named == boot_file.as_bytes(), "{name}: offered {:?}", String::from_utf8_lossy(named));
        let is_marked = option(offer, 60).is_some_and(|class| class.starts_with(b"HTTPClient"));
        ensure!(is_marked == is_http, "{name}: option 60 is {:?}", option(offer, 60));
    }
    Ok(())
}

/// Overwrites an option with padding (RFC 2132 §3.1).
fn hide(packet: &mut [u8], code: u8) -> Result<()> {
    let mut at = 240;
    while packet[at] != code {
        at += 2 + usize::from(*packet.get(at + 1).context("the option is not there")?);
    }
    let end = at + 2 + usize::from(packet[at + 1]);
    packet[at..end].fill(0);
    Ok(())
}

fn option(packet: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = packet.get(240..)?;
    while let [code, length, more @ ..] = rest {
        if *code == 0 {
            rest = rest.get(1..)?;
            continue;
        }
        let (value, behind) = more.split_at_checked(usize::from(*length))?;
        if *code == wanted {
            return Some(value);
        }
        rest = behind;
    }
    None
}
