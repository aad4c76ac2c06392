//! `[[machines]]` → rules. Reports their faults, alone and together with the profiles that they name.

use std::collections::BTreeMap;

use super::{
    arch_meant,
    check::{Check, is_profile},
    schema,
    stages::REPLY_DELAY,
};
use crate::{
    boot::{
        hardware::{Hardware, Pattern},
        loader::Loader,
        mac::{NotAMac, NotAnOui},
        machine::MachineRule,
        profile::Profile,
        selector::Selector,
        template::Templates,
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
        self.reservations(&rules);
        self.rendered(profiles, &rules, templates, assets);
        rules
    }
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
                let message = format!("unknown architecture {name:?}{meant}; known are: {}", there.join(", "));
                self.fault(&["arch", &place.to_string()], message);
            }
            found
        });
        let archs = archs.collect();
        let selector = Selector {
            macs: self.parsed("mac", &machine.mac, |text| text.parse().map_err(|error: NotAMac| error.to_string())),
            uuids: self.parsed("uuid", &machine.uuid, |text| {
                let refuse = |_| format!("{text:?} is not a UUID; example: 00112233-4455-6677-8899-aabbccddeeff");
                text.parse().map_err(refuse)
            }),
            serials: machine.serial.all().iter().map(|serial| serial.trim().to_owned()).collect(),
            manufacturers: self.parsed("manufacturer", &machine.manufacturer, pattern),
            products: self.parsed("product", &machine.product, pattern),
            assets: self.parsed("asset", &machine.asset, pattern),
            ouis: self.parsed("oui", &machine.oui, |text| text.parse().map_err(|error: NotAnOui| error.to_string())),
            interfaces: self.parsed("interface", &machine.interface, |name| {
                let is_name = is_interface_name(name);
                is_name
                    .then(|| name.to_owned())
                    .ok_or_else(|| format!("{name:?} is not an interface name; example: eth1"))
            }),
            archs,
        };
        if selector == Selector::default() && SELECTORS.iter().all(|key| machine.names(key).is_empty()) {
            let message = "the rule matches no machine: add mac, uuid, serial, manufacturer, product, asset, oui, \
                           interface or arch (for all machines, set default_profile)";
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
            let message = format!(
                "{name:?} is not a host name: use letters, digits, hyphens and dots, at most 253 characters (RFC 1123 §2.1)"
            );
            self.fault(&["name"], message);
        }
        if let Some(profile) = machine.profile.as_deref().filter(|name| !is_profile(name, profiles)) {
            self.check.no_profile(&["machines", &self.index.clone(), "profile"], profile, profiles);
        }
        for (place, name) in machine.menu.iter().enumerate().filter(|(_, name)| !profiles.contains_key(*name)) {
            self.check.no_entry(&["machines", &self.index.clone(), "menu", &place.to_string()], name, profiles);
        }
        // A name without a folder may be a loader's that is found later; a path can only be an asset.
        if let Some(loader) = machine.overrides.loader.as_deref().filter(|name| name.contains('/'))
            && let Some(assets) = assets
        {
            let index = self.index.clone();
            self.check.file(&["machines", &index, "override", "loader"], loader, Some(assets));
        }
        let key = ["machines", &self.index.clone(), "reply_delay"];
        let reply_delay = machine.reply_delay.as_ref().map(|text| self.check.duration(&key, text, REPLY_DELAY));
        let address = machine.address.as_ref().and_then(|text| {
            let address = text.trim().parse().ok();
            if address.is_none() {
                self.fault(&["address"], format!("{text:?} is not an IPv4 address; example: \"192.0.2.50\""));
            }
            address
        });
        if machine.once_tries == Some(0) {
            let message =
                "once_tries is 0: use 1 or more (hand-overs until the machine has to report that it is installed)";
            self.fault(&["once_tries"], message.into());
        }
        MachineRule {
            name: machine.name.clone(),
            profile: machine.profile.clone(),
            once: machine.once != schema::Once::Next(false),
            until_installed: matches!(machine.once, schema::Once::Until(_))
                .then_some(machine.once_tries.unwrap_or(ONCE_TRIES)),
            menu: machine.menu.clone(),
            vars: machine.vars.clone(),
            loader: machine.overrides.loader.clone(),
            local_boot: machine.overrides.local_boot,
            reply_delay,
            address,
        }
    }
}

/// Hand-overs of an installer. After two failures a person should look at the machine.
const ONCE_TRIES: u32 = 3;

/// The keys that a rule can select machines by.
const SELECTORS: [&str; 9] = ["mac", "uuid", "serial", "manufacturer", "product", "asset", "oui", "interface", "arch"];

/// A pattern for a text that machines report.
fn pattern(text: &str) -> Result<Pattern, String> {
    match text {
        "" => Err("it is empty: use the text that the machine reports, or a part of it and * for the rest".into()),
        text if text.chars().count() > Hardware::LONGEST => {
            Err(format!("it is longer than {} characters: shorten it and end it with *", Hardware::LONGEST))
        }
        text => Ok(Pattern::new(text)),
    }
}

/// Linux accepts these interface names (net/core/dev.c, `dev_valid_name`).
fn is_interface_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() < 16
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
}

/// RFC 1123 §2.1. The name is used on command lines and screens, so no other characters are allowed.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}
