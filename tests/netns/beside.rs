//! Beside another DHCP server on the same host: the client gets both answers, and the other server loses nothing.

use std::{
    collections::HashSet,
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use netbootd::net::frame::{BROADCAST, Frame};
use netbootd_lab::{DHCPD, DNSMASQ, Host, Lab, Process, required};

use crate::{
    bench::{Bench, CLIENT, SERVER, SOON, START, daemon},
    dhcp::{ACK, BIOS, DISCOVER, MAC, OFFER, PXE_REPLY, REQUEST, UEFI, next, of_machine, reply, request},
};

const EVERYONE: (Ipv4Addr, u16) = (Ipv4Addr::BROADCAST, 67);

/// dnsmasq that leases the client's one address.
pub(crate) fn dnsmasq(lab: &Lab, host: &Host, arguments: &[&str]) -> Result<Process> {
    dnsmasq_on("eth1", lab, host, arguments)
}

pub(crate) fn dnsmasq_on(interface: &str, lab: &Lab, host: &Host, arguments: &[&str]) -> Result<Process> {
    let leases = lab.directory().join(format!("{}.leases", host.namespace()));
    let mut command = host.command(DNSMASQ);
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--log-facility=-", "--log-dhcp"])
        .args(["--port=0", "--no-resolv", "--dhcp-authoritative", "--no-ping", "--pid-file", "--interface", interface])
        .arg(format!("--dhcp-leasefile={}", leases.display()))
        .args(arguments);
    let process = Process::spawn("dnsmasq", &mut command)?;
    process.wait_for_line("]: DHCP, ", START)?;
    Ok(process)
}

const RANGE: &str = "--dhcp-range=10.77.0.50,10.77.0.50,1h";

fn dhcpd(lab: &Lab, host: &Host) -> Result<Process> {
    let (configuration, leases) = (lab.directory().join("dhcpd.conf"), lab.directory().join("dhcpd.leases"));
    let subnet = "subnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.50 10.77.0.50; }";
    fs::write(&configuration, format!("authoritative; ping-check false; default-lease-time 3600; {subnet}\n"))?;
    fs::write(&leases, "")?;
    let mut command = host.command(DHCPD.file);
    command.args(["-4", "-f", "-d", "--no-pid", "-cf"]).arg(configuration).arg("-lf").arg(leases).arg("eth1");
    let process = Process::spawn("dhcpd", &mut command)?;
    process.wait_for_line("Server starting service", START)?;
    Ok(process)
}

fn is_lease(packet: &[u8], kind: u8, xid: u32) -> bool {
    packet[4..8] == xid.to_be_bytes() && packet[16..20] == CLIENT.octets() && packet[240..243] == [53, 1, kind]
}

/// One client's whole conversation with both servers: what each of the two sends, and nothing else.
fn both_are_heard(socket: &UdpSocket, xid: u32) -> Result<()> {
    socket.send_to(&request(DISCOVER, xid, UEFI), EVERYONE)?;
    let (first, second) = (next(socket)?.0, next(socket).context("only one of the two servers answered")?.0);
    let ours = reply(OFFER, xid, "snponly.efi", PXE_REPLY);
    let (ours_first, lease) = if is_lease(&first, OFFER, xid) { (second, first) } else { (first, second) };
    ensure!(ours_first == ours, "our offer is\n{ours_first:02x?}\ninstead of\n{ours:02x?}");
    ensure!(is_lease(&lease, OFFER, xid), "the lease offer is {lease:02x?}");

    // Both have the same address, and the lease is the other one's to give.
    let chosen: &[(u8, &[u8])] = &[(50, &CLIENT.octets()), (54, &SERVER.octets())];
    socket.send_to(&request(REQUEST, xid + 1, &[UEFI, chosen].concat()), EVERYONE)?;
    ensure!(is_lease(&next(socket)?.0, ACK, xid + 1), "the lease was not acknowledged");

    renews(socket, xid + 2)?;
    // Whatever we had answered to the two above would be here before this.
    socket.send_to(&request(REQUEST, xid + 3, UEFI), (SERVER, 4011))?;
    ensure!(next(socket)?.0 == reply(ACK, xid + 3, "snponly.efi", PXE_REPLY), "somebody answered twice");
    Ok(())
}

/// RFC 2131 §4.3.6: by unicast, from the address that is renewed.
fn renews(socket: &UdpSocket, xid: u32) -> Result<()> {
    let mut renewal = request(REQUEST, xid, UEFI);
    renewal[12..16].copy_from_slice(&CLIENT.octets());
    socket.send_to(&renewal, (SERVER, 67))?;
    let (got, from) = next(socket).context("a renewal was not answered")?;
    ensure!(is_lease(&got, ACK, xid) && from == SocketAddr::from((SERVER, 67)), "{from}: {got:02x?}");
    Ok(())
}

const MODES: [&[&str]; 3] = [&[RANGE], &[RANGE, "--bind-interfaces"], &[RANGE, "--bind-dynamic"]];

#[test]
fn dnsmasq_that_was_there_before_us_in_each_of_its_modes() -> Result<()> {
    for mode in MODES {
        let mut other = None;
        let bench = Bench::prepared(&["eth1"], &[], "", |lab, host| {
            other = Some(dnsmasq(lab, host, mode)?);
            Ok(())
        })?;
        let (Some(bench), Some(other)) = (bench, other) else { return Ok(()) };
        let line = format!("dhcp  eth1, dnsmasq (pid {}) has UDP port 67; listening at layer 2 instead", other.pid());
        bench.netbootd.wait_for_line(&line, SOON)?;
        both_are_heard(&bench.client_socket(68)?, 10).with_context(|| format!("{mode:?}"))?;
    }
    Ok(())
}

/// In its default mode it wants the port for itself, and would not start: for such a host there is `capture`.
#[test]
fn dnsmasq_that_comes_after_us_in_each_of_its_modes() -> Result<()> {
    let capture = ("NETBOOTD_DHCP__SOCKET", "capture");
    for (mode, environment) in [(MODES[0], &[capture][..]), (MODES[1], &[]), (MODES[2], &[])] {
        let Some(bench) = Bench::start_with(environment)? else { return Ok(()) };
        let _other = dnsmasq(&bench.lab, &bench.server, mode)?;
        if environment.is_empty() {
            // Whose sockets they are it can see at its start only: in a sandbox, nobody looks into other processes.
            let line = "another process (to see its name: sudo ss -lpn) has UDP port 67 now: \
                        listening at layer 2 on eth1 instead";
            bench.netbootd.wait_for_line(line, SOON)?;
        }
        let socket = bench.client_socket(68)?;
        both_are_heard(&socket, 10).with_context(|| format!("{mode:?}"))?;
    }
    Ok(())
}

#[test]
fn isc_dhcpd_before_us_and_after_us() -> Result<()> {
    let Some(()) = required(&[&[DHCPD]]) else { return Ok(()) };
    let mut other = None;
    let bench = Bench::prepared(&["eth1"], &[], "", |lab, host| {
        other = Some(dhcpd(lab, host)?);
        Ok(())
    })?;
    let Some(bench) = bench else { return Ok(()) };
    bench.netbootd.wait_for_line("dhcp  eth1, dhcpd (pid ", SOON)?;
    both_are_heard(&bench.client_socket(68)?, 10)?;
    drop(bench);

    let Some(bench) = Bench::start()? else { return Ok(()) };
    let _other = dhcpd(&bench.lab, &bench.server)?;
    bench.netbootd.wait_for_line("has UDP port 67 now: listening at layer 2 on eth1 instead", SOON)?;
    let socket = bench.client_socket(68)?;
    both_are_heard(&socket, 10)
}

/// No request that comes while another server takes the port is lost.
#[test]
fn nothing_is_lost_while_one_socket_takes_over_from_the_other() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let other = dnsmasq(&bench.lab, &bench.server, &[RANGE, "--bind-interfaces"])?;
    let has_line = || bench.netbootd.lines().iter().any(|line| line.contains("at layer 2 on eth1 instead"));
    let (since, mut after) = (Instant::now(), 0);
    for xid in 1.. {
        // A machine of its own each time, which dnsmasq has no lease for: only we answer.
        socket.send_to(&of_machine(xid, request(DISCOVER, xid, BIOS)), EVERYONE)?;
        let ours = of_machine(xid, reply(OFFER, xid, "undionly.kpxe", PXE_REPLY));
        // Some of those before may come twice.
        while next(&socket).with_context(|| format!("request {xid} was lost"))?.0 != ours {}
        after += usize::from(after > 0 || has_line());
        if after == 500 {
            break;
        }
        ensure!(since.elapsed() < START, "the port was not given to the other server");
    }
    drop(other);
    Ok(())
}

/// As many as in a rack that is switched on: the tap's own buffer holds them.
#[test]
fn a_thousand_machines_at_once_are_all_answered_by_a_tap() -> Result<()> {
    let Some(bench) = Bench::start_with(&[("NETBOOTD_DHCP__SOCKET", "capture")])? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 8 << 20)?;
    let heard = socket.try_clone()?;
    let reader = std::thread::spawn(move || -> Result<()> {
        let mut waiting: HashSet<u32> = (0..1000).collect();
        while !waiting.is_empty() {
            let (got, _) = next(&heard).with_context(|| format!("{} were not answered", waiting.len()))?;
            waiting.remove(&u32::from_be_bytes([got[4], got[5], got[6], got[7]]));
        }
        Ok(())
    });
    for xid in 0..1000u32 {
        socket.send_to(&of_machine(xid, request(DISCOVER, xid, UEFI)), EVERYONE)?;
    }
    reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?
}

#[test]
fn a_tap_answers_its_own_network_only() -> Result<()> {
    let Some(bench) = Bench::start_with(&[("NETBOOTD_DHCP__SOCKET", "capture")])? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let server = link_address(&bench.server)?;
    let frame = |link_to, to: Ipv4Addr, xid| {
        let (from, to) = (SocketAddrV4::new(CLIENT, 68), SocketAddrV4::new(to, 67));
        Frame { link_from: MAC, link_to, from, to, payload: &request(DISCOVER, xid, BIOS) }.build().context("a frame")
    };
    let mut tagged = frame(BROADCAST, Ipv4Addr::BROADCAST, 1)?;
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    // What a router passes on to a server elsewhere.
    let passing = frame(server, Ipv4Addr::new(198, 51, 100, 1), 2)?;
    let mut fragment = frame(BROADCAST, Ipv4Addr::BROADCAST, 3)?;
    fragment[20] = 0x20;
    for bytes in [tagged, passing, fragment, frame(server, SERVER, 4)?] {
        send_frame(&bench.client, &bytes)?;
    }
    let expected = reply(OFFER, 4, "undionly.kpxe", PXE_REPLY);
    let got = next(&socket)?.0;
    ensure!(got == expected, "{got:02x?}\ninstead of\n{expected:02x?}");
    Ok(())
}

fn send_frame(host: &Host, bytes: &[u8]) -> Result<()> {
    host.enter(|| -> Result<()> {
        let all = pnet_datalink::interfaces();
        let eth1 = all.iter().find(|interface| interface.name == "eth1").context("eth1")?;
        let channel = pnet_datalink::channel(eth1, pnet_datalink::Config::default())?;
        let pnet_datalink::Channel::Ethernet(mut sender, _) = channel else { anyhow::bail!("no channel") };
        Ok(sender.send_to(bytes, None).context("too long")??)
    })?
}

fn link_address(host: &Host) -> Result<[u8; 6]> {
    let found = host.enter(|| netbootd::net::interface::look(&["eth1".to_owned()]))?;
    found.iter().flatten().next().and_then(|eth1| eth1.link_address).context("eth1 has no link address")
}

#[test]
fn what_keeps_a_port_is_named_with_its_mend() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(netbootd_lab::Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let root = format!("--tftp-root={}", bench.lab.directory().display());
    let _other = dnsmasq(&bench.lab, &bench.server, &[RANGE, "--enable-tftp", &root])?;
    let fails = |settings: &[(&str, &str)], without: &[&str], code: i32, words: &[&str]| -> Result<()> {
        let binary = env!("CARGO_BIN_EXE_netbootd");
        let mut command = match without {
            [] => daemon(&bench.server),
            _ => bench.server.command("setpriv"),
        };
        if !without.is_empty() {
            command.args(without).arg(binary);
        }
        command.args(["up", "--interface", "eth1"]).envs(settings.iter().copied());
        let mut process = Process::spawn("netbootd", &mut command)?;
        let status = process.wait_exit(START)?;
        let printed = process.lines().join("\n");
        ensure!(status.code() == Some(code), "{status}: {printed}");
        for words in words {
            ensure!(printed.contains(words), "{words:?} is missing: {printed}");
        }
        Ok(())
    };
    let goes_on = |settings: &[(&str, &str)], words: &[&str]| -> Result<()> {
        let mut command = daemon(&bench.server);
        command.args(["up", "--interface", "eth1"]).envs(settings.iter().copied());
        let process = Process::spawn("netbootd", &mut command)?;
        process.wait_for_line("waiting on eth1", START)?;
        let printed = process.lines().join("\n");
        for words in words {
            ensure!(printed.contains(words), "{words:?} is missing: {printed}");
        }
        ensure!(bench.curl(&[], "/boot.ipxe?mac=52:54:00:12:34:56")?.starts_with(b"#!ipxe"), "no script by HTTP");
        Ok(())
    };
    let bind = ("NETBOOTD_DHCP__SOCKET", "bind");
    let again = "; everything else is served, and it is tried again";
    let capture = ("NETBOOTD_DHCP__SOCKET", "capture");
    let of_dhcp = "DHCP on eth1, UDP port 67: Address already in use";
    goes_on(&[bind], &[of_dhcp, "; dnsmasq (pid ", "\"capture\"", again])?;
    goes_on(&[], &["TFTP on 10.77.0.2, UDP port 69: Address already in use", "; dnsmasq (pid ", again])?;
    let no_raw = &["--bounding-set=-net_raw", "--inh-caps=-net_raw"];
    fails(
        &[capture],
        no_raw,
        77,
        &["DHCP on eth1, at layer 2: Operation not permitted", "AmbientCapabilities=CAP_NET_RAW"],
    )?;
    // It is root already.
    let no_ports = &["--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"];
    let needs = "ports below 1024 need CAP_NET_BIND_SERVICE, which root has not here";
    fails(&[bind], no_ports, 77, &["DHCP on eth1, UDP port 67: Permission denied", needs])?;
    Ok(())
}

const NO_RAW: &[&str] = &["--bounding-set=-net_raw", "--inh-caps=-net_raw"];

/// It is then for the user to choose, who is told between what.
#[test]
fn without_the_capability_the_port_is_shared_and_what_that_means_is_said() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(netbootd_lab::Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let _other = dnsmasq(&bench.lab, &bench.server, &[RANGE, "--bind-interfaces"])?;
    let mut command = bench.server.command("setpriv");
    command.args(NO_RAW).arg(env!("CARGO_BIN_EXE_netbootd")).args(["up", "--interface", "eth1"]);
    let netbootd = Process::spawn("netbootd", command.env("NETBOOTD_STATE__URL", "sqlite://:memory:"))?;
    let line = "UDP port 67 is shared: a unicast packet reaches only one of the two DHCP servers: DHCP on eth1, at layer 2: \
                Operation not permitted";
    netbootd.wait_for_line(line, START)?;
    netbootd.wait_for_line("waiting on eth1", START)?;
    let socket = bench.client_socket(68)?;
    socket.send_to(&request(DISCOVER, 1, BIOS), EVERYONE)?;
    let (first, second) = (next(&socket)?.0, next(&socket)?.0);
    ensure!(is_lease(&first, OFFER, 1) != is_lease(&second, OFFER, 1), "{first:02x?}\n{second:02x?}");
    Ok(())
}

#[test]
fn a_tunnel_is_refused_in_words() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    bench.server.ip(&["tuntap", "add", "tun0", "mode", "tun"])?;
    bench.server.ip(&["address", "add", "10.79.0.1/24", "dev", "tun0"])?;
    bench.server.ip(&["link", "set", "tun0", "up"])?;
    let mut command = daemon(&bench.server);
    command.args(["up", "--interface", "tun0"]).env("NETBOOTD_DHCP__SOCKET", "capture");
    let mut process = Process::spawn("netbootd", &mut command)?;
    let status = process.wait_exit(START)?;
    process.wait_for_line("DHCP on tun0, at layer 2: tun0 has no Ethernet headers", SOON)?;
    ensure!(status.code() == Some(69), "{status}");
    Ok(())
}
