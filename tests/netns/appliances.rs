//! Several appliances with one state: two netbootd and Debian's PostgreSQL on one network.

mod outages;

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Host, Lab, NETWORK_TOOLS, Postgres, Process, Signal, Tool, required};

use crate::{
    bench::{BOOT_AGENT, SOON, START, daemon, noise},
    control::{said, tell},
    dhcp::{DISCOVER, UEFI, next, request},
};

const DATABASE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
pub(crate) const MACHINE: &str = "52:54:00:12:34:56";
/// A card that nobody has: what is sent to it is lost without a word.
const NOWHERE: &str = "02:00:00:00:00:99";
/// What is told between appliances is there by then, on a machine that is busy with other tests.
pub(crate) const HEARD: Duration = Duration::from_secs(15);

const CONFIGURATION: &str = r#"
interfaces = ["eth1"]
assets = "FOLDER/assets"
templates = "FOLDER/templates"
default_profile = "debian"
[state]
url = "postgres://netbootd@10.77.0.9/netbootd?sslmode=disable"
password_file = "PASSWORD"
appliance = "NAME"
copy = "FOLDER/NAME/copy.db"
[control]
socket = "FOLDER/NAME/control.sock"
[profiles.debian]
kernel = "vmlinuz"
initrd = ["initrd.img"]
cmdline = 'url={{ answer("preseed.cfg") }}'
[profiles.installer]
kernel = "vmlinuz"
initrd = ["initrd.img"]
"#;

pub(crate) struct Appliance {
    pub(crate) name: &'static str,
    pub(crate) address: Ipv4Addr,
    pub(crate) host: Host,
    pub(crate) netbootd: Process,
}

/// Fields are dropped in this order.
pub(crate) struct Site {
    pub(crate) a: Appliance,
    pub(crate) b: Appliance,
    pub(crate) postgres: Postgres,
    pub(crate) database: Host,
    pub(crate) client: Host,
    pub(crate) lab: Lab,
}

impl Site {
    pub(crate) fn start(more: &str) -> Result<Option<Self>> {
        Self::prepared(&["eth1"], more, |_, _| Ok(()))
    }

    /// With these interfaces of the appliances, whose hosts were prepared.
    pub(crate) fn prepared(
        interfaces: &[&str],
        more: &str,
        prepare: impl Fn(&str, &Host) -> Result<()>,
    ) -> Result<Option<Self>> {
        let Some(()) = required(&[
            NETWORK_TOOLS,
            &[
                Tool::new("curl", "curl"),
                Tool::new("/usr/lib/ipxe/snponly.efi", "ipxe"),
                Tool::new("/usr/lib/postgresql", "postgresql"),
            ],
        ]) else {
            return Ok(None);
        };
        let lab = Lab::new()?;
        let client = lab.host("client", Some("10.77.0.50/24"))?;
        let database = lab.host("database", Some(&format!("{DATABASE}/24")))?;
        let postgres = Postgres::start(Some(&database))?;
        let folder = lab.directory();
        fs::create_dir_all(folder.join("assets"))?;
        fs::create_dir_all(folder.join("templates"))?;
        fs::write(folder.join("templates/preseed.cfg"), "d-i for {{ machine.mac }}\n")?;
        fs::write(folder.join("assets/vmlinuz"), noise(3_000_000, 1))?;
        fs::write(folder.join("assets/initrd.img"), noise(6_000_001, 2))?;
        let appliance = |name: &'static str, last: u8| -> Result<Appliance> {
            let address = Ipv4Addr::new(10, 77, 0, last);
            let host = lab.host(name, Some(&format!("{address}/24")))?;
            prepare(name, &host)?;
            fs::create_dir_all(folder.join(name))?;
            let text = CONFIGURATION.replace("FOLDER", &folder.display().to_string()).replace("NAME", name);
            let text = text.replace("PASSWORD", &postgres.password_file()?.display().to_string());
            let text = text.replace("[\"eth1\"]", &format!("{interfaces:?}"));
            fs::write(folder.join(name).join("netbootd.toml"), format!("{text}{more}"))?;
            let netbootd = launch(&host, folder, name)?;
            Ok(Appliance { name, address, host, netbootd })
        };
        let (a, b) = (appliance("a", 2)?, appliance("b", 3)?);
        let site = Self { a, b, postgres, database, client, lab };
        // Each knows the other.
        site.a.netbootd.wait_for_line("the appliance b shares the state", HEARD)?;
        site.b.netbootd.wait_for_line("the appliance a shares the state", HEARD)?;
        Ok(Some(site))
    }

    pub(crate) fn curl(&self, arguments: &[&str], url: &str) -> Result<Vec<u8>> {
        let mut curl = self.client.command("curl");
        let output = curl.args(["-sS", "--max-time", "60"]).args(arguments).arg(url).output()?;
        ensure!(output.status.success(), "curl {arguments:?} {url}: {}", said(&output));
        Ok(output.stdout)
    }

    /// What a machine would boot, without booting it.
    pub(crate) fn looks(&self, at: &Appliance, mac: &str) -> Result<String> {
        let url = format!("http://{}:8080/boot.ipxe?mac={mac}&arch=x86_64&platform=efi", at.address);
        Ok(String::from_utf8(self.curl(&[], &url)?)?)
    }

    /// The script of a machine that boots.
    pub(crate) fn script(&self, at: &Appliance, mac: &str) -> Result<String> {
        let url = format!("http://{}:8080/boot.ipxe?mac={mac}&arch=x86_64&platform=efi", at.address);
        Ok(String::from_utf8(self.curl(&["--user-agent", BOOT_AGENT], &url)?)?)
    }

    /// Fetches one of the files that a script names; how many bytes there are.
    pub(crate) fn fetch(&self, script: &str, file: &str) -> Result<usize> {
        let named = script.split(' ').map(str::trim).find(|word| word.starts_with("http://") && word.ends_with(file));
        Ok(self.curl(&["--user-agent", BOOT_AGENT], named.with_context(|| script.to_owned())?)?.len())
    }

    /// Script, kernel and initrd.
    pub(crate) fn boots(&self, at: &Appliance, mac: &str) -> Result<()> {
        let script = self.script(at, mac)?;
        ensure!(self.fetch(&script, "vmlinuz")? == 3_000_000 && self.fetch(&script, "initrd.img")? == 6_000_001);
        at.netbootd.wait_for_line(&format!("{mac} handed_over"), SOON)?;
        Ok(())
    }

    pub(crate) fn until(&self, at: &Appliance, mac: &str, words: &str) -> Result<()> {
        eventually(&format!("{} says {words:?} to {mac}", at.name), || {
            let script = self.looks(at, mac)?.replace("\necho ", " ");
            ensure!(script.contains(words), "{script}");
            Ok(())
        })
    }
}

impl Appliance {
    pub(crate) fn tell(&self, folder: &Path, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let socket = folder.join(self.name).join("control.sock").display().to_string();
        let output = tell(&self.host, &[arguments, &["--socket", &socket]].concat())?;
        Ok((output.status.code(), said(&output)))
    }

    pub(crate) fn assigns(&self, folder: &Path, arguments: &[&str]) -> Result<()> {
        let (code, words) = self.tell(folder, &[&["assign"], arguments].concat())?;
        ensure!(code == Some(0), "{}: {words}", self.name);
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        self.netbootd.signal(Signal::SIGKILL)?;
        self.netbootd.wait_exit(SOON).map(drop)
    }

    pub(crate) fn start_again(&mut self, folder: &Path) -> Result<()> {
        self.netbootd = launch(&self.host, folder, self.name)?;
        Ok(())
    }

    /// From here on nothing that it sends reaches the database, and no error says so.
    pub(crate) fn cut_off(&self) -> Result<()> {
        let to = DATABASE.to_string();
        self.host.ip(&["neighbour", "replace", &to, "lladdr", NOWHERE, "dev", "eth1", "nud", "permanent"]).map(drop)
    }

    pub(crate) fn heal(&self) -> Result<()> {
        self.host.ip(&["neighbour", "del", &DATABASE.to_string(), "dev", "eth1"]).map(drop)
    }
}

fn launch(host: &Host, folder: &Path, name: &str) -> Result<Process> {
    let mut command = daemon(host);
    command.env_remove("NETBOOTD_STATE__URL").env_remove("NETBOOTD_CONTROL__SOCKET");
    command.args(["up", "--config"]).arg(folder.join(name).join("netbootd.toml"));
    let netbootd = Process::spawn(name, &mut command)?;
    netbootd.wait_for_line("waiting on eth1", START)?;
    Ok(netbootd)
}

/// Tries until it is so.
pub(crate) fn eventually(what: &str, is_so: impl Fn() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    loop {
        match is_so() {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > HEARD => return Err(error.context(format!("not within {HEARD:?}: {what}"))),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

const TO_DISK: &str = "boots from its local disk";
pub(crate) const LOST: &str = "the server that keeps the state cannot be reached";

#[test]
fn what_one_is_told_the_other_boots_and_both_show() -> Result<()> {
    let Some(site) = Site::start("")? else { return Ok(()) };
    let (folder, a, b) = (site.lab.directory(), &site.a, &site.b);
    let began = Instant::now();
    a.assigns(folder, &[MACHINE, "installer"])?;
    site.until(b, MACHINE, "boots profile installer")?;
    println!("assigned on a and known to b after {:?}, with the command", began.elapsed());
    site.boots(b, MACHINE)?;
    eventually("a shows what b served", || {
        let (_, machines) = a.tell(folder, &["machines"])?;
        ensure!(machines.contains("handed_over") && machines.contains("(b)"), "{machines}");
        let (_, machine) = a.tell(folder, &["machines", MACHINE])?;
        ensure!(machine.contains("served by b"), "{machine}");
        let (_, all) = a.tell(folder, &["machines", "--all", "--json"])?;
        ensure!(all.contains("\"appliance\": \"b\""), "{all}");
        let page = String::from_utf8(site.curl(&[], &format!("http://{}:8080/", a.address))?)?;
        ensure!(page.contains("served by b"), "{page}");
        Ok(())
    })?;
    // By whichever it is approved, and whichever takes it back.
    for (by, at) in [(a, b), (b, a)] {
        by.assigns(folder, &[MACHINE, "shell"])?;
        site.until(at, MACHINE, "iPXE shell for ")?;
        let (code, said) = at.tell(folder, &["unassign", MACHINE])?;
        ensure!(code == Some(0), "{} does not know of it: {said}", at.name);
        site.until(by, MACHINE, "boots profile debian")?;
    }
    // An address that one signed opens on the other.
    let script = site.script(a, MACHINE)?;
    let signed = script.split("url=").nth(1).and_then(|rest| rest.split_whitespace().next()).context(script.clone())?;
    let on_b = signed.replace(&a.address.to_string(), &b.address.to_string());
    ensure!(site.curl(&[], &on_b)? == format!("d-i for {MACHINE}\n").into_bytes(), "{on_b}");
    // A download that goes on at the other one is a part of the same file.
    let head = |at: &Appliance| -> Result<String> {
        let head = site.curl(&["--head"], &format!("http://{}:8080/assets/vmlinuz", at.address))?;
        let head = String::from_utf8(head)?.to_lowercase();
        Ok(head.lines().find_map(|line| line.strip_prefix("etag: ")).context("no ETag")?.to_owned())
    };
    let if_range = format!("If-Range: {}", head(a)?);
    let rest = ["-H", if_range.as_str(), "-r", "1000000-", "-w", "%{http_code}"];
    let rest = site.curl(&rest, &format!("http://{}:8080/assets/vmlinuz", b.address))?;
    ensure!(rest.ends_with(b"206") && rest.len() == 2_000_003, "{} bytes", rest.len());
    Ok(())
}

#[test]
fn once_is_used_up_wherever_the_machine_boots_and_by_one_hand_over() -> Result<()> {
    let Some(site) = Site::start("")? else { return Ok(()) };
    let (folder, a, b) = (site.lab.directory(), &site.a, &site.b);
    a.assigns(folder, &[MACHINE, "installer", "--once"])?;
    site.until(b, MACHINE, "boots profile installer")?;
    site.boots(b, MACHINE)?;
    site.until(a, MACHINE, TO_DISK)?;
    site.until(b, MACHINE, TO_DISK)?;
    // Both see that the machine has everything, at the same moment.
    let other = "52:54:00:12:34:57";
    b.assigns(folder, &[other, "installer", "--once"])?;
    site.until(a, other, "boots profile installer")?;
    let scripts = [site.script(a, other)?, site.script(b, other)?];
    thread::scope(|scope| -> Result<()> {
        let fetched = scripts.each_ref().map(|script| {
            let site = &site;
            scope.spawn(move || site.fetch(script, "vmlinuz").and_then(|_| site.fetch(script, "initrd.img")))
        });
        for fetched in fetched {
            fetched.join().map_err(|_| anyhow::anyhow!("a panic"))??;
        }
        Ok(())
    })?;
    for at in [a, b] {
        at.netbootd.wait_for_line(&format!("{other} handed_over"), SOON)?;
        site.until(at, other, TO_DISK)?;
    }
    // An appliance knows of its own hand-over at once, and the state a moment after.
    eventually("the state has both, each once", || {
        let rows = site
            .postgres
            .sql("netbootd", "SELECT id, spent, begun FROM machines WHERE spent IS NOT NULL ORDER BY id")?;
        ensure!(rows == format!("mac:{MACHINE}|installer|\nmac:{other}|installer|"), "{rows}");
        Ok(())
    })?;
    // It is given again by a person only, and to all.
    ensure!(a.tell(folder, &["once", other])?.0 == Some(0), "it is not given again");
    site.until(b, other, "boots profile installer")?;
    Ok(())
}

#[test]
fn two_on_one_network_are_no_rivals_and_a_standby_answers_later() -> Result<()> {
    let Some(mut site) = Site::start("[dhcp]\nanswer_after = \"AFTER\"\n".replace("AFTER", "0s").as_str())? else {
        return Ok(());
    };
    let socket = site.client.enter(|| std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)))??;
    site.client.enter(|| socket2::SockRef::from(&socket).bind_device(Some(b"eth1")))??;
    socket.set_broadcast(true)?;
    socket.set_read_timeout(Some(SOON))?;
    let ask = |xid| socket.send_to(&request(DISCOVER, xid, UEFI), (Ipv4Addr::BROADCAST, 67));
    for xid in 1..=3 {
        ask(xid)?;
        let from = [next(&socket)?.1, next(&socket)?.1].map(|from| from.ip());
        ensure!(from.contains(&site.a.address.into()) && from.contains(&site.b.address.into()), "{from:?}");
    }
    for at in [&site.a, &site.b] {
        at.netbootd.wait_for_line("offer", SOON)?;
        let lines = at.netbootd.lines();
        ensure!(!lines.iter().any(|line| line.contains("another ProxyDHCP")), "{lines:?}");
    }
    // B is a standby now.
    let folder = site.lab.directory().to_owned();
    site.b.netbootd.signal(Signal::SIGTERM)?;
    site.b.netbootd.wait_exit(START)?;
    let path = folder.join("b/netbootd.toml");
    fs::write(&path, fs::read_to_string(&path)?.replace("answer_after = \"0s\"", "answer_after = \"2s\""))?;
    site.b.start_again(&folder)?;
    ask(10)?;
    ensure!(next(&socket)?.1.ip() == site.a.address, "the standby was first");
    socket.set_read_timeout(Some(Duration::from_millis(700)))?;
    ensure!(next(&socket).is_err(), "the standby answered a first request");
    socket.set_read_timeout(Some(SOON))?;
    // The machine's next try is another one for the standby after a while; here it asks twice in one try.
    site.a.kill()?;
    let began = Instant::now();
    ask(11)?;
    ensure!(next(&socket)?.1.ip() == site.b.address, "the standby does not answer");
    println!("the standby answered after {:?}", began.elapsed());
    Ok(())
}

/// Machines ask an appliance before it has heard that their installation is given again: after a report that does not
/// count, they would be installed once more.
#[test]
fn a_report_of_an_installation_that_was_given_again_elsewhere_counts() -> Result<()> {
    let Some(site) = Site::start(REPORTS)? else { return Ok(()) };
    let folder = site.lab.directory().to_owned();
    let machines: Vec<String> = (0..12).map(|n| format!("52:54:00:12:35:{n:02x}")).collect();
    for machine in &machines {
        site.script(&site.a, machine)?;
    }
    eventually("the state has all that began", || {
        let count = site.postgres.sql("netbootd", "SELECT count(*) FROM machines WHERE begun = 'reports'")?;
        ensure!(count == "12", "{count}");
        Ok(())
    })?;
    site.a.netbootd.signal(Signal::SIGSTOP)?;
    for machine in &machines {
        ensure!(site.b.tell(&folder, &["once", machine])?.0 == Some(0), "it is not given again");
    }
    thread::scope(|scope| -> Result<()> {
        let asked: Vec<_> = machines.iter().map(|machine| scope.spawn(|| site.script(&site.a, machine))).collect();
        thread::sleep(Duration::from_millis(300));
        site.a.netbootd.signal(Signal::SIGCONT)?;
        for (machine, asked) in machines.iter().zip(asked) {
            let mut script = asked.join().map_err(|_| anyhow::anyhow!("a panic"))??;
            let began = Instant::now();
            while !script.contains("\nkernel ") && began.elapsed() < HEARD {
                thread::sleep(Duration::from_millis(200));
                script = site.script(&site.a, machine)?;
            }
            site.curl(&[], report_address(&script)?)?;
        }
        Ok(())
    })?;
    for machine in &machines {
        site.until(&site.b, machine, TO_DISK)?;
    }
    Ok(())
}

/// The installer says it once, and restarts the machine.
#[test]
fn a_report_is_answered_when_it_is_kept() -> Result<()> {
    let Some(site) = Site::start(REPORTS)? else { return Ok(()) };
    let script = site.script(&site.a, MACHINE)?;
    thread::scope(|scope| {
        scope.spawn(|| site.postgres.sql("netbootd", "BEGIN; LOCK TABLE machines; SELECT pg_sleep(1.5); COMMIT"));
        eventually("the table is locked", || {
            let locks = "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock' AND relation = 'machines'::regclass";
            let count = site.postgres.sql("netbootd", locks)?;
            ensure!(count == "1", "{count}");
            Ok(())
        })?;
        let answer = site.curl(&[], report_address(&script)?)?;
        ensure!(answer == format!("recorded for {MACHINE}: installed\n").into_bytes());
        let rows = site.postgres.sql("netbootd", "SELECT spent FROM machines WHERE gone = 0")?;
        ensure!(rows == "reports", "it is answered, and lost by a kill: {rows:?}");
        Ok(())
    })
}

const REPORTS: &str = r#"
[profiles.reports]
kernel = "vmlinuz"
initrd = ["initrd.img"]
cmdline = 'ok={{ report("installed") }}'
[[machines]]
oui = "52:54:00"
profile = "reports"
once = "installed"
"#;

fn report_address(script: &str) -> Result<&str> {
    let address = script.split([' ', '\n']).find_map(|word| word.strip_prefix("ok="));
    address.with_context(|| script.to_owned())
}
