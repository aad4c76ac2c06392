//! A thousand machines that boot at once, from their first packet to their hand-over, and who looks on meanwhile.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use netbootd_lab::{peak_megabytes, quantile, storm};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{
    bench::{Bench, SERVER, SOON, START, noise},
    dhcp::{DISCOVER, IPXE, of_machine, request},
};

const MACHINES: u32 = 1000;
/// Machines that fetch at the same time.
const AT_ONCE: usize = 50;
const KERNEL: usize = 300_000;

fn mac(number: u32) -> String {
    let [a, b, c, d] = number.to_be_bytes();
    format!("52:54:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Of each machine, on the client's host.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 78, 0, 0)) + number)
}

fn fetch(number: u32, path: &str) -> Result<Vec<u8>> {
    let mut stream = {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((address(number), 0)).into())?;
        socket.connect(&SocketAddr::from((SERVER, 8080)).into())?;
        TcpStream::from(socket)
    };
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: iPXE/1.21.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no header")?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..head]));
    Ok(answer.split_off(head + 4))
}

fn boots(number: u32, kernel: &[u8]) -> Result<()> {
    let script = fetch(number, &format!("/boot.ipxe?mac={}&arch=i386&platform=pcbios", mac(number)))?;
    ensure!(String::from_utf8_lossy(&script).contains("\nkernel http://"), "no boot");
    for file in ["vmlinuz", "debian/initrd.img"] {
        ensure!(fetch(number, &format!("/assets/{file}"))? == kernel, "other bytes");
    }
    Ok(())
}

#[test]
fn a_thousand_machines_boot_at_once_and_each_is_told_whole() -> Result<()> {
    let limits = [("NETBOOTD_DHCP__MAX_RATE", "100000"), ("NETBOOTD_LOG", "info,netbootd::daemon::recorder=error")];
    let Some(bench) = Bench::start_with(&limits)? else { return Ok(()) };
    let kernel = noise(KERNEL, 7);
    for file in ["vmlinuz", "debian/initrd.img"] {
        std::fs::write(bench.assets.join(file), &kernel)?;
    }
    let mut batch = String::new();
    (0..MACHINES).try_for_each(|n| writeln!(batch, "address add {}/32 dev eth1", address(n)))?;
    let batched = bench.lab.directory().join("addresses");
    std::fs::create_dir(&batched)?;
    std::fs::write(batched.join("batch"), batch)?;
    bench.client.ip(&["-batch", &batched.join("batch").display().to_string()])?;
    bench.server.ip(&["route", "add", "10.78.0.0/16", "dev", "eth1"])?;

    let began = Instant::now();
    let socket = bench.client_socket(68)?;
    let requests: Vec<_> = (0..MACHINES).map(|n| of_machine(n, request(DISCOVER, n, IPXE))).collect();
    let waited = storm(&socket, &requests, SocketAddrV4::new(Ipv4Addr::BROADCAST, 67), SOON)?;
    ensure!(waited.iter().all(Option::is_some), "offers were lost");

    let (next, over) = (AtomicU32::new(0), AtomicBool::new(false));
    let (times, looks) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    thread::scope(|scope| -> Result<()> {
        let fetching: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    bench.client.enter(|| -> Result<()> {
                        while let number @ 0..MACHINES = next.fetch_add(1, Ordering::Relaxed) {
                            let at = Instant::now();
                            boots(number, &kernel).with_context(|| mac(number))?;
                            times.lock().expect("no panic").push(at.elapsed());
                        }
                        Ok(())
                    })?
                })
            })
            .collect();
        let looking = scope.spawn(|| -> Result<()> {
            while !over.load(Ordering::Relaxed) {
                let at = Instant::now();
                let page = bench.curl(&[], "/")?;
                ensure!(String::from_utf8_lossy(&page).contains("</html>"), "half a page");
                looks.lock().expect("no panic").push(at.elapsed());
            }
            Ok(())
        });
        let fetched: Result<()> = fetching.into_iter().try_for_each(|one| one.join().expect("no panic"));
        over.store(true, Ordering::Relaxed);
        looking.join().expect("no panic")?;
        fetched
    })?;
    let all = began.elapsed();

    let until = Instant::now() + START;
    loop {
        let machines: Vec<Value> = serde_json::from_slice(&bench.curl(&[], "/api/v1/machines")?)?;
        let handed_over = machines.iter().filter(|machine| machine["boot"]["state"] == "handed_over").count();
        if handed_over == MACHINES as usize {
            break;
        }
        if Instant::now() > until {
            bail!("{handed_over} of {} are told to be handed over", machines.len());
        }
        thread::sleep(Duration::from_millis(100));
    }
    let (mut times, mut looks) = (times.into_inner().expect("no panic"), looks.into_inner().expect("no panic"));
    times.sort();
    looks.sort();
    let peak = peak_megabytes(&bench.netbootd)?;
    println!(
        "{MACHINES} machines in {:.1} s: each {:.2} s (median), {:.2} s (p99); the page {} times, {:.0} ms (median), {:.0} ms \
         (slowest); {peak:.0} MB at most",
        all.as_secs_f64(),
        quantile(&times, 0.5),
        quantile(&times, 0.99),
        looks.len(),
        quantile(&looks, 0.5) * 1e3,
        quantile(&looks, 1.0) * 1e3,
    );
    ensure!(peak < 96.0, "{peak} MB");
    Ok(())
}
