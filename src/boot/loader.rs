//! ★ The table: which loader a client architecture gets.
//!
//! It is the only place that maps an architecture code to anything. A new firmware is a new row here.

use std::fmt;

use bytes::Bytes;

use super::program::{Kind, Program};

/// Client system architecture type, DHCP option 93 (RFC 4578 §2.1, codes of the IANA registry "Processor Architecture
/// Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientArch(pub u16);

impl ClientArch {
    /// The firmware that an old PXE ROM without option 93 is: x86 BIOS.
    pub const X86_BIOS: Self = Self(0);
    /// UEFI of a PC.
    pub const EFI_X86_64: Self = Self(7);
    /// U-Boot on a 64-bit Arm board.
    pub const U_BOOT_ARM64: Self = Self(22);
    /// A Raspberry Pi's boot ROM, which loads its own firmware's files and no iPXE.
    pub const RASPBERRY_PI: Self = Self(41);

    /// Whether it is U-Boot's own DHCP client.
    #[must_use]
    pub fn is_u_boot(self) -> bool {
        (21..=24).contains(&self.0)
    }

    /// The loader for this architecture; `None` where there is none by default.
    #[must_use]
    pub fn loader(self) -> Option<Loader> {
        self.row().and_then(|row| row.loader)
    }

    /// The code that firmware of a loader's architecture ([`Loader::arch`]) sends, when it boots by TFTP or by HTTP; a
    /// number is taken as it is.
    #[must_use]
    pub fn named(name: &str, http: bool) -> Option<Self> {
        let is_meant =
            |row: &&Row| row.loader.is_some_and(|loader| loader.arch() == name) && row.title.contains("HTTP") == http;
        let code = number(name).or_else(|| ARCHITECTURES.iter().find(is_meant).map(|row| row.code));
        code.map(Self)
    }

    /// The one with this title, as [`fmt::Display`] writes it.
    #[must_use]
    pub fn titled(title: &str) -> Option<Self> {
        let known = ARCHITECTURES.iter().find(|row| row.title == title).map(|row| row.code);
        known.or_else(|| title.strip_prefix(UNKNOWN)?.parse().ok()).map(Self)
    }

    fn row(self) -> Option<&'static Row> {
        ARCHITECTURES.iter().find(|row| row.code == self.0)
    }
}

impl fmt::Display for ClientArch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row() {
            Some(row) => write!(f, "{}", row.title),
            None => write!(f, "{UNKNOWN}{}", self.0),
        }
    }
}

/// What the title of a code without a row begins with.
const UNKNOWN: &str = "architecture ";

/// A code as people write it: 27, or 0x1b as the registry of IANA does.
fn number(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(digits) => u16::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

struct Row {
    code: u16,
    title: &'static str,
    loader: Option<Loader>,
}

const fn row(code: u16, title: &'static str, loader: Option<Loader>) -> Row {
    Row { code, title, loader }
}

/// RFC 4578 printed EBC (7) and x64 (9) the other way round from what firmware sends; IANA records what is sent, and
/// both run the x86_64 build. U-Boot runs EFI programs itself. Codes without a loader are listed so that the refusal can name the machine.
const ARCHITECTURES: &[Row] = &[
    row(0, "BIOS", Some(Loader::Bios)),
    row(2, "Itanium UEFI", None),
    row(6, "UEFI i386", Some(Loader::EfiI386)),
    row(7, "UEFI x86_64", Some(Loader::EfiX86_64)),
    row(9, "UEFI x86_64 (EBC)", Some(Loader::EfiX86_64)),
    row(10, "UEFI arm32", Some(Loader::EfiArm32)),
    row(11, "UEFI arm64", Some(Loader::EfiArm64)),
    row(12, "PowerPC Open Firmware", None),
    row(13, "PowerPC ePAPR", None),
    row(14, "PowerPC OPAL", None),
    row(15, "UEFI HTTP i386", Some(Loader::EfiI386)),
    row(16, "UEFI HTTP x86_64", Some(Loader::EfiX86_64)),
    row(17, "UEFI HTTP x86_64 (EBC)", Some(Loader::EfiX86_64)),
    row(18, "UEFI HTTP arm32", Some(Loader::EfiArm32)),
    row(19, "UEFI HTTP arm64", Some(Loader::EfiArm64)),
    row(20, "BIOS HTTP", Some(Loader::Bios)),
    row(21, "arm32 U-Boot", Some(Loader::EfiArm32)),
    row(22, "arm64 U-Boot", Some(Loader::EfiArm64)),
    row(23, "arm32 U-Boot HTTP", Some(Loader::EfiArm32)),
    row(24, "arm64 U-Boot HTTP", Some(Loader::EfiArm64)),
    row(25, "UEFI riscv32", Some(Loader::EfiRiscv32)),
    row(26, "UEFI HTTP riscv32", Some(Loader::EfiRiscv32)),
    row(27, "UEFI riscv64", Some(Loader::EfiRiscv64)),
    row(28, "UEFI HTTP riscv64", Some(Loader::EfiRiscv64)),
    row(29, "UEFI riscv128", None),
    row(30, "UEFI HTTP riscv128", None),
    row(31, "s390 basic", None),
    row(32, "s390 extended", None),
    row(33, "MIPS32 UEFI", None),
    row(34, "MIPS64 UEFI", None),
    row(35, "Sunway 32 UEFI", None),
    row(36, "Sunway 64 UEFI", None),
    row(37, "UEFI loong32", None),
    row(38, "UEFI HTTP loong32", None),
    row(39, "UEFI loong64", Some(Loader::EfiLoong64)),
    row(40, "UEFI HTTP loong64", Some(Loader::EfiLoong64)),
    row(41, "Raspberry Pi", None),
];

/// A build of iPXE: what kind of firmware runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loader {
    /// x86 BIOS, as a PXE network bootstrap program.
    Bios,
    /// IA32 UEFI.
    EfiI386,
    /// x64 UEFI.
    EfiX86_64,
    /// 32-bit Arm UEFI.
    EfiArm32,
    /// 64-bit Arm UEFI.
    EfiArm64,
    /// 32-bit RISC-V UEFI.
    EfiRiscv32,
    /// 64-bit RISC-V UEFI.
    EfiRiscv64,
    /// 64-bit LoongArch UEFI.
    EfiLoong64,
}

impl Loader {
    /// Every loader, in the order of the table.
    pub const ALL: [Self; 8] = [
        Self::Bios,
        Self::EfiI386,
        Self::EfiX86_64,
        Self::EfiArm32,
        Self::EfiArm64,
        Self::EfiRiscv32,
        Self::EfiRiscv64,
        Self::EfiLoong64,
    ];

    /// The firmware that runs it, as users know it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::EfiI386 => "UEFI i386",
            Self::EfiX86_64 => "UEFI x86_64",
            Self::EfiArm32 => "UEFI arm32",
            Self::EfiArm64 => "UEFI arm64",
            Self::EfiRiscv32 => "UEFI riscv32",
            Self::EfiRiscv64 => "UEFI riscv64",
            Self::EfiLoong64 => "UEFI loong64",
        }
    }

    /// Its name where an architecture is written: `bios`, else iPXE's `${buildarch}` of the EFI build.
    #[must_use]
    pub fn arch(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::EfiI386 => "i386",
            Self::EfiX86_64 => "x86_64",
            Self::EfiArm32 => "arm32",
            Self::EfiArm64 => "arm64",
            Self::EfiRiscv32 => "riscv32",
            Self::EfiRiscv64 => "riscv64",
            Self::EfiLoong64 => "loong64",
        }
    }

    /// The client architectures that get it, of firmware that fetches by TFTP or by HTTP.
    pub fn client_archs(self, http: bool) -> impl Iterator<Item = ClientArch> {
        let rows = ARCHITECTURES.iter().filter(move |row| row.loader == Some(self));
        rows.filter(move |row| row.title.contains("HTTP") == http).map(|row| ClientArch(row.code))
    }

    /// What the loader of this name has to be, where [`LOADER_NAMES`] has it.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        LOADER_NAMES.iter().find(|known| known.name == name).map(|known| known.loader)
    }

    /// The build that an iPXE says it is, by `${buildarch}` and `${platform}`.
    #[must_use]
    pub fn of_ipxe(arch: &str, platform: &str) -> Option<Self> {
        let name = if platform == "pcbios" { "bios" } else { arch };
        Self::ALL.into_iter().find(|loader| loader.arch() == name)
    }

    /// `${buildarch}` of the iPXE that it is. Of the builds for a BIOS, that for i386 is the common one.
    pub(super) fn ipxe_arch(self) -> &'static str {
        if self == Self::Bios { Self::EfiI386.arch() } else { self.arch() }
    }

    /// `Machine` field of its COFF header (Microsoft PE/COFF specification, "Machine types"); `None` for BIOS.
    #[must_use]
    pub fn coff_machine(self) -> Option<u16> {
        match self {
            Self::Bios => None,
            Self::EfiI386 => Some(0x014c),
            Self::EfiX86_64 => Some(0x8664),
            Self::EfiArm32 => Some(0x01c2),
            Self::EfiArm64 => Some(0xaa64),
            Self::EfiRiscv32 => Some(0x5032),
            Self::EfiRiscv64 => Some(0x5064),
            Self::EfiLoong64 => Some(0x6264),
        }
    }

    /// Whether these bytes are such a loader.
    ///
    /// # Errors
    /// What is wrong with them: empty, or built for other firmware.
    pub fn check(self, bytes: &[u8]) -> Result<(), Unfit> {
        if bytes.is_empty() {
            return Err(Unfit::Empty);
        }
        match (self.coff_machine(), coff_machine_of(bytes)) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(Unfit::EfiForBios),
            (Some(_), None) => Err(Unfit::NotEfi),
            (Some(wanted), Some(found)) if wanted == found => Ok(()),
            (Some(wanted), Some(found)) => Err(Unfit::OtherMachine { wanted, found }),
        }
    }
}

/// `Machine` of a PE/COFF image; `None` where the bytes are none (a DOS header whose `e_lfanew` at 0x3c leads to `PE\0\0`).
pub(super) fn coff_machine_of(bytes: &[u8]) -> Option<u16> {
    if !bytes.starts_with(b"MZ") {
        return None;
    }
    let e_lfanew = u32::from_le_bytes(*bytes.get(0x3c..)?.first_chunk()?);
    let pe = bytes.get(usize::try_from(e_lfanew).ok()?..)?;
    let machine = pe.strip_prefix(b"PE\0\0")?.first_chunk()?;
    Some(u16::from_le_bytes(*machine))
}

/// Why a file cannot be the loader that its name promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// A PE/COFF image where a BIOS program is wanted.
    #[error("it is an EFI program, which a BIOS cannot run")]
    EfiForBios,
    /// No PE/COFF image where one is wanted.
    #[error("it is not an EFI program (no PE/COFF header)")]
    NotEfi,
    /// A PE/COFF image for another processor.
    #[error("it is a program for {}, not for {}", firmware(*.found), firmware(*.wanted))]
    OtherMachine {
        /// What this loader has to be.
        wanted: u16,
        /// What the file's header says.
        found: u16,
    },
}

/// The firmware that runs programs of this `Machine`.
fn firmware(machine: u16) -> String {
    let loader = Loader::ALL.into_iter().find(|loader| loader.coff_machine() == Some(machine));
    loader.map_or_else(|| format!("machine type {machine:#06x}"), |loader| loader.title().to_owned())
}

/// A loader as a package ships it: where below a package's folder, and the name that we serve it under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderName {
    /// Path below one of the folders that are searched.
    pub path: &'static str,
    /// Unique name under TFTP and `/loaders/`.
    pub name: &'static str,
    /// What it has to be.
    pub loader: Loader,
}

const fn named(path: &'static str, name: &'static str, loader: Loader) -> LoaderName {
    LoaderName { path, name, loader }
}

/// The names that Debian's `ipxe`, Fedora's `ipxe-bootimgs-*` and iPXE's own build give their files. The first one
/// found is the default of its loader: `undionly` and `snponly` drive the card through the firmware, which hangs on
/// fewer machines than iPXE's own drivers do (a Dell R720 stops in `ipxe.efi` at "initialising devices").
pub const LOADER_NAMES: &[LoaderName] = &[
    named("undionly.kpxe", "undionly.kpxe", Loader::Bios),
    named("ipxe.pxe", "ipxe.pxe", Loader::Bios),
    named("undionly.kkpxe", "undionly.kkpxe", Loader::Bios),
    named("ipxe-snponly-i386.efi", "ipxe-snponly-i386.efi", Loader::EfiI386),
    named("snponly-i386.efi", "snponly-i386.efi", Loader::EfiI386),
    named("i386-efi/snponly.efi", "snponly-i386.efi", Loader::EfiI386),
    named("ipxe-i386.efi", "ipxe-i386.efi", Loader::EfiI386),
    named("snponly.efi", "snponly.efi", Loader::EfiX86_64),
    named("ipxe-snponly-x86_64.efi", "ipxe-snponly-x86_64.efi", Loader::EfiX86_64),
    named("x86_64-efi/snponly.efi", "snponly-x86_64.efi", Loader::EfiX86_64),
    named("ipxe.efi", "ipxe.efi", Loader::EfiX86_64),
    named("ipxe-x86_64.efi", "ipxe-x86_64.efi", Loader::EfiX86_64),
    named("ipxe-amd64.efi", "ipxe-amd64.efi", Loader::EfiX86_64),
    named("arm32-efi/snponly.efi", "snponly-arm32.efi", Loader::EfiArm32),
    named("arm64-efi/snponly.efi", "snponly-arm64.efi", Loader::EfiArm64),
    named("snponly-arm64.efi", "snponly-arm64.efi", Loader::EfiArm64),
    named("ipxe-arm64.efi", "ipxe-arm64.efi", Loader::EfiArm64),
    named("riscv32-efi/snponly.efi", "snponly-riscv32.efi", Loader::EfiRiscv32),
    named("riscv64-efi/snponly.efi", "snponly-riscv64.efi", Loader::EfiRiscv64),
    named("ipxe-riscv64.efi", "ipxe-riscv64.efi", Loader::EfiRiscv64),
    named("loong64-efi/snponly.efi", "snponly-loong64.efi", Loader::EfiLoong64),
    named("ipxe-loong64.efi", "ipxe-loong64.efi", Loader::EfiLoong64),
];

/// A loader in memory, ready to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderFile {
    /// Name under TFTP and `/loaders/`.
    pub name: String,
    /// What it was checked to be.
    pub loader: Loader,
    /// The whole file.
    pub bytes: Bytes,
    /// Where it was found.
    pub origin: String,
    /// iPXE's own version where the file has it in plain text; the BIOS builds are compressed and do not.
    pub version: Option<String>,
    /// SHA-256 of the bytes, lower-case hexadecimal.
    pub sha256: String,
    /// What it says of itself, if it is an EFI program.
    pub program: Option<Program>,
}

impl LoaderFile {
    /// What an EFI program says that it is.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        self.program.as_ref()?.kind()
    }

    /// Whether it is signed.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.program.as_ref().is_some_and(Program::is_signed)
    }

    /// A shim refuses a second stage without revocation generations (shim, sbat.c, `verify_sbat_section`).
    #[must_use]
    pub fn has_no_sbat(&self) -> bool {
        self.program.as_ref().is_none_or(|program| program.sbat.is_empty())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn file(name: &str, loader: Loader) -> LoaderFile {
        LoaderFile {
            name: name.into(),
            loader,
            bytes: Bytes::from_static(b"loader"),
            origin: format!("/test/{name}"),
            version: None,
            sha256: String::new(),
            program: None,
        }
    }

    #[test]
    fn every_code_of_the_wire_has_the_loader_of_its_firmware() {
        let expected: &[(&[u16], Option<Loader>)] = &[
            (&[0, 20], Some(Loader::Bios)),
            (&[6, 15], Some(Loader::EfiI386)),
            (&[7, 9, 16, 17], Some(Loader::EfiX86_64)),
            (&[10, 18, 21, 23], Some(Loader::EfiArm32)),
            (&[11, 19, 22, 24], Some(Loader::EfiArm64)),
            (&[25, 26], Some(Loader::EfiRiscv32)),
            (&[27, 28], Some(Loader::EfiRiscv64)),
            (&[39, 40], Some(Loader::EfiLoong64)),
            (&[1, 2, 12, 13, 14, 29, 30, 31, 38, 41, 42, 65535], None),
        ];
        for (codes, loader) in expected {
            for code in *codes {
                assert_eq!(ClientArch(*code).loader(), *loader, "code {code}");
            }
        }
    }

    #[test]
    fn an_architecture_is_named_by_its_loader_or_its_number() {
        assert_eq!(ClientArch::named("bios", false), Some(ClientArch(0)));
        assert_eq!(ClientArch::named("x86_64", false), Some(ClientArch(7)));
        assert_eq!(ClientArch::named("x86_64", true), Some(ClientArch(16)));
        assert_eq!(ClientArch::named("14", true), Some(ClientArch(14)));
        assert_eq!(ClientArch::named("arm64", false), Some(ClientArch(11)), "and not U-Boot's");
        assert_eq!(ClientArch::named("arm32", true), Some(ClientArch(18)));
        assert_eq!(ClientArch::named("0x001b", false), Some(ClientArch(27)));
        assert_eq!(ClientArch::named("amd64", false), None);
        for code in [0, 7, 11, 27, 41, 256] {
            assert_eq!(ClientArch::titled(&ClientArch(code).to_string()), Some(ClientArch(code)));
        }
        assert_eq!(ClientArch::titled("architecture x"), None);
    }

    #[test]
    fn no_code_stands_twice_in_the_table() {
        for (i, row) in ARCHITECTURES.iter().enumerate() {
            assert!(ARCHITECTURES.iter().skip(i + 1).all(|other| other.code != row.code), "{}", row.code);
        }
    }

    /// A DOS header that leads to a COFF header of this machine type.
    fn efi(machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 0x80];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c..0x40].copy_from_slice(&0x80u32.to_le_bytes());
        bytes.extend_from_slice(b"PE\0\0");
        bytes.extend_from_slice(&machine.to_le_bytes());
        bytes
    }

    #[test]
    fn a_file_is_checked_to_be_what_its_name_promises() {
        assert_eq!(Loader::EfiX86_64.check(&efi(0x8664)), Ok(()));
        assert_eq!(Loader::EfiX86_64.check(&efi(0xaa64)), Err(Unfit::OtherMachine { wanted: 0x8664, found: 0xaa64 }));
        assert_eq!(Loader::EfiX86_64.check(b"<html>404</html>"), Err(Unfit::NotEfi));
        assert_eq!(Loader::EfiX86_64.check(b""), Err(Unfit::Empty));
        assert_eq!(Loader::Bios.check(b"\xea\x05\x00\xc0\x07"), Ok(()));
        assert_eq!(Loader::Bios.check(&efi(0x8664)), Err(Unfit::EfiForBios));
        // A header that points outside the file is no program, and no panic.
        let mut cut = efi(0x8664);
        cut[0x3c..0x40].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Loader::EfiX86_64.check(&cut), Err(Unfit::NotEfi));
        assert_eq!(Loader::EfiX86_64.check(b"MZ"), Err(Unfit::NotEfi));
    }
}
