//! A machine's profile as a GRUB script: the same decision as behind the iPXE script, in GRUB's language (GRUB manual,
//! "Shell-like scripting").
//!
//! Every GRUB fetches `grub/grub.cfg`, which is the same for all, and that `/boot.grub` of its machine. Values are
//! written as words in single quotes, in which GRUB replaces nothing.

use std::collections::BTreeSet;

use minijinja::{Value, context, value::Serde};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::{
    mac::MacAddr,
    machine::{Choice, Rules},
    outcome::Outcome,
    profile::{Boot, Linux},
    query::{Query, said},
    reason::Reason,
    script::{Asking, Decision, Script, Standing, decide, once_more},
    template::grub_word,
    text::{has_no_variable, on_screen, wrapped},
    urls::asset_url,
};

/// The name that every GRUB asks for, in the folder that was built into it (grub-install, `--prefix`): `/grub` in the
/// netboot images of Debian and Ubuntu.
pub const CONFIGURATION: &str = "grub.cfg";

/// Whether a path is the file that every GRUB asks for.
#[must_use]
pub fn is_configuration(path: &str) -> bool {
    let mut parts = path.trim_start_matches('/').rsplit('/');
    parts.next() == Some(CONFIGURATION) && parts.next().is_some_and(|folder| ["grub", "grub2"].contains(&folder))
}

/// The configuration for every machine. `base`: this server as the client reaches it, without a slash at its end.
#[must_use]
pub fn configuration(rules: &Rules, base: &str) -> Script {
    let text = match in_grub(base) {
        Ok(device) => rules.templates.render("start.grub", context! { device => Value::from_safe_string(device) }),
        Err(why) => format!("echo {}\nsleep 30\nexit\n", grub_word(&on_screen(&why))),
    };
    Script { text, outcome: Outcome::Grub }
}

/// The script for a request, and what it does. `base`: as [`configuration`] takes it.
#[must_use]
pub fn script(rules: &Rules, base: &str, query: &Query, standing: Standing<'_>) -> Script {
    let refuse = |mac, why: Reason| Writer { rules, base, query }.refused(None, mac, why);
    match decide(rules, base, query, standing) {
        Decision::Nobody => refuse(None, Reason::BadQuery(NOBODY.into())),
        Decision::Refused(mac, why) => refuse(mac, why),
        Decision::Looping(asking, why) => Writer { rules, base, query }.sent_on(&asking, why),
        Decision::NoChoice(asking, why) => Writer { rules, base, query }.refused(Some(&asking), Some(asking.mac), why),
        Decision::Boots(asking, choice) => {
            let writer = Writer { rules, base, query };
            match writer.boot(&asking, choice) {
                Ok(text) => Script { text, outcome: asking.chosen(choice) },
                Err(why) => writer.refused(Some(&asking), Some(asking.mac), why),
            }
        }
    }
}

/// The script for a request whose query cannot be read at all.
#[must_use]
pub fn unreadable(rules: &Rules, base: &str, problem: &str) -> Script {
    let query = Query::default();
    Writer { rules, base, query: &query }.refused(None, None, Reason::BadQuery(format!("query is wrong: {problem}")))
}

const NOBODY: &str = "query names no machine: GRUB did not tell the address of its card (net_default_mac)";

struct Writer<'a> {
    rules: &'a Rules,
    base: &'a str,
    query: &'a Query,
}

impl Writer<'_> {
    fn boot(&self, asking: &Asking<'_>, Choice { profile: name, boot, .. }: Choice<'_>) -> Result<String, Reason> {
        let refuse = |why: String| Reason::NotInGrub { profile: name.to_owned(), why };
        let url = |path: &str| in_grub(&asset_url(self.base, path)).map_err(refuse);
        let machine = &asking.machine;
        let again = self.again(Some(asking), &[("retry", "1")])?;
        let secure_boot = self.query.hardware.secure_boot == Some(true);
        let render = |template: &str, own: Value| {
            let own = context! { base => self.base, name, again, secure_boot, machine => Serde(machine), ..own };
            self.rules.templates.render(template, own)
        };
        let arguments = |template: &str| {
            let words = arguments(&asking.cmdline(name, template)?).map_err(refuse)?;
            Ok(Value::from_safe_string(words))
        };
        Ok(match boot {
            Boot::Linux(Linux { kernel, initrd, cmdline, .. }) => {
                if let Some(on) = self.query.runs_on()
                    && let Some(what) = asking.for_another_processor(kernel, on)
                {
                    let (machine, arch) = (on.title(), on.ipxe_arch());
                    let fix = format!("name one for it under arch.{arch} of the profile");
                    return Err(refuse(format!("{what}, and this machine is {machine}: {fix}")));
                }
                if let Some(what) = asking.other_than_linux(kernel) {
                    let fix =
                        "set another loader in [machines.override], or, for an EFI program alone, name it with efi";
                    return Err(refuse(format!("{what}, which GRUB does not start as a kernel: {fix}")));
                }
                let initrd = initrd.iter().map(|path| url(path)).collect::<Result<Vec<_>, _>>()?;
                render("boot.grub", context! { kernel => url(kernel)?, initrd, cmdline => arguments(cmdline)? })
            }
            Boot::Efi { .. } if machine.platform == "pcbios" => return Err(Reason::EfiOnBios(name.to_owned())),
            Boot::Efi { path, cmdline } => {
                render("efi.grub", context! { program => url(path)?, cmdline => arguments(cmdline)? })
            }
            Boot::Menu => render("menu.grub", self.menu(asking)?),
            Boot::Local => render("local.grub", context! {}),
            Boot::Shell => render("shell.grub", context! {}),
            Boot::Faulty(fault) => return Err(Reason::Faulty { profile: name.to_owned(), fault: fault.clone() }),
            boot => {
                let why = "GRUB boots Linux kernels and EFI programs: set another loader in [machines.override]";
                return Err(refuse(format!("it is {}, but {why}", boot.kind())));
            }
        })
    }

    fn menu(&self, asking: &Asking<'_>) -> Result<Value, Reason> {
        let menu = &self.rules.menu;
        let mut items = Vec::new();
        for (name, profile) in asking.shown() {
            let is_default = menu.default.as_deref() == Some(name);
            let folder = profile.folder.as_deref().filter(|_| !is_default).map(title);
            let url = self.again(Some(asking), &[("profile", name)])?;
            items.push(Item { name, title: title(profile.title.as_deref().unwrap_or(name)), folder, url });
        }
        let default = menu.default.as_deref().filter(|name| items.iter().any(|item| item.name == *name));
        let default = default.map_or_else(|| "local".to_owned(), |name| format!("profile_{name}"));
        let folders: BTreeSet<String> = items.iter().filter_map(|item| item.folder.clone()).collect();
        let folders: Vec<String> = folders.into_iter().collect();
        Ok(context! { items => Serde(&items), folders, default, timeout => menu.timeout_ms.div_ceil(1000) })
    }

    fn refused(&self, asking: Option<&Asking<'_>>, mac: Option<MacAddr>, why: Reason) -> Script {
        let who = mac.map_or_else(|| "this machine".into(), |mac| mac.to_string());
        let machine = asking.map(|asking| asking.machine.clone());
        let machine = machine.unwrap_or_else(|| self.query.machine(mac.unwrap_or(MacAddr([0; 6])), None));
        let why_lines = wrapped(&on_screen(&why.to_string()), SCREEN);
        let text = match self.again(asking, &[("retry", "1")]) {
            Ok(again) => {
                let own = context! { who, again, why_lines, machine => Serde(&machine) };
                self.rules.templates.render("refused.grub", own)
            }
            Err(why) => format!("echo {}\nsleep 30\nexit\n", grub_word(&on_screen(&why.to_string()))),
        };
        Script { text, outcome: Outcome::Refused(mac, why) }
    }

    /// No menu and no second try, which would lead round again.
    fn sent_on(&self, asking: &Asking<'_>, why: Reason) -> Script {
        let machine = &asking.machine;
        let why_lines = wrapped(&on_screen(&why.to_string()), SCREEN);
        let own = context! { machine => Serde(machine), why_lines, again => once_more(machine, &why) };
        let text = self.rules.templates.render("looping.grub", own);
        Script { text, outcome: Outcome::Refused(Some(asking.mac), why) }
    }

    /// The address of this machine's next script, with what the machine said of itself and more.
    fn again(&self, asking: Option<&Asking<'_>>, more: &[(&str, &str)]) -> Result<String, Reason> {
        let Query { mac, uuid, arch, platform, hardware, .. } = self.query;
        let said = [("mac", mac), ("uuid", uuid), ("arch", arch), ("platform", platform)];
        let secure_boot = hardware.secure_boot.map(|on| ("sb", if on { "01" } else { "00" }));
        let said = said.into_iter().filter_map(|(key, value)| Some((key, self::said(value)?)));
        let tried = asking.and_then(Asking::tried).map(|tried| ("tried", tried));
        let pairs = said.chain(secure_boot).chain(more.iter().copied()).chain(tried);
        let pairs = pairs.map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let url = format!("{}/boot.grub?{query}", self.base);
        in_grub(&url).map_err(Reason::BadQuery)
    }
}

#[derive(Serialize)]
struct Item<'a> {
    name: &'a str,
    title: String,
    /// The sub-menu that it is in.
    folder: Option<String>,
    url: String,
}

/// A title that is no option of `menuentry`.
fn title(text: &str) -> String {
    let text = on_screen(text);
    if text.starts_with('-') { format!(" {text}") } else { text }
}

/// A URL as GRUB names a file: `(http,192.0.2.10:8080)/assets/debian/vmlinuz` (GRUB manual, "File name syntax").
fn in_grub(url: &str) -> Result<String, String> {
    let rest = url.get(.."http://".len()).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = rest.and(url.get("http://".len()..));
    let Some(rest) = rest.filter(|_| url.bytes().all(|byte| byte.is_ascii_graphic() && !b"'\"$\\".contains(&byte)))
    else {
        return Err(format!("GRUB cannot fetch {url}: it loads files by http only, without a proxy or a password"));
    };
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    Ok(format!("(http,{host}){path}"))
}

/// A kernel's command line as arguments of a GRUB command. GRUB puts quotes around an argument that holds a space, as the
/// kernel wants them (Linux, lib/cmdline.c), and a backslash before each quote and backslash (grub-core/lib/cmdline.c),
/// which no kernel takes away again.
fn arguments(cmdline: &str) -> Result<String, String> {
    has_no_variable(cmdline)?;
    if let Some(c) = cmdline.chars().find(|c| matches!(c, '\'' | '\\')) {
        return Err(format!("its cmdline holds {c:?}, before which GRUB puts a backslash: remove it"));
    }
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for c in cmdline.chars() {
        match (c, words.last_mut()) {
            ('"', _) => is_quoted = !is_quoted,
            (' ', _) if !is_quoted => words.push(String::new()),
            (c, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    let words = words.iter().filter(|word| !word.is_empty()).map(|word| grub_word(word));
    Ok(words.collect::<Vec<_>>().join(" "))
}

/// Columns of a screen of 80, less two in front.
const SCREEN: usize = 77;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::boot::{
        faults::{Files, Wanted},
        hardware::Hardware,
        loader::Loader,
        machine::{MachineRule, Menu},
        outcome::Way,
        profile::Profile,
        selector::{RuleBook, Selector},
    };

    const BASE: &str = "http://192.0.2.10:8080";

    fn linux(initrd: &[&str], cmdline: &str) -> Boot {
        let initrd = initrd.iter().map(|path| (*path).to_owned()).collect();
        Boot::Linux(Linux {
            kernel: "debian/vmlinuz".into(),
            initrd,
            cmdline: cmdline.into(),
            device_tree: None,
            shim: Some("debian/shimx64.efi".into()),
        })
    }

    fn rules(profiles: impl IntoIterator<Item = (&'static str, Boot)>, default_profile: &str) -> Rules {
        let profiles = profiles.into_iter().map(|(name, boot)| (name.to_owned(), Profile::from(boot))).collect();
        Rules { profiles, default_profile: default_profile.into(), ..Rules::default() }
    }

    fn query() -> Query {
        Query {
            mac: Some("52:54:00:12:34:56".into()),
            arch: Some("x86_64".into()),
            platform: Some("efi".into()),
            hardware: Hardware { secure_boot: Some(true), ..Hardware::default() },
            ..Query::default()
        }
    }

    fn text(rules: &Rules) -> String {
        script(rules, BASE, &query(), Standing::default()).text
    }

    const AGAIN: &str =
        "(http,192.0.2.10:8080)/boot.grub?mac=52%3A54%3A00%3A12%3A34%3A56&arch=x86%5F64&platform=efi&sb=01";

    #[test]
    fn a_profile_is_a_whole_script() {
        let rules =
            rules([("debian", linux(&["debian/initrd.img", "late one.cpio"], "console=ttyS0 quiet"))], "debian");
        let made = script(&rules, BASE, &query(), Standing::default());
        assert_eq!(
            made.text,
            format!(
                "echo 'netbootd: 52-54-00-12-34-56 boots profile debian'\n\
                 linux '(http,192.0.2.10:8080)/assets/debian/vmlinuz' 'console=ttyS0' 'quiet'\n\
                 set netbootd_failed=$?\n\
                 if [ \"$netbootd_failed\" = 0 ]; then initrd '(http,192.0.2.10:8080)/assets/debian/initrd.img' '(http,192.0.2.10:8080)/assets/late%20one.cpio'; fi\n\
                 set netbootd_failed=$?\n\
                 if [ \"$netbootd_failed\" = 0 ]; then boot; fi\n\
                 echo 'netbootd: profile debian did not boot; the lines above say why'\n\
                 echo \"Secure Boot is on: the kernel has to be signed by a vendor that this machine's shim trusts.\"\n\
                 echo \"Next try in 30 s; Esc: the local disk\"\n\
                 if sleep --interruptible --verbose 30; then\n  configfile '{AGAIN}&retry=1'\nfi\nexit"
            )
        );
        let Outcome::Chosen { way: Way::Boot(files), .. } = made.outcome else { panic!("{:?}", made.outcome) };
        assert_eq!(files, ["debian/vmlinuz", "debian/initrd.img", "late one.cpio"]);
    }

    /// What names and values may hold; GRUB replaces nothing in single quotes.
    #[test]
    fn nothing_in_a_name_or_a_value_is_a_command() {
        let mut rules = rules([("debian", linux(&[], "a=$b;reboot c={{ vars.x }} two=\"a b\" `id`"))], "debian");
        let vars = BTreeMap::from([("x".to_owned(), "1;$halt".into())]);
        let rule = MachineRule { name: Some("it's;reboot".into()), vars, ..MachineRule::default() };
        rules.machines = RuleBook::new(vec![(Selector { archs: vec![], ..Selector::default() }, rule)]);
        let made = text(&rules);
        assert!(made.starts_with(r"echo 'netbootd: it'\''s;reboot boots profile debian'"), "{made}");
        for word in ["'a=$b;reboot'", "'c=1;$halt'", "'two=a b'", "'`id`'"] {
            assert!(made.contains(word), "{word}\n{made}");
        }
        for (cmdline, why) in [
            ("ip=${netX/ip}", "holds the variable \"netX/ip\", which only iPXE"),
            ("a=it's", "puts a backslash"),
            (r"a=\b", "puts a backslash"),
        ] {
            let made = text(&self::rules([("debian", linux(&[], cmdline))], "debian"));
            assert!(made.replace("'\necho '  ", " ").contains(why) && !made.contains("linux "), "{cmdline}\n{made}");
        }
    }

    #[test]
    fn the_configuration_asks_for_the_machines_script() {
        let made = configuration(&Rules::default(), BASE);
        assert_eq!(made.outcome, Outcome::Grub);
        let line = "configfile \"(http,192.0.2.10:8080)/boot.grub?mac=${net_default_mac}&uuid=${netbootd_uuid}&arch=${grub_cpu}&platform=${grub_platform}&sb=${netbootd_sb}\"\n";
        assert!(made.text.contains(line), "{}", made.text);
        let https = configuration(&Rules::default(), "https://boot.lab").text;
        assert!(https.starts_with("echo 'GRUB cannot fetch https://boot.lab: "), "{https}");
        for path in ["grub/grub.cfg", "/debian-installer/amd64/grub/grub.cfg", "boot/grub2/grub.cfg"] {
            assert!(is_configuration(path), "{path}");
        }
        assert!(!is_configuration("grub.cfg") && !is_configuration("grub/grub.cfg-01-52-54-00-12-34-56"));
    }

    #[test]
    fn the_menu_has_every_profile_and_the_local_disk() {
        let mut rules = rules([("debian", linux(&[], "")), ("rescue", linux(&[], ""))], "menu");
        rules.menu = Menu { default: Some("rescue".into()), timeout_ms: 60_000 };
        if let Some(profile) = rules.profiles.get_mut("debian") {
            profile.title = Some("-it's \"Debian\"".into());
        }
        let made = text(&rules);
        for line in [
            "set default='profile_rescue'\nset timeout=60\n".to_owned(),
            format!(
                "menuentry ' -it'\\''s \"Debian\"' --id 'profile_debian' {{ configfile '{AGAIN}&profile=debian' }}\n"
            ),
            "menuentry \"Boot from the local disk\" --id local { exit }".to_owned(),
        ] {
            assert!(made.contains(&line), "{line}\n{made}");
        }
    }

    #[test]
    fn what_is_no_linux_is_no_kernel_for_grub() {
        let look = |_: &str, wanted| match wanted {
            Wanted::Linux => Err(Reason::Unfit { name: "xen.gz".into(), fault: "is a multiboot kernel".into() }),
            _ => Ok(()),
        };
        let standing = Standing { files: Some(Files(&look)), ..Standing::default() };
        let made = script(&rules([("xen", linux(&["vmlinuz"], ""))], "xen"), BASE, &query(), standing);
        let Outcome::Refused(_, why) = made.outcome else { panic!("{}", made.text) };
        let words = "xen.gz is a multiboot kernel, which GRUB does not start as a kernel: set another loader";
        assert!(why.to_string().contains(words), "{why}");
    }

    #[test]
    fn a_kernel_for_another_processor_is_named_and_not_started() {
        let look = |_: &str, wanted| match wanted {
            Wanted::For(Loader::EfiX86_64) => {
                Err(Reason::Unfit { name: "vmlinuz".into(), fault: "is for arm64".into() })
            }
            _ => Ok(()),
        };
        let standing = Standing { files: Some(Files(&look)), ..Standing::default() };
        let made = script(&rules([("arm", linux(&[], ""))], "arm"), BASE, &query(), standing);
        let Outcome::Refused(_, why) = made.outcome else { panic!("{}", made.text) };
        let words =
            "vmlinuz is for arm64, and this machine is UEFI x86_64: name one for it under arch.x86_64 of the profile";
        assert!(why.to_string().contains(words), "{why}");
    }

    #[test]
    fn what_grub_cannot_boot_is_said_and_the_disk_is_the_way_on() {
        let of = |boot| text(&rules([("p", boot)], "p"));
        let iso = of(Boot::Iso("x.iso".into()));
        assert!(
            iso.contains("netbootd has no boot for 52:54:00:12:34:56:") && iso.contains("it is a CD image"),
            "{iso}"
        );
        assert!(of(Boot::Local).ends_with("boots from its local disk'\nexit"));
        assert!(text(&rules([], "local")).ends_with("\nexit"));
        let efi = of(Boot::Efi { path: "shell.efi".into(), cmdline: "a b".into() });
        assert!(efi.contains("chainloader '(http,192.0.2.10:8080)/assets/shell.efi' 'a' 'b'\n"), "{efi}");
        let nobody = script(&Rules::default(), BASE, &Query::default(), Standing::default());
        assert!(nobody.text.contains("net_default_mac") && matches!(nobody.outcome, Outcome::Refused(None, _)));
    }
}
