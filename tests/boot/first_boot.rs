//! A recording of a first boot, as tmux has it on its screen: `make recording` writes `target/lab/first-boot.txt`.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netbootd_lab::{BootFiles, Firmware, Lab, LeaseServer, NETWORK_TOOLS, Tool, VM_TOOLS, Vm, required};

use crate::stand::BOOT;

#[test]
#[ignore = "it is made for the documents: make recording"]
fn a_first_boot_is_recorded() -> Result<()> {
    let tmux: &[Tool] = &[Tool::new("tmux", "tmux")];
    let Some(()) = required(&[NETWORK_TOOLS, VM_TOOLS, tmux]) else { return Ok(()) };
    let lab = Lab::new()?;
    let files = BootFiles::prepare(&lab)?;
    let dhcp = lab.host("dhcp", Some("10.77.0.1/24"))?;
    let host = lab.host("netbootd", Some("10.77.0.2/24"))?;
    let _leases = LeaseServer::start_with_ipv6_router(&lab, &dhcp, [10, 77, 0, 100].into(), [10, 77, 0, 199].into())?;
    let socket = lab.directory().join("tmux").display().to_string();
    let screen = |arguments: &[&str]| -> Result<String> {
        let mut command: Command = host.command("tmux");
        // A screen that is wide enough for every line.
        let output = command.args(["-S", &socket]).args(arguments).env("PS1", "$ ").output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    screen(&["new-session", "-d", "-s", "boot", "-x", "150", "-y", "45", "sh"])?;
    let folder = Path::new(env!("CARGO_BIN_EXE_netbootd")).parent().unwrap_or(Path::new("/")).display().to_string();
    let types = |line: &str| screen(&["send-keys", "-t", "boot", line, "Enter"]);
    types(&format!("PATH={folder}:$PATH; cd {}; clear", files.folder().display()))?;
    thread::sleep(Duration::from_secs(1));
    let files: Vec<String> =
        ["vmlinuz".to_owned()].into_iter().chain(["base.img", "payload.img"].map(str::to_owned)).collect();
    types(&format!("netbootd up {} -- console=ttyS0", files.join(" ")))?;
    let shown = || screen(&["capture-pane", "-p", "-S", "-", "-t", "boot"]);
    let until = |words: &str| -> Result<()> {
        let end = Instant::now() + BOOT;
        while !shown()?.contains(words) {
            ensure!(Instant::now() < end, "no {words:?}: {}", shown()?);
            thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    };
    until("waiting on eth1")?;
    let vm = Vm::start(&lab, Firmware::UefiPxe, 1)?;
    until("handed_over")?;
    let words = vm.last_words(BOOT)?;
    ensure!(words.payload_ok, "{words:?}");
    screen(&["send-keys", "-t", "boot", "C-c"])?;
    until("stopped")?;
    let recorded = shown()?;
    screen(&["kill-server"])?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/lab/first-boot.txt");
    fs::write(&path, recorded.trim_end().to_owned() + "\n")?;
    println!("{}", path.display());
    Ok(())
}
