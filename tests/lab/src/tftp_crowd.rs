//! TFTP clients that all begin at once, read as firmware does, and compare every byte.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{net::UdpSocket, task::JoinSet, time::timeout};

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The file's name.
    pub name: &'static str,
    /// Its bytes.
    pub expected: Arc<Vec<u8>>,
    /// 512: the option is not sent.
    pub block_size: usize,
    /// 1: lock-step, and the option is not sent.
    pub window: u64,
}

/// A client from each of these addresses; how long each took, in no order, or what went wrong. To be called on the
/// clients' host.
pub fn crowd(
    addresses: impl Iterator<Item = Ipv4Addr>,
    fetch: &Fetch,
    server: Ipv4Addr,
) -> Result<Vec<Result<Duration>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for address in addresses {
            let socket = UdpSocket::bind((address, 0)).await?;
            tasks.spawn(Client { socket, fetch: fetch.clone() }.run(server));
        }
        Ok(tasks.join_all().await)
    })
}

struct Client {
    socket: UdpSocket,
    fetch: Fetch,
}

impl Client {
    async fn run(self, server: Ipv4Addr) -> Result<Duration> {
        let began = Instant::now();
        let (mut packet, transfer) = self.asked(server).await?;
        let mut acked = 0_u64;
        let mut unacked = 0;
        let mut gap_told = false;
        loop {
            match packet.as_slice() {
                [_, 6, ..] => self.ack(0, transfer).await?,
                [_, 3, high, low, data @ ..] => {
                    let number = u16::from_be_bytes([*high, *low]);
                    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what the wire carries")]
                    let ahead = number.wrapping_sub(acked as u16);
                    if ahead == 1 {
                        let is_last = self.check(acked, data)?;
                        (acked, unacked, gap_told) = (acked + 1, unacked + 1, false);
                        if is_last || unacked == self.fetch.window {
                            self.ack(acked, transfer).await?;
                            unacked = 0;
                        }
                        if is_last {
                            return Ok(began.elapsed());
                        }
                    } else if ahead == 0 || (self.fetch.window > 1 && !gap_told) {
                        // A block that came twice lost its ACK; a gap in a window is told once (RFC 7440 §4).
                        self.ack(acked, transfer).await?;
                        (unacked, gap_told) = (0, true);
                    }
                }
                _ => bail!("not DATA: {:?}", String::from_utf8_lossy(&packet)),
            }
            for attempt in 0.. {
                if let Ok(received) = timeout(PATIENCE, self.receive(&mut packet)).await {
                    ensure!(received? == transfer, "a packet from another port");
                    break;
                }
                ensure!(attempt < 6, "silence after block {acked}");
                self.ack(acked, transfer).await?;
                unacked = 0;
            }
        }
    }

    /// The answer to the request.
    async fn asked(&self, server: Ipv4Addr) -> Result<(Vec<u8>, SocketAddr)> {
        let Fetch { name, block_size, window, .. } = &self.fetch;
        let mut request = format!("\0\x01{name}\0octet\0").into_bytes();
        if *block_size != 512 {
            request.extend(format!("blksize\0{block_size}\0").bytes());
        }
        if *window > 1 {
            request.extend(format!("windowsize\0{window}\0").bytes());
        }
        let mut packet = Vec::new();
        for _ in 0..6 {
            self.socket.send_to(&request, (server, 69)).await?;
            if let Ok(received) = timeout(PATIENCE, self.receive(&mut packet)).await {
                let granted = String::from_utf8_lossy(&packet);
                ensure!(*window == 1 || granted.contains(&format!("windowsize\0{window}\0")), "no windows");
                ensure!(*block_size == 512 || granted.contains(&format!("blksize\0{block_size}\0")), "other blocks");
                return Ok((packet, received?));
            }
        }
        bail!("the request was never answered")
    }

    async fn receive(&self, packet: &mut Vec<u8>) -> io::Result<SocketAddr> {
        packet.clear();
        packet.reserve(2000);
        Ok(self.socket.recv_buf_from(packet).await?.1)
    }

    async fn ack(&self, block: u64, to: SocketAddr) -> Result<()> {
        let [.., high, low] = block.to_be_bytes();
        self.socket.send_to(&[0, 4, high, low], to).await.context("sending an ACK")?;
        Ok(())
    }

    /// Whether the block is the last one.
    fn check(&self, before: u64, data: &[u8]) -> Result<bool> {
        let start = usize::try_from(before)? * self.fetch.block_size;
        let expected = self.fetch.expected.get(start..self.fetch.expected.len().min(start + self.fetch.block_size));
        ensure!(expected == Some(data), "block {} has other bytes", before + 1);
        Ok(data.len() < self.fetch.block_size)
    }
}

/// As EDK2: 4 s before it asks again.
const PATIENCE: Duration = Duration::from_secs(4);
