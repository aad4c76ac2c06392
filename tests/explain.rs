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
    state::State,
};

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
}

#[test]
fn a_fault_of_the_configuration_and_of_the_command_line_have_their_exit_codes() {
    let scratch = tempfile::tempdir().expect("a folder");
    let code = |lines: &str, arguments: &[&str]| explain(scratch.path(), lines, arguments).status.code();
    assert_eq!(code("defualt_profile = \"nothing\"\n", &["--mac", "52:54:00:00:00:01"]), Some(78));
    assert_eq!(code("", &["--mac", "52:54:00:00:00"]), Some(64));
    assert_eq!(code("", &["--mac", "52:54:00:00:00:01", "--arch", "amd64"]), Some(64));
}
