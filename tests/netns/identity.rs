//! Which machine it is, and when its one-time profile is used up: what wipes a disk when it goes wrong.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{
    bench::{Bench, SERVER, SOON, noise},
    control::{said, tell},
};

const A: &str = "52:54:00:00:00:0a";
const B: &str = "52:54:00:00:00:0b";
const U1: &str = "4c4c4544-0042-3510-8052-b4c04f564e31";
const U2: &str = "4c4c4544-0042-3510-8052-b4c04f564e32";
/// [`U1`] with its first three fields turned round, as some firmware and labels have it.
const U1_TURNED: &str = "44454c4c-4200-1035-8052-b4c04f564e31";

/// What an iPXE asks that boots from a card.
fn script(bench: &Bench, mac: &str, uuid: &str) -> Result<String> {
    let path = format!("/boot.ipxe?mac={mac}&uuid={uuid}&arch=x86_64&platform=efi");
    Ok(String::from_utf8(bench.curl(&[], &path)?)?)
}

fn is_installer(script: &str) -> bool {
    script.contains("boots profile ")
}

fn is_disk(script: &str) -> bool {
    script.contains("local disk") && !script.contains("\nkernel ")
}

/// Fetches every file that a script names, as it names it.
fn fetch_all(bench: &Bench, script: &str) -> Result<()> {
    let urls: Vec<&str> = script
        .lines()
        .filter(|line| line.starts_with("kernel ") || line.starts_with("initrd "))
        .filter_map(|line| line.split(' ').find(|word| word.starts_with("http://")))
        .collect();
    ensure!(!urls.is_empty(), "{script}");
    for url in urls {
        let path = url.strip_prefix("http://10.77.0.2:8080").with_context(|| url.to_owned())?;
        bench.curl(&["-o", "/dev/null"], path)?;
    }
    Ok(())
}

/// A whole boot by a card, up to its hand-over.
fn boots(bench: &Bench, mac: &str, uuid: &str) -> Result<()> {
    let script = script(bench, mac, uuid)?;
    ensure!(is_installer(&script), "{mac} {uuid} does not get its profile: {script}");
    let before = handed_over(bench);
    fetch_all(bench, &script)?;
    for _ in 0..200 {
        if handed_over(bench) > before {
            // What it uses up is noted a moment after it was told.
            std::thread::sleep(Duration::from_millis(100));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("{mac} is not handed over: {:#?}", bench.netbootd.lines())
}

fn handed_over(bench: &Bench) -> usize {
    bench.netbootd.lines().iter().filter(|line| line.contains(" handed_over ")).count()
}

/// Long enough for anything that would be told of what was fetched.
fn settle() {
    std::thread::sleep(Duration::from_millis(1500));
}

#[test]
fn a_machine_with_two_cards_installs_once() -> Result<()> {
    let rule = format!("[[machines]]\nname = \"n\"\nmac = [\"{A}\", \"{B}\"]\nonce = true\n");
    let Some(bench) = Bench::with_configuration(&rule)? else { return Ok(()) };
    boots(&bench, A, U1)?;
    for (mac, uuid) in [(B, U1), (A, U1), (B, "")] {
        let next = script(&bench, mac, uuid)?;
        ensure!(is_disk(&next), "it is installed again by {mac}: {next}");
    }
    Ok(())
}

/// A new name makes another profile of it: the machine is installed again.
#[test]
fn a_renamed_profile_is_warned_of_before_it_installs_a_machine_again() -> Result<()> {
    let configuration = |profile: &str| {
        format!(
            "[profiles.{profile}]\nkernel = \"vmlinuz\"\n\
             [[machines]]\nname = \"n\"\nmac = \"{A}\"\nprofile = \"{profile}\"\nonce = true\n"
        )
    };
    let Some(bench) = Bench::with_configuration(&configuration("debian"))? else { return Ok(()) };
    boots(&bench, A, U1)?;
    fs::write(bench.lab.directory().join("netbootd.toml"), configuration("debian12"))?;
    let line = "n already booted debian (one-time), and gets debian12 (one-time) at the next boot; to keep it on its disk: \
                netbootd assign n local";
    bench.netbootd.wait_for_line(line, SOON)?;
    ensure!(is_installer(&script(&bench, A, U1)?), "it is as the documents say");
    ensure!(tell(&bench.server, &["assign", "n", "local"])?.status.success());
    ensure!(is_disk(&script(&bench, A, U1)?), "the fix that was named");
    Ok(())
}

/// A machine is put in between: its rule has the name that another one had.
#[test]
fn a_machine_that_was_installed_is_not_installed_again_when_machines_are_renumbered() -> Result<()> {
    let rule = |name: &str, mac: &str| format!("[[machines]]\nname = \"{name}\"\nmac = \"{mac}\"\nonce = true\n");
    let Some(mut bench) = Bench::with_configuration(&rule("k08", A))? else { return Ok(()) };
    boots(&bench, A, U1)?;
    fs::write(bench.lab.directory().join("netbootd.toml"), rule("k08", B) + &rule("k09", A))?;
    bench.netbootd.wait_for_line("configuration read again", SOON)?;
    ensure!(is_disk(&script(&bench, A, U1)?), "it is installed again under its new name");
    let renewed = tell(&bench.server, &["once", "k08"])?;
    ensure!(renewed.status.success(), "{}", said(&renewed));
    ensure!(is_disk(&script(&bench, A, U1)?), "it is installed again with the new one");
    boots(&bench, B, U2)?;
    bench.netbootd.signal(netbootd_lab::Signal::SIGKILL)?;
    bench.netbootd.wait_exit(SOON)?;
    bench.netbootd = bench.again()?;
    ensure!(is_disk(&script(&bench, A, U1)?) && is_disk(&script(&bench, B, U2)?), "one is installed again");
    Ok(())
}

#[test]
fn a_machine_without_a_rule_of_its_own_is_known_by_its_uuid_in_either_byte_order() -> Result<()> {
    let Some(bench) = Bench::with_configuration("[[machines]]\noui = \"52:54:00\"\nonce = true\n")? else {
        return Ok(());
    };
    boots(&bench, A, U1)?;
    ensure!(is_disk(&script(&bench, B, U1)?), "it is installed again by its other card");
    ensure!(is_disk(&script(&bench, B, U1_TURNED)?), "it is installed again in the other byte order");
    ensure!(is_disk(&script(&bench, A, "")?), "it is installed again where it does not say its UUID");
    Ok(())
}

#[test]
fn two_machines_that_boot_by_one_adapter_are_each_installed_once() -> Result<()> {
    let rule = |uuid| format!("[[machines]]\nuuid = \"{uuid}\"\nprofile = \"command-line\"\nonce = true\n");
    let Some(bench) = Bench::with_configuration(&(rule(U1) + &rule(U2)))? else { return Ok(()) };
    boots(&bench, A, U1)?;
    boots(&bench, A, U2)?;
    ensure!(is_disk(&script(&bench, A, U1)?) && is_disk(&script(&bench, A, U2)?), "one is installed again");
    Ok(())
}

#[test]
fn boards_that_share_a_uuid_are_told_apart_by_their_cards() -> Result<()> {
    let Some(bench) = Bench::with_configuration("[[machines]]\noui = \"52:54:00\"\nonce = true\n")? else {
        return Ok(());
    };
    for uuid in ["03000200-0400-0500-0006-000700080009", "ffffffff-ffff-ffff-ffff-ffffffffffff"] {
        ensure!(tell(&bench.server, &["once", A])?.status.code().is_some(), "no answer");
        boots(&bench, A, uuid)?;
        ensure!(is_installer(&script(&bench, B, uuid)?), "{uuid}: the second board is sent to its empty disk");
        ensure!(is_disk(&script(&bench, A, uuid)?), "{uuid}: the first is installed again");
    }
    Ok(())
}

/// Two that do share one are told of, once.
#[test]
fn two_machines_with_one_uuid_that_boot_at_the_same_time_are_told_of_once() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    for _ in 0..4 {
        script(&bench, A, U1)?;
        script(&bench, B, U1)?;
    }
    let words = &format!("have the same SMBIOS UUID, by the cards {A} and {B}, and count as one");
    bench.netbootd.wait_for_line(words, SOON)?;
    settle();
    let told = bench.netbootd.lines().iter().filter(|line| line.contains(words.as_str())).count();
    ensure!(told == 1, "it is told {told} times");
    Ok(())
}

#[test]
fn a_look_uses_nothing_up() -> Result<()> {
    let configuration = "[profiles.own]\nscript = \"own.ipxe\"\n[profiles.disk]\nsanboot = \"cd.iso\"\n\
                         [[machines]]\nmac = \"52:54:00:00:00:0a\"\nprofile = \"own\"\nonce = true\n\
                         [[machines]]\nmac = \"52:54:00:00:00:0b\"\nprofile = \"disk\"\nonce = true\n\
                         [[machines]]\nmac = \"52:54:00:00:00:0c\"\nonce = true\n";
    let bench = Bench::prepared(&["eth1"], &[], configuration, |lab, _| {
        let (folder, templates) = (lab.directory(), lab.directory().join("templates"));
        fs::create_dir_all(&templates)?;
        fs::write(templates.join("own.ipxe"), "#!ipxe\nchain {{ base }}/assets/vmlinuz\n")?;
        let whole = format!("templates = {:?}\n{configuration}", templates.display().to_string());
        fs::write(folder.join("netbootd.toml"), whole)?;
        Ok(fs::write(folder.join("assets/cd.iso"), noise(4_000_000, 7))?)
    })?;
    let Some(bench) = bench else { return Ok(()) };
    let path = |mac: &str| format!("/boot.ipxe?mac={mac}&arch=x86_64&platform=efi");
    let asks = |mac: &str| -> Result<String> { Ok(String::from_utf8(bench.curl(&[], &path(mac))?)?) };

    // A script of the user's own: a HEAD, a browser, and the script itself.
    bench.curl(&["--head"], &path(A))?;
    bench.curl(&["--user-agent", "curl/7.88.1"], &path(A))?;
    settle();
    for _ in 0..2 {
        let script = asks(A)?;
        ensure!(script.contains("/assets/vmlinuz"), "a look used it up: {script}");
    }
    bench.curl(&["-o", "/dev/null", "--user-agent", "curl/7.88.1"], "/assets/vmlinuz")?;
    bench.curl(&["-o", "/dev/null", "--range", "0-511"], "/assets/vmlinuz")?;
    bench.curl(&["--head"], "/assets/vmlinuz")?;
    settle();
    ensure!(asks(A)?.contains("/assets/vmlinuz"), "a look at a file used it up");
    bench.curl(&["-o", "/dev/null"], "/assets/vmlinuz")?;
    settle();
    ensure!(is_disk(&asks(A)?), "it booted, and is served again");

    // A CD image, of which firmware looks at the first sectors.
    ensure!(asks(B)?.contains("sanboot"), "it does not get its image");
    bench.curl(&["-o", "/dev/null", "--range", "0-511"], "/assets/cd.iso")?;
    settle();
    ensure!(asks(B)?.contains("sanboot"), "a range used it up");

    // Ranges count where they cover the file. Others boot from this address, so its files say whose they are.
    let third = "52:54:00:00:00:0c";
    let served = asks(third)?;
    ensure!(is_installer(&served), "it does not get its profile");
    let prefix = served.split("http://10.77.0.2:8080").find_map(|rest| rest.split_once("/assets/vmlinuz"));
    let prefix = prefix.map(|(prefix, _)| prefix.to_owned()).context("no address of its kernel")?;
    ensure!(prefix.starts_with("/m/"), "{served}");
    let fetch = |range: &str, file: &str| -> Result<Vec<u8>> {
        bench.curl(&["-o", "/dev/null", "--range", range], &format!("{prefix}/assets/{file}"))
    };
    fetch("0-", "debian/initrd.img")?;
    fetch("0-1999999", "vmlinuz")?;
    settle();
    ensure!(is_installer(&asks(third)?), "a part of the kernel used it up");
    fetch("0-", "debian/initrd.img")?;
    fetch("0-1999999", "vmlinuz")?;
    fetch("2000000-", "vmlinuz")?;
    settle();
    ensure!(is_disk(&asks(third)?), "it has its whole kernel in two parts, and is served again");
    Ok(())
}

#[test]
fn of_two_machines_behind_one_address_the_one_that_fetched_is_installed() -> Result<()> {
    let Some(bench) = Bench::with_configuration("[[machines]]\noui = \"52:54:00\"\nonce = true\n")? else {
        return Ok(());
    };
    let first = script(&bench, A, U1)?;
    let second = script(&bench, B, U2)?;
    ensure!(is_installer(&first) && is_installer(&second), "{first}\n{second}");
    fetch_all(&bench, &first)?;
    bench.netbootd.wait_for_line(&format!("{A} handed_over"), SOON)?;
    settle();
    ensure!(is_installer(&script(&bench, B, U2)?), "the one that fetched nothing counts as installed");
    ensure!(is_disk(&script(&bench, A, U1)?), "the one that fetched all is installed again");
    fetch_all(&bench, &script(&bench, B, U2)?)?;
    bench.netbootd.wait_for_line(&format!("{B} handed_over"), SOON)?;
    settle();
    ensure!(is_disk(&script(&bench, B, U2)?), "the second is installed again");
    Ok(())
}

/// A server that was restarted knows that the address is shared: else nobody's files would be counted.
#[test]
fn of_two_machines_behind_one_address_each_is_installed_once_though_the_server_restarts_between_them() -> Result<()> {
    let Some(mut bench) = Bench::with_configuration("[[machines]]\noui = \"52:54:00\"\nonce = true\n")? else {
        return Ok(());
    };
    let first = script(&bench, A, U1)?;
    bench.netbootd.wait_for_line(&format!("{A} script"), SOON)?;
    settle();
    bench.netbootd.signal(netbootd_lab::Signal::SIGTERM)?;
    bench.netbootd.wait_exit(SOON)?;
    bench.netbootd = bench.again()?;
    boots(&bench, B, U2)?;
    ensure!(is_disk(&script(&bench, B, U2)?), "the second is installed again");
    fetch_all(&bench, &first)?;
    bench.netbootd.wait_for_line(&format!("{A} handed_over"), SOON)?;
    settle();
    ensure!(is_disk(&script(&bench, A, U1)?), "the first is installed again");
    Ok(())
}

/// The address that `report("EVENT")` gave a machine.
fn report_address<'a>(script: &'a str, key: &str) -> Result<&'a str> {
    let word = script.split([' ', '\n']).find_map(|word| word.strip_prefix(&format!("{key}=")));
    word.and_then(|url| url.strip_prefix("http://10.77.0.2:8080")).with_context(|| script.to_owned())
}

#[test]
fn an_installer_is_served_until_its_signed_report_and_no_more_than_once_tries() -> Result<()> {
    let configuration = format!(
        "[profiles.installer]\nkernel = \"vmlinuz\"\ncmdline = \"ok={{{{ report('installed') }}}} \
         no={{{{ report('failed', 'no disk') }}}}\"\n[[machines]]\nname = \"n\"\nmac = [\"{A}\", \"{B}\"]\n\
         profile = \"installer\"\nonce = \"installed\"\nonce_tries = 2\n"
    );
    let Some(mut bench) = Bench::with_configuration(&configuration)? else { return Ok(()) };
    boots(&bench, A, U1)?;
    let again = script(&bench, B, U1)?;
    ensure!(is_installer(&again), "a hand-over alone used it up: {again}");
    // Anyone can say this of any machine: it is shown, and decides nothing.
    bench.curl(&[], &format!("/report?mac={A}&event=installed"))?;
    bench.netbootd.wait_for_line("reported     installed", SOON)?;
    bench.curl(&[], report_address(&again, "no")?)?;
    bench.netbootd.wait_for_line("reported     failed: no disk", SOON)?;
    settle();
    ensure!(is_installer(&script(&bench, A, U1)?), "it failed, and is not served again");
    boots(&bench, B, U1)?;
    let stopped = script(&bench, A, U1)?.replace("\necho ", " ");
    ensure!(!stopped.contains("\nkernel ") && stopped.contains("handed over 2 times"), "{stopped}");
    ensure!(stopped.contains("failed: no disk"), "the last report's words are missing: {stopped}");
    let machines = said(&tell(&bench.server, &["machines"])?);
    ensure!(machines.contains("stopped: no report \"installed\""), "{machines}");
    // It outlives a kill.
    bench.netbootd.signal(netbootd_lab::Signal::SIGKILL)?;
    bench.netbootd.wait_exit(SOON)?;
    bench.netbootd = bench.again()?;
    ensure!(!script(&bench, A, U1)?.contains("\nkernel "), "it is served again after a restart");

    let renewed = tell(&bench.server, &["once", "n"])?;
    ensure!(renewed.status.success(), "{}", said(&renewed));
    // What was signed for the installation before is told, and ends nothing.
    bench.curl(&[], report_address(&again, "ok")?)?;
    bench.netbootd.wait_for_line("reported     installed", SOON)?;
    settle();
    let again = script(&bench, B, U1)?;
    ensure!(is_installer(&again), "it does not get its profile again: {again}");
    let address = report_address(&again, "ok")?;
    ensure!(address.starts_with("/report/s/"), "{address}");
    bench.curl(&[], address)?;
    settle();
    ensure!(is_disk(&script(&bench, A, U1)?), "it is installed, and is served its installer");
    let forged = bench.curl(&["-w", "%{http_code}"], "/report/s/AAAA?event=installed")?;
    ensure!(forged.ends_with(b"403"), "{}", String::from_utf8_lossy(&forged));
    let nothing = tell(&bench.server, &["once", "52:54:00:00:00:77"])?;
    ensure!(nothing.status.code() == Some(64), "{}", said(&nothing));
    Ok(())
}

#[test]
fn a_machine_is_assigned_by_its_name_whatever_its_rule_knows_it_by() -> Result<()> {
    let rules = format!(
        "[[machines]]\nname = \"cards\"\nmac = [\"{A}\", \"{B}\"]\n[[machines]]\nname = \"board\"\nuuid = \"{U1}\"\n\
         [[machines]]\nname = \"label\"\nserial = \"CZ1234\"\n[[machines]]\nname = \"all\"\noui = \"0e:00:00\"\n"
    );
    let Some(bench) = Bench::with_configuration(&rules)? else { return Ok(()) };
    let other = "52:54:00:00:00:77";
    let asks = [
        ("cards", format!("mac={B}")),
        ("board", format!("mac={other}&uuid={U1_TURNED}")),
        ("label", format!("mac={other}&uuid={U2}&serial=cz1234")),
    ];
    for (name, query) in asks {
        for (words, is) in [(&["assign", name, "shell"][..], true), (&["unassign", name], false)] {
            let done = tell(&bench.server, words)?;
            ensure!(done.status.success(), "{words:?}: {}", said(&done));
            let script = String::from_utf8(bench.curl(&[], &format!("/boot.ipxe?{query}&arch=x86_64&platform=efi"))?)?;
            ensure!(is_installer(&script) != is && script.contains("\nshell\n"), "{words:?}: {script}");
        }
        for words in [["approve", name], ["unapprove", name]] {
            let done = tell(&bench.server, &words)?;
            ensure!(done.status.success(), "{words:?}: {}", said(&done));
        }
    }
    let refused = tell(&bench.server, &["assign", "all", "shell"])?;
    ensure!(said(&refused).contains("is the name of a rule about many machines"), "{}", said(&refused));
    Ok(())
}

/// Whoever takes an assignment back does not mean the disk to be wiped: for that there is `netbootd once`.
#[test]
fn a_machine_that_was_installed_is_not_installed_again_when_an_assignment_ends() -> Result<()> {
    let rules = format!("[[machines]]\nname = \"n\"\nmac = \"{A}\"\nprofile = \"command-line\"\nonce = true\n");
    let Some(bench) = Bench::with_configuration(&rules)? else { return Ok(()) };
    boots(&bench, A, U1)?;
    for assigned in
        [&["assign", "n", "shell"][..], &["assign", "n", "command-line"], &["assign", "n", "menu", "--once"]]
    {
        for words in [assigned, &["unassign", "n"]] {
            let done = tell(&bench.server, words)?;
            ensure!(done.status.success(), "{words:?}: {}", said(&done));
        }
        ensure!(is_disk(&script(&bench, A, U1)?), "{assigned:?} and unassign: it is installed again");
    }
    ensure!(!tell(&bench.server, &["unassign", "n"])?.status.success());
    ensure!(is_disk(&script(&bench, A, U1)?), "unassign, where nothing was assigned: it is installed again");
    // Installed again by an assignment, and that is taken back.
    tell(&bench.server, &["assign", "n", "command-line", "--once"])?;
    boots(&bench, A, U1)?;
    tell(&bench.server, &["unassign", "n"])?;
    ensure!(is_disk(&script(&bench, A, U1)?), "its assignment was booted and taken back: it is installed again");
    tell(&bench.server, &["once", "n"])?;
    ensure!(is_installer(&script(&bench, A, U1)?), "netbootd once does not give it its profile again");
    Ok(())
}

/// An assignment that was made by a card is that machine's from its first boot on, and of no other one that uses the card.
#[test]
fn an_assignment_by_a_card_is_joined_with_the_machine_that_comes_with_it() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    ensure!(tell(&bench.server, &["assign", A, "command-line", "--once"])?.status.success(), "it is not assigned");
    ensure!(tell(&bench.server, &["assign", B, "local"])?.status.success(), "it is not assigned");
    boots(&bench, A, U1)?;
    ensure!(is_disk(&script(&bench, A, U1)?), "it is served again");
    ensure!(is_installer(&script(&bench, A, U2)?), "another machine with the same adapter has its assignment");
    Ok(())
}

#[test]
fn machines_that_share_a_card_are_shown_and_changed_by_their_uuids() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    for uuid in [U1, U2] {
        script(&bench, A, uuid)?;
    }
    settle();
    let all: serde_json::Value = serde_json::from_str(&said(&tell(&bench.server, &["machines", "--json"])?))?;
    let ids: Vec<&str> = all.as_array().into_iter().flatten().filter_map(|one| one["id"].as_str()).collect();
    ensure!(ids.len() == 2 && ids.iter().all(|id| id.len() == 36) && ids[0] != ids[1], "{all:#}");
    let page = String::from_utf8(bench.curl(&[], "/")?)?;
    // It goes on until curl ends it, for which its exit code is 28.
    let events = format!("curl -sN --max-time 2 -H 'Last-Event-ID: 0' http://{SERVER}:8080/api/v1/events || true");
    let told = String::from_utf8(bench.run("sh", &["-c", &events])?)?;
    for id in ids {
        ensure!(told.contains(&format!("\"machine\":\"{id}\"")), "no event of {id}: {told}");
        ensure!(page.contains(&format!("href=\"&#x2f;machines&#x2f;{id}\"")), "no link to {id}: {page}");
    }
    for arguments in [&["assign", A, "command-line"] as &[&str], &["once", A], &["approve", A], &["unassign", A]] {
        let refused = tell(&bench.server, arguments)?;
        let words = said(&refused);
        ensure!(refused.status.code() == Some(64) && words.contains("of 2 machines"), "{arguments:?}: {words}");
    }
    let assigned = tell(&bench.server, &["assign", U1, "local"])?;
    ensure!(assigned.status.success(), "{}", said(&assigned));
    ensure!(is_disk(&script(&bench, A, U1)?), "the one that was named does not get its profile");
    ensure!(is_installer(&script(&bench, A, U2)?), "the other one gets its profile");
    // One that was not seen is shown by what it was named by.
    const NEW: &str = "11c4c454-0042-3510-8052-b4c04f564e33";
    let assigned = said(&tell(&bench.server, &["assign", NEW, "command-line"])?);
    ensure!(assigned.lines().nth(1).is_some_and(|row| row.starts_with(NEW)), "{assigned}");
    Ok(())
}
