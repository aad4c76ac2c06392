//! What people watch boots by: `watch` and `machines`, and the events of the API.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Process, Signal};
use serde_json::Value;

use crate::{
    bench::{Bench, CLIENT, SERVER, SMALL, SOON, START, daemon},
    dhcp::{DISCOVER, IPXE, next, request},
};

const MAC: &str = "52:54:00:12:34:56";

/// An iPXE that fetches its script and its files.
fn boots(bench: &Bench, xid: u32) -> Result<()> {
    let socket = bench.client_socket(68)?;
    socket.send_to(&request(DISCOVER, xid, IPXE), ("255.255.255.255", 67))?;
    next(&socket)?;
    bench.curl(&[], &format!("/boot.ipxe?mac={MAC}&arch=i386&platform=pcbios"))?;
    bench.curl(&["-o", "/dev/null"], "/assets/vmlinuz")?;
    bench.curl(&["-o", "/dev/null"], "/assets/debian/initrd.img")?;
    Ok(())
}

/// netbootd on the server's host; what it prints.
fn asked(bench: &Bench, arguments: &[&str]) -> Result<String> {
    let output = daemon(&bench.server).args(arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_boot_is_watched_as_it_happens_and_read_afterwards_also_behind_a_restart() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let watch = Process::spawn("watch", daemon(&bench.server).arg("watch"))?;
    let json = Process::spawn("watch --json", daemon(&bench.server).args(["watch", "--json"]))?;
    // A watch that is there is one that is asked for: it says nothing before something happens.
    let mut xid = 0;
    while !watch.lines().iter().chain(&json.lines()).any(|line| line.contains("handed_over")) {
        xid += 1;
        ensure!(xid < 20, "nothing was shown");
        boots(&bench, xid)?;
        let told = || bench.netbootd.lines().iter().filter(|line| line.contains("handed_over")).count();
        let until = Instant::now() + SOON;
        while told() < usize::try_from(xid)? && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }
    watch.wait_for_line(&format!("{MAC} handed_over  it has its kernel and all initrds"), SOON)?;
    let line = json.wait_for_line("\"stage\":\"handed_over\"", SOON)?;
    let step: Value = serde_json::from_str(line.trim())?;
    ensure!(step["machine"] == MAC && step["failed"] == false && step["at"].is_f64(), "{step}");

    let one = asked(&bench, &["machines", MAC])?;
    let last = format!("\nboot {xid}: handed over, iPXE on BIOS");
    for words in [last.as_str(), "kernel       vmlinuz, 3.0 MB in ", "handed_over  it has its kernel"] {
        ensure!(one.contains(words), "{words:?} is missing:\n{one}");
    }
    ensure!(asked(&bench, &["machines"])?.contains("ago  handed_over: it has its kernel"), "the list");

    let report = asked(&bench, &["report", MAC])?;
    for words in
        ["handed_over", "\"52:54:00:xx:xx:xx\"", "## Its last packets", "\"rules\": 0", "hostname={{ machine.name }}"]
    {
        ensure!(report.contains(words), "{words:?} is missing:\n{report}");
    }
    ensure!(!report.contains("12:34:56") && !report.contains("123456"), "its address is in it:\n{report}");
    ensure!(!report.contains("10.77.0.") && report.contains("10.77.x.x"), "an IP address is in it:\n{report}");
    ensure!(bench.curl(&["-f"], &format!("/api/v1/machines/{MAC}/report")).is_err(), "anyone may read it");

    // Kept within the second.
    let kept = |bench: &Bench| -> Result<Value> {
        Ok(serde_json::from_slice(&bench.curl(&[], &format!("/api/v1/machines/{MAC}"))?)?)
    };
    let before = kept(&bench)?;
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    bench.netbootd = bench.again()?;
    let after = kept(&bench)?;
    ensure!(before["boots"] == after["boots"] && before["boot"] == after["boot"], "{before:#}\n{after:#}");
    Ok(())
}

/// A pipeline like `netbootd watch | head -1` has to end.
#[test]
fn watch_ends_when_nobody_reads_its_lines_any_more() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let mut watch = daemon(&bench.server).arg("watch").stdout(Stdio::piped()).spawn()?;
    drop(watch.stdout.take());
    let until = Instant::now() + SOON;
    let mut ended = None;
    // It notices when it has something to say. What was said before is not said again.
    for number in 0.. {
        if ended.is_some() || Instant::now() > until {
            break;
        }
        bench.curl(&[], &format!("/assets/missing-{number}"))?;
        thread::sleep(Duration::from_millis(100));
        ended = watch.try_wait()?;
    }
    // It may have ended.
    let _ = watch.kill();
    watch.wait()?;
    ensure!(ended.is_some_and(|status| status.success()), "{ended:?}");
    Ok(())
}

/// Everyone on the network may read events, and must not use up what others need.
#[test]
fn so_many_read_events_over_the_network_and_the_host_itself_always_can() -> Result<()> {
    let limit = ("NETBOOTD_HTTP__MAX_CONNECTIONS_PER_CLIENT", "100");
    let Some(bench) = Bench::start_with(&[limit])? else { return Ok(()) };
    let reads = || bench.get("/api/v1/events", None);
    let mut readers = (0..64).map(|_| reads()).collect::<Result<Vec<_>>>()?;
    let one_more = format!("{:?}", reads().err());
    ensure!(one_more.contains("503 Service Unavailable"), "{one_more}");
    let watch = Process::spawn("watch", daemon(&bench.server).args(["watch", "--json"]))?;
    let until = Instant::now() + SOON;
    // It says nothing before something happens.
    for xid in 1.. {
        boots(&bench, xid)?;
        if watch.lines().iter().any(|line| line.contains("\"stage\"")) {
            break;
        }
        ensure!(Instant::now() < until, "nothing was shown");
    }
    readers.pop();
    while reads().is_err() {
        ensure!(Instant::now() < until, "the place of one that has gone is not free");
    }
    Ok(())
}

/// HTML §9.2.4: who was away says which event it heard last, and hears the rest.
#[test]
fn events_have_numbers_and_are_told_again_to_who_missed_them() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    boots(&bench, 1)?;
    bench.netbootd.wait_for_line("handed_over", SOON)?;
    let events = |last: &str, count: usize| -> Result<Vec<(u64, Value)>> {
        let url = format!("http://{SERVER}:8080/api/v1/events");
        let mut curl = bench.client.command("curl");
        curl.args(["-sSN", "--max-time", "20", "-H", &format!("Last-Event-ID: {last}"), &url]).stdout(Stdio::piped());
        let mut curl = curl.spawn()?;
        let (mut id, mut told) = (0, Vec::new());
        for line in BufReader::new(curl.stdout.take().context("no output")?).lines() {
            let line = line?;
            if let Some(number) = line.strip_prefix("id: ") {
                id = number.parse()?;
            } else if let Some(data) = line.strip_prefix("data: ") {
                told.push((id, serde_json::from_str(data)?));
            }
            if told.len() == count && line.is_empty() {
                break;
            }
        }
        curl.kill()?;
        curl.wait()?;
        Ok(told)
    };
    let all = events("0", 6)?;
    let stages: Vec<&str> = all.iter().filter_map(|(_, step)| step["stage"].as_str()).collect();
    ensure!(stages == ["discover", "offer", "script", "kernel", "initrd", "handed_over"], "{all:?}");
    let last = &all[3].0;
    ensure!(events(&last.to_string(), 2)? == all[4..], "after {last}");
    ensure!(events("99999", 6)? == all, "a number of a server before this one");
    Ok(())
}

/// A program on a terminal of 100 columns, as script(1) makes one: what it wrote, once that holds all these words and
/// these bytes were typed. Words are whole, since blanks are skipped over.
fn on_a_terminal(
    bench: &Bench,
    command: &str,
    words: &[&str],
    typed: &[u8],
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<String> {
    // Not beside the configuration, whose folder is watched.
    let folder = bench.lab.directory().join("screens");
    fs::create_dir(&folder)?;
    let log = folder.join("screen");
    let mut script = daemon_by(bench, "script");
    let command = format!("stty cols 100 rows 30; exec {} {command}", env!("CARGO_BIN_EXE_netbootd"));
    script.args(["-q", "-e", "-f", "-c", &command]).arg(&log).env("TERM", "xterm").env("NETBOOTD_HTTP__GRACE", "1s");
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let screen = || fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let done = meanwhile();
    let until = Instant::now() + START;
    while !words.iter().all(|words| screen().contains(words)) && Instant::now() < until {
        thread::sleep(Duration::from_millis(50));
    }
    script.stdin.as_mut().context("no input")?.write_all(typed)?;
    let ended = script.wait()?;
    done?;
    ensure!(ended.success(), "{ended}: {:?}", screen());
    for words in words {
        ensure!(screen().contains(words), "{words:?} is missing: {:?}", screen());
    }
    Ok(screen())
}

fn daemon_by(bench: &Bench, program: &str) -> Command {
    let mut command = bench.server.command(program);
    command.env_remove("NETBOOTD_LOG");
    command
}

#[test]
fn on_a_terminal_there_is_a_table_that_q_ends() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    boots(&bench, 1)?;
    let address = CLIENT.to_string();
    let words = [MAC, &address, "handed", "q quit", "●●●●"];
    let screen = on_a_terminal(&bench, "watch", &words, b"q", || Ok(()))?;
    ensure!(screen.contains("\u{1b}[?1049h") && screen.contains("\u{1b}[?1049l"), "the screen was not given back");
    Ok(())
}

#[test]
fn up_on_a_terminal_shows_bars_below_its_lines() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let folder = bench.lab.directory().display().to_string();
    let up = format!(
        "up --config {folder}/netbootd.toml --interface eth1 {folder}/assets/vmlinuz {folder}/assets/debian/initrd.img"
    );
    let mut paused = None;
    let screen = on_a_terminal(&bench, &up, &["MB, paused ", "░"], b"\x03", || {
        let ready = || bench.curl(&[], "/readyz").is_ok();
        let until = Instant::now() + START;
        while !ready() {
            ensure!(Instant::now() < until, "it does not answer");
        }
        bench.curl(&[], &format!("/boot.ipxe?mac={MAC}&arch=i386&platform=pcbios"))?;
        paused = Some(bench.get("/assets/debian/initrd.img", Some(SMALL))?);
        Ok(())
    })?;
    // A line that comes later stands above it, and in the end nothing of it is left.
    ensure!(screen.contains("\u{1b}[J") && screen.contains("script       profile command-line"), "{screen:?}");
    let end = screen.rfind("\u{1b}[J").map(|at| &screen[at..]).context("it was not erased")?;
    ensure!(!end.contains('░') && end.contains("stopping"), "{end:?}");
    Ok(())
}
