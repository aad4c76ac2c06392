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
    fn kind(self) -> Kind {
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

/// A file with the name of a loader of a set, which cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The firmware that would run it.
    pub loader: Loader,
    /// The file's name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// Whether it is a whole program, for another processor.
    pub is_of_another: bool,
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

    /// The sets among the files of one folder, and what keeps others from being one. `place` is the folder, and `unusable`
    /// are the other files in it.
    #[must_use]
    pub fn among(files: &[LoaderFile], unusable: &[Unusable], place: &str) -> (Vec<Self>, Vec<Incomplete>) {
        let (mut sets, mut incomplete) = (Vec::new(), Vec::new());
        for loader in Loader::ALL.into_iter().filter(|loader| !suffix(*loader).is_empty()) {
            let own: Vec<&LoaderFile> = files.iter().filter(|file| file.loader == loader).collect();
            let found: Vec<Self> =
                [Lead::Ipxe, Lead::Grub].into_iter().filter_map(|lead| Self::of(loader, lead, &own)).collect();
            let (has_grub, has_any) = (found.iter().all(|set| set.lead == Lead::Grub), !found.is_empty());
            // A complete set of GRUB does not make up for one of iPXE: what belongs to that alone is looked at by itself.
            let (lead, part) = match (has_any, has_grub) {
                (false, _) => (None, own),
                (true, true) => (Some(Lead::Ipxe), part_of_ipxe(&own)),
                (true, false) => (None, Vec::new()),
            };
            if let Some(missing) = missing(loader, &part, if has_any { &[] } else { unusable }) {
                incomplete.push(Incomplete { loader, lead, place: place.to_owned(), missing });
            }
            sets.extend(found);
        }
        (sets, incomplete)
    }

    fn of(loader: Loader, lead: Lead, files: &[&LoaderFile]) -> Option<Self> {
        let is_second =
            |file: &&&LoaderFile| is_signed(file) && kind(file) == Some(lead.kind()) && !is_shim_name(&file.name);
        let mut seconds: Vec<&LoaderFile> = files.iter().filter(is_second).copied().collect();
        // The same preference as among unsigned loaders; GRUB's netboot image has what the network needs.
        seconds.sort_by_key(|file| !file.name.starts_with("snponly") && !file.name.starts_with("grubnet"));
        let second = *seconds.first()?;
        let shims = || files.iter().filter(|file| is_signed(file) && kind(file) == Some(Kind::Shim));
        let stem = second.name.split('.').next().unwrap_or_default();
        let shim = shims().find(|file| file.name.starts_with(stem)).or_else(|| shims().next())?;
        Some(Self::served(loader, lead, Some((*shim).clone()), second.clone()))
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

/// What shim, and GRUB behind it, ask for and need not find.
#[must_use]
pub fn is_probe(path: &str) -> bool {
    is_shim_probe(path) || is_grub_probe(path)
}

/// Lists of revocations, certificates, MokManager (shim, `load_certs`, `start_image`).
#[must_use]
pub fn is_shim_probe(path: &str) -> bool {
    let name = last_part(path).to_ascii_lowercase();
    let is_of_shim = ["revocations", "shim_certificate"].iter().any(|start| name.starts_with(start))
        || ["mmx64.efi", "mmaa64.efi", "mmia32.efi"].contains(&name.as_str());
    is_of_shim && name.ends_with(".efi")
}

/// Lists of modules, fonts, languages, and configurations of one machine (grub-core/normal/main.c).
fn is_grub_probe(path: &str) -> bool {
    let path = path.replace('\\', "/").to_ascii_lowercase();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    let is_in_grub = folder.split('/').any(|part| part == "grub" || part == "grub2");
    is_in_grub
        && (name.ends_with(".lst")
            || name.ends_with(".mod")
            || name.starts_with("grub.cfg")
            || name.ends_with(".pf2")
            || folder.ends_with("locale")
            || name.ends_with(".gmo"))
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

/// The files that someone put there for a signed iPXE, and not for GRUB alone: its own shim, or a signed second stage for
/// any shim.
fn part_of_ipxe<'a>(files: &[&'a LoaderFile]) -> Vec<&'a LoaderFile> {
    let is_named = |file: &LoaderFile| ["snponly", "ipxe"].iter().any(|stem| file.name.starts_with(stem));
    let is_signed_second = |file: &&LoaderFile| is_named(file) && is_signed(file) && !is_shim_name(&file.name);
    let has_second = files.iter().copied().any(|file| is_signed_second(&file));
    let is_part = |file: &&LoaderFile| is_named(file) || has_second && kind(file) == Some(Kind::Shim);
    files.iter().copied().filter(is_part).collect()
}

/// What a folder with a part of a set lacks, or what is wrong with that part.
fn missing(loader: Loader, files: &[&LoaderFile], unusable: &[Unusable]) -> Option<String> {
    let is_shim = |file: &LoaderFile| is_shim_name(&file.name) || kind(file) == Some(Kind::Shim);
    let (shims, seconds): (Vec<&LoaderFile>, Vec<&LoaderFile>) = files.iter().copied().partition(|file| is_shim(file));
    let signed = seconds.iter().find(|file| is_signed(file));
    let unusable = |shim: bool| unusable.iter().filter(move |it| it.loader == loader && is_shim_name(&it.name) == shim);
    let good = shims.iter().find(|file| is_signed(file) && kind(file) == Some(Kind::Shim));
    let Some(shim) = good.or(shims.first()) else {
        let second = signed?;
        let name = &second.name;
        if let Some(Unusable { name: shim, why, .. }) = unusable(true).next() {
            let get = shim_source(second);
            return Some(format!(
                "{name} is signed, but the shim beside it cannot be used: {shim}: {why}; a good one is {get}"
            ));
        }
        let (suffix, get) = (suffix(loader), shim_source(second));
        let shim = match kind(second)? {
            Kind::Grub => format!("shim{suffix}.efi"),
            Kind::Ipxe | Kind::Shim => format!("snponly-shim{suffix}.efi"),
        };
        return Some(format!("{name} is signed, but there is no shim beside it: put {shim} there ({get})"));
    };
    if let Some(fault) = shim_fault(shim) {
        let get = seconds.first().map_or(GET, |second| shim_source(second));
        return Some(format!("{} {fault}: replace it ({get})", shim.name));
    }
    if let Some(second) = signed {
        return Some(refused(second, shim));
    }
    // A program for another processor may be the second stage of another set.
    let damaged = unusable(false).find(|it| !it.is_of_another || seconds.is_empty());
    if let Some(Unusable { name, why, .. }) = damaged {
        let shim = &shim.name;
        return Some(format!("the second stage for {shim} cannot be used: {name}: {why}; a good one is {GET}"));
    }
    let second = seconds.iter().find(|file| kind(file).is_some()).or(seconds.first());
    Some(match second {
        Some(second) => refused(second, shim),
        None => format!("{} has no second stage beside it: put a signed snponly.efi there ({GET})", shim.name),
    })
}

/// Why a file with a shim's name does not start a second stage under Secure Boot.
fn shim_fault(shim: &LoaderFile) -> Option<&'static str> {
    match kind(shim) {
        _ if !is_signed(shim) => Some("is not signed, so firmware with Secure Boot refuses it"),
        Some(Kind::Shim) => None,
        Some(Kind::Ipxe) => Some("is iPXE, not a shim"),
        Some(Kind::Grub) => Some("is GRUB, not a shim"),
        // Shim 15.3 of 2021 is the first with it. Those before it are revoked.
        None if has_no_sbat(shim) => Some("has no .sbat section: it is not a shim, or it is one from before 2021"),
        None => Some("is not a shim: its .sbat section does not name one"),
    }
}

/// Why a shim does not start this second stage, and the fix.
fn refused(second: &LoaderFile, shim: &LoaderFile) -> String {
    let (name, shim, has_no_sbat) = (&second.name, &shim.name, has_no_sbat(second));
    match is_signed(second) {
        true if has_no_sbat && name.starts_with("grub") => format!(
            "{name} is signed, but it has no .sbat section, so {shim} refuses it: use GRUB of Debian 13 or Ubuntu 24.04"
        ),
        true if has_no_sbat => format!(
            "{name} is signed, but it has no .sbat section, so {shim} refuses it: replace it by a signed one ({GET}), or sign \
             the iPXE of Debian 13, which has that section"
        ),
        true => format!(
            "{name} is signed, but its .sbat section names neither iPXE nor GRUB: replace it by a signed iPXE ({GET})"
        ),
        // To sign it would not help.
        false if has_no_sbat => format!(
            "{name} is not signed and has no .sbat section, so {shim} refuses it: replace it by a signed one ({GET})"
        ),
        false => format!(
            "{name} is not signed, so {shim} refuses it: replace it by a signed one ({GET}), or sign it with sbsign"
        ),
    }
}

/// Where the shim for a second stage is available.
fn shim_source(second: &LoaderFile) -> &'static str {
    if second.name.starts_with("grub") { "in the package shim-signed" } else { GET }
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

/// Where signed loaders are available.
pub const GET: &str = "in ipxeboot.tar.gz of github.com/ipxe/ipxe/releases, folders x86_64-sb and arm64-sb";

fn kind(file: &LoaderFile) -> Option<Kind> {
    file.program.as_ref()?.kind()
}

fn is_signed(file: &LoaderFile) -> bool {
    file.program.as_ref().is_some_and(super::program::Program::is_signed)
}

/// A shim refuses a second stage without revocation generations (shim, sbat.c, `verify_sbat_section`).
fn has_no_sbat(file: &LoaderFile) -> bool {
    file.program.as_ref().is_none_or(|program| program.sbat.is_empty())
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
    };

    const IPXE: &str = "ipxe,1,iPXE,ipxe,2.0.0,https://ipxe.org\n";
    const GRUB: &str = "grub,5,FSF,grub,2.12,https://x\n";

    fn program(name: &str, signers: &[&str], sbat: &str) -> LoaderFile {
        LoaderFile { program: Program::of(&efi(0x8664, signers, sbat)), ..file(name, Loader::EfiX86_64) }
    }

    pub(crate) fn ipxe_set() -> Set {
        let files = [program("ipxe-shim.efi", &["Microsoft"], SHIM), program("snponly.efi", &["iPXE"], IPXE)];
        Set::among(&files, &[], "/d").0.remove(0)
    }

    pub(crate) fn grub_set(shim: bool) -> Set {
        let shim = shim.then(|| program("shimx64.efi.signed", &["Microsoft"], SHIM));
        let second = program("grubnetx64.efi.signed", &["Debian"], GRUB);
        let second = LoaderFile { bytes: Bytes::from_static(b"HTTP/1.1"), ..second };
        Set::served(Loader::EfiX86_64, Lead::Grub, shim, second)
    }

    fn names(sets: &[Set]) -> Vec<&str> {
        sets.iter().flat_map(|set| set.files().map(|file| file.name.as_str())).collect()
    }

    #[test]
    fn a_shim_and_a_signed_second_stage_are_a_set() {
        let shim = |name: &str| program(name, &["Microsoft"], SHIM);
        let ipxe = |name: &str| program(name, &["iPXE"], IPXE);
        let snponly = ["x86_64-sb/snponly-shimx64.efi", "x86_64-sb/snponly.efi"];
        for files in [
            // The release's folder, a FOG server's, one file renamed by hand.
            vec![
                shim("ipxe-shim.efi"),
                shim("shimx64.efi"),
                shim("snponly-shim.efi"),
                ipxe("ipxe.efi"),
                ipxe("snponly.efi"),
            ],
            vec![shim("snponly-shimx64.efi"), ipxe("snponly.efi")],
            vec![shim("shimx64.efi"), ipxe("snponly.efi")],
        ] {
            let (sets, incomplete) = Set::among(&files, &[], "/d");
            assert_eq!((names(&sets), incomplete), (snponly.to_vec(), vec![]));
        }
        let only_ipxe = Set::among(&[shim("shimx64.efi"), ipxe("ipxe.efi")], &[], "/d").0;
        assert_eq!(names(&only_ipxe), ["x86_64-sb/ipxe-shimx64.efi", "x86_64-sb/ipxe.efi"]);
        let grub =
            Set::among(&[shim("shimx64.efi.signed"), program("grubnetx64.efi.signed", &["D"], GRUB)], &[], "/d").0;
        assert_eq!(names(&grub), ["x86_64-grub/shimx64.efi", "x86_64-grub/grubx64.efi"]);
    }

    #[test]
    fn what_a_set_lacks_is_said() {
        let lacks = |files: &[LoaderFile]| {
            let (sets, incomplete) = Set::among(files, &[], "/d");
            assert!(sets.is_empty(), "{sets:?}");
            incomplete.into_iter().map(|it| it.missing).collect::<Vec<_>>().join("; ")
        };
        let shim = program("shimx64.efi", &["Microsoft"], SHIM);
        let unsigned = program("snponly.efi", &[], IPXE);
        assert!(
            lacks(&[shim.clone(), unsigned.clone()])
                .starts_with("snponly.efi is not signed, so shimx64.efi refuses it")
        );
        assert!(lacks(&[shim]).starts_with("shimx64.efi has no second stage beside it"));
        assert!(
            lacks(&[program("snponly.efi", &["iPXE"], IPXE)]).contains("no shim beside it: put snponly-shimx64.efi")
        );
        assert!(lacks(&[program("shimx64.efi", &[], SHIM), unsigned.clone()]).starts_with("shimx64.efi is not signed"));
        assert_eq!(lacks(&[unsigned]), "", "that is no set and need not be one");
        assert!(
            lacks(&[program("grubx64.efi", &["Debian"], GRUB)])
                .ends_with("there is no shim beside it: put shimx64.efi there (in the package shim-signed)")
        );
    }

    #[test]
    fn a_complete_grub_does_not_hide_what_an_ipxe_set_lacks() {
        let grub = [program("shimx64.efi", &["Microsoft"], SHIM), program("grubx64.efi", &["Debian"], GRUB)];
        let lacks = |more: &[LoaderFile]| {
            let (sets, incomplete) = Set::among(&[&grub, more].concat(), &[], "/d");
            assert_eq!(sets.iter().map(|set| set.lead).collect::<Vec<_>>(), [Lead::Grub]);
            incomplete.into_iter().map(|it| format!("{}: {}", it.title(), it.missing)).collect::<Vec<_>>().join("; ")
        };
        let shim = program("snponly-shimx64.efi", &["Microsoft"], SHIM);
        let unsigned = program("snponly.efi", &[], IPXE);
        assert_eq!(lacks(&[]), "");
        assert_eq!(lacks(std::slice::from_ref(&unsigned)), "", "the usual loader is no part of a set");
        assert!(lacks(&[shim.clone(), unsigned]).starts_with("signed iPXE: snponly.efi is not signed"));
        assert!(lacks(&[shim]).starts_with("signed iPXE: snponly-shimx64.efi has no second stage beside it"));
        let refused = "signed iPXE: snponly.efi is signed, but it has no .sbat section";
        let said = lacks(&[program("snponly.efi", &["lab"], "")]);
        assert!(said.starts_with(refused), "{said}");
    }

    /// A file that is there is never said to be missing, and a signed one never to be unsigned.
    #[test]
    fn what_is_wrong_with_a_file_of_a_set_is_said() {
        let shim = program("snponly-shimx64.efi", &["Microsoft"], SHIM);
        let ipxe = program("snponly.efi", &["iPXE"], IPXE);
        let unusable = |name: &str, is_of_another| Unusable {
            loader: Loader::EfiX86_64,
            name: name.into(),
            why: "the file is empty".into(),
            is_of_another,
        };
        let other = "other,1,Vendor,other,1,https://x\n";
        let cases: [(Vec<LoaderFile>, Vec<Unusable>, &str); 13] = [
            (
                vec![ipxe.clone()],
                vec![unusable("snponly-shimx64.efi", false)],
                "snponly.efi is signed, but the shim beside it cannot be used: snponly-shimx64.efi: the file is empty; a good one is in ipxeboot",
            ),
            (
                vec![program("snponly.efi", &["lab"], "")],
                vec![unusable("shimx64.efi", true)],
                "snponly.efi is signed, but the shim beside it cannot be used: shimx64.efi: the file is empty; a good one",
            ),
            (
                vec![program("grubx64.efi", &["Debian"], GRUB)],
                vec![unusable("shimx64.efi", false)],
                "grubx64.efi is signed, but the shim beside it cannot be used: shimx64.efi: the file is empty; a good one is in the package shim-signed",
            ),
            (
                vec![shim.clone()],
                vec![unusable("snponly.efi", false)],
                "the second stage for snponly-shimx64.efi cannot be used: snponly.efi: the file is empty; a good one is in ipxeboot",
            ),
            (
                vec![shim.clone(), program("ipxe.efi", &[], IPXE)],
                vec![unusable("snponly.efi", true)],
                "ipxe.efi is not signed, so snponly-shimx64.efi refuses it",
            ),
            (
                vec![shim.clone(), program("snponly.efi", &["lab"], "")],
                vec![],
                "snponly.efi is signed, but it has no .sbat section, so snponly-shimx64.efi refuses it: replace it by a signed one",
            ),
            (
                vec![shim.clone(), program("grubx64.efi", &["lab"], "")],
                vec![],
                "grubx64.efi is signed, but it has no .sbat section, so snponly-shimx64.efi refuses it: use GRUB of",
            ),
            (
                vec![shim.clone(), program("snponly.efi", &["lab"], other)],
                vec![],
                "snponly.efi is signed, but its .sbat section names neither iPXE nor GRUB: replace",
            ),
            (
                vec![shim, program("snponly.efi", &[], "")],
                vec![],
                "snponly.efi is not signed and has no .sbat section, so snponly-shimx64.efi refuses it: replace it by a signed one",
            ),
            (
                vec![program("shimx64.efi", &["iPXE"], IPXE), ipxe.clone()],
                vec![],
                "shimx64.efi is iPXE, not a shim: replace it (in ipxeboot",
            ),
            (
                vec![program("shimx64.efi", &["Debian"], GRUB), program("grubx64.efi", &["Debian"], GRUB)],
                vec![],
                "shimx64.efi is GRUB, not a shim: replace it (in the package shim-signed)",
            ),
            (
                vec![program("shimx64.efi", &["Microsoft"], ""), ipxe.clone()],
                vec![],
                "shimx64.efi has no .sbat section: it is not a shim, or it is one from before 2021: replace it",
            ),
            (
                vec![program("shimx64.efi", &["Microsoft"], other), ipxe],
                vec![],
                "shimx64.efi is not a shim: its .sbat section does not name one: replace it",
            ),
        ];
        for (files, unusable, expected) in cases {
            let (sets, incomplete) = Set::among(&files, &unusable, "/d");
            assert!(sets.is_empty(), "{sets:?}");
            let said: Vec<&str> = incomplete.iter().map(|it| it.missing.as_str()).collect();
            assert!(matches!(said[..], [said] if said.starts_with(expected)), "{said:?}\n{expected}");
        }
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

    #[test]
    fn probes_are_known_and_boot_files_are_none() {
        for path in [
            "x86_64-sb/revocations_sku.efi",
            "sb\\revocations_sbat.efi",
            "revocations.efi",
            "shim_certificate_0.efi",
            "sb/shim_certificate.efi",
            "mmx64.efi",
            "grub/x86_64-efi/command.lst",
            "/grub/grub.cfg-01-52-54-00-12-34-56",
            "grub/fonts/unicode.pf2",
        ] {
            assert!(is_probe(path), "{path}");
        }
        for path in ["x86_64-sb/snponly.efi", "sb/grubx64.efi", "debian/vmlinuz", "debian/command.lst", "mm.efi"] {
            assert!(!is_probe(path), "{path}");
        }
    }
}
