//! What machines say by syslog joins their timelines: by real senders.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netbootd_lab::{Tool, required};

use crate::bench::{Bench, CLIENT, SERVER, SOON};

const MACHINE: &str = "52:54:00:12:34:56";
const TOOLS: &[Tool] = &[Tool::new("logger", "bsdutils"), Tool::new("/usr/bin/busybox", "busybox-static")];

fn steps(bench: &Bench) -> Result<Vec<String>> {
    let machine: serde_json::Value = serde_json::from_slice(&bench.curl(&[], &format!("/api/v1/machines/{MACHINE}"))?)?;
    let steps = machine["boots"][0]["steps"].as_array().cloned().unwrap_or_default();
    let said = steps.iter().filter(|step| step["stage"] == "syslog");
    Ok(said.map(|step| step["text"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn what_a_machine_says_joins_its_timeline_and_strangers_are_not_heard() -> Result<()> {
    let Some(()) = required(&[TOOLS]) else { return Ok(()) };
    let Some(bench) = Bench::with_configuration("[syslog]\nenabled = true\nmax_rate_per_client = 20\n")? else {
        return Ok(());
    };
    let server = SERVER.to_string();
    let log = |arguments: &[&str]| bench.run("logger", &[&["-n", &server, "-P", "514", "-d"], arguments].concat());
    // A switch, or a printer: it is no machine that boots.
    log(&["-t", "stranger", "a stranger's words"])?;

    let script = bench.curl(&[], &format!("/boot.ipxe?mac={MACHINE}&arch=x86_64&platform=efi"))?;
    ensure!(String::from_utf8(script)?.contains(&format!("\nset syslog {SERVER} ||\n")), "iPXE is not told");
    let line = |text: &str| format!("{MACHINE} syslog       {text}");
    log(&["-t", "anaconda", "Running kickstart %pre"])?;
    bench.netbootd.wait_for_line(&line("anaconda: Running kickstart %pre"), SOON)?;
    log(&["--rfc3164", "-t", "udhcpc", "--id=812", "lease of 10.77.0.50 obtained"])?;
    bench.netbootd.wait_for_line(&line("udhcpc[812]: lease of 10.77.0.50 obtained"), SOON)?;
    let socket = bench.client_socket(0)?;
    socket.send_to(b"<3>k8s08.lab ipxe: Could not boot: Exec format error", (SERVER, 514))?;
    bench.netbootd.wait_for_line(&line("ipxe: Could not boot: Exec format error"), SOON)?;
    socket.send_to(b"\xff\x1b[31m\0garbage\r\n", (SERVER, 514))?;
    bench.netbootd.wait_for_line(&line("\u{fffd} garbage"), SOON)?;
    // As Debian's installer: programs say it to a busybox, and that to us. Its /dev/log is not this machine's.
    let relay = format!(
        "mount -t tmpfs none /dev && mknod /dev/null c 1 3 && {{ busybox syslogd -n -L -R {server}:514 -O /dev/messages & }} && \
         while ! [ -S /dev/log ]; do busybox usleep 10000; done; busybox logger -t partman 'no disk was found'; \
         while ! grep -q partman /dev/messages; do busybox usleep 10000; done; kill $!"
    );
    bench.run("unshare", &["--mount", "sh", "-c", &relay])?;
    bench.netbootd.wait_for_line(&line("partman: no disk was found"), SOON)?;

    // One that says more than anyone reads is heard now and then, and the rest is counted.
    (0..200).try_for_each(|n| socket.send_to(format!("<13>flood: {n}").as_bytes(), (SERVER, 514)).map(drop))?;
    // The line that tells of the others comes with the next one that is taken.
    let (since, next) = (Instant::now(), Duration::from_millis(200));
    while bench.netbootd.wait_for_line("lines were dropped: too many per second)", next).is_err() {
        ensure!(since.elapsed() < 2 * SOON, "nothing was left out");
        socket.send_to(b"<13>flood: more", (SERVER, 514))?;
    }
    let steps = steps(&bench)?;
    ensure!(
        steps.len() == 16 && steps.iter().all(|step| step.contains("flood") || step.contains("were dropped")),
        "{steps:?}"
    );
    let machines = String::from_utf8(bench.curl(&[], "/api/v1/machines")?)?;
    ensure!(!machines.contains(&format!("\"id\":\"{CLIENT}\"")) && !machines.contains("stranger"), "{machines}");
    Ok(())
}
