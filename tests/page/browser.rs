//! The page in headless Chromium.

use std::{env, fs, path::PathBuf};

use anyhow::{Result, ensure};
use netbootd::{boot::event::Of, status::access::Via};
use netbootd_lab::{BROWSER_TOOLS, Browser, Lab, NETWORK_TOOLS, required};

use crate::server::{Fake, Stand, dead, discover, fetched, paused, progress};

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
}

#[test]
fn what_people_see() -> Result<()> {
    let Some(mut window) = Window::open()? else { return Ok(()) };
    let url = window.url.clone();
    let rules = window.stand.fake.live.rules.swap(std::sync::Arc::default());
    window.browser.open(&url)?;
    window.pictures("empty")?;
    window.stand.fake.live.rules.store(rules);
    crowd(&window.stand.fake);
    window.browser.open(&url)?;
    window.pictures("crowd")?;
    for (number, name) in [(1, "booting"), (2, "dead")] {
        window.browser.open(&format!("{url}/machines/52:54:00:6c:62:0{number}"))?;
        window.pictures(name)?;
    }
    ensure!(window.browser.complaints().is_empty(), "{:?}", window.browser.complaints());
    Ok(())
}
