//! `[[machines]]` → rules. Reports their faults, alone and together with the profiles that they name.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Fault, Finding, Level, arch_meant,
    check::{Check, is_profile},
    schema,
    settings::{Cmdline, Settings},
    stages::REPLY_DELAY,
};
use crate::{
    boot::{
        answer::{Urls, answer_context},
        faults::Wanted,
        hardware::{Hardware, Pattern},
        loader::Loader,
        mac::{MacAddr, NotAMac, NotAnOui},
        machine::{Machine, MachineRule},
        profile::{Boot, Profile, ProfileFault},
        reason::Reason,
        script::script_context,
        selector::Selector,
        template::Templates,
        urls::ServerUrls,
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

    /// Renders every template for every machine that can get it, together with its answer files. So an error in a
    /// template is reported now, and not by the first machine that boots.
    fn rendered(
        &mut self,
        profiles: &BTreeMap<String, Profile>,
        rules: &[(Selector, MachineRule)],
        templates: &Templates,
        assets: Option<&AssetRoot>,
    ) {
        for (name, profile) in profiles {
            let is_default = self.loaded.config.default_profile == *name;
            let leads = |rule: &MachineRule| rule.profile.as_ref().map_or(is_default, |profile| profile == name);
            let named = || {
                let all = rules.iter().enumerate().map(|(index, (_, rule))| (Some(index), rule));
                all.filter(|(_, rule)| leads(rule))
            };
            // A profile that no rule names can be chosen from the menu.
            let for_anyone = (is_default || named().next().is_none()).then(MachineRule::default);
            let (mut asked, mut is_whole) = (Asked::default(), true);
            // The configuration has no line for an image that `isos` finds.
            let is_found = !self.loaded.config.profiles.contains_key(name);
            let whose = if is_found { format!("the profile {name:?} of an image: ") } else { String::new() };
            for (arch, boot) in profile.boots() {
                let mut length = 0;
                // By what is wrong, whose machines it concerns; nobody's where no rule names the machine.
                let mut faults: Vec<(String, Vec<String>)> = Vec::new();
                for (index, rule) in named().chain(for_anyone.iter().map(|rule| (None, rule))) {
                    let machine = Machine { arch: arch.unwrap_or("x86_64").into(), ..Machine::new(SAMPLE, Some(rule)) };
                    let made = of_templates(templates, boot, name, &machine, rule, &mut asked);
                    length = length.max(made.as_ref().copied().unwrap_or_default());
                    let Err(why) = made.map_err(|why| why.to_string()) else { continue };
                    let place = || index.map(|index| format!("of rule {} ({})", index + 1, self.rule_place(index)));
                    let whose = rule.name.clone().or_else(place);
                    match faults.iter_mut().find(|(words, _)| *words == why) {
                        Some((_, machines)) => machines.extend(whose),
                        None => faults.push((why, whose.into_iter().collect())),
                    }
                }
                let key = if matches!(boot, Boot::Script(_)) { "script" } else { "cmdline" };
                let path = match is_found {
                    true => vec!["isos"],
                    false => {
                        [&["profiles", name][..], &arch.map_or(vec![], |arch| vec!["arch", arch]), &[key]].concat()
                    }
                };
                if let Boot::Linux(linux) = boot {
                    // The script adds `initrd=NAME` for each initrd.
                    let names = linux.initrd.iter().map(|path| 8 + path.rsplit('/').next().unwrap_or(path).len());
                    let length = length + names.sum::<usize>();
                    let (profile, arch) = (name.clone(), arch.map(str::to_owned));
                    let place = self.loaded.places.of(&path);
                    self.cmdlines.push(Cmdline { profile, arch, place, whose: whose.clone(), length });
                }
                is_whole &= faults.is_empty();
                let broken = faulty_answer(templates, &asked);
                for (why, machines) in faults {
                    // Machines with this profile show the fault on their screens. All other machines boot.
                    let fault = format!("{why}{}", concerned(&machines));
                    self.part(&path, format!("{whose}{fault}"));
                    self.rendered.faults.push(ProfileFault::of(name, arch, fault));
                }
                self.rendered.faults.extend(broken.map(|fault| ProfileFault::of(name, arch, fault)));
                let missing = asked.assets.iter().filter_map(|asset| Some((asset, missing(asset, assets)?)));
                let missing: Vec<_> = missing.map(|(asset, why)| format!("asset({asset:?}): {why}")).collect();
                missing.into_iter().for_each(|message| self.finding(Level::Fault, &path, message));
                let named = std::mem::take(&mut asked.assets);
                self.rendered.assets.insert((name.clone(), arch.map(str::to_owned)), named);
            }
            // With answers_open, an installer may ask for an answer file that no template names.
            if is_whole && !self.loaded.config.http.answers_open && !asked.reports.contains("installed") {
                let silent = named().filter_map(|(index, rule)| Some((index?, rule.until_installed?)));
                silent
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|(index, tries)| self.never_installed(index, name, tries));
            }
            self.asked.extend(asked.answers);
        }
    }

    /// Only a signed report ends it, and only templates have signed addresses.
    fn never_installed(&mut self, index: usize, profile: &str, tries: u32) {
        let message = format!(
            "once = \"installed\", but no template of the profile {profile:?} uses report(\"installed\"): the machine is \
             installed again at each boot, until it has been handed over {tries} times (once_tries). Let the installer \
             request the address {{{{ report(\"installed\") }}}} when it is done"
        );
        self.finding(Level::Warning, &["machines", &index.to_string(), "once"], message);
    }

    fn rule_place(&self, index: usize) -> String {
        self.loaded.places.of(&["machines", &index.to_string()])
    }

    /// With `answers_open`, a machine can ask for an answer file that no script names. These files are rendered for the
    /// machines of all rules, or for a machine without a rule. It is unknown which of them are meant, so the server
    /// runs anyway.
    pub(super) fn open_answers(&self, settings: &Settings) -> Vec<Finding> {
        let Settings { answers, machines, templates, .. } = settings;
        let all = templates.answers();
        let unasked = all.iter().filter(|name| answers.open && !self.asked.contains(*name));
        let anyone = MachineRule::default();
        let mut rules: Vec<&MachineRule> = machines.iter().map(|(_, rule)| rule).collect();
        if rules.is_empty() {
            rules.push(&anyone);
        }
        let findings = unasked.filter_map(|name| {
            let failures = rules.iter().filter_map(|rule| Some((rule, of_answer(settings, name, rule).err()?)));
            let failures: Vec<_> = failures.collect();
            let (rule, why) = failures.first()?;
            let (level, machines) = match failures.len() {
                count if count == rules.len() => (Level::Fault, "every machine".to_owned()),
                count => {
                    let such = rule.name.as_ref().map(|name| format!(", such as {name}")).unwrap_or_default();
                    (Level::Warning, format!("the machines of {count} of {} rules{such}", rules.len()))
                }
            };
            let message = format!("the answer file {name} has an error for {machines}: {why}");
            Some(Finding { level, fault: Fault { place: self.loaded.places.of(&["templates"]), message } })
        });
        findings.collect()
    }
}

/// The machines that have an error, as the end of its message.
fn concerned(machines: &[String]) -> String {
    match machines {
        [] => String::new(),
        [one] => format!(" (for the machine {one})"),
        [one, two] => format!(" (for the machines {one} and {two})"),
        [one, two, rest @ ..] => format!(" (for the machines {one}, {two} and {} others)", rest.len()),
    }
}

/// Checks an answer file for a machine that sends only its MAC address.
fn of_answer(settings: &Settings, name: &str, rule: &MachineRule) -> Result<(), String> {
    let profile = rule.profile.as_ref().unwrap_or(&settings.default_profile);
    let machine = Machine::new(SAMPLE, Some(rule));
    let context = answer_context(&ServerUrls::new(SAMPLE_BASE), profile, &machine, &rule.vars);
    match settings.templates.answer(name, context) {
        Ok(_) => Ok(()),
        Err(Reason::Template(fault)) => Err(fault),
        Err(why) => Err(why.to_string()),
    }
}

/// The example machine and server address for rendering templates (RFC 5737).
const SAMPLE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const SAMPLE_BASE: &str = "http://192.0.2.1:8080";

/// Renders the templates of a profile for a machine, and the answer files that they name. Returns the length of the
/// command line in bytes.
fn of_templates(
    templates: &Templates,
    boot: &Boot,
    profile: &str,
    machine: &Machine,
    MachineRule { vars, .. }: &MachineRule,
    asked: &mut Asked,
) -> Result<usize, Reason> {
    let urls = Urls::sample(SAMPLE_BASE, SAMPLE, profile);
    let rendered = match (boot, boot.cmdline()) {
        (Boot::Script(asset), _) if !templates.has(asset) => Ok(0),
        (Boot::Script(template), _) => {
            let context = script_context(profile, machine, vars, &urls, templates);
            templates.script(template, context).map(|_| 0)
        }
        (_, Some(cmdline)) => {
            templates.cmdline(cmdline, machine, vars, urls.functions(templates)).map(|cmdline| cmdline.len())
        }
        (_, None) => Ok(0),
    };
    let server = urls.server();
    asked.assets.extend(server.assets());
    asked.reports.extend(server.reports());
    let length = rendered?;
    for name in urls.asked() {
        asked.answers.insert(name.clone());
        // A file that is not a valid template is reported once, at the folder.
        if !templates.faulty().contains_key(&name) {
            templates.answer(&name, answer_context(server, profile, machine, vars))?;
        }
    }
    asked.assets.extend(server.assets());
    asked.reports.extend(server.reports());
    Ok(length)
}

/// What is wrong with an answer file that is asked for. `check` reports it once, at the folder.
fn faulty_answer(templates: &Templates, asked: &Asked) -> Option<String> {
    let mut broken = asked.answers.iter().filter_map(|name| templates.faulty().get(name));
    broken.next().map(|fault| Reason::Template(fault.clone()).to_string())
}

/// The files that templates have used, and the events that they report.
#[derive(Default)]
struct Asked {
    answers: BTreeSet<String>,
    assets: BTreeSet<String>,
    reports: BTreeSet<String>,
}

/// Why there is no asset at this path, neither a file nor a folder.
fn missing(path: &str, assets: Option<&AssetRoot>) -> Option<String> {
    let Some(assets) = assets else { return Some("there is no assets folder: set assets".into()) };
    let why = assets.look(path, Wanted::FileOrFolder).err()?;
    Some(format!("{why} (searched below {})", assets.path().display()))
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
            self.check.no_profile(&["machines", &self.index.clone(), "menu", &place.to_string()], name, profiles);
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
