//! Packets of real firmware (`tests/packets`), and machines that send them under names of their own.

#![expect(clippy::indexing_slicing, reason = "a file too short to hold a packet fails the test that reads it")]

use std::fs;
use std::net::{SocketAddrV4, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use crate::sockets::receive;

/// A request as it was captured, with the whole reply that it was answered by.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The file's name, without its ending.
    pub name: String,
    /// The firmware, in words.
    pub firmware: String,
    /// The port that was asked: 67 or 4011.
    pub port: u16,
    /// UDP payload.
    pub request: Vec<u8>,
    /// UDP payload; empty where there was none.
    pub reply: Vec<u8>,
}

impl Captured {
    /// Every file of `tests/packets`, in the order of their names.
    pub fn all() -> Result<Vec<Captured>> {
        let mut paths = fs::read_dir(FOLDER)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "hex"));
        paths.sort();
        paths.iter().map(|path| Captured::read(path).with_context(|| path.display().to_string())).collect()
    }

    /// One of them.
    pub fn named(name: &str) -> Result<Captured> {
        let path = Path::new(FOLDER).join(name).with_extension("hex");
        Captured::read(&path).with_context(|| path.display().to_string())
    }

    fn read(path: &Path) -> Result<Captured> {
        let text = fs::read_to_string(path)?;
        let (words, packets) = text.split_once("# request").context("no line `# request`")?;
        let (request, reply) = packets.split_once("# reply\n").context("no line `# reply`")?;
        let (to, request) = request.split_once('\n').context("the file ends at `# request`")?;
        let port = match to.trim() {
            "" => 67,
            "to port 4011" => 4011,
            other => anyhow::bail!("`# request {other}`: it is `to port 4011`, or nothing for port 67"),
        };
        let firmware = words.trim().trim_start_matches("# ").to_owned();
        let name = path.file_stem().context("no name")?.to_string_lossy().into_owned();
        Ok(Captured { name, firmware, port, request: bytes(request)?, reply: bytes(reply)? })
    }

    /// The same from another machine: its number is in the card's address, in the UUID and in the transaction id.
    #[must_use]
    pub fn from_machine(&self, number: u32) -> Vec<u8> {
        let mut packet = self.request.clone();
        let number = number.to_be_bytes();
        packet[4..8].copy_from_slice(&number);
        packet[28..34].copy_from_slice(&[&[0x52, 0x54], &number[..]].concat());
        let mut at = 240;
        while let (Some(code), Some(length)) = (packet.get(at).copied(), packet.get(at + 1).copied()) {
            let end = at + 2 + usize::from(length);
            // Client identifier and client UUID.
            if [61, 97].contains(&code) && length >= 4 {
                packet[end - 4..end].copy_from_slice(&number);
            }
            at = end;
        }
        packet
    }
}

/// Bytes without a pattern, the same for the same seed (a 64-bit LCG's high bytes, Knuth's MMIX).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// From its beginning.
    #[must_use]
    pub fn new(seed: u64) -> Noise {
        Noise(seed)
    }

    /// A number below a bound of at most 65,536.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()])) % bound.max(1)
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0.to_be_bytes()[0]
    }
}

impl Iterator for Noise {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        Some(self.byte())
    }
}

/// A DHCP packet with a few bytes that are wrong, most of them where lengths, codes and addresses are; now and then
/// without its end, or with a piece of itself in another place.
pub fn mutated(mut packet: Vec<u8>, noise: &mut Noise) -> Vec<u8> {
    for _ in 0..=noise.below(8) {
        // The header as far as chaddr, and what is behind the magic cookie.
        let behind = packet.len().saturating_sub(232);
        let place = if noise.below(4) == 0 { noise.below(44) } else { 232 + noise.below(behind) };
        if let Some(byte) = packet.get_mut(place) {
            *byte = noise.byte();
        }
    }
    match noise.below(8) {
        0 => packet.truncate(noise.below(packet.len())),
        1 => {
            let from = noise.below(packet.len());
            let piece = packet[from..packet.len().min(from + noise.below(64))].to_vec();
            let to = noise.below(packet.len());
            packet.splice(to..to, piece);
        }
        _ => {}
    }
    packet
}

/// Many machines ask at once: how long each waited for its answer, in their order; `None` for one that was never
/// answered. Ends when all were, or when nothing has come for as long as `patience`.
pub fn storm(socket: &UdpSocket, requests: &[Vec<u8>], to: SocketAddrV4, patience: Duration) -> Result<Vec<Waited>> {
    socket.set_read_timeout(Some(patience))?;
    // What is lost is to be lost at the server.
    setsockopt(socket, sockopt::RcvBufForce, &(8 << 20))?;
    let ids: std::collections::HashMap<&[u8], usize> =
        requests.iter().enumerate().map(|(number, request)| (&request[4..8], number)).collect();
    ensure!(ids.len() == requests.len(), "two requests have one transaction id");
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<Vec<Instant>> {
            let send = |request: &Vec<u8>| {
                let now = Instant::now();
                socket.send_to(request, to)?;
                Ok(now)
            };
            requests.iter().map(send).collect()
        });
        let mut answered = vec![None; requests.len()];
        let (mut left, mut buffer) = (requests.len(), [0; 1500]);
        while left > 0
            && let Ok((length, _)) = receive(socket, &mut buffer)
        {
            let number = buffer[..length].get(4..8).and_then(|id| ids.get(id));
            let place = number.and_then(|number| answered.get_mut(*number));
            if let Some(time) = place.filter(|time: &&mut Option<Instant>| buffer[0] == BOOT_REPLY && time.is_none()) {
                *time = Some(Instant::now());
                left -= 1;
            }
        }
        let sent = sender.join().ok().context("the sender panicked")??;
        Ok(answered.into_iter().zip(sent).map(|(answered, sent)| Some(answered? - sent)).collect())
    })
}

/// From a machine's request to its answer; `None` where none came.
pub type Waited = Option<Duration>;

fn bytes(hexadecimal: &str) -> Result<Vec<u8>> {
    let digits: String = hexadecimal.split_whitespace().collect();
    ensure!(digits.is_ascii() && digits.len().is_multiple_of(2), "half a byte");
    (0..digits.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&digits[at..at + 2], 16)?)).collect()
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packets");
/// `op` of what a server sends (RFC 2131 §2).
const BOOT_REPLY: u8 = 2;
