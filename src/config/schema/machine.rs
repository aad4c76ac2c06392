//! `[[machines]]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::boot::machine::LocalBoot;

/// A rule for one machine, or for all machines that it matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Machine {
    /// The machine's name: `machine.name` in templates.
    pub name: Option<String>,
    /// MAC addresses, in any notation.
    pub mac: Names,
    /// SMBIOS UUIDs, in either byte order.
    pub uuid: Names,
    /// SMBIOS serial numbers. Only iPXE reports them, so they can choose a profile but no loader.
    pub serial: Names,
    /// Manufacturers of machines, as iPXE reports them. Upper and lower case are equal; `*` matches any characters. Any
    /// machine can send false data in `manufacturer`, `product` and `asset`. So they apply only if no rule names the
    /// machine, and they cannot choose a loader.
    pub manufacturer: Names,
    /// Product names, with the same limits as `manufacturer`.
    pub product: Names,
    /// Asset tags, with the same limits as `manufacturer`.
    pub asset: Names,
    /// Manufacturers of network cards: the first three bytes of their MAC addresses.
    pub oui: Names,
    /// Interfaces of this host, by name. Matches machines whose requests arrive there, also through a relay.
    pub interface: Names,
    /// Firmware: `bios`, or `i386`, `x86_64`, `arm32`, `arm64`, `riscv32`, `riscv64`, `loong64` for UEFI.
    pub arch: Names,
    /// The profile that the machine boots.
    pub profile: Option<String>,
    /// `true`: one-time, for one boot that reaches its hand-over. `"installed"`: until the machine reports that it is
    /// installed (`report("installed")` in a template). Then the machine boots its local disk.
    pub once: Once,
    /// With `once = "installed"`: the largest number of hand-overs, from 1 on. Default: 3.
    #[schemars(range(min = 1))]
    pub once_tries: Option<u32>,
    /// The profiles that the menu shows on this machine, in this order. Without it: all.
    pub menu: Vec<String>,
    /// The address that it gets, with `[lease]`. Only for a rule of one machine.
    pub address: Option<String>,
    /// Delay of offers to its firmware, instead of `dhcp.reply_delay`.
    pub reply_delay: Option<String>,
    /// Variables for templates: `vars.…`.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Settings for its firmware.
    #[serde(rename = "override")]
    pub overrides: Override,
}

impl Machine {
    /// The names under one key of the rule.
    #[must_use]
    pub fn names(&self, key: &str) -> &[String] {
        let Self { mac, uuid, serial, manufacturer, product, asset, oui, interface, arch, .. } = self;
        let keys = [
            ("mac", mac),
            ("uuid", uuid),
            ("serial", serial),
            ("manufacturer", manufacturer),
            ("product", product),
            ("asset", asset),
            ("oui", oui),
            ("interface", interface),
            ("arch", arch),
        ];
        keys.into_iter().find(|(name, _)| *name == key).map_or(&[], |(_, names)| names.all())
    }
}

/// How often a machine boots its profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected true, false or \"installed\"")]
pub enum Once {
    /// `once = true`: one boot.
    Next(bool),
    /// `once = "installed"`
    Until(Reported),
}

/// The report that a machine sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reported {
    /// It is installed.
    Installed,
}

impl Default for Once {
    fn default() -> Self {
        Self::Next(false)
    }
}

/// One name, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub enum Names {
    /// `mac = "…"`
    One(String),
    /// `mac = ["…", "…"]`
    Many(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Names {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// Settings for a machine's firmware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Override {
    /// Name of a loader (`netbootd loaders` lists them), `grub` for the GRUB of this host, or a path below the assets
    /// folder, for example of a shim.
    pub loader: Option<String>,
    /// How iPXE starts the local disk: `auto`, `exit`, `exit1` or `sanboot`.
    pub local_boot: LocalBoot,
}
