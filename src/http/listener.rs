//! Connections: accepted, set up, served, and let go.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, Version, header, uri::PathAndQuery};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    admission::{Admission, Full, Place},
    connection::Connection,
    conversation::{Answer, Answers, BODIES, converse},
    ends::{Ends, ipv4},
    queue::Queue,
    reply::Reply,
    request::{Head, LONGEST_HEAD},
    routes::Routes,
    watch,
    workers::{Seat, Workers},
};
use crate::{
    net::{limits::ClientLimits, proxies::TrustedProxies, tcp_info},
    timeline::event::Event,
};

/// What all listeners of a server share.
#[derive(Debug)]
pub struct Stage {
    limits: ClientLimits,
    proxies: TrustedProxies,
    admission: Arc<Admission>,
    /// Of those that were answered 503.
    refusals: Arc<Admission>,
    bodies: Semaphore,
    workers: Workers,
    events: mpsc::Sender<Event>,
    running: Arc<AtomicUsize>,
    /// The server stops. A listener may end before, with its address.
    stop: CancellationToken,
}

impl Stage {
    /// A stage without connections.
    #[must_use]
    pub fn new(
        limits: ClientLimits,
        proxies: TrustedProxies,
        workers: Workers,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
    ) -> Self {
        let admission = Arc::new(Admission::new(limits.max_connections, limits.max_connections_per_client));
        let refusals = Arc::new(Admission::new(REFUSALS, REFUSALS_OF_ONE));
        let bodies = Semaphore::new(BODIES);
        Self { limits, proxies, admission, refusals, bodies, workers, events, running: Arc::default(), stop }
    }

    /// Downloads that are not at their end, to be read when nothing else is: it keeps nothing alive.
    #[must_use]
    pub fn running(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.running)
    }

    /// Serves until `stop`, then lets running requests come to their end. `stop` is this listener's alone.
    ///
    /// No error ends it: each is one connection's, or passes.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, routes: Routes, stop: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely: those that are open will close.
                    warn!(%error, "accepting an HTTP connection failed");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                    continue;
                }
            };
            match self.admission.admit(self.counted(peer)) {
                Ok(place) => {
                    let Some((worker, seat)) = self.workers.seat() else { continue };
                    let places = (place, seat);
                    let served = self.clone().converse(stream.into_std(), peer, places, routes.clone(), stop.clone());
                    connections.spawn_on(served, worker);
                }
                Err(full) => {
                    if let Ok(place) = self.refusals.admit(Some(peer.ip())) {
                        connections.spawn(refuse(stream, peer, place, full));
                    }
                }
            }
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    /// The address whose connections are counted. A trusted proxy limits its own clients: its connections are those of
    /// many machines, and only all connections together are limited.
    fn counted(&self, peer: SocketAddr) -> Option<IpAddr> {
        let is_proxy = ipv4(peer).is_some_and(|address| self.proxies.contains(address));
        (!is_proxy).then(|| peer.ip())
    }

    /// Both ends of a request: behind a trusted proxy its client is the one that the proxy names.
    fn ends_of(&self, ends: Ends, headers: &HeaderMap) -> Ends {
        let Some(peer) = ipv4(ends.peer) else { return ends };
        // A value that is no text is a hop that names no address.
        let values = |name| headers.get_all(name).into_iter().map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
        let client = self.proxies.client(peer, values(X_FORWARDED_FOR), values(header::FORWARDED));
        if client == peer { ends } else { Ends { peer: (client, 0).into(), ..ends } }
    }

    /// What every accepted connection gets.
    ///
    /// Keepalive finds a client that went away while nothing was on its way to it; [`watch`] finds the others. There is
    /// no `TCP_USER_TIMEOUT` and no timer on progress, here or on any body: either would cut off a live client that
    /// pauses with its window closed, which then starts over, pauses again, and never boots.
    fn set_up(&self, stream: TcpStream, peer: SocketAddr, place: &Place) -> io::Result<Connection> {
        let ClientLimits { rate_limit, idle, interval, probes, dead_after, .. } = self.limits;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
        socket.set_tcp_keepalive(&keepalive)?;
        // So that probes come often enough to be counted within `dead_after`. The kernel itself gives up after 15 of them
        // (tcp_retries2), with the eighth part of `dead_after` between two some while after the watch would have: a client that
        // acknowledges nothing for less than `dead_after` is not cut off by the kernel either.
        tcp_info::set_rto_max(&stream, dead_after / 8)?;
        if rate_limit > 0 {
            tcp_info::set_max_pacing_rate(&stream, rate_limit / u64::from(place.of_client()))?;
        }
        let ends = Ends { peer, local: stream.local_addr()? };
        Connection::new(stream, ends, Queue::of(place.of_all()), self.events.clone(), self.running())
    }

    /// On the event loop that it stays on: that is where the stream is registered.
    async fn converse(
        self: Arc<Self>,
        stream: io::Result<std::net::TcpStream>,
        peer: SocketAddr,
        (place, seat): (Place, Seat),
        routes: Routes,
        stop: CancellationToken,
    ) {
        let set_up = stream.and_then(TcpStream::from_std).and_then(|stream| self.set_up(stream, peer, &place));
        let connection = match set_up {
            Ok(connection) => Arc::new(connection),
            Err(error) => return debug!(%error, %peer, "an HTTP connection closed before it began"),
        };
        let site = Site { stage: &self, routes, connection: &connection };
        let serving = pin!(converse(Arc::clone(&connection), &site, &self.bodies, &stop));
        watch::watch(Arc::clone(&connection), serving, self.limits.dead_after, &self.stop).await;
        drop((place, seat));
    }
}

/// What answers on a connection.
struct Site<'a> {
    stage: &'a Stage,
    routes: Routes,
    connection: &'a Connection,
}

impl Answers for Site<'_> {
    async fn answer(&self, mut request: Request<Bytes>) -> Answer {
        normalise(request.uri_mut());
        let ends = self.stage.ends_of(self.connection.ends, request.headers());
        self.routes.answer(request, self.connection, ends).await
    }
}

/// Tells a client to come back, which iPXE does by itself (core/http.c, `http_transfer_complete`).
async fn refuse(mut stream: TcpStream, peer: SocketAddr, place: Place, full: Full) {
    let words = match full {
        Full::Server => "as many connections as http.max_connections allows",
        Full::Client => "as many connections of this client as http.max_connections_per_client allows",
    };
    debug!(%peer, "HTTP refused: {words}");
    let answer = async {
        let mut received = BytesMut::new();
        // What is no request gets the same answer.
        while received.len() < LONGEST_HEAD && matches!(Head::parse(&received), Ok(None)) {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        }
        let body = format!("there are {words}\n");
        let mut answer = Vec::new();
        let mut reply = Reply::new(&mut answer, Version::HTTP_11, StatusCode::SERVICE_UNAVAILABLE);
        reply.field("Content-Type", b"text/plain; charset=utf-8");
        reply.number("Retry-After", RETRY_AFTER);
        reply.number("Content-Length", body.len() as u64);
        reply.end(Version::HTTP_11, false);
        answer.extend_from_slice(body.as_bytes());
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        // What a client sends to a closed connection resets it, and the client may lose the answer (RFC 9112 §9.6).
        while stream.read_buf(&mut received).await? > 0 {
            received.clear();
        }
        io::Result::Ok(())
    };
    // This one has no claim to patience: nothing is on its way to it.
    if tokio::time::timeout(REFUSAL_TIMEOUT, answer).await.is_err() {
        debug!(%peer, "a refused client sent no request");
    }
    drop(place);
}

/// Joins slashes: firmware and scripts put URLs together carelessly, and many clients follow no redirect.
fn normalise(uri: &mut Uri) {
    if !uri.path().contains("//") {
        return;
    }
    let mut path = String::with_capacity(uri.path().len());
    for c in uri.path().chars() {
        if c != '/' || !path.ends_with('/') {
            path.push(c);
        }
    }
    if let Some(query) = uri.query() {
        path = format!("{path}?{query}");
    }
    if let Ok(path) = PathAndQuery::try_from(path) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(path);
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

/// Not in the standard, and what most proxies send.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Answered 503 at once, in all and of one address; further connections are closed without an answer.
const REFUSALS: u32 = 256;
/// See [`REFUSALS`].
const REFUSALS_OF_ONE: u32 = 16;
/// Seconds.
const RETRY_AFTER: u64 = 5;
/// For a refused client's request.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Errors of accept come in streams.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_joined_in_the_path_and_left_alone_in_the_query() {
        for (before, after) in [
            ("//boot.ipxe?a=//b", "/boot.ipxe?a=//b"),
            ("/assets///x//y", "/assets/x/y"),
            ("/assets/x", "/assets/x"),
            ("http://h//assets//x", "http://h/assets/x"),
        ] {
            let mut uri: Uri = before.parse().expect("a URI");
            normalise(&mut uri);
            assert_eq!(uri.to_string(), after);
        }
    }

    /// Bytes of the future that this makes.
    fn size<F>(
        _: impl FnOnce(
            Arc<Stage>,
            io::Result<std::net::TcpStream>,
            SocketAddr,
            (Place, Seat),
            Routes,
            CancellationToken,
        ) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_is_held_for_a_client_that_pauses_is_small() {
        assert!(size(Stage::converse) <= 4096, "{} bytes", size(Stage::converse));
    }

    #[tokio::test]
    async fn an_accepted_connection_has_keepalive_and_no_delay_and_no_user_timeout() {
        let limits = ClientLimits {
            max_connections: 1,
            max_connections_per_client: 1,
            rate_limit: 1_000_000,
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            probes: 4,
            dead_after: Duration::from_secs(150),
        };
        let (workers, stop) = (Workers::start().expect("started"), CancellationToken::new());
        let stage = Stage::new(limits, TrustedProxies::default(), workers, mpsc::channel(1).0, stop);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (stream, peer) = listener.accept().await.expect("accepted");
        let place = stage.admission.admit(Some(peer.ip())).expect("a place");
        let connection = stage.set_up(stream, peer, &place).expect("set up");
        let socket = SockRef::from(&connection.stream);
        assert!(connection.stream.nodelay().expect("told"));
        assert!(socket.keepalive().expect("told"));
        assert_eq!(socket.tcp_keepalive_time().expect("told"), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().expect("told"), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().expect("told"), 4);
        assert_eq!(socket.tcp_notsent_lowat().expect("told"), 224 << 10);
        assert_eq!(socket.tcp_user_timeout().expect("told"), None);
        drop(client);
    }
}
