//! What a machine says of itself when it asks for its script.

use super::{
    hardware::Hardware,
    loader::Loader,
    mac::MacAddr,
    machine::{Machine, MachineRule},
    reason::Reason,
    selector::Facts,
    text::on_screen,
};

/// What an iPXE says of itself in the query of `/boot.ipxe`; empty values count as missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Query {
    /// `${netX/mac}`: the card that it boots from.
    pub mac: Option<String>,
    /// `${uuid}`.
    pub uuid: Option<String>,
    /// `${serial}`.
    pub serial: Option<String>,
    /// `${buildarch}`.
    pub arch: Option<String>,
    /// `${platform}`: `efi` or `pcbios`.
    pub platform: Option<String>,
    /// The profile that the menu's user chose.
    pub profile: Option<String>,
    /// Set where an earlier script of this boot failed and asks for another one.
    pub retry: Option<String>,
    /// The profile that the menu's user chose for the boot that failed. It is taken where the menu would be shown again.
    pub tried: Option<String>,
    /// What is in the machine.
    #[serde(flatten)]
    pub hardware: Hardware,
    /// How often the machine was given its one-time profile again when this was signed; none: nothing was.
    #[serde(skip)]
    pub renewed: Option<u64>,
    /// The interface of ours that the machine is heard on. No machine says this of itself: it is filled in here.
    #[serde(skip)]
    pub interface: Option<String>,
}

impl Query {
    /// The machine's card.
    ///
    /// # Errors
    /// [`Reason::BadQuery`]; `None` where it is missing.
    pub fn mac(&self) -> Result<Option<MacAddr>, Reason> {
        let parsed = said(&self.mac).map(str::parse::<MacAddr>).transpose();
        parsed.map_err(|error| Reason::BadQuery(format!("mac is wrong: {error}")))
    }

    /// Whether an earlier script of this boot has failed.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        said(&self.retry).is_some()
    }

    /// With what is kept of the machine's parts cut to its bounds.
    #[must_use]
    pub fn bounded(self) -> Self {
        let hardware = self.hardware.bounded();
        // GRUB's word for it.
        let platform = self.platform.map(|platform| if platform == "pc" { "pcbios".into() } else { platform });
        Self { hardware, platform, ..self }
    }

    /// The machine as templates see it.
    pub(super) fn machine(&self, mac: MacAddr, rule: Option<&MachineRule>) -> Machine {
        let plain = |value: &Option<String>| said(value).map(on_one_line).unwrap_or_default();
        Machine {
            arch: plain(&self.arch),
            // An iPXE that does not say may be EFI, where a kernel needs initrd=; a BIOS kernel ignores that.
            platform: plain(&self.platform),
            uuid: plain(&self.uuid),
            serial: plain(&self.serial),
            ..Machine::new(mac, rule)
        }
    }

    /// What rules are asked by.
    #[must_use]
    pub fn facts(&self, mac: MacAddr) -> Facts<'_> {
        Facts {
            mac,
            // Boards without one send filler text; such a machine is known by its card.
            uuid: said(&self.uuid).and_then(|uuid| uuid.parse().ok()),
            serial: said(&self.serial),
            hardware: Some(&self.hardware),
            arch: Loader::of_ipxe(said(&self.arch).unwrap_or_default(), said(&self.platform).unwrap_or_default()),
            interface: said(&self.interface),
        }
    }

    /// What the iPXE that asks runs on, where it says both its processor and its platform.
    pub(super) fn runs_on(&self) -> Option<Loader> {
        Loader::of_ipxe(said(&self.arch)?, said(&self.platform)?)
    }
}

/// What a machine says of itself, fit for a line of a script: its serial number is whatever someone typed into it.
fn on_one_line(text: &str) -> String {
    on_screen(text).chars().take(100).collect()
}

/// A text of a query; an empty one is none.
pub(super) fn said(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}
