//! One machine, one installation: real firmware with two cards, and installers that say how it went.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{BootFiles, Firmware, Vm};

use crate::stand::{BOOT, Place, START, Stand};

const CONFIGURATION: &str = r#"
[profiles.installer]
kernel = "vmlinuz"
initrd = ["base.img", "payload.img"]
cmdline = "console=ttyS0"
[profiles.failing]
kernel = "vmlinuz"
initrd = ["base.img", "payload.img"]
cmdline = "console=ttyS0 report={{ report('failed', 'no disk') }}"
[profiles.working]
kernel = "vmlinuz"
initrd = ["base.img", "payload.img"]
cmdline = "console=ttyS0 report={{ report('installed') }}"

[[machines]]
name = "two-cards"
mac = ["52:54:00:6c:62:0d", "52:54:00:6c:62:0e"]
profile = "installer"
once = true
[[machines]]
name = "fails"
mac = "52:54:00:6c:62:0f"
profile = "failing"
once = "installed"
once_tries = 2
[[machines]]
name = "works"
mac = "52:54:00:6c:62:10"
profile = "working"
once = "installed"
"#;

fn stand() -> Result<Option<Stand>> {
    let serve = |files: &BootFiles, command: &mut Command| {
        let path = files.folder().join("netbootd.toml");
        fs::write(&path, CONFIGURATION)?;
        command.arg("--config").arg(path).arg("--assets").arg(files.folder());
        command.env("NETBOOTD_STATE__URL", "sqlite://:memory:");
        Ok(())
    };
    Stand::serving(Place::TwoHosts, serve)
}

/// Lets a machine boot its installer to the end. It is switched off then.
fn installs(stand: &Stand, vm: Vm) -> Result<Vec<String>> {
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.payload_ok, "{words:?}");
    Ok(vm.console().lines())
}

/// Waits for a machine's disk, and holds that no kernel was started before it.
fn starts_its_disk(stand: &Stand, vm: Vm) -> Result<Vec<String>> {
    let is_over = |line: &str| line.contains(Vm::DISK) || line.contains("LAB-BOOT");
    vm.console().wait_for("its disk or a kernel", BOOT, is_over).with_context(|| stand.printed())?;
    let lines = vm.console().lines();
    ensure!(!lines.iter().any(|line| line.contains("LAB-BOOT")), "it was installed again: {lines:#?}");
    Ok(lines)
}

/// Whether a machine's iPXE had a lease by this card, with which it then asked for its script.
fn asked_by(screen: &[String], mac: &str) -> bool {
    screen.iter().any(|line| line.contains(&format!(" {mac})")) && line.ends_with("... ok"))
}

/// The second boot asks by the first card. In the third the first card's cable is out, and the firmware goes on to the
/// second card.
#[test]
fn a_machine_with_two_cards_is_installed_once_and_then_starts_its_disk_by_either_card() -> Result<()> {
    let Some(stand) = stand()? else { return Ok(()) };
    let switched_on = || Vm::start_with_two_cards(&stand.lab, Firmware::Bios, 13, 14);
    installs(&stand, switched_on()?)?;
    stand.netbootd.wait_for_line("52:54:00:6c:62:0d handed_over", START)?;

    // netbootd shows the machine under its first card, so the screen is asked which card had the script.
    let screen = starts_its_disk(&stand, switched_on()?)?;
    ensure!(asked_by(&screen, "52:54:00:6c:62:0d") && !asked_by(&screen, "52:54:00:6c:62:0e"), "{screen:#?}");

    let vm = switched_on()?;
    vm.unplug()?;
    let screen = starts_its_disk(&stand, vm)?;
    ensure!(asked_by(&screen, "52:54:00:6c:62:0e") && !asked_by(&screen, "52:54:00:6c:62:0d"), "{screen:#?}");
    let lines = stand.netbootd.lines();
    let to_its_disk = "local disk: already booted its one-time profile";
    let sent_on = lines.iter().filter(|line| line.contains(to_its_disk)).count();
    ensure!(sent_on == 2, "it was sent to its disk {sent_on} times\n{}", stand.printed());
    let kernels = lines.iter().filter(|line| line.contains(" kernel       ")).count();
    ensure!(kernels == 1, "its kernel was fetched {kernels} times\n{}", stand.printed());
    Ok(())
}

#[test]
fn an_installer_that_fails_is_served_again_and_ends_after_its_tries() -> Result<()> {
    let Some(stand) = stand()? else { return Ok(()) };
    for attempt in 1..=2 {
        let lines = installs(&stand, Vm::start_with_disk(&stand.lab, Firmware::Bios, 15)?)?;
        let is_noted =
            lines.iter().any(|line| line.starts_with("LAB-REPORT recorded for ") && line.ends_with(": failed"));
        ensure!(is_noted, "attempt {attempt}: {lines:#?}\n{}", stand.printed());
    }
    let reported = stand.netbootd.lines().iter().filter(|line| line.contains("reported     failed: no disk")).count();
    ensure!(reported == 2, "{reported} reports\n{}", stand.printed());
    let screen = starts_its_disk(&stand, Vm::start_with_disk(&stand.lab, Firmware::Bios, 15)?)?;
    for words in ["handed over 2 times", "failed: no disk"] {
        ensure!(screen.iter().any(|line| line.contains(words)), "no `{words}`: {screen:#?}");
    }
    Ok(())
}

#[test]
fn an_installer_that_reports_installed_is_not_served_again() -> Result<()> {
    let Some(stand) = stand()? else { return Ok(()) };
    let lines = installs(&stand, Vm::start_with_disk(&stand.lab, Firmware::Bios, 16)?)?;
    let is_noted =
        lines.iter().any(|line| line.starts_with("LAB-REPORT recorded for ") && line.ends_with(": installed"));
    ensure!(is_noted, "{lines:#?}\n{}", stand.printed());
    stand.netbootd.wait_for_line("reported     installed", START)?;
    starts_its_disk(&stand, Vm::start_with_disk(&stand.lab, Firmware::Bios, 16)?)?;
    Ok(())
}
