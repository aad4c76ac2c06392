//! One accepted connection: what is on its way to the client, and how much of it the client has acknowledged.
//!
//! # How a file reaches the socket without a copy
//!
//! hyper keeps the protocol, but the bytes of a file never enter this process. The body hands hyper slices of
//! [`HOLE`], memory that is never read, and notes here which [`Piece`] each one stands for. [`Io`] recognises a write
//! out of the hole by its address and sends the piece by `sendfile` instead; any other write is an ordinary one. No
//! file is mapped, so one that is truncated meanwhile is a short `sendfile` and no SIGBUS. That hyper's place in the
//! hole and ours in the piece agree is checked at each write, and a difference ends the connection: a client never gets
//! the hole's bytes.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::{IpAddr, Shutdown},
    os::unix::fs::FileExt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::rt::ReadBufCursor;
use rustix::{
    fs::sendfile,
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, sendmsg},
};
use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::{Notify, mpsc},
};
use tracing::debug;

use super::routes::Ends;
use crate::{
    boot::{
        peer::Sample,
        timeline::{At, Event, Of, Pace, Pause, Silent, Transfer, What, Who},
    },
    files::Asset,
    net::tcp_info::{TcpInfo, tcp_info},
};

/// A connection, shared by hyper's [`Io`], the bodies sent on it and the watch.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    pub(super) ends: Ends,
    /// Of `TCP_INFO` before the first byte was sent.
    acked_before: u64,
    /// Something began or is all in the kernel's hands: the watch looks soon.
    pub(super) changed: Notify,
    outgoing: Mutex<Outgoing>,
    events: mpsc::Sender<Event>,
    /// Transfers of all connections that are not at their end.
    running: Arc<AtomicUsize>,
}

/// Positions are bytes since the connection began.
#[derive(Debug, Default)]
struct Outgoing {
    /// Given to the kernel.
    written: u64,
    /// Acknowledged by the client, when last looked at.
    acked: u64,
    /// Promised to hyper and not written.
    pieces: VecDeque<Piece>,
    /// Not acknowledged whole, oldest first.
    transfers: VecDeque<Running>,
    failure: Option<String>,
}

/// Part of a body: what a slice of the hole stands for.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) source: Source,
    /// In the source.
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// What a body is made of.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Memory(Bytes),
    File(Arc<Asset>),
}

/// A body on its way.
#[derive(Debug)]
struct Running {
    of: Of,
    name: String,
    length: u64,
    began: Instant,
    /// Of its first byte; `None` until that was written.
    start: Option<u64>,
    /// Bytes of it given to the kernel.
    given: u64,
    pause: Option<Told>,
    pauses: u32,
}

/// A pause that was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// How long it had lasted then.
    told: Duration,
    /// And when last looked at.
    lasted: Duration,
}

impl Connection {
    /// # Errors
    /// Those of the socket.
    pub(super) fn new(
        stream: TcpStream,
        ends: Ends,
        events: mpsc::Sender<Event>,
        running: Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        let acked_before = tcp_info(&stream)?.bytes_acked;
        let (changed, outgoing) = (Notify::new(), Mutex::default());
        Ok(Self { stream, ends, acked_before, changed, outgoing, events, running })
    }

    /// A body is about to be sent.
    pub(super) fn begin(&self, of: Of, name: String, length: u64) {
        // Its request came behind the acknowledgement of what was sent before: the old transfer's end is told first.
        if self.outgoing().transfers.front().is_some() {
            let _ = self.look();
        }
        let began = Instant::now();
        let transfer = Running { of, name, length, began, start: None, given: 0, pause: None, pauses: 0 };
        self.running.fetch_add(1, Ordering::Relaxed);
        self.outgoing().transfers.push_back(transfer);
        self.changed.notify_one();
    }

    /// The next bytes of the body, for which hyper gets the returned slice of the hole.
    pub(super) fn queue(&self, piece: Piece) -> Bytes {
        let start = in_hole(piece.offset);
        let slice = HOLE.get(start..start + piece.length).unwrap_or_default();
        debug_assert_eq!(slice.len(), piece.length);
        self.outgoing().pieces.push_back(piece);
        Bytes::from_static(slice)
    }

    /// Why the body on its way cannot be sent to its end.
    pub(super) fn fail(&self, failure: &str) {
        self.outgoing().failure = Some(failure.to_owned());
    }

    /// Whether the client has everything that was sent, as far as was looked.
    pub(super) fn is_settled(&self) -> bool {
        let outgoing = self.outgoing();
        outgoing.transfers.is_empty() && outgoing.acked >= outgoing.written
    }

    /// Whether all that was promised to the client is in the kernel's hands.
    pub(super) fn is_given(&self) -> bool {
        self.outgoing().transfers.iter().all(|transfer| transfer.given == transfer.length)
    }

    /// Asks the kernel how far the client is, and tells of transfers that it has whole.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) fn look(&self) -> io::Result<Look> {
        let info = tcp_info(&self.stream)?;
        let mut outgoing = self.outgoing();
        outgoing.acked = info.bytes_acked.saturating_sub(self.acked_before);
        let acked = outgoing.acked;
        let at = Instant::now().checked_sub(info.last_ack_recv).unwrap_or_else(Instant::now);
        while outgoing.transfers.front().is_some_and(|transfer| transfer.is_acked(acked)) {
            if let Some(transfer) = outgoing.transfers.pop_front() {
                self.tell_end(&transfer, acked, at, None);
            }
        }
        Ok(Look { sample: sample(&info), is_closed: info.is_closed })
    }

    /// Tells that the transfer on its way pauses, and again when it has paused twice as long; or that it goes on.
    pub(super) fn tell_pace(&self, pause: Option<Pause>) {
        let mut outgoing = self.outgoing();
        let acked = outgoing.acked;
        let Some(transfer) = outgoing.transfers.front_mut() else { return };
        let at = match (pause, &mut transfer.pause) {
            (None, None) => return,
            (None, Some(paused)) => {
                let lasted = paused.lasted;
                transfer.pause = None;
                At::GoesOn { paused: lasted }
            }
            (Some(now), Some(paused)) if now.lasted < 2 * paused.told => {
                paused.lasted = now.lasted;
                return;
            }
            (Some(now), paused) => {
                transfer.pauses += u32::from(paused.is_none());
                *paused = Some(Told { told: now.lasted, lasted: now.lasted });
                At::Paused(now)
            }
        };
        // A trickle pauses again and again: that is said a few times and not for ever.
        if transfer.pauses > PAUSES_TOLD {
            return;
        }
        let (of, name, size) = (transfer.of, transfer.name.clone(), transfer.length);
        let pace = Pace { of, name, acked: transfer.acked(acked), size, at };
        self.tell(What::Pace(pace));
    }

    /// Whether the client was sent all that is on its way, and owes nothing but the acknowledgement of its end.
    fn unacknowledged(&self, Sample { notsent, .. }: &Sample) -> Option<Silent> {
        let outgoing = self.outgoing();
        let last = outgoing.transfers.back().filter(|last| last.given == last.length && *notsent == 0)?;
        let unacknowledged = last.length - last.acked(outgoing.acked);
        let is_end = (1..=UNACKNOWLEDGED).contains(&unacknowledged) && outgoing.transfers.len() == 1;
        is_end.then(|| Silent { name: last.name.clone(), unacknowledged, since: Duration::ZERO })
    }

    /// Tells of a client that fell silent at the very end, as one does that has started what it loaded.
    pub(super) fn tell_silent(&self, sample: &Sample) -> bool {
        let silent = self.unacknowledged(sample);
        let is_silent = silent.is_some();
        silent.into_iter().for_each(|silent| self.tell(What::Silent(Silent { since: sample.since_ack, ..silent })));
        is_silent
    }

    /// Tells the end of everything on its way: the connection is over.
    pub(super) fn give_up(&self, why: &str) {
        let mut outgoing = self.outgoing();
        let why = outgoing.failure.take().unwrap_or_else(|| why.to_owned());
        let acked = outgoing.acked;
        for transfer in std::mem::take(&mut outgoing.transfers) {
            self.tell_end(&transfer, acked, Instant::now(), Some(why.clone()));
        }
    }

    /// Lets the kernel forget what it still holds for the client when the connection is closed. For one that is dead it
    /// would go on sending for a quarter of an hour.
    pub(super) fn abandon(&self) {
        if let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
            debug!(%error, "a dead connection could not be set to be reset");
        }
    }

    #[cfg(test)]
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn shut_down_writing(&self) -> io::Result<()> {
        match SockRef::from(&self.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            shut => shut,
        }
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_end(&self, transfer: &Running, acked: u64, at: Instant, failure: Option<String>) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        let sent = transfer.acked(acked);
        let took = at.saturating_duration_since(transfer.began);
        let (of, name, size) = (transfer.of, transfer.name.clone(), transfer.length);
        // It went on and came to its end between two looks.
        if let Some(Told { lasted, .. }) = transfer.pause.filter(|_| failure.is_none()) {
            let at = At::GoesOn { paused: lasted };
            self.tell(What::Pace(Pace { of, name: name.clone(), acked: sent, size, at }));
        }
        self.tell(What::Transfer(Transfer { of, name, sent, size, took, failure }));
    }

    fn tell(&self, what: What) {
        let IpAddr::V4(address) = self.ends.peer.ip() else { return };
        if self.events.try_send(Event { who: Who::Address(address), what }).is_err() {
            debug!("an event was dropped: the recorder is behind");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.give_up("the server stopped");
    }
}

/// What the kernel said of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) sample: Sample,
    pub(super) is_closed: bool,
}

fn sample(info: &TcpInfo) -> Sample {
    Sample {
        unacked: info.unacked,
        notsent: info.notsent,
        since_ack: info.last_ack_recv,
        retransmits: info.retransmits,
        probes: info.probes,
        acked: info.bytes_acked,
        // Nothing in flight although something waits: an old kernel shows a closed window so.
        window_closed: info.window.map_or(info.unacked == 0 && info.notsent > 0, |window| window == 0),
    }
}

impl Running {
    fn acked(&self, acked: u64) -> u64 {
        self.start.map_or(0, |start| acked.saturating_sub(start).min(self.given))
    }

    fn is_acked(&self, acked: u64) -> bool {
        self.acked(acked) == self.length && self.given == self.length
    }
}

impl Outgoing {
    fn wrote(&mut self, count: usize) {
        self.written += count as u64;
    }

    /// Bytes of the piece at the front went out; whether that was the last of a body.
    fn wrote_of_piece(&mut self, count: usize) -> bool {
        let start = self.written;
        self.wrote(count);
        if let Some(piece) = self.pieces.front_mut() {
            piece.offset += count as u64;
            piece.length = piece.length.saturating_sub(count);
            if piece.length == 0 {
                self.pieces.pop_front();
            }
        }
        let Some(transfer) = self.transfers.iter_mut().find(|transfer| transfer.given < transfer.length) else {
            return false;
        };
        transfer.start.get_or_insert(start);
        transfer.given += count as u64;
        transfer.given == transfer.length
    }
}

/// The connection as hyper sees it.
#[derive(Debug)]
pub(super) struct Io(pub(super) Arc<Connection>);

impl Io {
    fn poll_send(
        &self,
        context: &mut Context<'_>,
        mut send: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(context))?;
            match self.0.stream.try_io(Interest::WRITABLE, &mut send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_piece(&self, context: &mut Context<'_>, slice: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(self.poll_send(context, || {
            let outgoing = self.0.outgoing();
            let place = place_in_hole(slice);
            match outgoing.pieces.front().filter(|piece| place == Some(in_hole(piece.offset))) {
                Some(piece) => piece.send(&self.0.stream, slice.len()),
                None => Err(io::Error::new(io::ErrorKind::InvalidData, "the body is not where hyper takes it to be")),
            }
        }));
        match sent {
            Ok(0) => {
                self.0.fail(CUT_SHORT);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, CUT_SHORT)))
            }
            Ok(count) => {
                if self.0.outgoing().wrote_of_piece(count) {
                    self.0.changed.notify_one();
                }
                Poll::Ready(Ok(count))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Writes what stands before the first slice of the hole.
    fn poll_plain(&self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let end = slices.iter().position(|slice| place_in_hole(slice).is_some()).unwrap_or(slices.len());
        let plain = slices.get(..end).unwrap_or(slices);
        // A header goes into one packet with the beginning of its body, which is written next.
        let more = if end < slices.len() { SendFlags::MORE } else { SendFlags::empty() };
        let sent = ready!(self.poll_send(context, || {
            Ok(sendmsg(&self.0.stream, plain, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL | more)?)
        }))?;
        let mut outgoing = self.0.outgoing();
        // From here on there is something to look after, if there was not before.
        let was_settled = outgoing.transfers.is_empty() && outgoing.acked >= outgoing.written;
        outgoing.wrote(sent);
        drop(outgoing);
        if was_settled {
            self.0.changed.notify_one();
        }
        Poll::Ready(Ok(sent))
    }
}

impl Piece {
    /// Sends at most `most` of its bytes; 0 where the file has no more.
    fn send(&self, stream: &TcpStream, most: usize) -> io::Result<usize> {
        let length = self.length.min(most);
        let start = usize::try_from(self.offset).unwrap_or(usize::MAX);
        match &self.source {
            Source::Memory(bytes) => stream.try_write(bytes.get(start..start + length).unwrap_or_default()),
            Source::File(asset) => {
                let mut offset = self.offset;
                match sendfile(stream, &asset.file, Some(&mut offset), length) {
                    // A file system that cannot: a few kinds of FUSE and network ones.
                    Err(Errno::INVAL | Errno::NOSYS) => {
                        let mut buffer = vec![0; length.min(COPIED)];
                        let count = asset.file.read_at(&mut buffer, self.offset)?;
                        stream.try_write(buffer.get(..count).unwrap_or_default())
                    }
                    sent => Ok(sent?),
                }
            }
        }
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        // Requests are small: one copy of them costs less than the `unsafe` that would save it.
        let mut buffer = [0; 4096];
        let most = to.remaining().min(buffer.len());
        loop {
            ready!(self.0.stream.poll_read_ready(context))?;
            match self.0.stream.try_read(buffer.get_mut(..most).unwrap_or_default()) {
                Ok(count) => {
                    to.put_slice(buffer.get(..count).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = slices.iter().position(|slice| !slice.is_empty()) else { return Poll::Ready(Ok(0)) };
        match slices.get(first..) {
            Some([slice, ..]) if place_in_hole(slice).is_some() => self.poll_piece(context, slice),
            Some(slices) => self.poll_plain(context, slices),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// Has to be so: hyper copies bodies into one buffer where it is not, and with them the hole.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shut_down_writing())
    }
}

/// Where in the hole the byte at an offset of a source stands.
pub(super) fn in_hole(offset: u64) -> usize {
    // The remainder is below a usize.
    (offset % HOLE.len() as u64) as usize
}

/// Where in the hole a slice begins; `None` for one that is elsewhere.
fn place_in_hole(slice: &[u8]) -> Option<usize> {
    let place = slice.as_ptr().addr().checked_sub(HOLE.as_ptr().addr())?;
    (place < HOLE.len()).then_some(place)
}

/// Addresses to name parts of a file by. It is all zero, so it takes no place in the binary, and never read, so it takes
/// none in memory. The longest slice of it is what hyper asks for at once.
pub(super) static HOLE: [u8; 1 << 20] = [0; 1 << 20];
/// Of a transfer, so that a trickle does not fill the log.
const PAUSES_TOLD: u32 = 3;
/// Bytes: the window of an iPXE before 2023. With more than that outstanding the client cannot have had it all.
const UNACKNOWLEDGED: u64 = 256 << 10;
/// Bytes, where the file system knows no `sendfile`.
const COPIED: usize = 64 << 10;
pub(super) const CUT_SHORT: &str = "the file was cut short while it was sent";
