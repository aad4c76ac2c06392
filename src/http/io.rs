//! What a connection reads and sends, and in which turns.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use tokio::{io::Interest, task::yield_now};

use super::{connection::Connection, source::Rest};
use crate::timeline::transfer::Failure;

/// A connection's reading and sending side.
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

    /// Appends what has come; 0 where the client has closed its side.
    pub(super) fn poll_read(&self, context: &mut Context<'_>, to: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        // Requests are small: one copy of them costs less than what it would take to save it.
        let mut buffer = [0; 4096];
        let stream = &self.connection.stream;
        loop {
            ready!(stream.poll_read_ready(context))?;
            let mut got = None;
            let read = stream.try_io(Interest::READABLE, || {
                let (_, count) = recv(stream, &mut buffer, RecvFlags::empty())?;
                got = Some(count);
                // Less than there is room for: nothing is left, and the next call would only say so.
                if (1..buffer.len()).contains(&count) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (got, read) {
                (Some(count), _) => {
                    to.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    return Poll::Ready(Ok(count));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                (None, _) => {}
            }
        }
    }

    /// Sends all of it.
    pub(super) async fn write(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let sent = self.send(|| self.send_slices(slices, SendFlags::empty())).await?;
            self.connection.wrote(sent);
            IoSlice::advance_slices(&mut slices, sent);
        }
        Ok(())
    }

    /// Sends the head of an answer, and its body. A small file is one system call.
    ///
    /// # Errors
    /// Those of the socket; the file was changed or cut short.
    pub(super) async fn answer(&mut self, mut head: &[u8], mut rest: Rest) -> io::Result<()> {
        while !head.is_empty() {
            let body = rest.in_memory();
            // The head goes into one packet with the beginning of its body, which is sent next.
            let more = if body.is_none() && rest.length() > 0 { SendFlags::MORE } else { SendFlags::empty() };
            let slices = [IoSlice::new(head), IoSlice::new(body.unwrap_or_default())];
            let sent = self.send(|| self.send_slices(&slices, more)).await?;
            let of_head = sent.min(head.len());
            self.connection.wrote(of_head);
            head = head.get(of_head..).unwrap_or_default();
            if sent > of_head {
                rest.sent(sent - of_head);
                self.connection.wrote_of_body(sent - of_head);
            }
        }
        while rest.length() > 0 {
            self.send_piece(&mut rest).await?;
        }
        Ok(())
    }

    async fn send_piece(&mut self, rest: &mut Rest) -> io::Result<()> {
        // A client that takes as fast as it is sent to would keep the thread, and with it all others, to itself.
        if self.sent >= TURN {
            self.sent = 0;
            yield_now().await;
        }
        let connection = &self.connection;
        let fail = |error: &io::Error| connection.fail(&error.to_string());
        rest.prepare().await.inspect_err(fail)?;
        if rest.length() >= CORKED {
            connection.cork(true);
        }
        let mut has_waited = false;
        let count = loop {
            if let Some(sent) = self.send_now(|| rest.send(&connection.stream)) {
                break sent?;
            }
            self.room().await?;
            has_waited = true;
            rest.look_again().inspect_err(fail)?;
        };
        if count == 0 {
            connection.fail(Failure::CUT_SHORT);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, Failure::CUT_SHORT));
        }
        rest.sent(count);
        if connection.wrote_of_body(count) {
            connection.cork(false);
        }
        self.sent = if has_waited { count } else { self.sent + count };
        Ok(())
    }

    async fn send(&self, mut send: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
        loop {
            match self.send_now(&mut send) {
                Some(sent) => return sent,
                None => self.room().await?,
            }
        }
    }

    /// `None` where there is no room.
    fn send_now(&self, send: impl FnOnce() -> io::Result<usize>) -> Option<io::Result<usize>> {
        match self.connection.stream.try_io(Interest::WRITABLE, send) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            sent => Some(sent),
        }
    }

    /// Waits until there is room.
    async fn room(&self) -> io::Result<()> {
        poll_fn(|context| self.connection.stream.poll_write_ready(context)).await
    }

    fn send_slices(&self, slices: &[IoSlice<'_>], flags: SendFlags) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | flags;
        Ok(sendmsg(&self.connection.stream, slices, &mut SendAncillaryBuffer::default(), flags)?)
    }
}

/// Bytes of a body that are sent as whole segments only. An acknowledgement that comes while the next piece is on its way
/// would else send what stands at the end of the queue, as a segment that is not full: a tenth more packets, and half as
/// many acknowledgements again.
const CORKED: u64 = 64 << 10;
/// Bytes of bodies that one connection sends before others have their turn.
const TURN: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _, net, os::unix::fs::FileExt as _, task::Waker};

    use bytes::Bytes;
    use socket2::SockRef;
    use tokio::{net::TcpListener, sync::mpsc};

    use super::*;
    use crate::{
        boot::over::Of,
        files::AssetRoot,
        http::{ends::Ends, queue::Queue, source::Source},
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

    #[tokio::test]
    async fn after_its_turn_a_connection_lets_others_go_first_and_goes_on() {
        let (mut io, mut client) = pair().await;
        let mut rest = Rest::new(Source::Memory(Bytes::from_static(b"turn by turn")), 0, 12);
        io.sent = TURN;
        {
            let mut sending = std::pin::pin!(io.send_piece(&mut rest));
            let mut context = Context::from_waker(Waker::noop());
            assert!(sending.as_mut().poll(&mut context).is_pending(), "more than its turn");
            assert!(matches!(sending.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
        }
        let mut got = [0; 12];
        client.read_exact(&mut got).expect("read");
        assert_eq!(&got, b"turn by turn");
    }

    #[tokio::test]
    async fn a_file_that_is_written_into_while_its_client_pauses_is_cut_short() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("k"), vec![1; 4_000_000]).expect("written");
        let asset = AssetRoot::open(folder.path()).map(|assets| assets.shared("k").expect("there"));
        let rest = Rest::new(Source::File(asset.expect("opened")), 0, 4_000_000);
        let (mut io, mut client) = pair().await;
        let reader = {
            let mut answering = std::pin::pin!(io.answer(b"head ", rest));
            let mut context = Context::from_waker(Waker::noop());
            for _ in 0..100 {
                assert!(answering.as_mut().poll(&mut context).is_pending(), "more than there is room for");
            }
            let file = fs::File::options().write(true).open(folder.path().join("k")).expect("opened");
            file.write_all_at(&[2; 4_000_000], 0).expect("written");
            let reader = tokio::task::spawn_blocking(move || io::copy(&mut client, &mut io::sink()).expect("read"));
            assert_eq!(answering.await.expect_err("another version").to_string(), Failure::CHANGED);
            reader
        };
        drop(io);
        assert!(reader.await.expect("no panic") < 4_000_000);
    }

    #[tokio::test]
    async fn a_body_is_corked_until_its_last_byte() {
        let (mut io, _client) = pair().await;
        let connection = Arc::clone(&io.connection);
        let is_corked = || SockRef::from(&connection.stream).tcp_cork().expect("told");
        let half = Bytes::from(vec![0; CORKED as usize]);
        connection.begin(Of::Asset, "k".into(), 2 * CORKED, None, None);
        let mut piece = async || {
            let mut rest = Rest::new(Source::Memory(half.clone()), 0, CORKED);
            while rest.length() > 0 {
                io.send_piece(&mut rest).await.expect("sent");
            }
        };
        assert!(!is_corked());
        piece().await;
        assert!(is_corked(), "more is to come");
        piece().await;
        assert!(!is_corked(), "the end goes out at once");
    }

    #[tokio::test]
    async fn a_head_and_a_small_file_come_together_and_in_order() {
        let (mut io, mut client) = pair().await;
        io.connection.begin(Of::Asset, "k".into(), 4, None, None);
        io.answer(b"head ", Rest::new(Source::Memory(Bytes::from_static(b"a body")), 2, 4)).await.expect("sent");
        assert!(io.connection.is_given());
        let mut got = [0; 9];
        client.read_exact(&mut got).expect("read");
        assert_eq!(&got, b"head body");
    }
}
