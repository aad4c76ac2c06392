//! The known families of images: how to recognise each one, and how the vendor's own initial RAM disk fetches the rest
//! by HTTP. This is only data, which [`super::recognise`] reads. The first family whose tests are all true is used.
//!
//! Patterns are those of [`super::Index::find`]. Placeholders in a command line:
//!
//! | | |
//! |---|---|
//! | `{I}` | the URL of the folder that the image is, without a slash at its end |
//! | `{W}` | the URL of the whole image; it ends in `.iso` |
//! | `{host}`, `{path}` | address with port, and path, of `{I}` |
//! | `{x}` | the path of what `finds` names `x` |
//! | `{top:x}` | the first folder of that path |
//! | `{own:y}` | the arguments of the image's own menu, without those that look for the disc; without a menu: `y` |
//!
//! How each system fetches its files was read in its source code, or in the vendor's documentation.

use super::family::{Answers, Family, Initrd, Memory, Test, Way, bootif};

const NONE: Family = Family::NONE;

const SQUASHFS_OF_CASPER: &[(&str, &[&str])] =
    &[("squashfs", &["casper/filesystem.squashfs", "casper/*.squashfs", "casper_*/*.squashfs"])];
const CASPER_KERNEL: &[&str] =
    &["casper/vmlinuz*", "casper/hwe-vmlinuz", "casper_*/vmlinuz*", "boot/kernel", "boot/vmlinuz*"];
const CASPER_INITRD: &[Initrd] =
    &[Initrd::One(&["casper/initrd*", "casper/hwe-initrd", "casper_*/initrd*", "boot/initramfs", "boot/initrd*"])];
const CASPER_MEMORY: Memory =
    Memory::with(2048, 1, "", "the whole image is loaded into memory, and the system needs more memory");
const CASPER_NOTE: &str = "the whole image is loaded: use the kernel and initial RAM disk of the same image";

const LIVE: &[(&str, &[&str])] = &[("squashfs", &["live/filesystem.squashfs", "live/*.squashfs", "live/*/*.squashfs"])];
const LIVE_KERNEL: &[&str] = &["live/vmlinuz*", "live/*/vmlinuz*", "boot/*/vmlinuz*", "vmlinuz*", "casper/vmlinuz*"];
const LIVE_INITRD: &[Initrd] =
    &[Initrd::One(&["live/initrd*", "live/*/initrd*", "boot/*/initrd*", "initrd*", "casper/initrd*"])];
const LIVE_MEMORY: Memory =
    Memory::with(1024, 1, "squashfs", "the file system of the live system is loaded into memory");
const LIVE_WHOLE: Memory =
    Memory::with(1024, 2, "", "the whole image is loaded into a RAM disk, which uses half of the memory");
const NO_IP: &str = "ip= is not set: live-boot gets an address automatically, and ip=dhcp would break its settings";

const DRACUT: &str =
    bootif!("root=live:{I}/{squashfs} ro rd.live.image ip=dhcp rd.neednet=1 rd.lvm=0 rd.luks=0 rd.md=0 rd.dm=0");
const LIVEOS: &[(&str, &[&str])] = &[("squashfs", &["LiveOS/squashfs.img"])];
const LIVEOS_MEMORY: Memory =
    Memory::with(2048, 1, "squashfs", "the file system of the live system is loaded into memory");
const SUSE_KERNEL: &[&str] = &["boot/x86_64/loader/linux", "boot/aarch64/linux", "boot/*/loader/linux", "boot/*/linux"];
const SUSE_INITRD: &[Initrd] =
    &[Initrd::One(&["boot/x86_64/loader/initrd", "boot/aarch64/initrd", "boot/*/loader/initrd", "boot/*/initrd"])];

const PXEBOOT: &[&str] = &["images/pxeboot/vmlinuz"];
const PXEBOOT_INITRD: &[Initrd] = &[Initrd::One(&["images/pxeboot/initrd.img"])];
const ANACONDA_TESTS: &[&str] = &["images/install.img", ".treeinfo"];
const PACKAGES: &[&str] = &["repodata/repomd.xml", "*/repodata/repomd.xml"];

/// The kernel, and the packages.
const INSTALLER_TESTS: [&[&str]; 2] =
    [&["install.*/vmlinuz", "install/vmlinuz", "install.*/gtk/vmlinuz"], &["dists/*/Release", "dists/*/main/"]];

const BSD_KERNEL: &[&str] = &["boot/kernel/kernel", "boot/kernel/kernel.gz", "kernel/kernel"];

const AIROOTFS: &[(&str, &[&str])] = &[("airootfs", &["*/x86_64/airootfs.*fs", "*/*/airootfs.*fs"])];
const UCODE: Initrd = Initrd::Any("*/boot/*ucode.img");

/// All families, in the order in which they are tried.
pub const FAMILIES: &[Family] = &[
    Family {
        id: "windows",
        title: "Windows",
        tests: &[Test::Has(&["sources/boot.wim"])],
        way: Way::Wimboot(&[("bootmgr", "bootmgr"), ("sources/boot.wim", "boot.wim")]),
        memory: Memory::with(1024, 2, "wim", "boot.wim is loaded into memory and unpacked there"),
        finds: &[("wim", &["sources/boot.wim"])],
        notes: &[
            "you have to supply wimboot (github.com/ipxe/wimboot); 2.9.0 or newer for Windows 11 24H2",
            "this starts Windows PE and Setup; Setup needs install.wim on a drive or an SMB share, not by HTTP",
        ],
        ..NONE
    },
    Family {
        id: "windows-without-boot",
        title: "Windows installation files",
        tests: &[Test::Has(&["sources/install.wim", "sources/install.esd", "sources/install.swm"])],
        way: Way::No {
            why: "it has Windows' files, but no boot.wim to start Setup",
            instead: "use the original installation image",
        },
        ..NONE
    },
    Family {
        id: "esxi",
        title: "VMware ESXi",
        tests: &[Test::Has(&["mboot.c32"]), Test::Has(&["boot.cfg"])],
        way: Way::Esxi,
        kernel: &["efi/boot/bootx64.efi", "efi/boot/bootaa64.efi", "mboot.c32"],
        memory: Memory::mib(8192, "ESXi 8 needs 8 GiB, older ones 4"),
        notes: &[
            "on a BIOS machine its loader, mboot.c32, needs an iPXE that was built with COMBOOT; most are not, and print 'Exec format error'",
            "on a UEFI machine its loader uses the firmware's network: start iPXE as snponly.efi",
        ],
        ..NONE
    },
    Family {
        id: "proxmox",
        title: "Proxmox",
        tests: &[Test::Has(&[".pve-cd-id.txt", ".cd-info"]), Test::Has(&["boot/linux26"])],
        kernel: &["boot/linux26"],
        initrd: &[Initrd::One(&["boot/initrd.img"]), Initrd::Image("proxmox.iso")],
        way: Way::Linux("vga=791 video=vesafb:ywrap,mtrr ramdisk_size=16777216 rw quiet splash=silent"),
        memory: Memory::with(
            4096,
            2,
            "",
            "the whole image is added to the initial RAM disk, which is unpacked in memory",
        ),
        notes: &[
            "on BIOS machines the image often does not fit below 2 GiB; iPXE then shows 'No space left on device'",
            "for an unattended installation add proxmox-start-auto-installer, for the text installer proxtui",
        ],
        ..NONE
    },
    Family {
        id: "coreos",
        title: "Fedora CoreOS or RHEL CoreOS",
        tests: &[Test::Has(&["coreos/igninfo.json", "coreos/miniso.dat", "coreos/kargs.json"])],
        finds: &[("rootfs", &["images/pxeboot/rootfs.img"])],
        kernel: PXEBOOT,
        initrd: PXEBOOT_INITRD,
        way: Way::Linux(
            "coreos.live.rootfs_url={I}/{rootfs} ip=dhcp rd.neednet=1 ignition.firstboot ignition.platform.id=metal",
        ),
        memory: Memory::with(1024, 1, "rootfs", "the root file system is loaded into memory"),
        notes: &["to install: add coreos.inst.install_dev=/dev/sda and coreos.inst.ignition_url="],
    },
    Family {
        id: "flatcar",
        title: "Flatcar Container Linux",
        tests: &[Test::Has(&["flatcar/vmlinuz"])],
        kernel: &["flatcar/vmlinuz*"],
        initrd: &[Initrd::One(&["flatcar/cpio.gz", "flatcar/*.cpio.gz"])],
        way: Way::Linux("flatcar.first_boot=1 flatcar.autologin"),
        memory: Memory::mib(3072, "the whole system is in the initial RAM disk"),
        notes: &["set the configuration with ignition.config.url="],
        ..NONE
    },
    Family {
        id: "systemrescue",
        title: "SystemRescue",
        tests: &[Test::Has(&["sysresccd/boot/x86_64/vmlinuz"])],
        finds: AIROOTFS,
        kernel: &["sysresccd/boot/x86_64/vmlinuz"],
        initrd: &[Initrd::Any("sysresccd/boot/*_ucode.img"), Initrd::One(&["sysresccd/boot/x86_64/sysresccd.img"])],
        way: Way::Linux(bootif!("archisobasedir=sysresccd archiso_http_srv={I}/ ip=dhcp checksum")),
        memory: Memory::with(1024, 2, "airootfs", "its file system is loaded into memory and copied there again"),
        ..NONE
    },
    Family {
        id: "arch",
        title: "Arch Linux or a system built with archiso",
        tests: &[Test::Has(&["*/x86_64/airootfs.*fs", "*/*/airootfs.*fs"])],
        finds: AIROOTFS,
        kernel: &["*/boot/x86_64/vmlinuz-linux", "*/boot/x86_64/vmlinuz*", "*/boot/*/vmlinuz*", "*/boot/vmlinuz*"],
        initrd: &[
            UCODE,
            Initrd::One(&[
                "*/boot/x86_64/initramfs*.img",
                "*/boot/x86_64/archiso.img",
                "*/boot/*/initramfs*.img",
                "*/boot/initramfs*.img",
            ]),
        ],
        way: Way::Linux(bootif!("archisobasedir={top:airootfs} archiso_http_srv={I}/ ip=dhcp net.ifnames=0")),
        memory: Memory::with(1024, 2, "airootfs", "its file system is loaded into memory and copied there again"),
        ..NONE
    },
    Family {
        id: "manjaro",
        title: "Manjaro or a system built with manjaro-tools",
        tests: &[Test::Has(&["*/x86_64/livefs.sfs", "*/x86_64/rootfs.sfs"]), Test::Has(&["boot/vmlinuz-x86_64"])],
        finds: &[("rootfs", &["*/x86_64/rootfs.sfs", "*/x86_64/livefs.sfs"])],
        kernel: &["boot/vmlinuz-x86_64"],
        initrd: &[Initrd::One(&["boot/initramfs-x86_64.img"])],
        way: Way::Linux(bootif!(
            "misobasedir={top:rootfs} miso_http_srv={I}/ ip=dhcp nouveau.modeset=1 i915.modeset=1 radeon.modeset=1 driver=free tz=UTC lang=en_US keytable=us"
        )),
        memory: Memory::with(2048, 2, "", "its file systems are loaded into memory"),
        ..NONE
    },
    Family {
        id: "alpine",
        title: "Alpine Linux",
        tests: &[Test::Has(&[".alpine-release", "apks/.boot_repository"])],
        finds: &[("modloop", &["boot/modloop-lts", "boot/modloop*"])],
        kernel: &["boot/vmlinuz-lts", "boot/vmlinuz*"],
        initrd: &[Initrd::One(&["boot/initramfs*"])],
        way: Way::Linux("ip=dhcp alpine_repo={I}/apks modloop={I}/{modloop} modules=loop,squashfs,sd-mod,usb-storage"),
        memory: Memory::mib(1024, "packages and modules are kept in memory"),
        notes: &[
            "the initial RAM disk of the image supports only the network card of virtual machines (virtio); for others use initramfs-lts from Alpine's netboot files of the same version",
        ],
    },
    Family {
        id: "nixos",
        title: "NixOS",
        tests: &[Test::Has(&["nix-store.squashfs"])],
        // nixpkgs, nixos/modules/installer/cd-dvd/iso-image.nix: `target = "/boot/" + kernel + "/" + kernelFile`, where the
        // kernel is a path of the store. Older images have /boot/bzImage. For arm64 the file is called Image.
        kernel: &["boot/nix/store/*/bzImage", "boot/nix/store/*/Image", "boot/bzImage", "boot/Image", "boot/*/bzImage"],
        initrd: &[
            Initrd::One(&["boot/nix/store/*/initrd", "boot/initrd", "boot/*/initrd"]),
            Initrd::Image("nixos.iso"),
        ],
        way: Way::Linux("{own:init=/init} root=/nixos.iso"),
        memory: Memory::with(
            2048,
            2,
            "",
            "the whole image is added to the initial RAM disk, which is unpacked in memory",
        ),
        notes: &["not tested: NixOS documents its own netboot files (nixos.org/manual, Booting from the network)"],
        ..NONE
    },
    Family {
        id: "lmde",
        title: "Linux Mint Debian Edition",
        tests: &[Test::Has(&["casper/filesystem.squashfs"]), Test::Info(&["LMDE"])],
        finds: SQUASHFS_OF_CASPER,
        kernel: CASPER_KERNEL,
        initrd: CASPER_INITRD,
        way: Way::Linux(bootif!("boot=live components live-media-path=casper fetch={I}/{squashfs}")),
        memory: LIVE_MEMORY,
        notes: &[NO_IP],
    },
    Family {
        id: "casper-before-19.10",
        title: "Ubuntu 18.04 or older, or a system based on it",
        tests: &[Test::Has(&["casper/*.squashfs", "casper_*/*.squashfs"]), Test::CasperBefore(1422)],
        way: Way::No {
            why: "its casper can boot from NFS and CIFS, but not by HTTP",
            instead: "unpack it and export it by NFS (netboot=nfs nfsroot=…), or use release 19.10 or later",
        },
        ..NONE
    },
    Family {
        id: "casper-url",
        title: "Ubuntu 19.10 to 22.04, or a system based on it",
        tests: &[
            Test::Has(&["casper/*.squashfs", "casper_*/*.squashfs"]),
            Test::CasperBefore(1472),
            Test::Lacks(&["casper_*/*.squashfs"]),
        ],
        kernel: CASPER_KERNEL,
        initrd: CASPER_INITRD,
        way: Way::Linux("boot=casper ip=dhcp url={W} cloud-config-url=/dev/null root=/dev/ram0 ramdisk_size=3500000"),
        memory: CASPER_MEMORY,
        notes: &[CASPER_NOTE],
        ..NONE
    },
    Family {
        id: "casper-iso-url",
        title: "Ubuntu 22.10 or later, or a system based on it",
        tests: &[
            Test::Has(&["casper/*.squashfs", "casper_*/*.squashfs"]),
            Test::CasperFrom(1472),
            Test::Lacks(&["casper_*/*.squashfs"]),
        ],
        kernel: CASPER_KERNEL,
        initrd: CASPER_INITRD,
        way: Way::Linux("boot=casper ip=dhcp iso-url={W} root=/dev/ram0"),
        memory: CASPER_MEMORY,
        notes: &[CASPER_NOTE],
        ..NONE
    },
    Family {
        id: "casper-of-its-own-folder",
        title: "Pop!_OS or another system with its own folder for casper",
        tests: &[Test::Has(&["casper_*/*.squashfs"])],
        finds: &[("squashfs", &["casper_*/filesystem.squashfs", "casper_*/*.squashfs"])],
        kernel: CASPER_KERNEL,
        initrd: CASPER_INITRD,
        way: Way::Linux(
            "boot=casper ip=dhcp url={W} iso-url={W} cloud-config-url=/dev/null root=/dev/ram0 live-media-path=/{top:squashfs}",
        ),
        memory: CASPER_MEMORY,
        notes: &[CASPER_NOTE],
    },
    Family {
        id: "casper",
        title: "A system based on Ubuntu",
        tests: &[Test::Has(&["casper/*.squashfs"])],
        kernel: CASPER_KERNEL,
        initrd: CASPER_INITRD,
        way: Way::Linux(
            "boot=casper ip=dhcp url={W} iso-url={W} cloud-config-url=/dev/null root=/dev/ram0 ramdisk_size=3500000",
        ),
        memory: CASPER_MEMORY,
        notes: &[CASPER_NOTE, "its release of casper is unknown: releases before 19.10 do not boot by HTTP"],
        ..NONE
    },
    Family {
        id: "tails",
        title: "Tails",
        tests: &[Test::Has(&["live/*.squashfs"]), Test::Label(&["TAILS*"])],
        way: Way::No {
            why: "its live-boot can only start from a USB stick or a DVD",
            instead: "write it to a USB stick",
        },
        ..NONE
    },
    Family {
        id: "antix",
        title: "antiX or MX Linux",
        tests: &[Test::Has(&["antiX/linuxfs"])],
        way: Way::No {
            why: "its initial RAM disk does not support HTTP",
            instead: "export the unpacked image by NFS, or write it to a USB stick",
        },
        ..NONE
    },
    Family {
        id: "truenas",
        title: "TrueNAS SCALE",
        tests: &[Test::Has(&["TrueNAS-SCALE.update"])],
        kernel: LIVE_KERNEL,
        initrd: LIVE_INITRD,
        way: Way::Linux(bootif!("boot=live components fetch={W}")),
        memory: LIVE_WHOLE,
        notes: &["the installer needs the whole image, not only the live system", NO_IP],
        ..NONE
    },
    Family {
        id: "clonezilla",
        title: "Clonezilla Live",
        tests: &[Test::Has(&["Clonezilla-Live-Version"])],
        finds: LIVE,
        kernel: LIVE_KERNEL,
        initrd: LIVE_INITRD,
        way: Way::Linux(bootif!(
            "boot=live username=user union=overlay config components noswap edd=on nomodeset ocs_live_run=ocs-live-general ocs_live_batch=no net.ifnames=0 nosplash noprompt fetch={I}/{squashfs}"
        )),
        memory: LIVE_MEMORY,
        notes: &[NO_IP],
    },
    Family {
        id: "live-boot-in-parts",
        title: "A Debian Live system of several file systems",
        tests: &[Test::Several("live/*.squashfs")],
        kernel: LIVE_KERNEL,
        initrd: LIVE_INITRD,
        way: Way::Linux(bootif!("{own:boot=live components} fetch={W}")),
        memory: LIVE_WHOLE,
        notes: &[NO_IP],
        ..NONE
    },
    Family {
        id: "live-boot",
        title: "Debian Live or a system built with live-boot",
        tests: &[Test::Has(&["live/*.squashfs", "live/*/*.squashfs"])],
        finds: LIVE,
        kernel: LIVE_KERNEL,
        initrd: LIVE_INITRD,
        way: Way::Linux(bootif!("{own:boot=live components} fetch={I}/{squashfs}")),
        memory: LIVE_MEMORY,
        notes: &[NO_IP],
    },
    Family {
        id: "suse",
        title: "openSUSE or SUSE installer (linuxrc)",
        tests: &[Test::Has(&["boot/*/root"]), Test::Has(SUSE_KERNEL)],
        kernel: SUSE_KERNEL,
        initrd: SUSE_INITRD,
        way: Way::Linux(bootif!("install={I}/ netsetup=dhcp")),
        memory: Memory::mib(2048, "the installer runs in memory; 1 GiB is enough in text mode"),
        ..NONE
    },
    Family {
        id: "kiwi-live",
        title: "openSUSE live system (kiwi)",
        tests: &[Test::Has(&["LiveOS/squashfs.img"]), Test::Label(&["openSUSE*Live*", "*-Live-*SUSE*", "Leap*Live*"])],
        way: Way::No {
            why: "its initial RAM disk (dracut's kiwi-live) does not support HTTP",
            instead: "use the installer's image, or write it to a USB stick",
        },
        ..NONE
    },
    Family {
        id: "agama-offline",
        title: "SUSE or openSUSE installer (Agama) with packages",
        tests: &[Test::Has(&["LiveOS/squashfs.img"]), Test::Has(SUSE_KERNEL), Test::Has(&["install/"])],
        finds: LIVEOS,
        kernel: SUSE_KERNEL,
        initrd: SUSE_INITRD,
        way: Way::Linux(bootif!(
            "root=live:{I}/{squashfs} rd.live.image ip=dhcp rd.neednet=1 inst.install_url={I}/install"
        )),
        memory: LIVEOS_MEMORY,
        ..NONE
    },
    Family {
        id: "agama",
        title: "SUSE or openSUSE installer (Agama)",
        tests: &[
            Test::Has(&["LiveOS/squashfs.img"]),
            Test::Has(SUSE_KERNEL),
            Test::Label(&["*agama*", "Install-*", "Leap-16*", "SLES-16*", "SLES_16*", "SL-Micro*", "openSUSE*"]),
        ],
        kernel: SUSE_KERNEL,
        initrd: SUSE_INITRD,
        way: Way::Linux(bootif!("root=live:{W} rd.live.image ip=dhcp rd.neednet=1")),
        memory: Memory::with(2048, 1, "", "the whole image is loaded into memory"),
        notes: &["packages come from the Internet, or from inst.install_url="],
        ..NONE
    },
    Family {
        id: "void",
        title: "Void Linux",
        tests: &[Test::Has(&["LiveOS/squashfs.img"]), Test::Label(&["VOID_LIVE*"])],
        finds: LIVEOS,
        kernel: &["boot/vmlinuz*"],
        initrd: &[Initrd::One(&["boot/initrd*"]), Initrd::Found("squashfs", "squashfs.img")],
        way: Way::Linux("{own:} root=live:/squashfs.img rd.live.image"),
        memory: Memory::with(
            1024,
            2,
            "squashfs",
            "its file system is added to the initial RAM disk, and unpacked in memory",
        ),
        notes: &["not tested: its initial RAM disk has no network, so its file system is added to it"],
    },
    Family {
        id: "anaconda-dvd",
        title: "Fedora, RHEL or a rebuild: installer with packages",
        tests: &[Test::Has(ANACONDA_TESTS), Test::Has(PXEBOOT), Test::Has(PACKAGES)],
        finds: &[("install", &["images/install.img", "LiveOS/squashfs.img"])],
        kernel: PXEBOOT,
        initrd: PXEBOOT_INITRD,
        way: Way::Linux(bootif!("inst.repo={I}/ ip=dhcp")),
        memory: Memory::with(2048, 1, "install", "the installer runs in memory"),
        notes: &["RHEL 10 and its rebuilds need an x86-64-v3 processor"],
    },
    Family {
        id: "anaconda",
        title: "Fedora, RHEL or a rebuild: network installer",
        tests: &[Test::Has(ANACONDA_TESTS), Test::Has(PXEBOOT)],
        finds: &[("install", &["images/install.img", "LiveOS/squashfs.img"])],
        kernel: PXEBOOT,
        initrd: PXEBOOT_INITRD,
        way: Way::Linux(bootif!("inst.stage2={I}/ ip=dhcp")),
        memory: Memory::with(2048, 1, "install", "the installer runs in memory"),
        notes: &["it has no packages: they come from the Internet, or from inst.repo="],
    },
    Family {
        id: "dracut-live",
        title: "Fedora or EL live system",
        tests: &[Test::Has(&["LiveOS/squashfs.img"])],
        finds: LIVEOS,
        kernel: &["images/pxeboot/vmlinuz", "boot/x86_64/loader/linux", "boot/*/loader/linux", "isolinux/vmlinuz*"],
        initrd: &[Initrd::One(&[
            "images/pxeboot/initrd.img",
            "boot/x86_64/loader/initrd",
            "boot/*/loader/initrd",
            "isolinux/initrd*",
        ])],
        way: Way::Linux(DRACUT),
        memory: LIVEOS_MEMORY,
        ..NONE
    },
    Family {
        id: "xcp-ng",
        title: "XCP-ng or XenServer",
        tests: &[Test::Has(&["boot/xen.gz"]), Test::Has(&["install.img"])],
        kernel: &["boot/xen.gz"],
        way: Way::Xen {
            cmdline: "dom0_max_vcpus=2 dom0_mem=2048M,max:2048M com1=115200,8n1 console=com1,vga",
            modules: &[("boot/vmlinuz", "xencons=hvc console=hvc0 console=tty0"), ("install.img", "")],
        },
        memory: Memory::mib(4096, "the installer runs in memory beside the hypervisor"),
        notes: &[
            "BIOS only: Xen is started by multiboot, which iPXE for UEFI does not have",
            "the installer asks for its packages: give it the image's URL as a folder (HTTP)",
        ],
        ..NONE
    },
    Family {
        id: "debian-installer",
        title: "Debian installer",
        // Only a release of Debian has such a package. debian-cd, tools/generate_diskinfo: "Debian GNU/Linux 12.5.0 …".
        tests: &[Test::Has(INSTALLER_TESTS[0]), Test::Has(INSTALLER_TESTS[1]), Test::Release("Debian GNU/Linux ")],
        way: Way::Netboot {
            package: "debian-installer-{major}-netboot-{arch}",
            kernel: "/usr/lib/debian-installer/images/{major}/{arch}/text/debian-installer/{arch}/linux",
            initrd: "/usr/lib/debian-installer/images/{major}/{arch}/text/debian-installer/{arch}/initrd.gz",
            cmdline: "mirror/country=manual mirror/protocol=http mirror/http/hostname={host} mirror/http/directory={path} mirror/http/proxy= debian-installer/allow_unauthenticated=true",
        },
        kernel: &["install.*/vmlinuz", "install/vmlinuz"],
        memory: Memory::mib(1024, "the installer runs in memory"),
        notes: &[
            "the image's own initial RAM disk needs a disc: the one of the netboot package is used, which must be of the same point release",
            "a network installer's image has only the base system: the rest comes from a mirror on the Internet",
        ],
        ..NONE
    },
    Family {
        id: "debian-installer-other",
        title: "Debian installer of an unreleased Debian, or of another distribution",
        tests: &[Test::Has(INSTALLER_TESTS[0]), Test::Has(INSTALLER_TESTS[1])],
        way: Way::No {
            why: "the initial RAM disk of the image needs a disc, and Debian has packages with one for the network only for its own releases",
            // The place is the same on the mirrors of Debian and of Ubuntu.
            instead: "take linux and initrd.gz from netboot.tar.gz, which is on the distribution's mirror in dists/RELEASE/main/installer-ARCH/current/images/netboot, and name them with kernel and initrd in a profile",
        },
        ..NONE
    },
    Family {
        id: "gentoo-old",
        title: "Gentoo (genkernel)",
        // catalyst, targets/support/bootloader-setup.sh: an initial RAM disk of dracut has the same name, and only its
        // arguments tell it from one of genkernel.
        tests: &[Test::Has(&["image.squashfs"]), Test::Has(&["boot/gentoo.igz"]), Test::MenuLacks(&["rd.live."])],
        finds: &[("squashfs", &["image.squashfs"])],
        kernel: &["boot/gentoo"],
        initrd: &[Initrd::One(&["boot/gentoo.igz"]), Initrd::Found("squashfs", "image.squashfs")],
        way: Way::Linux("root=/dev/ram0 init=/linuxrc loop=/image.squashfs looptype=squashfs cdroot=1 ip=dhcp"),
        memory: Memory::with(
            1024,
            2,
            "squashfs",
            "its file system is added to the initial RAM disk, and unpacked in memory",
        ),
        ..NONE
    },
    Family {
        id: "gentoo",
        title: "Gentoo",
        tests: &[Test::Has(&["image.squashfs"]), Test::Has(&["boot/gentoo*"])],
        finds: &[("squashfs", &["image.squashfs"])],
        kernel: &["boot/gentoo", "boot/gentoo-kernel", "boot/vmlinuz*"],
        initrd: &[
            Initrd::One(&["boot/gentoo*.img", "boot/initr*", "boot/gentoo*.igz"]),
            Initrd::Found("squashfs", "image.img"),
        ],
        way: Way::Linux("root=live:/image.img rd.live.image rd.live.dir=/ rd.live.squashimg=image.squashfs"),
        memory: Memory::with(
            1024,
            2,
            "squashfs",
            "its file system is added to the initial RAM disk, and unpacked in memory",
        ),
        notes: &["not tested: its initial RAM disk has no network, so its file system is added to it"],
    },
    Family {
        id: "talos",
        title: "Talos Linux",
        tests: &[
            Test::Has(&["boot/vmlinuz"]),
            Test::Has(&["boot/initramfs.xz"]),
            Test::Says("boot/grub/grub.cfg", &["talos.platform"]),
        ],
        kernel: &["boot/vmlinuz"],
        initrd: &[Initrd::One(&["boot/initramfs.xz"])],
        way: Way::Linux(
            "{own:talos.platform=metal slab_nomerge pti=on init_on_alloc=1 init_on_free=1 console=tty0 consoleblank=0 nvme_core.io_timeout=4294967295 printk.devkmsg=on ima_template=ima-ng ima_appraise=fix ima_hash=sha512}",
        ),
        memory: Memory::mib(2048, "the whole system is in the initial RAM disk"),
        notes: &["set the configuration with talos.config="],
        ..NONE
    },
    Family {
        id: "memtest86+",
        title: "memtest86+",
        tests: &[Test::Label(&["MT86PLUS*", "MEMTEST*"]), Test::Has(&["boot/*", "EFI/*/*"])],
        kernel: &[
            "boot/mt86p*",
            "boot/*mt86*",
            "boot/memtest*",
            "boot/*.bin",
            "EFI/BOOT/mt86*.efi",
            "EFI/BOOT/BOOT*.EFI",
        ],
        way: Way::Linux(""),
        memory: Memory::mib(64, "this is the whole program"),
        ..NONE
    },
    Family {
        id: "tinycore",
        title: "Tiny Core Linux",
        tests: &[Test::Has(&["boot/core*.gz", "boot/tinycore*.gz"]), Test::Has(&["boot/vmlinuz*"])],
        kernel: &["boot/vmlinuz64", "boot/vmlinuz*"],
        initrd: &[Initrd::One(&["boot/corepure64.gz", "boot/core.gz", "boot/*core*.gz"])],
        way: Way::Linux("{own:quiet}"),
        memory: Memory::mib(256, "the whole system is in the initial RAM disk"),
        notes: &["extensions of the image (cde) are not loaded"],
        ..NONE
    },
    Family {
        id: "mageia",
        title: "Mageia installer",
        tests: &[Test::Has(&["isolinux/*/all.rdz"])],
        kernel: &["isolinux/x86_64/vmlinuz", "isolinux/*/vmlinuz"],
        initrd: &[Initrd::One(&["isolinux/x86_64/all.rdz", "isolinux/*/all.rdz"])],
        way: Way::Linux("automatic=method:http,network:dhcp,server:{host},directory:{path}/x86_64"),
        memory: Memory::mib(1024, "the installer runs in memory"),
        notes: &["not tried"],
        ..NONE
    },
    Family {
        id: "slackware",
        title: "Slackware installer",
        tests: &[Test::Has(&["kernels/huge.s/bzImage"])],
        kernel: &["kernels/huge.s/bzImage"],
        initrd: &[Initrd::One(&["isolinux/initrd.img"])],
        way: Way::Linux("load_ramdisk=1 prompt_ramdisk=0 rw printk.time=0 SLACK_KERNEL=huge.s"),
        memory: Memory::mib(512, "the installer runs in memory"),
        notes: &["choose HTTP as the source in the installer, and the folder slackware64 of this image"],
        ..NONE
    },
    Family {
        id: "photon",
        title: "VMware Photon OS installer",
        tests: &[Test::Label(&["PHOTON*"]), Test::Has(&["RPMS/"]), Test::Has(&["isolinux/vmlinuz"])],
        kernel: &["isolinux/vmlinuz"],
        initrd: &[Initrd::One(&["isolinux/initrd.img"])],
        way: Way::Linux("root=/dev/ram0 repo={I}/RPMS"),
        memory: Memory::mib(2048, "the installer runs in memory"),
        notes: &["not tried"],
        ..NONE
    },
    Family {
        id: "live-kit",
        title: "Slax, MiniOS, Porteus or Puppy Linux",
        tests: &[Test::Has(&["slax/*.sb", "minios/*.sb", "porteus/base/*.xzm", "puppy_*.sfs"])],
        way: Way::No {
            why: "its initial RAM disk supports few network cards and no plain HTTP",
            instead: "write it to a USB stick",
        },
        ..NONE
    },
    Family {
        id: "openbsd",
        title: "OpenBSD",
        tests: &[Test::Has(&["cdboot", "*/*/bsd.rd", "bsd"]), Test::Has(&["*/*/bsd.rd", "*/*/cdboot"])],
        way: Way::San,
        notes: &["the installer is completely in memory: give it the image's URL as its HTTP server"],
        ..NONE
    },
    Family {
        id: "mfsbsd",
        title: "mfsBSD or another FreeBSD in memory",
        // mfsBSD, Makefile: kernel and root file system are packed by gzip, and the loader reads both.
        tests: &[Test::Has(BSD_KERNEL), Test::Has(&["mfsroot.gz", "mfsroot"])],
        way: Way::San,
        notes: &["the system is completely in memory: it does not need the drive that its loader reads"],
        ..NONE
    },
    Family {
        id: "bsd",
        title: "FreeBSD or a system made of it",
        tests: &[Test::Has(BSD_KERNEL)],
        way: Way::No {
            why: "its kernel cannot use the drive that the loader started from (mountroot fails with error 19)",
            instead: "use an mfsBSD image, which is completely in memory, or boot it from NFS",
        },
        ..NONE
    },
];

/// All that have a way.
pub const ANSWERS: &[Answers] = &[
    // "Automating the installation using preseeding", Debian's installation guide, appendix B.2: what is asked before the network
    // is up, its host name among it, is asked with any other priority; and without an address, auto asks for one.
    Answers { families: &["debian-installer"], argument: "auto=true priority=critical url={file}" },
    Answers { families: &["anaconda", "anaconda-dvd"], argument: "inst.ks={file}" },
    // Subiquity's autoinstall by cloud-init's NoCloud: user-data and meta-data are in the folder.
    Answers {
        families: &["casper-url", "casper-iso-url", "casper", "casper-of-its-own-folder"],
        argument: "autoinstall ds=nocloud-net;s={folder}",
    },
    Answers { families: &["agama", "agama-offline"], argument: "inst.auto={file}" },
    Answers { families: &["suse"], argument: "autoyast={file}" },
    Answers { families: &["coreos", "flatcar"], argument: "ignition.config.url={file}" },
    Answers { families: &["talos"], argument: "talos.config={file}" },
    Answers { families: &["esxi", "photon"], argument: "ks={file}" },
    // archiso runs it when the system is up (README.bootparams.rst).
    Answers { families: &["arch"], argument: "script={file}" },
    Answers { families: &["xcp-ng"], argument: "answerfile={file} install" },
];

/// Systems made of Ubuntu that have versions of their own: a word of `.disk/info`, the first version, and the release of
/// casper in it.
pub const CASPER_OF: &[(&str, u32, u32)] = &[
    ("Linux Mint", 22, 1498),
    ("Linux Mint", 20, 1445),
    ("Linux Mint", 0, 1394),
    ("elementary", 8, 1498),
    ("elementary", 6, 1445),
    ("elementary", 0, 1394),
    ("Zorin", 18, 1498),
    ("Zorin", 16, 1445),
    ("Zorin", 0, 1394),
];

/// Arguments that look for the disc, or that the family's own line says: they are taken out of a menu's.
pub const DROPPED: &[&str] = &[
    "initrd=",
    "BOOT_IMAGE=",
    "root=live:",
    "inst.stage2=",
    "inst.repo=",
    "archisolabel=",
    "archisosearchuuid=",
    "archisodevice=",
    "findiso=",
    "fromiso=",
    "fetch=",
    "ip=",
    "iso-scan/",
    "live-media=",
    "cdrom-detect/",
    "file=/cdrom",
    "root=LABEL=",
    "root=CDLABEL=",
    "root=/dev/disk/",
];
