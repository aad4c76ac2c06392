//! TFTP as boot ROMs, boot programs and DHCP servers in the field use it: names with bytes behind them, in any case, one
//! name for everybody, machines that are switched off in mid-transfer, and clients that pause.

use std::{
    fs,
    os::unix::fs::symlink,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Signal, receive};

use crate::{
    bench::{Bench, CLIENT, SERVER, SOON, file},
    dhcp::request,
    field::until,
    tftp::Client,
};

const UNDIONLY: &str = "/usr/lib/ipxe/undionly.kpxe";
const SNPONLY: &str = "/usr/lib/ipxe/snponly.efi";
/// The options of iPXE's request, and of EDK2's for the file.
const IPXE: &str = "blksize\x001432\0tsize\x000\0";
const EDK2: &str = "blksize\x001468\0windowsize\x004\0";

fn client(bench: &Bench) -> Result<Client> {
    Ok(Client { socket: bench.client_socket(0)? })
}

fn rrq(name: &[u8], options: &str) -> Vec<u8> {
    [b"\0\x01", name, b"\0octet\0", options.as_bytes()].concat()
}

/// A whole file, fetched in lock-step without options.
fn fetch(bench: &Bench, name: &[u8]) -> Result<Vec<u8>> {
    let client = client(bench)?;
    let (first, from) = client.read(&rrq(name, ""))?;
    client.rest(first, from, 512).with_context(|| format!("fetching {}", name.escape_ascii()))
}

/// A whole file, fetched with options that the server grants as they are, but for the window, of one block.
fn fetch_with(bench: &Bench, name: &str, options: &str, block_size: usize) -> Result<Vec<u8>> {
    let client = client(bench)?;
    let (oack, from) = client.read(&rrq(name.as_bytes(), options))?;
    ensure!(oack.starts_with(&[0, 6]), "no OACK: {}", oack.escape_ascii());
    client.socket.send_to(&[0, 4, 0, 0], from)?;
    let (first, from) = client.packet()?;
    client.rest(first, from, block_size)
}

/// What Kea, pfSense and Fedora's dhcpd lead ROMs of Lenovo, Kontron and Gigabyte to, which read on behind option 67.
#[test]
fn a_name_with_what_a_rom_read_behind_it_is_served() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    fs::create_dir(bench.assets.join("boot"))?;
    fs::write(bench.assets.join("boot/shimx64.efi"), "a shim")?;
    fs::write(bench.assets.join("two words"), "kept whole")?;
    for name in [
        b"undionly.kpxe\xff".as_slice(),
        b"undionly.kpxe\r\n",
        b"undionly.kpxe ",
        b"boot\\undionly.kpxe\xfe\xff\x80",
        b"undionly.kpxe\x96\x04\x0a",
        b"undionly.kpxe<\x09PXEClient\xff",
    ] {
        ensure!(fetch(&bench, name)? == file(UNDIONLY)?, "{}", name.escape_ascii());
    }
    for name in [b"boot/shimx64.efi\xff".as_slice(), b"\\Boot\\ShimX64.efi\xff", b"boot/shimx64.efi\n"] {
        ensure!(fetch(&bench, name)? == b"a shim", "{}", name.escape_ascii());
    }
    ensure!(fetch(&bench, b"two words")? == b"kept whole" && fetch(&bench, b"two words\xff")? == b"kept whole");
    ensure!(bench.curl(&[], "/assets/boot/shimx64.efi%FF")? == b"a shim", "by HTTP");
    ensure!(bench.curl(&[], "/loaders/undionly.kpxe%0d")? == file(UNDIONLY)?, "by HTTP");
    bench.netbootd.wait_for_line("undionly.kpxe, 7", SOON)?;

    // A name that is nowhere stays ERROR 1, with the fix on the screen and in the log.
    let (refusal, _) = client(&bench)?.read(&rrq(b"nothing\xff", ""))?;
    let fix = "there is no file nothing\\xff: the name ends in bytes that do not belong to it; on the DHCP server, end \
               option 67 with a NUL byte, or name the file in the header's boot file field";
    ensure!(refusal == [b"\0\x05\0\x01", fix.as_bytes(), b"\0"].concat(), "{}", refusal.escape_ascii());
    bench.netbootd.wait_for_line(fix, SOON)?;
    let (refusal, _) = client(&bench)?.read(&rrq(b"nothing", ""))?;
    ensure!(refusal == b"\0\x05\0\x01there is no file nothing\0", "{}", refusal.escape_ascii());
    Ok(())
}

#[test]
fn a_malformed_request_is_told_with_its_fix() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let (refusal, _) = client(&bench)?.read(b"\0\x01\0octet\0")?;
    ensure!(refusal == b"\0\x05\0\x04malformed TFTP request: RRQ without a name\0", "{}", refusal.escape_ascii());
    let line =
        "malformed TFTP request: RRQ without a name; if a DHCP server names the boot file, let it send a complete name";
    bench.netbootd.wait_for_line(line, SOON)?;
    Ok(())
}

/// A shim asks for the second stage beside itself: with Secure Boot it takes the signed one only.
#[test]
fn a_file_of_the_users_own_goes_before_a_distributions_loader_by_tftp_and_http() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    for name in ["sb/snponly.efi", "custom/ipxe.efi"] {
        let path = bench.assets.join(name);
        fs::create_dir(path.parent().context("a folder")?)?;
        fs::write(path, format!("own {name}"))?;
    }
    let server = SERVER.to_string();
    for (asked, own) in [
        ("sb/snponly.efi", "sb/snponly.efi"),
        ("\\custom\\IPXE.efi", "custom/ipxe.efi"),
        ("//sb/snponly.efi", "sb/snponly.efi"),
    ] {
        let expected = format!("own {own}").into_bytes();
        bench.run("atftp", &["--get", "--remote-file", asked, "--local-file", "own", &server])?;
        ensure!(file(bench.lab.directory().join("own"))? == expected, "atftp: {asked}");
        ensure!(fetch(&bench, asked.as_bytes())? == expected, "{asked}");
        ensure!(bench.curl(&[], &format!("/assets/{}", asked.replace('\\', "%5C")))? == expected, "by HTTP: {asked}");
    }
    for other in ["snponly.efi", "boot/snponly.efi", "\\EFI\\BOOT\\SNPONLY.EFI"] {
        ensure!(fetch(&bench, other.as_bytes())? == file(SNPONLY)?, "{other}");
    }
    ensure!(bench.curl(&[], "/loaders/snponly.efi")? == file(SNPONLY)?, "by HTTP");
    ensure!(bench.curl(&[], "/loaders/sb/snponly.efi")? == b"own sb/snponly.efi", "by HTTP");
    ensure!(bench.curl(&[], "/assets/boot/snponly.efi")? == file(SNPONLY)?, "by HTTP");
    // One that takes the loader's place altogether.
    fs::write(bench.assets.join("snponly.efi"), "own")?;
    ensure!(fetch(&bench, b"snponly.efi")? == b"own" && bench.curl(&[], "/loaders/snponly.efi")? == b"own");
    Ok(())
}

/// Boot programs of Windows and VMware.
#[test]
fn a_path_in_another_case_is_served_where_it_is_the_only_one() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    for (name, text) in [("boot/bcd", "windows"), ("EFI/Boot/crypto64.efi", "vmware"), ("two/K", "1"), ("two/k", "2")] {
        let path = bench.assets.join(name);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, text)?;
    }
    symlink(bench.lab.directory().join("secret"), bench.assets.join("Outside"))?;
    for (asked, text) in
        [("\\Boot\\BCD", "windows"), ("efi\\boot\\CRYPTO64.EFI", "vmware"), ("TWO/K", "1"), ("two/k", "2")]
    {
        ensure!(fetch(&bench, asked.as_bytes())? == text.as_bytes(), "{asked}");
        ensure!(bench.curl(&[], &format!("/assets/{}", asked.replace('\\', "/")))? == text.as_bytes(), "{asked}");
    }
    for nowhere in ["OUTSIDE", "TWO/nothing", "boot/bcd/", "two/../../SECRET"] {
        let (refusal, _) = client(&bench)?.read(&rrq(nowhere.as_bytes(), ""))?;
        ensure!(refusal.starts_with(&[0, 5, 0]), "{nowhere}: {}", refusal.escape_ascii());
    }
    bench.netbootd.wait_for_line("boot/bcd, 7 B in", SOON)?;
    Ok(())
}

/// Behind a router that translates addresses, or in containers.
#[test]
fn twenty_clients_behind_one_address_are_served_at_once() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let clients: Vec<Client> = (0..20).map(|_| client(&bench)).collect::<Result<_>>()?;
    let mut began = Vec::new();
    for client in &clients {
        let (first, from) = client.read(&rrq(b"snponly.efi", ""))?;
        ensure!(first.starts_with(&[0, 3, 0, 1]), "{}", first.escape_ascii());
        began.push((first, from));
    }
    let expected = file(SNPONLY)?;
    thread::scope(|scope| {
        let fetching =
            clients.iter().zip(began).map(|(client, (first, from))| scope.spawn(move || client.rest(first, from, 512)));
        let fetching: Vec<_> = fetching.collect();
        for fetched in fetching {
            ensure!(fetched.join().expect("no panic")? == expected, "other bytes");
        }
        Ok(())
    })
}

#[test]
fn a_machine_that_is_switched_off_and_on_ten_times_is_served_at_once() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let mut left = Vec::new();
    for start in 0..10 {
        let client = client(&bench)?;
        let began = Instant::now();
        let (first, from) = client.read(&rrq(b"vmlinuz", ""))?;
        ensure!(first.starts_with(&[0, 3, 0, 1]), "start {start}: {}", first.escape_ascii());
        ensure!(began.elapsed() < Duration::from_secs(1), "start {start} took {:?}", began.elapsed());
        client.socket.send_to(&[0, 4, 0, 1], from)?;
        ensure!(client.packet()?.0.starts_with(&[0, 3, 0, 2]));
        left.push(client);
    }
    ensure!(fetch(&bench, b"snponly.efi")? == file(SNPONLY)?, "the eleventh start");
    Ok(())
}

/// It erases flash, or somebody looks at a prompt.
#[test]
fn a_client_that_pauses_40_s_gets_the_rest() -> Result<()> {
    pauses("")
}

#[test]
fn a_client_that_pauses_40_s_gets_the_rest_from_the_one_port_too() -> Result<()> {
    pauses("[tftp]\nsingle_port = true\n")
}

fn pauses(configuration: &str) -> Result<()> {
    let Some(bench) = Bench::with_configuration(configuration)? else { return Ok(()) };
    let client = client(&bench)?;
    let (mut packet, from) = client.read(&rrq(b"snponly.efi", ""))?;
    let mut start = Vec::new();
    for block in 1..=40u8 {
        ensure!(packet[..4] == [0, 3, 0, block], "block {block}: {:?}", &packet[..4]);
        start.extend_from_slice(&packet[4..]);
        client.socket.send_to(&[0, 4, 0, block], from)?;
        packet = client.packet()?.0;
    }
    thread::sleep(Duration::from_secs(40));
    // What was sent again meanwhile, as a client's socket that nobody reads has it.
    client.socket.set_nonblocking(true)?;
    while client.socket.recv(&mut [0; 600]).is_ok() {}
    client.socket.set_nonblocking(false)?;
    start.extend_from_slice(&packet[4..]);
    client.socket.send_to(&[0, 4, 0, 41], from)?;
    let back = Instant::now();
    let (next, sender) = client.packet()?;
    ensure!(sender == from && next.starts_with(&[0, 3, 0, 42]), "{sender}: {:?}", &next[..4.min(next.len())]);
    ensure!(back.elapsed() < Duration::from_secs(1), "answered only after {:?}", back.elapsed());
    ensure!([start, client.rest(next, from, 512)?].concat() == file(SNPONLY)?, "other bytes");
    bench.netbootd.wait_for_line("snponly.efi: no progress for 1", SOON)?;
    bench.netbootd.wait_for_line("snponly.efi, 173.8 kB in 4", SOON)?;
    Ok(())
}

/// A transfer that runs alone has a thread of its own, which has to know why it ends.
#[test]
fn a_server_that_stops_says_that_the_client_of_its_only_transfer_was_silent() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let client = client(&bench)?;
    let (_, from) = client.read(&rrq(b"vmlinuz", ""))?;
    for block in 1..=40 {
        client.socket.send_to(&[0, 4, 0, block], from)?;
        client.packet()?;
    }
    bench.netbootd.signal(Signal::SIGTERM)?;
    let silent = "vmlinuz: stopped at 20.5 kB of 3.0 MB: the client stopped answering after block 40";
    bench.netbootd.wait_for_line(silent, 3 * SOON).map(drop)
}

/// A client should ask again at once, and not repeat its ACK until its own patience ends.
#[test]
fn an_ack_to_a_transfer_that_is_over_gets_an_error() -> Result<()> {
    let over = b"\0\x05\0\x05this transfer has ended: ask for the file again\0";
    let Some(mut bench) = Bench::with_configuration("[tftp]\nmax_transfers = 1\n")? else { return Ok(()) };
    let (first, second) = (client(&bench)?, client(&bench)?);
    let (_, from) = first.read(&rrq(b"vmlinuz", ""))?;
    first.socket.send_to(&[0, 4, 0, 1], from)?;
    first.packet()?;
    let (refusal, _) = second.read(&rrq(b"snponly.efi", ""))?;
    ensure!(refusal == b"\0\x05\0\0too many transfers at once (in total): try again\0", "{}", refusal.escape_ascii());
    // It is silent now, and the only one that can go.
    let began = Instant::now();
    let (packet, served_from) = loop {
        let (packet, from) = second.read(&rrq(b"snponly.efi", ""))?;
        if packet.starts_with(&[0, 3]) {
            break (packet, from);
        }
        ensure!(began.elapsed() < Duration::from_secs(30), "nobody makes room");
        thread::sleep(Duration::from_millis(500));
    };
    while first.stray(Duration::from_millis(200))?.is_some() {}
    first.socket.send_to(&[0, 4, 0, 2], from)?;
    let (error, sender) = first.packet()?;
    ensure!(error == over && sender == from, "{} from {sender}", error.escape_ascii());
    first.socket.send_to(b"\0\x05\0\x05no, yours\0", from)?;
    let stray = first.stray(Duration::from_millis(300))?;
    ensure!(stray.is_none(), "an error is not answered: {stray:?}");
    ensure!(second.rest(packet, served_from, 512)? == file(SNPONLY)?, "other bytes");

    // A server that was started again knows no transfer at all.
    fs::write(bench.lab.directory().join("netbootd.toml"), "[tftp]\nsingle_port = true\n")?;
    drop(bench.netbootd);
    bench.netbootd = again(&bench.lab, &bench.server)?;
    first.socket.send_to(&[0, 4, 0, 7], (SERVER, 69))?;
    let (error, _) = first.packet()?;
    ensure!(error == over, "{}", error.escape_ascii());
    // A late copy of the last ACK is no question, and its answer could meet the next request of the same port.
    let whole = {
        let (packet, from) = second.read(&rrq(b"snponly.efi", ""))?;
        second.rest(packet, from, 512)?
    };
    ensure!(whole == file(SNPONLY)?, "other bytes");
    second.socket.send_to(&[0, 4, 1, 0x54], (SERVER, 69))?;
    let stray = second.stray(Duration::from_millis(300))?;
    ensure!(stray.is_none(), "{stray:?}");
    Ok(())
}

fn again(lab: &netbootd_lab::Lab, server: &netbootd_lab::Host) -> Result<netbootd_lab::Process> {
    let mut command = crate::bench::daemon(server);
    command.args(["up", "--interface", "eth1", "--config"]).arg(lab.directory().join("netbootd.toml"));
    command.arg("--assets").arg(lab.directory().join("assets"));
    let netbootd = netbootd_lab::Process::spawn("netbootd", &mut command)?;
    netbootd.wait_for_line("waiting on ", crate::bench::START)?;
    Ok(netbootd)
}

#[test]
fn odd_options_are_answered_as_the_rfcs_say() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    for (options, answer) in [
        ("blksize\x0065465\0", Some("blksize\x001468\0")),
        ("blksize\x0099999999999999999999999\0windowsize\x0065536\0", Some("blksize\x001468\0windowsize\x0064\0")),
        ("blksize\x001468\0blksize\x00512\0tsize\x0099\0", Some("tsize\x00173792\0blksize\x001468\0")),
        ("multicast\0\0utimeout\x009\0BLKSIZE\x001024\0", Some("blksize\x001024\0")),
        ("timeout\x00256\0timeout\x003\0tsize\x000\0", Some("tsize\x00173792\0")),
        ("timeout\x00255\0", Some("timeout\x00255\0")),
        ("blksize\x007\0", None),
        ("blksize\x000\0windowsize\x000\0timeout\x000\0", None),
        ("blksize\0-512\0windowsize\0-1\0timeout\0-1\0", None),
        ("blksize\0\0windowsize\0many\0", None),
        ("blksize\0", None),
        ("\0\0\0\0", None),
    ] {
        let client = client(&bench)?;
        let (packet, from) = client.read(&rrq(b"snponly.efi", options))?;
        let (told, shown) = (options.escape_debug(), packet[..packet.len().min(60)].escape_ascii());
        match answer {
            Some(answer) => ensure!(packet == [b"\0\x06", answer.as_bytes()].concat(), "{told}: {shown}"),
            None => ensure!(packet.starts_with(&[0, 3, 0, 1]) && packet.len() == 516, "{told}: {shown}"),
        }
        client.socket.send_to(b"\0\x05\0\0done\0", from)?;
    }
    Ok(())
}

/// Where a home router or UniFi names one file for everybody, the iPXE that comes of it asks for that file again.
#[test]
fn an_ipxe_that_would_load_itself_again_gets_the_script() -> Result<()> {
    let Some(bench) = Bench::with_configuration("[dhcp]\nenabled = false\n")? else { return Ok(()) };
    let script = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.starts_with("#!ipxe\n") && text.contains("http://10.77.0.2:8080/boot.ipxe?mac=${netX/mac}")
    };
    ensure!(fetch(&bench, b"undionly.kpxe")? == file(UNDIONLY)?, "a ROM");
    ensure!(fetch_with(&bench, "snponly.efi", "blksize\x001468\0", 1468)? == file(SNPONLY)?, "UEFI");
    for name in ["undionly.kpxe", "snponly.efi", "boot/undionly.kpxe", "undionly.kpxe"] {
        ensure!(script(&fetch_with(&bench, name, IPXE, 1432)?), "{name}");
    }
    bench.netbootd.wait_for_line("undionly.kpxe (script for iPXE)", SOON)?;
    for _ in 0..4 {
        ensure!(fetch(&bench, b"undionly.kpxe")? == file(UNDIONLY)?, "the next machine's ROM");
    }
    ensure!(fetch_with(&bench, "vmlinuz", IPXE, 1432)?.len() == 3_000_000, "a file is a file");

    // A loader of the user's own may be what an iPXE was sent to; asked for once more, it has led back here.
    fs::create_dir(bench.assets.join("own"))?;
    fs::write(bench.assets.join("own/ipxe.efi"), "an iPXE of one's own")?;
    ensure!(fetch_with(&bench, "own/ipxe.efi", IPXE, 1432)? == b"an iPXE of one's own");
    // No iPXE comes back sooner.
    thread::sleep(Duration::from_millis(2100));
    ensure!(script(&fetch_with(&bench, "own/ipxe.efi", IPXE, 1432)?));
    // What may be a ROM gets the loader first, and the script in its turn only.
    let doubtful = "tsize\x000\0blksize\x001432\0";
    for turn in [false, false, true, false] {
        thread::sleep(Duration::from_millis(2100));
        let got = fetch_with(&bench, "undionly.kpxe", doubtful, 1432)?;
        ensure!(if turn { script(&got) } else { got == file(UNDIONLY)? }, "{turn}");
    }
    Ok(())
}

#[test]
fn one_name_is_the_loader_for_whoever_asks() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let (bios, efi) = (file(UNDIONLY)?, file(SNPONLY)?);
    ensure!(fetch(&bench, b"netboot")? == bios, "no options, as old ROMs send");
    ensure!(fetch_with(&bench, "netboot", "blksize\x001456\0", 1456)? == bios, "Intel's ROM");
    ensure!(fetch_with(&bench, "netboot", "blksize\x001468\0", 1468)? == efi, "EDK2");
    ensure!(fetch_with(&bench, "netboot", IPXE, 1432)?.starts_with(b"#!ipxe\n"), "iPXE");
    let (oack, _) = client(&bench)?.read(&rrq(b"\\boot\\NETBOOT\xff", &format!("tsize\x000\0{EDK2}")))?;
    let size = format!("\0\x06tsize\x00{}\0{EDK2}", efi.len());
    ensure!(oack == size.as_bytes(), "{}", oack.escape_ascii());
    let (refusal, _) = client(&bench)?.read(&rrq(b"netboot", "timeout\x005\0tsize\x000\0blksize\x001468\0"))?;
    ensure!(refusal.starts_with(b"\0\x05\0\x01no UEFI arm64 loader was found"), "{}", refusal.escape_ascii());

    // What its firmware says by DHCP goes before what the request looks like.
    let socket = bench.client_socket(68)?;
    let mut inform = request(8, 1, &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])]);
    inform[12..16].copy_from_slice(&CLIENT.octets());
    inform[10] = 0;
    socket.send_to(&inform, (SERVER, 67))?;
    receive(&socket, &mut [0; 1500])?;
    ensure!(fetch_with(&bench, "netboot", "blksize\x001468\0", 1468)? == bios, "a BIOS by DHCP");
    // Also where it gets no offer: a UEFI i386 without a loader here, and the firmware of s390, which sends no option 60.
    let i386: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00006:UNDI:003016"), (93, &[0, 6])];
    let s390: &[(u8, &[u8])] = &[(55, &[1, 3, 6, 66, 67, 93, 209, 210]), (93, &[0, 31])];
    for (kind, options, expected) in [(8, i386, "no UEFI i386 loader was found"), (3, s390, "there is no network boot")]
    {
        let mut asked = request(kind, 1, options);
        asked[12..16].copy_from_slice(&CLIENT.octets());
        socket.send_to(&asked, (SERVER, 67))?;
        until(expected, || {
            let (refusal, _) = client(&bench)?.read(&rrq(b"netboot", EDK2))?;
            Ok(refusal.starts_with(format!("\0\x05\0\x01{expected}").as_bytes()))
        })?;
    }
    // And a file of that name is what it says.
    fs::write(bench.assets.join("netboot"), "own")?;
    ensure!(fetch(&bench, b"netboot")? == b"own");
    Ok(())
}
