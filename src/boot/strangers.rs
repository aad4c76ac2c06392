//! Machines that no rule names, while the server runs: whether they are answered, and what a person said about each.

use std::{
    net::Ipv4Addr,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::identity::MachineId;

/// What a person says about a machine that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// It may boot, until its next hand-over.
    Once,
    /// It may boot from now on: it is approved.
    Always,
    /// It is not answered while this server runs.
    No,
}

impl Permission {
    /// What comes of it, in a sentence.
    #[must_use]
    pub fn words(self, machine: MachineId) -> String {
        match self {
            Self::Once => format!("{machine} may boot this time; its firmware asks again within some seconds"),
            Self::Always => format!("{machine} may boot from now on; its firmware asks again within some seconds"),
            Self::No => format!("{machine} is not answered in this run"),
        }
    }
}

/// What is known of such machines beside the rules and the roster. It ends with the server, and outlives a reload.
#[derive(Debug, Default)]
pub struct Strangers {
    is_careful: AtomicBool,
    other_proxy: OnceLock<Ipv4Addr>,
    said: Mutex<Vec<(MachineId, Permission)>>,
}

impl Strangers {
    /// From now on, another ProxyDHCP server on the network means that only known machines are answered.
    pub fn be_careful(&self) {
        self.is_careful.store(true, Ordering::Relaxed);
    }

    /// Another ProxyDHCP server answers. Whether only known machines are answered because of this message.
    pub fn other_proxy_answers(&self, server: Ipv4Addr) -> bool {
        self.is_careful.load(Ordering::Relaxed) && self.other_proxy.set(server).is_ok()
    }

    /// The other ProxyDHCP server because of which only known machines are answered.
    #[must_use]
    pub fn other_proxy(&self) -> Option<Ipv4Addr> {
        self.other_proxy.get().copied()
    }

    /// Keeps what a person says, in the place of what was said before.
    pub fn say(&self, machine: MachineId, permission: Permission) {
        let mut said = self.lock();
        said.retain(|(other, _)| !is_same(*other, machine));
        said.push((machine, permission));
    }

    /// What was said of a machine last, under any of its names.
    #[must_use]
    pub fn said(&self, machine: MachineId) -> Option<Permission> {
        self.lock().iter().find(|(other, _)| is_same(*other, machine)).map(|(_, permission)| *permission)
    }

    /// Forgets what was said of a machine.
    pub fn forget(&self, machine: MachineId) {
        self.lock().retain(|(other, _)| !is_same(*other, machine));
    }

    /// A machine has booted: a permission for one boot is used up.
    pub fn handed_over(&self, machine: MachineId) {
        self.lock().retain(|(other, permission)| *permission != Permission::Once || !is_same(*other, machine));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(MachineId, Permission)>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Firmware may say only its card, and iPXE its UUID too.
fn is_same(one: MachineId, other: MachineId) -> bool {
    one.keys().any(|key| other.keys().any(|other| key == other))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::boot::mac::MacAddr;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    #[test]
    fn another_proxy_counts_once_and_only_where_asked_for() {
        let strangers = Strangers::default();
        let (first, second) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        assert!(!strangers.other_proxy_answers(first));
        assert_eq!(strangers.other_proxy(), None);
        strangers.be_careful();
        assert!(strangers.other_proxy_answers(first));
        assert!(!strangers.other_proxy_answers(second) && !strangers.other_proxy_answers(first));
        assert_eq!(strangers.other_proxy(), Some(first));
    }

    #[test]
    fn one_boot_is_used_up_by_a_hand_over_and_the_other_answers_are_not() {
        let strangers = Strangers::default();
        // iPXE says the UUID of a machine that was allowed by its card.
        let booted = MachineId::new(None, Some(Uuid::from_u128(7 << 64)), MAC);
        for (said, after) in [
            (Permission::Once, None),
            (Permission::Always, Some(Permission::Always)),
            (Permission::No, Some(Permission::No)),
        ] {
            strangers.say(MAC.into(), said);
            assert_eq!(strangers.said(booted), Some(said));
            strangers.handed_over(MacAddr([2, 0, 0, 0, 0, 2]).into());
            assert_eq!(strangers.said(booted), Some(said), "another machine's boot");
            strangers.handed_over(booted);
            assert_eq!(strangers.said(MAC.into()), after);
        }
        strangers.forget(booted);
        assert_eq!(strangers.said(MAC.into()), None);
    }
}
