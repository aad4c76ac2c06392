//! Rock Ridge: data of POSIX file systems, in the system use areas of directory records (IEEE P1281 SUSP 1.12 and P1282
//! RRIP 1.12).

use super::{
    fault::Fault,
    source::{Reader, array, byte, le32, le64},
};

/// The data in one record's system use area.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SystemUse {
    /// NM.
    pub(super) name: Option<String>,
    /// SL: the target.
    pub(super) link: Option<String>,
    /// CL: the block of the folder that belongs here.
    pub(super) moved_from: Option<u32>,
    /// RE: the folder is shown where its CL is, not here.
    pub(super) is_moved: bool,
    /// PX: not a file, a folder or a link.
    pub(super) is_special: bool,
    /// ZF: the size of the compressed file.
    pub(super) compressed: Option<u64>,
}

/// How many bytes of each system use area belong to another extension (SP, P1281 §5.3); `None`: no Rock Ridge. `area`
/// is that of the root folder's own record.
pub(super) fn skip(area: &[u8]) -> Option<usize> {
    // CD-ROM XA adds 14 bytes before it.
    let area =
        [0, 14].into_iter().find_map(|at| area.get(at..).filter(|area| area.starts_with(b"SP\x07\x01\xbe\xef")))?;
    Some(usize::from(byte(area, 6)))
}

/// Reads an area and its continuations.
pub(super) fn system_use(reader: &Reader<'_>, area: &[u8], skip: usize, block_size: u64) -> Result<SystemUse, Fault> {
    let mut found = Parts::default();
    let mut next = found.read(area.get(skip..).unwrap_or_default());
    let mut continuations = 0;
    while let Some((block, offset, size)) = next {
        continuations += 1;
        if continuations > CONTINUATIONS || size > LONGEST_CONTINUATION {
            return Err(Fault::damaged("a Rock Ridge entry", "its continuation areas have no end"));
        }
        let at = u64::from(block) * block_size + u64::from(offset);
        next = found.read(&reader.bytes("a Rock Ridge continuation area", at, u64::from(size))?);
    }
    Ok(found.done())
}

#[derive(Default)]
struct Parts {
    said: SystemUse,
    name: Vec<u8>,
    has_name: bool,
    link: Vec<u8>,
    has_link: bool,
    /// The last component of the link continues in the next entry.
    is_open: bool,
}

impl Parts {
    /// Reads the entries of one area. Returns the next area: block, offset and length.
    fn read(&mut self, mut area: &[u8]) -> Option<(u32, u32, u32)> {
        let mut next = None;
        while let Some([a, b, length, _version]) = array::<4>(area, 0) {
            let Some(entry) = area.get(..usize::from(length)).filter(|entry| entry.len() >= 4) else { break };
            match &[a, b] {
                b"CE" if entry.len() >= 28 => next = Some((le32(entry, 4), le32(entry, 12), le32(entry, 20))),
                b"NM" => self.name(entry),
                b"SL" => self.link(entry.get(5..).unwrap_or_default()),
                b"CL" => self.said.moved_from = array(entry, 4).map(u32::from_le_bytes),
                b"RE" => self.said.is_moved = true,
                b"PX" => {
                    self.said.is_special = !matches!(le32(entry, 4) & 0o170_000, 0 | 0o040_000 | 0o100_000 | 0o120_000)
                }
                // zisofs of the first kind says 32 bits of the size (zisofs-tools), the second 64 (libisofs).
                b"ZF" if entry.get(4..6) == Some(b"PZ") => self.said.compressed = Some(le64(entry, 8)),
                b"ZF" => self.said.compressed = Some(u64::from(le32(entry, 8))),
                b"ST" => return next,
                _ => {}
            }
            area = area.get(entry.len()..).unwrap_or_default();
        }
        next
    }

    /// P1282 §4.1.4. The two flags for `.` and `..` name what the record's own identifier names already.
    fn name(&mut self, entry: &[u8]) {
        if byte(entry, 4) & 0b110 == 0 {
            self.has_name = true;
            self.name.extend(entry.get(5..).unwrap_or_default());
        }
    }

    /// P1282 §4.1.3.1: component records.
    fn link(&mut self, mut components: &[u8]) {
        self.has_link = true;
        while let Some([flags, length]) = array::<2>(components, 0) {
            let Some(text) = components.get(2..2 + usize::from(length)) else { break };
            if !self.is_open && !self.link.is_empty() && !self.link.ends_with(b"/") {
                self.link.push(b'/');
            }
            match flags & 0b1110 {
                0b0010 => self.link.push(b'.'),
                0b0100 => self.link.extend(b".."),
                0b1000 => self.link.push(b'/'),
                _ => self.link.extend(text),
            }
            self.is_open = flags & 1 != 0;
            components = components.get(2 + usize::from(length)..).unwrap_or_default();
        }
    }

    fn done(self) -> SystemUse {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let name = (self.has_name && !self.name.is_empty()).then(|| text(self.name));
        SystemUse { name, link: self.has_link.then(|| text(self.link)), ..self.said }
    }
}

/// One area holds a name of 250 bytes; a link of 4096 bytes takes 17.
const CONTINUATIONS: u32 = 64;
/// Bytes.
const LONGEST_CONTINUATION: u32 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(area: &[u8], image: &[u8]) -> Result<SystemUse, Fault> {
        system_use(&Reader::new(&image.to_vec()), area, 0, 2048)
    }

    fn continuation(block: u32, offset: u32, length: u32) -> Vec<u8> {
        let mut entry = b"CE\x1c\x01".to_vec();
        for value in [block, offset, length] {
            entry.extend(value.to_le_bytes());
            entry.extend(value.to_be_bytes());
        }
        entry
    }

    #[test]
    fn names_and_links_go_on_in_continuation_areas() {
        let mut image = vec![0; 4096];
        let more = b"NM\x09\x01\x00name\x53\x4c\x0d\x01\x00\x00\x01b\x04\x00\x00\x01c";
        image[2048 + 10..2048 + 10 + more.len()].copy_from_slice(more);
        let mut area = b"NM\x0a\x01\x01long-SL\x0a\x01\x01\x08\x00\x01\x01a".to_vec();
        area.extend(continuation(1, 10, more.len() as u32));
        let expected =
            SystemUse { name: Some("long-name".into()), link: Some("/ab/../c".into()), ..SystemUse::default() };
        assert_eq!(said(&area, &image), Ok(expected));
    }

    #[test]
    fn a_circle_of_continuation_areas_ends() {
        let mut image = vec![0; 4096];
        let again = continuation(1, 0, 28);
        image[2048..2048 + 28].copy_from_slice(&again);
        assert!(matches!(said(&again, &image), Err(Fault::Damaged { .. })));
        assert!(matches!(said(&continuation(9, 0, 28), &image), Err(Fault::Outside { .. })));
        assert!(matches!(said(&continuation(0, 0, 1 << 20), &image), Err(Fault::Damaged { .. })));
    }

    #[test]
    fn moved_folders_devices_and_zisofs_are_told_apart() {
        let image = Vec::new();
        let of = |area: &[u8]| said(area, &image).expect("read");
        assert_eq!(of(b"CL\x0c\x01\x2a\0\0\0\0\0\0\x2a").moved_from, Some(42));
        assert!(of(b"RE\x04\x01").is_moved);
        assert!(of(b"PX\x08\x01\x00\x20\0\0").is_special);
        assert!(!of(b"PX\x08\x01\x24\x81\0\0").is_special);
        assert_eq!(of(b"ZF\x10\x01pz\x04\x0f\x00\x10\0\0\0\0\x10\0").compressed, Some(4096));
        // An entry that says a length of nothing, or of more than there is, ends the area.
        assert_eq!(of(b"NM\x00\x01\x00xRE\x04\x01"), SystemUse::default());
        assert_eq!(of(b"NM\xff\x01\x00x"), SystemUse::default());
        assert_eq!(skip(b"SP\x07\x01\xbe\xef\x00"), Some(0));
        assert_eq!(skip(b"xxxxxxxxxxxxxxSP\x07\x01\xbe\xef\x0e"), Some(14));
        assert_eq!((skip(b""), skip(b"RR\x05\x01\x81")), (None, None));
    }
}
