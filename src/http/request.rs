//! A request, from the bytes of a connection (RFC 9112): its head, how its body is framed, and its body.

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, Version, header};
use httparse::Status;

/// The head of a request, and what it means for the connection.
#[derive(Debug)]
pub struct Head {
    /// Its line and its fields.
    pub request: Request<()>,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether the client keeps the connection for further requests.
    pub stays: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub waits: bool,
}

/// Where a body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After its last chunk.
    Chunked,
}

/// What is wrong with a request: the status of the answer, and the reason. The connection is closed behind it: where a
/// request ends is not known then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong(pub StatusCode, pub &'static str);

const fn bad(why: &'static str) -> Wrong {
    Wrong(StatusCode::BAD_REQUEST, why)
}

impl Head {
    /// The head at the beginning of these bytes, and its length; `None` where it has not come whole.
    ///
    /// # Errors
    /// It is no request of HTTP/1, is too long, or has a body whose end is not clear.
    pub fn parse(received: &[u8]) -> Result<Option<(Self, usize)>, Wrong> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(received, &mut fields) {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) if received.len() < LONGEST_HEAD => return Ok(None),
            Ok(Status::Partial) if parsed.path.is_none() => {
                return Err(Wrong(StatusCode::URI_TOO_LONG, "the URL is longer than 16 KiB"));
            }
            Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                let most = "the header has more than 16 KiB or more than 100 fields";
                return Err(Wrong(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, most));
            }
            Err(httparse::Error::Version) if names_version(received) => {
                let versions = "this server speaks HTTP/1.1 and HTTP/1.0";
                return Err(Wrong(StatusCode::HTTP_VERSION_NOT_SUPPORTED, versions));
            }
            Err(_) => return Err(bad("this is no HTTP/1.1 request")),
        };
        let mut request = Request::new(());
        *request.method_mut() =
            parsed.method.and_then(|method| method.parse().ok()).ok_or(bad("the method is not valid"))?;
        *request.uri_mut() =
            parsed.path.and_then(|path| Uri::try_from(path).ok()).ok_or(bad("the URL is not valid"))?;
        *request.version_mut() = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| FIELD)?;
            headers.append(name, HeaderValue::from_bytes(field.value).map_err(|_| FIELD)?);
        }
        let is_http_10 = request.version() == Version::HTTP_10;
        check_host(&headers, is_http_10)?;
        let framing = Framing::of(&headers, is_http_10)?;
        let stays = !says(&headers, "close") && (!is_http_10 || says(&headers, "keep-alive"));
        let expects = headers.get(header::EXPECT);
        let waits = !is_http_10 && expects.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        *request.headers_mut() = headers;
        Ok(Some((Self { request, framing, stays, waits }, length)))
    }
}

/// Whether the first line ends with an HTTP version, though not one that is spoken here; else it is no request.
fn names_version(received: &[u8]) -> bool {
    let line = received.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    let version = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let is_number = |numbers: &[u8]| numbers.iter().all(|byte| b"0123456789.".contains(byte));
    version.strip_prefix(b"HTTP/").is_some_and(|numbers| is_number(numbers) && numbers != b"1.0" && numbers != b"1.1")
}

/// One of two could be another one to a proxy in between, or to who looks whether a page of another site asks (RFC 9112
/// §3.2).
fn check_host(headers: &HeaderMap, is_http_10: bool) -> Result<(), Wrong> {
    let mut hosts = headers.get_all(header::HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if is_http_10 => Ok(()),
        (None, _) => Err(bad("the Host field is missing")),
        (Some(_), Some(_)) => Err(bad("there is more than one Host field")),
        (Some(host), None) if host.to_str().is_ok_and(is_host) => Ok(()),
        (Some(_), None) => Err(bad("the Host field is not valid")),
    }
}

/// RFC 9110 §7.2: a name or an address (RFC 3986 §3.2.2), and a port.
fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((text, ""));
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
    let is_name = match name.strip_prefix('[').and_then(|address| address.strip_suffix(']')) {
        Some(address) => address.bytes().all(|byte| is_of_name(byte) || byte == b':'),
        None => name.bytes().all(is_of_name),
    };
    is_name && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the client says so of the connection.
fn says(headers: &HeaderMap, word: &str) -> bool {
    let values = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
}

impl Framing {
    /// No body.
    const NONE: Self = Self::Length(0);

    /// A proxy in between could take the end of a body that has two for another one, and the rest for a request (RFC 9112
    /// §11.2): such a request is refused.
    fn of(headers: &HeaderMap, is_http_10: bool) -> Result<Self, Wrong> {
        let length = headers.get_all(header::CONTENT_LENGTH).into_iter().map(length).reduce(|one, other| {
            let one = one?;
            if one == other? { Ok(one) } else { Err(LENGTH) }
        });
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
        match (codings.next(), codings.next(), length) {
            (None, _, None) => Ok(Self::NONE),
            (None, _, Some(length)) => length.map(Self::Length),
            (Some(coding), None, None) if !is_http_10 => match coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                true => Ok(Self::Chunked),
                false => Err(Wrong(StatusCode::NOT_IMPLEMENTED, "the only known Transfer-Encoding is chunked")),
            },
            _ => Err(bad("the end of the body is not clear: it has a Transfer-Encoding and a second length")),
        }
    }
}

fn length(value: &HeaderValue) -> Result<u64, Wrong> {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).ok_or(LENGTH)
}

/// A body on its way.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    /// What came of it.
    bytes: Vec<u8>,
    /// Where it is in chunks.
    next: Next,
}

impl Body {
    /// A body of which nothing has come.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self { framing, bytes: Vec::new(), next: Next::Line }
    }

    /// Bytes that it may come to hold, at most `most`; 0 for one of not more than `small`.
    #[must_use]
    pub fn most(&self, small: usize, most: usize) -> u32 {
        let length = match self.framing {
            Framing::Length(length) => usize::try_from(length).unwrap_or(most).min(most),
            Framing::Chunked => most,
        };
        if length > small { u32::try_from(length).unwrap_or(u32::MAX) } else { 0 }
    }

    /// Takes what belongs to the body from the beginning of what was received; the whole body once it has come.
    ///
    /// # Errors
    /// It is longer than `most` bytes, or is not framed as it should be.
    pub fn take(&mut self, received: &mut Vec<u8>, most: usize) -> Result<Option<Vec<u8>>, Wrong> {
        match self.framing {
            Framing::Length(length) => {
                let length = usize::try_from(length).ok().filter(|length| *length <= most).ok_or(TOO_LARGE)?;
                let here = (length - self.bytes.len()).min(received.len());
                self.bytes.extend(received.drain(..here));
                Ok((self.bytes.len() == length).then(|| std::mem::take(&mut self.bytes)))
            }
            Framing::Chunked => self.take_chunks(received, most),
        }
    }

    fn take_chunks(&mut self, received: &mut Vec<u8>, most: usize) -> Result<Option<Vec<u8>>, Wrong> {
        let mut at = 0;
        let is_whole = loop {
            let rest = received.get(at..).unwrap_or_default();
            let (taken, next) = match self.next {
                Next::Line => match chunk_line(rest)? {
                    None => break false,
                    Some((line, 0)) => (line, Next::Trailers),
                    Some((line, size)) => {
                        let size = usize::try_from(size).ok().filter(|size| *size <= most - self.bytes.len());
                        (line, Next::Data(size.ok_or(TOO_LARGE)?))
                    }
                },
                Next::Data(0) => match rest {
                    [b'\r', b'\n', ..] => (2, Next::Line),
                    [] | [b'\r'] => break false,
                    _ => return Err(CHUNK),
                },
                Next::Data(_) if rest.is_empty() => break false,
                Next::Data(left) => {
                    let here = rest.get(..left).unwrap_or(rest);
                    self.bytes.extend_from_slice(here);
                    (here.len(), Next::Data(left - here.len()))
                }
                Next::Trailers => match httparse::parse_headers(rest, &mut [httparse::EMPTY_HEADER; TRAILERS]) {
                    Ok(Status::Complete((length, _))) if length <= LONGEST_TRAILERS => {
                        at += length;
                        break true;
                    }
                    Ok(Status::Partial) if rest.len() <= LONGEST_TRAILERS => break false,
                    _ => return Err(CHUNK),
                },
            };
            at += taken;
            self.next = next;
        };
        received.drain(..at);
        Ok(is_whole.then(|| std::mem::take(&mut self.bytes)))
    }
}

/// The length of this line, and of the chunk behind it (RFC 9112 §7.1); `None` where it has not come whole. Extensions, which
/// nobody reads, may follow the length.
fn chunk_line(rest: &[u8]) -> Result<Option<(usize, u64)>, Wrong> {
    let here = rest.get(..LONGEST_CHUNK_LINE).unwrap_or(rest);
    let Some(end) = here.iter().position(|byte| *byte == b'\n') else {
        return if here.len() < LONGEST_CHUNK_LINE { Ok(None) } else { Err(CHUNK) };
    };
    let line = here.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(CHUNK)?;
    let length = line.split(|byte| *byte == b';').next().unwrap_or_default();
    // Some clients pad the length.
    let digits = std::str::from_utf8(length.trim_ascii_end()).map_err(|_| CHUNK)?;
    let is_text = line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
    if digits.is_empty() || !is_text || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(CHUNK);
    }
    u64::from_str_radix(digits, 16).map(|length| Some((end + 1, length))).map_err(|_| CHUNK)
}

/// What comes next of a body in chunks.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The length of a chunk.
    Line,
    /// So many bytes of a chunk, and the end of their line.
    Data(usize),
    /// What stands behind the last chunk.
    Trailers,
}

const TOO_LARGE: Wrong = Wrong(StatusCode::PAYLOAD_TOO_LARGE, "the body has more than 256 KiB");
const FIELD: Wrong = bad("a field of the header is not valid");
const LENGTH: Wrong = bad("the Content-Length is not valid");
const CHUNK: Wrong = bad("a chunk of the body is not valid");
/// Of a head.
const FIELDS: usize = 100;
/// Bytes.
pub(super) const LONGEST_HEAD: usize = 16 << 10;
/// Fields behind the last chunk, which nobody reads.
const TRAILERS: usize = 16;
/// Bytes.
const LONGEST_TRAILERS: usize = 8 << 10;
/// Bytes: the length of a chunk, and its extensions, which nobody reads.
const LONGEST_CHUNK_LINE: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use http::Method;
    use proptest::prelude::*;

    use super::*;

    fn status(request: &str) -> StatusCode {
        Head::parse(with_host(request).as_bytes()).expect_err("wrong").0
    }

    fn with_host(request: &str) -> String {
        request.replacen("/1.1\r\n", "/1.1\r\nHost: h\r\n", 1)
    }

    fn head(request: &str) -> Head {
        let request = &with_host(request);
        let (head, length) = Head::parse(request.as_bytes()).expect("a request").expect("whole");
        assert_eq!(length, request.len());
        head
    }

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let text = "GET /assets/a%20b?x=1 HTTP/1.1\r\nX-A: 1\r\nx-a: ä\r\n\r\n";
        for end in 0..text.len() {
            assert!(matches!(Head::parse(text.as_bytes().get(..end).expect("there")), Ok(None)), "{end}");
        }
        let Head { request, framing, stays, waits } = head(text);
        assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/assets/a%20b"));
        assert_eq!(request.headers().get_all("X-A").iter().count(), 2);
        assert_eq!((framing, stays, waits), (Framing::NONE, true, false));
        assert!(!head("GET / HTTP/1.1\r\nConnection: X-A, Close\r\n\r\n").stays);
        let old = |connection: &str| head(&format!("GET / HTTP/1.0\r\n{connection}\r\n")).stays;
        assert!(!old("") && old("Connection: Keep-Alive\r\n") && !old("Connection: keep-alive, close\r\n"));
        assert_eq!(head("GET http://h:80/x HTTP/1.1\r\n\r\n").request.uri().path(), "/x", "as proxies are asked");
    }

    #[test]
    fn what_is_no_request_or_too_long_is_refused() {
        assert_eq!(status("GET / HTTP/1.1\r\nno field\r\n\r\n"), StatusCode::BAD_REQUEST);
        assert_eq!(status("GET / HTTP/3\r\n\r\n"), StatusCode::HTTP_VERSION_NOT_SUPPORTED);
        assert_eq!(status("GET /sp ace HTTP/1.1\r\n\r\n"), StatusCode::BAD_REQUEST);
        assert_eq!(status("\u{16}\u{3}\u{1}"), StatusCode::BAD_REQUEST, "TLS");
        assert_eq!(status(&format!("GET /{}", "x".repeat(LONGEST_HEAD))), StatusCode::URI_TOO_LONG);
        let fields = "A: b\r\n".repeat(FIELDS + 1);
        let too_many = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{fields}\r\n")), too_many);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(LONGEST_HEAD))), too_many);
    }

    #[test]
    fn a_request_names_one_host() {
        let of = |fields: &str, version: &str| {
            let asked = format!("GET / HTTP/{version}\r\n{fields}\r\n");
            Head::parse(asked.as_bytes()).map(|parsed| parsed.is_some()).map_err(|Wrong(_, why)| why)
        };
        for host in ["h", "h:8080", "192.0.2.1", "[2001:db8::1]:80", "boot.lab.example", ""] {
            assert_eq!(of(&format!("Host: {host}\r\n"), "1.1"), Ok(true), "{host}");
        }
        assert_eq!(of("", "1.0"), Ok(true));
        assert_eq!(of("", "1.1"), Err("the Host field is missing"));
        assert_eq!(of("Host: h\r\nhost: h\r\n", "1.1"), Err("there is more than one Host field"));
        for host in ["a b", "h/c", "h:80:80", "u@h", "::1", "[h", "ä"] {
            assert_eq!(of(&format!("Host: {host}\r\n"), "1.1"), Err("the Host field is not valid"), "{host}");
        }
    }

    #[test]
    fn a_body_has_one_end_or_is_refused() {
        let of = |fields: &str, version: &str| {
            Head::parse(format!("POST / HTTP/{version}\r\nHost: h\r\n{fields}\r\n").as_bytes())
                .map(|parsed| parsed.expect("whole").0.framing)
                .map_err(|Wrong(status, _)| status.as_u16())
        };
        assert_eq!(of("", "1.1"), Ok(Framing::Length(0)));
        assert_eq!(of("Content-Length: 7\r\n", "1.0"), Ok(Framing::Length(7)));
        assert_eq!(of("Content-Length: 7\r\ncontent-length: 7\r\n", "1.1"), Ok(Framing::Length(7)));
        assert_eq!(of("Transfer-Encoding: Chunked\r\n", "1.1"), Ok(Framing::Chunked));
        assert_eq!(of("Transfer-Encoding: gzip, chunked\r\n", "1.1"), Err(501));
        for wrong in [
            "Content-Length: 7, 7\r\n",
            "Content-Length: +7\r\n",
            "Content-Length: \r\n",
            "Content-Length: 99999999999999999999\r\n",
        ] {
            assert_eq!(of(wrong, "1.1"), Err(400), "{wrong}");
        }
        assert_eq!(of("Content-Length: 7\r\nContent-Length: 8\r\n", "1.1"), Err(400));
        assert_eq!(of("Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", "1.1"), Err(400));
        assert_eq!(of("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "1.1"), Err(400));
        assert_eq!(of("Transfer-Encoding: chunked\r\n", "1.0"), Err(400));
    }

    /// The body that comes in these parts, and what stands behind it.
    fn taken(framing: Framing, parts: &[&[u8]]) -> Result<(Vec<u8>, Vec<u8>), u16> {
        let (mut body, mut received) = (Body::new(framing), Vec::new());
        for part in parts {
            received.extend_from_slice(part);
            if let Some(body) = body.take(&mut received, 1000).map_err(|Wrong(status, _)| status.as_u16())? {
                return Ok((body, received));
            }
        }
        Err(0)
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let chunks = b"5;a=\"b\"\r\nhello\r\n00b\r\n, 2nd chunk\r\n0\r\nT: 1\r\n\r\nGET";
        let whole = (b"hello, 2nd chunk".to_vec(), b"GET".to_vec());
        assert_eq!(taken(Framing::Chunked, &[chunks]), Ok(whole.clone()));
        let bytes: Vec<&[u8]> = chunks.chunks(1).collect();
        assert_eq!(taken(Framing::Chunked, &bytes), Ok((whole.0, Vec::new())));
        assert_eq!(taken(Framing::Length(3), &[b"ab", b"cd"]), Ok((b"abc".to_vec(), b"d".to_vec())));
        assert_eq!(taken(Framing::Length(0), &[b"ab"]), Ok((Vec::new(), b"ab".to_vec())));
        for (wrong, status) in [
            ("5\r\nhello!\r\n", 400),
            ("x\r\n", 400),
            ("-1\r\n", 400),
            ("\r\n\r\n", 400),
            (";a=b\r\n\r\n", 400),
            ("1;a\nb\r\na\r\n", 400),
            ("1\na\n0\n\n", 400),
            ("3e9\r\n", 413),
            ("fffffffffffffffff\r\n", 400),
            ("0\r\nno field\r\n\r\n", 400),
        ] {
            assert_eq!(taken(Framing::Chunked, &[wrong.as_bytes()]), Err(status), "{wrong}");
        }
        assert_eq!(taken(Framing::Length(1001), &[b""]), Err(413));
        let line = ["5;".to_owned(), "x".repeat(LONGEST_CHUNK_LINE)].concat();
        assert_eq!(taken(Framing::Chunked, &[line.as_bytes()]), Err(400));
    }

    proptest! {
        /// However the bytes are cut, the body is the same one.
        #[test]
        fn a_body_in_chunks_comes_back(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..20),
            cuts in prop::collection::vec(1..50usize, 1..80),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:X}\r\n", chunk.len()).into_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\nnext");
            let (mut parts, mut rest) = (Vec::new(), wire.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, behind) = rest.split_at((*cut).min(rest.len()));
                parts.push(part);
                rest = behind;
            }
            let (body, behind) = taken(Framing::Chunked, &parts).expect("a body");
            prop_assert_eq!(body, chunks.concat());
            prop_assert!(b"next".starts_with(&behind));
        }

        #[test]
        fn any_bytes_are_a_request_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Some((head, length))) = Head::parse(&bytes) {
                prop_assert!(length <= bytes.len());
                let mut received = bytes.get(length..).unwrap_or_default().to_vec();
                let _ = Body::new(head.framing).take(&mut received, 100);
            }
        }
    }
}
