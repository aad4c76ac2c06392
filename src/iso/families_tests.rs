//! Every family on a made image of its layout, and the whole answer: `tests/iso/families.txt` holds them.

use std::fmt::Write as _;

use super::{
    Index,
    families::FAMILIES,
    made::{Made, Of, iso},
    recognise::recognise,
    recognised::{How, Part, Place, Recognised},
};

const MIB: u64 = 1 << 20;
/// A file of which only the name matters.
const F: Of<'_> = Of::Bytes(b"x");

/// The beginning of a kernel for a PC of 64 bits, and of 32.
const X64: Of<'_> = Of::Bytes(&pc_kernel(1));
const X86: Of<'_> = Of::Bytes(&pc_kernel(0));
const ARM: Of<'_> = Of::Bytes(&arm_kernel());

const fn pc_kernel(flags: u8) -> [u8; 0x300] {
    let mut head = [0; 0x300];
    let (_, tail) = head.split_at_mut(0x202);
    if let [a, b, c, d, minor, major, ..] = tail {
        (*a, *b, *c, *d, *minor, *major) = (b'H', b'd', b'r', b'S', 0x0f, 2);
    }
    let (_, tail) = head.split_at_mut(0x236);
    if let [first, ..] = tail {
        *first = flags;
    }
    head
}

const fn arm_kernel() -> [u8; 0x300] {
    let mut head = [0; 0x300];
    let (_, tail) = head.split_at_mut(56);
    if let [a, b, c, d, ..] = tail {
        (*a, *b, *c, *d) = (b'A', b'R', b'M', b'd');
    }
    head
}

const fn t(text: &str) -> Of<'_> {
    Of::Bytes(text.as_bytes())
}

const fn s(mib: u64) -> Of<'static> {
    Of::Size(mib * MIB)
}

type Files<'a> = &'a [(&'a str, Of<'a>)];

/// What it is, the volume's name, and what is in it.
const CASES: &[(&str, &str, Files<'_>)] = &[
    (
        "Ubuntu 24.04 Server, layered",
        "Ubuntu-Server 24.04 LTS amd64",
        &[
            (".disk/info", t("Ubuntu-Server 24.04 LTS \"Noble Numbat\" - Release amd64 (20240423)")),
            ("casper/vmlinuz", X64),
            ("casper/initrd", F),
            ("casper/hwe-vmlinuz", X64),
            ("casper/hwe-initrd", F),
            ("casper/ubuntu-server-minimal.squashfs", s(600)),
            ("pool/x.deb", s(2000)),
        ],
    ),
    (
        "Ubuntu 22.04 Desktop, by the package in its manifest",
        "Ubuntu 22.04 LTS amd64",
        &[
            (".disk/info", t("Something that says no version")),
            ("casper/filesystem.manifest", t("bash\t5.1\ncasper\t1.470.2\n")),
            ("casper/vmlinuz", X64),
            ("casper/initrd", F),
            ("casper/filesystem.squashfs", s(1000)),
        ],
    ),
    (
        "Linux Mint 21",
        "Linux Mint 21.3 Cinnamon 64-bit",
        &[
            (".disk/info", t("Linux Mint 21.3 \"Virginia\" - Release amd64 20240110")),
            ("casper/vmlinuz", X64),
            ("casper/initrd.lz", F),
            ("casper/filesystem.squashfs", s(2500)),
        ],
    ),
    (
        "Ubuntu 18.04",
        "Ubuntu 18.04.6 LTS amd64",
        &[
            (".disk/info", t("Ubuntu 18.04.6 LTS \"Bionic Beaver\" - Release amd64 (20210915)")),
            ("casper/vmlinuz", X64),
            ("casper/initrd", F),
            ("casper/filesystem.squashfs", s(1900)),
        ],
    ),
    (
        "Pop!_OS",
        "Pop_OS 22.04 amd64 Nvidia",
        &[
            (".disk/info", t("Pop_OS 22.04 LTS \"Jammy Jellyfish\" - Release amd64 (20240505)")),
            ("casper_pop-os_22.04_amd64_nvidia_debug_44/vmlinuz.efi", X64),
            ("casper_pop-os_22.04_amd64_nvidia_debug_44/initrd.gz", F),
            ("casper_pop-os_22.04_amd64_nvidia_debug_44/filesystem.squashfs", s(2600)),
        ],
    ),
    (
        "A system based on Ubuntu that does not say of which",
        "RESCUEZILLA",
        &[("casper/vmlinuz", X64), ("casper/initrd.lz", F), ("casper/filesystem.squashfs", s(700))],
    ),
    (
        "LMDE",
        "LMDE 6 Faye 64-bit",
        &[
            (".disk/info", t("LMDE 6 \"Faye\" - Release amd64 20230920")),
            ("casper/vmlinuz", X64),
            ("casper/initrd.lz", F),
            ("casper/filesystem.squashfs", s(2200)),
        ],
    ),
    (
        "Debian Live of two processors, the arguments from its own menu",
        "d-live 12.5 st",
        &[
            (".disk/info", t("Official Debian GNU/Linux Live 12.5.0 standard 2024-02-10T11:26")),
            ("live/vmlinuz-6.1.0-9-amd64", X64),
            ("live/initrd.img-6.1.0-9-amd64", F),
            ("live/vmlinuz-6.1.0-18-amd64", X64),
            ("live/initrd.img-6.1.0-18-amd64", F),
            ("live/vmlinuz-6.1.0-18-686-pae", X86),
            ("live/initrd.img-6.1.0-18-686-pae", F),
            ("live/filesystem.squashfs", s(1100)),
            (
                "boot/grub/grub.cfg",
                t(
                    "menuentry \"Live\" {\nlinux /live/vmlinuz-6.1.0-18-amd64 boot=live components quiet splash findiso=${iso_path}\ninitrd /live/initrd.img-6.1.0-18-amd64\n}\n",
                ),
            ),
        ],
    ),
    (
        "grml",
        "grml64-full",
        &[
            ("boot/grml64full/vmlinuz", X64),
            ("boot/grml64full/initrd.img", F),
            ("live/grml64-full/grml64-full.squashfs", s(800)),
        ],
    ),
    (
        "A live system of two file systems",
        "REMIX",
        &[("live/vmlinuz", X64), ("live/initrd", F), ("live/a.squashfs", s(500)), ("live/b.squashfs", s(500))],
    ),
    (
        "Clonezilla",
        "3.1.2-22-amd64",
        &[
            ("Clonezilla-Live-Version", t("Clonezilla Live version: clonezilla-live-3.1.2-22-amd64\n")),
            ("live/vmlinuz", X64),
            ("live/initrd.img", F),
            ("live/filesystem.squashfs", s(350)),
        ],
    ),
    (
        "Tails",
        "TAILS 6.1 - 20240329",
        &[("live/vmlinuz", X64), ("live/initrd.img", F), ("live/filesystem.squashfs", s(1200))],
    ),
    (
        "TrueNAS SCALE",
        "TRUENAS_SCALE",
        &[("TrueNAS-SCALE.update", s(1300)), ("vmlinuz", X64), ("initrd.img", F), ("live/filesystem.squashfs", s(200))],
    ),
    ("MX Linux", "MX-Live", &[("antiX/linuxfs", s(2000)), ("antiX/vmlinuz", X64), ("antiX/initrd.gz", F)]),
    (
        "Fedora 40 Workstation",
        "Fedora-WS-Live-40-1-14",
        &[("LiveOS/squashfs.img", s(2200)), ("images/pxeboot/vmlinuz", X64), ("images/pxeboot/initrd.img", F)],
    ),
    (
        "Fedora 42 Workstation, laid out by kiwi",
        "Fedora-WS-Live-42",
        &[("LiveOS/squashfs.img", s(2200)), ("boot/x86_64/loader/linux", X64), ("boot/x86_64/loader/initrd", F)],
    ),
    (
        "Rocky 9 DVD",
        "Rocky-9-4-x86_64-dvd",
        &[
            (
                ".treeinfo",
                t(
                    "[general]\nfamily = Rocky Linux\nversion = 9.4\narch = x86_64\n[stage2]\nmainimage = images/install.img\n",
                ),
            ),
            ("images/pxeboot/vmlinuz", X64),
            ("images/pxeboot/initrd.img", F),
            ("images/install.img", s(850)),
            ("BaseOS/repodata/repomd.xml", F),
            ("AppStream/repodata/repomd.xml", F),
        ],
    ),
    (
        "Fedora network installer for arm64",
        "Fedora-S-dvd-aarch64-40",
        &[
            (".treeinfo", t("[general]\nfamily = Fedora\nversion = 40\narch = aarch64\n")),
            ("images/pxeboot/vmlinuz", ARM),
            ("images/pxeboot/initrd.img", F),
            ("images/install.img", s(800)),
        ],
    ),
    (
        "Fedora CoreOS",
        "fedora-coreos-40.20240504.3.0",
        &[
            ("coreos/igninfo.json", F),
            ("images/pxeboot/vmlinuz", X64),
            ("images/pxeboot/initrd.img", F),
            ("images/pxeboot/rootfs.img", s(700)),
            ("images/ignition.img", F),
        ],
    ),
    (
        "openSUSE Leap 15",
        "openSUSE-Leap-15.6-DVD-x86_64710",
        &[
            ("boot/x86_64/loader/linux", X64),
            ("boot/x86_64/loader/initrd", F),
            ("boot/x86_64/root", s(40)),
            ("media.1/media", F),
        ],
    ),
    (
        "openSUSE Leap 16 offline",
        "Install-Leap-16.0-x86_64",
        &[
            ("boot/x86_64/loader/linux", X64),
            ("boot/x86_64/loader/initrd", F),
            ("LiveOS/squashfs.img", s(700)),
            ("install/repodata/repomd.xml", F),
        ],
    ),
    (
        "agama",
        "agama-installer",
        &[("boot/x86_64/loader/linux", X64), ("boot/x86_64/loader/initrd", F), ("LiveOS/squashfs.img", s(700))],
    ),
    (
        "openSUSE Tumbleweed live",
        "openSUSE-Tumbleweed-KDE-Live",
        &[("boot/x86_64/loader/linux", X64), ("boot/x86_64/loader/initrd", F), ("LiveOS/squashfs.img", s(1000))],
    ),
    (
        "Arch Linux",
        "ARCH_202411",
        &[
            ("arch/version", t("2024.11.01\n")),
            ("arch/boot/x86_64/vmlinuz-linux", X64),
            ("arch/boot/x86_64/initramfs-linux.img", F),
            ("arch/boot/amd-ucode.img", F),
            ("arch/boot/intel-ucode.img", F),
            ("arch/x86_64/airootfs.sfs", s(900)),
        ],
    ),
    (
        "BlackArch",
        "BLACKARCH",
        &[
            ("blackarch/boot/x86_64/vmlinuz-linux", X64),
            ("blackarch/boot/x86_64/initramfs-linux.img", F),
            ("blackarch/x86_64/airootfs.erofs", s(7000)),
        ],
    ),
    (
        "SystemRescue",
        "RESCUE1101",
        &[
            ("sysresccd/VERSION", t("11.01\n")),
            ("sysresccd/boot/x86_64/vmlinuz", X64),
            ("sysresccd/boot/x86_64/sysresccd.img", F),
            ("sysresccd/boot/intel_ucode.img", F),
            ("sysresccd/x86_64/airootfs.sfs", s(800)),
        ],
    ),
    (
        "Manjaro",
        "MANJARO_KDE_2400",
        &[
            ("boot/vmlinuz-x86_64", X64),
            ("boot/initramfs-x86_64.img", F),
            ("manjaro/x86_64/rootfs.sfs", s(1000)),
            ("manjaro/x86_64/livefs.sfs", s(200)),
        ],
    ),
    (
        "Alpine",
        "alpine-std 3.19.1 x86_64",
        &[
            (".alpine-release", t("alpine-std-3.19.1\n")),
            ("boot/vmlinuz-lts", X64),
            ("boot/initramfs-lts", F),
            ("boot/modloop-lts", s(100)),
            ("apks/x86_64/APKINDEX.tar.gz", F),
        ],
    ),
    (
        "Debian 12 network installer for two processors",
        "Debian 12.5.0 multi 1",
        &[
            (
                ".disk/info",
                t("Debian GNU/Linux 12.5.0 \"Bookworm\" - Official Multi-architecture NETINST 20240210-11:27"),
            ),
            ("install.amd/vmlinuz", X64),
            ("install.amd/initrd.gz", F),
            ("install.386/vmlinuz", X86),
            ("install.386/initrd.gz", F),
            ("dists/bookworm/Release", F),
        ],
    ),
    (
        "Debian installer of a release that is not out yet",
        "Debian testing amd64 n",
        &[
            (
                ".disk/info",
                t("Debian GNU/Linux testing \"Forky\" - Official Snapshot amd64 NETINST with firmware 20260101-10:20"),
            ),
            ("install.amd/vmlinuz", X64),
            ("install.amd/initrd.gz", F),
            ("dists/forky/Release", F),
        ],
    ),
    (
        "The installer of another distribution that uses Debian's",
        "Kali Linux amd64 1",
        &[
            (
                ".disk/info",
                t(
                    "Kali GNU/Linux 2024.1rolling \"Kali-last-snapshot\" - Official amd64 NETINST with firmware 20240225-05:39",
                ),
            ),
            ("install.amd/vmlinuz", X64),
            ("install.amd/initrd.gz", F),
            ("dists/kali-rolling/Release", F),
        ],
    ),
    (
        "Proxmox VE",
        "PVE",
        &[
            (".pve-cd-id.txt", F),
            (".cd-info", F),
            ("boot/linux26", X64),
            ("boot/initrd.img", F),
            ("proxmox/packages/x.deb", s(1000)),
        ],
    ),
    (
        "NixOS",
        "nixos-minimal-24.05-x86_64",
        &[
            ("version.txt", t("24.05\n")),
            ("nix-store.squashfs", s(900)),
            ("boot/bzImage", X64),
            ("boot/initrd", F),
            (
                "isolinux/isolinux.cfg",
                t(
                    "LABEL boot\nMENU LABEL NixOS\nLINUX /boot/bzImage\nAPPEND init=/nix/store/abc-nixos-system/init root=LABEL=nixos-minimal loglevel=4\nINITRD /boot/initrd\n",
                ),
            ),
        ],
    ),
    (
        "NixOS with a kernel for new hardware as well, as nixpkgs makes it (installer/cd-dvd/iso-image.nix)",
        "nixos-graphical-25.05-x86_64",
        &[
            ("version.txt", t("25.05\n")),
            ("nix-store.squashfs", s(900)),
            ("boot/nix/store/bbb-linux-6.12.30/bzImage", X64),
            ("boot/nix/store/ddd-initrd-linux-6.12.30/initrd", F),
            ("boot/nix/store/ccc-linux-6.15.1/bzImage", X64),
            ("boot/nix/store/aaa-initrd-linux-6.15.1/initrd", F),
            (
                "EFI/BOOT/grub.cfg",
                t(
                    "if [ ${iso_path} ] ; then\n set isoboot=\"findiso=${iso_path}\"\nfi\nmenuentry 'NixOS' --class installer {\n linux /boot//nix/store/bbb-linux-6.12.30/bzImage ${isoboot} init=/nix/store/abc-nixos-system/init root=LABEL=nixos loglevel=4\n initrd /boot//nix/store/ddd-initrd-linux-6.12.30/initrd\n}\nmenuentry 'NixOS (Linux 6.15.1)' --class installer {\n linux /boot//nix/store/ccc-linux-6.15.1/bzImage ${isoboot} init=/nix/store/xyz-nixos-system/init root=LABEL=nixos\n initrd /boot//nix/store/aaa-initrd-linux-6.15.1/initrd\n}\n",
                ),
            ),
        ],
    ),
    (
        "NixOS for arm64",
        "nixos-minimal-25.05-aarch64",
        &[
            ("nix-store.squashfs", s(900)),
            ("boot/nix/store/bbb-linux-6.12.30/Image", ARM),
            ("boot/nix/store/ddd-initrd-linux-6.12.30/initrd", F),
        ],
    ),
    (
        "Talos",
        "TALOS_V1_7_0",
        &[
            ("boot/vmlinuz", X64),
            ("boot/initramfs.xz", s(80)),
            (
                "boot/grub/grub.cfg",
                t(
                    "menuentry \"Talos ISO\" {\n linux /boot/vmlinuz talos.platform=metal slab_nomerge pti=on\n initrd /boot/initramfs.xz\n}\n",
                ),
            ),
        ],
    ),
    ("Flatcar", "CDROM", &[("flatcar/vmlinuz", X64), ("flatcar/cpio.gz", s(350))]),
    (
        "VMware ESXi",
        "ESXI-8.0U2-22380479-STANDARD",
        &[("BOOT.CFG", t("kernel=/b.b00\n")), ("MBOOT.C32", F), ("EFI/BOOT/BOOTX64.EFI", F), ("B.B00", F)],
    ),
    (
        "Windows 11",
        "CCCOMA_X64FRE",
        &[
            ("bootmgr", F),
            ("bootmgr.efi", F),
            ("efi/boot/bootx64.efi", F),
            ("sources/boot.wim", s(500)),
            ("sources/install.wim", s(4000)),
        ],
    ),
    ("Windows without boot.wim", "WIN", &[("sources/install.esd", s(4000))]),
    (
        "XCP-ng",
        "XCP-ng 8.2.1",
        &[("boot/xen.gz", F), ("boot/vmlinuz", X64), ("install.img", s(80)), ("EFI/xenserver/grubx64.efi", F)],
    ),
    ("memtest86+", "MT86PLUS_64", &[("boot/mt86plus", X64), ("EFI/BOOT/BOOTX64.EFI", F)]),
    ("Void", "VOID_LIVE", &[("boot/vmlinuz", X64), ("boot/initrd", F), ("LiveOS/squashfs.img", s(900))]),
    ("Gentoo of old", "Gentoo amd64", &[("boot/gentoo", X64), ("boot/gentoo.igz", F), ("image.squashfs", s(400))]),
    (
        "Gentoo",
        "Gentoo-amd64-20241103",
        &[("boot/gentoo", X64), ("boot/gentoo-initramfs.img", F), ("image.squashfs", s(400))],
    ),
    (
        "Gentoo of today: dracut, and still named .igz (catalyst, targets/support/bootloader-setup.sh)",
        "Gentoo-amd64-20260712",
        &[
            ("boot/gentoo", X64),
            ("boot/gentoo.igz", F),
            ("image.squashfs", s(400)),
            (
                "boot/grub/grub.cfg",
                t(
                    "menuentry 'Boot LiveCD (kernel: gentoo)' --class gnu-linux --class os {\n linux /boot/gentoo dokeymap root=live:CDLABEL=Gentoo-amd64-20260712 rd.live.dir=/ rd.live.squashimg=image.squashfs cdroot\n initrd /boot/gentoo.igz\n}\n",
                ),
            ),
        ],
    ),
    ("Tiny Core", "TinyCore", &[("boot/vmlinuz64", X64), ("boot/corepure64.gz", F)]),
    ("Mageia", "Mageia-9-x86_64", &[("isolinux/x86_64/vmlinuz", X64), ("isolinux/x86_64/all.rdz", F)]),
    ("Slackware", "SlackDVD", &[("kernels/huge.s/bzImage", X64), ("isolinux/initrd.img", F)]),
    (
        "Photon OS",
        "PHOTON_20240523",
        &[("isolinux/vmlinuz", X64), ("isolinux/initrd.img", F), ("RPMS/x86_64/bash.rpm", F)],
    ),
    ("Slax", "SLAX", &[("slax/01-core.sb", s(100)), ("slax/boot/vmlinuz", X64)]),
    ("OpenBSD", "OpenBSD/amd64 7.5", &[("7.5/amd64/cdboot", F), ("7.5/amd64/bsd.rd", F)]),
    ("mfsBSD", "mfsBSD", &[("boot/kernel/kernel.gz", F), ("boot/loader", F), ("mfsroot.gz", s(40))]),
    ("FreeBSD", "14_0_RELEASE_AMD64_CD", &[("boot/kernel/kernel", F), ("boot/loader", F)]),
    (
        "Of no known family, with a menu",
        "SHREDOS",
        &[
            ("boot/bzImage", X64),
            ("boot/grub/grub.cfg", t("menuentry 'ShredOS' {\nlinux /boot/bzImage console=tty3 loglevel=3\n}\n")),
        ],
    ),
    (
        "Of no known family, for 32 bits, with programs that are not its system in the menu",
        "LIVE32",
        &[
            ("boot/bzImage", X86),
            ("boot/rootfs.gz", F),
            ("boot/memtest.bin", X64),
            ("boot/old.bin", F),
            ("isolinux/chain.c32", F),
            (
                "isolinux/isolinux.cfg",
                t(
                    "label hd\n kernel chain.c32\n append hd0\nlabel live\n kernel /boot/bzImage\n append initrd=/boot/rootfs.gz quiet\nlabel memtest\n linux /boot/memtest.bin\nlabel old\n linux /boot/old.bin\n",
                ),
            ),
        ],
    ),
    (
        "Of no known family, with one kernel for each processor in the menu",
        "RESCUE",
        &[
            ("boot/rescue32", X86),
            ("boot/rescue64", X64),
            (
                "boot/grub/grub.cfg",
                t("menuentry '32' {\nlinux /boot/rescue32 a\n}\nmenuentry '64' {\nlinux /boot/rescue64 b\n}\n"),
            ),
        ],
    ),
    ("Of no known family and without a menu", "FREEDOS", &[("kernel.sys", F), ("command.com", F)]),
    (
        "A live system without its initial RAM disk",
        "ODD",
        &[("live/vmlinuz", X64), ("live/filesystem.squashfs", s(100))],
    ),
    (
        "CoreOS without its root file system",
        "fedora-coreos-40.20240504.3.0",
        &[("coreos/miniso.dat", F), ("images/pxeboot/vmlinuz", X64), ("images/pxeboot/initrd.img", F)],
    ),
    ("XCP-ng without the kernel of its first domain", "XCP-ng 8.2.1", &[("boot/xen.gz", F), ("install.img", s(80))]),
    ("A live system whose kernel is not where it should be", "ODD", &[("live/filesystem.squashfs", s(100))]),
];

fn reported(recognised: &Recognised) -> String {
    let Recognised { family, title, kind, version, how, variants, memory, notes } = recognised;
    let mut text = format!("{family}: {title} ({kind})\n");
    let _ = writeln!(text, "version: {}", version.as_deref().unwrap_or("none"));
    if let How::Refused { why, instead } = how {
        let _ = writeln!(text, "refused: {why}\ninstead: {instead}");
    } else {
        let _ = writeln!(text, "how: {how:?}");
    }
    for variant in variants {
        let place = |place: &Place| match place {
            Place::Image(path) => path.clone(),
            Place::Unpacked(path) => format!("{path}, unpacked"),
            Place::Host { path, package } => format!("{path} of {package}"),
            Place::Supplied(name) => format!("{name}, supplied"),
        };
        let _ = writeln!(text, "{}: {}", variant.arch.unwrap_or("any"), place(&variant.kernel));
        for part in &variant.initrds {
            let _ = match part {
                Part::File(file) => writeln!(text, "  initrd {}", place(file)),
                Part::Put { path, name } => {
                    writeln!(text, "  put {} as {name}", path.as_deref().unwrap_or("the whole image"))
                }
            };
        }
        for (path, arguments) in &variant.modules {
            let _ = writeln!(text, "  with {path}: {arguments}");
        }
        let base = "http://192.0.2.10:8080/assets/x.iso";
        let _ = writeln!(text, "  cmdline {}", variant.cmdline_at(base, base));
    }
    if let Some(need) = memory {
        let _ = writeln!(text, "memory: {} MiB, {}", need.mib, need.why);
    }
    for note in notes {
        let _ = writeln!(text, "note: {note}");
    }
    // Nothing behind the words: an empty command line is a line as well.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn answer(label: &str, files: Files<'_>) -> Recognised {
    let made: Made = iso(label, files);
    recognise(&made, &Index::open(&made).expect("opened"))
}

#[test]
fn each_family_is_recognised_and_booted_as_its_vendor_says() {
    let all: Vec<String> =
        CASES.iter().map(|(what, label, files)| format!("# {what}\n{}", reported(&answer(label, files)))).collect();
    let all = all.join("\n");
    let expected = include_str!("../../tests/iso/families.txt");
    if all != expected {
        // To be looked at, and taken over by hand.
        eprintln!("{all}");
    }
    for (ours, theirs) in all.split("\n# ").zip(expected.split("\n# ")) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(all.len(), expected.len());
}

#[test]
fn each_family_of_the_table_has_a_case_that_is_recognised_as_it() {
    let met: Vec<&str> = CASES.iter().map(|(_, label, files)| answer(label, files).family).collect();
    let missing: Vec<&str> = FAMILIES.iter().map(|family| family.id).filter(|id| !met.contains(id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_placeholder_of_the_table_is_filled() {
    for (what, label, files) in CASES {
        for variant in answer(label, files).variants {
            let line = variant.cmdline_at("http://192.0.2.10/assets/x.iso", "http://192.0.2.10/assets/x.iso");
            let rest = line.replace("${netX/mac:hexhyp}", "");
            assert!(!rest.contains(['{', '}']), "{what}: {line}");
        }
    }
}

#[test]
fn what_is_not_whole_or_starts_nothing_is_refused() {
    let of = |made: &Made| recognise(made, &Index::open(made).expect("opened"));
    let files: Files<'_> = &[("live/vmlinuz", X64), ("live/initrd.img", F), ("live/filesystem.squashfs", s(1))];
    let mut made = iso("LIVE", files);
    assert_eq!((of(&made).family, of(&made).how), ("live-boot", How::Linux));
    made.length -= 2048;
    let found = of(&made);
    let How::Refused { why, .. } = &found.how else { panic!("{found:?}") };
    assert_eq!(why, "it is not whole: it is still copied, or was cut short");
    assert!(found.variants.is_empty() && found.memory.is_none() && found.notes.is_empty(), "{found:?}");

    let of_size = |size| {
        let files = [("boot/vmlinuz", X64), ("boot/initrd", F), ("LiveOS/squashfs.img", Of::Size(size))];
        of(&iso("VOID_LIVE", &files))
    };
    assert_eq!(of_size((4 << 30) - 1).how, How::Linux);
    let found = of_size(4 << 30);
    let How::Refused { why, .. } = &found.how else { panic!("{found:?}") };
    assert_eq!(why, "it has 4 GiB or more, and cannot be added to an initial RAM disk");
    assert!(found.variants.is_empty() && found.memory.is_none() && found.notes.is_empty(), "{found:?}");

    let mut made = iso("TOOL", &[("readme", F)]);
    assert_eq!(of(&made).how, How::San);
    // Without El Torito: the boot record is another descriptor.
    made.bytes[17 * 2048] = 3;
    let found = of(&made);
    let How::Refused { why, .. } = &found.how else { panic!("{found:?}") };
    assert!(why.ends_with("nor anything that firmware starts from a drive") && found.notes.is_empty(), "{found:?}");
    // As those for USB sticks have it.
    made.bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(of(&made).how, How::San);
}
