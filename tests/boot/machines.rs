//! Machines that rules tell apart: each boots what is its own, has its own answers, and is installed once.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{BootFiles, Firmware, LastWords, Vm};

use crate::stand::{BOOT, Place, START, Stand};

/// What a BIOS calls i386, and UEFI x86_64, is the same kernel here under two names.
const CONFIGURATION: &str = r#"
templates = "FOLDER/templates"
default_profile = "debian"

[profiles.debian]
initrd = ["base.img", "payload.img"]
cmdline = 'console=ttyS0 ds=nocloud-net;s={{ answers("cloud") }}'
[profiles.debian.arch.i386]
kernel = "i386/vmlinuz"
[profiles.debian.arch.x86_64]
kernel = "x86_64/vmlinuz"
cmdline = "console=ttyS0 variant={{ machine.arch }}"
[profiles.rescue]
kernel = "vmlinuz"
initrd = ["base.img", "payload.img"]
cmdline = "console=ttyS0 rescue={{ machine.name }}"

[[machines]]
name = "by-mac"
mac = "52:54:00:6c:62:07"
profile = "debian"
once = true
vars = { password = "correct horse: \"battery\"" }
[[machines]]
name = "by-uuid"
uuid = "6e626f74-6c61-4000-8000-5254006c6208"
profile = "rescue"
"#;

fn stand() -> Result<Option<Stand>> {
    let serve = |files: &BootFiles, command: &mut Command| {
        let folder = files.folder();
        for arch in ["i386", "x86_64"] {
            fs::create_dir(folder.join(arch))?;
            fs::copy(files.kernel(), folder.join(arch).join("vmlinuz"))?;
        }
        fs::create_dir_all(folder.join("templates/cloud"))?;
        let user_data = "#cloud-config\nmac: {{ machine.mac }}\npassword: {{ vars.password | default('none') }}\n";
        fs::write(folder.join("templates/cloud/user-data"), user_data)?;
        fs::write(folder.join("templates/cloud/meta-data"), "local-hostname: {{ machine.name }}\n")?;
        let path = folder.join("netbootd.toml");
        fs::write(&path, CONFIGURATION.replace("FOLDER", &folder.display().to_string()))?;
        command.arg("--config").arg(path).arg("--assets").arg(folder);
        command.env("NETBOOTD_STATE__URL", "sqlite://:memory:");
        Ok(())
    };
    Stand::serving(Place::TwoHosts, serve)
}

fn words(stand: &Stand, vm: &Vm) -> Result<LastWords> {
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.payload_ok, "{words:?}");
    Ok(words)
}

/// A BIOS machine boots its installer, which fetches its answers with a lease of its own. Switched on again, it goes on
/// to its disk. Nobody else gets its answers.
#[test]
fn a_machine_is_installed_once_with_its_own_answers_and_then_boots_its_disk() -> Result<()> {
    let Some(stand) = stand()? else { return Ok(()) };
    let netbootd = &stand.netbootd;
    let vm = Vm::start(&stand.lab, Firmware::Bios, 7)?;
    let words = words(&stand, &vm)?;
    let seed = words.cmdline.strip_prefix("console=ttyS0 ds=nocloud-net;s=").context("no seed")?;
    let expected = [
        "LAB-ANSWER user-data #cloud-config",
        "LAB-ANSWER user-data mac: \"52:54:00:6c:62:07\"",
        "LAB-ANSWER user-data password: \"correct horse: \\\"battery\\\"\"",
        "LAB-ANSWER meta-data local-hostname: \"by-mac\"",
    ];
    let lines = vm.console().lines();
    let answers: Vec<&String> = lines.iter().filter(|line| line.starts_with("LAB-ANSWER ")).collect();
    ensure!(answers == expected, "{lines:#?}\n{}", stand.printed());
    for line in [
        "script       profile debian, once",
        "kernel       i386/vmlinuz, ",
        "handed_over  it has its kernel and all initrds",
        "answer       cloud/user-data, ",
    ] {
        netbootd.wait_for_line(&format!("52:54:00:6c:62:07 {line}"), START)?;
    }
    drop(vm);

    let stranger = stand.lab.host("stranger", Some("10.77.0.3/24"))?;
    let (_, below) = seed.split_once("/answers/").context("no address of ours")?;
    let status = |path: &str| -> Result<String> {
        let url = format!("http://10.77.0.2:8080/answers/{path}");
        let curl = ["-sS", "--max-time", "10", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
        Ok(String::from_utf8(stranger.command("curl").args(curl).output()?.stdout)?)
    };
    for path in ["cloud/user-data?mac=52:54:00:6c:62:07", "s/unsigned/cloud/user-data", &format!("{below}../user-data")]
    {
        ensure!(status(path)? != "200", "{path} was given to a stranger\n{}", stand.printed());
    }
    ensure!(status("cloud/user-data?mac=52:54:00:6c:62:07")? == "403", "{}", stand.printed());

    let vm = Vm::start_with_disk(&stand.lab, Firmware::Bios, 7)?;
    vm.wait_for_line(Vm::DISK, BOOT).with_context(|| stand.printed())?;
    let spent = "52:54:00:6c:62:07 script       local disk: already booted its one-time profile";
    netbootd.wait_for_line(spent, START)?;
    Ok(())
}

/// Two UEFI machines: one that a rule knows by its UUID, and one that no rule knows, which gets the default profile's
/// variant for it.
#[test]
fn a_uuid_chooses_a_profile_and_the_firmware_its_variant() -> Result<()> {
    let Some(stand) = stand()? else { return Ok(()) };
    for (number, expected, lines) in [
        (8, "rescue=by-uuid", ["script       profile rescue", "kernel       vmlinuz, "]),
        (9, "variant=x86_64", ["script       profile debian", "kernel       x86_64/vmlinuz, "]),
    ] {
        let vm = Vm::start(&stand.lab, Firmware::UefiPxe, number)?;
        let cmdline = words(&stand, &vm)?.cmdline;
        let whole = format!("vmlinuz initrd=base.img initrd=payload.img console=ttyS0 {expected}");
        ensure!(cmdline == whole, "{cmdline}\n{}", stand.printed());
        for line in lines {
            stand.netbootd.wait_for_line(&format!("{} {line}", vm.mac()), START)?;
        }
    }
    Ok(())
}
