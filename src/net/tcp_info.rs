//! The kernel's data about a TCP connection, and two socket options.
//!
//! One of two files with `unsafe`: socket2, rustix and nix have no `TCP_INFO`, `TCP_RTO_MAX_MS` or
//! `SO_MAX_PACING_RATE`. The unsafe code is two system calls with a buffer on the stack.
#![expect(unsafe_code, reason = "getsockopt and setsockopt of options without a safe interface")]

use std::{
    ffi::c_int,
    io,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

/// The state of a connection, from `TCP_INFO` (`struct tcp_info` of linux/tcp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// The connection has ended: it was reset, or the kernel gave it up.
    pub is_closed: bool,
    /// Retransmissions since the last acknowledgement.
    pub retransmits: u8,
    /// Window probes without an answer.
    pub probes: u8,
    /// Segments that were sent and not acknowledged.
    pub unacked: u32,
    /// Time since the last acknowledgement of any kind. The kernel's clock has ticks of 1 to 10 ms.
    pub last_ack_recv: Duration,
    /// Bytes acknowledged since the start of the connection.
    pub bytes_acked: u64,
    /// Bytes in the kernel that were not sent yet.
    pub notsent: u32,
    /// Bytes that the peer can receive now; `None` before Linux 5.4.
    pub window: Option<u32>,
}

/// Reads the data from the kernel.
///
/// # Errors
/// Those of getsockopt(2); `Unsupported` for kernels before 4.6, which lack some fields.
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

/// Offsets in `struct tcp_info`, which only grows at its end. libc's own struct is not used: for glibc it is that of
/// 2012, without the fields for acknowledged and unsent bytes.
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

/// Limits the time between two retransmissions or two window probes (`TCP_RTO_MAX_MS`, Linux 6.15). Returns whether the
/// kernel supports it.
///
/// # Errors
/// Those of setsockopt(2).
/// Those of setsockopt(2).
pub fn set_rto_max(socket: impl AsFd, most: Duration) -> io::Result<bool> {
    let (shortest, longest) = (Duration::from_secs(1), Duration::from_secs(120));
    let milliseconds = c_int::try_from(most.clamp(shortest, longest).as_millis()).unwrap_or(c_int::MAX);
    match set(socket, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, &milliseconds.to_ne_bytes()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        set => set.map(|()| true),
    }
}

/// Limits the send rate to `rate` bytes per second (`SO_MAX_PACING_RATE`, socket(7)).
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
    fn acknowledged_and_unsent_bytes_are_read() {
        let (mut server, mut client) = pair();
        let before = tcp_info(&server).expect("read");
        server.write_all(&[7; 1000]).expect("sent");
        client.read_exact(&mut [0; 1000]).expect("received");
        let after = tcp_info(&server).expect("read");
        assert_eq!(after.bytes_acked - before.bytes_acked, 1000);
        assert_eq!((after.unacked, after.notsent, after.retransmits, after.probes), (0, 0, 0, 0));
        assert!(
            !after.is_closed && after.last_ack_recv < Duration::from_secs(5) && after.window > Some(0),
            "{after:?}"
        );

        // A client that does not read: its window closes, and the rest waits unsent.
        server.set_nonblocking(true).expect("set");
        while server.write(&[7; 65536]).is_ok() {}
        let stalled = tcp_info(&server).expect("read");
        assert!(stalled.notsent > 0 && stalled.bytes_acked > after.bytes_acked, "{stalled:?}");
    }

    #[test]
    fn the_options_are_set_or_reported_as_missing() {
        let (server, _client) = pair();
        set_rto_max(&server, Duration::from_secs(19)).expect("set, or ENOPROTOOPT");
        set_max_pacing_rate(&server, 1_000_000).expect("set");
        assert_eq!(parse(&[0; 147]), None);
        assert_eq!(parse(&[0; 160]).map(|info| info.window), Some(None));
    }
}
