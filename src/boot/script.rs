//! Profile + template → iPXE script. Every request is answered with a script: one that boots, or one that says on the
//! client's own screen why not.

use std::collections::BTreeMap;

use minijinja::{context, value::Serde};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::{
    client::MacAddr,
    loader::Loader,
    machine::{Choice, Machine, MachineRule, Profile, Rules},
    selector::Facts,
    template::on_screen,
    why::Why,
};

/// What an iPXE says of itself in the query of `/boot.ipxe`; empty values are as good as none.
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
}

impl Query {
    /// The machine's card.
    ///
    /// # Errors
    /// [`Why::BadQuery`]; `None` where it is not told.
    pub fn mac(&self) -> Result<Option<MacAddr>, Why> {
        let parsed = said(&self.mac).map(str::parse::<MacAddr>).transpose();
        parsed.map_err(|error| Why::BadQuery(format!("mac is wrong: {error}")))
    }

    fn machine(&self, mac: MacAddr, rule: Option<&MachineRule>) -> Machine {
        let text = |value: &Option<String>| said(value).unwrap_or_default().to_owned();
        let arch = said(&self.arch).unwrap_or("unknown").to_owned();
        Machine { uuid: text(&self.uuid), serial: text(&self.serial), ..Machine::new(mac, arch, rule) }
    }

    fn facts(&self, mac: MacAddr) -> Facts<'_> {
        Facts {
            mac,
            // Boards without one say all kinds of things; such a machine is known by its card.
            uuid: said(&self.uuid).and_then(|uuid| uuid.parse().ok()),
            serial: said(&self.serial),
            arch: Loader::of_ipxe(said(&self.arch).unwrap_or_default(), said(&self.platform).unwrap_or_default()),
        }
    }
}

fn said(value: &Option<String>) -> Option<&str> {
    value.as_deref().filter(|value| !value.is_empty())
}

/// A script, and what it is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What the client is sent.
    pub text: String,
    /// What was decided.
    pub outcome: Outcome,
}

/// What a script is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Come back and say who you are.
    Bootstrap,
    /// Boot a profile: its name and files, as paths below the assets folder.
    Boot {
        /// The machine's card.
        mac: MacAddr,
        /// Profile name.
        profile: String,
        /// Kernel.
        kernel: String,
        /// Initial RAM disks.
        initrd: Vec<String>,
    },
    /// Show the menu of profiles.
    Menu(MacAddr),
    /// Go on to the local disk.
    Local(MacAddr),
    /// Say why not, and offer a way on.
    Refused(Option<MacAddr>, Why),
}

/// The script for a request.
///
/// `base` is this server as the client reaches it: `http://192.0.2.10:8080`, without a slash at its end. `looping`:
/// why this machine gets nothing but the way on to its disk, where it goes round in circles.
#[must_use]
pub fn script(rules: &Rules, base: &str, query: &Query, looping: Option<Why>) -> Script {
    let mac = match query.mac() {
        Ok(Some(mac)) => mac,
        Ok(None) => {
            let text = rules.templates.render("bootstrap.ipxe", context! { base });
            return Script { text, outcome: Outcome::Bootstrap };
        }
        Err(why) => return refused(rules, base, None, None, why),
    };
    let rule = match rules.rule(&query.facts(mac)) {
        Ok(rule) => rule,
        Err(why) => return refused(rules, base, Some(mac), None, why),
    };
    let machine = query.machine(mac, rule);
    let asking = Asking { rules, base, query, machine: &machine, rule };
    if let Some(why) = looping {
        return asking.sent_on(mac, why);
    }
    let decided = rules
        .choose(rule, said(&query.profile))
        .and_then(|choice| Ok(Script { text: asking.rendered(choice)?, outcome: outcome(mac, choice) }));
    decided.unwrap_or_else(|why| refused(rules, base, Some(mac), rule, why))
}

/// The script for a request whose query cannot be read at all.
#[must_use]
pub fn unreadable(rules: &Rules, base: &str, problem: &str) -> Script {
    refused(rules, base, None, None, Why::BadQuery(format!("query is wrong: {problem}")))
}

fn outcome(mac: MacAddr, choice: Choice<'_>) -> Outcome {
    match choice {
        Choice::Menu => Outcome::Menu(mac),
        Choice::Local => Outcome::Local(mac),
        Choice::Profile(name, profile) => Outcome::Boot {
            mac,
            profile: name.to_owned(),
            kernel: profile.kernel.clone(),
            initrd: profile.initrd.clone(),
        },
    }
}

/// A machine that asks, with all that its script is made of.
struct Asking<'a> {
    rules: &'a Rules,
    base: &'a str,
    query: &'a Query,
    machine: &'a Machine,
    rule: Option<&'a MachineRule>,
}

impl Asking<'_> {
    fn rendered(&self, choice: Choice<'_>) -> Result<String, Why> {
        let Self { rules: Rules { templates, profiles, .. }, base, query, machine, rule } = *self;
        Ok(match choice {
            Choice::Local => templates.render("local.ipxe", context! { base, machine => Serde(machine) }),
            Choice::Menu => {
                let profiles: Vec<String> = profiles.keys().cloned().collect();
                templates.render("menu.ipxe", context! { base, machine => Serde(machine), profiles })
            }
            Choice::Profile(name, profile) => {
                let none = BTreeMap::new();
                let cmdline = templates.cmdline(&profile.cmdline, machine, rule.map_or(&none, |rule| &rule.vars))?;
                let profile = ProfileUrls::new(base, name, profile, cmdline);
                // An iPXE that does not tell its platform may be EFI, where initrd= is needed; a BIOS kernel ignores it.
                let platform = said(&query.platform).unwrap_or_default();
                templates.render(
                    "boot.ipxe",
                    context! { base, machine => Serde(machine), platform, profile => Serde(&profile) },
                )
            }
        })
    }

    /// No menu and no second try, which would lead round again.
    fn sent_on(&self, mac: MacAddr, why: Why) -> Script {
        let Self { rules: Rules { templates, .. }, base, machine, .. } = *self;
        let why_on_screen = on_screen(&why.to_string());
        let text = templates.render("looping.ipxe", context! { base, machine => Serde(machine), why => why_on_screen });
        Script { text, outcome: Outcome::Refused(Some(mac), why) }
    }
}

fn refused(rules: &Rules, base: &str, mac: Option<MacAddr>, rule: Option<&MachineRule>, why: Why) -> Script {
    let who = mac.map_or_else(|| "this machine".into(), |mac| mac.to_string());
    let machine = Machine::new(mac.unwrap_or(MacAddr([0; 6])), String::new(), rule);
    let why_on_screen = on_screen(&why.to_string());
    let text = rules
        .templates
        .render("refused.ipxe", context! { base, who, machine => Serde(&machine), why => why_on_screen });
    Script { text, outcome: Outcome::Refused(mac, why) }
}

/// A profile as `boot.ipxe` sees it.
#[derive(Serialize)]
struct ProfileUrls<'a> {
    name: &'a str,
    kernel: String,
    initrd: Vec<Initrd>,
    cmdline: String,
}

#[derive(Serialize)]
struct Initrd {
    /// Name of the image in iPXE, which an EFI kernel asks for by `initrd=NAME` (iPXE before 2.0).
    name: String,
    url: String,
}

impl<'a> ProfileUrls<'a> {
    fn new(base: &str, name: &'a str, profile: &Profile, cmdline: String) -> Self {
        let initrd = profile
            .initrd
            .iter()
            .enumerate()
            .map(|(i, path)| Initrd { name: image_name(i, path, &profile.initrd), url: asset_url(base, path) });
        Self { name, kernel: asset_url(base, &profile.kernel), initrd: initrd.collect(), cmdline }
    }
}

/// The last part of the path, in characters that need no care on a kernel's command line, and with a number where
/// another initrd of the profile has the same.
fn image_name(index: usize, path: &str, all: &[String]) -> String {
    let plain = |path: &str| -> String {
        let last = path.rsplit('/').next().unwrap_or(path);
        last.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
    };
    let name = plain(path);
    let is_alone = all.iter().filter(|other| plain(other) == name).count() == 1;
    if is_alone { name } else { format!("{index}-{name}") }
}

fn asset_url(base: &str, path: &str) -> String {
    /// Unreserved characters of RFC 3986 §2.3, and the slash between segments.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    format!("{base}/assets/{}", utf8_percent_encode(path, ESCAPED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        machine::LocalBoot,
        selector::{RuleBook, Selector},
    };

    const BASE: &str = "http://192.0.2.10:8080";

    fn rules(default_profile: &str) -> Rules {
        let debian = Profile {
            kernel: "debian/vmlinuz".into(),
            initrd: vec!["debian/initrd.img".into(), "late/initrd.img".into(), "one more.cpio".into()],
            cmdline: "console=ttyS0 hostname={{ machine.name }} mac={{ machine.mac }} arch={{ machine.arch }}".into(),
        };
        let profiles = BTreeMap::from([("debian".to_owned(), debian)]);
        Rules { profiles, default_profile: default_profile.into(), ..Rules::default() }
    }

    fn query(platform: &str) -> Query {
        Query {
            mac: Some("52-54-00-12-34-56".into()),
            uuid: Some("00112233-4455-6677-8899-aabbccddeeff".into()),
            serial: Some("CZ 1234".into()),
            arch: Some("x86_64".into()),
            platform: Some(platform.into()),
            profile: Some(String::new()),
        }
    }

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    const EFI_SCRIPT: &str = "\
#!ipxe
echo netbootd: 52-54-00-12-34-56 boots profile debian
:retry
imgfree
kernel http://192.0.2.10:8080/assets/debian/vmlinuz initrd=0-initrd.img initrd=1-initrd.img initrd=one_more.cpio console=ttyS0 hostname=52-54-00-12-34-56 mac=52:54:00:12:34:56 arch=x86_64 || goto failed
initrd --name 0-initrd.img http://192.0.2.10:8080/assets/debian/initrd.img || goto failed
initrd --name 1-initrd.img http://192.0.2.10:8080/assets/late/initrd.img || goto failed
initrd --name one_more.cpio http://192.0.2.10:8080/assets/one%20more.cpio || goto failed
boot || goto failed

:failed
echo netbootd: profile debian did not boot; the lines above say why
menu netbootd: what now? || goto retry_later
item retry Try again (by itself after 30 s)
item shell iPXE shell
item local Boot from the local disk
choose --default retry --timeout 30000 way || goto retry
goto ${way}

:retry_later
sleep 30
goto retry

:shell
shell
goto retry

:local
# UEFI goes on with its own boot order after an exit that failed; after a clean one some Dell and Lenovo machines open
# their setup. A BIOS is handed its first disk, since many do not go on by themselves.
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit
";

    #[test]
    fn a_profile_is_a_whole_script() {
        let efi = script(&rules("debian"), BASE, &query("efi"), None);
        assert_eq!(efi.text.replace("\n\n\n", "\n\n").trim_end(), EFI_SCRIPT.trim_end());
        assert_eq!(
            efi.outcome,
            Outcome::Boot {
                mac: MAC,
                profile: "debian".into(),
                kernel: "debian/vmlinuz".into(),
                initrd: vec!["debian/initrd.img".into(), "late/initrd.img".into(), "one more.cpio".into()],
            }
        );
        let bios = script(&rules("debian"), BASE, &query("pcbios"), None);
        assert_eq!(bios.text, efi.text.replace(" initrd=0-initrd.img initrd=1-initrd.img initrd=one_more.cpio", ""));
    }

    #[test]
    fn who_does_not_say_who_it_is_comes_back() {
        let bootstrap = script(&rules("debian"), BASE, &Query::default(), None);
        assert_eq!(bootstrap.outcome, Outcome::Bootstrap);
        assert!(bootstrap.text.starts_with("#!ipxe\n"));
        // iPXE of 2025, as autoexec.ipxe: without it, "Network unreachable" for ever.
        assert!(bootstrap.text.contains("\nisset ${netX/mac} || ifconf || goto failed\nchain "));
        assert!(bootstrap.text.contains(
            "chain --replace --autofree http://192.0.2.10:8080/boot.ipxe?mac=${netX/mac}&uuid=${uuid}&serial=${serial:uristring}&arch=${buildarch}&platform=${platform} || goto failed\n"
        ));
    }

    #[test]
    fn the_menu_offers_every_profile_and_the_local_disk() {
        let menu = script(&rules("menu"), BASE, &query("efi"), None);
        assert_eq!(menu.outcome, Outcome::Menu(MAC));
        assert!(
            menu.text.contains("\nitem profile_debian debian\nitem local Boot from the local disk\n"),
            "{}",
            menu.text
        );
        assert!(menu.text.contains("&profile=debian || goto retry\n"), "{}", menu.text);
        let chosen = Query { profile: Some("debian".into()), ..query("efi") };
        assert!(matches!(script(&rules("menu"), BASE, &chosen, None).outcome, Outcome::Boot { .. }));
        assert_eq!(script(&rules("local"), BASE, &query("efi"), None).outcome, Outcome::Local(MAC));
    }

    #[test]
    fn a_refusal_is_a_script_that_says_why_and_executes_nothing_of_the_request() {
        let wrong = Query { profile: Some("x || shell ${a} #\nshell".into()), ..query("efi") };
        let refusal = script(&rules("debian"), BASE, &wrong, None);
        assert!(matches!(refusal.outcome, Outcome::Refused(Some(MAC), Why::NoProfile(_))));
        assert!(
            refusal.text.contains(
                "\necho netbootd has no boot for 52:54:00:12:34:56: there is no profile \"x ?? shell ??a? ?\\nshell\"\n"
            ),
            "{}",
            refusal.text
        );
        let nobody = script(&rules("debian"), BASE, &Query { mac: Some("nobody".into()), ..Query::default() }, None);
        assert!(matches!(nobody.outcome, Outcome::Refused(None, Why::BadQuery(_))));
    }

    #[test]
    fn a_rule_gives_a_machine_its_name_its_profile_and_its_values() {
        let rule = MachineRule {
            name: Some("k8s08".into()),
            profile: Some("node".into()),
            vars: BTreeMap::from([("role".to_owned(), "worker".into())]),
            local_boot: LocalBoot::Exit,
            loader: None,
        };
        let by_serial = Selector { serials: vec!["cz 1234".into()], ..Selector::default() };
        let cmdline = "hostname={{ machine.name }} role={{ vars.role }} id={{ machine.uuid }}".into();
        let node = Profile { kernel: "vmlinuz".into(), initrd: vec![], cmdline };
        let rules = Rules {
            machines: RuleBook::new(vec![(by_serial, rule)]),
            profiles: BTreeMap::from([("node".to_owned(), node)]),
            ..rules("local")
        };
        let kernel = "\nkernel http://192.0.2.10:8080/assets/vmlinuz hostname=k8s08 role=worker \
                      id=00112233-4455-6677-8899-aabbccddeeff || goto failed\n";
        let known = script(&rules, BASE, &query("efi"), None);
        assert!(known.text.contains(kernel), "{}", known.text);
        assert!(known.text.trim_end().ends_with(":local\nexit"), "{}", known.text);
        let other = Query { serial: Some("CZ 9999".into()), ..query("efi") };
        assert_eq!(script(&rules, BASE, &other, None).outcome, Outcome::Local(MAC));
        // A machine without the value that its profile asks for is told so.
        let chosen = Query { profile: Some("node".into()), ..other };
        let refusal = script(&rules, BASE, &chosen, None).outcome;
        assert!(
            matches!(&refusal, Outcome::Refused(_, Why::Template(fault)) if fault.contains("vars.role")),
            "{refusal:?}"
        );
        let known_only = Rules { known_only: true, ..rules };
        assert_eq!(script(&known_only, BASE, &chosen, None).outcome, Outcome::Refused(Some(MAC), Why::Unknown));
    }

    #[test]
    fn a_machine_that_goes_round_in_circles_is_told_so_and_sent_on() {
        let looping = script(&rules("debian"), BASE, &query("pcbios"), Some(Why::IpxeLoop(6)));
        assert_eq!(looping.outcome, Outcome::Refused(Some(MAC), Why::IpxeLoop(6)));
        let expected = "\
#!ipxe
echo
echo netbootd sends 52-54-00-12-34-56 on to its local disk: it has started iPXE 6 times in the last minutes and booted nothing: something in its boot leads back to iPXE
echo It is served again when it has left iPXE alone for some minutes (Ctrl-B: iPXE shell)
echo
sleep 10 || shell
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit";
        let commands: Vec<&str> = looping.text.lines().filter(|line| !line.starts_with("# ")).collect();
        assert_eq!(commands.join("\n").trim_end(), expected);
    }
}
