//! What a file is that is no image.

use super::source::Reader;

/// What kind of file this is, if it is not an image, from its first bytes.
pub(super) fn what_it_is(reader: &Reader<'_>) -> &'static str {
    let head = reader.bytes("the first bytes", 0, reader.length().min(512)).unwrap_or_default();
    let is = |magic: &[u8]| head.starts_with(magic);
    let page = head.trim_ascii_start().to_ascii_lowercase();
    if head.is_empty() {
        "the file is empty"
    } else if is(b"\x1f\x8b") {
        "it is compressed with gzip: unpack it first"
    } else if is(b"\xfd7zXZ") {
        "it is compressed with xz: unpack it first"
    } else if is(b"BZh") {
        "it is compressed with bzip2: unpack it first"
    } else if is(b"\x28\xb5\x2f\xfd") {
        "it is compressed with zstd: unpack it first"
    } else if is(b"PK\x03\x04") {
        "it is a zip archive: unpack it first"
    } else if is(b"7z\xbc\xaf") {
        "it is a 7z archive: unpack it first"
    } else if page.starts_with(b"<!doctype html") || page.starts_with(b"<html") {
        "it is a web page, probably the error message of a server: download it again"
    } else if reader.length() < SMALLEST {
        "the file is too small: download it again"
    } else if head.get(510..512) == Some(&[0x55, 0xaa]) {
        "it is a raw disk image: name it with disk in a profile"
    } else {
        "it contains neither ISO 9660 nor UDF"
    }
}

/// In bytes: 16 sectors of the system area, and a descriptor.
const SMALLEST: u64 = 17 * 2048;
