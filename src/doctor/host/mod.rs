//! Judges a host: its ports, rights, packet filters and interfaces.

mod filters;
mod links;
mod ports;
pub mod seen;

pub use filters::drops_dhcp;
use filters::filters;
use links::{link, one_network};
use ports::rights;
use seen::Host;

use super::finding::{Finding, Fix, Verdict};

/// All findings about a host.
#[must_use]
pub fn judge(host: &Host) -> Vec<Finding> {
    let mut findings = rights(host);
    findings.extend(host.ports.iter().map(|port| ports::port(port, host)));
    findings.extend(filters(host));
    findings.extend(host.container.as_deref().map(container));
    findings.extend(host.links.iter().flat_map(link));
    findings.extend(one_network(&host.links));
    findings
}

fn container(what: &str) -> Finding {
    let text = format!(
        "this program runs in {what}: broadcasts of the network do not reach a container that has a network of its own"
    );
    let host = Fix::Do(
        "give the container the host's network: --network=host --cap-add=NET_RAW --cap-add=NET_BIND_SERVICE".into(),
    );
    Finding::of_host("container", Verdict::Warning, text).fixed_by(host)
}

#[cfg(test)]
mod tests;
