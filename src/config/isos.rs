//! `iso` in a profile and `isos`: an image becomes what a machine boots, as the table of families says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use super::{schema, signed};
use crate::{
    boot::{
        profile::{Boot, Linux, Memory, Module, Modules, OnlyFor, Profile},
        template::Templates,
    },
    files::{
        AssetRoot,
        alias::plain_names,
        made::{Seen, initrd_in, place_in},
    },
    iso::{
        families::ANSWERS,
        family::Answers,
        recognised::{How, Part, Place, Recognised, UNKNOWN, Variant},
    },
};

/// What a profile adds to an image.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Added<'a> {
    /// Behind the image's own command line.
    pub(super) cmdline: &'a str,
    /// Behind the image's own initial RAM disks.
    pub(super) initrds: &'a [String],
    /// The answer file, or the folder of them.
    pub(super) answers: Option<&'a str>,
    /// For Secure Boot, instead of the image's own shim.
    pub(super) shim: Option<&'a str>,
}

/// An image, by its path below the assets folder.
pub(super) struct Iso<'a> {
    path: &'a str,
    /// As clients are given it.
    plain: String,
    seen: Seen,
}

impl<'a> Iso<'a> {
    /// Looks at an image.
    ///
    /// # Errors
    /// Why it is none, or cannot be booted so, and the fix.
    pub(super) fn open(path: &'a str, assets: &AssetRoot) -> Result<Self, String> {
        if !Path::new(path).extension().is_some_and(|end| end.eq_ignore_ascii_case("iso")) {
            return Err(format!("{path} does not end in .iso, by which clients know an image: rename it"));
        }
        let seen = assets.recognise(path).map_err(|why| why.to_string())?;
        let plain = assets.plain_image(path).ok_or_else(|| {
            let plain = plain_names(path);
            format!(
                "{path} has a name that clients cannot ask for, and its plain one, {plain}, is also another image's: rename one"
            )
        })?;
        Ok(Self { path, plain, seen })
    }

    /// Below the assets folder.
    pub(super) fn path(&self) -> &str {
        self.path
    }

    /// The files of this host's packages that it is booted by.
    pub(super) fn host_files(&self) -> impl Iterator<Item = PathBuf> {
        self.seen.found.variants.iter().flat_map(places).filter_map(|place| match place {
            Place::Host { path, .. } => Some(PathBuf::from(path)),
            _ => None,
        })
    }

    /// Whether all of it is there.
    pub(super) fn is_whole(&self) -> bool {
        self.seen.missing == 0
    }

    /// A number for this version of it.
    pub(super) fn version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.path, self.seen.version).hash(&mut hasher);
        hasher.finish()
    }

    /// What it calls itself.
    pub(super) fn title(&self) -> &str {
        &self.seen.found.title
    }

    /// What is wrong with it beside what it boots.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut all = Vec::new();
        if matches!(self.seen.found.how, How::San) && self.seen.found.family == UNKNOWN {
            all.push(format!(
                "{} is of no known family and has no menu that can be read: iPXE makes a drive of it (sanboot), which a \
                 system loses when its own kernel starts",
                self.path
            ));
        }
        all
    }

    /// The memory that a machine needs.
    pub(super) fn memory(&self) -> Option<Memory> {
        self.seen.found.memory.as_ref().map(|need| Memory { mib: need.mib, why: need.why.to_owned() })
    }

    /// Two lines for people: what it is and how it is booted, and the memory that it needs.
    pub(super) fn about(&self) -> [String; 2] {
        let Recognised { title, kind, how, memory, notes, .. } = &self.seen.found;
        let how = match how {
            How::Linux | How::Xen if self.seen.found.family == "menu" => "booted as its own menu says".to_owned(),
            How::Linux => match self.host_files().next() {
                Some(_) => "booted by the netboot kernel of its release".to_owned(),
                None => "booted by its own kernel".to_owned(),
            },
            How::Xen => "booted by Xen".to_owned(),
            How::Wimboot => "booted by wimboot".to_owned(),
            How::Esxi => "booted by its own loader".to_owned(),
            How::San => "booted as a drive (sanboot)".to_owned(),
            How::Refused { why, .. } => format!("not booted: {why}"),
        };
        let first = format!("{}: {title} ({kind}), {how}", self.path);
        let second = match (memory, &self.seen.found.how) {
            (Some(need), _) => format!("needs a machine with {} MiB of memory: {}", need.mib, need.why),
            (None, How::Refused { instead, .. }) => format!("instead: {instead}"),
            (None, _) => match notes.first() {
                Some(note) => format!("memory: not known; {note}"),
                None => "memory: not known".to_owned(),
            },
        };
        [first, second]
    }

    /// Builds of iPXE that have a kernel of their own in it, beside those for x86. ESXi's loader for a BIOS is not the one
    /// for UEFI.
    pub(super) fn other_archs(&self) -> BTreeSet<&'static str> {
        let archs = self.seen.found.variants.iter().filter_map(|variant| variant.arch);
        let is_esxi = matches!(self.seen.found.how, How::Esxi);
        archs.filter(|arch| *arch != "x86_64" && (is_esxi || *arch != "i386")).collect()
    }

    /// The builds of iPXE that it has a kernel for: another processor would stop at a kernel that it cannot run.
    pub(super) fn only_for(&self) -> Option<OnlyFor> {
        let archs: Option<BTreeSet<_>> = self.seen.found.variants.iter().map(|variant| variant.arch).collect();
        let mut archs = archs.filter(|archs| !archs.is_empty())?;
        let there = archs.iter().copied().collect::<Vec<_>>().join(", ");
        let others = Boot::Faulty(format!("{} has a kernel for {there}, and none for this machine", self.path));
        // A BIOS is i386 whatever its processor, and one with 64 bits also runs kernels for 32. Nobody said an
        // architecture where a template or a page asks.
        if archs.contains("x86_64") || archs.contains("i386") {
            archs.extend(["x86_64", "i386"]);
        }
        archs.insert("");
        Some(OnlyFor { archs, others })
    }

    /// What it boots on a build of iPXE; `None`: where no variant fits.
    ///
    /// # Errors
    /// Why it does not, and the way that does work.
    pub(super) fn boot(
        &self,
        arch: Option<&str>,
        added: Added<'_>,
        assets: &AssetRoot,
        templates: &Templates,
    ) -> Result<Boot, String> {
        let found = &self.seen.found;
        match &found.how {
            How::Refused { why, instead } => {
                return Err(format!(
                    "{} ({}) is not booted over the network: {why}; {instead}",
                    self.path, found.title
                ));
            }
            How::San => return Ok(Boot::Iso(self.plain.clone())),
            How::Linux | How::Xen | How::Wimboot | How::Esxi => {}
        }
        let variant = self.variant(arch).ok_or_else(|| {
            let there: Vec<&str> = found.variants.iter().filter_map(|variant| variant.arch).collect();
            format!(
                "{} has a kernel for {}, and none for {}",
                self.path,
                there.join(", "),
                arch.unwrap_or("this machine")
            )
        })?;
        for place in places(variant) {
            is_there(place, self.path, assets)?;
        }
        let cmdline = self.cmdline(variant.own_cmdline(found.how == How::Xen), added, templates)?;
        let kernel = match &variant.kernel {
            Place::Supplied(name) => beside(self.path, name, assets),
            place => place_in(&self.plain, variant, place),
        };
        Ok(match found.how {
            How::Esxi if kernel.to_ascii_lowercase().ends_with(".efi") => Boot::Efi { path: kernel, cmdline },
            How::Xen | How::Wimboot => Boot::Modules(self.modules(variant, kernel, cmdline, added)),
            How::Esxi => Boot::Linux(Linux { kernel, initrd: Vec::new(), cmdline, device_tree: None, shim: None }),
            _ => Boot::Linux(Linux {
                kernel,
                initrd: self.initrds(variant, added),
                cmdline,
                device_tree: None,
                shim: self.shim(arch, added, assets),
            }),
        })
    }

    /// The image's own shim, by which its CD starts, or the profile's.
    fn shim(&self, arch: Option<&str>, added: Added<'_>, assets: &AssetRoot) -> Option<String> {
        let own = match arch {
            None | Some("x86_64") => "BOOTX64.EFI",
            Some("arm64") => "BOOTAA64.EFI",
            Some(_) => return None,
        };
        let there = || {
            let path = format!("{}/EFI/BOOT/{own}", self.plain);
            signed::is_shim(assets, &path).then_some(path)
        };
        added.shim.map(str::to_owned).or_else(there)
    }

    /// A BIOS is i386 to iPXE whatever its processor, and most processors have 64 bits: its kernel is that for x86_64, unless
    /// the profile has a variant for i386.
    fn variant(&self, arch: Option<&str>) -> Option<&Variant> {
        let wanted: &[Option<&str>] = match arch {
            None => &[Some("x86_64"), None, Some("i386")],
            Some("i386") => &[Some("i386"), None, Some("x86_64")],
            Some(arch) => &[Some(arch), None],
        };
        let variants = &self.seen.found.variants;
        let found = wanted.iter().find_map(|wanted| variants.iter().find(|variant| variant.arch == *wanted));
        found.or_else(|| variants.first().filter(|_| arch.is_none()))
    }

    /// Several in one file: none of them is lost behind one whose length is no multiple of four.
    fn initrds(&self, variant: &Variant, added: Added<'_>) -> Vec<String> {
        let own = match variant.initrds.as_slice() {
            [Part::File(place)] if added.initrds.is_empty() => Some(place_in(&self.plain, variant, place)),
            [] => None,
            parts if parts.iter().any(|part| matches!(part, Part::File(Place::Host { .. }))) => None,
            _ => Some(initrd_in(&self.plain, variant)),
        };
        let host = variant.initrds.iter().filter_map(|part| match part {
            Part::File(place @ Place::Host { .. }) if own.is_none() => Some(place_in(&self.plain, variant, place)),
            _ => None,
        });
        let host: Vec<String> = host.collect();
        own.into_iter().chain(host).chain(added.initrds.iter().cloned()).collect()
    }

    fn modules(&self, variant: &Variant, kernel: String, cmdline: String, added: Added<'_>) -> Modules {
        let is_wimboot = matches!(self.seen.found.how, How::Wimboot);
        let own = variant.modules.iter().map(|(path, arguments)| {
            let name = if is_wimboot { arguments.as_str() } else { path.rsplit('/').next().unwrap_or(path) };
            Module { path: format!("{}/{path}", self.plain), name: name.to_owned(), arguments: arguments.clone() }
        });
        let more = added.initrds.iter().map(|path| {
            let name = path.rsplit('/').next().unwrap_or(path).to_owned();
            Module { path: path.clone(), arguments: name.clone(), name }
        });
        let hypervisor = matches!(self.seen.found.how, How::Xen).then(|| variant.cmdline.clone());
        Modules { kernel, hypervisor, cmdline, modules: own.chain(more).collect() }
    }

    /// A template: addresses are those of this server as the machine reaches it.
    fn cmdline(&self, own: &str, added: Added<'_>, templates: &Templates) -> Result<String, String> {
        let asset = format!("{{{{ asset({:?}) }}}}", self.plain);
        let split = format!("asset({:?}) | split(\"/\", 3) | list", self.plain);
        let values = [
            ("01-${netX/mac:hexhyp}", "{{ machine.bootif }}".to_owned()),
            ("{I}", asset.clone()),
            ("{W}", asset),
            ("{host}", format!("{{{{ ({split})[2] }}}}")),
            ("{path}", format!("/{{{{ ({split})[3] }}}}")),
        ];
        let own = values.iter().fold(escaped(own), |line, (name, value)| line.replace(name, value));
        let answers = added.answers.map(|name| self.answers(name, templates)).transpose()?;
        // ESXi's loader takes more modules as an option. What follows its options is its kernel's.
        let is_esxi = matches!(self.seen.found.how, How::Esxi);
        let modules = added.initrds.iter().filter(|_| is_esxi).map(|path| format!("-A {{{{ asset({path:?}) }}}}"));
        let modules = modules.collect::<Vec<_>>().join(" ");
        let parts = [Some(own), Some(modules), answers, Some(added.cmdline.to_owned())];
        Ok(parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
    }

    /// The family's argument that names an answer file.
    fn answers(&self, name: &str, templates: &Templates) -> Result<String, String> {
        let found = &self.seen.found;
        let Some(Answers { argument, .. }) = ANSWERS.iter().find(|row| row.families.contains(&found.family)) else {
            return Err(format!(
                "{} ({}) takes no answer file by its command line: leave answers out",
                self.path, found.kind
            ));
        };
        let all = templates.answers();
        let is_file = all.contains(name);
        let is_folder = all.iter().any(|answer| answer.starts_with(&format!("{name}/")));
        let wants_folder = argument.contains("{folder}");
        match (is_file, is_folder, wants_folder) {
            (_, true, true) => Ok(argument.replace("{folder}", &format!("{{{{ answers({name:?}) }}}}"))),
            (true, _, false) => Ok(argument.replace("{file}", &format!("{{{{ answer({name:?}) }}}}"))),
            (_, _, true) => Err(format!(
                "answers = {name:?} is to be a folder in the templates folder, with user-data and meta-data"
            )),
            (_, _, false) => Err(format!("answers = {name:?} is no file in the templates folder")),
        }
    }
}

/// What an image says must not be read as a template.
fn escaped(text: &str) -> String {
    ["{{", "{%", "{#"].iter().fold(text.to_owned(), |text, start| text.replace(start, &format!("{{{{ '{start}' }}}}")))
}

/// Everything that a variant boots.
fn places(variant: &Variant) -> impl Iterator<Item = &Place> {
    let initrds = variant.initrds.iter().filter_map(|part| match part {
        Part::File(place) => Some(place),
        Part::Put { .. } => None,
    });
    std::iter::once(&variant.kernel).chain(initrds)
}

/// What is not in the image has to come from elsewhere.
fn is_there(place: &Place, image: &str, assets: &AssetRoot) -> Result<(), String> {
    match place {
        Place::Host { path, package } if fs::metadata(path).is_err() => Err(format!(
            "{image} is booted by the netboot kernel of its release, which is not on this host: install the package {package}"
        )),
        Place::Supplied(name) if assets.file(&beside(image, name, assets)).is_err() => Err(format!(
            "{image} is booted by {name}, which is not in the assets folder: download it (github.com/ipxe/wimboot) and put it beside the image"
        )),
        _ => Ok(()),
    }
}

/// A file that the user supplies: beside the image, else in the assets folder itself.
fn beside(image: &str, name: &str, assets: &AssetRoot) -> String {
    let near = image.rsplit_once('/').map(|(folder, _)| format!("{folder}/{name}"));
    near.filter(|near| assets.file(near).is_ok()).unwrap_or_else(|| name.to_owned())
}

/// Images of one release call themselves the same, as those of Debian's desktops do: with the profile's name, a menu tells
/// them apart. A title that a profile sets stays.
pub(super) fn tell_apart(profiles: &mut BTreeMap<String, Profile>, own: &BTreeMap<String, schema::Profile>) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for title in profiles.values().filter_map(|profile| profile.title.clone()) {
        *counts.entry(title).or_default() += 1;
    }
    for (name, profile) in profiles {
        let is_images = !profile.about.is_empty() && own.get(name).is_none_or(|own| own.title.is_none());
        if let Some(title) = profile.title.as_mut().filter(|title| is_images && counts.get(*title) > Some(&1)) {
            *title = format!("{title} ({name})");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use flate2::{Compression, write::GzEncoder};

    use crate::{
        boot::{
            machine::Rules,
            profile::{Boot, Linux},
            query::Query,
            script::{Standing, script},
        },
        config::{load::load, resolve::attempt, settings::Settings},
        iso::made::{Of, iso},
    };

    const LIVE: [(&str, Of<'_>); 4] = [
        ("live/vmlinuz", Of::Bytes(b"kernel")),
        ("live/initrd.img", Of::Bytes(b"initrd")),
        ("live/filesystem.squashfs", Of::Bytes(b"hsqs")),
        (".disk/info", Of::Bytes(b"Debian GNU/Linux 12.5 \"Bookworm\" - live amd64")),
    ];

    /// The settings, and what is said of the images.
    fn read(images: &[(&str, &[(&str, Of<'_>)])], text: &str) -> (Settings, Vec<String>) {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().canonicalize().expect("there");
        for (name, files) in images {
            let path = folder.join("srv").join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            let label = name.rsplit('/').next().unwrap_or(name);
            fs::write(path, iso(label, files).bytes).expect("written");
        }
        fs::create_dir_all(folder.join("templates/cloud")).expect("made");
        for name in ["debian", "cloud/user-data", "cloud/meta-data"] {
            fs::write(folder.join("templates").join(name), "x").expect("written");
        }
        let text = format!("assets = \"{0}/srv\"\ntemplates = \"{0}/templates\"\n{text}", folder.display());
        fs::write(folder.join("n.toml"), text).expect("written");
        let (settings, faults) = attempt(&load(Some(&folder.join("n.toml")), [], &[]).expect("read"));
        let all = faults.iter().chain(settings.findings.iter().map(|finding| &finding.fault));
        // The files here are a few letters each.
        let all = all.filter(|fault| !fault.message.contains("of an unknown type"));
        let all = all.map(|fault| fault.message.replace(&folder.display().to_string(), "")).collect();
        (settings, all)
    }

    fn booted(settings: Settings, profile: &str) -> String {
        booted_on("x86_64", settings, profile)
    }

    fn booted_on(arch: &str, settings: Settings, profile: &str) -> String {
        let Settings { profiles, templates, .. } = settings;
        let rules = Rules { profiles, templates, default_profile: profile.into(), ..Rules::default() };
        let query = Query {
            mac: Some("52:54:00:12:34:56".into()),
            arch: Some(arch.into()),
            platform: Some("efi".into()),
            ..Query::default()
        };
        script(&rules, "http://192.0.2.10:8080", &query, Standing::default()).text
    }

    #[test]
    fn an_image_is_booted_as_its_family_is_under_a_plain_name() {
        let profile = "[profiles.live]\niso = \"My ISOs/Debian (12).iso\"\ncmdline = \"host={{ machine.name }}\"\n";
        let (settings, said) = read(&[("My ISOs/Debian (12).iso", &LIVE)], profile);
        assert_eq!(
            said,
            ["nothing leads to the profile \"live\": no rule, no menu, and not default_profile; only netbootd assign can give it to a machine";
                0]
        );
        let live = settings.profiles["live"].clone();
        assert_eq!(live.title.as_deref(), Some("Debian GNU/Linux 12.5"));
        assert_eq!(live.about.len(), 2, "{:?}", live.about);
        assert!(live.about[0].starts_with("My ISOs/Debian (12).iso: Debian GNU/Linux 12.5 ("), "{:?}", live.about);
        assert!(live.about[1].starts_with("needs a machine with 1025 MiB of memory: "), "{:?}", live.about);
        let text = booted(settings, "live");
        let url = "http://192.0.2.10:8080/assets/My-ISOs/Debian-12.iso";
        let line = format!(
            "kernel {url}/live/vmlinuz initrd=initrd.img boot=live components fetch={url}/live/filesystem.squashfs \
             BOOTIF=01-52-54-00-12-34-56 host=52-54-00-12-34-56 || goto failed\n\
             initrd --name initrd.img {url}/live/initrd.img || goto failed\n"
        );
        assert!(text.contains(&line), "{text}");
    }

    #[test]
    fn a_machine_of_another_architecture_is_refused_and_told_so() {
        let of = |arch| {
            let (settings, _) = read(&[("a.iso", &LIVE)], "[profiles.a]\niso = \"a.iso\"\n");
            booted_on(arch, settings, "a")
        };
        for arch in ["x86_64", "i386"] {
            assert!(of(arch).contains("\nkernel http://"), "{arch}: {}", of(arch));
        }
        for arch in ["arm64", "riscv64"] {
            let script = of(arch).replace("\necho ", " ");
            assert!(script.contains("a.iso has a kernel for x86_64, and none for this machine"), "{script}");
            assert!(!script.contains("\nkernel http://"), "{script}");
        }
        // A variant of the profile's own is what its author wants.
        let own = "[profiles.a]\niso = \"a.iso\"\n[profiles.a.arch.arm64]\nkernel = \"a.iso/live/vmlinuz\"\n";
        let (settings, _) = read(&[("a.iso", &LIVE)], own);
        assert!(booted_on("arm64", settings, "a").contains("\nkernel http://"));
    }

    #[test]
    fn what_is_put_into_an_initial_ram_disk_is_made_and_the_users_own_come_behind() {
        let pve: [(&str, Of<'_>); 3] =
            [(".pve-cd-id.txt", "x".into()), ("boot/linux26", "kernel".into()), ("boot/initrd.img", "initrd".into())];
        let profile = "[profiles.pve]\niso = \"pve.iso\"\ninitrd = [\"more.img\"]\n";
        let (settings, said) = read(&[("pve.iso", &pve)], profile);
        assert_eq!(said, ["there is no file more.img (searched below /srv)"]);
        let Boot::Linux(Linux { kernel, initrd, .. }) = &settings.profiles["pve"].boot else { panic!("no kernel") };
        assert_eq!(kernel, "pve.iso/boot/linux26");
        assert_eq!(*initrd, ["pve.iso/.netbootd/any/initrd.img", "more.img"]);
    }

    #[test]
    fn one_that_is_not_booted_says_why_and_one_of_no_family_is_a_drive() {
        let antix: [(&str, Of<'_>); 1] = [("antiX/linuxfs", "x".into())];
        let other: [(&str, Of<'_>); 1] = [("readme.txt", "x".into())];
        let openbsd: [(&str, Of<'_>); 1] = [("7.5/amd64/bsd.rd", "x".into())];
        let profiles = "[profiles.a]\niso = \"antix.iso\"\n[profiles.b]\niso = \"other.iso\"\n\
                        [profiles.c]\nsanboot = \"antix.iso\"\n[profiles.d]\niso = \"gone.iso\"\n\
                        [profiles.e]\niso = \"open.iso\"\n";
        let (settings, said) = read(&[("antix.iso", &antix), ("other.iso", &other), ("open.iso", &openbsd)], profiles);
        let why = "is not booted over the network: its initial RAM disk does not support HTTP; export the unpacked image \
                   by NFS, or write it to a USB stick";
        assert!(said.iter().any(|said| said.starts_with("antix.iso (") && said.ends_with(why)), "{said:#?}");
        assert!(said.iter().any(|said| said.starts_with("other.iso is of no known family ")), "{said:#?}");
        assert!(said.iter().any(|said| said.starts_with("there is no file gone.iso")), "{said:#?}");
        assert_eq!(settings.profiles["b"].boot, Boot::Iso("other.iso".into()));
        assert_eq!(settings.profiles["c"].boot, Boot::Iso("antix.iso".into()));
        // A drive is the usual way of its family.
        assert_eq!(settings.profiles["e"].boot, Boot::Iso("open.iso".into()));
        assert!(!said.iter().any(|said| said.contains("open.iso")), "{said:#?}");
        let about = &settings.profiles["a"].about;
        assert!(about[0].ends_with("not booted: its initial RAM disk does not support HTTP"), "{about:?}");
        assert!(about[1].starts_with("instead: export the unpacked image by NFS"), "{about:?}");
        assert!(booted(settings, "a").contains("not booted over the network"), "the machine's screen says so");
    }

    #[test]
    fn a_folder_of_images_is_a_menu_and_one_that_is_not_whole_is_left_out() {
        let images: [(&str, &[(&str, Of<'_>)]); 3] =
            [("isos/debian.iso", &LIVE), ("isos/tools/debian.iso", &LIVE), ("isos/later.iso", &LIVE)];
        let pattern = "isos = \"isos/**/*.iso\"\n[profiles.debian]\nkernel = \"isos/debian.iso/live/vmlinuz\"\n";
        let (settings, said) = read(&images, pattern);
        assert_eq!(said, [""; 0]);
        let names: Vec<(&str, Option<&str>)> =
            settings.profiles.iter().map(|(name, profile)| (name.as_str(), profile.folder.as_deref())).collect();
        assert_eq!(
            names,
            [("debian", None), ("isos-debian", None), ("isos-tools-debian", Some("tools")), ("later", None)]
        );
        let menu = booted(settings, "menu");
        let first = "\nitem profile_later Debian GNU/Linux 12.5 (later)\nitem folder_1 tools ...\nitem local ";
        let second = "\n:folder_1\nmenu -- tools: choose what 52-54-00-12-34-56 boots || goto retry\n\
                      item profile_isos-tools-debian Debian GNU/Linux 12.5 (isos-tools-debian)\nitem retry Back\n";
        assert!(menu.contains(first) && menu.contains(second), "{menu}");
    }

    #[test]
    fn images_of_one_title_are_told_apart_by_their_names() {
        let images: [(&str, &[(&str, Of<'_>)]); 3] =
            [("isos/gnome.iso", &LIVE), ("isos/kde.iso", &LIVE), ("own.iso", &LIVE)];
        let titles = |text: &str| {
            let (settings, _) = read(&images, text);
            let title = |name: &str| settings.profiles.get(name).and_then(|profile| profile.title.clone());
            ["gnome", "kde", "own"].map(|name| title(name).unwrap_or_default())
        };
        let plain = "Debian GNU/Linux 12.5";
        let (gnome, kde) = (format!("{plain} (gnome)"), format!("{plain} (kde)"));
        assert_eq!(titles("isos = \"isos/g*.iso\"\n"), [plain, "", ""]);
        assert_eq!(titles("isos = \"isos/*.iso\"\n"), [&gnome, &kde, ""]);
        // A title that its author wrote stays as it is.
        let own = "isos = \"isos/g*.iso\"\n[profiles.own]\niso = \"own.iso\"\n";
        assert_eq!(titles(own), [&gnome, "", &format!("{plain} (own)")]);
        assert_eq!(titles(&format!("{own}title = \"{plain}\"\n")), [&gnome, "", plain]);
        assert_eq!(titles(&format!("{own}title = \"Mine\"\n")), [plain, "", "Mine"]);
    }

    #[test]
    fn what_is_wrong_with_a_command_line_of_an_image_names_its_profile() {
        let mut kernel = [0; 0x300];
        kernel[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
        kernel[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        kernel[0x238] = 100;
        let menu = format!("menuentry x {{\n linux /k {} # the default\n}}\n", "quiet ".repeat(20));
        let long: [(&str, Of<'_>); 2] = [("k", Of::Bytes(&kernel)), ("boot/grub/grub.cfg", menu.as_str().into())];
        let (_, said) = read(&[("a.iso", &long)], "isos = \"*.iso\"\n");
        assert_eq!(
            said,
            ["the profile \"a\" of an image: the command line has 119 bytes, but the kernel uses only the first 100"]
        );
        let odd: [(&str, Of<'_>); 3] =
            [("live/vmlinuz", "k".into()), ("live/initrd.img", "i".into()), ("live/a #b.squashfs", "hsqs".into())];
        let (_, said) = read(&[("a.iso", &odd)], "isos = \"*.iso\"\n");
        assert!(
            said[0].starts_with("the profile \"a\" of an image: ") && said[0].contains("a word that begins with #"),
            "{said:?}"
        );
    }

    #[test]
    fn answers_are_named_in_the_familys_own_way() {
        let anaconda: [(&str, Of<'_>); 5] = [
            (".treeinfo", "[general]\nfamily = Fedora\nversion = 40\narch = x86_64\n".into()),
            ("images/install.img", "x".into()),
            ("images/pxeboot/vmlinuz", "kernel".into()),
            ("images/pxeboot/initrd.img", "initrd".into()),
            ("repodata/repomd.xml", "x".into()),
        ];
        let profile = |answers: &str| format!("[profiles.x]\niso = \"x.iso\"\nanswers = \"{answers}\"\n");
        let (settings, said) = read(&[("x.iso", &anaconda)], &profile("debian"));
        assert_eq!(said, [""; 0]);
        let text = booted(settings, "x");
        assert!(text.contains(" inst.ks=http://192.0.2.10:8080/answers/s/unsigned/debian || goto failed"), "{text}");
        let (_, said) = read(&[("x.iso", &anaconda)], &profile("nothing"));
        assert_eq!(said, ["answers = \"nothing\" is no file in the templates folder"]);
        let (_, said) = read(&[("x.iso", &LIVE)], &profile("debian"));
        assert!(said[0].contains("takes no answer file by its command line: leave answers out"), "{said:?}");
        let (_, said) = read(&[], "[profiles.x]\nkernel = \"k\"\nanswers = \"debian\"\n");
        assert!(said.iter().any(|said| said.starts_with("answers goes with iso")), "{said:?}");
    }

    #[test]
    fn xen_is_served_unpacked_and_its_linux_gets_what_the_user_adds() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"\x7fELF").expect("packed");
        let packed = packed.finish().expect("packed");
        let files = [
            ("boot/xen.gz", Of::Bytes(&packed)),
            ("boot/vmlinuz", "kernel".into()),
            ("install.img", "x".into()),
            (".treeinfo", "[general]\nname = XCP-ng\nversion = 8.2.1\n".into()),
        ];
        let profile = "[profiles.x]\niso = \"x.iso\"\nanswers = \"debian\"\ncmdline = \"host={{ machine.mac }}\"\n";
        let (settings, said) = read(&[("x.iso", &files)], profile);
        assert_eq!(said, [""; 0]);
        let text = booted(settings, "x");
        let base = "http://192.0.2.10:8080";
        let url = format!("{base}/assets/x.iso");
        let lines = format!(
            "kernel {url}/.netbootd/x86_64/xen dom0_max_vcpus=2 dom0_mem=2048M,max:2048M com1=115200,8n1 console=com1,vga || \
             goto failed\n\
             initrd --name vmlinuz {url}/boot/vmlinuz xencons=hvc console=hvc0 console=tty0 \
             answerfile={base}/answers/s/unsigned/debian install host=52:54:00:12:34:56 || goto failed\n\
             initrd --name install.img {url}/install.img || goto failed\n"
        );
        assert!(text.contains(&lines), "{text}");
    }

    #[test]
    fn the_installer_of_a_debian_release_is_booted_by_its_netboot_kernel() {
        let of = |info: &'static str| {
            let files: [(&str, Of<'_>); 4] = [
                (".disk/info", info.into()),
                ("install.amd/vmlinuz", "kernel".into()),
                ("install.amd/initrd.gz", "initrd".into()),
                ("dists/x/Release", "x".into()),
            ];
            let (settings, said) = read(&[("d.iso", &files)], "[profiles.d]\niso = \"d.iso\"\n");
            (settings.profiles["d"].about[0].clone(), said.join("\n"))
        };
        let (about, _) = of("Debian GNU/Linux 12.5.0 \"Bookworm\" - Official amd64 NETINST 20240210-11:27");
        assert!(about.ends_with(", booted by the netboot kernel of its release"), "{about}");
        for info in ["Debian GNU/Linux testing \"Forky\" - Unofficial amd64", "Devuan GNU/Linux 5.0.0 daedalus amd64"] {
            let (about, said) = of(info);
            assert!(about.contains(", not booted: the initial RAM disk of the image needs a disc, "), "{about}");
            assert!(said.contains("take linux and initrd.gz from netboot.tar.gz"), "{said}");
        }
    }

    #[test]
    fn the_loader_of_esxi_is_given_a_boot_cfg_that_names_this_server() {
        let esxi: [(&str, Of<'_>); 5] = [
            ("MBOOT.C32", "x".into()),
            ("BOOT.CFG", "kernel=/b.b00\nmodules=/k.b00\n".into()),
            ("EFI/BOOT/BOOTX64.EFI", "x".into()),
            ("B.B00", "x".into()),
            ("K.B00", "x".into()),
        ];
        let profile = "[profiles.e]\niso = \"e x.iso\"\nanswers = \"debian\"\ncmdline = \"systemMediaSize=min\"\n";
        let (settings, said) = read(&[("e x.iso", &esxi)], profile);
        assert_eq!(said, [""; 0]);
        let e = settings.profiles["e"].clone();
        assert!(e.about[0].contains("booted by its own loader"), "{:?}", e.about);
        let Boot::Linux(bios) = e.boot("i386") else { panic!("{:?}", e.boot("i386")) };
        assert_eq!((bios.kernel.as_str(), bios.initrd.len()), ("e-x.iso/MBOOT.C32", 0));
        assert!(bios.cmdline.contains("/.netbootd/i386/boot.cfg "), "{}", bios.cmdline);
        let text = booted(settings, "e");
        let url = "http://192.0.2.10:8080/assets/e-x.iso";
        let line = format!(
            "chain {url}/EFI/BOOT/BOOTX64.EFI -c {url}/.netbootd/x86_64/boot.cfg \
             ks=http://192.0.2.10:8080/answers/s/unsigned/debian systemMediaSize=min || goto failed\n"
        );
        assert!(text.contains(&line), "{text}");
    }

    #[test]
    fn the_address_is_taken_apart_for_those_that_want_its_parts() {
        let mageia: [(&str, Of<'_>); 2] =
            [("isolinux/x86_64/vmlinuz", "kernel".into()), ("isolinux/x86_64/all.rdz", "initrd".into())];
        let (settings, _) = read(&[("m.iso", &mageia)], "[profiles.m]\niso = \"m.iso\"\n");
        let text = booted(settings, "m");
        let line = "automatic=method:http,network:dhcp,server:192.0.2.10:8080,directory:/assets/m.iso/x86_64 ||";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn what_an_image_says_is_no_template() {
        assert_eq!(super::escaped("a {{ b }} {% c"), "a {{ '{{' }} b }} {{ '{%' }} c");
    }
}
