//! The link goes down for 8 s in the middle of a download: the connection that waits gets the rest, and a client that
//! gives up after 3 s takes it up again where it was.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::Process;

use crate::bench::{Bench, SERVER, SOON, START, noise};

/// A bench whose client takes 12 s for the file.
fn bench() -> Result<Option<Bench>> {
    Bench::start_with(&[("NETBOOTD_HTTP__RATE_LIMIT", "2MB")])
}

/// Starts a program that writes to `got` on the client's host, and pulls the cable when it has 2 MB.
fn cut_in_mid_download(bench: &Bench, program: &str, arguments: &[&str]) -> Result<Process> {
    let url = format!("http://{SERVER}:8080/assets/debian/initrd.img");
    let mut command: Command = bench.client.command(program);
    command.args(arguments).arg(url).current_dir(bench.lab.directory());
    let process = Process::spawn(program, &mut command)?;
    let began = Instant::now();
    while size(bench) < 2_000_000 {
        ensure!(began.elapsed() < START, "only {} bytes came: {:?}", size(bench), process.lines());
        thread::sleep(Duration::from_millis(20));
    }
    bench.client.ip(&["link", "set", "eth1", "down"])?;
    // How long the link is down is what is tested.
    thread::sleep(Duration::from_secs(8));
    ensure!(size(bench) < 24_000_001, "it had everything before the link was cut");
    bench.client.ip(&["link", "set", "eth1", "up"])?;
    Ok(process)
}

fn size(bench: &Bench) -> u64 {
    fs::metadata(bench.lab.directory().join("got")).map_or(0, |got| got.len())
}

fn has_every_byte(bench: &Bench) -> Result<()> {
    ensure!(fs::read(bench.lab.directory().join("got"))? == noise(24_000_001, 2), "other bytes");
    Ok(())
}

#[test]
fn a_connection_that_waits_gets_the_rest() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    let mut curl = cut_in_mid_download(&bench, "curl", &["-sS", "--max-time", "120", "--output", "got"])?;
    let status = curl.wait_exit(Duration::from_secs(120))?;
    ensure!(status.success(), "{status} {:?}", curl.lines());
    has_every_byte(&bench)?;
    let line = bench.netbootd.wait_for_line("debian/initrd.img: no progress for ", SOON)?;
    ensure!(line.contains("still trying"), "{line}");
    bench.netbootd.wait_for_line("debian/initrd.img, 24.0 MB in ", SOON)?;
    Ok(())
}

#[test]
fn curl_that_gave_up_resumes_the_same_version_and_starts_over_with_another() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    let gives_up = ["-sS", "--speed-time", "3", "--etag-save", "etag", "--output", "got"];
    let mut curl = cut_in_mid_download(&bench, "curl", &gives_up)?;
    let status = curl.wait_exit(Duration::from_secs(60))?;
    ensure!(status.code() == Some(28), "not given up: {status} {:?}", curl.lines());
    let etag = fs::read_to_string(bench.lab.directory().join("etag"))?;
    let if_range = format!("If-Range: {}", etag.trim());
    let resume = |header: &str| {
        let resume = ["--continue-at", "-", "--header", header, "--write-out", "%{http_code}", "--output", "got"];
        bench.curl(&resume, "/assets/debian/initrd.img")
    };
    ensure!(resume(&if_range)? == b"206");
    has_every_byte(&bench)?;
    // It says so, instead of giving the rest of another file.
    fs::write(bench.lab.directory().join("got"), [0; 1000])?;
    ensure!(resume("If-Match: \"another\"")? == b"412");
    Ok(())
}

#[test]
fn wget_resumes_by_itself() -> Result<()> {
    let Some(bench) = bench()? else { return Ok(()) };
    let patience = ["--timeout=3", "--tries=20", "--waitretry=1", "--retry-connrefused", "--server-response"];
    let mut wget = cut_in_mid_download(&bench, "wget", &[&patience[..], &["--output-document=got"]].concat())?;
    let status = wget.wait_exit(Duration::from_secs(120))?;
    let lines = wget.lines();
    ensure!(status.success(), "{status} {lines:?}");
    has_every_byte(&bench)?;
    let resumed = lines.iter().filter(|line| line.contains("HTTP/1.1 206 Partial Content")).count();
    ensure!(resumed >= 1, "it was not resumed: {lines:?}");
    bench.netbootd.wait_for_line("the client closed the connection", SOON).context("the first try's end")?;
    Ok(())
}
