//! A virtual machine in the lab's network, seen through its serial console.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{Firmware, Host, Lab, Process};

/// Switched off when dropped.
#[derive(Debug)]
pub struct Vm {
    firmware: Firmware,
    mac: String,
    console: Process,
    /// The switch, and the machine's port of it.
    port: (Host, String),
}

/// What the lab's `init` says before it powers the machine off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LastWords {
    /// The network card's address, as the booted system reads it.
    pub mac: String,
    /// `uname -r`.
    pub kernel: String,
    /// `/proc/cmdline`, whole.
    pub cmdline: String,
    /// The second initrd arrived with every byte right.
    pub payload_ok: bool,
}

impl Vm {
    /// Switches a machine on. `number` makes its MAC address and UUID, and must differ between the machines of a lab.
    pub fn start(lab: &Lab, firmware: Firmware, number: u8) -> Result<Vm> {
        Self::start_with(lab, firmware, number, &[])
    }

    /// The same with so many MiB of memory.
    pub fn start_with_memory(lab: &Lab, firmware: Firmware, number: u8, mib: u32) -> Result<Vm> {
        Self::start_with(lab, firmware, number, &["-m", &mib.to_string()])
    }

    /// The same with a graphics card, without which some programs on UEFI do not start.
    pub fn start_with_screen(lab: &Lab, firmware: Firmware, number: u8) -> Result<Vm> {
        Self::start_with(lab, firmware, number, &["-device", "VGA"])
    }

    /// The same with a disk, behind the network in its boot order, from which a BIOS boots what says [`Vm::DISK`].
    pub fn start_with_disk(lab: &Lab, firmware: Firmware, number: u8) -> Result<Vm> {
        let drive = bootable_drive(lab, number)?;
        Self::start_with(lab, firmware, number, &["-drive", &drive, "-device", "virtio-blk-pci,drive=disk,bootindex=3"])
    }

    /// The same with a second card on the same network, between the first card and the disk in the boot order. `second`
    /// makes that card's MAC address. [`Vm::unplug`] is about the first card.
    pub fn start_with_two_cards(lab: &Lab, firmware: Firmware, number: u8, second: u8) -> Result<Vm> {
        let drive = bootable_drive(lab, number)?;
        let network = format!("tap,id=lan2,ifname={},script=no,downscript=no", lab.tap()?);
        let mac = firmware.mac(second);
        let card = format!("virtio-net-pci,netdev=lan2,mac={mac},bootindex=2{}", firmware.card_options());
        let disk = ["-drive", &drive, "-device", "virtio-blk-pci,drive=disk,bootindex=3"];
        Self::start_with(lab, firmware, number, &[&["-netdev", &network, "-device", &card][..], &disk].concat())
    }

    /// A machine that starts from the disk whose image this is, and changes it.
    pub fn start_from_disk(lab: &Lab, firmware: Firmware, number: u8, image: &Path) -> Result<Vm> {
        let drive = format!("if=none,id=disk,format=raw,file={}", image.display());
        let disk = ["-drive", &drive, "-device", "virtio-blk-pci,drive=disk,bootindex=0"];
        Self::start_with(lab, firmware, number, &[&["-m", "1024"][..], &disk].concat())
    }

    /// What the disk's boot sector says.
    pub const DISK: &str = "LAB-DISK ok";

    /// A machine with these variables of its firmware, which it changes, and a disk behind the network in its boot order:
    /// a FAT file system with the files of a folder.
    pub fn start_with_variables(
        lab: &Lab,
        firmware: Firmware,
        number: u8,
        variables: &Path,
        disk: Option<&Path>,
    ) -> Result<Vm> {
        let drive = disk.map(|disk| format!("if=none,id=disk,format=raw,readonly=on,file=fat:{}", disk.display()));
        let mut more = vec!["-m", "1024"];
        if let Some(drive) = &drive {
            more.extend(["-drive", drive, "-device", "virtio-blk-pci,drive=disk,bootindex=3"]);
        }
        Self::start_on(lab, firmware, number, Some(variables.to_owned()), &more)
    }

    fn start_with(lab: &Lab, firmware: Firmware, number: u8, more: &[&str]) -> Result<Vm> {
        let variables = match firmware.variables() {
            None => None,
            Some(pristine) => {
                let copy = lab.directory().join(format!("{}-{number}.variables", firmware.label()));
                fs::copy(pristine, &copy).with_context(|| format!("copying {}", pristine.display()))?;
                Some(copy)
            }
        };
        Self::start_on(lab, firmware, number, variables, more)
    }

    fn start_on(lab: &Lab, firmware: Firmware, number: u8, variables: Option<PathBuf>, more: &[&str]) -> Result<Vm> {
        let mac = firmware.mac(number);
        let tap = lab.tap()?;
        let card = format!("virtio-net-pci,netdev=lan,mac={mac},bootindex=1{}", firmware.card_options());
        let mut qemu = lab.switch().command(firmware.qemu());
        qemu.args(["-nodefaults", "-accel", "tcg", "-m", "512", "-no-reboot"])
            .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
            .args(["-uuid", &format!("6e626f74-6c61-4000-8000-5254006c62{number:02x}")])
            .args(["-netdev", &format!("tap,id=lan,ifname={tap},script=no,downscript=no")])
            .args(["-device", &card])
            .args(firmware.qemu_arguments(variables.as_ref()))
            .args(more);
        let console = Process::spawn(firmware.label(), &mut qemu)?;
        let mut vm = Vm { firmware, mac, console, port: (lab.switch().clone(), tap) };
        if firmware == Firmware::BiosPlainRom {
            vm.hide_ipxe().context("giving the ROM another user class")?;
        }
        if firmware == Firmware::UBootArm64 {
            // What is typed before the card is found is lost; behind it U-Boot waits 2 s for a key.
            vm.wait_for_line("Net:   eth0: ", Duration::from_secs(60))?;
            vm.console.send(b"\n")?;
            vm.console.wait_for_prompt(U_BOOT, Duration::from_secs(60))?;
        }
        Ok(vm)
    }

    /// What it was started with.
    pub fn firmware(&self) -> Firmware {
        self.firmware
    }

    /// In lower case with colons.
    pub fn mac(&self) -> &str {
        &self.mac
    }

    /// The serial console, without escape sequences.
    pub fn console(&self) -> &Process {
        &self.console
    }

    /// The same, to type into.
    pub fn console_mut(&mut self) -> &mut Process {
        &mut self.console
    }

    /// Types a command at U-Boot's prompt, which has to come again where the command is to end.
    pub fn type_to_u_boot(&mut self, command: &str, ends: bool) -> Result<()> {
        self.console.send(format!("{command}\n").as_bytes())?;
        self.console.wait_for_line(&format!("{U_BOOT} {command}"), Duration::from_secs(20))?;
        if ends { self.console.wait_for_prompt(U_BOOT, Duration::from_secs(60)) } else { Ok(()) }
    }

    /// Pulls its cable out of the switch. The machine's own card does not notice, as behind another switch.
    pub fn unplug(&self) -> Result<()> {
        self.set_port("down")
    }

    /// Puts the cable back.
    pub fn plug_in(&self) -> Result<()> {
        self.set_port("up")
    }

    fn set_port(&self, state: &str) -> Result<()> {
        let (switch, tap) = &self.port;
        switch.ip(&["link", "set", tap, state]).map(drop)
    }

    /// [`Process::wait_for_line`] on its console.
    pub fn wait_for_line(&self, needle: &str, timeout: Duration) -> Result<String> {
        self.console.wait_for_line(needle, timeout)
    }

    /// Waits until the booted system has told all it has to tell. Fails early where the firmware or the kernel gave up.
    pub fn last_words(&self, timeout: Duration) -> Result<LastWords> {
        let gave_up = |line: &str| GAVE_UP.iter().any(|words| line.contains(words));
        let last = self
            .console
            .wait_for(&format!("`{PAYLOAD}…`"), timeout, |line| line.starts_with(PAYLOAD) || gave_up(line))?;
        if gave_up(&last) {
            bail!("{} gave up: `{last}`{}", self.firmware.label(), self.console.printed());
        }
        let lines = self.console.lines();
        let said = |start: &str| {
            let line = lines.iter().find_map(|line| line.strip_prefix(start));
            line.with_context(|| format!("no line begins with `{start}`{}", self.console.printed()))
        };
        let booted = said(BOOTED)?;
        let word = |name: &str| {
            let value = booted.split_whitespace().find_map(|word| word.strip_prefix(name));
            value.map(str::to_owned).with_context(|| format!("no {name} in `{booted}`"))
        };
        Ok(LastWords {
            mac: word("mac=")?,
            kernel: word("kernel=")?,
            cmdline: said(CMDLINE)?.to_owned(),
            payload_ok: last == format!("{PAYLOAD}ok"),
        })
    }

    /// Types into the ROM's own command line. What a server sees then is a PXE client without the user class `iPXE`.
    fn hide_ipxe(&mut self) -> Result<()> {
        let patience = Duration::from_secs(60);
        self.console.wait_for_prompt("for the iPXE command line...", patience)?;
        self.console.send(b"\x02")?;
        for command in AS_PLAIN_ROM {
            self.console.wait_for_prompt("iPXE>", patience)?;
            let mut typed = String::from("iPXE> ");
            // SeaBIOS's keyboard buffer holds a few keys: each one's echo is waited for.
            for key in command.chars() {
                self.console.send(key.to_string().as_bytes())?;
                typed.push(key);
                self.console.wait_for_prompt(typed.trim_end(), patience)?;
            }
            self.console.send(b"\n")?;
            self.console.wait_for_line(&typed, patience)?;
        }
        Ok(())
    }
}

/// A new disk for a machine, as QEMU's `-drive` takes it.
fn bootable_drive(lab: &Lab, number: u8) -> Result<String> {
    let path = lab.directory().join(format!("{number}.disk"));
    fs::write(&path, boot_disk(Vm::DISK)).with_context(|| format!("writing {}", path.display()))?;
    Ok(format!("if=none,id=disk,format=raw,file={}", path.display()))
}

/// A disk that says a line through the BIOS and halts.
fn boot_disk(line: &str) -> Vec<u8> {
    let code = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0x31, 0xdb, // xor bx, bx
        0xfc, //       cld
        0xbe, 0x18, 0x7c, // mov si, 0x7c18: the line, behind this code
        0xac, //       lodsb
        0x08, 0xc0, // or al, al
        0x74, 0x06, // jz halt
        0xb4, 0x0e, // mov ah, 0x0e: teletype output
        0xcd, 0x10, // int 0x10
        0xeb, 0xf5, // jmp to lodsb
        0xf4, //       halt: hlt
        0xeb, 0xfd, // jmp halt
    ];
    let mut disk = [&code[..], line.as_bytes(), b"\r\n\0"].concat();
    disk.resize(510, 0);
    disk.extend([0x55, 0xaa]);
    // A BIOS reads it by cylinders, and one that has none it cannot read.
    disk.resize(8 << 20, 0);
    disk
}

/// As gPXE, which sends what iPXE does and cannot run our script. The user class is cleared again before the loader starts: the ROM would hand it on, and the loader hide itself too.
const AS_PLAIN_ROM: [&str; 4] =
    ["set user-class gPXE", "dhcp", "clear user-class", "chain tftp://${proxydhcp/next-server}/${proxydhcp/filename}"];

const U_BOOT: &str = "=>";
const BOOTED: &str = "LAB-BOOT ok ";
const CMDLINE: &str = "LAB-CMDLINE ";
const PAYLOAD: &str = "LAB-PAYLOAD ";

/// Of SeaBIOS, OVMF and Linux. OVMF would go on with its next way to boot, which is not the one that was to be shown.
const GAVE_UP: &[&str] = &["No bootable device.", "BdsDxe: failed to ", "Kernel panic - not syncing"];
