//! Files of an image that iPXE cannot start because gzip packed them: they are served unpacked. iPXE itself unpacks gzip
//! only in its builds for arm64 (config/general.h, `IMAGE_GZIP`).

use std::io::Read as _;

use flate2::bufread::MultiGzDecoder;

use super::{
    fault::Fault,
    index::Index,
    segments::{Segment, Segments},
    source::ReadAt,
};

/// The content of a file that gzip packed.
///
/// # Errors
/// Those of [`Index::read`]; [`Fault::TooMuch`]; [`Fault::Damaged`] where gzip finds a fault.
pub fn unpacked(image: &dyn ReadAt, index: &Index, path: &str) -> Result<Segments, Fault> {
    let too_much = |limit: usize| Fault::TooMuch { what: "a packed kernel", limit: limit as u64 };
    if index.file(path)?.size > LONGEST as u64 {
        return Err(too_much(LONGEST));
    }
    let packed = index.read(image, path, LONGEST)?;
    let mut bytes = Vec::new();
    let decoder = MultiGzDecoder::new(packed.as_slice());
    let read = decoder.take(LONGEST as u64 + 1).read_to_end(&mut bytes);
    match read {
        Err(_) => Err(Fault::damaged(path, "gzip cannot unpack it")),
        Ok(_) if bytes.len() > LONGEST => Err(too_much(LONGEST)),
        Ok(_) => Ok([Segment::Bytes(bytes)].into_iter().collect()),
    }
}

/// Bytes, packed and unpacked: Xen has 3 MB.
const LONGEST: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;
    use crate::iso::{
        made::{Of, iso},
        segments::Piece,
    };

    #[test]
    fn a_packed_file_is_unpacked_and_a_damaged_or_endless_one_is_a_fault() {
        let packed = |content: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(content).expect("packed");
            encoder.finish().expect("packed")
        };
        let of = |content: Vec<u8>| {
            let image = iso("XEN", &[("boot/xen.gz", Of::Bytes(&content))]).bytes;
            unpacked(&image, &Index::open(&image).expect("an image"), "boot/xen.gz")
        };
        let good = packed(b"\x7fELF hypervisor");
        let made = of(good.clone()).expect("unpacked");
        assert_eq!(made.at(0, 100), Some(Piece::Bytes(b"\x7fELF hypervisor")));
        assert_eq!(of([good.clone(), good.clone()].concat()).expect("unpacked").length(), 2 * made.length());
        let damaged = "boot/xen.gz is damaged: gzip cannot unpack it";
        for content in [good[..good.len() - 9].to_vec(), b"\x7fELF".to_vec(), Vec::new()] {
            assert_eq!(of(content).expect_err("a fault").to_string(), damaged);
        }
        let bomb = packed(&vec![0; LONGEST + 1]);
        assert!(matches!(of(bomb), Err(Fault::TooMuch { .. })));
    }
}
