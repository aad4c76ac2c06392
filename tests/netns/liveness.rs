//! Slow clients live and dead ones are found, whatever they died of: links go down for real. Times are short here; the
//! one run with the defaults is at the end.

use std::{
    io::Read,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use netbootd_lab::uninterrupted;

use crate::bench::{Bench, SERVER, SMALL, SOON, noise};

/// Five seconds instead of 150, and keepalive in three instead of 120.
const SHORT: &[(&str, &str)] = &[
    ("NETBOOTD_HTTP__KEEPALIVE__IDLE", "1s"),
    ("NETBOOTD_HTTP__KEEPALIVE__INTERVAL", "1s"),
    ("NETBOOTD_HTTP__KEEPALIVE__PROBES", "2"),
    ("NETBOOTD_HTTP__KEEPALIVE__DEAD_AFTER", "5s"),
];
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// What is promised: `dead_after` and a minute.
const REAPED: Duration = Duration::from_secs(65);
const INITRD: &str = "/assets/debian/initrd.img";
const INITRD_SIZE: usize = 24_000_001;

fn unplug(bench: &Bench) -> Result<()> {
    bench.client.ip(&["link", "set", "eth1", "down"]).map(drop)
}

/// Connections on the server's port 8080, in any state with a peer.
fn connections(bench: &Bench) -> Result<usize> {
    let output = bench.server.command("ss").args(["-tnH", "sport", "=", "8080"]).output()?;
    ensure!(output.status.success(), "ss: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().count())
}

fn wait_for_no_connection(bench: &Bench, since: Instant) -> Result<()> {
    while connections(bench)? > 0 {
        if since.elapsed() > REAPED {
            bail!("still there after {:?}", since.elapsed());
        }
        thread::sleep(Duration::from_millis(100));
    }
    eprintln!("reaped after {:.1} s", since.elapsed().as_secs_f64());
    Ok(())
}

#[test]
fn idle_and_vanished_is_reaped() -> Result<()> {
    let Some(bench) = Bench::start_with(SHORT)? else { return Ok(()) };
    let mut stream = bench.get("/healthz", None)?;
    stream.read_exact(&mut [0; 3])?;
    ensure!(connections(&bench)? == 1);
    unplug(&bench)?;
    wait_for_no_connection(&bench, Instant::now())
}

#[test]
fn vanished_with_data_in_flight_is_reaped() -> Result<()> {
    // Slower than its client reads, so that the window is open when the link goes down.
    let settings = [SHORT, &[("NETBOOTD_HTTP__RATE_LIMIT", "2MB")]].concat();
    let Some(bench) = Bench::start_with(&settings)? else { return Ok(()) };
    let mut stream = bench.get(INITRD, None)?;
    thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let reader = scope.spawn(move || {
            let mut got = 0;
            let mut buffer = [0; 65536];
            while let Ok(count @ 1..) = uninterrupted(|| stream.read(&mut buffer)) {
                got += count;
                // Nobody listens any more once the link is down.
                let _ = tell.send(got);
            }
            got
        });
        ensure!(told.iter().any(|got| got > 1_000_000), "it ended before its first megabyte");
        let since = Instant::now();
        unplug(&bench)?;
        let line = bench.netbootd.wait_for_line("dead: no acknowledgement of any kind", REAPED)?;
        // By its clock, and by ours, on which the last acknowledgement came a little before the link went down.
        let silence = line.split_once("of any kind for ").and_then(|(_, rest)| rest.split_once(" s,")?.0.parse().ok());
        let silence = Duration::from_secs(silence.with_context(|| line.clone())?);
        let noticed = since.elapsed() + Duration::from_millis(500);
        ensure!(silence.min(noticed) >= DEAD_AFTER, "too early: {silence:?}, {:?}", since.elapsed());
        ensure!(line.contains("retransmissions unanswered") && line.contains("stopped at "), "{line}");
        wait_for_no_connection(&bench, since)?;
        let got = reader.join().expect("no panic");
        ensure!(got < INITRD_SIZE, "it had everything before the link was cut");
        Ok(())
    })
}

#[test]
fn vanished_behind_a_closed_window_is_reaped() -> Result<()> {
    let Some(bench) = Bench::start_with(SHORT)? else { return Ok(()) };
    let _stalled = bench.get(INITRD, Some(SMALL))?;
    let line = bench.netbootd.wait_for_line("window closed by the client", 2 * SOON)?;
    ensure!(line.contains("debian/initrd.img: alive, paused "), "{line}");
    unplug(&bench)?;
    let since = Instant::now();
    let line = bench.netbootd.wait_for_line("dead: no acknowledgement of any kind", REAPED)?;
    ensure!(line.contains("window probes unanswered"), "{line}");
    wait_for_no_connection(&bench, since)
}

/// A machine that lost its power and is on again: it knows nothing of the old connection, and says nothing to it (iPXE
/// drops segments of unknown connections without a reset).
#[test]
fn rebooted_and_silent_is_reaped_and_its_new_boot_is_served_meanwhile() -> Result<()> {
    let Some(bench) = Bench::start_with(SHORT)? else { return Ok(()) };
    let stream = bench.get(INITRD, Some(SMALL))?;
    bench.netbootd.wait_for_line("window closed by the client", 2 * SOON)?;
    let port = stream.local_addr()?.port();
    // What the old connection answers falls into a hole.
    bench.client.ip(&["rule", "add", "ipproto", "tcp", "sport", &port.to_string(), "blackhole"])?;
    let since = Instant::now();
    ensure!(bench.curl(&[], INITRD)? == noise(INITRD_SIZE, 2), "other bytes");
    bench.netbootd.wait_for_line("dead: no acknowledgement of any kind", REAPED)?;
    wait_for_no_connection(&bench, since)
}

/// Stops reading, for as long as it is told, and reads on.
fn pauses(bench: &Bench, pause: Duration) -> Result<()> {
    let initrd = noise(INITRD_SIZE, 2);
    let mut stream = bench.get(INITRD, Some(SMALL))?;
    let mut got = vec![0; 5_000_000];
    stream.read_exact(&mut got)?;
    // The pause is what is tested, not a wait for something.
    thread::sleep(pause);
    bench.netbootd.wait_for_line("window closed by the client", SOON)?;
    let mut rest = vec![0; initrd.len() - got.len()];
    stream.read_exact(&mut rest).with_context(|| format!("after a pause of {pause:?}"))?;
    got.extend(rest);
    ensure!(got == initrd, "other bytes after a pause of {pause:?}");
    bench.netbootd.wait_for_line(": continues after ", SOON)?;
    bench.netbootd.wait_for_line("debian/initrd.img, 24.0 MB in ", SOON)?;
    Ok(())
}

#[test]
fn a_client_that_pauses_five_times_dead_after_gets_the_rest() -> Result<()> {
    let Some(bench) = Bench::start_with(SHORT)? else { return Ok(()) };
    pauses(&bench, 5 * DEAD_AFTER)
}

#[test]
fn a_client_at_1_kb_a_second_gets_every_byte() -> Result<()> {
    let Some(bench) = Bench::start_with(SHORT)? else { return Ok(()) };
    let bytes = noise(60_000, 5);
    std::fs::write(bench.assets.join("small"), &bytes)?;
    let mut stream = bench.get("/assets/small", Some(2048))?;
    let mut got: Vec<u8> = Vec::new();
    let began = Instant::now();
    while got.len() < bytes.len() {
        let mut buffer = [0; 1000];
        let count = uninterrupted(|| stream.read(&mut buffer))?;
        ensure!(count > 0, "closed after {} bytes and {:?}", got.len(), began.elapsed());
        got.extend(&buffer[..count]);
        // The pace is what is tested.
        let due = Duration::from_millis(got.len() as u64);
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
    ensure!(got == bytes, "other bytes");
    let line = bench.netbootd.wait_for_line("small, 60.0 kB in ", SOON)?;
    // Told when it has it all, and not when the kernel had it to send.
    let seconds = line.split(" in ").nth(1).and_then(|rest| rest.split(' ').next()).context("no time")?;
    ensure!(seconds.parse::<f64>()? > 20.0, "{line}");
    Ok(())
}

#[test]
fn bytes_that_the_client_did_not_take_are_not_told_as_sent() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    // Fits in the server's send buffer many times.
    std::fs::write(bench.assets.join("small"), noise(60_000, 5))?;
    let stream = bench.get("/assets/small", Some(2048))?;
    unplug(&bench)?;
    drop(stream);
    bench.client.ip(&["link", "set", "eth1", "up"])?;
    let line = bench.netbootd.wait_for_line("small: stopped at ", 2 * SOON)?;
    ensure!(line.contains(" of 60.0 kB: the client closed the connection"), "{line}");
    ensure!(!line.contains("stopped at 60.0 kB"), "{line}");
    Ok(())
}

#[test]
fn files_cut_short_under_load_end_their_transfers_and_nothing_else() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let path = bench.assets.join("cut");
    std::fs::write(&path, noise(30_000_000, 7))?;
    let mut clients = (0..20).map(|_| bench.get("/assets/cut", None)).collect::<Result<Vec<_>>>()?;
    let mut others = (0..5).map(|_| bench.get(INITRD, Some(SMALL))).collect::<Result<Vec<_>>>()?;
    std::fs::OpenOptions::new().write(true).open(&path)?.set_len(10_000_001)?;
    for client in &mut clients {
        let mut got = Vec::new();
        // Ends early, in one way or another.
        let _ = client.read_to_end(&mut got);
        ensure!(got.len() < 30_000_000, "{} bytes of a file of 10,000,001", got.len());
        ensure!(got == noise(got.len(), 7), "other bytes");
    }
    bench.netbootd.wait_for_line("cut: stopped at ", SOON)?;
    bench.netbootd.wait_for_line("the file changed during the transfer", SOON)?;
    for other in &mut others {
        let mut got = vec![0; INITRD_SIZE];
        other.read_exact(&mut got)?;
        ensure!(got == noise(INITRD_SIZE, 2), "other bytes on their way meanwhile");
    }
    ensure!(bench.curl(&[], INITRD)? == noise(INITRD_SIZE, 2), "other bytes");
    Ok(())
}

#[test]
fn beyond_the_limit_a_client_is_told_when_to_come_back() -> Result<()> {
    let Some(bench) = Bench::start_with(&[("NETBOOTD_HTTP__MAX_CONNECTIONS_PER_CLIENT", "3")])? else { return Ok(()) };
    let stalled = (0..3).map(|_| bench.get(INITRD, Some(SMALL))).collect::<Result<Vec<_>>>()?;
    let answer = bench.curl(&["--include"], "/assets/vmlinuz")?;
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    ensure!(answer.starts_with("http/1.1 503 ") && answer.contains("\r\nretry-after: 5\r\n"), "{answer}");
    // From the server's own host, another client.
    let url = format!("http://{SERVER}:8080/healthz");
    let other = bench.server.command("curl").args(["-sS", "--max-time", "10", &url]).output()?;
    ensure!(other.stdout == b"ok\n", "{other:?}");
    drop(stalled);
    bench.netbootd.wait_for_line("the client closed the connection", SOON)?;
    // curl waits as it is told, and asks again.
    ensure!(bench.curl(&["--retry", "3", "--fail"], "/assets/vmlinuz")? == noise(3_000_000, 1), "other bytes");
    Ok(())
}

#[test]
fn a_rate_limit_is_held_and_never_stalls() -> Result<()> {
    let Some(bench) = Bench::start_with(&[("NETBOOTD_HTTP__RATE_LIMIT", "2MB")])? else { return Ok(()) };
    let began = Instant::now();
    let mut stream = bench.get("/assets/vmlinuz", None)?;
    let (mut got, mut longest, mut buffer) = (0, Duration::ZERO, vec![0; 65536]);
    while got < 3_000_000 {
        let before = Instant::now();
        got += uninterrupted(|| stream.read(&mut buffer))?;
        longest = longest.max(before.elapsed());
    }
    let took = began.elapsed();
    ensure!(took > Duration::from_millis(1000) && took < Duration::from_secs(4), "3 MB at 2 MB/s took {took:?}");
    ensure!(longest < Duration::from_secs(1), "stalled for {longest:?}");
    Ok(())
}

#[test]
#[ignore = "takes 7 minutes: the defaults' own times"]
fn with_the_defaults_a_pause_of_200_s_lives_and_all_three_kinds_of_dead_are_reaped_in_210_s() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    pauses(&bench, Duration::from_secs(200))?;
    // A hole: far more than is sent before the link goes down, and its reader takes whatever comes.
    std::fs::File::create(bench.assets.join("endless"))?.set_len(1 << 40)?;
    let _closed_window = bench.get(INITRD, Some(SMALL))?;
    let mut idle = bench.get("/healthz", None)?;
    idle.read_exact(&mut [0; 3])?;
    bench.netbootd.wait_for("a second pause", SOON, |line| line.contains("alive, paused 5 s, window closed"))?;
    let mut in_flight = bench.get("/assets/endless", None)?;
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while uninterrupted(|| in_flight.read(&mut buffer)).is_ok_and(|count| count > 0) {}
    });
    unplug(&bench)?;
    let since = Instant::now();
    let patience = Duration::from_secs(210);
    while connections(&bench)? > 0 {
        ensure!(since.elapsed() < patience, "still there after {:?}", since.elapsed());
        thread::sleep(Duration::from_millis(500));
    }
    eprintln!("all three were reaped after {:.1} s", since.elapsed().as_secs_f64());
    let dead = "dead: no acknowledgement of any kind for 1";
    for (file, cause) in [("initrd.img", "window probes unanswered"), ("endless", "retransmissions unanswered")] {
        let is_told = |line: &str| line.contains(file) && line.contains(dead) && line.contains(cause);
        eprintln!("{}", bench.netbootd.wait_for(cause, SOON, is_told)?);
    }
    // Its read ends when its own kernel notices that nobody is there, or with the lab.
    drop(reader);
    Ok(())
}
