//! Start and stop: what is told, and which exit code.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{Process, Signal};

use crate::bench::{Bench, SERVER, SMALL, START, daemon, noise};

fn begin_download(bench: &Bench) -> Result<TcpStream> {
    let mut stream = bench.connect(None)?;
    write!(stream, "GET /assets/debian/initrd.img HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    stream.read_exact(&mut [0; 16])?;
    Ok(stream)
}

#[test]
fn a_stop_lets_a_running_transfer_come_to_its_end() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let mut stream = begin_download(&bench)?;
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_for_line("stopping; running transfers have 30 s", START)?;
    let since = Instant::now();
    while bench.client.enter(|| TcpStream::connect((SERVER, 8080)))?.is_ok() {
        ensure!(since.elapsed() < START, "it still accepts");
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    ensure!(rest.ends_with(&noise(24_000_001, 2)), "the transfer was cut off at {} bytes", rest.len());
    let status = bench.netbootd.wait_exit(START)?;
    ensure!(status.code() == Some(0), "{status}");
    bench.netbootd.wait_for_line("stopped", START)?;
    Ok(())
}

#[test]
fn downloads_that_outlast_the_grace_period_are_cut_and_counted() -> Result<()> {
    let Some(mut bench) = Bench::start_with(&[("NETBOOTD_HTTP__GRACE", "1s")])? else { return Ok(()) };
    let _stalled = [begin_download(&bench)?, begin_download(&bench)?];
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_for_line("stopped; 2 HTTP downloads were cut off", START)?;
    let status = bench.netbootd.wait_exit(START)?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

/// An iPXE that starts its kernel stops acknowledging in the middle of the last packets. Their bytes are the kernel's by
/// then: a stop need not wait for them, and a client that is only slow still gets them.
#[test]
fn what_the_kernel_has_to_send_is_not_waited_for_and_still_arrives() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let bytes = noise(24_000, 7);
    std::fs::write(bench.assets.join("last"), &bytes)?;
    let mut stream = bench.connect(Some(8192))?;
    write!(stream, "GET /assets/last HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut got = vec![0; 16];
    stream.read_exact(&mut got)?;
    bench.netbootd.signal(Signal::SIGTERM)?;
    let began = Instant::now();
    let status = bench.netbootd.wait_exit(START)?;
    ensure!(status.code() == Some(0) && began.elapsed() < Duration::from_secs(10), "{status} {:?}", began.elapsed());
    stream.read_to_end(&mut got)?;
    ensure!(got.ends_with(&bytes), "only {} bytes arrived", got.len());
    bench.netbootd.wait_for_line("netbootd stopped; the kernel sends the rest", START)?;
    Ok(())
}

/// Else the machine would be given its one-time profile again, and its disk be installed twice.
#[test]
fn a_boot_whose_last_file_arrives_while_the_server_stops_uses_a_one_time_profile_up() -> Result<()> {
    let rule = "[[machines]]\nname = \"m1\"\nmac = \"52:54:00:12:34:56\"\nonce = true\n";
    let Some(mut bench) = Bench::with_configuration(rule)? else { return Ok(()) };
    let script = "/boot.ipxe?mac=52:54:00:12:34:56&arch=x86_64&platform=efi";
    let first = String::from_utf8(bench.curl(&[], script)?)?;
    ensure!(first.contains("/assets/debian/initrd.img"), "{first}");
    bench.curl(&[], "/assets/vmlinuz")?;
    let mut stream = bench.get("/assets/debian/initrd.img", Some(SMALL))?;
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_for_line("stopping; running transfers have 30 s", START)?;
    let mut initrd = Vec::new();
    stream.read_to_end(&mut initrd)?;
    ensure!(initrd == noise(24_000_001, 2), "{} bytes arrived", initrd.len());
    bench.netbootd.wait_exit(START)?;
    bench.netbootd = bench.again()?;
    let second = String::from_utf8(bench.curl(&[], script)?)?;
    ensure!(second.contains("m1 boots from its local disk"), "{second}\n{:?}", bench.netbootd.lines());
    Ok(())
}

#[test]
fn a_second_signal_stops_at_once() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let _stalled = begin_download(&bench)?;
    bench.netbootd.signal(Signal::SIGINT)?;
    bench.netbootd.wait_for_line("stopping", START)?;
    let began = Instant::now();
    bench.netbootd.signal(Signal::SIGINT)?;
    bench.netbootd.wait_exit(START)?;
    ensure!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    Ok(())
}

/// timeout(1) sends its signal to its child, and then to its group.
#[test]
fn one_signal_that_comes_twice_cuts_nothing_off() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let mut stream = begin_download(&bench)?;
    for _ in 0..2 {
        bench.netbootd.signal(Signal::SIGTERM)?;
        thread::sleep(Duration::from_millis(2));
    }
    bench.netbootd.wait_for_line("stopping", START)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    ensure!(rest.ends_with(&noise(24_000_001, 2)), "the transfer was cut off at {} bytes", rest.len());
    bench.netbootd.wait_exit(START)?;
    Ok(())
}

/// Ctrl-S, or an SSH client that sleeps: what the server prints is not read, and a write waits.
#[test]
fn machines_boot_while_nobody_reads_what_is_printed() -> Result<()> {
    let configuration = "default_profile = \"local\"\n[profiles.linux]\nkernel = \"vmlinuz\"\n\
                         [[machines]]\nname = \"m1\"\nmac = \"52:54:00:12:34:56\"\nprofile = \"linux\"\nonce = true\n";
    let Some(mut bench) = Bench::with_configuration(configuration)? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let (mut reader, writer) = std::io::pipe()?;
    let mut command = daemon(&bench.server);
    command.env("NETBOOTD_STATE__URL", format!("sqlite://{}/unread.db", bench.lab.directory().display()));
    command.args(["up", "--interface", "eth1", "--assets"]).arg(&bench.assets).arg("--config");
    command.arg(bench.lab.directory().join("netbootd.toml")).stdout(writer);
    let mut server = command.spawn()?;
    drop(command);
    let began = Instant::now();
    while bench.client.enter(|| TcpStream::connect((SERVER, 8080)))?.is_err() {
        ensure!(began.elapsed() < START, "it does not start");
        thread::sleep(Duration::from_millis(50));
    }
    // Each is a line of the log; the pipe has room for 64 KiB.
    for machine in 0..MACHINES {
        let mac = format!("52:54:00:00:{:02x}:{:02x}", machine / 256, machine % 256);
        let uuid = format!("00112233-4455-6677-8899-{machine:012x}");
        let path = format!("/boot.ipxe?mac={mac}&uuid={uuid}&arch=x86_64&platform=efi");
        if let Err(error) = bench.get(&path, None) {
            server.kill()?;
            return Err(error.context(format!("machine {machine} got no script")));
        }
    }
    // Its only boot of this profile counts: else its disk would be installed again.
    let ipxe = ["--max-time", "10", "--user-agent", "iPXE/1.21.1"];
    let m1 = "/boot.ipxe?mac=52:54:00:12:34:56&arch=x86_64&platform=efi";
    let boot = || -> Result<Vec<u8>> {
        let script = String::from_utf8(bench.curl(&ipxe, m1)?)?;
        let kernel = script.split("kernel http://10.77.0.2:8080").nth(1).and_then(|rest| rest.split(' ').next());
        bench.curl(&ipxe, kernel.context("no kernel")?)?;
        let since = Instant::now();
        while !String::from_utf8(bench.curl(&ipxe, "/api/v1/machines/m1")?)?.contains("\"handed_over\"") {
            ensure!(since.elapsed() < START, "its hand-over is not seen");
            thread::sleep(Duration::from_millis(50));
        }
        bench.curl(&ipxe, m1)
    };
    let again = boot();
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let mut printed = String::new();
    reader.read_to_string(&mut printed)?;
    server.wait()?;
    let again = String::from_utf8(again?)?;
    ensure!(again.contains("m1 boots from its local disk"), "{again}");
    let scripts = printed.lines().filter(|line| line.contains("52:54:00:00:") && line.contains(" script ")).count();
    ensure!(scripts == MACHINES && printed.contains("stopped"), "{scripts} lines: {printed}");
    Ok(())
}

const MACHINES: usize = 3000;

/// Exit code, and what was printed.
fn fails(bench: &Bench, change: impl FnOnce(&mut std::process::Command)) -> Result<(Option<i32>, String)> {
    let mut command = daemon(&bench.server);
    change(&mut command);
    let mut process = Process::spawn("netbootd", &mut command)?;
    let status = process.wait_exit(START)?;
    Ok((status.code(), process.lines().join("\n")))
}

#[test]
fn what_cannot_start_says_why_and_ends_with_the_code_for_it() -> Result<()> {
    let Some(bench) = Bench::start()? else { return Ok(()) };
    let (code, words) = fails(&bench, |command| {
        command.args(["up", "--interface", "eth1"]);
    })?;
    ensure!(code == Some(69), "{code:?} {words}");
    ensure!(words.contains("DHCP on eth1, UDP port 4011: Address already in use"), "{words}");

    let (code, words) = fails(&bench, |command| {
        command.args(["up", "--interface", "eth7"]);
    })?;
    ensure!(code == Some(64) && words.contains("unknown interface eth7; this host has: lo, eth1"), "{code:?} {words}");

    // It may come while the host starts: a service is to try again, as it does not at a fault (78).
    let (code, words) = fails(&bench, |command| {
        command.arg("up").env("NETBOOTD_INTERFACES", "[\"eth7\"]");
    })?;
    ensure!(code == Some(69) && words.contains("unknown interface eth7"), "{code:?} {words}");

    let config = bench.lab.directory().join("n.toml");
    std::fs::write(&config, "[htpp]\nport = 1\n")?;
    let (code, words) = fails(&bench, |command| {
        command.args(["up", "--config"]).arg(&config);
    })?;
    let place = format!(
        "netbootd: {}:1:2: unknown key \"htpp\" (did you mean \"http\"?); known keys at the top level:",
        config.display()
    );
    ensure!(code == Some(78) && words.contains(&place), "{code:?} {words}");

    let (code, words) = fails(&bench, |command| {
        command.args(["up", "/nowhere/vmlinuz"]);
    })?;
    ensure!(code == Some(69) && words.contains("/nowhere/vmlinuz: No such file or directory"), "{code:?} {words}");

    let (code, words) = fails(&bench, |command| {
        command.args(["up", "--", "console=ttyS0"]);
    })?;
    ensure!(code == Some(64), "{code:?} {words}");
    Ok(())
}

#[test]
fn one_capability_is_enough_and_without_it_the_mend_is_told() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    // The binary's own folder may be closed to others.
    let copy = bench.lab.directory().join("netbootd");
    std::fs::copy(env!("CARGO_BIN_EXE_netbootd"), &copy)?;
    let as_nobody = |capabilities: &[&str]| {
        let mut command = bench.server.command("setpriv");
        command.env("NETBOOTD_STATE__URL", "sqlite://:memory:");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(capabilities);
        Process::spawn("netbootd", command.arg(&copy).args(["up", "--interface", "eth1"]))
    };
    let mut process = as_nobody(&["--bounding-set=-all", "--inh-caps=-all"])?;
    let status = process.wait_exit(START)?;
    let words = process.lines().join("\n");
    ensure!(status.code() == Some(77), "{status} {words}");
    ensure!(words.contains("need root or CAP_NET_BIND_SERVICE: sudo netbootd up"), "{words}");

    let process = as_nobody(&["--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service"])?;
    process.wait_for_line("waiting on eth1", START)?;
    Ok(())
}

#[test]
fn a_configuration_file_does_what_the_command_line_does() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    bench.netbootd.signal(Signal::SIGTERM)?;
    bench.netbootd.wait_exit(START)?;
    let config = bench.lab.directory().join("n.toml");
    let text = format!(
        "interfaces = [\"eth1\"]\nassets = {:?}\ndefault_profile = \"debian\"\n[http]\nport = 8099\n\
         [profiles.debian]\nkernel = \"vmlinuz\"\ninitrd = [\"debian/initrd.img\"]\n\
         cmdline = \"mac={{{{ machine.mac }}}} arch={{{{ machine.arch }}}}\"\n",
        bench.assets
    );
    std::fs::write(&config, text)?;
    let mut command = daemon(&bench.server);
    let command = command.args(["up", "--log-format", "json", "--config"]).arg(&config);
    let netbootd = Process::spawn("netbootd", command.env("NETBOOTD_HTTP__PORT", "8080"))?;
    // What `check` calls a fault keeps no server from running.
    netbootd.wait_for_line("n.toml:7:1: vmlinuz is not a kernel: ", START)?;
    netbootd.wait_for_line("waiting on eth1", START)?;
    let script = bench.curl(&[], "/boot.ipxe?mac=525400123456&arch=i386")?;
    let script = String::from_utf8(script)?;
    ensure!(script.contains("mac=52:54:00:12:34:56 arch=i386 || goto failed"), "{script}");
    let line = netbootd.wait_for_line("\"stage\":\"script\"", START)?;
    let line: serde_json::Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    ensure!(line["machine"] == "52:54:00:12:34:56" && line["message"] == "profile debian", "{line}");
    ensure!(line["boot"] == 1 && line["level"] == "INFO", "{line}");
    Ok(())
}

/// As systemd starts it, which names the stream that is the journal's.
#[test]
fn the_journal_is_told_each_lines_priority() -> Result<()> {
    let Some(mut bench) = Bench::start()? else { return Ok(()) };
    let start = |stream: &str, format: &str| -> Result<Process> {
        let set = format!("JOURNAL_STREAM={stream} exec \"$@\"");
        let mut shell = bench.server.command("sh");
        shell.args(["-c", &set, "sh", env!("CARGO_BIN_EXE_netbootd"), "up", "--log-format", format]);
        shell.args(["--interface", "eth1"]).arg(bench.assets.join("vmlinuz")).env_remove("NETBOOTD_LOG");
        Process::spawn("netbootd", &mut shell)
    };
    let stopped = |netbootd: &mut Process| -> Result<()> {
        netbootd.signal(Signal::SIGTERM)?;
        netbootd.wait_exit(START).map(drop)
    };
    stopped(&mut bench.netbootd)?;
    let journal = "$(stat -L -c %d:%i /proc/$$/fd/1)";
    let mut netbootd = start(journal, "text")?;
    netbootd
        .wait_for("a warning", START, |line| line.starts_with("<4>warning: ") && line.contains("is not a kernel"))?;
    netbootd.wait_for("no time", START, |line| line.starts_with("<6>waiting on eth1"))?;
    stopped(&mut netbootd)?;
    let mut netbootd = start(journal, "json")?;
    let line = netbootd.wait_for("a warning", START, |line| line.contains("is not a kernel"))?;
    let json = line.strip_prefix("<4>").with_context(|| line.clone())?;
    ensure!(serde_json::from_str::<serde_json::Value>(json)?["level"] == "WARN", "{line}");
    stopped(&mut netbootd)?;
    // A shell that was started by a service has its variable, and another output.
    let mut netbootd = start("1:1", "text")?;
    let line = netbootd.wait_for_line("waiting on eth1", START)?;
    ensure!(line.split(' ').next().is_some_and(|clock| clock.len() == 8 && clock.contains(':')), "{line}");
    stopped(&mut netbootd)
}
