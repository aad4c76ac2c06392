//! `[[machines]]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::boot::machine::LocalBoot;

/// A rule about a machine, or about all that its selectors fit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Machine {
    /// `machine.name` in templates.
    pub name: Option<String>,
    /// MAC addresses, in any notation.
    pub mac: Names,
    /// SMBIOS UUIDs, in either byte order.
    pub uuid: Names,
    /// SMBIOS serial numbers. Known to iPXE only, so they choose a profile and no loader.
    pub serial: Names,
    /// Makers of machines, as their firmware tells iPXE, in any case; `*` stands for any characters. Like `product` and
    /// `asset` a claim of the machine's own: it decides where no rule names the machine, and it chooses no loader.
    pub manufacturer: Names,
    /// Models, likewise.
    pub product: Names,
    /// Asset tags, likewise.
    pub asset: Names,
    /// Makers of cards: the first three bytes of their MAC addresses.
    pub oui: Names,
    /// Interfaces of this host, by name: machines that are heard there, those behind a relay too.
    pub interface: Names,
    /// Firmware: `bios`, or `i386`, `x86_64`, `arm32`, `arm64`, `riscv32`, `riscv64`, `loong64` for UEFI.
    pub arch: Names,
    /// What it boots.
    pub profile: Option<String>,
    /// `true`: its next boot that comes to its hand-over only; `"installed"`: until it reports that it is installed
    /// (`report("installed")` in a template). Then the local disk.
    pub once: Once,
    /// With `once = "installed"`: how often it is handed over at most, from 1 on; none: 3 times.
    pub once_tries: Option<u32>,
    /// The profiles that the menu shows it, in this order; none: all.
    pub menu: Vec<String>,
    /// How long an offer to its firmware waits, instead of `dhcp.reply_delay`.
    pub reply_delay: Option<String>,
    /// `vars.…` in templates.
    pub vars: BTreeMap<String, serde_json::Value>,
    /// What its firmware needs.
    #[serde(rename = "override")]
    pub overrides: Override,
}

impl Machine {
    /// The names that it gives by a key of its selector.
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
#[serde(untagged, expecting = "true, false or \"installed\" is wanted")]
pub enum Once {
    /// `once = true`: its next boot only.
    Next(bool),
    /// `once = "installed"`
    Until(Reported),
}

/// What a machine reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reported {
    /// That it is installed.
    Installed,
}

impl Default for Once {
    fn default() -> Self {
        Self::Next(false)
    }
}

/// One name, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a text, or a list of texts, is wanted")]
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

/// What a machine's firmware needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Override {
    /// A loader's name (`netbootd loaders` lists them), or a path below the assets folder, such as a shim's.
    pub loader: Option<String>,
    /// How it is sent on to its disk: `auto`, `exit`, `exit1` or `sanboot`.
    pub local_boot: LocalBoot,
}
