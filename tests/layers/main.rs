//! Holds the house against the code: who imports whom, and that what is called pure is.

mod imports;

use std::collections::BTreeSet;

use imports::{circles, imports, sources};

/// Module → what it may import of ours, beside itself. The three protocols do not know each other or the
/// configuration: they share the rules and a queue of events.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("spelling", &[]),
    ("boot", &["spelling"]),
    ("iso", &["spelling"]),
    ("lease", &["boot"]),
    ("net", &[]),
    ("trouble", &[]),
    ("offers", &["boot"]),
    ("snippet", &["boot"]),
    ("timeline", &["boot", "offers", "spelling"]),
    ("files", &["boot", "iso", "offers"]),
    ("dhcp", &["boot", "lease", "net", "offers", "timeline"]),
    ("tftp", &["boot", "files", "iso", "net", "offers", "timeline"]),
    ("http", &["boot", "files", "iso", "net", "offers", "timeline"]),
    ("syslog", &["boot", "net", "offers", "timeline"]),
    ("state", &["boot", "lease", "timeline"]),
    ("status", &["boot", "lease", "offers", "timeline"]),
    ("config", &["boot", "files", "iso", "lease", "net", "offers"]),
    (
        "daemon",
        &[
            "boot", "config", "dhcp", "files", "http", "iso", "lease", "net", "offers", "state", "status", "syslog",
            "tftp", "timeline",
        ],
    ),
    ("doctor", &["boot", "config", "daemon", "dhcp", "net"]),
    (
        "cli",
        &[
            "boot", "config", "daemon", "doctor", "files", "iso", "lease", "net", "snippet", "status", "timeline",
            "trouble",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

/// Decisions: values in, values out.
const PURE: &[&str] = &[
    "boot/",
    "offers/",
    "spelling.rs",
    "timeline/",
    "iso/",
    "lease/",
    "dhcp/delayed.rs",
    "dhcp/destination.rs",
    "dhcp/infiniband.rs",
    "dhcp/ipxe.rs",
    "dhcp/lease.rs",
    "dhcp/offer.rs",
    "dhcp/offered.rs",
    "dhcp/proxy.rs",
    "dhcp/relay_agent.rs",
    "dhcp/reply.rs",
    "dhcp/request.rs",
    "dhcp/standby.rs",
    "dhcp/rival.rs",
    "dhcp/sub_options.rs",
    "dhcp/vendor_options.rs",
    "dhcp/waiting.rs",
    "dhcp/wire.rs",
    "tftp/packet.rs",
    "tftp/transfer.rs",
    "doctor/client.rs",
    "doctor/finding.rs",
    "doctor/firewall/",
    "doctor/host/",
    "doctor/network.rs",
    "doctor/path.rs",
    "http/range.rs",
    "snippet.rs",
    "status/tally.rs",
    "trouble.rs",
    "syslog/bounds.rs",
    "syslog/line.rs",
    "net/frame.rs",
];

/// What a decision has no business with.
const IMPURE: &[&str] =
    &["tokio", "std::fs", "File::", "UdpSocket", "TcpStream", "TcpListener", "Instant::now", "SystemTime::now"];

#[test]
fn rooms_import_only_what_the_house_allows() {
    let sources = sources();
    let mut faults = Vec::new();
    for (file, imported) in imports(&sources) {
        let room = room_of(file);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else {
            faults.push(format!("{file}: the house has no room {room}"));
            continue;
        };
        let foreign = imported.into_iter().filter(|other| room_of(other) != room && !allowed.contains(&room_of(other)));
        faults.extend(
            foreign.map(|other| format!("{file} imports {other}, and {room} may not import {}", room_of(other))),
        );
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_file_imports_a_file_that_imports_it() {
    let sources = sources();
    let imports = imports(&sources);
    let mut faults = Vec::new();
    for circle in circles(&imports) {
        faults.push(format!("a circle of {} files:", circle.len()));
        for file in &circle {
            let within: Vec<&str> = imports[file].intersection(&circle).copied().collect();
            faults.push(format!("    {file} imports {}", within.join(", ")));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn decisions_touch_no_socket_file_or_clock() {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources() {
        let Some(pure) = PURE.iter().find(|pure| source.path.starts_with(**pure)) else { continue };
        seen.insert(*pure);
        let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
        faults
            .extend(IMPURE.iter().filter(|word| code.contains(**word)).map(|word| format!("{}: {word}", source.path)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(seen.len(), PURE.len(), "a pure file has moved: {PURE:?}");
}

#[test]
fn one_file_names_dhcproto() {
    assert_eq!(files_with("dhcproto::"), ["dhcp/wire.rs"]);
}

#[test]
fn two_files_have_unsafe() {
    assert_eq!(files_with("unsafe {"), ["daemon/resident.rs", "net/tcp_info.rs"]);
}

#[test]
fn imports_and_circles_are_found() {
    let sources = sources();
    let imports = imports(&sources);
    // By a `use` line, by a path within code, and not by `mod`.
    assert!(imports["boot/next.rs"].contains("boot/client.rs"), "{:?}", imports["boot/next.rs"]);
    assert!(imports["main.rs"].is_empty() && imports["boot/mod.rs"].is_empty());
    let [one, two, three] = ["one", "two", "three"];
    let ring = [(one, [two].into()), (two, [three].into()), (three, [one].into()), ("four", [one].into())];
    assert_eq!(circles(&ring.into()), [[one, two, three].into()]);
    assert_eq!(circles(&[(one, [two].into()), (two, BTreeSet::new())].into()), []);
}

fn files_with(words: &str) -> Vec<String> {
    sources().into_iter().filter(|source| source.code.contains(words)).map(|source| source.path).collect()
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}
