//! The DHCP server that is already there: it leases addresses and has never heard of network boot.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::tools::DNSMASQ;
use crate::{Host, Lab, Process};

/// dnsmasq with nothing but a range. netbootd has to work beside it without a change to it.
#[derive(Debug)]
pub struct LeaseServer {
    process: Process,
}

impl LeaseServer {
    /// Serves `first` to `last` on the `eth1` of `host`, and returns when it does.
    pub fn start(lab: &Lab, host: &Host, first: Ipv4Addr, last: Ipv4Addr) -> Result<LeaseServer> {
        run(&mut dnsmasq(lab, host, first, last))
    }

    /// The same on a network that has IPv6 too, with this host as its router. Where no router answers, an iPXE waits for one:
    /// 16 s between the last word of DHCP and the first fetch (1.0.0+2019), in which nothing of interest happens.
    pub fn start_with_ipv6_router(lab: &Lab, host: &Host, first: Ipv4Addr, last: Ipv4Addr) -> Result<LeaseServer> {
        host.ip(&["address", "add", "fd77::1/64", "dev", "eth1", "nodad"])?;
        run(dnsmasq(lab, host, first, last).args(["--enable-ra", "--dhcp-range=fd77::,ra-only"]))
    }

    /// The same, and it names a boot file on another server to everyone, for firmware that hears no proxy.
    pub fn start_with_boot_file(
        lab: &Lab,
        host: &Host,
        (first, last): (Ipv4Addr, Ipv4Addr),
        (file, server): (&str, Ipv4Addr),
    ) -> Result<LeaseServer> {
        run(dnsmasq(lab, host, first, last).arg(format!("--dhcp-boot={file},,{server}")))
    }

    /// Its log, a line for each packet and option.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn dnsmasq(lab: &Lab, host: &Host, first: Ipv4Addr, last: Ipv4Addr) -> Command {
    let leases = lab.directory().join(format!("{}.leases", host.namespace()));
    let mut command = host.command(DNSMASQ);
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--log-facility=-", "--log-dhcp"])
        .args(["--port=0", "--no-resolv", "--interface=eth1", "--bind-interfaces"])
        // Without its ping it answers at once: the hardest case for a proxy, which must not be later than the lease.
        .args(["--dhcp-authoritative", "--no-ping"])
        // None: several run at a time, and would share the one of the host.
        .arg("--pid-file")
        // The mask is said for the networks behind a relay, which it cannot see.
        .arg(format!("--dhcp-range={first},{last},255.255.255.0,1h"))
        .arg(format!("--dhcp-leasefile={}", leases.display()));
    command
}

fn run(command: &mut Command) -> Result<LeaseServer> {
    let process = Process::spawn("dnsmasq", command)?;
    process.wait_for_line("sockets bound exclusively to interface eth1", Duration::from_secs(20))?;
    Ok(LeaseServer { process })
}
