//! What the machine must have, named by what to install.

use std::io::{self, Write as _};
use std::path::Path;
use std::{env, fmt};

use anyhow::{Result, bail};
use nix::unistd::geteuid;

/// A program (found in `PATH`) or a file (an absolute path), and the Debian package that has it.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    /// The program's name, or the file's path.
    pub file: &'static str,
    /// What `make deps` installs for it.
    pub package: &'static str,
}

impl Tool {
    /// For lists of a test's own: `Tool::new("curl", "curl")`.
    pub const fn new(file: &'static str, package: &'static str) -> Tool {
        Tool { file, package }
    }

    fn is_there(&self) -> bool {
        if Path::new(self.file).is_absolute() {
            return Path::new(self.file).exists();
        }
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(self.file).is_file())
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (package {})", self.file, self.package)
    }
}

/// For hosts and a [`LeaseServer`](crate::LeaseServer).
pub const NETWORK_TOOLS: &[Tool] = &[Tool::new("ip", "iproute2"), Tool::new(DNSMASQ, "dnsmasq-base")];

/// Not in the `PATH` that `su` leaves to root.
pub const DNSMASQ: &str = "/usr/sbin/dnsmasq";

/// ISC's DHCP server, unpacked and not installed: its service would start.
pub const DHCPD: Tool = Tool::new("/usr/local/lib/netbootd-lab/isc-dhcp-server/usr/sbin/dhcpd", "isc-dhcp-server");
/// ISC's relay, unpacked like [`DHCPD`].
pub const DHCRELAY: Tool = Tool::new("/usr/local/lib/netbootd-lab/isc-dhcp-relay/usr/sbin/dhcrelay", "isc-dhcp-relay");

/// ISC's client, unpacked like [`DHCPD`]: installed, it would be the host's own.
pub const DHCLIENT: Tool = Tool::new("/usr/local/lib/netbootd-lab/isc-dhcp-client/sbin/dhclient", "isc-dhcp-client");

/// ISC Kea, unpacked like [`DHCPD`], and the folders of its libraries.
pub const KEA: Tool = Tool::new("/usr/local/lib/netbootd-lab/kea-dhcp4-server/usr/sbin/kea-dhcp4", "kea-dhcp4-server");
/// For `LD_LIBRARY_PATH`.
pub const KEA_LIBRARIES: &str = "/usr/local/lib/netbootd-lab/kea-common/usr/lib/x86_64-linux-gnu:\
     /usr/local/lib/netbootd-lab/liblog4cplus-2.0.5/usr/lib/x86_64-linux-gnu:\
     /usr/local/lib/netbootd-lab/libmariadb3/usr/lib/x86_64-linux-gnu:\
     /usr/local/lib/netbootd-lab/libpq5/usr/lib/x86_64-linux-gnu";

/// Checks metrics and alert rules; the server that it comes with would start.
pub const PROMTOOL: Tool = Tool::new("/usr/local/lib/netbootd-lab/prometheus/usr/bin/promtool", "prometheus");

/// cloud-init, unpacked like [`DHCPD`].
pub const CLOUD_INIT: Tool = Tool::new("/usr/local/lib/netbootd-lab/cloud-init/usr/bin/cloud-init", "cloud-init");

/// pykickstart's, which Debian does not package: `install-packages` has it from PyPI.
pub const KSVALIDATOR: Tool = Tool::new("/usr/local/lib/netbootd-lab/python/bin/ksvalidator", "pykickstart");

/// For a [`Browser`](crate::Browser).
pub const BROWSER_TOOLS: &[Tool] = &[Tool::new("chromium", "chromium")];

/// For a [`Vm`](crate::Vm) of every firmware, and for [`BootFiles`](crate::BootFiles).
pub const VM_TOOLS: &[Tool] = &[
    Tool::new("qemu-system-x86_64", "qemu-system-x86"),
    Tool::new("/usr/lib/ipxe/qemu/pxe-virtio.rom", "ipxe-qemu"),
    Tool::new("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    Tool::new("/usr/lib/ipxe/undionly.kpxe", "ipxe"),
    Tool::new("/usr/lib/ipxe/snponly.efi", "ipxe"),
    Tool::new("/usr/bin/busybox", "busybox-static"),
    Tool::new("cpio", "cpio"),
    Tool::new("xz", "xz-utils"),
];

/// For a [`Vm`](crate::Vm) with 32-bit firmware, which the demo has none of.
pub const VM_TOOLS_32_BIT: &[Tool] = &[Tool::new("/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd", "ovmf-ia32")];

/// For a [`Vm`](crate::Vm) with Secure Boot, and for [`SignedLoaders`](crate::SignedLoaders).
pub const SECURE_BOOT_TOOLS: &[Tool] = &[
    Tool::new("/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "ovmf"),
    Tool::new("sbsign", "sbsigntool"),
    Tool::new("openssl", "openssl"),
    Tool::new("/usr/local/lib/netbootd-lab/python/bin/virt-fw-vars", "virt-firmware"),
];

/// For a [`Vm`](crate::Vm) with an Arm processor, beside [`VM_TOOLS`].
pub const ARM64_TOOLS: &[Tool] = &[
    Tool::new("qemu-system-aarch64", "qemu-system-arm"),
    Tool::new("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", "qemu-efi-aarch64"),
    Tool::new("/usr/lib/u-boot/qemu_arm64/u-boot.bin", "u-boot-qemu"),
];

/// One error for all that is missing.
pub fn check(tools: &[&[Tool]]) -> Result<()> {
    if !geteuid().is_root() {
        bail!("the lab makes network namespaces: it needs root");
    }
    let missing: Vec<&Tool> = tools.iter().flat_map(|tools| tools.iter()).filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing.iter().map(ToString::to_string).collect();
    bail!("missing: {}; `make deps` installs them", list.join(", "))
}

/// A test's first line: `let Some(()) = netbootd_lab::required(&[NETWORK_TOOLS]) else { return };`. Where a tool is missing,
/// `None`, after a line that says so; in CI a panic, because a test that did not run must not look like one that passed.
pub fn required(tools: &[&[Tool]]) -> Option<()> {
    let Err(error) = check(tools) else { return Some(()) };
    assert!(env::var_os("CI").is_none(), "{error}");
    // Not `eprintln!`, which the test harness would keep to itself.
    let _ = writeln!(io::stderr(), "skipped: {error}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn make_deps_installs_every_tool() {
        let for_the_demo: Vec<&str> = include_str!("../packages-demo.txt").lines().collect();
        for tool in NETWORK_TOOLS.iter().chain(VM_TOOLS) {
            assert!(for_the_demo.contains(&tool.package), "packages-demo.txt lacks {tool}");
        }
        let for_tests: Vec<&str> = include_str!("../packages.txt").lines().collect();
        for tool in BROWSER_TOOLS.iter().chain(VM_TOOLS_32_BIT) {
            assert!(for_tests.contains(&tool.package), "packages.txt lacks {tool}");
        }
        assert!(include_str!("../pypi.txt").lines().any(|line| line.starts_with("pykickstart==")), "{KSVALIDATOR}");
        let unpacked: Vec<&str> = include_str!("../unpacked.txt").lines().collect();
        for tool in [DHCPD, DHCRELAY, KEA, CLOUD_INIT, PROMTOOL] {
            assert!(unpacked.contains(&tool.package), "unpacked.txt lacks {tool}");
        }
    }
}
