//! The contents of a folder below the assets folder, for lists.

use std::time::SystemTime;

use rustix::fs::{Dir, FileType, OFlags, fstat};

use super::{
    asset::{modified, unreadable},
    root::AssetRoot,
};
use crate::boot::reason::Reason;

/// An entry of a folder that can be fetched or listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without the folder.
    pub name: String,
    /// The kind, after following symbolic links.
    pub kind: Kind,
    /// Time of last modification.
    pub modified: SystemTime,
}

/// The kind of an [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// The size in bytes.
        size: u64,
    },
}

impl AssetRoot {
    /// The entries of a folder by its path below this one, folders first, sorted by name.
    ///
    /// Not listed are hidden names, names that are not UTF-8 (our URLs cannot contain them), and everything that cannot
    /// be fetched: devices, sockets, and symbolic links that leave the folder.
    ///
    /// # Errors
    /// [`Reason::NotFound`] if it is not a folder, or is inside a hidden one; [`Reason::Escape`]; [`Reason::Unreadable`].
    pub fn list(&self, name: &str) -> Result<Vec<Entry>, Reason> {
        let name = name.trim_matches('/');
        if name.split('/').any(|part| part.starts_with('.')) || !(name.is_empty() || self.leads_to_served("", name)) {
            return Err(Reason::not_found(name));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match self.beneath(if name.is_empty() { "." } else { name }, flags) {
            // An image can be listed like a folder.
            Err(why @ Reason::NotFound(_)) => {
                return match self.list_inside(&format!("{name}/")) {
                    Some(Err(Reason::NotFound(_))) | None => Err(why),
                    Some(listed) => listed,
                };
            }
            folder => folder?,
        };
        let names = Dir::read_from(&folder).map_err(|errno| unreadable(name, errno))?;
        let names = names.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        let shown = names.filter(|entry| !entry.starts_with('.') && self.leads_to_served(name, entry));
        let mut entries: Vec<Entry> = shown.filter_map(|entry| self.entry(name, entry)).collect();
        entries.sort_by(|a, b| (a.kind != Kind::Folder, &a.name).cmp(&(b.kind != Kind::Folder, &b.name)));
        Ok(entries)
    }

    /// Whether an entry of a folder is served, or contains something that is.
    fn leads_to_served(&self, folder: &str, entry: &str) -> bool {
        let path = format!("{folder}/{entry}");
        let path = path.trim_start_matches('/');
        let leads =
            |served: &String| served.strip_prefix(path).is_some_and(|below| below.is_empty() || below.starts_with('/'));
        self.only.as_ref().is_none_or(|only| only.iter().any(leads))
    }

    /// `None` if it cannot be fetched or listed, or was removed.
    fn entry(&self, folder: &str, name: String) -> Option<Entry> {
        let path = format!("{folder}/{name}");
        // Not opened for reading, because that has an effect on pipes and devices.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let stat = fstat(self.beneath(path.trim_start_matches('/'), flags).ok()?).ok()?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Folder,
            FileType::RegularFile => Kind::File { size: u64::try_from(stat.st_size).unwrap_or(0) },
            _ => return None,
        };
        Some(Entry { name, kind, modified: modified(&stat) })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_can_be_fetched_is_listed_and_nothing_else() {
        let scratch = tempfile::tempdir().expect("a folder");
        let root = scratch.path().join("root");
        fs::create_dir_all(root.join("debian/12")).expect("made");
        fs::create_dir(root.join(".git")).expect("made");
        for file in ["debian/vmlinuz", "b", "a & <b>", ".hidden", ".git/config", "../secret"] {
            fs::write(root.join(file), file).expect("made");
        }
        for (to, link) in [("debian/vmlinuz", "kernel"), ("debian", "stable"), ("../secret", "out"), ("gone", "gone")] {
            symlink(to, root.join(link)).expect("made");
        }
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("made");
        let assets = AssetRoot::open(&root).expect("opened");
        let listed = |name: &str| {
            let entries = assets.list(name)?;
            Ok::<_, Reason>(entries.into_iter().map(|entry| (entry.name, entry.kind)).collect::<Vec<_>>())
        };
        let folder = |name: &str| (name.to_owned(), Kind::Folder);
        let file = |name: &str, size| (name.to_owned(), Kind::File { size });
        let top = [folder("debian"), folder("stable"), file("a & <b>", 7), file("b", 1), file("kernel", 14)].to_vec();
        assert_eq!((listed(""), listed("/")), (Ok(top.clone()), Ok(top)));
        let debian = [folder("12"), file("vmlinuz", 14)].to_vec();
        assert_eq!((listed("debian/"), listed("stable")), (Ok(debian.clone()), Ok(debian)));
        assert_eq!(listed("debian/12"), Ok(vec![]));
        for name in ["nothing", "b", ".git", ".", "..", "debian/../.git", "debian\0"] {
            assert!(matches!(listed(name), Err(Reason::NotFound(_))), "{name}");
        }
        symlink("/etc", root.join("etc")).expect("made");
        assert_eq!(listed("etc"), Err(Reason::Escape("etc".into())));
    }
}
