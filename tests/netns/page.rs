//! The status page in a browser, beside machines that boot, pause and lose their link for real.

use std::{env, fs, io::Read, net::SocketAddrV4, path::PathBuf, thread};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{BROWSER_TOOLS, Browser, Captured, Signal, receive, required};

use crate::bench::{Bench, SERVER, SMALL, SOON, noise};

/// Slow enough to be seen, and dead after 5 s instead of 150.
const SETTINGS: &[(&str, &str)] = &[
    ("NETBOOTD_HTTP__RATE_LIMIT", "3MB"),
    ("NETBOOTD_HTTP__KEEPALIVE__IDLE", "1s"),
    ("NETBOOTD_HTTP__KEEPALIVE__INTERVAL", "1s"),
    ("NETBOOTD_HTTP__KEEPALIVE__PROBES", "2"),
    ("NETBOOTD_HTTP__KEEPALIVE__DEAD_AFTER", "5s"),
];
const INITRD: &str = "/assets/debian/initrd.img";

/// A bench and a browser on the server's own host, with the page open. Fields are dropped in this order.
struct Watched {
    browser: Browser,
    bench: Bench,
}

impl Watched {
    fn start() -> Result<Option<Self>> {
        let Some(()) = required(&[BROWSER_TOOLS]) else { return Ok(None) };
        let Some(bench) = Bench::start_with(SETTINGS)? else { return Ok(None) };
        let mut browser = Browser::start(&bench.server)?;
        browser.look(false, 1280)?;
        browser.open(&format!("http://{SERVER}:8080/"))?;
        ensure!(browser.text()?.contains(&format!("netbootd listens on eth1 ({SERVER})")), "{}", browser.text()?);
        Ok(Some(Self { browser, bench }))
    }

    /// Waits until the page reads so, and keeps a picture of it for people.
    fn reads(&mut self, words: &str, picture: &str) -> Result<()> {
        let rows = "document.getElementById('rows').innerText.replace(/\\s+/g, ' ')";
        self.browser
            .wait_until(&format!("{rows}.includes({words:?})"))
            .with_context(|| format!("{picture}: netbootd printed:\n{}", self.bench.netbootd.lines().join("\n")))?;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pictures");
        fs::create_dir_all(&folder)?;
        self.browser.screenshot(&folder.join(format!("lab-{picture}.png")))
    }

    /// A machine's first packets, as its firmware sends them, and iPXE's.
    fn asks(&self) -> Result<String> {
        let socket = self.bench.client_socket(68)?;
        let discover = Captured::named("ovmf-pxe-discover")?.from_machine(7);
        socket.send_to(&discover, SocketAddrV4::new([255, 255, 255, 255].into(), 67))?;
        receive(&socket, &mut [0; 1500])?;
        let mac: Vec<String> = discover[28..34].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(mac.join(":"))
    }

    fn fetches_script(&self, mac: &str) -> Result<()> {
        let script = self.bench.curl(&[], &format!("/boot.ipxe?mac={mac}&arch=x86_64&platform=efi"))?;
        ensure!(String::from_utf8(script)?.contains("boots profile command-line"));
        Ok(())
    }
}

#[test]
fn a_boot_is_seen_from_its_first_packet_to_its_hand_over() -> Result<()> {
    let Some(mut watched) = Watched::start()? else { return Ok(()) };
    let mac = watched.asks()?;
    watched.reads("UEFI x86_64", "1-discover")?;
    watched.fetches_script(&mac)?;
    watched.bench.curl(&["-o", "/dev/null"], "/assets/vmlinuz")?;
    thread::scope(|scope| {
        let bench = &watched.bench;
        let initrd = scope.spawn(|| bench.curl(&["-o", "/dev/null"], INITRD));
        let browser = &mut watched.browser;
        browser.wait_until("document.querySelector('progress')?.position > 0.2")?;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pictures");
        browser.screenshot(&folder.join("lab-2-initrd.png"))?;
        let text = browser.text()?;
        ensure!(text.contains("debian/initrd.img") && text.contains(" of 24.0 MB"), "{text}");
        initrd.join().expect("no panic").map(drop)
    })?;
    watched.browser.wait_until("document.querySelector('.row').dataset.state === 'handed_over'")?;
    watched.reads("Handed over Boots next: command-line", "3-handed-over")?;
    watched.browser.open(&format!("http://{SERVER}:8080/machines/{mac}"))?;
    let text = watched.browser.text()?;
    for stage in ["Discover", "Offer", "Script", "Kernel", "Initrd", "Handed over"] {
        ensure!(text.contains(stage), "{stage} is missing:\n{text}");
    }
    // From this address nobody may change anything, since no token is set.
    ensure!(text.contains("Changes need the server's own host"), "{text}");
    ensure!(watched.browser.complaints().is_empty(), "{:?}", watched.browser.complaints());
    // A page is followed live, and the API's events are; a server that stops does not wait for who looks.
    let _events = watched.bench.get("/api/v1/events", None)?;
    watched.bench.netbootd.signal(Signal::SIGTERM)?;
    let status = watched.bench.netbootd.wait_exit(SOON)?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(watched.bench.netbootd.lines().iter().any(|line| line.ends_with(" stopped")), "cut off");
    Ok(())
}

#[test]
fn a_machine_that_pauses_is_slow_but_alive_and_one_without_a_link_is_dead() -> Result<()> {
    let Some(mut watched) = Watched::start()? else { return Ok(()) };
    // At 3 MB/s it lasts until the page has shown that it goes on, and the cable is pulled.
    fs::write(watched.bench.assets.join("vmlinuz"), noise(30_000_000, 1))?;
    let mac = watched.asks()?;
    watched.fetches_script(&mac)?;
    let mut stream = watched.bench.get("/assets/vmlinuz", Some(SMALL))?;
    stream.read_exact(&mut [0; 100_000])?;
    watched.reads("Slow but alive", "4-paused")?;
    watched.reads("the client is alive and asked the server to wait", "4-paused")?;
    thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
    watched.browser.wait_until("document.querySelector('.row').dataset.state === 'booting'")?;
    watched.bench.client.ip(&["link", "set", "eth1", "down"])?;
    watched.reads("Stopped at Kernel: Dead: no acknowledgement of any kind for", "5-dead")?;
    watched.reads("To fix it: Check its power and its cable", "5-dead")?;
    watched.browser.look(true, 390)?;
    watched.reads("Stopped", "5-dead-phone")?;
    Ok(())
}

/// With the headers that a browser sends to an address that it does not trust: plain HTTP, and not its own host.
#[test]
fn a_browser_elsewhere_signs_in_and_assigns() -> Result<()> {
    let Some(()) = required(&[BROWSER_TOOLS]) else { return Ok(()) };
    let token = "0123456789abcdef";
    let Some(bench) = Bench::with_configuration(&format!("[control]\ntoken = \"{token}\"\n"))? else { return Ok(()) };
    let (mut browser, machine) = (Browser::start(&bench.client)?, "/machines/52:54:00:12:34:56");
    browser.open(&format!("http://{SERVER}:8080{machine}"))?;
    ensure!(browser.text()?.contains("Sign in with the token to assign it another profile."), "{}", browser.text()?);
    browser.open(&format!("http://{SERVER}:8080/sign-in"))?;
    browser.eval(&format!("token.value = '{token}'; token.form.requestSubmit()"))?;
    browser.wait_until("location.pathname === '/' && document.querySelector('.may-change')")?;
    ensure!(browser.eval("document.cookie")? == "", "a script can read it");
    browser.open(&format!("http://{SERVER}:8080{machine}"))?;
    browser.eval("profile.value = 'shell'; document.querySelector('[value=once]').click()")?;
    browser.wait_until("location.search === '?done=once'")?;
    ensure!(browser.text()?.contains("shell assigned, once"), "{}", browser.text()?);
    let script = bench.curl(&[], "/boot.ipxe?mac=52:54:00:12:34:56&arch=x86_64&platform=efi")?;
    ensure!(String::from_utf8(script)?.contains("\nshell\n"), "it was not assigned");
    browser.eval(
        "[...document.querySelectorAll('button')].find(b => b.textContent.trim() === 'Remove the assignment').click()",
    )?;
    browser.wait_until("location.search === '?done=unassigned'")?;
    ensure!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    Ok(())
}
