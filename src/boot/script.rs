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

    /// That a kernel is none of Linux, in words: only iPXE starts it with its other files, and without `initrd=`.
    pub(super) fn other_than_linux(&self, kernel: &str) -> Option<String> {
        self.files?.other_than_linux(kernel)
    }

    /// That a kernel is for another processor than that of the machine, in words.
    pub(super) fn for_another_processor(&self, kernel: &str, on: Loader) -> Option<String> {
        self.files?.for_another_processor(kernel, on)
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
        let lacks = lacks.map(|lacks| echoed(&format!("netbootd: {}", on_screen(&lacks))));
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
                let is_linux = self.other_than_linux(&linux.kernel).is_none();
                let profile = LinuxUrls::new(base, linux, is_linux, cmdline(&linux.cmdline)?);
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
            Boot::Disk(path) => {
                // DOS reads a floppy disk by its geometry, which iPXE gives to such a drive only.
                let is_floppy = self.files.is_some_and(|files| files.is_floppy(path));
                let drive = if is_floppy { "0x00" } else { "0x80" };
                render("san.ipxe", context! { image => url(path), drive })
            }
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
        let why_lines = echoed(&on_screen(&why.to_string()));
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

/// What is on a screen, as lines for iPXE's `echo`. It takes a word in front that begins with a hyphen for an option, unless
/// `--` ends the options before it (core/getopt.c), and a script ends at a command that fails.
fn echoed(text: &str) -> Vec<String> {
    let lines = wrapped(text, SCREEN).into_iter();
    lines.map(|line| if line.starts_with('-') { format!("-- {line}") } else { line }).collect()
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
    let why_lines = echoed(&why_on_screen);
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
    /// Others take `initrd=` for an argument that they do not know: old wimboots stop at the second one.
    is_linux: bool,
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
    fn new(base: &str, linux: &Linux, is_linux: bool, cmdline: String) -> Self {
        let initrd = linux
            .initrd
            .iter()
            .enumerate()
            .map(|(i, path)| Initrd { name: image_name(i, path, &linux.initrd), url: asset_url(base, path) });
        Self {
            kernel: asset_url(base, &linux.kernel),
            is_linux,
            initrd: initrd.collect(),
            cmdline,
            shim: linux.shim.as_deref().map(|shim| asset_url(base, shim)),
        }
    }
}

/// The last part of the path, in characters that need no care on a kernel's command line, and with a number where
/// another initrd of the profile has the same. A hyphen in front would begin an option of iPXE's commands.
fn image_name(index: usize, path: &str, all: &[String]) -> String {
    let plain = |path: &str| -> String {
        let last = path.rsplit('/').next().unwrap_or(path);
        let is_plain = |at: usize, c: char| c.is_ascii_alphanumeric() || "._".contains(c) || c == '-' && at > 0;
        last.chars().enumerate().map(|(at, c)| if is_plain(at, c) { c } else { '_' }).collect()
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
#[path = "script_tests.rs"]
mod tests;
