//! The table: what is shown, by whom, the cause, the fix.

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

const ROM: &str = "PXE ROM";
const EDK2: &str = "UEFI";
const IPXE: &str = "iPXE";
const FIRMWARE: &str = "BIOS, UEFI";
const SHIM: &str = "shim, GRUB";
const SYSLINUX: &str = "SYSLINUX";
const U_BOOT: &str = "U-Boot";
const LINUX: &str = "Linux";
const WINDOWS: &str = "Windows";

/// Sources: PXE 2.1 and the makers' lists (codes of ROMs); EDK2 UefiPxeBcDxe and HttpBootDxe; iPXE's errno tables; shim,
/// GRUB and SYSLINUX as they print it; what tests saw.
pub(super) const TROUBLES: &[Trouble] = &[
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
        "the answer had no boot file, or its TFTP server gave no file size; or netbootd's offer did not arrive",
        "run `netbootd explain --mac MAC`: it shows the boot file, or why there is none; a switch with DHCP snooping has to trust the port of this host",
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
        &["PXE-E36", "PXE-E3B", "PXE-T01", "TFTP error", "File not found"],
        ROM,
        "the TFTP server has no file of that name",
        "see netbootd's log for the name; a leasing server may send a boot file of its own",
    ),
    row(
        &["PXE-E3C", "PXE-T04", "Access violation"],
        ROM,
        "the TFTP server has the file, and does not give it out",
        "see netbootd's log for the reason; a leasing server may name another TFTP server (next-server)",
    ),
    row(
        &["PXE-E38", "PXE-E39", "TFTP cannot open connection", "TFTP cannot read from connection"],
        ROM,
        "the network card could not send",
        "check the cable and the switch port; update the card's firmware",
    ),
    row(
        &["PXE-E3A", "TFTP too many packages"],
        ROM,
        "the boot file is larger than the ROM's memory for it",
        "check which loader the machine got: `netbootd machines MAC`",
    ),
    row(
        &["PXE-E3F", "TFTP packet size is invalid"],
        ROM,
        "the ROM does not take the block size",
        "set tftp.max_block_size = 512",
    ),
    row(&["PXE-E61", "Media test failure"], ROM, "the network card has no link", "check the cable and the switch port"),
    row(
        &[
            "PXE-E60",
            "PXE-E63",
            "PXE-E64",
            "PXE-E65",
            "PXE-E66",
            "PXE-E67",
            "PXE-E68",
            "PXE-E69",
            "Error while initializing the NIC",
            "Invalid MAC address",
        ],
        ROM,
        "the ROM cannot start the network card, or the card's settings are damaged",
        "unplug the machine from power for a moment; write the card's firmware again; use another card",
    ),
    row(
        &["PXE-E74", "PXE-E76", "PXE-E77", "PXE-E83", "Bad or missing discovery server list"],
        ROM,
        "a server sent PXE options (43) that do not name a boot server",
        "remove option 43 from the leasing server; here set dhcp.offer = \"direct\"",
    ),
    row(
        &["PXE-E78", "PXE-E88", "PXE-E7B", "Could not locate boot server", "Missing MTFTP server IP address"],
        ROM,
        "the ROM looks for another boot server, which does not answer: the leasing server's PXE options (43) or next-server",
        "remove option 43 from the leasing server; allow UDP port 4011 to this host",
    ),
    row(
        &["PXE-E85", "PXE-E86", "PXE-E87", "PXE-E89", "Could not download boot image"],
        ROM,
        "a boot program that is not netbootd's looks for its RAM disk image",
        "find the other server with `netbootd doctor`",
    ),
    row(
        &[
            "PXE-E7A",
            "PXE-E20",
            "PXE-E24",
            "PXE-E25",
            "PXE-E26",
            "PXE-E27",
            "PXE-E28",
            "BIS integrity check failed",
            "BIS initialization failed",
            "BIS image",
        ],
        ROM,
        "Boot Integrity Services are on: the ROM only takes boot files that are signed for it",
        "switch off Boot Integrity Services (BIS) in the machine's setup",
    ),
    row(
        &["PXE-EA0", "Network boot canceled by keystroke"],
        ROM,
        "someone pressed a key during the network boot",
        "start it again",
    ),
    row(
        &[
            "PXE-E00",
            "PXE-E01",
            "PXE-E04",
            "PXE-E06",
            "PXE-E08",
            "PXE-EC1",
            "PXE-EC3",
            "PXE-EC4",
            "PXE-EC5",
            "PXE-EC6",
            "PXE-EC8",
            "PXE-EC9",
            "PXE-E81",
            "PXE-E82",
            "PXE-E84",
            "Could not find enough free base memory",
        ],
        ROM,
        "the network boot program in the BIOS is damaged, or the BIOS does not start it as it should",
        "update the BIOS and the card's firmware; disable other option ROMs in the setup",
    ),
    row(
        &["PXE-M0F", "Exiting PXE ROM", "Exiting Intel Boot Agent", "Exiting Intel PXE ROM"],
        ROM,
        "the network boot has ended; the line above it says why",
        "search for that line; `netbootd machines MAC` shows where the boot stopped",
    ),
    row(
        &["PXE-E79", "NBP is too big to fit in free base memory"],
        ROM,
        "the boot file is too large for this BIOS, or it is for UEFI",
        "check which loader the machine got: `netbootd machines MAC`",
    ),
    row(
        &["PXE-E05", "Download buffer is smaller than requested file", "EEPROM checksum error"],
        "UEFI, PXE ROM",
        "on UEFI: the loader became larger during the download; of a PXE ROM: the card's settings are damaged",
        "start it again; then write the card's firmware again",
    ),
    row(
        &["PXE-E07", "PXE-E09", "Network device error", "Could not allocate I/O buffers"],
        "UEFI, PXE ROM",
        "the firmware's network driver failed",
        "update the firmware; try another network port",
    ),
    row(
        &["PXE-E12", "Could not detect network connection"],
        EDK2,
        "the network card has no link",
        "check the cable and the switch port",
    ),
    row(
        &["PXE-E16", "No valid offer received", "No offer received"],
        EDK2,
        "no offer that the firmware takes: port 4011 silent, no option 54, or option 60 from the leasing server",
        "allow UDP port 4011; remove option 60 from the leasing server; or name the boot file there (`netbootd dhcp-snippet`); a switch with DHCP snooping has to trust the port of this host",
    ),
    row(
        &["Start PXE over IPv6", "Start HTTP Boot over IPv6"],
        EDK2,
        "the firmware tries to boot over IPv6; netbootd serves IPv4 only",
        "wait until it tries IPv4, or select the IPv4 entry of the network card in its boot menu; switch off IPv6 network boot in its setup",
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
        &["PXE-E22", "Client received ICMP error from server"],
        EDK2,
        "the boot server's host or a router rejects the packets",
        "allow UDP ports 69 and 4011 to this host; check that netbootd runs, and the address in next-server",
    ),
    row(
        &["PXE-E23", "Client received TFTP error from server"],
        EDK2,
        "the TFTP server refused the file",
        "see netbootd's log for the name and the reason",
    ),
    row(
        &["NBP filesize is 0 Bytes", "NBP filename is 0 Bytes"],
        EDK2,
        "the TFTP server gave no file size: it has no file of that name, or it is another server",
        "compare \"Server IP address\" on the screen with this host's; see netbootd's log for the name",
    ),
    row(
        &["Downloading NBP file", "Station IP address is", "NBP filename is"],
        EDK2,
        "the loader is being fetched; if it stays there, packets of the full block size get lost on the way",
        "`netbootd doctor` measures the path; lower tftp.max_block_size",
    ),
    row(
        &["NBP file downloaded successfully"],
        EDK2,
        "the firmware has the loader; if nothing follows, Secure Boot refused it, or it does not run on this machine",
        "`netbootd machines MAC` says whether Secure Boot is on; name another loader in [machines.override]",
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
        "serve a signed loader (secure-boot.md of the documentation), or switch off Secure Boot in the firmware's setup",
    ),
    row(
        &[
            "Http Boot failed",
            "Unable to retrieve Http file size",
            "Could not retrieve NBP file size from HTTP server",
            "Error: Server response timeout",
        ],
        EDK2,
        "UEFI HTTP Boot could not fetch the loader",
        "allow the HTTP port to this host; allow plain HTTP in the firmware's setup; or boot by PXE",
    ),
    row(
        &[
            "No bootable device",
            "Reboot and Select proper Boot device",
            "Operating System not found",
            "No operating system found",
            "No boot device found",
            "BdsDxe: failed to load",
            "Boot Failed",
        ],
        FIRMWARE,
        "nothing in the boot order started: the network boot ended, and the disk has no boot loader for this firmware",
        "`netbootd machines MAC` shows where the network boot stopped; install for BIOS or UEFI as the machine starts",
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
        &["Link status: Down", "38086193", "Waiting for link-up"],
        IPXE,
        "the network card has no link, or gets it late",
        "check the cable and the switch port; switch on portfast (spanning tree)",
    ),
    row(
        &["Network unreachable", "No route to host"],
        IPXE,
        "iPXE has no address in the server's network, and no router to it",
        "have the leasing server send a router (option 3), or serve the machines from their own network",
    ),
    row(
        &["Permission denied"],
        IPXE,
        "the server has the file, and does not give it out",
        "see netbootd's log for the reason; `netbootd check` lists files that the service cannot read",
    ),
    row(
        &["No more network devices"],
        IPXE,
        "iPXE tried all network cards; the lines above it say why none of them booted",
        "search for those lines",
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
        "the file is no program for this machine: another processor, a kernel without EFI stub, a web page, or a kernel \
         compressed with gzip (xen.gz), which iPXE for x86 does not unpack",
        "run `netbootd check`: it says what each file is; use a profile variant for this architecture; unpack with gunzip",
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
        &["Something has gone seriously wrong", "Verifying shim SBAT data failed", "import_mok_state() failed"],
        SHIM,
        "the firmware has a list of revoked boot programs (SBAT), and this shim is on it: it is too old",
        "use the shim of a current release of the distribution",
    ),
    row(
        &["start_image() returned"],
        SHIM,
        "shim loaded its second stage, which ended with an error; the lines above it say why",
        "search for those lines; use shim and second stage of one release",
    ),
    row(
        &["couldn't send network packet", "time out opening", "timeout reading"],
        SHIM,
        "GRUB got no answer from the server",
        "allow the HTTP port and UDP port 69 to this host; try another loader (`loader` of the machine's rule)",
    ),
    row(
        &["normal.mod", "grub rescue"],
        SHIM,
        "this GRUB did not find its modules or its configuration",
        "use a GRUB that is made for network boot (secure-boot.md of the documentation)",
    ),
    row(
        &["you need to load the kernel first"],
        SHIM,
        "GRUB could not load the kernel; the line above it says why",
        "search for that line",
    ),
    row(
        &["Retry time exceeded"],
        U_BOOT,
        "no DHCP server leased it an address",
        "check the cable, the VLAN and spanning tree (portfast), and that the leasing server has free addresses",
    ),
    row(
        &["Retry count exceeded", "ARP Retry count exceeded"],
        U_BOOT,
        "the server that U-Boot fetches from does not answer",
        "compare \"TFTP from server\" on its screen with this host's address: let the leasing server name this host as next server (siaddr), or set serverip at its prompt; allow UDP port 69 to this host",
    ),
    row(
        &["Failed to load ldlinux.c32", "Failed to load COM32 file", "not a COM32R image", "ldlinux.e64"],
        SYSLINUX,
        "PXELINUX did not find its own modules, or they are of another version",
        "put the modules of the same version and firmware beside it; or boot netbootd's iPXE, which needs none",
    ),
    row(
        &["Could not find kernel image"],
        SYSLINUX,
        "the SYSLINUX menu names a file that the server does not have",
        "see netbootd's log for the name",
    ),
    row(
        &["Unable to mount root fs", "VFS: Cannot open root device"],
        LINUX,
        "the kernel started without its initrd, or without a root= that it knows",
        "check initrd and cmdline of the profile",
    ),
    row(
        &["Input was encoded with settings that are not supported by this XZ decoder"],
        LINUX,
        "an initrd is compressed with xz and another checksum than CRC32, as xz writes it by itself",
        "compress it again: xz --check=crc32",
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
    row(
        &["Invalid or corrupt kernel image", "invalid magic number"],
        LINUX,
        "the file is no kernel, or it is cut off",
        "run `netbootd check`: it says what each file is; download it again",
    ),
    row(
        &["No working init found", "Attempted to kill init"],
        LINUX,
        "the kernel found no init that it can start: the initrd is missing, or of another release or architecture",
        "take kernel and initrd from the same release; check initrd of the profile",
    ),
    row(
        &["IP-Config: no response", "no network interfaces found", "No network card was found"],
        LINUX,
        "the initrd has no driver for the network card, or got no address",
        "use an initrd with the driver; add `ip=dhcp` to cmdline; check spanning tree (portfast)",
    ),
    row(
        &[
            "0xc000000f",
            "0xc0000098",
            "0xc0000225",
            "BOOTMGR is missing",
            "Windows failed to start",
            "Boot Configuration Data",
        ],
        WINDOWS,
        "the Windows boot manager did not find its files, or they are of different images",
        "boot the whole image (`iso = \"windows.iso\"`): netbootd gives wimboot all files that belong together",
    ),
];

const fn row(shown: &'static [&'static str], by: &'static str, cause: &'static str, fix: &'static str) -> Trouble {
    Trouble { shown, by, cause, fix }
}
