//! The head of an answer (RFC 9112 §4), as it goes out.

use std::{
    cell::RefCell,
    io::Write as _,
    thread::LocalKey,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, StatusCode, Version};

/// A head that is being written.
#[derive(Debug)]
pub(super) struct Reply<'a>(&'a mut Vec<u8>);

impl<'a> Reply<'a> {
    /// To a client of this version.
    pub(super) fn new(to: &'a mut Vec<u8>, version: Version, status: StatusCode) -> Self {
        let version = if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" };
        to.clear();
        for part in [version, " ", status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
            to.extend_from_slice(part.as_bytes());
        }
        Self(to)
    }

    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.0.extend_from_slice(part);
        }
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        // To memory: it cannot fail.
        let _ = write!(self.0, "{name}: {value}\r\n");
    }

    pub(super) fn date(&mut self, name: &str, time: SystemTime, last: &'static LocalKey<RefCell<Second>>) {
        last.with_borrow_mut(|second| self.field(name, second.text(time).as_bytes()));
    }

    /// All of them, in the order that they are in.
    ///
    /// GRUB compares the names of headers with their case (grub-core/net/http.c, `parse_line`): a file whose
    /// `content-length` it does not know is empty to it.
    pub(super) fn fields(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            let start = self.0.len();
            self.field(name.as_str(), value.as_bytes());
            let mut is_first = true;
            for byte in self.0.iter_mut().skip(start).take(name.as_str().len()) {
                if is_first {
                    byte.make_ascii_uppercase();
                }
                is_first = *byte == b'-';
            }
        }
    }

    /// What is said of the connection and the time, and the end.
    pub(super) fn end(mut self, version: Version, stays: bool) {
        match (version == Version::HTTP_10, stays) {
            (_, false) => self.field("Connection", b"close"),
            (true, true) => self.field("Connection", b"keep-alive"),
            (false, true) => {}
        }
        self.date("Date", SystemTime::now(), &NOW);
        self.0.extend_from_slice(b"\r\n");
    }
}

/// A second and its text. Many answers in turn have the same.
#[derive(Debug, Default)]
pub(super) struct Second {
    since_1970: u64,
    text: String,
}

impl Second {
    fn text(&mut self, time: SystemTime) -> &str {
        let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if self.since_1970 != since_1970 || self.text.is_empty() {
            *self = Self { since_1970, text: httpdate::fmt_http_date(time) };
        }
        &self.text
    }
}

thread_local! {
    static NOW: RefCell<Second> = RefCell::default();
    /// When files were modified.
    pub(super) static MODIFIED: RefCell<Second> = RefCell::default();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header;

    use super::*;

    #[test]
    fn a_head_is_written_as_clients_compare_it() {
        let mut written = b"of the answer before".to_vec();
        let mut headers = HeaderMap::new();
        headers.insert(header::WWW_AUTHENTICATE, "Basic".parse().expect("a value"));
        headers.append("x-a", "1".parse().expect("a value"));
        headers.append("x-a", "2".parse().expect("a value"));
        let mut reply = Reply::new(&mut written, Version::HTTP_11, StatusCode::NOT_FOUND);
        reply.fields(&headers);
        reply.number("Content-Length", 12_345_678_901);
        reply.end(Version::HTTP_11, true);
        let text = String::from_utf8(written).expect("text");
        let (fields, date) = text.split_once("Date: ").expect("a date");
        let expected =
            "HTTP/1.1 404 Not Found\r\nWww-Authenticate: Basic\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 12345678901\r\n";
        assert_eq!(fields, expected);
        assert!(date.strip_suffix("\r\n\r\n").is_some_and(|date| httpdate::parse_http_date(date).is_ok()), "{date}");
    }

    #[test]
    fn what_becomes_of_the_connection_is_said_where_the_client_does_not_take_it_for_granted() {
        let written = |version, stays| {
            let mut written = Vec::new();
            Reply::new(&mut written, version, StatusCode::OK).end(version, stays);
            String::from_utf8(written).expect("text")
        };
        assert!(!written(Version::HTTP_11, true).contains("Connection"));
        assert!(written(Version::HTTP_11, false).contains("\r\nConnection: close\r\n"));
        assert!(written(Version::HTTP_10, true).starts_with("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n"));
        assert!(written(Version::HTTP_10, false).contains("\r\nConnection: close\r\n"));
    }

    #[test]
    fn the_text_of_a_second_is_made_anew_for_another_one() {
        let mut second = Second::default();
        for seconds in [0, 784_111_777, 784_111_778, 784_111_777] {
            let time = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 999);
            assert_eq!(second.text(time), httpdate::fmt_http_date(time));
        }
    }
}
