//! What the running server can still do to its host, and what it tells the service manager.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        net::UnixDatagram,
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netbootd_lab::{Process, Signal, Tool, required, uninterrupted};

use crate::bench::{Bench, SOON, START, daemon, noise};

/// A field of the process's `/proc/PID/status`, for each of its threads.
fn status(process: &Process, field: &str) -> Result<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid()))?;
    tasks
        .map(|task| {
            let text = fs::read_to_string(task?.path().join("status"))?;
            let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
            Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE and CAP_NET_RAW.
const KEPT: &str = "0000000000002404";

#[test]
fn nothing_but_its_own_files_can_be_read_whatever_it_is_told_to() -> Result<()> {
    let Some(bench) = Bench::with_configuration("")? else { return Ok(()) };
    bench.netbootd.wait_for_line("sandboxed: writes only in ", SOON)?;
    for (field, wanted) in [("CapPrm:", KEPT), ("CapEff:", KEPT), ("CapBnd:", KEPT), ("NoNewPrivs:", "1")] {
        let threads = status(&bench.netbootd, field)?;
        ensure!(threads.len() > 3 && threads.iter().all(|is| is == wanted), "{field} {threads:?}");
    }
    // Its own code opens the file, in its own process.
    let main = bench.lab.directory().join("netbootd.toml");
    fs::write(&main, "include = [\"/etc/shadow\"]\n")?;
    bench.netbootd.wait_for_line("/etc/shadow: cannot be read: Permission denied", SOON)?;
    let fix = "a sandboxed netbootd reads only the folders that it was started with: restart it to read others";
    bench.netbootd.wait_for_line(fix, SOON)?;
    // All loaders are there as before, those that are links too.
    fs::write(&main, "")?;
    bench.netbootd.wait_for_line("configuration read again", SOON)?;
    ensure!(!bench.netbootd.lines().iter().any(|line| line.contains("is ignored")), "{:?}", bench.netbootd.lines());
    fs::write(&main, "loader_dirs = [\"/var/tmp/loaders\"]\n")?;
    bench.netbootd.wait_for_line(&format!("no loader is read from /var/tmp/loaders: {fix}"), SOON)?;

    let mut free = daemon(&bench.server);
    drop(bench.netbootd);
    free.args(["up", "--interface", "eth1", "--no-sandbox", "--config"]).arg(&main);
    let free = Process::spawn("netbootd", &mut free)?;
    free.wait_for_line("waiting on eth1", START)?;
    fs::write(&main, "include = [\"/etc/shadow\"]\n")?;
    free.wait_for_line("/etc/shadow:1:", SOON).context("without the sandbox it is read, and is no TOML")?;
    Ok(())
}

#[test]
fn as_another_user_it_serves_what_root_could_read_and_follows_its_interface() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    fs::set_permissions(bench.assets.join("debian/initrd.img"), fs::Permissions::from_mode(0o600))?;
    let state = bench.lab.directory().join("state");
    fs::create_dir(&state)?;
    chown(&state, Some(65_534), Some(65_534))?;
    // This folder it makes itself, for the user.
    let socket = bench.lab.directory().join("control/socket");
    let mut command = daemon(&bench.server);
    command.env("NETBOOTD_STATE__URL", format!("sqlite://{}/state.db", state.display()));
    command.env("NETBOOTD_CONTROL__SOCKET", &socket);
    command.args(["up", "--interface", "eth1", "--user", "nobody", "--assets"]).arg(&bench.assets);
    let process = Process::spawn("netbootd", &mut command)?;
    process.wait_for_line("sandboxed as user nobody (uid 65534): writes only in ", START)?;
    process.wait_for_line("waiting on eth1", START)?;
    for (field, wanted) in [("Uid:", "65534 65534 65534 65534"), ("Groups:", ""), ("CapPrm:", KEPT)] {
        let threads = status(&process, field)?;
        ensure!(threads.len() > 3 && threads.iter().all(|is| is == wanted), "{field} {threads:?}");
    }
    ensure!(bench.curl(&[], "/assets/debian/initrd.img")? == noise(24_000_001, 2));
    let machines = daemon(&bench.server).args(["machines", "--socket"]).arg(&socket).output()?;
    ensure!(machines.status.success(), "root is not heard on the control socket: {machines:?}");

    ensure!(fs::metadata(state.join("state.db"))?.uid() == 65_534, "the state is not the user's");

    // Every port is opened anew, by the user.
    bench.server.ip(&["address", "del", "10.77.0.2/24", "dev", "eth1"])?;
    process.wait_for_line("eth1 no longer has 10.77.0.2", SOON)?;
    bench.server.ip(&["address", "add", "10.77.0.2/24", "dev", "eth1"])?;
    process.wait_for_line("eth1 has 10.77.0.2 now", SOON)?;
    ensure!(bench.curl(&[], "/assets/debian/initrd.img")? == noise(24_000_001, 2));
    Ok(())
}

#[test]
fn a_user_that_cannot_be_is_told() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let mut command = daemon(&bench.server);
    drop(bench.netbootd);
    let mut process =
        Process::spawn("netbootd", command.args(["up", "--interface", "eth1", "--user", "no-such-user"]))?;
    let status = process.wait_exit(START)?;
    let words = process.lines().join("\n");
    ensure!(status.code() == Some(64) && words.contains("there is no user no-such-user in /etc/passwd"), "{words}");
    Ok(())
}

#[test]
fn the_service_manager_is_told_of_every_turn() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let path = bench.lab.directory().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(START))?;
    let mut command = daemon(&bench.server);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let mut process = Process::spawn("netbootd", command.args(["up", "--interface", "eth1"]))?;
    let hear = |wanted: &str| -> Result<String> {
        let mut heard = Vec::new();
        for _ in 0..100 {
            let mut bytes = [0; 2048];
            let length = uninterrupted(|| manager.recv(&mut bytes));
            let length = length.with_context(|| format!("{wanted} is not said: {heard:?}"))?;
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|line| line == wanted) {
                return Ok(message);
            }
            heard.push(message);
        }
        anyhow::bail!("{wanted} is not said: {heard:?}")
    };
    let ready = hear("READY=1")?;
    ensure!(ready.contains("STATUS=waiting on eth1 (10.77.0.2): "), "{ready}");
    bench.curl(&[], "/healthz").context("ready, and does not serve")?;
    hear("WATCHDOG=1")?;
    hear("WATCHDOG=1")?;
    process.signal(Signal::SIGHUP)?;
    let reloading = hear("RELOADING=1")?;
    ensure!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    hear("READY=1")?;
    process.signal(Signal::SIGTERM)?;
    let stopping = hear("STOPPING=1")?;
    ensure!(stopping.contains("EXTEND_TIMEOUT_USEC=40000000\n"), "{stopping}");
    let status = process.wait_exit(Duration::from_secs(20))?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

/// Another program opens its sockets, and starts it when the first client comes.
#[test]
fn sockets_that_the_service_manager_opened_are_taken() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let Some(()) = required(&[&[Tool::new("systemd-socket-activate", "systemd")]]) else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    for (kind, socket, other) in
        [(None, "10.77.0.2:8080", "10.77.0.2:69"), (Some("-d"), "10.77.0.2:69", "10.77.0.2:8080")]
    {
        let mut command = bench.server.command("systemd-socket-activate");
        // A second one of the same would find the address taken.
        command.args(kind).args(["-l", socket, "--setenv=NETBOOTD_STATE__URL", "--setenv=NETBOOTD_CONTROL__SOCKET"]);
        command.args([env!("CARGO_BIN_EXE_netbootd"), "up", "--interface", "eth1", "--assets"]).arg(&bench.assets);
        let process = Process::spawn("netbootd", &mut command)?;
        process.wait_for_line(&format!("Listening on {socket}"), START)?;
        if kind.is_none() {
            ensure!(bench.curl(&[], "/assets/vmlinuz")? == noise(3_000_000, 1), "not by {socket}");
        } else {
            let fetched = bench.lab.directory().join("fetched");
            let get =
                ["--get", "--remote-file", "vmlinuz", "--local-file", &fetched.display().to_string(), "10.77.0.2"];
            bench.run("atftp", &get)?;
            ensure!(fs::read(fetched)? == noise(3_000_000, 1), "not by {socket}");
        }
        process.wait_for_line("waiting on eth1", START).with_context(|| format!("and {other} is opened by itself"))?;
    }
    Ok(())
}

#[test]
fn a_socket_of_another_address_is_named_with_the_fix() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let Some(()) = required(&[&[Tool::new("systemd-socket-activate", "systemd")]]) else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let mut command = bench.server.command("systemd-socket-activate");
    command.args(["-l", "8080", env!("CARGO_BIN_EXE_netbootd"), "up", "--interface", "eth1"]);
    let mut process = Process::spawn("netbootd", &mut command)?;
    process.wait_for_line("Listening on [::]:8080", START)?;
    drop(bench.connect(None)?);
    let status = process.wait_exit(START)?;
    let words = process.lines().join("\n");
    let fix = "systemd opened a socket for [::]:8080: name 10.77.0.2:8080 in that .socket unit, or disable the unit";
    ensure!(status.code() == Some(69) && words.contains(fix), "{status} {words}");
    Ok(())
}

/// As `ProtectSystem=strict` makes all folders of the service but its own.
#[test]
fn a_state_in_a_read_only_folder_is_told_with_the_key_of_the_unit() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let folder = bench.lab.directory().join("state");
    fs::create_dir(&folder)?;
    let mut command = bench.server.command("unshare");
    command.env("NETBOOTD_STATE__URL", format!("sqlite://{}/state.db", folder.display()));
    let script = "mount -t tmpfs -o ro none \"$1\" && exec \"$2\" up --interface eth1";
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&folder).arg(env!("CARGO_BIN_EXE_netbootd"));
    let process = Process::spawn("netbootd", &mut command)?;
    process.wait_for_line("its folder is read-only: for the service, allow it with ReadWritePaths=", START)?;
    process.wait_for_line("waiting on eth1", START)?;
    Ok(())
}
