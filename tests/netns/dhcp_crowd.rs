//! Many machines at once, and packets that are no packets.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Captured, Noise, mutated, resident_megabytes, storm};

use crate::{
    bench::{Bench, SERVER, SOON},
    dhcp::{ACK, BIOS, DISCOVER, OFFER, PXE_REPLY, REQUEST, next, reply, request},
};

/// A hall whose power comes back. Two kinds of firmware, whose packets are as long as they come.
#[test]
fn a_thousand_machines_that_start_at_once_are_all_answered() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let kinds = [Captured::named("ipxe-rom-discover")?, Captured::named("ovmf-pxe-discover")?];
    let requests: Vec<_> = (0..1000).map(|n: u32| kinds[n as usize % 2].from_machine(n)).collect();
    let waited = storm(&socket, &requests, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67), SOON)?;
    let lost = waited.iter().filter(|waited| waited.is_none()).count();
    ensure!(lost == 0, "{lost} of {} machines were not answered", waited.len());
    Ok(())
}

#[test]
fn five_thousand_mutated_packets_harm_nobody() -> Result<()> {
    let Some(bench) = unlimited()? else { return Ok(()) };
    mutated_packets(&bench, 0..5000)?;
    a_good_client_is_served(&bench)
}

/// `cargo test --release --test netns -- --ignored a_million`
#[test]
#[ignore = "takes minutes; its command is in the README"]
fn a_million_mutated_packets_leave_the_memory_flat() -> Result<()> {
    let Some(bench) = unlimited()? else { return Ok(()) };
    // Until everything that is bounded is full: machines, their lines, the queue of events.
    mutated_packets(&bench, 0..100_000)?;
    let before = resident_megabytes(&bench.netbootd)?;
    mutated_packets(&bench, 100_000..1_000_000)?;
    let after = resident_megabytes(&bench.netbootd)?;
    println!("resident memory: {before:.1} MB after 100,000 packets, {after:.1} MB after 1,000,000");
    ensure!(after < before + 4.0, "it grew from {before} MB to {after} MB");
    a_good_client_is_served(&bench)
}

/// No rate is limited, so that every packet goes all the way; of its machines' boots only errors are said.
fn unlimited() -> Result<Option<Bench>> {
    Bench::start_with(&[
        ("NETBOOTD_DHCP__MAX_RATE", "1000000"),
        ("NETBOOTD_DHCP__MAX_RATE_PER_CLIENT", "1000000"),
        ("NETBOOTD_LOG", "info,netbootd::daemon::recorder=error"),
    ])
}

/// Damaged packets of all kinds of firmware, each from another machine. Waits for the answer to a good one now and
/// then, so that none is lost for want of room in a buffer.
fn mutated_packets(bench: &Bench, numbers: std::ops::Range<u32>) -> Result<()> {
    let socket = bench.client_socket(68)?;
    let captured = Captured::all()?;
    let good = [
        (67, Captured::named("ipxe-rom-user-class-discover")?),
        (4011, Captured::named("ovmf-pxe-asks-the-boot-server")?),
    ];
    let mut noise = Noise::new(4711 + u64::from(numbers.start));
    for number in numbers {
        let seed = &captured[number as usize % captured.len()];
        let port = if number % 2 == 0 { 67 } else { 4011 };
        socket.send_to(&mutated(seed.from_machine(number), &mut noise), (SERVER, port))?;
        if number % 64 == 63 {
            for (port, good) in &good {
                let good = good.from_machine(0x4000_0000 + number);
                socket.send_to(&good, (SERVER, *port))?;
                answer_to(&socket, &good[4..8]).with_context(|| format!("port {port} after packet {number}"))?;
            }
        }
    }
    Ok(())
}

/// Packets of one socket are answered in their order: others' answers come before it.
fn answer_to(socket: &UdpSocket, xid: &[u8]) -> Result<Vec<u8>> {
    for _ in 0..1000 {
        let (answer, _) = next(socket)?;
        if answer.get(4..8) == Some(xid) {
            return Ok(answer);
        }
    }
    anyhow::bail!("answers without end, but none to the good client")
}

fn a_good_client_is_served(bench: &Bench) -> Result<()> {
    let socket = bench.client_socket(68)?;
    for (port, kind, answer) in [(67_u16, DISCOVER, OFFER), (4011, REQUEST, ACK)] {
        let xid = 0xdead_0000 + u32::from(port);
        socket.send_to(&request(kind, xid, BIOS), (SERVER, port))?;
        let answered = answer_to(&socket, &xid.to_be_bytes())?;
        ensure!(answered == reply(answer, xid, "undionly.kpxe", PXE_REPLY), "the reply on {port} is {answered:02x?}");
    }
    let lines = bench.netbootd.lines();
    ensure!(!lines.iter().any(|line| line.contains("panicked")), "{lines:?}");
    Ok(())
}
