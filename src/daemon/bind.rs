//! Opens every socket before anything else is done, so that a port that is taken is told at once and privileges are
//! needed no longer.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::plan::Plan;
use crate::{
    dhcp::proxy::Port,
    net::{
        interface::Interface,
        udp::{Open, open},
    },
};

/// All sockets of a server.
#[derive(Debug)]
pub struct Sockets {
    /// Two for each interface.
    pub dhcp: Vec<(Bound, Port)>,
    /// One for each address.
    pub tftp: Vec<Bound>,
    /// One for each address, and one for the loopback.
    pub http: Vec<TcpListener>,
}

/// A socket with what it was bound to.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub socket: UdpSocket,
    /// Its interface.
    pub interface: Interface,
    /// Its address.
    pub address: Ipv4Addr,
}

/// A socket that could not be opened: what it was for, and the mend.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {error}{mend}")]
pub struct BindError {
    what: String,
    /// Of the system call.
    pub error: io::Error,
    mend: String,
}

impl BindError {
    fn new(what: String, error: io::Error, taken: &str) -> Self {
        let mend = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need root or CAP_NET_BIND_SERVICE: sudo netbootd up …".to_owned()
            }
            io::ErrorKind::AddrInUse => format!("; {taken}"),
            io::ErrorKind::AddrNotAvailable => "; the interface has lost this address: start again".to_owned(),
            _ => String::new(),
        };
        Self { what, error, mend }
    }

    pub(super) fn runtime(error: io::Error) -> Self {
        Self { what: "the operating system refused to run the server".into(), error, mend: String::new() }
    }
}

/// Opens them all.
///
/// # Errors
/// The first that could not be opened.
pub fn bind(plan: &Plan) -> Result<Sockets, BindError> {
    let mut sockets = Sockets { dhcp: Vec::new(), tftp: Vec::new(), http: Vec::new() };
    for interface in &plan.interfaces {
        let ports: &[_] = if plan.dhcp.enabled { &[(Port::Dhcp, 67), (Port::BootServer, 4011)] } else { &[] };
        for (port, number) in ports.iter().copied() {
            sockets.dhcp.push((dhcp(interface, port, number)?, port));
        }
        for address in &interface.addresses {
            if plan.tftp.enabled {
                sockets.tftp.push(tftp(interface, *address, plan.tftp.port)?);
            }
            sockets.http.push(http(*address, plan.http_port)?);
        }
    }
    // For those who look at the server from the host itself.
    if !plan.interfaces.iter().any(|interface| interface.addresses.contains(&Ipv4Addr::LOCALHOST)) {
        sockets.http.push(http(Ipv4Addr::LOCALHOST, plan.http_port)?);
    }
    Ok(sockets)
}

fn dhcp(interface: &Interface, port: Port, number: u16) -> Result<Bound, BindError> {
    let address = Ipv4Addr::UNSPECIFIED;
    let socket = open(Open {
        address: SocketAddrV4::new(address, number),
        // Broadcasts leave by the interface that they are meant for, whatever the routes are.
        device: Some(&interface.name),
        // 67 is shared with a DHCP server that shares it too; a second boot server on 4011 would take half of ours.
        shared: port == Port::Dhcp,
        receive_buffer: DHCP_RECEIVE_BUFFER,
    })
    .map_err(|error| {
        let taken = match port {
            Port::Dhcp => "another DHCP server on this host keeps it to itself: ss -ulpn sport = 67 names it",
            Port::BootServer => "another boot server runs on this host: ss -ulpn sport = 4011 names it",
        };
        BindError::new(format!("DHCP on {}, UDP port {number}", interface.name), error, taken)
    })?;
    Ok(Bound { socket, interface: interface.clone(), address })
}

fn tftp(interface: &Interface, address: Ipv4Addr, port: u16) -> Result<Bound, BindError> {
    let open = open(Open {
        address: SocketAddrV4::new(address, port),
        device: None,
        shared: false,
        receive_buffer: TFTP_RECEIVE_BUFFER,
    });
    let socket = open.map_err(|error| {
        let taken = format!("another TFTP server runs on this host: ss -ulpn sport = {port} names it");
        BindError::new(format!("TFTP on {address}, UDP port {port}"), error, &taken)
    })?;
    Ok(Bound { socket, interface: interface.clone(), address })
}

fn http(address: Ipv4Addr, port: u16) -> Result<TcpListener, BindError> {
    let listen = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait until the connections of the last run are forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&std::net::SocketAddr::from((address, port)).into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().map_err(|error| {
        let taken = format!("ss -tlpn sport = {port} names who has it; choose another one with --http-port");
        BindError::new(format!("HTTP on {address}, TCP port {port}"), error, &taken)
    })
}

/// A thousand machines that are switched on together fit in 4 MiB.
const DHCP_RECEIVE_BUFFER: usize = 4 << 20;
/// Requests only; each transfer has a socket of its own.
const TFTP_RECEIVE_BUFFER: usize = 1 << 20;
/// Connections that wait for accept.
const BACKLOG: i32 = 1024;
