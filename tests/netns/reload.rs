//! The configuration changes while the server runs.

use std::{
    fs,
    io::{Read as _, Write as _},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use netbootd_lab::Signal;

use crate::bench::{Bench, SOON, START};

const RULE: &str = "[[machines]]\nname = \"k8s08\"\nmac = \"52:54:00:12:34:56\"\n";

fn script(bench: &Bench) -> Result<String> {
    Ok(String::from_utf8(bench.curl(&[], "/boot.ipxe?mac=52:54:00:12:34:56&arch=x86_64&platform=efi")?)?)
}

#[test]
fn rules_change_without_a_restart_and_a_fault_changes_nothing() -> Result<()> {
    let Some(bench) = Bench::with_configuration("include = [\"machines.d/*.toml\"]\n")? else { return Ok(()) };
    ensure!(script(&bench)?.contains("hostname=52-54-00-12-34-56"), "it has a name already");
    let main = bench.lab.directory().join("netbootd.toml");

    // A download that runs all the while.
    let mut slow = bench.client.command("curl");
    slow.args(["-sS", "--limit-rate", "4M", "http://10.77.0.2:8080/assets/debian/initrd.img"]);
    let mut slow = slow.stdout(std::process::Stdio::piped()).spawn()?;

    // The file changes: nobody has to say so.
    fs::write(&main, format!("include = [\"machines.d/*.toml\"]\n{RULE}"))?;
    bench.netbootd.wait_for_line("configuration read again: 1 profiles, 1 rules", SOON)?;
    ensure!(script(&bench)?.contains("hostname=k8s08"), "the rule is not heard");

    // All faults at once, and the old rules stay.
    fs::write(&main, format!("asets = 1\n{RULE}profil = \"x\"\n"))?;
    bench.netbootd.wait_for_line("the configuration has faults, and the old one stays active:", SOON)?;
    bench.netbootd.wait_for_line("netbootd.toml:1:1: unknown key \"asets\" (did you mean \"assets\"?)", SOON)?;
    bench.netbootd.wait_for_line("netbootd.toml:5:1: unknown key \"profil\" (did you mean \"profile\"?)", SOON)?;
    ensure!(script(&bench)?.contains("hostname=k8s08"), "a faulty file changed something");

    // What cannot change says so; SIGHUP reads as well.
    fs::create_dir(bench.lab.directory().join("machines.d"))?;
    fs::write(bench.lab.directory().join("machines.d/one.toml"), RULE.replace("k8s08", "k8s09"))?;
    fs::write(&main, "include = [\"machines.d/*.toml\"]\n[tftp]\nmax_transfers = 7\n")?;
    bench.netbootd.signal(Signal::SIGHUP)?;
    bench.netbootd.wait_for_line("changes of [tftp] take effect at the next start", SOON)?;
    let named = |name: &str| -> Result<bool> { Ok(script(&bench)?.contains(&format!("hostname={name}"))) };
    ensure!(named("k8s09")?, "the included rule is not heard");

    // A folder that was not there at the start is watched now.
    fs::write(bench.lab.directory().join("machines.d/one.toml"), RULE.replace("k8s08", "k8s10"))?;
    let mut tries = 0;
    while !named("k8s10")? {
        tries += 1;
        ensure!(tries < 100, "the included file's change is not heard");
        std::thread::sleep(Duration::from_millis(100));
    }

    let mut bytes = Vec::new();
    slow.stdout.take().expect("piped").read_to_end(&mut bytes)?;
    ensure!(slow.wait()?.success() && bytes == crate::bench::noise(24_000_001, 2), "the download was disturbed");
    Ok(())
}

/// As a shell's `(head; sleep; tail) > FILE` writes it: its beginning is valid, and drops a rule.
#[test]
fn a_half_written_file_is_read_when_it_is_closed_and_an_emptied_one_changes_nothing() -> Result<()> {
    let Some(bench) = Bench::with_configuration("")? else { return Ok(()) };
    let main = bench.lab.directory().join("netbootd.toml");
    let begin = || -> Result<fs::File> {
        let mut file = fs::File::create(&main)?;
        file.write_all(b"# rules\n")?;
        Ok(file)
    };
    let other = "[[machines]]\nmac = \"52:54:00:12:34:57\"\n";
    fs::write(&main, RULE)?;
    bench.netbootd.wait_for_line("configuration read again: 1 profiles, 1 rules", SOON)?;

    let mut file = begin()?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(script(&bench)?.contains("hostname=k8s08"), "half of a file was taken");
    write!(file, "{}{other}", RULE.replace("k8s08", "k8s09"))?;
    drop(file);
    bench.netbootd.wait_for_line("configuration read again: 1 profiles, 2 rules", SOON)?;
    ensure!(script(&bench)?.contains("hostname=k8s09"), "the rest of it is not heard");

    fs::write(&main, "")?;
    bench.netbootd.wait_for_line("error: the configuration has faults, and the old one stays active:", SOON)?;
    bench.netbootd.wait_for_line("netbootd.toml: the file is empty, and it was not before: ", SOON)?;
    ensure!(script(&bench)?.contains("hostname=k8s09"), "an empty file dropped the rules");

    // SIGHUP asks to read it as it is.
    let _unfinished = begin()?;
    bench.netbootd.signal(Signal::SIGHUP)?;
    bench.netbootd.wait_for_line("configuration read again: 1 profiles, 0 rules", SOON)?;
    let lines = bench.netbootd.lines();
    ensure!(!lines.iter().any(|line| line.contains('?')), "a line break is shown as a question mark: {lines:#?}");
    Ok(())
}

/// A pipe that nobody writes to held up every reload, and SIGTERM.
#[test]
fn an_included_pipe_is_a_fault_and_holds_up_nothing() -> Result<()> {
    let Some(mut bench) = Bench::with_configuration("include = [\"machines.d/*\"]\n")? else { return Ok(()) };
    let folder = bench.lab.directory().join("machines.d");
    fs::create_dir(&folder)?;
    fs::write(folder.join("one.toml"), RULE)?;
    bench.netbootd.wait_for_line("configuration read again: 1 profiles, 1 rules", SOON)?;
    let status = Command::new("mkfifo").arg(folder.join("pipe")).status()?;
    ensure!(status.success(), "mkfifo: {status}");
    let words = "machines.d/pipe: cannot be read: it is a FIFO (a named pipe): use a regular file";
    bench.netbootd.wait_for_line(words, SOON)?;
    ensure!(script(&bench)?.contains("hostname=k8s08"), "a faulty file changed something");
    fs::remove_file(bench.lab.directory().join("netbootd.toml"))?;
    bench.netbootd.wait_for_line("netbootd.toml: the file was removed: put it back", SOON)?;
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    Ok(())
}
