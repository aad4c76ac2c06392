//! Finds the iPXE binaries of this host.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::boot::loader::{LOADER_NAMES, LoaderFile, LoaderName, Loaders, Unfit};

/// A file with a loader's name that is none.
#[derive(Debug)]
pub struct Rejected {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: Reason,
}

/// Why a file is no loader.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// Its contents.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
}

/// Looks in the given folders, then in the places of the distributions' packages.
#[must_use]
pub fn find(folders: &[PathBuf]) -> (Loaders, Vec<Rejected>) {
    let mut found = Vec::new();
    let mut rejected = Vec::new();
    let places = PACKAGES.iter().map(PathBuf::from);
    for folder in folders.iter().cloned().chain(places) {
        for name in LOADER_NAMES {
            let path = folder.join(name.path);
            match read(&path, *name) {
                Ok(Some(file)) => found.push(file),
                Ok(None) => {}
                Err(why) => rejected.push(Rejected { path, why }),
            }
        }
    }
    (Loaders::new(found), rejected)
}

/// What links among them lead to: Debian keeps one of its loaders in `/boot`.
#[must_use]
pub fn behind_links(folders: &[PathBuf]) -> Vec<PathBuf> {
    let folders = folders.iter().cloned().chain(PACKAGES.iter().map(PathBuf::from));
    let paths = folders.flat_map(|folder| LOADER_NAMES.iter().map(move |name| folder.join(name.path)));
    paths.filter(|path| path.is_symlink()).filter_map(|path| path.canonicalize().ok()).collect()
}

/// The folders that are searched after those of the configuration.
pub const PACKAGES: &[&str] = &["/usr/lib/ipxe", "/usr/share/ipxe", "assets/loaders"];

/// Reads a loader by its path; none where there is no such file.
///
/// # Errors
/// That it cannot be read, or is something else than its name says.
pub fn read(path: &Path, LoaderName { name, loader, .. }: LoaderName) -> Result<Option<LoaderFile>, Reason> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    loader.check(&bytes)?;
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let origin = path.display().to_string();
    Ok(Some(LoaderFile { name: name.into(), loader, version: version(&bytes), origin, sha256, bytes: bytes.into() }))
}

/// iPXE's version, which stands as plain text between NULs in its EFI builds (`1.0.0+git-20190125.36a4c85-5.1`,
/// `1.21.1+ (g83449)`, `2.0.0`; core/version.c).
fn version(bytes: &[u8]) -> Option<String> {
    let is_version = |text: &&str| {
        let mut numbers = text.split('.').map(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        (5..=60).contains(&text.len())
            && numbers.by_ref().take(3).filter(|is_number| *is_number).count() == 3
            && text.starts_with(['1', '2'])
            && text.chars().all(|c| c.is_ascii_alphanumeric() || ".+-()~ ".contains(c))
    };
    bytes.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok()).find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::loader::Loader;

    fn efi(machine: u16, version: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x40];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes.extend_from_slice(b"PE\0\0");
        bytes.extend_from_slice(&machine.to_le_bytes());
        bytes.extend_from_slice(format!("\0iPXE\x000.1.2.3\0{version}\0").as_bytes());
        bytes
    }

    #[test]
    fn loaders_are_found_checked_and_described() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, bytes).expect("written");
        };
        put("snponly.efi", &efi(0x8664, "1.0.0+git-20190125.36a4c85-5.1"));
        put("arm64-efi/snponly.efi", &efi(0xaa64, "2.0.0"));
        put("ipxe-i386.efi", &efi(0x8664, "1.21.1"));
        put("undionly.kpxe", b"");
        let (loaders, rejected) = find(&[folder.path().to_owned()]);
        let x64 = loaders.of(Loader::EfiX86_64).expect("found");
        assert_eq!(x64.version.as_deref(), Some("1.0.0+git-20190125.36a4c85-5.1"));
        assert_eq!(x64.origin, folder.path().join("snponly.efi").display().to_string());
        assert_eq!(x64.sha256.len(), 64);
        let arm = loaders.of(Loader::EfiArm64).expect("found");
        assert_eq!((arm.name.as_str(), arm.version.as_deref()), ("snponly-arm64.efi", Some("2.0.0")));
        let reasons: Vec<String> = rejected.iter().map(|r| format!("{}: {}", r.path.display(), r.why)).collect();
        let at = |name: &str| folder.path().join(name).display().to_string();
        assert_eq!(
            reasons,
            [
                format!("{}: the file is empty", at("undionly.kpxe")),
                format!("{}: it is an EFI program for machine type 0x8664, not 0x014c", at("ipxe-i386.efi")),
            ]
        );
    }
}
