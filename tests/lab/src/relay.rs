//! Two networks with a router between them that relays DHCP: clients on the near one, servers on the far one.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::tools::DNSMASQ;
use crate::{Host, Lab, Process};

/// A router with a leg in each of two labs.
#[derive(Debug)]
pub struct Relay {
    process: Process,
    router: Host,
}

impl Relay {
    /// Its `eth1` is in the near lab, with the address that becomes giaddr; its `eth2` in the far lab. What clients
    /// broadcast goes to each of the servers: the one that leases, and the one that says where to boot.
    pub fn between(near: (&Lab, Ipv4Addr), far: (&Lab, Ipv4Addr), servers: &[Ipv4Addr]) -> Result<Relay> {
        let router = near.0.host("router", Some(&format!("{}/24", near.1)))?;
        far.0.plug_host_in(&router, "eth2", Some(&format!("{}/24", far.1)))?;
        router.enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?.context("forwarding")?;
        let mut command = router.command(DNSMASQ);
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--log-facility=-", "--log-dhcp"])
            .args(["--port=0", "--no-resolv", "--bind-interfaces", "--pid-file"])
            .args(servers.iter().map(|server| format!("--dhcp-relay={},{server}", near.1)));
        let process = Process::spawn("relay", &mut command)?;
        process.wait_for_line("DHCP relay from", Duration::from_secs(20))?;
        Ok(Relay { process, router })
    }

    /// The router: others on the far network need a route through it.
    pub fn router(&self) -> &Host {
        &self.router
    }

    /// Its log.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
