//! TFTP against real clients, and against sockets that play what they do not.
//!
//! What a strict server gets right, and where it is shown: here, in `tftp_weather`, or beside the code.
//!
//! | rule | test |
//! |---|---|
//! | OACK has only options that were asked for, is repeated like DATA; ACK 0 follows | `transfer`: `options_are_granted_as_asked_but_for_our_limits` |
//! | … or an ERROR: a size probe; a client's ERROR ends a transfer at once | `an_aborted_size_probe_frees_its_port_at_once_and_leaves_nothing_behind` |
//! | `blksize` fits the interface's MTU | `a_block_fits_the_interfaces_mtu` |
//! | … and becomes smaller after loss at the start | `a_path_that_drops_large_packets_is_offered_smaller_ones` |
//! | `windowsize` is capped | `options_are_granted_as_asked_but_for_our_limits` |
//! | a duplicate ACK is not answered; one of base − 1 in a window is, once, promptly | `transfer`: `duplicates_are_not_answered_and_a_gap_in_a_window_once`, `a_second_ack_of_a_window_that_was_doubled_doubles_nothing` |
//! | another TID gets ERROR 5, and the transfer goes on | `a_stranger_gets_error_5_and_the_transfer_goes_on` |
//! | a new request of the same address and port replaces the transfer | `a_new_request_from_the_same_port_replaces_the_old_transfer` |
//! | … but not a doubled one | `a_doubled_request_is_one_transfer` |
//! | block numbers roll over to 0 | `real_clients_fetch_every_byte`, `transfer`: `block_numbers_roll_over_to_zero` |
//! | a short block ends a file, an empty one where it fills its blocks | `transfer`: `lock_step_without_options_starts_with_data_and_ends_with_a_short_block` |
//! | a last ACK that never comes is bounded, like every silence | `ordeal`: `any_client_is_survived` |
//! | a reply comes from the address that was asked | `an_answer_comes_from_the_address_that_was_asked` |
//! | slashes and backslashes at the start; `..`, NUL and links out of the root | `files`: both tests of names; `what_is_not_served_gets_an_error_at_once` |
//! | WRQ, netascii and mail are refused in words, modes are of any case | `what_is_not_served_gets_an_error_at_once`, `packet` |
//! | transfers are bounded for an address that does not answer, and in total | `running`: `many_clients_behind_one_address_are_served_and_those_that_never_answer_make_room` |
//! | … and for no other | `tftp_firmware`: `twenty_clients_behind_one_address_are_served_at_once`, `a_machine_that_is_switched_off_and_on_ten_times_is_served_at_once` |
//! | a client that pauses for minutes is not cut off | `tftp_firmware`: `a_client_that_pauses_40_s_gets_the_rest`, `transfer`: `a_client_that_was_silent_for_minutes_goes_on_where_it_was_and_is_answered_promptly` |
//! | an ACK to a transfer that is over gets an ERROR | `tftp_firmware`: `an_ack_to_a_transfer_that_is_over_gets_an_error` |
//! | options above their range get the most, doubled ones count once | `packet`, `tftp_firmware`: `odd_options_are_answered_as_the_rfcs_say` |
//! | a peer that never answers gets four packets | `transfer`: `one_who_never_answers_gets_four_packets`, `ordeal` |
//! | a loss is repaired after the measured round trip | `transfer`: `a_loss_is_repaired_after_the_measured_round_trip_and_silence_is_bounded` |

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netbootd_lab::{Host, Process, receive};

use crate::bench::{Bench, SERVER, SOON, START, daemon, file, noise};

const LOADER: &str = "/usr/lib/ipxe/snponly.efi";

#[test]
fn real_clients_fetch_every_byte() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let server = SERVER.to_string();
    let here = |name: &str| bench.lab.directory().join(name);
    let loader = file(LOADER)?;

    bench.run("tftp", &["-m", "binary", &server, "-c", "get", "snponly.efi", "hpa"])?;
    ensure!(file(here("hpa"))? == loader, "tftp-hpa got other bytes");
    for (name, options) in [
        ("lock-step", &["blksize 1468"][..]),
        ("windows", &["blksize 1024", "windowsize 16", "tsize 0"]),
        ("large", &["blksize 65464", "windowsize 64"]),
    ] {
        let options: Vec<&str> = options.iter().flat_map(|option| ["--option", option]).collect();
        let fetch = ["--get", "--remote-file", "\\boot\\snponly.efi", "--local-file", name, &server];
        bench.run("atftp", &[options.as_slice(), &fetch].concat())?;
        ensure!(file(here(name))? == loader, "atftp got other bytes with {options:?}");
    }
    let url = format!("tftp://{SERVER}//any/folder/snponly.efi");
    ensure!(bench.run("curl", &["-sS", "--max-time", "60", &url])? == loader, "curl got other bytes");

    // Long enough for block numbers to roll over: 24,000,001 bytes are 46,876 blocks of 512, and 93,751 of 256.
    let asset = ["--option", "blksize 256", "--option", "windowsize 32", "--get"];
    let names = ["--remote-file", "debian/initrd.img", "--local-file", "asset", &server];
    bench.run("atftp", &[&asset[..], &names].concat())?;
    ensure!(file(here("asset"))? == noise(24_000_001, 2), "atftp got other bytes of an asset");
    bench.netbootd.wait_for_line("snponly.efi, 173.8 kB in", SOON)?;
    Ok(())
}

#[test]
fn autoexec_is_the_way_to_the_script() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let script = bench.run("curl", &["-sS", &format!("tftp://{SERVER}/autoexec.ipxe")])?;
    let script = String::from_utf8(script)?;
    ensure!(script.contains("chain --replace --autofree http://10.77.0.2:8080/boot.ipxe?mac=${netX/mac}"), "{script}");
    Ok(())
}

#[test]
fn what_is_not_served_gets_an_error_at_once() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(0)?;
    let answer = |request: &[u8]| -> Result<(u16, String)> {
        socket.send_to(request, (SERVER, 69))?;
        let mut buffer = [0; 600];
        let (length, _) = receive(&socket, &mut buffer)?;
        ensure!(buffer[..2] == [0, 5], "not an ERROR: {:?}", &buffer[..length]);
        let words = String::from_utf8_lossy(&buffer[4..length]).trim_end_matches('\0').to_owned();
        Ok((u16::from_be_bytes([buffer[2], buffer[3]]), words))
    };
    let leads_out = "../secret leads out of the assets folder: name a file within the folder by a path without \"..\", or copy \
                     the file there";
    let expected = [
        (b"\0\x01nothing\0octet\0".as_slice(), 1, "there is no file nothing"),
        (b"\0\x02new\0octet\0", 4, "writing is refused: netbootd only serves files"),
        (b"\0\x01../secret\0octet\0", 2, leads_out),
        (b"\0\x01..\\secret\0octet\0", 2, leads_out),
        (
            b"\0\x01snponly.efi\0netascii\0",
            4,
            "transfer mode netascii would damage a boot file: ask for octet (with tftp-hpa: -m binary)",
        ),
        (
            b"\0\x01snponly.efi\0Mail\0",
            4,
            "transfer mode mail would damage a boot file: ask for octet (with tftp-hpa: -m binary)",
        ),
        (
            b"\0\x01snponly.efi\0binary\0",
            4,
            "\"binary\" is not a TFTP transfer mode: ask for octet (with tftp-hpa: -m binary)",
        ),
        (b"\0\x01nothing", 4, "malformed TFTP request: RRQ without a mode"),
    ];
    for (request, code, words) in expected {
        let began = Instant::now();
        let got = answer(request)?;
        ensure!(got == (code, words.to_owned()), "{request:?} got {got:?}");
        ensure!(began.elapsed() < Duration::from_secs(1), "{request:?} had to wait for {:?}", began.elapsed());
    }
    Ok(())
}

/// A TFTP client by hand, for what real ones cannot be told to do.
pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
}

impl Client {
    pub(crate) fn read(&self, request: &[u8]) -> Result<(Vec<u8>, SocketAddr)> {
        self.socket.send_to(request, (SERVER, 69))?;
        self.packet()
    }

    pub(crate) fn packet(&self) -> Result<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 2000];
        let (length, from) = receive(&self.socket, &mut buffer)?;
        buffer.truncate(length);
        Ok((buffer, from))
    }

    /// What comes within a time in which nothing should.
    pub(crate) fn stray(&self, time: Duration) -> Result<Option<Vec<u8>>> {
        use std::io::ErrorKind::{Interrupted, WouldBlock};
        let end = Instant::now() + time;
        let mut buffer = vec![0; 2000];
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv(&mut buffer) {
                Ok(length) => return Ok(Some(buffer[..length].to_vec())),
                Err(error) if matches!(error.kind(), Interrupted | WouldBlock) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.socket.set_read_timeout(Some(SOON))?;
        Ok(None)
    }

    /// Acknowledges lock-step blocks to the end; the file. One that was sent again before its ACK came is passed over.
    pub(crate) fn rest(&self, mut packet: Vec<u8>, from: SocketAddr, block_size: usize) -> Result<Vec<u8>> {
        let mut file = Vec::new();
        let mut last = None;
        loop {
            ensure!(packet.starts_with(&[0, 3]), "not DATA: {:?}", &packet[..packet.len().min(40)]);
            let number = [packet[2], packet[3]];
            if last.replace(number) != Some(number) {
                file.extend_from_slice(&packet[4..]);
                self.socket.send_to(&[0, 4, packet[2], packet[3]], from)?;
                if packet.len() < block_size + 4 {
                    return Ok(file);
                }
            }
            let (next, sender) = self.packet()?;
            ensure!(sender == from, "DATA from {sender} instead of {from}");
            packet = next;
        }
    }
}

/// EDK2 asks for the size, ends that transfer by ERROR 8, and ROMs that count their ports from a fixed start then ask
/// from the same port.
#[test]
fn an_aborted_size_probe_frees_its_port_at_once_and_leaves_nothing_behind() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let client = Client { socket: bench.client_socket(2070)? };
    let (probe, from) = client.read(b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0")?;
    ensure!(
        probe == b"\0\x06tsize\x00173792\0blksize\x001468\0windowsize\x004\0",
        "{:?}",
        String::from_utf8_lossy(&probe)
    );
    client.socket.send_to(b"\0\x05\0\x08User aborted the transfer\0", from)?;

    let began = Instant::now();
    let (oack, from) = client.read(b"\0\x01snponly.efi\0octet\0blksize\x001468\0")?;
    ensure!(oack == b"\0\x06blksize\x001468\0", "{:?}", String::from_utf8_lossy(&oack));
    client.socket.send_to(&[0, 4, 0, 0], from)?;
    let (first, from) = client.packet()?;
    ensure!(began.elapsed() < Duration::from_secs(1), "served only after {:?}", began.elapsed());
    ensure!(client.rest(first, from, 1468)? == file(LOADER)?, "other bytes");
    // Longer than any of our first retransmission timeouts.
    let stray = client.stray(Duration::from_millis(2500))?;
    ensure!(stray.is_none(), "a stray packet: {stray:?}");
    let lines = bench.netbootd.lines();
    ensure!(!lines.iter().any(|line| line.contains("stopped at")), "the probe is no failure: {lines:?}");
    Ok(())
}

/// netbootd on what has become of its interface, and a client's socket.
fn started_again(server: &Host, client: &Host) -> Result<(Process, UdpSocket)> {
    let netbootd = Process::spawn("netbootd", daemon(server).args(["up", "--interface", "eth1"]))?;
    netbootd.wait_for_line("waiting on", START)?;
    let socket = client.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    socket.set_read_timeout(Some(SOON))?;
    Ok((netbootd, socket))
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    drop(bench.netbootd);
    bench.server.ip(&["address", "add", "10.77.0.3/24", "dev", "eth1"])?;
    let (_netbootd, socket) = started_again(&bench.server, &bench.client)?;
    for asked in ["10.77.0.3", "10.77.0.2"] {
        socket.send_to(b"\0\x01snponly.efi\0octet\0blksize\x001468\0", (asked, 69))?;
        let (_, from) = receive(&socket, &mut [0; 600])?;
        ensure!(from.ip().to_string() == asked, "asked {asked}, answered by {from}");
        socket.send_to(b"\0\x05\0\0done\0", from)?;
        let script = bench.client.command("curl").args(["-sS", &format!("http://{asked}:8080/boot.ipxe")]).output()?;
        let script = String::from_utf8(script.stdout)?;
        ensure!(script.contains(&format!("chain --replace --autofree http://{asked}:8080/boot.ipxe")), "{script}");
    }
    Ok(())
}

/// A fragment is lost on many a path, and ROMs do not join them.
#[test]
fn a_block_fits_the_interfaces_mtu() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    drop(bench.netbootd);
    bench.server.ip(&["link", "set", "eth1", "mtu", "1400"])?;
    let (_netbootd, socket) = started_again(&bench.server, &bench.client)?;
    let client = Client { socket };
    let (oack, _) = client.read(b"\0\x01snponly.efi\0octet\0blksize\x001468\0")?;
    ensure!(oack == b"\0\x06blksize\x001368\0", "{:?}", String::from_utf8_lossy(&oack));
    Ok(())
}

/// A machine that was reset counts its ports from the same start, and may ask for another file now.
#[test]
fn a_new_request_from_the_same_port_replaces_the_old_transfer() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let client = Client { socket: bench.client_socket(2070)? };
    let (first, old) = client.read(b"\0\x01vmlinuz\0octet\0")?;
    ensure!(first.starts_with(&[0, 3, 0, 1]), "{first:?}");
    client.socket.send_to(&[0, 4, 0, 1], old)?;
    client.packet()?;
    let (first, new) = client.read(b"\0\x01snponly.efi\0octet\0")?;
    ensure!(new != old && client.rest(first, new, 512)? == file(LOADER)?, "other bytes");
    let stray = client.stray(Duration::from_millis(500))?;
    ensure!(stray.is_none(), "the old transfer goes on: {stray:?}");
    bench.netbootd.wait_for_line("vmlinuz: stopped at 512 B of 3.0 MB: the client started again", SOON)?;
    Ok(())
}

#[test]
fn a_stranger_gets_error_5_and_the_transfer_goes_on() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let client = Client { socket: bench.client_socket(0)? };
    let stranger = Client { socket: bench.client_socket(0)? };
    let (first, from) = client.read(b"\0\x01snponly.efi\0octet\0")?;
    stranger.socket.send_to(&[0, 4, 0, 1], from)?;
    let (error, _) = stranger.packet()?;
    ensure!(error.starts_with(&[0, 5, 0, 5]), "{error:?}");
    ensure!(client.rest(first, from, 512)? == file(LOADER)?, "other bytes");
    Ok(())
}

/// A request that the network doubled must not start a second transfer, which would take the client from the first.
#[test]
fn a_doubled_request_is_one_transfer() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let client = Client { socket: bench.client_socket(0)? };
    client.socket.send_to(b"\0\x01snponly.efi\0octet\0", (SERVER, 69))?;
    let (first, from) = client.read(b"\0\x01snponly.efi\0octet\0")?;
    ensure!(client.rest(first, from, 512)? == file(LOADER)?, "other bytes");
    Ok(())
}
