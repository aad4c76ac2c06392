//! A script that failed asks for another one, which is the machine's own as it is by then.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{
    bench::{Bench, SOON},
    control::{said, tell},
};

const MACHINE: &str = "52:54:00:12:34:56";

/// What iPXE fetches by this address: its settings are those of a machine that knows nothing more of itself.
fn filled_in(address: &str) -> Result<String> {
    let path = address.split_once(":8080").context("an address of this server")?.1;
    let mut filled =
        path.replace("${netX/mac}", MACHINE).replace("${buildarch}", "x86_64").replace("${platform}", "efi");
    while let Some((before, rest)) = filled.split_once("${") {
        let (_, behind) = rest.split_once('}').context("a setting ends")?;
        filled = format!("{before}{behind}");
    }
    Ok(filled)
}

/// The address that a script's "try again" goes to.
fn next_try(script: &str) -> Result<String> {
    let behind = script.split_once("\n:ask_again\n").with_context(|| format!("no way to ask again in\n{script}"))?.1;
    let chain = behind.lines().find_map(|line| line.strip_prefix("chain --replace --autofree "));
    filled_in(chain.and_then(|chain| chain.split(' ').next()).with_context(|| format!("no chain in\n{script}"))?)
}

fn fetched(bench: &Bench, path: &str) -> Result<String> {
    Ok(String::from_utf8(bench.curl(&["--globoff", "-A", "iPXE/1.21.1"], path)?)?)
}

/// The profile names another file by now; then another profile is assigned.
#[test]
fn a_boot_that_failed_takes_what_is_right_by_then() -> Result<()> {
    let profile = |kernel: &str| {
        format!(
            "default_profile = \"node\"\n[profiles.node]\nkernel = \"{kernel}\"\n[profiles.other]\nkernel = \"vmlinuz\"\n"
        )
    };
    let Some(bench) = Bench::with_configuration(&profile("vmlinux"))? else { return Ok(()) };
    // `up` was given a kernel, whose profile goes before the default one.
    let assigned = tell(&bench.server, &["assign", MACHINE, "node"])?;
    ensure!(assigned.status.success(), "{}", said(&assigned));
    let first = fetched(&bench, &format!("/boot.ipxe?mac={MACHINE}&arch=x86_64&platform=efi"))?;
    let path = next_try(&first)?;
    ensure!(path.starts_with(&format!("/boot.ipxe?mac={MACHINE}&")), "{path}");
    ensure!(fetched(&bench, &path)?.contains("there is no file vmlinux"), "it is not there yet");
    fs::write(bench.lab.directory().join("netbootd.toml"), profile("vmlinuz"))?;
    bench.netbootd.wait_for_line("configuration read again", SOON)?;
    let second = fetched(&bench, &path)?;
    ensure!(second.contains("/assets/vmlinuz "), "{second}");
    tell(&bench.server, &["assign", MACHINE, "other"])?;
    let third = fetched(&bench, &next_try(&second)?)?;
    ensure!(third.contains("boots profile other"), "{third}");
    // All of it is one boot, which says that it was tried again.
    let shown = said(&tell(&bench.server, &["machines", MACHINE])?);
    ensure!(shown.contains("\nboot 1: ") && !shown.contains("\nboot 2: "), "{shown}");
    ensure!(shown.contains("the boot failed, and it asks for its script again"), "{shown}");
    Ok(())
}

/// However often a script asks again, iPXE has started once.
#[test]
fn to_try_again_is_not_to_go_round_in_circles() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let mut path = format!("/boot.ipxe?mac={MACHINE}&arch=x86_64&platform=efi");
    for _ in 0..12 {
        let script = fetched(&bench, &path)?;
        ensure!(script.contains("boots profile command-line"), "{script}");
        path = next_try(&script)?;
    }
    Ok(())
}
