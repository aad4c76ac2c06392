//! What machines say of their parts outlives a restart, and a magic packet leaves by the interface that its machine was
//! heard on, and by no other.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Output,
};

use anyhow::{Result, ensure};
use netbootd_lab::{Host, Lab, Signal, receive};
use socket2::SockRef;

use crate::{
    bench::{Bench, SOON},
    control::{said, tell},
};

const NEAR: &str = "52:54:00:12:34:56";
const FAR: &str = "52:54:00:12:34:57";
const PARTS: &str =
    "manufacturer=Dell%20Inc.&product=OptiPlex%207010&asset=IT-0017&board-serial=&chip=82540em&busid=018086100e";

fn card_of(machine: &str) -> Vec<u8> {
    machine.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap_or_default()).collect()
}

/// Where a card would hear the packet.
fn listening(host: &Host) -> Result<UdpSocket> {
    let socket = host.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)))??;
    host.enter(|| SockRef::from(&socket).bind_device(Some(b"eth1")))??;
    socket.set_read_timeout(Some(SOON))?;
    Ok(socket)
}

/// The next packet has to be the one for this machine.
fn hears(socket: &UdpSocket, machine: &str) -> Result<()> {
    let mut buffer = [0; 2000];
    let (length, from) = receive(socket, &mut buffer)?;
    let expected = [vec![0xff; 6], card_of(machine).repeat(16)].concat();
    ensure!(buffer[..length] == expected, "{from}: {:02x?}", &buffer[..length]);
    Ok(())
}

fn fetch(host: &Host, server: &str, machine: &str, parts: &str) -> Result<String> {
    let url = format!("http://{server}:8080/boot.ipxe?mac={machine}&arch=x86_64&platform=efi&{parts}");
    let output = host.command("curl").args(["-sS", "--max-time", "60", "-A", "iPXE/1.21.1", &url]).output()?;
    Ok(said(&output))
}

fn done(output: Output) -> Result<String> {
    ensure!(output.status.success(), "{}", said(&output));
    Ok(said(&output))
}

#[test]
fn a_machine_is_found_by_its_parts_and_woken_where_it_was_heard_also_after_a_restart() -> Result<()> {
    let far = Lab::new()?;
    let config = "[[machines]]\nmanufacturer = \"dell*\"\nasset = \"IT-00*\"\nprofile = \"shell\"\n";
    let bench = Bench::prepared(&["eth1", "eth2"], &[], config, |_, host| {
        far.plug_host_in(host, "eth2", Some("10.78.0.2/24"))
    })?;
    let Some(mut bench) = bench else { return Ok(()) };
    let client = far.host("client", Some("10.78.0.50/24"))?;
    let (near_card, far_card) = (listening(&bench.client)?, listening(&client)?);

    let unheard = tell(&bench.server, &["wake", FAR])?;
    ensure!(said(&unheard).contains("was not seen on any interface yet"), "{}", said(&unheard));

    let script = fetch(&client, "10.78.0.2", FAR, PARTS)?;
    ensure!(script.contains("iPXE shell for "), "its rule is not heard: {script}");
    let script = fetch(&bench.client, "10.77.0.2", NEAR, "manufacturer=Lenovo&asset=IT-0018")?;
    ensure!(script.contains("boots profile command-line"), "{script}");
    bench.netbootd.wait_for_line("script       profile command-line", SOON)?;

    for _ in 0..2 {
        let found = done(tell(&bench.server, &["machines", "--find", "optiplex it-0017", "--inventory"])?)?;
        let row = format!("{FAR}  -     Dell Inc.     OptiPlex 7010  IT-0017  -             82540em  8086:100e  -\n");
        ensure!(found.lines().count() == 2 && found.ends_with(&row), "{found}");
        let json = done(tell(&bench.server, &["machines", FAR, "--json"])?)?;
        ensure!(json.contains("\"busid\": \"8086:100e\""), "{json}");

        let woken = done(tell(&bench.server, &["wake", FAR])?)?;
        ensure!(woken == format!("magic packet sent on eth2 for {FAR}\n"), "{woken}");
        hears(&far_card, FAR)?;
        // Had the first one come here too, it would be the next one.
        done(tell(&bench.server, &["assign", NEAR, "local", "--wake"])?)?;
        hears(&near_card, NEAR)?;
        bench.netbootd.signal(Signal::SIGTERM)?;
        bench.netbootd.wait_exit(SOON)?;
        bench.netbootd = bench.again()?;
    }
    Ok(())
}
