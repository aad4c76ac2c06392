//! What a user types that needs no network.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::{Command, Output},
};

fn netbootd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netbootd")).args(arguments).output().expect("started")
}

/// An EFI program as far as its header: MZ, the way to the COFF header, its machine type, and iPXE's version.
fn efi(path: &Path, machine: u16) {
    let mut bytes = vec![0; 0x40];
    bytes.splice(..2, *b"MZ");
    bytes.splice(0x3c..0x3d, [0x40]);
    bytes.extend(*b"PE\0\0");
    bytes.extend(machine.to_le_bytes());
    bytes.extend(*b"\x002.0.0\0");
    fs::write(path, bytes).expect("written");
}

#[test]
fn loaders_are_shown_as_json_with_what_is_wrong_and_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    efi(&folder.path().join("ipxe-arm64.efi"), 0xaa64);
    efi(&folder.path().join("ipxe-riscv64.efi"), 0x8664);
    let output = netbootd(&["loaders", "--json", "--loader-dir", &folder.path().display().to_string()]);
    assert!(output.status.success(), "{output:?}");
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let arm64 = shown["loaders"].as_array().and_then(|all| all.iter().find(|l| l["architecture"] == "UEFI arm64"));
    let arm64 = arm64.expect("the loader");
    assert_eq!((&arm64["name"], &arm64["version"]), (&"ipxe-arm64.efi".into(), &"2.0.0".into()));
    assert_eq!((&arm64["is_default"], arm64["sha256"].as_str().map(str::len)), (&true.into(), Some(64)));
    assert_eq!(
        shown["rejected"],
        serde_json::json!([{
            "file": folder.path().join("ipxe-riscv64.efi").display().to_string(),
            "why": "it is a program for UEFI x86_64, not for UEFI riscv64",
        }])
    );
    let is_missing =
        |title: &str| shown["missing"].as_array().is_some_and(|m| m.iter().any(|m| m["architecture"] == title));
    assert!(is_missing("UEFI riscv64") && !is_missing("UEFI arm64"));
}

#[test]
fn the_exit_code_tells_usage_from_help() {
    assert_eq!(netbootd(&["--help"]).status.code(), Some(0));
    assert_eq!(netbootd(&["--version"]).stdout, format!("netbootd {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    assert_eq!(netbootd(&[]).status.code(), Some(64));
    assert_eq!(netbootd(&["down"]).status.code(), Some(64));
}

#[test]
fn the_example_that_is_shipped_has_no_faults_and_its_schema_is_beside_it() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let example = packaging.join("netbootd.toml");
    let output = netbootd(&["check", "--config", &example.display().to_string()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let schema = fs::read_to_string(&example).expect("read").lines().next().map(str::to_owned);
    let schema = schema.and_then(|line| line.strip_prefix("#:schema ").map(|path| packaging.join(path)));
    assert_eq!(netbootd(&["check", "--schema"]).stdout, fs::read(schema.expect("named")).expect("the schema"));
}

#[test]
fn a_variable_that_is_no_text_is_no_bug() {
    let check = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netbootd"));
        command.args(["check", "--config", "/dev/null"]).env(name, OsStr::from_bytes(b"/srv/\xff"));
        let output = command.output().expect("started");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(check("LESSOPEN").0, Some(0));
    let (code, said) = check("NETBOOTD_ASSETS");
    assert_eq!(code, Some(1));
    assert!(said.contains("environment NETBOOTD_ASSETS: the assets folder /srv/\u{fffd} cannot be used"), "{said}");
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    for arguments in [&["loaders"] as &[&str], &["loaders", "--json"], &["what", "PXE-E18"], &["dhcp-snippet"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output =
            Command::new(env!("CARGO_BIN_EXE_netbootd")).args(arguments).stdout(writer).output().expect("started");
        assert!(output.stderr.is_empty() && output.status.success(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn output_that_cannot_be_written_is_named() {
    let full = fs::File::options().write(true).open("/dev/full").expect("there");
    let output = Command::new(env!("CARGO_BIN_EXE_netbootd")).arg("dhcp-snippet").stdout(full).output();
    let output = output.expect("started");
    assert_eq!(output.status.code(), Some(71));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.starts_with("netbootd: cannot write the output: No space left on device"), "{error}");
}

#[test]
fn a_user_of_the_doctor_that_is_not_there_is_an_error_of_its_own_option() {
    let output = netbootd(&["doctor", "--as", "nobody-of-that-name"]);
    assert_eq!(output.status.code(), Some(64));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("there is no user nobody-of-that-name in /etc/passwd\n"), "{error}");
}

#[test]
fn what_explain_would_ignore_is_refused() {
    for ignored in [&["--address", "192.0.2.4"] as &[&str], &["--wire"]] {
        let output = netbootd(&[&["explain", "--mac", "52:54:00:12:34:56"], ignored].concat());
        assert_eq!(output.status.code(), Some(64), "{output:?}");
    }
}

#[test]
fn an_interface_of_the_file_that_is_not_there_may_come_and_is_no_error_of_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("netbootd.toml");
    fs::write(&file, "interfaces = [\"absent0\"]\n").expect("written");
    let file = file.display().to_string();
    assert_eq!(netbootd(&["up", "-c", &file]).status.code(), Some(69));
    assert_eq!(netbootd(&["up", "-c", &file, "-i", "absent1"]).status.code(), Some(64));
}
