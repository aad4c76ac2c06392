//! The requests of a connection and their answers, one after the other (RFC 9112 §9).

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Version, header};
use http_body::{Body as _, Frame};
use tokio::{
    sync::Semaphore,
    time::{Instant, Sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{
    assets::FileAnswer,
    connection::Connection,
    io::Io,
    reply::Reply,
    request::{Body as Incoming, Head, LONGEST_HEAD, Wrong},
};

/// What answers requests.
pub(super) trait Answers {
    /// The answer to a request, whose body is whole.
    fn answer(&self, request: Request<Bytes>) -> impl Future<Output = Answer> + Send;
}

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// A file, or that there is no reason to send it.
    File(FileAnswer),
    Other(Response),
}

/// Serves until the client closes the connection, or `stop`. What is asked by then is answered. `bodies` are bytes that all
/// connections of a stage have for long bodies of requests.
///
/// # Errors
/// Those of the socket, and of a file that cannot be sent to its end.
pub(super) async fn converse(
    connection: Arc<Connection>,
    answers: &impl Answers,
    bodies: &Semaphore,
    stop: &CancellationToken,
) -> io::Result<()> {
    let stopped = pin!(stop.cancelled());
    let timer = pin!(sleep_until(Instant::now() + REQUEST_TIMEOUT));
    let (io, received, written) = (Io::new(Arc::clone(&connection)), Vec::new(), Vec::new());
    let mut conversation = Conversation { io, received, written, bodies, stopped, timer, last: None };
    let end = conversation.run(answers, stop).await?;
    connection.shut_down_writing()?;
    if end == End::Refused {
        conversation.linger().await?;
    }
    Ok(())
}

/// How the requests of a connection end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The last one was answered, or none came.
    Last,
    /// What came is not read to its end.
    Refused,
}

/// What the answer has to know of its request.
#[derive(Clone, Copy, Debug)]
struct Asked {
    version: Version,
    is_head: bool,
    stays: bool,
}

struct Conversation<'a, 'stop> {
    io: Io,
    /// What came and was not looked at.
    received: Vec<u8>,
    /// The head of the answer.
    written: Vec<u8>,
    /// See [`BODIES`].
    bodies: &'a Semaphore,
    stopped: Pin<&'a mut WaitForCancellationFuture<'stop>>,
    /// Of the wait for a request. It is set anew when it has run out, not for each request.
    timer: Pin<&'a mut Sleep>,
    /// When a request that had begun as the server stopped has to be whole.
    last: Option<Instant>,
}

impl Conversation<'_, '_> {
    async fn run(&mut self, answers: &impl Answers, stop: &CancellationToken) -> io::Result<End> {
        let mut stays = true;
        while stays {
            let Some(head) = self.head().await? else { return Ok(End::Last) };
            let head = match head {
                Ok(head) => head,
                Err(wrong) => return self.refuse(wrong).await,
            };
            let body = match self.body(&head).await? {
                Ok(body) => body,
                Err(wrong) => return self.refuse(wrong).await,
            };
            let (version, is_head) = (head.request.version(), head.request.method() == Method::HEAD);
            let answer = answers.answer(head.request.map(|()| body)).await;
            let asked = Asked { version, is_head, stays: head.stays && !stop.is_cancelled() };
            stays = match answer {
                Answer::File(file) => self.send_file(asked, file).await?,
                // Boxed, or every connection would have room for it for as long as it lasts.
                Answer::Other(response) => Box::pin(self.send(asked, response)).await?,
            };
        }
        Ok(End::Last)
    }

    /// The next request; `None` where none comes.
    async fn head(&mut self) -> io::Result<Option<Result<Head, Wrong>>> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let mut looked_at = 0;
        loop {
            let fresh = self.received.get(looked_at..).unwrap_or_default();
            // A head that comes byte by byte is read from its beginning once for each line, not for each byte.
            let is_more = looked_at == 0 || fresh.contains(&b'\n') || self.received.len() >= LONGEST_HEAD;
            if !fresh.is_empty() && is_more {
                match Head::parse(&self.received) {
                    Ok(Some((head, length))) => {
                        self.received.drain(..length);
                        // What one long request needed is not kept for all that come.
                        if self.received.is_empty() && self.received.capacity() > KEPT {
                            self.received = Vec::new();
                        }
                        return Ok(Some(Ok(head)));
                    }
                    Ok(None) => {}
                    Err(wrong) => return Ok(Some(Err(wrong))),
                }
            }
            looked_at = self.received.len();
            if self.more(deadline, !self.received.is_empty()).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes what comes next; 0 where the client closes the connection or is too slow, or where the server stops and no
    /// request has begun.
    async fn more(&mut self, mut deadline: Instant, has_begun: bool) -> io::Result<usize> {
        poll_fn(|context| {
            if let Poll::Ready(read) = self.io.poll_read(context, &mut self.received) {
                return Poll::Ready(read);
            }
            if self.stopped.as_mut().poll(context).is_ready() {
                if !has_begun {
                    return Poll::Ready(Ok(0));
                }
                let last = *self.last.get_or_insert_with(|| Instant::now() + LAST_REQUEST);
                deadline = deadline.min(last);
                if self.timer.deadline() > deadline {
                    self.timer.as_mut().reset(deadline);
                }
            }
            while self.timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(Ok(0));
                }
                self.timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }

    /// The body of a request, whole: those of boot clients are small.
    async fn body(&mut self, head: &Head) -> io::Result<Result<Bytes, Wrong>> {
        let mut body = Incoming::new(head.framing);
        // Dropped with the body: so many are held at once, however many clients send one.
        let bodies = self.bodies;
        let Ok(_held) = bodies.try_acquire_many(body.most(SMALL_BODY, LONGEST_BODY)) else { return Ok(Err(TOO_MANY)) };
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let mut waits = head.waits;
        loop {
            match body.take(&mut self.received, LONGEST_BODY) {
                Ok(Some(body)) => return Ok(Ok(body.into())),
                Ok(None) => {}
                Err(wrong) => return Ok(Err(wrong)),
            }
            if std::mem::take(&mut waits) {
                self.io.write(&mut [IoSlice::new(b"HTTP/1.1 100 Continue\r\n\r\n")]).await?;
            }
            if self.more(deadline, true).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Where the next request begins is not known, so the connection ends.
    async fn refuse(&mut self, Wrong(status, why): Wrong) -> io::Result<End> {
        let asked = Asked { version: Version::HTTP_11, is_head: false, stays: false };
        let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
        let response = (status, plain, format!("{status}: {why}\n")).into_response();
        Box::pin(self.send(asked, response)).await?;
        Ok(End::Refused)
    }

    /// Reads on for a while: what a client sends to a closed connection resets it, and the client may lose the answer that
    /// it has not read (RFC 9112 §9.6).
    async fn linger(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + LINGER;
        self.timer.as_mut().reset(deadline);
        while self.more(deadline, false).await? > 0 {
            self.received.clear();
        }
        Ok(())
    }

    async fn send_file(&mut self, asked: Asked, file: FileAnswer) -> io::Result<bool> {
        let mut reply = Reply::new(&mut self.written, asked.version, file.status);
        file.write(&mut reply);
        reply.end(asked.version, asked.stays);
        match file.rest {
            Some(rest) => self.io.answer(&self.written, rest).await?,
            None => self.io.write(&mut [IoSlice::new(&self.written)]).await?,
        }
        Ok(asked.stays)
    }

    /// Whether the connection stays.
    async fn send(&mut self, asked: Asked, response: Response) -> io::Result<bool> {
        let (head, body) = response.into_parts();
        let has_body = !asked.is_head && !matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let (says_length, length) = (head.headers.contains_key(header::CONTENT_LENGTH), body.size_hint().exact());
        let is_framed = !has_body || says_length || length.is_some();
        let is_chunked = !is_framed && asked.version == Version::HTTP_11;
        // Without a length or chunks the end of the body is that of the connection.
        let stays = asked.stays && (is_framed || is_chunked);
        let mut reply = Reply::new(&mut self.written, asked.version, head.status);
        reply.fields(&head.headers);
        // Of a HEAD, the length of what GET gets. The router takes the body away, and says the length where it knows it.
        let is_known = |length: &u64| has_body || (asked.is_head && *length > 0);
        if let Some(length) = length.filter(is_known).filter(|_| !says_length) {
            reply.number("Content-Length", length);
        }
        if is_chunked {
            reply.field("Transfer-Encoding", b"chunked");
        }
        reply.end(asked.version, stays);
        if has_body {
            self.send_body(body, is_chunked).await?;
        } else {
            self.io.write(&mut [IoSlice::new(&self.written)]).await?;
        }
        Ok(stays)
    }

    /// The head, which goes out with the beginning of the body where that is there, and the body.
    async fn send_body(&mut self, mut body: Body, is_chunked: bool) -> io::Result<()> {
        let mut head = std::mem::take(&mut self.written);
        loop {
            let frame = match poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    self.io.write(&mut [IoSlice::new(&head)]).await?;
                    head.clear();
                    self.frame(&mut body).await?
                }
            };
            let data = match frame.transpose().map_err(io::Error::other)?.map(Frame::into_data) {
                Some(Ok(data)) if !data.is_empty() => data,
                // Trailers, which no client of ours reads.
                Some(_) => continue,
                None => {
                    let end = if is_chunked { b"0\r\n\r\n".as_slice() } else { b"" };
                    return self.io.write(&mut [IoSlice::new(&head), IoSlice::new(end)]).await;
                }
            };
            if is_chunked {
                head.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            }
            let end = if is_chunked { b"\r\n".as_slice() } else { b"" };
            self.io.write(&mut [IoSlice::new(&head), IoSlice::new(&data), IoSlice::new(end)]).await?;
            head.clear();
        }
    }

    /// The next part of a body that comes bit by bit; an error where the client closes the connection meanwhile.
    async fn frame(&mut self, body: &mut Body) -> io::Result<Option<Result<Frame<Bytes>, axum::Error>>> {
        poll_fn(|context| {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
                return Poll::Ready(Ok(frame));
            }
            while self.received.len() < LONGEST_HEAD {
                if ready!(self.io.poll_read(context, &mut self.received))? == 0 {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// For a request's head, from the end of the answer before, and for its body. It never runs on an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// For the rest of a request that had begun when the server stopped.
const LAST_REQUEST: Duration = Duration::from_secs(2);
/// For what a client sends behind a request that was refused.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes of all bodies that are on their way at once, beside small ones: 64 of the longest.
pub(super) const BODIES: usize = 64 * LONGEST_BODY;
const TOO_MANY: Wrong = Wrong(StatusCode::SERVICE_UNAVAILABLE, "too many long requests at once: try again");
/// Bytes of a body that takes nothing of [`BODIES`].
const SMALL_BODY: usize = 8 << 10;
/// Bytes, between two requests.
const KEPT: usize = 8 << 10;
/// Bytes of a request's body.
const LONGEST_BODY: usize = 256 << 10;

/// One file, whatever is asked for.
#[cfg(test)]
pub(super) struct One {
    pub(super) served: super::assets::Served,
    pub(super) connection: Arc<Connection>,
}

#[cfg(test)]
impl Answers for One {
    async fn answer(&self, request: Request<Bytes>) -> Answer {
        let served = self.served.clone();
        Answer::File(served.answer(
            &self.connection,
            request.method(),
            request.headers(),
            super::whose::Whose::default(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Shutdown, TcpStream},
        thread,
        time::SystemTime,
    };

    use futures_util::{StreamExt as _, stream};
    use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

    use super::*;
    use crate::{
        boot::over::Of,
        http::{assets::Served, ends::Ends, queue::Queue, source::Source},
    };

    /// Says what it was asked.
    struct Echo;

    impl Answers for Echo {
        async fn answer(&self, request: Request<Bytes>) -> Answer {
            let (head, body) = request.into_parts();
            Answer::Other(match head.uri.path() {
                "/parts" => {
                    let parts = stream::iter(["one ", "", "two"]).map(Ok::<_, io::Error>);
                    Body::from_stream(parts).into_response()
                }
                "/of-eight" => {
                    let parts = stream::iter(["of ", "eight"]).map(Ok::<_, io::Error>);
                    ([(header::CONTENT_LENGTH, "8")], Body::from_stream(parts)).into_response()
                }
                "/for-ever" => {
                    let parts = stream::iter(["first"]).map(Ok::<_, io::Error>).chain(stream::pending());
                    Body::from_stream(parts).into_response()
                }
                "/nothing" => StatusCode::NO_CONTENT.into_response(),
                path => format!("{} {path} [{}]", head.method, String::from_utf8_lossy(&body)).into_response(),
            })
        }
    }

    async fn connect(stop: &CancellationToken) -> (TcpStream, JoinHandle<io::Result<()>>) {
        connect_with(Arc::new(Semaphore::new(BODIES)), stop).await
    }

    async fn connect_with(bodies: Arc<Semaphore>, stop: &CancellationToken) -> (TcpStream, JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let local = listener.local_addr().expect("bound");
        let client = TcpStream::connect(local).expect("connected");
        let (stream, peer) = listener.accept().await.expect("accepted");
        let connection =
            Connection::new(stream, Ends { peer, local }, Queue::of(1), mpsc::channel(8).0, Arc::default());
        let (connection, stop) = (Arc::new(connection.expect("a connection")), stop.clone());
        let serving = tokio::spawn(async move { converse(connection, &Echo, &bodies, &stop).await });
        (client, serving)
    }

    /// All that comes back until the connection ends.
    async fn exchange(parts: &'static [&'static str]) -> String {
        let (mut client, serving) = connect(&CancellationToken::new()).await;
        let reader = tokio::task::spawn_blocking(move || {
            for part in parts {
                client.write_all(part.replace("TP/1.1\r\n", "TP/1.1\r\nHost: h\r\n").as_bytes()).expect("sent");
            }
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("an answer");
            answer
        });
        let answer = reader.await.expect("no panic");
        serving.await.expect("no panic").expect("no error");
        answer
    }

    /// What comes behind each head.
    fn bodies(answer: &str) -> Vec<&str> {
        let ends = answer.match_indices("\r\n\r\n").map(|(at, _)| at + 4);
        ends.map(|at| answer[at..].split("HTTP/1.1 ").next().unwrap_or_default()).collect()
    }

    #[tokio::test]
    async fn requests_that_come_together_are_answered_in_turn() {
        let answer = exchange(&[
            "GET /1 HTTP/1.1\r\n\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 HT",
            "TP/1.1\r\nConnection: close\r\n\r\nGET /4 HTTP/1.1\r\n\r\n",
        ])
        .await;
        assert_eq!(bodies(&answer), ["GET /1 []", "POST /2 [abc]", "GET /3 []"], "{answer}");
        assert_eq!(answer.matches("Connection: close\r\n").count(), 1);
    }

    #[tokio::test]
    async fn a_body_in_chunks_is_put_together() {
        let answer = exchange(&[
            "PUT /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel",
            "lo\r",
            "\n1\r\n \r\n0\r\nX-T: 1\r",
            "\n\r\nGET /2 HTTP/1.0\r\n\r\n",
        ])
        .await;
        assert!(answer.contains("PUT /1 [hello ]HTTP/1.0 200 OK\r\n") && answer.ends_with("GET /2 []"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_waits_with_its_body_is_told_to_go_on() {
        let (mut client, _serving) = connect(&CancellationToken::new()).await;
        let reader = tokio::task::spawn_blocking(move || {
            let head =
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-Continue\r\nConnection: Close\r\n\r\n";
            client.write_all(head.as_bytes()).expect("sent");
            let mut told = [0; 25];
            client.read_exact(&mut told).expect("told");
            assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
            client.write_all(b"ok").expect("sent");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("an answer");
            answer
        });
        assert!(reader.await.expect("no panic").ends_with("POST / [ok]"));
    }

    #[tokio::test]
    async fn what_has_no_body_has_none_and_the_next_answer_is_where_it_should_be() {
        let answer = exchange(&[
            "HEAD /1 HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\nConnection: close\r\n\r\n",
        ])
        .await;
        assert_eq!(bodies(&answer), ["", "", "GET /2 []"], "{answer}");
        let heads: Vec<&str> = answer.split("HTTP/1.1 ").collect();
        assert!(heads[1].contains("Content-Length: 10\r\n"), "as GET: {answer}");
        assert!(heads[2].starts_with("204 ") && !heads[2].contains("Content-Length"), "{answer}");
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_comes_in_chunks_or_to_the_end_of_the_connection() {
        let answer = exchange(&["GET /parts HTTP/1.1\r\n\r\n", "GET /1 HTTP/1.1\r\nConnection: close\r\n\r\n"]).await;
        assert_eq!(bodies(&answer)[0], "4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n", "{answer}");
        assert!(answer.contains("Transfer-Encoding: chunked\r\n") && answer.ends_with("GET /1 []"), "{answer}");
        let answer = exchange(&["GET /of-eight HTTP/1.1\r\n\r\nGET /1 HTTP/1.1\r\nConnection: close\r\n\r\n"]).await;
        assert_eq!(bodies(&answer), ["of eight", "GET /1 []"], "{answer}");
        assert!(!answer.contains("Transfer-Encoding"), "{answer}");
        let answer = exchange(&["GET /parts HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"]).await;
        assert!(answer.contains("Connection: close\r\n") && answer.ends_with("\r\n\r\none two"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_no_request_is_answered_and_ends_the_connection() {
        for (asked, status) in [
            ("EHLO mail\r\n\r\n", "400 "),
            ("GET / HTTP/2.0\r\n\r\n", "505 "),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400 "),
            ("GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "400 "),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "501 "),
            ("POST / HTTP/1.1\r\nContent-Length: 262145\r\n\r\n", "413 "),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n", "400 "),
        ] {
            let answer = exchange(Box::leak(Box::new([asked, "GET / HTTP/1.1\r\n\r\n"]))).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{asked}: {answer}");
            assert!(answer.matches("\r\nDate: ").count() == 1 && answer.contains("Connection: close\r\n"), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_client_that_closes_its_side_first_gets_the_whole_file() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let local = listener.local_addr().expect("bound");
        let client = thread::spawn(move || {
            let mut client = TcpStream::connect(local).expect("connected");
            client.write_all(b"GET /k HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
            client.shutdown(Shutdown::Write).expect("shut");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).expect("an answer");
            answer
        });
        let (stream, peer) = listener.accept().await.expect("accepted");
        let connection =
            Connection::new(stream, Ends { peer, local }, Queue::of(1), mpsc::channel(8).0, Arc::default());
        let connection = Arc::new(connection.expect("a connection"));
        let content = Source::Memory(vec![7; 20_000_000].into());
        let (etag, modified) = ("\"1\"".into(), SystemTime::UNIX_EPOCH);
        let served = Served { of: Of::Asset, name: "k".into(), content, etag, modified };
        let one = One { served, connection: Arc::clone(&connection) };
        converse(connection, &one, &Semaphore::new(BODIES), &CancellationToken::new()).await.expect("sent");
        assert!(client.join().expect("no panic").len() > 20_000_000);
    }

    #[tokio::test]
    async fn when_the_server_stops_idle_connections_end_and_a_request_on_its_way_is_answered() {
        let stop = CancellationToken::new();
        let (mut idle, idle_served) = connect(&stop).await;
        let (mut asking, asking_served) = connect(&stop).await;
        // The beginning of the second request is read with the first one.
        let reader = tokio::task::spawn_blocking(move || {
            asking.write_all(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HT").expect("sent");
            let mut answer = Vec::new();
            while !answer.ends_with(b"GET /1 []") {
                let mut byte = [0];
                asking.read_exact(&mut byte).expect("more");
                answer.push(byte[0]);
            }
            asking
        });
        let mut asking = reader.await.expect("no panic");
        stop.cancel();
        idle_served.await.expect("no panic").expect("no error");
        assert_eq!(idle.read(&mut [0; 1]).expect("an end"), 0);
        let reader = tokio::task::spawn_blocking(move || {
            asking.write_all(b"TP/1.1\r\nHost: h\r\n\r\n").expect("sent");
            let mut answer = String::new();
            asking.read_to_string(&mut answer).expect("an answer");
            answer
        });
        let answer = reader.await.expect("no panic");
        assert!(answer.contains("Connection: close\r\n") && answer.ends_with("GET /2 []"), "{answer}");
        asking_served.await.expect("no panic").expect("no error");
    }

    #[tokio::test]
    async fn half_a_request_is_not_waited_for_when_the_server_stops() {
        for half in ["GET / HT", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nab"] {
            let stop = CancellationToken::new();
            let (mut client, serving) = connect(&stop).await;
            client.write_all(half.as_bytes()).expect("sent");
            stop.cancel();
            let began = Instant::now();
            // Of a body, the client has not sent all that it said.
            let _ = serving.await.expect("no panic");
            assert!(began.elapsed() < REQUEST_TIMEOUT / 2, "{half}");
            assert_eq!(client.read(&mut [0; 1]).expect("an end"), 0);
        }
    }

    #[tokio::test]
    async fn a_client_that_sends_on_behind_a_refused_request_gets_its_answer() {
        let (mut client, serving) = connect(&CancellationToken::new()).await;
        let sending = tokio::task::spawn_blocking(move || {
            let head = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n";
            client.write_all(head.as_bytes()).expect("sent");
            client.write_all(&[0; 3_000_000]).expect("nothing resets the connection");
            client.shutdown(Shutdown::Write).expect("shut");
            let mut answer = String::new();
            client.read_to_string(&mut answer).expect("an answer");
            answer
        });
        let answer = sending.await.expect("no panic");
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("256 KiB\n"), "{answer}");
        serving.await.expect("no panic").expect("no error");
    }

    #[tokio::test]
    async fn long_bodies_have_their_room_and_no_more() {
        for (room, length, status) in
            [(0, SMALL_BODY, 200), (0, SMALL_BODY + 1, 503), (9000, 9000, 200), (9000, 9001, 503)]
        {
            let (mut client, serving) = connect_with(Arc::new(Semaphore::new(room)), &CancellationToken::new()).await;
            let sending = tokio::task::spawn_blocking(move || {
                let head =
                    format!("POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
                client.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat()).expect("sent");
                client.shutdown(Shutdown::Write).expect("shut");
                let mut answer = String::new();
                client.read_to_string(&mut answer).expect("an answer");
                answer
            });
            let answer = sending.await.expect("no panic");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{room} {length}: {answer}");
            serving.await.expect("no panic").expect("no error");
        }
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_client_goes() {
        let (mut client, serving) = connect(&CancellationToken::new()).await;
        client.write_all(b"GET /for-ever HTTP/1.1\r\nHost: h\r\n\r\n").expect("sent");
        let reader = tokio::task::spawn_blocking(move || {
            let mut answer = Vec::new();
            while !answer.ends_with(b"first\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).expect("more");
                answer.push(byte[0]);
            }
        });
        reader.await.expect("no panic");
        let ended = serving.await.expect("no panic");
        assert_eq!(ended.expect_err("an end").kind(), io::ErrorKind::ConnectionAborted);
    }
}
