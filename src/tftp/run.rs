//! One transfer over its socket: the state machine, driven by packets and one timer.

use std::{
    future::{Future, poll_fn},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Sleep, sleep_until},
};
use tracing::debug;

use super::{
    packet::{ErrorCode, Packet, ReadRequest, error},
    shared::Shared,
    source::Source,
    transfer::{End, Limits, Send, Step, Transfer},
};
use crate::{
    boot::timeline::{self, Event, Of, What, Who},
    net::udp::{Endpoint, Outgoing},
};

/// A transfer that is about to run.
pub(super) struct Run {
    pub(super) channel: Channel,
    pub(super) peer: SocketAddrV4,
    pub(super) source: Source,
    pub(super) name: String,
    pub(super) of: Of,
    pub(super) heard: Arc<LastHeard>,
    /// Ends the transfer when its sender is dropped.
    pub(super) replaced: oneshot::Receiver<()>,
    pub(super) shared: Arc<Shared>,
}

/// How a transfer hears its client.
pub(super) enum Channel {
    /// By a port of its own, as RFC 1350 has it.
    Own(Endpoint),
    /// By the port that all share: the listener passes on what this client sent.
    Single {
        /// The listener's socket.
        endpoint: Arc<Endpoint>,
        /// Our address there.
        address: Ipv4Addr,
        /// Packets of this client.
        inbox: mpsc::Receiver<Vec<u8>>,
    },
}

/// What came in one wake: kept between them, so that a packet costs no allocation.
#[derive(Default)]
struct Inbox {
    steps: Vec<Step>,
    strangers: Vec<SocketAddrV4>,
    packets: Vec<u8>,
}

impl Run {
    /// Until the end, which is told as an event.
    pub(super) async fn until_end(
        mut self,
        request: ReadRequest,
        limits: Limits,
        events: mpsc::Sender<Event>,
    ) -> SocketAddrV4 {
        let began = Instant::now();
        let (mut transfer, first) = Transfer::begin(&request, self.source.size(), limits, began);
        let ended = self.drive(&mut transfer, first).await;
        let failure = match ended {
            Ok(End::Complete) => None,
            // EDK2 asks for the size alone and ends the transfer before its first block: no failure and no news.
            Ok(End::Aborted(code, words)) if transfer.acked_bytes() == 0 && request.wants_size => {
                debug!(peer = %self.peer, code, words, name = self.name, "TFTP size probe");
                return self.peer;
            }
            Ok(End::Aborted(code, words)) => Some(format!("the client ended it (TFTP error {code} {words:?})")),
            Ok(End::Silent) => Some(silence(&transfer)),
            Err(Broken::Replaced) => Some("the client began anew".to_owned()),
            // Nobody knows whether there is such a client at all: no news.
            Err(Broken::Evicted) => {
                debug!(peer = %self.peer, name = self.name, "TFTP gave up a client that did not answer for another one");
                return self.peer;
            }
            Err(Broken::Io(error)) => Some(error.to_string()),
        };
        let (sent, size) = (transfer.acked_bytes(), self.source.size());
        let transfer = timeline::Transfer { of: self.of, name: self.name, sent, size, took: began.elapsed(), failure };
        tell(&events, self.peer, What::Transfer(transfer));
        self.peer
    }

    async fn drive(&mut self, transfer: &mut Transfer, first: Step) -> Result<End, Broken> {
        let mut inbox = Inbox::default();
        if let Some(end) = self.act(first, transfer, &mut inbox.packets)? {
            return Ok(end);
        }
        let mut timer = pin!(sleep_until(transfer.deadline().into()));
        poll_fn(|cx| self.poll(cx, transfer, timer.as_mut(), &mut inbox)).await
    }

    /// What can be done now. Everything that is waited for stays registered from one packet to the next.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        transfer: &mut Transfer,
        mut timer: Pin<&mut Sleep>,
        inbox: &mut Inbox,
    ) -> Poll<Result<End, Broken>> {
        if Pin::new(&mut self.replaced).poll(cx).is_ready() {
            let is_known = self.heard.ever();
            return Poll::Ready(Err(if is_known { Broken::Replaced } else { Broken::Evicted }));
        }
        while let Poll::Ready(received) = self.poll_receive(cx, transfer, inbox) {
            received?;
            for step in inbox.steps.drain(..) {
                if let Some(end) = self.act(step, transfer, &mut inbox.packets)? {
                    return Poll::Ready(Ok(end));
                }
            }
            // Another client's packet, or a forged one, does not touch the transfer (RFC 1350 §4).
            for stranger in inbox.strangers.drain(..) {
                let packet = error(ErrorCode::UnknownTransferId, "this port serves another client");
                self.transmit(stranger, &packet, packet.len());
            }
        }
        loop {
            // The timer is set earlier at once, and later only when it rings: a deadline that every packet puts off
            // costs nothing so.
            let deadline = transfer.deadline().into();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if now < transfer.deadline() {
                timer.as_mut().reset(deadline);
                continue;
            }
            let step = transfer.timed_out(now);
            if transfer.is_stuck_at_start() {
                self.shared.too_large(*self.peer.ip(), transfer.block_size(), now);
            }
            if let Some(end) = self.act(step, transfer, &mut inbox.packets)? {
                return Poll::Ready(Ok(end));
            }
            timer.as_mut().reset(transfer.deadline().into());
        }
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        transfer: &mut Transfer,
        inbox: &mut Inbox,
    ) -> Poll<io::Result<()>> {
        let Inbox { steps, strangers, .. } = inbox;
        let mut take = |bytes: &[u8]| {
            if let Ok(packet) = Packet::parse(bytes) {
                steps.push(transfer.receive(&packet, self.heard.now()));
            }
        };
        match &mut self.channel {
            Channel::Own(endpoint) => endpoint.poll_receive(cx, |datagram| match datagram.from == self.peer {
                true => take(datagram.bytes),
                false => strangers.push(datagram.from),
            }),
            Channel::Single { inbox, .. } => match ready!(inbox.poll_recv(cx)) {
                Some(bytes) => {
                    take(&bytes);
                    Poll::Ready(Ok(()))
                }
                // The listener has gone: what runs comes to its end by the timer.
                None => Poll::Pending,
            },
        }
    }

    fn act(&mut self, step: Step, transfer: &Transfer, packets: &mut Vec<u8>) -> Result<Option<End>, Broken> {
        match step {
            Step::End(end) => return Ok(Some(end)),
            Step::Wait => {}
            Step::Send(Send::Packet(packet)) => self.transmit(self.peer, &packet, packet.len()),
            Step::Send(Send::Blocks { first, count }) => {
                let block_size = transfer.block_size();
                if let Err(failure) = self.source.blocks(first, count, block_size, packets) {
                    let packet = error(ErrorCode::NotDefined, "the file changed while it was sent");
                    self.transmit(self.peer, &packet, packet.len());
                    return Err(failure.into());
                }
                self.transmit(self.peer, packets, usize::from(block_size) + DATA_HEADER);
            }
        }
        Ok(None)
    }

    /// A send that fails is a packet lost: the timer sends it again, or gives up.
    fn transmit(&self, to: SocketAddrV4, bytes: &[u8], segment: usize) {
        let sent = match &self.channel {
            Channel::Own(endpoint) => endpoint.send_now(Outgoing { to, from: None, bytes, segment }),
            Channel::Single { endpoint, address, .. } => {
                endpoint.send_now(Outgoing { to, from: Some(*address), bytes, segment })
            }
        };
        if let Err(error) = sent {
            debug!(%error, %to, "a TFTP packet could not be sent");
        }
    }
}

/// Why a transfer ended that neither side ended.
enum Broken {
    /// By a new request of its client.
    Replaced,
    /// To make room.
    Evicted,
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn silence(transfer: &Transfer) -> String {
    let repeated = transfer.retransmissions();
    match transfer.acked_blocks() {
        0 if transfer.is_stuck_at_start() => format!(
            "no block of {} bytes reached the client, though it was sent {repeated} times again: the path may carry \
             smaller packets only, which it is offered from now on",
            transfer.block_size()
        ),
        0 => "the client never answered".to_owned(),
        block => format!("the client fell silent after block {block} ({repeated} retransmissions)"),
    }
}

/// Sends an event, or drops it where the recorder is behind: no client must wait for a log line.
pub(super) fn tell(events: &mpsc::Sender<Event>, peer: SocketAddrV4, what: What) {
    if events.try_send(Event { who: Who::Address(*peer.ip()), what }).is_err() {
        debug!("an event was dropped: the recorder is behind");
    }
}

/// When a transfer's client was last heard, shared with the listener.
#[derive(Default)]
pub(super) struct LastHeard(AtomicU64);

impl LastHeard {
    fn now(&self) -> Instant {
        let now = Instant::now();
        self.0.store(millis(now).max(1), Ordering::Relaxed);
        now
    }

    /// Whether it was heard at all.
    pub(super) fn ever(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Never heard counts as just now: it is still being asked.
    pub(super) fn within(&self, time: Duration) -> bool {
        match self.0.load(Ordering::Relaxed) {
            0 => true,
            heard => u128::from(millis(Instant::now()).saturating_sub(heard)) < time.as_millis(),
        }
    }
}

fn millis(now: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    u64::try_from(now.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX)
}

/// Opcode and block number.
const DATA_HEADER: usize = 4;
