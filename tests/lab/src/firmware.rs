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
    /// OVMF for IA32, its own PXE.
    UefiIa32Pxe,
}

impl Firmware {
    /// A short name for output and files.
    pub fn label(self) -> &'static str {
        match self {
            Firmware::Bios => "bios",
            Firmware::BiosPlainRom => "bios-rom",
            Firmware::UefiPxe => "uefi",
            Firmware::UefiHttp => "uefi-http",
            Firmware::UefiIa32Pxe => "uefi-ia32",
        }
    }

    /// For people.
    pub fn description(self) -> &'static str {
        match self {
            Firmware::Bios => "SeaBIOS, iPXE as ROM",
            Firmware::BiosPlainRom => "SeaBIOS, plain PXE ROM",
            Firmware::UefiPxe => "OVMF x86_64, PXE",
            Firmware::UefiHttp => "OVMF x86_64, HTTP Boot",
            Firmware::UefiIa32Pxe => "OVMF IA32, PXE",
        }
    }

    /// The file with the firmware's variables, to be copied for each machine. A BIOS has none.
    pub(crate) fn variables(self) -> Option<&'static Path> {
        match self {
            Firmware::Bios | Firmware::BiosPlainRom => None,
            Firmware::UefiPxe | Firmware::UefiHttp => Some(Path::new("/usr/share/OVMF/OVMF_VARS_4M.fd")),
            Firmware::UefiIa32Pxe => Some(Path::new("/usr/share/OVMF/OVMF32_VARS_4M.fd")),
        }
    }

    /// `variables`: this machine's own copy.
    pub(crate) fn qemu_arguments(self, variables: Option<&PathBuf>) -> Vec<String> {
        let mut arguments: Vec<String> = match self {
            // Without graphics SeaBIOS writes its text, and that of the ROM, to the serial port.
            Firmware::Bios | Firmware::BiosPlainRom => vec!["-machine", "pc,graphics=off"],
            Firmware::UefiPxe => vec!["-machine", "q35"],
            Firmware::UefiHttp => {
                // With PXE switched off HTTP Boot is what remains. Version 6 as well: it would be tried first, for a minute.
                let off = [
                    "name=opt/org.tianocore/IPv4PXESupport,string=n",
                    "name=opt/org.tianocore/IPv6PXESupport,string=n",
                ];
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
            Firmware::UefiPxe | Firmware::UefiHttp | Firmware::UefiIa32Pxe => ",romfile=",
        }
    }

    fn code(self) -> Option<&'static Path> {
        match self {
            Firmware::Bios | Firmware::BiosPlainRom => None,
            Firmware::UefiPxe | Firmware::UefiHttp => Some(Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd")),
            Firmware::UefiIa32Pxe => Some(Path::new("/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd")),
        }
    }
}
