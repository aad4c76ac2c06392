//! Machines that ask, each once, a few at a time.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netbootd_lab::{Captured, receive};
use socket2::{Domain, Protocol, Socket, Type};

use crate::CLIENT;

/// A socket that hears what is sent to clients. To be called on the client's host.
pub(crate) fn socket(port: u16) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(b"eth1"))?;
    socket.set_broadcast(true)?;
    // What is lost is to be lost at the server. More than net.core.rmem_max has is not granted, and not needed: the
    // client reads as fast as the server answers.
    socket.set_recv_buffer_size(4 << 20)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    Ok(socket.into())
}

/// Machines behind one socket.
pub(crate) struct Crowd<'a> {
    pub(crate) socket: &'a UdpSocket,
    pub(crate) captured: &'a Captured,
    pub(crate) to: SocketAddrV4,
    /// How many have asked and wait.
    pub(crate) in_flight: usize,
}

impl Crowd<'_> {
    /// How long those of the machines with these numbers waited that were answered.
    pub(crate) fn ask(&self, machines: Range<u32>) -> Result<Vec<Duration>> {
        self.socket.set_read_timeout(Some(PATIENCE))?;
        let (mut waiting, mut next, mut waited) = (HashMap::new(), machines.clone(), Vec::new());
        let mut buffer = [0; 1500];
        loop {
            while waiting.len() < self.in_flight
                && let Some(number) = next.next()
            {
                let mut packet = self.captured.from_machine(number);
                if let Some(ciaddr) = packet.get_mut(12..16).filter(|ciaddr| ciaddr.iter().any(|byte| *byte != 0)) {
                    // dnsmasq answers to the address that a machine says it has, netbootd to where it asked from.
                    ciaddr.copy_from_slice(&CLIENT.octets());
                }
                self.socket.send_to(&packet, self.to)?;
                waiting.insert(number, Instant::now());
            }
            if waiting.is_empty() {
                return Ok(waited);
            }
            let Ok((length, _)) = receive(self.socket, &mut buffer) else {
                // Those that wait will wait for ever.
                ensure!(!waited.is_empty(), "the server answers nobody");
                waiting.clear();
                continue;
            };
            let id = buffer.get(4..8).and_then(|id| id.first_chunk()).map(|id| u32::from_be_bytes(*id));
            ensure!(length >= 240, "an answer of {length} bytes");
            waited.extend(id.and_then(|id| waiting.remove(&id)).map(|asked| asked.elapsed()));
        }
    }
}

/// For an answer that takes microseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
