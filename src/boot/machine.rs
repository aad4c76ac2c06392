//! What machines are to boot: profiles, and the choice between them.

use std::collections::BTreeMap;

use super::{
    client::MacAddr,
    loader::{Loader, Loaders},
    template::Templates,
    why::Why,
};

/// Everything that decides a boot; replaced as a whole, never changed in place.
#[derive(Debug, Default)]
pub struct Rules {
    /// The loaders on this host.
    pub loaders: Loaders,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// The profile of a machine that no rule names.
    pub default_profile: String,
    /// The scripts' templates.
    pub templates: Templates,
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

    /// What a machine boots: the profile that it asks for (as the menu does), else the default.
    ///
    /// # Errors
    /// [`Why::NoProfile`].
    pub fn choose(&self, wanted: Option<&str>) -> Result<Choice<'_>, Why> {
        let name = wanted.unwrap_or(&self.default_profile);
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

/// A machine as templates see it (`machine.mac`, `machine.name`, `machine.arch`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Machine {
    /// With colons, lower case.
    pub mac: String,
    /// Usable as a host name.
    pub name: String,
    /// iPXE's `buildarch`: `i386`, `x86_64`, `arm64`… (a BIOS machine says `i386` whatever its processor).
    pub arch: String,
}

impl Machine {
    /// A machine that no rule names is called after its address.
    #[must_use]
    pub fn unnamed(mac: MacAddr, arch: String) -> Self {
        Self { mac: mac.to_string(), name: mac.to_string().replace(':', "-"), arch }
    }
}
