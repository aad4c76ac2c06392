//! hyper's side of a connection: how a file reaches the socket without a copy.
//!
//! hyper keeps the protocol, but the bytes of a file never enter this process. The body hands hyper slices of
//! [`HOLE`], memory that is never read, and notes in [`Promised`] which [`Piece`] each one stands for. [`Io`] recognises
//! a write out of the hole by its address and sends the piece by `sendfile` instead; any other write is an ordinary one.
//! No file is mapped, so one that is truncated meanwhile is a short `sendfile` and no SIGBUS. That hyper's place in the
//! hole and ours in the piece agree is checked at each write, and a difference ends the connection: a client never gets
//! the hole's bytes.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::rt::ReadBufCursor;
use rustix::{
    fs::sendfile,
    io::Errno,
    net::{SendAncillaryBuffer, SendFlags, sendmsg},
};
use tokio::{io::Interest, net::TcpStream};

use super::connection::Connection;
use crate::{files::Asset, iso::segments::Piece as Place};

/// What a body is made of.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Memory(Bytes),
    File(Arc<Asset>),
}

/// Part of a body: what a slice of the hole stands for.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) source: Source,
    /// In the source.
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// Pieces that hyper has slices for and that were not written, oldest first.
#[derive(Debug, Default)]
pub(super) struct Promised(Mutex<VecDeque<Piece>>);

impl Promised {
    /// The next bytes of the body, for which hyper gets the returned slice of the hole.
    pub(super) fn add(&self, piece: Piece) -> Bytes {
        let start = in_hole(piece.offset);
        let slice = HOLE.get(start..start + piece.length).unwrap_or_default();
        debug_assert_eq!(slice.len(), piece.length);
        self.pieces().push_back(piece);
        Bytes::from_static(slice)
    }

    /// Sends what a slice of the hole stands for, or the beginning of it; 0 where the file has no more.
    fn send(&self, slice: &[u8], stream: &TcpStream) -> io::Result<usize> {
        let mut pieces = self.pieces();
        let place = place_in_hole(slice);
        let Some(piece) = pieces.front_mut().filter(|piece| place == Some(in_hole(piece.offset))) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the body is not where hyper takes it to be"));
        };
        let count = piece.send(stream, slice.len())?;
        piece.offset += count as u64;
        piece.length = piece.length.saturating_sub(count);
        if piece.length == 0 {
            pieces.pop_front();
        }
        Ok(count)
    }

    fn pieces(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Piece {
    /// Sends at most `most` of its bytes; 0 where the file has no more.
    fn send(&self, stream: &TcpStream, most: usize) -> io::Result<usize> {
        let length = self.length.min(most);
        let start = usize::try_from(self.offset).unwrap_or(usize::MAX);
        match &self.source {
            Source::Memory(bytes) => stream.try_write(bytes.get(start..start + length).unwrap_or_default()),
            Source::File(asset) => match asset.at(self.offset, length as u64) {
                None => Ok(0),
                Some(Place::Bytes(bytes)) => stream.try_write(bytes),
                Some(Place::Zeros(count)) => {
                    let count = usize::try_from(count).unwrap_or(usize::MAX).min(HOLE.len());
                    stream.try_write(HOLE.get(..count).unwrap_or_default())
                }
                Some(Place::Image(at, count)) => {
                    let length = usize::try_from(count).unwrap_or(usize::MAX);
                    let mut offset = at;
                    match sendfile(stream, &asset.file, Some(&mut offset), length) {
                        // A file system that cannot: a few kinds of FUSE and network ones.
                        Err(Errno::INVAL | Errno::NOSYS) => {
                            let mut buffer = vec![0; length.min(COPIED)];
                            let count = asset.file.read_at(&mut buffer, at)?;
                            stream.try_write(buffer.get(..count).unwrap_or_default())
                        }
                        sent => Ok(sent?),
                    }
                }
            },
        }
    }
}

/// The connection as hyper sees it.
#[derive(Debug)]
pub(super) struct Io {
    connection: Arc<Connection>,
    /// Bytes of bodies in this turn.
    sent: usize,
}

impl Io {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { connection, sent: 0 }
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        mut send: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.connection.stream.poll_write_ready(context))?;
            match self.connection.stream.try_io(Interest::WRITABLE, &mut send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>, slice: &[u8]) -> Poll<io::Result<usize>> {
        // A client that takes as fast as it is sent to would keep the thread, and with it all others, to itself.
        if self.sent >= TURN {
            self.sent = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let connection = &self.connection;
        let Poll::Ready(sent) = self.poll_send(context, || connection.promised.send(slice, &connection.stream)) else {
            self.sent = 0;
            return Poll::Pending;
        };
        let count = sent?;
        if count == 0 {
            connection.fail(CUT_SHORT);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, CUT_SHORT)));
        }
        connection.wrote_of_body(count);
        self.sent += count;
        Poll::Ready(Ok(count))
    }

    /// Writes what stands before the first slice of the hole.
    fn poll_plain(&self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let end = slices.iter().position(|slice| place_in_hole(slice).is_some()).unwrap_or(slices.len());
        let plain = slices.get(..end).unwrap_or(slices);
        // A header goes into one packet with the beginning of its body, which is written next.
        let more = if end < slices.len() { SendFlags::MORE } else { SendFlags::empty() };
        let sent = ready!(self.poll_send(context, || {
            Ok(sendmsg(
                &self.connection.stream,
                plain,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL | more,
            )?)
        }))?;
        self.connection.wrote(sent);
        Poll::Ready(Ok(sent))
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        // Requests are small: one copy of them costs less than what it would take to save it.
        let mut buffer = [0; 4096];
        let most = to.remaining().min(buffer.len());
        loop {
            ready!(self.connection.stream.poll_read_ready(context))?;
            match self.connection.stream.try_read(buffer.get_mut(..most).unwrap_or_default()) {
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
        mut self: Pin<&mut Self>,
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
        Poll::Ready(self.connection.shut_down_writing())
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
/// Bytes of bodies that one connection sends before others have their turn.
const TURN: usize = 2 << 20;
/// Bytes, where the file system knows no `sendfile`.
const COPIED: usize = 64 << 10;
const CUT_SHORT: &str = "the file was cut short while it was sent";

#[cfg(test)]
mod tests {
    use std::{io::Read as _, net, task::Waker};

    use hyper::rt::Write as _;
    use tokio::{net::TcpListener, sync::mpsc};

    use super::*;
    use crate::http::routes::Ends;

    async fn pair() -> (Io, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let local = listener.local_addr().expect("bound");
        let client = net::TcpStream::connect(local).expect("connected");
        let (stream, peer) = listener.accept().await.expect("accepted");
        let connection = Connection::new(stream, Ends { peer, local }, mpsc::channel(8).0, Arc::default());
        let io = Io::new(Arc::new(connection.expect("a connection")));
        io.connection.stream.writable().await.expect("room");
        (io, client)
    }

    fn write(io: &mut Io, slice: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(io).poll_write(&mut Context::from_waker(Waker::noop()), slice)
    }

    #[tokio::test]
    async fn after_its_turn_a_connection_lets_others_go_first_and_goes_on() {
        let (mut io, mut client) = pair().await;
        let source = Source::Memory(Bytes::from_static(b"turn by turn"));
        let slice = io.connection.promised.add(Piece { source, offset: 0, length: 12 });
        io.sent = TURN;
        assert!(write(&mut io, &slice).is_pending(), "more than its turn");
        assert!(matches!(write(&mut io, &slice), Poll::Ready(Ok(12))));
        let mut got = [0; 12];
        client.read_exact(&mut got).expect("read");
        assert_eq!(&got, b"turn by turn");
    }

    #[tokio::test]
    async fn the_bytes_of_the_hole_are_never_sent() {
        let (mut io, mut client) = pair().await;
        let (nothing, source) = (HOLE.get(..12).expect("long"), Source::Memory(Bytes::from_static(b"another place")));
        assert!(matches!(write(&mut io, nothing), Poll::Ready(Err(_))), "nothing was promised");
        io.connection.promised.add(Piece { source, offset: 1, length: 12 });
        assert!(matches!(write(&mut io, nothing), Poll::Ready(Err(_))), "something else was promised");
        drop(io);
        assert_eq!(client.read(&mut [0; 12]).expect("an end"), 0);
    }
}
