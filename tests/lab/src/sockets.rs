//! Reads from a socket that has a time limit.

use std::io;
use std::net::{SocketAddr, UdpSocket};

/// A call that is made again when it was interrupted: a read from a socket with a time limit is not taken up again by itself
/// after this process was stopped and continued (signal(7), "Interruption of system calls").
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The next datagram.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    uninterrupted(|| socket.recv_from(buffer))
}
