//! `[[machines]]` → rules, with the faults that they have by themselves and with the profiles that they name.

use std::collections::BTreeMap;

use super::{arch_meant, resolve::Check, schema};
use crate::{
    boot::{
        answer::{Urls, answer_context},
        client::{MacAddr, NotAMac},
        loader::Loader,
        machine::{Machine, MachineRule, Rules},
        profile::{Boot, Profile},
        script::script_context,
        selector::{NotAnOui, Selector},
        template::Templates,
        why::Why,
    },
    files::AssetRoot,
};

impl Check<'_> {
    pub(super) fn machines(
        &mut self,
        profiles: &BTreeMap<String, Profile>,
        assets: Option<&AssetRoot>,
        templates: &Templates,
    ) -> Vec<(Selector, MachineRule)> {
        let mut rules = Vec::new();
        for (index, machine) in self.loaded.config.machines.iter().enumerate() {
            let mut entry = Entry { index: index.to_string(), check: self };
            let selector = entry.selector(machine);
            let rule = entry.rule(machine, profiles, assets);
            rules.push((selector, rule));
        }
        self.rendered(profiles, &rules, templates);
        rules
    }

    /// Every template is rendered for every machine that will have it, with the answer files that it names, so that a
    /// slip is told now and not by the first machine that boots.
    fn rendered(
        &mut self,
        profiles: &BTreeMap<String, Profile>,
        rules: &[(Selector, MachineRule)],
        templates: &Templates,
    ) {
        let mac = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
        for (name, profile) in profiles {
            let is_default = self.loaded.config.default_profile == *name;
            let named = || rules.iter().map(|(_, rule)| rule).filter(|rule| rule.profile.as_ref() == Some(name));
            // One that no rule names is what people choose from the menu.
            let for_anyone = (is_default || named().next().is_none()).then(MachineRule::default);
            for (arch, boot) in profile.boots() {
                let fault = named().chain(&for_anyone).find_map(|rule| {
                    let machine = Machine { arch: arch.unwrap_or("x86_64").into(), ..Machine::new(mac, Some(rule)) };
                    let fault = of_templates(templates, boot, name, &machine, rule).err();
                    fault.map(|why| match &rule.name {
                        Some(name) => format!("{why} (for the machine {name})"),
                        None => why.to_string(),
                    })
                });
                if let Some(fault) = fault {
                    let key = if matches!(boot, Boot::Script(_)) { "script" } else { "cmdline" };
                    let path = [&["profiles", name][..], &arch.map_or(vec![], |arch| vec!["arch", arch]), &[key]];
                    self.fault(&path.concat(), fault);
                }
            }
        }
    }
}

/// Whether what a profile's templates make for a machine is whole.
fn of_templates(
    templates: &Templates,
    boot: &Boot,
    profile: &str,
    machine: &Machine,
    MachineRule { vars, .. }: &MachineRule,
) -> Result<(), Why> {
    let (base, urls) = ("http://192.0.2.1:8080", Urls::default());
    match (boot, boot.cmdline()) {
        (Boot::Script(template), _) => {
            templates.script(template, script_context(base, profile, machine, vars, &urls, templates))?;
        }
        (_, Some(cmdline)) => {
            templates.cmdline(cmdline, machine, vars, &urls)?;
        }
        (_, None) => {}
    }
    for name in urls.asked() {
        templates.own(&name, answer_context(base, profile, machine, vars))?;
    }
    Ok(())
}

/// One `[[machines]]`.
struct Entry<'a, 'b> {
    index: String,
    check: &'a mut Check<'b>,
}

impl Entry<'_, '_> {
    fn fault(&mut self, key: &[&str], message: String) {
        let index = self.index.clone();
        self.check.fault(&[&["machines", &index], key].concat(), message);
    }

    fn selector(&mut self, machine: &schema::Machine) -> Selector {
        let archs = machine.arch.all().iter().enumerate().filter_map(|(place, name)| {
            let found = Loader::ALL.into_iter().find(|loader| loader.arch() == name);
            if found.is_none() {
                let there: Vec<&str> = Loader::ALL.into_iter().map(Loader::arch).collect();
                let meant = arch_meant(name, there.iter().copied());
                let message = format!("there is no architecture {name:?}{meant}; there are: {}", there.join(", "));
                self.fault(&["arch", &place.to_string()], message);
            }
            found
        });
        let archs = archs.collect();
        let selector = Selector {
            macs: self.parsed("mac", &machine.mac, |text| text.parse().map_err(|error: NotAMac| error.to_string())),
            uuids: self.parsed("uuid", &machine.uuid, |text| {
                let refuse = |_| format!("{text:?} is no UUID: write it like 00112233-4455-6677-8899-aabbccddeeff");
                text.parse().map_err(refuse)
            }),
            serials: machine.serial.all().iter().map(|serial| serial.trim().to_owned()).collect(),
            ouis: self.parsed("oui", &machine.oui, |text| text.parse().map_err(|error: NotAnOui| error.to_string())),
            interfaces: self.parsed("interface", &machine.interface, |name| {
                let is_name = is_interface_name(name);
                is_name
                    .then(|| name.to_owned())
                    .ok_or_else(|| format!("{name:?} is no name of an interface, like eth1"))
            }),
            archs,
        };
        let named = [&machine.mac, &machine.uuid, &machine.serial, &machine.oui, &machine.interface, &machine.arch];
        if named.iter().all(|names| names.all().is_empty()) {
            let message = "the rule names no machine: give it mac, uuid, serial, oui, interface or arch (for all machines, \
                           set default_profile)";
            self.fault(&[], message.into());
        }
        selector
    }

    fn parsed<T>(&mut self, key: &str, names: &schema::Names, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let parsed = names.all().iter().enumerate().filter_map(|(place, name)| {
            parse(name.trim()).map_err(|message| self.fault(&[key, &place.to_string()], message)).ok()
        });
        parsed.collect()
    }

    fn rule(
        &mut self,
        machine: &schema::Machine,
        profiles: &BTreeMap<String, Profile>,
        assets: Option<&AssetRoot>,
    ) -> MachineRule {
        if let Some(name) = machine.name.as_deref().filter(|name| !is_host_name(name)) {
            let message =
                format!("{name:?} is no host name: letters, digits, hyphens and dots, 253 at most (RFC 1123 §2.1)");
            self.fault(&["name"], message);
        }
        if let Some(profile) = machine.profile.as_deref().filter(|name| !is_profile(name, profiles)) {
            self.check.no_profile(&["machines", &self.index.clone(), "profile"], profile, profiles);
        }
        for (place, name) in machine.menu.iter().enumerate().filter(|(_, name)| !profiles.contains_key(*name)) {
            self.check.no_profile(&["machines", &self.index.clone(), "menu", &place.to_string()], name, profiles);
        }
        // A name without a folder may be a loader's that is found later; a path can only be an asset.
        if let Some(loader) = machine.overrides.loader.as_deref().filter(|name| name.contains('/'))
            && let Err(why) = assets.map_or(Ok(()), |assets| assets.file(loader).map(|_| ()))
        {
            self.fault(&["override", "loader"], why.to_string());
        }
        MachineRule {
            name: machine.name.clone(),
            profile: machine.profile.clone(),
            once: machine.once,
            menu: machine.menu.clone(),
            vars: machine.vars.clone(),
            loader: machine.overrides.loader.clone(),
            local_boot: machine.overrides.local_boot,
        }
    }
}

pub(super) fn is_profile(name: &str, profiles: &BTreeMap<String, Profile>) -> bool {
    profiles.contains_key(name) || Rules::BUILT_IN.contains(&name)
}

/// What Linux takes for one (net/core/dev.c, `dev_valid_name`).
fn is_interface_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() < 16
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
}

/// RFC 1123 §2.1; it ends up on command lines and on screens, where nothing else has to be feared of it.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}
