//! Recognises an image and finds out how a machine boots it, with the data of [`super::families`].

use std::collections::BTreeMap;

use super::{
    facts::Facts,
    families::{DROPPED, FAMILIES},
    family::{Family, Initrd, Memory, Test, Way},
    fault::Fault,
    index::Index,
    kernel::{arch, arch_in, is_kernel},
    menu::{self, MenuEntry},
    recognised::{ANY, BOOT_CFG, How, MADE, Need, Part, Place, Recognised, UNKNOWN, Variant},
    segments::Segments,
    source::ReadAt,
};
use crate::spelling::fits;

/// Recognises an image. Reads only its index and a few small files.
#[must_use]
pub fn recognise(image: &dyn ReadAt, index: &Index) -> Recognised {
    let look = Look { image, index, facts: Facts::of(image, index), menu: menu::entries(image, index) };
    let family = FAMILIES.iter().find(|family| family.tests.iter().all(|test| look.holds(test)));
    let found = family.map_or_else(|| look.unknown(), |family| look.as_family(family));
    // What a part of an image lets guess about its boot is not true of the whole one.
    match index.missing() {
        0 => found,
        _ => Recognised {
            how: How::Refused { why: INCOMPLETE.into(), instead: "copy or download all of it".into() },
            variants: Vec::new(),
            memory: None,
            notes: Vec::new(),
            ..found
        },
    }
}

/// An image that is being recognised.
struct Look<'a> {
    image: &'a dyn ReadAt,
    index: &'a Index,
    facts: Facts,
    menu: Vec<MenuEntry>,
}

impl Look<'_> {
    fn holds(&self, test: &Test) -> bool {
        let has = |patterns: &[&str]| patterns.iter().any(|pattern| !self.index.find(pattern).is_empty());
        let says = |text: &str, words: &[&str]| words.iter().any(|word| text.contains(word));
        match test {
            Test::Has(patterns) => has(patterns),
            Test::Several(pattern) => self.index.find(pattern).len() > 1,
            Test::Lacks(patterns) => !has(patterns),
            Test::Label(patterns) => patterns.iter().any(|pattern| fits(pattern, &self.index.volume().label)),
            Test::Info(words) => says(&self.facts.info, words),
            Test::Release(words) => {
                let behind = self.facts.info.split_once(words).map(|(_, behind)| behind);
                behind.is_some_and(|behind| behind.starts_with(|c: char| c.is_ascii_digit()))
            }
            Test::System(name) => self.index.volume().system.starts_with(name),
            Test::Says(pattern, words) => self.index.find(pattern).iter().any(|path| {
                let bytes = self.index.read(self.image, path, TEXT).unwrap_or_default();
                says(&String::from_utf8_lossy(&bytes), words)
            }),
            Test::MenuLacks(words) => !self.menu.iter().any(|entry| says(&entry.cmdline, words)),
            Test::CasperFrom(least) => self.facts.casper.is_some_and(|casper| casper >= *least),
            Test::CasperBefore(end) => self.facts.casper.is_some_and(|casper| casper < *end),
        }
    }

    fn as_family(&self, family: &Family) -> Recognised {
        let found: BTreeMap<&str, String> =
            family.finds.iter().filter_map(|(name, patterns)| Some((*name, self.first(patterns)?))).collect();
        let (how, variants) = match &family.way {
            Way::Linux(cmdline) => (How::Linux, self.linux(family, cmdline, &found)),
            Way::Netboot { package, kernel, initrd, cmdline } => {
                (How::Linux, self.netboot(family, [package, kernel, initrd, cmdline]))
            }
            Way::Xen { cmdline, modules } => (How::Xen, self.xen(family, cmdline, modules)),
            Way::Wimboot(files) => (How::Wimboot, self.wimboot(files)),
            Way::Esxi => (How::Esxi, self.esxi(family)),
            Way::San => (How::San, Vec::new()),
            Way::No { why, instead } => {
                (How::Refused { why: (*why).to_owned(), instead: (*instead).to_owned() }, Vec::new())
            }
        };
        let is_lacking = variants.is_empty() && matches!(how, How::Linux | How::Xen | How::Wimboot | How::Esxi);
        let how = if is_lacking { self.lacking(family, &found) } else { how };
        let (how, variants) = match variants.iter().find_map(|variant| self.not_added(variant)) {
            Some(fault) => (How::Refused { why: fault.to_string(), instead: SMALLER.into() }, Vec::new()),
            None => (how, variants),
        };
        // For an image that cannot boot, only the reason is needed.
        let notes: &[&str] = if matches!(how, How::Refused { .. }) { &[] } else { family.notes };
        Recognised {
            family: family.id,
            title: self.title(family.title),
            kind: family.title,
            version: self.facts.version.clone(),
            memory: self.memory(&family.memory, &found).filter(|_| !variants.is_empty()),
            how,
            variants,
            notes: notes.iter().map(|note| (*note).to_owned()).collect(),
        }
    }

    /// Why what its initial RAM disk has to hold cannot be added to it.
    fn not_added(&self, variant: &Variant) -> Option<Fault> {
        let adds = variant.initrds.iter().any(|part| matches!(part, Part::Put { .. }));
        adds.then(|| Segments::initrd(self.index, &variant.initrds).err()).flatten()
    }

    /// Why there is nothing to boot: the first file that it needs and that is not there.
    fn lacking(&self, family: &Family, found: &BTreeMap<&str, String>) -> How {
        let (what, patterns) = self.first_missing(family, found);
        let why = match patterns {
            [] => format!("it looks like {}, but the processor of its kernel is not known", family.title),
            patterns => {
                let places: Vec<&str> = patterns.iter().take(3).copied().collect();
                let places = places.join(", ");
                format!("it looks like {}, but its {what} is not at the usual place ({places})", family.title)
            }
        };
        How::Refused { why, instead: SET_YOURSELF.into() }
    }

    /// What it is, and its places; no places if everything is there.
    fn first_missing(
        &self,
        family: &Family,
        found: &BTreeMap<&str, String>,
    ) -> (&'static str, &'static [&'static str]) {
        if self.first(family.kernel).is_none() {
            return ("kernel", family.kernel);
        }
        let initrds = family.initrd.iter().filter_map(|initrd| match initrd {
            Initrd::One(patterns) => Some(("initial RAM disk", *patterns)),
            Initrd::Any(_) | Initrd::Image(_) | Initrd::Found(..) => None,
        });
        let modules: &[(&str, &str)] = match &family.way {
            Way::Xen { modules, .. } => modules,
            _ => &[],
        };
        let modules = modules.iter().map(|(pattern, _)| ("module", std::slice::from_ref(pattern)));
        let files = family.finds.iter().filter(|(name, _)| !found.contains_key(name));
        let files = files.map(|(_, patterns)| ("file system", *patterns));
        let missing = initrds.chain(modules).filter(|(_, patterns)| self.first(patterns).is_none()).chain(files).next();
        missing.unwrap_or_default()
    }

    fn title(&self, kind: &str) -> String {
        let label = self.index.volume().label.trim();
        let label = if label.is_empty() { kind } else { label };
        self.facts.title.clone().unwrap_or_else(|| label.chars().filter(|c| !c.is_control()).collect())
    }

    fn first(&self, patterns: &[&str]) -> Option<String> {
        patterns.iter().find_map(|pattern| self.index.find(pattern).into_iter().next())
    }

    /// Every kernel with its processor, the best first: by pattern, then by the image's own menu, then the newest.
    fn kernels(&self, patterns: &[&str]) -> Vec<(Option<&'static str>, String)> {
        let mut all: Vec<(Option<&'static str>, String)> = Vec::new();
        for pattern in patterns {
            let mut paths = self.index.find(pattern);
            let in_menu = |path: &str| self.menu.iter().position(|entry| entry.kernel.eq_ignore_ascii_case(path));
            paths.sort_by_cached_key(|path| (in_menu(path).unwrap_or(usize::MAX), std::cmp::Reverse(natural(path))));
            for path in paths {
                if all.iter().all(|(_, known)| *known != path) {
                    let head = self.index.read(self.image, &path, HEAD).unwrap_or_default();
                    all.push((arch(&head).or_else(|| arch_in(&path)).or(self.facts.arch), path));
                }
            }
        }
        all
    }

    /// The best kernel for each processor whose initial RAM disks exist.
    fn linux(&self, family: &Family, cmdline: &str, found: &BTreeMap<&str, String>) -> Vec<Variant> {
        let mut variants: Vec<Variant> = Vec::new();
        for (arch, kernel) in self.kernels(family.kernel) {
            if variants.iter().any(|variant| variant.arch == arch) {
                continue;
            }
            let parts: Option<Vec<Vec<Part>>> =
                family.initrd.iter().map(|initrd| self.parts(initrd, &kernel, found)).collect();
            let Some(cmdline) = self.filled(cmdline, &kernel, found) else { continue };
            if let Some(parts) = parts {
                let initrds = parts.into_iter().flatten().collect();
                variants.push(Variant { arch, kernel: Place::Image(kernel), initrds, modules: Vec::new(), cmdline });
            }
        }
        variants
    }

    /// `None` if a required one is missing.
    fn parts(&self, initrd: &Initrd, kernel: &str, found: &BTreeMap<&str, String>) -> Option<Vec<Part>> {
        let file = |path: String| Part::File(Place::Image(path));
        match initrd {
            Initrd::One(patterns) => self.paired(patterns, kernel).map(|path| vec![file(path)]),
            Initrd::Any(pattern) => Some(self.index.find(pattern).into_iter().map(file).collect()),
            Initrd::Image(name) => Some(vec![Part::Put { path: None, name }]),
            Initrd::Found(what, name) => Some(vec![Part::Put { path: Some(found.get(what)?.clone()), name }]),
        }
    }

    /// The initial RAM disk of a kernel: the one in the image's own menu, or else with the same version, or else in the same
    /// folder, or else the first.
    fn paired(&self, patterns: &[&str], kernel: &str) -> Option<String> {
        let all: Vec<String> = patterns.iter().flat_map(|pattern| self.index.find(pattern)).collect();
        let own = self.entry(kernel).map_or(&[][..], |entry| &entry.initrds);
        let is_own = |path: &&String| own.iter().any(|own| own.eq_ignore_ascii_case(path));
        let (folder, name) = kernel.rsplit_once('/').unwrap_or(("", kernel));
        let version = STEMS.iter().find_map(|stem| name.strip_prefix(stem)).unwrap_or_default();
        let is_beside = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder) == folder;
        let stem =
            |path: &str| path.rsplit('/').next().map(|n| n.trim_end_matches(".img").to_owned()).unwrap_or_default();
        let is_paired = |path: &&String| !version.is_empty() && is_beside(path) && stem(path).ends_with(version);
        // If there are several kernels in a folder, a kernel without a version has an initial RAM disk without one.
        let is_plain = |path: &&String| is_beside(path) && version.is_empty() && !stem(path).contains(['-', '.']);
        let best = all.iter().find(is_own).or_else(|| all.iter().find(is_paired)).or_else(|| all.iter().find(is_plain));
        best.or_else(|| all.iter().find(|path| is_beside(path))).or(all.first()).cloned()
    }

    /// Everything except the URLs. `None` if a named file is missing.
    fn filled(&self, template: &str, kernel: &str, found: &BTreeMap<&str, String>) -> Option<String> {
        let mut line = String::new();
        let mut rest = template;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}')?;
            line += before;
            match name.split_once(':') {
                // `${netX/mac:hexhyp}` is for iPXE.
                _ if before.ends_with('$') => line += &format!("{{{name}}}"),
                Some(("top", what)) => line += found.get(what)?.split('/').next()?,
                Some(("own", default)) => line += &self.own(kernel).unwrap_or_else(|| default.to_owned()),
                _ if matches!(name, "I" | "W" | "host" | "path") => line += &format!("{{{name}}}"),
                _ => line += found.get(name)?,
            }
            rest = after;
        }
        Some((line + rest).trim().to_owned())
    }

    /// The first entry of the image's own menus that starts a kernel.
    fn entry(&self, kernel: &str) -> Option<&MenuEntry> {
        self.menu.iter().find(|entry| entry.kernel.eq_ignore_ascii_case(kernel))
    }

    /// The arguments for a kernel in the image's own menu, without those that look for the disc.
    fn own(&self, kernel: &str) -> Option<String> {
        let entry = self.entry(kernel)?;
        let is_kept = |word: &&str| !DROPPED.iter().any(|dropped| word.starts_with(dropped));
        let words: Vec<&str> = entry.cmdline.split_whitespace().filter(is_kept).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    fn netboot(&self, family: &Family, [package, kernel, initrd, cmdline]: [&str; 4]) -> Vec<Variant> {
        let version = self.facts.version.as_deref().unwrap_or_default();
        // It becomes part of a path.
        let is_plain = |major: &&str| !major.is_empty() && major.chars().all(|c| c.is_ascii_alphanumeric());
        let Some(major) = version.split('.').next().filter(is_plain) else { return Vec::new() };
        let mut variants: Vec<Variant> = Vec::new();
        for (arch, _) in self.kernels(family.kernel) {
            let name = match arch {
                Some("x86_64") => "amd64",
                Some(arch) => arch,
                None => continue,
            };
            if variants.iter().any(|variant| variant.arch == arch) {
                continue;
            }
            let fill = |text: &str| text.replace("{major}", major).replace("{arch}", name);
            let place = |path: &str| Place::Host { path: fill(path), package: fill(package) };
            let initrds = vec![Part::File(place(initrd))];
            variants.push(Variant {
                arch,
                kernel: place(kernel),
                initrds,
                modules: Vec::new(),
                cmdline: cmdline.into(),
            });
        }
        variants
    }

    fn xen(&self, family: &Family, cmdline: &str, modules: &[(&str, &str)]) -> Vec<Variant> {
        let module = |(pattern, arguments): &(&str, &str)| Some((self.first(&[pattern])?, (*arguments).to_owned()));
        let modules: Option<Vec<_>> = modules.iter().map(module).collect();
        let variant = self.first(family.kernel).zip(modules).map(|(kernel, modules)| Variant {
            arch: Some("x86_64"),
            kernel: if kernel.ends_with(".gz") { Place::Unpacked(kernel) } else { Place::Image(kernel) },
            initrds: Vec::new(),
            modules,
            cmdline: cmdline.to_owned(),
        });
        variant.into_iter().collect()
    }

    fn wimboot(&self, files: &[(&str, &str)]) -> Vec<Variant> {
        let modules = files.iter().filter_map(|(pattern, name)| Some((self.first(&[pattern])?, (*name).to_owned())));
        let efi = self.first(&["efi/boot/boot*.efi"]);
        vec![Variant {
            arch: efi.as_deref().and_then(arch_in),
            kernel: Place::Supplied("wimboot"),
            initrds: Vec::new(),
            modules: modules.collect(),
            cmdline: String::new(),
        }]
    }

    /// The loader for UEFI and the one for a BIOS have a boot.cfg each; either will do.
    fn esxi(&self, family: &Family) -> Vec<Variant> {
        let variant = |(arch, kernel): (Option<&'static str>, String)| {
            let is_efi = kernel.to_ascii_lowercase().ends_with(".efi");
            let arch = if is_efi { arch } else { Some("i386") };
            let own: &[&str] = if is_efi { &["efi/boot/boot.cfg", "boot.cfg"] } else { &["boot.cfg"] };
            let modules = vec![(self.first(own)?, BOOT_CFG.to_owned())];
            let cmdline = format!("-c {{I}}/{MADE}/{}/{BOOT_CFG}", arch.unwrap_or(ANY));
            Some(Variant { arch, kernel: Place::Image(kernel), initrds: Vec::new(), modules, cmdline })
        };
        self.kernels(family.kernel).into_iter().filter_map(variant).collect()
    }

    fn memory(&self, memory: &Memory, found: &BTreeMap<&str, String>) -> Option<Need> {
        let size = match memory.of {
            Some((times, "")) => self.index.volume().length.saturating_mul(times),
            Some((times, what)) => self.index.file(found.get(what)?).map_or(0, |file| file.size).saturating_mul(times),
            None => 0,
        };
        (!memory.why.is_empty()).then(|| Need { mib: memory.base + size.div_ceil(1 << 20), why: memory.why })
    }

    /// An unknown family: the first entry of its own menu that starts a kernel, or else a virtual drive. Later entries
    /// count for other processors only, and only with a kernel of the same name: a memory test is not the system.
    fn unknown(&self) -> Recognised {
        let mut variants: Vec<Variant> = Vec::new();
        let mut name = None;
        for entry in &self.menu {
            let head = self.index.read(self.image, &entry.kernel, HEAD).unwrap_or_default();
            // chain.c32, boot sectors and the like are in menus as well.
            if !is_kernel(&head) || *name.get_or_insert(letters_of(&entry.kernel)) != letters_of(&entry.kernel) {
                continue;
            }
            let arch = arch(&head).or_else(|| arch_in(&entry.kernel)).or(self.facts.arch);
            if variants.iter().all(|variant| variant.arch != arch) {
                let initrds = entry.initrds.iter().map(|path| Part::File(Place::Image(path.clone()))).collect();
                let (kernel, cmdline) = (Place::Image(entry.kernel.clone()), entry.cmdline.clone());
                variants.push(Variant { arch, kernel, initrds, modules: Vec::new(), cmdline });
            }
        }
        let (family, kind, how, note) = match variants.is_empty() {
            false => ("menu", "unknown family", How::Linux, FROM_MENU),
            true => (UNKNOWN, "unknown family", How::San, AS_DRIVE),
        };
        let nothing_starts = matches!(how, How::San) && !self.starts_from_a_drive();
        let how = match nothing_starts {
            true => How::Refused { why: NOT_BOOTABLE.into(), instead: SET_YOURSELF.into() },
            false => how,
        };
        let notes = if nothing_starts { Vec::new() } else { vec![note.to_owned()] };
        Recognised {
            family,
            title: self.title("CD image"),
            kind,
            version: self.facts.version.clone(),
            how,
            variants,
            memory: None,
            notes,
        }
    }

    /// Whether a firmware may find something to start on a drive with this image: by El Torito, or by a boot sector as
    /// images have that are written to USB sticks.
    fn starts_from_a_drive(&self) -> bool {
        let mut end = [0; 2];
        let has_sector = self.image.read_at(510, &mut end).is_ok() && end == [0x55, 0xaa];
        has_sector || !self.index.volume().boot_entries.is_empty()
    }
}

/// The letters that the name of a kernel begins with: those of `vmlinuz64` and `vmlinuz-686` are equal.
fn letters_of(kernel: &str) -> &str {
    let name = kernel.rsplit('/').next().unwrap_or(kernel);
    name.split(|c: char| !c.is_alphabetic()).next().unwrap_or(name)
}

/// Groups of digits count as numbers: 6.10 is newer than 6.9.
fn natural(path: &str) -> Vec<(u64, String)> {
    let mut parts: Vec<(u64, String)> = Vec::new();
    let mut was_digit = false;
    for c in path.chars() {
        let digit = c.to_digit(10).map(u64::from);
        match (digit, parts.last_mut()) {
            (Some(digit), Some((number, _))) if was_digit => {
                *number = number.saturating_mul(10).saturating_add(digit);
            }
            (Some(digit), _) => parts.push((digit, String::new())),
            (None, Some((_, text))) => text.push(c),
            (None, None) => parts.push((0, c.to_string())),
        }
        was_digit = digit.is_some();
    }
    parts
}

const FROM_MENU: &str = "kernel, initial RAM disk and arguments are from the image's own menu; a system that looks for its disc will not find it";
const INCOMPLETE: &str = "it is not whole: it is still copied, or was cut short";
const NOT_BOOTABLE: &str = "its family is unknown, and it has neither a boot menu that can be read nor anything that firmware starts from a drive";
const SMALLER: &str =
    "use a smaller image of the same system, or its files for a network boot, where it has such files";
const SET_YOURSELF: &str = "set the files yourself: kernel = \"x.iso/PATH\", initrd and cmdline in a profile";
const AS_DRIVE: &str =
    "iPXE shows it as a drive, which is gone when the system's own kernel starts; this works for small tools";

/// The names of kernels, without the version.
const STEMS: &[&str] = &["vmlinuz", "vmlinux", "linux", "bzImage", "kernel"];
/// Bytes of a kernel that identify its processor.
const HEAD: usize = 0x400;
/// Bytes of a text that are searched.
const TEXT: usize = 256 << 10;
