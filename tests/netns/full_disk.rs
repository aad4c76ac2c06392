//! A state whose disk is full to the last byte: boots do not need it.

use std::{net::Ipv4Addr, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Process, Signal, SmallDisk};

use crate::{
    bench::{Bench, SERVER, SOON, START, daemon, file},
    control::{said, tell},
    dhcp::{DISCOVER, OFFER, PXE_REPLY, UEFI, next, of_machine, reply, request},
    field::until,
    tftp::Client,
};

/// A card of its own for each, as [`of_machine`] makes it.
fn mac(number: u32) -> String {
    format!("52:54:00:00:00:{number:02x}")
}

fn script(bench: &Bench, number: u32) -> Result<String> {
    Ok(String::from_utf8(bench.curl(&[], &format!("/boot.ipxe?mac={}&arch=x86_64&platform=efi", mac(number)))?)?)
}

/// Whether it is sent to the shell, which no rule does.
fn is_assigned(bench: &Bench, number: u32) -> Result<bool> {
    let script = script(bench, number)?;
    Ok(script.contains("\nshell\n") && !script.contains("\nkernel "))
}

/// Offer, loader, script, kernel and initrd.
fn boots(bench: &Bench, number: u32) -> Result<()> {
    let socket = bench.client_socket(68)?;
    socket.send_to(&of_machine(number, request(DISCOVER, number, UEFI)), (Ipv4Addr::BROADCAST, 67))?;
    let expected = of_machine(number, reply(OFFER, number, "snponly.efi", PXE_REPLY));
    ensure!(next(&socket)?.0 == expected, "{} gets no offer", mac(number));
    bench.run("atftp", &["--get", "--remote-file", "snponly.efi", "--local-file", "l", &SERVER.to_string()])?;
    ensure!(file(bench.lab.directory().join("l"))? == file("/usr/lib/ipxe/snponly.efi")?, "the loader differs");
    let script = script(bench, number)?;
    ensure!(script.contains("boots profile command-line"), "{script}");
    for asset in ["vmlinuz", "debian/initrd.img"] {
        // As the script names it: several machines boot from this address.
        let named = script.split(' ').find(|word| word.starts_with("http://") && word.ends_with(asset));
        let named = named.with_context(|| script.clone())?.trim_start_matches("http://10.77.0.2:8080");
        let got = bench.curl(&[], named)?;
        ensure!(got == file(bench.assets.join(asset))?, "{asset} differs");
    }
    bench.netbootd.wait_for_line(&format!("{} handed_over", mac(number)), SOON)?;
    Ok(())
}

/// Until its one boot is over, which is told a moment after the last byte.
fn goes_to_its_disk(bench: &Bench, number: u32) -> Result<()> {
    for _ in 0..100 {
        if script(bench, number)?.contains("boots from its local disk") {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("{} is served again", mac(number))
}

/// On a thread that has mounts of its own, and ends with them.
fn apart(test: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    thread::scope(|scope| scope.spawn(test).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

const UNWRITTEN: &str = "the state cannot be written";

#[test]
fn boots_go_on_while_the_disk_is_full_and_what_they_taught_is_kept_when_it_is_not() -> Result<()> {
    apart(|| {
        let folder = tempfile::tempdir()?;
        let state = format!("sqlite://{}/state.db", folder.path().display());
        let rules = format!("[[machines]]\nmac = [\"{}\", \"{}\"]\nonce = true\n", mac(7), mac(8));
        let mut disk = None;
        let bench = Bench::prepared(&["eth1"], &[("NETBOOTD_STATE__URL", &state)], &rules, |_, _| {
            disk = Some(SmallDisk::mount(folder.path(), 1024)?);
            Ok(())
        })?;
        let (Some(mut bench), Some(disk)) = (bench, disk) else { return Ok(()) };
        ensure!(tell(&bench.server, &["assign", &mac(1), "shell"])?.status.success(), "it is not assigned");
        boots(&bench, 7)?;
        goes_to_its_disk(&bench, 7)?;
        disk.fill()?;

        for number in 10..14 {
            boots(&bench, number)?;
        }
        // The log of SQLite may have room that it was given before: it is used up first.
        let mut is_full = false;
        for number in 20..120 {
            is_full = !tell(&bench.server, &["assign", &mac(number), "shell"])?.status.success();
            if is_full {
                break;
            }
        }
        ensure!(is_full, "a hundred assignments found room on a full disk");
        for words in [&["assign", &mac(2), "shell"][..], &["unassign", &mac(1)], &["approve", &mac(2)]] {
            let refused = tell(&bench.server, words)?;
            ensure!(refused.status.code() == Some(69), "{words:?}: {}", said(&refused));
            let reason = "netbootd: the state could not be written, so nothing was changed: ";
            ensure!(said(&refused).starts_with(reason) && said(&refused).contains("full"), "{}", said(&refused));
        }
        ensure!(is_assigned(&bench, 1)? && !is_assigned(&bench, 2)?, "it was changed");
        // Its boot would be forgotten by a restart, and its disk wiped again.
        let refused = script(&bench, 8)?.replace("\necho ", " ");
        ensure!(!refused.contains("\nkernel ") && refused.contains("boots once, and it is not known"), "{refused}");
        let ready = String::from_utf8(bench.curl(&[], "/readyz?verbose")?)?;
        ensure!(ready.contains("it cannot be written, so this boot could be forgotten"), "{ready}");
        goes_to_its_disk(&bench, 7)?;
        let told = bench.netbootd.lines().iter().filter(|line| line.contains(UNWRITTEN)).count();
        ensure!(told == 1, "it is told {told} times");

        disk.free()?;
        bench.netbootd.wait_for_line("the state can be written again", SOON)?;
        boots(&bench, 8)?;
        goes_to_its_disk(&bench, 8)?;
        ensure!(
            tell(&bench.server, &["assign", &mac(2), "shell"])?.status.success(),
            "there is space, and it is refused"
        );
        bench.netbootd.signal(Signal::SIGKILL)?;
        bench.netbootd.wait_exit(SOON)?;
        bench.netbootd = bench.again()?;
        ensure!(is_assigned(&bench, 1)? && is_assigned(&bench, 2)?, "it is forgotten");
        for number in 7..9 {
            ensure!(script(&bench, number)?.contains("boots from its local disk"), "{} starts over", mac(number));
        }
        Ok(())
    })
}

/// After an orderly stop, which leaves one file, and after a kill, which leaves what was acknowledged in two more.
#[test]
fn a_server_starts_on_a_full_disk_with_all_that_it_was_told() -> Result<()> {
    apart(|| {
        let folder = tempfile::tempdir()?;
        let state = format!("sqlite://{}/state.db", folder.path().display());
        let mut disk = None;
        let bench = Bench::prepared(&["eth1"], &[("NETBOOTD_STATE__URL", &state)], "", |_, _| {
            disk = Some(SmallDisk::mount(folder.path(), 512)?);
            Ok(())
        })?;
        let (Some(mut bench), Some(disk)) = (bench, disk) else { return Ok(()) };
        for (number, end) in [(1, Signal::SIGKILL), (2, Signal::SIGTERM)] {
            ensure!(tell(&bench.server, &["assign", &mac(number), "shell"])?.status.success(), "it is not assigned");
            bench.netbootd.signal(end)?;
            bench.netbootd.wait_exit(START)?;
            disk.fill()?;
            bench.netbootd = bench.again()?;
            ensure!(is_assigned(&bench, number)?, "{end}: it is forgotten: {:#?}", bench.netbootd.lines());
            boots(&bench, 10 + number)?;
            // There may be room in SQLite's own files for some more.
            let assigned = || tell(&bench.server, &["assign", &mac(3), "shell"]);
            let mut last = assigned()?;
            for _ in 0..300 {
                if !last.status.success() {
                    break;
                }
                last = assigned()?;
            }
            ensure!(last.status.code() == Some(69), "{end}: {}", said(&last));
            disk.free()?;
        }
        let assigned = tell(&bench.server, &["assign", &mac(3), "shell"])?;
        ensure!(assigned.status.success(), "there is space again, and it is refused: {}", said(&assigned));

        // One that was never there: boots go on, and nothing is given once, since that could not be written down.
        bench.netbootd.signal(Signal::SIGTERM)?;
        bench.netbootd.wait_exit(START)?;
        disk.fill()?;
        let other = format!("sqlite://{}/other.db", folder.path().display());
        let mut up = daemon(&bench.server);
        up.args(["up", "--interface", "eth1"]).env("NETBOOTD_STATE__URL", &other);
        let without = Process::spawn("netbootd", &mut up)?;
        without.wait_for_line(
            "one-time profiles are not served, since it is not known which machines booted them",
            START,
        )?;
        without.wait_for_line("waiting on eth1", START)?;
        Ok(())
    })
}

/// A restart would forget that a machine had it, by whatever program it booted.
#[test]
fn a_one_time_profile_by_pxelinux_cfg_waits_until_it_is_kept() -> Result<()> {
    for over in [Over::Tftp, Over::Http] {
        let folder = tempfile::tempdir()?;
        let state = format!("sqlite://{}/state.db", folder.path().display());
        let rules = format!("[[machines]]\nmac = [\"{}\"]\nonce = true\n", mac(7));
        let rules = format!("{rules}[[machines]]\nmac = [\"{}\"]\nonce = true\n", mac(8));
        let bench = Bench::prepared(&["eth1"], &[("NETBOOTD_STATE__URL", &state)], &rules, |_, _| Ok(()))?;
        let Some(bench) = bench else { return Ok(()) };
        let file = |number: u32| -> Result<String> {
            let name = format!("pxelinux.cfg/01-{}", mac(number).replace(':', "-"));
            let bytes = match over {
                Over::Http => bench.curl(&[], &format!("/{name}"))?,
                Over::Tftp => {
                    let client = Client { socket: bench.client_socket(0)? };
                    let (first, from) = client.read(format!("\0\x01{name}\0octet\0").as_bytes())?;
                    client.rest(first, from, 512)?
                }
            };
            Ok(String::from_utf8(bytes)?)
        };
        ensure!(file(7)?.contains("vmlinuz"), "{over:?}: it is kept, and not given");
        limit_files(&bench, "1")?;
        // Nobody knows yet that the state cannot be written.
        let refused = file(8)?.replace("\nsay ", " ");
        ensure!(
            !refused.contains("vmlinuz") && refused.contains("boots once, and it is not known"),
            "{over:?}: {refused}"
        );
        limit_files(&bench, "unlimited")?;
        until("it is given", || Ok(file(8)?.contains("vmlinuz"))).with_context(|| format!("{over:?}"))?;
    }
    Ok(())
}

/// Limits what netbootd may write into one file from now on, in bytes.
fn limit_files(bench: &Bench, bytes: &str) -> Result<()> {
    let process = format!("--pid={}", bench.netbootd.pid());
    let status = Command::new("prlimit").args([&process, &format!("--fsize={bytes}:unlimited")]).status()?;
    ensure!(status.success(), "prlimit: {status}");
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Over {
    Tftp,
    Http,
}

/// As `LimitFSIZE` sets it. The signal that such a write raises ended the server.
#[test]
fn a_limit_on_the_size_of_files_ends_no_boot() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let state = format!("sqlite://{}/state.db", folder.path().display());
    let bench = Bench::prepared(&["eth1"], &[("NETBOOTD_STATE__URL", &state)], "", |_, _| Ok(()))?;
    let Some(bench) = bench else { return Ok(()) };
    let assign = || tell(&bench.server, &["assign", &mac(1), "shell"]);
    limit_files(&bench, "1")?;
    let refused = assign()?;
    ensure!(refused.status.code() == Some(69), "{}", said(&refused));
    boots(&bench, 11)?;
    limit_files(&bench, "unlimited")?;
    let assigned = assign()?;
    ensure!(assigned.status.success(), "there is room again, and it is refused: {}", said(&assigned));
    ensure!(is_assigned(&bench, 1)?, "it is forgotten");
    Ok(())
}
