//! Sends requests to a running server, through its control socket.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, runtime::Runtime};

use super::failure::{EX_NOPERM, EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure};
use crate::config::schema::Control;

/// Which server to ask, and how to print its reply.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// Path of the server's control socket
    #[arg(long, value_name = "PATH", env = "NETBOOTD_CONTROL__SOCKET", default_value_os_t = Control::default().socket)]
    pub(super) socket: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl At {
    /// Sends a request and returns the server's reply. If the server refuses, the error has the server's text.
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        runtime()?.block_on(self.asked(method, path, body))
    }

    /// The same, for a caller that is already inside a runtime.
    pub(super) async fn asked(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let exchange = async {
            let answer = self.send(method, path, body).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await.map_err(failed)?.to_bytes();
            Ok((status, serde_json::from_slice::<Value>(&body).map_err(failed)?))
        };
        let limited = tokio::time::timeout(PATIENCE, exchange).await;
        let socket = self.socket.display();
        match limited.map_err(|_| failed(format!("the server at {socket} does not answer")))?? {
            (status, answer) if status.is_success() => Ok(answer),
            (status, answer) => {
                let words = answer.get("detail").and_then(Value::as_str).unwrap_or("the server refused the request");
                let code = match status {
                    StatusCode::FORBIDDEN => EX_NOPERM,
                    status if status.is_server_error() => EX_UNAVAILABLE,
                    _ => EX_USAGE,
                };
                Err(Failure::new(code, words))
            }
        }
    }

    /// Sends a request. Returns the reply before its body has arrived.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            let socket = self.socket.display();
            let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
            let (code, what, fix) = match is_denied {
                true => (EX_NOPERM, "cannot use", "only root and the server's user may use it: run this with sudo"),
                false => (EX_UNAVAILABLE, "no server answers at", "is netbootd running? (--socket sets another path)"),
            };
            Failure::new(code, format!("{what} {socket}: {error}; {fix}"))
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        let mut request = Request::new(Full::<Bytes>::from(body.map(Value::to_string).unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(failed)?;
        request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("localhost"));
        let json = header::HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        sender.send_request(request).await.map_err(failed)
    }
}

/// The runtime of a command.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)
}

fn failed(error: impl ToString) -> Failure {
    Failure::new(EX_OSERR, error)
}

/// Long enough for a server that has to wait for its disk.
const PATIENCE: Duration = Duration::from_secs(15);
