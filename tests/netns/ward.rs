//! A network that can be broken: netbootd with a configuration of its own, a leasing server, and a client that boots as
//! firmware and iPXE do, or says why it cannot.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use netbootd::dhcp::offered::Offered;
use netbootd_lab::{Host, Lab, NETWORK_TOOLS, Process, Signal, Tool, required};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{
    bench::{START, daemon, file, noise},
    beside::dnsmasq,
    dhcp::{BIOS, DISCOVER, REQUEST, UEFI, of_machine, request},
};

/// Fields are dropped in this order.
pub(crate) struct Ward {
    pub(crate) netbootd: Option<Process>,
    pub(crate) leasing: Option<Process>,
    pub(crate) dhcp: Host,
    pub(crate) server: Host,
    pub(crate) client: Host,
    pub(crate) assets: PathBuf,
    /// A command that prepares the view of `up` and `doctor`: `mount …`.
    pub(crate) prepare: Option<&'static str>,
    /// A program that starts `up` with fewer rights.
    pub(crate) starter: Option<&'static str>,
    pub(crate) lab: Lab,
}

pub(crate) const RANGE: &str = "--dhcp-range=10.77.0.50,10.77.0.60,1h";
const TOOLS: &[Tool] = &[
    Tool::new("curl", "curl"),
    Tool::new("atftp", "atftp"),
    Tool::new("/usr/sbin/nft", "nftables"),
    Tool::new("/usr/lib/ipxe/snponly.efi", "ipxe"),
];

impl Ward {
    /// The hosts with their files, and nothing that runs; `None` where a tool is missing.
    pub(crate) fn empty() -> Result<Option<Self>> {
        let Some(()) = required(&[NETWORK_TOOLS, TOOLS]) else { return Ok(None) };
        let lab = Lab::new()?;
        let server = lab.host("netbootd", Some("10.77.0.2/24"))?;
        let dhcp = lab.host("dhcp", Some("10.77.0.1/24"))?;
        let client = lab.host("client", Some("10.77.0.49/24"))?;
        let assets = lab.directory().join("assets");
        fs::create_dir_all(&assets)?;
        fs::write(assets.join("vmlinuz"), kernel())?;
        fs::write(assets.join("initrd.gz"), [b"\x1f\x8b\x08\0".as_slice(), &noise(3_000_000, 2)].concat())?;
        let ward =
            Self { netbootd: None, leasing: None, dhcp, server, client, assets, prepare: None, starter: None, lab };
        ward.configure("")?;
        Ok(Some(ward))
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.lab.directory().join("netbootd.toml")
    }

    /// Writes the configuration, beginning with these lines.
    pub(crate) fn configure(&self, first: &str) -> Result<()> {
        let assets = self.assets.display();
        let text = format!(
            "{first}\nassets = \"{assets}\"\ndefault_profile = \"lab\"\n[profiles.lab]\nkernel = \"vmlinuz\"\ninitrd = [\"initrd.gz\"]\n"
        );
        Ok(fs::write(self.config(), text)?)
    }

    /// A leasing server with these arguments, in place of the one before.
    pub(crate) fn leases(&mut self, arguments: &[&str]) -> Result<()> {
        self.leasing = None;
        self.leasing = Some(dnsmasq(&self.lab, &self.dhcp, &[&[RANGE], arguments].concat())?);
        Ok(())
    }

    /// netbootd anew.
    pub(crate) fn starts(&mut self) -> Result<()> {
        self.stops()?;
        let mut command = self.command("up", self.starter);
        if !fs::read_to_string(self.config())?.contains("interfaces") {
            command.args(["--interface", "eth1"]);
        }
        let netbootd = Process::spawn("netbootd", &mut command)?;
        netbootd.wait_for_line("waiting on ", START)?;
        self.netbootd = Some(netbootd);
        Ok(())
    }

    pub(crate) fn stops(&mut self) -> Result<()> {
        if let Some(mut netbootd) = self.netbootd.take() {
            netbootd.signal(Signal::SIGTERM)?;
            netbootd.wait_exit(START)?;
        }
        Ok(())
    }

    /// `netbootd COMMAND --config FILE`, in the view that was prepared.
    fn command(&self, what: &str, starter: Option<&str>) -> Command {
        let mut command = match (self.prepare, starter) {
            (None, None) => daemon(&self.server),
            (prepare, starter) => {
                let (prepare, starter) = (prepare.unwrap_or("true"), starter.unwrap_or_default());
                let mut shell = self.server.command("sh");
                let line = format!("{prepare} && exec {starter} \"$0\" \"$@\"");
                shell.args(["-c", &line, env!("CARGO_BIN_EXE_netbootd")]).env_remove("NETBOOTD_LOG");
                shell
            }
        };
        command.arg(what).arg("--config").arg(self.config());
        command
    }

    /// What the doctor says on the server's host: every finding, after a look at the exit code and the time.
    pub(crate) fn examined(&self) -> Result<Findings> {
        let mut command = self.command("doctor", None);
        examined(command.arg("--json"))
    }

    /// The same, by a program that starts the doctor with fewer rights.
    pub(crate) fn examined_with(&self, starter: &str) -> Result<Findings> {
        examined(self.command("doctor", Some(starter)).arg("--json"))
    }

    /// The same on the client's host, without a configuration.
    pub(crate) fn examined_by_client(&self, arguments: &[&str]) -> Result<Findings> {
        examined(daemon(&self.client).args(["doctor", "--json", "--interface", "eth1"]).args(arguments))
    }

    /// Does what a finding says: commands are run, and lines are set. Then netbootd is started anew where a line was set.
    pub(crate) fn fix(&mut self, finding: &Value) -> Result<()> {
        let mut lines = Vec::new();
        for fix in finding["fix"].as_array().context("no fix")? {
            let text = fix["text"].as_str().context("no text")?;
            match fix["kind"].as_str() {
                Some("run") if !text.contains("netbootd up") => {
                    let output = self.server.command("sh").args(["-c", &text.replace("sudo ", "")]).output()?;
                    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
                    ensure!(output.status.success(), "{text}: {printed}");
                }
                Some("configure") => lines.push(text.to_owned()),
                _ => {}
            }
        }
        if !lines.is_empty() {
            self.configure(&lines.join("\n"))?;
            self.starts()?;
        }
        Ok(())
    }

    /// A UEFI machine and a BIOS machine boot, as far as their kernel.
    pub(crate) fn boots(&self) -> Result<()> {
        for (number, firmware, arch) in [(1, UEFI, "x86_64&platform=efi"), (2, BIOS, "i386&platform=pcbios")] {
            Machine { ward: self, number, firmware, arch }.boots().with_context(|| {
                let printed = self.netbootd.iter().flat_map(Process::lines).collect::<Vec<_>>().join("\n");
                format!("{arch}; netbootd printed:\n{printed}")
            })?;
        }
        Ok(())
    }
}

/// What a doctor said.
pub(crate) struct Findings(Vec<Value>);

impl Findings {
    /// The finding with this name.
    pub(crate) fn find(&self, id: &str) -> Result<&Value> {
        self.0.iter().find(|finding| finding["id"] == id).with_context(|| format!("no {id} in {:#?}", self.bad()))
    }

    /// Everything that is worse than a note.
    pub(crate) fn bad(&self) -> Vec<&Value> {
        self.0.iter().filter(|f| f["verdict"] == "fault" || f["verdict"] == "warning").collect()
    }

    pub(crate) fn is_all_well(&self) -> Result<()> {
        ensure!(self.bad().is_empty(), "{:#?}", self.bad());
        Ok(())
    }
}

fn examined(command: &mut Command) -> Result<Findings> {
    let began = Instant::now();
    let output = command.output()?;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let json: Value = serde_json::from_slice(&output.stdout).with_context(|| printed.clone())?;
    let worst = match json["verdict"].as_str() {
        Some("fault") => 2,
        Some("warning") => 1,
        _ => 0,
    };
    ensure!(output.status.code() == Some(worst), "{} with {:#}\n{printed}", output.status, json);
    ensure!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    ensure!(printed.contains("asking the network"), "it shows no progress: {printed}");
    Ok(Findings(json["findings"].as_array().context("no findings")?.clone()))
}

/// What looks like a Linux kernel for x86 and repeats nowhere. It is as long as its header says: protocol 2.15, 5 sectors
/// for the setup, and then paragraphs of 16 bytes.
pub(crate) fn kernel() -> Vec<u8> {
    let mut kernel = noise(2_000_000, 1);
    kernel[0x1f1] = 4;
    kernel[0x1f4..0x1f8].copy_from_slice(&124_840_u32.to_le_bytes());
    kernel[0x206..0x208].copy_from_slice(&[0x0f, 2]);
    kernel[0x20e..0x210].fill(0);
    kernel[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    // An EFI program too, for x86_64 and without sections, as UEFI firmware wants it.
    kernel[..2].copy_from_slice(b"MZ");
    kernel[0x3c..0x40].copy_from_slice(&0x40_u32.to_le_bytes());
    kernel[0x40..0x80].fill(0);
    kernel[0x40..0x46].copy_from_slice(b"PE\0\0\x64\x86");
    kernel
}

/// One machine.
struct Machine<'a> {
    ward: &'a Ward,
    number: u32,
    firmware: &'static [(u8, &'static [u8])],
    arch: &'static str,
}

impl Machine<'_> {
    fn boots(&self) -> Result<()> {
        let socket = self.socket()?;
        let offers = self.offers(&socket)?;
        let lease = offers.iter().find(|offer| !offer.yiaddr.is_unspecified()).context("no address (PXE-E51)")?;
        // EDK2 takes a lease with option 60 for the boot server's offer.
        if lease.vendor_class.starts_with(b"PXEClient") && lease.bootfile.is_empty() {
            bail!("the leasing server's option 60 leads nowhere (PXE-E16)");
        }
        self.takes(&socket, lease)?;
        let proxies: Vec<&Offered> = offers.iter().filter(|offer| offer.yiaddr.is_unspecified()).collect();
        ensure!(!proxies.is_empty(), "no boot file (PXE-E53)");
        // A machine may take any of them, so each has to lead to a boot.
        for proxy in proxies {
            self.boots_by(&socket, proxy, lease.yiaddr)?;
        }
        Ok(())
    }

    fn socket(&self) -> Result<UdpSocket> {
        let client = &self.ward.client;
        client.enter(|| -> Result<UdpSocket> {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
            // A program that another test starts has the last one until it has begun.
            socket.set_reuse_address(true)?;
            socket.bind_device(Some(b"eth1"))?;
            socket.set_broadcast(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 68)).into())?;
            Ok(socket.into())
        })?
    }

    fn says(&self, socket: &UdpSocket, to: (Ipv4Addr, u16), kind: u8, more: &[(u8, &[u8])]) -> Result<()> {
        let message = of_machine(self.number, request(kind, self.number, &[self.firmware, more].concat()));
        socket.send_to(&message, to)?;
        Ok(())
    }

    /// All offers of 1.5 s; a packet may be lost, so it asks twice.
    fn offers(&self, socket: &UdpSocket) -> Result<Vec<Offered>> {
        let mut offers: Vec<Offered> = Vec::new();
        for _ in 0..2 {
            self.says(socket, (Ipv4Addr::BROADCAST, 67), DISCOVER, &[])?;
            let end = Instant::now() + Duration::from_millis(1500);
            while let Some(answer) = next(socket, end)? {
                let is_known =
                    offers.iter().any(|offer| offer.server_id == answer.server_id && offer.yiaddr == answer.yiaddr);
                if !answer.is_ack && !is_known {
                    offers.push(answer);
                }
            }
            if offers.len() > 1 {
                break;
            }
        }
        Ok(offers)
    }

    fn takes(&self, socket: &UdpSocket, lease: &Offered) -> Result<()> {
        let server = lease.server_id.context("no server")?;
        let chosen: &[(u8, &[u8])] = &[(50, &lease.yiaddr.octets()), (54, &server.octets())];
        self.says(socket, (Ipv4Addr::BROADCAST, 67), REQUEST, chosen)?;
        let end = Instant::now() + Duration::from_secs(3);
        while let Some(answer) = next(socket, end)? {
            if answer.is_ack {
                let address = format!("{}/24", answer.yiaddr);
                self.ward.client.ip(&["address", "replace", &address, "dev", "eth1"])?;
                return Ok(());
            }
        }
        bail!("the lease was not confirmed")
    }

    fn boots_by(&self, socket: &UdpSocket, proxy: &Offered, own: Ipv4Addr) -> Result<()> {
        let server = proxy.siaddr;
        let mut name = proxy.bootfile.clone();
        if name.is_empty() {
            self.says(socket, (server, 4011), REQUEST, &[])?;
            let answer = next(socket, Instant::now() + Duration::from_secs(2))?;
            name = answer.context("port 4011 is silent (PXE-E55)")?.bootfile;
        }
        let name = String::from_utf8(name)?;
        let loader = file(format!("/usr/lib/ipxe/{name}"))?;
        let fetched = self.ward.lab.directory().join(format!("loader{}", self.number));
        let to = fetched.display().to_string();
        let tftp =
            ["10", "atftp", "--option", "blksize 1468", "--option", "timeout 1", "--get", "-r", &name, "-l", &to];
        self.run("timeout", &[&tftp[..], &[&server.to_string()]].concat()).context("TFTP")?;
        ensure!(file(&fetched)? == loader, "another loader than {name}");
        let mac = format!("52:54:{:02x}:{:02x}:{:02x}:{:02x}", 0, 0, 0, self.number);
        let script = self.curl(own, &format!("http://{server}:8080/boot.ipxe?mac={mac}&arch={}", self.arch))?;
        let script = String::from_utf8(script)?;
        for (word, wanted) in [("kernel", kernel()), ("initrd", file(self.ward.assets.join("initrd.gz"))?)] {
            let line =
                script.lines().find(|line| line.starts_with(word)).with_context(|| format!("no {word}: {script}"))?;
            let url = line.split(' ').find(|word| word.starts_with("http")).context("no URL")?;
            ensure!(self.curl(own, url)? == wanted, "another {word}");
        }
        Ok(())
    }

    fn curl(&self, own: Ipv4Addr, url: &str) -> Result<Vec<u8>> {
        let own = own.to_string();
        self.run("curl", &["-sSf", "--max-time", "10", "--user-agent", "iPXE/1.21.1", "--interface", &own, url])
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.ward.client.command(program).args(arguments).output()?;
        ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }
}

/// The next answer of a DHCP server before `end`.
fn next(socket: &UdpSocket, end: Instant) -> Result<Option<Offered>> {
    let mut buffer = [0; 1500];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        if let Ok((length, _)) = socket.recv_from(&mut buffer)
            && let Ok(offered) = Offered::parse(&buffer[..length])
        {
            return Ok(Some(offered));
        }
    }
}
