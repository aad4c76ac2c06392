//! The loaders that there are, the preferred one of each kind first.

use super::{
    chain::{Lead, Set, Sets, Trust},
    loader::{Loader, LoaderFile},
};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaders {
    files: Vec<LoaderFile>,
    /// Those of two stages, and GRUB.
    pub sets: Sets,
}

impl Loaders {
    /// Takes files in order of preference; of several with one name the first is kept.
    #[must_use]
    pub fn new(files: Vec<LoaderFile>) -> Self {
        let mut kept: Vec<LoaderFile> = Vec::with_capacity(files.len());
        for file in files {
            if !kept.iter().any(|k| k.name == file.name) {
                kept.push(file);
            }
        }
        Self { files: kept, sets: Sets::default() }
    }

    /// The same with sets.
    #[must_use]
    pub fn with(self, sets: Sets) -> Self {
        Self { sets, ..self }
    }

    /// The file that firmware is offered first.
    #[must_use]
    pub fn start(&self, loader: Loader, lead: Lead, trust: Trust) -> Option<&LoaderFile> {
        let set = self.sets.of(loader, lead, trust).map(Set::first);
        set.or_else(|| self.of(loader).filter(|_| (lead, trust) == (Lead::Ipxe, Trust::Unsigned)))
    }

    /// The default file of a loader.
    #[must_use]
    pub fn of(&self, loader: Loader) -> Option<&LoaderFile> {
        self.files.iter().find(|file| file.loader == loader)
    }

    /// The file that is served under a name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&LoaderFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// The default file of a loader for a firmware that is an iPXE itself, and a weak one: its own UNDI, which undionly
    /// would drive the card through, is what it lacks.
    #[must_use]
    pub fn with_drivers(&self, loader: Loader) -> Option<&LoaderFile> {
        let own = self.files.iter().find(|file| file.loader == loader && file.name == "ipxe.pxe");
        own.or_else(|| self.of(loader))
    }

    /// All of them, and the stages of all sets.
    pub fn with_sets(&self) -> impl Iterator<Item = &LoaderFile> {
        self.files.iter().chain(self.sets.iter().flat_map(|set| set.shim.iter().chain([&set.second])))
    }

    /// All of them, without those of sets.
    pub fn iter(&self) -> impl Iterator<Item = &LoaderFile> {
        self.files.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::loader::tests::file;

    #[test]
    fn the_first_of_a_kind_is_its_default_and_the_first_of_a_name_is_kept() {
        let loaders = Loaders::new(vec![
            file("snponly.efi", Loader::EfiX86_64),
            file("ipxe.efi", Loader::EfiX86_64),
            file("snponly.efi", Loader::EfiArm64),
        ]);
        assert_eq!(loaders.of(Loader::EfiX86_64).map(|f| f.name.as_str()), Some("snponly.efi"));
        assert_eq!(loaders.of(Loader::EfiArm64), None);
        assert_eq!(loaders.named("ipxe.efi").map(|f| f.loader), Some(Loader::EfiX86_64));
        assert_eq!(loaders.with_drivers(Loader::EfiX86_64), loaders.of(Loader::EfiX86_64));
        let bios = Loaders::new(vec![file("undionly.kpxe", Loader::Bios), file("ipxe.pxe", Loader::Bios)]);
        assert_eq!(bios.of(Loader::Bios).map(|f| f.name.as_str()), Some("undionly.kpxe"));
        assert_eq!(bios.with_drivers(Loader::Bios).map(|f| f.name.as_str()), Some("ipxe.pxe"));
    }
}
