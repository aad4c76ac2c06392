//! What was said of machines while the server ran: the profile that one is assigned, whether that has been had, and
//! whether it is answered at all.
//!
//! It goes before the configuration's rules, is kept by `state`, and is replaced as a whole, never changed in place.

use std::collections::HashMap;

use super::client::MacAddr;

/// What was said of every machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster(HashMap<MacAddr, Entry>);

/// What was said of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The profile that it is to boot, instead of its rule's.
    pub assigned: Option<Assignment>,
    /// Answered also where only known machines are, and no rule names it.
    pub approved: bool,
    /// The profile that it has booted, where that was to be once: now it goes on to its local disk.
    pub spent: Option<String>,
}

/// A profile that a machine is to boot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Assignment {
    /// Its name.
    pub profile: String,
    /// The next boot that comes to its hand-over only.
    pub once: bool,
}

impl Entry {
    /// Whether it is enough to answer the machine where only known ones are answered: who gives it something to boot
    /// means it to boot.
    #[must_use]
    pub fn makes_known(&self) -> bool {
        self.approved || self.assigned.is_some()
    }
}

impl Roster {
    /// What was said of a machine.
    #[must_use]
    pub fn of(&self, mac: MacAddr) -> Option<&Entry> {
        self.0.get(&mac)
    }

    /// Says something else of a machine; an entry that says nothing is taken out.
    #[must_use]
    pub fn with(&self, mac: MacAddr, entry: Entry) -> Self {
        let mut all = self.0.clone();
        if entry == Entry::default() {
            all.remove(&mac)
        } else {
            all.insert(mac, entry)
        };
        Self(all)
    }

    /// All machines of which something was said.
    pub fn iter(&self) -> impl Iterator<Item = (&MacAddr, &Entry)> {
        self.0.iter()
    }
}

impl FromIterator<(MacAddr, Entry)> for Roster {
    fn from_iter<I: IntoIterator<Item = (MacAddr, Entry)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}
