//! The processor of a kernel, from its first bytes.

use super::source::{array, byte, le16, le32};

/// iPXE's name of the processor (`${buildarch}`); none: it is compressed, or another kind of file.
#[must_use]
pub fn arch(head: &[u8]) -> Option<&'static str> {
    // Documentation/arch/arm64/booting.rst and riscv/boot-image-header.rst: both are EFI programs too.
    match array(head, 56) {
        Some([b'A', b'R', b'M', b'd']) => return Some("arm64"),
        Some([b'R', b'S', b'C', 5]) => return Some("riscv64"),
        _ => {}
    }
    // Documentation/arch/x86/boot.rst: since protocol 2.12, bit 0 of xloadflags means 64 bits.
    if array(head, 0x202) == Some(*b"HdrS") {
        let is_64 = le16(head, 0x206) >= 0x20c && byte(head, 0x236) & 1 != 0;
        return Some(if is_64 { "x86_64" } else { "i386" });
    }
    let pe = usize::try_from(le32(head, 0x3c)).ok()?;
    if !head.starts_with(b"MZ") || array(head, pe) != Some(*b"PE\0\0") {
        return None;
    }
    match le16(head, pe.checked_add(4)?) {
        0x8664 => Some("x86_64"),
        0x014c => Some("i386"),
        0xaa64 => Some("arm64"),
        0x5064 => Some("riscv64"),
        _ => None,
    }
}

/// Whether it is a kernel, or another program that is loaded like one. Kernels for arm64 are often compressed with gzip, and
/// iPXE unpacks them.
#[must_use]
pub fn is_kernel(head: &[u8]) -> bool {
    arch(head).is_some() || head.starts_with(&[0x1f, 0x8b])
}

/// The processor from a word of a path or text: `install.386`, `amd64`.
#[must_use]
pub fn arch_in(text: &str) -> Option<&'static str> {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.find_map(|word| NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, arch)| *arch))
}

/// The names of processors in distributions, and in iPXE.
const NAMES: &[(&str, &str)] = &[
    ("x86_64", "x86_64"),
    ("amd64", "x86_64"),
    ("amd", "x86_64"),
    ("x64", "x86_64"),
    ("bootx64", "x86_64"),
    ("i386", "i386"),
    ("i586", "i386"),
    ("i686", "i386"),
    ("686", "i386"),
    ("386", "i386"),
    ("bootia32", "i386"),
    ("aarch64", "arm64"),
    ("arm64", "arm64"),
    ("a64", "arm64"),
    ("bootaa64", "arm64"),
    ("riscv64", "riscv64"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_says_its_processor() {
        let mut x86 = vec![0; 0x300];
        x86[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(arch(&x86), Some("i386"));
        x86[0x206..0x208].copy_from_slice(&[0x0f, 2]);
        x86[0x236] = 1;
        assert_eq!(arch(&x86), Some("x86_64"));
        let mut arm = vec![0; 0x300];
        arm[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(arch(&arm), Some("arm64"));
        assert_eq!((arch(b""), arch(b"\x1f\x8b"), arch(b"MZ")), (None, None, None));
        assert!(is_kernel(&x86) && is_kernel(&arm) && is_kernel(b"\x1f\x8b\x08"));
        // A COM32 module begins with a signature of its own (syslinux, doc/comboot.txt).
        assert!(!is_kernel(b"\xb8\xff\x4c\xcd\x21") && !is_kernel(b""));
        for (text, expected) in [
            ("install.386/vmlinuz", Some("i386")),
            ("Debian GNU/Linux 12 - Official amd64 NETINST", Some("x86_64")),
            ("boot/vmlinuz-6.1-686-pae", Some("i386")),
            ("EFI/BOOT/BOOTAA64.EFI", Some("arm64")),
            ("boot/vmlinuz", None),
        ] {
            assert_eq!(arch_in(text), expected, "{text}");
        }
    }
}
