//! What a request is answered with: a file and a port to send it from, or a refusal.

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
        attempts::Attempts,
        event::{Event, Of, Over, What, Who},
        machine::Live,
        why::Why,
    },
    files::{
        AssetRoot,
        found::{Asker, Caller, Decided, Found, Names},
    },
    net::port::Port,
};

/// What the TFTP stage serves, and to whom.
pub struct Stage {
    /// What decides.
    pub live: Arc<Live>,
    /// The files beside the loaders, where there is a folder of them.
    pub assets: Option<Arc<AssetRoot>>,
    /// What machines have tried lately, and at which addresses they are.
    pub attempts: Arc<Mutex<Attempts>>,
    /// What the addresses of answer files are signed with.
    pub answer_key: Key,
    /// Which port a transfer is answered from.
    pub ports: Ports,
    /// Transfers at once.
    pub max_transfers: usize,
    /// Transfers of one client's address that it does not answer, or that fell silent; of others there may be more.
    pub max_transfers_per_client: usize,
    /// Where events go.
    pub events: tokio::sync::mpsc::Sender<Event>,
}

/// One address's share of the stage.
#[derive(Debug)]
pub struct Listener {
    /// Where requests come to, on the address that all answers come from: firmware drops those from any other (EDK2:
    /// PXE-E18).
    pub port: Arc<Port>,
    /// That address.
    pub address: Ipv4Addr,
    /// Our HTTP stage as its clients reach it.
    pub base_url: String,
    /// What a client can be granted.
    pub limits: Limits,
    /// The largest block in bytes that its interface carries whole, which changes with the interface.
    pub link_block_size: Arc<AtomicU16>,
}

/// Ways in: listeners come and go with the addresses that they listen on, while the stage serves. Dropped, it is the
/// stage's sign to come to its end.
#[derive(Debug)]
pub struct Doors {
    changes: mpsc::Sender<Door>,
    /// Wakes the stage, which waits for sockets and not for channels.
    wake: PipeWriter,
}

/// The stage's side of [`Doors`].
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
    /// Lets requests in on an address.
    ///
    /// # Errors
    /// Where the stage has ended.
    pub fn open(&self, listener: Listener) -> io::Result<()> {
        self.tell(Door::Open(listener))
    }

    /// Takes no more requests on an address. Its transfers come to an end by themselves.
    pub fn close(&self, address: Ipv4Addr) {
        // Where the stage has ended, that has been done.
        let _ = self.tell(Door::Close(address));
    }

    fn tell(&self, door: Door) -> io::Result<()> {
        let gone = |_| io::Error::other("the TFTP stage has ended");
        self.changes.send(door).map_err(gone)?;
        (&self.wake).write_all(b"!")
    }
}

/// Which port a transfer is answered from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// A new one that the operating system chooses (RFC 1350 §4).
    Any,
    /// A new one of these, which a firewall lets through.
    Range(RangeInclusive<u16>),
    /// The one that was asked, for NAT, containers and firewalls: what answers there passes wherever the request did.
    Single,
}

/// What was asked for.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) source: Source,
    pub(super) of: Of,
}

impl Stage {
    /// What a request on a listener asks for. An iPXE that would only load itself again is sent to its script: by what
    /// its request looks like, or by its coming back.
    pub(super) fn asked(
        &self,
        listener: &Listener,
        request: &ReadRequest,
        client: SocketAddrV4,
        (returns, now): (&mut Returns, Instant),
    ) -> Result<Asked, Why> {
        if request.mode != "octet" {
            return Err(Why::Mode(request.mode.clone()));
        }
        let rules = self.live.rules.load();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let caller = Caller {
            address: Some(*client.ip()),
            interface: None,
            over: Over::Tftp,
            attempts: &self.attempts,
            live: &self.live,
            signer: Some(Signer { key: &self.answer_key, now: since_1970 }),
        };
        let base = &listener.base_url;
        let names = Names { rules: &rules, assets: self.assets.as_deref(), base, caller: Some(caller) };
        let heard = self.live.heard().at(*client.ip());
        let runs_scripts = !heard.is_some_and(|firmware| firmware.is_weak_ipxe);
        let is_ipxe = request.program == Program::Ipxe && runs_scripts;
        let mut found = names.find(&request.filename, Asker { firmware: firmware(request.program, heard), is_ipxe })?;
        if let Some(name) = found.loader().filter(|_| runs_scripts)
            && returns.is_ipxe(*client.ip(), request.program, name, now)
        {
            found = names.script_instead_of(name);
        }
        Ok(match found {
            Found::Loader(file) => Asked { name: file.name, source: Source::Memory(file.bytes), of: Of::Loader },
            Found::Asset { path, asset, of } => Asked { name: path, source: Source::asset(asset), of },
            Found::Text { name, text, decided } => {
                decided.into_iter().for_each(|decided| self.tell_script(client, decided));
                Asked { name, source: Source::Memory(text.into()), of: Of::Asset }
            }
        })
    }

    /// The name told the card, the packet the address: from here on the machine's fetches can be told.
    fn tell_script(&self, peer: SocketAddrV4, Decided { machine, outcome }: Decided) {
        let address = *peer.ip();
        let who = machine.map_or(Who::Address(address), Who::Machine);
        if machine.is_some() {
            tell_of(&self.events, who, What::Address(address));
        }
        tell_of(&self.events, who, What::Script(outcome));
    }

    /// The port that a transfer of this file is sent from.
    pub(super) fn port(&self, listener: &Listener, name: &str) -> Result<Arc<Port>, Why> {
        let own = |port| Port::open(SocketAddrV4::new(listener.address, port), RECEIVE_BUFFER);
        let port = match &self.ports {
            Ports::Single => return Ok(listener.port.clone()),
            Ports::Any => own(0),
            Ports::Range(range) => first_free(range, own),
        };
        port.map(Arc::new).map_err(|error| Why::Unreadable { name: name.to_owned(), error: error.to_string() })
    }
}

impl Listener {
    /// Says why a request gets nothing.
    pub(super) fn refuse(&self, why: &Why, peer: SocketAddrV4) {
        debug!(reason = why.label(), %peer, "TFTP refused: {why}");
        let code = match why {
            Why::NotFound(_) | Why::Garbled(_) | Why::LoaderMissing(_) => ErrorCode::FileNotFound,
            Why::Escape(_) | Why::Unreadable { .. } => ErrorCode::AccessViolation,
            Why::Write | Why::Mode(_) | Why::MalformedTftp(_) => ErrorCode::IllegalOperation,
            _ => ErrorCode::NotDefined,
        };
        let packet = error(code, &why.to_string());
        if let Err(error) = self.port.send(peer, &packet, packet.len()) {
            debug!(%error, %peer, "a TFTP error could not be sent");
        }
    }
}

/// Whether a refusal is news to people: GRUB asks for modules and EDK2 for revocation lists that need not be there.
pub(super) fn is_news(why: &Why) -> bool {
    !matches!(why, Why::NotFound(_))
}

/// The first port of the range that nobody has, beginning behind the one that was taken last: a late packet of the
/// last transfer should not meet the next one.
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

/// ACKs of one client, in bytes.
const RECEIVE_BUFFER: usize = 64 << 10;
