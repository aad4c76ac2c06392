//! What the kernel knows about an interface's cable and routes.

use std::path::Path;

/// How often the cable of an interface was plugged or unplugged; none if the kernel does not say.
#[must_use]
pub fn cable_changes(interface: &str) -> Option<u64> {
    let file = Path::new("/sys/class/net").join(interface).join("carrier_changes");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Whether this host's default route leads out of an interface.
#[must_use]
pub fn has_default_route(interface: &str) -> bool {
    // The file of the calling thread: in a sandbox, that of the process cannot be read.
    std::fs::read_to_string("/proc/thread-self/net/route").is_ok_and(|table| leads_out(&table, interface))
}

/// The lines of `/proc/net/route` have the interface, then destination and gateway, and the mask as the eighth field.
fn leads_out(table: &str, interface: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_default = fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000");
        is_default && fields.first() == Some(&interface)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_is_found_on_its_interface_only() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     eth1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert!(leads_out(table, "eth0") && !leads_out(table, "eth1") && !leads_out(table, "eth"));
        assert!(!leads_out("", "eth0"));
    }
}
