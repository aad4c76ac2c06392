//! The demo: a lab, a DHCP server that knows nothing of network boot, netbootd, and three machines one after another.

mod screen;

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::{BootFiles, Firmware, Host, Lab, LastWords, LeaseServer, NETWORK_TOOLS, Process, VM_TOOLS, Vm, tools};
use screen::Screen;

/// True where every machine booted. `keep_going`: boot the others where one has failed.
pub fn run(netbootd: &Path, keep_going: bool) -> Result<bool> {
    tools::check(&[NETWORK_TOOLS, VM_TOOLS])?;
    let netbootd = netbootd.canonicalize().with_context(|| format!("no netbootd at {}", netbootd.display()))?;
    let screen = Screen::new();

    screen.line("lab", "packing a Debian kernel (fetched the first time) and an initramfs in two parts");
    let lab = Lab::new()?;
    let files = BootFiles::prepare(&lab)?;
    screen.line("lab", "a network of namespaces; this machine's own network is not touched");
    let dhcp = lab.host("dhcp", Some("10.77.0.1/24"))?;
    let _leases = LeaseServer::start_with_ipv6_router(&lab, &dhcp, [10, 77, 0, 100].into(), [10, 77, 0, 199].into())?;
    screen.line("lab", "10.77.0.1  dnsmasq, which leases addresses and knows nothing of network boot");
    screen.line("lab", "10.77.0.2  netbootd, with one command and no configuration:");

    let host = lab.host("netbootd", Some("10.77.0.2/24"))?;
    let mut server = start_netbootd(&screen, &host, &netbootd, &files)?;
    let mut boots = Vec::new();
    for (number, firmware) in (1..).zip(MACHINES) {
        let boot = boot(&screen, &lab, firmware, number, &files);
        let failed = boot.outcome.is_err();
        boots.push(boot);
        if failed && !keep_going {
            break;
        }
    }
    screen.line("lab", "stopping netbootd");
    server.signal(Signal::SIGTERM)?;
    let status = server.wait_exit(STOP)?;
    screen.blank();
    screen.text(&table(&boots));
    ensure!(status.success(), "netbootd did not stop in order: {status}");
    Ok(boots.iter().all(|boot| boot.outcome.is_ok()))
}

/// The demo has a clock of its own.
fn without_clock(line: &str) -> &str {
    match line.split_once(' ') {
        Some((clock, rest)) if clock.len() == 8 && clock.bytes().all(|c| c.is_ascii_digit() || c == b':') => rest,
        _ => line,
    }
}

/// One machine's boot, as the table at the end shows it.
struct Boot {
    firmware: Firmware,
    took: Duration,
    outcome: Result<LastWords>,
}

fn start_netbootd(screen: &Screen, host: &Host, program: &Path, files: &BootFiles) -> Result<Process> {
    let names = [&[BootFiles::KERNEL][..], &BootFiles::INITRDS].concat().join(" ");
    screen.line("lab", &format!("    netbootd up --interface eth1 {names} -- {CMDLINE}"));
    let mut command = host.command(program);
    command.args(["up", "--interface", "eth1"]).arg(files.kernel()).args(files.initrds());
    let server = Process::spawn("netbootd", command.arg("--").args(CMDLINE.split(' ')))?;
    let ready = server.wait_for_line("waiting on eth1", START);
    // Up to here in order, from here on as they come.
    let mut lines = server.follow();
    for line in lines.by_ref() {
        screen.line("netbootd", without_clock(&line));
        if ready.as_ref().is_ok_and(|ready| *ready == line) {
            break;
        }
    }
    screen.show("netbootd", lines, |line| Some(without_clock(line).to_owned()));
    ready.map(|_| server)
}

fn boot(screen: &Screen, lab: &Lab, firmware: Firmware, number: u8, files: &BootFiles) -> Boot {
    screen.blank();
    let started = Instant::now();
    let outcome = Vm::start(lab, firmware, number).and_then(|vm| {
        screen.line("lab", &format!("switching on {} ({}), {}", firmware.label(), firmware.description(), vm.mac()));
        let shown = screen.show(firmware.label(), vm.console().follow(), screen::of_interest);
        let words = vm.last_words(BOOT);
        // Switched off first: the thread that shows its console ends with the console.
        drop(vm);
        let _ = shown.join();
        words
    });
    let outcome = outcome.and_then(|words| {
        ensure!(words.payload_ok, "the second initrd arrived damaged");
        ensure!(words.kernel == files.release(), "booted {} instead of {}", words.kernel, files.release());
        Ok(words)
    });
    let took = started.elapsed();
    if let Err(error) = &outcome {
        screen.line("lab", &format!("{} failed: {error:#}", firmware.label()));
    }
    Boot { firmware, took, outcome }
}

fn table(boots: &[Boot]) -> String {
    let mut table = format!("{:<10} {:<23} {:>6}  {}\n", "machine", "firmware", "time", "result");
    for Boot { firmware, took, outcome } in boots {
        let result = match outcome {
            Ok(words) => format!("booted Linux {}", words.kernel),
            Err(_) => "FAILED (see above)".to_owned(),
        };
        let seconds = format!("{:.0} s", took.as_secs_f32());
        let _ = writeln!(table, "{:<10} {:<23} {seconds:>6}  {result}", firmware.label(), firmware.description());
    }
    table
}

const MACHINES: [Firmware; 3] = [Firmware::Bios, Firmware::UefiPxe, Firmware::UefiHttp];
const CMDLINE: &str = "console=ttyS0 hostname={{ machine.name }} role=lab";

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(30);
/// Emulated without KVM: half a minute on an idle machine, several times that on a busy one.
const BOOT: Duration = Duration::from_secs(240);
