//! Rules that are true for every image, also a hostile one. The property tests and the fuzz targets check them.

use super::{
    esxi::boot_cfg,
    index::{Index, Kind},
    made::{Of, iso, retag, udf},
    recognise::recognise,
    recognised::{Part, Place},
    source::ReadAt,
    verify::verify,
};

/// Opens an image, walks through all of it, looks everything up and finds out what it boots.
///
/// # Panics
/// A rule is broken.
pub fn survive(image: &dyn ReadAt) {
    let Ok(index) = Index::open(image) else { return };
    for (path, item) in index.walk() {
        assert!(!item.name.is_empty() && !item.name.contains('/'), "{path}");
        if let Kind::File(entry) = item.kind {
            let total: u64 = entry.extents.iter().map(|extent| extent.length).sum();
            assert_eq!(total, entry.size, "{path}");
            for extent in entry.extents {
                let end = extent.offset.unwrap_or(0).checked_add(extent.length);
                assert!(extent.offset.is_none() || end.is_some_and(|end| end <= image.length()), "{path}: {extent:?}");
            }
        }
    }
    for (path, item) in index.walk().take(200) {
        // The entry, or why it cannot be found: a name can exist twice.
        let _ = index.lookup(&path);
        if matches!(item.kind, Kind::Folder) {
            assert!(index.list(&path).is_ok() || index.lookup(&path).is_err(), "{path}");
        }
    }
    boots(image, &index);
}

/// What a machine would get: files that are there, and lines that are one line.
fn boots(image: &dyn ReadAt, index: &Index) {
    let found = recognise(image, index);
    let is_line = |text: &str| !text.contains(char::is_control);
    assert!(is_line(&found.title) && found.version.as_deref().is_none_or(is_line), "{found:?}");
    for variant in &found.variants {
        let initrds = variant.initrds.iter().filter_map(|part| match part {
            Part::File(place) => Some(place),
            Part::Put { .. } => None,
        });
        for place in std::iter::once(&variant.kernel).chain(initrds) {
            assert!(
                !matches!(place, Place::Image(path) | Place::Unpacked(path) if index.file(path).is_err()),
                "{place:?}"
            );
        }
        assert!(is_line(&variant.cmdline), "{:?}", variant.cmdline);
    }
}

/// The texts of an image that are read, each up to a zero.
pub fn survive_texts(script: &[u8]) {
    let texts = script.split(|byte| *byte == 0);
    let places = [
        "boot/grub/grub.cfg",
        "isolinux/isolinux.cfg",
        "loader/entries/x.conf",
        ".disk/info",
        ".treeinfo",
        "casper/filesystem.manifest",
        "md5sum.txt",
    ];
    let files = places.iter().zip(texts).map(|(path, text)| (*path, Of::Bytes(text)));
    let more = ["boot/vmlinuz", "boot/initrd", "casper/filesystem.squashfs"].map(|path| (path, Of::Size(100)));
    // The first byte says whether it is of a family that is known by its version.
    let more = more.into_iter().take(if script.first().is_some_and(|byte| byte % 2 == 0) { 2 } else { 3 });
    let made = iso("TEXTS", &files.chain(more).collect::<Vec<_>>());
    let index = Index::open(&made).expect("a good image");
    boots(&made, &index);
    let verdict = verify(&made, &index, &mut |done, total| assert!(done <= total)).expect("a good image");
    assert!(verdict.implanted.is_none(), "{verdict:?}");
    let text = String::from_utf8_lossy(script);
    let made = boot_cfg(&text, "http://192.0.2.10/");
    assert_eq!(made.lines().filter(|line| line.starts_with("prefix=")).count(), 1, "{made}");
    assert!(made.lines().all(|line| !line.starts_with("kernel=/")), "{made}");
}

/// A valid ISO 9660 image with the changes of `script`.
pub fn survive_iso(script: &[u8]) {
    let long = "a-name-that-is-long".repeat(8);
    let files = [
        ("a.txt", Of::from("hello")),
        ("sub/below/deep.bin", Of::Size(10_000)),
        ("link", Of::Link("sub/below")),
        ("circle", Of::Link("circle")),
        (long.as_str(), Of::from("long")),
    ];
    let mut image = iso("FUZZ", &files).bytes;
    let first = 16 * 2048;
    change(&mut image, first, script);
    survive(&image);
}

/// A valid UDF image with the changes of `script`. The checksums of its descriptors are corrected.
pub fn survive_udf(script: &[u8]) {
    let big = vec![7; 5000];
    let mut image = udf("FUZZ", &[("a.txt", b"hello"), ("b.bin", &big), ("c.bin", &big)]);
    // The volume descriptors, then what is in the partition.
    let (volume, partition) = (32 * 2048, 257 * 2048);
    let half = script.len() / 2;
    change(&mut image, volume, script.get(..half).unwrap_or_default());
    change(&mut image, partition, script.get(half..).unwrap_or_default());
    for sector in (volume..image.len()).step_by(2048) {
        let Some(block) = image.get_mut(sector..sector + 2048) else { break };
        // The entries of an embedded folder have their own tags.
        if block.get(..2) == Some(&[5, 1]) {
            for at in (176..2048 - 38).step_by(4) {
                if block.get(at..at + 3) == Some(&[1, 1, 2]) {
                    retag(block.get_mut(at..).unwrap_or_default());
                }
            }
        }
        if block.get(..2).is_some_and(|tag| tag != [0, 0]) {
            retag(block);
        }
    }
    survive(&image);
}

/// Each three bytes of a script are a position (16 bits) and a value.
fn change(image: &mut [u8], from: usize, script: &[u8]) {
    for [low, high, value] in script.as_chunks::<3>().0 {
        if let Some(byte) = image.get_mut(from + usize::from(u16::from_le_bytes([*low, *high]))) {
            *byte = *value;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::iso::{Fault, Found, Side};

    #[test]
    fn the_images_that_are_changed_are_good_before() {
        let made = iso("LABEL", &[("a/b", "x".into()), ("a/l", Of::Link("b"))]);
        let index = Index::open(&made).expect("opened");
        assert_eq!(
            (index.volume().side, index.volume().label.as_str(), index.missing()),
            (Side::RockRidge, "LABEL", 0)
        );
        assert_eq!(index.file("/a//l").expect("there").size, 1);
        let image = udf("WINDOWS", &[("a.txt", b"hello"), ("b.bin", &[7; 5000]), ("c.bin", &[8; 5000])]);
        let index = Index::open(&image).expect("opened");
        assert_eq!((index.volume().side, index.volume().label.as_str()), (Side::Udf, "WINDOWS"));
        for (path, expected) in [("a.txt", b"hello".to_vec()), ("SUB/b.bin", vec![7; 5000]), ("c.bin", vec![8; 5000])] {
            assert_eq!(content(&image, &index, path), expected, "{path}");
        }
        assert_eq!(index.file("a.txt").expect("there").modified, Some(1_749_990_600));
    }

    fn content(image: &dyn ReadAt, index: &Index, path: &str) -> Vec<u8> {
        let mut all = Vec::new();
        for extent in index.file(path).expect("there").extents {
            let mut bytes = vec![0; usize::try_from(extent.length).expect("small")];
            if let Some(offset) = extent.offset {
                image.read_at(offset, &mut bytes).expect("read");
            }
            all.extend(bytes);
        }
        all
    }

    #[test]
    fn links_stay_inside_and_end() {
        let made = iso(
            "L",
            &[
                ("d/f", "x".into()),
                ("up", Of::Link("../../d/f")),
                ("whole", Of::Link("/d")),
                ("one", Of::Link("two")),
                ("two", Of::Link("one")),
                ("gone", Of::Link("nothing")),
                ("self", Of::Link(".")),
            ],
        );
        let index = Index::open(&made).expect("opened");
        for path in ["d/f", "D/F", "up", "whole/f", "../d/./f", "d/../d/f", "self/self/d/f", "//d//f"] {
            assert!(matches!(index.lookup(path), Ok(Found::File(_))), "{path}");
        }
        assert_eq!(index.lookup("one"), Err(Fault::Links("one".into())));
        for path in ["gone", "d/f/x", "nothing", "d/nothing"] {
            assert_eq!(index.lookup(path), Err(Fault::NotFound(path.into())), "{path}");
        }
        assert_eq!(index.lookup("/"), Ok(Found::Folder));
        let names: Vec<&str> = index.list("whole/").expect("listed").iter().map(|item| item.name).collect();
        assert_eq!(names, ["f"]);
    }

    #[test]
    fn a_file_over_4_gib_is_one_entry_and_a_cut_image_says_so() {
        let size = 9 << 30;
        let mut made = iso("BIG", &[("big.squashfs", size.into()), ("small", "x".into())]);
        let index = Index::open(&made).expect("opened");
        let entry = index.file("big.squashfs").expect("there");
        assert_eq!((entry.size, entry.extents.len(), index.missing()), (size, 1, 0));
        made.length -= 3 << 30;
        let index = Index::open(&made).expect("opened");
        assert_eq!(index.missing(), 3 << 30);
        assert!(matches!(index.lookup("big.squashfs"), Err(Fault::Outside { .. })));
        assert_eq!(index.file("small").expect("there").size, 1);
    }

    #[test]
    fn what_is_no_image_is_named() {
        let of = |bytes: &[u8]| Index::open(&bytes.to_vec()).expect_err("no image").to_string();
        assert_eq!(of(b""), "it is not a CD or DVD image: the file is empty");
        assert_eq!(of(b"\xfd7zXZ\0..."), "it is not a CD or DVD image: it is compressed with xz: unpack it first");
        assert_eq!(of(&[0; 100]), "it is not a CD or DVD image: the file is too small: download it again");
        assert_eq!(of(&[0; 99_999]), "it is not a CD or DVD image: it contains neither ISO 9660 nor UDF");
    }

    #[test]
    fn ten_thousand_files_in_a_folder_are_found() {
        let names: Vec<String> = (0..10_000).map(|n| format!("pool/package-{n}.deb")).collect();
        let entries: Vec<(&str, Of<'_>)> = names.iter().map(|name| (name.as_str(), Of::Size(1))).collect();
        let made = iso("POOL", &entries);
        let index = Index::open(&made).expect("opened");
        assert_eq!(index.list("pool").expect("listed").len(), 10_000);
        assert!(names.iter().all(|name| index.file(name).is_ok()));
        assert!(index.file("POOL/PACKAGE-9999.DEB").is_ok());
    }

    /// Lines of words that the readers know, and of anything.
    const TEXT: &str = "(((menuentry|linux|linuxefi|initrd|label|kernel|append|include|set|title|options|\\{|\\}|casper|/boot/vmlinuz|boot/initrd|\"|'|---|=|\\$x|[0-9]{1,20}|\\PC{0,4}|[\\x00-\\x1f])( |\t)?){0,8}\n){0,8}";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_change_of_an_iso_9660_image_breaks_the_reader(script in vec(any::<u8>(), 0..120)) {
            survive_iso(&script);
        }

        #[test]
        fn no_text_of_an_image_breaks_its_readers(texts in vec(TEXT, 0..8)) {
            survive_texts(texts.join("\0").as_bytes());
        }

        #[test]
        fn no_change_of_a_udf_image_breaks_the_reader(script in vec(any::<u8>(), 0..120)) {
            survive_udf(&script);
        }
    }
}
