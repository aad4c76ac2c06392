//! Leases of our own beside another DHCP server: which of them leases.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Host, Lab, LeaseServer, Process, Signal, required};

use crate::{
    bench::{Bench, SERVER, SOON, daemon},
    beside::{dnsmasq, dnsmasq_on},
    dhcp::{BIOS, DISCOVER, OFFER, REQUEST, next, of_machine, request},
    lease::{BOOT, CLEAR, CLIENTS, PATIENCE, card, kind, leased, leases, leasing, text, yiaddr},
};

/// The words of a stop, with who it was.
fn stopped(bench: &Bench, words: &str, within: Duration) -> Result<()> {
    let line = format!("no leases on eth1: {words}");
    bench.netbootd.wait_for_line(&line, within)?;
    let (shown, page) = (leases(bench)?, String::from_utf8(bench.curl(&[], "/")?)?);
    ensure!(shown.contains("eth1: no leases: ") && page.contains("no leases on eth1: "), "{shown}\n{page}");
    let metrics = String::from_utf8(bench.curl(&[], "/metrics")?)?;
    ensure!(metrics.contains("netbootd_leasing{network=\"eth1\"} 0"), "{metrics}");
    ensure!(metrics.contains("netbootd_lease_stopped{network=\"eth1\","), "{metrics}");
    // Leases are over, and the proxy continues.
    let socket = bench.client_socket(68)?;
    socket.send_to(&of_machine(77, request(DISCOVER, 77, BIOS)), (Ipv4Addr::BROADCAST, 67))?;
    loop {
        let (message, from) = next(&socket)?;
        if message[4..8] == 77_u32.to_be_bytes() && from.ip() == SERVER {
            ensure!(yiaddr(&message).is_unspecified(), "it leases: {message:02x?}");
            return Ok(());
        }
    }
}

const FOREIGN: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 77, 0, 150), Ipv4Addr::new(10, 77, 0, 199));

/// As on a computer with libvirt, whose dnsmasq has port 67 of the bridge of its virtual machines.
#[test]
fn a_dhcp_server_on_another_interface_of_this_host_does_not_stop_the_leases() -> Result<()> {
    let mut other = None;
    let bench = Bench::prepared(&["eth1"], &[], BOOT, |lab, host| {
        host.ip(&["link", "add", "virbr0", "type", "bridge"])?;
        host.ip(&["address", "add", "192.168.122.1/24", "dev", "virbr0"])?;
        host.ip(&["link", "set", "virbr0", "up"])?;
        let range = "--dhcp-range=192.168.122.2,192.168.122.254,1h";
        other = Some(dnsmasq_on("virbr0", lab, host, &["--except-interface=lo", "--bind-dynamic", range])?);
        Ok(())
    })?;
    let Some(bench) = bench else { return Ok(()) };
    bench.netbootd.wait_for_line("dhcp  eth1, ports 67 and 4011", SOON)?;
    bench.netbootd.wait_for_line(CLEAR, PATIENCE)?;
    leased(&bench.client_socket(68)?, 1, BIOS).map(drop)
}

/// A server that comes while we lease: at the first machine that asks, long before the next question of our own.
#[test]
fn a_foreign_server_stops_it_within_5_s_of_its_first_offer() -> Result<()> {
    let Some(bench) = leasing(BOOT)? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let first = leased(&socket, 1, BIOS)?;
    let host = bench.lab.host("dhcp", Some("10.77.0.1/24"))?;
    let _foreign = LeaseServer::start(&bench.lab, &host, FOREIGN.0, FOREIGN.1)?;
    let began = Instant::now();
    socket.send_to(&of_machine(2, request(DISCOVER, 2, BIOS)), (Ipv4Addr::BROADCAST, 67))?;
    bench
        .netbootd
        .wait_for_line("no leases on eth1: the DHCP server 10.77.0.1 leases addresses", Duration::from_secs(5))?;
    println!("stopped {:.3} s after the first machine asked", began.elapsed().as_secs_f64());
    drop(socket);
    stopped(&bench, "the DHCP server 10.77.0.1 leases addresses on this network (it offered 10.77.0.", SOON)?;
    // A renewal of what was leased before gets no answer either: its machine asks the other server then.
    let socket = bench.client_socket(68)?;
    let renewal = of_machine(1, request(REQUEST, 3, &[BIOS, &[(50, &first.octets())]].concat()));
    socket.send_to(&renewal, (Ipv4Addr::BROADCAST, 67))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    while let Ok((message, from)) = next(&socket) {
        ensure!(from.ip() != SERVER || kind(&message) == OFFER, "it answers: {message:02x?}");
    }
    Ok(())
}

/// Nobody asks but we ourselves.
#[test]
fn a_foreign_server_is_found_though_no_machine_asks() -> Result<()> {
    let Some(bench) = leasing(&format!("{BOOT}ask_every = \"2s\"\n"))? else { return Ok(()) };
    let host = bench.lab.host("dhcp", Some("10.77.0.1/24"))?;
    let _foreign = dnsmasq(&bench.lab, &host, &["--dhcp-range=10.77.0.150,10.77.0.199,1h"])?;
    stopped(&bench, "the DHCP server 10.77.0.1 leases addresses", Duration::from_secs(8))
}

/// The server was there before us: not one lease is given. dnsmasq as it is by default pings an address for 3 s before it
/// offers it.
#[test]
fn beside_a_server_that_was_there_first_nothing_is_ever_leased() -> Result<()> {
    let mut foreign = None;
    let bench = Bench::prepared(&["eth1"], &[], BOOT, |lab, _| {
        let host = lab.host("dhcp", Some("10.77.0.1/24"))?;
        let mut command = host.command(netbootd_lab::DNSMASQ);
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--log-facility=-"]);
        command.args([
            "--port=0",
            "--no-resolv",
            "--interface=eth1",
            "--dhcp-range=10.77.0.150,10.77.0.199,1h",
            "--pid-file",
        ]);
        command.arg(format!("--dhcp-leasefile={}", lab.directory().join("leases").display()));
        let process = Process::spawn("dnsmasq", &mut command)?;
        process.wait_for_line("]: DHCP, ", SOON)?;
        foreign = Some(process);
        Ok(())
    })?;
    let Some(bench) = bench else { return Ok(()) };
    stopped(&bench, "the DHCP server 10.77.0.1 leases addresses", PATIENCE)?;
    ensure!(!bench.netbootd.lines().iter().any(|line| line.contains(CLEAR)), "it began to lease");
    Ok(())
}

/// A cable that is put into another network: nothing is leased there before somebody was asked.
#[test]
fn a_cable_that_is_plugged_elsewhere_makes_it_ask_first() -> Result<()> {
    let Some(bench) = leasing(BOOT)? else { return Ok(()) };
    let host = bench.lab.host("dhcp", Some("10.77.0.1/24"))?;
    host.ip(&["link", "set", "eth1", "down"])?;
    let _foreign = dnsmasq(&bench.lab, &host, &["--dhcp-range=10.77.0.150,10.77.0.199,1h"])?;
    let ports = bench.lab.switch().ip(&["-o", "link", "show", "type", "veth"])?;
    // The first port of the switch is the server's.
    let port = ports
        .split_whitespace()
        .find_map(|word| word.strip_prefix("port0@"))
        .map(|_| "port0")
        .context(ports.clone())?;
    bench.lab.switch().ip(&["link", "set", port, "down"])?;
    host.ip(&["link", "set", "eth1", "up"])?;
    bench.lab.switch().ip(&["link", "set", port, "up"])?;
    let socket = bench.client_socket(68)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut xid = 100;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    while Instant::now() < deadline && !bench.netbootd.lines().iter().any(|line| line.contains("no leases on eth1")) {
        xid += 1;
        socket.send_to(&of_machine(xid, request(DISCOVER, xid, BIOS)), (Ipv4Addr::BROADCAST, 67))?;
        while let Ok((message, from)) = next(&socket) {
            ensure!(from.ip() != SERVER || yiaddr(&message).is_unspecified(), "it leases: {message:02x?}");
        }
    }
    drop(socket);
    stopped(&bench, "the DHCP server 10.77.0.1 leases addresses", SOON)
}

#[test]
fn a_server_on_this_host_and_the_default_route_are_refused() -> Result<()> {
    let mut other = None;
    let bench = Bench::prepared(&["eth1"], &[], BOOT, |lab, host| {
        other = Some(dnsmasq(lab, host, &["--dhcp-range=10.77.0.50,10.77.0.50,1h"])?);
        Ok(())
    })?;
    let Some(bench) = bench else { return Ok(()) };
    bench.netbootd.wait_for_line("no leases on eth1: dnsmasq (pid ", SOON)?;
    drop((bench, other));

    let Some(mut bench) = leasing(BOOT)? else { return Ok(()) };
    bench.server.ip(&["route", "add", "default", "via", "10.77.0.1"])?;
    bench.netbootd.wait_for_line("no leases on eth1: this host's default route is there", PATIENCE)?;
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(PATIENCE)?;
    let refused = daemon(&bench.server).args(["up", "--lease", "--interface", "eth1"]).output()?;
    let said = text(&refused);
    ensure!(refused.status.code() == Some(78) && said.contains("add --lease-anyway"), "{} {said}", refused.status);
    let anyway = ["up", "--lease", "10.77.0.100-10.77.0.101", "--lease-anyway", "--interface", "eth1", "--for", "9s"];
    let mut anyway = Process::spawn("netbootd", daemon(&bench.server).args(anyway))?;
    anyway.wait_for_line("lease eth1: 10.77.0.100-10.77.0.101 for 3600 s", SOON)?;
    anyway.wait_for_line(CLEAR, PATIENCE)?;
    anyway.wait_for_line("the time that --for gives is over", PATIENCE)?;
    ensure!(anyway.wait_exit(PATIENCE)?.code() == Some(0), "{:?}", anyway.lines());
    Ok(())
}

/// Two of us on one network: one leases, whichever order they start in.
#[test]
fn of_two_netbootd_one_leases() -> Result<()> {
    let up = |host: &Host| Process::spawn("netbootd", daemon(host).args(["up", "--lease", "--interface", "eth1"]));
    // At layer 2 it hears its own answers too.
    for socket in ["", "[dhcp]\nsocket = \"capture\"\n"] {
        let Some(bench) = leasing(&format!("{BOOT}{socket}"))? else { return Ok(()) };
        let other = bench.lab.host("other", Some("10.77.0.1/24"))?;
        let second = up(&other)?;
        // It hears that we lease, though it is no boot client; and has a lower address.
        second.wait_for_line("no leases on eth1: the DHCP server 10.77.0.2 leases addresses", PATIENCE)?;
        let lines = bench.netbootd.lines();
        ensure!(!lines.iter().any(|line| line.contains("no leases on")), "both stopped: {lines:#?}");
    }

    let Some(()) = required(&[CLIENTS]) else { return Ok(()) };
    let lab = Lab::new()?;
    let (low, high) = (lab.host("low", Some("10.77.0.1/24"))?, lab.host("high", Some("10.77.0.2/24"))?);
    let (of_high, of_low) = (up(&high)?, up(&low)?);
    of_high.wait_for_line("no leases on eth1: another netbootd (10.77.0.1) starts to lease", PATIENCE)?;
    of_low.wait_for_line(CLEAR, PATIENCE)?;
    ensure!(!of_high.lines().iter().any(|line| line.contains(CLEAR)), "both lease");
    Ok(())
}

/// Two of us with one address, as two people have who follow the same example: one leases.
#[test]
fn of_two_netbootd_with_the_same_address_one_leases() -> Result<()> {
    let Some(()) = required(&[CLIENTS]) else { return Ok(()) };
    let lab = Lab::new()?;
    let hosts = [lab.host("one", Some("10.77.0.1/24"))?, lab.host("other", Some("10.77.0.1/24"))?];
    let up = |host: &Host| Process::spawn("netbootd", daemon(host).args(["up", "--lease", "--interface", "eth1"]));
    let both = [up(&hosts[0])?, up(&hosts[1])?];
    let has = |netbootd: &Process, words: &str| netbootd.lines().iter().any(|line| line.contains(words));
    let deadline = Instant::now() + PATIENCE;
    while !both.iter().any(|netbootd| has(netbootd, CLEAR)) {
        ensure!(Instant::now() < deadline, "{:#?}", both.each_ref().map(Process::lines));
        thread::sleep(Duration::from_millis(100));
    }
    let of = |words: &str| both.iter().filter(|netbootd| has(netbootd, words)).count();
    let words = "no leases on eth1: another netbootd (10.77.0.1) starts to lease";
    ensure!((of(CLEAR), of(words)) == (1, 1), "{:#?}", both.each_ref().map(Process::lines));
    // One that comes later hears of the one that leases.
    let [one, other] = both;
    let (leases, stopped, host) = if has(&one, CLEAR) { (one, other, &hosts[1]) } else { (other, one, &hosts[0]) };
    drop(stopped);
    let later = up(host)?;
    later.wait_for_line("no leases on eth1: the DHCP server 10.77.0.1 leases addresses", PATIENCE)?;
    ensure!(!has(&leases, "no leases on"), "both stopped: {:#?}", leases.lines());
    Ok(())
}

/// Another host has our address, and leases: it is seen by its card.
#[test]
fn a_foreign_server_with_our_own_address_stops_it() -> Result<()> {
    let Some(bench) = leasing(&format!("{BOOT}ask_every = \"2s\"\n"))? else { return Ok(()) };
    let host = bench.lab.host("router", Some("10.77.0.2/24"))?;
    let _foreign = dnsmasq(&bench.lab, &host, &["--dhcp-range=10.77.0.150,10.77.0.199,1h"])?;
    let words = format!("from another host ({}) with an address of this one", card(&host)?);
    bench.netbootd.wait_for_line("no leases on eth1: the DHCP server 10.77.0.2 leases addresses", PATIENCE)?;
    bench.netbootd.wait_for_line(&words, SOON)?;
    Ok(())
}

/// An address of another network of ours, on a host that is plugged in here.
#[test]
fn a_foreign_server_with_the_address_of_our_other_interface_stops_it() -> Result<()> {
    let other = Lab::new()?;
    let configuration = format!("{BOOT}ask_every = \"2s\"\n[lease.interfaces.eth9]\nenabled = false\n");
    let bench = Bench::prepared(&["eth1", "eth9"], &[], &configuration, |_, host| {
        other.plug_host_in(host, "eth9", Some("192.168.1.1/24"))
    })?;
    let Some(bench) = bench else { return Ok(()) };
    bench.netbootd.wait_for_line(CLEAR, PATIENCE)?;
    let router = bench.lab.host("router", Some("192.168.1.1/24"))?;
    let _foreign = dnsmasq(&bench.lab, &router, &["--dhcp-range=192.168.1.150,192.168.1.160,1h"])?;
    bench.netbootd.wait_for_line("no leases on eth1: the DHCP server 192.168.1.1 leases addresses", PATIENCE)?;
    Ok(())
}
