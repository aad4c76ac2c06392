//! An administrator's ordinary slips: each costs one profile, or nothing, and never the rack.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::symlink,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use netbootd_lab::{Process, Signal, uninterrupted};

use crate::bench::{BOOT_AGENT, Bench, SERVER, SOON, START, daemon, noise};

/// A daemon with a configuration of its own, in place of the bench's.
fn instead(bench: &mut Bench, configuration: &str) -> Result<Process> {
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let path = bench.lab.directory().join("netbootd.toml");
    fs::write(&path, configuration.replace("FOLDER", &bench.lab.directory().display().to_string()))?;
    let mut command = daemon(&bench.server);
    // What the configuration says of the state counts here.
    command.env_remove("NETBOOTD_STATE__URL");
    command.args(["up", "--interface", "eth1", "--config"]).arg(&path);
    let process = Process::spawn("netbootd", &mut command)?;
    process.wait_for_line("waiting on ", START)?;
    Ok(process)
}

fn text(bench: &Bench, path: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&bench.curl(&[], path)?).into_owned())
}

fn metric(bench: &Bench, name: &str) -> Result<Option<f64>> {
    let metrics = text(bench, "/metrics")?;
    Ok(metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()))
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !is_so()? {
        ensure!(began.elapsed() < START, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Twelve profiles that cannot boot, each for another reason, and a good one.
const FAULTY: &str = "assets = \"FOLDER/assets\"\ndefault_profile = \"good\"\n\
    [profiles.good]\nkernel = \"vmlinuz\"\n\
    [profiles.kernel]\nkernel = \"later/vmlinuz\"\n\
    [profiles.initrd]\nkernel = \"vmlinuz\"\ninitrd = [\"gone.img\"]\n\
    [profiles.empty]\nkernel = \"empty\"\n\
    [profiles.page]\nkernel = \"page\"\n\
    [profiles.short]\nkernel = \"short\"\n\
    [profiles.arm]\nkernel = \"arm\"\n\
    [profiles.folder]\nkernel = \"debian\"\n\
    [profiles.outside]\nkernel = \"outside\"\n\
    [profiles.template]\nscript = \"gone.ipxe\"\n\
    [profiles.cmdline]\nkernel = \"vmlinuz\"\ncmdline = \"{{ machine.nmae }}\"\n\
    [profiles.nothing]\ntitle = \"Nothing\"\n\
    [profiles.two]\nkernel = \"vmlinuz\"\niso = \"x.iso\"\n\
    [profiles.image]\niso = \"empty.iso\"\n\
    [profiles.efi]\nefi = \"gone.efi\"\n\
    [[machines]]\nmac = \"52:54:00:00:00:01\"\nprofile = \"debain\"\n";

#[test]
fn the_start_says_whether_what_every_machine_gets_can_boot() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    fs::write(bench.assets.join("arm"), kernel(&[(0x38, b"ARM\x64")]))?;
    fs::write(bench.assets.join("page"), "<!DOCTYPE html><title>404</title>")?;
    for (file, said) in [
        ("arm", "boots profile p: arm"),
        ("page", "boots nothing so far: profile p cannot boot: page is not a kernel: it is a web page"),
        ("gone", "boots nothing so far: profile p cannot boot: there is no file gone"),
    ] {
        let configuration =
            format!("assets = \"FOLDER/assets\"\ndefault_profile = \"p\"\n[profiles.p]\nkernel = \"{file}\"\n");
        let process = instead(&mut bench, &configuration)?;
        ensure!(process.lines().iter().any(|line| line.contains(said)), "{file}: {:#?}", process.lines());
        bench.netbootd = process;
    }
    let process = instead(&mut bench, "")?;
    ensure!(
        process.lines().iter().any(|line| line.contains("boots a menu without profiles: ")),
        "{:#?}",
        process.lines()
    );
    Ok(())
}

#[test]
fn a_faulty_profile_keeps_nobody_else_from_booting_and_boots_when_its_file_comes() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    fs::write(bench.assets.join("empty"), "")?;
    fs::write(bench.assets.join("empty.iso"), "")?;
    fs::write(bench.assets.join("page"), "<!DOCTYPE html><title>404</title>")?;
    fs::write(
        bench.assets.join("short"),
        kernel(&[(0x1f1, b"\x04"), (0x1f4, b"\0\0\x10\0"), (0x202, b"HdrS\x0f\x02")]),
    )?;
    fs::write(bench.assets.join("arm"), kernel(&[(0x38, b"ARM\x64")]))?;
    symlink("/etc/hostname", bench.assets.join("outside"))?;
    let process = instead(&mut bench, FAULTY)?;
    let script = |profile: &str| {
        text(&bench, &format!("/boot.ipxe?mac=52:54:00:12:34:56&arch=x86_64&platform=efi&profile={profile}"))
    };
    ensure!(script("good")?.contains("/assets/vmlinuz"), "{}", script("good")?);
    for (profile, words) in [
        ("kernel", "cannot boot: there is no file later/vmlinuz"),
        ("initrd", "cannot boot: there is no file gone.img"),
        ("empty", "cannot boot: empty is empty"),
        ("page", "cannot boot: page is not a kernel: it is a web page"),
        ("short", "cannot boot: short is cut off: it has 4096 bytes"),
        ("arm", "cannot boot: arm is for arm64, so iPXE cannot start it on this machine (UEFI x86_64)"),
        ("folder", "cannot boot: debian is a folder: name a file"),
        ("outside", "cannot boot: outside leads out of the assets folder"),
        ("template", "there is no file gone.ipxe"),
        ("cmdline", "machine.nmae"),
        ("nothing", "cannot boot: it has no kernel"),
        (
            "two",
            "cannot boot: a profile can have only one of kernel, script, efi, iso, sanboot and disk, but this one has kernel and iso",
        ),
        ("efi", "cannot boot: there is no file gone.efi"),
        ("image", "cannot boot: empty.iso is empty"),
    ] {
        // The words may go on in the next line of the screen.
        let script = script(profile)?.replace("\necho ", " ");
        ensure!(script.contains(" netbootd has no boot for") && script.contains(words), "{profile}: {script}");
    }
    let stray = text(&bench, "/boot.ipxe?mac=52:54:00:00:00:01")?;
    ensure!(
        stray.contains("there is no profile ?debain?") || stray.contains("there is no profile \"debain\""),
        "{stray}"
    );

    ensure!(text(&bench, "/readyz")? == "ready\n");
    let missing = "profile kernel cannot boot: there is no file later/vmlinuz";
    ensure!(
        text(&bench, "/readyz?verbose")?.lines().any(|line| line == missing),
        "{}",
        text(&bench, "/readyz?verbose")?
    );
    let failing = "profile cmdline cannot boot: the profile's template fails: ";
    ensure!(text(&bench, "/readyz?verbose")?.contains(failing), "{}", text(&bench, "/readyz?verbose")?);
    ensure!(metric(&bench, "netbootd_faulty_profile{profile=\"cmdline\"}")? == Some(1.0));
    let page = text(&bench, "/")?.replace("&#x2f;", "/");
    ensure!(page.contains(missing), "the page does not say it: {page}");
    ensure!(
        metric(&bench, "netbootd_faulty_profile{profile=\"kernel\"}")? == Some(1.0),
        "{}",
        text(&bench, "/metrics")?
    );
    let before = metric(&bench, "netbootd_faulty_profiles ")?.context("no metric")?;

    fs::create_dir(bench.assets.join("later"))?;
    fs::write(bench.assets.join("later/vmlinuz"), noise(1000, 3))?;
    ensure!(script("kernel")?.contains("/assets/later/vmlinuz"), "it is served from its first moment on");
    process.wait_for_line("profile kernel can boot now", START)?;
    ensure!(metric(&bench, "netbootd_faulty_profiles ")? == Some(before - 1.0));
    ensure!(!text(&bench, "/readyz?verbose")?.contains(missing));
    fs::remove_file(bench.assets.join("later/vmlinuz"))?;
    process.wait_for_line(missing, START)?;
    Ok(())
}

/// The beginning of a kernel, with these bytes at these places.
fn kernel(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    parts.iter().for_each(|(at, part)| bytes[*at..at + part.len()].copy_from_slice(part));
    bytes
}

#[test]
fn only_faults_of_the_text_itself_stop_a_start() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let path = bench.lab.directory().join("n.toml");
    for refused in [
        "[http\n",
        "asets = \"x\"\n",
        "[http]\nport = \"many\"\n",
        "[[machines]]\nmac = \"52:54:00:00:00:01\"\n[[machines]]\nmac = [\"52-54-00-00-00-01\"]\n",
    ] {
        fs::write(&path, refused)?;
        let mut command = daemon(&bench.server);
        command.args(["up", "--interface", "eth1", "--config"]).arg(&path);
        let status = Process::spawn("netbootd", &mut command)?.wait_exit(START)?;
        ensure!(status.code() == Some(78), "{refused}: {status}");
    }
    for served in [
        "assets = \"/no/such/folder\"\n[profiles.x]\nkernel = \"k\"\n",
        "templates = \"/no/such/folder\"\n",
        "loader_dirs = [\"/no/such/folder\"]\n",
        "default_profile = \"nothing\"\n",
        "interfaces = [\"eth1\", \"eth9\"]\n",
        "[state]\nurl = \"sqlite:///no/such/folder/state.db\"\n",
        "[control]\nsocket = \"/proc/no/such/socket\"\n",
        "[[machines]]\noui = \"b8:27:eb\"\nmenu = [\"nothing\"]\noverride = { loader = \"no/such.efi\" }\n",
    ] {
        fs::write(&path, served)?;
        let mut command = daemon(&bench.server);
        if served.contains("[state]") {
            command.env_remove("NETBOOTD_STATE__URL");
        }
        if served.contains("[control]") {
            command.env_remove("NETBOOTD_CONTROL__SOCKET");
        }
        command.args(["up", "--config"]).arg(&path);
        if !served.contains("interfaces") {
            command.args(["--interface", "eth1"]);
        }
        let process = Process::spawn("netbootd", &mut command)?;
        process.wait_for_line("waiting on eth1", START).context(served)?;
        ensure!(text(&bench, "/boot.ipxe?mac=52:54:00:00:00:01")?.starts_with("#!ipxe"), "{served}");
    }
    Ok(())
}

#[test]
fn a_one_time_profile_is_not_given_while_the_state_cannot_be_read() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    fs::write(bench.lab.directory().join("state.db"), vec![b'x'; 9000])?;
    let once = "assets = \"FOLDER/assets\"\n[state]\nurl = \"sqlite://FOLDER/state.db\"\n\
                [profiles.install]\nkernel = \"vmlinuz\"\n\
                [[machines]]\nmac = \"52:54:00:00:00:01\"\nprofile = \"install\"\nonce = true\n\
                [[machines]]\nmac = \"52:54:00:00:00:02\"\nprofile = \"install\"\n";
    let process = instead(&mut bench, once)?;
    let words = "boots continue without it; one-time profiles are not served";
    ensure!(process.lines().iter().any(|line| line.contains(words)), "{:?}", process.lines());
    let first = text(&bench, "/boot.ipxe?mac=52:54:00:00:00:01")?;
    ensure!(first.contains("it is not known") && !first.contains("/assets/vmlinuz"), "{first}");
    ensure!(text(&bench, "/boot.ipxe?mac=52:54:00:00:00:02")?.contains("/assets/vmlinuz"));
    ensure!(text(&bench, "/readyz?verbose")?.contains("the state cannot be used: "));
    Ok(())
}

/// Its own log in the configuration's folder, and what editors leave there.
fn reads_nothing_again(seconds: u64) -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let folder = bench.lab.directory().to_owned();
    let config = folder.join("netbootd.toml");
    let state = format!("[state]\nurl = \"sqlite://{}/state.db\"\n", folder.display());
    fs::write(&config, &state)?;
    let log = folder.join("netbootd.log");
    let mut command = bench.server.command("sh");
    command.env_remove("NETBOOTD_STATE__URL");
    let program = env!("CARGO_BIN_EXE_netbootd");
    command.arg("-c").arg(format!(
        "exec {program} up --interface eth1 --config {} >{} 2>&1",
        config.display(),
        log.display()
    ));
    let process = Process::spawn("netbootd", &mut command)?;
    until("it does not start", || Ok(fs::read_to_string(&log).unwrap_or_default().contains("waiting on eth1")))?;
    let began = Instant::now();
    let mut round = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        // Each script that is fetched is a line of the log, and a row of the state.
        text(&bench, &format!("/boot.ipxe?mac=52:54:00:00:01:{:02x}", round % 256))?;
        fs::write(folder.join(".netbootd.toml.swp"), round.to_string())?;
        fs::write(folder.join("4913"), "")?;
        fs::remove_file(folder.join("4913"))?;
        fs::write(folder.join("notes.txt"), round.to_string())?;
        round += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    ensure!(metric(&bench, "netbootd_configuration_reads_total ")? == Some(0.0), "{}", fs::read_to_string(&log)?);
    // Written, and the same as before: read, and not said.
    fs::write(&config, &state)?;
    let reads = || -> Result<f64> { Ok(metric(&bench, "netbootd_configuration_reads_total ")?.unwrap_or_default()) };
    until("the file is not watched", || Ok(reads()? > 0.0))?;
    process.signal(Signal::SIGHUP)?;
    until("SIGHUP is not heard", || Ok(reads()? > 1.0))?;
    ensure!(!fs::read_to_string(&log)?.contains("configuration read again"), "{}", fs::read_to_string(&log)?);
    fs::write(&config, format!("{state}[[machines]]\nname = \"one\"\nmac = \"52:54:00:00:00:01\"\n"))?;
    until("a change is not said", || {
        Ok(fs::read_to_string(&log)?.contains("configuration read again: 0 profiles, 1 rules"))
    })
}

#[test]
fn a_log_in_the_configurations_folder_causes_no_reload() -> Result<()> {
    reads_nothing_again(5)
}

#[test]
#[ignore = "it takes a minute: cargo test --test netns -- --ignored a_log_in"]
fn a_log_in_the_configurations_folder_causes_no_reload_for_a_minute() -> Result<()> {
    reads_nothing_again(60)
}

#[test]
fn only_the_files_that_were_named_are_served() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    fs::write(bench.assets.join("diary.txt"), "private")?;
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let mut command = daemon(&bench.server);
    command.env("NETBOOTD_HTTP__LISTING", "true").args(["up", "--interface", "eth1"]);
    command.arg(bench.assets.join("vmlinuz")).arg(bench.assets.join("debian/initrd.img"));
    let process = Process::spawn("netbootd", &mut command)?;
    process.wait_for_line("waiting on eth1", START)?;
    ensure!(
        process.lines().iter().any(|line| line.ends_with("only debian/initrd.img, vmlinuz")),
        "{:?}",
        process.lines()
    );
    ensure!(bench.curl(&["--fail"], "/assets/vmlinuz")? == noise(3_000_000, 1));
    ensure!(bench.curl(&["--fail"], "/assets/debian/initrd.img")? == noise(24_000_001, 2));
    let status = |path: &str| -> Result<String> {
        Ok(String::from_utf8(bench.curl(&["-o", "/dev/null", "-w", "%{http_code}"], path)?)?)
    };
    ensure!(status("/assets/diary.txt")? == "404" && status("/assets/DIARY.TXT")? == "404");
    let listing = text(&bench, "/assets/")?;
    ensure!(listing.contains("vmlinuz") && listing.contains("debian/") && !listing.contains("diary"), "{listing}");
    let tftp = |name: &str| bench.run("atftp", &["--get", "-r", name, "-l", "fetched", "10.77.0.2"]);
    ensure!(tftp("vmlinuz").is_ok() && tftp("diary.txt").is_err());
    Ok(())
}

/// The head of an answer as it is on the wire.
fn raw_head(bench: &Bench, request: &str) -> Result<String> {
    let mut stream = bench.connect(None)?;
    write!(stream, "{request}Host: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = uninterrupted(|| stream.read(&mut piece))?;
        ensure!(count > 0, "no whole head: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..count]);
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    Ok(text.split("\r\n\r\n").next().unwrap_or_default().to_owned())
}

/// GRUB compares the names of headers with their case, and reads an empty file where it does not know them.
#[test]
fn every_answer_has_headers_in_title_case() -> Result<()> {
    // More than the requests below: the server may still be closing the connections of those before.
    let most = 20;
    let limit = most.to_string();
    let Some(bench) = Bench::start_with(&[("NETBOOTD_HTTP__MAX_CONNECTIONS_PER_CLIENT", &limit)])? else {
        return Ok(());
    };
    let etag = raw_head(&bench, "HEAD /assets/vmlinuz HTTP/1.1\r\n")?;
    let etag = etag.lines().find_map(|line| line.strip_prefix("Etag: ")).context("no Etag")?.to_owned();
    let requests = [
        ("200", "GET /assets/vmlinuz HTTP/1.1\r\n".to_owned()),
        ("200", "HEAD /assets/vmlinuz HTTP/1.1\r\n".to_owned()),
        ("200", "GET /boot.ipxe?mac=52:54:00:12:34:56 HTTP/1.1\r\n".to_owned()),
        ("200", "GET /loaders/snponly.efi HTTP/1.1\r\n".to_owned()),
        ("200", "GET /api/v1/machines HTTP/1.1\r\n".to_owned()),
        ("200", "GET /metrics HTTP/1.1\r\n".to_owned()),
        ("200", "GET / HTTP/1.1\r\n".to_owned()),
        ("206", "GET /assets/vmlinuz HTTP/1.1\r\nRange: bytes=5-9\r\n".to_owned()),
        ("304", format!("GET /assets/vmlinuz HTTP/1.1\r\nIf-None-Match: {etag}\r\n")),
        ("404", "GET /assets/nothing HTTP/1.1\r\n".to_owned()),
        ("412", "GET /assets/vmlinuz HTTP/1.1\r\nIf-Match: \"other\"\r\n".to_owned()),
        ("416", "GET /assets/vmlinuz HTTP/1.1\r\nRange: bytes=3000000-\r\n".to_owned()),
        ("416", "GET /assets/vmlinuz HTTP/1.1\r\nRange: bytes=u-u\r\n".to_owned()),
    ];
    let check = |status: &str, request: &str| -> Result<()> {
        let head = raw_head(&bench, request)?;
        ensure!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}{head}");
        for line in head.lines().skip(1) {
            let name = line.split(':').next().unwrap_or_default();
            let is_title = name.split('-').all(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
            ensure!(is_title, "{request}{line}");
        }
        let has_length = head.lines().any(|line| line.starts_with("Content-Length: "));
        ensure!(has_length || ["304", "412"].contains(&status), "{request}{head}");
        Ok(())
    };
    for (status, request) in requests {
        check(status, &request)?;
    }
    // More connections than one client may have.
    let busy: Vec<_> = (0..most).map(|_| bench.connect(None)).collect::<Result<_>>()?;
    until("nobody is turned away", || Ok(raw_head(&bench, "GET / HTTP/1.1\r\n").is_ok_and(|h| h.contains(" 503 "))))?;
    check("503", "GET /assets/vmlinuz HTTP/1.1\r\n")?;
    drop(busy);
    Ok(())
}

#[test]
fn a_range_without_numbers_is_refused_with_its_cause() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let words = bench.curl(&["--header", "Range: bytes=u-u"], "/assets/vmlinuz")?;
    let words = String::from_utf8_lossy(&words).into_owned();
    ensure!(words.contains("another loader is needed") && words.len() < 400, "{words}");
    bench.netbootd.wait_for_line("this build of iPXE cannot read a part of a file", SOON)?;
    // What is no range at all is none (RFC 9110 §14.2).
    for whole in ["Range: bytes=a-b", "Range: lines=1-2", "Range: bytes=9-5"] {
        ensure!(bench.curl(&["--header", whole], "/assets/vmlinuz")?.len() == 3_000_000, "{whole}");
    }
    Ok(())
}

/// By a sandboxed server.
#[test]
fn the_assets_folder_is_followed_when_its_link_is_switched_and_when_it_is_mounted_over() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let folder = bench.lab.directory().join("served");
    for version in ["v1", "v2", "v3"] {
        fs::create_dir_all(folder.join(version))?;
        fs::write(folder.join(version).join("vmlinuz"), version)?;
    }
    symlink("v1", folder.join("current"))?;
    let config = "assets = \"FOLDER/served/current\"\n[profiles.x]\nkernel = \"vmlinuz\"\n";
    let process = instead(&mut bench, config)?;
    ensure!(process.lines().iter().any(|line| line.contains("sandboxed")), "{:?}", process.lines());
    let served = || text(&bench, "/assets/vmlinuz");
    ensure!(served()? == "v1");
    symlink("v2", folder.join("current.new"))?;
    fs::rename(folder.join("current.new"), folder.join("current"))?;
    until("the link is not followed", || Ok(served()? == "v2"))?;
    process.wait_for_line("/served/v2 now, which is served", SOON)?;

    // The server's host has a view of its own of what is mounted, which goes with it.
    let in_its_view = |arguments: &[&std::ffi::OsStr]| -> Result<()> {
        let pid = process.pid().to_string();
        let status = Command::new("nsenter").args(["--mount", "--target", &pid]).args(arguments).status()?;
        ensure!(status.success(), "{arguments:?}: {status}");
        Ok(())
    };
    let (from, onto) = (folder.join("v3"), folder.join("v2"));
    in_its_view(&["mount".as_ref(), "--bind".as_ref(), from.as_ref(), onto.as_ref()])?;
    process.signal(Signal::SIGHUP)?;
    until("what is mounted over it is not served", || Ok(served()? == "v3"))?;
    in_its_view(&["umount".as_ref(), "--lazy".as_ref(), onto.as_ref()])?;
    until("the folder below it is not served again", || Ok(served()? == "v2"))
}

/// An automount waits for a server that does not answer, and with it every program that looks below it.
#[test]
fn a_share_that_does_not_answer_makes_nobody_else_wait() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let share = bench.assets.join("share");
    fs::create_dir(&share)?;
    let config = "assets = \"FOLDER/assets\"\ndefault_profile = \"here\"\n[profiles.here]\nkernel = \"vmlinuz\"\n\
        [profiles.there]\nkernel = \"share/vmlinuz\"\n\
        [[machines]]\nmac = \"52:54:00:00:00:01\"\nprofile = \"there\"\n";
    let process = instead(&mut bench, config)?;
    let mount = "mkfifo \"$1\" && exec 3<>\"$1\" && mount --internal-only --types autofs \
        --options fd=3,pgrp=$$,minproto=5,maxproto=5,indirect none \"$2\" && echo mounted && exec sleep 600";
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--target", &process.pid().to_string(), "sh", "-c", mount, "sh"]);
    let automount = Process::spawn("automount", command.arg(bench.lab.directory().join("pipe")).arg(&share))?;
    automount.wait_for_line("mounted", SOON)?;

    let paths = ["/assets/share/vmlinuz", "/assets/share/x/y.iso/vmlinuz", "/boot.ipxe?mac=52:54:00:00:00:01"];
    // More of each than there are threads that serve.
    let mut waiting = Vec::new();
    for path in paths.repeat(8) {
        let mut command = bench.client.command("curl");
        let url = format!("http://{SERVER}:8080{path}");
        command.args(["--verbose", "--max-time", "60", "--user-agent", BOOT_AGENT, &url]);
        let client = Process::spawn("curl", &mut command)?;
        client.wait_for_line("> GET ", SOON)?;
        waiting.push(client);
    }
    for path in ["/healthz", "/assets/vmlinuz", "/boot.ipxe?mac=52:54:00:00:00:02", "/loaders/snponly.efi"].repeat(8) {
        bench.curl(&["--fail", "--max-time", "5"], path)?;
    }
    let answers = waiting.iter().flat_map(Process::lines).filter(|line| line.starts_with("< HTTP/"));
    ensure!(answers.count() == 0, "what is on the share is answered, so nothing was waited for");
    Ok(())
}
