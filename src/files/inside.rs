//! An image as a folder: `x.iso/live/vmlinuz` is a file inside `x.iso`, which is read from the image itself, without
//! mount or copy.
//!
//! The index of an image is read once for each version of it. A file inside is an [`Asset`] with the open image and the
//! byte ranges of the file. So a running transfer continues with the old version if the image is replaced.

use std::path::Path;

use rustix::fs::fstat;

use super::{
    alias::is_image,
    asset::{Asset, State},
    image::ImageFile,
    images::{Opened, Slot, opened, told, unreadable},
    listing::{Entry, Kind},
    made::{self, Made},
    root::AssetRoot,
};
use crate::{
    boot::reason::Reason,
    iso::{self, Fault, Found, Index, segments::Segments},
};

impl AssetRoot {
    /// A file inside an image. `None` if no part of the path is an image.
    pub(super) fn inside(&self, path: &str) -> Option<Result<Asset, Reason>> {
        let (image, rest) = self.image_of(path)?;
        Some(self.index(image, path).and_then(|(image, index)| {
            let opened = opened(&index, path)?;
            match made::file(&image, opened, (path, rest)) {
                None => {}
                Some(Ok(Made::Host(asset))) => return Ok(asset),
                Some(Ok(Made::Pieces(etag, segments))) => {
                    return Ok(Asset { size: segments.length(), etag, layout: Some(segments), ..image });
                }
                Some(Err(why)) => return Err(why),
            }
            let entry = opened.index.file(rest).map_err(|fault| told(path, &fault))?;
            let segments = Segments::of(entry);
            let etag = format!("{}-{}\"", image.etag.trim_end_matches('"'), segments.fingerprint());
            Ok(Asset { size: entry.size, etag, layout: Some(segments), ..image })
        }))
    }

    /// The entries of a folder inside an image, like [`AssetRoot::list`]. `None` if no part of the path is an image.
    pub(super) fn list_inside(&self, path: &str) -> Option<Result<Vec<Entry>, Reason>> {
        let (image, rest) = self.image_of(path)?;
        Some(self.index(image, path).and_then(|(image, index)| {
            let index = &opened(&index, path)?.index;
            let items = index.list(rest).map_err(|fault| told(path, &fault))?;
            let entry = |item: iso::Item<'_>| {
                let kind = match index.lookup(&format!("{rest}/{}", item.name)).ok()? {
                    Found::Folder => Kind::Folder,
                    Found::File(file) => Kind::File { size: file.size },
                };
                Some(Entry { name: item.name.to_owned(), kind, modified: image.modified })
            };
            let shown = items.into_iter().filter(|item| !item.name.starts_with('.'));
            let mut entries: Vec<Entry> = shown.filter_map(entry).collect();
            entries.sort_by(|a, b| (a.kind != Kind::Folder, &a.name).cmp(&(b.kind != Kind::Folder, &b.name)));
            Ok(entries)
        }))
    }

    /// The image in a path, and the rest of the path. If only some files are served, the image or the whole path must
    /// be one of them.
    fn image_of<'a>(&self, path: &'a str) -> Option<(Asset, &'a str)> {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let named = ends.filter_map(|at| path.split_at_checked(at)).filter(|(image, _)| is_image(image));
        // A folder may have such a name too, as programs make one for a download.
        named.take(NESTED).find_map(|(image, rest)| {
            let is_served = self.only.as_ref().is_none_or(|only| only.contains(image) || only.contains(path));
            let asset = is_served.then(|| self.whole_file(Path::new(image)).ok())??;
            Some((asset, rest))
        })
    }

    /// The index of an open image.
    pub(super) fn index(&self, image: Asset, path: &str) -> Result<(Asset, Slot), Reason> {
        let slot = self.images.slot(image.state);
        if slot.get().is_none() {
            let file = image.file.try_clone().and_then(ImageFile::new).map_err(|error| unreadable(path, &error))?;
            slot.get_or_init(|| file.sound(Index::open(&file).map(Opened::new)));
            if let Some(Err(Fault::Read { .. })) = slot.get() {
                self.images.forget(&slot);
            }
            // If the image changed during the read, the index is not kept for the old version.
            let now = fstat(&image.file).map_err(|error| unreadable(path, &error))?;
            if State::of(&now) != image.state {
                return Err(unreadable(path, &"the image changed while it was read"));
            }
        }
        Ok((image, slot))
    }
}

/// Parts of a path that may be the image, of those that are named like one.
const NESTED: usize = 8;

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write as _,
        path::PathBuf,
        sync::Arc,
    };

    use super::*;
    use crate::iso::made::{Of, iso};

    fn made(folder: &Path, name: &str, files: &[(&str, Of<'_>)]) -> PathBuf {
        let made = iso("MADE", files);
        let path = folder.join(name);
        let mut file = File::create(&path).expect("made");
        file.write_all(&made.bytes).expect("written");
        file.set_len(made.length).expect("long");
        path
    }

    fn content(asset: &Asset) -> String {
        let mut bytes = vec![0; asset.size as usize];
        asset.read_exact_at(&mut bytes, 0).expect("read");
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_read_that_fails_is_tried_again_for_the_next_request() {
        let scratch = tempfile::tempdir().expect("a folder");
        let files = [
            (".pve-cd-id.txt", "x".into()),
            ("boot/linux26", "kernel".into()),
            ("boot/initrd.img", "initrd".into()),
            ("proxmox/x", "x".into()),
        ];
        let path = made(scratch.path(), "pve.iso", &files);
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        // A file that is open for writing only cannot be read.
        let unreadable = || {
            let file = File::options().write(true).open(&path).expect("opened");
            Asset { file, ..assets.file("pve.iso").expect("there") }
        };
        let (_, slot) = assets.index(unreadable(), "pve.iso").expect("a slot");
        let why = opened(&slot, "pve.iso").err().map(|why| why.to_string()).expect("a reason");
        assert!(why.contains("cannot read the image at byte") && why.contains("Bad file descriptor"), "{why}");
        assert_eq!(assets.file("pve.iso/boot/linux26").map(|asset| content(&asset)), Ok("kernel".into()));
        let (image, slot) = assets.index(unreadable(), "pve.iso").expect("a slot");
        let index = opened(&slot, "pve.iso").expect("its index was read");
        let why = index.recognised(&image, "pve.iso").err().map(|why| why.to_string()).expect("a reason");
        assert!(why.contains("Bad file descriptor"), "{why}");
        assert_eq!(assets.recognise("pve.iso").expect("recognised").found.family, "proxmox");
    }

    #[test]
    fn a_file_inside_an_image_is_a_file_of_the_folder() {
        let scratch = tempfile::tempdir().expect("a folder");
        fs::create_dir(scratch.path().join("isos")).expect("made");
        let files = [("live/vmlinuz", "kernel".into()), ("live/initrd", "initrd".into()), ("link", Of::Link("live"))];
        made(scratch.path(), "isos/debian.iso", &files);
        fs::write(scratch.path().join("none.iso"), "no image").expect("written");
        fs::create_dir(scratch.path().join("folder.iso")).expect("made");
        made(scratch.path(), "folder.iso/x.iso", &files);
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        for path in [
            "isos/debian.iso/live/vmlinuz",
            "/isos/debian.iso//link/VMLINUZ",
            "isos/debian.iso/live/../live/vmlinuz",
            "folder.iso/x.iso/live/vmlinuz",
        ] {
            assert_eq!(assets.file(path).map(|asset| content(&asset)), Ok("kernel".into()), "{path}");
        }
        for path in
            ["isos/debian.iso/nothing", "isos/debian.iso/live", "isos/debian.iso/", "isos/other.iso/x", "isos/x/y"]
        {
            assert!(matches!(assets.file(path), Err(Reason::NotFound(_))), "{path}: {:?}", assets.file(path));
        }
        let fault = assets.file("none.iso/x").expect_err("no image").to_string();
        assert!(fault.contains("it is not a CD or DVD image"), "{fault}");
        let [kernel, initrd, whole] = ["live/vmlinuz", "live/initrd", ""].map(|path| {
            let name = format!("isos/debian.iso/{path}");
            assets.file(name.trim_end_matches('/')).expect("there").etag
        });
        assert!(
            kernel != initrd && kernel != whole && kernel.starts_with(whole.trim_end_matches('"')),
            "{kernel} {whole}"
        );
        assert_eq!(assets.file("isos/debian.iso/live/vmlinuz").expect("there").head(3).expect("read"), b"ker");
    }

    #[test]
    fn running_transfers_keep_the_old_image_and_others_get_the_new_one() {
        let scratch = tempfile::tempdir().expect("a folder");
        made(scratch.path(), "x.iso", &[("k", "old".into())]);
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        let old = assets.shared("x.iso/k").expect("there");
        let again = assets.shared("x.iso/k").expect("there");
        assert!(Arc::ptr_eq(&old, &again), "open once");
        let new = made(scratch.path(), "x.iso.new", &[("other", "file".into()), ("k", "newer".into())]);
        fs::rename(new, scratch.path().join("x.iso")).expect("replaced");
        let newer = assets.shared("x.iso/k").expect("there");
        assert_eq!((content(&old), content(&newer)), ("old".into(), "newer".into()));
        assert!(old.etag != newer.etag && old.is_as_it_was().expect("read"));
    }

    #[test]
    fn folders_of_an_image_are_listed() {
        let scratch = tempfile::tempdir().expect("a folder");
        made(scratch.path(), "x.iso", &[("b/c", "12345".into()), ("a", "1".into()), (".disk/info", "x".into())]);
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        let listed = |path: &str| {
            let entries = assets.list(path).expect("listed");
            entries.into_iter().map(|entry| (entry.name, entry.kind)).collect::<Vec<_>>()
        };
        let file = |name: &str, size| (name.to_owned(), Kind::File { size });
        assert_eq!(listed("x.iso/"), [("b".to_owned(), Kind::Folder), file("a", 1)]);
        assert_eq!(listed("x.iso/b"), [file("c", 5)]);
        assert_eq!(assets.list("x.iso/nothing"), Err(Reason::not_found("x.iso/nothing")));
    }

    #[test]
    fn files_inside_served_images_are_served_too() {
        let scratch = tempfile::tempdir().expect("a folder");
        for name in ["x.iso", "y.iso", "z.iso"] {
            made(scratch.path(), name, &[("a", "1".into()), ("b", "1".into())]);
        }
        let only = ["x.iso", "y.iso/a"].map(str::to_owned).into();
        let assets = AssetRoot::open(scratch.path()).expect("opened").only(only);
        let served =
            ["x.iso/a", "x.iso/b", "y.iso/a", "y.iso/b", "y.iso", "z.iso/a"].map(|path| assets.file(path).is_ok());
        assert_eq!(served, [true, true, true, false, false, false]);
    }
}
