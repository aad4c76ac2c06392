//! Captured requests of real firmware, each with the whole reply that it then booted by.
//!
//! A file holds the words for the client, then the UDP payload of its request (`# request`; `# request to port 4011`
//! where it asked the boot server) and of our reply in hexadecimal; no reply where it gets none. They were taken at
//! 10.77.0.2, in the network of `tests/boot`. A new firmware is a new file here.

mod any_datagram;

use std::time::{Duration, Instant};

use netbootd::dhcp::{proxy::Port, request::Request};
use netbootd_lab::{Captured, Noise, mutated};

use any_datagram::Server;

#[test]
fn every_captured_request_gets_the_reply_that_booted_it() {
    let captured = Captured::all().expect("the files are readable");
    assert!(captured.len() >= 36, "only {} files were found", captured.len());
    // All of them, so that one run names every firmware that a change is wrong for.
    let wrong = captured.into_iter().filter_map(|Captured { name, port, request, reply, .. }| {
        let port = if port == 4011 { Port::BootServer } else { Port::Dhcp };
        let got = match Request::parse(&request) {
            Ok(request) => Server::new().reply(&request, port, Instant::now()),
            Err(why) => return Some(format!("{name}: {why}")),
        };
        (got != reply).then(|| format!("{name}:\n{got:02x?}\ninstead of\n{reply:02x?}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the fuzzer does, without its guidance: real packets, damaged. Some of them come again and again, as if from
/// one machine, while time goes on. A minute of CI; the fuzzer itself takes longer to build than that.
#[test]
fn half_a_million_mutated_packets_get_a_reply_or_a_refusal() {
    let captured = Captured::all().expect("the files are readable");
    let (mut server, mut noise, start) = (Server::new(), Noise::new(2026), Instant::now());
    for n in 0..500_000 {
        let seed = captured.get(n as usize % captured.len()).expect("a packet");
        let packet = mutated(seed.from_machine(n % 10_000), &mut noise);
        server.take(&packet, start + Duration::from_millis(u64::from(n)));
    }
}
