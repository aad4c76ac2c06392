//! The network that machines are switched on in: a server that leases addresses, and netbootd.

use std::{
    net::Ipv4Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netbootd_lab::{
    ARM64_TOOLS, BootFiles, Firmware, Host, Lab, LastWords, LeaseServer, NETWORK_TOOLS, Process, Relay, Signal,
    VM_TOOLS, VM_TOOLS_32_BIT, Vm, required,
};

/// Where the two servers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On two hosts of the machines' own network.
    TwoHosts,
    /// On one host, whose port 67 the leasing server has for itself.
    OneHost,
    /// On two hosts of another network, behind a router that relays DHCP.
    BehindRelay,
    /// There is none that leases: netbootd does it.
    Alone,
}

/// A network, with netbootd ready in it. Fields are dropped in this order.
pub(crate) struct Stand {
    pub(crate) netbootd: Process,
    pub(crate) host: Host,
    pub(crate) files: BootFiles,
    leases: Option<LeaseServer>,
    /// With the network behind it.
    relay: Option<(Relay, Lab)>,
    /// The machines' network.
    pub(crate) lab: Lab,
}

impl Stand {
    /// A kernel and its initrds on the command line.
    pub(crate) fn new(place: Place) -> Result<Option<Self>> {
        Self::serving(place, |files, command| {
            command.arg(files.kernel()).args(files.initrds());
            command.args(["--", "console=ttyS0", "hostname={{ machine.name }}", "role=lab"]);
            Ok(())
        })
    }

    /// The same, with so many bytes per second for one machine.
    pub(crate) fn with_rate_limit(rate: &str) -> Result<Option<Self>> {
        Self::serving(Place::TwoHosts, |files, command| {
            command.env("NETBOOTD_HTTP__RATE_LIMIT", rate).arg(files.kernel()).args(files.initrds());
            command.args(["--", "console=ttyS0"]);
            Ok(())
        })
    }

    /// Bytes that the machine has acknowledged on an HTTP connection that is open.
    pub(crate) fn acknowledged(&self) -> Result<u64> {
        let output = self.host.command("ss").args(["-tniH", "sport", "=", "8080"]).output()?;
        let text = String::from_utf8(output.stdout)?;
        let fields = text.split_whitespace().filter_map(|field| field.strip_prefix("bytes_acked:")?.parse().ok());
        Ok(fields.max().unwrap_or(0))
    }

    /// Waits for a download that is in full swing.
    pub(crate) fn wait_until_acknowledged(&self, bytes: u64) -> Result<()> {
        let began = Instant::now();
        while self.acknowledged()? < bytes {
            ensure!(began.elapsed() < BOOT, "no download\n{}", self.printed());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What is served is up to the caller.
    pub(crate) fn serving(
        place: Place,
        serve: impl FnOnce(&BootFiles, &mut Command) -> Result<()>,
    ) -> Result<Option<Self>> {
        let Some(()) = required(&[NETWORK_TOOLS, VM_TOOLS, VM_TOOLS_32_BIT]) else { return Ok(None) };
        Self::standing(place, BootFiles::prepare, None, serve).map(Some)
    }

    /// For Arm machines, beside a leasing server that names a boot file of ours where it is to.
    pub(crate) fn arm64(
        place: Place,
        boot_file: Option<&str>,
        serve: impl FnOnce(&BootFiles, &mut Command) -> Result<()>,
    ) -> Result<Option<Self>> {
        let Some(()) = required(&[NETWORK_TOOLS, VM_TOOLS, ARM64_TOOLS]) else { return Ok(None) };
        Self::standing(place, BootFiles::prepare_arm64, boot_file, serve).map(Some)
    }

    fn standing(
        place: Place,
        prepare: impl FnOnce(&Lab) -> Result<BootFiles>,
        boot_file: Option<&str>,
        serve: impl FnOnce(&BootFiles, &mut Command) -> Result<()>,
    ) -> Result<Self> {
        let lab = Lab::new()?;
        let files = prepare(&lab)?;
        let relay = match place {
            Place::BehindRelay => {
                let far = Lab::new()?;
                let (near_leg, far_leg) = ([10, 78, 0, 1].into(), [10, 77, 0, 254].into());
                Some((Relay::between((&lab, near_leg), (&far, far_leg), &[LEASES, NETBOOTD])?, far))
            }
            Place::TwoHosts | Place::OneHost | Place::Alone => None,
        };
        let servers = relay.as_ref().map_or(&lab, |(_, far)| far);
        let dhcp = servers.host("dhcp", Some(&format!("{LEASES}/24")))?;
        let (host, address) = match place {
            Place::OneHost => (dhcp.clone(), LEASES),
            Place::TwoHosts | Place::BehindRelay | Place::Alone => {
                (servers.host("netbootd", Some(&format!("{NETBOOTD}/24")))?, NETBOOTD)
            }
        };
        let network = if relay.is_some() { 78 } else { 77 };
        let (first, last) = ([10, network, 0, 100].into(), [10, network, 0, 199].into());
        let leases = match boot_file {
            _ if place == Place::Alone => None,
            Some(file) => Some(LeaseServer::start_with_boot_file(servers, &dhcp, (first, last), (file, address))?),
            None => Some(LeaseServer::start_with_ipv6_router(servers, &dhcp, first, last)?),
        };
        if relay.is_some() {
            for host in [&dhcp, &host] {
                host.ip(&["route", "add", "10.78.0.0/24", "via", "10.77.0.254"])?;
            }
        }
        let mut command = host.command(env!("CARGO_BIN_EXE_netbootd"));
        command.env_remove("NETBOOTD_LOG");
        command.args(["up", "--interface", "eth1"]);
        if place == Place::Alone {
            command.args(["--lease", "10.77.0.100-10.77.0.199"]);
        }
        serve(&files, &mut command)?;
        let netbootd = Process::spawn("netbootd", &mut command)?;
        netbootd.wait_for_line(&format!("waiting on eth1 ({address})"), START)?;
        if place == Place::Alone {
            netbootd.wait_for_line("no other DHCP server answers on eth1: addresses are leased", START)?;
        }
        Ok(Self { netbootd, host, files, leases, relay, lab })
    }

    /// Switches a machine on, and holds what it says at the end against what it was to boot, and what netbootd saw
    /// of it against these stages. Ends netbootd, which has to stop in order.
    pub(crate) fn boots(&mut self, firmware: Firmware, number: u8, cmdline: &str, stages: &[&str]) -> Result<()> {
        let vm = Vm::start(&self.lab, firmware, number).with_context(|| self.printed())?;
        let words = vm.last_words(BOOT).with_context(|| self.printed())?;
        let expected = LastWords {
            mac: vm.mac().to_owned(),
            kernel: self.files.release().to_owned(),
            cmdline: cmdline.to_owned(),
            payload_ok: true,
        };
        ensure!(words == expected, "the machine said {words:#?}\ninstead of {expected:#?}\n{}", self.printed());

        self.netbootd.signal(Signal::SIGTERM)?;
        let status = self.netbootd.wait_exit(STOP)?;
        ensure!(status.code() == Some(0), "netbootd ended with {status}\n{}", self.printed());
        let seen = stages_of(vm.mac(), &self.netbootd.lines(), stages);
        ensure!(seen == stages, "netbootd named {seen:?}\ninstead of {stages:?}\n{}", self.printed());
        Ok(())
    }

    /// What the servers printed, for errors.
    pub(crate) fn printed(&self) -> String {
        let mut printed = format!("netbootd printed:\n{}", self.netbootd.lines().join("\n"));
        if let Some((relay, _)) = &self.relay {
            let leases = self.leases.as_ref().map(|leases| leases.process().lines()).unwrap_or_default();
            let relay = relay.process().lines();
            printed += &format!("\nthe relay:\n{}\nthe leasing server:\n{}", relay.join("\n"), leases.join("\n"));
        }
        printed
    }
}

/// Those of `wanted` that netbootd named for this machine, in the order in which it first did. The word behind the
/// machine's address is the stage; a stage may come again, as `discover` does when iPXE starts.
fn stages_of<'a>(mac: &str, lines: &[String], wanted: &[&'a str]) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for line in lines {
        let stage = line.split_whitespace().skip_while(|word| *word != mac).nth(1);
        if let Some(stage) = wanted.iter().copied().find(|wanted| Some(*wanted) == stage)
            && !seen.contains(&stage)
        {
            seen.push(stage);
        }
    }
    seen
}

pub(crate) const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(30);
/// Emulated without KVM: 5 to 25 s on an idle machine, several times that on a busy one.
pub(crate) const BOOT: Duration = Duration::from_secs(240);

const LEASES: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const NETBOOTD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
