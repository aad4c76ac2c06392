//! TFTP where the network or the others on it do their worst: loss, delay, doubled and late packets, a path that
//! drops large ones, NAT, a flood of forged requests.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netbootd_lab::{
    Tool, receive, required,
    tftp_crowd::{Fetch, crowd},
    weather::Weather,
};

use crate::bench::{Bench, CLIENT, SERVER, SOON, file, noise};

/// The client's port of the switch: the second host of a bench.
const CLIENT_PORT: &str = "port1";

#[test]
fn real_clients_fetch_every_byte_in_foul_weather() -> Result<()> {
    let Some(()) = required(&[&[Tool::new("busybox", "busybox-static")]]) else { return Ok(()) };
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let foul = Weather { lost: 20, doubled: 20, late: 20, delay: Duration::from_millis(1), ..Weather::FAIR };
    let _cable = foul.over(&bench.lab, CLIENT_PORT)?;
    every_client_fetches(&bench)
}

/// A rack that is switched on together, on a cable that loses one frame in a hundred: all are right, and nobody waits
/// much longer than the others.
#[test]
fn five_hundred_clients_at_once_lose_packets_and_nobody_is_left_behind() -> Result<()> {
    let settings = "[tftp]\nmax_transfers = 500\nmax_transfers_per_client = 500\n";
    let Some(bench) = Bench::with_configuration(settings)? else { return Ok(()) };
    let _cable = Weather { lost: 10, ..Weather::FAIR }.over(&bench.lab, CLIENT_PORT)?;
    let expected = Arc::new(file("/usr/lib/ipxe/snponly.efi")?);
    let fetch = Fetch { name: "snponly.efi", expected, block_size: 1468, window: 1 };
    let outcomes = bench.client.enter(|| crowd([CLIENT; 500].into_iter(), &fetch, SERVER))??;
    let mut took = outcomes.into_iter().collect::<Result<Vec<Duration>>>()?;
    took.sort_unstable();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    ensure!(took.len() == 500 && slowest < median * 10, "median {median:?}, slowest {slowest:?}");
    Ok(())
}

#[test]
fn one_port_serves_every_client() -> Result<()> {
    let Some(()) = required(&[&[Tool::new("busybox", "busybox-static")]]) else { return Ok(()) };
    let Some(bench) = Bench::with_configuration("[tftp]\nsingle_port = true\n")? else { return Ok(()) };
    every_client_fetches(&bench)?;
    let (client, other) = (bench.client_socket(0)?, bench.client_socket(0)?);
    for socket in [&client, &other] {
        let (first, from) = ask(socket, b"\0\x01vmlinuz\0octet\0")?;
        ensure!(first.starts_with(&[0, 3, 0, 1]) && from.port() == 69, "{} from {from}", first.len());
    }
    // Two at once, each with its own place in the file.
    client.send_to(&[0, 4, 0, 1], (SERVER, 69))?;
    ensure!(packet(&client)?.0.starts_with(&[0, 3, 0, 2]), "the first client's transfer is another one");
    other.send_to(b"\0\x05\0\0done\0", (SERVER, 69))?;
    client.send_to(&[0, 4], (SERVER, 69))?;
    client.send_to(&[0, 4, 0, 2], (SERVER, 69))?;
    ensure!(
        packet(&client)?.0.starts_with(&[0, 3, 0, 3]),
        "another client's ERROR or a cut-off ACK ended the transfer"
    );
    Ok(())
}

#[test]
fn one_port_is_there_again_with_its_address_though_a_transfer_was_running() -> Result<()> {
    let Some(bench) = Bench::with_configuration("[tftp]\nsingle_port = true\n")? else { return Ok(()) };
    let client = bench.client_socket(0)?;
    ask(&client, b"\0\x01vmlinuz\0octet\0")?;
    client.send_to(&[0, 4, 0, 1], (SERVER, 69))?;
    packet(&client)?;
    bench.server.ip(&["address", "delete", "10.77.0.2/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 no longer has 10.77.0.2", SOON)?;
    bench.netbootd.wait_for_line("the address of this server is gone", SOON)?;
    bench.server.ip(&["address", "add", "10.77.0.2/24", "dev", "eth1"])?;
    bench.netbootd.wait_for_line("eth1 has 10.77.0.2 now", SOON)?;
    let (first, from) = ask(&bench.client_socket(0)?, b"\0\x01vmlinuz\0octet\0")?;
    ensure!(first.starts_with(&[0, 3, 0, 1]) && from.port() == 69, "{} from {from}", first.len());
    Ok(())
}

#[test]
fn transfers_are_answered_from_the_ports_that_a_firewall_lets_through() -> Result<()> {
    let Some(bench) = Bench::with_configuration("[tftp]\ntransfer_ports = \"50000-50001\"\n")? else { return Ok(()) };
    let clients: Vec<UdpSocket> = (0..3).map(|_| bench.client_socket(0)).collect::<Result<_>>()?;
    let mut ports = Vec::new();
    for client in &clients[..2] {
        ports.push(ask(client, b"\0\x01vmlinuz\0octet\0")?.1.port());
    }
    ports.sort_unstable();
    ensure!(ports == [50_000, 50_001], "{ports:?}");
    let (refusal, _) = ask(&clients[2], b"\0\x01vmlinuz\0octet\0")?;
    ensure!(refusal.starts_with(&[0, 5]), "a third one has no port");
    Ok(())
}

/// atftp in lock-step and with windows, tftp-hpa, curl and busybox fetch a loader.
fn every_client_fetches(bench: &Bench) -> Result<()> {
    let server = SERVER.to_string();
    let expected = file("/usr/lib/ipxe/snponly.efi")?;
    for (name, options) in [("lock-step", &["blksize 1468"][..]), ("windows", &["blksize 1468", "windowsize 16"])] {
        let options: Vec<&str> = options.iter().flat_map(|option| ["--option", option]).collect();
        let fetch = ["--get", "--remote-file", "snponly.efi", "--local-file", name, &server];
        atftp(bench, &[options.as_slice(), &fetch].concat())?;
    }
    bench.run("tftp", &["-m", "binary", &server, "-c", "get", "snponly.efi", "hpa"])?;
    bench.run("busybox", &["tftp", "-g", "-b", "1468", "-r", "snponly.efi", "-l", "busybox", &server])?;
    for name in ["lock-step", "windows", "hpa", "busybox"] {
        ensure!(file(bench.lab.directory().join(name))? == expected, "{name} got other bytes");
    }
    let url = format!("tftp://{SERVER}/snponly.efi");
    ensure!(bench.run("curl", &["-sS", "--max-time", "60", &url])? == expected, "curl got other bytes");
    Ok(())
}

#[test]
fn a_path_that_drops_large_packets_is_offered_smaller_ones() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let _cable = Weather { longest: 1200, ..Weather::FAIR }.over(&bench.lab, CLIENT_PORT)?;
    let began = Instant::now();
    loop {
        // Firmware that had no first block asks again, from its next port.
        let client = bench.client_socket(0)?;
        let (oack, from) = ask(&client, b"\0\x01vmlinuz\0octet\0blksize\x001468\0")?;
        client.send_to(&[0, 4, 0, 0], from)?;
        if oack == b"\0\x06blksize\x001024\0" {
            let (first, _) = packet(&client)?;
            ensure!(first.len() == 1028 && first[4..] == noise(1024, 1), "{} bytes", first.len());
            return Ok(());
        }
        ensure!(oack == b"\0\x06blksize\x001468\0", "{:?}", String::from_utf8_lossy(&oack));
        client.set_read_timeout(Some(Duration::from_millis(300)))?;
        ensure!(packet(&client).is_err(), "a packet of 1468 bytes came through");
        client.send_to(b"\0\x05\0\0no block came\0", from)?;
        ensure!(began.elapsed() < SOON, "it goes on being offered 1468 bytes");
    }
}

/// It writes the first block to a slow card, or prints something. Its packets are no larger than its path carries.
#[test]
fn a_client_that_is_slow_at_the_start_is_offered_the_same_blocks_again() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    for _ in 0..2 {
        let client = bench.client_socket(0)?;
        let (oack, from) = ask(&client, b"\0\x01vmlinuz\0octet\0blksize\x001468\0")?;
        ensure!(oack == b"\0\x06blksize\x001468\0", "{:?}", String::from_utf8_lossy(&oack));
        client.send_to(&[0, 4, 0, 0], from)?;
        // The block, and as many copies as make the server believe that none arrives.
        for _ in 0..5 {
            ensure!(packet(&client)?.0[..4] == [0, 3, 0, 1], "it is another block");
        }
        client.send_to(&[0, 4, 0, 1], from)?;
        while packet(&client)?.0[..4] != [0, 3, 0, 2] {}
        client.send_to(b"\0\x05\0\0enough\0", from)?;
    }
    Ok(())
}

/// Requests from addresses that never asked: memory and descriptors stay bounded, and a real client is served meanwhile,
/// twice. So many a second that a server which shares two CPUs with other tests can read them all: what its socket has
/// no room for is lost, the client's request as well, and then it is luck who is served.
#[test]
fn a_flood_of_forged_requests_keeps_no_real_client_out() -> Result<()> {
    flood(20_000, Duration::from_micros(500))
}

/// The same as fast as a CPU makes them, on a machine that has nothing else to do.
#[test]
#[ignore = "wants a CPU for the flood and one for the server"]
fn a_flood_of_100_000_forged_requests_as_fast_as_can_be() -> Result<()> {
    flood(100_000, Duration::ZERO)
}

fn flood(least: u32, pace: Duration) -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    bench.server.ip(&["route", "add", "10.64.0.0/10", "via", "10.77.0.50"])?;
    bench.client.ip(&["route", "add", "local", "10.64.0.0/10", "dev", "eth1"])?;
    let (served, began) = (AtomicU32::new(0), Instant::now());
    // It lasts until the client has what it wants: whatever it gets, it gets in the flood.
    let flood = || -> Result<u32> {
        bench.client.enter(|| -> Result<u32> {
            let mut forged = 0;
            while forged < least || served.load(Ordering::Relaxed) < 2 {
                ensure!(began.elapsed() < Duration::from_secs(120), "the client is kept out");
                let source = Ipv4Addr::from_bits(Ipv4Addr::new(10, 80, 0, 1).to_bits() + forged % (1 << 20));
                // Its victim has no socket there a moment later, and answers by ICMP.
                UdpSocket::bind((source, 2070))?
                    .send_to(b"\0\x01vmlinuz\0octet\0blksize\x001468\0windowsize\x0064\0", (SERVER, 69))?;
                forged += 1;
                std::thread::sleep((began + pace * forged).saturating_duration_since(Instant::now()));
            }
            Ok(forged)
        })?
    };
    let pid = bench.netbootd.pid();
    let descriptors = || -> Result<usize> { Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count()) };
    let before = descriptors()?;
    let fetch = Fetch { name: "vmlinuz", expected: Arc::new(noise(3_000_000, 1)), block_size: 1468, window: 16 };
    std::thread::scope(|scope| -> Result<()> {
        let flood = scope.spawn(flood);
        while !flood.is_finished() {
            bench
                .client
                .enter(|| crowd([CLIENT].into_iter(), &fetch, SERVER))??
                .into_iter()
                .collect::<Result<Vec<_>>>()?;
            served.fetch_add(1, Ordering::Relaxed);
            let open = descriptors()?;
            // A socket and a file for each transfer.
            ensure!(open < before + 2 * 256 + 8, "{open} descriptors, {before} before");
        }
        flood.join().expect("no panic").map(drop)
    })?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("there").trim();
    let kilobytes: u64 = peak.trim_end_matches(" kB").parse()?;
    ensure!(kilobytes < 64 << 10, "{kilobytes} kB of memory");
    Ok(())
}

/// atftp gives up at an OACK that the network doubled ("unexpected OACK"), and at an ICMP error: then it is asked again,
/// as a user would.
fn atftp(bench: &Bench, arguments: &[&str]) -> Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match bench.run("atftp", arguments) {
            Ok(_) => return Ok(()),
            Err(error) if tries == 4 => return Err(error),
            Err(_) => {}
        }
    }
}

fn ask(socket: &UdpSocket, request: &[u8]) -> Result<(Vec<u8>, SocketAddr)> {
    socket.send_to(request, (SERVER, 69))?;
    packet(socket)
}

fn packet(socket: &UdpSocket) -> Result<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 2000];
    let (length, from) = receive(socket, &mut buffer)?;
    buffer.truncate(length);
    Ok((buffer, from))
}
