//! Profile + template → iPXE script. Every request is answered with a script: one that boots, or one that says on the
//! client's own screen why not.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use minijinja::{context, value::Serde};
use serde::Serialize;

use super::{
    answer::{Signer, Urls, answer_context},
    faults::Files,
    loader::Loader,
    mac::MacAddr,
    machine::{By, Choice, Machine, MachineRule, Rules},
    outcome::{Outcome, Way},
    profile::{Boot, Linux, Module, Modules, Profile},
    query::{Query, said},
    reason::Reason,
    roster::{Entry, Roster},
    template::Templates,
    text::{on_screen, wrapped},
    urls::{asset_url, is_remote},
};

/// A script, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// What the client is sent.
    pub text: String,
    /// What was decided.
    pub outcome: Outcome,
}

/// What is known of a machine beside what it says of itself.
#[derive(Clone, Debug, Default)]
pub struct Standing<'a> {
    /// What was said of machines while the server ran.
    pub roster: Option<&'a Roster>,
    /// The boot loop because of which it gets nothing but its local disk.
    pub looping: Option<Reason>,
    /// A look at the files that a profile names; without one they are taken to be there.
    pub files: Option<Files<'a>>,
    /// What iPXE runs on, where iPXE boots it and said so.
    pub on: Option<Loader>,
    /// Nobody sees whether what it boots is fetched.
    pub is_uncounted: bool,
    /// Why nobody knows what the machine has booted already, where that is so.
    pub state_fault: Option<&'a str>,
    /// Who signs the addresses of its answer files; without one they open nothing.
    pub signer: Option<Signer<'a>>,
}

impl Standing<'_> {
    /// What keeps a profile from being booted now.
    fn fault_of(&self, choice: Choice<'_>, rules: &Rules) -> Option<Reason> {
        let Choice { profile, boot, once, until_installed, .. } = choice;
        if self.is_uncounted && once && !until_installed {
            return Some(Reason::NotCounted(profile.to_owned()));
        }
        if once && rules.rendered.unseen.contains(profile) {
            return Some(Reason::NotSeen(profile.to_owned()));
        }
        if let Some(fault) = self.state_fault.filter(|_| once) {
            return Some(Reason::NobodyKnows { profile: profile.to_owned(), fault: fault.to_owned() });
        }
        let fault = self.files?.look_at(boot, &rules.templates, self.on).err()?;
        Some(Reason::Faulty { profile: profile.to_owned(), fault })
    }
}

/// The script for a request.
///
/// `base` is this server as the client reaches it: `http://192.0.2.10:8080`, without a slash at its end.
#[must_use]
pub fn script(rules: &Rules, base: &str, query: &Query, standing: Standing<'_>) -> Script {
    let standing = Standing { on: query.runs_on(), ..standing };
    match decide(rules, base, query, standing) {
        Decision::Nobody => {
            let text = rules.templates.render("bootstrap.ipxe", context! { base });
            Script { text, outcome: Outcome::Bootstrap }
        }
        Decision::Looping(asking, why) => {
            Script { text: asking.sent_on(&why), outcome: Outcome::Refused(Some(asking.mac), why) }
        }
        Decision::Refused(mac, why) => refused(rules, base, mac, None, None, why),
        Decision::Boots(asking, choice) => match asking.rendered(choice) {
            Ok(text) => Script { text, outcome: asking.chosen(choice) },
            Err(why) => asking.refused(why),
        },
        Decision::NoChoice(asking, why) => asking.refused(why),
    }
}

/// A machine without any name of its own: what it had once would be given to it again and again.
const NAMELESS: &str = "update the firmware of its network card, or give it a MAC address there";

/// What a machine boots, before it is written in the language of its boot program.
pub(super) enum Decision<'a> {
    /// The request does not say which machine asks.
    Nobody,
    /// The request makes no sense, or a stranger asks where only known machines are answered.
    Refused(Option<MacAddr>, Reason),
    /// It is in a boot loop.
    Looping(Asking<'a>, Reason),
    /// There is nothing for it.
    NoChoice(Asking<'a>, Reason),
    /// It boots this.
    Boots(Asking<'a>, Choice<'a>),
}

/// The one decision behind every kind of boot script.
pub(super) fn decide<'a>(rules: &'a Rules, base: &'a str, query: &'a Query, standing: Standing<'a>) -> Decision<'a> {
    let mac = match query.mac() {
        Ok(Some(mac)) => mac,
        Ok(None) => return Decision::Nobody,
        Err(why) => return Decision::Refused(None, why),
    };
    if rules.identity(&query.facts(mac)).keys().next().is_none() {
        return Decision::Refused(
            None,
            Reason::BadQuery(format!("mac is {mac}, which no card has, and its uuid is not its own: {NAMELESS}")),
        );
    }
    let nothing = Roster::default();
    let rule = match rules.rule(&query.facts(mac), standing.roster.unwrap_or(&nothing)) {
        Ok(rule) => rule,
        Err(why) => return Decision::Refused(Some(mac), why),
    };
    let entry = standing.roster.and_then(|roster| rules.said(&query.facts(mac), roster));
    let (machine, signer, files) = (query.machine(mac, rule), standing.signer, standing.files);
    let renewed = entry.as_ref().map_or(0, |entry| entry.renewed);
    let asking = Asking { rules, base, query, mac, machine, rule, signer, files, renewed };
    if let Some(why) = standing.looping {
        return Decision::Looping(asking, why);
    }
    match asking.choice(entry.as_ref()) {
        Ok(choice) => match standing.fault_of(choice, rules) {
            Some(why) => Decision::NoChoice(asking, why),
            None => Decision::Boots(asking, choice),
        },
        // It is installed, or never will be: the disk, and no second look at what might wipe it.
        Err(why @ Reason::TriedOften { .. }) => Decision::Looping(asking, why),
        Err(why) => Decision::NoChoice(asking, why),
    }
}

/// The script for a request whose query cannot be read at all.
#[must_use]
pub fn unreadable(rules: &Rules, base: &str, problem: &str) -> Script {
    refused(rules, base, None, None, None, Reason::BadQuery(format!("query is wrong: {problem}")))
}

fn way(boot: &Boot) -> Way {
    match boot {
        Boot::Menu => Way::Menu,
        Boot::Local => Way::Local,
        Boot::Shell => Way::Shell,
        Boot::Iso(image) | Boot::Disk(image) if !is_remote(image) => Way::Disk(image.clone()),
        boot if boot.named().iter().any(|name| is_remote(name)) => Way::Elsewhere,
        boot => Way::Boot(boot.files().into_iter().map(str::to_owned).collect()),
    }
}

/// A machine that asks, with all that its script is made of.
pub(super) struct Asking<'a> {
    rules: &'a Rules,
    base: &'a str,
    query: &'a Query,
    pub(super) mac: MacAddr,
    pub(super) machine: Machine,
    pub(super) rule: Option<&'a MachineRule>,
    signer: Option<Signer<'a>>,
    files: Option<Files<'a>>,
    /// [`Entry::renewed`].
    renewed: u64,
}

impl<'a> Asking<'a> {
    /// The outcome of a choice for which a script was written.
    pub(super) fn chosen(&self, Choice { profile, boot, by, once, until_installed }: Choice<'_>) -> Outcome {
        let report_within = self.rules.profiles.get(profile).and_then(|profile| profile.report_within);
        Outcome::Chosen {
            mac: self.mac,
            profile: profile.to_owned(),
            by,
            once,
            until_installed,
            report_within,
            way: way(boot),
        }
    }

    fn choice(&self, entry: Option<&Entry>) -> Result<Choice<'a>, Reason> {
        let choose = |wanted| self.rules.choose(self.rule, entry, wanted, &self.machine.arch);
        let choice = choose(said(&self.query.profile))?;
        // Nobody may stand before the machine to choose once more.
        match self.tried().filter(|_| matches!(choice.boot, Boot::Menu)) {
            Some(tried) => choose(Some(tried)),
            None => Ok(choice),
        }
    }

    /// The profile that the menu's user chose, for the script that follows a boot that failed.
    pub(super) fn tried(&self) -> Option<&'a str> {
        let Self { rules, query, .. } = self;
        let chosen = said(&query.profile).or(said(&query.tried))?;
        rules.profiles.get_key_value(chosen).map(|(name, _)| name.as_str())
    }

    fn refused(&self, why: Reason) -> Script {
        refused(self.rules, self.base, Some(self.mac), self.rule, self.tried(), why)
    }

    /// The command line of a profile for this machine.
    ///
    /// # Errors
    /// [`Reason::Template`].
    pub(super) fn cmdline(&self, profile: &str, template: &str) -> Result<String, Reason> {
        let none = BTreeMap::new();
        let vars = self.rule.map_or(&none, |rule| &rule.vars);
        let urls = self.urls(profile);
        let cmdline =
            self.rules.templates.cmdline(template, &self.machine, vars, urls.functions(&self.rules.templates))?;
        self.has_named(profile, &urls)?;
        Ok(cmdline)
    }

    /// Whether what its templates named by `asset()` is there: an installer that misses a file says so late, or not at
    /// all.
    fn has_named(&self, profile: &str, urls: &Urls) -> Result<(), Reason> {
        let Some(files) = self.files else { return Ok(()) };
        let missing = files.look_at_named(urls.server().assets());
        missing.map_err(|fault| Reason::Faulty { profile: profile.to_owned(), fault })
    }

    /// The profiles that the menu shows this machine, in the order of its rule, where that names them. What is not
    /// for its kind of machine is left out; a profile at fault stays, and says why when it is chosen.
    pub(super) fn shown(&self) -> Vec<(&'a str, &'a Profile)> {
        let profiles = &self.rules.profiles;
        let named = self.rule.map(|rule| rule.menu.as_slice()).unwrap_or_default();
        let all: Vec<_> = match named {
            [] => profiles.iter().collect(),
            named => named.iter().filter_map(|name| profiles.get_key_value(name)).collect(),
        };
        let Machine { arch, platform, .. } = &self.machine;
        let can_boot = |profile: &Profile| {
            let is_efi_on_bios = platform == "pcbios" && matches!(profile.boot(arch), Boot::Efi { .. });
            !is_efi_on_bios && profile.is_for(arch)
        };
        all.into_iter().filter(|(_, profile)| can_boot(profile)).map(|(name, p)| (name.as_str(), p)).collect()
    }

    fn urls(&self, profile: &str) -> Urls {
        Urls::new(self.rules, self.base, self.query, profile, self.signer, self.renewed)
    }

    fn rendered(&self, Choice { profile: name, boot, by, .. }: Choice<'_>) -> Result<String, Reason> {
        let Self { rules, base, machine, rule, .. } = self;
        let Rules { templates, .. } = rules;
        let (base, url) = (*base, |path: &str| asset_url(base, path));
        let tried = self.tried().filter(|_| by == By::Menu);
        let cmdline = |template: &str| self.cmdline(name, template);
        let syslog = rules.hears_ipxe.then(|| address_of(base)).flatten().map(|address| address.to_string());
        let profile = rules.profiles.get(name);
        let lacks = profile.and_then(|profile| profile.lacks_memory(self.query.hardware.memory_mib));
        let lacks = lacks.map(|lacks| wrapped(&format!("netbootd: {}", on_screen(&lacks)), SCREEN));
        // What says whose the files are is nothing for a screen.
        let server = base.rsplit_once("/m/").map_or(base, |(server, _)| server);
        let render = |template: &str, own: minijinja::Value| {
            templates.render(
                template,
                context! { base, server, name, syslog, tried, lacks, machine => Serde(machine), ..own },
            )
        };
        Ok(match boot {
            Boot::Linux(linux) => {
                let profile = LinuxUrls::new(base, linux, cmdline(&linux.cmdline)?);
                render("boot.ipxe", context! { profile => Serde(&profile) })
            }
            Boot::Efi { .. } if machine.platform == "pcbios" => return Err(Reason::EfiOnBios(name.to_owned())),
            Boot::Efi { path, cmdline: arguments } => {
                render("efi.ipxe", context! { program => url(path), cmdline => cmdline(arguments)? })
            }
            Boot::Modules(modules) => {
                let Modules { kernel, hypervisor, modules, .. } = modules;
                let own = |module: &Module| ModuleUrl {
                    name: image_name(0, &module.name, &[]),
                    url: url(&module.path),
                    arguments: module.arguments.clone(),
                };
                let mut modules: Vec<ModuleUrl> = modules.iter().map(own).collect();
                let mut arguments = cmdline(boot.cmdline().unwrap_or_default())?;
                if let (Some(own), Some(first)) = (hypervisor, modules.first_mut()) {
                    first.arguments = std::mem::replace(&mut arguments, own.clone());
                }
                render(
                    "modules.ipxe",
                    context! { kernel => url(kernel), cmdline => arguments, modules => Serde(&modules) },
                )
            }
            Boot::Iso(path) => render("san.ipxe", context! { image => url(path), drive => "0xe0" }),
            Boot::Disk(path) => render("san.ipxe", context! { image => url(path), drive => "0x80" }),
            Boot::Script(asset) if !templates.has(asset) => render("chain.ipxe", context! { script => url(asset) }),
            Boot::Script(template) => {
                let none = BTreeMap::new();
                let vars = rule.map_or(&none, |rule| &rule.vars);
                let urls = self.urls(name);
                let context = script_context(name, machine, vars, &urls, templates);
                let script = templates.script(template, context! { tried, ..context })?;
                self.has_named(name, &urls)?;
                script
            }
            Boot::Menu => render("menu.ipxe", self.menu()),
            Boot::Local => render("local.ipxe", context! {}),
            Boot::Shell => render("shell.ipxe", context! {}),
            Boot::Faulty(fault) => return Err(Reason::Faulty { profile: name.to_owned(), fault: fault.clone() }),
        })
    }

    fn menu(&self) -> minijinja::Value {
        let menu = &self.rules.menu;
        let items = self.shown().into_iter().map(|(name, profile)| {
            // What is chosen for a user who is not there is in the first menu.
            let is_default = menu.default.as_deref() == Some(name);
            let folder = profile.folder.as_deref().filter(|_| !is_default).map(on_screen);
            let title = profile.title.as_deref();
            MenuItem { name, title: on_screen(title.unwrap_or(name)), folder }
        });
        let items: Vec<MenuItem<'_>> = items.collect();
        let default = menu.default.as_deref().filter(|name| items.iter().any(|item| item.name == *name));
        let default = default.map_or_else(|| "local".to_owned(), |name| format!("profile_{name}"));
        let folders: BTreeSet<String> = items.iter().filter_map(|item| item.folder.clone()).collect();
        let folders: Vec<String> = folders.into_iter().collect();
        context! { items => Serde(&items), folders, default, timeout => menu.timeout_ms }
    }

    /// No menu and no second try, which would lead round again.
    fn sent_on(&self, why: &Reason) -> String {
        let Self { rules: Rules { templates, .. }, machine, .. } = self;
        let again = once_more(machine, why);
        let why_lines = wrapped(&on_screen(&why.to_string()), SCREEN);
        templates.render("looping.ipxe", context! { machine => Serde(machine), why_lines, again })
    }
}

/// How a machine that is sent on to its disk comes to be served again.
pub(super) fn once_more(machine: &Machine, why: &Reason) -> String {
    match why {
        Reason::TriedOften { .. } => format!("To install it again: netbootd once {}", machine.name),
        _ => "It is served again after some minutes without a network boot".to_owned(),
    }
}

/// What a script of the user's own is given.
#[must_use]
pub fn script_context(
    profile: &str,
    machine: &Machine,
    vars: &BTreeMap<String, serde_json::Value>,
    urls: &Urls,
    templates: &Templates,
) -> minijinja::Value {
    context! { ..urls.functions(templates), ..answer_context(urls.server(), profile, machine, vars) }
}

/// Columns of a client's screen; behind the last one it would begin a line by itself.
const SCREEN: usize = 79;

fn refused(
    rules: &Rules,
    base: &str,
    mac: Option<MacAddr>,
    rule: Option<&MachineRule>,
    tried: Option<&str>,
    why: Reason,
) -> Script {
    let who = mac.map_or_else(|| "this machine".into(), |mac| mac.to_string());
    let machine = Machine::new(mac.unwrap_or(MacAddr([0; 6])), rule);
    let why_on_screen = on_screen(&why.to_string());
    let why_lines = wrapped(&why_on_screen, SCREEN);
    let own = context! { base, who, tried, machine => Serde(&machine), why => why_on_screen, why_lines };
    Script { text: rules.templates.render("refused.ipxe", own), outcome: Outcome::Refused(mac, why) }
}

#[derive(Serialize)]
struct MenuItem<'a> {
    name: &'a str,
    title: String,
    /// The sub-menu that it is in.
    folder: Option<String>,
}

/// A kernel as `boot.ipxe` sees it.
#[derive(Serialize)]
struct LinuxUrls {
    kernel: String,
    initrd: Vec<Initrd>,
    cmdline: String,
    /// What iPXE hands the kernel to where Secure Boot is on.
    shim: Option<String>,
}

#[derive(Serialize)]
struct Initrd {
    /// Name of the image in iPXE, which an EFI kernel asks for by `initrd=NAME` (iPXE before 2.0).
    name: String,
    url: String,
}

/// A file of [`Modules`] as `modules.ipxe` sees it.
#[derive(Serialize)]
struct ModuleUrl {
    name: String,
    url: String,
    arguments: String,
}

impl LinuxUrls {
    fn new(base: &str, linux: &Linux, cmdline: String) -> Self {
        let initrd = linux
            .initrd
            .iter()
            .enumerate()
            .map(|(i, path)| Initrd { name: image_name(i, path, &linux.initrd), url: asset_url(base, path) });
        Self {
            kernel: asset_url(base, &linux.kernel),
            initrd: initrd.collect(),
            cmdline,
            shim: linux.shim.as_deref().map(|shim| asset_url(base, shim)),
        }
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
    let is_alone = all.iter().filter(|other| plain(other) == name).count() <= 1;
    if is_alone { name } else { format!("{index}-{name}") }
}

/// The server's address, where its URL has one: iPXE's `syslog` setting takes no name.
fn address_of(base: &str) -> Option<Ipv4Addr> {
    let host = base.strip_prefix("http://")?.split([':', '/']).next()?;
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        faults::Wanted,
        machine::{LocalBoot, Menu},
        profile::OnlyFor,
        roster::{Assignment, Entry},
        selector::{RuleBook, Selector},
    };

    const BASE: &str = "http://192.0.2.10:8080";

    fn rules(default_profile: &str) -> Rules {
        let debian = Linux {
            kernel: "debian/vmlinuz".into(),
            initrd: vec!["debian/initrd.img".into(), "late/initrd.img".into(), "one more.cpio".into()],
            cmdline: "console=ttyS0 hostname={{ machine.name }} mac={{ machine.mac }} arch={{ machine.arch }}".into(),
            device_tree: None,
            shim: None,
        };
        let profiles = BTreeMap::from([("debian".to_owned(), Boot::Linux(debian).into())]);
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
            interface: None,
            ..Query::default()
        }
    }

    fn chosen(profile: &str, by: By, way: Way) -> Outcome {
        Outcome::Chosen {
            mac: MAC,
            profile: profile.into(),
            by,
            once: false,
            until_installed: false,
            report_within: None,
            way,
        }
    }

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    const EFI_SCRIPT: &str = "\
#!ipxe
echo netbootd: 52-54-00-12-34-56 boots profile debian
imgfree
kernel http://192.0.2.10:8080/assets/debian/vmlinuz initrd=0-initrd.img initrd=1-initrd.img initrd=one_more.cpio console=ttyS0 hostname=52-54-00-12-34-56 mac=52:54:00:12:34:56 arch=x86_64 || goto failed
initrd --name 0-initrd.img http://192.0.2.10:8080/assets/debian/initrd.img || goto failed
initrd --name 1-initrd.img http://192.0.2.10:8080/assets/late/initrd.img || goto failed
initrd --name one_more.cpio http://192.0.2.10:8080/assets/one%20more.cpio || goto failed
boot || goto failed

:failed
echo netbootd: profile debian did not boot; the lines above say why
:way_on
menu netbootd: choose how to continue || goto ask_again_later
item ask_again Try again (automatic after 30 s)
item way_on_shell iPXE shell
item way_on_local Boot from the local disk
choose --default ask_again --timeout 30000 way || goto ask_again
goto ${way}

:ask_again_later
sleep 30
:ask_again
# Ask for a new script: the profile or the names of its files may have changed.
imgfree
chain --replace --autofree http://192.0.2.10:8080/boot.ipxe?mac=${netX/mac}&uuid=${uuid}&serial=${serial:uristring}&arch=${buildarch}&platform=${platform}&manufacturer=${manufacturer:uristring}&product=${product:uristring}&asset=${asset:uristring}&board-serial=${board-serial:uristring}&chip=${netX/chip:uristring}&busid=${netX/busid:hexraw}&memory=${memsize}&mapped=${smbios/19.4.8:hexraw}-${smbios/1.19.4.8:hexraw}-${smbios/2.19.4.8:hexraw}-${smbios/3.19.4.8:hexraw}&sb=${efi/SecureBoot}&retry=1 || goto no_script

:no_script
echo netbootd: http://192.0.2.10:8080 gave no script; the lines above say why
goto way_on

:way_on_shell
shell
goto ask_again

:way_on_local
# UEFI continues with its boot order after an exit with an error. After an exit without one, some Dell and Lenovo
# machines open their setup. On a BIOS iPXE boots the first disk itself, because many BIOSes do not continue.
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit
";

    #[test]
    fn a_profile_is_a_whole_script() {
        let efi = script(&rules("debian"), BASE, &query("efi"), Standing::default());
        assert_eq!(efi.text.replace("\n\n\n", "\n\n").trim_end(), EFI_SCRIPT.trim_end());
        assert_eq!(
            efi.outcome,
            Outcome::Chosen {
                mac: MAC,
                profile: "debian".into(),
                by: By::Default,
                once: false,
                until_installed: false,
                report_within: None,
                way: Way::Boot(
                    ["debian/vmlinuz", "debian/initrd.img", "late/initrd.img", "one more.cpio"]
                        .map(String::from)
                        .into()
                ),
            }
        );
        let bios = script(&rules("debian"), BASE, &query("pcbios"), Standing::default());
        assert_eq!(bios.text, efi.text.replace(" initrd=0-initrd.img initrd=1-initrd.img initrd=one_more.cpio", ""));
    }

    #[test]
    fn who_does_not_say_who_it_is_comes_back() {
        let bootstrap = script(&rules("debian"), BASE, &Query::default(), Standing::default());
        assert_eq!(bootstrap.outcome, Outcome::Bootstrap);
        assert!(bootstrap.text.starts_with("#!ipxe\n"));
        // iPXE of 2025, as autoexec.ipxe: without it, "Network unreachable" at each attempt.
        assert!(bootstrap.text.contains("\nisset ${netX/mac} || ifconf || goto failed\nchain "));
        assert!(bootstrap.text.contains(
            "chain --replace --autofree http://192.0.2.10:8080/boot.ipxe?mac=${netX/mac}&uuid=${uuid}&serial=${serial:uristring}&arch=${buildarch}&platform=${platform}&manufacturer=${manufacturer:uristring}&product=${product:uristring}&asset=${asset:uristring}&board-serial=${board-serial:uristring}&chip=${netX/chip:uristring}&busid=${netX/busid:hexraw}&memory=${memsize}&mapped=${smbios/19.4.8:hexraw}-${smbios/1.19.4.8:hexraw}-${smbios/2.19.4.8:hexraw}-${smbios/3.19.4.8:hexraw}&sb=${efi/SecureBoot} || goto failed\n"
        ));
    }

    #[test]
    fn the_menu_offers_every_profile_and_the_local_disk() {
        let menu = script(&rules("menu"), BASE, &query("efi"), Standing::default());
        assert_eq!(menu.outcome, chosen("menu", By::Default, Way::Menu));
        assert!(
            menu.text.contains("\nitem profile_debian debian\nitem local Boot from the local disk\n"),
            "{}",
            menu.text
        );
        assert!(menu.text.contains("&profile=debian || goto retry\n"), "{}", menu.text);
        let wanted = Query { profile: Some("debian".into()), ..query("efi") };
        assert!(matches!(
            script(&rules("menu"), BASE, &wanted, Standing::default()).outcome,
            Outcome::Chosen { by: By::Menu, way: Way::Boot(_), .. }
        ));
        assert_eq!(
            script(&rules("local"), BASE, &query("efi"), Standing::default()).outcome,
            chosen("local", By::Default, Way::Local)
        );
    }

    #[test]
    fn a_refusal_is_a_script_that_says_why_and_executes_nothing_of_the_request() {
        let wrong = Query { profile: Some("x || shell ${a} #\nshell".into()), ..query("efi") };
        let refusal = script(&rules("debian"), BASE, &wrong, Standing::default());
        assert!(matches!(refusal.outcome, Outcome::Refused(Some(MAC), Reason::NoProfile(..))));
        assert!(
            refusal.text.contains(
                "\necho netbootd has no boot for 52:54:00:12:34:56:\necho there is no profile \"x ?? shell ??a? ?\\nshell\"\n"
            ),
            "{}",
            refusal.text
        );
        let nobody = script(
            &rules("debian"),
            BASE,
            &Query { mac: Some("nobody".into()), ..Query::default() },
            Standing::default(),
        );
        assert!(matches!(nobody.outcome, Outcome::Refused(None, Reason::BadQuery(_))));
        let long = Query { profile: Some("x".repeat(100)), ..query("efi") };
        let long = script(&rules("debian"), BASE, &long, Standing::default()).text;
        let shown = long.lines().filter_map(|line| line.strip_prefix("echo "));
        assert!(shown.clone().all(|line| line.len() < 80) && shown.clone().any(|line| line.contains("xxx")), "{long}");
    }

    #[test]
    fn a_rule_gives_a_machine_its_name_its_profile_and_its_values() {
        let rule = MachineRule {
            name: Some("k8s08".into()),
            profile: Some("node".into()),
            vars: BTreeMap::from([("role".to_owned(), "worker".into())]),
            local_boot: LocalBoot::Exit,
            ..MachineRule::default()
        };
        let by_serial = Selector { serials: vec!["cz 1234".into()], ..Selector::default() };
        let cmdline = "hostname={{ machine.name }} role={{ vars.role }} id={{ machine.uuid }}".into();
        let node = Linux { kernel: "vmlinuz".into(), initrd: vec![], cmdline, device_tree: None, shim: None };
        let rules = Rules {
            machines: RuleBook::new(vec![(by_serial, rule)]),
            profiles: BTreeMap::from([("node".to_owned(), Boot::Linux(node).into())]),
            ..rules("local")
        };
        let kernel = "\nkernel http://192.0.2.10:8080/assets/vmlinuz hostname=k8s08 role=worker \
                      id=00112233-4455-6677-8899-aabbccddeeff || goto failed\n";
        let known = script(&rules, BASE, &query("efi"), Standing::default());
        assert!(known.text.contains(kernel), "{}", known.text);
        assert!(known.text.trim_end().ends_with(":way_on_local\nexit"), "{}", known.text);
        let other = Query { serial: Some("CZ 9999".into()), ..query("efi") };
        assert_eq!(script(&rules, BASE, &other, Standing::default()).outcome, chosen("local", By::Default, Way::Local));
        // A machine without the value that its profile asks for shows that.
        let wanted = Query { profile: Some("node".into()), ..other };
        let refusal = script(&rules, BASE, &wanted, Standing::default()).outcome;
        assert!(
            matches!(&refusal, Outcome::Refused(_, Reason::Template(fault)) if fault.contains("vars.role")),
            "{refusal:?}"
        );
        let known_only = Rules { known_only: true, ..rules };
        assert_eq!(
            script(&known_only, BASE, &wanted, Standing::default()).outcome,
            Outcome::Refused(Some(MAC), Reason::Unknown)
        );
        let approved: Roster = [(MAC, Entry { approved: true, ..Entry::default() })].into_iter().collect();
        let standing = Standing { roster: Some(&approved), ..Standing::default() };
        let local = Query { profile: None, ..wanted };
        assert_eq!(script(&known_only, BASE, &local, standing).outcome, chosen("local", By::Default, Way::Local));
    }

    #[test]
    fn a_machine_that_goes_round_in_circles_is_told_so_and_sent_on() {
        let looping = script(
            &rules("debian"),
            BASE,
            &query("pcbios"),
            Standing { looping: Some(Reason::IpxeLoop(6)), ..Standing::default() },
        );
        assert_eq!(looping.outcome, Outcome::Refused(Some(MAC), Reason::IpxeLoop(6)));
        let expected = "\
#!ipxe
echo
echo netbootd: 52-54-00-12-34-56 boots from its local disk:
echo it started iPXE 6 times in the last minutes without booting: a script or boot
echo file starts iPXE again
echo It is served again after some minutes without a network boot (Ctrl-B: iPXE shell)
echo
sleep 10 || shell
iseq ${platform} efi && exit 1 ||
sanboot --no-describe --drive 0x80 || exit";
        let commands: Vec<&str> = looping.text.lines().filter(|line| !line.starts_with("# ")).collect();
        assert_eq!(commands.join("\n").trim_end(), expected);
    }

    #[test]
    fn every_kind_of_profile_has_its_script() {
        let folder = "http://192.0.2.10:8080/assets";
        let own = ("own.ipxe".to_owned(), "#!ipxe\necho {{ machine.name }} {{ vars.role }} {{ profile }}\n".to_owned());
        let script_of = |boot: Boot, platform| {
            let rule =
                MachineRule { vars: BTreeMap::from([("role".to_owned(), "db".into())]), ..MachineRule::default() };
            let rules = Rules {
                profiles: BTreeMap::from([("it".to_owned(), boot.into())]),
                machines: RuleBook::new(vec![(Selector::default(), rule)]),
                templates: Templates::with([own.clone()]).expect("good"),
                ..rules("it")
            };
            script(&rules, BASE, &query(platform), Standing::default())
        };
        let efi = || Boot::Efi { path: "shell.efi".into(), cmdline: "-nomap {{ machine.arch }}".into() };
        let cases = [
            (efi(), format!("\nchain {folder}/shell.efi -nomap x86_64 || goto failed\n")),
            (Boot::Iso("a b.iso".into()), format!("\nsanboot --drive 0xe0 {folder}/a%20b.iso || goto failed\n")),
            (Boot::Disk("d.img".into()), format!("\nsanboot --drive 0x80 {folder}/d.img || goto failed\n")),
            (Boot::Shell, "\nshell\n# UEFI continues".to_owned()),
            (Boot::Script("own.ipxe".into()), "#!ipxe\necho 52-54-00-12-34-56 db it".to_owned()),
        ];
        for (boot, expected) in cases {
            let text = script_of(boot, "efi").text;
            assert!(text.starts_with("#!ipxe\n") && text.contains(&expected), "{text}");
        }
        let bios = script_of(efi(), "pcbios");
        assert_eq!(bios.outcome, Outcome::Refused(Some(MAC), Reason::EfiOnBios("it".into())));
        let variants = BTreeMap::from([("x86_64".to_owned(), Boot::Disk("big.img".into()))]);
        let profile = Profile { variants, ..Profile::from(Boot::Disk("small.img".into())) };
        let rules = Rules { profiles: BTreeMap::from([("it".to_owned(), profile)]), ..rules("it") };
        let image = |arch: &str| {
            let query = Query { arch: Some(arch.into()), ..query("pcbios") };
            script(&rules, BASE, &query, Standing::default()).text.contains("big.img")
        };
        assert_eq!((image("x86_64"), image("i386")), (true, false));
    }

    #[test]
    fn a_machine_is_told_of_a_file_that_its_template_names_and_that_is_not_there() {
        let templates = Templates::with([("own.ipxe".into(), "#!ipxe\nimgfetch {{ asset('gone.iso') }}\n".into())]);
        let linux = |cmdline: &str| {
            Boot::Linux(Linux {
                kernel: "k".into(),
                initrd: vec![],
                cmdline: cmdline.into(),
                device_tree: None,
                shim: None,
            })
        };
        let profiles = [
            ("file", linux("url={{ asset('gone.iso') }}")),
            ("folder", linux("inst.repo={{ asset('debian/') }} x={{ asset('http://mirror/x') }}")),
            ("script", Boot::Script("own.ipxe".into())),
        ];
        let profiles = profiles.into_iter().map(|(name, boot)| (name.to_owned(), boot.into())).collect();
        let rules = Rules { profiles, templates: templates.expect("good"), ..rules("file") };
        let look = |name: &str, wanted| match (name, wanted) {
            ("k", _) | ("debian/", Wanted::FileOrFolder) => Ok(()),
            _ => Err(Reason::not_found(name)),
        };
        let of = |profile: &str| {
            let query = Query { profile: Some(profile.into()), ..query("efi") };
            script(&rules, BASE, &query, Standing { files: Some(Files(&look)), ..Standing::default() }).outcome
        };
        for profile in ["file", "script"] {
            let fault = "asset(\"gone.iso\"): there is no file gone.iso".into();
            assert_eq!(of(profile), Outcome::Refused(Some(MAC), Reason::Faulty { profile: profile.into(), fault }));
        }
        assert!(matches!(of("folder"), Outcome::Chosen { .. }), "{:?}", of("folder"));
    }

    #[test]
    fn files_of_another_server_and_scripts_of_others_are_named_where_they_are() {
        let of = |boot: Boot| {
            let profiles = BTreeMap::from([("it".to_owned(), boot.into())]);
            script(&Rules { profiles, ..rules("it") }, BASE, &query("efi"), Standing::default())
        };
        let linux = Linux {
            kernel: "http://mirror.lab/a/linux".into(),
            initrd: vec!["https://mirror.lab/a/initrd.gz".into(), "late.img".into()],
            cmdline:
                "url={{ asset('a dir/u.iso') }} base={{ base }} BOOTIF={{ machine.bootif }} {{ machine.mac | dots }}"
                    .into(),
            device_tree: None,
            shim: None,
        };
        let remote = of(Boot::Linux(linux));
        assert!(matches!(remote.outcome, Outcome::Chosen { way: Way::Elsewhere, .. }), "{:?}", remote.outcome);
        for line in [
            "kernel http://mirror.lab/a/linux initrd=initrd.gz initrd=late.img \
             url=http://192.0.2.10:8080/assets/a%20dir/u.iso base=http://192.0.2.10:8080 BOOTIF=01-52-54-00-12-34-56 \
             5254.0012.3456 || goto failed",
            "initrd --name initrd.gz https://mirror.lab/a/initrd.gz || goto failed",
            "initrd --name late.img http://192.0.2.10:8080/assets/late.img || goto failed",
        ] {
            assert!(remote.text.contains(&format!("\n{line}\n")), "{line}\n{}", remote.text);
        }
        let chained = of(Boot::Script("nixos/netboot.ipxe".into()));
        assert!(chained.text.starts_with("#!ipxe\n"), "{}", chained.text);
        let line = "\nchain --autofree http://192.0.2.10:8080/assets/nixos/netboot.ipxe || goto failed\n";
        assert!(chained.text.contains(line), "{}", chained.text);
        assert!(matches!(chained.outcome, Outcome::Chosen { way: Way::Boot(files), .. } if files.is_empty()));
    }

    #[test]
    fn a_machine_has_the_menu_that_its_rule_shows_it() {
        let profile = |title: &str| Profile { title: Some(title.into()), ..Profile::from(Boot::Local) };
        let rule = MachineRule { menu: vec!["b".into(), "a".into()], ..MachineRule::default() };
        let rules = Rules {
            profiles: ["a", "b", "c"].map(|name| (name.to_owned(), profile(&format!("The {name} $HOME || b")))).into(),
            machines: RuleBook::new(vec![(Selector::default(), rule)]),
            menu: Menu { default: Some("a".into()), timeout_ms: 5000 },
            ..rules("menu")
        };
        let menu = script(&rules, BASE, &query("efi"), Standing::default()).text;
        let items: Vec<&str> = menu.lines().filter(|line| line.starts_with("item profile_")).collect();
        assert_eq!(items, ["item profile_b The b ?HOME ?? b", "item profile_a The a ?HOME ?? b"]);
        assert!(menu.contains("\nchoose --default profile_a --timeout 5000 choice || goto retry\n"), "{menu}");
        let for_ever = Rules { menu: Menu::default(), ..rules };
        let menu = script(&for_ever, BASE, &query("efi"), Standing::default()).text;
        assert!(menu.contains("\nchoose --default local choice || goto retry\n"), "{menu}");
    }

    #[test]
    fn a_menu_leaves_out_what_is_not_for_this_kind_of_machine() {
        let efi = Profile::from(Boot::Efi { path: "tool.efi".into(), cmdline: String::new() });
        let others = Boot::Faulty("there is no kernel for this machine".into());
        let mut arm64 = Profile::from(Boot::Local);
        arm64.only_for = Some(OnlyFor { archs: ["arm64"].into(), others });
        let faulty = Profile::from(Boot::Faulty("it names no kernel".into()));
        let profiles = [("arm64", arm64), ("efi", efi), ("faulty", faulty)].map(|(name, p)| (name.to_owned(), p));
        let menu = Menu { default: Some("efi".into()), timeout_ms: 5000 };
        let rules = Rules { profiles: profiles.into(), menu, ..rules("menu") };
        let menu = |platform: &str, arch: &str| {
            let query = Query { arch: Some(arch.into()), ..query(platform) };
            let text = script(&rules, BASE, &query, Standing::default()).text;
            let items = text.lines().filter_map(|line| line.strip_prefix("item ")?.split(' ').next());
            let items = items.filter_map(|item| item.strip_prefix("profile_")).collect::<Vec<_>>().join(" ");
            (items, text.contains("choose --default profile_efi "))
        };
        assert_eq!(menu("efi", "x86_64"), ("efi faulty".into(), true));
        assert_eq!(menu("efi", "arm64"), ("arm64 efi faulty".into(), true));
        assert_eq!(menu("pcbios", "i386"), ("faulty".into(), false), "then the local disk is what comes by itself");
    }

    #[test]
    fn what_was_assigned_is_what_it_gets() {
        let assigned = Assignment { profile: "shell".into(), once: true };
        let roster = |spent: Option<&str>| {
            let (assigned, spent) = (Some(assigned.clone()), spent.map(str::to_owned));
            let entry = Entry { assigned, spent, ..Entry::default() };
            Roster::from_iter([(MAC, entry)])
        };
        let outcome = |roster: &Roster| {
            let standing = Standing { roster: Some(roster), ..Standing::default() };
            script(&rules("debian"), BASE, &query("efi"), standing).outcome
        };
        let shell = Outcome::Chosen {
            mac: MAC,
            profile: "shell".into(),
            by: By::Assignment,
            once: true,
            until_installed: false,
            report_within: None,
            way: Way::Shell,
        };
        assert_eq!(outcome(&roster(None)), shell);
        assert_eq!(outcome(&roster(Some("shell"))), chosen("local", By::Spent, Way::Local));
    }

    const ASK: &str = "http://192.0.2.10:8080/boot.ipxe?mac=${netX/mac}&uuid=${uuid}&serial=${serial:uristring}\
                       &arch=${buildarch}&platform=${platform}&manufacturer=${manufacturer:uristring}\
                       &product=${product:uristring}&asset=${asset:uristring}&board-serial=${board-serial:uristring}\
                       &chip=${netX/chip:uristring}&busid=${netX/busid:hexraw}&memory=${memsize}&mapped=${smbios/19.4.8:hexraw}-${smbios/1.19.4.8:hexraw}-${smbios/2.19.4.8:hexraw}-${smbios/3.19.4.8:hexraw}&sb=${efi/SecureBoot}&retry=1";

    #[test]
    fn every_try_again_asks_for_the_script_anew() {
        let own = ("own.ipxe".to_owned(), "#!ipxe\n:retry\nfoo || goto way_on\n{% include \"way_on.ipxe\" %}\n".into());
        let linux = Linux { kernel: "k".into(), initrd: vec![], cmdline: String::new(), device_tree: None, shim: None };
        let boots = [
            Boot::Linux(linux),
            Boot::Efi { path: "a.efi".into(), cmdline: String::new() },
            Boot::Iso("a.iso".into()),
            Boot::Disk("a.img".into()),
            Boot::Script("asset.ipxe".into()),
            Boot::Script("own.ipxe".into()),
        ];
        let refused = Query { profile: Some("nothing".into()), ..query("efi") };
        let nobody = Query { mac: Some("nobody".into()), ..Query::default() };
        let mut texts: Vec<String> = Vec::new();
        for boot in boots {
            let rules = Rules {
                profiles: BTreeMap::from([("it".to_owned(), boot.into())]),
                templates: Templates::with([own.clone()]).expect("good"),
                ..rules("it")
            };
            texts.extend(
                [query("efi"), refused.clone(), nobody.clone()]
                    .map(|query| script(&rules, BASE, &query, Standing::default()).text),
            );
        }
        for text in texts {
            let ask = format!(
                "\n:ask_again\n# Ask for a new script: the profile or the names of its files may have \
                               changed.\nimgfree\nchain --replace --autofree {ASK} || goto no_script\n"
            );
            assert!(text.contains(&ask), "{text}");
            let labels: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(':')).collect();
            for line in text.lines() {
                let to = line.split("goto ").nth(1).filter(|to| !to.contains('$'));
                assert!(to.is_none_or(|to| labels.contains(&to)), "{line} leads nowhere in\n{text}");
            }
        }
    }

    #[test]
    fn what_was_chosen_from_the_menu_is_tried_again_until_there_is_something_else() {
        let of = |rules: &Rules, roster: &Roster, query: &Query| {
            let script = script(rules, BASE, query, Standing { roster: Some(roster), ..Standing::default() });
            let Outcome::Chosen { profile, by, .. } = script.outcome else { panic!("{:?}", script.outcome) };
            (profile, by, script.text.contains(&format!("{ASK}&tried=debian || goto no_script\n")))
        };
        let (nothing, menu) = (Roster::default(), rules("menu"));
        let chosen = Query { profile: Some("debian".into()), ..query("efi") };
        assert_eq!(of(&menu, &nothing, &chosen), ("debian".into(), By::Menu, true));
        let again = Query { retry: Some("1".into()), tried: Some("debian".into()), ..query("efi") };
        assert_eq!(of(&menu, &nothing, &again), ("debian".into(), By::Menu, true));
        let shell = Assignment { profile: "shell".into(), once: false };
        let assigned = Roster::from_iter([(MAC, Entry { assigned: Some(shell), ..Entry::default() })]);
        assert_eq!(of(&menu, &assigned, &again), ("shell".into(), By::Assignment, false));
        // The profile has gone, or is no name of one: the menu again.
        for gone in ["gone", "x || shell"] {
            let again = Query { tried: Some(gone.into()), ..again.clone() };
            assert_eq!(of(&menu, &nothing, &again), ("menu".into(), By::Default, false));
        }
    }

    #[test]
    fn what_a_machine_says_of_its_parts_chooses_only_where_no_rule_names_it() {
        use crate::boot::hardware::{Hardware, Pattern};
        let rule = |profile: &str| MachineRule { profile: Some(profile.into()), ..MachineRule::default() };
        let dell = || Selector { manufacturers: vec![Pattern::new("Dell*")], ..Selector::default() };
        let tagged = Selector { assets: vec![Pattern::new("A-17")], products: vec![Pattern::new("*")], ..dell() };
        let card = Selector { macs: vec![MAC], ..Selector::default() };
        let all = vec![(tagged, rule("shell")), (dell(), rule("local")), (card, rule("menu"))];
        let outcome = |rules: Vec<(Selector, MachineRule)>, asset: Option<&str>| {
            let hardware = Hardware {
                manufacturer: Some("Dell Inc.".into()),
                product: Some("OptiPlex".into()),
                asset: asset.map(str::to_owned),
                ..Hardware::default()
            };
            let rules = Rules { machines: RuleBook::new(rules), ..Rules::default() };
            match script(&rules, BASE, &Query { hardware, ..query("efi") }, Standing::default()).outcome {
                Outcome::Chosen { profile, .. } => profile,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(outcome(all.clone(), Some("a-17")), "menu");
        assert_eq!(outcome(all[..2].to_vec(), Some("a-17")), "shell");
        assert_eq!(outcome(all[..2].to_vec(), None), "local");
    }
}
