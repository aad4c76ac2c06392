//! `netbootd up FILE.iso …`: images on the command line become profiles.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use figment::value::Value;

use super::{
    failure::{EX_USAGE, Failure},
    named_files::{below, folder_of, real},
};
use crate::files::alias::plain_names;

/// The images that the command line names; `None` where it names a kernel or nothing.
///
/// # Errors
/// Images beside a kernel or initial RAM disks.
pub(super) fn named<'a>(first: Option<&'a Path>, rest: &'a [PathBuf]) -> Result<Option<Vec<&'a Path>>, Failure> {
    let all: Vec<&Path> = first.into_iter().chain(rest.iter().map(PathBuf::as_path)).collect();
    // Taken for a kernel, it would be sent to machines that cannot start it.
    if let Some(packed) = all.iter().find(|path| is_packed(path)) {
        let name = packed.display();
        return Err(Failure::new(EX_USAGE, format!("{name} is a packed CD image: unpack it, and name the .iso file")));
    }
    match all.iter().find(|path| !is_image(path)) {
        None if all.is_empty() => Ok(None),
        None => Ok(Some(all)),
        Some(other) if all.iter().any(|path| is_image(path)) => {
            let fix = "name CD images alone, or a kernel and its initial RAM disks; a profile with iso takes an initrd";
            Err(Failure::new(
                EX_USAGE,
                format!("{} is not a CD image (.iso), but is beside one: {fix}", other.display()),
            ))
        }
        Some(_) => Ok(None),
    }
}

fn is_image(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("iso"))
}

fn is_packed(path: &Path) -> bool {
    let ends_so = path.extension().is_some_and(|end| PACKED.iter().any(|packed| end.eq_ignore_ascii_case(packed)));
    ends_so && path.file_stem().is_some_and(|stem| is_image(Path::new(stem)))
}

const PACKED: [&str; 8] = ["7z", "bz2", "gz", "lz4", "lzma", "xz", "zip", "zst"];

/// Images, as paths below the folder that they are served from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Images {
    pub(super) folder: PathBuf,
    /// By the names of their profiles.
    paths: BTreeMap<String, String>,
    /// The first one's profile.
    first: String,
}

impl Images {
    pub(super) fn of(images: &[&Path], assets: Option<&Path>) -> Result<Self, Failure> {
        let images: Vec<PathBuf> = images.iter().map(|path| real(path)).collect::<Result<_, _>>()?;
        let folder = folder_of(&images.iter().collect::<Vec<_>>(), assets)?;
        let mut all = Self { folder, paths: BTreeMap::new(), first: String::new() };
        for image in &images {
            let below = below(image, &all.folder)?;
            if all.paths.values().any(|path| *path == below) {
                continue;
            }
            let name = all.free_name(&below);
            if all.first.is_empty() {
                all.first.clone_from(&name);
            }
            all.paths.insert(name, below);
        }
        Ok(all)
    }

    fn free_name(&self, below: &str) -> String {
        let plain = plain_names(below);
        let name = plain.rsplit('/').next().unwrap_or_default().trim_end_matches(".iso");
        let numbered = (2..).map(|number: u32| format!("{name}-{number}"));
        let is_free =
            |name: &String| !self.paths.contains_key(name) && !["menu", "local", "shell"].contains(&name.as_str());
        std::iter::once(name.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
    }

    /// The files that may be fetched: the images, and the wimboot that a user has put beside one.
    pub(super) fn served(&self) -> BTreeSet<String> {
        let folders = self.paths.values().map(|path| path.rsplit_once('/').map_or("", |(folder, _)| folder));
        let wimboot = folders.map(|folder| format!("{folder}/wimboot").trim_start_matches('/').to_owned());
        let wimboot = wimboot.filter(|path| self.folder.join(path).is_file());
        self.paths.values().cloned().chain(wimboot).collect()
    }

    /// A profile for each.
    pub(super) fn profiles(&self, cmdline: &str) -> Value {
        let profile = |(name, path): (&String, &String)| {
            let mut profile = BTreeMap::from([("iso", Value::from(path.clone()))]);
            if !cmdline.is_empty() {
                profile.insert("cmdline", Value::from(cmdline));
            }
            (name.clone(), Value::from(profile))
        };
        Value::from(self.paths.iter().map(profile).collect::<BTreeMap<String, Value>>())
    }

    /// The only one, or the menu of all.
    pub(super) fn default_profile(&self) -> &str {
        if self.paths.len() == 1 { &self.first } else { "menu" }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn images_are_profiles_and_several_are_a_menu() {
        let scratch = tempfile::tempdir().expect("a folder");
        let root = scratch.path().canonicalize().expect("there");
        fs::create_dir_all(root.join("b/c")).expect("made");
        for name in ["b/a b.iso", "b/c/X.ISO", "b/c/a-b.iso", "b/c/wimboot", "b/secret"] {
            fs::write(root.join(name), "x").expect("written");
        }
        let of = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
            Images::of(&paths.iter().map(PathBuf::as_path).collect::<Vec<_>>(), None).expect("images")
        };
        let one = of(&["b/a b.iso"]);
        assert_eq!((one.folder.clone(), one.default_profile()), (root.join("b"), "a-b"));
        assert_eq!(one.served(), ["a b.iso".to_owned()].into());
        let several = of(&["b/a b.iso", "b/c/X.ISO", "b/c/a-b.iso", "b/a b.iso"]);
        assert_eq!((several.folder.clone(), several.default_profile()), (root.join("b"), "menu"));
        let names: Vec<&str> = several.paths.keys().map(String::as_str).collect();
        assert_eq!(names, ["X", "a-b", "a-b-2"]);
        let served: Vec<String> = several.served().into_iter().collect();
        assert_eq!(served, ["a b.iso", "c/X.ISO", "c/a-b.iso", "c/wimboot"]);
    }

    #[test]
    fn a_packed_image_is_no_kernel() {
        let fault = named(Some(Path::new("x.ISO.gz")), &[]).expect_err("a fault");
        assert_eq!(fault.message, "x.ISO.gz is a packed CD image: unpack it, and name the .iso file");
        for kernel in ["vmlinuz.gz", "x.iso.d", "iso.gz"] {
            assert_eq!(named(Some(Path::new(kernel)), &[]).expect("a kernel"), None, "{kernel}");
        }
        assert!(named(Some(Path::new("x.iso.iso")), &[]).expect("an image").is_some());
    }

    #[test]
    fn images_beside_a_kernel_are_a_fault() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(named(None, &[]).expect("nothing"), None);
        assert_eq!(named(Some(Path::new("vmlinuz")), &paths(&["initrd.img"])).expect("a kernel"), None);
        let both = paths(&["y.ISO"]);
        let images = named(Some(Path::new("x.iso")), &both).expect("images").expect("some");
        assert_eq!(images, [Path::new("x.iso"), Path::new("y.ISO")]);
        let fault = named(Some(Path::new("x.iso")), &paths(&["initrd.img"])).expect_err("a fault");
        assert!(
            fault.message.starts_with("initrd.img is not a CD image (.iso), but is beside one: "),
            "{}",
            fault.message
        );
    }
}
