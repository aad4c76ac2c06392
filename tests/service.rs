//! The systemd unit: what systemd itself says of it; and what packages say of themselves.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, ensure};
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

#[test]
fn the_packages_changelog_begins_with_this_version() {
    let changelog = include_str!("../packaging/deb/changelog");
    let first = format!("netbootd ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&first), "packaging/deb/changelog has no entry for {first}");
}
