//! What a server runs with, and people want to know of: files that are not what they are named for, rules that never
//! win, profiles that nothing leads to, loaders that are missing.

use std::collections::HashMap;

use super::{
    Fault, Finding, Level,
    check::is_profile,
    limits::{self, head},
    load::Loaded,
    meant,
    settings::Settings,
};
use crate::{
    boot::{
        identity::{is_own_serial, own_uuid},
        image::{Role, takes_any_file},
        loader::{Loader, Loaders},
        machine::MachineRule,
        profile::{Boot, Linux, Profile},
        selector::Selector,
        shadow::{Lost, Shadowed, shadowed},
        why::install_hint,
    },
    files::AssetRoot,
};

/// Looks at a configuration a second time, with what was made of it.
pub(super) fn examine(loaded: &Loaded, settings: &Settings) -> (Vec<Fault>, Vec<Finding>) {
    let mut examination = Examination { loaded, settings, duplicates: Vec::new(), findings: Vec::new() };
    if let Some(assets) = &settings.assets {
        for (name, profile) in &settings.profiles {
            examination.files(name, profile, assets);
        }
    }
    examination.unreachable();
    examination.rules();
    examination.base_url();
    examination.findings.extend(limits::examine(loaded, settings));
    (examination.duplicates, examination.findings)
}

/// What is to be said of the loaders that were found for a configuration.
#[must_use]
pub fn loaders(settings: &Settings, loaders: &Loaders) -> Vec<Finding> {
    // Most networks have both, and nothing else.
    let missing = [Loader::Bios, Loader::EfiX86_64].into_iter().filter(|loader| loaders.of(*loader).is_none());
    let missing = missing.map(|loader| {
        let message = format!("no loader for {}: {}", loader.title(), install_hint(loader));
        Finding { level: Level::Warning, fault: Fault { place: "loaders".into(), message } }
    });
    let named = settings.loader_places.iter().filter_map(|(index, place)| {
        let (selector, rule) = settings.machines.get(*index)?;
        let message = unfit(rule.loader.as_deref()?, selector, settings.assets.as_deref(), loaders)?;
        Some(Finding { level: Level::Fault, fault: Fault { place: place.clone(), message } })
    });
    missing.chain(named).chain(limits::loaders(settings, loaders)).collect()
}

/// Why machines that a rule is about cannot be given the loader that it names.
fn unfit(name: &str, selector: &Selector, assets: Option<&AssetRoot>, loaders: &Loaders) -> Option<String> {
    match loaders.named(name) {
        Some(file) if selector.archs.is_empty() || selector.archs.contains(&file.loader) => None,
        Some(file) => {
            let asked: Vec<&str> = selector.archs.iter().map(|arch| arch.title()).collect();
            Some(format!("{name} is for {}, and the rule is about {}", file.loader.title(), asked.join(", ")))
        }
        // Of a path, it has been told already that there is no such asset.
        None if name.contains('/') || assets.is_some_and(|assets| assets.file(name).is_ok()) => None,
        None => {
            let meant = meant(name, loaders.iter().map(|file| file.name.as_str()));
            let mend = "netbootd loaders lists those that there are, and an asset would do as well";
            Some(format!("there is no loader {name:?}{meant}: {mend}"))
        }
    }
}

/// Whether a URL's host is a name, and no address.
#[must_use]
pub fn names_a_host(url: &str) -> bool {
    let uri = url.parse::<http::Uri>().ok();
    let is_name = |host: &str| host.parse::<std::net::Ipv4Addr>().is_err();
    uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some_and(is_name))
}

struct Examination<'a> {
    loaded: &'a Loaded,
    settings: &'a Settings,
    /// Two machines with one MAC address, UUID or serial number: nobody knows which of them is meant.
    duplicates: Vec<Fault>,
    findings: Vec<Finding>,
}

impl Examination<'_> {
    /// It is as it should be for those that have DNS, and people want to know of those that have none.
    fn base_url(&mut self) {
        if let Some(url) = self.settings.base_url.as_deref().filter(|url| names_a_host(url)) {
            let message = format!(
                "{url} names a host: scripts use the name, so the leasing server has to give machines a DNS server that \
                 knows it; UEFI HTTP Boot often has no DNS, so its loader URLs keep this server's address and http.port"
            );
            self.find(Level::Warning, &["http", "base_url"], message);
        }
    }

    fn find(&mut self, level: Level, path: &[&str], message: String) {
        if !self.loaded.is_doubtful(path) {
            let fault = Fault { place: self.loaded.places.of(path), message };
            // A variant that takes over a file from its profile has that file's faults at the same place.
            if !self.findings.iter().any(|finding| finding.fault == fault) {
                self.findings.push(Finding { level, fault });
            }
        }
    }

    fn files(&mut self, name: &str, profile: &Profile, assets: &AssetRoot) {
        let own = self.loaded.config.profiles.get(name);
        for (arch, boot) in profile.boots() {
            let variant = arch.and_then(|arch| own?.arch.get(arch));
            // What a variant does not name, it has from its profile.
            let base = |is_own: bool| match arch {
                Some(arch) if is_own => vec!["profiles", name, "arch", arch],
                _ => vec!["profiles", name],
            };
            let key = |is_own: bool, key: &[&'static str]| [base(is_own), key.to_vec()].concat();
            match boot {
                Boot::Linux(linux) => {
                    let kernel = key(variant.is_some_and(|own| own.kernel.is_some()), &["kernel"]);
                    self.file(Role::Kernel, &kernel, &linux.kernel, arch, assets);
                    let initrd = key(variant.is_some_and(|own| !own.initrd.is_empty()), &["initrd"]);
                    self.initrds(&initrd, linux, assets);
                }
                Boot::Efi { path, .. } => {
                    let key = key(variant.is_some_and(|own| own.efi.is_some()), &["efi"]);
                    self.file(Role::Efi, &key, path, arch, assets);
                }
                Boot::Iso(path) => {
                    self.file(Role::Iso, &key(variant.is_some_and(|o| o.iso.is_some()), &["iso"]), path, arch, assets)
                }
                Boot::Disk(path) => self.file(
                    Role::Disk,
                    &key(variant.is_some_and(|o| o.disk.is_some()), &["disk"]),
                    path,
                    arch,
                    assets,
                ),
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
            // An EFI kernel joins the initrds that its command line names without padding (drivers/firmware/efi/libstub,
            // `handle_cmdline_files`), and its unpacker loses an archive that does not begin at a multiple of four: the
            // machine boots and silently lacks files.
            let is_followed = index + 1 < linux.initrd.len();
            if is_followed && assets.file(path).is_ok_and(|asset| asset.size % 4 != 0) {
                let message = format!(
                    "the length of {path} is no multiple of 4: a UEFI machine may lose the initrd behind it; \
                     pad it with truncate --size=%4 {path}"
                );
                self.find(Level::Warning, &key, message);
            }
        }
    }

    /// Of a file that is not there, or empty, it has been told already.
    fn file(&mut self, role: Role, key: &[&str], path: &str, arch: Option<&str>, assets: &AssetRoot) {
        if let Some(Err(words)) = head(assets, path).filter(|head| !head.is_empty()).map(|head| role.check(&head, arch))
        {
            self.find(Level::Fault, key, format!("{path} {words}"));
        }
    }

    /// `netbootd assign` gives any profile to a machine, so this may be meant.
    fn unreachable(&mut self) {
        let Settings { profiles, default_profile, machines, .. } = self.settings;
        let rules = || machines.iter().map(|(_, rule)| rule);
        // A name that is no profile's is told already, and may be a slip for the one that nothing leads to.
        let mut named = rules().filter_map(|rule| rule.profile.as_ref()).chain([default_profile]);
        if !named.all(|name| is_profile(name, profiles)) {
            return;
        }
        let leads = |name: &str| rules().any(|rule| rule.profile.as_deref().unwrap_or(default_profile) == name);
        let anyones = |name: &str| default_profile == name || leads(name);
        // A menu that names no profiles shows them all.
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
                "nothing leads to the profile {name:?}: no rule, no menu, and not default_profile; only netbootd assign can \
                 give it to a machine"
            );
            self.find(Level::Warning, &["profiles", name], message);
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

    /// Names of machines that many boards share, so that a rule which asks for one is about all of them.
    fn shared_names(&mut self) {
        for (index, (selector, _)) in self.settings.machines.iter().enumerate() {
            let uuids = selector.uuids.iter().enumerate().filter(|(_, uuid)| own_uuid(**uuid).is_none());
            let uuids = uuids.map(|(place, uuid)| ("uuid", place, uuid.to_string()));
            let serials = selector.serials.iter().enumerate().filter(|(_, serial)| !is_own_serial(serial));
            let serials = serials.map(|(place, serial)| ("serial", place, format!("{serial:?}")));
            for (key, place, name) in uuids.chain(serials) {
                let message = format!(
                    "many boards share the {key} {name}, so this rule is about all of them, and none is told from another by \
                     it: name the machine by mac"
                );
                self.find(Level::Warning, &["machines", &index.to_string(), key, &place.to_string()], message);
            }
        }
    }

    fn rules(&mut self) {
        let Settings { machines, interfaces, .. } = self.settings;
        for (index, (selector, rule)) in machines.iter().enumerate() {
            let Some(key) = selector.known_to_ipxe_only() else { continue };
            let what =
                if key == "serial" { "a serial number is" } else { "what firmware tells of a machine's parts is" };
            if rule.loader.is_some() {
                let message = format!(
                    "{what} known to iPXE only, so this rule never chooses a loader: name its machines by mac or uuid"
                );
                self.find(Level::Warning, &["machines", &index.to_string(), "override", "loader"], message);
            }
            if self.settings.dhcp.known_only {
                let message = format!(
                    "{what} known to iPXE only, and with dhcp.answer = \"known\" a machine that only this rule is about \
                     never gets there: name it by mac or uuid, or approve it"
                );
                self.find(Level::Warning, &["machines", &index.to_string(), key], message);
            }
        }
        self.shared_names();
        self.names_twice();
        // Where none is named, one is chosen at the start.
        let is_served = |name: &String| interfaces.is_empty() || interfaces.contains(name);
        for (index, (selector, _)) in machines.iter().enumerate() {
            for (place, name) in selector.interfaces.iter().enumerate().filter(|(_, name)| !is_served(name)) {
                let meant = meant(name, interfaces.iter().map(String::as_str));
                let there = interfaces.join(", ");
                let message =
                    format!("{name} is not served{meant}, so no machine is heard there; interfaces are: {there}");
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
                    "this rule never wins: every machine that it is about is taken by {}; of rules that are as specific \
                     the first one wins, so take one of them out",
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
                    "{name} is in {} too; of rules that are as specific the first one wins, so take it out of one of them",
                    self.rule(to)
                );
                let path = ["machines", &index, key, &place.to_string()];
                self.lost(key, &path, message);
            }
        }
    }

    /// Tells of a rule that loses machines. A machine's own name in two rules is a fault of the text: nobody knows which
    /// machine it is, and the wrong one could be installed.
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
    fn missing_loaders_are_told_with_where_to_get_them_and_named_ones_with_what_is_wrong() {
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join("n.toml");
        let text = "[[machines]]\narch = \"bios\"\noverride = { loader = \"snponly.efi\" }\n\
                    [[machines]]\noui = \"b8:ca:3a\"\noverride = { loader = \"snponyl.efi\" }\n\
                    [[machines]]\nmac = \"52:54:00:12:34:56\"\noverride = { loader = \"snponly.efi\" }\n";
        std::fs::write(&path, text).expect("written");
        let (settings, faults) = attempt(&load(Some(&path), [], &[]).expect("read"));
        assert_eq!(faults, []);
        let there = Loaders::new(vec![file("snponly.efi", Loader::EfiX86_64)]);
        let found = loaders(&settings, &there).into_iter().map(|Finding { level, fault }| {
            (level, fault.place.replace(&format!("{}/", scratch.path().display()), ""), fault.message)
        });
        let hint = "install the package ipxe (Debian, Ubuntu) or ipxe-bootimgs-x86 (Fedora, RHEL)";
        let mend = "netbootd loaders lists those that there are, and an asset would do as well";
        assert_eq!(
            found.collect::<Vec<_>>(),
            [
                (Level::Warning, "loaders".into(), format!("no loader for BIOS: {hint}")),
                (
                    Level::Fault,
                    "n.toml:3:14".into(),
                    "snponly.efi is for UEFI x86_64, and the rule is about BIOS".into()
                ),
                (
                    Level::Fault,
                    "n.toml:6:14".into(),
                    format!("there is no loader \"snponyl.efi\" (is it \"snponly.efi\"?): {mend}")
                ),
            ]
        );
    }
}
