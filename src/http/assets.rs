//! A file as a response: exact length, ranges, and a body that is read as the client reads.

use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};

use super::{
    connection::Connection,
    range::{Selection, Version, select},
    reply::{MODIFIED, Reply},
    source::{Rest, Source},
    whose::Whose,
};
use crate::{boot::over::Of, timeline::transfer::Part};

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
    /// The answer to a GET or HEAD that came on a connection.
    pub(super) fn answer(
        self,
        connection: &Connection,
        method: &Method,
        headers: &HeaderMap,
        whose: Whose,
    ) -> FileAnswer {
        let size = self.content.size();
        let selection =
            select(headers, Version { etag: &self.etag, modified: self.modified, size, now: SystemTime::now });
        let (status, start, length) = match selection {
            Selection::Whole => (StatusCode::OK, 0, size),
            Selection::Part { start, length } => (StatusCode::PARTIAL_CONTENT, start, length),
            Selection::NotModified => (StatusCode::NOT_MODIFIED, 0, 0),
            Selection::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, 0, 0),
            Selection::Unsatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
        };
        let range = match selection {
            Selection::Part { .. } => Some(format!("bytes {start}-{}/{size}", start + length - 1)),
            Selection::Unsatisfiable => Some(format!("bytes */{size}")),
            _ => None,
        };
        let content_type = content_type(&self.name);
        let Self { of, name, content, etag, modified } = self;
        // Never later than Date (RFC 9110 §8.8.2.1): clocks of build hosts go ahead.
        let modified = modified.min(SystemTime::now());
        let rest = (status.is_success() && method != Method::HEAD).then(|| {
            let is_part = whose.is_look || length != size;
            let part = is_part.then_some(Part { start, whole: size, is_look: whose.is_look });
            connection.begin(of, name, length, part, whose.who);
            Rest::new(content, start, length)
        });
        FileAnswer { status, etag, modified, range, content_type, length, rest }
    }
}

/// The answer to a request for a file.
#[derive(Debug)]
pub(super) struct FileAnswer {
    pub(super) status: StatusCode,
    etag: String,
    modified: SystemTime,
    /// Which part of it comes.
    range: Option<String>,
    content_type: &'static str,
    /// Bytes of the body, which the answer to HEAD says too.
    length: u64,
    /// The body.
    pub(super) rest: Option<Rest>,
}

impl FileAnswer {
    /// What is said of the file.
    pub(super) fn write(&self, reply: &mut Reply<'_>) {
        reply.field("Etag", self.etag.as_bytes());
        reply.date("Last-Modified", self.modified, &MODIFIED);
        if let Some(range) = &self.range {
            reply.field("Content-Range", range.as_bytes());
        }
        reply.field("Accept-Ranges", b"bytes");
        if self.status.is_success() {
            reply.field("Content-Type", self.content_type.as_bytes());
        }
        if self.status != StatusCode::NOT_MODIFIED {
            reply.number("Content-Length", self.length);
        }
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

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{self, Read, Write},
        net::TcpStream,
        pin::pin,
        sync::Arc,
        time::Duration,
    };

    use tokio::{
        net::TcpListener,
        sync::{Semaphore, mpsc},
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        files::AssetRoot,
        http::{
            conversation::{One, converse},
            ends::Ends,
            queue::Queue,
            watch::watch,
        },
        iso::made::{Of as Content, iso},
        timeline::{
            event::What,
            transfer::{Failure, Transfer},
        },
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
        {
            let one = One { served, connection: Arc::clone(&connection) };
            let (bodies, stop) = (Semaphore::new(0), CancellationToken::new());
            let serving = pin!(converse(Arc::clone(&connection), &one, &bodies, &stop));
            watch(connection, serving, Duration::from_secs(150), &stop).await;
        }
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
        assert!(head.contains("Content-Range: bytes 1000001-2999999/3000003\r\n"), "{head}");
        let (_, body, _) = fetch(inside("zeros"), "", to_the_end).await;
        assert!(body == vec![0; 2_000_000]);
        let (head, body, _) = fetch(inside("empty"), "", to_the_end).await;
        assert!(head.contains("Content-Length: 0\r\n") && body.is_empty(), "{head}");
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
