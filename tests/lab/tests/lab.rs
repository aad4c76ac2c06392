//! The lab itself: hosts reach each other, leave the machine's own network alone, and are gone afterwards.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Lab, LeaseServer, NETWORK_TOOLS, Signal, receive, required};
use nix::sys::pthread::{pthread_kill, pthread_self};

#[test]
fn hosts_hear_each_others_broadcasts() -> Result<()> {
    let Some(()) = required(&[NETWORK_TOOLS]) else { return Ok(()) };
    let lab = Lab::new()?;
    let (one, other) = (lab.host("one", Some("10.77.0.1/24"))?, lab.host("other", Some("10.77.0.2/24"))?);
    let listener = other.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 6767)))??;
    listener.set_read_timeout(Some(Duration::from_secs(20)))?;
    let sender = one.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    sender.set_broadcast(true)?;

    sender.send_to(b"who is there", (Ipv4Addr::new(10, 77, 0, 255), 6767))?;
    let mut buffer = [0; 64];
    let (length, from) = receive(&listener, &mut buffer).context("the broadcast did not arrive")?;
    ensure!(buffer.get(..length) == Some(b"who is there") && from.ip() == Ipv4Addr::new(10, 77, 0, 1));

    // An isolated network: no way out, as the broadcast address that no interface is pinned to shows.
    ensure!(sender.send_to(b"lost", (Ipv4Addr::BROADCAST, 6767)).is_err());
    Ok(())
}

#[test]
fn a_signal_does_not_end_a_wait_for_a_datagram() -> Result<()> {
    let (listener, sender) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    listener.set_read_timeout(Some(Duration::from_secs(20)))?;
    let to = listener.local_addr()?;
    let is_caught = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR2, Arc::clone(&is_caught))?;
    let (reader, its_state) =
        (pthread_self(), Path::new("/proc").join(fs::read_link("/proc/thread-self")?).join("stat"));
    let sent = thread::spawn(move || -> Result<()> {
        // Until the reader sleeps (proc_pid_stat(5)): it waits then.
        while !fs::read_to_string(&its_state)?.contains(") S ") {
            thread::yield_now();
        }
        pthread_kill(reader, Signal::SIGUSR2)?;
        while !is_caught.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        sender.send_to(b"late", to)?;
        Ok(())
    });
    let mut buffer = [0; 64];
    let (length, _) = receive(&listener, &mut buffer)?;
    ensure!(buffer.starts_with(b"late") && length == 4);
    sent.join().ok().context("the sender panicked")?
}

#[test]
fn a_host_can_have_more_addresses_and_lose_its_link() -> Result<()> {
    let Some(()) = required(&[NETWORK_TOOLS]) else { return Ok(()) };
    let lab = Lab::new()?;
    let host = lab.host("host", None)?;
    host.ip(&["address", "add", "10.77.0.5/24", "dev", "eth1"])?;
    host.ip(&["address", "add", "192.0.2.5/24", "dev", "eth1"])?;
    let shown = host.ip(&["-4", "-oneline", "address", "show", "dev", "eth1"])?;
    ensure!(shown.contains("10.77.0.5/24") && shown.contains("192.0.2.5/24"), "{shown}");
    host.ip(&["link", "set", "eth1", "down"])?;
    ensure!(host.ip(&["link", "show", "eth1"])?.contains("state DOWN"));
    Ok(())
}

#[test]
fn nothing_is_left_even_where_a_test_panics() -> Result<()> {
    let Some(()) = required(&[NETWORK_TOOLS]) else { return Ok(()) };
    let outcome = panic::catch_unwind(|| -> Result<()> {
        let lab = Lab::new()?;
        let host = lab.host("dhcp", Some("10.77.0.1/24"))?;
        let server = LeaseServer::start(&lab, &host, [10, 77, 0, 100].into(), [10, 77, 0, 199].into())?;
        let named = (lab.switch().namespace().to_owned(), lab.directory().to_owned(), server.process().pid());
        panic::panic_any(named);
    });
    let Err(panicked) = outcome else { return outcome.unwrap_or(Ok(())) };
    let (switch, directory, pid) = *panicked
        .downcast::<(String, std::path::PathBuf, u32)>()
        .ok()
        .context("another panic than the one that was meant")?;
    let namespaces = Command::new("ip").args(["netns", "list"]).output()?;
    ensure!(!String::from_utf8_lossy(&namespaces.stdout).contains(&switch), "{switch} is still there");
    ensure!(!directory.exists(), "{} is still there", directory.display());
    ensure!(!std::path::Path::new("/proc").join(pid.to_string()).exists(), "dnsmasq still runs");
    Ok(())
}
