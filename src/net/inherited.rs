//! Sockets that systemd opened for us (sd_listen_fds(3)). Each replaces the socket that netbootd would open for the
//! same address and interface. All others are opened as usual.

use std::{
    io,
    net::{SocketAddr, SocketAddrV4, TcpListener, UdpSocket},
    sync::{Mutex, OnceLock, PoisonError},
};

use listenfd::ListenFd;
use socket2::SockRef;

#[derive(Debug, Default)]
struct Inherited {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Inherited {
    /// Other kinds of sockets are not used.
    fn from_environment() -> Self {
        let mut given = ListenFd::from_env();
        let mut inherited = Self::default();
        for number in 0..given.len() {
            if let Ok(Some(listener)) = given.take_tcp_listener(number) {
                inherited.tcp.push(listener);
            } else if let Ok(Some(socket)) = given.take_udp_socket(number) {
                inherited.udp.push(socket);
            }
        }
        inherited
    }
}

/// The environment belongs to the whole process, so there is only one set.
fn all() -> &'static Mutex<Inherited> {
    static INHERITED: OnceLock<Mutex<Inherited>> = OnceLock::new();
    INHERITED.get_or_init(|| Mutex::new(Inherited::from_environment()))
}

/// The TCP socket that listens on this address.
///
/// # Errors
/// It cannot be made non-blocking.
/// That it cannot be used without waiting.
pub fn tcp(address: SocketAddrV4) -> io::Result<Option<TcpListener>> {
    let mut all = all().lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| local == SocketAddr::V4(address));
    let Some(place) = all.tcp.iter().position(is_it) else { return Ok(None) };
    let socket = all.tcp.swap_remove(place);
    socket.set_nonblocking(true)?;
    Ok(Some(socket))
}

/// The address of a socket with this port that fits no address of ours, and keeps us from opening one.
#[must_use]
pub fn in_the_way(port: u16) -> Option<SocketAddr> {
    let all = all().lock().unwrap_or_else(PoisonError::into_inner);
    let tcp = all.tcp.iter().filter_map(|socket| socket.local_addr().ok());
    let udp = all.udp.iter().filter_map(|socket| socket.local_addr().ok());
    tcp.chain(udp).find(|address| address.port() == port)
}

/// The UDP socket that is bound to this address, and to this interface or to none.
///
/// # Errors
/// It cannot be made non-blocking.
pub(super) fn udp(address: SocketAddrV4, device: Option<&str>) -> io::Result<Option<UdpSocket>> {
    let mut all = all().lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |socket: &UdpSocket| {
        let bound = SockRef::from(socket).device().ok().flatten();
        socket.local_addr().is_ok_and(|local| local == SocketAddr::V4(address))
            && bound.as_deref() == device.map(str::as_bytes)
    };
    let Some(place) = all.udp.iter().position(is_it) else { return Ok(None) };
    let socket = all.udp.swap_remove(place);
    socket.set_nonblocking(true)?;
    Ok(Some(socket))
}
