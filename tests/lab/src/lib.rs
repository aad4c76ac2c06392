//! The lab: a private network, made of namespaces, in which real firmware boots through a real netbootd.
//!
//! ```text
//!   Lab ── switch namespace: br0 ──┬── Host "dhcp"      LeaseServer: addresses only, knows nothing of PXE
//!                                  ├── Host "netbootd"  a Process: the server under test
//!                                  └── Vm               QEMU: SeaBIOS or OVMF, its console a Process too
//! ```
//!
//! Nothing of it is in the machine's own network, and every part is removed by its `Drop`, in a panicking test too.
//! `make demo`, `tests/boot` and `tests/netns` all stand on this one library.

mod boot_files;
mod browser;
mod captured;
mod console;
mod debian_kernel;
pub mod demo;
mod firmware;
mod foreign;
mod host;
mod image;
mod lab;
mod lease_server;
mod meter;
mod postgres;
mod process;
mod program;
mod relay;
mod secure_boot;
mod small_disk;
mod snippet_servers;
mod sockets;
pub mod tftp_crowd;
mod tools;
mod vm;
pub mod weather;

pub use boot_files::BootFiles;
pub use browser::Browser;
pub use captured::{Captured, Noise, Waited, mutated, storm};
pub use firmware::Firmware;
pub use host::Host;
pub use image::{fedora_image, installer_image, live_image, proxmox_image, void_image, xen_image};
pub use lab::{Lab, remove_labs_of_this_process};
pub use lease_server::LeaseServer;
pub use meter::{
    Meter, beside, median, peak_megabytes, pin_to_first_cpu, quantile, resident_megabytes, unread, wait_until_bound,
};
pub use nix::sys::signal::Signal;
pub use postgres::Postgres;
pub use process::{Lines, Process};
pub use program::{GRUB_2_06_SBAT, IPXE_SBAT, SHIM_SBAT, efi_program};
pub use relay::Relay;
pub use secure_boot::SignedLoaders;
pub use small_disk::SmallDisk;
pub use snippet_servers::SnippetServer;
pub use sockets::{receive, uninterrupted};
pub use tools::{
    ARM64_TOOLS, BROWSER_TOOLS, CLOUD_INIT, DHCLIENT, DHCPD, DHCRELAY, DNSMASQ, KEA, KEA_LIBRARIES, KSVALIDATOR,
    NETWORK_TOOLS, PROMTOOL, SECURE_BOOT_TOOLS, Tool, VM_TOOLS, VM_TOOLS_32_BIT, check, required,
};
pub use vm::{LastWords, Vm};
