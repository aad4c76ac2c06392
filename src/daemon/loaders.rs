//! Finds the iPXE binaries of this host, and signed sets of loaders.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::boot::{
    chain::{Lead, Set, Sets, file_names, is_shim_name, suffix},
    length,
    loader::{LOADER_NAMES, Loader, LoaderFile, LoaderName, Unfit},
    loaders::Loaders,
    program::Program,
    signed::{Unusable, sets_among},
};

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
    /// Its end is missing.
    #[error("the file {0}")]
    CutOff(String),
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
    let (sets, unusable) = find_sets(folders);
    for file in unusable {
        // Some names are those of both kinds of loader.
        if !rejected.iter().any(|known| known.path == file.path) {
            rejected.push(file);
        }
    }
    (Loaders::new(found).with(sets), rejected)
}

/// Each folder itself and those of iPXE's release in it, then the packages of shim and GRUB.
fn find_sets(folders: &[PathBuf]) -> (Sets, Vec<Rejected>) {
    let (mut sets, mut incomplete, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
    for place in folders.iter().flat_map(|folder| SET_FOLDERS.iter().map(|own| folder.join(own))) {
        let mut part = Part::default();
        let there: Vec<String> = fs::read_dir(&place).map_or_else(
            |_| Vec::new(),
            |entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
        );
        for loader in SET_LOADERS {
            file_names(*loader).iter().for_each(|name| part.read(&place.join(as_there(&there, name)), name, *loader));
        }
        let place = place.display().to_string();
        let (own, lacking) = sets_among(&part.files, &part.unusable, place.trim_end_matches('/'));
        sets.extend(own);
        incomplete.extend(lacking);
        sets.extend(part.files.into_iter().filter_map(unsigned_grub));
        rejected.extend(part.rejected);
    }
    for (loader, shim, signed, unsigned) in GRUB_PACKAGES {
        let read = |paths: &[&str]| {
            let mut part = Part::default();
            for path in paths.iter().map(Path::new) {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                part.read(path, name, *loader);
            }
            part
        };
        let (stages, alone) = (read(&[shim, signed]), read(&[unsigned]));
        sets.extend(sets_among(&stages.files, &stages.unusable, shim).0);
        sets.extend(alone.files.into_iter().filter_map(unsigned_grub));
        rejected.extend(stages.rejected.into_iter().chain(alone.rejected));
    }
    (Sets::new(sets, incomplete), rejected)
}

/// A name as the folder has it: GRUBX64.EFI, where it comes from a FAT file system.
fn as_there<'a>(there: &'a [String], name: &'a str) -> &'a str {
    let same = there.iter().find(|other| other.eq_ignore_ascii_case(name));
    if there.iter().any(|other| other == name) { name } else { same.map_or(name, String::as_str) }
}

/// The files of one folder that have the name of a loader of a set.
#[derive(Default)]
struct Part {
    files: Vec<LoaderFile>,
    unusable: Vec<Unusable>,
    /// Those of them that no set could use.
    rejected: Vec<Rejected>,
}

impl Part {
    fn read(&mut self, path: &Path, name: &str, loader: Loader) {
        let why = match read_as(path, name, loader) {
            Ok(Some(file)) if file.program.is_some() => return self.files.push(file),
            // Only the part of its header that names the processor was read until here.
            Ok(Some(_)) if is_shim_name(name) => Unfit::NotEfi.into(),
            Ok(_) => return,
            Err(why) => why,
        };
        let is_of_another = matches!(why, Reason::Unfit(Unfit::OtherMachine { .. }));
        self.unusable.push(Unusable { loader, name: name.to_owned(), why: why.to_string(), is_of_another });
        // A name that has no processor in it is that of another set's file too.
        if !is_of_another || name.contains(suffix(loader)) {
            self.rejected.push(Rejected { path: path.to_owned(), why });
        }
    }
}

/// GRUB that no shim starts: for machines without Secure Boot.
fn unsigned_grub(file: LoaderFile) -> Option<Set> {
    let is_grub = file.name.starts_with("grubnet") && !file.name.ends_with(".signed");
    is_grub.then(|| Set::served(file.loader, Lead::Grub, None, file))
}

const SET_LOADERS: &[Loader] = &[Loader::EfiX86_64, Loader::EfiArm64, Loader::EfiI386];
/// Below each folder: as an administrator copies the files, and as iPXE's release has them.
const SET_FOLDERS: &[&str] = &["", "x86_64-sb", "arm64-sb", "ipxeboot/x86_64-sb", "ipxeboot/arm64-sb"];
/// Of Debian's and Ubuntu's packages shim-signed, grub-efi-*-signed, and grub-efi-*-bin or grub-efi-*-unsigned.
const GRUB_PACKAGES: &[(Loader, &str, &str, &str)] = &[
    (
        Loader::EfiX86_64,
        "/usr/lib/shim/shimx64.efi.signed",
        "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
        "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi",
    ),
    (
        Loader::EfiArm64,
        "/usr/lib/shim/shimaa64.efi.signed",
        "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed",
        "/usr/lib/grub/arm64-efi/monolithic/grubnetaa64.efi",
    ),
];

/// What [`find`] reads in the folders that are there.
#[must_use]
pub fn paths(folders: &[PathBuf]) -> Vec<PathBuf> {
    let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).filter(|folder| folder.is_dir()).collect();
    let packages = PACKAGES.iter().map(Path::new).filter(|place| place.is_absolute() && place.is_dir());
    let all = folders.iter().copied().chain(packages);
    let loaders = all.flat_map(|folder| LOADER_NAMES.iter().map(|name| folder.join(name.path)));
    let places = folders.iter().flat_map(|folder| SET_FOLDERS.iter().map(|own| folder.join(own)));
    let names: Vec<String> = SET_LOADERS.iter().flat_map(|loader| file_names(*loader)).collect();
    let sets = places.flat_map(|place| names.iter().map(move |name| place.join(name)));
    let grub = grub_packages().filter(|path| path.parent().is_some_and(Path::is_dir));
    loaders.chain(sets).chain(grub.map(Path::to_owned)).collect()
}

/// The files of those packages, whether they are installed or not.
pub fn grub_packages() -> impl Iterator<Item = &'static Path> {
    GRUB_PACKAGES.iter().flat_map(|(_, shim, signed, unsigned)| [shim, signed, unsigned]).map(Path::new)
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
    read_as(path, name, loader)
}

fn read_as(path: &Path, name: &str, loader: Loader) -> Result<Option<LoaderFile>, Reason> {
    // A pipe would never end, and neither would a device.
    let regular = |metadata: fs::Metadata| match metadata.is_file() {
        true => fs::read(path),
        false => Err(io::Error::other("it is not a regular file")),
    };
    let bytes = match fs::metadata(path).and_then(regular) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    loader.check(&bytes)?;
    length::check(&bytes, bytes.len() as u64).map_err(Reason::CutOff)?;
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let (origin, program) = (path.display().to_string(), Program::of(&bytes));
    let (name, version, bytes) = (name.into(), version(&bytes), bytes.into());
    Ok(Some(LoaderFile { name, loader, version, origin, sha256, bytes, program }))
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
    use crate::boot::{loader::Loader, program};

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
        // One section of 4 KiB at 512, and no optional header.
        let mut short = efi(0x8664, "")[..0x46].to_vec();
        short.extend_from_slice(&1u64.to_le_bytes());
        short.resize(0x58 + 16, 0);
        short.extend_from_slice(&(512u64 << 32 | 4096).to_le_bytes());
        short.resize(0x58 + 40, 0);
        put("ipxe.efi", &short);
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
                format!("{}: it is a program for UEFI x86_64, not for UEFI i386", at("ipxe-i386.efi")),
                format!(
                    "{}: the file is cut off: it has 128 bytes, and its header says at least 4608: copy or download it again",
                    at("ipxe.efi")
                ),
            ]
        );
    }

    /// Every reason for which a file cannot be a shim is said, at the file and at the set that lacks it.
    #[test]
    fn a_shim_that_cannot_be_used_is_not_said_to_be_missing() {
        let program = |machine| program::tests::efi(machine, &["A"], program::tests::SHIM);
        let ipxe = program::tests::efi(0x8664, &["iPXE"], "ipxe,1,iPXE,ipxe,2.0.0,https://ipxe.org\n");
        let whole = program(0x8664);
        let cut = &whole[..whole.len() - 1];
        let cases: [(&str, &[u8], &str); 5] = [
            ("snponly-shimx64.efi", cut, "the file is cut off"),
            ("x86_64-sb/snponly-shim.efi", b"", "the file is empty"),
            ("snponly-shimx64.efi", b"<html>404</html>", "it is not an EFI program"),
            ("snponly-shimx64.efi", &program(0xaa64), "it is a program for UEFI arm64, not for UEFI x86_64"),
            ("snponly-shimx64.efi", &efi(0x8664, "")[..0x46], "it is not an EFI program"),
        ];
        for (name, bytes, why) in cases {
            let folder = tempfile::tempdir().expect("a folder");
            let shim = folder.path().join(name);
            fs::create_dir_all(shim.parent().expect("a folder")).expect("made");
            fs::write(&shim, bytes).expect("written");
            fs::write(shim.with_file_name("snponly.efi"), &ipxe).expect("written");
            let (loaders, rejected) = find(&[folder.path().to_owned()]);
            let missing: Vec<&str> = loaders.sets.incomplete.iter().map(|it| it.missing.as_str()).collect();
            let file = shim.file_name().and_then(|name| name.to_str()).expect("a name");
            let expected = format!("the shim beside it cannot be used: {file}: {why}");
            assert!(matches!(missing[..], [missing] if missing.contains(&expected)), "{missing:?}\n{expected}");
            let ignored = rejected.iter().filter(|file| file.path == shim && file.why.to_string().starts_with(why));
            assert_eq!(ignored.count(), 1, "{rejected:?}");
        }
    }

    #[test]
    fn a_file_of_another_processors_set_is_no_fault() {
        let folder = tempfile::tempdir().expect("a folder");
        let arm64 = folder.path().join("arm64-sb");
        fs::create_dir_all(&arm64).expect("made");
        let ipxe = program::tests::efi(0xaa64, &["iPXE"], "ipxe,1,iPXE,ipxe,2.0.0,https://ipxe.org\n");
        fs::write(arm64.join("snponly.efi"), ipxe).expect("written");
        fs::write(arm64.join("snponly-shim.efi"), program::tests::efi(0xaa64, &["A"], program::tests::SHIM))
            .expect("written");
        let (loaders, rejected) = find(&[folder.path().to_owned()]);
        // This host may have signed loaders of its own.
        let own = folder.path().display().to_string();
        let found = loaders.sets.iter().filter(|set| set.second.origin.starts_with(&own));
        assert_eq!((found.count(), loaders.sets.incomplete.len()), (1, 0));
        assert!(rejected.iter().all(|file| !file.path.starts_with(&arm64)), "{rejected:?}");
    }

    #[test]
    fn a_set_in_capital_letters_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let grub = program::tests::efi(0x8664, &["Debian"], "grub,5,FSF,grub,2.12,https://x\n");
        fs::write(folder.path().join("GRUBX64.EFI"), grub).expect("written");
        fs::write(folder.path().join("shimx64.efi"), program::tests::efi(0x8664, &["A"], program::tests::SHIM))
            .expect("written");
        let (loaders, _) = find(&[folder.path().to_owned()]);
        let own = folder.path().display().to_string();
        let found = loaders.sets.iter().filter(|set| set.lead == Lead::Grub && set.second.origin.starts_with(&own));
        assert_eq!(found.count(), 1);
    }

    #[test]
    fn a_device_of_a_loaders_name_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("snponly.efi")).expect("made");
        let (_, rejected) = find(&[folder.path().to_owned()]);
        let why: Vec<String> = rejected.iter().map(|rejected| rejected.why.to_string()).collect();
        assert!(why.iter().any(|why| why.ends_with("it is not a regular file")), "{why:?}");
    }
}
