//! What an EFI program says of itself: for which processor it is, whether it is signed, and by whom.
//!
//! Microsoft PE/COFF specification ("Optional Header Data Directories", "The Attribute Certificate Table"); the
//! signature is PKCS#7 (RFC 2315 §9.1) in DER (X.690 §8.1); `.sbat` is shim's SBAT.md. Whether a signature is valid is
//! for the firmware to say: nothing is verified here.

/// An EFI program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// `Machine` of its COFF header.
    pub machine: u16,
    /// Who issued the certificates that it is signed with; empty if it is not signed.
    pub signed_by: Vec<String>,
    /// Its revocation generations.
    pub sbat: Vec<Sbat>,
}

/// A line of `.sbat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sbat {
    /// `shim`, `grub`, `ipxe`, `grub.debian`…
    pub component: String,
    /// What firmware and shim compare with their list of revocations.
    pub generation: u32,
    /// The version of the vendor's package.
    pub version: String,
}

/// The kinds of program that a boot begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Starts a second stage, whose signature it checks.
    Shim,
    /// iPXE.
    Ipxe,
    /// GRUB.
    Grub,
}

impl Program {
    /// Reads a file; `None` where it is no PE image.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let image = Image::of(bytes)?;
        let signed_by = image.certificates().map(|signature| signer(signature).unwrap_or_else(|| UNKNOWN.into()));
        let mut names: Vec<String> = Vec::new();
        for name in signed_by.take(SIGNATURES) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let sbat = image.section(b".sbat").map(sbat).unwrap_or_default();
        Some(Self { machine: image.machine, signed_by: names, sbat })
    }

    /// Whether it has a signature.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        !self.signed_by.is_empty()
    }

    /// What kind of program it is, where `.sbat` tells it.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        let kinds = [("shim", Kind::Shim), ("ipxe", Kind::Ipxe), ("grub", Kind::Grub)];
        kinds.into_iter().find(|(name, _)| self.generation(name).is_some()).map(|(_, kind)| kind)
    }

    /// Its generation as a component.
    #[must_use]
    pub fn generation(&self, component: &str) -> Option<u32> {
        self.sbat.iter().find(|sbat| sbat.component == component).map(|sbat| sbat.generation)
    }

    /// `signed by A and B (shim 4)`, or `not signed`.
    #[must_use]
    pub fn words(&self) -> String {
        match self.is_signed() {
            true => format!("signed by {}", self.signed_by.join(" and ")),
            false => "not signed".into(),
        }
    }
}

/// Whether a unified kernel image has a command line of its own (systemd-stub(7)). Of `head`, the section table is needed.
#[must_use]
pub fn has_own_cmdline(head: &[u8]) -> bool {
    let has = |image: &Image<'_>, name: &[u8]| image.header_of(name).is_some();
    Image::of(head).is_some_and(|image| has(&image, b".linux") && has(&image, b".cmdline"))
}

/// Where the parts of a PE image are.
struct Image<'a> {
    bytes: &'a [u8],
    machine: u16,
    /// The section table.
    sections: &'a [u8],
    /// The attribute certificate table.
    certificates: &'a [u8],
}

impl<'a> Image<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(b"MZ") {
            return None;
        }
        let header = bytes.get(u32_at(bytes, 0x3c)?..)?.strip_prefix(b"PE\0\0")?;
        let (machine, count) = (u16_at(header, 0)?, u16_at(header, 2)?);
        let optional_size = usize::from(u16_at(header, 16)?);
        let rest = header.get(20..)?;
        let (optional, sections) = rest.split_at_checked(optional_size)?;
        let sections = sections.get(..usize::from(count) * SECTION)?;
        let certificates =
            Self::certificate_table(optional).and_then(|(at, size)| bytes.get(at..at.checked_add(size)?));
        Some(Self { bytes, machine, sections, certificates: certificates.unwrap_or_default() })
    }

    /// File offset and size of the attribute certificate table, the fifth data directory.
    fn certificate_table(optional: &[u8]) -> Option<(usize, usize)> {
        let directories = match u16_at(optional, 0)? {
            0x10b => 96,
            0x20b => 112,
            _ => return None,
        };
        let count = u32_at(optional, directories - 4)?;
        let at = directories + 4 * 8;
        (count > 4).then_some(())?;
        Some((u32_at(optional, at)?, u32_at(optional, at + 4)?))
    }

    /// The PKCS#7 signatures.
    fn certificates(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.certificates;
        std::iter::from_fn(move || {
            let length = u32_at(rest, 0).filter(|length| *length > CERTIFICATE_HEADER)?;
            let (kind, body) = (u16_at(rest, 6)?, rest.get(CERTIFICATE_HEADER..length)?);
            rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
            Some((kind, body))
        })
        .filter(|(kind, _)| *kind == PKCS_SIGNED_DATA)
        .map(|(_, body)| body)
    }

    /// The section's line of the section table.
    fn header_of(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.sections.chunks_exact(SECTION).find(|section| {
            section.get(..8).is_some_and(|own| own.strip_prefix(name).is_some_and(|rest| rest.iter().all(|b| *b == 0)))
        })
    }

    fn section(&self, name: &[u8]) -> Option<&'a [u8]> {
        let section = self.header_of(name)?;
        let (virtual_size, raw_size, at) = (u32_at(section, 8)?, u32_at(section, 16)?, u32_at(section, 20)?);
        let size = if virtual_size == 0 { raw_size } else { raw_size.min(virtual_size) };
        self.bytes.get(at..at.checked_add(size)?)
    }
}

/// In bytes: a line of the section table, and what goes before a certificate.
const SECTION: usize = 40;
const CERTIFICATE_HEADER: usize = 8;
/// `WIN_CERT_TYPE_PKCS_SIGNED_DATA`.
const PKCS_SIGNED_DATA: u16 = 2;
/// How many are looked at: shim has two.
const SIGNATURES: usize = 8;
const UNKNOWN: &str = "an unknown signer";

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_le_bytes(*two))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

/// Lines of `component,generation,vendor,package,version,url`.
fn sbat(section: &[u8]) -> Vec<Sbat> {
    let text = String::from_utf8_lossy(section);
    let text = text.split('\0').next().unwrap_or_default();
    let line = |line: &str| {
        let mut fields = line.split(',');
        let (component, generation) = (fields.next()?.trim(), fields.next()?.trim().parse().ok()?);
        let version = fields.nth(2).unwrap_or_default().trim();
        Some(Sbat { component: plain(component), generation, version: plain(version) })
    };
    text.lines().take(SBAT_LINES).filter_map(line).collect()
}

/// More than any program has.
const SBAT_LINES: usize = 32;

/// The common name of the issuer of the certificate that made a signature: what has to be in the firmware's list, or in
/// the shim, for the program to start.
fn signer(signature: &[u8]) -> Option<String> {
    let (content_info, _) = element(signature, SEQUENCE)?;
    let (_, rest) = element(content_info, OBJECT_IDENTIFIER)?;
    let (explicit, _) = element(rest, CONTEXT_0)?;
    let (signed_data, _) = element(explicit, SEQUENCE)?;
    // The last part of it, behind the version, algorithms, contents, certificates and revocations.
    let signer_infos = elements(signed_data).filter(|(tag, _)| *tag == SET).last()?.1;
    let (signer_info, _) = element(signer_infos, SEQUENCE)?;
    let (_version, rest) = element(signer_info, INTEGER)?;
    let (issuer_and_serial, _) = element(rest, SEQUENCE)?;
    let (issuer, _) = element(issuer_and_serial, SEQUENCE)?;
    common_name(issuer).or_else(|| Some(UNKNOWN.into()))
}

/// Of a name (X.501): sets of pairs of an object identifier and a text.
fn common_name(name: &[u8]) -> Option<String> {
    let attributes = elements(name).filter_map(|(_, set)| element(set, SEQUENCE)).map(|(pair, _)| pair);
    let value = |pair| {
        let (identifier, rest) = element(pair, OBJECT_IDENTIFIER)?;
        let (_, text) = elements(rest).next()?;
        (identifier == COMMON_NAME).then(|| plain(&String::from_utf8_lossy(text)))
    };
    attributes.filter_map(value).last()
}

/// What came from a file, and ends on a terminal.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

/// DER tags (X.690 §8.1.2).
const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xa0;
/// 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The contents of the first element, which has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = first(bytes)?;
    (found == tag).then_some((contents, rest))
}

fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, contents, rest) = first(bytes)?;
        bytes = rest;
        Some((tag, contents))
    })
}

fn first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        // Of up to four bytes; an indefinite length (0x80) is not DER.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn der(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
        let contents = contents.concat();
        let length = u16::try_from(contents.len()).expect("short").to_be_bytes();
        [&[tag, 0x82][..], &length, &contents].concat()
    }

    fn signature(issuer: &str) -> Vec<u8> {
        let pair = der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[COMMON_NAME]), &der(0x0c, &[issuer.as_bytes()])]);
        let issuer_and_serial = der(SEQUENCE, &[&der(SEQUENCE, &[&der(SET, &[&pair])]), &der(INTEGER, &[b"1"])]);
        let signer_info = der(SEQUENCE, &[&der(INTEGER, &[b"\x01"]), &issuer_and_serial]);
        let algorithms = der(SET, &[]);
        let signed_data =
            der(SEQUENCE, &[&der(INTEGER, &[b"\x01"]), &algorithms, &der(SEQUENCE, &[]), &der(SET, &[&signer_info])]);
        der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[b"\x2a"]), &der(CONTEXT_0, &[&signed_data])])
    }

    /// An EFI program for a processor, signed by these, with this `.sbat`.
    pub(crate) fn efi(machine: u16, signers: &[&str], sbat: &str) -> Vec<u8> {
        let optional = 112 + 16 * 8;
        let sections_at = 0x40 + 4 + 20 + optional;
        let sbat_at = sections_at + SECTION;
        let mut bytes = vec![0; sbat_at];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
        bytes[0x44..0x46].copy_from_slice(&machine.to_le_bytes());
        bytes[0x46] = 1;
        bytes[0x54..0x56].copy_from_slice(&(optional as u16).to_le_bytes());
        let header = 0x58;
        bytes[header..header + 2].copy_from_slice(&[0x0b, 0x02]);
        bytes[header + 108] = 16;
        bytes[sections_at..sections_at + 5].copy_from_slice(b".sbat");
        let mut put = |at: usize, value: usize| bytes[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        put(sections_at + 8, sbat.len());
        put(sections_at + 16, sbat.len());
        put(sections_at + 20, sbat_at);
        let certificates: Vec<u8> = signers
            .iter()
            .flat_map(|signer| {
                let signature = signature(signer);
                let length = (signature.len() + CERTIFICATE_HEADER) as u32;
                let mut one = [&length.to_le_bytes()[..], &[0, 2, 2, 0], &signature].concat();
                one.resize(one.len().next_multiple_of(8), 0);
                one
            })
            .collect();
        if !signers.is_empty() {
            put(header + 112 + 32, sbat_at + sbat.len());
            put(header + 112 + 36, certificates.len());
        }
        [bytes.as_slice(), sbat.as_bytes(), &certificates].concat()
    }

    pub(crate) const SHIM: &str = "sbat,1,SBAT Version,sbat,1,https://x\nshim,4,UEFI shim,shim,16.1,https://x\n";

    #[test]
    fn signers_and_generations_are_read() {
        let program =
            Program::of(&efi(0x8664, &["Microsoft Corporation UEFI CA 2011", "Microsoft UEFI CA 2023"], SHIM));
        let program = program.expect("a program");
        assert_eq!((program.machine, program.kind(), program.generation("shim")), (0x8664, Some(Kind::Shim), Some(4)));
        assert_eq!(program.words(), "signed by Microsoft Corporation UEFI CA 2011 and Microsoft UEFI CA 2023");
        let unsigned = Program::of(&efi(0xaa64, &[], "")).expect("a program");
        assert_eq!((unsigned.is_signed(), unsigned.kind(), unsigned.words().as_str()), (false, None, "not signed"));
        assert_eq!(Program::of(b"\x7fELF"), None);
    }

    /// What an administrator puts into a folder may be cut, or anything else.
    #[test]
    fn a_damaged_program_is_no_panic() {
        let whole = efi(0x8664, &["A"], SHIM);
        for end in 0..whole.len() {
            let _ = Program::of(&whole[..end]);
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = Program::of(&changed);
            }
        }
    }
}
