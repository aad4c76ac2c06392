//! Plain names for images: some clients put an image's URL through a shell or take it apart at dots, so that an image
//! whose name is not plain is served under a plain one as well.

use rustix::fs::{Dir, OFlags};

use super::root::AssetRoot;
use crate::iso::name::{plain, plain_folder};

/// The path of an image, or into one, with plain names as clients are given them. What follows the image stays as it is.
#[must_use]
pub fn plain_names(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let image = parts.iter().position(|part| is_image(part));
    let plain = |(at, part): (usize, &&str)| match image {
        Some(image) if at == image => plain(part),
        Some(image) if at < image => plain_folder(part),
        _ => (*part).to_owned(),
    };
    let plain: Vec<String> = parts.iter().enumerate().map(plain).collect();
    plain.join("/")
}

impl AssetRoot {
    /// The plain path of an image, by which clients ask for it; `None` where that leads nowhere, or to another file.
    #[must_use]
    pub fn plain_image(&self, path: &str) -> Option<String> {
        let plain = plain_names(path);
        let is_same = || Some(self.file(&plain).ok()?.is_same_file(&self.file(path).ok()?));
        (plain == path || is_same()?).then_some(plain)
    }

    /// The path on the disk of one that has plain names for an image and its folders. `None` where nothing or more than
    /// one thing is meant, and where the path is that of the disk already.
    pub(super) fn behind_alias(&self, path: &str) -> Option<String> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let image = parts.iter().position(|part| is_image(part))?;
        if parts.len() > DEEPEST || parts.contains(&"..") {
            return None;
        }
        let mut real = String::new();
        for (at, part) in parts.iter().enumerate() {
            let name = if at > image { Some((*part).to_owned()) } else { self.real_name(&real, part, at == image) };
            if !real.is_empty() {
                real.push('/');
            }
            real += &name?;
        }
        (real != parts.join("/")).then_some(real)
    }

    /// The name of a folder's entry that is the plain one; an entry of that very name goes first.
    fn real_name(&self, folder: &str, name: &str, is_image: bool) -> Option<String> {
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        if self.beneath(path.as_str(), OFlags::PATH | OFlags::CLOEXEC).is_ok() {
            return Some(name.to_owned());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = self.beneath(if folder.is_empty() { "." } else { folder }, flags).ok()?;
        let entries = Dir::read_from(folder).ok()?.take(ENTRIES).flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let means = |other: &String| match is_image {
            true => self::is_image(other) && plain(other) == name,
            false => !other.starts_with('.') && plain_folder(other) == name,
        };
        let mut found = names.filter(means);
        found.next().filter(|_| found.next().is_none())
    }
}

/// Whether a name is that of an image.
pub(super) fn is_image(name: &str) -> bool {
    name.len().checked_sub(4).and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(".iso"))
}

/// Entries of a folder that are looked at for one request.
const ENTRIES: usize = 10_000;
/// Folders in a path.
const DEEPEST: usize = 64;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{boot::reason::Reason, iso::made::iso};

    #[test]
    fn an_image_is_served_under_a_plain_name_as_well() {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().join("My ISOs");
        fs::create_dir(&folder).expect("made");
        let image = iso("MADE", &[("live/a file", "text".into())]).bytes;
        for name in ["Debian 12 (live).ISO", "plain.iso", "a b.iso", "a  b.iso"] {
            fs::write(folder.join(name), &image).expect("written");
        }
        let path = "My ISOs/Debian 12 (live).ISO";
        assert_eq!(plain_names(path), "My-ISOs/Debian-12-live.iso");
        assert_eq!(plain_names("x y/vmlinuz"), "x y/vmlinuz", "no image");
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        let size = |path: &str| assets.file(path).map(|asset| asset.size);
        assert_eq!(size("My-ISOs/Debian-12-live.iso"), Ok(image.len() as u64));
        assert_eq!(size("/My-ISOs//Debian-12-live.iso/live/a file"), Ok(4));
        assert_eq!(size("My ISOs/Debian-12-live.iso/live/a file"), Ok(4));
        assert_eq!(size("My-ISOs/plain.iso/live/a file"), Ok(4));
        for path in ["My-ISOs/a-b.iso", "My-ISOs/gone.iso", "My-ISOs/../My-ISOs/Debian-12-live.iso", "My-ISOs/x"] {
            assert!(matches!(size(path), Err(Reason::NotFound(_))), "{path}");
        }
        assert_eq!(assets.plain_image(path).as_deref(), Some("My-ISOs/Debian-12-live.iso"));
        assert_eq!(assets.plain_image("My ISOs/a b.iso"), None, "there are two");
        fs::write(folder.join("a-b.iso"), &image).expect("written");
        assert_eq!(assets.plain_image("My ISOs/a b.iso"), None, "it is another one");
        assert_eq!(assets.plain_image("My-ISOs/a-b.iso").as_deref(), Some("My-ISOs/a-b.iso"));
        let only = [path.to_owned()].into();
        let assets = AssetRoot::open(scratch.path()).expect("opened").only(only);
        assert!(assets.file("My-ISOs/Debian-12-live.iso/live/a file").is_ok());
        assert!(assets.file("My-ISOs/plain.iso").is_err());
    }
}
