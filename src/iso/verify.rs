//! Checks whether an image is damaged, by the checksums in it: the one of isomd5sum, and the lists of checksums of
//! distributions.

use md5::Md5;
use serde::Serialize;
use sha2::{Digest as _, Sha256, Sha512};

use super::{extent::Extent, fault::Fault, index::Index, source::ReadAt};

/// The result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether the checksum of the whole image matches; none: the image has none.
    pub implanted: Option<bool>,
    /// The lists of checksums that were read.
    pub lists: Vec<String>,
    /// The number of files that match their list.
    pub intact: usize,
    /// Files that do not match or are missing, and why.
    pub damaged: Vec<(String, String)>,
}

impl Verdict {
    /// Whether everything that was checked matches.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.implanted != Some(false) && self.damaged.is_empty()
    }

    /// Whether there was nothing to check.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.implanted.is_none() && self.lists.is_empty()
    }
}

/// Reads everything that the checksums cover. `progress` gets the bytes that are done and the total.
///
/// # Errors
/// Those of reads from the image.
pub fn verify(image: &dyn ReadAt, index: &Index, progress: &mut dyn FnMut(u64, u64)) -> Result<Verdict, Fault> {
    let implanted = Implanted::of(&index.volume().application_use, index.volume().stated);
    let (lists, checks) = checks(image, index);
    let size = |check: &Check| index.file(&check.path).map_or(0, |entry| entry.size);
    let total = implanted.as_ref().map_or(0, |implanted| implanted.end) + checks.iter().map(size).sum::<u64>();
    let mut done = 0;
    let mut tell = |bytes| {
        done += bytes;
        progress(done, total);
    };
    let mut verdict = Verdict { lists, ..Verdict::default() };
    if let Some(implanted) = implanted {
        verdict.implanted = Some(implanted.is_right(image, &mut tell)?);
    }
    for Check { path, digest } in checks {
        match index.file(&path) {
            Ok(entry) => match digest.is_of(image, entry.extents, &mut tell)? {
                true => verdict.intact += 1,
                false => verdict.damaged.push((path, "its checksum does not match".into())),
            },
            Err(fault) => verdict.damaged.push((path, fault.to_string())),
        }
    }
    Ok(verdict)
}

/// The checksum of isomd5sum: the image without its end, with spaces instead of its own field.
struct Implanted {
    digest: Vec<u8>,
    /// The end of the covered range in bytes.
    end: u64,
}

impl Implanted {
    fn of(field: &str, volume: u64) -> Option<Self> {
        let parts =
            || field.split(';').filter_map(|part| part.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
        let value = |name| parts().find(|(key, _)| *key == name).map(|(_, value)| value);
        let skipped: u64 = value("SKIPSECTORS")?.parse().ok()?;
        let digest = hex(value("ISO MD5SUM")?).filter(|digest| digest.len() == 16)?;
        Some(Self { digest, end: volume.checked_sub(skipped.checked_mul(2048)?)? })
    }

    fn is_right(&self, image: &dyn ReadAt, tell: &mut dyn FnMut(u64)) -> Result<bool, Fault> {
        if self.end > image.length() {
            return Ok(false);
        }
        let mut sum = Md5::new();
        let field = FIELD..FIELD + 512;
        // The bytes before the field, spaces for it, and the bytes after it.
        pieces(image, 0, field.start.min(self.end), tell, |piece| sum.update(piece))?;
        if self.end >= field.end {
            sum.update([b' '; 512]);
            pieces(image, field.end, self.end - field.end, tell, |piece| sum.update(piece))?;
        }
        Ok(*sum.finalize() == *self.digest)
    }
}

/// The position of the application use field: sector 16, byte 883 (ECMA-119 §8.4.32).
const FIELD: u64 = 16 * 2048 + 883;

struct Check {
    path: String,
    digest: Digest,
}

#[derive(Debug, PartialEq, Eq)]
enum Digest {
    Md5(Vec<u8>),
    Sha256(Vec<u8>),
    Sha512(Vec<u8>),
}

impl Digest {
    /// By its length.
    fn of(text: &str) -> Option<Self> {
        let digest = hex(text)?;
        match digest.len() {
            16 => Some(Self::Md5(digest)),
            32 => Some(Self::Sha256(digest)),
            64 => Some(Self::Sha512(digest)),
            _ => None,
        }
    }

    fn is_of(&self, image: &dyn ReadAt, extents: &[Extent], tell: &mut dyn FnMut(u64)) -> Result<bool, Fault> {
        match self {
            Self::Md5(digest) => Ok(sum::<Md5>(image, extents, tell)? == *digest),
            Self::Sha256(digest) => Ok(sum::<Sha256>(image, extents, tell)? == *digest),
            Self::Sha512(digest) => Ok(sum::<Sha512>(image, extents, tell)? == *digest),
        }
    }
}

fn sum<D: sha2::Digest>(image: &dyn ReadAt, extents: &[Extent], tell: &mut dyn FnMut(u64)) -> Result<Vec<u8>, Fault> {
    let mut sum = D::new();
    for extent in extents {
        match extent.offset {
            Some(offset) => pieces(image, offset, extent.length, tell, |piece| sum.update(piece))?,
            None => {
                let zeros = vec![0; PIECE];
                let mut left = extent.length;
                while left > 0 {
                    let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                    sum.update(zeros.get(..now).unwrap_or_default());
                    left -= now as u64;
                    tell(now as u64);
                }
            }
        }
    }
    Ok(sum.finalize().to_vec())
}

/// Reads a range in pieces.
fn pieces(
    image: &dyn ReadAt,
    mut offset: u64,
    mut left: u64,
    tell: &mut dyn FnMut(u64),
    mut take: impl FnMut(&[u8]),
) -> Result<(), Fault> {
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..now).unwrap_or_default();
        image.read_at(offset, piece).map_err(|error| Fault::Read { offset, error: error.to_string() })?;
        take(piece);
        offset += now as u64;
        left -= now as u64;
        tell(now as u64);
    }
    Ok(())
}

/// The existing lists and their entries. Two lists can contain the same file.
fn checks(image: &dyn ReadAt, index: &Index) -> (Vec<String>, Vec<Check>) {
    let (mut lists, mut all) = (Vec::new(), Vec::<Check>::new());
    for list in LISTS.iter().flat_map(|pattern| index.find(pattern)) {
        let Ok(bytes) = index.read(image, &list, LONGEST) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let folder = list.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut is_list = false;
        for (path, digest) in text.lines().filter_map(entry).take(ENTRIES) {
            let path = if folder.is_empty() { path.to_owned() } else { format!("{folder}/{path}") };
            is_list = true;
            if all.len() < ENTRIES && all.iter().all(|check| check.path != path) {
                all.push(Check { path, digest });
            }
        }
        if is_list {
            lists.push(list);
        }
    }
    (lists, all)
}

/// `md5  ./path` as md5sum(1) writes it, or `path = sha256:…` of a `.treeinfo`.
fn entry(line: &str) -> Option<(&str, Digest)> {
    let line = line.trim();
    if let Some((path, digest)) = line.split_once(" = ") {
        let (_, digest) = digest.split_once(':')?;
        return Some((path.trim(), Digest::of(digest.trim())?));
    }
    let (digest, path) = line.split_once(char::is_whitespace)?;
    // A star means "read as binary".
    let path = path.trim_start().trim_start_matches('*');
    Some((path.trim_start_matches("./"), Digest::of(digest)?))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let nibble = |c: &u8| char::from(*c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let pair = |[high, low]: &[u8; 2]| Some(nibble(high)? << 4 | nibble(low)?);
    (rest.is_empty() && !pairs.is_empty()).then(|| pairs.iter().map(pair).collect())?
}

/// Debian, Ubuntu and systems based on them; Fedora and RHEL; SUSE; archiso; Manjaro.
const LISTS: &[&str] = &[
    "md5sum.txt",
    "md5sums.txt",
    "MD5SUMS",
    "sha256sum.txt",
    "SHA256SUMS",
    "CHECKSUMS",
    ".treeinfo",
    "*/x86_64/airootfs.sha512",
    "*/x86_64/*.md5",
    "live/*.md5",
];
/// The largest size of a list in bytes.
const LONGEST: usize = 16 << 20;
/// The largest number of files.
const ENTRIES: usize = 100_000;
/// The number of bytes per read.
const PIECE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iso::made::iso;

    #[test]
    fn files_are_compared_with_the_lists() {
        let list = "b1946ac92492d2347c6235b4d2611184  ./sub/good\n\
                    b1946ac92492d2347c6235b4d2611184 *bad\n\
                    b1946ac92492d2347c6235b4d2611184  ./gone\nno checksum\n";
        let info = "[checksums]\nsub/good = sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\n\
                    x = sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\n";
        let files = [
            ("md5sum.txt", list.into()),
            (".treeinfo", info.into()),
            ("sub/good", "hello\n".into()),
            ("bad", "other\n".into()),
            ("x", "hello\n".into()),
        ];
        let made = iso("SUMS", &files);
        let index = Index::open(&made).expect("opened");
        let mut reported = Vec::new();
        let verdict = verify(&made, &index, &mut |done, total| reported.push((done, total))).expect("read");
        assert_eq!(
            verdict,
            Verdict {
                implanted: None,
                lists: vec!["md5sum.txt".into(), ".treeinfo".into()],
                intact: 2,
                damaged: vec![
                    ("bad".into(), "its checksum does not match".into()),
                    ("gone".into(), "the image does not contain gone".into()),
                ],
            }
        );
        assert_eq!(reported.last(), Some(&(18, 18)));
        assert!(!verdict.is_good() && !verdict.is_empty() && Verdict::default().is_empty());
    }

    #[test]
    fn other_application_fields_are_not_a_checksum() {
        let of = |field: &str| Implanted::of(field, 1 << 20).map(|implanted| implanted.end);
        let good = "ISO MD5SUM = b1946ac92492d2347c6235b4d2611184;SKIPSECTORS = 15;RHLISOSTATUS=1;FRAGMENT SUMS = 0";
        assert_eq!(of(good), Some((1 << 20) - 15 * 2048));
        for bad in
            ["", "ISO MD5SUM = xyz;SKIPSECTORS = 15", "SKIPSECTORS = 15", &good.replace("15", "99999999999999999")]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
