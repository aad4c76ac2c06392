//! An HTTP client for the doctor: one request on one connection.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{timeout, timeout_at},
};

/// What came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Got {
    /// The status code.
    pub status: u16,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The size of the whole file, as far as the server says it.
    pub size: Option<u64>,
    /// From the request to the last byte.
    pub took: Duration,
    /// Whether it did not end in time.
    pub is_cut: bool,
}

/// Fetches the first `most` bytes of a URL, at most for `time`.
///
/// # Errors
/// In words.
pub async fn get(url: &str, most: usize, time: Duration) -> Result<Got, String> {
    let uri: Uri = url.parse().map_err(|_| format!("{url} is not a URL"))?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("http")).ok_or(format!("{url} is not an http:// URL"))?;
    let port = uri.port_u16().unwrap_or(80);
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let began = Instant::now();
    let end = tokio::time::Instant::now() + time;
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => return Err(format!("the name {host} is not known: {error}")),
    };
    let connect = timeout(CONNECT, TcpStream::connect(addresses.as_slice())).await;
    let stream = connect
        .map_err(|_| format!("{authority} does not answer"))?
        .map_err(|error| format!("{authority}: {error}"))?;
    let failed = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, &authority)
        .header(header::USER_AGENT, "netbootd-doctor/1.0")
        .header(header::RANGE, format!("bytes=0-{}", most.saturating_sub(1)))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = timeout_at(end, sender.send_request(request)).await;
    let answer = answer.map_err(|_| format!("{url}: no answer within {} s", time.as_secs()))?.map_err(failed)?;
    let status = answer.status().as_u16();
    let number = |name: header::HeaderName, from: char| {
        let text = answer.headers().get(name)?.to_str().ok()?;
        text.rsplit(from).next()?.parse().ok()
    };
    let size = number(header::CONTENT_RANGE, '/').or_else(|| number(header::CONTENT_LENGTH, ' '));
    let (mut body, mut bytes, mut is_cut) = (answer.into_body(), Vec::new(), false);
    while bytes.len() < most {
        match timeout_at(end, body.frame()).await {
            Ok(Some(Ok(frame))) => bytes.extend_from_slice(frame.data_ref().map_or(&[], Bytes::as_ref)),
            Ok(Some(Err(error))) => return Err(format!("{url}: {error}")),
            Ok(None) => break,
            Err(_) => {
                is_cut = true;
                break;
            }
        }
    }
    bytes.truncate(most);
    Ok(Got { status, bytes, size, took: began.elapsed(), is_cut })
}

const CONNECT: Duration = Duration::from_secs(2);
