//! What was booted says how it went: by real clients, in each form that installers have.

use anyhow::{Context, Result, ensure};

use crate::bench::{Bench, SOON};

const MACHINE: &str = "52:54:00:12:34:56";
const PROFILE: &str = r#"
[profiles.p]
kernel = "vmlinuz"
report_within = "1s"
[[machines]]
mac = "52:54:00:12:34:56"
profile = "p"
"#;

/// Status and body.
fn curl(bench: &Bench, arguments: &[&str], path: &str) -> Result<(String, String)> {
    let got = String::from_utf8(bench.curl(&[arguments, &["--write-out", "%{http_code}"]].concat(), path)?)?;
    let (body, status) = got.rsplit_once('\n').context("no line")?;
    Ok((status.to_owned(), body.to_owned()))
}

fn state(bench: &Bench) -> Result<(String, String)> {
    let machine: serde_json::Value = serde_json::from_slice(&bench.curl(&[], &format!("/api/v1/machines/{MACHINE}"))?)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok((text(&machine["boot"]["state"]), text(&machine["boot"]["stop"]["cause"])))
}

#[test]
fn a_machine_says_how_it_went_and_one_that_does_not_is_told_of() -> Result<()> {
    let Some(bench) = Bench::with_configuration(PROFILE)? else { return Ok(()) };
    bench.curl(&["--output", "/dev/null"], &format!("/boot.ipxe?mac={MACHINE}&arch=x86_64&platform=efi"))?;
    bench.curl(&["--output", "/dev/null"], "/assets/vmlinuz")?;
    let line = |text: &str| format!("{MACHINE} {text}");
    bench.netbootd.wait_for_line(&line("handed_over  it has its kernel"), SOON)?;
    bench.netbootd.wait_for_line(&line("handed_over  after the hand-over, no report came within 1 s"), SOON)?;
    ensure!(state(&bench)? == ("stopped".into(), "never_reported".into()), "{:?}", state(&bench)?);
    // An alert waits for it.
    let metrics = String::from_utf8(bench.curl(&[], "/metrics")?)?;
    ensure!(metrics.contains("netbootd_stops_total{cause=\"never_reported\"} 1\n"), "{metrics}");

    // By its address alone, and in a word of its own.
    let (status, said) = curl(&bench, &[], "/report?event=partitioning&message=of%20/dev/sda")?;
    ensure!((status.as_str(), said.as_str()) == ("200", "recorded for 10.77.0.50: partitioning"), "{status} {said}");
    bench.netbootd.wait_for_line(&line("reported     partitioning: of /dev/sda"), SOON)?;
    // A form, JSON, and cloud-init's webhook.
    let failed = ["--data", "event=failed", "--data-urlencode", "message=line 1\nline\t2 \u{1b}[0m"];
    let (status, said) = curl(&bench, &failed, &format!("/report?mac={MACHINE}"))?;
    ensure!((status.as_str(), said) == ("200", format!("recorded for {MACHINE}: failed")), "{status}");
    bench.netbootd.wait_for_line(&line("reported     failed: line 1 line 2 [0m"), SOON)?;
    ensure!(state(&bench)? == ("stopped".into(), "reported_failure".into()), "{:?}", state(&bench)?);
    let json = ["--header", "Content-Type: application/json", "--data"];
    let event = r#"{"name": "modules-final", "description": "running", "event_type": "start", "timestamp": 1.5}"#;
    let (status, _) = curl(&bench, &[&json[..], &[event]].concat(), &format!("/report?mac={MACHINE}"))?;
    ensure!(status == "200", "{status}");
    bench.netbootd.wait_for_line(&line("reported     modules-final: running, start"), SOON)?;
    let wget = ["-q", "-O", "-", &format!("http://10.77.0.2:8080/report?mac={MACHINE}&event=installed")];
    ensure!(bench.run("wget", &wget)? == format!("recorded for {MACHINE}: installed\n").into_bytes());
    bench.netbootd.wait_for_line(&line("reported     installed"), SOON)?;
    ensure!(state(&bench)?.0 == "reported", "{:?}", state(&bench)?);
    Ok(())
}

#[test]
fn what_is_no_report_is_told_why() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let long = format!("/report?event={}", "x".repeat(97));
    for (path, words) in [
        ("/report", "event is missing: "),
        ("/report?mac=52:54:00:12:34:56", "event is missing: "),
        ("/report?event=it%20is%20done", "event is one word "),
        ("/report?event=%0a%ff%00x", "event is one word "),
        (&long, "event is one word "),
        ("/report?event=installed&mac=52:54", "mac is wrong: "),
    ] {
        let (status, said) = curl(&bench, &[], path)?;
        ensure!(status == "400" && said.starts_with(words), "{path}: {status} {said}");
    }
    let large = bench.lab.directory().join("large");
    std::fs::write(&large, vec![b'x'; 70_000])?;
    let (status, said) = curl(&bench, &["--data", &format!("@{}", large.display())], "/report?event=failed")?;
    ensure!(status == "413", "{status} {said}");
    Ok(())
}
