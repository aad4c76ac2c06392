//! Holds the house against the code: who imports whom, and that what is called pure is.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Module → what it may import of ours, beside itself. The three protocols do not know each other or the
/// configuration: they share the rules and a queue of events.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("boot", &[]),
    ("iso", &[]),
    ("net", &[]),
    ("files", &["boot", "iso"]),
    ("dhcp", &["boot", "net"]),
    ("tftp", &["boot", "files", "net"]),
    ("http", &["boot", "files", "iso", "net"]),
    ("syslog", &["boot", "net"]),
    ("snippet", &["boot"]),
    ("state", &["boot"]),
    ("status", &["boot"]),
    ("config", &["boot", "files", "net"]),
    ("daemon", &["boot", "config", "dhcp", "files", "http", "net", "state", "status", "syslog", "tftp"]),
    ("cli", &["boot", "config", "daemon", "files", "iso", "net", "snippet", "status", "trouble"]),
    ("trouble", &[]),
    ("lib", &[]),
    ("main", &[]),
];

/// Decisions: values in, values out.
const PURE: &[&str] = &[
    "boot/",
    "iso/",
    "dhcp/delayed.rs",
    "dhcp/destination.rs",
    "dhcp/infiniband.rs",
    "dhcp/ipxe.rs",
    "dhcp/offer.rs",
    "dhcp/offered.rs",
    "dhcp/proxy.rs",
    "dhcp/relay_agent.rs",
    "dhcp/reply.rs",
    "dhcp/request.rs",
    "dhcp/rival.rs",
    "dhcp/sub_options.rs",
    "dhcp/vendor_options.rs",
    "dhcp/wire.rs",
    "tftp/packet.rs",
    "tftp/transfer.rs",
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
fn modules_import_only_what_the_house_allows() {
    let mut faults = Vec::new();
    for (path, code) in sources() {
        let module = module_of(&path);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("{path}: the house has no module {module}"));
            continue;
        };
        let imported = imports(&code).into_iter().filter(|name| *name != module && !allowed.contains(&name.as_str()));
        faults.extend(imported.map(|name| format!("{path}: {module} imports {name}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn decisions_touch_no_socket_file_or_clock() {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, code) in sources() {
        let Some(pure) = PURE.iter().find(|pure| path.starts_with(**pure)) else { continue };
        seen.insert(*pure);
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        faults.extend(IMPURE.iter().filter(|word| code.contains(**word)).map(|word| format!("{path}: {word}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(seen.len(), PURE.len(), "a pure file has moved: {PURE:?}");
}

#[test]
fn one_file_names_dhcproto() {
    let named: Vec<String> = sources().into_iter().filter(|(_, c)| c.contains("dhcproto::")).map(|(p, _)| p).collect();
    assert_eq!(named, ["dhcp/wire.rs"]);
}

#[test]
fn one_file_has_unsafe() {
    let named: Vec<String> = sources().into_iter().filter(|(_, c)| c.contains("unsafe {")).map(|(p, _)| p).collect();
    assert_eq!(named, ["net/tcp_info.rs"]);
}

#[test]
fn imports_are_read_whole() {
    let code = "use crate::{\n    boot::{client::Client, why::Why},\n    net::udp,\n};\nfn f() { crate::files::g() }\n";
    assert_eq!(imports(code), ["boot", "files", "net"].map(String::from).into());
}

/// Every source file, by its path below `src`, without its comments.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let (below, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
        folders.extend(below);
        for file in files {
            let text = fs::read_to_string(&file).expect("a source file");
            let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let path = file.strip_prefix(&root).expect("below src").display().to_string();
            sources.push((path, code.join("\n")));
        }
    }
    sources.sort();
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

fn module_of(path: &str) -> String {
    path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
}

/// The first names behind every `crate::`, those in braces too.
fn imports(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for behind in code.split("crate::").skip(1) {
        match behind.strip_prefix('{') {
            None => names.extend(first_name(behind)),
            Some(list) => {
                let mut depth = 1;
                for part in list.split_inclusive(['{', '}', ',']) {
                    if depth == 1 {
                        names.extend(first_name(part));
                    }
                    depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    names
}

fn first_name(text: &str) -> Option<String> {
    let name: String = text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}
