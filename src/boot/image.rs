//! What a file is, by its first bytes: enough to distinguish a kernel from the error page that was downloaded in its place.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;

use super::loader::{Loader, coff_machine_of};

/// How many bytes from a file's beginning are looked at: an ISO 9660 volume says what it is at sector 16 (ECMA-119 §8).
pub const HEAD: usize = 0x8006;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Linux for x86, or what is made to look like it: wimboot, memdisk (Documentation/arch/x86/boot.rst).
    X86Kernel,
    /// Linux for 32-bit Arm.
    Arm32Kernel,
    /// Linux for 64-bit Arm (Documentation/arch/arm64/booting.rst).
    Arm64Kernel,
    /// Linux for RISC-V (Documentation/arch/riscv/boot-image-header.rst).
    RiscvKernel,
    /// A program that is loaded by its ELF header: a multiboot kernel, such as Xen's.
    Elf,
    /// A PE/COFF program that is none of the above.
    Efi,
    /// A cpio archive as the kernel unpacks it.
    Cpio,
    /// Compressed, as iPXE or the kernel unpacks it.
    Gzip,
    /// Compressed by something that the kernel unpacks.
    Compressed(&'static str),
    /// Compressed in a form that Linux does not unpack: what it is, and what to compress it with.
    OtherwiseCompressed(&'static str, &'static str),
    /// A file system that the kernel takes for an old-style RAM disk (init/do_mounts_rd.c, `identify_ramdisk_image`).
    FileSystem(&'static str),
    /// A CD or DVD.
    Iso,
    /// Something with a boot sector at its beginning.
    Disk,
    /// None of these.
    Other(&'static str),
}

/// What a profile takes a file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `kernel`.
    Kernel,
    /// `initrd`.
    Initrd,
    /// `efi`.
    Efi,
    /// `iso`, `sanboot`.
    Iso,
    /// `disk`.
    Disk,
}

impl Image {
    /// What no signature fits.
    pub const UNKNOWN: Self = Self::Other("of an unknown type");
    const SCRIPT: Self = Self::Other("an iPXE script: name it with script");

    /// Reads the beginning of a file, of which [`HEAD`] bytes are needed.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        let page = head.trim_ascii_start();
        if HTML.iter().any(|tag| page.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag))) {
            return Self::Other("a web page, as servers send for an error");
        }
        let known =
            SIGNATURES.iter().find(|(at, magic, _)| head.get(*at..).is_some_and(|tail| tail.starts_with(magic)));
        match known {
            Some((_, _, image)) => *image,
            None if coff_machine_of(head).is_some() => Self::Efi,
            None if has_boot_sector(head) => Self::Disk,
            None => Self::UNKNOWN,
        }
    }

    /// Whether it is of a kind that some machine boots.
    #[must_use]
    pub fn is_known(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Whether iPXE starts it though it is neither kernel nor program: a script of its own, or what it takes for a boot
    /// program of a BIOS because it has no signature.
    fn may_start(self) -> bool {
        [Self::UNKNOWN, Self::SCRIPT].contains(&self)
    }

    /// In words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::X86Kernel => "a Linux kernel for x86",
            Self::Arm32Kernel => "a Linux kernel for arm32",
            Self::Arm64Kernel => "a Linux kernel for arm64",
            Self::RiscvKernel => "a Linux kernel for RISC-V",
            Self::Elf => "an ELF program",
            Self::Efi => "an EFI program",
            Self::Cpio => "a cpio archive",
            Self::Gzip => "something compressed with gzip",
            Self::Compressed(title)
            | Self::OtherwiseCompressed(title, _)
            | Self::FileSystem(title)
            | Self::Other(title) => title,
            Self::Iso => "a CD image",
            Self::Disk => "a disk image",
        }
    }
}

impl Role {
    /// What is wrong with a file in this place, for a sentence that begins with its name. `arch` is the variant that
    /// it is in: iPXE's `${buildarch}`.
    ///
    /// # Errors
    /// That it is something else, or for another architecture.
    pub fn check(self, head: &[u8], arch: Option<&str>) -> Result<(), String> {
        use Image::{
            Arm32Kernel, Arm64Kernel, Compressed, Cpio, Disk, Efi, Elf, FileSystem, Gzip, Iso, OtherwiseCompressed,
            RiscvKernel, X86Kernel,
        };
        let image = Image::of(head);
        if let Some(inner) = unpacked(head)
            && let Some(title) = self.surely_not(Image::of(&inner))
        {
            let own = self.title();
            return Err(format!("is not {own}: it is {title}, compressed with gzip; are kernel and initrd swapped?"));
        }
        let is_fit = match self {
            // An arm64 kernel often is compressed (Image.gz), and iPXE unpacks it.
            Self::Kernel => matches!(image, X86Kernel | Arm32Kernel | Arm64Kernel | RiscvKernel | Elf | Efi | Gzip),
            Self::Initrd => matches!(image, Cpio | Gzip | Compressed(_) | FileSystem(_)),
            // An EFI kernel is an EFI program.
            Self::Efi => coff_machine_of(head).is_some(),
            Self::Iso => image == Iso,
            // A CD image that is made for sticks as well begins with a boot sector.
            Self::Disk => image == Disk || image == Iso && has_boot_sector(head),
        };
        if !is_fit {
            let fix = match (self, image) {
                (Self::Kernel, Cpio | Compressed(_) | OtherwiseCompressed(..)) => "; are kernel and initrd swapped?",
                (Self::Initrd, OtherwiseCompressed(_, fix)) => fix,
                (Self::Initrd, X86Kernel | Arm32Kernel | Arm64Kernel | RiscvKernel) => {
                    "; are kernel and initrd swapped?"
                }
                (Self::Disk, Iso) => "; name it with iso or sanboot",
                (Self::Kernel | Self::Iso, Disk) => "; name it with disk",
                (Self::Kernel, Iso) => "; name it with iso (its name has to end in .iso)",
                (Self::Iso | Self::Disk, Gzip | Compressed(_) | OtherwiseCompressed(..)) => "; unpack it",
                _ => "",
            };
            return Err(format!("is not {}: it is {}{fix}", self.title(), image.title()));
        }
        if self == Self::Kernel && is_syslinux_module(head) {
            return Err(SYSLINUX_MODULE.into());
        }
        let wanted = arch.and_then(|arch| Loader::of_ipxe(arch, "efi"));
        match (self, wanted, machine(head, image)) {
            // An i386 build of iPXE is what a BIOS runs, whatever its processor, and a kernel switches modes by itself.
            (Self::Kernel, Some(Loader::EfiI386), Some(_)) if image == X86Kernel => Ok(()),
            (Self::Kernel | Self::Efi, Some(wanted), Some(found)) if found != wanted => {
                Err(format!("is for {}, but the variant that names it is for {}", found.arch(), wanted.arch()))
            }
            _ => Ok(()),
        }
    }

    /// The title of what gzip holds, where that is the other one of kernel and initrd.
    fn surely_not(self, inner: Image) -> Option<&'static str> {
        use Image::{Arm32Kernel, Arm64Kernel, Cpio, FileSystem, RiscvKernel, X86Kernel};
        let is_other = match self {
            Self::Kernel => matches!(inner, Cpio | FileSystem(_)),
            Self::Initrd => matches!(inner, X86Kernel | Arm32Kernel | Arm64Kernel | RiscvKernel),
            Self::Efi | Self::Iso | Self::Disk => false,
        };
        is_other.then(|| inner.title())
    }

    /// What keeps a kernel or an EFI program from being started, for a sentence that begins with its name. Only what is
    /// certain: a file of an unknown type may be a boot program for a BIOS. `on` is what iPXE runs on, where iPXE starts
    /// it: a BIOS starts no EFI program, and UEFI firmware nothing else (iPXE, src/config/defaults).
    ///
    /// # Errors
    /// That nothing starts such a file, or that this machine does not.
    pub fn starts(self, head: &[u8], on: Option<Loader>) -> Result<(), String> {
        use Image::{
            Arm32Kernel, Arm64Kernel, Compressed, Cpio, Efi, Elf, FileSystem, Iso, Other, OtherwiseCompressed,
            RiscvKernel, X86Kernel,
        };
        // An iPXE that is built with gzip unpacks what that holds before it looks at it: Xen's kernel, xen.gz, is an ELF
        // program.
        let inner = unpacked(head);
        if inner.as_deref().is_some_and(|inner| self.surely_not(Image::of(inner)).is_some()) {
            return self.check(head, None);
        }
        let known = inner.as_deref().filter(|inner| Image::of(inner).is_known());
        let head = known.unwrap_or(head);
        let image = Image::of(head);
        let is_program = coff_machine_of(head).is_some();
        let is_data = matches!(image, Cpio | Compressed(_) | OtherwiseCompressed(..) | FileSystem(_) | Iso | Other(_))
            && !image.may_start();
        if is_data && !is_program {
            return self.check(head, None);
        }
        if self == Self::Kernel && is_syslinux_module(head) {
            return Err(SYSLINUX_MODULE.into());
        }
        // Where a profile names an EFI program, its script says that this is nothing for a BIOS.
        let Some(on) = on.filter(|on| (self, *on) != (Self::Efi, Loader::Bios)) else { return Ok(()) };
        // Multiboot and ELF are in iPXE's builds for a BIOS only (config/defaults/pcbios.h).
        if image == Elf && on != Loader::Bios {
            return Err(format!(
                "is an ELF program, which iPXE starts only on a BIOS, and this machine is {}: start it in BIOS mode (CSM), \
                 or name an EFI program for it under arch.{} of a profile",
                on.title(),
                on.ipxe_arch()
            ));
        }
        let obstacle = match (image, machine(head, image)) {
            (Arm32Kernel | Arm64Kernel | RiscvKernel | Efi, _) if on == Loader::Bios => image.title().to_owned(),
            _ if on == Loader::Bios => return Ok(()),
            // Some firmware for i386 starts a 64-bit kernel (Documentation/arch/x86/boot.rst, XLF_EFI_HANDOVER_32).
            (_, Some(Loader::EfiX86_64)) if on == Loader::EfiI386 => return Ok(()),
            (_, Some(found)) if found != on => format!("for {}", found.arch()),
            (X86Kernel, None) => format!("{}, but no EFI program", image.title()),
            _ => return Ok(()),
        };
        Err(format!(
            "is {obstacle}, so iPXE cannot start it on this machine ({}): name one for it under arch.{} of the profile",
            on.title(),
            on.ipxe_arch()
        ))
    }

    fn title(self) -> &'static str {
        match self {
            Self::Kernel => "a kernel",
            Self::Initrd => "an initrd",
            Self::Efi => "an EFI program",
            Self::Iso => "a CD image",
            Self::Disk => "a disk image",
        }
    }
}

/// What a Linux kernel for x86 says of how it is loaded (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinuxHeader {
    /// Version of the boot protocol: 0x020f is 2.15.
    pub protocol: u16,
    initrd_addr_max: u32,
    cmdline_size: u32,
}

impl LinuxHeader {
    /// Reads it from a kernel's beginning; none where that is none for x86.
    #[must_use]
    pub fn of(kernel: &[u8]) -> Option<Self> {
        let long = |at: usize| Some(u32::from_le_bytes(*kernel.get(at..)?.first_chunk()?));
        (Image::of(kernel) == Image::X86Kernel).then_some(())?;
        Some(Self {
            protocol: u16::from_le_bytes(*kernel.get(0x206..)?.first_chunk()?),
            initrd_addr_max: long(0x22c)?,
            cmdline_size: long(0x238)?,
        })
    }

    /// Bytes of the longest command line that it takes, without the NUL. Before 2.06 the header does not say.
    #[must_use]
    pub fn longest_cmdline(self) -> usize {
        match (self.protocol, self.cmdline_size) {
            (..0x0206, _) => 255,
            (_, 0) => 2047,
            (_, size) => usize::try_from(size).unwrap_or(usize::MAX),
        }
    }

    /// The first byte of memory that an initrd may not lie in, where a BIOS loads it. Before 2.03 it is fixed.
    #[must_use]
    pub fn initrds_end(self) -> u64 {
        match (self.protocol, self.initrd_addr_max) {
            (..0x0203, _) | (_, 0) => 0x3800_0000,
            (_, last) => u64::from(last) + 1,
        }
    }
}

/// Whether what this kernel is given beside it need not be an initial RAM disk: a multiboot kernel takes modules, an EFI
/// program of another kind reads any file, and wimboot and memdisk, which look like Linux but for the name in their
/// header, take files and images.
#[must_use]
pub fn takes_any_file(kernel: &[u8]) -> bool {
    name_in_header(kernel).is_some_and(|name| name.starts_with(b"MEMDISK"))
        || unpacked(kernel).is_some_and(|inner| Image::of(&inner) == Image::Elf)
        || Image::of(kernel) == Image::Elf
        || other_than_linux(kernel).is_some()
}

/// What is started in the place of a kernel and is none of Linux, where that is certain: it takes no `initrd=` from its
/// command line, and only iPXE starts it with the files that belong to it. memdisk is Linux to all that load it.
#[must_use]
pub fn other_than_linux(kernel: &[u8]) -> Option<&'static str> {
    let inner = unpacked(kernel);
    let kernel = inner.as_deref().unwrap_or(kernel);
    match Image::of(kernel) {
        Image::X86Kernel if name_in_header(kernel)?.starts_with(b"wimboot") => Some("a loader of Windows PE"),
        // petitboot boots Linux for POWER as an ELF program.
        Image::Elf if is_elf_for_x86(kernel) => Some("a multiboot kernel"),
        // Linux that unpacks itself, and Linux for LoongArch, say so there (linux/pe.h, `LINUX_PE_MAGIC`).
        Image::Efi if kernel.get(0x38..0x3c) != Some(b"\xcd\x23\x82\x81") => Some("an EFI program"),
        _ => None,
    }
}

/// Whether iPXE on a BIOS may start this as a boot program for PXE, which has no signature: FreeBSD's pxeboot, PXELINUX,
/// a loader. It is what iPXE takes any file for that fits into the memory below 640 KiB (arch/x86/image/pxe_image.c).
#[must_use]
pub fn may_be_boot_program(program: &[u8], size: u64) -> bool {
    Image::of(program) == Image::UNKNOWN && size <= 0xa_0000 - 0x7c00
}

/// Whether a kernel for x86 is compressed with gzip, which iPXE for x86 does not unpack as Debian 12 and 13 build it.
#[must_use]
pub fn is_packed_for_x86(kernel: &[u8]) -> bool {
    unpacked(kernel).is_some_and(|inner| match Image::of(&inner) {
        Image::X86Kernel => true,
        Image::Elf => is_elf_for_x86(&inner),
        _ => false,
    })
}

/// That a kernel is for another processor than that of a machine, in words. Kernels for x86 are of one kind: some start in
/// both modes.
#[must_use]
pub fn for_another_processor(kernel: &[u8], on: Loader) -> Option<String> {
    let inner = unpacked(kernel);
    let kernel = inner.as_deref().unwrap_or(kernel);
    let is_x86 = |loader| [Loader::Bios, Loader::EfiI386, Loader::EfiX86_64].contains(&loader);
    let found = match Image::of(kernel) {
        Image::X86Kernel => Loader::EfiX86_64,
        image => machine(kernel, image)?,
    };
    (found != on && !(is_x86(found) && is_x86(on))).then(|| format!("is for {}", found.arch()))
}

/// Whether it is a module of Syslinux 5 or later (mboot.c32), a shared object that is linked to others of its modules: iPXE
/// takes it for a kernel, and stands still in it.
fn is_syslinux_module(program: &[u8]) -> bool {
    const SHARED_OBJECT: &[u8] = &[3, 0];
    Image::of(program) == Image::Elf
        && is_elf_for_x86(program)
        && program.get(0x10..0x12) == Some(SHARED_OBJECT)
        && !has_multiboot_header(program)
}

/// A magic number, and words whose sum with it is zero (Multiboot specification, "The magic fields of Multiboot header"):
/// what loads such kernels has the number in it too.
fn has_multiboot_header(kernel: &[u8]) -> bool {
    let words: Vec<u32> = kernel.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let is_header = |header: &[u32]| header.iter().fold(0, |sum: u32, word| sum.wrapping_add(*word)) == 0;
    words.windows(3).any(|header| header.first() == Some(&0x1bad_b002) && is_header(header))
        || words.windows(4).any(|header| header.first() == Some(&0xe852_50d6) && is_header(header))
}

const SYSLINUX_MODULE: &str =
    "is not a kernel: it is a module of Syslinux, which only Syslinux can load: name the kernel that it would start";

/// The version of a kernel for x86, or what stands in its place.
fn name_in_header(kernel: &[u8]) -> Option<&[u8]> {
    (Image::of(kernel) == Image::X86Kernel).then_some(())?;
    let at = u16::from_le_bytes(*kernel.get(0x20e..)?.first_chunk()?);
    kernel.get(usize::from(at).checked_add(0x200)?..)
}

/// `e_machine` of an ELF header: EM_386 or EM_X86_64.
fn is_elf_for_x86(program: &[u8]) -> bool {
    matches!(program.get(0x12..0x14), Some([3 | 62, 0]))
}

/// The beginning of what gzip holds, as far as this part of the file leads to it.
fn unpacked(head: &[u8]) -> Option<Vec<u8>> {
    if Image::of(head) != Image::Gzip {
        return None;
    }
    let mut inner = Vec::new();
    // The file goes on behind its head: that the end is missing is no fault.
    let _ = MultiGzDecoder::new(head).take(HEAD as u64).read_to_end(&mut inner);
    Some(inner).filter(|inner| !inner.is_empty())
}

/// The processor that a program is for, where its header says so.
fn machine(head: &[u8], image: Image) -> Option<Loader> {
    let by_header = coff_machine_of(head)
        .and_then(|machine| Loader::ALL.into_iter().find(|loader| loader.coff_machine() == Some(machine)));
    by_header.or(match image {
        Image::Arm32Kernel => Some(Loader::EfiArm32),
        Image::Arm64Kernel => Some(Loader::EfiArm64),
        _ => None,
    })
}

fn has_boot_sector(head: &[u8]) -> bool {
    head.get(0x1fe..).is_some_and(|tail| tail.starts_with(b"\x55\xaa"))
}

const HTML: [&[u8]; 3] = [b"<!doctype", b"<html", b"<?xml"];

const XZ_OF_ANOTHER_CHECKSUM: Image = Image::OtherwiseCompressed(
    "compressed with xz and another checksum than CRC32, which the kernel does not unpack",
    ": compress it with xz --check=crc32",
);

/// Offset, bytes, and what they say. The first that fits decides: an x86 kernel is an EFI program too, and has what looks
/// like a boot sector.
const SIGNATURES: &[(usize, &[u8], Image)] = &[
    (0x202, b"HdrS", Image::X86Kernel),
    (0x24, b"\x18\x28\x6f\x01", Image::Arm32Kernel),
    (0x38, b"ARM\x64", Image::Arm64Kernel),
    (0x38, b"RSC\x05", Image::RiscvKernel),
    (0, b"\x7fELF", Image::Elf),
    (0, b"070701", Image::Cpio),
    (0, b"070702", Image::Cpio),
    (0, b"\x1f\x8b", Image::Gzip),
    // lib/xz/xz_dec_stream.c knows one checksum, and xz writes another one unless it is asked: the kernel then starts without
    // its initrd. The second byte of the flags names it (xz file format, 2.1.1.2).
    (0, b"\xfd7zXZ\0\0\x04", XZ_OF_ANOTHER_CHECKSUM),
    (0, b"\xfd7zXZ\0\0\x0a", XZ_OF_ANOTHER_CHECKSUM),
    (0, b"\xfd7zXZ\0", Image::Compressed("something compressed with xz")),
    (0, b"\x28\xb5\x2f\xfd", Image::Compressed("something compressed with zstd")),
    (0, b"\x02\x21\x4c\x18", Image::Compressed("something compressed with lz4")),
    (0, b"\x89LZO\0\r\n\x1a\n", Image::Compressed("something compressed with lzo")),
    (0, b"BZh", Image::Compressed("something compressed with bzip2")),
    (0, b"\x5d\0\0", Image::Compressed("something compressed with lzma")),
    // lib/decompress_unlz4.c knows the legacy format only.
    (
        0,
        b"\x04\x22\x4d\x18",
        Image::OtherwiseCompressed(
            "in lz4's frame format, which the kernel does not unpack",
            ": compress it with lz4 -l",
        ),
    ),
    (0, b"hsqs", Image::FileSystem("a squashfs")),
    (0, b"-rom1fs-", Image::FileSystem("a romfs")),
    (0x438, b"\x53\xef", Image::FileSystem("an ext2 file system")),
    (0x8001, b"CD001", Image::Iso),
    // ECMA-167 §2/9.1.2: a volume of UDF alone.
    (0x8001, b"BEA01", Image::Iso),
    (0, b"QFI\xfb", Image::Other("a qcow2 image: convert it with qemu-img convert -O raw")),
    (0, b"PK\x03\x04", Image::Other("a zip archive: unpack it")),
    (0, b"!<arch>\n", Image::Other("a package or another ar archive: unpack it (dpkg-deb -x)")),
    (0, b"\xed\xab\xee\xdb", Image::Other("an RPM package: unpack it (rpm2cpio)")),
    (0, b"#!ipxe", Image::SCRIPT),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Zeros, with these bytes at these places.
    fn head(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        for (at, bytes) in parts {
            head[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    fn efi(machine: u16) -> [(usize, Vec<u8>); 3] {
        [(0, b"MZ".to_vec()), (0x3c, vec![0x40]), (0x40, [b"PE\0\0", &machine.to_le_bytes()[..]].concat())]
    }

    fn with_efi(machine: u16, parts: &[(usize, &[u8])]) -> Vec<u8> {
        let efi = efi(machine);
        let all: Vec<_> = efi.iter().map(|(at, bytes)| (*at, bytes.as_slice())).chain(parts.iter().copied()).collect();
        head(&all)
    }

    const BZ_IMAGE: &[(usize, &[u8])] = &[(0x1fe, b"\x55\xaa"), (0x202, b"HdrS")];

    #[test]
    fn a_package_is_neither_kernel_nor_initrd() {
        for package in [b"!<arch>\ndebian-binary".as_slice(), b"\xed\xab\xee\xdb\x03"] {
            let words = Role::Kernel.check(package, None).expect_err("a package");
            assert!(words.contains("unpack it ("), "{words}");
        }
    }

    #[test]
    fn each_role_takes_what_boots_and_says_what_it_was_given_instead() {
        let gzip = head(&[(0, b"\x1f\x8b\x08")]);
        let cpio = head(&[(0, b"070701")]);
        let kernel = with_efi(0x8664, BZ_IMAGE);
        let iso = head(&[(0x8001, b"CD001")]);
        let hybrid = head(&[(0x8001, b"CD001"), (0x1fe, b"\x55\xaa")]);
        let disk = head(&[(0x1fe, b"\x55\xaa")]);
        let good: &[(Role, &[u8])] = &[
            (Role::Kernel, &kernel),
            (Role::Kernel, &gzip),
            (Role::Kernel, &head(&[(0x38, b"ARM\x64")])),
            (Role::Kernel, &with_efi(0x6264, &[])),
            (Role::Kernel, b"\x7fELF"),
            (Role::Initrd, &gzip),
            (Role::Initrd, &cpio),
            (Role::Initrd, b"\xfd7zXZ\0"),
            (Role::Initrd, b"\xfd7zXZ\0\0\x01"),
            (Role::Initrd, b"\x28\xb5\x2f\xfd"),
            (Role::Initrd, b"\x02\x21\x4c\x18"),
            (Role::Initrd, b"\x89LZO\0\r\n\x1a\n"),
            (Role::Initrd, b"BZh91AY"),
            (Role::Efi, &kernel),
            (Role::Efi, &with_efi(0xaa64, &[])),
            (Role::Iso, &hybrid),
            (Role::Iso, &iso),
            (Role::Iso, &head(&[(0x8001, b"BEA01")])),
            (Role::Disk, &hybrid),
            (Role::Disk, &disk),
        ];
        for (role, bytes) in good {
            assert_eq!(role.check(bytes, None), Ok(()), "{role:?} {:?}", Image::of(bytes));
        }
        let bad: &[(Role, &[u8], &str)] = &[
            (Role::Kernel, b"\n<!DOCTYPE html>", "is not a kernel: it is a web page, as servers send for an error"),
            (Role::Kernel, &cpio, "is not a kernel: it is a cpio archive; are kernel and initrd swapped?"),
            (Role::Kernel, b"", "is not a kernel: it is of an unknown type"),
            (Role::Initrd, &kernel, "is not an initrd: it is a Linux kernel for x86; are kernel and initrd swapped?"),
            (Role::Efi, &gzip, "is not an EFI program: it is something compressed with gzip"),
            (Role::Iso, &disk, "is not a CD image: it is a disk image; name it with disk"),
            (Role::Iso, b"\xfd7zXZ\0", "is not a CD image: it is something compressed with xz; unpack it"),
            (Role::Disk, b"\xfd7zXZ\0", "is not a disk image: it is something compressed with xz; unpack it"),
            (Role::Disk, &iso, "is not a disk image: it is a CD image; name it with iso or sanboot"),
            (Role::Disk, &kernel, "is not a disk image: it is a Linux kernel for x86"),
            (
                Role::Initrd,
                b"\xfd7zXZ\0\0\x04",
                "is not an initrd: it is compressed with xz and another checksum than CRC32, which the kernel does not unpack: \
                 compress it with xz --check=crc32",
            ),
            (
                Role::Disk,
                b"\xfd7zXZ\0\0\x04",
                "is not a disk image: it is compressed with xz and another checksum than CRC32, which the kernel does not \
                 unpack; unpack it",
            ),
            (
                Role::Initrd,
                b"\x04\x22\x4d\x18",
                "is not an initrd: it is in lz4's frame format, which the kernel does not unpack: compress it with lz4 -l",
            ),
        ];
        for (role, bytes, words) in bad {
            assert_eq!(role.check(bytes, None), Err((*words).to_owned()));
        }
    }

    #[test]
    fn a_program_for_another_processor_is_told_and_a_bios_takes_both_kernels() {
        let x64 = with_efi(0x8664, BZ_IMAGE);
        let of = |role: Role, bytes: &[u8], arch| role.check(bytes, Some(arch));
        assert_eq!(of(Role::Kernel, &x64, "x86_64"), Ok(()));
        assert_eq!(of(Role::Kernel, &x64, "i386"), Ok(()));
        assert_eq!(
            of(Role::Kernel, &x64, "arm64"),
            Err("is for x86_64, but the variant that names it is for arm64".into())
        );
        assert_eq!(of(Role::Efi, &x64, "i386"), Err("is for x86_64, but the variant that names it is for i386".into()));
        let arm64 = head(&[(0x38, b"ARM\x64")]);
        assert_eq!(
            of(Role::Kernel, &arm64, "i386"),
            Err("is for arm64, but the variant that names it is for i386".into())
        );
        // A kernel without an EFI header does not say.
        assert_eq!(of(Role::Kernel, &head(BZ_IMAGE), "x86_64"), Ok(()));
    }

    #[test]
    fn only_what_surely_does_not_start_is_refused() {
        let (x64, x86) = (with_efi(0x8664, BZ_IMAGE), with_efi(0x014c, BZ_IMAGE));
        let (arm64, old) = (with_efi(0xaa64, &[(0x38, b"ARM\x64")]), head(BZ_IMAGE));
        let plain: &[&[u8]] = &[&x64, &x86, &arm64, &old, b"\x7fELF", b"\x1f\x8b\x08", b"#!ipxe\n", b"\xfa\xfc", b""];
        for bytes in plain {
            assert_eq!(Role::Kernel.starts(bytes, None), Ok(()), "{:?}", Image::of(bytes));
        }
        let (bios, efi) = (Some(Loader::Bios), Some(Loader::EfiX86_64));
        let started: &[(&[u8], &[Option<Loader>])] = &[
            (&x64, &[bios, efi, Some(Loader::EfiI386)]),
            (&x86, &[bios, Some(Loader::EfiI386)]),
            (&arm64, &[Some(Loader::EfiArm64)]),
            (&old, &[bios]),
            (b"\x7fELF", &[bios]),
            (b"\x1f\x8b\x08", &[bios, efi, Some(Loader::EfiArm64)]),
            (b"\xfa\xfc", &[bios, efi]),
        ];
        for (bytes, on) in started {
            for on in *on {
                assert_eq!(Role::Kernel.starts(bytes, *on), Ok(()), "{:?} {on:?}", Image::of(bytes));
            }
        }
        let refused: &[(&[u8], Option<Loader>, &str)] = &[
            (b"<html>", None, "is not a kernel: it is a web page, as servers send for an error"),
            (b"070701", None, "is not a kernel: it is a cpio archive; are kernel and initrd swapped?"),
            (&arm64, bios, "is a Linux kernel for arm64, so iPXE cannot start it on this machine (BIOS)"),
            (&with_efi(0x8664, &[]), bios, "is an EFI program, so iPXE cannot start it on this machine (BIOS)"),
            (&arm64, efi, "is for arm64, so iPXE cannot start it on this machine (UEFI x86_64)"),
            (&x86, efi, "is for i386, so iPXE cannot start it on this machine (UEFI x86_64)"),
            (&x64, Some(Loader::EfiArm64), "is for x86_64, so iPXE cannot start it on this machine (UEFI arm64)"),
            (&old, efi, "is a Linux kernel for x86, but no EFI program, so iPXE cannot start it on this machine"),
            (
                b"\x7fELF",
                efi,
                "is an ELF program, which iPXE starts only on a BIOS, and this machine is UEFI x86_64: start it",
            ),
        ];
        for (bytes, on, words) in refused {
            let fault = Role::Kernel.starts(bytes, *on).expect_err(words);
            assert!(fault.starts_with(words), "{fault}");
        }
        let fix = Role::Kernel.starts(&arm64, bios).expect_err("refused");
        assert!(fix.ends_with("name one for it under arch.i386 of the profile"), "{fix}");
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
        let mut packed = Vec::new();
        encoder.read_to_end(&mut packed).expect("in memory");
        packed
    }

    #[test]
    fn what_gzip_holds_is_looked_at() {
        let initrd = gzip(&head(&[(0, b"070701")]));
        let swapped = "is not a kernel: it is a cpio archive, compressed with gzip; are kernel and initrd swapped?";
        assert_eq!(Role::Kernel.check(&initrd, None), Err(swapped.into()));
        assert_eq!(Role::Kernel.starts(&initrd, None), Err(swapped.into()));
        // The head of a file that goes on.
        let (half, _) = initrd.split_at(initrd.len() / 2);
        assert_eq!(Role::Kernel.starts(half, Some(Loader::Bios)), Err(swapped.into()));
        assert_eq!(Role::Initrd.check(&initrd, None), Ok(()));
        let kernel = gzip(&with_efi(0xaa64, &[(0x38, b"ARM\x64")]));
        let swapped =
            "is not an initrd: it is a Linux kernel for arm64, compressed with gzip; are kernel and initrd swapped?";
        assert_eq!(Role::Initrd.check(&kernel, None), Err(swapped.into()));
        assert_eq!(Role::Kernel.starts(&kernel, Some(Loader::EfiArm64)), Ok(()));
        let fault = Role::Kernel.starts(&kernel, Some(Loader::EfiX86_64)).expect_err("another processor");
        assert!(fault.starts_with("is for arm64, so iPXE cannot start it"), "{fault}");
        let xen = gzip(&head(&[(0, b"\x7fELF")]));
        assert_eq!(Role::Kernel.starts(&xen, Some(Loader::Bios)), Ok(()));
        let fault = Role::Kernel.starts(&xen, Some(Loader::EfiX86_64)).expect_err("multiboot is for a BIOS");
        assert!(fault.starts_with("is an ELF program, which iPXE starts only on a BIOS"), "{fault}");
        let other = gzip(b"anything");
        assert_eq!(Role::Kernel.starts(&other, Some(Loader::EfiX86_64)), Ok(()));
    }

    #[test]
    fn a_module_of_syslinux_is_no_kernel() {
        let elf = |kind: u8, more: &[(usize, &[u8])]| {
            head(&[&[(0, b"\x7fELF".as_slice()), (0x10, &[kind, 0]), (0x12, &[3, 0])], more].concat())
        };
        let module = elf(3, &[]);
        for checked in [Role::Kernel.check(&module, None), Role::Kernel.starts(&module, Some(Loader::Bios))] {
            assert!(checked.expect_err("a module").contains("a module of Syslinux"));
        }
        // mboot.c32 compares with the magic number.
        let number = [0x02, 0xb0, 0xad, 0x1b];
        assert!(Role::Kernel.check(&elf(3, &[(0x1000, &number)]), None).is_err());
        // A multiboot kernel that can be moved is a shared object too.
        let header = [&number[..], &[3, 0, 0, 0], &0xe452_4ffb_u32.to_le_bytes()].concat();
        for kernel in [elf(2, &[]), elf(3, &[(0x1000, &header)])] {
            assert_eq!(Role::Kernel.check(&kernel, None), Ok(()));
            assert_eq!(Role::Kernel.starts(&kernel, Some(Loader::Bios)), Ok(()));
        }
    }

    #[test]
    fn what_has_no_signature_may_be_a_boot_program_of_a_bios() {
        let program = head(&[(0, b"\xea\x05\0\xc0\x07")]);
        assert!(may_be_boot_program(&program, 42_430) && !may_be_boot_program(&program, 700_000));
        assert!(!may_be_boot_program(b"<html>", 6));
        assert_eq!(Role::Kernel.starts(&program, Some(Loader::Bios)), Ok(()));
    }

    #[test]
    fn a_kernel_for_another_processor_is_known_to_any_boot_program() {
        let arm64 = head(&[(0x38, b"ARM\x64")]);
        let old = head(BZ_IMAGE);
        for (kernel, on, words) in [
            (&arm64, Loader::EfiX86_64, Some("is for arm64")),
            (&arm64, Loader::Bios, Some("is for arm64")),
            (&gzip(&arm64), Loader::EfiX86_64, Some("is for arm64")),
            (&arm64, Loader::EfiArm64, None),
            (&old, Loader::EfiArm64, Some("is for x86_64")),
            (&old, Loader::EfiX86_64, None),
            (&with_efi(0x8664, BZ_IMAGE), Loader::Bios, None),
            (&b"anything".to_vec(), Loader::EfiX86_64, None),
        ] {
            assert_eq!(for_another_processor(kernel, on).as_deref(), words);
        }
    }

    #[test]
    fn gzip_is_nothing_for_ipxe_on_x86() {
        assert!(is_packed_for_x86(&gzip(&head(&[(0, b"\x7fELF"), (0x12, &[3, 0])]))));
        assert!(is_packed_for_x86(&gzip(&head(BZ_IMAGE))));
        assert!(!is_packed_for_x86(&gzip(&head(&[(0x38, b"ARM\x64")]))));
        assert!(!is_packed_for_x86(&head(BZ_IMAGE)));
    }

    #[test]
    fn memdisk_is_for_a_bios() {
        let memdisk = head(&[BZ_IMAGE, &[(0x20e, b"\x00\x01"), (0x300, b"MEMDISK 6.04")]].concat());
        assert_eq!(Role::Kernel.starts(&memdisk, Some(Loader::Bios)), Ok(()));
        assert!(Role::Kernel.starts(&memdisk, Some(Loader::EfiX86_64)).is_err());
    }

    #[test]
    fn wimboot_memdisk_and_multiboot_kernels_take_any_file() {
        let named = |name: &[u8]| head(&[BZ_IMAGE, &[(0x20e, b"\x00\x01"), (0x300, name)]].concat());
        assert!(takes_any_file(&named(b"wimboot v2.8.0")));
        assert!(takes_any_file(&named(b"MEMDISK 6.04")));
        assert!(takes_any_file(b"\x7fELF"));
        assert!(!takes_any_file(&named(b"6.1.0-13-amd64 (debian-kernel@lists.debian.org)")));
        assert!(!takes_any_file(b""));
        // Xen as Debian packages it, and as an EFI program that reads xen.cfg.
        assert!(takes_any_file(&gzip(&head(&[(0, b"\x7fELF"), (0x12, &[62, 0])]))));
        assert!(takes_any_file(&with_efi(0x8664, &[])));
        assert!(!takes_any_file(&gzip(&head(&[(0x38, b"ARM\x64")]))));
    }

    #[test]
    fn only_what_is_surely_not_linux_is_none() {
        let named = |name: &[u8]| with_efi(0x8664, &[BZ_IMAGE, &[(0x20e, b"\x00\x01"), (0x300, name)]].concat());
        let elf = |machine: u8| head(&[(0, b"\x7fELF"), (0x12, &[machine, 0])]);
        for (kernel, what) in [
            (named(b"wimboot v2.8.0"), Some("a loader of Windows PE")),
            (elf(3), Some("a multiboot kernel")),
            (gzip(&elf(62)), Some("a multiboot kernel")),
            (with_efi(0x8664, &[]), Some("an EFI program")),
            (named(b"6.1.0-13-amd64"), None),
            (named(b"MEMDISK 6.04"), None),
            // Linux for POWER (EM_PPC64), and for LoongArch.
            (elf(21), None),
            (head(&[(0, b"MZ"), (0x38, b"\xcd\x23\x82\x81\x40"), (0x40, b"PE\0\0\x64\x62")]), None),
            (Vec::new(), None),
        ] {
            assert_eq!(other_than_linux(&kernel), what);
        }
    }
}
