//! Who gets which lease of ours: relays, reservations, interfaces whose addresses change, and what is refused.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Lab, Process, Relay, Signal, required};

use crate::{
    bench::{Bench, SERVER, SOON, daemon},
    dhcp::{ACK, BIOS, DISCOVER, MAC, OFFER, REQUEST, UUID, next, of_machine, request},
    lease::{
        ALL, BOOT, CLEAR, CLIENTS, INFORM, NAK, PATIENCE, RELEASE, about, asked, at, card, kind, leased, leases,
        leasing, option, ran, row, text, yiaddr,
    },
};

/// A network behind a router: its own range, an address that is tried by ICMP, and another server there.
#[test]
fn behind_a_relay_giaddr_picks_the_network() -> Result<()> {
    let relayed =
        "[[lease.relayed]]\nprefix = \"10.78.0.0/24\"\nrange = \"10.78.0.100-10.78.0.110\"\nrouter = \"10.78.0.1\"\n";
    let Some(bench) = leasing(&format!("{ALL}{relayed}"))? else { return Ok(()) };
    let near = Lab::new()?;
    let relay = Relay::between((&near, [10, 78, 0, 1].into()), (&bench.lab, [10, 77, 0, 254].into()), &[SERVER])?;
    bench.server.ip(&["route", "add", "10.78.0.0/24", "via", "10.77.0.254"])?;
    // Somebody has the first address, and answers to ICMP only behind the router.
    let squatter = near.host("squatter", Some("10.78.0.100/24"))?;
    squatter.ip(&["route", "add", "default", "via", "10.78.0.1"])?;
    let host = near.host("system", None)?;
    let udhcpc = ["-i", "eth1", "-n", "-q", "-f", "-t", "5", "-s", "/bin/true"];
    let leased = text(&ran(&host, "udhcpc", &udhcpc)?);
    ensure!(
        leased.contains("lease of 10.78.0.101 obtained from 10.77.0.2, lease time 3600"),
        "{leased}\n{:?}",
        relay.process().lines()
    );
    bench.netbootd.wait_for_line("10.78.0.100 is in use by somebody", SOON)?;
    // On our own network, machines are of the other range.
    let socket = bench.client_socket(68)?;
    ensure!(self::leased(&socket, 1, BIOS)? == at(100), "another range");
    // Its system renews by a unicast, which the router passes on as it is.
    let card = card(&host)?;
    host.ip(&["address", "add", "10.78.0.101/24", "dev", "eth1"])?;
    host.ip(&["route", "add", "default", "via", "10.78.0.1"])?;
    let renewing = host.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)))??;
    renewing.set_read_timeout(Some(SOON))?;
    let own = Ipv4Addr::new(10, 78, 0, 101);
    let by_unicast = |kind, xid, options: &[(u8, &[u8])]| -> Result<()> {
        let mut message = request(kind, xid, options);
        message[10] = 0;
        message[12..16].copy_from_slice(&own.octets());
        let bytes: Vec<u8> = card.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
        message[28..34].copy_from_slice(&bytes);
        renewing.send_to(&message, (SERVER, 67))?;
        Ok(())
    };
    by_unicast(REQUEST, 20, &[])?;
    let (ack, from) = next(&renewing)?;
    ensure!(kind(&ack) == ACK && yiaddr(&ack) == own && from == SocketAddr::from((SERVER, 67)), "{ack:02x?}");
    ensure!(option(&ack, 3) == Some(&[10, 78, 0, 1]), "the options of another network: {ack:02x?}");
    by_unicast(INFORM, 21, &[])?;
    let (ack, _) = next(&renewing)?;
    ensure!(kind(&ack) == ACK && yiaddr(&ack).is_unspecified(), "{ack:02x?}");
    by_unicast(RELEASE, 22, &[(54, &SERVER.octets())])?;
    bench.netbootd.wait_for_line(&format!("{card} gives back 10.78.0.101"), SOON)?;
    let shown = row(&bench, &card)?;
    ensure!(shown.contains("10.78.0.0/24") && shown.contains("released"), "{shown}");
    // A machine there accepts another server's offer.
    let mut elsewhere = of_machine(5, request(REQUEST, 5, &[(54, &[10, 78, 0, 9]), (50, &[10, 78, 0, 77])]));
    elsewhere[24..28].copy_from_slice(&[10, 78, 0, 1]);
    socket.send_to(&elsewhere, (SERVER, 67))?;
    bench.netbootd.wait_for_line("no leases on 10.78.0.0/24: the DHCP server 10.78.0.9", SOON)?;
    ensure!(self::leased(&socket, 2, BIOS)? == at(101), "our own network stopped too");
    Ok(())
}

/// Reservations: by MAC address and by UUID, which the system that is booted does not send.
#[test]
fn a_machine_gets_the_address_of_its_rule() -> Result<()> {
    let rules = "[[machines]]\nname = \"k8s08\"\nuuid = \"11223344-5566-7788-99aa-bbccddeeff01\"\naddress = \"10.77.0.60\"\n\
                 profile = \"local\"\n";
    let Some(bench) = leasing(&format!("{BOOT}{rules}"))? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let first = asked(&socket, &request(DISCOVER, 1, BIOS))?;
    ensure!(yiaddr(&first) == at(60), "{first:02x?}");
    ensure!(kind(&asked(&socket, &about(REQUEST, 1, at(60), BIOS))?) == ACK, "not confirmed");
    let mut system = request(DISCOVER, 2, &[]);
    // Its own messages have no UUID: option 97 becomes another one.
    let place = system.windows(UUID.len()).position(|window| window == UUID).context("no UUID")?;
    system[place - 2] = 225;
    let second = asked(&socket, &system)?;
    ensure!(yiaddr(&second) == at(60), "{second:02x?}");
    ensure!(leased(&socket, 3, BIOS)? == at(100), "another machine got it");
    let mac: String = MAC.map(|byte| format!("{byte:02x}")).join(":");
    ensure!(row(&bench, &mac)?.contains("10.77.0.60"), "{}", leases(&bench)?);
    Ok(())
}

/// A reservation goes before what another machine had, once that machine's lease is over.
#[test]
fn a_reservation_goes_to_its_machine_though_another_one_had_the_address() -> Result<()> {
    let before = "[lease]\nclients = \"all\"\nrange = \"10.77.0.100-10.77.0.109\"\ntime = \"1m\"\n";
    let Some(bench) = leasing(before)? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    ensure!(leased(&socket, 1, &[])? == at(100), "another address");
    let rule = "[[machines]]\nname = \"bee\"\nmac = \"52:54:00:00:00:02\"\naddress = \"10.77.0.100\"\n";
    let main = bench.lab.directory().join("netbootd.toml");
    fs::write(&main, format!("{}{rule}", fs::read_to_string(&main)?))?;
    bench.netbootd.wait_for_line("configuration read again", SOON)?;
    // The machine that has it may not renew it, and gets another one.
    let renewal = of_machine(1, request(REQUEST, 5, &[(50, &at(100).octets())]));
    ensure!(kind(&asked(&socket, &renewal)?) == NAK, "not refused");
    ensure!(leased(&socket, 1, &[])? == at(101), "it has the address of another machine");
    thread::sleep(Duration::from_secs(61));
    ensure!(leased(&socket, 2, &[])? == at(100), "bee has not its address");
    Ok(())
}

/// A machine that was never here says that it has an address. Somebody else has it.
#[test]
fn a_machine_without_a_record_is_not_confirmed_after_its_start() -> Result<()> {
    let Some(bench) = leasing(ALL)? else { return Ok(()) };
    let _squatter = bench.lab.host("squatter", Some("10.77.0.105/24"))?;
    let socket = bench.client_socket(68)?;
    let wanted: &[(u8, &[u8])] = &[(50, &at(105).octets())];
    socket.send_to(&of_machine(1, request(REQUEST, 1, wanted)), (Ipv4Addr::BROADCAST, 67))?;
    // No answer: the next one is about its DISCOVER, for which the address is tried.
    let offer = asked(&socket, &of_machine(1, request(DISCOVER, 2, wanted)))?;
    ensure!((kind(&offer), &offer[4..8]) == (OFFER, &2_u32.to_be_bytes()[..]), "{offer:02x?}");
    ensure!(yiaddr(&offer) != at(105), "it is in use");
    Ok(())
}

/// A machine that is refused booted nothing: its system gets no address.
#[test]
fn a_machine_that_is_refused_gets_no_address_for_its_system() -> Result<()> {
    let Some(bench) = leasing(&format!("{BOOT}[dhcp]\nanswer = \"known\"\n"))? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    socket.send_to(&of_machine(1, request(DISCOVER, 1, BIOS)), (Ipv4Addr::BROADCAST, 67))?;
    bench.netbootd.wait_for_line("no rule names this machine", SOON)?;
    let table = leases(&bench)?;
    ensure!(!table.contains("10.77.0.100 "), "an address is kept for it: {table}");
    socket.send_to(&of_machine(1, request(DISCOVER, 2, &[(60, b"udhcp 1.35")])), (Ipv4Addr::BROADCAST, 67))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    ensure!(next(&socket).is_err(), "it gets an address");
    Ok(())
}

/// An address that comes and goes, as those of keepalived do; and a range in the network of the second address.
#[test]
fn leasing_goes_on_after_a_change_of_the_addresses_of_the_interface() -> Result<()> {
    let Some(()) = required(&[CLIENTS]) else { return Ok(()) };
    let bench = Bench::prepared(&["eth1"], &[], BOOT, |_, host| {
        host.ip(&["address", "flush", "dev", "eth1"])?;
        host.ip(&["address", "add", "192.168.99.1/24", "broadcast", "+", "dev", "eth1"])?;
        host.ip(&["address", "add", "10.77.0.2/24", "broadcast", "+", "dev", "eth1"]).map(drop)
    })?;
    let Some(bench) = bench else { return Ok(()) };
    bench.netbootd.wait_for_line(CLEAR, PATIENCE)?;
    bench.server.ip(&["address", "add", "10.77.0.105/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("no leases on eth1: the range 10.77.0.100-10.77.0.109 has the address", SOON)?;
    bench.server.ip(&["address", "delete", "10.77.0.105/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("the range fits eth1 again: asking whether another DHCP server is there", SOON)?;
    let deadline = Instant::now() + PATIENCE;
    while bench.netbootd.lines().iter().filter(|line| line.contains(CLEAR)).count() < 2 {
        ensure!(Instant::now() < deadline, "{:#?}", bench.netbootd.lines());
        thread::sleep(Duration::from_millis(100));
    }
    let socket = bench.client_socket(68)?;
    let offer = asked(&socket, &request(DISCOVER, 1, BIOS))?;
    ensure!(yiaddr(&offer) == at(100) && option(&offer, 54) == Some(&SERVER.octets()), "{offer:02x?}");
    Ok(())
}

/// Reservations that no network has: a reload with them changes nothing, as a start with them does not begin.
#[test]
fn a_reload_refuses_what_the_next_start_refuses() -> Result<()> {
    let Some(bench) = leasing(BOOT)? else { return Ok(()) };
    let main = bench.lab.directory().join("netbootd.toml");
    let before = fs::read_to_string(&main)?;
    for address in ["10.77.0.2", "172.16.0.9", "10.77.0.255"] {
        let rule = format!("[[machines]]\nname = \"own\"\nmac = \"52:54:00:00:00:03\"\naddress = \"{address}\"\n");
        fs::write(&main, format!("{before}{rule}"))?;
        bench
            .netbootd
            .wait_for_line(&format!("error: [lease]: the address {address} of own cannot be leased"), SOON)?;
    }
    let lines = bench.netbootd.lines();
    ensure!(!lines.iter().any(|line| line.contains("configuration read again")), "{lines:#?}");
    fs::write(
        &main,
        format!("{before}[[machines]]\nname = \"own\"\nmac = \"52:54:00:00:00:03\"\naddress = \"10.77.0.9\"\n"),
    )?;
    bench.netbootd.wait_for_line("configuration read again", SOON)?;
    Ok(())
}

/// A bare cable: the interface has no address and is down.
#[test]
fn an_address_is_set_for_the_time_that_it_runs_even_if_it_is_killed() -> Result<()> {
    let Some(()) = required(&[CLIENTS]) else { return Ok(()) };
    let lab = Lab::new()?;
    let host = lab.host("laptop", None)?;
    host.ip(&["link", "set", "eth1", "down"])?;
    let up = |more: &[&str]| {
        let mut command = daemon(&host);
        command.args(["up", "--lease", "--interface", "eth1", "--address", "192.0.2.1/24"]).args(more);
        command
    };
    let refused = up(&[]).output()?;
    let words = "eth1 does not have the address 192.0.2.1/24: set it with\n  \
                 ip address add 192.0.2.1/24 dev eth1 && ip link set dev eth1 up\nor add --set-address";
    ensure!(refused.status.code() == Some(69) && text(&refused).contains(words), "{}", text(&refused));
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut netbootd = Process::spawn("netbootd", &mut up(&["--set-address"]))?;
        netbootd.wait_for_line("lease eth1: 192.0.2.2-192.0.2.254 for 3600 s", SOON)?;
        ensure!(host.ip(&["address", "show", "dev", "eth1"])?.contains("inet 192.0.2.1/24 brd 192.0.2.255"), "not set");
        netbootd.signal(signal)?;
        netbootd.wait_exit(PATIENCE)?;
        let deadline = Instant::now() + SOON;
        while host.ip(&["address", "show", "dev", "eth1"])?.contains("inet 192.0.2.1") {
            ensure!(Instant::now() < deadline, "{signal}: the address is still there");
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// An address that another host has is not set, and the interface is left as it was.
#[test]
fn an_address_in_use_is_not_set() -> Result<()> {
    let Some(()) = required(&[CLIENTS]) else { return Ok(()) };
    let lab = Lab::new()?;
    let (router, host) = (lab.host("router", Some("192.0.2.1/24"))?, lab.host("laptop", None)?);
    for state in ["up", "down"] {
        host.ip(&["link", "set", "eth1", state])?;
        let mut up = daemon(&host);
        up.args(["up", "--lease", "--interface", "eth1", "--address", "192.0.2.1/24", "--set-address"]);
        let mut said = Process::spawn("up", &mut up)?;
        let status = said.wait_exit(PATIENCE)?;
        let words = format!(
            "192.0.2.1 is in use on eth1 by another host ({}): choose a free address of that network, such as --address \
             192.0.2.254/24",
            card(&router)?
        );
        let lines = said.lines();
        ensure!(status.code() == Some(69) && lines.iter().any(|line| line.contains(&words)), "{status}: {lines:#?}");
        let shown = host.ip(&["address", "show", "dev", "eth1"])?;
        ensure!(!shown.contains("192.0.2.1"), "{shown}");
        ensure!(shown.contains(",UP") == (state == "up"), "{shown}");
    }
    Ok(())
}

/// Every fault of the ranges against the interface, before anything is served.
#[test]
fn ranges_that_do_not_fit_the_interface_are_refused() -> Result<()> {
    let Some(()) = required(&[CLIENTS]) else { return Ok(()) };
    let lab = Lab::new()?;
    let host = lab.host("netbootd", Some("10.77.0.2/24"))?;
    for (range, fault) in [
        ("192.0.2.1-192.0.2.9", "is not in the network 10.77.0.0/24 of eth1: use addresses of that network"),
        ("10.77.0.1-10.77.0.9", "has the address 10.77.0.2, which is this server's own on eth1: leave it out"),
        ("10.77.0.9-10.77.0.255", "has 10.77.0.255, the broadcast address of 10.77.0.0/24: leave it out"),
        ("10.77.0.9-10.77.0.3", "ends before it begins: write the smaller address first"),
        ("10.77.0.9-10.77.0.300", "is not a range of addresses"),
    ] {
        let output = daemon(&host).args(["up", "--interface", "eth1", "--lease", range]).output()?;
        ensure!(output.status.code() == Some(78) && text(&output).contains(fault), "{range}: {}", text(&output));
    }
    Ok(())
}
