//! The result of a request: a file and the port to send it from, or a refusal.

use std::{
    io::{self, PipeReader, PipeWriter, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicU32, Ordering},
        mpsc,
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tracing::debug;

use super::{
    asker::{Program, Returns, firmware},
    packet::{ErrorCode, ReadRequest, error},
    run::tell_of,
    source::Source,
    transfer::Limits,
};
use crate::{
    boot::{
        answer::{Key, Signer},
        beginning::Beginning,
        heard::Firmware,
        identity::MachineId,
        live::Live,
        over::{Of, Over},
        probe::{is_probe, is_shim_probe},
        reason::Reason,
    },
    files::{
        AssetRoot,
        found::{Asker, Caller, Decided, Found, Names},
    },
    net::port::Port,
    offers::attempts::Attempts,
    timeline::event::{Event, What, Who},
};

/// The settings of the TFTP server.
pub struct Stage {
    /// The data for decisions.
    pub live: Arc<Live>,
    /// The files of the assets folder, if there is one.
    pub assets: Option<Arc<AssetRoot>>,
    /// What machines tried recently, and their addresses.
    pub attempts: Arc<Mutex<Attempts>>,
    /// The key that signs the URLs of answer files.
    pub answer_key: Key,
    /// The port that a transfer is sent from.
    pub ports: Ports,
    /// Transfers at once.
    pub max_transfers: usize,
    /// Transfers of one client address that the client does not answer any more. Active transfers are not limited.
    pub max_transfers_per_client: usize,
    /// The event queue.
    pub events: tokio::sync::mpsc::Sender<Event>,
}

/// The part of the TFTP server for one address.
#[derive(Debug)]
pub struct Listener {
    /// Receives requests on the address that replies are sent from. Firmware drops replies from another address (EDK2:
    /// PXE-E18).
    pub port: Arc<Port>,
    /// This address.
    pub address: Ipv4Addr,
    /// Our HTTP server, as clients of this interface reach it.
    pub base_url: String,
    /// The limits for a client.
    pub limits: Limits,
    /// The largest block in bytes that fits the MTU of its interface. It changes with the interface.
    pub link_block_size: Arc<AtomicU16>,
}

/// Adds and removes listeners while the server runs, because addresses come and go. When it is dropped, the server
/// stops.
#[derive(Debug)]
pub struct Doors {
    changes: mpsc::Sender<Door>,
    /// Wakes the server, which waits for sockets and not for channels.
    wake: PipeWriter,
}

/// The server's side of [`Doors`].
#[derive(Debug)]
pub struct Inside {
    pub(super) changes: mpsc::Receiver<Door>,
    pub(super) wake: PipeReader,
}

/// A change of the listeners.
#[derive(Debug)]
pub(super) enum Door {
    Open(Listener),
    Close(Ipv4Addr),
}

/// Both sides.
///
/// # Errors
/// Those of the system call.
pub fn doors() -> io::Result<(Doors, Inside)> {
    let (sender, receiver) = mpsc::channel();
    let (reader, writer) = io::pipe()?;
    Ok((Doors { changes: sender, wake: writer }, Inside { changes: receiver, wake: reader }))
}

impl Doors {
    /// Receives requests on an address.
    ///
    /// # Errors
    /// The server has stopped.
    pub fn open(&self, listener: Listener) -> io::Result<()> {
        self.tell(Door::Open(listener))
    }

    /// Receives no more requests on an address. Its running transfers continue to their end, except with
    /// [`Ports::Single`]: they have no port without it.
    pub fn close(&self, address: Ipv4Addr) {
        // If the server has stopped, nothing is left to do.
        let _ = self.tell(Door::Close(address));
    }

    fn tell(&self, door: Door) -> io::Result<()> {
        let gone = |_| io::Error::other("the TFTP server has stopped");
        self.changes.send(door).map_err(gone)?;
        (&self.wake).write_all(b"!")
    }
}

/// The port that a transfer is sent from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// A new one that the operating system chooses (RFC 1350 §4).
    Any,
    /// A new one of these, which a firewall lets through.
    Range(RangeInclusive<u16>),
    /// The port of the request, for NAT, containers and firewalls: replies pass wherever the request passed.
    Single,
}

impl Ports {
    fn refusal(&self, name: &str, error: &io::Error) -> Reason {
        match (self, error.kind()) {
            (Self::Range(_), io::ErrorKind::AddrInUse) => Reason::NoFreePort,
            _ => Reason::Unreadable { name: name.to_owned(), error: error.to_string() },
        }
    }
}

/// The requested file.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) of: Of,
    /// It is the script of a one-time profile, and waits until it is kept that this begins.
    pub(super) begins: Option<Begins>,
}

/// A machine that begins a one-time profile.
pub(super) struct Begins {
    pub(super) machine: MachineId,
    pub(super) beginning: Box<Beginning>,
}

impl Stage {
    /// Finds the file for a request.
    pub(super) fn asked(
        &self,
        listener: &Listener,
        request: &ReadRequest,
        client: SocketAddrV4,
        (returns, now): (&mut Returns, Instant),
    ) -> Result<Asked, Reason> {
        let rules = self.live.rules.load();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let caller = Caller {
            address: Some(*client.ip()),
            interface: None,
            over: Over::Tftp,
            is_boot_client: true,
            attempts: &self.attempts,
            live: &self.live,
            signer: Some(Signer { key: &self.answer_key, now: since_1970 }),
        };
        let base = &listener.base_url;
        let names = Names { rules: &rules, assets: self.assets.as_deref(), base, caller: Some(caller) };
        let heard = self.live.heard().at(*client.ip());
        let found = look_up(&names, request, Client { address: *client.ip(), heard }, (returns, now))?;
        Ok(match found {
            Found::Loader(file) => {
                Asked { name: file.name, source: Source::Memory(file.bytes), of: Of::Loader, begins: None }
            }
            Found::Asset { path, asset, of } => Asked { name: path, source: Source::asset(asset), of, begins: None },
            Found::Text { name, text, decided } => {
                let begins = decided.and_then(|decided| self.tell_script(client, decided));
                Asked { name, source: Source::Memory(text.into()), of: Of::Asset, begins }
            }
        })
    }

    /// The name shows the MAC address, the packet the IP address. From now on the machine's requests can be assigned to
    /// it.
    fn tell_script(&self, peer: SocketAddrV4, Decided { machine, outcome, begins }: Decided) -> Option<Begins> {
        let address = *peer.ip();
        let who = machine.map_or(Who::Address(address), Who::Machine);
        if machine.is_some() {
            tell_of(&self.events, who, What::Address(address));
        }
        tell_of(&self.events, who, What::Script(outcome));
        machine.zip(begins).map(|(machine, beginning)| Begins { machine, beginning })
    }

    /// The port that a transfer of this file is sent from.
    pub(super) fn port(&self, listener: &Listener, name: &str) -> Result<Arc<Port>, Reason> {
        let own = |port| Port::open(SocketAddrV4::new(listener.address, port), RECEIVE_BUFFER);
        let port = match &self.ports {
            Ports::Single => return Ok(listener.port.clone()),
            Ports::Any => own(0),
            Ports::Range(range) => first_free(range, own),
        };
        port.map(Arc::new).map_err(|error| self.ports.refusal(name, &error))
    }
}

impl Listener {
    /// Reports why a request is refused.
    pub(super) fn refuse(&self, why: &Reason, peer: SocketAddrV4) {
        debug!(reason = why.label(), %peer, "TFTP refused: {why}");
        let code = match why {
            Reason::NotFound(_) | Reason::Garbled(_) | Reason::NoLoader(_) | Reason::LoaderMissing(_) => {
                ErrorCode::FileNotFound
            }
            Reason::Escape(_) | Reason::Unreadable { .. } => ErrorCode::AccessViolation,
            Reason::Write | Reason::Mode(_) | Reason::UnknownMode(_) | Reason::MalformedTftp(_) => {
                ErrorCode::IllegalOperation
            }
            _ => ErrorCode::NotDefined,
        };
        let packet = error(code, &why.to_string());
        if let Err(error) = self.port.send(peer, &packet, packet.len()) {
            debug!(%error, %peer, "cannot send a TFTP error");
        }
    }
}

/// The client of a request: its address, and what DHCP received from it.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its firmware, where it is known.
    pub heard: Option<Firmware>,
}

/// What a request gets. An iPXE that would only load itself again gets its script. It is detected by the form of its
/// request, or because it asks a second time.
///
/// # Errors
/// Why it is refused.
pub fn look_up(
    names: &Names<'_>,
    request: &ReadRequest,
    Client { address, heard }: Client,
    (returns, now): (&mut Returns, Instant),
) -> Result<Found, Reason> {
    is_octet(&request.mode)?;
    let runs_scripts = heard.is_none_or(Firmware::may_run_scripts);
    let is_ipxe = request.program == Program::Ipxe && runs_scripts;
    let found = names.find(&request.filename, Asker { firmware: firmware(request.program, heard), is_ipxe })?;
    Ok(match found.loader().filter(|_| runs_scripts) {
        Some(name) if returns.is_ipxe(address, request.program, name, now) => names.script_instead_of(name),
        _ => found,
    })
}

fn is_octet(mode: &str) -> Result<(), Reason> {
    match mode {
        "octet" => Ok(()),
        "netascii" | "mail" => Err(Reason::Mode(mode.to_owned())),
        mode => Err(Reason::UnknownMode(mode.to_owned())),
    }
}

/// What a refusal says of a boot. Shim and GRUB look for revocation lists and modules that are often missing.
pub(super) fn news(why: &Reason) -> Option<What> {
    match why {
        Reason::NotFound(name) if is_shim_probe(name) => Some(What::ShimRuns),
        Reason::NotFound(name) if is_probe(name) => None,
        Reason::NotFound(name) => Some(What::NotHere(name.clone())),
        why => Some(What::Refused(why.clone())),
    }
}

/// The first free port of the range, starting after the last used one. A late packet of the last transfer should not
/// reach the next one.
fn first_free<T>(range: &RangeInclusive<u16>, open: impl Fn(u16) -> io::Result<T>) -> io::Result<T> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(range.end().saturating_sub(*range.start())) + 1;
    let mut result = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..count {
        let port = u32::from(*range.start()) + NEXT.fetch_add(1, Ordering::Relaxed) % count;
        result = open(u16::try_from(port).unwrap_or(*range.end()));
        match &result {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    result
}

/// The size of a client's ACKs, in bytes.
const RECEIVE_BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tftp::packet::Packet;

    #[test]
    fn a_range_without_a_free_port_is_no_fault_of_the_file() {
        let address = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let taken = Port::open(address(0), RECEIVE_BUFFER).and_then(|port| Ok((port.address()?.port(), port)));
        let (number, _port) = taken.expect("a port");
        let range = number..=number;
        let error = first_free(&range, |port| Port::open(address(port), RECEIVE_BUFFER)).expect_err("it is taken");
        let why = Ports::Range(range).refusal("mid.bin", &error);
        assert_eq!(why.to_string(), "no free port in tftp.transfer_ports: try again");
        assert_eq!(
            why.fix(),
            Some("set a wider range in tftp.transfer_ports, or replace it by tftp.single_port = true")
        );
        let other = Ports::Any.refusal("mid.bin", &io::ErrorKind::AddrInUse.into());
        assert!(matches!(other, Reason::Unreadable { .. }), "{other}");
    }

    #[test]
    fn a_mode_that_tftp_has_not_is_named_as_such() {
        assert_eq!(is_octet("octet"), Ok(()));
        let words = |mode: &str| is_octet(mode).map_err(|why| (why.label(), why.to_string()));
        let ask = "ask for octet (with tftp-hpa: -m binary)";
        for mode in ["netascii", "mail"] {
            assert_eq!(words(mode), Err(("mode", format!("transfer mode {mode} would damage a boot file: {ask}"))));
        }
        for mode in ["binary", "image", ""] {
            assert_eq!(words(mode), Err(("mode", format!("{mode:?} is not a TFTP transfer mode: {ask}"))));
        }
    }

    #[test]
    fn a_packet_that_is_no_request_says_nothing_of_a_boot_files_name() {
        let fix = |packet: &[u8]| Packet::parse(packet).expect_err("malformed").fix();
        assert!(fix(b"\0\x01\0octet\0").is_some_and(|words| words.contains("a complete name")));
        for other in [b"\0\x09".as_slice(), b"\0\x04", b""] {
            assert_eq!(fix(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_name_with_two_dots_is_told_apart_from_a_link() {
        for name in ["../secret", "..\\secret", "a/../../b"] {
            let text = Reason::Escape(name.into()).to_string();
            assert!(text.contains("by a path without \"..\"") && !text.contains("mount"), "{text}");
        }
        assert!(Reason::Escape("out/..x".into()).to_string().contains("mount --bind"));
    }

    #[test]
    fn a_missing_file_is_told_apart_from_what_a_loader_looks_for_in_vain() {
        let of = |name: &str| news(&Reason::not_found(name));
        assert_eq!(of("pxelinux.0"), Some(What::NotHere("pxelinux.0".into())));
        assert_eq!(of("EFI/BOOT/revocations.efi"), Some(What::ShimRuns));
        assert_eq!(of("grub/x86_64-efi/fs.lst"), None);
        assert_eq!(news(&Reason::Write), Some(What::Refused(Reason::Write)));
    }
}
