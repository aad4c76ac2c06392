//! A file as a response: exact length, ranges, and a body that is read as the client reads.

use std::{
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::SystemTime,
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::JoinHandle;

use super::{
    connection::Connection,
    piece::{HOLE, Piece, Source, in_hole},
    range::{Selection, Version, select},
    whose::Whose,
};
use crate::{
    boot::over::Of,
    files::Asset,
    iso::segments::Piece as Place,
    timeline::event::{Failure, Part},
};

/// Something to serve.
#[derive(Clone, Debug)]
pub(super) struct Served {
    /// What kind, for the event at its end.
    pub of: Of,
    /// Name in the event.
    pub name: String,
    /// The bytes.
    pub(super) content: Source,
    /// Strong entity tag with its quotes.
    pub etag: String,
    /// Last modification.
    pub modified: SystemTime,
}

impl Served {
    fn size(&self) -> u64 {
        match &self.content {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File(asset) => asset.size,
        }
    }

    /// The response to a GET or HEAD that came on a connection.
    pub(super) fn response(
        mut self,
        connection: &Arc<Connection>,
        method: &Method,
        headers: &HeaderMap,
        whose: Whose,
    ) -> Response {
        let size = self.size();
        let selection = select(headers, Version { etag: &self.etag, modified: self.modified, size });
        let (status, start, length) = match selection {
            Selection::Whole => (StatusCode::OK, 0, size),
            Selection::Part { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
            Selection::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
            Selection::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, 0, 0),
            Selection::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
        };
        let (content_type, modified) = (content_type(&self.name), httpdate::fmt_http_date(self.modified));
        let etag = std::mem::take(&mut self.etag);
        let has_body = status.is_success() && method != Method::HEAD;
        let body = if has_body { self.body(connection, whose, start, length) } else { Body::empty() };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let out = response.headers_mut();
        let range = match selection {
            Selection::Part { .. } => Some(format!("bytes {start}-{}/{size}", start + length - 1)),
            Selection::Unsatisfiable => Some(format!("bytes */{size}")),
            _ => None,
        };
        let made =
            [(header::ETAG, Some(etag)), (header::LAST_MODIFIED, Some(modified)), (header::CONTENT_RANGE, range)];
        for (name, value) in made.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            // The text itself, which is not copied.
            out.extend(HeaderValue::from_maybe_shared(Bytes::from(value)).ok().map(|value| (name, value)));
        }
        out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if status.is_success() {
            out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
            // Said here too, because the answer to HEAD has no body that would give it.
            out.insert(header::CONTENT_LENGTH, length.into());
        }
        response
    }

    fn body(self, connection: &Arc<Connection>, whose: Whose, offset: u64, remaining: u64) -> Body {
        let whole = self.size();
        let is_part = whose.is_look || remaining != whole;
        let part = is_part.then_some(Part { start: offset, whole, is_look: whose.is_look });
        connection.begin(self.of, self.name, remaining, part, whose.who);
        let (connection, source) = (Arc::clone(connection), self.content);
        Body::new(Paced { connection, source, offset, remaining, is_cold: false, reading: None })
    }
}

/// EDK2 takes a boot file by its type, or by these endings (HttpBootSupport.c, `HttpBootCheckImageType`).
fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "efi" => "application/efi",
        "iso" => "application/vnd.efi-iso",
        "img" => "application/vnd.efi-img",
        "txt" | "cfg" | "ipxe" | "conf" | "log" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "html" => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// The body. hyper asks for a piece when the socket takes more, and a piece is a few words here: what one client holds
/// is what the kernel has of it, however long it pauses.
struct Paced {
    connection: Arc<Connection>,
    source: Source,
    offset: u64,
    remaining: u64,
    /// Some of it was not in the page cache.
    is_cold: bool,
    /// A piece that was not in the page cache, on its way from the disk, and its length.
    reading: Option<(JoinHandle<io::Result<()>>, usize)>,
}

impl Paced {
    /// How many of the next `length` bytes can be sent. It waits, where it has to, until they are in the page cache:
    /// `sendfile` would keep the thread waiting, and with it every other client that it serves.
    fn poll_cached(&mut self, length: usize, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Source::File(asset) = &self.source else { return Poll::Ready(Ok(length)) };
        let (reading, length) = match &mut self.reading {
            Some(reading) => reading,
            None => {
                if !asset.is_as_it_was()? {
                    return Poll::Ready(Err(io::Error::other(Failure::CHANGED)));
                }
                let Some(Place::Image(offset, _)) = asset.at(self.offset, length as u64) else {
                    return Poll::Ready(Ok(length));
                };
                let most = if self.is_cold { COLD } else { length };
                for length in [length.min(most), length.min(READ_AT_ONCE)] {
                    if is_cached(asset, offset, length)? {
                        return Poll::Ready(Ok(length));
                    }
                    self.is_cold = true;
                }
                let (asset, length) = (asset.clone(), length.min(READ_AT_ONCE));
                self.reading.insert((tokio::task::spawn_blocking(move || read(&asset, offset, length)), length))
            }
        };
        let length = *length;
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(read.map_err(io::Error::other).flatten().map(|()| length))
    }
}

impl Source {
    /// How many of these bytes stand in one run: a file inside an image may be in several.
    fn run(&self, offset: u64, length: usize) -> usize {
        match self {
            Self::Memory(_) => length,
            Self::File(asset) => {
                asset.at(offset, length as u64).and_then(|place| usize::try_from(place.length()).ok()).unwrap_or(length)
            }
        }
    }
}

/// Whether both ends of a range are in the page cache, which the kernel fills in runs (`RWF_NOWAIT`, preadv2(2)).
fn is_cached(asset: &Asset, offset: u64, length: usize) -> io::Result<bool> {
    let last = offset + (length as u64).saturating_sub(1);
    for at in [offset, last] {
        match preadv2(&asset.file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::OPNOTSUPP) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}

/// Reads a range into the page cache. The kernel takes it for a program that reads the file in order, as what `sendfile`
/// reads next looks to it, and reads ahead of both, by the setting of the disk (`read_ahead_kb`).
fn read(asset: &Asset, offset: u64, length: usize) -> io::Result<()> {
    // Short enough to stay in the CPU's cache.
    let mut buffer = [0; 64 << 10];
    let (mut at, end) = (offset, offset + length as u64);
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        match asset.file.read_at(buffer.get_mut(..left).unwrap_or_default(), at)? {
            0 => break,
            count => at += count as u64,
        }
    }
    Ok(())
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let room = HOLE.len() - in_hole(self.offset);
        let length = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(room);
        let length = self.source.run(self.offset, length);
        let length = match ready!(self.poll_cached(length, context)) {
            Ok(length) => length,
            Err(error) => {
                self.connection.fail(&error.to_string());
                self.remaining = 0;
                return Poll::Ready(Some(Err(error)));
            }
        };
        let piece = Piece { source: self.source.clone(), offset: self.offset, length };
        self.offset += length as u64;
        self.remaining -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(self.connection.promised.add(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// Bytes of a file that comes from the disk which are sent at once. To look far ahead for what is there misleads the
/// kernel about what is read next.
const COLD: usize = 1 << 20;
/// Bytes that are waited for, where that much is not there yet.
const READ_AT_ONCE: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read, Write},
        net::TcpStream,
        time::Duration,
    };

    use http::Request;
    use hyper::{body::Incoming, server::conn::http1, service::service_fn};
    use tokio::{net::TcpListener, sync::mpsc};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        files::AssetRoot,
        http::{ends::Ends, io::Io, queue::Queue, watch::watch},
        iso::made::{Of as Content, iso},
        timeline::event::{Transfer, What},
    };

    fn served(folder: &std::path::Path, name: &str) -> Served {
        let asset = AssetRoot::open(folder).and_then(|r| r.shared(name).map_err(io::Error::other)).expect("opened");
        let (etag, modified) = (asset.etag.clone(), asset.modified);
        Served { of: Of::Asset, name: name.into(), content: Source::File(asset), etag, modified }
    }

    /// Status line and headers, body, and the event at the end.
    async fn fetch(
        served: Served,
        request: &'static str,
        read: fn(TcpStream) -> Vec<u8>,
    ) -> (String, Vec<u8>, Transfer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let client = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("connected");
            write!(stream, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{request}\r\n").expect("asked");
            read(stream)
        });
        let (stream, peer) = listener.accept().await.expect("accepted");
        let (events, mut told) = mpsc::channel(8);
        let connection = Connection::new(stream, Ends { peer, local: address }, Queue::of(1), events, Arc::default());
        let connection = Arc::new(connection.expect("a connection"));
        let on = Arc::clone(&connection);
        let service = service_fn(move |request: Request<Incoming>| {
            let response = served.clone().response(&on, request.method(), request.headers(), Whose::default());
            async move { Ok::<_, io::Error>(response) }
        });
        let serving = http1::Builder::new().serve_connection(Io::new(Arc::clone(&connection)), service);
        watch(connection, serving, Duration::from_secs(150), &CancellationToken::new()).await;
        let answer = client.await.expect("read");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        let transfer = loop {
            match told.recv().await.expect("an end").what {
                What::Transfer(transfer) | What::Part(transfer, _) => break transfer,
                _ => {}
            }
        };
        (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end..].to_vec(), transfer)
    }

    fn to_the_end(mut stream: TcpStream) -> Vec<u8> {
        let mut answer = Vec::new();
        // A connection that is broken off is an end as well.
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    #[tokio::test]
    async fn a_file_comes_whole_and_in_parts_and_its_end_is_told() {
        let scratch = tempfile::tempdir().expect("a folder");
        let bytes: Vec<u8> = (0..5_000_003u32).map(|i| (i % 251) as u8).collect();
        fs::write(scratch.path().join("initrd.img"), &bytes).expect("written");
        let served = served(scratch.path(), "initrd.img");
        let (head, body, transfer) = fetch(served.clone(), "", to_the_end).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body == bytes, "{head} {}", body.len());
        assert_eq!((transfer.sent, transfer.size, transfer.failure), (5_000_003, 5_000_003, None));
        let (head, body, transfer) = fetch(served, "Range: bytes=1000000-3999999\r\n", to_the_end).await;
        assert!(head.starts_with("HTTP/1.1 206 ") && body == bytes[1_000_000..4_000_000], "{head} {}", body.len());
        assert_eq!((transfer.sent, transfer.size, transfer.failure), (3_000_000, 3_000_000, None));
        let in_memory = Served {
            of: Of::Loader,
            name: "snponly.efi".into(),
            content: Source::Memory(bytes.clone().into()),
            etag: "\"1\"".into(),
            modified: SystemTime::UNIX_EPOCH,
        };
        let (_, body, transfer) = fetch(in_memory.clone(), "Range: bytes=7-2000006\r\n", to_the_end).await;
        assert!(body == bytes[7..2_000_007], "{}", body.len());
        assert_eq!((transfer.of, transfer.sent, transfer.failure), (Of::Loader, 2_000_000, None));
        let (_, body, _) = fetch(in_memory, "", to_the_end).await;
        assert!(body == bytes, "{}", body.len());
    }

    #[tokio::test]
    async fn a_file_inside_an_image_comes_whole_and_in_parts_as_a_plain_one_does() {
        let scratch = tempfile::tempdir().expect("a folder");
        let bytes: Vec<u8> = (0..3_000_003u32).map(|i| (i % 251) as u8).collect();
        let files = [
            ("boot/initrd.img", Content::Bytes(&bytes)),
            ("empty", Content::Size(0)),
            ("zeros", Content::Size(2_000_000)),
        ];
        let made = iso("SERVED", &files);
        let mut file = fs::File::create(scratch.path().join("x.iso")).expect("made");
        file.write_all(&made.bytes).and_then(|()| file.set_len(made.length)).expect("written");
        let inside = |name: &str| served(scratch.path(), &format!("x.iso/{name}"));
        let (head, body, transfer) = fetch(inside("boot/initrd.img"), "", to_the_end).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body == bytes, "{head} {}", body.len());
        assert_eq!((transfer.sent, transfer.size, transfer.failure), (3_000_003, 3_000_003, None));
        let asked = "Range: bytes=1000001-2999999\r\n";
        let (head, body, _) = fetch(inside("BOOT/INITRD.IMG"), asked, to_the_end).await;
        assert!(head.starts_with("HTTP/1.1 206 ") && body == bytes[1_000_001..3_000_000], "{head} {}", body.len());
        assert!(head.contains("content-range: bytes 1000001-2999999/3000003\r\n"), "{head}");
        let (_, body, _) = fetch(inside("zeros"), "", to_the_end).await;
        assert!(body == vec![0; 2_000_000]);
        let (head, body, _) = fetch(inside("empty"), "", to_the_end).await;
        assert!(head.contains("content-length: 0\r\n") && body.is_empty(), "{head}");
    }

    #[tokio::test]
    async fn a_file_cut_short_or_written_into_breaks_the_transfer_and_nothing_else() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("k");
        for (change, why) in [(0, "the file changed during the transfer"), (1, "the file changed")] {
            fs::write(&path, vec![7; 3_000_000]).expect("written");
            let served = served(scratch.path(), "k");
            let mut file = fs::OpenOptions::new().write(true).open(&path).expect("opened");
            match change {
                0 => file.set_len(1_000_005).expect("cut"),
                _ => file.write_all(b"other").expect("changed"),
            }
            let (_, body, transfer) = fetch(served, "", to_the_end).await;
            assert!(body.len() < 3_000_000 && transfer.sent < 3_000_000, "{transfer:?}");
            assert!(
                transfer.failure.as_ref().is_some_and(|failure| failure.to_string().starts_with(why)),
                "{transfer:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_told_with_what_it_took() {
        let scratch = tempfile::tempdir().expect("a folder");
        fs::write(scratch.path().join("k"), vec![7; 50_000_000]).expect("written");
        let (_, body, transfer) = fetch(served(scratch.path(), "k"), "", |mut stream| {
            let mut start = vec![0; 1000];
            stream.read_exact(&mut start).expect("read");
            start
        })
        .await;
        assert!(body.len() < 1000 && transfer.sent >= body.len() as u64 && transfer.sent < 50_000_000, "{transfer:?}");
        assert_eq!(transfer.failure, Some(Failure::Closed));
    }
}
