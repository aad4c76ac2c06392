//! Renders every template that a machine can get, before one boots: faults of templates, and what templates name.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Fault, Finding, Level,
    check::{Check, searched},
    settings::{Cmdline, Settings},
};
use crate::{
    boot::{
        answer::{Urls, answer_context},
        faults::Wanted,
        mac::MacAddr,
        machine::{Machine, MachineRule},
        profile::{Boot, Profile, ProfileFault},
        reason::Reason,
        script::script_context,
        selector::Selector,
        template::Templates,
        urls::{ServerUrls, is_remote},
    },
    files::AssetRoot,
};

impl Check<'_> {
    /// Renders every template for every machine that can get it, together with its answer files. So an error in a
    /// template is reported now, and not by the first machine that boots.
    pub(super) fn rendered(
        &mut self,
        profiles: &BTreeMap<String, Profile>,
        rules: &[(Selector, MachineRule)],
        templates: &Templates,
        assets: Option<&AssetRoot>,
    ) {
        let anyone = MachineRule::default();
        for (name, profile) in profiles {
            let whose = self.machines_of(name, rules, &anyone);
            let (mut asked, mut is_whole) = (Asked::default(), true);
            for (arch, boot) in profile.boots() {
                let part = Part { name, arch, boot, whose: &whose };
                is_whole &= self.part_rendered(&part, templates, assets, &mut asked);
            }
            // With answers_open, an installer may ask for an answer file that no template names.
            if is_whole && !self.loaded.config.http.answers_open && !asked.reports.contains("installed") {
                let silent = whose.iter().filter_map(|(index, rule)| Some(((*index)?, rule.until_installed?)));
                silent.for_each(|(index, tries)| self.never_installed(index, name, tries));
                let is_elsewhere = |(_, boot): (_, &Boot)| boot.named().iter().any(|file| is_remote(file));
                if asked.reports.is_empty() && profile.boots().any(is_elsewhere) {
                    self.rendered.unseen.insert(name.clone());
                    let once = whose.iter().filter_map(|(index, rule)| index.filter(|_| rule.once));
                    once.for_each(|index| self.never_seen(index, name));
                }
            }
            self.asked.extend(asked.answers);
        }
    }

    /// The rules that lead to a profile, with their places. One that no rule names can be chosen from the menu.
    fn machines_of<'a>(
        &self,
        profile: &str,
        rules: &'a [(Selector, MachineRule)],
        anyone: &'a MachineRule,
    ) -> Whose<'a> {
        let is_default = self.loaded.config.default_profile == profile;
        let leads = |rule: &MachineRule| rule.profile.as_ref().map_or(is_default, |own| own == profile);
        let all = rules.iter().enumerate().map(|(index, (_, rule))| (Some(index), rule));
        let mut whose: Whose<'_> = all.filter(|(_, rule)| leads(rule)).collect();
        if is_default || whose.is_empty() {
            whose.push((None, anyone));
        }
        whose
    }

    /// Whether all machines of a profile get this part of it.
    fn part_rendered(
        &mut self,
        part: &Part<'_>,
        templates: &Templates,
        assets: Option<&AssetRoot>,
        asked: &mut Asked,
    ) -> bool {
        let Part { name, arch, boot, whose } = *part;
        let mut length = 0;
        // By what is wrong, whose machines it concerns; nobody's where no rule names the machine.
        let mut faults: Vec<(String, Vec<String>)> = Vec::new();
        for (index, rule) in whose {
            let machine = Machine { arch: arch.unwrap_or("x86_64").into(), ..Machine::new(SAMPLE, Some(rule)) };
            let made = of_templates(templates, boot, name, &machine, rule, asked);
            length = length.max(made.as_ref().copied().unwrap_or_default());
            let Err(why) = made.map_err(|why| why.to_string()) else { continue };
            let place = || index.map(|index| format!("of rule {} ({})", index + 1, self.rule_place(index)));
            let whose = rule.name.clone().or_else(place);
            match faults.iter_mut().find(|(words, _)| *words == why) {
                Some((_, machines)) => machines.extend(whose),
                None => faults.push((why, whose.into_iter().collect())),
            }
        }
        let (path, whose) = self.place_of(part);
        if let Boot::Linux(linux) = boot {
            // The script adds `initrd=NAME` for each initrd.
            let names = linux.initrd.iter().map(|path| 8 + path.rsplit('/').next().unwrap_or(path).len());
            let length = length + names.sum::<usize>();
            let (profile, arch) = (name.to_owned(), arch.map(str::to_owned));
            let place = self.loaded.places.of(&path);
            self.cmdlines.push(Cmdline { profile, arch, place, whose: whose.clone(), length });
        }
        let is_whole = faults.is_empty();
        let broken = faulty_answer(templates, asked);
        for (why, machines) in faults {
            // Machines with this profile show the fault on their screens. All other machines boot.
            let fault = format!("{why}{}", concerned(&machines));
            self.part(&path, format!("{whose}{fault}"));
            self.rendered.faults.push(ProfileFault::of(name, arch, fault));
        }
        self.rendered.faults.extend(broken.map(|fault| ProfileFault::of(name, arch, fault)));
        let named = std::mem::take(&mut asked.assets);
        for (asset, why) in named.iter().filter_map(|asset| Some((asset, missing(asset, assets)?))) {
            self.finding(Level::Fault, &path, format!("asset({asset:?}): {why}"));
        }
        self.rendered.assets.insert((name.to_owned(), arch.map(str::to_owned)), named);
        is_whole
    }

    /// Where a part is in the configuration, and how its faults begin. An image that `isos` finds has no line of its own.
    fn place_of<'a>(&self, Part { name, arch, boot, .. }: &Part<'a>) -> (Vec<&'a str>, String) {
        if !self.loaded.config.profiles.contains_key(*name) {
            return (vec!["isos"], format!("the profile {name:?} of an image: "));
        }
        let key = if matches!(boot, Boot::Script(_)) { "script" } else { "cmdline" };
        let variant = arch.map_or_else(Vec::new, |arch| vec!["arch", arch]);
        ([&["profiles", *name][..], &variant, &[key]].concat(), String::new())
    }

    /// Nothing would ever end it.
    fn never_seen(&mut self, index: usize, profile: &str) {
        let message = Reason::NotSeen(profile.to_owned()).to_string();
        self.finding(Level::Warning, &["machines", &index.to_string(), "once"], message);
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

/// The rules that lead to a profile, with their places; no place where no rule names the machine.
type Whose<'a> = Vec<(Option<usize>, &'a MachineRule)>;

/// What a profile boots on machines of one kind.
struct Part<'a> {
    name: &'a str,
    arch: Option<&'a str>,
    boot: &'a Boot,
    whose: &'a Whose<'a>,
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
    Some(searched(assets, path, &why))
}
