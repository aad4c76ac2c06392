//! hyper's side of a connection: how a file reaches the socket without a copy.
//! [`super::piece`] says how.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use hyper::rt::ReadBufCursor;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use tokio::io::Interest;

use super::{connection::Connection, piece::place_in_hole};
use crate::timeline::event::Failure;

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
        if slice.len() >= CORKED {
            connection.cork(true);
        }
        let Poll::Ready(sent) = self.poll_send(context, || connection.promised.send(slice, &connection.stream)) else {
            self.sent = 0;
            return Poll::Pending;
        };
        let count = sent?;
        if count == 0 {
            connection.fail(Failure::CUT_SHORT);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, Failure::CUT_SHORT)));
        }
        if connection.wrote_of_body(count) {
            connection.cork(false);
        }
        self.sent += count;
        Poll::Ready(Ok(count))
    }

    /// Writes what stands before the first slice of the hole, and what that slice stands for where it is in memory: a
    /// small file is one system call.
    fn poll_plain(&self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let end = slices.iter().position(|slice| place_in_hole(slice).is_some()).unwrap_or(slices.len());
        let plain = slices.get(..end).unwrap_or(slices);
        let body = slices.get(end).and_then(|slice| self.connection.promised.in_memory(slice));
        let (Some(body), [header]) = (body, plain) else {
            // A header goes into one packet with the beginning of its body, which is written next.
            let more = if end < slices.len() { SendFlags::MORE } else { SendFlags::empty() };
            let sent = ready!(self.poll_send(context, || self.send(plain, more)))?;
            self.connection.wrote(sent);
            return Poll::Ready(Ok(sent));
        };
        let both = [IoSlice::new(header), IoSlice::new(&body)];
        let sent = ready!(self.poll_send(context, || self.send(&both, SendFlags::empty())))?;
        self.connection.wrote(sent.min(header.len()));
        if let Some(count) = sent.checked_sub(header.len()).filter(|count| *count > 0) {
            self.connection.promised.sent(count);
            self.connection.wrote_of_body(count);
        }
        Poll::Ready(Ok(sent))
    }

    fn send(&self, slices: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | flags;
        Ok(sendmsg(&self.connection.stream, slices, &mut SendAncillaryBuffer::default(), flags)?)
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, mut to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        // Requests are small: one copy of them costs less than what it would take to save it.
        let mut buffer = [0; 4096];
        let most = to.remaining().min(buffer.len());
        let stream = &self.connection.stream;
        loop {
            ready!(stream.poll_read_ready(context))?;
            let mut got = None;
            let read = stream.try_io(Interest::READABLE, || {
                let room = buffer.get_mut(..most).unwrap_or_default();
                let (_, count) = recv(stream, room, RecvFlags::empty())?;
                got = Some(count);
                // Less than there is room for: nothing is left, and the next call would only say so.
                if (1..most).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (got, read) {
                (Some(count), _) => {
                    to.put_slice(buffer.get(..count).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                (None, _) => {}
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

/// Bytes of a body that are sent as whole segments only. An acknowledgement that comes while the next piece is on its way
/// would else send what stands at the end of the queue, as a segment that is not full: a tenth more packets, and half as
/// many acknowledgements again.
const CORKED: usize = 64 << 10;
/// Bytes of bodies that one connection sends before others have their turn.
const TURN: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use std::{io::Read as _, net, task::Waker};

    use hyper::rt::Write as _;
    use socket2::SockRef;
    use tokio::{net::TcpListener, sync::mpsc};

    use bytes::Bytes;

    use super::*;
    use crate::{
        boot::over::Of,
        http::{
            ends::Ends,
            piece::{HOLE, Piece, Source},
            queue::Queue,
        },
    };

    async fn pair() -> (Io, net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let local = listener.local_addr().expect("bound");
        let client = net::TcpStream::connect(local).expect("connected");
        let (stream, peer) = listener.accept().await.expect("accepted");
        let connection =
            Connection::new(stream, Ends { peer, local }, Queue::of(1), mpsc::channel(8).0, Arc::default());
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
    async fn a_body_is_corked_until_its_last_byte() {
        let (mut io, _client) = pair().await;
        let connection = Arc::clone(&io.connection);
        let is_corked = || SockRef::from(&connection.stream).tcp_cork().expect("told");
        let half = Bytes::from(vec![0; CORKED]);
        connection.begin(Of::Asset, "k".into(), 2 * CORKED as u64, None, None);
        let piece = |io: &mut Io| {
            let source = Source::Memory(half.clone());
            let slice = connection.promised.add(Piece { source, offset: 0, length: CORKED });
            assert!(matches!(write(io, &slice), Poll::Ready(Ok(CORKED))));
        };
        assert!(!is_corked());
        piece(&mut io);
        assert!(is_corked(), "more is to come");
        piece(&mut io);
        assert!(!is_corked(), "the end goes out at once");
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
