//! The packages, as people get them: installed into a Debian of its own, which is started with its systemd on a host of
//! the lab, and boots a machine. `make package-test` builds them, installs what this needs, and runs it.

#![expect(clippy::indexing_slicing, reason = "a test that reads past a line's fields fails, as it should")]

mod root;

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{BootFiles, Firmware, Lab, LeaseServer, NETWORK_TOOLS, Tool, VM_TOOLS, Vm, required};

use crate::root::{Root, Running, built, run};

const ROOT_TOOLS: &[Tool] = &[
    Tool::new("mmdebstrap", "mmdebstrap"),
    Tool::new("systemd-nspawn", "systemd-container"),
    Tool::new("dpkg-deb", "dpkg"),
];
const RPM_TOOLS: &[Tool] = &[Tool::new("rpm", "rpm"), Tool::new("rpmlint", "rpmlint")];
const DEB_TOOLS: &[Tool] = &[Tool::new("lintian", "lintian")];

const APPLIANCE_TOOLS: &[Tool] =
    &[Tool::new("mmd", "mtools"), Tool::new("mkfs.vfat", "dosfstools"), Tool::new("sfdisk", "fdisk")];

/// Three lines, as the README has them.
const CONFIGURATION: &str = r#"
assets = "/srv/netboot"
default_profile = "linux"
profiles.linux = { kernel = "vmlinuz", initrd = ["base.img", "payload.img"], cmdline = "console=ttyS0" }
"#;

#[test]
#[ignore = "minutes, and packages that are built first: make package-test"]
fn debian_12() -> Result<()> {
    debian("bookworm")
}

#[test]
#[ignore = "minutes, and packages that are built first: make package-test"]
fn debian_13() -> Result<()> {
    debian("trixie")
}

fn debian(release: &str) -> Result<()> {
    let Some(()) = required(&[NETWORK_TOOLS, VM_TOOLS, ROOT_TOOLS]) else { return Ok(()) };
    let root = Root::debian(release)?;
    fs::copy(built("deb")?, root.path("/netbootd.deb"))?;
    root.run(&["apt-get", "update", "-qq"])?;
    let said = root.run(&["apt-get", "install", "-qq", "--no-install-recommends", "/netbootd.deb"])?;
    ensure!(said.contains("systemctl enable --now netbootd"), "how it is started is not said:\n{said}");
    installed(&root)?;
    newer(&root)?;

    let lab = Lab::new()?;
    let files = BootFiles::prepare(&lab)?;
    let leases = lab.host("dhcp", Some("10.77.0.1/24"))?;
    let _leases = LeaseServer::start_with_ipv6_router(&lab, &leases, [10, 77, 0, 100].into(), [10, 77, 0, 199].into())?;
    let host = lab.host("netbootd", Some("10.77.0.2/24"))?;
    let running = root.start(&host, files.folder())?;
    ensure!(running.property("ActiveState")? == "inactive", "it was started by nobody's wish");
    ensure!(running.property("UnitFileState")? == "disabled", "it would start by itself");

    fs::write(root.path("/etc/netbootd/netbootd.toml"), CONFIGURATION)?;
    running.run(&["netbootd", "check"])?;
    running.run(&["systemctl", "enable", "--now", "netbootd"]).with_context(|| running.journal())?;
    confined(&running)?;
    boots(&lab, &files, &running)?;
    upgrade(&root, &running)?;
    remove(&root, &running)
}

/// What the package has put where, and whose it is.
fn installed(root: &Root) -> Result<()> {
    let owner = |name: &str| -> Result<(u32, u32, u32)> {
        let is = fs::metadata(root.path(name)).with_context(|| name.to_owned())?;
        Ok((is.uid(), is.gid(), is.mode() & 0o7777))
    };
    let passwd = root.read("/etc/passwd")?;
    let user: Vec<&str> =
        passwd.lines().find(|line| line.starts_with("netbootd:")).context("no user")?.split(':').collect();
    let (uid, gid): (u32, u32) = (user[2].parse()?, user[3].parse()?);
    ensure!(uid < 1000 && user[5] == "/var/lib/netbootd" && user[6].ends_with("nologin"), "{user:?}");
    for (name, wanted) in [
        ("/usr/bin/netbootd", (0, 0, 0o755)),
        ("/etc/netbootd/netbootd.toml", (0, gid, 0o640)),
        ("/var/lib/netbootd", (uid, gid, 0o755)),
        ("/var/lib/netbootd/assets", (0, 0, 0o755)),
        ("/usr/lib/sysusers.d/netbootd.conf", (0, 0, 0o644)),
        ("/usr/share/man/man1/netbootd-up.1.gz", (0, 0, 0o644)),
        ("/usr/share/man/man5/netbootd.toml.5.gz", (0, 0, 0o644)),
        ("/usr/share/bash-completion/completions/netbootd", (0, 0, 0o644)),
        ("/usr/share/netbootd/netbootd.schema.json", (0, 0, 0o644)),
        ("/usr/share/netbootd/templates/debian/preseed.cfg", (0, 0, 0o644)),
        ("/usr/share/doc/netbootd/README.md", (0, 0, 0o644)),
        ("/usr/share/doc/netbootd/secure-boot.md", (0, 0, 0o644)),
        ("/usr/share/doc/netbootd/copyright", (0, 0, 0o644)),
    ] {
        let is = owner(name)?;
        ensure!(is == wanted, "{name} is {is:?}, not {wanted:?}");
    }
    let conffiles = root.run(&["dpkg-query", "--show", "--showformat=${Conffiles}", "netbootd"])?;
    ensure!(conffiles.trim().starts_with("/etc/netbootd/netbootd.toml "), "{conffiles}");
    ensure!(conffiles.lines().filter(|line| !line.is_empty()).count() == 1, "{conffiles}");
    root.run(&["dpkg", "--verify", "netbootd"])?;
    let version = root.run(&["netbootd", "--version"])?;
    ensure!(version.trim() == format!("netbootd {}", env!("CARGO_PKG_VERSION")), "{version}");
    let check = root.run(&["netbootd", "check"])?;
    ensure!(check.contains("/etc/netbootd/netbootd.toml has no faults"), "{check}");
    // The loaders came with it.
    let loaders = root.run(&["netbootd", "loaders"])?;
    ensure!(loaders.contains("/usr/lib/ipxe/"), "{loaders}");
    Ok(())
}

/// The same package with a later version.
fn newer(root: &Root) -> Result<()> {
    let files = root.path("/newer");
    run(Command::new("dpkg-deb").arg("-R").arg(root.path("/netbootd.deb")).arg(&files))?;
    let control = files.join("DEBIAN/control");
    let text = fs::read_to_string(&control)?;
    let later = text.replace("\nVersion: ", "\nVersion: 99:");
    ensure!(later != text, "{text}");
    fs::write(&control, later)?;
    run(Command::new("dpkg-deb").arg("-b").arg(&files).arg(root.path("/newer.deb")))?;
    Ok(())
}

/// The unit's own bounds, and what the process has given up itself.
fn confined(running: &Running) -> Result<()> {
    let pid = running.property("MainPID")?;
    let status = running.run(&["cat", &format!("/proc/{pid}/status")])?;
    let uid = running.run(&["id", "-u", "netbootd"])?;
    let uid = uid.trim();
    // CAP_NET_BIND_SERVICE and CAP_NET_RAW.
    let capabilities = "0000000000002400";
    for (field, wanted) in [
        ("Uid:", format!("{uid} {uid} {uid} {uid}")),
        ("CapPrm:", capabilities.into()),
        ("CapEff:", capabilities.into()),
        ("CapBnd:", capabilities.into()),
        ("NoNewPrivs:", "1".into()),
        ("Seccomp:", "2".into()),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        let is = line.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(is == wanted, "{field} {is}, and not {wanted}");
    }
    let journal = running.journal();
    let bounds = "sandboxed: writes only in /run/netbootd and /var/lib/netbootd";
    ensure!(journal.contains(bounds) && !journal.contains("WARN"), "{journal}");
    running.run(&["netbootd", "machines"]).context("the control socket")?;
    // A configuration that has not changed is read again without a word.
    running.run(&["sh", "-c", "echo '# changed' >> /etc/netbootd/netbootd.toml"])?;
    running.run(&["systemctl", "reload", "netbootd"])?;
    wait(running, "configuration read again: 1 profiles")?;
    ensure!(running.property("MainPID")? == pid, "a reload is no restart");
    let kept = running.run(&["stat", "--format=%U %a", "/var/lib/netbootd/state.db"])?;
    ensure!(kept.trim() == "netbootd 600", "{kept}");
    Ok(())
}

fn boots(lab: &Lab, files: &BootFiles, running: &Running) -> Result<()> {
    let vm = Vm::start(lab, Firmware::BiosPlainRom, 1)?;
    let words = vm.last_words(BOOT).with_context(|| running.journal())?;
    ensure!(words.payload_ok && words.kernel == files.release() && words.cmdline == "console=ttyS0", "{words:?}");
    wait(running, "handed_over")
}

/// It goes on where it ran, with the configuration as it was, and stays off where it did not.
fn upgrade(root: &Root, running: &Running) -> Result<()> {
    let (before, configuration) = (running.property("MainPID")?, root.read("/etc/netbootd/netbootd.toml")?);
    // Some job copies images there.
    running.run(&["chown", "games:games", "/var/lib/netbootd/assets"])?;
    running.run(&["dpkg", "--install", "/newer.deb"])?;
    let owner = running.run(&["stat", "--format=%U", "/var/lib/netbootd/assets"])?;
    ensure!(owner.trim() == "games", "the assets folder was taken back: {owner}");
    ensure!(running.property("ActiveState")? == "active" && running.property("MainPID")? != before, "no restart");
    ensure!(root.read("/etc/netbootd/netbootd.toml")? == configuration, "the configuration is another one");
    ensure!(root.path("/var/lib/netbootd/state.db").exists(), "the state is gone");
    running.run(&["systemctl", "stop", "netbootd"])?;
    ensure!(running.journal().contains("stopped"), "{}", running.journal());
    running.run(&["dpkg", "--install", "/newer.deb"])?;
    ensure!(running.property("ActiveState")? == "inactive", "it was off, and runs");
    running.run(&["systemctl", "start", "netbootd"])?;
    Ok(())
}

fn remove(root: &Root, running: &Running) -> Result<()> {
    running.run(&["dpkg", "--remove", "netbootd"])?;
    ensure!(running.property("ActiveState")? == "inactive", "it runs on");
    ensure!(!root.path("/usr/bin/netbootd").exists(), "it is still there");
    ensure!(root.read("/etc/netbootd/netbootd.toml")?.starts_with(CONFIGURATION), "the configuration is gone");
    ensure!(root.path("/var/lib/netbootd/state.db").exists(), "the state is gone");
    let image = root.path("/var/lib/netbootd/assets/own.iso");
    fs::write(&image, "the administrator's")?;
    running.run(&["dpkg", "--purge", "netbootd"])?;
    ensure!(image.exists(), "images that netbootd did not make are gone");
    for gone in ["/etc/netbootd", "/var/lib/netbootd/state.db", "/run/netbootd"] {
        ensure!(!root.path(gone).exists(), "{gone} is still there");
    }
    running.run(&["dpkg", "--install", "/newer.deb"])?;
    fs::remove_file(image)?;
    running.run(&["dpkg", "--purge", "netbootd"])?;
    ensure!(!root.path("/var/lib/netbootd").exists(), "an empty folder is still there");
    let enabled = running.run(&["find", "/etc/systemd/system", "-name", "netbootd*"])?;
    ensure!(enabled.is_empty(), "{enabled}");
    Ok(())
}

#[test]
#[ignore = "minutes, and packages that are built first: make package-test"]
fn rpm() -> Result<()> {
    let Some(()) = required(&[ROOT_TOOLS, RPM_TOOLS]) else { return Ok(()) };
    let package = built("rpm")?;
    let query = |what: &str| run(Command::new("rpm").args(["-qp", what]).arg(&package));
    ensure!(query("--requires")?.lines().any(|line| line == "ipxe-bootimgs-x86"), "{}", query("--requires")?);
    ensure!(query("--configfiles")?.trim() == "/etc/netbootd/netbootd.toml");

    // Its scripts run in a system of its own, which need not be one with rpm.
    let root = Root::debian("bookworm")?;
    let rpm = |arguments: &[&str], package: &Path| {
        run(Command::new("rpm").arg("--root").arg(root.path("/")).args(arguments).arg(package))
    };
    let said = rpm(&["--install", "--nodeps"], &package)?;
    ensure!(said.contains("systemctl enable --now netbootd"), "{said}");
    ensure!(root.read("/etc/passwd")?.contains("\nnetbootd:"), "there is no user");
    let version = root.run(&["netbootd", "--version"])?;
    ensure!(version.trim() == format!("netbootd {}", env!("CARGO_PKG_VERSION")), "{version}");
    let configuration = fs::metadata(root.path("/etc/netbootd/netbootd.toml"))?;
    ensure!(configuration.gid() != 0 && configuration.mode() & 0o7777 == 0o640, "{configuration:?}");
    let service = fs::metadata(root.path("/usr/lib/systemd/system/netbootd.service"))?;
    ensure!((service.uid(), service.mode() & 0o7777) == (0, 0o644), "{service:?}");
    let verified = rpm(&["--verify", "--nodeps"], Path::new("netbootd"))?;
    ensure!(verified.trim().is_empty(), "{verified}");
    let check = root.run(&["netbootd", "check"])?;
    ensure!(check.contains("/etc/netbootd/netbootd.toml has no faults"), "{check}");

    fs::write(root.path("/etc/netbootd/netbootd.toml"), CONFIGURATION)?;
    rpm(&["--erase"], Path::new("netbootd"))?;
    ensure!(!root.path("/usr/bin/netbootd").exists(), "it is still there");
    ensure!(root.read("/etc/netbootd/netbootd.toml.rpmsave")? == CONFIGURATION, "the configuration is gone");
    Ok(())
}

/// Of one machine that is started from the image, another one boots.
#[test]
#[ignore = "minutes, and packages that are built first: make package-test"]
fn appliance() -> Result<()> {
    let Some(()) = required(&[NETWORK_TOOLS, VM_TOOLS, ROOT_TOOLS, APPLIANCE_TOOLS]) else { return Ok(()) };
    let lab = Lab::new()?;
    let files = BootFiles::prepare(&lab)?;
    let (image, configuration) = (lab.directory().join("appliance.img"), lab.directory().join("netbootd.toml"));
    // Assets are where they are by default.
    fs::write(&configuration, CONFIGURATION.replace("assets = \"/srv/netboot\"", ""))?;
    let mut build = Command::new(source("packaging/appliance/build"));
    run(build.arg(&image).arg(built("deb")?).arg(files.folder()).arg(&configuration))?;

    let leases = lab.host("dhcp", Some("10.77.0.1/24"))?;
    let _leases = LeaseServer::start_with_ipv6_router(&lab, &leases, [10, 77, 0, 100].into(), [10, 77, 0, 199].into())?;
    let appliance = Vm::start_from_disk(&lab, Firmware::UefiPxe, 1, &image)?;
    appliance.wait_for_line("waiting on ", BOOT)?;
    let words = Vm::start(&lab, Firmware::BiosPlainRom, 2)?.last_words(BOOT);
    let words = words.with_context(|| appliance.console().lines().join("\n"))?;
    ensure!(words.payload_ok && words.kernel == files.release() && words.cmdline == "console=ttyS0", "{words:?}");
    appliance.wait_for_line("handed_over", BOOT)?;
    Ok(())
}

#[test]
#[ignore = "minutes, and packages that are built first: make package-test"]
fn the_distributions_own_examiners_find_no_error() -> Result<()> {
    let Some(()) = required(&[DEB_TOOLS, RPM_TOOLS]) else { return Ok(()) };
    run(Command::new("lintian").args(["--allow-root", "--fail-on=error", "--tag-display-limit=0"]).arg(built("deb")?))?;
    let said =
        run(Command::new("rpmlint").arg("--config").arg(source("packaging/rpm/rpmlint.toml")).arg(built("rpm")?))?;
    ensure!(said.contains(" 0 errors"), "{said}");
    Ok(())
}

/// A file of this repository.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn wait(running: &Running, line: &str) -> Result<()> {
    for _ in 0..100 {
        if running.journal().contains(line) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    anyhow::bail!("`{line}` is not there:\n{}", running.journal())
}

/// Emulated without KVM.
const BOOT: Duration = Duration::from_secs(240);
