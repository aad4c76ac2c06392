//! Boots that fail, each in its own way, all at once: what the server says of each, by its cause.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use netbootd_lab::{Process, receive};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::{
    bench::{Bench, SERVER, SMALL, START, daemon, noise},
    dhcp::{BIOS, DISCOVER, HTTP, IPXE, OFFER, REQUEST, next, of_machine, request},
    field::until,
};

/// A machine by hand, with an address of its own on the client's host.
#[derive(Clone, Copy)]
struct Victim(u8);

impl Victim {
    fn mac(self) -> String {
        format!("52:54:00:00:00:{:02x}", self.0)
    }

    fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, 100 + self.0)
    }

    fn says(self, socket: &UdpSocket, to: (Ipv4Addr, u16), kind: u8, secs: u8, options: &[(u8, &[u8])]) -> Result<()> {
        let mut message = of_machine(u32::from(self.0), request(kind, u32::from(self.0), options));
        message[9] = secs;
        socket.send_to(&message, to)?;
        Ok(())
    }

    /// Asks, and waits for the answer, as a machine does before it goes on.
    fn discovers(self, socket: &UdpSocket, client: &[(u8, &[u8])]) -> Result<()> {
        self.says(socket, EVERYONE, DISCOVER, 0, client)?;
        while next(socket)?.0.get(4..8) != Some(&u32::from(self.0).to_be_bytes()) {}
        Ok(())
    }

    fn takes_its_lease(self, socket: &UdpSocket) -> Result<()> {
        let lease: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 1]), (50, &self.address().octets())];
        self.says(socket, EVERYONE, REQUEST, 0, &[BIOS, lease].concat())
    }

    /// What a second ProxyDHCP server of the network sends it.
    fn is_offered_by_another_proxy(self, bench: &Bench) -> Result<()> {
        let other = bench.lab.host("other", Some("10.77.0.3/24"))?;
        let socket = other.enter(|| -> Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67))?;
            socket.set_broadcast(true)?;
            // Without a route, a broadcast needs to know its interface.
            socket2::SockRef::from(&socket).bind_device(Some(b"eth1"))?;
            Ok(socket)
        })??;
        let options: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 3]), (60, b"PXEClient")];
        let mut message = of_machine(u32::from(self.0), request(OFFER, u32::from(self.0), options));
        // BOOTREPLY.
        message[0] = 2;
        // Until it is heard: its port of the switch has just come up.
        let (told, until) = ("another ProxyDHCP server answers network boots here: 10.77.0.3", Instant::now() + START);
        while !bench.netbootd.lines().iter().any(|line| line.contains(told)) {
            ensure!(Instant::now() < until, "{:?}", bench.netbootd.lines());
            socket.send_to(&message, (Ipv4Addr::BROADCAST, 68))?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn curl(self, bench: &Bench, arguments: &[&str], url: &str) -> Result<Vec<u8>> {
        let address = self.address().to_string();
        bench.run(
            "curl",
            &[&["-sS", "-o", "/dev/null", "--user-agent", "iPXE/1.21.1", "--interface", &address], arguments, &[url]]
                .concat(),
        )
    }

    fn script(self, bench: &Bench) -> Result<()> {
        self.curl(bench, &[], &http(&format!("/boot.ipxe?mac={}&arch=i386&platform=pcbios", self.mac()))).map(drop)
    }

    /// A download whose client does not read.
    fn gets(self, bench: &Bench, path: &str) -> Result<TcpStream> {
        bench.client.enter(|| -> Result<TcpStream> {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_recv_buffer_size(SMALL)?;
            socket.bind(&SocketAddr::from((self.address(), 0)).into())?;
            socket.connect(&SocketAddr::from((SERVER, 8080)).into())?;
            let mut stream = TcpStream::from(socket);
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: iPXE/1.21.1\r\n\r\n")?;
            Ok(stream)
        })?
    }
}

const EVERYONE: (Ipv4Addr, u16) = (Ipv4Addr::BROADCAST, 67);

fn http(path: &str) -> String {
    format!("http://{SERVER}:8080{path}")
}

const CONFIGURATION: &str = r#"
[http]
rate_limit = "2MB"
[http.keepalive]
idle = "1s"
interval = "1s"
probes = 2
dead_after = "5s"

[profiles.missing]
kernel = "gone"
[profiles.reporting]
kernel = "vmlinuz"
report_within = "2s"
[profiles.efi]
efi = "vmlinuz"
[profiles.changing]
kernel = "vmlinuz"
initrd = ["changing.img"]

[[machines]]
mac = "52:54:00:00:00:09"
profile = "missing"
[[machines]]
mac = "52:54:00:00:00:0d"
profile = "reporting"
[[machines]]
mac = "52:54:00:00:00:0e"
profile = "efi"
[[machines]]
mac = "52:54:00:00:00:15"
profile = "changing"
"#;

fn machine(bench: &Bench, victim: Victim) -> Result<Value> {
    let answer = bench.curl(&[], &format!("/api/v1/machines/{}", victim.mac()))?;
    serde_json::from_slice(&answer).context("no JSON")
}

/// What the API says of a machine: the cause of its stop and the stage, or how it stands.
fn standing(bench: &Bench, victim: Victim) -> Result<String> {
    let machine = machine(bench, victim)?;
    let text = |pointer: &str| machine.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
    Ok(match text("/boot/state").as_str() {
        "stopped" => {
            ensure!(text("/boot/stop/text").len() > 9, "{machine}");
            format!("{} at {}", text("/boot/stop/cause"), text("/boot/stop/stage"))
        }
        state => state.to_owned(),
    })
}

#[test]
fn twenty_one_boots_that_fail_are_each_named_by_their_cause() -> Result<()> {
    let bench = Bench::prepared(&["eth1"], &[], CONFIGURATION, |lab, _| {
        fs::write(lab.directory().join("assets/changing.img"), noise(24_000_000, 7))?;
        Ok(fs::write(lab.directory().join("assets/gone"), "a kernel that is there when the server starts")?)
    })?;
    let Some(bench) = bench else { return Ok(()) };
    fs::remove_file(bench.assets.join("gone"))?;
    let socket = bench.client_socket(68)?;
    let watch = Process::spawn("watch", daemon(&bench.server).arg("watch"))?;
    for n in 1..=23 {
        bench.client.ip(&["address", "add", &format!("{}/24", Victim(n).address()), "dev", "eth1"])?;
    }
    let tftp = format!("tftp://{SERVER}/undionly.kpxe");
    let mut expected = BTreeMap::new();
    let mut victim = |n: u8, expect: &'static str| {
        expected.insert(n, expect);
        Victim(n)
    };

    victim(1, "not_leased at offer").discovers(&socket, BIOS)?;

    let held_back = victim(2, "held_back at offer");
    held_back.says(&socket, EVERYONE, DISCOVER, 31, BIOS)?;

    let ignores = victim(3, "offer_ignored at offer");
    ignores.discovers(&socket, BIOS)?;
    ignores.takes_its_lease(&socket)?;

    let no_http_boot = victim(22, "http_boot_ignored at offer");
    no_http_boot.discovers(&socket, HTTP)?;
    let lease: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 1]), (50, &no_http_boot.address().octets())];
    no_http_boot.says(&socket, EVERYONE, REQUEST, 0, &[HTTP, lease].concat())?;

    let elsewhere = victim(23, "rival at offer");
    elsewhere.discovers(&socket, BIOS)?;
    elsewhere.is_offered_by_another_proxy(&bench)?;

    let asks_4011 = victim(4, "loader_not_fetched at boot_server");
    asks_4011.discovers(&socket, BIOS)?;
    asks_4011.takes_its_lease(&socket)?;
    asks_4011.says(&socket, (SERVER, 4011), REQUEST, 0, BIOS)?;

    let silent = victim(5, "loader_stopped at loader");
    silent.discovers(&socket, BIOS)?;
    silent.takes_its_lease(&socket)?;
    let their = bench.client.enter(|| UdpSocket::bind((silent.address(), 0)))??;
    their.set_read_timeout(Some(START))?;
    their.send_to(b"\0\x01undionly.kpxe\0octet\0", (SERVER, 69))?;
    // It acknowledges nothing: one that did is waited for, five minutes long.
    receive(&their, &mut [0; 600]).context("no DATA")?;

    let hangs = victim(6, "loader_not_started at loader");
    hangs.discovers(&socket, BIOS)?;
    hangs.takes_its_lease(&socket)?;
    hangs.curl(&bench, &[], &tftp)?;

    let no_http = victim(7, "script_not_fetched at loader");
    no_http.discovers(&socket, BIOS)?;
    no_http.takes_its_lease(&socket)?;
    no_http.curl(&bench, &[], &tftp)?;
    no_http.discovers(&socket, IPXE)?;

    let no_kernel = victim(8, "not_fetched at script");
    no_kernel.discovers(&socket, IPXE)?;
    no_kernel.script(&bench)?;

    let missing = victim(9, "not_found at script");
    missing.discovers(&socket, IPXE)?;
    // It is there when the script is made, and gone when the machine asks for it.
    std::fs::write(bench.assets.join("gone"), "x")?;
    missing.script(&bench)?;
    std::fs::remove_file(bench.assets.join("gone"))?;
    missing.curl(&bench, &[], &http("/assets/gone"))?;

    let gives_up = victim(10, "closed_by_machine at initrd");
    gives_up.discovers(&socket, IPXE)?;
    gives_up.script(&bench)?;
    gives_up.curl(&bench, &[], &http("/assets/vmlinuz"))?;
    ensure!(gives_up.curl(&bench, &["--max-time", "1"], &http("/assets/debian/initrd.img")).is_err());

    let dead = victim(11, "dead at kernel");
    dead.discovers(&socket, IPXE)?;
    dead.script(&bench)?;
    let stream = dead.gets(&bench, "/assets/vmlinuz")?;
    let port = stream.local_addr()?.port().to_string();
    bench.client.ip(&["rule", "add", "ipproto", "tcp", "sport", &port, "blackhole"])?;

    let half = victim(12, "not_fetched at kernel");
    half.discovers(&socket, IPXE)?;
    half.script(&bench)?;
    half.curl(&bench, &[], &http("/assets/vmlinuz"))?;

    let quiet = victim(13, "never_reported at handed_over");
    quiet.discovers(&socket, IPXE)?;
    quiet.script(&bench)?;
    quiet.curl(&bench, &[], &http("/assets/vmlinuz"))?;

    let bios = victim(14, "efi_on_bios at script");
    bios.discovers(&socket, IPXE)?;
    bios.script(&bench)?;

    let powerpc: &[(u8, &[u8])] = &[(60, b"PXEClient"), (93, &[0, 14])];
    victim(15, "no_loader at discover").says(&socket, EVERYONE, DISCOVER, 0, powerpc)?;

    let astray = victim(18, "other_network at offer");
    astray.discovers(&socket, BIOS)?;
    let lease: &[(u8, &[u8])] = &[(54, &[10, 77, 0, 1]), (50, &[10, 99, 0, 5])];
    astray.says(&socket, EVERYONE, REQUEST, 0, &[BIOS, lease].concat())?;

    let loops = victim(19, "script_loops at script");
    loops.discovers(&socket, IPXE)?;
    for _ in 0..8 {
        loops.script(&bench)?;
    }

    let again = victim(20, "installs_again at script");
    again.discovers(&socket, IPXE)?;
    again.script(&bench)?;
    again.curl(&bench, &[], &http(&format!("/report?mac={}&event=installed", again.mac())))?;
    again.discovers(&socket, BIOS)?;
    again.discovers(&socket, IPXE)?;
    again.script(&bench)?;

    let changing = victim(21, "file_changed at initrd");
    changing.discovers(&socket, IPXE)?;
    changing.script(&bench)?;
    changing.curl(&bench, &[], &http("/assets/vmlinuz"))?;
    let mut stream = changing.gets(&bench, "/assets/changing.img")?;
    fs::write(bench.assets.join("changing.img"), noise(24_000_000, 8))?;
    stream.set_read_timeout(Some(START))?;
    // It ends before its end.
    let read = std::io::copy(&mut stream, &mut std::io::sink());
    ensure!(read.as_ref().is_err() || read.as_ref().is_ok_and(|read| *read < 24_000_000), "{read:?}");

    // And two that do not fail.
    let pauses = victim(16, "slow_but_alive");
    pauses.discovers(&socket, IPXE)?;
    pauses.script(&bench)?;
    let _paused = pauses.gets(&bench, "/assets/debian/initrd.img")?;

    let boots = victim(17, "handed_over");
    boots.discovers(&socket, IPXE)?;
    boots.script(&bench)?;
    for file in ["vmlinuz", "debian/initrd.img"] {
        boots.curl(&bench, &[], &http(&format!("/assets/{file}")))?;
    }

    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        let told =
            expected.keys().map(|n| Ok((*n, standing(&bench, Victim(*n))?))).collect::<Result<BTreeMap<_, _>>>()?;
        let others: Vec<_> = told.iter().filter(|(n, told)| expected.get(n) != Some(&told.as_str())).collect();
        if others.is_empty() {
            break;
        }
        if Instant::now() > patience {
            bail!("{others:#?}\n{}", bench.netbootd.lines().join("\n"));
        }
        thread::sleep(Duration::from_secs(1));
    }
    // The page, `machines` and `watch` say the same as the API.
    for n in expected.keys() {
        let (victim, one) = (Victim(*n), machine(&bench, Victim(*n))?);
        let Some(text) = one.pointer("/boot/stop/text").and_then(Value::as_str) else { continue };
        // Up to what HTML writes in another way; a sentence begins with a capital there.
        let words = text.get(1..).and_then(|text| text.split(['\'', '"', '/', '(', ':']).next()).context("no words")?;
        let page = String::from_utf8(bench.curl(&[], &format!("/machines/{}", victim.mac()))?)?;
        ensure!(page.contains(words), "the page of {} does not say {words:?}", victim.mac());
        let asked = daemon(&bench.server).args(["machines", &victim.mac()]).output()?;
        let told = String::from_utf8(asked.stdout)?;
        ensure!(told.contains(&format!("probably: {text}")), "{told}");
        let is_it = |line: &String| line.contains(&victim.mac()) && line.contains(words.trim());
        // The API looks when it is asked, the recorder once a second.
        until("the line of a stop", || Ok(watch.lines().iter().any(is_it)))
            .with_context(|| format!("watch does not say {words:?}: {:#?}", watch.lines()))?;
    }
    // Each is a line for whoever looks at the log, with the fix.
    for words in [
        "leases addresses on this network",
        "portfast",
        "stop one of the two",
        "allow HTTP in its setup",
        "Secure Boot",
        "options 66 and 67",
        "check its power",
        "check the VLAN of its switch port",
        "chain only to other addresses",
        "once = \"installed\"",
        "then rename it",
    ] {
        ensure!(bench.netbootd.lines().iter().any(|line| line.contains(words)), "no line says {words:?}");
    }
    Ok(())
}
