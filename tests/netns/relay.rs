//! Behind a relay: a client in another network gets the whole offer.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Result, ensure};
use netbootd_lab::{DHCRELAY, Lab, Process, required};
use socket2::SockRef;

use crate::{
    bench::{Bench, SERVER, SOON, START},
    dhcp::{DISCOVER, OFFER, PXE_REPLY, UEFI, next, reply, request},
};

/// ISC's relay, told to drop what comes back without the option 82 that it added (`-a -D`).
#[test]
fn a_whole_offer_passes_isc_dhcrelay_when_bound_and_when_captured() -> Result<()> {
    let Some(()) = required(&[&[DHCRELAY]]) else { return Ok(()) };
    for mode in ["bind", "capture"] {
        let Some(bench) = Bench::start_with(&[("NETBOOTD_DHCP__SOCKET", mode)])? else { return Ok(()) };
        let far = Lab::new()?;
        let relay = bench.lab.host("relay", Some("10.77.0.3/24"))?;
        far.plug_host_in(&relay, "eth2", Some("10.78.0.1/24"))?;
        bench.server.ip(&["route", "add", "10.78.0.0/24", "via", "10.77.0.3"])?;
        let client = far.host("client", Some("10.78.0.50/24"))?;
        let mut command = relay.command(DHCRELAY.file);
        command.args(["-4", "-d", "--no-pid", "-a", "-D", "-iu", "eth1", "-id", "eth2"]).arg(SERVER.to_string());
        let dhcrelay = Process::spawn("dhcrelay", &mut command)?;
        dhcrelay.wait_for_line("Sending on   Socket/fallback", START)?;

        let socket = client.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)))??;
        client.enter(|| SockRef::from(&socket).bind_device(Some(b"eth1")))??;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(SOON))?;
        socket.send_to(&request(DISCOVER, 1, UEFI), (Ipv4Addr::BROADCAST, 67))?;
        let (got, _) = next(&socket)?;
        let mut expected = reply(OFFER, 1, "snponly.efi", PXE_REPLY);
        expected[24..28].copy_from_slice(&[10, 78, 0, 1]);
        ensure!(got == expected, "{mode}: {got:02x?}\ninstead of\n{expected:02x?}");
    }
    Ok(())
}
