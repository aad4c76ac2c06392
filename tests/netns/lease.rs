//! Leases of our own, to real clients and to sockets that play firmware, on a network without a DHCP server.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Output,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{DHCLIENT, Host, Lab, LeaseServer, Process, Relay, Signal, Tool, required};

use crate::{
    bench::{Bench, SERVER, SOON, daemon},
    beside::dnsmasq,
    dhcp::{ACK, BIOS, DISCOVER, IPXE, MAC, OFFER, REQUEST, UUID, next, of_machine, reply, request},
};

/// All clients, and one that boots, in ten addresses.
const ALL: &str = "[lease]\nclients = \"all\"\nrange = \"10.77.0.100-10.77.0.109\"\ndomain = \"lab.example\"\n\
                   router = \"10.77.0.1\"\ndns = [\"10.77.0.1\", \"10.77.0.3\"]\noptions = { mtu = 1400, 224 = \"hex:01ff\" }\n";
const BOOT: &str = "[lease]\nrange = \"10.77.0.100-10.77.0.109\"\n";
const NAK: u8 = 6;
const DECLINE: u8 = 4;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;
/// Until it is known that no other server answers.
const CLEAR: &str = "no other DHCP server answers on eth1: addresses are leased";
const PATIENCE: Duration = Duration::from_secs(30);

const CLIENTS: &[Tool] = &[
    DHCLIENT,
    Tool::new("dhcpcd", "dhcpcd-base"),
    Tool::new("udhcpc", "udhcpc"),
    Tool::new("nmap", "nmap"),
    Tool::new("/usr/sbin/perfdhcp", "kea-admin"),
];

/// netbootd that leases, once it does.
fn leasing(configuration: &str) -> Result<Option<Bench>> {
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

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

/// A message about an address of ours.
fn about(kind: u8, xid: u32, address: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    request(kind, xid, &[options, &[(54, &SERVER.octets()), (50, &address.octets())]].concat())
}

fn asked(socket: &UdpSocket, message: &[u8]) -> Result<Vec<u8>> {
    socket.send_to(message, (Ipv4Addr::BROADCAST, 67))?;
    Ok(next(socket)?.0)
}

/// The lease of a machine that goes the whole way.
fn leased(socket: &UdpSocket, machine: u32, client: &[(u8, &[u8])]) -> Result<Ipv4Addr> {
    let offer = asked(socket, &of_machine(machine, request(DISCOVER, machine, client)))?;
    ensure!(kind(&offer) == OFFER, "{offer:02x?}");
    let ack = asked(socket, &of_machine(machine, about(REQUEST, machine, yiaddr(&offer), client)))?;
    ensure!(kind(&ack) == ACK && yiaddr(&ack) == yiaddr(&offer), "{ack:02x?}");
    Ok(yiaddr(&ack))
}

fn leases(bench: &Bench) -> Result<String> {
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

/// A host without an address, as a machine is before its system asks.
fn machine(bench: &Bench, name: &str) -> Result<Host> {
    bench.lab.host(name, None)
}

/// Runs a client on a host until it ends; what it printed on both outputs.
fn ran(host: &Host, program: &str, arguments: &[&str]) -> Result<Output> {
    let output = host.command("timeout").args(["60", program]).args(arguments).output()?;
    let words = || [output.stdout.clone(), output.stderr.clone()].concat();
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&words()));
    Ok(output)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// What a host's card is.
fn card(host: &Host) -> Result<String> {
    let shown = host.ip(&["-o", "link", "show", "eth1"])?;
    let words: Vec<&str> = shown.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "link/ether").context("no card")?;
    Ok(words[at + 1].to_owned())
}

/// The row of `netbootd leases` about a machine.
fn row(bench: &Bench, card: &str) -> Result<String> {
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
