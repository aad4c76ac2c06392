//! `/metrics`, in both of its formats, after a boot by real clients.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{PROMTOOL, required};

use crate::bench::{Bench, SOON};

const MACHINE: &str = "52:54:00:12:34:56";

/// The sample of this name and labels.
fn value(text: &str, sample: &str) -> Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {sample} in\n{text}"))?.parse()?)
}

#[test]
fn a_boot_is_counted_as_prometheus_reads_it() -> Result<()> {
    let Some(()) = required(&[&[PROMTOOL]]) else { return Ok(()) };
    let Some(bench) = Bench::start()? else { return Ok(()) };
    bench.run("atftp", &["--get", "--remote-file", "snponly.efi", "--local-file", "loader", "10.77.0.2"])?;
    bench.curl(&["--output", "/dev/null"], &format!("/boot.ipxe?mac={MACHINE}&arch=x86_64&platform=efi"))?;
    for path in ["/assets/vmlinuz", "/assets/debian/initrd.img"] {
        bench.curl(&["--output", "/dev/null"], path)?;
    }
    bench.netbootd.wait_for_line("handed_over  it has its kernel", SOON)?;
    bench.curl(&["--output", "/dev/null"], "/assets/nothing")?;
    bench.netbootd.wait_for_line("refused      there is no file nothing", SOON)?;
    let text = String::from_utf8(bench.curl(&[], "/metrics")?)?;
    let loader = std::fs::metadata("/usr/lib/ipxe/snponly.efi")?.len() as f64;
    for (sample, expected) in [
        (r#"netbootd_events_total{stage="loader",outcome="ok"}"#, 1.0),
        (r#"netbootd_events_total{stage="script",outcome="boot"}"#, 1.0),
        (r#"netbootd_events_total{stage="kernel",outcome="ok"}"#, 1.0),
        (r#"netbootd_events_total{stage="initrd",outcome="ok"}"#, 1.0),
        (r#"netbootd_events_total{stage="initrd",outcome="dead"}"#, 0.0),
        (r#"netbootd_events_total{stage="refused",outcome="not_found"}"#, 1.0),
        (r#"netbootd_handed_over_total{profile="command-line"}"#, 1.0),
        (r#"netbootd_acknowledged_bytes_total{protocol="tftp",kind="loader"}"#, loader),
        (r#"netbootd_acknowledged_bytes_total{protocol="http",kind="asset"}"#, 27_000_001.0),
        (r#"netbootd_transfer_duration_seconds_count{stage="kernel"}"#, 1.0),
        (r#"netbootd_boots{state="handed_over"}"#, 1.0),
        ("netbootd_machines", 1.0),
        ("netbootd_lost_events_total", 0.0),
    ] {
        ensure!(value(&text, sample)? == expected, "{sample} {}", value(&text, sample)?);
    }
    ensure!(value(&text, "process_open_fds")? > 5.0 && value(&text, "process_resident_memory_bytes")? > 1e6, "{text}");
    ensure!(!text.contains("52:54") && !text.contains("10.77.0"), "a label that strangers can grow");

    let mut promtool = Command::new(PROMTOOL.file);
    let promtool = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.stdout(Stdio::piped()).spawn()?;
    promtool.stdin.take().context("no pipe")?.write_all(text.as_bytes())?;
    let said = promtool.wait_with_output()?;
    let words = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
    ensure!(said.status.success() && words.is_empty(), "{words}");

    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let text = String::from_utf8(bench.curl(&["--include", "--header", accept], "/metrics")?)?;
    ensure!(text.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{text}");
    ensure!(text.contains("\n# TYPE netbootd_events counter\n") && text.ends_with("# EOF\n"), "{text}");
    Ok(())
}
