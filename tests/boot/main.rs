//! Real firmware boots a real kernel through this netbootd, beside a leasing server that knows nothing of it.
//!
//! The machine itself is asked what it booted: its kernel, its whole command line, and whether every byte of the last
//! file arrived. netbootd is asked what it saw, and has to stop in order.

mod appliances;
mod arm64;
mod first_boot;
mod images;
mod lease;
mod machines;
mod once;
mod page;
mod secure_boot;
mod snippets;
mod stand;

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{BootFiles, Firmware, Vm};

use stand::{BOOT, Place, START, Stand};

/// The ROM says that it is an iPXE with HTTP: it needs no loader.
#[test]
fn bios_with_ipxe_in_its_rom() -> Result<()> {
    let cmdline = "console=ttyS0 hostname=52-54-00-6c-62-01 role=lab";
    boots(Place::TwoHosts, Firmware::Bios, 1, cmdline, &["discover", "offer", "script", "kernel", "initrd"])
}

/// The ROM looks like any other: undionly.kpxe comes by TFTP.
#[test]
fn bios_with_a_plain_rom() -> Result<()> {
    let cmdline = "console=ttyS0 hostname=52-54-00-6c-62-02 role=lab";
    boots(
        Place::TwoHosts,
        Firmware::BiosPlainRom,
        2,
        cmdline,
        &["discover", "offer", "loader", "script", "kernel", "initrd"],
    )
}

/// An EFI kernel finds its initrds by name on the command line, behind its own name.
#[test]
fn uefi_pxe() -> Result<()> {
    let cmdline = "vmlinuz initrd=base.img initrd=payload.img console=ttyS0 hostname=52-54-00-6c-62-03 role=lab";
    boots(
        Place::TwoHosts,
        Firmware::UefiPxe,
        3,
        cmdline,
        &["discover", "offer", "loader", "script", "kernel", "initrd"],
    )
}

/// The loader comes by HTTP, from a proxy offer alone.
#[test]
fn uefi_http_boot() -> Result<()> {
    let cmdline = "vmlinuz initrd=base.img initrd=payload.img console=ttyS0 hostname=52-54-00-6c-62-04 role=lab";
    boots(
        Place::TwoHosts,
        Firmware::UefiHttp,
        4,
        cmdline,
        &["discover", "offer", "loader", "script", "kernel", "initrd"],
    )
}

/// An offer without a boot file and without option 43: EDK2 asks port 4011, from its own port 4011.
#[test]
fn uefi_by_the_boot_server() -> Result<()> {
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        command.env("NETBOOTD_DHCP__OFFER", "boot_server").arg(files.kernel()).args(files.initrds());
        command.args(["--", "console=ttyS0"]);
        Ok(())
    })?;
    let Some(mut stand) = stand else { return Ok(()) };
    let cmdline = "vmlinuz initrd=base.img initrd=payload.img console=ttyS0";
    let stages = ["discover", "offer", "boot_server", "loader", "script", "kernel", "initrd"];
    stand.boots(Firmware::UefiPxe, 7, cmdline, &stages)
}

/// dnsmasq has port 67 for itself: netbootd listens at layer 2.
#[test]
fn bios_beside_the_leasing_server_on_one_host() -> Result<()> {
    let cmdline = "console=ttyS0 hostname=52-54-00-6c-62-08 role=lab";
    boots(Place::OneHost, Firmware::Bios, 8, cmdline, &["discover", "offer", "script", "kernel", "initrd"])
}

#[test]
fn uefi_beside_the_leasing_server_on_one_host() -> Result<()> {
    let cmdline = "vmlinuz initrd=base.img initrd=payload.img console=ttyS0 hostname=52-54-00-6c-62-09 role=lab";
    boots(Place::OneHost, Firmware::UefiPxe, 9, cmdline, &["discover", "offer", "loader", "script", "kernel", "initrd"])
}

/// Both servers are behind a router: offers find their way back by giaddr, and everything else is routed.
#[test]
fn bios_through_a_relay() -> Result<()> {
    let cmdline = "console=ttyS0 hostname=52-54-00-6c-62-0a role=lab";
    let stages = ["discover", "offer", "loader", "script", "kernel", "initrd"];
    boots(Place::BehindRelay, Firmware::BiosPlainRom, 10, cmdline, &stages)
}

#[test]
fn uefi_through_a_relay() -> Result<()> {
    let cmdline = "vmlinuz initrd=base.img initrd=payload.img console=ttyS0 hostname=52-54-00-6c-62-0b role=lab";
    let stages = ["discover", "offer", "loader", "script", "kernel", "initrd"];
    boots(Place::BehindRelay, Firmware::UefiPxe, 11, cmdline, &stages)
}

/// The profile names a file that is not there: the machine's screen says so. Somebody corrects the profile, which then has
/// another file's name, and half a minute later the machine boots it, without being switched off and on.
#[test]
fn a_boot_that_failed_says_so_and_tries_again() -> Result<()> {
    let profile = |kernel: &str| {
        format!(
            "default_profile = \"lab\"\n[profiles.lab]\nkernel = \"{kernel}\"\n\
             initrd = [\"base.img\", \"payload.img\"]\ncmdline = \"console=ttyS0\"\n"
        )
    };
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        let path = files.folder().join("netbootd.toml");
        fs::write(&path, profile("vmlinux"))?;
        command.arg("--config").arg(path).arg("--assets").arg(files.folder());
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start(&stand.lab, Firmware::Bios, 5)?;
    vm.wait_for_line("netbootd has no boot for 52:54:00:6c:62:05:", BOOT).with_context(|| stand.printed())?;
    vm.wait_for_line("cannot boot: there is no file vmlinux", START)?;
    vm.wait_for_line("Try again (automatic after 30 s)", START)?;
    stand.netbootd.wait_for_line("cannot boot: there is no file vmlinux", START)?;
    fs::write(stand.files.folder().join("netbootd.toml"), profile("vmlinuz"))?;
    stand.netbootd.wait_for_line("configuration read again", START)?;
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.payload_ok && words.cmdline == "console=ttyS0", "{words:?}");
    Ok(())
}

/// Ten profiles that cannot boot, each for another reason, and a state that cannot be read: the eleventh boots.
#[test]
fn ten_faulty_profiles_keep_no_machine_from_the_good_one() -> Result<()> {
    let faulty = "[profiles.kernel]\nkernel = \"later/vmlinuz\"\n\
                  [profiles.initrd]\nkernel = \"vmlinuz\"\ninitrd = [\"gone.img\"]\n\
                  [profiles.folder]\nkernel = \".\"\n\
                  [profiles.outside]\nkernel = \"../outside\"\n\
                  [profiles.template]\nscript = \"gone.ipxe\"\n\
                  [profiles.cmdline]\nkernel = \"vmlinuz\"\ncmdline = \"{{ machine.nmae }}\"\n\
                  [profiles.nothing]\ntitle = \"Nothing\"\n\
                  [profiles.two]\nkernel = \"vmlinuz\"\niso = \"x.iso\"\n\
                  [profiles.efi]\nefi = \"gone.efi\"\n\
                  [profiles.disk]\ndisk = \"gone.img\"\n";
    let good = "default_profile = \"good\"\n[profiles.good]\nkernel = \"vmlinuz\"\n\
                initrd = [\"base.img\", \"payload.img\"]\ncmdline = \"console=ttyS0 chosen=good\"\n";
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        let path = files.folder().join("netbootd.toml");
        fs::write(&path, format!("{good}[state]\nurl = \"sqlite:///no/such/folder/state.db\"\n{faulty}"))?;
        command.arg("--config").arg(path).arg("--assets").arg(files.folder());
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start(&stand.lab, Firmware::Bios, 9)?;
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.payload_ok && words.cmdline == "console=ttyS0 chosen=good", "{words:?}");
    Ok(())
}

/// Without a kernel on the command line there is a menu, and it boots the profile that its user goes to.
#[test]
fn the_menu_boots_what_is_chosen() -> Result<()> {
    let config = "default_profile = \"menu\"\n[profiles.debian]\nkernel = \"vmlinuz\"\n\
                  initrd = [\"base.img\", \"payload.img\"]\ncmdline = \"console=ttyS0 chosen={{ machine.arch }}\"\n";
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        let path = files.folder().join("netbootd.toml");
        fs::write(&path, config)?;
        command.arg("--config").arg(path).arg("--assets").arg(files.folder());
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let mut vm = Vm::start(&stand.lab, Firmware::Bios, 6)?;
    vm.wait_for_line("Boot from the local disk", BOOT).with_context(|| stand.printed())?;
    // From the local disk, where the cursor is so that nobody installs by mistake, up to the only profile.
    vm.console_mut().send(b"\x1b[A")?;
    vm.console_mut().send(b"\n")?;
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.cmdline == "console=ttyS0 chosen=i386", "{words:?}");
    Ok(())
}

/// The cable is out of its switch for 8 s while iPXE fetches the kernel: the connection survives, and the boot is late.
#[test]
fn a_link_that_is_down_for_8_s_in_mid_download_only_delays_the_boot() -> Result<()> {
    let Some(stand) = Stand::with_rate_limit("2MB")? else { return Ok(()) };
    let vm = Vm::start(&stand.lab, Firmware::Bios, 7)?;
    stand.netbootd.wait_for_line("script       profile command-line", BOOT)?;
    // The kernel takes 7 s; that the link is down within them is seen below.
    stand.wait_until_acknowledged(1_000_000)?;
    vm.unplug()?;
    thread::sleep(Duration::from_secs(8));
    vm.plug_in()?;
    stand.netbootd.wait_for_line("vmlinuz: no progress for ", START).with_context(|| stand.printed())?;
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.payload_ok, "{words:?}");
    let cut = stand.netbootd.lines().iter().any(|line| line.contains(": stopped at "));
    ensure!(!cut, "a download was given up\n{}", stand.printed());
    Ok(())
}

/// UEFI HTTP Boot gives a download up after 5 s without progress (HttpBootDxe, `HTTP_BOOT_RESPONSE_TIMEOUT`), and before
/// 2024-09 it resumes none. A cut of 2 s is not felt: what was lost is sent again in time.
#[test]
fn uefi_http_boot_does_not_feel_a_link_that_is_down_for_2_s() -> Result<()> {
    let serve = |files: &BootFiles, command: &mut Command| {
        let folder = files.folder().join("loaders");
        fs::create_dir(&folder)?;
        // What follows a PE image is not looked at: it takes 4 s to fetch.
        let mut loader = fs::read("/usr/lib/ipxe/snponly.efi")?;
        loader.resize(4_000_000, 0);
        fs::write(folder.join("snponly.efi"), loader)?;
        let path = files.folder().join("netbootd.toml");
        fs::write(&path, format!("loader_dirs = [{folder:?}]\n[http]\nrate_limit = \"1MB\"\n"))?;
        command.arg("--config").arg(path).arg(files.kernel()).args(files.initrds()).args(["--", "console=ttyS0"]);
        Ok(())
    };
    let Some(stand) = Stand::serving(Place::TwoHosts, serve)? else { return Ok(()) };
    let vm = Vm::start(&stand.lab, Firmware::UefiHttp, 8)?;
    stand.wait_until_acknowledged(1_000_000)?;
    vm.unplug()?;
    thread::sleep(Duration::from_secs(2));
    ensure!(stand.acknowledged()? < 4_000_000, "it had everything before the link was cut");
    vm.plug_in()?;
    let words = vm.last_words(BOOT).with_context(|| stand.printed())?;
    ensure!(words.payload_ok, "{words:?}");
    stand.netbootd.wait_for_line("snponly.efi, 4.0 MB in ", START)?;
    Ok(())
}

fn boots(place: Place, firmware: Firmware, number: u8, cmdline: &str, stages: &[&str]) -> Result<()> {
    let Some(mut stand) = Stand::new(place)? else { return Ok(()) };
    stand.boots(firmware, number, cmdline, stages)
}
