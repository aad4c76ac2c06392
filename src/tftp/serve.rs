//! Requests become transfers: a task for each, on the thread that the daemon gives to TFTP alone, so that a packet
//! costs no hop between threads.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    files::{Wanted, normalised, wanted},
    packet::{ErrorCode, Packet, ReadRequest, error},
    run::{Channel, LastHeard, Run, tell},
    shared::{Shared, Slot},
    source::Source,
    transfer::Limits,
};
use crate::{
    boot::{
        machine::Live,
        script::{Query, Standing, script},
        timeline::{Event, Of, What},
        why::Why,
    },
    files::AssetRoot,
    net::udp::{Endpoint, Open, Outgoing, open},
};

/// One address's share of the stage.
pub struct Listener {
    /// The socket that requests come to.
    pub endpoint: Arc<Endpoint>,
    /// Our address there, which all answers come from: firmware drops those from any other (EDK2: PXE-E18).
    pub address: Ipv4Addr,
    /// Our HTTP stage as its clients reach it.
    pub base_url: String,
    /// What decides.
    pub live: Arc<Live>,
    /// The files beside the loaders, where there is a folder of them.
    pub assets: Option<Arc<AssetRoot>>,
    /// What a client can be granted.
    pub limits: Limits,
    /// The largest block in bytes of data that the interface takes at present.
    pub link_block_size: Arc<AtomicU16>,
    /// Which port a transfer is answered from.
    pub ports: Ports,
    /// What the listeners of all addresses share.
    pub shared: Arc<Shared>,
    /// Where events go.
    pub events: mpsc::Sender<Event>,
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

/// A transfer that runs. To drop it ends it.
struct Running {
    task: Id,
    request: Vec<u8>,
    began: Instant,
    heard: Arc<LastHeard>,
    /// What the client sends, where all share one port.
    inbox: Option<mpsc::Sender<Vec<u8>>>,
    _replaced: oneshot::Sender<()>,
    _slot: Slot,
}

impl Listener {
    /// Serves until `stop`, then lets what runs come to its end.
    ///
    /// No error ends it: each is one client's, or passes.
    pub async fn serve(self, stop: CancellationToken) {
        let mut transfers = Transfers::default();
        let mut datagrams: Vec<(Vec<u8>, SocketAddrV4)> = Vec::new();
        let mut is_stopping = false;
        while !is_stopping || !transfers.tasks.is_empty() {
            let received = tokio::select! {
                received = self.endpoint.receive(|d| datagrams.push((d.bytes.to_vec(), d.from))) => received,
                Some(ended) = transfers.tasks.join_next_with_id() => {
                    transfers.ended(&ended);
                    Ok(())
                }
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    Ok(())
                }
            };
            if let Err(error) = received {
                warn!(%error, "receiving TFTP failed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            for (datagram, peer) in datagrams.drain(..) {
                if let Err(why) = self.take(datagram, peer, is_stopping, &mut transfers) {
                    self.refuse(&why, peer);
                }
            }
            // Under a flood there is always another request: the transfers on this thread would not get their turn,
            // and those that made room would keep their sockets.
            tokio::task::yield_now().await;
        }
    }

    /// Takes a datagram in: it belongs to a transfer that runs, begins one, or is refused.
    fn take(
        &self,
        datagram: Vec<u8>,
        peer: SocketAddrV4,
        is_stopping: bool,
        transfers: &mut Transfers,
    ) -> Result<(), Why> {
        let request = match Packet::parse(&datagram)? {
            Packet::Read(request) => request,
            Packet::Write => return Err(Why::Write),
            // With a port for each transfer, it is meant for one that is no more. To answer could start a quarrel of
            // errors.
            Packet::Ack(_) | Packet::Error { .. } | Packet::Other(_) => {
                transfers.pass_on(peer, datagram);
                return Ok(());
            }
        };
        if is_stopping || transfers.is_repetition(peer, &datagram) {
            return Ok(());
        }
        // The old transfer of this address and port ends here, and gives its slot to the new one.
        transfers.running.remove(&peer);
        if request.mode != "octet" {
            return Err(Why::Mode(request.mode));
        }
        let (source, of) = self.source(&request)?;
        if self.shared.is_full() {
            transfers.evict_the_oldest_unanswered();
        }
        let slot = self.shared.slot(*peer.ip())?;
        let name = normalised(&request.filename);
        let (channel, inbox) = self.channel().map_err(|error| unreadable(&name, &error))?;
        let heard = Arc::new(LastHeard::default());
        let (replace, replaced) = oneshot::channel();
        let began = Instant::now();
        let run = Run { channel, peer, source, name, of, heard: heard.clone(), replaced, shared: self.shared.clone() };
        let task = transfers.tasks.spawn(run.until_end(request, self.limits_of(peer, began), self.events.clone())).id();
        let running = Running { task, request: datagram, began, heard, inbox, _replaced: replace, _slot: slot };
        transfers.running.insert(peer, running);
        Ok(())
    }

    fn limits_of(&self, peer: SocketAddrV4, now: Instant) -> Limits {
        let of_path = self.shared.block_size(*peer.ip(), now).unwrap_or(u16::MAX);
        let of_link = self.link_block_size.load(Ordering::Relaxed);
        Limits { block_size: self.limits.block_size.min(of_link).min(of_path), ..self.limits }
    }

    /// A way to hear the client of a new transfer.
    fn channel(&self) -> io::Result<(Channel, Option<mpsc::Sender<Vec<u8>>>)> {
        let own = |port| {
            let address = SocketAddrV4::new(self.address, port);
            open(Open { address, device: None, shared: false, receive_buffer: 64 << 10 }).and_then(Endpoint::new)
        };
        match &self.ports {
            Ports::Any => Ok((Channel::Own(own(0)?), None)),
            Ports::Range(range) => Ok((Channel::Own(first_free(range, own)?), None)),
            Ports::Single => {
                let (sender, inbox) = mpsc::channel(INBOX);
                let channel = Channel::Single { endpoint: self.endpoint.clone(), address: self.address, inbox };
                Ok((channel, Some(sender)))
            }
        }
    }

    fn source(&self, request: &ReadRequest) -> Result<(Source, Of), Why> {
        let name = normalised(&request.filename);
        let rules = self.live.rules.load();
        match wanted(&name, &rules.loaders) {
            Wanted::Loader(file) => Ok((Source::Memory(file.bytes.clone()), Of::Loader)),
            Wanted::Autoexec => {
                let text = script(&rules, &self.base_url, &Query::default(), Standing::default()).text;
                Ok((Source::Memory(text.into()), Of::Asset))
            }
            Wanted::Asset => {
                let assets = self.assets.as_ref().ok_or_else(|| Why::not_found(&name))?;
                let asset = assets.file(&name)?;
                Ok((Source::file(asset.file, asset.size), Of::Asset))
            }
        }
    }

    fn refuse(&self, why: &Why, peer: SocketAddrV4) {
        debug!(reason = why.label(), %peer, "TFTP refused: {why}");
        let code = match why {
            Why::NotFound(_) => ErrorCode::FileNotFound,
            Why::Escape(_) | Why::Unreadable { .. } => ErrorCode::AccessViolation,
            Why::Write | Why::Mode(_) | Why::MalformedTftp(_) => ErrorCode::IllegalOperation,
            _ => ErrorCode::NotDefined,
        };
        let packet = error(code, &why.to_string());
        let out = Outgoing { to: peer, from: Some(self.address), segment: packet.len(), bytes: &packet };
        if let Err(error) = self.endpoint.send_now(out) {
            debug!(%error, %peer, "a TFTP error could not be sent");
        }
        // iPXE asks for autoexec.ipxe and EDK2 for revocation lists that need not be there: no news to people.
        if !matches!(why, Why::NotFound(_) | Why::MalformedTftp(_)) {
            tell(&self.events, peer, What::Refused(why.clone()));
        }
    }
}

/// What a listener has under way.
#[derive(Default)]
struct Transfers {
    running: HashMap<SocketAddrV4, Running>,
    tasks: JoinSet<SocketAddrV4>,
}

impl Transfers {
    /// Whether a request is the one that a running transfer has been answering, sent again or doubled on the way: a
    /// second transfer would take its client away from the first. After a second of silence it is a machine that was
    /// reset and uses its old port again (ROMs count them from the same start), and begins anew.
    fn is_repetition(&self, peer: SocketAddrV4, request: &[u8]) -> bool {
        let running = self.running.get(&peer);
        running.is_some_and(|running| running.request == request && running.heard.within(Duration::from_secs(1)))
    }

    fn pass_on(&self, peer: SocketAddrV4, datagram: Vec<u8>) {
        if let Some(inbox) = self.running.get(&peer).and_then(|running| running.inbox.as_ref()) {
            // More than a client sends in one go is a flood, or lost as on any full network.
            let _ = inbox.try_send(datagram);
        }
    }

    /// Makes room where all slots are taken. One who never answered may not exist: a flood of forged requests must
    /// not keep the real clients out, who answer within milliseconds.
    fn evict_the_oldest_unanswered(&mut self) {
        let unanswered = self.running.iter().filter(|(_, running)| !running.heard.ever());
        if let Some(peer) = unanswered.min_by_key(|(_, running)| running.began).map(|(peer, _)| *peer) {
            self.running.remove(&peer);
        }
    }

    fn ended(&mut self, ended: &Result<(Id, SocketAddrV4), JoinError>) {
        match ended {
            Ok((task, peer)) => {
                if self.running.get(peer).is_some_and(|running| running.task == *task) {
                    self.running.remove(peer);
                }
            }
            // A panic, which is one transfer's end.
            Err(error) => self.running.retain(|_, running| running.task != error.id()),
        }
    }
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

fn unreadable(name: &str, error: &io::Error) -> Why {
    Why::Unreadable { name: name.to_owned(), error: error.to_string() }
}

/// Packets of one client that wait for its transfer.
const INBOX: usize = 16;
/// Errors of a socket come in streams while an interface is away.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
