//! Images to their own userland: a Debian live system in three ways, one that is laid out as Fedora's, one as Proxmox', one
//! as Void's, Xen as XCP-ng's installer has it, Debian's installer, and the images of Debian's packages.

use std::{cell::Cell, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{
    Firmware, Tool, Vm, fedora_image, installer_image, live_image, proxmox_image, required, void_image, xen_image,
};

use crate::stand::{BOOT, Place, START, Stand};

/// `fetch=` of the file system in the image.
#[test]
fn a_live_system_on_bios() -> Result<()> {
    live(Firmware::BiosPlainRom, 0x31, "/live/filesystem.squashfs", &[])
}

/// The same by the iPXE of Debian 12 for UEFI.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn a_live_system_on_uefi() -> Result<()> {
    live(Firmware::UefiPxe, 0x32, "/live/filesystem.squashfs", &[])
}

/// `fetch=` of the whole image: what a profile says behind the image's own words goes before them.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn a_live_system_as_a_whole_image() -> Result<()> {
    live(Firmware::UefiPxe, 0x33, "", &["fetch={{ asset('Debian-live-12.iso') }}"])
}

fn live(firmware: Firmware, number: u8, fetched: &str, more: &[&str]) -> Result<()> {
    let image = live_image()?;
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        // A name that no client's shell takes.
        serve(&image, "Debian live (12).iso", files.folder(), command)?;
        command.args(["--", "console=ttyS0"]).args(more);
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start_with_memory(&stand.lab, firmware, number, 1024)?;
    let lines = ends(&stand, &vm, "LAB-LIVE")?;
    ensure!(said(&lines, "LAB-LIVE system=") == "LAB-LIVE system=debian 12", "{lines:#?}");
    ensure!(said(&lines, "LAB-LIVE root=") == "LAB-LIVE root=overlay", "{lines:#?}");
    let cmdline = said(&lines, "LAB-LIVE cmdline=");
    let url = format!("fetch=http://10.77.0.2:8080/assets/Debian-live-12.iso{fetched}");
    ensure!(cmdline.contains(&url) && cmdline.contains("BOOTIF=01-52-54-00-6c-62-"), "{cmdline}");
    let whole =
        if fetched.is_empty() { "Debian-live-12.iso, " } else { "Debian-live-12.iso/live/filesystem.squashfs, " };
    let seen = [
        "script       profile Debian-live-12",
        "kernel       Debian-live-12.iso/live/vmlinuz-",
        "initrd       Debian-live-12.iso/live/initrd.img-",
        // UEFI may start the kernel before the last bytes are acknowledged: then it is only probable.
        "handed_over  ",
        &format!("file         {whole}"),
    ];
    saw(&stand, &vm, &seen)
}

/// The initial RAM disk is one file made of pieces of the image: its own, zeros, and the whole image as a file. iPXE as Debian 12
/// has it cannot add a file on UEFI.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn a_made_initial_ram_disk_on_uefi() -> Result<()> {
    made(Firmware::UefiPxe, 0x35)
}

#[test]
#[ignore = "takes minutes: make iso-test"]
fn a_made_initial_ram_disk_on_bios() -> Result<()> {
    made(Firmware::BiosPlainRom, 0x3b)
}

fn made(firmware: Firmware, number: u8) -> Result<()> {
    let image = proxmox_image()?;
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        serve(&image, "pve.iso", files.folder(), command)?;
        command.args(["--", "console=ttyS0"]);
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start_with_memory(&stand.lab, firmware, number, 1024)?;
    let lines = ends(&stand, &vm, "LAB-MADE")?;
    let cmdline = said(&lines, "LAB-MADE cmdline=");
    ensure!(cmdline.contains("ramdisk_size=16777216") && cmdline.ends_with("console=ttyS0"), "{cmdline}");
    let sum = Command::new("sha256sum").arg(&image).output()?.stdout;
    let sum = String::from_utf8(sum)?.split(' ').next().unwrap_or_default().to_owned();
    ensure!(said(&lines, "LAB-MADE image=") == format!("LAB-MADE image={sum}"), "{lines:#?}");
    ensure!(said(&lines, "LAB-MADE file=") == "LAB-MADE file=from the image", "{lines:#?}");
    let seen = [
        "script       profile pve",
        "kernel       pve.iso/boot/linux26, ",
        "initrd       pve.iso/.netbootd/x86_64/initrd.img",
        "handed_over  ",
    ];
    saw(&stand, &vm, &seen)
}

/// dracut's `livenet` and `dmsquash-live` fetch the file system in the image.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn a_live_system_of_dracut() -> Result<()> {
    let image = fedora_image()?;
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        serve(&image, "Fedora Live.iso", files.folder(), command)?;
        command.args(["--", "console=ttyS0"]);
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start_with_memory(&stand.lab, Firmware::BiosPlainRom, 0x36, 1536)?;
    let lines = ends(&stand, &vm, "LAB-FEDORA")?;
    let cmdline = said(&lines, "LAB-FEDORA cmdline=");
    let url = "root=live:http://10.77.0.2:8080/assets/Fedora-Live.iso/LiveOS/squashfs.img ro rd.live.image ip=dhcp";
    ensure!(cmdline.contains(url), "{cmdline}");
    ensure!(said(&lines, "LAB-FEDORA root=") == "LAB-FEDORA root=ext4", "{lines:#?}");
    let seen = [
        "script       profile Fedora-Live",
        "script       it has 1536 MiB of memory, and needs ",
        "kernel       Fedora-Live.iso/images/pxeboot/vmlinuz, ",
        "initrd       Fedora-Live.iso/images/pxeboot/initrd.img, ",
        "handed_over  it has its kernel and all initrds",
        "file         Fedora-Live.iso/LiveOS/squashfs.img, ",
    ];
    saw(&stand, &vm, &seen)
}

/// iPXE starts Xen, which is served unpacked, and Xen its Linux, which has what the user added.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn xen_on_bios() -> Result<()> {
    let image = xen_image()?;
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        serve(&image, "xcp.iso", files.folder(), command)?;
        command.args(["--", "earlyprintk=xen,keep", "printk.time=0", "lab={{ machine.mac }}"]);
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start_with_memory(&stand.lab, Firmware::BiosPlainRom, 0x3d, 4096)?;
    let lines = ends(&stand, &vm, "LAB-XEN")?;
    ensure!(said(&lines, "LAB-XEN type=") == "LAB-XEN type=xen", "{lines:#?}");
    let cmdline = said(&lines, "LAB-XEN cmdline=");
    let theirs = format!("xencons=hvc console=hvc0 console=tty0 earlyprintk=xen,keep printk.time=0 lab={}", vm.mac());
    ensure!(cmdline.ends_with(&theirs), "{cmdline}");
    let seen = [
        "script       profile xcp",
        "kernel       xcp.iso/.netbootd/x86_64/xen, ",
        "initrd       xcp.iso/boot/vmlinuz, ",
        "initrd       xcp.iso/install.img, ",
        "handed_over  ",
    ];
    saw(&stand, &vm, &seen)
}

/// On UEFI, iPXE has no multiboot: the machine's screen says so.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn xen_on_uefi() -> Result<()> {
    let image = xen_image()?;
    let stand = Stand::serving(Place::TwoHosts, |files, command| serve(&image, "xcp.iso", files.folder(), command))?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start(&stand.lab, Firmware::UefiPxe, 0x3e)?;
    vm.wait_for_line("which iPXE starts only on a BIOS", BOOT).with_context(|| stand.printed())?;
    Ok(())
}

/// The same file system is put into the initial RAM disk, as for Void Linux, whose initial RAM disk has no network.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn a_live_system_of_dracut_without_a_network() -> Result<()> {
    let image = void_image()?;
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        serve(&image, "void.iso", files.folder(), command)?;
        command.args(["--", "console=ttyS0"]);
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start_with_memory(&stand.lab, Firmware::BiosPlainRom, 0x3c, 2048)?;
    let lines = ends(&stand, &vm, "LAB-FEDORA")?;
    let cmdline = said(&lines, "LAB-FEDORA cmdline=");
    ensure!(cmdline.ends_with("root=live:/squashfs.img rd.live.image console=ttyS0"), "{cmdline}");
    ensure!(said(&lines, "LAB-FEDORA root=") == "LAB-FEDORA root=ext4", "{lines:#?}");
    let seen = [
        "script       profile void",
        "kernel       void.iso/boot/vmlinuz, ",
        "initrd       void.iso/.netbootd/x86_64/initrd.img",
        "handed_over  ",
    ];
    saw(&stand, &vm, &seen)
}

/// The netboot kernel of a package, the image as its mirror, and a preseed by its signed address: up to the package that
/// partitions disks, which comes from the image.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn debians_installer_on_an_image_as_its_mirror() -> Result<()> {
    let package = Tool::new(
        "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux",
        "debian-installer-12-netboot-amd64",
    );
    let Some(()) = required(&[&[package]]) else { return Ok(()) };
    let image = installer_image()?;
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        let folder = files.folder();
        fs::copy(&image, folder.join("debian-12.iso"))?;
        fs::create_dir(folder.join("templates"))?;
        fs::write(folder.join("templates/lab.cfg"), PRESEED)?;
        let path = folder.join("netbootd.toml");
        let text = format!(
            "default_profile = \"debian\"\ntemplates = {:?}\n[profiles.debian]\niso = \"debian-12.iso\"\nanswers = \"lab.cfg\"\n\
             cmdline = \"console=ttyS0 DEBIAN_FRONTEND=text netcfg/get_nameservers=\"\n",
            folder.join("templates")
        );
        fs::write(&path, text)?;
        command.arg("--config").arg(path).arg("--assets").arg(folder);
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start_with_memory(&stand.lab, Firmware::BiosPlainRom, 0x37, 1024)?;
    vm.wait_for_line("LAB-INSTALLER partitions disks", LIVE).with_context(|| stand.printed())?;
    let lines = vm.console().lines();
    ensure!(said(&lines, "LAB-INSTALLER mirror=").ends_with("mirror=/assets/debian-12.iso"), "{lines:#?}");
    let seen = [
        "script       profile debian",
        "kernel       debian-12.iso/.netbootd/x86_64/linux, ",
        "initrd       debian-12.iso/.netbootd/x86_64/initrd.gz, ",
        "handed_over  it has its kernel and all initrds",
        "answer       lab.cfg",
        "file         debian-12.iso/dists/bookworm/Release, ",
        "file         debian-12.iso/pool/main/p/partman-base/partman-base_1_all.udeb, ",
    ];
    saw(&stand, &vm, &seen)
}

/// What the command line does not say already. The image has no modules for the kernel: what the package has is enough.
const PRESEED: &str = "d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/choose_interface select auto
d-i netcfg/get_hostname string lab
d-i netcfg/get_domain string example.org
d-i mirror/suite string bookworm
d-i mirror/udeb/suite string bookworm
d-i anna/no_kernel_modules boolean true
d-i anna/choose_modules string
d-i hw-detect/load_firmware boolean false
";

/// Its own boot menu has a kernel: an iPXE, which asks for its script in turn.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn the_image_of_ipxe() -> Result<()> {
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        serve(Path::new("/usr/lib/ipxe/ipxe.iso"), "ipxe.iso", files.folder(), command)
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start(&stand.lab, Firmware::Bios, 0x38)?;
    let seen = ["script       profile ipxe", "kernel       ipxe.iso/", "handed_over  "];
    saw(&stand, &vm, &seen)?;
    // The ROM has said the same once.
    let features = Cell::new(0);
    let is_second = |line: &str| {
        features.set(features.get() + u32::from(line.starts_with("Features:")));
        features.get() == 2
    };
    vm.console().wait_for("a second iPXE", BOOT, is_second).with_context(|| stand.printed())?;
    Ok(())
}

/// No kernel in it: iPXE makes a drive of it, from which GRUB starts.
#[test]
#[ignore = "takes minutes: make iso-test"]
fn the_rescue_image_of_grub() -> Result<()> {
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        serve(Path::new("/usr/lib/grub-rescue/grub-rescue-cdrom.iso"), "grub.iso", files.folder(), command)
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = Vm::start(&stand.lab, Firmware::Bios, 0x39)?;
    vm.wait_for_line("GNU GRUB", BOOT).with_context(|| stand.printed())?;
    saw(&stand, &vm, &["script       profile grub", "kernel       grub.iso is read"])
}

#[test]
#[ignore = "takes minutes: make iso-test"]
fn memtest86_on_uefi() -> Result<()> {
    memtest86(Firmware::UefiPxe, 0x3a)
}

/// Nothing but its kernel is fetched.
#[test]
fn memtest86_on_bios() -> Result<()> {
    memtest86(Firmware::Bios, 0x34)
}

fn memtest86(firmware: Firmware, number: u8) -> Result<()> {
    let stand = Stand::serving(Place::TwoHosts, |files, command| {
        let image = Path::new("/usr/lib/memtest86+/memtest86+x64.iso");
        serve(image, "memtest.iso", files.folder(), command)?;
        command.args(["--", "console=ttyS0,115200"]);
        Ok(())
    })?;
    let Some(stand) = stand else { return Ok(()) };
    let vm = match firmware {
        Firmware::UefiPxe => Vm::start_with_screen(&stand.lab, firmware, number)?,
        _ => Vm::start(&stand.lab, firmware, number)?,
    };
    vm.wait_for_line("Memtest86+", BOOT).with_context(|| stand.printed())?;
    saw(&stand, &vm, &["handed_over  "])
}

/// Waits for the end of a userland's lines.
fn ends(stand: &Stand, vm: &Vm, name: &str) -> Result<Vec<String>> {
    vm.wait_for_line(&format!("{name} end"), LIVE).with_context(|| stand.printed())?;
    Ok(vm.console().lines())
}

fn said(lines: &[String], what: &str) -> String {
    lines.iter().find(|line| line.starts_with(what)).cloned().unwrap_or_default()
}

/// The machine's timeline.
fn saw(stand: &Stand, vm: &Vm, lines: &[&str]) -> Result<()> {
    let mac = vm.mac();
    for line in lines {
        stand.netbootd.wait_for_line(&format!("{mac} {line}"), START).with_context(|| stand.printed())?;
    }
    Ok(())
}

fn serve(image: &Path, name: &str, folder: &Path, command: &mut Command) -> Result<()> {
    let path = folder.join(name);
    fs::copy(image, &path).with_context(|| format!("copying {}", image.display()))?;
    command.arg(path);
    Ok(())
}

/// Emulated without KVM: a live system unpacks an initial RAM disk of a whole Debian.
const LIVE: Duration = Duration::from_secs(1200);
