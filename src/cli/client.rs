//! A running server, asked by its control socket.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, runtime::Runtime};

use super::failure::{EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure};
use crate::config::schema::Control;

/// Where the server is, and how its answers are to be written.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// The server's control socket
    #[arg(long, value_name = "PATH", env = "NETBOOTD_CONTROL__SOCKET", default_value_os_t = Control::default().socket)]
    pub(super) socket: PathBuf,
    /// Write JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl At {
    /// Asks the server; what it answers, or its words where it refuses.
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        runtime()?.block_on(self.asked(method, path, body))
    }

    /// The same within a runtime.
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
                let words = answer.get("detail").and_then(Value::as_str).unwrap_or("the server refuses");
                let code = if status.is_server_error() { EX_UNAVAILABLE } else { EX_USAGE };
                Err(Failure::new(code, words))
            }
        }
    }

    /// Sends a request; its answer, of which the body is still to come.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            let mend = match error.kind() {
                io::ErrorKind::PermissionDenied => "it is for root and the server's own user: sudo netbootd …",
                _ => "is netbootd running? (name another socket with --socket)",
            };
            let socket = self.socket.display();
            Failure::new(EX_UNAVAILABLE, format!("no server answers at {socket}: {error}; {mend}"))
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

/// What a command runs on.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)
}

fn failed(error: impl ToString) -> Failure {
    Failure::new(EX_OSERR, error)
}

/// For an answer of a server that has to wait for its disk.
const PATIENCE: Duration = Duration::from_secs(15);
