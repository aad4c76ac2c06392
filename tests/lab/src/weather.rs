//! A cable with faults between a host and the switch. In user space, since not every kernel has netem, and seeded,
//! since netem's faults are not: what failed once fails again.

#![expect(clippy::indexing_slicing, reason = "lengths are checked where a frame comes in")]

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    os::fd::IntoRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender};
use socket2::{Domain, Socket, Type};

use crate::{Host, Lab};

/// What a cable does to frames, in each direction.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of a thousand frames.
    pub lost: u64,
    /// Of a thousand frames.
    pub doubled: u64,
    /// Of a thousand frames: these are overtaken by those behind them.
    pub late: u64,
    /// In each direction.
    pub delay: Duration,
    /// Bytes with the Ethernet header; longer ones are lost without a word, as in many a VPN.
    pub longest: usize,
    /// The same faults for the same seed.
    pub seed: u64,
}

impl Weather {
    /// No faults.
    pub const FAIR: Self = Self { lost: 0, doubled: 0, late: 0, delay: Duration::ZERO, longest: 1514, seed: 1 };

    /// Replaces the cable of the host that is on this port of the switch, until the answer is dropped.
    pub fn over(self, lab: &Lab, port: &str) -> Result<Cable> {
        let ip = |arguments: &str| lab.switch().ip(&arguments.split(' ').collect::<Vec<_>>());
        ip(&format!("link set {port} nomaster"))?;
        ip("link add cable0 type veth peer name cable1")?;
        // Windows travel as one large frame inside a host; on a cable they are packets.
        ip("link set cable1 gso_max_segs 1")?;
        ip("link set cable1 master br0 up")?;
        ip("link set cable0 up")?;
        let ((to_host, from_host), (to_switch, from_switch)) =
            lab.switch().enter(|| -> Result<_> { Ok((channel(port)?, channel("cable0")?)) })??;
        let gone = Arc::new(AtomicBool::new(false));
        self.carry(from_switch, to_host, gone.clone());
        Weather { seed: self.seed + 1, ..self }.carry(from_host, to_switch, gone.clone());
        Ok(Cable { gone, switch: lab.switch().clone(), port: port.to_owned() })
    }

    fn carry(self, mut from: Box<dyn DataLinkReceiver>, mut to: Box<dyn DataLinkSender>, gone: Arc<AtomicBool>) {
        let (sender, frames) = mpsc::channel::<(Instant, u64, Vec<u8>)>();
        thread::spawn(move || {
            let mut chance = Chance(self.seed);
            let mut number = 0;
            while !gone.load(Ordering::Relaxed) {
                let frame = match from.next() {
                    Ok(frame) => without_checksum(frame),
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => continue,
                    Err(_) => return,
                };
                if chance.one_of(1000) < self.lost || frame.len() > self.longest {
                    continue;
                }
                let late = if chance.one_of(1000) < self.late { Duration::from_millis(2) } else { Duration::ZERO };
                let times = if chance.one_of(1000) < self.doubled { 2 } else { 1 };
                for _ in 0..times {
                    number += 1;
                    if sender.send((Instant::now() + self.delay + late, number, frame.clone())).is_err() {
                        return;
                    }
                }
            }
        });
        thread::spawn(move || {
            let mut waiting = BinaryHeap::new();
            loop {
                let now = Instant::now();
                let next = waiting.peek().map(|Reverse((due, _, _)): &Reverse<(Instant, u64, Vec<u8>)>| *due);
                match next {
                    Some(due) if due <= now => {
                        if let Some(Reverse((_, _, frame))) = waiting.pop() {
                            // A host that has gone hears nothing.
                            let _ = to.send_to(&frame, None);
                        }
                        continue;
                    }
                    _ => {}
                }
                let patience = next.map_or(Duration::from_secs(3600), |due| due - now);
                match frames.recv_timeout(patience) {
                    Ok(frame) => waiting.push(Reverse(frame)),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                }
            }
        });
    }
}

/// Carries frames until it is dropped, and leaves the host on the switch as it was.
#[derive(Debug)]
pub struct Cable {
    gone: Arc<AtomicBool>,
    switch: Host,
    port: String,
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        // Both fail only where the lab has gone before.
        let _ = self.switch.ip(&["link", "delete", "cable0"]);
        let _ = self.switch.ip(&["link", "set", &self.port, "master", "br0"]);
    }
}

fn channel(interface: &str) -> Result<(Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>)> {
    let interfaces = pnet_datalink::interfaces();
    let found = interfaces.iter().find(|found| found.name == interface).context("no such interface")?;
    // Hundreds of clients that are answered at once are a burst that the usual 208 KiB would lose a part of.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 16 << 20)?;
    let socket_fd = Some(socket.into_raw_fd());
    let config = Config { read_timeout: Some(Duration::from_millis(100)), socket_fd, ..Config::default() };
    match pnet_datalink::channel(found, config)? {
        Channel::Ethernet(sender, receiver) => Ok((sender, receiver)),
        _ => bail!("no Ethernet"),
    }
}

/// A veth leaves the checksums of UDP and TCP to hardware that is not there. For UDP, none at all (RFC 768) is better than
/// a wrong one; TCP has to have one (RFC 9293 §3.1).
fn without_checksum(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let at = |index: usize| frame.get(index).copied().unwrap_or_default();
    let (is_ipv4, protocol) = ((at(12), at(13)) == (8, 0), at(23));
    let is_first_fragment = at(20) & 0x1f == 0 && at(21) == 0;
    let end = 14 + usize::from(u16::from_be_bytes([at(16), at(17)]));
    let segment = 14 + usize::from(at(14) & 15) * 4;
    let place = match protocol {
        17 => segment + 6,
        6 => segment + 16,
        _ => return frame,
    };
    if !is_ipv4 || !is_first_fragment || frame.get(place..place + 2).is_none() || end > frame.len() || segment > end {
        return frame;
    }
    frame[place..place + 2].fill(0);
    if protocol == 6 {
        let length = u16::try_from(end - segment).unwrap_or_default().to_be_bytes();
        let pseudo = [&frame[26..34], &[0, 6], &length, &frame[segment..end]].concat();
        let sum = checksum(&pseudo).to_be_bytes();
        frame[place..place + 2].copy_from_slice(&sum);
    }
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Knuth's MMIX generator; its high bits are the good ones.
struct Chance(u64);

impl Chance {
    fn one_of(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % count
    }
}
