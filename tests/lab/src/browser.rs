//! A real browser on a host of the lab: headless Chromium, told what to do by its DevTools protocol, which it speaks over
//! two pipes.

#![expect(clippy::indexing_slicing, reason = "what a JSON value does not have is null")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host::Host;
use crate::process::Process;

/// One window with one page; killed when dropped.
#[derive(Debug)]
pub struct Browser {
    to: File,
    from: Receiver<Value>,
    calls: u32,
    session: Option<String>,
    complaints: Vec<String>,
    process: Process,
    _folder: TempDir,
}

impl Browser {
    /// Starts one. Its profile ends with it.
    pub fn start(host: &Host) -> Result<Browser> {
        let folder = tempfile::tempdir()?;
        let [to, from] = ["to", "from"].map(|name| folder.path().join(name));
        mkfifo(&to, Mode::S_IRWXU)?;
        mkfifo(&from, Mode::S_IRWXU)?;
        // Descriptors 3 and 4 are the pipes (--remote-debugging-pipe).
        let mut command = host.command("sh");
        command.args(["-c", "exec chromium \"$@\" 3<\"$TO\" 4>\"$FROM\"", "chromium"]).args(FLAGS);
        command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
        command.env("TO", &to).env("FROM", &from).env("HOME", folder.path()).env("TMPDIR", folder.path());
        let process = Process::spawn("chromium", &mut command)?;
        // In the order in which the shell opens them: each waits for its other end.
        let to = File::options().write(true).open(&to)?;
        let from = messages(File::open(&from)?);
        let mut browser =
            Browser { to, from, calls: 0, session: None, complaints: Vec::new(), process, _folder: folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let session = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", session)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Opens a page and waits until it is loaded.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.call("Page.navigate", json!({ "url": url }))?;
        ensure!(opened["errorText"].is_null(), "{url}: {}", opened["errorText"]);
        self.wait_until("location.href !== 'about:blank'")
    }

    /// What an expression of JavaScript comes to.
    pub fn eval(&mut self, expression: &str) -> Result<Value> {
        let expression = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", expression.clone())?;
        ensure!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        Ok(answer["result"]["value"].take())
    }

    /// The text of the page as it is seen.
    pub fn text(&mut self) -> Result<String> {
        Ok(self.eval("document.body.innerText")?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an expression is true of a page that is loaded: of one that is not, the text may stop anywhere.
    pub fn wait_until(&mut self, expression: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let expression = format!("document.readyState === 'complete' && ({expression})");
        // A page on its way to the next one has no answer.
        while self.eval(&format!("Boolean({expression})")).ok() != Some(Value::Bool(true)) {
            if Instant::now() > deadline {
                bail!("{expression} did not come true; the page reads:\n{}", self.text()?);
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Light or dark, and so many pixels wide; a phone's are 390. Nothing moves, so that pictures are alike.
    pub fn look(&mut self, dark: bool, width: u32) -> Result<()> {
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        let still = json!({ "name": "prefers-reduced-motion", "value": "reduce" });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [scheme, still] }))?;
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", size).map(drop)
    }

    /// Keeps a picture of the page, down to its end or to 2,400 pixels.
    pub fn screenshot(&mut self, path: &Path) -> Result<()> {
        let height = self.eval("Math.min(2400, document.documentElement.scrollHeight)")?;
        let width = self.eval("innerWidth")?;
        let clip = json!({ "x": 0, "y": 0, "width": width, "height": height, "scale": 1 });
        let taken = self.call("Page.captureScreenshot", json!({ "clip": clip, "captureBeyondViewport": true }))?;
        let picture = BASE64_STANDARD.decode(taken["data"].as_str().context("no picture")?)?;
        fs::write(path, picture).with_context(|| path.display().to_string())
    }

    /// Presses a key, such as `Tab` or `Enter`.
    pub fn press(&mut self, key: &str, code: u32) -> Result<()> {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.call("Input.dispatchKeyEvent", event)?;
        }
        Ok(())
    }

    /// Every element that a screen reader tells of, as its role and name.
    pub fn accessible(&mut self) -> Result<Vec<(String, String)>> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}))?;
        let text = |node: &Value, what: &str| node[what]["value"].as_str().unwrap_or_default().to_owned();
        let nodes = tree["nodes"].as_array().context("no tree")?;
        let told = nodes.iter().filter(|node| node["ignored"] != Value::Bool(true));
        Ok(told.map(|node| (text(node, "role"), text(node, "name"))).collect())
    }

    /// What the browser and the page's script have complained of: errors, violations of the page's policy.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Whatever the protocol has.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        self.to.write_all(format!("{call}\0").as_bytes())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.from.recv_timeout(left);
            let mut answer = answer.with_context(|| format!("{method} was not answered{}", self.process.printed()))?;
            if answer["id"] == self.calls {
                ensure!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return Ok(answer["result"].take());
            }
            self.take_event(&answer);
        }
    }

    fn take_event(&mut self, event: &Value) {
        let params = &event["params"];
        let complaint = match event["method"].as_str() {
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => &params["entry"]["text"],
            Some("Runtime.exceptionThrown") => &params["exceptionDetails"],
            _ => return,
        };
        self.complaints.push(complaint.to_string());
    }
}

/// One message after the other, each up to its NUL.
fn messages(pipe: File) -> Receiver<Value> {
    let (tell, told) = channel();
    thread::spawn(move || {
        for message in BufReader::new(pipe).split(0).map_while(Result::ok) {
            let Ok(message) = serde_json::from_slice(&message) else { return };
            if tell.send(message).is_err() {
                return;
            }
        }
    });
    told
}

/// No sandbox: root has none to give, and all pages are ours. Nothing is fetched from elsewhere, and no disk is worn.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
];
/// On a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);
