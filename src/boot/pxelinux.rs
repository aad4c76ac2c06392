//! A machine's profile as a `pxelinux.cfg` file, for U-Boot, petitboot and PXELINUX.
//!
//! The three read dialects of one language: Syslinux, doc/syslinux.txt; U-Boot, boot/pxe_utils.c; petitboot,
//! discover/pxe-parser.c. What is written here is what all of them take the same way.

use std::{fmt::Write as _, net::Ipv4Addr};

use uuid::Uuid;

use super::{
    mac::MacAddr,
    machine::{Choice, LocalBoot, Machine, Rules},
    outcome::Outcome,
    over::Over,
    profile::{Boot, DeviceTree, Linux},
    query::Query,
    reason::Reason,
    script::{Asking, Decision, Script, Standing, decide},
    text::{has_no_variable, on_screen, wrapped},
    urls::{asset_url, is_remote},
};

/// Whose file a name asks for. A client asks for one name after another until it gets a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `01-52-54-00-12-34-56`: hardware type 1 (Ethernet) and the MAC address of the card that it boots from.
    Mac(MacAddr),
    /// The machine's UUID, of which PXELINUX and U-Boot's `pxeuuid` make their first request.
    Uuid(Uuid),
    /// `0A4D0064`: the client's own IPv4 address in hexadecimal.
    Address(Ipv4Addr),
    /// The first digits of that address: the file of a whole network.
    Network,
    /// `default-arm-rpi`: the file of a processor or board.
    Board,
    /// `default`, the last name of all, and `extlinux/extlinux.conf`.
    Default,
}

impl Asked {
    /// What a path asks for; `None` where it is no such file. Firmware puts the folder of its boot file in front
    /// (U-Boot, `get_bootfile_path`), so any folder may stand there.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        let (folder, name) = path.rsplit_once('/')?;
        let folder = folder.rsplit('/').next().unwrap_or(folder);
        match (folder, name) {
            ("extlinux", "extlinux.conf") | ("pxelinux.cfg", "default") => Some(Self::Default),
            ("pxelinux.cfg", name) => Self::of_name(name),
            _ => None,
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        if name.starts_with("default-") {
            return Some(Self::Board);
        }
        let is_hyphenated = |groups: &[usize]| {
            name.split('-').map(str::len).eq(groups.iter().copied())
                && name.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        };
        if is_hyphenated(&[2; 7]) {
            return name.strip_prefix("01-")?.parse().ok().map(Self::Mac);
        }
        if is_hyphenated(&[8, 4, 4, 4, 12]) {
            return name.parse().ok().map(Self::Uuid);
        }
        // In upper case, as all of them write it; a user's own `cafe` is another file.
        let is_upper_hex = name.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte));
        match name.len() {
            8 if is_upper_hex => u32::from_str_radix(name, 16).ok().map(|bits| Self::Address(bits.into())),
            1..8 if is_upper_hex => Some(Self::Network),
            _ => None,
        }
    }
}

/// The name of a machine's file, for option 209 (RFC 5071 §4).
#[must_use]
pub fn name_of(mac: MacAddr) -> String {
    format!("pxelinux.cfg/01-{}", mac.to_string().replace(':', "-"))
}

/// The file for a request that came by TFTP or HTTP, and what it does. `base`: as [`super::script::script`] takes it.
#[must_use]
pub fn file(rules: &Rules, base: &str, over: Over, query: &Query, standing: Standing<'_>) -> Script {
    let refused = |mac: Option<MacAddr>, machine: Option<&Machine>, why: Reason| {
        let who = mac.map_or_else(|| "this machine".to_owned(), |mac| mac.to_string());
        let local_boot = machine.map(|machine| machine.local_boot).unwrap_or_default();
        Script { text: refusal(&who, local_boot, &why), outcome: Outcome::Refused(mac, why) }
    };
    match decide(rules, base, query, standing) {
        Decision::Nobody => refused(None, None, Reason::BadQuery(NOBODY.into())),
        Decision::Refused(mac, why) => refused(mac, None, why),
        Decision::Looping(asking, why) | Decision::NoChoice(asking, why) => {
            refused(Some(asking.mac), Some(&asking.machine), why)
        }
        Decision::Boots(asking, choice) => {
            let writer = Writer { asking: &asking, base, over };
            match writer.file(rules, choice) {
                Ok(text) => Script { text, outcome: asking.chosen(choice) },
                Err(why) => refused(Some(asking.mac), Some(&asking.machine), why),
            }
        }
    }
}

const NOBODY: &str =
    "name does not identify a machine, and its IP address is not known: ask for pxelinux.cfg/01-MAC-ADDRESS";

struct Writer<'a> {
    asking: &'a Asking<'a>,
    base: &'a str,
    over: Over,
}

impl Writer<'_> {
    fn file(&self, rules: &Rules, choice: Choice<'_>) -> Result<String, Reason> {
        let Machine { name, local_boot, .. } = &self.asking.machine;
        let profile = choice.profile;
        let mut text = format!("# netbootd: {name} boots profile {profile}\n");
        match choice.boot {
            Boot::Menu => {
                self.menu(rules, &mut text);
                local(*local_boot, &mut text);
            }
            Boot::Local => {
                text.push_str("default local\n");
                local(*local_boot, &mut text);
            }
            boot => {
                let body = self.linux(profile, boot)?;
                // U-Boot tries every label once, in their order: a second one is a second try, and behind it comes the
                // disk. PXELINUX goes to its prompt.
                let _ = write!(text, "default {profile}\nlabel {profile}\n{body}label {profile}-again\n{body}");
                local(*local_boot, &mut text);
            }
        }
        Ok(text)
    }

    fn menu(&self, rules: &Rules, text: &mut String) {
        let items = self.asking.shown().into_iter().filter_map(|(name, profile)| {
            // What such a file cannot boot is not offered.
            let body = self.linux(name, profile.boot(&self.asking.machine.arch)).ok()?;
            Some((name, on_screen(profile.title.as_deref().unwrap_or(name)), body))
        });
        let items: Vec<_> = items.collect();
        let default = rules.menu.default.as_deref().filter(|name| items.iter().any(|item| item.0 == *name));
        let default = default.unwrap_or("local");
        // In tenths of a second; 0 waits without end.
        let timeout = rules.menu.timeout_ms.div_ceil(100);
        let _ = write!(text, "menu title netbootd\nprompt 1\ntimeout {timeout}\ndefault {default}\n");
        for (name, title, body) in items {
            let _ = write!(text, "label {name}\nmenu label {title}\n{body}");
        }
    }

    /// The lines of a label that boots a Linux kernel.
    fn linux(&self, profile: &str, boot: &Boot) -> Result<String, Reason> {
        let refuse = |why: String| Reason::NotInPxelinux { profile: profile.to_owned(), why };
        if let Boot::Faulty(fault) = boot {
            return Err(Reason::Faulty { profile: profile.to_owned(), fault: fault.clone() });
        }
        let Boot::Linux(Linux { kernel, initrd, cmdline, device_tree, .. }) = boot else {
            return Err(refuse(format!("it is {}, but they boot only Linux kernels", boot.kind())));
        };
        if let Some(what) = self.asking.other_than_linux(kernel) {
            return Err(refuse(format!("{what}, but they boot only Linux kernels")));
        }
        let path = |path: &str| self.path(path).map_err(refuse);
        let kernel = path(kernel)?;
        // SLOF, s390 in QEMU and old petitboots know only `kernel`. PXELINUX guesses by a file's name what it is; the
        // last line counts, and says that it is Linux.
        let mut lines = format!("kernel {kernel}\nlinux {kernel}\n");
        match initrd.as_slice() {
            [] => {}
            [initrd] => {
                let _ = writeln!(lines, "initrd {}", path(initrd)?);
            }
            [first, ..] => {
                let count = initrd.len();
                return Err(refuse(format!(
                    "it has {count} initrds, but U-Boot and petitboot load only one: join them (cat {first} … > one.img)"
                )));
            }
        }
        let cmdline = self.asking.cmdline(profile, cmdline)?;
        append(&cmdline).map_err(refuse)?;
        match device_tree {
            Some(DeviceTree::File(file)) => writeln!(lines, "fdt {}", path(file)?),
            Some(DeviceTree::Folder(folder)) => writeln!(lines, "fdtdir {}", path(folder.trim_end_matches('/'))?),
            None => Ok(()),
        }
        .unwrap_or_default();
        if !cmdline.trim().is_empty() {
            let _ = writeln!(lines, "append {}", cmdline.trim());
        }
        Ok(lines)
    }

    /// As the client asks for it. A path is absolute: petitboot and PXELINUX take one beside the file's own folder
    /// else, and U-Boot puts the folder of its boot file in front of both.
    fn path(&self, path: &str) -> Result<String, String> {
        match self.over {
            Over::Http => Ok(asset_url(self.base, path)),
            Over::Tftp if is_remote(path) => Err(format!(
                "{path} is on another server, but they load files by TFTP: put the file below the assets folder"
            )),
            Over::Tftp => match path.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, '#' | ',')) {
                Some(c) => {
                    Err(format!("its path {path:?} holds {c:?}, which ends a file name in pxelinux.cfg: rename it"))
                }
                None => Ok(format!("/{path}")),
            },
        }
    }
}

/// Whether a command line can stand behind `append`. Templates hold no line breaks.
fn append(cmdline: &str) -> Result<(), String> {
    if cmdline.len() > LONGEST_APPEND {
        let length = cmdline.len();
        return Err(format!("its cmdline has {length} bytes, but U-Boot takes at most {LONGEST_APPEND}: shorten it"));
    }
    // U-Boot puts its own variables in their places (cli_simple_process_macros), which iPXE's settings are none of.
    has_no_variable(cmdline)
}

/// In bytes. U-Boot's buffer is CONFIG_SYS_CBSIZE, which is 1024 unless a board says otherwise, with a NUL at its end.
const LONGEST_APPEND: usize = 1023;

fn local(local_boot: LocalBoot, text: &mut String) {
    // -1 fails, behind which firmware goes on with its boot order; U-Boot, with its next boot target.
    let way = match local_boot {
        LocalBoot::Auto | LocalBoot::Exit | LocalBoot::Exit1 => "-1",
        LocalBoot::Sanboot => "0x80",
    };
    let _ = write!(text, "label local\nmenu label Boot from the local disk\nlocalboot {way}\n");
}

/// A file that says why and goes on to the disk. PXELINUX shows what stands behind `say`, U-Boot and petitboot show the
/// names of the menu.
fn refusal(who: &str, local_boot: LocalBoot, why: &Reason) -> String {
    let lines = wrapped(&on_screen(&why.to_string()), WIDTH);
    let mut text = format!("say netbootd has no boot for {who}:\n");
    for line in &lines {
        let _ = writeln!(text, "say {line}");
    }
    let _ = write!(text, "menu title netbootd has no boot for {who}:\nprompt 1\ntimeout 300\ndefault local\n");
    for (number, line) in lines.iter().enumerate() {
        let _ = write!(text, "label why{number}\nmenu label {line}\nlocalboot -1\n");
    }
    local(local_boot, &mut text);
    text
}

/// Columns of a screen of 80 that are left behind the number that U-Boot's menu puts in front.
const WIDTH: usize = 70;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::boot::{
        faults::{Files, Wanted},
        machine::{By, MachineRule, Menu},
        outcome::Way,
        profile::Profile,
        roster::{Assignment, Entry, Roster},
        selector::{RuleBook, Selector},
    };

    const BASE: &str = "http://192.0.2.10:8080";
    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn linux(kernel: &str, initrd: &[&str], cmdline: &str) -> Linux {
        let initrd = initrd.iter().map(|path| (*path).to_owned()).collect();
        Linux { kernel: kernel.into(), initrd, cmdline: cmdline.into(), device_tree: None, shim: None }
    }

    fn debian() -> Linux {
        linux("debian/vmlinuz", &["debian/initrd.img"], "console=ttyAMA0 hostname={{ machine.name }}")
    }

    fn rules(profiles: impl IntoIterator<Item = (&'static str, Profile)>, default_profile: &str) -> Rules {
        let profiles = profiles.into_iter().map(|(name, profile)| (name.to_owned(), profile)).collect();
        Rules { profiles, default_profile: default_profile.into(), ..Rules::default() }
    }

    fn query() -> Query {
        Query { mac: Some(MAC.to_string()), ..Query::default() }
    }

    fn text(rules: &Rules, over: Over) -> String {
        file(rules, BASE, over, &query(), Standing::default()).text
    }

    #[test]
    fn names_say_whose_file_is_asked_for() {
        let uuid: Uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().expect("a UUID");
        for (path, asked) in [
            ("pxelinux.cfg/01-52-54-00-12-34-56", Some(Asked::Mac(MAC))),
            ("pxelinux.cfg/01-52-54-00-12-34-5A", Some(Asked::Mac(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x5a])))),
            ("boot/arm/pxelinux.cfg/01-52-54-00-12-34-56", Some(Asked::Mac(MAC))),
            ("pxelinux.cfg/00112233-4455-6677-8899-aabbccddeeff", Some(Asked::Uuid(uuid))),
            ("pxelinux.cfg/0A4D008C", Some(Asked::Address(Ipv4Addr::new(10, 77, 0, 140)))),
            ("pxelinux.cfg/0A4D008", Some(Asked::Network)),
            ("pxelinux.cfg/0", Some(Asked::Network)),
            ("pxelinux.cfg/default-arm-rpi", Some(Asked::Board)),
            ("pxelinux.cfg/default-arm", Some(Asked::Board)),
            ("pxelinux.cfg/default", Some(Asked::Default)),
            ("extlinux/extlinux.conf", Some(Asked::Default)),
            // Infiniband, a MAC that is none, a user's own include, other folders.
            ("pxelinux.cfg/20-52-54-00-12-34-56", None),
            ("pxelinux.cfg/01-52-54-00-12-34", None),
            ("pxelinux.cfg/01-52-54-00-12-34-5g", None),
            ("pxelinux.cfg/common.cfg", None),
            ("pxelinux.cfg/cafe", None),
            ("pxelinux.cfg/", None),
            ("pxelinux.cfg", None),
            ("default", None),
            ("other/default", None),
            ("extlinux/default", None),
        ] {
            assert_eq!(Asked::of(path), asked, "{path}");
        }
        assert_eq!(Asked::of(&name_of(MAC)), Some(Asked::Mac(MAC)));
    }

    #[test]
    fn a_profile_is_a_whole_file() {
        let with_tree = Linux { device_tree: Some(DeviceTree::Folder("debian/dtbs/".into())), ..debian() };
        let rules = rules([("debian", Boot::Linux(with_tree).into())], "debian");
        let by_tftp = file(&rules, BASE, Over::Tftp, &query(), Standing::default());
        let expected = "\
# netbootd: 52-54-00-12-34-56 boots profile debian
default debian
label debian
kernel /debian/vmlinuz
linux /debian/vmlinuz
initrd /debian/initrd.img
fdtdir /debian/dtbs
append console=ttyAMA0 hostname=52-54-00-12-34-56
label debian-again
kernel /debian/vmlinuz
linux /debian/vmlinuz
initrd /debian/initrd.img
fdtdir /debian/dtbs
append console=ttyAMA0 hostname=52-54-00-12-34-56
label local
menu label Boot from the local disk
localboot -1
";
        assert_eq!(by_tftp.text, expected);
        let files = ["debian/vmlinuz", "debian/initrd.img"].map(String::from);
        let outcome = Outcome::Chosen {
            mac: MAC,
            profile: "debian".into(),
            by: By::Default,
            once: false,
            until_installed: false,
            report_within: None,
            way: Way::Boot(files.into()),
        };
        assert_eq!(by_tftp.outcome, outcome);
        let by_http = file(&rules, BASE, Over::Http, &query(), Standing::default());
        let urls = ["kernel ", "linux ", "initrd ", "fdtdir "]
            .iter()
            .fold(expected.to_owned(), |text, key| text.replace(&format!("{key}/"), &format!("{key}{BASE}/assets/")));
        assert_eq!(by_http, Script { text: urls, outcome });
    }

    #[test]
    fn a_kernel_may_stand_alone_or_with_a_device_tree_of_its_own() {
        let bare = Linux { device_tree: Some(DeviceTree::File("a.dtb".into())), ..linux("zImage", &[], " ") };
        let text = text(&rules([("it", Boot::Linux(bare).into())], "it"), Over::Tftp);
        assert!(text.contains("\nlabel it\nkernel /zImage\nlinux /zImage\nfdt /a.dtb\nlabel it-again\n"), "{text}");
    }

    #[test]
    fn the_local_disk_is_the_next_of_the_firmwares_own_order() {
        let local = "\
# netbootd: 52-54-00-12-34-56 boots profile local
default local
label local
menu label Boot from the local disk
localboot -1
";
        assert_eq!(text(&rules([], "local"), Over::Tftp), local);
        let rule = MachineRule { local_boot: LocalBoot::Sanboot, ..MachineRule::default() };
        let rules = Rules { machines: RuleBook::new(vec![(Selector::default(), rule)]), ..rules([], "local") };
        assert_eq!(text(&rules, Over::Tftp), local.replace("localboot -1", "localboot 0x80"));
    }

    #[test]
    fn the_menu_shows_what_such_a_file_can_boot() {
        let titled = |boot: Boot| Profile { title: Some("The $HOME\nsystem".into()), ..Profile::from(boot) };
        let profiles = [
            ("a", titled(Boot::Linux(debian()))),
            ("b", Boot::Iso("b.iso".into()).into()),
            ("c", Boot::Linux(linux("c", &[], "")).into()),
        ];
        let menu = Menu { default: Some("c".into()), timeout_ms: 5001 };
        let rules = Rules { menu, ..rules(profiles, "menu") };
        let expected = "\
# netbootd: 52-54-00-12-34-56 boots profile menu
menu title netbootd
prompt 1
timeout 51
default c
label a
menu label The ?HOME?system
kernel /debian/vmlinuz
linux /debian/vmlinuz
initrd /debian/initrd.img
append console=ttyAMA0 hostname=52-54-00-12-34-56
label c
menu label c
kernel /c
linux /c
label local
menu label Boot from the local disk
localboot -1
";
        assert_eq!(text(&rules, Over::Tftp), expected);
        let for_ever = Rules { menu: Menu { default: Some("b".into()), timeout_ms: 0 }, ..rules };
        assert!(text(&for_ever, Over::Tftp).contains("\ntimeout 0\ndefault local\n"));
    }

    #[test]
    fn a_refusal_is_a_file_that_says_why_on_80_columns_and_goes_on_to_the_disk() {
        let known_only = Rules { known_only: true, ..rules([], "menu") };
        let refused = file(&known_only, BASE, Over::Tftp, &query(), Standing::default());
        assert_eq!(refused.outcome, Outcome::Refused(Some(MAC), Reason::Unknown));
        let expected = "\
say netbootd has no boot for 52:54:00:12:34:56:
say no rule names this machine and it is not approved; only known machines
say are answered (dhcp.answer = \"known\"): add a [[machines]] rule, or run
say netbootd approve with its MAC address
menu title netbootd has no boot for 52:54:00:12:34:56:
prompt 1
timeout 300
default local
label why0
menu label no rule names this machine and it is not approved; only known machines
localboot -1
label why1
menu label are answered (dhcp.answer = \"known\"): add a [[machines]] rule, or run
localboot -1
label why2
menu label netbootd approve with its MAC address
localboot -1
label local
menu label Boot from the local disk
localboot -1
";
        assert_eq!(refused.text, expected);
        let nobody = file(&known_only, BASE, Over::Tftp, &Query::default(), Standing::default());
        assert_eq!(nobody.outcome, Outcome::Refused(None, Reason::BadQuery(NOBODY.into())));
        assert!(nobody.text.starts_with("say netbootd has no boot for this machine:\n"), "{}", nobody.text);
        let looping = Standing { looping: Some(Reason::IpxeLoop(6)), ..Standing::default() };
        let looping = file(&rules([], "local"), BASE, Over::Tftp, &query(), looping);
        assert_eq!(looping.outcome, Outcome::Refused(Some(MAC), Reason::IpxeLoop(6)));
    }

    #[test]
    fn what_such_a_file_cannot_carry_is_refused_with_a_way_out() {
        let long = "x".repeat(LONGEST_APPEND + 1);
        let cases: [(Boot, &str); 8] = [
            (Boot::Iso("a.iso".into()), "it is a CD image, but they boot only Linux kernels"),
            (Boot::Shell, "it is iPXE's shell"),
            (
                Boot::Linux(linux("k", &["a", "b"], "")),
                "it has 2 initrds, but U-Boot and petitboot load only one: join them",
            ),
            (Boot::Linux(linux("my kernel", &[], "")), "its path \"my kernel\" holds ' '"),
            (Boot::Linux(linux("k#1", &[], "")), "its path \"k#1\" holds '#'"),
            (Boot::Linux(linux("k", &["a,b"], "")), "its path \"a,b\" holds ','"),
            (Boot::Linux(linux("k", &[], &long)), "its cmdline has 1024 bytes, but U-Boot takes at most 1023"),
            (
                Boot::Linux(linux("k", &[], "a=${netX/mac}")),
                "its cmdline holds the variable \"netX/mac\", which only iPXE replaces",
            ),
        ];
        for (boot, words) in cases {
            let rules = rules([("it", boot.into())], "it");
            let refused = file(&rules, BASE, Over::Tftp, &query(), Standing::default()).outcome;
            let Outcome::Refused(Some(MAC), why @ Reason::NotInPxelinux { .. }) = refused else {
                panic!("{words}: {refused:?}")
            };
            assert!(why.to_string().contains(words), "{why}");
        }
        // A longest one is carried, and a URL has no white space.
        let longest = "x".repeat(LONGEST_APPEND);
        let spaced = rules([("it", Boot::Linux(linux("my kernel", &[], &longest)).into())], "it");
        assert!(text(&spaced, Over::Http).contains("\nlinux http://192.0.2.10:8080/assets/my%20kernel\nappend xx"));
        // A value of the user's own that would begin a line of its own is refused where it is filled in.
        let vars = BTreeMap::from([("role".to_owned(), "a\nlabel evil".into())]);
        let rule = MachineRule { vars, ..MachineRule::default() };
        let broken = Rules {
            machines: RuleBook::new(vec![(Selector::default(), rule)]),
            ..rules([("it", Boot::Linux(linux("k", &[], "r={{ vars.role }}")).into())], "it")
        };
        let refused = file(&broken, BASE, Over::Tftp, &query(), Standing::default()).outcome;
        assert!(matches!(refused, Outcome::Refused(Some(MAC), Reason::Template(_))), "{refused:?}");
    }

    #[test]
    fn what_is_no_linux_is_refused_before_its_initrds_are_to_be_joined() {
        let look = |_: &str, wanted| match wanted {
            Wanted::Linux => Err(Reason::Unfit { name: "wimboot".into(), fault: "is a loader of Windows PE".into() }),
            _ => Ok(()),
        };
        let rules = rules([("it", Boot::Linux(linux("wimboot", &["bcd", "boot.wim"], "")).into())], "it");
        let standing = Standing { files: Some(Files(&look)), ..Standing::default() };
        let Outcome::Refused(_, why) = file(&rules, BASE, Over::Tftp, &query(), standing).outcome else {
            panic!("wimboot is no Linux")
        };
        assert_eq!(
            why.to_string(),
            "profile \"it\" cannot be booted by U-Boot, petitboot or PXELINUX: wimboot is a loader of Windows PE, but they boot \
             only Linux kernels"
        );
    }

    #[test]
    fn it_is_the_decision_that_the_ipxe_script_comes_from() {
        let rule = MachineRule { profile: Some("debian".into()), once: true, ..MachineRule::default() };
        let by_mac = Selector { macs: vec![MAC], ..Selector::default() };
        let rules = Rules {
            machines: RuleBook::new(vec![(by_mac, rule)]),
            ..rules([("debian", Boot::Linux(debian()).into()), ("b", Boot::Linux(linux("b", &[], "")).into())], "local")
        };
        let assigned = |profile: &str, spent: Option<&str>| {
            let assigned = Some(Assignment { profile: profile.into(), once: true });
            let entry = Entry { assigned, spent: spent.map(str::to_owned), ..Entry::default() };
            Roster::from_iter([(MAC, entry)])
        };
        let spent = Roster::from_iter([(MAC, Entry { spent: Some("debian".into()), ..Entry::default() })]);
        for roster in [Roster::default(), spent, assigned("b", None), assigned("b", Some("b")), assigned("x", None)] {
            let standing = || Standing { roster: Some(&roster), ..Standing::default() };
            let ipxe = super::super::script::script(&rules, BASE, &query(), standing()).outcome;
            let pxelinux = file(&rules, BASE, Over::Tftp, &query(), standing()).outcome;
            assert_eq!(ipxe, pxelinux);
        }
    }
}
