//! The settings of the daemon, without what it finds on the host.

use std::{collections::BTreeMap, time::Duration};

use super::{Finding, fixed::Fixed, watched::Watched};
use crate::boot::{
    machine::{MachineRule, Menu, OfferShape, Rendered},
    policy::Policy,
    profile::Profile,
    selector::Selector,
    template::Templates,
};

/// The settings of the daemon. Interfaces and loaders are found later on the host.
#[derive(Debug)]
pub struct Settings {
    /// What a reload cannot change.
    pub fixed: Fixed,
    /// Folders to search for loaders, before the folders of the packages.
    pub loader_dirs: Vec<std::path::PathBuf>,
    /// How machines are answered by DHCP.
    pub offers: Offers,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// The profile of machines that no rule names.
    pub default_profile: String,
    /// The embedded templates with the user's own.
    pub templates: Templates,
    /// What rendering them has found.
    pub rendered: Rendered,
    /// Which clients get answer files.
    pub answers: Policy,
    /// The built-in menu.
    pub menu: Menu,
    /// Rules for machines.
    pub machines: Vec<(Selector, MachineRule)>,
    /// The files that it was read from.
    pub watched: Watched,
    /// A fingerprint of those files: the same number as long as they do not change.
    pub read: u64,
    /// Faults and warnings that a server can run with.
    pub findings: Vec<Finding>,
    /// The length of the command lines of the profiles.
    pub cmdlines: Vec<Cmdline>,
    /// The place of each rule's loader key, by the index of the rule.
    pub loader_places: BTreeMap<usize, String>,
}

/// How machines are answered by DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// The shape of offers.
    pub shape: OfferShape,
    /// How long offers to firmware wait.
    pub reply_delay: Duration,
    /// How long a machine asks in vain before a standby answers it; zero: none.
    pub answer_after: Duration,
    /// Whether only machines that a rule names are answered.
    pub known_only: bool,
}

/// The longest command line that the template of a profile makes, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmdline {
    /// The profile.
    pub profile: String,
    /// Its variant.
    pub arch: Option<String>,
    /// The place of the template.
    pub place: String,
    /// What a message about it begins with, where the place does not say which profile it is.
    pub whose: String,
    /// Bytes, including the names of the initrds that are added to it.
    pub length: usize,
}
