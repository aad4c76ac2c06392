//! Texts on a machine's screen → the cause and the fix. `netbootd what` searches this table, and
//! `packaging/docs/troubleshooting.md` is made of it.

/// What a screen shows, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Trouble {
    /// Parts of the text, each enough to recognise it.
    pub shown: &'static [&'static str],
    /// Who prints it.
    pub by: &'static str,
    /// What it means.
    pub cause: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

const fn row(shown: &'static [&'static str], by: &'static str, cause: &'static str, fix: &'static str) -> Trouble {
    Trouble { shown, by, cause, fix }
}

/// The rows that fit a text, the best one first.
#[must_use]
pub fn search(text: &str) -> Vec<&'static Trouble> {
    let text = plain(text);
    let fit = |trouble: &'static Trouble| {
        let best = trouble.shown.iter().map(|part| fits(&text, &plain(part))).max();
        best.filter(|fit| *fit > 0).map(|fit| (fit, trouble))
    };
    let mut fitting: Vec<_> = TROUBLES.iter().filter_map(fit).collect();
    fitting.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
    fitting.into_iter().map(|(_, trouble)| trouble).collect()
}

/// How well a row's part fits; 0 where it does not. A whole part within the text is worth more than a part that the text
/// is a piece of, and a longer one more than a short one.
fn fits(text: &str, part: &str) -> usize {
    match (has(text, part), text.len() >= SHORTEST && has(part, text)) {
        (true, _) => 2 * part.len(),
        (false, true) => text.len(),
        (false, false) => 0,
    }
}

/// Letters and digits in lower case, with one space between words: screens wrap lines, and people leave out hyphens.
fn plain(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Whether whole words stand in a text: `pxe e5` is no part of `pxe e51`.
fn has(text: &str, words: &str) -> bool {
    format!(" {text} ").contains(&format!(" {words} "))
}

/// A shorter text is part of too many.
const SHORTEST: usize = 6;

/// The page of the documents.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# What does the text on the screen mean?\n\n\
         `netbootd what \"PXE-E18\"` searches this table. The status page shows the cause of each boot that stopped by itself.\n\n\
         | on the screen | shown by | cause | fix |\n|---|---|---|---|\n",
    );
    for Trouble { shown, by, cause, fix } in TROUBLES {
        let shown: Vec<String> = shown.iter().map(|part| format!("`{part}`")).collect();
        page += &format!("| {} | {by} | {cause} | {fix} |\n", shown.join(", "));
    }
    page
}

const ROM: &str = "PXE ROM";
const EDK2: &str = "UEFI";
const IPXE: &str = "iPXE";
const SHIM: &str = "shim, GRUB";
const LINUX: &str = "Linux";

/// Sources: PXE 2.1 (codes of ROMs); EDK2 UefiPxeBcDxe and HttpBootDxe; iPXE's errno tables; what tests saw.
pub const TROUBLES: &[Trouble] = &[
    row(
        &["PXE-E51", "No DHCP or proxyDHCP offers were received"],
        ROM,
        "no server answered",
        "check the cable, the VLAN and spanning tree (portfast), and that the leasing server runs",
    ),
    row(
        &["PXE-E52", "proxyDHCP offers were received. No DHCP offers were received"],
        ROM,
        "netbootd answered, but no leasing server did",
        "start the leasing server, or check that it has free addresses and serves this machine",
    ),
    row(
        &["PXE-E53", "No boot filename received"],
        ROM,
        "the answer had no boot file, or its TFTP server gave no file size",
        "run `netbootd explain --mac MAC`: it shows the boot file, or why there is none",
    ),
    row(
        &["PXE-E55", "ProxyDHCP service did not reply to request on port 4011"],
        ROM,
        "UDP port 4011 was not answered",
        "allow UDP port 4011 to this host; remove option 60 from the leasing server",
    ),
    row(
        &["PXE-E11", "ARP timeout"],
        ROM,
        "the boot server's address does not answer on this network",
        "check the address in next-server (siaddr), and the router between both networks",
    ),
    row(
        &["PXE-E32", "TFTP open timeout"],
        ROM,
        "no answer to the TFTP request",
        "allow UDP port 69 to this host; behind NAT or a firewall set tftp.single_port = true",
    ),
    row(
        &["PXE-E35", "TFTP read timeout"],
        ROM,
        "a TFTP transfer stopped in the middle",
        "check the cable; lower tftp.max_block_size on a path with a smaller MTU",
    ),
    row(
        &["PXE-E36", "PXE-E3B", "TFTP error", "File not found"],
        ROM,
        "the TFTP server has no file of that name",
        "see netbootd's log for the name; a leasing server may send a boot file of its own",
    ),
    row(
        &["PXE-E3F", "TFTP packet size is invalid"],
        ROM,
        "the ROM does not take the block size",
        "set tftp.max_block_size = 512",
    ),
    row(&["PXE-E61", "Media test failure"], ROM, "the network card has no link", "check the cable and the switch port"),
    row(
        &["PXE-E74", "PXE-E76", "PXE-E77", "Bad or missing discovery server list"],
        ROM,
        "a server sent PXE options (43) that do not name a boot server",
        "remove option 43 from the leasing server; here set dhcp.offer = \"direct\"",
    ),
    row(
        &["PXE-E79", "NBP is too big to fit in free base memory"],
        ROM,
        "the boot file is too large for this BIOS, or it is for UEFI",
        "check which loader the machine got: `netbootd machines MAC`",
    ),
    row(
        &["PXE-E16", "No valid offer received"],
        EDK2,
        "no offer that the firmware takes: port 4011 silent, no option 54, or option 60 from the leasing server",
        "allow UDP port 4011; remove option 60 from the leasing server; or name the boot file there (`netbootd dhcp-snippet`)",
    ),
    row(
        &["PXE-E18", "Server response timeout"],
        EDK2,
        "no answer from the boot server, or an answer from another address than the one that was asked",
        "allow UDP ports 69 and 4011 to this host; check for NAT and for several addresses on the interface",
    ),
    row(
        &["PXE-E21", "Remote boot cancelled"],
        EDK2,
        "someone pressed a key, or an offer's PXE menu has no entry",
        "start it again; a second boot server may send the menu",
    ),
    row(
        &["PXE-E23", "Client received TFTP error from server"],
        EDK2,
        "the TFTP server refused the file",
        "see netbootd's log for the name and the reason",
    ),
    row(
        &["PXE-E99", "Unexpected network error"],
        EDK2,
        "the firmware's network stack failed",
        "update the firmware; try another network port",
    ),
    row(
        &["Access Denied", "Security Violation", "Secure Boot Violation", "Invalid signature detected"],
        EDK2,
        "Secure Boot refused the loader, because it has no signature that the firmware trusts",
        "serve a signed loader (packaging/docs/secure-boot.md), or switch off Secure Boot in the firmware's setup",
    ),
    row(
        &["Http Boot failed", "Unable to retrieve Http file size", "Error: Server response timeout"],
        EDK2,
        "UEFI HTTP Boot could not fetch the loader",
        "allow the HTTP port to this host; allow plain HTTP in the firmware's setup; or boot by PXE",
    ),
    row(
        &["040ee119", "No configuration methods succeeded"],
        IPXE,
        "iPXE got no address",
        "check the leasing server and spanning tree (portfast); its link may need more time after a reset",
    ),
    row(
        &["Nothing to boot", "No filename or root path specified"],
        IPXE,
        "iPXE got an address, but no answer from netbootd",
        "check that netbootd serves this network, and that no filter drops its answers",
    ),
    row(
        &["Connection timed out", "4c0a6092", "4c126035", "4c0a6035"],
        IPXE,
        "the server did not answer",
        "allow the HTTP port (and UDP port 69) to this host in every firewall on the way",
    ),
    row(
        &["Connection reset", "Connection refused"],
        IPXE,
        "nothing listens on that port, or a firewall rejects it",
        "check http.port, and that netbootd runs",
    ),
    row(
        &["No such file or directory", "2d0c613b", "2d12603b"],
        IPXE,
        "the server has no file of that name",
        "see netbootd's log; `netbootd check` lists missing files",
    ),
    row(
        &["Exec format error", "2e008081", "2e022001"],
        IPXE,
        "the file is no program for this machine: another processor, a kernel without EFI stub, or a web page",
        "run `netbootd check`: it says what each file is; use a profile variant for this architecture",
    ),
    row(
        &["Not enough space", "No space left on device", "34182006"],
        IPXE,
        "the machine has too little memory for the files, or a BIOS cannot place an initrd of this size",
        "use a smaller initrd or more memory; boot by UEFI",
    ),
    row(
        &["3d126083", "autoexec.ipxe"],
        IPXE,
        "iPXE looked for autoexec.ipxe, which need not exist",
        "nothing: the boot continues",
    ),
    row(
        &["Operation not supported", "3c092083"],
        IPXE,
        "this iPXE build lacks a feature: a protocol or a command",
        "name another loader in [machines.override]; a card's built-in iPXE may lack HTTP",
    ),
    row(
        &["Could not open net0", "1d6a4698", "iPXE initialising devices"],
        IPXE,
        "iPXE's driver and this card's firmware do not work together",
        "name another loader in [machines.override]: ipxe.efi instead of snponly.efi, or the other way round",
    ),
    row(
        &["Verification failed", "Security Policy Violation", "bad shim signature"],
        SHIM,
        "the second stage or the kernel is not signed by a key that shim trusts",
        "use shim, GRUB and kernel of one distribution and one release",
    ),
    row(
        &["Failed to open", "grubx64.efi"],
        SHIM,
        "shim found no second stage beside itself",
        "put shimx64.efi and grubx64.efi into one folder below the assets folder",
    ),
    row(
        &["Unable to mount root fs", "VFS: Cannot open root device"],
        LINUX,
        "the kernel started without its initrd, or without a root= that it knows",
        "check initrd and cmdline of the profile",
    ),
    row(
        &["Initramfs unpacking failed", "invalid magic at start of compressed archive"],
        LINUX,
        "the initrd is damaged, or one of several ends at an odd length",
        "compare its checksum; pad each initrd to a multiple of 4 bytes",
    ),
    row(
        &[
            "Unable to find a medium containing a live file system",
            "no medium found",
            "Unable to find a live file system",
        ],
        LINUX,
        "the live system looks for its CD, which a network boot does not have",
        "give its command line the address of its root file system (`fetch=`, `root=live:`, `url=`)",
    ),
    row(
        &["dracut-initqueue", "Warning: /dev/root does not exist"],
        LINUX,
        "dracut found no root file system",
        "add `ip=dhcp rd.neednet=1` and `root=live:URL` (or `inst.repo=URL`) to cmdline",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn best(text: &str) -> &'static str {
        search(text).first().map_or("nothing", |trouble| trouble.shown.first().copied().unwrap_or_default())
    }

    #[test]
    fn a_text_is_found_by_its_code_or_by_its_words_however_it_is_typed() {
        assert_eq!(best("PXE-E18"), "PXE-E18");
        assert_eq!(best("pxe e18: server response timeout."), "PXE-E18");
        assert_eq!(best(">>Start PXE over IPv4.\n  PXE-E16: No valid\noffer received."), "PXE-E16");
        assert_eq!(
            best("http://10.77.0.2:8080/vmlinuz... Exec format error (https://ipxe.org/2e008081)"),
            "Exec format error"
        );
        assert_eq!(
            best("Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"),
            "Unable to mount root fs"
        );
        assert_eq!(best("media test"), "PXE-E61", "a part of the words");
        assert_eq!(best("PXE-E5"), "nothing");
        assert_eq!((best(""), best("?!"), best("it does not boot")), ("nothing", "nothing", "nothing"));
    }

    #[test]
    fn every_text_leads_to_its_own_row_first() {
        for trouble in TROUBLES {
            for part in trouble.shown {
                assert_eq!(search(part).first(), Some(&trouble), "{part}");
            }
            assert!(!trouble.cause.ends_with('.') && !trouble.fix.ends_with('.'), "{trouble:?}");
        }
    }
}
