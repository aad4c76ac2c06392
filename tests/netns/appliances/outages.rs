//! Appliances that fail: partitions, kills, and a database that is gone, restored or refuses.

use std::{fs, thread, time::Duration};

use anyhow::{Result, bail, ensure};
use netbootd_lab::{Postgres, Process, Signal};

use super::{Appliance, HEARD, LOST, MACHINE, Site, TO_DISK, eventually};
use crate::bench::{SOON, noise};

#[test]
fn a_machine_whose_installation_an_appliance_began_that_is_silent_is_not_installed_again() -> Result<()> {
    let Some(mut site) = Site::start("[[machines]]\noui = \"52:54:00\"\nprofile = \"installer\"\nonce = true\n")?
    else {
        return Ok(());
    };
    let folder = site.lab.directory().to_owned();
    let (begun, other, third) = (MACHINE, "52:54:00:12:34:57", "52:54:00:12:34:58");
    // Killed in the middle: nobody knows whether the machine had everything.
    let script = site.script(&site.a, begun)?;
    site.fetch(&script, "vmlinuz")?;
    site.until(&site.b, begun, "boots profile installer")?;
    eventually("the state knows that it began", || {
        let by = site.postgres.sql("netbootd", "SELECT begun_by FROM machines")?;
        ensure!(by == "a", "{by}");
        Ok(())
    })?;
    site.a.kill()?;
    site.until(&site.b, begun, "the appliance a gave the machine its script and is silent since")?;
    // Another machine is installed by the one that is left.
    site.boots(&site.b, other)?;
    site.until(&site.b, other, TO_DISK)?;
    // A person may say that it is to be.
    ensure!(site.b.tell(&folder, &["once", begun])?.0 == Some(0), "it is not given again");
    site.until(&site.b, begun, "boots profile installer")?;
    // One that comes back says that there was no hand-over.
    site.a.start_again(&folder)?;
    site.until(&site.a, other, TO_DISK)?;
    site.script(&site.a, third)?;
    eventually("the state knows that it began", || {
        let by = site.postgres.sql("netbootd", "SELECT count(*) FROM machines WHERE begun_by = 'a'")?;
        ensure!(by == "1", "{by}");
        Ok(())
    })?;
    site.a.kill()?;
    site.until(&site.b, third, "is silent since")?;
    site.a.start_again(&folder)?;
    site.until(&site.b, third, "boots profile installer")?;
    Ok(())
}

#[test]
fn a_partition_stops_no_boot_and_installs_nothing_twice() -> Result<()> {
    let Some(mut site) = Site::start("")? else { return Ok(()) };
    let folder = site.lab.directory().to_owned();
    let (once, late, plain) = (MACHINE, "52:54:00:12:34:57", "52:54:00:12:34:58");
    for machine in [once, late] {
        site.a.assigns(&folder, &[machine, "installer", "--once"])?;
    }
    site.a.assigns(&folder, &[plain, "shell"])?;
    site.until(&site.b, plain, "iPXE shell for ")?;
    let script = site.script(&site.a, once)?;
    eventually("the state knows that it began", || {
        ensure!(site.postgres.sql("netbootd", "SELECT count(*) FROM machines WHERE begun_by = 'a'")? == "1");
        Ok(())
    })?;
    site.a.cut_off()?;
    // The hand-over is seen behind the partition.
    site.fetch(&script, "vmlinuz")?;
    site.fetch(&script, "initrd.img")?;
    site.a.netbootd.wait_for_line(&format!("{once} handed_over"), SOON)?;
    site.a.netbootd.wait_for_line(LOST, HEARD)?;
    // There: what was known is booted, and nothing for one boot. Here: what began there is left alone.
    site.until(&site.a, plain, "iPXE shell for ")?;
    site.until(&site.a, late, "it is not known whether it already did: its server cannot be reached")?;
    site.until(&site.a, once, TO_DISK)?;
    site.until(&site.b, once, "is silent since")?;
    site.until(&site.b, late, "boots profile installer")?;
    let (code, words) = site.a.tell(&folder, &["assign", plain, "local"])?;
    ensure!(
        code == Some(69) && words.contains("the state could not be written, so nothing was changed"),
        "{code:?} {words}"
    );
    site.until(&site.a, plain, "iPXE shell for ")?;
    // Killed there, and started: what it saw is not forgotten.
    site.a.kill()?;
    site.a.start_again(&folder)?;
    site.until(&site.a, once, TO_DISK)?;
    site.until(&site.a, plain, "iPXE shell for ")?;
    site.boots(&site.b, late)?;
    site.a.heal()?;
    for at in [&site.a, &site.b] {
        site.until(at, once, TO_DISK)?;
        site.until(at, late, TO_DISK)?;
    }
    site.a.netbootd.wait_for_line("the server that keeps the state answers again", HEARD)?;
    // The other way: the link of the database goes, for both.
    site.database.ip(&["link", "set", "eth1", "down"])?;
    for at in [&site.a, &site.b] {
        at.netbootd.wait_for_line(LOST, HEARD)?;
    }
    site.until(&site.b, plain, "iPXE shell for ")?;
    site.boots(&site.b, "52:54:00:12:34:60")?;
    site.database.ip(&["link", "set", "eth1", "up"])?;
    eventually("it can be assigned again", || site.b.assigns(&folder, &[plain, "local"]))?;
    site.until(&site.a, plain, TO_DISK)?;
    Ok(())
}

/// Who restores a backup of the database does not mean that all machines since then are installed again.
#[test]
fn a_machine_that_a_restored_backup_does_not_know_is_not_installed_again() -> Result<()> {
    let Some(site) = Site::start("[[machines]]\noui = \"52:54:00\"\nprofile = \"installer\"\nonce = true\n")? else {
        return Ok(());
    };
    site.boots(&site.a, MACHINE)?;
    site.until(&site.b, MACHINE, TO_DISK)?;
    site.postgres.sql("netbootd", "BEGIN; DELETE FROM machines; UPDATE revision SET number = 0; COMMIT")?;
    site.a.netbootd.wait_for_line("the state went back from change", HEARD)?;
    for at in [&site.a, &site.b] {
        site.until(at, MACHINE, TO_DISK)?;
    }
    eventually("the state knows it again", || {
        let rows = site.postgres.sql("netbootd", "SELECT spent FROM machines WHERE gone = 0")?;
        ensure!(rows == "installer", "{rows}");
        Ok(())
    })
}

/// The others install machines of which it hears nothing.
#[test]
fn an_appliance_that_was_cut_off_or_stopped_a_moment_ago_gives_no_one_time_profile() -> Result<()> {
    let Some(mut site) = Site::start("[[machines]]\noui = \"52:54:00\"\nprofile = \"installer\"\nonce = true\n")?
    else {
        return Ok(());
    };
    let (first, second) = (MACHINE, "52:54:00:12:34:57");
    // Nobody has noticed it yet, and what begins could not be told.
    site.a.cut_off()?;
    let script = site.script(&site.a, first)?;
    ensure!(!script.contains("boots profile installer"), "the others do not know of it: {script}");
    site.boots(&site.b, first)?;
    site.a.netbootd.wait_for_line(LOST, HEARD)?;
    site.a.heal()?;
    site.a.netbootd.wait_for_line("the server that keeps the state answers again", HEARD)?;
    site.until(&site.a, first, TO_DISK)?;
    // It does not know that it was stopped, and is asked before it can hear of anything.
    site.a.netbootd.signal(Signal::SIGSTOP)?;
    thread::sleep(Duration::from_secs(5));
    site.boots(&site.b, second)?;
    let scripts = thread::scope(|scope| -> Result<Vec<String>> {
        let asked: Vec<_> = (0..4).map(|_| scope.spawn(|| site.script(&site.a, second))).collect();
        thread::sleep(Duration::from_secs(1));
        site.a.netbootd.signal(Signal::SIGCONT)?;
        asked.into_iter().map(|asked| asked.join().map_err(|_| anyhow::anyhow!("a panic"))?).collect()
    })?;
    for script in scripts {
        ensure!(!script.contains("boots profile installer"), "it is installed again: {script}");
    }
    site.until(&site.a, second, TO_DISK)?;
    site.a.kill()
}

#[test]
fn why_the_database_refuses_is_told_with_the_fix() -> Result<()> {
    let Some(site) = Site::start("")? else { return Ok(()) };
    site.postgres.sql("postgres", "ALTER DATABASE netbootd SET default_transaction_read_only = on")?;
    site.postgres
        .sql("postgres", "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'netbootd'")?;
    site.a.netbootd.wait_for_line("name the primary server with state.url", HEARD)?;
    site.postgres.sql("postgres", "ALTER DATABASE netbootd RESET default_transaction_read_only")?;
    site.a.netbootd.wait_for_line("the server that keeps the state answers again", HEARD)?;
    site.postgres.sql("postgres", "DROP DATABASE netbootd WITH (FORCE)")?;
    site.postgres.sql("postgres", "CREATE DATABASE netbootd OWNER netbootd")?;
    site.a.netbootd.wait_for_line("start netbootd again, which makes its tables", HEARD).map(drop)
}

#[test]
fn a_database_that_dies_or_is_not_there_at_the_start_stops_no_boot() -> Result<()> {
    let Some(mut site) = Site::start("")? else { return Ok(()) };
    let folder = site.lab.directory().to_owned();
    site.a.assigns(&folder, &[MACHINE, "installer"])?;
    site.until(&site.b, MACHINE, "boots profile installer")?;
    site.postgres.kill()?;
    site.boots(&site.b, MACHINE)?;
    site.b.netbootd.wait_for_line(LOST, HEARD)?;
    site.b.kill()?;
    site.b.start_again(&folder)?;
    site.until(&site.b, MACHINE, "boots profile installer")?;
    let (code, words) = site.b.tell(&folder, &["approve", MACHINE])?;
    ensure!(code == Some(69) && words.contains("nothing was changed"), "{code:?} {words}");
    // With nothing known at all.
    site.b.kill()?;
    for file in fs::read_dir(folder.join("b"))?.flatten().filter(|file| file.file_name() != "netbootd.toml") {
        fs::remove_file(file.path())?;
    }
    site.b.start_again(&folder)?;
    site.boots(&site.b, "52:54:00:12:34:57")?;
    site.postgres.start_again()?;
    eventually("it can be assigned again", || site.b.assigns(&folder, &[MACHINE, "shell"]))?;
    site.until(&site.a, MACHINE, "iPXE shell for ")?;
    for at in [&site.a, &site.b] {
        for line in at.netbootd.lines() {
            ensure!(!line.contains(Postgres::PASSWORD), "the password is in the log: {line}");
        }
    }
    Ok(())
}

/// Each is killed at any moment, the database too: what was acknowledged is there, on both. [`ROUNDS`] here; a thousand
/// with `cargo test --test netns -- --ignored a_thousand_kills_of_appliances`.
#[test]
fn what_was_acknowledged_by_either_outlives_any_kill() -> Result<()> {
    kills(ROUNDS, 0)
}

#[test]
#[ignore = "takes most of an hour"]
fn a_thousand_kills_of_appliances() -> Result<()> {
    // Each kill has a hundred machines of its own: in one site, the last ones would mostly measure how long a start with
    // sixty thousand machines takes.
    for seed in 1..=5 {
        kills(200, seed)?;
        println!("{} kills", 200 * seed);
    }
    Ok(())
}

const ROUNDS: u32 = 20;

fn kills(rounds: u32, seed: u64) -> Result<()> {
    let Some(mut site) = Site::start("")? else { return Ok(()) };
    let folder = site.lab.directory().to_owned();
    let mut random = noise(rounds as usize * 3, 6 + seed).into_iter().map(u64::from);
    let mut dice = move || random.next().unwrap_or_default();
    for round in 0..rounds {
        let profile = ["local", "shell", "menu", "installer"][dice() as usize % 4];
        let mac = |number: u32| {
            let [_, high, low, last] = (round << 8 | number).to_be_bytes();
            format!("02:00:00:{high:02x}:{low:02x}:{last:02x}")
        };
        // On both, one call after the other, until one of the three is gone; those that were answered count.
        let calls = |at: &Appliance, from: u32| -> Result<Process> {
            let url = format!("http://127.0.0.1:8080/api/v1/machines/{}", mac(0).trim_end_matches("00"));
            let (header, body) = ("Content-Type: application/json", format!("'{{\"profile\":\"{profile}\"}}'"));
            let mut shell = at.host.command("sh");
            shell.args(["-c", &format!(
                "n={from}; while curl -sf --max-time 20 -o /dev/null -X PUT -H '{header}' -d {body} {url}$(printf %02x $n)/assignment; do echo $n; n=$((n+1)); [ $n -lt {} ] || exit 0; done; echo end",
                from + 100,
            )]);
            let calls = Process::spawn("calls", &mut shell)?;
            calls.wait_for_line(&from.to_string(), HEARD)?;
            Ok(calls)
        };
        let mut running = [calls(&site.a, 0)?, calls(&site.b, 100)?];
        thread::sleep(Duration::from_millis(dice()));
        match dice() % 3 {
            0 => {
                site.a.kill()?;
                site.a.start_again(&folder)?;
            }
            1 => {
                site.b.kill()?;
                site.b.start_again(&folder)?;
            }
            _ => {
                site.postgres.kill()?;
                site.postgres.start_again()?;
            }
        }
        let mut acknowledged = Vec::new();
        for calls in &mut running {
            calls.wait_exit(Duration::from_secs(60))?;
            acknowledged.extend(calls.lines().iter().filter_map(|line| line.parse::<u32>().ok()).map(mac));
        }
        let kept = site.postgres.sql("netbootd", &format!("SELECT id FROM machines WHERE profile = '{profile}'"))?;
        for mac in &acknowledged {
            ensure!(kept.contains(mac), "round {round}: {mac} was acknowledged and is lost");
        }
        let Some(last) = acknowledged.last() else { bail!("round {round}: nothing was acknowledged") };
        for at in [&site.a, &site.b] {
            eventually(&format!("{} knows {last}", at.name), || {
                let (_, machine) = at.tell(&folder, &["machines", last, "--json"])?;
                ensure!(machine.contains(&format!("\"profile\": \"{profile}\"")), "{machine}");
                Ok(())
            })?;
        }
    }
    Ok(())
}
