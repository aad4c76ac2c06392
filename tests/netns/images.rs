//! Images as folders of a running server: the requests of loaders, images that come while it runs, and those that are
//! replaced while they are sent.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Tool, required};

use crate::{
    bench::{Bench, SERVER, SMALL, SOON, noise},
    field::until,
};

const XORRISO: &[Tool] = &[Tool::new("xorriso", "xorriso")];

/// An image with these files. `plain`: with upper-case names alone, as VMware's images have them.
fn image(path: &Path, plain: bool, files: &[(&str, &[u8])]) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    for (name, content) in files {
        let file = scratch.path().join(name);
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(file, content)?;
    }
    let kind: &[&str] = if plain { &["-iso-level", "1", "--norock"] } else { &["-r", "-J", "-joliet-long"] };
    let mut xorriso = Command::new("xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-V", "MADE"]).args(kind).arg("-o").arg(path).arg(scratch.path());
    let made = xorriso.stdin(Stdio::null()).output()?;
    ensure!(made.status.success(), "xorriso: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

const MAC: &str = "52:54:00:12:34:56";

fn script(bench: &Bench, query: &str) -> Result<String> {
    Ok(String::from_utf8(bench.curl(&[], &format!("/boot.ipxe?mac={MAC}{query}"))?)?)
}

/// What mboot.efi asks for (github.com/vmware/esx-boot): boot.cfg, then each file's size by HEAD and the file by GET, by
/// the names in boot.cfg below its prefix, in their case there. The image has other ones.
#[test]
fn the_loader_of_esxi_finds_every_file_of_its_image() -> Result<()> {
    let Some(()) = required(&[XORRISO]) else { return Ok(()) };
    let configuration = "[profiles.esxi]\niso = \"VMware ESXi 8.iso\"\ncmdline = \"systemMediaSize=min\"\n";
    let modules: [(&str, Vec<u8>); 3] =
        [("b.b00", noise(300_001, 5)), ("jumpstrt.gz", noise(70_000, 6)), ("s.v00", noise(2_000_003, 7))];
    let made = modules.clone();
    let bench = Bench::prepared(&["eth1"], &[], configuration, |lab, _| {
        let cfg = b"bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix=\nkernel=/b.b00\nkernelopt=runweasel cdromBoot\n\
                    modules=/jumpstrt.gz --- /s.v00\nbuild=8.0.2-0.0.22380479\nupdated=0\n";
        let [kernel, first, second] = made.each_ref().map(|(name, content)| (*name, content.as_slice()));
        let files: [(&str, &[u8]); 7] = [
            kernel,
            first,
            second,
            ("boot.cfg", cfg),
            ("mboot.c32", b"for a BIOS"),
            ("efi/boot/bootx64.efi", b"for UEFI"),
            ("efi/boot/boot.cfg", cfg),
        ];
        image(&lab.directory().join("assets/VMware ESXi 8.iso"), true, &files)
    })?;
    let Some(bench) = bench else { return Ok(()) };
    let tree = "/assets/VMware-ESXi-8.iso";
    let url = format!("http://10.77.0.2:8080{tree}");
    let uefi = script(&bench, "&arch=x86_64&platform=efi&profile=esxi")?;
    let line = format!(
        "chain {url}/EFI/BOOT/BOOTX64.EFI -c {url}/.netbootd/x86_64/boot.cfg systemMediaSize=min || goto failed\n"
    );
    ensure!(uefi.contains(&line), "{uefi}");
    let bios = script(&bench, "&arch=i386&platform=pcbios&profile=esxi")?;
    let line = format!("kernel {url}/MBOOT.C32 -c {url}/.netbootd/i386/boot.cfg systemMediaSize=min || goto failed\n");
    ensure!(bios.contains(&line), "{bios}");

    let expected = format!(
        "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nprefix={url}/\nkernel=b.b00\nkernelopt=runweasel\n\
         modules=jumpstrt.gz --- s.v00\nbuild=8.0.2-0.0.22380479\nupdated=0\n"
    );
    for arch in ["x86_64", "i386"] {
        let path = format!("{tree}/.netbootd/{arch}/boot.cfg");
        ensure!(bench.curl(&[], &path)? == expected.as_bytes(), "{}", String::from_utf8(bench.curl(&[], &path)?)?);
        let head = String::from_utf8(bench.curl(&["--head"], &path)?)?.to_lowercase();
        ensure!(head.contains(&format!("content-length: {}\r\n", expected.len())), "{head}");
    }
    for (name, content) in &modules {
        let path = format!("{tree}/{name}");
        let head = String::from_utf8(bench.curl(&["--head"], &path)?)?.to_lowercase();
        ensure!(head.contains(&format!("content-length: {}\r\n", content.len())), "{name}: {head}");
        ensure!(bench.curl(&[], &path)? == *content, "{name}");
    }
    ensure!(bench.curl(&[], &format!("{tree}/efi/boot/bootx64.efi"))? == b"for UEFI");
    bench.netbootd.wait_for_line("VMware-ESXi-8.iso/.netbootd/x86_64/boot.cfg", SOON)?;
    for path in [".netbootd/arm64/boot.cfg", ".netbootd/boot.cfg", ".netbootd/x86_64/initrd.img"] {
        let status = bench.curl(&["-o", "/dev/null", "-w", "%{http_code}"], &format!("{tree}/{path}"))?;
        ensure!(status == b"404", "{path}: {}", String::from_utf8_lossy(&status));
    }
    Ok(())
}

const LIVE: [(&str, &[u8]); 2] = [("live/vmlinuz", b"kernel"), ("live/initrd.img", b"initrd")];

fn live(path: &Path, title: &str, squashfs: &[u8]) -> Result<()> {
    let [kernel, initrd] = LIVE;
    image(path, false, &[kernel, initrd, (".disk/info", title.as_bytes()), ("live/filesystem.squashfs", squashfs)])
}

/// Half of an image is no entry of the menu; the menu has it when the rest is there.
#[test]
fn an_image_that_is_copied_in_is_in_the_menu_when_all_of_it_is_there() -> Result<()> {
    let Some(()) = required(&[XORRISO]) else { return Ok(()) };
    let configuration = "isos = \"isos/**/*.iso\"\n";
    let prepared = Bench::prepared(&["eth1"], &[], configuration, |lab, _| {
        Ok(fs::create_dir_all(lab.directory().join("assets/isos"))?)
    })?;
    let Some(bench) = prepared else { return Ok(()) };
    let menu = || script(&bench, "&arch=x86_64&platform=efi&profile=menu");
    let source = bench.lab.directory().join("source.iso");
    live(&source, "Debian GNU/Linux 12.5 \"Bookworm\" - lab amd64", &noise(2_000_000, 9))?;
    let whole = fs::read(&source)?;
    ensure!(!menu()?.contains("Debian GNU/Linux 12.5"), "{}", menu()?);

    // As cp does it, and stops half way for a while.
    let mut file = fs::File::create(bench.assets.join("isos/Déb ian (12).iso"))?;
    let (first, rest) = whole.split_at(1_000_000);
    file.write_all(first)?;
    bench.netbootd.wait_for_line("isos/Déb ian (12).iso is not whole: it is still copied, or cut short", SOON)?;
    ensure!(!menu()?.contains("Debian GNU/Linux 12.5"), "half of an image is in the menu: {}", menu()?);
    file.write_all(rest)?;
    drop(file);
    bench.netbootd.wait_for_line("configuration read again: 2 profiles", SOON)?;
    let menu = menu()?;
    ensure!(menu.contains(" Debian GNU/Linux 12.5\n"), "{menu}");
    let item = menu.lines().find_map(|line| line.strip_suffix(" Debian GNU/Linux 12.5")).context("an item")?;
    let name = item.trim_start_matches("item profile_");
    let text = script(&bench, &format!("&arch=x86_64&platform=efi&profile={name}"))?;
    let url = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix("fetch=http://10.77.0.2:8080"))
        .context(text.clone())?;
    ensure!(bench.curl(&[], url)? == noise(2_000_000, 9), "{url}");
    Ok(())
}

/// What a machine's firmware maps, by QEMU's tables for 512 MiB, is less than the image needs: its screen, its timeline, the API
/// and the page say so. What is not known is not said.
#[test]
fn a_machine_with_too_little_memory_is_warned_about() -> Result<()> {
    let Some(()) = required(&[XORRISO]) else { return Ok(()) };
    let prepared = Bench::prepared(&["eth1"], &[], "isos = \"isos/*.iso\"\n", |lab, _| {
        let folder = lab.directory().join("assets/isos");
        fs::create_dir_all(&folder)?;
        image(&folder.join("mx.iso"), false, &[("antiX/linuxfs", b"x")])?;
        live(&folder.join("x.iso"), "Debian GNU/Linux 12.5 \"Bookworm\" - lab amd64", b"hsqs")
    })?;
    let Some(bench) = prepared else { return Ok(()) };
    let words =
        "it has 512 MiB of memory, and needs 1025 MiB: the file system of the live system is loaded into memory";
    let silent = script(&bench, "&arch=x86_64&platform=efi&profile=x&memory=&mapped=---")?;
    ensure!(!silent.contains("MiB"), "{silent}");
    let text = script(&bench, "&arch=x86_64&platform=efi&profile=x&memory=&mapped=00000000ffff0700---")?;
    let echo = "\necho netbootd: it has 512 MiB of memory, and needs 1025 MiB: the file system of the\n\
                echo live system is loaded into memory\n";
    ensure!(text.contains(echo), "{text}");
    bench.netbootd.wait_for_line(&format!("{MAC} script       {words}"), SOON)?;

    fs::write(
        bench.lab.directory().join("netbootd.toml"),
        format!("isos = \"isos/*.iso\"\n[[machines]]\nmac = \"{MAC}\"\nprofile = \"x\"\n"),
    )?;
    bench.netbootd.wait_for_line("configuration read again: ", SOON)?;
    let on_server = |path: &str| -> Result<String> {
        let url = format!("http://{SERVER}:8080{path}");
        let output = bench.server.command("curl").args(["-sS", "--max-time", "20", &url]).output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    let machines: serde_json::Value = serde_json::from_str(&on_server("/api/v1/machines")?)?;
    ensure!(machines[0]["lacks_memory"] == words && machines[0]["hardware"]["memory_mib"] == 512, "{machines:#}");
    let page = on_server("/")?;
    for text in [
        format!("<p class=\"lacks\">Too little memory: {words}</p>"),
        "<summary>2 images</summary>".into(),
        "isos&#x2f;mx.iso: MADE (antiX or MX Linux), not booted: its initial RAM disk does not support HTTP".into(),
        "instead: export the unpacked image by NFS".into(),
        "needs a machine with 1025 MiB of memory: the file system of the live system is loaded into memory".into(),
    ] {
        ensure!(page.contains(&text), "{text} is not in\n{page}");
    }
    Ok(())
}

/// Who has begun gets the old image to its end; who asks next gets the new one, its files and its menu.
#[test]
fn an_image_that_is_replaced_while_it_is_sent_is_never_mixed() -> Result<()> {
    let Some(()) = required(&[XORRISO]) else { return Ok(()) };
    let (old, new) = (noise(24_000_000, 11), noise(23_000_000, 12));
    let first = old.clone();
    let prepared = Bench::prepared(&["eth1"], &[], "isos = \"isos/*.iso\"\n", |lab, _| {
        let folder = lab.directory().join("assets/isos");
        fs::create_dir_all(&folder)?;
        live(&folder.join("x.iso"), "Debian GNU/Linux 12.5 \"Bookworm\" - lab amd64", &first)
    })?;
    let Some(bench) = prepared else { return Ok(()) };
    let path = "/assets/isos/x.iso/live/filesystem.squashfs";
    let mut begun = bench.get(path, Some(SMALL))?;
    let mut got = vec![0; 1_000_000];
    begun.read_exact(&mut got)?;

    let next = bench.lab.directory().join("next.iso");
    live(&next, "Debian GNU/Linux 13.1 \"Trixie\" - lab amd64", &new)?;
    fs::rename(&next, bench.assets.join("isos/x.iso"))?;
    ensure!(bench.curl(&[], path)? == new, "the new image is not served");
    bench.netbootd.wait_for_line("configuration read again: ", SOON)?;
    let menu = script(&bench, "&arch=x86_64&platform=efi&profile=menu")?;
    ensure!(menu.contains(" Debian GNU/Linux 13.1\n"), "{menu}");
    let mut rest = vec![0; old.len() - got.len()];
    begun.read_exact(&mut rest)?;
    got.extend(rest);
    ensure!(got == old, "the old image was not sent to its end");
    Ok(())
}

/// A copy under a hidden name that is then renamed, as rsync does it; another image in its place; no image; and no folder.
#[test]
fn the_menu_follows_what_is_renamed_replaced_and_removed() -> Result<()> {
    let Some(()) = required(&[XORRISO]) else { return Ok(()) };
    let prepared = Bench::prepared(&["eth1"], &[], "isos = \"isos/**/*.iso\"\n", |lab, _| {
        Ok(fs::create_dir_all(lab.directory().join("assets/isos/sub"))?)
    })?;
    let Some(bench) = prepared else { return Ok(()) };
    let menu = || script(&bench, "&arch=x86_64&platform=efi&profile=menu");
    let shows = |wanted: &str| until(wanted, || Ok(menu()?.contains(wanted)));
    let made = |title: &str| -> Result<Vec<u8>> {
        let path = bench.lab.directory().join("made.iso");
        live(&path, title, &noise(300_000, 3))?;
        Ok(fs::read(path)?)
    };
    let (old, new) = (made("Debian GNU/Linux 12.5 - lab amd64")?, made("Debian GNU/Linux 13.1 - lab amd64")?);
    let sub = bench.assets.join("isos/sub");
    let (hidden, named) = (sub.join(".x.iso.Ab12Cd"), sub.join("x.iso"));
    fs::write(&hidden, &old)?;
    ensure!(!menu()?.contains("12.5"), "a hidden file is in the menu: {}", menu()?);
    fs::rename(&hidden, &named)?;
    shows("item profile_x Debian GNU/Linux 12.5\n")?;
    ensure!(menu()?.contains("\nmenu -- sub: "), "{}", menu()?);
    fs::write(&hidden, &new)?;
    fs::rename(&hidden, &named)?;
    shows("item profile_x Debian GNU/Linux 13.1\n")?;
    fs::remove_dir_all(&sub)?;
    until("an empty menu", || Ok(!menu()?.contains("Debian")))?;
    fs::create_dir(&sub)?;
    fs::write(&named, &old)?;
    shows("item profile_x Debian GNU/Linux 12.5\n")?;
    let lines = bench.netbootd.lines();
    ensure!(!lines.iter().any(|line| line.contains("notify")), "{lines:#?}");
    Ok(())
}
