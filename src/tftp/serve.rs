//! All transfers over their sockets: a task for each, on the thread that the daemon gives to TFTP alone, so that a
//! packet costs no hop between threads.

use std::{
    collections::HashMap,
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    files::{Wanted, normalised, wanted},
    packet::{ErrorCode, Packet, ReadRequest, data_header, error},
    transfer::{End, Limits, Send, Step, Transfer},
};
use crate::{
    boot::{
        machine::Rules,
        script::{Query, script},
        timeline::{self, Event, Of, What, Who},
        why::Why,
    },
    files::AssetRoot,
    net::udp::{Endpoint, Open, Outgoing, open},
};

/// One address's share of the stage.
pub struct Listener {
    /// The socket that requests come to.
    pub endpoint: Endpoint,
    /// Our address there, which all answers come from: firmware drops those from any other (EDK2: PXE-E18).
    pub address: Ipv4Addr,
    /// Our HTTP stage as its clients reach it.
    pub base_url: String,
    /// What decides.
    pub rules: Arc<Rules>,
    /// The files beside the loaders, where there is a folder of them.
    pub assets: Option<Arc<AssetRoot>>,
    /// What a client can be granted.
    pub limits: Limits,
    /// Where events go.
    pub events: tokio::sync::mpsc::Sender<Event>,
}

/// A transfer that runs.
struct Running {
    task: Id,
    request: Vec<u8>,
    heard: Arc<LastHeard>,
    replaced: CancellationToken,
}

impl Listener {
    /// Serves until `stop`, then lets what runs come to its end.
    ///
    /// No error ends it: each is one client's, or passes.
    pub async fn serve(self, stop: CancellationToken) {
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut running: HashMap<SocketAddrV4, Running> = HashMap::new();
        let mut requests: Vec<(Vec<u8>, SocketAddrV4)> = Vec::new();
        loop {
            let received = tokio::select! {
                received = self.endpoint.receive(|d| requests.push((d.bytes.to_vec(), d.from))) => received,
                Some(ended) = tasks.join_next_with_id() => {
                    let task = task_of(&ended);
                    running.retain(|_, transfer| transfer.task != task);
                    Ok(())
                }
                () = stop.cancelled() => break,
            };
            if let Err(error) = received {
                warn!(%error, "receiving TFTP failed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            for (request, peer) in requests.drain(..) {
                if is_repetition(running.get(&peer), &request) {
                    continue;
                }
                match self.start(&request, peer, &running, &mut tasks) {
                    Ok(Some(started)) => {
                        if let Some(before) = running.insert(peer, started) {
                            before.replaced.cancel();
                        }
                    }
                    Ok(None) => {}
                    Err(why) => self.refuse(&why, peer).await,
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Starts the transfer that a datagram asks for; `None` for one that asks for nothing.
    fn start(
        &self,
        datagram: &[u8],
        peer: SocketAddrV4,
        running: &HashMap<SocketAddrV4, Running>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<Running>, Why> {
        let request = match Packet::parse(datagram)? {
            Packet::Read(request) => request,
            Packet::Write => return Err(Why::Write),
            // Meant for a transfer that is no more. To answer could start a quarrel of errors.
            Packet::Ack(_) | Packet::Error { .. } | Packet::Other(_) => return Ok(None),
        };
        if request.mode != "octet" {
            return Err(Why::Mode(request.mode));
        }
        let others = running.keys().filter(|key| **key != peer);
        if others.clone().count() >= MAX_TRANSFERS {
            return Err(Why::Busy("in total"));
        }
        if others.filter(|key| key.ip() == peer.ip()).count() >= MAX_TRANSFERS_PER_CLIENT {
            return Err(Why::Busy("of this client"));
        }
        let (source, of) = self.source(&request)?;
        let name = normalised(&request.filename);
        let address = SocketAddrV4::new(self.address, 0);
        let socket = open(Open { address, device: None, shared: false, receive_buffer: 64 << 10 });
        let endpoint = socket.and_then(Endpoint::new).map_err(|error| unreadable(&name, &error))?;
        let heard = Arc::new(LastHeard::default());
        let replaced = CancellationToken::new();
        let run = Run { endpoint, peer, source, name, of, heard: heard.clone(), replaced: replaced.clone() };
        let task = tasks.spawn(run.until_end(request, self.limits, self.events.clone())).id();
        Ok(Some(Running { task, request: datagram.to_vec(), heard, replaced }))
    }

    fn source(&self, request: &ReadRequest) -> Result<(Source, Of), Why> {
        let name = normalised(&request.filename);
        match wanted(&name, &self.rules.loaders) {
            Wanted::Loader(file) => Ok((Source::Memory(file.bytes.clone()), Of::Loader)),
            Wanted::Autoexec => {
                let text = script(&self.rules, &self.base_url, &Query::default()).text;
                Ok((Source::Memory(text.into()), Of::Asset))
            }
            Wanted::Asset => {
                let assets = self.assets.as_ref().ok_or_else(|| Why::not_found(&name))?;
                let asset = assets.file(&name)?;
                Ok((Source::File(asset.file, asset.size), Of::Asset))
            }
        }
    }

    async fn refuse(&self, why: &Why, peer: SocketAddrV4) {
        debug!(reason = why.label(), %peer, "TFTP refused: {why}");
        let code = match why {
            Why::NotFound(_) => ErrorCode::FileNotFound,
            Why::Escape(_) | Why::Unreadable { .. } => ErrorCode::AccessViolation,
            Why::Write | Why::Mode(_) | Why::MalformedTftp(_) => ErrorCode::IllegalOperation,
            _ => ErrorCode::NotDefined,
        };
        let packet = error(code, &why.to_string());
        let out = Outgoing { to: peer, from: Some(self.address), segment: packet.len(), bytes: &packet };
        if let Err(error) = self.endpoint.send(out).await {
            debug!(%error, %peer, "a TFTP error could not be sent");
        }
        // iPXE asks for autoexec.ipxe and EDK2 for revocation lists that need not be there: no news to people.
        if !matches!(why, Why::NotFound(_) | Why::MalformedTftp(_)) {
            self.tell(peer, What::Refused(why.clone()));
        }
    }

    fn tell(&self, peer: SocketAddrV4, what: What) {
        tell(&self.events, peer, what);
    }
}

fn task_of(ended: &Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}

fn tell(events: &tokio::sync::mpsc::Sender<Event>, peer: SocketAddrV4, what: What) {
    if events.try_send(Event { who: Who::Address(*peer.ip()), what }).is_err() {
        debug!("an event was dropped: the recorder is behind");
    }
}

fn unreadable(name: &str, error: &io::Error) -> Why {
    Why::Unreadable { name: name.to_owned(), error: error.to_string() }
}

/// Whether a request is the one that a running transfer has been answering, sent again or doubled on the way: a
/// second transfer would take its client away from the first. After a second of silence it is a machine that was
/// reset and uses its old port again (ROMs count them from the same start), and begins anew.
fn is_repetition(running: Option<&Running>, request: &[u8]) -> bool {
    running.is_some_and(|running| running.request == request && running.heard.within(Duration::from_secs(1)))
}

/// When a transfer's client was last heard, shared with the listener.
#[derive(Default)]
struct LastHeard(AtomicU64);

impl LastHeard {
    fn now(&self) -> Instant {
        self.0.store(millis().max(1), Ordering::Relaxed);
        Instant::now()
    }

    /// Never heard counts as just now: it is still being asked.
    fn within(&self, time: Duration) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => true,
            heard => u128::from(millis().saturating_sub(heard)) < time.as_millis(),
        }
    }
}

fn millis() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Where a transfer's bytes come from.
enum Source {
    Memory(Bytes),
    File(File, u64),
}

impl Source {
    fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }

    /// The DATA packets of these blocks behind each other.
    fn blocks(&self, first: u64, count: u64, block_size: u16, packets: &mut Vec<u8>) -> io::Result<()> {
        packets.clear();
        for block in first..first + count {
            data_header(block, packets);
            self.read((block - 1) * u64::from(block_size), block_size.into(), packets)?;
        }
        Ok(())
    }

    /// Adds up to `length` bytes from `offset`, fewer only at the end.
    fn read(&self, offset: u64, length: usize, packet: &mut Vec<u8>) -> io::Result<()> {
        let length = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX).min(length);
        let start = packet.len();
        match self {
            Self::Memory(bytes) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                packet.extend_from_slice(bytes.get(offset..offset + length).unwrap_or_default());
                Ok(())
            }
            // A read that waits for the disk holds up the other transfers for as long; kernels and images go by HTTP.
            Self::File(file, _) => {
                packet.resize(start + length, 0);
                file.read_exact_at(packet.get_mut(start..).unwrap_or_default(), offset)
            }
        }
    }
}

/// A transfer with its socket.
struct Run {
    endpoint: Endpoint,
    peer: SocketAddrV4,
    source: Source,
    name: String,
    of: Of,
    heard: Arc<LastHeard>,
    replaced: CancellationToken,
}

impl Run {
    async fn until_end(self, request: ReadRequest, limits: Limits, events: tokio::sync::mpsc::Sender<Event>) {
        let began = Instant::now();
        let (mut transfer, first) = Transfer::begin(&request, self.source.size(), limits, began);
        let failure = match self.drive(&mut transfer, first).await {
            Ok(End::Complete) => None,
            // EDK2 asks for the size alone and ends the transfer before its first block: no failure and no news.
            Ok(End::Aborted(code, words)) if transfer.acked_bytes() == 0 && request.wants_size => {
                return debug!(peer = %self.peer, code, words, name = self.name, "TFTP size probe");
            }
            Ok(End::Aborted(code, words)) => Some(format!("the client ended it (TFTP error {code} {words:?})")),
            Ok(End::Silent) if transfer.acked_bytes() == 0 => Some("the client never answered".to_owned()),
            Ok(End::Silent) => Some("the client fell silent".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        let (sent, size) = (transfer.acked_bytes(), self.source.size());
        let transfer = timeline::Transfer { of: self.of, name: self.name, sent, size, took: began.elapsed(), failure };
        tell(&events, self.peer, What::Transfer(transfer));
    }

    async fn drive(&self, transfer: &mut Transfer, first: Step) -> io::Result<End> {
        let mut packets = Vec::new();
        let mut steps = vec![first];
        let mut strangers: Vec<SocketAddrV4> = Vec::new();
        loop {
            for step in steps.drain(..) {
                match step {
                    Step::End(end) => return Ok(end),
                    Step::Send(send) => self.send(&send, transfer.block_size(), &mut packets).await?,
                    Step::Wait => {}
                }
            }
            let deadline = transfer.deadline().into();
            tokio::select! {
                received = self.endpoint.receive(|datagram| match Packet::parse(datagram.bytes) {
                    _ if datagram.from != self.peer => strangers.push(datagram.from),
                    Ok(packet) => steps.push(transfer.receive(&packet, self.heard.now())),
                    Err(_) => {}
                }) => received?,
                () = tokio::time::sleep_until(deadline) => steps.push(transfer.timed_out(Instant::now())),
                () = self.replaced.cancelled() => return Err(io::Error::other("the client began anew")),
            }
            // Another client's packet, or a forged one, does not touch the transfer (RFC 1350 §4).
            for stranger in strangers.drain(..) {
                let packet = error(ErrorCode::UnknownTransferId, "this port serves another client");
                self.transmit(stranger, &packet, packet.len()).await;
            }
        }
    }

    async fn send(&self, send: &Send, block_size: u16, packets: &mut Vec<u8>) -> io::Result<()> {
        match send {
            Send::Packet(packet) => self.transmit(self.peer, packet, packet.len()).await,
            Send::Blocks { first, count } => {
                if let Err(failure) = self.source.blocks(*first, *count, block_size, packets) {
                    let packet = error(ErrorCode::NotDefined, "the file changed while it was sent");
                    self.transmit(self.peer, &packet, packet.len()).await;
                    return Err(failure);
                }
                self.transmit(self.peer, packets, usize::from(block_size) + DATA_HEADER).await;
            }
        }
        Ok(())
    }

    /// A send that fails is a packet lost: the timer sends it again, or gives up.
    async fn transmit(&self, to: SocketAddrV4, bytes: &[u8], segment: usize) {
        if let Err(error) = self.endpoint.send(Outgoing { to, from: None, bytes, segment }).await {
            debug!(%error, %to, "a TFTP packet could not be sent");
        }
    }
}

/// Opcode and block number.
const DATA_HEADER: usize = 4;
/// A rack of machines at once; the next one is told to try again.
const MAX_TRANSFERS: usize = 256;
/// A machine needs one.
const MAX_TRANSFERS_PER_CLIENT: usize = 8;
/// Errors of a socket come in streams while an interface is away.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
