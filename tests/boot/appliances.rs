//! Two appliances with one state answer the machines of one network.

use std::{fs, path::Path, process::Command, thread, time::Instant};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{BootFiles, Firmware, Host, Postgres, Process, Signal, Vm};

use crate::stand::{BOOT, Place, START, Stand};

const CONFIGURATION: &str = r#"
default_profile = "lab"
[state]
url = "postgres://netbootd@10.77.0.9/netbootd?sslmode=disable"
password_file = "FOLDER/password"
appliance = "NAME"
copy = "FOLDER/NAME.db"
[profiles.lab]
kernel = "vmlinuz"
initrd = ["base.img", "payload.img"]
cmdline = "console=ttyS0"
"#;

/// Fields are dropped in this order.
struct Pair {
    other: Process,
    _postgres: Postgres,
    stand: Stand,
}

fn configure(folder: &Path, name: &str, command: &mut Command) -> Result<()> {
    let path = folder.join(format!("{name}.toml"));
    fs::write(folder.join("password"), Postgres::PASSWORD)?;
    let text = CONFIGURATION.replace("FOLDER", &folder.display().to_string()).replace("NAME", name);
    fs::write(&path, text)?;
    command.env_remove("NETBOOTD_STATE__URL").arg("--config").arg(path).arg("--assets").arg(folder);
    Ok(())
}

impl Pair {
    /// The first appliance is there before its database.
    fn start() -> Result<Option<Self>> {
        let serve = |files: &BootFiles, command: &mut Command| configure(files.folder(), "a", command);
        let Some(stand) = Stand::serving(Place::TwoHosts, serve)? else { return Ok(None) };
        let database = stand.lab.host("database", Some("10.77.0.9/24"))?;
        let postgres = Postgres::start(Some(&database))?;
        let host: Host = stand.lab.host("other", Some("10.77.0.3/24"))?;
        let mut command = host.command(env!("CARGO_BIN_EXE_netbootd"));
        command.env_remove("NETBOOTD_LOG").args(["up", "--interface", "eth1"]);
        configure(stand.files.folder(), "b", &mut command)?;
        let other = Process::spawn("netbootd b", &mut command)?;
        other.wait_for_line("waiting on eth1 (10.77.0.3)", START)?;
        stand.netbootd.wait_for_line("the appliance b shares the state", BOOT)?;
        Ok(Some(Self { other, _postgres: postgres, stand }))
    }

    fn printed(&self) -> String {
        format!("{}\nthe other printed:\n{}", self.stand.printed(), self.other.lines().join("\n"))
    }

    /// The appliances that have told this of a machine.
    fn told(&self, words: &str) -> Vec<&Process> {
        let told = |process: &&Process| process.lines().iter().any(|line| line.contains(words));
        [&self.stand.netbootd, &self.other].into_iter().filter(told).collect()
    }

    /// The appliances that handed a machine over. On UEFI, iPXE may start the kernel before the last acknowledgement: then
    /// the machine is heard first, and the hand-over is told once its silence is long enough.
    fn handed_over(&self, vm: &Vm) -> Vec<&Process> {
        let (began, words) = (Instant::now(), format!("{} handed_over", vm.mac()));
        loop {
            let told = self.told(&words);
            if !told.is_empty() || began.elapsed() > BOOT {
                return told;
            }
            thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    fn boots(&self, firmware: Firmware, number: u8) -> Result<()> {
        let vm = Vm::start(&self.stand.lab, firmware, number)?;
        let words = vm.last_words(BOOT).with_context(|| self.printed())?;
        ensure!(words.payload_ok, "{words:?}");
        let handed_over = self.handed_over(&vm).len();
        ensure!(handed_over == 1, "{handed_over} appliances handed it over\n{}", self.printed());
        ensure!(self.told("another ProxyDHCP").is_empty(), "{}", self.printed());
        Ok(())
    }

    /// The appliance that gave the machine its loader is killed before the script.
    fn boots_by_the_one_that_is_left(&self, firmware: Firmware, number: u8) -> Result<()> {
        let vm = Vm::start(&self.stand.lab, firmware, number)?;
        let (began, loader) = (Instant::now(), format!("{} loader ", vm.mac()));
        let first = loop {
            if let Some(first) = self.told(&loader).into_iter().next() {
                break first;
            }
            ensure!(began.elapsed() < BOOT, "no loader\n{}", self.printed());
            thread::sleep(std::time::Duration::from_millis(5));
        };
        first.signal(Signal::SIGKILL)?;
        let words = vm.last_words(BOOT).with_context(|| self.printed())?;
        ensure!(words.payload_ok, "{words:?}");
        let by = self.handed_over(&vm);
        ensure!(matches!(by.as_slice(), [one] if one.pid() != first.pid()), "{}", self.printed());
        Ok(())
    }
}

#[test]
fn machines_boot_with_two_appliances_that_answer() -> Result<()> {
    let Some(pair) = Pair::start()? else { return Ok(()) };
    pair.boots(Firmware::Bios, 40)?;
    pair.boots(Firmware::UefiPxe, 41)
}

#[test]
fn a_bios_machine_boots_though_the_first_appliance_dies_after_the_loader() -> Result<()> {
    let Some(pair) = Pair::start()? else { return Ok(()) };
    pair.boots_by_the_one_that_is_left(Firmware::BiosPlainRom, 42)
}

#[test]
fn a_uefi_machine_boots_though_the_first_appliance_dies_after_the_loader() -> Result<()> {
    let Some(pair) = Pair::start()? else { return Ok(()) };
    pair.boots_by_the_one_that_is_left(Firmware::UefiPxe, 43)
}
