//! Makes `pxelinux.cfg` files for the machine that asks, by TFTP and HTTP.

use std::sync::atomic::Ordering;

use super::found::{Caller, Decided, Found, Names};
use crate::boot::{
    beginning::Beginning,
    faults::Files,
    machine::By,
    outcome::Outcome,
    pxelinux::{self, Asked},
    query::Query,
    reason::Reason,
    script::Standing,
};

impl Names<'_> {
    /// `None` if the path is not such a file.
    pub(super) fn pxelinux(&self, path: &str) -> Option<Result<Found, Reason>> {
        let asked = Asked::of(path)?;
        Some(self.caller.map_or_else(|| Err(Reason::not_found(path)), |caller| self.file_for(&caller, path, &asked)))
    }

    fn file_for(&self, caller: &Caller<'_>, path: &str, asked: &Asked) -> Result<Found, Reason> {
        let nothing = || Err(Reason::not_found(path));
        // A client tries one name after the other until one is a file. Only for the last name is an error text useful.
        let query = match (asked, caller.machine().map(|machine| machine.card)) {
            (Asked::Mac(mac), _) => caller.query(*mac),
            (Asked::Uuid(uuid), Some(mac)) => Query { uuid: Some(uuid.to_string()), ..caller.query(mac) },
            (Asked::Address(address), Some(mac)) if caller.address == Some(*address) => caller.query(mac),
            (Asked::Board | Asked::Default, Some(mac)) => caller.query(mac),
            (Asked::Default, None) => Query::default(),
            (Asked::Uuid(_) | Asked::Address(_) | Asked::Network | Asked::Board, _) => return nothing(),
        };
        let (roster, state_fault) = (caller.live.roster.load(), caller.live.why_state_is_unknown());
        let look = |name: &str, wanted| match self.assets {
            Some(assets) => assets.look(name, wanted),
            None => Err(Reason::not_found(name)),
        };
        let standing = Standing {
            roster: Some(&roster),
            files: Some(Files(&look)),
            is_uncounted: !caller.is_boot_client,
            state_fault: state_fault.as_ref().map(|fault| fault.as_str()),
            signer: caller.signer,
            ..Standing::default()
        };
        let make = |standing| pxelinux::file(self.rules, self.base, caller.over, &query, standing);
        let made = make(standing.clone());
        let is_anyones = matches!(&made.outcome, Outcome::Chosen { by: By::Default, .. });
        // A file of the user for all machines applies to machines without rule and assignment.
        if is_anyones && !matches!(asked, Asked::Default) && self.has_own_default(path) {
            return nothing();
        }
        let machine = query.mac().ok().flatten().map(|mac| self.rules.identity(&query.facts(mac)));
        let waits = made.outcome.is_once() && caller.is_boot_client && caller.live.is_kept.load(Ordering::Relaxed);
        let refusal = || make(Standing { state_fault: Some(Reason::NOT_KEPT), ..standing });
        let begins = waits.then(|| Box::new(Beginning::new(refusal(), machine, &roster)));
        let decided = Some(Decided { machine, outcome: made.outcome, begins });
        Ok(Found::Text { name: path.to_owned(), text: made.text, decided })
    }

    fn has_own_default(&self, path: &str) -> bool {
        let Some((folder, _)) = path.rsplit_once('/') else { return false };
        self.assets.is_some_and(|assets| assets.file(&format!("{folder}/default")).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs,
        net::Ipv4Addr,
        sync::{Arc, Mutex},
        time::Instant,
    };

    use super::*;
    use crate::{
        boot::{
            live::Live,
            loader::{ClientArch, Loader},
            loaders::Loaders,
            mac::MacAddr,
            machine::{MachineRule, Rules},
            over::Over,
            profile::{Boot, Linux, Profile},
            roster::Roster,
            selector::{RuleBook, Selector},
        },
        files::{AssetRoot, found::Asker},
        offers::attempts::{Attempts, Rates},
    };

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    const AT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 140);
    const BY_MAC: &str = "pxelinux.cfg/01-52-54-00-12-34-56";
    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

    fn linux(kernel: &str) -> Boot {
        let (kernel, cmdline) = (kernel.to_owned(), "a={{ machine.arch }} i={{ machine.uuid }}".to_owned());
        Boot::Linux(Linux { kernel, initrd: vec![], cmdline, device_tree: None, shim: None })
    }

    fn rules(machines: Vec<(Selector, MachineRule)>) -> Rules {
        let variants = BTreeMap::from([("arm64".to_owned(), linux("arm64"))]);
        let profiles = [
            ("any".to_owned(), Profile { variants, ..Profile::from(linux("any")) }),
            ("of_rule".to_owned(), Profile::from(linux("of_rule"))),
        ];
        let (profiles, machines) = (profiles.into(), RuleBook::new(machines));
        Rules { profiles, machines, default_profile: "any".into(), ..Rules::default() }
    }

    /// The kernel line that a client gets for a name, the name of a file of the user, or the reason for an error.
    fn got(rules: &Rules, assets: Option<&AssetRoot>, attempts: Attempts, name: &str) -> String {
        let (attempts, live) = (Mutex::new(attempts), Live::new(Rules::default(), Roster::default()));
        let over = Over::Tftp;
        let caller = Caller {
            address: Some(AT),
            interface: None,
            over,
            is_boot_client: true,
            attempts: &attempts,
            live: &live,
            signer: None,
        };
        let names = Names { rules, assets, base: "http://192.0.2.1:8080", caller: Some(caller) };
        match names.find(name.as_bytes(), Asker { firmware: ClientArch::X86_BIOS, is_ipxe: false }) {
            Ok(Found::Text {
                text,
                decided: Some(Decided { machine, outcome: Outcome::Chosen { mac: MAC, .. }, .. }),
                ..
            }) => {
                assert_eq!(machine.map(|machine| machine.card), Some(MAC));
                let of =
                    |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
                format!("{} {}", of("linux "), of("append "))
            }
            Ok(Found::Text { decided: Some(Decided { outcome: Outcome::Refused(mac, why), .. }), .. }) => {
                format!("{mac:?} {}", why.label())
            }
            Ok(Found::Asset { path, .. }) => format!("own {path}"),
            Ok(found) => format!("{found:?}"),
            Err(why) => why.label().to_owned(),
        }
    }

    /// With the kernels of the rules.
    fn assets() -> (tempfile::TempDir, AssetRoot) {
        let folder = tempfile::tempdir().expect("a folder");
        for kernel in ["any", "arm64", "of_rule"] {
            fs::write(folder.path().join(kernel), "kernel").expect("written");
        }
        let assets = AssetRoot::open(folder.path()).expect("opened");
        (folder, assets)
    }

    fn unheard() -> Attempts {
        Attempts::new(Rates::default(), [])
    }

    fn heard() -> Attempts {
        let mut attempts = unheard();
        assert!(attempts.asks(MAC, &Arc::from("eth1"), Some(Loader::EfiArm64), Instant::now()).is_ok());
        attempts.took_address(MAC, AT);
        attempts
    }

    #[test]
    fn the_machine_is_found_by_the_mac_in_the_name_or_by_its_address() {
        let (rules, (_folder, assets)) = (rules(vec![]), assets());
        let by_uuid = format!("pxelinux.cfg/{UUID}");
        for (name, of_unheard, of_heard) in [
            (BY_MAC, "/any a= i=", "/arm64 a=arm64 i="),
            (by_uuid.as_str(), "not_found", &format!("/arm64 a=arm64 i={UUID}")),
            ("pxelinux.cfg/0A4D008C", "not_found", "/arm64 a=arm64 i="),
            ("pxelinux.cfg/0A4D008D", "not_found", "not_found"),
            ("pxelinux.cfg/0A4D00", "not_found", "not_found"),
            ("pxelinux.cfg/default-arm-rpi", "not_found", "/arm64 a=arm64 i="),
            ("\\boot\\pxelinux.cfg\\default", "None bad_query", "/arm64 a=arm64 i="),
            ("extlinux/extlinux.conf", "None bad_query", "/arm64 a=arm64 i="),
            ("pxelinux.cfg/common", "not_found", "not_found"),
        ] {
            assert_eq!(got(&rules, Some(&assets), unheard(), name), of_unheard, "{name}");
            assert_eq!(got(&rules, Some(&assets), heard(), name), of_heard, "{name}");
        }
    }

    #[test]
    fn a_profile_that_cannot_boot_says_so() {
        let rules = rules(vec![]);
        assert_eq!(got(&rules, None, unheard(), BY_MAC), format!("Some({MAC:?}) faulty_profile"));
    }

    #[test]
    fn a_uuid_finds_its_rule() {
        let by_uuid = Selector { uuids: vec![UUID.parse().expect("a UUID")], ..Selector::default() };
        let rule = MachineRule { profile: Some("of_rule".into()), ..MachineRule::default() };
        let (rules, (_folder, assets)) = (rules(vec![(by_uuid, rule)]), assets());
        let name = format!("pxelinux.cfg/{UUID}");
        assert_eq!(got(&rules, Some(&assets), heard(), &name), format!("/of_rule a=arm64 i={UUID}"));
    }

    #[test]
    fn files_of_the_users_own_go_first_and_their_default_is_for_machines_that_no_rule_names() {
        let (folder, assets) = assets();
        let put = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "own").expect("written");
        };
        put("pxelinux.cfg/0A4D008C");
        let stranger = rules(vec![]);
        let get = |rules: &Rules, name: &str| got(rules, Some(&assets), heard(), name);
        assert_eq!(get(&stranger, "pxelinux.cfg/0A4D008C"), "own pxelinux.cfg/0A4D008C");
        assert_eq!(get(&stranger, BY_MAC), "/arm64 a=arm64 i=");
        put("pxelinux.cfg/default");
        assert_eq!(get(&stranger, BY_MAC), "not_found");
        assert_eq!(get(&stranger, "pxelinux.cfg/default-arm"), "not_found");
        assert_eq!(get(&stranger, "pxelinux.cfg/default"), "own pxelinux.cfg/default");
        let by_mac = Selector { macs: vec![MAC], ..Selector::default() };
        let rule = MachineRule { profile: Some("of_rule".into()), ..MachineRule::default() };
        assert_eq!(get(&rules(vec![(by_mac, rule)]), BY_MAC), "/of_rule a=arm64 i=");
    }

    /// U-Boot puts `boot/arm/` in front of `/debian/vmlinuz`, which such a file names, where its boot file was there.
    #[test]
    fn two_slashes_start_a_new_path() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("debian")).expect("made");
        fs::write(folder.path().join("debian/vmlinuz"), "own").expect("written");
        let assets = AssetRoot::open(folder.path()).expect("opened");
        let rules = Rules { loaders: Loaders::default(), ..rules(vec![]) };
        let get = |name: &str| got(&rules, Some(&assets), unheard(), name);
        assert_eq!(get("boot/arm//debian/vmlinuz"), "own debian/vmlinuz");
        assert_eq!(get("/boot/arm//debian//vmlinuz"), "not_found");
        assert_eq!(get("boot/arm//../../debian/vmlinuz"), "not_found");
    }
}
