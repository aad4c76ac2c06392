//! What an image is, and files that are made for it: an initial RAM disk of several pieces, the netboot kernel of a package.
//! They stand in a folder of the image that no image has: `x.iso/.netbootd/ARCH/NAME`.

use std::{fs::File, io, path::Path};

use rustix::fs::{FileType, fstat};

use super::{
    asset::{Asset, Version, modified},
    images::{opened, told},
    root::AssetRoot,
};
use crate::{
    boot::reason::Reason,
    iso::{
        Index,
        recognise::{Part, Place, Recognised, Variant},
        segments::Segments,
    },
};

/// An image as a profile wants to know it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it is.
    pub found: Recognised,
    /// Bytes that it says to have and has not: it is cut short, or still copied.
    pub missing: u64,
    /// The same as long as nobody has written into it or put another one in its place.
    pub version: String,
}

/// What a file of a variant is called in URLs, below the assets folder.
#[must_use]
pub fn place_in(image: &str, variant: &Variant, place: &Place) -> String {
    match place {
        Place::Image(path) => format!("{image}/{path}"),
        Place::Host { path, .. } => made(image, variant, name_of(path)),
        Place::Supplied(name) => (*name).to_owned(),
    }
}

/// What all initial RAM disks of a variant in one file are called in URLs, below the assets folder.
#[must_use]
pub fn initrd_in(image: &str, variant: &Variant) -> String {
    made(image, variant, INITRD)
}

fn made(image: &str, variant: &Variant, name: &str) -> String {
    format!("{image}/{FOLDER}/{}/{name}", arch(variant))
}

fn arch(variant: &Variant) -> &str {
    variant.arch.unwrap_or("any")
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl AssetRoot {
    /// What an image is, by its path below the folder. Read once for each version of it.
    ///
    /// # Errors
    /// As [`AssetRoot::file`]; [`Reason::Unreadable`] for what is no image.
    pub fn recognise(&self, path: &str) -> Result<Seen, Reason> {
        let image = self.file(path)?;
        let version = image.etag.clone();
        let (image, slot) = self.index(image, path)?;
        let opened = opened(&slot, path)?;
        let found = opened.recognised(&image, path)?.clone();
        Ok(Seen { found, missing: opened.index.missing(), version })
    }
}

/// A file that is made for an image. `rest` is its path in the image; `None` where that is in the image itself.
pub(super) fn file(
    image: &Asset,
    index: &Index,
    found: impl FnOnce() -> Result<Recognised, Reason>,
    (path, rest): (&str, &str),
) -> Option<Result<Made, Reason>> {
    let (arch_asked, name) = rest.trim_start_matches('/').strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?;
    Some(found().and_then(|found| {
        let none = || Reason::not_found(path);
        let variant = found.variants.iter().find(|variant| arch(variant) == arch_asked).ok_or_else(none)?;
        if let Some(host) = of_host(variant, name) {
            return of_package(host, path).map(Made::Host);
        }
        if name != INITRD {
            return Err(none());
        }
        let segments = Segments::initrd(index, &variant.initrds).map_err(|fault| told(path, &fault))?;
        Ok(Made::Pieces(format!("{}-{}\"", image.etag.trim_end_matches('"'), segments.fingerprint()), segments))
    }))
}

/// A file that is made.
pub(super) enum Made {
    /// Of pieces of the image, with its tag.
    Pieces(String, Segments),
    /// A file of this host.
    Host(Asset),
}

/// The file of this host that a variant has under a name.
fn of_host<'a>(variant: &'a Variant, name: &str) -> Option<&'a str> {
    let initrds = variant.initrds.iter().filter_map(|part| match part {
        Part::File(place) => Some(place),
        Part::Put { .. } => None,
    });
    initrds.chain([&variant.kernel]).find_map(|place| match place {
        Place::Host { path, .. } if name_of(path) == name => Some(path.as_str()),
        _ => None,
    })
}

/// Only the families' table names such files, and an image has no more to say of them than a version and a processor.
fn of_package(host: &str, path: &str) -> Result<Asset, Reason> {
    let unreadable = |error: &dyn std::fmt::Display| Reason::Unreadable {
        name: path.chars().take(200).collect(),
        error: format!("{host}: {error}"),
    };
    if host.split('/').any(|part| part == "..") || !Path::new(host).is_absolute() {
        return Err(Reason::not_found(path));
    }
    let file = File::open(host).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Reason::not_found(path),
        _ => unreadable(&error),
    })?;
    let stat = fstat(&file).map_err(|error| unreadable(&error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Reason::not_found(path));
    }
    let version = Version::of(&stat);
    Ok(Asset {
        file,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: modified(&stat),
        etag: version.etag(),
        version,
        layout: None,
    })
}

/// No image has such a folder.
const FOLDER: &str = ".netbootd";
const INITRD: &str = "initrd.img";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::iso::made::{Of, iso};

    fn content(asset: &Asset) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(asset.size).expect("small")];
        asset.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    }

    #[test]
    fn the_initial_ram_disk_with_the_image_in_it_is_one_file_of_the_image() {
        let scratch = tempfile::tempdir().expect("a folder");
        let files: [(&str, Of<'_>); 4] = [
            (".pve-cd-id.txt", "x".into()),
            ("boot/linux26", "kernel".into()),
            ("boot/initrd.img", "initrd".into()),
            ("proxmox/x", "x".into()),
        ];
        let image = iso("PVE", &files).bytes;
        fs::write(scratch.path().join("pve.iso"), &image).expect("written");
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        let seen = assets.recognise("pve.iso").expect("recognised");
        let variant = seen.found.variants.first().expect("a variant");
        let path = initrd_in("pve.iso", variant);
        assert_eq!(path, "pve.iso/.netbootd/any/initrd.img");
        let made = assets.shared(&path).expect("made");
        let bytes = content(&made);
        assert!(bytes.starts_with(b"initrd\x00\x00070701"), "{:?}", bytes.get(..20));
        assert!(bytes.windows(image.len()).any(|part| part == image), "the image is in it");
        assert_eq!(bytes.len() % 4, 0, "another one may follow");
        assert!(made.etag.starts_with(assets.file("pve.iso").expect("there").etag.trim_end_matches('"')));
        for path in ["pve.iso/.netbootd/any/linux26", "pve.iso/.netbootd/arm64/initrd.img", "pve.iso/.netbootd/x"] {
            assert!(matches!(assets.file(path), Err(Reason::NotFound(_))), "{path}");
        }
    }

    #[test]
    fn what_is_no_image_is_told() {
        let scratch = tempfile::tempdir().expect("a folder");
        fs::write(scratch.path().join("x.iso"), "no image").expect("written");
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        let why = assets.recognise("x.iso").expect_err("none").to_string();
        assert!(why.contains("it is not a CD or DVD image"), "{why}");
        assert!(matches!(assets.recognise("y.iso"), Err(Reason::NotFound(_))));
    }
}
