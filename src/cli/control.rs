//! `netbootd assign`, `approve`, what takes them back, and `machines`: what a running server is told and asked, by its control socket.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::{EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure};
use crate::config::schema::Control;

/// Where the server is.
#[derive(Debug, clap::Args)]
struct At {
    /// The server's control socket
    #[arg(long, value_name = "PATH", env = "NETBOOTD_CONTROL__SOCKET", default_value_os_t = Control::default().socket)]
    socket: PathBuf,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// Give a machine a profile, instead of its rule's.
#[derive(Debug, clap::Args)]
pub(super) struct Assign {
    /// MAC address, or the name that a rule gives it
    machine: String,
    /// A profile of the configuration, or menu, local or shell
    profile: String,
    /// For its next boot that comes to its hand-over; then it goes on to its local disk
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    at: At,
}

/// Leave a machine to its rule again, also one that has had what it was to boot once.
#[derive(Debug, clap::Args)]
pub(super) struct Unassign {
    /// MAC address, or the name that a rule gives it
    machine: String,
    #[command(flatten)]
    at: At,
}

/// Let a machine in that no rule names, where only known machines are answered (dhcp.answer = "known").
#[derive(Debug, clap::Args)]
pub(super) struct Approve {
    /// MAC address, or the name that a rule gives it
    machine: String,
    #[command(flatten)]
    at: At,
}

/// Take an approval back.
#[derive(Debug, clap::Args)]
pub(super) struct Unapprove {
    /// MAC address, or the name that a rule gives it
    machine: String,
    #[command(flatten)]
    at: At,
}

/// Show the machines that were seen, named by a rule or assigned something.
#[derive(Debug, clap::Args)]
pub(super) struct Machines {
    /// Only this one: MAC address, or the name that a rule gives it
    machine: Option<String>,
    #[command(flatten)]
    at: At,
}

impl Assign {
    pub(super) fn run(self) -> Result<(), Failure> {
        let body = json!({ "profile": self.profile, "once": self.once });
        let machine = self.at.ask(Method::PUT, &format!("{}/assignment", path(Some(&self.machine))), Some(&body))?;
        self.at.print(&machine)?;
        warn_unless_kept(&machine)
    }
}

impl Unassign {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.at.ask(Method::DELETE, &format!("{}/assignment", path(Some(&self.machine))), None)?;
        self.at.print(&machine)?;
        warn_unless_kept(&machine)
    }
}

impl Approve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.at.ask(Method::PUT, &format!("{}/approval", path(Some(&self.machine))), None)?;
        self.at.print(&machine)?;
        warn_unless_kept(&machine)
    }
}

impl Unapprove {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machine = self.at.ask(Method::DELETE, &format!("{}/approval", path(Some(&self.machine))), None)?;
        self.at.print(&machine)?;
        warn_unless_kept(&machine)
    }
}

impl Machines {
    pub(super) fn run(self) -> Result<(), Failure> {
        let machines = self.at.ask(Method::GET, &path(self.machine.as_deref()), None)?;
        self.at.print(&machines)
    }
}

/// It is done, and yet not for good: a laptop has no folder for a state.
fn warn_unless_kept(machine: &Value) -> Result<(), Failure> {
    if machine.get("kept") == Some(&Value::Bool(false)) {
        let words =
            "netbootd: warning: the server has no state, and forgets this when it stops: name one with state.url\n";
        io::stderr().write_all(words.as_bytes()).map_err(|error| Failure::new(EX_OSERR, error))?;
    }
    Ok(())
}

fn path(machine: Option<&str>) -> String {
    let below = machine.map(|machine| format!("/{}", utf8_percent_encode(machine, NON_ALPHANUMERIC)));
    format!("/api/v1/machines{}", below.unwrap_or_default())
}

impl At {
    /// Asks the server; what it answers, or its words where it refuses.
    fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let failed = |error: String| Failure::new(EX_OSERR, error);
        let answer = runtime.map_err(|error| failed(error.to_string()))?.block_on(async {
            let socket = self.socket.display();
            let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
                let mend = match error.kind() {
                    io::ErrorKind::PermissionDenied => "it is for root and the server's own user: sudo netbootd …",
                    _ => "is netbootd running? (name another socket with --socket)",
                };
                Failure::new(EX_UNAVAILABLE, format!("no server answers at {socket}: {error}; {mend}"))
            })?;
            let exchange = async {
                let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                let body = Full::<Bytes>::from(body.map(Value::to_string).unwrap_or_default());
                let mut request = Request::new(body);
                *request.method_mut() = method;
                *request.uri_mut() = path.parse()?;
                request.headers_mut().insert(header::HOST, header::HeaderValue::from_static("localhost"));
                let json = header::HeaderValue::from_static("application/json");
                request.headers_mut().insert(header::CONTENT_TYPE, json);
                let answer = sender.send_request(request).await?;
                let status = answer.status();
                let body = answer.into_body().collect().await?.to_bytes();
                Ok::<_, anyhow::Error>((status, serde_json::from_slice::<Value>(&body)?))
            };
            let limited = tokio::time::timeout(PATIENCE, exchange).await;
            limited
                .map_err(|_| failed(format!("the server at {socket} does not answer")))?
                .map_err(|error| failed(error.to_string()))
        })?;
        match answer {
            (status, answer) if status.is_success() => Ok(answer),
            (status, answer) => {
                let words = answer.get("detail").and_then(Value::as_str).unwrap_or("the server refuses");
                let code = if status.is_server_error() { EX_UNAVAILABLE } else { EX_USAGE };
                Err(Failure::new(code, words))
            }
        }
    }

    fn print(&self, answer: &Value) -> Result<(), Failure> {
        let text = if self.json { format!("{answer:#}\n") } else { table(answer, SystemTime::now()) };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).map_err(|error| Failure::new(EX_OSERR, error))
    }
}

/// A line for each machine, under headings.
fn table(answer: &Value, now: SystemTime) -> String {
    let one;
    let machines: &[Value] = match answer {
        Value::Array(machines) => machines,
        machine => {
            one = [machine.clone()];
            &one
        }
    };
    let mut table = format!("{:<17}  {:<16}  {:<24}  {}\n", "MACHINE", "NAME", "BOOTS", "LAST SEEN");
    for machine in machines {
        let text = |key: &str| machine.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
        let is = |key: &str| machine.get(key).and_then(Value::as_bool).unwrap_or_default();
        let how = match text("by").as_str() {
            "assignment" if is("once") => " (assigned, once)",
            "assignment" => " (assigned)",
            "spent" => " (had its one boot)",
            _ if is("once") => " (once)",
            _ => "",
        };
        let last = machine.get("last").filter(|last| !last.is_null()).map_or("never".to_owned(), |last| {
            let of = |key: &str| last.get(key).and_then(Value::as_str).unwrap_or_default();
            let at = SystemTime::UNIX_EPOCH
                + Duration::from_secs(last.get("at").and_then(Value::as_u64).unwrap_or_default());
            let ago = now.duration_since(at).unwrap_or_default().as_secs();
            let failed = if last.get("failed") == Some(&Value::Bool(true)) { "!" } else { "" };
            format!("{} ago  {failed}{}: {}", rough(ago), of("stage"), of("text"))
        });
        let let_in = if is("approved") { " (approved)" } else { "" };
        let boots = format!("{}{how}{let_in}", text("profile"));
        let _ = writeln!(table, "{:<17}  {:<16}  {boots:<24}  {last}", text("mac"), text("name"));
    }
    table
}

fn rough(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// For an answer of a server that has to wait for its disk.
const PATIENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_a_table_for_people() {
        let last = json!({ "at": 1_000_000, "stage": "kernel", "text": "vmlinuz, 12.0 MB", "failed": false });
        let machines = json!([
            { "mac": "52:54:00:12:34:56", "name": "k8s08", "profile": "debian", "by": "rule", "once": true, "last": last },
            { "mac": "52:54:00:12:34:57", "name": null, "profile": "local", "by": "spent", "once": false, "last": null },
            { "mac": "52:54:00:12:34:58", "profile": "menu", "by": "default", "approved": true, "last": null },
            { "mac": "52:54:00:12:34:59", "profile": null, "by": null, "approved": false, "last": null },
        ]);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_300);
        assert_eq!(
            table(&machines, now),
            "MACHINE            NAME              BOOTS                     LAST SEEN\n\
             52:54:00:12:34:56  k8s08             debian (once)             5 min ago  kernel: vmlinuz, 12.0 MB\n\
             52:54:00:12:34:57  -                 local (had its one boot)  never\n\
             52:54:00:12:34:58  -                 menu (approved)           never\n\
             52:54:00:12:34:59  -                 -                         never\n"
        );
    }
}
