//! A file as a response: exact length, ranges, and a body that is read as the client reads.

use std::{
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Instant, SystemTime},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::JoinHandle;

use super::range::{Selection, Version, select};
use crate::{
    boot::timeline::{Of, Transfer},
    files::Asset,
};

/// What a body is made of.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory.
    Memory(Bytes),
    /// A file, read as it is sent.
    File(Arc<Asset>),
}

/// Something to serve.
#[derive(Clone, Debug)]
pub struct Served {
    /// What kind, for the event at its end.
    pub of: Of,
    /// Name in the event.
    pub name: String,
    /// The bytes.
    pub content: Content,
    /// Strong entity tag with its quotes.
    pub etag: String,
    /// Last modification.
    pub modified: SystemTime,
}

impl Served {
    fn size(&self) -> u64 {
        match &self.content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(asset) => asset.size,
        }
    }

    /// The response to a GET or HEAD. `ended` is told when the body is at its end, however that came; not for HEAD.
    pub fn response(
        self,
        method: &Method,
        headers: &HeaderMap,
        ended: impl FnOnce(Transfer) + Send + 'static,
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
        let (content_type, etag, modified) = (content_type(&self.name), self.etag.clone(), self.modified);
        let has_body = status.is_success() && method != Method::HEAD;
        let body = if has_body { Body::new(Paced::new(self, start, length, Box::new(ended))) } else { Body::empty() };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let out = response.headers_mut();
        let mut set = |name, value: &str| HeaderValue::try_from(value).map(|value| out.insert(name, value)).is_ok();
        set(header::ETAG, &etag);
        set(header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        set(header::ACCEPT_RANGES, "bytes");
        match selection {
            Selection::Part { .. } => {
                set(header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", start + length - 1));
            }
            Selection::Unsatisfiable => {
                set(header::CONTENT_RANGE, &format!("bytes */{size}"));
            }
            _ => {}
        }
        if status.is_success() {
            set(header::CONTENT_TYPE, content_type);
            // Said here too, because the answer to HEAD has no body to tell it from.
            set(header::CONTENT_LENGTH, &length.to_string());
        }
        response
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

/// The body. hyper asks for a piece when the socket takes more, so what one client holds is a piece here and what
/// hyper and the kernel have of it, however long it pauses.
struct Paced {
    content: Content,
    offset: u64,
    remaining: u64,
    /// A piece that was not in the page cache, on its way from the disk.
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    report: Report,
}

impl Paced {
    fn new(served: Served, start: u64, length: u64, ended: Box<dyn FnOnce(Transfer) + Send>) -> Self {
        let Served { of, name, content, .. } = served;
        let report =
            Report { of, name, size: length, sent: 0, began: Instant::now(), failure: None, ended: Some(ended) };
        Self { content, offset: start, remaining: length, reading: None, report }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let length = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(PIECE);
        let asset = match &self.content {
            Content::Memory(bytes) => {
                let start = usize::try_from(self.offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(usize::try_from(self.remaining).unwrap_or(usize::MAX));
                return Poll::Ready(Ok(if end <= bytes.len() { bytes.slice(start..end) } else { Bytes::new() }));
            }
            Content::File(asset) => asset,
        };
        let reading = match &mut self.reading {
            Some(reading) => reading,
            None => match read_cached(asset, self.offset, length) {
                Ok(piece) => return Poll::Ready(Ok(piece)),
                Err(Errno::AGAIN | Errno::OPNOTSUPP) => {
                    let (asset, offset) = (asset.clone(), self.offset);
                    self.reading.insert(tokio::task::spawn_blocking(move || read(&asset, offset, length)))
                }
                Err(errno) => return Poll::Ready(Err(errno.into())),
            },
        };
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(read.map_err(io::Error::other).flatten())
    }
}

/// Reads what is in the page cache, without waiting for a disk (`RWF_NOWAIT`, preadv2(2)).
fn read_cached(asset: &Asset, offset: u64, length: usize) -> Result<Bytes, Errno> {
    let mut piece = vec![0; length];
    let read = preadv2(&asset.file, &mut [IoSliceMut::new(&mut piece)], offset, ReadWriteFlags::NOWAIT)?;
    piece.truncate(read);
    Ok(piece.into())
}

fn read(asset: &Asset, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; length];
    let read = asset.file.read_at(&mut piece, offset)?;
    piece.truncate(read);
    Ok(piece.into())
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let piece = ready!(self.poll_piece(context)).and_then(|piece| match piece.len() {
            // The length is promised already: all that is left is to break the connection off.
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file was cut short while it was sent")),
            _ => Ok(piece),
        });
        Poll::Ready(Some(match piece {
            Ok(piece) => {
                let length = piece.len() as u64;
                self.offset += length;
                self.remaining -= length;
                self.report.sent += length;
                Ok(Frame::data(piece))
            }
            Err(error) => {
                self.report.failure = Some(error.to_string());
                self.remaining = 0;
                Err(error)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// Tells of the transfer when the body goes away, which it also does when the client has gone.
struct Report {
    of: Of,
    name: String,
    sent: u64,
    size: u64,
    began: Instant,
    failure: Option<String>,
    ended: Option<Box<dyn FnOnce(Transfer) + Send>>,
}

impl Drop for Report {
    fn drop(&mut self) {
        let cut = (self.sent < self.size).then(|| "the client closed the connection".to_owned());
        let transfer = Transfer {
            of: self.of,
            name: std::mem::take(&mut self.name),
            sent: self.sent,
            size: self.size,
            took: self.began.elapsed(),
            failure: self.failure.take().or(cut),
        };
        if let Some(ended) = self.ended.take() {
            ended(transfer);
        }
    }
}

/// Bytes read at a time: more costs memory for every client that pauses, less costs system calls.
const PIECE: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use std::{fs, future::poll_fn, sync::mpsc};

    use http_body::Body as _;

    use super::*;
    use crate::files::AssetRoot;

    fn served(folder: &std::path::Path, name: &str) -> Served {
        let asset = AssetRoot::open(folder).and_then(|r| r.file(name).map_err(io::Error::other)).expect("opened");
        let (etag, modified) = (asset.etag.clone(), asset.modified);
        Served { of: Of::Asset, name: name.into(), content: Content::File(Arc::new(asset)), etag, modified }
    }

    async fn fetch(served: Served, headers: &[(&str, &str)]) -> (StatusCode, io::Result<Vec<u8>>, Transfer) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<http::HeaderName>().expect("a name"), value.parse().expect("a value")))
            .collect();
        let (tell, told) = mpsc::channel();
        let response = served.response(&Method::GET, &headers, move |transfer| tell.send(transfer).expect("heard"));
        let status = response.status();
        let mut body = response.into_body();
        let mut bytes = Ok(Vec::new());
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            match (frame.map(Frame::into_data), &mut bytes) {
                (Ok(Ok(piece)), Ok(bytes)) => bytes.extend_from_slice(&piece),
                (Err(error), bytes) => *bytes = Err(io::Error::other(error)),
                _ => {}
            }
        }
        drop(body);
        (status, bytes, told.recv().expect("an end"))
    }

    #[tokio::test]
    async fn a_file_comes_whole_and_in_parts_and_its_end_is_told() {
        let scratch = tempfile::tempdir().expect("a folder");
        let bytes: Vec<u8> = (0..1_000_003u32).map(|i| (i % 251) as u8).collect();
        fs::write(scratch.path().join("initrd.img"), &bytes).expect("written");
        let (status, body, transfer) = fetch(served(scratch.path(), "initrd.img"), &[]).await;
        assert_eq!((status, body.expect("sent") == bytes), (StatusCode::OK, true));
        assert_eq!((transfer.sent, transfer.size, transfer.failure), (1_000_003, 1_000_003, None));
        let (status, body, transfer) =
            fetch(served(scratch.path(), "initrd.img"), &[("range", "bytes=500000-999999")]).await;
        assert_eq!((status, body.expect("sent") == bytes[500_000..1_000_000]), (StatusCode::PARTIAL_CONTENT, true));
        assert_eq!((transfer.sent, transfer.size, transfer.failure), (500_000, 500_000, None));
    }

    #[tokio::test]
    async fn a_file_cut_short_on_the_way_breaks_the_transfer_and_nothing_else() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("k");
        fs::write(&path, vec![7; 3 * PIECE]).expect("written");
        let served = served(scratch.path(), "k");
        fs::OpenOptions::new().write(true).open(&path).and_then(|f| f.set_len(PIECE as u64 + 5)).expect("cut");
        let (_, body, transfer) = fetch(served, &[]).await;
        assert!(body.is_err());
        assert_eq!(transfer.sent, PIECE as u64 + 5);
        assert_eq!(transfer.failure.as_deref(), Some("the file was cut short while it was sent"));
    }
}
