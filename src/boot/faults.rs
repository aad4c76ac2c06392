//! Which profiles cannot boot now, and why: each is one profile's fault, and keeps nobody else from booting.

use std::fmt;

use super::{
    image::Role,
    loader::Loader,
    machine::Rules,
    profile::{Boot, ProfileFault},
    reason::Reason,
    template::Templates,
    urls::is_remote,
};

/// A look at the files of the assets folder, given to a decision by the code that has the folder.
#[derive(Clone, Copy)]
pub struct Files<'a>(pub &'a dyn Fn(&str, Wanted) -> Result<(), Reason>);

/// What has to be there by a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A file with something in it.
    File,
    /// A file that is started: by iPXE on this, where that is known.
    Start(Role, Option<Loader>),
    /// A file or a folder: a template made a URL of its name.
    FileOrFolder,
    /// A kernel that is Linux, or may be.
    Linux,
    /// A kernel for this processor, or one that may be.
    For(Loader),
    /// An image of a hard disk, not of a floppy disk.
    HardDisk,
}

impl fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files")
    }
}

impl Files<'_> {
    /// What is wrong with something to boot; `on` is what iPXE runs on, where iPXE boots it.
    ///
    /// # Errors
    /// The first of its faults, in words.
    pub fn look_at(self, boot: &Boot, templates: &Templates, on: Option<Loader>) -> Result<(), String> {
        let look_for = |file: &str, wanted| match is_remote(file) {
            true => Ok(()),
            false => (self.0)(file, wanted).map_err(|why| why.to_string()),
        };
        let look = |file: &str| look_for(file, Wanted::File);
        match boot {
            Boot::Faulty(fault) => Err(fault.clone()),
            Boot::Script(name) if templates.faulty().contains_key(name) => {
                Err(templates.faulty().get(name).cloned().unwrap_or_default())
            }
            Boot::Script(name) if !templates.has(name) => look(name),
            boot => {
                boot.started().map_or(Ok(()), |(role, file)| look_for(file, Wanted::Start(role, on)))?;
                boot.named().into_iter().chain(boot.shim()).try_for_each(look)
            }
        }
    }

    /// That a kernel is none of Linux, in words.
    pub(super) fn other_than_linux(self, kernel: &str) -> Option<String> {
        self.unfit(kernel, Wanted::Linux)
    }

    /// That a kernel is for another processor than this, in words.
    pub(super) fn for_another_processor(self, kernel: &str, on: Loader) -> Option<String> {
        self.unfit(kernel, Wanted::For(on))
    }

    /// Whether an image is one of a floppy disk.
    pub(super) fn is_floppy(self, image: &str) -> bool {
        self.unfit(image, Wanted::HardDisk).is_some()
    }

    fn unfit(self, name: &str, wanted: Wanted) -> Option<String> {
        let looked = if is_remote(name) { Ok(()) } else { (self.0)(name, wanted) };
        // What keeps it from being read is said where the profile is looked at.
        looked.err().filter(|why| matches!(why, Reason::Unfit { .. })).map(|why| why.to_string())
    }

    /// What is wrong with files and folders that a template named by `asset()`.
    ///
    /// # Errors
    /// The first of the faults, in words.
    pub(super) fn look_at_named(self, names: impl IntoIterator<Item = String>) -> Result<(), String> {
        names
            .into_iter()
            .filter(|name| !is_remote(name))
            .try_for_each(|name| (self.0)(&name, Wanted::FileOrFolder).map_err(|why| format!("asset({name:?}): {why}")))
    }
}

/// All profiles that cannot boot, in the order of their names.
#[must_use]
pub fn faults(rules: &Rules, files: Files<'_>) -> Vec<ProfileFault> {
    let all = rules.profiles.iter().flat_map(|(name, profile)| {
        let fault_of = move |arch: Option<&str>, boot| {
            let rendered = || rules.rendered.fault(name, arch).map(str::to_owned);
            let assets = || {
                let named = rules.rendered.assets.get(&(name.clone(), arch.map(str::to_owned)))?;
                files.look_at_named(named.iter().cloned()).err()
            };
            files.look_at(boot, &rules.templates, None).err().or_else(rendered).or_else(assets)
        };
        let base = fault_of(None, &profile.boot);
        let base_fault = base.clone();
        // A variant that lacks the same file is not reported again beside its profile.
        let variants = profile.variants.iter().filter_map(move |(arch, boot)| {
            let fault = fault_of(Some(arch), boot).filter(|fault| Some(fault) != base_fault.as_ref())?;
            Some(ProfileFault::of(name, Some(arch), fault))
        });
        let base = base.map(|fault| ProfileFault::of(name, None, fault));
        base.into_iter().chain(variants)
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::boot::{
        machine::Rendered,
        profile::{Linux, Profile},
    };

    #[test]
    fn each_profile_has_its_own_fault_and_a_good_one_has_none() {
        let linux = |kernel: &str| {
            Boot::Linux(Linux {
                kernel: kernel.into(),
                initrd: vec!["initrd".into()],
                cmdline: String::new(),
                device_tree: None,
                shim: None,
            })
        };
        let mut with_variant = Profile::from(linux("good"));
        with_variant.variants = BTreeMap::from([("i386".into(), linux("gone"))]);
        let mut twice = Profile::from(linux("gone"));
        twice.variants = BTreeMap::from([("i386".into(), linux("gone"))]);
        let profiles = [
            ("good", Profile::from(linux("good"))),
            ("gone", twice),
            ("iso", Profile::from(Boot::Iso("gone".into()))),
            ("names", Profile::from(linux("good"))),
            ("none", Profile::from(Boot::Faulty("it names no kernel".into()))),
            ("template", Profile::from(linux("good"))),
            ("variant", with_variant),
        ];
        let profiles = profiles.into_iter().map(|(name, profile)| (name.to_owned(), profile)).collect();
        let fault = "the profile's template fails".to_owned();
        let rendered = Rendered {
            faults: vec![ProfileFault::of("template", None, fault)],
            assets: BTreeMap::from([(("names".into(), None), ["gone".into()].into())]),
            ..Rendered::default()
        };
        let rules = Rules { profiles, rendered, ..Rules::default() };
        let look = |file: &str, _| if file == "gone" { Err(Reason::not_found(file)) } else { Ok(()) };
        let words: Vec<String> = faults(&rules, Files(&look)).iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "profile gone cannot boot: there is no file gone",
                "profile iso cannot boot: there is no file gone",
                "profile names cannot boot: asset(\"gone\"): there is no file gone",
                "profile none cannot boot: it names no kernel",
                "profile template cannot boot: the profile's template fails",
                "profile variant cannot boot on i386: there is no file gone",
            ]
        );
    }
}
