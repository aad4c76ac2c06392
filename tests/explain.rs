//! What `netbootd explain` says, whole.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use netbootd::{
    boot::{
        mac::MacAddr,
        roster::{Assignment, Entry, Roster},
    },
    config::{load::load, resolve::resolve},
    daemon::explain_capture::{At, explain_capture},
    net::frame::{BROADCAST, Frame},
    state::State,
};
use netbootd_lab::{Captured, GRUB_2_06_SBAT, SHIM_SBAT, efi_program};

/// `netbootd explain` in a folder with a configuration of these lines, and loaders for BIOS and UEFI x86_64.
fn explain(folder: &Path, lines: &str, arguments: &[&str]) -> Output {
    let mut efi = vec![0; 0x46];
    efi.splice(..2, *b"MZ");
    efi.splice(0x3c..0x3d, [0x40]);
    efi.splice(0x40.., *b"PE\0\0\x64\x86");
    fs::create_dir_all(folder.join("loaders")).expect("made");
    fs::write(folder.join("loaders/snponly.efi"), &efi).expect("written");
    fs::write(folder.join("loaders/ipxe.efi"), &efi).expect("written");
    fs::write(folder.join("loaders/undionly.kpxe"), b"\xea").expect("written");
    let own = format!("http.base_url = \"http://boot.lab:8080\"\nloader_dirs = [\"loaders\"]\n{lines}");
    fs::write(folder.join("n.toml"), own).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_netbootd"));
    command.current_dir(folder).env_clear().args(["explain", "--config", "n.toml"]).args(arguments);
    command.output().expect("started")
}

const RULES: &str = "default_profile = \"local\"
state.url = \"sqlite://state.db\"
[[machines]]
oui = \"52:54:00\"
profile = \"shell\"
override = { loader = \"ipxe.efi\" }
[[machines]]
name = \"k8s08\"
mac = \"52:54:00:12:34:56\"
profile = \"local\"
override = { local_boot = \"exit\" }
[[machines]]
serial = \"CZ1234\"
profile = \"shell\"
[[machines]]
arch = \"x86_64\"
";

#[test]
fn each_stage_is_told_with_the_rule_that_decides_and_why_the_others_do_not() {
    let scratch = tempfile::tempdir().expect("a folder");
    let output = explain(scratch.path(), RULES, &["--mac", "5254.0012.3456", "--serial", "cz1234"]);
    let expected = "\
52:54:00:12:34:56
  state         there is no state at sqlite://state.db: no assignments are known

UEFI x86_64 asks by DHCP
  rule 2 k8s08 (n.toml:9:1): decides
  rule 1 (n.toml:5:1): less specific
  rule 4 (n.toml:17:1): less specific
  gets: snponly.efi by TFTP

iPXE on UEFI x86_64 asks by DHCP
  rule 2 k8s08 (n.toml:9:1): decides
  rule 1 (n.toml:5:1): less specific
  rule 4 (n.toml:17:1): less specific
  gets: http://boot.lab:8080/boot.ipxe

iPXE asks for /boot.ipxe
  rule 2 k8s08 (n.toml:9:1): decides
  rule 3 (n.toml:14:1): equally specific, but later in the file
  rule 1 (n.toml:5:1): less specific
  rule 4 (n.toml:17:1): less specific
  gets: profile local, chosen by its rule
    #!ipxe
    echo netbootd: k8s08 boots from its local disk
    exit
";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_rule_by_interface_is_explained_for_the_interface_that_is_named_or_served_first() {
    let scratch = tempfile::tempdir().expect("a folder");
    let lines = "interfaces = [\"lab0\", \"lab1\"]\ndefault_profile = \"local\"\n\
                 [[machines]]\ninterface = \"lab1\"\nprofile = \"shell\"\noverride = { loader = \"ipxe.efi\" }\n";
    let of = |arguments: &[&str]| {
        let output = explain(scratch.path(), lines, &[&["--mac", "52:54:00:12:34:56"], arguments].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let there = of(&["--interface", "lab1"]);
    for words in ["  interface     lab1\n", "gets: ipxe.efi by TFTP", "  rule 1 (n.toml:5:1): decides", "profile shell"]
    {
        assert!(there.contains(words), "{there}");
    }
    let first = of(&[]);
    for words in ["  interface     lab0\n", "gets: snponly.efi by TFTP", "no rule applies", "profile local"] {
        assert!(first.contains(words), "{first}");
    }
}

#[test]
fn what_was_assigned_is_read_from_the_state_beside_a_server_that_has_it_open() {
    let scratch = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let url = format!("sqlite://{}", scratch.path().join("state.db").display());
    let said = Entry { assigned: Some(Assignment { profile: "shell".into(), once: true }), ..Entry::default() };
    let _open = runtime.block_on(async {
        let state = State::open(&url).await.expect("made");
        let said = Roster::default().change(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]).into(), &[], |before| Entry {
            known_as: before.known_as,
            ..said
        });
        state.set_entry(&said).await.expect("written");
        state
    });
    let output = explain(scratch.path(), RULES, &["--mac", "52:54:00:12:34:56", "--ipxe", "--arch", "bios", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        shown["said"],
        serde_json::json!({ "assigned": { "profile": "shell", "once": true }, "approved": false, "had": [], "spent": null, "tried": null })
    );
    assert_eq!(shown["state"], "read from sqlite://state.db");
    let answers: Vec<&str> =
        shown["stages"].as_array().into_iter().flatten().filter_map(|stage| stage["answer"].as_str()).collect();
    assert_eq!(answers, ["http://boot.lab:8080/boot.ipxe", "profile shell, chosen by an assignment, once"]);
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_server_and_ends_the_boot() {
    let scratch = tempfile::tempdir().expect("a folder");
    let of = |arguments: &[&str]| {
        let output = explain(scratch.path(), RULES, &[&["--json", "--mac"], arguments].concat());
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let stages = shown["stages"].as_array().cloned().unwrap_or_default();
        let last = stages.last().cloned().unwrap_or_default();
        (stages.len(), last["client"].clone(), last["refused"].clone(), last["answer"].clone())
    };
    let refused = "its rule names the loader ipxe.efi, which is for UEFI x86_64: this machine is BIOS";
    assert_eq!(
        of(&["52:54:00:00:00:01", "--arch", "0"]),
        (1, "BIOS asks by DHCP".into(), refused.into(), serde_json::Value::Null)
    );
    let local = "profile local, chosen by default_profile";
    assert_eq!(
        of(&["02:00:00:00:00:01", "--arch", "x86_64", "--http-boot"]),
        (3, "iPXE asks for /boot.ipxe".into(), serde_json::Value::Null, local.into())
    );
}

#[test]
fn firmware_of_the_field_is_explained_by_what_answers_it_on_the_wire() {
    let scratch = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(scratch.path().join("assets/my tools")).expect("made");
    fs::write(scratch.path().join("assets/my tools/grub.efi"), b"MZ").expect("written");
    let mut arm64 = vec![0; 0x46];
    arm64.splice(..2, *b"MZ");
    arm64.splice(0x3c..0x3d, [0x40]);
    arm64.splice(0x40.., *b"PE\0\0\x64\xaa");
    fs::create_dir_all(scratch.path().join("loaders/arm64-efi")).expect("made");
    fs::write(scratch.path().join("loaders/arm64-efi/snponly.efi"), arm64).expect("written");
    let lines = "default_profile = \"local\"\nassets = \"assets\"\n\
                 [[machines]]\nmac = \"52:54:00:12:34:56\"\nreply_delay = \"500ms\"\n\
                 [[machines]]\nmac = \"52:54:00:12:34:57\"\noverride = { loader = \"my tools/grub.efi\" }\n";
    let first = |arguments: &[&str]| {
        let output = explain(scratch.path(), lines, &[&["--json", "--mac"], arguments].concat());
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let told = |key: &str| shown["stages"][0][key].as_str().unwrap_or_default().to_owned();
        (told("client"), told("answer") + &told("refused"))
    };
    let (_, delayed) = first(&["52:54:00:12:34:56", "--arch", "bios"]);
    assert_eq!(delayed, "undionly.kpxe by TFTP, 500ms late");
    let (_, own) = first(&["52:54:00:12:34:57"]);
    assert_eq!(own, "my tools/grub.efi by TFTP (the file my tools/grub.efi below the assets folder)");
    // An address, for the name of base_url is nothing to firmware without DNS; and a URL has no spaces.
    let (_, url) = first(&["52:54:00:12:34:57", "--http-boot"]);
    assert!(url.starts_with("http://") && url.ends_with(":8080/assets/my%20tools/grub.efi"), "{url}");
    assert!(!url.contains("boot.lab"), "{url}");
    let pi = "52506934-1431-d000-83a5-b1c7f2e04b19";
    let (_, files) = first(&["00:e0:4c:01:02:03", "--arch", "bios", "--uuid", pi]);
    assert_eq!(files, "its own firmware files by TFTP, 1s late from its second DISCOVER on");
    let (client, loader) = first(&["00:e0:4c:01:02:03", "--arch", "22"]);
    assert_eq!((client.as_str(), loader.as_str()), ("arm64 U-Boot asks by DHCP", "snponly-arm64.efi by TFTP"));
    let (_, alone) = first(&["00:e0:4c:01:02:03", "--arch", "21"]);
    assert_eq!(alone, "its pxelinux.cfg; no loader for its architecture was found");
}

#[test]
fn a_grub_that_cannot_boot_the_machine_is_named() {
    let scratch = tempfile::tempdir().expect("a folder");
    let loaders = scratch.path().join("loaders");
    fs::create_dir_all(&loaders).expect("made");
    fs::write(loaders.join("shimx64.efi"), efi_program(SHIM_SBAT, true)).expect("written");
    fs::write(loaders.join("grubx64.efi"), efi_program(GRUB_2_06_SBAT, true)).expect("written");
    let lines = "default_profile = \"local\"\n[[machines]]\narch = \"x86_64\"\noverride = { loader = \"grub\" }\n";
    for (way, expected) in
        [(&[][..], "x86_64-grub/shimx64.efi by TFTP"), (&["--http-boot"], "/x86_64-grub/shimx64.efi")]
    {
        let output = explain(scratch.path(), lines, &[&["--json", "--mac", "52:54:00:12:34:56"], way].concat());
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let answer = shown["stages"][0]["answer"].as_str().unwrap_or_default();
        let limit = " (it cannot boot this machine: GRUB 2.06 (Debian 12) does not read a proxy's offer";
        assert!(answer.contains(&format!("{expected}{limit}")), "{answer}");
        // GRUB asks no more by DHCP.
        let stages = shown["stages"].as_array().expect("stages");
        assert_eq!((stages.len(), stages[1]["client"].as_str()), (2, Some("GRUB asks for /boot.grub")));
        let script = stages[1]["script"].as_str().unwrap_or_default();
        assert!(script.contains("exit") && !script.starts_with("#!ipxe"), "{script}");
    }
}

#[test]
fn a_fault_of_the_configuration_and_of_the_command_line_have_their_exit_codes() {
    let scratch = tempfile::tempdir().expect("a folder");
    let code = |lines: &str, arguments: &[&str]| explain(scratch.path(), lines, arguments).status.code();
    assert_eq!(code("defualt_profile = \"nothing\"\n", &["--mac", "52:54:00:00:00:01"]), Some(78));
    assert_eq!(code("", &["--mac", "52:54:00:00:00"]), Some(64));
    assert_eq!(code("", &["--mac", "52:54:00:00:00:01", "--arch", "amd64"]), Some(64));
}

/// The capture of these datagrams, as tcpdump writes it.
fn pcap(datagrams: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut file =
        [0xa1b2_c3d4_u32, 0x0002_0004, 0, 0, 65_535, 1].iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<_>>();
    for (number, (from, to, payload)) in (0_u32..).zip(datagrams) {
        let (from, to) = (from.parse().expect("an address"), to.parse().expect("an address"));
        let frame = Frame { link_from: [2, 0, 0, 0, 0, 1], link_to: BROADCAST, from, to, payload };
        let bytes = frame.build().expect("short");
        let length = u32::try_from(bytes.len()).expect("short");
        file.extend([1_000 + number, 0, length, length].iter().flat_map(|word| word.to_le_bytes()));
        file.extend(bytes);
    }
    file
}

/// As firmware of each kind sends it to its port.
fn sent(captured: &Captured) -> Vec<u8> {
    let (from, to) = match captured.port {
        4011 => ("10.77.0.50:4011", "10.77.0.2:4011"),
        _ => ("0.0.0.0:68", "255.255.255.255:67"),
    };
    pcap(&[(from, to, &captured.request)])
}

const LOADERS: [(&str, u16); 4] =
    [("snponly.efi", 0x8664), ("ipxe-i386.efi", 0x014c), ("ipxe-arm64.efi", 0xaa64), ("arm32-efi/snponly.efi", 0x01c2)];

#[test]
fn every_captured_request_is_explained_by_the_very_bytes_of_its_reply() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
    for name in ["loaders/arm32-efi", "assets"] {
        fs::create_dir_all(folder.join(name)).expect("made");
    }
    fs::write(folder.join("loaders/undionly.kpxe"), b"\xea").expect("written");
    for (name, machine) in LOADERS {
        let mut efi = vec![0; 0x40];
        efi.splice(..2, *b"MZ");
        efi.splice(0x3c..0x3d, [0x40]);
        efi.extend(*b"PE\0\0");
        efi.extend(machine.to_le_bytes());
        fs::write(folder.join("loaders").join(name), efi).expect("written");
    }
    let at = folder.display();
    let text =
        format!("assets = \"{at}/assets\"\nloader_dirs = [\"{at}/loaders\"]\n[state]\nurl = \"sqlite://{at}/no.db\"\n");
    fs::write(folder.join("n.toml"), text).expect("written");
    let all = Captured::all().expect("readable");
    assert!(all.len() >= 36, "only {} files", all.len());
    let mut answered = 0;
    for captured in all {
        let name = &captured.name;
        let settings = resolve(&load(Some(&folder.join("n.toml")), [], &[]).expect("loaded")).expect("resolved");
        let here = At { interface: None, address: Some([10, 77, 0, 2].into()) };
        let explained = explain_capture(&sent(&captured), settings, here).expect("a capture");
        let [line] = explained.packets.as_slice() else { panic!("{name}: {explained:?}") };
        let wire = line.wire.as_ref().map(|(_, hex)| hex.clone()).unwrap_or_default();
        let expected: String = captured.reply.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(wire, expected, "{name}: {line:?}");
        assert!(line.answer.is_some() != line.refused.is_some(), "{name}: {line:?}");
        answered += usize::from(line.answer.is_some());
    }
    assert!(answered >= 25, "only {answered} requests are answered");
}

#[test]
fn a_capture_is_shown_with_what_other_servers_break() {
    let scratch = tempfile::tempdir().expect("a folder");
    let discover = Captured::named("ovmf-pxe-discover").expect("there").request;
    // A leasing server's offer with option 60 and a boot file of its own.
    let mut offer = vec![0; 240];
    offer[..3].copy_from_slice(&[2, 1, 6]);
    offer[16..20].copy_from_slice(&[10, 77, 0, 50]);
    offer[28..34].copy_from_slice(&discover[28..34]);
    offer[108..118].copy_from_slice(b"pxelinux.0");
    offer[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    offer.extend_from_slice(b"\x35\x01\x02\x36\x04\x0a\x4d\x00\x01\x3c\x09PXEClient\xff");
    let file = pcap(&[
        ("0.0.0.0:68", "255.255.255.255:67", &discover),
        ("10.77.0.1:67", "255.255.255.255:68", &offer),
        ("10.77.0.50:2070", "10.77.0.2:69", b"\0\x01snponly.efi\0octet\0tsize\x000\0blksize\x001468\0"),
        ("10.77.0.50:2071", "10.77.0.2:69", b"\0\x01nothing.efi\0octet\0"),
        ("10.77.0.1:5000", "10.77.0.50:2071", b"\0\x05\0\x01File not found\0"),
        ("10.77.0.1:53", "10.77.0.50:5000", b"else"),
        // On a terminal, this would clear the screen and add a line.
        ("10.77.0.50:2072", "10.77.0.2:69", b"\0\x01a\x1b[2J\nb.efi\0octet\0"),
    ]);
    fs::write(scratch.path().join("x.pcap"), &file).expect("written");
    let shown = |arguments: &[&str]| explain(scratch.path(), "state.url = \"sqlite://state.db\"\n", arguments);
    let output = shown(&["--pcap", "x.pcap", "--address", "10.77.0.2"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    for words in [
        "#1  +0.000 s  0.0.0.0:68\n  DHCPDISCOVER of 52:54:00:",
        "netbootd answers: snponly.efi by TFTP from 10.77.0.2\n",
        "#2  +1.000 s  10.77.0.1:67\n  DHCPOFFER of another server, 10.77.0.1, for 52:54:00:",
        "this breaks boots: the DHCP server 10.77.0.1 sends option 60 (PXEClient) with its leases",
        "this breaks boots: the DHCP server 10.77.0.1 also names a boot file, pxelinux.0",
        "a TFTP read request for snponly.efi\n  netbootd answers: snponly.efi, 70 bytes\n",
        "a TFTP read request for nothing.efi\n  netbootd does not answer: ",
        "TFTP error 1: \"File not found\"",
        "a TFTP read request for a?[2J?b.efi\n",
        "6 packets of network boots, 1 others",
    ] {
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
    assert!(!text.contains("bytes to 255.255.255.255:68"), "{text}");
    let wire = shown(&["--pcap", "x.pcap", "--address", "10.77.0.2", "--wire"]);
    let wire = String::from_utf8_lossy(&wire.stdout).into_owned();
    assert!(wire.contains("bytes to 255.255.255.255:68:\n    0201060"), "{wire}");
    let json = shown(&["--pcap", "x.pcap", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["packets"][1]["breaks"].as_array().map(Vec::len), Some(2), "{json}");

    fs::write(scratch.path().join("cut.pcap"), &file[..file.len() - 1]).expect("written");
    let cut = shown(&["--pcap", "cut.pcap"]);
    let words = "cut.pcap: it ends in the middle of packet 7: capture it again, or copy the whole file";
    assert!(String::from_utf8_lossy(&cut.stderr).contains(words), "{cut:?}");
    assert_eq!(cut.status.code(), Some(69));
    let none = shown(&["--pcap", "n.toml"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("it is no capture"), "{none:?}");
    assert_eq!(shown(&[]).status.code(), Some(64));
}

#[test]
fn a_capture_shows_what_the_server_would_refuse_and_what_is_not_for_it() {
    let scratch = tempfile::tempdir().expect("a folder");
    let discover = Captured::named("undionly-discover").expect("there").request;
    let firmware = Captured::named("old-board-short-arch-discover").expect("there").request;
    let mut takes = firmware.clone();
    // It accepts an address: message type 3, and the address in the header.
    let kind = 240 + takes[240..].windows(3).position(|option| option == b"\x35\x01\x01").expect("option 53");
    takes[kind + 2] = 3;
    takes[12..16].copy_from_slice(&[10, 77, 0, 50]);
    let mut refusal = vec![0; 240];
    refusal[..3].copy_from_slice(&[2, 1, 6]);
    refusal[28..34].copy_from_slice(&firmware[28..34]);
    refusal[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    let bootp = [refusal.clone(), vec![255]].concat();
    refusal.extend_from_slice(b"\x35\x01\x06\x36\x04\x0a\x4d\x00\x01\xff");
    let as_ipxe = b"\0\x01undionly.kpxe\0octet\0blksize\x001432\0tsize\x000\0".as_slice();
    let file = pcap(&[
        ("0.0.0.0:68", "255.255.255.255:67", &firmware),
        ("10.77.0.50:68", "10.77.0.9:4011", &takes),
        ("10.77.0.50:68", "10.77.0.2:4011", &takes),
        ("10.77.0.50:2070", "10.77.0.2:69", as_ipxe),
        ("10.77.0.50:2071", "10.77.0.2:69", b"\0\x01undionly.kpxe\0netascii\0"),
        ("10.77.0.50:2072", "10.77.0.9:69", b"\0\x01undionly.kpxe\0octet\0"),
        ("10.77.0.1:67", "255.255.255.255:68", &refusal),
        ("10.77.0.1:67", "255.255.255.255:68", &bootp),
        ("10.77.0.60:2070", "10.77.0.2:69", as_ipxe),
        ("10.77.1.1:67", "10.77.0.9:67", &discover),
    ]);
    fs::write(scratch.path().join("x.pcap"), &file).expect("written");
    let shown = |arguments: &[&str]| {
        let output = explain(scratch.path(), "state.url = \"sqlite://state.db\"\n", arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = shown(&["--pcap", "x.pcap", "--address", "10.77.0.2"]);
    let other = "netbootd does not answer: it is sent to 10.77.0.9, and this server is 10.77.0.2 (see --address)\n";
    assert_eq!(text.matches(other).count(), 3, "{text}");
    for words in [
        // Firmware was heard there, and no iPXE since. Elsewhere it is an iPXE that would only load itself again.
        "#4  +3.000 s  10.77.0.50:2070\n  a TFTP read request for undionly.kpxe\n  netbootd answers: undionly.kpxe, 1 bytes\n",
        "#5  +4.000 s  10.77.0.50:2071\n  a TFTP read request for undionly.kpxe\n  netbootd does not answer: transfer mode netascii would",
        "DHCPNAK of another server, 10.77.0.1, for ",
        "an answer of a BOOTP server, 10.77.0.1, which is no DHCP server\n",
        "#9  +8.000 s  10.77.0.60:2070\n  a TFTP read request for undionly.kpxe\n  netbootd answers: undionly.kpxe (script for iPXE), ",
    ] {
        assert!(text.contains(words), "{words:?} is missing in\n{text}");
    }
    // Where it was captured is not known.
    assert!(!shown(&["--pcap", "x.pcap"]).contains("it is sent to"));
}

#[test]
fn the_pxelinux_file_is_shown_where_it_is_read() {
    let scratch = tempfile::tempdir().expect("a folder");
    let lines = "default_profile = \"local\"\nstate.url = \"sqlite://state.db\"\n";
    let shown = |arguments: &[&str]| {
        let output = explain(scratch.path(), lines, &[&["--mac", "52:54:00:12:34:56"], arguments].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let words = "its boot program asks for pxelinux.cfg/01-52-54-00-12-34-56 by TFTP";
    let text = shown(&["--pxelinux"]);
    assert!(text.contains(words) && text.contains("gets: profile local"), "{text}");
    assert!(!shown(&[]).contains(words));
}
