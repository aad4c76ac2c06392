//! What machines are to boot: profiles, rules about machines, and the choice between them.

use std::collections::BTreeMap;

use super::{
    client::MacAddr,
    loader::{Loader, Loaders},
    selector::{Facts, RuleBook},
    template::Templates,
    why::Why,
};

/// Everything that decides a boot; replaced as a whole, never changed in place.
#[derive(Debug, Default)]
pub struct Rules {
    /// The loaders on this host.
    pub loaders: Loaders,
    /// Rules about machines.
    pub machines: RuleBook<MachineRule>,
    /// Whether only machines that a rule names are answered.
    pub known_only: bool,
    /// The shape of offers.
    pub offer: OfferShape,
    /// Whether there is an assets folder, which a Raspberry Pi's own files are in.
    pub has_assets: bool,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// The profile of a machine that no rule names.
    pub default_profile: String,
    /// The scripts' templates.
    pub templates: Templates,
}

/// The shape of the offers to firmware (`dhcp.offer`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfferShape {
    /// The ladder of [`super::attempts`].
    #[default]
    Auto,
    /// One for all.
    Always(super::attempts::Shape),
}

/// What the configuration says of a machine, or of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineRule {
    /// Its name.
    pub name: Option<String>,
    /// The profile that it boots; none: the default one.
    pub profile: Option<String>,
    /// For templates.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// A loader instead of its architecture's usual one.
    pub loader: Option<String>,
    /// How its firmware is sent on to its disk.
    pub local_boot: LocalBoot,
}

/// How firmware is sent on to the local disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

/// What a profile boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Kernel, as a path below the assets folder.
    pub kernel: String,
    /// Initial RAM disks in the order in which the kernel unpacks them, as paths below the assets folder.
    pub initrd: Vec<String>,
    /// Template of the kernel's command line.
    pub cmdline: String,
}

/// The answer to "what does this machine boot?"
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// A profile of the configuration.
    Profile(&'a str, &'a Profile),
    /// The built-in menu of all profiles.
    Menu,
    /// The built-in way on to the local disk.
    Local,
}

impl Rules {
    /// Names that no profile may take, because they are built in.
    pub const BUILT_IN: [&'static str; 2] = ["menu", "local"];

    /// The rule about a machine, where there is one.
    ///
    /// # Errors
    /// [`Why::Unknown`] where there has to be one.
    pub fn rule(&self, facts: &Facts<'_>) -> Result<Option<&MachineRule>, Why> {
        let rule = self.machines.of(facts).map(|(_, rule)| rule);
        if rule.is_none() && self.known_only { Err(Why::Unknown) } else { Ok(rule) }
    }

    /// What a machine boots: the profile that it asks for (as the menu does), else that of its rule, else the default.
    ///
    /// # Errors
    /// [`Why::NoProfile`].
    pub fn choose(&self, rule: Option<&MachineRule>, wanted: Option<&str>) -> Result<Choice<'_>, Why> {
        let by_rule = rule.and_then(|rule| rule.profile.as_deref());
        let name = wanted.or(by_rule).unwrap_or(&self.default_profile);
        if let Some((name, profile)) = self.profiles.get_key_value(name) {
            return Ok(Choice::Profile(name, profile));
        }
        match name {
            "menu" => Ok(Choice::Menu),
            "local" => Ok(Choice::Local),
            _ => Err(Why::NoProfile(name.chars().take(64).collect())),
        }
    }

    /// Kinds of firmware that can be served, for the line that says what is waited for.
    #[must_use]
    pub fn serves(&self) -> Vec<Loader> {
        Loader::ALL.into_iter().filter(|loader| self.loaders.of(*loader).is_some()).collect()
    }
}

/// A machine as templates see it (`machine.mac`, `machine.name`, `machine.arch`…).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Machine {
    /// With colons, lower case.
    pub mac: String,
    /// That of its rule, else its address with hyphens: usable as a host name.
    pub name: String,
    /// iPXE's `buildarch`: `i386`, `x86_64`, `arm64`… (a BIOS machine says `i386` whatever its processor).
    pub arch: String,
    /// SMBIOS UUID as iPXE tells it; empty where it does not.
    pub uuid: String,
    /// SMBIOS serial number as iPXE tells it; empty where it does not.
    pub serial: String,
    /// How it is sent on to its disk.
    pub local_boot: LocalBoot,
}

impl Machine {
    /// A machine with what its rule says of it.
    #[must_use]
    pub fn new(mac: MacAddr, arch: String, rule: Option<&MachineRule>) -> Self {
        let named = rule.and_then(|rule| rule.name.clone());
        Self {
            mac: mac.to_string(),
            name: named.unwrap_or_else(|| mac.to_string().replace(':', "-")),
            arch,
            uuid: String::new(),
            serial: String::new(),
            local_boot: rule.map(|rule| rule.local_boot).unwrap_or_default(),
        }
    }
}
