//! The DHCP servers that `netbootd dhcp-snippet` has lines for, with these lines and the addresses of one network.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::tools::{DHCPD, DNSMASQ, KEA, KEA_LIBRARIES};
use crate::{Host, Lab, Process};

/// A kind of server, by the name of its snippet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnippetServer {
    /// dnsmasq.
    Dnsmasq,
    /// ISC dhcpd.
    Isc,
    /// ISC Kea.
    Kea,
}

impl SnippetServer {
    /// As `netbootd dhcp-snippet` calls it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            SnippetServer::Dnsmasq => "dnsmasq",
            SnippetServer::Isc => "isc",
            SnippetServer::Kea => "kea",
        }
    }

    /// Leases 10.77.0.50 to 10.77.0.60 on the host's `eth1`, with these lines in its configuration.
    pub fn start(self, lab: &Lab, host: &Host, lines: &str) -> Result<Process> {
        let file = lab.directory().join(format!("{}.conf", self.kind()));
        let start = Duration::from_secs(20);
        match self {
            SnippetServer::Dnsmasq => {
                fs::write(&file, lines)?;
                let mut command = host.command(DNSMASQ);
                command.args(["--keep-in-foreground", "--user=root", "--log-facility=-", "--log-dhcp", "--port=0"]);
                command.args(["--no-resolv", "--interface=eth1", "--dhcp-authoritative", "--no-ping", "--pid-file"]);
                command.arg("--dhcp-range=10.77.0.50,10.77.0.60,1h").arg(format!("--conf-file={}", file.display()));
                command.arg(format!("--dhcp-leasefile={}", lab.directory().join("dnsmasq.leases").display()));
                let process = Process::spawn("dnsmasq", &mut command)?;
                process.wait_for_line("]: DHCP, ", start)?;
                Ok(process)
            }
            SnippetServer::Isc => {
                let leases = lab.directory().join("dhcpd.leases");
                let subnet = "subnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.50 10.77.0.60; }";
                fs::write(&file, format!("authoritative; ping-check false;\n{lines}{subnet}\n"))?;
                fs::write(&leases, "")?;
                let mut command = host.command(DHCPD.file);
                command.args(["-4", "-f", "-d", "--no-pid", "-cf"]).arg(file).arg("-lf").arg(leases).arg("eth1");
                let process = Process::spawn("dhcpd", &mut command)?;
                process.wait_for_line("Server starting service", start)?;
                Ok(process)
            }
            SnippetServer::Kea => {
                let text = format!(
                    r#"{{ "Dhcp4": {{
            "interfaces-config": {{ "interfaces": [ "eth1" ] }},
            "lease-database": {{ "type": "memfile", "persist": false }},
            "loggers": [ {{ "name": "kea-dhcp4", "output_options": [ {{ "output": "stdout" }} ], "severity": "INFO" }} ],
            "subnet4": [ {{ "subnet": "10.77.0.0/24", "pools": [ {{ "pool": "10.77.0.50 - 10.77.0.60" }} ] }} ],
            {lines}
        }} }}"#
                );
                fs::write(&file, text)?;
                let mut command = host.command(KEA.file);
                command.arg("-c").arg(file).env("LD_LIBRARY_PATH", KEA_LIBRARIES);
                command.env("KEA_PIDFILE_DIR", lab.directory()).env("KEA_LOCKFILE_DIR", "none");
                let process = Process::spawn("kea-dhcp4", &mut command)?;
                process.wait_for_line("DHCP4_STARTED", start)?;
                Ok(process)
            }
        }
    }
}
