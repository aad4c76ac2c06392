//! Finds a path without regard to upper and lower case, for boot programs of other systems: Windows asks for
//! `\Boot\BCD`, VMware for `EFI\BOOT\CRYPTO64.EFI`, and the file on the disk can have other letters.

use rustix::fs::{Dir, OFlags};

use super::{asset::Asset, root::AssetRoot};

/// How many folder entries may be read for one request. So a request for a missing file costs at most a fraction of a
/// millisecond.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(ENTRIES)
    }
}

impl Budget {
    /// Takes one. Returns whether there was one left.
    fn spend(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// The files that a path can mean.
enum Matches {
    None,
    One(String, Box<Asset>),
    Several,
}

impl AssetRoot {
    /// The only file that a path means without regard to case, and its path on the disk. In each folder, the exact name
    /// has priority. `None` if there is no such file, or if there are several and none is exact.
    pub(super) fn without_case(&self, path: &str, budget: &mut Budget) -> Option<(String, Asset)> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        // A path that ends with a slash is a folder.
        if parts.len() > DEEPEST || parts.contains(&"..") || path.ends_with('/') {
            return None;
        }
        match self.matches("", &parts, budget) {
            Matches::One(path, asset) => Some((path, *asset)),
            Matches::None | Matches::Several => None,
        }
    }

    fn matches(&self, folder: &str, parts: &[&str], budget: &mut Budget) -> Matches {
        let Some((part, rest)) = parts.split_first() else { return Matches::None };
        let exact = self.behind(below(folder, part), rest, budget);
        if !matches!(exact, Matches::None) {
            return exact;
        }
        let mut found = Matches::None;
        for other in self.names_like(folder, part, budget) {
            match (self.behind(below(folder, &other), rest, budget), &found) {
                (Matches::None, _) => {}
                (one, Matches::None) => found = one,
                _ => return Matches::Several,
            }
        }
        found
    }

    /// Finds the rest of a path in a folder, or the file itself if there is no rest.
    fn behind(&self, path: String, rest: &[&str], budget: &mut Budget) -> Matches {
        if !budget.spend() {
            return Matches::None;
        }
        if !rest.is_empty() {
            return self.matches(&path, rest, budget);
        }
        match self.file(&path) {
            Ok(asset) => Matches::One(path, Box::new(asset)),
            Err(_) => Matches::None,
        }
    }

    /// The names in a folder that differ from this one only in case.
    fn names_like(&self, folder: &str, name: &str, budget: &mut Budget) -> Vec<String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = self.beneath(if folder.is_empty() { "." } else { folder }, flags);
        let Some(entries) = folder.ok().and_then(|folder| Dir::read_from(folder).ok()) else { return Vec::new() };
        let wanted = name.to_lowercase();
        let entries = entries.take_while(|_| budget.spend()).flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        names.filter(|other| other != name && other.to_lowercase() == wanted).collect()
    }
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// More entries than the folders of a boot medium have. They are read within a millisecond.
const ENTRIES: usize = 4096;
/// The largest number of parts of a path. `\EFI\Microsoft\Boot\Fonts\wgl4_boot.ttf` has five.
const DEEPEST: usize = 16;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn found(assets: &AssetRoot, path: &str) -> Option<String> {
        assets.without_case(path, &mut Budget::default()).map(|(path, _)| path)
    }

    #[test]
    fn one_file_that_differs_in_case_only_is_found_folder_by_folder() {
        let scratch = tempfile::tempdir().expect("a folder");
        let root = scratch.path().join("root");
        let put = |path: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "x").expect("written");
        };
        for path in ["boot/bcd", "EFI/Boot/CRYPTO64.EFI", "two/Kernel", "two/KERNEL", "Twice/a", "twice/b", "TWICE/B"] {
            put(path);
        }
        for path in ["Sources/boot.wim", "sources/other", "Ä/é"] {
            put(path);
        }
        fs::write(scratch.path().join("secret"), "secret").expect("written");
        symlink("../secret", root.join("Outside")).expect("made");
        let assets = AssetRoot::open(&root).expect("opened");
        for (asked, there) in [
            ("Boot/BCD", Some("boot/bcd")),
            ("./BOOT//bcd", Some("boot/bcd")),
            ("efi/boot/crypto64.efi", Some("EFI/Boot/CRYPTO64.EFI")),
            ("two/Kernel", Some("two/Kernel")),
            ("TWO/Kernel", Some("two/Kernel")),
            ("two/kernel", None),
            ("tWICE/A", Some("Twice/a")),
            ("twice/B", Some("twice/b")),
            ("tWICE/B", None),
            ("TwicE/x", None),
            ("sources/BOOT.WIM", Some("Sources/boot.wim")),
            ("ä/É", Some("Ä/é")),
            ("BOOT", None),
            ("BOOT/BCD/", None),
            ("boot/bcd/x", None),
            ("OUTSIDE", None),
            ("boot/../BOOT/bcd", None),
            ("../SECRET", None),
            ("", None),
        ] {
            assert_eq!(found(&assets, asked).as_deref(), there, "{asked}");
        }
    }

    #[test]
    fn a_search_ends_when_enough_entries_were_looked_at() {
        let scratch = tempfile::tempdir().expect("a folder");
        for n in 0..200 {
            fs::write(scratch.path().join(format!("f{n}")), "x").expect("written");
        }
        fs::create_dir(scratch.path().join("Sub")).expect("made");
        let assets = AssetRoot::open(scratch.path()).expect("opened");
        assert_eq!(found(&assets, "F100").as_deref(), Some("f100"));
        let mut budget = Budget(50);
        assert!(assets.without_case("NOTHING", &mut budget).is_none());
        assert_eq!(budget.0, 0);
        let deep = vec!["SUB"; 1000].join("/");
        assert_eq!(found(&assets, &deep), None);
    }
}
