//! Leases of our own, to real clients and to sockets that play firmware, on a network without a DHCP server.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Output,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{DHCLIENT, Host, Process, Signal, Tool, required};

use crate::{
    bench::{Bench, SERVER, SOON, daemon},
    dhcp::{ACK, BIOS, DISCOVER, IPXE, OFFER, REQUEST, UUID, next, of_machine, reply, request},
};

/// All clients, and one that boots, in ten addresses.
pub(crate) const ALL: &str = "[lease]\nclients = \"all\"\nrange = \"10.77.0.100-10.77.0.109\"\ndomain = \"lab.example\"\n\
                   router = \"10.77.0.1\"\ndns = [\"10.77.0.1\", \"10.77.0.3\"]\noptions = { mtu = 1400, 224 = \"hex:01ff\" }\n";
pub(crate) const BOOT: &str = "[lease]\nrange = \"10.77.0.100-10.77.0.109\"\n";
pub(crate) const NAK: u8 = 6;
const DECLINE: u8 = 4;
pub(crate) const RELEASE: u8 = 7;
pub(crate) const INFORM: u8 = 8;
/// Until it is known that no other server answers.
pub(crate) const CLEAR: &str = "no other DHCP server answers on eth1: addresses are leased";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CLIENTS: &[Tool] = &[
    DHCLIENT,
    Tool::new("dhcpcd", "dhcpcd-base"),
    Tool::new("udhcpc", "udhcpc"),
    Tool::new("nmap", "nmap"),
    Tool::new("/usr/sbin/perfdhcp", "kea-admin"),
];

/// netbootd that leases, once it does.
pub(crate) fn leasing(configuration: &str) -> Result<Option<Bench>> {
    let Some(()) = required(&[CLIENTS]) else { return Ok(None) };
    let Some(bench) = Bench::with_configuration(configuration)? else { return Ok(None) };
    bench.netbootd.wait_for_line(CLEAR, PATIENCE)?;
    Ok(Some(bench))
}

/// The options of a message by their codes.
pub(crate) fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = message.get(240..)?;
    while let [code, length, behind @ ..] = rest {
        if *code == 255 {
            return None;
        }
        let (data, behind) = behind.split_at_checked(usize::from(*length))?;
        if *code == wanted {
            return Some(data);
        }
        rest = behind;
    }
    None
}

pub(crate) fn kind(message: &[u8]) -> u8 {
    option(message, 53).map_or(0, |data| data[0])
}

pub(crate) fn yiaddr(message: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from(<[u8; 4]>::try_from(&message[16..20]).expect("four bytes"))
}

pub(crate) fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

/// A message about an address of ours.
pub(crate) fn about(kind: u8, xid: u32, address: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    request(kind, xid, &[options, &[(54, &SERVER.octets()), (50, &address.octets())]].concat())
}

pub(crate) fn asked(socket: &UdpSocket, message: &[u8]) -> Result<Vec<u8>> {
    socket.send_to(message, (Ipv4Addr::BROADCAST, 67))?;
    Ok(next(socket)?.0)
}

/// The lease of a machine that goes the whole way.
pub(crate) fn leased(socket: &UdpSocket, machine: u32, client: &[(u8, &[u8])]) -> Result<Ipv4Addr> {
    let offer = asked(socket, &of_machine(machine, request(DISCOVER, machine, client)))?;
    ensure!(kind(&offer) == OFFER, "{offer:02x?}");
    let ack = asked(socket, &of_machine(machine, about(REQUEST, machine, yiaddr(&offer), client)))?;
    ensure!(kind(&ack) == ACK && yiaddr(&ack) == yiaddr(&offer), "{ack:02x?}");
    Ok(yiaddr(&ack))
}

pub(crate) fn leases(bench: &Bench) -> Result<String> {
    let output = daemon(&bench.server).args(["leases"]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn one_reply_has_the_address_and_the_boot_file() -> Result<()> {
    let Some(bench) = leasing(BOOT)? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let ten_minutes: &[(u8, &[u8])] = &[
        (51, &600_u32.to_be_bytes()),
        (58, &300_u32.to_be_bytes()),
        (59, &525_u32.to_be_bytes()),
        (1, &[255, 255, 255, 0]),
        (60, b"PXEClient"),
        (97, UUID),
        (43, b"\x06\x01\x08\xff"),
    ];
    let expected = |kind, xid| {
        let mut expected = reply(kind, xid, "undionly.kpxe", ten_minutes);
        expected[16..20].copy_from_slice(&at(100).octets());
        expected
    };
    let offer = asked(&socket, &request(DISCOVER, 1, BIOS))?;
    ensure!(offer == expected(OFFER, 1), "{offer:02x?}\ninstead of\n{:02x?}", expected(OFFER, 1));
    let ack = asked(&socket, &about(REQUEST, 1, at(100), BIOS))?;
    ensure!(ack == expected(ACK, 1), "{ack:02x?}\ninstead of\n{:02x?}", expected(ACK, 1));
    // Its iPXE has another client identifier, and gets the same address, and its script.
    let other_id: &[(u8, &[u8])] = &[(61, b"\x01\x52\x54\0\x12\x34\x56")];
    let offer = asked(&socket, &request(DISCOVER, 2, &[IPXE, other_id].concat()))?;
    ensure!(
        yiaddr(&offer) == at(100) && offer[108..].starts_with(b"http://10.77.0.2:8080/boot.ipxe\0"),
        "{offer:02x?}"
    );
    // The system that it boots is no boot client.
    let system: &[(u8, &[u8])] = &[(61, b"\xff\0\0\0\x01abcdef"), (60, b"udhcp 1.35")];
    let offer = asked(&socket, &request(DISCOVER, 3, system))?;
    ensure!(yiaddr(&offer) == at(100) && option(&offer, 60).is_none(), "{offer:02x?}");
    ensure!(option(&offer, 51) == Some(&3600_u32.to_be_bytes()), "{offer:02x?}");
    // A colleague's phone is none of ours, and neither is an address of another network.
    let phone = of_machine(9, request(DISCOVER, 4, &[(60, b"android-dhcp-14")]));
    let elsewhere = of_machine(9, request(REQUEST, 5, &[(50, &[192, 168, 1, 7])]));
    let foreign_machine = of_machine(9, request(REQUEST, 6, &[BIOS, &[(50, &[192, 168, 1, 7])]].concat()));
    for silent in [phone, elsewhere, foreign_machine] {
        socket.send_to(&silent, (Ipv4Addr::BROADCAST, 67))?;
    }
    let next = asked(&socket, &request(DISCOVER, 7, BIOS))?;
    ensure!(next[4..8] == 7_u32.to_be_bytes(), "somebody else was answered: {next:02x?}");
    let table = leases(&bench)?;
    ensure!(table.contains("10.77.0.100      52:54:00:12:34:56") && table.contains("leased"), "{table}");
    Ok(())
}

#[test]
fn a_machine_that_takes_no_address_was_offered_one() -> Result<()> {
    let Some(bench) = leasing(BOOT)? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let (not_taken, began) = ("it does not take the address 10.77.0.100 that 10.77.0.2 offers; check", Instant::now());
    let is_named = || bench.netbootd.wait_for_line(not_taken, Duration::from_secs(1)).is_ok();
    for xid in 1.. {
        asked(&socket, &request(DISCOVER, xid, BIOS))?;
        if is_named() {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "{:?}", bench.netbootd.lines());
    }
    Ok(())
}

/// A host without an address, as a machine is before its system asks.
fn machine(bench: &Bench, name: &str) -> Result<Host> {
    bench.lab.host(name, None)
}

/// Runs a client on a host until it ends; what it printed on both outputs.
pub(crate) fn ran(host: &Host, program: &str, arguments: &[&str]) -> Result<Output> {
    let output = host.command("timeout").args(["60", program]).args(arguments).output()?;
    let words = || [output.stdout.clone(), output.stderr.clone()].concat();
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&words()));
    Ok(output)
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// What a host's card is.
pub(crate) fn card(host: &Host) -> Result<String> {
    let shown = host.ip(&["-o", "link", "show", "eth1"])?;
    let words: Vec<&str> = shown.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "link/ether").context("no card")?;
    Ok(words[at + 1].to_owned())
}

/// The row of `netbootd leases` about a machine.
pub(crate) fn row(bench: &Bench, card: &str) -> Result<String> {
    let table = leases(bench)?;
    table.lines().find(|line| line.contains(card)).map(str::to_owned).with_context(|| table.clone())
}

/// Every state of RFC 2131 by ISC's client: DISCOVER, REQUEST, a renewal by unicast, INIT-REBOOT and RELEASE; then the same
/// card as two other clients, with other client identifiers.
#[test]
fn dhclient_udhcpc_and_dhcpcd_get_the_same_address_in_every_state() -> Result<()> {
    let Some(bench) = leasing(ALL)? else { return Ok(()) };
    let host = machine(&bench, "system")?;
    let (folder, card) = (bench.lab.directory().join("dhclient"), card(&host)?);
    fs::create_dir_all(&folder)?;
    let at = |name: &str| folder.join(name).display().to_string();
    // The script that is given every option, in the place of one that changes this machine's resolv.conf.
    let script = "#!/bin/sh\nenv | sort > \"$0.$reason\"\n\
                  case $reason in BOUND|RENEW|REBIND|REBOOT)\n\
                  ip address replace \"$new_ip_address/24\" dev \"$interface\" ;; esac\n";
    fs::write(folder.join("script"), script)?;
    fs::set_permissions(folder.join("script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let conf = "option mystery code 224 = string; request subnet-mask, routers, domain-name, domain-name-servers, \
                interface-mtu, mystery;\n";
    fs::write(folder.join("conf"), conf)?;
    let files =
        ["-sf", &at("script"), "-lf", &at("leases"), "-pf", &at("pid"), "-cf", &at("conf"), "eth1"].map(str::to_owned);
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let run = |more: &[&str]| ran(&host, DHCLIENT.file, &[more, &files].concat());
    let run_once = |more: &[&str]| run(&[&["-4", "-v", "-1"], more].concat());

    let bound = text(&run_once(&[])?);
    ensure!(bound.contains("DHCPACK of 10.77.0.100 from 10.77.0.2"), "{bound}");
    let options = fs::read_to_string(folder.join("script.BOUND"))?;
    for option in [
        "new_routers=10.77.0.1\n",
        "new_domain_name=lab.example\n",
        "new_domain_name_servers=10.77.0.1 10.77.0.3\n",
        "new_interface_mtu=1400\n",
        "new_subnet_mask=255.255.255.0\n",
        "new_dhcp_lease_time=3600\n",
        "new_mystery=1:ff\n",
    ] {
        ensure!(options.contains(option), "{option} is not in\n{options}");
    }
    ensure!(row(&bench, &card)?.contains("10.77.0.100"), "{}", leases(&bench)?);
    // It starts anew with its lease on the disk: INIT-REBOOT.
    let stop = |flag: &str| ran(&host, DHCLIENT.file, &[&["-4", "-v", flag][..], &files].concat());
    stop("-x")?;
    let rebooted = text(&run_once(&[])?);
    ensure!(rebooted.contains("DHCPREQUEST for 10.77.0.100") && !rebooted.contains("DHCPDISCOVER"), "{rebooted}");
    // It gives the address back.
    let released = text(&stop("-r")?);
    ensure!(released.contains("DHCPRELEASE of 10.77.0.100 on eth1 to 10.77.0.2"), "{released}");
    bench.netbootd.wait_for_line(&format!("{card} gives back 10.77.0.100"), SOON)?;
    ensure!(row(&bench, &card)?.contains("released"), "{}", leases(&bench)?);
    host.ip(&["address", "flush", "dev", "eth1"])?;

    let udhcpc = ["-i", "eth1", "-n", "-q", "-f", "-t", "5", "-s", "/bin/true", "-V", "lab"];
    let leased = text(&ran(&host, "udhcpc", &udhcpc)?);
    ensure!(leased.contains("lease of 10.77.0.100 obtained from 10.77.0.2, lease time 3600"), "{leased}");
    let other_id = [&udhcpc[..], &["-x", "0x3d:00aabbccddee"]].concat();
    let leased = text(&ran(&host, "udhcpc", &other_id)?);
    ensure!(leased.contains("lease of 10.77.0.100 obtained"), "{leased}");

    let dhcpcd = ["-4", "-1", "-B", "-d", "-t", "20", "--noarp", "-c", "/bin/true", "-f", "/dev/null", "eth1"];
    let leased = text(&ran(&host, "dhcpcd", &dhcpcd)?);
    ensure!(leased.contains("leased 10.77.0.100 for 3600 seconds"), "{leased}");
    Ok(())
}

/// systemd-networkd gets the address that the same card had before, with an identifier of its own (a DUID), and gives it
/// back at its end. It sees a host of its own: no udev, and its files in a folder that only it has.
#[test]
fn systemd_networkd_gets_the_same_address() -> Result<()> {
    let Some(()) = required(&[&[Tool::new(NETWORKD, "systemd"), Tool::new("unshare", "util-linux")]]) else {
        return Ok(());
    };
    let Some(bench) = leasing(ALL)? else { return Ok(()) };
    let host = machine(&bench, "system")?;
    let card = card(&host)?;
    let before = text(&ran(&host, "udhcpc", &["-i", "eth1", "-n", "-q", "-f", "-t", "5", "-s", "/bin/true"])?);
    ensure!(before.contains("lease of 10.77.0.100 obtained"), "{before}");
    let script = format!(
        "mount --make-rprivate / && mount -o remount,bind,ro /sys && mkdir -p /run/systemd && \
         mount -t tmpfs -o mode=755 tmpfs /run/systemd && \
         mkdir -p /run/systemd/network /run/systemd/netif && chown systemd-network:systemd-network /run/systemd/netif && \
         printf '[Match]\\nName=eth1\\n[Network]\\nDHCP=ipv4\\nLinkLocalAddressing=no\\nIPv6AcceptRA=no\\n' \
         > /run/systemd/network/eth1.network && exec {NETWORKD}"
    );
    let mut unshare = host.command("unshare");
    unshare
        .args(["--mount", "sh", "-c", &script])
        .env("SYSTEMD_LOG_TARGET", "console")
        .env("SYSTEMD_LOG_LEVEL", "info");
    let mut networkd = Process::spawn("systemd-networkd", &mut unshare)?;
    networkd.wait_for_line("DHCPv4 address 10.77.0.100/24", PATIENCE)?;
    networkd.wait_for_line("acquired from 10.77.0.2", SOON)?;
    let addresses = host.ip(&["-4", "-o", "address", "show", "dev", "eth1"])?;
    ensure!(addresses.contains("10.77.0.100/24"), "{addresses}");
    networkd.signal(Signal::SIGTERM)?;
    networkd.wait_exit(SOON)?;
    bench.netbootd.wait_for_line(&format!("{card} gives back 10.77.0.100"), SOON)?;
    Ok(())
}

const NETWORKD: &str = "/lib/systemd/systemd-networkd";

/// A client that renews asks its server alone, by unicast, and is answered there.
#[test]
fn a_renewal_is_a_unicast_and_survives_a_restart_of_the_server() -> Result<()> {
    let Some(mut bench) = leasing("[lease]\nclients = \"all\"\nrange = \"10.77.0.60\"\n")? else {
        return Ok(());
    };
    let socket = bench.client_socket(68)?;
    ensure!(leased(&socket, 1, &[])? == at(60), "another address");
    bench.client.ip(&["address", "add", "10.77.0.60/24", "dev", "eth1"])?;
    let mut renewal = of_machine(1, request(REQUEST, 9, &[]));
    renewal[10] = 0;
    renewal[12..16].copy_from_slice(&at(60).octets());
    for _ in 0..2 {
        socket.send_to(&renewal, (SERVER, 67))?;
        let (ack, from) = next(&socket)?;
        ensure!(kind(&ack) == ACK && yiaddr(&ack) == at(60) && from == SocketAddr::from((SERVER, 67)), "{ack:02x?}");
        bench.netbootd.signal(Signal::SIGKILL)?;
        bench.netbootd.wait_exit(SOON)?;
        bench.netbootd = bench.again()?;
        bench.netbootd.wait_for_line(CLEAR, PATIENCE)?;
    }
    // REBINDING: everyone is asked.
    socket.send_to(&renewal, (Ipv4Addr::BROADCAST, 67))?;
    ensure!(kind(&next(&socket)?.0) == ACK, "not renewed");
    // Another machine that says that it has the address is refused by a broadcast.
    let other = of_machine(2, request(REQUEST, 10, &[(50, &at(60).octets())]));
    ensure!(kind(&asked(&socket, &other)?) == NAK, "not refused");
    // The range has one address.
    socket.send_to(&of_machine(2, request(DISCOVER, 11, BIOS)), (Ipv4Addr::BROADCAST, 67))?;
    bench.netbootd.wait_for_line("every address of eth1 (10.77.0.60) is in use: set a larger lease.range", SOON)?;
    let metrics = String::from_utf8(bench.curl(&[], "/metrics")?)?;
    ensure!(metrics.contains("netbootd_leases_full_total{network=\"eth1\"} 1"), "{metrics}");
    let page = String::from_utf8(bench.curl(&[], "/")?)?;
    ensure!(page.contains("every address of eth1"), "{page}");
    // It is given back, and the other machine has it.
    let mut release = about(RELEASE, 12, Ipv4Addr::UNSPECIFIED, &[]);
    release[12..16].copy_from_slice(&at(60).octets());
    bench.client.ip(&["address", "delete", "10.77.0.60/24", "dev", "eth1"])?;
    socket.send_to(&of_machine(1, release), (SERVER, 67))?;
    ensure!(leased(&socket, 2, BIOS)? == at(60), "another address");
    Ok(())
}

/// An address that somebody has without asking is passed over, and one that its machine declines too.
#[test]
fn a_taken_address_is_passed_over() -> Result<()> {
    let Some(bench) = leasing(ALL)? else { return Ok(()) };
    let _squatter = bench.lab.host("squatter", Some("10.77.0.100/24"))?;
    let socket = bench.client_socket(68)?;
    let began = Instant::now();
    ensure!(leased(&socket, 1, BIOS)? == at(101), "another address");
    ensure!(began.elapsed() < Duration::from_secs(2), "iPXE waits no longer than 2 s: {:?}", began.elapsed());
    bench.netbootd.wait_for_line("10.77.0.100 is in use by ", SOON)?;
    socket.send_to(&of_machine(1, about(DECLINE, 2, at(101), &[])), (Ipv4Addr::BROADCAST, 67))?;
    ensure!(leased(&socket, 1, BIOS)? == at(102), "another address");
    let table = leases(&bench)?;
    ensure!(table.matches(" taken ").count() == 2, "{table}");
    Ok(())
}

/// A request counts once, though many addresses are tried for it. Only the offer that is sent is reported.
#[test]
fn a_request_that_finds_many_addresses_taken_gets_one_offer() -> Result<()> {
    let Some(bench) = leasing("[lease]\nrange = \"10.77.0.100-10.77.0.140\"\n")? else { return Ok(()) };
    let squatter = bench.lab.host("squatter", Some("10.77.0.100/24"))?;
    for last in 101..=120 {
        squatter.ip(&["address", "add", &format!("{}/24", at(last)), "dev", "eth1"])?;
    }
    let socket = bench.client_socket(68)?;
    let offer = asked(&socket, &of_machine(1, request(DISCOVER, 1, BIOS)))?;
    ensure!((kind(&offer), yiaddr(&offer)) == (OFFER, at(121)), "{offer:02x?}");
    bench.netbootd.wait_for_line(", with the address 10.77.0.121", SOON)?;
    let offers = bench.netbootd.lines().into_iter().filter(|line| line.contains(", with the address "));
    let offers: Vec<_> = offers.collect();
    ensure!(offers.len() == 1, "{offers:#?}");
    Ok(())
}

#[test]
fn nmap_and_perfdhcp_are_served_and_a_crowd_of_a_thousand() -> Result<()> {
    let wide = "[lease]\nclients = \"all\"\nrange = \"10.77.4.0-10.77.15.255\"\n[dhcp]\nmax_rate_per_client = 1000\n";
    let Some(()) = required(&[CLIENTS]) else { return Ok(()) };
    let bench = Bench::prepared(&["eth1"], &[], wide, |_, host| {
        host.ip(&["address", "flush", "dev", "eth1"])?;
        host.ip(&["address", "add", "10.77.0.2/16", "broadcast", "+", "dev", "eth1"]).map(drop)
    })?;
    let Some(bench) = bench else { return Ok(()) };
    bench.netbootd.wait_for_line(CLEAR, PATIENCE)?;
    let found = text(&ran(&bench.client, "nmap", &["--script", "broadcast-dhcp-discover", "-e", "eth1"])?);
    ensure!(
        found.contains("Server Identifier: 10.77.0.2") && found.contains("DHCP Message Type: DHCPOFFER"),
        "{found}"
    );
    // 1,000 machines that go the whole way within two seconds.
    let perfdhcp = ["-4", "-l", "eth1", "-r", "500", "-R", "1000", "-n", "1000", "-W", "3000000", "-x", "i", "all"];
    let output = bench.client.command("timeout").arg("60").arg("/usr/sbin/perfdhcp").args(perfdhcp).output()?;
    let said = text(&output);
    // Discoveries, then requests. On a busy host perfdhcp sends a few more than it was told to, from its first machines again.
    let counts = |label: &str| -> Vec<u32> {
        said.lines().filter_map(|line| line.trim().strip_prefix(label)?.trim().parse().ok()).collect()
    };
    let (sent, received) = (counts("sent packets:"), counts("received packets:"));
    ensure!(sent == received && sent.len() == 2 && sent.iter().all(|&count| count >= 1000), "{said}");
    let table = leases(&bench)?;
    ensure!(table.matches("  leased  ").count() == 1000, "{} leases", table.matches("  leased  ").count());
    Ok(())
}

/// Whatever was confirmed is there after `kill -9`, and is given to nobody else.
#[test]
fn a_kill_under_500_leases_gives_no_address_twice() -> Result<()> {
    let wide = "[lease]\nclients = \"all\"\nrange = \"10.77.0.60-10.77.0.69\"\ntime = \"1h\"\n\
                [dhcp]\nmax_rate_per_client = 1000\n";
    let wide = wide.replace("10.77.0.60-10.77.0.69", "10.77.4.0-10.77.7.255");
    let bench = Bench::prepared(&["eth1"], &[], &wide, |_, host| {
        host.ip(&["address", "flush", "dev", "eth1"])?;
        host.ip(&["address", "add", "10.77.0.2/16", "broadcast", "+", "dev", "eth1"]).map(drop)
    })?;
    let Some(mut bench) = bench else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let mut given = std::collections::HashMap::new();
    for round in 0..2_u32 {
        bench.netbootd.wait_for_line(CLEAR, PATIENCE)?;
        // 250 machines ask at once, and the server dies while it confirms.
        let machines = 1 + 250 * round..251 + 250 * round;
        let mut waiting: BTreeSet<u32> = machines.collect();
        let ask_all = |waiting: &BTreeSet<u32>| {
            waiting.iter().try_for_each(|machine| {
                let discover = of_machine(*machine, request(DISCOVER, *machine, &[]));
                socket.send_to(&discover, (Ipv4Addr::BROADCAST, 67)).map(drop)
            })
        };
        ask_all(&waiting)?;
        let (mut confirmed, mut again) = (0, 0);
        while confirmed < 200 {
            let Ok((message, _)) = next(&socket) else {
                // On a busy host some are lost, and a client asks again.
                again += 1;
                ensure!(again < 5, "only {confirmed} leases");
                ask_all(&waiting)?;
                continue;
            };
            let xid = u32::from_be_bytes(message[4..8].try_into()?);
            let address = yiaddr(&message);
            match kind(&message) {
                OFFER => {
                    let accepted = of_machine(xid, about(REQUEST, xid, address, &[]));
                    socket.send_to(&accepted, (Ipv4Addr::BROADCAST, 67))?;
                }
                ACK => {
                    confirmed += u32::from(waiting.remove(&xid));
                    let before = given.insert(address, xid);
                    ensure!(before.is_none_or(|before| before == xid), "{address} is of {before:?} and of {xid}");
                }
                other => anyhow::bail!("a message of type {other}"),
            }
        }
        bench.netbootd.signal(Signal::SIGKILL)?;
        bench.netbootd.wait_exit(SOON)?;
        // What is still on its way was confirmed too.
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        while let Ok((message, _)) = next(&socket) {
            if kind(&message) == ACK {
                let xid = u32::from_be_bytes(message[4..8].try_into()?);
                let before = given.insert(yiaddr(&message), xid);
                ensure!(before.is_none_or(|before| before == xid), "given twice");
            }
        }
        socket.set_read_timeout(Some(SOON))?;
        bench.netbootd = bench.again()?;
    }
    bench.netbootd.wait_for_line(CLEAR, PATIENCE)?;
    let count = given.len();
    ensure!(count >= 400, "only {count} leases");
    // Each of them is still its machine's.
    for (address, machine) in &given {
        let again = of_machine(*machine, request(REQUEST, *machine, &[(50, &address.octets())]));
        let answer = asked(&socket, &again).or_else(|_| asked(&socket, &again)).context("the lease is lost")?;
        ensure!(kind(&answer) == ACK && yiaddr(&answer) == *address, "{address}, of {machine}: {answer:02x?}");
    }
    Ok(())
}
