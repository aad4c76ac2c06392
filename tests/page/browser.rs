//! The page in headless Chromium.

use std::{
    env, fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd::{
    boot::over::Of,
    status::access::Via,
    timeline::event::{Request, What},
};
use netbootd_lab::{BROWSER_TOOLS, Browser, Captured, Lab, NETWORK_TOOLS, required};

use crate::{
    routes::crowd as thousand,
    server::{Fake, Stand, dead, discover, fetched, paused, progress},
};

/// A page and a browser on one host of a lab. Fields are dropped in this order.
struct Window {
    browser: Browser,
    stand: Stand,
    url: String,
    _lab: Lab,
}

impl Window {
    fn open() -> Result<Option<Self>> {
        let Some(()) = required(&[NETWORK_TOOLS, BROWSER_TOOLS]) else { return Ok(None) };
        let lab = Lab::new()?;
        let host = lab.host("viewer", None)?;
        let listener = host.enter(|| std::net::TcpListener::bind("127.0.0.1:0"))??;
        let stand = Stand::on(listener, Via::Tcp([127, 0, 0, 1].into()))?;
        let url = format!("http://{}", stand.address);
        Ok(Some(Self { browser: Browser::start(&host)?, stand, url, _lab: lab }))
    }

    /// Keeps a picture for people to look at, in each light and width.
    fn pictures(&mut self, name: &str) -> Result<()> {
        for (look, dark, width) in [("light", false, 1280), ("dark", true, 1280), ("phone", false, 390)] {
            self.browser.look(dark, width)?;
            let wide = self.browser.eval("document.documentElement.scrollWidth")?;
            ensure!(wide.as_u64() <= Some(u64::from(width)), "{name} is {wide} pixels wide on {width}");
            self.browser.screenshot(&pictures()?.join(format!("{name}-{look}.png")))?;
        }
        self.browser.look(false, 1280)
    }
}

/// Below the target folder.
fn pictures() -> Result<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A hall with one machine of each kind.
fn crowd(fake: &Fake) {
    fake.starts(1, 25, "UEFI x86_64", "debian");
    fake.sees(1, 20, fetched(Of::Asset, "debian/vmlinuz", 14_200_000));
    fake.sees(1, 0, progress("debian/initrd.img", 61_000_000, 168_000_000, 9_400_000));
    fake.starts(2, 240, "UEFI x86_64", "debian");
    fake.sees(2, 200, fetched(Of::Asset, "debian/vmlinuz", 14_200_000));
    fake.sees(2, 40, dead("debian/initrd.img", 61_000_000, 168_000_000));
    fake.starts(3, 200, "UEFI HTTP x86_64", "ubuntu");
    fake.sees(3, 30, paused("debian/vmlinuz", 9_000_000, 14_200_000, 12));
    fake.starts(4, 900, "BIOS", "debian");
    fake.sees(4, 880, fetched(Of::Asset, "debian/vmlinuz", 14_200_000));
    fake.sees(4, 870, fetched(Of::Asset, "debian/initrd.img", 168_000_000));
    for _ in 0..6 {
        fake.sees(5, 70, discover("BIOS"));
    }
    fake.sees(6, 2, discover("UEFI ARM64"));
    let request = Captured::named("ovmf-pxe-discover").expect("a captured packet").request;
    fake.sees(2, 240, What::Request(Box::new(Request::new(67, &request))));
}

#[test]
fn people_see_every_kind_of_machine() -> Result<()> {
    let Some(mut window) = Window::open()? else { return Ok(()) };
    let url = window.url.clone();
    let rules = window.stand.fake.live.rules.swap(std::sync::Arc::default());
    window.browser.open(&url)?;
    let text = window.browser.text()?;
    ensure!(text.contains("Waiting for the first machine\n\nnetbootd listens on eth1 (10.77.0.2)"), "{text}");
    window.pictures("empty")?;
    // The first machine comes while the page is open.
    window.stand.fake.sees(6, 0, discover("UEFI ARM64"));
    window.browser.wait_until("document.querySelector('.row') && document.getElementById('empty').hidden")?;
    window.stand.fake.live.rules.store(rules);
    crowd(&window.stand.fake);
    window.browser.open(&url)?;
    window.pictures("crowd")?;
    for (number, name) in [(1, "booting"), (2, "dead")] {
        window.browser.open(&format!("{url}/machines/52:54:00:6c:62:0{number}"))?;
        window.pictures(name)?;
    }
    window.browser.eval("document.querySelectorAll('details').forEach(details => details.open = true)")?;
    let text = window.browser.text()?;
    ensure!(text.contains("60 vendor class\nPXEClient:Arch:00007:UNDI:003000"), "{text}");
    window.pictures("packet")?;
    ensure!(window.browser.complaints().is_empty(), "{:?}", window.browser.complaints());
    Ok(())
}

/// A filter and a focus stay while the rows around them change.
#[test]
fn the_page_keeps_itself_up_to_date_under_its_readers_hands() -> Result<()> {
    let Some(mut window) = Window::open()? else { return Ok(()) };
    crowd(&window.stand.fake);
    let url = window.url.clone();
    window.browser.open(&url)?;
    let browser = &mut window.browser;
    browser.eval("row = document.getElementById('m-52:54:00:6c:62:06'); row.querySelector('h2 a').focus()")?;
    browser.eval("q = document.getElementById('q'); q.value = 'ARM64'; q.dispatchEvent(new Event('input'))")?;
    let shown = "[...document.querySelectorAll('.row')].filter(row => !row.hidden).length";
    ensure!(browser.eval(shown)? == 1, "{}", browser.text()?);
    browser.wait_until("!isSearching")?;
    window.stand.fake.sees(6, 0, dead("arm64/vmlinuz", 5_000_000, 9_000_000));
    window.stand.fake.sees(8, 0, discover("UEFI ARM64"));
    browser.wait_until("row.dataset.state === 'stopped'")?;
    browser.wait_until("document.querySelector('#summary .is-stopped b').textContent === '3'")?;
    ensure!(browser.eval("row.isConnected && row.contains(document.activeElement)")? == true, "it lost the focus");
    ensure!(browser.eval(shown)? == 2, "the filter was lost: {}", browser.text()?);
    browser.wait_until("document.getElementById('news').textContent.includes('52:54:00:6c:62:08: Booting')")?;
    window.stand.fake.sees(8, 0, dead("arm64/vmlinuz", 5_000_000, 9_000_000));
    browser.wait_until("document.querySelector('#summary .is-stopped b').textContent === '4'")?;
    ensure!(browser.eval("row === document.querySelector('.row')")? == true, "it moved under the hand that is on it");
    browser.eval("document.activeElement.blur()")?;
    window.stand.fake.sees(9, 0, discover("BIOS"));
    browser.wait_until("row !== document.querySelector('.row')")?;
    // The server has gone: the page says so, and stays.
    window.stand.stop.cancel();
    window.browser.wait_until("!document.getElementById('link').hidden")?;
    ensure!(window.browser.text()?.contains("No connection to the server; trying again"));
    Ok(())
}

/// A list of many machines has the first of them only.
#[test]
fn what_is_typed_is_looked_for_among_all_machines() -> Result<()> {
    let Some(mut window) = Window::open()? else { return Ok(()) };
    thousand(&window.stand.fake, 1000);
    let url = window.url.clone();
    let browser = &mut window.browser;
    browser.open(&url)?;
    let shown = "[...document.querySelectorAll('.row:not([hidden])')].map(row => row.dataset.name).join()";
    let types = |text: &str| format!("q.value = '{text}'; q.dispatchEvent(new Event('input'))");
    browser.eval("q = document.getElementById('q')")?;
    let there = browser.eval("[...document.querySelectorAll('.row')].map(row => row.dataset.name)")?;
    let there = there.as_array().context("rows")?.iter().filter_map(|name| name.as_str()).collect::<Vec<_>>();
    let other = (0..1000_u16).map(|number| format!("52:54:01:00:{:02x}:{:02x}", number >> 8, number & 255));
    let other = other.into_iter().find(|name| !there.contains(&name.as_str())).context("all are there")?;
    browser.eval(&types(&other.replace(':', "-").to_uppercase()))?;
    ensure!(browser.eval("document.getElementById('none').hidden")? == true, "nobody has looked for it yet");
    browser.wait_until(&format!("{shown} === '{other}'"))?;
    ensure!(browser.eval("location.search")? == format!("?q={}", other.replace(':', "-").to_uppercase()));
    // Not each of them is news.
    ensure!(browser.eval("document.getElementById('news').textContent")? == "");
    browser.eval(&types("nowhere"))?;
    browser.wait_until("!document.getElementById('none').hidden")?;
    browser.eval(&types(""))?;
    browser.wait_until("document.querySelectorAll('.row').length === 200")?;
    ensure!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    Ok(())
}

/// Nothing arrives any more, and no connection breaks: a cable was pulled somewhere, or the machine slept.
#[test]
fn a_server_that_is_silent_is_missed() -> Result<()> {
    let Some(mut window) = Window::open()? else { return Ok(()) };
    crowd(&window.stand.fake);
    let url = window.url.clone();
    let browser = &mut window.browser;
    browser.open(&url)?;
    browser.wait_until("source && source.readyState === EventSource.OPEN")?;
    browser.eval("before = source; source.onopen = null; heard -= 41_000")?;
    browser.wait_until("source !== before && source.readyState === EventSource.OPEN")?;
    browser.wait_until("document.getElementById('link').hidden")?;
    ensure!(browser.text()?.contains("rack1-node02"));
    // A clock that is set meanwhile: the server's time comes with each message.
    browser.eval("skew = 3_600_000")?;
    window.stand.fake.sees(6, 0, discover("UEFI ARM64"));
    window.browser.wait_until("Math.abs(skew) < 60_000")?;
    Ok(())
}

#[test]
fn a_keyboard_and_a_screen_reader_do_everything() -> Result<()> {
    let Some(mut window) = Window::open()? else { return Ok(()) };
    crowd(&window.stand.fake);
    let url = window.url.clone();
    window.browser.open(&url)?;
    let browser = &mut window.browser;
    let mut stops = Vec::new();
    for _ in 0..11 {
        browser.press("Tab", 9)?;
        let focused = browser.eval("(e => (e.textContent || e.placeholder).trim())(document.activeElement)")?;
        stops.push(focused.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let expected = [
        "Skip to the machines",
        "netbootd",
        "2 stopped",
        "1 slow but alive",
        "2 booting",
        "1 handed over",
        "7 machines in all",
        "Filter by name, address, profile…",
        "Filter",
        "rack1-node02",
        "Change what rack1-node02 boots",
    ];
    ensure!(stops == expected, "{stops:#?}");
    let told = browser.accessible()?;
    let nameless: Vec<_> =
        told.iter().filter(|(role, name)| NAMED.contains(&role.as_str()) && name.is_empty()).collect();
    ensure!(nameless.is_empty(), "{nameless:?}");
    let has = |role: &str, name: &str| told.iter().any(|(r, n)| r == role && n == name);
    ensure!(has("heading", "rack1-node02") && has("progressbar", "debian/initrd.img, Initrd"), "{told:?}");
    ensure!(has("searchbox", "Filter by name, address, profile or state"), "{told:?}");
    // From the list to a machine's page, another profile chosen, and sent.
    browser.press("Enter", 13)?;
    browser.wait_until("document.querySelector('#profile')")?;
    browser.eval("document.querySelector('#profile').focus()")?;
    browser.press("u", 85)?;
    for _ in 0..2 {
        browser.press("Tab", 9)?;
    }
    ensure!(browser.eval("document.activeElement.value")? == "once");
    browser.press("Enter", 13)?;
    browser.wait_until("location.search === '?done=once'")?;
    ensure!(browser.text()?.contains("Assigned for the next boot that reaches its hand-over."));
    ensure!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    Ok(())
}

/// What a screen reader would otherwise call by its role alone.
const NAMED: [&str; 7] = ["link", "button", "progressbar", "heading", "searchbox", "combobox", "list"];

#[test]
fn without_a_script_everything_is_there() -> Result<()> {
    let Some(mut window) = Window::open()? else { return Ok(()) };
    crowd(&window.stand.fake);
    window.browser.call("Emulation.setScriptExecutionDisabled", serde_json::json!({ "value": true }))?;
    let url = window.url.clone();
    window.browser.open(&format!("{url}/?state=stopped"))?;
    let text = window.browser.text()?;
    ensure!(
        text.contains("Stopped at Initrd: Dead: no acknowledgement of any kind") && !text.contains("ARM64"),
        "{text}"
    );
    ensure!(window.browser.eval("document.querySelector('noscript meta')?.content")? == "5");
    Ok(())
}

/// All of them get on, and a reader scrolls and types meanwhile.
#[test]
fn a_thousand_machines_leave_the_page_usable() -> Result<()> {
    let Some(mut window) = Window::open()? else { return Ok(()) };
    thousand(&window.stand.fake, 1000);
    let url = window.url.clone();
    for path in ["/", "/?all=1"] {
        let began = Instant::now();
        window.browser.open(&format!("{url}{path}"))?;
        let opened = began.elapsed();
        window.browser.eval("slowest = 0; last = performance.now(); setInterval(() => { const now = performance.now(); slowest = Math.max(slowest, now - last); last = now }, 10)")?;
        for round in 1..=5_u16 {
            thousand(&window.stand.fake, 1000);
            let acked = format!("{round}");
            window.browser.eval(&format!("round = {acked}"))?;
            std::thread::sleep(Duration::from_secs(1));
        }
        let slowest = window.browser.eval("slowest")?.as_f64().unwrap_or_default();
        println!("{path}: open after {opened:?}; the longest that the page did not listen: {slowest:.0} ms");
        ensure!(opened < Duration::from_secs(20), "it took {opened:?} to open");
    }
    ensure!(window.browser.complaints().is_empty(), "{:?}", window.browser.complaints());
    Ok(())
}
