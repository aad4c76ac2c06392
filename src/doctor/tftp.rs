//! A TFTP client that asks as firmware does.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

/// How to ask (RFC 2348, RFC 7440).
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Bytes in a block; none: 512, and no option is sent, as old ROMs do.
    pub block: Option<u16>,
    /// Blocks in flight; 1: no option is sent.
    pub window: u16,
    /// Enough bytes: more are not fetched.
    pub most: usize,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The size of the blocks.
    pub block: u16,
}

/// Why nothing came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The server's own words.
    #[error("{1} (TFTP error {0})")]
    Refused(u16, String),
    /// No packet for some seconds, after so many bytes.
    #[error("no answer to a read request for {WAIT:?} and {TRIES} tries")]
    Silent,
    /// The server stopped in the middle.
    #[error("no more data after {0} bytes")]
    Stopped(usize),
    /// A packet that makes no sense.
    #[error("the server sent {0}")]
    Wrong(&'static str),
    /// A system call.
    #[error("{0}")]
    Io(String),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// Fetches a file, or its beginning.
///
/// # Errors
/// See [`Lost`].
pub fn fetch(own: Ipv4Addr, server: Ipv4Addr, name: &str, how: How) -> Result<Got, Lost> {
    let socket = UdpSocket::bind((own, 0))?;
    socket.set_read_timeout(Some(WAIT))?;
    let request = request(name, how);
    let mut transfer = Transfer { socket, peer: None, bytes: Vec::new(), block: 512, window: 1, last: 0 };
    let mut buffer = vec![0; 66_000];
    for _ in 0..TRIES {
        transfer.socket.send_to(&request, SocketAddrV4::new(server, 69))?;
        if let Some(length) = transfer.receive(server, &mut buffer)? {
            return transfer.goes_on(buffer.get(..length).unwrap_or_default().to_vec(), server, how.most, &mut buffer);
        }
    }
    Err(Lost::Silent)
}

/// Which netbootd understands: the fetch is in no machine's timeline.
const LOOK: &str = "netbootd-look";

/// EDK2 sends the options in this order (UefiPxeBcDxe, `PxeBcTftpReadFile`).
fn request(name: &str, How { block, window, .. }: How) -> Vec<u8> {
    let mut request = [b"\0\x01", name.as_bytes(), b"\0octet\0"].concat();
    let mut option = |name: &str, value: u16| request.extend(format!("{name}\0{value}\0").into_bytes());
    if let Some(block) = block {
        option("tsize", 0);
        option("blksize", block);
    }
    if window > 1 {
        option("windowsize", window);
    }
    option(LOOK, 1);
    request
}

struct Transfer {
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    bytes: Vec<u8>,
    block: u16,
    window: u16,
    /// The number of the last block that came in order.
    last: u16,
}

impl Transfer {
    /// The next datagram of the server; none in time.
    fn receive(&mut self, server: Ipv4Addr, buffer: &mut [u8]) -> Result<Option<usize>, Lost> {
        let until = Instant::now() + WAIT;
        while Instant::now() < until {
            match self.socket.recv_from(buffer) {
                Ok((length, from)) if from.ip() == server && self.peer.is_none_or(|peer| peer == from) => {
                    self.peer = Some(from);
                    return Ok(Some(length));
                }
                // A stranger.
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                // A wait with a limit is not taken up again by itself after a stop and a continue (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn goes_on(mut self, mut packet: Vec<u8>, server: Ipv4Addr, most: usize, buffer: &mut [u8]) -> Result<Got, Lost> {
        loop {
            let is_last = self.take(&packet)?;
            let is_enough = self.bytes.len() >= most;
            if is_last || is_enough {
                // Without this, a server would send the rest again and again.
                self.send(if is_last { [4, self.last] } else { [5, 0] })?;
                let Self { bytes, block, .. } = self;
                return Ok(Got { bytes, block });
            }
            let is_window_full = self.last.is_multiple_of(self.window.max(1));
            if is_window_full || packet.get(1) == Some(&6) {
                self.send([4, self.last])?;
            }
            let mut tries = 0;
            packet = loop {
                if let Some(length) = self.receive(server, buffer)? {
                    break buffer.get(..length).unwrap_or_default().to_vec();
                }
                tries += 1;
                if tries == TRIES {
                    self.send([5, 0])?;
                    return Err(Lost::Stopped(self.bytes.len()));
                }
                self.send([4, self.last])?;
            };
        }
    }

    /// Whether it was the last block.
    fn take(&mut self, packet: &[u8]) -> Result<bool, Lost> {
        let (opcode, rest) = packet.split_first_chunk().ok_or(Lost::Wrong("an empty packet"))?;
        let number = rest.first_chunk().map(|number| u16::from_be_bytes(*number)).unwrap_or_default();
        match u16::from_be_bytes(*opcode) {
            3 => {
                let data = rest.get(2..).unwrap_or_default();
                // What comes twice, or too early behind a lost block, is left to the server's repetition.
                if number != self.last.wrapping_add(1) {
                    return Ok(false);
                }
                self.last = number;
                self.bytes.extend_from_slice(data);
                Ok(data.len() < usize::from(self.block))
            }
            5 => Err(Lost::Refused(
                number,
                String::from_utf8_lossy(rest.get(2..).unwrap_or_default()).trim_end_matches('\0').to_owned(),
            )),
            6 => {
                let mut words = rest.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).to_lowercase());
                while let (Some(name), Some(value)) = (words.next(), words.next()) {
                    match (name.as_str(), value.parse()) {
                        ("blksize", Ok(block)) => self.block = block,
                        ("windowsize", Ok(window)) => self.window = window,
                        _ => {}
                    }
                }
                Ok(false)
            }
            _ => Err(Lost::Wrong("a packet that is neither data nor an error")),
        }
    }

    fn send(&self, [opcode, number]: [u16; 2]) -> Result<(), Lost> {
        let mut packet = [opcode.to_be_bytes(), number.to_be_bytes()].concat();
        if opcode == 5 {
            packet.extend_from_slice(b"enough\0");
        }
        match self.peer {
            Some(peer) => Ok(self.socket.send_to(&packet, peer).map(drop)?),
            None => Ok(()),
        }
    }
}

/// Firmware waits longer; a server answers within milliseconds.
const WAIT: Duration = Duration::from_millis(700);
const TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn requests_are_those_of_firmware() {
        let how = How { block: Some(1468), window: 4, most: 1 };
        let expected: &[u8] = b"\0\x01a.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0netbootd-look\x001\0";
        assert_eq!(request("a.efi", how), expected);
        assert_eq!(request("a", How { block: None, window: 1, most: 1 }), b"\0\x01a\0octet\0netbootd-look\x001\0");
    }

    /// A transfer against a server that loses its first block of the second window, and one that stops.
    #[test]
    fn a_file_is_put_together_of_its_blocks() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
        client.set_read_timeout(Some(WAIT)).expect("set");
        let to = client.local_addr().expect("bound");
        let served = thread::spawn(move || {
            let mut acks = Vec::new();
            let send = |block: u16, length: usize| {
                let packet = [[3, 0].as_slice(), &[], &block.to_be_bytes()].concat();
                let packet = [&[0, 3], packet.get(2..).unwrap_or_default(), &vec![block as u8; length]].concat();
                server.send_to(&packet, to).expect("sent");
            };
            server.send_to(b"\0\x06blksize\x008\0windowsize\x002\0", to).expect("sent");
            let mut buffer = [0; 32];
            for step in [[1, 2, 0], [4, 0, 0], [3, 4, 5]] {
                let (length, _) = server.recv_from(&mut buffer).expect("an ACK");
                acks.push(buffer.get(..length).unwrap_or_default().to_vec());
                step.into_iter()
                    .filter(|block| *block > 0)
                    .for_each(|block| send(block, if block == 5 { 3 } else { 8 }));
            }
            acks
        });
        let peer = None;
        let mut transfer = Transfer { socket: client, peer, bytes: Vec::new(), block: 512, window: 1, last: 0 };
        let mut buffer = vec![0; 600];
        let length = transfer.receive(Ipv4Addr::LOCALHOST, &mut buffer).expect("received").expect("in time");
        let first = buffer.get(..length).unwrap_or_default().to_vec();
        let got = transfer.goes_on(first, Ipv4Addr::LOCALHOST, usize::MAX, &mut buffer).expect("a file");
        assert_eq!((got.bytes.len(), got.block), (35, 8));
        assert_eq!(got.bytes.get(32..), Some([5, 5, 5].as_slice()));
        let acks = served.join().expect("served");
        assert_eq!(acks.first().map(Vec::as_slice), Some(b"\0\x04\0\0".as_slice()));
    }
}
