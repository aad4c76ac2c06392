//! What every test stands on: a lab with netbootd on one host and a client on another.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Host, Lab, NETWORK_TOOLS, Noise, Process, Tool, required};
use socket2::{Domain, SockRef, Socket, Type};

/// Two hosts of a lab. Fields are dropped in this order: the daemon first, the lab last.
pub(crate) struct Bench {
    pub(crate) netbootd: Process,
    pub(crate) server: Host,
    pub(crate) client: Host,
    pub(crate) assets: PathBuf,
    interfaces: Vec<String>,
    environment: Vec<(String, String)>,
    pub(crate) lab: Lab,
}

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
/// As firmware calls itself: who calls itself anything else is no boot client, and an iPXE is given other loaders.
pub(crate) const BOOT_AGENT: &str = "UefiHttpBoot/1.0";
pub(crate) const START: Duration = Duration::from_secs(20);
/// Receive buffer of a client that pauses, in bytes.
pub(crate) const SMALL: usize = 64 << 10;
/// For what takes milliseconds, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// What is open for a moment is closed by then.
const STEADY: Duration = Duration::from_millis(500);

const CLIENT_TOOLS: &[Tool] = &[
    Tool::new("atftp", "atftp"),
    Tool::new("tftp", "tftp-hpa"),
    Tool::new("curl", "curl"),
    Tool::new("wget", "wget"),
    Tool::new("/usr/lib/ipxe/undionly.kpxe", "ipxe"),
    Tool::new("/usr/lib/ipxe/snponly.efi", "ipxe"),
];

impl Bench {
    /// A daemon that boots `vmlinuz` with `initrd.img` of the assets folder; `None` where a tool is missing.
    pub(crate) fn start() -> Result<Option<Self>> {
        Self::start_with(&[])
    }

    /// The same with settings, as environment variables.
    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Result<Option<Self>> {
        Self::prepared(&["eth1"], environment, "", |_, _| Ok(()))
    }

    /// The same with a configuration file of this text.
    pub(crate) fn with_configuration(configuration: &str) -> Result<Option<Self>> {
        Self::prepared(&["eth1"], &[], configuration, |_, _| Ok(()))
    }

    /// The same on these interfaces of a host that was prepared before the daemon's start.
    pub(crate) fn prepared(
        interfaces: &[&str],
        environment: &[(&str, &str)],
        configuration: &str,
        prepare: impl FnOnce(&Lab, &Host) -> Result<()>,
    ) -> Result<Option<Self>> {
        let Some(()) = required(&[NETWORK_TOOLS, CLIENT_TOOLS]) else { return Ok(None) };
        let lab = Lab::new()?;
        let server = lab.host("netbootd", Some(&format!("{SERVER}/24")))?;
        let client = lab.host("client", Some(&format!("{CLIENT}/24")))?;
        let assets = lab.directory().join("assets");
        fs::create_dir_all(assets.join("debian"))?;
        fs::write(assets.join("vmlinuz"), noise(3_000_000, 1))?;
        fs::write(assets.join("debian/initrd.img"), noise(24_000_001, 2))?;
        fs::write(lab.directory().join("secret"), "secret")?;
        fs::write(lab.directory().join("netbootd.toml"), configuration)?;
        let environment: Vec<(String, String)> =
            environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let interfaces: Vec<String> = interfaces.iter().map(|&interface| interface.to_owned()).collect();
        prepare(&lab, &server)?;
        let netbootd = launch(&lab, &server, &interfaces, &environment)?;
        Ok(Some(Self { netbootd, server, client, assets, interfaces, environment, lab }))
    }

    /// Another daemon, like the one that has gone.
    pub(crate) fn again(&self) -> Result<Process> {
        launch(&self.lab, &self.server, &self.interfaces, &self.environment)
    }

    /// Leaves the daemon no descriptor to open, until what is returned is dropped.
    pub(crate) fn limit_descriptors(&self) -> Result<Descriptors> {
        let process = self.netbootd.pid();
        let is_free = |number: &usize| fs::symlink_metadata(format!("/proc/{process}/fd/{number}")).is_err();
        let lowest = || (0..1024).find(is_free).context("no number is free");
        // Of a server that has just started, some are open for a moment only.
        let (mut free, mut since) = (lowest()?, Instant::now());
        while since.elapsed() < STEADY {
            let now = lowest()?;
            if now < free {
                (free, since) = (now, Instant::now());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let limited = Descriptors { process };
        limited.limit(free)?;
        Ok(limited)
    }

    /// A socket on the client's host.
    pub(crate) fn client_socket(&self, port: u16) -> Result<UdpSocket> {
        // A socket that was just closed is open for a moment more in a process that another test forks, until its exec.
        let until = Instant::now() + SOON;
        let socket = loop {
            match self.client.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))? {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                    thread::sleep(Duration::from_millis(5));
                }
                socket => break socket?,
            }
        };
        // There is no default route, as on an isolated boot network.
        self.client.enter(|| SockRef::from(&socket).bind_device(Some(b"eth1")))??;
        socket.set_broadcast(true)?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(socket)
    }

    /// A connection from the client's host. `receive_buffer` is that of a client that pauses: left alone it grows to tens
    /// of megabytes, the client's kernel takes the whole file, and no window ever closes.
    pub(crate) fn connect(&self, receive_buffer: Option<usize>) -> Result<TcpStream> {
        self.client.enter(|| -> Result<TcpStream> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            if let Some(size) = receive_buffer {
                socket.set_recv_buffer_size(size)?;
            }
            socket.connect(&SocketAddr::from((SERVER, 8080)).into())?;
            let stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(START))?;
            Ok(stream)
        })?
    }

    /// A GET whose header has been read.
    pub(crate) fn get(&self, path: &str, receive_buffer: Option<usize>) -> Result<TcpStream> {
        let mut stream = self.connect(receive_buffer)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: {BOOT_AGENT}\r\n\r\n")?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        ensure!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        Ok(stream)
    }

    /// Runs a program on the client's host, in a folder of its own; its output if it succeeds.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.client.command(program).args(arguments).current_dir(self.lab.directory()).output()?;
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{program} {arguments:?}: {}\n{out:.400}{error}", output.status);
        Ok(output.stdout)
    }

    /// `curl` on the client's host, in the place of a boot client: its output for a path of the HTTP stage.
    pub(crate) fn curl(&self, arguments: &[&str], path: &str) -> Result<Vec<u8>> {
        let url = format!("http://{SERVER}:8080{path}");
        let as_client = ["-sS", "--path-as-is", "--max-time", "60", "--user-agent", BOOT_AGENT];
        self.run("curl", &[&as_client[..], arguments, &[&url]].concat())
    }
}

fn launch(lab: &Lab, server: &Host, interfaces: &[String], environment: &[(String, String)]) -> Result<Process> {
    let (folder, mut command) = (lab.directory(), daemon(server));
    command.args(["up", "--config"]).arg(folder.join("netbootd.toml"));
    command.args(interfaces.iter().flat_map(|interface| ["--interface", interface]));
    command.arg("--assets").arg(folder.join("assets"));
    command.arg(folder.join("assets/vmlinuz")).arg(folder.join("assets/debian/initrd.img"));
    command.args(["--", "console=ttyS0", "hostname={{ machine.name }}"]);
    command.envs(environment.iter().map(|(key, value)| (key, value)));
    let netbootd = Process::spawn("netbootd", &mut command)?;
    netbootd.wait_for_line("waiting on ", START)?;
    Ok(netbootd)
}

/// See [`Bench::limit_descriptors`].
pub(crate) struct Descriptors {
    process: u32,
}

impl Descriptors {
    fn limit(&self, most: usize) -> Result<()> {
        let arguments = [format!("--pid={}", self.process), format!("--nofile={most}:")];
        let status = Command::new("prlimit").args(arguments).status()?;
        ensure!(status.success(), "prlimit: {status}");
        Ok(())
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // The test fails by what it waits for then.
        let _ = self.limit(1024);
    }
}

/// netbootd on a host, without what the developer's own environment may say.
pub(crate) fn daemon(host: &Host) -> Command {
    let mut command = host.command(env!("CARGO_BIN_EXE_netbootd"));
    command.env_remove("NETBOOTD_LOG");
    command
}

/// Bytes that repeat nowhere near a block's length, the same for the same seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    Noise::new(seed).take(length).collect()
}

/// A file of the host that this test runs on.
pub(crate) fn file(path: impl AsRef<Path>) -> Result<Vec<u8>> {
    fs::read(path.as_ref()).with_context(|| format!("reading {}", path.as_ref().display()))
}
