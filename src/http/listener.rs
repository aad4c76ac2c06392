//! Connections: accepted, set up, served, and let go.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use http::{Request, Uri, uri::PathAndQuery};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::routes::Ends;

/// Serves until `stop`, then lets running requests come to their end.
///
/// No error ends it: each is one connection's, or passes.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: those that are open will close.
                warn!(%error, "accepting an HTTP connection failed");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        let ends = match set_up(&stream).and_then(|()| Ok(Ends { peer, local: stream.local_addr()? })) {
            Ok(ends) => ends,
            Err(error) => {
                debug!(%error, %peer, "an HTTP connection was gone before it began");
                continue;
            }
        };
        let router = router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            normalise(request.uri_mut());
            request.extensions_mut().insert(ends);
            router.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                debug!(%error, %peer, "an HTTP connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // Taken first: beyond the limit, connections wait in the kernel's backlog and not in our memory.
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// What every accepted connection gets.
///
/// Keepalive finds a client that went away while nothing was on its way to it. There is no `TCP_USER_TIMEOUT` and no
/// timer on progress, here or on any body: either would cut off a live client that pauses with its window closed,
/// which then starts over, pauses again, and never boots.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
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

/// Until the first probe on a connection without traffic.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered ones that end it: 2 minutes in all.
const KEEPALIVE_PROBES: u32 = 4;
/// For a request's header, from its first byte or from the end of the request before; it never runs on a body.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// What hyper holds of a response for one client, beside the piece on its way.
const BUFFER: usize = 64 << 10;
/// At once, per address that we listen on.
const MAX_CONNECTIONS: usize = 4096;
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

    #[tokio::test]
    async fn an_accepted_connection_has_keepalive_and_no_delay_and_no_user_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        set_up(&stream).expect("set up");
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().expect("told"));
        assert!(socket.keepalive().expect("told"));
        assert_eq!(socket.tcp_keepalive_time().expect("told"), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_interval().expect("told"), Duration::from_secs(15));
        assert_eq!(socket.tcp_keepalive_retries().expect("told"), 4);
        assert_eq!(socket.tcp_user_timeout().expect("told"), None);
        drop(client);
    }
}
