//! `[profiles.…]`, `[menu]` and the templates folder → domain types.

use std::{collections::BTreeMap, ops::RangeInclusive, time::Duration};

use super::{
    Level, arch_meant,
    check::{Check, LONGEST, problem},
    found_isos::{Found, Names, folder_of, found_by},
    isos::{self, Iso},
    limits::head,
    schema,
};
use crate::{
    boot::{
        faults::Wanted,
        image::{Image, Role},
        machine::{Menu, Rules},
        policy::Policy,
        profile::{Boot, DeviceTree, Linux, Profile},
        template::Templates,
        urls::is_remote,
    },
    files::AssetRoot,
};

impl Check<'_> {
    pub(super) fn profiles(&mut self, assets: Option<&AssetRoot>, templates: &Templates) -> BTreeMap<String, Profile> {
        let profiles = &self.loaded.config.profiles;
        profiles.iter().map(|(name, profile)| (name.clone(), self.profile(name, profile, assets, templates))).collect()
    }

    fn profile(
        &mut self,
        name: &str,
        profile: &schema::Profile,
        assets: Option<&AssetRoot>,
        templates: &Templates,
    ) -> Profile {
        let path = ["profiles", name];
        if Rules::BUILT_IN.contains(&name) {
            self.fault(&path, format!("the name {name:?} is a built-in profile: choose another name"));
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            let message =
                format!("the profile name {name:?} is not valid: use letters, digits, dots, hyphens and underscores");
            self.fault(&path, message);
        }
        self.unused_keys(name, profile);
        let mut boots = Boots { check: self, path: path.to_vec(), assets, templates };
        // A profile that has only variants is complete with them.
        let only_variants = profile.ways().is_empty() && !profile.arch.is_empty();
        let mut variants = BTreeMap::new();
        for (arch, boot) in &profile.arch {
            if !BUILD_ARCHS.contains(&arch.as_str()) {
                let (meant, there) = (arch_meant(arch, BUILD_ARCHS), BUILD_ARCHS.join(", "));
                boots.check.part(
                    &["profiles", name, "arch", arch],
                    format!("iPXE does not support the architecture {arch:?}{meant}; known are: {there}"),
                );
            }
            boots.path = vec!["profiles", name, "arch", arch];
            if boot.title.is_some() || !boot.arch.is_empty() || boot.report_within.is_some() {
                boots.part(
                    "kernel",
                    "a variant cannot have title, arch or report_within: set them in the profile".into(),
                );
            }
            variants.insert(arch.clone(), boots.boot(&boot.over(profile)));
        }
        boots.path = path.to_vec();
        let boot = match variants.values().next() {
            Some(variant) if only_variants => variant.clone(),
            _ => boots.boot(profile),
        };
        let within = profile.report_within.as_deref();
        let report_within =
            within.map(|within| self.duration(&["profiles", name, "report_within"], within, REPORT_WITHIN));
        let mut made = Profile { title: profile.title.clone(), variants, report_within, ..Profile::from(boot) };
        if let (Some(iso), Some(assets)) = (&profile.iso, assets) {
            self.of_iso(&["profiles", name, "iso"], profile, assets, templates, &mut made);
            self.images.entry(iso.clone()).or_insert(0);
        }
        made
    }

    /// What an image says of itself, and its kernels for other processors than x86.
    fn of_iso(
        &mut self,
        key: &[&str],
        profile: &schema::Profile,
        assets: &AssetRoot,
        templates: &Templates,
        made: &mut Profile,
    ) {
        // Why it cannot be opened was said when its boot was looked at.
        let Some(image) = profile.iso.as_deref().and_then(|iso| Iso::open(iso, assets).ok()) else { return };
        self.images.insert(image.path().to_owned(), image.version());
        self.host_files.extend(image.host_files());
        made.title.get_or_insert_with(|| image.title().to_owned());
        made.about = image.about().into();
        made.memory = image.memory();
        made.only_for = image.only_for();
        for warning in image.warnings() {
            self.finding(Level::Warning, key, warning);
        }
        for arch in image.other_archs() {
            if !made.variants.contains_key(arch)
                && let Ok(boot) = image.boot(Some(arch), added(profile), assets, templates)
            {
                made.variants.insert(arch.to_owned(), boot);
            }
        }
    }

    /// The images that `isos` finds, each a profile. One that is not whole yet is left out until it is.
    pub(super) fn isos(
        &mut self,
        profiles: &mut BTreeMap<String, Profile>,
        assets: Option<&AssetRoot>,
        templates: &Templates,
    ) {
        let Some(pattern) = self.loaded.config.isos.as_deref() else { return };
        let Some(assets) = assets else {
            return self
                .part(&["isos"], format!("{pattern:?} is below the assets folder, and there is none: set assets"));
        };
        let Found { mut paths, unclear } = match found_by(pattern, assets) {
            Ok(found) => found,
            Err(problem) => return self.fault(&["isos"], problem),
        };
        for path in unclear {
            let problem = format!("{path} is left out: its name is not UTF-8: rename the file");
            self.finding(Level::Warning, &["isos"], problem);
        }
        // An image that a profile names is not listed a second time.
        paths.retain(|path| !self.images.contains_key(path));
        let names = Names::of(&paths);
        let shared: Vec<String> = names.shared(|name| profiles.contains_key(name)).collect();
        shared.into_iter().for_each(|problem| self.finding(Level::Warning, &["isos"], problem));
        for path in paths {
            let image = match Iso::open(&path, assets) {
                Ok(image) if image.is_whole() => image,
                Ok(_) => {
                    let problem =
                        format!("{path} is not whole: it is still copied, or cut short; the menu shows it when it is");
                    self.finding(Level::Warning, &["isos"], problem);
                    continue;
                }
                Err(problem) => {
                    self.finding(Level::Warning, &["isos"], format!("{path} is left out: {problem}"));
                    continue;
                }
            };
            let is_taken = |name: &str| profiles.contains_key(name) || Rules::BUILT_IN.contains(&name);
            let name = names.free(&path, is_taken);
            let usual = schema::Profile { iso: Some(path.clone()), ..schema::Profile::default() };
            let boot = image.boot(None, isos::Added::default(), assets, templates);
            let boot = boot.unwrap_or_else(|problem| {
                self.finding(Level::Warning, &["isos"], problem.clone());
                Boot::Faulty(problem)
            });
            let mut made = Profile { folder: folder_of(&path, pattern), ..Profile::from(boot) };
            self.of_iso(&["isos"], &usual, assets, templates, &mut made);
            profiles.insert(name, made);
        }
    }

    pub(super) fn menu(&mut self, profiles: &BTreeMap<String, Profile>) -> Menu {
        let schema::Menu { default, timeout } = self.loaded.config.menu.clone();
        // The local disk is chosen where no profile is named.
        let default = default.filter(|name| name != "local" || profiles.contains_key(name));
        if let Some(name) = default.as_deref().filter(|name| !profiles.contains_key(*name)) {
            self.no_entry(&["menu", "default"], name, profiles);
        }
        let timeout = self.duration(&["menu", "timeout"], &timeout, Duration::ZERO..=LONGEST);
        Menu { default, timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or_default() }
    }

    pub(super) fn answers(&mut self) -> Policy {
        let schema::Http { answers_open: open, answers_expire, .. } = self.loaded.config.http.clone();
        let range = Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 3600);
        Policy { open, lifetime: self.duration(&["http", "answers_expire"], &answers_expire, range) }
    }
}

/// The part of a profile that is being checked.
struct Boots<'a, 'b> {
    check: &'a mut Check<'b>,
    path: Vec<&'a str>,
    assets: Option<&'a AssetRoot>,
    templates: &'a Templates,
}

impl Boots<'_, '_> {
    fn part(&mut self, key: &str, message: String) {
        let path = [self.path.as_slice(), &[key]].concat();
        self.check.part(&path, message);
    }

    /// A fault of this part only. Its machines show it on their screens.
    fn faulty(&mut self, key: &str, message: String) -> Boot {
        let path = [self.path.as_slice(), &[key]].concat();
        self.check.part(&path, message.clone());
        Boot::Faulty(message)
    }

    fn boot(&mut self, profile: &schema::Profile) -> Boot {
        let schema::Profile { kernel, initrd, cmdline, script, efi, iso, sanboot, disk, .. } = profile;
        let named = profile.ways();
        let cmdline = cmdline.clone().unwrap_or_default();
        match named.as_slice() {
            [_] => {}
            [] => {
                let name = self.path.get(1).copied().unwrap_or_default();
                let message = "has no kernel, script, efi, iso, sanboot or disk";
                self.part("kernel", format!("profile {name:?} {message}"));
                return Boot::Faulty(format!("it {message}"));
            }
            [first, second, ..] => {
                return self.faulty(second, format!("a profile can have only one of kernel, script, efi, iso, sanboot and disk, but this one has {first} and {second}"));
            }
        }
        for (index, initrd) in initrd.iter().enumerate() {
            let index = index.to_string();
            let key = [self.path.as_slice(), &["initrd", &index]].concat();
            self.check.file(&key, initrd, self.assets);
        }
        let path = |of: &Option<String>| of.clone().unwrap_or_default();
        if let (None, Some(_)) = (iso, &profile.answers) {
            self.part("answers", "answers goes with iso: in another profile, write answer() into its cmdline".into());
        }
        if let Some(shim) = &profile.shim {
            let key = [self.path.as_slice(), &["shim"]].concat();
            self.check.file(&key, shim, self.assets);
            if kernel.is_none() && iso.is_none() {
                self.part("shim", "shim needs a kernel, but this profile has none".into());
            }
        }
        if let Some(iso) = iso {
            return self.iso(iso, profile);
        }
        if let (None, Some(key)) = (kernel, profile.device_tree_keys().first()) {
            self.part(key, format!("{key} needs a kernel, but this profile has none"));
        }
        let boot = match named.first() {
            Some(&"kernel") => {
                let device_tree = self.device_tree(profile);
                Boot::Linux(Linux {
                    kernel: path(kernel),
                    initrd: initrd.clone(),
                    cmdline,
                    device_tree,
                    shim: profile.shim.clone(),
                })
            }
            Some(&"script") => Boot::Script(path(script)),
            Some(&"efi") => Boot::Efi { path: path(efi), cmdline },
            Some(&"sanboot") => Boot::Iso(path(sanboot)),
            _ => Boot::Disk(path(disk)),
        };
        match &boot {
            Boot::Script(name) if self.templates.has(name) => {}
            // A script of a distribution. It is chained from its own URL.
            Boot::Script(name) if is_remote(name) || self.assets.is_some_and(|assets| assets.file(name).is_ok()) => {
                let key = [self.path.as_slice(), &["script"]].concat();
                self.check.file(&key, name, self.assets);
            }
            Boot::Script(name) => {
                let fix = "put it into the templates folder or below the assets folder";
                self.part("script", format!("no template and no asset has the name {name:?}: {fix}"));
            }
            boot => {
                let key = [self.path.as_slice(), &named].concat();
                boot.named().first().into_iter().for_each(|file| self.check.file(&key, file, self.assets));
            }
        }
        boot
    }
}

impl Boots<'_, '_> {
    /// An image, as its family is booted.
    fn iso(&mut self, iso: &str, profile: &schema::Profile) -> Boot {
        if is_remote(iso) {
            let fix = "copy it into the assets folder, or name its kernel, initrd and cmdline";
            return self.faulty("iso", format!("{iso} is on another server, where it cannot be looked into: {fix}"));
        }
        let Some(assets) = self.assets else {
            let key = [self.path.as_slice(), &["iso"]].concat();
            self.check.file(&key, iso, None);
            return Boot::Faulty(format!("{iso} is a path below the assets folder, and there is none"));
        };
        if let Err(why) = assets.look(iso, Wanted::File) {
            let key = [self.path.as_slice(), &["iso"]].concat();
            self.check.file(&key, iso, Some(assets));
            // It is read again when it comes.
            return Boot::Faulty(problem(assets, iso, &why));
        }
        // Its first bytes say what it is instead. Of what they do not know, the reader of images says more.
        let head = head(assets, iso).filter(|head| Image::of(head) != Image::UNKNOWN);
        let problem = head.and_then(|head| Role::Iso.check(&head, None).err());
        if let Some(problem) = problem {
            return self.faulty("iso", format!("{iso} {problem}"));
        }
        let arch = match self.path.as_slice() {
            [_, _, "arch", arch] => Some(*arch),
            _ => None,
        };
        let boot = Iso::open(iso, assets).and_then(|image| match image.is_whole() {
            true => image.boot(arch, added(profile), assets, self.templates),
            false => Err(format!("{iso} is not whole: it is still copied, or was cut short: download it again")),
        });
        boot.unwrap_or_else(|problem| self.faulty("iso", problem))
    }

    fn device_tree(&mut self, profile: &schema::Profile) -> Option<DeviceTree> {
        let key = |key| [self.path.as_slice(), &[key]].concat();
        match (&profile.fdtdir, &profile.fdt) {
            (Some(_), Some(_)) => {
                self.part(
                    "fdt",
                    "fdt (one device tree) and fdtdir (a folder) cannot be used together: remove one of them".into(),
                );
                None
            }
            (Some(folder), None) => {
                let problem = self.assets.and_then(|assets| assets.list(folder).err());
                if let Some(why) = problem {
                    self.part("fdtdir", format!("{folder} is not a folder below the assets folder: {why}"));
                }
                Some(DeviceTree::Folder(folder.clone()))
            }
            (None, Some(file)) => {
                self.check.file(&key("fdt"), file, self.assets);
                Some(DeviceTree::File(file.clone()))
            }
            (None, None) => None,
        }
    }
}

/// What a profile adds to its image.
fn added(profile: &schema::Profile) -> isos::Added<'_> {
    isos::Added {
        cmdline: profile.cmdline.as_deref().unwrap_or_default(),
        initrds: &profile.initrd,
        answers: profile.answers.as_deref(),
        shim: profile.shim.as_deref(),
    }
}

impl schema::Profile {
    /// The device tree keys that it sets.
    fn device_tree_keys(&self) -> Vec<&'static str> {
        let keys = [("fdtdir", &self.fdtdir), ("fdt", &self.fdt)];
        keys.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| *key).collect()
    }

    /// The keys that name what it boots.
    pub(super) fn ways(&self) -> Vec<&'static str> {
        let Self { kernel, script, efi, iso, sanboot, disk, .. } = self;
        let ways =
            [("kernel", kernel), ("script", script), ("efi", efi), ("iso", iso), ("sanboot", sanboot), ("disk", disk)];
        ways.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| *key).collect()
    }

    /// A variant sets only what is different.
    pub(super) fn over(&self, usual: &Self) -> Self {
        let mut usual = usual.clone();
        if !self.ways().is_empty() {
            let Self { cmdline, initrd, fdtdir, fdt, answers, shim, .. } = usual;
            usual = Self { cmdline, initrd, answers: answers.filter(|_| self.iso.is_some()), ..Self::default() };
            if self.kernel.is_some() {
                (usual.fdtdir, usual.fdt, usual.shim) = (fdtdir, fdt, shim);
            }
        }
        // The device tree of a variant replaces both keys.
        if !self.device_tree_keys().is_empty() {
            (usual.fdtdir, usual.fdt) = (None, None);
        }
        let or = |own: &Option<String>, usual: Option<String>| own.clone().or(usual);
        Self {
            kernel: or(&self.kernel, usual.kernel),
            initrd: if self.initrd.is_empty() { usual.initrd } else { self.initrd.clone() },
            cmdline: or(&self.cmdline, usual.cmdline),
            fdtdir: or(&self.fdtdir, usual.fdtdir),
            fdt: or(&self.fdt, usual.fdt),
            shim: or(&self.shim, usual.shim),
            script: or(&self.script, usual.script),
            efi: or(&self.efi, usual.efi),
            iso: or(&self.iso, usual.iso),
            sanboot: or(&self.sanboot, usual.sanboot),
            answers: or(&self.answers, usual.answers),
            disk: or(&self.disk, usual.disk),
            ..Self::default()
        }
    }
}

/// An installer that waits for an answer over the weekend is shown as stopped before that.
const REPORT_WITHIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
/// iPXE's `${buildarch}` (Makefile, `ARCHS`).
const BUILD_ARCHS: [&str; 8] = ["i386", "x86_64", "arm32", "arm64", "loong64", "riscv32", "riscv64", "arm"];
