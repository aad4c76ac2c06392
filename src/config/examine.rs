//! Faults and warnings that a server can run with: files of the wrong kind, rules that never apply, profiles that no
//! machine can reach, missing loaders.

use std::{collections::HashMap, net::IpAddr};

use super::{
    Fault, Finding, Level,
    check::is_profile,
    fixed::Fixed,
    limits::{self, head},
    load::Loaded,
    meant,
    settings::Settings,
};
use crate::{
    boot::{
        chain::Lead,
        identity::{is_own_serial, own_uuid},
        image::{Role, is_packed_for_x86, may_be_boot_program, takes_any_file},
        length,
        loader::Loader,
        loaders::Loaders,
        machine::{MachineRule, Rules},
        next::GRUB,
        profile::{Boot, Linux, Profile},
        program::has_own_cmdline,
        reason::{Reason, install_hint},
        selector::Selector,
        shadow::{Lost, Shadowed, shadowed},
        urls::without_password,
    },
    files::AssetRoot,
};

/// Checks a configuration a second time, after it was resolved.
pub(super) fn examine(loaded: &Loaded, settings: &Settings) -> (Vec<Fault>, Vec<Finding>) {
    let mut examination = Examination { loaded, settings, duplicates: Vec::new(), findings: Vec::new() };
    if let Some(assets) = &settings.fixed.assets {
        for (name, profile) in &settings.profiles {
            examination.files(name, profile, assets);
        }
    }
    examination.unreachable();
    examination.rules();
    examination.base_url();
    examination.transfer_ports();
    examination.findings.extend(limits::examine(loaded, settings));
    (examination.duplicates, examination.findings)
}

/// Findings about the loaders that were found for a configuration.
#[must_use]
pub fn loaders(settings: &Settings, loaders: &Loaders) -> Vec<Finding> {
    // Most networks have machines of both kinds, and of no other.
    let missing = [Loader::Bios, Loader::EfiX86_64].into_iter().filter(|loader| loaders.of(*loader).is_none());
    let missing = missing.map(|loader| {
        let message = format!("no loader for {}: {}", loader.title(), install_hint(loader));
        Finding { level: Level::Warning, fault: Fault { place: "loaders".into(), message } }
    });
    let named = settings.loader_places.iter().filter_map(|(index, place)| {
        let (selector, rule) = settings.machines.get(*index)?;
        let message = unfit(rule.loader.as_deref()?, selector, settings.fixed.assets.as_deref(), loaders)?;
        // What a package brings may be installed or replaced later.
        let level = if rule.loader.as_deref() == Some(GRUB) { Level::Warning } else { Level::Fault };
        Some(Finding { level, fault: Fault { place: place.clone(), message } })
    });
    let incomplete = loaders.sets.incomplete.iter().map(|incomplete| {
        let message =
            format!("no {} loaders for {}: {}", incomplete.title(), incomplete.loader.title(), incomplete.missing);
        Finding { level: Level::Warning, fault: Fault { place: incomplete.place.clone(), message } }
    });
    missing.chain(named).chain(incomplete).chain(limits::loaders(settings, loaders)).collect()
}

/// Why machines that match a rule cannot use the loader that the rule names.
fn unfit(name: &str, selector: &Selector, assets: Option<&AssetRoot>, loaders: &Loaders) -> Option<String> {
    if name.len() > LONGEST_NAME {
        let length = name.len();
        return Some(format!(
            "the loader's path has {length} bytes, but an offer has room for {LONGEST_NAME}: use a shorter one"
        ));
    }
    match loaders.named(name) {
        None if name == GRUB => unfit_grub(selector, loaders),
        Some(file) if selector.archs.is_empty() || selector.archs.contains(&file.loader) => None,
        Some(file) => {
            let asked: Vec<&str> = selector.archs.iter().map(|arch| arch.title()).collect();
            Some(format!("{name} is for {}, but the rule matches {}", file.loader.title(), asked.join(", ")))
        }
        None if assets.is_none() && name.contains('/') && !is_found_behind_folders(name, loaders) => {
            Some(format!("{name} is a path below the assets folder, but no assets folder is set: set assets"))
        }
        // For a path, the missing asset is already reported.
        None if name.contains('/') || assets.is_some_and(|assets| assets.file(name).is_ok()) => None,
        None => {
            let meant = meant(name, loaders.iter().map(|file| file.name.as_str()));
            let fix = "`netbootd loaders` lists the known loaders; or give a path below the assets folder";
            Some(format!("unknown loader {name:?}{meant}: {fix}"))
        }
    }
}

/// Whether it is a loader of this host, which TFTP and HTTP find in any folder.
fn is_found_behind_folders(name: &str, loaders: &Loaders) -> bool {
    name.rsplit('/').next().is_some_and(|last| loaders.iter().any(|file| file.name.eq_ignore_ascii_case(last)))
}

/// Why machines that match a rule cannot use the GRUB of this host.
fn unfit_grub(selector: &Selector, loaders: &Loaders) -> Option<String> {
    let archs = if selector.archs.is_empty() { vec![Loader::EfiX86_64] } else { selector.archs.clone() };
    archs.into_iter().find_map(|loader| match loaders.sets.offered(loader, Lead::Grub) {
        None => Some(Reason::GrubMissing(loader).to_string()),
        Some(set) => {
            let limit = set.limit()?;
            Some(format!("machines with this rule cannot boot with {}: {limit}", set.second.origin))
        }
    })
}

/// In bytes: `file` of a DHCP message has 128, with a NUL at its end (RFC 2131 §2), and a shim reads nothing else.
const LONGEST_NAME: usize = 127;

struct Examination<'a> {
    loaded: &'a Loaded,
    settings: &'a Settings,
    /// Two rules with the same MAC address, UUID or serial number. It is unclear which rule applies.
    duplicates: Vec<Fault>,
    findings: Vec<Finding>,
}

impl Examination<'_> {
    /// A host name is correct where machines have DNS. The warning is for networks where they do not.
    fn base_url(&mut self) {
        let http = &self.settings.fixed.http;
        let (url, Some(host)) = (http.base_url.as_deref().unwrap_or_default(), http.host()) else { return };
        let url = without_password(url);
        let message = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => return,
            Ok(IpAddr::V6(_)) => format!(
                "{url} has an IPv6 address, which boot scripts use: netbootd listens on IPv4 only, so another server has to \
                 listen there. If there is none, use an IPv4 address"
            ),
            Err(_) => format!(
                "{url} has a host name, which boot scripts use: your DHCP server must give machines a DNS server that \
                 knows this name. UEFI HTTP Boot often has no DNS, so its loader URLs use this server's address and http.port"
            ),
        };
        self.find(Level::Warning, &["http", "base_url"], message);
    }

    /// Each transfer has a port of its own.
    fn transfer_ports(&mut self) {
        let (ports, most) = (self.settings.fixed.tftp.transfer_ports.as_ref(), self.settings.fixed.tftp.max_transfers);
        if let Some(count) =
            ports.map(|ports| usize::from(ports.end() - ports.start()) + 1).filter(|count| *count < most)
        {
            let message = format!(
                "{count} ports are fewer than max_transfers = {most}, and each transfer has a port of its own: set a \
                 range of {most} ports, or a lower max_transfers"
            );
            self.find(Level::Warning, &["tftp", "transfer_ports"], message);
        }
    }

    fn find(&mut self, level: Level, path: &[&str], message: String) {
        if !self.loaded.is_doubtful(path) {
            let fault = Fault { place: self.loaded.places.of(path), message };
            // A variant that uses a file of its profile has the same fault at the same place. Report it once.
            if !self.findings.iter().any(|finding| finding.fault == fault) {
                self.findings.push(Finding { level, fault });
            }
        }
    }

    fn files(&mut self, name: &str, profile: &Profile, assets: &AssetRoot) {
        let own = self.loaded.config.profiles.get(name);
        for (arch, boot) in profile.boots() {
            let variant = arch.and_then(|arch| own?.arch.get(arch));
            // A variant uses the files of its profile for every key that it does not set.
            let base = |is_own: bool| match arch {
                Some(arch) if is_own => vec!["profiles", name, "arch", arch],
                _ => vec!["profiles", name],
            };
            let key = |is_own: bool, key: &[&'static str]| [base(is_own), key.to_vec()].concat();
            match boot {
                Boot::Linux(linux) => {
                    // Of an image, the place is where the image is named.
                    let of_image =
                        own.is_some_and(|own| own.iso.is_some()) || variant.is_some_and(|own| own.iso.is_some());
                    let what = if of_image { "iso" } else { "kernel" };
                    let is_own = variant.is_some_and(|own| own.kernel.is_some() || own.iso.is_some());
                    let arch = arch.filter(|_| !of_image);
                    let kernel = key(is_own, &[what]);
                    self.file(Role::Kernel, &kernel, &linux.kernel, arch, assets);
                    self.own_cmdline(&kernel, &linux.kernel, &linux.cmdline, assets);
                    let initrd = key(variant.is_some_and(|own| !own.initrd.is_empty()), &["initrd"]);
                    self.initrds(&initrd, linux, assets);
                }
                Boot::Efi { path, cmdline } => {
                    let key = key(variant.is_some_and(|own| own.efi.is_some()), &["efi"]);
                    self.file(Role::Efi, &key, path, arch, assets);
                    self.own_cmdline(&key, path, cmdline, assets);
                }
                Boot::Iso(path) => self.file(
                    Role::Iso,
                    &key(variant.is_some_and(|o| o.sanboot.is_some()), &["sanboot"]),
                    path,
                    arch,
                    assets,
                ),
                Boot::Disk(path) => self.file(
                    Role::Disk,
                    &key(variant.is_some_and(|o| o.disk.is_some()), &["disk"]),
                    path,
                    arch,
                    assets,
                ),
                // Of an image that was recognised, and what the user supplies for it.
                Boot::Modules(modules) => self.file(Role::Kernel, &key(false, &["iso"]), &modules.kernel, None, assets),
                Boot::Script(_) | Boot::Menu | Boot::Local | Boot::Shell | Boot::Faulty(_) => {}
            }
        }
    }

    fn initrds(&mut self, key: &[&str], linux: &Linux, assets: &AssetRoot) {
        let is_any = head(assets, &linux.kernel).is_some_and(|kernel| takes_any_file(&kernel));
        for (index, path) in linux.initrd.iter().enumerate().filter(|_| !is_any) {
            let index_text = index.to_string();
            let key = [key, &[&index_text]].concat();
            self.file(Role::Initrd, &key, path, None, assets);
            // An EFI kernel joins the initrds of its command line without padding (drivers/firmware/efi/libstub,
            // `handle_cmdline_files`). It ignores an archive that does not start at a multiple of four. Then the
            // machine boots, but files are missing without an error.
            let is_followed = index + 1 < linux.initrd.len();
            if is_followed && assets.file(path).is_ok_and(|asset| asset.size % 4 != 0) {
                let message = format!(
                    "the size of {path} is not a multiple of 4: a UEFI machine can lose the next initrd; \
                     pad it with truncate --size=%4 {path}"
                );
                self.find(Level::Warning, &key, message);
            }
        }
    }

    /// Missing and empty files are already reported.
    fn file(&mut self, role: Role, key: &[&str], path: &str, arch: Option<&str>, assets: &AssetRoot) {
        let Some(head) = head(assets, path).filter(|head| !head.is_empty()) else { return };
        let size = assets.file(path).map(|asset| asset.size).unwrap_or(u64::MAX);
        let checked = role.check(&head, arch).and_then(|()| match role {
            Role::Kernel | Role::Efi => length::check(&head, size),
            Role::Initrd | Role::Iso | Role::Disk => Ok(()),
        });
        match checked {
            Err(_)
                if role == Role::Kernel
                    && arch.is_none_or(|arch| arch == "i386")
                    && may_be_boot_program(&head, size) =>
            {
                let message =
                    format!("{path} is of an unknown type: iPXE starts it as a boot program (PXE), on a BIOS only");
                self.find(Level::Warning, key, message);
            }
            Err(words) => self.find(Level::Fault, key, format!("{path} {words}")),
            Ok(()) if role == Role::Kernel && is_packed_for_x86(&head) => {
                let message = format!(
                    "{path} is compressed with gzip, which most builds of iPXE for x86 do not unpack: unpack it \
                     (gunzip --keep {path}), and name the unpacked file"
                );
                self.find(Level::Warning, key, message);
            }
            Ok(()) => {}
        }
    }

    /// iPXE always gives an EFI program a command line: the program's name at least. A unified kernel image then leaves its
    /// own one out, unless Secure Boot is on (systemd-stub(7)).
    fn own_cmdline(&mut self, key: &[&str], path: &str, cmdline: &str, assets: &AssetRoot) {
        if cmdline.trim().is_empty() && head(assets, path).is_some_and(|head| has_own_cmdline(&head)) {
            let message = format!(
                "{path} has a command line of its own, which it does not use when iPXE starts it without Secure Boot: \
                 write that line into cmdline too"
            );
            self.find(Level::Warning, key, message);
        }
    }

    /// `netbootd assign` can assign any profile, so this can be intended.
    fn unreachable(&mut self) {
        let Settings { profiles, default_profile, machines, .. } = self.settings;
        let rules = || machines.iter().map(|(_, rule)| rule);
        // Unknown profile names are already reported. Such a name can be a typing error for an unused profile.
        let mut named = rules().filter_map(|rule| rule.profile.as_ref()).chain([default_profile]);
        if !named.all(|name| is_profile(name, profiles)) {
            return;
        }
        let leads = |name: &str| rules().any(|rule| rule.profile.as_deref().unwrap_or(default_profile) == name);
        let anyones = |name: &str| default_profile == name || leads(name);
        // A menu without a list of profiles shows all profiles.
        let shows = |name: &String| {
            let of_rule = |rule: &MachineRule| {
                rule.profile.as_deref().unwrap_or(default_profile) == "menu"
                    && (rule.menu.is_empty() || rule.menu.contains(name))
            };
            default_profile == "menu" || rules().any(of_rule)
        };
        let lost = profiles.keys().filter(|name| !anyones(name) && !shows(name));
        for name in lost {
            let message = format!(
                "the profile {name:?} is not used by a rule, a menu or default_profile; only `netbootd assign` can \
                 give it to a machine"
            );
            self.find(Level::Warning, &["profiles", name], message);
        }
    }

    /// What is chosen from a menu, and the local disk, are never used up.
    fn once_of_nothing(&mut self) {
        let Settings { machines, default_profile, .. } = self.settings;
        for (index, (_, rule)) in machines.iter().enumerate() {
            let profile = rule.profile.as_ref().unwrap_or(default_profile);
            if (rule.once || rule.until_installed.is_some()) && Rules::BUILT_IN.contains(&profile.as_str()) {
                let message = format!(
                    "once has no effect on the built-in profile {profile:?}: name the profile that the machine boots once"
                );
                self.find(Level::Warning, &["machines", &index.to_string(), "once"], message);
            }
        }
    }

    /// What is kept of a machine is kept under its rule's `name`: two machines with one name would have one `once`, and
    /// to install one of them again would wipe the other.
    fn names_twice(&mut self) {
        let machines = &self.settings.machines;
        let named = machines.iter().enumerate().filter(|(_, (selector, _))| selector.names_one_machine());
        let named = named.filter_map(|(index, (selector, rule))| Some((index, selector, rule.name.as_deref()?)));
        let mut earlier: HashMap<String, Vec<(usize, &Selector)>> = HashMap::new();
        for (index, selector, name) in named {
            let before = earlier.entry(name.to_lowercase()).or_default();
            if let Some((first, _)) = before.iter().find(|(_, other)| are_two_machines(selector, other)) {
                let message = format!(
                    "the name {name} is that of {} too, which names another machine: what is kept of a machine, such as \
                     that it was installed, is kept under its name; give this one a name of its own, or, if they are cards \
                     of one machine, put both into one rule",
                    self.rule(*first)
                );
                let place = self.loaded.places.of(&["machines", &index.to_string(), "name"]);
                self.duplicates.push(Fault { place, message });
            }
            before.push((index, selector));
        }
    }

    /// UUIDs and serial numbers that many boards share. A rule with such a value matches all of them.
    fn shared_names(&mut self) {
        for (index, (selector, _)) in self.settings.machines.iter().enumerate() {
            let uuids = selector.uuids.iter().enumerate().filter(|(_, uuid)| own_uuid(**uuid).is_none());
            let uuids = uuids.map(|(place, uuid)| ("uuid", place, uuid.to_string()));
            let serials = selector.serials.iter().enumerate().filter(|(_, serial)| !is_own_serial(serial));
            let serials = serials.map(|(place, serial)| ("serial", place, format!("{serial:?}")));
            for (key, place, name) in uuids.chain(serials) {
                let message = format!(
                    "many boards have the same {key} {name}, so this rule matches all of them; \
                     use mac instead"
                );
                self.find(Level::Warning, &["machines", &index.to_string(), key, &place.to_string()], message);
            }
        }
    }

    fn rules(&mut self) {
        let Settings { machines, fixed: Fixed { interfaces, .. }, .. } = self.settings;
        for (index, (selector, rule)) in machines.iter().enumerate() {
            let Some(key) = selector.known_to_ipxe_only() else { continue };
            let what =
                if key == "serial" { "only iPXE reports serial numbers" } else { "only iPXE reports hardware data" };
            if rule.loader.is_some() {
                let message = format!("{what}, so this rule cannot choose a loader: use mac or uuid");
                self.find(Level::Warning, &["machines", &index.to_string(), "override", "loader"], message);
            }
            if self.settings.offers.known_only {
                let message = format!(
                    "{what}, and with dhcp.answer = \"known\" a machine that matches only this rule does not \
                     get iPXE: use mac or uuid, or approve the machine"
                );
                self.find(Level::Warning, &["machines", &index.to_string(), key], message);
            }
        }
        self.shared_names();
        self.names_twice();
        self.once_of_nothing();
        // Without `interfaces`, netbootd chooses one at its start.
        let is_served = |name: &String| interfaces.is_empty() || interfaces.contains(name);
        for (index, (selector, _)) in machines.iter().enumerate() {
            for (place, name) in selector.interfaces.iter().enumerate().filter(|(_, name)| !is_served(name)) {
                let meant = meant(name, interfaces.iter().map(String::as_str));
                let there = interfaces.join(", ");
                let message = format!(
                    "{name} is not a served interface{meant}, so this rule matches no machine there; served interfaces: {there}"
                );
                let path = ["machines", &index.to_string(), "interface", &place.to_string()];
                self.find(Level::Warning, &path, message);
            }
        }
        for Shadowed { rule, lost, wholly } in shadowed(machines.iter().map(|(selector, _)| selector)) {
            let index = rule.to_string();
            if wholly {
                let mut winners: Vec<usize> = lost.iter().map(|lost| lost.to).collect();
                winners.sort_unstable();
                winners.dedup();
                let winners: Vec<String> = winners.into_iter().map(|winner| self.rule(winner)).collect();
                let message = format!(
                    "this rule never applies: all its machines match {} first; of equally specific rules \
                     the first one decides. Remove one of them",
                    winners.join(" and ")
                );
                let key = lost.first().map_or("", |lost| lost.key);
                self.lost(key, &["machines", &index], message);
                continue;
            }
            for Lost { key, index: place, to } in lost {
                let names = self.loaded.config.machines.get(rule).map(|machine| machine.names(key).to_vec());
                let name = names.and_then(|names| names.get(place).cloned()).unwrap_or_default();
                let message = format!(
                    "{name} is also in {}; of equally specific rules the first one decides. Remove it from one of them",
                    self.rule(to)
                );
                let path = ["machines", &index, key, &place.to_string()];
                self.lost(key, &path, message);
            }
        }
    }

    /// Reports a rule that never applies to some of its machines. The same MAC address, UUID or serial number in two
    /// rules is a fault of the text: with the wrong rule, the wrong machine could be installed.
    fn lost(&mut self, key: &str, path: &[&str], message: String) {
        match key {
            "mac" | "uuid" | "serial" if !self.loaded.is_doubtful(path) => {
                self.duplicates.push(Fault { place: self.loaded.places.of(path), message });
            }
            _ => self.find(Level::Fault, path, message),
        }
    }

    fn rule(&self, index: usize) -> String {
        let place = self.loaded.places.of(&["machines", &index.to_string()]);
        format!("rule {} ({place})", index + 1)
    }
}

/// Whether two rules name machines by the same key, and no machine of one is one of the other.
fn are_two_machines(one: &Selector, other: &Selector) -> bool {
    fn differ<T: PartialEq>(one: &[T], other: &[T]) -> bool {
        !one.is_empty() && !other.is_empty() && !one.iter().any(|name| other.contains(name))
    }
    differ(&one.macs, &other.macs) || differ(&one.uuids, &other.uuids) || differ(&one.serials, &other.serials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::loader::tests::file,
        config::{load::load, resolve::attempt},
    };

    #[test]
    fn missing_and_unfit_loaders_are_reported_with_the_fix() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("n.toml");
        let text = "[[machines]]\narch = \"bios\"\noverride = { loader = \"snponly.efi\" }\n\
                    [[machines]]\noui = \"b8:ca:3a\"\noverride = { loader = \"snponyl.efi\" }\n\
                    [[machines]]\nmac = \"52:54:00:12:34:56\"\noverride = { loader = \"snponly.efi\" }\n\
                    [[machines]]\noui = \"b8:ca:3b\"\noverride = { loader = \"debian/shimx64.efi\" }\n\
                    [[machines]]\noui = \"b8:ca:3c\"\noverride = { loader = \"ipxe/SNPONLY.EFI\" }\n";
        std::fs::write(&path, text).expect("written");
        let (settings, faults) = attempt(&load(Some(&path), [], &[]).expect("read"));
        assert_eq!(faults, []);
        let there = Loaders::new(vec![file("snponly.efi", Loader::EfiX86_64)]);
        let found = loaders(&settings, &there).into_iter().map(|Finding { level, fault }| {
            (level, fault.place.replace(&format!("{}/", scratch.path().display()), ""), fault.message)
        });
        let hint = "install the package ipxe (Debian, Ubuntu) or ipxe-bootimgs-x86 (Fedora, RHEL)";
        let fix = "`netbootd loaders` lists the known loaders; or give a path below the assets folder";
        assert_eq!(
            found.collect::<Vec<_>>(),
            [
                (Level::Warning, "loaders".into(), format!("no loader for BIOS: {hint}")),
                (
                    Level::Fault,
                    "n.toml:3:14".into(),
                    "snponly.efi is for UEFI x86_64, but the rule matches BIOS".into()
                ),
                (
                    Level::Fault,
                    "n.toml:6:14".into(),
                    format!("unknown loader \"snponyl.efi\" (did you mean \"snponly.efi\"?): {fix}")
                ),
                (
                    Level::Fault,
                    "n.toml:12:14".into(),
                    "debian/shimx64.efi is a path below the assets folder, but no assets folder is set: set assets"
                        .into()
                ),
            ]
        );
    }
}
