//! Machines that go round in circles, that ask too often, or that are nobody's; and the rules that tell them apart.

use std::{cell::Cell, net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use netbootd_lab::Signal;

use crate::{
    bench::{Bench, CLIENT, SERVER, SOON},
    dhcp::{ACK, BIOS, DISCOVER, IPXE, MAC, OFFER, PXE_REPLY, REQUEST, UEFI, next, reply, request},
};

const EVERYONE: (Ipv4Addr, u16) = (Ipv4Addr::BROADCAST, 67);
const OTHER_MAC: [u8; 6] = [0x52, 0x54, 0, 0x99, 0x99, 0x99];

/// The same message, of another card.
fn of(mac: [u8; 6], mut message: Vec<u8>) -> Vec<u8> {
    message[28..34].copy_from_slice(&mac);
    message
}

#[test]
fn ipxe_that_leads_back_to_ipxe_is_told_so_and_sent_to_its_disk() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let script = |mac: &str| -> Result<String> {
        let path = format!("/boot.ipxe?mac={mac}&arch=x86_64&platform=efi");
        Ok(String::from_utf8(bench.curl(&[], &path)?)?)
    };
    for start in 1..=6 {
        // Twice each: iPXE repeats its DISCOVER under the same id, which is no second start.
        for _ in 0..2 {
            socket.send_to(&request(DISCOVER, start, IPXE), EVERYONE)?;
            next(&socket)?;
        }
        let text = script("52:54:00:12:34:56")?;
        let is_sent_on =
            text.contains("boots from its local disk:\necho it started iPXE 6 times") && text.contains("exit 1");
        let boots = text.contains("\nkernel http://");
        ensure!((is_sent_on, boots) == (start == 6, start < 6), "start {start}:\n{text}");
    }
    ensure!(script("52:54:00:99:99:99")?.contains("\nkernel http://"), "another machine boots");
    bench.netbootd.wait_for_line("52:54:00:12:34:56 refused      it started iPXE 6 times", SOON)?;
    Ok(())
}

/// Ours comes back as an iPXE with HTTP and is told its script; one that comes back weak again and again is given no
/// other, so that its firmware goes on with its boot order.
#[test]
fn a_weak_ipxe_gets_a_better_one_but_not_for_ever() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let weak: &[(u8, &[u8])] = &[(60, b"PXEClient"), (93, &[0, 0]), (77, b"iPXE"), (175, b"\x15\x01\x01")];
    let lease: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 1]), (50, &CLIENT.octets())];
    for n in 1..=3 {
        socket.send_to(&request(DISCOVER, n, weak), EVERYONE)?;
        ensure!(next(&socket)?.0 == reply(OFFER, n, "ipxe.pxe", PXE_REPLY), "offer {n} differs");
        socket.send_to(&request(REQUEST, n, &[weak, lease].concat()), EVERYONE)?;
        bench.run("atftp", &["--get", "--remote-file", "ipxe.pxe", "--local-file", "l", &SERVER.to_string()])?;
        let seen = Cell::new(0);
        bench.netbootd.wait_for("the fetch", SOON, |line| {
            seen.set(seen.get() + u32::from(line.contains("52:54:00:12:34:56 loader       ipxe.pxe, ")));
            seen.get() == n
        })?;
    }
    // Nothing for it now; what comes is the answer to the machine behind it.
    socket.send_to(&request(DISCOVER, 4, weak), EVERYONE)?;
    socket.send_to(&of(OTHER_MAC, request(DISCOVER, 5, BIOS)), EVERYONE)?;
    ensure!(
        next(&socket)?.0 == of(OTHER_MAC, reply(OFFER, 5, "undionly.kpxe", PXE_REPLY)),
        "the weak one was answered"
    );
    bench.netbootd.wait_for_line("refused      it fetched its loader 3 times in the last minutes", SOON)?;
    Ok(())
}

#[test]
fn rules_name_a_machines_loader_and_who_is_answered_at_all() -> Result<()> {
    let rules = "[dhcp]\nanswer = \"known\"\n\
                 [[machines]]\nname = \"k8s08\"\nmac = \"52-54-00-12-34-56\"\n[machines.override]\nloader = \"ipxe.efi\"\n";
    let Some(bench) = Bench::with_configuration(rules)? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    socket.send_to(&of(OTHER_MAC, request(DISCOVER, 1, UEFI)), EVERYONE)?;
    socket.send_to(&request(DISCOVER, 2, UEFI), EVERYONE)?;
    ensure!(
        next(&socket)?.0 == reply(OFFER, 2, "ipxe.efi", PXE_REPLY),
        "the stranger was answered, or the rule not heard"
    );
    socket.send_to(&request(REQUEST, 3, UEFI), (SERVER, 4011))?;
    ensure!(next(&socket)?.0 == reply(ACK, 3, "ipxe.efi", PXE_REPLY), "the boot server does not know the rule");
    bench.netbootd.wait_for_line("52:54:00:99:99:99 refused      no rule names this machine", SOON)?;
    let script = |mac: &str| -> Result<String> {
        Ok(String::from_utf8(bench.curl(&[], &format!("/boot.ipxe?mac={mac}&platform=efi"))?)?)
    };
    ensure!(script("52:54:00:12:34:56")?.contains("hostname=k8s08"), "the machine has no name");
    let refusal = script("52:54:00:99:99:99")?;
    ensure!(
        refusal.contains("netbootd has no boot for 52:54:00:99:99:99:\necho no rule names this machine"),
        "{refusal}"
    );
    Ok(())
}

#[test]
fn a_machine_that_asks_without_end_takes_nothing_from_the_others() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    for n in 1..=500 {
        socket.send_to(&request(DISCOVER, n, BIOS), EVERYONE)?;
    }
    socket.send_to(&of(OTHER_MAC, request(DISCOVER, 1000, BIOS)), EVERYONE)?;
    let expected = of(OTHER_MAC, reply(OFFER, 1000, "undionly.kpxe", PXE_REPLY));
    let mut answers = 0;
    while next(&socket).with_context(|| format!("after {answers} answers"))?.0 != expected {
        answers += 1;
    }
    // A burst of 20, and 10 for each second that it took.
    ensure!((20..250).contains(&answers), "{MAC:02x?} got {answers} answers to 500 requests");
    Ok(())
}

/// A ROM that reads options only. It waits as firmware does (EDK2: 4 s) before it asks again, finds its boot file in the
/// second shape, and is offered that first from then on: also by another run of the server.
#[test]
fn a_rom_that_takes_no_offer_gets_the_next_shape_and_at_its_next_boot_that_one_at_once() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let second = |xid| reply(OFFER, xid, "snponly.efi", &[PXE_REPLY, &[(67, b"snponly.efi\0")]].concat());
    socket.send_to(&request(DISCOVER, 1, UEFI), EVERYONE)?;
    ensure!(next(&socket)?.0 == reply(OFFER, 1, "snponly.efi", PXE_REPLY), "the first offer differs");
    thread::sleep(Duration::from_secs(4));
    socket.send_to(&request(DISCOVER, 2, UEFI), EVERYONE)?;
    ensure!(next(&socket)?.0 == second(2), "the second offer differs");

    let lease: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 1]), (50, &CLIENT.octets())];
    socket.send_to(&request(REQUEST, 3, &[UEFI, lease].concat()), EVERYONE)?;
    bench.run("atftp", &["--get", "--remote-file", "snponly.efi", "--local-file", "l", &SERVER.to_string()])?;
    let told = "offer        taken with option 67 beside the file field: sent first from now on";
    bench.netbootd.wait_for_line(told, SOON)?;
    socket.send_to(&request(DISCOVER, 4, UEFI), EVERYONE)?;
    ensure!(next(&socket)?.0 == second(4), "its next boot begins anew");

    // In order: nobody waits for what was learned to reach the disk.
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(SOON)?;
    bench.netbootd = bench.again()?;
    socket.send_to(&request(DISCOVER, 5, UEFI), EVERYONE)?;
    ensure!(next(&socket)?.0 == second(5), "it was forgotten over a restart");
    Ok(())
}
