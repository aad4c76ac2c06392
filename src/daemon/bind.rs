//! Opens sockets: all of them before anything else is done, so that a port that is taken is reported at once and privileges
//! are needed no longer; later, those of an interface or an address that has come.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
};

use rustix::{io::Errno, process::geteuid};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

use super::plan::Plan;
use crate::{
    config::schema::DhcpSocket,
    dhcp::proxy::Port,
    net::{
        holder::{Holder, Table, other_holder, sockets_on, sockets_on_67},
        inherited,
        interface::Interface,
        raw::{OpenTap, Wanted, open_tap},
        udp::{Open, open},
    },
};

/// All sockets that a server starts with.
#[derive(Debug)]
pub struct Sockets {
    /// Of each interface that can be served.
    pub dhcp: Vec<(Interface, Dhcp)>,
    /// Of each of their addresses.
    pub addresses: Vec<(Interface, Ipv4Addr, Address)>,
    /// For those who look at the server from the host itself.
    pub loopback: Option<TcpListener>,
    /// What could not be opened, while something else could.
    pub failed: Vec<BindError>,
}

/// An interface's.
#[derive(Debug)]
pub struct Dhcp {
    /// Port 67.
    pub requests: Requests,
    /// Port 4011.
    pub boot_server: UdpSocket,
    /// What other servers say, where we may listen to it.
    pub replies: Option<OpenTap>,
}

/// How port 67 is listened on.
#[derive(Debug)]
pub enum Requests {
    /// By the port.
    Bound(UdpSocket),
    /// Beside the process that has it.
    Captured(OpenTap, Option<Holder>),
}

/// An address's.
#[derive(Debug)]
pub struct Address {
    /// Where TFTP is served.
    pub tftp: Option<UdpSocket>,
    /// Where syslog is heard.
    pub syslog: Option<UdpSocket>,
    /// HTTP, without which there is nothing to send a machine to.
    pub http: TcpListener,
    /// Why one of the others is missing.
    pub failed: Vec<BindError>,
}

/// A socket that could not be opened: what it was for, and the fix.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}{fix}")]
pub struct BindError {
    what: String,
    /// Of the system call.
    pub error: io::Error,
    fix: String,
}

impl BindError {
    /// `taken` is the fix where another process has the port.
    fn new(what: String, error: io::Error, taken: impl FnOnce() -> String) -> Self {
        let fix = match error.kind() {
            io::ErrorKind::PermissionDenied if geteuid().is_root() => {
                "; ports below 1024 need CAP_NET_BIND_SERVICE, which root has not here: give it to the container \
                 (--cap-add=NET_BIND_SERVICE), or on the host: sudo sysctl net.ipv4.ip_unprivileged_port_start=67"
                    .to_owned()
            }
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need root or CAP_NET_BIND_SERVICE: sudo netbootd up …".to_owned()
            }
            io::ErrorKind::AddrInUse => format!("; {}", taken()),
            io::ErrorKind::AddrNotAvailable => "; the interface has lost this address".to_owned(),
            _ => of_limits(&error).to_owned(),
        };
        Self { what, error, fix }
    }

    fn capture(interface: &Interface, error: io::Error) -> Self {
        let fix = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; to listen at layer 2 needs root or CAP_NET_RAW: AmbientCapabilities=CAP_NET_RAW in the service's unit, \
                 or setcap cap_net_raw,cap_net_bind_service+ep on the program"
            }
            _ => "",
        };
        Self { what: format!("DHCP on {}, at layer 2", interface.name), error, fix: fix.into() }
    }

    pub(super) fn runtime(error: io::Error) -> Self {
        let fix = of_limits(&error).to_owned();
        Self { what: "the operating system refused to run the server".into(), error, fix }
    }
}

/// The fix where a limit of the process is reached.
fn of_limits(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MFILE) => {
            "; raise the limit of open files: LimitNOFILE=524288 in the service's unit, --ulimit nofile=524288 for a \
             container, or ulimit -n 524288 in the shell"
        }
        _ => "",
    }
}

/// Opens what can be opened now: interfaces that are down, or without an address, are waited for, and a port that is
/// taken on one of them keeps nobody on the others from booting.
///
/// # Errors
/// The first that could not be opened, where no machine could boot, or where time does not fix it.
pub fn bind(plan: &Plan) -> Result<Sockets, BindError> {
    let mut sockets = Sockets { dhcp: Vec::new(), addresses: Vec::new(), loopback: None, failed: Vec::new() };
    for interface in plan.interfaces.iter().filter(|interface| interface.usable().is_ok()) {
        if plan.fixed.dhcp.enabled {
            match dhcp(plan.fixed.dhcp.socket, interface) {
                Ok(opened) => sockets.dhcp.push((interface.clone(), opened)),
                Err(error) => sockets.failed.push(error),
            }
        }
        for address in &interface.addresses {
            match self::address(plan, *address) {
                Ok(mut opened) => {
                    sockets.failed.append(&mut opened.failed);
                    sockets.addresses.push((interface.clone(), *address, opened));
                }
                Err(error) => sockets.failed.push(error),
            }
        }
    }
    if !plan.interfaces.iter().any(|interface| interface.addresses.contains(&Ipv4Addr::LOCALHOST)) {
        match http(Ipv4Addr::LOCALHOST, plan.fixed.http.port) {
            Ok(socket) => sockets.loopback = Some(socket),
            Err(error) => sockets.failed.push(error),
        }
    }
    let is_for_ever = |failed: &BindError| {
        matches!(failed.error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
    };
    let fatal = match sockets.addresses.is_empty() {
        true => (!sockets.failed.is_empty()).then_some(0),
        false => sockets.failed.iter().position(is_for_ever),
    };
    match fatal {
        Some(index) => Err(sockets.failed.swap_remove(index)),
        None => Ok(sockets),
    }
}

/// An interface's DHCP sockets.
///
/// # Errors
/// The first that could not be opened.
pub fn dhcp(mode: DhcpSocket, interface: &Interface) -> Result<Dhcp, BindError> {
    let requests = requests(mode, interface)?;
    let boot_server = udp_67_or_4011(interface, Port::BootServer).map_err(|error| {
        let what = format!("DHCP on {}, UDP port 4011", interface.name);
        let taken = || has(Table::Udp, 4011, &interface.addresses, "another boot server on this host: stop it");
        BindError::new(what, error, taken)
    })?;
    let is_beside = matches!(requests, Requests::Captured(..));
    Ok(Dhcp { requests, boot_server, replies: replies(interface, is_beside) })
}

/// Sharing the port with a leasing server takes messages from it: of what relays send, and of what clients send that renew
/// their leases, each unicast reaches only one of two sockets. So with another server on this host we listen beside it.
fn requests(mode: DhcpSocket, interface: &Interface) -> Result<Requests, BindError> {
    let other = other_holder(&sockets_on_67(interface));
    let capture = || capture(interface);
    if mode == DhcpSocket::Capture {
        return Ok(Requests::Captured(capture()?, other));
    }
    if mode == DhcpSocket::Auto && other.is_some() {
        match capture() {
            Ok(tap) => return Ok(Requests::Captured(tap, other)),
            Err(why) => warn!("{SHARED}: {why}"),
        }
    }
    match (udp_67_or_4011(interface, Port::Dhcp), mode) {
        (Ok(socket), _) => Ok(Requests::Bound(socket)),
        // The process that has it cannot be seen from here, or has just started.
        (Err(error), DhcpSocket::Auto) if error.kind() == io::ErrorKind::AddrInUse && other.is_none() => {
            Ok(Requests::Captured(capture()?, None))
        }
        (Err(error), _) => {
            let taken = || has(Table::Udp, 67, &interface.addresses, "dhcp.socket = \"capture\" listens beside it");
            Err(BindError::new(format!("DHCP on {}, UDP port 67", interface.name), error, taken))
        }
    }
}

/// Port 67 at layer 2.
///
/// # Errors
/// That of the system call, with its fix.
pub fn capture(interface: &Interface) -> Result<OpenTap, BindError> {
    open_tap(interface, Wanted::Requests, DHCP_RECEIVE_BUFFER).map_err(|error| BindError::capture(interface, error))
}

/// What other servers say; `None` where we may not listen, and nobody is the worse for it.
#[must_use]
pub fn replies(interface: &Interface, is_beside_another: bool) -> Option<OpenTap> {
    open_tap(interface, Wanted::Replies { of_this_host: is_beside_another }, REPLIES_RECEIVE_BUFFER).ok()
}

/// Answers for addresses that are tried; `None` where we may not listen.
#[must_use]
pub fn arp(interface: &Interface) -> Option<OpenTap> {
    open_tap(interface, Wanted::Arp, REPLIES_RECEIVE_BUFFER).ok()
}

fn udp_67_or_4011(interface: &Interface, port: Port) -> io::Result<UdpSocket> {
    open(Open {
        address: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port.number()),
        // Broadcasts leave by the interface that they are meant for, whatever the routes are.
        device: Some(&interface.name),
        // 67 is shared with a DHCP server that shares it too; a second boot server on 4011 would take half of ours.
        shared: port == Port::Dhcp,
        receive_buffer: DHCP_RECEIVE_BUFFER,
    })
}

/// An address's sockets.
///
/// # Errors
/// That of HTTP; of the others, see [`Address::failed`].
pub fn address(plan: &Plan, address: Ipv4Addr) -> Result<Address, BindError> {
    let mut failed = Vec::new();
    let mut opened = |socket: Option<Result<UdpSocket, BindError>>| {
        socket.and_then(|socket| socket.map_err(|error| failed.push(error)).ok())
    };
    let tftp = opened(plan.fixed.tftp.enabled.then(|| tftp(address, plan.fixed.tftp.port)));
    let syslog = opened(plan.fixed.syslog.map(|stage| syslog(address, stage.port)));
    Ok(Address { tftp, syslog, http: http(address, plan.fixed.http.port)?, failed })
}

/// A socket for TFTP.
///
/// # Errors
/// That it could not be opened.
pub fn tftp(address: Ipv4Addr, port: u16) -> Result<UdpSocket, BindError> {
    let opened = open(Open {
        address: SocketAddrV4::new(address, port),
        device: None,
        shared: false,
        receive_buffer: TFTP_RECEIVE_BUFFER,
    });
    opened.map_err(|error| {
        let fix = "stop it, or serve none here: tftp.enabled = false";
        let taken = || has(Table::Udp, port, &[address], fix);
        BindError::new(format!("TFTP on {address}, UDP port {port}"), error, taken)
    })
}

/// A socket for syslog.
///
/// # Errors
/// That it could not be opened.
pub fn syslog(address: Ipv4Addr, port: u16) -> Result<UdpSocket, BindError> {
    let opened = open(Open {
        address: SocketAddrV4::new(address, port),
        device: None,
        shared: false,
        receive_buffer: SYSLOG_RECEIVE_BUFFER,
    });
    opened.map_err(|error| {
        let fix = "choose another one with syslog.port, or syslog.enabled = false";
        let taken = || has(Table::Udp, port, &[address], fix);
        BindError::new(format!("syslog on {address}, UDP port {port}"), error, taken)
    })
}

fn http(address: Ipv4Addr, port: u16) -> Result<TcpListener, BindError> {
    let listen = || -> io::Result<TcpListener> {
        if let Some(listener) = inherited::tcp(SocketAddrV4::new(address, port))? {
            return Ok(listener);
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait until the connections of the last run are forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&std::net::SocketAddr::from((address, port)).into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().map_err(|error| {
        let taken = || has(Table::Tcp, port, &[address], "choose another port with --http-port");
        BindError::new(format!("HTTP on {address}, TCP port {port}"), error, taken)
    })
}

/// `dnsmasq (pid 812) has it: stop it`
fn has(table: Table, port: u16, addresses: &[Ipv4Addr], fix: &str) -> String {
    match other_holder(&sockets_on(table, port, addresses)) {
        Some(holder) => format!("{holder} has it: {fix}"),
        None => match inherited::in_the_way(port) {
            Some(other) => {
                let wanted = addresses.first().unwrap_or(&Ipv4Addr::UNSPECIFIED);
                format!(
                    "systemd opened a socket for {other}: name {wanted}:{port} in that .socket unit, or disable the unit"
                )
            }
            // Our own socket, which an address that was lost and came back finds still busy.
            None => "the server that listened there before has not stopped yet".into(),
        },
    }
}

/// What it means to share port 67.
pub(super) const SHARED: &str = "UDP port 67 is shared: a unicast packet reaches only one of the two DHCP servers";
/// A thousand machines that are switched on together fit in 4 MiB.
const DHCP_RECEIVE_BUFFER: usize = 4 << 20;
/// What is lost here is heard again at the next boot.
const REPLIES_RECEIVE_BUFFER: usize = 256 << 10;
/// Requests only; each transfer has a socket of its own.
const TFTP_RECEIVE_BUFFER: usize = 1 << 20;
/// An installer that starts says hundreds of lines at once.
const SYSLOG_RECEIVE_BUFFER: usize = 1 << 20;
/// Connections that wait for accept.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_open_files_is_named_with_the_fix() {
        let words = BindError::runtime(Errno::MFILE.into()).to_string();
        assert!(words.contains("LimitNOFILE="), "{words}");
        assert_eq!(BindError::runtime(Errno::NOMEM.into()).fix, "");
    }
}
