//! Interfaces and addresses that come, go and change while the server runs.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream, UdpSocket},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Host, Lab};
use socket2::SockRef;

use crate::{
    bench::{Bench, CLIENT, SERVER, SMALL, SOON, START, noise},
    dhcp::{BIOS, DISCOVER, OFFER, PXE_REPLY, UEFI, next, of_machine, reply, reply_of, request},
};

/// Asks by broadcast, as a machine of its own each time, and wants the whole offer of this server.
fn offered(socket: &UdpSocket, server: Ipv4Addr, xid: u32) -> Result<()> {
    socket.send_to(&of_machine(xid, request(DISCOVER, xid, BIOS)), (Ipv4Addr::BROADCAST, 67))?;
    let (got, from) = next(socket)?;
    let expected = of_machine(xid, reply_of(server, OFFER, xid, "undionly.kpxe", PXE_REPLY));
    ensure!(got == expected && from.ip() == server, "{from}: {got:02x?}\ninstead of\n{expected:02x?}");
    Ok(())
}

fn fetched(bench: &Bench, server: Ipv4Addr) -> Result<()> {
    let arguments = ["--get", "--remote-file", "snponly.efi", "--local-file", "l", &server.to_string()];
    bench.run("atftp", &arguments)?;
    let url = format!("http://{server}:8080/boot.ipxe");
    let script = bench.run("curl", &["-sS", "--max-time", "20", &url])?;
    ensure!(
        String::from_utf8_lossy(&script).contains(&format!("http://{server}:8080")),
        "the script names no {server}"
    );
    Ok(())
}

fn begin_download(bench: &Bench, server: Ipv4Addr) -> Result<TcpStream> {
    let mut stream = bench.client.enter(|| TcpStream::connect((server, 8080)))??;
    stream.set_read_timeout(Some(START * 3))?;
    write!(stream, "GET /assets/debian/initrd.img HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    stream.read_exact(&mut [0; 16])?;
    Ok(stream)
}

fn finish_download(mut stream: TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    ensure!(rest.ends_with(&noise(24_000_001, 2)), "the download was cut off at {} bytes", rest.len());
    Ok(())
}

fn client_socket(host: &Host) -> Result<UdpSocket> {
    let socket = host.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)))??;
    host.enter(|| SockRef::from(&socket).bind_device(Some(b"eth1")))??;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

const SECOND: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 7);

#[test]
fn a_second_address_comes_and_goes_beside_a_download() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let download = begin_download(&bench, SERVER)?;
    bench.server.ip(&["address", "add", "10.77.0.7/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("http  http://10.77.0.7:8080", SOON)?;
    bench.netbootd.wait_for_line("eth1 has 10.77.0.7 now", SOON)?;
    fetched(&bench, SECOND)?;
    // Clients are told the primary address; whoever asks another one hears from that.
    let socket = bench.client_socket(68)?;
    offered(&socket, SERVER, 1)?;
    let mut asked = of_machine(2, request(DISCOVER, 2, BIOS));
    asked[24..28].copy_from_slice(&CLIENT.octets());
    let relay = bench.client_socket(67)?;
    relay.send_to(&asked, (SECOND, 67))?;
    let (got, from) = next(&relay)?;
    let mut expected = of_machine(2, reply(OFFER, 2, "undionly.kpxe", PXE_REPLY));
    expected[24..28].copy_from_slice(&CLIENT.octets());
    ensure!(got == expected && from.ip() == SECOND, "{from}: {got:02x?}");

    bench.server.ip(&["address", "delete", "10.77.0.7/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 no longer has 10.77.0.7", SOON)?;
    fetched(&bench, SERVER)?;
    finish_download(download)
}

#[test]
fn an_address_is_changed_for_another_and_back() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    offered(&socket, SERVER, 1)?;
    bench.server.ip(&["address", "delete", "10.77.0.2/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 no longer has 10.77.0.2", SOON)?;
    bench.server.ip(&["address", "add", "10.77.0.7/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("http  http://10.77.0.7:8080", SOON)?;
    offered(&socket, SECOND, 2)?;
    fetched(&bench, SECOND)?;
    bench.server.ip(&["address", "delete", "10.77.0.7/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 no longer has 10.77.0.7", SOON)?;
    bench.server.ip(&["address", "add", "10.77.0.2/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 has 10.77.0.2 now", SOON)?;
    lines(&bench, "http  http://10.77.0.2:8080", 2)?;
    offered(&socket, SERVER, 3)?;
    fetched(&bench, SERVER)
}

/// The connection outlives the address, and so does what the server learns of it.
#[test]
fn a_download_is_seen_to_its_end_though_the_address_was_gone_for_a_while() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let mut stream = bench.get("/assets/debian/initrd.img", Some(SMALL))?;
    bench.server.ip(&["address", "delete", "10.77.0.2/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 no longer has 10.77.0.2", SOON)?;
    bench.server.ip(&["address", "add", "10.77.0.2/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 has 10.77.0.2 now", SOON)?;
    let mut initrd = Vec::new();
    stream.read_to_end(&mut initrd)?;
    ensure!(initrd == noise(24_000_001, 2), "{} bytes arrived", initrd.len());
    bench.netbootd.wait_for_line("debian/initrd.img, 24.0 MB in", SOON)?;
    Ok(())
}

/// Without a descriptor, the interfaces cannot be read. That does not mean that they are gone.
#[test]
fn what_is_served_stays_if_no_descriptor_is_left_while_something_changes() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let limit = bench.limit_descriptors()?;
    bench.server.ip(&["address", "add", "10.77.0.7/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("the interfaces of this host cannot be read", SOON)?;
    drop(limit);
    bench.netbootd.wait_for_line("eth1 has 10.77.0.7 now", SOON)?;
    ensure!(!bench.netbootd.lines().iter().any(|line| line.contains("is gone")), "{:?}", bench.netbootd.lines());
    offered(&bench.client_socket(68)?, SERVER, 1)?;
    fetched(&bench, SECOND)
}

/// The listener stays, and waits for its next packet while the address changes.
#[test]
fn the_first_machine_after_a_change_hears_from_the_address_that_is_left() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    // Without this, the kernel removes the second address with the first one.
    bench.server.enter(|| fs::write("/proc/sys/net/ipv4/conf/eth1/promote_secondaries", "1"))??;
    bench.server.ip(&["address", "add", "10.77.0.7/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 has 10.77.0.7 now", SOON)?;
    let socket = bench.client_socket(68)?;
    offered(&socket, SERVER, 1)?;
    bench.server.ip(&["address", "delete", "10.77.0.2/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 no longer has 10.77.0.2", SOON)?;
    offered(&socket, SECOND, 2)?;
    offered(&socket, SECOND, 3)
}

/// Each change may find what the one before it opened not closed yet; what counts is the last one.
#[test]
fn a_storm_of_changes_ends_in_what_there_is() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let download = begin_download(&bench, SERVER)?;
    for round in 0..40 {
        bench.server.ip(&["address", "add", "10.77.0.7/24", "dev", "eth1"])?;
        if round % 4 == 0 {
            bench.server.ip(&["link", "set", "eth1", "down"])?;
            bench.server.ip(&["link", "set", "eth1", "up"])?;
        }
        bench.server.ip(&["address", "delete", "10.77.0.7/24", "dev", "eth1"])?;
    }
    bench.server.ip(&["address", "add", "10.77.0.7/24", "dev", "eth1"])?;
    let patience = ["--retry", "20", "--retry-connrefused", "--retry-delay", "1", "--max-time", "60"];
    bench.run("curl", &[&["-sS"], &patience[..], &["http://10.77.0.7:8080/boot.ipxe"]].concat())?;
    fetched(&bench, SECOND)?;
    fetched(&bench, SERVER)?;
    offered(&bench.client_socket(68)?, SERVER, 1)?;
    finish_download(download)
}

/// Waits for so many lines with these words.
fn lines(bench: &Bench, words: &str, count: usize) -> Result<()> {
    let found = bench.netbootd.follow().filter(|line| line.contains(words)).take(count).count();
    ensure!(found == count, "{found} lines with {words:?}");
    Ok(())
}

#[test]
fn a_link_that_goes_down_and_comes_up_again_takes_nothing_with_it() -> Result<()> {
    for mode in ["bind", "capture"] {
        let Some(bench) = Bench::start_with(&[("NETBOOTD_DHCP__SOCKET", mode)])? else { return Ok(()) };
        let socket = bench.client_socket(68)?;
        offered(&socket, SERVER, 1)?;
        let download = begin_download(&bench, SERVER)?;
        bench.server.ip(&["link", "set", "eth1", "down"])?;
        bench.netbootd.wait_for_line("eth1 is down: waiting for it", SOON)?;
        bench.server.ip(&["link", "set", "eth1", "up"])?;
        bench.netbootd.wait_for_line("eth1 is up", SOON)?;
        offered(&socket, SERVER, 2).context(mode)?;
        fetched(&bench, SERVER)?;
        finish_download(download)?;
    }
    Ok(())
}

#[test]
fn an_interface_that_is_deleted_and_made_again_is_served_again() -> Result<()> {
    for mode in ["bind", "capture"] {
        let Some(bench) = Bench::start_with(&[("NETBOOTD_DHCP__SOCKET", mode)])? else { return Ok(()) };
        let socket = bench.client_socket(68)?;
        bench.server.ip(&["link", "delete", "eth1"])?;
        bench.netbootd.wait_for_line("eth1 is gone: waiting for it", SOON)?;
        bench.lab.plug_host_in(&bench.server, "eth1", Some("10.77.0.2/24"))?;
        lines(&bench, "dhcp  eth1,", 2)?;
        lines(&bench, "http  http://10.77.0.2:8080", 2)?;
        offered(&socket, SERVER, 1).context(mode)?;
        fetched(&bench, SERVER)?;
    }
    Ok(())
}

/// Each interface tells its own clients its own address.
#[test]
fn a_second_interface_comes_up_later() -> Result<()> {
    let far = Lab::new()?;
    let bench = Bench::prepared(&["eth1", "eth2"], &[], "", |_, host| {
        far.plug_host_in(host, "eth2", None)?;
        host.ip(&["link", "set", "eth2", "down"]).map(drop)
    })?;
    let Some(bench) = bench else { return Ok(()) };
    bench.netbootd.wait_for_line("eth2 is not ready (down): waiting for it", SOON)?;
    let socket = bench.client_socket(68)?;
    offered(&socket, SERVER, 1)?;
    let second = Ipv4Addr::new(10, 78, 0, 2);
    bench.server.ip(&["address", "add", "10.78.0.2/24", "dev", "eth2"])?;
    bench.server.ip(&["link", "set", "eth2", "up"])?;
    bench.netbootd.wait_for_line("dhcp  eth2, ports 67 and 4011", SOON)?;
    let client = far.host("client", Some("10.78.0.50/24"))?;
    let far_socket = client_socket(&client)?;
    // The link has just come up, and a machine asks again.
    offered(&far_socket, second, 2).or_else(|_| offered(&far_socket, second, 2))?;
    offered(&socket, SERVER, 3)?;
    bench.netbootd.wait_for_line("http  http://10.78.0.2:8080", SOON)?;
    let http: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16])];
    far_socket.send_to(&request(DISCOVER, 4, http), (Ipv4Addr::BROADCAST, 67))?;
    let got = next(&far_socket)?.0;
    let url = b"http://10.78.0.2:8080/loaders/snponly.efi";
    ensure!(got[108..].starts_with(url), "{got:02x?}");
    Ok(())
}

/// Machines that no rule names, told apart by the interface that they are heard on: by DHCP, by the address that they
/// come to, and where all come to one address, by where their DHCP request was heard.
#[test]
fn a_rule_by_interface_is_about_the_machines_that_are_heard_there() -> Result<()> {
    let rule = "[[machines]]\ninterface = \"eth2\"\nprofile = \"shell\"\noverride = { loader = \"ipxe.efi\" }\n";
    for base_url in ["", "[http]\nbase_url = \"http://10.77.0.2:8080\"\n"] {
        let far = Lab::new()?;
        let bench = Bench::prepared(&["eth1", "eth2"], &[], &format!("{base_url}{rule}"), |_, host| {
            far.plug_host_in(host, "eth2", Some("10.78.0.2/24"))
        })?;
        let Some(bench) = bench else { return Ok(()) };
        let client = far.host("client", Some("10.78.0.50/24"))?;
        client.ip(&["route", "add", "10.77.0.0/24", "via", "10.78.0.2"])?;
        let own = if base_url.is_empty() { "10.78.0.2" } else { "10.77.0.2" };
        let sides = [
            (&bench.client, "10.77.0.2", "52:54:00:00:00:01", "snponly.efi", "boots profile command-line"),
            (&client, own, "52:54:00:00:00:02", "ipxe.efi", "\nshell\n"),
        ];
        for (number, (host, server, mac, loader, boots)) in (1..).zip(sides) {
            let socket = client_socket(host)?;
            let asked = of_machine(number, request(DISCOVER, number, UEFI));
            socket.send_to(&asked, (Ipv4Addr::BROADCAST, 67))?;
            let got = next(&socket)?.0;
            ensure!(got[108..].starts_with(loader.as_bytes()), "{mac} is not offered {loader}: {got:02x?}");
            let url = format!("http://{server}:8080/boot.ipxe?mac={mac}&arch=x86_64&platform=efi");
            let output = host.command("curl").args(["-sS", "--max-time", "20", &url]).output()?;
            let script = String::from_utf8(output.stdout)?;
            ensure!(script.contains(boots), "{base_url}{mac} at {server}: {script}");
        }
        let listed = String::from_utf8(bench.curl(&[], "/api/v1/machines")?)?;
        let entry = listed.split("{\"mac\":").find(|entry| entry.contains("52:54:00:00:00:02")).unwrap_or_default();
        ensure!(entry.contains("\"profile\":\"shell\",\"by\":\"rule\""), "{listed}");
    }
    Ok(())
}

#[test]
fn a_bridge_is_served_like_any_other() -> Result<()> {
    for mode in ["bind", "capture"] {
        let bench = Bench::prepared(&["br0"], &[("NETBOOTD_DHCP__SOCKET", mode)], "", |_, host| {
            host.ip(&["link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0"])?;
            host.ip(&["address", "delete", "10.77.0.2/24", "dev", "eth1"])?;
            host.ip(&["link", "set", "eth1", "master", "br0"])?;
            host.ip(&["address", "add", "10.77.0.2/24", "dev", "br0"])?;
            host.ip(&["link", "set", "br0", "up"]).map(drop)
        })?;
        let Some(bench) = bench else { return Ok(()) };
        offered(&bench.client_socket(68)?, SERVER, 1).context(mode)?;
        fetched(&bench, SERVER)?;
    }
    Ok(())
}

#[test]
fn tftp_follows_the_mtu() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    bench.server.ip(&["link", "set", "eth1", "mtu", "1000"])?;
    bench.netbootd.wait_for_line("eth1 has an MTU of 1000 bytes now", SOON)?;
    let socket = bench.client_socket(0)?;
    socket.send_to(b"\0\x01snponly.efi\0octet\0blksize\x001468\0", (SERVER, 69))?;
    let (got, from) = next(&socket)?;
    ensure!(got == b"\0\x06blksize\0968\0", "{:?}", String::from_utf8_lossy(&got));
    socket.send_to(b"\0\x05\0\x08enough\0", from)?;
    Ok(())
}
