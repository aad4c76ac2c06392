//! The images that `isos` finds, and what their profiles are called.

use std::{collections::BTreeMap, fs, path::Path};

use glob::MatchOptions;

use crate::files::{AssetRoot, alias::plain_names};

/// `*.iso` finds `X.ISO` as well, which is an image like others.
pub(super) fn in_any_case() -> MatchOptions {
    MatchOptions { case_sensitive: false, ..MatchOptions::new() }
}

/// What a pattern finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Paths below the assets folder, in their order.
    pub(super) paths: Vec<String>,
    /// Those that are not UTF-8, for people.
    pub(super) unclear: Vec<String>,
}

/// The images that a pattern finds.
///
/// # Errors
/// What is wrong with the pattern.
pub(super) fn found_by(pattern: &str, assets: &AssetRoot) -> Result<Found, String> {
    let root = assets.path();
    if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
        return Err(format!("{pattern:?} is a pattern below the assets folder, such as \"isos/*.iso\""));
    }
    let whole = Path::new(&glob::Pattern::escape(&root.to_string_lossy())).join(pattern);
    let entries = glob::glob_with(&whole.to_string_lossy(), in_any_case())
        .map_err(|error| format!("{pattern:?} is no pattern: {error}"))?;
    let mut found = Found::default();
    for path in entries.flatten().filter(|path| path.is_file()) {
        let below = path.strip_prefix(&root).ok().and_then(Path::to_str);
        let shown = below.filter(|below| !below.split('/').any(|part| part.starts_with('.')));
        found.paths.extend(shown.map(str::to_owned));
    }
    found.unclear.extend(unclear(&root.join(above(pattern).join("/"))));
    Ok(found)
}

/// Names of images that the pattern's library passes over, because they are not UTF-8: those directly in a folder.
fn unclear(folder: &Path) -> impl Iterator<Item = String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let lost = names.filter(|name| name.to_str().is_none()).map(|name| name.display().to_string());
    lost.filter(|name| name.to_lowercase().ends_with(".iso"))
}

/// The folders that a pattern begins with.
fn above(pattern: &str) -> Vec<&str> {
    let is_plain = |part: &&&str| !part.contains(['*', '?', '[']);
    let parts: Vec<&str> = pattern.split('/').collect();
    let (_, folders) = parts.split_last().unwrap_or((&"", &[]));
    folders.iter().take_while(is_plain).copied().collect()
}

/// The folder of an image below the one that its pattern begins with; none: that one itself.
pub(super) fn folder_of(path: &str, pattern: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let (_, folders) = parts.split_last()?;
    let below = folders.get(above(pattern).len()..).filter(|below| !below.is_empty())?;
    Some(below.join("/"))
}

/// Images by what their files are called. Where several are called the same, none of them has that name: it would be
/// another image's as soon as one comes or goes, and a machine that is assigned it would boot another system.
pub(super) struct Names(BTreeMap<String, Vec<String>>);

impl Names {
    pub(super) fn of(paths: &[String]) -> Self {
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in paths {
            names.entry(file_name(path)).or_default().push(path.clone());
        }
        Self(names)
    }

    /// The name of a profile for an image: of its file, else of its folders as well.
    pub(super) fn free(&self, path: &str, is_taken: impl Fn(&str) -> bool) -> String {
        let name = file_name(path);
        let long = long_name(path);
        let numbered = (2..).map(|number: u32| format!("{long}-{number}"));
        let mut all = [name, long.clone()].into_iter().chain(numbered);
        all.find(|name| !is_taken(name) && !self.is_shared(name)).unwrap_or(long)
    }

    fn is_shared(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|paths| paths.len() > 1)
    }

    /// What to say of names that several have; not of those that are a profile of the user's own.
    pub(super) fn shared(&self, is_taken: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
        self.0.iter().filter(move |(name, paths)| paths.len() > 1 && !is_taken(name)).map(|(name, paths)| {
            format!(
                "{} have the same name, so none of their profiles is called {name}: each has its folders in its name, such \
                 as {}",
                paths.join(" and "),
                paths.iter().find(|path| long_name(path) != *name).map_or_else(|| format!("{name}-2"), |path| long_name(path)),
            )
        })
    }
}

fn file_name(path: &str) -> String {
    let plain = plain_names(path);
    plain.rsplit('/').next().unwrap_or_default().trim_end_matches(".iso").to_owned()
}

fn long_name(path: &str) -> String {
    plain_names(path).trim_end_matches(".iso").replace('/', "-")
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn a_name_is_of_one_image_whatever_comes_beside_it() {
        let named = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let names = Names::of(&paths);
            let mut all: Vec<String> = Vec::new();
            for path in &paths {
                let name = names.free(path, |name| all.iter().any(|other| other == name) || name == "mine");
                all.push(name);
            }
            (all, names.shared(|name| name == "mine").collect::<Vec<_>>())
        };
        let (alone, said) = named(&["as/x.iso", "as/b/y.iso", "as/mine.iso"]);
        assert_eq!((alone.as_slice(), said.len()), (&["x".to_owned(), "y".into(), "as-mine".into()][..], 0));
        let (both, said) = named(&["as/archive/x.iso", "as/x.iso", "as/b/y.iso"]);
        assert_eq!(both, ["as-archive-x", "as-x", "y"], "x is not as/archive/x.iso all at once");
        assert_eq!(
            said,
            [
                "as/archive/x.iso and as/x.iso have the same name, so none of their profiles is called x: each has its folders in \
              its name, such as as-archive-x"
            ]
        );
        assert_eq!(named(&["a/x.iso", "x.iso"]).0, ["a-x", "x-2"]);
    }

    #[test]
    fn no_image_is_lost_silently_for_its_name() {
        let scratch = tempfile::tempdir().expect("a folder");
        for name in [&b"lat\xe4n.iso"[..], b"good.iso", b"WIN.ISO", b".hidden.iso"] {
            fs::write(scratch.path().join(OsStr::from_bytes(name)), "x").expect("written");
        }
        let found = found_by("*.iso", &AssetRoot::open(scratch.path()).expect("opened")).expect("a pattern");
        assert_eq!(found.paths, ["WIN.ISO", "good.iso"]);
        assert!(found.unclear.len() == 1 && found.unclear[0].starts_with("lat"), "{:?}", found.unclear);
    }
}
