//! Profile + template → iPXE script. Every request is answered with a script: one that boots, or one that says on the
//! client's own screen why not.

use minijinja::{context, value::Serde};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::{
    client::MacAddr,
    machine::{Choice, Machine, Profile, Rules},
    template::on_screen,
    why::Why,
};

/// What an iPXE says of itself in the query of `/boot.ipxe`; empty values are as good as none.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct Query {
    /// `${netX/mac}`: the card that it boots from.
    pub mac: Option<String>,
    /// `${buildarch}`.
    pub arch: Option<String>,
    /// `${platform}`: `efi` or `pcbios`.
    pub platform: Option<String>,
    /// The profile that the menu's user chose.
    pub profile: Option<String>,
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
/// `base` is this server as the client reaches it: `http://192.0.2.10:8080`, without a slash at its end.
#[must_use]
pub fn script(rules: &Rules, base: &str, query: &Query) -> Script {
    let said = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
    let Some(mac) = said(&query.mac) else {
        return Script {
            text: rules.templates.render("bootstrap.ipxe", context! { base }),
            outcome: Outcome::Bootstrap,
        };
    };
    let mac: MacAddr = match mac.parse() {
        Ok(mac) => mac,
        Err(error) => return refused(rules, base, None, Why::BadQuery(format!("mac is wrong: {error}"))),
    };
    let machine = Machine::unnamed(mac, said(&query.arch).unwrap_or_else(|| "unknown".into()));
    let decided = rules.choose(said(&query.profile).as_deref()).and_then(|choice| {
        let rendered = rendered(rules, base, &machine, query.platform.as_deref(), choice)?;
        Ok((rendered, outcome(mac, choice)))
    });
    match decided {
        Ok((text, outcome)) => Script { text, outcome },
        Err(why) => refused(rules, base, Some(mac), why),
    }
}

/// The script for a request whose query cannot be read at all.
#[must_use]
pub fn unreadable(rules: &Rules, base: &str, problem: &str) -> Script {
    refused(rules, base, None, Why::BadQuery(format!("query is wrong: {problem}")))
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

fn rendered(
    rules: &Rules,
    base: &str,
    machine: &Machine,
    platform: Option<&str>,
    choice: Choice<'_>,
) -> Result<String, Why> {
    let templates = &rules.templates;
    Ok(match choice {
        Choice::Local => templates.render("local.ipxe", context! { base, machine => Serde(machine) }),
        Choice::Menu => {
            let profiles: Vec<String> = rules.profiles.keys().cloned().collect();
            templates.render("menu.ipxe", context! { base, machine => Serde(machine), profiles })
        }
        Choice::Profile(name, profile) => {
            let profile = ProfileUrls::new(base, name, profile, templates.cmdline(&profile.cmdline, machine)?);
            // An iPXE that does not tell its platform may be EFI, where initrd= is needed; a BIOS kernel ignores it.
            let platform = platform.unwrap_or_default();
            templates
                .render("boot.ipxe", context! { base, machine => Serde(machine), platform, profile => Serde(&profile) })
        }
    })
}

fn refused(rules: &Rules, base: &str, mac: Option<MacAddr>, why: Why) -> Script {
    let machine = mac.map_or_else(|| "this machine".into(), |mac| mac.to_string());
    let text = rules.templates.render("refused.ipxe", context! { base, machine, why => on_screen(&why.to_string()) });
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

/// The URL of a path below the assets folder.
pub(crate) fn asset_url(base: &str, path: &str) -> String {
    /// Unreserved characters of RFC 3986 §2.3, and the slash between segments.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
    format!("{base}/assets/{}", utf8_percent_encode(path, ESCAPED))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

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
        let efi = script(&rules("debian"), BASE, &query("efi"));
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
        let bios = script(&rules("debian"), BASE, &query("pcbios"));
        assert_eq!(bios.text, efi.text.replace(" initrd=0-initrd.img initrd=1-initrd.img initrd=one_more.cpio", ""));
    }

    #[test]
    fn who_does_not_say_who_it_is_comes_back() {
        let bootstrap = script(&rules("debian"), BASE, &Query::default());
        assert_eq!(bootstrap.outcome, Outcome::Bootstrap);
        assert!(bootstrap.text.starts_with("#!ipxe\n"));
        assert!(bootstrap.text.contains(
            "chain --replace --autofree http://192.0.2.10:8080/boot.ipxe?mac=${netX/mac}&uuid=${uuid}&serial=${serial:uristring}&arch=${buildarch}&platform=${platform} || goto failed\n"
        ));
    }

    #[test]
    fn the_menu_offers_every_profile_and_the_local_disk() {
        let menu = script(&rules("menu"), BASE, &query("efi"));
        assert_eq!(menu.outcome, Outcome::Menu(MAC));
        assert!(
            menu.text.contains("\nitem profile_debian debian\nitem local Boot from the local disk\n"),
            "{}",
            menu.text
        );
        assert!(menu.text.contains("&profile=debian || goto retry\n"), "{}", menu.text);
        let chosen = Query { profile: Some("debian".into()), ..query("efi") };
        assert!(matches!(script(&rules("menu"), BASE, &chosen).outcome, Outcome::Boot { .. }));
        assert_eq!(script(&rules("local"), BASE, &query("efi")).outcome, Outcome::Local(MAC));
    }

    #[test]
    fn a_refusal_is_a_script_that_says_why_and_executes_nothing_of_the_request() {
        let wrong = Query { profile: Some("x || shell ${a} #\nshell".into()), ..query("efi") };
        let refusal = script(&rules("debian"), BASE, &wrong);
        assert!(matches!(refusal.outcome, Outcome::Refused(Some(MAC), Why::NoProfile(_))));
        assert!(
            refusal.text.contains(
                "\necho netbootd has no boot for 52:54:00:12:34:56: there is no profile \"x ?? shell ??a? ?\\nshell\"\n"
            ),
            "{}",
            refusal.text
        );
        let nobody = script(&rules("debian"), BASE, &Query { mac: Some("nobody".into()), ..Query::default() });
        assert!(matches!(nobody.outcome, Outcome::Refused(None, Why::BadQuery(_))));
    }
}
