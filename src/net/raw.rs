//! Captures packets at layer 2, beside the program that has the port: a packet socket on one interface, with a filter
//! in the kernel that passes only DHCP.

use std::{io, net::UdpSocket, os::fd::IntoRawFd};

use pnet_datalink::{ChannelType, Config, NetworkInterface};
use rustix::net::sockopt;
use socket2::{Domain, SockFilter, Socket, Type};

use super::{
    frame::{Frame, LinkAddress},
    interface::Interface,
};

/// The datagrams that a capture receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To port 67: packets of clients and relays.
    Requests,
    /// From ports 67 and 4011 to port 68: packets of servers. A socket on port 68 would take unicasts away from the
    /// host's own DHCP client.
    Replies {
        /// Also packets of programs on this host. This copies every frame that leaves the interface, so it is only for
        /// hosts with such a program.
        of_this_host: bool,
    },
    /// ARP (RFC 826) of other hosts.
    Arp,
}

/// A packet socket before it is used by a runtime.
#[derive(Debug)]
pub struct OpenTap {
    socket: Socket,
    link_address: LinkAddress,
    hears_this_host: bool,
}

/// Opens a capture on an interface. Needs CAP_NET_RAW, and no runtime.
///
/// # Errors
/// `PermissionDenied` without the capability; `Unsupported` for an interface without Ethernet headers.
pub fn open_tap(interface: &Interface, wanted: Wanted, receive_buffer: usize) -> io::Result<OpenTap> {
    let link_address = interface.link_address.ok_or_else(|| {
        let words = format!("{} has no Ethernet headers, so netbootd cannot capture on it", interface.name);
        io::Error::new(io::ErrorKind::Unsupported, words)
    })?;
    // Protocol 0: nothing arrives before the filter is set and the socket is bound.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.attach_filter(&filter(interface.index, wanted))?;
    if sockopt::set_socket_recv_buffer_size_force(&socket, receive_buffer).is_err() {
        socket.set_recv_buffer_size(receive_buffer)?;
    }
    bind(&socket, interface, wanted)?;
    socket.set_nonblocking(true)?;
    let hears_this_host = wanted == Wanted::Replies { of_this_host: true };
    Ok(OpenTap { socket, link_address, hears_this_host })
}

/// Binds the socket with pnet, which supports link-layer addresses. Its channel would copy every frame in a blocking
/// loop, so it is dropped at once, with its own copy of the descriptor.
fn bind(socket: &Socket, interface: &Interface, wanted: Wanted) -> io::Result<()> {
    let channel_type = match wanted {
        Wanted::Replies { of_this_host: true } => ChannelType::Layer2,
        Wanted::Requests | Wanted::Replies { of_this_host: false } => ChannelType::Layer3(ETHERTYPE_IPV4),
        Wanted::Arp => ChannelType::Layer3(ETHERTYPE_ARP),
    };
    let named = NetworkInterface {
        name: interface.name.clone(),
        description: String::new(),
        index: interface.index,
        mac: None,
        ips: Vec::new(),
        flags: 0,
    };
    let socket_fd = Some(socket.try_clone()?.into_raw_fd());
    let config = Config { socket_fd, channel_type, promiscuous: false, ..Config::default() };
    pnet_datalink::channel(&named, config).map(drop)
}

/// A capture on the runtime.
#[derive(Debug)]
pub struct Tap {
    /// The runtime has no type for packet sockets, but treats any datagram socket the same.
    io: tokio::net::UdpSocket,
    /// The MAC address of the interface; replies are sent from it.
    pub link_address: LinkAddress,
    /// Whether it receives what this host sends too.
    pub hears_this_host: bool,
}

impl Tap {
    /// Adds an open capture to the current runtime.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(open: OpenTap) -> io::Result<Self> {
        let io = tokio::net::UdpSocket::from_std(UdpSocket::from(open.socket))?;
        Ok(Self { io, link_address: open.link_address, hears_this_host: open.hears_this_host })
    }

    /// Waits for frames and passes on those that are there, at most [`BATCH`].
    ///
    /// # Errors
    /// Those of the system call, e.g. `NetworkDown`; the capture can still be used.
    pub async fn receive(&self, mut each: impl FnMut(Frame<'_>)) -> io::Result<()> {
        self.receive_bytes(|bytes| Frame::parse(bytes).into_iter().for_each(&mut each)).await
    }

    /// As [`Self::receive`], for frames of any kind.
    ///
    /// # Errors
    /// As there.
    pub async fn receive_bytes(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = [0; LARGEST_FRAME];
        let mut count = 0;
        loop {
            // Wait only for the first frame.
            let read = match count {
                0 => self.io.recv(&mut buffer).await,
                BATCH => return Ok(()),
                _ => self.io.try_recv(&mut buffer),
            };
            count += 1;
            match read {
                Ok(length) => each(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// Those of the system call; the capture can still be used.
    pub async fn send(&self, frame: &Frame<'_>) -> io::Result<()> {
        let bytes = frame.build().ok_or(io::ErrorKind::InvalidInput)?;
        self.send_bytes(&bytes).await
    }

    /// Sends the bytes of a frame.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        self.io.send(bytes).await.map(drop)
    }
}

/// A classic BPF program (bpf(4), Linux's `Documentation/networking/filter.rst`). The checks that drop most packets
/// come first. A packet that jumps to `drop` is not copied to us.
fn filter(index: u32, wanted: Wanted) -> Vec<SockFilter> {
    if wanted == Wanted::Arp {
        let not = |kind| [Step::Load(LOAD_WORD, ancillary(libc::SKF_AD_PKTTYPE)), Step::Check(Stay::NotEqual(kind))];
        let ethertype = [Step::Load(LOAD_HALF, 12), Step::Check(Stay::Equal(u32::from(ETHERTYPE_ARP)))];
        return finished(&[ethertype, not(PACKET_OTHERHOST), not(PACKET_OUTGOING)].concat());
    }
    // The value to load, the comparison, and whether an equal value passes or is dropped.
    let takes_outgoing = wanted == Wanted::Replies { of_this_host: true };
    let mut checks = vec![
        (LOAD_HALF, 12, Stay::Equal(u32::from(ETHERTYPE_IPV4))),
        (LOAD_BYTE, 14 + 9, Stay::Equal(UDP)),
        (LOAD_HALF, 14 + 6, Stay::NoneOf(MORE_FRAGMENTS_OR_OFFSET)),
        // The frame is being forwarded to another interface.
        (LOAD_WORD, ancillary(libc::SKF_AD_IFINDEX), Stay::Equal(index)),
        (LOAD_WORD, ancillary(libc::SKF_AD_PKTTYPE), Stay::NotEqual(PACKET_OTHERHOST)),
    ];
    if !takes_outgoing {
        checks.push((LOAD_WORD, ancillary(libc::SKF_AD_PKTTYPE), Stay::NotEqual(PACKET_OUTGOING)));
    }
    let ports: &[(u32, &[u32])] = match wanted {
        Wanted::Requests => &[(DESTINATION_PORT, &[67])],
        Wanted::Replies { .. } => &[(DESTINATION_PORT, &[68]), (SOURCE_PORT, &[67, 4011])],
        Wanted::Arp => &[],
    };
    let mut program: Vec<Step> =
        checks.iter().flat_map(|(load, at, stay)| [Step::Load(*load, *at), Step::Check(*stay)]).collect();
    // A frame of another VLAN also passes the parent interface, where a reply would go to the wrong network. The tag is
    // stored outside the frame. VLAN 0 is only a priority (IEEE 802.1Q §9.6); some firmware and switches send it.
    program.extend([
        Step::Load(LOAD_WORD, ancillary(libc::SKF_AD_VLAN_TAG_PRESENT)),
        Step::SkipCheckedLoad(0),
        Step::Load(LOAD_WORD, ancillary(libc::SKF_AD_VLAN_TAG)),
        Step::Check(Stay::NoneOf(VLAN_ID)),
    ]);
    // The index register gets the length of the IP header with its options.
    program.push(Step::Load(LOAD_INDEX_BY_HEADER, 14));
    for (at, among) in ports {
        program.push(Step::Load(LOAD_HALF_BEHIND_INDEX, 14 + at));
        let (last, first) = among.split_last().unwrap_or((&0, &[]));
        program.extend(first.iter().rev().map(|port| Step::Skip(*port)));
        program.push(Step::Check(Stay::Equal(*last)));
    }
    finished(&program)
}

/// The program with its two ends: a packet that passes every check is taken whole, another one is dropped.
fn finished(program: &[Step]) -> Vec<SockFilter> {
    let length = program.len();
    let mut filter: Vec<SockFilter> =
        program.iter().enumerate().map(|(place, step)| step.code(length - place)).collect();
    filter.extend([SockFilter::new(RETURN, 0, 0, u32::MAX), SockFilter::new(RETURN, 0, 0, 0)]);
    filter
}

#[derive(Clone, Copy)]
enum Step {
    Load(u16, u32),
    /// If equal, skip the next check.
    Skip(u32),
    /// If equal, skip the next load and its check.
    SkipCheckedLoad(u32),
    Check(Stay),
}

#[derive(Clone, Copy)]
enum Stay {
    Equal(u32),
    NotEqual(u32),
    NoneOf(u32),
}

impl Step {
    /// `to_drop`: the number of instructions from this one to the end of the program, plus the accepting one.
    fn code(self, to_drop: usize) -> SockFilter {
        let drop = u8::try_from(to_drop).unwrap_or(u8::MAX);
        match self {
            Self::Load(code, at) => SockFilter::new(code, 0, 0, at),
            Self::Skip(value) => SockFilter::new(JUMP_IF_EQUAL, 1, 0, value),
            Self::SkipCheckedLoad(value) => SockFilter::new(JUMP_IF_EQUAL, 2, 0, value),
            Self::Check(Stay::Equal(value)) => SockFilter::new(JUMP_IF_EQUAL, 0, drop, value),
            Self::Check(Stay::NotEqual(value)) => SockFilter::new(JUMP_IF_EQUAL, drop, 0, value),
            Self::Check(Stay::NoneOf(bits)) => SockFilter::new(JUMP_IF_BITS, drop, 0, bits),
        }
    }
}

/// Data of the kernel about a packet.
fn ancillary(of: libc::c_int) -> u32 {
    (libc::SKF_AD_OFF + of).cast_unsigned()
}

/// The number of frames to read before other tasks run.
pub const BATCH: usize = 32;
/// A DHCP frame has at most 1,500 bytes and a header. A longer one is cut, and then it is invalid.
const LARGEST_FRAME: usize = 2048;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const UDP: u32 = 17;
/// The VLAN number of a tag. The other four bits are the priority.
const VLAN_ID: u32 = 0x0fff;
const MORE_FRAGMENTS_OR_OFFSET: u32 = 0x3fff;
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
/// `linux/if_packet.h`.
const PACKET_OTHERHOST: u32 = 3;
/// See [`PACKET_OTHERHOST`].
const PACKET_OUTGOING: u32 = 4;
/// `linux/bpf_common.h`: BPF_LD | BPF_W, H, B | BPF_ABS.
const LOAD_WORD: u16 = 0x20;
/// See [`LOAD_WORD`].
const LOAD_HALF: u16 = 0x28;
/// See [`LOAD_WORD`].
const LOAD_BYTE: u16 = 0x30;
/// BPF_LD | BPF_H | BPF_IND.
const LOAD_HALF_BEHIND_INDEX: u16 = 0x48;
/// BPF_LDX | BPF_B | BPF_MSH.
const LOAD_INDEX_BY_HEADER: u16 = 0xb1;
/// BPF_JMP | BPF_JEQ | BPF_K.
const JUMP_IF_EQUAL: u16 = 0x15;
/// BPF_JMP | BPF_JSET | BPF_K.
const JUMP_IF_BITS: u16 = 0x45;
/// BPF_RET | BPF_K.
const RETURN: u16 = 0x06;
