//! `up` on a terminal: what it says before it starts, what it asks, and what it saves. And what `explain` knows of a
//! machine that was seen.

use std::{
    net::{Ipv4Addr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netbootd_lab::{Process, Signal};

use crate::{
    bench::{Bench, SERVER, SOON, START, daemon},
    beside::dnsmasq,
    dhcp::{DISCOVER, IPXE, UEFI, next, request},
};

const EVERYONE: (Ipv4Addr, u16) = (Ipv4Addr::BROADCAST, 67);
const QUESTION: &str =
    "UEFI x86_64 machine 52:54:00:12:34:56 (a locally administered address) wants to boot. Allow? [y/n/always]";

/// `netbootd up ARGUMENTS` of the bench's kernel on a terminal, as script(1) makes one.
fn on_a_terminal(bench: &mut Bench, arguments: &str) -> Result<Process> {
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let assets = bench.assets.display();
    let program = env!("CARGO_BIN_EXE_netbootd");
    let line = format!(
        "stty cols 200; exec {program} up --interface eth1 {arguments} {assets}/vmlinuz {assets}/debian/initrd.img"
    );
    let mut script: Command = bench.server.command("script");
    script.env_remove("NETBOOTD_LOG").env("TERM", "xterm").args(["-q", "-e", "-f", "-c", &line, "/dev/null"]);
    let process = Process::spawn("up", &mut script)?;
    process.wait_for_line("waiting on ", START)?;
    Ok(process)
}

fn fetches_everything(bench: &Bench) -> Result<()> {
    let script = "/boot.ipxe?mac=52:54:00:12:34:56&arch=x86_64&platform=efi";
    for path in [script, "/assets/vmlinuz", "/assets/debian/initrd.img"] {
        bench.curl(&["-o", "/dev/null", "--user-agent", "iPXE/1.21.1"], path)?;
    }
    Ok(())
}

/// Asks until there is an offer: firmware repeats its DISCOVER.
fn is_offered(bench: &Bench, xid: u32) -> Result<bool> {
    let socket = bench.client_socket(68)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send_to(&request(DISCOVER, xid, UEFI), EVERYONE)?;
    Ok(next(&socket).is_ok())
}

/// A window that is closed ends what was started in it: else it would go on to boot machines, and nobody would see it.
#[test]
fn it_ends_with_its_terminal() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let up = on_a_terminal(&mut bench, "--everyone")?;
    up.signal(Signal::SIGKILL)?;
    let until = Instant::now() + SOON;
    while bench.client.enter(|| TcpStream::connect((SERVER, 8080)))?.is_ok() {
        ensure!(Instant::now() < until, "it serves on: {:?}", up.lines());
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn a_machine_that_no_rule_names_is_asked_about_and_allowed_for_one_boot() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let mut up = on_a_terminal(&mut bench, "--known")?;
    ensure!(!is_offered(&bench, 1)?, "it was answered");
    up.wait_for_line(QUESTION, SOON)?;
    // What is no answer is asked again.
    up.send(b"perhaps\n")?;
    let until = Instant::now() + SOON;
    while up.lines().iter().filter(|line| line.contains(QUESTION)).count() < 2 {
        ensure!(Instant::now() < until, "{:?}", up.lines());
        thread::sleep(Duration::from_millis(50));
    }
    up.send(b"y\n")?;
    up.wait_for_line("52:54:00:12:34:56 may boot this time", SOON)?;
    ensure!(is_offered(&bench, 2)?, "it was not answered: {:?}", up.lines());
    let socket = bench.client_socket(68)?;
    socket.send_to(&request(DISCOVER, 3, IPXE), EVERYONE)?;
    next(&socket)?;
    drop(socket);
    fetches_everything(&bench)?;
    up.wait_for_line("handed_over", SOON)?;
    // Its next boot is not allowed: it is asked about again. This time somebody answers on the page.
    let until = Instant::now() + SOON;
    while is_offered(&bench, 4)? {
        ensure!(Instant::now() < until, "it is still answered");
    }
    let until = Instant::now() + SOON;
    while up.lines().iter().filter(|line| line.contains(QUESTION)).count() < 3 {
        ensure!(Instant::now() < until, "{:?}", up.lines());
        thread::sleep(Duration::from_millis(50));
    }
    let page = "/machines/52:54:00:12:34:56/permit";
    let on_the_page = |answer: &str| -> Result<()> {
        let mut curl = bench.server.command("curl");
        curl.args(["--silent", "--show-error", "--fail", "--header", "Origin: http://localhost:8080"]);
        curl.args(["--data", &format!("permission={answer}"), &format!("http://localhost:8080{page}")]);
        let output = curl.output()?;
        ensure!(output.status.success(), "{answer}: {output:?}");
        Ok(())
    };
    on_the_page("no")?;
    up.wait_for_line("52:54:00:12:34:56 is not answered in this run", SOON)?;
    ensure!(!is_offered(&bench, 5)?, "it was answered");
    // What is typed now answers no question.
    up.send(b"always\n")?;
    on_the_page("once")?;
    ensure!(is_offered(&bench, 6)?, "it was not answered: {:?}", up.lines());
    ensure!(!up.lines().iter().any(|line| line.contains("may boot from now on")), "{:?}", up.lines());
    up.send(b"\x03")?;
    up.wait_exit(START)?;
    Ok(())
}

#[test]
fn up_says_what_matters_before_it_starts() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let mut up = on_a_terminal(&mut bench, "")?;
    let said = up.lines().join("\n");
    ensure!(said.contains("no DHCP server offers an address on eth1") && said.contains("run: sudo dnsmasq"), "{said}");
    up.send(b"\x03")?;
    up.wait_exit(START)?;

    // A leasing server, and another proxy: nobody is answered whom nobody knows.
    let host = bench.lab.host("dhcp", Some("10.77.0.1/24"))?;
    let _leasing = dnsmasq(&bench.lab, &host, &["--dhcp-range=10.77.0.50,10.77.0.60,1h"])?;
    let other = bench.lab.host("other", Some("10.77.0.3/24"))?;
    let other = Process::spawn("other", daemon(&other).args(["up", "--interface", "eth1"]))?;
    other.wait_for_line("waiting on ", START)?;
    bench.netbootd = bench.again()?;
    let mut up = on_a_terminal(&mut bench, "")?;
    up.wait_for_line("another ProxyDHCP server answers on this network: 10.77.0.3", SOON)?;
    up.wait_for_line("only known machines are answered, because of that server; --everyone answers all", SOON)?;
    is_offered(&bench, 1)?;
    up.wait_for_line(QUESTION, SOON)?;
    up.send(b"\x03")?;
    up.wait_exit(START)?;
    bench.netbootd = bench.again()?;
    let mut up = on_a_terminal(&mut bench, "--everyone")?;
    ensure!(!up.lines().iter().any(|line| line.contains("only known machines")), "{:?}", up.lines());
    up.send(b"\x03")?;
    up.wait_exit(START)?;
    Ok(())
}

/// Nobody else was there when it started.
#[test]
fn another_proxy_that_comes_later_makes_up_answer_only_known_machines() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let other = bench.lab.host("other", Some("10.77.0.3/24"))?;
    for (flags, is_careful) in [("", true), ("--everyone", false)] {
        let mut up = on_a_terminal(&mut bench, flags)?;
        ensure!(is_offered(&bench, 1)?, "{flags}: it was not answered: {:?}", up.lines());
        let faults = |bench: &Bench| bench.curl(&["--user-agent", "Mozilla/5.0"], "/");
        ensure!(!String::from_utf8_lossy(&faults(&bench)?).contains("another ProxyDHCP server answers here"));
        let proxy = ["--dhcp-range=10.77.0.0,proxy", "--pxe-service=X86-64_EFI,another,other.efi"];
        let rival = dnsmasq(&bench.lab, &other, &proxy)?;
        is_offered(&bench, 2)?;
        up.wait_for_line("another ProxyDHCP server answers network boots here: 10.77.0.3", SOON)?;
        // From us alone: the other one would answer too.
        drop(rival);
        let words = "only known machines are answered from now on, because of 10.77.0.3; --everyone answers all";
        if is_careful {
            up.wait_for_line(words, SOON)?;
            ensure!(!is_offered(&bench, 3)?, "it was answered");
            up.wait_for_line(QUESTION, SOON)?;
            let shown = faults(&bench)?;
            let shown = String::from_utf8_lossy(&shown);
            ensure!(shown.contains("another ProxyDHCP server answers here: 10.77.0.3"), "{shown}");
            up.send(b"y\n")?;
            up.wait_for_line("52:54:00:12:34:56 may boot this time", SOON)?;
        }
        ensure!(is_offered(&bench, 4)?, "{flags}: it was not answered: {:?}", up.lines());
        ensure!(is_careful || !up.lines().iter().any(|line| line.contains(words)), "{:?}", up.lines());
        up.send(b"\x03")?;
        up.wait_exit(START)?;
        bench.netbootd = bench.again()?;
    }
    Ok(())
}

#[test]
fn without_a_terminal_nobody_is_asked_and_what_is_saved_comes_back_the_same() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let saved = bench.lab.directory().join("saved.toml");
    let kernel = bench.assets.join("vmlinuz");
    std::fs::write(&kernel, crate::ward::kernel())?;
    let mut command = daemon(&bench.server);
    command.args(["up", "--interface", "eth1", "--http-port", "8080", "--known", "--save"]).arg(&saved).arg(&kernel);
    command.args(["--", "console=ttyS0", "a=\"b c\""]);
    let mut up = Process::spawn("up", &mut command)?;
    up.wait_for_line("waiting on ", START)?;
    ensure!(!is_offered(&bench, 1)?, "it was answered");
    up.wait_for_line("no rule names this machine", SOON)?;
    let said = up.lines().join("\n");
    ensure!(!said.contains("wants to boot"), "{said}");
    ensure!(said.contains("sudo systemctl enable --now netbootd") && said.contains("serves every file in"), "{said}");
    up.signal(Signal::SIGTERM)?;
    up.wait_exit(START)?;
    let checked = daemon(&bench.server).args(["check", "--config"]).arg(&saved).output()?;
    ensure!(checked.status.success(), "{checked:?}");
    // It boots the same.
    let explained = |arguments: &[&str]| -> Result<String> {
        let mut command = daemon(&bench.server);
        command.args(["explain", "--mac", "52:54:00:12:34:56", "--interface", "eth1", "--config"]).arg(&saved);
        Ok(String::from_utf8(command.args(arguments).output()?.stdout)?)
    };
    let text = explained(&[])?;
    ensure!(text.contains("refused: no rule names this machine"), "{text}");
    let text = std::fs::read_to_string(&saved)?;
    ensure!(text.contains("[profiles.command-line]") && text.contains("interfaces = [\"eth1\"]"), "{text}");
    ensure!(text.contains("a=\\\"b c\\\"") || text.contains("a=\"b c\""), "{text}");
    Ok(())
}

#[test]
fn a_machine_that_was_seen_is_explained_by_what_the_server_knows_of_it() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let socket = bench.client_socket(68)?;
    let bios: &[(u8, &[u8])] = &[(60, b"PXEClient"), (93, &[0, 0])];
    socket.send_to(&request(DISCOVER, 1, bios), EVERYONE)?;
    next(&socket)?;
    bench.netbootd.wait_for_line("discover     BIOS", SOON)?;
    let explained = |machine: &str| -> Result<String> {
        let mut command = daemon(&bench.server);
        command
            .args(["explain", machine, "--interface", "eth1", "--config"])
            .arg(bench.lab.directory().join("netbootd.toml"));
        let output = command.output()?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{machine}: {printed}");
        Ok(String::from_utf8(output.stdout)?)
    };
    for name in ["52:54:00:12:34:56", "5254.0012.3456"] {
        let text = explained(name)?;
        ensure!(text.contains("\nBIOS asks by DHCP\n") && text.contains("gets: undionly.kpxe by TFTP"), "{text}");
    }
    // One that was not seen is taken for UEFI.
    let text = explained("52:54:00:00:00:99")?;
    ensure!(text.contains("UEFI x86_64 asks by DHCP"), "{text}");
    let unknown = explained("k8s99").err().context("an unknown name is explained")?.to_string();
    ensure!(unknown.contains("k8s99"), "{unknown}");
    Ok(())
}
