//! Real firmware boots a real kernel through this netbootd, with the leasing server on another host of the lab.
//!
//! The machine itself is asked what it booted: its kernel, its whole command line, and whether every byte of the last
//! file arrived. netbootd is asked what it saw, and has to stop in order.

mod machines;

use std::{
    fs,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{
    BootFiles, Firmware, Lab, LastWords, LeaseServer, NETWORK_TOOLS, Process, Signal, VM_TOOLS, Vm, required,
};

/// The ROM says that it is an iPXE with HTTP: it needs no loader.
#[test]
fn bios_with_ipxe_in_its_rom() -> Result<()> {
    let cmdline = "console=ttyS0 hostname=52-54-00-6c-62-01 role=lab";
    boots(Firmware::Bios, 1, cmdline, &["discover", "offer", "script", "kernel", "initrd"])
}

/// The ROM looks like any other: undionly.kpxe comes by TFTP.
#[test]
fn bios_with_a_plain_rom() -> Result<()> {
    let cmdline = "console=ttyS0 hostname=52-54-00-6c-62-02 role=lab";
    boots(Firmware::BiosPlainRom, 2, cmdline, &["discover", "offer", "loader", "script", "kernel", "initrd"])
}

/// An EFI kernel finds its initrds by name on the command line, behind its own name.
#[test]
fn uefi_pxe() -> Result<()> {
    let cmdline = "vmlinuz initrd=base.img initrd=payload.img console=ttyS0 hostname=52-54-00-6c-62-03 role=lab";
    boots(Firmware::UefiPxe, 3, cmdline, &["discover", "offer", "loader", "script", "kernel", "initrd"])
}

/// The loader comes by HTTP, from a proxy offer alone.
#[test]
fn uefi_http_boot() -> Result<()> {
    let cmdline = "vmlinuz initrd=base.img initrd=payload.img console=ttyS0 hostname=52-54-00-6c-62-04 role=lab";
    boots(Firmware::UefiHttp, 4, cmdline, &["discover", "offer", "loader", "script", "kernel", "initrd"])
}

/// The kernel is not there when the machine asks for it: its screen says so, and half a minute later it tries again by
/// itself, when someone has put it back.
#[test]
fn a_boot_that_failed_says_so_and_tries_again() -> Result<()> {
    let Some(stand) = Stand::new()? else { return Ok(()) };
    let (kernel, aside) = (stand.files.kernel(), stand.files.folder().join("aside"));
    fs::rename(&kernel, &aside)?;
    let vm = Vm::start(&stand.lab, Firmware::Bios, 5)?;
    vm.wait_for_line("netbootd: profile command-line did not boot; the lines above say why", BOOT)
        .with_context(|| printed(&stand.netbootd))?;
    vm.wait_for_line("Try again (by itself after 30 s)", START)?;
    stand.netbootd.wait_for_line("refused      there is no file vmlinuz", START)?;
    fs::rename(&aside, &kernel)?;
    let words = vm.last_words(BOOT).with_context(|| printed(&stand.netbootd))?;
    ensure!(words.payload_ok, "{words:?}");
    Ok(())
}

/// Without a kernel on the command line there is a menu, and it boots the profile that its user goes to.
#[test]
fn the_menu_boots_what_is_chosen() -> Result<()> {
    let config = "default_profile = \"menu\"\n[profiles.debian]\nkernel = \"vmlinuz\"\n\
                  initrd = [\"base.img\", \"payload.img\"]\ncmdline = \"console=ttyS0 chosen={{ machine.arch }}\"\n";
    let serve = |files: &BootFiles, command: &mut Command| {
        let path = files.folder().join("netbootd.toml");
        fs::write(&path, config)?;
        command.arg("--config").arg(path).arg("--assets").arg(files.folder());
        Ok(())
    };
    let Some(stand) = Stand::serving(serve)? else { return Ok(()) };
    let mut vm = Vm::start(&stand.lab, Firmware::Bios, 6)?;
    vm.wait_for_line("Boot from the local disk", BOOT).with_context(|| printed(&stand.netbootd))?;
    // From the local disk, where the cursor is so that nobody installs by mistake, up to the only profile.
    vm.console_mut().send(b"\x1b[A")?;
    vm.console_mut().send(b"\n")?;
    let words = vm.last_words(BOOT).with_context(|| printed(&stand.netbootd))?;
    ensure!(words.cmdline == "console=ttyS0 chosen=i386", "{words:?}");
    Ok(())
}

fn boots(firmware: Firmware, number: u8, cmdline: &str, stages: &[&str]) -> Result<()> {
    let Some(mut stand) = Stand::new()? else { return Ok(()) };
    let vm = Vm::start(&stand.lab, firmware, number).with_context(|| printed(&stand.netbootd))?;
    let words = vm.last_words(BOOT).with_context(|| printed(&stand.netbootd))?;
    let expected = LastWords {
        mac: vm.mac().to_owned(),
        kernel: stand.files.release().to_owned(),
        cmdline: cmdline.to_owned(),
        payload_ok: true,
    };
    let netbootd = &mut stand.netbootd;
    ensure!(words == expected, "the machine said {words:#?}\ninstead of {expected:#?}\n{}", printed(netbootd));

    netbootd.signal(Signal::SIGTERM)?;
    let status = netbootd.wait_exit(STOP)?;
    ensure!(status.code() == Some(0), "netbootd ended with {status}\n{}", printed(netbootd));
    let seen = stages_of(vm.mac(), &netbootd.lines(), stages);
    ensure!(seen == stages, "netbootd named {seen:?}\ninstead of {stages:?}\n{}", printed(netbootd));
    Ok(())
}

/// A lab with a leasing server on one host and netbootd on another, ready. Fields are dropped in this order.
struct Stand {
    netbootd: Process,
    files: BootFiles,
    _leases: LeaseServer,
    lab: Lab,
    _turn: MutexGuard<'static, ()>,
}

impl Stand {
    /// A kernel and its initrds on the command line.
    fn new() -> Result<Option<Self>> {
        Self::serving(|files, command| {
            command.arg(files.kernel()).args(files.initrds());
            command.args(["--", "console=ttyS0", "hostname={{ machine.name }}", "role=lab"]);
            Ok(())
        })
    }

    fn serving(serve: impl FnOnce(&BootFiles, &mut Command) -> Result<()>) -> Result<Option<Self>> {
        let Some(()) = required(&[NETWORK_TOOLS, VM_TOOLS]) else { return Ok(None) };
        // An emulated machine takes a whole core, and a slow one runs into the timeouts of its own firmware.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);

        let lab = Lab::new()?;
        let files = BootFiles::prepare(&lab)?;
        let dhcp = lab.host("dhcp", Some("10.77.0.1/24"))?;
        let leases =
            LeaseServer::start_with_ipv6_router(&lab, &dhcp, [10, 77, 0, 100].into(), [10, 77, 0, 199].into())?;
        let host = lab.host("netbootd", Some("10.77.0.2/24"))?;
        let mut command = host.command(env!("CARGO_BIN_EXE_netbootd"));
        serve(&files, command.args(["up", "--interface", "eth1"]))?;
        let netbootd = Process::spawn("netbootd", &mut command)?;
        netbootd.wait_for_line("waiting on eth1 (10.77.0.2)", START)?;
        Ok(Some(Self { netbootd, files, _leases: leases, lab, _turn: turn }))
    }
}

/// Those of `wanted` that netbootd named for this machine, in the order in which it first did. The word behind the
/// machine's address is the stage; a stage may come again, as `discover` does when iPXE starts.
fn stages_of<'a>(mac: &str, lines: &[String], wanted: &[&'a str]) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for line in lines {
        let stage = line.split_whitespace().skip_while(|word| *word != mac).nth(1);
        if let Some(stage) = wanted.iter().copied().find(|wanted| Some(*wanted) == stage)
            && !seen.contains(&stage)
        {
            seen.push(stage);
        }
    }
    seen
}

fn printed(netbootd: &Process) -> String {
    format!("netbootd printed:\n{}", netbootd.lines().join("\n"))
}

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(30);
/// Emulated without KVM: 5 to 25 s on an idle machine, several times that on a busy one.
const BOOT: Duration = Duration::from_secs(240);
