//! What `netbootd check` says of broken configurations, whole: each `tests/configurations/NAME.toml` has its
//! `NAME.txt` beside it. A line `# with KEY=VALUE` at its beginning sets an environment variable.
//!
//! `BLESS=1 cargo test --test configurations` writes the expected words anew, to be read before they are committed.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use netbootd_lab::{GRUB_2_06_SBAT, IPXE_SBAT, SHIM_SBAT, efi_program};

#[test]
fn every_fault_is_reported_with_its_place_and_its_fix() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().canonicalize().expect("there");
    furnish(&folder);
    let mut wrong = Vec::new();
    let mut count = 0;
    for name in names() {
        let (said, code) = checked(&folder, &name);
        let expected_path = cases().join(format!("{name}.txt"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected_path, &said).expect("written");
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        let is_fault = expected.contains("\nnetbootd: ");
        if said != expected || code != Some(i32::from(is_fault)) {
            wrong.push(format!("{name} (exit code {code:?}):\n{said}-- expected:\n{expected}"));
        }
        count += 1;
    }
    assert!(count >= 50, "only {count} configurations were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_program_reads_the_same_as_json() {
    let scratch = tempfile::tempdir().expect("a folder");
    furnish(scratch.path());
    let output = check(scratch.path(), "everything_at_once").arg("--json").output().expect("started");
    assert_eq!(output.status.code(), Some(1));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = fs::read_to_string(cases().join("everything_at_once.txt")).expect("read");
    let lines = shown["findings"].as_array().expect("a list").iter().map(|finding| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let level = if finding["level"] == "warning" { "warning: " } else { "" };
        format!("{}:{}:{}: {level}{}\n", text("file"), finding["line"], finding["column"], text("message"))
    });
    let lines: String = lines.collect();
    assert_eq!(format!("{lines}netbootd: "), text[..text.rfind("netbootd: ").expect("a count") + "netbootd: ".len()]);
}

/// What is said on both outputs, and the exit code.
fn checked(folder: &Path, name: &str) -> (String, Option<i32>) {
    let output = check(folder, name).output().expect("started");
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).replace(&folder.display().to_string(), "FOLDER"), output.status.code())
}

fn check(folder: &Path, name: &str) -> Command {
    let text = fs::read_to_string(folder.join(format!("{name}.toml"))).expect("read");
    let mut command = Command::new(env!("CARGO_BIN_EXE_netbootd"));
    command.current_dir(folder).env_clear().args(["check", "--config", &format!("{name}.toml")]);
    command.env("NETBOOTD_LOADER_DIRS", "[\"loaders\"]");
    let with = text.lines().map_while(|line| line.strip_prefix("# with ")?.split_once('='));
    command.envs(with);
    command
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configurations")
}

fn names() -> BTreeSet<String> {
    let entries = fs::read_dir(cases()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let names = entries.filter_map(|name| name.to_str()?.strip_suffix(".toml").map(str::to_owned));
    // A host that netbootd is installed on has an assets folder by default.
    let is_installed = Path::new("/var/lib/netbootd/assets").is_dir();
    names.filter(|name| !(is_installed && name == "no_assets")).collect()
}

/// The configurations, and the files that they name.
fn furnish(folder: &Path) {
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    };
    for name in names() {
        let name = format!("{name}.toml");
        put(&name, &fs::read(cases().join(&name)).expect("read"));
    }
    let (x86, arm, efi) = (image(0x8664, true), image(0xaa64, false), image(0x8664, false));
    let iso = [vec![0; 0x8001], b"CD001\x01".to_vec()].concat();
    let disk = [vec![0; 0x1fe], b"\x55\xaa".to_vec()].concat();
    let files: [(&str, &[u8]); 40] = [
        ("machines.d/broken.toml", b"[[machines]]\nmac = \"52:54:00:00:00:01\"\nprofil = \"local\"\n"),
        (
            "teams/a.toml",
            b"[profiles.deb]\nkernel = \"vmlinuz\"\ninitrd = [\"initrd.img\"]\n[profiles.own]\nkernel = \"vmlinuz\"\n\
              [[machines]]\nmac = \"52:54:00:00:00:01\"\nprofile = \"deb\"\n",
        ),
        (
            "teams/b.toml",
            b"interfaces = [\"lo\"]\n[http]\nport = 9999\nlisting = true\n[profiles.deb.arch.i386]\nkernel = \"vmlinuz\"\n\
              [profiles.other]\nkernel = \"vmlinuz\"\n[[machines]]\nmac = \"52:54:00:00:00:02\"\nprofile = \"other\"\n",
        ),
        ("machines.d/slip.txt", b"[[machines]\n"),
        ("assets/vmlinuz", &x86),
        ("assets/arm64/vmlinuz", &arm),
        ("assets/shimx64.efi", &efi),
        ("assets/initrd.img", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("assets/microcode.cpio", b"070701\0\0"),
        ("assets/odd.cpio", b"070701\0"),
        ("assets/page", b"<!DOCTYPE html>\n<title>404 Not Found</title>\n"),
        ("assets/notes", b"some words\n"),
        ("assets/empty", b""),
        ("assets/cd.iso", &iso),
        ("assets/disk.img", &disk),
        ("assets/disk.qcow2", b"QFI\xfb\0\0\0\x03"),
        ("assets/initrd.xz", b"\xfd7zXZ\0\0\x04"),
        ("assets/pxeboot", b"\xea\x05\x00\xc0\x07"),
        ("assets/mboot.c32", &elf(3)),
        ("assets/xen.gz", &gzip(&elf(2))),
        ("assets/uki.efi", &unified(&[".text", ".cmdline", ".linux"])),
        ("assets/plain_uki.efi", &unified(&[".text", ".linux"])),
        ("templates/own.ipxe", b"#!ipxe\necho {{ machine.name }}\nexit\n"),
        ("templates/words.ipxe", b"echo {{ machine.name }}\n"),
        ("templates/undefined.ipxe", b"#!ipxe\necho {{ machine.nmae }}\n"),
        ("answers/plain.cfg", b"d-i netcfg/get_hostname string {{ machine.name }}\n"),
        ("answers/admin.cfg", b"d-i passwd/username string {{ vars.admin }}\n"),
        ("answers/reports.cfg", b"d-i preseed/late_command string wget '{{ report(\"installed\") }}'\n"),
        ("answers/cloud/user-data", b"#cloud-config\nrole: {{ vars.role }}\n"),
        ("answers/cloud/meta-data", b"instance-id: {{ machine.nmae }}\n"),
        ("broken_templates/half.ipxe", b"#!ipxe\n{% if machine %}\n"),
        ("assets/nixos/netboot.ipxe", b"#!ipxe\nkernel bzImage\ninitrd initrd\nboot\n"),
        ("assets/a dir/u.iso", &iso),
        ("field/disks.sh", b"echo ${#disks[@]}\n"),
        ("field/raw/disks.sh", b"echo ${#disks[@]}\n"),
        ("field/apkovl.tar.gz", b"\x1f\x8b\x08\0\xff"),
        ("field/notepad.cfg", b"\xef\xbb\xbfd-i netcfg/get_hostname string {{ machine.name }}\r\n"),
        ("field/users.yaml", b"path: /home/{{ vars.user }}/x\nurl: {{ asset('u.iso') }}\n"),
        ("loaders/undionly.kpxe", b"\xea\x05\x00\xc0\x07"),
        ("loaders/snponly.efi", &efi),
    ];
    files.iter().for_each(|(name, bytes)| put(name, bytes));
    let shim = efi_program(SHIM_SBAT, true);
    put("cut_shim/snponly.efi", &efi_program(IPXE_SBAT, true));
    put("cut_shim/snponly-shimx64.efi", shim.get(..shim.len() - 1).unwrap_or_default());
    put("no_sbat/snponly.efi", &efi_program("", true));
    put("no_sbat/snponly-shimx64.efi", &shim);
    put("grub_2.06/shimx64.efi", &shim);
    put("grub_2.06/grubx64.efi", &efi_program(GRUB_2_06_SBAT, true));
    put("grub_2.06_alone/grubnetx64.efi", &efi_program(GRUB_2_06_SBAT, false));
    let old: Vec<u8> = x86.iter().enumerate().map(|(at, byte)| if at == 0x206 { 5 } else { *byte }).collect();
    put("assets/old/vmlinuz", &old);
    // Its header counts more bytes than there are: 5 sectors and 256 paragraphs of 16 bytes.
    let mut cut = x86;
    cut.splice(0x1f4..0x1f8, 256_u32.to_le_bytes());
    put("assets/cut/vmlinuz", &cut);
    // Without a block of its own on the disk.
    let large = fs::File::create(folder.join("assets/large.img")).expect("created");
    large.set_len(1536 << 20).expect("as long");
    std::os::unix::fs::FileExt::write_all_at(&large, b"\x1f\x8b\x08", 0).expect("written");
}

/// The header of an ELF program of this type, for i386.
fn elf(kind: u8) -> Vec<u8> {
    [b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0", [kind, 0, 3, 0].as_slice(), &[0; 64]].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut packed).expect("in memory");
    packed
}

/// An EFI program with these sections, of which only the names are there.
fn unified(sections: &[&str]) -> Vec<u8> {
    let mut program = image(0x8664, false);
    // Without an optional header the table of sections is at once behind the COFF header.
    program.resize(0x58, 0);
    program.splice(0x46..0x48, u16::try_from(sections.len()).expect("few").to_le_bytes());
    for name in sections {
        let mut header = name.as_bytes().to_vec();
        header.resize(40, 0);
        program.extend(header);
    }
    program
}

/// The header of an EFI program, which a kernel's of x86 is as well.
fn image(machine: u16, is_x86_kernel: bool) -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    bytes.splice(..2, *b"MZ");
    bytes.splice(0x3c..0x3d, [0x40]);
    bytes.splice(0x40..0x46, [b"PE\0\0", &machine.to_le_bytes()[..]].concat());
    if is_x86_kernel {
        bytes.splice(0x1fe..0x208, *b"\x55\xaa\0\0HdrS\x0f\x02");
        bytes.splice(0x22c..0x230, 0x7fff_ffff_u32.to_le_bytes());
        bytes.splice(0x238..0x23c, 2047_u32.to_le_bytes());
    }
    bytes
}
