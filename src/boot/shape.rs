//! How an offer to firmware is written.

use std::fmt;

/// The shape of an offer to firmware that boots by TFTP. All of them hold siaddr, option 54, option 60, and option 97
/// where the client sent it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shape {
    /// `file`, and option 43.6 = 8: load it, ask nobody else (PXE 2.1 §2.4.1; EDK2 UefiPxeBcDxe: "Pxe10").
    #[default]
    Direct,
    /// The same with option 67 beside `file`, for firmware that reads options only.
    Option67,
    /// Neither a file nor option 43, so that the client asks port 4011 (PXE 2.1 §2.2.5; EDK2: "Binl").
    BootServer,
    /// Options 66 and 67 beside siaddr and `file`, as the lines for a leasing server have them.
    Option66,
    /// A PXE menu of one entry that is chosen at once, as dnsmasq's `pxe-service` sends it; the file is named on port
    /// 4011 then. Some boards (Realtek) take no other.
    Menu,
}

impl Shape {
    /// The rungs of the ladder, in the order in which they are tried.
    pub const LADDER: [Self; 5] = [Self::Direct, Self::Option67, Self::BootServer, Self::Option66, Self::Menu];

    /// Name in the configuration, the state and the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Option67 => "option_67",
            Self::BootServer => "boot_server",
            Self::Option66 => "option_66",
            Self::Menu => "menu",
        }
    }

    /// The shape of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::LADDER.into_iter().find(|shape| shape.name() == name)
    }

    /// Whether it names no file, so that a client asks port 4011 for it.
    #[must_use]
    pub fn asks_the_boot_server(self) -> bool {
        matches!(self, Self::BootServer | Self::Menu)
    }

    /// The next rung; behind the last one comes the first.
    pub(crate) fn next(self) -> Self {
        let behind = Self::LADDER.into_iter().cycle().skip_while(|shape| *shape != self).nth(1);
        behind.unwrap_or_default()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Option67 => "with option 67 beside the file field",
            Self::BootServer => "by the boot server on port 4011",
            Self::Option66 => "with options 66 and 67 beside the header's fields",
            Self::Menu => "with a PXE menu of one entry, by the boot server on port 4011",
        })
    }
}
