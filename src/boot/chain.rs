//! Loaders of two stages: a shim that firmware trusts, and the signed iPXE or GRUB that it starts.
//!
//! A shim asks for its second stage in its own folder. iPXE's takes its own file name without `-shim` and what follows
//! it; a distribution's takes `grubx64.efi` (shim, netboot.c and httpboot.c; ipxe/shim, `load-options.c`). So the files
//! of a set are served from a folder of their own, under names by which each kind of shim finds the other file.

use super::{
    loader::{Loader, LoaderFile},
    program::{Kind, Sbat},
};

/// Whether a machine is offered signed loaders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trust {
    /// A signed set, where there is one: it also starts with Secure Boot off.
    #[default]
    Signed,
    /// The loader without a shim.
    Unsigned,
}

impl Trust {
    /// Name in the state and the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Unsigned => "unsigned",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Signed, Self::Unsigned].into_iter().find(|trust| trust.name() == name)
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Signed => Self::Unsigned,
            Self::Unsigned => Self::Signed,
        }
    }
}

/// Which program a machine's boot is led by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// iPXE.
    Ipxe,
    /// GRUB.
    Grub,
}

impl Lead {
    /// The program that a set ends with.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Ipxe => Kind::Ipxe,
            Self::Grub => Kind::Grub,
        }
    }

    /// As people call it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Ipxe => "iPXE",
            Self::Grub => "GRUB",
        }
    }
}

/// Loaders that are served from one folder: a signed set, or GRUB alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The firmware that runs it.
    pub loader: Loader,
    /// What it starts in the end.
    pub lead: Lead,
    /// The first stage; none: the second stage is not signed, and firmware starts it itself.
    pub shim: Option<LoaderFile>,
    /// iPXE or GRUB.
    pub second: LoaderFile,
}

/// Files that could be a signed set, and what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// The firmware that would run it.
    pub loader: Loader,
    /// What it would start; none: the other files do not say, or there is no other set.
    pub lead: Option<Lead>,
    /// The folder on this host.
    pub place: String,
    /// What is missing, and the fix.
    pub missing: String,
}

impl Incomplete {
    /// `signed`, or `signed iPXE` where there is a signed GRUB.
    #[must_use]
    pub fn title(&self) -> String {
        self.lead.map_or_else(|| "signed".into(), |lead| format!("signed {}", lead.title()))
    }
}

impl Set {
    /// The file that firmware is offered.
    #[must_use]
    pub fn first(&self) -> &LoaderFile {
        self.shim.as_ref().unwrap_or(&self.second)
    }

    /// Whether it is signed.
    #[must_use]
    pub fn trust(&self) -> Trust {
        if self.shim.is_some() { Trust::Signed } else { Trust::Unsigned }
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &LoaderFile> {
        self.shim.iter().chain([&self.second])
    }

    /// The file for a name in its folder. A shim that was given another name asks for its default second stage.
    fn file(&self, name: &str) -> Option<&LoaderFile> {
        let exact = self.files().find(|file| last_part(&file.name).eq_ignore_ascii_case(name));
        let defaults = ["ipxe.efi".to_owned(), format!("grub{}.efi", suffix(self.loader))];
        exact.or_else(|| self.shim.is_some().then_some(&self.second).filter(|_| is_one_of(name, &defaults)))
    }

    /// Why its second stage cannot boot a machine of ours, and the fix.
    #[must_use]
    pub fn limit(&self) -> Option<&'static str> {
        (self.lead == Lead::Grub).then(|| grub_limit(&self.second)).flatten()
    }

    /// With the names that the files are served under.
    #[must_use]
    pub fn served(loader: Loader, lead: Lead, shim: Option<LoaderFile>, second: LoaderFile) -> Self {
        let (folder, suffix) = (folder(loader, lead), suffix(loader));
        let (first_name, second_name) = match lead {
            Lead::Ipxe => {
                let stem = if second.name.starts_with("snponly") { "snponly" } else { "ipxe" };
                (format!("{stem}-shim{suffix}.efi"), format!("{stem}.efi"))
            }
            Lead::Grub if shim.is_none() => (String::new(), format!("grubnet{suffix}.efi")),
            Lead::Grub => (format!("shim{suffix}.efi"), format!("grub{suffix}.efi")),
        };
        let named = |file: LoaderFile, name: String| LoaderFile { name: format!("{folder}/{name}"), ..file };
        let shim = shim.map(|shim| named(shim, first_name));
        Self { loader, lead, shim, second: named(second, second_name) }
    }
}

/// The sets of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    sets: Vec<Set>,
    /// Those that lack something.
    pub incomplete: Vec<Incomplete>,
}

impl Sets {
    /// In order of preference: of several for one purpose the first is kept.
    #[must_use]
    pub fn new(sets: Vec<Set>, incomplete: Vec<Incomplete>) -> Self {
        let mut kept: Vec<Set> = Vec::new();
        for set in sets {
            if !kept.iter().any(|k| (k.loader, k.lead, k.trust()) == (set.loader, set.lead, set.trust())) {
                kept.push(set);
            }
        }
        Self { sets: kept, incomplete }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Set> {
        self.sets.iter()
    }

    /// The set for a purpose.
    #[must_use]
    pub fn of(&self, loader: Loader, lead: Lead, trust: Trust) -> Option<&Set> {
        self.sets.iter().find(|set| (set.loader, set.lead, set.trust()) == (loader, lead, trust))
    }

    /// The set that a machine is offered first.
    #[must_use]
    pub fn offered(&self, loader: Loader, lead: Lead) -> Option<&Set> {
        self.of(loader, lead, Trust::Signed).or_else(|| self.of(loader, lead, Trust::Unsigned))
    }

    /// The file for a path in the folder of a set: `None` if it is in no such folder, and `Some(None)` if the set has no
    /// such file, whatever other folders have.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Option<&LoaderFile>> {
        let (folder, name) = path.rsplit_once('/')?;
        let own = folder.trim_end_matches('/').rsplit('/').next()?;
        let mut there =
            self.sets.iter().filter(|set| own.eq_ignore_ascii_case(self::folder(set.loader, set.lead))).peekable();
        there.peek()?;
        Some(there.find_map(|set| set.file(name)))
    }

    /// Whether a name is the first file of a signed set.
    #[must_use]
    pub fn is_shim(&self, name: &str) -> bool {
        self.sets.iter().any(|set| set.shim.as_ref().is_some_and(|shim| shim.name == name))
    }
}

/// The folder that a set is served from.
fn folder(loader: Loader, lead: Lead) -> &'static str {
    match (loader, lead) {
        (Loader::EfiArm64, Lead::Ipxe) => "arm64-sb",
        (Loader::EfiArm64, Lead::Grub) => "arm64-grub",
        (Loader::EfiI386, Lead::Ipxe) => "i386-sb",
        (Loader::EfiI386, Lead::Grub) => "i386-grub",
        (_, Lead::Ipxe) => "x86_64-sb",
        (_, Lead::Grub) => "x86_64-grub",
    }
}

/// How UEFI abbreviates a processor in names of boot files (UEFI 2.10 §3.5.1.1); empty where nothing is signed for it.
#[must_use]
pub fn suffix(loader: Loader) -> &'static str {
    match loader {
        Loader::EfiX86_64 => "x64",
        Loader::EfiArm64 => "aa64",
        Loader::EfiI386 => "ia32",
        _ => "",
    }
}

/// The files by which a set is known, below a folder.
#[must_use]
pub fn file_names(loader: Loader) -> Vec<String> {
    let a = suffix(loader);
    let signed = [format!("shim{a}.efi"), format!("shim{a}.efi.signed"), format!("grubnet{a}.efi.signed")];
    let ipxe =
        ["snponly-shim", "ipxe-shim"].into_iter().flat_map(|stem| [format!("{stem}{a}.efi"), format!("{stem}.efi")]);
    let second = ["snponly.efi".into(), "ipxe.efi".into(), format!("grubnet{a}.efi"), format!("grub{a}.efi")];
    ipxe.chain(signed).chain(second).collect()
}

/// Why a GRUB cannot boot a machine of ours, and the fix. Its configuration fetches the machine's script by HTTP.
fn grub_limit(grub: &LoaderFile) -> Option<&'static str> {
    // The module holds the first line of its requests, as plain text (grub-core/net/http.c).
    if grub.bytes.windows(HTTP.len()).any(|part| part == HTTP) {
        return None;
    }
    let is_debian_12 = |sbat: &Sbat| sbat.component == "grub.debian" && sbat.version.starts_with("2.06");
    let is_debian_12 = grub.program.iter().flat_map(|program| &program.sbat).any(is_debian_12);
    if !is_debian_12 && has_compressed_modules(&grub.bytes) {
        return None;
    }
    Some(match is_debian_12 {
        true => {
            "GRUB 2.06 (Debian 12) does not read a proxy's offer and has no http module: use GRUB 2.12 of Debian 13 or Ubuntu 24.04"
        }
        false => {
            "this GRUB has no http module, so it cannot fetch its script: use GRUB 2.12 of Debian 13 or Ubuntu 24.04"
        }
    })
}

const HTTP: &[u8] = b"HTTP/1.";

/// Whether it brings modules in an archive where they are compressed (grub-mkstandalone, `--compress`): then nobody sees
/// which ones they are.
fn has_compressed_modules(grub: &[u8]) -> bool {
    let has = |wanted: &[u8]| grub.windows(wanted.len()).any(|part| part == wanted);
    // POSIX tar; the magics of xz, gzip and lzop.
    has(b"ustar") && has(b".mod") && [&b"\xfd7zXZ\0"[..], b"\x1f\x8b\x08", b"\x89LZO\0"].into_iter().any(has)
}

/// Whether a file name is a shim's.
#[must_use]
pub fn is_shim_name(name: &str) -> bool {
    let name = last_part(name).to_ascii_lowercase();
    name.starts_with("shim") || name.contains("-shim") || ["bootx64.efi", "bootaa64.efi"].contains(&name.as_str())
}

fn last_part(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

fn is_one_of(name: &str, names: &[String]) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::boot::{
        loader::tests::file,
        program::{
            Program,
            tests::{SHIM, efi},
        },
        signed::sets_among,
    };

    pub(crate) const IPXE: &str = "ipxe,1,iPXE,ipxe,2.0.0,https://ipxe.org\n";
    pub(crate) const GRUB: &str = "grub,5,FSF,grub,2.12,https://x\n";

    pub(crate) fn program(name: &str, signers: &[&str], sbat: &str) -> LoaderFile {
        LoaderFile { program: Program::of(&efi(0x8664, signers, sbat)), ..file(name, Loader::EfiX86_64) }
    }

    pub(crate) fn ipxe_set() -> Set {
        let files = [program("ipxe-shim.efi", &["Microsoft"], SHIM), program("snponly.efi", &["iPXE"], IPXE)];
        sets_among(&files, &[], "/d").0.remove(0)
    }

    pub(crate) fn grub_set(shim: bool) -> Set {
        let shim = shim.then(|| program("shimx64.efi.signed", &["Microsoft"], SHIM));
        let second = program("grubnetx64.efi.signed", &["Debian"], GRUB);
        let second = LoaderFile { bytes: Bytes::from_static(b"HTTP/1.1"), ..second };
        Set::served(Loader::EfiX86_64, Lead::Grub, shim, second)
    }

    #[test]
    fn a_grub_that_cannot_fetch_its_script_is_known() {
        let with = |bytes: &'static [u8], sbat: &str| {
            let second = LoaderFile { bytes: Bytes::from_static(bytes), ..program("grubnetx64.efi", &[], sbat) };
            Set::served(Loader::EfiX86_64, Lead::Grub, None, second).limit()
        };
        let debian_12 = "grub,5,FSF,grub,2.06,https://x\ngrub.debian,5,Debian,grub2,2.06-13+deb12u2,https://x\n";
        assert!(with(b"\0TFTP\0", debian_12).is_some_and(|limit| limit.starts_with("GRUB 2.06 (Debian 12)")));
        assert!(with(b"\0TFTP\0", GRUB).is_some_and(|limit| limit.starts_with("this GRUB has no http module")));
        assert_eq!(with(b"\0GET %s HTTP/1.1\r\n\0", GRUB), None);
        // grub-mkstandalone --compress=xz: nobody sees which modules these are.
        assert_eq!(with(b"boot/grub/http.mod\0ustar  \0\xfd7zXZ\0", GRUB), None);
        assert_eq!(ipxe_set().limit(), None);
    }

    /// ipxe/shim: the file's own name less `-shim` and the processor; a distribution's shim: `grubx64.efi`, with two
    /// slashes by HTTP.
    #[test]
    fn the_second_stage_is_found_in_its_own_folder_and_never_elsewhere() {
        let sets = Sets::new(vec![ipxe_set(), grub_set(true), grub_set(false)], vec![]);
        let find = |path: &str| sets.find(path).map(|file| file.map(|file| file.name.as_str()));
        let snponly = Some(Some("x86_64-sb/snponly.efi"));
        for path in ["x86_64-sb/snponly.efi", "x86_64-sb//grubx64.efi", "x86_64-sb/ipxe.efi", "a/X86_64-SB/SNPONLY.EFI"]
        {
            assert_eq!(find(path), snponly, "{path}");
        }
        assert_eq!(find("x86_64-grub//grubx64.efi"), Some(Some("x86_64-grub/grubx64.efi")));
        assert_eq!(find("x86_64-grub/grubnetx64.efi"), Some(Some("x86_64-grub/grubnetx64.efi")));
        assert_eq!(find("x86_64-sb/mmx64.efi"), Some(None));
        for path in ["snponly.efi", "arm64-sb/snponly.efi", "sb/snponly.efi"] {
            assert_eq!(find(path), None, "{path}");
        }
        for set in sets.iter() {
            assert!(set.files().all(|file| file.name.len() < 128));
        }
    }
}
