//! The servers, each as its own documentation says to run it as a proxy.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use netbootd_lab::{DNSMASQ, Host, Lab, Meter, Process, unread, wait_until_bound};

use crate::SERVER;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Server {
    Netbootd,
    Dnsmasq,
}

/// Where a server runs.
pub(crate) struct Place<'a> {
    host: &'a Host,
    loaders: PathBuf,
    config: PathBuf,
    quiet: bool,
}

impl<'a> Place<'a> {
    /// With the loaders that netbootd looks for before it offers one.
    pub(crate) fn new(lab: &Lab, host: &'a Host, quiet: bool) -> Result<Self> {
        let loaders = lab.directory().join("loaders");
        fs::create_dir(&loaders)?;
        fs::write(loaders.join("undionly.kpxe"), [0; 4096])?;
        let mut efi = vec![0; 4096];
        for (at, bytes) in [(0, b"MZ".as_slice()), (0x3c, b"\x40"), (0x40, b"PE\0\0\x64\x86")] {
            efi.get_mut(at..at + bytes.len()).context("a header")?.copy_from_slice(bytes);
        }
        fs::write(loaders.join("snponly.efi"), efi)?;
        let config = lab.directory().join("netbootd.toml");
        let folder = loaders.display();
        // As many as it can: what a flood may cost is not what is measured here.
        let settings = format!(
            "interfaces = [\"eth1\"]\nassets = \"{folder}\"\nloader_dirs = [\"{folder}\"]\n[dhcp]\nmax_rate = 1000000\n\
             [state]\nurl = \"sqlite://{}\"\n",
            lab.directory().join("state.db").display()
        );
        fs::write(&config, settings)?;
        Ok(Self { host, loaders, config, quiet })
    }
}

impl Server {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Netbootd => "netbootd",
            Self::Dnsmasq => "dnsmasq (proxy)",
        }
    }

    /// Starts it, and returns when it has port 4011.
    pub(crate) fn start(self, place: &Place<'_>) -> Result<(Process, Meter)> {
        let mut command = unread(place.host, Path::new("/dev/null"));
        command.env_remove("NETBOOTD_LOG");
        match self {
            Self::Netbootd => {
                command.arg(env::current_exe()?.with_file_name("netbootd")).args(["up", "--config"]).arg(&place.config);
                if place.quiet {
                    command.env("NETBOOTD_LOG", "warn");
                }
            }
            Self::Dnsmasq => {
                command.args([DNSMASQ, "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"]);
                command.args(["--user=root", "--pid-file", "--log-facility=-", "--interface=eth1"]);
                command.arg(format!("--dhcp-range={SERVER},proxy"));
                // iPXE's user class, so that both servers decide by the same option.
                command.arg("--dhcp-userclass=set:ipxe,iPXE");
                command.arg(format!("--dhcp-boot=tag:ipxe,http://{SERVER}:8080/boot.ipxe,,{SERVER}"));
                command.arg("--pxe-service=tag:!ipxe,x86PC,Boot,undionly");
                command.arg("--pxe-service=tag:!ipxe,X86-64_EFI,Boot,snponly.efi");
                command.arg("--enable-tftp").arg(format!("--tftp-root={}", place.loaders.display()));
                command.args(place.quiet.then_some("--quiet-dhcp"));
            }
        }
        let (process, meter) = Meter::spawn(self.name(), &mut command)?;
        wait_until_bound(place.host, 4011, &process)?;
        Ok((process, meter))
    }
}
