//! A real cloud-init and the answers of `packaging/templates/cloud`.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{CLOUD_INIT, Tool, required};

use crate::bench::Bench;

const CONFIGURATION: &str = r#"
templates = "TEMPLATES"
[profiles.cloud]
kernel = "vmlinuz"
cmdline = 'console=ttyS0 ds=nocloud-net;s={{ answers("cloud") }}'
[[machines]]
name = "k8s08"
mac = "52:54:00:12:34:56"
profile = "cloud"
vars = { user = "admin", ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG someone@lab"] }
"#;

/// What cloud-init made of a command line.
fn booted(bench: &Bench, cmdline: &str) -> Result<String> {
    let root = bench.lab.directory().join("root");
    fs::create_dir_all(&root)?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/cloud_init.sh");
    let mut machine = bench.client.command("unshare");
    machine.args(["--uts", "--pid", "--fork", "sh", script]).env("ROOT", &root).env("DEBUG_PROC_CMDLINE", cmdline);
    let unpacked = Path::new(CLOUD_INIT.file).ancestors().nth(3).context("no folder")?;
    let output = machine.env("CLOUD_INIT", unpacked).output()?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn cloud_init_takes_its_answers_from_the_address_on_its_command_line_and_from_no_other() -> Result<()> {
    let Some(()) = required(&[&[CLOUD_INIT, Tool::new("/usr/bin/python3", "python3")]]) else { return Ok(()) };
    let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/templates");
    let Some(bench) = Bench::with_configuration(&CONFIGURATION.replace("TEMPLATES", templates))? else { return Ok(()) };
    let script = String::from_utf8(bench.curl(&[], "/boot.ipxe?mac=52:54:00:12:34:56&arch=x86_64&platform=efi")?)?;
    let kernel = script.lines().find_map(|line| line.strip_prefix("kernel ")).context("no kernel")?;
    let cmdline = kernel.trim_end_matches("|| goto failed").split_once(' ').context("no command line")?.1;

    let words = booted(&bench, cmdline)?;
    for line in [
        "status 0",
        "profile cloud",
        "instance 52:54:00:12:34:56",
        "keys ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG someone@lab",
    ] {
        ensure!(words.lines().any(|said| said == line), "no {line:?} in:\n{words}");
    }
    ensure!(words.lines().any(|line| line.starts_with("user admin:") && line.ends_with(":/bin/bash")), "{words}");

    // One that knows no more than where the server is.
    let words = booted(&bench, "ds=nocloud-net;s=http://10.77.0.2:8080/answers/cloud/")?;
    for line in ["profile ", "user ", "keys "] {
        ensure!(words.lines().any(|said| said == line), "no {line:?} in:\n{words}");
    }
    bench.netbootd.wait_for_line("refused      the answer file cloud/meta-data was not sent", crate::bench::SOON)?;
    Ok(())
}
