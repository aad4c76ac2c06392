//! The firmware of a virtual machine: which, and what QEMU has to be told for it.

use std::path::{Path, PathBuf};

/// Each boots from the network only, by its own code: no boot file of it comes from this host but through the lab's network.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Firmware {
    /// SeaBIOS with the iPXE that QEMU's cards carry as their ROM. It speaks HTTP and says so: it needs no other loader.
    Bios,
    /// The same ROM told to hide that it is iPXE, so that it gets the loader that a ROM of 2005 would get.
    BiosPlainRom,
    /// OVMF for x86_64, its own PXE.
    UefiPxe,
    /// OVMF for x86_64, HTTP Boot.
    UefiHttp,
    /// OVMF for x86_64 with Secure Boot on and Microsoft's keys, its own PXE.
    UefiSecurePxe,
    /// The same, HTTP Boot.
    UefiSecureHttp,
    /// OVMF for IA32, its own PXE.
    UefiIa32Pxe,
    /// EDK2 for arm64, its own PXE.
    UefiArm64Pxe,
    /// EDK2 for arm64, HTTP Boot.
    UefiArm64Http,
    /// U-Boot for arm64, stopped at its prompt.
    UBootArm64,
}

impl Firmware {
    /// A short name for output and files.
    pub fn label(self) -> &'static str {
        match self {
            Firmware::Bios => "bios",
            Firmware::BiosPlainRom => "bios-rom",
            Firmware::UefiPxe => "uefi",
            Firmware::UefiHttp => "uefi-http",
            Firmware::UefiSecurePxe => "uefi-secure",
            Firmware::UefiSecureHttp => "uefi-secure-http",
            Firmware::UefiIa32Pxe => "uefi-ia32",
            Firmware::UefiArm64Pxe => "uefi-arm64",
            Firmware::UefiArm64Http => "uefi-arm64-http",
            Firmware::UBootArm64 => "u-boot-arm64",
        }
    }

    /// For people.
    pub fn description(self) -> &'static str {
        match self {
            Firmware::Bios => "SeaBIOS, iPXE as ROM",
            Firmware::BiosPlainRom => "SeaBIOS, plain PXE ROM",
            Firmware::UefiPxe => "OVMF x86_64, PXE",
            Firmware::UefiHttp => "OVMF x86_64, HTTP Boot",
            Firmware::UefiSecurePxe => "OVMF x86_64, Secure Boot, PXE",
            Firmware::UefiSecureHttp => "OVMF x86_64, Secure Boot, HTTP Boot",
            Firmware::UefiIa32Pxe => "OVMF IA32, PXE",
            Firmware::UefiArm64Pxe => "EDK2 arm64, PXE",
            Firmware::UefiArm64Http => "EDK2 arm64, HTTP Boot",
            Firmware::UBootArm64 => "U-Boot arm64",
        }
    }

    /// Whether its processor is an Arm.
    fn is_arm64(self) -> bool {
        matches!(self, Firmware::UefiArm64Pxe | Firmware::UefiArm64Http | Firmware::UBootArm64)
    }

    /// The emulator of its processor.
    pub(crate) fn qemu(self) -> &'static str {
        if self.is_arm64() { "qemu-system-aarch64" } else { "qemu-system-x86_64" }
    }

    /// The MAC address of a machine's card. U-Boot before 2025.07 reads the first byte of a virtio card's address six
    /// times (drivers/virtio, `virtio_cread_bytes`), so that such a card's has to be one that this leaves as it is.
    pub(crate) fn mac(self, number: u8) -> String {
        match self {
            Firmware::UBootArm64 => vec![format!("{:02x}", number & 0xfe); 6].join(":"),
            _ => format!("52:54:00:6c:62:{number:02x}"),
        }
    }

    /// The file with the firmware's variables, to be copied for each machine. A BIOS has none.
    pub(crate) fn variables(self) -> Option<&'static Path> {
        match self {
            Firmware::Bios | Firmware::BiosPlainRom => None,
            Firmware::UefiPxe | Firmware::UefiHttp => Some(Path::new("/usr/share/OVMF/OVMF_VARS_4M.fd")),
            Firmware::UefiSecurePxe | Firmware::UefiSecureHttp => Some(Path::new("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")),
            Firmware::UefiIa32Pxe => Some(Path::new("/usr/share/OVMF/OVMF32_VARS_4M.fd")),
            Firmware::UefiArm64Pxe | Firmware::UefiArm64Http | Firmware::UBootArm64 => None,
        }
    }

    /// `variables`: this machine's own copy.
    pub(crate) fn qemu_arguments(self, variables: Option<&PathBuf>) -> Vec<String> {
        const WITHOUT_PXE: [&str; 2] =
            ["name=opt/org.tianocore/IPv4PXESupport,string=n", "name=opt/org.tianocore/IPv6PXESupport,string=n"];
        const ARM64: [&str; 4] = ["-machine", "virt", "-cpu", "cortex-a57"];
        const EDK2: [&str; 4] = ["-bios", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", "-device", "virtio-rng-pci"];
        let mut arguments: Vec<String> = match self {
            Firmware::UefiArm64Pxe => [ARM64, EDK2].concat(),
            Firmware::UefiArm64Http => {
                let [v4, v6] = WITHOUT_PXE;
                [&ARM64[..], &EDK2, &["-fw_cfg", v4, "-fw_cfg", v6]].concat()
            }
            Firmware::UBootArm64 => [&ARM64[..], &["-bios", "/usr/lib/u-boot/qemu_arm64/u-boot.bin"]].concat(),
            // Without graphics SeaBIOS writes its text, and that of the ROM, to the serial port.
            Firmware::Bios | Firmware::BiosPlainRom => vec!["-machine", "pc,graphics=off"],
            Firmware::UefiPxe | Firmware::UefiSecurePxe => vec!["-machine", "q35"],
            Firmware::UefiHttp | Firmware::UefiSecureHttp => {
                // With PXE switched off HTTP Boot is what remains. Version 6 as well: it would be tried first, for a minute.
                let off = WITHOUT_PXE;
                vec!["-machine", "q35", "-fw_cfg", off[0], "-fw_cfg", off[1]]
            }
            // Debian builds it for Secure Boot only, and such a build insists on SMM.
            Firmware::UefiIa32Pxe => {
                vec!["-machine", "q35,smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]
            }
        }
        .into_iter()
        .map(str::to_owned)
        .collect();

        if let (Some(code), Some(variables)) = (self.code(), variables) {
            for (unit, readonly, file) in [(0, "on", code), (1, "off", variables)] {
                let drive = format!("if=pflash,format=raw,unit={unit},readonly={readonly},file={}", file.display());
                arguments.extend(["-drive".to_owned(), drive]);
            }
            // OVMF has no network without a source of random numbers.
            arguments.extend(["-device".to_owned(), "virtio-rng-pci".to_owned()]);
        }
        arguments
    }

    /// What is added to the network card: UEFI brings its own driver, and must not find iPXE's in the card's ROM.
    pub(crate) fn card_options(self) -> &'static str {
        match self {
            Firmware::Bios | Firmware::BiosPlainRom => "",
            _ => ",romfile=",
        }
    }

    fn code(self) -> Option<&'static Path> {
        match self {
            Firmware::Bios | Firmware::BiosPlainRom => None,
            // Debian builds Secure Boot into it too; whether it is on is a matter of the variables.
            Firmware::UefiPxe | Firmware::UefiHttp | Firmware::UefiSecurePxe | Firmware::UefiSecureHttp => {
                Some(Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd"))
            }
            Firmware::UefiIa32Pxe => Some(Path::new("/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd")),
            Firmware::UefiArm64Pxe | Firmware::UefiArm64Http | Firmware::UBootArm64 => None,
        }
    }
}
