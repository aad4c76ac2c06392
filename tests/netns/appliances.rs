//! Several appliances with one state: two netbootd and Debian's PostgreSQL on one network.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
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

#[test]
fn a_machine_whose_installation_an_appliance_began_that_is_silent_is_not_installed_again() -> Result<()> {
    let Some(mut site) = Site::start("[[machines]]\noui = \"52:54:00\"\nprofile = \"installer\"\nonce = true\n")?
    else {
        return Ok(());
    };
    let folder = site.lab.directory().to_owned();
    let (begun, other, third) = (MACHINE, "52:54:00:12:34:57", "52:54:00:12:34:58");
    // Killed in the middle: nobody knows whether the machine had everything.
    let script = site.script(&site.a, begun)?;
    site.fetch(&script, "vmlinuz")?;
    site.until(&site.b, begun, "boots profile installer")?;
    eventually("the state knows that it began", || {
        let by = site.postgres.sql("netbootd", "SELECT begun_by FROM machines")?;
        ensure!(by == "a", "{by}");
        Ok(())
    })?;
    site.a.kill()?;
    site.until(&site.b, begun, "the appliance a gave the machine its script and is silent since")?;
    // Another machine is installed by the one that is left.
    site.boots(&site.b, other)?;
    site.until(&site.b, other, TO_DISK)?;
    // A person may say that it is to be.
    ensure!(site.b.tell(&folder, &["once", begun])?.0 == Some(0), "it is not given again");
    site.until(&site.b, begun, "boots profile installer")?;
    // One that comes back says that there was no hand-over.
    site.a.start_again(&folder)?;
    site.until(&site.a, other, TO_DISK)?;
    site.script(&site.a, third)?;
    eventually("the state knows that it began", || {
        let by = site.postgres.sql("netbootd", "SELECT count(*) FROM machines WHERE begun_by = 'a'")?;
        ensure!(by == "1", "{by}");
        Ok(())
    })?;
    site.a.kill()?;
    site.until(&site.b, third, "is silent since")?;
    site.a.start_again(&folder)?;
    site.until(&site.b, third, "boots profile installer")?;
    Ok(())
}

#[test]
fn a_partition_stops_no_boot_and_installs_nothing_twice() -> Result<()> {
    let Some(mut site) = Site::start("")? else { return Ok(()) };
    let folder = site.lab.directory().to_owned();
    let (once, late, plain) = (MACHINE, "52:54:00:12:34:57", "52:54:00:12:34:58");
    for machine in [once, late] {
        site.a.assigns(&folder, &[machine, "installer", "--once"])?;
    }
    site.a.assigns(&folder, &[plain, "shell"])?;
    site.until(&site.b, plain, "iPXE shell for ")?;
    let script = site.script(&site.a, once)?;
    eventually("the state knows that it began", || {
        ensure!(site.postgres.sql("netbootd", "SELECT count(*) FROM machines WHERE begun_by = 'a'")? == "1");
        Ok(())
    })?;
    site.a.cut_off()?;
    // The hand-over is seen behind the partition.
    site.fetch(&script, "vmlinuz")?;
    site.fetch(&script, "initrd.img")?;
    site.a.netbootd.wait_for_line(&format!("{once} handed_over"), SOON)?;
    site.a.netbootd.wait_for_line(LOST, HEARD)?;
    // There: what was known is booted, and nothing for one boot. Here: what began there is left alone.
    site.until(&site.a, plain, "iPXE shell for ")?;
    site.until(&site.a, late, "it is not known whether it already did: its server cannot be reached")?;
    site.until(&site.a, once, TO_DISK)?;
    site.until(&site.b, once, "is silent since")?;
    site.until(&site.b, late, "boots profile installer")?;
    let (code, words) = site.a.tell(&folder, &["assign", plain, "local"])?;
    ensure!(
        code == Some(69) && words.contains("the state could not be written, so nothing was changed"),
        "{code:?} {words}"
    );
    site.until(&site.a, plain, "iPXE shell for ")?;
    // Killed there, and started: what it saw is not forgotten.
    site.a.kill()?;
    site.a.start_again(&folder)?;
    site.until(&site.a, once, TO_DISK)?;
    site.until(&site.a, plain, "iPXE shell for ")?;
    site.boots(&site.b, late)?;
    site.a.heal()?;
    for at in [&site.a, &site.b] {
        site.until(at, once, TO_DISK)?;
        site.until(at, late, TO_DISK)?;
    }
    site.a.netbootd.wait_for_line("the server that keeps the state answers again", HEARD)?;
    // The other way: the link of the database goes, for both.
    site.database.ip(&["link", "set", "eth1", "down"])?;
    for at in [&site.a, &site.b] {
        at.netbootd.wait_for_line(LOST, HEARD)?;
    }
    site.until(&site.b, plain, "iPXE shell for ")?;
    site.boots(&site.b, "52:54:00:12:34:60")?;
    site.database.ip(&["link", "set", "eth1", "up"])?;
    eventually("it can be assigned again", || site.b.assigns(&folder, &[plain, "local"]))?;
    site.until(&site.a, plain, TO_DISK)?;
    Ok(())
}

/// Who restores a backup of the database does not mean that all machines since then are installed again.
#[test]
fn a_machine_that_a_restored_backup_does_not_know_is_not_installed_again() -> Result<()> {
    let Some(site) = Site::start("[[machines]]\noui = \"52:54:00\"\nprofile = \"installer\"\nonce = true\n")? else {
        return Ok(());
    };
    site.boots(&site.a, MACHINE)?;
    site.until(&site.b, MACHINE, TO_DISK)?;
    site.postgres.sql("netbootd", "BEGIN; DELETE FROM machines; UPDATE revision SET number = 0; COMMIT")?;
    site.a.netbootd.wait_for_line("the state went back from change", HEARD)?;
    for at in [&site.a, &site.b] {
        site.until(at, MACHINE, TO_DISK)?;
    }
    eventually("the state knows it again", || {
        let rows = site.postgres.sql("netbootd", "SELECT spent FROM machines WHERE gone = 0")?;
        ensure!(rows == "installer", "{rows}");
        Ok(())
    })
}

/// The others install machines of which it hears nothing.
#[test]
fn an_appliance_that_was_cut_off_or_stopped_a_moment_ago_gives_no_one_time_profile() -> Result<()> {
    let Some(mut site) = Site::start("[[machines]]\noui = \"52:54:00\"\nprofile = \"installer\"\nonce = true\n")?
    else {
        return Ok(());
    };
    let (first, second) = (MACHINE, "52:54:00:12:34:57");
    // Nobody has noticed it yet, and what begins could not be told.
    site.a.cut_off()?;
    let script = site.script(&site.a, first)?;
    ensure!(!script.contains("boots profile installer"), "the others do not know of it: {script}");
    site.boots(&site.b, first)?;
    site.a.netbootd.wait_for_line(LOST, HEARD)?;
    site.a.heal()?;
    site.a.netbootd.wait_for_line("the server that keeps the state answers again", HEARD)?;
    site.until(&site.a, first, TO_DISK)?;
    // It does not know that it was stopped, and is asked before it can hear of anything.
    site.a.netbootd.signal(Signal::SIGSTOP)?;
    thread::sleep(Duration::from_secs(5));
    site.boots(&site.b, second)?;
    let scripts = thread::scope(|scope| -> Result<Vec<String>> {
        let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| site.script(&site.a, second))).collect();
        thread::sleep(Duration::from_secs(1));
        site.a.netbootd.signal(Signal::SIGCONT)?;
        asked.into_iter().map(|asked| asked.join().map_err(|_| anyhow::anyhow!("a panic"))?).collect()
    })?;
    for script in scripts {
        ensure!(!script.contains("boots profile installer"), "it is installed again: {script}");
    }
    site.until(&site.a, second, TO_DISK)?;
    site.a.kill()
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

#[test]
fn why_the_database_refuses_is_told_with_the_fix() -> Result<()> {
    let Some(site) = Site::start("")? else { return Ok(()) };
    site.postgres.sql("postgres", "ALTER DATABASE netbootd SET default_transaction_read_only = on")?;
    site.postgres
        .sql("postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'netbootd'")?;
    site.a.netbootd.wait_for_line("name the primary server with state.url", HEARD)?;
    site.postgres.sql("postgres", "ALTER DATABASE netbootd RESET default_transaction_read_only")?;
    site.a.netbootd.wait_for_line("the server that keeps the state answers again", HEARD)?;
    site.postgres.sql("postgres", "DROP DATABASE netbootd WITH (FORCE)")?;
    site.postgres.sql("postgres", "CREATE DATABASE netbootd OWNER netbootd")?;
    site.a.netbootd.wait_for_line("start netbootd again, which makes its tables", HEARD).map(drop)
}

#[test]
fn a_database_that_dies_or_is_not_there_at_the_start_stops_no_boot() -> Result<()> {
    let Some(mut site) = Site::start("")? else { return Ok(()) };
    let folder = site.lab.directory().to_owned();
    site.a.assigns(&folder, &[MACHINE, "installer"])?;
    site.until(&site.b, MACHINE, "boots profile installer")?;
    site.postgres.kill()?;
    site.boots(&site.b, MACHINE)?;
    site.b.netbootd.wait_for_line(LOST, HEARD)?;
    site.b.kill()?;
    site.b.start_again(&folder)?;
    site.until(&site.b, MACHINE, "boots profile installer")?;
    let (code, words) = site.b.tell(&folder, &["approve", MACHINE])?;
    ensure!(code == Some(69) && words.contains("nothing was changed"), "{code:?} {words}");
    // With nothing known at all.
    site.b.kill()?;
    for file in fs::read_dir(folder.join("b"))?.flatten().filter(|file| file.file_name() != "netbootd.toml") {
        fs::remove_file(file.path())?;
    }
    site.b.start_again(&folder)?;
    site.boots(&site.b, "52:54:00:12:34:57")?;
    site.postgres.start_again()?;
    eventually("it can be assigned again", || site.b.assigns(&folder, &[MACHINE, "shell"]))?;
    site.until(&site.a, MACHINE, "iPXE shell for ")?;
    for at in [&site.a, &site.b] {
        for line in at.netbootd.lines() {
            ensure!(!line.contains(Postgres::PASSWORD), "the password is in the log: {line}");
        }
    }
    Ok(())
}

/// Each is killed at any moment, the database too: what was acknowledged is there, on both. [`ROUNDS`] here; a thousand
/// with `cargo test --test netns -- --ignored a_thousand_kills_of_appliances`.
#[test]
fn what_was_acknowledged_by_either_outlives_any_kill() -> Result<()> {
    kills(ROUNDS, 0)
}

#[test]
#[ignore = "takes most of an hour"]
fn a_thousand_kills_of_appliances() -> Result<()> {
    // Each kill has a hundred machines of its own: in one site, the last ones would mostly measure how long a start with
    // sixty thousand machines takes.
    for seed in 1..=5 {
        kills(200, seed)?;
        println!("{} kills", 200 * seed);
    }
    Ok(())
}

const ROUNDS: u32 = 20;

fn kills(rounds: u32, seed: u64) -> Result<()> {
    let Some(mut site) = Site::start("")? else { return Ok(()) };
    let folder = site.lab.directory().to_owned();
    let mut random = noise(rounds as usize * 3, 6 + seed).into_iter().map(u64::from);
    let mut dice = move || random.next().unwrap_or_default();
    for round in 0..rounds {
        let profile = ["local", "shell", "menu", "installer"][dice() as usize % 4];
        let mac = |number: u32| {
            let [_, high, low, last] = (round << 8 | number).to_be_bytes();
            format!("02:00:00:{high:02x}:{low:02x}:{last:02x}")
        };
        // On both, one call after the other, until one of the three is gone; those that were answered count.
        let calls = |at: &Appliance, from: u32| -> Result<Process> {
            let url = format!("http://127.0.0.1:8080/api/v1/machines/{}", mac(0).trim_end_matches("00"));
            let (header, body) = ("Content-Type: application/json", format!("'{{\"profile\":\"{profile}\"}}'"));
            let mut shell = at.host.command("sh");
            shell.args(["-c", &format!(
                "n={from}; while curl -sf --max-time 20 -o /dev/null -X PUT -H '{header}' -d {body} {url}$(printf %02x $n)/assignment; do echo $n; n=$((n+1)); [ $n -lt {} ] || exit 0; done; echo end",
                from + 100,
            )]);
            let calls = Process::spawn("calls", &mut shell)?;
            calls.wait_for_line(&from.to_string(), HEARD)?;
            Ok(calls)
        };
        let mut running = [calls(&site.a, 0)?, calls(&site.b, 100)?];
        thread::sleep(Duration::from_millis(dice()));
        match dice() % 3 {
            0 => {
                site.a.kill()?;
                site.a.start_again(&folder)?;
            }
            1 => {
                site.b.kill()?;
                site.b.start_again(&folder)?;
            }
            _ => {
                site.postgres.kill()?;
                site.postgres.start_again()?;
            }
        }
        let mut acknowledged = Vec::new();
        for calls in &mut running {
            calls.wait_exit(Duration::from_secs(60))?;
            acknowledged.extend(calls.lines().iter().filter_map(|line| line.parse::<u32>().ok()).map(mac));
        }
        let kept = site.postgres.sql("netbootd", &format!("SELECT id FROM machines WHERE profile = '{profile}'"))?;
        for mac in &acknowledged {
            ensure!(kept.contains(mac), "round {round}: {mac} was acknowledged and is lost");
        }
        let Some(last) = acknowledged.last() else { bail!("round {round}: nothing was acknowledged") };
        for at in [&site.a, &site.b] {
            eventually(&format!("{} knows {last}", at.name), || {
                let (_, machine) = at.tell(&folder, &["machines", last, "--json"])?;
                ensure!(machine.contains(&format!("\"profile\": \"{profile}\"")), "{machine}");
                Ok(())
            })?;
        }
    }
    Ok(())
}
