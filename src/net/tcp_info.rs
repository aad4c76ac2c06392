//! What the kernel knows of a TCP connection, and the two socket options that no safe interface offers.
//!
//! The one file with `unsafe`: neither socket2 nor rustix nor nix has `TCP_INFO`, `TCP_RTO_MAX_MS` or
//! `SO_MAX_PACING_RATE`. What it holds of it are two system calls over a buffer on the stack.
#![expect(unsafe_code, reason = "getsockopt and setsockopt of options that no safe interface offers")]

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

/// The peer of a connection, as `TCP_INFO` shows it (`struct tcp_info` of linux/tcp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// The connection is over: it was reset, or the kernel has given it up.
    pub is_closed: bool,
    /// Retransmissions since the last acknowledgement.
    pub retransmits: u8,
    /// Window probes that nothing has answered.
    pub probes: u8,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Since the last acknowledgement of any kind; of the kernel's clock, whose tick is 1 to 10 ms.
    pub last_ack_recv: Duration,
    /// Bytes acknowledged since the connection began.
    pub bytes_acked: u64,
    /// Bytes that wait in the kernel and were not sent once.
    pub notsent: u32,
    /// Bytes that the peer is ready to take; `None` before Linux 5.4.
    pub window: Option<u32>,
}

/// Asks the kernel.
///
/// # Errors
/// Those of getsockopt(2); `Unsupported` for a kernel whose answer ends before the fields that are needed (4.6).
pub fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    let mut buffer = [0; 256];
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the call, and the kernel writes at most `length` bytes into a buffer of
    // that many, of which every pattern is valid.
    let result = unsafe {
        let descriptor = socket.as_fd().as_raw_fd();
        libc::getsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_INFO, buffer.as_mut_ptr().cast(), &raw mut length)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let filled = buffer.get(..length as usize).unwrap_or(&buffer);
    parse(filled).ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "Linux 4.6 or later is needed (TCP_INFO)"))
}

/// Offsets of `struct tcp_info`, which only ever grows at its end. Not libc's own struct: its size for glibc is that of
/// 2012, before the fields on acknowledged and unsent bytes.
fn parse(info: &[u8]) -> Option<TcpInfo> {
    let byte = |offset: usize| info.get(offset).copied();
    let word = |offset: usize| Some(u32::from_ne_bytes(*info.get(offset..)?.first_chunk()?));
    let long = |offset: usize| Some(u64::from_ne_bytes(*info.get(offset..)?.first_chunk()?));
    Some(TcpInfo {
        is_closed: byte(0)? == TCP_CLOSE,
        retransmits: byte(2)?,
        probes: byte(3)?,
        unacked: word(24)?,
        last_ack_recv: Duration::from_millis(word(56)?.into()),
        bytes_acked: long(120)?,
        notsent: word(144)?,
        window: word(228),
    })
}

/// Bounds the time between two retransmissions or two window probes (`TCP_RTO_MAX_MS`, Linux 6.15). Whether the kernel
/// has it.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_rto_max(socket: impl AsFd, most: Duration) -> io::Result<bool> {
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(120));
    let milliseconds = c_int::try_from(most.clamp(shortest, longest).as_millis()).unwrap_or(c_int::MAX);
    match set(socket, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, &milliseconds.to_ne_bytes()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        set => set.map(|()| true),
    }
}

/// Spaces out what is sent so that it makes `rate` bytes per second (`SO_MAX_PACING_RATE`, socket(7)).
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_max_pacing_rate(socket: impl AsFd, rate: u64) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, &rate.to_ne_bytes())
}

fn set(socket: impl AsFd, level: c_int, option: c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call, and the kernel reads as many bytes as the slice has.
    let result = unsafe {
        let descriptor = socket.as_fd().as_raw_fd();
        libc::setsockopt(descriptor, level, option, value.as_ptr().cast(), value.len() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// linux/tcp.h; libc has no name for it yet.
const TCP_RTO_MAX_MS: c_int = 44;
/// include/net/tcp_states.h.
const TCP_CLOSE: u8 = 7;

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        (listener.accept().expect("accepted").0, client)
    }

    #[test]
    fn the_kernel_tells_what_was_acknowledged_and_what_waits() {
        let (mut server, mut client) = pair();
        let before = tcp_info(&server).expect("told");
        server.write_all(&[7; 1000]).expect("sent");
        client.read_exact(&mut [0; 1000]).expect("received");
        let after = tcp_info(&server).expect("told");
        assert_eq!(after.bytes_acked - before.bytes_acked, 1000);
        assert_eq!((after.unacked, after.notsent, after.retransmits, after.probes), (0, 0, 0, 0));
        assert!(
            !after.is_closed && after.last_ack_recv < Duration::from_secs(5) && after.window > Some(0),
            "{after:?}"
        );

        // A client that does not read: its window closes, and what is left waits unsent.
        server.set_nonblocking(true).expect("set");
        while server.write(&[7; 65536]).is_ok() {}
        let stalled = tcp_info(&server).expect("told");
        assert!(stalled.notsent > 0 && stalled.bytes_acked > after.bytes_acked, "{stalled:?}");
    }

    #[test]
    fn the_options_are_taken_or_told_to_be_missing() {
        let (server, _client) = pair();
        set_rto_max(&server, Duration::from_secs(19)).expect("set, or ENOPROTOOPT");
        set_max_pacing_rate(&server, 1_000_000).expect("set");
        assert_eq!(parse(&[0; 147]), None);
        assert_eq!(parse(&[0; 160]).map(|info| info.window), Some(None));
    }
}
