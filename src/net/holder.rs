//! Finds the process that has a port, for error messages and to decide whether to share the port.

use std::{
    fmt, fs, io,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{bound, interface::Interface};

/// A table of the kernel's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `/proc/net/udp` and `udp6`.
    Udp,
    /// `/proc/net/tcp` and `tcp6`, those that listen.
    Tcp,
}

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name and pid, if we may see them.
    pub process: Option<(String, u32)>,
}

impl Holder {
    /// Whether it is seen to be netbootd.
    #[must_use]
    pub fn is_netbootd(&self) -> bool {
        self.process.as_ref().is_some_and(|(name, _)| name == "netbootd")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((name, pid)) => write!(f, "{name} (pid {pid})"),
            None => f.write_str("another process (to see its name: sudo ss -lpn)"),
        }
    }
}

/// The sockets on a port that receive packets to all addresses or to one of these: their numbers in the table, sorted.
///
/// The table does not show the interface of a socket. So a socket on another interface that listens on all addresses
/// counts too. The caller must not do harm if this is wrong.
#[must_use]
pub fn sockets_on(table: Table, port: u16, addresses: &[Ipv4Addr]) -> Vec<u64> {
    let names: &[&str] = match table {
        Table::Udp => &["udp", "udp6"],
        Table::Tcp => &["tcp", "tcp6"],
    };
    let mut inodes = Vec::new();
    for name in names {
        // A kernel without IPv6 has no IPv6 table.
        let text = fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        let rows = text.lines().skip(1).filter_map(|line| Row::parse(line, table));
        inodes.extend(rows.filter(|row| row.port == port && row.reaches(addresses)).map(|row| row.inode));
    }
    inodes.sort_unstable();
    inodes
}

/// The UDP sockets on port 67 that hear what comes to an interface, ours among them. Another DHCP server on this host may
/// serve other interfaces only, such as libvirt's dnsmasq, or systemd-networkd.
#[must_use]
pub fn sockets_on_67(interface: &Interface) -> Vec<u64> {
    let mut sockets = sockets_on(Table::Udp, 67, &interface.addresses);
    if !sockets.is_empty() {
        let elsewhere = bound::elsewhere(67, interface.index);
        sockets.retain(|socket| !elsewhere.contains(socket));
    }
    sockets
}

/// The other process that has one of these sockets.
#[must_use]
pub fn other_holder(sockets: &[u64]) -> Option<Holder> {
    let theirs = not_ours(sockets);
    theirs.first()?;
    Some(Holder { process: processes_with(&theirs).next() })
}

/// All other processes that have one of these sockets; one without a name if none can be seen.
#[must_use]
pub fn other_holders(sockets: &[u64]) -> Vec<Holder> {
    let theirs = not_ours(sockets);
    let holders: Vec<Holder> = processes_with(&theirs).map(|process| Holder { process: Some(process) }).collect();
    if holders.is_empty() && !theirs.is_empty() { vec![Holder { process: None }] } else { holders }
}

fn not_ours(sockets: &[u64]) -> Vec<String> {
    let ours = sockets_of("self").unwrap_or_default();
    let links = sockets.iter().map(|inode| format!("socket:[{inode}]"));
    links.filter(|link| !ours.contains(link)).collect()
}

/// One line of a table: `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`
struct Row {
    address: Option<Ipv4Addr>,
    port: u16,
    inode: u64,
}

impl Row {
    fn parse(line: &str, table: Table) -> Option<Self> {
        let mut fields = line.split_whitespace();
        let (address, port) = fields.nth(1)?.split_once(':')?;
        let state = fields.nth(1)?;
        if table == Table::Tcp && state != "0A" {
            return None;
        }
        Some(Self {
            address: address_of(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            inode: fields.nth(5)?.parse().ok()?,
        })
    }

    /// Whether packets to one of these addresses, or to all, can reach this socket.
    fn reaches(&self, addresses: &[Ipv4Addr]) -> bool {
        self.address.is_some_and(|a| a.is_unspecified() || a.is_broadcast() || addresses.contains(&a))
    }
}

/// `Some(None)` for an IPv6 address that no IPv4 packet reaches. The tables have 32-bit words in the host's byte order.
fn address_of(hex: &str) -> Option<Option<Ipv4Addr>> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    if hex.len() == 8 {
        return Some(Some(Ipv4Addr::from(word(0)?)));
    }
    let octets = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?);
    Some(if address.is_unspecified() { Some(Ipv4Addr::UNSPECIFIED) } else { address.to_ipv4_mapped() })
}

fn processes_with(sockets: &[String]) -> impl Iterator<Item = (String, u32)> {
    let entries = fs::read_dir("/proc").ok().filter(|_| !sockets.is_empty()).into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let holders = pids.filter(|pid| {
        let open = sockets_of(&pid.to_string()).unwrap_or_default();
        open.iter().any(|socket| sockets.contains(socket))
    });
    holders.filter_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some((name.trim().to_owned(), pid))
    })
}

fn sockets_of(process: &str) -> io::Result<Vec<String>> {
    let links = fs::read_dir(format!("/proc/{process}/fd"))?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(links.filter_map(|link| link.to_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn rows_of_the_tables_are_read() {
        let row = |line: &str, table| Row::parse(line, table).map(|row| (row.address, row.port, row.inode));
        let here = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
        let tail = "00000000:00000000 00:00000000 00000000     0        0 24018 2 0000000000000000 0";
        let udp = format!("  315: {}:0043 00000000:0000 07 {tail}", here([192, 0, 2, 10]));
        assert_eq!(row(&udp, Table::Udp), Some((Some(Ipv4Addr::new(192, 0, 2, 10)), 67, 24_018)));
        let any = format!("  7: {0}{0}{0}{0}:0045 {0}{0}{0}{0}:0000 07 {tail}", "00000000");
        assert_eq!(row(&any, Table::Udp), Some((Some(Ipv4Addr::UNSPECIFIED), 69, 24_018)));
        let link_local =
            format!("  7: {}{1}{1}{1}:0045 {1}{1}{1}{1}:0000 07 {tail}", here([0xfe, 0x80, 0, 0]), "00000000");
        assert_eq!(row(&link_local, Table::Udp), Some((None, 69, 24_018)));
        let connected = format!("  1: {}:1F90 00000000:0000 01 {tail}", here([127, 0, 0, 1]));
        assert_eq!(row(&connected, Table::Tcp), None);
        assert_eq!(row("  sl  local_address rem_address   st", Table::Udp), None);
        assert_eq!(row("", Table::Udp), None);
    }

    #[test]
    fn our_own_sockets_are_nobody_elses() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let port = socket.local_addr().expect("bound").port();
        let sockets = sockets_on(Table::Udp, port, &[Ipv4Addr::LOCALHOST]);
        assert_eq!((sockets.len(), other_holder(&sockets)), (1, None));
        assert!(sockets_on(Table::Udp, port, &[Ipv4Addr::new(192, 0, 2, 10)]).is_empty());
        assert_eq!(other_holder(&[u64::MAX]), Some(Holder { process: None }), "a socket that is not to be seen");
    }
}
