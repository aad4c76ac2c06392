//! Files that are made of pieces: our own bytes, ranges of an image, zeros. Nothing is copied before it is sent.
//!
//! A file of an image is such a file. An initial RAM disk with an added file of the image is one too: the image's own
//! RAM disk, then a cpio archive whose content is a range of the image. Linux unpacks several archives one after the
//! other, ignores zeros between them, and needs each at a multiple of four bytes (init/initramfs.c,
//! `unpack_to_rootfs`). So no loader needs a way to add files.

use sha2::{Digest as _, Sha256};

use super::{
    extent::Extent,
    fault::Fault,
    index::{Entry, Index},
    recognised::{Part, Place},
};

/// A run of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Our own bytes.
    Bytes(Vec<u8>),
    /// A range of the image: start and length.
    Image(u64, u64),
    /// This many zeros.
    Zeros(u64),
}

impl Segment {
    /// Bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Image(_, length) | Self::Zeros(length) => *length,
        }
    }
}

impl From<&Extent> for Segment {
    fn from(extent: &Extent) -> Self {
        match extent.offset {
            Some(offset) => Self::Image(offset, extent.length),
            None => Self::Zeros(extent.length),
        }
    }
}

/// A file that is made of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    all: Vec<Segment>,
    /// The end of each segment in the file.
    ends: Vec<u64>,
}

/// A part of one segment that is sent next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// A range of the image: start and length.
    Image(u64, u64),
    /// This many zeros.
    Zeros(u64),
}

impl Segments {
    /// A file of the image.
    #[must_use]
    pub fn of(entry: Entry<'_>) -> Self {
        entry.extents.iter().map(Segment::from).collect()
    }

    /// The initial RAM disk of these parts, one after the other.
    ///
    /// # Errors
    /// The fault of a file of the image; [`Fault::NotRead`] for a file that is not in the image, and for one of 4 GiB
    /// or more, which does not fit into a cpio archive.
    pub fn initrd(index: &Index, parts: &[Part]) -> Result<Self, Fault> {
        let whole = Extent { offset: Some(0), length: index.volume().length };
        let mut made = Self::default();
        for part in parts {
            match part {
                Part::File(Place::Image(path)) => made.extend(index.file(path)?.extents.iter().map(Segment::from)),
                Part::File(Place::Unpacked(_) | Place::Host { .. } | Place::Supplied(_)) => {
                    return Err(Fault::NotRead("a file that is not in the image cannot be added"));
                }
                Part::Put { path: Some(path), name } => made.put(name, index.file(path)?.extents)?,
                Part::Put { path: None, name } => made.put(name, &[whole])?,
            }
            made.align();
        }
        Ok(made)
    }

    /// A cpio archive of one file (Documentation/driver-api/early-userspace/buffer-format.rst).
    fn put(&mut self, name: &str, content: &[Extent]) -> Result<(), Fault> {
        let size: u64 = content.iter().map(|extent| extent.length).sum();
        let size = u32::try_from(size).map_err(|_| Fault::NotRead(TOO_LARGE))?;
        self.push(Segment::Bytes(member(name, 0o100_644, size)));
        self.extend(content.iter().map(Segment::from));
        self.align();
        self.push(Segment::Bytes(member("TRAILER!!!", 0, 0)));
        Ok(())
    }

    /// Zeros up to a multiple of four bytes.
    fn align(&mut self) {
        let length = self.length();
        self.push(Segment::Zeros(length.next_multiple_of(4) - length));
    }

    fn push(&mut self, segment: Segment) {
        if segment.length() > 0 {
            self.ends.push(self.length() + segment.length());
            self.all.push(segment);
        }
    }

    /// Bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The bytes at an offset, at most `most`, up to the end of its segment. `None` after the end.
    #[must_use]
    pub fn at(&self, offset: u64, most: u64) -> Option<Piece<'_>> {
        let at = self.ends.partition_point(|end| *end <= offset);
        let segment = self.all.get(at)?;
        let within = offset - (self.ends.get(at)? - segment.length());
        let length = (segment.length() - within).min(most);
        match segment {
            Segment::Bytes(bytes) => {
                let start = usize::try_from(within).ok()?;
                Some(Piece::Bytes(bytes.get(start..start + usize::try_from(length).ok()?)?))
            }
            Segment::Image(offset, _) => Some(Piece::Image(offset + within, length)),
            Segment::Zeros(_) => Some(Piece::Zeros(length)),
        }
    }

    /// A fingerprint that differs for other files of the same image, for entity tags.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut sum = Sha256::new();
        for segment in &self.all {
            let (kind, offset) = match segment {
                Segment::Bytes(bytes) => {
                    sum.update(bytes);
                    (0_u8, 0)
                }
                Segment::Image(offset, _) => (1, *offset),
                Segment::Zeros(_) => (2, 0),
            };
            sum.update([kind]);
            sum.update(offset.to_le_bytes());
            sum.update(segment.length().to_le_bytes());
        }
        sum.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect()
    }
}

impl Piece<'_> {
    /// Bytes; never 0.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Image(_, length) | Self::Zeros(length) => *length,
        }
    }
}

impl Extend<Segment> for Segments {
    fn extend<T: IntoIterator<Item = Segment>>(&mut self, segments: T) {
        for segment in segments {
            self.push(segment);
        }
    }
}

impl FromIterator<Segment> for Segments {
    fn from_iter<T: IntoIterator<Item = Segment>>(segments: T) -> Self {
        let mut all = Self::default();
        all.extend(segments);
        all
    }
}

/// Header and name of a member, up to a multiple of four bytes.
fn member(name: &str, mode: u32, size: u32) -> Vec<u8> {
    let name_size = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    // Inode, mode, owner, group, links, time, size, device twice, device of the node twice, length of the name, checksum.
    let fields = [1, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut bytes = b"070701".to_vec();
    bytes.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    bytes.extend(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

const TOO_LARGE: &str = "it has 4 GiB or more, and cannot be added to an initial RAM disk";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::iso::{
        ReadAt,
        made::{Of, iso},
    };

    /// All of it, as a client would get it, in pieces of this size.
    fn content(image: &dyn ReadAt, file: &Segments, step: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = file.at(all.len() as u64, step) {
            match piece {
                Piece::Bytes(bytes) => all.extend(bytes),
                Piece::Image(offset, length) => {
                    let mut bytes = vec![0; length as usize];
                    image.read_at(offset, &mut bytes).expect("read");
                    all.extend(bytes);
                }
                Piece::Zeros(length) => all.resize(all.len() + length as usize, 0),
            }
        }
        all
    }

    fn parts() -> [Part; 2] {
        let file = Part::File(Place::Image("boot/initrd.img".into()));
        [file, Part::Put { path: Some("data".into()), name: "put.img" }]
    }

    #[test]
    fn a_file_is_added_to_an_initial_ram_disk() {
        let made = iso("PUT", &[("boot/initrd.img", "initrd".into()), ("data", "content".into())]);
        let index = Index::open(&made).expect("opened");
        let file = Segments::initrd(&index, &parts()).expect("made");
        let header = "00000001000081a4000000000000000000000001000000000000000700000000000000000000000000000000";
        let trailer =
            "00000001000000000000000000000000000000010000000000000000000000000000000000000000000000000000000b00000000";
        let expected = [
            "initrd\0\0",
            "070701",
            header,
            "0000000800000000",
            "put.img\0\0\0",
            "content\0",
            "070701",
            trailer,
            "TRAILER!!!\0\0\0\0",
        ];
        let ours = content(&made, &file, 5);
        assert_eq!(String::from_utf8_lossy(&ours), expected.concat());
        assert_eq!((file.length(), file.length() % 4), (ours.len() as u64, 0));
    }

    #[test]
    fn the_whole_image_is_added_if_it_is_smaller_than_4_gib() {
        let made = iso("PVE", &[("i", "x".into())]);
        let index = Index::open(&made).expect("opened");
        let whole = [Part::Put { path: None, name: "proxmox.iso" }];
        let file = Segments::initrd(&index, &whole).expect("made");
        assert!(file.length() > made.length && file.all.contains(&Segment::Image(0, made.length)));
        let made = iso("BIG", &[("big", Of::Size(4 << 30))]);
        let index = Index::open(&made).expect("opened");
        assert_eq!(Segments::initrd(&index, &whole), Err(Fault::NotRead(TOO_LARGE)));
        let gone = [Part::File(Place::Image("gone".into()))];
        assert_eq!(Segments::initrd(&index, &gone), Err(Fault::NotFound("gone".into())));
    }

    #[test]
    fn the_fingerprint_tells_files_apart() {
        let of = |all: &[Segment]| all.iter().cloned().collect::<Segments>().fingerprint();
        let some = [Segment::Bytes(b"a".to_vec()), Segment::Image(0, 1), Segment::Zeros(1)];
        assert_eq!(of(&some), of(&some));
        for other in [vec![Segment::Image(0, 1)], vec![Segment::Image(1, 1)], vec![Segment::Zeros(1)], vec![]] {
            assert_ne!(of(&some), of(&other), "{other:?}");
        }
        assert_ne!(of(&[Segment::Image(0, 1)]), of(&[Segment::Image(1, 1)]));
    }

    proptest! {
        #[test]
        fn reads_of_any_size_give_the_same_file(step in 1_u64..5000, lengths in proptest::collection::vec(0_u64..3000, 0..6)) {
            let image: Vec<u8> = (0..5000_u32).map(|n| (n % 251) as u8).collect();
            let file: Segments = lengths.iter().enumerate().map(|(n, length)| match n % 3 {
                0 => Segment::Image(n as u64, *length),
                1 => Segment::Zeros(*length),
                _ => Segment::Bytes(vec![n as u8; *length as usize]),
            }).collect();
            let all = content(&image, &file, step);
            prop_assert_eq!(all.len() as u64, file.length());
            prop_assert_eq!(all, content(&image, &file, u64::MAX));
            prop_assert_eq!(file.at(file.length(), 1), None);
        }
    }
}
