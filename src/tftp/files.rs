//! Name → what is asked for.

use crate::boot::loader::{LoaderFile, Loaders};

/// What a file name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// A loader.
    Loader(&'a LoaderFile),
    /// `autoexec.ipxe`, which an iPXE for EFI looks for beside itself at every start.
    Autoexec,
    /// A path below the assets folder.
    Asset,
}

/// A file name as firmware sends it, with slashes for backslashes and without those at its start.
#[must_use]
pub fn normalised(name: &str) -> String {
    name.replace('\\', "/").trim_start_matches('/').to_owned()
}

/// Loaders and `autoexec.ipxe` go by their last part, since firmware and DHCP servers put all kinds of folders in
/// front of it.
#[must_use]
pub fn wanted<'a>(normalised: &str, loaders: &'a Loaders) -> Wanted<'a> {
    let last = normalised.rsplit('/').next().unwrap_or(normalised);
    match loaders.named(last) {
        Some(file) => Wanted::Loader(file),
        None if last == "autoexec.ipxe" => Wanted::Autoexec,
        None => Wanted::Asset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::loader::{Loader, tests::file};

    #[test]
    fn a_loader_is_found_behind_any_folder_and_the_rest_is_an_asset() {
        let loaders = Loaders::new(vec![file("snponly.efi", Loader::EfiX86_64)]);
        let kind = |name: &str| {
            let name = normalised(name);
            let kind = match wanted(&name, &loaders) {
                Wanted::Loader(file) => file.name.clone(),
                Wanted::Autoexec => "script".into(),
                Wanted::Asset => "asset".into(),
            };
            (name, kind)
        };
        for name in ["snponly.efi", "/snponly.efi", "\\boot\\snponly.efi", "//a/b/snponly.efi"] {
            assert_eq!(kind(name).1, "snponly.efi", "{name}");
        }
        assert_eq!(kind("\\efi\\autoexec.ipxe").1, "script");
        assert_eq!(kind("\\grub\\grub.cfg"), ("grub/grub.cfg".into(), "asset".into()));
    }
}
