//! The files that a configuration was read from. A change of them is noticed; a change of other files is ignored.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf, absolute},
};

use super::{Fault, Faults, found_isos::in_any_case, load::Loaded};

/// Files and folders that a configuration was read from, or that it would be read from. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Single files, folders that may appear later, and the links on their paths.
    paths: BTreeSet<PathBuf>,
    /// Those of them that are read as texts.
    texts: BTreeSet<PathBuf>,
    /// The patterns of `include`.
    patterns: Vec<glob::Pattern>,
    /// The pattern of images.
    images: Vec<glob::Pattern>,
    /// The templates folders: every file in them counts.
    whole: BTreeSet<PathBuf>,
    /// The configuration files by name, and whether each is empty.
    empty: BTreeMap<String, bool>,
    /// The patterns of `include` as they are written, with their places, and whether each finds files.
    finds: BTreeMap<String, (String, bool)>,
}

impl Watched {
    /// The files that this configuration was read from.
    #[must_use]
    pub fn of(loaded: &Loaded) -> Self {
        let mut watched = Self::default();
        for (number, file) in loaded.places.files().enumerate() {
            watched.add(Path::new(file));
            watched.empty.insert(file.to_owned(), loaded.places.text_of(number).trim().is_empty());
        }
        for (number, pattern) in loaded.config.include.iter().enumerate() {
            let place = loaded.places.of(&["include", &number.to_string()]);
            watched.finds.insert(pattern.clone(), (place, loaded.finding.contains(pattern)));
        }
        for pattern in loaded.patterns.iter().filter_map(|pattern| absolute(pattern).ok()) {
            if let Some(folder) = pattern.parent() {
                watched.add(folder);
            }
            watched.patterns.extend(glob::Pattern::new(&pattern.to_string_lossy()));
        }
        if let Some(folder) = loaded.config.templates.as_deref() {
            watched.add(folder);
            watched.add_whole(folder, DEEPEST);
        }
        watched.texts = watched.paths.clone();
        if let Some(folder) = loaded.config.assets.as_deref() {
            // The folder itself is not read here, but a link to it may change.
            let mut links = BTreeSet::new();
            way(folder, LINKS, &mut links);
            watched.paths.extend(links);
        }
        watched
    }

    /// The faults of files that are empty and were not `before`, and of patterns that found files and find none now. A
    /// program that writes a file empties it first, one that replaces a folder may remove it first, and the rest may
    /// never come: its disk is full, or it was ended. Without its rule, a machine would get the default profile, which
    /// may be an installer.
    #[must_use]
    pub fn emptied(&self, before: &Self) -> Option<Faults> {
        let had_text = |file: &String| before.empty.get(file) == Some(&false);
        let emptied = self.empty.iter().filter(|(file, is_empty)| **is_empty && had_text(file));
        let message =
            "the file is empty, and it was not before: write it again; to empty it, leave a comment (#) in it";
        let emptied = emptied.map(|(file, _)| Fault { place: file.clone(), message: message.into() });
        let had_files = |pattern: &String| before.finds.get(pattern).is_some_and(|(_, finds)| *finds);
        let lost = self.finds.iter().filter(|(pattern, (_, finds))| !finds && had_files(pattern));
        let lost = lost.map(|(pattern, (place, _))| {
            let message = format!(
                "{pattern:?} includes no file, and it did before: put the files back; to have none, remove it from `include`"
            );
            Fault { place: place.clone(), message }
        });
        let faults: Vec<_> = emptied.chain(lost).collect();
        (!faults.is_empty()).then_some(Faults(faults))
    }

    /// Whether this file is read as a text, of which a half may be read as a valid one. Images and loaders name their
    /// sizes.
    #[must_use]
    pub fn is_text(&self, path: &Path) -> bool {
        let is_of_folder = || path.parent().is_some_and(|folder| self.whole.contains(folder));
        self.texts.contains(path)
            || is_meant(path) && (self.patterns.iter().any(|pattern| pattern.matches_path(path)) || is_of_folder())
    }

    /// The paths of [`Self::is_text`], without what only matches a pattern.
    pub fn texts(&self) -> impl Iterator<Item = &PathBuf> {
        self.texts.iter()
    }

    /// Adds a file, or a folder that may appear later.
    pub fn add(&mut self, path: &Path) {
        if let Ok(path) = absolute(path) {
            way(&path, LINKS, &mut self.paths);
            self.paths.insert(path);
        }
    }

    /// Adds images below the assets folder, and the pattern that finds more of them.
    pub(super) fn add_images<'a>(
        &mut self,
        assets: &Path,
        images: impl Iterator<Item = &'a String>,
        pattern: Option<&str>,
    ) {
        images.for_each(|image| self.add(&assets.join(image)));
        if let Some(pattern) = pattern {
            // Their folder may be mounted later, and may go for a while.
            let folders = Path::new(pattern).ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
            let plain = folders.filter(|folder| !folder.to_string_lossy().contains(['*', '?', '[']));
            plain.for_each(|folder| self.add(&assets.join(folder)));
            let escaped = glob::Pattern::escape(&assets.to_string_lossy());
            self.images.extend(glob::Pattern::new(&format!("{escaped}/{pattern}")));
        }
    }

    fn add_whole(&mut self, folder: &Path, deepest: usize) {
        let Ok(folder) = absolute(folder) else { return };
        let entries = folder.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        for path in entries.filter(|path| is_meant(path)) {
            if path.is_symlink() {
                self.add(&path);
            }
            if path.is_dir() && deepest > 0 {
                self.add_whole(&path, deepest - 1);
            }
        }
        self.whole.insert(folder);
    }

    /// The existing folders in which a change shows. Editors replace a file by a new one, so the folder has to be
    /// watched.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let parents = self.paths.iter().filter_map(|path| path.parent().map(Path::to_owned));
        let of_patterns = self.patterns.iter().chain(&self.images).flat_map(folder_patterns);
        let of_patterns =
            of_patterns.flat_map(|pattern| glob::glob_with(&pattern, in_any_case()).into_iter().flatten().flatten());
        let all: BTreeSet<PathBuf> = parents.chain(of_patterns).chain(self.whole.iter().cloned()).collect();
        all.into_iter().filter(|folder| folder.is_dir()).collect()
    }

    /// The folders that are read. The sandbox allows no others.
    #[must_use]
    pub fn read_from(&self) -> Vec<PathBuf> {
        self.folders().into_iter().filter(|folder| folder != Path::new("/")).collect()
    }

    /// Whether a change of this path changes what was read.
    #[must_use]
    pub fn means(&self, path: &Path) -> bool {
        // A folder that is moved takes its files along.
        if self.paths.contains(path) || self.paths.iter().any(|file| file.parent() == Some(path)) {
            return true;
        }
        // A folder that comes may have files in it already; one that goes is no folder any more.
        let is_folder_of = |pattern: &glob::Pattern| {
            let mut folders = folder_patterns(pattern).filter_map(|pattern| glob::Pattern::new(&pattern).ok());
            folders.any(|folder| folder.matches_path_with(path, in_any_case())) && !path.is_file()
        };
        is_meant(path)
            && (self.patterns.iter().any(|pattern| pattern.matches_path(path))
                || self.images.iter().any(|pattern| pattern.matches_path_with(path, in_any_case()))
                || self.patterns.iter().chain(&self.images).any(is_folder_of)
                || path.parent().is_some_and(|folder| self.whole.contains(folder)))
    }
}

/// The patterns of the folders in which a pattern finds files: from the last one without wildcards downwards.
fn folder_patterns(pattern: &glob::Pattern) -> impl Iterator<Item = String> {
    let parts: Vec<String> = pattern.as_str().split('/').map(str::to_owned).collect();
    let plain = parts.iter().take_while(|part| !part.contains(['*', '?', '['])).count().min(parts.len() - 1);
    (plain..parts.len()).map(move |end| parts.iter().take(end).map(String::as_str).collect::<Vec<_>>().join("/"))
}

/// A fingerprint of all files that were read. It is the same as long as they do not change.
#[must_use]
pub(super) fn fingerprint(loaded: &Loaded) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (number, file) in loaded.places.files().enumerate() {
        (file, loaded.places.text_of(number)).hash(&mut hasher);
    }
    if let Some(folder) = loaded.config.templates.as_deref() {
        hash_folder(folder, DEEPEST, &mut hasher);
    }
    hasher.finish()
}

/// The same, with the versions of the images that were seen.
#[must_use]
pub(super) fn with_images(read: u64, images: &BTreeMap<String, u64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (read, images).hash(&mut hasher);
    hasher.finish()
}

fn hash_folder(folder: &Path, deepest: usize, hasher: &mut DefaultHasher) {
    let entries = folder.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = entries.filter(|path| is_meant(path)).collect();
    paths.sort();
    for path in paths {
        path.hash(hasher);
        if path.is_dir() {
            if deepest > 0 {
                hash_folder(&path, deepest - 1, hasher);
            }
        } else if path.is_file() {
            fs::read(&path).ok().hash(hasher);
        }
    }
}

/// Every link on the path of a file, also links to links: any of them can be changed to switch the configuration.
fn way(path: &Path, links: usize, found: &mut BTreeSet<PathBuf>) {
    let mut parts: Vec<&Path> = path.ancestors().collect();
    parts.reverse();
    for part in parts {
        let Ok(target) = fs::read_link(part) else { continue };
        found.insert(part.to_owned());
        let (Some(folder), Ok(rest), Some(links)) = (part.parent(), path.strip_prefix(part), links.checked_sub(1))
        else {
            return;
        };
        let next = if rest.as_os_str().is_empty() { folder.join(target) } else { folder.join(target).join(rest) };
        found.insert(next.clone());
        return way(&next, links, found);
    }
}

/// Editors leave backup copies beside a file.
fn is_meant(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    !name.starts_with(['.', '#']) && !name.ends_with(['~', '#']) && !name.ends_with(".swp") && !name.ends_with(".swx")
}

/// The depth of subfolders in the templates folder.
pub(super) const DEEPEST: usize = 8;
/// The largest number of links that the kernel follows (path_resolution(7)).
const LINKS: usize = 40;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::load::load;

    #[test]
    fn only_what_was_read_is_watched() {
        let scratch = tempfile::tempdir().expect("a folder");
        let at = |name: &str| scratch.path().join(name);
        for folder in ["etc", "kept", "templates/debian"] {
            fs::create_dir_all(at(folder)).expect("made");
        }
        let text = format!("include = [\"machines.d/*.toml\"]\ntemplates = \"{}\"\n", at("templates").display());
        fs::write(at("kept/netbootd.toml"), text).expect("written");
        fs::write(at("templates/debian/preseed.cfg"), "x").expect("written");
        symlink("../kept/netbootd.toml", at("etc/netbootd.toml")).expect("made");
        let read = || load(Some(&at("etc/netbootd.toml")), [], &[]).expect("read");
        let watched = Watched::of(&read());
        for meant in [
            "etc/netbootd.toml",
            "etc/machines.d",
            "etc/machines.d/10.toml",
            "templates/new.ipxe",
            "templates/debian/preseed.cfg",
        ] {
            assert!(watched.means(&at(meant)), "{meant}");
        }
        assert!(watched.means(&at("etc/../kept/netbootd.toml")), "where the link leads to");
        for other in [
            "etc/netbootd.log",
            "etc/.netbootd.toml.swp",
            "etc/4913",
            "etc/machines.d/notes.txt",
            "etc/machines.d/.10.toml.swp",
            "templates/boot.ipxe~",
            "kept/other.toml",
        ] {
            assert!(!watched.means(&at(other)), "{other}");
        }
        let folders = watched.folders();
        assert!(folders.contains(&at("etc")) && folders.contains(&at("templates/debian")), "{folders:?}");
        assert!(folders.contains(&at("etc/../kept")), "{folders:?}");
        assert!(!folders.contains(&at("etc/machines.d")), "it is not there yet");

        let mut watched = Watched::default();
        fs::create_dir_all(at("assets/isos/tools")).expect("made");
        watched.add_images(&at("assets"), [].iter(), Some("isos/**/*.iso"));
        let folders = watched.folders();
        assert!(["assets/isos", "assets/isos/tools"].iter().all(|folder| folders.contains(&at(folder))), "{folders:?}");
        fs::write(at("assets/isos/tools/X.ISO"), "x").expect("written");
        for meant in ["assets/isos/x.iso", "assets/isos/tools/X.ISO", "assets/isos/tools", "assets/isos/gone"] {
            assert!(watched.means(&at(meant)), "{meant}");
        }
        fs::write(at("assets/isos/notes"), "x").expect("written");
        assert!(!watched.means(&at("assets/isos/notes")) && !watched.means(&at("assets/other/x.iso")));
        fs::rename(at("assets/isos"), at("assets/gone")).expect("moved");
        let mut watched = Watched::default();
        watched.add_images(&at("assets"), [].iter(), Some("isos/**/*.iso"));
        assert!(watched.folders().contains(&at("assets")) && watched.means(&at("assets/isos")), "it may come again");

        for text in ["etc/netbootd.toml", "etc/../kept/netbootd.toml", "etc/machines.d/10.toml", "templates/new.ipxe"] {
            assert!(Watched::of(&read()).is_text(&at(text)), "{text}");
        }
        assert!(!watched.is_text(&at("assets/isos/x.iso")) && !watched.is_text(&at("etc/netbootd.log")));

        let before = fingerprint(&read());
        fs::write(at("etc/netbootd.log"), "a line").expect("written");
        assert_eq!(fingerprint(&read()), before);
        fs::write(at("templates/debian/preseed.cfg"), "y").expect("written");
        assert_ne!(fingerprint(&read()), before);
    }

    #[test]
    fn a_pattern_that_loses_its_files_is_a_fault() {
        let scratch = tempfile::tempdir().expect("a folder");
        let at = |name: &str| scratch.path().join(name);
        let of = |include: &str| {
            fs::write(at("n.toml"), format!("include = {include}\n")).expect("written");
            Watched::of(&load(Some(&at("n.toml")), [], &[]).expect("read"))
        };
        let pattern = "[\"*.toml\", \"m.d/*.toml\"]";
        let never = of(pattern);
        fs::create_dir(at("m.d")).expect("made");
        fs::write(at("m.d/a.toml"), "# a\n").expect("written");
        fs::write(at("m.d/b.toml"), "# b\n").expect("written");
        let both = of(pattern);
        fs::remove_file(at("m.d/a.toml")).expect("removed");
        let one = of(pattern);
        fs::remove_dir_all(at("m.d")).expect("removed");
        let none = of(pattern);
        let faults = none.emptied(&one).expect("a fault").to_string();
        let place = at("n.toml").display().to_string();
        assert!(faults.starts_with(&format!("{place}:1:22: \"m.d/*.toml\" includes no file, ")), "{faults}");
        assert!(!faults.contains('\n'), "the file itself is not one of those that it includes: {faults}");
        let without = of("[\"*.toml\"]");
        for (now, before) in [(&one, &both), (&none, &never), (&both, &none), (&without, &both)] {
            assert_eq!(now.emptied(before), None);
        }
    }

    #[test]
    fn a_file_that_loses_its_text_is_a_fault() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("n.toml");
        let of = |text: &str| {
            fs::write(&path, text).expect("written");
            Watched::of(&load(Some(&path), [], &[]).expect("read"))
        };
        let [full, comment, empty] = ["[http]\nport = 1\n", "# nothing\n", " \n"].map(of);
        for before in [&full, &comment] {
            let faults = empty.emptied(before).expect("a fault").to_string();
            assert!(faults.starts_with(&format!("{}: the file is empty, ", path.display())), "{faults}");
        }
        for (now, before) in [(&empty, &empty), (&empty, &Watched::default()), (&comment, &full), (&full, &empty)] {
            assert_eq!(now.emptied(before), None);
        }
    }
}
