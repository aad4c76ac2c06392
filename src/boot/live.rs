//! What decides, as it is at the moment.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};

use super::{
    heard::Heard,
    machine::Rules,
    profile::ProfileFault,
    roster::{Names, Roster},
};

/// What decides, as it is at the moment: a reload puts other rules in, `assign` another roster. Who holds one of them
/// goes on with it to the end of a request.
#[derive(Debug, Default)]
pub struct Live {
    /// From the configuration.
    pub rules: ArcSwap<Rules>,
    /// From what was said since.
    pub roster: ArcSwap<Roster>,
    /// The profiles that cannot boot, as they were when it was last looked.
    pub faults: ArcSwap<Vec<ProfileFault>>,
    /// How often the configuration was read again.
    pub reads: AtomicU64,
    /// Why the state cannot be used, where it cannot: what was said of machines is not known then.
    pub state_fault: ArcSwapOption<String>,
    /// What happens is kept: a one-time profile waits until its beginning is.
    pub is_kept: AtomicBool,
    /// Where a server keeps the state: a clock that goes on while this host or this process sleeps.
    pub state_clock: OnceLock<fn() -> Duration>,
    /// In milliseconds of that clock: as of when the state is known. 0: it never was.
    state_as_of: AtomicU64,
    /// Where no address is leased any more, and why.
    pub lease_faults: ArcSwap<Vec<String>>,
    /// The addresses of other appliances that share the state: their offers are the same as ours.
    pub peers: ArcSwap<Vec<Ipv4Addr>>,
    /// The names that the rules give to single machines.
    names: ArcSwap<Names>,
    /// The roster is replaced for its names, or for what is said in it: one after the other.
    replacing: Mutex<()>,
    heard: Mutex<Heard>,
}

impl Live {
    /// With these to begin with.
    #[must_use]
    pub fn new(rules: Rules, roster: Roster) -> Arc<Self> {
        let live = Self { roster: ArcSwap::from_pointee(roster), ..Self::default() };
        live.put_rules(Arc::new(rules));
        Arc::new(live)
    }

    /// Puts other rules in their place.
    pub fn put_rules(&self, rules: Arc<Rules>) {
        let _turn = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        self.names.store(Arc::new(rules.names()));
        // Before the rules: by a new name, a machine is not found among the old names. It takes a while.
        self.roster.store(self.among(&self.roster.load()));
        self.rules.store(rules);
    }

    /// Puts what was said of machines in its place. Only one at a time may make it of what was there before.
    pub fn put_roster(&self, roster: &Arc<Roster>) {
        let _turn = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        self.roster.store(self.among(roster));
    }

    /// What was said of machines, where these rules name them.
    #[must_use]
    pub fn among(&self, roster: &Arc<Roster>) -> Arc<Roster> {
        roster.among(&self.names.load())
    }

    /// What machines said of their firmware.
    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How old what is known of a server's state may be where a one-time profile is given. No machine that was handed over
    /// asks for a script again so soon.
    pub const FRESH: Duration = Duration::from_secs(3);

    /// What is known now is the server's state as of this moment, by its clock.
    pub fn state_known_as_of(&self, at: Duration) {
        self.state_as_of.store(u64::try_from(at.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Why nobody knows what machines have booted already, where that is so. It is asked at each decision: a process that
    /// was stopped for a while, with its host or alone, does not know that it was, and others went on meanwhile.
    #[must_use]
    pub fn why_state_is_unknown(&self) -> Option<Arc<String>> {
        let is_old = || {
            let as_of = Duration::from_millis(self.state_as_of.load(Ordering::Relaxed));
            let age = self.state_clock.get()?().saturating_sub(as_of);
            (!as_of.is_zero() && age > Self::FRESH)
                .then(|| Arc::new(format!("its server was last heard {} s ago", age.as_secs())))
        };
        self.state_fault.load_full().or_else(is_old)
    }

    /// All that does not work although the server does, a line each.
    #[must_use]
    pub fn fault_lines(&self) -> Vec<String> {
        let state = self.why_state_is_unknown();
        let state = state.iter().map(|fault| format!("the state cannot be used: {fault}"));
        let leases = self.lease_faults.load();
        let proxy = self.rules.load().strangers.other_proxy().map(|server| {
            format!(
                "only known machines are answered, because another ProxyDHCP server answers here: {server}; stop that \
                 server and start netbootd again, or netbootd up --everyone"
            )
        });
        state
            .chain(proxy)
            .chain(leases.iter().cloned())
            .chain(self.faults.load().iter().map(ToString::to_string))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::boot::{
        identity::Key,
        mac::MacAddr,
        machine::MachineRule,
        roster::Entry,
        selector::{Facts, RuleBook, Selector},
    };

    const CARD: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const FACTS: Facts<'_> = Facts { mac: CARD, uuid: None, serial: None, hardware: None, arch: None, interface: None };

    fn spent() -> Entry {
        Entry { spent: Some("demo".into()), ..Entry::default() }
    }

    fn named(name: &str) -> Arc<Rules> {
        let selector = Selector { macs: vec![CARD], ..Selector::default() };
        let rule = MachineRule { name: Some(name.into()), ..MachineRule::default() };
        Arc::new(Rules { machines: RuleBook::new(vec![(selector, rule)]), ..Rules::default() })
    }

    /// What is said of one machine, and of so many others that a copy takes a while.
    fn said() -> Roster {
        let card = |number: u16| {
            let [high, low] = number.to_be_bytes();
            Key::Card(MacAddr([2, 0, 0, 1, high, low]))
        };
        let own = Entry { known_as: [Key::Card(CARD)].into(), ..spent() };
        let own = (named("a").identity(&FACTS).key(), own);
        Roster::of_entries((0..1000).map(|number| (card(number), spent())).chain([own]).collect())
    }

    /// Who decides takes the rules first, and then what was said of machines.
    #[test]
    fn a_machine_is_found_at_every_moment_while_its_rule_gets_another_name() {
        let (before, after, said) = (named("a"), named("b"), said());
        for _ in 0..50 {
            let live = Live::new(Rules::default(), said.clone());
            live.put_rules(before.clone());
            thread::scope(|scope| {
                let replacing = scope.spawn(|| live.put_rules(after.clone()));
                while !replacing.is_finished() {
                    let rules = live.rules.load();
                    assert!(rules.said(&FACTS, &live.roster.load()).is_some(), "it is installed again");
                }
            });
        }
    }

    /// A hand-over that is forgotten here is a machine that is installed again.
    #[test]
    fn what_is_said_of_a_machine_while_the_rules_are_replaced_is_not_lost() {
        let of = |card: u8| MacAddr([4, 0, 0, 0, 0, card]);
        let live = Live::new(Rules::default(), said());
        let all = [named("b"), named("c")];
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut rules = all.iter().cycle();
                while !is_over.load(Ordering::Relaxed) {
                    rules.next().into_iter().for_each(|rules| live.put_rules(rules.clone()));
                }
            });
            for card in 0..60 {
                let roster = live.roster.load_full();
                live.put_roster(&Arc::new(roster.with(of(card), spent())));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let lost: Vec<u8> = (0..60).filter(|card| live.roster.load().of(of(*card)).is_none()).collect();
        assert_eq!(lost, [0; 0]);
    }

    #[test]
    fn a_state_is_unknown_when_its_server_was_not_heard_for_a_while_though_nobody_noticed() {
        let live = Live::new(Rules::default(), Roster::default());
        assert_eq!(live.why_state_is_unknown(), None, "it is a file");
        live.state_clock.set(|| Duration::from_secs(100)).expect("none is set");
        assert_eq!(live.why_state_is_unknown(), None, "its server was never reached, which is said otherwise");
        live.state_known_as_of(Duration::from_secs(97));
        assert_eq!(live.why_state_is_unknown(), None);
        live.state_known_as_of(Duration::from_secs(40));
        assert_eq!(
            live.why_state_is_unknown().as_deref().map(String::as_str),
            Some("its server was last heard 60 s ago")
        );
        live.state_fault.store(Some(Arc::new("it is damaged".to_owned())));
        assert_eq!(live.why_state_is_unknown().as_deref().map(String::as_str), Some("it is damaged"));
    }
}
