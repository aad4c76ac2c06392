//! What an image is, and files that are made for it: an initial RAM disk of several pieces, the netboot kernel of a package,
//! a boot.cfg that names this server.
//! They stand in a folder of the image that no image has: `x.iso/.netbootd/ARCH/NAME`.

use std::{fs::File, io, path::Path};

use rustix::fs::{FileType, fstat};

use super::{
    asset::Asset,
    image::ImageFile,
    images::{Opened, opened, told, unreadable},
    root::AssetRoot,
};
use crate::{
    boot::{reason::Reason, urls::asset_url},
    iso::{
        esxi::boot_cfg,
        recognised::{ANY, BOOT_CFG, How, MADE, Part, Place, Recognised, Variant},
        segments::{Segment, Segments},
    },
};

/// An image as a profile wants to know it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it is.
    pub found: Recognised,
    /// Bytes that it says to have and has not: it is cut short, or still copied.
    pub missing: u64,
    /// The same as long as nobody has written into it or put another one in its place: on this host, unlike an entity tag.
    pub version: u64,
}

/// What a file of a variant is called in URLs, below the assets folder.
#[must_use]
pub fn place_in(image: &str, variant: &Variant, place: &Place) -> String {
    match place {
        Place::Image(path) => format!("{image}/{path}"),
        Place::Unpacked(path) => made(image, variant, unpacked_name(path)),
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
    format!("{image}/{MADE}/{}/{name}", arch(variant))
}

fn arch(variant: &Variant) -> &str {
    variant.arch.unwrap_or(ANY)
}

fn unpacked_name(path: &str) -> &str {
    let name = name_of(path);
    name.strip_suffix(".gz").unwrap_or(name)
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
        let version = image.state.number();
        let (image, slot) = self.index(image, path)?;
        let opened = opened(&slot, path)?;
        let found = opened.recognised(&image, path)?.clone();
        Ok(Seen { found, missing: opened.index.missing(), version })
    }

    /// The boot.cfg of an ESXi image, for its loader. `base` is this server as the client reaches it. `None` if the path is
    /// not that of one.
    pub(super) fn boot_cfg(&self, path: &str, base: &str) -> Option<Result<Asset, Reason>> {
        let (before, arch_asked) = path.strip_suffix(BOOT_CFG)?.strip_suffix('/')?.rsplit_once('/')?;
        let image = before.strip_suffix(MADE)?.strip_suffix('/')?;
        Some(self.changed_boot_cfg((path, image, arch_asked), &format!("{}/", asset_url(base, image))))
    }

    fn changed_boot_cfg(&self, (path, image, arch_asked): (&str, &str, &str), prefix: &str) -> Result<Asset, Reason> {
        let (asset, slot) = self.file(image).and_then(|asset| self.index(asset, image))?;
        let opened = opened(&slot, path)?;
        let found = opened.recognised(&asset, path)?;
        let variant = found.variants.iter().find(|variant| arch(variant) == arch_asked);
        let own = variant.filter(|_| found.how == How::Esxi).and_then(|variant| variant.modules.first());
        let (own, _) = own.ok_or_else(|| Reason::not_found(path))?;
        let file = asset.file.try_clone().and_then(ImageFile::new).map_err(|error| unreadable(path, &error))?;
        let text = opened.index.read(&file, own, LONGEST).map_err(|fault| told(path, &fault))?;
        let text = boot_cfg(&String::from_utf8_lossy(&text), prefix);
        let segments: Segments = [Segment::Bytes(text.into_bytes())].into_iter().collect();
        let etag = etag_of(&asset, &segments);
        Ok(Asset { size: segments.length(), etag, layout: Some(segments), ..asset })
    }
}

fn etag_of(image: &Asset, segments: &Segments) -> String {
    format!("{}-{}\"", image.etag.trim_end_matches('"'), segments.fingerprint())
}

/// A file that is made for an image. `rest` is its path in the image; `None` where that is in the image itself.
pub(super) fn file(image: &Asset, opened: &Opened, (path, rest): (&str, &str)) -> Option<Result<Made, Reason>> {
    let (arch_asked, name) = rest.trim_start_matches('/').strip_prefix(MADE)?.strip_prefix('/')?.split_once('/')?;
    Some(opened.recognised(image, path).and_then(|found| {
        let none = || Reason::not_found(path);
        let variant = found.variants.iter().find(|variant| arch(variant) == arch_asked).ok_or_else(none)?;
        if let Some(host) = of_host(variant, name) {
            return of_package(host, path).map(Made::Host);
        }
        if let Place::Unpacked(packed) = &variant.kernel
            && unpacked_name(packed) == name
        {
            let segments = opened.unpacked(image, packed, path)?;
            return Ok(Made::Pieces(etag_of(image, &segments), segments));
        }
        if name != INITRD || variant.initrds.is_empty() {
            return Err(none());
        }
        let segments = Segments::initrd(&opened.index, &variant.initrds).map_err(|fault| told(path, &fault))?;
        Ok(Made::Pieces(etag_of(image, &segments), segments))
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
    Ok(Asset::new(file, &stat))
}

/// The largest size of a boot.cfg in bytes.
const LONGEST: usize = 1 << 20;
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
