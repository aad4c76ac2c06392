//! What a server is about to do: the configuration, and what was found of it on this host.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tracing::{info, warn};

use super::{faults, lease_terms, loaders, talk::Talk};
use crate::{
    boot::{
        live::Live,
        loader::Loader,
        loaders::Loaders,
        machine::{Choice, ReplyDelay, Rules},
        profile::Boot,
        roster::Roster,
        selector::RuleBook,
        urls::without_password,
    },
    config::{Finding, examine, fixed::Fixed, settings::Settings, watched::Watched},
    net::{
        interface::{Interface, Unclear, choose, look},
        link::has_default_route,
    },
};

/// All that a server needs to know.
#[derive(Debug)]
pub struct Plan {
    /// The interfaces to serve as they were at the start; at least one. They are followed by their names.
    pub interfaces: Vec<Interface>,
    /// What decides.
    pub live: Arc<Live>,
    /// What a reload cannot change.
    pub fixed: Fixed,
    /// After this time the server ends by itself.
    pub ends_after: Option<Duration>,
    /// Folders to look for loaders in, before the packages' places.
    pub loader_dirs: Vec<PathBuf>,
    /// What the configuration was read from.
    pub watched: Watched,
    /// The same number as long as nothing has changed of that.
    pub read: u64,
    /// What was found in it.
    pub findings: Vec<Finding>,
    /// How to talk with the person who started the server.
    pub talk: Talk,
}

/// The rules of a configuration, with the loaders of this host. What is missing is logged.
pub(super) fn rules(settings: Settings) -> Rules {
    let (loaders, rejected) = loaders::find(&settings.loader_dirs);
    for rejected in rejected {
        warn!("{} is ignored: {}", rejected.path.display(), rejected.why);
    }
    for loader in Loader::ALL {
        if let Some(file) = loaders.of(loader) {
            info!("loader for {}: {}", loader.title(), file.origin);
        }
    }
    for finding in settings.findings.iter().chain(&examine::loaders(&settings, &loaders)) {
        warn!("{}: {}", finding.fault.place, finding.fault.message);
    }
    for line in settings.profiles.values().flat_map(|profile| &profile.about) {
        info!("{line}");
    }
    rules_with(settings, loaders)
}

/// The rules of a configuration with these loaders.
pub(super) fn rules_with(settings: Settings, loaders: Loaders) -> Rules {
    let by_rule = settings.machines.iter().any(|(_, rule)| rule.reply_delay.is_some());
    Rules {
        loaders,
        machines: RuleBook::new(settings.machines),
        known_only: settings.offers.known_only,
        strangers: Arc::default(),
        offer: settings.offers.shape,
        reply_delay: ReplyDelay { all: settings.offers.reply_delay, by_rule },
        answer_after: settings.offers.answer_after,
        has_assets: settings.fixed.assets.is_some(),
        profiles: settings.profiles,
        default_profile: settings.default_profile,
        menu: settings.menu,
        templates: settings.templates,
        answers: settings.answers,
        rendered: settings.rendered,
        hears_ipxe: settings.fixed.syslog.is_some_and(|syslog| syslog.port == IPXE_SYSLOG),
    }
}

fn joined(files: &BTreeSet<String>) -> String {
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    files.join(", ")
}

/// iPXE knows no other (net/udp/syslog.c, `SYSLOG_PORT`).
const IPXE_SYSLOG: u16 = 514;

impl Plan {
    /// Adds what is found on this host: interfaces and loaders. What was chosen, and what is missing, is logged.
    ///
    /// # Errors
    /// The interfaces that can be chosen.
    pub fn new(settings: Settings) -> Result<Self, Unclear> {
        let interfaces = lease_terms::arranged(choose(&settings.fixed.interfaces)?, settings.fixed.lease.as_ref());
        if settings.fixed.interfaces.is_empty() {
            let chosen: Vec<String> = interfaces.iter().map(ToString::to_string).collect();
            info!("interface {}, the only wired one that is up and has an IPv4 address", chosen.join(", "));
        }
        Ok(Self {
            interfaces,
            fixed: settings.fixed.clone(),
            ends_after: None,
            watched: settings.watched.clone(),
            read: settings.read,
            findings: settings.findings.clone(),
            loader_dirs: settings.loader_dirs.clone(),
            talk: Talk::default(),
            live: Live::new(rules(settings), Roster::default()),
        })
    }

    /// The served interfaces that exist now; `None` if the kernel did not say.
    pub(super) fn look(&self) -> Option<Vec<Interface>> {
        let names: Vec<String> = self.interfaces.iter().map(|interface| interface.name.clone()).collect();
        Some(lease_terms::arranged(look(&names)?, self.fixed.lease.as_ref()))
    }

    /// Whether the terms of the leases fit the interfaces, as far as these are there.
    ///
    /// # Errors
    /// All that do not fit, a line each, with the fix.
    pub fn check_leases(&self) -> Result<(), String> {
        let Some(leasing) = &self.fixed.lease else { return Ok(()) };
        let rules = self.live.rules.load();
        let rules = rules.machines.iter().map(|(_, rule)| rule);
        let mut faults = lease_terms::faults(leasing, &self.interfaces, rules);
        let served: Vec<&Interface> = lease_terms::served(leasing, &self.interfaces).collect();
        let alone = |interface: &&Interface| !leasing.on_default_route && has_default_route(&interface.name);
        if !served.is_empty() && served.iter().all(alone) && leasing.relayed.is_empty() {
            let names: Vec<&str> = served.iter().map(|interface| interface.name.as_str()).collect();
            faults.push(format!(
                "no leases on {}: this host's default route is there, so it is probably a network with a DHCP server. \
                 Choose another interface with --interface, or add --lease-anyway (lease.on_default_route = true): \
                 netbootd then leases there if no other server answers",
                names.join(", ")
            ));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    /// `things`, and what else a stage serves.
    pub(super) fn and_assets(&self, things: &str) -> String {
        match &self.fixed.assets {
            Some(assets) => match assets.served_only() {
                Some(files) => format!("{things}, and of {} only {}", assets.path().display(), joined(files)),
                None => format!("{things}, and every file in {}", assets.path().display()),
            },
            None => things.to_owned(),
        }
    }

    /// A line for each thing that is served, before the first client comes.
    pub(super) fn announce(&self) {
        let rules = self.live.rules.load();
        match rules.choose(None, None, None, "x86_64") {
            Ok(Choice { boot: Boot::Menu, .. }) if rules.profiles.is_empty() => {
                warn!(
                    "boots a menu without profiles: name a kernel or a CD image, or add [profiles] to the configuration"
                );
            }
            Ok(Choice { boot: Boot::Menu, .. }) => info!("boots the menu of profiles ({})", rules.profiles.len()),
            Ok(Choice { boot: Boot::Local, .. }) => info!("boots the local disk"),
            Ok(Choice { profile, boot, .. }) => match self.fault_of(&rules, profile, boot) {
                Some(why) => warn!("boots nothing so far: profile {profile} cannot boot: {why}"),
                None => {
                    let files: Vec<String> = boot.named().into_iter().map(without_password).collect();
                    info!("boots profile {profile}: {} {}", files.join(" "), boot.cmdline().unwrap_or_default());
                }
            },
            Err(why) => warn!("{why}"),
        }
    }

    /// Why a profile cannot boot an x86_64 machine now.
    fn fault_of(&self, rules: &Rules, profile: &str, boot: &Boot) -> Option<String> {
        let variant = rules.profiles.get(profile).and_then(|profile| profile.variants.get_key_value("x86_64"));
        let rendered = || rules.rendered.fault(profile, variant.map(|(arch, _)| arch.as_str())).map(str::to_owned);
        faults::of(boot, &rules.templates, self.fixed.assets.as_deref()).or_else(rendered)
    }

    /// The kinds of firmware that have a loader.
    pub(super) fn clients(&self) -> String {
        let serves = self.live.rules.load().serves();
        let http = |loader: &Loader| *loader != Loader::Bios;
        let mut kinds: Vec<String> = serves.iter().map(|loader| loader.title().to_owned()).collect();
        kinds.extend(serves.iter().any(http).then(|| "UEFI HTTP".to_owned()));
        kinds.push("iPXE".into());
        kinds.join(", ")
    }
}
