//! What machines boot: profiles, rules about machines, and the choice between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use super::{
    client::Client,
    identity::{Key, MachineId, own_uuid},
    loader::Loader,
    loaders::Loaders,
    mac::MacAddr,
    policy::Policy,
    profile::{Boot, Profile, ProfileFault},
    reason::Reason,
    roster::{Begun, Entry, Names, Roster, Tried},
    selector::{Facts, RuleBook},
    shape::Shape,
    strangers::{Permission, Strangers},
    template::Templates,
};
use crate::spelling::plain_path;

/// Everything of the configuration that decides a boot; replaced as a whole, never changed in place.
#[derive(Debug, Default)]
pub struct Rules {
    /// The loaders on this host.
    pub loaders: Loaders,
    /// Rules about machines.
    pub machines: RuleBook<MachineRule>,
    /// Whether an iPXE that says what it does by syslog is heard.
    pub hears_ipxe: bool,
    /// Whether only machines that a rule names or that were approved are answered.
    pub known_only: bool,
    /// Machines that no rule names: what was said of them since the start.
    pub strangers: Arc<Strangers>,
    /// The shape of offers.
    pub offer: OfferShape,
    /// How long offers to firmware wait.
    pub reply_delay: ReplyDelay,
    /// How long a machine asks in vain before this server, a standby, answers it; zero: it is no standby.
    pub answer_after: Duration,
    /// Whether there is an assets folder, which a Raspberry Pi's own files are in.
    pub has_assets: bool,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// The profile of a machine that no rule names.
    pub default_profile: String,
    /// The built-in menu.
    pub menu: Menu,
    /// The scripts' templates, and those of answer files.
    pub templates: Templates,
    /// Who gets answer files.
    pub answers: Policy,
    /// What was found when the profiles' templates were rendered for their machines.
    pub rendered: Rendered,
}

/// What rendering the templates of all profiles, for each machine that can get them, has found.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// Templates that fail. They stay so until the configuration is read again.
    pub faults: Vec<ProfileFault>,
    /// The files and folders that the templates of a profile, or of one of its variants, name by `asset()`.
    pub assets: BTreeMap<(String, Option<String>), BTreeSet<String>>,
    /// Profiles with files on another server whose templates have no report: nobody sees that a machine boots them.
    pub unseen: BTreeSet<String>,
}

impl Rendered {
    /// Why the templates of a profile, or of one of its variants, fail.
    pub fn fault(&self, profile: &str, arch: Option<&str>) -> Option<&str> {
        let is_it = |fault: &&ProfileFault| fault.profile == profile && fault.arch.as_deref() == arch;
        self.faults.iter().find(is_it).map(|found| found.fault.as_str())
    }
}

/// The shape of the offers to firmware (`dhcp.offer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfferShape {
    /// The ladder of [`super::attempts`].
    #[default]
    Auto,
    /// One for all.
    Always(Shape),
}

/// How long offers to firmware wait, for boot ROMs that miss an instant one (`dhcp.reply_delay`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyDelay {
    /// Of all machines; zero where nothing is set.
    pub all: Duration,
    /// A rule has one of its own. Where none has, no rule is looked up for it.
    pub by_rule: bool,
}

/// The built-in menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Menu {
    /// What is chosen for a user who is not there: a profile or a built-in; none: the local disk.
    pub default: Option<String>,
    /// Milliseconds until then; 0: without end.
    pub timeout_ms: u64,
}

/// What the configuration says of a machine, or of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineRule {
    /// Its name.
    pub name: Option<String>,
    /// The profile that it boots; none: the default one.
    pub profile: Option<String>,
    /// Its next boot that comes to its hand-over only; then the local disk.
    pub once: bool,
    /// Once in this sense: until it reports that it is installed, and at most so many hand-overs.
    pub until_installed: Option<u32>,
    /// The profiles that the menu shows it; none: all.
    pub menu: Vec<String>,
    /// For templates.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// A loader instead of its architecture's usual one.
    pub loader: Option<String>,
    /// How its firmware is sent on to its disk.
    pub local_boot: LocalBoot,
    /// How long offers to its firmware wait; none: as long as all.
    pub reply_delay: Option<Duration>,
    /// The address that is reserved for it.
    pub address: Option<Ipv4Addr>,
}

/// How firmware is sent on to the local disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LocalBoot {
    /// As most firmware of its kind wants it.
    #[default]
    Auto,
    /// iPXE's `exit`.
    Exit,
    /// `exit 1`: a failure, behind which firmware goes on with its boot order.
    Exit1,
    /// The first disk is started by iPXE itself.
    Sanboot,
}

/// The answer to "what does this machine boot, and why that?"
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The profile's name.
    pub profile: &'a str,
    /// The boot that was chosen.
    pub boot: &'a Boot,
    /// Who said so.
    pub by: By,
    /// Whether it is a one-time profile that was not used up.
    pub once: bool,
    /// Once in this sense: it is served until the machine reports that it is installed.
    pub until_installed: bool,
}

/// Who chose a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The user at the machine, from the menu.
    Menu,
    /// `netbootd assign`, or the API.
    Assignment,
    /// A rule of the configuration.
    Rule,
    /// `default_profile`.
    Default,
    /// It has had what it was to have once.
    Spent,
    /// It was handed over as often as `once_tries` allows, and never reported installed.
    Tried,
}

/// What names a profile that is not there, with the fix.
fn named_by(by: By) -> &'static str {
    match by {
        By::Assignment => {
            ", which is assigned to this machine: netbootd unassign with the machine's name or MAC address removes the assignment"
        }
        By::Rule => ", which this machine's rule names: correct the rule, or add the profile",
        By::Default => ", which default_profile names: correct it, or add the profile",
        By::Menu | By::Spent | By::Tried => "",
    }
}

impl Rules {
    /// Names that no profile may take, because they are built in.
    pub const BUILT_IN: [&'static str; 3] = ["menu", "local", "shell"];

    /// Whether there is a profile of this name, of the configuration or built in.
    #[must_use]
    pub fn has_profile(&self, name: &str) -> bool {
        self.profiles.contains_key(name) || Self::BUILT_IN.contains(&name)
    }

    /// Whether a profile boots the file of this path below the assets folder.
    #[must_use]
    pub fn boots(&self, path: &str) -> bool {
        let path = plain_path(path);
        let is_it = |name: &str| plain_path(name) == path;
        let mut named = self.profiles.values().flat_map(Profile::boots).flat_map(|(_, boot)| boot.named());
        named.any(is_it) || self.rendered.assets.values().flatten().any(|name| is_it(name))
    }

    /// The rule about a machine, where there is one.
    ///
    /// # Errors
    /// [`Reason::Unknown`] where there has to be one, or an approval.
    pub fn rule(&self, facts: &Facts<'_>, roster: &Roster) -> Result<Option<&MachineRule>, Reason> {
        let rule = self.machines.of(facts).map(|(_, rule)| rule);
        let may_once = || self.strangers.said(self.identity(facts)) == Some(Permission::Once);
        let is_known = || self.said(facts, roster).is_some_and(|entry| entry.makes_known()) || may_once();
        if self.answers_known_only() && rule.is_none() && !is_known() { Err(Reason::Unknown) } else { Ok(rule) }
    }

    /// Whether a machine has to be known to be answered: by the configuration, or because of another ProxyDHCP server.
    #[must_use]
    pub fn answers_known_only(&self) -> bool {
        self.known_only || self.strangers.other_proxy().is_some()
    }

    /// What was said of a machine, under any of its names.
    #[must_use]
    pub fn said(&self, facts: &Facts<'_>, roster: &Roster) -> Option<Entry> {
        roster.of(self.identity(facts))
    }

    /// How long an offer to this machine's firmware waits, where that is set.
    #[must_use]
    pub fn reply_delay(&self, client: &Client) -> Option<Duration> {
        let ReplyDelay { all, by_rule } = self.reply_delay;
        let rule = by_rule.then(|| self.machines.of(&client.facts())).flatten();
        rule.and_then(|(_, rule)| rule.reply_delay).or(Some(all).filter(|all| !all.is_zero()))
    }

    /// What a machine boots: the profile that it asks for (as the menu does), else the one that it is assigned, else
    /// that of its rule, else the default. `arch` is iPXE's `${buildarch}`.
    ///
    /// # Errors
    /// [`Reason::NoProfile`], [`Reason::TriedOften`].
    pub fn choose<'a>(
        &'a self,
        rule: Option<&'a MachineRule>,
        said: Option<&Entry>,
        wanted: Option<&str>,
        arch: &str,
    ) -> Result<Choice<'a>, Reason> {
        let assigned = said.and_then(|entry| entry.assigned.as_ref());
        let by_rule = rule.and_then(|rule| Some((rule.profile.as_deref()?, By::Rule)));
        let (name, by) = wanted
            .map(|name| (name, By::Menu))
            .or(assigned.map(|assigned| (assigned.profile.as_str(), By::Assignment)))
            .or(by_rule)
            .unwrap_or((&self.default_profile, By::Default));
        let once = match by {
            By::Assignment => assigned.is_some_and(|assigned| assigned.once),
            By::Rule | By::Default => rule.is_some_and(|rule| rule.once),
            By::Menu | By::Spent | By::Tried => false,
        };
        if once && said.is_some_and(|entry| entry.has_had(name, by == By::Assignment)) {
            return Ok(Choice {
                profile: "local",
                boot: &Boot::Local,
                by: By::Spent,
                once: false,
                until_installed: false,
            });
        }
        let begun = said.filter(|entry| once && entry.is_in_doubt).and_then(|entry| entry.begun.as_ref());
        if let Some(Begun { by, .. }) = begun {
            return Err(Reason::BegunElsewhere { profile: name.chars().take(64).collect(), by: by.clone() });
        }
        let most = rule.and_then(|rule| rule.until_installed).filter(|_| once && by != By::Assignment);
        let tried = said.and_then(|entry| entry.tried.as_ref()).filter(|tried| tried.profile == name);
        if let (Some(most), Some(Tried { count, failed, .. })) = (most, tried)
            && *count >= most
        {
            return Err(Reason::TriedOften { count: *count, failed: failed.clone() });
        }
        let built_in: Option<(&str, &Boot)> = match name {
            "menu" => Some(("menu", &Boot::Menu)),
            "local" => Some(("local", &Boot::Local)),
            "shell" => Some(("shell", &Boot::Shell)),
            _ => None,
        };
        let own = || self.profiles.get_key_value(name).map(|(name, profile)| (name.as_str(), profile.boot(arch)));
        let found =
            built_in.or_else(own).ok_or_else(|| Reason::NoProfile(name.chars().take(64).collect(), named_by(by)))?;
        Ok(Choice { profile: found.0, boot: found.1, by, once, until_installed: most.is_some() })
    }

    /// Kinds of firmware that can be served, for the line that says what is waited for.
    #[must_use]
    pub fn serves(&self) -> Vec<Loader> {
        Loader::ALL.into_iter().filter(|loader| self.loaders.of(*loader).is_some()).collect()
    }
}

impl Rules {
    /// The names that rules give to single machines, with what each rule knows its machine by.
    #[must_use]
    pub fn names(&self) -> Names {
        let mut names: BTreeMap<&'static str, Vec<BTreeSet<Key>>> = BTreeMap::new();
        for (selector, rule) in self.machines.iter().filter(|(selector, _)| selector.names_one_machine()) {
            let Some(name) = MachineId::new(rule.name.as_deref(), None, MacAddr([0; 6])).name() else { continue };
            let uuids = selector.uuids.iter().copied().filter_map(own_uuid).map(Key::Uuid);
            let cards = selector.macs.iter().copied().map(Key::Card);
            names.entry(name).or_default().push(uuids.chain(cards).collect());
        }
        let known_by = |rules: Vec<BTreeSet<Key>>| match rules.iter().any(BTreeSet::is_empty) {
            true => BTreeSet::new(),
            false => rules.into_iter().flatten().collect(),
        };
        names.into_iter().map(|(name, rules)| (name, known_by(rules))).collect()
    }

    /// The addresses that are reserved for machines.
    #[must_use]
    pub fn reservations(&self) -> BTreeSet<Ipv4Addr> {
        self.machines.iter().filter_map(|(_, rule)| rule.address).collect()
    }

    /// Whether an address is reserved by a rule that may be about a machine of which only the card is known.
    #[must_use]
    pub fn may_reserve(&self, address: Ipv4Addr, card: MacAddr) -> bool {
        self.machines.iter().any(|(selector, rule)| rule.address == Some(address) && selector.may_be(card))
    }

    /// Which machine a stage has before it.
    #[must_use]
    pub fn identity(&self, facts: &Facts<'_>) -> MachineId {
        let deciding = self.machines.deciding(facts).filter(|(selector, _)| selector.names(facts));
        let name = deciding.and_then(|(_, rule)| rule.name.as_deref());
        MachineId::new(name, facts.uuid, facts.mac)
    }
}

/// A machine as templates see it (`machine.mac`, `machine.name`, `machine.arch`…).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Machine {
    /// With colons, lower case.
    pub mac: String,
    /// The card that it boots from as PXELINUX's `BOOTIF` and initramfs-tools name it: `01-52-54-00-12-34-56`, in which 01
    /// is Ethernet's hardware type (RFC 1700, ARP).
    pub bootif: String,
    /// That of its rule, else its address with hyphens: usable as a host name.
    pub name: String,
    /// iPXE's `buildarch`: `i386`, `x86_64`, `arm64`… (a BIOS machine says `i386` whatever its processor).
    pub arch: String,
    /// iPXE's `platform`: `efi` or `pcbios`; empty where it does not say.
    pub platform: String,
    /// SMBIOS UUID as iPXE sends it; empty where it does not.
    pub uuid: String,
    /// SMBIOS serial number as iPXE sends it; empty where it does not.
    pub serial: String,
    /// How it is sent on to its disk.
    pub local_boot: LocalBoot,
}

impl Machine {
    /// A machine with what its rule says of it.
    #[must_use]
    pub fn new(mac: MacAddr, rule: Option<&MachineRule>) -> Self {
        let named = rule.and_then(|rule| rule.name.clone());
        Self {
            mac: mac.to_string(),
            bootif: format!("01-{}", mac.to_string().replace(':', "-")),
            name: named.unwrap_or_else(|| mac.to_string().replace(':', "-")),
            arch: String::new(),
            platform: String::new(),
            uuid: String::new(),
            serial: String::new(),
            local_boot: rule.map(|rule| rule.local_boot).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::roster::Assignment;

    #[test]
    fn the_menu_goes_before_an_assignment_before_a_rule_before_the_default() {
        let rules = Rules { default_profile: "menu".into(), ..Rules::default() };
        let rule = MachineRule { profile: Some("shell".into()), ..MachineRule::default() };
        let assignment = Assignment { profile: "local".into(), once: false };
        let said = Entry { assigned: Some(assignment), ..Entry::default() };
        let by =
            |rule, said, wanted| rules.choose(rule, said, wanted, "x86_64").map(|choice| (choice.profile, choice.by));
        assert_eq!(by(None, None, None), Ok(("menu", By::Default)));
        assert_eq!(by(Some(&rule), None, None), Ok(("shell", By::Rule)));
        assert_eq!(by(Some(&rule), Some(&said), None), Ok(("local", By::Assignment)));
        assert_eq!(by(Some(&rule), Some(&said), Some("menu")), Ok(("menu", By::Menu)));
        assert_eq!(by(Some(&rule), None, Some("nothing")), Err(Reason::NoProfile("nothing".into(), "")));
        let gone = Entry { assigned: Some(Assignment { profile: "gone".into(), once: false }), ..Entry::default() };
        let said = by(Some(&rule), Some(&gone), None).expect_err("there is none").to_string();
        let fix = "netbootd unassign with the machine's name or MAC address removes the assignment";
        assert_eq!(said, format!("there is no profile \"gone\", which is assigned to this machine: {fix}"));
        // A rule may only give a name, or once to the default.
        let once = MachineRule { once: true, ..MachineRule::default() };
        assert_eq!(by(Some(&once), None, None), Ok(("menu", By::Default)));
    }

    #[test]
    fn what_was_to_be_had_once_and_has_been_is_followed_by_the_local_disk() {
        let rules = Rules { default_profile: "menu".into(), ..Rules::default() };
        let rule = |profile: &str| MachineRule { profile: Some(profile.into()), once: true, ..MachineRule::default() };
        let had = |spent: &str| Entry { spent: Some(spent.into()), ..Entry::default() };
        let once = |rule: &MachineRule, said: &Entry| {
            let choice = rules.choose(Some(rule), Some(said), None, "x86_64").expect("a choice");
            (choice.profile.to_owned(), choice.by, choice.once)
        };
        assert_eq!(once(&rule("shell"), &Entry::default()), ("shell".into(), By::Rule, true));
        assert_eq!(once(&rule("shell"), &had("shell")), ("local".into(), By::Spent, false));
        // An assignment, and that it is taken back, do not install a machine again.
        let mut entry = had("shell").assigned_to(Assignment { profile: "menu".into(), once: true });
        assert_eq!(once(&rule("shell"), &entry), ("menu".into(), By::Assignment, true));
        entry = entry.spent_on("menu".into());
        assert_eq!(once(&rule("shell"), &entry), ("local".into(), By::Spent, false));
        entry.assigned = None;
        assert_eq!(once(&rule("shell"), &entry), ("local".into(), By::Spent, false));
        // Who assigns it the same profile means it to be installed again.
        let again = entry.assigned_to(Assignment { profile: "shell".into(), once: true });
        assert_eq!(once(&rule("shell"), &again), ("shell".into(), By::Assignment, true));
        assert_eq!(once(&rule("shell"), &again.spent_on("shell".into())), ("local".into(), By::Spent, false));
        // Another profile in the rule is another once.
        assert_eq!(once(&rule("menu"), &had("shell")), ("menu".into(), By::Rule, true));
        let assigned = |once, spent: Option<&str>| Entry {
            assigned: Some(Assignment { profile: "shell".into(), once }),
            spent: spent.map(str::to_owned),
            ..Entry::default()
        };
        assert_eq!(once(&rule("menu"), &assigned(true, None)), ("shell".into(), By::Assignment, true));
        assert_eq!(once(&rule("menu"), &assigned(true, Some("shell"))), ("local".into(), By::Spent, false));
        assert_eq!(once(&rule("menu"), &assigned(false, Some("shell"))), ("shell".into(), By::Assignment, false));
    }
}
