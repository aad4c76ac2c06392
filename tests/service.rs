//! The systemd unit: what systemd itself says of it; and what packages say of themselves.

#[path = "../packaging/reference.rs"]
mod reference;

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use netbootd_lab::{Tool, required};

const ANALYZE: &[Tool] = &[Tool::new("systemd-analyze", "systemd")];

/// Tenths of a point of exposure, of which a service that can do everything has 96. What is left is what it is for: the
/// network, packets of its own making, and ports below 1024.
const MOST: &str = "19";

#[test]
fn the_unit_is_right_and_what_it_is_exposed_to_stays_low() -> Result<()> {
    let Some(()) = required(&[ANALYZE]) else { return Ok(()) };
    let scratch = tempfile::tempdir()?;
    let unit = scratch.path().join("netbootd.service");
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd/netbootd.service"))?;
    // Nothing that is waited for is started for it: a network without a time server has its boots.
    ensure!(text.contains("\nAfter=time-sync.target\n") && !text.contains("Wants=time-sync"), "{text}");
    // Where it is not installed.
    fs::write(&unit, text.replace("/usr/bin/netbootd", env!("CARGO_BIN_EXE_netbootd")))?;

    let analyze = |arguments: &[&str]| -> Result<(bool, String)> {
        let output = Command::new("systemd-analyze").args(arguments).arg(&unit).output()?;
        let words = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&words).into_owned()))
    };
    let (is_good, words) = analyze(&["verify", "--man=no"])?;
    ensure!(is_good && !words.contains("netbootd.service:"), "{words}");
    let (is_low, words) = analyze(&["security", "--no-pager", "--offline=true", &format!("--threshold={MOST}")])?;
    ensure!(is_low, "{words}");
    Ok(())
}

/// The units of the page about several appliances.
#[test]
fn the_example_of_several_appliances_is_right() -> Result<()> {
    let Some(()) = required(&[ANALYZE]) else { return Ok(()) };
    let scratch = tempfile::tempdir()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let service = fs::read_to_string(root.join("packaging/systemd/netbootd.service"))?;
    let service = service.replace("/usr/bin/netbootd", env!("CARGO_BIN_EXE_netbootd"));
    fs::write(scratch.path().join("netbootd.service"), service)?;
    let page = fs::read_to_string(root.join("packaging/docs/several-appliances.md"))?;
    let mut units = vec!["netbootd.service".to_owned()];
    for block in page.split("```ini\n").skip(1) {
        let text = block.split("```").next().unwrap_or_default();
        let path = text.lines().next().and_then(|line| line.strip_prefix("# /etc/systemd/system/"));
        let path = path.with_context(|| format!("no path: {text}"))?;
        let file = scratch.path().join(path);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        // What it calls need not be installed here.
        fs::write(&file, text.replace("/usr/bin/rsync", "/bin/true"))?;
        units.extend(Some(path.to_owned()).filter(|path| !path.contains('/')));
    }
    ensure!(units.len() == 3, "{units:?}");
    let mut analyze = Command::new("systemd-analyze");
    analyze.env("SYSTEMD_UNIT_PATH", format!("{}:", scratch.path().display())).args(["verify", "--man=no"]);
    let output = analyze.args(units.iter().map(|unit| scratch.path().join(unit))).output()?;
    let words = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success() && !words.contains("netbootd"), "{words}");
    Ok(())
}

#[test]
fn the_packages_changelog_begins_with_this_version() {
    let changelog = include_str!("../packaging/deb/changelog");
    let first = format!("netbootd ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&first), "packaging/deb/changelog has no entry for {first}");
}

/// As man(1) shows it, every key of every table is there with its words.
#[test]
fn the_manual_of_the_configuration_has_every_key() -> Result<()> {
    let schema: serde_json::Value = serde_json::from_str(include_str!("../packaging/netbootd.schema.json"))?;
    let page = reference::page(&schema)?;
    let Some(()) = required(&[&[Tool::new("groff", "groff-base")]]) else { return Ok(()) };
    let mut groff = Command::new("groff");
    groff
        .args(["-man", "-Kutf8", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut groff = groff.stderr(Stdio::piped()).spawn()?;
    groff.stdin.take().expect("piped").write_all(page.as_bytes())?;
    let output = groff.wait_with_output()?;
    ensure!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout)?.split_whitespace().collect::<Vec<_>>().join(" ");
    let tables = schema["$defs"].as_object().expect("definitions").values().chain([&schema]);
    for (key, value) in tables.filter_map(|table| table["properties"].as_object()).flatten() {
        let is_section = ["[dhcp]", "[lease]", "[tftp]", "[http]", "[syslog]", "[state]", "[control]", "[menu]"]
            .contains(&format!("[{key}]").as_str());
        let is_listed =
            ["profiles", "machines", "keepalive", "override", "relayed"].contains(&key.as_str()) || is_section;
        let is_variant = key == "arch" && value["additionalProperties"].is_object();
        ensure!(is_listed || is_variant || shown.contains(&format!(" {key} = ")), "{key} is missing: {shown}");
    }
    for words in ["[http.keepalive] ", "port = 8080", "\"capture\"", "[[machines]] "] {
        ensure!(shown.contains(words), "{words:?} is missing: {shown}");
    }
    Ok(())
}
