//! Scripts, as iPXE gets them.

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
                ["debian/vmlinuz", "debian/initrd.img", "late/initrd.img", "one more.cpio"].map(String::from).into()
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
    assert!(menu.text.contains("\nitem profile_debian debian\nitem local Boot from the local disk\n"), "{}", menu.text);
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
    let nobody =
        script(&rules("debian"), BASE, &Query { mac: Some("nobody".into()), ..Query::default() }, Standing::default());
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
        let rule = MachineRule { vars: BTreeMap::from([("role".to_owned(), "db".into())]), ..MachineRule::default() };
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

/// DOS asks the drive for its geometry, or knows it by the drive's number.
#[test]
fn a_floppy_disk_is_the_first_floppy_drive() {
    let look = |name: &str, wanted| match (name, wanted) {
        ("dos.img", Wanted::HardDisk) => Err(Reason::Unfit { name: name.into(), fault: "is a floppy disk".into() }),
        _ => Ok(()),
    };
    for (image, drive) in [("dos.img", "0x00"), ("disk.img", "0x80")] {
        let profiles = BTreeMap::from([("it".to_owned(), Boot::Disk(image.into()).into())]);
        let rules = Rules { profiles, ..rules("it") };
        let standing = Standing { files: Some(Files(&look)), ..Standing::default() };
        let text = script(&rules, BASE, &query("pcbios"), standing).text;
        let line = format!("\nsanboot --drive {drive} http://192.0.2.10:8080/assets/{image} ");
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn what_is_no_linux_gets_no_initrd_argument() {
    let look = |_: &str, wanted| match wanted {
        Wanted::Linux => {
            Err(Reason::Unfit { name: "debian/vmlinuz".into(), fault: "is a loader of Windows PE".into() })
        }
        _ => Ok(()),
    };
    let rules = rules("debian");
    let text = script(&rules, BASE, &query("efi"), Standing { files: Some(Files(&look)), ..Standing::default() }).text;
    assert!(text.contains("\nkernel http://192.0.2.10:8080/assets/debian/vmlinuz console=ttyS0 "), "{text}");
    assert!(text.contains("\ninitrd --name 0-initrd.img http"), "{text}");
}

/// iPXE's `echo` takes a word that begins with a hyphen for an option, and a script ends at a command that fails.
#[test]
fn no_line_on_the_screen_begins_as_an_option() {
    for width in 1..=SCREEN {
        let fault = format!("{} (mount --bind), or -{}", "x".repeat(width), "y-".repeat(SCREEN));
        let profiles = [("it".to_owned(), Boot::Faulty(fault).into())].into();
        let of = |standing| script(&Rules { profiles, ..rules("it") }, BASE, &query("efi"), standing).text;
        let text = of(Standing::default());
        let options = text.lines().filter(|line| line.starts_with("echo -") && !line.starts_with("echo -- -"));
        assert_eq!(options.count(), 0, "{text}");
        assert!(text.contains("--bind"), "{text}");
    }
}

#[test]
fn a_name_that_begins_with_a_hyphen_is_no_option() {
    let initrd = vec!["-late.img".to_owned()];
    let linux = Linux { kernel: "k".into(), initrd, cmdline: String::new(), device_tree: None, shim: None };
    let in_folder = Profile { folder: Some("-old".into()), ..Profile::from(Boot::Linux(linux)) };
    let of = |default: &str| {
        let profiles = BTreeMap::from([("it".to_owned(), in_folder.clone())]);
        script(&Rules { profiles, ..rules(default) }, BASE, &query("efi"), Standing::default()).text
    };
    let boot = of("it");
    assert!(boot.contains(" initrd=_late.img || goto failed\ninitrd --name _late.img http"), "{boot}");
    let menu = of("menu");
    assert!(menu.contains("\nitem folder_1 -old ...\n") && menu.contains("\nmenu -- -old: choose what "), "{menu}");
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
        cmdline: "url={{ asset('a dir/u.iso') }} base={{ base }} BOOTIF={{ machine.bootif }} {{ machine.mac | dots }}"
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
        profiles: ["a", "b", "c"].map(|name| (name.to_owned(), profile(&format!("The {name} $HOME || ; b;")))).into(),
        machines: RuleBook::new(vec![(Selector::default(), rule)]),
        menu: Menu { default: Some("a".into()), timeout_ms: 5000 },
        ..rules("menu")
    };
    let menu = script(&rules, BASE, &query("efi"), Standing::default()).text;
    let items: Vec<&str> = menu.lines().filter(|line| line.starts_with("item profile_")).collect();
    assert_eq!(items, ["item profile_b The b ?HOME ?? ? b;", "item profile_a The a ?HOME ?? ? b;"]);
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
