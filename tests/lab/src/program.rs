//! A small EFI program that is read, and never run.

/// An EFI program for x86_64 with this `.sbat` section, which says that it is shim, iPXE or GRUB. A signature is of nobody.
#[must_use]
pub fn efi_program(sbat: &str, is_signed: bool) -> Vec<u8> {
    const SECTIONS: usize = 0x58 + 240;
    const CONTENTS: usize = SECTIONS + 40;
    let mut bytes = vec![0; CONTENTS];
    let mut put = |at: usize, part: &[u8]| drop(bytes.splice(at..at + part.len(), part.iter().copied()));
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    // x86_64, one section, and 240 bytes of optional header.
    put(0x40, b"PE\0\0\x64\x86\x01\0");
    put(0x54, &[240, 0]);
    put(0x58, &[0x0b, 0x02]);
    put(0x58 + 108, &[16]);
    put(SECTIONS, b".sbat");
    put(SECTIONS + 8, &number(sbat.len()));
    put(SECTIONS + 16, &number(sbat.len()));
    put(SECTIONS + 20, &number(CONTENTS));
    let signature: &[u8] = if is_signed { b"\x10\0\0\0\0\x02\x02\0nobody's" } else { b"" };
    if is_signed {
        put(0x58 + 144, &number(CONTENTS + sbat.len()));
        put(0x58 + 148, &number(signature.len()));
    }
    [&bytes, sbat.as_bytes(), signature].concat()
}

/// `.sbat` of a shim.
pub const SHIM_SBAT: &str = "shim,4,UEFI shim,shim,16.1,https://x\n";
/// `.sbat` of an iPXE.
pub const IPXE_SBAT: &str = "ipxe,1,iPXE,ipxe,2.0.0,https://ipxe.org\n";
/// `.sbat` of Debian 12's GRUB.
pub const GRUB_2_06_SBAT: &str =
    "grub,5,FSF,grub,2.06,https://x\ngrub.debian,5,Debian,grub2,2.06-13+deb12u2,https://x\n";
